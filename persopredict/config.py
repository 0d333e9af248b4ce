"""`persopredict.toml`: read, judged as a whole, and turned into a `Job`.

Whatever is wrong anywhere in the file is collected as a `Problem` naming the file, the key, the value and what is allowed, and all problems
are raised at once. Values may hold ``${NAME}``, taken from the environment; what was put in is never shown, neither by an error nor by
`repr`. Relative paths start at the folder of the file, not at the current one, so that cron may call from anywhere.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from persopredict import sections
from persopredict.errors import ConfigurationError, Problem, SpecificationError, did_you_mean
from persopredict.targets import Target, target_from_dict
from persopredict.times import instant

if TYPE_CHECKING:
    from persopredict.events import EventLog
    from persopredict.job import Job
    from persopredict.predictor import Predictor

S = TypeVar("S", bound=sections.Section)
Table = dict[str, Any]

_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_TARGETS: Mapping[str, type[sections.Target]] = {
    "conversion": sections.Conversion,
    "churn": sections.Churn,
    "cancellation": sections.Cancellation,
}
_NOT_YET = {
    "lookups": "join the facts into the events with a query",
    "sinks": "read the table customer_attributes or customer_attributes.parquet",
    "audiences": "select them from the table customer_attributes",
    "serving": "read the table customer_attributes",
}
_SECTIONS = ("project", "source", "events", "targets", "tracking", "job", "warehouse")


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
    project, source, tracking, job, warehouse : the sections, defaults filled in.
    events : the sources of events, in the file's order; at least one.
    targets : the targets by name, in the file's order; at least one.
    lightgbm : LightGBM's parameters by target name, where the file gives any.
    """

    file: Path
    project: sections.Project
    source: sections.Source
    tracking: sections.Tracking
    job: sections.JobSettings
    warehouse: sections.WarehouseSettings
    events: tuple[Source, ...]
    targets: Mapping[str, Target] = field(repr=False)
    lightgbm: Mapping[str, Mapping[str, Any]] = field(repr=False)


def load(path: str | Path = "persopredict.toml") -> Config:
    """Read and judge a configuration file; no data is touched.

    Parameters
    ----------
    path : the TOML file.

    Raises
    ------
    ConfigurationError : with every problem of the file: missing, empty, not TOML (with the line), unknown or missing keys, wrong values,
        what this version does not have, unset environment variables.

    >>> load("nowhere.toml")
    Traceback (most recent call last):
    persopredict.errors.ConfigurationError: nowhere.toml can't be read:
      - error no_file: there is no such file. Remedy: run 'persopredict init' to make one, or give its path with --config.
    """
    file = Path(path).expanduser()
    reader = _Reader(file)
    config = reader.config(_document(file))
    if config is None or reader.problems:
        count = len(reader.problems)
        raise ConfigurationError(f"{file} has {count} problem{'s' if count > 1 else ''}", reader.problems)
    return config


