"""One pass over one customer's events: everything that a set of features needs of them, in a few NumPy arrays.

Events are swept newest first. Then a window is simply the first so many of them, what adds up is a running sum, and an extreme a running
minimum. The parts of a set of features are rows of the arrays; where each stands is settled once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from persopredict.features.columns import Columns, Mask
from persopredict.features.masks import compile_condition
from persopredict.features.measures import KINDS, LEAST, MILLION, MOST, Asked, At, Decayed, Floats, Integers, Measure, Need, Part, weights
from persopredict.features.spec import DECAY_DECIMALS
from persopredict.times import Duration

#: The arrays that parts are taken of: running sums and minima with a column for each event, ends and decayed sums with one for each window.
_SUMS, _LEAST, _ENDS, _DECAYED = range(4)
#: Rows of the values: 1, the time, the local day, then each column in millionths.
_ONE, _US, _DAY, _COLUMNS = range(4)
#: Below it, a column's largest value times the number of events leaves 64 bits enough for every sum; above it Python's integers add up.
_LARGE = 2**61
#: Of what the least is sought: the values' row if the measure has no column, the complement's mask, what stands for "nothing there".
_EXTREMES = {"min": (_ONE, 0, MOST), "first_us": (_US, 0, MOST), "max": (_ONE, -1, LEAST), "last_us": (_US, -1, LEAST)}
#: Ages in days whose weights are made together with the features; for older events they are made when one comes.
_AGES = 1024
_LOW = 0xFFFFFFFF


class _Place(NamedTuple):
    """Where a part stands: one of the arrays of a sweep, and its row there."""

    array: int
    row: int


class _Seen(NamedTuple):
    """What a cutoff sees of a customer, newest first, behind an event that nothing counts: with it alone a window is empty.

    `newest` are the events' places in `columns`; `values` and `chosen` have a column for each of them.
    """

    columns: Columns
    newest: Integers
    values: Integers
    chosen: Mask


class Sweep:
    """What a set of parts takes of one customer's events."""

    def __init__(self, asked: Asked) -> None:
        self._windows = {window: place for place, window in enumerate(asked.windows)}
        self._conditions = {text: compile_condition(text) for text in asked.conditions}
        self._columns = {name: row for row, name in enumerate(asked.numbers, start=_COLUMNS)}
        self._choices: dict[tuple[str | None, str | None], int] = {}
        self._places: dict[Part, tuple[_Place, ...]] = {}
        self._wanted: tuple[list[tuple[int, int]], ...] = ([], [], [], [])
        for part in asked.parts:
            self._choice(part)
        of_kind: dict[str, list[Measure]] = {kind: [] for kind in KINDS}
        for measure in asked.measures:
            of_kind[measure.kind].append(measure)
        self._distincts, self._decays = list(asked.distincts), list(asked.decays)
        self._added, self._squares, self._days = of_kind["sum"], of_kind["squares"], of_kind["days"]
        self._multiplied: tuple[Measure | Decayed, ...] = (*self._squares, *self._decays)
        self._ends = [*of_kind["first"], *of_kind["last"]]
        self._distinct_choices, self._day_choices = self._choices_of(self._distincts), self._choices_of(self._days)
        self._least = self._settled_minima(of_kind)
        self._settled_sums(of_kind)
        for row, end in enumerate(self._ends):
            self._places[end] = _Place(_ENDS, 2 * row), _Place(_ENDS, 2 * row + 1)
        for row, decayed in enumerate(self._decays):
            self._places[decayed] = (_Place(_DECAYED, row),)
            _weights(decayed.half_life, _AGES)

    def _settled_minima(self, of_kind: Mapping[str, Sequence[Measure]]) -> Integers:
        """Row of the values, choice, mask of the complement and "nothing" of each running minimum, the days' at the end."""
        rows: list[tuple[int, int, int, int]] = []
        for kind, (vector, complement, nothing) in _EXTREMES.items():
            for measure in of_kind[kind]:
                self._places[measure] = (_Place(_LEAST, len(rows)),)
                rows.append((self._columns.get(measure.column or "", vector), self._choice(measure), complement, nothing))
        self._first_days = len(rows)
        rows += [(_DAY, self._choice(measure), complement, 0) for complement in (0, -1) for measure in self._days]
        return np.array(rows, np.int64).reshape(-1, 4).T

    def _settled_sums(self, of_kind: Mapping[str, Sequence[Measure]]) -> None:
        """First the choices, whose sum is the number of their events; then sums, products in three rows each, entries, days, their gaps."""
        for measure in (*of_kind["count"], *of_kind["known"]):
            self._places[measure] = (_Place(_SUMS, self._choice(measure)),)
        for row, measure in enumerate(self._added, start=len(self._choices)):
            self._places[measure] = (_Place(_SUMS, row),)
        self._products = len(self._choices) + len(self._added)
        for number, measure in enumerate(self._squares):
            self._places[measure] = tuple(_Place(_SUMS, self._products + 3 * number + limb) for limb in range(3))
        self._entries = self._products + 3 * len(self._multiplied)
        for number, distinct in enumerate(self._distincts):
            self._places[distinct] = (_Place(_SUMS, self._entries + number),)
        self._active = self._entries + len(self._distincts)
        days = len(self._days)
        for number, measure in enumerate(self._days):
            first, active = self._first_days + number, self._active + number
            self._places[measure] = _Place(_SUMS, active), _Place(_LEAST, first), _Place(_LEAST, first + days), _Place(_SUMS, active + days)
        self._height = self._active + 2 * days

    def _choice(self, part: Part) -> int:
        """The number of the choice of events that satisfy the part's condition and have its column."""
        return self._choices.setdefault((part.where, part.column), len(self._choices))

    def _choices_of(self, parts: Sequence[Part]) -> Integers:
        return np.array([self._choice(part) for part in parts], np.intp)

    def take(self, wanted: Sequence[Need]) -> tuple[tuple[int, slice], ...]:
        """Have the needs, all of one kind, taken; where `taken` will hold each of their components."""
        found = []
        for places in zip(*(self._places[need.part] for need in wanted), strict=True):
            array = self._wanted[places[0].array]
            found.append((places[0].array, slice(len(array), len(array) + len(places))))
            array += [(place.row, self._windows[need.window]) for place, need in zip(places, wanted, strict=True)]
        return tuple(found)

    @cached_property
    def _takes(self) -> list[Integers]:
        """Rows and windows that are taken of each array."""
        return [np.array(wanted, np.int64).reshape(-1, 2).T for wanted in self._wanted]

    def taken(self, columns: Columns, at: At, starts: Integers) -> list[Any]:
        """What is taken of each array, the windows starting at `starts`."""
        seen = self._seen(columns, int(at.us))
        times = seen.values[_US, :0:-1]
        sizes = len(times) - np.searchsorted(times, starts)
        least = self._minima(seen)
        sums = self._sums(seen, least, int(at.day))
        if self._days and (seen.values[_DAY, 2:] > seen.values[_DAY, 1:-1]).any():
            self._mend_days(seen, sums, sizes)
        (rows, windows), *others = self._takes
        found: list[Any] = [sums[rows, sizes[windows]]]
        (rows, windows), *others = others
        held = least[rows, sizes[windows]]
        complement, nothing = self._least[2:, rows]
        found.append(np.where(held == MOST, nothing, held ^ complement))
        arrays = self._ended(seen, sizes), self._decayed(sums, sizes)
        return found + [array[rows, windows] for array, (rows, windows) in zip(arrays, others, strict=True)]

    def _seen(self, columns: Columns, cutoff_us: int) -> _Seen:
        # What is known before the cutoff happened before it: `known_us` is never before `event_us`.
        known = np.flatnonzero(columns.known_us < cutoff_us)
        known = known[np.argsort(columns.event_us[known], kind="stable")]
        # The event that nothing counts stands at the end of the values and the choices, from where it comes to the front.
        newest = np.concatenate(([len(columns)], known[::-1]))
        return _Seen(columns, newest, self._values(columns).take(newest, axis=1), self._chosen(columns).take(newest, axis=1))

    def _values(self, columns: Columns) -> Integers:
        values = np.zeros((_COLUMNS + len(self._columns), len(columns) + 1), np.int64)
        values[_ONE], values[_US, :-1] = 1, columns.event_us
        if self._days or self._decays:
            values[_DAY, :-1] = columns.day
        for name, row in self._columns.items():
            numbers = columns.number(name)
            np.multiply(numbers.units, MILLION // numbers.scale, out=values[row, :-1])
        return values

    def _chosen(self, columns: Columns) -> Mask:
        chosen = np.zeros((len(self._choices), len(columns) + 1), bool)
        for (where, column), row in self._choices.items():
            chosen[row, :-1] = True if where is None else self._conditions[where](columns)
            valid = None if column is None else columns.valid(column)
            if valid is not None:
                chosen[row, :-1] &= valid
        return chosen

    def _minima(self, seen: _Seen) -> Integers:
        """The running minima."""
        vectors, choices, complement, _ = self._least
        held = np.where(seen.chosen[choices], seen.values[vectors] ^ complement[:, np.newaxis], MOST)
        return np.asarray(np.minimum.accumulate(held, axis=1, out=held))

    def _sums(self, seen: _Seen, least: Integers, cutoff_day: int) -> Integers:
        """The running sums."""
        largest = int(np.abs(seen.values[_COLUMNS:]).max(initial=0))
        values = seen.values if largest * len(seen.newest) < _LARGE else seen.values.astype(object)
        sums = np.zeros((self._height, len(seen.newest)), values.dtype)
        sums[: len(seen.chosen)] = seen.chosen
        for row, added in enumerate(self._added, start=len(seen.chosen)):
            np.multiply(values[self._columns[added.column or ""]], seen.chosen[self._choice(added)], out=sums[row])
        for number, part in enumerate(self._multiplied):
            row, left = self._products + 3 * number, values[self._columns[part.column] if part.column else _ONE]
            right = left if isinstance(part, Measure) else _weights_of(part.half_life, cutoff_day - seen.values[_DAY])
            for limb, product in enumerate(_product(left, right)):
                np.multiply(product, seen.chosen[self._choice(part)], out=sums[row + limb])
        if self._distincts:
            sums[self._entries : self._active] = self._first_seen(seen)
        if self._days:
            # A day is active at its newest event, which also ends the gap from this day to the next one.
            newer, day = least[self._first_days : self._first_days + len(self._days), :-1], seen.values[_DAY, 1:]
            active = seen.chosen[self._day_choices, 1:] & (day < newer)
            gaps = np.where(active & (newer != MOST), newer - day, 0)
            sums[self._active :, 1:] = np.concatenate([active, gaps * gaps])
        return np.asarray(np.cumsum(sums, axis=1, out=sums))

    def _first_seen(self, seen: _Seen) -> Mask:
        """The newest event of each value that is to be told apart."""
        codes, number = np.zeros((len(self._distincts), len(seen.columns) + 1), np.int64), 0
        for row, distinct in enumerate(self._distincts):
            different, many = _codes(seen.columns, distinct.column)
            np.add(different, number, out=codes[row, :-1])
            number += many
        chosen, place = seen.chosen[self._distinct_choices], np.arange(len(seen.newest))
        codes = np.where(chosen, codes.take(seen.newest, axis=1), number)
        first = np.full(number + 1, len(place))
        # Flat: where NumPy's `at` has to broadcast the values, it reads others.
        np.minimum.at(first, codes.ravel(), np.broadcast_to(place, codes.shape).ravel())
        return np.asarray((first[codes] == place) & chosen)

    def _mend_days(self, seen: _Seen, sums: Integers, sizes: Integers) -> None:
        """Clocks that were put back over midnight make a day come, go and come again: then the days of each window are sorted."""
        for row, choice in enumerate(self._day_choices, start=self._active):
            for size in set(sizes.tolist()):
                days = np.unique(seen.values[_DAY, : size + 1][seen.chosen[choice, : size + 1]])
                sums[row, size], sums[row + len(self._days), size] = len(days), (np.diff(days) ** 2).sum()

    def _ended(self, seen: _Seen, sizes: Integers) -> Integers:
        """Time and value of the first and last events: two rows each, a column for each window."""
        found = np.full((2 * len(self._ends), len(sizes)), MOST)
        for row, measure in enumerate(self._ends):
            chosen = np.flatnonzero(seen.chosen[self._choice(measure)])
            us, units = seen.values[[_US, self._columns[measure.column or ""]]][:, chosen]
            # Of several at one instant the largest is the last, so here it comes first.
            order = np.lexsort((~units, ~us))
            inside = np.searchsorted(chosen, sizes, side="right")
            some = inside > 0
            place = order[inside[some] - 1 if measure.kind == "first" else np.zeros(some.sum(), np.intp)]
            found[2 * row, some], found[2 * row + 1, some] = us[place], units[place]
        return found

    def _decayed(self, sums: Integers, sizes: Integers) -> Floats:
        """The decayed sums, a column for each window."""
        found = np.empty((len(self._decays), len(sizes)))
        for number, decayed in enumerate(self._decays):
            row = self._products + 3 * (len(self._squares) + number)
            low, middle, high = sums[row : row + 3, sizes].astype(object)
            total = (low + middle * 2**32 + high * 2**64) / (10**DECAY_DECIMALS * (MILLION if decayed.column else 1))
            found[number] = np.where(sums[self._choice(decayed), sizes] > 0, total.astype(np.float64), np.nan)
        return found


def _codes(columns: Columns, name: str) -> tuple[Integers, int]:
    """A number for each different value of a column, anything where it is null; and how many there are."""
    if columns.is_number(name):
        different, codes = np.unique(columns.number(name).units, return_inverse=True)
        return codes, len(different)
    texts = columns.text(name)
    return texts.codes, len(texts.index)


def _product(left: Integers, right: Integers) -> tuple[Integers, ...]:
    """``left * right`` as low, middle (times 2^32) and high (times 2^64), or the lower of them if the others are 0.

    60 bits hold either factor; `right` is `left`, or not negative.
    """
    if left.dtype == object:
        return (left * right,)
    if right is left and left.max() < 2**32 and left.min() > -(2**32):
        square = left * left
        return square & _LOW, (square >> 32) & _LOW
    a, b = np.abs(left), np.abs(right)
    a1, a0, b1, b0 = a >> 32, a & _LOW, b >> 32, b & _LOW
    # Of a product that needs all of 64 bits the sign is one of them, and masked away.
    low, cross = a0 * b0, a0 * b1 + a1 * b0
    size = low & _LOW, ((low >> 32) & _LOW) + (cross & _LOW), a1 * b1 + (cross >> 32)
    return size if right is left else tuple(np.sign(left) * limb for limb in size)


def _weights_of(half_life: Duration, ages: Integers) -> Integers:
    """The weights of ages in days; no event is younger than the cutoff's day."""
    ages = np.maximum(ages, 0)
    # In front stands the event that nothing counts, of no age.
    ages[0] = 0
    return _weights(half_life, max(_AGES, 1 << int(ages.max()).bit_length()))[ages]


@lru_cache(maxsize=256)
def _weights(half_life: Duration, ages: int) -> Integers:
    return np.array(weights(half_life, ages), np.int64)
