"""The warehouse: one DuckDB file that keeps every run's attributes, the ledger of runs and one wide row per customer.

A publish is one transaction, so that a reader sees all of a night or nothing of it, whatever kills the job; publishing the
same (target, as_of) again replaces those rows and no others. The file is opened for each call and never held: DuckDB lets
one process write while none reads, so a call that finds the file taken waits, then names the process that has it. Readers
that must not wait open `customer_attributes.parquet` beside the file; it is replaced whole, after the commit.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from persopredict.attributes import (
    COLUMNS,
    SCHEMA,
    SCORED,
    arrow_schema,
    conform,
    run_id,
    target_name_problems,
    to_arrow,
    to_frame,
)
from persopredict.errors import (
    DataError,
    EngineError,
    Problem,
    SpecificationError,
    WarehouseBusyError,
    did_you_mean,
)
from persopredict.times import Duration, instant, zone

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

State = Literal["published", "skipped", "failed"]
PUBLISHED: State = "published"
STATES: tuple[State, ...] = ("published", "skipped", "failed")
SCHEMA_VERSION = 1
COPY_NAME = "customer_attributes.parquet"

ATTRIBUTES, RUNS, QUARANTINE = "predictive_attributes", "runs", "quarantine"
WIDE, METADATA, INCOMING = "customer_attributes", "persopredict_metadata", "persopredict_incoming"
# The tables of fixed columns; `customer_attributes` follows from them.
TABLES: dict[str, dict[str, str]] = {
    ATTRIBUTES: COLUMNS,
    RUNS: {
        "target": "TEXT",
        "as_of": "TIMESTAMPTZ",
        "run_id": "TEXT",
        "state": "TEXT",
        "code": "TEXT",
        "reason": "TEXT",
        "customers": "BIGINT",
        "scored": "BIGINT",
        "counts_by_reason": "TEXT",
        "grade": "TEXT",
        "model_version": "TEXT",
        "trained_until": "TIMESTAMPTZ",
        "valid_until": "TIMESTAMPTZ",
        "metrics": "TEXT",
        "scored_at": "TIMESTAMPTZ",
    },
    QUARANTINE: {
        "as_of": "TIMESTAMPTZ",
        "source": "TEXT",
        "row_number": "BIGINT",
        "code": "TEXT",
        "reason": "TEXT",
        "row": "TEXT",
    },
    METADATA: {"name": "TEXT", "value": "TEXT"},
}
# How the rows of a run lie in the file, so that two runs of the same night leave the same file.
ORDERS = {
    ATTRIBUTES: ("customer_id", "rank", "category"),
    RUNS: ("target", "as_of"),
    QUARANTINE: ("source", "row_number", "code", "row"),
    METADATA: ("name",),
}
# Threads of one process share DuckDB's instance of a file, and its lock does not part them.
_publishing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Run:
    """What one target came to at one `as_of`: a line of the ledger, with its attributes if there are any.

    Parameters
    ----------
    target, as_of : what was scored, and the instant of the scores.
    state : ``"published"`` (the default; needs `attributes`), ``"skipped"`` or ``"failed"`` (needs a `code`; its
        attributes, if given, hold no scores, only reasons such as target_failed).
    attributes : predictive attributes as `persopredict.attributes` makes them.
    code, reason : why it was skipped or failed: a stable snake_case name, and a sentence.
    grade : the evaluation's grade of the model.
    model_version, valid_until : default: those of the attributes.
    trained_until : what the model learnt from ends here.
    metrics : the evaluation's numbers, by name; may nest. Kept as JSON.
    """

    target: str
    as_of: datetime
    state: State = PUBLISHED
    attributes: IntoFrame | None = None
    code: str | None = None
    reason: str | None = None
    grade: str | None = None
    model_version: str | None = None
    trained_until: datetime | None = None
    valid_until: datetime | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, attributes: IntoFrame) -> Run:
        """The published run that a frame of attributes came from, read off its first row."""
        table = to_arrow(attributes)
        # The rest of the rows is checked when they are published.
        first = conform(table.slice(0, 1)).to_pylist()
        if not first:
            raise SpecificationError("a frame without rows names no target; pass Run(target, as_of, attributes=…)")
        return cls(first[0]["target"], first[0]["as_of"], attributes=table)


class Warehouse:
    """A DuckDB file of predictive attributes.

    Parameters
    ----------
    url : str or Path
        ``"warehouse.duckdb"``, a Path, or ``"duckdb:///warehouse.duckdb"`` (relative) and ``"duckdb:////data/w.duckdb"``
        (absolute). The file is made by the first publish. One warehouse per folder: the Parquet copy has a fixed name.
    wait : float, default 60
        Seconds to wait for another process that holds the file.
    timezone : str, default "UTC"
        Where naive instants, such as ``as_of="2017-12-03"``, are read.
    now : callable, optional
        The clock for runs that bring no ``scored_at`` of their own.

    Raises
    ------
    SpecificationError
        For a url that is not a DuckDB file.

    >>> Warehouse("postgresql://db/prod")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no warehouse for 'postgresql' yet; give a DuckDB file, like 'warehouse.duckdb'
    """

    def __init__(
        self,
        url: str | Path,
        *,
        wait: float = 60.0,
        timezone: str = "UTC",
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.path = _path(url)
        self.wait, self.timezone = wait, zone(timezone)
        self._now = now or (lambda: datetime.now(UTC))

    def __repr__(self) -> str:
        return f"Warehouse({str(self.path)!r})"

    @property
    def copy_path(self) -> Path:
        """Where the Parquet copy of `customer_attributes` lies."""
        return self.path.with_name(COPY_NAME)

    def publish(
        self,
        runs: Run | pd.DataFrame | Iterable[Run | pd.DataFrame],
        *,
        keep: str | Duration | None = None,
        quarantine: IntoFrame | None = None,
    ) -> None:
        """Publish runs in one transaction, rebuild `customer_attributes`, then replace its Parquet copy.

        Parameters
        ----------
        runs : Run, frame of attributes, or several of them
            Each replaces the rows of its own (target, as_of). None at all still rebuilds and copies.
        keep : str or Duration, optional
            How much history the targets of this call keep, back from their newest published run, which always stays;
            older rows, of the ledger too, are deleted, and quarantined rows older than the whole ledger with them.
        quarantine : dataframe, optional
            The rows that could not be used, replacing those of the same `as_of`, which the runs must share: ``source,
            code, reason, row`` (JSON text), and ``row_number`` where the source counts its rows.

        Raises
        ------
        SpecificationError
            With everything that is wrong with the runs; nothing is written.
        WarehouseBusyError
            If another process holds the file for longer than `wait`.
        DataError
            If the file holds tables of the same names that are not this library's, or a newer version's.
        """
        given = [runs] if isinstance(runs, Run | pd.DataFrame) else list(runs)
        ready = [run if isinstance(run, Run) else Run.of(run) for run in given]
        bound = None if keep is None else Duration.parse(keep)
        lines, frames = _prepare(ready, instant(self._now()))
        rejected = None if quarantine is None else _rejected(quarantine, {line["as_of"] for line in lines})
        self._check_copy()
        with _publishing, self._open() as connection:
            missing = set(TABLES) - _check_tables(connection, self.path)
            with _transaction(connection):
                _create_tables(connection, missing)
                for line in lines:
                    _delete(connection, (ATTRIBUTES, RUNS), target=line["target"], as_of=line["as_of"])
                for frame in frames:
                    _insert(connection, ATTRIBUTES, frame)
                _insert(connection, RUNS, pa.Table.from_pylist(lines, arrow_schema(TABLES[RUNS])))
                if rejected is not None:
                    for as_of in {line["as_of"] for line in lines}:
                        _delete(connection, (QUARANTINE,), as_of=as_of)
                    _insert(connection, QUARANTINE, rejected)
                if bound is not None:
                    for target in sorted({line["target"] for line in lines}):
                        _forget(connection, target, bound)
                _rebuild_wide(connection)
            self._write_copy(connection)

    def refresh_copy(self) -> None:
        """Write `customer_attributes.parquet` again from the table, as every publish does."""
        self._check_copy()
        with self._reading() as connection:
            self._write_copy(connection)

    def targets(self) -> list[str]:
        """The names of the targets with a published run."""
        ledger = self.runs()
        return sorted(ledger.loc[ledger["state"] == PUBLISHED, "target"].unique())

    def runs(self) -> pd.DataFrame:
        """The ledger, one row per target and as_of, in that order; ``counts_by_reason`` and ``metrics`` are JSON text."""
        with self._reading() as connection:
            return to_frame(_ledger(connection))

    def attributes(self, target: str, as_of: str | date | datetime | None = None) -> pd.DataFrame:
        """The predictive attributes of a target, by customer and rank; default: of its latest published run.

        Raises `SpecificationError` for a target or an as_of that is not there, naming those that are.
        """
        with self._reading() as connection:
            moment = self._moment(_ledger(connection), target, as_of)
            query = exp.select(*map(_column, COLUMNS)).from_(ATTRIBUTES).where(_is("target"), _is("as_of"))
            ordered = query.order_by(*(_ascending(name) for name in ORDERS[ATTRIBUTES]))
            return to_frame(_read(connection, "attributes", ordered, {"target": target, "as_of": moment}).cast(SCHEMA))

    def compare(self, target: str, a: str | date | datetime, b: str | date | datetime) -> pd.DataFrame:
        """How each customer moved from the run of `a` to the run of `b`, customers of either, by customer_id.

        Columns: ``customer_id`` (and ``category`` if the target has any), ``probability_a, probability_b, change`` (b − a,
        null unless both are scored), ``band_a, band_b``.
        """
        with self._reading() as connection:
            ledger = _ledger(connection)
            moments = {side: self._moment(ledger, target, when) for side, when in (("a", a), ("b", b))}
            frame = to_frame(_read(connection, "compare", _comparison(), {"target": target, **moments}))
        return frame if frame["category"].notna().any() else frame.drop(columns="category")

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to any SQL query, read only; raises `EngineError` with the query if DuckDB refuses it."""
        with self._open(read_only=True) as connection:
            return to_frame(_answer(connection, "query", query, {}))

    def _moment(self, ledger: pa.Table, target: str, as_of: str | date | datetime | None) -> datetime:
        """The instant of the target's run at `as_of`, or of its latest published one."""
        lines = ledger.to_pylist()
        mine = {line["as_of"]: line for line in lines if line["target"] == target}
        if not mine:
            hint = did_you_mean(target, (line["target"] for line in lines)) or "nothing is published"
            raise SpecificationError(f"no target {target!r} in {self.path}; {hint}")
        published = [moment for moment, line in mine.items() if line["state"] == PUBLISHED]
        moment = max(published, default=max(mine)) if as_of is None else instant(as_of, self.timezone)
        if moment in published:
            return moment
        newest = ", ".join(known.isoformat() for known in sorted(published)[-5:]) or "none"
        line = mine.get(moment, {"state": "not there", "code": None, "reason": None})
        state = ": ".join(part for part in (line["state"], line["code"], line["reason"]) if part)
        message = f"the run of {target!r} at {moment.isoformat()} is {state}; published, newest last: {newest}"
        raise SpecificationError(message)

    @contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            if read_only:
                raise DataError(f"no warehouse at {self.path}; the first publish makes it")
            _make(self.path)
        connection = _connect(self.path, read_only, self.wait)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._open(read_only=True) as connection:
            if METADATA not in _check_tables(connection, self.path):
                raise DataError(f"nothing is published in {self.path} yet")
            yield connection

    def _check_copy(self) -> None:
        """Refuse to replace a Parquet file that is not this warehouse's."""
        if not self.copy_path.exists():
            return
        try:
            owner = (pq.read_metadata(self.copy_path).metadata or {}).get(METADATA.encode(), b"").decode()
        except pa.ArrowInvalid:
            owner = ""
        if owner != self.path.name:
            whose = f"belongs to {owner!r}, and two warehouses can't share a folder" if owner else "is not persopredict's"
            raise DataError(f"{self.copy_path} {whose}; move it away, or the warehouse")

    def _write_copy(self, connection: duckdb.DuckDBPyConnection) -> None:
        temporary = self.copy_path.with_name(COPY_NAME + ".tmp")
        options = {
            "FORMAT": exp.var("parquet"),
            "COMPRESSION": exp.var("zstd"),
            "USE_TMP_FILE": exp.false(),
            "KV_METADATA": exp.Struct(
                expressions=[exp.PropertyEQ(this=exp.to_identifier(METADATA), expression=exp.Placeholder(this="owner"))]
            ),
        }
        statement = exp.Copy(
            this=exp.select("*").from_(WIDE).order_by(_ascending("customer_id")).subquery(),
            kind=False,
            files=[exp.Placeholder(this="path")],
            params=[exp.CopyParameter(this=exp.var(name), expression=value) for name, value in options.items()],
        )
        try:
            _execute(connection, "copy", statement, {"path": str(temporary), "owner": self.path.name})
            _sync(temporary)
            os.replace(temporary, self.copy_path)
            if os.name == "posix":
                _sync(self.copy_path.parent)
        except (EngineError, OSError) as error:
            raise DataError(f"the runs are published, but their copy {self.copy_path} could not be replaced: {error}") from error


