"""A column of times, whatever it comes in, as microseconds since 1970 in UTC; and what the walls of a zone showed then.

At the end stands what the readers of other columns need as well: values as Python objects, which are null, how they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import DataError, Problem
from persopredict.times import offsets

Ints = NDArray[np.int64]

FLOATS, INTEGERS = (float, np.floating), (int, np.integer)
#: The types of None, and of what pandas calls missing.
NULLS = ("NoneType", "NAType", "NaTType")
_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_EPOCH = datetime(1970, 1, 1)
#: Years 1 to 9999, what a datetime can hold.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
#: NumPy's "not a time"; in this module every null instant.
_NAT = np.iinfo(np.int64).min
#: Offsets are looked up in stretches of 2^48 microseconds, nine years, so that a customer needs one or two of them.
_STRETCH = 48

Reader = Callable[[str, list[Any], tzinfo], Ints]


def instants_of_all(name: str, values: Any, zone: tzinfo) -> Ints:
    """Microseconds since 1970 UTC of a column that must be known everywhere; raises `DataError` like `instants`, and if one is null."""
    found = instants(name, values, zone)
    if found.min(initial=0) == _NAT:
        missing = int((found == _NAT).sum())
        problem = Problem(f"null_{name}", f"{name} is null", count=missing, remedy="fill the time in, or leave the rows out")
        raise DataError("a column can't be read", [problem])
    return found


def instants(name: str, values: Any, zone: tzinfo) -> Ints:
    """Microseconds since 1970 UTC, the smallest integer where null.

    Raises `DataError` if a value is no time, or lies outside the years 1 to 9999.

    >>> from zoneinfo import ZoneInfo
    >>> instants("event_at", ["1970-01-01T01:00", "1970-01-01T00:00:01Z"], ZoneInfo("Europe/Madrid")).tolist()
    [0, 1000000]
    """
    if typed(values, "iu"):
        return _of_integers(name, values, zone)
    if typed(values, "M"):
        return _of_datetime64(name, values, zone)
    given = objects(values)
    kinds = set(map(type, given))
    unreadable = {kind for kind in kinds if _reader(kind) is None}
    if unreadable:
        raise _not_time(name, [value for value in given if type(value) in unreadable])
    return _grouped(kinds, type, given, lambda kind, same: _reader(kind)(name, same, zone))  # type: ignore[misc]


def _grouped(kinds: set[Any], kind_of: Callable[[Any], Any], values: list[Any], read: Callable[[Any, list[Any]], Ints]) -> Ints:
    """The values of each kind read at once, and put back in their places."""
    if len(kinds) == 1:
        return read(next(iter(kinds)), values)
    found = np.empty(len(values), np.int64)
    of_each = list(map(kind_of, values))
    for kind in kinds:
        rows = [row for row, other in enumerate(of_each) if other is kind]
        found[rows] = read(kind, [values[row] for row in rows])
    return found


@lru_cache(maxsize=256)
def _reader(kind: type) -> Reader | None:
    """What reads values of this type as instants; None if nothing does."""
    # pandas' NaT calls itself a datetime, NumPy's durations integers, and a truth value is an integer to Python.
    if kind.__name__ in NULLS:
        return _of_nulls
    if issubclass(kind, bool | np.timedelta64):
        return None
    if hasattr(kind, "to_pydatetime"):
        return _of_timestamps
    readers: tuple[tuple[Any, Reader], ...] = (
        (datetime, _of_datetimes),
        (date, _of_dates),
        (str, _of_texts),
        (INTEGERS, _of_integers),
        (np.datetime64, _of_datetime64),
        (FLOATS, _of_nulls),
    )
    return next((reader for types, reader in readers if issubclass(kind, types)), None)


def _of_nulls(name: str, values: list[Any], zone: tzinfo) -> Ints:
    offending = [value for value in values if not is_null(value)]
    if offending:
        raise _not_time(name, offending)
    return np.full(len(values), _NAT, np.int64)


def _of_integers(name: str, values: Any, zone: tzinfo) -> Ints:
    try:
        given = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
    except OverflowError:
        raise _outside(name, [value for value in values if not _FIRST_US <= value <= _LAST_US]) from None
    if given.min(initial=0) < _FIRST_US or given.max(initial=0) > _LAST_US:
        beyond = ((given < _FIRST_US) | (given > _LAST_US)) & (given != _NAT)
        if beyond.any():
            raise _outside(name, given[beyond].tolist())
    return given.astype(np.int64, copy=False)


def _of_datetime64(name: str, values: Any, zone: tzinfo) -> Ints:
    given = np.asarray(values)
    if np.datetime_data(given.dtype)[0] in ("Y", "M", "W", "D", "h", "m", "s", "ms", "us"):
        # Judged in its own unit: what lies beyond would wrap around in microseconds. Finer units can't reach beyond.
        first, last = (np.datetime64(side, "us").astype(given.dtype) for side in (_FIRST_US, _LAST_US))
        beyond = (given < first) | (given > last)
        if beyond.any():
            raise _outside(name, given[beyond].astype(str).tolist())
    return given.astype("datetime64[us]").view(np.int64)


def _of_datetimes(name: str, values: list[Any], zone: tzinfo) -> Ints:
    kinds = set(map(_is_naive, values))
    return _grouped(kinds, _is_naive, values, lambda naive, same: _of_walls(same, zone) if naive else _of_aware(same))


def _is_naive(value: datetime) -> bool:
    return value.tzinfo is None


def _of_aware(values: list[Any]) -> Ints:
    seconds = np.fromiter(map(datetime.timestamp, values), np.float64, len(values))
    if np.abs(seconds).max() < 2**31:
        # So near to 1970 a double tells every microsecond apart.
        return np.rint(seconds * 1e6).astype(np.int64)
    return np.array([(value - _EPOCH) // _MICROSECOND for value in values], np.int64)


def _of_walls(values: list[Any], zone: tzinfo) -> Ints:
    return _utc(np.array([(value - _WALL_EPOCH) // _MICROSECOND for value in values], np.int64), zone)


def _of_timestamps(name: str, values: list[Any], zone: tzinfo) -> Ints:
    """Of pandas' own datetimes: their nanoseconds are quick to get, but reach from 1678 to 2262 only."""

    def read(naive: bool, same: list[Any]) -> Ints:
        us = np.array([value.value for value in same], np.int64) // 1000
        return _utc(us, zone) if naive else us

    try:
        return _grouped(set(map(_is_naive, values)), _is_naive, values, read)
    except OverflowError:
        return _of_datetimes(name, [value.to_pydatetime(warn=False) for value in values], zone)


