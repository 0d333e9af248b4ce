"""Features as values: names that last, JSON both ways, honest refusals; and the plan that computes them, byte for byte the same."""

import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from persopredict import Churn, Conversion, EventLog, Feature, conditions, default_features, survey
from persopredict.engines.base import Step
from persopredict.engines.duckdb import DuckDBEngine
from persopredict.errors import EngineError, SpecificationError
from persopredict.features.builders import windows_within
from persopredict.features.spec import AGGREGATES, check_features
from persopredict.snapshots import snapshots
from persopredict.times import Duration

DAY = timedelta(days=1)
END = datetime(2024, 6, 1, tzinfo=UTC)
WINDOWS = ("7d", "14d", "28d", "56d", "91d", "182d", "364d", "all")
KINDS = ("", "campaign_", "purchase_", "redemption_")


def reference_log():
    """A shop with the columns of The Complete Journey: lines of orders with a price, two levels of category, three kinds of events."""
    rows = 60
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{number % 5}" for number in range(rows)],
            "event_at": [END - (number + 1) * 7 * DAY for number in range(rows)],
            "event": [("purchase", "purchase", "redemption", "purchase", "campaign", "campaign")[number % 6] for number in range(rows)],
            "order_id": [str(number // 2) for number in range(rows)],
            "item_id": [str(number % 7) for number in range(rows)],
            "department": ["grocery", "drugs"] * (rows // 2),
            "family": ["bread", "pills", "milk"] * (rows // 3),
            "quantity": [1] * rows,
            "value": [number / 100 for number in range(rows)],
        }
    )
    return EventLog(frame, category=("department", "family"), timezone="America/New_York")


# Names -----------------------------------------------------------------------------------------------------------------------------

#: Models name their columns by these: a change breaks every saved model.
GOLDEN = [
    *(f"{aggregate}_{kind}all" for aggregate in ("recency", "tenure") for kind in KINDS),
    *(f"distinct_day_{window}" for window in WINDOWS),
    *(f"distinct_order_id_{window}" for window in ("28d", "91d", "182d", "364d", "all")),
    *(f"count_{kind}{window}" for kind in KINDS for window in WINDOWS),
    *(f"sum_value_{window}" for window in WINDOWS),
    *(f"{aggregate}_value_{window}" for window in ("91d", "all") for aggregate in ("mean", "max", "std")),
    *(f"ratio_value_order_id_{window}" for window in ("28d", "91d", "all")),
    *(f"{aggregate}_{window}" for aggregate in ("gap_mean", "gap_std", "overdue") for window in ("91d", "182d", "all")),
    *(f"{aggregate}_{kind}all" for kind in KINDS[1:] for aggregate in ("gap_mean", "overdue")),
    *(f"trend_{column}{window}" for column in ("", "value_") for window in ("14d", "28d", "56d", "182d", "364d")),
    *(f"distinct_{column}_{window}" for column in ("department", "family", "item_id") for window in ("28d", "91d", "182d", "all")),
    *(
        f"share_{part}_{window}"
        for part in ("hour_lt_6", "hour_between_6_and_11", "hour_between_12_and_17", "hour_gte_18", "weekday_gte_6")
        for window in ("91d", "all")
    ),
    "mean_hour_all",
    "std_hour_all",
    "count_category_drugs_91d",
    "count_category_grocery_91d",
]


def test_the_default_features_keep_their_names():
    assert [feature.name for feature in default_features(reference_log())] == GOLDEN


def test_there_are_at_least_sixty_default_features_where_the_columns_allow():
    assert len(GOLDEN) == len(set(GOLDEN)) >= 60


def test_default_names_do_not_depend_on_the_order_of_the_rows():
    frame = pd.DataFrame({"customer_id": list("aab"), "event_at": ["2024-01-01"] * 3, "event": ["visit", "buy", "buy"]})
    first, second = (default_features(EventLog(rows)) for rows in (frame, frame.sample(frac=1, random_state=3)))
    assert first == second


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        (Feature("count", fallback=0), "count_all"),
        (Feature("sum", "value", window="4w", where="channel='web'", fallback=0), "sum_value_channel_web_28d"),
        (Feature("ratio", ("value", "order_id"), window="36h", fallback=None), "ratio_value_order_id_36h"),
        (
            Feature("share", where="value >= -1.5 AND NOT hour IN (1, 2)", fallback=None),
            "share_value_gte_minus_1_5_and_not_hour_in_1_2_all",
        ),
        (Feature("count", where="event = 'Añejo'", fallback=0), "count_a_ejo_all_24ceda87"),
        (Feature("count", where="tier = '" + "x" * 80 + "'", fallback=0), "count_tier_" + "x" * 43 + "_2f75552c"),
        (Feature("count", fallback=0, name="mine"), "mine"),
    ],
)
def test_a_name_derives_from_the_values(feature, name):
    assert feature.name == name
    assert re.fullmatch(r"[a-z0-9_]{1,63}", name)


