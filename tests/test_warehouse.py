"""The warehouse: what a night leaves, what a rerun, a crash and a busy file do to it."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persopredict.attributes import attributes, run_id
from persopredict.errors import DataError, EngineError, SpecificationError, WarehouseBusyError
from persopredict.warehouse import Run, Settled, Warehouse
from persopredict.warehouse_tables import TABLES

FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def night(number):
    return FIRST + timedelta(days=number)


def scored(as_of=FIRST, target="churn", version="1", **probability):
    """Attributes of customers given as name=probability; None: not scored."""
    frame = pd.DataFrame({"customer_id": list(probability), "probability": pd.Series(list(probability.values()), dtype="float64")})
    frame["not_scored_reason"] = [None if value is not None else "not_active" for value in probability.values()]
    return attributes(frame, target, as_of, model_version=version)


def tastes(as_of=FIRST, target="taste", **categories):
    """Attributes of an affinity: customer={category: (probability, is_new)}."""
    rows = [(customer, category, *value) for customer, known in categories.items() for category, value in known.items()]
    return attributes(pd.DataFrame(rows, columns=["customer_id", "category", "probability", "is_new"]), target, as_of)


def wide(warehouse):
    return warehouse.sql("FROM customer_attributes").set_index("customer_id")


def everything(warehouse):
    """All that a warehouse holds but `scored_at`, and the bytes of the copy."""
    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        tables = {name: connection.table(name).to_arrow_table() for name in names}
    assert set(tables) == {*TABLES, "customer_attributes"}
    clocks = ("scored_at", "measured_at")
    rest = {name: table.select([column for column in table.column_names if column not in clocks]) for name, table in tables.items()}
    return rest, warehouse.copy_path.read_bytes()


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(tmp_path / "warehouse.duckdb", wait=10)


# --- one night after the other ---


def test_a_night_is_read_back_as_it_was_published(warehouse):
    frame = scored(b=0.2, a=0.9, c=None)
    warehouse.publish(frame)
    expected = frame.sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(warehouse.attributes("churn"), expected)
    pd.testing.assert_frame_equal(warehouse.attributes("churn", "2024-01-01"), expected)


def test_publishing_again_leaves_the_same_rows_but_for_scored_at(warehouse):
    frames = [scored(night(0), a=0.1, b=0.2), scored(night(0), "other", a=0.3), tastes(night(0), a={"x": (0.5, True)})]
    later = [scored(night(1), a=0.4, b=None), Run("other", night(1), "skipped", code="too_few_positives")]
    warehouse.publish(frames)
    warehouse.publish(later)
    before = everything(warehouse)
    warehouse.publish([frame.assign(scored_at=frame["scored_at"] + pd.Timedelta("1h")) for frame in frames])
    warehouse.publish(later)
    assert everything(warehouse) == before


def test_a_rerun_replaces_its_own_run_and_nothing_else(warehouse):
    warehouse.publish([scored(night(0), a=0.1, b=0.2), scored(night(0), "other", a=0.3), scored(night(1), a=0.4)])
    untouched = [warehouse.attributes("other"), warehouse.attributes("churn", night(0))]
    warehouse.publish(scored(night(1), version="2", c=0.7))
    assert warehouse.attributes("churn")[["customer_id", "model_version"]].to_numpy().tolist() == [["c", "2"]]
    for frame, after in zip(untouched, [warehouse.attributes("other"), warehouse.attributes("churn", night(0))], strict=True):
        pd.testing.assert_frame_equal(after, frame)


def test_a_rerun_that_fails_takes_its_published_rows_back(warehouse):
    warehouse.publish([scored(night(0), a=0.1), scored(night(1), a=0.4)])
    warehouse.publish(Run("churn", night(1), "failed", code="worse_than_baseline", reason="log-loss 0.7 against 0.6"))
    assert wide(warehouse).loc["a", "churn_probability"] == 0.1
    with pytest.raises(SpecificationError, match=r"is failed: worse_than_baseline: log-loss 0.7 against 0.6"):
        warehouse.attributes("churn", night(1))


def test_the_ledger_counts_customers_by_reason(warehouse):
    run = Run(
        "churn",
        FIRST,
        attributes=scored(a=0.1, b=0.2, c=None),
        grade="B",
        trained_until=night(-28),
        metrics={"auc": 0.87, "undefined": float("nan"), "folds": [{"cutoff": night(-28)}]},
    )
    warehouse.publish([run, tastes(a={"x": (0.5, True), "y": (0.6, False)})])
    taste, churn = warehouse.runs().sort_values("target", ascending=False).to_dict("records")
    assert (taste["customers"], taste["scored"]) == (1, 1)
    assert (churn["state"], churn["customers"], churn["scored"], churn["grade"]) == ("published", 3, 2, "B")
    assert json.loads(churn["counts_by_reason"]) == {"not_active": 1}
    assert json.loads(churn["metrics"]) == {"auc": 0.87, "undefined": None, "folds": [{"cutoff": "2023-12-04 00:00:00+00:00"}]}
    assert (churn["trained_until"], churn["valid_until"]) == (night(-28), night(28))


def test_the_clock_serves_runs_without_rows_alone(tmp_path):
    warehouse = Warehouse(tmp_path / "w.duckdb", now=lambda: night(5))
    frame = scored(a=0.1)
    warehouse.publish([frame, Run("other", FIRST, "skipped", code="too_few_positives")])
    assert warehouse.runs()["scored_at"].to_list() == [frame["scored_at"][0], night(5)]


# --- one row per customer ---


def test_each_target_shows_its_latest_run(warehouse):
    warehouse.publish([scored(night(0), a=0.1, b=0.9), scored(night(0), "other", a=0.3), scored(night(1), a=0.8, b=0.2)])
    row = wide(warehouse).loc["a"]
    assert list(row.index) == [
        *(f"churn_{name}" for name in ("probability", "percentile", "band", "previous_band")),
        *("churn_reason_1", "churn_reason_2", "churn_reason_3", "churn_status", "churn_as_of"),
        *(f"other_{name}" for name in ("probability", "percentile", "band", "previous_band")),
        *("other_reason_1", "other_reason_2", "other_reason_3", "other_status", "other_as_of"),
    ]
    assert row[["churn_probability", "churn_percentile", "churn_band", "churn_as_of"]].to_list() == [0.8, 100, "high", night(1)]
    assert row[["other_probability", "other_status", "other_as_of"]].to_list() == [0.3, "scored", night(0)]


def test_the_previous_band_is_that_of_the_published_run_before(warehouse):
    bands = []
    for number, (a, b) in enumerate([(0.1, 0.9), (0.9, 0.1), (0.9, 0.1)]):
        warehouse.publish(scored(night(number), a=a, b=b))
        bands.append(wide(warehouse)[["churn_band", "churn_previous_band"]].fillna("").to_numpy().tolist())
    assert bands == [[["low", ""], ["high", ""]], [["high", "low"], ["low", "high"]], [["high", "high"], ["low", "low"]]]


def test_a_skipped_night_is_no_previous_run(warehouse):
    warehouse.publish(scored(night(0), a=0.1, b=0.9))
    warehouse.publish(Run("churn", night(1), "skipped", code="too_few_positives"))
    warehouse.publish(scored(night(2), a=0.9, b=0.1))
    assert wide(warehouse)["churn_previous_band"].to_list() == ["low", "high"]


def test_publishing_an_older_night_late_does_not_hide_the_newer_one(warehouse):
    warehouse.publish(scored(night(1), a=0.9, b=0.1))
    warehouse.publish(scored(night(0), a=0.1, b=0.9))
    assert wide(warehouse)[["churn_band", "churn_previous_band"]].to_numpy().tolist() == [["high", "low"], ["low", "high"]]


def test_a_customer_no_longer_eligible_keeps_the_row_with_nulls(warehouse):
    warehouse.publish(scored(night(0), a=0.1, b=0.9))
    warehouse.publish(scored(night(1), a=0.2))
    assert wide(warehouse).loc["b"].isna().all()
    assert wide(warehouse).loc["a", "churn_probability"] == 0.2


def test_a_customer_not_scored_has_a_status_and_no_score(warehouse):
    warehouse.publish(scored(a=0.1, b=None))
    row = wide(warehouse).loc["b"]
    assert row["churn_status"] == "not_scored"
    assert row[["churn_probability", "churn_percentile", "churn_band", "churn_reason_1"]].isna().all()


def test_an_expired_run_shows_nulls_from_the_instant_it_ends(warehouse):
    warehouse.publish(attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.1]}), "churn", FIRST, horizon="7d"))
    warehouse.publish(scored(night(6), "other", a=0.5))
    assert wide(warehouse).loc["a", "churn_probability"] == 0.1
    warehouse.publish(scored(night(7), "other", a=0.5))
    row = wide(warehouse).loc["a"]
    assert row[[name for name in row.index if name.startswith("churn_")]].isna().all()
    assert row["other_probability"] == 0.5


def test_reasons_read_as_the_sentences_that_their_labels_are(warehouse):
    reasons = [
        [
            {"label": "last visit 3 days ago", "value_text": "3 days", "direction": "for"},
            {"label": "never bought", "direction": "against"},
            {"value_text": "7 orders"},
            {"label": "4"},
        ],
        [],
        None,
    ]
    frame = pd.DataFrame({"customer_id": ["a", "b", "c"], "probability": [0.1, 0.2, 0.3], "reasons": reasons})
    warehouse.publish(attributes(frame, "churn", FIRST))
    shown = wide(warehouse)[["churn_reason_1", "churn_reason_2", "churn_reason_3"]]
    assert shown.loc["a"].to_list() == ["↑ last visit 3 days ago", "↓ never bought", "7 orders"]
    assert shown.loc[["b", "c"]].isna().all(axis=None)


def test_a_long_query_draws_no_bar_of_the_database(warehouse, capfd):
    warehouse.publish(attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.1]}), "churn", FIRST))
    assert warehouse.sql("SELECT current_setting('enable_progress_bar') AS bar")["bar"].to_list() == [False]
    assert capfd.readouterr() == ("", "")


def test_an_affinity_shows_the_top_categories_and_the_top_one_never_bought(warehouse):
    warehouse.publish(
        tastes(a={"x": (0.1, True), "y": (0.9, False), "z": (0.5, False), "w": (0.05, True)}, b={"x": (0.2, False)}),
    )
    shown = wide(warehouse)
    assert list(shown) == ["taste_top_1", "taste_top_2", "taste_top_3", "taste_top_new_1"]
    assert shown.loc["a"].to_list() == ["y", "z", "x", "x"]
    assert shown.loc["b"].fillna("").to_list() == ["x", "", "", ""]


def published(as_of=FIRST, target="taste", **customers):
    """What an affinity publishes, customer={category: (rank among all its categories, is_new)}; None: not asked."""
    rows = [(customer, None, None, None, None, "not_active") for customer, known in customers.items() if known is None]
    for customer, known in customers.items():
        rows += [(customer, category, 1 / rank, rank, is_new, None) for category, (rank, is_new) in (known or {}).items()]
    names = ["customer_id", "category", "probability", "rank", "is_new", "not_scored_reason"]
    return attributes(pd.DataFrame(rows, columns=names), target, as_of)


def test_new_categories_far_down_the_list_are_published_with_their_rank_and_take_no_place_of_the_top(warehouse):
    bought = {f"c{rank}": (rank, False) for rank in range(1, 11)}
    warehouse.publish(published(a=bought | {"n25": (25, True), "n31": (31, True), "n7": (12, True)}, b={"x": (1, False), "y": (2, True)}))
    assert wide(warehouse).loc["a"].to_list() == ["c1", "c2", "c3", "n7"]
    assert wide(warehouse).loc["b"].fillna("").to_list() == ["x", "y", "", "y"]
    ranks = warehouse.attributes("taste").query("customer_id == 'a'")["rank"].to_list()
    assert ranks == [*range(1, 11), 12, 25, 31]


def test_where_little_is_published_a_place_of_the_top_may_stay_empty(warehouse):
    warehouse.publish(published(a={"x": (1, False), "n": (3, True)}))
    assert wide(warehouse).loc["a"].fillna("").to_list() == ["x", "", "n", "n"]


def test_a_customer_not_asked_for_an_affinity_has_a_status_and_no_category(warehouse):
    warehouse.publish(published(a={"x": (1, True)}, b=None))
    assert wide(warehouse).loc["b"].isna().all()
    row = warehouse.attributes("taste").query("customer_id == 'b'").iloc[0]
    assert (row["status"], row["not_scored_reason"]) == ("not_scored", "not_active")
    assert row[["category", "probability", "rank", "is_new", "percentile"]].isna().all()
    ledger = warehouse.runs().iloc[0]
    assert (ledger["customers"], ledger["scored"], json.loads(ledger["counts_by_reason"])) == (2, 1, {"not_active": 1})


def test_a_customer_who_left_an_affinity_loses_the_top_of_the_night_before(warehouse):
    warehouse.publish(published(night(0), a={"x": (1, True)}, b={"x": (1, False)}))
    warehouse.publish(published(night(1), a=None, b={"y": (1, True)}))
    assert wide(warehouse).loc["a"].isna().all()
    assert wide(warehouse).loc["b", "taste_top_1"] == "y"


def test_a_night_on_which_nobody_is_asked_keeps_the_columns_of_an_affinity(warehouse):
    warehouse.publish(published(night(0), a={"x": (1, True)}))
    warehouse.publish(published(night(1), a=None))
    assert list(wide(warehouse)) == ["taste_top_1", "taste_top_2", "taste_top_3", "taste_top_new_1"]
    assert wide(warehouse).loc["a"].isna().all()


def test_ids_of_any_script_lie_in_order(warehouse):
    ids = ["客户-1", "ñandú", "O'Brien; DROP TABLE runs", 'a"b', "Ωmega", "🙂", "a"]
    for number, some in enumerate([ids[:4], ids[4:], ids[2:5]]):
        frame = pd.DataFrame({"customer_id": some, "probability": 0.1})
        warehouse.publish(attributes(frame, "churn", night(number)))
    assert wide(warehouse).index.to_list() == sorted(ids)
    assert pq.read_table(warehouse.copy_path)["customer_id"].to_pylist() == sorted(ids)


def test_rows_lie_in_the_same_order_in_the_file_in_whatever_order_they_come(tmp_path):
    pairs = [("Ωmega", "x", 2), ("Ωmega", "y", 1), ("a", "y", 1), ("a", "x", 10), ("a", "z", 9), ("é", "x", 1)]
    frame = pd.DataFrame(pairs, columns=["customer_id", "category", "rank"]).assign(probability=0.1, not_scored_reason=None)
    frame.loc[len(frame)] = ["b", None, None, None, "not_active"]
    lying = []
    for number, seed in enumerate((None, 1, 2)):
        rows = frame.sort_values(["customer_id", "rank"]) if seed is None else frame.sample(frac=1, random_state=seed)
        warehouse = Warehouse(tmp_path / str(number) / "warehouse.duckdb")
        warehouse.publish(attributes(rows, "taste", night(0)))
        lying.append(warehouse.sql("SELECT customer_id, category, rank FROM predictive_attributes").to_numpy().tolist())
    assert [line[:2] for line in lying[0][:3]] == [["a", "y"], ["a", "z"], ["a", "x"]]
    assert str(lying[0]) == str(lying[1]) == str(lying[2])


def test_two_targets_whose_columns_clash_are_refused_and_nothing_is_written(warehouse):
    warehouse.publish(scored(a=0.1))
    with pytest.raises(SpecificationError, match="'churn_previous_band'"):
        warehouse.publish(scored(target="churn_previous", a=0.2))
    assert warehouse.targets() == ["churn"]


# --- how much is kept ---


def test_keep_bounds_the_history_of_the_targets_published(warehouse):
    warehouse.publish([scored(night(number), target, a=0.1, **{f"b{number}": 0.2}) for number in range(4) for target in ("churn", "other")])
    warehouse.publish(scored(night(4), a=0.3), keep="2d")
    ledger = warehouse.runs()
    assert ledger.loc[ledger["target"] == "churn", "as_of"].to_list() == [night(2), night(3), night(4)]
    assert ledger.loc[ledger["target"] == "other", "as_of"].to_list() == [night(number) for number in range(4)]
    assert warehouse.sql("SELECT min(as_of) AS first FROM predictive_attributes WHERE target = 'churn'")["first"][0] == night(2)


def test_keep_never_deletes_the_newest_published_run(warehouse):
    warehouse.publish(scored(night(0), a=0.1))
    warehouse.publish(Run("churn", night(20), "skipped", code="too_few_positives"), keep="1d")
    assert warehouse.runs()["as_of"].to_list() == [night(0), night(20)]
    assert wide(warehouse).loc["a", "churn_probability"] == 0.1


def test_a_customer_of_no_kept_run_has_no_row(warehouse):
    warehouse.publish(scored(night(0), gone=0.1, a=0.2))
    warehouse.publish(scored(night(9), a=0.2), keep="2d")
    assert wide(warehouse).index.to_list() == ["a"]


# --- quarantine ---


def rejected(*numbers):
    count = len(numbers)
    rows = [json.dumps({"client": number}) for number in numbers]
    return pa.table(
        {"source": ["sales"] * count, "row_number": pa.array(numbers, pa.int64()), "code": ["null_customer_id"] * count}
        | {"reason": ["no id"] * count, "row": pa.array(rows, pa.string())}
    )


def test_quarantined_rows_replace_those_of_the_same_night(warehouse):
    kept = "SELECT as_of, row_number FROM quarantine ORDER BY ALL"
    warehouse.publish(scored(night(0), a=0.1), quarantine=rejected(3, 17))
    warehouse.publish(scored(night(1), a=0.1), quarantine=pl.from_arrow(rejected(5)))
    warehouse.publish(scored(night(0), a=0.1), quarantine=duckdb.from_arrow(rejected(4)))
    assert warehouse.sql(kept).to_numpy().tolist() == [[night(0), 4], [night(1), 5]]
    warehouse.publish(scored(night(0), a=0.1), quarantine=rejected())
    assert warehouse.sql(kept).to_numpy().tolist() == [[night(1), 5]]
    warehouse.publish(scored(night(1), a=0.1))
    assert warehouse.sql(kept).to_numpy().tolist() == [[night(1), 5]]


def test_quarantined_rows_go_when_no_run_is_as_old(warehouse):
    warehouse.publish(scored(night(0), a=0.1), quarantine=rejected(1))
    warehouse.publish(scored(night(5), a=0.1), quarantine=rejected(2), keep="1d")
    assert warehouse.sql("SELECT row_number FROM quarantine")["row_number"].to_list() == [2]


def test_quarantined_rows_need_no_number(warehouse):
    warehouse.publish(scored(a=0.1), quarantine=rejected(2, 1).drop_columns(["row_number"]))
    rows = warehouse.sql("SELECT row_number, row FROM quarantine")
    assert rows["row_number"].isna().all()
    assert rows["row"].to_list() == ['{"client": 1}', '{"client": 2}']


def test_quarantined_rows_need_their_other_columns_and_one_night(warehouse):
    with pytest.raises(SpecificationError, match="no column 'reason'"):
        warehouse.publish(scored(a=0.1), quarantine=rejected(1).drop_columns(["reason"]))
    with pytest.raises(SpecificationError, match="the runs have 2"):
        warehouse.publish([scored(a=0.1), scored(night(1), a=0.1)], quarantine=rejected(1))
    assert not warehouse.path.exists()


# --- what came of it ---


def came(as_of=FIRST, target="churn", version="1", **values):
    """What came of a run that `scored` made."""
    given = {"customers": 100, "rows": 100, "expected": 10.5, "lower": 5, "upper": 17, "actual": 12, "auc": 0.8, "log_loss": 0.25}
    given |= {"base_rate_log_loss": 0.375, "ece": 0.02, "ece_chance_p95": 0.03, "settled_at": night(28), "measured_at": night(29)}
    key = {"target": target, "as_of": as_of, "run_id": run_id(target, as_of, version), "model_version": version}
    return Settled(**key, ended_at=as_of + timedelta(days=28), **given | values)


def test_what_came_of_runs_is_read_back_as_it_was_published(warehouse):
    runs = [came(night(1)), came(night(0)), came(night(0), "other", auc=float("nan"))]
    warehouse.publish([scored(night(0), a=0.1), scored(night(1), a=0.1), scored(night(0), "other", a=0.3)], outcomes=runs)
    found = warehouse.outcomes()
    assert list(found) == list(TABLES["outcomes"])
    assert [Settled.of(values) for values in found.iloc[:2].to_dict("records")] == [runs[1], runs[0]]
    assert np.isnan(found["auc"].iloc[2])
    assert warehouse.sql("SELECT count(*) AS n FROM outcomes WHERE auc IS NULL")["n"].to_list() == [1]
    assert warehouse.outcomes("other")["target"].to_list() == ["other"]


def test_the_outcomes_of_a_target_that_is_not_there_are_refused_by_name(warehouse):
    warehouse.publish(scored(a=0.1))
    assert warehouse.outcomes("churn").empty
    with pytest.raises(SpecificationError, match=r"no target 'chrun' in .*; did you mean 'churn'"):
        warehouse.outcomes("chrun")


def test_what_came_of_a_run_replaces_what_was_thought_to_have_come_of_it(warehouse):
    warehouse.publish(scored(a=0.1), outcomes=[came()])
    warehouse.publish([], outcomes=[came(actual=13)])
    assert warehouse.outcomes()["actual"].to_list() == [13]


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        (scored(a=0.2), 1),
        (scored(version="2", a=0.2), 0),
        (Run("churn", FIRST, "failed", model_version="1", code="worse_than_baseline"), 0),
    ],
    ids=["the same version", "another version", "not published any more"],
)
def test_a_run_published_again_keeps_what_came_of_it_as_long_as_it_is_the_same_run(warehouse, again, kept):
    warehouse.publish([scored(a=0.1), scored(target="other", a=0.1)], outcomes=[came(), came(target="other")])
    warehouse.publish(again)
    assert len(warehouse.outcomes("churn")) == kept
    assert len(warehouse.outcomes("other")) == 1


def test_outcomes_of_a_run_that_is_not_published_are_refused_and_nothing_is_written(warehouse):
    warehouse.publish(scored(a=0.1))
    before = everything(warehouse)
    for strange in (came(night(3)), came(version="2"), came(target="other")):
        with pytest.raises(SpecificationError, match=rf"not published: {strange.target} at {strange.as_of.isoformat()[:10]}"):
            warehouse.publish(scored(night(1), a=0.5), outcomes=[came(), strange])
    assert everything(warehouse) == before


def test_keep_bounds_what_came_of_runs_with_the_runs(warehouse):
    warehouse.publish([scored(night(number), a=0.1) for number in range(4)], outcomes=[came(night(number)) for number in range(4)])
    warehouse.publish(scored(night(4), a=0.3), keep="2d")
    assert warehouse.outcomes()["as_of"].to_list() == [night(2), night(3)]


# --- files of before ---

#: What the first schema created, as it was written then.
FIRST_SCHEMA = """
CREATE TABLE predictive_attributes (customer_id TEXT, target TEXT, category TEXT, probability DOUBLE, expected_value DOUBLE, currency TEXT,
    "lower" DOUBLE, "upper" DOUBLE, factors TEXT, affinity_index DOUBLE, rank INTEGER, is_new BOOLEAN, percentile INTEGER, band TEXT,
    reasons STRUCT(feature TEXT, "label" TEXT, "value" DOUBLE, value_text TEXT, direction TEXT, contribution DOUBLE)[], model_kind TEXT,
    status TEXT, not_scored_reason TEXT, as_of TIMESTAMPTZ, valid_until TIMESTAMPTZ, scored_at TIMESTAMPTZ, model_version TEXT,
    run_id TEXT);