def _document(file: Path) -> Table:
    def refuse(code: str, message: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{file} can't be read", [Problem(code, message, remedy=remedy)])

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise refuse(
            "no_file", "there is no such file", "run 'persopredict init' to make one, or give its path with --config"
        ) from None
    except OSError as error:
        raise refuse("no_file", f"{error.strerror}", "give the path of a TOML file that you may read") from None
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise refuse("not_utf8", f"line {line} is not UTF-8 text", "save the file as UTF-8") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = f"line {text.rstrip().count(chr(10)) + 1}"
        reason = str(error).replace("at end of document", f"at {place}, the last")
        raise refuse(
            "toml_syntax", reason, "mend this line: text stands in quotes, a table's name in [brackets]"
        ) from None
    if not document:
        raise refuse("empty_file", "the file is empty", "run 'persopredict init --force' to write one to start from")
    return document


class _Reader:
    """Reads the sections one by one and keeps every problem."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, code: str, key: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(code, message, remedy=remedy, source=f"{self.file.name}: {key}"))

    def config(self, document: Table) -> Config | None:
        for key in document:
            if key in _NOT_YET:
                self.add(
                    "not_available", key, f"[{key}] is not available in this version", f"take it out; {_NOT_YET[key]}"
                )
            elif key not in _SECTIONS:
                self.add("unknown_key", key, f"there is no section [{key}]", did_you_mean(key, _SECTIONS))
        project = self.section(sections.Project, document, "project")
        source = self.source(document)
        tracking = self.section(sections.Tracking, document, "tracking")
        job = self.section(sections.JobSettings, document, "job")
        warehouse = self.warehouse(document)
        events = self.events(document)
        targets, lightgbm = self.targets(document)
        if not (project and source and tracking and job and warehouse) or self.problems:
            return None
        return Config(self.file.resolve(), project, source, tracking, job, warehouse, events, targets, lightgbm)

    def section(self, model: type[S], document: Table, key: str) -> S | None:
        """A section that may be absent and has no further tables."""
        return self.table(model, document.get(key, {}), key)

    def source(self, document: Table) -> sections.Source | None:
        raw = document.get("source", {})
        if isinstance(raw, dict) and raw.get("engine") in ("spark", "postgres"):
            self.add(
                "not_available", "source.engine", f"{raw['engine']!r} is not available in this version", "use 'duckdb'"
            )
            raw = {**raw, "engine": "duckdb"}
        return self.table(sections.Source, raw, "source")

    def warehouse(self, document: Table) -> sections.WarehouseSettings | None:
        raw = document.get("warehouse")
        url = raw.get("url") if isinstance(raw, dict) else None
        if raw is None:
            self.add(
                "missing_key", "warehouse", "[warehouse] is missing", "add [warehouse] with url = 'warehouse.duckdb'"
            )
            return None
        if isinstance(url, str) and re.match(r"(?!duckdb:)[a-z0-9+]+://", url):
            scheme = url.split("://")[0]
            self.add(
                "not_available",
                "warehouse.url",
                f"a warehouse on {scheme!r} is not available in this version",
                "use a DuckDB file",
            )
            return None
        return self.table(sections.WarehouseSettings, raw, "warehouse")

    def events(self, document: Table) -> tuple[Source, ...]:
        raw = document.get("events")
        if raw is None or raw == []:
            self.add(
                "missing_key", "events", "there are no events", "add [[events]] with path, event and [events.columns]"
            )
            return ()
        if not isinstance(raw, list):
            self.add("bad_value", "events", "events come as a list of tables", "write [[events]], in double brackets")
            return ()
        found = [self.one_source(entry, f"events[{index}]", document) for index, entry in enumerate(raw)]
        return tuple(source for source in found if source)

    def one_source(self, raw: Any, key: str, document: Table) -> Source | None:
        own, inner = self.split(raw, "columns")
        events = self.table(sections.Events, own, key, also=("columns",))
        columns = self.table(sections.Columns, inner, f"{key}.columns")
        if not isinstance(own, dict) or not isinstance(inner, dict):
            return None
        places = [name for name in ("path", "table", "query") if name in own]
        if len(places) != 1:
            what = "none of path, table, query" if not places else f"{' and '.join(places)} at once"
            self.add("contradiction", key, f"there is {what}", "give exactly one of path, table and query")
        if "table" in own and "url" not in _as_table(document.get("source")):
            self.add(
                "missing_key",
                "source.url",
                "the database of the table is missing",
                "add [source] with url = 'events.duckdb'",
            )
        if "event" in own and "event" in inner:
            remedy = "give event = 'purchase' under [[events]] if every row is one, or else event = '<column>' under [events.columns]"
            self.add("contradiction", key, "there is the event twice, as a name and as a column", remedy)
        return Source(events, columns) if events and columns else None

    def targets(self, document: Table) -> tuple[dict[str, Target], dict[str, Table]]:
        raw = document.get("targets", {})
        if not isinstance(raw, dict) or not all(isinstance(entry, dict) for entry in raw.values()):
            self.add(
                "bad_value", "targets", "every target is a table with a name", "write [targets.churn_purchase_28d]"
            )
            return {}, {}
        if not raw:
            self.add(
                "missing_key",
                "targets",
                "there are no targets",
                "add [targets.churn_purchase_28d] with type, event and horizon",
            )
        targets: dict[str, Target] = {}
        lightgbm: dict[str, Table] = {}
        for name, entry in raw.items():
            own, inner = self.split(entry, "lightgbm")
            parameters = self.table(sections.LightGBM, inner, f"targets.{name}.lightgbm")
            target = self.target(name, own)
            if "name" not in own and not re.fullmatch(r"[a-z0-9_]{1,48}", name):
                self.add(
                    "bad_value",
                    f"targets.{name}",
                    f"{name!r} is not a name for a target",
                    "use a-z, 0-9 and _, at most 48 of them",
                )
            if target is None:
                continue
            if target.name in targets:
                self.add(
                    "contradiction",
                    f"targets.{name}",
                    f"two targets are named {target.name!r}",
                    "give one another name",
                )
            targets[target.name] = target
            if parameters and parameters.model_fields_set:
                lightgbm[target.name] = parameters.model_dump(exclude_unset=True)
        return targets, lightgbm

    def target(self, name: str, raw: Table) -> Target | None:
        key, kind = f"targets.{name}", raw.get("type")
        allowed = "allowed: " + ", ".join(repr(known) for known in _TARGETS)
        if kind in ("affinity", "value"):
            self.add("not_available", f"{key}.type", f"{kind!r} is not available in this version", allowed)
        elif "type" not in raw:
            self.add("missing_key", f"{key}.type", "the key is missing", allowed)
        elif not isinstance(kind, str) or kind not in _TARGETS:
            hint = did_you_mean(str(kind), _TARGETS)
            self.add(
                "bad_value",
                f"{key}.type",
                f"{_shown(kind)} is not allowed",
                f"{hint} {allowed}" if "mean" in hint else allowed,
            )
        else:
            rest = {argument: value for argument, value in raw.items() if argument != "type"}
            arguments = self.table(_TARGETS[kind], rest, key, also=("type", "lightgbm"))
            if arguments is not None:
                return self.built_target(key, {"name": name, "type": kind, **arguments.model_dump(exclude_unset=True)})
        return None

    def built_target(self, key: str, arguments: Table) -> Target | None:
        """What only the target itself can judge, like an event that competes with itself."""
        try:
            return target_from_dict(arguments)
        except SpecificationError as error:
            for problem in error.problems:
                argument = problem.code.removeprefix("target_")
                if argument != "name":
                    self.add(
                        "bad_value",
                        f"{key}.{argument}",
                        problem.message,
                        problem.remedy or f"change {argument} or event",
                    )
        return None

    def split(self, raw: Any, inner: str) -> tuple[Any, Any]:
        """A table without its inner table, and the inner one (empty if there is none)."""
        if not isinstance(raw, dict):
            return raw, {}
        return {key: value for key, value in raw.items() if key != inner}, raw.get(inner, {})

    def table(self, model: type[S], raw: Any, key: str, also: Iterable[str] = ()) -> S | None:
        """A flat table as its model; None, with the problems kept, if it is not one. `also` are keys read elsewhere."""
        if not isinstance(raw, dict):
            many = isinstance(raw, list)
            self.add(
                "bad_value",
                key,
                f"there must be exactly one [{key}]" if many else "a table is expected",
                f"write [{key}]",
            )
            return None
        values = {name: self.expanded(value, f"{key}.{name}") for name, value in raw.items()}
        unset = {name for name, value in values.items() if value is None}
        try:
            return model.model_validate({name: value for name, value in values.items() if name not in unset})
        except ValidationError as error:
            known = [*model.model_fields, *also]
            for detail in error.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                if name not in unset:
                    hidden = raw.get(name) != values.get(name)
                    self.add(*_verdict(model, known, f"{key}.{name}", name, detail, raw.get(name), hidden))
        return None

    def expanded(self, value: Any, key: str) -> Any:
        """The value with the environment's variables put in; None, with the problems kept, if one is not set."""
        if isinstance(value, dict):
            inner = {name: self.expanded(entry, f"{key}.{name}") for name, entry in value.items()}
            return None if None in inner.values() else inner
        if isinstance(value, list):
            entries = [self.expanded(entry, key) for entry in value]
            return None if None in entries else entries
        if not isinstance(value, str):
            return value
        names = _VARIABLE.findall(value)
        for name in names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                self.add(
                    "bad_variable",
                    key,
                    f"{_shown('${' + name)} is not a variable",
                    "write ${NAME}, of letters, digits and _",
                )
            elif name not in os.environ:
                self.add(
                    "missing_variable",
                    key,
                    f"the environment variable {name} is not set",
                    f"set {name} before the command",
                )
        if any(name not in os.environ for name in names):
            return None
        return _VARIABLE.sub(lambda match: os.environ[match[1]], value)


def _verdict(
    model: type[sections.Section], known: list[str], key: str, name: str, detail: ErrorDetails, raw: Any, hidden: bool
) -> tuple[str, str, str, str]:
    """Code, key, message and remedy for one finding of pydantic, in our words. What came from the environment stays unsaid."""
    if name not in model.model_fields:
        belongs = model is sections.Events and name in sections.Columns.model_fields
        return (
            "unknown_key",
            key,
            f"there is no key {name!r} here",
            "put it under [events.columns]" if belongs else did_you_mean(name, known),
        )
    allowed = f"allowed: {model.model_fields[name].description}"
    if detail["type"] == "missing":
        return "missing_key", key, "the key is missing", allowed
    reason = str(detail.get("ctx", {}).get("error", ""))
    if hidden or not reason:
        return "bad_value", key, f"{_shown(raw)} is not allowed", allowed
    return "bad_value", key, f"{_shown(raw)} is not allowed: {reason}", allowed


def _shown(value: Any) -> str:
    """A value of the file for a message: short, and without the password of a URL."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_table(value: Any) -> Table:
    return value if isinstance(value, dict) else {}
