"""Scorecards: models that add up what each feature says. They answer where there is too little data for trees, and stay readable.

A scorecard is a value: an intercept and, of each feature that counts, a line through knots in log-odds. The base rate is a card without
terms, a rule of thumb a card with one; `fit_logistic` is a ridge regression on coarse features, whose shrinkage the data themselves set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.baselines import BaseRate, BestRule
from persopredict.calibration import logit, sigmoid
from persopredict.draws import lowest, snapshot_hashes
from persopredict.errors import SpecificationError
from persopredict.threads import one_thread

Floats = NDArray[np.float64]

#: Rows that a logistic scorecard learns from at most: its few numbers are settled long before.
MOST_ROWS = 20_000
_SALT = "logistic"
#: Coarse: a feature is known by the tenth of the customers that it puts somebody into. The outermost half per cent is no knot: one value
#: that is out of all proportion moves nobody else.
SHARES = np.array([0.005, *np.linspace(0.1, 0.9, 9), 0.995])
#: Weights of the ridge's prior that are tried, from nearly none to one that leaves the base rate alone.
PRECISIONS = tuple(float(2.0**power) for power in range(-2, 15))
#: Whether a value is missing counts by itself from this share of the rows on, both ways.
_RARELY = 0.01


@dataclass(frozen=True, slots=True)
class Term:
    """What one feature adds, in log-odds.

    `knots`: values of the feature, ascending. `points`: log-odds at each knot, with straight lines between and level beyond; where `steps`,
    log-odds below the first knot, then from each knot up to the next, so one more. `missing`: log-odds where the value is unknown.

    >>> Term("visits", (0.0, 10.0), (-1.0, 1.0), missing=0.0).of(np.array([-3.0, 5.0, np.nan])).tolist()
    [-1.0, 0.0, 0.0]
    >>> Term("visits", (2.0,), (-1.0, 1.0), missing=0.0, steps=True).of(np.array([1.9, 2.0])).tolist()
    [-1.0, 1.0]
    """

    name: str
    knots: tuple[float, ...]
    points: tuple[float, ...]
    missing: float
    steps: bool = False

    def of(self, values: Floats) -> Floats:
        """Log-odds of each value, shape (rows,)."""
        known = np.asarray(self.points)[np.searchsorted(self.knots, values, side="right")] if self.steps else self._line(values)
        return np.where(np.isnan(values), self.missing, known)

    def _line(self, values: Floats) -> Floats:
        return np.interp(values, self.knots, self.points)


@dataclass(frozen=True)
class Scorecard:
    """A sum of terms; see `learner.Scorer`.

    `kind`: "base_rate", "rule" or "logistic". `names`: the columns it is given, in order. `intercept`: log-odds where every term says
    nothing, which is the mean over the training rows.
    """

    kind: str
    names: tuple[str, ...]
    intercept: float
    terms: tuple[Term, ...]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def logits(self, X: NDArray[np.floating]) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""
        return np.asarray(self.contributions(X).sum(axis=1), dtype=np.float64)

    def contributions(self, X: NDArray[np.floating]) -> Floats:
        """What each column adds, and the intercept last: shape (rows, columns + 1), in log-odds; they add up to the raw score."""
        found = np.zeros((len(X), len(self.names) + 1))
        found[:, -1] = self.intercept
        for term in self.terms:
            place = self._places[term.name]
            found[:, place] += term.of(np.asarray(X[:, place], dtype=np.float64))
        return found

    @property
    def importance(self) -> Floats:
        """The span of each column's term in log-odds, shape (columns,)."""
        found = np.zeros(len(self.names))
        for term in self.terms:
            found[self._places[term.name]] += np.ptp([*term.points, term.missing])
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"kind": self.kind, "names": list(self.names), "intercept": self.intercept, "terms": [asdict(term) for term in self.terms]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scorecard:
        """The inverse of `to_dict`; raises `SpecificationError` for terms of columns that it is not given."""
        terms = tuple(
            Term(term["name"], tuple(term["knots"]), tuple(term["points"]), float(term["missing"]), bool(term["steps"]))
            for term in values["terms"]
        )
        names = tuple(values["names"])
        if unknown := sorted({term.name for term in terms} - set(names)):
            raise SpecificationError(f"the scorecard has terms of columns that it does not have: {', '.join(unknown)}")
        return cls(values["kind"], names, float(values["intercept"]), terms)


