"""Suspected leakage in the log: events that only ever follow the outcome, columns of customers filled in once it was known.

Features look strictly before their cutoff, but a log can lie about times: a reason for leaving stands in the customer's record as if it had
always been there, a letter of thanks is booked on the day of the order. As in `suspicion`, nothing is left out by itself, and what chance
could explain stays unsaid. The engine answers with counts: neither customers nor contents leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count as counter

import numpy as np
from sqlglot import exp

from persopredict import conditions
from persopredict.engines.base import Step
from persopredict.engines.expressions import (
    MICROSECONDS_PER_HOUR,
    case,
    col,
    count,
    every,
    func,
    lit,
    microseconds,
    moment,
    select,
    some,
    table,
    where,
)
from persopredict.errors import Problem
from persopredict.events import EventLog
from persopredict.lookups import JoinedLookup
from persopredict.sources import CUSTOMER, is_blank
from persopredict.suspicion import NEARLY, WITHIN, Floats, in_any_order, surely
from persopredict.targets import Cancellation, Target
from persopredict.usability import MIN_POSITIVES

#: What "nearly nobody" is: a share of those concerned, and of those whom chance would lead to expect, who are at least so many.
_NEARLY_NONE, _OF_EXPECTED, _LEAST_EXPECTED = 0.05, 0.1, 10
#: So many first outcomes are enough; a text with more values than this says who rather than what.
_ENOUGH, _FEW_VALUES = 2 * MIN_POSITIVES, 20
#: A column that differs within fewer customers than this share belongs to customers, not to events.
_CHANGING = 0.02
_LABELS = ("yes", "no")
_SIDES = {"least": "MIN", "most": "MAX"}
_NUMBERS = counter()


def only_after(events: EventLog, target: Target, until: datetime) -> list[Problem]:
    """Events that (nearly) nobody has before the outcome, while many have them after it: a refund, a letter of thanks.

    Parameters
    ----------
    events : the log.
    target : whose outcome. It is the first of its events; for churn, the first time that a horizon has passed without any: a farewell
        questionnaire comes after that, and hardly anybody who has it returns (who is reminded may, so a reminder is not meant).
    until : only what was known before it.

    Returns
    -------
    list of Problem ``event_only_after_outcome``, most customers first. Said where at least 25 customers have the event, at most 5% of them
    before the outcome or without any, and chance would lead to expect at least 10, ten times as many: each customer having it at any
    moment between the first event of all and the last. Where customers begin with the outcome nothing could come before, and nothing is
    said. Events whose times are dates come before the outcome only if they do on an earlier day.

    Raises `SpecificationError` if the log never holds the target's event.
    """
    end_us = _end(events, target, until)
    churn = target.type == "churn"
    outcomes = _absences(events, target, end_us) if churn else _firsts(events, target.outcome, end_us)
    with _kept(events, "seen", _seen(events, end_us)) as seen, _kept(events, "outcomes", outcomes) as first:
        columns = _order_of_events(first, seen, end_us, int(target.horizon.approximate.total_seconds()) * 1_000_000)
        sides = {"born_us": func("MIN", col("first_us")), "end_us": func("MAX", col("last_us"))}
        lives = select({CUSTOMER: col(CUSTOMER), **sides}, seen).group_by(col(CUSTOMER)).subquery("lives")
        query = select({"event": col("event", seen), **columns}, seen)
        query = query.join(lives, on=_same(seen, "lives")).join(table(first), on=_same(seen, first), join_type="left")
        query = query.where(exp.Not(this=exp.In(this=col("event", seen), expressions=[lit(name) for name in sorted(target.reads)])))
        query = query.group_by(col("event", seen)).having(exp.GTE(this=count(), expression=lit(MIN_POSITIVES)))
        rows = events.engine.rows(Step("only_after", query.order_by(exp.Ordered(this=count(), desc=True), col("event", seen))))
    found = [_Order(*(int(number or 0) for number in numbers)).problem(event, target) for event, *numbers in rows]
    return [problem for problem in found if problem is not None]


@dataclass(frozen=True)
class _Order:
    """How many customers have an event, and when; `expected` in thousandths, `undated` unless its times are dates."""

    customers: int
    before: int
    on_earlier_day: int
    expected: int
    undated: int
    watched: int
    returned: int
    gone: int
    back: int

    def problem(self, event: str, target: Target) -> Problem | None:
        before, expected = self.before if self.undated else self.on_earlier_day, self.expected / 1000
        if not _nearly_none(before, self.customers, expected):
            return None
        what = "first " + " or ".join(target.event_names)
        if target.type == "churn":
            # Those who have it, had they returned like all who were gone for a horizon.
            if not _nearly_none(self.returned, self.watched, self.watched * self.back / max(self.gone, 1)):
                return None
            what = f"first {target.horizon} without {' or '.join(target.event_names)}"
        text = f"{event!r} appears only after the outcome: of {self.customers:,} customers who have it {before:,} had it before their "
        text += f"{what} or without one, where chance would have it for {expected:,.0f}"
        remedy = f"if it is written back in time, give the log known_at; else leave it out with features= (those of {event!r})"
        return Problem("event_only_after_outcome", text, "warning", self.customers, remedy=remedy, source=event)


def _nearly_none(found: int, of: int, expected: float) -> bool:
    return of > 0 and expected >= _LEAST_EXPECTED and found <= min(_NEARLY_NONE * of, _OF_EXPECTED * expected)


def _order_of_events(first: str, seen: str, end_us: int, horizon_us: int) -> dict[str, exp.Expression]:
    """The numbers of an `_Order`, over rows of customers and events."""
    none, at, had = exp.Is(this=col("at_us", first), expression=exp.null()), col("at_us", first), col("first_us", seen)
    before = some(none, exp.LT(this=had, expression=at))
    earlier = some(none.copy(), exp.LT(this=col("first_day", seen), expression=col("at_day", first)))
    # Whole thousandths, so that the sum does not depend on the order of the threads.
    born = col("born_us", "lives")
    alive = func("GREATEST", exp.paren(col("end_us", "lives") - born), lit(1))
    lived = exp.IntDiv(this=lit(1000) * exp.paren(at.copy() - born.copy()), expression=alive)
    share = func("LEAST", func("COALESCE", lived, lit(0)), lit(1000))
    watched = exp.LT(this=had.copy(), expression=lit(end_us - horizon_us))
    returned = every(watched.copy(), exp.GT(this=col("last_us", first), expression=had.copy()))
    total = {"gone": count(), "back": count(exp.GT(this=col("last_us"), expression=col("at_us")))}
    return {
        "customers": count(),
        "before": count(before),
        "on_earlier_day": count(earlier),
        "expected": func("SUM", share),
        "undated": func("MAX", col("undated", seen)),
        "watched": count(watched),
        "returned": count(returned),
        **{name: select({name: number}, first).subquery() for name, number in total.items()},
    }


def _seen(events: EventLog, end_us: int) -> exp.Select:
    """When each customer first had each event, and whether any was at another time than midnight."""
    quarter = exp.Mod(this=col("event_us"), expression=lit(MICROSECONDS_PER_HOUR // 4))
    dated = every(exp.EQ(this=col("hour"), expression=lit(0)), exp.EQ(this=exp.paren(quarter), expression=lit(0)))
    keys = {CUSTOMER: col(CUSTOMER), "event": col("event")}
    numbers = {
        "first_us": func("MIN", col("event_us")),
        "last_us": func("MAX", col("event_us")),
        "first_day": func("MIN", col("day")),
        "undated": func("MAX", case([(dated, lit(0))], lit(1))),
    }
    return select({**keys, **numbers}, events.table).where(_known(events, end_us)).group_by(*(key.copy() for key in keys.values()))


def _firsts(events: EventLog, condition: str, end_us: int) -> exp.Select:
    """When each customer first and last did what a condition says."""
    numbers = {"at_us": ("MIN", "event_us"), "at_day": ("MIN", "day"), "last_us": ("MAX", "event_us")}
    columns = {name: func(aggregate, col(column)) for name, (aggregate, column) in numbers.items()}
    done = _done(events, condition, end_us).subquery("done")
    return select({CUSTOMER: col(CUSTOMER), **columns}, done).group_by(col(CUSTOMER))


def _absences(events: EventLog, target: Target, end_us: int) -> exp.Select:
    """When each customer had first stayed away for a horizon, and when the last visit was; nobody who never did."""
    order = exp.Order(expressions=[exp.Ordered(this=col("event_us"))])
    following = exp.Window(this=func("LEAD", col("event_us")), partition_by=[col(CUSTOMER)], order=order)
    visits = _done(events, target.outcome, end_us).distinct().subquery("visits")
    gaps = select({**{name: col(name) for name in (CUSTOMER, "event_us", "day")}, "next_us": following}, visits).subquery("gaps")
    length = target.horizon
    passed = col("event_us") + lit(int(length.approximate.total_seconds()) * 1_000_000)
    away = exp.LTE(this=passed, expression=func("COALESCE", col("next_us"), lit(end_us)))
    columns = {
        "at_us": where(func("MIN", passed.copy()), away),
        "at_day": where(func("MIN", col("day") + lit(length.days + length.hours // 24)), away.copy()),
        "last_us": func("MAX", col("event_us")),
    }
    query = select({CUSTOMER: col(CUSTOMER), **columns}, gaps).group_by(col(CUSTOMER))
    return query.having(exp.GT(this=count(away.copy()), expression=lit(0)))


def filled_afterwards(events: EventLog, target: Target, until: datetime) -> list[Problem]:
    """Columns of customers that look as if they were filled in once the outcome was known: a reason for leaving, a last status.

    Looked at are the facts of lookups by customer that don't say since when they hold, and the log's dimensions that are the same in all
    rows of a customer, there in rows before the outcome only. Compared are customers whose first outcome came in the last third of the
    log (two thirds, or all of it, if these are fewer than 50) with those who have none: who had it before could have been filled in
    rightly. For churn: those who then stayed away with those who came, at the last cutoff whose label has ended.

    Parameters
    ----------
    events : the log.
    target : whose outcome; a competing end is neither.
    until : outcomes count only if they were known before it. Facts without times are what they are.

    Returns
    -------
    list of Problem ``column_filled_afterwards``, by column. Said where another value than the commonest of those without the outcome
    (null, mostly) is held by at least 25 customers and (nearly) all of them have the outcome, ten times fewer not than chance would
    have it; or where the values tell the outcome at an AUC of 0.98 (see `nearly_the_label`; texts of at most 20 values); or where nearly
    all with the outcome hold another value and few others do, as if those were filled in for an outcome after `until`.

    Raises `SpecificationError` if the log never holds the target's event.
    """
    end_us = _end(events, target, until)
    compared = _eligible(events, target, end_us) if target.type == "churn" else _newly(events, target, end_us)
    facts = [each for each in events.lookups if each.key == "customer_id" and not each.versioned]
    taken = {name for each in events.lookups for name in each.columns}
    own = [name for name in events.dimensions if name not in taken]
    found: dict[str, tuple[_Values, str]] = {}
    with _kept(events, "compared", compared) as customers:
        for each in facts:
            for name in each.columns:
                found[name] = _values(events, _facts_of(events, customers, each, name), name), f"of the lookup {each.name}"
        if own:
            with _kept(events, "held", _held(events, customers, own, end_us)) as held:
                for name in _constant_for_customers(events, held, own):
                    values = select({"outcome": col("outcome"), "value": col(f"{name} least")}, held)
                    found[name] = _values(events, values, name), "in events before the outcome"
    problems = [values.problem(name, place, target) for name, (values, place) in sorted(found.items())]
    return [problem for problem in problems if problem is not None]


@dataclass(frozen=True)
class _Values:
    """Of customers with and without the outcome (`yes`, `no`): how many don't hold the commonest value, and the AUC of the values."""

    yes: int
    no: int
    other_yes: int
    other_no: int
    reached: float

    def problem(self, name: str, place: str, target: Target) -> Problem | None:
        others, everybody = self.other_yes + self.other_no, self.yes + self.no
        if min(self.yes, self.no) < MIN_POSITIVES:
            return None
        only = others >= MIN_POSITIVES and _nearly_none(self.other_no, others, others * self.no / everybody)
        # What is filled in for outcomes after `until` too is found with customers who seem to have none.
        complete = self.other_yes >= 0.95 * self.yes and self.other_no <= min(0.25 * others, 0.15 * self.no)
        separate = self.reached >= NEARLY and surely(self.reached, self.yes, self.no) >= NEARLY - WITHIN
        if not (only or complete or separate):
            return None
        outcome = f"{'no ' if target.type == 'churn' else ''}{' or '.join(target.event_names)}"
        text = (
            f"{name} {place} looks filled in afterwards: {self.other_yes:,} of {self.yes:,} customers whose outcome ({outcome}) came later "
        )
        text += f"hold something else than most others, {self.other_no:,} of {self.no:,} without it do"
        text += f"; its values alone reach an AUC of {self.reached:.3f}" if separate else ""
        remedy = f"leave {name} out with features=, or give it valid_from or known_at, as a column of a lookup"
        return Problem("column_filled_afterwards", text, "warning", others, remedy=remedy, source=name)


