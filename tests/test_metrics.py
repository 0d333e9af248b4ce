"""Metrics agree with scikit-learn or a plain loop, have no value where none exists, and ignore the order of the rows."""

import math

import numpy as np
import pytest

from persopredict.errors import SpecificationError
from persopredict.metrics import (
    NAMES,
    Metrics,
    Places,
    Ranking,
    auc,
    average_precision,
    brier,
    brier_skill,
    cumulative_gain,
    ece,
    ece_chance,
    equal_mass_bins,
    log_loss,
)


def sample(seed, rows=400, ties=False):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 6, rows)
    if ties:
        p = np.round(p, 1) + 0.01
    return (rng.random(rows) < p).astype(np.int8), p


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_rankings_and_losses_agree_with_scikit_learn(seed, ties):
    from sklearn import metrics as oracle

    y, p = sample(seed, ties=ties)
    assert auc(y, p) == pytest.approx(oracle.roc_auc_score(y, p))
    assert average_precision(y, p) == pytest.approx(oracle.average_precision_score(y, p))
    assert log_loss(y, p) == pytest.approx(oracle.log_loss(y, p))
    assert brier(y, p) == pytest.approx(oracle.brier_score_loss(y, p))


@pytest.mark.parametrize("ties", [False, True])
def test_places_of_weighted_rows_score_as_the_repeated_rows_do(ties):
    y, p = sample(1, ties=ties)
    times = np.random.default_rng(2).integers(0, 4, (3, len(y)))
    values, place = np.unique(-p, return_inverse=True)
    held, positives = (np.stack([np.bincount(place, each, len(values)) for each in rows], axis=1) for rows in (times, times * y))
    weighted = Places(held, positives)
    for draw, repeat in enumerate(times):
        plain = Ranking(np.repeat(y, repeat), np.repeat(p, repeat)).places()
        assert [scores[draw] for scores in weighted.scores()] == pytest.approx([scores[0] for scores in plain.scores()])
        assert weighted.found([0.05, 0.3])[draw] == pytest.approx(plain.found([0.05, 0.3])[0])


def test_gain_and_lift_agree_with_counting_the_likeliest():
    y, p = sample(3)
    likeliest = y[np.argsort(-p)]
    assert cumulative_gain(y, p, [0.3])[0] == pytest.approx(likeliest[:120].sum() / y.sum())
    assert Metrics.of(y, p).lift_top_decile == pytest.approx(likeliest[:40].mean() / y.mean())


def test_without_information_a_share_of_the_rows_holds_its_share_of_the_positives():
    y, _ = sample(4)
    alike = np.full(len(y), 0.2)
    assert cumulative_gain(y, alike, [0.1, 0.55]).tolist() == pytest.approx([0.1, 0.55])
    assert (auc(y, alike), Metrics.of(y, alike).lift_top_decile) == pytest.approx((0.5, 1.0))


def test_ece_agrees_with_a_plain_loop_over_equal_bins():
    y, p = sample(5)
    order = np.argsort(p)
    gaps = [abs(y[rows].mean() - p[rows].mean()) * len(rows) for rows in np.split(order, 10)]
    assert ece(y, p) == pytest.approx(sum(gaps) / len(y))


def test_equal_predictions_share_a_bin():
    _, p = sample(6, ties=True)
    place = equal_mass_bins(p)
    assert all(len(set(place[p == value])) == 1 for value in np.unique(p))
    assert equal_mass_bins([0.2, 0.1, 0.2, 0.1, 0.2, 0.1], bins=3).tolist() == [2, 0, 2, 0, 2, 0]
    assert ece([0, 1, 0, 0], [0.25] * 4) == pytest.approx(0.0)


@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_the_rows_does_not_matter(ties):
    y, p = sample(7, ties=ties)
    shuffled = np.random.default_rng(0).permutation(len(y))
    first, second = Metrics.of(y, p), Metrics.of(y[shuffled], p[shuffled])
    assert [getattr(second, name) for name in NAMES] == pytest.approx([getattr(first, name) for name in NAMES])


def test_brier_skill_is_zero_for_the_rate_and_one_for_the_truth():
    y = [0, 0, 0, 1]
    assert brier_skill(y, [0.25] * 4) == pytest.approx(0.0)
    assert brier_skill(y, y) == 1.0


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_losses_but_no_ranking(label):
    measured = Metrics.of([label] * 50, np.linspace(0.1, 0.9, 50))
    without_value = {name for name in NAMES if math.isnan(getattr(measured, name))}
    assert without_value == {"auc", "average_precision", "brier_skill", "lift_top_decile"}
    assert measured.log_loss > 0


def test_without_rows_nothing_has_a_value():
    assert all(math.isnan(getattr(Metrics.of([], []), name)) for name in NAMES)
    assert math.isnan(cumulative_gain([], [], 0.1))
    assert math.isnan(cumulative_gain([0, 0], [0.1, 0.2], 0.1))
    assert equal_mass_bins([]).tolist() == []


@pytest.mark.parametrize("rows", [300, 2000])
def test_a_perfectly_calibrated_model_stays_below_its_chance_ece_95_times_in_100(rows):
    below = sum(ece(y, p) <= ece_chance(p, seed=seed) for seed in range(60) for y, p in [sample(seed, rows)])
    assert 53 <= below <= 60


def test_runs_of_neighbours_give_the_chance_ece_that_single_labels_give():
    rng = np.random.default_rng(8)
    _, p = sample(8, rows=2000)
    simulated = np.quantile([ece(rng.random(2000) < p, p) for _ in range(1000)], 0.95)
    assert ece_chance(p) == pytest.approx(simulated, rel=0.08)


def test_a_distorted_model_exceeds_its_chance_ece():
    y, p = sample(9, rows=5000)
    distorted = p / (p + 2 * (1 - p))
    assert ece(y, distorted) > 2 * ece_chance(distorted)


@pytest.mark.parametrize(("y", "p"), [([0, 1], [0.1]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, np.nan]), ([[0, 1]], [[0.1, 0.2]])])
def test_what_can_not_be_measured_is_refused(y, p):
    with pytest.raises(SpecificationError):
        log_loss(y, p)
