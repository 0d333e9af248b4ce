"""The benchmark of affinity keeps books of its own: who took what, what simple rules would have said, how good an order is.

Everything comes from the tables of The Complete Journey, by DuckDB and NumPy alone; nothing of persopredict's own ranking is used, so that
a mistake there can't hide here. Days and cutoffs are New York's, where the shops are.

The rules: *popularity* (households that took the thing in the last 28 days), *own frequency* (the household's baskets with it, ties by
popularity), *best decay* (a basket counts for half after so many days, or so many baskets) and the decayed count *blended* with popularity.
Half-lives and weights are, for each metric, those that do best on the very households that are judged: no rule of its kind does better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb
import numpy as np

from persopredict.datasets import complete_journey_tables

ZONE = "America/New_York"
HORIZON_DAYS, ACTIVE_DAYS, K = 28, 91, 10
METRICS = ("recall", "ndcg", "hit")
#: A category with fewer takers says more about chance than about calibration.
LEAST_TAKERS = 100
RULES = ("popularity", "own frequency", "best decay", "blended")
#: By clock. What was tried beyond these did worse at every one of the benchmark's questions.
HALF_LIVES: Mapping[str, tuple[float, ...]] = {"days": (28, 56, 84, 112, 140, 182, 252, 364, math.inf)}
HALF_LIVES_OF_ITEMS: Mapping[str, tuple[float, ...]] = {"days": (84, 112, 140, 182, 252, math.inf), "baskets": (10, 15, 20, 30, 50)}
WEIGHTS = {"baskets": (0.3, 1, 2, 3, 4, 5, 7, 10, 20), "shares": (0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.2)}


def journey(threads: int = 1) -> duckdb.DuckDBPyConnection:
    """A connection with `lines` (h household, b basket, ts instant, item_id, department, product_category) and `activity` (h, ts)."""
    files = {name: path.as_posix().replace("'", "''") for name, path in complete_journey_tables().items()}
    connection = duckdb.connect(config={"threads": threads})
    connection.execute(f"SET TimeZone = '{ZONE}'")
    connection.execute(f"""
        CREATE TABLE lines AS SELECT household_id::VARCHAR AS h, basket_id AS b, transaction_timestamp AT TIME ZONE 'UTC' AS ts,
          product_id::VARCHAR AS item_id, department, product_category
        FROM '{files["transactions"]}' LEFT JOIN '{files["products"]}' USING (product_id)""")
    connection.execute(f"""
        CREATE TABLE activity AS SELECT h, ts FROM lines
        UNION ALL SELECT household_id::VARCHAR, redemption_date::TIMESTAMPTZ FROM '{files["coupon_redemptions"]}'
        UNION ALL SELECT household_id::VARCHAR, start_date::TIMESTAMPTZ FROM '{files["campaigns"]}'
          JOIN '{files["campaign_descriptions"]}' USING (campaign_id)""")
    return connection


# How good an order is --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What stands on the first K places of each household.

    hits : (n, K), whether what stands there was taken; an empty place is no hit.
    relevant : (n,), how many things were taken, whether or not anything could have named them.
    """

    hits: np.ndarray
    relevant: np.ndarray

    def metric(self, name: str) -> np.ndarray:
        """One value for each household, nan where nothing was taken: ``recall``, ``ndcg`` (ideal over min(K, relevant)), ``hit``."""
        asked = np.where(self.relevant > 0, self.relevant, np.nan)
        if name == "recall":
            return self.hits.sum(axis=1) / asked
        if name == "hit":
            return np.where(self.relevant > 0, self.hits.any(axis=1), np.nan)
        gains = 1 / np.log2(np.arange(self.hits.shape[1]) + 2)
        ideal = np.cumsum(gains)[np.clip(self.relevant, 1, len(gains)) - 1]
        return np.where(self.relevant > 0, self.hits @ gains / ideal, np.nan)


