"""How good the predictions are on real data: floors for the default configuration, with the margin that honest noise needs.

Then what `make quality` rests on: made logs are what they say of themselves, figures are those of a plain computation, verdicts follow.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from persopredict import Feature, metrics, snapshots
from persopredict.calibration import sigmoid
from persopredict.errors import DataError
from persopredict.evaluation import FoldPredictions

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

LAST = "2017-12-03"
FLOORS = {"churn_purchase_28d": 0.865, "conversion_coupon_redemption_28d": 0.920}
MOST_ECE = 0.02
#: One-sided 95%: a model that is exactly as good as the floor falls below it by more than this in one data set of twenty.
QUANTILE = 1.645


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# Each imports those before it by name.
_, _, _, _, small, judging, reporting, quality = (
    benchmark(name)
    for name in ("affinity_rivals", "speed", "affinity", "made_logs", "small_data", "quality_judged", "quality_report", "quality")
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
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


@pytest.mark.journey
@pytest.mark.parametrize("target", FLOORS)
def test_the_ranking_reaches_its_floor(judged, target):
    (last,) = [one.fold for one in of(judged, target) if f"{one.cutoff:%Y-%m-%d}" == LAST]
    found, margin = metrics.auc(last.y, last.probability), QUANTILE * standard_error(last.y, last.probability)
    assert found >= FLOORS[target] - margin, f"AUC {found:.4f}; the floor is {FLOORS[target]} less a margin of {margin:.4f} for chance"


@pytest.mark.journey
@pytest.mark.parametrize("target", FLOORS)
def test_probabilities_beat_the_base_rate_and_the_best_rule_at_every_cutoff(judged, target):
    for one in of(judged, target):
        loss = metrics.log_loss(one.fold.y, one.fold.probability)
        for name, baseline in one.fold.baselines.items():
            other = metrics.log_loss(one.fold.y, baseline)
            assert loss < other, f"{one.cutoff:%Y-%m-%d}: log-loss {loss:.4f} against {other:.4f} of {name}"


@pytest.mark.journey
@pytest.mark.parametrize("target", FLOORS)
def test_probabilities_are_calibrated(judged, target):
    found, chance = judging.Pooled(of(judged, target)).ece()
    assert found <= MOST_ECE, f"ECE {found:.4f}; a perfect model stays below {chance:.4f} in 95% of draws"


# What `make quality` rests on ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits():
    return small.visits(20_000, seed=3)


def labels(made):
    """Of the known customers in the month that is judged, by id."""
    rows = snapshots(made.log(), [made.until], [Feature("count", window="28d", where="event = 'visit'", fallback=0)], [made.target])
    frame = rows.to_pandas().set_index("customer_id")
    assert set(frame.index) == set(made.ids[~np.isnan(made.probability)])
    frame["probability"] = made.probability[np.searchsorted(made.ids, frame.index.to_numpy(str))]
    return frame.rename(columns={f"label_{made.target.name}": "y", frame.columns[1]: "visits"})


def test_small_data_has_a_true_auc_of_85_and_a_tenth_of_positives(visits):
    assert visits.true_auc() == pytest.approx(0.85, abs=0.01)
    assert np.nanmean(visits.probability) == pytest.approx(0.1, abs=0.01)


def test_the_truth_of_small_data_is_what_comes(visits):
    frame = labels(visits)
    for low, high in ((0.0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1.0)):
        part = frame[(frame["probability"] >= low) & (frame["probability"] < high)]
        error = np.sqrt((part["probability"] * (1 - part["probability"])).sum())
        assert abs(part["y"].sum() - part["probability"].sum()) < 4 * error
    assert roc_auc_score(frame["y"], frame["probability"]) == pytest.approx(visits.true_auc(), abs=0.02)


def test_where_nothing_is_planted_activity_tells_nothing():
    frame = labels(small.visits(20_000, seed=3, planted=False))
    # Three standard errors of the AUC of 2,000 positives.
    assert roc_auc_score(frame["y"], frame["visits"]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("process", ["visits", "visits, a short log", "shop"])
@pytest.mark.parametrize("counted", ["customers", "snapshots"])
def test_a_small_log_is_the_smallest_that_holds_its_positives(process, counted):
    whole = small.PLANTED[process](400, seed=1)
    made = whole.holding(25, counted)

    def count(log):
        return len(log.positives) if counted == "snapshots" else len(set(log.positives))

    assert count(made) >= 25 > count(whole.first(len(made.ids) - 1))
    assert set(made.events["customer_id"].to_pylist()) <= set(made.ids)


def doubter(cutoff, seed, *, rows=400):
    """A model that knows the truth but doubts it, a baseline that always says one rate, and a calibration that is right."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.02, 0.6, rows)
    y, ids = (rng.random(rows) < truth).astype(np.int8), np.array([f"c{number}" for number in range(rows)], dtype=object)
    logit = 2 * np.log(truth / (1 - truth))
    baselines = {"base_rate": np.full(rows, 0.3), "copy": truth}
    fold = FoldPredictions(datetime(2024, cutoff, 1, tzinfo=UTC), ids, y, logit, truth, baselines, 1000, 300)
    return judging.Judged("churn_purchase_28d", fold.cutoff, fold, (fold,), "lightgbm", "platt", "A", 1.0, truth)