def _of_dates(name: str, values: list[Any], zone: tzinfo) -> Ints:
    return _of_walls([datetime.combine(value, time()) for value in values], zone)


def _of_texts(name: str, values: list[Any], zone: tzinfo) -> Ints:
    try:
        return _of_datetimes(name, list(map(datetime.fromisoformat, values)), zone)
    except ValueError:
        moments = [_from_iso(value.strip()) for value in values]
    offending = [value for value, moment in zip(values, moments, strict=True) if moment is None]
    if offending:
        remedy = "write times like 2017-12-03T06:00:00+01:00"
        raise refusal(f"unparsable_{name}", f"{name} is not a time", offending, remedy=remedy)
    return _of_datetimes(name, moments, zone)


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _not_time(name: str, offending: list[Any]) -> DataError:
    remedy = "give aware datetimes, datetime64, ISO text, or integers: microseconds since 1970"
    return refusal("mistyped_column", f"{name} needs times and holds {type(offending[0]).__name__}", offending, remedy=remedy)


def _outside(name: str, offending: list[Any]) -> DataError:
    remedy = "integers are microseconds since 1970"
    return refusal("instant_out_of_range", f"{name} lies outside the years 1 to 9999", offending, remedy=remedy)


def local_us(us: Ints, zone: tzinfo) -> Ints:
    """What the clocks of `zone` showed at these instants, as microseconds since they showed 1970.

    >>> from zoneinfo import ZoneInfo
    >>> local_us(np.array([0]), ZoneInfo("Asia/Kathmandu")) // 60_000_000
    array([330])
    """
    bounds, added = _offsets(zone, us)
    found: Ints = us + (added[bounds.searchsorted(us, side="right")] if len(bounds) else added)
    return found


