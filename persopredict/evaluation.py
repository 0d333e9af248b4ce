"""Grades from out-of-time predictions: the model beside its baselines at every test cutoff, and a rule that anyone
can check.

Every number is computed on customers at a cutoff that neither the model nor its calibrator had seen (law 5).
Intervals come from a bootstrap over customers; the grade and every promotion rest on paired differences, because two
predictors judged on the same customers share most of their luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.calibration import Choice
from persopredict.comparison import RESAMPLES, Bootstrap, Interval, Paired, decide, paired_log_loss
from persopredict.errors import Problem, SpecificationError, TooLittleDataError
from persopredict.metrics import Metrics, Ranking, log_losses
from persopredict.results import MODEL, Evaluation, Grade, Result

__all__ = ["Evaluation", "FoldPredictions", "Paired", "Result", "decide", "evaluate", "paired_log_loss"]

Floats = NDArray[np.float64]

SKILL_FOR_A = 0.10
WITH_INTERVALS = ("auc", "average_precision", "log_loss", "brier", "brier_skill", "lift_top_decile")


@dataclass(frozen=True, slots=True, eq=False)
class FoldPredictions:
    """What was predicted for one test cutoff, and what came; all arrays of shape (n,), one row per customer.

    Parameters
    ----------
    cutoff : aware datetime.
    customer_id : text; only used to draw whole customers.
    y : label 0 or 1.
    logit : raw score of the model trained before the cutoff.
    probability : that score calibrated by what was known at the cutoff, inside (0, 1).
    baselines : name to probability of each baseline, inside (0, 1).
    train_rows, train_positives : what the fold's model was trained on.

    Raises `SpecificationError` listing everything that does not fit.
    """

    cutoff: datetime
    customer_id: NDArray[Any]
    y: NDArray[np.int8]
    logit: Floats
    probability: Floats
    baselines: Mapping[str, Floats]
    train_rows: int
    train_positives: int

    def __post_init__(self) -> None:
        problems = []
        where = f"fold {self.cutoff:%Y-%m-%d}"
        if self.cutoff.tzinfo is None:
            problems.append(Problem("naive_cutoff", "the cutoff has no time zone", source=where, remedy="use times.instant"))
        if not np.isin(self.y, (0, 1)).all():
            problems.append(Problem("label_not_binary", "labels must be 0 or 1", source=where, remedy="leave out unlabelled rows"))
        if MODEL in self.baselines:
            problems.append(Problem("baseline_name", f"a baseline is named {MODEL!r}", source=where, remedy="name it otherwise"))
        arrays = {"customer_id": self.customer_id, "logit": self.logit, **self.predictors()}
        for name, values in arrays.items():
            if np.shape(values) != np.shape(self.y):
                message = f"{name} has shape {np.shape(values)}, the labels have {np.shape(self.y)}"
                problems.append(Problem("shapes_differ", message, source=where, remedy="give one value per label"))
        for name, values in self.predictors().items():
            outside = int(np.sum(~((np.asarray(values) > 0) & (np.asarray(values) < 1))))
            if outside:
                message = f"{name} has probabilities outside (0, 1)"
                problems.append(Problem("not_a_probability", message, count=outside, source=where, remedy="calibrate or clip them"))
        if problems:
            raise SpecificationError("the predictions of a fold can't be evaluated", problems)

    def predictors(self) -> dict[str, Floats]:
        """Probabilities by name: the model first, then its baselines."""
        return {MODEL: self.probability, **self.baselines}


def evaluate(
    folds: Sequence[FoldPredictions],
    *,
    target: str,
    calibration: Choice | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Evaluate out-of-time predictions against their baselines.

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
        of the bootstrap over customers, all rows of one customer drawn together (see `comparison.Bootstrap`).

    Raises `TooLittleDataError` without rows, `SpecificationError` if cutoffs are not in order or baselines differ.

    >>> from datetime import UTC
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.uniform(0.05, 0.95, 500)
    >>> y, ids, logit = (rng.random(500) < truth).astype(np.int8), np.arange(500).astype(str), np.log(truth / (1 - truth))
    >>> baselines = {"base_rate": np.full(500, 0.5)}
    >>> fold = FoldPredictions(datetime(2017, 12, 3, tzinfo=UTC), ids, y, logit, truth, baselines, 1000, 500)
    >>> evaluation = evaluate([fold], target="churn")
    >>> evaluation.grade, evaluation.best_baseline, round(evaluation.pooled.model.auc, 2)
    ('A', 'base_rate', 0.81)
    """
    _check(folds)
    y = np.concatenate([fold.y for fold in folds]).astype(np.float64)
    predictors = {name: np.concatenate([fold.predictors()[name] for fold in folds]) for name in folds[0].predictors()}
    customer_id = np.concatenate([np.asarray(fold.customer_id, dtype=object) for fold in folds])
    last = folds[-1]
    results = tuple(_measure(fold, fold.cutoff, fold.y, fold.predictors(), seed) for fold in folds)
    bootstrap = Bootstrap.of(customer_id, seed, resamples)
    draws = _draws(y, predictors, bootstrap)
    pooled = _measure(last, None, y, predictors, seed)
    intervals = {
        name: {metric: bootstrap.interval(getattr(metrics, metric), draws[name][metric]) for metric in WITH_INTERVALS}
        for name, metrics in pooled.predictors().items()
    }
    best = min(last.baselines, key=lambda name: (pooled.baselines[name].log_loss, name))
    skill = 1 - pooled.model.log_loss / pooled.baselines[best].log_loss
    difference, skills = _compared(y, predictors[MODEL], predictors[best], bootstrap)
    skill_interval = bootstrap.interval(skill, skills)
    grade, reason = _grade(pooled, best, skill, skill_interval, difference)
    return Evaluation(
        target=target,
        folds=results,
        pooled=replace(pooled, intervals=intervals),
        best_baseline=best,
        skill=skill,
        skill_interval=skill_interval,
        difference=difference,
        grade=grade,
        grade_reason=reason,
        calibration=calibration,
    )


