"""The predictor: what a fit may know, how it is tested, what it says of whom, and how it is kept."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from persopredict import datasets
from persopredict.attributes import SCHEMA, conform
from persopredict.calibration import choose
from persopredict.errors import InSampleError, NotFittedError, SpecificationError, TooLittleDataError
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.predictor import Predictor
from persopredict.snapshots import snapshots
from persopredict.targets import Cancellation, Churn, Conversion
from persopredict.training import matrix
from tests import made

START, END = made.log().start, made.END
UNTIL = made.NIGHTS[1]
DAY = timedelta(days=1)


def log_of(rows, *, end=END, **settings):
    """A log observed until `end`, whatever it holds."""
    return EventLog(rows, observed=(START, end), **settings)


def before(rows, moment, column="event_at"):
    return rows.filter(pl.col(column) < moment)


def traces(predictor):
    """Everything that a fit leaves, as text."""
    folds = [
        [fold.cutoff, fold.customer_id, fold.y, fold.logit, fold.probability, sorted(fold.baselines.items()), fold.train_rows]
        for fold in predictor.folds_
    ]
    with np.printoptions(threshold=10**9, floatmode="unique"):
        return predictor.booster_.model_to_string(), json.dumps(predictor.specs()), predictor.calibrator_.to_dict(), repr(folds)


def codes(error):
    return [problem.code for problem in error.value.problems]


@pytest.fixture(scope="module")
def churn():
    """Trained until four weeks before the log's end."""
    return made.predictor(made.CHURN).fit(made.events(), UNTIL)


@pytest.fixture(scope="module")
def scores(churn):
    return churn.predict(made.events(), END).to_pandas()


# Law 1: nothing known at or after `until` -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [made.CHURN, Conversion("conversion", "14d", gap="7d")], ids=lambda target: target.type)
def test_a_fit_on_the_whole_log_is_the_fit_on_the_log_cut_at_until(target):
    whole, cut = log_of(made.frame()), log_of(before(made.frame(), UNTIL), end=UNTIL)
    assert traces(made.predictor(target).fit(whole, UNTIL)) == traces(made.predictor(target).fit(cut, UNTIL))


def test_the_default_features_are_those_of_the_log_cut_at_until():
    later = made.frame().filter(pl.col("event_at") >= UNTIL).with_columns(channel=pl.lit("brand new"), category=pl.lit("brand new"))
    estimator = made.learner(n_estimators=3)
    fits = [
        Predictor(made.CHURN, estimator=estimator).fit(log_of(rows, end=end), UNTIL)
        for rows, end in ((pl.concat([before(made.frame(), UNTIL), later]), END), (before(made.frame(), UNTIL), UNTIL))
    ]
    assert len(fits[0].features_) > 60
    assert traces(fits[0]) == traces(fits[1])


@pytest.fixture(scope="module")
def late():
    """Every fifth event is known three to forty days after it happened."""
    slow = pl.col("event_id") % 5 == 0
    delay = pl.duration(days=3 + pl.col("event_id") % 38)
    return made.frame().with_columns(known_at=pl.when(slow).then(pl.col("event_at") + delay).otherwise(pl.col("event_at")))


@pytest.mark.parametrize("calibration", ["auto", "platt"])
def test_a_fit_knows_late_rows_only_from_when_they_were_known(late, calibration):
    def fit(rows, end):
        return Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), calibration=calibration).fit(
            log_of(rows, end=end), UNTIL
        )

    cut = before(before(late, UNTIL), UNTIL, "known_at")
    assert len(cut) < len(before(late, UNTIL))
    assert traces(fit(late, END)) == traces(fit(cut, UNTIL))


