"""Affinity from a log to published rows: what must not leak, what must not matter, and logs as thin, odd or broad as they come."""

from datetime import timedelta
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from persopredict.affinity import training
from persopredict.affinity.training import Standing, read_with_past
from persopredict.attributes import SCHEMA, conform
from persopredict.datasets import made_tastes
from persopredict.errors import InSampleError, NotFittedError, SpecificationError, TooLittleDataError
from persopredict.events import EventLog
from persopredict.features.builders import default_features
from persopredict.features.spec import Feature
from persopredict.lookups import Lookup
from persopredict.predictor import Predictor
from persopredict.targets import Affinity, Churn
from persopredict.times import instant
from tests.conformance import QUICK, TICK
from tests.made import learner

DAY = timedelta(days=1)
MADE = made_tastes(200, seed=3)
CUTOFFS = [instant(text) for text in ("2024-05-09", "2024-06-06", "2024-07-04")]
#: Until when models learn; and the last time that they are asked about.
UNTIL, LATER = instant("2024-08-01"), instant("2024-08-29")
FAMILY = Affinity("purchase", "28d", by="family")


@cache
def frame():
    """7,000 rows, everything known when it happened."""
    return pl.DataFrame(MADE.events).with_columns(known_at="event_at")


def log_of(rows, *, end=MADE.end, **settings):
    return EventLog(rows, category=("department", "family"), observed=(MADE.start, end), **settings).limited(threads=1)


@cache
def events():
    return log_of(frame())


def predictor(target=FAMILY, *, cutoffs=CUTOFFS, estimator=None, **settings):
    return Predictor(target, cutoffs=cutoffs, estimator=learner() if estimator is None else estimator, **settings)


@pytest.fixture(scope="module")
def fitted():
    return predictor().fit(events(), UNTIL)


def rows_of(found):
    """Attributes without the time at which they were made, as pandas."""
    return conform(found).drop(["scored_at"]).to_pandas()


def scored(found):
    return rows_of(found).dropna(subset="probability").astype({"rank": int})


def codes(caught):
    return [problem.code for problem in caught.value.problems]


def renamed(condition, name, rows=None):
    """The log with another name of department and family where a condition holds."""
    rows = frame() if rows is None else rows
    return rows.with_columns(
        pl.when(condition).then(pl.lit(name, pl.String)).otherwise(level).alias(level) for level in ("department", "family")
    )


# No leakage ----------------------------------------------------------------------------------------------------------------------------


def standing_of(rows, moment):
    """Everything that is known at a moment, under names: pairs, trips, candidates, their features."""
    log = log_of(rows)
    reading = read_with_past(log, FAMILY, [moment], ())
    standing = Standing.of(reading, moment, log.zone)
    state, names = standing.state, np.array(reading.categories, object)
    pairs = {
        (reading.customer_id[who], names[what]): tuple(state.pairs[name][row].tobytes() for name in state.pairs.values)
        for row, (who, what) in enumerate(zip(state.pairs.customer, state.pairs.category, strict=True))
    }
    trips = {
        who: tuple(column[number].tobytes() for column in state.trips.values())
        for number, who in enumerate(reading.customer_id)
        if state.eligible[number]
    }
    customer, category = standing.pairs(standing.eligible)
    matrix = standing.matrix(customer, category)
    keys = zip(reading.customer_id[customer], names[category], strict=True)
    return pairs, trips, dict(zip(keys, matrix, strict=True))


def assert_same_standing(one, other):
    """To the last bit."""
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    left, right = (np.array([found[2][key] for key in one[2]]) for found in (one, other))
    np.testing.assert_array_equal(left, right)