@pytest.fixture(scope="module")
def pooled():
    return judging.Pooled([doubter(2, seed=1), doubter(1, seed=0)])


def test_auc_is_the_mean_over_cutoffs(pooled):
    mean = np.mean([roc_auc_score(one.fold.y, one.fold.probability) for one in pooled.judged])
    found = pooled.auc("model")
    assert found.value == pytest.approx(mean)
    assert found.interval[0] < mean < found.interval[1]
    assert pooled.auc_above("base_rate").value == pytest.approx(mean - 0.5)


def test_log_loss_is_of_all_rows_together(pooled):
    y, p = (np.concatenate([getattr(one.fold, name) for one in pooled.judged]) for name in ("y", "probability"))
    found = pooled.loss_above("base_rate")
    assert found.value == pytest.approx(log_loss(y, p) - log_loss(y, np.full(len(y), 0.3)))
    assert found.interval[0] < found.value < found.interval[1] < 0


def test_equal_predictors_differ_by_nothing(pooled):
    for found in (pooled.auc_above("copy"), pooled.loss_above("copy")):
        assert (found.value, *found.interval) == (0, 0, 0)
    assert pooled.error().value == 0


def test_harm_is_what_calibration_added_to_the_log_loss(pooled):
    fold = pooled.judged[0].fold
    found = judging.harm([fold])
    assert found.value == pytest.approx(log_loss(fold.y, fold.probability) / log_loss(fold.y, sigmoid(fold.logit)) - 1)
    assert found.value < found.interval[1] < 0


def verdicts(run):
    return [row[-1] for row in reporting.target_rows(run)]


@pytest.mark.parametrize(("skilled", "verdict"), [(16, "met"), (15, "missed")])
def test_sixteen_of_twenty_seeds_must_have_skill(skilled, verdict):
    one = small.Graded("visits", True, "customers", 0, 60, 40, 25, "C", "rule", harm=0.0)
    run = reporting.Run(["small"], small=[replace(one, seed=seed, skill=0.1 if seed < skilled else -0.1) for seed in range(20)])
    assert verdicts(run) == [verdict]


@pytest.mark.parametrize(("claimed", "verdict"), [(2, "met"), (3, "missed")])
def test_eighteen_of_twenty_must_claim_nothing_where_nothing_is(claimed, verdict):
    one = small.Graded("visits", False, "customers", 0, 60, 40, 25, "C", "rule")
    grades = ["B"] * claimed + ["C"] * (19 - claimed) + [small.REFUSED]
    assert verdicts(reporting.Run(["small"], small=[replace(one, grade=grade) for grade in grades])) == [verdict]


def test_a_refusal_has_no_skill_and_no_harm():
    refused = small.Graded("visits", True, "customers", 0, 60, 40, 25, small.REFUSED, small.REFUSED)
    assert verdicts(reporting.Run(["small", "calibration"], small=[refused] * 20)) == ["missed"]


def test_a_baseline_that_is_level_is_not_beaten(pooled):
    run = reporting.Run(["news"])
    run.add("news", pooled.judged)
    assert verdicts(run) == ["met", "met", "missed", "missed", ""]


def test_what_is_not_asked_for_is_not_judged(pooled):
    run = reporting.Run(["calibration"])
    run.add("made", pooled.judged)
    assert verdicts(run) == ["met", "met"]
    assert "| made, churn_purchase_28d | 2024-01-01 |" in reporting.report(run, (0.0, 0.0))


def test_an_eighth_of_the_readers_is_judged_by_their_own_midnight(tmp_path):
    at = datetime(2017, 10, 9, 2, 59, tzinfo=UTC)
    columns = {
        f"click_{name}": [1] * 16 for name in ("article_id", "deviceGroup", "environment", "os", "country", "region", "referrer_type")
    }
    frame = pa.table({"user_id": range(16), "click_timestamp": pa.array([at.replace(tzinfo=None)] * 16, pa.timestamp("us")), **columns})
    pq.write_table(frame, tmp_path / quality.CLICKS)
    found = snapshots(quality.clicks(tmp_path / quality.CLICKS), ["2017-10-09"], [Feature("count", fallback=0)]).to_pandas()
    # A minute before midnight in São Paulo.
    assert dict(zip(found["customer_id"], found.iloc[:, -1], strict=True)) == {"0": 1, "8": 1}
