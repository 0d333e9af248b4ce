"""One customer's events as typed arrays, for features without a database: every value is read as the log's intake would have read it.

Numbers are int64 millionths, as the log's DECIMAL(18, 6); texts are small integer codes; instants are microseconds since 1970 in UTC, and
the calendar follows from them by the zone's offsets. A column is converted when something first reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cached_property, lru_cache, partial
from itertools import repeat
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.features.spec import CALENDAR
from persopredict.times import offsets

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Numbers of the common model; further ones are named by whoever knows the log.
NUMBERS = ("quantity", "value")
MILLION = 1_000_000
_FLOATS, _INTEGERS = (float, np.floating), (int, np.integer)
_PLAIN = {float, int, bool, type(None)}
_NUMERIC = (*_FLOATS, *_INTEGERS, np.bool_, Decimal)
_TEXTUAL = (str, UUID, *_NUMERIC)
#: The types of None, and of what pandas calls missing.
_NULLS = ("NoneType", "NAType", "NaTType")
_NO_SEQUENCES = (str, bytes, Mapping, set, frozenset)
#: 18 digits, 6 of them after the point.
_LARGEST = 10**12
_WIDE = Context(prec=200)
_MICROSECOND = timedelta(microseconds=1)
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_EPOCH = datetime(1970, 1, 1)
#: Years 1 to 9999, what a datetime can hold.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
#: NumPy's "not a time"; in this module every null instant.
_NAT = np.iinfo(np.int64).min
#: Offsets are looked up in stretches of 2^48 microseconds, nine years, so that a customer needs one or two of them.
_STRETCH = 48


@dataclass(frozen=True, slots=True)
class Numbers:
    """Exact numbers: ``units / scale``. `valid` is None if no row is null; null rows hold 0 units."""

    units: Ints
    scale: int
    valid: Mask | None


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts by code: `codes` holds each row's position in `index`, -1 where it is null. `valid` is None if no row is null.

    `index` goes from each different text to its code, in the order of codes; codes say nothing about the order of texts.
    """

    codes: Ints
    index: Mapping[str, int]
    valid: Mask | None


