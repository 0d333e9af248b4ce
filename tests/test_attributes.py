"""Predictive attributes: what a score becomes, and what is refused."""

import json
import math
import uuid
from datetime import UTC, datetime
from fractions import Fraction

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persopredict.attributes import (
    COLUMNS,
    NOT_SCORED_REASONS,
    SCHEMA,
    attributes,
    conform,
    percentiles,
    run_id,
    target_name_problems,
)
from persopredict.errors import SpecificationError
from persopredict.times import Duration

AS_OF = "2017-12-03"
NOON = datetime(2017, 12, 3, 12, tzinfo=UTC)


def scores(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"customer_id": [f"c{i}" for i in range(count)], **columns})


def codes(frame, **options):
    with pytest.raises(SpecificationError) as caught:
        attributes(frame, "churn", AS_OF, **options)
    return [problem.code for problem in caught.value.problems]


def test_the_columns_are_the_contract_s():
    assert list(attributes(scores(probability=[0.5]), "churn", AS_OF)) == [
        *("customer_id", "target", "category", "probability", "expected_value", "currency", "lower", "upper", "factors"),
        *("affinity_index", "rank", "is_new", "percentile", "band", "reasons", "model_kind", "status", "not_scored_reason"),
        *("as_of", "valid_until", "scored_at", "model_version", "run_id"),
    ]
    assert list(COLUMNS) == SCHEMA.names


def test_rows_keep_the_order_they_came_in():
    frame = pd.DataFrame({"customer_id": ["b", "a", "c"], "probability": [0.3, 0.1, 0.2]})
    assert attributes(frame, "churn", AS_OF)["customer_id"].to_list() == ["b", "a", "c"]


# --- percentiles and bands ---


def test_a_percentile_that_is_given_counts_those_that_the_frame_left_out():
    found = attributes(scores(probability=[0.9, 0.2], percentile=[97, 60]), "churn", AS_OF)
    assert found["percentile"].to_list() == [97, 60]
    assert found["band"].to_list() == ["high", "medium"]


@pytest.mark.parametrize("given", [[0, 50], [101, 50], [None, 50]])
def test_a_percentile_is_given_for_all_that_are_scored_and_within_1_to_100(given):
    with pytest.raises(SpecificationError, match="bad_percentile"):
        attributes(scores(probability=[0.9, 0.2], percentile=given), "churn", AS_OF)


def oracle(values):
    """ceil(100 · midrank / n), by counting, in exact fractions."""
    known = [value for value in values if value is not None]
    found = []
    for value in values:
        if value is None:
            found.append(None)
            continue
        below, same = sum(other < value for other in known), sum(other == value for other in known)
        found.append(math.ceil(Fraction(100) * (below + Fraction(same + 1, 2)) / len(known)))
    return found


@given(st.lists(st.none() | st.integers(0, 20).map(lambda whole: whole / 20), min_size=1, max_size=120))
def test_a_percentile_is_the_ceiling_of_the_midrank_s_share(values):
    got = percentiles(pd.Series(values, dtype="float64")).to_list()
    assert [None if value is pd.NA else value for value in got] == oracle(values)


def test_a_hundred_different_scores_take_the_hundred_percentiles():
    assert percentiles(pd.Series(np.arange(100) / 100)).to_list() == list(range(1, 101))


def test_a_lone_customer_is_at_100_and_a_tie_of_all_in_the_middle():
    assert percentiles(pd.Series([0.01])).to_list() == [100]
    assert percentiles(pd.Series([0.5] * 10)).to_list() == [55] * 10


def test_unscored_customers_do_not_count_in_the_percentile():
    frame = scores(probability=[0.1, 0.2, None, None], not_scored_reason=[None, None, "no_history", "not_active"])
    assert attributes(frame, "churn", AS_OF)["percentile"].to_list()[:2] == [50, 100]


def test_percentiles_of_an_affinity_are_within_the_category():
    frame = pd.DataFrame(
        {
            "customer_id": ["a", "b", "c", "a", "b", "d"],
            "category": ["x", "x", "x", "y", "y", None],
            "probability": [0.7, 0.8, 0.9, 0.2, 0.1, None],
            "not_scored_reason": [None, None, None, None, None, "no_history"],
        }
    )
    got = attributes(frame, "taste", AS_OF)
    assert got["percentile"].to_list()[:5] == [34, 67, 100, 100, 50]
    assert got.iloc[5][["percentile", "band", "rank"]].isna().all()


