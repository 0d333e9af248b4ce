"""The same features over one customer's events, in NumPy and without an engine: for the web call that can't wait.

The specs, the needs and what becomes of them are those of the engines (`measures`); only the windows are cut here, out of arrays in order
of time, for all windows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from persopredict.engines.expressions import microseconds
from persopredict.features.columns import Columns
from persopredict.features.masks import compile_condition
from persopredict.features.measured import weights
from persopredict.features.measures import (
    LEAST,
    MILLION,
    MOST,
    RECIPES,
    Asked,
    At,
    Dated,
    Days,
    Decayed,
    Distinct,
    Floats,
    Integers,
    Measure,
    Need,
    Part,
    Squares,
    needs,
)
from persopredict.features.spec import AGGREGATES, CALENDAR, DECAY_DECIMALS, Feature
from persopredict.times import instant, zone

_DAYS_BEFORE_1970 = date(1970, 1, 1).toordinal()


class OnlineFeatures:
    """Features of one customer at a time.

    Parameters
    ----------
    features : the specs.
    timezone : of days and hours, and of times without an offset.
    numeric : further columns that hold numbers; `quantity` and `value` do, and so do those whose sums, means or extremes are asked for.

    >>> features = [Feature("count", window="7d", fallback=0), Feature("sum", "value", where="event = 'purchase'", fallback=None)]
    >>> online = OnlineFeatures(features)
    >>> events = {"event_at": ["2024-03-01T10:00Z", "2024-03-02T09:00Z"], "event": ["visit", "purchase"], "value": [None, 19.9]}
    >>> online.row(events, "2024-03-09")
    {'count_7d': 1.0, 'sum_value_purchase_all': 19.9}
    """

    def __init__(self, features: Sequence[Feature], *, timezone: str = "UTC", numeric: Collection[str] = ()) -> None:
        self.features = tuple(features)
        self._zone = zone(timezone)
        added = {column for feature in features if AGGREGATES[feature.aggregate].numeric for column in feature.columns}
        added |= {feature.columns[0] for feature in features if feature.aggregate == "ratio"}
        self._numeric = frozenset({"quantity", "value", *CALENDAR, *added, *numeric})
        wanted = [needs(feature, self._numeric) for feature in self.features]
        self._asked = Asked.of(need for each in wanted for need in each)
        self._windows = self._asked.windows
        self._place = {window: place for place, window in enumerate(self._windows)}
        self._conditions = {text: compile_condition(text) for text in self._asked.conditions}
        self._reads = tuple(dict.fromkeys((*self._asked.natural, *self._asked.numbers)))
        self._groups = self._grouped(wanted)
        self._fallbacks = np.array([np.nan if feature.fallback is None else feature.fallback for feature in self.features])

    def _grouped(self, wanted: Sequence[Sequence[Need]]) -> list[tuple[str, npt.NDArray[np.intp], list[list[tuple[Part, int]]]]]:
        """Features whose values come of one call each: same aggregate, same kinds of needs."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for position, (feature, asked) in enumerate(zip(self.features, wanted, strict=True)):
            kinds = tuple(need.part.kind if isinstance(need.part, Measure) else type(need.part).__name__ for need in asked)
            alike.setdefault((feature.aggregate, kinds), []).append(position)
        found = []
        for (aggregate, kinds), positions in alike.items():
            parts = [[(wanted[p][n].part, self._place[wanted[p][n].window]) for p in positions] for n in range(len(kinds))]
            found.append((aggregate, np.array(positions), parts))
        return found

    def values(self, events: Mapping[str, Any], as_of: str | datetime) -> Floats:
        """The features at `as_of`, as float64 in their order, NaN where undefined.

        Parameters
        ----------
        events : one customer's events, in any order: for each column of the common model that is read a sequence or an array. `event_at`
            and `known_at` are aware datetimes, datetime64 (UTC), integers (microseconds since 1970) or ISO text. None and NaN are null.
        as_of : the cutoff; naive ones are read in the time zone.

        Raises
        ------
        DataError : with everything that is wrong with the events.
        """
        cutoff = instant(as_of, self._zone)
        columns = Columns.of(events, zone=self._zone, numeric=self._numeric, reads=self._reads)
        day = cutoff.astimezone(self._zone).toordinal() - _DAYS_BEFORE_1970
        history = _History(columns, microseconds(cutoff), day, self._conditions)
        starts = np.array([LEAST if window is None else microseconds(window.before(cutoff, self._zone)) for window in self._windows])
        found: dict[Part, Any] = {part: history.windowed(part, starts) for part in self._asked.parts}
        at = At(np.array(history.cutoff_us), np.array(day))
        values = np.empty(len(self.features))
        for aggregate, positions, parts in self._groups:
            values[positions] = RECIPES[aggregate].value(at, *(_gathered(found, part) for part in parts))
        return np.where(np.isnan(values), self._fallbacks, values)

    def row(self, events: Mapping[str, Any], as_of: str | datetime) -> dict[str, float | None]:
        """The features at `as_of` by name, None where undefined; see `values`."""
        found = self.values(events, as_of).tolist()
        return {feature.name: None if value != value else value for feature, value in zip(self.features, found, strict=True)}