class Columns:
    """One customer's events by column; made by `Columns.of`. All arrays have one entry per event, in the order given, and are read-only.

    `event_us` and `known_us` are int64 microseconds since 1970 UTC; `known_us` is never before `event_us`. `masks` keeps the conditions
    that were evaluated, by their text, so that features share them.
    """

    def __init__(self, events: Mapping[str, Any], zone: tzinfo, numeric: frozenset[str], event_us: Ints, known_us: Ints) -> None:
        self._events, self._zone, self._numeric = events, zone, numeric
        self._numbers: dict[str, Numbers] = {}
        self._texts: dict[str, Texts] = {}
        self.event_us, self.known_us = event_us, known_us
        self.masks: dict[str, Mask] = {}

    @classmethod
    def of(
        cls, events: Mapping[str, Sequence[Any] | NDArray[Any]], *, zone: tzinfo, numeric: Iterable[str] = (), reads: Iterable[str] = ()
    ) -> Columns:
        """The columns of one customer's events.

        Parameters
        ----------
        events : column name of the common model to a sequence or NumPy array with one entry per event, in any order. `event_at` is
            needed, `known_at` may be there: aware datetimes, datetime64 (UTC), int64 microseconds since 1970, or ISO text; times without
            an offset are read in `zone` (a repeated hour is its second pass, a skipped one moves forward, as in a log). Further digits
            than microseconds are dropped. None, NaN and NaT are null.
        zone : the log's time zone.
        numeric : columns that hold numbers besides `quantity` and `value`; all others hold text.
        reads : columns to convert at once, so that all their problems are told together; others are converted when they are first read.

        Raises
        ------
        DataError : with every problem of `event_at`, `known_at`, the lengths and the columns of `reads`.

        >>> from zoneinfo import ZoneInfo
        >>> events = {"event_at": ["2024-03-10T03:30:00-04:00"], "value": [19.99], "item_id": [7.0]}
        >>> columns = Columns.of(events, zone=ZoneInfo("America/New_York"))
        >>> columns.number("value").units, list(columns.text("item_id").index), columns.hour, columns.weekday
        (array([19990000]), ['7'], array([3]), array([7]))
        >>> Columns.of({"event_at": [None], "chanel": []}, zone=ZoneInfo("UTC"), reads=["channel"])
        Traceback (most recent call last):
        persopredict.errors.DataError: the events can't be read:
          - error uneven_columns: columns differ in length: event_at 1, chanel 0. Remedy: give every column one entry per event.
          - error null_event_at: event_at is null (1). Remedy: fill the time in, or leave the rows out.
          - error missing_column: no column 'channel'. Remedy: did you mean 'chanel'?
        """
        problems, columns_given = _sequences(events)
        event_us = known_us = None
        if "event_at" in columns_given:
            event_us = known_us = _collected(problems, lambda: _event_us("event_at", events["event_at"], zone))
        elif "event_at" not in events:
            problems.append(Problem("missing_column", "no column for event_at", remedy=did_you_mean("event_at", events)))
        if "known_at" in columns_given:
            known_us = _collected(problems, lambda: _instants("known_at", events["known_at"], zone))
        unread = np.zeros(0, np.int64)
        columns = cls(columns_given, zone, frozenset((*NUMBERS, *numeric)), unread, unread)
        for name in reads:
            if name not in CALENDAR and (name in columns_given or name not in events):
                _collected(problems, partial(columns.valid, name))
        if problems or event_us is None or known_us is None:
            raise DataError("the events can't be read", problems)
        # A null is the smallest integer, so that the later of both times is the event's.
        columns.event_us, columns.known_us = event_us, np.maximum(event_us, known_us)
        return columns

    def __len__(self) -> int:
        """The number of events."""
        return len(self.event_us)

    def is_number(self, name: str) -> bool:
        """Whether the column holds numbers; the calendar does."""
        return name in self._numeric or name in CALENDAR

    def number(self, name: str) -> Numbers:
        """A column of numbers: millionths, or whole numbers for `day`, `hour` and `weekday`.

        Raises `DataError` if it is missing or can't be read, `SpecificationError` if it holds text.
        """
        found = self._numbers.get(name)
        if found is None:
            if not self.is_number(name):
                raise SpecificationError(f"{name!r} holds text, not numbers; compare it with text")
            found = Numbers(getattr(self, name), 1, None) if name in CALENDAR else _numbers(name, self._given(name))
            self._numbers[name] = found
        return found

    def text(self, name: str) -> Texts:
        """A column of text, ids in their canonical spelling.

        Raises `DataError` if it is missing or can't be read, `SpecificationError` if it holds numbers.
        """
        found = self._texts.get(name)
        if found is None:
            if self.is_number(name):
                raise SpecificationError(f"{name!r} holds numbers, not text; compare it with numbers")
            found = self._texts[name] = _texts(name, self._given(name))
        return found

    def valid(self, name: str) -> Mask | None:
        """Where the column is not null; None if it nowhere is."""
        return self.number(name).valid if self.is_number(name) else self.text(name).valid

    @cached_property
    def day(self) -> Ints:
        """The local day, 1970-01-01 being 0."""
        return self._local_us // _DAY

    @cached_property
    def hour(self) -> Ints:
        """The local hour, 0 to 23."""
        return (self._local_us - self.day * _DAY) // _HOUR

    @cached_property
    def weekday(self) -> Ints:
        """The local ISO weekday, 1 to 7; 1970-01-01 was a Thursday."""
        return (self.day + 3) % 7 + 1

    @cached_property
    def _local_us(self) -> Ints:
        bounds, added = _offsets(self._zone, self.event_us)
        found: Ints = self.event_us + added[bounds.searchsorted(self.event_us, side="right")]
        return found

    def _given(self, name: str) -> Any:
        if name not in self._events:
            raise _refusal("missing_column", f"no column {name!r}", remedy=did_you_mean(name, self._events))
        return self._events[name]


def _collected(problems: list[Problem], read: Callable[[], Any]) -> Any:
    """What `read` gives; None and its problems noted if it can't be read."""
    try:
        return read()
    except DataError as error:
        problems.extend(error.problems)
    return None


