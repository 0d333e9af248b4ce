"""One target, judged at one or more cutoffs by models that knew nothing later: figures with intervals, and differences with theirs.

Intervals are 95%, of a bootstrap over customers: whoever is asked at several cutoffs is drawn with all of them. AUC is the mean over the
cutoffs, log-loss that of all rows together. What two predictors differ by is compared in the same draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from persopredict import metrics
from persopredict.calibration import sigmoid
from persopredict.comparison import Bootstrap
from persopredict.evaluation import FoldPredictions
from persopredict.events import EventLog
from persopredict.predictor import Predictor
from persopredict.resampled import Drawn, drawn
from persopredict.targets import Target

Floats = NDArray[np.float64]
TRUTH = "truth"


@dataclass(frozen=True)
class Judged:
    """One target at one cutoff, by a model that knew nothing later.

    `fold`: what was said there, and what came; `folds`: the out-of-time predictions of the fit, before. `kind` of the model and of its
    `calibration`, its `grade`, the `seconds` of the fit. `truth`: P(label | what was observed) of each row of `fold`, if it is known.
    """

    target: str
    cutoff: datetime
    fold: FoldPredictions
    folds: tuple[FoldPredictions, ...]
    kind: str
    calibration: str
    grade: str
    seconds: float
    truth: Floats | None = None

    @classmethod
    def of(cls, events: EventLog, target: Target, cutoff: datetime, truth: Callable[[NDArray], Floats] | None = None) -> Judged:
        """Fit the default predictor on what was known at the cutoff, and predict there; `truth` of customers by their ids."""
        began = time.perf_counter()
        fitted = Predictor(target).fit(events, cutoff)
        seconds = time.perf_counter() - began
        (fold,) = fitted.test(events, [cutoff])
        return cls(
            target=target.name,
            cutoff=cutoff,
            fold=fold,
            folds=tuple(fitted.folds_),
            kind=fitted.scorer_.kind,
            calibration=fitted.calibrator_.kind,
            grade=fitted.evaluation_.grade,
            seconds=seconds,
            truth=None if truth is None else truth(fold.customer_id.astype(str)),
        )

    @property
    def predictors(self) -> dict[str, Floats]:
        """Probabilities by name: the model, its baselines, and the truth where it is known."""
        return {**self.fold.predictors(), **({} if self.truth is None else {TRUTH: self.truth})}


@dataclass(frozen=True)
class Figure:
    """A figure and its 95% interval."""

    value: float
    interval: tuple[float, float]

    def __format__(self, form: str) -> str:
        lower, upper = (format(each, form) for each in self.interval)
        return f"{self.value:{form}} ({lower} to {upper})"


class Pooled:
    """Several cutoffs of one target, with the same baselines."""

    def __init__(self, judged: Sequence[Judged]) -> None:
        self.judged = sorted(judged, key=lambda one: one.cutoff)
        self.names = tuple(self.judged[0].predictors)
        self.baselines = tuple(self.judged[0].fold.baselines)
        self.y = np.concatenate([one.fold.y for one in self.judged]).astype(np.float64)
        self.p = {name: np.concatenate([one.predictors[name] for one in self.judged]) for name in self.names}

    @property
    def target(self) -> str:
        """Its name."""
        return self.judged[0].target

    @property
    def model(self) -> str:
        """The model's name among the predictors."""
        return self.names[0]

    def auc(self, name: str) -> Figure:
        """Mean over the cutoffs."""
        return self._figure(self._auc(name), self._auc_draws(name))

    def auc_above(self, other: str) -> Figure:
        """The model's AUC minus that of another predictor; positive: the model is better."""
        return self._figure(self._auc(self.model) - self._auc(other), self._auc_draws(self.model) - self._auc_draws(other))

    def loss_above(self, other: str) -> Figure:
        """The model's log-loss minus that of another predictor; negative: the model is better."""
        difference = metrics.log_loss(self.y, self.p[self.model]) - metrics.log_loss(self.y, self.p[other])
        return self._figure(difference, self._drawn[-1].differences[other])

    def ece(self) -> tuple[float, float]:
        """ECE of all cutoffs together over ten equal-mass bins, and the 95th percentile that chance gives a perfect model."""
        return metrics.ece(self.y, self.p[self.model]), metrics.ece_chance(self.p[self.model])

    def error(self) -> Figure:
        """Mean absolute error of the probabilities, in base rates; only where the truth is known."""
        errors = np.abs(self.p[self.model] - self.p[TRUTH])
        means = self._bootstrap.means([errors, self.y])
        return self._figure(float(errors.mean() / self.y.mean()), means[:, 0] / means[:, 1])

    def harm(self) -> Figure:
        """By how much of itself the calibration raised the log-loss of the cutoffs; negative: it lowered it."""
        return harm([one.fold for one in self.judged])

    def harm_in_folds(self) -> Figure:
        """The same of the out-of-time predictions of the fits, each calibrated by what the tests before it had taught: the worst fit's."""
        return max((harm(one.folds) for one in self.judged), key=lambda figure: figure.value)

    def _auc(self, name: str) -> float:
        return float(np.mean([metrics.auc(one.fold.y, one.predictors[name]) for one in self.judged]))

    def _auc_draws(self, name: str) -> Floats:
        return np.mean([each.metrics[name]["auc"] for each in self._drawn[:-1]], axis=0)

    def _figure(self, value: float, draws: Floats) -> Figure:
        return Figure(value, self._bootstrap.interval(value, draws))

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap.of(np.concatenate([one.fold.customer_id for one in self.judged]))

    @cached_property
    def _drawn(self) -> list[Drawn]:
        return drawn(self.y, self.p, np.cumsum([len(one.fold.y) for one in self.judged]).tolist(), self._bootstrap)


def harm(folds: Sequence[FoldPredictions]) -> Figure:
    """By how much of itself the calibration raised the log-loss of these predictions."""
    y, p, logit, ids = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability", "logit", "customer_id"))
    before = metrics.log_losses(y, sigmoid(logit))
    more = metrics.log_losses(y, p) - before
    bootstrap = Bootstrap.of(ids)
    means = bootstrap.means([more, before])
    value = float(more.mean() / before.mean())
    return Figure(value, bootstrap.interval(value, means[:, 0] / means[:, 1]))