def _gathered(found: Mapping[Part, Any], parts: Sequence[tuple[Part, int]]) -> Any:
    """One need of several features: its value in each one's window."""
    first = found[parts[0][0]]
    if isinstance(first, tuple):
        return type(first)(*(np.array([found[part][place][window] for part, window in parts]) for place in range(len(first))))
    return np.array([found[part][window] for part, window in parts])


class _History:
    """What the cutoff sees of one customer, in order of time."""

    def __init__(self, columns: Columns, cutoff_us: int, cutoff_day: int, conditions: Mapping[str, Any]) -> None:
        self._columns, self.cutoff_us, self._cutoff_day, self._conditions = columns, cutoff_us, cutoff_day, conditions
        # What is known before the cutoff happened before it: `known_us` is never before `event_us`.
        seen = np.flatnonzero(columns.known_us < cutoff_us)
        self._order = seen[np.argsort(columns.event_us[seen], kind="stable")]
        self._chosen: dict[str | None, Integers] = {None: self._order}
        self._times: dict[str | None, Integers] = {}
        self._starts: dict[str | None, Integers] = {}

    def windowed(self, part: Part, starts: Integers) -> Any:
        """The part over the windows that start at `starts`: an array of the same length, or a tuple of them."""
        places = self._places(part.where, starts)
        if isinstance(part, Distinct):
            return self._distinct(part, places)
        if isinstance(part, Decayed):
            return self._decayed(part, places)
        return _MEASURES[part.kind](self, part, places)

    def rows(self, where: str | None) -> Integers:
        """The rows that satisfy a condition, in order of time."""
        if where not in self._chosen:
            assert where is not None
            self._chosen[where] = self._order[self._conditions[where](self._columns)[self._order]]
        return self._chosen[where]

    def times(self, where: str | None) -> Integers:
        """Their times."""
        if where not in self._times:
            self._times[where] = self._columns.event_us[self.rows(where)]
        return self._times[where]

    def _places(self, where: str | None, starts: Integers) -> Integers:
        """The first of them in each window."""
        if where not in self._starts:
            self._starts[where] = np.searchsorted(self.times(where), starts)
        return self._starts[where]

    def units(self, part: Measure | Decayed) -> tuple[Integers, npt.NDArray[np.bool_] | None]:
        """A column of theirs in millionths, zero where it is null; and where it isn't (None: nowhere)."""
        rows = self.rows(part.where)
        numbers = self._columns.number(part.column or "")
        units = numbers.units[rows] * (MILLION // numbers.scale)
        return units, None if numbers.valid is None else numbers.valid[rows]

    def days(self, where: str | None) -> Integers:
        """Their local days."""
        return np.asarray(self._columns.day[self.rows(where)])

    def _distinct(self, part: Distinct, places: Integers) -> Integers:
        """A value counts in a window if its last occurrence lies in it."""
        rows = self.rows(part.where)
        if self._columns.is_number(part.column):
            numbers = self._columns.number(part.column)
            codes, valid = np.unique(numbers.units[rows], return_inverse=True)[1], numbers.valid
        else:
            texts = self._columns.text(part.column)
            codes, valid = texts.codes[rows], texts.valid
        position = np.arange(len(rows))
        if valid is not None:
            codes, position = codes[valid[rows]], position[valid[rows]]
        last = np.full(int(codes.max()) + 1 if len(codes) else 0, -1)
        np.maximum.at(last, codes, position)
        return _at_least(last[last >= 0], places)

    def _decayed(self, part: Decayed, places: Integers) -> Floats:
        rows = self.rows(part.where)
        ages = np.maximum(self._cutoff_day - self.days(part.where), 0)
        table = np.array(weights(part.half_life, int(ages.max()) + 1) if len(rows) else (), object)
        values = table[ages]
        known = np.ones(len(rows), np.int64)
        if part.column is not None:
            units, valid = self.units(part)
            values, known = values * units.astype(object), known if valid is None else valid.astype(np.int64)
        unit = 10**DECAY_DECIMALS * (1 if part.column is None else MILLION)
        total = (_until_end(values, places) / unit).astype(np.float64)
        return np.asarray(np.where(_until_end(known, places) > 0, total, np.nan))


def _at_least(values: Integers, bounds: Integers) -> Integers:
    """How many of the values are not below each bound."""
    return np.asarray(len(values) - np.searchsorted(np.sort(values), bounds))


def _until_end(values: Integers, places: Integers) -> Integers:
    """Sums from each place to the end."""
    totals = np.empty(len(values) + 1, values.dtype)
    totals[0] = 0
    np.cumsum(values, out=totals[1:])
    return np.asarray(totals[-1] - totals[places])


def _count(history: _History, part: Measure, places: Integers) -> Integers:
    return len(history.rows(part.where)) - places


def _known(history: _History, part: Measure, places: Integers) -> Integers:
    units, valid = history.units(part)
    return len(units) - places if valid is None else _until_end(valid.astype(np.int64), places)


def _sum(history: _History, part: Measure, places: Integers) -> Integers:
    units, _ = history.units(part)
    large = len(units) > 0 and float(np.abs(units.astype(np.float64)).max()) * len(units) >= 2.0**61
    return _until_end(units.astype(object) if large else units, places)


def _squares(history: _History, part: Measure, places: Integers) -> Squares:
    units = history.units(part)[0].astype(object)
    total = _until_end(units * units, places)
    nothing = np.zeros(len(places), object)
    return Squares(total, nothing, nothing)


def _extreme(function: Any, nothing: int) -> Callable[[_History, Measure, Integers], Integers]:
    def found(history: _History, part: Measure, places: Integers) -> Integers:
        units, valid = history.units(part)
        held = np.append(units if valid is None else np.where(valid, units, nothing), nothing)
        return np.asarray(function.accumulate(held[::-1])[::-1][places])

    return found


def _first_us(history: _History, part: Measure, places: Integers) -> Integers:
    return np.asarray(np.append(history.times(part.where), MOST)[places])


def _last_us(history: _History, part: Measure, places: Integers) -> Integers:
    times = history.times(part.where)
    return np.where(places < len(times), times[-1], LEAST) if len(times) else np.full(len(places), LEAST)


def _held(history: _History, part: Measure, places: Integers) -> tuple[Integers, Integers, Integers]:
    """Times and values of the rows that have the column, by time and value; and the first of them in each window."""
    units, valid = history.units(part)
    times = history.times(part.where)
    bounds = np.append(times, MOST)[places]
    if valid is not None:
        units, times = units[valid], times[valid]
    order = np.lexsort((units, times))
    return times[order], units[order], np.searchsorted(times[order], bounds)


def _first(history: _History, part: Measure, places: Integers) -> Dated:
    times, units, places = _held(history, part, places)
    return Dated(np.append(times, MOST)[places], np.append(units, 0)[places])


def _last(history: _History, part: Measure, places: Integers) -> Dated:
    times, units, places = _held(history, part, places)
    inside = places < len(times)
    return Dated(*(np.where(inside, column[-1] if len(column) else nothing, nothing) for column, nothing in ((times, LEAST), (units, 0))))


def _days(history: _History, part: Measure, places: Integers) -> Days:
    days = history.days(part.where)
    steps = np.diff(days, prepend=days[:1])
    if (steps < 0).any():
        # Clocks that were put back over midnight: a day comes, goes and comes again.
        return _days_apart(days, places)
    inside = places < len(days)
    first = np.append(days, 0)[places]
    last = np.where(inside, days[-1] if len(days) else 0, 0)
    # The first day of a window is one whatever came before it.
    after = np.minimum(places + 1, len(days))
    number = _until_end((steps > 0).astype(np.int64), after) + inside
    return Days(number, first, last, _until_end(steps * steps, after))


def _days_apart(days: Integers, places: Integers) -> Days:
    found = [np.unique(days[place:]) for place in places]
    columns = [(len(each), each[0] if len(each) else 0, each[-1] if len(each) else 0, int((np.diff(each) ** 2).sum())) for each in found]
    return Days(*(np.array(column, np.int64) for column in zip(*columns, strict=True)))


_MEASURES: Mapping[str, Callable[[_History, Measure, Integers], Any]] = {
    "count": _count,
    "known": _known,
    "sum": _sum,
    "squares": _squares,
    "min": _extreme(np.minimum, MOST),
    "max": _extreme(np.maximum, LEAST),
    "first": _first,
    "last": _last,
    "first_us": _first_us,
    "last_us": _last_us,
    "days": _days,
}