def test_a_fold_knows_late_rows_only_from_when_they_were_known(late):
    """Rows that become known after a test cutoff change its labels, but neither its model nor its calibrator nor its features."""

    def fold_at(rows, cutoff):
        fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), calibration="platt").fit(log_of(rows), END)
        return next(fold for fold in fitted.folds_ if fold.cutoff == cutoff)

    cutoff = END - timedelta(days=84)
    known_later = pl.col("known_at") >= cutoff
    moved = late.with_columns(known_at=pl.when(known_later).then(pl.col("known_at") + 400 * DAY).otherwise(pl.col("known_at")))
    one, other = fold_at(late, cutoff), fold_at(moved, cutoff)
    assert (one.y != other.y).any()
    np.testing.assert_array_equal(one.logit, other.logit)
    np.testing.assert_array_equal(one.probability, other.probability)
    assert (one.probability != 1 / (1 + np.exp(-one.logit))).any()


def test_nothing_after_as_of_changes_a_prediction(churn):
    whole, cut = log_of(made.frame()), log_of(before(made.frame(), UNTIL), end=UNTIL)
    one, other = (churn.predict(log, UNTIL).drop("scored_at") for log in (whole, cut))
    assert one.equals(other)


def test_without_a_declared_end_cutoffs_lie_on_midnights():
    """The log then ends with its last event, in the middle of a day."""
    fitted = made.predictor(made.CHURN).fit(EventLog(made.frame()), "2024-12-31")
    assert {(cutoff.hour, cutoff.minute, cutoff.microsecond) for cutoff in fitted.cutoffs_} == {(0, 0, 0)}


# Law 5: validation looks forward --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits():
    """(target, predictor) of targets whose labels overlap and have gaps."""
    targets = (made.CHURN, Conversion("conversion", "28d", gap="7d"), Conversion("conversion", "7d"))
    return [(target, made.predictor(target).fit(made.events(), END)) for target in targets]


def test_test_cutoffs_lie_a_horizon_apart_and_end_with_the_last(fits):
    for target, fitted in fits:
        tests = [fold.cutoff for fold in fitted.folds_]
        assert tests[-1] == fitted.cutoffs_[-1]
        assert len(tests) > 2
        assert all(later - earlier >= target.horizon.approximate for earlier, later in itertools.pairwise(tests))


def test_cutoffs_overlap_but_every_label_ends_by_until(fits):
    for target, fitted in fits:
        step = fitted.cutoffs_[1] - fitted.cutoffs_[0]
        assert step == timedelta(days=max(1, target.horizon.days // 2))
        assert fitted.cutoffs_[-1] + target.gap.approximate + target.horizon.approximate == END


def test_each_fold_learns_from_the_cutoffs_whose_labels_had_ended_and_from_all_of_them(fits):
    for target, fitted in fits:
        table = snapshots(made.events(), fitted.cutoffs_, made.FEATURES, [target], until=END).to_pandas()
        for fold in fitted.folds_:
            ended = table["cutoff"] + target.gap.approximate + target.horizon.approximate <= fold.cutoff
            labels = table.loc[ended, f"label_{target.name}"]
            assert (fold.train_rows, fold.train_positives) == (len(labels), labels.sum())


def test_a_fold_s_scores_are_those_of_a_model_fitted_on_these_rows_alone(fits):
    for target, fitted in fits[:2]:
        fold = fitted.folds_[-2]
        table = snapshots(made.events(), fitted.cutoffs_, made.FEATURES, [target], until=END).to_pandas()
        names = [feature.name for feature in made.FEATURES]
        ended = table["cutoff"] + target.gap.approximate + target.horizon.approximate <= fold.cutoff
        model = made.learner().fit(table.loc[ended, names].to_numpy(), table.loc[ended, f"label_{target.name}"])
        asked = table[table["cutoff"] == fold.cutoff]
        np.testing.assert_array_equal(fold.logit, model.predict(asked[names].to_numpy(), raw_score=True))
        assert fold.customer_id.tolist() == asked["customer_id"].tolist()


def test_each_fold_is_calibrated_by_the_tests_before_it_whose_labels_had_ended(fits):
    for target, fitted in fits:
        for number, fold in enumerate(fitted.folds_):
            ended = [
                (other.logit, other.y)
                for other in fitted.folds_[:number]
                if other.cutoff + target.gap.approximate + target.horizon.approximate <= fold.cutoff
            ]
            within = [
                [
                    place
                    for place in range(later)
                    if fitted.folds_[place].cutoff + target.gap.approximate + target.horizon.approximate <= fitted.folds_[later].cutoff
                ]
                for later in range(len(ended))
            ]
            expected = choose(ended, usable=within.__getitem__).calibrator if ended else choose([]).calibrator
            np.testing.assert_array_equal(fold.probability, expected.apply(fold.logit))


def test_the_shipped_model_learned_from_every_usable_cutoff(fits):
    for target, fitted in fits:
        table = snapshots(made.events(), fitted.cutoffs_, made.FEATURES, [target], until=END).to_pandas()
        X, y = table[[feature.name for feature in made.FEATURES]].to_numpy(), table[f"label_{target.name}"]
        assert (fitted.rows_, fitted.positives_) == (len(y), y.sum())
        np.testing.assert_array_equal(fitted.scorer_.logits(X), made.learner().fit(X, y).predict(X, raw_score=True))


def test_the_shipped_calibrator_is_that_of_all_folds():
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), calibration="platt").fit(made.events(), END)
    logits, y = (np.concatenate([getattr(fold, name) for fold in fitted.folds_]) for name in ("logit", "y"))
    assert fitted.calibrator_ == type(fitted.calibrator_).fit("platt", logits, y)


