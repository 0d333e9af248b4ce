"""Facts of lookups: which row is in force when, what of a source is read, and what is said about the rest."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

import persopredict as pp
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, lit, microseconds, select
from persopredict.errors import DataError, SpecificationError
from persopredict.lookup_intake import LookupIntake
from persopredict.times import instant
from persopredict.usability import MOST_UNMATCHED, UNUSABLE_FACTS

TICK = timedelta(microseconds=1)
BOTH = {"valid_from": True, "known_at": True}


def log_of(ids=("7",), **columns):
    """A log of one visit of each customer, on New Year's Day of 2024."""
    mapping = {name: columns.pop(name) for name in ("dimensions", "category", "timezone", "name") if name in columns}
    frame = pd.DataFrame({"customer_id": ids, "event_at": "2024-01-01T00:00:00Z", "event": "visit", **columns})
    return pp.EventLog(frame, **mapping)


def lookup(columns=("tier",), *, key="customer_id", valid_from=None, known_at=None, name="clients", **data):
    return pp.Lookup(pd.DataFrame(data), key=key, columns=columns, valid_from=valid_from, known_at=known_at, name=name)


def tiers(*rows, **times):
    """A lookup of rows of customer, tier and the times that are asked for."""
    names = ["customer_id", "tier", *times]
    return pp.Lookup(
        pd.DataFrame(rows, columns=names, dtype=object),
        key="customer_id",
        columns=["tier"],
        name="clients",
        **{name: name for name in times},
    )


def at(log, cutoff, number=0):
    """The facts in force at a cutoff, by key, as the log's tables give them; every key has one row at most."""
    log.prepare()
    place = log.lookups[number]
    query = select({name: col(name) for name in ("key", *place.columns)}, place.table)
    rows = log.engine.rows(Step("in_force", query.where(place.in_force(lit(microseconds(instant(cutoff)))))))
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1] if len(row) == 2 else row[1:] for row in rows}


def problem_of(log, code):
    (found,) = [problem for problem in log.check().problems if problem.code == code]
    return found


# Which row is in force ------------------------------------------------------------------------------------------------------------------


def test_the_contract_s_example_reads_the_tier_as_it_stood():
    clients = pd.DataFrame({"customer_id": [7, 7], "tier": ["silver", "gold"], "since": ["2023-05-01", "2024-02-01"]})
    log = log_of().join(pp.Lookup(clients, key="customer_id", columns=["tier"], valid_from="since"))
    assert (at(log, "2023-12-01"), at(log, "2024-02-02"), at(log, "2023-01-01")) == ({"7": "silver"}, {"7": "gold"}, {})


def test_a_row_that_begins_at_the_cutoff_is_not_in_force_yet():
    log = log_of().join(tiers(("7", "silver", None), ("7", "gold", "2024-02-01T00:00:00Z"), valid_from=True))
    begins = instant("2024-02-01")
    assert (at(log, begins), at(log, begins + TICK)) == ({"7": "silver"}, {"7": "gold"})


def test_a_row_that_became_known_late_is_not_in_force_before():
    log = log_of().join(tiers(("7", "gold", "2024-01-01", "2024-03-01"), **BOTH))
    assert (at(log, "2024-03-01"), at(log, instant("2024-03-01") + TICK)) == ({}, {"7": "gold"})


def test_a_row_that_became_known_after_a_newer_one_is_never_in_force():
    log = log_of().join(tiers(("7", "gold", "2024-02-01", None), ("7", "silver", "2024-01-01", "2024-03-01"), **BOTH))
    assert [at(log, cutoff) for cutoff in ("2024-02-01", "2024-02-02", "2024-03-02")] == [{}, {"7": "gold"}, {"7": "gold"}]


def test_a_change_that_is_known_in_advance_begins_when_it_is_valid():
    log = log_of().join(tiers(("7", "gold", "2024-06-01", "2024-01-01"), **BOTH))
    assert (at(log, "2024-05-31"), at(log, "2024-06-02")) == ({}, {"7": "gold"})


def test_of_rows_valid_from_the_same_time_the_one_known_last_counts():
    log = log_of().join(tiers(("7", "zinc", "2024-01-01", "2024-02-01"), ("7", "gold", "2024-01-01", "2024-03-01"), **BOTH))
    assert (at(log, "2024-02-02"), at(log, "2024-03-02")) == ({"7": "zinc"}, {"7": "gold"})


def test_without_times_a_row_is_in_force_ever():
    assert at(log_of().join(tiers(("7", "gold"))), "1950-01-01") == {"7": "gold"}


