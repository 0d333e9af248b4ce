"""Predictive attributes: scores become rows that a marketer can read, and that say so when there is no score.

One row per customer and target (for affinity: per category too). A customer is either *scored*, with a percentile and a
band, or *not_scored*, with nulls and one of `NOT_SCORED_REASONS`; never a zero that looks like a score. Everything here
is a pure function of its arguments: the warehouse writes what leaves this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from persopredict.attribute_columns import (
    COLUMNS,
    INSTANT,
    NOT_SCORED,
    NOT_SCORED_REASONS,
    REASON_FIELDS,
    SCHEMA,
    SCORED,
    TEXT,
)
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import Duration, instant, zone

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

BANDS = ("low", "medium", "high")
DEFAULT_HORIZON = Duration(days=28)
# `<target>_previous_band` in `customer_attributes` must stay a legal column name in every database (63 bytes).
MAX_TARGET_NAME = 63 - len("_previous_band")
_COMPUTED = (
    *("target", "band", "status"),
    *("as_of", "valid_until", "scored_at", "model_version", "run_id"),
)
_GIVEN = tuple(name for name in COLUMNS if name not in _COMPUTED)
_MEASURES = ("expected_value", "lower", "upper", "factors", "affinity_index", "rank", "percentile")
_NUMBERS = ("expected_value", "lower", "upper", "affinity_index")

# code: (what is wrong with the rows counted, what to do)
_ROW_PROBLEMS = {
    "null_customer_id": ("customer_id is null or blank", "drop these rows"),
    "duplicate_customer": ("more than one row of a customer (and category)", "keep one row of each"),
    "unknown_reason": ("unknown not_scored_reason", "use one of " + ", ".join(NOT_SCORED_REASONS)),
    "bad_probability": ("probability is not between 0 and 1", "give calibrated probabilities"),
    "no_score": ("neither a score nor a not_scored_reason", "use one of " + ", ".join(NOT_SCORED_REASONS)),
    "scored_and_not": ("both a probability and a not_scored_reason", "a customer who is not scored has nulls"),
    "value_not_scored": (
        "a not_scored_reason and a value of " + ", ".join(_MEASURES),
        "a customer who is not scored has nulls",
    ),
    "infinite_value": ("an infinite value in " + ", ".join(_NUMBERS), "use null where it is unknown"),
    "reversed_interval": ("lower is above upper", "swap them"),
    "null_category": ("no category, while other scores have one", "give every score its category"),
    "bad_percentile": ("percentile is not between 1 and 100, or not there for all that are scored", "give all of them, or none"),
    "bad_rank": ("rank is below 1, or twice the same for a customer", "rank 1, 2, 3 … within a customer"),
    "bad_status": ("status and not_scored_reason contradict each other", "make them with pp.attributes"),
}


class HasHorizon(Protocol):
    """Any target of `persopredict.targets`."""

    @property
    def name(self) -> str:
        """The target's name."""

    @property
    def horizon(self) -> Duration:
        """How far it looks ahead."""


def run_id(target: str, as_of: datetime, model_version: str | None = None) -> str:
    """The run's id, 16 hexadecimal digits: the same target, instant and model version always give the same one.

    >>> run_id("churn", instant("2017-12-03"), "7")
    'f806acf04bcfe26b'
    """
    text = f"{target}:{as_of.astimezone(UTC).isoformat()}:{model_version or ''}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


def target_name_problems(name: str) -> list[Problem]:
    """What is wrong with a target's name as the beginning of column names; empty if nothing.

    >>> target_name_problems("churn_purchase_28d"), target_name_problems("Churn!")[0].code
    ([], 'bad_target_name')
    """
    if isinstance(name, str) and re.fullmatch(f"[a-z0-9_]{{1,{MAX_TARGET_NAME}}}", name):
        return []
    remedy = f"use a to z, 0 to 9 and _, at most {MAX_TARGET_NAME}, so that '<target>_previous_band' fits in 63 bytes"
    return [Problem("bad_target_name", f"target name {name!r} can't begin a column name", remedy=remedy)]


