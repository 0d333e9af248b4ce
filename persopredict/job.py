"""The nightly job: train what is due, score everybody, publish once.

One job at a time works on a warehouse (a lock file beside it, let go by the system if the job dies). Nothing is visible to readers before
the one transaction at the end. Models are registered and promoted earlier, target by target, so that a job that dies or can't publish has
not trained in vain; a version without an alias serves nobody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persopredict import promotion
from persopredict.errors import (
    DataError,
    InSampleError,
    NotReadyError,
    PersopredictError,
    Problem,
    SpecificationError,
    TooLittleDataError,
    WarehouseBusyError,
    did_you_mean,
)
from persopredict.events import EventLog, Moment
from persopredict.features.spec import Feature
from persopredict.findings import Findings, Noted
from persopredict.hindsight import Hindsight, warning
from persopredict.job_result import JobResult, Outcome, State
from persopredict.predictor import Predictor
from persopredict.progress import step, task, told
from persopredict.registry import EXPERIMENT, ModelVersion, Registry
from persopredict.results import Grade
from persopredict.staging import release, staged
from persopredict.times import Duration, instant, local_midnight
from persopredict.usability import stale_sources
from persopredict.warehouse import Run, Settled, Warehouse
from persopredict.warehouse_runs import name_problems
from persopredict.wording import Wording

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
    project : name of the MLflow experiment. Models of another project, under a target's name in the same store, are refused.
    retrain_every : a target whose recipe was trained longer ago than this at `as_of` is trained again; default ``"28d"``.
    max_staleness : a source whose observation ends earlier than this before `as_of` stops the job; default ``"3d"``.
    keep : how much history the warehouse keeps; default all.
    min_grade : the least grade ("A", "B" or "C") with which a model becomes champion; default ``"B"``, better than the best baseline.
    wording : language of the reasons and of the report, and words of your own for features; default English. Words for a feature that no
        target has are told in the result.
    report : where each run that publishes writes its report, an HTML file; default ``report.html`` beside the warehouse. False: it writes
        none.
    progress : told each step as it begins. Without it a long job draws what it is at, on a terminal or in a notebook.

    Raises
    ------
    SpecificationError : with all that would otherwise come out after the training: no predictors, two of one name, names that can't begin
        columns or would make the same ones, an estimator other than LightGBM, a grade that there isn't.

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
        project: str = EXPERIMENT,
        retrain_every: str | Duration = "28d",
        max_staleness: str | Duration = "3d",
        keep: str | Duration | None = None,
        min_grade: Grade = "B",
        wording: Wording | None = None,
        report: str | Path | Literal[False] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.events, self.predictors = events, tuple(predictors)
        problems = [*name_problems([predictor.target.name for predictor in predictors]), *_estimator_problems(predictors)]
        if min_grade not in promotion.GRADES:
            problems.append(Problem("min_grade", f"there is no grade {min_grade!r}", remedy=did_you_mean(str(min_grade), promotion.GRADES)))
        if problems:
            raise SpecificationError("the job can't work", problems)
        self.warehouse = warehouse if isinstance(warehouse, Warehouse) else Warehouse(warehouse, timezone=events.timezone)
        self.tracking = tracking or f"sqlite:///{self.warehouse.path.with_name('mlflow.db').resolve()}"
        self.project = project
        self.retrain_every, self.max_staleness = Duration.parse(retrain_every), Duration.parse(max_staleness)
        self.keep = None if keep is None else Duration.parse(keep)
        self.min_grade = min_grade
        self.wording = wording or Wording()
        self.report_path = None if report is False else self.warehouse.path.with_name("report.html") if report is None else Path(report)
        self._told, self._progress = progress, progress or step

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

    def report(self, path: str | Path | None = None, as_of: Moment | None = None, *, wording: Wording | None = None) -> Path:
        """Write the report of a run that was published, from the warehouse and the model store alone; returns where.

        `path`: default the job's `report`; `as_of`: of the run, default the latest; `wording`: default the job's.

        Raises
        ------
        DataError : nothing is published, or the file can't be written.
        SpecificationError : there is no run at `as_of`.
        """
        file = Path(path) if path else self.report_path or self.warehouse.path.with_name("report.html")
        return self._report(file, self.tracking, None if as_of is None else self._moment(as_of), wording)

    # How it is done --------------------------------------------------------------------------------------------------------------------

    def _moment(self, value: Moment | None) -> datetime:
        return local_midnight(datetime.now(UTC), self.events.zone) if value is None else instant(value, self.events.zone)

    def _work(self, as_of: datetime, *, train: str, score: bool) -> JobResult:
        with told(self._told), task(f"job of {as_of.astimezone(self.events.zone):%Y-%m-%d}"), self._alone():
            self._foresee()
            self._progress("reading and checking the events")
            report = self.events.check([predictor.target for predictor in self.predictors], as_of)
            # A log that can't be used raises here with every problem; problems of single targets are theirs to report.
            self.events.prepare()
            self._refuse_stale(as_of)
            self._progress("opening the model store")
            registry = Registry(self.tracking, self.project)
            registry.recover()
            names: set[str] = set()
            outcomes = tuple(self._target(predictor, registry, as_of, names, train=train, score=score) for predictor in self.predictors)
            result = JobResult(as_of, outcomes, report, self.events.timezone, tuple(self._unnamed(names)))
            if not result.published:
                return result
            self._progress("comparing what was expected with what came")
            outcomes, settled = self._look_back(outcomes, registry, as_of)
            self._progress("publishing")
            release()
            result = replace(result, outcomes=outcomes)
            self._publish(result, settled)
            return self._reported(result, registry)

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
            for problem in stale_sources(self.events.source_facts, as_of, limit, timezone=self.events.timezone)
        ]
        if stale:
            local = as_of.astimezone(self.events.zone)
            raise NotReadyError(f"nothing was published for {local:%Y-%m-%d}: events are older than {self.max_staleness}", stale)

    def _target(self, predictor: Predictor, registry: Registry, as_of: datetime, names: set[str], *, train: str, score: bool) -> Outcome:
        """One target from champion to attributes; `names` gets those of its features. What only it lacks does not stop the others."""
        name = predictor.target.name
        notes: list[str] = []
        try:
            self.events.observed_for(predictor.target)  # Refuses events that the log lacks: nobody would be eligible, and all be unset.
            champion = self._champion(predictor, registry, as_of, train, notes)
            if not score:
                return self._outcome(promotion.readable(registry, name, champion.version), champion.version, "trained", notes)
            version, served = self._serving(champion, registry, as_of, notes)
            if served.target.question() == predictor.target.question():
                served.target = predictor.target  # How many categories are published is no part of a model: it holds as it stands today.
            self._progress(f"{name}: scoring")
            names |= {*served.model_.inputs, *(feature.name for feature in (*served.features_, *served.dropped_))}
            frame = served.attributes(self.events, as_of, model_version=str(version), wording=self.wording)
            return self._outcome(served, version, "published", notes, staged(frame, self.warehouse.path.parent))
        except (TooLittleDataError, SpecificationError, InSampleError) as error:
            _log.warning("%s skipped: %s", name, type(error).__name__)
            return Outcome.without(name, error)
        except WarehouseBusyError:
            raise
        except PersopredictError as error:
            _log.warning("%s failed: %s", name, type(error).__name__)
            return Outcome.without(name, error, "failed")

    def _unnamed(self, names: set[str]) -> Iterator[str]:
        """The words for features that no target scored has; without any such target nothing is known of them."""
        for problem in self.wording.unknown(sorted(names)) if names else ():
            text = "; ".join(part for part in (problem.message, problem.remedy) if part)
            yield text if text.endswith("?") else f"{text}."

    def _champion(self, predictor: Predictor, registry: Registry, as_of: datetime, train: str, notes: list[str]) -> ModelVersion:
        """The champion, trained before if that is due; raises `TooLittleDataError` if there is none that answers what is asked."""
        name = predictor.target.name
        champion, challenger = registry.champion(name), registry.challenger(name)
        if (theirs := promotion.foreign((champion, challenger), self.project)) is not None:
            raise theirs
        serving = champion if champion is not None and promotion.answers(champion, predictor.target) else None
        if train == "always" or (train == "due" and self._due(predictor, serving, challenger, as_of)):
            try:
                return self._train(predictor, registry, champion, as_of, notes)
            except TooLittleDataError as error:
                if serving is None or train == "always" or promotion.GRADE_TOO_LOW in {problem.code for problem in error.problems}:
                    raise
                notes.append(f"not trained again: {error.problems[0].message if error.problems else error}")
        if serving is not None:
            return serving
        raise promotion.none_serves(predictor.target, champion, challenger, self.min_grade)

    def _due(self, predictor: Predictor, serving: ModelVersion | None, challenger: ModelVersion | None, as_of: datetime) -> bool:
        if serving is not None:
            if serving.trained_until is None:
                return True
            if serving.trained_until > as_of:
                return False  # A backfill: what has seen later data is not replaced by what has seen less.
        # A challenger that has lost is not trained again every night; it gets its next chance with the next data. One that waits for nobody
        # has lost by its grade.
        lost = challenger
        if serving is None and challenger is not None and challenger.trained_until is not None:
            lost = challenger if challenger.trained_until <= as_of and not promotion.suffices(challenger, self.min_grade) else None
        trained = [
            version.trained_until
            for version in (serving, lost)
            if version is not None and version.recipe == predictor.recipe and version.trained_until is not None
        ]
        return not trained or self.retrain_every.after(max(trained), self.events.zone) <= as_of

    def _train(
        self, predictor: Predictor, registry: Registry, champion: ModelVersion | None, until: datetime, notes: list[str]
    ) -> ModelVersion:
        """Fit, register, judge; the champion afterwards. Raises `TooLittleDataError` if there is none, for want of a grade."""
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
        serving = None if champion is None else promotion.kept(registry, name, champion.version)
        answered = champion is not None and promotion.answers(champion, predictor.target)
        if not promotion.suffices(version, self.min_grade):
            verdict = promotion.Verdict(False, promotion.too_low(version, self.min_grade))
        elif champion is not None and serving is None:
            verdict = promotion.Verdict(True, f"version {champion.version} can't be read any more")
        elif champion is not None and not answered:
            verdict = promotion.Verdict(True, f"the target was defined anew, version {champion.version} answers what was asked before")
        else:
            verdict = promotion.judge(serving, fresh, self.events)
        if verdict.promoted:
            registry.promote(name, version.version)
            notes.append(f"version {version.version} is the new champion: {verdict.reason}")
            return version
        registry.challenge(name, version.version)
        if champion is None or serving is None or not answered:
            raise promotion.none_serves(predictor.target, None, version, self.min_grade)
        notes.append(f"version {version.version} stays challenger: {verdict.reason}")
        return champion

    def _serving(self, champion: ModelVersion, registry: Registry, as_of: datetime, notes: list[str]) -> tuple[int, Predictor]:
        """Who scores `as_of`: the champion; before it was trained, the version whose scores of that time are published.

        Raises `InSampleError` if there is none: the champion has seen the answer.
        """
        served = promotion.readable(registry, champion.name, champion.version)
        if served.trained_until_ <= as_of:
            return champion.version, served
        version = self._published_version(champion.name, as_of)
        if version is not None and (earlier := promotion.readable(registry, champion.name, version)).trained_until_ <= as_of:
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

    def _look_back(self, outcomes: Sequence[Outcome], registry: Registry, as_of: datetime) -> tuple[tuple[Outcome, ...], list[Settled]]:
        """What came of runs whose labels have ended, and the outcomes with it. A target that can't be compared is still published."""
        with self._kept_if_busy():
            hindsight = Hindsight(self.warehouse, self.events, as_of)
            settled: list[Settled] = []
            seen: list[Outcome] = []
            for outcome, predictor in zip(outcomes, self.predictors, strict=True):
                notes = outcome.notes
                try:
                    same = partial(promotion.asked_the_same, registry, predictor.target)
                    settled += hindsight.settle(predictor.target, same, outcome.attributes)
                except WarehouseBusyError:
                    raise
                except PersopredictError as error:
                    notes = (*notes, f"what was expected could not be compared with what came: {str(error).splitlines()[0].rstrip(':')}")
                seen.append(replace(outcome, trend=hindsight.trend(outcome.target), notes=notes))
                if found := warning(seen[-1].trend, self.events.timezone):
                    _log.warning("%s: %s", outcome.target, found)
        return tuple(seen), settled

    def _publish(self, result: JobResult, settled: Sequence[Settled]) -> None:
        runs = [
            Run(
                outcome.target, result.as_of, outcome.state, attributes=outcome.attributes, code=outcome.code or None,
                reason=outcome.reason or None, grade=outcome.grade or None, trained_until=outcome.trained_until,
                metrics=outcome.evaluation.summary() if outcome.evaluation else {},
            )
            for outcome in result.outcomes
            if outcome.state != "trained"
        ]  # fmt: skip
        noted = {outcome.target: Noted(outcome.notes, outcome.problems) for outcome in result.outcomes}
        with self._kept_if_busy():
            self.warehouse.publish(
                runs,
                keep=self.keep,
                quarantine=self.events.quarantine(),
                outcomes=settled,
                findings=Findings(result.as_of, result.report, noted),
            )

    def _reported(self, result: JobResult, registry: Registry) -> JobResult:
        """The result, with where its report is, or why there is none: what is published stays so whatever becomes of its report."""
        if self.report_path is None:
            return result
        self._progress("writing the report")
        try:
            return replace(result, report_path=self._report(self.report_path, registry))
        except PersopredictError as error:
            reason = error.problems[0].message if error.problems else str(error).splitlines()[0]
        except Exception as error:  # Whatever it says may hold something of the log.
            reason = f"an unexpected {type(error).__name__}"
        _log.warning("the report was not written: %s", reason)
        return replace(result, notes=(*result.notes, f"the report was not written: {reason}. Once that is mended: persopredict report"))

    def _report(self, path: Path, store: str | Registry, as_of: datetime | None = None, wording: Wording | None = None) -> Path:
        from persopredict import report

        data = report.gather(
            self.warehouse, store, [predictor.target for predictor in self.predictors], project=self.project,
            timezone=self.events.timezone, as_of=as_of,
        )  # fmt: skip
        return report.write(path, data, wording or self.wording)

    @contextmanager
    def _kept_if_busy(self) -> Iterator[None]:
        """Whoever holds the warehouse, what was trained is not lost."""
        try:
            yield
        except WarehouseBusyError as error:
            raise WarehouseBusyError(f"{error}. Nothing was published; the models are kept, and the next run scores with them") from None


def _customers_by_status(frame: pd.DataFrame) -> dict[str, int]:
    """How many customers were scored, then how many were not, by reason; an affinity has several rows of each."""
    counted = frame.groupby(frame["not_scored_reason"].fillna("scored"))["customer_id"].nunique()
    return {str(key): int(counted[key]) for key in sorted(counted.index, key=lambda key: (key != "scored", str(key)))}


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


def _holder(path: Path) -> str:
    """The process that wrote its number into the lock file, "" if it can't be read."""
    with suppress(OSError):
        if number := path.read_text().strip():
            return f" (process {number})"
    return ""
