"""What an event log makes of frames: ids, times, numbers, names, unions."""

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from persopredict.attributes import to_arrow
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, select
from persopredict.errors import DataError, SpecificationError
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.snapshots import snapshots
from persopredict.sources import constant

VISIT = constant("visit")


def rows(log, *columns):
    query = select({name: col(name) for name in columns}, log.table)
    return sorted(log.engine.rows(Step("rows", query)), key=repr)


def log_of(ids=("a",), at="2024-01-01", **columns):
    mapping = {name: columns.pop(name) for name in ("timezone", "dimensions", "category", "observed") if name in columns}
    data = {"customer_id": ids, "event_at": [at] * len(ids) if isinstance(at, str) else at, **columns}
    return EventLog(pd.DataFrame(data), event=VISIT, **mapping)


def us(*parts, tz=UTC):
    return round(datetime(*parts, tzinfo=tz).timestamp() * 1_000_000)


# Ids ----------------------------------------------------------------------------------------------------------------------------------

AN_ID = uuid.UUID("88c96ec3-4b4d-4d0b-b2a7-7b8cca60f74a")


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([17], "17"),
        ([17.0, None], "17"),
        ([-0.0], "0"),
        ([1.5], "1.5"),
        ([2**63 - 1], "9223372036854775807"),
        ([1e20], "100000000000000000000"),
        ([Decimal("17.00")], "17"),
        ([AN_ID], str(AN_ID)),
        (['Ñandú 顧客 😀 O\'Hara "x"'], 'Ñandú 顧客 😀 O\'Hara "x"'),
        ([" a "], " a "),
        (pd.Categorical(["k"]), "k"),
        (pd.Categorical([7]), "7"),
    ],
)
def test_ids_become_canonical_text(ids, text):
    assert (text,) in rows(log_of(ids), "customer_id")


def test_unsigned_and_enumerated_ids_become_canonical_text():
    table = pa.table({"customer_id": pa.array([2**64 - 1], pa.uint64()), "event_at": ["2024-01-01"]})
    assert rows(EventLog(table, event=VISIT), "customer_id") == [("18446744073709551615",)]
    frame = pl.DataFrame({"customer_id": pl.Series(["x"], dtype=pl.Enum(["x", "y"])), "event_at": [date(2024, 1, 1)]})
    assert rows(EventLog(frame, event=VISIT), "customer_id") == [("x",)]


@pytest.mark.parametrize("ids", [[["a", "b"]], [{"k": 1}], [b"\x00\xff"]])
def test_nested_and_binary_columns_are_refused_as_ids(ids):
    log = EventLog(pa.table({"customer_id": pa.array(ids), "event_at": ["2024-01-01"]}), event=VISIT)
    assert [(problem.code, problem.severity) for problem in log.check().problems] == [("mistyped_column", "error")]
    with pytest.raises(DataError, match="mistyped_column"):
        log.prepare()


# Times --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024-01-01", us(2024, 1, 1, tz=ZoneInfo("Europe/Madrid"))),
        (" 2024-01-01 10:00 ", us(2024, 1, 1, 9)),
        ("2024-01-01T10:00:00Z", us(2024, 1, 1, 10)),
        ("2024-01-01 10:00:00+05:30", us(2024, 1, 1, 4, 30)),
        ("2024-07-01T10:00:00.123456", us(2024, 7, 1, 8, 0, 0, 123456)),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1901-06-01T00:00:00Z", us(1901, 6, 1)),
    ],
)
def test_written_times_are_read_with_their_offset_or_in_the_log_s_zone(written, expected):
    assert rows(log_of(at=written, timezone="Europe/Madrid"), "event_us") == [(expected,)]


def test_offsets_may_differ_from_row_to_row_and_naive_rows_are_counted():
    log = log_of(["a", "b", "c"], ["2024-01-01 10:00", "2024-01-01T10:00:00Z", "2024-01-01 10:00:00-05"], timezone="Asia/Kolkata")
    assert rows(log, "customer_id", "event_us") == [("a", us(2024, 1, 1, 4, 30)), ("b", us(2024, 1, 1, 10)), ("c", us(2024, 1, 1, 15))]
    (problem,) = log.check().problems
    assert (problem.code, problem.count) == ("naive_times", 1)
    assert "Asia/Kolkata" in problem.message


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_pandas_times_of_every_unit_are_the_same_instants(unit):
    times = pd.to_datetime(["2024-07-01 10:00"]).as_unit(unit)
    assert rows(log_of(at=times, timezone="America/New_York"), "event_us") == [(us(2024, 7, 1, 14),)]
    aware = times.tz_localize("Asia/Tokyo")
    assert rows(log_of(at=aware, timezone="America/New_York"), "event_us") == [(us(2024, 7, 1, 1),)]


