"""One customer's events in NumPy hold what the log's intake would have read, whatever they come in; what it would not read is refused."""

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from persopredict import EventLog, lit
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, select
from persopredict.errors import DataError, SpecificationError
from persopredict.features.columns import Columns

QUICK = settings(deadline=None, derandomize=True, max_examples=50, database=None)
UTC_ZONE = ZoneInfo("UTC")
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Half-hour changes, a midnight that is skipped, a day that never was, a Ramadan, a fixed odd offset, and seconds of local mean time.
ZONES = (
    "UTC", "Europe/Madrid", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
    "Asia/Kathmandu", "America/Sao_Paulo", "Antarctica/Troll", "Africa/Monrovia",
)  # fmt: skip


def us(moment):
    return (moment - EPOCH) // MICROSECOND


def columns_of(event_at=(), *, zone=UTC_ZONE, numeric=(), reads=(), **columns):
    length = max((len(values) for values in columns.values()), default=0)
    return Columns.of({"event_at": event_at if len(event_at) else [0] * length, **columns}, zone=zone, numeric=numeric, reads=reads)


def codes_of(error):
    return [problem.code for problem in error.problems]


def log_rows(frame, *names, zone="UTC"):
    """What the log makes of a frame, in the order of the column `place`."""
    log = EventLog(frame.assign(customer_id="c", place=range(len(frame))), event=lit("visit"), dimensions=["place"], timezone=zone)
    query = select({name: col(name) for name in ("place", *names)}, log.table)
    return [row[1] if len(names) == 1 else row[1:] for row in sorted(log.engine.rows(Step("rows", query)))]


# Numbers ---------------------------------------------------------------------------------------------------------------------------

amounts = st.one_of(
    st.floats(-999999999999, 999999999999),
    st.integers(-(10**13), 10**13).map(lambda half: (2 * half + 1) * 5e-7),
    st.decimals(-(10**9), 10**9, places=2).map(float),
    st.integers(-(10**12) + 1, 10**12 - 1).map(float),
)


@QUICK
@given(st.lists(amounts, min_size=1, max_size=50))
@example(
    [0.0, -0.0, 5e-7, -5e-7, 1.5e-6, 2.5e-6, 4.9999999e-7, 0.49999999999999994e-6, 4503599627.370497, 8999999999.000001, 999999999999.9999]
)
def test_floats_are_rounded_as_duckdb_rounds_them(values):
    with duckdb.connect() as connection:
        cast = connection.execute("SELECT CAST(x AS DECIMAL(18, 6)) FROM (SELECT unnest(?::DOUBLE[]) AS x)", [values]).fetchall()
    expected = [int(row[0].scaleb(6)) for row in cast]
    for given_as in (values, np.array(values), np.array(values, object), pd.Series(values)):
        assert columns_of(value=given_as).number("value").units.tolist() == expected


@QUICK
@given(
    st.lists(st.one_of(st.none(), st.decimals(-999999999999, 999999999999, places=6), st.integers(-(10**12) + 1, 10**12 - 1)), max_size=30)
)
def test_decimals_and_integers_are_exact(values):
    found = columns_of(value=values).number("value")
    valid = [True] * len(values) if found.valid is None else found.valid.tolist()
    assert [Decimal(unit).scaleb(-6) if known else None for unit, known in zip(found.units.tolist(), valid, strict=True)] == values
    assert (found.valid is None) == (None not in values)


@pytest.mark.parametrize(
    ("text", "units"), [("1.0000005", 1000001), ("-1.0000005", -1000001), ("1.0000004999", 1000000), ("1E-50", 0), ("-2E+11", -2 * 10**17)]
)
def test_further_decimals_are_rounded_half_away_from_zero(text, units):
    assert columns_of(value=[Decimal(text)]).number("value").units.tolist() == [units]


def test_integers_among_floats_stay_exact():
    values = [999_999_999_999, 0.5, None, 123_456_789_012, True]
    assert columns_of(value=values).number("value").units.tolist() == [
        999_999_999_999_000_000,
        500_000,
        0,
        123_456_789_012_000_000,
        1_000_000,
    ]


