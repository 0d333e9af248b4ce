"""One source of events: where its rows are, how its columns map to the common model, and the SQL that turns one into the other.

Rows that can't be used (no customer, no time, no event, a value that is not a number) never reach the log: they go to the quarantine with
the reason. Everything else is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlglot import exp

from persopredict.engines.expressions import DECIMAL, case, cast_to, col, every, func, lit, microseconds, select, some, table, try_cast_to
from persopredict.errors import Problem, did_you_mean
from persopredict.times import Duration


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value in every row; made by `lit`."""

    value: str


def constant(value: str) -> Constant:
    """A constant for a mapping: ``event=pp.lit("purchase")``.

    >>> constant("purchase")
    Constant(value='purchase')
    """
    return Constant(str(value))


Mapped = str | Constant
TEXTS = ("event_id", "order_id", "item_id", "currency", "channel")
NUMBERS = ("quantity", "value")
#: The common model, apart from category levels and dimensions.
MODEL = (
    "customer_id",
    "event_at",
    "event",
    "event_id",
    "known_at",
    "order_id",
    "item_id",
    "category",
    "quantity",
    "value",
    "currency",
    "channel",
)
REQUIRED = ("customer_id", "event_at", "event")

#: Why a row goes to quarantine: code, sentence, remedy. The first that applies is the row's reason.
UNUSABLE: Mapping[str, tuple[str, str]] = {
    "unreadable_line": (
        "a line of the file doesn't fit its header, or is not UTF-8",
        "write quotes around text with separators, and UTF-8",
    ),
    "null_customer_id": ("customer_id is null", "leave anonymous rows out, or give them an id"),
    "blank_customer_id": ("customer_id is blank", "leave anonymous rows out, or give them an id"),
    "null_event_at": ("event_at is null", "fill the time in, or leave the rows out"),
    "unparsable_event_at": ("event_at is not a time", "write times like 2017-12-03T06:00:00+01:00"),
    "ancient_event_at": ("event_at lies before 1900", "leave the placeholder out, or fill the time in"),
    "future_event_at": ("event_at lies in the future", "check clocks and time zones; planned events are not events yet"),
    "unparsable_known_at": ("known_at is not a time", "write times like 2017-12-03T06:00:00+01:00"),
    "future_known_at": ("known_at lies in the future", "check clocks and time zones; what is in the source is known by now"),
    "null_event": ("the event's name is null or blank", 'name the event, or give event=pp.lit("...")'),
    "unparsable_quantity": ("quantity is not a number, or beyond 10^12", "write 1234.5: no thousands separators, no unit"),
    "unparsable_value": ("value is not a number, or beyond 10^12", "write 1234.5: no thousands separators, no currency sign"),
    "unparsable_dimension": (
        "a numeric dimension is infinite or beyond 10^12",
        "turn it into text in the source, if it is a name and not an amount",
    ),
}
#: A time before it is a placeholder (0001-01-01, 1899-12-30), not something that a customer did.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_SPACES = " \t\r\n\u00a0\u2009\u200b\u3000\ufeff"


@dataclass(frozen=True)
class Source:
    """Rows and their mapping.

    `data` is a path, glob, frame, relation, table or query; `link` what to read a table or query with (a DuckDB connection or file).
    `mapping` goes from the common model's names to columns of `data` or constants; `categories` and `dimensions` from the names that they
    have in the log to columns. `observed` is the span in which the source is complete: None means from its first to its last event.
    """

    data: Any
    mapping: Mapping[str, Mapped]
    categories: Mapping[str, str] = field(default_factory=dict)
    dimensions: Mapping[str, Mapped] = field(default_factory=dict)
    link: Any = None
    timezone: str = "UTC"
    observed: tuple[datetime, datetime] | None = None
    max_lag: Duration = field(default_factory=Duration)
    name: str = "events"


#: The number of a row's customer in the order of their ids. A column of ours has a space in its name: no column of a log has.
CUSTOMER = "customer number"


@dataclass(frozen=True)
class Shape:
    """What the sources of a log have in common: category levels, dimensions, which of these are numbers, and the moment of reading."""

    categories: tuple[str, ...]
    dimensions: tuple[str, ...]
    numeric: frozenset[str]
    now_us: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the prepared log, calendar aside."""
        return ("customer_id", "event_us", "known_us", "event", *TEXTS, *NUMBERS, *self.categories, *self.dimensions, "source")

    @property
    def kept(self) -> tuple[str, ...]:
        """Those, and the customer's number."""
        return (*self.columns, CUSTOMER)