def test_with_known_at_alone_the_row_known_last_is_in_force():
    log = log_of().join(tiers(("7", "gold", "2024-02-01"), ("7", "silver", None), known_at=True))
    assert (at(log, "2024-02-01"), at(log, "2024-02-02")) == ({"7": "silver"}, {"7": "gold"})


def test_of_rows_that_nothing_else_tells_apart_the_last_in_the_order_of_facts_is_in_force():
    rows = [("7", None), ("7", "Gold"), ("7", "gold"), ("7", "Ärmel")]
    for turned in (rows, rows[::-1]):
        assert at(log_of().join(tiers(*turned)), "2024-01-01") == {"7": "Ärmel"}


def test_placeholders_of_long_ago_mean_ever():
    log = log_of().join(tiers(("7", "silver", datetime(1, 1, 1)), ("7", "gold", datetime(2024, 2, 1)), valid_from=True))
    assert (at(log, "1900-01-01"), at(log, "2024-02-02")) == ({"7": "silver"}, {"7": "gold"})
    assert log.quarantine().num_rows == 0


def test_times_without_an_offset_are_read_in_the_log_s_zone():
    for when in ("2024-07-01", datetime(2024, 7, 1), date(2024, 7, 1)):
        log = log_of(timezone="Asia/Tokyo").join(tiers(("7", "gold", when), valid_from=True))
        begins = instant("2024-06-30T15:00:00Z")
        assert (at(log, begins), at(log, begins + TICK)) == ({}, {"7": "gold"})


START = instant("2024-01-01")
HOURS = st.none() | st.integers(0, 5)
ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), HOURS, HOURS, st.sampled_from([None, "", "A", "a", "é", "😀"]), st.sampled_from([None, -1, 2])),
    min_size=1,
    max_size=40,
)


def hour(number):
    return None if number is None else START + timedelta(hours=number)


def in_force(rows, cutoff):
    """The definition, row by row."""
    found = {}
    for key in {row[0] for row in rows}:
        best = None
        for _, valid, known, *facts in (row for row in rows if row[0] == key):
            valid, known = hour(valid), hour(valid if known is None else known)
            if any(time is not None and time >= cutoff for time in (valid, known)):
                continue
            words, points = facts
            rank = (valid or datetime.min.replace(tzinfo=UTC), known or datetime.min.replace(tzinfo=UTC))
            rank += ((words is not None, (words or "").encode()), (points is not None, points or 0))
            if best is None or rank > best[0]:
                best = (rank, tuple(facts))
        if best is not None:
            found[key] = best[1]
    return found


def log_with(rows):
    names = ["customer_id", "valid", "known", "words", "points"]
    data = [(key, hour(valid), hour(known), *facts) for key, valid, known, *facts in rows]
    types = [pa.string(), pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC"), pa.string(), pa.int64()]
    frame = pa.table({name: pa.array(values, kind) for name, kind, values in zip(names, types, zip(*data, strict=True), strict=True)})
    return log_of().join(pp.Lookup(frame, key="customer_id", columns=["words", "points"], valid_from="valid", known_at="known"))


@settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck), database=None)
@given(ROWS)
def test_the_row_in_force_is_that_of_the_definition_at_every_cutoff(rows):
    log = log_with(rows)
    for number in range(7):
        for cutoff in (hour(number) - TICK, hour(number), hour(number) + TICK):
            assert at(log, cutoff) == in_force(rows, cutoff), cutoff


@settings(deadline=None, derandomize=True, max_examples=15, suppress_health_check=list(HealthCheck), database=None)
@given(ROWS, ROWS, st.integers(0, 5))
def test_what_came_to_light_at_or_after_a_time_changes_nothing_before_it(rows, more, number):
    until = hour(number)
    later = [row for row in more if any(time is not None and time >= number for time in row[1:3])]
    before, after = log_with(rows), log_with([*rows, *later])
    for cutoff in (hour(0), until - TICK, until):
        if cutoff <= until:
            assert at(before, cutoff) == at(after, cutoff)
    assert before.fingerprint(until) == after.fingerprint(until)
    assert before.values_of("words", 9, until) == after.values_of("words", 9, until)


# Keys and facts -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[7, 8], [7.0, None], ["7", "8"], [Decimal("7.00"), Decimal(8)], pd.array([7, None], dtype="Int64")])
@pytest.mark.parametrize("own", [["7"], [7], [7.0]])
def test_ids_meet_however_they_are_written(ids, own):
    log = log_of(own).join(lookup(customer_id=ids, tier=["gold", "silver"]))
    assert log.values_of("tier", 5) == ("gold",)


