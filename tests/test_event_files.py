"""Where an event log's rows may lie: Parquet and CSV files, globs, queries, DuckDB connections and files; and what is said of bad ones."""

import gzip
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persopredict.engines.base import Step
from persopredict.engines.expressions import col, select
from persopredict.errors import DataError
from persopredict.events import EventLog
from persopredict.sources import constant

VISIT = constant("visit")
HEADER = "customer_id,event_at,value\n"
GOOD = HEADER + "a,2024-01-01T00:00:00Z,1.5\nb,2024-01-02T00:00:00Z,2\n"
READ = [("a", Decimal("1.500000")), ("b", Decimal("2.000000"))]


def values(source, **mapping):
    log = EventLog(source, event=VISIT, **mapping)
    return sorted(log.engine.rows(Step("rows", select({name: col(name) for name in ("customer_id", "value")}, log.table))))


def problem_of(source, **mapping):
    (problem,) = EventLog(source, event=VISIT, **mapping).check().problems
    return problem


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)


# Files --------------------------------------------------------------------------------------------------------------------------------


def test_a_csv_may_be_compressed_and_have_a_mark_or_any_separator_or_line_end(folder):
    Path("plain.CSV").write_text(GOOD)
    Path("mark.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    Path("semicolon.txt").write_text(GOOD.replace(",", ";"))
    Path("tab.tsv").write_text(GOOD.replace(",", "\t"))
    Path("bar.csv").write_text(GOOD.replace(",", "|"))
    Path("windows.csv").write_bytes(GOOD.replace("\n", "\r\n").encode())
    Path("old.csv").write_bytes(GOOD.replace("\n", "\r").encode())
    Path("unended.csv").write_text(GOOD.rstrip())
    with gzip.open("packed.csv.gz", "wt") as file:
        file.write(GOOD)
    for path in sorted(folder.iterdir()):
        assert values(path) == READ, path.name
        assert values(str(path)) == READ, path.name


def test_quotes_hold_separators_quotes_and_line_ends(folder):
    Path("q.csv").write_text('"customer_id","event_at",value\n"a, b",2024-01-01,1\n"say ""hi""",2024-01-01,2\n"two\nlines",2024-01-01,3\n')
    assert [row[0] for row in values("q.csv")] == ["a, b", 'say "hi"', "two\nlines"]


def test_files_of_one_glob_are_put_together_by_the_names_of_their_columns(folder):
    Path("s-1.csv").write_text("customer_id,event_at,value\na,2024-01-01,1.5\n")
    Path("s-2.csv").write_text("value;event_at;customer_id\n2;2024-01-01;b\n")
    Path("s-3.csv").write_text("event_at,customer_id\n2024-01-01,c\n")
    assert values("s-*.csv") == [*READ, ("c", None)]
    parquet("p-1.parquet", customer_id=["a"], event_at=["2024-01-01"], value=[1.5])
    parquet("p-2.parquet", value=[2], event_at=["2024-01-01"], customer_id=["b"])
    parquet("p-3.parquet", event_at=["2024-01-01"], customer_id=["c"])
    assert values("p-*.parquet") == [*READ, ("c", None)]


def test_lines_that_don_t_fit_the_header_go_to_quarantine_and_the_rest_is_read(folder):
    Path("ragged.csv").write_bytes(GOOD.encode() + b"c,2024-01-03,1,9\nd,2024-01-04\n\xf1and\xfa,2024-01-05,1\n")
    log = EventLog("ragged.csv", event=VISIT)
    assert values("ragged.csv") == READ
    (problem,) = log.check().problems
    assert (problem.code, problem.severity, problem.count) == ("unreadable_line", "warning", 3)
    assert (log.check().rows, log.check().usable, log.check().quarantined) == (5, 2, 3)
    assert sum('"line":4' in row and "c,2024-01-03,1,9" in row for row in log.quarantine().column("row").to_pylist()) == 1


def test_a_column_without_a_name_or_with_one_twice_is_told_apart_by_its_position(folder):
    Path("d.csv").write_text("customer_id,event_at,,Event_At\na,2024-01-01T00:00:00Z,5,x\n")
    assert values("d.csv", value="column_3", channel="Event_At_4") == [("a", Decimal("5.000000"))]


def test_a_missing_file_is_named_with_the_nearest_one_beside_it(folder):
    Path("sales_2024.csv").write_text(GOOD)
    problem = problem_of("sales_2042.csv")
    assert (problem.code, problem.remedy, problem.source) == ("no_file", "did you mean 'sales_2024.csv'?", "sales_2042.csv")
    assert problem_of(Path("nowhere") / "sales.parquet").code == "no_file"
    assert "folder" in problem_of("nowhere/sales.parquet").message


def test_a_glob_that_matches_nothing_is_said(folder):
    problem = problem_of("sales-*.parquet")
    assert (problem.code, problem.message) == ("no_file", "no file matches")


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
def test_an_empty_file_is_an_error(folder, name):
    Path(name).write_bytes(b"")
    assert problem_of(name).code == "empty_file"
    with pytest.raises(DataError, match="empty_file"):
        EventLog(name, event=VISIT).prepare()


def test_an_empty_file_among_others_is_a_warning(folder):
    Path("s-1.csv").write_text(GOOD)
    Path("s-2.csv").write_bytes(b"")
    log = EventLog("s-*.csv", event=VISIT)
    (problem,) = log.check().problems
    assert (problem.code, problem.severity, problem.count, problem.example) == ("empty_file", "warning", 1, "s-2.csv")
    assert log.check().ok


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
def test_a_file_without_rows_is_an_empty_log(folder, name):
    if name.endswith("csv"):
        Path(name).write_text(HEADER)
    else:
        parquet(name, customer_id=pa.array([], pa.string()), event_at=pa.array([], pa.timestamp("us")))
    report = EventLog(name, event=VISIT).check()
    assert (report.codes(), report.ok, report.rows) == (["empty_source", "empty_log"], False, 0)
    with pytest.raises(DataError, match="empty_log"):
        EventLog(name, event=VISIT).prepare()


def test_a_corrupt_parquet_file_and_text_that_is_not_utf8_are_said(folder):
    Path("bad.parquet").write_bytes(b"PAR1 this is not it")
    assert problem_of("bad.parquet").code == "unreadable_file"
    Path("bad.csv").write_text(GOOD, encoding="utf-16")
    assert problem_of("bad.csv").code == "not_utf8"


@pytest.mark.parametrize("text", ["some/folder", "events.xlsx", ".", "sales", ""])
def test_what_is_neither_a_file_nor_a_query_is_said(folder, text):
    assert problem_of(text).code == "no_source"


# Queries and databases ----------------------------------------------------------------------------------------------------------------

SALES = "CREATE TABLE sales AS SELECT 'a' AS customer_id, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS event_at, 1.5 AS value"


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute(SALES)
        opened.execute('CREATE TABLE "order" AS FROM sales')
        yield opened


@pytest.mark.parametrize("text", ["sales", "main.sales", "order", "SELECT * FROM sales -- all", "FROM sales;"])
def test_a_table_or_query_is_read_with_a_connection(connection, text):
    assert values(text, engine=connection) == READ[:1]


def test_a_relation_keeps_its_own_connection(connection):
    assert values(connection.sql("FROM sales")) == READ[:1]


def test_a_query_without_a_connection_reads_files(folder):
    Path("s.csv").write_text(GOOD)
    assert values("SELECT * FROM 's.csv'") == READ


def test_only_a_single_select_is_run(connection):
    for text in ("DROP TABLE sales", "SELECT 1; DROP TABLE sales", "DELETE FROM sales"):
        assert problem_of(text, engine=connection).code == "not_a_query"
    assert values("sales", engine=connection) == READ[:1]


def test_a_missing_table_is_named_with_the_nearest_one(connection):
    problem = problem_of("slaes", engine=connection)
    assert (problem.code, problem.remedy) == ("unreadable_query", "did you mean 'sales'?")
    assert "engine=" in problem_of("sales").remedy


def test_a_query_never_means_a_python_variable():
    text = name = link = "a local name of ours"
    assert problem_of("SELECT * FROM text").code == "unreadable_query", (text, name, link)


@pytest.mark.parametrize("own", [True, False])
def test_values_that_a_failing_query_quotes_are_examples_only(connection, own):
    query = "SELECT CAST(name AS INTEGER) AS customer_id, DATE '2024-01-01' AS event_at FROM (VALUES ('1'), ('maria')) AS t(name)"
    problem = problem_of(query.replace("'maria'", "concat('mar', 'ia')"), engine=None if own else connection)
    assert problem.code == ("unreadable_source" if own else "unreadable_query")
    assert "maria" in problem.example
    assert "maria" not in problem.message + problem.remedy + problem.source


def test_a_duckdb_file_is_read_and_let_go(folder):
    with duckdb.connect("shop.duckdb") as database:
        database.execute(SALES)
    for engine in ("shop.duckdb", Path("shop.duckdb"), "duckdb:///shop.duckdb"):
        assert values("sales", engine=engine) == READ[:1]
    with duckdb.connect("shop.duckdb") as database:
        database.execute("DROP TABLE sales")


def test_a_duckdb_file_that_is_missing_or_is_none_is_said(folder):
    with duckdb.connect("shop.duckdb") as database:
        database.execute(SALES)
    problem = problem_of("sales", engine="shpo.duckdb")
    assert (problem.code, problem.remedy) == ("no_file", "did you mean 'shop.duckdb'?")
    Path("other.duckdb").write_text("hello" * 1000)
    assert problem_of("sales", engine="other.duckdb").code == "unreadable_database"
    assert problem_of("sales", engine=5).code == "no_engine"


def test_a_duckdb_file_that_another_process_holds_is_said(folder):
    hold = "import duckdb, sys; c = duckdb.connect('shop.duckdb'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        problem = problem_of("sales", engine="shop.duckdb")
        process.communicate()
    assert problem.code == "database_busy"
    assert f"PID {process.pid}" in problem.example


def test_a_duckdb_file_that_this_process_writes_is_said(folder):
    with duckdb.connect("shop.duckdb"):
        assert problem_of("sales", engine="shop.duckdb").code == "database_busy"


def test_a_query_may_be_longer_than_any_name_of_a_file(folder):
    parquet("sales.parquet", customer_id=["a"], event_at=["2024-01-01"], value=[1.5])
    assert values(f"SELECT * FROM 'sales.parquet' WHERE value IN ({', '.join(map(str, range(100)))}, 1.5)") == READ[:1]
