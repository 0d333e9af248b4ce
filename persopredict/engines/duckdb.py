"""DuckDB, the embedded engine: one private in-memory database per event log, spilling to a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import narwhals as nw
import pyarrow as pa
from sqlglot import exp

from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import table
from persopredict.errors import DataError, EngineError, Problem

_CSV = (".csv", ".csv.gz", ".tsv", ".txt")
_PARQUET = (".parquet", ".pq")


class DuckDBEngine(Engine):
    """Computes in this process. `memory_limit` is DuckDB's, like ``"4GB"``; beyond it work spills to disk."""

    dialect: ClassVar[str] = "duckdb"

    def __init__(self, *, memory_limit: str | None = None, threads: int | None = None) -> None:
        # The engine makes this folder when it first spills; a log that fits in memory leaves no trace.
        spill = Path(tempfile.gettempdir()) / f"persopredict-{uuid.uuid4().hex}"
        weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        settings: dict[str, Any] = {"temp_directory": str(spill), "preserve_insertion_order": False}
        if memory_limit:
            settings["memory_limit"] = memory_limit
        if threads:
            settings["threads"] = threads
        self._connection = duckdb.connect(":memory:", config=settings)
        self.read_naive_times_in("UTC")
        # A progress bar printed by the engine would end up in notebooks and job logs; ours is drawn by the job.
        self._connection.execute("SET enable_progress_bar = false")

    def describe(self, source: Any, *, link: Any = None, name: str) -> dict[str, str]:
        """Make a path, glob, frame, relation, table or query readable as the view `name`; see `EventLog` for the kinds."""
        relation = self._relation(source, link)
        relation.create_view(name)
        return dict(zip(relation.columns, (str(kind) for kind in relation.types), strict=True))

    def _relation(self, source: Any, link: Any) -> duckdb.DuckDBPyRelation:
        if isinstance(source, str | Path):
            if link is None and _is_file(str(source)):
                return self._file(str(source))
            return self._query(str(source), link)
        if isinstance(source, duckdb.DuckDBPyRelation):
            # The relation belongs to the caller's connection, which ours can't read: its rows cross over in Arrow.
            return self._connection.from_arrow(source.to_arrow_table())
        try:
            frame = nw.from_native(source)
        except TypeError:
            raise DataError(
                f"{type(source).__name__} is not a source; give a Parquet or CSV path or glob, a pandas, Polars or PyArrow frame, "
                "a DuckDB relation, or a table or query with engine="
            ) from None
        collected = frame.collect("pyarrow") if isinstance(frame, nw.LazyFrame) else frame
        return self._connection.from_arrow(collected.to_arrow())

    def _file(self, path: str) -> duckdb.DuckDBPyRelation:
        try:
            if path.lower().endswith(_PARQUET):
                return self._connection.read_parquet(path)
            # Everything is text until we read it ourselves: a sniffed type would make a bad value far down an error of the whole file.
            return self._connection.read_csv(path, all_varchar=True, header=True)
        except duckdb.Error as error:
            empty = not any(file.stat().st_size for file in _matches(path))
            problem = Problem(
                "empty_file" if empty else "unreadable_file",
                "the file is empty" if empty else str(error).split("\n")[0],
                source=path,
                remedy="check the export that writes it" if empty else "check the path and the format (Parquet, or CSV with a header)",
            )
            raise DataError("a source can't be read", [problem]) from None

    def _query(self, text: str, link: Any) -> duckdb.DuckDBPyRelation:
        try:
            if link is None:
                return self._connection.sql(_as_query(text))
            if isinstance(link, duckdb.DuckDBPyConnection):
                return self._connection.from_arrow(link.sql(_as_query(text)).to_arrow_table())
            with duckdb.connect(str(link).removeprefix("duckdb:///"), read_only=True) as database:
                return self._connection.from_arrow(database.sql(_as_query(text)).to_arrow_table())
        except duckdb.Error as error:
            problem = Problem(
                "unreadable_query", str(error).split("\n")[0], source=text[:80], remedy="run the query by itself on the source and mend it"
            )
            raise DataError("a source can't be read", [problem]) from None

    def create(self, step: Step) -> None:
        """``CREATE OR REPLACE TABLE`` of the step's result."""
        self._execute(step, exp.Create(this=table(step.name), kind="TABLE", replace=True, expression=step.query).sql("duckdb"))

    def view(self, step: Step) -> None:
        """``CREATE OR REPLACE VIEW`` of the step's query."""
        self._execute(step, exp.Create(this=table(step.name), kind="VIEW", replace=True, expression=step.query).sql("duckdb"))

    def drop(self, name: str) -> None:
        """Drop a table of ours."""
        self._connection.execute(exp.Drop(tables=[table(name)], kind="TABLE", exists=True).sql("duckdb"))

    def read_naive_times_in(self, timezone: str) -> None:
        """From now on, times without an offset are read in this zone."""
        self._connection.execute("SET TimeZone = " + exp.Literal.string(timezone).sql("duckdb"))

    def load(self, name: str, rows: pa.Table) -> None:
        """Keep an Arrow table as a table."""
        self.drop(name)
        self._connection.from_arrow(rows).create(name)

    def rows(self, step: Step) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return self._execute(step, step.sql("duckdb", pretty=False)).fetchall()

    def batches(self, step: Step, size: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The result, batch by batch; at least one batch, so that an empty result still has its schema."""
        sql = step.sql("duckdb", pretty=False)
        try:
            reader = self._connection.sql(sql).to_arrow_reader(size)
            seen = False
            for batch in reader:
                seen = True
                yield batch
            if not seen:
                yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        except duckdb.Error as error:
            raise EngineError(step.name, step.sql("duckdb"), str(error)) from error

    def _execute(self, step: Step, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql)
        except duckdb.Error as error:
            raise EngineError(step.name, step.sql("duckdb"), str(error)) from error


def _is_file(text: str) -> bool:
    plain = text.lower()
    return plain.endswith((*_CSV, *_PARQUET)) and not plain.lstrip().startswith(("select ", "with ", "from "))


def _as_query(text: str) -> str:
    """A bare table name is a query for all of it; anything else is the user's own query."""
    plain = text.strip().rstrip(";")
    if plain.replace("_", "").replace(".", "").isalnum():
        return "SELECT * FROM " + ".".join(table(part).sql("duckdb") for part in plain.split("."))
    return plain


def _matches(path: str) -> list[Path]:
    whole = Path(path)
    if any(symbol in path for symbol in "*?["):
        return [file for file in whole.parent.glob(whole.name) if file.is_file()]
    return [whole] if whole.is_file() else []