#: The offsets of a time zone, as `times.offsets` gives them: (valid before this instant, microseconds to add to UTC); the last has no end.
Offsets = Sequence[tuple[datetime | None, int]]


_STORED_AS = {"event_at": "event_us", "known_at": "known_us"}


@dataclass(frozen=True)
class Described:
    """A source together with the columns that the engine found in it, under the view `view`.

    `offsets`: for columns of naive timestamps, the offsets of the source's zone over the time that the column spans.
    """

    source: Source
    view: str
    types: Mapping[str, str]
    offsets: Mapping[str, Offsets] = field(default_factory=dict)

    def complete(self) -> Described:
        """The same, with the optional columns that carry the common model's own names mapped to themselves."""
        mapping = dict(self.source.mapping)
        for name in MODEL:
            if name not in mapping and name in self.types and name != "category":
                mapping[name] = name
        categories = dict(self.source.categories)
        if not categories and "category" in self.types:
            categories = {"category": "category"}
        return replace(self, source=replace(self.source, mapping=mapping, categories=categories))

    def problems(self) -> list[Problem]:
        """Columns that are missing or of a type that can't be read as what they should be."""
        source, found = self.source, []
        for name in REQUIRED:
            if name not in source.mapping:
                hint = did_you_mean(name, self.types)
                found.append(Problem("missing_column", f"no column for {name}", remedy=f"give {name}=; {hint}", source=source.name))
        mapped = {**source.mapping, **source.categories, **source.dimensions}
        for name, column in mapped.items():
            if isinstance(column, Constant):
                continue
            if column not in self.types:
                hint = did_you_mean(column, self.types)
                found.append(
                    Problem("missing_column", f"{name} is mapped to {column!r}, which is not there", remedy=hint, source=source.name)
                )
                continue
            kind = self.types[column]
            remedy = unreadable_as(name, kind)
            if remedy:
                text = f"{name} is mapped to {column!r} of type {kind}, which is not a {_WANTED.get(name, 'text, number or id')}"
                found.append(Problem("mistyped_column", text, remedy=remedy, source=source.name))
        return found

    @property
    def naive_columns(self) -> tuple[str, ...]:
        """The mapped columns of timestamps or dates that carry no offset."""
        mapped = (self.source.mapping.get(name) for name in ("event_at", "known_at"))
        return tuple(dict.fromkeys(column for column in mapped if isinstance(column, str) and _is_naive(self.types[column])))

    @property
    def naive(self) -> exp.Expression:
        """That a row's time carries no offset; texts decide each for itself."""
        column = self.source.mapping["event_at"]
        if isinstance(column, str) and _is_text(self.types[column]):
            # After a date and its separator, ISO 8601 has letters and signs in an offset only.
            clock = func("SUBSTR", func("TRIM", cast_to(col(column), "VARCHAR")), lit(12))
            return exp.Not(this=func("REGEXP_MATCHES", clock, lit("[-+A-Za-z]")))
        return cast_to(lit(column in self.naive_columns), "BOOLEAN")

    @property
    def numeric_dimensions(self) -> frozenset[str]:
        """The dimensions that hold numbers."""
        return frozenset(
            name for name, column in self.source.dimensions.items() if isinstance(column, str) and _is_number(self.types[column])
        )

    @property
    def stored(self) -> frozenset[str]:
        """The columns of the common model that differ from row to row; the others are the same everywhere, and are not stored."""
        source = self.source
        mapped = {**source.mapping, **source.categories, **source.dimensions}
        return frozenset({"customer_id", "event_us"} | {_STORED_AS.get(name, name) for name, by in mapped.items() if isinstance(by, str)})

    def constant_of(self, name: str, shape: Shape) -> exp.Expression:
        """The SQL of a column that is not stored."""
        source = self.source
        if name == "source":
            return cast_to(lit(source.name), "VARCHAR")
        if name == "known_us":
            return cast_to(exp.null(), "BIGINT")
        mapped = {**source.mapping, **source.categories, **source.dimensions}.get(name)
        return self.value_of(name, mapped, number=name in NUMBERS or name in shape.numeric)

    def value_of(self, name: str, mapped: Mapped | None, *, number: bool) -> exp.Expression:
        """The SQL of one column of the common model over the source's rows."""
        if mapped is None:
            return cast_to(exp.null(), DECIMAL if number else "VARCHAR")
        if isinstance(mapped, Constant):
            return cast_to(lit(mapped.value), "VARCHAR")
        column, kind = col(mapped), self.types[mapped]
        if number:
            return try_cast_to(_no_nan(column, kind), DECIMAL)
        if _is_fraction(kind):
            # Integers that passed through a frame with nulls come as 17.0; their canonical text is 17.
            whole = exp.EQ(this=func("FLOOR", column), expression=column)
            return case([(whole, cast_to(try_cast_to(column, "HUGEINT"), "VARCHAR"))], cast_to(column, "VARCHAR"))
        return cast_to(column, "VARCHAR")

    def instant_of(self, mapped: Mapped | None) -> exp.Expression:
        """Microseconds of a time column; null where it can't be read."""
        if mapped is None:
            return cast_to(exp.null(), "BIGINT")
        if isinstance(mapped, str) and mapped in self.offsets:
            local = try_cast_to(col(mapped), "TIMESTAMP")
            us = func("EPOCH_US", local)
            return case([(func("ISFINITE", local.copy()), us - exp.paren(_offset_at(us, self.offsets[mapped])))])
        text = isinstance(mapped, Constant) or _is_text(self.types[mapped])
        source = lit(mapped.value) if isinstance(mapped, Constant) else col(mapped)
        time = try_cast_to(func("TRIM", cast_to(source, "VARCHAR")) if text else source, "TIMESTAMPTZ")
        return case([(func("ISFINITE", time), func("EPOCH_US", time.copy()))])

    def rows(self, shape: Shape, *, whole: bool = False) -> exp.Select:
        """Every row in the common model, with `problem`: why it can't be used, or null; and `naive`, whether its time has no offset.

        `whole` adds the row itself as JSON, `row`.


        Two levels: a value is read in the inner one, and judged in the outer one without being read again.
        """
        source, mapping = self.source, self.source.mapping
        others = {
            **{name: source.categories.get(name) for name in shape.categories},
            **{name: source.dimensions.get(name) for name in shape.dimensions},
        }
        read = {
            "customer_id": self.value_of("customer_id", mapping["customer_id"], number=False),
            "event_us": self.instant_of(mapping["event_at"]),
            "known_us": self.instant_of(mapping.get("known_at")),
            "event": self.value_of("event", mapping["event"], number=False),
            **{name: self.value_of(name, mapping.get(name), number=name in NUMBERS) for name in (*TEXTS, *NUMBERS)},
            **{name: self.value_of(name, mapped, number=name in shape.numeric) for name, mapped in others.items()},
            "source": cast_to(lit(source.name), "VARCHAR"),
        }
        judged = {"event_us": mapping["event_at"], "known_us": mapping.get("known_at"), **{name: mapping.get(name) for name in NUMBERS}}
        judged |= {name: mapped for name, mapped in others.items() if name in shape.numeric}
        given = {name: condition for name, mapped in judged.items() if (condition := self.given(mapped)) is not None}
        inner = {**read, **{f"given {name}": condition for name, condition in given.items()}}
        inner["naive"] = self.naive
        if whole:
            inner["row"] = cast_to(func("TO_JSON", exp.column(exp.to_identifier(self.view, quoted=True))), "VARCHAR")
        problem = case([(condition, lit(code)) for code, condition in _unusable(set(given), shape).items()])
        kept = [*read, "naive", "row"] if whole else [*read, "naive"]
        return select(
            {**{name: col(name) for name in kept}, "problem": cast_to(problem, "VARCHAR")}, select(inner, table(self.view)).subquery("read")
        )

    def given(self, mapped: Mapped | None) -> exp.Expression | None:
        """That the source's column is neither null nor NaN; None where there is no column."""
        if not isinstance(mapped, str):
            return None
        present: exp.Expression = exp.Not(this=_is_null(col(mapped)))
        return every(present, exp.Not(this=func("ISNAN", col(mapped)))) if self.types[mapped] in _FLOATS else present

    def quarantine(self, shape: Shape) -> exp.Select:
        """The rows that can't be used: source, code and the row as JSON."""
        chosen = select(
            {"source": col("source"), "code": col("problem"), "row": col("row")}, self.rows(shape, whole=True).subquery("staged")
        )
        return chosen.where(exp.Not(this=_is_null(col("problem"))))


