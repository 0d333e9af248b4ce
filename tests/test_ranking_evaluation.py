"""Evaluation of rankings: grades follow the stated rule, gains are paired and by customer, probabilities are held to each category."""

import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from persopredict import ranking_results
from persopredict.calibration import choose, sigmoid
from persopredict.comparison import Paired, decide
from persopredict.errors import SpecificationError, TooLittleDataError
from persopredict.metrics import Metrics, log_loss
from persopredict.ranking import NAMES, rank_customers
from persopredict.ranking_evaluation import RankedFold, RankingEvaluation, paired_ndcg, rank_evaluate

CUTOFFS = [datetime(2017, month, 1, tzinfo=UTC) for month in (10, 11, 12)]
CATEGORIES = tuple(f"department {place}" for place in range(20))


def made(seed=0, *, taste=1.5, known=1.0, habit=0.3, customers=200, cutoffs=CUTOFFS):
    """Folds whose truth is known: popularity and a taste of strength `taste`, of which the model knows `known` and "habit" `habit`."""
    rng = np.random.default_rng(seed)
    level = np.linspace(-4.5, -0.5, len(CATEGORIES))
    customer, category = (codes.ravel().astype(np.int32) for codes in np.indices((customers, len(CATEGORIES))))
    folds = []
    for cutoff in cutoffs:
        drawn, other = taste * rng.normal(size=(2, len(customer)))
        truth = level[category] + drawn
        y, is_new = (rng.random(len(customer)) < chance for chance in (sigmoid(truth), 0.4))
        logit = level[category] + known * drawn + math.sqrt(max(0, known - known**2)) * other
        beyond = rng.integers(0, 2, customers)
        folds.append(
            RankedFold(
                cutoff=cutoff,
                customer_id=np.array([f"c{place:05d}" for place in range(customers)], dtype=object),
                categories=CATEGORIES,
                customer=customer,
                category=category,
                y=y.astype(np.int8),
                is_new=is_new,
                logit=logit.astype(np.float32),
                probability=sigmoid(logit).astype(np.float32),
                baselines={"popularity": level[category], "habit": level[category] + habit * drawn},
                base_rate=sigmoid(level[category]),
                relevant=np.bincount(customer, y, customers).astype(int) + beyond,
                relevant_new=np.bincount(customer, y & is_new, customers).astype(int) + beyond,
                train_rows=5000,
                train_positives=700,
            )
        )
    return folds


def every_value(folds, score, variant, metric):
    """A metric of every customer at every cutoff, its list made of the pairs that belong to the variant."""
    values = []
    for fold in folds:
        chosen = {"all": np.full(len(fold.y), True), "repeat": ~fold.is_new, "explore": fold.is_new}[variant]
        relevant = {"all": fold.relevant, "repeat": fold.relevant - fold.relevant_new, "explore": fold.relevant_new}[variant]
        found = rank_customers(fold.customer[chosen], score(fold)[chosen], fold.y[chosen], relevant=relevant)
        values.append(found[metric])
    return np.concatenate(values)


def untaken(fold):
    """The fold without anything taken."""
    nobody = np.zeros(len(fold.customer_id), dtype=int)
    return replace(fold, y=np.zeros_like(fold.y), relevant=nobody, relevant_new=nobody)


def of_customers(fold, chosen):
    """The fold with these customers alone, under new codes."""
    rows = chosen[fold.customer]
    per_pair = ("category", "y", "is_new", "logit", "probability", "base_rate")
    return replace(
        fold,
        **{name: getattr(fold, name)[rows] for name in per_pair},
        **{name: getattr(fold, name)[chosen] for name in ("customer_id", "relevant", "relevant_new")},
        customer=(np.cumsum(chosen) - 1)[fold.customer[rows]],
        baselines={name: score[rows] for name, score in fold.baselines.items()},
    )


def test_a_model_that_knows_the_taste_is_graded_a():
    evaluation = rank_evaluate(made(), target="affinity")
    assert (evaluation.grade, evaluation.best_baseline) == ("A", "habit")
    gain = evaluation.gains["ndcg_at_10"]
    assert gain.interval[0] > 0
    assert gain.relative >= 0.03
    assert evaluation.grade_reason.startswith("Clearly better than the best baseline: NDCG@10 0.")