# What both ask for --------------------------------------------------------------------------------------------------------------------


def _end(events: EventLog, target: Target, until: datetime) -> int:
    return min(microseconds(until), microseconds(events.observed_for(target)[1]))


def _known(events: EventLog, end_us: int) -> exp.Expression:
    """That a row had happened and was known before the end."""
    happened = col("event_us", events.table)
    known = func("GREATEST", happened, func("COALESCE", col("known_us", events.table), happened.copy())) if events.late else happened
    return exp.LT(this=known, expression=lit(end_us))


def _done(events: EventLog, condition: str, end_us: int) -> exp.Select:
    """The events that a condition says, with the facts that it reads as they stood then."""
    log = events.table
    query = select({name: col(name, log) for name in (CUSTOMER, "event_us", "day")}, log)
    read = conditions.columns(condition)
    for lookup in events.lookups:
        if read.intersection(lookup.columns):
            query = query.join(table(lookup.table), on=every(lookup.matches(log), lookup.in_force(col("event_us", log))), join_type="left")
    return query.where(every(conditions.parse(condition), _known(events, end_us)))


@contextmanager
def _kept(events: EventLog, name: str, query: exp.Select) -> Iterator[str]:
    """The query's result as a table of the engine, for as long as it is needed."""
    step = Step(f"{name}_{next(_NUMBERS)}", query)
    events.engine.create(step)
    try:
        yield step.name
    finally:
        events.engine.drop(step.name)


