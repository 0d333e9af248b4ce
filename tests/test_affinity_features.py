"""Features of pairs agree with plain loops over the history, whatever rows are asked for and in whatever pieces they are worked on."""

import re
from math import ceil

import numpy as np
import pytest

from persopredict.affinity import features as module
from persopredict.affinity.features import CONCEPTS, PAIR_FEATURES, pair_matrix
from persopredict.affinity.population import RATES, SCORES, Block, Population
from tests.histories import made_history, state_at, states_before

CUSTOMERS, CATEGORIES, MOMENT, HORIZON = 60, 7, 190, 28
HISTORY = made_history(CUSTOMERS - 1, CATEGORIES, MOMENT + HORIZON, trips=8)
NEVER = CUSTOMERS - 1
NAMES = [feature.name for feature in PAIR_FEATURES]


@pytest.fixture(scope="module")
def states():
    return states_before(HISTORY, MOMENT, customers=CUSTOMERS, categories=CATEGORIES, number=7)


@pytest.fixture(scope="module")
def population(states):
    return Population.of(states, most=5)


def everything():
    """All pairs, taken or not."""
    customer, category = np.indices((CUSTOMERS, CATEGORIES)).astype(np.int32)
    return customer.ravel(), category.ravel()


@pytest.fixture(scope="module")
def matrix(states, population):
    return pair_matrix(states[0], population, *everything())


def column(matrix, name):
    return matrix[:, NAMES.index(name)].reshape(CUSTOMERS, CATEGORIES)


def days_of(who, what=None):
    """The days before the moment on which a customer took a category, or anything."""
    return sorted({day for one, other, day in HISTORY if one == who and day < MOMENT and (what is None or other == what)})


def within(days, spans):
    return [day for day in days if day >= MOMENT - spans * HORIZON]


def decayed(days, half_life):
    return sum(0.5 ** ((MOMENT - day) / half_life) for day in days)


def ratio(part, whole):
    return part / whole if whole else np.nan


def expected_of(who):
    days = days_of(who)
    if not days:
        return 0.0
    exposure = 63 / np.log(2) * (1 - 0.5 ** (max(MOMENT - days[0], HORIZON / 4) / 63))
    return decayed(days, 63) / exposure * HORIZON


def pair_by_loop(who, what, population):
    """Everything about one pair, and about its customer, from the history alone."""
    days, trips = days_of(who, what), days_of(who)
    held = {other: days_of(who, other) for other in range(CATEGORIES) if days_of(who, other)}
    recency = MOMENT - days[-1] if days else np.nan
    gap = (days[-1] - days[0]) / (len(days) - 1) if len(days) > 1 else np.nan
    taken_in = [any(MOMENT - back * HORIZON <= day < MOMENT - (back - 1) * HORIZON for day in days) for back in range(1, 7)]
    horizons = min(6, max(1, ceil((MOMENT - trips[0]) / HORIZON))) if trips else 1
    mean, prior, expected = population.habits.mean[what], population.habits.prior[what], expected_of(who)
    habit = (len(days) + prior * mean) / (len(trips) + prior)
    recent = (decayed(days, 63) + prior * mean) / (decayed(trips, 63) + prior)
    return {
        "occasions": len(days),
        "occasions_quarter": len(within(days, 0.25)),
        **{f"occasions_{spans}": len(within(days, spans)) for spans in (1, 2, 3)},
        "presence": sum(taken_in) / horizons,
        "decayed_fast": decayed(days, 21),
        "decayed_slow": decayed(days, 63),
        "decayed_far": decayed(days, 168),
        "recency": recency,
        "tenure": MOMENT - days[0] if days else np.nan,
        "gap": gap,
        "overdue": recency / gap,
        "late": recency - gap,
        "share_of_trips": ratio(len(days), len(trips)),
        "share_of_taken": ratio(decayed(days, 63), sum(decayed(other, 63) for other in held.values())),
        "habit": habit,
        "habit_probability": 1 - (1 - habit) ** expected,
        "recent_habit_probability": 1 - (1 - recent) ** expected,
        "trips": len(trips),
        **{f"trips_{spans}": len(within(trips, spans)) for spans in (1, 2, 3)},
        "trips_expected": expected,
        "trips_recency": MOMENT - trips[-1] if trips else np.nan,
        "trips_tenure": MOMENT - trips[0] if trips else np.nan,
        "categories": len(held),
        "categories_1": sum(bool(within(other, 1)) for other in held.values()),
        "categories_new": sum(within(other, 1) == other for other in held.values()),
    }


def test_features_of_pairs_and_customers_are_what_a_loop_over_the_history_finds(matrix, population):
    for row, (who, what) in enumerate(zip(*everything(), strict=True)):
        expected = pair_by_loop(who, what, population)
        found = {name: matrix[row, NAMES.index(name)] for name in expected}
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), (who, what)