def _path(url: str | Path) -> Path:
    scheme = None if isinstance(url, Path) else re.match(r"([a-z][a-z0-9+]+):", url)
    if scheme is not None and scheme[1] != "duckdb":
        raise SpecificationError(f"no warehouse for {scheme[1]!r} yet; give a DuckDB file, like 'warehouse.duckdb'")
    path = str(url) if scheme is None else str(url).removeprefix("duckdb:///")
    if path in ("", ".", ":memory:") or path.startswith("duckdb:"):
        raise SpecificationError(f"{str(url)!r} is not a file; give one, like 'warehouse.duckdb' or 'duckdb:///warehouse.duckdb'")
    return Path(path).expanduser()


def _make(path: Path) -> None:
    """Make an empty DuckDB file in one step: one that a kill cut short could never be opened again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    duckdb.connect(str(new)).close()
    try:
        # A link, unlike a rename, never replaces the file that another process made meanwhile.
        os.link(new, path)
    except FileExistsError:
        pass
    except OSError:
        # A file system without hard links.
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _connect(path: Path, read_only: bool, wait: float) -> duckdb.DuckDBPyConnection:
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

    retrying = Retrying(
        retry=retry_if_exception(_is_lock),
        wait=wait_exponential(multiplier=0.02, max=0.5),
        stop=stop_after_delay(wait),
        reraise=True,
    )
    try:
        return retrying(duckdb.connect, str(path), read_only=read_only)
    except duckdb.Error as error:
        if not _is_lock(error):
            raise DataError(f"{path} can't be opened as a DuckDB file: {error}") from None
        message = f"{path} was in use for all of the {wait:g} s waited, by {_holder(str(error))}; end it or close the file "
        advice = f"there, or give Warehouse(wait=…) longer. Readers should open {COPY_NAME}, which is never locked"
        raise WarehouseBusyError(message + advice) from None


def _is_lock(error: BaseException) -> bool:
    locked = ("Could not set lock on file", "being used by another process", "different configuration than existing")
    return isinstance(error, duckdb.Error) and any(text in str(error) for text in locked)


def _holder(message: str) -> str:
    """The process that DuckDB's message blames, with its command's name."""
    import psutil

    match = re.search(r"\(PID (\d+)\)", message)
    if match is None:
        return f"this very process (PID {os.getpid()}), which has it open in another mode"
    try:
        return f"{psutil.Process(int(match[1])).name()} (PID {match[1]})"
    except psutil.Error:
        return f"a process that can't be seen from here (PID {match[1]})"


def _sync(path: Path) -> None:
    """Force what was written to `path` onto the disk, so that a power cut can't leave a renamed but empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- runs: from what the caller gives to lines of the ledger ---


