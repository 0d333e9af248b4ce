"""Contributions looked up in tables are LightGBM's own, whatever the trees ask; and they never differ by a bit, however rows are asked."""

from __future__ import annotations

import itertools
from math import factorial

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from persopredict import contributions, learner, scoring_model, trees
from persopredict.contributions import TreeContributions
from persopredict.errors import SpecificationError
from persopredict.learner import BoosterScorer
from tests import made

#: Rounding, in log-odds.
CLOSE = 1e-9


def data(seed=0, rows=1500, columns=8, *, nulls=0.15, zeros=0.15):
    """Numbers of all kinds, with gaps and with noughts; the last column is constant, the last but one always unknown."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    X[:, 1] = rng.poisson(2.0, rows)
    score = np.nan_to_num(X[:, 0]) + 0.5 * X[:, 1] * (X[:, 2] > 0) - (X[:, 0] > 1)
    X[rng.random(X.shape) < zeros] = 0.0
    X[rng.random(X.shape) < nulls] = np.nan
    X[:, -1], X[:, -2] = 3.0, np.nan
    y = (rng.random(rows) < 1 / (1 + np.exp(1 - score))).astype(int)
    return X, y


def fitted(X, y, *, categorical="auto", **chosen):
    asked = {"n_estimators": 12, "min_child_samples": 5, "verbose": -1, "n_jobs": 1, "random_state": 0} | chosen
    return lgb.LGBMClassifier(**asked).fit(X, y, categorical_feature=categorical).booster_


def looked_up(booster):
    found = trees.read(booster.model_to_string())
    assert found is not None
    made = TreeContributions.of(found, booster.num_feature())
    assert made is not None
    return made


def assert_lightgbm_s(booster, X, look_up=None):
    values = (look_up or looked_up(booster))(X)
    np.testing.assert_allclose(values, booster.predict(X, pred_contrib=True), rtol=0, atol=CLOSE)
    np.testing.assert_allclose(values.sum(axis=1), booster.predict(X, raw_score=True), rtol=1e-6, atol=CLOSE)


# Whatever trees ask ----------------------------------------------------------------------------------------------------------------

MODELS = {
    "of persopredict": learner.DEFAULTS | {"n_estimators": 20},
    "of pairs": learner.PAIR_DEFAULTS | {"n_estimators": 20, "min_child_samples": 20},
    "large": {"num_leaves": 31},
    "bounded": {"num_leaves": 31, "max_depth": 4},
    "stumps": {"num_leaves": 2},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "dart": {"boosting_type": "dart"},
    "random thresholds": {"extra_trees": True},
    "smoothed": {"path_smooth": 5.0},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 0, 0, 0, 0]},
    "of few rows": {"min_child_samples": 1, "min_child_weight": 0, "num_leaves": 60},
}


@pytest.mark.parametrize("chosen", MODELS.values(), ids=MODELS)
def test_values_and_base_are_lightgbm_s_and_add_up_to_the_raw_score(chosen):
    X, y = data()
    assert_lightgbm_s(fitted(X, y, **chosen), X)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    leaves=st.integers(2, 40),
    columns=st.integers(3, 9),
    nulls=st.sampled_from([0.0, 0.2, 0.7]),
    zeros=st.sampled_from([0.0, 0.3]),
    missing=st.sampled_from([{}, {"zero_as_missing": True}, {"use_missing": False}]),
)
def test_values_are_lightgbm_s_for_any_trees_and_rows_they_have_not_seen(seed, leaves, columns, nulls, zeros, missing):
    X, y = data(seed, 300, columns, nulls=nulls, zeros=zeros)
    others = data(seed + 1, 80, columns, nulls=0.3)[0]
    booster = fitted(X, y, num_leaves=leaves, n_estimators=4, min_child_samples=2, **missing)
    # Thresholds themselves are values, too.
    asked = [(int(f), t) for tree in trees.read(booster.model_to_string()) for f, t in zip(tree.feature, tree.threshold, strict=True)]
    for row, (feature, threshold) in enumerate(asked[: len(others)]):
        others[row, feature] = threshold
    assert_lightgbm_s(booster, others)


def test_missing_values_go_where_a_node_sends_them_be_it_left_or_right():
    X, y = data(nulls=0.4)
    booster = fitted(X, y, num_leaves=31)
    found = trees.read(booster.model_to_string())
    sent = np.concatenate([tree.missing_left for tree in found])
    assert sent.any()
    assert not sent.all()
    assert_lightgbm_s(booster, np.full((2, X.shape[1]), np.nan))


def test_a_value_unknown_only_when_scored_is_what_lightgbm_takes_it_for():
    X, y = data(nulls=0.0)
    booster = fitted(X[:, :-2], y)
    assert {int(kind) for tree in trees.read(booster.model_to_string()) for kind in tree.missing} == {trees.NO_VALUE}
    assert_lightgbm_s(booster, data(1, nulls=0.5)[0][:, :-2])


@pytest.mark.parametrize("zero_as_missing", [True, False])
def test_what_is_nearly_nought_is_nought(zero_as_missing):
    X, y = data()
    booster = fitted(X, y, zero_as_missing=zero_as_missing)
    tiny = np.array([0.0, -0.0, 1e-36, -1e-36, 1e-35, float(np.float32(1e-35)), -float(np.float32(1e-35)), 1.1e-35, 1e-34, -1e-34, np.nan])
    asked = np.repeat(X[:20], len(tiny), axis=0)
    asked[:, 0] = np.tile(tiny, 20)
    assert_lightgbm_s(booster, asked)


def test_infinite_values_are_large_values():
    X, y = data()
    booster = fitted(X, y, num_leaves=31)
    asked = X[:40].copy()
    asked[::2, 0], asked[1::2, 0] = np.inf, -np.inf
    assert_lightgbm_s(booster, asked)


def test_one_feature_asked_again_and_again_is_one_bit():
    X, y = data(columns=3, nulls=0.2)
    booster = fitted(X, y, num_leaves=60)
    found = trees.read(booster.model_to_string())
    assert max(len(path) - len({step.feature for step in path}) for tree in found for path in trees.steps_of(tree).values()) > 3
    assert_lightgbm_s(booster, X)


def test_trees_of_one_leaf_are_part_of_the_base_value():
    X, y = data()
    none = fitted(X, y, min_split_gain=1e9)
    values = looked_up(none)(X)
    assert not values[:, :-1].any()
    assert_lightgbm_s(none, X)
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
    some = lgb.train(settings, lgb.Dataset(X, y), 3, init_model=none)
    assert [tree.nodes > 0 for tree in trees.read(some.model_to_string())] == [False, True, True, True]
    assert_lightgbm_s(some, X)


def test_what_no_tree_asks_for_contributes_nothing():
    X, y = data()
    assert not looked_up(fitted(X, y))(X)[:, -3:-1].any()


def weak(rows=3000, columns=40):
    """Many features that each say a little: trees grow deep, and ask for another one each time."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(rows, columns))
    return X, (rng.random(rows) < 1 / (1 + np.exp(-X @ rng.normal(size=columns) / 4))).astype(int)