def test_dates_without_hours_are_midnight_of_the_log_s_zone():
    log = log_of(at=[date(2024, 7, 1)], timezone="America/New_York")
    assert rows(log, "event_us", "hour", "weekday") == [(us(2024, 7, 1, 4), 0, 1)]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Madrid", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
def test_naive_timestamps_are_the_instants_that_the_zone_s_clock_shows(zone):
    local = pd.date_range("2019-01-01 00:07", "2023-12-31", freq="83min")
    keys = np.arange(len(local))
    log = log_of(keys, local, timezone=zone)
    found = dict(rows(log, "customer_id", "event_us"))
    clock = ZoneInfo(zone)
    back = [datetime.fromtimestamp(found[str(key)] // 1_000_000, clock).replace(tzinfo=None) for key in keys]
    # What the clock never showed is moved forward, which only a zone with changes can do, and only at those.
    moved = [later - asked for later, asked in zip(back, local.to_pydatetime(), strict=True) if later != asked]
    assert all(timedelta(0) < distance <= timedelta(hours=1) for distance in moved)
    assert len(moved) <= 10


@pytest.mark.parametrize("kind", [str, pd.Timestamp])
def test_skipped_local_times_move_forward_and_of_repeated_ones_the_later_counts(kind):
    written = ["2024-03-10 02:30:00", "2024-11-03 01:30:00"]
    log = log_of(["skipped", "repeated"], [kind(text) for text in written], timezone="America/New_York")
    assert rows(log, "customer_id", "event_us") == [("repeated", us(2024, 11, 3, 6, 30)), ("skipped", us(2024, 3, 10, 7, 30))]


@pytest.mark.parametrize(
    ("at", "code"),
    [
        ("soon", "unparsable_event_at"),
        ("2024-02-30", "unparsable_event_at"),
        ("infinity", "unparsable_event_at"),
        ("0001-01-01", "ancient_event_at"),
        ("1899-12-30", "ancient_event_at"),
        ("9999-12-31", "future_event_at"),
        ("290000-01-01", "future_event_at"),
        (None, "null_event_at"),
        (pd.Timestamp("1753-01-01"), "ancient_event_at"),
        (pd.Timestamp("9999-12-31"), "future_event_at"),
        (pd.NaT, "null_event_at"),
        (datetime(9999, 12, 31, tzinfo=UTC), "future_event_at"),
    ],
)
def test_times_that_can_t_be_used_go_to_quarantine(at, code):
    good = pd.Timestamp("2024-01-01") if isinstance(at, datetime) else "2024-01-01"
    good = good.tz_localize("UTC") if getattr(at, "tzinfo", None) else good
    log = log_of(["good", "bad"], [good, at], timezone="America/New_York")
    assert rows(log, "customer_id") == [("good",)]
    assert log.quarantine().column("code").to_pylist() == [code]


def test_infinite_timestamps_go_to_quarantine():
    connection = duckdb.connect()
    query = "SELECT 1 AS customer_id, TIMESTAMP 'infinity' AS event_at UNION ALL SELECT 2, TIMESTAMP '2024-01-01'"
    log = EventLog(connection.sql(query), event=VISIT, timezone="Europe/Madrid")
    assert rows(log, "customer_id") == [("2",)]
    assert log.check().codes() == ["unparsable_event_at", "naive_times"]


def test_times_that_mix_offsets_in_one_pandas_column_are_refused_not_guessed():
    at = np.array([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5)))], dtype=object)
    assert log_of(["a", "b"], at).check().codes() == ["mixed_offsets"]


def test_known_at_is_read_like_event_at_and_must_not_lie_ahead():
    known = [None, "2024-01-05", "9999-01-01", "soon"]
    log = log_of(["a", "b", "c", "d"], known_at=known)
    assert rows(log, "customer_id", "known_us") == [("a", None), ("b", us(2024, 1, 5))]
    assert log.quarantine().column("code").to_pylist() == ["future_known_at", "unparsable_known_at"]
    assert log.late


# Numbers ------------------------------------------------------------------------------------------------------------------------------


def test_numbers_written_as_text_are_read_exactly_or_put_aside():
    log = log_of(["a", "b", "c", "d", "e"], value=["1234.5", "1,234.5", "12 €", " 7 ", None])
    assert rows(log, "customer_id", "value") == [("a", Decimal("1234.500000")), ("d", Decimal("7.000000")), ("e", None)]
    assert log.quarantine().column("code").to_pylist() == ["unparsable_value"] * 2