def _prepare(runs: Sequence[Run], now: datetime) -> tuple[list[dict[str, Any]], list[pa.Table]]:
    """The lines of the ledger and the attributes; raises `SpecificationError` with the problems of all runs."""
    problems: list[Problem] = []
    lines: list[dict[str, Any]] = []
    frames: list[pa.Table] = []
    for run in runs:
        try:
            table = None if run.attributes is None else conform(run.attributes)
        except SpecificationError as error:
            found: Iterable[Problem] = error.problems or [Problem("bad_frame", str(error))]
        else:
            found = _run_problems(run, table)
            if not found:
                lines.append(_line(run, table, now))
                frames += [] if table is None else [table]
        problems += [replace(problem, source=problem.source or str(run.target)) for problem in found]
    keys = [(line["target"], line["as_of"]) for line in lines]
    for target, as_of in sorted({key for key in keys if keys.count(key) > 1}):
        problems.append(Problem("duplicate_run", f"two runs at {as_of.isoformat()}", source=target, remedy="give one"))
    if problems:
        raise SpecificationError("nothing was published, the runs have problems", problems)
    return lines, frames


def _run_problems(run: Run, table: pa.Table | None) -> list[Problem]:
    problems = target_name_problems(run.target)
    if run.state not in STATES:
        return [*problems, Problem("bad_state", f"no state {run.state!r}", remedy=did_you_mean(run.state, STATES))]
    if run.state == PUBLISHED and table is None:
        problems.append(Problem("no_attributes", "published without attributes", remedy="give them, or say skipped"))
    if run.state == PUBLISHED and table is not None and _valid_until(run, table) is None:
        problems.append(Problem("no_valid_until", "no attributes to take valid_until from", remedy="give valid_until"))
    if run.state != PUBLISHED and not run.code:
        problems.append(Problem("no_code", f"{run.state} without a code", remedy="say why"))
    if table is None:
        return problems
    if run.state != PUBLISHED and SCORED in table["status"].unique().to_pylist():
        problems.append(Problem("hidden_scores", f"{run.state}, yet some customers are scored", remedy="publish it"))
    expected = {"target": run.target, "as_of": instant(run.as_of), "run_id": _id(run, table)}
    for name, value in expected.items():
        if set(table[name].unique().to_pylist()) - {value}:
            message = f"its attributes have another {name} than {value}"
            problems.append(Problem("attributes_of_another_run", message, remedy="make them with pp.attributes"))
    return problems


