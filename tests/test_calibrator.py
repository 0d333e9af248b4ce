"""Calibrators: curves on logits that rise, are the maximum of what they are fitted by, and survive a file."""

import json
import time

import numpy as np
import pytest
from scipy.optimize import minimize

from persopredict.calibration import CLIP, KINDS, Calibrator, logit, sigmoid
from persopredict.errors import SpecificationError
from tests.logits import bent, made, misfit


def test_probabilities_are_the_logistic_of_the_scaled_logit():
    calibrated = Calibrator("platt", slope=2.0, intercept=-1.0).apply([0.0, 0.5, 1.0])
    assert calibrated.tolist() == pytest.approx([0.268941421, 0.5, 0.731058579])


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_stay_inside_zero_and_one_even_for_infinite_logits(kind):
    calibrated = Calibrator(kind).apply([-np.inf, -1e9, 0.0, 1e9, np.inf])
    assert calibrated.min() == CLIP
    assert calibrated.max() == 1 - CLIP


def test_beta_is_the_formula_of_its_authors_on_probabilities():
    p = np.array([0.001, 0.2, 0.5, 0.97])
    a, b, c = 0.7, 1.9, -0.4
    odds = np.exp(c) * p**a / (1 - p) ** b  # Kull, Silva Filho & Flach 2017, equation 1.
    np.testing.assert_allclose(Calibrator("beta", a, c, b).apply(logit(p)), odds / (1 + odds), rtol=1e-12)


def test_a_spline_goes_straight_between_its_knots_and_beyond_them():
    spline = Calibrator("spline", knots=(-30.0, -2.0, 1.0, 30.0), points=(-16.0, -2.0, 4.0, 33.0))
    calibrated = logit(spline.apply([-12.0, -2.0, -0.5, 1.0, 3.0]))
    assert calibrated.tolist() == pytest.approx([-7.0, -2.0, 1.0, 4.0, 6.0])


def test_a_nan_logit_is_refused_not_calibrated():
    with pytest.raises(SpecificationError, match="nan among the logits"):
        Calibrator().apply([0.1, np.nan])


def test_logit_undoes_sigmoid():
    assert sigmoid(logit([0.001, 0.3, 0.999])).tolist() == pytest.approx([0.001, 0.3, 0.999])


def test_temperature_finds_the_planted_overconfidence():
    fitted = Calibrator.fit("temperature", *made(0.4, 0.0, 40_000, seed=1))
    assert fitted.slope == pytest.approx(0.4, abs=0.02)
    assert fitted.intercept == 0


def test_platt_finds_the_planted_slope_and_level():
    fitted = Calibrator.fit("platt", *made(0.7, -0.8, 40_000, seed=2))
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.7, abs=0.04), pytest.approx(-0.8, abs=0.08))


def test_platt_is_the_maximum_of_the_penalised_likelihood():
    logits, y = made(1.6, 0.9, 300, seed=3)

    def objective(theta):
        eta = theta[0] * logits + theta[1]
        likelihood = np.sum(np.logaddexp(0, eta) - y * eta)
        return likelihood + 0.5 * (theta[0] - 1) ** 2 + 0.5 * theta[1] ** 2 / 9

    oracle = minimize(objective, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    fitted = Calibrator.fit("platt", logits, y)
    assert [fitted.slope, fitted.intercept] == pytest.approx(oracle.tolist(), abs=1e-5)


def test_beta_is_the_maximum_of_the_penalised_likelihood():
    logits, y = made(1.6, 0.9, 300, seed=3)
    p = sigmoid(logits)

    def objective(theta):
        eta = theta[0] * np.log(p) - theta[1] * np.log(1 - p) + theta[2]
        prior = 0.5 * np.mean((theta[:2] - 1) ** 2) + 0.5 * (theta[0] - theta[1]) ** 2 / 0.5**2 + 0.5 * theta[2] ** 2 / 9
        return np.sum(np.logaddexp(0, eta) - y * eta) + prior

    oracle = minimize(objective, [1.0, 1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000}).x
    fitted = Calibrator.fit("beta", logits, y)
    assert [fitted.slope, fitted.upper, fitted.intercept] == pytest.approx(oracle.tolist(), abs=1e-5)


def test_a_spline_is_the_maximum_of_the_penalised_likelihood_among_curves_through_its_knots():
    logits, y = bent(2000, seed=7)
    fitted = Calibrator.fit("spline", logits, y)
    knots, points = np.array(fitted.knots), np.array(fitted.points)

    def objective(points):
        eta, slopes = np.interp(logits, knots, points), np.diff(points) / np.diff(knots)
        bends = np.sum(np.diff(slopes) ** 2) * (len(slopes) - 1) / 0.5**2
        prior = 0.5 * np.mean((slopes - 1) ** 2) + 0.5 * bends + 0.5 * np.interp(0.0, knots, points) ** 2 / 9
        return np.sum(np.logaddexp(0, eta) - y * eta) + prior

    best = objective(points)
    for place in range(len(points)):
        for step in (-1e-3, 1e-3):
            assert objective(points + step * (np.arange(len(points)) == place)) > best
    assert minimize(objective, knots, method="BFGS").fun == pytest.approx(best, abs=1e-4)


def test_beta_finds_the_planted_slopes_of_low_and_high_probabilities():
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 2, 200_000)
    truth = Calibrator("beta", 1.3, 0.4, 0.6)
    fitted = Calibrator.fit("beta", logits, rng.random(200_000) < truth.apply(logits))
    assert [fitted.slope, fitted.upper, fitted.intercept] == pytest.approx([1.3, 0.6, 0.4], abs=0.03)


