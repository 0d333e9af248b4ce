"""Reasons: they add up, one for each concept, in words that a marketer reads."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import duckdb
import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from persopredict import concepts, explain, kinds, learner
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.attribute_columns import REASONS
from persopredict.attributes import conform
from persopredict.concepts import concept
from persopredict.drivers import Drivers
from persopredict.events import EventLog
from persopredict.explain import Pairs
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.predictor import Predictor
from persopredict.snapshots import snapshots
from persopredict.times import Duration
from persopredict.training import Training, matrix
from persopredict.warehouse import Warehouse
from persopredict.warehouse_tables import ARROWS
from persopredict.wording import Wording
from tests import made

BOUGHT = "event = 'purchase'"
#: Six features, four concepts: how often, when last, how much, since when.
FEATURES = [
    *(Feature("count", window=window, fallback=0) for window in ("7d", "28d")),
    Feature("recency", fallback=None),
    Feature("sum", "value", window="91d", fallback=0),
    Feature("overdue", fallback=None),
    Feature("tenure", fallback=None),
]
WORDS = Wording()
QUICK = settings(deadline=None, derandomize=True, max_examples=60, database=None)


@pytest.fixture(scope="module")
def churn():
    return made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])


@pytest.fixture(scope="module")
def X(churn):
    table = snapshots(made.events(), [made.END], churn.features_, [made.CHURN]).to_arrow()
    return matrix(table, [feature.name for feature in churn.features_])


def told(values, X=None, features=FEATURES, **settings):
    values = np.array(values, dtype=float)
    X = np.zeros((len(values), len(features))) if X is None else np.array(X, dtype=float)
    return explain.reasons(values, X, features, WORDS, **settings).to_pylist()


def chosen(values, **settings):
    return [[reason["feature"] for reason in row] for row in told(values, **settings)]


# What adds up ------------------------------------------------------------------------------------------------------------------------


def test_contributions_and_base_add_up_to_the_raw_score_of_every_row(churn, X):
    values = churn.scorer_.contributions(X)
    assert values.shape == (len(X), X.shape[1] + 1)
    np.testing.assert_allclose(values.sum(axis=1), churn.scorer_.logits(X), atol=1e-9)
    assert len(np.unique(values[:, -1])) == 1


def test_concepts_and_base_add_up_to_the_raw_score_of_every_row(X):
    features = default_features(made.events())
    rows = np.asarray(matrix(snapshots(made.events(), [made.END], features, [made.CHURN]).to_arrow(), [f.name for f in features]))
    y = (np.nan_to_num(rows[:, 0]) > np.nanmedian(rows[:, 0])).astype(np.int8)
    scorer = kinds.Taught(made.CHURN, tuple(features), len(features), rows, y, np.arange(len(y)), np.zeros(len(y), np.int64), 1.0).scorer(
        "lightgbm", made.learner(), 0
    )
    values = scorer.contributions(rows)
    total, face = concepts.grouped(values, features)
    assert total.shape == face.shape == (len(rows), len({concept(feature) for feature in features}))
    assert total.shape[1] < len(features) / 2
    np.testing.assert_allclose(total.sum(axis=1) + values[:, -1], scorer.logits(rows), atol=1e-9)


CONTRIBUTIONS = st.lists(
    st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.5, -0.5, -1.0, -2.0]), min_size=len(FEATURES), max_size=len(FEATURES)),
    max_size=8,
)


def by_hand(row, top):
    """The reasons of one row as (face, contribution), by a plain loop over concepts."""
    members = {}
    for feature, value in zip(FEATURES, row, strict=True):
        members.setdefault(concept(feature), []).append((feature.name, value))
    sums = [sum(value for _, value in group) for group in members.values()]
    faces = [
        max(group, key=lambda member, way=total > 0: member[1] if way else -member[1])
        for group, total in zip(members.values(), sums, strict=True)
    ]
    ranked = sorted(range(len(sums)), key=lambda number: -abs(sums[number]))
    speaking = [*[n for n in ranked if sums[n] > 0][:top], *[n for n in ranked if sums[n] < 0][:top]]
    return [(faces[number][0], sums[number]) for number in ranked if number in speaking]


@QUICK
@given(CONTRIBUTIONS, st.integers(1, 4))
def test_reasons_are_those_of_a_plain_loop(rows, top):
    found = told(np.array(rows, dtype=float).reshape(-1, len(FEATURES)), top=top)
    assert [[(reason["feature"], reason["contribution"]) for reason in row] for row in found] == [by_hand(row, top) for row in rows]


@QUICK
@given(CONTRIBUTIONS, st.integers(1, 3), st.integers(1, 3))
def test_the_parts_in_which_rows_are_explained_change_nothing(rows, chunk, block):
    values = np.array(rows, dtype=float).reshape(-1, len(FEATURES))
    X = np.arange(values.size, dtype=float).reshape(values.shape)
    whole = explain.reasons(values, X, FEATURES, WORDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "_CHUNK", chunk)
        patch.setattr(concepts, "BLOCK", block)
        parts = explain.reasons(values, X, FEATURES, WORDS)
    assert parts.combine_chunks() == whole.combine_chunks()


def test_what_says_the_same_in_a_log_is_one_reason_there():
    """In a log of logins and little else, "no activity" and "no logins" are no two reasons."""
    rng, logins = np.random.default_rng(0), "event = 'login'"
    features = [
        Feature("recency", fallback=None), Feature("count", window="28d", fallback=0), Feature("recency", where=logins, fallback=None),
        Feature("count", where=logins, window="28d", fallback=0), Feature("count", where="event = 'call'", window="28d", fallback=0),
    ]  # fmt: skip
    recency, calls = rng.integers(1, 90, 500).astype(float), rng.integers(0, 2, 500).astype(float)
    count = np.where(recency < 28, rng.integers(1, 9, 500), 0).astype(float)
    X = np.column_stack([recency, count, recency, np.maximum(count - (rng.random(500) < 0.1), 0), calls])
    assert concepts.alike(X, features) == [[0, 2], [1, 3], [4]]
    other = X.copy()
    other[:, 2] += 1
    # Who never comes has as many of everything, and that makes nothing the same.
    other[:, 3] = np.where(count > 0, count - 1, 0)
    assert concepts.alike(other, features) == [[0], [1], [2], [3], [4]]
    y = (recency > 45).astype(np.int8)
    scorer = learner.fit(lgb.LGBMClassifier(n_estimators=20, verbose=-1), X, y, [feature.name for feature in features])
    found = Drivers.of(scorer, X, features)
    assert found.groups[features[0].name] == found.groups[features[2].name]
    values = scorer.contributions(X)
    told = explain.reasons(values, X, features, WORDS, groups=found.groups).to_pylist()
    apart = explain.reasons(values, X, features, WORDS).to_pylist()
    for row, other_row, value in zip(told, apart, values, strict=True):
        named = {reason["feature"] for reason in row}
        assert len(named & {"recency_all", "recency_event_login_all", "recency_login"}) <= 1
        (first,) = [reason for reason in row if reason["feature"].startswith("recency")]
        assert first["contribution"] == pytest.approx(value[0] + value[2])
        assert sum(reason["contribution"] for reason in row) == pytest.approx(sum(reason["contribution"] for reason in other_row))


def test_a_scorer_is_asked_for_some_rows_at_a_time_and_never_for_a_few_left_over(churn, X, monkeypatch):
    asked = []

    def contributions(rows):
        asked.append(len(rows))
        return churn.scorer_.contributions(rows)

    whole = explain.reasons(churn.scorer_.contributions(X), X, churn.features_, WORDS)
    monkeypatch.setattr(explain, "_CHUNK", len(X) // 3)
    assert explain.reasons(contributions, X, churn.features_, WORDS).combine_chunks() == whole.combine_chunks()
    assert sum(asked) == len(X) > 100
    assert max(asked) - min(asked) <= 1
    assert explain.reasons(contributions, X[:0], churn.features_, WORDS).to_pylist() == []


def test_one_thread_and_two_give_the_same_reasons():
    features = default_features(made.events())
    rng = np.random.default_rng(1)
    rows = rng.gamma(2.0, 10.0, (5000, len(features)))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    scorer = learner.fit(made.learner(), rows, (np.nansum(rows[:, :3], axis=1) > 60).astype(np.int8), [f.name for f in features])
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(explain.reasons(scorer.contributions, rows, features, WORDS))
    assert found[0] == found[1]


def test_words_are_made_feature_by_feature_for_all_rows_at_once(monkeypatch):
    asked = Counter()
    original = Wording.reasons

    def counted(self, feature, values, usual=None):
        asked[feature.name, len(values)] += 1
        return original(self, feature, values, usual)

    monkeypatch.setattr(Wording, "reasons", counted)
    monkeypatch.setattr(explain, "_CHUNK", 10)
    values = np.zeros((100, len(FEATURES)))
    values[:, 0], values[:30, 2] = 1, -1
    explain.reasons(values, np.zeros(values.shape), FEATURES, WORDS)
    assert asked == {("count_7d", 100): 1, ("recency_all", 30): 1}


def test_a_model_without_features_has_no_reasons():
    assert explain.reasons(np.ones((3, 1)), np.empty((3, 0)), [], WORDS).to_pylist() == [[], [], []]


# Which come first --------------------------------------------------------------------------------------------------------------------


def test_three_for_and_three_against_are_counted_apart_and_the_strongest_comes_first():
    features = [Feature("sum", name, fallback=0) for name in "abcdefgh"]
    values = [[0.1, 0.2, 0.3, 0.4, -0.15, -0.25, -0.35, -0.45], [0.1, 0.2, 0.3, 0.4, 0.5, -0.05, 0, 0]]
    found = [[(reason["feature"][4:5], reason["direction"]) for reason in row] for row in told(values, features=features)]
    assert "".join(name for name, _ in found[0]) == "hdgcfb"
    assert "".join(name for name, _ in found[1]) == "edcf"
    assert [direction for _, direction in found[1]] == ["for", "for", "for", "against"]


def test_a_concept_counts_as_the_sum_of_its_members():
    (found,) = told([[0.3, 0.25, 0.0, 0.5, 0.0, 0.0]])
    assert [(reason["feature"], reason["contribution"]) for reason in found] == [("count_7d", 0.55), ("sum_value_91d", 0.5)]


def test_the_face_of_a_concept_points_where_the_concept_points():
    (found,) = told([[0.5, -0.7, 0, 0, 0, 0]], [[1, 2, 3, 4, 5, 6]])
    assert [(r["feature"], r["value"], r["direction"]) for r in found] == [("count_28d", 2.0, "against")]
    # The strongest single member points the other way; the sum decides.
    (found,) = told([[0, 0, -0.4, 0.3, -0.3, 0.6]])
    assert [(r["feature"], round(r["contribution"], 9)) for r in found] == [
        ("recency_all", -0.7),
        ("tenure_all", 0.6),
        ("sum_value_91d", 0.3),
    ]


def test_members_that_cancel_out_are_no_reason():
    assert chosen([[0.1, 0.2, 0, 0, 0, 0.05], [0.3, -0.3, 0, 0, 0, 0], [0.1 + 0.2, -0.3, 0, 0, 0, 0]]) == [
        ["count_28d", "tenure_all"],
        [],
        [],
    ]


def test_ties_fall_to_the_first_column():
    assert chosen([[0.3, 0, 0.15, -0.3, 0.15, 0.3]]) == [["count_7d", "recency_all", "sum_value_91d", "tenure_all"]]
    assert chosen([[0.3, 0, 0.15, -0.3, 0.15, 0.3]], top=1) == [["count_7d", "sum_value_91d"]]


# What is one concept -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "features",
    [
        [Feature("count", window=window, where=BOUGHT, fallback=0) for window in ("7d", "28d", "364d", None)],
        [Feature("recency", fallback=None), *(Feature("overdue", window=window, fallback=None) for window in ("91d", None))],
        [
            *(
                Feature("count", fallback=0),
                Feature("distinct", "day", window="56d", fallback=0),
                Feature("distinct", "order_id", fallback=0),
            ),
            *(Feature("decayed_sum", half_life="28d", fallback=0), Feature("gap_mean", fallback=None), Feature("gap_std", fallback=None)),
        ],
        [Feature("sum", "value", fallback=0), Feature("decayed_sum", "value", half_life="7d", fallback=0)],
        [
            *(Feature(name, "value", fallback=None) for name in ("mean", "min", "max", "std", "first", "last")),
            *(Feature("ratio", ("value", over), fallback=None) for over in ("order_id", "day")),
        ],
        [Feature("trend", "value", window=window, fallback=None) for window in ("14d", "364d")],
        [Feature("share", where=f"channel = '{name}'", window=w, fallback=None) for name in ("web", "store") for w in ("91d", None)],
        [Feature("share", where=hours, fallback=None) for hours in ("hour < 6", "hour BETWEEN 6 AND 11")],
    ],
    ids=lambda features: features[0].name,
)
def test_near_duplicates_are_one_concept(features):
    assert len({concept(feature) for feature in features}) == 1


def test_what_a_marketer_tells_apart_are_concepts_of_their_own():
    features = [
        *(Feature("recency", where=where, fallback=None) for where in (None, BOUGHT, "channel = 'web'")),
        *(Feature("count", where=where, fallback=0) for where in (None, BOUGHT)),
        *(Feature(aggregate, "value", fallback=None) for aggregate in ("sum", "mean")),
        *(Feature(aggregate, "quantity", fallback=None) for aggregate in ("sum", "mean")),
        *(Feature("trend", column, window="28d", fallback=None) for column in (None, "value")),
        *(Feature("distinct", column, fallback=0) for column in ("item_id", "category", "day")),
        *(Feature("share", where=where, fallback=None) for where in ("channel = 'web'", "hour < 6", "channel = 'web' AND hour < 6")),
        Feature("share", "value", where="channel = 'web'", fallback=None),
        Feature("ratio", ("value", "quantity"), fallback=None),
        Feature("tenure", fallback=None),
    ]
    # Days are how often, as the count of all events is.
    assert len({concept(feature) for feature in features}) == len(features) - 1


def test_every_pair_feature_has_a_concept_that_no_other_feature_has():
    pairs = {concept(feature) for feature in PAIR_FEATURES}
    assert 5 < len(pairs) < len(PAIR_FEATURES) / 2
    assert not pairs & {concept(feature) for feature in default_features(made.events())}


def test_the_default_features_are_a_few_handfuls_of_concepts():
    features = default_features(made.events())
    assert len(features) > 3 * len({concept(feature) for feature in features})


# What a reason holds -----------------------------------------------------------------------------------------------------------------


def test_a_reason_says_which_way_and_what_the_value_was():
    (found,) = told([[0.2, 0.0, -0.5, 0.1, 0, 0]], [[3.0, 0.0, np.nan, 1234.56, 0, 0]])
    assert [(r["direction"], r["value"], r["value_text"]) for r in found] == [
        ("against", None, WORDS.reasons(FEATURES[2], np.array([np.nan]))[1][0]),
        ("for", 3.0, WORDS.reasons(FEATURES[0], np.array([3.0]))[1][0]),
        ("for", 1234.56, WORDS.reasons(FEATURES[3], np.array([1234.56]))[1][0]),
    ]
    assert list(found[0]) == ["feature", "label", "value", "value_text", "direction", "contribution"]
    assert found[0]["label"] == WORDS.reasons(FEATURES[2], np.array([np.nan]))[0][0]
    assert found[0]["contribution"] == -0.5


def test_reasons_have_the_type_of_the_attributes():
    found = explain.reasons(np.ones((2, 1)), np.ones((2, 1)), FEATURES[:1], WORDS)
    assert found.type == REASONS == explain.unexplained(2).type == explain.placed(found, np.array([1, 3]), 5).type


@pytest.mark.parametrize("whose", ["the model's own", "beside"])
def test_a_value_is_told_in_the_context_that_its_customer_gives(whose):
    last, usual = Feature("recency", where=BOUGHT, fallback=None), Feature("gap_mean", where=BOUGHT, fallback=None, name="pace")
    days, gaps = np.array([34.0, 2.0, 34.0, 34.0]), np.array([9.0, 9.0, np.nan, 30.0])
    if whose == "beside":
        found = explain.reasons(np.ones((4, 1)), days[:, None], [last], WORDS, beside={usual: gaps})
    else:
        found = explain.reasons(np.array([[1.0, 0.0]] * 4), np.stack([days, gaps], axis=1), [last, usual], WORDS)
    labels, texts = WORDS.reasons(last, days, gaps)
    said = [[(reason["label"], reason["value_text"]) for reason in row] for row in found.to_pylist()]
    assert said == [[pair] for pair in zip(labels, texts, strict=True)]
    assert explain.context([last], [usual, last, Feature("gap_mean", fallback=None)], WORDS) == [usual]
    plain, other = replace(usual, name="gap_mean_purchase_all"), replace(last, name="gap_mean_purchase_all")
    assert explain.context([last], [last], WORDS) == [plain]
    assert explain.context([last], [last, other], WORDS) == []


def test_pairs_are_told_of_their_category():
    recency = next(feature for feature in PAIR_FEATURES if feature.name == "recency")
    about = Pairs(np.array([1, 0, 1], np.int32), ("dairy", "wine"), Duration.parse("14d"), "family")
    X = np.array([[3.0], [3.0], [9.0]], np.float32)
    found = explain.reasons(np.ones((3, 1)), X, [recency], WORDS, pairs=about).to_pylist()
    names = ["wine", "dairy", "wine"]
    labels, texts = WORDS.pair_reasons(recency, X[:, 0].astype(float), category=names, horizon=about.horizon, by=about.by)
    assert [(row[0]["label"], row[0]["value_text"]) for row in found] == list(zip(labels, texts, strict=True))
    assert len({row[0]["label"] for row in found}) == 3
    with pytest.raises(ValueError, match="give pairs"):
        explain.reasons(np.ones((3, 1)), X, [recency], WORDS)


@QUICK
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 4))
def test_lists_are_put_among_those_who_have_none(held, chunk):
    lists = [[{"feature": f"f{number}", "contribution": float(number)}] * (number % 3) for number in range(sum(held))]
    parts = [pa.array(lists[start : start + chunk], REASONS) for start in range(0, len(lists), chunk)]
    found = explain.placed(pa.chunked_array(parts, REASONS), np.flatnonzero(held), len(held))
    found.validate(full=True)
    given_, names = iter(lists), [None if row is None else [r["feature"] for r in row] for row in found.to_pylist()]
    assert names == [[r["feature"] for r in next(given_)] if has else None for has in held]


# From the model to the frame ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds_of_models(churn):
    """The fitted predictor with each kind of model in turn, taught the same."""
    log = made.events()
    training = Training(log, made.CHURN, churn.features_, None, "auto", 0)
    taught = training.taught(training.rows(list(churn.cutoffs_), made.NIGHTS[1]).labelled())
    found = {}
    for kind in kinds.KINDS:
        scorer = taught.scorer(kind, made.learner(), 0)
        found[kind] = Predictor(made.CHURN, features=churn.features_)
        vars(found[kind]).update({name: value for name, value in vars(churn).items() if name.endswith("_")})
        found[kind]._settle(replace(churn.model_, scorer=scorer, inputs=scorer.names))
    return found


@pytest.mark.parametrize("kind", ["rule", "btyd", "logistic", "lightgbm"])
def test_whoever_is_scored_has_reasons_whatever_kind_of_model_serves(kinds_of_models, kind):
    served = kinds_of_models[kind]
    found = served.attributes(made.events(), made.END).set_index("customer_id")
    scored = found[found["status"] == "scored"]
    assert set(scored["model_kind"]) == {kind}
    assert len(scored) > 100
    assert scored["reasons"].list.len().ge(1).all()
    assert found.loc[found["status"] != "scored", "reasons"].isna().all()
    features = kinds.with_rhythm(served.features_, made.CHURN)
    table = snapshots(made.events(), [made.END], features, [made.CHURN]).to_arrow()
    rows = matrix(table, served.model_.inputs)
    logits = served.scorer_.logits(rows)
    base = served.scorer_.contributions(rows)[:, -1]
    for customer, logit, start in zip(table.column("customer_id").to_pylist(), logits, base, strict=True):
        reasons = scored.loc[customer, "reasons"]
        # Three features at most: all that they contribute is told.
        assert start + sum(reason["contribution"] for reason in reasons) == pytest.approx(logit, abs=1e-8)
        assert all(reason["label"] and reason["value_text"] for reason in reasons)


def test_the_base_rate_has_no_reasons(kinds_of_models):
    found = kinds_of_models["base_rate"].attributes(made.events(), made.END)
    assert found.loc[found["status"] == "scored", "reasons"].list.len().eq(0).all()
    assert found.loc[found["status"] != "scored", "reasons"].isna().all()


def test_how_long_ago_is_told_beside_the_usual_though_nobody_asked_for_that_feature(churn):
    last, pace = made.FEATURES[0], Feature("gap_mean", fallback=None)
    assert pace not in churn.features_
    table = snapshots(made.events(), [made.END], [last, pace], [made.CHURN]).to_arrow()
    labels, _ = WORDS.reasons(last, *matrix(table, [last.name, pace.name]).T)
    wanted = dict(zip(table.column("customer_id").to_pylist(), labels, strict=True))
    found = churn.attributes(made.events(), made.END).set_index("customer_id")["reasons"].dropna()
    said = {customer: reason["label"] for customer, reasons in found.items() for reason in reasons if reason["feature"] == last.name}
    assert len(said) > 50
    assert said == {customer: wanted[customer] for customer in said}
    assert any("usually every" in label for label in said.values())


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow", "duckdb"])
def test_every_kind_of_frame_holds_the_same_reasons(churn, frame):
    rows = made.frame()
    data = {"pandas": rows.to_pandas, "polars": rows.clone, "pyarrow": rows.to_arrow, "duckdb": lambda: duckdb.from_arrow(rows.to_arrow())}
    found = churn.predict(EventLog(data[frame](), observed=(made.log().start, made.END)), made.END)
    reasons = conform(found)["reasons"]
    assert reasons.combine_chunks() == conform(churn.predict(made.events(), made.END))["reasons"].combine_chunks()
    place = reasons.is_valid().to_pylist().index(True)
    held = found["reasons"]
    first = {"polars": lambda: held[place].to_list(), "pyarrow": lambda: held[place].as_py()}.get(frame, lambda: held.iloc[place])()
    assert isinstance(first, list)
    assert list(first[0]) == ["feature", "label", "value", "value_text", "direction", "contribution"]
    if frame in ("pandas", "duckdb"):
        assert found["reasons"].dtype == pd.ArrowDtype(REASONS)


def test_reasons_reach_the_warehouse_and_parquet_as_they_were(churn, tmp_path):
    found = churn.attributes(made.events(), made.END)
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    warehouse.publish(found)
    assert conform(warehouse.attributes(made.CHURN.name))["reasons"].combine_chunks() == conform(found)["reasons"].combine_chunks()
    expected = {
        row.customer_id: [ARROWS[reason["direction"]] + reason["label"] for reason in row.reasons][:3] if row.status == "scored" else []
        for row in found.itertuples()
    }
    for wide in (warehouse.sql("SELECT * FROM customer_attributes"), pd.read_parquet(tmp_path / "customer_attributes.parquet")):
        shown = wide.set_index("customer_id")[[f"{made.CHURN.name}_reason_{place}" for place in (1, 2, 3)]]
        assert {who: [text for text in row if isinstance(text, str)] for who, *row in shown.itertuples()} == expected


def test_nothing_between_model_and_warehouse_looks_at_customers_one_by_one(churn, tmp_path, monkeypatch):
    """Reasons made into Python's lists and dicts would take gigabytes for a million customers."""

    def guarded(original):
        def method(self, *arguments, **named):
            assert self.dtype != pd.ArrowDtype(REASONS), "reasons were made into Python objects"
            return original(self, *arguments, **named)

        return method

    for name in ("__iter__", "to_numpy", "astype"):
        monkeypatch.setattr(pd.arrays.ArrowExtensionArray, name, guarded(getattr(pd.arrays.ArrowExtensionArray, name)))
    Warehouse(tmp_path / "warehouse.duckdb").publish(churn.attributes(made.events(), made.END))


@pytest.mark.parametrize("language", ["en", "es"])
def test_reasons_are_told_in_the_language_asked_for_and_in_the_users_own_words(churn, language):
    words = Wording(language, {"recency_all": "not seen for {value} days"})
    found = churn.attributes(made.events(), made.END, wording=words)["reasons"].dropna()
    labels = {reason["feature"]: reason["label"] for reasons in found for reason in reasons}
    assert re.fullmatch(r"not seen for [\d.,]+ days", labels["recency_all"])
    plain = churn.attributes(made.events(), made.END)["reasons"].dropna()
    counted = {reason["label"] for reasons in found for reason in reasons if reason["feature"] == "count_28d"}
    english = {reason["label"] for reasons in plain for reason in reasons if reason["feature"] == "count_28d"}
    assert (counted == english) == (language == "en")


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
