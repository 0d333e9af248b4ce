"""What a person reads the morning after: the same manner for a target of one score and for one of lists."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from persopredict.errors import Problem, TooLittleDataError
from persopredict.evaluation import FoldPredictions, evaluate
from persopredict.job_result import Outcome
from persopredict.ranking_evaluation import rank_evaluate
from persopredict.warehouse import Settled
from tests import folds

CUTOFFS = [datetime(2017, month, 1, 5, tzinfo=UTC) for month in (10, 11)]


def churn():
    """An evaluation of scores whose truth is known."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.95, 200)
    ids, logit, baselines = np.arange(200).astype(str), np.log(truth / (1 - truth)), {"base_rate": np.full(200, 0.5)}
    predicted = [
        FoldPredictions(cutoff, ids, (rng.random(200) < truth).astype(np.int8), logit, truth, baselines, 1000, 500) for cutoff in CUTOFFS
    ]
    return evaluate(predicted, target="churn", resamples=50)


def taste(*, cutoffs=CUTOFFS, customers=200):
    return rank_evaluate([folds.ranked(cutoff, customers) for cutoff in cutoffs], target="taste", resamples=50)


def lines(evaluation, **given):
    text = Outcome("one", "published", evaluation=evaluation, **given).text("America/Mexico_City")
    return [line.strip() for line in text.splitlines()]


def numbers(found, name):
    """The cells of the table's row of this name."""
    (row,) = [line for line in found if line.startswith(f"{name} ")]
    return row.split()[1:]


@pytest.mark.parametrize("evaluation", [churn(), taste()], ids=["scores", "lists"])
def test_the_grade_its_reason_and_the_tests_stand_first(evaluation):
    found = lines(evaluation)
    assert found[0] == f"one: published, grade {evaluation.grade}"
    assert found[1] == evaluation.grade_reason
    assert "at 2 cutoffs, 2017-10-01 to 2017-10-31 23:00" in found[2]


def test_the_model_of_scores_stands_beside_its_baselines():
    evaluation = churn()
    found, pooled = lines(evaluation), evaluation.pooled
    assert numbers(found, "model")[:3] == [
        f"{pooled.model.auc:.3f}",
        f"{pooled.model.average_precision:.3f}",
        f"{pooled.model.log_loss:.4f}",
    ]
    assert numbers(found, "base_rate")[2] == f"{pooled.baselines['base_rate'].log_loss:.4f}"
    (by_cutoff,) = [line for line in found if line.startswith("model's AUC by cutoff: ")]
    assert re.findall(r"0\.\d+(?= \()", by_cutoff) == [f"{fold.model.auc:.3f}" for fold in evaluation.folds]
    (against,) = [line for line in found if line.startswith("against base_rate: ")]
    assert f"log-loss {pooled.model.log_loss - pooled.baselines['base_rate'].log_loss:+.4f} (" in against


def test_the_lists_of_the_model_stand_beside_those_of_its_baselines_best_first():
    evaluation = taste()
    found, predictors = lines(evaluation), evaluation.pooled.predictors()
    assert re.split(r"\s{2,}", found[3]) == ["recall@10", "NDCG@10", "explore NDCG@10"]
    assert [line.split()[0] for line in found[4:7]] == ["model", "popularity", "own_frequency"]
    for name, reached in predictors.items():
        expected = (reached.all.recall_at_10, reached.all.ndcg_at_10, reached.explore.ndcg_at_10)
        assert numbers(found, name) == [f"{value:.3f}" for value in expected]
    assert f"model's NDCG@10 by cutoff: {', '.join(f'{fold.model.all.ndcg_at_10:.3f}' for fold in evaluation.folds)}" in found