def _unusable(given: AbstractSet[str], shape: Shape) -> dict[str, exp.Expression]:
    """The condition of each reason; `given` are the columns of which it is known whether the source gave something."""

    def lost(*names: str) -> exp.Expression | None:
        """That something was given for one of them, and nothing readable came of it."""
        found = [every(col(f"given {name}"), _is_null(col(name))) for name in names if name in given]
        return some(*found) if found else None

    def later(name: str) -> exp.Expression:
        return exp.GT(this=col(name), expression=lit(shape.now_us))

    found = {
        "null_customer_id": _is_null(col("customer_id")),
        "blank_customer_id": is_blank(col("customer_id")),
        "null_event_at": exp.Not(this=col("given event_us")) if "event_us" in given else None,
        "unparsable_event_at": _is_null(col("event_us")),
        "ancient_event_at": exp.LT(this=col("event_us"), expression=lit(microseconds(EARLIEST))),
        "future_event_at": later("event_us"),
        "unparsable_known_at": lost("known_us"),
        "future_known_at": later("known_us") if "known_us" in given else None,
        "null_event": some(_is_null(col("event")), is_blank(col("event"))),
        "unparsable_quantity": lost("quantity"),
        "unparsable_value": lost("value"),
        "unparsable_dimension": lost(*(name for name in shape.dimensions if name in shape.numeric)),
    }
    return {code: condition for code in UNUSABLE if (condition := found.get(code)) is not None}