# The same again -------------------------------------------------------------------------------------------------------------------


def test_two_fits_are_the_same_to_the_byte_and_another_seed_is_not():
    def text(seed):
        estimator = made.learner(subsample=0.5, subsample_freq=1)
        return traces(Predictor(made.CHURN, features=made.FEATURES, estimator=estimator, random_state=seed).fit(made.events(), UNTIL))

    assert text(0) == text(0)
    assert text(0)[0] != text(1)[0]


def test_the_order_of_the_rows_does_not_matter(churn):
    shuffled = log_of(made.frame().sample(fraction=1.0, shuffle=True, seed=1))
    assert traces(made.predictor(made.CHURN).fit(shuffled, UNTIL)) == traces(churn)


def test_a_fit_that_fails_leaves_the_fitted_model_as_it_was(tmp_path):
    fitted = made.predictor(made.CHURN).fit(made.events(), UNTIL)
    expected = traces(fitted)
    with pytest.raises(TooLittleDataError, match="log_too_short"):
        fitted.fit(made.events(), "2024-02-01")
    fitted.estimator = made.learner(num_leaves=1)
    with pytest.raises(SpecificationError, match="refused"):
        fitted.fit(made.events(), END)
    assert traces(fitted) == expected


# In sample ------------------------------------------------------------------------------------------------------------------------


def test_before_a_fit_nothing_can_be_asked(tmp_path):
    fresh = made.predictor(made.CHURN)
    for ask in (
        lambda: fresh.predict(made.events()),
        lambda: fresh.attributes(made.events(), END),
        lambda: fresh.evaluate(made.events()),
        lambda: fresh.test(made.events(), [END]),
        lambda: fresh.explain(made.events(), "c0000001"),
        lambda: fresh.probability(np.zeros((1, 3))),
        lambda: fresh.booster_,
        lambda: fresh.importance_,
        lambda: fresh.save(tmp_path / "never"),
    ):
        with pytest.raises(NotFittedError, match=r"call fit\(events"):
            ask()
    assert repr(fresh) == "Predictor(churn_purchase_28d, not fitted)"
    assert not (tmp_path / "never").exists()