def _first(table: pa.Table | None, name: str) -> Any:
    return None if table is None or not len(table) else table[name][0].as_py()


def _id(run: Run, table: pa.Table | None) -> str:
    return run_id(run.target, instant(run.as_of), run.model_version or _first(table, "model_version"))


def _valid_until(run: Run, table: pa.Table | None) -> datetime | None:
    given = run.valid_until or _first(table, "valid_until")
    return None if given is None else instant(given)


def _line(run: Run, table: pa.Table | None, now: datetime) -> dict[str, Any]:
    """The run as a row of the ledger."""
    rows = to_frame((SCHEMA.empty_table() if table is None else table).select(["customer_id", "status", "not_scored_reason"]))
    reasons = rows.groupby("not_scored_reason")["customer_id"].nunique()
    return {
        "target": run.target,
        "as_of": instant(run.as_of),
        "run_id": _id(run, table),
        "state": run.state,
        "code": run.code,
        "reason": run.reason,
        "customers": int(rows["customer_id"].nunique()),
        "scored": int(rows.loc[rows["status"] == SCORED, "customer_id"].nunique()),
        "counts_by_reason": json.dumps(reasons.to_dict(), sort_keys=True),
        "grade": run.grade,
        "model_version": run.model_version or _first(table, "model_version"),
        "trained_until": None if run.trained_until is None else instant(run.trained_until),
        "valid_until": _valid_until(run, table),
        "metrics": json.dumps(_plain(run.metrics), sort_keys=True),
        "scored_at": now if table is None or not len(table) else max(table["scored_at"].unique().to_pylist()),
    }