def test_the_source_may_call_the_key_otherwise():
    log = log_of().join(lookup(key={"customer_id": "the client"}, **{"the client": [7], "tier": ["gold"], "customer_id": [1]}))
    assert log.values_of("tier", 5) == ("gold",)


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("item_id", {"item_id": [5]}),
        ("order_id", {"order_id": ["5"]}),
        ("event_id", {"event_id": [5.0]}),
        ("channel", {"channel": ["5"]}),
        ("currency", {"currency": ["5"]}),
        ("category", {"section": ["5"], "category": "section"}),
        ("family", {"dept": ["food"], "family": ["5"], "category": ("dept", "family")}),
        ("store", {"store": ["5"], "dimensions": ["store"]}),
        ("store", {"store": [5], "dimensions": ["store"]}),
        ("store", {"store": [Decimal("5.00")], "dimensions": ["store"]}),
    ],
)
@pytest.mark.parametrize("theirs", [5, 5.0, "5"])
def test_any_column_that_says_of_what_can_be_the_key(key, columns, theirs):
    log = log_of(**columns).join(lookup(key={key: "k"}, k=[theirs], tier=["gold"]))
    assert log.values_of("tier", 5) == ("gold",)
    assert "lookup_unmatched" not in log.check().codes()


def test_the_event_s_name_can_be_the_key():
    log = log_of().join(lookup(key="event", event=["visit"], tier=["gold"]))
    assert log.values_of("tier", 5) == ("gold",)


def test_a_dimension_that_is_text_in_one_source_of_several_is_met_as_text():
    log = pp.EventLog.union(log_of(store=[5], dimensions=["store"]), log_of(["8"], store=["x5"], dimensions=["store"]))
    joined = log.join(lookup(key="store", store=["5", "x5"], tier=["gold", "silver"]))
    assert joined.values_of("tier", 5) == ("gold", "silver")


def test_numbers_are_exact_truth_values_are_numbers_and_dates_are_text():
    data = {"a": [0.1], "b": [True], "c": [date(2024, 5, 1)], "d": [3], "e": pd.Categorical(["x"]), "f": [float("nan")]}
    log = log_of().join(lookup([*data, "g"], customer_id=[7], **data, g=["1.50"]))
    assert at(log, "2024-01-01")["7"] == (Decimal("0.100000"), Decimal(1), "2024-05-01", Decimal(3), "x", None, "1.50")
    assert [name for name in log.numeric if len(name) == 1] == ["a", "b", "d", "f"]


def test_a_constant_fact_marks_who_is_in_a_list():
    log = log_of(["7", "8"]).join(lookup({"member": pp.lit("yes")}, customer_id=[8]))
    assert at(log, "2024-01-01") == {"8": "yes"}


def test_columns_of_the_source_may_have_any_name():
    names = ["key", 'the "client"', "from_us", "rank of row", "valid us", "select"]
    data = dict(zip(names, (["a"], ["7"], ["2024-01-01"], ["b"], ["c"], ["d"]), strict=True))
    facts = {"one": "key", "two": "rank of row", "three": "valid us", "four": "select"}
    log = log_of().join(pp.Lookup(pd.DataFrame(data), key={"customer_id": 'the "client"'}, columns=facts, valid_from="from_us"))
    assert at(log, "2024-01-02") == {"7": ("a", "b", "c", "d")}


def test_names_of_facts_are_spelled_as_the_common_model_spells_them():
    assert log_of().join(lookup(["Tier Code"], customer_id=["7"], **{"Tier Code": ["gold"]})).values_of("tier_code", 1) == ("gold",)


# The joined log -------------------------------------------------------------------------------------------------------------------------


def test_facts_are_columns_and_dimensions_like_any_other():
    log = log_of(value=[2.5], dimensions=["shop"], shop=["s"]).join(
        lookup(["tier", "points"], customer_id=["7"], tier=["gold"], points=[4])
    )
    assert log.columns == ("customer_id", "event_at", "event", "value", "shop", "tier", "points", "day", "hour", "weekday")
    assert log.numeric == ("value", "points", "day", "hour", "weekday")
    assert log.dimensions == ("shop", "tier", "points")


def test_the_log_says_which_tables_hold_the_facts():
    log = log_of().join(tiers(("7", "gold", None), valid_from=True), lookup(["band", "points"], customer_id=["7"], band=["a"], points=[1]))
    found = [(each.name, each.key, each.table, each.columns, each.versioned) for each in log.lookups]
    assert found == [
        ("clients_1", "customer_id", "lookup_0", ("tier",), True),
        ("clients_2", "customer_id", "lookup_1", ("band", "points"), False),
    ]
    assert (at(log, "2024-01-01", 0), at(log, "2024-01-01", 1)) == ({"7": "gold"}, {"7": ("a", Decimal(1))})