CREATE TABLE runs (target TEXT, as_of TIMESTAMPTZ, run_id TEXT, state TEXT, code TEXT, reason TEXT, customers BIGINT, scored BIGINT,
    counts_by_reason TEXT, grade TEXT, model_version TEXT, trained_until TIMESTAMPTZ, valid_until TIMESTAMPTZ, metrics TEXT,
    scored_at TIMESTAMPTZ);
CREATE TABLE quarantine (as_of TIMESTAMPTZ, source TEXT, row_number BIGINT, code TEXT, reason TEXT, "row" TEXT);
CREATE TABLE persopredict_metadata ("name" TEXT, "value" TEXT);
CREATE TABLE customer_attributes AS SELECT 'a' AS customer_id, 0.25 AS churn_probability;
INSERT INTO persopredict_metadata VALUES ('schema_version', '1'), ('timezone', 'UTC');
INSERT INTO predictive_attributes (customer_id, target, probability, percentile, band, status, as_of, valid_until, scored_at, model_version,
    run_id) VALUES ('a', 'churn', 0.25, 100, 'high', 'scored', '2024-01-01 00:00:00Z', '2024-01-29 00:00:00Z', '2024-01-01 06:00:00Z', '1',
    '{run}');
INSERT INTO runs VALUES ('churn', '2024-01-01 00:00:00Z', '{run}', 'published', NULL, NULL, 1, 1, '{{}}', 'B', '1', NULL,
    '2024-01-29 00:00:00Z', '{{}}', '2024-01-01 06:00:00Z');
