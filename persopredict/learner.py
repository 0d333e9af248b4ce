"""The learner inside a predictor: LightGBM by default, any scikit-learn classifier on demand. All is seen as a raw score in log-odds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import Problem, SpecificationError

if TYPE_CHECKING:
    import lightgbm as lgb

    from persopredict.contributions import TreeContributions

Floats = NDArray[np.float64]

#: One configuration for every trade and size. Small trees, slow learning and strong averaging: customer logs are noisy, snapshots of one
#: customer resemble each other, and a model that is refitted every few weeks must not change its mind with each. `benchmarks/defaults.md`
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
#: The same for pairs of customers and categories: they are many more, and what they have in common is finer.
PAIR_DEFAULTS: dict[str, Any] = {
    "n_estimators": 200,
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_child_samples": 200,
    "colsample_bytree": 0.5,
    "subsample": 0.5,
    "subsample_freq": 1,
    "reg_lambda": 10.0,
    "max_bin": 127,
}
#: Values (rows times features) from which on LightGBM gets OpenMP's number of threads; below, one.
_WORTH_THREADS = 20_000_000
#: Rows from which on contributions are looked up in tables; for fewer, LightGBM's own way is faster than making these
#: (`benchmarks/reasons.md`). The number of rows alone decides, not whether tables are at hand: equal questions get equal answers.
MANY_ROWS = 2_000


class Scorer(Protocol):
    """A fitted model. `kind`: what it is, as in `model_kind`. `names`: the columns that it reads, in order."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it reads."""

    def logits(self, X: NDArray[np.floating]) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""

    def contributions(self, X: NDArray[np.floating]) -> Floats:
        """What each column adds to the raw score, and the base value last: shape (rows, columns + 1), in log-odds; they add up to it.

        Raises `SpecificationError` where the model can't tell.
        """

    @property
    def importance(self) -> Floats:
        """How much each column counts, shape (columns,); raises `SpecificationError` where the model can't tell."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; raises `SpecificationError` for what is kept otherwise, or can't be."""


class BoosterScorer:
    """LightGBM trees."""

    kind = "lightgbm"

    def __init__(self, booster: lgb.Booster) -> None:
        self.booster = booster

    @classmethod
    def from_text(cls, text: str) -> BoosterScorer:
        """The trees that `text` wrote; raises `SpecificationError` if it is no whole model."""
        import lightgbm as lgb

        # LightGBM reads a text that was cut off as a smaller model, or ends the process.
        if not (text.startswith("tree\n") and "\nend of trees\n" in text and "\nend of parameters\n" in text):
            raise SpecificationError("this is not the whole text of a LightGBM model")
        try:
            return cls(lgb.Booster(model_str=text))
        except lgb.basic.LightGBMError as error:
            raise SpecificationError(f"LightGBM can't read the model: {error}") from None

    @property
    def text(self) -> str:
        """The model as LightGBM's text."""
        return str(self.booster.model_to_string())

    def to_dict(self) -> dict[str, Any]:
        """Refused: trees are kept as LightGBM's own `text`."""
        raise SpecificationError("LightGBM's trees are kept as text")

    @property
    def names(self) -> tuple[str, ...]:
        """The features that it reads, in order."""
        return tuple(self.booster.feature_name())

    def logits(self, X: NDArray[np.floating]) -> Floats:
        """Raw scores in log-odds, shape (rows,)."""
        return self._scale * np.asarray(self.booster.predict(X, raw_score=True), dtype=np.float64) if len(X) else np.zeros(0)

    def contributions(self, X: NDArray[np.floating]) -> Floats:
        """SHAP values of the trees (Lundberg et al. 2020, path-dependent), and the base value last.

        Few rows LightGBM answers itself (``pred_contrib``), `MANY_ROWS` or more `contributions.TreeContributions`: what both say of a row
        differs by rounding (less than 1e-9). Raises `SpecificationError` for ``linear_tree``.
        """
        if self._linear:
            text = "leaves are linear models, of which LightGBM does not say what counts"
            raise SpecificationError(
                "the model has no reasons", [Problem("linear_tree", text, remedy="leave linear_tree out of its parameters")]
            )
        if not len(X):
            return np.zeros((0, len(self.names) + 1))
        if len(X) >= MANY_ROWS and self._tables is not None:
            found = self._tables(X)
        else:
            found = np.asarray(self.booster.predict(X, pred_contrib=True), dtype=np.float64)
        return found if self._scale == 1 else self._scale * found

    @cached_property
    def _scale(self) -> float:
        from persopredict import trees

        return trees.scale(self.text)

    @cached_property
    def _linear(self) -> bool:
        from persopredict import trees

        return trees.linear(self.text)

    @cached_property
    def _tables(self) -> TreeContributions | None:
        """What many rows are looked up in; None for trees that only LightGBM can explain."""
        from persopredict import contributions, trees

        found = trees.read(self.text)
        return None if found is None else contributions.TreeContributions.of(found, len(self.names))

    @property
    def importance(self) -> Floats:
        """Total gain of each feature."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)


class EstimatorScorer:
    """A user's own scikit-learn classifier."""

    def __init__(self, estimator: Any, names: Sequence[str]) -> None:
        self.estimator, self.names = estimator, tuple(names)
        self.kind = type(estimator).__name__

    def logits(self, X: NDArray[np.floating]) -> Floats:
        """The log-odds of `predict_proba`, kept finite; raises `SpecificationError` where it gives no probabilities of two classes."""
        from persopredict.calibration import logit

        if not len(X):
            return np.zeros(0)
        found = np.asarray(self.estimator.predict_proba(X), dtype=np.float64)
        if found.shape != (len(X), 2) or not ((found >= 0) & (found <= 1)).all():
            text = f"predict_proba of {self.kind} gave an array of shape {found.shape} for {len(X):,} rows"
            if found.shape == (len(X), 2):
                text = f"predict_proba of {self.kind} gave values that are not between 0 and 1"
            remedy = "give a classifier that gives each row the probabilities of 0 and 1"
            raise SpecificationError("the estimator can't be used", [Problem("bad_probabilities", text, remedy=remedy)])
        return logit(np.clip(found[:, 1], 1e-9, 1 - 1e-9))

    def to_dict(self) -> dict[str, Any]:
        """Refused: whatever a user gives is in memory alone."""
        raise SpecificationError(f"the learner is {self.kind}, not LightGBM: only models that are text can be kept")

    def contributions(self, X: NDArray[np.floating]) -> Floats:
        """Refused: reasons need trees, or one of the library's own models."""
        raise SpecificationError(f"the learner is {self.kind}, not LightGBM: it has no reasons")

    @property
    def importance(self) -> Floats:
        """Refused, as reasons are."""
        raise SpecificationError(f"the learner is {self.kind}, not LightGBM: it does not say what counts")


def explains(scorer: Scorer) -> bool:
    """Whether a model can tell what counts."""
    try:
        scorer.contributions(np.empty((0, len(scorer.names))))
    except SpecificationError:
        return False
    return True


def default_estimator(random_state: int, defaults: Mapping[str, Any] = DEFAULTS, **changes: Any) -> Any:
    """LightGBM with our defaults."""
    import lightgbm as lgb

    return lgb.LGBMClassifier(
        **{**defaults, **changes}, random_state=random_state, deterministic=True, force_row_wise=True, verbose=-1, importance_type="gain"
    )


def estimator_problems(estimator: Any) -> list[Problem]:
    """What keeps `estimator` from being one of ours, without importing anything: a class, no scikit-learn estimator, no classifier."""
    name = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
    if isinstance(estimator, type):
        return [Problem("estimator_class", f"{name} is a class", remedy=f"give an estimator, like {name}()")]
    if not (hasattr(estimator, "get_params") and hasattr(estimator, "fit")):
        return [Problem("not_an_estimator", f"a {name} is no scikit-learn estimator", remedy="give a classifier like LGBMClassifier()")]
    if not hasattr(estimator, "predict_proba"):
        remedy = "give a classifier; where one needs to be told to give probabilities, tell it"
        return [Problem("no_predict_proba", f"{name} has no predict_proba", remedy=remedy)]
    return []


def fit(
    estimator: Any,
    X: NDArray[np.floating],
    y: NDArray[np.int8],
    names: Sequence[str],
    random_state: int = 0,
    weight: NDArray[np.floating] | None = None,
) -> Scorer:
    """Fit a clone of `estimator`, with what its owner left open settled so that the same data gives the same model.

    Parameters
    ----------
    estimator : a scikit-learn classifier; each of its seeds that is None becomes `random_state`.
    X : features, shape (rows, features), nan where null.
    y : labels 0 and 1, both present, shape (rows,).
    names : of the features.
    weight : how many rows each row stands for, shape (rows,); default one.

    LightGBM promises the same trees for any number of threads if it is `deterministic`; it is made so unless its owner decided otherwise.

    Raises `SpecificationError` if it is not a classifier with `predict_proba`, or refuses the data.
    """
    if problems := estimator_problems(estimator):
        raise SpecificationError("the estimator can't be used", problems)
    from sklearn.base import clone

    fresh = clone(estimator)
    given = fresh.get_params()
    fresh.set_params(**{key: random_state for key, value in given.items() if value is None and key.rpartition("__")[2] == "random_state"})
    import lightgbm as lgb

    weighed: dict[str, Any] = {} if weight is None or (weight == 1).all() else {_weight_of(fresh): weight}
    try:
        if isinstance(fresh, lgb.LGBMClassifier):
            fresh.set_params(**_settled(given, X.size))
            return BoosterScorer(fresh.fit(X, y, feature_name=list(names), **weighed).booster_)
        return EstimatorScorer(fresh.fit(X, y, **weighed), names)
    except (ValueError, TypeError, lgb.basic.LightGBMError) as error:
        text = f"{type(estimator).__name__} refused {len(y):,} snapshots of {len(names)} features"
        remedy = "mend its parameters"
        if np.isnan(X).any() and not isinstance(fresh, lgb.LGBMClassifier):
            remedy = "features hold nulls: put an imputer before it, or give them a fallback"
        if weighed and "sample_weight" in str(error):
            remedy = "rows are drawn from many and weighted: give a classifier whose fit takes sample_weight"
        problem = Problem("estimator_refused", text, example=str(error).strip().split("\n")[0], remedy=remedy)
    raise SpecificationError("the estimator can't be fitted", [problem])


def _weight_of(estimator: Any) -> str:
    """The argument of `fit` that takes the weights of rows; in a pipeline its last step does."""
    from sklearn.pipeline import Pipeline

    steps = []
    while isinstance(estimator, Pipeline):
        step, estimator = estimator.steps[-1]
        steps.append(step)
    return "__".join([*steps, "sample_weight"])


def _settled(given: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What a LightGBM classifier's owner left open."""
    chosen: dict[str, Any] = {key: value for key, value in (("deterministic", True), ("verbose", -1)) if key not in given}
    if not {"force_row_wise", "force_col_wise"} & set(given):
        chosen["force_row_wise"] = True
    if given.get("n_jobs") is None:
        # Threads that wait for each other spin: on small data, or beside another process, two take longer than one.
        chosen["n_jobs"] = 1 if size < _WORTH_THREADS else 0
    return chosen


def recipe(estimator: Any, *parts: Any) -> str:
    """A digest of how a model is made: the estimator's parameters and `parts` (target, features asked for, calibration)."""
    settings = {
        "estimator": type(estimator).__name__,
        "parameters": {key: repr(value) for key, value in sorted(estimator.get_params().items())},
    }
    text = json.dumps([settings, *parts], sort_keys=True, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]
