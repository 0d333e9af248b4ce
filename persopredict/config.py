"""`persopredict.toml`: read, judged as a whole, and turned into a `Job`.

Whatever is wrong anywhere in the file is collected as a `Problem` naming the file, the key, the value and what is
allowed, and all problems are raised at once. Values may hold ``${NAME}``, taken from the environment; what was put in
is never shown, neither by an error nor by `repr`. Relative paths start at the folder of the file, not at the current
one, so that cron may call from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persopredict import sections
from persopredict.errors import ConfigurationError, Problem, SpecificationError, did_you_mean
from persopredict.mapping import safe
from persopredict.sources import constant
from persopredict.targets import KINDS_OF_AFFINITY, Affinity, Target, target_from_dict
from persopredict.times import Duration, instant
from persopredict.toml_reader import S, Table, TomlReader, as_table, document, shown

if TYPE_CHECKING:
    from persopredict.events import EventLog
    from persopredict.job import Job
    from persopredict.lookups import Lookup
    from persopredict.predictor import Predictor
    from persopredict.wording import Wording

_TARGETS: Mapping[str, type[sections.Target]] = {
    "conversion": sections.Conversion,
    "churn": sections.Churn,
    "cancellation": sections.Cancellation,
    "affinity": sections.Affinity,
}
_NOT_YET = {
    "sinks": "read the table customer_attributes or customer_attributes.parquet",
    "audiences": "select them from the table customer_attributes",
    "serving": "read the table customer_attributes",
}
_SECTIONS = ("project", "source", "events", "lookups", "targets", "tracking", "job", "report", "warehouse")


@dataclass(frozen=True)
class Source:
    """One `[[events]]` with its `[events.columns]`."""

    events: sections.Events
    columns: sections.Columns


@dataclass(frozen=True)
class Config:
    """A configuration file that was found right. `load` makes it.

    Attributes
    ----------
    file : the file, as an absolute path; relative paths start at its folder.
    project, source, tracking, job, report, warehouse : the sections, defaults filled in.
    events : the sources of events, in the file's order; at least one.
    lookups : the sources of facts, in the file's order.
    targets : the targets by name, in the file's order; at least one.
    lightgbm : LightGBM's parameters by target name, where the file gives any.
    """

    file: Path
    project: sections.Project
    source: sections.Source
    tracking: sections.Tracking
    job: sections.JobSettings
    report: sections.Report
    warehouse: sections.WarehouseSettings
    events: tuple[Source, ...]
    lookups: tuple[sections.Lookup, ...]
    targets: Mapping[str, Target] = field(repr=False)
    lightgbm: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def instant(self, text: str | None) -> datetime | None:
        """A date or time as the user writes it, in the project's time zone; None stays None.

        Raises `SpecificationError` if it can't be read.
        """
        return None if text is None else instant(text, self.project.timezone)

    @property
    def max_staleness(self) -> Duration:
        """How long before the date of the scores the events may end."""
        return Duration.parse(self.job.max_staleness)

    def path(self, text: str) -> str:
        """A path or URL of the file as others can use it: relative paths start at the file's folder."""
        if re.match(r"[A-Za-z0-9+]+://", text) and not text.startswith(("sqlite:///", "duckdb:///")):
            return text
        scheme, _, path = text.rpartition(":///")
        whole = self.file.parent / Path(path).expanduser()
        return f"{scheme}:///{whole}" if scheme else str(whole)

    def event_log(self) -> EventLog:
        """The sources under one common model, joined with the lookups; nothing is read yet."""
        from persopredict.events import EventLog

        logs = [self._log_of(source) for source in self.events]
        log = logs[0] if len(logs) == 1 else EventLog.union(*logs)
        return log.join(*(lookup_of(lookup, **self._place(lookup)) for lookup in self.lookups)) if self.lookups else log

    def _log_of(self, source: Source) -> EventLog:
        from persopredict.events import EventLog

        events, columns = source.events, source.columns.given()
        if events.event is not None:
            columns["event"] = constant(events.event)
        zone = self.project.timezone
        observed = None if events.observed is None else (instant(events.observed[0], zone), instant(events.observed[1], zone))
        return EventLog(**self._place(events), **columns, timezone=zone, observed=observed, max_lag=events.max_lag, name=events.source_name)

    def _place(self, rows: sections.Rows) -> dict[str, Any]:
        """Where the rows are, and the database that a table or query is read with."""
        link = self.path(self.source.url) if self.source.url and not rows.path else None
        return {"source": self.path(rows.path) if rows.path else rows.table or rows.query, "engine": link}

    def predictors(self) -> list[Predictor]:
        """One predictor for each target."""
        from persopredict.predictor import Predictor

        return [Predictor(target, estimator=self._estimator(target)) for target in self.targets.values()]

    @property
    def wording(self) -> Wording:
        """The language of reasons and report, and the file's own words for features."""
        from persopredict.wording import Wording

        return Wording(self.report.language, self.report.labels, names=self.report.names, currency=self.report.currency)

    def _estimator(self, target: Target) -> Any:
        """Our learner with the file's parameters over ours; None, for ours as it is, if the file gives none."""
        from persopredict.learner import DEFAULTS, PAIR_DEFAULTS, default_estimator

        parameters = self.lightgbm.get(target.name)
        ours = PAIR_DEFAULTS if isinstance(target, Affinity) else DEFAULTS
        return default_estimator(0, ours, **parameters) if parameters else None

    def build(self, progress: Callable[[str], None] | None = None) -> Job:
        """The job that the file describes; `progress` is told each step as it begins."""
        from persopredict.job import Job

        return Job(
            self.event_log(),
            self.predictors(),
            warehouse=self.path(self.warehouse.url),
            tracking=self.path(self.tracking.uri),
            project=self.tracking.experiment or self.project.name,
            retrain_every=self.job.retrain_every,
            max_staleness=self.job.max_staleness,
            keep=self.job.keep,
            min_grade=self.job.min_grade,
            wording=self.wording,
            report=None if self.report.path is None else self.path(self.report.path),
            progress=progress,
        )


