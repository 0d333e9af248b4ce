"""Reasons of pairs: they add up, three of them are three things, and who else is explained does not matter."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from persopredict import explain
from persopredict.affinity import training
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.affinity.reasons import as_told, reasons, split
from persopredict.affinity.task import PairTask
from persopredict.concepts import concept
from persopredict.datasets import made_tastes
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.explain import TOP, Pairs
from persopredict.features.spec import Feature
from persopredict.predictor import Predictor
from persopredict.targets import Affinity
from persopredict.times import instant
from persopredict.wording import Wording
from tests.made import learner

MADE = made_tastes(200, seed=3)
TARGET = Affinity("purchase", "28d", by="family", top=4, top_new=2)
CUTOFFS = [instant(text) for text in ("2024-05-09", "2024-06-06", "2024-07-04")]
UNTIL, LATER = instant("2024-08-01"), instant("2024-08-29")
NAMES = [feature.name for feature in PAIR_FEATURES]
#: All that a pair's own past says where it has none, and how it is told.
NEVER, FACE = (
    [
        *("occasions", "occasions_quarter", "occasions_1", "occasions_2", "occasions_3", "presence"),
        *("decayed_fast", "decayed_slow", "decayed_far", "recency", "tenure", "gap", "overdue", "late", "share_of_trips", "share_of_taken"),
    ],
    "occasions",
)
HABIT = ["share_of_trips", "share_of_taken", "habit", "habit_probability", "recent_habit_probability"]
DECAYED = {"decayed_fast": "occasions_1", "decayed_slow": "occasions_3", "decayed_far": "occasions"}
READS_IT = ["follows", "corrected_by_taken", "corrected_by_own"]


@cache
def events():
    return EventLog(MADE.events, category=("department", "family"), observed=(MADE.start, MADE.end)).limited(threads=1)


def fit(**settings):
    chosen = {"estimator": learner(n_estimators=30), "cutoffs": CUTOFFS} | settings
    return Predictor(TARGET, **chosen).fit(events(), UNTIL)


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.fixture(scope="module")
def rows(fitted):
    """What is published at `LATER` of those asked."""
    found = fitted.predict(events(), LATER).to_pandas()
    return found[found["status"] == "scored"].reset_index(drop=True)


def asked(fitted, **chosen):
    return PairTask(TARGET).asked(events(), LATER, fitted.model_, **chosen)


@pytest.fixture(scope="module")
def published(fitted):
    return asked(fitted)


def told(rows):
    return [list(found) for found in rows["reasons"]]


# They add up ---------------------------------------------------------------------------------------------------------------------------


def test_contributions_and_base_add_up_to_the_raw_score_of_every_published_row(fitted, rows, published):
    assert published.customer_id.tolist() == rows["customer_id"].tolist()
    assert published.category.tolist() == rows["category"].tolist()
    values = fitted.scorer_.contributions(published.X)
    logits = values.sum(axis=1)
    np.testing.assert_allclose(logits, fitted.scorer_.logits(published.X), atol=1e-6)
    np.testing.assert_allclose(fitted.calibrator_.apply(logits), rows["probability"].astype(float), atol=1e-6)
    assert np.ptp(values[:, -1]) < 1e-9


def by_hand(values, X):
    """The reasons of one pair as {face: contribution}, by a plain loop: what says the same is added up."""
    groups = {}
    values = values.copy()
    for decayed, plain in DECAYED.items():
        values[NAMES.index(plain)] += values[NAMES.index(decayed)]
        values[NAMES.index(decayed)] = 0
    for number, feature in enumerate(PAIR_FEATURES):
        group = feature.concept
        if X[0] == 0 and feature.name in NEVER:
            group = "never"
        elif X[0] > 0 and feature.name in (*HABIT, *READS_IT):
            group = "habit"
        groups.setdefault(group, []).append((feature.name, values[number]))
    sums = {name: sum(value for _, value in members) for name, members in groups.items()}
    ranked = sorted(sums, key=lambda name: -abs(sums[name]))
    speaking = [[name for name in ranked if way * sums[name] > 1e-9][:TOP] for way in (1, -1)]
    faces = {
        name: FACE if name == "never" else max(members, key=lambda member: member[1] * np.sign(sums[name]))[0]
        for name, members in groups.items()
    }
    return {faces[name]: sums[name] for name in ranked if name in speaking[0] + speaking[1]}


def test_each_reason_is_the_sum_of_all_that_says_the_same(fitted, rows, published):
    values = fitted.scorer_.contributions(published.X)
    kinds = set()
    for row, found in enumerate(told(rows)):
        expected = by_hand(values[row], published.X[row])
        assert [reason["feature"] for reason in found] == list(expected)
        assert [reason["contribution"] for reason in found] == pytest.approx(list(expected.values()), abs=1e-6)
        assert [reason["direction"] for reason in found] == ["for" if value > 0 else "against" for value in expected.values()]
        kinds.add(bool(published.X[row, 0] == 0))
    assert kinds == {True, False}
    assert len(rows) > 500


def test_what_is_told_otherwise_of_new_pairs_adds_up_to_the_same(fitted, published):
    values = fitted.scorer_.contributions(published.X)
    new = published.X[:, 0] == 0
    found = split(values, new, len(NAMES))
    assert found.shape == (len(values), len(as_told(PAIR_FEATURES)))
    np.testing.assert_allclose(found.sum(axis=1), values[:, :-1].sum(axis=1), atol=1e-12)
    assert (found[~new, len(NAMES) :] == 0).all()
    assert (found[np.ix_(new, [NAMES.index(name) for name in (*NEVER, *READS_IT)])] == 0).all()


def test_a_reason_has_the_value_that_the_model_reads(rows, published):
    for row, found in enumerate(told(rows)):
        for reason in found:
            value = published.X[row, NAMES.index(reason["feature"])]
            assert reason["value"] is None if np.isnan(value) else np.float32(reason["value"]) == value


def test_sentences_speak_of_the_category_of_the_horizon_and_of_what_is_usual(fitted, rows, published):
    """As they stand in a run, in both languages: no text with a hole, no number that the value is not."""
    popular, ever = (NAMES.index(name) for name in ("popularity", "popularity_ever"))
    beside = {"goes_together": ever, **dict.fromkeys(("follows", "habit_probability", "recent_habit_probability"), popular)}
    words, seen = Wording(), set()
    for place, (category, found) in enumerate(zip(rows["category"], told(rows), strict=True)):
        for reason in found:
            feature = PAIR_FEATURES[NAMES.index(reason["feature"])]
            assert reason["label"].startswith(f"{category}: ") == (feature.about != "customer")
            assert not set("{}_") & set(reason["label"])
            if feature.name == "occasions_1" and reason["value"] > 1:
                assert reason["label"] == f"{category}: chosen {reason['value_text']} times in the last 28 days"
                seen.add(feature.name)
            if feature.name in beside and reason["value"] is not None:
                assert reason["label"].endswith(f"(all customers: {words.percent(published.X[place, beside[feature.name]])})")
                seen.add(feature.name)
    assert "goes_together" in seen
    assert len(seen) > 1
    spanish = PairTask(TARGET).reasons(published, fitted.scorer_.contributions(published.X), Wording("es")).to_pylist()
    assert [[reason["feature"] for reason in row] for row in spanish] == [[reason["feature"] for reason in row] for row in told(rows)]
    assert not {reason["label"] for row in spanish for reason in row} & {reason["label"] for row in told(rows) for reason in row}


# Three reasons are three reasons -------------------------------------------------------------------------------------------------------


def test_of_what_was_never_taken_its_own_past_is_one_reason_and_says_so(rows):
    new = rows["is_new"].astype(bool)
    found = [[reason for reason in row if reason["feature"] in NEVER] for row in told(rows[new])]
    assert {len(own) for own in found} <= {0, 1}
    said = [own[0] for own in found if own]
    assert len(said) > 50
    assert {(reason["feature"], reason["value"]) for reason in said} == {(FACE, 0.0)}


def test_no_reason_is_told_by_what_nobody_can_picture(rows):
    assert not {reason["feature"] for row in told(rows) for reason in row} & set(DECAYED)


def test_no_two_reasons_of_a_row_are_of_one_concept(rows):
    by_name = {False: as_told(PAIR_FEATURES)[: len(NAMES)], True: list(PAIR_FEATURES)}
    for new, found in zip(rows["is_new"].astype(bool), told(rows), strict=True):
        about = [concept(by_name[new][NAMES.index(reason["feature"])]) for reason in found]
        assert len(set(about)) == len(about) > 0
        assert max([reason["direction"] for reason in found].count(way) for way in ("for", "against")) <= TOP


def test_features_that_go_up_and_down_together_are_of_one_concept(fitted):
    """Spearman's correlation over pairs that were taken: above 0.95 only what has another name for people, the last time and the count."""
    whole = asked(fitted)
    taken = whole.X[whole.X[:, 0] > 0]
    ranks = np.argsort(np.argsort(np.nan_to_num(taken, nan=-1.0), axis=0, kind="stable"), axis=0, kind="stable").astype(float)
    with np.errstate(invalid="ignore"):
        same = np.abs(np.corrcoef(ranks.T)) > 0.95
    features = as_told(PAIR_FEATURES)[: len(NAMES)]
    apart = {
        frozenset((one.concept, other.concept))
        for row, one in enumerate(features)
        for column, other in enumerate(features)
        if same[row, column] and one.concept != other.concept
    }
    assert apart <= {frozenset(("often", "due"))}


