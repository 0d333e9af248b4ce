"""`Predictor`: from a log to a validated model of one target, and from the model to predictive attributes.

`fit` reads nothing that was not known before `until`: it takes snapshots at rolling cutoffs, trains a fold model for each test cutoff on
cutoffs whose labels had ended by then, chooses the calibration by their out-of-time predictions, grades them, and refits on everything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import learner
from persopredict.baselines import BaseRate, BestRule
from persopredict.calibration import Calibrator, choose, choose_forward
from persopredict.errors import InSampleError, NotFittedError, Problem, SpecificationError, TooLittleDataError
from persopredict.evaluation import Evaluation, FoldPredictions, evaluate
from persopredict.events import EventLog, Moment
from persopredict.explain import contributions, reasons
from persopredict.features.builders import default_features, windows_within
from persopredict.features.spec import Feature
from persopredict.learner import BoosterScorer
from persopredict.snapshots import rolling_cutoffs, snapshots
from persopredict.targets import Target, target_from_dict
from persopredict.times import Duration, instant, local_midnight, zone
from persopredict.usability import MIN_POSITIVES
from persopredict.validation import ForwardSplit

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
_LEAST_TO_TRAIN = 10
_MOST_CUTOFFS = 26
_LONGEST_HISTORY = Duration(days=91)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Snapshots of one target in memory: compact numbers, no events."""

    customer_id: NDArray[Any]
    cutoff: NDArray[Any]
    X: NDArray[np.float64]
    y: NDArray[np.int8]

    @classmethod
    def of(cls, table: pa.Table, names: Sequence[str], label: str) -> Labelled:
        """The rows that have a label."""
        kept = table.filter(table.column(label).is_valid())
        return cls(
            kept.column("customer_id").to_numpy(), _datetimes(kept), matrix(kept, names), kept.column(label).to_numpy().astype(np.int8)
        )

    def at(self, cutoffs: Sequence[datetime]) -> Labelled:
        """The rows of these cutoffs."""
        chosen = np.isin(self.cutoff, np.array(cutoffs, dtype=object)) if len(cutoffs) else np.zeros(len(self.y), dtype=bool)
        return Labelled(self.customer_id[chosen], self.cutoff[chosen], self.X[chosen], self.y[chosen])

    def with_labels(self, table: pa.Table, label: str) -> Labelled:
        """The same rows with labels as another moment knew them."""
        other = Labelled.of(table, (), label)
        known = {(c, t): y for c, t, y in zip(other.customer_id, other.cutoff, other.y, strict=True)}
        found = [known.get((c, t)) for c, t in zip(self.customer_id, self.cutoff, strict=True)]
        kept = np.array([y is not None for y in found], dtype=bool)
        labels = np.array([y for y in found if y is not None], dtype=np.int8)
        return Labelled(self.customer_id[kept], self.cutoff[kept], self.X[kept], labels)


