"""What every engine promises: it runs named steps, each one SQL query, and gives back rows or Arrow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from sqlglot import exp

from persopredict.errors import Problem


@dataclass(frozen=True, slots=True)
class Step:
    """A query with a name that means something: it becomes a table of that name, and the name appears in errors."""

    name: str
    query: exp.Query
    _texts: dict[tuple[str, bool], str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def sql(self, dialect: str, *, pretty: bool = True) -> str:
        """The query's text in an engine's dialect. It is kept: writing a wide query takes longer than running it on a few customers."""
        key = (dialect, pretty)
        if key not in self._texts:
            self._texts[key] = self.query.sql(dialect=dialect, pretty=pretty)
        return self._texts[key]


class Engine(ABC):
    """Runs steps. Subclasses touch the database; nobody else does."""

    dialect: ClassVar[str]

    @abstractmethod
    def describe(self, source: Any, *, link: Any, name: str) -> dict[str, str]:
        """Make a source readable as the view `name`; its columns with the engine's type names."""

    def remarks(self, name: str) -> tuple[Problem, ...]:
        """What was bearable about the source `name`, like an empty file among others."""
        return ()

    def rejected(self, name: str) -> exp.Query | None:
        """The lines of the source `name` that could not be read so far (column ``row``, JSON text); None if there can be none."""
        return None

    def is_parsed(self, name: str) -> bool:
        """Whether each scan of the source `name` parses text anew, so that it is better scanned once."""
        return False

    @abstractmethod
    def create(self, step: Step) -> None:
        """Run the step and keep its result as a table of the step's name, replacing it."""

    @abstractmethod
    def view(self, step: Step) -> None:
        """Make the step's query readable under its name, computed anew at each read."""

    @abstractmethod
    def read_naive_times_in(self, timezone: str) -> None:
        """From now on, times without an offset are read in this zone."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Drop a table that `create` made."""

    @abstractmethod
    def load(self, name: str, rows: pa.Table) -> None:
        """Keep an Arrow table as a table."""

    @abstractmethod
    def rows(self, step: Step) -> list[tuple[Any, ...]]:
        """The step's result, for results that are small."""

    @abstractmethod
    def arrow(self, step: Step, parameters: Mapping[str, int] | None = None) -> pa.Table:
        """The step's result as one Arrow table; `parameters` are the values of those in the query."""