def appended(draw, moment, names):
    """Events at or after the moment, or before it and known at it or later; of customers that are there and of new ones."""
    whose, rows = [*frame()["customer_id"].unique().sort()[:30].to_list(), "c newcomer", "\u5ba2 newcomer"], []
    for number in range(draw(st.integers(20, 80))):
        late = draw(st.booleans())
        at = moment - timedelta(hours=draw(st.integers(1, 4000))) if late else moment + draw(st.sampled_from([0, 1, 40])) * DAY
        known = moment + draw(st.sampled_from([timedelta(0), DAY])) if late else draw(st.sampled_from([moment - DAY, at]))
        name = draw(st.sampled_from(names))
        row = {
            "customer_id": draw(st.sampled_from(whose)),
            "event_at": at,
            "event": draw(st.sampled_from(["purchase", "purchase", "view"])),
        }
        rows.append(row | {"known_at": known, "department": name, "family": name, "category": name, "event_id": -1 - number, "value": 5.0})
    return pl.DataFrame(rows, schema_overrides={"event_id": pl.Int64}).with_columns(
        pl.col("event_at", "known_at").cast(frame().schema["event_at"])
    )


def with_appended(draw, moment, names, *, shift=None):
    found = appended(draw, moment, names)
    if shift is not None:
        found = found.with_columns(event_at=pl.lit(moment - shift), known_at=pl.lit(moment - shift)).cast(
            {name: frame().schema[name] for name in ("event_at", "known_at")}
        )
    return pl.concat([frame(), found], how="diagonal")


def test_nothing_at_or_after_the_moment_nor_known_later_changes_a_state_a_candidate_a_feature_or_a_published_row(fitted):
    before, published = standing_of(frame(), LATER), rows_of(fitted.predict(events(), LATER))
    assert len(before[2]) > 4000

    @QUICK
    @given(st.data())
    def check(data):
        rows = with_appended(data.draw, LATER, ["category 1", "category 12", "category 30", " ", None])
        assert_same_standing(standing_of(rows, LATER), before)
        pd.testing.assert_frame_equal(rows_of(fitted.predict(log_of(rows), LATER)), published)

    check()


def test_a_category_that_first_comes_later_changes_nothing_either():
    before = standing_of(frame(), LATER)

    @QUICK
    @given(st.data())
    def check(data):
        rows = with_appended(data.draw, LATER, ["a new one", "zz another"])
        assert_same_standing(standing_of(rows, LATER), before)

    check()


def test_the_same_events_a_little_earlier_do_change_states_and_features():
    before = standing_of(frame(), LATER)

    @QUICK
    @given(st.data())
    def check(data):
        changed = standing_of(with_appended(data.draw, LATER, ["category 1", "a new one"], shift=TICK), LATER)
        assert changed[0] != before[0]
        assert changed[1] != before[1]
        assert changed[2].keys() > before[2].keys()

    check()


# What must not matter ------------------------------------------------------------------------------------------------------------------


def traces(found):
    """Everything that a fit leaves behind, and what it says."""
    folds = [(fold.customer_id.tolist(), fold.y.tolist(), fold.probability.tolist(), fold.categories) for fold in found.folds_]
    return found.booster_.model_to_string(), found.calibrator_.to_dict(), found.evaluation_.to_dict(), folds


@pytest.fixture(scope="module")
def said(fitted):
    return rows_of(fitted.predict(events(), LATER))


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(events, id="the same log again"),
        pytest.param(lambda: log_of(frame()).limited(threads=2), id="two threads"),
        pytest.param(lambda: log_of(frame().sample(fraction=1.0, shuffle=True, seed=1)), id="rows in another order"),
    ],
)
def test_the_same_events_give_the_same_model_and_the_same_rows(again, fitted, said):
    log = again()
    found = predictor().fit(log, UNTIL)
    assert traces(found) == traces(fitted)
    pd.testing.assert_frame_equal(rows_of(found.predict(log, LATER)), said)


