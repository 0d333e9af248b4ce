"""Grades of rankings from out-of-time predictions: each customer's categories in the order of the model, beside the
orders of its baselines, and the probabilities held to what came.

As in `evaluation`, every number is of customers at a cutoff that neither the model nor its calibrator had seen, and
the grade rests on paired differences under a bootstrap over customers. A customer counts once per cutoff, however many
categories it takes: a list is read by one person.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.calibration import Choice
from persopredict.comparison import NO_INTERVAL, RESAMPLES, Bootstrap, Interval, Paired
from persopredict.errors import Problem, SpecificationError, TooLittleDataError
from persopredict.metrics import Metrics, log_loss
from persopredict.ranking import NAMES, RankedFold, RankingMetrics, by_rank, judge_lists, relevant_places
from persopredict.ranking_results import (
    ENOUGH_TAKERS,
    HEADLINE,
    MOST_CATEGORIES,
    VARIANTS,
    Asked,
    Categories,
    Gain,
    Lists,
    RankedResult,
    RankingEvaluation,
)
from persopredict.results import MODEL, Grade, Result

__all__ = ["RankedFold", "RankingEvaluation", "paired_ndcg", "rank_evaluate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Reals = NDArray[np.floating]
Values = dict[str, dict[str, Floats]]  # Predictor to headline metric to a value per customer, nan where nothing is relevant.

GAIN_FOR_A = 0.03
COMPARED = ("recall_at_10", "ndcg_at_10", "explore_ndcg_at_10")


def rank_evaluate(
    folds: Sequence[RankedFold],
    *,
    target: str,
    calibration: Choice | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RankingEvaluation:
    """Evaluate out-of-time rankings against their baselines.

    Parameters
    ----------
    folds
        one per test cutoff, in order of time, all with the same baselines (at least one).
    target
        its name, for the table.
    calibration
        how the shipped calibrator was chosen, shown below the table.
    seed
        of the bootstrap and of the simulated ECE.
    resamples
        of the bootstrap over customers, all cutoffs of one customer drawn together (see `comparison.Bootstrap`).

    Raises `TooLittleDataError` without pairs, `SpecificationError` if cutoffs are not in order or baselines differ.

    >>> from datetime import UTC
    >>> rng = np.random.default_rng(0)
    >>> customer, category = np.repeat(np.arange(200), 20), np.tile(np.arange(20), 200)
    >>> truth = rng.uniform(0.05, 0.95, 4000)
    >>> y, popularity = (rng.random(4000) < truth).astype(np.int8), np.bincount(category, truth)[category]
    >>> relevant, new = np.bincount(customer, y).astype(int), np.zeros(200, dtype=int)
    >>> fold = RankedFold(
    ...     datetime(2017, 12, 3, tzinfo=UTC), np.arange(200).astype(str), tuple("abcdefghijklmnopqrst"), customer, category, y,
    ...     np.zeros(4000, dtype=bool), np.log(truth / (1 - truth)), truth, {"popularity": popularity}, np.full(4000, 0.5), relevant, new,
    ...     50_000, 25_000,
    ... )
    >>> evaluation = rank_evaluate([fold], target="affinity")
    >>> evaluation.grade, evaluation.best_baseline, round(evaluation.pooled.model.all.ndcg_at_10, 2)
    ('A', 'popularity', 0.8)
    """
    _check(folds)
    measured = [_measure(fold, seed) for fold in folds]
    results = tuple(result for result, _ in measured)
    pooled = _pooled(folds, results, seed)
    drawn = _drawn(folds, [values for _, values in measured], seed, resamples)
    reached = {name: lists.headline() for name, lists in pooled.predictors().items()}
    intervals = {
        name: {metric: drawn[metric].interval(value, drawn[metric].of_predictor(name, metric)) for metric, value in found.items()}
        for name, found in reached.items()
    }
    gains = {metric: _gain(metric, reached, drawn[metric]) for metric in COMPARED}
    best = gains["ndcg_at_10"].baseline
    grade, reason = _grade(reached[MODEL]["ndcg_at_10"], reached[best]["ndcg_at_10"], gains["ndcg_at_10"], drawn["ndcg_at_10"])
    return RankingEvaluation(
        target=target,
        folds=results,
        pooled=replace(pooled, intervals=intervals),
        best_baseline=best,
        gains=gains,
        grade=grade,
        grade_reason=reason,
        calibration=calibration,
    )


def paired_ndcg(ours: Sequence[RankedFold], theirs: Sequence[RankedFold], *, seed: int = 0, resamples: int = RESAMPLES) -> Paired:
    """Compare the lists of two models: the mean over customers of what each misses of NDCG@10, 1 − NDCG@10, ours minus theirs.

    Lower is better, as in `paired_log_loss`: below zero, ours are the better lists, and `comparison.decide` reads both alike. NDCG rather
    than the log-loss of the pairs, because that could only be taken over the pairs that both models considered, and what an affinity
    publishes is the top of each list.

    Compared are the customers of `ours` that `theirs` hold at the same cutoff, those with anything relevant; `rows` of the answer counts
    them once per cutoff. The interval is that of a bootstrap over customers. Without anyone to compare, the difference is nan.

    Raises `SpecificationError` if the two do not agree on how much is relevant to a customer: they were labelled from different logs.
    """
    others = {fold.cutoff: fold for fold in theirs}
    ids, differences = [np.zeros(0, dtype=object)], [np.zeros(0)]
    for fold in ours:
        if (other := others.get(fold.cutoff)) is None:
            continue
        _, here, there = np.intersect1d(fold.customer_id.astype(str), other.customer_id.astype(str), return_indices=True)
        if unlike := int((fold.relevant[here] != other.relevant[there]).sum()):
            message = f"at {fold.cutoff:%Y-%m-%d} the same customers took different numbers of categories"
            problem = Problem("labels_differ", message, count=unlike, remedy="label both from the same log")
            raise SpecificationError("these rankings can't be compared", [problem])
        difference = _ndcg(other)[there] - _ndcg(fold)[here]
        valued = ~np.isnan(difference)
        ids.append(np.asarray(fold.customer_id, dtype=object)[here][valued])
        differences.append(difference[valued])
    customer_id, found = np.concatenate(ids), np.concatenate(differences)
    if not len(found):
        return Paired(float("nan"), NO_INTERVAL, 0, 0)
    resampled = _Resampled.of(customer_id, {("theirs", "ndcg_at_10"): found}, seed, resamples)
    mean = float(found.mean())
    return Paired(mean, resampled.interval(mean, resampled.means["theirs", "ndcg_at_10"]), len(found), resampled.customers)


def _ndcg(fold: RankedFold) -> Floats:
    order = by_rank(fold.customer, fold.probability)
    return judge_lists(relevant_places(order, fold.customer, fold.y, len(fold.relevant)), fold.relevant)["ndcg_at_10"]


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Means over resampled customers, by predictor and metric, in the order of `Bootstrap.weights`.

    Those of a baseline are of the model's metric minus the baseline's.
    """

    bootstrap: Bootstrap
    means: Mapping[tuple[str, str], Floats]

    @classmethod
    def of(cls, customer_id: NDArray[Any], values: Mapping[tuple[str, str], Floats], seed: int, resamples: int) -> _Resampled:
        """`values` without nan, each of the shape of `customer_id`."""
        bootstrap = Bootstrap.of(customer_id, seed, resamples)
        if not bootstrap.customers:
            return cls(bootstrap, {key: np.full(resamples + 1, np.nan) for key in values})
        sums = bootstrap.sums([np.ones(len(customer_id)), *values.values()])
        drawn = np.concatenate([weights @ sums for _, weights in bootstrap.weights()])
        return cls(bootstrap, {key: drawn[:, 1 + place] / drawn[:, 0] for place, key in enumerate(values)})

    @property
    def customers(self) -> int:
        """How many have a value."""
        return self.bootstrap.customers

    def of_predictor(self, name: str, metric: str) -> Floats:
        """Means of a predictor's own metric."""
        ours = self.means[MODEL, metric]
        return ours if name == MODEL else ours - self.means[name, metric]

    def interval(self, estimate: float, draws: Floats) -> Interval:
        """As `Bootstrap.interval`, also where nobody has a value."""
        return self.bootstrap.interval(estimate, draws) if self.customers else NO_INTERVAL


