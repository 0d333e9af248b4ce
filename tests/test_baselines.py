"""Baselines: the base rate, and the best rule on one column."""

import json

import numpy as np
import pytest

from persopredict.baselines import BINS, PRIOR_ROWS, BaseRate, BestRule, _left_out_loss
from persopredict.errors import SpecificationError


def customers(rows=4000, seed=0):
    """Recency decides; frequency says little; the third column is noise. A tenth never bought (nan recency, high risk)."""
    rng = np.random.default_rng(seed)
    recency = rng.exponential(40, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(3 - recency / 20))).astype(np.int8)
    frequency = rng.poisson(np.where(y, 3, 4)).astype(float)
    never = rng.random(rows) < 0.1
    recency[never], y[never] = np.nan, rng.random(never.sum()) < 0.9
    return np.stack([frequency, recency, rng.normal(size=rows)], axis=1), ("frequency", "recency", "noise"), y


def test_the_base_rate_stays_inside_zero_and_one():
    assert BaseRate.fit([0] * 99).rate == pytest.approx(0.005)
    assert BaseRate.fit([1] * 99).rate == pytest.approx(0.995)
    assert BaseRate.fit([0, 1, 1, 1] * 100).predict(2).tolist() == pytest.approx([0.75, 0.75], abs=0.001)


def test_the_most_telling_column_is_chosen():
    rule = BestRule.fit(*customers())
    assert rule.name == "recency"
    assert len(rule.rates) == BINS + 1


def test_each_bin_says_its_training_rate_shrunk_by_twenty_rows():
    X, names, y = customers()
    rule = BestRule.fit(X, names, y)
    first = X[:, 1] < rule.edges[0]
    base = (y.sum() + 0.5) / (len(y) + 1)
    expected = (y[first].sum() + PRIOR_ROWS * base) / (first.sum() + PRIOR_ROWS)
    assert rule.predict(X)[first] == pytest.approx(np.full(first.sum(), expected))
    assert first.sum() == pytest.approx(len(y) * 0.9 / BINS, rel=0.1)


def test_missing_values_are_a_bin_of_their_own():
    X, names, y = customers()
    missing = np.isnan(X[:, 1])
    predicted = BestRule.fit(X, names, y).predict(X)
    assert predicted[missing] == pytest.approx(np.full(missing.sum(), y[missing].mean()), abs=0.03)


def test_values_beyond_the_training_range_fall_in_the_outer_bins():
    X, names, y = customers()
    rule = BestRule.fit(X, names, y)
    far = np.array([[0.0, -1.0, 0.0], [0.0, 1e9, 0.0], [0.0, np.inf, 0.0]])
    assert rule.predict(far).tolist() == [rule.rates[0], rule.rates[-2], rule.rates[-2]]


def test_noise_mostly_loses_against_the_base_rate():
    rng = np.random.default_rng(0)
    samples = [(rng.normal(size=(300, 1)), rng.random(300) < 0.2) for _ in range(60)]
    rules = [BestRule.fit(X, ("noise",), y) for X, y in samples]
    assert sum(rule.column is None for rule in rules) >= 42
    lost = next(place for place, rule in enumerate(rules) if rule.name == "base_rate")
    X, y = samples[lost]
    assert rules[lost].predict(X).tolist() == pytest.approx([BaseRate.fit(y).rate] * 300)


def test_columns_are_compared_with_each_row_left_out():
    rng = np.random.default_rng(3)
    bins, y, base = rng.integers(0, 6, 80), (rng.random(80) < 0.3).astype(float), 0.3
    losses = []
    for row in range(80):
        others = (bins == bins[row]) & (np.arange(80) != row)
        rate = (y[others].sum() + PRIOR_ROWS * base) / (others.sum() + PRIOR_ROWS)
        losses.append(-np.log(rate if y[row] else 1 - rate))
    assert _left_out_loss(bins, y, base, 6) == pytest.approx(np.mean(losses))


def test_a_count_has_as_many_bins_as_it_has_common_values():
    counts = np.array([0.0] * 60 + [1.0] * 20 + [2.0] * 20)
    y = np.repeat([0, 1, 0, 1], [50, 10, 5, 35])
    rule = BestRule.fit(counts[:, None], ("frequency",), y)
    assert rule.edges == (1.0, 2.0)
    assert len(rule.rates) == 4


def test_constant_missing_and_no_columns_are_the_base_rate():
    y = np.array([0, 1] * 50)
    useless = np.stack([np.ones(100), np.full(100, np.nan)], axis=1)
    assert BestRule.fit(useless, ("constant", "missing"), y).name == "base_rate"
    assert BestRule.fit(np.zeros((100, 0)), (), y).predict(np.zeros((3, 0))).tolist() == pytest.approx([0.5] * 3)
    assert BestRule.fit(np.zeros((0, 1)), ("days",), []).predict([[1.0]]).tolist() == [0.5]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_still_gives_probabilities_inside_zero_and_one(label):
    X, names, _ = customers(rows=200)
    predicted = BestRule.fit(X, names, np.full(200, label)).predict(X)
    assert 0 < predicted.min() <= predicted.max() < 1


def test_the_order_of_the_rows_does_not_matter():
    X, names, y = customers()
    shuffled = np.random.default_rng(1).permutation(len(y))
    assert BestRule.fit(X[shuffled], names, y[shuffled]) == BestRule.fit(X, names, y)


def test_baselines_survive_json_exactly():
    rule, rate = BestRule.fit(*customers()), BaseRate.fit([0, 1, 1])
    assert BestRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False))) == rule
    assert BaseRate.from_dict(json.loads(json.dumps(rate.to_dict()))) == rate


def test_what_does_not_fit_together_is_refused():
    X, names, y = customers(rows=50)
    with pytest.raises(SpecificationError, match="50 labels and 2 names"):
        BestRule.fit(X, names[:2], y)
    with pytest.raises(SpecificationError, match="labels must be 0 or 1"):
        BestRule.fit(X, names, y + 1)
    with pytest.raises(SpecificationError, match="reads 3 columns"):
        BestRule.fit(X, names, y).predict(X[:, :2])
