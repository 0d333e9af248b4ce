"""Made logs whose tastes are known: a planted favourite for each customer, tastes that go together, and tastes still to come.

A customer appears with a first order and makes further orders, a Poisson process of the customer's own rate (Gamma distributed), until
leaving for good at some midnight of the shop's clock. `persopredict.datasets.assortment` tells what an order holds.

Let λ be a customer's rate of orders, p(d) the probability that a line of day d is of a category, and b the mean number of lines beyond an
order's first, Poisson distributed. The orders that hold the category are a Poisson process of rate λ g(p(d)), with
g(p) = 1 − (1 − p) e^{−bp}: nothing of it is bought on that day with probability exp(−λ g(p(d))). Two hidden facts change at midnights, each
with a constant hazard: whether the customer has left, and whether the next taste of its segment is adopted. All else has no memory, so that
a recursion over these states, day by day, gives P(at least one) exactly, for somebody who knows the customer's rate, tastes and state at
the cutoff. A model that reads the log can come close to that, no closer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persopredict.datasets.assortment import ADOPTION_PER_DAY, CHANNELS, Assortment, People, choices, chosen
from persopredict.datasets.generator import BLOCK, SCHEMA, Ids, check_size, customer_ids
from persopredict.datasets.shop import Clock, Floats, Integers, microseconds
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import Duration, instant

LINES_BEYOND_THE_FIRST = 0.5
VIEWS_PER_ORDER = 0.4
FAITHFUL = 0.85
LEVELS = ("category", "department")


@dataclass(frozen=True, slots=True, eq=False)
class MadeTastes:
    """A made log with the tastes behind it.

    Attributes
    ----------
    events : table, by block of customers and then by time: the columns of `MadeLog.events`, and two more. ``event`` is "purchase" (one row
        per line of an order) or "view" (no ``order_id``, no ``value``). ``department`` and ``family`` are two levels, coarse to fine, for
        ``EventLog(…, category=("department", "family"))``; ``family`` is the same as ``category``. All three are null, or blank, in
        `unnamed` of the rows, one as often as the other.
    start, end : what was observed, ``[start, end)``.
    categories : one row for each: ``category``; ``department``; ``segment`` of the customers who take it besides their favourite; ``kind``,
        one of "steady", "seasonal", "trending", "late"; ``appears_at``, before which a late one is not there.
    tastes : one row for each customer: ``customer_id``; ``category``, the favourite; ``share`` of it in the customer's choices;
        ``segment``; ``next_category``, which the segment adopts; ``adopted_at`` and ``left_at``, null if not before the end;
        ``orders_per_day``.
    leaving, unnamed : as given to `made_tastes`.
    people, assortment : the same as arrays, to compute with.
    """

    events: pa.Table
    start: datetime
    end: datetime
    categories: pa.Table
    tastes: pa.Table
    leaving: float
    unnamed: float
    people: People
    assortment: Assortment

    def probability(self, cutoff: str | datetime, horizon: str | Duration, *, by: str = "category") -> Floats:
        """P(at least one purchase of the category in ``[cutoff, cutoff + horizon)``), exact given what is hidden: see the module's text.

        Parameters
        ----------
        cutoff
            text or datetime, naive in UTC, not after `end`; the horizon may reach beyond it.
        horizon
            like "28d".
        by
            "category", or "department": any of its categories.

        Returns
        -------
        array (customers × categories, or × departments by number), rows as in `tastes`, columns as in `categories`. NaN for customers who
        had not appeared by the cutoff, 0 for those who have left. Any choice of pairs by what happened before the cutoff keeps it
        calibrated. Purchases without a name count for no category.

        Raises
        ------
        SpecificationError : unreadable time, empty horizon, a cutoff that the log does not reach, a level that is none.

        >>> made = made_tastes(200, seed=1)
        >>> made.probability("2024-08-01", "28d").shape, made.probability("2024-08-01", "28d", by="department").shape
        ((200, 30), (200, 6))
        """
        names, people = self._names(by), self.people
        now, then = (float(reading) for reading in Clock(self.start).reading(np.array(self._span(cutoff, horizon))))
        stay, adopt = np.exp(-self.leaving), -np.expm1(-ADOPTION_PER_DAY)
        there, adopted = (people.left > now)[:, None], (people.adopted <= now)[:, None]
        # P(has not left, and bought nothing of it so far), before and after adopting.
        plain, adopter = (np.where(there & state, np.ones(len(names)), 0.0) for state in (~adopted, adopted))
        found = np.zeros_like(plain)
        for begin, end in pairwise([now, *np.arange(np.floor(now) + 1, then), then]):
            if begin > now:
                plain, adopter = stay * (1 - adopt) * plain, stay * (adopter + adopt * plain)
            expected = (end - begin) * people.orders[:, None]
            for state, share in zip((plain, adopter), self._shares(int(begin), by), strict=True):
                nothing = np.exp(-expected * (1 - (1 - share) * np.exp(-LINES_BEYOND_THE_FIRST * share)))
                found += state * (1 - nothing)
                state *= nothing
        found[people.arrival >= now] = np.nan
        return found

    def counts_before(self, cutoff: str | datetime, *, by: str = "category") -> Integers:
        """Purchases (rows) of each category before the cutoff; shape, arguments and errors as in `probability`.

        >>> made = made_tastes(200, seed=1)
        >>> before = made.counts_before("2024-08-01")
        >>> before.shape, int(before.sum()) == int(made.counts_before("2024-08-01", by="department").sum())
        ((200, 30), True)
        """
        return self._counts(microseconds(self.start), microseconds(self._within(cutoff)), by)

    def counts_within(self, cutoff: str | datetime, horizon: str | Duration, *, by: str = "category") -> Integers:
        """Purchases (rows) of each category in ``[cutoff, cutoff + horizon)``; shape, arguments and errors as in `probability`.

        What lies after the end of the log was not observed, and is not counted.
        """
        return self._counts(*self._span(cutoff, horizon), by)

    def _counts(self, begin: int, end: int, by: str) -> Integers:
        names, moment = self._names(by), self.events["event_at"].cast(pa.int64())
        inside = pc.and_(pc.greater_equal(moment, begin), pc.less(moment, end))
        rows = self.events.filter(pc.and_(inside, pc.equal(self.events["event"], "purchase"))).select(["customer_id", by])
        rows = rows.filter(pc.is_in(rows[by], value_set=names))
        customer = pc.index_in(rows["customer_id"], value_set=self.tastes["customer_id"].combine_chunks()).to_numpy().astype(np.int64)
        column = pc.index_in(rows[by], value_set=names).to_numpy()
        shape = (self.tastes.num_rows, len(names))
        return np.bincount(customer * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)

    def _shares(self, day: int, by: str) -> tuple[Floats, Floats]:
        """Probability that a line of this day has this name, before and after adopting (customers × names each)."""
        before, after = ((1 - self.unnamed) * each for each in choices(self.people, self.assortment, day))
        if by == "category":
            return before, after
        belongs = (self.assortment.department[:, None] == np.unique(self.assortment.department)).astype(np.float64)
        return before @ belongs, after @ belongs

    def _names(self, by: str) -> pa.Array:
        if by not in LEVELS:
            raise SpecificationError(f"no tastes by {by!r}; {did_you_mean(str(by), LEVELS)}")
        return pc.unique(self.categories[by])

    def _span(self, cutoff: str | datetime, horizon: str | Duration) -> tuple[int, int]:
        begin, length = self._within(cutoff), Duration.parse(horizon)
        if not length:
            raise SpecificationError("the horizon is empty; write <int>h, <int>d or <int>w, like '28d'")
        return microseconds(begin), microseconds(length.after(begin, UTC))

    def _within(self, cutoff: str | datetime) -> datetime:
        begin = instant(cutoff)
        if begin > self.end:
            raise SpecificationError(
                f"the log ends at {self.end.isoformat()}, before the cutoff {begin.isoformat()}; choose an earlier one"
            )
        return begin


def made_tastes(
    customers: int = 5_000,
    *,
    categories: int = 30,
    days: int = 270,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    ids: Ids = "text",
    leaving: float = 0.002,
    unnamed: float = 0.03,
) -> MadeTastes:
    """Make a log whose tastes are known, in memory.

    Parameters
    ----------
    customers
        how many, at least 1; the first N of them, and their events, are the same whatever the number.
    categories
        how many, at least 1. From six on there are seasonal, trending and late ones, and something to adopt. Every sixth opens a segment,
        up to eight, every fifth a department.
    days, seed, start, ids
        as in `made_log`.
    leaving
        hazard, per day, to leave for good; 0 for nobody.
    unnamed
        share of the rows without a name of the category: null or blank.

    Raises
    ------
    SpecificationError : a size, a hazard or a share that is out of range, all of them at once; an unknown kind of ids.

    Notes
    -----
    On 100,000 customers by default: 21 rows for each, a third leaves, nearly half adopts. 28 days before the end, one customer in two has
    ten purchases or more; the favourite is among their three most frequent categories in 99.7% of cases, and the most frequent in 97%.

    >>> made = made_tastes(100, days=90)
    >>> made.events.column_names[6:], made.tastes.num_rows, made.categories.num_rows
    (['category', 'value', 'channel', 'department', 'family'], 100, 30)
    >>> made.events.equals(made_tastes(100, days=90).events)
    True
    """
    _check(customers, categories, days, seed, leaving, unnamed)
    begin = instant(start)
    end, clock = begin + timedelta(days=days), Clock(begin)
    assortment = Assortment(categories, float(clock.reading(np.array([microseconds(end)]))[0]))
    goods, tables, blocks = _category_table(assortment, clock), [], []
    for block, first in enumerate(range(0, customers, BLOCK)):
        # Whole blocks are made, and then cut: no draw may depend on how many customers are asked for.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
        blocks.append(People.drawn(rng, assortment, leaving))
        rows = _rows(rng, blocks[-1], assortment, clock, unnamed)
        kept = (rows["customer"] < customers - first) & (rows["moment"] < microseconds(end))
        names = customer_ids(np.arange(first, first + BLOCK), ids, seed)
        tables.append(_event_table(rows, kept, names, goods, block << 32))
    people = People.joined(blocks, customers)
    tastes = _taste_table(people, assortment, goods, clock, customer_ids(np.arange(customers), ids, seed))
    return MadeTastes(pa.concat_tables(tables).combine_chunks(), begin, end, goods, tastes, leaving, unnamed, people, assortment)


def _check(customers: int, categories: int, days: int, seed: int, leaving: float, unnamed: float) -> None:
    """Refuse what is impossible, all of it at once."""
    ranges = (
        ("categories", categories, categories >= 1, "a whole number of at least 1"),
        ("leaving", leaving, leaving >= 0, "a hazard per day, 0 or more"),
        ("unnamed", unnamed, 0 <= unnamed <= 1, "a share from 0 to 1"),
    )
    wrong = [Problem("out_of_range", f"{name} is {value}", remedy=f"give {remedy}") for name, value, right, remedy in ranges if not right]
    try:
        check_size(customers, days, seed)
    except SpecificationError as error:
        wrong = [*error.problems, *wrong]
    if wrong:
        raise SpecificationError("the log is impossible", wrong)


def _rows(rng: np.random.Generator, people: People, assortment: Assortment, clock: Clock, unnamed: float) -> dict[str, NDArray[Any]]:
    """Orders with their lines, and views, of one block, in no order; the first order of each customer is at the arrival."""
    until = np.minimum(people.left, assortment.length)
    further = rng.poisson(people.orders * (1 + VIEWS_PER_ORDER) * (until - people.arrival))
    customer = np.concatenate([np.arange(BLOCK), np.repeat(np.arange(BLOCK), further)])
    first = np.arange(len(customer)) < BLOCK
    reading = people.arrival[customer] + np.where(first, 0.0, rng.random(len(customer))) * (until - people.arrival)[customer]
    bought = (rng.random(len(customer)) * (1 + VIEWS_PER_ORDER) < 1) | first
    stray = rng.random(len(customer)) >= FAITHFUL
    channel = np.where(stray, rng.integers(0, len(CHANNELS), len(customer)), people.home[customer])
    visit = np.repeat(np.arange(len(customer)), 1 + rng.poisson(LINES_BEYOND_THE_FIRST, len(customer)) * bought)
    category = chosen(rng, people, assortment, customer[visit], reading[visit])
    lost = rng.random(len(visit)) < unnamed
    return {
        "visit": visit,
        "customer": customer[visit],
        "moment": clock.moment(reading)[visit],
        "bought": bought[visit],
        "channel": channel[visit],
        "category": category,
        "item": category * 1000 + (100 * rng.random(len(visit)) ** 2).astype(np.int64),
        "value": np.exp(rng.normal(2.0 + 0.2 * (category % 7), 0.5)).round(2),
        "lost": lost,
        "blank": lost & (rng.random(len(visit)) < 0.5),
    }


def _event_table(rows: dict[str, NDArray[Any]], kept: NDArray[np.bool_], names: pa.Array, goods: pa.Table, prefix: int) -> pa.Table:
    """The kept rows by time; numbered before the others are dropped, so that ids don't depend on the number of customers."""
    by_time = np.lexsort((rows["visit"], rows["moment"]))
    number = np.flatnonzero(kept[by_time])
    rows = {name: array[by_time[number]] for name, array in rows.items()}
    view, place = pa.array(~rows["bought"]), pa.array(rows["category"], mask=rows["lost"])
    levels = {name: pc.if_else(pa.array(rows["blank"]), " ", goods[name].combine_chunks().take(place)) for name in LEVELS}
    columns = {
        "customer_id": names.take(pa.array(rows["customer"])),
        "event_at": pa.array(rows["moment"]).cast(SCHEMA.field("event_at").type),
        "event": pc.if_else(view, "view", "purchase"),
        "event_id": pa.array(prefix + number),
        "order_id": pc.if_else(view, None, pa.array(prefix + rows["visit"])),
        "item_id": pa.array(rows["item"]),
        "category": levels["category"],
        "value": pc.if_else(view, None, pa.array(rows["value"])),
        "channel": pa.array(CHANNELS).take(pa.array(rows["channel"])),
        "department": levels["department"],
        "family": levels["category"],
    }
    return pa.table(columns)