@pytest.mark.parametrize("key", ["customer_id", "store"])
def test_the_table_has_key_span_and_facts_in_their_types(key):
    log = (
        log_of(store=[7], dimensions=["store"]).join(lookup(["tier", "points"], key={key: "k"}, k=[7], tier=["gold"], points=[1])).prepare()
    )
    described = log.engine.rows(
        Step("kinds", exp.select("column_name", "data_type").from_("duckdb_columns").where("table_name = 'lookup_0'"))
    )
    assert described == [
        ("key", "VARCHAR"), ("from_us", "BIGINT"), ("until_us", "BIGINT"), ("tier", "VARCHAR"), ("points", "DECIMAL(18,6)"),
    ]  # fmt: skip


def test_a_log_is_a_value_that_joining_leaves_as_it_is():
    plain = log_of()
    before = plain.fingerprint()
    first, second = plain.join(tiers(("7", "gold"))), plain.join(tiers(("7", "silver")))
    assert (first.values_of("tier", 5), second.values_of("tier", 5)) == (("gold",), ("silver",))
    assert ("tier" in plain.columns, plain.lookups, plain.fingerprint()) == (False, (), before)


def test_joining_again_adds_to_what_was_joined():
    log = log_of().join(tiers(("7", "gold"))).join(lookup(["band"], customer_id=["7"], band=["a"], name="bands"))
    assert (log.values_of("tier", 5), log.values_of("band", 5)) == (("gold",), ("a",))
    assert log.prepare().join(lookup(["zone"], customer_id=["7"], zone=["n"])).values_of("zone", 5) == ("n",)


def test_lookups_of_united_logs_are_lookups_of_the_whole():
    of_clients = tiers(("7", "gold"), ("8", "silver"))
    shop, web = (
        log_of(["7"]).join(of_clients),
        log_of(["8"], item_id=["i"]).join(of_clients, lookup(["brand"], key="item_id", item_id=["i"], brand=["b"])),
    )
    log = pp.EventLog.union(shop, web)
    assert (log.values_of("tier", 5), log.values_of("brand", 5)) == (("gold", "silver"), ("b",))
    with pytest.raises(SpecificationError, match="'tier' is a fact of clients_1 already"):
        pp.EventLog.union(shop, log_of(["8"]).join(tiers(("8", "silver"))))


def test_values_of_a_fact_are_those_in_force_of_the_customers_that_were_known():
    log = log_of(["7", "8"]).join(tiers(("7", "gold", "2024-02-01"), ("7", "silver", None), ("9", "none", None), valid_from=True))
    assert log.values_of("tier", 5, instant("2024-01-15")) == ("silver",)
    assert log.values_of("tier", 5, instant("2023-12-31")) == ()
    assert log.values_of("tier", 5) == ("gold",)
    assert log.values_of("tier", 5, held_by=2) == ()
    assert log_of(["7"]).join(tiers(("7", "gold", datetime.now(UTC) + timedelta(days=9)), valid_from=True)).values_of("tier", 5) == ()


def test_default_features_are_built_from_facts_with_few_values():
    ids = [str(number) for number in range(24)]
    log = log_of(ids).join(lookup(["tier", "code"], customer_id=ids, tier=["gold", "silver"] * 12, code=ids))
    names = {column for feature in pp.default_features(log) for column in re.findall(r"(tier|code) = ", feature.where or "")}
    assert names == {"tier"}


def test_the_fingerprint_knows_what_was_in_force_and_not_the_order_of_rows():
    rows = [("7", "gold", "2024-02-01"), ("7", "silver", None), ("8", "silver", "2024-01-01")]
    log, turned = (log_of().join(tiers(*each, valid_from=True)) for each in (rows, rows[::-1]))
    renamed = log_of().join(
        pp.Lookup(
            pd.DataFrame(rows, columns=["customer_id", "tier", "since"]), key="customer_id", columns={"band": "tier"}, valid_from="since"
        )
    )
    assert log.fingerprint() == turned.fingerprint()
    assert len({log.fingerprint(), log_of().fingerprint(), renamed.fingerprint(), log.fingerprint(instant("2024-02-01"))}) == 4


