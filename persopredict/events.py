"""`EventLog`: many sources under one common model, read by an engine, checked before use.

A log is a value until somebody asks it something; then its engine reads the sources once, sets unusable rows apart and keeps the rest as the
table `events`, with times in microseconds. Nothing of it comes into Python but small facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
from sqlglot import exp

from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import case, cast_to, col, count, floor_to, func, lit, microseconds, moment, select, table, where
from persopredict.engines.expressions import MICROSECONDS_PER_DAY as DAY
from persopredict.engines.expressions import MICROSECONDS_PER_HOUR as HOUR
from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.features.spec import CALENDAR
from persopredict.sources import MODEL, NUMBERS, TEXTS, UNUSABLE, Described, Mapped, Source
from persopredict.targets import Target
from persopredict.times import Duration, instant, offsets, zone
from persopredict.usability import LogFacts, SourceFacts, UsabilityReport, assess

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Moment = str | datetime


class EventLog:
    """What customers did, under one common model.

    Parameters
    ----------
    source : path or glob (Parquet, CSV), pandas, Polars or PyArrow frame, DuckDB relation, or a table or query (with `engine`).
    customer_id, event_at, event : columns; `event` may be `pp.lit("purchase")`. Ids become canonical text.
    event_id : column; rows with the same id are one event. Without it nothing is dropped.
    known_at : column; when the row became known, if later than it happened. Null is "at once".
    order_id, item_id, quantity, value, currency, channel : columns. Columns that carry these names are taken without saying so.
    category : one column, or several from coarse to fine; each keeps its own name in conditions, and `category` is the coarsest.
    dimensions : further columns, as names or as {name in the log: column}.
    timezone : time zone of days and hours, and of times without an offset; default UTC.
    observed : (start, end) in which the source is complete; default its first and last event.
    max_lag : how late the source may be before it counts as stopped.
    name : for messages.
    engine : DuckDB connection or database file that a table or query is read with.

    Raises
    ------
    DataError, SpecificationError : on first use, with every problem at once.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"client": [1, 2, 2], "at": ["2024-01-01", "2024-01-02 10:00", "2024-02-01"], "amount": [5.0, 1.5, -2.0]})
    >>> from persopredict.sources import constant
    >>> log = EventLog(frame, customer_id="client", event_at="at", event=constant("purchase"), value="amount")
    >>> log
    EventLog(3 events of 2 customers, 2024-01-01 to 2024-02-01, UTC)
    >>> log.check().codes()
    ['naive_times', 'negative_value']
    """

    def __init__(
        self,
        source: Any,
        *,
        customer_id: str | None = None,
        event_at: str | None = None,
        event: Mapped | None = None,
        event_id: str | None = None,
        known_at: str | None = None,
        order_id: str | None = None,
        item_id: str | None = None,
        category: str | Sequence[str] | None = None,
        quantity: str | None = None,
        value: str | None = None,
        currency: Mapped | None = None,
        channel: Mapped | None = None,
        dimensions: Sequence[str] | Mapping[str, Mapped] | None = None,
        timezone: str = "UTC",
        observed: tuple[Moment, Moment] | None = None,
        max_lag: str | Duration = "0d",
        name: str = "events",
        engine: Any = None,
    ) -> None:
        given = {
            "customer_id": customer_id, "event_at": event_at, "event": event, "event_id": event_id, "known_at": known_at, "order_id": order_id,
            "item_id": item_id, "quantity": quantity, "value": value, "currency": currency, "channel": channel,
        }  # fmt: skip
        mapping = {key: column for key, column in given.items() if column is not None}
        levels = (category,) if isinstance(category, str) else tuple(category or ())
        categories = {"category": levels[0]} if levels else {}
        if len(levels) > 1:
            categories |= {_safe(level): level for level in levels}
        extra = dimensions if isinstance(dimensions, Mapping) else {_safe(column): column for column in dimensions or ()}
        taken = [Problem("dimension_name", f"{key!r} is a name of the common model") for key in extra if key in (*MODEL, *CALENDAR, *categories)]
        if taken:
            raise SpecificationError("the mapping is wrong", taken)
        span = None if observed is None else (instant(observed[0], timezone), instant(observed[1], timezone))
        self._sources = (
            Source(source, mapping, categories, dict(extra), engine, timezone, span, Duration.parse(max_lag), name),
        )
        self._zone = zone(timezone)
        self.timezone = timezone

    @classmethod
    def union(cls, *logs: EventLog) -> EventLog:
        """Several logs under one model: columns that one of them lacks are null there.

        Raises `SpecificationError` if there are none, or if their time zones differ.
        """
        if not logs:
            raise SpecificationError("union needs at least one log")
        zones = sorted({log.timezone for log in logs})
        if len(zones) > 1:
            raise SpecificationError(f"the logs' time zones differ ({', '.join(zones)}): days would not be the same days; give all one timezone")
        whole = cls.__new__(cls)
        sources = [source for log in logs for source in log._sources]
        names = [source.name for source in sources]
        whole._sources = tuple(
            Source(**{**vars(source), "name": f"{source.name}_{position}"}) if names.count(source.name) > 1 else source
            for position, source in enumerate(sources, 1)
        )
        whole._zone, whole.timezone = logs[0]._zone, logs[0].timezone
        return whole

    # What the log holds ----------------------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """The engine that holds the log's tables; made on first use."""
        from persopredict.engines.duckdb import DuckDBEngine

        return DuckDBEngine()

    @cached_property
    def _described(self) -> tuple[tuple[Described, ...], tuple[Problem, ...]]:
        described, problems = [], []
        for position, source in enumerate(self._sources):
            view = f"source_{position}"
            try:
                found = Described(source, view, self.engine.describe(source.data, link=source.link, name=view)).complete()
            except DataError as error:
                problems += list(error.problems) or [Problem("unreadable_source", str(error), source=source.name)]
                continue
            described.append(found)
            problems += found.problems()
        return tuple(described), tuple(problems)

    def _sound(self) -> tuple[Described, ...]:
        described, problems = self._described
        if problems:
            raise DataError("the log can't be read", problems)
        return described

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Names of the category levels, coarse to fine; `category` first."""
        return tuple(dict.fromkeys(name for found in self._described[0] for name in found.source.categories))

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return tuple(dict.fromkeys(name for found in self._described[0] for name in found.source.dimensions))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the common model that some source fills, calendar columns included."""
        filled = {name for found in self._described[0] for name in found.source.mapping}
        return (*(name for name in MODEL if name in filled), *self.categories, *self.dimensions, *CALENDAR)

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        numbers = {name for found in self._described[0] for name in found.numeric_dimensions}
        return tuple(name for name in self.columns if name in NUMBERS or name in numbers or name in CALENDAR)

    # Reading the sources ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> EventLog:
        """Read the sources now rather than at the first question; raises `DataError` as any question would."""
        return self if self.table else self

    @cached_property
    def table(self) -> str:
        """The name of the prepared table `events`: usable rows in the common model. Reads the sources once.

        Raises `DataError` with every problem if columns are missing or mistyped, or if no usable event is left.
        """
        described = self._sound()
        now_us = microseconds(datetime.now(UTC))
        kept = ["customer_id", "event_us", "known_us", "event", *TEXTS, *NUMBERS, *self.categories, *self.dimensions, "source"]
        for found in described:
            self.engine.read_naive_times_in(found.source.timezone)
            rows = found.rows(self.categories, self.dimensions, now_us=now_us)
            self.engine.create(Step(f"usable_{found.view}", _usable(rows, kept, unique="event_id" in found.source.mapping)))
            self.engine.create(found.quarantine(now_us=now_us))
        parts = [exp.select(*(col(name) for name in kept)).from_(table(f"usable_{found.view}")) for found in described]
        union: Any = parts[0]
        for part in parts[1:]:
            union = exp.union(union, part, distinct=False)
        self.engine.view(Step("log", union))
        first, last = self.engine.rows(Step("span", select({"first": func("MIN", col("event_us")), "last": func("MAX", col("event_us"))}, "log")))[0]
        if first is None:
            raise DataError("the log can't be used", self._facts_of(described).structural or [Problem("empty_log", "no usable event is left")])
        self.engine.view(Step("events", self._with_calendar(kept, first, last)))
        return "events"

    def _with_calendar(self, kept: Sequence[str], first: int, last: int) -> exp.Select:
        """Local day, hour and weekday by the zone's offsets, so that no engine's own calendar decides."""
        changes = offsets(self._zone, moment(first), moment(last))
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

    @cached_property
    def late(self) -> bool:
        """Whether some source says when its rows became known."""
        return any("known_at" in found.source.mapping for found in self._sound())

    def native(self, frame: pd.DataFrame, to_arrow: Callable[[pd.DataFrame], pa.Table]) -> Any:
        """A pandas frame as the kind of frame that the log was made from: Polars and PyArrow stay themselves, all else is pandas.

        `to_arrow` knows the frame's columns and their types, which nested ones need.
        """
        data = self._sources[0].data
        kind = nw.get_native_namespace(data).__name__ if nw.dependencies.is_into_dataframe(data) else "pandas"
        if kind == "polars":
            return nw.from_arrow(to_arrow(frame), backend="polars").to_native()
        return to_arrow(frame) if kind == "pyarrow" else frame

    @cached_property
    def catalog(self) -> list[tuple[str, str, int, int, int, int]]:
        """(source, event, rows, customers, first, last in microseconds) of the usable rows, most frequent first."""
        query = select(
            {
                "source": col("source"),
                "event": col("event"),
                "rows": count(),
                "customers": exp.Count(this=exp.Distinct(expressions=[col("customer_id")])),
                "first": func("MIN", col("event_us")),
                "last": func("MAX", col("event_us")),
            },
            self.table,
        ).group_by(col("source"), col("event"))
        return self.engine.rows(Step("catalog", query.order_by(exp.Ordered(this=col("rows"), desc=True), col("source"), col("event"))))

    @cached_property
    def customers(self) -> int:
        """Number of customers with a usable event."""
        query = select({"customers": exp.Count(this=exp.Distinct(expressions=[col("customer_id")]))}, self.table)
        return int(self.engine.rows(Step("customers", query))[0][0])

    @property
    def event_names(self) -> tuple[str, ...]:
        """The names of the events, most frequent first."""
        return tuple(dict.fromkeys(row[1] for row in self.catalog))

    def values_of(self, column: str, most: int) -> tuple[str, ...]:
        """The most frequent values of a text column, ties by name; none if the log lacks the column."""
        if column not in self.columns:
            return ()
        query = select({"value": col(column), "rows": count()}, self.table).where(exp.Not(this=exp.Is(this=col(column), expression=exp.null())))
        query = query.group_by(col(column)).order_by(exp.Ordered(this=col("rows"), desc=True), col("value")).limit(most)
        return tuple(row[0] for row in self.engine.rows(Step("values", query)))

    def spans(self) -> dict[str, tuple[datetime, datetime]]:
        """For each source, the span in which it was observed: as given, or from its first event to its last, that one included."""
        found: dict[str, tuple[datetime, datetime]] = {}
        for source in self._sources:
            rows = [row for row in self.catalog if row[0] == source.name]
            if source.observed is not None:
                found[source.name] = source.observed
            elif rows:
                found[source.name] = (moment(min(row[4] for row in rows)), moment(max(row[5] for row in rows) + 1))
        return found

    @property
    def observed(self) -> tuple[datetime, datetime]:
        """From the first source's start to the last source's end; the end is exclusive, just after the last event."""
        spans = self.spans().values()
        return min(span[0] for span in spans), max(span[1] for span in spans)

    def observed_for(self, target: Target) -> tuple[datetime, datetime]:
        """The span observed by every source that the target's label reads.

        Raises `SpecificationError` if the log never holds one of the target's events.
        """
        names, spans = self.event_names, self.spans()
        unknown = [
            Problem("unknown_event", f"the log never holds {name!r}", remedy=did_you_mean(name, names), source=target.name)
            for name in sorted(target.reads)
            if name not in names
        ]
        if unknown:
            raise SpecificationError(f"target {target.name} can't be read from this log", unknown)
        read = [spans[row[0]] for row in self.catalog if row[1] in target.reads]
        return max(span[0] for span in read), min(span[1] for span in read)

    # What is wrong with it -------------------------------------------------------------------------------------------------------

    def check(self, targets: Sequence[Target] = (), as_of: Moment | None = None) -> UsabilityReport:
        """The data-usability report: every problem at once, for what `targets` need and for scoring at `as_of`."""
        described, structural = self._described
        moment_ = None if as_of is None else instant(as_of, self._zone)
        if structural:
            empty = tuple(SourceFacts(found.source.name, 0, 0) for found in described)
            facts = LogFacts(self.timezone, self.columns, (), structural=structural)
            return assess(facts, 0, targets if empty else (), moment_)
        try:
            self.prepare()
        except DataError:
            return assess(self._facts_of(described), 0)
        return assess(self._facts, self.customers, targets, moment_)

    @property
    def source_facts(self) -> tuple[SourceFacts, ...]:
        """What each source held: rows, usable rows, reasons, span."""
        return self._facts.sources

    @cached_property
    def _facts(self) -> LogFacts:
        described = self._sound()
        facts = self._facts_of(described)
        events: dict[str, tuple[int, int]] = {}
        holders: dict[str, set[str]] = {}
        for source, event, rows, customers, _, _ in self.catalog:
            before = events.get(event, (0, 0))
            events[event] = (before[0] + rows, max(before[1], customers))
            holders.setdefault(event, set()).add(source)
        numbers = [name for name in NUMBERS if name in self.columns]
        negatives = dict.fromkeys(numbers, 0)
        if numbers:
            query = select({name: count(exp.LT(this=col(name), expression=lit(0))) for name in numbers}, self.table)
            negatives = dict(zip(numbers, self.engine.rows(Step("negatives", query))[0], strict=True))
        currencies = self.engine.rows(Step("currencies", select({"currency": col("currency")}, self.table).distinct()))
        return LogFacts(
            facts.timezone, facts.columns, facts.sources, events, (), negatives,
            tuple(sorted(row[0] for row in currencies if row[0] is not None)), {name: frozenset(sources) for name, sources in holders.items()},
        )  # fmt: skip

    def _facts_of(self, described: Sequence[Described]) -> LogFacts:
        """The facts of the sources alone, which can be had even if no row is usable."""
        spans = self.spans() if "catalog" in self.__dict__ or "table" in self.__dict__ else {}
        facts = []
        for found in described:
            rows = self.engine.rows(Step("rows", select({"rows": count()}, found.view)))[0][0]
            usable = self.engine.rows(Step("usable", select({"rows": count()}, f"usable_{found.view}")))[0][0]
            reasons = select({"code": col("code"), "rows": count(), "example": func("MIN", col("row"))}, f"quarantine_{found.view}")
            unusable = {code: (number, _short(example)) for code, number, example in self.engine.rows(Step("reasons", reasons.group_by(col("code"))))}
            quarantined = sum(number for number, _ in unusable.values())
            kept = exp.select(exp.Star()).distinct().from_(table(f"usable_{found.view}")).subquery("kept")
            different = self.engine.rows(Step("different", select({"rows": count()}, kept)))[0][0]
            facts.append(
                SourceFacts(
                    found.source.name, rows, usable, dict(sorted(unusable.items())), rows - usable - quarantined, usable - different,
                    found.naive, spans.get(found.source.name), found.source.max_lag,
                )  # fmt: skip
            )
        return LogFacts(self.timezone, self.columns, tuple(facts))

    def quarantine(self) -> pa.Table:
        """The rows that can't be used: source, code, reason, row (JSON text), in this order of columns and of rows."""
        import pyarrow as pa

        described = self._sound()
        parts = []
        for found in described:
            query = exp.select(*(col(name) for name in ("source", "code", "row"))).from_(table(f"quarantine_{found.view}"))
            parts.append(self.engine.arrow(Step("quarantine", query.order_by(col("code"), col("row")))))
        whole = pa.concat_tables(parts)
        reasons = pa.array([UNUSABLE[code][0] for code in whole.column("code").to_pylist()], pa.string())
        return whole.add_column(2, "reason", reasons)

    def fingerprint(self, until: datetime | None = None) -> str:
        """A digest of the usable rows known before `until`: the same rows in any order give the same digest."""
        columns = ["customer_id", "event_us", "known_us", "event", *TEXTS, *NUMBERS, *self.categories, *self.dimensions]
        hashed = func("HASH", *(col(name) for name in columns))
        query = select({"rows": count(), "digest": exp.Sum(this=cast_to(hashed, "HUGEINT"))}, self.table)
        if until is not None:
            limit = lit(microseconds(until))
            query = query.where(exp.LT(this=func("GREATEST", col("event_us"), func("COALESCE", col("known_us"), col("event_us"))), expression=limit))
        return hashlib.sha256(repr(self.engine.rows(Step("fingerprint", query))).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        """One line; reads the log."""
        start, end = self.observed
        rows = sum(row[2] for row in self.catalog)
        return f"EventLog({rows:,} events of {self.customers:,} customers, {start:%Y-%m-%d} to {end:%Y-%m-%d}, {self.timezone})"

    def _repr_html_(self) -> str:
        """For notebooks: one row per event."""
        import html

        cells = "".join(
            f"<tr><td>{html.escape(row[1])}</td><td>{html.escape(row[0])}</td><td>{row[2]:,}</td><td>{row[3]:,}</td></tr>" for row in self.catalog
        )
        return f"<p>{html.escape(repr(self))}</p><table><tr><th>event</th><th>source</th><th>events</th><th>customers</th></tr>{cells}</table>"


def _usable(rows: exp.Select, kept: Sequence[str], *, unique: bool) -> exp.Select:
    """The usable rows; with event ids, the first known of each, ties by time, customer and content."""
    usable = exp.Is(this=col("problem"), expression=exp.null())
    if not unique:
        return exp.select(*(col(name) for name in kept)).from_(rows.subquery("staged")).where(usable)
    order = [func("COALESCE", col("known_us"), col("event_us")), col("event_us"), *(col(name) for name in kept if name not in ("known_us", "event_us"))]
    copy = exp.Window(
        this=func("ROW_NUMBER"),
        partition_by=[col("event_id"), usable.copy()],
        order=exp.Order(expressions=[exp.Ordered(this=column, nulls_first=False) for column in order]),
    )
    numbered = exp.select(exp.Star(), exp.alias_(copy, "copy", quoted=True)).from_(rows.subquery("staged")).subquery("numbered")
    first = exp.or_(exp.EQ(this=col("copy"), expression=lit(1)), exp.Is(this=col("event_id"), expression=exp.null()))
    return exp.select(*(col(name) for name in kept)).from_(numbered).where(exp.and_(usable.copy(), first))


def _safe(name: str) -> str:
    """A column's name as the common model spells it: lower case, ``[a-z0-9_]``."""
    import re

    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "column"


def _short(text: Any) -> str:
    return "" if text is None else text if len(str(text)) <= 120 else f"{str(text)[:117]}..."
