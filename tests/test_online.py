"""Features of one customer without an engine: what a web call may send, what comes back, and what is refused."""

import json
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persopredict import Feature
from persopredict.errors import DataError, SpecificationError
from persopredict.features.online import OnlineFeatures
from persopredict.features.spec import AGGREGATES
from persopredict.times import zone
from tests import oracle
from tests.conformance import agrees

CUTOFF = datetime(2024, 3, 10, tzinfo=UTC)
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
BOUGHT = "event = 'purchase'"


def of_every_aggregate(where=None, window="28d"):
    """One feature of each aggregate; without fallbacks, so that undefined is null."""
    columns = {"ratio": ("value", "order_id"), "distinct": "item_id"}
    needs_one = {name for name, aggregate in AGGREGATES.items() if 0 not in aggregate.columns}
    return [
        Feature(
            aggregate,
            columns.get(aggregate, "value" if aggregate in needs_one else None),
            window=window,
            where=where,
            fallback=None,
            half_life="7d" if aggregate == "decayed_sum" else None,
        )
        for aggregate in AGGREGATES
    ]


EVERYTHING = [
    *of_every_aggregate(),
    *of_every_aggregate(BOUGHT),
    Feature("distinct", "day", fallback=0),
    Feature("mean", "hour", fallback=0),
]
ONLINE = OnlineFeatures(EVERYTHING)


def history(number=60, seed=1):
    """Events of ten weeks before the cutoff, some at the same instant, as lists by column."""
    draw = random.Random(seed)
    at = [CUTOFF - TICK - draw.randrange(70 * 24) * HOUR for _ in range(number)]
    return {
        "event_at": at,
        "event": [draw.choice(["visit", "purchase", "cart"]) for _ in at],
        "value": [draw.choice([None, 0.0, 19.99, -5.25, 1234.5]) for _ in at],
        "order_id": [draw.choice([None, "1", "2", "3"]) for _ in at],
        "item_id": [draw.choice(["a", "b", "ü", None]) for _ in at],
    }


def joined(*parts):
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def row(features, events, as_of=CUTOFF, **options):
    return OnlineFeatures(features, **options).row(events, as_of)


def bits(values):
    return [value.hex() for value in values.tolist()]


# What counts -----------------------------------------------------------------------------------------------------------------------


def test_the_order_of_the_events_does_not_matter():
    events = history()
    expected = bits(ONLINE.values(events, CUTOFF))
    for seed in range(5):
        order = random.Random(seed).sample(range(60), 60)
        assert bits(ONLINE.values({name: [column[place] for place in order] for name, column in events.items()}, CUTOFF)) == expected


@pytest.mark.parametrize(
    "hidden",
    [
        {"event_at": [CUTOFF]},
        {"event_at": [CUTOFF + 9 * DAY], "known_at": [CUTOFF - DAY]},
        {"event_at": [CUTOFF - TICK], "known_at": [CUTOFF]},
        {"event_at": [CUTOFF - 400 * DAY], "known_at": [CUTOFF + TICK]},
    ],
)
def test_events_at_or_after_the_cutoff_or_known_only_then_do_not_count(hidden):
    events = history() | {"known_at": [None] * 60}
    stranger = {"event": ["purchase"], "value": [1e9], "order_id": ["new"], "item_id": ["new"], "known_at": [None]} | hidden
    assert bits(ONLINE.values(joined(events, stranger), CUTOFF)) == bits(ONLINE.values(events, CUTOFF))


def test_an_event_counts_from_the_microsecond_after_it_was_known():
    counts = [Feature("count", fallback=0)]
    events = {"event_at": [CUTOFF - 9 * DAY], "known_at": [CUTOFF]}
    assert [row(counts, events, moment)["count_all"] for moment in (CUTOFF, CUTOFF + TICK)] == [0, 1]


def test_a_window_holds_its_start_and_not_its_end():
    counts = [Feature("count", window=window, fallback=0) for window in ("7d", "36h")]
    events = {"event_at": [CUTOFF - 7 * DAY - TICK, CUTOFF - 7 * DAY, CUTOFF - 36 * HOUR, CUTOFF]}
    assert row(counts, events) == {"count_7d": 2, "count_36h": 1}


