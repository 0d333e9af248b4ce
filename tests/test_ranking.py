"""Rankings agree with a plain loop over each customer's list, and folds of them are refused with all that is wrong."""

import math
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persopredict.errors import SpecificationError
from persopredict.ranking import NAMES, RankedFold, RankingMetrics, by_rank, rank_customers, relevant_places


def by_loop(customer, score, y, relevant):
    """Every metric of every customer, one list after another, by the definitions alone."""
    found = {name: [] for name in NAMES}
    for who, total in enumerate(relevant):
        listed = [(value, taken) for code, value, taken in zip(customer, score, y, strict=True) if code == who]
        ranked = [taken for _, taken in sorted(listed, key=lambda pair: -pair[0])]
        for k in (1, 5, 10):
            gain = sum(taken / math.log2(place + 1) for place, taken in enumerate(ranked[:k], start=1))
            values = {"recall": math.nan, "ndcg": math.nan, "ndcg_full": math.nan, "ndcg_all": math.nan, "hit_rate": math.nan}
            if total:
                ideal = [sum(1 / math.log2(place + 1) for place in range(1, most + 1)) for most in (min(k, total), k, total)]
                values = {
                    "recall": sum(ranked[:k]) / total,
                    "ndcg": gain / ideal[0],
                    "ndcg_full": gain / ideal[1],
                    "ndcg_all": gain / ideal[2],
                    "hit_rate": float(any(ranked[:k])),
                }
            for name, value in values.items():
                found[f"{name}_at_{k}"].append(value)
    return found


def made(seed, *, customers=40, pairs=600, ties=False):
    """Lists of very different lengths, some empty, some customers without anything relevant, some relevant beyond their pairs."""
    rng = np.random.default_rng(seed)
    customer = ((customers - 2) * rng.random(pairs) ** 3).astype(np.int32)
    score = rng.integers(0, 3, pairs).astype(np.float64) if ties else rng.normal(size=pairs)
    y = (rng.random(pairs) < 0.2).astype(np.int8)
    relevant = np.bincount(customer, y, customers).astype(int) + rng.integers(0, 3, customers) * (rng.random(customers) < 0.5)
    return customer, score, y, relevant


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_agrees_with_a_plain_loop(seed, ties):
    customer, score, y, relevant = made(seed, ties=ties)
    lengths = np.bincount(customer, minlength=len(relevant))
    assert lengths.min() == 0
    assert ((lengths > 0) & (lengths < 5)).any()
    assert lengths.max() > 10
    assert (relevant == 0).any()
    assert (relevant > np.bincount(customer, y, len(relevant))).any()
    found, expected = rank_customers(customer, score, y, relevant=relevant), by_loop(customer, score, y, relevant)
    assert tuple(found) == tuple(name for k in (1, 5, 10) for name in NAMES if name.endswith(f"_{k}"))
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)


def test_the_three_definitions_of_ndcg_by_hand():
    """One list of three with the relevant at places 1 and 3, and a third relevant category that was no pair."""
    found = rank_customers([0, 0, 0], [3, 2, 1], [1, 0, 1], relevant=[3])
    gain, two, third = 1 + 1 / 2, 1 / math.log2(3), 1 / 2
    assert found["ndcg_at_1"][0] == found["ndcg_full_at_1"][0] == 1
    assert found["ndcg_all_at_1"][0] == pytest.approx(1 / (1 + two + third))
    assert found["ndcg_at_5"][0] == found["ndcg_all_at_5"][0] == pytest.approx(gain / (1 + two + third))
    assert found["ndcg_full_at_5"][0] == pytest.approx(gain / (1 + two + third + 1 / math.log2(5) + 1 / math.log2(6)))
    assert found["recall_at_1"][0] == pytest.approx(1 / 3)
    assert found["recall_at_10"][0] == pytest.approx(2 / 3)


def test_what_was_taken_but_was_no_pair_is_missed_by_every_list():
    with_pairs = rank_customers([0, 0], [1.0, 0.0], [1, 0], relevant=[1])
    beyond = rank_customers([0, 0], [1.0, 0.0], [1, 0], relevant=[4])
    assert (with_pairs["recall_at_10"][0], beyond["recall_at_10"][0]) == (1.0, 0.25)
    assert beyond["ndcg_at_10"][0] < with_pairs["ndcg_at_10"][0] == 1.0
    assert with_pairs["ndcg_full_at_10"][0] == beyond["ndcg_full_at_10"][0] < 1.0