@pytest.mark.parametrize("changed", [("7", "zinc", None), ("7", None, None), ("9", "silver", None), ("7", "silver", "2023-12-31")])
def test_the_fingerprint_changes_with_a_fact_known_before_and_not_with_a_later_one(changed):
    silver, until = ("7", "silver", None), instant("2024-02-01")
    log = log_of().join(tiers(silver, valid_from=True))
    assert log.fingerprint(until) != log_of().join(tiers(changed, valid_from=True)).fingerprint(until)
    later = log_of().join(tiers(silver, ("7", "gold", "2024-02-01"), ("9", "gold", "2024-03-01"), valid_from=True))
    assert log.fingerprint(until) == later.fingerprint(until)
    assert log.fingerprint() != later.fingerprint()


def test_the_log_shows_its_lookups():
    log = log_of().join(tiers(("7", "gold")))
    assert repr(log.prepare()) == "EventLog(1 event of 1 customer, 2024-01-01 to 2024-01-01, UTC; tier by customer_id)"
    assert "  clients: tier by customer_id, 1 rows of 1 keys" in str(log.check())
    assert repr(tiers()) == "Lookup('clients', tier by customer_id)"


# Sources --------------------------------------------------------------------------------------------------------------------------------

DATA = {"client": [7, 8], "tier": ["gold", "silver"], "since": ["2024-01-01T00:00:00Z", None]}
KINDS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "polars lazy": pl.LazyFrame,
    "pyarrow": pa.table,
    "duckdb": lambda data: duckdb.connect().from_arrow(pa.table(data)),
}


def of_source(source, **how):
    made = pp.Lookup(source, key={"customer_id": "client"}, columns=["tier"], valid_from="since", **how)
    return log_of(["7", "8"]).join(made)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_gives_the_same_facts(kind):
    log = of_source(KINDS[kind](DATA))
    assert at(log, "2024-01-02") == {"7": "gold", "8": "silver"}
    assert at(log, "2024-01-01") == {"8": "silver"}
    assert log.fingerprint() == of_source(pd.DataFrame(DATA)).fingerprint()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_files_and_globs_are_read(tmp_path, ending):
    for number in (0, 1):
        frame = pd.DataFrame(DATA).iloc[[number]]
        path = tmp_path / f"clients-{number}.{ending}"
        frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    assert at(of_source(tmp_path / f"clients-0.{ending}"), "2024-01-02") == {"7": "gold"}
    assert at(of_source(str(tmp_path / f"clients-*.{ending}")), "2024-01-02") == {"7": "gold", "8": "silver"}


def test_tables_and_queries_are_read_with_an_engine(tmp_path):
    clients = pa.table(DATA)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.from_arrow(clients).create("clients")
        assert at(of_source("clients", engine=database), "2024-01-02") == {"7": "gold", "8": "silver"}
    query = "SELECT * FROM clients WHERE client = 8"
    assert at(of_source(query, engine=tmp_path / "shop.duckdb"), "2024-01-02") == {"8": "silver"}


def test_lines_that_can_t_be_read_go_to_quarantine(tmp_path):
    path = tmp_path / "clients.csv"
    path.write_text("client,tier,since\n7,gold,\n8,silver,,x,y\n", encoding="utf-8")
    log = of_source(path)
    assert at(log, "2024-01-02") == {"7": "gold"}
    assert (problem_of(log, "lookup_unreadable_line").count, log.check().lookups[0].rows) == (1, 2)
    assert log.quarantine().column("code").to_pylist() == ["lookup_unreadable_line"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (5, "not_a_source"),
        ("nowhere.csv", "no_file"),
        ("SELECT * FROM nowhere", "unreadable_query"),
        (pd.DataFrame(), "empty_source"),
        (pd.DataFrame([[1, 2]], columns=["client", "CLIENT"]), "duplicate_columns"),
        (pd.DataFrame({"client": [1, "x"], "tier": "a", "since": None}), "mixed_column"),
    ],
)
def test_sources_that_can_t_be_opened_say_why(source, code):
    log = of_source(source, name="clients")
    assert [problem.code for problem in log.check().problems if problem.severity == "error"] == [code]
    with pytest.raises(DataError, match=code):
        log.prepare()


def test_a_source_that_fails_while_it_is_read_is_named():
    query = "SELECT 7 AS client, 'a' AS tier, CASE WHEN range > 5000 THEN error('torn') ELSE '2024-01-01' END AS since FROM range(9999)"
    (problem,) = [problem for problem in of_source(query, name="clients").check().problems if problem.severity == "error"]
    assert (problem.code, problem.source) == ("unreadable_source", "clients")


