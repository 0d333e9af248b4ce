"""Kinds of models that compete: scorecards, BG/NBD and trees; which of them serves, what it says and how it is kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from persopredict import kinds, scorecard
from persopredict.baselines import BestRule
from persopredict.calibration import sigmoid
from persopredict.datasets import made_log
from persopredict.draws import lowest, snapshot_hashes
from persopredict.engines.expressions import microseconds
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.kinds import Rhythm, Rivals, Taught
from persopredict.metrics import auc, brier_skill
from persopredict.penalised import fit_slopes
from persopredict.predictor import Predictor
from persopredict.scorecard import Scorecard, Term, fit_logistic
from persopredict.scoring_model import Scorer
from persopredict.targets import Cancellation, Churn, Conversion
from persopredict.training import Labelled, OutOfTime, Training
from tests import made

TARGET = Churn("purchase", "28d")
FEATURES = (Feature("count", window="28d", fallback=0), Feature("count", window="91d", fallback=0), Feature("recency", fallback=None))


def lesson(rows=600, seed=0, *, target=TARGET) -> Taught:
    """Customers of a steady rhythm, some of whom have left: the longer the silence against the rhythm, the surer."""
    rng = np.random.default_rng(seed)
    rhythm = kinds.rhythm_features(target)
    tenure = rng.uniform(60, 300, rows)
    gap, left = rng.gamma(4, 8, rows), rng.random(rows) < 0.3
    recency = np.where(left, rng.random(rows) * tenure, rng.exponential(gap))
    recency = np.minimum(recency, tenure)
    days = 1 + np.floor((tenure - recency) / gap)
    known = {rhythm[0].name: days, rhythm[1].name: recency, rhythm[2].name: tenure} if rhythm else {}
    columns = {FEATURES[0].name: 28 / gap * (recency < 28), FEATURES[1].name: 91 / gap * (recency < 91), FEATURES[2].name: recency, **known}
    features = kinds.with_rhythm(FEATURES, target)
    X = np.stack([columns[feature.name] for feature in features], axis=1)
    y = (left | (rng.random(rows) < np.exp(-28 / gap))).astype(np.int8)
    return Taught(target, features, len(FEATURES), X, y, np.arange(rows).astype(str), np.zeros(rows, np.int64), 1.0)


def test_btyd_competes_only_where_the_event_can_come_again():
    assert "btyd" in kinds.competing(TARGET)
    assert "btyd" in kinds.competing(Conversion("visit", "7d"))
    assert "btyd" not in kinds.competing(Conversion("signup", "7d", once=True))
    assert "btyd" not in kinds.competing(Cancellation("cancel", "28d", start="start"))
    assert kinds.rhythm_features(Conversion("signup", "7d", once=True)) == ()


def test_the_lowest_out_of_time_log_loss_wins_and_of_equals_the_simplest():
    assert kinds.best({"base_rate": 0.5, "rule": 0.3, "btyd": 0.3, "logistic": 0.4, "lightgbm": 0.31}) == "rule"
    assert kinds.best({}, ("base_rate", "logistic", "lightgbm")) == "logistic"


def test_labels_overlap_where_cutoffs_lie_closer_than_the_horizon():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert kinds.overlap([start], TARGET) == 1
    assert kinds.overlap([start, start + timedelta(days=56)], TARGET) == 1
    assert kinds.overlap([start + timedelta(days=7 * week) for week in range(5)], TARGET) == 4


@pytest.mark.parametrize("kind", ["base_rate", "rule", "btyd", "logistic"])
def test_contributions_add_up_to_the_raw_score(kind):
    taught = lesson()
    scorer = taught.scorer(kind, None, 0)
    X = taught.X[:, taught.columns(scorer.names)]
    parts = scorer.contributions(X)
    assert scorer.kind == kind
    assert parts.shape == (len(X), len(scorer.names) + 1)
    np.testing.assert_allclose(parts.sum(axis=1), scorer.logits(X), atol=1e-9)
    assert scorer.importance.shape == (len(scorer.names),)


@pytest.mark.parametrize("kind", ["base_rate", "rule", "btyd", "logistic"])
def test_a_model_is_kept_as_json_and_the_stored_code_scores_alike(kind):
    taught = lesson()
    scorer = taught.scorer(kind, None, 0)
    text = json.dumps(scorer.to_dict())
    again = kinds.from_dict(json.loads(text))
    X = taught.X[:, taught.columns(scorer.names)].copy()
    X[::7] = np.nan
    np.testing.assert_array_equal(again.logits(X), scorer.logits(X))
    none = {"kind": "none", "slope": 1.0, "intercept": 0.0}
    stored = Scorer(text, none, {"target": TARGET.to_dict(), "columns": list(scorer.names)})
    np.testing.assert_allclose(stored.logits(X), scorer.logits(X), atol=1e-9)
    assert stored.logits(X[:0]).shape == (0,)


def test_the_stored_code_knows_a_gap():
    taught = lesson(target=Churn("purchase", "28d"))
    target = Conversion("purchase", "28d", gap="14d")
    scorer = replace(taught, target=target, y=1 - taught.y).scorer("btyd", None, 0)
    X = taught.X[:, taught.columns(scorer.names)]
    stored = Scorer(json.dumps(scorer.to_dict()), {"kind": "none", "slope": 1, "intercept": 0}, {"target": {}, "columns": scorer.names})
    np.testing.assert_allclose(stored.logits(X), scorer.logits(X), atol=1e-8)


def test_bg_nbd_ranks_those_who_left_above_those_who_stayed():
    taught, fresh = lesson(2_000), lesson(2_000, seed=1)
    scorer = taught.scorer("btyd", None, 0)
    assert auc(fresh.y, scorer.logits(fresh.X[:, fresh.columns(scorer.names)])) > 0.7


def test_the_parts_of_bg_nbd_are_shapley_values():
    """Against the definition: the mean gain over all orders in which the three columns can be told."""
    from itertools import permutations

    taught = lesson()
    scorer = taught.scorer("btyd", None, 0)
    assert isinstance(scorer, Rhythm)
    row = taught.X[5, taught.columns(scorer.names)]
    gains = np.zeros(3)
    for order in permutations(range(3)):
        told = np.array(scorer.usual)
        for place in order:
            before = scorer.logits(told[None])[0]
            told[place] = row[place]
            gains[place] += (scorer.logits(told[None])[0] - before) / 6
    np.testing.assert_allclose(scorer.contributions(row[None])[0, :3], gains, atol=1e-9)


def test_a_rule_as_a_card_says_what_the_baseline_says():
    taught = lesson()
    rule = taught.rivals.rule
    card = taught.scorer("rule", None, 0)
    np.testing.assert_allclose(sigmoid(card.logits(taught.X[:, taught.columns(card.names)])), rule.predict(columns_of(rule, taught)))


def columns_of(rule: BestRule, taught: Taught) -> np.ndarray:
    return taught.X[:, taught.columns(rule.columns)]


def test_the_baselines_survive_json():
    taught = lesson()
    rivals = taught.rivals
    again = Rivals.from_dict(json.loads(json.dumps(rivals.to_dict())))
    for name, values in rivals.predict(taught.X, taught.names).items():
        np.testing.assert_array_equal(again.predict(taught.X, taught.names)[name], values)
    assert set(rivals.predict(taught.X, taught.names)) == {"base_rate", "best_rule", "bg_nbd"}
    once = lesson(target=Conversion("purchase", "28d", once=True))
    assert set(once.rivals.predict(once.X, once.names)) == {"base_rate", "best_rule"}


def test_an_unknown_kind_is_refused():
    with pytest.raises(SpecificationError, match="no kind of model 'oracle'"):
        kinds.from_dict({"kind": "oracle"})
    with pytest.raises(SpecificationError, match="columns that it does not have: b"):
        Scorecard.from_dict({"kind": "rule", "names": ["a"], "intercept": 0.0, "terms": [
            {"name": "b", "knots": [1.0], "points": [0.0, 1.0], "missing": 0.0, "steps": True}]})  # fmt: skip


# The regression on coarse features ----------------------------------------------------------------------------------------------------


def planted(rows: int, seed: int, *, slope=2.0, columns=40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.lognormal(size=(rows, columns))
    X[rng.random(X.shape) < 0.1] = np.nan
    chance = sigmoid(slope * np.nan_to_num(np.log(X[:, 0])) - 2.5)
    return X, (rng.random(rows) < chance).astype(np.int8)


NAMES = [f"f{number}" for number in range(40)]


def test_on_little_data_the_regression_finds_what_is_there_and_keeps_still_where_nothing_is():
    fresh, came = planted(20_000, 99)
    skills, ranges = [], []
    for seed in range(8):
        X, y = planted(300, seed)
        skills.append(brier_skill(came, sigmoid(fit_logistic(X, y, NAMES).logits(fresh))))
        X, y = planted(300, seed, slope=0.0)
        ranges.append(np.ptp(sigmoid(fit_logistic(X, y, NAMES).logits(fresh))))
    assert min(skills) > 0.05
    assert np.median(ranges) < 0.1


def test_the_regression_does_not_care_for_units_or_outliers():
    X, y = planted(500, 3)
    wild = X.copy()
    wild[np.nanargmax(X[:, 0]), 0] = 1e12
    card, other = fit_logistic(X, y, NAMES), fit_logistic(1_000 * wild, y, NAMES)
    np.testing.assert_allclose(card.logits(X), other.logits(1_000 * wild), atol=1e-6)


def test_copies_of_a_feature_count_once_if_they_are_of_one_group():
    X, y = planted(400, 4, columns=4)
    copies = np.repeat(X[:, :1], 30, axis=1)
    many = np.concatenate([copies, X[:, 1:]], axis=1)
    grouped = fit_logistic(many, y, [f"c{n}" for n in range(33)], groups=[0] * 30 + [1, 2, 3])
    single = fit_logistic(X, y, ["c0", "b", "c", "d"])
    np.testing.assert_allclose(grouped.logits(many), single.logits(X), atol=0.02)


def test_the_mean_score_of_the_training_rows_is_the_intercept():
    X, y = planted(500, 5)
    card = fit_logistic(X, y, NAMES)
    assert card.logits(X).mean() == pytest.approx(card.intercept, abs=1e-9)
    assert sigmoid(card.logits(X)).mean() == pytest.approx(y.mean(), abs=2e-3)


def test_whether_a_value_is_missing_can_be_what_counts():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(800, 1))
    absent = rng.random(800) < 0.5
    X[absent] = np.nan
    y = (rng.random(800) < np.where(absent, 0.4, 0.05)).astype(np.int8)
    (term,) = fit_logistic(X, y, ["a"]).terms
    assert term.missing > max(term.points) + 1


@pytest.mark.parametrize("X", [np.full((60, 2), np.nan), np.ones((60, 2)), np.full((60, 2), np.inf)])
def test_features_that_say_nothing_leave_the_base_rate(X):
    y = np.array([0, 0, 1] * 20, np.int8)
    card = fit_logistic(X, y, ["a", "b"])
    assert card.terms == ()
    assert sigmoid(card.logits(X[:1]))[0] == pytest.approx(20.5 / 61)


def test_labels_of_one_kind_leave_the_base_rate():
    X, _ = planted(100, 7)
    assert fit_logistic(X, np.zeros(100, np.int8), NAMES).terms == ()


def test_beyond_the_outer_knots_a_term_is_level():
    line = Term("a", (0.0, 1.0), (-1.0, 1.0), 0.5)
    assert line.of(np.array([-1e300, 1e300, np.nan])).tolist() == [-1.0, 1.0, 0.5]


def test_of_more_rows_than_are_read_ids_decide_which(monkeypatch):
    monkeypatch.setattr(scorecard, "MOST_ROWS", 200)
    X, y = planted(1_000, 8)
    ids, when = np.array([f"c{n // 2}" for n in range(1_000)]), np.tile([0, 86_400_000_000], 500)
    card = fit_logistic(X, y, NAMES, customer=ids, cutoff=when)
    mixed_up = np.random.default_rng(1).permutation(1_000)
    again = fit_logistic(X[mixed_up], y[mixed_up], NAMES, customer=ids[mixed_up], cutoff=when[mixed_up])
    for term, same in zip(card.terms, again.terms, strict=True):
        assert term.points == pytest.approx(same.points)
    # A row that is not drawn may hold anything.
    read = lowest(snapshot_hashes(ids, when, "logistic"), 200)
    wild = np.full_like(X, 1e6)
    wild[read] = X[read]
    assert fit_logistic(wild, y, NAMES, customer=ids, cutoff=when) == card
    assert fit_logistic(X, y, NAMES, customer=ids[::-1], cutoff=when) != card


# Which kind serves --------------------------------------------------------------------------------------------------------------------


CUTOFFS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=28 * month) for month in range(6)]
KINDS = ("base_rate", "rule", "btyd", "logistic", "lightgbm")


def out_of_time(best: list[str], seed=0) -> list[OutOfTime]:
    """Tests at `CUTOFFS`, at each of which one kind knows the truth and the others know less of it."""
    rng = np.random.default_rng(seed)
    found = []
    for cutoff, winner in zip(CUTOFFS, best, strict=True):
        truth = rng.normal(-1, 1.5, 400)
        y = (rng.random(400) < sigmoid(truth)).astype(np.int8)
        logits = {kind: truth if kind == winner else np.full(400, -1.0) + 0.1 * place for place, kind in enumerate(KINDS)}
        us = np.full(400, microseconds(cutoff))
        rows = Labelled(np.arange(400).astype(str), us, np.empty((400, 0)), y)
        found.append(OutOfTime(cutoff, rows, logits, {"base_rate": np.full(400, 0.3)}, 100, 30))
    return found


@pytest.fixture(scope="module")
def training() -> Training:
    return Training(made.events(), TARGET, made.FEATURES, None, "none", 0)


def test_each_test_hears_the_kind_that_the_tests_before_it_favour(training):
    tested = training.tested(out_of_time(["rule", "rule", "rule", "lightgbm", "lightgbm", "lightgbm"]))
    # The first of six tests is a rehearsal: it is not judged. By the last, two of five tests had favoured trees.
    assert [fold.cutoff for fold in tested.folds] == CUTOFFS[1:]
    said = out_of_time(["rule", "rule", "rule", "lightgbm", "lightgbm", "lightgbm"])
    for fold, test in zip(tested.folds, said[1:], strict=True):
        np.testing.assert_array_equal(fold.logit, test.logits["rule"])
    assert tested.kind == min(tested.losses, key=tested.losses.__getitem__)


def test_what_comes_later_changes_neither_kind_nor_probability_of_a_test(training):
    early = out_of_time(["logistic", "logistic", "btyd", "btyd", "btyd", "btyd"])
    late = [*early[:4], *out_of_time(["rule"] * 6, seed=9)[4:]]
    for fold, other in zip(training.tested(early).folds[:3], training.tested(late).folds[:3], strict=True):
        np.testing.assert_array_equal(fold.probability, other.probability)


def test_with_nothing_tested_before_the_regression_speaks(training):
    (only,) = out_of_time(["lightgbm"] * 6)[:1]
    tested = training.tested([only])
    np.testing.assert_array_equal(tested.folds[0].logit, only.logits["logistic"])
    assert tested.kind == "lightgbm"


def test_an_estimator_of_ones_own_does_not_compete():
    log = made.events()
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner()).fit(log, "2024-09-29")
    assert fitted.evaluation_.kinds == {}
    assert fitted.scorer_.kind == "lightgbm"


def test_a_small_log_is_answered_kept_and_explained_by_whatever_says_most(tmp_path):
    log = made_log(70, days=260, seed=5)
    events = EventLog(log.events.to_pandas(), observed=(log.start, log.end))
    fitted = Predictor(Conversion("conversion", "28d", active_within="91d")).fit(events)
    assert set(fitted.evaluation_.kinds) == set(KINDS)
    assert fitted.evaluation_.kind == fitted.scorer_.kind == min(fitted.evaluation_.kinds, key=fitted.evaluation_.kinds.__getitem__)
    scores = fitted.predict(events)
    assert set(scores["model_kind"]) == {fitted.scorer_.kind}
    asked = scores[scores["status"] == "scored"]
    assert asked["probability"].between(0, 1, inclusive="neither").all()
    again = Predictor.load(fitted.save(tmp_path))
    pd.testing.assert_series_equal(again.predict(events)["probability"], scores["probability"])
    if fitted.scorer_.kind != "base_rate":
        story = fitted.explain(events, asked["customer_id"].iloc[0]).to_frame()
        logit = fitted.scorer_.logits(story.set_index("feature").loc[list(fitted.model_.inputs), "value"].to_numpy()[None])
        assert story["contribution"].sum() + story.attrs["base"] == pytest.approx(logit[0])


def test_a_regression_and_a_calibration_are_the_same_to_the_last_digit_whatever_the_threads():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6_000, 40)).cumsum(axis=1)
    y = (rng.random(6_000) < sigmoid(X[:, 3] - X[:, 5])).astype(np.int8)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            card = fit_logistic(X, y, [f"x{place}" for place in range(40)], customer=np.arange(6_000), cutoff=np.zeros(6_000, np.int64))
            slopes = fit_slopes(X[:, :3], y.astype(float), np.ones(6_000), level=True)
        found.append((card.to_dict(), slopes[0].tolist(), slopes[1]))
    assert found[0] == found[1] == found[2]
