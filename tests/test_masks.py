"""Conditions in NumPy choose the rows that DuckDB chooses, and the rows that the oracle's loop chooses: true only, never unknown."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persopredict import conditions
from persopredict.errors import DataError, SpecificationError
from persopredict.features.columns import Columns
from persopredict.features.masks import compile_condition
from persopredict.times import zone
from tests import oracle

THOROUGH = settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck), database=None)
ZONE = "America/Santiago"

#: Text at both sides of what UTF-16 would put in another order, and text that looks like something else.
TEXTS = (None, "", " ", "web", "Web", "it's", "ø", "購入 ☕", "\uffee", "\U0001f600", "7", "null")
NUMBERS = ("0", "1", "-1", "0.000001", "-0.000001", "2", "5", "23", "19.99", "999999999999.999999", "-999999999999.999999")
LITERALS = (*NUMBERS, "0.0000005", "-0.0000005", "1.0000000", "18.5", "1000000000000", "19724", "12345678901234567890.5")
NUMERIC, TEXTUAL, CALENDAR = ("value", "quantity", "points"), ("event", "channel", "item_id"), ("day", "hour", "weekday")
COMPARISONS = ("=", "<>", "<", ">", "<=", ">=")


def literal(value):
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


numbers = st.sampled_from([*NUMERIC, *CALENDAR])
number_literals = st.one_of(st.sampled_from(LITERALS), st.integers(0, 25).map(str))
number_sides = st.one_of(numbers, number_literals)
text_literals = st.sampled_from([literal(value) for value in TEXTS[1:]])
text_sides = st.one_of(st.sampled_from(TEXTUAL), text_literals)
negation = st.sampled_from(["", "NOT "])


def _comparisons(column, side, either):
    listed = st.lists(st.one_of(side, st.just("NULL")), min_size=1, max_size=4).map(", ".join)
    return st.one_of(
        st.builds("{} {} {}".format, column, st.sampled_from(COMPARISONS), side),
        st.builds("{} {} {}".format, side, st.sampled_from(COMPARISONS), column),
        st.builds("{} {} {}".format, column, st.sampled_from(COMPARISONS), either),
        st.builds("{} {}IN ({})".format, column, negation, listed),
        st.builds("{} {}BETWEEN {} AND {}".format, column, negation, either, side),
        st.builds("{} IS {}NULL".format, column, negation),
        st.builds("{} = NULL".format, column),
    )


def _combined(parts):
    joined = st.builds("({}) {} ({})".format, parts, st.sampled_from(["AND", "OR"]), parts)
    return st.one_of(joined, parts.map("NOT ({})".format), st.builds("{} AND {} OR {}".format, parts, parts, parts))


#: The everyday grammar, and what negated columns and truth values add to it.
plain = st.one_of(_comparisons(numbers, number_literals, number_sides), _comparisons(st.sampled_from(TEXTUAL), text_literals, text_sides))
everyday = st.recursive(plain, _combined, max_leaves=6)
truths = st.one_of(
    st.builds("({}) IS {}{}".format, everyday, negation, st.sampled_from(["TRUE", "FALSE", "NULL"])),
    st.builds("({}) {} ({})".format, everyday, st.sampled_from(COMPARISONS), everyday),
    st.builds("{} {} {}".format, numbers, st.sampled_from(["=", "<>"]), st.sampled_from(["TRUE", "FALSE"])),
    st.builds("{} IS {}TRUE".format, numbers, negation),
    st.builds("-({}) {} {}".format, numbers, st.sampled_from(COMPARISONS), number_sides),
    st.builds("{} AND ({})".format, st.one_of(numbers, st.sampled_from(["TRUE", "FALSE", "NULL", "1"])), everyday),
)
unusual = st.recursive(truths, _combined, max_leaves=3)

instants = st.datetimes(datetime(1965, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
decimals = st.one_of(st.none(), st.sampled_from(NUMBERS).map(Decimal), st.integers(-30, 30).map(Decimal))
rows = st.lists(
    st.fixed_dictionaries(
        {"at": instants, **dict.fromkeys(NUMERIC, decimals), **dict.fromkeys(TEXTUAL, st.sampled_from(TEXTS))},
    ),
    max_size=25,
)


def columns_of(found):
    events = {"event_at": [row["at"] for row in found], **{name: [row[name] for row in found] for name in (*NUMERIC, *TEXTUAL)}}
    return Columns.of(events, zone=zone(ZONE), numeric=["points"])


def in_duckdb(found, texts):
    """Each condition over a table of DECIMAL(18, 6), VARCHAR and INTEGER: true, or not."""
    types = {**dict.fromkeys(NUMERIC, pa.decimal128(18, 6)), **dict.fromkeys(TEXTUAL, pa.string()), **dict.fromkeys(CALENDAR, pa.int32())}
    table = pa.table({name: pa.array([oracle.column_of(row, name, zone(ZONE)) for row in found], kind) for name, kind in types.items()})
    with duckdb.connect() as connection:
        connection.register("events", table)
        asked = ", ".join(f"coalesce({text}, false)" for text in texts)
        return np.array(connection.execute(f"SELECT {asked} FROM events").fetchall(), bool).reshape(len(found), len(texts)).T


def assert_chooses(found, texts, expected):
    columns = columns_of(found)
    for text, rows_expected in zip(texts, expected, strict=True):
        chosen = compile_condition(text)(columns)
        assert chosen.dtype == bool
        assert chosen.tolist() == list(rows_expected), text


@THOROUGH
@given(rows, st.lists(everyday, min_size=10, max_size=20))
def test_the_grammar_chooses_the_rows_that_the_oracle_chooses(found, texts):
    assert_chooses(found, texts, [[oracle.holds(text, row, zone(ZONE)) for row in found] for text in texts])


@THOROUGH
@given(rows, st.lists(everyday, min_size=10, max_size=20))
def test_the_grammar_chooses_the_rows_that_duckdb_chooses(found, texts):
    assert_chooses(found, texts, in_duckdb(found, texts))


@THOROUGH
@given(rows, st.lists(unusual, min_size=10, max_size=20))
def test_negated_columns_and_truth_values_are_read_as_duckdb_reads_them(found, texts):
    assert_chooses(found, texts, in_duckdb(found, texts))


@THOROUGH
@given(rows, st.lists(st.one_of(everyday, unusual), min_size=5, max_size=10))
def test_a_canonical_condition_chooses_the_same_rows(found, texts):
    columns = columns_of(found)
    for text in texts:
        assert compile_condition(conditions.canonical(text))(columns).tolist() == compile_condition(text)(columns_of(found)).tolist()


# What it rests on ------------------------------------------------------------------------------------------------------------------

DAYS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=5 * number) for number in range(5)]
FIVE = {
    "event_at": DAYS,
    "value": [Decimal("0"), Decimal("0.000001"), None, Decimal("-1.5"), Decimal("999999999999.999999")],
    "channel": ["web", None, "Web", "store", ""],
    "item_id": ["web", "7", None, "store", " "],
}


def chosen(text, events=FIVE, **options):
    return np.flatnonzero(compile_condition(text)(Columns.of(events, zone=zone("UTC"), **options))).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value = 0.0000005", []),
        ("value > 0.0000005", [1, 4]),
        ("value >= 0.0000005", [1, 4]),
        ("value < 0.0000005", [0, 3]),
        ("value <> 0.0000005", [0, 1, 3, 4]),
        ("value = 1e-6", [1]),
        ("value < 1e12", [0, 1, 3, 4]),
        ("value < 99999999999999999999.999999999999999999", [0, 1, 3, 4]),
        ("value > -99999999999999999999 AND value > 1e-18", [1, 4]),
        ("hour > 4.999999", [1, 2, 3, 4]),
        ("hour = 5.0", [1]),
        ("hour = 5.5", []),
        ("- 1.5 = value", [3]),
        ("-value > 0", [3]),
        ("value BETWEEN -2 AND 1", [0, 1, 3]),
        ("value BETWEEN 1 AND -2", []),
    ],
)
def test_a_number_compares_exactly(text, expected):
    assert chosen(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value IN (1, NULL)", []),
        ("NOT value IN (1, NULL)", []),
        ("value IN ()", []),
        ("NOT value IN ()", [0, 1, 3, 4]),
        ("NOT channel = 'web'", [2, 3, 4]),
        ("channel = 'web' OR value = 0.000001", [0, 1]),
        ("NOT (channel = 'web' AND value > 0)", [0, 2, 3, 4]),
        ("channel = item_id", [0, 3]),
        ("channel <> item_id", [4]),
        ("NULL OR channel = 'web'", [0]),
        ("NOT (NULL AND value > 0)", [0, 3]),
        ("NULL IS NULL AND 'a' < 'b' AND 2 > 1", [0, 1, 2, 3, 4]),
    ],
)
def test_the_unknown_does_not_count(text, expected):
    assert chosen(text) == expected


@pytest.mark.parametrize("text", ["channel = 1", "value = 'a'", "value = channel", "channel IN ('a', 1)", "1 = '1'", "-channel > 'a'"])
def test_text_and_numbers_are_not_compared(text):
    with pytest.raises(SpecificationError):
        chosen(text)


@pytest.mark.parametrize("text", ["-(value > 1) = 1", "-TRUE = 1", "-'a' = 'a'", "'true' AND value > 1", "value IS 1"])
def test_what_duckdb_refuses_is_refused_when_it_is_compiled(text):
    with pytest.raises(SpecificationError, match=r"can't be evaluated"):
        compile_condition(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abs(value) > 1", "Abs is not allowed"),
        ("value BETWEEN SYMMETRIC 1 AND -2", "BETWEEN SYMMETRIC is not allowed"),
        ("value < 1e999999999999", "is too long"),
    ],
)
def test_what_is_outside_the_grammar_is_refused_when_it_is_compiled(text, why):
    with pytest.raises(SpecificationError, match=why):
        compile_condition(text)


def test_a_condition_names_the_columns_that_it_reads():
    found = compile_condition("channel = 'web' AND NOT hour BETWEEN 6 AND quantity")
    assert (found.columns, found.text) == ({"channel", "hour", "quantity"}, "channel = 'web' AND NOT hour BETWEEN 6 AND quantity")


def test_a_missing_column_is_named_with_its_nearest():
    with pytest.raises(DataError, match=r"no column 'chanel'\. Remedy: did you mean 'channel'\?"):
        chosen("chanel = 'web'")


def test_no_events_have_no_rows():
    nothing = {name: [] for name in FIVE}
    assert [chosen(text, nothing) for text in ("value > 1", "channel = 'web' OR TRUE", "channel IN ('a', 'b')", "channel < 'a'")] == [
        []
    ] * 4


def test_conditions_share_what_they_have_in_common():
    columns = Columns.of(FIVE, zone=zone("UTC"))
    web = compile_condition("channel = 'web'")(columns)
    known = dict(columns.masks)
    compile_condition("(channel = 'web') AND hour < 5")(columns)
    assert all(columns.masks[key] is mask for key, mask in known.items())
    assert compile_condition("channel = 'web'")(columns) is web


def test_a_shared_mask_can_not_be_written_to():
    mask = compile_condition("NOT value IS NULL")(Columns.of(FIVE, zone=zone("UTC")))
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False