def test_what_the_model_has_seen_is_refused_or_marked(churn):
    with pytest.raises(InSampleError, match="lies before 2024-09-29"):
        churn.predict(made.events(), UNTIL - DAY)
    seen = churn.predict(made.events(), UNTIL - DAY, in_sample=True)
    assert set(seen["model_kind"].drop_nulls()) == {"lightgbm/in_sample"}
    assert set(churn.predict(made.events(), UNTIL)["model_kind"].drop_nulls()) == {"lightgbm"}
    assert set(churn.predict(made.events(), UNTIL, in_sample=True)["model_kind"].drop_nulls()) == {"lightgbm"}


def test_evaluate_judges_the_model_as_it_is_on_later_cutoffs(churn):
    found = churn.evaluate(made.events())
    assert [result.cutoff for result in found.folds] == [UNTIL]
    fold = churn.test(made.events(), [UNTIL])[0]
    assert found.pooled.model.log_loss == pytest.approx(-np.mean(np.log(np.where(fold.y == 1, fold.probability, 1 - fold.probability))))
    with pytest.raises(InSampleError):
        churn.evaluate(made.events(), [UNTIL - DAY])
    assert churn.evaluate(made.events(), [UNTIL - 28 * DAY], in_sample=True).target == "churn_purchase_28d (in sample)"
    with pytest.raises(TooLittleDataError) as caught:
        churn.evaluate(made.events(), [END])
    assert codes(caught) == ["no_matured_labels"]


# Predicting -----------------------------------------------------------------------------------------------------------------------


def test_every_customer_known_has_one_row_scored_or_with_a_reason(scores):
    known = before(made.frame(), END)["customer_id"].unique().sort().to_list()
    assert scores["customer_id"].tolist() == known
    scored = scores["status"] == "scored"
    assert 100 < scored.sum() < len(scores)
    assert scores["probability"].notna().equals(scored)
    assert set(scores.loc[~scored, "not_scored_reason"]) == {"not_active"}
    assert scores.loc[~scored, ["probability", "percentile", "band", "reasons"]].isna().all(axis=None)
    assert scores.loc[scored, "reasons"].map(len).between(1, 3).all()


def test_probabilities_are_the_calibrated_scores_of_the_features_at_as_of(churn, scores):
    table = snapshots(made.events(), [END], churn.features_, [made.CHURN]).to_arrow()
    expected = churn.calibrator_.apply(churn.booster_.predict(matrix(table, [f.name for f in churn.features_]), raw_score=True))
    found = scores.dropna(subset="probability").set_index("customer_id")["probability"]
    np.testing.assert_array_equal(found[table.column("customer_id").to_pylist()], expected)


def test_by_default_everything_observed_is_used(churn):
    found = churn.predict(made.events())
    assert found["as_of"].unique().to_list() == [END]


def test_scores_hold_until_the_label_s_end():
    fitted = made.predictor(Conversion("conversion", "14d", gap="7d")).fit(made.events(), UNTIL)
    assert fitted.predict(made.events(), UNTIL)["valid_until"][0] == UNTIL + 21 * DAY


@pytest.mark.parametrize(
    ("target", "reasons"),
    [
        (Conversion("conversion", "28d", once=True), {"already_converted"}),
        (Conversion("conversion", "28d", cohort="channel = 'store'"), {"not_in_cohort"}),
        (Conversion("conversion", "28d", active_within="28d"), {"not_active"}),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_who_is_not_asked_is_told_why(target, reasons):
    fitted = made.predictor(target).fit(made.events(), UNTIL)
    found = fitted.predict(made.events(), UNTIL)
    assert set(found["not_scored_reason"].drop_nulls()) == reasons
    assert found.filter(pl.col("not_scored_reason").is_not_null())["probability"].null_count() == len(found) - found["probability"].count()


def test_a_night_on_which_nobody_is_eligible_scores_nobody(churn):
    found = churn.predict(log_of(made.frame(), end=END + 400 * DAY), END + 300 * DAY)
    assert found["probability"].null_count() == len(found) > 0
    assert set(found["status"]) == {"not_scored"}


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "pandas", "path", "query"])
def test_the_answer_is_the_log_s_own_kind_of_frame(churn, scores, kind, tmp_path):
    rows = made.frame()
    rows.write_parquet(tmp_path / "rows.parquet")
    source = {
        "polars": rows,
        "pyarrow": rows.to_arrow(),
        "pandas": pd.DataFrame(rows.to_dict(as_series=False)),
        "path": tmp_path / "rows.parquet",
        "query": f"SELECT * FROM '{tmp_path / 'rows.parquet'}'",
    }[kind]
    found = churn.predict(log_of(source), END)
    assert type(found).__module__.split(".")[0] == (kind if kind in ("polars", "pyarrow") else "pandas")
    table = conform(found)
    assert table.schema.equals(SCHEMA)
    assert table.drop(["scored_at"]).equals(conform(scores).drop(["scored_at"]))