@pytest.fixture(scope="module")
def deep():
    X, y = weak()
    return fitted(X, y, num_leaves=80, n_estimators=8, min_child_samples=3), X


def test_leaves_too_deep_for_a_table_are_worked_out(deep):
    booster, X = deep
    look_up = looked_up(booster)
    alone = [part for _, _, parts in look_up.trees for part in parts if isinstance(part, contributions._Leaf)]
    assert max(len(part.bits) for part in alone) > max(contributions.BITS)
    assert_lightgbm_s(booster, X, look_up)


def test_less_room_makes_smaller_tables_and_the_same_values(deep, monkeypatch):
    booster, X = deep
    whole = looked_up(booster)
    monkeypatch.setattr(contributions, "MOST_BYTES", 4_000_000)
    small = looked_up(booster)
    sizes = [max(len(part.bits) for _, _, parts in found.trees for part in parts if hasattr(part, "values")) for found in (small, whole)]
    assert min(contributions.BITS) <= sizes[0] < sizes[1] == max(contributions.BITS)
    np.testing.assert_allclose(small(X), whole(X), rtol=0, atol=CLOSE)


@pytest.mark.parametrize(("limit", "value"), [("MOST_BYTES", 1000), ("DEEPEST", 12)])
def test_what_is_too_large_or_too_deep_is_left_to_lightgbm(deep, monkeypatch, limit, value):
    booster, X = deep
    monkeypatch.setattr(contributions, limit, value)
    monkeypatch.setattr(learner, "MANY_ROWS", 100)
    assert TreeContributions.of(trees.read(booster.model_to_string()), booster.num_feature()) is None
    np.testing.assert_array_equal(BoosterScorer(booster).contributions(X), booster.predict(X, pred_contrib=True))


