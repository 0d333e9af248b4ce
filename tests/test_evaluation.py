"""Evaluation: grades follow the stated rule, intervals cover the truth, comparisons are paired and by customer."""

import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from persopredict import comparison
from persopredict.calibration import choose, sigmoid
from persopredict.comparison import Bootstrap
from persopredict.errors import SpecificationError, TooLittleDataError
from persopredict.evaluation import Evaluation, FoldPredictions, decide, evaluate, paired_log_loss
from persopredict.metrics import NAMES, Metrics

CUTOFFS = [datetime(2017, month, 1, tzinfo=UTC) for month in (10, 11, 12)]


def made(seed=0, *, informed=1.5, noise=0.0, rule=0.0, rows=800):
    """Folds whose truth is known: the model knows `informed` of the logit and adds `noise`; the rule knows `rule`."""
    rng = np.random.default_rng(seed)
    customer_id = np.array([f"c{i:05d}" for i in range(rows)], dtype=object)
    folds = []
    for cutoff in CUTOFFS:
        known, by_rule = rng.normal(size=rows), rng.normal(size=rows)
        y = (rng.random(rows) < sigmoid(-2 + informed * known + rule * by_rule)).astype(np.int8)
        logit = -2 + informed * known + rule * by_rule + noise * rng.normal(size=rows)
        baselines = {"base_rate": np.full(rows, 0.17), "best_rule": sigmoid(-1.7 + rule * by_rule)}
        folds.append(FoldPredictions(cutoff, customer_id, y, logit, sigmoid(logit), baselines, 5000, 700))
    return folds


def test_a_strong_model_is_graded_a():
    evaluation = evaluate(made(), target="churn")
    assert (evaluation.grade, evaluation.best_baseline) == ("A", "base_rate")
    assert evaluation.skill >= 0.10
    assert evaluation.difference.interval[1] < 0
    assert evaluation.grade_reason.startswith("Clearly better than the best baseline: log-loss 0.")


def test_a_small_but_certain_gain_is_graded_b():
    evaluation = evaluate(made(informed=0.6, rows=3000), target="churn")
    assert evaluation.grade == "B"
    assert 0 < evaluation.skill < 0.10


def test_a_model_of_noise_is_graded_c():
    grades = [evaluate(made(seed, informed=0.0, noise=0.3, rows=200), target="churn", resamples=200).grade for seed in range(20)]
    assert grades.count("C") >= 19


def test_a_model_that_says_what_its_baseline_says_is_no_better():
    for seed in range(6):
        folds = [replace(fold, baselines={"same": fold.probability}) for fold in made(seed, rows=200)]
        evaluation = evaluate(folds, target="churn", resamples=100)
        assert (evaluation.grade, evaluation.skill) == ("C", 0.0)
        assert evaluation.difference.interval == evaluation.skill_interval == (0.0, 0.0)


def test_the_difference_is_the_paired_log_loss_of_the_model_and_the_best_baseline():
    folds = made(rule=0.5)
    evaluation = evaluate(folds, target="churn", seed=4)
    y, ids, ours, theirs = (
        np.concatenate(arrays)
        for arrays in zip(*((fold.y, fold.customer_id, fold.probability, fold.baselines["best_rule"]) for fold in folds), strict=True)
    )
    paired = paired_log_loss(y, ours, theirs, ids, seed=4)
    assert evaluation.best_baseline == "best_rule"
    assert evaluation.difference.difference == pytest.approx(paired.difference, rel=1e-12)
    assert evaluation.difference.interval == pytest.approx(paired.interval, rel=1e-9)


def test_a_gain_without_proof_is_graded_c():
    evaluations = [evaluate(made(seed, informed=0.25, rows=40), target="churn") for seed in range(10)]
    unproven = [found for found in evaluations if found.skill > 0 and found.difference.interval[1] >= 0]
    assert unproven
    assert all(found.grade == "C" and found.grade_reason.startswith("Not better") for found in unproven)