def test_a_predictor_that_was_saved_says_the_same(fitted, said, tmp_path):
    loaded = Predictor.load(fitted.save(tmp_path / "kept"))
    pd.testing.assert_frame_equal(rows_of(loaded.predict(events(), LATER)), said)
    assert loaded.target == fitted.target
    assert loaded.baseline_ == fitted.baseline_
    assert loaded.evaluation_.summary() == fitted.evaluation_.summary()
    assert loaded.evaluate(events()).to_frame().equals(fitted.evaluate(events()).to_frame())


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "pandas"])
def test_the_answer_is_the_log_s_own_kind_of_frame(fitted, said, kind):
    source = {"polars": frame(), "pyarrow": frame().to_arrow(), "pandas": pd.DataFrame(frame().to_dict(as_series=False))}[kind]
    found = fitted.predict(log_of(source), LATER)
    assert type(found).__module__.split(".")[0] == kind
    assert conform(found).schema.equals(SCHEMA)
    pd.testing.assert_frame_equal(rows_of(found), said)


def test_category_and_the_coarsest_level_are_one(said):
    names = [
        rows_of(predictor(Affinity("purchase", "28d", by=by, name="it"), cutoffs=CUTOFFS[1:]).fit(events(), UNTIL).predict(events(), LATER))
        for by in ("category", "department")
    ]
    pd.testing.assert_frame_equal(*names)
    assert set(names[0]["category"].dropna()) == {f"department {number}" for number in range(1, 7)}
    assert set(said["category"].dropna()) > {"category 1", "category 2"}


# In sample -----------------------------------------------------------------------------------------------------------------------------


def test_before_a_fit_nothing_can_be_asked(tmp_path):
    fresh = predictor()
    for ask in (lambda: fresh.predict(events()), lambda: fresh.evaluate(events()), lambda: fresh.save(tmp_path), lambda: fresh.booster_):
        with pytest.raises(NotFittedError, match=r"call fit\(events"):
            ask()


def test_what_the_model_has_seen_is_refused_or_marked(fitted):
    with pytest.raises(InSampleError, match="lies before 2024-08-01"):
        fitted.predict(events(), UNTIL - DAY)
    with pytest.raises(InSampleError):
        fitted.evaluate(events(), [CUTOFFS[-1]])
    assert set(scored(fitted.predict(events(), UNTIL - DAY, in_sample=True))["model_kind"]) == {"lightgbm/in_sample"}
    assert set(scored(fitted.predict(events(), UNTIL))["model_kind"]) == {"lightgbm"}
    assert fitted.evaluate(events(), [CUTOFFS[-1]], in_sample=True).target == "affinity_family_28d (in sample)"


def test_evaluate_judges_the_model_as_it_is_where_labels_have_ended_since(fitted):
    found = fitted.evaluate(events())
    assert [result.cutoff for result in found.folds] == [MADE.end - 56 * DAY, MADE.end - 28 * DAY]
    with pytest.raises(TooLittleDataError) as caught:
        fitted.evaluate(events(), [MADE.end])
    assert codes(caught) == ["no_matured_labels"]


# Whom is it asked for ------------------------------------------------------------------------------------------------------------------


def test_customers_are_told_apart_as_for_any_other_target(fitted):
    """Who has no history is left out, who isn't active has the reason, everybody else has rows."""
    churn = predictor(Churn("purchase", "28d")).fit(events(), UNTIL)
    newcomer = frame().filter(pl.col("event_at") >= LATER).with_columns(customer_id=pl.lit("newcomer"), event_id=-pl.col("event_id") - 1)
    log = log_of(pl.concat([frame(), newcomer]))
    mine, theirs = (rows_of(each.predict(log, LATER)) for each in (fitted, churn))
    known = set(frame()["customer_id"])
    assert set(mine["customer_id"]) == set(theirs["customer_id"]) == known
    active = set(frame().filter(pl.col("event_at").is_between(LATER - 91 * DAY, LATER, closed="left"))["customer_id"])
    per_customer = mine.groupby("customer_id")["status"].agg(["unique", "size"])
    assert {who for who, row in per_customer.iterrows() if row["unique"].tolist() == ["scored"]} == active
    others = mine[mine["status"] != "scored"]
    assert set(others["customer_id"]) == known - active
    assert others["customer_id"].is_unique
    assert set(others["not_scored_reason"]) == {"not_active"} == set(theirs["not_scored_reason"].dropna())
    nulls = ["category", "probability", "affinity_index", "rank", "is_new", "percentile", "band", "reasons"]
    assert others[nulls].isna().all(axis=None)


