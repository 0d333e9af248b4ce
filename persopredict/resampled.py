"""Metrics under resampled customers: one set of draws for every predictor, each cutoff and all of them together.

Rankings are what costs time. A customer's rows stand at places of a ranking that neighbours share, so that drawing customers is one sparse
product, and a draw is scored by its places instead of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from persopredict.comparison import MIN_CUSTOMERS, NO_INTERVAL, Bootstrap, Interval
from persopredict.curves import SHARES
from persopredict.metrics import Places, equal_mass_bins, log_losses

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: What has draws. ECE has none: a resampled model looks worse calibrated than it is.
METRICS = ("auc", "average_precision", "log_loss", "brier", "brier_skill", "lift_top_decile")
#: Places that a ranking keeps apart at most. Estimates don't rest on them, only how far draws stray from the sample.
PLACES = 500


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Draws at one cutoff, or of all rows, in the order of `Bootstrap.weights`; nan where a draw has no value.

    `metrics`: predictor to name in `METRICS` to draws, shape (1 + resamples,); `differences`: baseline to draws of the model's mean
    log-loss minus its own; `precision`: of the model's likeliest 1%, …, 100% at each cutoff, shape (1 + resamples, 100); `customers`:
    how many there are, drawn or not.
    """

    metrics: Mapping[str, Mapping[str, Floats]]
    differences: Mapping[str, Floats]
    precision: Floats
    customers: int
    bootstrap: Bootstrap

    def interval(self, estimate: float, draws: Floats) -> Interval:
        """As `Bootstrap.interval`; (nan, nan) below 10 customers here."""
        return self.bootstrap.interval(estimate, draws) if self.customers >= MIN_CUSTOMERS else NO_INTERVAL


def drawn(y: Floats, predictors: Mapping[str, Floats], ends: Sequence[int], bootstrap: Bootstrap) -> list[Drawn]:
    """Draws at each cutoff, and last those of all rows together.

    Parameters
    ----------
    y : labels 0 or 1, shape (n,), one cutoff after the other, one row for each customer of a cutoff.
    predictors : name to probabilities, shape (n,), the model first.
    ends : where the rows of each cutoff end; the last is n.
    bootstrap : of the customers of these rows.
    """
    starts = (0, *ends[:-1])
    sampled = np.cumsum(np.concatenate([[0], bootstrap.rows]))
    slices = [slice(sampled[start], sampled[end]) for start, end in zip(starts, ends, strict=True)]
    labels, chosen = y[bootstrap.rows], {name: p[bootstrap.rows] for name, p in predictors.items()}
    columns = _columns(labels, chosen)
    summed = [_by_customer([column[part] for column in columns], bootstrap.codes[part], bootstrap.sampled) for part in slices]
    tallies = {name: _tallies(labels, p, bootstrap, slices) for name, p in chosen.items()}
    sums = np.empty((len(ends) + 1, bootstrap.resamples + 1, len(columns)))
    ranks = {name: np.empty((len(ends) + 1, 3, bootstrap.resamples + 1)) for name in predictors}
    found = np.empty((len(ends) + 1, bootstrap.resamples + 1, len(SHARES)))
    model = next(iter(predictors))
    for block, weights in bootstrap.weights():
        sums[:-1, block] = [weights @ matrix for matrix in summed]
        times = np.ascontiguousarray(weights.T)
        for name, matrices in tallies.items():
            held = [_places(matrix @ times) for matrix in matrices]
            for place, places in enumerate([*held, _together(held)]):
                ranks[name][place, :, block] = places.scores()
            if name == model:
                found[:-1, block] = [places.found(SHARES) for places in held]
    sums[-1], found[-1] = sums[:-1].sum(axis=0), found[:-1].sum(axis=0)
    counts = [*np.diff(ends, prepend=0).tolist(), bootstrap.customers]
    return [_drawn(sums[at], {name: ranks[name][at] for name in ranks}, found[at], counts[at], bootstrap) for at in range(len(counts))]


def _drawn(sums: Floats, ranks: Mapping[str, Floats], found: Floats, customers: int, bootstrap: Bootstrap) -> Drawn:
    """From sums over rows, in the order of `_columns`, and scores of rankings, (3, draws) of each predictor."""
    held = sums[:, 0]
    means = np.divide(sums, held[:, None], out=np.full_like(sums, np.nan), where=held[:, None] > 0)
    spread = means[:, 1] * (1 - means[:, 1])
    metrics, differences = {}, {}
    for name, (loss, square, difference) in zip(ranks, means[:, 2:].T.reshape(len(ranks), 3, -1), strict=True):
        skill = 1 - np.divide(square, spread, out=np.full_like(square, np.nan), where=spread > 0)
        auc, precision, lift = ranks[name]
        metrics[name] = dict(zip(METRICS, (auc, precision, loss, square, skill, lift), strict=True))
        differences[name] = difference
    del differences[next(iter(ranks))]
    shared = np.divide(found, held[:, None] * SHARES, out=np.full_like(found, np.nan), where=held[:, None] > 0)
    return Drawn(metrics, differences, shared, customers, bootstrap)


def _columns(y: Floats, predictors: Mapping[str, Floats]) -> list[Floats]:
    """What is averaged: rows, labels, and of each predictor its losses, squares, and the model's losses minus its own.

    Differences of rows are averaged: between equal predictors, those of a draw's means would not be exactly 0.
    """
    losses = {name: log_losses(y, p) for name, p in predictors.items()}
    ours = next(iter(losses.values()))
    of_each = [column for name, p in predictors.items() for column in (losses[name], (p - y) ** 2, ours - losses[name])]
    return [np.ones(len(y)), y, *of_each]


def _by_customer(columns: Sequence[Floats], codes: Ints, customers: int) -> Floats:
    """Sums by customer, shape (customers, columns)."""
    return np.stack([np.bincount(codes, column, customers) for column in columns], axis=1)


def _tallies(y: Floats, p: Floats, bootstrap: Bootstrap, slices: Sequence[slice]) -> list[csr_array]:
    """What each customer adds to the places at each cutoff: rows at each place, then positives; shape (2 × places, customers)."""
    from scipy.sparse import csr_array

    places = min(PLACES, len(y))
    place = places - 1 - equal_mass_bins(p, places) if places else np.zeros(0, dtype=np.intp)
    tallies = []
    for part in slices:
        at, whose, positive = place[part], bootstrap.codes[part], y[part] > 0
        cells = np.concatenate([at, places + at[positive]]), np.concatenate([whose, whose[positive]])
        tallies.append(csr_array((np.ones(len(cells[0])), cells), shape=(2 * places, bootstrap.sampled)))
    return tallies


def _places(cells: Floats) -> Places:
    rows, positives = np.split(cells, 2)
    return Places(rows, positives)


def _together(held: Sequence[Places]) -> Places:
    return Places(np.sum([places.rows for places in held], axis=0), np.sum([places.positives for places in held], axis=0))
