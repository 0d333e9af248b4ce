"""What a fit leaves behind, whatever the target: a model, and how it did on cutoffs that it had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from persopredict.calibration import Calibrator, Kind
from persopredict.comparison import Paired
from persopredict.drivers import Drivers
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.learner import Scorer

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from persopredict.wording import Wording


#: The salt by which customers are drawn to be explained.
DRAWN = "explained"


@dataclass(frozen=True, eq=False)
class Model:
    """All that scoring needs.

    `features`: the customers' features that are computed; `dropped`: those whose window is longer than the history at the first cutoff;
    `inputs`: names of the scorer's columns, in order; `baseline`: the rules to beat; `rows`, `positives`: what it was trained on;
    `drivers`: what moves its scores, None where it can't tell or was saved before it could.
    """

    features: tuple[Feature, ...]
    dropped: tuple[Feature, ...]
    inputs: tuple[str, ...]
    scorer: Scorer
    calibrator: Calibrator
    baseline: Any
    rows: int
    positives: int
    drivers: Drivers | None = None

    @property
    def groups(self) -> dict[str, int]:
        """What is one concept to the log that it learnt from, by names of features; empty where that is not known."""
        return {} if self.drivers is None else self.drivers.groups


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model with its cutoffs, its out-of-time predictions, and what they came to."""

    model: Model
    cutoffs: tuple[datetime, ...]
    folds: tuple[Any, ...]
    evaluation: Any


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a model is to be made. `features`, `cutoffs`, `estimator`: as asked for, None for the defaults."""

    features: tuple[Feature, ...] | None
    cutoffs: tuple[Any, ...] | None
    estimator: Any
    calibration: Literal["auto"] | Kind
    random_state: int


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows that a model is asked about, with all that explaining them needs.

    `customer_id`: of each row, shape (rows,). `category`: the same; None where the target is asked once for each customer. `X`: what the
    model reads, shape (rows, inputs). `features`: its columns in order, `Feature` or `PairFeature`. `beside`: features that the model does
    not read, but that put into context what it reads, with their values, shape (rows,) each. `groups`: what is one concept to the model's
    log, by names of features.
    """

    customer_id: NDArray[Any]
    category: NDArray[Any] | None
    X: NDArray[np.floating]
    features: tuple[Any, ...]
    beside: Mapping[Feature, NDArray[np.floating]] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)


class Task(Protocol):
    """What a kind of target asks of a log, and how its answers are judged.

    A task is made for one target. `folds` are the out-of-time predictions of its kind, `evaluation` what judges them.
    """

    #: What `compare` compares, in words; lower is better.
    measure: str

    def question(self) -> dict[str, Any]:
        """What is asked, and of which of the library's own features, JSON-ready: part of the recipe."""

    def default_estimator(self, random_state: int) -> Any:
        """The learner where nobody gives one, part of the recipe."""

    def fit(self, events: EventLog, recipe: Recipe, until: datetime) -> Fitted:
        """Train, validate and calibrate on what was known before `until`."""

    def scores(self, events: EventLog, as_of: datetime, model: Model, wording: Wording) -> pd.DataFrame:
        """Scores of everybody known at a moment, as `attributes.attributes` takes them, without `model_kind`; reasons in those words."""

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
        """What the model reads of those asked at a moment, in the order of what is published: of everybody, of at most `sample` customers
        (drawn by md5 of their ids), or of one customer.

        Of pairs those that would be published; with a `category` that one pair, published or not. Raises `SpecificationError` where the
        customer is not asked, with the reason, or where there is no such category.
        """

    def reasons(self, asked: Asked, contributions: NDArray[np.float64], wording: Wording) -> pa.ChunkedArray:
        """The reasons of these rows, as they are published; `contributions` as the model's scorer gives them."""

    def usual(self, asked: Asked, evaluation: Any) -> NDArray[np.float64]:
        """How often the outcome came in the tests of an evaluation, of rows like these, shape (rows,); nan where none were tested."""

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[Any]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""

    def evaluate(self, folds: Sequence[Any], *, name: str, seed: int) -> Any:
        """Predictions beside their baselines."""

    def compare(self, ours: Sequence[Any], theirs: Sequence[Any]) -> Paired:
        """Two models on the same customers at the same cutoffs, ours minus theirs."""

    def from_specs(self, specs: Any) -> tuple[tuple[str, ...], Any, Any]:
        """The model's inputs, its baseline and its evaluation, as they were saved."""