def _plain(value: object) -> object:
    """What JSON can hold of a metric: NumPy scalars as Python's, NaN and infinities as null, the rest as text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _rejected(quarantine: IntoFrame, as_ofs: set[datetime]) -> pa.Table:
    """The quarantined rows as the table wants them, their `as_of` that of the runs."""
    table, columns = to_arrow(quarantine), TABLES[QUARANTINE]
    if len(as_ofs) != 1:
        raise SpecificationError(f"quarantined rows belong to one as_of, but the runs have {len(as_ofs)}; publish them apart")
    problems = [
        Problem("missing_column", f"no column {name!r}", remedy=did_you_mean(name, table.column_names), source=QUARANTINE)
        for name in ("source", "code", "reason", "row")
        if name not in table.column_names
    ]
    if problems:
        raise SpecificationError("the quarantined rows can't be kept", problems)
    given = {name: table[name] if name in table.column_names else pa.nulls(len(table)) for name in columns}
    given["as_of"] = pa.array([*as_ofs] * len(table), arrow_schema(columns).field("as_of").type)
    return pa.table(given).cast(arrow_schema(columns))


# --- statements: the only place that speaks SQL, in sqlglot expressions ---


def _column(name: str, table: str | None = None) -> exp.Column:
    return exp.column(name, table=table, quoted=True)


def _ascending(name: str, table: str | None = None) -> exp.Ordered:
    return exp.Ordered(this=_column(name, table), nulls_first=False)


def _is(name: str, parameter: str | None = None) -> exp.EQ:
    """The column equals the parameter (of its own name by default), whose null equals nothing."""
    return exp.EQ(this=_column(name), expression=exp.Placeholder(this=parameter or name))


def _execute(connection: duckdb.DuckDBPyConnection, step: str, statement: exp.Expr, values: dict[str, Any]) -> None:
    sql = statement.sql("duckdb", copy=False)
    try:
        connection.execute(sql, values)
    except duckdb.Error as error:
        raise EngineError(step, sql, str(error)) from None


def _read(connection: duckdb.DuckDBPyConnection, step: str, query: exp.Expr, values: dict[str, Any]) -> pa.Table:
    return _answer(connection, step, query.sql("duckdb", copy=False), values)


def _answer(connection: duckdb.DuckDBPyConnection, step: str, sql: str, values: dict[str, Any]) -> pa.Table:
    try:
        relation = connection.sql(sql, params=values)
        return pa.table({}) if relation is None else relation.to_arrow_table()
    except duckdb.Error as error:
        raise EngineError(step, sql, str(error)) from None


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        # A commit that failed has already rolled back, and a rollback then fails too.
        with suppress(duckdb.Error):
            connection.rollback()
        raise


def _check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> set[str]:
    """Those of our tables that are there; refuses tables of our names that are not ours, or are a newer version's."""
    columns = exp.select("table_name", "column_name").from_(exp.Anonymous(this="duckdb_columns"))
    ordered = columns.where("schema_name = 'main' AND NOT internal").order_by("table_oid", "column_index")
    found: dict[str, list[str]] = {}
    for line in _read(connection, "tables", ordered, {}).to_pylist():
        found.setdefault(line["table_name"], []).append(line["column_name"])
    ours = [name for name in (*TABLES, WIDE) if name in found]
    foreign = [name for name in ours if METADATA not in found or list(TABLES.get(name, found[name])) != found[name]]
    if METADATA in ours and METADATA not in foreign:
        query = exp.select("value").from_(METADATA).where("name = 'schema_version'")
        version = str(_first(_read(connection, "version", query, {}), "value"))
        if version.isdigit() and int(version) > SCHEMA_VERSION:
            message = f"{path} was written by a newer persopredict (schema {version}, this one knows {SCHEMA_VERSION})"
            raise DataError(f"{message}; upgrade persopredict")
    if foreign:
        names = ", ".join(repr(name) for name in foreign)
        raise DataError(f"{path} holds {names}, not made by persopredict; give another file, or rename them")
    return set(ours)