def test_a_customer_without_pairs_has_missed_everything():
    found = rank_customers([1], [0.5], [1], relevant=[2, 1])
    assert [found[name][0] for name in NAMES] == [0.0] * len(NAMES)


def test_a_customer_without_anything_relevant_has_no_value_and_no_part_in_the_means():
    found = rank_customers([0, 1], [0.5, 0.5], [1, 0], relevant=[1, 0])
    assert all(math.isnan(found[name][1]) for name in NAMES)
    assert RankingMetrics.of(found).hit_rate_at_1 == 1.0
    assert math.isnan(RankingMetrics.of(rank_customers([0], [0.5], [0], relevant=[0])).recall_at_10)


def test_nobody_and_no_pairs_are_lists_too():
    assert all(len(values) == 0 for values in rank_customers([], [], [], relevant=[]).values())
    assert rank_customers([], [], [], relevant=[2])["recall_at_10"].tolist() == [0.0]


def test_equal_scores_keep_the_order_of_the_rows():
    customer, score = np.array([1, 0, 1, 0, 1]), np.array([0.5, 0.5, 0.7, 0.5, 0.5])
    assert by_rank(customer, score).tolist() == [1, 3, 2, 0, 4]
    first, second = (rank_customers([0, 0], [0.5, 0.5], y, relevant=[1])["hit_rate_at_1"][0] for y in ([1, 0], [0, 1]))
    assert (first, second) == (1.0, 0.0)


def test_counts_without_a_sign_are_scores_like_any_other():
    assert by_rank(np.zeros(3, dtype=int), np.array([0, 2, 1], dtype=np.uint8)).tolist() == [1, 2, 0]


def test_lists_of_some_of_the_pairs_are_those_of_the_others_left_out():
    customer, score, y, relevant = made(7)
    among = np.random.default_rng(8).random(len(y)) < 0.4
    found = relevant_places(by_rank(customer, score), customer, y, len(relevant), among)
    alone = relevant_places(by_rank(customer[among], score[among]), customer[among], y[among], len(relevant))
    assert found.any()
    assert (found == alone).all()


lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 1)), max_size=60)
beyond = st.lists(st.integers(0, 3), min_size=4, max_size=4)


@given(lists, beyond)
def test_metrics_stay_between_0_and_1_and_in_their_order(rows, more):
    customer, score, y = (np.array([row[place] for row in rows], dtype=int) for place in range(3))
    relevant = np.bincount(customer[y > 0], minlength=4) + more
    found = {name: values[relevant > 0] for name, values in rank_customers(customer, score, y, relevant=relevant).items()}
    for values in found.values():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    for k in (1, 5, 10):
        assert (found[f"ndcg_at_{k}"] >= found[f"ndcg_full_at_{k}"] - 1e-12).all()
        assert (found[f"ndcg_at_{k}"] >= found[f"ndcg_all_at_{k}"] - 1e-12).all()
        assert ((found[f"recall_at_{k}"] > 0) == (found[f"hit_rate_at_{k}"] == 1)).all()
    for name in ("recall", "ndcg_all", "hit_rate"):
        assert (found[f"{name}_at_1"] <= found[f"{name}_at_5"]).all()
        assert (found[f"{name}_at_5"] <= found[f"{name}_at_10"]).all()


@given(lists)
def test_only_the_order_of_the_scores_counts(rows):
    customer, score, y = (np.array([row[place] for row in rows], dtype=int) for place in range(3))
    relevant = np.bincount(customer[y > 0], minlength=4)
    first, second = (rank_customers(customer, values, y, relevant=relevant) for values in (score, np.exp(score / 3) - 100))
    for name in NAMES:
        np.testing.assert_array_equal(first[name], second[name])


@given(lists)
def test_the_best_list_reaches_its_ideal(rows):
    customer, _, y = (np.array([row[place] for row in rows], dtype=int) for place in range(3))
    relevant = np.bincount(customer[y > 0], minlength=4)
    found = rank_customers(customer, y, y, relevant=relevant)
    for k in (1, 5, 10):
        np.testing.assert_allclose(found[f"ndcg_at_{k}"][relevant > 0], 1)
        np.testing.assert_allclose(found[f"ndcg_all_at_{k}"][(relevant > 0) & (relevant <= k)], 1)
        np.testing.assert_allclose(found[f"ndcg_full_at_{k}"][relevant >= k], 1)


def test_a_million_pairs_are_judged_within_two_seconds():
    rng = np.random.default_rng(0)
    customer, y = np.repeat(np.arange(20_000, dtype=np.int32), 50), (rng.random(1_000_000) < 0.1).astype(np.int8)
    score, relevant = rng.random(1_000_000, dtype=np.float32), np.bincount(customer, y).astype(int)
    start = time.process_time()
    found = rank_customers(customer, score, y, relevant=relevant)
    assert time.process_time() - start < 2
    assert np.nanmean(found["recall_at_10"]) == pytest.approx(0.2, abs=0.01)