@dataclass(frozen=True)
class Gain:
    """How far one is ahead of a rule: relative, and the 95% interval of the paired difference."""

    rule: str
    relative: float
    low: float
    high: float

    @classmethod
    def of(cls, rule: str, ours: np.ndarray, theirs: np.ndarray, *, draws: int = 2_000) -> Gain:
        """Over the households that both have a value for; bootstrap over households."""
        both = ~np.isnan(ours - theirs)
        difference = (ours - theirs)[both]
        picks = np.random.default_rng(0).integers(0, len(difference), (draws, len(difference)))
        low, high = np.quantile(difference[picks].mean(axis=1), (0.025, 0.975))
        return cls(rule, float(difference.mean() / theirs[both].mean()), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.relative:+.1%} [{self.low:+.4f}, {self.high:+.4f}]"


def ece(taken: np.ndarray, probability: np.ndarray, bins: int = 20) -> float:
    """Expected calibration error over bins of equal size."""
    order = np.argsort(probability, kind="stable")
    gaps = [np.abs(taken[one].mean() - probability[one].mean()) * len(one) for one in np.array_split(order, bins) if len(one)]
    return float(sum(gaps) / len(order))


def gaps(category: np.ndarray, taken: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|expected - actual takers| / actual, of each category with enough takers; and what perfect probabilities would have there."""
    weights = (taken, probability, probability * (1 - probability))
    actual, expected, variance = (np.bincount(category, each) for each in weights)
    enough = actual >= LEAST_TAKERS
    # The mean distance of a normal deviate from its mean.
    chance = np.sqrt(variance[enough] * 2 / np.pi)
    return np.abs(expected - actual)[enough] / actual[enough], chance / actual[enough]


# What is known, and what came -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What each of n households is known to have taken, and what it took then. Things are numbered by popularity, the greatest first.

    households, things : their names.
    takers : (things,), share of all households that took it in the last 28 days.
    seen : how many of the things, the first ones, had been taken by anybody.
    baskets : (m, 2), household and thing of each basket of known things; ages : its age, by clock, in days and in baskets.
    taken : (r, 2), household and thing of what was taken afterwards.
    """

    households: Sequence[str]
    things: Sequence[str]
    takers: np.ndarray
    seen: int
    baskets: np.ndarray
    ages: Mapping[str, np.ndarray]
    taken: np.ndarray

    def keys(self, pairs: np.ndarray) -> np.ndarray:
        """One number for each pair of household and thing."""
        return pairs[:, 0] * len(self.things) + pairs[:, 1]

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        keys, places = np.unique(self.keys(self.baskets), return_inverse=True)
        return keys, places

    def is_new(self, pairs: np.ndarray) -> np.ndarray:
        """Whether the household never took the thing before."""
        return ~np.isin(self.keys(pairs), self._known[0])

    @cached_property
    def candidates(self) -> np.ndarray:
        """(c, 2): all that a rule can put first, own things and the K most popular others; a household's in order of popularity."""
        reach = min(self.seen, K + int(np.bincount(self._known[0] // len(self.things)).max()))
        other = np.ones((len(self.households), reach), dtype=bool)
        own = np.stack(np.divmod(self._known[0], len(self.things)), axis=1)
        near = own[own[:, 1] < reach]
        other[near[:, 0], near[:, 1]] = False
        others = np.argwhere(other & (np.cumsum(other, axis=1) <= K))
        whole = np.concatenate([own, others])
        return whole[np.argsort(self.keys(whole))]

    def own(self, clock: str = "days", half_life: float = math.inf) -> np.ndarray:
        """(c,): the household's baskets with the thing, each counting for half after so many days or baskets."""
        keys, places = self._known
        found = np.zeros(len(self.candidates))
        found[self._own] = np.bincount(places, 0.5 ** (self.ages[clock] / half_life), len(keys))
        return found

    @cached_property
    def _own(self) -> np.ndarray:
        return ~self.is_new(self.candidates)

    def lists(self, pairs: np.ndarray, part: str = "all") -> Lists:
        """To put pairs in order by any scores; `part`: ``repeat`` or ``explore`` pairs alone."""
        rows, taken = np.argsort(self.keys(pairs), kind="stable"), self.taken
        if part != "all":
            new = part == "explore"
            rows, taken = rows[self.is_new(pairs[rows]) == new], taken[self.is_new(taken) == new]
        hits = np.isin(self.keys(pairs[rows]), self.keys(taken))
        return Lists(rows, pairs[rows, 0].astype(np.uint16), hits, np.bincount(taken[:, 0], minlength=len(self.households)))


@dataclass(frozen=True)
class Lists:
    """The pairs of each household.

    rows : which of the given pairs, by household and then by popularity; household, hits : of each row, and whether it was taken.
    relevant : (n,), how many things each household took.
    """

    rows: np.ndarray
    household: np.ndarray
    hits: np.ndarray
    relevant: np.ndarray

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first K rows of each household, once in order: which rows these are, whose, and their places."""
        place = np.arange(len(self.rows)) - np.searchsorted(self.household, self.household)
        first = np.flatnonzero(place < K)
        return first, self.household[first], place[first]

    def order(self, scores: np.ndarray) -> Order:
        """By the scores of the pairs that were given, the highest first, ties by popularity."""
        order = np.argsort(-scores[self.rows], kind="stable")
        # Sixteen bits are sorted in one pass, and sorting is what takes the time.
        order = order[np.argsort(self.household[order], kind="stable")]
        first, household, place = self._places
        found = np.zeros((len(self.relevant), K), dtype=bool)
        found[household, place] = self.hits[order[first]]
        return Order(found, self.relevant)


def at_cutoff(connection: duckdb.DuckDBPyConnection, by: str, cutoff: str) -> Question:
    """Households with anything at all in the last 91 days; what they took before the cutoff, and in the 28 days from it on."""
    moment = f"TIMESTAMPTZ '{cutoff}'"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE asked AS SELECT DISTINCT h, {moment} AS until FROM activity
        WHERE ts < {moment} AND ts >= {moment} - INTERVAL {ACTIVE_DAYS} DAY;
        CREATE OR REPLACE TEMP VIEW everybody AS SELECT h, b, ts, {by} AS thing FROM lines WHERE {by} IS NOT NULL AND ts < {moment};
        CREATE OR REPLACE TEMP TABLE came AS SELECT DISTINCT h, {by} AS thing FROM lines JOIN asked USING (h)
        WHERE {by} IS NOT NULL AND ts >= {moment} AND ts < {moment} + INTERVAL {HORIZON_DAYS} DAY""")
    return _question(connection, moment)


def next_basket(connection: duckdb.DuckDBPyConnection) -> tuple[Question, int]:
    """Each household's last basket left out, everything else known, ages counted from that basket; and how many had but one basket."""
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE last_baskets AS SELECT h, max_by(b, (ts, b)) AS b, max(ts) AS until, count(DISTINCT b) AS baskets
        FROM lines GROUP BY h;
        CREATE OR REPLACE TEMP TABLE asked AS SELECT h, until FROM last_baskets WHERE baskets > 1;
        CREATE OR REPLACE TEMP VIEW everybody AS SELECT h, b, ts, item_id AS thing FROM lines ANTI JOIN last_baskets USING (b);
        CREATE OR REPLACE TEMP TABLE came AS SELECT DISTINCT h, item_id AS thing FROM lines JOIN last_baskets USING (h, b)
        WHERE baskets > 1""")
    question = _question(connection, "(SELECT max(ts) FROM lines)")
    return question, connection.sql("SELECT count(*) FROM last_baskets WHERE baskets = 1").fetchall()[0][0]


def _question(connection: duckdb.DuckDBPyConnection, end: str) -> Question:
    """From `asked` (h, until), `everybody` (h, b, ts, thing: what is known, of all households), `came` (h, thing)."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE things AS SELECT thing, row_number() OVER (ORDER BY ever = 0, takers DESC, ever DESC, thing) - 1 AS t,
          takers, ever
        FROM (SELECT thing, count(DISTINCT h) FILTER (WHERE ts >= {end} - INTERVAL {HORIZON_DAYS} DAY) AS takers, count(DISTINCT b) AS ever
          FROM (SELECT h, b, ts, thing FROM everybody UNION ALL SELECT NULL, NULL, NULL, thing FROM came)
          WHERE thing IS NOT NULL GROUP BY thing);
        CREATE OR REPLACE TEMP TABLE numbered AS SELECT h, row_number() OVER (ORDER BY h) - 1 AS n, until FROM asked""")
    households = connection.sql("SELECT h FROM numbered ORDER BY n").fetchall()
    things = connection.sql("SELECT thing, takers, ever FROM things ORDER BY t").fetchnumpy()
    baskets = connection.sql("""
        SELECT n, t, (epoch_us(until) - epoch_us(ts)) / 86400e6 AS days,
          dense_rank() OVER (PARTITION BY n ORDER BY ts DESC, b DESC) AS baskets
        FROM (SELECT DISTINCT h, b, ts, thing FROM everybody) JOIN numbered USING (h) JOIN things USING (thing)""").fetchnumpy()
    came = connection.sql("SELECT n, t FROM came JOIN numbered USING (h) JOIN things USING (thing) ORDER BY ALL").fetchnumpy()
    everybody = connection.sql("SELECT count(DISTINCT h) FROM everybody").fetchall()[0][0]
    return Question(
        [h for (h,) in households],
        things["thing"].tolist(),
        things["takers"] / everybody,
        int((things["ever"] > 0).sum()),
        _pairs(baskets),
        {"days": baskets["days"], "baskets": baskets["baskets"].astype(float)},
        _pairs(came),
    )


def _pairs(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([columns["n"], columns["t"]], axis=1)


# The rules -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A rule and its half-life and weight.

    unit : what a household weighs popularity in: ``baskets``, the same for everybody, or ``shares`` of what it takes itself.
    """

    rule: str
    clock: str = "days"
    half_life: float = math.inf
    weight: float = 0.0
    unit: str = "baskets"

    def __str__(self) -> str:
        decay = "no decay" if math.isinf(self.half_life) else f"half-life {self.half_life:g} {self.clock}"
        return {"best decay": decay, "blended": f"{decay}, {self.weight:g} × popularity in {self.unit}"}.get(self.rule, "")

    def scores(self, question: Question) -> np.ndarray:
        """Of the question's candidates."""
        household, popularity = question.candidates[:, 0], question.takers[question.candidates[:, 1]]
        if self.rule == "popularity":
            return popularity
        own = question.own(self.clock, self.half_life)
        whole = np.bincount(household, own)[household] if self.unit == "shares" else 1.0
        return own + self.weight * whole * popularity if self.weight else own


def settings(half_lives: Mapping[str, Sequence[float]] = HALF_LIVES) -> list[Setting]:
    """All that are tried."""
    decays = [(clock, half_life) for clock in half_lives for half_life in half_lives[clock]]
    blends = [Setting("blended", *decay, weight, unit) for decay in decays for unit in WEIGHTS for weight in WEIGHTS[unit]]
    return [Setting("popularity"), Setting("own frequency"), *(Setting("best decay", *decay) for decay in decays), *blends]


@dataclass(frozen=True)
class Best:
    """What a rule reached on each household by one metric, and the setting that did."""

    setting: Setting
    values: np.ndarray

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.values))


def best(question: Question, tried: Iterable[Setting], part: str = "all") -> dict[tuple[str, str], Best]:
    """By (rule, metric), the setting that does best on this very question."""
    found: dict[tuple[str, str], Best] = {}
    lists = question.lists(question.candidates, part)
    for setting in tried:
        order = lists.order(setting.scores(question))
        for metric in METRICS:
            here, key = Best(setting, order.metric(metric)), (setting.rule, metric)
            if key not in found or here.mean > found[key].mean:
                found[key] = here
    return found