def test_nan_is_null_and_infinity_is_no_number():
    frame = pl.DataFrame({"customer_id": ["a", "b", "c"], "event_at": ["2024-01-01"] * 3, "value": [float("nan"), float("inf"), 0.1]})
    log = EventLog(frame, event=VISIT)
    assert rows(log, "customer_id", "value") == [("a", None), ("c", Decimal("0.100000"))]
    assert log.check().codes() == ["unparsable_value", "naive_times"]


def test_a_numeric_dimension_beyond_the_range_is_put_aside_not_silently_nulled():
    log = log_of(["a", "b"], shop=[10**15, 5], dimensions=["shop"])
    assert rows(log, "customer_id", "shop") == [("b", Decimal("5.000000"))]
    assert log.check().codes() == ["unparsable_dimension", "naive_times"]


def test_a_column_without_values_is_null_whatever_its_type():
    table = pa.table({"customer_id": ["a"], "event_at": ["2024-01-01"], "value": pa.nulls(1), "channel": pa.nulls(1)})
    assert rows(EventLog(table, event=VISIT), "value", "channel") == [(None, None)]


# Names --------------------------------------------------------------------------------------------------------------------------------


def test_columns_may_have_quotes_spaces_keywords_and_capitals():
    frame = pd.DataFrame({'the "client"': ["a"], "select": ["2024-01-01"], "Order By": ["visit"], "source_0": [3.5], "ÜBER": ["x"]})
    log = EventLog(frame, customer_id='the "client"', event_at="select", event="Order By", value="source_0", dimensions={"uber": "ÜBER"})
    assert rows(log, "customer_id", "event", "value", "uber") == [("a", "visit", Decimal("3.500000"), "x")]


def test_one_column_may_be_mapped_twice_and_names_may_be_swapped():
    frame = pd.DataFrame({"event": ["a"], "customer_id": ["visit"], "event_at": ["2024-01-01"]})
    log = EventLog(frame, customer_id="event", event="customer_id", channel="customer_id")
    assert rows(log, "customer_id", "event", "channel") == [("a", "visit", "visit")]


RESERVED = ["customer_id", "value", "category", "day", "hour", "source", "problem", "event_us", "known_us", "cutoff"]


@pytest.mark.parametrize("name", [*RESERVED, "Store", "a b", "", "9lives", "é"])
def test_dimensions_can_t_take_names_that_are_ours_or_can_t_be_written(name):
    with pytest.raises(SpecificationError, match="dimension_name"):
        EventLog("x.csv", dimensions={name: "column"})


def test_what_is_wrong_with_a_description_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        EventLog(
            "x.csv", customer_id=5, category=("Channel", "a b", "A_b"), dimensions={"source": "s"}, observed=("2024-02-01", "2024-01-01")
        )
    assert [problem.code for problem in caught.value.problems] == [
        "category_name", "category_name", "dimension_name", "bad_mapping", "bad_observed",
    ]  # fmt: skip


@pytest.mark.parametrize("observed", [("2024-01-01", "2024-01-01"), ("2024-01-02", "2024-01-01"), "2024-01-01", ("2024-01-01",)])
def test_observed_is_a_start_and_a_later_end(observed):
    with pytest.raises(SpecificationError, match="bad_observed"):
        EventLog("x.csv", observed=observed)


def test_category_levels_keep_their_names_and_the_coarsest_is_category():
    log = log_of(Dept=["food"], sub=["fruit"], category=("Dept", "sub"))
    assert log.categories == ("category", "dept", "sub")
    assert rows(log, "category", "dept", "sub") == [("food", "food", "fruit")]


def test_several_missing_columns_are_named_with_the_nearest_ones():
    log = EventLog(
        pd.DataFrame({"client": ["a"], "sold_on": ["2024-01-01"]}), customer_id="clinet", event_at="sold_at", event=VISIT, value="Client"
    )
    found = {problem.message: problem.remedy for problem in log.check().problems}
    assert found == {
        "customer_id is mapped to 'clinet', which is not there": "did you mean 'client'?",
        "event_at is mapped to 'sold_at', which is not there": "did you mean 'sold_on'?",
        "value is mapped to 'Client', which is not there": "did you mean 'client'?",
    }


# Kinds of frames ----------------------------------------------------------------------------------------------------------------------