def test_lists_and_pairs_are_counted_and_their_probabilities_held_to_what_came():
    evaluation = taste(customers=90)
    found, pooled = lines(evaluation), evaluation.pooled
    with_something = sum(int((folds.ranked(cutoff, 90).relevant > 0).sum()) for cutoff in CUTOFFS)
    assert found[2].startswith(f"tested on {with_something} lists")
    assert f"tested on 540 pairs of customer and category: {pooled.positives:,} ({pooled.rate:.1%}) taken" in found
    (told,) = [line for line in found if line.startswith("probabilities: ")]
    assert f"log-loss {pooled.pairs.model.log_loss:.4f} (past rate of each category {np.log(2):.4f})" in told
    assert not [line for line in found if "100 takers or more" in line], "no category had as many at one cutoff"
    many = taste(customers=900)
    (told,) = [line for line in lines(many) if "100 takers or more" in line]
    assert f"by {many.pooled.calibration_gap:.1%} on average, over 3 categories" in told


def test_of_one_cutoff_there_is_no_row_of_cutoffs():
    found = lines(taste(cutoffs=CUTOFFS[:1]))
    assert found[2].partition(" lists")[2].startswith(" at 1 cutoff, 2017-10-01, of customers")
    assert not [line for line in found if "by cutoff" in line]


def test_customers_version_and_notes_follow_the_evaluation():
    given = {"counts": {"scored": 1200, "not_active": 3}, "model_version": "7", "trained_until": CUTOFFS[0], "notes": ("champion stays",)}
    assert lines(taste(), **given)[-3:] == [
        "customers: 1,200 scored, 3 not_active",
        "model: version 7, trained until 2017-10-01",
        "note: champion stays",
    ]


def came(number, actual, **metrics):
    """What came of a run of which 1,200 were expected, give or take 60."""
    given = {"auc": 0.8125, "log_loss": 0.31, "base_rate_log_loss": 0.42, "ece": 0.0156, "ece_chance_p95": 0.02} | metrics
    as_of, ended_at = CUTOFFS[number], CUTOFFS[number] + timedelta(days=28)
    counts = {"customers": 9000, "rows": 9000, "expected": 1200.4, "lower": 1140, "upper": 1260, "actual": actual}
    return Settled("one", as_of, "id", "7", ended_at, **counts, **given, settled_at=ended_at, measured_at=ended_at)


def test_what_came_of_earlier_runs_follows_the_model_oldest_first():
    found = lines(taste(), trend=(came(0, 1150), came(1, 1260, auc=float("nan"))), notes=("champion stays",))
    assert re.split(r"\s{2,}", found[-4]) == ["what came of", "expected", "95% interval", "came", "AUC", "log-loss", "of the rate", "ECE"]
    numbers = ["1,200", "1,140 to 1,260"]
    assert re.split(r"\s{2,}", found[-3]) == ["scores of 2017-10-01", *numbers, "1,150", "0.812", "0.3100", "0.4200", "0.016"]
    assert re.split(r"\s{2,}", found[-2]) == ["scores of 2017-10-31 23:00", *numbers, "1,260", "–", "0.3100", "0.4200", "0.016"]
    assert found[-1] == "note: champion stays"


def test_a_count_outside_of_its_interval_is_warned_of():
    assert lines(taste(), trend=(came(0, 1200), came(1, 1261)))[-1].startswith(
        "warning: more came than the scores of 2017-10-31 23:00 said: 1,261 for 1,200 expected"
    )


def test_a_target_that_was_skipped_still_tells_what_came_of_earlier_runs():
    skipped = Outcome("one", "skipped", "grade_too_low", "It is C.", trend=(came(0, 900),))
    assert [line.split()[0] for line in skipped.text().splitlines()] == ["one:", "It", "what", "scores", "warning:"]


def test_a_target_that_was_skipped_says_why_and_what_to_do():
    problem = Problem("log_too_short", "1 cutoff has labels", remedy="give more events")
    outcome = Outcome.without("taste", TooLittleDataError("no", [problem]))
    assert (outcome.grade, str(outcome)) == ("", "taste: skipped (log_too_short)\n  1 cutoff has labels. Give more events.")
