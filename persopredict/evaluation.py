"""Grades from out-of-time predictions: the model beside its baselines at every test cutoff, and a rule that anyone can check.

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
from numpy.typing import NDArray

from persopredict.calibration import Choice
from persopredict.comparison import RESAMPLES, Against, Bootstrap, Paired, decide, paired_log_loss
from persopredict.curves import Curve, reliability
from persopredict.errors import Problem, SpecificationError, TooLittleDataError
from persopredict.metrics import Metrics, log_losses
from persopredict.resampled import METRICS, Drawn, drawn
from persopredict.results import MODEL, Evaluation, Grade, Result

__all__ = ["Evaluation", "FoldPredictions", "Paired", "Result", "decide", "evaluate", "paired_log_loss"]

Floats = NDArray[np.float64]

SKILL_FOR_A = 0.10
#: Kinds of models that are baselines themselves.
_BASELINE_OF = {"btyd": "bg_nbd", "rule": "best_rule"}


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
    share : of the customers that were asked, above 0; below 1 (default) those looked at were drawn by md5 of their ids.

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
    share: float = 1.0

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
    kind: str = "",
    kinds: Mapping[str, float] | None = None,
    suspected: Sequence[Problem] = (),
) -> Evaluation:
    """Evaluate out-of-time predictions against their baselines.

    The best baseline is the one of lowest log-loss over all test cutoffs. The grade is A where the whole 95% interval of the paired
    difference in log-loss is better than the best baseline and skill, 1 − log-loss / log-loss of that baseline, is at least 0.10; B where
    the whole interval is better and skill is less; C otherwise: not shown to be better. `grade_reason` says it with the numbers. Where a
    baseline itself is shipped ("btyd" is `bg_nbd`, "rule" is `best_rule`), because no richer model said more, it is held to the others.

    Parameters
    ----------
    folds
        one per test cutoff, in order of time, with at least one baseline in common; others are left out, and the reason of the grade
        names them.
    target
        its name, for the table.
    calibration
        how the shipped calibrator was chosen, shown below the table.
    seed
        of the bootstrap and of the simulated ECE.
    resamples
        of the bootstrap over customers, all rows of one customer drawn together (see `comparison.Bootstrap`).
    kind, kinds
        of the model that is shipped, and each candidate's pooled out-of-time log-loss, by which it was chosen.
    suspected
        what looks like leakage, to be shown with the grade.

    Raises `TooLittleDataError` without rows, `SpecificationError` if cutoffs are not in order or have no baseline in common.

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
    common = [name for name in folds[-1].baselines if all(name in fold.baselines for fold in folds)]
    tests = [_Test.of(fold, common) for fold in folds]
    together = _Test.together(tests)
    bootstrap = Bootstrap.of(np.concatenate([np.asarray(fold.customer_id, dtype=object) for fold in folds]), seed, resamples)
    draws = drawn(together.y, together.predictors, np.cumsum([len(test.y) for test in tests]).tolist(), bootstrap)
    curves = [test.curve(MODEL) for test in tests]
    measured = zip([*tests, together], draws, [*curves, Curve.together(curves)], strict=True)
    *results, pooled = (test.result(found, curve, seed) for test, found, curve in measured)
    rivals = {name: Curve.together([test.curve(name) for test in tests]) for name in common}
    pooled = replace(pooled, rivals={name: replace(curve, lower=(), upper=()) for name, curve in rivals.items()})
    itself = _BASELINE_OF.get(kind)
    best = min([name for name in common if name != itself] or common, key=lambda name: (pooled.baselines[name].log_loss, name))
    grade, reason = _grade(pooled, best, sorted({name for fold in folds for name in fold.baselines} - set(common)))
    reason += f" {itself} is what is shipped: no richer model said more." if itself in common and best != itself else ""
    return Evaluation(
        target=target,
        folds=tuple(results),
        pooled=pooled,
        best_baseline=best,
        skill=pooled.against[best].skill,
        skill_interval=pooled.against[best].skill_interval,
        difference=pooled.against[best].log_loss,
        grade=grade,
        grade_reason=reason,
        calibration=calibration,
        kind=kind,
        kinds=dict(kinds or {}),
        suspected=tuple(suspected),
        share=min(fold.share for fold in folds),
    )