@pytest.mark.parametrize("null", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, Decimal("nan")])
def test_nulls_are_nulls_however_they_are_written(null):
    columns = columns_of(value=[1, null, 2.5], channel=["a", null, "b"])
    number, text = columns.number("value"), columns.text("channel")
    assert (number.units.tolist(), number.valid.tolist()) == ([1_000_000, 0, 2_500_000], [True, False, True])
    assert (text.codes.tolist(), text.valid.tolist(), list(text.index)) == ([0, -1, 1], [True, False, True], ["a", "b"])


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 0, 3], np.int8), np.array([1, 0, 3], np.uint64), np.array([1, 0, 3], np.float32), (1, 0, 3), pa.array([1, 0, 3]),
        pd.array([1, 0, 3], dtype="Int64"), [np.int64(1), np.float64(0), 3], [Decimal(1), 0, 3.0], [True, False, 3],
    ],
)  # fmt: skip
def test_numbers_come_in_many_containers(values):
    found = columns_of(points=values, numeric=["points"]).number("points")
    assert (found.units.tolist(), found.scale, found.valid) == ([1_000_000, 0, 3_000_000], 1_000_000, None)


def test_masked_entries_are_null():
    events = {"event_at": [0, 1], "value": np.ma.array([1.5, 2.5], mask=[False, True]), "item_id": np.ma.array([7, 8], mask=[True, False])}
    columns = Columns.of(events, zone=UTC_ZONE)
    assert columns.valid("value").tolist() == [True, False]
    assert columns.text("item_id").codes.tolist() == [-1, 0]


@pytest.mark.parametrize(
    "values",
    [[1e12], [float("inf")], [-(10**12)], [10**400], [Decimal("1E+999999999")], [Decimal("-Infinity")], [Decimal("999999999999.9999995")],
     np.array([1e300]), np.array([10**12]), np.array([2**64 - 1], np.uint64), [1, 10**30, 2.5]],
)  # fmt: skip
def test_numbers_beyond_18_digits_are_refused(values):
    with pytest.raises(DataError, match="18 digits") as refused:
        columns_of(value=values, reads=["value"])
    assert [problem.count for problem in refused.value.problems] == [1]


@pytest.mark.parametrize("values", [["1.5"], [b"1"], [[1]], [EPOCH], np.array(["1"]), np.array([1], "m8[ns]"), [np.timedelta64(1, "s")]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(DataError, match="value needs numbers and holds"):
        columns_of(value=values, reads=["value"])


# Texts -----------------------------------------------------------------------------------------------------------------------------

AN_ID = uuid.UUID("88c96ec3-4b4d-4d0b-b2a7-7b8cca60f74a")


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "", " a ", "ø", "購入 ☕", "\U0001f600", None, "a"],
        [17, -4, 2**53 + 1, 17],
        [17.0, None, -0.0, float("nan")],
        [1.5, 1e20, 1e-7, -2.25, 123456789.125, 1e22, float("inf"), 2.0],
        np.array([0.1, 2.5e-6, 7.0], np.float32),
        np.array([2**64 - 1, 3], np.uint64),
        [AN_ID, AN_ID],
        [Decimal("17.00"), Decimal("-3"), None],
    ],
)
def test_ids_become_the_text_that_they_have_in_the_log(ids):
    found = columns_of(item_id=ids).text("item_id")
    texts = [*found.index, None]
    frame = pd.DataFrame({"event_at": datetime(2024, 1, 1, tzinfo=UTC), "item_id": ids})
    assert [texts[code] for code in found.codes] == log_rows(frame, "item_id")


def test_the_same_id_in_several_spellings_is_one():
    found = columns_of(item_id=[7, 7.0, "7", np.int64(7), Decimal("7.0"), None]).text("item_id")
    assert (found.codes.tolist(), dict(found.index)) == ([0, 0, 0, 0, 0, -1], {"7": 0})


def test_truth_values_become_text():
    assert list(columns_of(flag=[True, False, None]).text("flag").index) == ["true", "false"]


@pytest.mark.parametrize("values", [[b"a"], [["a"]], [{"a": 1}], [EPOCH], [Decimal("1.5")], np.array([1], "M8[ns]")])
def test_what_is_no_text_is_refused(values):
    with pytest.raises(DataError, match="channel needs text and holds"):
        columns_of(channel=values, reads=["channel"])


def test_a_column_is_text_or_numbers():
    columns = columns_of(channel=["a"], value=[1])
    with pytest.raises(SpecificationError, match="'channel' holds text"):
        columns.number("channel")
    with pytest.raises(SpecificationError, match="'value' holds numbers"):
        columns.text("value")


# Time ------------------------------------------------------------------------------------------------------------------------------

