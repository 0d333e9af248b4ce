"""The learner inside a predictor: LightGBM by default, any scikit-learn classifier on demand. Everything is seen as a raw score in log-odds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import SpecificationError

if TYPE_CHECKING:
    import lightgbm as lgb

Floats = NDArray[np.float64]

#: One configuration for every trade and size. Small trees, slow learning and strong averaging: customer logs are noisy, snapshots of one
#: customer resemble each other, and a model that is refitted every few weeks must not change its mind with each. `benchmarks/quality.md`
#: holds the table that decided.
DEFAULTS: dict[str, Any] = {
    "n_estimators": 150,
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_child_samples": 50,
    "colsample_bytree": 0.5,
    "subsample": 0.7,
    "subsample_freq": 1,
    "reg_lambda": 10.0,
}


class Scorer(Protocol):
    """A fitted learner."""

    kind: str

    def logits(self, X: Floats) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""


class BoosterScorer:
    """LightGBM trees."""

    kind = "lightgbm"

    def __init__(self, booster: lgb.Booster) -> None:
        self.booster = booster

    @classmethod
    def from_text(cls, text: str) -> BoosterScorer:
        """The trees that `text` wrote."""
        import lightgbm as lgb

        return cls(lgb.Booster(model_str=text))

    @property
    def text(self) -> str:
        """The model as LightGBM's text."""
        return str(self.booster.model_to_string())

    def logits(self, X: Floats) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""
        return np.asarray(self.booster.predict(X, raw_score=True), dtype=np.float64) if len(X) else np.zeros(0)


class EstimatorScorer:
    """A user's own scikit-learn classifier."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.kind = type(estimator).__name__

    def logits(self, X: Floats) -> Floats:
        """The log-odds of `predict_proba`, kept finite."""
        from persopredict.calibration import logit

        if not len(X):
            return np.zeros(0)
        return logit(np.clip(np.asarray(self.estimator.predict_proba(X), dtype=np.float64)[:, 1], 1e-9, 1 - 1e-9))


def default_estimator(random_state: int, **changes: Any) -> Any:
    """LightGBM with our defaults; deterministic for the same data, platform, versions and number of threads."""
    import lightgbm as lgb

    settings = {**DEFAULTS, **changes}
    return lgb.LGBMClassifier(
        **settings, random_state=random_state, deterministic=True, force_row_wise=True, verbose=-1, importance_type="gain"
    )


def fit(estimator: Any, X: Floats, y: NDArray[np.int8], names: Sequence[str]) -> Scorer:
    """Fit a clone of `estimator`.

    Raises `SpecificationError` if it is not a classifier with `predict_proba`.
    """
    from sklearn.base import clone

    fresh = clone(estimator)
    if not hasattr(fresh, "predict_proba"):
        raise SpecificationError(f"{type(estimator).__name__} has no predict_proba; give a classifier")
    import lightgbm as lgb

    if isinstance(fresh, lgb.LGBMClassifier):
        fresh.fit(X, y, feature_name=list(names))
        return BoosterScorer(fresh.booster_)
    fresh.fit(X, y)
    return EstimatorScorer(fresh)


def recipe(estimator: Any, *parts: Any) -> str:
    """A digest of how a model is made: the estimator's parameters and `parts` (target, features asked for, calibration)."""
    settings = {
        "estimator": type(estimator).__name__,
        "parameters": {key: repr(value) for key, value in sorted(estimator.get_params().items())},
    }
    text = json.dumps([settings, *parts], sort_keys=True, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]