def attributes(
    frame: IntoFrame,
    target: str | HasHorizon,
    as_of: str | date | datetime,
    *,
    horizon: str | Duration | None = None,
    timezone: str = "UTC",
    bands: tuple[int, int] = (50, 90),
    model_version: str | None = None,
    scored_at: datetime | None = None,
) -> pd.DataFrame:
    """Predictive attributes from scores, made by this library or elsewhere.

    Parameters
    ----------
    frame : pandas, Polars or PyArrow dataframe, DuckDB relation, or any other that narwhals reads
        One row per customer, or per customer and category: ``customer_id`` and ``probability`` (calibrated, 0 to 1; for
        a value target ``expected_value`` instead). Optional: ``category, expected_value, currency, lower, upper,
        factors`` (JSON text or dicts), ``affinity_index, rank, is_new, reasons`` (lists of dicts with feature, label,
        value, value_text, direction, contribution), ``model_kind``, and ``not_scored_reason``: one of
        `NOT_SCORED_REASONS` on every row without a score, null on the others; and ``percentile`` (1 to 100), where the
        frame holds only some of those that were scored.
    target : str or target
        The target, or its name: a to z, 0 to 9 and _, at most 49.
    as_of : str, date or datetime
        The instant of the scores; a naive one is read in `timezone`.
    horizon : str or Duration, default the target's own, else 28d
        How long the scores hold: ``valid_until`` = as_of + horizon.
    timezone : str, default "UTC"
        Where the days of `as_of` and `horizon` are counted.
    bands : two ints, default (50, 90)
        The last percentile called low and the last called medium: by default the least likely half is low, the most
        likely tenth high.
    model_version : str, optional
        The version of the model that made the scores; part of ``run_id``.
    scored_at : datetime, default now
        When the scores were made.

    Returns
    -------
    pandas.DataFrame
        The columns of `COLUMNS`, rows in the order given. ``percentile``, unless given, is ceil(100 · midrank / n) among the frame's
        scored rows (of the same category, if there are categories): 100 = most likely, ties share one value. ``rank``
        within a customer, most likely first, is computed where categories come without it.

    Raises
    ------
    SpecificationError
        With every problem of the columns, or of the rows.

    >>> scores = pd.DataFrame({"customer_id": [7, 8, 9], "probability": [0.9, 0.2, None]})
    >>> scores["not_scored_reason"] = [None, None, "no_consent"]
    >>> attributes(scores, "churn", "2017-12-03")[["customer_id", "probability", "percentile", "band", "status"]]
      customer_id  probability  percentile  band      status
    0           7          0.9         100  high      scored
    1           8          0.2          50   low      scored
    2           9          NaN        <NA>   NaN  not_scored
    """
    name, default = (target, DEFAULT_HORIZON) if isinstance(target, str) else (target.name, target.horizon)
    moment, lasting = instant(as_of, timezone), Duration.parse(default if horizon is None else horizon)
    table = to_arrow(frame)
    problems = [*target_name_problems(name), *_band_problems(bands), *_column_problems(table.column_names)]
    table, mistyped = _cast(table)
    _refuse(name, [*problems, *mistyped])
    rows = to_frame(_without_reasons_of_the_unscored(table))
    score = rows["probability"] if rows["probability"].notna().any() else rows["expected_value"]
    _refuse(name, _row_problems(rows, score))

    scored, has_categories = rows["not_scored_reason"].isna(), bool(rows["category"].notna().any())
    rows["target"] = name
    rows["currency"] = rows["currency"].where(rows["expected_value"].notna())
    if has_categories and rows["rank"].isna().all():
        rows["rank"] = _ranks(rows["customer_id"], rows["category"], score)
    if rows["percentile"].isna().all():
        rows["percentile"] = percentiles(score, rows["category"] if has_categories else None)
    rows["band"] = _bands(rows["percentile"], bands)
    rows["status"] = np.where(scored, SCORED, NOT_SCORED)
    rows["as_of"], rows["valid_until"] = moment, lasting.after(moment, zone(timezone))
    rows["scored_at"] = instant(scored_at or datetime.now(UTC))
    rows["model_version"], rows["run_id"] = model_version, run_id(name, moment, model_version)
    return to_frame(_cast(to_arrow(rows))[0])