moments = st.datetimes(datetime(1900, 1, 3), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


@QUICK
@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(ZONES))
def test_an_instant_is_the_same_however_it_is_written(instants, name):
    zone, expected = ZoneInfo(name), [us(moment) for moment in instants]
    bare = np.array([moment.replace(tzinfo=None) for moment in instants], "M8[us]")
    spellings = [
        instants,
        [moment.astimezone(timezone(timedelta(hours=5, minutes=45))) for moment in instants],
        [moment.astimezone(ZoneInfo("Europe/Madrid")) for moment in instants],
        [pd.Timestamp(moment) for moment in instants],
        pd.Series(instants),
        pa.array(instants, pa.timestamp("us", tz="UTC")),
        [moment.isoformat() for moment in instants],
        [f" {moment.isoformat()} " for moment in instants],
        bare,
        list(bare),
        expected,
        np.array(expected),
        np.array(instants, object),
        [moment if moment.second % 2 else us(moment) for moment in instants],
    ]
    for written in spellings:
        assert Columns.of({"event_at": written}, zone=zone).event_us.tolist() == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetime64_of_every_unit_is_utc(unit):
    written = np.array(["2024-07-01T10:00:01", "1969-12-31T23:59:59"], f"M8[{unit}]")
    found = Columns.of({"event_at": written}, zone=ZoneInfo("America/New_York"))
    assert found.event_us.tolist() == [us(datetime(2024, 7, 1, 10, 0, 1, tzinfo=UTC)), -1_000_000]


def walls_around_changes(name):
    """Clocks of a zone an hour around everything that happens to its offset in three years, and the first microseconds after."""
    zone, found = ZoneInfo(name), []
    for hour in range(3 * 8766):
        before, after = (datetime(2010, 12, 1, tzinfo=UTC) + timedelta(hours=hours) for hours in (hour, hour + 1))
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            for moment in (before, after):
                wall = moment.astimezone(zone).replace(tzinfo=None)
                found += [wall + timedelta(minutes=minutes) for minutes in range(-120, 121, 15)] + [wall - MICROSECOND]
    return found


@pytest.mark.parametrize(
    "name", ["UTC", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
)
def test_times_without_offset_are_read_as_the_log_reads_them(name):
    walls = walls_around_changes(name) or [datetime(2024, 1, 1, 12)]
    expected = log_rows(pd.DataFrame({"event_at": walls}), "event_us", zone=name)
    spellings = [walls, [pd.Timestamp(wall) for wall in walls], pd.Series(walls), [wall.isoformat() for wall in walls]]
    for written in spellings:
        assert Columns.of({"event_at": written}, zone=ZoneInfo(name)).event_us.tolist() == expected


def test_a_date_is_its_midnight():
    zone = ZoneInfo("America/New_York")
    assert columns_of([date(2024, 7, 1), "2024-01-01"], zone=zone).event_us.tolist() == [
        us(datetime(2024, 7, 1, tzinfo=zone)),
        us(datetime(2024, 1, 1, tzinfo=zone)),
    ]


@QUICK
@given(st.sampled_from(ZONES), st.lists(moments, max_size=30))
def test_the_calendar_is_the_zones_own(name, instants):
    zone = ZoneInfo(name)
    columns = columns_of(instants, zone=zone)
    local = [moment.astimezone(zone) for moment in instants]
    assert columns.day.tolist() == [(moment.date() - date(1970, 1, 1)).days for moment in local]
    assert columns.hour.tolist() == [moment.hour for moment in local]
    assert columns.weekday.tolist() == [moment.isoweekday() for moment in local]
    assert [columns.number(part).scale for part in ("day", "hour", "weekday")] == [1, 1, 1]


@pytest.mark.parametrize("name", ZONES)
def test_the_calendar_changes_with_the_offset_to_the_microsecond(name):
    zone = ZoneInfo(name)
    instants = [datetime(2007, 1, 1, tzinfo=UTC) + timedelta(hours=hours) for hours in range(10 * 8766)]
    offsets = [moment.astimezone(zone).utcoffset() for moment in instants]
    changes = [later for later, before, after in zip(instants[1:], offsets, offsets[1:], strict=False) if before != after]
    steps = [timedelta(minutes=30) * step + tick for step in (-2, -1, 0, 1) for tick in (-MICROSECOND, timedelta(0))]
    around = [moment + step for moment in (*changes, EPOCH) for step in steps]
    columns = columns_of(around, zone=zone)
    local = [moment.astimezone(zone) for moment in around]
    assert columns.hour.tolist() == [moment.hour for moment in local]
    assert columns.day.tolist() == [(moment.date() - date(1970, 1, 1)).days for moment in local]


@pytest.mark.parametrize("name", ["America/Santiago", "Australia/Lord_Howe", "Pacific/Apia"])
def test_the_calendar_is_the_logs(name):
    instants = [datetime(2011, 12, 25, tzinfo=UTC) + number * timedelta(hours=7, minutes=13) for number in range(2000)]
    columns = columns_of(instants, zone=ZoneInfo(name))
    found = list(zip(columns.day.tolist(), columns.hour.tolist(), columns.weekday.tolist(), strict=True))
    assert found == log_rows(pd.DataFrame({"event_at": instants}), "day", "hour", "weekday", zone=name)


def test_the_ends_of_the_calendar_have_a_calendar():
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    columns = columns_of(ends)
    assert (columns.day.tolist(), columns.hour.tolist(), columns.weekday.tolist()) == ([-719162, 2932896], [0, 23], [1, 5])


def test_an_event_is_known_when_it_happens_unless_it_says_later():
    at = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days) for days in range(4)]
    late = [None, at[1] - timedelta(days=3), at[2] + MICROSECOND, at[3]]
    expected = [us(at[0]), us(at[1]), us(at[2]) + 1, us(at[3])]
    for known_at in (
        late,
        pd.Series(late),
        np.array([None if moment is None else moment.replace(tzinfo=None) for moment in late], "M8[us]"),
    ):
        columns = Columns.of({"event_at": at, "known_at": known_at}, zone=UTC_ZONE)
        assert columns.known_us.tolist() == expected
    assert Columns.of({"event_at": at}, zone=UTC_ZONE).known_us.tolist() == [us(moment) for moment in at]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([None], "null_event_at"),
        ([pd.NaT, EPOCH], "null_event_at"),
        (np.array(["NaT", "2024-01-01"], "M8[us]"), "null_event_at"),
        ([float("nan")], "null_event_at"),
        (["yesterday", "2024-01-01"], "unparsable_event_at"),
        ([1.5], "mistyped_column"),
        (np.array([1.5e15]), "mistyped_column"),
        ([True], "mistyped_column"),
        ([timedelta(1)], "mistyped_column"),
        ([{"at": 1}], "mistyped_column"),
        ([1_704_067_200_000_000_000], "instant_out_of_range"),
        ([2**70], "instant_out_of_range"),
        (np.array([2**64 - 1], np.uint64), "instant_out_of_range"),
        (np.array([10**15], "M8[s]"), "instant_out_of_range"),
    ],
)
def test_what_is_no_time_is_refused(values, code):
    with pytest.raises(DataError) as refused:
        columns_of(values)
    assert (codes_of(refused.value), [problem.count for problem in refused.value.problems]) == ([code], [1])


