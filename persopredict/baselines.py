"""What a model has to beat: the base rate, and the best single rule that a marketer would have written down.

A rule reads one recency or count column, as in "not seen for 60 days": the column is cut at its training deciles and
every bin says the rate it had. Most churn scores in use are such a rule, so a model that does not beat the best of
them is not worth its upkeep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import Problem, SpecificationError

Floats = NDArray[np.float64]

BINS = 10
PRIOR_ROWS = 20.0  # How many rows at the base rate each bin starts with: a bin of a few rows says nearly the base rate.


@dataclass(frozen=True, slots=True)
class BaseRate:
    """The same probability for everyone: the training rate, with half a positive and half a negative added.

    That is the estimator of Krichevsky and Trofimov (1981): it stays inside (0, 1) where the training labels are all
    alike.

    >>> round(BaseRate.fit([0, 0, 0, 1]).rate, 2), BaseRate.fit([]).rate
    (0.3, 0.5)
    """

    rate: float

    name = "base_rate"

    @classmethod
    def fit(cls, y: ArrayLike) -> BaseRate:
        """Learn the rate of labels 0 or 1, shape (n,)."""
        labels = _binary(y)
        return cls(float((labels.sum() + 0.5) / (len(labels) + 1)))

    def predict(self, rows: int) -> Floats:
        """The rate for that many rows, shape (rows,)."""
        return np.full(rows, self.rate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"rate": self.rate}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BaseRate:
        """The inverse of `to_dict`."""
        return cls(float(values["rate"]))


@dataclass(frozen=True, slots=True)
class BestRule:
    """The recency or count column whose deciles alone predict best, and the rate of each of its bins.

    `columns`: the candidates, in the order that `predict` expects; `column`: the chosen one, None where none predicts
    better than the base rate; `edges`: the bins' lower bounds but the first, shape (bins − 1,); `rates`: one per bin,
    the last for missing values.

    >>> days = np.array([[1.0], [2.0], [90.0], [np.nan]] * 50)
    >>> rule = BestRule.fit(days, ["recency_purchase"], [0, 0, 1, 1] * 50)
    >>> rule.name, rule.predict(np.array([[1.5], [400.0], [np.nan]])).round(2).tolist()
    ('recency_purchase', [0.14, 0.86, 0.86])
    """

    columns: tuple[str, ...]
    column: str | None
    edges: tuple[float, ...]
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """The chosen column, or ``"base_rate"`` where no column predicts better than it."""
        return self.column or BaseRate.name

    @classmethod
    def fit(cls, X: ArrayLike, names: Sequence[str], y: ArrayLike) -> BestRule:
        """Choose the column and learn its rates.

        Parameters
        ----------
        X
            the candidate columns of the training snapshots, float64 with nan where missing, shape (n, columns).
        names
            one per column; of equally good columns the first wins.
        y
            labels 0 or 1, shape (n,).

        Columns are compared by the log-loss of each training row under the rates of its bin *without itself*, which
        has a closed form: a column of many thin bins gains nothing from remembering its rows. Nothing but the
        training rows is read, whose labels ended before the test cutoff, so the choice looks forward as the model's
        own fit does. Each rate is shrunk towards the base rate as if the bin held 20 more rows of it.

        Raises `SpecificationError` if the shapes don't fit or a label is not 0 or 1.
        """
        rows, labels, columns = np.asarray(X, dtype=np.float64), _binary(y), tuple(names)
        if rows.ndim != 2 or rows.shape != (len(labels), len(columns)):
            message = f"X has shape {rows.shape} for {len(labels)} labels and {len(columns)} names"
            raise SpecificationError("the rules can't be fitted", [Problem("shapes_differ", message, remedy="pass X as (rows, names)")])
        base = BaseRate.fit(labels).rate
        rule, lowest = (
            cls(columns, None, (), (base, base)),
            _left_out_loss(np.zeros(len(labels), np.intp), labels, base, 1),
        )
        for place, column in enumerate(columns):
            edges = _edges(rows[:, place])
            bins = _bins(rows[:, place], edges)
            loss = _left_out_loss(bins, labels, base, len(edges) + 2)
            if loss < lowest:
                found, held = (np.bincount(bins, weights=w, minlength=len(edges) + 2) for w in (labels, np.ones_like(labels)))
                rates = (found + PRIOR_ROWS * base) / (held + PRIOR_ROWS)
                rule, lowest = cls(columns, column, tuple(edges.tolist()), tuple(rates.tolist())), loss
        return rule

    def predict(self, X: ArrayLike) -> Floats:
        """The rate of each row's bin, shape (n,); `X` holds the columns of `fit` in the same order, shape (n,
        columns).

        Raises `SpecificationError` if it holds another number of columns.
        """
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise SpecificationError(f"X has shape {rows.shape}; this rule reads {len(self.columns)} columns in the order of `columns`")
        if self.column is None:
            return np.full(len(rows), self.rates[0])
        values = rows[:, self.columns.index(self.column)]
        return np.asarray(self.rates)[_bins(values, np.asarray(self.edges))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "columns": list(self.columns),
            "column": self.column,
            "edges": list(self.edges),
            "rates": list(self.rates),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BestRule:
        """The inverse of `to_dict`."""
        return cls(tuple(values["columns"]), values["column"], tuple(values["edges"]), tuple(values["rates"]))


def _edges(values: Floats) -> Floats:
    """Distinct inner deciles, each a value of the column; a value equal to an edge lies above it."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(0)
    deciles = np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges: Floats = np.unique(deciles[deciles > known.min()])
    return edges


def _bins(values: Floats, edges: Floats) -> NDArray[np.intp]:
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))


def _left_out_loss(bins: NDArray[np.intp], labels: Floats, base: float, count: int) -> float:
    """Mean log-loss of each row under its bin's shrunk rate with the row itself left out."""
    if not len(labels):
        return float("nan")
    held = np.bincount(bins, minlength=count).astype(np.float64)
    found = np.bincount(bins, weights=labels, minlength=count)
    others = np.maximum(held - 1, 0) + PRIOR_ROWS
    if_positive = (np.maximum(found - 1, 0) + PRIOR_ROWS * base) / others
    if_negative = np.minimum((found + PRIOR_ROWS * base) / others, 1 - np.finfo(np.float64).eps)
    total = found @ np.log(if_positive) + (held - found) @ np.log1p(-if_negative)
    return float(-total / len(labels))


def _binary(y: ArrayLike) -> Floats:
    labels = np.asarray(y, dtype=np.float64)
    if labels.ndim != 1 or not np.isin(labels, (0.0, 1.0)).all():
        raise SpecificationError("labels must be 0 or 1, shape (n,); leave out rows without a label")
    return labels