# Own parts ------------------------------------------------------------------------------------------------------------------------


def test_own_features_are_used_as_they_are_given(churn):
    assert churn.features_ == made.FEATURES[:2]
    assert churn.booster_.feature_name() == [feature.name for feature in churn.features_]
    assert set(churn.importance_.index) == set(churn.booster_.feature_name())


def test_features_without_a_rule_s_columns_are_judged_against_rules_and_bg_nbd_all_the_same():
    fitted = Predictor(made.CHURN, features=[Feature("sum", "value", window="28d", fallback=0)], estimator=made.learner()).fit(
        made.events(), UNTIL
    )
    assert (fitted.features_[0].name, fitted.model_.inputs) == ("sum_value_28d", ("sum_value_28d",))
    assert fitted.baseline_.rule.name == "recency_purchase_all"
    assert all(set(fold.baselines) == {"base_rate", "best_rule", "bg_nbd"} for fold in fitted.folds_)


def test_a_window_longer_than_the_history_is_left_out_and_said():
    long = Feature("count", window="364d", fallback=0)
    fitted = Predictor(made.CHURN, features=[*made.FEATURES, long], estimator=made.learner()).fit(made.events(), END)
    assert (fitted.features_, fitted.dropped_) == (made.FEATURES, (long,))
    with pytest.raises(TooLittleDataError) as caught:
        Predictor(made.CHURN, features=[long], estimator=made.learner()).fit(made.events(), UNTIL)
    assert codes(caught) == ["no_feature"]


def test_own_cutoffs_are_used_where_their_labels_have_ended():
    given = [f"2024-{month:02d}-01" for month in range(5, 11)]
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=made.learner(), cutoffs=given).fit(made.events(), UNTIL)
    assert [f"{cutoff:%Y-%m-%d}" for cutoff in fitted.cutoffs_] == given[:5]