@pytest.mark.parametrize(
    "chosen",
    [{"categorical": [1]}, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}],
    ids=["categories", "averages"],
)
def test_trees_of_another_kind_are_left_to_lightgbm(chosen, monkeypatch):
    X, y = data(nulls=0.0)
    booster = fitted(X, y, **chosen)
    assert trees.read(booster.model_to_string()) is None
    monkeypatch.setattr(learner, "MANY_ROWS", 100)
    scorer = BoosterScorer(booster)
    np.testing.assert_array_equal(scorer.contributions(X), trees.scale(scorer.text) * booster.predict(X, pred_contrib=True))
    np.testing.assert_allclose(scorer.contributions(X).sum(axis=1), scorer.logits(X), atol=CLOSE)


@pytest.mark.parametrize(
    "chosen",
    [{"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, {"sigmoid": 0.3}, {"boosting_type": "dart"}, {}],
    ids=["forest", "stretched", "dart", "boosted"],
)
def test_raw_scores_are_the_log_odds_of_lightgbms_own_probabilities_whoever_serves(chosen):
    X, y = data(nulls=0.0)
    booster = fitted(X, y, **chosen)
    scorer, served = BoosterScorer(booster), scoring_model._trees(booster.model_to_string())[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-scorer.logits(X))), booster.predict(X), atol=CLOSE)
    np.testing.assert_array_equal(served(X), scorer.logits(X))
    np.testing.assert_allclose(scorer.contributions(X).sum(axis=1), scorer.logits(X), atol=CLOSE)


def test_several_outputs_or_no_counts_are_not_read():
    X, y = data()
    several = fitted(X, y + (X[:, 0] > 1), n_estimators=2)
    assert trees.read(several.model_to_string()) is None
    text = fitted(X, y).model_to_string()
    assert trees.read(text.replace("leaf_count=", "leaf_counts=", 1)) is None


def test_linear_leaves_have_no_reasons(monkeypatch):
    X, y = data(nulls=0.0)
    scorer = BoosterScorer(fitted(X[:, :-2], y, linear_tree=True))
    assert not learner.explains(scorer)
    with pytest.raises(SpecificationError, match="leave linear_tree out") as caught:
        scorer.contributions(X[:, :-2])
    assert caught.value.problems[0].code == "linear_tree"


# However rows are asked ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(deep):
    """A look-up with tables and leaves without any, and rows."""
    booster, X = deep
    return looked_up(booster), X[:700]


@pytest.mark.parametrize("rows", [1, 7, 250])
def test_the_rows_asked_with_a_row_change_no_bit_of_its_values(both, rows):
    look_up, X = both
    X = X[:60] if rows == 1 else X
    parts = np.concatenate([look_up(X[start : start + rows]) for start in range(0, len(X), rows)])
    np.testing.assert_array_equal(parts, look_up(X))


@pytest.mark.parametrize("rows", [1, 100, 512])
def test_the_parts_in_which_rows_are_worked_on_change_no_bit(both, monkeypatch, rows):
    look_up, X = both
    X = X[:60] if rows == 1 else X
    whole = look_up(X)
    monkeypatch.setattr(contributions, "_ROWS", rows)
    np.testing.assert_array_equal(look_up(X), whole)


def test_the_number_of_threads_changes_no_bit(both, monkeypatch):
    look_up, X = both
    monkeypatch.setattr(contributions, "_LEAST_ROWS", 10)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(contributions, "_threads", lambda threads=threads: threads)
        found.append(look_up(X))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_as_many_threads_work_as_lightgbm_may_take():
    with threadpool_limits(1, "openmp"):
        assert contributions._threads() == 1
    with threadpool_limits(3, "openmp"):
        assert contributions._threads() == 3


