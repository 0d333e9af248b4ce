"""Metrics of probabilities, as pure functions of labels and predictions.

Everything a grade rests on is here: how well a model ranks (AUC, average precision, lift), how right its
probabilities are (log-loss, Brier, ECE) and how far chance alone could have moved each of them. A metric that has no
value, such as an AUC where every label is the same, is nan, never an exception and never a flattering number.

The order of the rows never matters: ties share their places, and resampling goes by customer in sorted order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import SpecificationError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

Masses = tuple[Floats, Floats, Floats]  # Rows, positives and summed predictions of each bin.

_RUNS = 200


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one predictor reached on one set of rows; nan where a metric has no value.

    `auc` and `average_precision` in [0, 1]; `log_loss` in nats per row and `brier`, lower is better; `brier_skill`
    against always saying the rate; `ece` beside `ece_chance_p95`, what a perfect calibration stays below 95% of the
    time; `lift_top_decile` = rate among the top tenth over the rate of all.
    """

    auc: float
    average_precision: float
    log_loss: float
    brier: float
    brier_skill: float
    ece: float
    ece_chance_p95: float
    lift_top_decile: float

    @classmethod
    def of(cls, y: ArrayLike, p: ArrayLike, *, seed: int = 0) -> Metrics:
        """Compute all of them; `seed` drives the simulation behind `ece_chance_p95`.

        >>> metrics = Metrics.of([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        >>> metrics.auc, round(metrics.brier, 4)
        (0.75, 0.1581)
        """
        labels, predicted = _pair(y, p)
        ranking = Ranking(labels, predicted)
        auc_, average_precision_, lift_ = (float(column[0]) for column in ranking.places().scores())
        return cls(
            auc=auc_,
            average_precision=average_precision_,
            log_loss=log_loss(labels, predicted),
            brier=brier(labels, predicted),
            brier_skill=brier_skill(labels, predicted),
            ece=ranking.ece(),
            ece_chance_p95=ranking.ece_chance(seed=seed),
            lift_top_decile=lift_,
        )


NAMES: tuple[str, ...] = tuple(field.name for field in fields(Metrics))


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """How many rows, and how many positives, hold each place of a ranking: from most to least likely, ties in one place.

    Both of shape (places, blocks): one block of the rows as they are, or one for each resampling.

    >>> places = Places(np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]]))
    >>> places.scores()[0].tolist(), places.found([0.5, 1.0]).tolist()
    ([0.75], [[1.25, 2.0]])
    """

    rows: Floats
    positives: Floats

    def scores(self) -> tuple[Floats, Floats, Floats]:
        """AUC, average precision and lift of the top decile, each of shape (blocks,); nan where one class is missing.

        AUC is the chance that a positive ranks above a negative, a tie counting half (Hanley and McNeil 1982). Average precision is the
        step-wise sum of precision over recall, without interpolation.
        """
        if not len(self.rows):
            return (np.full(self.rows.shape[1], np.nan),) * 3
        total, found = np.cumsum(self.rows, axis=0), np.cumsum(self.positives, axis=0)
        all_rows, all_positives = total[-1], found[-1]
        valued = (all_positives > 0) & (all_positives < all_rows)
        # Every pair of a positive and a row below it, ties half, less the pairs of two positives: the negatives remain.
        below = all_rows * all_positives - np.einsum("ij,ij->j", self.positives, total - 0.5 * self.rows)
        below -= 0.5 * all_positives**2
        precision = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
        at_each_positive = np.einsum("ij,ij->j", self.positives, precision)
        return (
            _ratio(below, all_positives * (all_rows - all_positives), valued),
            _ratio(at_each_positive, all_positives, valued),
            _ratio(self.found([0.1])[:, 0], 0.1 * all_positives, valued),
        )

    def found(self, shares: ArrayLike) -> Floats:
        """Positives within the top `shares` of the rows, shape (blocks, shares).

        A place that a share cuts through gives its part of its positives: what a random order among equals would find.
        """
        wanted = np.asarray(shares, dtype=np.float64)
        total, found = (np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells, axis=0)]) for cells in (self.rows, self.positives))
        return np.stack([np.interp(wanted * rows[-1], rows, positives) for rows, positives in zip(total.T, found.T, strict=True)])


