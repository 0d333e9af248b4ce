"""Buy till you die: BG/NBD (Fader, Hardie and Lee 2005), and the baseline that it makes, P(active in the horizon).

While alive a customer does the event at a rate of its own, spread over customers as Gamma(r, alpha); after each repetition it leaves for
good with a probability of its own, spread as Beta(a, b). Three numbers say all that this model knows of a customer: how often it came
back, when it came last, and since when it has been known. It is the rival that a data scientist would write down first.

Written here, because no library would do: `lifetimes` and `btyd` are no longer maintained, and pymc-marketing samples by MCMC and brings
PyMC along. Four parameters by maximum likelihood are a page of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.calibration import Calibrator, logit, sigmoid
from persopredict.errors import Problem, SpecificationError
from persopredict.features.spec import Feature
from persopredict.targets import Target

Floats = NDArray[np.float64]

#: Of customers who repeat, and of those who don't: four numbers are settled long before a million customers have been read.
MOST_CUSTOMERS = 10_000
#: Fewer customers who came back than this say nothing about how customers come back.
LEAST_REPEATERS = 10
#: How many rows at the base rate the rows of customers who never did the event start with.
PRIOR_ROWS = 20.0
#: Of the prior around its centre, in the logarithm of each parameter: a factor of 50 is two standard deviations away.
_SPREAD = 2.0
#: Of a and b, at the centre of the prior: one in six leaves after a repetition.
_CENTRE = 1.0, 5.0
_PLAIN = ("horizon", "gap", "churn", "rate", "never", "fallback")


@dataclass(frozen=True, slots=True)
class BgNbd:
    """The four parameters, and what they say of customers.

    Parameters
    ----------
    r, alpha : shape, and rate in days, of the Gamma distribution of customers' rates while alive; the mean rate is r / alpha per day.
    a, b : of the Beta distribution of the probability to leave after a repetition; its mean is a / (a + b).

    Of a customer it is given `repeats`, the active days after the first one; `span`, days from the first event to the last; `tenure`, days
    from the first event to the cutoff: all of shape (n,), or all numbers. A nan among them gives nan.

    Raises `SpecificationError` unless all four are positive and finite.

    >>> found = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)  # Of CDs sold online, in weeks: table 2 of the paper.
    >>> found.expected(2, 30.43, 38.86, horizon=39).round(2).item()  # The example in the authors' spreadsheet note.
    1.23
    >>> BgNbd(1, 1, 0, 1)
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: r 1, alpha 1, a 0, b 1: all four must be positive and finite
    """

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value > 0 for value in (self.r, self.alpha, self.a, self.b)):
            raise SpecificationError(f"r {self.r}, alpha {self.alpha}, a {self.a}, b {self.b}: all four must be positive and finite")

    @classmethod
    def fit(cls, repeats: ArrayLike, span: ArrayLike, tenure: ArrayLike) -> BgNbd | None:
        """The likeliest parameters under a weak prior; None where fewer than 10 customers repeat, or no time has passed.

        `repeats`, `span`, `tenure`: of each customer once, shape (n,). Customers with a missing, infinite or negative value say nothing.

        The logarithm of each parameter has a normal prior: standard deviation 2, so that a factor of 50 either way is two of them, around
        r = 1, alpha = the days of tenure per repetition, a = 1, b = 5. It decides nothing where many repeat, and keeps the answer finite
        where nobody leaves or all are alike. Of those who repeat and of those who don't, 10,000 each are read at most, evenly spread in the
        order of repeats, span and tenure, and weigh as many as they stand for: the order of the rows does not matter, nothing is random.
        Raises `SpecificationError` if the shapes differ.

        >>> BgNbd.fit([0, 0, 1], [0, 0, 20], [50, 60, 70]) is None
        True
        """
        x, first_to_last, known, weight = _telling(*_columns(repeats, span, tenure))
        if np.count_nonzero(x) < LEAST_REPEATERS or not known.any():
            return None
        return _likeliest(x, first_to_last, known, weight)

    def alive(self, repeats: ArrayLike, span: ArrayLike, tenure: ArrayLike) -> Floats:
        """P(has not left by the cutoff), shape (n,): 1 for those who never repeated, who had no occasion to leave.

        >>> BgNbd(1, 10, 1, 5).alive([0, 5, 5], [0, 40, 40], [50, 50, 400]).round(3).tolist()
        [1.0, 0.751, 0.0]
        """
        x, first_to_last, known = _columns(repeats, span, tenure)
        again = x > 0
        silence = np.log(self.alpha + known) - np.log(self.alpha + first_to_last)
        odds = math.log(self.a) - np.log(np.where(again, self.b + x - 1, 1.0)) + (self.r + x) * silence
        return np.where(again, sigmoid(-odds), np.where(np.isnan(x + first_to_last + known), np.nan, 1.0))

    def active(self, repeats: ArrayLike, span: ArrayLike, tenure: ArrayLike, *, horizon: float, gap: float = 0.0) -> Floats:
        """P(at least one event within ``[cutoff + gap, cutoff + gap + horizon)``), shape (n,); both in days.

        Exact. Of a customer who is alive the rate follows Gamma(r + x, alpha + T), and leaving Beta(a, b + x), independently. Within a gap,
        one that leaves with probability p at each of its events is still there after it with probability exp(-rate p gap).
        Raises `SpecificationError` for a negative horizon or gap.

        >>> BgNbd(1, 10, 1, 5).active([0, 5], [0, 40], [50, 50], horizon=28).round(3).tolist()
        [0.318, 0.675]
        """
        length, wait = _days("horizon", horizon), _days("gap", gap)
        x, _, known = _columns(repeats, span, tenure)
        shape, rate = self.r + x, self.alpha + known
        if not wait:
            soon = -np.expm1(-shape * np.log1p(length / rate))
        else:
            # Here at the end of the gap, less here at its end and then silent.
            silent = np.exp(-shape * np.log1p(length / rate)) * self._stays(shape, x, wait / (rate + length))
            soon = np.clip(self._stays(shape, x, wait / rate) - silent, 0.0, 1.0)
        return np.asarray(self.alive(repeats, span, tenure) * soon, dtype=np.float64)

    def expected(self, repeats: ArrayLike, span: ArrayLike, tenure: ArrayLike, *, horizon: float) -> Floats:
        """Expected number of events within `horizon` days of the cutoff, shape (n,).

        Equation (10) of the paper divides by a - 1, and loses all digits near it. This is the same number as the integral over the horizon
        of the rate at which events come, whose terms are all positive.
        Raises `SpecificationError` for a negative horizon.

        >>> BgNbd(1, 10, 1, 5).expected([0, 5], [0, 40], [50, 50], horizon=28).round(3).tolist()
        [0.435, 1.843]
        """
        length = _days("horizon", horizon)
        x, _, known = _columns(repeats, span, tenure)
        shape, rate = self.r + x, self.alpha + known
        points, weights = np.polynomial.legendre.leggauss(16)
        # Over log(1 + t / rate) the integrand is smooth, however short the history is against the horizon.
        reach = np.log1p(length / rate)
        total = np.zeros_like(reach)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            at = point * reach
            total += weight * np.exp(at) * self._stays(shape + 1, x, np.expm1(at))
        return np.asarray(self.alive(repeats, span, tenure) * shape * reach * total, dtype=np.float64)

    def _stays(self, shape: Floats, x: Floats, z: Floats) -> Floats:
        """The mean of (1 + p z) ** -shape over p from Beta(a, b + x): Gauss's 2F1(shape, a; a + b + x; -z).

        By either of Pfaff's transformations its argument comes into [0, 1); the one taken is the one whose series stays bounded there.
        """
        from scipy.special import hyp2f1

        c, v = self.a + self.b + x, z / (1 + z)
        first = self.a <= shape
        left, right = np.where(first, self.a, shape), np.where(first, c - shape, self.b + x)
        scaled = np.exp(-left * np.log1p(z)) * hyp2f1(left, right, c, v)
        return np.asarray(scaled, dtype=np.float64)

    def to_dict(self) -> dict[str, float]:
        """JSON-safe: r, alpha, a, b."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BgNbd:
        """The inverse of `to_dict`."""
        return cls(*(float(values[name]) for name in ("r", "alpha", "a", "b")))


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """The baseline: BG/NBD's P(active in the horizon), or of churn one minus it, then Platt scaling on the training labels.

    Attributes
    ----------
    horizon, gap : of the label, in days. `churn`: whether label 1 means no event.
    model : the four parameters; None where it falls back to the base rate.
    calibrator : of the logits of the model's probability.
    rate : the base rate of the training rows, with half a positive and half a negative added.
    never : the rate of rows of customers who never did the event, as if 20 rows more at the base rate were among them.
    fallback : why it falls back to the base rate, one sentence; "" where it does not.

    >>> rng = np.random.default_rng(0)
    >>> days, tenure = rng.poisson(3, 500) + 1, rng.uniform(50, 100, 500)
    >>> recency = np.where(days > 1, tenure * rng.random(500), tenure)
    >>> y = rng.random(500) < np.where(recency < 30, 0.8, 0.1)
    >>> rule = ActiveRule.fit(days, recency, tenure, y, np.arange(500), horizon_days=28)
    >>> rule.predict([4, 4, 0], [5, 80, np.nan], [90, 90, np.nan]).round(2).tolist()
    [0.63, 0.05, 0.38]
    >>> ActiveRule.fit(days[:5], recency[:5], tenure[:5], y[:5], np.arange(5), horizon_days=28).fallback
    '4 customers did it again, of the 10 that it takes'
    """

    horizon: float
    gap: float
    churn: bool
    model: BgNbd | None
    calibrator: Calibrator
    rate: float
    never: float
    fallback: str = ""

    name = "bg_nbd"

    @staticmethod
    def columns_for(target: Target) -> tuple[Feature, Feature, Feature]:
        """The features that it reads: active days of the target's event, days since its last, days since its first, of all time.

        >>> from persopredict.targets import Churn
        >>> [feature.name for feature in ActiveRule.columns_for(Churn("purchase", "28d"))]
        ['distinct_day_purchase_all', 'recency_purchase_all', 'tenure_purchase_all']
        """
        where = target.outcome
        last, first = (Feature(aggregate, where=where, fallback=None) for aggregate in ("recency", "tenure"))
        return Feature("distinct", "day", where=where, fallback=0), last, first

    @classmethod
    def fit(
        cls,
        days: ArrayLike,
        recency: ArrayLike,
        tenure: ArrayLike,
        y: ArrayLike,
        customer: ArrayLike,
        *,
        horizon_days: float,
        gap_days: float = 0.0,
        churn: bool = False,
    ) -> ActiveRule:
        """Learn from the training snapshots.

        Parameters
        ----------
        days, recency, tenure : the columns of `columns_for`, shape (n,), nan where the customer never did the event.
        y : labels 0 or 1, shape (n,).
        customer : anything that tells customers apart, shape (n,). The likelihood takes each customer once, in the row of the longest
            tenure, for one history says nothing twice; the calibration takes all rows.
        horizon_days, gap_days : of the label.
        churn : whether label 1 means that the event does not come.

        Falls back to the base rate, and says why in `fallback`, where fewer than 10 customers repeat, where all labels of those who did
        the event are alike, or where the likelihood has no maximum.
        Raises `SpecificationError` if the shapes differ, a label is not 0 or 1, or a duration is negative.
        """
        who = np.unique(np.asarray(customer), return_inverse=True)[1]
        *columns, labels, _ = _alike(days=days, recency=recency, tenure=tenure, y=y, customer=who)
        if not np.isin(labels, (0.0, 1.0)).all():
            raise SpecificationError("labels must be 0 or 1, shape (n,); leave out rows without a label")
        X = np.stack(columns, axis=1)
        known = _known(X)
        rate = float((labels.sum() + 0.5) / (len(labels) + 1))
        absent = labels[~known]
        never = float((absent.sum() + PRIOR_ROWS * rate) / (len(absent) + PRIOR_ROWS))
        lengths = _days("horizon_days", horizon_days), _days("gap_days", gap_days)
        histories = _repeated(X[known][_last_rows(X[known], who[known])])
        model, repeaters = BgNbd.fit(*histories), int(np.count_nonzero(histories[0]))
        if reason := _reason(repeaters, labels[known], model):
            return cls(*lengths, churn, None, Calibrator(), rate, rate, reason)
        raw = cls(*lengths, churn, model, Calibrator(), rate, never)
        calibrator = Calibrator.fit("platt", raw._uncalibrated(X[known]), labels[known])
        return cls(*lengths, churn, model, calibrator, rate, never)

    def predict(self, days: ArrayLike, recency: ArrayLike, tenure: ArrayLike) -> Floats:
        """P(label is 1), shape (n,), never 0 or 1 exactly; the columns are those of `fit`."""
        X = np.stack(_alike(days=days, recency=recency, tenure=tenure), axis=1)
        if self.model is None:
            return np.full(len(X), self.rate)
        known = _known(X)
        found = np.full(len(X), self.never)
        found[known] = self.calibrator.apply(self._uncalibrated(X[known]))
        return found

    def logits(self, X: ArrayLike) -> Floats:
        """The log-odds of `predict`, shape (n,); `X`: the columns of `columns_for` in order, shape (n, 3), else `SpecificationError`."""
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise SpecificationError(f"X has shape {rows.shape}; this rule reads the 3 columns of columns_for")
        return logit(self.predict(*rows.T))

    def _uncalibrated(self, X: Floats) -> Floats:
        assert self.model is not None
        found = logit(np.clip(self.model.active(*_repeated(X), horizon=self.horizon, gap=self.gap), 0.0, 1.0))
        return -found if self.churn else found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        own = {name: getattr(self, name) for name in _PLAIN}
        return {**own, "model": self.model and self.model.to_dict(), "calibrator": self.calibrator.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActiveRule:
        """The inverse of `to_dict`."""
        model = None if values["model"] is None else BgNbd.from_dict(values["model"])
        return cls(model=model, calibrator=Calibrator.from_dict(values["calibrator"]), **{name: values[name] for name in _PLAIN})


def log_likelihood(parameters: ArrayLike, repeats: Floats, span: Floats, tenure: Floats, weight: Floats) -> tuple[float, Floats]:
    """The log-likelihood of (r, alpha, a, b), equation (6) of the paper, and its gradient by their logarithms, shape (4,).

    >>> value, _ = log_likelihood([1, 1, 1, 1], np.zeros(1), np.zeros(1), np.ones(1), np.ones(1))
    >>> round(math.exp(value), 3)  # No event for a day, at a rate from Gamma(1, 1).
    0.5
    """
    from scipy.special import digamma, gammaln

    r, alpha, a, b = np.asarray(parameters, dtype=np.float64).tolist()
    # Combinatorial functions are taken once for each distinct number of repeats.
    x, place = np.unique(repeats, return_inverse=True)
    held = np.bincount(place, weights=weight)
    stayed, silence = np.log(alpha + tenure), np.log(alpha + tenure) - np.log(alpha + span)
    again = repeats > 0
    before = np.where(again, b + repeats - 1, 1.0)
    # Of those who repeated: left right after their last event, against stayed and silent since.
    left = np.where(again, math.log(a) - np.log(before) + (r + repeats) * silence, -np.inf)
    gone = np.where(again, sigmoid(np.where(again, left, 0.0)), 0.0)
    common = gammaln(r + x) - gammaln(r) + r * math.log(alpha) + gammaln(a + b) - gammaln(a + b + x) + gammaln(b + x) - gammaln(b)
    value = held @ common + weight @ (np.logaddexp(0.0, left) - (r + repeats) * stayed)

    both = digamma(a + b) - digamma(a + b + x)
    by_r = held @ (digamma(r + x) - digamma(r) + math.log(alpha)) - weight @ (stayed - gone * silence)
    by_alpha = weight @ (r / alpha - (r + repeats) * ((1 - gone) / (alpha + tenure) + gone / (alpha + span)))
    by_a = held @ both + weight @ gone / a
    by_b = held @ (both + digamma(b + x) - digamma(b)) - weight @ (gone / before)
    return float(value), np.array([by_r * r, by_alpha * alpha, by_a * a, by_b * b])


def _likeliest(x: Floats, span: Floats, tenure: Floats, weight: Floats) -> BgNbd | None:
    from scipy.optimize import minimize

    centre = np.log([1.0, float(weight @ tenure) / float(weight @ x), *_CENTRE])
    repeaters = float(weight @ (x > 0))  # What the likelihood varies with, however many never repeat.

    def objective(theta: Floats) -> tuple[float, Floats]:
        value, gradient = log_likelihood(np.exp(theta), x, span, tenure, weight)
        off = (theta - centre) / _SPREAD
        return (0.5 * float(off @ off) - value) / repeaters, (off / _SPREAD - gradient) / repeaters

    bounds = [(at - 12.0, at + 12.0) for at in centre]  # In logarithms: what lies beyond describes no customers.
    settings = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8}
    found = minimize(objective, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=settings)
    return BgNbd(*np.exp(found.x).tolist()) if np.isfinite(found.x).all() and np.isfinite(found.fun) else None