def test_by_default_the_lower_half_is_low_and_the_top_tenth_high():
    band = attributes(scores(probability=np.arange(1000) / 1000), "churn", AS_OF)["band"]
    assert band.value_counts().to_dict() == {"low": 500, "medium": 400, "high": 100}
    assert band.iloc[[499, 500, 899, 900]].to_list() == ["low", "medium", "medium", "high"]


def test_the_cuts_of_the_bands_can_be_chosen():
    band = attributes(scores(probability=[0.1, 0.2, 0.3, 0.4, 0.5]), "churn", AS_OF, bands=(20, 40))["band"]
    assert band.to_list() == ["low", "medium", "high", "high", "high"]


@pytest.mark.parametrize("bands", [(50,), (90, 50), (0, 50), (50, 100), (0.5, 0.9)])
def test_cuts_that_are_no_percentiles_are_refused(bands):
    assert codes(scores(probability=[0.5]), bands=bands) == ["bad_bands"]


# --- ranks, values ---


def test_categories_are_ranked_within_a_customer_ties_by_name():
    frame = pd.DataFrame({"customer_id": ["a", "a", "a", "b"], "category": ["z", "y", "x", "z"], "probability": [0.2, 0.2, 0.9, 0.1]})
    assert attributes(frame, "taste", AS_OF)["rank"].to_list() == [3, 2, 1, 1]


def test_given_ranks_stay():
    frame = pd.DataFrame({"customer_id": ["a", "a"], "category": ["x", "y"], "probability": [0.9, 0.1], "rank": [2, 1]})
    assert attributes(frame, "taste", AS_OF)["rank"].to_list() == [2, 1]


def test_a_value_target_is_ranked_by_its_expected_value():
    got = attributes(scores(expected_value=[10.0, 500.0, 20.0], currency=["MXN"] * 3), "value", AS_OF)
    assert got["percentile"].to_list() == [34, 100, 67]
    assert got["probability"].isna().all()


def test_factors_given_as_dicts_become_json():
    got = attributes(scores(expected_value=[1.0], factors=[{"orders": 2.5, "alive": 0.9}]), "value", AS_OF)
    assert json.loads(got["factors"][0]) == {"alive": 0.9, "orders": 2.5}


def test_reasons_keep_their_fields_in_any_order_and_missing_ones_are_null():
    given_reasons = [[{"label": "Days since last visit", "feature": "recency", "value_text": "3 days"}], None]
    got = attributes(scores(probability=[0.5, 0.6], reasons=given_reasons), "churn", AS_OF)["reasons"]
    assert got[0] == [
        {
            "feature": "recency",
            "label": "Days since last visit",
            "value": None,
            "value_text": "3 days",
            "direction": None,
            "contribution": None,
        }
    ]
    assert got[1] is pd.NA


# --- the unscored ---


@pytest.mark.parametrize("reason", NOT_SCORED_REASONS)
def test_an_unscored_customer_has_nulls_and_a_reason(reason):
    frame = scores(
        probability=[0.5, None],
        expected_value=[3.0, None],
        currency=["EUR", "EUR"],
        reasons=[[], []],
        not_scored_reason=[None, reason],
    )
    row = attributes(frame, "churn", AS_OF).iloc[1]
    assert row["status"] == "not_scored"
    assert row["not_scored_reason"] == reason
    empty = ["probability", "expected_value", "currency", "percentile", "band", "reasons", "rank", "lower", "upper"]
    assert row[empty].isna().all()


def test_a_run_may_score_nobody():
    frame = scores(probability=[None, None], not_scored_reason=["target_failed"] * 2)
    got = attributes(frame, "churn", AS_OF)
    assert got["status"].to_list() == ["not_scored", "not_scored"]
    assert got["percentile"].isna().all()


def test_a_frame_without_rows_gives_no_attributes():
    assert attributes(scores(probability=[0.5]).iloc[:0], "churn", AS_OF).shape == (0, 23)


# --- times and versions ---