def base_rate(y: ArrayLike, names: Sequence[str]) -> Scorecard:
    """The same score for everybody: the training rate of labels 0 or 1, shape (rows,).

    >>> sigmoid(base_rate([0, 0, 0, 1], ["visits"]).logits(np.zeros((1, 1)))).round(2).tolist()
    [0.3]
    """
    return Scorecard("base_rate", tuple(names), float(logit(BaseRate.fit(y).rate)), ())


def rule(best: BestRule, X: NDArray[np.floating], names: Sequence[str]) -> Scorecard:
    """The best rule of one recency or count as a card; `X`: the training rows, shape (rows, names), for the mean.

    >>> days = np.array([[1.0], [2.0], [90.0], [np.nan]] * 50)
    >>> best = BestRule.fit(days, ["recency_purchase"], [0, 0, 1, 1] * 50)
    >>> card = rule(best, days, ["recency_purchase"])
    >>> np.allclose(sigmoid(card.logits(days[:4])), best.predict(days[:4]))
    True
    """
    if best.column is None:
        return Scorecard("rule", tuple(names), float(logit(best.rates[0])), ())
    points = logit(best.rates)
    said = Term(best.column, best.edges, tuple(points[:-1].tolist()), float(points[-1]), steps=True)
    return _centred("rule", names, 0.0, [said], X)


@one_thread
def fit_logistic(
    X: NDArray[np.floating],
    y: NDArray[np.int8],
    names: Sequence[str],
    *,
    groups: Sequence[int] | None = None,
    weight: float = 1.0,
    customer: ArrayLike | None = None,
    cutoff: ArrayLike | None = None,
) -> Scorecard:
    """A ridge regression on coarse features.

    Parameters
    ----------
    X : features of the training rows, nan where null, shape (rows, features).
    y : labels 0 and 1, shape (rows,).
    names : of the features.
    groups : a number for each feature, equal for those that say nearly the same (one count over neighbouring windows): together they get
        the freedom of one. Default: each its own.
    weight : how much evidence a row is; below one where labels of neighbouring cutoffs overlap.
    customer, cutoff : whose each row is, and of when in integer microseconds, shape (rows,): they decide which rows are read of more than
        20,000. Default: the rows' numbers.

    A feature is coded by the tenth of the rows it falls into, so that a heavy tail counts as no more than that; whether it is missing is
    coded beside it. The prior's weight is the one under which the labels are likeliest (the evidence of MacKay 1992, by Laplace's
    approximation): where features say nothing it leaves the base rate alone, and no rows are held back to find out.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 3))
    >>> y = (rng.random(2000) < sigmoid(2 * X[:, 0] - 2)).astype(np.int8)
    >>> card = fit_logistic(X, y, ["a", "b", "c"])
    >>> card.importance.argmax(), card.terms[0].points[0] < 0 < card.terms[0].points[-1]
    (np.int64(0), True)
    """
    rows = np.arange(len(y))
    if len(y) > MOST_ROWS:
        rows = lowest(snapshot_hashes(rows if customer is None else customer, 0 * rows if cutoff is None else cutoff, _SALT), MOST_ROWS)
    values: Floats = np.asarray(X[rows], dtype=np.float64)
    labels: Floats = np.asarray(y[rows], dtype=np.float64)
    base = float(logit(BaseRate.fit(labels).rate))
    coded = [_Coded.of(name, values[:, place]) for place, name in enumerate(names)]
    members = np.arange(len(names)) if groups is None else np.asarray(groups)
    speaks = np.array([bool(each.knots) or each.misses for each in coded])
    columns = [(place, missing) for place, each in enumerate(coded) for missing in each.columns]
    if not columns or not 0 < labels.sum() < len(labels):
        return Scorecard("logistic", tuple(names), base, ())
    Z = np.stack([coded[place].values(values[:, place], missing=missing) for place, missing in columns], axis=1)
    crowd = np.array([np.count_nonzero(speaks & (members == members[place])) for place, _ in columns])
    mean, scale = Z.mean(axis=0), 1 / (Z.std(axis=0) * np.sqrt(crowd))
    found, intercept = _likeliest((Z - mean) * scale, labels, base, weight)
    slopes = dict(zip(columns, (found * scale).tolist(), strict=True))
    intercept -= float(found @ (mean * scale))
    terms = [
        each.term(slopes.get((place, False), 0.0), slopes.get((place, True), 0.0)) for place, each in enumerate(coded) if speaks[place]
    ]
    return _centred("logistic", names, intercept, terms, values)


