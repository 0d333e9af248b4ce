"""Cells become windows: NumPy over compact aggregates of many customers at once, the same for every engine.

An engine (or `online`, for one customer) cuts each customer's time at every instant where some window starts or ends, and measures the
cells between. Here cells are put into dense arrays, cell by group, and folded into windows. A *group* is whoever has cells of their own: a
customer with the cutoffs that all share, or one row of a spine with a cutoff of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from persopredict.features.measures import LEAST, MOST, WORD, Dated, Days, Integers, Measure, Squares
from persopredict.times import Duration

#: An active day is a bit of its cell: no cell spans the days of two blocks of so many.
BLOCK = 60

Components = tuple[Integers, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """What one cutoff sees: the cells before `cells`; a window holds those from its start on, per group where starts differ."""

    cells: int
    starts: Mapping[Duration | None, int | Integers]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Identity of each component, and how two components of one cell become one (events that became known later)."""

    identity: tuple[int, ...]
    combine: Callable[[Components, Components], Components]


def _each(function: Any) -> Callable[[Components, Components], Components]:
    return lambda held, new: tuple(function(a, b) for a, b in zip(held, new, strict=True))


def _earlier(held: Components, new: Components) -> Components:
    replaces = (new[0] < held[0]) | ((new[0] == held[0]) & (new[1] < held[1]))
    return tuple(np.where(replaces, b, a) for a, b in zip(held, new, strict=True))


def _later(held: Components, new: Components) -> Components:
    replaces = (new[0] > held[0]) | ((new[0] == held[0]) & (new[1] > held[1]))
    return tuple(np.where(replaces, b, a) for a, b in zip(held, new, strict=True))


_KINDS: Mapping[str, _Kind] = {
    **{kind: _Kind((0,), _each(np.add)) for kind in ("count", "known", "sum")},
    "squares": _Kind((0, 0, 0), _each(np.add)),
    **{kind: _Kind((MOST,), _each(np.minimum)) for kind in ("min", "first_us")},
    **{kind: _Kind((LEAST,), _each(np.maximum)) for kind in ("max", "last_us")},
    "first": _Kind((MOST, 0), _earlier),
    "last": _Kind((LEAST, 0), _later),
    **{kind: _Kind((0,), _each(np.bitwise_or)) for kind in ("days", "values")},
}
_ADDED = frozenset({"count", "known", "sum", "squares"})
_EXTREMES: Mapping[str, Any] = {
    "min": np.minimum,
    "first_us": np.minimum,
    "max": np.maximum,
    "last_us": np.maximum,
    "values": np.bitwise_or,
}