def _grade(pooled: Result, best: str, left_out: Sequence[str]) -> tuple[Grade, str]:
    """The rule that `evaluate` states, and a sentence with the numbers it was decided by."""
    found = pooled.against[best]
    difference, skill, (lower, upper) = found.log_loss, found.skill, found.skill_interval
    besides = f" Left out, since not every cutoff has it: {', '.join(left_out)}." if left_out else ""
    if pooled.positives in (0, pooled.rows):
        return "C", f"All {pooled.rows:,} test rows have the same label: nothing can be shown.{besides}"
    if not math.isfinite(difference.interval[1]):
        return "C", f"Only {difference.customers} customers in the tests: nothing can be shown.{besides}"
    numbers = f"log-loss {pooled.model.log_loss:.4f} against {pooled.baselines[best].log_loss:.4f} of {best}, "
    numbers += f"skill {skill:z.1%} (95% interval {lower:z.1%} to {upper:z.1%})"
    if not found.ahead:
        shown = "the whole interval is worse" if difference.interval[0] > 0 else "the interval holds no difference"
        return "C", f"Not better than the best baseline: {numbers}: {shown}.{besides}"
    if skill >= SKILL_FOR_A:
        shown = f"the whole interval is better and skill is at least {SKILL_FOR_A:.0%}"
        return "A", f"Clearly better than the best baseline: {numbers}: {shown}.{besides}"
    return "B", f"Better than the best baseline: {numbers}: the whole interval is better, but skill is below {SKILL_FOR_A:.0%}.{besides}"


@dataclass(frozen=True, slots=True, eq=False)
class _Test:
    """Labels and predictions at one cutoff, or at all of them together."""

    cutoff: datetime | None
    y: Floats
    predictors: Mapping[str, Floats]
    train_rows: int
    train_positives: int

    @classmethod
    def of(cls, fold: FoldPredictions, baselines: Sequence[str]) -> _Test:
        predictors = {MODEL: fold.probability, **{name: fold.baselines[name] for name in baselines}}
        return cls(fold.cutoff, fold.y.astype(np.float64), predictors, fold.train_rows, fold.train_positives)

    @classmethod
    def together(cls, tests: Sequence[_Test]) -> _Test:
        predictors = {name: np.concatenate([test.predictors[name] for test in tests]) for name in tests[-1].predictors}
        return cls(None, np.concatenate([test.y for test in tests]), predictors, tests[-1].train_rows, tests[-1].train_positives)

    def curve(self, predictor: str) -> Curve:
        return Curve.of(self.y, self.predictors[predictor])

    def result(self, draws: Drawn, curve: Curve, seed: int) -> Result:
        """What was reached, with the intervals that the draws give."""
        measured = {name: Metrics.of(self.y, p, seed=seed) for name, p in self.predictors.items()}
        intervals = {
            name: {metric: draws.interval(getattr(metrics, metric), draws.metrics[name][metric]) for metric in METRICS}
            for name, metrics in measured.items()
        }
        model = measured.pop(MODEL)
        return Result(
            cutoff=self.cutoff,
            rows=len(self.y),
            positives=int(self.y.sum()),
            rate=float(self.y.mean()) if len(self.y) else float("nan"),
            train_rows=self.train_rows,
            train_positives=self.train_positives,
            model=model,
            baselines=measured,
            intervals=intervals,
            against={name: self._against(name, model, metrics, draws) for name, metrics in measured.items()},
            curve=curve.within([draws.interval(value, draws.precision[:, at]) for at, value in enumerate(curve.precision)]),
            reliability=reliability(self.y, self.predictors[MODEL]),
        )

    def _against(self, name: str, model: Metrics, baseline: Metrics, draws: Drawn) -> Against:
        """The model and a baseline on the same rows. Differences of rows are averaged: those of equal predictors are then exactly 0."""
        differences = log_losses(self.y, self.predictors[MODEL]) - log_losses(self.y, self.predictors[name])
        loss, gain = float(differences.mean()) if len(differences) else float("nan"), model.auc - baseline.auc
        drawn_loss, drawn_gain = draws.differences[name], draws.metrics[MODEL]["auc"] - draws.metrics[name]["auc"]
        skill = -loss / baseline.log_loss
        return Against(
            Paired(loss, draws.interval(loss, drawn_loss), len(self.y), draws.customers),
            Paired(gain, draws.interval(gain, drawn_gain), len(self.y), draws.customers),
            skill,
            draws.interval(skill, -drawn_loss / draws.metrics[name]["log_loss"]),
        )


def _check(folds: Sequence[FoldPredictions]) -> None:
    """Raise for everything that makes the folds incomparable."""
    if not sum(len(fold.y) for fold in folds):
        remedy = "extend the log, or shorten the horizon or the distance between cutoffs"
        raise TooLittleDataError("nothing to evaluate", [Problem("no_test_rows", "no test cutoff has rows", remedy=remedy)])
    problems = []
    if any(later.cutoff <= earlier.cutoff for earlier, later in pairwise(folds)):
        problems.append(Problem("cutoffs_not_in_order", "cutoffs must be distinct and in order of time", remedy="sort the folds"))
    names = [sorted(fold.baselines) for fold in folds]
    if not set.intersection(*map(set, names)):
        message = f"the folds have baselines {', '.join(map(str, names))}, none in common"
        problems.append(Problem("baselines_differ", message, remedy="give every fold the same baselines, at least one"))
    if problems:
        raise SpecificationError("the folds can't be evaluated together", problems)