def test_the_same_model_makes_the_same_tables_from_its_text(deep):
    booster, X = deep
    again = lgb.Booster(model_str=booster.model_to_string())
    np.testing.assert_array_equal(looked_up(again)(X[:100]), looked_up(booster)(X[:100]))


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda X: X.astype(np.float32), lambda X: X[::2]])
def test_rows_come_in_any_layout_and_precision(both, deep, turn):
    look_up, X = both
    asked = turn(X)
    np.testing.assert_allclose(look_up(asked), deep[0].predict(asked, pred_contrib=True).reshape(len(asked), -1), rtol=0, atol=CLOSE)


# The scorer ------------------------------------------------------------------------------------------------------------------------


def test_few_rows_are_lightgbm_s_many_are_looked_up_and_both_agree(monkeypatch):
    X, y = data()
    scorer = BoosterScorer(fitted(X, y))
    few = scorer.contributions(X)
    np.testing.assert_array_equal(few, scorer.booster.predict(X, pred_contrib=True))
    assert "_tables" not in vars(scorer)
    monkeypatch.setattr(learner, "MANY_ROWS", len(X))
    many = scorer.contributions(X)
    assert "_tables" in vars(scorer)
    np.testing.assert_array_equal(scorer.contributions(X[:-1]), few[:-1])
    np.testing.assert_allclose(many, few, rtol=0, atol=CLOSE)
    assert scorer.contributions(X[:0]).shape == (0, X.shape[1] + 1)


def test_nothing_is_printed(capfd):
    X, y = data()
    looked_up(fitted(X, y))(X)
    assert capfd.readouterr() == ("", "")


def test_the_default_model_of_a_log_adds_up_for_every_customer(monkeypatch):
    monkeypatch.setattr(learner, "MANY_ROWS", 50)
    churn = made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])
    X = np.random.default_rng(0).gamma(1.0, 20.0, (300, len(churn.model_.inputs)))
    values = churn.scorer_.contributions(X)
    assert "_tables" in vars(churn.scorer_)
    np.testing.assert_allclose(values.sum(axis=1), churn.scorer_.logits(X), rtol=1e-6, atol=CLOSE)


# One leaf --------------------------------------------------------------------------------------------------------------------------


def by_definition(shares, pattern, value):
    """Shapley's value of each feature, by all sets of the others: those in a set go as the row does, the others as the training rows."""
    features = range(len(shares))
    goes = [pattern >> (len(shares) - 1 - place) & 1 for place in features]

    def worth(known):
        return value * np.prod([goes[place] if place in known else shares[place] for place in features])

    found = []
    for mine in features:
        others = [place for place in features if place != mine]
        sets = (set(chosen) for size in range(len(shares)) for chosen in itertools.combinations(others, size))
        weights = lambda size: factorial(size) * factorial(len(shares) - size - 1) / factorial(len(shares))  # noqa: E731
        found.append(sum(weights(len(known)) * (worth(known | {mine}) - worth(known)) for known in sets))
    return found


@pytest.mark.parametrize("features", [1, 2, 3, 5, 8])
def test_a_leaf_adds_what_shapley_s_definition_says(features):
    shares = np.random.default_rng(features).uniform(0.05, 0.95, features)
    patterns = np.arange(2**features)
    found = contributions.shapley(shares, patterns, 0.7)
    assert found.shape == (features, 2**features)
    for pattern in patterns[:: max(1, len(patterns) // 16)]:
        np.testing.assert_allclose(found[:, pattern], by_definition(shares, int(pattern), 0.7), atol=1e-14)


@pytest.mark.parametrize("features", [3, 9, 14])
def test_a_pattern_is_worth_the_same_alone_and_among_others(features):
    shares = np.random.default_rng(features).uniform(0.05, 0.95, features)
    patterns = np.random.default_rng(1).integers(0, 2**features, 1200)
    whole = contributions.shapley(shares, patterns, 0.7)
    for place in range(0, 1200, 40):
        np.testing.assert_array_equal(contributions.shapley(shares, patterns[place : place + 1], 0.7)[:, 0], whole[:, place])