DATA = {"customer_id": ["a", "b"], "event_at": ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"], "event": ["visit", "buy"]}
KINDS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "polars lazy": pl.LazyFrame,
    "pyarrow": pa.table,
    "duckdb": lambda data: duckdb.connect().from_arrow(pa.table(data)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_gives_the_same_log(kind):
    log = EventLog(KINDS[kind](DATA))
    assert rows(log, "customer_id", "event_us", "event") == [("a", us(2024, 1, 1), "visit"), ("b", us(2024, 1, 2), "buy")]
    assert log.fingerprint() == EventLog(pd.DataFrame(DATA)).fingerprint()
    assert log.check().codes() == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame), ("pyarrow", pa.Table), ("duckdb", pd.DataFrame)]
)
def test_answers_come_as_the_log_s_own_kind_of_frame(kind, expected):
    answer = EventLog(KINDS[kind](DATA)).native(pd.DataFrame({"customer_id": ["a"]}), to_arrow)
    assert isinstance(answer, expected)


@pytest.mark.parametrize("data", [5, None, [1, 2], {"customer_id": ["a"]}, pd.Series([1])])
def test_what_is_no_source_is_refused_with_the_kinds_that_are(data):
    (problem,) = EventLog(data, event=VISIT).check().problems
    assert problem.code == "not_a_source"
    assert "pandas, Polars or PyArrow" in problem.remedy


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pd.DataFrame(), "empty_source"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "duplicate_columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "A"]), "duplicate_columns"),
        (pd.DataFrame({"customer_id": [1, "x"], "event_at": ["2024-01-01"] * 2}), "mixed_column"),
        (pd.DataFrame({"customer_id": pd.Series([10**24], dtype=object), "event_at": ["2024-01-01"]}), "mixed_column"),
        (pa.table({"half": pa.array([np.float16(1)])}), "unreadable_source"),
    ],
)
def test_frames_that_can_t_be_read_say_why(frame, code):
    assert EventLog(frame, event=VISIT).check().codes() == [code]


# Unions -------------------------------------------------------------------------------------------------------------------------------


def test_a_union_fills_missing_columns_with_null_and_keeps_numbers_numbers():
    log = EventLog.union(log_of(["a"], shop=[7], dimensions=["shop"]), log_of(["b"], value=[2.5]), log_of(["c"], at=[date(2024, 1, 1)]))
    assert rows(log, "customer_id", "shop", "value", "source") == [
        ("a", Decimal("7.000000"), None, "events_1"),
        ("b", None, Decimal("2.500000"), "events_2"),
        ("c", None, None, "events_3"),
    ]
    snap = snapshots(log, ["2024-02-01"], [Feature("sum", "shop", fallback=0)]).to_pandas()
    assert snap.iloc[:, 2].tolist() == [7.0, 0.0, 0.0]


def test_a_dimension_that_is_text_in_one_source_is_text_in_all():
    log = EventLog.union(log_of(["a"], shop=[7], dimensions=["shop"]), log_of(["b"], shop=["x7"], dimensions=["shop"]))
    assert rows(log, "customer_id", "shop") == [("a", "7"), ("b", "x7")]
    assert "shop" not in log.numeric


def test_logs_of_different_time_zones_can_t_be_united():
    with pytest.raises(SpecificationError, match="Asia/Tokyo, UTC"):
        EventLog.union(log_of(), log_of(timezone="Asia/Tokyo"))


def test_event_ids_are_unique_within_a_source_only_and_the_first_known_counts():
    ids = {"event_id": ["1", "1", "2", None, None], "known_at": ["2024-01-03", "2024-01-02", None, None, None], "value": [3, 2, 1, 0, 0]}
    one = log_of(["a"] * 5, **ids)
    assert rows(one, "event_id", "value") == [("1", 2), ("2", 1), (None, 0), (None, 0)]
    assert sum(row[2] for row in EventLog.union(one, log_of(["a"], event_id=["1"])).catalog) == 5


def test_the_fingerprint_knows_the_rows_and_not_their_order():
    forward, backward = log_of(["a", "b"], value=[1, 2]), log_of(["b", "a"], value=[2, 1])
    assert forward.fingerprint() == backward.fingerprint() != log_of(["a", "b"], value=[1, 3]).fingerprint()


def test_a_log_can_be_limited_in_memory_and_threads():
    log = log_of()
    limited = log.limited(memory="512MB", threads=1)
    assert limited.customers == log.customers
    with pytest.raises(SpecificationError, match="memory_limit") as refused:
        log.limited(memory="plenty", threads=0)
    assert "threads" in str(refused.value)