def test_a_small_but_certain_gain_is_graded_b():
    evaluation = rank_evaluate(made(habit=0.6, customers=1500), target="affinity")
    assert evaluation.grade == "B"
    assert 0 < evaluation.gains["ndcg_at_10"].relative < 0.03
    assert "by less than 3%" in evaluation.grade_reason


def test_a_model_without_knowledge_is_graded_c():
    grades = [rank_evaluate(made(seed, known=0.0, habit=0.2), target="affinity", resamples=100).grade for seed in range(10)]
    assert grades == ["C"] * 10


def test_a_gain_without_proof_is_graded_c():
    evaluations = [rank_evaluate(made(seed, habit=0.7, customers=20), target="affinity", resamples=100) for seed in range(10)]
    unproven = [found for found in evaluations if found.gains["ndcg_at_10"].interval[0] <= 0 < found.gains["ndcg_at_10"].difference]
    assert unproven
    assert all(found.grade == "C" and found.grade_reason.startswith("Not better") for found in unproven)


def test_the_same_lists_as_the_baseline_are_no_gain():
    folds = [replace(fold, baselines={"same": fold.probability}) for fold in made()]
    evaluation = rank_evaluate(folds, target="affinity")
    assert evaluation.grade == "C"
    assert evaluation.gains["ndcg_at_10"].difference == 0.0
    assert "0.0%" in evaluation.grade_reason


def test_a_handful_of_customers_shows_nothing():
    evaluation = rank_evaluate(made(customers=9), target="affinity")
    assert (evaluation.grade, evaluation.grade_reason) == ("C", "Only 9 customers took anything after a cutoff: nothing can be shown.")


def test_where_nobody_took_anything_nothing_is_shown():
    evaluation = rank_evaluate([untaken(fold) for fold in made()], target="affinity")
    assert (evaluation.grade, evaluation.best_baseline) == ("C", "habit")
    assert evaluation.grade_reason == "Nobody took anything after a cutoff: nothing can be shown."
    assert evaluation.pooled.asked["all"].left_out == 600
    assert math.isnan(evaluation.pooled.model.all.recall_at_10)
    assert "–" in str(evaluation)


def test_each_metric_has_its_own_best_baseline():
    """Popularity can't be beaten among new pairs by how often something was taken, which is never."""
    folds = [
        replace(
            fold,
            baselines={
                "own_frequency": np.where(fold.is_new, 0.0, 20 + fold.baselines["habit"]),
                "popularity": np.where(fold.is_new, fold.baselines["popularity"], -20),
            },
        )
        for fold in made()
    ]
    evaluation = rank_evaluate(folds, target="affinity")
    assert evaluation.best_baseline == "own_frequency"
    assert {name: gain.baseline for name, gain in evaluation.gains.items()} == {
        "recall_at_10": "own_frequency",
        "ndcg_at_10": "own_frequency",
        "explore_ndcg_at_10": "popularity",
    }
    pooled, gain = evaluation.pooled, evaluation.gains["explore_ndcg_at_10"]
    ours, theirs = pooled.model.explore.ndcg_at_10, pooled.baselines["popularity"].explore.ndcg_at_10
    assert (gain.difference, gain.relative) == (ours - theirs, ours / theirs - 1)


@pytest.mark.parametrize("variant", ["all", "repeat", "explore"])
def test_lists_are_judged_over_all_pairs_and_over_old_and_new_ones_apart(variant):
    folds = made()
    folds[1] = untaken(folds[1])
    evaluation = rank_evaluate(folds, target="affinity")
    scores = {"model": lambda fold: fold.probability, "habit": lambda fold: fold.baselines["habit"]}
    for name, score in scores.items():
        for metric in NAMES:
            values = every_value(folds, score, variant, metric)
            found = getattr(getattr(evaluation.pooled.predictors()[name], variant), metric)
            assert found == pytest.approx(np.nanmean(values))
            first = getattr(getattr(evaluation.folds[0].predictors()[name], variant), metric)
            assert first == pytest.approx(np.nanmean(values[:200]))