def _create_tables(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    for name in names:
        definitions = [
            exp.ColumnDef(this=exp.to_identifier(column, quoted=True), kind=exp.DataType.build(kind, dialect="duckdb"))
            for column, kind in TABLES[name].items()
        ]
        schema = exp.Schema(this=exp.to_table(name), expressions=definitions)
        _execute(connection, "create", exp.Create(this=schema, kind="TABLE"), {})
        if name == METADATA:
            _insert(connection, METADATA, pa.table({"name": ["schema_version"], "value": [str(SCHEMA_VERSION)]}))


def _delete(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], **values: object) -> None:
    for table in tables:
        _execute(connection, "delete", exp.delete(table).where(*map(_is, values)), values)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    names = [_column(name) for name in TABLES[table]]
    query = exp.select(*names).from_(INCOMING).order_by(*map(_ascending, ORDERS[table]))
    connection.register(INCOMING, rows)
    _execute(connection, "insert", exp.insert(query, table, columns=[name.this for name in names]), {})


def _ledger(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    query = exp.select(*map(_column, TABLES[RUNS])).from_(RUNS)
    return _read(connection, "runs", query.order_by(_ascending("target"), _ascending("as_of")), {})


def _forget(connection: duckdb.DuckDBPyConnection, target: str, keep: Duration) -> None:
    """Delete what is older than the target's newest published run by more than `keep`."""
    mine = [line for line in _ledger(connection).to_pylist() if line["target"] == target]
    newest = max((line["as_of"] for line in mine if line["state"] == PUBLISHED), default=None)
    oldest = keep.before(newest or max(line["as_of"] for line in mine), UTC)
    for line in mine:
        if line["as_of"] < oldest:
            _delete(connection, (ATTRIBUTES, RUNS), target=target, as_of=line["as_of"])
    first = exp.select(exp.Min(this=_column("as_of"))).from_(RUNS).subquery()
    older = exp.delete(QUARANTINE).where(exp.LT(this=_column("as_of"), expression=first))
    _execute(connection, "quarantine", older, {})


def _comparison() -> exp.Select:
    """Customers of the runs at $a and $b of $target, side by side."""
    keys, measures = ("customer_id", "category"), ("probability", "band")
    sides = {
        side: exp.select(*map(_column, (*keys, *measures))).from_(ATTRIBUTES).where(_is("target"), _is("as_of", side))
        for side in ("a", "b")
    }
    either = [exp.func("COALESCE", _column(key, "a"), _column(key, "b")).as_(key) for key in keys]
    change = exp.Sub(this=_column("probability", "b"), expression=_column("probability", "a"))
    probability_a, probability_b, band_a, band_b = (
        _column(measure, side).as_(f"{measure}_{side}") for measure in measures for side in ("a", "b")
    )
    same = [exp.NullSafeEQ(this=_column(key, "a"), expression=_column(key, "b")) for key in keys]
    return (
        exp.select(*either, probability_a, probability_b, change.as_("change"), band_a, band_b)
        .from_(sides["a"].subquery("a"))
        .join(sides["b"].subquery("b"), on=exp.and_(*same), join_type="full outer")
        .order_by(*(exp.Ordered(this=exp.column(key), nulls_first=False) for key in keys))
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """The run that `customer_attributes` shows of a target (None: all have expired), and the one before it."""

    target: str
    as_of: datetime | None
    previous: datetime | None
    by_category: bool


def _shown(connection: duckdb.DuckDBPyConnection) -> list[_Shown]:
    published = [line for line in _ledger(connection).to_pylist() if line["state"] == PUBLISHED]
    query = exp.select(_column("target")).distinct().from_(ATTRIBUTES).where(_column("category").is_(exp.null()).not_())
    by_category = set(_read(connection, "categories", query, {})["target"].to_pylist())
    reference = max((line["as_of"] for line in published), default=None)
    shown = []
    for target in sorted({line["target"] for line in published}):
        mine = [line for line in published if line["target"] == target]
        as_of = max((line["as_of"] for line in mine if line["valid_until"] > reference), default=None)
        previous = max((line["as_of"] for line in mine if as_of and line["as_of"] < as_of), default=None)
        shown.append(_Shown(target, as_of, previous, target in by_category))
    return shown


def _rebuild_wide(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `customer_attributes` anew: a row for every customer of any kept run, in order of customer_id."""
    everyone = exp.select(_column("customer_id")).distinct().from_(ATTRIBUTES)
    query = exp.select(_column("customer_id", "everyone")).from_(everyone.subquery("everyone"))
    values: dict[str, Any] = {}
    for number, shown in enumerate(_shown(connection)):
        query = (_with_categories if shown.by_category else _with_scores)(query, shown.target, str(number))
        values[f"target_{number}"], values[f"as_of_{number}"] = shown.target, shown.as_of
        if not shown.by_category:
            values[f"previous_{number}"] = shown.previous
    names = query.named_selects
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecificationError(f"two targets make the column {twice[0]!r} of {WIDE}; rename one of them")
    made = query.order_by(_ascending("customer_id", "everyone"))
    _execute(connection, WIDE, exp.Create(this=exp.to_table(WIDE), kind="TABLE", replace=True, expression=made), values)


def _rows_of(number: str, moment: str, *columns: exp.Expr) -> exp.Select:
    """Columns of the rows of one run, by customer."""
    mine = exp.select(_column("customer_id"), *columns).from_(ATTRIBUTES)
    return mine.where(_is("target", f"target_{number}"), _is("as_of", f"{moment}_{number}"))


def _joined(query: exp.Select, right: exp.Select, alias: str, left: str = "everyone") -> exp.Select:
    same = exp.EQ(this=_column("customer_id", alias), expression=_column("customer_id", left))
    return query.join(right.subquery(alias, copy=False), on=same, join_type="left", copy=False)


def _named(target: str, columns: Mapping[str, exp.Expr]) -> list[exp.Expr]:
    return [exp.alias_(column, f"{target}_{name}", quoted=True) for name, column in columns.items()]


def _with_scores(query: exp.Select, target: str, number: str) -> exp.Select:
    """Add the columns of a target of one score per customer."""
    now, before = f"now_{number}", f"before_{number}"
    columns: dict[str, exp.Expr] = {name: _column(name, now) for name in ("probability", "percentile", "band")}
    columns["previous_band"] = _column("band", before)
    columns |= {f"reason_{place}": _reason(now, place) for place in (1, 2, 3)}
    columns |= {name: _column(name, now) for name in ("status", "as_of")}
    kept = ("probability", "percentile", "band", "reasons", "status", "as_of")
    query = _joined(query, _rows_of(number, "as_of", *map(_column, kept)), now)
    # Joined to the shown run, not to everyone: a customer who left has no previous band either.
    query = _joined(query, _rows_of(number, "previous", _column("band")), before, left=now)
    return query.select(*_named(target, columns), copy=False)


def _reason(table: str, place: int) -> exp.Expr:
    """The reason's label and value in words, as one text."""
    reason = exp.func("LIST_EXTRACT", _column("reasons", table), exp.Literal.number(place))
    parts = (exp.func("STRUCT_EXTRACT", reason, exp.Literal.string(name)) for name in ("label", "value_text"))
    text = exp.func("CONCAT_WS", exp.Literal.string(": "), *parts, dialect="duckdb")
    return exp.func("NULLIF", text, exp.Literal.string(""))


def _with_categories(query: exp.Select, target: str, number: str) -> exp.Select:
    """Add the columns of a target of one score per customer and category."""
    rank, category = _column("rank"), _column("category")
    tops = {
        f"top_{place}": exp.Filter(
            this=exp.Max(this=category), expression=exp.Where(this=exp.EQ(this=rank, expression=exp.Literal.number(place)))
        )
        for place in (1, 2, 3)
    }
    new = exp.Filter(this=exp.func("ARG_MIN", category, rank, dialect="duckdb"), expression=exp.Where(this=_column("is_new")))
    columns: dict[str, exp.Expr] = {**tops, "top_new_1": new}
    mine = _rows_of(number, "as_of", *(exp.alias_(column, name) for name, column in columns.items()))
    query = _joined(query, mine.group_by(_column("customer_id")), f"now_{number}")
    return query.select(*_named(target, {name: _column(name, f"now_{number}") for name in columns}), copy=False)
