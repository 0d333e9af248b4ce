"""Kinds of models that compete for a target, simplest first, and the baselines that all of them have to beat.

Where the outcome is rare or the log is short, trees learn noise, and a rule or a regression on coarse features says more. Which one serves
does not follow from a number of positives, but from what each said about cutoffs that it had not seen: the lowest log-loss there wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from persopredict import learner, scorecard
from persopredict.baselines import BaseRate, BestRule
from persopredict.btyd import ActiveRule
from persopredict.concepts import measure_of
from persopredict.errors import SpecificationError
from persopredict.features.spec import Feature
from persopredict.learner import Scorer
from persopredict.scorecard import Scorecard
from persopredict.targets import Churn, Conversion, Target

if TYPE_CHECKING:
    from datetime import datetime

Floats = NDArray[np.float64]
Kind = Literal["base_rate", "rule", "btyd", "logistic", "lightgbm"]

#: Simplest first.
KINDS: tuple[Kind, ...] = get_args(Kind)
#: What serves where nothing could be tested yet: its shrinkage comes from the training rows alone.
UNTESTED: Kind = "logistic"
#: The kind that takes an estimator.
TREES: Kind = "lightgbm"


def competing(target: Target) -> tuple[Kind, ...]:
    """The kinds that may answer a target: "btyd" where its event repeats.

    >>> competing(Churn("purchase", "28d")), competing(Conversion("signup", "28d", once=True))
    (('base_rate', 'rule', 'btyd', 'logistic', 'lightgbm'), ('base_rate', 'rule', 'logistic', 'lightgbm'))
    """
    return tuple(kind for kind in KINDS if kind != "btyd" or repeats(target))


def repeats(target: Target) -> bool:
    """Whether the event that is predicted can come again and again."""
    return isinstance(target, Churn) or (isinstance(target, Conversion) and not target.once)


def best(losses: Mapping[str, float], competing: Sequence[str] = KINDS) -> str:
    """Of the kinds that compete the one with the lowest log-loss, of equals the first; where nothing was tested `UNTESTED` or the only one.

    >>> best({"rule": 0.31, "logistic": 0.29, "lightgbm": 0.29}), best({}), best({}, ["given"])
    ('logistic', 'logistic', 'given')
    """
    if losses:
        return min(competing, key=lambda kind: losses.get(kind, float("inf")))
    return UNTESTED if UNTESTED in competing else competing[-1]


@dataclass(frozen=True, eq=False)
class Rhythm:
    """BG/NBD as a model of its own; see `learner.Scorer`.

    `names`: the three columns that it reads. `rule`: fitted. `usual`: the median training row, to which a customer is compared.
    """

    names: tuple[str, ...]
    rule: ActiveRule
    usual: tuple[float, ...]

    kind = "btyd"

    def logits(self, X: NDArray[np.floating]) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""
        return self.rule.logits(X)

    def contributions(self, X: NDArray[np.floating]) -> Floats:
        """What each of the three columns adds to the score of the usual customer, which comes last, shape (rows, 4): Shapley's values
        (1953), exact, for there are eight ways only to take columns from either.
        """
        rows, usual = np.asarray(X, dtype=np.float64), np.asarray(self.usual)
        score = {taken: self.logits(np.where(np.array(taken), rows, usual)) for taken in np.ndindex(2, 2, 2)}
        found = np.empty((len(rows), 4))
        found[:, -1] = score[0, 0, 0]
        for place in range(3):
            found[:, place] = 0.0
            for taken, before in score.items():
                if not taken[place]:
                    joined = tuple(1 if number == place else each for number, each in enumerate(taken))
                    found[:, place] += (score[joined] - before) / (3 if sum(taken) != 1 else 6)
        return found

    @property
    def importance(self) -> Floats:
        """The model is of one piece: all three columns alike, shape (3,)."""
        return np.full(3, 1 / 3)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"kind": self.kind, "names": list(self.names), "rule": self.rule.to_dict(), "usual": [_plain(value) for value in self.usual]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rhythm:
        """The inverse of `to_dict`."""
        usual = tuple(float("nan") if value is None else float(value) for value in values["usual"])
        return cls(tuple(values["names"]), ActiveRule.from_dict(values["rule"]), usual)


def from_dict(values: Mapping[str, Any]) -> Scorecard | Rhythm:
    """The scorer that `to_dict` of one wrote; raises `SpecificationError` for a kind that is none."""
    if values.get("kind") == Rhythm.kind:
        return Rhythm.from_dict(values)
    if values.get("kind") not in ("base_rate", "rule", "logistic"):
        raise SpecificationError(f"no kind of model {values.get('kind')!r}")
    return Scorecard.from_dict(values)


@dataclass(frozen=True, eq=False)
class Taught:
    """What a model learns from: rows of `features`, the first `asked` of which are those that trees and regressions may read.

    `X`: (rows, features), nan where null. `y`: labels 0 and 1; `customer`, `cutoff`: who, and when in integer
    microseconds; all (rows,). `overlap`: how many labels of one customer
    hold the same events.
    """

    target: Target
    features: tuple[Feature, ...]
    asked: int
    X: Floats
    y: NDArray[np.int8]
    customer: NDArray[Any]
    cutoff: NDArray[np.int64]
    overlap: float

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""
        return tuple(feature.name for feature in self.features)

    def columns(self, names: Sequence[str]) -> list[int]:
        """The places of these features."""
        places = {name: place for place, name in enumerate(self.names)}
        return [places[name] for name in names]

    def scorer(self, kind: str, estimator: Any, random_state: int) -> Scorer:
        """A model of this kind; "btyd" for a target whose event repeats."""
        return _FITS[kind](self, estimator, random_state)

    @cached_property
    def rivals(self) -> Rivals:
        """The baselines, fitted once: two of them are kinds of models as well."""
        names = tuple(feature.name for feature in self.features if feature.aggregate in ("recency", "count"))
        rule = BestRule.fit(self.X[:, self.columns(names)], names, self.y)
        return Rivals(BaseRate.fit(self.y), rule, self._rhythm() if repeats(self.target) else None, rhythm_columns(self.target))

    def _rhythm(self) -> ActiveRule:
        days = [duration.approximate.total_seconds() / 86_400 for duration in (self.target.horizon, self.target.gap)]
        active, recency, tenure = self.X[:, self.columns(rhythm_columns(self.target))].T
        churn = isinstance(self.target, Churn)
        return ActiveRule.fit(active, recency, tenure, self.y, self.customer, horizon_days=days[0], gap_days=days[1], churn=churn)


def rhythm_features(target: Target) -> tuple[Feature, ...]:
    """The features that BG/NBD reads; none where the event does not repeat."""
    return ActiveRule.columns_for(target) if repeats(target) else ()


def with_rhythm(features: Sequence[Feature], target: Target) -> tuple[Feature, ...]:
    """The features, then those that BG/NBD reads and that are not among them."""
    held = {feature.name for feature in features}
    return (*features, *(feature for feature in rhythm_features(target) if feature.name not in held))


def rhythm_columns(target: Target) -> tuple[str, ...]:
    """Their names."""
    return tuple(feature.name for feature in rhythm_features(target))


def overlap(cutoffs: Sequence[datetime], target: Target) -> float:
    """How many labels of a customer hold the same events, where cutoffs lie closer than the horizon; at least 1.

    >>> from datetime import datetime
    >>> overlap([datetime(2024, 1, 1), datetime(2024, 1, 15), datetime(2024, 1, 29)], Churn("purchase", "28d"))
    2.0
    """
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(cutoffs)]
    return max(1.0, target.horizon.approximate.total_seconds() / median(steps)) if steps else 1.0


@dataclass(frozen=True, eq=False)
class Rivals:
    """The baselines, fitted: the base rate, the best rule of one recency or count, and BG/NBD where the event repeats (else None)."""

    rate: BaseRate
    rule: BestRule
    active: ActiveRule | None
    columns: tuple[str, ...]

    def predict(self, X: NDArray[np.floating], names: Sequence[str]) -> dict[str, Floats]:
        """The probability of each baseline by name, shape (rows,); `X`: columns `names`, shape (rows, names)."""
        places = {name: place for place, name in enumerate(names)}
        rows = np.asarray(X, dtype=np.float64)
        found = {"base_rate": self.rate.predict(len(rows)), "best_rule": self.rule.predict(rows[:, [places[c] for c in self.rule.columns]])}
        if self.active is not None:
            found[self.active.name] = self.active.predict(*rows[:, [places[c] for c in self.columns]].T)
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        active = None if self.active is None else self.active.to_dict()
        return {"base_rate": self.rate.to_dict(), "rule": self.rule.to_dict(), "active": active, "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rivals:
        """The inverse of `to_dict`."""
        active = None if values["active"] is None else ActiveRule.from_dict(values["active"])
        return cls(BaseRate.from_dict(values["base_rate"]), BestRule.from_dict(values["rule"]), active, tuple(values["columns"]))


def _base_rate(taught: Taught, estimator: Any, random_state: int) -> Scorer:
    return scorecard.base_rate(taught.y, ())


def _rule(taught: Taught, estimator: Any, random_state: int) -> Scorer:
    found = taught.rivals.rule
    names = () if found.column is None else (found.column,)
    return scorecard.rule(found, taught.X[:, taught.columns(names)], names)


def _btyd(taught: Taught, estimator: Any, random_state: int) -> Scorer:
    names = rhythm_columns(taught.target)
    X = taught.X[:, taught.columns(names)]
    known = X[~np.isnan(X).any(axis=1)]
    usual = np.median(known, axis=0) if len(known) * 2 >= len(X) else np.array([0.0, np.nan, np.nan])
    assert taught.rivals.active is not None
    return Rhythm(names, taught.rivals.active, tuple(usual.tolist()))


def _logistic(taught: Taught, estimator: Any, random_state: int) -> Scorer:
    numbers: dict[tuple[object, ...], int] = {}
    asked = taught.features[: taught.asked]
    groups = [numbers.setdefault(measure_of(feature), len(numbers)) for feature in asked]
    names = [feature.name for feature in asked]
    rows = taught.X[:, : taught.asked]
    return scorecard.fit_logistic(
        rows, taught.y, names, groups=groups, weight=1 / taught.overlap, customer=taught.customer, cutoff=taught.cutoff
    )


def _estimator(taught: Taught, estimator: Any, random_state: int) -> Scorer:
    rows = taught.X if taught.asked == taught.X.shape[1] else taught.X[:, : taught.asked]
    return learner.fit(estimator, rows, taught.y, taught.names[: taught.asked], random_state)


_FITS: Mapping[str, Callable[[Taught, Any, int], Scorer]] = {
    "base_rate": _base_rate,
    "rule": _rule,
    "btyd": _btyd,
    "logistic": _logistic,
    "lightgbm": _estimator,
}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
