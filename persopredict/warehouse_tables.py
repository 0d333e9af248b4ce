"""The tables of a warehouse and the statements on them: the only part of it that speaks SQL, in sqlglot expressions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from persopredict.attribute_columns import COLUMNS
from persopredict.errors import DataError, EngineError, Problem, SpecificationError
from persopredict.times import Duration

State = Literal["published", "skipped", "failed"]
PUBLISHED: State = "published"
STATES: tuple[State, ...] = ("published", "skipped", "failed")
#: 2: the table `outcomes`; 3: the table `jobs`. A file of before gets them with the next publish.
SCHEMA_VERSION = 3

ATTRIBUTES, RUNS, OUTCOMES, JOBS, QUARANTINE = "predictive_attributes", "runs", "outcomes", "jobs", "quarantine"
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
    OUTCOMES: {
        "target": "TEXT",
        "as_of": "TIMESTAMPTZ",
        "run_id": "TEXT",
        "model_version": "TEXT",
        "ended_at": "TIMESTAMPTZ",
        "customers": "BIGINT",
        "rows": "BIGINT",
        "expected": "DOUBLE",
        "lower": "BIGINT",
        "upper": "BIGINT",
        "actual": "BIGINT",
        "auc": "DOUBLE",
        "log_loss": "DOUBLE",
        "base_rate_log_loss": "DOUBLE",
        "ece": "DOUBLE",
        "ece_chance_p95": "DOUBLE",
        "settled_at": "TIMESTAMPTZ",
        "measured_at": "TIMESTAMPTZ",
    },
    JOBS: {
        "as_of": "TIMESTAMPTZ",
        "rows": "BIGINT",
        "usable": "BIGINT",
        "customers": "BIGINT",
        "observed_from": "TIMESTAMPTZ",
        "observed_until": "TIMESTAMPTZ",
        "events": "TEXT",
        "lookups": "TEXT",
        "problems": "TEXT",
        "targets": "TEXT",
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
    OUTCOMES: ("target", "as_of"),
    JOBS: ("as_of",),
    QUARANTINE: ("source", "row_number", "code", "row"),
    METADATA: ("name",),
}


def first(table: pa.Table | None, name: str) -> Any:
    """The first value of a column; None without rows."""
    return None if table is None or not len(table) else table[name][0].as_py()


def column(name: str, table: str | None = None) -> exp.Column:
    """A column, quoted."""
    return exp.column(name, table=table, quoted=True)


def ascending(name: str, table: str | None = None) -> exp.Ordered:
    """A sort key, nulls last."""
    return exp.Ordered(this=column(name, table), nulls_first=False)


def is_(name: str, parameter: str | None = None) -> exp.EQ:
    """The column equals the parameter (of its own name by default), whose null equals nothing."""
    return exp.EQ(this=column(name), expression=exp.Placeholder(this=parameter or name))


def execute(connection: duckdb.DuckDBPyConnection, step: str, statement: exp.Expr, values: dict[str, Any]) -> None:
    """Run a statement; `EngineError` with its SQL if DuckDB refuses it."""
    sql = statement.sql("duckdb", copy=False)
    try:
        connection.execute(sql, values)
    except duckdb.Error as error:
        raise EngineError(step, sql, str(error)) from None


def read(connection: duckdb.DuckDBPyConnection, step: str, query: exp.Expr, values: dict[str, Any]) -> pa.Table:
    """The rows of a query, as Arrow."""
    return answer(connection, step, query.sql("duckdb", copy=False), values)


def answer(connection: duckdb.DuckDBPyConnection, step: str, sql: str, values: dict[str, Any]) -> pa.Table:
    """The rows of a query given as text, as Arrow; `EngineError` with it if DuckDB refuses it."""
    try:
        relation = connection.sql(sql, params=values)
        return pa.table({}) if relation is None else relation.to_arrow_table()
    except duckdb.Error as error:
        raise EngineError(step, sql, str(error)) from None


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what is done inside, or roll all of it back; `DataError` if it can't be committed, as on a full disk."""
    connection.begin()
    try:
        yield
        _commit(connection)
    except BaseException:
        # A commit that failed has already rolled back, and a rollback then fails too.
        with suppress(duckdb.Error):
            connection.rollback()
        raise


