"""The features of pairs of a customer and a category: a pair's own past, the category's, what goes together, and the customer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from persopredict.affinity.pairs import (
    FAR,
    FAST,
    GAP,
    OCCASIONS,
    OVERDUE,
    QUARTER,
    RECENCY,
    SLOW,
    SPANS,
    TENURE,
    Codes,
    Floats32,
    State,
    within,
)
from persopredict.affinity.population import RATES, SCORES, Block, Floats, Numbers, Population, at_least_once, expected_trips, held

#: Rows and customers worked on at a time: few enough to stay near the processor.
ROWS, CUSTOMERS = 65_536, 4096


#: What the features of a pair describe; "together": the pair among other pairs.
About = Literal["pair", "category", "together", "customer"]


@dataclass(frozen=True, slots=True)
class PairFeature:
    """A column of `pair_matrix`.

    `label`: what it is, for people. `about`: what it describes. `concept`: what it says: features of one concept say the same in several
    ways, and are one reason.
    """

    name: str
    label: str
    about: About
    concept: str


#: What says the same, and rises and falls together over pairs: how often it was taken, when it is due, since when it is known, how strong
#: the habit is; how popular the category is, whether it rises, its season, whether people return to it; whether it goes with what else was
#: taken; and of the customer how active, how long known, how open to other categories.
CONCEPTS: Mapping[str, tuple[str, ...]] = {
    "often": (OCCASIONS, QUARTER, within(1), within(2), within(3), "presence", FAST, SLOW, FAR),
    "due": (RECENCY, GAP, OVERDUE, "late"),
    "known": (TENURE,),
    "habit": ("share_of_trips", "share_of_taken", "habit", "habit_probability", "recent_habit_probability"),
    "popular": ("popularity", "popularity_now", "popularity_ever", "adoption", "adoption_now"),
    "rising": ("trend", "trend_now"),
    "season": ("popularity_then", "season"),
    "repeated": ("repeat_rate",),
    "together": SCORES,
    "trips": ("trips", "trips_1", "trips_2", "trips_3", "trips_expected", "trips_recency", "categories_1"),
    "tenure": ("trips_tenure",),
    "variety": ("categories", "categories_new"),
}
_CONCEPT = {name: concept for concept, names in CONCEPTS.items() for name in names}


def _about(about: About, labels: dict[str, str]) -> tuple[PairFeature, ...]:
    return tuple(PairFeature(name, label, about, _CONCEPT[name]) for name, label in labels.items())


PAIR_FEATURES: tuple[PairFeature, ...] = (
    *_about(
        "pair",
        {
            OCCASIONS: "times taken so far",
            QUARTER: "times taken in the last quarter of a horizon",
            within(1): "times taken in the last horizon",
            within(2): "times taken in the last two horizons",
            within(3): "times taken in the last three horizons",
            "presence": "share of the last six horizons in which it was taken",
            FAST: "times taken, recent ones counting most",
            SLOW: "times taken, recent ones counting more",
            FAR: "times taken, distant ones counting a little less",
            RECENCY: "days since it was last taken",
            TENURE: "days since it was first taken",
            GAP: "usual days between takings",
            OVERDUE: "days since it was last taken, as a multiple of the usual",
            "late": "days beyond the usual since it was last taken",
            "share_of_trips": "share of the customer's trips that contained it",
            "share_of_taken": "share of all that the customer took lately",
            "habit": "share of trips expected to contain it, from the whole past",
            "habit_probability": "probability of taking it in the next horizon, from the whole past",
            "recent_habit_probability": "probability of taking it in the next horizon, from the recent past",
        },
    ),
    *_about(
        "category",
        {
            "popularity": "share of customers who took it in the last horizon",
            "popularity_now": "share of customers who took it in the last quarter of a horizon",
            "popularity_ever": "share of customers who ever took it",
            "trend": "popularity now against a horizon before",
            "trend_now": "popularity in the last quarter of a horizon against the whole",
            "popularity_then": "share of customers who took it a year ago in the horizon after this day",
            "season": "how its popularity changed a year ago from the horizon before this day to the one after",
            "adoption": "share of those new to it who took it within a horizon",
            "adoption_now": "share of those new to it who took it within the last quarter of a horizon",
            "repeat_rate": "share of those who took it who did so again in the next horizon",
        },
    ),
    *_about(
        "together",
        dict(
            zip(
                SCORES,
                (
                    "how well it goes with everything the customer has taken",
                    "how strongly it follows what the customer took lately",
                    "probability of taking it, corrected by what the customer took lately",
                    "probability of taking it, corrected by the customer's other habits",
                ),
                strict=True,
            )
        ),
    ),
    *_about(
        "customer",
        {
            "trips": "the customer's trips so far",
            "trips_1": "the customer's trips in the last horizon",
            "trips_2": "the customer's trips in the last two horizons",
            "trips_3": "the customer's trips in the last three horizons",
            "trips_expected": "trips expected of the customer in the next horizon",
            "trips_recency": "days since the customer's last trip",
            "trips_tenure": "days since the customer's first trip",
            "categories": "categories the customer has taken so far",
            "categories_1": "categories the customer took in the last horizon",
            "categories_new": "categories the customer took for the first time in the last horizon",
        },
    ),
)
_PLACE = {feature.name: place for place, feature in enumerate(PAIR_FEATURES)}


def pair_matrix(state: State, population: Population, customer: Codes, category: Codes) -> Floats32:
    """The features of pairs before a state's moment, shape (rows, len(PAIR_FEATURES)), nan where one is undefined.

    `customer`, `category`: numbers, shape (rows,), in order of customer: any pairs, taken before or not. `population`: of the same
    categories. Raises ValueError if the rows are not in order of customer.
    """
    if np.any(customer[1:] < customer[:-1]):
        raise ValueError("rows of pairs come in order of customer")
    found = np.empty((len(customer), len(PAIR_FEATURES)), np.float32)
    for start, end in _blocks(customer):
        _Rows.of(state, population, customer[start:end], category[start:end]).write(found[start:end])
    return found


def _blocks(customer: Codes) -> Iterator[tuple[int, int]]:
    """Rows of whole customers: at most `ROWS` (or those of one customer) and `CUSTOMERS`."""
    starts = np.append(np.flatnonzero(_first(customer)), len(customer))
    here, last = 0, len(starts) - 1
    while here < last:
        fitting = int(np.searchsorted(starts, starts[here] + ROWS, side="right")) - 1
        there = min(max(fitting, here + 1), here + CUSTOMERS, last)
        yield int(starts[here]), int(starts[there])
        here = there


def _first(customer: Codes) -> NDArray[np.bool_]:
    """Which rows are the first of their customers."""
    first = np.ones(len(customer), bool)
    first[1:] = customer[1:] != customer[:-1]
    return first


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of some customers. `customers`: theirs, ascending; `row`: the place among them of each row's customer.

    `pairs`: the places in the state of all pairs of these customers; `row_of_pair`: as `row`. `occurred`: which rows are among them; `own`:
    where, if so.
    """

    state: State
    population: Population
    category: NDArray[Any]
    customers: NDArray[Any]
    row: Numbers
    pairs: Numbers
    row_of_pair: Numbers
    occurred: NDArray[np.bool_]
    own: Numbers

    @classmethod
    def of(cls, state: State, population: Population, customer: Codes, category: Codes) -> _Rows:
        first = _first(customer)
        customers, row = customer[first], np.cumsum(first, dtype=np.intp) - 1
        row_of_pair, pairs = held(state, customers)
        keys = row_of_pair * state.categories + state.pairs.category[pairs]
        asked = row * state.categories + category
        place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
        occurred = keys[place] == asked if len(keys) else np.zeros(len(asked), bool)
        own = pairs[place] if len(keys) else place
        return cls(state, population, category, customers, row, pairs, row_of_pair, occurred, own)

    def write(self, into: Floats32) -> None:
        """The features of the rows, in the order of `PAIR_FEATURES`."""
        for columns in (self._pair(), self._category(), self._together(), self._customer()):
            for name, values in columns.items():
                into[:, _PLACE[name]] = values

    def _value(self, name: str, empty: float) -> Floats:
        if not len(self.pairs):
            return np.full(len(self.row), empty)
        return np.where(self.occurred, self.state.pairs[name][self.own], empty).astype(np.float64)

    def _trips(self, name: str) -> Floats:
        values: Floats = self.state.trips[name][self.customers].astype(np.float64)
        return values

    def _per_customer(self, weights: NDArray[Any]) -> Floats:
        totals: Floats = np.bincount(self.row_of_pair, weights, len(self.customers)).astype(np.float64)
        return totals

    def _pair(self) -> dict[str, Floats]:
        counts: list[Floats] = [np.zeros(len(self.row)), *(self._value(within(span), 0.0) for span in range(1, SPANS + 1))]
        existed = np.clip(np.ceil(np.nan_to_num(self._trips(TENURE)) / self.state.horizon_days), 1, SPANS)
        present = np.sum([later > earlier for earlier, later in pairwise(counts)], axis=0)
        occasions, slow = self._value(OCCASIONS, 0.0), self._value(SLOW, 0.0)
        recency, gap = self._value(RECENCY, np.nan), self._value(GAP, np.nan)
        trips, trips_slow = self._trips(OCCASIONS)[self.row], self._trips(SLOW)[self.row]
        expected = expected_trips(self.state, self.customers)[self.row]
        habits = self.population.habits
        habit = habits.share(occasions, trips, self.category)
        total = self._per_customer(self.state.pairs[SLOW][self.pairs])[self.row]
        return {
            OCCASIONS: occasions,
            QUARTER: self._value(QUARTER, 0.0),
            **{within(span): counts[span] for span in (1, 2, 3)},
            "presence": np.minimum(present / existed[self.row], 1.0),
            FAST: self._value(FAST, 0.0),
            SLOW: slow,
            FAR: self._value(FAR, 0.0),
            RECENCY: recency,
            TENURE: self._value(TENURE, np.nan),
            GAP: gap,
            OVERDUE: self._value(OVERDUE, np.nan),
            "late": recency - gap,
            "share_of_trips": _ratio(occasions, trips),
            "share_of_taken": _ratio(slow, total),
            "habit": habit,
            "habit_probability": at_least_once(habit, expected),
            "recent_habit_probability": at_least_once(habits.share(slow, trips_slow, self.category), expected),
        }

    def _category(self) -> dict[str, Floats]:
        return {name: getattr(self.population, name)[self.category] for name in RATES}

    def _together(self) -> dict[str, Floats]:
        population = self.population
        place = np.full(self.state.categories, -1)
        place[population.columns] = np.arange(len(population.columns))
        column = place[self.category]
        scores = population.scores(Block.of(self.state, self.customers, population.columns))
        nothing = np.full(len(self.row), np.nan)
        return {name: np.where(column >= 0, scores[name][self.row, column], np.nan) if name in scores else nothing for name in SCORES}

    def _customer(self) -> dict[str, Floats]:
        taken, lately = self.state.pairs[OCCASIONS][self.pairs], self.state.pairs[within(1)][self.pairs]
        values = {
            "trips": self._trips(OCCASIONS),
            **{f"trips_{span}": self._trips(within(span)) for span in (1, 2, 3)},
            "trips_expected": expected_trips(self.state, self.customers),
            "trips_recency": self._trips(RECENCY),
            "trips_tenure": self._trips(TENURE),
            "categories": self._per_customer(taken > 0),
            "categories_1": self._per_customer(lately > 0),
            "categories_new": self._per_customer(lately == taken),
        }
        return {name: found[self.row] for name, found in values.items()}


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio
