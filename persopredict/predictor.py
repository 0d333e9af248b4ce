"""`Predictor`: from a log to a validated model of one target, and from the model to predictive attributes.

`fit` reads nothing that was not known before `until`: it takes snapshots at rolling cutoffs, trains a fold model for each test cutoff on
cutoffs whose labels had ended by then, chooses the calibration by their out-of-time predictions, grades them, and refits on everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from persopredict import learner
from persopredict.baselines import BestRule
from persopredict.calibration import KINDS, Calibrator, Kind
from persopredict.errors import (
    InSampleError,
    NotFittedError,
    PersopredictError,
    Problem,
    SpecificationError,
    TooLittleDataError,
    did_you_mean,
)
from persopredict.evaluation import Evaluation, FoldPredictions, evaluate
from persopredict.events import EventLog, Moment
from persopredict.explain import contributions, explained
from persopredict.features.builders import default_features, windows_within
from persopredict.features.spec import Feature
from persopredict.learner import BoosterScorer
from persopredict.snapshots import rolling_cutoffs, snapshots
from persopredict.targets import Target, target_from_dict
from persopredict.times import Duration, instant, local_midnight
from persopredict.training import Labelled, Training, embargo, matrix, matured_cutoffs, observed_end, rule_columns

if TYPE_CHECKING:
    import pandas as pd

FILES = ("model.txt", "calibrator.json", "specs.json")


class Predictor:
    """Predicts one target for every eligible customer of a log.

    Parameters
    ----------
    target : `Conversion`, `Churn` or `Cancellation`.
    features : default `default_features(events)` at the time of `fit`, with the target's events among them.
    cutoffs : training and test cutoffs; default `rolling_cutoffs` every half horizon (28 days at most), 26 at most.
    estimator : a scikit-learn classifier, cloned; default LightGBM with our settings. Reasons need LightGBM.
    calibration : ``"auto"`` (none, temperature or Platt, by out-of-time log-loss), or one of these.
    random_state : seed of everything random.

    Attributes after `fit`
    ----------------------
    features_, cutoffs_, trained_until_, scorer_, calibrator_, evaluation_, folds_ (out-of-time predictions; not kept by `save`), baseline_,
    dropped_ (features whose window is longer than the history at the first cutoff), rows_ and positives_ (labelled snapshots), recipe_.

    The same log, configuration, platform and versions give the same model to the byte, whatever the number of threads.

    Raises
    ------
    SpecificationError : with everything that is wrong about the arguments.

    >>> from persopredict.targets import Churn
    >>> Predictor(Churn("purchase", "28d"))
    Predictor(churn_purchase_28d, not fitted)
    """

    def __init__(
        self,
        target: Target,
        *,
        features: Sequence[Feature] | None = None,
        cutoffs: Sequence[Moment] | None = None,
        estimator: Any = None,
        calibration: Literal["auto"] | Kind = "auto",
        random_state: int = 0,
    ) -> None:
        problems = [] if estimator is None else learner.estimator_problems(estimator)
        if calibration not in ("auto", *KINDS):
            remedy = did_you_mean(str(calibration), ("auto", *KINDS))
            problems.append(Problem("calibration", f"there is no calibration {calibration!r}", remedy=remedy))
        given: Any = target
        if not isinstance(given, Target):
            problems.append(Problem("target", f"{given!r} is not a target", remedy="give one like Churn('purchase', '28d')"))
        if features is not None and not (features and all(isinstance(feature, Feature) for feature in features)):
            remedy = "give Features, or leave it out for default_features(events)"
            problems.append(Problem("features", "features must be Features, at least one", remedy=remedy))
        if problems:
            raise SpecificationError("the predictor is described wrongly", problems)
        self.target, self.calibration, self.random_state = target, calibration, random_state
        self.features = None if features is None else tuple(features)
        self.cutoffs = None if cutoffs is None else tuple(cutoffs)
        self.estimator = estimator

    # Fitting -------------------------------------------------------------------------------------------------------------------------

    def fit(self, events: EventLog, until: Moment | None = None) -> Self:
        """Train, validate and calibrate on what was known before `until` (default the last midnight that was observed).

        Raises
        ------
        TooLittleDataError : with code and counts, if nothing can be trained or tested.
        SpecificationError : if features or target don't fit the log.
        """
        end = local_midnight(events.observed[1], events._zone) if until is None else instant(until, events._zone)
        cutoffs = matured_cutoffs(events, self.target, self.cutoffs, end)
        features, dropped = self._features(events, cutoffs[0], end)
        training = Training(events, self.target, features, self._estimator, self.calibration, self.random_state)
        rows = training.rows(cutoffs, end)
        folds, choice = training.calibrated(training.tests(rows))
        rows = rows.labelled()
        evaluation = evaluate(folds, target=self.target.name, calibration=choice, seed=self.random_state)
        baseline, scorer = training.rule(rows), training.fit(rows)
        # A fit that fails leaves what was fitted before as it was.
        self.timezone_, self.trained_until_, self.cutoffs_ = events.timezone, end, tuple(cutoffs)
        self.features_, self.dropped_, self.recipe_ = features, dropped, self.recipe
        self.folds_, self.evaluation_, self.calibrator_ = tuple(folds), evaluation, choice.calibrator
        self.baseline_, self.scorer_ = baseline, scorer
        self.rows_, self.positives_ = len(rows.y), rows.positives
        return self

    @property
    def recipe(self) -> str:
        """A digest of how the model is made: estimator, target, features and cutoffs asked for, calibration. Equal for equal recipes."""
        asked = None if self.features is None else [feature.to_dict() for feature in self.features]
        chosen = None if self.cutoffs is None else [str(cutoff) for cutoff in self.cutoffs]
        return learner.recipe(self._estimator, self.target.to_dict(), asked, chosen, self.calibration)

    @property
    def _estimator(self) -> Any:
        return learner.default_estimator(self.random_state) if self.estimator is None else self.estimator

    def _features(self, events: EventLog, first: datetime, until: datetime) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
        """The features to compute, and those whose window reaches back before the log at the first cutoff."""
        asked = default_features(events, focus=self.target.event_names, until=until) if self.features is None else list(self.features)
        history = first - events.observed_for(self.target)[0]
        kept, dropped = windows_within(asked, Duration(hours=int(history / timedelta(hours=1)) + 1))
        if not kept:
            remedy = "shorten the windows, leave them out for all time, or give a longer log"
            text = f"every feature's window is longer than the history at the first cutoff, {first:%Y-%m-%d}"
            raise TooLittleDataError(
                f"{self.target.name} can't be trained", [Problem("no_feature", text, count=len(dropped), remedy=remedy)]
            )
        return tuple(kept), tuple(dropped)

    # Predicting ----------------------------------------------------------------------------------------------------------------------

    def predict(self, events: EventLog, as_of: Moment | None = None, *, in_sample: bool = False) -> Any:
        """Predictive attributes of every customer known at `as_of` (default the end of what was observed).

        Returns
        -------
        The log's own kind of frame with the columns of `predictive_attributes`: one row per customer, those not eligible with nulls and
        `not_scored_reason`; ordered by customer_id.

        Raises
        ------
        NotFittedError : before `fit`.
        InSampleError : if `as_of` lies before `trained_until_`, unless `in_sample`; then `model_kind` is marked.
        """
        from persopredict.attributes import to_arrow

        moment = self._moment(events, as_of, in_sample)
        return events.native(self.attributes(events, moment, in_sample=moment < self.trained_until_), to_arrow)

    def attributes(self, events: EventLog, as_of: datetime, *, in_sample: bool = False, model_version: str | None = None) -> pd.DataFrame:
        """What `predict` gives, always as a pandas frame, with the model's version; for jobs."""
        import pandas as pd

        from persopredict.attributes import attributes

        self._fitted()
        plan = snapshots(events, [as_of], self.features_, [self.target])
        table = plan.to_arrow()
        X = matrix(table, [feature.name for feature in self.features_])
        everyone = plan.population()
        reason = everyone.column(f"reason_{self.target.name}")
        others, why = everyone.filter(reason.is_valid()).column("customer_id").to_pylist(), reason.drop_null().to_pylist()
        frame = pd.DataFrame({"customer_id": [*table.column("customer_id").to_pylist(), *others]})
        frame["probability"] = np.append(self.probability(X), np.full(len(others), np.nan))
        # Columns of objects: where nobody is scored, or everybody, nulls alone would be taken for numbers.
        frame["reasons"] = pd.Series([*self._reasons(X), *([None] * len(others))], dtype=object)
        frame["not_scored_reason"] = pd.Series([*([None] * len(X)), *why], dtype=object)
        frame = frame.sort_values("customer_id", kind="stable", ignore_index=True)
        frame["model_kind"] = self.scorer_.kind + ("/in_sample" if in_sample else "")
        lasting = embargo(self.target)
        return attributes(frame, self.target.name, as_of, horizon=lasting, timezone=events.timezone, model_version=model_version)

    def probability(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities of feature rows, shape (rows,); columns in the order of `features_`."""
        self._fitted()
        return self.calibrator_.apply(self.scorer_.logits(X))

    def _reasons(self, X: NDArray[np.float64]) -> list[Any]:
        if not isinstance(self.scorer_, BoosterScorer):
            return [[] for _ in range(len(X))]
        return explained(self.scorer_.booster, X, self.features_)

    def evaluate(self, events: EventLog, cutoffs: Sequence[Moment] | None = None, *, in_sample: bool = False) -> Evaluation:
        """The fitted model, as it is, on cutoffs whose labels have matured since (default: every such cutoff from `trained_until_` on).

        Raises `InSampleError` for earlier cutoffs unless `in_sample`, `TooLittleDataError` if no label has matured.
        """
        self._fitted()
        if cutoffs is None:
            rolled = rolling_cutoffs(
                events,
                every=max(self.target.horizon, Duration(days=1), key=lambda duration: duration.approximate),
                horizon=self.target.horizon,
                gap=self.target.gap,
                until=observed_end(events, self.target),
            )
            moments = [cutoff for cutoff in rolled if cutoff >= self.trained_until_]
        else:
            moments = sorted({self._moment(events, cutoff, in_sample) for cutoff in cutoffs})
        folds = self.test(events, moments)
        if not folds:
            text = "no cutoff after the training has labels that have ended"
            problem = Problem("no_matured_labels", text, count=len(moments), remedy="wait for the horizon to pass")
            raise TooLittleDataError(f"{self.target.name} can't be evaluated", [problem])
        seen = any(cutoff < self.trained_until_ for cutoff in moments)
        return evaluate(folds, target=self.target.name + (" (in sample)" if seen else ""), seed=self.random_state)

    def test(self, events: EventLog, cutoffs: Sequence[datetime]) -> list[FoldPredictions]:
        """Predictions of the fitted model at cutoffs, beside the labels that have matured; the cutoffs without any are left out."""
        self._fitted()
        if not cutoffs:
            return []
        table = snapshots(events, cutoffs, self.features_, [self.target]).to_arrow()
        rows = Labelled.of(table, [feature.name for feature in self.features_], self.target).labelled()
        return [self._tested(cutoff, rows.at([cutoff])) for cutoff in rows.cutoffs]

    def _tested(self, cutoff: datetime, rows: Labelled) -> FoldPredictions:
        logits = self.scorer_.logits(rows.X)
        baselines = {
            "base_rate": np.full(len(rows.y), self.positives_ / self.rows_),
            "best_rule": self.baseline_.predict(rows.X[:, rule_columns(self.features_)]),
        }
        probability = self.calibrator_.apply(logits)
        return FoldPredictions(cutoff, rows.customer_id, rows.y, logits, probability, baselines, self.rows_, self.positives_)

    def explain(self, events: EventLog, customer_id: str, as_of: Moment | None = None) -> pd.DataFrame:
        """One customer's story: every feature with its value and contribution, strongest first.

        Returns
        -------
        pandas frame with feature, label, value (nan where unknown) and contribution, in log-odds before calibration. With the model's base
        value, which is ``frame.attrs["base"]``, the contributions add up to the raw score.

        Raises
        ------
        SpecificationError : if the customer is not eligible at `as_of` (default the end of what was observed), or the learner not LightGBM.
        """
        import pandas as pd

        booster = self.booster_
        moment = events.observed[1] if as_of is None else instant(as_of, events._zone)
        plan = snapshots(events, [moment], self.features_, [self.target])
        table = plan.to_arrow()
        chosen = table.filter(pc.equal(table.column("customer_id"), str(customer_id)))
        if not chosen.num_rows:
            known = plan.population()
            found = known.filter(pc.equal(known.column("customer_id"), str(customer_id))).column(f"reason_{self.target.name}").to_pylist()
            raise SpecificationError(
                f"the customer is not asked for {self.target.name} at {moment:%Y-%m-%d}: {(found or ['no_history'])[0]}"
            )
        X = matrix(chosen, [feature.name for feature in self.features_])
        values = contributions(booster, X)[0]
        frame = pd.DataFrame({"feature": [f.name for f in self.features_], "label": [f.label for f in self.features_], "value": X[0]})
        frame["contribution"] = values[: len(frame)]
        frame = frame.sort_values("contribution", key=abs, ascending=False, kind="stable", ignore_index=True)
        frame.attrs["base"] = float(values[-1])
        return frame

    @property
    def booster_(self) -> Any:
        """The LightGBM booster; raises `SpecificationError` for another learner."""
        self._fitted()
        if not isinstance(self.scorer_, BoosterScorer):
            raise SpecificationError(f"the learner is {self.scorer_.kind}, not LightGBM")
        return self.scorer_.booster

    @property
    def importance_(self) -> Any:
        """Total gain of each feature, a pandas Series, largest first."""
        import pandas as pd

        gain = self.booster_.feature_importance("gain")
        return pd.Series(gain, index=[feature.name for feature in self.features_], name="gain").sort_values(ascending=False, kind="stable")

    def _moment(self, events: EventLog, as_of: Moment | None, in_sample: bool) -> datetime:
        self._fitted()
        moment = events.observed[1] if as_of is None else instant(as_of, events._zone)
        if moment < self.trained_until_ and not in_sample:
            raise InSampleError(
                f"{moment:%Y-%m-%d} lies before {self.trained_until_:%Y-%m-%d}, until when {self.target.name} was trained: "
                "it has seen the answer; take a later time, fit with an earlier `until`, or pass in_sample=True"
            )
        return moment

    def _fitted(self) -> None:
        if not hasattr(self, "scorer_"):
            raise NotFittedError(f"{self.target.name} is not fitted; call fit(events, until=...) first")

    # Keeping -------------------------------------------------------------------------------------------------------------------------

    def specs(self) -> dict[str, Any]:
        """Everything but trees and calibrator, JSON-ready."""
        from importlib.metadata import version

        self._fitted()
        return {
            "target": self.target.to_dict(),
            "features": [feature.to_dict() for feature in self.features_],
            "dropped": [feature.to_dict() for feature in self.dropped_],
            "cutoffs": [cutoff.isoformat() for cutoff in self.cutoffs_],
            "trained_until": self.trained_until_.isoformat(),
            "rows": self.rows_,
            "positives": self.positives_,
            "timezone": self.timezone_,
            "random_state": self.random_state,
            "calibration": self.calibration,
            "recipe": self.recipe_,
            "baseline": self.baseline_.to_dict(),
            "versions": {name: version(name) for name in ("persopredict", "lightgbm", "duckdb", "numpy")},
            "evaluation": self.evaluation_.to_dict(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``model.txt``, ``calibrator.json`` and ``specs.json``: text that anyone can read, no pickle.

        Raises `SpecificationError` if the learner is not LightGBM.
        """
        path = Path(folder)
        text = self.booster_.model_to_string()
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.txt").write_text(text, "utf-8")
        (path / "calibrator.json").write_text(json.dumps(self.calibrator_.to_dict(), indent=1), "utf-8")
        (path / "specs.json").write_text(json.dumps(self.specs(), indent=1), "utf-8")
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """The predictor that `save` wrote. It predicts; to fit again, make one with the features and the estimator of the first.

        Raises `SpecificationError` naming every file that is missing, can't be read, or belongs to another model.
        """
        path = Path(folder)
        texts = {name: (path / name).read_bytes() for name in FILES if (path / name).is_file()}
        if missing := [name for name in FILES if name not in texts]:
            raise SpecificationError(f"no predictor in {path}: {', '.join(missing)} missing")
        problems: list[Problem] = []

        def read(name: str, how: Callable[[str], Any]) -> Any:
            try:
                return how(texts[name].decode("utf-8"))
            except (ValueError, KeyError, TypeError, AttributeError, PersopredictError) as error:
                text = f"{type(error).__name__}: {error}"
                remedy = "save the predictor again, or take the files from where they were made"
                problems.append(Problem("unreadable_file", "the file can't be read", example=text, remedy=remedy, source=name))

        calibrator = read("calibrator.json", lambda text: Calibrator.from_dict(json.loads(text)))
        scorer = read("model.txt", BoosterScorer.from_text)
        found = read("specs.json", lambda text: cls._from_specs(json.loads(text)))
        if scorer and found and scorer.names != [feature.name for feature in found.features_]:
            remedy = "take all three files from one place"
            problems.append(Problem("other_model", "model.txt and specs.json are of different models", remedy=remedy))
        if problems:
            raise SpecificationError(f"the predictor in {path} can't be read", problems)
        found.calibrator_, found.scorer_ = calibrator, scorer
        whole: Predictor = found
        return whole

    @classmethod
    def _from_specs(cls, specs: Mapping[str, Any]) -> Predictor:
        """All but trees and calibrator."""
        found = cls(target_from_dict(specs["target"]), calibration=specs["calibration"], random_state=specs["random_state"])
        found.features_ = tuple(Feature.from_dict(values) for values in specs["features"])
        found.dropped_ = tuple(Feature.from_dict(values) for values in specs.get("dropped", ()))
        found.cutoffs_ = tuple(instant(text) for text in specs["cutoffs"])
        found.trained_until_, found.timezone_ = instant(specs["trained_until"]), specs["timezone"]
        found.rows_, found.positives_ = specs["rows"], specs["positives"]
        found.recipe_, found.baseline_ = specs["recipe"], BestRule.from_dict(specs["baseline"])
        found.evaluation_ = Evaluation.from_dict(specs["evaluation"])
        return found

    def __repr__(self) -> str:
        """Name, and the grade once fitted."""
        if not hasattr(self, "scorer_"):
            return f"Predictor({self.target.name}, not fitted)"
        return f"Predictor({self.target.name}, grade {self.evaluation_.grade}, trained until {self.trained_until_:%Y-%m-%d})"

    def _repr_html_(self) -> str:
        import html

        text = f"<p>{html.escape(repr(self))}</p>"
        return text + self.evaluation_._repr_html_() if hasattr(self, "scorer_") else text
