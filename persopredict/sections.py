"""The tables of `persopredict.toml`, one flat pydantic model each.

The description of a field says what is allowed there, in the words shown to whoever wrote something else. A validator
that knows more raises `ValueError` with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, StringConstraints

from persopredict import conditions
from persopredict.errors import SpecificationError, did_you_mean
from persopredict.features.spec import CALENDAR
from persopredict.sources import MODEL, Constant
from persopredict.targets import KINDS_OF_AFFINITY
from persopredict.times import Duration, instant, zone
from persopredict.wording import Wording

Moment = str | date | datetime


def _duration(text: str) -> str:
    try:
        return str(Duration.parse(text))
    except SpecificationError:
        raise ValueError from None


def _horizon(text: str) -> str:
    if not Duration.parse(_duration(text)):
        raise ValueError("a horizon has some length")
    return _duration(text)


def _zone(name: str) -> str:
    try:
        zone(name)
    except SpecificationError:
        raise ValueError(f"there is no such time zone; {did_you_mean(name, available_timezones())}") from None
    return name


def _condition(text: str) -> str:
    return conditions.canonical(text) or ""


def _period(value: object) -> tuple[Moment, Moment]:
    """`[start, end]`, the start before the end; the log's time zone is applied later."""
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(edge, str | date) for edge in value):
        raise ValueError
    start, end = value
    if instant(start) >= instant(end):
        raise ValueError("the start is not before the end")
    return start, end


def _names(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError
    return tuple(names)


def _column(value: object) -> str | Constant:
    """A column's name, or ``{ lit = "EUR" }``: the same value in every row."""
    if isinstance(value, dict) and set(value) == {"lit"} and isinstance(value["lit"], str) and value["lit"].strip():
        return Constant(value["lit"])
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _dimensions(value: object) -> dict[str, str | Constant]:
    if isinstance(value, list):
        value = {name: name for name in _names(value)}
    if not isinstance(value, dict):
        raise ValueError
    for name in value:
        if name in (*MODEL, *CALENDAR):
            raise ValueError(f"{name!r} is a name of the common model")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise ValueError(f"{name!r} is not a name of a-z, 0-9 and _; write {{ name = {name!r} }}")
    return {name: _column(column) for name, column in value.items()}


def _facts(value: object) -> dict[str, str | Constant]:
    found = _dimensions(value)
    if not found:
        raise ValueError("there are no facts")
    return found


def _words(value: object, argument: str) -> Any:
    """What `Wording` takes as this argument; its own problems are the reason where it does not."""
    if not isinstance(value, str) and not (isinstance(value, dict) and all(isinstance(text, str) for text in value.values())):
        raise ValueError
    given: dict[str, Any] = {argument: value}
    try:
        Wording(**given)
    except SpecificationError as error:
        raise ValueError("; ".join(problem.message for problem in error.problems) or str(error)) from None
    return value


def _key(value: object) -> str | dict[str, str]:
    """A column of the common model; or ``{ customer_id = "client" }``, with the column of the source."""
    if isinstance(value, dict) and len(value) == 1 and all(isinstance(side, str) and side.strip() for side in next(iter(value.items()))):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
DurationText = Annotated[str, AfterValidator(_duration)]
Condition = Annotated[Text, AfterValidator(_condition)]
Column = Annotated[str | Constant, PlainValidator(_column)]
Names = Annotated[tuple[str, ...], PlainValidator(_names)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Natural = Annotated[int, Field(ge=0)]

_DURATION = "a duration <int>h, <int>d or <int>w, like '28d'"
_CONDITION = "a condition over the common model, like \"channel = 'web'\""
_EVENT = "the name of an event, or a list of names"


class Section(BaseModel):
    """A flat table: unknown keys are errors, nothing is coerced, and `repr` shows no values, as they may be secrets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The names of the keys that the file sets."""
        return ((None, name) for name in sorted(self.model_fields_set))

    def given(self) -> dict[str, Any]:
        """The values that the file sets, by key."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class Project(Section):
    """`[project]`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}$")] = Field(
        "persopredict", description="a name of letters, digits, spaces, '_', '.' and '-'"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="an IANA time zone, like 'Europe/Madrid'")