def test_events_whose_names_differ_only_in_what_a_name_can_not_hold_each_get_their_features():
    names = ["購入", "閲覧", "Buy", "buy", "b-u-y", "b_u_y"]
    frame = pd.DataFrame({"customer_id": 1, "event_at": "2024-01-01", "event": names, "channel": names})
    found = default_features(EventLog(frame))
    assert len({feature.name for feature in found}) == len(found)
    for name in names:
        assert sum(feature.where == f"event = '{name}'" for feature in found) == 2 + len(WINDOWS) + 2
        assert sum(feature.where == f"channel = '{name}'" for feature in found) == 2


def test_rare_events_get_features_only_when_asked_for():
    kinds = [f"kind_{number}" for number in range(10)]
    frame = pd.DataFrame({"customer_id": 1, "event_at": "2024-01-01", "event": [name for name in kinds for _ in range(12 - int(name[5:]))]})
    log = EventLog(frame)
    assert "recency_kind_9_all" not in [feature.name for feature in default_features(log)]
    focused = [feature.name for feature in default_features(log, focus=["kind_9", "never"])]
    assert "recency_kind_9_all" in focused
    assert "recency_never_all" not in focused


def test_names_first_known_at_the_cutoff_or_later_are_no_features_at_it():
    """Else a model would be told which events, channels and categories the future brings."""
    rows = [("old", "web", "bread", END - DAY, END - DAY), ("soon", "fax", "milk", END, END), ("new", "app", "wine", END - DAY, END)]
    frame = pd.DataFrame(rows, columns=["event", "channel", "category", "event_at", "known_at"]).assign(customer_id=1)
    log = EventLog(frame)
    assert snapshots(log, [END]).features == tuple(default_features(log, until=END)) == tuple(default_features(EventLog(frame[:1])))
    assert {"count_category_milk_91d", "share_channel_app_91d"} < {feature.name for feature in default_features(log)}


def test_labels_are_words_for_people():
    assert Feature("recency", where="event = 'purchase'", fallback=None).label == "days since the last purchase event"
    assert Feature("distinct", "day", window="28d", fallback=0).label == "active days, last 28 days"
    assert Feature("ratio", ("value", "order_id"), window="36h", fallback=0).label == "value per order, last 36 hours"
    assert all(feature.label and "{" not in feature.label for feature in default_features(reference_log()))


# Values ----------------------------------------------------------------------------------------------------------------------------


def test_features_go_through_json_and_back():
    for feature in [
        *default_features(reference_log()),
        Feature("ratio", ("value", "day"), window="5h", fallback=-1.5, name="n", label="words"),
    ]:
        again = Feature.from_dict(json.loads(json.dumps(feature.to_dict())))
        assert (again, again.label, again.to_dict()) == (feature, feature.label, feature.to_dict())


def test_equal_features_are_one_in_a_set():
    spelled = [
        Feature("sum", "value", window="28d", where="channel = 'web'", fallback=0),
        Feature("sum", "value", window="4w", where="channel='web'", fallback=0.0),
    ]
    assert len(set(spelled)) == 1
    assert len({*spelled, Feature("sum", "value", window="28d", where="channel = 'web'", fallback=None)}) == 2


def test_a_fallback_may_be_a_numpy_number_and_becomes_a_float():
    assert Feature("count", fallback=np.int64(3)) == Feature("count", fallback=np.float32(3)) == Feature("count", fallback=3)
    assert type(Feature("count", fallback=np.int64(3)).fallback) is float


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_fallback_stands_where_the_aggregate_is_undefined(aggregate):
    column = ("value", "order_id") if aggregate == "ratio" else "value" if AGGREGATES[aggregate].columns == (1,) else None
    half_life = "7d" if aggregate == "decayed_sum" else None
    asked = [
        Feature(aggregate, column, window="28d", fallback=fallback, name=f"f{number}", half_life=half_life)
        for number, fallback in enumerate((None, 0, -7.5))
    ]
    frame = pd.DataFrame({"customer_id": [1], "event_at": [END - 100 * DAY], "event": ["visit"], "value": [5.0], "order_id": ["1"]})
    (row,) = snapshots(EventLog(frame), [END], asked).to_arrow().to_pylist()
    assert [row[feature.name] for feature in asked] == [None, 0.0, -7.5]


