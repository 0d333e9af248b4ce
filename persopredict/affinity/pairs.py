"""Pairs of customers and categories as they stood at one moment: plain values, read by `occasions`, used by everything about affinity.

A customer *takes* a category with an event of the target that names it. Events of one customer and category at the same instant are one
*occasion*: a basket with three cheeses is one occasion of cheese.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Codes = NDArray[np.int32]

#: Windows of one to so many horizons back are counted.
SPANS = 6
OCCASIONS, RECENCY, TENURE, GAP, OVERDUE = "occasions", "recency", "tenure", "gap", "overdue"
#: Occasions in the last quarter of a horizon: what has just become popular is popular now.
QUARTER = "occasions_quarter"
FAST, SLOW, FAR = "decayed_fast", "decayed_slow", "decayed_far"
#: Half-lives in horizons.
HALF_LIVES = {FAST: 0.75, SLOW: 2.25, FAR: 6.0}


def within(spans: int) -> str:
    """The name of the occasions in the last so many horizons.

    >>> within(2)
    'occasions_2'
    """
    return f"{OCCASIONS}_{spans}"


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs that had occurred before a moment, ordered by customer and, within, by category.

    `customer`, `category`: numbers, shape (pairs,). `values`: by name, float32, shape (pairs,):

    - ``occasions``: all of them, at least 1; ``occasions_quarter``, ``occasions_1`` … ``occasions_6``: in the last quarter of a
      horizon, and in the last one to six horizons, 0 if none;
    - ``decayed_fast``, ``decayed_slow``, ``decayed_far``: occasions, each halved for every 0.75, 2.25 or 6 horizons of its age;
    - ``recency``: days since the last; ``tenure``: days since the first;
    - ``gap``: mean days between active days, nan below two; ``overdue``: days since the last active day over that gap, nan like it.
    """

    customer: Codes
    category: Codes
    values: Mapping[str, Floats32]

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.customer)

    def __getitem__(self, name: str) -> Floats32:
        """A value of every pair."""
        return self.values[name]


@dataclass(frozen=True, eq=False)
class State:
    """Everything about customers and categories that was known before a moment.

    `moment`: the cutoff. `horizon_days`: of the target. `customers`, `categories`: how many the log has, numbered from 0. `pairs`: who took
    what. `trips`: occasions of any category, by customer: the same names as in `Pairs`, shape (customers,), 0 where there are none (nan for
    recency, tenure, gap and overdue). `eligible`: whom the target is asked for at the moment, shape (customers,).
    """

    moment: datetime
    horizon_days: float
    customers: int
    categories: int
    pairs: Pairs
    trips: Mapping[str, Floats32]
    eligible: NDArray[np.bool_]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which categories anybody had taken, shape (categories,): those that come later must not change what is known."""
        return np.bincount(self.pairs.category, minlength=self.categories) > 0