class Ranking:
    """Rows from most to least likely, sorted once for all that depends on their order.

    Parameters
    ----------
    y : labels 0 or 1, shape (n,).
    p : predictions, shape (n,), probabilities where `ece` is asked.

    >>> ranking = Ranking([0, 1, 1], [0.1, 0.9, 0.5])
    >>> ranking.order.tolist(), ranking.places().scores()[0].tolist()
    ([1, 2, 0], [1.0])
    """

    def __init__(self, y: ArrayLike, p: ArrayLike) -> None:
        labels, predicted = _pair(y, p)
        self.order: Ints = np.argsort(predicted)[::-1]
        self._labels, self._predicted = labels[self.order], predicted[self.order]
        self._starts = _changes(self._predicted)

    def places(self) -> Places:
        """One block of one place for each distinct prediction."""
        held = np.diff(self._starts, append=len(self.order)).astype(np.float64)
        return Places(held[:, None], _summed(self._labels, self._starts)[:, None])

    def bins(self, bins: int) -> Ints:
        """The bin of equal mass of each row in `order`, descending; see `equal_mass_bins`."""
        held, rows = np.diff(self._starts, append=len(self.order)), len(self.order)
        middle = rows - np.cumsum(held) + held / 2
        return np.repeat(np.minimum(middle / max(rows, 1) * bins, bins - 1).astype(np.intp), held)

    def masses(self, bins: int = 10) -> Masses:
        """Rows, positives and summed predictions of each bin of equal mass that has rows, from most to least likely."""
        starts = _changes(self.bins(bins))
        held = np.diff(starts, append=len(self.order)).astype(np.float64)
        return held, _summed(self._labels, starts), _summed(self._predicted, starts)

    def ece(self, bins: int = 10) -> float:
        """See `metrics.ece`."""
        _, positives, expected = self.masses(bins)
        return float(np.abs(positives - expected).sum() / len(self.order)) if len(self.order) else float("nan")

    def ece_chance(self, bins: int = 10, *, seed: int = 0, simulations: int = 500, level: float = 0.95) -> float:
        """See `metrics.ece_chance`."""
        rows = len(self.order)
        if not rows:
            return float("nan")
        starts = _changes(self.bins(bins))
        runs = np.union1d(starts, np.linspace(0, rows, _RUNS, endpoint=False).astype(np.intp))
        held, expected = np.diff(runs, append=rows), _summed(self._predicted, runs)
        rng = np.random.default_rng(seed)
        found = rng.binomial(held, np.clip(expected / held, 0.0, 1.0), size=(simulations, len(runs)))
        gaps = np.add.reduceat(found - expected, np.searchsorted(runs, starts), axis=1)
        return float(np.quantile(np.abs(gaps).sum(axis=1) / rows, level))


def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve, ties counting half (Hanley and McNeil 1982); nan if one class is missing.

    >>> auc([0, 1, 0, 1], [0.2, 0.9, 0.5, 0.5]), auc([1, 1], [0.1, 0.2])
    (0.875, nan)
    """
    return float(Ranking(y, p).places().scores()[0][0])


def average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """Precision averaged over the recall gained at each distinct prediction; nan if one class is missing.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    return float(Ranking(y, p).places().scores()[1][0])


def log_losses(y: ArrayLike, p: ArrayLike) -> Floats:
    """Log-loss of each row in nats, shape (n,); probabilities are kept one float64 epsilon away from 0 and 1.

    >>> log_losses([1, 0], [0.5, 0.9]).round(3).tolist()
    [0.693, 2.303]
    """
    labels, predicted = _pair(y, p)
    epsilon = np.finfo(np.float64).eps
    sure = np.clip(predicted, epsilon, 1 - epsilon)
    losses: Floats = -np.where(labels > 0, np.log(sure), np.log1p(-sure))
    return losses


