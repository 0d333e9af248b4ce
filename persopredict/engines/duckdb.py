"""DuckDB, the embedded engine: one private in-memory database per event log, spilling to a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
from sqlglot import exp

from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import col, select, table
from persopredict.engines.files import Files, is_file, open_files
from persopredict.engines.frames import arrow_of
from persopredict.errors import DataError, EngineError, Problem, did_you_mean


def silence(connection: duckdb.DuckDBPyConnection) -> None:
    """No progress bar of DuckDB's own: it would end up in notebooks and job logs; ours is drawn by the job."""
    # In a notebook without widgets it is off already, and DuckDB refuses even to be told so.
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()[0][0]:
        connection.execute("SET enable_progress_bar = false")


class DuckDBEngine(Engine):
    """Computes in this process. `memory_limit` is DuckDB's, like ``"4GB"``; beyond it work spills to disk."""

    dialect: ClassVar[str] = "duckdb"

    def __init__(self, *, memory_limit: str | None = None, threads: int | None = None) -> None:
        # The engine makes this folder when it first spills; a log that fits in memory leaves no trace.
        spill = Path(tempfile.gettempdir()) / f"persopredict-{uuid.uuid4().hex}"
        weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        settings: dict[str, Any] = {"temp_directory": str(spill), "preserve_insertion_order": False}
        # A query means tables and files, never a Python variable that happens to have the name.
        settings["python_enable_replacements"] = False
        if memory_limit:
            settings["memory_limit"] = memory_limit
        if threads:
            settings["threads"] = threads
        self._connection = duckdb.connect(":memory:", config=settings)
        # A connection serves one thread at a time; who reads batches may ask something else while the next one is being made.
        self._lock = threading.RLock()
        self._files: dict[str, Files] = {}
        self.read_naive_times_in("UTC")
        silence(self._connection)

    def describe(self, source: Any, *, link: Any = None, name: str) -> dict[str, str]:
        """Make a path, glob, frame, relation, table or query readable as `name`; see `EventLog` for the kinds.

        Raises `DataError` with what is wrong and what to do about it.
        """
        if isinstance(source, Path) or (isinstance(source, str) and link is None and is_file(source)):
            self._files[name] = files = open_files(self._connection, str(source), name)
            relation = files.relation
        elif isinstance(source, str):
            relation = self._query(source, link, name)
        elif isinstance(source, duckdb.DuckDBPyRelation):
            relation = self._refusable("the relation", lambda: self._stored(source, name))
        else:
            frame = arrow_of(source)
            relation = self._refusable(f"the {type(source).__name__}", lambda: self._connection.from_arrow(frame))
        if relation.alias != name:
            relation.create_view(name)
        return dict(zip(relation.columns, (str(kind).strip('"') for kind in relation.types), strict=True))

    def remarks(self, name: str) -> tuple[Problem, ...]:
        """What was bearable about the files of the source `name`."""
        return self._files[name].remarks if name in self._files else ()

    def rejected(self, name: str) -> exp.Query | None:
        """The lines of the source `name` that could not be read so far (column ``row``, JSON text); None if there can be none."""
        return self._files[name].rejected if name in self._files else None

    def is_parsed(self, name: str) -> bool:
        """Whether the source `name` is text."""
        return name in self._files and self._files[name].parsed

    def _stored(self, relation: duckdb.DuckDBPyRelation, name: str) -> duckdb.DuckDBPyRelation:
        """A relation of another connection as a table of ours: its rows cross over in batches, and spill if they are many."""
        self._connection.from_arrow(relation.to_arrow_reader()).create(name)
        return self._connection.table(name)

    def _query(self, text: str, link: Any, name: str) -> duckdb.DuckDBPyRelation:
        if link is None:
            if _is_path(text):
                remedy = "give a Parquet or CSV file or a glob, like 'events/*.parquet' or, of folders, 'events/**/*.parquet'"
                remedy += "; a table or query needs engine="
                problem = Problem("no_source", "this is neither a Parquet or CSV file nor a query", remedy=remedy, source=text)
                raise DataError("a source can't be read", [problem])
            return self._refusable("the query", lambda: _selected(self._connection, text), text, self._connection)
        if isinstance(link, duckdb.DuckDBPyConnection):
            return self._refusable("the query", lambda: self._stored(_selected(link, text), name), text, link)
        if not isinstance(link, str | Path):
            problem = Problem(
                "no_engine", f"engine is a {type(link).__name__}", remedy="give a DuckDB connection, or the path of a DuckDB file"
            )
            raise DataError("a source can't be read", [problem])
        with _database(str(link).removeprefix("duckdb:///")) as database:
            return self._refusable("the query", lambda: self._stored(_selected(database, text), name), text, database)

    def _refusable(
        self, what: str, read: Callable[[], duckdb.DuckDBPyRelation], text: str = "", link: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyRelation:
        """What `read` gives; where DuckDB refuses, why and what to do. DuckDB's own words may quote values: they are the example."""
        try:
            return read()
        except duckdb.Error as error:
            known = _tables(link) if isinstance(error, duckdb.CatalogException) else []
            remedy = did_you_mean(text.strip(), known) if _is_name(text) else ""
            if not remedy and isinstance(error, duckdb.CatalogException) and link is self._connection:
                remedy = "give engine= the DuckDB connection or file that holds the tables"
            problem = Problem(
                "unreadable_query" if text else "unreadable_source",
                f"{what} can't be read",
                example=str(error).split("\n")[0],
                remedy=remedy or "try it by itself on its source, and mend it",
                source=text[:80],
            )
        raise DataError("a source can't be read", [problem])

    def create(self, step: Step) -> None:
        """``CREATE OR REPLACE TABLE`` of the step's result."""
        self._execute(step, exp.Create(this=table(step.name), kind="TABLE", replace=True, expression=step.query).sql("duckdb"))

    def view(self, step: Step) -> None:
        """``CREATE OR REPLACE VIEW`` of the step's query."""
        self._execute(step, exp.Create(this=table(step.name), kind="VIEW", replace=True, expression=step.query).sql("duckdb"))

    def drop(self, name: str) -> None:
        """Drop a table of ours."""
        with self._lock:
            self._connection.execute(exp.Drop(tables=[table(name)], kind="TABLE", exists=True).sql("duckdb"))

    def read_naive_times_in(self, timezone: str) -> None:
        """From now on, times without an offset are read in this zone."""
        self._connection.execute("SET TimeZone = " + exp.Literal.string(timezone).sql("duckdb"))

    def load(self, name: str, rows: pa.Table) -> None:
        """Keep an Arrow table as a table."""
        with self._lock:
            self.drop(name)
            self._connection.from_arrow(rows).create(name)

    def rows(self, step: Step) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        with self._lock:
            return self._execute(step, step.sql("duckdb", pretty=False)).fetchall()

    def arrow(self, step: Step, parameters: Mapping[str, int] | None = None) -> pa.Table:
        """The result, with its schema even if it is empty."""
        try:
            with self._lock:
                return self._connection.sql(step.sql("duckdb", pretty=False), params=dict(parameters or {})).to_arrow_table()
        except duckdb.Error as error:
            raise EngineError(step.name, step.sql("duckdb"), str(error)) from error

    def _execute(self, step: Step, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            with self._lock:
                return self._connection.execute(sql)
        except duckdb.Error as error:
            raise EngineError(step.name, step.sql("duckdb"), str(error)) from error


def _is_name(text: str) -> bool:
    return text.strip().replace("_", "").replace(".", "").isalnum()


def _is_path(text: str) -> bool:
    """Whether a text without an engine can't be meant as a query: a single word, or a folder."""
    if len(text.split()) < 2:
        return True
    try:
        return "\n" not in text and Path(text).is_dir()
    except OSError:  # Longer than any name of a file.
        return False


def _selected(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyRelation:
    """A table, or the result of one SELECT; nothing that could change the database is run."""
    plain = text.strip().rstrip(";")
    if _is_name(plain):
        plain = "SELECT * FROM " + ".".join(table(part).sql("duckdb") for part in plain.split("."))
    statements = connection.extract_statements(plain)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        problem = Problem("not_a_query", "this is not one SELECT", remedy="give the name of a table, or a single SELECT", source=text[:80])
        raise DataError("a source can't be read", [problem])
    return connection.sql(plain)


def _tables(connection: duckdb.DuckDBPyConnection | None) -> list[str]:
    query = select({"name": col("table_name")}, exp.table_("tables", db="information_schema")).order_by(col("name"))
    return [] if connection is None else [row[0] for row in connection.execute(query.sql("duckdb")).fetchall()]


def _database(path: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB file, for reading."""
    whole = Path(path).expanduser()
    if not whole.is_file():
        beside = [file.name for file in whole.parent.iterdir() if file.is_file()] if whole.parent.is_dir() else []
        remedy = did_you_mean(whole.name, (name for name in sorted(beside) if name.endswith((".duckdb", ".db", ".ddb")))) or "check engine="
        raise DataError("a source can't be read", [Problem("no_file", "there is no such DuckDB file", remedy=remedy, source=path)])
    try:
        return duckdb.connect(str(whole), read_only=True)
    except duckdb.Error as error:
        text = str(error).split("\n")[0]
        busy = "lock" in text or "different configuration" in text
        remedy = "wait for the process that writes it, or close it; in the same process, give engine= the open connection"
        problem = Problem(
            "database_busy" if busy else "unreadable_database",
            "the DuckDB file is held by another connection" if busy else "this is not a DuckDB file that can be read",
            example=text,
            remedy=remedy if busy else "check that engine= is a DuckDB file, written by this version or an earlier one",
            source=path,
        )
    raise DataError("a source can't be read", [problem])
