"""Calibration on logits, chosen and fitted on out-of-time predictions only (law 5).

A calibrator is a value of two numbers, because it must be the same in Python, in the stored model and in a query.
Temperature scaling (Guo et al. 2017) corrects confidence; Platt scaling (Platt 1999) also moves the level. Nothing
more flexible is offered: isotonic steps merge customers into ties and overfit the few positives that a customer log
has.

`choose` tests each kind as it would be used: fitted on earlier cutoffs, judged on a later one. A level learned in one
month and wrong in the next (base rates drift with campaigns and seasons) shows up there, while a fit on all months at
once would hide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.metrics import log_losses

Floats = NDArray[np.float64]
Kind = Literal["none", "temperature", "platt"]
Fold = tuple[ArrayLike, ArrayLike]
Usable = Callable[[int], Sequence[int]]

KINDS: tuple[Kind, ...] = get_args(Kind)
# No customer is certain: expected values and log-loss stay finite, and no log shows more than one in a million.
CLIP = 1e-6
# Estimators that answer exactly 0 or 1 have infinite logits.
LOGIT_CLIP = 30.0
# A calibrator never turns the order of customers round: reasons and percentiles would contradict it.
SLOPE_RANGE = (0.01, 100.0)
# Of the prior around "none": slope 1 ± 1, intercept 0 ± 3.
_SLOPE_PRECISION, _INTERCEPT_PRECISION = 1.0, 1.0 / 9.0


@dataclass(frozen=True, slots=True)
class Calibrator:
    """probability = sigmoid(slope · logit + intercept), kept within [1e-6, 1 − 1e-6].

    Parameters
    ----------
    kind : ``"none"`` (slope 1, intercept 0), ``"temperature"`` (intercept 0; the temperature is 1 / slope) or
        ``"platt"``.
    slope : positive, so that the order of customers stays.
    intercept : in logits.

    Raises `SpecificationError` for an unknown kind or impossible parameters.

    >>> Calibrator("temperature", slope=0.5).apply([-2.0, 0.0, 1000.0]).round(3).tolist()
    [0.269, 0.5, 1.0]
    >>> Calibrator("isotonic")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no calibration 'isotonic'; there are: 'none', 'temperature', 'platt'
    """

    kind: Kind = "none"
    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        _known(self.kind)
        if not (math.isfinite(self.slope) and self.slope > 0 and math.isfinite(self.intercept)):
            raise SpecificationError(f"slope {self.slope} and intercept {self.intercept}: the slope must be positive, both finite")
        moved = self.intercept != 0 if self.kind == "temperature" else (self.slope, self.intercept) != (1.0, 0.0)
        if moved and self.kind != "platt":
            raise SpecificationError(f"calibration {self.kind!r} can't have slope {self.slope} and intercept {self.intercept}")

    def apply(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities, same shape; raises `SpecificationError` for nan, which is no prediction."""
        return np.clip(sigmoid(self.slope * _finite(logits) + self.intercept), CLIP, 1 - CLIP)

    @classmethod
    def fit(cls, kind: Kind, logits: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Calibrator:
        """Fit by penalised maximum likelihood (Newton's method).

        Parameters
        ----------
        kind
            what to fit; ``"none"`` needs no data.
        logits, y
            out-of-time predictions and their labels 0 or 1, shape (n,).
        weight
            of each row, shape (n,), not negative; default 1.

        A Gaussian prior around "none" (slope 1 ± 1, intercept 0 ± 3) keeps it finite where few positives or separable
        data would drive it to infinity, as Platt's smoothed targets do, but without pulling a well-supported level
        towards one half. With labels of one class, or without rows, there is nothing to fit: the answer is "none".

        >>> logits = np.array([-4.0, -2.0, 2.0, 4.0] * 500)
        >>> y = np.array([0, 0, 1, 1] * 400 + [1, 0, 1, 0] * 100)  # One in five of the surest is wrong.
        >>> round(Calibrator.fit("temperature", logits, y).slope, 2)
        0.6
        """
        _known(kind)
        x, labels = _finite(logits), np.asarray(y, dtype=np.float64)
        rows = np.ones_like(x) if weight is None else np.asarray(weight, dtype=np.float64)
        _check_shapes(x, labels, rows)
        positives, total = float(rows @ labels), float(rows.sum())
        if kind == "none" or not 0 < positives < total:
            return cls()
        slope, intercept = _maximum(x, labels, rows, free=(True, kind == "platt"))
        if not SLOPE_RANGE[0] <= slope <= SLOPE_RANGE[1]:
            # The objective is convex, so the best slope allowed lies on the border; only the level remains to be found.
            slope = min(max(slope, SLOPE_RANGE[0]), SLOPE_RANGE[1])
            intercept = _maximum(slope * x, labels, rows, free=(False, True))[1] if kind == "platt" else 0.0
        return cls(kind, slope, intercept)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: kind, slope, intercept."""
        return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibrator:
        """The inverse of `to_dict`; raises `SpecificationError` for a missing key or impossible values."""
        missing = [key for key in ("kind", "slope", "intercept") if key not in values]
        if missing:
            raise SpecificationError(f"the calibrator lacks {', '.join(missing)}; it must hold kind, slope and intercept")
        return cls(values["kind"], float(values["slope"]), float(values["intercept"]))


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen calibrator and what it was chosen by.

    `losses`: pooled out-of-time log-loss per kind in nats per row, empty if no fold had earlier folds to fit on;
    `rows` and `folds`: how much it was tested on; `reason`: one sentence.
    """

    calibrator: Calibrator = field(default_factory=Calibrator)
    losses: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    folds: int = 0
    reason: str = "no earlier cutoff to learn a calibration from"

    @property
    def kind(self) -> Kind:
        """The kind of the calibrator."""
        return self.calibrator.kind

    def __str__(self) -> str:
        """The reason, and the log-loss of each kind."""
        table = ", ".join(f"{kind} {loss:.5f}" for kind, loss in self.losses.items())
        return f"calibration {self.kind}: {self.reason}" + (f" (log-loss {table})" if table else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: calibrator, losses, rows, folds, reason."""
        losses = {kind: float(loss) for kind, loss in self.losses.items()}
        return {
            "calibrator": self.calibrator.to_dict(),
            "losses": losses,
            "rows": self.rows,
            "folds": self.folds,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Choice:
        """The inverse of `to_dict`."""
        calibrator = Calibrator.from_dict(values["calibrator"])
        return cls(calibrator, dict(values["losses"]), int(values["rows"]), int(values["folds"]), str(values["reason"]))


def choose(folds: Sequence[Fold], kinds: Sequence[Kind] = KINDS, usable: Usable | None = None) -> Choice:
    """Choose the kind of calibration by looking forward, then fit it on all folds.

    Parameters
    ----------
    folds
        (logits, y) of each test cutoff, in order of time; every prediction made by a model trained before its cutoff.
    kinds
        the candidates, simplest first. A single kind is fitted without a test.
    usable
        for fold j the earlier folds whose labels had ended by j's cutoff (cutoffs may lie closer than the horizon).
        Default: all earlier ones. Only these are used to fit the candidates that fold j judges.

    A candidate replaces the best one before it only if its pooled log-loss on later folds is lower by more than one
    standard error of the paired difference (the one-standard-error rule, Breiman et al. 1984). Where "none" is nearly
    right, the candidates differ from it by less than noise, and staying with the simpler one costs nothing. The
    standard error is the larger of that between rows and that between folds: a level that helps in one month and
    harms in the next has a large one between folds, however many rows each month has.

    Raises `SpecificationError` if there is no candidate or `usable` names a fold that is not earlier.

    >>> rng = np.random.default_rng(0)
    >>> truth = [rng.normal(-1, 1.5, 4000) for _ in range(3)]
    >>> folds = [(3 * logit, rng.random(4000) < sigmoid(logit)) for logit in truth]
    >>> choice = choose(folds)
    >>> choice.kind, round(choice.calibrator.slope, 1)
    ('temperature', 0.3)
    """
    candidates = [_known(kind) for kind in dict.fromkeys(kinds)]
    if not candidates:
        raise SpecificationError("no kind of calibration to choose from; give at least one of: 'none', 'temperature', 'platt'")
    tested = _forward_losses(folds, candidates, usable)
    best = candidates[0]
    for kind in candidates[1:]:
        if tested[kind] and _clearly_lower(tested[best], tested[kind]):
            best = kind
    losses = {str(kind): float(np.concatenate(rows).mean()) for kind, rows in tested.items() if rows}
    return Choice(
        calibrator=_fit(best, folds, range(len(folds))),
        losses=losses,
        rows=sum(len(rows) for rows in tested[best]),
        folds=len(tested[best]),
        reason=_reason(best, candidates, losses),
    )


def choose_forward(folds: Sequence[Fold], kinds: Sequence[Kind] = KINDS, usable: Usable | None = None) -> tuple[Choice, ...]:
    """For each fold the choice that could have been made at its cutoff: from its usable earlier folds alone.

    These calibrators make the out-of-time probabilities that an evaluation judges; `choose` on all folds makes the
    one that is shipped. Parameters and errors as in `choose`. A fold without usable folds gets "none".

    >>> logits, y = [-1.0, 0.0, 1.0], [0, 1, 1]
    >>> [choice.kind for choice in choose_forward([(logits, y), (logits, y)], kinds=("platt",))]
    ['none', 'platt']
    """
    choices = []
    for j in range(len(folds)):
        earlier = _usable(usable, j)
        if not earlier:
            choices.append(Choice())
            continue
        position = {fold: place for place, fold in enumerate(earlier)}
        # What k could use, and j as well: the choice made for j must not see more than j may.
        nested = [[position[i] for i in _usable(usable, k) if i in position] for k in earlier]
        choices.append(choose([folds[i] for i in earlier], kinds, nested.__getitem__))
    return tuple(choices)


def sigmoid(logits: ArrayLike) -> Floats:
    """1 / (1 + exp(−logit)), without overflow for any finite logit.

    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    x = np.asarray(logits, dtype=np.float64)
    decay = np.exp(-np.abs(x))
    answer: Floats = np.where(x >= 0, 1.0, decay) / (1.0 + decay)
    return answer


def logit(probability: ArrayLike) -> Floats:
    """log(p / (1 − p)), within ±30: for estimators that give probabilities, 0 and 1 included.

    >>> logit([0.0, 0.5, 1.0]).tolist()
    [-30.0, 0.0, 30.0]
    """
    p = np.asarray(probability, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return _finite(np.log(p) - np.log1p(-p))


def _maximum(x: Floats, y: Floats, weight: Floats, *, free: tuple[bool, bool]) -> tuple[float, float]:
    """Slope and intercept of the highest penalised likelihood; one that is not free stays at "none"."""
    centre, precision = np.array([1.0, 0.0]), np.array([_SLOPE_PRECISION, _INTERCEPT_PRECISION])
    moving, design = np.flatnonzero(free), np.stack([x, np.ones_like(x)], axis=1)
    theta = centre.copy()

    def objective(at: Floats) -> float:
        eta = design @ at
        return float(weight @ (np.logaddexp(0.0, eta) - y * eta) + 0.5 * precision @ (at - centre) ** 2)

    value = objective(theta)
    for _ in range(100):
        p = sigmoid(design @ theta)
        gradient = (design.T @ (weight * (p - y)) + precision * (theta - centre))[moving]
        curvature = (design.T * (weight * p * (1 - p))) @ design + np.diag(precision)
        step = np.zeros(2)
        step[moving] = np.linalg.solve(curvature[np.ix_(moving, moving)], gradient)
        if float(gradient @ step[moving]) < 1e-12 * (1 + abs(value)):
            break
        # The objective is strictly convex: halving a Newton step always finds a lower value.
        while (lower := objective(theta - step)) > value and np.abs(step).max() > 1e-14:
            step /= 2
        theta, value = theta - step, lower
    return float(theta[0]), float(theta[1])


def _forward_losses(folds: Sequence[Fold], kinds: Sequence[Kind], usable: Usable | None) -> dict[Kind, list[Floats]]:
    """Per kind the log-loss of every row, one array per fold that has rows and earlier folds to fit on."""
    tested: dict[Kind, list[Floats]] = {kind: [] for kind in kinds}
    for j, (logits, y) in enumerate(folds):
        earlier = _usable(usable, j)
        if not earlier or not len(np.asarray(y)):
            continue
        for kind in kinds:
            tested[kind].append(log_losses(y, _fit(kind, folds, earlier).apply(logits)))
    return tested


def _clearly_lower(current: Sequence[Floats], candidate: Sequence[Floats]) -> bool:
    gains = [now - new for now, new in zip(current, candidate, strict=True)]
    rows = np.concatenate(gains)
    errors = [rows.std() / math.sqrt(len(rows))]
    if len(gains) > 1:
        errors.append(np.std([gain.mean() for gain in gains], ddof=1) / math.sqrt(len(gains)))
    return bool(rows.mean() > max(errors))


def _fit(kind: Kind, folds: Sequence[Fold], indices: Sequence[int]) -> Calibrator:
    if not indices:
        return Calibrator()
    return Calibrator.fit(kind, *(np.concatenate([np.asarray(folds[i][part]) for i in indices]) for part in (0, 1)))


def _reason(best: Kind, kinds: Sequence[Kind], losses: Mapping[str, float]) -> str:
    if len(kinds) == 1:
        return "the only kind asked for"
    if not losses:
        return "no cutoff had earlier ones to test a calibration on"
    if best == kinds[0]:
        return "no other kind lowers the log-loss of later cutoffs by more than its standard error"
    return f"{best} lowers the log-loss of later cutoffs, fitted on earlier ones, by more than its standard error"


def _usable(usable: Usable | None, j: int) -> Sequence[int]:
    earlier = sorted(set(range(j) if usable is None else usable(j)))
    if any(not 0 <= i < j for i in earlier):
        raise SpecificationError(f"fold {j} can't use folds {[i for i in earlier if not 0 <= i < j]}: only earlier ones (0 to {j - 1})")
    return earlier


def _known(kind: str) -> Kind:
    for known in KINDS:
        if kind == known:
            return known
    raise SpecificationError(f"no calibration {kind!r}; {did_you_mean(str(kind), KINDS)}")


def _finite(logits: ArrayLike) -> Floats:
    x = np.asarray(logits, dtype=np.float64)
    if np.isnan(x).any():
        raise SpecificationError("nan among the logits; leave out what was not scored")
    return np.clip(x, -LOGIT_CLIP, LOGIT_CLIP)


def _check_shapes(x: Floats, y: Floats, weight: Floats) -> None:
    problems = []
    if x.ndim != 1 or y.shape != x.shape or weight.shape != x.shape:
        message = f"logits {x.shape}, labels {y.shape} and weights {weight.shape} must have one shape (n,)"
        problems.append(Problem("shapes_differ", message, remedy="pass one label and one weight per logit"))
    if not np.isin(y, (0.0, 1.0)).all():
        problems.append(Problem("label_not_binary", "labels must be 0 or 1", remedy="leave out rows without a label"))
    if not (np.isfinite(weight) & (weight >= 0)).all():
        problems.append(Problem("weight_negative", "weights must be finite and not negative", remedy="use 0 to leave a row out"))
    if problems:
        raise SpecificationError("a calibration can't be fitted", problems)