def _drawn(folds: Sequence[RankedFold], values: Sequence[Values], seed: int, resamples: int) -> dict[str, _Resampled]:
    """Of each headline metric the means of all predictors under the same draws of the customers that have a value.

    Of baselines it is the differences that are averaged: between equal lists, those of a draw's means would not be exactly 0.
    """
    ids = np.concatenate([np.asarray(fold.customer_id, dtype=object) for fold in folds])
    drawn: dict[str, _Resampled] = {}
    for variant in VARIANTS:
        metrics = [metric for metric, of, _, _ in HEADLINE if of == variant]
        columns = {(name, metric): np.concatenate([found[name][metric] for found in values]) for name in values[0] for metric in metrics}
        valued = ~np.isnan(columns[MODEL, metrics[0]])
        for name, metric in columns.keys() - {(MODEL, metric) for metric in metrics}:
            columns[name, metric] = columns[MODEL, metric] - columns[name, metric]
        resampled = _Resampled.of(ids[valued], {key: column[valued] for key, column in columns.items()}, seed, resamples)
        drawn |= dict.fromkeys(metrics, resampled)
    return drawn


def _gain(metric: str, reached: Mapping[str, Mapping[str, float]], drawn: _Resampled) -> Gain:
    """The model against the baseline that is best in a metric, of what each predictor reached."""
    best = min((name for name in reached if name != MODEL), key=lambda name: (-reached[name][metric] if drawn.customers else 0.0, name))
    ours, theirs = reached[MODEL][metric], reached[best][metric]
    differences, others = drawn.means[best, metric], drawn.of_predictor(best, metric)
    ratios = np.divide(differences, others, out=np.full_like(others, np.nan), where=others > 0)
    relative = ours / theirs - 1 if theirs > 0 else float("nan")
    between = drawn.interval(relative, ratios) if theirs > 0 else NO_INTERVAL
    return Gain(best, ours - theirs, drawn.interval(ours - theirs, differences), relative, between)