# Refusals --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "messages"),
    [
        (("summ", "value"), {}, ["did you mean 'sum'?"]),
        (
            ("sum",),
            {"window": "1 month", "where": "lower(x) = 1"},
            ["'1 month' is not a duration", "Lower is not allowed", "takes 1 column, got 0"],
        ),
        (("count", "value"), {"fallback": "none"}, ["takes 0 columns, got 1", "finite number or None, got 'none'"]),
        (("count",), {"fallback": float("nan")}, ["finite number or None"]),
        (("ratio", "value"), {}, ["takes 2 columns, got 1"]),
        (("count",), {"window": "0d"}, ["longer than nothing"]),
        (("trend",), {}, ["needs one of two hours or more"]),
        (("trend",), {"window": "1h"}, ["needs one of two hours or more"]),
        (("trend",), {"window": "fortnight"}, ["'fortnight' is not a duration"]),
        (("count",), {"name": "Mine!"}, ["must be [a-z0-9_]"]),
        (("count",), {"name": "x" * 64}, ["at most 63 bytes"]),
        (("count",), {"where": "value"}, ["is not a condition"]),
        (("count",), {"where": "events.value = 1"}, ["names a table"]),
        (("count",), {"where": "value = (SELECT 1)"}, ["is not allowed"]),
        (("count",), {"where": "value IN (SELECT 1)"}, ["is not allowed"]),
        (("count",), {"where": "channel IN tags"}, ["is not allowed"]),
        (("count",), {"where": "channel LIKE 'w%'"}, ["Like is not allowed"]),
        (("count",), {"where": "value = 1; DROP TABLE events"}, ["where"]),
        (("count",), {"where": "value ="}, ["can't be read"]),
    ],
)
def test_a_wrong_feature_is_refused_with_every_problem(arguments, options, messages):
    with pytest.raises(SpecificationError) as refused:
        Feature(*arguments, **{"fallback": 0, **options})
    assert all(message in str(refused.value) for message in messages), str(refused.value)
    assert len(refused.value.problems) == len(messages) or not refused.value.problems


def test_a_feature_without_a_fallback_is_refused():
    with pytest.raises(TypeError, match="fallback"):
        Feature("count")


def test_all_problems_of_a_set_of_features_and_targets_are_listed_at_once():
    asked = [
        Feature("sum", "valeu", fallback=0),
        Feature("sum", "item_id", fallback=0),
        Feature("ratio", ("item_id", "value"), fallback=0),
        Feature("count", where="familly = 'bread'", fallback=0),
        Feature("count", where="event_at > '2024-01-01'", fallback=0, name="past"),
        Feature("distinct", "customer_id", fallback=0),
        Feature("distinct", "event_at", fallback=0),
        Feature("count", where="item_id = 1", fallback=0),
        Feature("count", where="value IN ('1', 'many') OR hour BETWEEN '1' AND 2", fallback=0, name="texts"),
        Feature("count", window="7d", fallback=0, name="twice"),
        Feature("count", window="7d", fallback=0, name="twice"),
        Feature("count", window="9d", fallback=0, name="twice"),
    ]
    targets = [Conversion("purchase", "7d", where="chanel = 'web'", cohort="value = 'x'", name="t"), Churn("purchase", "7d", name="t")]
    with pytest.raises(SpecificationError) as refused:
        snapshots(reference_log(), [], asked, targets)
    messages = [
        "sum_valeu_all: no column 'valeu'; did you mean 'value'?",
        "sum_item_id_all: sum needs numbers, 'item_id' holds text",
        "ratio_item_id_value_all: ratio needs numbers, 'item_id' holds text",
        "no column 'familly'; did you mean 'family'?",
        "past: 'event_at' can't be read by a condition; use window",
        "distinct_customer_id_all: 'customer_id' can't be read by a feature",
        "distinct_event_at_all: 'event_at' can't be read by a feature",
        "item_id = 1 compares text with a number; write '1'",
        "value IN ('1', 'many') compares a number with text; write 1",
        "value IN ('1', 'many') compares a number with text; write many",
        "hour BETWEEN '1' AND 2 compares a number with text; write 1",
        "'twice' names the same feature twice",
        "'twice' names two features; give one a name",
        "t: no column 'chanel'; ",
        "t: value = 'x' compares a number with text",
        "two targets are named 't'",
        "there is no cutoff",
    ]
    assert [message for message in messages if message not in str(refused.value)] == []
    assert len(refused.value.problems) == len(messages)


