"""From a log to labelled snapshots, and from these to a model with honest tests (law 5). `Predictor.fit` puts the steps together.

For each test cutoff models of every competing kind are trained on cutoffs whose labels had ended by then, and on labels as they were known
then. Which of them speaks there, and its calibrator, are chosen by the tests before it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import kinds, learner
from persopredict.calibration import Choice, Kind, sigmoid
from persopredict.engines.expressions import microseconds, moment
from persopredict.errors import Problem
from persopredict.evaluation import FoldPredictions
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.forward import FOLDS, calibrated, splitter, tested_cutoffs, too_little
from persopredict.kinds import Taught
from persopredict.learner import Scorer
from persopredict.metrics import log_loss
from persopredict.progress import track
from persopredict.snapshots import snapshots
from persopredict.targets import Churn, Target
from persopredict.times import on_the_clock
from persopredict.usability import MIN_POSITIVES
from persopredict.validation import ForwardSplit

Floats = NDArray[np.float64]

_LEAST_TO_TRAIN = 5
_UNLABELLED = -1
#: The kind under which a user's own estimator goes until it is fitted.
_GIVEN = "given"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Snapshots of one target in memory: compact numbers, no events; ordered by customer and cutoff.

    `customer_id`: text, shape (rows,). `cutoff`: microseconds, shape (rows,). `X`: features, nan where null, shape (rows, features).
    `y`: 0 or 1, -1 where there is no label, shape (rows,).
    """

    customer_id: NDArray[Any]
    cutoff: NDArray[np.int64]
    X: Floats
    y: NDArray[np.int8]

    @classmethod
    def of(cls, table: pa.Table, names: Sequence[str], target: Target) -> Labelled:
        """All rows of a table of snapshots."""
        y = table.column(f"label_{target.name}").fill_null(_UNLABELLED).to_numpy().astype(np.int8)
        return cls(table.column("customer_id").to_numpy(), table.column("cutoff").cast(pa.int64()).to_numpy(), matrix(table, names), y)

    @property
    def cutoffs(self) -> list[datetime]:
        """The cutoffs that have rows, ascending."""
        return [moment(int(cutoff)) for cutoff in np.unique(self.cutoff)]

    @property
    def positives(self) -> int:
        """How many rows have the outcome."""
        return int(np.count_nonzero(self.y == 1))

    def at(self, cutoffs: Sequence[datetime]) -> Labelled:
        """The rows of these cutoffs."""
        return self._only(np.isin(self.cutoff, [microseconds(cutoff) for cutoff in cutoffs]))

    def labelled(self) -> Labelled:
        """The rows that have a label."""
        return self._only(self.y != _UNLABELLED)

    def as_known(self, other: Labelled) -> Labelled:
        """The same snapshots with the labels of `other`, as another moment knew them; neither who is asked nor the order depends on it."""
        return Labelled(self.customer_id, self.cutoff, self.X, other.y)

    def _only(self, chosen: NDArray[np.bool_]) -> Labelled:
        if chosen.all():
            return self
        return Labelled(self.customer_id[chosen], self.cutoff[chosen], self.X[chosen], self.y[chosen])


def matrix(table: pa.Table, names: Sequence[str]) -> Floats:
    """The features as one matrix, shape (rows, features), nan where null."""
    found = np.empty((table.num_rows, len(names)))
    for place, name in enumerate(names):
        found[:, place] = table.column(name).to_numpy()
    return found


@dataclass(frozen=True, eq=False)
class OutOfTime:
    """What a model that knew nothing later said at a test cutoff.

    `rows`: who was asked, without features, with labels as they are known today; `known`: the cutoffs before, with labels as they were
    known at this one, None if they were known as they are today. `logits`: of each kind of model. `share`: of the customers that were
    looked at.
    """

    cutoff: datetime
    rows: Labelled
    logits: Mapping[str, Floats]
    baselines: dict[str, Floats]
    train_rows: int
    train_positives: int
    known: Labelled | None = None
    share: float = 1.0

    def scores(self, kind: str, rows: Labelled | None = None) -> tuple[Floats, NDArray[np.int8]]:
        """Logits and labels of those who have a label, today or according to `rows` of the same customers."""
        y = self.rows.y if rows is None else rows.y
        return self.logits[kind][y != _UNLABELLED], y[y != _UNLABELLED]

    def predictions(self, kind: str, choice: Choice) -> FoldPredictions:
        """Those who have a label today, by one kind of model, calibrated."""
        kept = self.rows.y != _UNLABELLED
        logits, y = self.scores(kind)
        baselines = {name: values[kept] for name, values in self.baselines.items()}
        probability = choice.calibrator.apply(logits)
        ids = self.rows.customer_id[kept]
        return FoldPredictions(self.cutoff, ids, y, logits, probability, baselines, self.train_rows, self.train_positives, self.share)


