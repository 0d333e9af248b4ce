"""How good a list is: recall, NDCG and hit rate of each customer's categories in the order of a score.

A *pair* is a customer and a category; a customer's *list* are its pairs from the highest score to the lowest. What is
*relevant* was taken after the cutoff. A relevant category that was no pair can't be found by any list and still
counts: as missed in recall, and in the ideal that NDCG is measured by.

Papers and libraries call three different numbers NDCG. They share the gain of a list, the discounted cumulative gain
of Järvelin and Kekäläinen (2002) in the form now usual, the sum of 1 / log2(place + 1) over its relevant places, and
differ in the ideal that it is divided by:

- `ndcg_at_k`: the best list of k places that the customer's relevant categories allow, min(k, relevant) of them;
- `ndcg_full_at_k`: k relevant places, whether or not the customer has as many relevant categories;
- `ndcg_all_at_k`: all relevant categories at the top, not cut at k.

A customer without anything relevant has no value: nan, left out of every mean. Equal scores keep the order of the
rows, which in this package is that of the categories: stable and the same on every run, though arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import Problem, SpecificationError
from persopredict.results import MODEL

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Numbers = NDArray[np.number[Any]]

CUTS = (1, 5, 10)
DEPTH = max(CUTS)


@dataclass(frozen=True, slots=True)
class RankingMetrics:
    """Means over the customers with anything relevant, each counting the same; nan without such a customer.

    Each at 1, 5 and 10 places: `recall`, the share of the relevant that the list found; `ndcg`, `ndcg_full` and
    `ndcg_all`, see the module; `hit_rate`, the share of customers with at least one relevant category in the list.
    """

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    ndcg_at_1: float
    ndcg_at_5: float
    ndcg_at_10: float
    ndcg_full_at_1: float
    ndcg_full_at_5: float
    ndcg_full_at_10: float
    ndcg_all_at_1: float
    ndcg_all_at_5: float
    ndcg_all_at_10: float
    hit_rate_at_1: float
    hit_rate_at_5: float
    hit_rate_at_10: float

    @classmethod
    def of(cls, by_customer: Mapping[str, Floats]) -> RankingMetrics:
        """The means of what `rank_customers` or `judge_lists` found, arrays of shape (customers,) by name.

        >>> by_customer = rank_customers([0, 0, 1], [0.9, 0.5, 0.8], [0, 1, 0], relevant=[1, 0])
        >>> metrics = RankingMetrics.of(by_customer)
        >>> metrics.hit_rate_at_1, metrics.recall_at_5, round(metrics.ndcg_at_5, 3)
        (0.0, 1.0, 0.631)
        """
        valued = {name: by_customer[name][~np.isnan(by_customer[name])] for name in NAMES}
        return cls(**{name: float(values.mean()) if len(values) else float("nan") for name, values in valued.items()})


NAMES: tuple[str, ...] = tuple(field.name for field in fields(RankingMetrics))


@dataclass(frozen=True, slots=True, eq=False)
class RankedFold:
    """What was predicted for the pairs of one test cutoff, and what came. Arrays of shape (n,) have one row per pair, in
    the order of the categories: equal scores keep it.

    Parameters
    ----------
    cutoff : aware datetime.
    customer_id : text, shape (customers,), each once.
    categories : text, each once.
    customer, category : int codes of each pair into these two, shape (n,), no pair twice.
    y : 1 where the customer took the category within the horizon, else 0, shape (n,).
    is_new : whether the customer had never taken it before the cutoff, bool, shape (n,).
    logit, probability : of the model trained before the cutoff, shape (n,); its lists are in the order of the probability, inside (0, 1).
    baselines : name to scores on any scale, the higher the earlier in the list, shape (n,).
    base_rate : probability by the category's past rate, shape (n,), inside (0, 1).
    relevant, relevant_new : how many categories each customer took, and how many of these were new to it, shape (customers,), those that
        are no pair included.
    train_rows, train_positives : pairs that the fold's model was trained on, and how many of them were taken.

    Raises `SpecificationError` listing everything that does not fit.
    """

    cutoff: datetime
    customer_id: NDArray[Any]
    categories: tuple[str, ...]
    customer: NDArray[np.integer]
    category: NDArray[np.integer]
    y: NDArray[np.integer]
    is_new: Bools
    logit: NDArray[np.floating]
    probability: NDArray[np.floating]
    baselines: Mapping[str, Numbers]
    base_rate: NDArray[np.floating]
    relevant: NDArray[np.integer]
    relevant_new: NDArray[np.integer]
    train_rows: int
    train_positives: int

    def __post_init__(self) -> None:
        where = f"fold {self.cutoff:%Y-%m-%d}"
        problems = []
        if self.cutoff.tzinfo is None:
            problems.append(Problem("naive_cutoff", "the cutoff has no time zone", source=where, remedy="use times.instant"))
        if MODEL in self.baselines:
            problems.append(Problem("baseline_name", f"a baseline is named {MODEL!r}", source=where, remedy="name it otherwise"))
        for name, values in {"probability": self.probability, "base_rate": self.base_rate}.items():
            if outside := int(np.sum(~((values > 0) & (values < 1)))):
                message = f"{name} has probabilities outside (0, 1)"
                problems.append(Problem("not_a_probability", message, count=outside, source=where, remedy="calibrate or clip them"))
        if self.is_new.dtype.kind != "b":
            message = f"is_new has the type {self.is_new.dtype}"
            problems.append(Problem("not_a_flag", message, source=where, remedy="give it as bool"))
        scores: dict[str, NDArray[Any]] = {"is_new": self.is_new, "logit": self.logit, "base_rate": self.base_rate, **self.scores()}
        problems += _list_problems(self.customer, self.y, self.relevant, scores, where)
        problems = problems or self._relevant_problems(where)
        problems += self._pair_problems(where)
        if problems:
            raise SpecificationError("the rankings of a fold can't be evaluated", problems)

    def scores(self) -> dict[str, Numbers]:
        """What lists are ordered by, by name: the model's probability first, then its baselines."""
        return {MODEL: self.probability, **self.baselines}

    def lists(self) -> dict[str, tuple[Bools | None, NDArray[np.integer]]]:
        """Of "all", "repeat" and "explore", which pairs the lists are made of (None: all) and how many are relevant per customer."""
        return {
            "all": (None, self.relevant),
            "repeat": (~self.is_new, self.relevant - self.relevant_new),
            "explore": (self.is_new, self.relevant_new),
        }

    def _relevant_problems(self, where: str) -> list[Problem]:
        """Whether what is relevant can be told apart into new and not."""
        shape, found = np.shape(self.relevant), np.shape(self.relevant_new)
        if shape != found or shape != np.shape(self.customer_id):
            message = f"customer_id has shape {np.shape(self.customer_id)}, relevant {shape}, relevant_new {found}"
            return [Problem("shapes_differ", message, source=where, remedy="give one value per customer, shape (customers,)")]
        taken = self.y.astype(bool)
        new, old = (np.bincount(self.customer[taken & chosen], minlength=shape[0]) for chosen in (self.is_new, ~self.is_new))
        short = (new > self.relevant_new) | (self.relevant_new > self.relevant) | (old > self.relevant - self.relevant_new)
        fewer = int(short.sum())
        if not fewer:
            return []
        message = "customers took more new pairs, or more of the others, than relevant and relevant_new say"
        remedy = "count every category taken in relevant, and those never taken before the cutoff in relevant_new"
        return [Problem("relevant_too_few", message, count=fewer, source=where, remedy=remedy)]

    def _pair_problems(self, where: str) -> list[Problem]:
        problems = []
        for name, texts in {"customer_id": [*self.customer_id], "categories": [*self.categories]}.items():
            if doubled := len(texts) - len({str(text) for text in texts}):
                problems.append(Problem("told_twice", f"{name} are not distinct", count=doubled, source=where, remedy="give each once"))
        codes = self.category
        if codes.shape != self.y.shape or codes.dtype.kind not in "iu" or not np.all((codes >= 0) & (codes < len(self.categories))):
            message = f"categories of the pairs must be int codes from 0 to {len(self.categories) - 1}, shape {self.y.shape}"
            problems.append(Problem("unknown_category", message, source=where, remedy="give one code into categories per pair"))
        elif codes.shape == self.customer.shape:
            pairs = self.customer.astype(np.int64) * len(self.categories) + codes
            if doubled := len(pairs) - len(np.unique(pairs)):
                problems.append(Problem("pair_twice", "pairs are there twice", count=doubled, source=where, remedy="give each pair once"))
        return problems