def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """Mean log-loss in nats per row, also for a single class; nan without rows.

    >>> round(log_loss([1, 0], [0.8, 0.4]), 4)
    0.367
    """
    return _mean(log_losses(y, p))


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Mean squared error of the probability (Brier 1950); nan without rows.

    >>> round(brier([1, 0], [0.8, 0.4]), 2)
    0.1
    """
    labels, predicted = _pair(y, p)
    return _mean((predicted - labels) ** 2)


def brier_skill(y: ArrayLike, p: ArrayLike) -> float:
    """1 − Brier / the Brier of always saying the rate of these very rows; nan if one class is missing.

    >>> round(brier_skill([1, 0, 0, 0], [0.7, 0.1, 0.1, 0.1]), 2)
    0.84
    """
    labels, predicted = _pair(y, p)
    rate = _mean(labels)
    spread = rate * (1 - rate)
    return 1 - brier(labels, predicted) / spread if spread > 0 else float("nan")


def equal_mass_bins(p: ArrayLike, bins: int = 10) -> Ints:
    """The bin 0 … bins−1 of each prediction, every bin of nearly the same size, shape (n,).

    Equal predictions share a bin, that of the middle of their places: a bin may then stay empty, but the answer does
    not depend on the order of the rows.

    >>> equal_mass_bins([0.1, 0.9, 0.2, 0.8], bins=2).tolist(), equal_mass_bins([0.5, 0.5, 0.5, 0.5], bins=2).tolist()
    ([0, 1, 0, 1], [1, 1, 1, 1])
    """
    ranking = Ranking(np.zeros(np.shape(p)), p)
    found = np.empty(len(ranking.order), dtype=np.intp)
    found[ranking.order] = ranking.bins(bins)
    return found


def ece(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |observed rate − mean prediction| over equal-mass bins, weighted by their
    rows; nan without rows.

    Equal-mass bins as in Nguyen and O'Connor (2015); bins by `equal_mass_bins`. A perfect model does not reach 0: see
    `ece_chance`.

    >>> round(ece([0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]), 2), round(ece([0, 1], [0.4, 0.9], bins=2), 2)
    (0.0, 0.25)
    """
    return Ranking(y, p).ece(bins)


def ece_chance(p: ArrayLike, bins: int = 10, *, seed: int = 0, simulations: int = 500, level: float = 0.95) -> float:
    """The ECE that a perfectly calibrated model with these predictions stays below with probability `level`; nan
    without rows.

    Labels are drawn from the predictions themselves (consistency resampling, Bröcker and Smith 2007), independently per
    row. Above 200 rows, runs of neighbours in a bin are drawn at once, with their mean prediction.

    >>> ece_chance([0.3] * 1000) > ece_chance([0.3] * 100_000)
    True
    """
    return Ranking(np.zeros(np.shape(p)), p).ece_chance(bins, seed=seed, simulations=simulations, level=level)


def cumulative_gain(y: ArrayLike, p: ArrayLike, shares: ArrayLike) -> Floats:
    """Share of all positives found in the top `shares` of the rows, same shape as `shares`; nan without positives.

    Where a share cuts through equal predictions, it takes its part of their positives: what a random order among them
    would find.

    >>> cumulative_gain([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], [0.25, 0.5, 0.75, 1.0]).tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    places = Ranking(y, p).places()
    positives = places.positives.sum()
    return places.found(shares)[0] / positives if positives else np.full(np.shape(shares), np.nan)


def _changes(values: NDArray[Any]) -> Ints:
    """Where a value differs from the one before it, and the first."""
    found: Ints = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else np.zeros(0, dtype=np.intp)
    return found


def _summed(values: Floats, starts: Ints) -> Floats:
    sums: Floats = np.add.reduceat(values, starts) if len(starts) else np.zeros(0)
    return sums


def _ratio(values: Floats, by: Floats, valued: NDArray[np.bool_]) -> Floats:
    return np.divide(values, by, out=np.full_like(values, np.nan), where=valued)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _pair(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    labels, predicted = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != predicted.shape:
        raise SpecificationError(f"labels of shape {labels.shape} and predictions of shape {predicted.shape}; both must be (n,)")
    if np.isnan(predicted).any() or not np.isin(labels, (0.0, 1.0)).all():
        raise SpecificationError("labels must be 0 or 1 and predictions must not be nan; leave out what was not scored")
    return labels, predicted
