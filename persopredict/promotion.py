"""Champion and challenger: who serves, decided on cutoffs that neither has learned from (law 5)."""

from __future__ import annotations

from dataclasses import dataclass

from persopredict.comparison import Paired, decide
from persopredict.events import EventLog
from persopredict.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger takes over, why, and the paired difference in the target's measure (challenger minus champion), None where
    nothing could be compared.
    """

    promoted: bool
    reason: str
    paired: Paired | None = None


def judge(champion: Predictor | None, challenger: Predictor, events: EventLog) -> Verdict:
    """Compare a freshly fitted challenger with the champion as it is served.

    The cutoffs are the challenger's test cutoffs that are not before the champion's `trained_until`: there the champion has seen nothing,
    and the challenger's fold model is its recipe refitted up to each. Without a champion the challenger takes over; without such cutoffs
    it does so only with the champion's own recipe. A challenger that knows less of the log than the champion never does.

    `champion` : as it is served, None if there is none; `challenger` : just fitted on `events`, its test predictions (`folds_`) at hand.
    """
    if champion is None:
        return Verdict(True, "first model of this target")
    if challenger.trained_until_ < champion.trained_until_:
        known = [f"{predictor.trained_until_:%Y-%m-%d}" for predictor in (challenger, champion)]
        return Verdict(False, f"trained until {known[0]}, it knows less than the champion, trained until {known[1]}")
    folds = [fold for fold in challenger.folds_ if fold.cutoff >= champion.trained_until_]
    paired = challenger.compare(folds, champion.test(events, [fold.cutoff for fold in folds]))
    same = champion.recipe_ == challenger.recipe_
    promoted, reason = decide(paired.difference, paired.interval, same, measure=challenger.measure)
    return Verdict(promoted, reason, paired if paired.rows else None)
