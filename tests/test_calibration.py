"""Calibration: what is fitted is the truth that was planted, and nothing is chosen by looking back."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from persopredict.calibration import CLIP, KINDS, Calibrator, Choice, choose, choose_forward, logit, sigmoid
from persopredict.errors import SpecificationError


def made(slope, intercept, rows, seed, level=-2.0):
    """Logits whose true calibration is sigmoid(slope · logit + intercept), and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(level, 1.5, rows)
    return logits, (rng.random(rows) < sigmoid(slope * logits + intercept)).astype(np.int8)


def months(levels, rows=3000, seed=0, slope=1.0):
    return [made(slope, level, rows, (seed, month)) for month, level in enumerate(levels)]


def test_probabilities_are_the_logistic_of_the_scaled_logit():
    calibrated = Calibrator("platt", slope=2.0, intercept=-1.0).apply([0.0, 0.5, 1.0])
    assert calibrated.tolist() == pytest.approx([0.268941421, 0.5, 0.731058579])


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_stay_inside_zero_and_one_even_for_infinite_logits(kind):
    calibrated = Calibrator(kind).apply([-np.inf, -1e9, 0.0, 1e9, np.inf])
    assert calibrated.min() == CLIP
    assert calibrated.max() == 1 - CLIP


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


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_few_separable_positives_do_not_drive_it_to_certainty(kind):
    logits = np.append(np.linspace(-4, -1, 2000), [0.5, 0.6, 0.7])
    fitted = Calibrator.fit(kind, logits, np.append(np.zeros(2000), np.ones(3)))
    assert 1 < fitted.slope < 5
    assert fitted.apply([0.7])[0] < 0.98


def test_infinite_logits_of_an_estimator_can_be_calibrated():
    logits = np.array([-np.inf, np.inf] * 100)
    y = np.array([0, 1] * 90 + [1, 0] * 10)
    assert Calibrator.fit("platt", logits, y).apply(logits[:2]).tolist() == pytest.approx([0.1, 0.9], abs=0.01)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize(("logits", "y"), [([0.1, 0.4], [0, 0]), ([0.1, 0.4], [1, 1]), ([], [])])
def test_one_class_or_no_rows_leave_nothing_to_fit(kind, logits, y):
    assert Calibrator.fit(kind, logits, y) == Calibrator()


def test_constant_logits_learn_the_level_alone():
    fitted = Calibrator.fit("platt", np.full(4000, -1.0), np.arange(4000) < 400)
    assert fitted.apply([-1.0])[0] == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_the_order_of_customers_is_never_turned_round(kind):
    logits, y = made(-1.0, -3.0, 20_000, seed=6)
    fitted = Calibrator.fit(kind, logits, y)
    assert np.all(np.diff(fitted.apply(np.sort(logits))) >= 0)
    if kind == "platt":
        assert fitted.apply(logits).mean() == pytest.approx(y.mean(), abs=0.01)


def test_a_calibrated_model_is_mostly_left_alone():
    chosen = [choose(months([0, 0, 0], seed=seed)).kind for seed in range(40)]
    assert chosen.count("none") >= 32


def test_constant_overconfidence_is_answered_with_temperature():
    chosen = [choose(months([0, 0, 0], seed=seed, slope=0.5, rows=2000)) for seed in range(10)]
    assert all(choice.kind != "none" for choice in chosen)
    assert all(choice.losses[choice.kind] < choice.losses["none"] for choice in chosen)
    assert all(choice.calibrator.slope == pytest.approx(0.5, abs=0.15) for choice in chosen)
    balanced = [made(0.4, 0.0, 3000, seed, level=0.0) for seed in range(3)]
    assert choose(balanced).kind == "temperature"


def test_a_level_that_is_always_off_is_answered_with_platt():
    choice = choose(months([1.0, 1.0, 1.0]))
    assert choice.kind == "platt"
    assert choice.calibrator.intercept == pytest.approx(1.0, abs=0.2)
    assert (choice.rows, choice.folds) == (6000, 2)


@pytest.mark.parametrize("seed", range(8))
def test_a_level_that_drifts_to_and_fro_refuses_platt_although_it_fits_each_month(seed):
    folds = months([-0.7, 0.7, -0.7, 0.7], seed=seed)
    choice = choose(folds)
    assert choice.kind == "none"
    assert choice.losses["platt"] > choice.losses["none"]
    for logits, y in folds:
        assert abs(Calibrator.fit("platt", logits, y).intercept) > 0.4


