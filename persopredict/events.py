"""`EventLog`: many sources under one common model, read by an engine, checked before use.

A log is a value until somebody asks it something; then its engine reads the sources once, sets unusable rows apart and keeps the rest as
the table `events`, with times in microseconds. Nothing of it comes into Python but small facts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import narwhals as nw
from sqlglot import exp

from persopredict import intake, log_text, lookup_intake, lookups, progress
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import cast_to, col, count, every, func, lit, microseconds, moment, select, table
from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.features.spec import CALENDAR
from persopredict.intake import Intake
from persopredict.lookup_intake import LookupIntake
from persopredict.lookups import DescribedLookup, JoinedLookup, Lookup
from persopredict.mapping import different, mapping_problems, name_problems, safe, span_of
from persopredict.sources import CUSTOMER, MODEL, NUMBERS, TEXTS, UNUSABLE, Described, Mapped, Shape, Source
from persopredict.targets import Target
from persopredict.times import Duration, instant, zone
from persopredict.usability import UNUSABLE_FACTS, LogFacts, SourceFacts, UsabilityReport, assess

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Moment = str | datetime
#: What the engine gets of the memory that a log may take.
_ENGINE_SHARE = 0.6


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
    EventLog(events, not read yet, UTC)
    >>> log.check().codes()
    ['naive_times', 'negative_value']
    >>> log
    EventLog(3 events of 2 customers, 2024-01-01 to 2024-02-01, UTC)
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
            "customer_id": customer_id, "event_at": event_at, "event": event, "event_id": event_id, "known_at": known_at,
            "order_id": order_id, "item_id": item_id, "quantity": quantity, "value": value, "currency": currency, "channel": channel,
        }  # fmt: skip
        mapping = {key: column for key, column in given.items() if column is not None}
        levels = (category,) if isinstance(category, str) else tuple(category or ())
        extra = list(dimensions.items()) if isinstance(dimensions, Mapping) else [(safe(column), column) for column in dimensions or ()]
        problems = [*name_problems(levels, extra), *mapping_problems({**mapping, **dict(extra)}, levels)]
        span = None if observed is None else span_of(observed, timezone, problems)
        if problems:
            raise SpecificationError("the log is described wrongly", problems)
        categories = {"category": levels[0]} if levels else {}
        if len(levels) > 1:
            categories |= {safe(level): level for level in levels}
        self._sources: tuple[Source, ...] = (
            Source(source, mapping, categories, dict(extra), engine, timezone, span, Duration.parse(max_lag), name),
        )
        self._lookups: tuple[Lookup, ...] = ()
        self._memory_limit: str | None = None
        self._threads: int | None = None
        self.zone = zone(timezone)
        self.timezone = timezone

    def join(self, *lookups: Lookup) -> EventLog:
        """A log with the facts of these lookups as further columns; this one stays as it is.

        Facts are columns like any other for features, conditions, cohorts and default features, and an event has those that were in force
        at the cutoff. A log that was read already is read again: join first, then ask.

        Raises `SpecificationError` with every problem: a key that no log has, or a fact of a name that is taken.

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"customer_id": [1, 2], "event_at": ["2024-01-01", "2024-01-02"], "event": ["visit", "visit"]})
        >>> tiers = Lookup(pd.DataFrame({"customer_id": ["1"], "tier": ["gold"]}), key="customer_id", columns=["tier"])
        >>> EventLog(frame).join(tiers).prepare()
        EventLog(2 events of 2 customers, 2024-01-01 to 2024-01-02, UTC; tier by customer_id)
        """
        strange = sorted({type(each).__name__ for each in lookups if not isinstance(each, Lookup)})
        if strange or not lookups:
            raise SpecificationError(f"join takes lookups, got {', '.join(strange) or 'none'}; write events.join(pp.Lookup(...))")
        return self._like(self._sources, (*self._lookups, *lookups))

    def _like(self, sources: Sequence[Source], facts: Sequence[Lookup]) -> EventLog:
        """A log of these sources and lookups, with names of their own; raises `SpecificationError` if the facts don't fit in."""
        levels = [name for source in sources for name in source.categories]
        problems = lookups.join_problems(facts, levels, [name for source in sources for name in source.dimensions])
        if problems:
            raise SpecificationError("the lookups can't be joined", problems)
        whole = type(self).__new__(type(self))
        names = different(source.name for source in sources)
        whole._sources = tuple(replace(source, name=name) for source, name in zip(sources, names, strict=True))
        whole._lookups, whole.zone, whole.timezone = tuple(facts), self.zone, self.timezone
        whole._memory_limit, whole._threads = self._memory_limit, self._threads
        return whole

    def limited(self, *, memory: str | None = None, threads: int | None = None) -> EventLog:
        """A log that takes about so much memory, spilling to disk beyond it, and so many threads; this one stays as it is.

        Parameters
        ----------
        memory : like ``"4GB"``; default four fifths of the machine's. Three fifths are the engine's, which overshoots a little; the rest is
            for what is being folded.
        threads : default all cores.

        Raises `SpecificationError` if one of them can't be read.

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"customer_id": [1], "event_at": ["2024-01-01"], "event": ["visit"]})
        >>> EventLog(frame).limited(memory="1GB", threads=1).prepare()
        EventLog(1 event of 1 customer, 2024-01-01 to 2024-01-01, UTC)
        """
        problems = []
        amount = None if memory is None else re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", str(memory))
        if memory is not None and (amount is None or not float(amount[1])):
            problems.append(Problem("memory_limit", f"{memory!r} is no amount of memory", remedy="write it like '4GB'"))
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            problems.append(Problem("threads", f"{threads!r} is no number of threads", remedy="give 1 or more"))
        if problems:
            raise SpecificationError("the limits are wrong", problems)
        whole = self._like(self._sources, self._lookups)
        share = self._memory_limit if amount is None else f"{_ENGINE_SHARE * float(amount[1]):.3f}{amount[2]}"
        whole._memory_limit, whole._threads = share, threads or self._threads
        return whole

    @classmethod
    def union(cls, *logs: EventLog) -> EventLog:
        """Several logs under one model: columns that one of them lacks are null there, and the lookups of each are lookups of all.

        Raises `SpecificationError` if there are none, if their time zones differ, or if two lookups give facts of the same name.
        """
        if not logs:
            raise SpecificationError("union needs at least one log")
        zones = sorted({log.timezone for log in logs})
        if len(zones) > 1:
            raise SpecificationError(
                f"the logs' time zones differ ({', '.join(zones)}): days would not be the same days; give all one timezone"
            )
        facts = dict.fromkeys(each for log in logs for each in log._lookups)
        return logs[0]._like([source for log in logs for source in log._sources], list(facts))

    # What the log holds ----------------------------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Engine:
        """The engine that holds the log's tables; made on first use."""
        from persopredict.engines.duckdb import DuckDBEngine

        return DuckDBEngine(memory_limit=self._memory_limit, threads=self._threads)

    @cached_property
    def _described(self) -> tuple[tuple[Described, ...], tuple[Problem, ...]]:
        described, problems = [], []
        for position, source in enumerate(self._sources):
            view = f"source_{position}"
            try:
                found = Described(source, view, self.engine.describe(source.data, link=source.link, name=view)).complete()
            except DataError as error:
                problems += [problem if problem.source else replace(problem, source=source.name) for problem in error.problems]
                continue
            described.append(found)
            problems += found.problems()
        return tuple(described), tuple(problems)

    @cached_property
    def _intakes(self) -> tuple[tuple[Intake, ...], tuple[Problem, ...]]:
        """What became of the rows of each source that could be read, and what kept the others from it."""
        progress.step("reading the events")
        described, problems = self._described
        shape = Shape(self.categories, self._own_dimensions, self._numeric_dimensions, self._read_us)
        failed = list(problems)

        def each(make: Callable[[Any], Any], sources: Sequence[Any]) -> list[Any]:
            found = []
            for source in sources:
                try:
                    found.append(make(source))
                except DataError as error:
                    failed.extend(error.problems)
            return found

        staged = each(lambda found: intake.stage(self.engine, found, shape), [found for found in described if not found.problems()])
        if staged:
            intake.number_customers(self.engine, staged)
        return tuple(each(lambda source: intake.read(self.engine, source, shape), staged)), tuple(failed)

    @cached_property
    def _read_us(self) -> int:
        """When the log was read: what claims to be later can't be known yet."""
        return microseconds(datetime.now(UTC))

    @cached_property
    def _described_lookups(self) -> tuple[tuple[DescribedLookup, ...], tuple[Problem, ...]]:
        return lookup_intake.describe(self.engine, self._lookups, self.timezone)

    @cached_property
    def _lookup_intakes(self) -> tuple[tuple[LookupIntake, ...], tuple[Problem, ...]]:
        """What became of the rows of each lookup that could be read, and what kept the others from it."""
        described, problems = self._described_lookups
        complete = len(self._described[0]) == len(self._sources)
        read, failed = lookup_intake.read_all(
            self.engine, described, self.columns, self._numeric_dimensions, complete=complete, now_us=self._read_us
        )
        return read, (*problems, *failed)

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
        """Names of the further columns, the facts of lookups included."""
        return (*self._own_dimensions, *(name for each in self.lookups for name in each.columns))

    @cached_property
    def _own_dimensions(self) -> tuple[str, ...]:
        """Names of the further columns that the events themselves have."""
        return tuple(dict.fromkeys(name for found in self._described[0] for name in found.source.dimensions))

    @cached_property
    def lookups(self) -> tuple[JoinedLookup, ...]:
        """The lookups with the names of their tables, which the engine holds once the log is prepared."""
        return lookups.joined(self._lookups)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the common model that some source or lookup fills, calendar columns included."""
        filled = {name for found in self._described[0] for name in found.source.mapping}
        return (*(name for name in MODEL if name in filled), *self.categories, *self.dimensions, *CALENDAR)

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        numbers = {*NUMBERS, *CALENDAR, *self._numeric_dimensions, *(name for each in self._described_lookups[0] for name in each.numeric)}
        return tuple(name for name in self.columns if name in numbers)

    @cached_property
    def _numeric_dimensions(self) -> frozenset[str]:
        """Dimensions that are numbers in every source that has them; what is text in one is text in all."""
        numbers = {name for found in self._described[0] for name in found.numeric_dimensions}
        texts = {name for found in self._described[0] for name in found.source.dimensions if name not in found.numeric_dimensions}
        return frozenset(numbers - texts)

    # Reading the sources ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> EventLog:
        """Read the sources now rather than at the first question; raises `DataError` as any question would."""
        with progress.task("events"):
            assert self.table
            assert self.catalog
            assert self.customers
        return self

    @cached_property
    def table(self) -> str:
        """The name of the prepared table `events`: usable rows in the common model. Reads the sources and the lookups once.

        Raises `DataError` with every problem if columns are missing or mistyped, or if no usable event is left.
        """
        intakes, problems = self._intakes[0], (*self._intakes[1], *self._lookup_intakes[1])
        if problems:
            raise DataError("the log can't be read", problems)
        kept = self._kept
        parts: list[Any] = [exp.select(*(col(name) for name in kept)).from_(table(read.usable_table)) for read in intakes]
        self.engine.view(Step("log", reduce(lambda whole, part: exp.union(whole, part, distinct=False), parts)))
        first, last = self._span_of_log()
        if first is None or last is None:
            raise DataError("the log can't be used", assess(self._facts_of(intakes), 0).problems)
        self.engine.view(Step("events", intake.with_calendar(kept, self.zone, first, last)))
        return "events"

    @property
    def _kept(self) -> tuple[str, ...]:
        return Shape(self.categories, self._own_dimensions, frozenset(), 0).kept

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns of `table`: those of the sources, and the calendar."""
        return (*self._kept, *CALENDAR)

    @cached_property
    def shares(self) -> dict[float, Any]:
        """The log with some of its customers alone, by their share; see `drawn`."""
        return {}

    @property
    def owners(self) -> str:
        """The name of the table of customers, with their ids and numbers."""
        assert self.table
        return intake.CUSTOMERS

    def _span_of_log(self) -> tuple[int | None, int | None]:
        sides = {"first": func("MIN", col("event_us")), "last": func("MAX", col("event_us"))}
        first, last = self.engine.rows(Step("span", select(sides, "log")))[0]
        return first, last

    @cached_property
    def span_us(self) -> tuple[int, int]:
        """The times of the first and the last usable event, in microseconds."""
        self.prepare()
        first, last = self._span_of_log()
        assert first is not None
        assert last is not None
        return first, last

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
    def catalog(self) -> list[tuple[str, str, int, int, int]]:
        """(source, event, rows, first, last in microseconds) of the usable rows, most frequent first."""
        query = select(
            {
                "source": col("source"),
                "event": col("event"),
                "rows": count(),
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

    def values_of(self, column: str, most: int, until: datetime | None = None, *, held_by: int = 1) -> tuple[str, ...]:
        """The most frequent values of a text column before `until`, ties by name, each of at least `held_by` customers; none if the log
        lacks the column. Facts are as they stood at `until`, by default as they stand now.
        """
        if column not in self.columns:
            return ()
        query = select({"value": col(column), "rows": count()}, self.table).where(_known_before(until))
        for each in self.lookups:
            if column in each.columns:
                at_us = lit(self._read_us if until is None else microseconds(until))
                query = query.join(table(each.table), on=every(each.matches(self.table), each.in_force(at_us)))
        query = query.where(exp.Not(this=exp.Is(this=col(column), expression=exp.null())))
        query = query.group_by(col(column)).order_by(exp.Ordered(this=col("rows"), desc=True), col("value")).limit(most)
        if held_by > 1:
            holders = exp.Count(this=exp.Distinct(expressions=[col("customer_id")]))
            query = query.having(exp.GTE(this=holders, expression=lit(held_by)))
        return tuple(row[0] for row in self.engine.rows(Step("values", query)))

    def spans(self) -> dict[str, tuple[datetime, datetime]]:
        """For each source, the span in which it was observed: as given, or from its first event to its last, that one included."""
        found: dict[str, tuple[datetime, datetime]] = {}
        for source in self._sources:
            rows = [row for row in self.catalog if row[0] == source.name]
            if source.observed is not None:
                found[source.name] = source.observed
            elif rows:
                found[source.name] = (moment(min(row[3] for row in rows)), moment(max(row[4] for row in rows) + 1))
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
        moment_ = None if as_of is None else instant(as_of, self.zone)
        with progress.task("check"):
            intakes, structural = self._intakes[0], (*self._intakes[1], *self._lookup_intakes[1])
            if structural or not any(read.usable for read in intakes):
                return assess(replace(self._facts_of(intakes), structural=structural), 0)
            return assess(self._facts, self.customers, targets, moment_)

    @property
    def source_facts(self) -> tuple[SourceFacts, ...]:
        """What each source held: rows, usable rows, reasons, span."""
        return self._facts.sources

    @cached_property
    def _facts(self) -> LogFacts:
        facts = self._facts_of(self._intakes[0], self.spans(), self.table)
        events: dict[str, tuple[int, int]] = {}
        holders: dict[str, set[str]] = {}
        seen: dict[str, tuple[datetime, datetime]] = {}
        for source, event, rows, first, last in self.catalog:
            events[event] = (events.get(event, (0, 0))[0] + rows, 0)
            begin, end = seen.get(event, (moment(first), moment(last)))
            seen[event] = (min(begin, moment(first)), max(end, moment(last)))
            holders.setdefault(event, set()).add(source)
        for event, customers in self._customers_of.items():
            events[event] = (events[event][0], customers)
        numbers = [name for name in NUMBERS if name in self.columns]
        negatives: dict[str, int] = {}
        if numbers:
            query = select({name: count(exp.LT(this=col(name), expression=lit(0))) for name in numbers}, self.table)
            negatives = dict(zip(numbers, self.engine.rows(Step("negatives", query))[0], strict=True))
        return replace(
            facts, events=events, negatives=negatives, currencies=tuple(sorted(self.values_of("currency", 100))),
            sources_of={name: frozenset(sources) for name, sources in holders.items()}, spans=seen,
        )  # fmt: skip

    @cached_property
    def _customers_of(self) -> dict[str, int]:
        """Customers of each event."""
        query = select({"event": col("event"), "customers": exp.Count(this=exp.Distinct(expressions=[col(CUSTOMER)]))}, self.table)
        return dict(self.engine.rows(Step("customers_of", query.group_by(col("event")))))

    def _facts_of(
        self, intakes: Sequence[Intake], spans: Mapping[str, tuple[datetime, datetime]] | None = None, events: str | None = None
    ) -> LogFacts:
        """The facts of the sources and lookups alone, which can be had even if no row is usable; then there is no table `events`."""
        facts = tuple(read.facts(self.engine, (spans or {}).get(read.name)) for read in intakes)
        lookups_ = tuple(read.facts(self.engine, events) for read in self._lookup_intakes[0])
        return LogFacts(self.timezone, self.columns, facts, numeric=self.numeric, lookups=lookups_, categories=self.categories)

    def quarantine(self) -> pa.Table:
        """The rows that can't be used: source, code, reason, row (JSON text), in this order of columns and of rows."""
        import pyarrow as pa

        assert self.table
        parts = []
        tables = [read.quarantine_table for read in self._intakes[0]] + [read.quarantine_table for read in self._lookup_intakes[0]]
        for name in tables:
            query = exp.select(*(col(column) for column in ("source", "code", "row"))).from_(table(name))
            parts.append(self.engine.arrow(Step("quarantine", query.order_by(col("code"), col("row")))))
        whole = pa.concat_tables(parts)
        sentences = {code: text for code, (text, _) in (*UNUSABLE.items(), *UNUSABLE_FACTS.items())}
        reasons = pa.array([sentences[code] for code in whole.column("code").to_pylist()], pa.string())
        return whole.add_column(2, "reason", reasons)

    def fingerprint(self, until: datetime | None = None) -> str:
        """A digest of the usable rows, and of the facts of lookups, known before `until`: in any order they give the same digest."""
        columns = ["customer_id", "event_us", "known_us", "event", *TEXTS, *NUMBERS, *self.categories, *self._own_dimensions]
        hashed = func("HASH", *(col(name) for name in columns))
        query = select({"rows": count(), "digest": exp.Sum(this=cast_to(hashed, "HUGEINT"))}, self.table).where(_known_before(until))
        found: list[Any] = self.engine.rows(Step("fingerprint", query))
        for each in self.lookups:
            facts = self.engine.rows(Step("fingerprint", each.known_before(None if until is None else microseconds(until))))
            found += [each.key, *each.columns, *facts]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        """One line, of what is known without reading the log."""
        return f"EventLog({log_text.line(self._known)})"

    def _repr_html_(self) -> str:
        return log_text.page(self._known)

    @property
    def _known(self) -> log_text.Known:
        """What has been found out so far."""
        found = vars(self)
        counted = found.get("catalog"), self.observed if "catalog" in found else None
        return log_text.Known(self._sources, self.lookups, self.timezone, *counted, found.get("customers"), found.get("_customers_of"))


def _known_before(until: datetime | None) -> exp.Expression:
    """The rows that had happened and were known before `until`; all without it."""
    if until is None:
        return exp.true()
    known = func("GREATEST", col("event_us"), func("COALESCE", col("known_us"), col("event_us")))
    return exp.LT(this=known, expression=lit(microseconds(until)))
