"""The targets that are asked once for each customer: churn, conversion, cancellation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persopredict import drivers, explain, learner, progress
from persopredict.aftermath import filled_afterwards, only_after
from persopredict.attribute_columns import REASONS
from persopredict.budget import share_of
from persopredict.comparison import Paired, paired_log_loss
from persopredict.draws import hashes, lowest, snapshot_hashes
from persopredict.drivers import Drivers
from persopredict.errors import Problem, SpecificationError
from persopredict.evaluation import Evaluation, FoldPredictions, evaluate
from persopredict.events import EventLog
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.forward import matured_cutoffs, within_history
from persopredict.kinds import Rivals, Taught, with_rhythm
from persopredict.learner import Scorer
from persopredict.model import DRAWN, Asked, Fitted, Model, Recipe
from persopredict.snapshots import Snapshots, snapshots
from persopredict.spine import Members
from persopredict.suspicion import constant_before, nearly_the_label
from persopredict.targets import Target
from persopredict.times import local, on_the_clock
from persopredict.training import Labelled, Training, matrix
from persopredict.wording import Wording

if TYPE_CHECKING:
    import pandas as pd


#: Rows that are scored and explained at a time, at least: a model answers many rows far sooner than many times a few.
_AT_ONCE = 65_536


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
        share = share_of(events, self.target, cutoffs, until)
        training = Training(events, self.target, features, recipe.estimator, recipe.calibration, recipe.random_state, share)
        progress.step("snapshots")
        rows = training.rows(cutoffs, until)
        progress.step("tests")
        tested = training.tested(training.tests(rows))
        progress.step("model")
        taught = training.taught(rows.labelled())
        scorer = training.fit(taught, tested.kind)
        progress.step("evaluation")
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
        moved = self._drivers(taught, scorer)
        model = Model(features, dropped, scorer.names, scorer, tested.choice.calibrator, taught.rivals, len(taught.y), positives, moved)
        return Fitted(model, tuple(cutoffs), tuple(tested.folds), evaluation)

    def _drivers(self, taught: Taught, scorer: Scorer) -> Drivers | None:
        """What moves the scores of some of the rows that it learnt from."""
        places = lowest(snapshot_hashes(taught.customer, taught.cutoff, drivers.SALT), drivers.MOST_ROWS)
        columns = taught.columns(scorer.names)
        return Drivers.of(scorer, taught.X[places][:, columns], [taught.features[column] for column in columns])

    def _suspected(self, events: EventLog, training: Training, rows: Labelled, until: datetime) -> list[Problem]:
        """What looks as if it knew the outcome, among the features asked for, the events and the facts of customers."""
        names = [feature.name for feature in training.features]
        taught = rows.labelled()
        table = snapshots(events, [until], training.features, [self.target], share=training.share).to_arrow()
        X = taught.X[:, : len(names)]
        return [
            *nearly_the_label(X, taught.y, names, customer=taught.customer_id, cutoff=taught.cutoff),
            *constant_before(X, matrix(table, names), names, cutoff=taught.cutoff),
            *only_after(events, self.target, until),
            *filled_afterwards(events, self.target, until),
        ]

    def scores(self, events: EventLog, as_of: datetime, model: Model, wording: Wording) -> pd.DataFrame:
        """One row for each customer known at `as_of`, in order of ids; who is not asked has the reason instead of a probability."""
        from persopredict.attributes import to_frame

        progress.step("scores")
        features, context = self._read(model, wording)
        plan = snapshots(events, [as_of], features, [self.target])
        said: list[NDArray[np.float64]] = []
        told: list[pa.Array] = []
        for table in _tables(plan.batches()):
            X = matrix(table, model.inputs)
            said.append(model.calibrator.apply(model.scorer.logits(X)))
            told += self._reasons(X, model, wording, _columns(table, context)).chunks
        everyone = plan.population()
        why = everyone.column(f"reason_{self.target.name}")
        asked = np.flatnonzero(why.is_null())
        probability = np.full(len(why), np.nan)
        probability[asked] = np.concatenate([np.empty(0), *said])
        reasons = explain.placed(pa.chunked_array(told, REASONS), asked, len(why))
        columns = {"customer_id": everyone.column("customer_id"), "probability": probability, "reasons": reasons, "not_scored_reason": why}
        return to_frame(pa.table(columns))

    def _computed(self, model: Model) -> tuple[Feature, ...]:
        """What the model and its baselines read."""
        return with_rhythm(model.features, self.target)

    def _inputs(self, model: Model) -> list[Feature]:
        """What the model reads, in the order of its columns."""
        features = {feature.name: feature for feature in self._computed(model)}
        return [features[name] for name in model.inputs]

    def _read(self, model: Model, wording: Wording) -> tuple[list[Feature], list[Feature]]:
        """What is computed for scores with their reasons; and of it what the model does not read, but puts into context what it reads."""
        computed = self._computed(model)
        context = explain.context(self._inputs(model), computed, wording)
        return [*dict.fromkeys([*computed, *context])], context

    def _reasons(self, X: NDArray[np.float64], model: Model, wording: Wording, beside: Mapping[Feature, Any]) -> pa.ChunkedArray:
        if not learner.explains(model.scorer):
            return explain.unexplained(len(X))
        return explain.reasons(model.scorer.contributions, X, self._inputs(model), wording, beside=beside, groups=model.groups)

    def asked(
        self,
        events: EventLog,
        as_of: datetime,
        model: Model,
        *,
        customer_id: str | None = None,
        category: str | None = None,
        sample: int | None = None,
    ) -> Asked:
        """What the model reads of those asked at a moment; see `model.Task`. Of few customers only their own events are looked at."""
        if category is not None:
            raise SpecificationError(f"{self.target.name} is asked once for each customer: leave category out")
        features, context = self._read(model, Wording())
        if customer_id is None:
            known = snapshots(events, [as_of], (), [self.target]).population()
            ids = known.filter(pc.is_null(known.column(f"reason_{self.target.name}"))).column("customer_id").to_pylist()
            drawn = [ids[place] for place in lowest(hashes(ids, DRAWN), len(ids) if sample is None else sample)]
            few = len(drawn) < len(ids)
            rows = self._of(events, drawn, as_of, features) if few else snapshots(events, [as_of], features, [self.target])
        else:
            rows = self._of(events, [str(customer_id)], as_of, features)
            found = rows.population().column(f"reason_{self.target.name}").to_pylist()
            if found != [None]:
                at, why = local(as_of, events.timezone), (found or ["no_history"])[0]
                raise SpecificationError(f"the customer is not asked for {self.target.name} at {at}: {why}")
        table = rows.to_arrow()
        ids = np.array(table.column("customer_id").to_pylist(), object)
        return Asked(ids, None, matrix(table, model.inputs), tuple(self._inputs(model)), _columns(table, context), model.groups)

    def _of(self, events: EventLog, customers: Sequence[str], as_of: datetime, features: Sequence[Feature]) -> Snapshots:
        return snapshots(events, None, features, [self.target], spine=Members(customers, as_of))

    def reasons(self, asked: Asked, contributions: NDArray[np.float64], wording: Wording) -> pa.ChunkedArray:
        """The reasons of these rows, as they are published."""
        return explain.reasons(contributions, asked.X, asked.features, wording, beside=asked.beside, groups=asked.groups)

    def usual(self, asked: Asked, evaluation: Evaluation) -> NDArray[np.float64]:
        """The rate of the outcome in the tests, the same for everybody."""
        return np.full(len(asked.X), evaluation.pooled.rate)

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[FoldPredictions]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""
        if not cutoffs:
            return []
        features, share = self._computed(model), share_of(events, self.target, sorted(cutoffs))
        table = snapshots(events, cutoffs, features, [self.target], share=share).to_arrow()
        rows = Labelled.of(table, [feature.name for feature in features], self.target).labelled()
        return [self._tested(on_the_clock(cutoff, events.zone), rows.at([cutoff]), model, share) for cutoff in rows.cutoffs]

    def _tested(self, cutoff: datetime, rows: Labelled, model: Model, share: float) -> FoldPredictions:
        names = [feature.name for feature in self._computed(model)]
        logits = model.scorer.logits(rows.X[:, [names.index(name) for name in model.inputs]])
        baselines = model.baseline.predict(rows.X, names)
        probability = model.calibrator.apply(logits)
        trained = model.rows, model.positives
        return FoldPredictions(cutoff, rows.customer_id, rows.y, logits, probability, baselines, *trained, share)

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


def _tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches, put together to tables of so many rows that a model is asked about them at once; the last may have fewer."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(each) for each in waiting) >= _AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _columns(table: pa.Table, features: Sequence[Feature]) -> dict[Feature, NDArray[np.float64]]:
    """The features' values, shape (rows,) each, nan where null."""
    return {feature: np.asarray(table.column(feature.name), dtype=np.float64) for feature in features}
