"""Penalised logistic likelihood of a curve on logits: a positive slope for each part of the logit, and a level.

Every calibration is such a curve; kinds differ only in how they divide a logit into parts (`calibration.py`). The parts
of a row add up to its logit, so that slopes of 1 and a level of 0 leave everything as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from persopredict.threads import one_thread

Floats = NDArray[np.float64]

#: A curve never turns the order of customers round, and never flattens two of them into a tie.
SLOPE_RANGE = (0.01, 100.0)
#: Standard deviations of the prior around "as it was": of what the slopes have in common, of the difference between the first slope and the
#: last, of the level. With a few hundred positives the data outweigh it; it is there for those that have ten, or separable ones.
SLOPE_PRIOR, BEND_PRIOR, LEVEL_PRIOR = 1.0, 0.5, 3.0
# Rows whose logits differ by less than a thousandth say the same; merged, a million rows cost what a few thousand do.
_MOST_ROWS = 20_000
_CELLS_PER_LOGIT = 1024


@one_thread
def fit_slopes(parts: Floats, y: Floats, weight: Floats, *, level: bool) -> tuple[Floats, float]:
    """Slopes and level of the highest penalised likelihood of sigmoid(parts @ slopes + level).

    Parameters
    ----------
    parts
        of each row's logit, shape (rows, slopes).
    y, weight
        labels 0 or 1 and weights of the rows, shape (rows,).
    level
        whether the level is fitted too, or stays 0.

    The prior is Gaussian: what the slopes have in common is 1 ± 1, slopes of neighbouring parts differ like the steps of a random walk
    that gets 0 ± 0.5 from the first part to the last, and the level is 0 ± 3. The objective is strictly convex; projected Newton steps
    (Bertsekas 1982, "Projected Newton methods for optimization problems with simple constraints") keep the slopes within `SLOPE_RANGE`.

    >>> x = np.array([-4.0, -2.0, 2.0, 4.0] * 500)
    >>> y = np.array([0.0, 0.0, 1.0, 1.0] * 400 + [1.0, 0.0, 1.0, 0.0] * 100)
    >>> slopes, level = fit_slopes(x[:, None], y, np.ones(2000), level=True)
    >>> slopes.round(2).tolist(), abs(round(level, 2))
    ([0.6], 0.0)
    """
    many = parts.shape[1]
    design = np.column_stack([parts, np.ones(len(parts))]) if level else parts
    centre, precision = np.ones(design.shape[1]), np.zeros((design.shape[1], design.shape[1]))
    lowest, highest = np.full(len(centre), SLOPE_RANGE[0]), np.full(len(centre), SLOPE_RANGE[1])
    steps = np.diff(np.eye(many), axis=0)
    precision[:many, :many] = np.eye(many) / many / SLOPE_PRIOR**2 + len(steps) / BEND_PRIOR**2 * steps.T @ steps
    if level:
        centre[-1], lowest[-1], highest[-1], precision[-1, -1] = 0.0, -np.inf, np.inf, LEVEL_PRIOR**-2
    found = _lowest(design, y, weight, (centre, precision), (lowest, highest))
    return found[:many], float(found[many]) if level else 0.0


def merged(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """The same rows, or where there are more than 20,000 one for those of a label whose logits share a cell of 1/1024: their mean logit,
    and their weights' sum. Means of each label keep what a straight line is fitted by exact, sum(logit) and sum(logit · y).

    >>> x, y, weight = merged(np.full(30_000, 0.25), np.arange(30_000) % 3 == 0, np.ones(30_000))
    >>> x.tolist(), y.tolist(), weight.tolist()
    ([0.25, 0.25], [0.0, 1.0], [20000.0, 10000.0])
    """
    if len(x) <= _MOST_ROWS:
        return x, y, weight
    first = np.floor(x.min() * _CELLS_PER_LOGIT)
    cell = 2 * (np.floor(x * _CELLS_PER_LOGIT) - first).astype(np.int64) + (y > 0)
    total: Floats = np.bincount(cell, weight).astype(np.float64)
    held = np.flatnonzero(total)
    return np.bincount(cell, weight * x)[held] / total[held], (held % 2).astype(np.float64), total[held]


def balanced_quantiles(x: Floats, y: Floats, weight: Floats, shares: Floats) -> Floats:
    """Quantiles of logits in which both labels weigh the same, ascending, each once: shape (at most shares,).

    Quantiles of all rows would crowd where hardly anybody is positive and a curve shows least.

    >>> balanced_quantiles(np.array([0.0, 1.0, 2.0, 9.0]), np.array([0.0, 0.0, 0.0, 1.0]), np.ones(4), np.array([0.3, 0.7])).tolist()
    [1.0, 9.0]
    """
    order = np.argsort(x, kind="stable")
    positive = weight @ y
    mass = np.cumsum((weight * np.where(y > 0, 1 / positive, 1 / (weight.sum() - positive)))[order])
    return np.unique(x[order][np.searchsorted(mass, shares * mass[-1])])


def _lowest(design: Floats, y: Floats, weight: Floats, prior: tuple[Floats, Floats], bounds: tuple[Floats, Floats]) -> Floats:
    """Where the penalised negative log-likelihood is lowest within bounds."""
    from scipy.special import expit

    centre, precision = prior
    theta = centre.copy()

    def objective(at: Floats) -> float:
        eta = design @ at
        return float(weight @ (np.logaddexp(0.0, eta) - y * eta) + 0.5 * (at - centre) @ precision @ (at - centre))

    value = objective(theta)
    for _ in range(100):
        p = expit(design @ theta)
        gradient = design.T @ (weight * (p - y)) + precision @ (theta - centre)
        curvature = (design.T * (weight * p * (1 - p))) @ design + precision
        free = np.flatnonzero(~(((theta <= bounds[0]) & (gradient > 0)) | ((theta >= bounds[1]) & (gradient < 0))))
        step = np.zeros_like(theta)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        if float(gradient @ step) < 1e-12 * (1 + abs(value)):
            break
        # The objective is convex and the step leads down: halved often enough, it always finds a lower value.
        while (lower := objective(at := np.clip(theta - step, *bounds))) > value and np.abs(step).max() > 1e-14:
            step /= 2
        theta, value = at, lower
    return theta