def test_customers_without_anything_relevant_are_left_out_and_counted():
    folds = made()
    evaluation = rank_evaluate(folds, target="affinity")
    for variant, lacking in {
        "all": [fold.relevant == 0 for fold in folds],
        "repeat": [fold.relevant == fold.relevant_new for fold in folds],
        "explore": [fold.relevant_new == 0 for fold in folds],
    }.items():
        left_out = int(np.sum(lacking))
        assert left_out > 0
        assert (evaluation.pooled.asked[variant].customers, evaluation.pooled.asked[variant].left_out) == (600 - left_out, left_out)
        assert evaluation.folds[2].asked[variant].left_out == lacking[2].sum()


def test_what_was_taken_but_was_no_candidate_is_told():
    folds = made()
    asked = rank_evaluate(folds, target="affinity").pooled.asked
    taken, relevant = sum(int(fold.y.sum()) for fold in folds), sum(int(fold.relevant.sum()) for fold in folds)
    assert (asked["all"].candidates, asked["all"].relevant) == (taken, relevant)
    assert asked["all"].candidates_recall == taken / relevant < 1
    assert asked["repeat"].candidates_recall == 1.0
    assert asked["explore"].candidates_recall < asked["all"].candidates_recall
    assert math.isnan(rank_evaluate([untaken(folds[0])], target="affinity").pooled.asked["all"].candidates_recall)


def test_probabilities_are_judged_over_all_pairs():
    folds = made()
    evaluation = rank_evaluate(folds, target="affinity", seed=3)
    y, p, base_rate = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("y", "probability", "base_rate"))
    pooled = evaluation.pooled
    assert (pooled.cutoff, pooled.rows, pooled.positives, pooled.rate) == (None, len(y), y.sum(), y.mean())
    assert pooled.pairs.model == Metrics.of(y, p, seed=3)
    assert pooled.base_rate_log_loss == log_loss(y, base_rate)
    first = evaluation.folds[0]
    assert (first.cutoff, first.rows, first.pairs.train_rows, first.pairs.train_positives) == (CUTOFFS[0], 4000, 5000, 700)
    assert first.pairs.model == Metrics.of(folds[0].y, folds[0].probability, seed=3)


def test_takers_of_each_category_are_counted_over_the_cutoffs_by_name():
    folds = made(customers=40)
    renamed = (CATEGORIES[-1], *CATEGORIES[:-1])
    folds[2] = replace(folds[2], categories=renamed)
    evaluation = rank_evaluate(folds, target="affinity")
    expected = {name: [0, 0.0, 0, 0.0] for name in CATEGORIES}
    for fold in folds:
        for place, y, p in zip(fold.category, fold.y.tolist(), fold.probability.astype(float), strict=True):
            for column, value in enumerate((1, p, y, p * (1 - p))):
                expected[fold.categories[place]][column] += value
    frame = evaluation.categories()
    assert sorted(frame.index) == sorted(CATEGORIES)
    assert frame["actual"].is_monotonic_decreasing
    for name, (asked, takers, actual, variance) in expected.items():
        row = frame.loc[name]
        assert row[["asked", "expected", "actual"]].tolist() == pytest.approx([asked, takers, actual])
        assert row[["gap", "relative_gap"]].tolist() == pytest.approx([takers - actual, (takers - actual) / actual])
        assert row["by_chance"] == pytest.approx(1.96 * math.sqrt(variance))
    first = evaluation.folds[0].categories.to_frame()
    assert first.loc["department 3", "actual"] == folds[0].y[folds[0].category == 3].sum()


def test_the_gap_of_calibration_is_that_of_categories_with_enough_takers_at_a_cutoff():
    folds = made(customers=300)
    folds[1] = untaken(folds[1])
    evaluation = rank_evaluate(folds, target="affinity")
    gaps, held = [], set()
    for fold, result in zip(folds, evaluation.folds, strict=True):
        own = []
        for place, name in enumerate(CATEGORIES):
            actual, takers = (float(getattr(fold, column)[fold.category == place].sum()) for column in ("y", "probability"))
            if actual >= 100:
                own.append(abs(takers - actual) / actual)
                held.add(name)
        assert result.calibration_categories == len(own)
        assert result.calibration_gap == pytest.approx(np.mean(own), rel=1e-5) if own else math.isnan(result.calibration_gap)
        gaps += [np.mean(own)] if own else []
    assert 0 < len(held) < len(CATEGORIES)
    assert len(gaps) == 2
    assert evaluation.pooled.calibration_gap == pytest.approx(np.mean(gaps), rel=1e-5)
    assert evaluation.pooled.calibration_categories == len(held)