def _refusal(code: str, message: str, offending: Sequence[Any] = (), *, remedy: str) -> DataError:
    example = repr(offending[0]) if len(offending) else ""
    return DataError("a column can't be read", [Problem(code, message, count=len(offending), example=example, remedy=remedy)])


def _sequences(events: Mapping[str, Any]) -> tuple[list[Problem], dict[str, Any]]:
    """What is wrong with the columns' shapes, and the columns that are sequences of the right length."""
    problems, found = [], {}
    for name, values in events.items():
        if type(values) is not list and (
            isinstance(values, _NO_SEQUENCES) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) != 1
        ):
            text = f"{name} is {type(values).__name__}, not a sequence with one entry per event"
            problems.append(Problem("not_a_column", text, remedy="give a list or a one-dimensional array"))
        else:
            found[name] = values
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        problems.append(Problem("uneven_columns", f"columns differ in length: {text}", remedy="give every column one entry per event"))
    return problems, found


def _listed(values: Any) -> list[Any]:
    """The values as Python objects. Short floats stay what they are, for the sake of their text; times too, which would become integers."""
    if isinstance(values, np.ndarray):
        scalars = values.dtype.kind in "mM" or (values.dtype.kind == "f" and values.dtype.itemsize < 8)
        return list(values) if scalars and not isinstance(values, np.ma.MaskedArray) else list(values.tolist())
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values)


def _typed(values: Any, kinds: str) -> bool:
    """Whether it is an array of one of these kinds that says itself which rows are null."""
    return isinstance(values, np.ndarray) and values.dtype.kind in kinds and not isinstance(values, np.ma.MaskedArray)


def _is_null(value: Any) -> bool:
    """None, NaN, NaT, and what pandas calls missing, which is equal to nothing and not unequal either."""
    if isinstance(value, _FLOATS):
        return bool(value != value)
    return type(value).__name__ in _NULLS or (isinstance(value, Decimal) and value.is_nan())


def _strangers(listed: list[Any], kinds: set[type], expected: tuple[type, ...]) -> list[Any]:
    """The values that are neither null nor of the expected types; NumPy's durations call themselves integers, and are none."""
    strange = {
        kind for kind in kinds if kind.__name__ not in _NULLS and (issubclass(kind, np.timedelta64) or not issubclass(kind, expected))
    }
    return [value for value in listed if type(value) in strange] if strange else []


# Numbers ---------------------------------------------------------------------------------------------------------------------------


def _numbers(name: str, values: Any) -> Numbers:
    if _typed(values, "f"):
        return _of_floats(name, values)
    if _typed(values, "iub"):
        beyond = (values >= _LARGEST) | (values <= -_LARGEST) if values.dtype.itemsize == 8 else np.zeros(0, bool)
        if beyond.any():
            raise _out_of_range(name, values[beyond].tolist())
        return Numbers(values.astype(np.int64) * MILLION, MILLION, None)
    listed = _listed(values)
    kinds = set(map(type, listed))
    if not kinds <= _PLAIN:
        strangers = _strangers(listed, kinds, _NUMERIC)
        if strangers:
            text = f"{name} needs numbers and holds {type(strangers[0]).__name__}"
            raise _refusal("mistyped_column", text, strangers, remedy="give int, float or Decimal, None for null")
        return _of_units(name, listed, [_units(name, value) for value in listed])
    try:
        floats = np.array(listed, np.float64)
    except OverflowError:
        raise _out_of_range(name, [value for value in listed if value and abs(value) >= _LARGEST]) from None
    numbers = _of_floats(name, floats)
    if int in kinds:
        # Products with a million are exact up to 2^53; from there on, whole numbers are multiplied as such.
        for row in np.flatnonzero(np.abs(floats) > 2**33):
            if type(listed[row]) is int:
                numbers.units[row] = listed[row] * MILLION
    return numbers


def _of_floats(name: str, floats: NDArray[np.floating[Any]]) -> Numbers:
    """Millionths of floats as DuckDB casts them to DECIMAL(18, 6): the product in double precision, halves away from zero."""
    missing = np.isnan(floats)
    valid = ~missing if missing.any() else None
    exact = floats.astype(np.float64) if valid is None else np.where(missing, 0.0, floats).astype(np.float64)
    beyond = np.abs(exact) >= _LARGEST
    if beyond.any():
        raise _out_of_range(name, exact[beyond].tolist())
    scaled = exact * 1e6
    whole = np.trunc(scaled)
    return Numbers((whole + np.copysign(np.abs(scaled - whole) >= 0.5, scaled)).astype(np.int64), MILLION, valid)


