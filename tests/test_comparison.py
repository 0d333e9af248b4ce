"""Comparisons are paired and by customer, intervals cover the truth, and a promotion follows from both."""

import math

import numpy as np
import pytest

from persopredict import comparison
from persopredict.calibration import sigmoid
from persopredict.comparison import Bootstrap, decide, paired_log_loss
from persopredict.curves import Curve
from persopredict.errors import SpecificationError
from persopredict.metrics import Metrics, auc, log_loss
from persopredict.resampled import drawn
from tests.folds import scored as made


def test_intervals_cover_the_true_difference():
    """Two rows per customer with one label: as if independent, the interval would be too narrow by a factor of 1.4."""
    truth = sigmoid(np.random.default_rng(0).normal(-1, 1, 300))
    other = np.full(300, truth.mean())
    expected = np.mean(truth * np.log(other / truth) + (1 - truth) * np.log((1 - other) / (1 - truth)))
    customer_id = [f"c{i}" for i in range(300)] * 2
    covered, narrow = 0, 0
    for seed in range(150):
        y = np.tile(np.random.default_rng(seed).random(300) < truth, 2)
        given = (y, np.tile(truth, 2), np.tile(other, 2))
        lower, upper = paired_log_loss(*given, customer_id, seed=seed, resamples=200).interval
        covered += lower <= expected <= upper
        lower, upper = paired_log_loss(*given, np.arange(600), seed=seed, resamples=200).interval
        narrow += lower <= expected <= upper
    assert 134 <= covered <= 150
    assert narrow < covered - 5


def test_the_bootstrap_agrees_with_the_textbook_standard_error():
    rng = np.random.default_rng(1)
    p = rng.beta(2, 6, 3000)
    y = rng.random(3000) < p
    paired = paired_log_loss(y, p, np.full(3000, 0.25), np.arange(3000), resamples=2000)
    each = -np.log(np.where(y, p, 1 - p)) + np.log(np.where(y, 0.25, 0.75))
    half = 1.96 * each.std() / math.sqrt(3000)
    assert paired.difference == pytest.approx(each.mean())
    assert paired.interval == pytest.approx((each.mean() - half, each.mean() + half), abs=0.1 * half)


def test_many_rows_are_sampled_by_customer_and_the_interval_keeps_its_width(monkeypatch):
    rng = np.random.default_rng(2)
    p = np.repeat(rng.beta(2, 6, 4000), 2)
    y, ids = rng.random(8000) < p, np.repeat(np.arange(4000), 2)
    whole = paired_log_loss(y, p, np.full(8000, 0.25), ids)
    monkeypatch.setattr(comparison, "MAX_ROWS", 2000)
    bootstrap = Bootstrap.of(ids)
    assert (bootstrap.sampled, bootstrap.rows.sum(), bootstrap.customers) == (1000, 2000, 4000)
    sampled = paired_log_loss(y, p, np.full(8000, 0.25), ids)
    assert (sampled.difference, sampled.customers) == (whole.difference, 4000)
    width, expected = (upper - lower for lower, upper in (sampled.interval, whole.interval))
    assert width == pytest.approx(expected, rel=0.2)
    assert sampled.interval[0] < whole.difference < sampled.interval[1]


def test_identical_predictions_differ_by_nothing():
    fold = made()[0]
    paired = paired_log_loss(fold.y, fold.probability, fold.probability, fold.customer_id)
    assert (paired.difference, paired.interval, paired.customers) == (0.0, (0.0, 0.0), 800)


def test_a_comparison_without_rows_or_with_few_customers_has_no_interval():
    assert math.isnan(paired_log_loss([], [], [], []).difference)
    few = paired_log_loss([0, 1], [0.1, 0.9], [0.2, 0.8], ["a", "b"])
    assert few.difference < 0
    assert all(map(math.isnan, few.interval))
    with pytest.raises(SpecificationError, match="1 customer ids for 2 rows"):
        paired_log_loss([0, 1], [0.1, 0.9], [0.2, 0.8], ["a"])


