"""One customer's events as typed arrays, for features without a database: every value is read as the log's intake would have read it.

Numbers are int64 millionths, as the log's DECIMAL(18, 6); texts are small integer codes; instants are microseconds since 1970 in UTC, and
the calendar follows from them by the zone's offsets. A column is converted when something first reads it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cached_property, partial
from itertools import count
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.features.instants import (
    FLOATS,
    INTEGERS,
    NULLS,
    Ints,
    instants,
    instants_of_all,
    is_null,
    local_us,
    objects,
    refusal,
    typed,
)
from persopredict.features.spec import CALENDAR

Mask = NDArray[np.bool_]

#: Numbers of the common model; further ones are named by whoever knows the log.
NUMBERS = ("quantity", "value")
MILLION = 1_000_000
_PLAIN = {float, int, bool, type(None)}
_NUMERIC = (*FLOATS, *INTEGERS, np.bool_, Decimal)
_TEXTUAL = (str, UUID, *_NUMERIC)
_NO_SEQUENCES = (str, bytes, Mapping, set, frozenset)
#: 18 digits, 6 of them after the point.
_LARGEST = 10**12
_WIDE = Context(prec=200)
_HOUR, _DAY = 3_600_000_000, 86_400_000_000


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
            event_us = known_us = _collected(problems, lambda: instants_of_all("event_at", events["event_at"], zone))
        elif "event_at" not in events:
            problems.append(Problem("missing_column", "no column for event_at", remedy=did_you_mean("event_at", events)))
        if "known_at" in columns_given:
            known_us = _collected(problems, lambda: instants("known_at", events["known_at"], zone))
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
        return local_us(self.event_us, self._zone)

    def _given(self, name: str) -> Any:
        if name not in self._events:
            raise refusal("missing_column", f"no column {name!r}", remedy=did_you_mean(name, self._events))
        return self._events[name]


def _collected(problems: list[Problem], read: Callable[[], Any]) -> Any:
    """What `read` gives; None and its problems noted if it can't be read."""
    try:
        return read()
    except DataError as error:
        problems.extend(error.problems)
    return None


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


def _strangers(listed: list[Any], kinds: set[type], expected: tuple[type, ...]) -> list[Any]:
    """The values that are neither null nor of the expected types; NumPy's durations call themselves integers, and are none."""
    strange = {
        kind for kind in kinds if kind.__name__ not in NULLS and (issubclass(kind, np.timedelta64) or not issubclass(kind, expected))
    }
    return [value for value in listed if type(value) in strange] if strange else []


# Numbers ---------------------------------------------------------------------------------------------------------------------------


def _numbers(name: str, values: Any) -> Numbers:
    if typed(values, "f"):
        return _of_floats(name, values)
    if typed(values, "iub"):
        beyond = (values >= _LARGEST) | (values <= -_LARGEST) if values.dtype.itemsize == 8 else np.zeros(0, bool)
        if beyond.any():
            raise _out_of_range(name, values[beyond].tolist())
        return Numbers(values.astype(np.int64) * MILLION, MILLION, None)
    listed = objects(values)
    kinds = set(map(type, listed))
    if not kinds <= _PLAIN:
        strangers = _strangers(listed, kinds, _NUMERIC)
        if strangers:
            text = f"{name} needs numbers and holds {type(strangers[0]).__name__}"
            raise refusal("mistyped_column", text, strangers, remedy="give int, float or Decimal, None for null")
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
    if is_null(value):
        return None
    if isinstance(value, FLOATS):
        return int(_of_floats(name, np.array([value], np.float64)).units[0])
    return int(value) * MILLION


def _out_of_range(name: str, offending: list[Any]) -> DataError:
    text = f"{name} is infinite or beyond 10^12: a log's numbers have 18 digits, 6 of them after the point"
    return refusal("number_out_of_range", text, offending, remedy="give it in a larger unit, or leave the rows out")


# Texts -----------------------------------------------------------------------------------------------------------------------------


def _texts(name: str, values: Any) -> Texts:
    given = objects(values)
    #: Each different value with its code, in the order in which they come.
    code_of: defaultdict[Any, int] = defaultdict(count().__next__, {None: -1})
    try:
        codes = np.fromiter(map(code_of.__getitem__, given), np.int64, len(given))
    except TypeError:
        # Lists and the like, which nothing can be looked up by.
        raise _not_text(name, _strangers(given, set(map(type, given)), _TEXTUAL)) from None
    del code_of[None]
    code_of.default_factory = None
    index: Mapping[str, int] = code_of
    kinds = set(map(type, code_of))
    if not kinds <= {str}:
        strangers = _strangers(given, kinds, _TEXTUAL)
        if strangers:
            raise _not_text(name, strangers)
        spelled = _spelled(name, list(code_of), kinds)
        texts = dict.fromkeys(text for text in spelled if text is not None)
        index = dict(zip(texts, range(len(texts)), strict=True))
        # The entry at the end is for nulls.
        codes = np.array([*(-1 if text is None else index[text] for text in spelled), -1])[codes]
    valid = codes >= 0
    return Texts(codes, index, None if valid.all() else valid)


def _spelled(name: str, values: list[Any], kinds: set[type]) -> list[str | None]:
    """The texts of values that aren't all text."""
    if kinds <= {int, float}:
        known = [value for value in values if value == value]
        try:
            whole = list(map(int, known))
        except OverflowError:
            whole = []
        if whole == known and max(map(abs, whole), default=0) < 2**63:
            texts = map(str, whole)
            return [next(texts) if value == value else None for value in values]
    return [_canonical(name, value) for value in values]


def _canonical(name: str, value: Any) -> str | None:
    """The text of one id, None if it is null: whole numbers without a point, whatever type a frame gave them."""
    if isinstance(value, str):
        return str.__str__(value)
    if is_null(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, (*FLOATS, Decimal)):
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
    return refusal("mistyped_column", text, offending, remedy="give texts or whole numbers, None for null")
