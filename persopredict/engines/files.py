"""Parquet and CSV files as DuckDB relations: which files a path means, how a CSV is written, and what is wrong with them.

A CSV is read by its header and nothing is guessed from its rows: every column is text, the separator is the one that the header uses, and
lines that don't fit the header are set aside. Files of one glob are put together by the names of their columns.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import duckdb
from sqlglot import exp

from persopredict.engines.expressions import col, every, func, lit, named, select, table
from persopredict.errors import DataError, Problem, did_you_mean

CSV = (".csv", ".csv.gz", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
_SEPARATORS = (",", ";", "\t", "|")
_LONGEST_LINE = 2000
_LONGEST_HEADER = 1_000_000


@dataclass(frozen=True)
class Files:
    """A path's rows, the remarks about its files, the query of its unreadable lines (column ``row``, JSON text), if it may have any, and
    whether reading means parsing text.
    """

    relation: duckdb.DuckDBPyRelation
    remarks: tuple[Problem, ...] = ()
    rejected: exp.Query | None = None
    parsed: bool = False


def is_file(text: str) -> bool:
    """Whether a text is a path or glob of files that can be read, not a table or a query.

    >>> is_file("data/sales-*.csv.gz"), is_file("sales"), is_file("SELECT * FROM 'a.csv'"), is_file("from x.csv")
    (True, False, False, False)
    """
    plain = text.strip().lower()
    return plain.endswith((*CSV, *PARQUET)) and not plain.startswith(("select ", "with ", "from "))


def open_files(connection: duckdb.DuckDBPyConnection, path: str, name: str) -> Files:
    """The rows of a path or glob; `name` names the tables that DuckDB keeps of unreadable lines.

    Raises `DataError` if there is no such file, if all are empty, or if one can't be read.
    """
    remote = "://" in path
    matched = [path] if remote else matches(path)
    if not matched:
        raise DataError("a source can't be read", [no_file(path)])
    filled = [file for file in matched if remote or Path(file).is_dir() or Path(file).stat().st_size]
    empty = [file for file in matched if file not in filled]
    parquet = path.strip().lower().endswith(PARQUET)
    layouts = {} if parquet or remote else {file: _layout(file) for file in filled}
    empty += [file for file, layout in layouts.items() if layout is None]
    filled = [file for file in filled if file not in empty]
    remark = [_empty(path, empty, of=len(matched))] if empty else []
    if not filled:
        raise DataError("a source can't be read", remark)
    try:
        if parquet:
            return Files(connection.read_parquet(filled, union_by_name=True), tuple(remark))
        if remote:
            return Files(connection.read_csv(path, all_varchar=True, header=True, union_by_name=True), parsed=True)
        relation, rejected = _read_csv(connection, {file: layouts[file] for file in filled}, name)
        return Files(relation, tuple(remark), rejected, parsed=True)
    except duckdb.Error as error:
        problem = Problem(
            "unreadable_file",
            f"the file can't be read as {'Parquet' if parquet else 'CSV'}",
            example=str(error).split("\n")[0],
            remedy="check the export that writes it: Parquet, or CSV with a header",
            source=path,
        )
        raise DataError("a source can't be read", [problem]) from None


def matches(path: str) -> list[str]:
    """The local files that a path or glob means, in the order of their names."""
    whole = str(Path(path).expanduser())
    return [whole] if Path(whole).exists() else sorted(glob.glob(whole, recursive=True))


def no_file(path: str) -> Problem:
    """That a path leads nowhere, with the nearest name beside it."""
    whole = Path(path).expanduser()
    if any(symbol in path for symbol in "*?["):
        message, remedy = "no file matches", f"check the folder {str(whole.parent)!r} and the pattern"
    elif whole.parent.is_dir():
        beside = sorted(file.name for file in whole.parent.iterdir() if is_file(file.name))
        message, remedy = "there is no such file", did_you_mean(whole.name, beside) or f"check the folder {str(whole.parent)!r}"
    else:
        message, remedy = "there is no such file, nor its folder", "check the path; a relative one starts at the current folder"
    return Problem("no_file", message, remedy=remedy, source=path)


def _empty(path: str, empty: Sequence[str], *, of: int) -> Problem:
    remedy = "check the export that writes it"
    if len(empty) == of:
        return Problem(
            "empty_file",
            "the file is empty" if of == 1 else f"all {of} files are empty",
            count=0 if of == 1 else of,
            remedy=remedy,
            source=path,
        )
    return Problem("empty_file", f"{len(empty)} of {of} files are empty", "warning", len(empty), Path(empty[0]).name, remedy, path)


Layout = tuple[str, tuple[str, ...]]


def _layout(file: str) -> Layout | None:
    """A CSV's separator and columns, from its first line; None if it holds nothing. Raises `DataError` if it is not UTF-8."""
    try:
        with gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb") as raw:
            # Later lines are the engine's to judge, one by one: here only the header has to be UTF-8.
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape")
            first = text.readline(_LONGEST_HEADER)
            while first.count('"') % 2 and (more := text.readline(_LONGEST_HEADER)):
                first += more
        first.encode()
    except UnicodeEncodeError:
        problem = Problem("not_utf8", "the header is not UTF-8 text", remedy="save the file as UTF-8", source=file)
        raise DataError("a source can't be read", [problem]) from None
    except OSError as error:
        problem = Problem(
            "unreadable_file", "the file can't be opened", example=str(error), remedy="check its permissions and format", source=file
        )
        raise DataError("a source can't be read", [problem]) from None
    separator = max(_SEPARATORS, key=_unquoted(first).count)
    names = [name.strip() for name in next(csv.reader(first.splitlines(keepends=True), delimiter=separator), [])]
    return (separator, _distinct(names)) if any(names) else None