def test_the_model_is_judged_against_the_best_of_its_baselines():
    folds = made(informed=0.2, rule=1.5)
    evaluation = evaluate(folds, target="churn")
    assert evaluation.best_baseline == "best_rule"
    assert evaluation.skill == pytest.approx(1 - evaluation.pooled.model.log_loss / evaluation.pooled.baselines["best_rule"].log_loss)
    assert evaluation.skill < 1 - evaluation.pooled.model.log_loss / evaluation.pooled.baselines["base_rate"].log_loss


def test_each_cutoff_and_the_pool_show_the_metrics_of_their_rows():
    folds = made(rule=0.5)
    evaluation = evaluate(folds, target="churn", seed=3)
    for fold, result in zip(folds, evaluation.folds, strict=True):
        assert (result.cutoff, result.rows, result.positives) == (fold.cutoff, len(fold.y), fold.y.sum())
        assert result.model == Metrics.of(fold.y, fold.probability, seed=3)
        assert result.baselines["best_rule"] == Metrics.of(fold.y, fold.baselines["best_rule"], seed=3)
        assert (result.train_rows, result.train_positives, result.intervals) == (5000, 700, {})
    y, p = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability"))
    assert evaluation.pooled.cutoff is None
    assert evaluation.pooled.model == Metrics.of(y, p, seed=3)


def test_pooled_intervals_hold_their_metric_for_every_predictor():
    pooled = evaluate(made(rule=0.5), target="churn").pooled
    for name, metrics in pooled.predictors().items():
        assert "ece" not in pooled.intervals[name]
        for metric, (lower, upper) in pooled.intervals[name].items():
            assert lower <= getattr(metrics, metric) <= upper


def test_skill_interval_and_grade_agree():
    for seed in range(5):
        evaluation = evaluate(made(seed, informed=0.4, rows=300), target="churn")
        assert (evaluation.skill_interval[0] > 0) == (evaluation.difference.interval[1] < 0) == (evaluation.grade != "C")


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_shows_nothing_and_says_so(label):
    folds = [replace(fold, y=np.full_like(fold.y, label)) for fold in made()]
    evaluation = evaluate(folds, target="churn")
    assert evaluation.grade == "C"
    assert "the same label: nothing can be shown" in evaluation.grade_reason
    assert math.isnan(evaluation.pooled.model.auc)
    assert "nan" in str(evaluation)


def test_a_handful_of_customers_shows_nothing():
    evaluation = evaluate(made(informed=8.0, rows=9), target="churn")
    assert evaluation.grade == "C"
    assert evaluation.grade_reason == "Only 9 customers in the tests: nothing can be shown."


def test_a_cutoff_without_rows_does_not_disturb_the_others():
    folds = made()
    nobody = {name: p[:0] for name, p in folds[1].baselines.items()}
    arrays = {name: getattr(folds[1], name)[:0] for name in ("customer_id", "y", "logit", "probability")}
    evaluation = evaluate([folds[0], replace(folds[1], baselines=nobody, **arrays), folds[2]], target="churn")
    assert evaluation.folds[1].rows == 0
    assert evaluation.grade == "A"


def test_the_same_predictions_give_the_same_evaluation_in_any_order_of_rows():
    folds = made(rule=0.5)
    order = np.random.default_rng(5).permutation(800)
    shuffled = [
        FoldPredictions(
            fold.cutoff,
            fold.customer_id[order],
            fold.y[order],
            fold.logit[order],
            fold.probability[order],
            {name: p[order] for name, p in fold.baselines.items()},
            fold.train_rows,
            fold.train_positives,
        )
        for fold in folds
    ]
    assert evaluate(folds, target="churn").to_dict() == evaluate(folds, target="churn").to_dict()
    first, second = (evaluate(given, target="churn").summary() for given in (folds, shuffled))
    assert second == pytest.approx(first, rel=1e-9)


