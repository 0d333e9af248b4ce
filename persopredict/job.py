"""The nightly job: train what is due, score everybody, publish once.

One job at a time works on a warehouse (a lock file beside it, released by the system if the job dies). Nothing is visible to readers before
the one transaction at the end; models and their versions are registered earlier, but serve nobody until an alias names them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persopredict.errors import (
    InSampleError,
    NotReadyError,
    PersopredictError,
    Problem,
    SpecificationError,
    TooLittleDataError,
    WarehouseBusyError,
)
from persopredict.evaluation import Evaluation
from persopredict.events import EventLog, Moment
from persopredict.predictor import Predictor
from persopredict.promotion import judge
from persopredict.registry import ModelVersion, Registry
from persopredict.times import Duration, instant, local_midnight
from persopredict.usability import UsabilityReport, stale_sources
from persopredict.warehouse import Run, Warehouse

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a job made of one target.

    `state`: "published", "trained" or "skipped"; `code` and `reason` say why it was skipped; `notes` what else a reader should know
    (promotion, dropped features); `counts` customers by status.
    """

    target: str
    state: str
    code: str = ""
    reason: str = ""
    evaluation: Evaluation | None = None
    model_version: str = ""
    trained_until: datetime | None = None
    counts: dict[str, int] = field(default_factory=dict)
    attributes: pd.DataFrame | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def grade(self) -> str:
        """The grade of the model that served, "" without one."""
        return self.evaluation.grade if self.evaluation else ""

    def __str__(self) -> str:
        """A few lines: the model beside its baselines, then counts and notes."""
        if self.state == "skipped":
            return f"{self.target}: skipped ({self.code}). {self.reason}"
        lines = [str(self.evaluation)] if self.evaluation else [self.target]
        if self.counts:
            lines.append("customers: " + ", ".join(f"{count:,} {status}" for status, count in self.counts.items()))
        lines.append(f"model version {self.model_version}, trained until {self.trained_until:%Y-%m-%d}" if self.trained_until else "")
        return "\n".join([*filter(None, lines), *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job did. `exit_code`: 0 done, 3 nothing could be published, 4 some targets were skipped."""

    as_of: datetime
    outcomes: tuple[Outcome, ...]
    report: UsabilityReport

    @property
    def exit_code(self) -> int:
        """The process's exit code for a scheduler."""
        skipped = [outcome for outcome in self.outcomes if outcome.state == "skipped"]
        return 0 if not skipped else 3 if len(skipped) == len(self.outcomes) else 4

    def __str__(self) -> str:
        """Everything a person wants to read after a run."""
        lost = f"{self.report.quarantined:,} of {self.report.rows:,} rows could not be used and are in quarantine"
        head = [f"as of {self.as_of:%Y-%m-%d %H:%M} UTC: {self.report.usable:,} events of {self.report.customers:,} customers"]
        head += [lost] if self.report.quarantined else []
        return "\n\n".join(["\n".join(head), *(str(outcome) for outcome in self.outcomes)])


class Job:
    """Trains, scores and publishes several targets of one log.

    Parameters
    ----------
    events : the log.
    predictors : one for each target; fitted ones serve as recipes, the registry's champions serve.
    warehouse : DuckDB file, or a `Warehouse`.
    tracking : MLflow store, default ``mlflow.db`` beside the warehouse.
    project : name of the MLflow experiment.
    retrain_every : a champion older than this at `as_of` is retrained; default ``"28d"``.
    max_staleness : a source whose observation ends earlier than this before `as_of` stops the job; default ``"3d"``.
    keep : how much history the warehouse keeps; default all.
    progress : told each step as it begins.

    Raises `SpecificationError` if two predictors share a target's name.
    """

    def __init__(
        self,
        events: EventLog,
        predictors: Sequence[Predictor],
        *,
        warehouse: str | Path | Warehouse,
        tracking: str | None = None,
        project: str = "persopredict",
        retrain_every: str | Duration = "28d",
        max_staleness: str | Duration = "3d",
        keep: str | Duration | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        names = [predictor.target.name for predictor in predictors]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names:
            raise SpecificationError(f"a job needs targets of different names; twice: {', '.join(doubled) or 'none given'}")
        self.events, self.predictors = events, tuple(predictors)
        self.warehouse = warehouse if isinstance(warehouse, Warehouse) else Warehouse(warehouse, timezone=events.timezone)
        self.tracking = tracking or f"sqlite:///{self.warehouse.path.with_name('mlflow.db').resolve()}"
        self.project = project
        self.retrain_every, self.max_staleness = Duration.parse(retrain_every), Duration.parse(max_staleness)
        self.keep = None if keep is None else Duration.parse(keep)
        self._progress = progress or (lambda step: None)

    # What people call ------------------------------------------------------------------------------------------------------------------

    def train(self, until: Moment | None = None) -> JobResult:
        """Train, register and, if better, promote every target's model on what was known before `until` (default the last midnight)."""
        return self._work(self._moment(until), train="always", score=False)

    def score(self, as_of: Moment | None = None) -> JobResult:
        """Score with the champions and publish, as of `as_of` (default the last midnight)."""
        return self._work(self._moment(as_of), train="never", score=True)

    def run(self, as_of: Moment | None = None) -> JobResult:
        """Train what is due, score, publish, as of `as_of` (default the last midnight in the log's time zone).

        Run again for the same `as_of`, it leaves the same rows, `scored_at` aside.

        Raises
        ------
        NotReadyError : a source is stale; nothing was published (exit code 3).
        DataError : the log can't be used (exit code 1).
        WarehouseBusyError : another job or process holds the warehouse (exit code 1).
        """
        return self._work(self._moment(as_of), train="due", score=True)

    # How it is done --------------------------------------------------------------------------------------------------------------------

    def _moment(self, value: Moment | None) -> datetime:
        return local_midnight(datetime.now(UTC), self.events._zone) if value is None else instant(value, self.events._zone)

    def _work(self, as_of: datetime, *, train: str, score: bool) -> JobResult:
        with self._alone():
            self._progress("reading and checking the events")
            report = self.events.check([predictor.target for predictor in self.predictors], as_of)
            # A log that can't be used raises here with every problem; problems of single targets are theirs to report.
            self.events.prepare()
            self._refuse_stale(as_of)
            self._progress("opening the model store")
            registry = Registry(self.tracking, self.project)
            registry.recover()
            outcomes = tuple(self._target(predictor, registry, as_of, train=train, score=score) for predictor in self.predictors)
            result = JobResult(as_of, outcomes, report)
            if score and result.exit_code != 3:
                self._progress("publishing")
                self._publish(outcomes, as_of)
            return result

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock beside the warehouse. The operating system lets go of it when the process ends, however it ends."""
        from filelock import FileLock, Timeout

        path = self.warehouse.path.with_suffix(".job.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path, timeout=self.warehouse.wait):
                path.write_text(str(os.getpid()))
                yield
        except Timeout:
            holder = path.read_text().strip() if path.exists() else ""
            raise WarehouseBusyError(
                f"another job{f' (process {holder})' if holder else ''} works on {self.warehouse.path}; waited {self.warehouse.wait:.0f} s. "
                "Let it finish, or stop it; nothing was changed"
            ) from None

    def _refuse_stale(self, as_of: datetime) -> None:
        limit = self.max_staleness.approximate
        stale = [
            Problem("stale_source", problem.message, remedy=problem.remedy, source=problem.source)
            for problem in stale_sources(self.events.source_facts, as_of, limit)
        ]
        if stale:
            raise NotReadyError(f"nothing was published: sources are older than {self.max_staleness} at {as_of:%Y-%m-%d}", stale)

    def _target(self, predictor: Predictor, registry: Registry, as_of: datetime, *, train: str, score: bool) -> Outcome:
        name = predictor.target.name
        try:
            champion = registry.champion(name)
            notes: list[str] = []
            if train == "always" or (train == "due" and self._due(champion, predictor, as_of)):
                try:
                    champion = self._train(predictor, registry, champion, as_of, notes)
                except TooLittleDataError as error:
                    if champion is None or train == "always":
                        raise
                    notes.append(f"not retrained: {error.problems[0].message if error.problems else error}")
            if champion is None:
                remedy = "run 'persopredict train' or 'persopredict run' first"
                raise TooLittleDataError("no model", [Problem("no_model", f"{name} has no champion", remedy=remedy)])
            served = registry.load(name, champion.version)
            if not score:
                return self._outcome(served, champion, "trained", notes)
            self._progress(f"{name}: scoring")
            frame = served.attributes(self.events, self._not_in_sample(served, as_of), model_version=str(champion.version))
            return self._outcome(served, champion, "published", notes, frame)
        except (TooLittleDataError, SpecificationError, InSampleError) as error:
            _log.warning("%s skipped: %s", name, type(error).__name__)
            return _skipped(name, error)

    def _due(self, champion: ModelVersion | None, predictor: Predictor, as_of: datetime) -> bool:
        if champion is None or champion.trained_until is None:
            return True
        if champion.trained_until > as_of:
            return False  # A backfill: what has seen later data is not replaced by what has seen less.
        return champion.recipe != predictor.recipe or self.retrain_every.after(champion.trained_until, self.events._zone) <= as_of

    def _train(
        self, predictor: Predictor, registry: Registry, champion: ModelVersion | None, until: datetime, notes: list[str]
    ) -> ModelVersion | None:
        """Fit, register, judge; the champion afterwards."""
        name = predictor.target.name
        self._progress(f"{name}: training")
        fresh = Predictor(
            predictor.target, features=predictor.features, cutoffs=predictor.cutoffs, estimator=predictor.estimator,
            calibration=predictor.calibration, random_state=predictor.random_state,
        ).fit(self.events, until)  # fmt: skip
        if fresh.dropped_:
            longest = ", ".join(sorted({str(feature.window) for feature in fresh.dropped_}))
            notes.append(f"{len(fresh.dropped_)} features left out: their windows ({longest}) are longer than the history at the first cutoff")
        self._progress(f"{name}: registering")
        version = registry.register(fresh, name=name, fingerprint=self.events.fingerprint(until))
        serving = None if champion is None else registry.load(name, champion.version)
        verdict = judge(serving, fresh, self.events)
        if verdict.promoted:
            registry.promote(name, version.version)
            notes.append(f"version {version.version} is champion: {verdict.reason}")
            return version
        registry.challenge(name, version.version)
        notes.append(f"version {version.version} stays challenger: {verdict.reason}")
        return champion

    def _not_in_sample(self, served: Predictor, as_of: datetime) -> datetime:
        if as_of < served.trained_until_:
            text = f"{as_of:%Y-%m-%d} lies before {served.trained_until_:%Y-%m-%d}, until when the champion was trained"
            problem = Problem("in_sample", text, remedy="score a later time, or train an earlier model in a store of its own")
            raise InSampleError(f"{served.target.name} can't be scored", [problem])
        return as_of

    def _outcome(self, served: Predictor, version: ModelVersion, state: str, notes: Sequence[str], frame: pd.DataFrame | None = None) -> Outcome:
        counts: dict[str, int] = {}
        if frame is not None:
            status = frame["not_scored_reason"].fillna("scored").value_counts()
            counts = {str(key): int(status[key]) for key in sorted(status.index, key=lambda key: (key != "scored", str(key)))}
        return Outcome(
            served.target.name, state, evaluation=served.evaluation_, model_version=str(version.version), trained_until=served.trained_until_,
            counts=counts, attributes=frame, notes=tuple(notes),
        )  # fmt: skip

    def _publish(self, outcomes: Sequence[Outcome], as_of: datetime) -> None:
        runs = [
            Run(
                outcome.target, as_of, outcome.state, attributes=outcome.attributes, code=outcome.code or None, reason=outcome.reason or None,
                grade=outcome.grade or None, trained_until=outcome.trained_until,
                metrics=outcome.evaluation.summary() if outcome.evaluation else {},
            )  # type: ignore[arg-type]
            for outcome in outcomes
        ]  # fmt: skip
        self.warehouse.publish(runs, keep=self.keep, quarantine=self.events.quarantine())


def _skipped(name: str, error: PersopredictError) -> Outcome:
    """The outcome of a target that can't be trained or scored: the first problem's code, all messages."""
    if not error.problems:
        return Outcome(name, "skipped", "not_usable", str(error))
    first: Any = error.problems[0]
    return Outcome(name, "skipped", first.code, " ".join(f"{p.message.rstrip('.')}. {p.remedy.rstrip('.')}." for p in error.problems))