def _same(left: str, right: str) -> exp.Expression:
    return exp.EQ(this=col(CUSTOMER, left), expression=col(CUSTOMER, right))


def _absent(column: exp.Expression) -> exp.Expression:
    return exp.Is(this=column, expression=exp.null())


# Customers with the outcome, and without -----------------------------------------------------------------------------------------------


def _eligible(events: EventLog, target: Target, end_us: int) -> exp.Select:
    """Who came before the last cutoff whose label has ended: customer, `outcome` (1 for those who then stayed away), `before_us`."""
    cutoff = target.gap.before(target.horizon.before(moment(end_us), events.zone), events.zone)
    cut, start = lit(microseconds(cutoff)), lit(microseconds(target.gap.after(cutoff, events.zone)))
    asked: exp.Expression = exp.LT(this=col("event_us"), expression=cut)
    if target.active_within is not None:
        active = lit(microseconds(target.active_within.before(cutoff, events.zone)))
        asked = every(asked, exp.GTE(this=col("event_us"), expression=active))
    came = exp.GT(this=count(exp.GTE(this=col("event_us"), expression=start)), expression=lit(0))
    columns = {CUSTOMER: col(CUSTOMER), "outcome": case([(came, lit(0))], lit(1)), "before_us": cut.copy()}
    query = select(columns, _done(events, target.outcome, end_us).subquery("done")).group_by(col(CUSTOMER))
    return query.having(exp.GT(this=count(asked), expression=lit(0)))


