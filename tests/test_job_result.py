"""What a person reads the morning after: the same manner for a target of one score and for one of lists."""

import re
from datetime import UTC, datetime

import numpy as np
import pytest

from persopredict.errors import Problem, TooLittleDataError
from persopredict.evaluation import FoldPredictions, evaluate
from persopredict.job_result import Outcome
from persopredict.ranking_evaluation import rank_evaluate
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
    assert f"model's AUC by cutoff: {', '.join(f'{fold.model.auc:.3f}' for fold in evaluation.folds)}" in found


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


def test_a_target_that_was_skipped_says_why_and_what_to_do():
    problem = Problem("log_too_short", "1 cutoff has labels", remedy="give more events")
    outcome = Outcome.without("taste", TooLittleDataError("no", [problem]))
    assert (outcome.grade, str(outcome)) == ("", "taste: skipped (log_too_short)\n  1 cutoff has labels. Give more events.")
