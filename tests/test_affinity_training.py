"""How a model of an affinity is made: which pairs teach, what they are tested against, what is held back, and what is published."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from functools import cache
from math import ceil, log2

import numpy as np
import pandas as pd
import polars as pl
import pytest

from persopredict.affinity import sampling, training
from persopredict.affinity.baselines import PairBaselines, own
from persopredict.affinity.occasions import Occasions
from persopredict.affinity.pairs import HALF_LIVES, OCCASIONS
from persopredict.affinity.population import Population
from persopredict.affinity.sampling import SALT, Held, drawn, row_hashes
from persopredict.affinity.task import PairTask
from persopredict.affinity.training import PairTraining, Standing
from persopredict.calibration import choose
from persopredict.datasets import made_tastes
from persopredict.draws import hashes, uniform
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.predictor import Predictor
from persopredict.targets import Affinity
from persopredict.times import Duration, instant, zone
from persopredict.wording import Wording
from tests.histories import made_history, states_before
from tests.made import learner

DAY = timedelta(days=1)
MADE = made_tastes(180, seed=1)
TARGET = Affinity("purchase", "28d", by="family")
CUTOFFS = [instant(text) for text in ("2024-04-11", "2024-05-09", "2024-06-06", "2024-07-04", "2024-07-18", "2024-08-01")]
UNTIL = CUTOFFS[-1] + 28 * DAY


def frame():
    return pl.DataFrame(MADE.events)


def log_of(rows, *, end=MADE.end, **settings):
    return EventLog(rows, category=("department", "family"), observed=(MADE.start, end), **settings)


def fit(log, *, cutoffs=CUTOFFS, **settings):
    return Predictor(TARGET, estimator=learner(), cutoffs=cutoffs, **settings).fit(log, UNTIL)


@cache
def events():
    return log_of(frame())


@pytest.fixture(scope="module")
def fitted():
    return fit(events())


@pytest.fixture(scope="module")
def parts():
    """What `fit` makes its models of: the training, the reading, its standings and rows."""
    found = PairTraining(events(), TARGET, (), learner(), "auto", 0)
    reading = found.reading(CUTOFFS, UNTIL)
    standings = {cutoff: Standing.of(reading, cutoff, events().zone) for cutoff in CUTOFFS}
    return found, reading, standings, found.rows(reading, standings, CUTOFFS)


def named_rows(reading, rows):
    """Each row under its cutoff, customer and category, as names."""
    keys = zip(rows.cutoff.tolist(), reading.customer_id[rows.customer], np.array(reading.categories)[rows.category], strict=True)
    return {key: (X.tobytes(), int(y), float(w)) for key, X, y, w in zip(keys, rows.X, rows.y, rows.weight, strict=True)}


def purchases():
    """The purchases that name a family, as tuples: customer, instant, family."""
    rows = frame().filter((pl.col("event") == "purchase") & (pl.col("family").str.strip_chars() != ""))
    return rows.select("customer_id", "event_at", "family").rows()


# Rows ----------------------------------------------------------------------------------------------------------------------------------


def test_every_candidate_of_everybody_asked_is_a_row_and_every_one_not_taken_a_negative(parts):
    _, reading, standings, rows = parts
    assert (rows.weight == 1).all()
    active = {
        cutoff: {who for who, at in frame().select("customer_id", "event_at").rows() if cutoff - 91 * DAY <= at < cutoff}
        for cutoff in CUTOFFS
    }
    expected = {}
    for cutoff in CUTOFFS:
        seen = {what for _, at, what in purchases() if at < cutoff}
        taken = {(who, what) for who, at, what in purchases() if cutoff <= at < cutoff + 28 * DAY}
        micro = round(cutoff.timestamp() * 1e6)
        expected |= {(micro, who, what): int((who, what) in taken) for who in active[cutoff] for what in seen}
        assert len(standings[cutoff].eligible) == len(active[cutoff])
    assert {key: y for key, (_, y, _) in named_rows(reading, rows).items()} == expected


def test_drawn_rows_are_some_of_all_and_stand_for_all(parts, monkeypatch):
    found, reading, standings, rows = parts
    monkeypatch.setattr(training, "MOST_ROWS", 6_000)
    some = found.rows(reading, standings, CUTOFFS)
    whole, few = named_rows(reading, rows), named_rows(reading, some)
    assert len(few) < 6_300 < len(whole) / 3
    assert all(whole[key][:2] == value[:2] for key, value in few.items())
    for cutoff in CUTOFFS:
        state, here, all_here = standings[cutoff].state, some.at([cutoff]), rows.at([cutoff])
        for y in (0, 1):
            for new in (True, False):
                picked, of = (
                    (each.y == y) & ((own(state, each.customer, each.category, OCCASIONS) == 0) == new) for each in (here, all_here)
                )
                true, weights = int(of.sum()), here.weight[picked]
                (weight,) = set(weights.tolist()) or {1.0}
                spread = np.sqrt(true * (weight - 1))
                assert abs(weights.sum() - true) <= 4 * spread + 1e-3


def test_a_model_of_drawn_rows_expects_as_many_takers_as_one_of_all(parts, fitted, monkeypatch):
    monkeypatch.setattr(training, "MOST_ROWS", 6_000)
    some = fit(events())
    assert some.rows_ < fitted.rows_ / 3
    for mine, other in zip(some.folds_, fitted.folds_, strict=True):
        assert mine.probability.sum() == pytest.approx(other.probability.sum(), rel=0.15)
        np.testing.assert_array_equal(mine.y, other.y)


def test_equal_numbers_are_drawn_of_each_stratum_and_all_of_a_small_one():
    rng = np.random.default_rng(0)
    taken, new = rng.random(60_000) < 0.02, rng.random(60_000) < 0.9
    values = row_hashes(
        *(np.arange(60_000, dtype=np.int32) % size for size in (997, 61)), hashes(range(997), SALT), hashes(range(61), SALT), 7
    )
    places, weight = drawn(values, taken, new, 8_000)
    stratum = taken * 2 + new
    sizes, found = np.bincount(stratum), np.bincount(stratum[places])
    assert sizes.argmin() == 2
    assert found[2] == sizes[2]
    assert (weight[stratum[places] == 2] == 1).all()
    assert found[3] == sizes[3]
    np.testing.assert_allclose(found[:2], (8_000 - sizes[2] - sizes[3]) / 2, rtol=0.06)
    np.testing.assert_allclose(np.bincount(stratum[places], weight)[:2], sizes[:2], rtol=0.06)
    assert np.all(np.diff(places) > 0)


def test_whether_a_pair_is_drawn_depends_on_its_names_and_the_moment_alone():
    """Not on numbers, on the order of rows, nor on who else is there."""
    names, goods = [f"c{number}" for number in range(400)], [f"category {number}" for number in range(20)]

    def chosen(customers, categories, moment, order):
        who, what = (codes.ravel().astype(np.int32)[order] for codes in np.indices((len(customers), len(categories))))
        values = row_hashes(who, what, hashes(customers, SALT), hashes(categories, SALT), moment)
        kept = uniform(values) < 0.3
        return {(customers[a], categories[b]) for a, b in zip(who[kept], what[kept], strict=True)}

    whole = chosen(names, goods, 5, slice(None))
    assert chosen(names[::-1], goods[::-1], 5, np.random.default_rng(0).permutation(8_000)) == whole
    assert chosen(names[:50], goods[7:], 5, slice(None)) == {(who, what) for who, what in whole if who in names[:50] and what in goods[7:]}
    later = chosen(names, goods, 6, slice(None))
    assert len(whole) == pytest.approx(2_400, abs=170)
    assert len(whole & later) == pytest.approx(0.09 * 8_000, abs=110)


# What is held --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "moments", "customers", "held"),
    [
        (0, 26, 10, (26, 1.0)),
        (400_000, 30, 2_500, (30, 1.0)),
        (600_000, 26, 50_000, (20, 1.0)),
        (4_000_000, 26, 300_000, (14, 12 / 56)),
        (4_000_000, 10, 300_000, (10, 0.3)),
        (900_000_000, 26, 40_000, (14, 0.05)),
        (900_000_000, 26, 1_500, (14, 1.0)),
    ],
)
def test_of_a_log_too_large_the_earliest_moments_go_first_then_customers_but_not_too_many(pairs, moments, customers, held):
    found = Held.of(pairs, moments, customers)
    assert (found.moments, found.share) == (held[0], pytest.approx(held[1]))


def test_who_is_held_is_a_share_of_the_customers_that_depends_on_their_ids_alone():
    ids = [f"c{number}" for number in range(20_000)]
    chosen = Held(14, 0.25).chosen(ids)
    assert len(chosen) == pytest.approx(5_000, abs=250)
    held = {ids[place] for place in chosen}
    assert {ids[::-1][place] for place in Held(14, 0.25).chosen(ids[::-1])} == held
    assert {ids[place] for place in Held(14, 0.5).chosen(ids)} > held
    assert Held(14, 1.0).chosen(ids) is None


@pytest.mark.parametrize("late", [False, True])
def test_a_model_of_some_customers_and_the_last_cutoffs_still_scores_everybody(monkeypatch, fitted, late):
    monkeypatch.setattr(sampling, "MOST_HELD", 3_000)
    monkeypatch.setattr(sampling, "_FEWEST_MOMENTS", 4)
    monkeypatch.setattr(sampling, "_FEWEST_CUSTOMERS", 20)
    log = log_of(frame().with_columns(known_at=pl.col("event_at") + pl.duration(hours=pl.col("event_id") % 3))) if late else events()
    some = fit(log)
    assert 1 < len(some.cutoffs_) < len(CUTOFFS)
    assert some.cutoffs_ == tuple(CUTOFFS[-len(some.cutoffs_) :])
    asked = {who for fold in some.folds_ for who in fold.customer_id}
    everybody = {who for fold in fitted.folds_[-len(some.folds_) :] for who in fold.customer_id}
    assert asked < everybody
    assert 0.2 < len(asked) / len(everybody) < 0.9
    monkeypatch.undo()
    found = [each.predict(events(), UNTIL)["customer_id"].to_list() for each in (some, fitted)]
    assert set(found[0]) == set(found[1])


def test_of_more_pairs_than_can_be_held_the_population_is_learnt_from_drawn_customers_and_everybody_is_scored(
    monkeypatch, everything, fitted
):
    whole, _ = everything
    monkeypatch.setattr(sampling, "MOST_HELD", 6_000)
    monkeypatch.setattr(sampling, "_FEWEST_CUSTOMERS", 20)
    reading, standing = Standing.asked(events(), TARGET, UNTIL, ())
    drawn = training.drawn_customers(events(), training.held_at(events(), TARGET, [UNTIL]))
    assert 0.2 < len(drawn) / len(reading.customer_id) < 0.8
    # The tables are those of the drawn customers, as a log without the others has them.
    past = training.read_with_past(events(), TARGET, [UNTIL], (), chosen=drawn)
    alone = training.population_of(past, UNTIL, events().zone)
    assert standing.population.customers == alone.customers < len(standing.eligible)
    places = [reading.categories.index(name) for name in past.categories]
    np.testing.assert_array_equal(standing.population.popularity[places], alone.popularity)
    # What only others have taken can be asked for.
    assert standing.population.seen.tolist() == np.flatnonzero(reading.states[UNTIL].seen).tolist()
    found = PairTask(replace(TARGET, top=10**6)).scores(events(), UNTIL, fitted.model_, Wording())
    found = found[found["not_scored_reason"].isna()]
    assert set(zip(found["customer_id"], found["category"], strict=True)) == set(zip(whole["customer_id"], whole["category"], strict=True))
    both = found.merge(whole, on=["customer_id", "category"])
    assert np.corrcoef(both["probability_x"], both["probability_y"])[0, 1] > 0.95
    assert not np.array_equal(both["probability_x"], both["probability_y"])


def test_a_later_test_of_more_pairs_than_can_be_held_looks_at_drawn_customers(monkeypatch, fitted):
    whole = fitted.test(events(), CUTOFFS[-1:])
    monkeypatch.setattr(sampling, "MOST_HELD", 6_000)
    monkeypatch.setattr(sampling, "_FEWEST_CUSTOMERS", 20)
    some = fitted.test(events(), CUTOFFS[-1:])
    assert 0.2 < len(some[0].customer_id) / len(whole[0].customer_id) < 0.9
    # Whoever took nothing says nothing of lists.
    assert fitted.compare(some, whole).customers == np.count_nonzero(some[0].relevant) > 0


def test_a_test_of_too_many_leaves_customers_out_by_their_ids(monkeypatch, parts, fitted):
    _, reading, standings, _ = parts
    monkeypatch.setattr(training, "MOST_TESTED", 3_000)
    fold = training.ranked(reading, standings[CUTOFFS[-1]], fitted.scorer_, None, PairBaselines(), (1, 1))
    whole = fitted.folds_[-1]
    assert 0 < len(fold.y) < 4_000 < len(whole.y)
    assert set(fold.customer_id) < set(whole.customer_id)
    kept = np.isin(whole.customer_id, fold.customer_id)
    np.testing.assert_array_equal(fold.relevant, whole.relevant[kept])
    np.testing.assert_array_equal(fold.y, whole.y[kept[whole.customer]])


# Baselines -----------------------------------------------------------------------------------------------------------------------------

CUSTOMERS, CATEGORIES, MOMENT, HORIZON = 50, 14, 190, 28
HISTORY = made_history(CUSTOMERS - 1, CATEGORIES, MOMENT + HORIZON, trips=10, basket=2)


@cache
def history():
    """A state, its population, and all pairs with what was taken."""
    states = states_before(HISTORY, MOMENT, customers=CUSTOMERS, categories=CATEGORIES)
    customer, category = (codes.ravel().astype(np.int32) for codes in np.indices((CUSTOMERS, CATEGORIES)))
    taken = {(who, what) for who, what, day in HISTORY if MOMENT <= day < MOMENT + HORIZON}
    y = np.array([(who, what) in taken for who, what in zip(customer, category, strict=True)], np.int8)
    return states[0], Population.of(states), customer, category, y


def days_of(who, what):
    return {day for one, other, day in HISTORY if (one, other) == (who, what) and day < MOMENT}


def popularity_of(what):
    active = {who for who, _, day in HISTORY if MOMENT - 91 <= day < MOMENT}
    return len({who for who, other, day in HISTORY if other == what and who in active and MOMENT - HORIZON <= day < MOMENT}) / len(active)


def decayed(who, what, name):
    half_life = np.inf if name == OCCASIONS else max(1, round(HALF_LIVES[name] * HORIZON))
    return sum(0.5 ** ((MOMENT - day) / half_life) for day in days_of(who, what))


def ndcg_of(score, who_counts):
    """The mean NDCG@10 of the lists in the order of a score, by a plain loop."""
    _, _, customer, category, y = history()
    found = []
    for who in who_counts:
        rows = sorted(np.flatnonzero(customer == who), key=lambda row: (-score[row], category[row]))
        relevant = int(y[rows].sum())
        if relevant:
            gain = sum(y[row] / log2(place + 2) for place, row in enumerate(rows[:10]))
            found.append(gain / sum(1 / log2(place + 2) for place in range(min(10, relevant))))
    return np.mean(found)


def test_baselines_are_lists_that_anybody_could_write_down():
    state, population, customer, category, _ = history()
    found = PairBaselines("decayed_slow", "decayed_far", 2.0).scores(state, population, customer, category)
    assert list(found) == ["popularity", "own_frequency", "own_decayed", "blended"]
    for row, (who, what) in enumerate(zip(customer, category, strict=True)):
        popular = popularity_of(what)
        assert found["popularity"][row] == pytest.approx(popular)
        assert found["own_frequency"][row] == pytest.approx(len(days_of(who, what)) + 1e-4 * popular, rel=1e-6)
        assert found["own_decayed"][row] == pytest.approx(decayed(who, what, "decayed_slow") + 1e-4 * popular, rel=1e-5)
        assert found["blended"][row] == pytest.approx(decayed(who, what, "decayed_far") + 2 * popular, rel=1e-5)


def test_between_equal_frequencies_popularity_decides_and_never_otherwise():
    state, population, customer, category, _ = history()
    score = PairBaselines().scores(state, population, customer, category)["own_frequency"]
    counts = np.array([len(days_of(who, what)) for who, what in zip(customer, category, strict=True)])
    popular = population.popularity[category]
    for who in range(CUSTOMERS):
        rows = np.flatnonzero(customer == who)
        by_score = sorted(rows, key=lambda row: (-score[row], row))
        assert by_score == sorted(rows, key=lambda row: (-counts[row], -popular[row], row))


def test_half_life_and_weight_are_those_of_the_best_lists():
    state, population, customer, category, y = history()
    found = PairBaselines.fit(state, population, customer, category, y)
    who = range(CUSTOMERS)
    popular = np.array([popularity_of(what) for what in category])
    values = {name: own(state, customer, category, name) for name in (OCCASIONS, *HALF_LIVES)}
    alone = {name: ndcg_of(value + 1e-4 * popular, who) for name, value in values.items()}
    blends = {
        (name, weight): ndcg_of(value + weight * popular, who) for name, value in values.items() for weight in (0.5, 1.0, 2.0, 4.0, 8.0)
    }
    assert alone[found.decay] == pytest.approx(max(alone.values()), abs=1e-12)
    assert blends[found.blended_decay, found.weight] == pytest.approx(max(blends.values()), abs=1e-12)
    assert len({round(value, 9) for value in (*alone.values(), *blends.values())}) > 10
    assert PairBaselines.from_dict(found.to_dict()) == found


def test_without_anybody_to_learn_from_baselines_are_the_plain_ones():
    state, population, *_ = history()
    nothing = np.empty(0, np.int32)
    assert PairBaselines.fit(state, population, nothing, nothing, np.empty(0, np.int8)) == PairBaselines()
    assert own(replace(state, pairs=state.pairs), nothing, nothing, OCCASIONS).shape == (0,)


# Folds ---------------------------------------------------------------------------------------------------------------------------------


def ended_before(cutoff, cutoffs=CUTOFFS):
    return [earlier for earlier in cutoffs if earlier + 28 * DAY <= cutoff]


def test_tests_are_a_horizon_apart_and_each_is_scored_by_a_model_of_pairs_whose_labels_had_ended(parts, fitted):
    _, _, standings, rows = parts
    assert [fold.cutoff for fold in fitted.folds_] == [*CUTOFFS[1:4], CUTOFFS[5]]
    for fold in fitted.folds_:
        taught = rows.at(ended_before(fold.cutoff))
        standing = standings[fold.cutoff]
        model = learner().fit(taught.X, taught.y)
        asked = standing.matrix(*standing.pairs(standing.eligible))
        np.testing.assert_array_equal(fold.logit, model.predict(asked, raw_score=True))
        assert (fold.train_rows, fold.train_positives) == (len(taught.y), taught.y.sum())


def test_each_fold_is_calibrated_by_the_tests_before_it_and_all_of_them_calibrate_what_is_shipped(fitted):
    for number, fold in enumerate(fitted.folds_):
        ended = [(other.logit, other.y) for other in fitted.folds_[:number] if other.cutoff + 28 * DAY <= fold.cutoff]
        calibrator = choose(ended, usable=lambda place: list(range(place))).calibrator
        np.testing.assert_array_equal(fold.probability, calibrator.apply(fold.logit))
    everything = choose([(fold.logit, fold.y) for fold in fitted.folds_], usable=lambda place: list(range(place)))
    assert fitted.calibrator_ == everything.calibrator


def test_the_shipped_model_learned_from_every_cutoff(parts, fitted):
    _, _, _, rows = parts
    assert (fitted.rows_, fitted.positives_) == (len(rows.y), rows.y.sum())
    np.testing.assert_array_equal(fitted.scorer_.logits(rows.X), learner().fit(rows.X, rows.y).predict(rows.X, raw_score=True))


def test_a_fold_tells_of_each_customer_what_was_taken_and_what_of_it_was_new(fitted):
    for fold in fitted.folds_:
        before = {(who, what) for who, at, what in purchases() if at < fold.cutoff}
        after = {(who, what) for who, at, what in purchases() if fold.cutoff <= at < fold.cutoff + 28 * DAY}
        for number, who in enumerate(fold.customer_id):
            mine = {pair for pair in after if pair[0] == who}
            assert (fold.relevant[number], fold.relevant_new[number]) == (len(mine), len(mine - before))
        pairs = list(zip(fold.customer_id[fold.customer], np.array(fold.categories)[fold.category], strict=True))
        assert fold.y.tolist() == [int(pair in after) for pair in pairs]
        assert fold.is_new.tolist() == [pair not in before for pair in pairs]


def test_what_appears_after_the_cutoff_is_nobodys_candidate_and_counts_as_missed(fitted):
    appears = {row["category"]: row["appears_at"] for row in MADE.categories.to_pylist() if row["appears_at"]}
    fold, result = fitted.folds_[0], fitted.evaluation_.folds[0]
    late = {what for what, at in appears.items() if fold.cutoff <= at < fold.cutoff + 28 * DAY}
    assert late
    assert not late & {fold.categories[place] for place in np.unique(fold.category)}
    after = {(who, what) for who, at, what in purchases() if fold.cutoff <= at < fold.cutoff + 28 * DAY}
    missed = {pair for pair in after if pair[1] in late and pair[0] in set(fold.customer_id)}
    assert missed
    assert fold.relevant.sum() - fold.y.sum() == len(missed)
    asked = result.asked
    assert asked["all"].candidates_recall == pytest.approx(1 - len(missed) / fold.relevant.sum())
    assert asked["repeat"].candidates_recall == 1
    assert asked["explore"].candidates_recall < asked["all"].candidates_recall < 1


def test_the_baselines_of_a_fold_are_chosen_at_the_last_cutoff_that_had_ended(parts, fitted):
    found, reading, standings, _ = parts
    for fold in fitted.folds_:
        chosen = found.baselines(reading.taken, standings, ended_before(fold.cutoff)[-1:])
        standing = standings[fold.cutoff]
        scores = chosen.scores(standing.state, standing.population, *standing.pairs(standing.eligible))
        for name, score in scores.items():
            np.testing.assert_array_equal(fold.baselines[name], score)


# Time ----------------------------------------------------------------------------------------------------------------------------------


def traces(predictor):
    """Everything that a fit leaves behind."""
    folds = [
        (fold.cutoff, fold.customer_id.tolist(), fold.y.tolist(), fold.logit.tolist(), fold.probability.tolist(), fold.base_rate.tolist())
        for fold in predictor.folds_
    ]
    lists = [{name: score.tolist() for name, score in fold.baselines.items()} for fold in predictor.folds_]
    return predictor.booster_.model_to_string(), predictor.calibrator_.to_dict(), predictor.baseline_, folds, lists


def test_a_fit_on_the_whole_log_is_the_fit_on_the_log_cut_at_until(fitted):
    assert traces(fit(log_of(frame().filter(pl.col("event_at") < UNTIL), end=UNTIL))) == traces(fitted)


def slow():
    """Every fifth event is known three to forty days after it happened."""
    delay = pl.duration(days=3 + pl.col("event_id") % 38)
    return frame().with_columns(known_at=pl.when(pl.col("event_id") % 5 == 0).then(pl.col("event_at") + delay).otherwise("event_at"))


def test_a_fit_knows_late_rows_only_from_when_they_were_known():
    cut = slow().filter((pl.col("event_at") < UNTIL) & (pl.col("known_at") < UNTIL))
    assert len(cut) < len(slow().filter(pl.col("event_at") < UNTIL))
    assert traces(fit(log_of(slow()), cutoffs=CUTOFFS[2:])) == traces(fit(log_of(cut, end=UNTIL), cutoffs=CUTOFFS[2:]))


def test_what_became_known_after_a_test_changes_neither_its_model_nor_its_calibration_nor_its_baselines(monkeypatch):
    cutoff, plain, taken = CUTOFFS[3], PairBaselines.fit, []

    def counted(*arguments):
        taken.append(int(arguments[-1].sum()))
        return plain(*arguments)

    monkeypatch.setattr(training.PairBaselines, "fit", counted)

    def fold_of(rows):
        return fit(log_of(rows), cutoffs=CUTOFFS[:4], calibration="platt").folds_[-1]

    after = pl.col("known_at") >= cutoff
    moved = slow().with_columns(known_at=pl.when(after).then(pl.col("known_at") + pl.duration(days=400)).otherwise("known_at"))
    one, other = fold_of(slow()), fold_of(moved)
    assert one.cutoff == other.cutoff == cutoff
    assert one.y.sum() > other.y.sum()
    assert one.relevant.sum() > other.relevant.sum()
    for name in ("customer_id", "logit", "probability", "base_rate"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name, score in one.baselines.items():
        np.testing.assert_array_equal(score, other.baselines[name])
    # Three tests, then what is shipped, which may know today's labels.
    assert taken[:3] == taken[4:7]
    assert taken[3] > taken[7]


# What is published ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(fitted):
    """Every pair that is scored at `UNTIL`, and the customers that are not."""
    whole = PairTask(replace(TARGET, top=10**6)).scores(events(), UNTIL, fitted.model_, Wording())
    scored = whole["not_scored_reason"].isna()
    return whole[scored].reset_index(drop=True), whole[~scored]


def test_everybody_asked_has_every_category_and_everybody_else_one_row_with_the_reason(everything):
    scored, others = everything
    seen = {what for _, at, what in purchases() if at < UNTIL}
    active = {who for who, at in frame().select("customer_id", "event_at").rows() if UNTIL - 91 * DAY <= at < UNTIL}
    known = {who for who, at in frame().select("customer_id", "event_at").rows() if at < UNTIL}
    assert {(who, what) for who, what in zip(scored["customer_id"], scored["category"], strict=True)} == {
        (who, what) for who in active for what in seen
    }
    assert sorted(others["customer_id"]) == sorted(known - active) != []
    assert set(others["not_scored_reason"]) == {"not_active"}
    assert others[["category", "probability", "affinity_index", "rank", "is_new", "percentile", "reasons"]].isna().all(axis=None)


def test_probabilities_are_the_calibrated_scores_of_the_pairs(everything, fitted):
    scored, _ = everything
    reading = training.read_with_past(events(), TARGET, [UNTIL], ())
    standing = Standing.of(reading, UNTIL, events().zone)
    customer, category = standing.pairs(standing.eligible)
    probability = fitted.calibrator_.apply(fitted.scorer_.booster.predict(standing.matrix(customer, category), raw_score=True))
    names = zip(reading.customer_id[customer], np.array(reading.categories)[category], strict=True)
    expected = dict(zip(names, probability, strict=True))
    found = dict(zip(zip(scored["customer_id"], scored["category"], strict=True), scored["probability"], strict=True))
    assert found == expected


def test_a_pair_is_new_where_it_was_never_taken_before(everything):
    scored, _ = everything
    before = {(who, what) for who, at, what in purchases() if at < UNTIL}
    pairs = zip(scored["customer_id"], scored["category"], strict=True)
    assert scored["is_new"].tolist() == [pair not in before for pair in pairs]


def test_ranks_are_those_among_all_categories_and_rows_come_by_customer_and_rank(everything):
    scored, _ = everything
    assert scored["customer_id"].is_monotonic_increasing
    for _, rows in scored.groupby("customer_id"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        best_first = sorted(zip(-rows["probability"], rows["category"], strict=True))
        assert rows["category"].tolist() == [name for _, name in best_first]


def test_the_index_compares_with_everybody_asked_for_the_category(everything):
    scored, _ = everything
    for _, rows in scored.groupby("category"):
        mean = sum(rows["probability"]) / len(rows)
        assert rows["affinity_index"].tolist() == pytest.approx([p / mean for p in rows["probability"]], rel=1e-6)
    assert scored.groupby("category")["affinity_index"].mean().tolist() == pytest.approx([1] * scored["category"].nunique())


def percentile_of(value, values):
    """ceil(100 · midrank / n), midranks from 1."""
    below, equal = sum(other < value for other in values), sum(other == value for other in values)
    return ceil(Fraction(100) * (below + Fraction(equal + 1, 2)) / len(values))


def test_a_percentile_is_the_rank_among_everybody_asked_for_the_category(everything):
    scored, _ = everything
    for _, rows in scored.groupby("category"):
        held = rows["probability"].to_numpy(np.float32).tolist()
        assert rows["percentile"].tolist() == [percentile_of(value, held) for value in held]


@pytest.mark.parametrize(("top", "top_new"), [(10, 3), (3, 2), (1, 0), (30, 30)])
def test_published_are_the_likeliest_and_the_likeliest_new_with_the_numbers_they_have_among_all(everything, fitted, top, top_new):
    scored, others = everything
    expected = []
    for _, rows in scored.groupby("customer_id"):
        new = rows[rows["is_new"].astype(bool)]["rank"].tolist()[:top_new]
        rows = rows[(rows["rank"] <= top) | rows["rank"].isin(new)].drop(columns=["reasons", "not_scored_reason"])
        expected += [tuple(row) for row in rows.itertuples(index=False)]
    found = PairTask(replace(TARGET, top=top, top_new=top_new)).scores(events(), UNTIL, fitted.model_, Wording())
    published = found[found["not_scored_reason"].isna()].drop(columns=["reasons", "not_scored_reason"])
    assert [tuple(row) for row in published.itertuples(index=False)] == expected
    assert len(found) == len(expected) + len(others)


def test_pieces_in_which_customers_are_scored_change_nothing(everything, fitted, monkeypatch):
    monkeypatch.setattr(training, "_BLOCK_ROWS", 700)
    whole, _ = everything
    found = PairTask(replace(TARGET, top=10**6)).scores(events(), UNTIL, fitted.model_, Wording())
    found = found[found["not_scored_reason"].isna()].reset_index(drop=True)
    assert found["category"].tolist() == whole["category"].tolist()
    for name in ("probability", "affinity_index", "percentile", "rank"):
        np.testing.assert_allclose(found[name].astype(float), whole[name].astype(float), rtol=1e-9)


def test_own_features_of_customers_stand_beside_those_of_pairs():
    mine = (Feature("sum", "value", window="28d", fallback=0), Feature("recency", fallback=None))
    fitted = fit(events(), features=mine, cutoffs=CUTOFFS[-3:])
    assert fitted.features_ == mine
    assert fitted.model_.inputs[-2:] == ("sum_value_28d", "recency_all")
    assert fitted.booster_.feature_name() == list(fitted.model_.inputs)
    standing = Standing.of(training.read_with_past(events(), TARGET, [UNTIL], mine), UNTIL, events().zone)
    customer, category = standing.pairs(standing.eligible[:5])
    sums = standing.matrix(customer, category)[:, -2]
    by_customer = {}
    for who, at, value in frame().select("customer_id", "event_at", "value").rows():
        if UNTIL - 28 * DAY <= at < UNTIL and value is not None:
            by_customer[who] = by_customer.get(who, 0) + value
    order = sorted(frame()["customer_id"].unique())
    assert sums.tolist() == pytest.approx([by_customer.get(order[number], 0) for number in customer], rel=1e-6)


def test_a_season_is_read_where_the_targets_events_reach_back_to_it_and_a_horizon_more():
    moment, horizon, target = instant("2024-08-29"), Duration(days=28), Affinity("purchase", "28d", by="category")
    then = [instant("2023-08-31"), instant("2023-09-28")]
    assert list(training.season_of(moment, horizon, zone("UTC"))) == then

    def log_from(day):
        frame = pd.DataFrame({"customer_id": ["a", "a"], "event_at": [day, "2024-08-28"], "event": "purchase", "category": "x"})
        mails = pd.DataFrame({"customer_id": ["a"], "event_at": ["2022-01-01"], "event": "mail"})
        return EventLog.union(EventLog(frame, category="category"), EventLog(mails, name="mails"))

    assert set(then) <= set(training.past_of([moment], target, log_from("2023-08-03")))
    assert not set(then) & set(training.past_of([moment], target, log_from("2023-08-04")))


def test_horizons_before_the_targets_events_were_observed_teach_nothing():
    moment, target = instant("2024-08-29"), Affinity("purchase", "28d", by="category")
    frame = pd.DataFrame({"customer_id": ["a", "a"], "event_at": ["2024-07-01", "2024-08-28"], "event": "purchase", "category": "x"})
    mails = pd.DataFrame({"customer_id": ["a"], "event_at": ["2024-01-01"], "event": "mail"})
    log = EventLog.union(EventLog(frame, category="category"), EventLog(mails, name="mails"))
    assert training.past_of([moment], target, log) == [instant(day) for day in ("2024-07-04", "2024-08-01", "2024-08-29")]


def test_pairs_and_customers_are_counted_as_they_were_known_before_a_moment():
    frame = pd.DataFrame(
        {
            "customer_id": ["a", "a", "a", "b", "c"],
            "event_at": ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-02-01"],
            "event": "purchase",
            "category": ["x", "x", "y", None, "x"],
        }
    )
    occasions = Occasions(EventLog(frame, category="category"), Affinity("purchase", "28d", by="category"), by="category")
    assert occasions.size(instant("2024-02-01")) == (2, 1)
    assert occasions.size(instant("2024-02-02")) == (3, 2)