def test_one_event_of_any_kind_is_enough_to_be_asked(fitted):
    one = frame().filter(pl.col("event") == "purchase").head(1)
    more = one.with_columns(event_at=pl.lit(LATER - DAY).cast(one.schema["event_at"]), known_at=None, customer_id=pl.lit("bought once"))
    looked = more.with_columns(customer_id=pl.lit("looked once"), event=pl.lit("view"))
    rows = pl.concat([frame(), more.with_columns(event_id=pl.lit(-1)), looked.with_columns(event_id=pl.lit(-2))], how="vertical_relaxed")
    found = scored(fitted.predict(log_of(rows), LATER)).set_index("customer_id")
    bought, seen = found.loc["bought once"], found.loc["looked once"]
    assert bought["rank"].tolist()[:10] == seen["rank"].tolist()[:10] == list(range(1, 11))
    assert set(bought.loc[~bought["is_new"].astype(bool), "category"]) <= set(one["family"])
    assert seen["is_new"].all()


def test_where_nobody_is_active_everybody_has_the_reason_as_for_any_other_target(fitted):
    asleep = log_of(frame(), end=MADE.end + 400 * DAY)
    found = rows_of(fitted.predict(asleep, MADE.end + 200 * DAY))
    assert found["customer_id"].tolist() == sorted(frame()["customer_id"].unique())
    assert set(found["not_scored_reason"]) == {"not_active"}
    assert found["probability"].isna().all()


def test_before_anybody_came_there_is_nothing_to_say(fitted):
    late = frame().filter(pl.col("event_at") >= LATER)
    assert len(rows_of(fitted.predict(log_of(late), LATER))) == 0


def test_where_no_category_is_known_yet_those_asked_are_told_that_there_is_too_little_data(fitted):
    nameless = rows_of(fitted.predict(log_of(renamed(pl.lit(True), " ")), LATER))
    reasons = rows_of(fitted.predict(events(), LATER)).drop_duplicates("customer_id").set_index("customer_id")["not_scored_reason"]
    expected = reasons.fillna("too_little_data")
    assert nameless.set_index("customer_id")["not_scored_reason"].to_dict() == expected.to_dict()
    assert set(expected) == {"not_active", "too_little_data"}


def test_a_cohort_and_a_window_of_activity_leave_the_others_out():
    target = Affinity("purchase", "28d", by="family", cohort="channel = 'store'", active_within="28d")
    found = predictor(target, cutoffs=CUTOFFS[1:]).fit(events(), UNTIL).predict(events(), LATER)
    before = frame().filter(pl.col("event_at") < LATER)
    store = set(before.filter(pl.col("channel") == "store")["customer_id"])
    active = set(before.filter(pl.col("event_at") >= LATER - 28 * DAY)["customer_id"])
    assert set(scored(found)["customer_id"]) == store & active
    reasons = rows_of(found).set_index("customer_id")["not_scored_reason"].dropna()
    assert set(reasons[reasons == "not_in_cohort"].index) == set(before["customer_id"]) - store
    assert set(reasons[reasons == "not_active"].index) == store - active