def test_categories_with_few_takers_have_no_gap_of_calibration():
    pooled = rank_evaluate(made(customers=40), target="affinity").pooled
    assert math.isnan(pooled.calibration_gap)
    assert pooled.calibration_categories == 0
    assert max(pooled.categories.actual) < 100


def test_takers_stay_within_chance_where_every_probability_is_right():
    frame = rank_evaluate(made(customers=2000), target="affinity").categories()
    assert (frame["gap"].abs() <= frame["by_chance"]).sum() >= len(CATEGORIES) - 2
    overstated = [replace(fold, probability=0.5 + fold.probability / 2) for fold in made()]
    frame = rank_evaluate(overstated, target="affinity").categories()
    assert (frame["gap"] > frame["by_chance"]).all()


def test_of_a_large_assortment_the_categories_most_taken_are_kept(monkeypatch):
    whole = rank_evaluate(made(), target="affinity").categories()
    monkeypatch.setattr("persopredict.ranking_evaluation.MOST_CATEGORIES", 4)
    few = rank_evaluate(made(), target="affinity")
    assert few.categories().index.tolist() == whole.index[:4].tolist()
    assert len(few.folds[0].categories.category) == len(CATEGORIES)


def test_pooled_intervals_hold_their_metric_for_every_predictor():
    evaluation = rank_evaluate(made(), target="affinity")
    assert list(evaluation.pooled.intervals) == ["model", "popularity", "habit"]
    for name, lists in evaluation.pooled.predictors().items():
        for metric, value in lists.headline().items():
            lower, upper = evaluation.pooled.intervals[name][metric]
            assert lower < value < upper
    assert all(not fold.intervals for fold in evaluation.folds)


def test_intervals_agree_with_the_textbook_standard_error():
    folds = made(customers=1500, cutoffs=CUTOFFS[:1])
    evaluation = rank_evaluate(folds, target="affinity", resamples=2000)
    scores = (lambda fold: fold.probability, lambda fold: fold.baselines["habit"])
    ours, theirs = (every_value(folds, score, "explore", "ndcg_at_10") for score in scores)
    each = (ours - theirs)[~np.isnan(ours)]
    half = 1.96 * each.std() / math.sqrt(len(each))
    gain = evaluation.gains["explore_ndcg_at_10"]
    assert gain.difference == pytest.approx(each.mean())
    assert gain.interval == pytest.approx((each.mean() - half, each.mean() + half), abs=0.1 * half)
    assert gain.relative_interval == pytest.approx(tuple(bound / np.nanmean(theirs) for bound in gain.interval), rel=0.1)


def test_a_customer_is_drawn_with_all_its_cutoffs():
    """The same fold three times tells no more than once."""
    one = made(cutoffs=CUTOFFS[:1])
    thrice = [replace(one[0], cutoff=cutoff) for cutoff in CUTOFFS]
    first, second = (rank_evaluate(folds, target="affinity").gains["ndcg_at_10"] for folds in (one, thrice))
    assert second.difference == pytest.approx(first.difference)
    assert second.interval == pytest.approx(first.interval)


def test_a_cutoff_without_pairs_does_not_disturb_the_others():
    folds = made()
    folds[1] = of_customers(folds[1], np.zeros(200, dtype=bool))
    evaluation = rank_evaluate(folds, target="affinity")
    assert (evaluation.folds[1].rows, evaluation.grade) == (0, "A")
    assert evaluation.pooled.asked["all"].customers + evaluation.pooled.asked["all"].left_out == 400
    assert evaluation.folds[1].categories.category == ()


def test_the_same_folds_give_the_same_evaluation():
    first, second = (json.dumps(rank_evaluate(made(), target="affinity").to_dict()) for _ in range(2))
    assert first == second