@dataclass(frozen=True, eq=False)
class Tested:
    """What the tests came to.

    `folds`: predictions of the kind that was chosen before each. `kind`: the one that is shipped, with its calibration `choice`. `losses`:
    what it was chosen by, each kind's pooled log-loss before calibration.
    """

    folds: list[FoldPredictions]
    kind: str
    choice: Choice
    losses: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Training:
    """How the models of a target are made, those of the folds and the shipped one alike.

    `features`: asked for. `estimator`: what the user gave, None to let the library's own kinds of models compete. `share`: of the customers
    that are looked at, drawn by md5.
    """

    events: EventLog
    target: Target
    features: tuple[Feature, ...]
    estimator: Any
    calibration: Literal["auto"] | Kind
    random_state: int
    share: float = 1.0

    @cached_property
    def computed(self) -> tuple[Feature, ...]:
        """The features asked for, then those that the baselines read besides."""
        return kinds.with_rhythm(self.features, self.target)

    @property
    def names(self) -> list[str]:
        """The names of what is computed."""
        return [feature.name for feature in self.computed]

    @property
    def competing(self) -> tuple[str, ...]:
        """The kinds of models that are tried."""
        return kinds.competing(self.target) if self.estimator is None else (_GIVEN,)

    @cached_property
    def splitter(self) -> ForwardSplit:
        """Which cutoffs may teach which test."""
        return splitter(self.events, self.target)

    def rows(self, cutoffs: Sequence[datetime], until: datetime) -> Labelled:
        """Snapshots with labels as they were known at `until`; raises `TooLittleDataError` if they can't teach anything."""
        rows = Labelled.of(self._snapshots(cutoffs, self.computed, until), self.names, self.target)
        positives, total = rows.positives, len(rows.labelled().y)
        problems = []
        if not total:
            text = f"no customer is eligible at any of {len(cutoffs)} cutoffs"
            problems.append(Problem("no_eligible_customers", text, remedy="widen active_within or the cohort"))
        for code, count, what in (("too_few_positives", positives, "with"), ("too_few_negatives", total - positives, "without")):
            if total and count < MIN_POSITIVES:
                text = f"{count} of {total:,} labelled snapshots are {what} the outcome, {MIN_POSITIVES} are the least to validate"
                problems.append(Problem(code, text, count=count, remedy=self._more(code, count)))
        if problems:
            raise too_little(self.target, problems)
        return rows

    def _more(self, code: str, count: int) -> str:
        """How more rows would get a label that too few have: the longer a horizon, the fewer stay away."""
        stays = isinstance(self.target, Churn)
        if stays and code == "too_few_negatives" and not count:
            return "nobody came back: of an event that happens once, ask for a conversion; of contracts, for a cancellation"
        way = "lengthen" if (code == "too_few_positives") != stays else "shorten"
        return f"{way} the horizon, or wait for more history"

    def taught(self, rows: Labelled) -> Taught:
        """Labelled rows as something to learn from."""
        between = kinds.overlap(rows.cutoffs, self.target)
        return Taught(self.target, self.computed, len(self.features), rows.X, rows.y, rows.customer_id, rows.cutoff, between)

    def fit(self, taught: Taught, kind: str) -> Scorer:
        """A model of this kind."""
        if kind != kinds.TREES and kind != _GIVEN:
            return taught.scorer(kind, None, self.random_state)
        estimator = learner.default_estimator(self.random_state) if self.estimator is None else self.estimator
        return taught.scorer(kinds.TREES, estimator, self.random_state)

    def tests(self, rows: Labelled) -> list[OutOfTime]:
        """For each test cutoff, the raw scores of models that knew nothing later; raises `TooLittleDataError` if none can be tested."""
        distinct = rows.cutoffs
        # Where kinds compete, one test more comes before the others: it is not judged, but the first choice rests on it.
        most = FOLDS + (len(self.competing) > 1)
        tested = tested_cutoffs(self.events, self.target, distinct, most)
        tests = [self._test(cutoff, rows, distinct) for cutoff in track(tested, "cutoff")]
        found = [test for test in tests if test is not None]
        if not found:
            text = f"no test cutoff has {_LEAST_TO_TRAIN} customers with and without the outcome to train on before it"
            remedy = "lengthen the horizon, or wait for more history"
            raise too_little(self.target, [Problem("no_test_cutoff", text, count=len(distinct), remedy=remedy)])
        return found

    def _test(self, cutoff: datetime, rows: Labelled, cutoffs: Sequence[datetime]) -> OutOfTime | None:
        earlier, known = self.splitter.trains(cutoff, cutoffs), None
        taught, asked = rows.at(earlier), rows.at([cutoff])
        if self.events.late:
            # A label that became known after the test cutoff must not teach the model that is tested there.
            known = Labelled.of(self._snapshots(earlier, (), cutoff), (), self.target)
            taught = taught.as_known(known)
        taught = taught.labelled()
        if min(taught.positives, len(taught.y) - taught.positives) < _LEAST_TO_TRAIN or not len(asked.labelled().y):
            return None
        lesson = self.taught(taught)
        scorers = {kind: self.fit(lesson, kind) for kind in self.competing}
        logits = {kind: scorer.logits(asked.X[:, lesson.columns(scorer.names)]) for kind, scorer in scorers.items()}
        without = Labelled(asked.customer_id, asked.cutoff, asked.X[:, :0], asked.y)
        baselines = lesson.rivals.predict(asked.X, lesson.names)
        trained = len(taught.y), taught.positives
        return OutOfTime(on_the_clock(cutoff, self.events.zone), without, logits, baselines, *trained, known, self.share)

    def tested(self, tests: Sequence[OutOfTime]) -> Tested:
        """Each test by the kind, and with the calibration, that the tests before it had taught at its cutoff; and what is shipped."""
        cutoffs = [test.cutoff for test in tests]
        usable = [[cutoffs.index(earlier) for earlier in self.splitter.trains(cutoff, cutoffs)] for cutoff in cutoffs]
        losses = self._losses(tests, range(len(tests)), None)
        chosen = [kinds.best(self._losses(tests, usable[place], place), self.competing) for place in range(len(tests))]
        shipped = kinds.best(losses, self.competing)
        calibrations = {kind: self._calibrated(tests, kind) for kind in {*chosen, shipped}}
        folds = [test.predictions(kind, calibrations[kind][0][place]) for place, (test, kind) in enumerate(zip(tests, chosen, strict=True))]
        return Tested(folds[-FOLDS:], shipped, calibrations[shipped][1], losses)

    def _losses(self, tests: Sequence[OutOfTime], places: Sequence[int], at: int | None) -> dict[str, float]:
        """Each kind's log-loss over some of the tests, by labels as they are known today or were known at a test; none without tests."""
        if not places:
            return {}
        found = {}
        for kind in self.competing:
            said = [self._scores(tests, kind, place, at) for place in places]
            logits, y = (np.concatenate(parts) for parts in zip(*said, strict=True))
            if len(y):
                found[kind] = log_loss(y, sigmoid(logits))
        return found

    def _scores(self, tests: Sequence[OutOfTime], kind: str, place: int, at: int | None) -> tuple[Floats, NDArray[np.int8]]:
        known = None if at is None else tests[at].known
        return tests[place].scores(kind, None if known is None else known.at([tests[place].cutoff]))

    def _calibrated(self, tests: Sequence[OutOfTime], kind: str) -> tuple[list[Choice], Choice]:
        def scores(place: int, at: int | None) -> tuple[Floats, NDArray[np.int8]]:
            return self._scores(tests, kind, place, at)

        return calibrated([test.cutoff for test in tests], scores, self.splitter, self.calibration)

    def _snapshots(self, cutoffs: Sequence[datetime], features: Sequence[Feature], until: datetime) -> pa.Table:
        return snapshots(self.events, cutoffs, features, [self.target], until=until, share=self.share).to_arrow()
