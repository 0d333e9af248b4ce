"""Calibration on logits, chosen and fitted on out-of-time predictions only (law 5).

A calibrator is a value of a few numbers, because it must be the same in Python, in the stored model and in a query.
Temperature scaling (Guo et al. 2017) corrects confidence; Platt scaling (Platt 1999) also moves the level; beta
calibration (Kull, Silva Filho & Flach 2017) corrects low and high probabilities each by a slope of their own; a spline,
where there are rows enough, has one for each of a few parts. All of them are rising curves on logits.

Isotonic regression is not among them. Its steps merge customers into ties, so that percentiles and top lists inside a
step are arbitrary; its end steps are 0 and 1 exactly; and each step is a free parameter for what are often ten
positives, where a spline's neighbouring slopes hold one another.

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
from persopredict.metrics import log_loss
from persopredict.parsimony import clearly_better
from persopredict.penalised import balanced_quantiles, fit_slopes, merged

Floats = NDArray[np.float64]
Kind = Literal["none", "temperature", "platt", "beta", "spline"]
Fold = tuple[ArrayLike, ArrayLike]
Usable = Callable[[int], Sequence[int]]

#: Simplest first.
KINDS: tuple[Kind, ...] = get_args(Kind)
# No customer is certain: expected values and log-loss stay finite, and no log shows more than one in a million.
CLIP = 1e-6
# Estimators that answer exactly 0 or 1 have infinite logits.
LOGIT_CLIP = 30.0
#: Fewer out-of-time rows don't show the shape of a curve: from how many on a spline is fitted and judged.
SPLINE_ROWS = 10_000
#: With fewer out-of-time rows of either label what looks like a better curve is too often chance.
LEAST_LABELS = 50
# Of the logits, both labels weighing the same: where the spline may bend.
_BENDS = np.arange(1, 8) / 8
_OWN: Mapping[Kind, tuple[str, ...]] = {
    "none": (),
    "temperature": ("slope",),
    "platt": ("slope", "intercept"),
    "beta": ("slope", "upper", "intercept"),
    "spline": ("knots", "points"),
}
_AS_IT_WAS: Mapping[str, float | tuple[float, ...]] = {
    "slope": 1.0,
    "intercept": 0.0,
    "upper": 1.0,
    "knots": (-LOGIT_CLIP, LOGIT_CLIP),
    "points": (-LOGIT_CLIP, LOGIT_CLIP),
}


@dataclass(frozen=True, slots=True)
class Calibrator:
    """probability = sigmoid(curve(logit)), kept within [1e-6, 1 − 1e-6]; the curve rises everywhere.

    Parameters
    ----------
    kind : ``"none"``, ``"temperature"`` (the temperature is 1 / slope), ``"platt"``: curve = slope ·
        logit + intercept. ``"beta"``: curve = slope · ln p − upper · ln(1 − p) + intercept. ``"spline"``: straight lines between `knots`.
    slope : positive, so that the order of customers stays; of ``"beta"`` where probabilities are low.
    intercept : in logits.
    upper : of ``"beta"`` alone, positive: the slope where probabilities are high.
    knots, points : of ``"spline"`` alone: logits from −30 to 30 and what becomes of them, both ascending, of one length.

    Every default means "as it was". Raises `SpecificationError` for an unknown kind or impossible parameters.

    >>> Calibrator("temperature", slope=0.5).apply([-2.0, 0.0, 1000.0]).round(3).tolist()
    [0.269, 0.5, 1.0]
    >>> Calibrator("beta", slope=1.0, upper=0.5).apply([-9.0, 0.0, 9.0]).round(4).tolist()
    [0.0001, 0.4142, 0.989]
    >>> Calibrator("isotonic")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no calibration 'isotonic'; there are: 'none', 'temperature', 'platt', 'beta', 'spline'
    """

    kind: Kind = "none"
    slope: float = 1.0
    intercept: float = 0.0
    upper: float = 1.0
    knots: tuple[float, ...] = (-LOGIT_CLIP, LOGIT_CLIP)
    points: tuple[float, ...] = (-LOGIT_CLIP, LOGIT_CLIP)

    def __post_init__(self) -> None:
        own = _OWN[_known(self.kind)]
        held = {key: getattr(self, key) for key in _AS_IT_WAS}
        if foreign := [key for key, value in _AS_IT_WAS.items() if held[key] != value and key not in own]:
            raise SpecificationError(f"calibration {self.kind!r} can't have {', '.join(f'{key} {held[key]}' for key in foreign)}")
        if not (math.isfinite(self.intercept) and 0 < self.slope < math.inf and 0 < self.upper < math.inf):
            told = ", ".join(f"{key} {held[key]}" for key in own)
            raise SpecificationError(f"{told}: slopes must be positive, all finite")
        if not _rises(self.knots, self.points):
            raise SpecificationError(
                f"knots {self.knots} and points {self.points}: as many of one as of the other, both ascending and finite, the knots "
                f"from {-LOGIT_CLIP:g} to {LOGIT_CLIP:g}"
            )

    def apply(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities, same shape; raises `SpecificationError` for nan, which is no prediction."""
        x = _finite(logits)
        if self.kind == "spline":
            curve = np.interp(x, self.knots, self.points)
        elif self.kind == "beta":
            curve = self.upper * np.logaddexp(0.0, x) - self.slope * np.logaddexp(0.0, -x) + self.intercept
        else:
            curve = self.slope * x + self.intercept
        return np.clip(sigmoid(curve), CLIP, 1 - CLIP)

    @classmethod
    def fit(cls, kind: Kind, logits: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Calibrator:
        """Fit by penalised maximum likelihood (`penalised.fit_slopes`).

        Parameters
        ----------
        kind
            what to fit, on however few rows; ``"none"`` needs no data.
        logits, y
            out-of-time predictions and their labels 0 or 1, shape (n,).
        weight
            of each row, shape (n,), not negative; default 1.

        A Gaussian prior around "none" (slope 1 ± 1, ends that differ by 0 ± 0.5, intercept 0 ± 3) keeps it finite where few positives or
        separable data would drive it to infinity, as Platt's smoothed targets do, but without pulling a well-supported level towards one
        half. With labels of one class, or without rows, there is nothing to fit: the answer is "none".

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
        x, labels, rows = merged(x, labels, rows)
        if kind == "spline":
            # Rounded: between knots that all but touch, even a positive slope rises by less than a float can tell.
            bends = np.unique(balanced_quantiles(x, labels, rows, _BENDS).round(6))
            knots = np.concatenate([[-LOGIT_CLIP], bends[np.abs(bends) < LOGIT_CLIP], [LOGIT_CLIP]])
            slopes, level = fit_slopes(_segments(x, knots), labels, rows, level=True)
            return cls(kind, knots=tuple(knots.tolist()), points=tuple((_segments(knots, knots) @ slopes + level).tolist()))
        parts = np.column_stack([-np.logaddexp(0.0, -x), np.logaddexp(0.0, x)]) if kind == "beta" else x[:, None]
        slopes, level = fit_slopes(parts, labels, rows, level=kind != "temperature")
        return cls(kind, float(slopes[0]), level, float(slopes[1]) if kind == "beta" else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: kind, slope, intercept; of ``"beta"`` upper too; of ``"spline"`` kind, knots, points."""
        values = {name: getattr(self, name) for name in _stored(self.kind)}
        return {"kind": self.kind} | {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibrator:
        """The inverse of `to_dict`; raises `SpecificationError` for a missing key or impossible values."""
        names = _stored(_known(values.get("kind", "none")))
        if missing := [key for key in ("kind", *names) if key not in values]:
            raise SpecificationError(f"the calibrator lacks {', '.join(missing)}; it must hold {', '.join(('kind', *names))}")
        parameters: dict[str, Any] = {
            name: float(values[name]) if isinstance(_AS_IT_WAS[name], float) else tuple(map(float, values[name])) for name in names
        }
        return cls(values["kind"], **parameters)


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

    A candidate replaces the best one before it only if its log-loss is lower by more than one standard error of the paired difference
    (`parsimony.clearly_better`), on later folds looking forward, and also where every fold is judged by a fit on all others. Where "none"
    is nearly right, the candidates differ from it by less than noise, and staying with the simpler one costs nothing. The second
    condition is for few folds: a month that happened to be like the one before vouches for neither.

    A spline is a candidate from 10,000 rows on (`SPLINE_ROWS`): in each fit, and among those that judge it. Where it is the only
    candidate and has fewer to be fitted on, beta takes its place, and the reason says so.

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
        raise SpecificationError(f"no kind of calibration to choose from; give at least one of: {', '.join(map(repr, KINDS))}")
    asked, candidates = candidates, _supported(candidates, folds, usable)
    ahead = {j: earlier for j in range(len(folds)) if (earlier := _usable(usable, j)) and len(np.asarray(folds[j][1]))}
    across = {j: [i for i in range(len(folds)) if i != j] for j in range(len(folds)) if ahead and len(np.asarray(folds[j][1]))}
    tested = {kind: _predicted(kind, folds, ahead) for kind in candidates}
    best = candidates[0]
    for kind in candidates[1:] if ahead else []:
        labels = [folds[j][1] for j in ahead]
        if clearly_better(labels, tested[best], tested[kind]):
            crossed = [_predicted(each, folds, across) for each in (best, kind)]
            best = kind if clearly_better([folds[j][1] for j in across], *crossed) else best
    judged = np.concatenate([np.asarray(folds[j][1]) for j in ahead]) if ahead else np.empty(0)
    losses = {str(kind): log_loss(judged, np.concatenate(rows)) for kind, rows in tested.items() if rows}
    return Choice(
        calibrator=_fit(best, folds, range(len(folds))),
        losses=losses,
        rows=len(judged),
        folds=len(ahead),
        reason=_reason(best, asked, losses),
    )


def choose_forward(folds: Sequence[Fold], kinds: Sequence[Kind] = KINDS, usable: Usable | None = None) -> tuple[Choice, ...]:
    """For each fold the choice that could have been made at its cutoff: from its usable earlier folds alone.

    These calibrators make the out-of-time probabilities that an evaluation judges; `choose` on all folds makes the
    one that is shipped. Parameters and errors as in `choose`. A fold without usable folds gets "none".

    >>> logits, y = [-1.0, 0.0, 1.0], [0, 1, 1]
    >>> [choice.kind for choice in choose_forward([(logits, y), (logits, y)], kinds=("platt",))]
    ['none', 'platt']
    """
    return tuple(choose_at(j, folds, kinds, usable) for j in range(len(folds)))


def choose_at(fold: int, folds: Sequence[Fold], kinds: Sequence[Kind] = KINDS, usable: Usable | None = None) -> Choice:
    """The choice that could have been made at the cutoff of one fold; parameters and errors as in `choose`."""
    if not (earlier := _usable(usable, fold)):
        return Choice()
    position = {each: place for place, each in enumerate(earlier)}
    # What k could use, and this fold as well: its choice must not see more than it may.
    nested = [[position[i] for i in _usable(usable, k) if i in position] for k in earlier]
    return choose([folds[i] for i in earlier], kinds, nested.__getitem__)


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


def _predicted(kind: Kind, folds: Sequence[Fold], teachers: Mapping[int, Sequence[int]]) -> list[Floats]:
    """The probabilities of each fold that has teachers, calibrated by a fit on them."""
    return [_fit(kind, folds, earlier).apply(folds[j][0]) for j, earlier in teachers.items()]


def _fit(kind: Kind, folds: Sequence[Fold], indices: Sequence[int]) -> Calibrator:
    if not indices:
        return Calibrator()
    return Calibrator.fit(kind, *(np.concatenate([np.asarray(folds[i][part]) for i in indices]) for part in (0, 1)))


def _supported(kinds: Sequence[Kind], folds: Sequence[Fold], usable: Usable | None) -> list[Kind]:
    """Of several candidates the first alone where a label is rarer than `LEAST_LABELS`; no spline that some fit, or those who judge it,
    have too few rows for.
    """
    sizes = [len(np.asarray(y)) for _, y in folds]
    positives = sum(int(np.count_nonzero(y)) for _, y in folds)
    if len(kinds) > 1 and min(positives, sum(sizes) - positives) < LEAST_LABELS:
        return [kinds[0]]
    rows = [sum(sizes)]
    if len(kinds) > 1:
        judges = [j for j, size in enumerate(sizes) if size and _usable(usable, j)]
        rows += [sum(sizes[j] for j in judges), *(sum(sizes[i] for i in _usable(usable, j)) for j in judges)]
    simpler = [kind for kind in kinds if kind != "spline" or min(rows) >= SPLINE_ROWS]
    return simpler or ["beta"]


def _reason(best: Kind, kinds: Sequence[Kind], losses: Mapping[str, float]) -> str:
    if len(kinds) == 1 and best != kinds[0]:
        return f"{kinds[0]} was asked for, but needs {SPLINE_ROWS:,} out-of-time rows"
    if len(kinds) == 1:
        return "the only kind asked for"
    if not losses:
        return "no cutoff had earlier ones to test a calibration on"
    if best == kinds[0] and len(losses) == 1:
        return f"a richer kind needs {LEAST_LABELS} out-of-time rows of each label"
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


def _stored(kind: Kind) -> tuple[str, ...]:
    # Readers of before expect both of every kind that they know.
    return _OWN[kind] if kind in ("beta", "spline") else _OWN["platt"]


def _segments(x: Floats, knots: Floats) -> Floats:
    """How much of each logit lies between neighbouring knots, counted from 0: shape (rows, knots − 1), rows add up to x."""
    lengths: Floats = np.clip(x[:, None], knots[:-1], knots[1:]) - np.clip(0.0, knots[:-1], knots[1:])
    return lengths


def _rises(knots: Sequence[float], points: Sequence[float]) -> bool:
    if not len(knots) == len(points) >= 2 or not np.isfinite([*knots, *points]).all() or (knots[0], knots[-1]) != (-LOGIT_CLIP, LOGIT_CLIP):
        return False
    return bool((np.diff([knots, points]) > 0).all())


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
