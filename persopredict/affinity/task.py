"""The target that is asked for each customer and category: affinity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from persopredict import learner, outcomes
from persopredict.affinity.baselines import PairBaselines, own
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.affinity.occasions import affinity_problems
from persopredict.affinity.pairs import OCCASIONS, Codes
from persopredict.affinity.training import PairTraining, Standing, input_names, ranked, read_with_past
from persopredict.comparison import Paired
from persopredict.errors import Problem, SpecificationError
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.forward import matured_cutoffs, within_history
from persopredict.model import Fitted, Model, Recipe
from persopredict.ranking import RankedFold
from persopredict.ranking_evaluation import paired_ndcg, rank_evaluate
from persopredict.ranking_results import RankingEvaluation
from persopredict.snapshots import snapshots
from persopredict.targets import Affinity

if TYPE_CHECKING:
    import pandas as pd


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
        cutoffs, chosen = training.held(cutoffs)
        reading = training.reading(cutoffs, until, chosen)
        standings = {cutoff: Standing.of(reading, cutoff, events.zone) for cutoff in cutoffs}
        rows = training.rows(reading, standings, cutoffs)
        folds, choice = training.calibrated(training.tests(reading, standings, rows, cutoffs, chosen))
        evaluation = rank_evaluate(folds, target=self.target.name, calibration=choice, seed=recipe.random_state)
        baseline, scorer = training.baselines(reading.taken, standings, cutoffs), training.fit(rows)
        counts = len(rows.y), int(rows.y.sum())
        model = Model(features, dropped, tuple(training.names), scorer, choice.calibrator, baseline, *counts)
        return Fitted(model, tuple(cutoffs), tuple(folds), evaluation)

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

    def scores(self, events: EventLog, as_of: datetime, model: Model) -> pd.DataFrame:
        """For each customer asked, their `top` likeliest categories and the `top_new` likeliest of those never taken; ordered by customer
        and rank. Who is not asked has one row, with the reason; who is asked while no category is known, too (``too_little_data``).
        """
        import pandas as pd

        self._check(events, model.features)
        reading = read_with_past(events, self.target, [as_of], model.features)
        standing = Standing.of(reading, as_of, events.zone)
        found = Published.of(standing, model, self.target)
        frame = pd.DataFrame({"customer_id": reading.customer_id[found.customer]})
        frame["category"] = np.array(reading.categories, object)[found.category]
        frame["probability"], frame["affinity_index"] = found.probability, found.index
        frame["rank"], frame["is_new"], frame["percentile"] = found.rank, found.new, found.percentile
        frame["not_scored_reason"] = pd.Series([None] * len(frame), dtype=object)
        frame["reasons"] = pd.Series([[] for _ in range(len(frame))], dtype=object)
        reasons = np.array([None, *outcomes.REASONS], object)[reading.reasons[as_of]]
        reasons[np.setdiff1d(standing.eligible, found.customer)] = "too_little_data"
        known = np.flatnonzero((reasons != None) & (reasons != "no_history"))  # noqa: E711
        others = pd.DataFrame({"customer_id": reading.customer_id[known]})
        others["not_scored_reason"] = reasons[known]
        # Where nobody is asked, or everybody, an empty frame must not decide the types of columns.
        parts = [part for part in (frame, others) if len(part)]
        whole = pd.concat(parts, ignore_index=True) if parts else frame
        whole["probability"] = whole.get("probability", np.nan)
        return whole.sort_values("customer_id", kind="stable", ignore_index=True)

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[RankedFold]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""
        if not cutoffs:
            return []
        self._check(events, model.features)
        reading = read_with_past(events, self.target, cutoffs, model.features, labelled=True)
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


@dataclass(frozen=True, eq=False)
class Published:
    """The pairs that are published, ordered by customer and rank; arrays of shape (rows,).

    `index`: the probability over the category's mean among all that were asked for it. `rank`: among all candidates of the customer.
    `percentile`: among all customers that were asked for the category.
    """

    customer: Codes
    category: Codes
    probability: NDArray[np.float64]
    index: NDArray[np.float64]
    rank: NDArray[np.int32]
    new: NDArray[np.bool_]
    percentile: NDArray[np.int32]

    @classmethod
    def of(cls, standing: Standing, model: Model, target: Affinity) -> Published:
        """Score all candidates of everybody who is eligible; all probabilities are held, features of some pairs at a time."""
        parts: list[tuple[Any, ...]] = []
        categories: list[Codes] = []
        everything: list[NDArray[np.float32]] = []
        for customer, category in standing.blocks(standing.eligible):
            probability = model.calibrator.apply(standing.logits(model.scorer, customer, category))
            # A percentile compares what is held for all with what is published: both in single precision.
            held = probability.astype(np.float32)
            categories.append(category)
            everything.append(held)
            new = own(standing.state, customer, category, OCCASIONS) == 0
            kept, rank = _best(customer, probability, new, target)
            parts.append((customer[kept], category[kept], probability[kept], held[kept], rank, new[kept]))
        kinds = (np.int32, np.int32, np.float64, np.float32, np.int32, np.bool_)
        nothing: tuple[Any, ...] = tuple(np.empty(0, kind) for kind in kinds)
        customer, category, probability, held, rank, new = (np.concatenate(each) for each in zip(nothing, *parts, strict=True))
        asked, all_held = np.concatenate([nothing[1], *categories]), np.concatenate([nothing[3], *everything])
        count = np.bincount(asked, minlength=standing.state.categories)
        total = np.bincount(asked, all_held, minlength=standing.state.categories)
        mean = np.divide(total, count, out=np.ones(len(count)), where=count > 0)
        percentile = _percentiles(asked, all_held, category, held)
        return cls(customer, category, probability, probability / mean[category], rank, new, percentile)


def _best(customer: Codes, probability: Any, new: NDArray[np.bool_], target: Affinity) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The places of the pairs to publish, by customer and rank, and their ranks. Equal probabilities keep the order of categories."""
    order = np.lexsort((np.arange(len(customer)), -probability, customer))
    rank = _counted(customer[order])
    among_new = np.zeros(len(order), np.int64)
    is_new = new[order]
    among_new[is_new] = _counted(customer[order][is_new])
    kept = (rank <= target.top) | (is_new & (among_new <= target.top_new))
    return order[kept], rank[kept].astype(np.int32)


def _counted(groups: Codes) -> NDArray[np.int64]:
    """The place of each row in its group, from 1; groups lie together.

    >>> _counted(np.array([4, 4, 7], np.int32)).tolist()
    [1, 2, 1]
    """
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.empty(0, np.int64)
    return np.asarray(np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)])) + 1)


def _percentiles(asked: Codes, everything: Any, category: Codes, published: Any) -> NDArray[np.int32]:
    """ceil(100 · midrank / n) of published probabilities among all of their category."""
    order = np.lexsort((everything, asked))
    bounds = np.searchsorted(asked[order], np.arange(int(asked.max(initial=-1)) + 2))
    found = np.zeros(len(published), np.int32)
    for number in np.unique(category):
        values = everything[order[bounds[number] : bounds[number + 1]]]
        rows = np.flatnonzero(category == number)
        # Twice a midrank is a whole number: integers round up exactly.
        doubled = np.searchsorted(values, published[rows], "left") + np.searchsorted(values, published[rows], "right") + 1
        found[rows] = -((-100 * doubled) // (2 * len(values)))
    return found