def test_a_spline_finds_a_curve_that_no_other_kind_comes_near():
    logits, y = bent(200_000, seed=8)
    at = np.linspace(-5, 0.5, 100)
    missed = {kind: np.abs(Calibrator.fit(kind, logits, y).apply(at) - sigmoid(misfit(at))).max() for kind in KINDS}
    assert missed["spline"] < 0.03
    assert all(missed[kind] > 3 * missed["spline"] for kind in KINDS if kind != "spline")


def test_a_spline_bends_where_there_are_labels_of_both_kinds_to_show_it():
    logits, y = made(1.0, -2.0, 50_000, seed=9, level=-3.0)
    inner = np.array(Calibrator.fit("spline", logits, y).knots[1:-1])
    negatives, positives = (np.array([(logits[y == label] < knot).mean() for knot in inner]) for label in (0, 1))
    assert ((negatives + positives) / 2).tolist() == pytest.approx([k / 8 for k in range(1, 8)], abs=0.01)


def test_a_beta_or_spline_of_a_calibrated_model_leaves_it_as_it_is():
    logits, y = made(1.0, 0.0, 200_000, seed=10)
    at = np.linspace(-6, 2, 50)
    for kind in ("beta", "spline"):
        np.testing.assert_allclose(Calibrator.fit(kind, logits, y).apply(at), sigmoid(at), atol=0.02)


def test_many_rows_are_fitted_as_if_each_were_looked_at():
    logits, y = made(0.6, 0.3, 60_000, seed=12)
    p = sigmoid(logits)

    def gradient(fitted):
        eta = fitted.slope * np.log(p) - fitted.upper * np.log(1 - p) + fitted.intercept
        design = np.stack([np.log(p), -np.log(1 - p), np.ones_like(p)])
        information = (design * sigmoid(eta) * (1 - sigmoid(eta))) @ design.T
        bend = (fitted.slope - fitted.upper) / 0.5**2
        prior = [(fitted.slope - 1) / 2 + bend, (fitted.upper - 1) / 2 - bend, fitted.intercept / 9]
        return np.linalg.solve(information, design @ (sigmoid(eta) - y) + prior)

    # How far one step of Newton over all rows would still move it.
    assert np.abs(gradient(Calibrator.fit("beta", logits, y))).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_rows_are_fitted_within_a_second(kind):
    logits, y = made(0.6, -0.3, 1_000_000, seed=13)
    before = time.process_time()
    Calibrator.fit(kind, logits, y)
    assert time.process_time() - before < 1.0


def test_with_many_rows_platt_is_an_unpenalised_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    logits, y = made(0.5, 1.0, 30_000, seed=4)
    oracle = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], y)
    fitted = Calibrator.fit("platt", logits, y)
    assert [fitted.slope, fitted.intercept] == pytest.approx([oracle.coef_[0, 0], oracle.intercept_[0]], abs=2e-3)


def test_a_weight_of_two_is_the_row_given_twice():
    logits, y = made(0.5, 0.5, 500, seed=5)
    twice = np.arange(500) < 200
    weighted = Calibrator.fit("platt", logits, y, weight=1.0 + twice)
    repeated = Calibrator.fit("platt", np.append(logits, logits[twice]), np.append(y, y[twice]))
    assert [weighted.slope, weighted.intercept] == pytest.approx([repeated.slope, repeated.intercept])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_few_separable_positives_do_not_drive_it_to_certainty(kind):
    logits = np.append(np.linspace(-4, -1, 2000), [0.5, 0.6, 0.7])
    fitted = Calibrator.fit(kind, logits, np.append(np.zeros(2000), np.ones(3)))
    before, after = sigmoid([0.7])[0], fitted.apply([0.7])[0]
    assert before < after < 0.98