def test_duplicates_stay_duplicates():
    """Only `event_id` says what is the same event, and a web call has no log to look it up in."""
    asked = [Feature("count", fallback=0), Feature("sum", "value", fallback=0), Feature("distinct", "item_id", fallback=0)]
    once = {"event_at": [CUTOFF - DAY], "value": [2.5], "item_id": ["a"]}
    assert list(row(asked, joined(once, once)).values()) == [2, 5, 1]


def test_a_customer_without_events_has_the_fallbacks():
    nothing = {name: [] for name in history()}
    names = [feature.name for feature in of_every_aggregate()]
    assert row(of_every_aggregate(), nothing) == dict.fromkeys(names)
    assert row([Feature("count", window="7d", fallback=0), Feature("recency", fallback=-1)], nothing) == {"count_7d": 0, "recency_all": -1}
    assert np.isnan(OnlineFeatures(of_every_aggregate()).values(nothing, CUTOFF)).all()


def test_values_come_in_the_order_of_the_features_and_a_row_says_none_where_they_say_nan():
    values, found = ONLINE.values(history(), CUTOFF), ONLINE.row(history(), CUTOFF)
    assert (values.dtype, values.shape, list(found)) == (np.float64, (len(EVERYTHING),), [feature.name for feature in EVERYTHING])
    assert [None if math.isnan(value) else value for value in values.tolist()] == list(found.values())


def test_no_features_have_no_values():
    assert OnlineFeatures([]).values({"event_at": [0]}, CUTOFF).shape == (0,)


def test_an_old_customer_s_events_still_weigh():
    """Older than the weights that were made with the features."""
    halved = [Feature("decayed_sum", half_life="365d", fallback=0, name="halved")]
    assert row(halved, {"event_at": [CUTOFF - 3650 * DAY, CUTOFF - 730 * DAY]}) == {"halved": 2**-10 + 2**-2}


# What a web call sends --------------------------------------------------------------------------------------------------------------


def test_it_takes_what_json_holds():
    text = """{"as_of": "2024-03-10T09:30:00+01:00", "events": {
        "event_at": ["2024-03-10T08:29:59Z", "2024-03-09T10:00:00.250+00:00", "2024-02-01 07:00:00Z"],
        "event": ["visit", "purchase", "purchase"], "value": [null, 19.99, 5], "item_id": [null, 17, "17"]}}"""
    call = json.loads(text)
    asked = [
        Feature("sum", "value", where=BOUGHT, fallback=0, name="spent"),
        Feature("distinct", "item_id", fallback=0, name="items"),
        Feature("recency", fallback=None, name="since"),
        Feature("mean", "value", window="7d", fallback=None, name="mean"),
        Feature("max", "value", where="event = 'return'", fallback=None, name="returned"),
    ]
    found = row(asked, call["events"], call["as_of"])
    assert found == {"spent": 24.99, "items": 1, "since": 1 / 86400, "mean": 19.99, "returned": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_arrays_lists_and_frames_say_the_same():
    events = history()
    frame = pd.DataFrame(events)
    bare = np.array([at.replace(tzinfo=None) for at in events["event_at"]], "M8[us]")
    spellings = [
        {name: frame[name] for name in frame},
        {name: frame[name].to_numpy() for name in frame} | {"event_at": bare},
        events | {"event_at": bare.view(np.int64)},
        events | {"event_at": bare.view(np.int64).tolist(), "value": [None if v is None else Decimal(str(v)) for v in events["value"]]},
        events | {"event_at": [at.isoformat() for at in events["event_at"]]},
        {name: tuple(column) for name, column in events.items()},
    ]
    for spelling in spellings:
        assert bits(ONLINE.values(spelling, CUTOFF)) == bits(ONLINE.values(events, CUTOFF))


def test_what_was_sent_stays_as_it_was():
    events = {name: pd.Series(column).to_numpy() for name, column in history().items() if name != "event_at"}
    events["event_at"] = np.arange(60) * 86_400_000_000
    for column in events.values():
        column.flags.writeable = False
    kept = {name: column.copy() for name, column in events.items()}
    ONLINE.values(events, CUTOFF)
    assert all(pd.Series(events[name]).equals(pd.Series(column)) for name, column in kept.items())


def test_a_time_without_offset_is_the_time_zone_s():
    asked = [Feature("recency", fallback=None), Feature("count", window="1d", fallback=0), Feature("max", "hour", fallback=None)]
    events = {"event_at": ["2024-07-01T09:00", "2024-06-30T12:00"]}
    expected = {"recency_all": 0.125, "count_1d": 2, "max_hour_all": 12}
    for as_of in ("2024-07-01T12:00", datetime(2024, 7, 1, 12), "2024-07-01T10:00Z", datetime(2024, 7, 1, 10, tzinfo=UTC)):
        assert row(asked, events, as_of, timezone="Europe/Madrid") == expected
    assert row(asked[:1], events, date(2024, 7, 2), timezone="Europe/Madrid") == {"recency_all": 0.625}


def test_both_passes_of_a_repeated_hour_are_cutoffs_of_their_own():
    """Python calls them equal."""
    online = OnlineFeatures([Feature("recency", fallback=None)], timezone="Europe/Madrid")
    events = {"event_at": [datetime(2024, 10, 26, 12, tzinfo=UTC)]}
    first, second = datetime(2024, 10, 27, 2, 30), datetime(2024, 10, 27, 2, 30, fold=1)
    assert [online.row(events, as_of)["recency_all"] * 24 for as_of in (first, second, first)] == pytest.approx([12.5, 13.5, 12.5])


def test_a_cutoff_gives_the_same_whatever_was_asked_before():
    moments = [CUTOFF - number * HOUR for number in range(400)]
    expected = [bits(OnlineFeatures(EVERYTHING).values(history(), moment)) for moment in moments[:3]]
    for moment in moments:
        ONLINE.values(history(10, seed=2), moment)
    assert [bits(ONLINE.values(history(), moment)) for moment in moments[:3]] == expected


def test_threads_may_share_it():
    asked = [(history(seed=seed), CUTOFF - seed * HOUR) for seed in range(50)] * 4
    shared = OnlineFeatures(EVERYTHING)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: bits(shared.values(*call)), asked))
    assert found == [bits(ONLINE.values(*call)) for call in asked]


