"""From a log to pairs with labels, and from these to a model of an affinity with honest tests (law 5), as `training` does for customers.

For each test cutoff a model is trained on pairs of cutoffs whose labels had ended by then; population tables are always those of the pair's
own cutoff. Its calibrator is chosen by the tests before it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from persopredict import learner
from persopredict.affinity import states
from persopredict.affinity.baselines import DECIDING, PairBaselines, own
from persopredict.affinity.candidates import candidates
from persopredict.affinity.features import PAIR_FEATURES, pair_matrix
from persopredict.affinity.occasions import Occasions
from persopredict.affinity.pairs import OCCASIONS, SPANS, Codes, Floats32, State
from persopredict.affinity.population import Population
from persopredict.affinity.sampling import MOST_ROWS, MOST_TESTED, SALT, Held, drawn, row_hashes
from persopredict.affinity.states import Reading, Taken, spans_of
from persopredict.calibration import Calibrator, Choice, Kind, sigmoid
from persopredict.draws import hashes, uniform
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, microseconds, select
from persopredict.errors import Problem
from persopredict.events import EventLog
from persopredict.features.measures import Integers
from persopredict.features.spec import Feature
from persopredict.forward import FOLDS, calibrated, splitter, tested_cutoffs, too_little
from persopredict.learner import Scorer
from persopredict.progress import track
from persopredict.ranking import RankedFold
from persopredict.sources import CUSTOMER
from persopredict.targets import Affinity
from persopredict.times import Duration, on_the_clock
from persopredict.usability import MIN_POSITIVES
from persopredict.validation import ForwardSplit

_LEAST_TO_TRAIN = 10
_YEAR = Duration(days=364)
#: Customers whose pairs are laid out at a time, so that a block of all their candidates stays below 100 MB.
_BLOCK_ROWS = 500_000


@dataclass(frozen=True, eq=False)
class Standing:
    """A log as it stood at one moment, with everything that pairs are asked with.

    `state`, `population`: from before the moment. `features`: the customers' own, shape (customers, features). `cutoff`: the moment by the
    log's clocks.
    """

    state: State
    population: Population
    features: Floats32
    cutoff: datetime

    @classmethod
    def of(cls, reading: Reading, moment: datetime, zone: ZoneInfo, population: Population | None = None) -> Standing:
        """Of a reading that holds the moment and, where the population is not given, the horizons before it."""
        state, learnt = reading.states[moment], population or population_of(reading, moment, zone)
        return cls(state, learnt, reading.features[moment], on_the_clock(moment, zone))

    @classmethod
    def asked(cls, events: EventLog, target: Affinity, moment: datetime, features: Sequence[Feature]) -> tuple[Reading, Standing]:
        """Everybody at a moment, for scores. Of more pairs than a training holds, the horizons before it are read of drawn customers alone,
        as there: the population's tables need no more of them.
        """
        chosen = drawn_customers(events, held_at(events, target, [moment]))
        if chosen is None:
            reading = read_with_past(events, target, [moment], features)
            return reading, cls.of(reading, moment, events.zone)
        reading = states.read(events, target, [moment], features=features)
        past = read_with_past(events, target, [moment], (), chosen=chosen, categories=reading.categories)
        # What only others have taken is known, too.
        population = replace(population_of(past, moment, events.zone), seen=np.flatnonzero(reading.states[moment].seen))
        return reading, cls.of(reading, moment, events.zone, population)

    def blocks(self, customers: NDArray[Any]) -> Iterator[tuple[Codes, Codes]]:
        """The candidates of some customers, some of these at a time, in order: customer and category of each pair."""
        size = max(1, _BLOCK_ROWS // max(1, min(self.state.categories, 500)))
        for start in track(range(0, len(customers), size), "customers", numbered=False):
            yield candidates(self.state, self.population, customers[start : start + size])

    def matrix(self, customer: Codes, category: Codes) -> Floats32:
        """The features of pairs, those of their customers last, shape (rows, features)."""
        found = pair_matrix(self.state, self.population, customer, category)
        return np.hstack([found, self.features[customer]]) if self.features.shape[1] else found

    def pairs(self, customers: NDArray[Any]) -> tuple[Codes, Codes]:
        """All candidates of some customers."""
        parts = list(self.blocks(customers))
        nothing = np.empty(0, np.int32)
        return np.concatenate([nothing, *(part[0] for part in parts)]), np.concatenate([nothing, *(part[1] for part in parts)])

    def logits(self, scorer: Scorer, customer: Codes, category: Codes) -> NDArray[np.float64]:
        """Raw scores of pairs in order of customer, shape (rows,); features are laid out for some of them at a time."""
        cuts = np.searchsorted(customer, customer[_BLOCK_ROWS::_BLOCK_ROWS])
        parts = zip(np.split(customer, cuts), np.split(category, cuts), strict=True)
        return np.concatenate([np.empty(0), *(scorer.logits(self.matrix(who, what)) for who, what in parts if len(who))])

    @property
    def eligible(self) -> NDArray[np.int64]:
        """The customers that are asked."""
        return np.flatnonzero(self.state.eligible)


def population_of(reading: Reading, moment: datetime, zone: ZoneInfo) -> Population:
    """The population at a moment, of a reading that holds it and the horizons before it."""
    horizon = reading.horizon
    back = [moment, *(spans_of(horizon, number).before(moment, zone) for number in range(1, SPANS + 1))]
    held = [reading.states[each] for each in back if each in reading.states]
    before, after = (reading.states.get(each) for each in season_of(moment, horizon, zone))
    return Population.of(held, season=(before, after) if before is not None and after is not None else None)


def labels_of(taken: Taken, customer: NDArray[np.integer], category: NDArray[np.integer], categories: int) -> NDArray[np.int8]:
    """1 where a pair is among those that were taken, else 0."""
    asked = customer.astype(np.int64) * categories + category
    return np.isin(asked, taken.customer.astype(np.int64) * categories + taken.category).astype(np.int8)


@dataclass(frozen=True, eq=False)
class PairRows:
    """Drawn pairs of several cutoffs: `cutoff` in microseconds, `customer`, `category`, `y`, `weight` of shape (rows,), `X` of shape
    (rows, features).
    """

    cutoff: NDArray[np.int64]
    customer: Codes
    category: Codes
    X: Floats32
    y: NDArray[np.int8]
    weight: Floats32

    @classmethod
    def joined(cls, parts: Sequence[PairRows]) -> PairRows:
        """The rows of all parts."""
        names = ("cutoff", "customer", "category", "X", "y", "weight")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def at(self, cutoffs: Sequence[datetime]) -> PairRows:
        """The rows of these cutoffs."""
        kept = np.isin(self.cutoff, [microseconds(cutoff) for cutoff in cutoffs])
        return PairRows(self.cutoff[kept], self.customer[kept], self.category[kept], self.X[kept], self.y[kept], self.weight[kept])


@dataclass(frozen=True, eq=False)
class PairTest:
    """What a model that knew nothing later said about the candidates of a test cutoff.

    `fold`: with probabilities that are not calibrated yet. `known`: what had been taken at earlier cutoffs as it was known at this one,
    None where nothing became known late.
    """

    cutoff: datetime
    fold: RankedFold
    known: Mapping[datetime, Taken | None] | None = None

    def labels(self, known: Mapping[datetime, Taken | None] | None = None) -> NDArray[Any]:
        """Labels as they are known today, or in what was `known` at a later test."""
        taken = None if known is None else known.get(self.cutoff)
        if taken is None:
            return self.fold.y
        return labels_of(taken, self.fold.customer, self.fold.category, len(self.fold.categories))

    def calibrated(self, choice: Choice) -> RankedFold:
        """The fold with calibrated probabilities."""
        return replace(self.fold, probability=choice.calibrator.apply(self.fold.logit))


@dataclass(frozen=True, eq=False)
class PairTraining:
    """How the models of an affinity are made, those of the folds and the shipped one alike; `features`: the customers' own."""

    events: EventLog
    target: Affinity
    features: tuple[Feature, ...]
    estimator: Any
    calibration: Literal["auto"] | Kind
    random_state: int

    @property
    def names(self) -> list[str]:
        """The model's inputs, in order."""
        return input_names(self.features)

    @cached_property
    def splitter(self) -> ForwardSplit:
        """Which cutoffs may teach which test."""
        return splitter(self.events, self.target)

    # Reading -------------------------------------------------------------------------------------------------------------------------

    def reading(self, cutoffs: Sequence[datetime], until: datetime | None, chosen: Integers | None = None) -> Reading:
        """The log at the cutoffs and the horizons before them, with labels as they were known at `until`."""
        return read_with_past(self.events, self.target, cutoffs, self.features, labelled=True, until=until, chosen=chosen)

    def held(self, cutoffs: Sequence[datetime]) -> tuple[list[datetime], Integers | None]:
        """The cutoffs and the numbers of the customers that a training holds; all where they are few enough."""
        held, moments = held_at(self.events, self.target, cutoffs), past_of(cutoffs, self.target, self.events)
        kept = [cutoff for cutoff in cutoffs if cutoff >= moments[-held.moments]]
        return kept if len(kept) > 1 else list(cutoffs[-2:]), drawn_customers(self.events, held)

    # Rows ----------------------------------------------------------------------------------------------------------------------------

    def rows(self, reading: Reading, standings: Mapping[datetime, Standing], cutoffs: Sequence[datetime]) -> PairRows:
        """Drawn candidates of the cutoffs whose labels have ended; raises `TooLittleDataError` if they can't teach anything."""
        of_customers, of_categories = hashes(reading.customer_id, SALT), hashes(reading.categories, SALT)
        budget = MOST_ROWS // max(1, len(cutoffs))
        parts: list[PairRows] = []
        for cutoff in cutoffs:
            taken, standing = reading.taken[cutoff], standings[cutoff]
            if taken is None or not len(standing.eligible):
                continue
            customer, category = standing.pairs(standing.eligible)
            y = labels_of(taken, customer, category, len(reading.categories))
            hashed = row_hashes(customer, category, of_customers, of_categories, microseconds(cutoff))
            places, weight = drawn(hashed, y == 1, own(standing.state, customer, category, OCCASIONS) == 0, budget)
            who, what = customer[places], category[places]
            X = standing.matrix(who, what)
            parts.append(PairRows(np.full(len(places), microseconds(cutoff)), who, what, X, y[places], weight))
        if not any(len(standings[cutoff].eligible) for cutoff in cutoffs):
            text = f"no customer is eligible at any of {len(cutoffs)} cutoffs"
            raise too_little(self.target, [Problem("no_eligible_customers", text, remedy="widen active_within or the cohort")])
        self._enough(parts, len(cutoffs))
        return PairRows.joined(parts)

    def _enough(self, parts: Sequence[PairRows], cutoffs: int) -> None:
        total, positives = sum(len(part.y) for part in parts), sum(int(part.y.sum()) for part in parts)
        problems = []
        if not total:
            text = f"no event of the target had named a {self.target.by} at any of {cutoffs} cutoffs"
            problems.append(Problem("no_category", text, remedy="take another level, or fill the column in"))
        for code, number, what in (("too_few_positives", positives, "taken"), ("too_few_negatives", total - positives, "not taken")):
            if total and number < MIN_POSITIVES:
                text = f"{number} pairs of {total:,} were {what}, {MIN_POSITIVES} are the least to validate"
                remedy = "take a coarser category, lengthen the horizon, or wait for more history"
                problems.append(Problem(code, text, count=number, remedy=remedy))
        if problems:
            raise too_little(self.target, problems)

    def fit(self, rows: PairRows) -> Scorer:
        """The estimator, fitted."""
        return learner.fit(self.estimator, rows.X, rows.y, self.names, self.random_state, weight=rows.weight)

    def baselines(
        self, known: Mapping[datetime, Taken | None], standings: Mapping[datetime, Standing], cutoffs: Sequence[datetime]
    ) -> PairBaselines:
        """The lists to beat, at their best at the last of the cutoffs, of which is `known` what was taken."""
        for cutoff in reversed(cutoffs):
            taken, standing = known[cutoff], standings[cutoff]
            if taken is not None and len(eligible := standing.eligible):
                customer, category = standing.pairs(eligible[:: -(-len(eligible) // DECIDING)])
                y = labels_of(taken, customer, category, standing.state.categories)
                return PairBaselines.fit(standing.state, standing.population, customer, category, y)
        return PairBaselines()

    # Tests ---------------------------------------------------------------------------------------------------------------------------

    def tests(
        self,
        reading: Reading,
        standings: Mapping[datetime, Standing],
        rows: PairRows,
        cutoffs: Sequence[datetime],
        chosen: Integers | None = None,
    ) -> list[PairTest]:
        """For each test cutoff, what a model that knew nothing later said; raises `TooLittleDataError` if none can be tested.

        `chosen`: the customers that the reading holds.
        """
        found = []
        for cutoff in track(tested_cutoffs(self.events, self.target, cutoffs, FOLDS), "cutoff"):
            earlier, known = self.splitter.trains(cutoff, cutoffs), None
            taught = rows.at(earlier)
            if self.events.late:
                # A label that became known after the test cutoff must not teach the model that is tested there.
                known = self.reading(earlier, cutoff, chosen).taken
                taught = replace(taught, y=self._as_known(taught, known, earlier, len(reading.categories)))
            positives = int(taught.y.sum())
            if min(positives, len(taught.y) - positives) < _LEAST_TO_TRAIN or not len(standings[cutoff].eligible):
                continue
            scorer, baselines = self.fit(taught), self.baselines(known or reading.taken, standings, earlier)
            fold = ranked(reading, standings[cutoff], scorer, None, baselines, (len(taught.y), positives))
            if fold is not None:
                found.append(PairTest(cutoff, fold, known))
        if not found:
            text = f"no test cutoff has {_LEAST_TO_TRAIN} pairs that were taken, and as many that were not, to train on before it"
            remedy = "take a coarser category, lengthen the horizon, or wait for more history"
            raise too_little(self.target, [Problem("no_test_cutoff", text, count=len(cutoffs), remedy=remedy)])
        return found

    def _as_known(self, rows: PairRows, known: Mapping[datetime, Taken | None], cutoffs: Sequence[datetime], categories: int) -> Any:
        y = rows.y.copy()
        for cutoff in cutoffs:
            here, taken = rows.cutoff == microseconds(cutoff), known[cutoff]
            if taken is not None:
                y[here] = labels_of(taken, rows.customer[here], rows.category[here], categories)
        return y

    def calibrated(self, tests: Sequence[PairTest]) -> tuple[list[RankedFold], Choice]:
        """Each test calibrated by what the tests before it had taught at its cutoff; and the calibration of all, which is shipped."""

        def scores(place: int, at: int | None) -> tuple[Any, NDArray[Any]]:
            return tests[place].fold.logit, tests[place].labels(None if at is None else tests[at].known)

        forward, shipped = calibrated([test.cutoff for test in tests], scores, self.splitter, self.calibration)
        return [test.calibrated(choice) for test, choice in zip(tests, forward, strict=True)], shipped


def input_names(features: Sequence[Feature]) -> list[str]:
    """The inputs of an affinity's model: features of pairs, then the customers' own."""
    return [*(feature.name for feature in PAIR_FEATURES), *(feature.name for feature in features)]


def season_of(moment: datetime, horizon: Duration, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The same day a year (52 weeks, so that it is the same weekday) earlier, and a horizon after it."""
    then = _YEAR.before(moment, zone)
    return then, min(horizon.after(then, zone), moment)


def past_of(cutoffs: Sequence[datetime], target: Affinity, events: EventLog) -> list[datetime]:
    """The cutoffs and, of each, the horizons before it that the target's events reach back to, and the season a year ago if they reach back
    to the horizon before that; ascending.
    """
    start, horizon = events.observed_for(target)[0], target.horizon
    back = {spans_of(horizon, number).before(cutoff, events.zone) for cutoff in cutoffs for number in range(1, SPANS + 1)}
    seasons = (season_of(cutoff, horizon, events.zone) for cutoff in cutoffs)
    then = {moment for season in seasons if horizon.before(season[0], events.zone) >= start for moment in season}
    return sorted({*cutoffs, *(moment for moment in back if moment > start), *then})


def read_with_past(events: EventLog, target: Affinity, cutoffs: Sequence[datetime], features: Sequence[Feature], **how: Any) -> Reading:
    """The log at the cutoffs and the horizons before them; `how` as in `states.read`."""
    return states.read(events, target, past_of(cutoffs, target, events), features=features, **how)


def held_at(events: EventLog, target: Affinity, cutoffs: Sequence[datetime]) -> Held:
    """How much of the log is held where it is read at the cutoffs and the horizons before them."""
    pairs, customers = Occasions(events, target, by=target.by).size(cutoffs[-1])
    return Held.of(pairs, len(past_of(cutoffs, target, events)), customers)


def drawn_customers(events: EventLog, held: Held) -> Integers | None:
    """The numbers of the customers who are held; None for all."""
    if held.share >= 1:
        return None
    query = select({"customer_id": col("customer_id")}, events.owners).order_by(col(CUSTOMER))
    return held.chosen(events.engine.arrow(Step("ids", query)).column(0).to_pylist())


def ranked(
    reading: Reading,
    standing: Standing,
    scorer: Scorer,
    calibrator: Calibrator | None,
    baselines: PairBaselines,
    trained: tuple[int, int],
) -> RankedFold | None:
    """A model and the baselines at a cutoff, beside what was taken; None if its label has not ended or nobody is asked.

    Customers beyond what a test can hold are left out by their ids. `trained`: rows and positives of the model.
    """
    taken, customers = reading.taken[standing.state.moment], standing.eligible
    if taken is None:
        return None
    most = max(1, MOST_TESTED // max(1, min(standing.state.categories, 500)))
    if len(customers) > most:
        customers = customers[uniform(hashes(reading.customer_id[customers], SALT)) < most / len(customers)]
    customer, category = standing.pairs(customers)
    if not len(customer):
        return None
    logits = standing.logits(scorer, customer, category)
    probability = sigmoid(logits) if calibrator is None else calibrator.apply(logits)
    mine = np.isin(taken.customer, customers)
    new = own(standing.state, taken.customer[mine], taken.category[mine], OCCASIONS) == 0
    place = np.searchsorted(customers, taken.customer[mine])
    return RankedFold(
        standing.cutoff,
        reading.customer_id[customers],
        reading.categories,
        np.searchsorted(customers, customer).astype(np.int32),
        category,
        labels_of(taken, customer, category, len(reading.categories)),
        own(standing.state, customer, category, OCCASIONS) == 0,
        logits,
        np.clip(probability, 1e-9, 1 - 1e-9),
        baselines.scores(standing.state, standing.population, customer, category),
        standing.population.base_rate[category],
        np.bincount(place, minlength=len(customers)),
        np.bincount(place[new], minlength=len(customers)),
        *trained,
    )