class Cells:
    """The cells of a batch of groups, dense: each measure as arrays of shape (cells, groups).

    Parameters
    ----------
    number, groups : of cells and groups.
    base_days : (cells,) or (cells, groups): the local day, as days since 1970, that bit 0 of a cell's active days stands for.
    days_return : whether clocks were put back over midnight, so that a later cell may hold an earlier day.
    """

    def __init__(self, number: int, groups: int, base_days: Integers, *, days_return: bool = False) -> None:
        self.number, self.groups, self._days_return = number, groups, days_return
        base = base_days if base_days.ndim == 2 else base_days[:, np.newaxis]
        self._base_days: Integers = np.broadcast_to(base, (number, groups))
        self._held: dict[Measure, Components] = {}
        self._sums: dict[Measure, Components] = {}
        self._days: dict[Measure, _Chain] = {}

    def put(self, cell: Integers, group: Integers, found: Mapping[Measure, Components]) -> None:
        """Add what was measured: parallel arrays, one entry for each cell and group that holds something; each pair at most once."""
        place = cell.astype(np.int64) * self.groups + group
        for measure, new in found.items():
            kind = _KINDS[measure.kind]
            if measure.kind == "sum" and _overflows(new[0], self.number):
                new = (new[0].astype(object),)
            held = self._held.get(measure)
            if held is None:
                held = tuple(
                    np.full(self.number * self.groups, identity, component.dtype)
                    for identity, component in zip(kind.identity, new, strict=True)
                )
                combined = new
            else:
                # Sums that 64 bits can't hold come as Python's integers: they stay so.
                held = tuple(a.astype(np.promote_types(a.dtype, b.dtype), copy=False) for a, b in zip(held, new, strict=True))
                combined = kind.combine(tuple(component[place] for component in held), new)
            for component, value in zip(held, combined, strict=True):
                component[place] = value
            self._held[measure] = held
        self._sums.clear()
        self._days.clear()

    def windowed(self, measure: Measure, reach: Reach, windows: Sequence[Duration | None]) -> list[Any]:
        """The measure over each of the windows: arrays of shape (groups,), or a tuple of them (`Squares`, `Dated`, `Days`)."""
        starts = [reach.starts[window] for window in windows]
        if measure.kind in _ADDED:
            found = self._differences(measure, reach.cells, starts)
        elif measure.kind in _EXTREMES:
            (cells,) = self._shaped(measure)
            nothing = _KINDS[measure.kind].identity[0]
            found = [(value,) for value in _reduced(cells, _EXTREMES[measure.kind], nothing, reach.cells, starts)]
        elif measure.kind == "days" and self._days_return:
            found = [self._days_apart(measure, reach.cells, start) for start in starts]
        elif measure.kind == "days":
            chain = self._chain(measure)
            found = [chain.between(start, reach.cells) for start in starts]
        else:
            older = measure.kind == "first"
            identity = _KINDS[measure.kind].identity
            found = _folded(self._shaped(measure), reach.cells, starts, _first_of if older else _last_of, identity)
        kind = {"squares": Squares, "first": Dated, "last": Dated, "days": Days}.get(measure.kind)
        return [value[0] if kind is None else kind(*value) for value in found]

    def _shaped(self, measure: Measure) -> Components:
        if measure not in self._held:
            identities = _KINDS[measure.kind].identity
            self._held[measure] = tuple(np.full(self.number * self.groups, identity, np.int64) for identity in identities)
        return tuple(component.reshape(self.number, self.groups) for component in self._held[measure])

    def _differences(self, measure: Measure, end: int, starts: Sequence[int | Integers]) -> list[Components]:
        """What adds up: the total before the cutoff, less the total before the window."""
        if measure not in self._sums:
            self._sums[measure] = tuple(totals(component) for component in self._shaped(measure))
        held = self._sums[measure]
        return [tuple(total[end] - _at(total, start) for total in held) for start in starts]

    def _chain(self, measure: Measure) -> _Chain:
        if measure not in self._days:
            (bits,) = self._shaped(measure)
            self._days[measure] = _Chain.of(*_days_of(bits, self._base_days))
        return self._days[measure]

    def _days_apart(self, measure: Measure, end: int, start: int | Integers) -> Components:
        """Cells of one block as one: their bits say which day is which, whatever the order in which the days came."""
        (bits,) = self._shaped(measure)
        inside = np.arange(end)[:, np.newaxis] >= start
        base = self._base_days[:end]
        block = (base - self._base_days.min()) // BLOCK
        whole = np.zeros((int(block.max(initial=0)) + 1, self.groups), np.int64)
        np.bitwise_or.at(whole, (block, np.broadcast_to(np.arange(self.groups), block.shape)), np.where(inside, bits[:end], 0))
        days = self._base_days.min() + BLOCK * np.arange(len(whole))[:, np.newaxis]
        return _Chain.of(*_days_of(whole, np.broadcast_to(days, whole.shape))).between(0, len(whole))


def _overflows(values: Integers, cells: int) -> bool:
    """Whether adding up could leave 64 bits; then Python's integers take over, slower and without bounds."""
    return values.dtype != object and values.size > 0 and float(np.abs(values.astype(np.float64)).max()) * cells >= 2.0**61