def _utc(wall: Ints, zone: tzinfo) -> Ints:
    """Instants of what the clocks of `zone` showed, as the log reads them: a change comes where the new offset's clock passes it, so that
    skipped times move forward and repeated ones are their second pass.
    """
    bounds, added = _offsets(zone, np.concatenate((wall - _DAY, wall + _DAY)))
    passed = np.maximum.accumulate(bounds + added[1:])
    found: Ints = wall - added[passed.searchsorted(wall, side="right")]
    return found


def _offsets(zone: tzinfo, us: Ints) -> tuple[Ints, Ints]:
    """When the zone's offset changes around these instants, and the microseconds to add to UTC before, between and after the changes."""
    if not len(us):
        return np.zeros(0, np.int64), np.zeros(1, np.int64)
    first, last = int(us.min()) >> _STRETCH, int(us.max()) >> _STRETCH
    stretches = {first, last} if last - first < 2 else np.unique(us >> _STRETCH).tolist()
    return _table(zone, tuple(sorted(stretches)))


@lru_cache(maxsize=4096)
def _table(zone: tzinfo, stretches: tuple[int, ...]) -> tuple[Ints, Ints]:
    changes = [change for stretch in stretches for change in _changes(zone, stretch)]
    return np.array([start for start, _ in changes[1:]], np.int64), np.array([added for _, added in changes] or [0], np.int64)


@lru_cache(maxsize=4096)
def _changes(zone: tzinfo, stretch: int) -> list[tuple[int, int]]:
    """(from when, microseconds to add to UTC) within one stretch. Where the calendar ends, its last day's offset goes on."""
    start, end = max(stretch << _STRETCH, _FIRST_US + _DAY), min((stretch + 1) << _STRETCH, _LAST_US - _DAY)
    found = offsets(zone, _EPOCH + start * _MICROSECOND, _EPOCH + end * _MICROSECOND)
    starts = [stretch << _STRETCH, *((until - _EPOCH) // _MICROSECOND for until, _ in found if until is not None)]
    return list(zip(starts, (added for _, added in found), strict=True))


# What every column's readers share ----------------------------------------------------------------------------------------------------


def refusal(code: str, message: str, offending: Sequence[Any] = (), *, remedy: str) -> DataError:
    """The error of one column whose values `offending` can't be read."""
    example = repr(offending[0]) if len(offending) else ""
    return DataError("a column can't be read", [Problem(code, message, count=len(offending), example=example, remedy=remedy)])


def objects(values: Any) -> list[Any]:
    """The values as Python objects. Short floats stay what they are, for the sake of their text; times too, which would become integers."""
    if isinstance(values, np.ndarray):
        scalars = values.dtype.kind in "mM" or (values.dtype.kind == "f" and values.dtype.itemsize < 8)
        return list(values) if scalars and not isinstance(values, np.ma.MaskedArray) else list(values.tolist())
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values)


def typed(values: Any, kinds: str) -> bool:
    """Whether it is an array of one of these kinds that says itself which rows are null."""
    return isinstance(values, np.ndarray) and values.dtype.kind in kinds and not isinstance(values, np.ma.MaskedArray)


def is_null(value: Any) -> bool:
    """None, NaN, NaT, and what pandas calls missing, which is equal to nothing and not unequal either."""
    if isinstance(value, FLOATS):
        return bool(value != value)
    return type(value).__name__ in NULLS or (isinstance(value, Decimal) and value.is_nan())