def test_three_cutoffs_of_2500_customers_take_less_than_two_seconds():
    folds = made(rows=2500, rule=0.5)
    evaluate(made(rows=20), target="churn")
    start = time.process_time()
    evaluate(folds, target="churn")
    assert time.process_time() - start < 2


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


def test_an_evaluation_survives_json():
    folds = made(rule=0.5)
    evaluation = evaluate(folds, target="churn", calibration=choose([(fold.logit, fold.y) for fold in folds]))
    stored = json.dumps(evaluation.to_dict(), allow_nan=False)
    assert Evaluation.from_dict(json.loads(stored)) == evaluation
    assert str(Evaluation.from_dict(json.loads(stored))) == str(evaluation)


def test_what_has_no_value_is_null_in_json_and_left_out_of_the_summary():
    one_class = evaluate([replace(fold, y=np.zeros_like(fold.y)) for fold in made()], target="churn")
    stored = json.loads(json.dumps(one_class.to_dict(), allow_nan=False))
    assert stored["pooled"]["model"]["auc"] is None
    assert Evaluation.from_dict(stored).to_dict() == one_class.to_dict()
    assert "auc" not in one_class.summary()
    assert one_class.summary()["positives"] == 0


def test_an_evaluation_holds_no_customer():
    assert "c00001" not in json.dumps(evaluate(made(), target="churn").to_dict())


def test_the_frame_has_a_row_per_cutoff_and_one_for_the_pool():
    evaluation = evaluate(made(rule=0.5), target="churn")
    frame = evaluation.to_frame()
    assert frame.index.tolist() == ["2017-10-01", "2017-11-01", "2017-12-01", "pooled"]
    assert set(NAMES) <= set(frame.columns)
    assert frame.loc["pooled", "best_rule_auc"] == evaluation.pooled.baselines["best_rule"].auc
    assert frame["auc_lower"].notna().tolist() == [False, False, False, True]
    assert frame.loc["pooled", "auc_lower"] == evaluation.summary()["auc_lower"]


def test_the_printed_table_shows_the_model_beside_its_baselines():
    folds = made(rule=0.5)
    folds[0] = replace(folds[0], cutoff=folds[0].cutoff.replace(hour=5))
    calibration = choose([(fold.logit, fold.y) for fold in folds])
    text = str(evaluate(folds, target="churn_purchase_28d", calibration=calibration))
    assert text.startswith("churn_purchase_28d: grade A. Clearly better")
    lines = text.splitlines()
    assert [sum(f" {name} " in line for line in lines) for name in ("model", "base_rate", "best_rule")] == [4, 4, 4]
    assert "2017-10-01 05:00+0000" in text
    assert f"{np.sum([fold.y.sum() for fold in folds])} (" in text
    assert lines[-1] == str(calibration)


def test_the_notebook_view_escapes_names():
    html = evaluate(made(), target="<b>churn</b>")._repr_html_()
    assert "&lt;b&gt;churn" in html
    assert html.count("<tr>") == 4


def test_everything_wrong_with_a_fold_is_said_at_once():
    fold = made(rows=20)[0]
    wrong = {"cutoff": fold.cutoff.replace(tzinfo=None), "y": fold.y + 1, "probability": np.ones(20), "logit": np.zeros(3)}
    with pytest.raises(SpecificationError) as caught:
        replace(fold, **wrong, baselines={"model": np.full(20, np.nan)})
    codes = {problem.code for problem in caught.value.problems}
    assert codes == {"naive_cutoff", "label_not_binary", "baseline_name", "shapes_differ", "not_a_probability"}


def test_folds_that_can_not_be_evaluated_together_are_refused():
    folds = made(rows=20)
    with pytest.raises(SpecificationError) as caught:
        evaluate([folds[1], replace(folds[0], baselines={})], target="churn")
    assert {problem.code for problem in caught.value.problems} == {"cutoffs_not_in_order", "baselines_differ"}
    with pytest.raises(TooLittleDataError, match="no test cutoff has rows"):
        evaluate([], target="churn")