"""


@pytest.fixture
def of_before(warehouse):
    """A warehouse of the first schema with one published run."""
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(FIRST_SCHEMA.format(run=run_id("churn", FIRST, "1")))
    return warehouse


def test_a_file_of_before_the_outcomes_can_be_read_as_it_is(of_before):
    written = of_before.path.read_bytes()
    assert of_before.attributes("churn")["probability"].to_list() == [0.25]
    assert of_before.runs()["grade"].to_list() == ["B"]
    assert list(of_before.outcomes()) == list(TABLES["outcomes"])
    assert of_before.outcomes("churn").empty
    of_before.check()
    assert of_before.path.read_bytes() == written


def test_a_file_of_before_the_outcomes_gets_them_with_the_next_publish_and_keeps_its_rows(of_before):
    of_before.publish(scored(night(1), a=0.75), outcomes=[came()])
    assert of_before.outcomes()["actual"].to_list() == [12]
    assert of_before.runs()["as_of"].to_list() == [night(0), night(1)]
    assert of_before.attributes("churn", night(0))["probability"].to_list() == [0.25]
    assert wide(of_before).loc["a", ["churn_probability", "churn_previous_band"]].to_list() == [0.75, "high"]
    known = of_before.sql("SELECT name, value FROM persopredict_metadata ORDER BY name").to_numpy().tolist()
    assert known == [["schema_version", "3"], ["timezone", "UTC"]]


def test_a_table_of_somebody_else_s_in_the_place_of_the_outcomes_is_not_touched(of_before):
    with duckdb.connect(str(of_before.path)) as connection:
        connection.execute("CREATE TABLE outcomes AS SELECT 'mine' AS a")
    with pytest.raises(DataError, match="holds 'outcomes', not made by persopredict"):
        of_before.publish(scored(night(1), a=0.75))
    assert of_before.sql("SELECT a FROM outcomes")["a"].to_list() == ["mine"]


# --- reading ---


def test_some_columns_of_a_run_are_read_without_the_others(warehouse):
    warehouse.publish([scored(b=0.2, a=0.9, c=None), tastes(a={"x": (0.5, True), "y": (0.6, False)})])
    found = warehouse.attributes("churn", columns=["probability", "customer_id"])
    pd.testing.assert_frame_equal(found, warehouse.attributes("churn")[["probability", "customer_id"]])
    assert warehouse.attributes("taste", columns=["category"])["category"].to_list() == ["y", "x"]
    with pytest.raises(SpecificationError, match="no column 'probabilty'; did you mean 'probability'"):
        warehouse.attributes("churn", columns=["probabilty"])


def test_compare_shows_how_customers_moved(warehouse):
    warehouse.publish([scored(night(0), a=0.25, b=0.5, c=0.75), scored(night(1), a=0.75, b=None, d=0.5)])
    moved = warehouse.compare("churn", "2024-01-01", night(1))
    assert list(moved) == ["customer_id", "probability_a", "probability_b", "change", "band_a", "band_b"]
    shown = moved.astype(object).where(moved.notna(), None)
    assert shown.to_numpy().tolist() == [
        ["a", 0.25, 0.75, 0.5, "low", "high"],
        ["b", 0.5, None, None, "medium", None],
        ["c", 0.75, None, None, "high", None],
        ["d", None, 0.5, None, None, "low"],
    ]


def test_compare_tells_the_categories_of_an_affinity_apart(warehouse):
    first, second = tastes(night(0), a={"x": (0.5, True), "y": (0.25, True)}), tastes(night(1), a={"x": (0.75, True), "z": (0.25, True)})
    warehouse.publish([first, second])
    moved = warehouse.compare("taste", night(0), night(1))
    assert moved[["customer_id", "category"]].to_numpy().tolist() == [["a", "x"], ["a", "y"], ["a", "z"]]
    assert moved["change"].to_list()[0] == 0.25


def test_naive_instants_are_read_in_the_warehouse_s_zone(tmp_path):
    warehouse = Warehouse(tmp_path / "w.duckdb", timezone="America/New_York")
    frame = pd.DataFrame({"customer_id": ["a"], "probability": [0.5]})
    warehouse.publish(attributes(frame, "churn", "2024-01-01", timezone="America/New_York"))
    assert warehouse.attributes("churn", "2024-01-01")["as_of"][0].isoformat() == "2024-01-01T05:00:00+00:00"


def test_what_is_not_there_is_named_with_what_is(warehouse):
    with pytest.raises(DataError, match=r"no warehouse at .*; the first publish makes it"):
        warehouse.runs()
    warehouse.publish([scored(night(0), a=0.1), scored(night(1), a=0.1)])
    with pytest.raises(SpecificationError, match=r"no target 'chrun' in .*; did you mean 'churn'"):
        warehouse.attributes("chrun")
    with pytest.raises(SpecificationError, match=r"is not there; published, newest last: 2024-01-01T00.*, 2024-01-02T00"):
        warehouse.attributes("churn", "2024-02-01")
    with pytest.raises(SpecificationError, match="is not there"):
        warehouse.compare("churn", night(0), night(7))


def test_sql_reads_and_never_writes(warehouse):
    warehouse.publish(scored(a=0.1))
    assert warehouse.sql("SELECT count(*) AS n FROM runs")["n"].to_list() == [1]
    for query in ("DELETE FROM runs", "DROP TABLE customer_attributes", "CREATE TABLE mine (a INT)"):
        with pytest.raises(EngineError, match="read-only"):
            warehouse.sql(query)
    with pytest.raises(EngineError, match="SELECT nothing_like_it FROM runs"):
        warehouse.sql("SELECT nothing_like_it FROM runs")


# --- refusals ---


@pytest.mark.parametrize("url", ["postgresql://db/prod", "s3://bucket/w.duckdb", "md:prod", ":memory:", "", "duckdb:///", "duckdb://w"])
def test_what_is_no_duckdb_file_is_refused(url):
    with pytest.raises(SpecificationError, match=r"warehouse\.duckdb"):
        Warehouse(url)


def test_urls_name_files():
    paths = [str(Warehouse(url).path) for url in ("w.duckdb", "duckdb:///w.duckdb", "duckdb:////data/w.duckdb")]
    assert paths == ["w.duckdb", "w.duckdb", "/data/w.duckdb"]


def test_all_problems_of_all_runs_come_at_once_and_nothing_is_written(warehouse):
    wrong = [
        Run("churn", FIRST),
        Run("value", FIRST, "skiped"),
        Run("other", FIRST, "skipped"),
        Run("third", FIRST, "failed", attributes=scored(target="third", a=0.5), code="broken"),
        Run("fourth", night(1), attributes=scored(night(0), "fifth", a=0.5)),
        Run("x" * 50, FIRST, "failed", code="broken"),
        Run("sixth", FIRST, attributes=scored(target="sixth", a=0.5).drop(columns="band")),
        *[Run("seventh", FIRST, "failed", code="broken")] * 2,
        Run("eighth", FIRST, attributes=scored(target="eighth", a=0.5).iloc[:0]),
    ]
    with pytest.raises(SpecificationError) as caught:
        warehouse.publish(wrong)
    assert [(problem.source, problem.code) for problem in caught.value.problems] == [
        ("churn", "no_attributes"),
        ("value", "bad_state"),
        ("other", "no_code"),
        ("third", "hidden_scores"),
        ("fourth", "attributes_of_another_run"),
        ("fourth", "attributes_of_another_run"),
        ("fourth", "attributes_of_another_run"),
        ("x" * 50, "bad_target_name"),
        ("sixth", "missing_column"),
        ("eighth", "no_valid_until"),
        ("seventh", "duplicate_run"),
    ]
    assert not warehouse.path.exists()


def test_tables_of_the_same_names_are_not_touched(warehouse):
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("CREATE TABLE runs AS SELECT 'mine' AS a")
        connection.execute("CREATE VIEW customer_attributes AS SELECT 1 AS a")
    for call in (lambda: warehouse.publish(scored(a=0.1)), warehouse.runs):
        with pytest.raises(DataError, match="holds 'runs', 'customer_attributes', not made by persopredict"):
            call()
    assert warehouse.sql("SELECT a FROM runs")["a"].to_list() == ["mine"]


def test_other_tables_of_the_file_stay(warehouse):
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("CREATE TABLE sales AS SELECT 42 AS a")
    with pytest.raises(DataError, match="nothing is published"):
        warehouse.runs()
    warehouse.publish(scored(a=0.1))
    assert warehouse.sql("FROM sales")["a"].to_list() == [42]


def test_a_table_that_was_altered_is_refused(warehouse):
    warehouse.publish(scored(a=0.1))
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("ALTER TABLE runs ADD COLUMN mine INT")
    with pytest.raises(DataError, match="holds 'runs'"):
        warehouse.publish(scored(a=0.1))


def test_a_newer_version_s_warehouse_is_refused(warehouse):
    warehouse.publish(scored(a=0.1))
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("UPDATE persopredict_metadata SET value = '4'")
        connection.execute("ALTER TABLE runs ADD COLUMN invented_later INT")
    for call in (lambda: warehouse.publish(scored(a=0.2)), warehouse.runs):
        with pytest.raises(DataError, match=r"newer persopredict \(schema 4, this one knows 3\); upgrade"):
            call()


def test_a_file_that_is_no_database_is_refused(warehouse):
    warehouse.path.write_text("hello" * 1000)
    with pytest.raises(DataError, match="can't be opened as a DuckDB file"):
        warehouse.publish(scored(a=0.1))


# --- the Parquet copy ---


def in_table_and_copy(warehouse):
    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        table = connection.sql("FROM customer_attributes").to_arrow_table()
        return table.to_pylist(), connection.read_parquet(str(warehouse.copy_path)).to_arrow_table().to_pylist()


def test_the_copy_holds_what_the_table_holds(warehouse):
    for number in range(2):
        warehouse.publish([scored(night(number), a=0.1, b=None), tastes(night(number), a={"x": (0.5, True)})])
        table, copy = in_table_and_copy(warehouse)
        assert copy == table
        assert {row["churn_as_of"] for row in copy} == {night(number)}
    assert sorted(path.name for path in warehouse.path.parent.iterdir()) == ["customer_attributes.parquet", "warehouse.duckdb"]


def test_the_copy_is_replaced_whole_under_a_reader_s_hands(warehouse):
    warehouse.publish(scored(night(0), a=0.1))
    with warehouse.copy_path.open("rb") as before:
        warehouse.publish(scored(night(1), a=0.2))
        assert pq.read_table(before)["churn_probability"].to_pylist() == [0.1]
    assert pq.read_table(warehouse.copy_path)["churn_probability"].to_pylist() == [0.2]


def test_a_copy_that_is_missing_comes_back(warehouse):
    warehouse.publish(scored(a=0.1))
    for again in (warehouse.refresh_copy, lambda: warehouse.publish([])):
        warehouse.copy_path.unlink()
        again()
        assert pq.read_table(warehouse.copy_path)["churn_probability"].to_pylist() == [0.1]


def test_the_copy_of_another_warehouse_in_the_folder_is_not_replaced(warehouse):
    warehouse.publish(scored(a=0.1))
    second = Warehouse(warehouse.path.with_name("second.duckdb"))
    with pytest.raises(DataError, match=r"belongs to 'warehouse\.duckdb', and two warehouses can't share a folder"):
        second.publish(scored(a=0.9))
    assert not second.path.exists()


def test_a_file_of_the_copy_s_name_that_is_not_ours_is_not_replaced(warehouse):
    pq.write_table(pa.table({"mine": [1]}), warehouse.copy_path)
    with pytest.raises(DataError, match="is not persopredict's"):
        warehouse.publish(scored(a=0.9))
    warehouse.copy_path.write_text("mine")
    with pytest.raises(DataError, match="is not persopredict's"):
        warehouse.publish(scored(a=0.9))


def test_a_copy_that_can_not_be_written_is_said_and_the_runs_are_published(warehouse):
    warehouse.copy_path.with_name("customer_attributes.parquet.tmp").mkdir()
    with pytest.raises(DataError, match="the runs are published, but their copy"):
        warehouse.publish(scored(a=0.9))
    assert warehouse.targets() == ["churn"]


# --- the file in other hands ---

READER = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print("reading", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def reader(warehouse):
    """Another process that reads the file until a line is written to it."""
    warehouse.publish(scored(a=0.1))
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(warehouse.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "reading\n"
        yield process
        process.kill()


def test_a_reader_that_stays_is_named_after_the_wait(warehouse, reader):
    impatient = Warehouse(warehouse.path, wait=0.3)
    started = time.monotonic()
    with pytest.raises(WarehouseBusyError, match=rf"python\S* \(PID {reader.pid}\).*customer_attributes\.parquet") as caught:
        impatient.publish(scored(night(1), a=0.9))
    assert 0.3 <= time.monotonic() - started < 5
    assert "0.3 s" in str(caught.value)
    assert impatient.targets() == ["churn"]
    assert pq.read_table(warehouse.copy_path)["churn_probability"].to_pylist() == [0.1]


def test_a_reader_that_leaves_in_time_only_delays(warehouse, reader):
    timer = threading.Timer(0.4, reader.communicate, ["go\n"])
    timer.start()
    warehouse.publish(scored(night(1), a=0.9))
    timer.join()
    assert wide(warehouse)["churn_probability"].to_list() == [0.9]


def test_a_connection_of_this_process_is_named_too(warehouse):
    warehouse.publish(scored(a=0.1))
    with (
        duckdb.connect(str(warehouse.path), read_only=True),
        pytest.raises(WarehouseBusyError, match=rf"this very process \(PID {os.getpid()}\)"),
    ):
        Warehouse(warehouse.path, wait=0).publish(scored(a=0.2))


def test_errors_other_than_a_lock_are_not_waited_for(warehouse):
    warehouse.path.mkdir()
    started = time.monotonic()
    with pytest.raises(DataError):
        warehouse.publish(scored(a=0.1))
    assert time.monotonic() - started < 5


def test_threads_publish_one_after_the_other(warehouse):
    nights = [threading.Thread(target=warehouse.publish, args=[scored(night(number), a=0.1)]) for number in range(4)]
    for thread in nights:
        thread.start()
    for thread in nights:
        thread.join()
    assert len(warehouse.runs()) == 4
    table, copy = in_table_and_copy(warehouse)
    assert copy == table


# --- kill -9 ---

CUSTOMERS = 200
# Forks a process that publishes versions 1, 2, 3 … of one night for two targets, until it is killed or it kills itself.
PUBLISHER = r"""
import os, signal, sys
import pandas as pd
from persopredict.attributes import attributes
from persopredict.warehouse import Warehouse