# What is wrong with a description ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"key": 5}, {"key": None}, {"key": ()}, {"key": {}}, {"key": {"customer_id": 5}}, {"key": {5: "client"}},
        {"key": {"customer_id": "a", "item_id": "b"}}, {"key": ["customer_id"]}, {"key": {"customer_id": pp.lit("7")}},
        {"key": "event_at"}, {"key": "known_at"}, {"key": "value"}, {"key": "day"}, {"key": {"hour": "h"}},
        {"columns": []}, {"columns": {}}, {"columns": 5}, {"columns": [None]}, {"columns": ["value"]}, {"columns": {"a b": "x"}},
        {"columns": {"9lives": "x"}}, {"columns": {"tier": 5}}, {"columns": {5: "tier"}}, {"columns": ["tier", "Tier"]},
        {"columns": ["hour"]}, {"columns": {"cutoff": "c"}}, {"columns": {"key": "k"}}, {"columns": {"from_us": "k"}},
        {"columns": {"until_us": "k"}}, {"columns": {"customer_id": "k"}}, {"columns": {"source": "s"}},
        {"valid_from": 5}, {"known_at": ["x"]},
    ],
)  # fmt: skip
def test_what_can_t_be_a_lookup_is_refused_with_a_remedy(how):
    with pytest.raises(SpecificationError) as caught:
        pp.Lookup("clients.csv", **{"key": "customer_id", "columns": ["tier"], **how})
    assert all(problem.remedy and problem.source == "lookup" for problem in caught.value.problems)


def test_one_fact_may_be_given_as_its_name():
    assert list(pp.Lookup("clients.csv", key="customer_id", columns="tier").facts) == ["tier"]


def test_all_that_is_wrong_with_a_lookup_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        pp.Lookup("clients.csv", key="event_at", columns={"value": "v", "tier": 3}, valid_from=7, name="clients")
    assert [problem.code for problem in caught.value.problems] == ["lookup_key", "lookup_columns", "bad_mapping", "bad_mapping"]


def test_all_that_does_not_fit_into_the_log_is_said_at_once():
    log = log_of(shop=["s"], dimensions=["shop"], dept=["d"], family=["f"], category=("dept", "family"))
    facts = [
        lookup(key="custmer_id", customer_id=["7"], tier=["gold"], name="a"),
        lookup(["shop", "family", "tier"], customer_id=["7"], name="b"),
        lookup(["band"], key={"tier": "t"}, name="c"),
    ]
    with pytest.raises(SpecificationError) as caught:
        log.join(*facts)
    assert [(problem.source, problem.message, problem.remedy) for problem in caught.value.problems] == [
        ("a", "no column 'custmer_id' in the common model", "did you mean 'customer_id'?"),
        ("b", "'shop' is a dimension of the log already", "give it another name: columns={'another_name': column}"),
        ("b", "'family' is a category level of the log", "give it another name: columns={'another_name': column}"),
        ("b", "'tier' is a fact of a already", "give it another name: columns={'another_name': column}"),
        ("c", "the key 'tier' is a fact of b", "join the two in a query, or in the frame"),
    ]


@pytest.mark.parametrize("wrong", [[], [pd.DataFrame()], ["clients.csv"], [tiers(("7", "a")), None]])
def test_only_lookups_can_be_joined(wrong):
    with pytest.raises(SpecificationError, match="join takes lookups"):
        log_of().join(*wrong)


def test_what_is_wrong_with_the_sources_of_log_and_lookups_is_said_at_once():
    broken = pp.EventLog(pd.DataFrame({"customer_id": ["7"], "event_at": [5]}), event=pp.lit("visit"), name="shop")
    strange = pd.DataFrame({"client": ["7"], "tier": ["a"], "since": [20240101], "list": [[1]]})
    log = broken.join(
        pp.Lookup(
            strange, key="customer_id", columns={"tier": "teir", "list": "list"}, valid_from="since", known_at="loaded", name="clients"
        ),
        pp.Lookup("nowhere.csv", key="customer_id", columns=["band"], name="bands"),
        lookup(["brand"], key="item_id", item_id=["i"], brand=["b"], name="items"),
    )
    found = [(problem.code, problem.source, problem.message) for problem in log.check().problems if problem.severity == "error"]
    assert found == [
        ("mistyped_column", "shop", "event_at is mapped to 'event_at' of type BIGINT, which is not a time"),
        ("missing_column", "clients", "the key customer_id is mapped to 'customer_id', which is not there"),
        ("mistyped_column", "clients", "valid_from is mapped to 'since' of type BIGINT, which is not a time"),
        ("missing_column", "clients", "known_at is mapped to 'loaded', which is not there"),
        ("missing_column", "clients", "tier is mapped to 'teir', which is not there"),
        ("mistyped_column", "clients", "list is mapped to 'list' of type BIGINT[], which is not a text, number or id"),
        ("no_file", "nowhere.csv", "there is no such file"),
        ("lookup_key", "items", "no column 'item_id' in the log"),
    ]
    remedies = {problem.message: problem.remedy for problem in log.check().problems}
    assert remedies["tier is mapped to 'teir', which is not there"] == "did you mean 'tier'?"
    assert "write key={'customer_id': column}" in remedies["the key customer_id is mapped to 'customer_id', which is not there"]
    with pytest.raises(DataError) as caught:
        log.prepare()
    assert [problem.code for problem in caught.value.problems] == [code for code, _, _ in found]