@pytest.mark.parametrize("kind", ["beta", "spline"])
@pytest.mark.parametrize("seed", range(5))
def test_ten_positives_bend_no_line(kind, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 1, 500)
    odds = np.exp(logits)
    y = np.zeros(500)
    y[rng.choice(500, 10, replace=False, p=odds / odds.sum())] = 1
    curve, line = (logit(Calibrator.fit(each, logits, y).apply([-6.0, -4.0, -2.0])) for each in (kind, "platt"))
    assert np.abs(curve - line).max() < 0.25


@pytest.mark.parametrize("kind", ["platt", "beta", "spline"])
def test_infinite_logits_of_an_estimator_can_be_calibrated(kind):
    logits = np.array([-np.inf, np.inf] * 100)
    y = np.array([0, 1] * 90 + [1, 0] * 10)
    assert Calibrator.fit(kind, logits, y).apply(logits[:2]).tolist() == pytest.approx([0.1, 0.9], abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("logits", "y"), [([0.1, 0.4], [0, 0]), ([0.1, 0.4], [1, 1]), ([], [])])
def test_one_class_or_no_rows_leave_nothing_to_fit(kind, logits, y):
    assert Calibrator.fit(kind, logits, y) == Calibrator()


@pytest.mark.parametrize("kind", ["platt", "beta", "spline"])
def test_constant_logits_learn_the_level_alone(kind):
    fitted = Calibrator.fit(kind, np.full(4000, -1.0), np.arange(4000) < 400)
    assert fitted.apply([-1.0])[0] == pytest.approx(0.1, abs=0.002)


def test_logits_that_all_but_touch_still_make_a_spline():
    logits = np.nextafter(np.full(40, -1.0), 0) + np.arange(40) * 2.3e-16
    fitted = Calibrator.fit("spline", np.tile(logits, 100), np.tile(np.arange(40) % 2, 100))
    assert fitted.apply([-1.0])[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truth", [-1.0, 0.0, 0.5, 30.0])
def test_the_order_of_customers_is_never_turned_round_and_nobody_is_tied(kind, truth):
    logits, y = made(truth, -3.0 if truth < 1 else 0.0, 20_000, seed=6)
    fitted = Calibrator.fit(kind, logits, y)
    probability = fitted.apply(np.sort(logits))
    inside = (probability > CLIP) & (probability < 1 - CLIP)
    assert np.all(np.diff(probability) >= 0)
    assert np.all(np.diff(probability[inside]) > 0)
    if truth < 0 and kind in ("platt", "beta", "spline"):
        assert probability.mean() == pytest.approx(y.mean(), abs=0.01)


def test_all_that_is_wrong_with_the_input_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        Calibrator.fit("platt", [0.1, 0.2], [0, 2, 1], weight=[1.0, -1.0])
    assert {problem.code for problem in caught.value.problems} == {
        "shapes_differ",
        "label_not_binary",
        "weight_negative",
    }


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "plat"},
        {"kind": "platt", "slope": 0.0},
        {"kind": "platt", "slope": np.nan},
        {"kind": "none", "slope": 2.0},
        {"kind": "temperature", "intercept": 1.0},
        {"kind": "platt", "upper": 2.0},
        {"kind": "beta", "upper": 0.0},
        {"kind": "beta", "points": (-30.0, 20.0)},
        {"kind": "spline", "slope": 2.0},
        {"kind": "spline", "knots": (), "points": ()},
        {"kind": "spline", "knots": (-30.0, 0.0, 30.0)},
        {"kind": "spline", "knots": (-30.0, 20.0)},
        {"kind": "spline", "knots": (-30.0, 0.0, 1.0, 30.0), "points": (-30.0, 0.0, 0.0, 30.0)},
        {"kind": "spline", "points": (-30.0, np.inf)},
    ],
)
def test_an_impossible_calibrator_is_refused(values):
    with pytest.raises(SpecificationError):
        Calibrator(**values)


def test_what_was_written_before_there_were_curves_is_still_read():
    for kind, slope, intercept in (("none", 1.0, 0.0), ("temperature", 0.5, 0.0), ("platt", 0.7, -0.2)):
        written = {"kind": kind, "slope": slope, "intercept": intercept}
        assert Calibrator.from_dict(written) == Calibrator(kind, slope, intercept)
        assert Calibrator(kind, slope, intercept).to_dict() == written


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_json_exactly(kind):
    fitted = Calibrator.fit(kind, *bent(12_000, seed=14))
    again = Calibrator.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    np.testing.assert_array_equal(again.apply([-40.0, -2.0, 0.3, 40.0]), fitted.apply([-40.0, -2.0, 0.3, 40.0]))