def _grade(ours: float, theirs: float, gain: Gain, drawn: _Resampled) -> tuple[Grade, str]:
    """The stated rule, and a sentence with the numbers it was decided by."""
    if not drawn.customers:
        return "C", "Nobody took anything after a cutoff: nothing can be shown."
    lower, upper = gain.interval
    if not math.isfinite(lower):
        return "C", f"Only {drawn.customers} customers took anything after a cutoff: nothing can be shown."
    relative = f", {gain.relative:+z.1%}" if math.isfinite(gain.relative) else ""
    found = f"NDCG@10 {ours:.4f} against {theirs:.4f} of {gain.baseline}{relative} "
    found += f"(95% interval of the difference {lower:z.4f} to {upper:z.4f})"
    if lower <= 0:
        return "C", f"Not better than the baseline: {found}."
    if gain.difference >= GAIN_FOR_A * theirs:
        return "A", f"Clearly better than the best baseline: {found}."
    return "B", f"Better than the best baseline, by less than {GAIN_FOR_A:.0%}: {found}."


def _measure(fold: RankedFold, seed: int) -> tuple[RankedResult, Values]:
    """A cutoff's result, and the headline metrics of each customer."""
    lists, values = {}, {}
    for name, score in fold.scores().items():
        order, found = by_rank(fold.customer, score), {}
        for variant, (among, relevant) in fold.lists().items():
            found[variant] = judge_lists(relevant_places(order, fold.customer, fold.y, len(relevant), among), relevant)
        lists[name] = Lists(**{variant: RankingMetrics.of(by_customer) for variant, by_customer in found.items()})
        values[name] = {flat: found[variant][metric] for flat, variant, metric, _ in HEADLINE}
    takers = _takers(fold)
    gap, held = _calibration_gap(takers)
    result = RankedResult(
        pairs=_pairs(fold, fold.cutoff, fold.y, fold.probability, seed),
        base_rate_log_loss=log_loss(fold.y, fold.base_rate),
        asked={variant: _asked(fold.y, among, relevant) for variant, (among, relevant) in fold.lists().items()},
        model=lists.pop(MODEL),
        baselines=lists,
        calibration_gap=gap,
        calibration_categories=len(held),
        categories=_categories(fold.categories, takers),
    )
    return result, values


def _pooled(folds: Sequence[RankedFold], results: Sequence[RankedResult], seed: int) -> RankedResult:
    """All cutoffs together: means over all their customers, probabilities over all their pairs."""
    y, probability, base_rate = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability", "base_rate"))
    names, places = np.unique([name for fold in folds for name in fold.categories], return_inverse=True)
    takers = np.zeros((len(names), 4))
    np.add.at(takers, places, np.concatenate([_takers(fold) for fold in folds]))
    held = {fold.categories[place] for fold in folds for place in _calibration_gap(_takers(fold))[1]}
    gaps = [result.calibration_gap for result in results if result.calibration_categories]
    counts = {variant: [result.asked[variant] for result in results] for variant in VARIANTS}
    lists = {name: _mean([result.predictors()[name] for result in results], counts) for name in folds[0].scores()}
    return RankedResult(
        pairs=_pairs(folds[-1], None, y, probability, seed),
        base_rate_log_loss=log_loss(y, base_rate),
        asked={
            variant: Asked(*(sum(getattr(one, field.name) for one in found) for field in fields(Asked)))
            for variant, found in counts.items()
        },
        model=lists.pop(MODEL),
        baselines=lists,
        calibration_gap=float(np.mean(gaps)) if gaps else float("nan"),
        calibration_categories=len(held),
        categories=_categories(names.tolist(), takers, MOST_CATEGORIES),
    )