def test_three_cutoffs_of_a_hundred_thousand_pairs_take_less_than_three_seconds():
    folds = made(customers=5000)
    rank_evaluate(made(customers=20), target="affinity")
    start = time.process_time()
    rank_evaluate(folds, target="affinity")
    assert time.process_time() - start < 3


def test_an_evaluation_survives_json():
    folds = made()
    evaluation = rank_evaluate(folds, target="affinity", calibration=choose([(fold.logit, fold.y) for fold in folds]))
    read = RankingEvaluation.from_dict(json.loads(json.dumps(evaluation.to_dict(), allow_nan=False)))
    assert read.to_dict() == evaluation.to_dict()
    assert str(read) == str(evaluation)
    assert read.summary() == evaluation.summary()
    assert read.categories().equals(evaluation.categories())
    assert replace(read, pooled=evaluation.pooled, folds=evaluation.folds) == evaluation


def test_what_has_no_value_is_null_in_json_and_left_out_of_the_summary():
    evaluation = rank_evaluate([untaken(fold) for fold in made()], target="affinity")
    stored = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert stored["pooled"]["model"]["all"]["ndcg_at_10"] is None
    assert stored["gains"]["ndcg_at_10"]["interval"] == [None, None]
    assert RankingEvaluation.from_dict(stored).to_dict() == evaluation.to_dict()
    assert "ndcg_at_10" not in evaluation.summary()
    assert evaluation.summary()["customers_left_out"] == 600


def test_what_is_stored_holds_categories_once_and_no_customer():
    stored = rank_evaluate(made(), target="affinity").to_dict()
    text = json.dumps(stored)
    assert "c00001" not in text
    assert text.count('"department 7"') == 1
    assert "department 7" in stored["pooled"]["categories"]["category"]


def test_the_summary_is_flat_and_finite():
    evaluation = rank_evaluate(made(), target="affinity")
    summary = evaluation.summary()
    assert all(type(value) is float and math.isfinite(value) and name == name.lower() for name, value in summary.items())
    pooled = evaluation.pooled
    assert summary["recall_at_10"] == pooled.model.all.recall_at_10
    assert summary["explore_ndcg_full_at_5"] == pooled.model.explore.ndcg_full_at_5
    assert summary["habit_repeat_ndcg_at_10"] == pooled.baselines["habit"].repeat.ndcg_at_10
    assert summary["ece"] == pooled.pairs.model.ece
    assert (summary["ndcg_at_10_lower"], summary["ndcg_at_10_upper"]) == pooled.intervals["model"]["ndcg_at_10"]
    gain = evaluation.gains["ndcg_at_10"]
    assert (summary["ndcg_at_10_gain"], summary["ndcg_at_10_gain_lower"]) == (gain.relative, gain.relative_interval[0])


def test_the_frame_has_a_row_per_cutoff_and_one_for_the_pool():
    evaluation = rank_evaluate(made(), target="affinity")
    frame = evaluation.to_frame()
    assert frame.index.tolist() == ["2017-10-01", "2017-11-01", "2017-12-01", "pooled"]
    assert frame.loc["2017-11-01", "habit_explore_recall_at_5"] == evaluation.folds[1].baselines["habit"].explore.recall_at_5
    assert frame["ndcg_at_10_lower"].notna().tolist() == [False, False, False, True]
    assert set(evaluation.pooled.flat()) <= set(frame.columns)


def test_the_printed_table_shows_the_model_beside_its_baselines():
    folds = made()
    evaluation = rank_evaluate(folds, target="affinity_department_28d", calibration=choose([(fold.logit, fold.y) for fold in folds]))
    text = str(evaluation)
    lines = text.splitlines()
    assert text.startswith("affinity_department_28d: grade A. Clearly better")
    assert max(map(len, lines)) <= 140
    assert [sum(f" {name} " in line for line in evaluation.table()) for name in ("model", "popularity", "habit")] == [4, 4, 4]
    assert f"  {evaluation.pooled.model.explore.ndcg_at_10:.3f}" in evaluation.table([evaluation.pooled])[1]
    assert "explore NDCG@10 against habit: +0." in text
    assert f"{evaluation.pooled.asked['repeat'].left_out:,} left out" in text
    assert "calibration none" in lines[-1] or "calibration none" in lines[-2]


