"""From a log to labelled snapshots, and from these to a model with honest tests (law 5). `Predictor.fit` puts the steps together.

For each test cutoff a model is trained on cutoffs whose labels had ended by then, and on labels as they were known then. Its calibrator is
chosen by the tests before it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import learner
from persopredict.baselines import BaseRate, BestRule
from persopredict.calibration import Choice, Kind
from persopredict.engines.expressions import microseconds, moment
from persopredict.errors import Problem
from persopredict.evaluation import FoldPredictions
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.forward import calibrated, splitter, tested_cutoffs, too_little
from persopredict.learner import Scorer
from persopredict.snapshots import snapshots
from persopredict.targets import Target
from persopredict.usability import MIN_POSITIVES
from persopredict.validation import ForwardSplit

Floats = NDArray[np.float64]

_LEAST_TO_TRAIN = 10
_UNLABELLED = -1


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
    known at this one, None if they were known as they are today.
    """

    cutoff: datetime
    rows: Labelled
    logits: Floats
    baselines: dict[str, Floats]
    train_rows: int
    train_positives: int
    known: Labelled | None = None

    def scores(self, rows: Labelled | None = None) -> tuple[Floats, NDArray[np.int8]]:
        """Logits and labels of those who have a label, today or according to `rows` of the same customers."""
        y = self.rows.y if rows is None else rows.y
        return self.logits[y != _UNLABELLED], y[y != _UNLABELLED]

    def predictions(self, choice: Choice) -> FoldPredictions:
        """Those who have a label today, calibrated."""
        kept = self.rows.y != _UNLABELLED
        logits, y = self.scores()
        baselines = {name: values[kept] for name, values in self.baselines.items()}
        probability = choice.calibrator.apply(logits)
        ids = self.rows.customer_id[kept]
        return FoldPredictions(self.cutoff, ids, y, logits, probability, baselines, self.train_rows, self.train_positives)


@dataclass(frozen=True, eq=False)
class Training:
    """How the models of a target are made, those of the folds and the shipped one alike."""

    events: EventLog
    target: Target
    features: tuple[Feature, ...]
    estimator: Any
    calibration: Literal["auto"] | Kind
    random_state: int

    @property
    def names(self) -> list[str]:
        """The features' names."""
        return [feature.name for feature in self.features]

    @cached_property
    def splitter(self) -> ForwardSplit:
        """Which cutoffs may teach which test."""
        return splitter(self.events, self.target)

    def rows(self, cutoffs: Sequence[datetime], until: datetime) -> Labelled:
        """Snapshots with labels as they were known at `until`; raises `TooLittleDataError` if they can't teach anything."""
        rows = Labelled.of(self._snapshots(cutoffs, self.features, until), self.names, self.target)
        positives, total = rows.positives, len(rows.labelled().y)
        problems = []
        if not total:
            text = f"no customer is eligible at any of {len(cutoffs)} cutoffs"
            problems.append(Problem("no_eligible_customers", text, remedy="widen active_within or the cohort"))
        for code, count, what in (("too_few_positives", positives, "with"), ("too_few_negatives", total - positives, "without")):
            if total and count < MIN_POSITIVES:
                text = f"{count} of {total:,} labelled snapshots are {what} the outcome, {MIN_POSITIVES} are the least to validate"
                problems.append(Problem(code, text, count=count, remedy="lengthen the horizon, or wait for more history"))
        if problems:
            raise too_little(self.target, problems)
        return rows

    def fit(self, rows: Labelled) -> Scorer:
        """The estimator, fitted."""
        return learner.fit(self.estimator, rows.X, rows.y, self.names, self.random_state)

    def rule(self, rows: Labelled) -> BestRule:
        """The best rule of one recency or count."""
        columns = rule_columns(self.features)
        return BestRule.fit(rows.X[:, columns], [self.features[number].name for number in columns], rows.y)

    def tests(self, rows: Labelled) -> list[OutOfTime]:
        """For each test cutoff, the raw scores of a model that knew nothing later; raises `TooLittleDataError` if none can be tested."""
        distinct = rows.cutoffs
        tests = [self._test(cutoff, rows, distinct) for cutoff in tested_cutoffs(self.events, self.target, distinct)]
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
        baselines = {
            "base_rate": BaseRate.fit(taught.y).predict(len(asked.y)),
            "best_rule": self.rule(taught).predict(asked.X[:, rule_columns(self.features)]),
        }
        logits = self.fit(taught).logits(asked.X)
        without = Labelled(asked.customer_id, asked.cutoff, asked.X[:, :0], asked.y)
        return OutOfTime(cutoff, without, logits, baselines, len(taught.y), taught.positives, known)

    def calibrated(self, tests: Sequence[OutOfTime]) -> tuple[list[FoldPredictions], Choice]:
        """Each test calibrated by what the tests before it had taught at its cutoff; and the calibration of all, which is shipped."""

        def scores(place: int, at: int | None) -> tuple[Floats, NDArray[np.int8]]:
            known = None if at is None else tests[at].known
            return tests[place].scores(None if known is None else known.at([tests[place].cutoff]))

        forward, shipped = calibrated([test.cutoff for test in tests], scores, self.splitter, self.calibration)
        return [test.predictions(choice) for test, choice in zip(tests, forward, strict=True)], shipped

    def _snapshots(self, cutoffs: Sequence[datetime], features: Sequence[Feature], until: datetime) -> pa.Table:
        return snapshots(self.events, cutoffs, features, [self.target], until=until).to_arrow()


def rule_columns(features: Sequence[Feature]) -> list[int]:
    """The columns that a rule may read."""
    return [number for number, feature in enumerate(features) if feature.aggregate in ("recency", "count")]
