"""Predictive attributes: scores become rows that a marketer can read, and that say so when there is no score.

One row per customer and target (for affinity: per category too). A customer is either *scored*, with a percentile and a band, or
*not_scored*, with nulls and one of `NOT_SCORED_REASONS`; never a zero that looks like a score. Everything here is a pure function of
its arguments: the warehouse writes what leaves this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import Duration, instant, zone

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

SCORED, NOT_SCORED = "scored", "not_scored"
NOT_SCORED_REASONS = (
    "no_history",
    "not_active",
    "already_converted",
    "not_in_cohort",
    "no_consent",
    "too_little_data",
    "target_failed",
)
BANDS = ("low", "medium", "high")
DEFAULT_HORIZON = Duration(days=28)
MAX_TARGET_NAME = 63 - len("_previous_band")
"""Longest target name in bytes: `<target>_previous_band` in `customer_attributes` must stay a legal column name everywhere (63 bytes)."""

REASONS_TYPE = pa.list_(
    pa.struct(
        [
            ("feature", pa.string()),
            ("label", pa.string()),
            ("value", pa.float64()),
            ("value_text", pa.string()),
            ("direction", pa.string()),
            ("contribution", pa.float64()),
        ]
    )
)
_INSTANT = pa.timestamp("us", tz="UTC")

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("target", pa.string()),
        ("category", pa.string()),
        ("probability", pa.float64()),
        ("expected_value", pa.float64()),
        ("currency", pa.string()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        # JSON text, not a MAP: the factors differ by model kind and may nest, and text survives every sink and dataframe.
        ("factors", pa.string()),
        ("affinity_index", pa.float64()),
        ("rank", pa.int32()),
        ("is_new", pa.bool_()),
        ("percentile", pa.int32()),
        ("band", pa.string()),
        ("reasons", REASONS_TYPE),
        ("model_kind", pa.string()),
        ("status", pa.string()),
        ("not_scored_reason", pa.string()),
        ("as_of", _INSTANT),
        ("valid_until", _INSTANT),
        ("scored_at", _INSTANT),
        ("model_version", pa.string()),
        ("run_id", pa.string()),
    ]
)
"""The 23 columns of `predictive_attributes`, in order, as Arrow types; `COLUMNS` has the same in SQL."""


def sql_type(arrow_type: Any) -> str:
    """The SQL name of an Arrow type of this module.

    >>> sql_type(pa.float64()), sql_type(REASONS_TYPE)[:30]
    ('DOUBLE', 'STRUCT(feature TEXT, label TEX')
    """
    if pa.types.is_list(arrow_type):
        return f"{sql_type(arrow_type.value_type)}[]"
    if pa.types.is_struct(arrow_type):
        return "STRUCT(" + ", ".join(f"{field.name} {sql_type(field.type)}" for field in arrow_type) + ")"
    return {
        pa.string(): "TEXT",
        pa.float64(): "DOUBLE",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.bool_(): "BOOLEAN",
        _INSTANT: "TIMESTAMPTZ",
    }[arrow_type]


COLUMNS: dict[str, str] = {field.name: sql_type(field.type) for field in SCHEMA}
_COMPUTED = ("target", "percentile", "band", "status", "as_of", "valid_until", "scored_at", "model_version", "run_id")
_GIVEN = tuple(name for name in COLUMNS if name not in _COMPUTED)
_MEASURES = ("expected_value", "lower", "upper", "factors", "affinity_index", "rank")


class HasHorizon(Protocol):
    """Any target of `persopredict.targets`."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def horizon(self) -> Duration: ...  # noqa: D102


def run_id(target: str, as_of: datetime, model_version: str | None = None) -> str:
    """The 16-digit id of the run of one target: the same target, instant and model version always give the same id.

    >>> run_id("churn", instant("2017-12-03"), "7")
    '33c3e6dbd09ddd0f'
    """
    text = f"{target}:{as_of.astimezone(UTC).isoformat()}:{model_version or ''}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


