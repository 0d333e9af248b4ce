"""The targets that are asked once for each customer: churn, conversion, cancellation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from persopredict import learner
from persopredict.baselines import BestRule
from persopredict.comparison import Paired, paired_log_loss
from persopredict.evaluation import Evaluation, FoldPredictions, evaluate
from persopredict.events import EventLog
from persopredict.explain import explained
from persopredict.features.builders import default_features
from persopredict.forward import matured_cutoffs, within_history
from persopredict.learner import BoosterScorer
from persopredict.model import Fitted, Model, Recipe
from persopredict.snapshots import snapshots
from persopredict.targets import Target
from persopredict.training import Labelled, Training, matrix, rule_columns

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
        """LightGBM with our settings."""
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
        folds, choice = training.calibrated(training.tests(rows))
        rows = rows.labelled()
        evaluation = evaluate(folds, target=self.target.name, calibration=choice, seed=recipe.random_state)
        baseline, scorer = training.rule(rows), training.fit(rows)
        model = Model(features, dropped, tuple(training.names), scorer, choice.calibrator, baseline, len(rows.y), rows.positives)
        return Fitted(model, tuple(cutoffs), tuple(folds), evaluation)

    def scores(self, events: EventLog, as_of: datetime, model: Model) -> pd.DataFrame:
        """One row for each customer known at `as_of`, in order of ids; who is not asked has the reason instead of a probability."""
        import pandas as pd

        plan = snapshots(events, [as_of], model.features, [self.target])
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

    def _reasons(self, X: NDArray[np.float64], model: Model) -> list[Any]:
        if not isinstance(model.scorer, BoosterScorer):
            return [[] for _ in range(len(X))]
        return explained(model.scorer.booster, X, model.features)

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[FoldPredictions]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""
        if not cutoffs:
            return []
        table = snapshots(events, cutoffs, model.features, [self.target]).to_arrow()
        rows = Labelled.of(table, model.inputs, self.target).labelled()
        return [self._tested(cutoff, rows.at([cutoff]), model) for cutoff in rows.cutoffs]

    def _tested(self, cutoff: datetime, rows: Labelled, model: Model) -> FoldPredictions:
        logits = model.scorer.logits(rows.X)
        baselines = {
            "base_rate": np.full(len(rows.y), model.positives / model.rows),
            "best_rule": model.baseline.predict(rows.X[:, rule_columns(model.features)]),
        }
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

    def from_specs(self, specs: Mapping[str, Any]) -> tuple[tuple[str, ...], BestRule, Evaluation]:
        """The model's inputs, its baseline and its evaluation, as they were saved."""
        inputs = tuple(values["name"] for values in specs["features"])
        return inputs, BestRule.from_dict(specs["baseline"]), Evaluation.from_dict(specs["evaluation"])
