"""What the population did with every category, from before a moment alone: rates, the strength of habits, and what goes together.

Everything is a rate over the customers eligible at a moment, so that it means the same for a thousand customers and for a million.
What goes together and what follows is linear: matrices between at most 500 categories, learnt from at most 50,000 customers, from which a
customer's own pairs give a score for every category.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from persopredict.affinity.pairs import FAST, HALF_LIVES, OCCASIONS, QUARTER, SLOW, SPANS, TENURE, State, within
from persopredict.threads import one_thread

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

#: The shortest tenure that expectations are drawn from, in horizons.
LEAST_TENURE = 0.25
#: So many trips make a customer experienced: from these the strength of habits is estimated, if there are at least so many of them.
EXPERIENCED, ENOUGH_EXPERIENCED = 10, 30
#: Added takers (trend), customers without the category (adoption), takers before (repeat rate): where there are few, the rest decides.
FEW_TAKERS, FEW_WITHOUT, FEW_BEFORE = 5.0, 50.0, 5.0
#: Customers laid out as a dense array at a time.
CHUNK = 8192
#: The penalty of EASE, as a share of the customers.
EASE_PENALTY = 0.1
GOES_TOGETHER, FOLLOWS = "goes_together", "follows"

#: What a category's features are.
RATES = (
    "popularity",
    "popularity_now",
    "popularity_ever",
    "trend",
    "trend_now",
    "season",
    "popularity_then",
    "adoption",
    "adoption_now",
    "repeat_rate",
)

Input = Literal["taken", "own"]


@dataclass(frozen=True, slots=True)
class Regression:
    """What follows, learnt: a ridge regression of what customers took in a horizon on what they had taken before.

    `reads`: "taken", the decayed occasions of every category, or "own", the own probability of each. `corrects`: whether the score corrects
    the own probability of the category, or stands alone. `blocks`: the horizons learnt from, the last first. `penalty`: times the rows.
    """

    name: str
    reads: Input
    corrects: bool
    blocks: int
    penalty: float


REGRESSIONS = (
    Regression(FOLLOWS, "taken", False, 6, 0.1),
    Regression("corrected_by_taken", "taken", True, 4, 0.3),
    Regression("corrected_by_own", "own", True, 4, 0.05),
)
SCORES = (GOES_TOGETHER, *(regression.name for regression in REGRESSIONS))


def expected_trips(state: State, customers: NDArray[Any]) -> Floats:
    """Trips to expect of customers in one horizon, from their decayed trips over the time, decayed alike, since their first.

    A tenure below a quarter of a horizon counts as that: one trip today doesn't promise one a day. 0 without trips.
    """
    half_life = max(1, round(HALF_LIVES[SLOW] * state.horizon_days))
    tenure = np.maximum(state.trips[TENURE][customers].astype(np.float64), LEAST_TENURE * state.horizon_days)
    exposure = half_life / np.log(2) * -np.expm1(-np.log(2) * tenure / half_life)
    expected: Floats = np.nan_to_num(state.trips[SLOW][customers] / exposure * state.horizon_days)
    return expected


def at_least_once(share: Floats, trips: Floats) -> Floats:
    """The probability that at least one of so many trips contains a category that a share of them contains.

    >>> at_least_once(np.array([0.5, 0.0]), np.array([2.0, 2.0]))
    array([0.75, 0.  ])
    """
    probability: Floats = -np.expm1(trips * np.log1p(-np.minimum(share, 0.999)))
    return probability


@dataclass(frozen=True, eq=False)
class Habits:
    """How a share of trips is shrunk: by category the mean share of trips that contain it, and its strength in trips.

    Shares of trips are beta-binomial: every customer has a share of their own, drawn from a beta distribution with that mean, whose
    parameters add up to `prior`. Both by the method of moments (Kleinman 1973, Proportions with extraneous variance) over eligible
    customers with at least ten trips (with any, if fewer than 30 have ten), `prior` kept between 1 and 500. nan if nobody has a trip.
    """

    mean: Floats
    prior: Floats

    @classmethod
    def of(cls, state: State) -> Habits:
        """The habits of those eligible at a state."""
        trips = state.trips[OCCASIONS].astype(np.float64)
        who = state.eligible & (trips >= EXPERIENCED)
        if who.sum() < ENOUGH_EXPERIENCED:
            who = state.eligible & (trips > 0)
        customers = int(who.sum())
        if not customers:
            return cls(np.full(state.categories, np.nan), np.full(state.categories, np.nan))
        pairs = who[state.pairs.customer]
        category = state.pairs.category[pairs]
        share = state.pairs[OCCASIONS][pairs] / trips[state.pairs.customer[pairs]]
        mean = np.bincount(category, share, state.categories) / customers
        variance = np.bincount(category, share**2, state.categories) / customers - mean**2
        binomial = mean * (1 - mean)
        between = np.maximum(variance - binomial * (1 / trips[who]).mean(), 1e-6)
        return cls(mean, np.clip(binomial / between - 1, 1.0, 500.0))

    def share(self, occasions: Floats, trips: Floats, category: NDArray[Any]) -> Floats:
        """The posterior mean of the share of trips that contain a category."""
        prior = self.prior[category]
        share: Floats = (occasions + prior * self.mean[category]) / (trips + prior)
        return share


@dataclass(frozen=True, eq=False)
class Block:
    """The pairs of some customers with some categories, where each stands in an array (customers, categories).

    `customers`, `columns`: their numbers, ascending. `row`, `column`: where a pair stands. `pair`: its place in the state's pairs.
    """

    state: State
    customers: NDArray[Any]
    columns: NDArray[Any]
    row: Numbers
    column: Numbers
    pair: Numbers

    @classmethod
    def of(cls, state: State, customers: NDArray[Any], columns: NDArray[Any]) -> Block:
        """The block of some customers and categories, each ascending and without doubles."""
        row, pair = held(state, customers)
        place = np.full(state.categories, -1)
        place[columns] = np.arange(len(columns))
        column = place[state.pairs.category[pair]]
        kept = column >= 0
        return cls(state, customers, columns, row[kept], column[kept], pair[kept])

    def dense(self, name: str) -> Floats:
        """A value of the pairs, 0 where a pair has not occurred, shape (customers, columns)."""
        found = np.zeros((len(self.customers), len(self.columns)))
        found[self.row, self.column] = self.state.pairs[name][self.pair]
        return found

    def taken(self, spans: int | None = None) -> Floats:
        """1 where the category was taken (in the last so many horizons), else 0."""
        return (self.dense(OCCASIONS if spans is None else within(spans)) > 0).astype(np.float64)

    def own(self, habits: Habits) -> Floats:
        """The probability that each customer takes each category in one horizon, from their recent habits alone."""
        trips = self.state.trips[SLOW][self.customers].astype(np.float64)
        share = habits.share(self.dense(SLOW), trips[:, None], self.columns)
        return at_least_once(share, expected_trips(self.state, self.customers)[:, None])

    def inputs(self, reads: Input, habits: Habits) -> Floats:
        """What regressions read, with a column of ones, shape (customers, 2 columns + 1) or (customers, columns + 1)."""
        ones = np.ones((len(self.customers), 1))
        if reads == "own":
            return np.hstack([self.own(habits), ones])
        return np.hstack([np.log1p(self.dense(SLOW)), np.log1p(self.dense(FAST)), ones])


def held(state: State, customers: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """The pairs of some customers, ascending: the place of the customer among these, and that of the pair in the state."""
    if not len(customers):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    # Bounds of the array's own type: with others the whole array would be copied each time.
    start, end = np.searchsorted(state.pairs.customer, np.array([customers[0], customers[-1] + 1], state.pairs.customer.dtype))
    customer = state.pairs.customer[start:end]
    row = np.searchsorted(customers, customer)
    kept = np.flatnonzero(customers[row] == customer)
    return row[kept], start + kept


def chunks(customers: NDArray[Any], size: int = CHUNK) -> Iterator[NDArray[Any]]:
    """Customers, so many at a time.

    >>> [chunk.tolist() for chunk in chunks(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, len(customers), size):
        yield customers[start : start + size]


class Ridge:
    """A ridge regression that is shown its rows chunk by chunk and keeps only their products."""

    def __init__(self) -> None:
        self.rows = 0
        self.gram: Any = 0.0
        self.cross: dict[bool, Any] = {}

    def add(self, inputs: Floats, targets: Mapping[bool, Floats]) -> None:
        """More rows, each with targets of different kinds."""
        # Single precision takes half the time; the chunks' products are added up in double.
        rows = inputs.astype(np.float32)
        self.rows += len(rows)
        self.gram = self.gram + (rows.T @ rows).astype(np.float64)
        for kind, target in targets.items():
            self.cross[kind] = self.cross.get(kind, 0.0) + (rows.T @ target.astype(np.float32)).astype(np.float64)

    def weights(self, kind: bool, penalty: float) -> Floats:
        """The solution for one kind of target, shape (inputs, targets); the penalty counts as many times as there are rows."""
        weights: Floats = np.linalg.solve(self.gram + penalty * self.rows * np.eye(len(self.gram)), self.cross[kind])
        return weights


def ease(gram: Floats, penalty: float) -> Floats:
    """EASE (Steck 2019, Embarrassingly shallow autoencoders for sparse data): each category from all others by ridge regression.

    `gram`: how many customers took both, shape (categories, categories). Returns weights of the same shape, a column for each category
    told, with zeros on the diagonal: nothing is told by itself.

    >>> ease(np.array([[4.0, 2.0], [2.0, 4.0]]), penalty=1.0).round(3)
    array([[0. , 0.4],
           [0.4, 0. ]])
    """
    inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
    weights: Floats = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _shrunk(hits: Floats, of: Floats, strength: float) -> Floats:
    """Shares, drawn towards the share over all categories as if it had been seen in `strength` customers; nan if there are none at all."""
    overall = hits.sum() / of.sum() if of.sum() else np.nan
    shares: Floats = (hits + strength * overall) / (of + strength)
    return shares


def _count(state: State, who: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> Floats:
    counts: Floats = np.bincount(state.pairs.category[pairs & who[state.pairs.customer]], minlength=state.categories).astype(np.float64)
    return counts


def _rates_now(now: State, takers: Floats, eligible: float) -> dict[str, Floats]:
    """The rates of the last quarter of a horizon."""
    lately, ever = now.pairs[QUARTER], now.pairs[OCCASIONS]
    recent, few = _count(now, now.eligible, lately > 0) / eligible, FEW_TAKERS / eligible
    without = (now.eligible.sum() - _count(now, now.eligible, ever > lately)) * now.seen
    return {
        "popularity_now": recent,
        "trend_now": (recent + few) / (takers / eligible / 4 + few),
        "adoption_now": _shrunk(_count(now, now.eligible, (lately > 0) & (ever == lately)), without, FEW_WITHOUT),
    }


def _rates(states: Sequence[State]) -> dict[str, Floats]:
    """The rates of every category; adoption and repeat rate of who was eligible a horizon ago, not only of who has come back since."""
    now = states[0]
    eligible = max(float(now.eligible.sum()), 1.0)
    takers = _count(now, now.eligible, now.pairs[within(1)] > 0)
    overall = (takers.sum() + 0.5) / (now.seen.sum() * eligible + 1)
    rates = {
        "takers": takers,
        "popularity": takers / eligible,
        "popularity_ever": _count(now, now.eligible, now.pairs[OCCASIONS] > 0) / eligible,
        "base_rate": (takers + 0.5 * overall) / (eligible + 0.5),
        **_rates_now(now, takers, eligible),
    }
    if len(states) == 1:
        unknown = np.full(now.categories, np.nan)
        return {**rates, "popularity_before": unknown, "trend": np.ones(now.categories), "adoption": unknown, "repeat_rate": unknown}
    then = states[1]
    popularity_before = _count(then, then.eligible, then.pairs[within(1)] > 0) / max(float(then.eligible.sum()), 1.0)
    few = FEW_TAKERS / eligible
    # What the first state knows by now of the horizons before, so that those who took it again are among those who had taken it.
    last, last_two, ever = (now.pairs[name] for name in (within(1), within(2), OCCASIONS))
    without = (float(then.eligible.sum()) - _count(now, then.eligible, ever > last)) * now.seen
    return {
        **rates,
        "popularity_before": popularity_before,
        "trend": (rates["popularity"] + few) / (popularity_before + few),
        "adoption": _shrunk(_count(now, then.eligible, ever == last), without, FEW_WITHOUT),
        "repeat_rate": _shrunk(
            _count(now, then.eligible, (last > 0) & (last_two > last)), _count(now, then.eligible, last_two > last), FEW_BEFORE
        ),
    }


def _season(now: State, season: tuple[State, State] | None) -> dict[str, Floats]:
    """Popularity a year ago, after the day, and its ratio to that before it."""
    if season is None:
        return dict.fromkeys(("season", "popularity_then"), np.full(now.categories, np.nan))
    before, after = (_count(then, then.eligible, then.pairs[within(1)] > 0) for then in season)
    those = [max(float(then.eligible.sum()), 1.0) for then in season]
    return {"season": ((after + FEW_TAKERS) / those[1]) / ((before + FEW_TAKERS) / those[0]), "popularity_then": after / those[1]}


def _sampled(states: Sequence[State], sample: int | NDArray[Any]) -> NDArray[np.bool_]:
    """Who teaches the matrices, shape (customers,): whom the caller chose, or so many of the eligible, evenly by number."""
    chosen = np.zeros(states[0].customers, bool)
    if isinstance(sample, np.ndarray):
        chosen[sample] = True
        return chosen
    eligible = np.flatnonzero(np.logical_or.reduce([state.eligible for state in states]))
    size = min(int(sample), len(eligible))
    chosen[eligible[np.arange(size) * len(eligible) // max(size, 1)]] = True
    return chosen


def _follows(states: Sequence[State], columns: Numbers, sample: NDArray[np.bool_]) -> dict[str, Floats]:
    """The weights of the regressions: block k tells what was taken from state k to state k - 1 by what was known at state k."""
    ridges: dict[Input, Ridge] = {"taken": Ridge(), "own": Ridge()}
    weights: dict[str, Floats] = {}
    last = min(len(states) - 1, SPANS)
    for k in range(1, last + 1):
        before, after = states[k], states[k - 1]
        habits = Habits.of(before)
        learning = [regression for regression in REGRESSIONS if regression.blocks >= k]
        for customers in chunks(np.flatnonzero(sample & before.eligible)):
            block = Block.of(before, customers, columns)
            taken = Block.of(after, customers, columns).taken(1)
            own = block.own(habits) if any(regression.corrects for regression in learning) else taken
            for reads in sorted({regression.reads for regression in learning}):
                kinds = {regression.corrects for regression in learning if regression.reads == reads}
                ridges[reads].add(block.inputs(reads, habits), {kind: taken - own if kind else taken for kind in sorted(kinds)})
        for regression in learning:
            if k == min(regression.blocks, last) and ridges[regression.reads].rows:
                weights[regression.name] = ridges[regression.reads].weights(regression.corrects, regression.penalty)
    return weights


def _together(state: State, columns: Numbers, sample: NDArray[np.bool_]) -> dict[str, Floats]:
    """The weights of EASE."""
    customers = np.flatnonzero(sample & state.eligible)
    gram = np.zeros((len(columns), len(columns)))
    for chunk in chunks(customers):
        taken = Block.of(state, chunk, columns).taken()
        gram += taken.T @ taken
    return {GOES_TOGETHER: ease(gram, EASE_PENALTY * len(customers))} if len(customers) else {}


@dataclass(frozen=True, eq=False)
class Population:
    """The tables at category level as they stood at a moment.

    `as_of`: the moment. `customers`: how many were eligible. By category, shape (categories,), over eligible customers:

    - `takers`: how many took it in the last horizon, and as a share `popularity`; `base_rate`, that share kept off 0 and 1;
    - `popularity_before`: the share a horizon earlier; `trend`: the ratio of the two, 5 takers added to both;
    - `popularity_now`: the share that took it in the last quarter of a horizon; `trend_now`: its ratio to a quarter of `popularity`, 5
      takers added to both;
    - `popularity_then`: the share that took it a year ago in the horizon after this day; `season`: its ratio to the share in the horizon
      before that day, 5 takers added to both; nan where the log does not reach back so far;
    - `popularity_ever`: the share that ever took it;
    - `adoption`, `adoption_now`: the share that took it in the last horizon, or the last quarter of one, of those who had not before;
      `repeat_rate`: in the last horizon, of those who took it in the horizon before; all drawn towards their means over all categories,
      with the weight of 50, 50 and 5 customers;
    - `habits`: how their shares of trips are shrunk.

    Without an earlier state trend is 1, and popularity_before, adoption and repeat_rate are nan. `seen`: the categories that anyone ever
    took, eligible or not; `columns`: those of the matrices; both ascending. `weights`: the matrices that could be learnt, by score.
    """

    as_of: datetime
    customers: int
    takers: Floats
    popularity: Floats
    popularity_before: Floats
    popularity_now: Floats
    popularity_ever: Floats
    trend: Floats
    trend_now: Floats
    season: Floats
    popularity_then: Floats
    adoption: Floats
    adoption_now: Floats
    repeat_rate: Floats
    base_rate: Floats
    habits: Habits
    seen: Numbers
    columns: Numbers
    weights: Mapping[str, Floats]

    @classmethod
    @one_thread
    def of(
        cls,
        states: Sequence[State],
        *,
        season: tuple[State, State] | None = None,
        most: int = 500,
        sample: int | NDArray[Any] = 50_000,
    ) -> Population:
        """The population at the first of states, each a horizon earlier than the one before it, over the same customers and categories.

        `states`: at least one; blocks to learn what follows from need more, at most seven are used. `season`: the states a year ago, of the
        same day and of a horizon later. `most`: categories of the matrices, the most taken. `sample`: how many customers the matrices are
        learnt from, or which (numbers or booleans).
        """
        now = states[0]
        rates = {**_rates(states), **_season(now, season)}
        ever = rates["popularity_ever"]
        order = np.argsort(-ever, kind="stable")[: int(min(most, (ever > 0).sum()))]
        columns, chosen = np.sort(order), _sampled(states, sample)
        weights = {**_together(now, columns, chosen), **_follows(states, columns, chosen)} if len(columns) else {}
        seen = np.flatnonzero(now.seen)
        return cls(now.moment, int(now.eligible.sum()), habits=Habits.of(now), seen=seen, columns=columns, weights=weights, **rates)

    @property
    def categories(self) -> int:
        """How many categories the log has."""
        return len(self.takers)

    @one_thread
    def scores(self, block: Block, names: Sequence[str] = SCORES) -> dict[str, Floats]:
        """By name, the scores of customers for the categories of the matrices; `block` is theirs, with `columns` as columns.

        Shape (customers, columns). A score whose matrix could not be learnt is left out.
        """
        found = {}
        if GOES_TOGETHER in names and GOES_TOGETHER in self.weights:
            found[GOES_TOGETHER] = block.taken() @ self.weights[GOES_TOGETHER]
        asked = [regression for regression in REGRESSIONS if regression.name in names and regression.name in self.weights]
        inputs = {reads: block.inputs(reads, self.habits) for reads in {regression.reads for regression in asked}}
        own = block.own(self.habits) if any(regression.corrects for regression in asked) else 0.0
        for regression in asked:
            score = inputs[regression.reads] @ self.weights[regression.name]
            found[regression.name] = score + own if regression.corrects else score
        return found

    def tables(self) -> pa.Table:
        """A row for every category by number, with `population_as_of`."""
        import pyarrow as pa

        names = ("takers", *RATES, "popularity_before", "base_rate")
        columns: dict[str, Any] = {"category": np.arange(self.categories), "population_as_of": [self.as_of] * self.categories}
        columns.update({name: getattr(self, name) for name in names})
        return pa.table({**columns, "mean_share": self.habits.mean, "prior_trips": self.habits.prior})