def _of_units(name: str, listed: list[Any], units: list[int | None]) -> Numbers:
    limit = _LARGEST * MILLION
    beyond = [value for value, unit in zip(listed, units, strict=True) if unit is not None and abs(unit) >= limit]
    if beyond:
        raise _out_of_range(name, beyond)
    valid = np.array([unit is not None for unit in units]) if None in units else None
    return Numbers(np.array([unit or 0 for unit in units], np.int64), MILLION, valid)


def _units(name: str, value: Any) -> int | None:
    """Millionths of one number, None if it is null."""
    if isinstance(value, Decimal) and not value.is_nan():
        # Checked before it becomes an integer: 1e999999999 is short as text only.
        enormous = value.is_infinite() or (value and value.adjusted() >= 12)
        return _LARGEST * MILLION if enormous else int(value.scaleb(6, _WIDE).to_integral_value(ROUND_HALF_UP))
    if _is_null(value):
        return None
    if isinstance(value, _FLOATS):
        return int(_of_floats(name, np.array([value], np.float64)).units[0])
    return int(value) * MILLION


def _out_of_range(name: str, offending: list[Any]) -> DataError:
    text = f"{name} is infinite or beyond 10^12: a log's numbers have 18 digits, 6 of them after the point"
    return _refusal("number_out_of_range", text, offending, remedy="give it in a larger unit, or leave the rows out")


# Texts -----------------------------------------------------------------------------------------------------------------------------


def _texts(name: str, values: Any) -> Texts:
    listed = _listed(values)
    try:
        different = dict.fromkeys(listed)
    except TypeError:
        # Lists and the like, which nothing can be looked up by.
        raise _not_text(name, _strangers(listed, set(map(type, listed)), _TEXTUAL)) from None
    kinds = set(map(type, different))
    if kinds <= _PLAIN and float in kinds:
        # Every NaN would be a value of its own.
        listed = [None if value != value else value for value in listed]
        different = dict.fromkeys(listed)
    null = None in different
    different.pop(None, None)
    index: dict[Any, int] = dict(zip(different, range(len(different)), strict=True))
    code_of = index
    if not kinds <= {str, type(None)}:
        strangers = _strangers(listed, kinds, _TEXTUAL)
        if strangers:
            raise _not_text(name, strangers)
        spelled = _spelled(name, list(different), kinds)
        texts = dict.fromkeys(spelled)
        null = null or None in texts
        texts.pop(None, None)
        index = dict(zip(texts, range(len(texts)), strict=True))
        if len(texts) < len(spelled):
            code_of = {value: index.get(text, -1) for value, text in zip(different, spelled, strict=True)}
    found = map(code_of.get, listed, repeat(-1)) if null else map(code_of.__getitem__, listed)
    codes = np.fromiter(found, np.int64, len(listed))
    return Texts(codes, index, codes >= 0 if null else None)


def _spelled(name: str, values: list[Any], kinds: set[type]) -> list[str | None]:
    """The texts of values that aren't all text."""
    if kinds <= _PLAIN - {bool}:
        try:
            whole = list(map(int, values))
        except OverflowError:
            whole = []
        if whole == values and max(map(abs, whole), default=0) < 2**63:
            return list(map(str, whole))
    return [_canonical(name, value) for value in values]


def _canonical(name: str, value: Any) -> str | None:
    """The text of one id, None if it is null: whole numbers without a point, whatever type a frame gave them."""
    if isinstance(value, str):
        return str.__str__(value)
    if _is_null(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, (*_FLOATS, Decimal)):
        # The log reads whole numbers as 128-bit integers: there is nothing beyond.
        if not -(2**127) < value < 2**127:
            return None
        if value == int(value):
            return str(int(value))
        if not isinstance(value, Decimal):
            return str(value)
        # A fraction's text has as many digits as the log's column, which a single customer's events don't tell.
        raise _not_text(name, [value])
    return str(value)