@pytest.mark.parametrize(
    "estimator",
    [
        made.learner(num_leaves=15, class_weight="balanced"),
        make_pipeline(SimpleImputer(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=10),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_classifier_can_be_the_learner(estimator, tmp_path):
    fitted = Predictor(made.CHURN, features=made.FEATURES, estimator=estimator).fit(made.events(), UNTIL)
    found = fitted.predict(made.events(), END).drop_nulls("probability")
    assert fitted.evaluation_.pooled.model.auc > 0.7
    trees = isinstance(estimator, lgb.LGBMClassifier)
    assert set(found["model_kind"]) == {"lightgbm" if trees else type(estimator).__name__}
    assert (found["reasons"].list.len() > 0).all() == trees
    again = Predictor(made.CHURN, features=made.FEATURES, estimator=estimator).fit(made.events(), UNTIL)
    assert again.predict(made.events(), END).drop("scored_at").equals(fitted.predict(made.events(), END).drop("scored_at"))
    if not trees:
        for ask in (lambda: fitted.save(tmp_path), lambda: fitted.explain(made.events(), found["customer_id"][0]), lambda: fitted.booster_):
            with pytest.raises(SpecificationError, match="not LightGBM"):
                ask()


def test_everything_wrong_with_a_predictor_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        Predictor("churn", features=[], estimator=LinearRegression(), calibration="plat")
    assert codes(caught) == ["no_predict_proba", "calibration", "target", "features"]
    assert "did you mean 'platt'?" in str(caught.value)


# Too little -----------------------------------------------------------------------------------------------------------------------


def some(customers):
    return made.frame().filter(pl.col("customer_id") <= f"c{customers:07d}")


@pytest.mark.parametrize(
    ("target", "rows", "until", "code", "count"),
    [
        (made.CHURN, made.frame(), "2024-02-01", "log_too_short", None),
        (made.RARE, made.frame(rare=True), END, "too_few_positives", 6),
        (Churn("stockout", "1d", active_within="28d"), some(60), END, "too_few_negatives", None),
        (Conversion("conversion", "28d", cohort="channel = 'nowhere'"), made.frame(), END, "no_eligible_customers", 0),
        (made.CHURN, some(1), END, "too_few_positives", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_too_little_is_said_with_its_count_and_what_to_do(target, rows, until, code, count):
    with pytest.raises(TooLittleDataError, match=f"{target.name} can't be trained") as caught:
        made.predictor(target).fit(log_of(rows), until)
    problem = caught.value.problems[0]
    assert problem.code == code
    assert problem.remedy
    assert count in (None, problem.count)
    assert not any(name in str(caught.value) for name in ("c0000001", "c0000002", "c0000003"))


def test_a_test_needs_something_to_train_on_before_it():
    """Nobody converts in the first months: enough to learn from in all, nothing before the first tests."""
    rows = made.frame()
    rows = rows.filter((pl.col("event") != "conversion") | (pl.col("event_at") >= END - 27 * DAY))
    with pytest.raises(TooLittleDataError) as caught:
        made.predictor(Conversion("conversion", "28d")).fit(log_of(rows), END)
    assert codes(caught) == ["no_test_cutoff"]
    assert caught.value.problems[0].remedy


def test_own_cutoffs_too_few_are_told_where_they_may_lie():
    with pytest.raises(TooLittleDataError, match="28d and more before 2024-09-29") as caught:
        Predictor(made.CHURN, cutoffs=["2024-08-01", "2024-09-20"]).fit(made.events(), UNTIL)
    assert codes(caught) == ["log_too_short"]
    assert caught.value.problems[0].count == 1


def test_an_event_that_the_log_never_holds_is_named_with_the_nearest():
    with pytest.raises(SpecificationError, match="did you mean 'purchase'"):
        made.predictor(Churn("purchases", "28d")).fit(made.events(), END)


# Other logs -----------------------------------------------------------------------------------------------------------------------


def trained(target, source, *, days, **settings):
    log = EventLog(source, **settings)
    fitted = Predictor(target, estimator=made.learner(n_estimators=10)).fit(log)
    found = conform(fitted.predict(log))
    assert found.column("probability").null_count < found.num_rows
    assert fitted.trained_until_ > fitted.cutoffs_[-1] + days * DAY - DAY
    return fitted, found


def test_subscriptions_with_ends_that_compete_integer_ids_and_dates_without_hours():
    target = Cancellation("cancel", "30d", start="subscription_start", competing="move_away")
    fitted, found = trained(target, datasets.subscriptions(400, ids="integer", dates_only=True), days=30)
    assert fitted.evaluation_.pooled.positives > 25
    assert all(name.isdecimal() for name in found.column("customer_id").to_pylist())
    assert "not_active" in found.column("not_scored_reason").to_pylist()


def test_loan_applications_with_uuids_in_another_time_zone():
    target = Conversion("approved", "28d", active_within="28d", name="approval")
    source = datasets.loan_applications(1500, days=400, ids="uuid")
    fitted, _ = trained(target, source, days=28, timezone="America/Mexico_City")
    assert fitted.evaluation_.grade in ("A", "B")
    assert {cutoff.hour for cutoff in fitted.cutoffs_} <= {5, 6}


def test_a_news_site_with_one_kind_of_event_no_values_and_a_horizon_of_a_week():
    fitted, _ = trained(Churn("click", "7d", active_within="21d"), datasets.news_site(600).drop(["value", "order_id"]), days=7)
    assert fitted.evaluation_.pooled.model.auc > 0.6


def test_horizons_of_hours_have_cutoffs_on_whole_hours():
    fitted, _ = trained(Conversion("click", "36h", active_within="7d"), datasets.news_site(300), days=1)
    assert {(cutoff.minute, cutoff.second, cutoff.microsecond) for cutoff in fitted.cutoffs_} == {(0, 0, 0)}


def test_columns_that_never_vary_teach_nothing_and_break_nothing():
    rows = made.frame().with_columns(value=pl.lit(1.0), channel=pl.lit("web"), category=pl.lit("all"), order_id=None, item_id=pl.lit(7))
    fitted, _ = trained(made.CHURN, rows, days=28)
    assert fitted.evaluation_.grade in ("A", "B")


# Keeping --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A predictor that dropped a feature, and the folder that it was saved in."""
    long = Feature("count", window="364d", fallback=0)
    fitted = Predictor(made.CHURN, features=[*made.FEATURES, long], estimator=made.learner(), calibration="platt").fit(made.events(), UNTIL)
    return fitted, fitted.save(tmp_path_factory.mktemp("models") / "deep" / "churn")


def test_a_predictor_is_kept_as_three_texts(kept):
    _, folder = kept
    assert sorted(file.name for file in folder.iterdir()) == ["calibrator.json", "model.txt", "specs.json"]
    specs = json.loads((folder / "specs.json").read_text("utf-8"))
    assert set(specs) >= {"target", "features", "cutoffs", "trained_until", "timezone", "random_state", "recipe", "baseline", "versions"}
    assert not any(f"c{number:07d}" in file.read_text("utf-8") for file in folder.iterdir() for number in range(1, 500))


def test_a_loaded_predictor_predicts_the_same_bits(kept):
    fitted, folder = kept
    loaded = Predictor.load(folder)
    one, other = (predictor.predict(made.events(), END).drop("scored_at") for predictor in (fitted, loaded))
    assert one.equals(other)
    assert loaded.specs() == fitted.specs()
    assert loaded.dropped_ == fitted.dropped_ != ()
    assert (loaded.recipe_, str(loaded.evaluation_)) == (fitted.recipe, str(fitted.evaluation_))
    assert repr(loaded) == repr(fitted)


def test_a_loaded_predictor_is_saved_as_it_was(kept, tmp_path):
    _, folder = kept
    again = Predictor.load(folder).save(tmp_path)
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["model.txt", "calibrator.json", "specs.json"])
@pytest.mark.parametrize("damage", ["", "{}", "[]", "half", "\udcff"])
def test_a_damaged_file_is_named(kept, tmp_path, name, damage):
    _, folder = kept
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if damage == "half" else damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(SpecificationError) as caught:
        Predictor.load(tmp_path)
    assert [(problem.code, problem.source) for problem in caught.value.problems] == [("unreadable_file", name)]


def test_files_that_are_missing_are_all_named(tmp_path):
    (tmp_path / "specs.json").write_text("{}")
    with pytest.raises(SpecificationError, match=r"model.txt, calibrator.json missing"):
        Predictor.load(tmp_path)


def test_files_of_different_models_are_refused(kept, tmp_path):
    _, folder = kept
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    specs = json.loads((tmp_path / "specs.json").read_text("utf-8"))
    specs["columns"] = specs["columns"][::-1]
    (tmp_path / "specs.json").write_text(json.dumps(specs), "utf-8")
    with pytest.raises(SpecificationError) as caught:
        Predictor.load(tmp_path)
    assert codes(caught) == ["other_model"]


def test_dates_without_hours_are_scored_at_the_midnight_after_the_last_as_they_were_trained():
    days = [
        (f"c{number}", f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}")
        for number in range(200)
        for day in range(number % 5, 280, 3 + number % 9)
    ]
    table = pd.DataFrame(days, columns=["customer_id", "event_at"]).assign(event="visit")
    table["event_at"] = pd.to_datetime(table["event_at"]).dt.date
    log = EventLog(table)
    fitted = Predictor(Churn("visit", "7d"), estimator=made.learner()).fit(log, "2024-10-01")
    last = max(table["event_at"])
    pd.testing.assert_series_equal(fitted.predict(log)["probability"], fitted.predict(log, as_of=last + timedelta(days=1))["probability"])


def test_a_notebook_shows_the_grade(churn):
    assert repr(churn) == f"Predictor(churn_purchase_28d, grade {churn.evaluation_.grade}, trained until 2024-09-29)"
    assert "<table" in churn._repr_html_()


def test_what_is_no_log_no_wording_and_no_number_of_customers_is_refused(churn):
    fitted = churn
    frame, log = made.frame(), made.events()
    for call in (fitted.predict, fitted.evaluate, fitted.explain, made.predictor(made.CHURN).fit):
        with pytest.raises(SpecificationError, match="DataFrame is no EventLog; make one of it"):
            call(frame)
    for sample in (0, -1, 2.5, "x", True):
        with pytest.raises(SpecificationError, match="give how many customers to draw, 1 or more, or None"):
            fitted.explain(log, sample=sample)
    for call in (fitted.predict, fitted.explain, lambda *_, wording: fitted.evaluation_.plot("gain", wording=wording)):
        with pytest.raises(SpecificationError, match="'es' is no wording; give a Wording"):
            call(log, wording="es")
    with pytest.raises(SpecificationError, match="NaT is not a date or time"):
        fitted.predict(log, as_of=pd.NaT)
    for size in (2.5, "x", True):
        with pytest.raises(SpecificationError, match="audience_not_a_number"):
            fitted.evaluation_.audience(size)


class _Odd(LogisticRegression):
    """A classifier whose probabilities are none."""

    def __init__(self, how="one"):
        super().__init__()
        self.how = how

    def predict_proba(self, X):
        found = super().predict_proba(X)
        return {"one": found[:, 1:], "few": found[1:], "three": found[:, [0, 1, 1]], "large": found * 2, "nan": found * np.nan}[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [("one", r"shape \(\d+, 1\)"), ("few", "for "), ("three", r", 3\)"), ("large", "not between 0 and 1"), ("nan", "not between 0 and 1")],
)
def test_an_estimator_whose_probabilities_are_none_is_refused(how, said):
    features = (Feature("count", window="28d", fallback=0),)
    with pytest.raises(SpecificationError, match=said) as caught:
        Predictor(made.CHURN, features=features, estimator=_Odd(how)).fit(made.events())
    assert [problem.code for problem in caught.value.problems] == ["bad_probabilities"]


def test_the_remedy_for_too_few_of_a_label_points_the_right_way():
    once = pd.DataFrame({"customer_id": range(400), "event": "signup"})
    once["event_at"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(once["customer_id"] // 4, "D")
    log = EventLog(once, observed=("2024-01-01", "2024-04-10"))
    with pytest.raises(TooLittleDataError, match="nobody came back: of an event that happens once, ask for a conversion"):
        Predictor(Churn("signup", "7d", active_within=None)).fit(log)
    daily = pd.DataFrame([(who, day) for who in range(60) for day in range(80)], columns=["customer_id", "day"]).assign(event="visit")
    daily["event_at"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(daily["day"], "D")
    with pytest.raises(TooLittleDataError, match="shorten the horizon"):
        Predictor(Churn("visit", "7d")).fit(EventLog(daily))
    with pytest.raises(TooLittleDataError, match="shorten the horizon"):
        Predictor(Conversion("visit", "7d")).fit(EventLog(daily))