def test_the_categories_furthest_off_are_named_and_cut_to_fit():
    folds = [replace(fold, categories=tuple(f"{name} of a very large department store" for name in CATEGORIES)) for fold in made()]
    wrong = [replace(fold, probability=np.where(fold.category == 13, 0.9, fold.probability)) for fold in folds]
    lines = str(rank_evaluate(wrong, target="affinity")).splitlines()
    named = [line for line in lines if "takers expected" in line]
    assert named[0].startswith("  department 13 of a very lar…       540 takers expected,")
    assert len(named) <= 5


def test_the_notebook_view_escapes_names():
    html = rank_evaluate(made(), target="<b>affinity</b>")._repr_html_()
    assert "&lt;b&gt;affinity" in html
    assert (html.count("<table>"), html.count("<tr>")) == (2, 4 + 4)


def test_folds_that_can_not_be_evaluated_together_are_refused():
    folds = made(customers=20)
    with pytest.raises(SpecificationError) as caught:
        rank_evaluate([folds[1], replace(folds[0], baselines={})], target="affinity")
    assert {problem.code for problem in caught.value.problems} == {"cutoffs_not_in_order", "baselines_differ"}
    with pytest.raises(TooLittleDataError, match="no test cutoff has pairs"):
        rank_evaluate([], target="affinity")
    with pytest.raises(TooLittleDataError, match="no test cutoff has pairs"):
        rank_evaluate([of_customers(folds[0], np.zeros(20, dtype=bool))], target="affinity")


def test_two_models_are_compared_by_what_they_miss_of_ndcg():
    ours = made()
    theirs = [replace(fold, probability=sigmoid(fold.baselines["habit"])) for fold in ours]
    paired = paired_ndcg(ours, theirs)
    gain = rank_evaluate(ours, target="affinity").gains["ndcg_at_10"]
    assert paired.difference == pytest.approx(-gain.difference)
    assert paired.interval[1] < 0
    assert paired.rows == sum(int((fold.relevant > 0).sum()) for fold in ours)
    assert paired.customers == 200
    assert decide(paired.difference, paired.interval, same_recipe=False)[0]
    assert not decide(*(lambda worse: (worse.difference, worse.interval))(paired_ndcg(theirs, ours)), same_recipe=True)[0]


def test_only_customers_and_cutoffs_that_both_hold_are_compared():
    ours = made()
    chosen = np.arange(200) % 2 == 1
    theirs = [of_customers(replace(fold, probability=sigmoid(fold.baselines["habit"])), chosen) for fold in ours[1:]]
    paired = paired_ndcg(ours, theirs)
    assert paired.customers == 100
    assert paired == paired_ndcg([of_customers(fold, chosen) for fold in ours[1:]], theirs)


def test_models_may_have_considered_different_pairs():
    ours = made()
    fewer = [fold.category < 19 for fold in ours]
    per_pair = ("customer", "category", "y", "is_new", "logit", "probability", "base_rate")
    theirs = [
        replace(fold, **{name: getattr(fold, name)[rows] for name in per_pair}, baselines={"popularity": fold.base_rate[rows]})
        for fold, rows in zip(ours, fewer, strict=True)
    ]
    assert paired_ndcg(ours, theirs).interval[1] < 0


def test_without_anyone_in_common_there_is_no_difference():
    early, late = made(cutoffs=CUTOFFS[:1]), made(cutoffs=CUTOFFS[1:])
    for found in (paired_ndcg(early, late), paired_ndcg([], []), paired_ndcg([untaken(early[0])], [untaken(early[0])])):
        assert isinstance(found, Paired)
        assert math.isnan(found.difference)
        assert (found.rows, found.customers) == (0, 0)


def test_rankings_labelled_from_different_logs_are_not_compared():
    ours = made()
    theirs = [replace(fold, relevant=fold.relevant + 1) for fold in ours]
    with pytest.raises(SpecificationError, match=r"at 2017-10-01 the same customers took different numbers of categories \(200\)"):
        paired_ndcg(ours, theirs)


def test_what_is_shown_first_is_among_the_metrics():
    assert {metric for _, _, metric, _ in ranking_results.HEADLINE} <= set(NAMES)