def _newly(events: EventLog, target: Target, end_us: int) -> exp.Select:
    """Whose first outcome came late in the log, and who has none: customer, `outcome`, `before_us`."""
    start_us = microseconds(events.observed_for(target)[0])
    third = (end_us - start_us) // 3
    starts = [end_us - third, end_us - 2 * third, start_us]
    later = {f"from {place}": count(exp.GTE(this=col("at_us"), expression=lit(start))) for place, start in enumerate(starts)}
    firsts = _firsts(events, target.outcome, end_us)
    counts = events.engine.rows(Step("newly", select(later, firsts.subquery("firsts"))))[0]
    since = next((start for start, number in zip(starts, counts, strict=True) if number >= _ENOUGH), start_us)
    everybody = select({CUSTOMER: col(CUSTOMER)}, events.table).where(_known(events, end_us)).distinct().subquery("everybody")
    at = col("at_us", "firsts")
    columns = {"outcome": case([(_absent(at), lit(0))], lit(1)), "before_us": func("COALESCE", at.copy(), lit(end_us))}
    query = select({CUSTOMER: col(CUSTOMER, "everybody"), **columns}, everybody)
    query = query.join(firsts.subquery("firsts"), on=_same("everybody", "firsts"), join_type="left")
    query = query.where(some(_absent(at.copy()), exp.GTE(this=at.copy(), expression=lit(since))))
    if isinstance(target, Cancellation) and target.competing:
        ended = _firsts(events, conditions.event_is(target.competing), end_us).subquery("ended")
        query = query.join(ended, on=_same("everybody", "ended"), join_type="left")
        query = query.where(some(_absent(col("at_us", "ended")), exp.LTE(this=at.copy(), expression=col("at_us", "ended"))))
    return query


# Their columns ------------------------------------------------------------------------------------------------------------------------


