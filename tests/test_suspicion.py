"""Features that alone are nearly the label, or constant while they were learnt from, are named; what chance could explain is not."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from persopredict.errors import SpecificationError
from persopredict.suspicion import constant_before, nearly_the_label, separated, surely

RNG = np.random.default_rng


def labels(rows, positives):
    y = np.zeros(rows, np.int8)
    y[RNG(1).choice(rows, positives, replace=False)] = 1
    return y


def suspected(values, y, **settings):
    return nearly_the_label(np.asarray(values, float).reshape(len(y), -1), y, ["feature"], **settings)


# Nearly the label ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_ranks_nearly_as_the_label_is_named_whether_high_or_low_values_tell(sign):
    y = labels(2000, 200)
    values = sign * (y + RNG(2).normal(size=2000) * 0.3)
    (problem,) = suspected(values, y)
    reached = roc_auc_score(y, sign * values)
    assert 0.98 < reached < 1
    assert (problem.code, problem.severity, problem.count, problem.source) == ("feature_nearly_the_label", "warning", 2000, "feature")
    assert f"200 snapshots with the outcome from 1,800 without it at an AUC of {reached:.3f}" in problem.message
    assert "features=" in problem.remedy


def test_a_strong_honest_feature_is_not_named():
    y = labels(5000, 500)
    values = y + RNG(2).normal(size=5000) * 0.45
    assert 0.93 < roc_auc_score(y, values) < 0.97
    assert suspected(values, y) == []
    assert len(suspected(values, y, at_least=0.93)) == 1


@pytest.mark.parametrize("outcome", [0, 1])
def test_null_alone_can_be_the_label(outcome):
    y = labels(500, 60)
    (problem,) = suspected(np.where(y == outcome, np.nan, RNG(3).normal(size=500)), y)
    assert "its being null alone tells" in problem.message


@pytest.mark.parametrize("outcome", [0, 1])
def test_null_stands_below_or_above_all_values_whichever_tells_more(outcome):
    """Those with the outcome hold the extreme values, or nothing: neither alone tells them."""
    y = labels(3000, 600)
    extreme = np.where(RNG(4).random(3000) < 0.5, np.nan, 9.0)
    values = np.where(y == outcome, extreme, RNG(5).normal(size=3000))
    (problem,) = suspected(values, y)
    assert "its values alone tell" in problem.message
    assert "AUC of 1.000" in problem.message


def test_ties_count_half():
    y = np.repeat([1, 1, 0, 0], [96, 4, 4, 96])
    flag = np.repeat([1, 0, 1, 0], [96, 4, 4, 96])
    assert separated([[4, 96], [96, 4]]) == pytest.approx(roc_auc_score(y, flag)) == pytest.approx(0.96)
    assert suspected(flag, y) == []


def test_chance_names_nothing_however_few_have_the_outcome():
    """150 features without meaning, and 150 of a true AUC of 0.9, on 5, 10 and 25 snapshots with the outcome."""
    for positives in (1, 2, 5, 10, 25):
        y = labels(1000, positives)
        for shift in (0.0, 1.8):
            X = RNG(positives).normal(size=(1000, 150)) + shift * y[:, None]
            assert nearly_the_label(X, y, [f"f{place}" for place in range(150)]) == []


def test_a_copy_of_the_label_is_named_from_25_snapshots_on():
    assert [len(suspected(labels(1000, number), labels(1000, number))) for number in (5, 15, 25)] == [0, 0, 1]


def test_a_column_that_knows_the_latest_outcomes_only_is_named_by_the_last_cutoff():
    rng, customers = RNG(7), 400
    cutoff = np.repeat([1, 2, 3], customers)
    y = (rng.random(3 * customers) < 0.2).astype(np.int8)
    filled = np.tile(y[-customers:], 3)
    assert suspected(filled, y) == []
    (problem,) = suspected(filled, y, cutoff=cutoff)
    assert "without it at the last cutoff at an AUC of 1.000" in problem.message
    assert problem.count == customers


def test_of_many_snapshots_enough_are_drawn_and_always_the_same():
    y = labels(400_000, 100_000)
    X = np.stack([y + RNG(8).normal(size=400_000) * 0.3, RNG(9).normal(size=400_000), y], axis=1)
    found = nearly_the_label(X, y, ["noisy", "noise", "copy"])
    assert [problem.source for problem in found] == ["copy", "noisy"]
    assert found == nearly_the_label(X, y, ["noisy", "noise", "copy"])
    assert f"{roc_auc_score(y, X[:, 0]):.2f}" in found[1].message


@pytest.mark.parametrize("values", [[1.0] * 60, [np.nan] * 60])
def test_a_feature_with_one_value_tells_nothing(values):
    assert suspected(values, labels(60, 30)) == []


def test_without_snapshots_or_with_one_label_nothing_is_said():
    assert nearly_the_label(np.zeros((0, 1)), [], ["feature"]) == []
    assert suspected(np.arange(50), np.ones(50)) == []
    assert suspected([1.0], [1]) == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(SpecificationError, match="shape"):
        nearly_the_label(np.zeros((3, 2)), [0, 1, 0], ["feature"])
    with pytest.raises(SpecificationError, match="labels must be 0 or 1"):
        suspected([1.0, 2.0, 3.0], [0, 1, -1])
    with pytest.raises(SpecificationError, match="shape"):
        constant_before(np.zeros((3, 2)), np.zeros((3, 1)), ["feature"])


@pytest.mark.parametrize(("reached", "positives", "negatives"), [(1.0, 25, 1000), (0.985, 25, 1000), (0.99, 400, 300), (0.7, 12, 9)])
def test_the_interval_ends_where_what_was_reached_is_just_no_surprise(reached, positives, negatives):
    """The end solves Newcombe's equation, reached - A = z · sd(A), here by another method and with the variance written out."""

    def surprise(area):
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = (area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)) / (positives * negatives)
        return reached - area - norm.ppf(0.95) * variance**0.5

    assert surely(reached, positives, negatives) == pytest.approx(brentq(surprise, 0.01, reached - 1e-9), abs=1e-4)


