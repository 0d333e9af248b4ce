"""How good the predictions are on real data: floors for the default configuration, with the margin that honest noise needs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from persopredict import metrics
from persopredict.errors import DataError

pytestmark = pytest.mark.journey

LAST = "2017-12-03"
FLOORS = {"churn_purchase_28d": 0.865, "conversion_coupon_redemption_28d": 0.920}
MOST_ECE = 0.02
#: One-sided 95%: a model that is exactly as good as the floor falls below it by more than this in one data set of twenty.
QUANTILE = 1.645


def benchmark():
    spec = importlib.util.spec_from_file_location("quality", Path(__file__).parents[1] / "benchmarks" / "quality.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    quality = benchmark()
    try:
        config = quality.journey(str(tmp_path_factory.mktemp("journey")))
    except DataError:
        pytest.skip("the demo's data is not installed")
    found = quality.judge(config, config.event_log())
    assert {one.target for one in found} == set(FLOORS)
    assert len(found) == 2 * len(quality.CUTOFFS)
    return found


def of(judged, target):
    return [one for one in judged if one.target == target]


def standard_error(y, p, *, draws=300):
    """Of the AUC, by a bootstrap over customers (each has one row at a cutoff)."""
    rng = np.random.default_rng(0)
    picks = (rng.integers(0, len(y), len(y)) for _ in range(draws))
    return float(np.std([metrics.auc(y[pick], p[pick]) for pick in picks], ddof=1))


@pytest.mark.parametrize("target", FLOORS)
def test_the_ranking_reaches_its_floor(judged, target):
    (last,) = [one.fold for one in of(judged, target) if f"{one.cutoff:%Y-%m-%d}" == LAST]
    found, margin = metrics.auc(last.y, last.probability), QUANTILE * standard_error(last.y, last.probability)
    assert found >= FLOORS[target] - margin, f"AUC {found:.4f}; the floor is {FLOORS[target]} less a margin of {margin:.4f} for chance"


@pytest.mark.parametrize("target", FLOORS)
def test_probabilities_beat_the_base_rate_and_the_best_rule_at_every_cutoff(judged, target):
    for one in of(judged, target):
        loss = metrics.log_loss(one.fold.y, one.fold.probability)
        for name, baseline in one.fold.baselines.items():
            other = metrics.log_loss(one.fold.y, baseline)
            assert loss < other, f"{one.cutoff:%Y-%m-%d}: log-loss {loss:.4f} against {other:.4f} of {name}"


@pytest.mark.parametrize("target", FLOORS)
def test_probabilities_are_calibrated(judged, target):
    found, chance = benchmark().pooled_ece(of(judged, target))
    assert found <= MOST_ECE, f"ECE {found:.4f}; a perfect model stays below {chance:.4f} in 95% of draws"