def test_it_says_which_columns_it_reads():
    online = OnlineFeatures(
        [Feature("sum", "points", where="channel = 'web' AND hour > 6", fallback=0), Feature("gap_mean", fallback=None)]
    )
    assert online.columns == ("channel", "points")
    assert online.row({"event_at": [CUTOFF - DAY], "channel": ["web"], "points": [3], "payload": [{"any": "thing"}]}, CUTOFF) == {
        "sum_points_channel_web_and_hour_gt_6_all": 0,
        "gap_mean_all": None,
    }


def test_specs_come_back_from_json():
    online = OnlineFeatures(EVERYTHING, timezone="America/Santiago", numeric=["points"])
    again = OnlineFeatures.from_dict(json.loads(json.dumps(online.to_dict())))
    assert (again.features, again.timezone, again.numeric) == (tuple(EVERYTHING), "America/Santiago", ("points",))
    assert bits(again.values(history(), CUTOFF)) == bits(online.values(history(), CUTOFF))
    assert OnlineFeatures([Feature.from_dict(feature.to_dict()) for feature in EVERYTHING]).features == ONLINE.features


def test_it_needs_no_engine():
    program = """
import sys
from persopredict.features.online import OnlineFeatures
from persopredict.features.spec import Feature
assert OnlineFeatures([Feature("count", where="event = 'a'", fallback=0)]).row({"event_at": [0], "event": ["a"]}, "2024-01-01")
assert not {"duckdb", "pandas", "polars", "narwhals"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Exactness -------------------------------------------------------------------------------------------------------------------------

#: Millionths around the sizes at which 64 bits get too small for a sum or a square.
sizes = st.one_of(*(st.integers(-(2**bits), 2**bits) for bits in (7, 31, 33, 52, 56, 59)), st.just(10**18 - 1), st.just(1 - 10**18))


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(st.lists(st.tuples(st.integers(1, 40 * 24), st.one_of(st.none(), sizes)), min_size=1, max_size=40))
def test_numbers_of_every_size_are_exact(drawn):
    values = [None if units is None else Decimal(units).scaleb(-6) for _, units in drawn]
    at = [CUTOFF - hours * HOUR for hours, _ in drawn]
    rows = [{"at": moment, "known": None, "value": value} for moment, value in zip(at, values, strict=True)]
    shapes = {"ratio": ("value", "day"), "share": "value", "trend": "value", "decayed_sum": "value"}
    asked = [
        Feature(name, shapes.get(name, "value"), window=window, fallback=None, half_life="3d" if name == "decayed_sum" else None)
        for name in ("sum", "mean", "min", "max", "std", "first", "last", *shapes)
        for window in ("7d", "28d")
    ]
    found = row(asked, {"event_at": at, "value": values})
    for feature in asked:
        expected = oracle.feature_value(feature, rows, CUTOFF, zone("UTC"), ("value",))
        assert agrees(feature.aggregate, found[feature.name], expected), (feature.name, found[feature.name], expected)


def test_large_values_with_small_differences_keep_their_spread():
    values = [Decimal("999999999999.999990") + Decimal(n).scaleb(-6) for n in range(10)]
    found = row([Feature("std", "value", fallback=None)], {"event_at": [CUTOFF - DAY] * 10, "value": values})
    assert found["std_value_all"] == pytest.approx(math.sqrt(Fraction(55, 6)) * 1e-6, rel=1e-12)


def test_a_sum_too_large_for_64_bits_leaves_the_windows_that_do_not_hold_it_as_they_were():
    usual, huge = history(40), {name: column[:1] for name, column in history(1).items()} | {"event_at": [CUTOFF - 60 * DAY]}
    windowed = OnlineFeatures(of_every_aggregate(window="28d"))
    without = windowed.values(joined(usual, huge | {"value": [1.0]}), CUTOFF)
    assert windowed.values(joined(usual, huge | {"value": [999_999_999_999.0]}), CUTOFF) == pytest.approx(without, rel=1e-15, nan_ok=True)


# Refusals --------------------------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_the_events_is_told_at_once():
    events = {"event_at": ["soon", "2024-01-01"], "chanel": ["web", "web"], "value": ["19.99", 5], "item_id": [["a"], "b"]}
    asked = [
        Feature("count", where="channel = 'web' AND event = 'visit'", fallback=0),
        Feature("sum", "value", fallback=0),
        Feature("distinct", "item_id", fallback=0),
    ]
    with pytest.raises(DataError) as refused:
        row(asked, events)
    assert sorted(problem.code for problem in refused.value.problems) == [
        "missing_column", "missing_column", "mistyped_column", "mistyped_column", "unparsable_event_at",
    ]  # fmt: skip
    for words in ("no column 'channel'. Remedy: did you mean 'chanel'?", "no column 'event'", "value needs numbers and holds str"):
        assert words in str(refused.value)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="columns differ in length: event_at 2, value 1"):
        row([Feature("sum", "value", fallback=0)], {"event_at": [0, 1], "value": [1]})


@pytest.mark.parametrize("as_of", ["tomorrow", 7, None])
def test_a_cutoff_is_a_time(as_of):
    with pytest.raises(SpecificationError, match="is not a date or time"):
        ONLINE.values(history(), as_of)


def test_all_that_is_wrong_with_the_features_is_told_when_they_are_given():
    count = Feature("count", window="7d", fallback=0)
    wrong = [
        count,
        count,
        Feature("sum", "value", fallback=0, name="recency_all"),
        Feature("recency", fallback=None),
        Feature("distinct", "customer_id", fallback=0),
        Feature("count", where="event_at > '2024-01-01'", fallback=0, name="recent"),
        Feature("count", where="channel = 1 OR value = '10'", fallback=0, name="mixed"),
        Feature("count", where="points = channel", fallback=0, name="both"),
    ]
    with pytest.raises(SpecificationError, match="the features can't be computed") as refused:
        OnlineFeatures(wrong, numeric=["points"])
    assert [problem.message for problem in refused.value.problems] == [
        "'count_7d' names the same feature twice",
        "'recency_all' names two features; give one a name",
        "distinct_customer_id_all: 'customer_id' can't be read by a feature; day, hour, weekday can",
        "recent: 'event_at' can't be read by a condition; use window",
        "mixed: channel = 1 compares text with a number; write '1'",
        "mixed: value = '10' compares a number with text; write 10",
        "both: points = channel compares a number with text",
    ]


def test_a_column_is_text_or_numbers_for_all_features():
    with pytest.raises(SpecificationError, match="channel = 'web' compares a number with text"):
        OnlineFeatures([Feature("sum", "channel", fallback=0), Feature("count", where="channel = 'web'", fallback=0)])


def test_a_feature_as_a_dict_is_refused_with_what_reads_it():
    with pytest.raises(SpecificationError, match=r"not a dict.*Remedy: Feature\.from_dict reads dicts"):
        OnlineFeatures([Feature("count", fallback=0).to_dict()])


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(SpecificationError, match="did you mean 'Europe/Madrid'"):
        OnlineFeatures([], timezone="Europe/Madrd")
