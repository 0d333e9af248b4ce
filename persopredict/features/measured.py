"""What was measured of a batch of groups, answered need by need: where an engine's tables become windows, and windows features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from persopredict.features.fold import Cells, Components, Reach
from persopredict.features.measures import LEAST, MOST, At, Floats, Integers, Measure, Need, finished, needs
from persopredict.features.spec import Feature
from persopredict.times import Duration

_NULLS: Mapping[str, int] = {"min": MOST, "first_us": MOST, "max": LEAST, "last_us": LEAST}
_SIGN = np.int64(LEAST)


class Measured:
    """The needs of a batch of groups with some cutoffs each: arrays of shape (cutoffs, groups).

    Parameters
    ----------
    at : the cutoffs, shaped (cutoffs, 1) where all groups share them, else (1, groups).
    groups : how many.
    """

    def __init__(self, at: At, groups: int) -> None:
        self.at, self.groups = at, groups
        self.cutoffs = len(at.us)
        self._found: dict[Need, Any] = {}

    def fold(self, cells: Cells, reaches: Sequence[Reach], asked: Mapping[Measure, Sequence[Duration | None]], *, first: int = 0) -> None:
        """Take the windows of every measure from the cells, for the cutoffs from number `first` on."""
        for number, reach in enumerate(reaches, start=first):
            for measure, windows in asked.items():
                for window, value in zip(windows, cells.windowed(measure, reach, windows), strict=True):
                    self.put(Need(measure, window), number, value)

    def put(self, need: Need, cutoff: int, value: Any) -> None:
        """What came of a need at one cutoff: an array of shape (groups,), or a tuple of them."""
        parts = value if isinstance(value, tuple) else (value,)
        if need not in self._found:
            whole = tuple(np.zeros((self.cutoffs, self.groups), part.dtype) for part in parts)
            self._found[need] = type(value)(*whole) if isinstance(value, tuple) else whole[0]
        held = self._found[need]
        for array, part in zip(held if isinstance(held, tuple) else (held,), parts, strict=True):
            if part.dtype != array.dtype:
                # Sums that 64 bits can't hold come as Python's integers: from then on all do.
                held = self._found[need] = held.astype(object)
                array = held
            array[cutoff] = part

    def __getitem__(self, need: Need) -> Any:
        """The need's values, (cutoffs, groups); a tuple of such arrays where a need has several parts."""
        return self._found[need]

    def feature(self, feature: Feature, numeric: frozenset[str]) -> Floats:
        """The feature's values, (cutoffs, groups), NaN where it is null."""
        return finished(feature, self.at, [self[need] for need in needs(feature, numeric)])


# Arrow becomes NumPy -----------------------------------------------------------------------------------------------------------------


def cells_of(rows: pa.Table, measures: Sequence[Measure]) -> dict[Measure, Components]:
    """The measures' columns ``m<number>`` of a table of cells, as components."""
    return {measure: _components(measure.kind, rows.column(f"m{number}")) for number, measure in enumerate(measures)}


def integers(column: pa.ChunkedArray) -> Integers:
    """A column of integers, or of decimals as their digits: int64, or Python's integers where one of them needs more than 64 bits."""
    if not pa.types.is_decimal(column.type):
        kind = column.type.to_pandas_dtype()
        parts = [np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)] for chunk in column.chunks if len(chunk)]
        return np.concatenate(parts) if parts else np.empty(0, kind)
    low, high = _words(column)
    if np.array_equal(high, low >> 63):
        return low
    unit = 10**column.type.scale
    return np.array([int(value * unit) for value in column.to_pylist()], object)


def valid(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where a column is not null. Read from its bits: Arrow's own way to NumPy would load pandas."""
    found = np.ones(len(column), np.bool_)
    start = 0
    for chunk in column.chunks:
        if chunk.null_count:
            bits = np.unpackbits(np.frombuffer(chunk.buffers()[0], np.uint8), bitorder="little")
            found[start : start + len(chunk)] = bits[chunk.offset : chunk.offset + len(chunk)]
        start += len(chunk)
    return found


def _words(column: pa.ChunkedArray) -> tuple[Integers, Integers]:
    """The digits of decimals as 128-bit integers: the lower and the upper 64 bits of each."""
    low, high = np.empty(len(column), np.int64), np.empty(len(column), np.int64)
    start = 0
    for chunk in column.chunks:
        words = np.frombuffer(chunk.buffers()[1], np.int64).reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk)]
        low[start : start + len(chunk)], high[start : start + len(chunk)] = words[:, 0], words[:, 1]
        start += len(chunk)
    return low, high


def _components(kind: str, column: pa.ChunkedArray) -> Components:
    if kind == "squares":
        low, high = _words(column)
        return low & 0xFFFFFFFF, (low >> 32) & 0xFFFFFFFF, high
    if kind in ("first", "last"):
        # The packed integer's upper half is the time, its lower half the value plus 2**63.
        low, high = _words(column)
        present = valid(column)
        return np.where(present, high, MOST if kind == "first" else LEAST), np.where(present, low ^ _SIGN, 0)
    if kind not in _NULLS or not column.null_count:
        return (integers(column),)
    present = valid(column)
    return (np.where(present, integers(column.fill_null(0)), _NULLS[kind]),)


def spread_over(groups: int, group: Integers, values: Any, nothing: Any) -> Any:
    """Values of some groups as an array over all groups."""
    whole = np.full(groups, nothing, values.dtype)
    whole[group] = values
    return whole


def decayed(column: pa.ChunkedArray, unit: int) -> Floats:
    """Sums of weighted values in units of ``1 / unit`` as float64; NaN where there is none."""
    low, high = _words(column)
    # As size and sign: a small negative number's two's complement is two large numbers that cancel out.
    negative = high < 0
    size, above = np.where(negative, -low, low).astype(np.uint64), np.where(negative, ~high + (low == 0), high)
    value = np.where(negative, -1.0, 1.0) * (above * 2.0**64 + size.astype(np.float64)) / float(unit)
    present: npt.NDArray[np.bool_] = valid(column)
    return np.where(present, value, np.nan)
