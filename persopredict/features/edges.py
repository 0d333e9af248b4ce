"""Where a customer's time is cut: every instant at which some window of some cutoff starts or ends.

Between two edges nothing starts or ends, so what an engine measures of the cells between them serves every window of every cutoff. Two
kinds of edges: those of `SharedEdges` are the same for all customers, those of `OwnEdges` belong to one row of a spine each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from persopredict.features.fold import BLOCK, Reach
from persopredict.features.measures import Integers
from persopredict.times import Duration, WallClock

Windows = Collection[Duration | None]


def _base_days(clock: WallClock, edges: Integers) -> Integers:
    """For each cell, the day its bits count from. Before the first edge there is nothing to count."""
    starts = np.concatenate([edges[:1], edges])
    return clock.day(starts) // BLOCK * BLOCK


@dataclass(frozen=True)
class SharedEdges:
    """The edges of cutoffs that all customers share.

    Attributes
    ----------
    edges : ascending instants; cell n lies before edge n, the last cell after the last edge.
    reaches : for each cutoff what it sees.
    base_days : (cells,): the day of bit 0 of each cell's active days.
    """

    edges: tuple[int, ...]
    reaches: tuple[Reach, ...]
    base_days: Integers

    @classmethod
    def of(cls, cutoffs: Sequence[int], windows: Windows, clock: WallClock, blocks: Integers, *, since: int) -> SharedEdges:
        """The edges of the cutoffs, of their windows, and of the blocks; nothing happened before `since`, so no window starts earlier."""
        at = np.asarray(cutoffs, np.int64)
        starts = {window: np.maximum(clock.before(at, window), np.minimum(at, since)) for window in windows if window is not None}
        edges = np.unique(np.concatenate([at, blocks, *starts.values()]))
        reaches = []
        for number, cutoff in enumerate(at):
            first: dict[Duration | None, int | Integers] = {None: 0}
            first |= {window: int(np.searchsorted(edges, found[number])) + 1 for window, found in starts.items()}
            reaches.append(Reach(int(np.searchsorted(edges, cutoff)) + 1, first))
        return cls(tuple(edges.tolist()), tuple(reaches), _base_days(clock, edges))


@dataclass(frozen=True)
class OwnEdges:
    """The edges of spine rows, each with a cutoff of its own.

    Attributes
    ----------
    edges : (edges, rows): ascending instants in each column.
    reach : what the rows' cutoffs see: all cells (what is later never enters one), and for each window its start in each row.
    base_days : (cells, rows).
    """

    edges: Integers
    reach: Reach
    base_days: Integers

    @classmethod
    def of(cls, cutoffs: Integers, windows: Windows, clock: WallClock, blocks: Integers) -> OwnEdges:
        """The edges of the rows' windows, and of the blocks."""
        starts = {window: clock.before(cutoffs, window) for window in windows if window is not None}
        fixed = [np.full(cutoffs.shape, block) for block in blocks]
        edges = np.sort(np.stack([*starts.values(), *fixed, cutoffs]), axis=0)
        first: dict[Duration | None, int | Integers] = {None: 0}
        first |= {window: (edges < found).sum(axis=0) + 1 for window, found in starts.items()}
        return cls(edges, Reach(len(edges) + 1, first), _base_days(clock, edges))