# Who else is explained ---------------------------------------------------------------------------------------------------------------


def test_the_pieces_in_which_pairs_are_explained_change_nothing(fitted, rows, monkeypatch):
    monkeypatch.setattr(explain, "_CHUNK", 7)
    monkeypatch.setattr(training, "_BLOCK_ROWS", 700)
    found = fitted.predict(events(), LATER).to_pandas()
    found = found[found["status"] == "scored"]
    assert_same(told(found), told(rows))


def assert_same(found, expected):
    """The same reasons in the same order; numbers to what another way of computing them leaves."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert [(reason["feature"], reason["label"], reason["value_text"], reason["direction"]) for reason in one] == [
            (reason["feature"], reason["label"], reason["value_text"], reason["direction"]) for reason in other
        ]
        for name in ("value", "contribution"):
            assert [reason[name] for reason in one] == pytest.approx([reason[name] for reason in other], rel=1e-5, abs=1e-6)


def test_a_customer_explained_alone_has_the_reasons_that_are_published(fitted, rows):
    task = PairTask(TARGET)
    for customer in rows["customer_id"].unique()[[0, 7, -1]]:
        alone = asked(fitted, customer_id=customer)
        mine = rows[rows["customer_id"] == customer]
        assert alone.customer_id.tolist() == mine["customer_id"].tolist()
        assert alone.category.tolist() == mine["category"].tolist()
        found = task.reasons(alone, fitted.scorer_.contributions(alone.X), Wording())
        assert_same(found.to_pylist(), told(mine))


def test_one_pair_has_the_reasons_that_are_published_and_any_other_has_some(fitted, rows):
    task, first = PairTask(TARGET), rows.iloc[0]
    pair = asked(fitted, customer_id=first["customer_id"], category=first["category"])
    assert (pair.customer_id.tolist(), pair.category.tolist()) == ([first["customer_id"]], [first["category"]])
    found = task.reasons(pair, fitted.scorer_.contributions(pair.X), Wording())
    assert_same(found.to_pylist(), told(rows.head(1)))
    mine = set(rows.loc[rows["customer_id"] == first["customer_id"], "category"])
    other = next(name for name in sorted(set(rows["category"])) if name not in mine)
    beyond = asked(fitted, customer_id=first["customer_id"], category=other)
    assert beyond.X.shape == (1, len(NAMES))


def test_rows_in_any_order_keep_their_reasons(fitted, published):
    task, order = PairTask(TARGET), np.random.default_rng(0).permutation(len(published.X))
    values = fitted.scorer_.contributions(published.X)
    whole = task.reasons(published, values, Wording()).to_pylist()
    names, numbers = np.unique(published.category[order].astype(str), return_inverse=True)
    about = Pairs(numbers, names.tolist(), TARGET.horizon, TARGET.by)
    mixed = reasons(values[order], published.X[order], published.features, Wording(), about).to_pylist()
    assert mixed == [whole[place] for place in order]


def test_the_same_night_twice_gives_the_same_reasons_to_the_bit(fitted, rows):
    again = fitted.predict(events(), LATER).to_pandas()
    assert told(again[again["status"] == "scored"]) == told(rows)


# What is explained -------------------------------------------------------------------------------------------------------------------


def test_only_published_pairs_are_explained_and_some_at_a_time(fitted, rows, monkeypatch):
    seen, original = [], fitted.scorer_.contributions

    def counted(X):
        seen.append(len(X))
        return original(X)

    monkeypatch.setattr(fitted.scorer_, "contributions", counted, raising=False)
    monkeypatch.setattr(explain, "_CHUNK", 100)
    fitted.predict(events(), LATER)
    assert sum(seen) == len(rows)
    assert 50 < min(size for size in seen if size) <= max(seen) <= 100


def test_who_has_no_score_has_no_reasons(fitted):
    found = fitted.predict(events(), LATER).to_pandas()
    others = found[found["status"] != "scored"]
    assert len(others) > 5
    assert others["reasons"].isna().all()
    assert found.loc[found["status"] == "scored", "reasons"].notna().all()


OWN = {
    "no trees": make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=1000)),
    "trees of linear models": learner(linear_tree=True, linear_lambda=1.0),
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_a_model_that_can_not_tell_has_no_reasons_but_everything_else(own):
    found = fit(estimator=own).predict(events(), LATER).to_pandas()
    scored = found[found["status"] == "scored"]
    assert len(scored) > 500
    assert {len(row) for row in scored["reasons"]} == {0}


def test_features_of_one_s_own_are_reasons_beside_those_of_pairs():
    mine = (Feature("sum", "value", window="28d", fallback=0), Feature("distinct", "channel", fallback=0))
    found = fit(features=mine).predict(events(), LATER).to_pandas()
    named = {reason["feature"] for row in told(found[found["status"] == "scored"]) for reason in row}
    assert "sum_value_28d" in named
    assert named & set(NAMES)


# What can be asked -------------------------------------------------------------------------------------------------------------------


def test_a_sample_is_drawn_by_id_and_a_smaller_one_is_part_of_it(fitted, published):
    some, fewer = asked(fitted, sample=40), asked(fitted, sample=10)
    assert len(set(some.customer_id)) == 40
    assert len(set(fewer.customer_id)) == 10
    whole = list(zip(published.customer_id, published.category, strict=True))
    pairs = [list(zip(part.customer_id, part.category, strict=True)) for part in (some, fewer)]
    assert pairs[0] == [pair for pair in whole if pair[0] in set(some.customer_id)]
    assert set(pairs[1]) < set(pairs[0])
    assert len(asked(fitted, sample=10**6).X) == len(whole)


def test_one_category_can_be_asked_of_everybody(fitted, published):
    name = published.category[0]
    found = asked(fitted, category=name)
    assert set(found.category) == {name}
    assert found.customer_id.tolist() == sorted(set(published.customer_id))


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"customer_id": "nobody"}, "not asked for affinity_family_28d at 2024-08-29: no_history"),
        ({"category": "category 33"}, "nobody had taken family 'category 33' before 2024-08-29; did you mean 'category"),
    ],
)
def test_what_can_not_be_asked_is_told(fitted, chosen, text):
    with pytest.raises(SpecificationError, match=text) as caught:
        asked(fitted, **chosen)
    assert "nobody'" not in str(caught.value)


def test_who_is_not_asked_is_told_why(fitted):
    found = fitted.predict(events(), LATER).to_pandas()
    who = found.loc[found["not_scored_reason"] == "not_active", "customer_id"].iloc[0]
    with pytest.raises(SpecificationError, match="not_active") as caught:
        asked(fitted, customer_id=who)
    assert who not in str(caught.value)