@dataclass(frozen=True, slots=True)
class _Coded:
    """How a feature is seen: by the tenths of the rows, and by whether it is missing.

    `knots`, `codes`: values and the mean share of the rows below and at each, from -1 to 1; empty where all are alike.
    """

    name: str
    knots: tuple[float, ...]
    codes: tuple[float, ...]
    misses: bool

    @classmethod
    def of(cls, name: str, values: Floats) -> _Coded:
        known = np.sort(values[~np.isnan(values)])
        missing = 1 - len(known) / len(values)
        misses = _RARELY <= missing <= 1 - _RARELY
        knots = np.unique(np.quantile(known, SHARES, method="inverted_cdf")) if len(known) else known
        if len(knots) < 2 or not np.isfinite(knots).all():
            return cls(name, (), (), misses)
        codes = (np.searchsorted(known, knots, side="left") + np.searchsorted(known, knots, side="right")) / len(known) - 1
        return cls(name, tuple(knots.tolist()), tuple(codes.tolist()), misses)

    @property
    def columns(self) -> tuple[bool, ...]:
        """Which columns it gives: False for its value, True for whether it is missing."""
        return (*((False,) if self.knots else ()), *((True,) if self.misses else ()))

    def values(self, values: Floats, *, missing: bool) -> Floats:
        absent = np.isnan(values)
        return absent.astype(np.float64) if missing else np.where(absent, 0.0, np.interp(values, self.knots, self.codes))

    def term(self, slope: float, absence: float) -> Term:
        knots, codes = (self.knots, self.codes) if self.knots else ((0.0,), (0.0,))
        return Term(self.name, knots, tuple(slope * code for code in codes), absence)


def _likeliest(Z: Floats, y: Floats, base: float, weight: float) -> tuple[Floats, float]:
    """Coefficients and intercept under the prior that makes the labels likeliest."""
    design = np.column_stack([Z, np.ones(len(y))])
    theta, best, highest = np.append(np.zeros(Z.shape[1]), base), None, -np.inf
    for precision in sorted(PRECISIONS, reverse=True):
        theta, evidence = _settled(design, y, weight, precision, theta)
        if evidence > highest:
            best, highest = theta, evidence
        elif best is not None and evidence < highest - 3:
            break
    assert best is not None
    return best[:-1], float(best[-1])


def _settled(design: Floats, y: Floats, weight: float, precision: float, start: Floats) -> tuple[Floats, float]:
    """The maximum of the penalised likelihood by Newton's method, and the log of the evidence there; the intercept is free."""
    penalty = np.full(design.shape[1], precision)
    penalty[-1] = 0.0

    def objective(at: Floats) -> float:
        eta = design @ at
        return float(weight * (np.logaddexp(0.0, eta) - y * eta).sum() + 0.5 * penalty @ at**2)

    theta, value = start.copy(), objective(start)
    for _ in range(50):
        p = sigmoid(design @ theta)
        gradient = weight * (design.T @ (p - y)) + penalty * theta
        curvature = weight * ((design.T * (p * (1 - p))) @ design) + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        if float(gradient @ step) < 1e-6 * (1 + abs(value)):
            break
        while (lower := objective(theta - step)) > value and np.abs(step).max() > 1e-12:
            step /= 2
        theta, value = theta - step, lower
    return theta, -value + 0.5 * (len(theta) - 1) * np.log(precision) - 0.5 * float(np.linalg.slogdet(curvature)[1])


def _centred(kind: str, names: Sequence[str], intercept: float, terms: Sequence[Term], X: NDArray[np.floating]) -> Scorecard:
    """A card whose terms are nought on average over the training rows: what is left is the intercept."""
    places = {name: place for place, name in enumerate(names)}
    centred = []
    for term in terms:
        mean = float(term.of(np.asarray(X[:, places[term.name]], dtype=np.float64)).mean()) if len(X) else 0.0
        moved = tuple(point - mean for point in term.points)
        centred.append(Term(term.name, term.knots, moved, term.missing - mean, term.steps))
        intercept += mean
    return Scorecard(kind, tuple(names), intercept, tuple(centred))