def target_name_problems(name: str) -> list[Problem]:
    """What is wrong with a target's name as a prefix of columns; empty if nothing.

    >>> target_name_problems("churn_purchase_28d"), target_name_problems("Churn!")[0].code
    ([], 'bad_target_name')
    """
    if isinstance(name, str) and re.fullmatch(f"[a-z0-9_]{{1,{MAX_TARGET_NAME}}}", name):
        return []
    message = f"target name {name!r} can't begin a column name"
    remedy = (
        f"use a to z, 0 to 9 and _, at most {MAX_TARGET_NAME} characters, so that '<target>_previous_band' fits in 63"
    )
    return [Problem("bad_target_name", message, remedy=remedy)]


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
    frame : one row per customer, or per customer and category; any dataframe that narwhals reads (pandas, Polars, PyArrow, a DuckDB
        relation). Needs ``customer_id`` and ``probability`` (calibrated, 0 to 1; for a value target ``expected_value`` instead). May
        have ``category, expected_value, currency, lower, upper, factors`` (JSON text or dicts), ``affinity_index, rank, is_new,
        reasons`` (lists of dicts with feature, label, value, value_text, direction, contribution), ``model_kind`` and
        ``not_scored_reason``: one of `NOT_SCORED_REASONS` on every row without a score, null on the others.
    target : the target's name, or the target.
    as_of : the instant of the scores; a naive one is read in `timezone`.
    horizon : how long the scores hold: ``valid_until`` = as_of + horizon, days counted in `timezone`. Default: the target's own, else 28d.
    bands : the last percentile that is low, and the last that is medium. The default (50, 90) calls the least likely half low and the
        most likely tenth high.
    model_version : the version that made the scores.
    scored_at : when they were made; default now.

    Returns
    -------
    pandas DataFrame with the columns of `COLUMNS`, rows in the order given. ``percentile`` is ceil(100 · midrank / n) among the scored
    rows of the frame (of the same category, if there are categories): 100 = most likely, ties share one value. ``rank`` within a
    customer, most likely first, is computed where categories come without it.

    Raises
    ------
    SpecificationError : with every problem of the columns, or of the rows.

    >>> scores = pd.DataFrame({"customer_id": [7, 8, 9], "probability": [0.9, 0.2, None], "not_scored_reason": [None, None, "no_consent"]})
    >>> attributes(scores, "churn", "2017-12-03")[["customer_id", "probability", "percentile", "band", "status"]]
      customer_id  probability  percentile  band      status
    0           7          0.9         100  high      scored
    1           8          0.2          50   low      scored
    2           9          NaN        <NA>   NaN  not_scored
    """
    name = target if isinstance(target, str) else target.name
    moment = instant(as_of, timezone)
    lasting = Duration.parse(horizon or getattr(target, "horizon", DEFAULT_HORIZON))
    table = _arrow(frame)
    problems = [*target_name_problems(name), *_band_problems(bands), *_column_problems(table.column_names)]
    table, mistyped = _cast(table)
    _refuse(name, [*problems, *mistyped])
    rows = to_frame(table)
    score = rows["probability"] if table["probability"].null_count < len(rows) else rows["expected_value"]
    _refuse(name, _row_problems(rows, score))

    scored = rows["not_scored_reason"].isna()
    affinity = bool(rows["category"].notna().any())
    rows["target"] = name
    rows["currency"] = rows["currency"].where(rows["expected_value"].notna())
    rows["reasons"] = rows["reasons"].where(scored)
    if affinity and rows["rank"].isna().all():
        rows["rank"] = _ranks(rows["customer_id"], rows["category"], score)
    rows["percentile"] = percentiles(score, rows["category"] if affinity else None)
    rows["band"] = _bands(rows["percentile"], bands)
    rows["status"] = np.where(scored, SCORED, NOT_SCORED)
    rows["as_of"], rows["valid_until"] = moment, lasting.after(moment, zone(timezone))
    rows["scored_at"] = instant(scored_at or datetime.now(UTC))
    rows["model_version"], rows["run_id"] = model_version, run_id(name, moment, model_version)
    return to_frame(pa.Table.from_pandas(rows[list(COLUMNS)], schema=SCHEMA, preserve_index=False))


def percentiles(score: pd.Series[float], category: pd.Series[str] | None = None) -> pd.Series[int]:
    """ceil(100 · midrank / n) among the rows with a score, within each category if there are any; null where the score is null.

    >>> percentiles(pd.Series([0.1, 0.5, 0.5, None, 0.9])).to_list()
    [25, 63, 63, <NA>, 100]
    """
    groups = score.groupby(category.fillna("") if category is not None else np.zeros(len(score)))
    # Twice a midrank is a whole number: integer division rounds up exactly, where floats would give 58 for 100 · 0.57.
    doubled = (groups.rank(method="average") * 2).astype("Int64")
    size = groups.transform("count").astype("Int64").replace(0, 1)
    return (-((-100 * doubled) // (2 * size))).astype("Int32")


def conform(frame: IntoFrame) -> Any:
    """The attributes of `frame` as an Arrow table with exactly `SCHEMA`; raises `SpecificationError` if they aren't attributes.

    >>> conform(attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.5]}), "churn", "2017-12-03")).schema.equals(SCHEMA)
    True
    """
    table = _arrow(frame)
    problems = [
        Problem("missing_column", f"no column {name!r}", remedy=did_you_mean(name, table.column_names))
        for name in COLUMNS
        if name not in table.column_names
    ] + [
        Problem("unknown_column", f"column {name!r} is not an attribute", remedy=did_you_mean(name, COLUMNS))
        for name in table.column_names
        if name not in COLUMNS
    ]
    table, mistyped = _cast(table)
    problems += mistyped
    if not problems:
        rows = table.select(["customer_id", "category", "status", "not_scored_reason"]).to_pandas()
        unscored = rows["not_scored_reason"].isin(NOT_SCORED_REASONS)
        wrong = rows["status"] != np.where(unscored, NOT_SCORED, SCORED)
        problems = _identity_problems(rows) + _row_problem(
            "bad_status", "the status and the not_scored_reason contradict each other", wrong, rows["status"]
        )
    if problems:
        raise SpecificationError(
            "the frame does not hold predictive attributes; make them with pp.attributes", problems
        )
    return table


def to_frame(table: Any) -> pd.DataFrame:
    """An Arrow table as pandas, types kept: text as str, whole numbers and booleans nullable, lists and structs as Arrow types."""

    def mapped(arrow_type: Any) -> Any:
        if pa.types.is_nested(arrow_type):
            return pd.ArrowDtype(arrow_type)
        simple = {
            pa.string(): pd.StringDtype(na_value=np.nan),
            pa.bool_(): pd.BooleanDtype(),
            pa.int32(): pd.Int32Dtype(),
        }
        return simple.get(arrow_type, pd.Int64Dtype() if arrow_type == pa.int64() else None)

    return table.to_pandas(types_mapper=mapped)  # type: ignore[no-any-return]


def _arrow(frame: IntoFrame) -> Any:
    try:
        return nw.maybe_reset_index(nw.from_native(frame)).lazy().collect("pyarrow").to_native()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        # The first argument quotes a value of the frame, the last one names the column.
        raise SpecificationError(f"a column of the frame mixes types: {error.args[-1]}; give it one type") from None
    except TypeError:
        raise SpecificationError(
            f"{type(frame).__name__!r} is not a dataframe; pass pandas, Polars, PyArrow or a DuckDB relation"
        ) from None


def _column_problems(names: Sequence[str]) -> list[Problem]:
    problems = []
    if "customer_id" not in names:
        problems.append(Problem("missing_column", "no column 'customer_id'", remedy=did_you_mean("customer_id", names)))
    if "probability" not in names and "expected_value" not in names:
        problems.append(Problem("missing_column", "no column 'probability'", remedy=did_you_mean("probability", names)))
    for name in names:
        if name in _COMPUTED:
            problems.append(Problem("computed_column", f"column {name!r} is computed here", remedy="drop it"))
        elif name not in _GIVEN:
            remedy = "; ".join(part for part in ("drop it or rename it", did_you_mean(name, _GIVEN)) if part)
            problems.append(Problem("unknown_column", f"column {name!r} is not an attribute", remedy=remedy))
    return problems


def _band_problems(bands: tuple[int, int]) -> list[Problem]:
    if len(bands) == 2 and all(isinstance(cut, int) for cut in bands) and 0 < bands[0] < bands[1] < 100:
        return []
    return [
        Problem(
            "bad_bands", f"bands={bands!r}", remedy="give two rising whole percentiles between 1 and 99, like (50, 90)"
        )
    ]


def _cast(table: Any) -> tuple[Any, list[Problem]]:
    """The table with all columns of `SCHEMA`, cast, missing ones null; and the columns that can't be cast."""
    columns, problems = [], []
    for field in SCHEMA:
        column = (
            table[field.name].combine_chunks() if field.name in table.column_names else pa.nulls(len(table), field.type)
        )
        try:
            columns.append(_readers.get(field.name, _read)(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
            # Arrow's own message quotes the value; ours names the types alone.
            ours = f"; {error}" if type(error) is ValueError else ""
            problems.append(
                Problem(
                    "mistyped_column",
                    f"column {field.name!r} is {column.type}, not {COLUMNS[field.name]}{ours}",
                    remedy="cast it",
                )
            )
            columns.append(pa.nulls(len(table), field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA), problems


def _read(column: Any, wanted: Any) -> Any:
    return column.cast(wanted)


def _read_id(column: Any, wanted: Any) -> Any:
    if pa.types.is_floating(column.type):
        # pandas turns whole-number ids into floats as soon as one is missing.
        return column.cast(pa.int64()).cast(wanted)
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], wanted)
    if pa.types.is_nested(column.type) or pa.types.is_boolean(column.type):
        raise ValueError("an id is text or a whole number")
    return column.cast(wanted)


def _read_factors(column: Any, wanted: Any) -> Any:
    if pa.types.is_nested(column.type):
        return pa.array(
            [None if value is None else json.dumps(value, sort_keys=True) for value in column.to_pylist()], wanted
        )
    return column.cast(wanted)


def _read_reasons(column: Any, wanted: Any) -> Any:
    if pa.types.is_null(column.type):
        return column.cast(wanted)
    given = column.type.value_type if hasattr(column.type, "value_type") else None
    if given is None or not (pa.types.is_struct(given) or pa.types.is_null(given)):
        raise ValueError("it must hold lists of dicts")
    unknown = (
        {field.name for field in given} - {field.name for field in wanted.value_type}
        if pa.types.is_struct(given)
        else set()
    )
    if unknown:
        raise ValueError("a reason has no field " + ", ".join(repr(name) for name in sorted(unknown)))
    return pa.array(column.to_pylist(), wanted)


_readers: dict[str, Callable[[Any, Any], Any]] = {
    "customer_id": _read_id,
    "factors": _read_factors,
    "reasons": _read_reasons,
}


def _row_problem(
    code: str, message: str, wrong: pd.Series[bool], shown: pd.Series[Any], remedy: str = ""
) -> list[Problem]:
    wrong = wrong.fillna(False).astype(bool)
    count = int(wrong.sum())
    return [Problem(code, message, count=count, example=str(shown[wrong].iloc[0]), remedy=remedy)] if count else []


def _identity_problems(rows: pd.DataFrame) -> list[Problem]:
    ids = rows["customer_id"]
    key = ["customer_id", "category"]
    return [
        *_row_problem(
            "null_customer_id",
            "customer_id is null or blank",
            ids.isna() | (ids.str.strip() == ""),
            pd.Series(rows.index),
            "drop the rows",
        ),
        *_row_problem(
            "duplicate_customer",
            f"more than one row of the same {' and '.join(key)}",
            rows.duplicated(key),
            ids,
            "keep one row each",
        ),
    ]


def _row_problems(rows: pd.DataFrame, score: pd.Series[float]) -> list[Problem]:
    ids, reason, category = rows["customer_id"], rows["not_scored_reason"], rows["category"]
    scored = reason.isna()
    filled = pd.concat([rows[name].notna() for name in _MEASURES], axis=1).any(axis=1)
    numbers = pd.concat(
        [np.isinf(rows[name]) for name in ("expected_value", "lower", "upper", "affinity_index")], axis=1
    ).any(axis=1)
    rank_clash = rows.duplicated(["customer_id", "rank"]) & rows["rank"].notna()
    known = ", ".join(NOT_SCORED_REASONS)
    return [
        *_identity_problems(rows),
        *_row_problem(
            "unknown_reason",
            "not_scored_reason is none of the known ones",
            ~scored & ~reason.isin(NOT_SCORED_REASONS),
            reason,
            f"use one of {known}",
        ),
        *_row_problem(
            "bad_probability",
            "probability is not between 0 and 1",
            ~rows["probability"].dropna().between(0, 1).reindex(rows.index, fill_value=True),
            rows["probability"],
        ),
        *_row_problem(
            "no_score",
            "neither a score nor a not_scored_reason",
            score.isna() & scored,
            ids,
            f"score the customer, or say why not: {known}",
        ),
        *_row_problem(
            "scored_and_not",
            "both a score and a not_scored_reason",
            rows["probability"].notna() & ~scored,
            reason,
            "a customer who isn't scored has nulls",
        ),
        *_row_problem(
            "value_not_scored",
            f"a not_scored_reason, and a value in one of {', '.join(_MEASURES)}",
            filled & ~scored,
            ids,
            "a customer who isn't scored has nulls",
        ),
        *_row_problem("infinite_value", "an infinite expected_value, lower, upper or affinity_index", numbers, ids),
        *_row_problem("reversed_interval", "lower is above upper", rows["lower"] > rows["upper"], ids),
        *_row_problem(
            "null_category",
            "a score without a category among scores with one",
            scored & category.isna() & category.notna().any(),
            ids,
        ),
        *_row_problem(
            "bad_rank",
            "rank is below 1, or twice the same for a customer",
            rank_clash | (rows["rank"] < 1),
            ids,
            "1, 2, 3 … within a customer",
        ),
    ]


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
