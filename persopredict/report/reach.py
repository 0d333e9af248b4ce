"""How far a category reaches: what its likeliest customers promise, of those in whose published lists it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from persopredict.warehouse import Warehouse
from persopredict.warehouse_summaries import Spread, spreads_of_categories

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Promise:
    """What contacting some of a category's likeliest customers promises, by their probabilities.

    `size`: how many are contacted; `expected`: takers among them; `precision`: expected / size; `lift`: precision over the average of all
    who were asked; `gain`: expected over the takers expected of all who were asked. nan where the average, or who was asked, is not known.
    """

    size: int
    expected: float
    precision: float
    lift: float
    gain: float


@dataclass(frozen=True)
class Reach:
    """The customers in whose lists a category stands.

    `average`: the mean probability of all who were asked for it, nan where it was not published (no affinity index); `spread`: how the
    published probabilities lie.

    >>> reach = Reach("bread", 0.1, Spread((0.1, 0.4), (3, 1)))
    >>> reach.customers, reach.promise(0.25, asked=7)
    (4, Promise(size=1, expected=0.4, precision=0.4, lift=4.0, gain=0.5714285714285714))
    """

    category: str
    average: float
    spread: Spread

    @property
    def customers(self) -> int:
        """In how many lists it stands."""
        return self.spread.total

    def promise(self, share: float, asked: int | None = None) -> Promise:
        """Of the likeliest `share` of them, at least one customer; `asked`: how many were asked for the category, None if unknown."""
        size = max(1, round(share * self.customers))
        counted, summed = self._cumulated
        expected = float(np.interp(size, counted, summed))
        everything = self.average * asked if asked else _NAN
        precision = expected / size
        return Promise(
            size, expected, precision, precision / self.average if self.average else _NAN, expected / everything if everything else _NAN
        )

    @cached_property
    def _cumulated(self) -> tuple[list[float], list[float]]:
        """Customers and takers expected, the likeliest class first; within a class the probabilities are taken as equal."""
        counts = np.asarray(self.spread.counts[::-1], dtype=np.float64)
        sums = np.cumsum(counts * np.asarray(self.spread.probabilities[::-1]))
        return [0.0, *np.cumsum(counts).tolist()], [0.0, *sums.tolist()]


def reaches(warehouse: Warehouse, target: str, as_of: datetime, categories: Sequence[str]) -> tuple[Reach, ...]:
    """Of an affinity's published run the reach of some categories, in the order given; those that are not in it are left out."""
    found = spreads_of_categories(warehouse, target, as_of, categories)
    return tuple(Reach(name, found[name][1], found[name][0]) for name in categories if name in found)
