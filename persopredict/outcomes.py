"""For whom a target is asked, and what came out: eligibility at each cutoff and labels after it.

Eligibility uses what was known before the cutoff, like a feature, and is made of the same needs. A label reads
``[cutoff + gap, cutoff + gap + horizon)`` and only what was known before `until`: the first time of what it looks for, from one SQL step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlglot import exp

from persopredict import conditions
from persopredict.engines.base import Step
from persopredict.engines.expressions import both, col, every, func, lit, where
from persopredict.features.measures import LEAST, Integers, Measure, Need
from persopredict.features.plan import GROUP, CellQueries
from persopredict.targets import Cancellation, Conversion, Target

Reason = Literal["no_history", "not_in_cohort", "already_converted", "not_active"]
#: The codes of `reasons`, from 1 on; 0 is "asked".
REASONS: tuple[Reason, ...] = ("no_history", "not_in_cohort", "already_converted", "not_active")
#: The need whose presence says that a cutoff knows the customer at all.
KNOWN = Need(Measure("last_us"), None)

Span = tuple[int, int] | None
_Instants = Callable[[Need], Integers]


def _last(condition: str | None) -> Need:
    return Need(Measure("last_us", where=condition), None)


def _first(condition: str | None) -> Need:
    return Need(Measure("first_us", where=condition), None)


def eligibility_needs(targets: Sequence[Target]) -> list[Need]:
    """What eligibility for the targets needs."""
    found = [KNOWN]
    for target in targets:
        found += [] if target.cohort is None else [_last(target.cohort)]
        found += [_last(target.outcome)] if isinstance(target, Conversion) and target.once else []
        if isinstance(target, Cancellation):
            found += [_last(_starts(target)), _last(_ends(target))]
            found += [_first(_starts(target))] if target.start_names else []
        if target.active_within is not None or target.activity is not None:
            found += [_activity(target)]
    return list(dict.fromkeys(found))


def reasons(target: Target, found: _Instants) -> npt.NDArray[np.int8]:
    """Why the target is not asked: 0 where it is, else the place of the first of `REASONS` that holds, from 1."""

    def missing(need: Need) -> npt.NDArray[np.bool_]:
        return np.asarray(found(need) == LEAST)

    code = np.zeros(found(KNOWN).shape, np.int8)

    def because(reason: Reason, holds: npt.NDArray[np.bool_]) -> None:
        code[(code == 0) & holds] = REASONS.index(reason) + 1

    because("no_history", missing(KNOWN))
    if target.cohort is not None:
        because("not_in_cohort", missing(_last(target.cohort)))
    if isinstance(target, Conversion) and target.once:
        because("already_converted", ~missing(_last(target.outcome)))
    if isinstance(target, Cancellation):
        started, ended = _last(_starts(target)), _last(_ends(target))
        because("not_active", missing(started))
        if target.start_names:
            # An end and a new start at the same instant is a renewal: the contract runs on. The first start has nothing to renew: what
            # ends in its own instant (a date without hours) has ended.
            ends_first = (found(ended) == found(started)) & (found(_first(_starts(target))) == found(started))
            because("not_active", (found(ended) > found(started)) | ends_first)
        else:
            because("not_active", ~missing(ended))
    if target.active_within is not None or target.activity is not None:
        because("not_active", missing(_activity(target)))
    return code


def _activity(target: Target) -> Need:
    return Need(Measure("last_us", where=target.activity), target.active_within)


def _starts(target: Cancellation) -> str | None:
    return conditions.event_is(target.start_names) if target.start_names else None


def _ends(target: Cancellation) -> str:
    competing = conditions.event_is(target.competing) if target.competing else None
    if competing is None:
        return target.outcome
    return exp.or_(conditions.parse(target.outcome), conditions.parse(competing)).sql(dialect="duckdb")


# Labels -------------------------------------------------------------------------------------------------------------------------------


def label_columns(targets: Sequence[Target]) -> tuple[str, ...]:
    """The columns of the log that labels read."""
    texts = [text for target in targets for text in (target.outcome, *([_ends(target)] if isinstance(target, Cancellation) else []))]
    return tuple(dict.fromkeys(name for text in texts for name in sorted(conditions.columns(text))))


def bounds(number: int) -> tuple[str, str]:
    """The columns of a spine's rows that hold where the label of target `number` starts and ends; null where it has not matured."""
    return f"label_{number} from", f"label_{number} until"


def labels_step(targets: Sequence[Target], queries: CellQueries, spans: Mapping[tuple[int, int], Span], until_us: int | None) -> Step:
    """When each label's events first came, per group: columns ``<target>_<cutoff>_<what>``.

    `spans` gives the label's start and end by (target, cutoff) where all groups share the cutoffs; where each has its own, they are in
    the table of rows.
    """
    read = label_columns(targets)
    before = None if until_us is None else exp.LT(this=func("GREATEST", col("event_us"), col("known_us")), expression=lit(until_us))
    names = sorted({name for target in targets for name in target.reads})
    rows = () if queries.shared else tuple(name for number in range(len(targets)) for name in bounds(number))
    later = queries.events([*read, "event"], seen=False, rows=rows).subquery("later")
    values: dict[str, exp.Expression] = {}
    for number, target in enumerate(targets):
        for cutoff in range(queries.cutoffs):
            if queries.shared is None:
                sides: tuple[exp.Expression, ...] = tuple(col(name) for name in bounds(number))
                cut: exp.Expression = col("cutoff_us")
            else:
                span = spans[number, cutoff]
                if span is None:
                    continue
                sides, cut = (lit(span[0]), lit(span[1])), lit(queries.cutoff_us(cutoff))
            values |= {f"{number}_{cutoff}_{what}": value for what, value in _firsts(target, sides[0], sides[1], cut).items()}
    query = exp.select(exp.alias_(col(GROUP), exp.to_identifier(GROUP, quoted=True)), copy=False)
    query = query.select(*(exp.alias_(value, exp.to_identifier(name, quoted=True)) for name, value in values.items()), copy=False)
    query = query.from_(later).where(both([conditions.parse(conditions.event_is(names)), before]), copy=False)
    return Step("labels", query.group_by(col(GROUP), copy=False))


def _firsts(target: Target, start: exp.Expression, end: exp.Expression, cut: exp.Expression) -> dict[str, exp.Expression]:
    time = col("event_us")
    inside = every(exp.GTE(this=time, expression=start), exp.LT(this=time.copy(), expression=end))

    def first(condition: str, when: exp.Expression) -> exp.Expression:
        return where(func("MIN", time.copy()), both([conditions.parse(condition), when.copy()]))

    found = {"yes": first(target.outcome, inside)}
    if isinstance(target, Cancellation):
        gap = every(exp.GTE(this=time.copy(), expression=cut), exp.LT(this=time.copy(), expression=start.copy()))
        found["ended"] = first(_ends(target), gap)
        if target.competing:
            found["competing"] = first(conditions.event_is(target.competing), inside)
    return found


def label(target: Target, matured: npt.NDArray[np.bool_], found: Callable[[str], Integers]) -> npt.NDArray[np.float64]:
    """1, 0, or NaN where not matured, or where (cancellation) the contract ended within the gap; `found`: first times, `MOST` if none."""
    most = np.iinfo(np.int64).max
    happened = found("yes") != most
    if target.type == "churn":
        happened = ~happened
    if isinstance(target, Cancellation):
        if target.competing:
            happened &= found("yes") <= found("competing")
        matured = matured & (found("ended") == most)
    value: Any = np.where(matured, happened.astype(np.float64), np.nan)
    return np.asarray(value, np.float64)