def _telling(x: Floats, span: Floats, tenure: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The customers that say something, and how many each stands for, in an order that does not depend on that of the rows."""
    says = np.logical_and.reduce([np.isfinite(values) & (values >= 0) for values in (x, span, tenure)])
    x, span, tenure = np.rint(x[says]), span[says], tenure[says]
    order = np.lexsort((tenure, span, x))
    drawn, weight = [], []
    for part in np.split(order, [len(order) - np.count_nonzero(x)]):
        kept = min(len(part), MOST_CUSTOMERS)
        drawn.append(part[(np.arange(kept) * len(part) + len(part) // 2) // max(kept, 1)])
        weight.append(np.full(kept, len(part) / max(kept, 1)))
    chosen = np.concatenate(drawn)
    return x[chosen], span[chosen], tenure[chosen], np.concatenate(weight)


def _columns(repeats: ArrayLike, span: ArrayLike, tenure: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """As floats of one shape; a last event is never after the cutoff."""
    x, first_to_last, known = _alike(repeats=repeats, span=span, tenure=tenure)
    return x, np.minimum(first_to_last, known), known


def _alike(**columns: ArrayLike) -> list[Floats]:
    """The columns as floats; raises `SpecificationError` unless they have one shape."""
    found = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    if len({values.shape for values in found.values()}) > 1:
        shapes = ", ".join(f"{name} has shape {values.shape}" for name, values in found.items())
        raise SpecificationError("the columns don't fit together", [Problem("shapes_differ", shapes, remedy="pass one of each per row")])
    return list(found.values())


def _days(name: str, length: float) -> float:
    if not (math.isfinite(length) and length >= 0):
        raise SpecificationError(f"{name} is {length}; give days, at least 0")
    return float(length)


def _known(X: Floats) -> NDArray[np.bool_]:
    """Rows of customers who did the event."""
    return np.asarray(np.isfinite(X).all(axis=1) & (X[:, 0] >= 1))


def _repeated(X: Floats) -> tuple[Floats, Floats, Floats]:
    """Days, recency and tenure as repeats, span and tenure."""
    return X[:, 0] - 1, np.maximum(X[:, 2] - X[:, 1], 0.0), X[:, 2]


def _last_rows(X: Floats, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each customer the row of the longest tenure."""
    order = np.lexsort((X[:, 0], X[:, 1], X[:, 2], codes))
    return order[np.append(np.flatnonzero(np.diff(codes[order])), len(order) - 1)] if len(order) else order


def _reason(repeaters: int, labels: Floats, model: BgNbd | None) -> str:
    if repeaters < LEAST_REPEATERS:
        return f"{repeaters} customers did it again, of the {LEAST_REPEATERS} that it takes"
    if not 0 < labels.sum() < len(labels):
        return "all customers who did it have one label"
    return "" if model else "the likelihood has no maximum"