def test_a_log_without_the_columns_lists_what_there_is():
    problems = check_features([Feature("sum", "value", fallback=0)], ["event", "hour"], ["hour"])
    assert [problem.message for problem in problems] == ["sum_value_all: no column 'value'; there are: 'event', 'hour'"]


def test_windows_longer_than_the_history_are_told_apart():
    features = [Feature("count", window=window, fallback=0) for window in ("7d", "28d", "29d", None)]
    fits, longer = windows_within(features, Duration.parse("28d"))
    assert [str(feature.window) for feature in fits] == ["7d", "28d", "None"]
    assert [str(feature.window) for feature in longer] == ["29d"]


def test_a_parsed_condition_belongs_to_the_caller():
    """What one statement does to its copy, the next must not see."""
    conditions.parse("channel = 'web'").set("expression", exp.Literal.string("spoilt"))
    assert conditions.parse("channel = 'web'").sql() == "channel = 'web'"


# The plan --------------------------------------------------------------------------------------------------------------------------


def test_the_plan_is_sql_under_the_names_of_its_steps():
    snap = snapshots(reference_log(), [END - 56 * DAY], None, [Churn("purchase", "28d")])
    sql = snap.sql()
    for step in ("cells", "labels"):
        assert f"-- {step}\n" in sql
    assert [step.name for step in snap.steps()] == re.findall(r"^-- (\w+)$", sql, flags=re.MULTILINE)
    assert "ASOF" not in sql
    assert "RANGE BETWEEN" not in sql


def test_the_log_is_read_once_however_many_windows_and_cutoffs_there_are():
    log = reference_log()
    few = snapshots(log, [END], [Feature("sum", "value", window="7d", fallback=0)])
    cutoffs = [END - number * 7 * DAY for number in range(20)]
    many = snapshots(log, cutoffs, [Feature("sum", "value", window=f"{days}d", fallback=0) for days in range(1, 60)])
    assert few.sql().count('FROM "events"') == many.sql().count('FROM "events"')


