"""What a report tells of, read back from the warehouse and the model store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from persopredict import promotion
from persopredict.errors import DataError, PersopredictError, Problem, SpecificationError
from persopredict.findings import Findings, Noted
from persopredict.hindsight import trend
from persopredict.registry import Registry
from persopredict.report.reach import Reach, reaches
from persopredict.targets import Affinity, Target
from persopredict.times import instant
from persopredict.tracking import settled as settled_uri
from persopredict.warehouse import Settled, Warehouse
from persopredict.warehouse_summaries import PublishedCategory, Spread, published_categories, spread
from persopredict.warehouse_tables import PUBLISHED

if TYPE_CHECKING:
    from persopredict.predictor import Predictor

#: How many earlier runs are held to what came: a year of four weeks.
RUNS_SHOWN = 13
#: Of an affinity the categories that are published of most customers.
CATEGORIES_SHOWN = 20


@dataclass(frozen=True, eq=False)
class ServingModel:
    """The version that made the scores. `run_id`: MLflow's; `libraries`: name to the version that it was made with; `missing`: why its
    files can't be read, "" where they can; then `predictor` is None.
    """

    version: str
    trained_until: datetime | None
    run_id: str = ""
    fingerprint: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    predictor: Predictor | None = None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class TargetReport:
    """One target's line of the ledger, and what belongs to it.

    Parameters
    ----------
    name, as_of, state, code, reason, run_id, grade, scored_at, valid_until : as in the table `runs`.
    target : what was asked; None where nobody knows any more.
    customers : by status: "scored", then the reasons of the others, the most frequent first.
    model : None for scores made elsewhere and for a target that was skipped.
    noted : what the job noted of it.
    spread : how the published probabilities lie.
    categories, category_count : of an affinity the categories that are published most, and how many there are.
    reach : of these categories what their likeliest customers promise.
    trend : what came of earlier runs, oldest first.
    last_published, last_until : of a target that was skipped or failed, the run whose scores still hold, if there is one, and until when.
    """

    name: str
    as_of: datetime
    state: str
    target: Target | None = None
    code: str = ""
    reason: str = ""
    run_id: str = ""
    grade: str = ""
    scored_at: datetime | None = None
    valid_until: datetime | None = None
    customers: Mapping[str, int] = field(default_factory=dict)
    model: ServingModel | None = None
    noted: Noted = field(default_factory=Noted)
    spread: Spread = field(default_factory=Spread)
    categories: tuple[PublishedCategory, ...] = ()
    category_count: int = 0
    reach: tuple[Reach, ...] = ()
    trend: tuple[Settled, ...] = ()
    last_published: datetime | None = None
    last_until: datetime | None = None

    @property
    def scored(self) -> int:
        """How many customers have a score."""
        return self.customers.get("scored", 0)

    @property
    def evaluation(self) -> Any:
        """Of the version that made the scores, an `Evaluation` or a `RankingEvaluation`; None without a readable one."""
        return None if self.model is None or self.model.predictor is None else self.model.predictor.evaluation_


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that stands in a report: the run at `as_of` with all its targets. `findings` is None where no job of ours published."""

    project: str
    as_of: datetime
    timezone: str
    targets: tuple[TargetReport, ...]
    findings: Findings | None = None


def gather(
    warehouse: Warehouse,
    tracking: str | Registry,
    targets: Iterable[Target] = (),
    *,
    project: str = "persopredict",
    experiment: str | None = None,
    timezone: str = "UTC",
    as_of: datetime | None = None,
) -> ReportData:
    """Read back the run at `as_of`, by default the latest that the ledger knows.

    Parameters
    ----------
    warehouse : with at least one published run.
    tracking : the model store, or its uri. Where it, or a version in it, is gone, the report says so and does without.
    targets : as they are defined now, in the order in which they are to be told of; others of the ledger follow by name.
    project, timezone : of the report's head and dates.
    experiment : of the model store, where that is given as a uri; default: the project's name.

    Raises
    ------
    DataError : nothing is published.
    SpecificationError : there is no run at `as_of`.
    """
    lines = warehouse.runs().to_dict("records")
    if not lines:
        raise DataError(f"nothing is published in {warehouse.path} yet; run 'persopredict run' first")
    moments = sorted({instant(line["as_of"]) for line in lines})
    moment = moments[-1] if as_of is None else as_of
    if moment not in moments:
        known = ", ".join(f"{each.isoformat()}" for each in moments[-5:])
        raise SpecificationError(f"there is no run at {moment.isoformat()}; in the ledger, newest last: {known}")
    defined = {target.name: target for target in targets}
    mine = {line["target"]: line for line in lines if instant(line["as_of"]) == moment}
    names = [*(name for name in defined if name in mine), *sorted(mine.keys() - defined.keys())]
    store = _Store(tracking, experiment or project)
    outcomes = [Settled.of(values) for values in warehouse.outcomes().to_dict("records")]
    findings = warehouse.findings(moment)
    told = (_Gathering(warehouse, store, findings, lines, outcomes, moment).target(mine[name], defined.get(name)) for name in names)
    return ReportData(project, moment, timezone, tuple(told), findings)