@pytest.mark.parametrize(
    ("difference", "interval", "same", "new"),
    [
        (-0.02, (-0.03, -0.01), True, True),
        (-0.01, (-0.03, 0.01), True, False),
        (0.01, (-0.01, 0.03), True, False),
        (0.02, (0.01, 0.03), False, False),
        (0.0, (0.0, 0.0), True, False),
        (math.nan, (math.nan, math.nan), True, False),
        (-0.5, (math.nan, math.nan), True, False),
    ],
)
def test_the_same_recipe_needs_no_proof_and_a_new_one_does(difference, interval, same, new):
    assert decide(difference, interval, same_recipe=True)[0] is same
    assert decide(difference, interval, same_recipe=False)[0] is new


def test_a_decision_gives_its_numbers():
    assert decide(0.02, (0.01, 0.03), same_recipe=True)[1] == (
        "same recipe, log-loss higher by 0.0200 (95% interval 0.0100 to 0.0300): the whole interval is worse"
    )
    assert decide(math.nan, (math.nan, math.nan), same_recipe=False)[1].endswith("it has to prove itself first")


def test_draws_by_places_are_draws_of_rows():
    """Whole customers are drawn, and each draw scored by what scikit-learn says of its rows."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    folds = made(rule=0.5, rows=300)
    y, p, ids = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability", "customer_id"))
    y = y.astype(float)
    bootstrap = Bootstrap.of(ids, resamples=20)
    *_, pooled = drawn(y, {"model": p}, [300, 600, 900], bootstrap)
    found, exact = [], []
    for block, weights in bootstrap.weights():
        for at, times in zip(range(block.start, block.stop), weights[:, bootstrap.codes].astype(int), strict=True):
            rows = np.repeat(np.arange(900), times)
            losses = Metrics.of(y[rows], p[rows])
            found.append([pooled.metrics["model"][name][at] for name in ("log_loss", "brier", "brier_skill")])
            assert found[-1] == pytest.approx([losses.log_loss, losses.brier, losses.brier_skill])
            ranks = [pooled.metrics["model"][name][at] for name in ("auc", "average_precision")]
            exact.append(np.subtract(ranks, [roc_auc_score(y[rows], p[rows]), average_precision_score(y[rows], p[rows])]))
    assert len(found) == 21
    assert np.abs(exact).max() < 0.005
    assert np.ptp(exact, axis=0).max() < 0.1 * np.ptp(pooled.metrics["model"]["average_precision"])


def test_intervals_cover_the_truth_about_95_times_in_100():
    """AUC, log-loss, precision of the likeliest tenth and the AUC ahead of a rule, of 300 customers, against those of 300,000."""

    def customers(seed, rows):
        rng = np.random.default_rng(seed)
        known, more = rng.normal(size=(2, rows))
        y = (rng.random(rows) < sigmoid(-1.5 + known + more)).astype(float)
        return y, sigmoid(-1.5 + known + more), sigmoid(-1.3 + known)

    y, p, rule = customers(0, 300_000)
    truth = [auc(y, p), log_loss(y, p), Curve.of(y, p).precision[9], auc(y, p) - auc(y, rule)]
    covered = np.zeros(4)
    for seed in range(1, 151):
        y, p, rule = customers(seed, 300)
        found = drawn(y, {"model": p, "rule": rule}, [300], Bootstrap.of(np.arange(300), seed, 200))[0]
        draws = [found.metrics["model"]["auc"], found.metrics["model"]["log_loss"], found.precision[:, 9]]
        draws.append(draws[0] - found.metrics["rule"]["auc"])
        estimates = [auc(y, p), log_loss(y, p), Curve.of(y, p).precision[9], auc(y, p) - auc(y, rule)]
        between = [found.interval(estimate, each) for estimate, each in zip(estimates, draws, strict=True)]
        covered += [lower <= value <= upper for value, (lower, upper) in zip(truth, between, strict=True)]
    assert (covered >= 0.89 * 150).all()
    assert (covered <= 0.99 * 150).all()