def test_everything_wrong_with_lists_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        rank_customers([0, 3], [0.5, math.nan], [0, 2], relevant=[1, 1])
    assert [problem.code for problem in caught.value.problems] == ["score_missing", "label_not_binary", "unknown_customer"]
    with pytest.raises(SpecificationError, match=r"score has shape \(1,\), the customers of the pairs have \(2,\)"):
        rank_customers([0, 0], [0.5], [0, 1], relevant=[1])
    with pytest.raises(SpecificationError, match="must be whole numbers"):
        rank_customers([0, 0], [0.5, 0.5], [0, 1], relevant=[1.0])
    with pytest.raises(SpecificationError, match=r"customers took more of their pairs than what is relevant to them \(1\)"):
        rank_customers([0, 0, 1], [0.5, 0.4, 0.3], [1, 1, 1], relevant=[1, 1])


def fold():
    """Two customers, three categories; b takes the new category "z", and a category that was no pair."""
    return RankedFold(
        cutoff=datetime(2017, 12, 3, tzinfo=UTC),
        customer_id=np.array(["a", "b"], dtype=object),
        categories=("x", "y", "z"),
        customer=np.array([0, 0, 0, 1, 1, 1], dtype=np.int32),
        category=np.array([0, 1, 2, 0, 1, 2], dtype=np.int32),
        y=np.array([1, 0, 0, 0, 0, 1], dtype=np.int8),
        is_new=np.array([False, True, True, False, False, True]),
        logit=np.array([2, -1, -2, 1, 0, -1], dtype=np.float32),
        probability=np.array([0.9, 0.3, 0.1, 0.7, 0.5, 0.3], dtype=np.float32),
        baselines={"popularity": np.array([3, 2, 1, 3, 2, 1])},
        base_rate=np.full(6, 0.3, dtype=np.float32),
        relevant=np.array([1, 2]),
        relevant_new=np.array([0, 1]),
        train_rows=100,
        train_positives=30,
    )


def test_a_fold_tells_its_lists_apart_into_repeat_and_explore():
    given = fold()
    among, relevant = given.lists()["explore"]
    assert (among.tolist(), relevant.tolist()) == (given.is_new.tolist(), [0, 1])
    among, relevant = given.lists()["repeat"]
    assert (among.tolist(), relevant.tolist()) == ((~given.is_new).tolist(), [1, 1])
    assert given.lists()["all"] == (None, given.relevant)
    assert list(given.scores()) == ["model", "popularity"]


def test_everything_wrong_with_a_fold_is_said_at_once():
    given = fold()
    with pytest.raises(SpecificationError, match="fold 2017-12-03") as caught:
        replace(
            given,
            cutoff=given.cutoff.replace(tzinfo=None),
            customer_id=np.array(["a", "a"], dtype=object),
            categories=("x", "y"),
            customer=given.customer + 1,
            y=given.y * 2,
            is_new=given.is_new.astype(int),
            logit=given.logit[:3],
            probability=np.ones(6),
            baselines={"model": np.full(6, np.nan)},
            base_rate=np.zeros(6),
        )
    assert [problem.code for problem in caught.value.problems] == [
        "naive_cutoff",
        "baseline_name",
        "not_a_probability",
        "not_a_probability",
        "not_a_flag",
        "shapes_differ",
        "score_missing",
        "label_not_binary",
        "unknown_customer",
        "told_twice",
        "unknown_category",
    ]
    assert all(problem.remedy for problem in caught.value.problems)


def test_a_pair_told_twice_is_refused():
    with pytest.raises(SpecificationError, match=r"pairs are there twice \(2\)"):
        replace(fold(), category=np.array([0, 1, 1, 0, 1, 1]))


@pytest.mark.parametrize("relevant_new", [[0, 0], [0, 3], [1, 1]])
def test_new_and_repeated_takings_must_add_up(relevant_new):
    with pytest.raises(SpecificationError, match=r"than relevant and relevant_new say \(1\)"):
        replace(fold(), relevant_new=np.array(relevant_new))


def test_a_total_per_customer_is_needed_for_every_customer():
    with pytest.raises(SpecificationError, match=r"customer_id has shape \(2,\), relevant \(2,\), relevant_new \(1,\)"):
        replace(fold(), relevant_new=np.array([0]))