class _Store:
    """The model store, opened when first asked, and never made: a report leaves no empty store behind."""

    def __init__(self, tracking: str | Registry, experiment: str) -> None:
        self._tracking, self._experiment = tracking, experiment
        self._unreachable: PersopredictError | None = None

    def model(self, name: str, version: str, trained_until: datetime | None) -> ServingModel:
        """The version that a run names."""
        try:
            registry = self._registry()
            if not version.isdecimal():
                raise PersopredictError(f"{version!r} is no version of the model store")
            found = registry.version(name, int(version))
            predictor = promotion.readable(registry, name, int(version))
            parameters = registry.parameters(found)
        except PersopredictError as error:
            why = error.problems[0].message if error.problems else str(error).splitlines()[0]
            return ServingModel(version, trained_until, missing=why)
        prefix = "versions."
        libraries = {key.removeprefix(prefix): value for key, value in sorted(parameters.items()) if key.startswith(prefix)}
        return ServingModel(version, predictor.trained_until_, found.run_id, found.tags.get("fingerprint", ""), libraries, predictor)

    def _registry(self) -> Registry:
        if self._unreachable is not None:  # A server that doesn't answer is asked once, not for every target.
            raise self._unreachable
        if isinstance(self._tracking, str):
            try:
                _, database = settled_uri(self._tracking)
                if database is not None and not database.exists():
                    text = f"there is no model store at {database}"
                    raise PersopredictError(
                        "no model store", [Problem("tracking_missing", text, remedy="bring it back, or correct the uri")]
                    )
                self._tracking = Registry(self._tracking, self._experiment)
            except PersopredictError as error:
                self._unreachable = error
                raise
        return self._tracking


@dataclass(frozen=True, eq=False)
class _Gathering:
    warehouse: Warehouse
    store: _Store
    findings: Findings | None
    lines: list[dict[Any, Any]]
    outcomes: list[Settled]
    as_of: datetime

    def target(self, line: Mapping[Any, Any], defined: Target | None) -> TargetReport:
        """One target at the moment of the report."""
        name, published = str(line["target"]), line["state"] == PUBLISHED
        version = _text(line["model_version"])
        model = self.store.model(name, version, _moment(line["trained_until"])) if published and version else None
        asked = defined
        if model is not None and model.predictor is not None and (defined is None or _differs(model.predictor.target, defined)):
            asked = model.predictor.target
        lies = spread(self.warehouse, name, self.as_of) if published else Spread()
        found: tuple[PublishedCategory, ...] = ()
        count = 0
        if published and (asked is None or isinstance(asked, Affinity)):
            found, count = published_categories(self.warehouse, name, self.as_of, CATEGORIES_SHOWN)
        return TargetReport(
            name, self.as_of, str(line["state"]), asked, _text(line["code"]), _text(line["reason"]), _text(line["run_id"]),
            _text(line["grade"]), _moment(line["scored_at"]), _moment(line["valid_until"]), _customers(line), model,
            Noted() if self.findings is None else self.findings.targets.get(name, Noted()), lies, found, count,
            reaches(self.warehouse, name, self.as_of, [one.category for one in found]),
            trend(self.outcomes, name, self.as_of, RUNS_SHOWN), *((None, None) if published else self._last(name)),
        )  # fmt: skip

    def _last(self, name: str) -> tuple[datetime | None, datetime | None]:
        """The newest run of a target before this one whose scores still hold, and until when they do."""
        held = [
            (instant(line["as_of"]), instant(line["valid_until"]))
            for line in self.lines
            if line["target"] == name and line["state"] == PUBLISHED and instant(line["valid_until"]) > self.as_of > instant(line["as_of"])
        ]
        return max(held, default=(None, None))


def _customers(line: Mapping[Any, Any]) -> dict[str, int]:
    others = json.loads(line["counts_by_reason"] or "{}")
    return {"scored": int(line["scored"]), **dict(sorted(others.items(), key=lambda entry: (-entry[1], entry[0])))}


def _differs(trained: Target, defined: Target) -> bool:
    """Whether a model was asked something else than the target that is defined now; how much is published is no part of the question."""
    return trained.question() != defined.question()


def _text(value: Any) -> str:
    """A text of the ledger, "" for null, which pandas writes as nan."""
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> datetime | None:
    return instant(value) if isinstance(value, datetime) and value == value else None
