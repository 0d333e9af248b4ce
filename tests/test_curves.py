"""Deciles, audiences and reliability: agreed with by counting, true to their level, and honest about what can't be."""

import math

import numpy as np
import pandas as pd
import pytest

from persopredict.curves import SHARES, Audience, Curve, reliability, wilson
from persopredict.errors import SpecificationError
from persopredict.metrics import ece


def sample(seed, rows=400, ties=False):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 6, rows)
    if ties:
        p = np.round(p, 1) + 0.01
    return (rng.random(rows) < p).astype(np.int8), p


def test_deciles_agree_with_counting_tenths_of_the_customers():
    y, p = sample(0)
    order = np.argsort(-p)
    came, promised = y[order].reshape(10, 40), p[order].reshape(10, 40)
    for place, found in enumerate(Curve.of(y, p).deciles):
        assert (found.decile, found.rows, found.positives) == (place + 1, 40, came[place].sum())
        assert found.expected == pytest.approx(promised[place].sum(), abs=0.002)
        assert found.precision == pytest.approx(came[place].mean())
        assert found.lift == pytest.approx(came[place].mean() / y.mean())
        assert found.gain == pytest.approx(came[: place + 1].sum() / y.sum())


def test_deciles_add_up_to_all_customers_also_where_a_tenth_is_not_whole_and_predictions_are_equal():
    y, p = sample(1, rows=397, ties=True)
    table = pd.DataFrame(Curve.of(y, p).deciles)
    assert table["rows"].sum() == pytest.approx(397)
    assert table["positives"].sum() == pytest.approx(y.sum(), abs=0.001)
    assert table["expected"].sum() == pytest.approx(p.sum(), abs=0.001)
    assert table["gain"].iloc[-1] == 1


def test_equal_predictions_share_their_positives():
    y, _ = sample(2)
    assert [found.lift for found in Curve.of(y, np.full(400, 0.2)).deciles] == pytest.approx([1.0] * 10, abs=0.01)


def test_of_several_cutoffs_the_likeliest_of_each_are_taken():
    """In a strong month everybody is likelier: who is contacted is chosen within a month all the same."""
    weak, strong = Curve.of([1, 0, 0, 0], [0.3, 0.2, 0.15, 0.1]), Curve.of([1, 1, 1, 0], [0.9, 0.8, 0.7, 0.6])
    both = Curve.together([weak, Curve(), strong])
    assert (both.rows, both.positives) == (8, 4)
    assert (both.found[24], both.expected[24]) == (2.0, 1.2)
    assert Curve.together([]) == Curve()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_a_curve_and_no_flattering_number(label):
    first = Curve.of([label] * 50, np.linspace(0.1, 0.9, 50)).deciles[0]
    assert first.precision == label
    assert math.isnan(first.lift) == math.isnan(first.gain) == (label == 0)


def curve():
    y, p = sample(3, rows=1000)
    lower, upper = SHARES * 0 + 0.1, SHARES * 0 + 0.3
    return y, p, Curve.of(y, p).within(list(zip(lower, upper, strict=True)))


def test_an_audience_of_a_share_is_what_its_hundredths_held():
    y, p, found = curve()
    order = np.argsort(-p)[:150]
    reached = found.audience(share=0.15)
    assert (reached.size, reached.of, reached.share) == (150, 1000, 0.15)
    assert reached.expected == pytest.approx(p[order].sum(), abs=0.001)
    assert reached.precision == pytest.approx(y[order].mean())
    assert reached.lift == pytest.approx(y[order].mean() / y.mean())
    assert reached.gain == pytest.approx(y[order].sum() / y.sum())
    assert reached.interval == pytest.approx((0.1, 0.3))


def test_an_audience_among_more_customers_is_as_precise_and_as_many_times_larger():
    _, _, found = curve()
    here, there = found.audience(size=150), found.audience(size=150_000, of=1_000_000)
    assert there.expected == pytest.approx(1000 * here.expected)
    assert (there.precision, there.lift, there.gain) == (here.precision, here.lift, here.gain)


def test_between_two_hundredths_an_audience_lies_between_them():
    _, _, found = curve()
    counts = [found.audience(size=size).gain for size in (40, 42, 45, 50)]
    assert counts == sorted(counts)
    assert found.audience(size=45).expected == pytest.approx(found.expected[3] + 0.5 * (found.expected[4] - found.expected[3]))


def test_below_one_percent_it_is_as_precise_as_the_first_hundredth():
    _, _, found = curve()
    assert found.audience(size=1).precision == pytest.approx(found.audience(size=10).precision)


def test_everybody_is_an_audience_without_lift():
    _, p, found = curve()
    everyone = found.audience(share=1)
    assert (everyone.lift, everyone.gain) == (1.0, 1.0)
    assert everyone.expected == pytest.approx(p.sum(), abs=0.001)


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({}, ["audience_ambiguous"]),
        ({"size": 5, "share": 0.1}, ["audience_ambiguous"]),
        ({"size": 0}, ["audience_size"]),
        ({"size": 1001}, ["audience_size"]),
        ({"size": 200, "of": 100}, ["audience_size"]),
        ({"share": 0}, ["audience_share"]),
        ({"share": 10}, ["audience_share"]),
        ({"share": float("nan")}, ["audience_share"]),
        ({"size": -1, "share": 2, "of": 0}, ["audience_of_nobody", "audience_ambiguous", "audience_size", "audience_share"]),
    ],
)
def test_an_impossible_audience_is_refused_with_all_that_is_wrong(given, codes):
    with pytest.raises(SpecificationError) as caught:
        curve()[2].audience(**given)
    assert [problem.code for problem in caught.value.problems] == codes
    assert all(problem.remedy for problem in caught.value.problems)


def test_without_a_curve_there_is_no_audience():
    with pytest.raises(SpecificationError, match="train the model again"):
        Curve().audience(size=5)


def test_an_audience_reads_as_a_sentence():
    assert str(Audience(20, 200, 3.21, 0.15, (math.nan, math.nan), 1.5, 0.15)) == (
        "20 likeliest of 200 (10.0%): 3.2 outcomes expected; in the tests 15.0% had it, lift 1.50, 15.0% of all"
    )


def test_reliability_agrees_with_a_plain_loop_over_equal_bins():
    y, p = sample(4)
    found = reliability(y, p)
    for place, rows in enumerate(np.split(np.argsort(p), 10)):
        assert (found[place].rows, found[place].observed) == (40, pytest.approx(y[rows].mean()))
        assert found[place].predicted == pytest.approx(p[rows].mean())
    assert ece(y, p) == pytest.approx(sum(each.rows * abs(each.observed - each.predicted) for each in found) / 400)
    assert reliability([], []) == ()


@pytest.mark.parametrize(("positives", "rows"), [(0, 20), (1, 20), (10, 20), (20, 20), (37, 1000)])
def test_the_interval_of_a_rate_is_that_of_scipy(positives, rows):
    from scipy.stats import binomtest

    oracle = binomtest(positives, rows).proportion_ci(0.95, method="wilson")
    assert [float(bound) for bound in wilson(positives, rows)] == pytest.approx([oracle.low, oracle.high])


def test_bins_of_a_right_model_hold_what_was_predicted_about_95_times_in_100():
    held = [each.holds for seed in range(60) for each in reliability(*sample(seed, rows=1000))]
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_distorted_model_leaves_its_intervals():
    y, p = sample(5, rows=5000)
    assert sum(not each.holds for each in reliability(y, p / (p + 2 * (1 - p)))) >= 5
