"""What of an affinity is looked at: pairs are many, and most say the same. Everything drawn here depends on ids and names alone.

Rows are drawn by stratum (taken or not, new or not) at different rates and carry the inverse of their rate as a weight, so that weighted
rows stand for all: probabilities learned from them need no further correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.affinity.pairs import Codes
from persopredict.draws import Hashes, hashes, mixed, uniform

Bools = NDArray[np.bool_]

SALT = "affinity"
#: Pairs that have occurred, times moments, that a training may hold: each takes 64 bytes.
MOST_HELD = 12_000_000
#: Moments below which customers are left out rather than moments, and customers of which none are left out.
_FEWEST_MOMENTS, _FEWEST_CUSTOMERS = 14, 2_000
#: Rows that a model is trained on, and rows of one test.
MOST_ROWS, MOST_TESTED = 600_000, 1_500_000


@dataclass(frozen=True, slots=True)
class Held:
    """How much of a log a training holds: so many moments, and this share of the customers."""

    moments: int
    share: float

    @classmethod
    def of(cls, pairs: int, moments: int, customers: int) -> Held:
        """Of so many pairs at so many moments: the earliest moments go first, then customers.

        >>> Held.of(300_000, 26, 2_500), Held.of(1_200_000, 26, 100_000)
        (Held(moments=26, share=1.0), Held(moments=14, share=0.7142857142857143))
        """
        kept = min(moments, max(_FEWEST_MOMENTS, MOST_HELD // max(pairs, 1)))
        share = min(1.0, max(MOST_HELD / max(pairs * kept, 1), _FEWEST_CUSTOMERS / max(customers, 1)))
        return cls(kept, share)

    def chosen(self, customer_id: Sequence[Any]) -> NDArray[np.int64] | None:
        """The places of the customers to hold; None for all."""
        if self.share >= 1:
            return None
        return np.flatnonzero(uniform(hashes(customer_id, SALT)) < self.share)


def rates(sizes: Sequence[int], budget: int) -> list[float]:
    """The share of each stratum to draw so that they have `budget` rows together: equal numbers, and all of those that have fewer.

    >>> [round(rate, 3) for rate in rates([1_000, 10_000, 100_000, 0], 21_000)]
    [1.0, 1.0, 0.1, 1.0]
    """
    found = [1.0] * len(sizes)
    left, places = budget, sorted(range(len(sizes)), key=sizes.__getitem__)
    for number, place in enumerate(places):
        allowed = left // (len(places) - number)
        if sizes[place] > allowed:
            found[place] = allowed / sizes[place]
        left -= min(sizes[place], allowed)
    return found


def drawn(values: Hashes, taken: Bools, new: Bools, budget: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The places of the rows that are drawn, ascending, and the weight of each: how many rows it stands for."""
    stratum = taken * 2 + new
    share = np.array(rates(np.bincount(stratum, minlength=4).tolist(), budget))[stratum]
    places = np.flatnonzero(uniform(values) < share)
    return places, (1 / share[places]).astype(np.float32)


def row_hashes(customer: Codes, category: Codes, of_customers: Hashes, of_categories: Hashes, moment_us: int | NDArray[np.int64]) -> Hashes:
    """A hash of each pair at a moment, one for all or each its own, shape (rows,)."""
    return mixed(mixed(of_customers[customer], of_categories[category]), moment_us)
