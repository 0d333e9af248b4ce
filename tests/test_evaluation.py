"""Evaluation: grades follow the stated rule, every metric has its interval, baselines are compared with pair by pair."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from persopredict.curves import Curve, reliability
from persopredict.errors import SpecificationError, TooLittleDataError
from persopredict.evaluation import FoldPredictions, evaluate, paired_log_loss
from persopredict.metrics import NAMES, Metrics, auc, log_loss
from tests.folds import scored as made


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
    assert evaluation.grade_reason.endswith(": the whole interval is better, but skill is below 10%.")


def test_a_model_of_noise_is_graded_c():
    grades = [evaluate(made(seed, informed=0.0, noise=0.3, rows=200), target="churn", resamples=200).grade for seed in range(20)]
    assert grades.count("C") >= 19


def test_a_model_that_says_what_its_baseline_says_is_no_better():
    for seed in range(6):
        folds = [replace(fold, baselines={"same": fold.probability}) for fold in made(seed, rows=200)]
        evaluation = evaluate(folds, target="churn", resamples=100)
        assert (evaluation.grade, evaluation.skill) == ("C", 0.0)
        assert evaluation.difference.interval == evaluation.skill_interval == (0.0, 0.0)


def test_a_baseline_that_is_shipped_itself_is_held_to_the_others():
    rule = [replace(fold, probability=fold.baselines["best_rule"]) for fold in made(rule=1.5)]
    alone, shipped = (evaluate(rule, target="churn", kind=kind, resamples=200) for kind in ("lightgbm", "rule"))
    assert (alone.grade, alone.best_baseline) == ("C", "best_rule")
    assert (shipped.grade, shipped.best_baseline) == ("A", "base_rate")
    assert shipped.grade_reason.endswith("best_rule is what is shipped: no richer model said more.")
    rate = [replace(fold, probability=fold.baselines["base_rate"], baselines={"base_rate": fold.baselines["base_rate"]}) for fold in rule]
    assert evaluate(rate, target="churn", kind="base_rate", resamples=200).grade == "C"


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
    assert all(found.grade_reason.endswith(": the interval holds no difference.") for found in unproven)


def test_the_model_is_judged_against_the_best_of_its_baselines():
    folds = made(informed=0.2, rule=1.5)
    evaluation = evaluate(folds, target="churn")
    assert evaluation.best_baseline == "best_rule"
    assert evaluation.skill == pytest.approx(1 - evaluation.pooled.model.log_loss / evaluation.pooled.baselines["best_rule"].log_loss)
    assert evaluation.skill < 1 - evaluation.pooled.model.log_loss / evaluation.pooled.baselines["base_rate"].log_loss


def test_each_baseline_has_its_paired_differences():
    folds = made(rule=0.5)
    evaluation = evaluate(folds, target="churn", seed=4)
    assert list(evaluation.against) == ["base_rate", "best_rule"]
    y, ids = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "customer_id"))
    ours = np.concatenate([fold.probability for fold in folds])
    for name, against in evaluation.against.items():
        theirs = np.concatenate([fold.baselines[name] for fold in folds])
        paired = paired_log_loss(y, ours, theirs, ids, seed=4)
        assert against.log_loss.difference == pytest.approx(paired.difference, rel=1e-12)
        assert against.log_loss.interval == pytest.approx(paired.interval, rel=1e-9)
        assert (against.log_loss.rows, against.log_loss.customers) == (2400, 800)
        assert against.auc.difference == pytest.approx(auc(y, ours) - auc(y, theirs))
        assert against.auc.interval[0] < against.auc.difference < against.auc.interval[1]
        assert against.skill == pytest.approx(-paired.difference / log_loss(y, theirs))
        assert against.ahead


def test_a_baseline_that_is_better_is_not_beaten_and_the_reason_says_so():
    evaluation = evaluate(made(informed=0.0, noise=1.0, rule=1.5), target="churn")
    against = evaluation.against["best_rule"]
    assert not against.ahead
    assert against.auc.interval[1] < 0 < against.log_loss.interval[0]
    assert evaluation.grade_reason.startswith("Not better than the best baseline: ")
    assert evaluation.grade_reason.endswith(": the whole interval is worse.")


def test_a_baseline_that_some_cutoff_lacks_is_left_out_and_named():
    folds = made(rule=0.5)
    last = [*folds[:2], replace(folds[2], baselines={**folds[2].baselines, "bg_nbd": folds[2].probability})]
    evaluation = evaluate(last, target="churn")
    assert list(evaluation.against) == list(evaluation.folds[2].baselines) == ["base_rate", "best_rule"]
    assert evaluation.grade_reason.endswith(" Left out, since not every cutoff has it: bg_nbd.")
    assert evaluation.skill == evaluate(folds, target="churn").skill


def test_each_cutoff_and_the_pool_show_the_metrics_of_their_rows():
    folds = made(rule=0.5)
    evaluation = evaluate(folds, target="churn", seed=3)
    for fold, result in zip(folds, evaluation.folds, strict=True):
        assert (result.cutoff, result.rows, result.positives) == (fold.cutoff, len(fold.y), fold.y.sum())
        assert result.model == Metrics.of(fold.y, fold.probability, seed=3)
        assert result.baselines["best_rule"] == Metrics.of(fold.y, fold.baselines["best_rule"], seed=3)
        assert (result.train_rows, result.train_positives) == (5000, 700)
        assert result.curve.deciles == Curve.of(fold.y, fold.probability).deciles
        assert result.reliability == reliability(fold.y, fold.probability)
    y, p = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability"))
    assert evaluation.pooled.cutoff is None
    assert evaluation.pooled.model == Metrics.of(y, p, seed=3)
    assert evaluation.pooled.reliability == reliability(y, p)
    assert evaluation.pooled.curve.positives == y.sum()


def test_intervals_hold_their_metric_for_every_predictor_at_every_cutoff_and_in_the_pool():
    evaluation = evaluate(made(rule=0.5), target="churn")
    for result in (*evaluation.folds, evaluation.pooled):
        for name, metrics in result.predictors().items():
            assert set(NAMES) - set(result.intervals[name]) == {"ece", "ece_chance_p95"}
            for metric, (lower, upper) in result.intervals[name].items():
                assert lower <= getattr(metrics, metric) <= upper
        assert (np.array(result.curve.lower) <= result.curve.precision + 1e-6).all()
        assert (np.array(result.curve.upper) >= result.curve.precision - 1e-6).all()


def test_the_interval_of_a_cutoff_is_that_of_its_customers_alone():
    folds = made(rule=0.5)
    every, first = evaluate(folds, target="churn", resamples=2000), evaluate(folds[:1], target="churn", resamples=2000)
    for metric in ("auc", "average_precision", "log_loss", "brier_skill", "lift_top_decile"):
        together, alone = every.folds[0].interval(metric), first.pooled.interval(metric)
        assert together == pytest.approx(alone, abs=0.15 * (alone[1] - alone[0]))


def test_intervals_of_the_pool_are_narrower_than_those_of_its_cutoffs():
    evaluation = evaluate(made(rule=0.5), target="churn")
    widths = [np.ptp(result.interval("auc")) for result in (*evaluation.folds, evaluation.pooled)]
    assert max(widths[:3]) > min(widths[:3]) > 1.3 * widths[3]


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
    assert "–" in str(evaluation)
    assert "nan" not in str(evaluation) + "".join(evaluation.digest())


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


@pytest.mark.parametrize(("rows", "seconds"), [(2500, 2), (100_000, 6)])
def test_three_cutoffs_are_evaluated_within_seconds(rows, seconds):
    folds = made(rows=rows, rule=0.5)
    evaluate(made(rows=20), target="churn")
    start = time.process_time()
    evaluate(folds, target="churn")
    assert time.process_time() - start < seconds


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