def test_the_interval_misses_at_most_one_time_in_twenty():
    rng, truth = RNG(11), norm.cdf(2 / 2**0.5)
    y = np.repeat([1, 0], [40, 300])
    samples = [roc_auc_score(y, np.concatenate([rng.normal(2, 1, 40), rng.normal(0, 1, 300)])) for _ in range(400)]
    assert sum(surely(reached, 40, 300) > truth for reached in samples) <= 20
    assert surely(1.0, 0, 10) == 0


# Constant while it was learnt from ----------------------------------------------------------------------------------------------------


def constants(train, scoring, **settings):
    found = constant_before(np.reshape(train, (-1, 1)), np.reshape(scoring, (-1, 1)), ["feature"], **settings)
    return [problem.code for problem in found]


@pytest.mark.parametrize("constant", [0.0, 7.5, np.nan])
def test_a_feature_constant_in_training_but_not_in_scoring_is_named(constant):
    (problem,) = constant_before(np.full((800, 1), constant), np.arange(100.0).reshape(-1, 1) + 20, ["feature"])
    assert (problem.code, problem.severity, problem.count, problem.source) == ("constant_in_training", "warning", 100, "feature")
    assert "in all 800 training snapshots, but not for 100 of 100 scored" in problem.message


def test_null_beside_a_value_is_no_constant():
    assert constants([np.nan, 1.0] * 400, np.arange(100.0)) == []
    assert constants([1.0, np.nan] * 400, np.arange(100.0)) == []


def test_a_feature_that_is_constant_in_both_is_not_named_unless_the_constants_differ():
    assert constants(np.zeros(800), np.zeros(100)) == []
    assert constants(np.full(800, np.nan), np.full(100, np.nan)) == []
    assert constants(np.full(800, np.nan), np.zeros(100)) == ["constant_in_training"]


def test_a_value_that_a_handful_of_customers_have_is_not_named():
    scoring = np.zeros(10_000)
    scoring[:99] = 1
    assert constants(np.zeros(50_000), scoring) == []
    scoring[:200] = 1
    assert constants(np.zeros(50_000), scoring) == ["constant_in_training"]


def test_few_training_snapshots_may_be_constant_by_chance():
    assert constants([0.0, 0.0, 0.0], np.arange(1000) % 2) == []
    assert constants(np.zeros(3), [1.0]) == []


def test_a_difference_after_the_first_thousand_rows_is_seen():
    assert constants(np.append(np.zeros(5000), 1.0), np.arange(100.0)) == []


def test_a_feature_whose_source_stopped_is_named_where_it_never_was_quiet_before():
    cutoff = np.repeat(np.arange(8), 100)
    train = (RNG(3).random(800) < 0.4).astype(float)
    assert constants(train, np.zeros(100), cutoff=cutoff) == ["constant_at_scoring"]
    assert constants(train, np.full(100, np.nan), cutoff=cutoff) == ["constant_at_scoring"]
    quiet = np.where(cutoff == 5, 0.0, train)
    assert constants(quiet, np.zeros(100), cutoff=cutoff) == []
    assert constants(train, np.zeros(100)) == []
    assert constants(train[:300], np.zeros(100), cutoff=cutoff[:300]) == []
    assert constants(train, np.zeros(5), cutoff=cutoff) == []


def test_without_rows_nothing_is_said():
    assert constants([], [1.0]) == []
    assert constants([1.0], []) == []
