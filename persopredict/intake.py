"""Reading sources: their rows go either to usable tables or to quarantine, and lie there in order of their customers.

Customers are numbered first, over all sources together. In their order whatever is asked of a range of customers touches its own rows only,
and groups by customer find theirs in the cache: sorting once pays with the first question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from zoneinfo import ZoneInfo

from sqlglot import exp

from persopredict import times
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import MICROSECONDS_PER_DAY as DAY
from persopredict.engines.expressions import MICROSECONDS_PER_HOUR as HOUR
from persopredict.engines.expressions import (
    case,
    cast_to,
    col,
    count,
    every,
    floor_to,
    func,
    lit,
    microseconds,
    moment,
    named,
    select,
    some,
    table,
    try_cast_to,
)
from persopredict.errors import DataError, EngineError, Problem
from persopredict.sources import CUSTOMER, EARLIEST, Described, Offsets, Shape
from persopredict.times import offsets
from persopredict.usability import SourceFacts


@dataclass(frozen=True)
class Intake:
    """What became of one source's rows. The tables `usable_<view>` and `quarantine_<view>` hold them."""

    described: Described
    rows: int
    usable: int
    quarantined: int
    naive: int
    remarks: tuple[Problem, ...] = field(default=())

    @property
    def name(self) -> str:
        """The source's name."""
        return self.described.source.name

    @property
    def usable_table(self) -> str:
        """The rows that can be used, in the common model."""
        return f"usable_{self.described.view}"

    @property
    def quarantine_table(self) -> str:
        """The rows that can't: source, code, row."""
        return f"quarantine_{self.described.view}"

    def facts(self, engine: Engine, observed: Any) -> SourceFacts:
        """What the usability report needs to know; `observed` is the source's span, None if it has no rows."""
        reasons = select({"code": col("code"), "rows": count(), "example": func("MIN", col("row"))}, self.quarantine_table)
        unusable = {code: (rows, short(example)) for code, rows, example in engine.rows(Step("reasons", reasons.group_by(col("code"))))}
        source = self.described.source
        return SourceFacts(
            self.name, self.rows, self.usable, dict(sorted(unusable.items())), self.rows - self.usable - self.quarantined,
            self._identical(engine), self.naive, observed, source.max_lag, self._outside(engine), source.observed is not None, self.remarks,
        )  # fmt: skip

    def _identical(self, engine: Engine) -> int:
        """Rows beyond the first of each kind, by 64-bit digests: exact but for a chance of n²/2⁶⁵."""
        whole = func("HASH", exp.column(exp.to_identifier(self.usable_table, quoted=True)))
        different = exp.Count(this=exp.Distinct(expressions=[whole]))
        return self.usable - int(engine.rows(Step("different", select({"rows": different}, self.usable_table)))[0][0])

    def _outside(self, engine: Engine) -> int:
        """Usable rows outside the span that the source was said to be complete in."""
        observed = self.described.source.observed
        if observed is None:
            return 0
        start, end = (lit(microseconds(side)) for side in observed)
        outside = some(exp.LT(this=col("event_us"), expression=start), exp.GTE(this=col("event_us"), expression=end))
        return int(engine.rows(Step("outside", select({"rows": count(outside)}, self.usable_table)))[0][0])


#: The customers of a log, numbered in the order of their ids.
CUSTOMERS = "customers"


@dataclass(frozen=True)
class Staged:
    """A source as `read_<view>`, its rows in the common model with what is wrong with them, and as `ids_<view>`, its customers."""

    described: Described

    @property
    def table(self) -> str:
        """The rows."""
        return f"read_{self.described.view}"

    @property
    def ids(self) -> str:
        """The ids of the customers."""
        return f"ids_{self.described.view}"


def stage(engine: Engine, found: Described, shape: Shape) -> Staged:
    """Make a source readable in the common model, and find its customers.

    Raises `DataError` if the source fails while it is being read.
    """
    with _reading(engine, found):
        given = replace(found, offsets={column: offsets_of(engine, found, column) for column in found.naive_columns})
        staged = Staged(given)
        keep = engine.create if engine.is_parsed(found.view) else engine.view
        keep(Step(staged.table, given.rows(shape)))
        engine.create(Step(staged.ids, exp.select(col("customer_id")).from_(table(staged.table)).distinct()))
    return staged


