"""The nightly job: train what is due, score everybody, publish once.

One job at a time works on a warehouse (a lock file beside it, let go by the system if the job dies). Nothing is visible to readers before
the one transaction at the end. Models are registered and promoted earlier, target by target, so that a job that dies or can't publish has
not trained in vain; a version without an alias serves nobody.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from persopredict.attributes import target_name_problems
from persopredict.errors import (
    DataError,
    InSampleError,
    NotReadyError,
    PersopredictError,
    Problem,
    SpecificationError,
    TooLittleDataError,
    WarehouseBusyError,
)
from persopredict.events import EventLog, Moment
from persopredict.features.spec import Feature
from persopredict.job_result import JobResult, Outcome, State
from persopredict.predictor import Predictor
from persopredict.promotion import Verdict, judge
from persopredict.registry import ModelVersion, Registry
from persopredict.targets import Target, target_from_dict
from persopredict.times import Duration, instant, local_midnight
from persopredict.usability import stale_sources
from persopredict.warehouse import Run, Warehouse

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Job", "JobResult", "Outcome"]

_log = logging.getLogger(__name__)


class Job:
    """Trains, scores and publishes several targets of one log.

    Parameters
    ----------
    events : the log.
    predictors : one for each target, as recipes: what serves is the registry's champion, also where a fitted one is given.
    warehouse : DuckDB file, or a `Warehouse`.
    tracking : MLflow store, default ``mlflow.db`` beside the warehouse.
    project : name of the MLflow experiment.
    retrain_every : a target whose recipe was trained longer ago than this at `as_of` is trained again; default ``"28d"``.
    max_staleness : a source whose observation ends earlier than this before `as_of` stops the job; default ``"3d"``.
    keep : how much history the warehouse keeps; default all.
    progress : told each step as it begins.

    Raises
    ------
    SpecificationError : with all that would otherwise come out after the training: no predictors, two of one name, names that can't begin
        columns or would make the same ones, an estimator other than LightGBM.

    >>> Job(None, [], warehouse="warehouse.duckdb")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: the job can't work:
      - error no_targets: there are no predictors. Remedy: give one for each target.
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
        self.events, self.predictors = events, tuple(predictors)
        if problems := [*_name_problems([predictor.target.name for predictor in predictors]), *_estimator_problems(predictors)]:
            raise SpecificationError("the job can't work", problems)
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
        DataError : the log can't be used, or the warehouse's file is not one (exit code 1).
        WarehouseBusyError : another job or process holds the warehouse (exit code 1); what was trained is kept.
        """
        return self._work(self._moment(as_of), train="due", score=True)

    # How it is done --------------------------------------------------------------------------------------------------------------------

    def _moment(self, value: Moment | None) -> datetime:
        return local_midnight(datetime.now(UTC), self.events.zone) if value is None else instant(value, self.events.zone)

    def _work(self, as_of: datetime, *, train: str, score: bool) -> JobResult:
        with self._alone():
            self._foresee()
            self._progress("reading and checking the events")
            report = self.events.check([predictor.target for predictor in self.predictors], as_of)
            # A log that can't be used raises here with every problem; problems of single targets are theirs to report.
            self.events.prepare()
            self._refuse_stale(as_of)
            self._progress("opening the model store")
            registry = Registry(self.tracking, self.project)
            registry.recover()
            outcomes = tuple(self._target(predictor, registry, as_of, train=train, score=score) for predictor in self.predictors)
            result = JobResult(as_of, outcomes, report, self.events.timezone)
            if result.published:
                self._progress("publishing")
                self._publish(outcomes, as_of)
            return result

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock beside the warehouse. The operating system lets go of it when the process ends, however it ends."""
        from filelock import FileLock, Timeout

        path = self.warehouse.path.with_suffix(".job.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=self.warehouse.wait)
        try:
            lock.acquire()
        except Timeout:
            raise WarehouseBusyError(
                f"another job{_holder(path)} works on {self.warehouse.path}; waited {self.warehouse.wait:g} s. "
                "Let it finish, or stop it; nothing was changed"
            ) from None
        try:
            with suppress(OSError):  # Where locks are mandatory, even the holder can't write: its number is for messages only.
                path.write_text(str(os.getpid()))
            yield
        finally:
            lock.release()

    def _foresee(self) -> None:
        """What publishing would refuse is refused before the training; who holds the file is said, for he may be gone by then."""
        try:
            self.warehouse.check()
        except WarehouseBusyError as error:
            _log.warning("publishing will have to wait: %s", error)

    def _refuse_stale(self, as_of: datetime) -> None:
        limit = self.max_staleness.approximate
        stale = [
            Problem("stale_source", problem.message, remedy=problem.remedy, source=problem.source)
            for problem in stale_sources(self.events.source_facts, as_of, limit)
        ]
        if stale:
            local = as_of.astimezone(self.events.zone)
            raise NotReadyError(f"nothing was published for {local:%Y-%m-%d}: events are older than {self.max_staleness}", stale)

    def _target(self, predictor: Predictor, registry: Registry, as_of: datetime, *, train: str, score: bool) -> Outcome:
        """One target from champion to attributes. What only it lacks does not stop the others."""
        name = predictor.target.name
        notes: list[str] = []
        try:
            self.events.observed_for(predictor.target)  # Refuses events that the log lacks: nobody would be eligible, and all be unset.
            champion = self._champion(predictor, registry, as_of, train, notes)
            if not score:
                return self._outcome(_read(registry, name, champion.version), champion.version, "trained", notes)
            version, served = self._serving(champion, registry, as_of, notes)
            if served.target.question() == predictor.target.question():
                served.target = predictor.target  # How many categories are published is no part of a model: it holds as it stands today.
            self._progress(f"{name}: scoring")
            frame = served.attributes(self.events, as_of, model_version=str(version))
            return self._outcome(served, version, "published", notes, frame)
        except (TooLittleDataError, SpecificationError, InSampleError) as error:
            _log.warning("%s skipped: %s", name, type(error).__name__)
            return Outcome.without(name, error)
        except WarehouseBusyError:
            raise
        except PersopredictError as error:
            _log.warning("%s failed: %s", name, type(error).__name__)
            return Outcome.without(name, error, "failed")

    def _champion(self, predictor: Predictor, registry: Registry, as_of: datetime, train: str, notes: list[str]) -> ModelVersion:
        """The champion, trained before if that is due; raises `TooLittleDataError` if there is none that answers what is asked."""
        name = predictor.target.name
        champion = registry.champion(name)
        answers = champion is not None and _answers(champion, predictor.target)
        if train == "always" or (train == "due" and self._due(predictor, champion, registry.challenger(name), as_of)):
            try:
                champion = self._train(predictor, registry, champion, as_of, notes)
            except TooLittleDataError as error:
                if not answers or train == "always":
                    raise
                notes.append(f"not trained again: {error.problems[0].message if error.problems else error}")
        elif not answers:
            changed = "" if champion is None else f" that answers it as it is defined now: version {champion.version} was asked otherwise"
            remedy = "run 'persopredict train' or 'persopredict run' first"
            raise TooLittleDataError("no model", [Problem("no_model", f"{name} has no champion{changed}", remedy=remedy)])
        assert champion is not None
        return champion

    def _due(self, predictor: Predictor, champion: ModelVersion | None, challenger: ModelVersion | None, as_of: datetime) -> bool:
        if champion is None or champion.trained_until is None or not _answers(champion, predictor.target):
            return True
        if champion.trained_until > as_of:
            return False  # A backfill: what has seen later data is not replaced by what has seen less.
        # A challenger that has lost is not trained again every night; it gets its next chance with the next data.
        trained = [
            version.trained_until
            for version in (champion, challenger)
            if version is not None and version.recipe == predictor.recipe and version.trained_until is not None
        ]
        return not trained or self.retrain_every.after(max(trained), self.events.zone) <= as_of

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
            notes.append(_left_out(fresh.dropped_))
        self._progress(f"{name}: registering")
        version = registry.register(fresh, name=name, fingerprint=self.events.fingerprint(until))
        serving = None if champion is None else _kept(registry, name, champion.version)
        if champion is not None and serving is None:
            verdict = Verdict(True, f"version {champion.version} can't be read any more")
        elif champion is not None and not _answers(champion, predictor.target):
            verdict = Verdict(True, f"the target was defined anew, version {champion.version} answers what was asked before")
        else:
            verdict = judge(serving, fresh, self.events)
        if verdict.promoted:
            registry.promote(name, version.version)
            notes.append(f"version {version.version} is the new champion: {verdict.reason}")
            return version
        registry.challenge(name, version.version)
        notes.append(f"version {version.version} stays challenger: {verdict.reason}")
        return champion

    def _serving(self, champion: ModelVersion, registry: Registry, as_of: datetime, notes: list[str]) -> tuple[int, Predictor]:
        """Who scores `as_of`: the champion; before it was trained, the version whose scores of that time are published.

        Raises `InSampleError` if there is none: the champion has seen the answer.
        """
        served = _read(registry, champion.name, champion.version)
        if served.trained_until_ <= as_of:
            return champion.version, served
        version = self._published_version(champion.name, as_of)
        if version is not None and (earlier := _read(registry, champion.name, version)).trained_until_ <= as_of:
            notes.append(f"scored by version {version}, which served at that time; the champion is version {champion.version}")
            return version, earlier
        moments = [moment.astimezone(self.events.zone) for moment in (as_of, served.trained_until_)]
        text = f"{moments[0]:%Y-%m-%d} lies before {moments[1]:%Y-%m-%d}, until when the champion was trained"
        problem = Problem("in_sample", text, remedy="score a later time, or train an earlier model in a store of its own")
        raise InSampleError(f"{champion.name} can't be scored", [problem])

    def _published_version(self, target: str, as_of: datetime) -> int | None:
        try:
            runs = self.warehouse.runs()
        except DataError:  # Nothing is published yet.
            return None
        versions = runs.loc[(runs["target"] == target) & (runs["as_of"] == as_of) & (runs["state"] == "published"), "model_version"]
        return int(versions.iloc[0]) if len(versions) and str(versions.iloc[0]).isdecimal() else None

    def _outcome(self, served: Predictor, version: int, state: State, notes: Sequence[str], frame: pd.DataFrame | None = None) -> Outcome:
        return Outcome(
            served.target.name, state, evaluation=served.evaluation_, model_version=str(version), trained_until=served.trained_until_,
            counts={} if frame is None else _customers_by_status(frame), attributes=frame, notes=tuple(notes),
        )  # fmt: skip

    def _publish(self, outcomes: Sequence[Outcome], as_of: datetime) -> None:
        runs = [
            Run(
                outcome.target, as_of, outcome.state, attributes=outcome.attributes, code=outcome.code or None,
                reason=outcome.reason or None, grade=outcome.grade or None, trained_until=outcome.trained_until,
                metrics=outcome.evaluation.summary() if outcome.evaluation else {},
            )
            for outcome in outcomes
            if outcome.state != "trained"
        ]  # fmt: skip
        try:
            self.warehouse.publish(runs, keep=self.keep, quarantine=self.events.quarantine())
        except WarehouseBusyError as error:
            raise WarehouseBusyError(f"{error}. Nothing was published; the models are kept, and the next run scores with them") from None


def _customers_by_status(frame: pd.DataFrame) -> dict[str, int]:
    """How many customers were scored, then how many were not, by reason; an affinity has several rows of each."""
    counted = frame.groupby(frame["not_scored_reason"].fillna("scored"))["customer_id"].nunique()
    return {str(key): int(counted[key]) for key in sorted(counted.index, key=lambda key: (key != "scored", str(key)))}


def _name_problems(names: Sequence[str]) -> list[Problem]:
    """What the tables would refuse: names that can't begin columns, and pairs that would make the same column."""
    if not names:
        return [Problem("no_targets", "there are no predictors", remedy="give one for each target")]
    problems = [problem for name in dict.fromkeys(names) for problem in target_name_problems(name)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    problems += [
        Problem("two_of_one_name", f"two predictors are of the target {name!r}", remedy="give one another name=") for name in doubled
    ]
    for name in sorted({name for name in names if f"{name}_previous" in names}):
        text = f"the targets {name!r} and '{name}_previous' would both make the column '{name}_previous_band'"
        problems.append(Problem("same_column", text, remedy="give one another name="))
    return problems


def _estimator_problems(predictors: Sequence[Predictor]) -> list[Problem]:
    """Estimators that the model store can't keep as text."""
    problems = []
    for predictor in predictors:
        if predictor.estimator is None:
            continue
        import lightgbm as lgb

        if not isinstance(predictor.estimator, lgb.LGBMClassifier):
            text = f"a job keeps LightGBM models, got a {type(predictor.estimator).__name__}"
            remedy = "give an LGBMClassifier; or fit and predict yourself, and Warehouse.publish what you get"
            problems.append(Problem("estimator_not_kept", text, remedy=remedy, source=predictor.target.name))
    return problems


def _left_out(features: Sequence[Feature]) -> str:
    windows = sorted({feature.window for feature in features if feature.window}, key=lambda window: window.approximate)
    one = len(features) == 1
    what, verb = ("1 feature left out: its window", "is") if one else (f"{len(features)} features left out: their windows", "are")
    return f"{what} ({', '.join(map(str, windows))}) {verb} longer than the history at the first cutoff"


def _answers(version: ModelVersion, target: Target) -> bool:
    """Whether a version was trained for the target as it is defined now; who knows nothing of it is believed."""
    return "target" not in version.tags or target_from_dict(json.loads(version.tags["target"])).question() == target.question()


def _kept(registry: Registry, name: str, version: int) -> Predictor | None:
    """The predictor of a version; None if its files are gone or incomplete, or if another persopredict made it, with other features."""
    try:
        return registry.load(name, version)
    except PersopredictError as error:
        if isinstance(error, SpecificationError) or "tracking_files_missing" in {problem.code for problem in error.problems}:
            return None
        raise


def _read(registry: Registry, name: str, version: int) -> Predictor:
    found = _kept(registry, name, version)
    if found is None:
        text = f"the files of {name} version {version} are gone, incomplete or another persopredict's"
        problem = Problem("model_unreadable", text, remedy="bring its artifacts back, or run 'persopredict train'")
        raise PersopredictError(f"{name} can't be scored", [problem])
    return found


def _holder(path: Path) -> str:
    """The process that wrote its number into the lock file, "" if it can't be read."""
    with suppress(OSError):
        if number := path.read_text().strip():
            return f" (process {number})"
    return ""