def _at(array: Integers, start: int | Integers) -> Integers:
    """The row of each group."""
    if isinstance(start, int):
        return np.asarray(array[start])
    return np.asarray(np.take_along_axis(array, start[np.newaxis, :], axis=0)[0])


def totals(cells: Integers) -> Integers:
    """Totals before each cell, and after the last. Row by row: NumPy's own cumulative sum walks down the columns, out of every cache."""
    found = np.zeros((cells.shape[0] + 1, cells.shape[1]), cells.dtype)
    for number, cell in enumerate(cells):
        np.add(found[number], cell, out=found[number + 1])
    return found


def _from_end(cells: Integers, function: Any, nothing: int) -> Integers:
    """What the function makes of none of the cells, of the last, of the last two, and so on."""
    found = np.full((cells.shape[0] + 1, cells.shape[1]), nothing, np.int64)
    for number, cell in enumerate(cells[::-1]):
        function(found[number], cell, out=found[number + 1])
    return found


def _folded(
    cells: Components,
    end: int,
    starts: Sequence[int | Integers],
    join: Callable[[Components, Components], Components],
    identity: tuple[int, ...],
) -> list[Components]:
    """From the last cell back, the older before the newer; taken where each window starts."""
    groups = cells[0].shape[1]
    gathered: Components = tuple(np.full(groups, value, np.int64) for value in identity)
    found: list[Components] = [gathered] * len(starts)
    lowest = min((int(np.min(start)) for start in starts), default=end)
    for cell in range(end - 1, lowest - 1, -1):
        gathered = join(tuple(component[cell] for component in cells), gathered)
        for place, start in enumerate(starts):
            if isinstance(start, int):
                found[place] = gathered if start == cell else found[place]
            else:
                here = start == cell
                found[place] = tuple(np.where(here, new, old) for new, old in zip(gathered, found[place], strict=True))
    return found


def _first_of(older: Components, newer: Components) -> Components:
    return tuple(np.where(older[0] != MOST, a, b) for a, b in zip(older, newer, strict=True))


def _last_of(older: Components, newer: Components) -> Components:
    return tuple(np.where(newer[0] != LEAST, b, a) for a, b in zip(older, newer, strict=True))


@dataclass(frozen=True, slots=True)
class _Chain:
    """Active days of consecutive cells, such that those of any stretch of cells follow from its two ends; arrays of (cells + 1, groups).

    `number`, `squares`, `active`: totals before each cell, of days, of squared gaps, and of cells that have days. `last`: the last day
    before each cell. `first`, `gap`, `again`: of the next cell that has days, its first day, the gap to the day before it, and whether that
    is the same day, cut in two by a boundary and counted once.
    """

    number: Integers
    squares: Integers
    active: Integers
    last: Integers
    first: Integers
    gap: Integers
    again: Integers

    @classmethod
    def of(cls, number: Integers, first: Integers, last: Integers, squares: Integers) -> _Chain:
        """The chain of cells with so many days, first days, last days and squared gaps within each."""
        cells, groups = number.shape
        has = number != 0
        before = np.zeros((cells + 1, groups), np.int64)
        following, gap, again = (np.zeros((cells + 1, groups), np.int64) for _ in range(3))
        active = totals(has.astype(np.int64))
        for cell in range(cells):
            np.copyto(before[cell + 1], np.where(has[cell], last[cell], before[cell]))
        linked = has & (active[:-1] != 0)
        steps = np.where(linked, first - before[:-1], 0)
        same = linked & (steps == 0)
        for cell in range(cells - 1, -1, -1):
            for kept, new in ((following, first), (gap, steps), (again, same)):
                np.copyto(kept[cell], np.where(has[cell], new[cell], kept[cell + 1]))
        return cls(totals(number - same), totals(squares + steps * steps), active, before, following, gap, again)

    def between(self, start: int | Integers, end: int) -> Components:
        """Number, first, last and squared gaps of the days of the cells from `start` on, before `end`."""
        inside = self.active[end] - _at(self.active, start) > 0
        gap = _at(self.gap, start)
        return (
            np.where(inside, self.number[end] - _at(self.number, start) + _at(self.again, start), 0),
            np.where(inside, _at(self.first, start), 0),
            np.where(inside, self.last[end], 0),
            np.where(inside, self.squares[end] - _at(self.squares, start) - gap * gap, 0),
        )