def test_a_gain_in_one_month_and_a_loss_in_the_next_is_no_gain():
    # Learning +0.8 helps month 2 a lot and harms month 3 a little: lower when pooled, over 40,000 rows each.
    choice = choose(months([0.8, 0.8, 0.3], rows=40_000), kinds=("none", "platt"))
    assert choice.losses["platt"] < choice.losses["none"]
    assert choice.kind == "none"


def test_without_an_earlier_cutoff_nothing_is_chosen():
    choice = choose(months([2.0]))
    assert (choice.kind, choice.losses, choice.folds) == ("none", {}, 0)
    assert choose([]).calibrator == Calibrator()


def test_a_single_kind_is_fitted_without_a_test():
    folds = months([0.5])
    assert choose(folds, kinds=("platt",)).calibrator == Calibrator.fit("platt", *folds[0])


def test_the_shipped_calibrator_is_fitted_on_all_folds():
    folds = months([1.0, 1.0, 1.0])
    pooled = [np.concatenate(part) for part in zip(*folds, strict=True)]
    assert choose(folds).calibrator == Calibrator.fit("platt", *pooled)


def two_back(j):
    """Cutoffs every two weeks, labels of four: the labels of the fold before have not ended."""
    return range(j - 1)


def test_folds_whose_labels_have_not_ended_are_not_used():
    folds = months([1.0, 1.0, 1.0, 1.0])
    assert [choice.kind for choice in choose_forward(folds, ("platt",), two_back)] == ["none", "none", "platt", "platt"]
    assert choose(folds, usable=two_back).folds == 2
    third = choose_forward(folds, ("platt",), two_back)[2]
    assert third.calibrator == Calibrator.fit("platt", *folds[0])


def test_the_choice_at_a_cutoff_is_the_one_that_choose_would_have_made_there():
    folds = months([1.0, 0.2, 0.9, 0.4, 1.1], rows=800)
    forward = choose_forward(folds, usable=two_back)
    assert [forward[j] for j in (3, 4)] == [choose(folds[: j - 1], usable=two_back) for j in (3, 4)]
    assert forward[4].folds == 1


@pytest.mark.parametrize("usable", [None, two_back])
def test_what_was_not_known_at_a_cutoff_changes_nothing_chosen_for_it(usable):
    folds = months([0.9, 0.8, 1.0, 0.9, 1.1], rows=800)
    before = choose_forward(folds, usable=usable)
    for j in range(5):
        known = set(range(j) if usable is None else usable(j))
        other = [fold if i in known else (fold[0][::-1], 1 - fold[1]) for i, fold in enumerate(folds)]
        assert choose_forward(other, usable=usable)[j] == before[j]
    assert before[4].kind == "platt"


def test_the_out_of_time_probabilities_improve_where_the_error_is_stable():
    folds = months([1.0, 1.0, 1.0, 1.0])
    last = choose_forward(folds)[3].calibrator
    logits, y = folds[3]
    assert abs(last.apply(logits).mean() - y.mean()) < abs(sigmoid(logits).mean() - y.mean()) / 3


def test_a_fold_that_is_not_earlier_is_refused():
    with pytest.raises(SpecificationError, match=r"fold 1 can't use folds \[1\]: only earlier ones"):
        choose(months([0, 0]), usable=lambda j: range(j + 1) if j else [])


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
    [{"kind": "plat"}, {"kind": "platt", "slope": 0.0}, {"kind": "platt", "slope": np.nan}, {"kind": "none", "slope": 2.0}],
)
def test_an_impossible_calibrator_is_refused(values):
    with pytest.raises(SpecificationError):
        Calibrator(**values)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(SpecificationError, match="did you mean 'temperature'"):
        choose([], kinds=("temprature",))


def test_calibrators_and_choices_survive_json_exactly():
    choice = choose(months([1.0, 1.0, 1.0]))
    assert Choice.from_dict(json.loads(json.dumps(choice.to_dict(), allow_nan=False))) == choice
    assert Calibrator.from_dict(json.loads(json.dumps(choice.calibrator.to_dict()))) == choice.calibrator
    with pytest.raises(SpecificationError, match="lacks slope, intercept"):
        Calibrator.from_dict({"kind": "none"})


def test_a_choice_says_why_and_shows_every_loss():
    text = str(choose(months([1.0, 1.0, 1.0])))
    assert text.startswith("calibration platt: platt lowers the log-loss of later cutoffs")
    assert all(f"{kind} 0." in text for kind in KINDS)