def frames(version, customers):
    ids = [f"c{number:04}" for number in range(customers)]
    scores = pd.DataFrame({"customer_id": ids, "probability": version / 1000})
    return [attributes(scores, target, "2024-01-01", model_version=str(version)) for target in ("churn", "other")]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
for line in sys.stdin:
    folder, customers, dying_at = line.rstrip("\n").split("\t")
    child = os.fork()
    if child == 0:
        if dying_at:
            setattr(os, dying_at, die)
        for version in range(1, 60):
            Warehouse(folder + "/warehouse.duckdb").publish(frames(version, int(customers)))
            print("published", version, flush=True)
        os._exit(0)
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


class Publisher:
    """A process that forks others which publish, to be killed."""

    def __init__(self, process):
        self.process = process
        self.published = 0

    def start(self, folder, dying_at=""):
        """The PID of a new child that publishes to `folder`, or kills itself when it calls that function of `os`."""
        self.process.stdin.write(f"{folder}\t{CUSTOMERS}\t{dying_at}\n")
        self.process.stdin.flush()
        return self.until("child")

    def until(self, word):
        while True:
            found, *numbers = self.process.stdout.readline().split()
            if found == word:
                return int(numbers[0]) if numbers else None


@pytest.fixture(scope="module")
def publisher():
    with subprocess.Popen([sys.executable, "-c", PUBLISHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield Publisher(process)
        process.stdin.close()


def assert_one_whole_run(warehouse):
    """Both targets, their ledger and the wide rows come from one version, complete; returns it."""
    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        versions = "SELECT target, model_version, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
        rows = connection.execute(versions.format("predictive_attributes")).fetchall()
        ledger = connection.execute(versions.format("runs")).fetchall()
        wide_rows = connection.execute(
            "SELECT churn_probability, other_probability, count(*) FROM customer_attributes GROUP BY ALL"
        ).fetchall()
    version = rows[0][1]
    assert rows == [("churn", version, CUSTOMERS), ("other", version, CUSTOMERS)]
    assert ledger == [("churn", version, 1), ("other", version, 1)]
    assert wide_rows == [(int(version) / 1000, int(version) / 1000, CUSTOMERS)]
    return int(version)


def whole_night(version):
    frame = pd.DataFrame({"customer_id": [f"c{number:04}" for number in range(CUSTOMERS)], "probability": version / 1000})
    return [attributes(frame, target, FIRST, model_version=str(version)) for target in ("churn", "other")]


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_at_any_moment_leaves_a_whole_run_and_the_next_one_succeeds(warehouse, publisher, moment):
    child = publisher.start(warehouse.path.parent)
    if moment:
        publisher.until("published")
    time.sleep(random.Random(moment).uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    publisher.until("dead")
    if moment:
        assert assert_one_whole_run(warehouse) >= 1
        assert pq.read_table(warehouse.copy_path).num_rows == CUSTOMERS
    warehouse.publish(whole_night(999))
    assert assert_one_whole_run(warehouse) == 999
    table, copy = in_table_and_copy(warehouse)
    assert copy == table


def test_a_kill_between_the_commit_and_the_copy_heals_with_the_next_publish(warehouse, publisher):
    warehouse.publish(whole_night(998))
    publisher.start(warehouse.path.parent, dying_at="replace")
    publisher.until("dead")
    assert assert_one_whole_run(warehouse) == 1
    table, copy = in_table_and_copy(warehouse)
    assert copy != table
    assert copy[0]["churn_probability"] == 0.998
    warehouse.publish(whole_night(999))
    table, copy = in_table_and_copy(warehouse)
    assert copy == table
    assert copy[0]["churn_probability"] == 0.999
    assert sorted(path.name for path in warehouse.path.parent.iterdir()) == ["customer_attributes.parquet", "warehouse.duckdb"]


def test_a_kill_while_the_file_is_made_leaves_none_that_is_broken(warehouse, publisher):
    publisher.start(warehouse.path.parent, dying_at="link")
    publisher.until("dead")
    assert not warehouse.path.exists()
    warehouse.publish(whole_night(999))
    assert assert_one_whole_run(warehouse) == 999


def test_a_date_means_the_midnight_of_the_zone_that_the_publisher_named(tmp_path):
    midnight = datetime(2024, 1, 2, 5, tzinfo=UTC)
    frame = attributes(pd.DataFrame({"customer_id": ["a"], "probability": [0.5]}), "churn", midnight)
    path = tmp_path / "warehouse.duckdb"
    Warehouse(path, timezone="America/New_York").publish(frame)
    assert Warehouse(path).attributes("churn", "2024-01-02")["as_of"].iloc[0] == midnight
    with pytest.raises(SpecificationError, match="2024-01-02T05:00:00"):
        Warehouse(path, timezone="UTC").attributes("churn", "2024-01-02")