def percentiles(score: pd.Series[float], category: pd.Series[str] | None = None) -> pd.Series[int]:
    """ceil(100 · midrank / n) among the rows with a score, within each category if given; null where the score is null.

    >>> percentiles(pd.Series([0.1, 0.5, 0.5, None, 0.9])).to_list()
    [25, 63, 63, <NA>, 100]
    """
    groups = score.groupby(np.zeros(len(score)) if category is None else category.fillna(""))
    # Twice a midrank is a whole number, so integers round up exactly; in floats ceil(100 * 0.07) is 8.
    doubled = (groups.rank(method="average") * 2).astype("Int64")
    size = groups.transform("count").astype("Int64")
    return (-((-100 * doubled) // (2 * size))).where(score.notna()).astype("Int32")


def conform(frame: IntoFrame) -> pa.Table:
    """The attributes of `frame` as an Arrow table of exactly `SCHEMA`; raises `SpecificationError` if it holds others.

    >>> scores = pd.DataFrame({"customer_id": ["a"], "probability": [0.5]})
    >>> conform(attributes(scores, "churn", "2017-12-03")).schema.equals(SCHEMA)
    True
    """
    table = to_arrow(frame)
    names = table.column_names
    problems = [_missing(name, names) for name in COLUMNS if name not in names]
    problems += [_unknown(name, COLUMNS) for name in names if name not in COLUMNS]
    table, mistyped = _cast(table)
    problems += mistyped
    if not problems:
        rows = to_frame(table.select(["customer_id", "category", "status", "not_scored_reason"]))
        status = np.where(rows["not_scored_reason"].isin(NOT_SCORED_REASONS), NOT_SCORED, SCORED)
        wrong = {**_identity(rows), "bad_status": (rows["status"].fillna("") != status, rows["status"])}
        problems = _counted(wrong)
    if problems:
        raise SpecificationError("the frame does not hold predictive attributes; make them with pp.attributes", problems)
    return table


def to_arrow(frame: IntoFrame) -> pa.Table:
    """Any dataframe that narwhals reads as an Arrow table, a pandas index dropped; `SpecificationError` if it is none."""
    try:
        wrapped = nw.from_native(frame)
        if wrapped.implementation.is_pandas():
            native = cast(pd.DataFrame, wrapped.to_native())
            return pa.table({name: _from_pandas(native[name]) for name in wrapped.columns})
        return wrapped.lazy().collect("pyarrow").to_native()
    except TypeError:
        message = f"a {type(frame).__name__} is not a dataframe; pass pandas, Polars, PyArrow or a DuckDB relation"
        raise SpecificationError(message) from None


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as pandas: text as str, whole numbers and booleans nullable, lists and structs as Arrow types."""
    simple = {
        TEXT: pd.StringDtype(na_value=np.nan),
        pa.bool_(): pd.BooleanDtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
    }
    frame: pd.DataFrame = table.to_pandas(
        types_mapper=lambda arrow: pd.ArrowDtype(arrow) if pa.types.is_nested(arrow) else simple.get(arrow)
    )
    return frame


def _from_pandas(column: pd.Series[Any]) -> pa.Array:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # PyArrow 25 reads zoned pandas columns through `Series.values`, which pandas 3.1 deprecates.
        return pa.array(column.dt.tz_convert(None).to_numpy(), from_pandas=True).cast(pa.timestamp("us")).cast(INSTANT)
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Arrow's message quotes the value; ours names the column alone.
        raise SpecificationError(f"column {column.name!r} mixes types; give it one") from None


def _missing(name: str, names: Sequence[str]) -> Problem:
    return Problem("missing_column", f"no column {name!r}", remedy=did_you_mean(name, names))


def _unknown(name: str, names: Iterable[str]) -> Problem:
    hint = did_you_mean(name, names)
    return Problem("unknown_column", f"column {name!r} is not an attribute", remedy="drop it" + (hint and f"; {hint}"))


def _column_problems(names: Sequence[str]) -> list[Problem]:
    problems = [] if "customer_id" in names else [_missing("customer_id", names)]
    if "probability" not in names and "expected_value" not in names:
        problems.append(_missing("probability", names))
    for name in names:
        if name in _COMPUTED:
            problems.append(Problem("computed_column", f"column {name!r} is computed here", remedy="drop it"))
        elif name not in _GIVEN:
            problems.append(_unknown(name, _GIVEN))
    return problems


def _band_problems(bands: tuple[int, int]) -> list[Problem]:
    if len(bands) == 2 and all(isinstance(cut, int) for cut in bands) and 0 < bands[0] < bands[1] < 100:
        return []
    return [Problem("bad_bands", f"bands={bands!r}", remedy="give two rising whole percentiles, like (50, 90)")]


def _cast(table: pa.Table) -> tuple[pa.Table, list[Problem]]:
    """The table with all columns of `SCHEMA`, missing ones null; and the columns that can't be cast."""
    columns, problems = [], []
    for field in SCHEMA:
        given = table[field.name] if field.name in table.column_names else pa.nulls(len(table))
        try:
            columns.append(_read(given, field))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            message = f"column {field.name!r} holds {given.type}, not {COLUMNS[field.name]}"
            problems.append(Problem("mistyped_column", message, remedy="cast it"))
            columns.append(pa.nulls(len(table), field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA), problems


def _read(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    kind = column.type
    if field.name == "customer_id":
        if pa.types.is_boolean(kind):
            raise pa.ArrowInvalid("an id is text or a whole number")
        if pa.types.is_floating(kind):
            # pandas turns whole-number ids into floats as soon as one is missing.
            column = column.cast(pa.int64())
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.array([None if value is None else str(value) for value in column.to_pylist()], TEXT)
    if field.name == "factors" and pa.types.is_nested(kind):
        texts = (None if value is None else json.dumps(value, sort_keys=True) for value in column.to_pylist())
        column = pa.array(texts, TEXT)
    if field.name == "reasons" and pa.types.is_struct(inner := getattr(kind, "value_type", kind)):
        unknown = {given.name for given in inner} - set(REASON_FIELDS)
        if unknown:
            # Arrow casts structs by name, and drops silently the names it does not know.
            raise pa.ArrowInvalid(f"unknown fields {unknown}")
    return column.cast(field.type)


def _without_reasons_of_the_unscored(table: pa.Table) -> pa.Table:
    scored, reasons = table["not_scored_reason"].is_null(), table["reasons"]
    # Only if need be: what is left is copied.
    if not pc.any(pc.and_not(reasons.is_valid(), scored)).as_py():
        return table
    place = table.column_names.index("reasons")
    return table.set_column(place, table.schema.field(place), pc.if_else(scored, reasons, pa.scalar(None, reasons.type)))


def _identity(rows: pd.DataFrame) -> dict[str, tuple[pd.Series[bool], pd.Series[str]]]:
    ids = rows["customer_id"]
    return {
        "null_customer_id": (ids.fillna("").str.strip() == "", ids),
        "duplicate_customer": (rows.duplicated(["customer_id", "category"]) & ids.notna(), ids),
    }


def _row_problems(rows: pd.DataFrame, score: pd.Series[float]) -> list[Problem]:
    ids, reason, category, rank = (rows[name] for name in ("customer_id", "not_scored_reason", "category", "rank"))
    probability, unscored = rows["probability"], reason.notna()
    filled = rows[list(_MEASURES)].notna().any(axis=1)
    infinite = rows[list(_NUMBERS)].isin([np.inf, -np.inf]).any(axis=1)
    percentile = rows["percentile"]
    unfit = (percentile < 1) | (percentile > 100) | (percentile.isna() & ~unscored & bool(percentile.notna().any()))
    same_rank = rows.duplicated(["customer_id", "rank"]) & rank.notna()
    return _counted(
        {
            **_identity(rows),
            "unknown_reason": (unscored & ~reason.isin(NOT_SCORED_REASONS), reason),
            "bad_probability": ((probability < 0) | (probability > 1), probability),
            "no_score": (score.isna() & ~unscored, ids),
            "scored_and_not": (probability.notna() & unscored, ids),
            "value_not_scored": (filled & unscored, ids),
            "infinite_value": (infinite, ids),
            "reversed_interval": (rows["lower"] > rows["upper"], ids),
            "null_category": (category.isna() & ~unscored & bool(category.notna().any()), ids),
            "bad_percentile": (unfit.fillna(False), percentile),
            "bad_rank": (same_rank | (rank < 1).fillna(False), ids),
        }
    )


def _counted(wrong: dict[str, tuple[pd.Series[bool], pd.Series[str]]]) -> list[Problem]:
    problems = []
    for code, (rows, shown) in wrong.items():
        if rows.any():
            first = int(rows.to_numpy().argmax())
            example = f"row {first}: {shown.iloc[first]}" if pd.notna(shown.iloc[first]) else f"row {first}"
            message, remedy = _ROW_PROBLEMS[code]
            problems.append(Problem(code, message, count=int(rows.sum()), example=example, remedy=remedy))
    return problems


def _refuse(name: str, problems: list[Problem]) -> None:
    if problems:
        raise SpecificationError(f"the scores of {name!r} can't become predictive attributes", problems)


def _ranks(customer: pd.Series[str], category: pd.Series[str], score: pd.Series[float]) -> pd.Series[int]:
    ordered = pd.DataFrame({"customer": customer, "category": category, "score": score}).dropna()
    ordered = ordered.sort_values(["customer", "score", "category"], ascending=[True, False, True])
    return (ordered.groupby("customer").cumcount() + 1).reindex(customer.index).astype("Int32")


def _bands(percentile: pd.Series[int], cuts: tuple[int, int]) -> pd.Series[str]:
    band = np.asarray(BANDS, dtype=object)[np.searchsorted(cuts, percentile.fillna(0).to_numpy())]
    return pd.Series(band, index=percentile.index, dtype="str").where(percentile.notna())