def rank_customers(customer: ArrayLike, score: ArrayLike, y: ArrayLike, *, relevant: ArrayLike) -> dict[str, Floats]:
    """Every ranking metric of every customer, arrays of shape (customers,) under the names of `RankingMetrics`.

    Parameters
    ----------
    customer : of each pair, int codes 0 to customers − 1, shape (n,).
    score : of each pair on any scale, the higher the earlier in the list, shape (n,).
    y : 1 where the category was taken, else 0, shape (n,).
    relevant : how many categories each customer took, shape (customers,), those that are no pair included.

    Raises `SpecificationError` listing everything that does not fit.

    >>> found = rank_customers([0, 0, 0], [0.2, 0.9, 0.5], [1, 0, 1], relevant=[3])
    >>> {name: round(float(found[name][0]), 3) for name in ("recall_at_10", "ndcg_at_10", "ndcg_full_at_10", "hit_rate_at_1")}
    {'recall_at_10': 0.667, 'ndcg_at_10': 0.531, 'ndcg_full_at_10': 0.249, 'hit_rate_at_1': 0.0}
    """
    codes, scores, taken, totals = np.asarray(customer), np.asarray(score, dtype=np.float64), np.asarray(y), np.asarray(relevant)
    problems = _list_problems(codes, taken, totals, {"score": scores})
    if problems:
        raise SpecificationError("these lists can't be judged", problems)
    codes, totals = codes.astype(np.intp), totals.astype(np.intp)  # An empty list has become an array of floats.
    return judge_lists(relevant_places(by_rank(codes, scores), codes, taken, len(totals)), totals)


