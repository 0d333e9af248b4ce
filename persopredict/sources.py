"""One source of events: where its rows are, how its columns map to the common model, and the SQL that turns one into the other.

Rows that can't be used (no customer, no time, no event, a value that is not a number) never reach the log: they go to the quarantine with
the reason. Everything else is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlglot import exp

from persopredict.engines.base import Step
from persopredict.engines.expressions import DECIMAL, both, case, cast_to, col, func, lit, select, table, try_cast_to
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
MODEL = ("customer_id", "event_at", "event", "event_id", "known_at", "order_id", "item_id", "category", "quantity", "value", "currency", "channel")
REQUIRED = ("customer_id", "event_at", "event")

#: Why a row goes to quarantine: code, sentence, remedy. The first that applies is the row's reason.
UNUSABLE: Mapping[str, tuple[str, str]] = {
    "null_customer_id": ("customer_id is null", "leave anonymous rows out, or give them an id"),
    "blank_customer_id": ("customer_id is blank", "leave anonymous rows out, or give them an id"),
    "null_event_at": ("event_at is null", "fill the time in, or leave the rows out"),
    "unparsable_event_at": ("event_at is not a time", "write times like 2017-12-03T06:00:00+01:00"),
    "future_event_at": ("event_at lies in the future", "check clocks and time zones; planned events are not events yet"),
    "unparsable_known_at": ("known_at is not a time", "write times like 2017-12-03T06:00:00+01:00"),
    "null_event": ("the event's name is null or blank", 'name the event, or give event=pp.lit("...")'),
    "unparsable_quantity": ("quantity is not a number, or beyond 10^12", "write 1234.5: no thousands separators, no unit"),
    "unparsable_value": ("value is not a number, or beyond 10^12", "write 1234.5: no thousands separators, no currency sign"),
}


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
    max_lag: Duration = Duration()
    name: str = "events"


@dataclass(frozen=True)
class Described:
    """A source together with the columns that the engine found in it, under the view `view`."""

    source: Source
    view: str
    types: Mapping[str, str]

    def complete(self) -> Described:
        """The same, with the optional columns that carry the common model's own names mapped to themselves."""
        mapping = dict(self.source.mapping)
        for name in MODEL:
            if name not in mapping and name in self.types and name != "category":
                mapping[name] = name
        categories = dict(self.source.categories)
        if not categories and "category" in self.types:
            categories = {"category": "category"}
        source = self.source
        return Described(
            Source(
                source.data, mapping, categories, source.dimensions, source.link, source.timezone, source.observed, source.max_lag, source.name
            ),
            self.view,
            self.types,
        )

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
                found.append(Problem("missing_column", f"{name} is mapped to {column!r}, which is not there", remedy=hint, source=source.name))
            elif name in ("event_at", "known_at") and not _is_time(self.types[column]):
                found.append(
                    Problem(
                        "mistyped_column",
                        f"{name} is mapped to {column!r} of type {self.types[column]}, which is not a time",
                        remedy="give dates, timestamps or ISO text; turn epoch numbers into timestamps first",
                        source=source.name,
                    )
                )
            elif name in NUMBERS and not (_is_number(self.types[column]) or _is_text(self.types[column])):
                found.append(
                    Problem("mistyped_column", f"{name} is mapped to {column!r} of type {self.types[column]}", remedy="give numbers", source=source.name)
                )
        return found

    @property
    def naive(self) -> bool:
        """Whether its times carry no offset, so that the log's time zone decides."""
        column = self.source.mapping["event_at"]
        return not isinstance(column, Constant) and "WITH TIME ZONE" not in self.types[column]

    @property
    def numeric_dimensions(self) -> frozenset[str]:
        """The dimensions that hold numbers."""
        return frozenset(
            name for name, column in self.source.dimensions.items() if not isinstance(column, Constant) and _is_number(self.types[column])
        )

    def value_of(self, name: str, mapped: Mapped | None) -> exp.Expression:
        """The SQL of one column of the common model over the source's rows."""
        if mapped is None:
            return cast_to(exp.null(), DECIMAL if name in NUMBERS else "VARCHAR")
        if isinstance(mapped, Constant):
            return cast_to(lit(mapped.value), "VARCHAR")
        column, kind = col(mapped), self.types[mapped]
        if name in NUMBERS or name in self.numeric_dimensions:
            return try_cast_to(_no_nan(column, kind), DECIMAL)
        if kind in ("FLOAT", "DOUBLE"):
            # Integers that passed through a frame with nulls come as 17.0; their canonical text is 17.
            whole = exp.EQ(this=func("FLOOR", column), expression=column)
            return case([(whole, cast_to(try_cast_to(column, "HUGEINT"), "VARCHAR"))], cast_to(column, "VARCHAR"))
        return cast_to(column, "VARCHAR")

    def instant_of(self, mapped: Mapped | None) -> exp.Expression:
        """Microseconds of a time column; null where it can't be read."""
        if mapped is None:
            return cast_to(exp.null(), "BIGINT")
        source = lit(mapped.value) if isinstance(mapped, Constant) else col(mapped)
        time = try_cast_to(source, "TIMESTAMPTZ")
        return case([(func("ISFINITE", time), func("EPOCH_US", time))])

    def rows(self, categories: tuple[str, ...], dimensions: tuple[str, ...], *, now_us: int) -> exp.Select:
        """Every row in the common model, with `problem`: why it can't be used, or null."""
        source, mapping = self.source, self.source.mapping
        columns = {
            "customer_id": self.value_of("customer_id", mapping["customer_id"]),
            "event_us": self.instant_of(mapping["event_at"]),
            "known_us": self.instant_of(mapping.get("known_at")),
            "event": self.value_of("event", mapping["event"]),
            **{name: self.value_of(name, mapping.get(name)) for name in (*TEXTS, *NUMBERS)},
            **{name: self.value_of(name, source.categories.get(name)) for name in categories},
            **{name: self.value_of(name, source.dimensions.get(name)) for name in dimensions},
        }
        problem = case([(condition, lit(code)) for code, condition in self._unusable(columns, now_us).items()])
        return select({**columns, "source": lit(source.name), "problem": problem}, table(self.view))

    def _unusable(self, columns: Mapping[str, exp.Expression], now_us: int) -> dict[str, exp.Expression]:
        def null(name: str) -> exp.Expression:
            return exp.Is(this=columns[name].copy(), expression=exp.null())

        def given(name: str) -> exp.Expression | None:
            mapped = self.source.mapping.get(name)
            if mapped is None or isinstance(mapped, Constant):
                return None
            present = exp.Not(this=exp.Is(this=col(mapped), expression=exp.null()))
            if self.types[mapped] in ("FLOAT", "DOUBLE"):
                present = exp.and_(present, exp.Not(this=func("ISNAN", col(mapped))))
            return present

        def blank(name: str) -> exp.Expression:
            return exp.EQ(this=func("TRIM", columns[name].copy()), expression=lit(""))

        event_at = given("event_at")
        found: dict[str, exp.Expression] = {
            "null_customer_id": null("customer_id"),
            "blank_customer_id": blank("customer_id"),
            "null_event_at": exp.Not(this=event_at) if event_at is not None else exp.false(),
            "unparsable_event_at": null("event_us"),
            "future_event_at": exp.GT(this=columns["event_us"].copy(), expression=lit(now_us)),
            "null_event": exp.or_(null("event"), blank("event")),
        }
        for code, name, result in (
            ("unparsable_known_at", "known_at", "known_us"),
            ("unparsable_quantity", "quantity", "quantity"),
            ("unparsable_value", "value", "value"),
        ):
            condition = both([given(name), null(result) if given(name) is not None else None])
            if condition is not None:
                found[code] = condition
        return {code: found[code] for code in UNUSABLE if code in found}

    def quarantine(self, *, now_us: int) -> Step:
        """The rows that can't be used: source, code and the row as JSON."""
        rows = self.rows((), (), now_us=now_us)
        row = named_json(self.view)
        query = rows.select(row).subquery("staged")
        chosen = select({"source": col("source"), "code": col("problem"), "row": col("raw")}, query)
        return Step(f"quarantine_{self.view}", chosen.where(exp.Not(this=exp.Is(this=col("problem"), expression=exp.null()))))


def named_json(view: str) -> exp.Expression:
    """The whole row of a view as JSON text, under the name ``raw``."""
    return exp.alias_(cast_to(func("TO_JSON", exp.column(exp.to_identifier(view, quoted=True))), "VARCHAR"), "raw", quoted=True)


def _no_nan(column: exp.Expression, kind: str) -> exp.Expression:
    """NaN is how frames spell null."""
    return case([(exp.Not(this=func("ISNAN", column)), column)]) if kind in ("FLOAT", "DOUBLE") else column


def _is_time(kind: str) -> bool:
    return kind.startswith(("TIMESTAMP", "DATE")) or _is_text(kind)


def _is_text(kind: str) -> bool:
    return kind in ("VARCHAR", "UUID", "JSON") or kind.startswith("ENUM")


def _is_number(kind: str) -> bool:
    return kind in ("FLOAT", "DOUBLE", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "BOOLEAN") or kind.startswith(("DECIMAL", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "UHUGEINT"))
