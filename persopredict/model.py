"""What a fit leaves behind, whatever the target: a model, and how it did on cutoffs that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from persopredict.calibration import Calibrator, Kind
from persopredict.comparison import Paired
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.learner import Scorer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Model:
    """All that scoring needs.

    `features`: the customers' features that are computed; `dropped`: those whose window is longer than the history at the first cutoff;
    `inputs`: names of the scorer's columns, in order; `baseline`: the rules to beat; `rows`, `positives`: what it was trained on.
    """

    features: tuple[Feature, ...]
    dropped: tuple[Feature, ...]
    inputs: tuple[str, ...]
    scorer: Scorer
    calibrator: Calibrator
    baseline: Any
    rows: int
    positives: int


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

    def scores(self, events: EventLog, as_of: datetime, model: Model) -> pd.DataFrame:
        """Scores of everybody known at a moment, as `attributes.attributes` takes them, without `model_kind`."""

    def test(self, events: EventLog, cutoffs: Sequence[datetime], model: Model) -> list[Any]:
        """What the model says at cutoffs, beside labels that have ended; the cutoffs without any are left out."""

    def evaluate(self, folds: Sequence[Any], *, name: str, seed: int) -> Any:
        """Predictions beside their baselines."""

    def compare(self, ours: Sequence[Any], theirs: Sequence[Any]) -> Paired:
        """Two models on the same customers at the same cutoffs, ours minus theirs."""

    def from_specs(self, specs: Any) -> tuple[tuple[str, ...], Any, Any]:
        """The model's inputs, its baseline and its evaluation, as they were saved."""