# The whole -------------------------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once():
    events = {
        "event_at": ["2024-01-01", "soon"],
        "known_at": [True, None],
        "value": ["a", 2],
        "chanel": ["web"],
        "event": "purchase",
        "item_id": [[1], 2],
    }
    with pytest.raises(DataError) as refused:
        Columns.of(events, zone=UTC_ZONE, reads=["value", "channel", "event", "item_id", "hour"])
    assert codes_of(refused.value) == [
        "not_a_column", "uneven_columns", "unparsable_event_at", "mistyped_column", "mistyped_column", "missing_column", "mistyped_column",
    ]  # fmt: skip
    assert "did you mean 'chanel'?" in str(refused.value)


def test_events_without_times_are_refused():
    with pytest.raises(DataError, match=r"no column for event_at\. Remedy: did you mean 'eventat'\?"):
        Columns.of({"eventat": []}, zone=UTC_ZONE)


@pytest.mark.parametrize("values", ["a", {"a": 1}, {1}, 7, None, np.zeros((1, 1)), (value for value in "a")])
def test_a_column_is_a_sequence(values):
    with pytest.raises(DataError, match="not a sequence with one entry per event"):
        Columns.of({"event_at": [0], "channel": values}, zone=UTC_ZONE)


def test_no_events_are_no_problem():
    columns = Columns.of({"event_at": [], "value": [], "channel": []}, zone=UTC_ZONE, reads=["value", "channel"])
    assert [
        len(array) for array in (columns, columns.known_us, columns.day, columns.number("value").units, columns.text("channel").codes)
    ] == [0] * 5


def test_a_column_that_nothing_reads_is_not_converted():
    columns = Columns.of({"event_at": [0], "payload": [{"any": "thing"}], "value": [1]}, zone=UTC_ZONE, reads=["value"])
    with pytest.raises(DataError, match="payload needs text and holds dict"):
        columns.text("payload")


def test_a_column_is_converted_once():
    columns = columns_of(value=[1], channel=["a"])
    assert columns.number("value") is columns.number("value")
    assert columns.text("channel") is columns.text("channel")