def test_attributes_hold_until_the_horizon_has_passed_on_the_calendar_of_the_zone():
    got = attributes(scores(probability=[0.5]), "churn", "2024-03-09", horizon="1d", timezone="America/New_York")
    assert got["as_of"][0].isoformat() == "2024-03-09T05:00:00+00:00"
    assert got["valid_until"][0].isoformat() == "2024-03-10T05:00:00+00:00"
    spring = attributes(scores(probability=[0.5]), "churn", "2024-03-10", horizon="1d", timezone="America/New_York")
    assert spring["valid_until"][0].isoformat() == "2024-03-11T04:00:00+00:00"


def test_a_target_brings_its_name_and_horizon():
    class Week:
        name = "conversion"
        horizon = Duration(days=7)

    got = attributes(scores(probability=[0.5]), Week(), AS_OF, scored_at=NOON)
    assert got.loc[0, ["target", "valid_until", "scored_at"]].to_list() == ["conversion", pd.Timestamp("2017-12-10", tz="UTC"), NOON]


def test_instants_are_utc_microseconds():
    types = attributes(scores(probability=[0.5]), "churn", AS_OF).dtypes
    assert {str(types[name]) for name in ("as_of", "valid_until", "scored_at")} == {"datetime64[us, UTC]"}


def test_the_run_id_depends_on_target_instant_and_version_alone():
    moment = datetime(2017, 12, 3, tzinfo=UTC)
    ids = {run_id("churn", moment, "1"), run_id("churn", moment, "2"), run_id("other", moment, "1"), run_id("churn", NOON, "1")}
    assert len(ids) == 4
    mexico = datetime.fromisoformat("2017-12-02T18:00:00-06:00")
    assert run_id("churn", mexico, "1") == run_id("churn", moment, "1")
    assert attributes(scores(probability=[0.5]), "churn", AS_OF, model_version="1")["run_id"].to_list() == [run_id("churn", moment, "1")]


# --- every kind of frame and id ---


def test_every_dataframe_gives_the_same_attributes():
    frame = pd.DataFrame({"customer_id": ["a", "ñandú-42", "客"], "probability": [0.1, 0.2, 0.9]})
    expected = attributes(frame, "churn", AS_OF, scored_at=NOON)
    others = (
        pl.DataFrame(frame.to_dict("list")),
        pl.LazyFrame(frame.to_dict("list")),
        pa.table(frame.to_dict("list")),
        duckdb.from_arrow(pa.table(frame.to_dict("list"))),
        frame.set_index(pd.Index([7, 8, 9])),
    )
    for other in others:
        pd.testing.assert_frame_equal(attributes(other, "churn", AS_OF, scored_at=NOON), expected)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 20000000.0], ["1", "20000000"]),
        ([uuid.UUID(int=1), uuid.UUID(int=2)], [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (["007", " 7"], ["007", " 7"]),
    ],
)
def test_ids_become_canonical_text(ids, text):
    frame = pd.DataFrame({"customer_id": ids, "probability": [0.5, 0.6]})
    assert attributes(frame, "churn", AS_OF)["customer_id"].to_list() == text


# --- refusals ---


def test_missing_and_unknown_columns_are_all_named_with_the_nearest_name():
    frame = pd.DataFrame({"custmer_id": ["a"], "probabilty": [0.5], "band": ["low"]})
    with pytest.raises(SpecificationError) as caught:
        attributes(frame, "churn", AS_OF)
    found = [(problem.code, problem.remedy) for problem in caught.value.problems]
    assert found == [
        ("missing_column", "did you mean 'custmer_id'?"),
        ("missing_column", "did you mean 'probabilty'?"),
        ("unknown_column", "drop it; did you mean 'customer_id'?"),
        ("unknown_column", "drop it; did you mean 'probability'?"),
        ("computed_column", "drop it"),
    ]


def test_a_column_of_the_wrong_type_is_named_without_its_values():
    with pytest.raises(SpecificationError, match="mistyped_column: column 'probability' holds large_string, not DOUBLE") as caught:
        attributes(scores(probability=["secret"]), "churn", AS_OF)
    assert "secret" not in str(caught.value)


def test_a_column_of_mixed_types_is_named_without_its_values():
    frame = pd.DataFrame({"customer_id": [1, "secret"], "probability": [0.5, 0.6]})
    with pytest.raises(SpecificationError, match="'customer_id' mixes types") as caught:
        attributes(frame, "churn", AS_OF)
    assert "secret" not in str(caught.value)