def _category_table(assortment: Assortment, clock: Clock) -> pa.Table:
    columns = {
        "category": [f"category {number + 1}" for number in range(assortment.size)],
        "department": [f"department {number + 1}" for number in assortment.department],
        "segment": assortment.segment,
        "kind": pa.array(assortment.kind, pa.string()),
        "appears_at": _instants(clock, assortment.appears, np.inf),
    }
    return pa.table(columns)


def _taste_table(people: People, assortment: Assortment, goods: pa.Table, clock: Clock, names: pa.Array) -> pa.Table:
    following = pa.array(assortment.next).take(pa.array(people.segment)) if len(assortment.next) else pa.nulls(len(names), pa.int64())
    until = np.minimum(people.left, assortment.length)
    columns = {
        "customer_id": names,
        "category": goods["category"].take(pa.array(people.favourite)),
        "share": people.share,
        "segment": people.segment,
        "next_category": goods["category"].take(following),
        "adopted_at": _instants(clock, people.adopted, until),
        "left_at": _instants(clock, people.left, assortment.length),
        "orders_per_day": people.orders,
    }
    return pa.table(columns)


def _instants(clock: Clock, reading: Floats, end: Floats | float) -> pa.Array:
    """Readings of the clock as instants, null from `end` on."""
    never = reading >= end
    return pa.array(clock.moment(np.where(never, 0.0, reading)), mask=never).cast(SCHEMA.field("event_at").type)