def _days_of(bits: Integers, base: Integers) -> Components:
    """Number, first, last and squared gaps of the active days that the bits of each cell stand for."""
    number = np.bitwise_count(bits).astype(np.int64)
    first, last, squares = (np.zeros(bits.shape, np.int64) for _ in range(3))
    where = np.nonzero(bits)
    rest, day = bits[where], base[where]
    previous = _lowest(rest)
    first[where] = day + previous
    gaps = np.zeros(rest.shape, np.int64)
    at: npt.NDArray[np.intp] = np.arange(rest.size)
    rest = rest & (rest - 1)
    final = previous.copy()
    while True:
        alive = rest != 0
        if not alive.any():
            break
        at, rest, previous = at[alive], rest[alive], previous[alive]
        lowest = _lowest(rest)
        gaps[at] += (lowest - previous) ** 2
        final[at] = lowest
        previous, rest = lowest, rest & (rest - 1)
    last[where], squares[where] = day + final, gaps
    return number, first, last, squares


def _lowest(bits: Integers) -> Integers:
    """The position of the lowest bit that is set."""
    return np.asarray(np.bitwise_count((bits & -bits) - 1).astype(np.int64))


def _reduced(cells: Integers, function: Any, nothing: int, end: int, starts: Sequence[int | Integers]) -> list[Integers]:
    """What the function makes of the cells from each start on, before `end`: each goes on where the next shorter one began."""
    if not all(isinstance(start, int) for start in starts):
        until = _from_end(cells[:end], function, nothing)
        return [_at(until, end - start) for start in starts]
    found: dict[int, Integers] = {}
    held, done = np.full(cells.shape[1], nothing, cells.dtype), end
    for start in sorted({int(np.min(start)) for start in starts}, reverse=True):
        if start < done:
            held, done = function(held, function.reduce(cells[start:done], axis=0)), start
        found[start] = held
    return [found[int(np.min(start))] for start in starts]


def distinct(
    words: Sequence[Integers],
    group: Integers,
    values: Integers,
    shape: tuple[int, int],
    reaches: Sequence[Reach],
    windows: Sequence[Duration | None],
) -> Iterator[list[Integers]]:
    """How many values have their last cell before the cutoff inside each window: for each reach in turn, an array of groups by window.

    Parameters
    ----------
    words : for each pattern of cells in which some values of a group occur, its bits, `WORD` cells a word.
    group, values : the pattern's group, and how many of its values have this pattern.
    shape : (cells, groups).
    reaches : in order of time. From one to the next only those values move that occur between the two.
    """
    cells, groups = shape
    last = np.full(len(group), -1, np.int64)
    held = np.zeros(cells * groups)
    done = 0
    for reach in reaches:
        for number, word in enumerate(words):
            first, end = max(done - number * WORD, 0), min(reach.cells - number * WORD, WORD)
            if first >= end:
                continue
            bits = word & ((1 << end) - (1 << first))
            moved = np.flatnonzero(bits)
            place = (bits[moved].astype(np.float64).view(np.int64) >> 52) - 1023 + number * WORD
            before, owner, weight = last[moved], group[moved], values[moved].astype(np.float64)
            old = before >= 0
            held += np.bincount(place * groups + owner, weight, cells * groups)
            held -= np.bincount(before[old] * groups + owner[old], weight[old], cells * groups)
            last[moved] = place
        done = reach.cells
        starts = [reach.starts[window] for window in windows]
        yield _reduced(held.astype(np.int64).reshape(shape), np.add, 0, reach.cells, starts)