class Source(Section):
    """`[source]`: the engine and, for tables and queries, its database."""

    engine: Literal["duckdb"] = Field("duckdb", description="'duckdb'")
    url: Text | None = Field(None, description="the path of a DuckDB database, which [[events]] and [[lookups]] with table or query read")


class Rows(Section):
    """Where the rows of a source are: exactly one of path, table and query."""

    name: Text | None = Field(None, description="a name for this source")
    path: Annotated[str, StringConstraints(pattern=r"(?i)\.(parquet|pq|csv|csv\.gz|tsv|txt)$")] | None = Field(
        None, description="a Parquet or CSV file or a glob, like 'data/sales-*.parquet'"
    )
    table: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")] | None = Field(
        None, description="the name of a table in the database of source.url, like 'sales' or 'shop.sales'"
    )
    query: Text | None = Field(None, description="a SELECT, on the database of source.url if there is one")

    @property
    def source_name(self) -> str:
        """The name for messages: as given, or that of the table or file."""
        return self.name or self.table or (Path(self.path).name if self.path else "query")


class Events(Rows):
    """One `[[events]]`, its columns apart."""

    event: Text | None = Field(None, description="the name of the event that every row is, like 'purchase'")
    observed: Annotated[tuple[Moment, Moment] | None, PlainValidator(_period)] = Field(
        None, description="[start, end], the period the source covers, like ['2017-01-01', '2018-01-01']"
    )
    max_lag: DurationText = Field("0d", description=f"{_DURATION}: how late an event may arrive")


class Columns(Section):
    """`[events.columns]`: name in the common model = column of the source; by default the column of that very name."""

    customer_id: Text | None = Field(None, description="the column with the customer's id")
    event_at: Text | None = Field(None, description="the column with the time of the event")
    event: Column | None = Field(None, description="the column with the name of the event")
    event_id: Text | None = Field(None, description="the column that is equal for duplicates only")
    known_at: Text | None = Field(None, description="the column with the time when the fact became known")
    order_id: Text | None = Field(None, description="the column that joins lines into one order or visit")
    item_id: Text | None = Field(None, description="the column with the product or content")
    category: Names | None = Field(None, description="a column, or columns from coarse to fine, like ['department', 'family']")
    quantity: Text | None = Field(None, description="the column with the number of units")
    value: Text | None = Field(None, description="the column with the amount of money")
    currency: Column | None = Field(None, description="the column with the currency, or { lit = 'EUR' }")
    channel: Column | None = Field(None, description="the column with the channel, or { lit = 'web' }")
    dimensions: Annotated[dict[str, str | Constant], PlainValidator(_dimensions)] = Field(
        {}, description="further columns, as a table { store = 'store_id' } or a list ['store_id']"
    )


class Lookup(Rows):
    """One `[[lookups]]`."""

    key: Annotated[str | dict[str, str], PlainValidator(_key)] = Field(
        description="the column of the common model that the facts are about, or { customer_id = 'client' } if the source has another name"
    )
    columns: Annotated[dict[str, str | Constant], PlainValidator(_facts)] = Field(
        description="the facts, as a list ['tier'] or a table { tier = 'tier_code' }"
    )
    valid_from: Text | None = Field(None, description="the column with the time since when a row holds")
    known_at: Text | None = Field(None, description="the column with the time when the row became known")


class Target(Section):
    """`[targets.<name>]`: what all targets share, the type and `[targets.<name>.lightgbm]` apart."""

    event: Names = Field(description=_EVENT)
    horizon: Annotated[str, AfterValidator(_horizon)] = Field(description=_DURATION)
    gap: DurationText | None = Field(None, description=_DURATION)
    active_within: DurationText | None = Field(None, description=_DURATION)
    where: Condition | None = Field(None, description=_CONDITION)
    cohort: Condition | None = Field(None, description=_CONDITION)
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,48}$")] | None = Field(
        None, description="a name of a-z, 0-9 and _, at most 48 characters"
    )


class Conversion(Target):
    """`[targets.<name>]` with ``type = "conversion"``."""

    once: bool = Field(False, description="true or false")


class Churn(Target):
    """`[targets.<name>]` with ``type = "churn"``."""