def _mean(found: Sequence[Lists], counts: Mapping[str, Sequence[Asked]]) -> Lists:
    """Means over the customers of all cutoffs, of their means at each."""
    means = {}
    for variant, asked in counts.items():
        held = [(getattr(lists, variant), one.customers) for lists, one in zip(found, asked, strict=True) if one.customers]
        total = sum(customers for _, customers in held)
        sums = {name: sum(getattr(metrics, name) * customers for metrics, customers in held) for name in NAMES}
        means[variant] = RankingMetrics(**{name: value / total if total else float("nan") for name, value in sums.items()})
    return Lists(**means)


def _asked(y: NDArray[np.integer], among: NDArray[np.bool_] | None, relevant: NDArray[np.integer]) -> Asked:
    customers = int((relevant > 0).sum())
    return Asked(customers, len(relevant) - customers, int(relevant.sum()), int((y if among is None else y[among]).sum()))


def _pairs(fold: RankedFold, cutoff: datetime | None, y: NDArray[np.integer], p: Reals, seed: int) -> Result:
    rows, positives = len(y), int(y.sum())
    rate = positives / rows if rows else float("nan")
    return Result(cutoff, rows, positives, rate, fold.train_rows, fold.train_positives, Metrics.of(y, p, seed=seed), {})


def _takers(fold: RankedFold) -> Floats:
    """Of each category: customers asked, takers expected, actual takers, and the variance of these if every probability is right."""
    p = fold.probability.astype(np.float64)
    weights = (np.ones(len(p)), p, fold.y, p * (1 - p))
    return np.stack([np.bincount(fold.category, weight, len(fold.categories)) for weight in weights], axis=1)


def _calibration_gap(takers: Floats) -> tuple[float, Ints]:
    """Mean of |expected − actual| / actual over the categories with enough takers, and which they are."""
    held = np.flatnonzero(takers[:, 2] >= ENOUGH_TAKERS)
    gaps = np.abs(takers[held, 1] - takers[held, 2]) / takers[held, 2]
    return float(gaps.mean()) if len(held) else float("nan"), held


def _categories(names: Sequence[str], takers: Floats, most: int | None = None) -> Categories:
    """The categories that anybody was asked about, those most taken first."""
    texts = np.asarray(names, dtype=object)
    order = [place for place in np.lexsort((texts, -takers[:, 1], -takers[:, 2])) if takers[place, 0] > 0][:most]
    asked, expected, actual, variance = takers[order].T
    return Categories(
        category=tuple(str(name) for name in texts[order]),
        asked=tuple(asked.astype(int).tolist()),
        expected=tuple(expected.tolist()),
        actual=tuple(actual.astype(int).tolist()),
        by_chance=tuple((1.96 * np.sqrt(variance)).tolist()),
    )


def _check(folds: Sequence[RankedFold]) -> None:
    """Raise for everything that makes the folds incomparable."""
    if not any(len(fold.y) for fold in folds):
        remedy = "extend the log, or shorten the horizon or the distance between cutoffs"
        raise TooLittleDataError("nothing to evaluate", [Problem("no_test_rows", "no test cutoff has pairs", remedy=remedy)])
    problems = []
    if any(later.cutoff <= earlier.cutoff for earlier, later in pairwise(folds)):
        problems.append(Problem("cutoffs_not_in_order", "cutoffs must be distinct and in order of time", remedy="sort the folds"))
    names = {tuple(sorted(fold.baselines)) for fold in folds}
    if len(names) > 1 or () in names:
        message = f"the folds have baselines {'; '.join(', '.join(found) or 'none' for found in sorted(names))}"
        problems.append(Problem("baselines_differ", message, remedy="give every fold the same baselines, at least one"))
    if problems:
        raise SpecificationError("the folds can't be evaluated together", problems)