def by_rank(customer: NDArray[np.integer], score: Numbers) -> Ints:
    """The rows customer by customer, each from its highest score to its lowest; equal scores in the order of the rows.

    Both of shape (n,), as is the answer: numbers of rows.

    >>> by_rank(np.array([1, 0, 1, 1]), np.array([0.5, 0.1, 0.5, 0.9])).tolist()
    [1, 3, 0, 2]
    """
    # Counts may be unsigned, and their negative isn't what it says.
    return np.lexsort((np.negative(score, dtype=np.float64), customer))


def relevant_places(
    order: Ints, customer: NDArray[np.integer], y: NDArray[np.integer], customers: int, among: Bools | None = None
) -> Bools:
    """Whether each of the first 10 places of each customer's list is relevant, shape (customers, 10).

    `order` : from `by_rank`, sorted once for any number of questions; `among` : the rows that the lists are made of,
    shape (n,), default all. Places beyond a customer's last pair are not relevant.

    >>> customer, y = np.array([0, 0, 1]), np.array([1, 0, 1])
    >>> order = by_rank(customer, np.array([0.2, 0.9, 0.5]))
    >>> relevant_places(order, customer, y, 2)[:, :3].tolist()
    [[False, True, False], [True, False, False]]
    """
    listed = order if among is None else order[among[order]]
    lengths = np.bincount(customer[listed], minlength=customers)
    place = np.arange(len(listed)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    top = np.flatnonzero(place < DEPTH)
    found = np.zeros((customers, DEPTH), dtype=bool)
    found[customer[listed[top]], place[top]] = y[listed[top]] > 0
    return found


def judge_lists(places: Bools, relevant: NDArray[np.integer]) -> dict[str, Floats]:
    """Every ranking metric of every customer, from its relevant places (customers, 10) and how many are relevant at all.

    Arrays of shape (customers,) under the names of `RankingMetrics`, nan where nothing is relevant.

    >>> judge_lists(np.eye(1, 10, dtype=bool), np.array([2]))["recall_at_1"].tolist()
    [0.5]
    """
    # ideal[m] is the gain of a list whose first m places are relevant.
    deepest = max(DEPTH, int(relevant.max(initial=0)))
    discounts = 1 / np.log2(np.arange(2, deepest + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    asked = relevant > 0
    found: dict[str, Floats] = {}
    for k in CUTS:
        hits = places[:, :k].sum(axis=1).astype(np.float64)
        gain = places[:, :k] @ discounts[:k]
        found[f"recall_at_{k}"] = _over(hits, relevant, asked)
        found[f"ndcg_at_{k}"] = _over(gain, ideal[np.minimum(relevant, k)], asked)
        found[f"ndcg_full_at_{k}"] = _over(gain, np.full(len(gain), ideal[k]), asked)
        found[f"ndcg_all_at_{k}"] = _over(gain, ideal[relevant], asked)
        found[f"hit_rate_at_{k}"] = _over(np.minimum(hits, 1.0), np.ones(len(hits)), asked)
    return found


def _list_problems(
    customer: NDArray[np.integer],
    y: NDArray[np.integer],
    relevant: NDArray[np.integer],
    scores: Mapping[str, NDArray[Any]],
    source: str = "",
) -> list[Problem]:
    """What keeps lists from being judged: codes (n,), y (n,), relevant (customers,) and scores (n,) by name, judged together."""
    problems = []
    for name, values in {"y": y, **scores}.items():
        if customer.ndim != 1 or values.shape != customer.shape:
            message = f"{name} has shape {values.shape}, the customers of the pairs have {customer.shape}"
            problems.append(Problem("shapes_differ", message, source=source, remedy="give one value per pair, shape (n,)"))
    for name, values in scores.items():
        if unscored := int(np.isnan(values).sum()):
            message = f"{name} is nan"
            problems.append(Problem("score_missing", message, count=unscored, source=source, remedy="leave out what was not scored"))
    if not np.isin(y, (0, 1)).all():
        problems.append(Problem("label_not_binary", "y must be 0 or 1", source=source, remedy="leave out unlabelled pairs"))
    if customer.size and not (customer.dtype.kind in "iu" and customer.min() >= 0 and customer.max() < relevant.size):
        message = f"customers of the pairs must be int codes from 0 to {relevant.size - 1}"
        problems.append(Problem("unknown_customer", message, source=source, remedy="give relevant one value per customer"))
    if relevant.ndim != 1 or (relevant.size and relevant.dtype.kind not in "iu"):
        message = f"relevant has shape {relevant.shape} and type {relevant.dtype}, it must be whole numbers (customers,)"
        problems.append(Problem("shapes_differ", message, source=source, remedy="count each customer's taken categories"))
    if not problems and (fewer := int((np.bincount(customer[y > 0].astype(np.intp), minlength=relevant.size) > relevant).sum())):
        message = "customers took more of their pairs than what is relevant to them"
        remedy = "count in relevant every category taken, pairs and others"
        problems.append(Problem("relevant_too_few", message, count=fewer, source=source, remedy=remedy))
    return problems


def _over(values: Floats, by: Numbers, asked: Bools) -> Floats:
    answer: Floats = np.divide(values, by, out=np.full(len(values), np.nan), where=asked)
    return answer
