"""For whom a target is asked, and what came out: eligibility at each cutoff and labels after it, as SQL steps.

Eligibility uses what was known before the cutoff, like a feature. A label reads ``[cutoff + gap, cutoff + gap + horizon)`` and only what
was known before `until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlglot import exp

from persopredict import conditions
from persopredict.engines.base import Step
from persopredict.engines.expressions import both, case, cast_to, col, every, func, lit, select, table, where
from persopredict.features.plan import CUTOFFS, EVENTS, KEYS, SPINE, Grid, Log, Measure, Rollup, bound
from persopredict.targets import Cancellation, Conversion, Target

Reason = Literal["not_in_cohort", "already_converted", "not_active"]


def status_column(number: int) -> str:
    """The column of `population` that says why target `number` is not asked; null where it is."""
    return f"status_{number}"


def label_bounds(number: int) -> tuple[str, str]:
    """The columns of `cutoffs` that hold where the label of target `number` starts and ends; null where it has not matured."""
    return f"label_from_{number}", f"label_until_{number}"


def population(targets: Sequence[Target], grid: Grid, log: Log) -> list[Step]:
    """Every customer that a cutoff knows, with the reason why each target is not asked: the table ``population``.

    The first that holds of: not_in_cohort, already_converted, not_active.
    """
    rollup = Rollup(log)
    rollup.ask(Measure("last"), None)
    reasons = {status_column(number): _reason(target, rollup) for number, target in enumerate(targets)}
    steps = rollup.steps(grid, source="activity", result="lately", spine=False)
    same = exp.EQ(this=col("cutoff_us", "bounds"), expression=col("cutoff_us", "lately"))
    query = select({**{key: col(key, "lately") for key in KEYS}, **reasons}, table("lately")).join(table(CUTOFFS, "bounds"), on=same)
    return [*steps, Step("population", query)]


def _reason(target: Target, rollup: Rollup) -> exp.Expression:
    def missing(last: exp.Expression) -> exp.Expression:
        return exp.Is(this=last, expression=exp.null())

    branches: list[tuple[exp.Expression, exp.Expression]] = []

    def because(reason: Reason, condition: exp.Expression) -> None:
        branches.append((condition, lit(reason)))

    if target.cohort is not None:
        because("not_in_cohort", missing(rollup.ask(Measure("last", where=target.cohort), None)))
    if isinstance(target, Conversion) and target.once:
        because("already_converted", exp.Not(this=missing(rollup.ask(Measure("last", where=target.outcome), None))))
    if isinstance(target, Cancellation):
        start = conditions.event_is(target.start_names) if target.start_names else None
        started = rollup.ask(Measure("last", where=start), None)
        ended = rollup.ask(Measure("last", where=_ends(target)), None)
        because("not_active", missing(started))
        if target.start_names:
            # An end and a new start at the same instant is a renewal: the contract runs on.
            because("not_active", exp.GT(this=ended, expression=started.copy()))
        else:
            because("not_active", exp.Not(this=missing(ended)))
    if target.active_within is not None or target.activity is not None:
        last = rollup.ask(Measure("last", where=target.activity), None)
        because("not_active", missing(last))
        if target.active_within is not None:
            because("not_active", exp.LT(this=last.copy(), expression=col(bound(target.active_within), "bounds")))
    return cast_to(case(branches), "VARCHAR")


def _ends(target: Cancellation) -> str:
    competing = conditions.event_is(target.competing) if target.competing else None
    if competing is None:
        return target.outcome
    return exp.or_(conditions.parse(target.outcome), conditions.parse(competing)).sql(dialect="duckdb")


def spine_of_eligible(targets: Sequence[Target]) -> Step:
    """The spine of customers and cutoffs for which at least one target is asked; of all that are known if there are no targets."""
    asked = [exp.Is(this=col(status_column(number)), expression=exp.null()) for number in range(len(targets))]
    query = select({key: col(key) for key in KEYS}, "population")
    return Step(SPINE, query.where(exp.or_(*asked)) if asked else query)


def labels(targets: Sequence[Target], *, until_us: int | None) -> Step:
    """Per spine row and target, 1 or 0; null where not matured, or (cancellation) ended within the gap: the table ``labels``."""
    read = sorted({name for target in targets for name in target.reads})
    known = func("COALESCE", col("known_us"), col("event_us"))
    only = both(
        [
            conditions.parse(conditions.event_is(read)),
            None if until_us is None else exp.LT(this=func("GREATEST", col("event_us"), known), expression=lit(until_us)),
        ]
    )
    later = exp.select(exp.Star()).from_(table(EVENTS)).where(only).subquery("later")
    columns = {f"label_{number}": _label(number, target) for number, target in enumerate(targets)}
    keys = {key: col(key, SPINE) for key in KEYS}
    same_cutoff = exp.EQ(this=col("cutoff_us", "bounds"), expression=col("cutoff_us", SPINE))
    last = func("GREATEST", *(col(label_bounds(number)[1], "bounds") for number in range(len(targets))))
    after = every(
        exp.EQ(this=col("customer_id", "later"), expression=col("customer_id", SPINE)),
        exp.GTE(this=col("event_us", "later"), expression=col("cutoff_us", SPINE)),
        exp.LT(this=col("event_us", "later"), expression=last),
    )
    query = select({**keys, **columns}, SPINE).join(table(CUTOFFS, "bounds"), on=same_cutoff).join(later, on=after, join_type="left")

    return Step("labels", query.group_by(*(column.copy() for column in keys.values())))


def _label(number: int, target: Target) -> exp.Expression:
    start, end = (col(name, "bounds") for name in label_bounds(number))
    time = col("event_us", "later")
    inside = every(exp.GTE(this=time, expression=start), exp.LT(this=time.copy(), expression=end))

    def first(condition: str, when: exp.Expression) -> exp.Expression:
        return where(func("MIN", time.copy()), both([conditions.parse(condition), when.copy()]))

    yes = first(target.outcome, inside)
    matured: exp.Expression = exp.Not(this=exp.Is(this=func("MIN", end.copy()), expression=exp.null()))
    happened: exp.Expression = exp.Not(this=exp.Is(this=yes, expression=exp.null()))
    if target.type == "churn":
        happened = exp.Not(this=happened)
    if isinstance(target, Cancellation):
        if target.competing:
            competing = first(conditions.event_is(target.competing), inside)
            happened = every(happened, func("COALESCE", exp.LTE(this=yes.copy(), expression=competing), exp.true()))
        ended = first(_ends(target), exp.LT(this=time.copy(), expression=start.copy()))
        matured = every(matured, exp.Is(this=ended, expression=exp.null()))
    return case([(matured, case([(happened, lit(1))], lit(0)))])