def number_customers(engine: Engine, staged: Sequence[Staged]) -> None:
    """Number the customers of all sources: the table `customers`."""
    parts: list[exp.Query] = [exp.select(col("customer_id")).from_(table(each.ids)) for each in staged]
    ids = reduce(lambda left, right: exp.union(left, right, distinct=True), parts)
    number = exp.Window(this=func("ROW_NUMBER"), order=exp.Order(expressions=[exp.Ordered(this=col("customer_id"), nulls_first=False)]))
    columns = {"customer_id": col("customer_id"), CUSTOMER: cast_to(exp.paren(number - lit(1)), "INTEGER")}
    given = exp.Not(this=exp.Is(this=col("customer_id"), expression=exp.null()))
    engine.create(Step(CUSTOMERS, select(columns, ids.subquery("ids")).where(given)))
    for each in staged:
        engine.drop(each.ids)


@contextmanager
def _reading(engine: Engine, found: Described) -> Iterator[None]:
    engine.read_naive_times_in(found.source.timezone)
    try:
        yield
        return
    except EngineError as error:
        problem = Problem(
            "unreadable_source",
            "the source failed while it was being read",
            example=error.problems[0].example.split("\n")[0],
            remedy="read it by itself, and mend what fails",
            source=found.source.name,
        )
    raise DataError("a source can't be read", [problem])


def read(engine: Engine, staged: Staged, shape: Shape) -> Intake:
    """Read a staged source into `usable_<view>` and `quarantine_<view>`.

    Raises `DataError` if the source fails while it is being read.
    """
    with _reading(engine, staged.described):
        return _read(engine, staged, shape)


def _ordered(staged: Staged, shape: Shape) -> exp.Select:
    """The rows in order of their customers; only what differs from row to row has to be moved."""
    stored = [name for name in shape.columns if name in staged.described.stored]
    same = exp.EQ(this=col("customer_id", staged.table), expression=col("customer_id", CUSTOMERS))
    columns = {name: col(name, staged.table) for name in (*stored, "problem", "naive")}
    query = select({**columns, CUSTOMER: col(CUSTOMER, CUSTOMERS)}, staged.table)
    return query.join(table(CUSTOMERS), on=same, join_type="left").order_by(col(CUSTOMER, CUSTOMERS))


def _read(engine: Engine, source: Staged, shape: Shape) -> Intake:
    found, staged = source.described, f"ordered_{source.described.view}"
    engine.create(Step(staged, _ordered(source, shape)))
    if engine.is_parsed(found.view):
        engine.drop(source.table)
    usable = exp.Is(this=col("problem"), expression=exp.null())
    numbers = {"rows": count(), "usable": count(usable), "naive": count(every(usable, col("naive")))}
    rows, good, naive = engine.rows(Step("rows", select(numbers, staged)))[0]
    rejects = engine.rejected(found.view)
    rejected = 0 if rejects is None else engine.rows(Step("rejected", select({"rows": count()}, rejects.subquery("rejected"))))[0][0]
    copies = _copies(engine, staged, usable) if "event_id" in found.source.mapping else 0
    intake = Intake(found, rows + rejected, good - copies, rows - good + rejected, naive, engine.remarks(found.view))
    if copies or good < rows:
        kept = _first_of_each(found, staged, usable, shape) if copies else _columns(found, shape, table(staged)).where(usable)
        engine.create(Step(intake.usable_table, kept))
        engine.drop(staged)
    else:
        # Where nothing is to be left out, the rows need not be copied.
        engine.view(Step(intake.usable_table, _columns(found, shape, table(staged))))
    parts: list[exp.Query] = [_unreadable(found.source.name, rejects)] if rejects is not None and rejected else []
    parts += [found.quarantine(shape)] if good < rows else []
    engine.create(Step(intake.quarantine_table, reduce(_union, parts) if parts else _nothing()))
    return intake


def _columns(found: Described, shape: Shape, source: exp.Expression) -> exp.Select:
    """The columns of the common model: those that are stored, and the constants."""
    stored = {*found.stored, CUSTOMER}
    return select({name: col(name) if name in stored else found.constant_of(name, shape) for name in shape.kept}, source)


def _copies(engine: Engine, staged: str, usable: exp.Expression) -> int:
    """How many usable rows repeat an event id. Counting is far cheaper than numbering the rows of each id, and mostly there are none."""
    ids = {"given": exp.Count(this=col("event_id")), "different": exp.Count(this=exp.Distinct(expressions=[col("event_id")]))}
    given, different = engine.rows(Step("event_ids", select(ids, staged).where(usable)))[0]
    return int(given - different)