def test_facts_that_change_may_be_features_and_cohorts():
    ids = frame()["customer_id"].unique().sort()
    facts = pl.DataFrame({"customer_id": ids, "tier": ["gold", "silver"] * (len(ids) // 2), "since": [MADE.start] * len(ids)})
    log = events().join(Lookup(facts, key="customer_id", columns=["tier"], valid_from="since"))
    target = Affinity("purchase", "28d", by="department", cohort="tier = 'gold'")
    found = predictor(target, cutoffs=CUTOFFS[1:], features=[Feature("distinct", "tier", fallback=0)]).fit(log, UNTIL).predict(log, LATER)
    assert set(scored(found)["customer_id"]) <= set(ids[::2])
    assert set(rows_of(found).dropna(subset="not_scored_reason")["not_scored_reason"]) == {"not_in_cohort", "not_active"}


# Which categories ----------------------------------------------------------------------------------------------------------------------


def test_events_without_a_name_are_nobody_s_category(said):
    raw = set(frame()["family"].unique())
    assert {None, " "} < raw
    assert set(said["category"].dropna()) <= raw - {None, " "}


def test_one_category_alone_can_be_asked_for():
    log = log_of(renamed(pl.col("family").str.strip_chars() != "", "only"))
    found = predictor().fit(log, UNTIL)
    rows = scored(found.predict(log, LATER))
    assert rows["customer_id"].is_unique
    assert set(rows["category"]) == {"only"}
    assert set(rows["rank"]) == {1}
    assert rows["affinity_index"].mean() == pytest.approx(1)
    assert found.evaluation_.pooled.model.all.recall_at_1 == 1


@cache
def items():
    """200 customers and 3,000 items: every other purchase is of one of three that the customer always buys, the others of any."""
    number = pl.col("customer_id").str.slice(1).cast(pl.Int64)
    usual, any_other = (number * 31 + pl.col("event_id") % 3 * 700) % 3000, (pl.col("event_id") * 7919 + 13) % 3000
    return frame().with_columns(item_id=pl.when(pl.col("event_id") % 2 == 0).then(usual).otherwise(any_other))


def test_thousands_of_rare_items_have_candidates_whose_recall_is_reported():
    log, target = log_of(items()), Affinity("purchase", "28d", by="item_id", top=500)
    found = predictor(target, cutoffs=CUTOFFS[1:]).fit(log, UNTIL)
    purchases = items().filter(pl.col("event") == "purchase").select("customer_id", "event_at", pl.col("item_id").cast(pl.String))
    (fold,) = found.folds_
    before, after = purchases.filter(pl.col("event_at") < fold.cutoff), purchases.filter(pl.col("event_at") >= fold.cutoff)
    seen = set(before["item_id"])
    counts = np.bincount(fold.customer)
    assert 100 < counts.min() <= counts.max() <= 500 < len(seen)
    assert {fold.categories[place] for place in np.unique(fold.category)} <= seen
    asked = set(fold.customer_id)
    taken = {(who, what) for who, at, what in after.rows() if at < fold.cutoff + 28 * DAY and who in asked}
    candidates = {(fold.customer_id[who], fold.categories[what]) for who, what in zip(fold.customer, fold.category, strict=True)}
    assert {pair for pair in taken if pair[1] not in seen}
    assert found.evaluation_.pooled.asked["all"].candidates_recall == pytest.approx(len(taken & candidates) / len(taken))
    assert found.evaluation_.pooled.asked["explore"].candidates_recall < 0.9
    own = {(who, what) for who, _, what in before.rows() if who in asked}
    assert own <= candidates
    rows = scored(found.predict(log, LATER)).groupby("category")
    assert rows.size().nunique() > 50
    assert rows["affinity_index"].mean().tolist() == pytest.approx([1] * len(rows))
    assert (rows["percentile"].mean() * rows.size() >= 50 * (rows.size() + 1)).all()


@pytest.mark.parametrize(("by", "names"), [("hour", range(24)), ("weekday", range(1, 8)), ("channel", ("web", "app", "store"))])
def test_the_best_moment_and_the_best_channel_are_affinities_too(by, names):
    log = log_of(frame(), timezone="Asia/Kathmandu")
    found = predictor(Affinity("purchase", "28d", by=by, top=24), cutoffs=CUTOFFS[1:]).fit(log, UNTIL)
    rows = scored(found.predict(log, LATER))
    assert set(rows["category"]) == {str(name) for name in names}
    local = pl.col("event_at").dt.convert_time_zone("Asia/Kathmandu")
    values = {"hour": local.dt.hour(), "weekday": local.dt.weekday(), "channel": pl.col("channel")}
    before = (
        frame().filter((pl.col("event") == "purchase") & (pl.col("event_at") < LATER)).select("customer_id", values[by].cast(pl.String))
    )
    taken = set(before.rows())
    assert [not new for new in rows["is_new"]] == [pair in taken for pair in zip(rows["customer_id"], rows["category"], strict=True)]


@pytest.mark.parametrize(("top", "top_new"), [(3, 0), (1, 2), (1000, 1000)])
def test_as_many_as_asked_for_are_published_and_no_more_than_there_are(top, top_new):
    target = Affinity("purchase", "28d", by="department", top=top, top_new=top_new)
    rows = scored(predictor(target, cutoffs=CUTOFFS[1:]).fit(events(), UNTIL).predict(events(), LATER))
    for _, mine in rows.groupby("customer_id"):
        assert mine["rank"].is_monotonic_increasing
        assert mine["rank"].tolist()[:top] == list(range(1, min(top, 6) + 1))
        further = mine[mine["rank"] > top]
        assert further["is_new"].all()
        assert mine["is_new"].sum() <= top_new + (mine["rank"] <= top).sum()
        assert len(further) <= top_new
    assert (rows["rank"] > top).any() == (top_new > 0 and top < 6)


# Too little ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "rows", "code", "remedy"),
    [
        ({"target": Affinity("purchase", "200d", by="family"), "cutoffs": None}, None, "log_too_short", "shorten the horizon"),
        ({"target": Affinity("purchase", "28d", by="family", cohort="channel = 'fax'")}, None, "no_eligible_customers", "widen"),
        ({}, lambda: renamed(pl.lit(True), " "), "no_category", "fill the column in"),
        ({}, lambda: renamed(pl.col("event_at") >= CUTOFFS[0], None), "too_few_positives", "coarser category"),
        ({}, lambda: renamed(pl.col("customer_id") > "c0000002", None), "too_few_positives", "wait for more history"),
        ({}, lambda: renamed(pl.col("event_at") < CUTOFFS[2] - 5 * DAY, None), "no_test_cutoff", "wait for more history"),
    ],
)
def test_too_little_is_said_with_a_code_and_what_to_do(settings, rows, code, remedy):
    with pytest.raises(TooLittleDataError) as caught:
        predictor(**settings).fit(events() if rows is None else log_of(rows()), UNTIL)
    assert codes(caught) == [code]
    assert remedy in caught.value.problems[0].remedy


def test_everything_that_does_not_fit_the_log_is_said_at_once():
    facts = pl.DataFrame({"customer_id": ["c0000001"], "tier": ["gold"], "since": [MADE.start]})
    log = events().join(Lookup(facts, key="customer_id", columns=["tier"], valid_from="since"))
    target = Affinity("purchase", "28d", by="famly", where="tier = 'gold' AND vlaue > 0", cohort="chanel = 'web'")
    with pytest.raises(SpecificationError) as caught:
        predictor(target, features=[Feature("sum", "vlaue", fallback=0), Feature("count", name="trips", fallback=0)]).fit(log, UNTIL)
    assert codes(caught) == ["unknown_category", "versioned_fact", "feature_name", "feature_column", "target_where", "target_cohort"]
    for nearest in ("'family'", "'value'", "'channel'"):
        assert f"did you mean {nearest}?" in str(caught.value)


def test_a_log_that_lacks_what_the_model_reads_is_refused(fitted):
    with pytest.raises(SpecificationError) as caught:
        fitted.predict(EventLog(frame().drop("family"), category="department", observed=(MADE.start, MADE.end)), LATER)
    assert codes(caught) == ["unknown_category"]


# Own parts -----------------------------------------------------------------------------------------------------------------------------


def linear():
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression())


@pytest.mark.parametrize("rows", [1_500_000, 4_000], ids=["all rows", "drawn rows"])
def test_a_pipeline_is_a_learner_and_its_last_step_takes_the_weights(monkeypatch, rows, tmp_path):
    monkeypatch.setattr(training, "MOST_ROWS", rows)
    found = predictor(estimator=make_pipeline(linear()), cutoffs=CUTOFFS[1:]).fit(events(), UNTIL)
    (fold,) = found.folds_
    assert found.evaluation_.pooled.pairs.model.auc > 0.7
    assert np.mean(1 / (1 + np.exp(-fold.logit))) == pytest.approx(fold.y.mean(), rel=0.2)
    assert set(scored(found.predict(events(), LATER))["model_kind"]) == {"Pipeline"}
    with pytest.raises(SpecificationError, match="not LightGBM"):
        found.save(tmp_path)


def test_a_learner_without_weights_is_refused_where_rows_are_drawn(monkeypatch):
    monkeypatch.setattr(training, "MOST_ROWS", 4_000)
    for estimator in (KNeighborsClassifier(), make_pipeline(SimpleImputer(keep_empty_features=True), KNeighborsClassifier())):
        with pytest.raises(SpecificationError) as caught:
            predictor(estimator=estimator, cutoffs=CUTOFFS[1:]).fit(events(), UNTIL)
        assert codes(caught) == ["estimator_refused"]
        assert "fit takes sample_weight" in caught.value.problems[0].remedy


def test_default_features_of_customers_may_stand_beside_those_of_pairs():
    mine = default_features(events(), until=UNTIL)[::3]
    found = predictor(features=mine, cutoffs=CUTOFFS[1:], estimator=learner(num_leaves=15)).fit(events(), UNTIL)
    assert len(found.features_) + len(found.dropped_) == len(mine) > 20
    assert found.importance_[[feature.name for feature in found.features_]].sum() > 0
    assert len(scored(found.predict(events(), LATER)))


# Quality -------------------------------------------------------------------------------------------------------------------------------


def test_planted_favourites_lead_the_lists_probabilities_hold_and_what_is_new_is_found_better_than_by_popularity():
    made = made_tastes(1_500, seed=1)
    log = EventLog(made.events, category=("department", "family"), observed=(made.start, made.end))
    found = Predictor(FAMILY, cutoffs=CUTOFFS[1:]).fit(log, UNTIL)
    lists = scored(found.predict(log, UNTIL))
    rows = pl.DataFrame(made.events).filter((pl.col("event") == "purchase") & (pl.col("event_at") < UNTIL))
    experienced = set(rows.group_by("customer_id").len().filter(pl.col("len") >= 10)["customer_id"]) & set(lists["customer_id"])
    favourite = dict(zip(made.tastes["customer_id"].to_pylist(), made.tastes["category"].to_pylist(), strict=True))
    first = lists[lists["rank"] <= 3].groupby("customer_id")["category"].agg(set)
    assert len(experienced) > 400
    assert np.mean([favourite[who] in first[who] for who in experienced]) >= 0.95
    pooled = found.evaluation_.pooled
    assert pooled.pairs.model.ece < 0.01
    assert pooled.model.explore.ndcg_at_10 > 1.05 * pooled.baselines["popularity"].explore.ndcg_at_10
    assert found.evaluation_.gains["ndcg_at_10"].difference > 0


def test_how_much_of_the_answer_is_published_is_no_part_of_the_recipe():
    wide, narrow, other = (
        Affinity("purchase", "28d", by=by, top=top, name="taste") for by, top in (("family", 10), ("family", 3), ("item_id", 10))
    )
    assert Predictor(wide).recipe == Predictor(narrow).recipe != Predictor(other).recipe


def test_a_model_of_other_features_of_pairs_is_refused_when_it_is_loaded(fitted, tmp_path, monkeypatch):
    from persopredict.affinity import task

    folder = fitted.save(tmp_path / "model")
    monkeypatch.setattr(task, "input_names", lambda features: ["one_more"])
    with pytest.raises(SpecificationError, match="fit it again"):
        Predictor.load(folder)
