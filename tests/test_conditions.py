"""Conditions mean the same everywhere: numbers are exact, and what SQL would have to turn into something else is told beforehand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from persopredict import Churn, EventLog, Feature, conditions, snapshots
from persopredict.errors import SpecificationError
from persopredict.features.columns import Columns
from persopredict.features.masks import compile_condition
from persopredict.times import zone

THOROUGH = settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=list(HealthCheck), database=None)

VALUES = [Decimal(text) for text in ("0", "0.000001", "-0.000001", "1", "20", "1000", "999999999999.999999", "-999999999999.999999")]
ROWS = {
    "value": [None, *VALUES],
    "quantity": [*reversed(VALUES), None],
    "channel": ["web", None, "Web", "", "1", "true", "20", "store", "it's"],
    "item_id": ["web", "web", None, "a", "20", "true", "b", "1", "it's"],
}
START = datetime(2024, 1, 1, tzinfo=UTC)
EVENT_AT = [START + timedelta(hours=5 * number) for number in range(len(VALUES) + 1)]
NUMERIC = ("value", "quantity", "hour")
READABLE = (*ROWS, "hour")


@cache
def events():
    kinds = {name: pa.decimal128(18, 6) if name in NUMERIC else pa.string() for name in ROWS}
    columns = {name: pa.array(values, kinds[name]) for name, values in ROWS.items()}
    columns["hour"] = pa.array([moment.hour for moment in EVENT_AT], pa.int32())
    return duckdb.connect().register("events", pa.table(columns))


def by_duckdb(text):
    return [row[0] is True for row in events().execute(f"SELECT {text} FROM events").fetchall()]


def by_numpy(text):
    return compile_condition(text)(Columns.of({"event_at": EVENT_AT, **ROWS}, zone=zone("UTC"))).tolist()


def by_hand(sign, bound, column="value"):
    compared = {"<": Fraction.__lt__, "=": Fraction.__eq__, ">": Fraction.__gt__}[sign]
    return [value is not None and compared(Fraction(value), Fraction(Decimal(bound))) for value in ROWS[column]]


# Numbers ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("1e12", "1000000000000"),
        ("1E+3", "1000"),
        ("2.5e3", "2500"),
        ("2.50e0", "2.5"),
        ("1e-6", "0.000001"),
        ("10e-19", "0.000000000000000001"),
        ("0e99", "0"),
        ("0.0e-99", "0"),
        (".5e1", "5"),
        ("1.0000000000000000000000000", "1"),
        ("00000000000000000000000000001.5", "1.5"),
    ],
)
def test_a_number_with_an_exponent_or_idle_zeros_is_spelled_out(written, spelled):
    assert conditions.canonical(f"value < {written}") == f"value < {spelled}"


@pytest.mark.parametrize("written", ["10", "10.50", "0.0000005", "12345678901234567890.5", "99999999999999999999.999999999999999999"])
def test_a_number_that_every_engine_compares_exactly_stays_as_it_is(written):
    assert conditions.canonical(f"value < {written}") == f"value < {written}"


@pytest.mark.parametrize(
    "written",
    ["1e20", "123456789012345678901", "1e-19", "0.0000000000000000001", "1e999999999", "1e-999999999", "-1e30", "1.5e-18", "9" * 400],
)
def test_a_number_that_some_engine_would_round_is_refused(written):
    with pytest.raises(SpecificationError, match="is too long; a number has at most 20 digits before the point and 18 after it"):
        conditions.parse(f"value < {written}")


@pytest.mark.parametrize("written", ["1e", "1e9999999999999999999999"])
def test_what_only_begins_like_a_number_is_refused(written):
    with pytest.raises(SpecificationError, match=f"{written} is not a number"):
        conditions.parse(f"value < {written}")


def test_a_feature_tells_of_a_number_that_is_too_long():
    with pytest.raises(SpecificationError, match=r"feature_where: .*1e-30 is too long"):
        Feature("count", where="value > 1e-30", fallback=0)
    with pytest.raises(SpecificationError, match="1e30 is too long"):
        Churn("purchase", "28d", where="value > 1e30")


def test_the_largest_amount_is_below_a_million_millions_written_with_an_exponent():
    """As a double, 1e12 is what the largest amount is rounded to, and nothing would be below it."""
    sales = pa.table({"customer_id": ["c"], "event_at": pa.array([START], pa.timestamp("us", "UTC")), "event": ["purchase"],
                      "value": pa.array([Decimal("999999999999.999999")], pa.decimal128(18, 6))})  # fmt: skip
    below = Feature("count", where="value < 1e12", fallback=0)
    assert snapshots(EventLog(sales), [START + timedelta(days=1)], [below]).to_arrow().column(below.name).to_pylist() == [1.0]


numbers = st.builds(
    "{}{}e{}".format,
    st.sampled_from(["", "-"]),
    st.sampled_from(["1", "2", "0.5", "0.1", "1.000001", "999999999999.999999", "9.99999999999999999"]),
    st.integers(-7, 13),
)


def fits(number):
    value = Decimal(number).normalize()
    return value.adjusted() < conditions.WHOLE and -value.as_tuple().exponent <= conditions.PLACES


@THOROUGH
@given(numbers.filter(fits), st.sampled_from(["<", "=", ">"]))
def test_duckdb_and_numpy_compare_a_number_with_an_exponent_as_arithmetic_does(number, sign):
    text = conditions.canonical(f"value {sign} {number}")
    assert by_duckdb(text) == by_numpy(text) == by_hand(sign, number)


@pytest.mark.parametrize("number", ["12345678901234567890", "12345678901234567890.123456789012345678", "0.000000000000000001"])
@pytest.mark.parametrize("column", ["value", "hour"])
def test_duckdb_and_numpy_agree_on_the_longest_numbers(column, number):
    for text in (f"{column} < {number}", f"{column} = -{number}", f"{column} IN (0, 1, {number}, 5.5, 0.000000000000000001)",
                 f"{column} BETWEEN 0.000000000000000001 AND {number}"):  # fmt: skip
        assert by_duckdb(text) == by_numpy(text), text


# Kinds -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("value = channel", ["value = channel compares a number with text"]),
        ("channel <> value", ["channel <> value compares text with a number"]),
        ("channel IN ('web', value)", ["channel IN ('web', value) compares text with a number"]),
        ("hour BETWEEN quantity AND item_id", ["hour BETWEEN quantity AND item_id compares a number with text"]),
        ("1 = '1'", ["1 = '1' compares a number with text"]),
        ("'a' IN ('a', 2)", ["'a' IN ('a', 2) compares text with a number"]),
        ("value = '10'", ["value = '10' compares a number with text; write 10"]),
        ("'-10' < value", ["'-10' < value compares a number with text; write -10"]),
        ("channel = -1", ["channel = -1 compares text with a number; write '-1'"]),
        ("channel = 1e3", ["channel = 1000 compares text with a number; write '1000'"]),
        ("-value = '1'", ["-value = '1' compares a number with text; write 1"]),
        ("value = TRUE", ["value = TRUE compares a number with a truth value; write 1"]),
        ("value IN (1, FALSE)", ["value IN (1, FALSE) compares a number with a truth value; write 0"]),
        ("channel = true", ["channel = TRUE compares text with a truth value; write 'true'"]),
        ("value IS TRUE", ["value IS TRUE compares a number with a truth value; write 1"]),
        ("channel IS NOT FALSE", ["channel IS FALSE compares text with a truth value; write 'false'"]),
        ("value IS 1", ["value IS 1 is no comparison; IS takes NULL"]),
        ("(value > 1) = 1", ["(value > 1) = 1 compares a truth value with a number"]),
        ("channel = (value > 1)", ["channel = (value > 1) compares text with a truth value"]),
        ("(channel)", ["(channel) is text, not a condition; write a comparison"]),
        ("NOT value", ["value is a number, not a condition; write a comparison"]),
        ("channel = 'web' AND 'true' OR 1", [
            "1 is a number, not a condition; write a comparison", "'true' is text, not a condition; write a comparison",
        ]),
        ("-channel = 1", ["-channel negates text"]),
        ("-(value > 1) = 1", ["-(value > 1) negates a truth value"]),
        ("value = '1' OR value = '1'", ["value = '1' compares a number with text; write 1"]),
    ],
)  # fmt: skip
def test_text_numbers_and_truth_values_are_not_mixed(text, told):
    assert conditions.misread(text, READABLE, NUMERIC) == told


@pytest.mark.parametrize(
    "text",
    [
        None,
        "channel = item_id AND value < quantity",
        "value IN (1, NULL, -hour) AND NOT channel IN ('1', NULL)",
        "'a' < 'b' AND 1 < 2 AND NOT FALSE",
        "(value > 1) = (channel = 'web')",
        "(value > 1) IS TRUE AND channel IS NOT NULL",
        "NULL = value AND NULL",
        "-(-value) BETWEEN -1 AND 1e3",
    ],
)
def test_what_is_of_one_kind_is_nothing_to_tell(text):
    assert conditions.misread(text, READABLE, NUMERIC) == []


def test_a_column_that_is_not_there_is_told_once():
    assert conditions.misread("chanel = 1 AND event_at > 5", READABLE, NUMERIC) == [
        "no column 'chanel'; did you mean 'channel'?",
        "'event_at' can't be read by a condition; use window",
    ]


def test_a_plan_tells_of_columns_of_two_kinds_before_anything_runs():
    log = EventLog(pa.table({"customer_id": ["c"], "event_at": ["2024-01-01T00:00:00Z"], "event": ["a"], "value": [1.5], "channel": ["x"]}))
    with pytest.raises(SpecificationError) as refused:
        snapshots(log, ["2024-02-01"], [Feature("count", where="value = channel", fallback=0)], [Churn("a", "7d", cohort="channel = TRUE")])
    assert [problem.code for problem in refused.value.problems] == ["feature_where", "target_cohort"]


sides = st.sampled_from(
    ["value", "quantity", "hour", "-value", "channel", "item_id", "0", "1", "20.0", "-1e3", "'web'", "'20'", "TRUE", "NULL"]
)
comparisons = st.one_of(
    st.builds("{} {} {}".format, sides, st.sampled_from(["=", "<>", "<", ">", "<=", ">="]), sides),
    st.builds("{} {}IN ({}, {})".format, sides, st.sampled_from(["", "NOT "]), sides, sides),
    st.builds("{} BETWEEN {} AND {}".format, sides, sides, sides),
    st.builds("{} IS {}{}".format, sides, st.sampled_from(["", "NOT "]), st.sampled_from(["NULL", "TRUE"])),
    sides.map("({})".format),
)
mixtures = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["AND", "OR", "=", "<>"]), inner), inner.map("NOT ({})".format)
    ),
    max_leaves=3,
)


@settings(THOROUGH, max_examples=400)
@given(mixtures)
def test_where_nothing_is_told_duckdb_and_numpy_choose_the_same_rows(text):
    assume(not conditions.misread(text, READABLE, NUMERIC))
    text = conditions.canonical(text)
    assert by_duckdb(text) == by_numpy(text), text