def _first_of_each(found: Described, staged: str, usable: exp.Expression, shape: Shape) -> exp.Select:
    """The usable rows, of each event id the first known; ties by time, then by content."""
    stored = [name for name in shape.columns if name in found.stored]
    known = func("COALESCE", col("known_us"), col("event_us")) if "known_us" in stored else col("event_us")
    order = [known, col("event_us"), *(col(name) for name in stored if name not in ("known_us", "event_us", "event_id"))]
    copy = exp.Window(
        this=func("ROW_NUMBER"),
        partition_by=[col("event_id")],
        order=exp.Order(expressions=[exp.Ordered(this=column, nulls_first=False) for column in order]),
    )
    numbered = exp.select(exp.Star(), exp.alias_(copy, "copy", quoted=True)).from_(table(staged)).where(usable).subquery("numbered")
    first = some(exp.EQ(this=col("copy"), expression=lit(1)), exp.Is(this=col("event_id"), expression=exp.null()))
    return _columns(found, shape, numbered).where(first)


def _unreadable(source: str, rejects: exp.Query) -> exp.Select:
    columns = {"source": cast_to(lit(source), "VARCHAR"), "code": cast_to(lit("unreadable_line"), "VARCHAR"), "row": col("row")}
    return select(columns, rejects.subquery("rejected"))


def _nothing() -> exp.Select:
    empty = (named(cast_to(exp.null(), "VARCHAR"), name) for name in ("source", "code", "row"))
    return exp.select(*empty).where(exp.false())


def _union(left: exp.Query, right: exp.Query) -> exp.Query:
    return exp.union(left, right, distinct=False)


def offsets_of(engine: Engine, found: Described, column: str) -> Offsets:
    """The offsets of the source's zone over the time that a naive column spans, so far as its times can be used at all.

    Two extremes and a few comparisons replace a calendar's work on every row (ICU's casts take most of the reading otherwise).
    """
    # Local times lie up to a day from UTC's; a placeholder far outside must not make the span centuries long.
    margin = timedelta(days=2)
    earliest, latest = microseconds(EARLIEST - margin), microseconds(datetime.now(UTC) + margin)
    local = try_cast_to(col(column), "TIMESTAMP")
    us = func("EPOCH_US", local.copy())
    plausible = every(func("ISFINITE", local), exp.Between(this=us, low=lit(earliest), high=lit(latest)))
    query = select({name: func(name.upper(), case([(plausible.copy(), us.copy())])) for name in ("min", "max")}, found.view)
    first, last = engine.rows(Step("span", query))[0]
    return offsets(times.zone(found.source.timezone), moment(first or 0) - margin, moment(last or 0) + margin)


def short(text: Any) -> str:
    """An example fit for a terminal's line."""
    return "" if text is None else text if len(str(text)) <= 120 else f"{str(text)[:117]}..."


def with_calendar(kept: Sequence[str], zone: ZoneInfo, first: int, last: int) -> exp.Select:
    """Local day, hour and weekday by the zone's offsets, so that no engine's own calendar decides."""
    changes = offsets(zone, moment(first), moment(last))
    branches = [
        (exp.LT(this=col("event_us"), expression=lit(microseconds(until))), lit(offset)) for until, offset in changes if until is not None
    ]
    offset = case(branches, lit(changes[-1][1]))
    local = select({**{name: col(name) for name in kept}, "local_us": col("event_us") + exp.paren(offset)}, "log").subquery("localised")
    us = col("local_us")
    day = exp.IntDiv(this=floor_to(us, DAY), expression=lit(DAY))
    hour = exp.IntDiv(this=exp.paren(us.copy() - floor_to(us, DAY)), expression=lit(HOUR))
    # 1970-01-01 was a Thursday, ISO weekday 4.
    weekday = exp.paren(exp.IntDiv(this=exp.paren(floor_to(us, DAY) - floor_to(us, 7 * DAY)), expression=lit(DAY)) + lit(3))
    calendar = {
        "day": cast_to(day, "INTEGER"),
        "hour": cast_to(hour, "INTEGER"),
        "weekday": cast_to(exp.Mod(this=weekday, expression=lit(7)) + lit(1), "INTEGER"),
    }
    return select({**{name: col(name) for name in kept}, **calendar}, local)