def _commit(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.commit()
    except duckdb.Error as error:
        problem = Problem("not_written", str(error).splitlines()[0], remedy="see that there is space, and that the file may be written")
        raise DataError("nothing was published, the warehouse can't be written", [problem]) from error


def check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> set[str]:
    """Those of our tables that are there; refuses tables of our names that are not ours, or are a newer version's."""
    columns = exp.select("table_name", "column_name").from_(exp.Anonymous(this="duckdb_columns"))
    ordered = columns.where("schema_name = 'main' AND NOT internal").order_by("table_oid", "column_index")
    found: dict[str, list[str]] = {}
    for line in read(connection, "tables", ordered, {}).to_pylist():
        found.setdefault(line["table_name"], []).append(line["column_name"])
    ours = [name for name in (*TABLES, WIDE) if name in found]
    foreign = [name for name in ours if METADATA not in found or list(TABLES.get(name, found[name])) != found[name]]
    if METADATA in ours and METADATA not in foreign:
        query = exp.select("value").from_(METADATA).where("name = 'schema_version'")
        version = str(first(read(connection, "version", query, {}), "value"))
        if version.isdigit() and int(version) > SCHEMA_VERSION:
            message = f"{path} was written by a newer persopredict (schema {version}, this one knows {SCHEMA_VERSION})"
            raise DataError(f"{message}; upgrade persopredict")
    if foreign:
        names = ", ".join(repr(name) for name in foreign)
        raise DataError(f"{path} holds {names}, not made by persopredict; give another file, or rename them")
    return set(ours)


def create_tables(connection: duckdb.DuckDBPyConnection, names: Collection[str]) -> None:
    """Create tables of `TABLES`; a file that lacked only some of them was of a former schema, and is of this one afterwards."""
    for name in names:
        definitions = [
            exp.ColumnDef(this=exp.to_identifier(column, quoted=True), kind=exp.DataType.build(kind, dialect="duckdb"))
            for column, kind in TABLES[name].items()
        ]
        schema = exp.Schema(this=exp.to_table(name), expressions=definitions)
        execute(connection, "create", exp.Create(this=schema, kind="TABLE"), {})
    if names:
        remember(connection, "schema_version", str(SCHEMA_VERSION))


def remember(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    """Keep a fact about the warehouse beside its tables, replacing what was kept under that name."""
    delete(connection, (METADATA,), name=name)
    insert(connection, METADATA, pa.table({"name": [name], "value": [value]}))


def remembered(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """The fact kept under that name; None if there is none."""
    found = first(read(connection, "remembered", exp.select("value").from_(METADATA).where(is_("name")), {"name": name}), "value")
    return None if found is None else str(found)


def delete(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], **values: object) -> None:
    """Delete the rows with these values from each of the tables."""
    for table in tables:
        execute(connection, "delete", exp.delete(table).where(*map(is_, values)), values)


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Insert an Arrow table's rows, in the order of `ORDERS`."""
    names = [column(name) for name in TABLES[table]]
    query = exp.select(*names).from_(INCOMING)
    if not _in_order(rows, ORDERS[table]):
        query = query.order_by(*map(ascending, ORDERS[table]))
    connection.register(INCOMING, rows)
    execute(connection, "insert", exp.insert(query, table, columns=[name.this for name in names]), {})


def _in_order(rows: pa.Table, keys: Sequence[str]) -> bool:
    """Whether rows lie in the order of these columns, nulls last. Scores come so, and to sort their reasons takes gigabytes."""
    order = pc.sort_indices(rows.select(keys), [(key, "ascending") for key in keys])
    return bool(np.array_equal(order, np.arange(len(rows))))


def ledger(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The ledger, by target and as_of."""
    query = exp.select(*map(column, TABLES[RUNS])).from_(RUNS)
    return read(connection, "runs", query.order_by(ascending("target"), ascending("as_of")), {})


def settled_runs(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """What came of published runs, by target and as_of."""
    query = exp.select(*map(column, TABLES[OUTCOMES])).from_(OUTCOMES)
    return read(connection, "outcomes", query.order_by(*map(ascending, ORDERS[OUTCOMES])), {})


def job_found(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> dict[str, Any] | None:
    """What the job of this `as_of` found, a row of the table `jobs`; None if there is none."""
    rows = read(connection, "jobs", exp.select(*map(column, TABLES[JOBS])).from_(JOBS).where(is_("as_of")), {"as_of": as_of}).to_pylist()
    return rows[0] if rows else None


def settle(connection: duckdb.DuckDBPyConnection, came: pa.Table) -> None:
    """Insert what came of runs, each in the place of what was there of it; raises `SpecificationError` if one is not published."""
    published = {(line["target"], line["as_of"], line["run_id"]) for line in ledger(connection).to_pylist() if line["state"] == PUBLISHED}
    keys = list(zip(*(came[name].to_pylist() for name in ("target", "as_of", "run_id")), strict=True))
    if unknown := [f"{target} at {as_of.isoformat()}" for target, as_of, run in keys if (target, as_of, run) not in published]:
        raise SpecificationError(f"outcomes of runs that are not published: {', '.join(unknown)}; publish these first")
    for target, as_of, _ in keys:
        delete(connection, (OUTCOMES,), target=target, as_of=as_of)
    insert(connection, OUTCOMES, came)


def unsettle(connection: duckdb.DuckDBPyConnection, line: Mapping[str, Any]) -> None:
    """Delete what came of the former run in the place of this line of the ledger: it was about other scores."""
    key = {"target": line["target"], "as_of": line["as_of"]}
    if line["state"] != PUBLISHED:
        delete(connection, (OUTCOMES,), **key)
        return
    another = exp.NEQ(this=column("run_id"), expression=exp.Placeholder(this="run_id"))
    former = exp.delete(OUTCOMES).where(is_("target"), is_("as_of"), another)
    execute(connection, "delete", former, key | {"run_id": line["run_id"]})


def forget(connection: duckdb.DuckDBPyConnection, target: str, keep: Duration) -> None:
    """Delete what is older than the target's newest published run by more than `keep`."""
    mine = [line for line in ledger(connection).to_pylist() if line["target"] == target]
    newest = max((line["as_of"] for line in mine if line["state"] == PUBLISHED), default=None)
    oldest = keep.before(newest or max(line["as_of"] for line in mine), UTC)
    for line in mine:
        if line["as_of"] < oldest:
            delete(connection, (ATTRIBUTES, RUNS, OUTCOMES), target=target, as_of=line["as_of"])
    first = exp.select(exp.Min(this=column("as_of"))).from_(RUNS).subquery()
    for table in (QUARANTINE, JOBS):
        execute(connection, table, exp.delete(table).where(exp.LT(this=column("as_of"), expression=first.copy())), {})


def comparison() -> exp.Select:
    """Customers of the runs at $a and $b of $target, side by side."""
    keys, measures = ("customer_id", "category"), ("probability", "band")
    sides = {
        side: exp.select(*map(column, (*keys, *measures))).from_(ATTRIBUTES).where(is_("target"), is_("as_of", side)) for side in ("a", "b")
    }
    either = [exp.func("COALESCE", column(key, "a"), column(key, "b")).as_(key) for key in keys]
    change = exp.Sub(this=column("probability", "b"), expression=column("probability", "a"))
    probability_a, probability_b, band_a, band_b = (
        column(measure, side).as_(f"{measure}_{side}") for measure in measures for side in ("a", "b")
    )
    same = [exp.NullSafeEQ(this=column(key, "a"), expression=column(key, "b")) for key in keys]
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
    published = [line for line in ledger(connection).to_pylist() if line["state"] == PUBLISHED]
    query = exp.select(column("target")).distinct().from_(ATTRIBUTES).where(column("category").is_(exp.null()).not_())
    by_category = set(read(connection, "categories", query, {})["target"].to_pylist())
    reference = max((line["as_of"] for line in published), default=None)
    shown = []
    for target in sorted({line["target"] for line in published}):
        mine = [line for line in published if line["target"] == target]
        as_of = max((line["as_of"] for line in mine if line["valid_until"] > reference), default=None)
        previous = max((line["as_of"] for line in mine if as_of and line["as_of"] < as_of), default=None)
        shown.append(_Shown(target, as_of, previous, target in by_category))
    return shown


def rebuild_wide(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `customer_attributes` anew: a row for every customer of any kept run, in order of customer_id."""
    everyone = exp.select(column("customer_id")).distinct().from_(ATTRIBUTES)
    query = exp.select(column("customer_id", "everyone")).from_(everyone.subquery("everyone"))
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
    made = query.order_by(ascending("customer_id", "everyone"))
    execute(connection, WIDE, exp.Create(this=exp.to_table(WIDE), kind="TABLE", replace=True, expression=made), values)


def _rows_of(number: str, moment: str, *columns: exp.Expr) -> exp.Select:
    """Columns of the rows of one run, by customer."""
    mine = exp.select(column("customer_id"), *columns).from_(ATTRIBUTES)
    return mine.where(is_("target", f"target_{number}"), is_("as_of", f"{moment}_{number}"))


def _joined(query: exp.Select, right: exp.Select, alias: str, left: str = "everyone") -> exp.Select:
    same = exp.EQ(this=column("customer_id", alias), expression=column("customer_id", left))
    return query.join(right.subquery(alias, copy=False), on=same, join_type="left", copy=False)


def _named(target: str, columns: Mapping[str, exp.Expr]) -> list[exp.Expr]:
    return [exp.alias_(column, f"{target}_{name}", quoted=True) for name, column in columns.items()]


def _with_scores(query: exp.Select, target: str, number: str) -> exp.Select:
    """Add the columns of a target of one score per customer."""
    now, before = f"now_{number}", f"before_{number}"
    columns: dict[str, exp.Expr] = {name: column(name, now) for name in ("probability", "percentile", "band")}
    columns["previous_band"] = column("band", before)
    columns |= {f"reason_{place}": _reason(now, place) for place in (1, 2, 3)}
    columns |= {name: column(name, now) for name in ("status", "as_of")}
    kept = ("probability", "percentile", "band", "reasons", "status", "as_of")
    query = _joined(query, _rows_of(number, "as_of", *map(column, kept)), now)
    # Joined to the shown run, not to everyone: a customer who left has no previous band either.
    query = _joined(query, _rows_of(number, "previous", column("band")), before, left=now)
    return query.select(*_named(target, columns), copy=False)


#: What stands before a reason: it raises the probability, or lowers it.
ARROWS = {"for": "↑ ", "against": "↓ "}


def _reason(table: str, place: int) -> exp.Expr:
    """The reason as a sentence: which way it points, then its label, which holds the value; of scores made elsewhere, what there is."""
    reason = exp.func("LIST_EXTRACT", column("reasons", table), exp.Literal.number(place))
    label, value, direction = (
        exp.func("STRUCT_EXTRACT", reason.copy(), exp.Literal.string(name)) for name in ("label", "value_text", "direction")
    )
    text = exp.func("COALESCE", *(exp.func("NULLIF", part, exp.Literal.string("")) for part in (label, value)))
    arrow = exp.Case(default=exp.Literal.string(""))
    for way, mark in ARROWS.items():
        arrow = arrow.when(exp.EQ(this=direction.copy(), expression=exp.Literal.string(way)), exp.Literal.string(mark))
    return exp.DPipe(this=arrow, expression=text, safe=False)


def _with_categories(query: exp.Select, target: str, number: str) -> exp.Select:
    """Add the columns of a target of one score per customer and category."""
    rank, category = column("rank"), column("category")
    tops = {
        f"top_{place}": exp.Filter(
            this=exp.Max(this=category), expression=exp.Where(this=exp.EQ(this=rank, expression=exp.Literal.number(place)))
        )
        for place in (1, 2, 3)
    }
    new = exp.Filter(this=exp.func("ARG_MIN", category, rank, dialect="duckdb"), expression=exp.Where(this=column("is_new")))
    columns: dict[str, exp.Expr] = {**tops, "top_new_1": new}
    mine = _rows_of(number, "as_of", *(exp.alias_(column, name) for name, column in columns.items()))
    query = _joined(query, mine.group_by(column("customer_id")), f"now_{number}")
    return query.select(*_named(target, {name: column(name, f"now_{number}") for name in columns}), copy=False)
