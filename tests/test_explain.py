"""Reasons: they add up, one for each concept, in words that a marketer reads."""

from __future__ import annotations

import re

import numpy as np
import pytest

from persopredict import explain
from persopredict.errors import SpecificationError
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.snapshots import snapshots
from persopredict.training import matrix
from tests import made

FEATURES = [Feature("count", window=window, fallback=0) for window in ("7d", "28d")] + [
    Feature("recency", fallback=None),
    Feature("sum", "value", window="91d", fallback=0),
]


@pytest.fixture(scope="module")
def churn():
    return made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])


@pytest.fixture(scope="module")
def X(churn):
    table = snapshots(made.events(), [made.END], churn.features_, [made.CHURN]).to_arrow()
    return matrix(table, [feature.name for feature in churn.features_])


def chosen(values, **settings):
    found = explain.reasons(np.array(values), np.zeros_like(np.array(values)), FEATURES, **settings)
    return [[reason["feature"] for reason in row] for row in found]


def test_contributions_and_base_add_up_to_the_raw_score_of_every_row(churn, X):
    values = churn.scorer_.contributions(X)
    assert values.shape == (len(X), X.shape[1] + 1)
    np.testing.assert_allclose(values.sum(axis=1), churn.scorer_.logits(X), atol=1e-9)
    assert len(np.unique(values[:, -1])) == 1


def test_the_parts_in_which_rows_are_explained_change_nothing(churn, X, monkeypatch):
    whole = explain.explained(churn.scorer_.contributions, X, churn.features_)
    assert len(whole) == len(X) > 100
    monkeypatch.setattr(explain, "_CHUNK", 7)
    assert explain.explained(churn.scorer_.contributions, X, churn.features_) == whole
    assert explain.explained(churn.scorer_.contributions, X[:0], churn.features_) == []


def test_the_strongest_come_first_whichever_way_they_point():
    assert chosen([[0.1, 0.0, -0.9, 0.5]]) == [["recency_all", "sum_value_91d", "count_7d"]]


def test_of_one_concept_only_the_strongest_window_is_named():
    assert chosen([[0.5, -0.7, 0.1, 0.2]]) == [["count_28d", "sum_value_91d", "recency_all"]]


def test_ties_fall_to_the_first_column():
    assert chosen([[0.3, 0.3, -0.3, 0.3]]) == [["count_7d", "recency_all", "sum_value_91d"]]
    assert chosen([[0.3, 0.3, -0.3, 0.3]], top=2) == [["count_7d", "recency_all"]]


def test_what_contributes_nothing_is_no_reason():
    assert chosen([[0.0, 0.0, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]]) == [["recency_all"], []]


def test_the_same_feature_under_other_conditions_is_another_concept():
    web = [Feature("count", where=where, window="7d", fallback=0) for where in (None, "channel = 'web'")]
    assert len({explain.concept(feature) for feature in web}) == 2


def test_a_reason_says_which_way_and_what_the_value_was():
    (found,) = explain.reasons(np.array([[0.2, 0.0, -0.5, 0.1]]), np.array([[3.0, 0.0, np.nan, 1234.56]]), FEATURES)
    assert [(r["direction"], r["value"], r["value_text"]) for r in found] == [
        ("against", None, "unknown"),
        ("for", 3.0, "3"),
        ("for", 1234.56, "1,235"),
    ]
    assert found[0] == {
        "feature": "recency_all",
        "label": FEATURES[2].label,
        "value": None,
        "value_text": "unknown",
        "direction": "against",
        "contribution": -0.5,
    }


def test_one_customer_s_story_adds_up_to_the_score(churn):
    eligible = snapshots(made.events(), [made.END], churn.features_, [made.CHURN]).to_arrow()
    customer = eligible.column("customer_id")[3].as_py()
    story = churn.explain(made.events(), customer, made.END)
    assert set(story["feature"]) == {feature.name for feature in churn.features_}
    assert story["contribution"].abs().is_monotonic_decreasing
    score = story.attrs["base"] + story["contribution"].sum()
    probability = churn.predict(made.events(), made.END).to_pandas().set_index("customer_id").loc[customer, "probability"]
    assert churn.calibrator_.apply([score])[0] == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("customer", ["nobody", "c0000001"])
def test_who_is_not_asked_has_no_story_but_a_reason(churn, customer):
    scores = churn.predict(made.events(), made.END).to_pandas().set_index("customer_id")
    unscored = scores.index[scores["not_scored_reason"] == "not_active"]
    who, why = (customer, "no_history") if customer == "nobody" else (unscored[0], "not_active")
    with pytest.raises(SpecificationError, match=f"at 2024-10-27: {why}") as caught:
        churn.explain(made.events(), who, made.END)
    assert who not in str(caught.value)


# Words -----------------------------------------------------------------------------------------------------------------------------


def test_no_default_label_shows_code_or_stutters():
    labels = [feature.label for feature in default_features(made.events())]
    assert len(set(labels)) == len(labels) > 60
    for label in labels:
        assert not re.search(r"_|distinct |\bin events\b|events events", label), label


@pytest.mark.parametrize(
    ("feature", "label"),
    [
        (Feature("distinct", "day", window="56d", fallback=0), "active days, last 56 days"),
        (Feature("distinct", "order_id", window="28d", fallback=0), "orders, last 28 days"),
        (Feature("distinct", "category", fallback=0), "different categories"),
        (Feature("distinct", "item_id", where="event = 'view'", window="7d", fallback=0), "different items of view events, last 7 days"),
        (Feature("recency", fallback=None), "days since the last event"),
        (Feature("recency", where="event = 'purchase'", fallback=None), "days since the last purchase event"),
        (Feature("tenure", fallback=None), "days since the first event"),
        (Feature("count", window="28d", fallback=0), "number of events, last 28 days"),
        (Feature("sum", "value", where="channel = 'web'", fallback=0), "total value of events with channel = 'web'"),
        (Feature("ratio", ("value", "order_id"), window="91d", fallback=None), "value per order, last 91 days"),
        (Feature("overdue", fallback=None), "days since the last event, against the usual gap"),
        (Feature("trend", window="28d", fallback=None), "number of events: recent half against earlier half, last 28 days"),
        (Feature("trend", "value", window="28d", fallback=None), "value of events: recent half against earlier half, last 28 days"),
        (Feature("mean", "hour", fallback=None), "mean hour of events"),
    ],
    ids=lambda value: value.name if isinstance(value, Feature) else "",
)
def test_labels_read_as_people_write(feature, label):
    assert feature.label == label
