"""`Predictor`: from a log to a validated model of one target, and from the model to predictive attributes.

`fit` reads nothing that was not known before `until`: it takes snapshots at rolling cutoffs, trains a fold model for each test cutoff on
cutoffs whose labels had ended by then, chooses the calibration by their out-of-time predictions, grades them, and refits on everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from persopredict import kinds, learner, predictor_text, progress
from persopredict.affinity.task import PairTask
from persopredict.calibration import KINDS, Calibrator, Kind
from persopredict.comparison import Paired
from persopredict.customer_task import CustomerTask
from persopredict.drivers import Drivers
from persopredict.errors import (
    InSampleError,
    NotFittedError,
    PersopredictError,
    Problem,
    SpecificationError,
    TooLittleDataError,
    did_you_mean,
)
from persopredict.evaluation import Evaluation
from persopredict.events import EventLog, Moment
from persopredict.features.spec import Feature
from persopredict.forward import embargo, observed_end
from persopredict.learner import BoosterScorer, Scorer
from persopredict.model import Model, Recipe, Task
from persopredict.ranking_results import RankingEvaluation
from persopredict.snapshots import rolling_cutoffs
from persopredict.targets import Affinity, Target, target_from_dict
from persopredict.times import Duration, instant, local, local_midnight

if TYPE_CHECKING:
    import pandas as pd

    from persopredict.story import Explanation
    from persopredict.wording import Wording

#: Trees are LightGBM's text, every other kind of model is JSON; of these there is one.
MODELS = ("model.txt", "model.json")
FILES = ("calibrator.json", "specs.json")


class Predictor:
    """Predicts one target for every eligible customer of a log.

    Parameters
    ----------
    target : `Conversion`, `Churn`, `Cancellation` or `Affinity`.
    features : default `default_features(events)` at the time of `fit`, with the target's events among them. An affinity has features of its
        own, of pairs, and takes these, of customers, besides.
    cutoffs : training and test cutoffs; default `rolling_cutoffs` every half horizon (28 days at most), 26 at most.
    estimator : a scikit-learn classifier, cloned. By default several kinds of models compete, from a rule of thumb to LightGBM with our
        settings, and out-of-time log-loss chooses; `model_kind` tells which serves. A user's own has reasons if it is LightGBM.
    calibration : ``"auto"`` (none, temperature, Platt, beta or, from 10,000 rows on, a spline, by out-of-time log-loss), or one of these.
    random_state : seed of everything random.

    Attributes after `fit`
    ----------------------
    features_, cutoffs_, trained_until_, scorer_, calibrator_, evaluation_, folds_ (out-of-time predictions; not kept by `save`), baseline_,
    dropped_ (features whose window is longer than the history at the first cutoff), rows_ and positives_ (labelled snapshots), drivers_
    (what moves the scores; None for a user's own estimator other than LightGBM), recipe_.

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
        _check_log(events)
        recipe = Recipe(self.features, self.cutoffs, self.estimator, self.calibration, self.random_state)
        with progress.task(f"fit {self.target.name}"):
            end = local_midnight(events.observed[1], events.zone) if until is None else instant(until, events.zone)
            fitted = self._task.fit(events, recipe, end)
        # A fit that fails leaves what was fitted before as it was.
        self.timezone_, self.trained_until_, self.recipe_ = events.timezone, end, self.recipe
        self.cutoffs_, self.folds_, self.evaluation_ = fitted.cutoffs, fitted.folds, fitted.evaluation
        self._settle(fitted.model)
        return self

    def _settle(self, model: Model) -> None:
        self.model_ = model
        self.features_, self.dropped_ = model.features, model.dropped
        self.scorer_, self.calibrator_, self.baseline_ = model.scorer, model.calibrator, model.baseline
        self.rows_, self.positives_, self.drivers_ = model.rows, model.positives, model.drivers

    @property
    def _task(self) -> Task:
        return PairTask(self.target) if isinstance(self.target, Affinity) else CustomerTask(self.target)

    @property
    def recipe(self) -> str:
        """A digest of how the model is made: estimator, target, features and cutoffs asked for, calibration. Equal for equal recipes."""
        asked = None if self.features is None else [feature.to_dict() for feature in self.features]
        chosen = None if self.cutoffs is None else [str(cutoff) for cutoff in self.cutoffs]
        return learner.recipe(self._estimator, self._task.question(), asked, chosen, self.calibration)

    @property
    def _estimator(self) -> Any:
        return self._task.default_estimator(self.random_state) if self.estimator is None else self.estimator

    # Predicting ----------------------------------------------------------------------------------------------------------------------

    def predict(self, events: EventLog, as_of: Moment | None = None, *, in_sample: bool = False, wording: Wording | None = None) -> Any:
        """Predictive attributes of every customer known at `as_of` (default the end of what was observed), with reasons in the words of
        `wording` (default English).

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

        self._fitted()
        _check_log(events)
        moment = self._moment(events, as_of, in_sample)
        found = self.attributes(events, moment, in_sample=moment < self.trained_until_, wording=wording)
        return events.native(found, to_arrow)

    def attributes(
        self,
        events: EventLog,
        as_of: datetime,
        *,
        in_sample: bool = False,
        model_version: str | None = None,
        wording: Wording | None = None,
    ) -> pd.DataFrame:
        """What `predict` gives, always as a pandas frame, with the model's version; for jobs."""
        from persopredict.attributes import attributes
        from persopredict.wording import wording_of

        self._fitted()
        words = wording_of(wording)
        with progress.task(f"predict {self.target.name}"):
            frame = self._task.scores(events, as_of, self.model_, words)
        frame["model_kind"] = self.scorer_.kind + ("/in_sample" if in_sample else "")
        lasting = embargo(self.target)
        return attributes(frame, self.target.name, as_of, horizon=lasting, timezone=events.timezone, model_version=model_version)

    def probability(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of rows of the model's inputs, shape (rows,); columns in the order of `model_.inputs`."""
        self._fitted()
        return self.calibrator_.apply(self.scorer_.logits(X))

    def evaluate(
        self, events: EventLog, cutoffs: Sequence[Moment] | None = None, *, in_sample: bool = False
    ) -> Evaluation | RankingEvaluation:
        """The fitted model, as it is, on cutoffs whose labels have matured since (default: every such cutoff from `trained_until_` on).

        Raises `InSampleError` for earlier cutoffs unless `in_sample`, `TooLittleDataError` if no label has matured.
        """
        self._fitted()
        _check_log(events)
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
        with progress.task(f"evaluate {self.target.name}"):
            folds = self.test(events, moments)
            if not folds:
                text = "no cutoff after the training has labels that have ended"
                problem = Problem("no_matured_labels", text, count=len(moments), remedy="wait for the horizon to pass")
                raise TooLittleDataError(f"{self.target.name} can't be evaluated", [problem])
            seen = any(cutoff < self.trained_until_ for cutoff in moments)
            found: Evaluation | RankingEvaluation = self._task.evaluate(
                folds, name=self.target.name + (" (in sample)" if seen else ""), seed=self.random_state
            )
        return found

    def test(self, events: EventLog, cutoffs: Sequence[datetime]) -> list[Any]:
        """Predictions of the fitted model at cutoffs, beside the labels that have matured; the cutoffs without any are left out."""
        self._fitted()
        with progress.task(f"test {self.target.name}"):
            return self._task.test(events, cutoffs, self.model_)

    def compare(self, ours: Sequence[Any], theirs: Sequence[Any]) -> Paired:
        """Predictions of two models of this target (`folds_`, or what `test` gives) on the same customers, ours minus theirs; below zero,
        ours are better.
        """
        return self._task.compare(ours, theirs)

    @property
    def measure(self) -> str:
        """What `compare` compares, in words."""
        return self._task.measure

    def explain(
        self,
        events: EventLog,
        customer_id: str | None = None,
        as_of: Moment | None = None,
        *,
        category: str | None = None,
        sample: int | None = 1000,
        wording: Wording | None = None,
    ) -> Explanation:
        """Why scores are what they are: one customer's story, or what moves the scores of many.

        Parameters
        ----------
        customer_id : whose score; None for many customers.
        as_of : when, default the end of what was observed.
        category : of an affinity, that one pair, published or not; None for the categories that are published.
        sample : of many, at most so many customers, drawn by md5 of their ids; None for everybody.
        wording : in whose words, default English.

        Returns
        -------
        A `shap.Explanation` in log-odds before calibration, whose values and base value add up to the raw score; shape (features,) for one
        customer (or pair), (rows, features) for many. Printed, it is a story; `to_frame`, `reasons` and `probability` are its parts.
        shap's plots take it as it is: ``shap.plots.waterfall(predictor.explain(events, "7"))``,
        ``shap.plots.beeswarm(predictor.explain(events))``.

        Raises
        ------
        SpecificationError : if the customer, or everybody, is not asked at that moment, with the reason; if there is no such category; if
            `sample`, `wording` or `events` is of the wrong kind; or if the model is a user's own estimator other than LightGBM.
        """
        from persopredict.wording import wording_of

        self._fitted()
        _check_log(events)
        words = wording_of(wording)
        if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int | np.integer) or sample < 1):
            raise SpecificationError(f"sample is {sample!r}; give how many customers to draw, 1 or more, or None for everybody")
        # A model that can't tell says so before anything is read.
        self.scorer_.contributions(np.empty((0, len(self.model_.inputs))))
        moment = _latest(events) if as_of is None else instant(as_of, events.zone)
        with progress.task(f"explain {self.target.name}"):
            asked = self._task.asked(
                events, moment, self.model_, customer_id=customer_id, category=category, sample=sample if customer_id is None else None
            )
            if not len(asked.X):
                raise SpecificationError(f"nobody is asked for {self.target.name} at {local(moment, events.timezone)}")
            progress.step("reasons")
            values = self.scorer_.contributions(asked.X)
            reasons = self._task.reasons(asked, values, words)
        # shap takes seconds to load.
        from persopredict.story import Explanation, Told

        usual = self._task.usual(asked, self.evaluation_)
        probability, start = self.probability(asked.X), self.calibrator_.apply(values[:, -1])
        told = Told(self.target, moment, events.timezone, words, asked, values, probability, start, usual, reasons)
        found = Explanation.of(told)
        one = customer_id is not None and (asked.category is None or category is not None)
        return cast("Explanation", found[0]) if one else found

    @property
    def booster_(self) -> Any:
        """The LightGBM booster; raises `SpecificationError` for another learner."""
        self._fitted()
        if not isinstance(self.scorer_, BoosterScorer):
            raise SpecificationError(f"the learner is {self.scorer_.kind}, not LightGBM")
        return self.scorer_.booster

    @property
    def importance_(self) -> Any:
        """How much each feature counts, a pandas Series, largest first: of trees the total gain, of a scorecard the span in log-odds.

        Raises `SpecificationError` for a user's own estimator other than LightGBM.
        """
        import pandas as pd

        self._fitted()
        found = pd.Series(self.scorer_.importance, index=list(self.model_.inputs), name="importance")
        return found.sort_values(ascending=False, kind="stable")

    def _moment(self, events: EventLog, as_of: Moment | None, in_sample: bool) -> datetime:
        self._fitted()
        moment = _latest(events) if as_of is None else instant(as_of, events.zone)
        if moment < self.trained_until_ and not in_sample:
            asked, known = (local(each, events.timezone) for each in (moment, self.trained_until_))
            raise InSampleError(
                f"{asked} lies before {known}, until when {self.target.name} was trained: "
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
            "columns": list(self.model_.inputs),
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
            "drivers": None if self.drivers_ is None else self.drivers_.to_dict(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the model (``model.txt``: LightGBM's trees; ``model.json``: any other kind of ours), ``calibrator.json`` and
        ``specs.json``: text that anyone can read, no pickle.

        Raises `SpecificationError` for a user's own estimator other than LightGBM.
        """
        path, (name, text) = Path(folder), self.model_text()
        path.mkdir(parents=True, exist_ok=True)
        for other in MODELS:
            (path / other).unlink(missing_ok=True)
        (path / name).write_text(text, "utf-8")
        (path / "calibrator.json").write_text(json.dumps(self.calibrator_.to_dict(), indent=1), "utf-8")
        (path / "specs.json").write_text(json.dumps(self.specs(), indent=1), "utf-8")
        return path

    def model_text(self) -> tuple[str, str]:
        """The model's file and what stands in it; raises `SpecificationError` as `save` does."""
        self._fitted()
        if isinstance(self.scorer_, BoosterScorer):
            return MODELS[0], self.scorer_.text
        return MODELS[1], json.dumps(self.scorer_.to_dict(), indent=1)

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """The predictor that `save` wrote. It predicts; to fit again, make one with the features and the estimator of the first.

        Raises `SpecificationError` naming every file that is missing, can't be read, or belongs to another model.
        """
        path = Path(folder)
        texts = {name: (path / name).read_bytes() for name in (*MODELS, *FILES) if (path / name).is_file()}
        model = next((name for name in MODELS if name in texts), MODELS[0])
        if missing := [name for name in (model, *FILES) if name not in texts]:
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
        as_scorer: Callable[[str], Scorer] = (
            BoosterScorer.from_text if model == MODELS[0] else lambda text: kinds.from_dict(json.loads(text))
        )
        scorer = read(model, as_scorer)
        found = read("specs.json", lambda text: cls._from_specs(json.loads(text)))
        if scorer and found and scorer.names != tuple(found[1]):
            remedy = "take all three files from one place"
            problems.append(Problem("other_model", f"{model} and specs.json are of different models", remedy=remedy))
        if problems:
            raise SpecificationError(f"the predictor in {path} can't be read", problems)
        predictor, _, make = found
        predictor._settle(make(scorer, calibrator))
        whole: Predictor = predictor
        return whole

    @classmethod
    def _from_specs(cls, specs: Mapping[str, Any]) -> tuple[Predictor, tuple[str, ...], Callable[[Scorer, Calibrator], Model]]:
        """All but trees and calibrator; the model's inputs, and how it is made with these two."""
        found = cls(target_from_dict(specs["target"]), calibration=specs["calibration"], random_state=specs["random_state"])
        features = tuple(Feature.from_dict(values) for values in specs["features"])
        dropped = tuple(Feature.from_dict(values) for values in specs.get("dropped", ()))
        found.cutoffs_ = tuple(instant(text) for text in specs["cutoffs"])
        found.trained_until_, found.timezone_ = instant(specs["trained_until"]), specs["timezone"]
        found.recipe_ = specs["recipe"]
        inputs, baseline, found.evaluation_ = found._task.from_specs(specs)
        rows, positives, moved = specs["rows"], specs["positives"], specs.get("drivers")
        drivers = None if moved is None else Drivers.from_dict(moved)

        def model(scorer: Scorer, calibrator: Calibrator) -> Model:
            return Model(features, dropped, inputs, scorer, calibrator, baseline, rows, positives, drivers)

        return found, inputs, model

    def __repr__(self) -> str:
        """Name, and the grade once fitted."""
        if not hasattr(self, "scorer_"):
            return f"Predictor({self.target.name}, not fitted)"
        return f"Predictor({self.target.name}, grade {self.evaluation_.grade}, trained until {local(self.trained_until_, self.timezone_)})"

    def _repr_html_(self) -> str:
        if not hasattr(self, "scorer_"):
            return predictor_text.plan(self.target, self.features, self.cutoffs, self.estimator, self.calibration)
        return predictor_text.fitted(self.target, self.model_, self.cutoffs_, self.trained_until_, self.timezone_, self.evaluation_)


def _check_log(events: object) -> None:
    """Raise for what is no log: a frame has to be told first which of its columns is what."""
    if not isinstance(events, EventLog):
        raise SpecificationError(
            f"{type(events).__name__} is no EventLog; make one of it, like EventLog(events, customer_id=…, event_at=…)"
        )


def _latest(events: EventLog) -> datetime:
    """The end of what was observed; where that is a date without hours, the end of the date: the training cutoffs are midnights too, and
    the moment after the last midnight would see every date a day younger than they did.
    """
    end = events.observed[1]
    last = end - timedelta(microseconds=1)
    return Duration(days=1).after(last, events.zone) if last == local_midnight(last, events.zone) else end