def matrix(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    """The features as one matrix, shape (rows, features), nan where null."""
    if not names:
        return np.zeros((table.num_rows, 0))
    return np.column_stack([table.column(name).to_numpy(zero_copy_only=False) for name in names]).astype(np.float64, copy=False)


def _datetimes(table: pa.Table) -> NDArray[Any]:
    from persopredict.engines.expressions import moment

    micros = table.column("cutoff").cast(pa.int64()).to_numpy()
    distinct, places = np.unique(micros, return_inverse=True)
    moments = np.empty(len(distinct), dtype=object)
    moments[:] = [moment(int(value)) for value in distinct]
    return moments[places] if len(distinct) else np.empty(0, dtype=object)


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
    features_, cutoffs_, trained_until_, scorer_, calibrator_, evaluation_, folds_ (out-of-time predictions), baseline_, dropped_ (features
    whose window is longer than the history at the first cutoff), recipe_.

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
        calibration: str = "auto",
        random_state: int = 0,
    ) -> None:
        if calibration not in ("auto", "none", "temperature", "platt"):
            raise SpecificationError(f"calibration is 'auto', 'none', 'temperature' or 'platt', got {calibration!r}")
        if not isinstance(target, Target):
            raise SpecificationError(f"a predictor needs a target like Churn('purchase', '28d'), got {target!r}")
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
        cutoffs = self._matured(events, end)
        features, dropped = self._features(events, cutoffs[0], end)
        names = [feature.name for feature in features]
        label = f"label_{self.target.name}"
        table = snapshots(events, cutoffs, features, [self.target], until=end).to_arrow()
        rows = Labelled.of(table, names, label)
        self._refuse_too_little(rows, cutoffs)
        estimator = self.estimator or learner.default_estimator(self.random_state)

        self.timezone_, self.trained_until_, self.cutoffs_ = events.timezone, end, tuple(cutoffs)
        self.features_, self.dropped_ = tuple(features), tuple(dropped)
        self.recipe_ = self.recipe
        self._calibrate(self._fold_models(events, rows, estimator, names))
        self.evaluation_ = evaluate(self.folds_, target=self.target.name, calibration=self._choice, seed=self.random_state)
        self.baseline_ = self._rule(rows)
        self.scorer_ = learner.fit(estimator, rows.X, rows.y, names)
        self.rows_, self.positives_ = len(rows.y), int(rows.y.sum())
        return self

    @property
    def recipe(self) -> str:
        """A digest of how the model is made: estimator, target, features and cutoffs asked for, calibration. Equal for equal recipes."""
        estimator = self.estimator or learner.default_estimator(self.random_state)
        asked = None if self.features is None else [feature.to_dict() for feature in self.features]
        chosen = None if self.cutoffs is None else [str(cutoff) for cutoff in self.cutoffs]
        return learner.recipe(estimator, self.target.to_dict(), asked, chosen, self.calibration)

    @property
    def _embargo(self) -> Duration:
        return Duration(self.target.gap.days + self.target.horizon.days, self.target.gap.hours + self.target.horizon.hours)

    @property
    def _step(self) -> Duration:
        """Between training cutoffs: half the horizon, a day at least, four weeks at most. Halves taught more than whole horizons."""
        return Duration(days=max(1, min(28, self.target.horizon.approximate.days // 2)))

    def _matured(self, events: EventLog, until: datetime) -> list[datetime]:
        """The cutoffs whose labels have ended by `until` and within what was observed; raises if there are not two."""
        observed = events.observed_for(self.target)
        end = min(until, observed[1])
        if self.cutoffs is None:
            third = (end - observed[0] - self._embargo.approximate) / 3
            history = min(_LONGEST_HISTORY.approximate, max(third, timedelta(0)))
            cutoffs = rolling_cutoffs(
                events,
                every=self._step,
                horizon=self.target.horizon,
                gap=self.target.gap,
                until=end,
                since=observed[0] + history,
                limit=_MOST_CUTOFFS,
            )
        else:
            given = sorted({instant(cutoff, events._zone) for cutoff in self.cutoffs})
            cutoffs = [cutoff for cutoff in given if self._embargo.after(cutoff, events._zone) <= end and cutoff >= observed[0]]
        if len(cutoffs) < 2:
            need = 2 * self._embargo.approximate.days
            text = f"{len(cutoffs)} cutoffs have labels that ended by {end:%Y-%m-%d}, 2 are the least (one to train on, one to test on)"
            remedy = f"give at least {need + 1} days of events before `until`, or shorten the horizon"
            raise TooLittleDataError(
                f"{self.target.name} can't be trained", [Problem("log_too_short", text, count=len(cutoffs), remedy=remedy)]
            )
        return cutoffs

    def _features(self, events: EventLog, first: datetime, until: datetime) -> tuple[list[Feature], list[Feature]]:
        """The features to compute, and those whose window reaches back before the log at the first cutoff."""
        asked = default_features(events, focus=self.target.event_names, until=until) if self.features is None else list(self.features)
        history = first - events.observed_for(self.target)[0]
        return windows_within(asked, Duration(hours=int(history / timedelta(hours=1)) + 1))

    def _refuse_too_little(self, rows: Labelled, cutoffs: Sequence[datetime]) -> None:
        positives, total = int(rows.y.sum()), len(rows.y)
        problems = []
        if not total:
            text = f"no customer is eligible at any of {len(cutoffs)} cutoffs"
            problems.append(Problem("no_eligible_customers", text, remedy="widen active_within or the cohort"))
        for code, count, what in (("too_few_positives", positives, "with"), ("too_few_negatives", total - positives, "without")):
            if total and count < MIN_POSITIVES:
                text = (
                    f"{count} of {total:,} labelled snapshots are {what} the outcome, {MIN_POSITIVES} are the least that can be validated"
                )
                problems.append(Problem(code, text, count=count, remedy="lengthen the horizon, or wait for more history"))
        if problems:
            raise TooLittleDataError(f"{self.target.name} can't be trained", problems)

    def _fold_models(self, events: EventLog, rows: Labelled, estimator: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """For each test cutoff, the raw scores of a model that knew nothing later."""
        splitter = ForwardSplit(FOLDS, embargo=self._embargo, timezone=events.timezone)
        distinct = sorted(set(rows.cutoff))
        tests: list[tuple[Any, ...]] = []
        for cutoff in self._test_cutoffs(splitter, distinct):
            train, test = rows.at(splitter.trains(cutoff, distinct)), rows.at([cutoff])
            if events.late:
                # A label that became known after the test cutoff must not teach the model that is tested there.
                known = snapshots(events, splitter.trains(cutoff, distinct), [], [self.target], until=cutoff).to_arrow()
                train = train.with_labels(known, f"label_{self.target.name}")
            if min(int(train.y.sum()), int((1 - train.y).sum())) < _LEAST_TO_TRAIN or not len(test.y):
                continue
            scorer = learner.fit(estimator, train.X, train.y, names)
            columns = self._rule_columns()
            baselines = {
                "base_rate": BaseRate.fit(train.y).predict(len(test.y)),
                "best_rule": self._rule(train).predict(test.X[:, columns]),
            }
            tests.append((cutoff, test, scorer.logits(test.X), baselines, len(train.y), int(train.y.sum())))
        if not tests:
            text = f"no test cutoff has {_LEAST_TO_TRAIN} customers with and without the outcome to train on before it"
            remedy = "lengthen the horizon, or wait for more history"
            raise TooLittleDataError(f"{self.target.name} can't be trained", [Problem("no_test_cutoff", text, remedy=remedy)])
        return tests

    def _test_cutoffs(self, splitter: ForwardSplit, cutoffs: Sequence[datetime]) -> list[datetime]:
        """The last test cutoffs, a horizon apart: overlapping labels would count the same events twice and pretend more evidence."""
        chosen: list[datetime] = []
        for cutoff in reversed(cutoffs):
            apart = not chosen or self.target.horizon.before(chosen[-1], zone(self.timezone_)) >= cutoff
            if apart and len(chosen) < FOLDS and splitter.trains(cutoff, cutoffs):
                chosen.append(cutoff)
        return chosen[::-1]

    def _calibrate(self, tests: Sequence[tuple[Any, ...]]) -> None:
        """Choose the calibration for each test by earlier tests, and for the shipped model by all."""
        cutoffs = [test[0] for test in tests]
        splitter = ForwardSplit(embargo=self._embargo, timezone=self.timezone_)

        def usable(number: int) -> list[int]:
            earlier = set(splitter.trains(cutoffs[number], cutoffs[:number]))
            return [place for place in range(number) if cutoffs[place] in earlier]

        kinds: Any = ("none", "temperature", "platt") if self.calibration == "auto" else (self.calibration,)
        scores = [(test[2], test[1].y) for test in tests]
        forward = choose_forward(scores, kinds, usable)
        self._choice = choose(scores, kinds, usable)
        self.calibrator_: Calibrator = self._choice.calibrator
        self.folds_ = tuple(
            FoldPredictions(cutoff, rows.customer_id, rows.y, logits, choice.calibrator.apply(logits), baselines, size, positives)
            for (cutoff, rows, logits, baselines, size, positives), choice in zip(tests, forward, strict=True)
        )

    def _rule_columns(self) -> list[int]:
        return [number for number, feature in enumerate(self.features_) if feature.aggregate in ("recency", "count")]

    def _rule(self, rows: Labelled) -> BestRule:
        columns = self._rule_columns()
        return BestRule.fit(rows.X[:, columns], [self.features_[number].name for number in columns], rows.y)

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

        plan = snapshots(events, [as_of], self.features_, [self.target])
        table = plan.to_arrow()
        X = matrix(table, [feature.name for feature in self.features_])
        scored = pd.DataFrame({"customer_id": table.column("customer_id").to_pandas(), "probability": self.probability(X)})
        scored["reasons"] = self._reasons(X)
        scored["not_scored_reason"] = None
        everyone = plan.population()
        reason = everyone.column(f"reason_{self.target.name}")
        others = everyone.filter(reason.is_valid())
        unscored = pd.DataFrame(
            {
                "customer_id": others.column("customer_id").to_pandas(),
                "not_scored_reason": others.column(f"reason_{self.target.name}").to_pandas(),
            }
        )
        frame = pd.concat([scored, unscored], ignore_index=True).sort_values("customer_id", kind="stable", ignore_index=True)
        frame["model_kind"] = self.scorer_.kind + ("/in_sample" if in_sample else "")
        lasting = self._embargo
        return attributes(frame, self.target.name, as_of, horizon=lasting, timezone=events.timezone, model_version=model_version)

    def probability(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities of feature rows, shape (rows,); columns in the order of `features_`."""
        self._fitted()
        return self.calibrator_.apply(self.scorer_.logits(X))

    def _reasons(self, X: NDArray[np.float64]) -> list[Any]:
        if not isinstance(self.scorer_, BoosterScorer):
            return [[] for _ in range(len(X))]
        return reasons(contributions(self.scorer_.booster, X), X, self.features_)

    def evaluate(self, events: EventLog, cutoffs: Sequence[Moment] | None = None, *, in_sample: bool = False) -> Evaluation:
        """The fitted model, as it is, on cutoffs whose labels have matured since (default: every such cutoff from `trained_until_` on).

        Raises `InSampleError` for earlier cutoffs unless `in_sample`, `TooLittleDataError` if no label has matured.
        """
        self._fitted()
        if cutoffs is None:
            end = min(local_midnight(events.observed[1], events._zone), events.observed_for(self.target)[1])
            rolled = rolling_cutoffs(
                events,
                every=max(self.target.horizon, Duration(days=1), key=lambda d: d.approximate),
                horizon=self.target.horizon,
                gap=self.target.gap,
                until=end,
            )
            moments = [cutoff for cutoff in rolled if cutoff >= self.trained_until_]
        else:
            moments = sorted({self._moment(events, cutoff, in_sample) for cutoff in cutoffs})
        folds = self.test(events, moments)
        if not folds:
            problem = Problem(
                "no_matured_labels", "no cutoff after the training has labels that have ended", remedy="wait for the horizon to pass"
            )
            raise TooLittleDataError(f"{self.target.name} can't be evaluated", [problem])
        return evaluate(folds, target=self.target.name, seed=self.random_state)

    def test(self, events: EventLog, cutoffs: Sequence[datetime]) -> list[FoldPredictions]:
        """Predictions of the fitted model at cutoffs, beside the labels that have matured."""
        self._fitted()
        if not cutoffs:
            return []
        names = [feature.name for feature in self.features_]
        table = snapshots(events, cutoffs, self.features_, [self.target]).to_arrow()
        rows = Labelled.of(table, names, f"label_{self.target.name}")
        found = []
        for cutoff in sorted(set(rows.cutoff)):
            part = rows.at([cutoff])
            logits = self.scorer_.logits(part.X)
            baselines = {
                "base_rate": np.full(len(part.y), self.positives_ / self.rows_),
                "best_rule": self.baseline_.predict(part.X[:, self._rule_columns()]),
            }
            found.append(
                FoldPredictions(
                    cutoff, part.customer_id, part.y, logits, self.calibrator_.apply(logits), baselines, self.rows_, self.positives_
                )
            )
        return found

    def explain(self, events: EventLog, customer_id: str, as_of: Moment | None = None) -> pd.DataFrame:
        """One customer's story: every feature with its value and contribution (log-odds), strongest first.

        Raises `SpecificationError` if the customer is not eligible at `as_of`, or if the learner is not LightGBM.
        """
        import pandas as pd

        self._fitted()
        if not isinstance(self.scorer_, BoosterScorer):
            raise SpecificationError(f"reasons need trees; the learner is {self.scorer_.kind}")
        moment = events.observed[1] if as_of is None else instant(as_of, events._zone)
        table = snapshots(events, [moment], self.features_, [self.target]).to_arrow()
        chosen = table.filter(pa.compute.equal(table.column("customer_id"), str(customer_id)))
        if not chosen.num_rows:
            raise SpecificationError(f"the customer is not eligible for {self.target.name} at {moment:%Y-%m-%d}")
        X = matrix(chosen, [feature.name for feature in self.features_])
        values = contributions(self.scorer_.booster, X)[0]
        frame = pd.DataFrame({"feature": [f.name for f in self.features_], "label": [f.label for f in self.features_], "value": X[0]})
        frame["contribution"] = values[: len(frame)]
        return frame.sort_values("contribution", key=abs, ascending=False, kind="stable", ignore_index=True)

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
                f"{moment:%Y-%m-%d} lies before {self.trained_until_:%Y-%m-%d}, until when {self.target.name} was trained: it has seen the answer; "
                "take a later time, fit with an earlier `until`, or pass in_sample=True"
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
            "dropped": [feature.name for feature in self.dropped_],
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
        """The predictor that `save` wrote; it predicts, but its estimator for refitting is the default.

        Raises `SpecificationError` if a file is missing or does not fit.
        """
        path = Path(folder)
        missing = [name for name in ("model.txt", "calibrator.json", "specs.json") if not (path / name).is_file()]
        if missing:
            raise SpecificationError(f"no predictor in {path}: {', '.join(missing)} missing")
        specs = json.loads((path / "specs.json").read_text("utf-8"))
        found = cls(target_from_dict(specs["target"]), calibration=specs["calibration"], random_state=specs["random_state"])
        found.features_ = tuple(Feature.from_dict(values) for values in specs["features"])
        found.dropped_ = ()
        found.cutoffs_ = tuple(instant(text) for text in specs["cutoffs"])
        found.trained_until_, found.timezone_ = instant(specs["trained_until"]), specs["timezone"]
        found.rows_, found.positives_ = specs["rows"], specs["positives"]
        found.recipe_, found.baseline_ = specs["recipe"], BestRule.from_dict(specs["baseline"])
        found.evaluation_ = Evaluation.from_dict(specs["evaluation"])
        found.calibrator_ = Calibrator.from_dict(json.loads((path / "calibrator.json").read_text("utf-8")))
        found.scorer_ = BoosterScorer.from_text((path / "model.txt").read_text("utf-8"))
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