@pytest.mark.parametrize(("late", "few"), [(False, 0), (False, 104), (True, 0), (True, 104)])
def test_many_cutoffs_together_give_what_each_gives_alone(late, few, monkeypatch):
    """Hundreds of edges: patterns of several words, cutoffs in several queries, windows longer than the history."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 8, 400),
            "event_at": pd.to_datetime(END) - pd.to_timedelta(rng.integers(1, 300 * 24, 400), unit="h"),
            "event": rng.choice(["buy", "see"], 400),
            "item_id": rng.integers(0, 9, 400).astype(str),
            "value": rng.integers(-500, 5000, 400) / 100,
        }
    )
    if late:
        frame["known_at"] = frame["event_at"] + pd.to_timedelta(rng.choice([0, 0, 30, 900], 400), unit="h")
    monkeypatch.setattr(survey, "_FEW", few)
    log = EventLog(frame, timezone="Europe/Madrid")
    shapes = [("distinct", "item_id"), ("distinct", "day"), ("max", "value"), ("std", "value"), ("last", "value"), ("first", "value")]
    windows = ("3d", "28d", "364d", None)
    features = [Feature(name, column, window=window, fallback=None) for name, column in shapes for window in windows]
    features += [Feature("decayed_sum", "value", half_life="9d", fallback=None), Feature("gap_std", window="91d", fallback=None)]
    cutoffs = [END - number * 4 * DAY for number in range(70)]
    together = snapshots(log, cutoffs, features).to_arrow()
    alone = pa.concat_tables(snapshots(log, [cutoff], features).to_arrow() for cutoff in cutoffs)
    assert together.equals(alone.sort_by([("customer_id", "ascending"), ("cutoff", "ascending")]))


def test_a_failing_step_comes_back_with_its_name_and_its_sql():
    log = reference_log().prepare()
    snap = snapshots(log, [END], [Feature("count", fallback=0)])
    log.engine.view(Step("events", exp.select(exp.alias_(exp.Literal.number(1), "something_else"))))
    with pytest.raises(EngineError, match="step 'cells' failed") as failed:
        snap.to_arrow()
    assert failed.value.step == "cells"
    assert "--- SQL of cells ---\nSELECT" in str(failed.value)


def test_snapshots_without_features_are_keys_and_labels():
    table = snapshots(reference_log(), [END - 28 * DAY], [], [Churn("purchase", "28d")]).to_arrow()
    assert table.schema.names == ["customer_id", "cutoff", "label_churn_purchase_28d"]
    assert table.schema.field("cutoff").type == pa.timestamp("us", tz="UTC")
    assert table.num_rows > 0


def test_a_cutoff_that_knows_nobody_gives_no_rows_but_all_columns(tmp_path):
    snap = snapshots(reference_log(), [END - 9999 * DAY], [Feature("count", fallback=0)])
    assert snap.to_arrow().schema.names == ["customer_id", "cutoff", "count_all"]
    assert pd.read_parquet(snap.to_parquet(tmp_path / "none.parquet")).shape == (0, 3)


def test_rows_come_by_customer_and_cutoff_and_features_as_doubles(tmp_path):
    snap = snapshots(reference_log(), [END, END - 28 * DAY, END], default_features(reference_log()))
    table = snap.to_arrow()
    keys = table.select(["customer_id", "cutoff"]).to_pylist()
    assert keys == sorted(keys, key=lambda row: (row["customer_id"], row["cutoff"]))
    assert len(keys) == 10
    assert {table.schema.field(name).type for name in GOLDEN} == {pa.float64()}
    small = snapshots(snap.events, snap.cutoffs, snap.features[:3])
    assert pq.read_table(small.to_parquet(tmp_path / "s.parquet")) == table.select([0, 1, 2, 3, 4])
    assert [batch.num_rows for batch in small.batches(4)] == [4, 4, 2]


def test_threads_and_runs_give_the_same_bytes():
    """Amounts whose double sums would differ with the order in which threads add them, in a log that two threads share."""
    rows, random = 250_000, np.random.default_rng(7)
    columns = {
        "customer_id": pa.array(random.integers(0, 2_000, rows)),
        "event_at": pa.array((random.integers(0, 400 * 86_400, rows) + 1_672_531_200) * 1_000_000, pa.timestamp("us", tz="UTC")),
        "event": pa.array(np.where(random.random(rows) < 0.5, "visit", "buy")),
        "value": pa.array(np.round(random.lognormal(3, 3, rows), 2)),
        "order_id": pa.array(random.integers(0, 100_000, rows)),
    }
    features = [
        Feature(name, "value", window=window, fallback=None) for name in ("sum", "mean", "std", "trend") for window in ("28d", "91d")
    ]
    features += [Feature(name, window="91d", fallback=None) for name in ("gap_mean", "gap_std", "overdue", "recency", "share")]
    features += [Feature("ratio", ("value", "order_id"), fallback=None), Feature("distinct", "order_id", where="value > 20", fallback=0)]
    results = []
    for threads, runs in ((1, 1), (2, 2)):
        log = EventLog(pa.table(columns))
        log.engine = DuckDBEngine(threads=threads)
        snap = snapshots(log, [datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)], features, [Churn("buy", "28d")])
        results += [arrow_bytes(snap.to_arrow()) for _ in range(runs)]
    assert len(results) == 3
    assert len(results[0]) > 2_000 * 8 * len(features)
    assert len(set(results)) == 1


def arrow_bytes(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def test_a_value_of_a_dimension_that_few_customers_hold_names_no_feature():
    holders = [*(f"c{number}" for number in range(10)), *(f"d{number}" for number in range(9))]
    frame = pd.DataFrame(
        {"customer_id": holders, "event_at": "2024-01-01", "event": "visit", "plan": ["basic"] * 10 + ["ann@example.org"] * 9}
    )
    names = [feature.name for feature in default_features(EventLog(frame, dimensions=["plan"]))]
    assert "count_plan_basic_28d" in names
    assert not any("ann" in name for name in names)


def test_a_dimension_of_numbers_is_counted_by_no_value():
    frame = pd.DataFrame({"customer_id": [f"c{n}" for n in range(12)], "event_at": "2024-01-01", "event": "visit", "device": [1, 2, 3] * 4})
    log = EventLog(frame, dimensions=["device"])
    features = default_features(log)
    assert not any("device" in feature.name for feature in features)
    assert len(snapshots(log, ["2024-02-01"], features).to_arrow()) == 12
