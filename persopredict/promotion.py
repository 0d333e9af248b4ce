"""Champion and challenger: who serves, decided on cutoffs that neither has learned from (law 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persopredict.comparison import Paired, decide, paired_log_loss
from persopredict.events import EventLog
from persopredict.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger takes over, why, and the paired log-loss (challenger minus champion), None where nothing could be compared."""

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
    same = champion.recipe_ == challenger.recipe_
    folds = {fold.cutoff: fold for fold in challenger.folds_ if fold.cutoff >= champion.trained_until_}
    ys, ours, theirs, ids = [], [], [], []
    for served in champion.test(events, sorted(folds)):
        fold = folds[served.cutoff]
        _, here, there = np.intersect1d(fold.customer_id.astype(str), served.customer_id.astype(str), return_indices=True)
        ys.append(fold.y[here])
        ours.append(fold.probability[here])
        theirs.append(served.probability[there])
        ids.append(fold.customer_id[here])
    if not ys:
        promoted, reason = decide(float("nan"), (float("nan"), float("nan")), same)
        return Verdict(promoted, reason)
    paired = paired_log_loss(np.concatenate(ys), np.concatenate(ours), np.concatenate(theirs), np.concatenate(ids))
    promoted, reason = decide(paired.difference, paired.interval, same)
    return Verdict(promoted, reason, paired)