def _not_text(name: str, offending: list[Any]) -> DataError:
    text = f"{name} needs text and holds {type(offending[0]).__name__}"
    return _refusal("mistyped_column", text, offending, remedy="give texts or whole numbers, None for null")


# Time ------------------------------------------------------------------------------------------------------------------------------

Reader = Callable[[str, list[Any], tzinfo], Ints]


def _event_us(name: str, values: Any, zone: tzinfo) -> Ints:
    found = _instants(name, values, zone)
    missing = int((found == _NAT).sum())
    if missing:
        problem = Problem(f"null_{name}", f"{name} is null", count=missing, remedy="fill the time in, or leave the rows out")
        raise DataError("a column can't be read", [problem])
    return found


def _instants(name: str, values: Any, zone: tzinfo) -> Ints:
    """Microseconds since 1970 UTC, `_NAT` where null."""
    if _typed(values, "iu"):
        return _of_integers(name, values, zone)
    if _typed(values, "M"):
        return _of_datetime64(name, values, zone)
    listed = _listed(values)
    unreadable = {kind for kind in set(map(type, listed)) if _reader(kind) is None}
    if unreadable:
        raise _not_time(name, [value for value in listed if type(value) in unreadable])
    return _grouped(map(type, listed), listed, lambda kind, same: _reader(kind)(name, same, zone))  # type: ignore[misc]


def _grouped(kinds: Iterable[Any], values: list[Any], read: Callable[[Any, list[Any]], Ints]) -> Ints:
    """The values of each kind read at once, and put back in their places."""
    of_each = list(kinds)
    different = set(of_each)
    if len(different) == 1:
        return read(of_each[0], values)
    found = np.empty(len(values), np.int64)
    for kind in different:
        rows = [row for row, other in enumerate(of_each) if other is kind]
        found[rows] = read(kind, [values[row] for row in rows])
    return found


@lru_cache(maxsize=256)
def _reader(kind: type) -> Reader | None:
    """What reads values of this type as instants; None if nothing does."""
    # pandas' NaT calls itself a datetime, NumPy's durations integers, and a truth value is an integer to Python.
    if kind.__name__ in _NULLS:
        return _of_nulls
    if issubclass(kind, bool | np.timedelta64):
        return None
    if hasattr(kind, "to_pydatetime"):
        return _of_timestamps
    readers: tuple[tuple[Any, Reader], ...] = (
        (datetime, _of_datetimes),
        (date, _of_dates),
        (str, _of_texts),
        (_INTEGERS, _of_integers),
        (np.datetime64, _of_datetime64),
        (_FLOATS, _of_nulls),
    )
    return next((reader for types, reader in readers if issubclass(kind, types)), None)


def _of_nulls(name: str, values: list[Any], zone: tzinfo) -> Ints:
    offending = [value for value in values if not _is_null(value)]
    if offending:
        raise _not_time(name, offending)
    return np.full(len(values), _NAT, np.int64)


def _of_integers(name: str, values: Any, zone: tzinfo) -> Ints:
    try:
        given = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
    except OverflowError:
        raise _outside(name, [value for value in values if not _FIRST_US <= value <= _LAST_US]) from None
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
    naive = [value.tzinfo is None for value in values]
    return _grouped(naive, values, lambda naive, same: _of_walls(same, zone) if naive else _of_aware(same))


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
        return _grouped([value.tzinfo is None for value in values], values, read)
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
        raise _refusal(f"unparsable_{name}", f"{name} is not a time", offending, remedy=remedy)
    return _of_datetimes(name, moments, zone)


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _not_time(name: str, offending: list[Any]) -> DataError:
    remedy = "give aware datetimes, datetime64, ISO text, or integers: microseconds since 1970"
    return _refusal("mistyped_column", f"{name} needs times and holds {type(offending[0]).__name__}", offending, remedy=remedy)


def _outside(name: str, offending: list[Any]) -> DataError:
    remedy = "integers are microseconds since 1970"
    return _refusal("instant_out_of_range", f"{name} lies outside the years 1 to 9999", offending, remedy=remedy)


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
    return _table(zone, tuple(np.unique(us >> _STRETCH).tolist()))


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