def _grade(pooled: Result, best: str, skill: float, between: Interval, difference: Paired) -> tuple[Grade, str]:
    """The stated rule, and a sentence with the numbers it was decided by."""
    if pooled.positives in (0, pooled.rows):
        return "C", f"All {pooled.rows:,} test rows have the same label: nothing can be shown."
    if not math.isfinite(difference.interval[1]):
        return "C", f"Only {difference.customers} customers in the tests: nothing can be shown."
    ours, theirs = pooled.model.log_loss, pooled.baselines[best].log_loss
    lower, upper = between
    found = f"log-loss {ours:.4f} against {theirs:.4f} of {best}, "
    found += f"skill {skill:.1%} (95% interval {lower:.1%} to {upper:.1%})"
    if difference.interval[1] >= 0:
        return "C", f"Not better than the baseline: {found}."
    if skill >= SKILL_FOR_A:
        return "A", f"Clearly better than the best baseline: {found}."
    return "B", f"Better than the best baseline, by less than {SKILL_FOR_A:.0%}: {found}."


def _measure(fold: FoldPredictions, cutoff: datetime | None, y: ArrayLike, predictors: Mapping[str, Floats], seed: int) -> Result:
    labels = np.asarray(y, dtype=np.float64)
    measured = {name: Metrics.of(labels, p, seed=seed) for name, p in predictors.items()}
    return Result(
        cutoff=cutoff,
        rows=len(labels),
        positives=int(labels.sum()),
        rate=float(labels.mean()) if len(labels) else float("nan"),
        train_rows=fold.train_rows,
        train_positives=fold.train_positives,
        model=measured.pop(MODEL),
        baselines=measured,
    )


def _draws(y: Floats, predictors: Mapping[str, Floats], bootstrap: Bootstrap) -> dict[str, dict[str, Floats]]:
    """Draws of every metric that has an interval, all predictors under the same resampled customers.

    Means need only the sums of each customer; rankings need the rows.
    """
    losses = [f(y, p) for p in predictors.values() for f in (log_losses, _squares)]
    sums = bootstrap.sums([np.ones(len(y)), y, *losses])
    rankings = [Ranking(y[bootstrap.rows], p[bootstrap.rows]) for p in predictors.values()]
    customers = [bootstrap.codes[ranking.order] for ranking in rankings]
    means = np.empty((bootstrap.resamples + 1, sums.shape[1]))
    ranks = np.empty((len(rankings), 3, bootstrap.resamples + 1))
    for block, weights in bootstrap.weights():
        means[block] = weights @ sums
        for place, ranking in enumerate(rankings):
            ranks[place, :, block] = ranking.scores(np.take(weights, customers[place], axis=1))
    rows, rate = means[:, 0], means[:, 1] / means[:, 0]
    draws = {}
    for place, name in enumerate(predictors):
        loss, brier = means[:, 2 + 2 * place] / rows, means[:, 3 + 2 * place] / rows
        skill = 1 - np.divide(brier, rate * (1 - rate), out=np.full_like(brier, np.nan), where=(rate > 0) & (rate < 1))
        auc, precision, lift = ranks[place]
        draws[name] = dict(zip(WITH_INTERVALS, (auc, precision, loss, brier, skill, lift), strict=True))
    return draws


def _compared(y: Floats, ours: Floats, theirs: Floats, bootstrap: Bootstrap) -> tuple[Paired, Floats]:
    """The paired log-loss of the model and a baseline, and draws of the skill.

    Differences of rows are averaged: between equal predictors, those of a draw's means would not be exactly 0.
    """
    against = log_losses(y, theirs)
    differences = log_losses(y, ours) - against
    drawn, other = bootstrap.means([differences, against]).T
    difference = float(differences.mean())
    return Paired(difference, bootstrap.interval(difference, drawn), len(y), bootstrap.customers), -drawn / other


def _squares(y: Floats, p: Floats) -> Floats:
    return (p - y) ** 2


def _check(folds: Sequence[FoldPredictions]) -> None:
    """Raise for everything that makes the folds incomparable."""
    if not sum(len(fold.y) for fold in folds):
        remedy = "extend the log, or shorten the horizon or the distance between cutoffs"
        raise TooLittleDataError("nothing to evaluate", [Problem("no_test_rows", "no test cutoff has rows", remedy=remedy)])
    problems = []
    if any(later.cutoff <= earlier.cutoff for earlier, later in pairwise(folds)):
        problems.append(Problem("cutoffs_not_in_order", "cutoffs must be distinct and in order of time", remedy="sort the folds"))
    names = [sorted(fold.baselines) for fold in folds]
    if not names[0] or any(other != names[0] for other in names):
        message = f"the folds have baselines {', '.join(map(str, names))}"
        problems.append(Problem("baselines_differ", message, remedy="give every fold the same baselines, at least one"))
    if problems:
        raise SpecificationError("the folds can't be evaluated together", problems)
