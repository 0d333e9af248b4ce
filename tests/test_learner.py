"""The learner: any classifier, made so that the same data gives the same model."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from persopredict import learner
from persopredict.errors import SpecificationError
from persopredict.learner import BoosterScorer, EstimatorScorer

NAMES = ["recency", "count", "noise"]


def data(rows=600, *, nulls=True):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(rows, 3))
    y = (rng.random(rows) < 1 / (1 + np.exp(1 - 2 * X[:, 0]))).astype(np.int8)
    if nulls:
        X[rng.random(X.shape) < 0.1] = np.nan
    return X, y


def small(**settings):
    return learner.default_estimator(0, **{"n_estimators": 10} | settings)


def code(estimator):
    with pytest.raises(SpecificationError) as caught:
        learner.fit(estimator, *data(), NAMES)
    return caught.value.problems[0].code


def test_raw_scores_are_the_log_odds_of_the_estimator_s_own_probabilities():
    X, y = data()
    for estimator in (small(), HistGradientBoostingClassifier(max_iter=5, random_state=0)):
        expected = estimator.fit(X, y).predict_proba(X)[:, 1]
        np.testing.assert_allclose(1 / (1 + np.exp(-learner.fit(estimator, X, y, NAMES).logits(X))), expected, rtol=1e-9)


def test_lightgbm_is_kept_as_trees_and_others_as_themselves():
    X, y = data()
    assert isinstance(learner.fit(small(), X, y, NAMES), BoosterScorer)
    other = learner.fit(make_pipeline(SimpleImputer(), LogisticRegression()), X, y, NAMES)
    assert isinstance(other, EstimatorScorer)
    assert other.kind == "Pipeline"


def test_the_estimator_given_stays_unfitted():
    estimator = small()
    learner.fit(estimator, *data(), NAMES)
    assert not hasattr(estimator, "booster_")


def test_certain_probabilities_have_finite_scores():
    X, y = data()
    forest = RandomForestClassifier(3, max_features=None, bootstrap=False, random_state=0)
    scores = learner.fit(forest, X, y, NAMES).logits(X)
    assert forest.fit(X, y).predict_proba(X)[:, 1].min() == 0
    assert np.isfinite(scores).all()


def test_no_rows_have_no_scores():
    X, y = data()
    for estimator in (small(), HistGradientBoostingClassifier(max_iter=2)):
        assert learner.fit(estimator, X, y, NAMES).logits(X[:0]).shape == (0,)


def test_the_text_of_the_trees_scores_to_the_bit():
    X, y = data()
    scorer = learner.fit(small(), X, y, NAMES)
    again = BoosterScorer.from_text(scorer.text)
    assert again.names == tuple(NAMES)
    np.testing.assert_array_equal(again.logits(X), scorer.logits(X))


@pytest.mark.parametrize(
    "damage", [lambda t: "", lambda t: "{}", lambda t: t[: len(t) // 2], lambda t: t[10:], lambda t: t.replace("=", "?")]
)
def test_a_damaged_text_is_refused(damage):
    with pytest.raises(SpecificationError, match="LightGBM"):
        BoosterScorer.from_text(damage(learner.fit(small(), *data(), NAMES).text))


@pytest.mark.parametrize(
    ("estimator", "found"),
    [
        (lgb.LGBMClassifier, "estimator_class"),
        ("lightgbm", "not_an_estimator"),
        (LinearRegression(), "no_predict_proba"),
        (lgb.LGBMRegressor(), "no_predict_proba"),
        (make_pipeline(SimpleImputer(), LinearRegression()), "no_predict_proba"),
        (SVC(), "no_predict_proba"),
        (small(num_leaves=1), "estimator_refused"),
        (LogisticRegression(C=-1.0), "estimator_refused"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_usable_classifier_is_refused(estimator, found):
    assert code(estimator) == found


def test_an_estimator_that_can_t_read_nulls_is_told_of_imputers():
    with pytest.raises(SpecificationError, match="put an imputer before it"):
        learner.fit(LogisticRegression(), *data(), NAMES)


# The same data, the same model ----------------------------------------------------------------------------------------------------


def test_a_seed_left_open_is_the_predictor_s():
    X, y = data(nulls=False)
    for open_, settled in (
        (RandomForestClassifier(5), RandomForestClassifier(5, random_state=3)),
        (make_pipeline(RandomForestClassifier(5)), make_pipeline(RandomForestClassifier(5, random_state=3))),
        (CalibratedClassifierCV(RandomForestClassifier(5)), CalibratedClassifierCV(RandomForestClassifier(5, random_state=3))),
    ):
        expected = learner.fit(settled, X, y, NAMES, 0).logits(X)
        np.testing.assert_array_equal(learner.fit(open_, X, y, NAMES, 3).logits(X), expected)
        assert (learner.fit(open_, X, y, NAMES, 4).logits(X) != expected).any()


def test_lightgbm_is_deterministic_quiet_and_single_threaded_on_small_data_unless_its_owner_decided():
    X, y = data()
    text = learner.fit(lgb.LGBMClassifier(n_estimators=3), X, y, NAMES).text
    for setting in ("[deterministic: 1]", "[force_row_wise: 1]", "[num_threads: 1]", "[verbosity: -1]"):
        assert setting in text
    chosen = lgb.LGBMClassifier(n_estimators=3, deterministic=False, force_col_wise=True, n_jobs=2, verbose=-1)
    text = learner.fit(chosen, X, y, NAMES).text
    for setting in ("[deterministic: 0]", "[force_col_wise: 1]", "[force_row_wise: 0]", "[num_threads: 2]"):
        assert setting in text


PROGRAM = """
import hashlib, numpy as np
from persopredict import learner
learner._WORTH_THREADS = 0  # As if the data were large.
rng = np.random.default_rng(5)
X = rng.gamma(1.0, 5.0, (4000, 30))
y = (rng.random(4000) < 1 / (1 + np.exp(2 - X[:, :5].sum(axis=1) / 15))).astype(np.int8)
text = learner.fit(learner.default_estimator(0, n_estimators=10), X, y, [f"f{n}" for n in range(30)]).text
print(hashlib.md5(text.encode()).hexdigest())
"""


def test_the_number_of_threads_changes_nothing():
    def digest(threads):
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True).stdout

    one = digest("1")
    assert len(one.strip()) == hashlib.md5().digest_size * 2
    assert digest("2") == one


# Recipes --------------------------------------------------------------------------------------------------------------------------


def test_equal_settings_make_equal_recipes_and_others_others():
    assert learner.recipe(small(), {"a": 1}) == learner.recipe(small(), {"a": 1})
    recipes = {
        learner.recipe(small(), {"a": 1}),
        learner.recipe(small(), {"a": 2}),
        learner.recipe(small(num_leaves=9), {"a": 1}),
        learner.recipe(learner.default_estimator(1, n_estimators=10), {"a": 1}),
        learner.recipe(HistGradientBoostingClassifier(), {"a": 1}),
    }
    assert len(recipes) == 5


@pytest.mark.parametrize(("inner", "other"), [(LogisticRegression(C=1.0), LogisticRegression(C=2.0))])
def test_a_recipe_sees_the_settings_inside_a_pipeline_and_no_addresses(inner, other):
    recipes = [learner.recipe(make_pipeline(SimpleImputer(), estimator)) for estimator in (inner, LogisticRegression(C=1.0), other)]
    assert recipes[0] == recipes[1] != recipes[2]
