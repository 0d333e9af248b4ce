"""The targets that are asked once for each customer: churn, conversion, cancellation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from persopredict import learner
from persopredict.aftermath import filled_afterwards, only_after
from persopredict.comparison import Paired, paired_log_loss
from persopredict.errors import Problem
from persopredict.evaluation import Evaluation, FoldPredictions, evaluate
from persopredict.events import EventLog
from persopredict.explain import explained
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.forward import matured_cutoffs, within_history
from persopredict.kinds import Rivals, with_rhythm
from persopredict.learner import EstimatorScorer
from persopredict.model import Fitted, Model, Recipe
from persopredict.snapshots import snapshots
from persopredict.suspicion import constant_before, nearly_the_label
from persopredict.targets import Target
from persopredict.training import Labelled, Training, matrix

if TYPE_CHECKING:
    import pandas as pd


class CustomerTask:
    """One answer for each customer; see `model.Task`."""

    measure = "log-loss"

    def __init__(self, target: Target) -> None:
        self.target = target

    def question(self) -> dict[str, Any]:
        """The target's."""
        return self.target.question()

    def default_estimator(self, random_state: int) -> Any:
        """LightGBM with our settings: the richest of the kinds that compete."""
        return learner.default_estimator(random_state)

    def fit(self, events: EventLog, recipe: Recipe, until: datetime) -> Fitted:
        """Train, validate and calibrate on what was known before `until`."""
        cutoffs = matured_cutoffs(events, self.target, recipe.cutoffs, until)
        asked = recipe.features
        if asked is None:
            asked = tuple(default_features(events, focus=self.target.event_names, until=until))
        features, dropped = within_history(events, self.target, asked, cutoffs[0])
        training = Training(events, self.target, features, recipe.estimator, recipe.calibration, recipe.random_state)
        rows = training.rows(cutoffs, until)
        tested = training.tested(training.tests(rows))
        taught = training.taught(rows.labelled())
        scorer = training.fit(taught, tested.kind)
        suspected = self._suspected(events, training, rows, until)
        evaluation = evaluate(
            tested.folds,
            target=self.target.name,
            calibration=tested.choice,
            seed=recipe.random_state,
            kind=scorer.kind,
            kinds=tested.losses if len(tested.losses) > 1 else None,
            suspected=suspected,
        )
        positives = int(np.count_nonzero(taught.y))
        model = Model(features, dropped, scorer.names, scorer, tested.choice.calibrator, taught.rivals, len(taught.y), positives)
        return Fitted(model, tuple(cutoffs), tuple(tested.folds), evaluation)

    def _suspected(self, events: EventLog, training: Training, rows: Labelled, until: datetime) -> list[Problem]:
        """What looks as if it knew the outcome, among the features asked for, the events and the facts of customers."""
        names = [feature.name for feature in training.features]
        taught = rows.labelled()
        table = snapshots(events, [until], training.features, [self.target]).to_arrow()
        X = taught.X[:, : len(names)]
        return [
            *nearly_the_label(X, taught.y, names, customer=taught.customer_id, cutoff=taught.cutoff),
            *constant_before(X, matrix(table, names), names, cutoff=taught.cutoff),
            *only_after(events, self.target, until),
            *filled_afterwards(events, self.target, until),
        ]

    def scores(self, events: EventLog, as_of: datetime, model: Model) -> pd.DataFrame:
        """One row for each customer known at `as_of`, in order of ids; who is not asked has the reason instead of a probability."""
        import pandas as pd

        plan = snapshots(events, [as_of], self._computed(model), [self.target])
        table = plan.to_arrow()
        X = matrix(table, model.inputs)
        everyone = plan.population()
        reason = everyone.column(f"reason_{self.target.name}")
        others, why = everyone.filter(reason.is_valid()).column("customer_id").to_pylist(), reason.drop_null().to_pylist()
        frame = pd.DataFrame({"customer_id": [*table.column("customer_id").to_pylist(), *others]})
        probability = model.calibrator.apply(model.scorer.logits(X))
        frame["probability"] = np.append(probability, np.full(len(others), np.nan))
        # Columns of objects: where nobody is scored, or everybody, nulls alone would be taken for numbers.
        frame["reasons"] = pd.Series([*self._reasons(X, model), *([None] * len(others))], dtype=object)
        frame["not_scored_reason"] = pd.Series([*([None] * len(X)), *why], dtype=object)
        return frame.sort_values("customer_id", kind="stable", ignore_index=True)

    def _computed(self, model: Model) -> tuple[Feature, ...]:
        """What the model and its baselines read."""
        return with_rhythm(model.features, self.target)

    def _reasons(self, X: NDArray[np.float64], model: Model) -> list[Any]:
        if isinstance(model.scorer, EstimatorScorer):
            return [[] for _ in range(len(X))]
        features = {feature.name: feature for feature in self._computed(model)}
        return explained(model.scorer.contributions, X, [features[name] for name in model.inputs])

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[FoldPredictions]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""
        if not cutoffs:
            return []
        features = self._computed(model)
        table = snapshots(events, cutoffs, features, [self.target]).to_arrow()
        rows = Labelled.of(table, [feature.name for feature in features], self.target).labelled()
        return [self._tested(cutoff, rows.at([cutoff]), model) for cutoff in rows.cutoffs]

    def _tested(self, cutoff: datetime, rows: Labelled, model: Model) -> FoldPredictions:
        names = [feature.name for feature in self._computed(model)]
        logits = model.scorer.logits(rows.X[:, [names.index(name) for name in model.inputs]])
        baselines = model.baseline.predict(rows.X, names)
        probability = model.calibrator.apply(logits)
        return FoldPredictions(cutoff, rows.customer_id, rows.y, logits, probability, baselines, model.rows, model.positives)

    def evaluate(self, folds: Sequence[FoldPredictions], *, name: str, seed: int) -> Evaluation:
        """Predictions beside their baselines."""
        return evaluate(folds, target=name, seed=seed)

    def compare(self, ours: Sequence[FoldPredictions], theirs: Sequence[FoldPredictions]) -> Paired:
        """The paired log-loss on the customers that both have at a cutoff; nan without any."""
        others = {fold.cutoff: fold for fold in theirs}
        ys, mine, their, ids = [], [], [], []
        for fold in ours:
            if (other := others.get(fold.cutoff)) is None:
                continue
            _, here, there = np.intersect1d(fold.customer_id.astype(str), other.customer_id.astype(str), return_indices=True)
            ys.append(fold.y[here])
            mine.append(fold.probability[here])
            their.append(other.probability[there])
            ids.append(fold.customer_id[here])
        if not ys:
            return Paired(float("nan"), (float("nan"), float("nan")), 0, 0)
        return paired_log_loss(np.concatenate(ys), np.concatenate(mine), np.concatenate(their), np.concatenate(ids))

    def from_specs(self, specs: Mapping[str, Any]) -> tuple[tuple[str, ...], Rivals, Evaluation]:
        """The model's inputs, its baselines and its evaluation, as they were saved."""
        inputs = tuple(specs["columns"]) if "columns" in specs else tuple(values["name"] for values in specs["features"])
        return inputs, Rivals.from_dict(specs["baseline"]), Evaluation.from_dict(specs["evaluation"])