def lookup_of(section: sections.Lookup, source: Any, engine: Any = None) -> Lookup:
    """The lookup that a section describes, its rows in `source`. Raises `SpecificationError` if it can't be one."""
    from persopredict.lookups import Lookup

    given = {name: getattr(section, name) for name in ("key", "columns", "valid_from", "known_at")}
    return Lookup(source, **given, name=section.source_name, engine=engine)


def load(path: str | Path = "persopredict.toml") -> Config:
    """Read and judge the configuration file at `path`; no data is touched.

    Raises
    ------
    ConfigurationError : with every problem of the file: missing, empty, not TOML (with the line), unknown or missing
        keys, wrong values, what this version does not have, unset environment variables.

    >>> load("nowhere.toml")
    Traceback (most recent call last):
    persopredict.errors.ConfigurationError: nowhere.toml can't be read:
      - error no_file: there is no such file. Remedy: run 'persopredict init' to make one, or give --config.
    """
    file = Path(path).expanduser()
    reader = _Sections(file)
    config = reader.config(document(file))
    if config is None or reader.problems:
        count = len(reader.problems)
        raise ConfigurationError(f"{file} has {count} problem{'s' if count > 1 else ''}", reader.problems)
    return config


class _Sections(TomlReader):
    """The sections, read one by one."""

    def config(self, document: Table) -> Config | None:
        for key in document:
            if key in _NOT_YET:
                self.not_available(key, f"[{key}]", f"take it out; {_NOT_YET[key]}")
            elif key not in _SECTIONS:
                self.add("unknown_key", key, f"there is no section [{key}]", did_you_mean(key, _SECTIONS))
        project = self.section(sections.Project, document, "project")
        source = self.source(document)
        tracking = self.section(sections.Tracking, document, "tracking")
        job = self.section(sections.JobSettings, document, "job")
        report = self.section(sections.Report, document, "report")
        warehouse = self.warehouse(document)
        events = self.events(document)
        lookups = self.lookups(document, events)
        targets, lightgbm = self.targets(document, self.levels(document, events))
        if not (project and source and tracking and job and report and warehouse) or self.problems:
            return None
        return Config(self.file.resolve(), project, source, tracking, job, report, warehouse, events, lookups, targets, lightgbm)

    def section(self, model: type[S], document: Table, key: str) -> S | None:
        """A section that may be absent and has no further tables."""
        return self.table(model, document.get(key, {}), key)

    def source(self, document: Table) -> sections.Source | None:
        raw = document.get("source", {})
        if isinstance(raw, dict) and raw.get("engine") in ("spark", "postgres"):
            self.not_available("source.engine", repr(raw["engine"]), "use 'duckdb'")
            raw = {**raw, "engine": "duckdb"}
        return self.table(sections.Source, raw, "source")

    def warehouse(self, document: Table) -> sections.WarehouseSettings | None:
        if "warehouse" not in document:
            remedy = "add [warehouse] with url = 'warehouse.duckdb'"
            self.add("missing_key", "warehouse", "[warehouse] is missing", remedy)
            return None
        warehouse = self.table(sections.WarehouseSettings, document["warehouse"], "warehouse")
        if warehouse and warehouse.url == ":memory:":
            self.add("bad_value", "warehouse.url", "':memory:' is not allowed: nothing would be kept", "write url = 'warehouse.duckdb'")
        if warehouse and re.match(r"(?!duckdb:)[A-Za-z0-9+]+://", warehouse.url):
            self.not_available("warehouse.url", "a warehouse other than a DuckDB file", "write url = 'warehouse.duckdb'")
        return warehouse

    def events(self, document: Table) -> tuple[Source, ...]:
        if document.get("events", []) == []:
            remedy = "add [[events]] with path, event and [events.columns]"
            self.add("missing_key", "events", "there are no events", remedy)
        found = [self.one_source(entry, key, document) for key, entry in self.tables(document, "events")]
        return tuple(source for source in found if source)

    def tables(self, document: Table, key: str) -> list[tuple[str, object]]:
        """The tables of a list of tables, each with its key; none, with the problem kept, if it is not a list."""
        raw = document.get(key, [])
        if not isinstance(raw, list):
            self.add("bad_value", key, f"{key} come as a list of tables", f"write [[{key}]], in double brackets")
            return []
        return [(f"{key}[{index}]", entry) for index, entry in enumerate(raw)]

    def one_source(self, raw: object, key: str, document: Table) -> Source | None:
        own, inner = self.split(raw, "columns")
        events = self.table(sections.Events, own, key, also=("columns",))
        columns = self.table(sections.Columns, inner, f"{key}.columns")
        if not isinstance(own, dict) or not isinstance(inner, dict):
            return None
        self.place(own, key, document)
        if "event" in own and "event" in inner:
            remedy = "give event under [[events]] if every row is one such event, else under [events.columns]"
            self.add("contradiction", key, "there is the event twice, as a name and as a column", remedy)
        return Source(events, columns) if events and columns else None

    def place(self, own: Table, key: str, document: Table) -> None:
        """A source has its rows in exactly one place."""
        places = [name for name in ("path", "table", "query") if name in own]
        if len(places) != 1:
            what = "none of path, table, query" if not places else f"{' and '.join(places)} at once"
            self.add("contradiction", key, f"there is {what}", "give exactly one of path, table and query")
        if "table" in own and "url" not in as_table(document.get("source")):
            remedy = "add [source] with url = 'events.duckdb'"
            self.add("missing_key", "source.url", "the database of the table is missing", remedy)

    def lookups(self, document: Table, events: Sequence[Source]) -> tuple[sections.Lookup, ...]:
        found: dict[str, sections.Lookup] = {}
        entries = dict(self.tables(document, "lookups"))
        for key, entry in entries.items():
            if section := self.table(sections.Lookup, entry, key):
                found[key] = section
            if isinstance(entry, dict):
                self.place(entry, key, document)
        for problem in self.lookup_problems(found, events, document):
            argument = problem.code.removeprefix("lookup_")
            raw = as_table(entries[problem.source]).get(argument)
            message = f"{shown(raw)} is not allowed" if "${" in str(raw) else problem.message
            self.add("bad_value", f"{problem.source}.{argument}", message, problem.remedy)
        return tuple(found.values())

    def lookup_problems(self, found: Mapping[str, sections.Lookup], events: Sequence[Source], document: Table) -> list[Problem]:
        """What only lookups themselves can judge, the key in the file as the source of each problem."""
        if not found:
            return []
        from persopredict.lookups import join_problems

        problems: list[Problem] = []
        sound = []
        for key, section in found.items():
            try:
                sound.append(lookup_of(section.model_copy(update={"name": key}), ""))
            except SpecificationError as error:
                problems += [replace(problem, source=key) for problem in error.problems]
        levels = self.levels(document, events)
        if levels is None:
            return problems
        return problems + join_problems(sound, levels, [name for source in events for name in source.columns.dimensions])

    def levels(self, document: Table, events: Sequence[Source]) -> list[str] | None:
        """Names of the category levels that a log of these sources has at most, as the common model spells them; None where a source
        can't be read, for it may be the one that has them.
        """
        raw = document.get("events")
        if not events or not isinstance(raw, list) or len(events) < len(raw):
            return None
        given = (source.columns.category or () for source in events)
        return ["category", *(safe(level) for levels in given if len(levels) > 1 for level in levels)]

    def targets(self, document: Table, levels: Sequence[str] | None) -> tuple[dict[str, Target], dict[str, Table]]:
        raw = document.get("targets", {})
        if not isinstance(raw, dict) or not all(isinstance(entry, dict) for entry in raw.values()):
            remedy = "write [targets.churn_purchase_28d]"
            self.add("bad_value", "targets", "every target is a table with a name", remedy)
            return {}, {}
        if not raw:
            remedy = "add [targets.churn_purchase_28d] with type, event and horizon"
            self.add("missing_key", "targets", "there are no targets", remedy)
        targets: dict[str, Target] = {}
        lightgbm: dict[str, Table] = {}
        for name, entry in raw.items():
            key = f"targets.{name}"
            parameters = self.table(sections.LightGBM, entry.get("lightgbm", {}), f"{key}.lightgbm")
            target = self.target(name, entry)
            if isinstance(target, Affinity) and levels is not None:
                self.known_category(f"{key}.by", entry["by"], target.by, [*levels, *KINDS_OF_AFFINITY])
            if "name" not in entry and not re.fullmatch(r"[a-z0-9_]{1,48}", name):
                self.add("bad_value", key, f"{name!r} is not a name for a target", "use a-z, 0-9 and _, at most 48 of them")
            if target is None:
                continue
            if target.name in targets:
                self.add("contradiction", key, f"two targets are named {target.name!r}", "give one another name")
            targets[target.name] = target
            if parameters and parameters.model_fields_set:
                lightgbm[target.name] = parameters.given()
        return targets, lightgbm

    def target(self, name: str, raw: Mapping[str, object]) -> Target | None:
        key, kind = f"targets.{name}", self.expanded(raw.get("type"), f"targets.{name}.type")
        allowed = "allowed: " + ", ".join(repr(known) for known in _TARGETS)
        if kind == "value":
            self.not_available(f"{key}.type", repr(kind), allowed)
        elif "type" not in raw:
            self.add("missing_key", f"{key}.type", "the key is missing", allowed)
            self.keys_of_no_target(key, raw)
        elif not isinstance(kind, str) or kind not in _TARGETS:
            hint = did_you_mean(str(kind), _TARGETS) if kind == raw["type"] else ""
            remedy = f"{hint} {allowed}" if "did you mean" in hint else allowed
            self.add("bad_value", f"{key}.type", f"{shown(raw['type'])} is not allowed", remedy)
            self.keys_of_no_target(key, raw)
        else:
            rest = {argument: value for argument, value in raw.items() if argument not in ("type", "lightgbm")}
            arguments = self.table(_TARGETS[kind], rest, key, also=("type", "lightgbm"))
            if arguments is not None:
                return self.built_target(key, {"name": name, "type": kind, **arguments.given()})
        return None

    def keys_of_no_target(self, key: str, raw: Mapping[str, object]) -> None:
        """Where the type is not known, at least the keys that no type has."""
        known = {"type", "lightgbm", *(name for model in _TARGETS.values() for name in model.model_fields)}
        for name in raw:
            if name not in known:
                self.add("unknown_key", f"{key}.{name}", f"there is no key {name!r} here", did_you_mean(name, sorted(known)))

    def known_category(self, key: str, raw: object, by: str, allowed: Sequence[str]) -> None:
        """An affinity is about something that the mapping of the events can give."""
        if by not in allowed:
            remedy = did_you_mean(by, allowed) if by == raw else ""
            self.add("bad_value", key, f"{shown(raw)} is no level of category", remedy or "allowed: " + ", ".join(map(repr, allowed)))

    def built_target(self, key: str, arguments: Table) -> Target | None:
        """What only the target itself can judge, like an event that competes with itself."""
        try:
            return target_from_dict(arguments)
        except SpecificationError as error:
            for problem in error.problems:
                argument = problem.code.removeprefix("target_")
                if argument != "name":
                    remedy = problem.remedy or f"change {argument} or event"
                    self.add("bad_value", f"{key}.{argument}", problem.message, remedy)
        return None

    def not_available(self, key: str, what: str, remedy: str) -> None:
        """What the format foresees and this version lacks is refused, never passed over."""
        self.add("not_available", key, f"{what} is not available in this version", remedy)