def test_every_feature_is_of_the_pair_the_category_the_customer_or_of_what_goes_together(matrix, population):
    looped = set(pair_by_loop(0, 0, population))
    about = {
        kind: {feature.name for feature in PAIR_FEATURES if feature.about == kind} for kind in ("pair", "category", "together", "customer")
    }
    assert about["pair"] | about["customer"] == looped
    assert about["together"] == set(SCORES)
    assert about["category"] == set(RATES)
    assert matrix.shape == (CUSTOMERS * CATEGORIES, len(PAIR_FEATURES))
    assert matrix.dtype == np.float32


def test_every_feature_is_of_one_concept():
    named = [name for names in CONCEPTS.values() for name in names]
    assert sorted(named) == sorted(NAMES)
    assert {feature.name: feature.concept for feature in PAIR_FEATURES} == {
        name: each for each, names in CONCEPTS.items() for name in names
    }


def test_features_of_a_category_are_the_populations(matrix, population):
    for name in RATES:
        assert column(matrix, name) == pytest.approx(np.tile(getattr(population, name), (CUSTOMERS, 1)), rel=1e-6, nan_ok=True)


def test_scores_are_those_of_the_matrices_and_unknown_beyond_their_categories(states, matrix, population):
    scores = population.scores(Block.of(states[0], np.arange(CUSTOMERS), population.columns))
    beyond = np.setdiff1d(np.arange(CATEGORIES), population.columns)
    assert len(beyond) == 2
    for name in SCORES:
        assert column(matrix, name)[:, population.columns] == pytest.approx(scores[name], abs=1e-6)
        assert np.isnan(column(matrix, name)[:, beyond]).all()


def test_a_customer_without_a_past_has_no_times_and_counts_of_0(matrix, population):
    mine = {name: column(matrix, name)[NEVER] for name in NAMES}
    for name in ("recency", "tenure", "gap", "overdue", "late", "share_of_trips", "share_of_taken", "trips_recency", "trips_tenure"):
        assert np.isnan(mine[name]).all(), name
    for name in ("occasions", "presence", "decayed_slow", "trips", "trips_expected", "categories", "habit_probability"):
        assert (mine[name] == 0).all(), name
    assert mine["habit"] == pytest.approx(population.habits.mean, rel=1e-6)


@pytest.mark.parametrize(("rows", "customers"), [(1, 4096), (10, 4096), (65_536, 1), (50, 3)])
def test_pieces_of_work_change_nothing(states, matrix, population, monkeypatch, rows, customers):
    monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(module, "CUSTOMERS", customers)
    assert pair_matrix(states[0], population, *everything()) == pytest.approx(matrix, rel=1e-5, abs=1e-6, nan_ok=True)


def test_any_rows_in_order_of_customer_have_the_features_they_have_among_all(states, matrix, population):
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(CUSTOMERS * CATEGORIES, 40, replace=False))
    rows = np.concatenate([part[::-1] for part in np.split(rows, np.flatnonzero(np.diff(rows // CATEGORIES)) + 1)])
    customer, category = everything()
    found = pair_matrix(states[0], population, customer[rows], category[rows])
    assert found == pytest.approx(matrix[rows], rel=1e-5, abs=1e-6, nan_ok=True)


def test_the_same_rows_give_the_same_features_bit_by_bit(states, matrix, population):
    assert pair_matrix(states[0], population, *everything()).tobytes() == matrix.tobytes()


def test_rows_out_of_order_are_refused(states, population):
    with pytest.raises(ValueError, match="order of customer"):
        pair_matrix(states[0], population, np.array([1, 0], np.int32), np.array([0, 0], np.int32))


def test_no_rows_are_no_features(states, population):
    nothing = np.empty(0, np.int32)
    assert pair_matrix(states[0], population, nothing, nothing).shape == (0, len(PAIR_FEATURES))


def test_without_a_past_of_the_population_scores_are_unknown():
    states = states_before([(0, 0, 99)], 100, customers=2, categories=2, number=1)
    found = pair_matrix(states[0], Population.of(states), np.array([0, 1], np.int32), np.array([0, 0], np.int32))
    assert np.isnan(found[:, NAMES.index("follows")]).all()
    assert found[:, NAMES.index("occasions")].tolist() == [1.0, 0.0]


def test_a_state_in_which_nothing_was_taken_has_rows_too():
    state = state_at([], 100, customers=2, categories=2)
    found = pair_matrix(state, Population.of([state]), np.array([0, 1], np.int32), np.array([0, 1], np.int32))
    assert found[:, NAMES.index("occasions")].tolist() == [0.0, 0.0]
    assert np.isnan(found[:, NAMES.index("habit")]).all()


def test_names_and_labels_are_fit_for_tables_and_for_people():
    assert len(set(NAMES)) == len(NAMES)
    assert len({feature.label for feature in PAIR_FEATURES}) == len(NAMES)
    for feature in PAIR_FEATURES:
        assert re.fullmatch(r"[a-z0-9_]{1,63}", feature.name)
        assert " " in feature.label
        assert "_" not in feature.label
