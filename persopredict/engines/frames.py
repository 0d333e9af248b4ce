"""Frames of any library as Arrow tables, or what is wrong with them: columns that mix types, times that mix offsets, doubled names."""

from __future__ import annotations

import warnings
from typing import Any

import narwhals as nw
import pyarrow as pa

from persopredict.errors import DataError, Problem

_KINDS = "give a Parquet or CSV path or glob, a pandas, Polars or PyArrow frame, a DuckDB relation, or a table or query with engine="


def arrow_of(source: Any) -> pa.Table:
    """A pandas, Polars or PyArrow frame, lazy ones too, as an Arrow table.

    Raises `DataError` with every problem of its columns.
    """
    try:
        frame: Any = nw.from_native(source)
    except TypeError:
        problem = Problem("not_a_source", f"{type(source).__name__} is not a source", remedy=_KINDS)
        raise DataError("a source can't be read", [problem]) from None
    except nw.exceptions.DuplicateError:
        raise DataError("a source can't be read", [_doubled([str(name) for name in source.columns])]) from None
    frame = frame.collect("pyarrow") if isinstance(frame, nw.LazyFrame) else frame
    if not frame.columns:
        raise DataError("a source can't be read", [Problem("empty_source", "the frame has no columns", remedy="check how it was made")])
    if len({str(name).lower() for name in frame.columns}) < len(frame.columns):
        raise DataError("a source can't be read", [_doubled([str(name) for name in frame.columns])])
    try:
        found = _converted(frame)
        problems = [_mixed_offsets(name) for name in frame.columns if _mixes_offsets(frame, name, found)]
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        problems = _unconvertible(frame)
    if problems:
        raise DataError("a source can't be read", problems)
    return found


def _converted(frame: Any) -> pa.Table:
    with warnings.catch_warnings():
        # PyArrow reads aware pandas columns by a way that pandas means to change; what comes out is right.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return frame.to_arrow()


def _unconvertible(frame: Any) -> list[Problem]:
    """Each column that Arrow can't hold; the example is Arrow's own words, which quote a value."""
    found = []
    for name in frame.columns:
        try:
            _converted(frame.select(name))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            remedy = "give the column one type, for ids with .astype(str)"
            what = "holds whole numbers beyond 64 bits" if isinstance(error, OverflowError) else "mixes types"
            found.append(Problem("mixed_column", f"column {str(name)!r} {what}", example=str(error.args[0]), remedy=remedy))
    return found


def _mixes_offsets(frame: Any, name: str, found: pa.Table) -> bool:
    """Whether some values of a pandas column of objects carry an offset and others don't: Arrow would drop the offsets unsaid."""
    kind = found.schema.field(str(name)).type
    if not (
        frame.implementation.is_pandas() and pa.types.is_timestamp(kind) and kind.tz is None and frame.to_native()[name].dtype == object
    ):
        return False
    return any(getattr(value, "tzinfo", None) is not None for value in frame.to_native()[name])


def _mixed_offsets(name: str) -> Problem:
    remedy = "make them all aware, with pandas.to_datetime(..., utc=True) once naive ones are localised"
    return Problem("mixed_offsets", f"column {str(name)!r} mixes times with and without an offset", remedy=remedy)


def _doubled(names: list[str]) -> Problem:
    lowered = [name.lower() for name in names]
    doubled = list(dict.fromkeys(name for name in names if lowered.count(name.lower()) > 1))
    return Problem(
        "duplicate_columns",
        "columns have the same name, upper and lower case aside",
        count=len(doubled),
        example=doubled[0],
        remedy="rename them",
    )
