"""The target that is asked for each customer and category: affinity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import drivers, explain, learner, outcomes, progress
from persopredict.affinity.baselines import PairBaselines
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.affinity.occasions import affinity_problems
from persopredict.affinity.published import Published, scored
from persopredict.affinity.reasons import reasons
from persopredict.affinity.sampling import row_hashes
from persopredict.affinity.states import Reading
from persopredict.affinity.training import PairRows, PairTraining, Standing, drawn_customers, held_at, input_names, ranked, read_with_past
from persopredict.comparison import Paired
from persopredict.draws import hashes, lowest
from persopredict.drivers import Drivers
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.forward import matured_cutoffs, within_history
from persopredict.learner import Scorer
from persopredict.model import DRAWN, Asked, Fitted, Model, Recipe
from persopredict.ranking import RankedFold
from persopredict.ranking_evaluation import paired_ndcg, rank_evaluate
from persopredict.ranking_results import RankingEvaluation
from persopredict.snapshots import snapshots
from persopredict.targets import Affinity
from persopredict.times import local

if TYPE_CHECKING:
    import pandas as pd

    from persopredict.wording import Wording


#: Why a customer has no score, by the codes of `outcomes.reasons`, 0 for none, and one more.
_WHY = (None, *outcomes.REASONS, "too_little_data")
_NO_HISTORY, _TOO_LITTLE = _WHY.index("no_history"), _WHY.index("too_little_data")


class PairTask:
    """One answer for each customer and category; see `model.Task`."""

    measure = "missed NDCG@10"

    def __init__(self, target: Affinity) -> None:
        self.target = target

    def question(self) -> dict[str, Any]:
        """The target's, and the features of pairs, which come with the library."""
        return self.target.question() | {"features of pairs": input_names(())}

    def default_estimator(self, random_state: int) -> Any:
        """LightGBM with our settings for pairs."""
        return learner.default_estimator(random_state, learner.PAIR_DEFAULTS)

    def fit(self, events: EventLog, recipe: Recipe, until: datetime) -> Fitted:
        """Train, validate and calibrate on what was known before `until`."""
        self._check(events, recipe.features or ())
        cutoffs = matured_cutoffs(events, self.target, recipe.cutoffs, until)
        features: tuple[Feature, ...] = ()
        dropped: tuple[Feature, ...] = ()
        if recipe.features is not None:
            features, dropped = within_history(events, self.target, recipe.features, cutoffs[0])
        estimator = self.default_estimator(recipe.random_state) if recipe.estimator is None else recipe.estimator
        training = PairTraining(events, self.target, features, estimator, recipe.calibration, recipe.random_state)
        progress.step("pairs")
        cutoffs, chosen = training.held(cutoffs)
        reading = training.reading(cutoffs, until, chosen)
        standings = {cutoff: Standing.of(reading, cutoff, events.zone) for cutoff in cutoffs}
        rows = training.rows(reading, standings, cutoffs)
        progress.step("tests")
        folds, choice = training.calibrated(training.tests(reading, standings, rows, cutoffs, chosen))
        evaluation = rank_evaluate(folds, target=self.target.name, calibration=choice, seed=recipe.random_state)
        progress.step("model")
        baseline, scorer = training.baselines(reading.taken, standings, cutoffs), training.fit(rows)
        counts = len(rows.y), int(rows.y.sum())
        moved = self._drivers(reading, rows, scorer, features)
        model = Model(features, dropped, tuple(training.names), scorer, choice.calibrator, baseline, *counts, moved)
        return Fitted(model, tuple(cutoffs), tuple(folds), evaluation)

    def _drivers(self, reading: Reading, rows: PairRows, scorer: Scorer, features: Sequence[Feature]) -> Drivers | None:
        """What moves the scores of some of the pairs that it learnt from."""
        customers, categories = (hashes(names, drivers.SALT) for names in (reading.customer_id, reading.categories))
        places = lowest(row_hashes(rows.customer, rows.category, customers, categories, rows.cutoff), drivers.MOST_ROWS)
        return Drivers.of(scorer, rows.X[places], (*PAIR_FEATURES, *features), weight=rows.weight[places])

    def _check(self, events: EventLog, features: Sequence[Feature]) -> None:
        problems = affinity_problems(self.target, events)
        given = {feature.name for feature in PAIR_FEATURES}
        problems += [
            Problem("feature_name", f"{feature.name!r} is the name of a feature of pairs", remedy="give your own another name=")
            for feature in features
            if feature.name in given
        ]
        try:
            # A plan that is not carried out: it knows every column that conditions and features read in vain.
            snapshots(events, [events.observed[0]], features, [self.target])
        except SpecificationError as error:
            problems += error.problems
        if problems:
            raise SpecificationError(f"{self.target.name} doesn't fit the log", problems)

    def scores(self, events: EventLog, as_of: datetime, model: Model, wording: Wording) -> pd.DataFrame:
        """For each customer asked, their `top` likeliest categories and the `top_new` likeliest of those never taken, with their reasons;
        ordered by customer and rank. Who is not asked has one row, with the reason; who is asked while no category is known, too
        (``too_little_data``).
        """
        from persopredict.attributes import to_frame

        progress.step("pairs")
        reading, standing = self._read(events, as_of, model)
        progress.step("scores")
        found = Published.of(standing, model, self.target, reading.categories, wording)
        why = reading.reasons[as_of].copy()
        why[np.setdiff1d(standing.eligible, found.customer)] = _TOO_LITTLE
        # Who had not come yet is nobody's row.
        why[why == _NO_HISTORY] = 0
        return to_frame(found.table(reading, pa.array(_WHY, pa.string()).take(pa.array(why))))

    def _read(self, events: EventLog, as_of: datetime, model: Model) -> tuple[Reading, Standing]:
        self._check(events, model.features)
        return Standing.asked(events, self.target, as_of, model.features)

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
        """What the model reads of the pairs that are published, or of one category's; see `model.Task`."""
        reading, standing = self._read(events, as_of, model)
        customers = standing.eligible if customer_id is None else self._one(events, reading, standing, customer_id)
        if sample is not None:
            customers = customers[lowest(hashes(reading.customer_id[customers], DRAWN), sample)]
        if category is not None:
            who, what = customers.astype(np.int32), np.full(len(customers), self._number(events, reading, standing, category), np.int32)
            X = standing.matrix(who, what)
        else:
            blocks = list(scored(standing, model, self.target, customers))
            nothing = np.empty(0, np.int32)
            who = np.concatenate([nothing, *(block.customer for block in blocks)])
            what = np.concatenate([nothing, *(block.category[block.kept] for block in blocks)])
            X = np.concatenate([np.empty((0, len(model.inputs)), np.float32), *(block.X for block in blocks)])
        if customer_id is not None and not len(who):
            raise self._not_asked(events, as_of, _TOO_LITTLE)
        return Asked(reading.customer_id[who], np.array(reading.categories, object)[what], X, (*PAIR_FEATURES, *model.features))

    def _one(self, events: EventLog, reading: Reading, standing: Standing, customer_id: str) -> NDArray[np.int64]:
        """The number of a customer who is asked."""
        place = np.flatnonzero(reading.customer_id == str(customer_id))
        moment = standing.state.moment
        why = int(reading.reasons[moment][place[0]]) if len(place) else _NO_HISTORY
        if why:
            raise self._not_asked(events, moment, why)
        return place

    def _not_asked(self, events: EventLog, as_of: datetime, why: int) -> SpecificationError:
        return SpecificationError(f"the customer is not asked for {self.target.name} at {local(as_of, events.timezone)}: {_WHY[why]}")

    def _number(self, events: EventLog, reading: Reading, standing: Standing, category: str) -> int:
        known = [reading.categories[number] for number in standing.population.seen]
        if str(category) not in known:
            hint = did_you_mean(str(category), known)
            moment = local(standing.state.moment, events.timezone)
            raise SpecificationError(f"nobody had taken {self.target.by} {str(category)!r} before {moment}; {hint}")
        return reading.categories.index(str(category))

    def reasons(self, asked: Asked, contributions: NDArray[np.float64], wording: Wording) -> pa.ChunkedArray:
        """The reasons of pairs, as they are published."""
        names, numbers = np.unique(np.asarray(asked.category, object), return_inverse=True)
        about = explain.Pairs(numbers, names.tolist(), self.target.horizon, self.target.by)
        return reasons(contributions, asked.X, asked.features, wording, about)

    def usual(self, asked: Asked, evaluation: RankingEvaluation) -> NDArray[np.float64]:
        """The share of those asked for the category in the tests who took it."""
        tested = evaluation.pooled.categories
        counts = zip(tested.category, tested.actual, tested.asked, strict=True)
        rates = {category: taken / customers for category, taken, customers in counts if customers}
        return np.array([rates.get(category, np.nan) for category in np.asarray(asked.category, object).tolist()], np.float64)

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[RankedFold]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""
        if not cutoffs:
            return []
        self._check(events, model.features)
        chosen = drawn_customers(events, held_at(events, self.target, sorted(cutoffs)))
        reading = read_with_past(events, self.target, cutoffs, model.features, labelled=True, chosen=chosen)
        trained = model.rows, model.positives
        standings = (Standing.of(reading, cutoff, events.zone) for cutoff in cutoffs)
        found = (ranked(reading, standing, model.scorer, model.calibrator, model.baseline, trained) for standing in standings)
        return [fold for fold in found if fold is not None]

    def evaluate(self, folds: Sequence[RankedFold], *, name: str, seed: int) -> RankingEvaluation:
        """Lists beside their baselines."""
        return rank_evaluate(folds, target=name, seed=seed)

    def compare(self, ours: Sequence[RankedFold], theirs: Sequence[RankedFold]) -> Paired:
        """What each misses of NDCG@10, on the customers that both have at a cutoff."""
        return paired_ndcg(ours, theirs)

    def from_specs(self, specs: Mapping[str, Any]) -> tuple[tuple[str, ...], PairBaselines, RankingEvaluation]:
        """The model's inputs, its baseline and its evaluation, as they were saved."""
        inputs = tuple(specs["columns"])
        # Features of pairs come with the library, not with the model: what a model was not trained on would be read as something else.
        if inputs != tuple(input_names([Feature.from_dict(values) for values in specs["features"]])):
            raise SpecificationError("another persopredict made this model, with other features of pairs; fit it again")
        return inputs, PairBaselines.from_dict(specs["baseline"]), RankingEvaluation.from_dict(specs["evaluation"])
