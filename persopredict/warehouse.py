"""The warehouse: one DuckDB file that keeps every run's attributes, the ledger of runs and one wide row per customer.

A publish is one transaction, so that a reader sees all of a night or nothing of it, whatever kills the job; publishing the
same (target, as_of) again replaces those rows and no others. The file is opened for each call and never held: DuckDB lets
one process write while none reads, so a call that finds the file taken waits, then names the process that has it. Readers
that must not wait open `customer_attributes.parquet` beside the file; it is replaced whole, after the commit.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from persopredict import html
from persopredict.attribute_columns import COLUMNS, SCHEMA, arrow_schema
from persopredict.attributes import to_frame
from persopredict.engines.duckdb import silence
from persopredict.errors import DataError, EngineError, SpecificationError, WarehouseBusyError, did_you_mean
from persopredict.findings import Findings
from persopredict.times import Duration, instant, zone
from persopredict.warehouse_runs import Run, Settled, prepare, rejected, settled_rows
from persopredict.warehouse_tables import (
    ATTRIBUTES,
    JOBS,
    METADATA,
    ORDERS,
    OUTCOMES,
    PUBLISHED,
    QUARANTINE,
    RUNS,
    TABLES,
    WIDE,
    answer,
    ascending,
    check_tables,
    column,
    comparison,
    create_tables,
    delete,
    execute,
    forget,
    insert,
    is_,
    job_found,
    ledger,
    read,
    rebuild_wide,
    remember,
    remembered,
    settle,
    settled_runs,
    transaction,
    unsettle,
)

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

__all__ = ["Run", "Settled", "Warehouse"]

COPY_NAME = "customer_attributes.parquet"
# Threads of one process share DuckDB's instance of a file, and its lock does not part them.
_publishing = threading.Lock()


class Warehouse:
    """A DuckDB file of predictive attributes.

    Parameters
    ----------
    url : str or Path
        ``"warehouse.duckdb"``, a Path, or ``"duckdb:///warehouse.duckdb"`` (relative) and ``"duckdb:////data/w.duckdb"``
        (absolute). The file is made by the first publish. One warehouse per folder: the Parquet copy has a fixed name.
    wait : float, default 60
        Seconds to wait for another process that holds the file.
    timezone : str, default the log's whose job published last, else UTC
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
        timezone: str | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.path = _path(url)
        self.wait, self.timezone = wait, None if timezone is None else zone(timezone)
        self._now = now or (lambda: datetime.now(UTC))

    def __repr__(self) -> str:
        return f"Warehouse({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What the files themselves say; the database is not opened, for a job may be writing it."""
        files = {"database": self.path, f"copy of {WIDE}": self.copy_path}
        return html.block(html.title("Warehouse"), html.facts({name: _seen(path) for name, path in files.items()}))

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
        outcomes: Iterable[Settled] = (),
        findings: Findings | None = None,
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
        outcomes : Settled runs, optional
            What came of published runs, of this call or earlier ones. A run published again under its run_id keeps what came of it.
        findings : Findings, optional
            What the job found in the log and noted of its targets, replacing what it had found at the same `as_of`.

        Raises
        ------
        SpecificationError
            With everything that is wrong with the runs, or for outcomes of a run that is not published; nothing is written.
        WarehouseBusyError
            If another process holds the file for longer than `wait`.
        DataError
            If the file holds tables of the same names that are not this library's, or a newer version's.
        """
        given = [runs] if isinstance(runs, Run | pd.DataFrame) else list(runs)
        came = settled_rows(outcomes)
        ready = [run if isinstance(run, Run) else Run.of(run) for run in given]
        bound = None if keep is None else Duration.parse(keep)
        lines, frames = prepare(ready, instant(self._now()))
        refused = None if quarantine is None else rejected(quarantine, {line["as_of"] for line in lines})
        self._check_copy()
        with _publishing, self._open() as connection:
            missing = set(TABLES) - check_tables(connection, self.path)
            with transaction(connection):
                create_tables(connection, missing)
                if self.timezone is not None:
                    remember(connection, "timezone", self.timezone.key)
                for line in lines:
                    delete(connection, (ATTRIBUTES, RUNS), target=line["target"], as_of=line["as_of"])
                    unsettle(connection, line)
                for frame in frames:
                    insert(connection, ATTRIBUTES, frame)
                insert(connection, RUNS, pa.Table.from_pylist(lines, arrow_schema(TABLES[RUNS])))
                settle(connection, came)
                if findings is not None:
                    delete(connection, (JOBS,), as_of=findings.as_of)
                    insert(connection, JOBS, findings.row())
                if refused is not None:
                    for as_of in {line["as_of"] for line in lines}:
                        delete(connection, (QUARANTINE,), as_of=as_of)
                    insert(connection, QUARANTINE, refused)
                if bound is not None:
                    for target in sorted({line["target"] for line in lines}):
                        forget(connection, target, bound)
                rebuild_wide(connection)
            self._write_copy(connection)

    def check(self) -> None:
        """Refuse now what `publish` would refuse later: a foreign file or table, a copy of another warehouse, a newer version's tables.

        Raises `DataError` for these, `WarehouseBusyError` at once if another process holds the file.
        """
        self._check_copy()
        if self.path.exists():
            with Warehouse(self.path, wait=0)._open() as connection:
                check_tables(connection, self.path)

    def refresh_copy(self) -> None:
        """Write `customer_attributes.parquet` again from the table, as every publish does."""
        self._check_copy()
        with self._reading() as connection:
            self._write_copy(connection)

    def targets(self) -> list[str]:
        """The names of the targets with a published run."""
        runs = self.runs()
        return sorted(runs.loc[runs["state"] == PUBLISHED, "target"].unique())

    def runs(self) -> pd.DataFrame:
        """The ledger, one row per target and as_of, in that order; ``counts_by_reason`` and ``metrics`` are JSON text."""
        with self._reading() as connection:
            return to_frame(ledger(connection))

    def outcomes(self, target: str | None = None) -> pd.DataFrame:
        """What came of the published runs whose labels have ended, beside what was expected: one row per target and as_of, in that order,
        with the fields of `Settled`; default: of all targets. Raises `SpecificationError` for a target that is not there.
        """
        with self._reading() as connection:
            known = OUTCOMES in check_tables(connection, self.path)
            frame = to_frame(settled_runs(connection) if known else settled_rows(()))
            if target is None:
                return frame
            self._runs_of(connection, target)
            return frame[frame["target"] == target].reset_index(drop=True)

    def findings(self, as_of: datetime) -> Findings | None:
        """What the job of that `as_of` found in the log and noted of its targets; None where no job has kept it."""
        with self._reading() as connection:
            found = job_found(connection, as_of) if JOBS in check_tables(connection, self.path) else None
        return None if found is None else Findings.of(found)

    def attributes(self, target: str, as_of: str | date | datetime | None = None, columns: Sequence[str] = (*COLUMNS,)) -> pd.DataFrame:
        """The predictive attributes of a target, by customer and rank; default: all columns, of its latest published run.

        Raises `SpecificationError` for a target, an as_of or a column that is not there, naming those that are.
        """
        if unknown := [name for name in columns if name not in COLUMNS]:
            raise SpecificationError(f"no column {unknown[0]!r}; {did_you_mean(unknown[0], COLUMNS)}")
        with self._reading() as connection:
            moment = self._moment(connection, target, as_of)
            query = exp.select(*map(column, columns)).from_(ATTRIBUTES).where(is_("target"), is_("as_of"))
            ordered = query.order_by(*(ascending(name) for name in ORDERS[ATTRIBUTES]))
            schema = pa.schema([SCHEMA.field(name) for name in columns])
            return to_frame(read(connection, "attributes", ordered, {"target": target, "as_of": moment}).cast(schema))

    def compare(self, target: str, a: str | date | datetime, b: str | date | datetime) -> pd.DataFrame:
        """How each customer moved from the run of `a` to the run of `b`, customers of either, by customer_id.

        Columns: ``customer_id`` (and ``category`` if the target has any), ``probability_a, probability_b, change`` (b − a,
        null unless both are scored), ``band_a, band_b``.
        """
        with self._reading() as connection:
            moments = {side: self._moment(connection, target, when) for side, when in (("a", a), ("b", b))}
            frame = to_frame(read(connection, "compare", comparison(), {"target": target, **moments}))
        return frame if frame["category"].notna().any() else frame.drop(columns="category")

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to any SQL query, read only; raises `EngineError` with the query if DuckDB refuses it."""
        with self._open(read_only=True) as connection:
            return to_frame(answer(connection, "query", query, {}))

    def _runs_of(self, connection: duckdb.DuckDBPyConnection, target: str) -> dict[datetime, dict[str, Any]]:
        """The target's lines of the ledger by as_of; raises `SpecificationError` if there are none, with the nearest name."""
        lines = ledger(connection).to_pylist()
        mine = {line["as_of"]: line for line in lines if line["target"] == target}
        if not mine:
            hint = did_you_mean(target, (line["target"] for line in lines)) or "nothing is published"
            raise SpecificationError(f"no target {target!r} in {self.path}; {hint}")
        return mine

    def _moment(self, connection: duckdb.DuckDBPyConnection, target: str, as_of: str | date | datetime | None) -> datetime:
        """The instant of the target's run at `as_of`, or of its latest published one."""
        mine = self._runs_of(connection, target)
        timezone = self.timezone or zone(remembered(connection, "timezone") or "UTC")
        published = [moment for moment, line in mine.items() if line["state"] == PUBLISHED]
        moment = max(published, default=max(mine)) if as_of is None else instant(as_of, timezone)
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
            silence(connection)
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._open(read_only=True) as connection:
            if METADATA not in check_tables(connection, self.path):
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
            this=exp.select("*").from_(WIDE).order_by(ascending("customer_id")).subquery(),
            kind=False,
            files=[exp.Placeholder(this="path")],
            params=[exp.CopyParameter(this=exp.var(name), expression=value) for name, value in options.items()],
        )
        try:
            execute(connection, "copy", statement, {"path": str(temporary), "owner": self.path.name})
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


def _seen(path: Path) -> str:
    """Where a file is, how large, and when it was written."""
    try:
        found = path.stat()
    except OSError:
        return f"{path}, not there yet"
    return f"{path}, {found.st_size / 1_000_000:,.1f} MB, written {datetime.fromtimestamp(found.st_mtime, UTC):%Y-%m-%d %H:%M} UTC"


def _sync(path: Path) -> None:
    """Force what was written to `path` onto the disk, so that a power cut can't leave a renamed but empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
