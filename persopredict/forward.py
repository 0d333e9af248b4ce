"""Looking forward: which cutoffs teach and which test, and how tests choose a calibration (law 5). The same for every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from numpy.typing import NDArray

from persopredict.calibration import KINDS, Choice, Kind, choose, choose_at
from persopredict.errors import Problem, TooLittleDataError
from persopredict.events import EventLog, Moment
from persopredict.features.builders import windows_within
from persopredict.features.spec import Feature
from persopredict.snapshots import rolling_cutoffs
from persopredict.targets import Target
from persopredict.times import Duration, instant, local, local_midnight
from persopredict.validation import ForwardSplit

FOLDS = 5
_MOST_CUTOFFS = 26
_LONGEST_HISTORY = Duration(days=91)

#: Logits and labels of the test at a place, as they are known today (None) or were known at a later test.
Scores = Callable[[int, int | None], tuple[Any, NDArray[Any]]]


def embargo(target: Target) -> Duration:
    """From a cutoff to the end of its label."""
    return Duration(target.gap.days + target.horizon.days, target.gap.hours + target.horizon.hours)


def observed_end(events: EventLog, target: Target, until: datetime | None = None) -> datetime:
    """Until when labels can be trusted: `until`, or the last midnight (hour, if the target counts hours) observed before it.

    Cutoffs derive from it. Were it the instant of the last event, every boundary would lie at an odd microsecond.
    """
    end = events.observed_for(target)[1]
    if until is not None and end >= until:
        return until
    return end.replace(minute=0, second=0, microsecond=0) if embargo(target).hours else local_midnight(end, events.zone)


def matured_cutoffs(events: EventLog, target: Target, given: Sequence[Moment] | None, until: datetime) -> list[datetime]:
    """The training and test cutoffs: those given, or one every half horizon; their labels have ended by `until` and what was observed.

    Raises `TooLittleDataError` (``log_too_short``) if there are not two: one to train on, one to test on.
    """
    start, end, needed = events.observed_for(target)[0], observed_end(events, target, until), embargo(target)
    if given is None:
        third = (end - start - needed.approximate) / 3
        cutoffs = rolling_cutoffs(
            events,
            # Half horizons taught more than whole ones, though their labels overlap.
            every=Duration(days=max(1, min(28, target.horizon.approximate.days // 2))),
            horizon=target.horizon,
            gap=target.gap,
            until=end,
            since=start + min(_LONGEST_HISTORY.approximate, max(third, timedelta(0))),
            limit=_MOST_CUTOFFS,
        )
    else:
        moments = sorted({instant(cutoff, events.zone) for cutoff in given})
        cutoffs = [cutoff for cutoff in moments if needed.after(cutoff, events.zone) <= end and cutoff >= start]
    if len(cutoffs) < 2:
        by = local(end, events.timezone)
        text = f"{len(cutoffs)} cutoffs have labels that ended by {by}, 2 are the least (one to train on, one to test on)"
        remedy = f"give events of more than twice {needed} before `until`, or shorten the horizon"
        if given is not None:
            remedy = f"give cutoffs from {local(start, events.timezone)} on that lie {needed} and more before {by}"
        raise too_little(target, [Problem("log_too_short", text, count=len(cutoffs), remedy=remedy)])
    return cutoffs


def within_history(
    events: EventLog, target: Target, asked: Sequence[Feature], first: datetime
) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """The features to compute, and those whose window reaches back before the log at the first cutoff."""
    history = first - events.observed_for(target)[0]
    kept, dropped = windows_within(asked, Duration(hours=int(history / timedelta(hours=1)) + 1))
    if not kept:
        remedy = "shorten the windows, leave them out for all time, or give a longer log"
        text = f"every feature's window is longer than the history at the first cutoff, {local(first, events.timezone)}"
        raise too_little(target, [Problem("no_feature", text, count=len(dropped), remedy=remedy)])
    return tuple(kept), tuple(dropped)


def splitter(events: EventLog, target: Target) -> ForwardSplit:
    """Which cutoffs may teach which test."""
    return ForwardSplit(FOLDS, embargo=embargo(target), timezone=events.timezone)


def tested_cutoffs(events: EventLog, target: Target, cutoffs: Sequence[datetime], most: int) -> list[datetime]:
    """The last `most` test cutoffs, a horizon apart: overlapping labels would count the same events twice and pretend more evidence."""
    chosen: list[datetime] = []
    split = splitter(events, target)
    for cutoff in reversed(cutoffs):
        apart = not chosen or target.horizon.before(chosen[-1], events.zone) >= cutoff
        if apart and len(chosen) < most and split.trains(cutoff, cutoffs):
            chosen.append(cutoff)
    return chosen[::-1]


def calibrated(
    cutoffs: Sequence[datetime], scores: Scores, split: ForwardSplit, calibration: Literal["auto"] | Kind
) -> tuple[list[Choice], Choice]:
    """For each test what the tests before it had taught at its cutoff; and the calibration of all, which is shipped."""

    def usable(number: int) -> list[int]:
        earlier = set(split.trains(cutoffs[number], cutoffs[:number]))
        return [place for place in range(number) if cutoffs[place] in earlier]

    def known_at(number: int) -> list[tuple[Any, NDArray[Any]]]:
        held = usable(number)
        return [scores(place, number if place in held else None) for place in range(number + 1)]

    kinds: tuple[Kind, ...] = KINDS if calibration == "auto" else (calibration,)
    forward = [choose_at(number, known_at(number), kinds, usable) for number in range(len(cutoffs))]
    return forward, choose([scores(place, None) for place in range(len(cutoffs))], kinds, usable)


def too_little(target: Target, problems: Sequence[Problem]) -> TooLittleDataError:
    """That a target can't be trained."""
    return TooLittleDataError(f"{target.name} can't be trained", problems)