def test_a_key_that_a_source_may_have_that_can_t_be_opened_is_not_called_missing():
    log = pp.EventLog.union(log_of(), pp.EventLog("nowhere.csv")).join(lookup(["brand"], key="item_id", item_id=["i"], brand=["b"]))
    assert [problem.code for problem in log.check().problems if problem.severity == "error"] == ["no_file"]


# What a check says about sound descriptions ----------------------------------------------------------------------------------------------


def test_a_lookup_without_fault_raises_no_problem():
    log = log_of().join(tiers(("7", "gold", "2024-01-01T00:00:00Z"), ("7", "silver", None), valid_from=True))
    assert log.check().codes() == []


def test_without_any_time_the_user_is_told_what_that_means():
    problem = problem_of(log_of().join(tiers(("7", "gold"))), "lookup_without_valid_from")
    assert (problem.severity, problem.source) == ("warning", "clients")
    assert "valid_from=" in problem.remedy
    for times in ({"valid_from": True}, {"known_at": True}):
        assert "lookup_without_valid_from" not in log_of().join(tiers(("7", "gold", None), **times)).check().codes()


@pytest.mark.parametrize(("missing", "severity"), [(1, "note"), (2, "warning")])
def test_keys_that_the_lookup_lacks_are_a_note_and_above_a_tenth_a_warning(missing, severity):
    assert MOST_UNMATCHED == 0.1
    ids = [f"c{number}" for number in range(10)]
    problem = problem_of(log_of(ids).join(tiers(*((key, "gold", None) for key in ids[missing:]), valid_from=True)), "lookup_unmatched")
    assert (problem.count, problem.severity, problem.example) == (missing, severity, "c0")
    assert f"({missing / 10:.1%})" in problem.message


def test_where_no_key_is_met_both_ways_of_writing_are_shown():
    problem = problem_of(log_of(["C-7"]).join(tiers(("c7", "gold"))), "lookup_unmatched")
    assert (problem.severity, problem.example, problem.remedy.split(":")[0]) == ("warning", "C-7; the lookup's: c7", "check the key")


def test_null_keys_of_events_lack_nothing():
    log = log_of(["7", "8"], item_id=["i", None]).join(lookup(["brand"], key="item_id", item_id=["i"], brand=["b"]))
    assert "lookup_unmatched" not in log.check().codes()


def test_rows_that_nothing_tells_apart_are_counted():
    log = log_of().join(tiers(("7", "gold"), ("7", "silver"), ("7", "silver"), ("8", "gold"), ("8", "gold")))
    ambiguous, repeated = problem_of(log, "lookup_ambiguous"), problem_of(log, "lookup_repeated")
    assert (ambiguous.count, ambiguous.severity, repeated.count, repeated.severity) == (1, "warning", 2, "note")
    sound = log_of().join(tiers(("7", "gold", "2024-01-01T00:00:00Z"), ("7", "silver", "2024-01-02T00:00:00Z"), valid_from=True))
    assert sound.check().codes() == []


def test_rows_of_the_same_key_and_time_are_counted():
    rows = [("7", "gold", "2024-01-01T00:00:00Z"), ("7", "silver", "2024-01-01T00:00:00Z"), ("8", "gold", None), ("8", "iron", None)]
    assert problem_of(log_of().join(tiers(*rows, valid_from=True)), "lookup_ambiguous").count == 2


def test_rows_that_begin_in_the_future_are_kept_and_counted():
    soon = datetime.now(UTC) + timedelta(days=30)
    log = log_of().join(tiers(("7", "silver", None), ("7", "gold", soon), valid_from=True))
    assert (at(log, datetime.now(UTC)), at(log, soon + TICK)) == ({"7": "silver"}, {"7": "gold"})
    assert (problem_of(log, "lookup_pending").count, problem_of(log, "lookup_pending").severity) == (1, "note")


def test_times_without_an_offset_are_told():
    assert problem_of(log_of().join(tiers(("7", "a", "2024-01-01"), ("8", "a", None), valid_from=True)), "naive_times").count == 1


