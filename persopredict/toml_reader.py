"""Reading a TOML file so that every problem of it is told at once, in words for whoever wrote the file.

Each table is validated on its own by a flat pydantic model. Nothing of pydantic's own wording leaves this module, and
no value that came from the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from persopredict.errors import ConfigurationError, Problem, did_you_mean
from persopredict.sections import Columns, Events, Section

S = TypeVar("S", bound=Section)
Table = dict[str, Any]

_VARIABLE = re.compile(r"\$\{([^}]*\}?)")


def document(file: Path) -> Table:
    """The file's content; raises `ConfigurationError` if it is missing, empty or not TOML, with the line."""

    def refuse(code: str, message: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{file} can't be read", [Problem(code, message, remedy=remedy)])

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        remedy = "run 'persopredict init' to make one, or give --config"
        raise refuse("no_file", "there is no such file", remedy) from None
    except OSError as error:
        raise refuse("no_file", f"{error.strerror}", "give the path of a TOML file that you may read") from None
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise refuse("not_utf8", f"line {line} is not UTF-8 text", "save the file as UTF-8") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = f"line {text.rstrip().count(chr(10)) + 1}"
        reason = str(error).replace("at end of document", f"at {place}, the last")
        remedy = "mend this line: text stands in quotes, a table's name in [brackets]"
        raise refuse("toml_syntax", reason, remedy) from None
    if not content:
        raise refuse("empty_file", "the file is empty", "run 'persopredict init --force' to write one to start from")
    return content


class TomlReader:
    """Reads the tables of `file` one by one; `problems` keeps all that is wrong."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, code: str, key: str, message: str, remedy: str) -> None:
        """Keep a problem of the key."""
        self.problems.append(Problem(code, message, remedy=remedy, source=f"{self.file.name}: {key}"))

    def split(self, raw: object, inner: str) -> tuple[object, object]:
        """A table without its inner table, and the inner one (empty if there is none)."""
        if not isinstance(raw, dict):
            return raw, {}
        return {key: value for key, value in raw.items() if key != inner}, raw.get(inner, {})

    def table(self, model: type[S], raw: object, key: str, also: Iterable[str] = ()) -> S | None:
        """A flat table as its model; None, with the problems kept, if it is not one. `also` are keys read elsewhere."""
        if not isinstance(raw, dict):
            message = f"there must be exactly one [{key}]" if isinstance(raw, list) else "a table is expected"
            self.add("bad_value", key, message, f"write [{key}]")
            return None
        values = {name: self.expanded(value, f"{key}.{name}") for name, value in raw.items()}
        unset = {name for name, value in values.items() if value is None}
        try:
            return model.model_validate({name: value for name, value in values.items() if name not in unset})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                if name not in model.model_fields:
                    self.unknown_key(model, key, name, also)
                elif name not in unset:
                    self.wrong_value(model, key, name, detail, raw.get(name), hidden=raw.get(name) != values.get(name))
        return None

    def unknown_key(self, model: type[Section], key: str, name: str, also: Iterable[str]) -> None:
        """Keep an unknown key, with the nearest one that there is."""
        belongs = model is Events and name in Columns.model_fields
        remedy = "put it under [events.columns]" if belongs else did_you_mean(name, [*model.model_fields, *also])
        self.add("unknown_key", f"{key}.{name}", f"there is no key {name!r} here", remedy)

    def wrong_value(self, model: type[Section], key: str, name: str, detail: ErrorDetails, raw: object, *, hidden: bool) -> None:
        """Keep one finding of pydantic in our words; `hidden` if the value has parts from the environment."""
        allowed = f"allowed: {model.model_fields[name].description}"
        if detail["type"] == "missing":
            self.add("missing_key", f"{key}.{name}", "the key is missing", allowed)
            return
        reason = "" if hidden else str(detail.get("ctx", {}).get("error", ""))
        message = f"{shown(raw)} is not allowed{': ' if reason else ''}{reason}"
        self.add("bad_value", f"{key}.{name}", message, allowed)

    def expanded(self, value: object, key: str) -> object:
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
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\}", name):
                self.add("bad_variable", key, "'${' begins no variable", "write ${NAME}, of letters, digits and _")
            elif name[:-1] not in os.environ:
                message = f"the environment variable {name[:-1]} is not set"
                self.add("missing_variable", key, message, f"set {name[:-1]} before the command")
        if any(name[:-1] not in os.environ for name in names):
            return None
        return _VARIABLE.sub(lambda match: os.environ[match[1][:-1]], value)


def shown(value: object) -> str:
    """A value of the file for a message: short, and without the password of a URL."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_table(value: object) -> Table:
    """The value if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