_FLOATS = ("FLOAT", "DOUBLE")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM")
_WANTED = {"event_at": "time", "known_at": "time", "quantity": "number", "value": "number"}


def unreadable_as(name: str, kind: str) -> str:
    """What to do about a column whose type can't be read as `name`; empty if it can."""
    nested = _is_nested(kind)
    if _WANTED.get(name) == "time":
        fits = not nested and (kind.startswith(("TIMESTAMP", "DATE")) or _is_text(kind))
        return "" if fits else "give dates, timestamps or ISO text; turn epoch numbers into timestamps first"
    if _WANTED.get(name) == "number":
        return "" if not nested and (_is_number(kind) or _is_text(kind)) else "give numbers"
    return "turn it into text or a number, in a query or in the frame" if nested else ""


def _is_null(expression: exp.Expression) -> exp.Expression:
    return exp.Is(this=expression.copy(), expression=exp.null())


def is_blank(text: exp.Expression) -> exp.Expression:
    """That a text holds only spaces of whatever kind. What starts with an ASCII sign other than a space is not looked at closer."""
    printable = every(exp.GTE(this=text, expression=lit("!")), exp.LTE(this=text.copy(), expression=lit("~")))
    return every(exp.Not(this=exp.paren(printable)), exp.EQ(this=func("TRIM", text.copy(), lit(_SPACES)), expression=lit("")))


def _offset_at(local: exp.Expression, offsets: Offsets) -> exp.Expression:
    """The zone's offset at a local time. One that a change skips or repeats is read as ICU reads it: skipped ones move forward, of repeated
    ones the later counts; so the change comes where the new offset's clock passes it.
    """
    branches = []
    for (until, offset), (_, following) in pairwise(offsets):
        if until is not None:
            branches.append((exp.LT(this=local.copy(), expression=lit(microseconds(until) + following)), lit(offset)))
    return case(branches, lit(offsets[-1][1]))


def _no_nan(column: exp.Expression, kind: str) -> exp.Expression:
    """NaN is how frames spell null."""
    return case([(exp.Not(this=func("ISNAN", column)), column.copy())]) if kind in _FLOATS else column


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "VARIANT", "GEOMETRY"))


def _is_naive(kind: str) -> bool:
    return kind in ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")


def _is_text(kind: str) -> bool:
    return kind in ("VARCHAR", "JSON", "NULL") or kind.startswith("ENUM")


def _is_number(kind: str) -> bool:
    return kind in (*_FLOATS, *_INTEGERS, "BOOLEAN") or kind.startswith("DECIMAL")


def _is_fraction(kind: str) -> bool:
    return kind in _FLOATS or kind.startswith("DECIMAL")