@pytest.mark.parametrize("rows", [[], [(None, "gold"), (" ", "gold")]])
def test_a_lookup_without_a_usable_row_is_a_warning_and_its_facts_are_null(rows):
    log = log_of().join(tiers(*rows))
    assert (problem_of(log, "empty_lookup").severity, log.check().ok, at(log, "2024-01-01")) == ("warning", True, {})
    assert log.values_of("tier", 5) == ()
    assert "lookup_without_valid_from" not in log.check().codes()


def test_a_fact_that_is_null_throughout_is_a_warning():
    log = log_of().join(lookup(["tier", "band"], customer_id=["7"], tier=[None], band=["a"]))
    problem = problem_of(log, "lookup_null_column")
    assert (problem.severity, problem.message) == ("warning", "tier is null in every row")


UNUSABLE_ROWS = {
    "lookup_null_key": (None, "a", 1.0, None, None),
    "lookup_blank_key": (" \u3000", "a", 1.0, None, None),
    "lookup_unparsable_valid_from": ("7", "a", 1.0, "soon", None),
    "lookup_distant_valid_from": ("7", "a", 1.0, "9999-12-31", None),
    "lookup_unparsable_known_at": ("7", "a", 1.0, None, "soon"),
    "lookup_future_known_at": ("7", "a", 1.0, None, "2399-01-01"),
    "lookup_unparsable_fact": ("7", "a", float("inf"), None, None),
}


def test_rows_that_can_t_be_used_are_counted_and_kept_with_their_reason():
    names = ["customer_id", "tier", "points", "since", "loaded"]
    frame = pd.DataFrame([*UNUSABLE_ROWS.values(), ("8", "gold", 2.0, "2024-01-01", "2024-01-02")], columns=names)
    log = log_of(["8", "8"]).join(
        pp.Lookup(frame, key="customer_id", columns=["tier", "points"], valid_from="since", known_at="loaded", name="clients")
    )
    report = log.check()
    assert (report.rows, report.usable, report.quarantined) == (2, 2, 0)
    assert (report.lookups[0].rows, report.lookups[0].usable) == (8, 1)
    assert list(report.lookups[0].unusable) == list(UNUSABLE_ROWS)
    for code in UNUSABLE_ROWS:
        found = problem_of(log, code)
        assert (found.count, found.severity, found.source) == (1, "warning", "clients")
        assert found.example.startswith('{"customer_id":')
        assert found.remedy
    quarantine = log.quarantine()
    assert quarantine.column_names == ["source", "code", "reason", "row"]
    assert sorted(quarantine.column("code").to_pylist()) == sorted(UNUSABLE_ROWS)
    assert set(quarantine.column("source").to_pylist()) == {"clients"}
    assert set(quarantine.column("reason").to_pylist()) == {UNUSABLE_FACTS[code][0] for code in UNUSABLE_ROWS}
    assert at(log, "2024-01-03") == {"8": ("gold", Decimal(2))}


def test_a_key_that_is_no_number_can_t_meet_a_column_of_numbers():
    log = log_of(store=[5], dimensions=["store"]).join(lookup(key="store", store=["5", "x", None], tier=["a", "b", "c"]))
    assert (problem_of(log, "lookup_unparsable_key").count, problem_of(log, "lookup_null_key").count) == (1, 1)


def test_nothing_of_a_lookup_is_lost():
    rows = [(key, tier, when) for key in ("7", "8", None) for tier in ("a", None) for when in (None, "2024-01-01", "soon")]
    report = log_of().join(tiers(*rows, valid_from=True)).check()
    facts = report.lookups[0]
    assert facts.usable + sum(count for count, _ in facts.unusable.values()) == facts.rows == len(rows)


def test_problems_of_lookups_are_told_even_if_no_event_can_be_used():
    report = log_of([None]).join(tiers((None, "gold"))).check()
    assert report.codes() == ["null_customer_id", "lookup_null_key", "empty_lookup", "empty_log"]


def test_a_large_lookup_stays_in_the_engine(monkeypatch):
    """Only counts, reasons and examples come into Python, however many rows there are."""
    frame = pa.table({"customer_id": pa.array(range(50_000)), "tier": pa.array(["a", "b"] * 25_000)})
    log = log_of().join(pp.Lookup(frame, key="customer_id", columns=["tier"]))
    fetched = []
    original = type(log.engine).rows
    monkeypatch.setattr(type(log.engine), "rows", lambda engine, step: fetched.append(original(engine, step)) or fetched[-1])
    assert log.check().ok
    assert isinstance(log._lookup_intakes[0][0], LookupIntake)
    assert max(map(len, fetched)) < 20