def _facts_of(events: EventLog, customers: str, lookup: JoinedLookup, name: str) -> exp.Select:
    """A fact of each customer: `outcome`, `value`."""
    query = select({"outcome": col("outcome", customers), "value": col(name, lookup.table)}, customers)
    query = query.join(table(events.owners), on=_same(customers, events.owners))
    return query.join(table(lookup.table), on=lookup.matches(events.owners), join_type="left")


def _held(events: EventLog, customers: str, names: Sequence[str], end_us: int) -> exp.Select:
    """The least and the most value of each dimension in the rows before the outcome, by customer."""
    log = events.table
    values = {name: _filled(col(name, log), numeric=name in events.numeric) for name in names}
    sides = {f"{name} {side}": func(aggregate, value.copy()) for name, value in values.items() for side, aggregate in _SIDES.items()}
    keys = {CUSTOMER: col(CUSTOMER, customers), "outcome": col("outcome", customers)}
    query = select({**keys, **sides}, log).join(table(customers), on=_same(log, customers))
    query = query.where(every(_known(events, end_us), exp.LT(this=col("event_us", log), expression=col("before_us", customers))))
    return query.group_by(*(key.copy() for key in keys.values()))


def _constant_for_customers(events: EventLog, held: str, names: Sequence[str]) -> list[str]:
    """The dimensions that belong to customers."""
    numbers: dict[str, exp.Expression] = {f"{name} filled": exp.Count(this=col(f"{name} least")) for name in names}
    numbers |= {f"{name} differs": count(exp.NEQ(this=col(f"{name} least"), expression=col(f"{name} most"))) for name in names}
    found = events.engine.rows(Step("constant", select(numbers, held)))[0]
    return [name for name, filled, differs in zip(names, found, found[len(names) :], strict=False) if differs <= _CHANGING * filled]


def _filled(value: exp.Expression, *, numeric: bool) -> exp.Expression:
    """A blank text is null."""
    return value if numeric else case([(exp.Not(this=exp.paren(is_blank(value))), value.copy())])


def _values(events: EventLog, values: exp.Select, name: str) -> _Values:
    """Count customers by value; the values stay in the engine."""
    numeric = name in events.numeric
    value, having = _filled(col("value"), numeric=numeric), exp.Sum(this=col("outcome"))
    by_value = select({"value": value, "yes": having, "no": count() - having.copy()}, values.subquery("values"))
    grouped = by_value.group_by(value.copy()).subquery("grouped")
    totals = {f"all {side}": exp.Window(this=exp.Sum(this=col(side))) for side in _LABELS}
    totals |= {f"null {side}": exp.Window(this=exp.Sum(this=case([(_absent(col("value")), col(side))], lit(0)))) for side in _LABELS}
    query = select({"yes": col("yes"), "no": col("no"), **totals}, grouped)
    query = query.order_by(exp.Ordered(this=col("no"), desc=True), exp.Ordered(this=col("value"), nulls_first=True))
    counts = np.array(events.engine.rows(Step("values", query.limit(_FEW_VALUES + 1))), np.float64)
    if not len(counts) or not min(counts[0, 2:4]):
        return _Values(0, 0, 0, 0, 0.5)
    commonest, whole, null = counts[0].reshape(3, 2)
    if len(counts) <= _FEW_VALUES:
        reached = in_any_order(counts[:, :2])
    elif numeric:
        reached = _ranked(events, grouped, whole, null)
    else:
        reached = max(in_any_order(np.array([part, whole - part])) for part in (commonest, null))
    yes, no, other_yes, other_no = (int(number) for number in (*whole, *(whole - commonest)))
    return _Values(yes, no, other_yes, other_no, reached)


def _ranked(events: EventLog, grouped: exp.Expression, whole: Floats, null: Floats) -> float:
    """The AUC of numbers, high or low, null below or above all of them; `whole`, `null`: customers with and without the outcome."""
    order = exp.Order(expressions=[exp.Ordered(this=col("value"), nulls_first=True)])
    rows = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
    upto = exp.Window(this=exp.Sum(this=col("no")), order=order, spec=rows)
    ranked = select({"yes": col("yes"), "no": col("no"), "upto": upto}, grouped).subquery("ranked")
    # Twice the pairs in order, ties being one of the two.
    pairs = exp.Sum(this=col("yes") * exp.paren(lit(2) * col("upto") - col("no")))
    below = float(events.engine.rows(Step("ranked", select({"pairs": pairs}, ranked)))[0][0])
    known = whole - null
    above = below + 2 * (null[0] * known[1] - known[0] * null[1])
    reached = [float(twice / (2 * whole[0] * whole[1])) for twice in (below, above)]
    return max(max(number, 1 - number) for number in reached)