class Cancellation(Target):
    """`[targets.<name>]` with ``type = "cancellation"``."""

    start: Names | None = Field(None, description=_EVENT)
    competing: Names | None = Field(None, description=_EVENT)


class Affinity(Target):
    """`[targets.<name>]` with ``type = "affinity"``."""

    by: Text = Field(description=f"a level of category, or {', '.join(map(repr, KINDS_OF_AFFINITY[:-1]))} or {KINDS_OF_AFFINITY[-1]!r}")
    top: Annotated[int, Field(ge=1)] = Field(10, description="a whole number, 1 or more")
    top_new: Natural = Field(3, description="a whole number, 0 or more")


class LightGBM(Section):
    """`[targets.<name>.lightgbm]`: parameters that leave reasons exact and runs repeatable, by sklearn names."""

    n_estimators: Annotated[int, Field(ge=1)] | None = Field(None, description="a whole number, 1 or more")
    learning_rate: Fraction | None = Field(None, description="a number above 0, at most 1")
    num_leaves: Annotated[int, Field(ge=2)] | None = Field(None, description="a whole number, 2 or more")
    max_depth: int | None = Field(None, description="a whole number, -1 for no limit")
    min_child_samples: Natural | None = Field(None, description="a whole number, 0 or more")
    min_child_weight: Amount | None = Field(None, description="a number, 0 or more")
    min_split_gain: Amount | None = Field(None, description="a number, 0 or more")
    subsample: Fraction | None = Field(None, description="a number above 0, at most 1")
    subsample_freq: Natural | None = Field(None, description="a whole number, 0 or more")
    colsample_bytree: Fraction | None = Field(None, description="a number above 0, at most 1")
    reg_alpha: Amount | None = Field(None, description="a number, 0 or more")
    reg_lambda: Amount | None = Field(None, description="a number, 0 or more")
    path_smooth: Amount | None = Field(None, description="a number, 0 or more")
    max_bin: Annotated[int, Field(ge=2)] | None = Field(None, description="a whole number, 2 or more")
    extra_trees: bool | None = Field(None, description="true or false")


class Tracking(Section):
    """`[tracking]`: where MLflow keeps runs and models."""

    uri: Annotated[str, StringConstraints(pattern=r"^(sqlite:///|https?://).")] = Field(
        "sqlite:///mlflow.db", description="'sqlite:///<file>', or the http(s):// address of an MLflow server"
    )
    experiment: Text | None = Field(None, description="the name of an MLflow experiment (default: the project's name)")


class JobSettings(Section):
    """`[job]`."""

    retrain_every: DurationText = Field("28d", description=_DURATION)
    max_staleness: DurationText = Field("3d", description=_DURATION)
    keep: DurationText | None = Field(None, description=f"{_DURATION}: how long attributes are kept (default: for ever)")
    min_grade: Literal["A", "B", "C"] = Field(
        "B", description="'A', 'B' or 'C': the least grade with which a model becomes champion; 'C' is every grade"
    )


class Report(Section):
    """`[report]`."""

    language: Annotated[str, AfterValidator(partial(_words, argument="language"))] = Field(
        "en", description="'en' or 'es', or either with a region, like 'es-MX'"
    )
    path: Annotated[str, StringConstraints(pattern=r"(?i)\.html?$")] | None = Field(
        None, description="an HTML file (default: report.html beside the warehouse)"
    )
    currency: Annotated[str, AfterValidator(partial(_words, argument="currency"))] | None = Field(
        None, description="the currency of the column value, like 'EUR' (default: amounts are plain numbers)"
    )
    labels: Annotated[dict[str, str], PlainValidator(partial(_words, argument="labels"))] = Field(
        {}, description="sentences for features, by their names, like { recency_all = 'last seen {value} days ago' }"
    )
    names: Annotated[dict[str, str], PlainValidator(partial(_words, argument="names"))] = Field(
        {}, description="words for events, columns and categories, by their names, like { coupon_redemption = 'coupon' }"
    )


class WarehouseSettings(Section):
    """`[warehouse]`."""

    url: Text = Field(description="the path of a DuckDB file, like 'warehouse.duckdb'")