def test_fractional_ids_and_unknown_fields_of_reasons_are_refused():
    assert codes(pd.DataFrame({"customer_id": [1.5], "probability": [0.5]})) == ["mistyped_column"]
    assert codes(pd.DataFrame({"customer_id": [True], "probability": [0.5]})) == ["mistyped_column"]
    assert codes(scores(probability=[0.5], reasons=[[{"featur": "x"}]])) == ["mistyped_column"]
    assert codes(scores(probability=[0.5], reasons=["because"])) == ["mistyped_column"]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"probability": [1.01, 0.5]}, "bad_probability"),
        ({"probability": [-0.01, 0.5]}, "bad_probability"),
        ({"probability": [math.inf, 0.5]}, "bad_probability"),
        ({"probability": [math.nan, 0.5]}, "no_score"),
        ({"probability": [0.1, None], "not_scored_reason": [None, "lazy"]}, "unknown_reason"),
        ({"probability": [0.1, 0.0], "not_scored_reason": [None, "not_active"]}, "scored_and_not"),
        ({"probability": [0.1, None], "not_scored_reason": [None, "not_active"], "expected_value": [1, 0]}, "value_not_scored"),
        ({"probability": [0.1, 0.2], "expected_value": [1.0, math.inf]}, "infinite_value"),
        ({"probability": [0.1, 0.2], "lower": [0.0, 0.3], "upper": [1.0, 0.2]}, "reversed_interval"),
        ({"probability": [0.1, 0.2], "category": ["x", None]}, "null_category"),
        ({"probability": [0.1, 0.2], "category": ["x", "y"], "rank": [0, 1]}, "bad_rank"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(columns, code):
    assert codes(scores(**columns)) == [code]


def test_ids_must_be_there_and_once():
    frame = pd.DataFrame({"customer_id": ["a", "a", None, None, " "], "probability": [0.1, 0.2, 0.3, 0.4, 0.5]})
    with pytest.raises(SpecificationError) as caught:
        attributes(frame, "churn", AS_OF)
    assert [(problem.code, problem.count, problem.example) for problem in caught.value.problems] == [
        ("null_customer_id", 3, "row 2"),
        ("duplicate_customer", 1, "row 1: a"),
    ]


def test_one_rank_is_one_category():
    frame = pd.DataFrame({"customer_id": ["a", "a"], "category": ["x", "y"], "probability": [0.1, 0.2], "rank": [1, 1]})
    assert codes(frame) == ["bad_rank"]


def test_all_problems_of_the_rows_come_at_once():
    frame = pd.DataFrame({"customer_id": ["a", "a", "b"], "probability": [2.0, None, None], "not_scored_reason": [None, None, "lazy"]})
    assert codes(frame) == ["duplicate_customer", "unknown_reason", "bad_probability", "no_score"]


def test_a_thing_that_is_no_dataframe_is_refused():
    with pytest.raises(SpecificationError, match="a dict is not a dataframe"):
        attributes({"customer_id": ["a"]}, "churn", AS_OF)


def test_a_target_s_name_leaves_room_for_its_longest_column():
    assert target_name_problems("a" * 49) == []
    assert len("a" * 49 + "_previous_band") == 63
    for name in ("a" * 50, "Churn", "churn-28d", "", "é"):
        assert [problem.code for problem in target_name_problems(name)] == ["bad_target_name"]
    with pytest.raises(SpecificationError, match="bad_target_name"):
        attributes(scores(probability=[0.5]), "Churn!", AS_OF)


# --- attributes given back ---


@pytest.mark.parametrize("kind", [lambda frame: frame, conform, lambda frame: pl.from_arrow(conform(frame))])
def test_attributes_conform_to_the_schema_whatever_frame_holds_them(kind):
    frame = attributes(scores(probability=[0.5, 0.6], reasons=[[{"label": "x"}], None]), "churn", AS_OF, scored_at=NOON)
    assert conform(kind(frame)).equals(conform(frame))


def test_frames_that_are_no_attributes_do_not_conform():
    frame = attributes(scores(probability=[0.5, 0.6]), "churn", AS_OF)
    wrong = {
        "missing_column": frame.drop(columns="band"),
        "unknown_column": frame.assign(extra=1),
        "duplicate_customer": pd.concat([frame, frame], ignore_index=True),
        "bad_status": frame.assign(status="not_scored"),
        "mistyped_column": frame.assign(probability="x"),
    }
    for code, broken in wrong.items():
        with pytest.raises(SpecificationError, match=code):
            conform(broken)