def _unquoted(line: str) -> str:
    """The line without what stands in quotes."""
    return "".join(line.split('"')[::2])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names that differ, whatever their case: a nameless or repeated column gets its position."""
    found: list[str] = []
    for position, name in enumerate(names, 1):
        taken = {other.lower() for other in found}
        found.append(f"{name or 'column'}_{position}" if not name or name.lower() in taken else name)
    return tuple(found)


def _read_csv(
    connection: duckdb.DuckDBPyConnection, layouts: dict[str, Layout | None], name: str
) -> tuple[duckdb.DuckDBPyRelation, exp.Query]:
    """One relation for each layout, put together by name; and the query of the lines that were set aside."""
    groups: dict[Layout, list[str]] = {}
    for file, layout in layouts.items():
        if layout is not None:
            groups.setdefault(layout, []).append(file)
    parts, rejected = [], []
    for number, ((separator, columns), files) in enumerate(groups.items()):
        part, errors, scans = f"{name}_part_{number}", f"{name}_errors_{number}", f"{name}_scans_{number}"
        relation = connection.read_csv(
            files,  # type: ignore[arg-type]
            auto_detect=False,
            header=True,
            columns=dict.fromkeys(columns, "VARCHAR"),
            delimiter=separator,
            quotechar='"',
            escapechar='"',
            ignore_errors=True,
            store_rejects=True,
            rejects_table=errors,
            rejects_scan=scans,
        )
        relation.create_view(part)
        parts.append(exp.select(exp.Star()).from_(table(part)))
        rejected.append(_rejected(errors, scans))
    whole = reduce(lambda left, right: exp.Union(this=left, expression=right, distinct=False, by_name=True), parts)  # type: ignore[arg-type,return-value]
    return connection.sql(whole.sql("duckdb")), reduce(lambda left, right: exp.union(left, right, distinct=False), rejected)  # type: ignore[arg-type,return-value]


def _rejected(errors: str, scans: str) -> exp.Select:
    """The lines set aside, each once, however often and for however many reasons."""
    same = every(*(exp.EQ(this=col(key, "error"), expression=col(key, "scan")) for key in ("scan_id", "file_id")))
    place = {"file_path": col("file_path", "scan"), "line": col("line", "error")}
    lines = select({**place, "text": func("MIN", func("LEFT", col("csv_line", "error"), lit(_LONGEST_LINE)))}, table(errors, "error"))
    lines = lines.join(table(scans, "scan"), on=same).group_by(*(column.copy() for column in place.values()))
    pairs = [part for key, column in (("file", "file_path"), ("line", "line"), ("text", "text")) for part in (lit(key), col(column))]
    row = exp.cast(exp.Anonymous(this="json_object", expressions=pairs), "VARCHAR", dialect="duckdb")
    return exp.select(named(row, "row")).from_(lines.subquery("lines"))
