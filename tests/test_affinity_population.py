"""Population tables agree with plain loops over the history, and their matrices with the regressions that they are."""

from datetime import timedelta

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from persopredict.affinity import population as module
from persopredict.affinity.pairs import State
from persopredict.affinity.population import (
    EASE_PENALTY,
    REGRESSIONS,
    SCORES,
    Block,
    Habits,
    Population,
    at_least_once,
    ease,
    expected_trips,
)
from tests.histories import START, made_history, state_at, states_before

CUSTOMERS, CATEGORIES, MOMENT, HORIZON = 80, 6, 190, 28
NEWCOMERS = [(CUSTOMERS - 1 - who, (who + visit) % CATEGORIES, MOMENT - 20 + 4 * visit) for who in range(5) for visit in range(4)]
HISTORY = made_history(CUSTOMERS - 5, CATEGORIES, MOMENT + HORIZON) + NEWCOMERS


@pytest.fixture(scope="module")
def states():
    return states_before(HISTORY, MOMENT, customers=CUSTOMERS, categories=CATEGORIES, number=7, active_within=40)


@pytest.fixture(scope="module")
def population(states):
    return Population.of(states)


def took(start, end, history=HISTORY):
    """Who took what in [start, end), as a set."""
    return {(who, what) for who, what, day in history if start <= day < end}


def active(moment, within=40):
    return {who for who, _, day in HISTORY if moment - within <= day < moment}


def test_rates_are_shares_of_the_eligible_customers(population):
    now, then = active(MOMENT), active(MOMENT - HORIZON)
    last, before = took(MOMENT - HORIZON, MOMENT), took(MOMENT - 2 * HORIZON, MOMENT - HORIZON)
    for what in range(CATEGORIES):
        takers = sum((who, what) in last for who in now)
        takers_before = sum((who, what) in before for who in then)
        assert population.takers[what] == takers
        assert population.popularity[what] == takers / len(now)
        assert population.popularity_before[what] == takers_before / len(then)
        assert population.popularity_ever[what] == sum((who, what) in took(0, MOMENT) for who in now) / len(now)
        assert population.trend[what] == pytest.approx((takers / len(now) + 5 / len(now)) / (takers_before / len(then) + 5 / len(now)))
    assert population.customers == len(now) < CUSTOMERS
    assert len(now ^ then) > 0


def test_adoption_and_repeat_rate_are_of_those_eligible_a_horizon_before(population):
    then, ever = active(MOMENT - HORIZON), took(0, MOMENT - HORIZON)
    last, before = took(MOMENT - HORIZON, MOMENT), took(MOMENT - 2 * HORIZON, MOMENT - HORIZON)
    without = [[who for who in then if (who, what) not in ever] for what in range(CATEGORIES)]
    takers = [[who for who in then if (who, what) in before] for what in range(CATEGORIES)]
    new = [sum((who, what) in last for who in without[what]) for what in range(CATEGORIES)]
    again = [sum((who, what) in last for who in takers[what]) for what in range(CATEGORIES)]
    adoption, repeat = sum(new) / sum(map(len, without)), sum(again) / sum(map(len, takers))
    for what in range(CATEGORIES):
        assert population.adoption[what] == pytest.approx((new[what] + 50 * adoption) / (len(without[what]) + 50))
        assert population.repeat_rate[what] == pytest.approx((again[what] + 5 * repeat) / (len(takers[what]) + 5))


def test_rates_of_now_are_of_the_last_quarter_of_a_horizon(population):
    now, week, before = active(MOMENT), took(MOMENT - HORIZON // 4, MOMENT), took(0, MOMENT - HORIZON // 4)
    without = [[who for who in now if (who, what) not in before] for what in range(CATEGORIES)]
    new = [sum((who, what) in week for who in without[what]) for what in range(CATEGORIES)]
    adoption = sum(new) / sum(map(len, without))
    for what in range(CATEGORIES):
        recent = sum((who, what) in week for who in now) / len(now)
        assert population.popularity_now[what] == pytest.approx(recent)
        assert population.trend_now[what] == pytest.approx((recent + 5 / len(now)) / (population.popularity[what] / 4 + 5 / len(now)))
        assert population.adoption_now[what] == pytest.approx((new[what] + 50 * adoption) / (len(without[what]) + 50))


def test_a_base_rate_is_close_to_popularity_and_never_0_or_1():
    history = [(who, 0, 190) for who in range(40)] + [(0, 1, 189)]
    population = Population.of(states_before(history, 191, customers=40, categories=3))
    assert population.popularity.tolist() == [1.0, 1 / 40, 0.0]
    assert np.all((population.base_rate > 0) & (population.base_rate < 1))
    assert population.base_rate == pytest.approx(population.popularity, abs=0.01)


def test_twice_the_same_customers_are_the_same_population(states, monkeypatch):
    monkeypatch.setattr(module, "ENOUGH_EXPERIENCED", 1)
    population = Population.of(states)
    twins = [(who + CUSTOMERS * twin, what, day) for who, what, day in HISTORY for twin in (0, 1)]
    twice = Population.of(states_before(twins, MOMENT, customers=2 * CUSTOMERS, categories=CATEGORIES, number=7, active_within=40))
    for name in ("popularity", "popularity_before", "popularity_ever"):
        assert getattr(twice, name) == pytest.approx(getattr(population, name))
    assert twice.habits.mean == pytest.approx(population.habits.mean)
    assert twice.habits.prior == pytest.approx(population.habits.prior)
    for name in SCORES:
        assert twice.weights[name] == pytest.approx(population.weights[name], abs=1e-5)


def test_habits_are_the_moments_of_the_shares_of_experienced_customers(states):
    state = states[0]
    shares, trips = [], []
    for who in sorted(active(MOMENT)):
        days = {day for one, _, day in HISTORY if one == who and day < MOMENT}
        if len(days) >= 10:
            trips.append(len(days))
            shares.append(
                [len({day for one, other, day in HISTORY if (one, other) == (who, what) and day < MOMENT}) for what in range(CATEGORIES)]
            )
    assert len(trips) >= 30
    share = np.array(shares) / np.array(trips)[:, None]
    habits = Habits.of(state)
    for what in range(CATEGORIES):
        mean, variance = np.mean(share[:, what]), np.var(share[:, what])
        chance = mean * (1 - mean) * np.mean([1 / number for number in trips])
        assert habits.mean[what] == pytest.approx(mean)
        assert habits.prior[what] == pytest.approx(np.clip(mean * (1 - mean) / max(variance - chance, 1e-6) - 1, 1, 500), rel=1e-4)


def test_habits_find_the_strength_that_shares_were_drawn_with():
    rng = np.random.default_rng(0)
    customers, mean, prior = 4000, np.array([0.3, 0.05]), np.array([8.0, 40.0])
    trips = rng.integers(10, 60, customers)
    taken = rng.binomial(trips[:, None], rng.beta(mean * prior, (1 - mean) * prior, (customers, 2)))
    habits = Habits.of(bare_state(trips, taken))
    assert habits.mean == pytest.approx(mean, rel=0.05)
    assert habits.prior == pytest.approx(prior, rel=0.15)


def bare_state(trips, taken):
    """A state of which only the occasions are known, at `taken` (customers, categories)."""
    who, what = np.nonzero(taken)
    template = state_at([(0, 0, 0)], 1, customers=1, categories=1)
    pairs = type(template.pairs)(who.astype(np.int32), what.astype(np.int32), {"occasions": taken[who, what].astype(np.float32)})
    everyone = np.ones(len(trips), bool)
    return State(template.moment, 28.0, len(trips), taken.shape[1], pairs, {"occasions": trips.astype(np.float32)}, everyone)


def test_a_habit_lies_between_the_share_of_trips_and_the_mean_of_all():
    habits = Habits(np.array([0.2]), np.array([10.0]))
    shares = habits.share(np.array([0.0, 10.0, 100.0]), np.array([0.0, 10.0, 100.0]), np.array([0, 0, 0]))
    assert shares == pytest.approx([0.2, 12 / 20, 102 / 110])


def test_a_steady_customer_is_expected_to_keep_the_pace():
    history = [(0, 0, day) for day in range(1, 400, 4)] + [(1, 0, day) for day in range(360, 400, 2)]
    state = state_at(history, 400, customers=3, categories=1)
    often, new, never = expected_trips(state, np.arange(3))
    assert often == pytest.approx(28 / 4, rel=0.1)
    assert new == pytest.approx(28 / 2, rel=0.1)
    assert never == 0


def test_one_trip_today_is_not_a_trip_a_day():
    state = state_at([(0, 0, 399)], 400, customers=1, categories=1)
    assert expected_trips(state, np.array([0]))[0] == pytest.approx(28 / 7, rel=0.1)


def test_at_least_once_is_one_minus_never():
    assert at_least_once(np.array([0.25]), np.array([3.0]))[0] == pytest.approx(1 - 0.75**3)
    assert at_least_once(np.array([1.0]), np.array([0.5]))[0] < 1


def dense(state, name, who):
    """A value of all pairs of some customers, cell by cell."""
    known = {
        (customer, category): value
        for customer, category, value in zip(state.pairs.customer, state.pairs.category, state.pairs[name], strict=True)
    }
    return np.array([[known.get((one, what), 0.0) for what in range(state.categories)] for one in who], np.float64)


def test_what_goes_together_is_each_category_told_by_all_others(states, population):
    state = states[0]
    taken = (dense(state, "occasions", np.flatnonzero(state.eligible)) > 0).astype(float)
    for what in range(CATEGORIES):
        others = [other for other in range(CATEGORIES) if other != what]
        penalty = np.sqrt(EASE_PENALTY * len(taken)) * np.eye(len(others))
        stacked, told = np.vstack([taken[:, others], penalty]), np.append(taken[:, what], np.zeros(len(others)))
        best = np.linalg.lstsq(stacked, told)[0]
        assert population.weights["goes_together"][others, what] == pytest.approx(best)
        assert population.weights["goes_together"][what, what] == 0


def test_ease_of_categories_never_taken_together_is_nothing():
    assert ease(np.diag([5.0, 7.0]), 1.0).tolist() == [[0, 0], [0, 0]]


def own_by_loop(state, who):
    """The probability that the next horizon's trips contain a category, customer by customer."""
    habits, half_life = Habits.of(state), round(2.25 * HORIZON)
    found = []
    for one in who:
        trips, tenure = float(state.trips["decayed_slow"][one]), float(state.trips["tenure"][one])
        expected = trips / (half_life / np.log(2) * (1 - 0.5 ** (max(tenure, HORIZON / 4) / half_life))) * HORIZON
        decayed = dense(state, "decayed_slow", [one])[0]
        found.append(
            [1 - (1 - (n + m * mu) / (trips + m)) ** expected for n, mu, m in zip(decayed, habits.mean, habits.prior, strict=True)]
        )
    return np.array(found)


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression.name)
@pytest.mark.parametrize("number", [2, 7])
def test_a_regression_is_ridge_over_all_its_blocks(states, regression, number):
    inputs, targets = [], []
    for k in range(1, min(regression.blocks, number - 1) + 1):
        who = np.flatnonzero(states[k].eligible)
        own = own_by_loop(states[k], who)
        decayed = [np.log1p(dense(states[k], name, who)) for name in ("decayed_slow", "decayed_fast")]
        ones = np.ones((len(who), 1))
        inputs.append(np.hstack([own, ones] if regression.reads == "own" else [*decayed, ones]))
        taken = took(MOMENT - k * HORIZON, MOMENT - (k - 1) * HORIZON)
        label = np.array([[float((one, what) in taken) for what in range(CATEGORIES)] for one in who])
        targets.append(label - own if regression.corrects else label)
    x, y = np.vstack(inputs), np.vstack(targets)
    stacked = np.vstack([x, np.sqrt(regression.penalty * len(x)) * np.eye(x.shape[1])])
    best = np.linalg.lstsq(stacked, np.vstack([y, np.zeros((x.shape[1], CATEGORIES))]))[0]
    assert Population.of(states[:number]).weights[regression.name] == pytest.approx(best, abs=1e-5)


def test_a_score_is_inputs_times_weights_and_a_correction_adds_to_the_own_probability(states, population):
    state, who = states[0], np.array([3, 4, 11])
    scores = population.scores(Block.of(state, who, population.columns))
    own, ones = own_by_loop(state, who), np.ones((3, 1))
    decayed = np.hstack([*(np.log1p(dense(state, name, who)) for name in ("decayed_slow", "decayed_fast")), ones])
    assert tuple(scores) == SCORES
    assert scores["goes_together"] == pytest.approx((dense(state, "occasions", who) > 0) @ population.weights["goes_together"])
    assert scores["follows"] == pytest.approx(decayed @ population.weights["follows"])
    assert scores["corrected_by_taken"] == pytest.approx(own + decayed @ population.weights["corrected_by_taken"], abs=1e-6)
    assert scores["corrected_by_own"] == pytest.approx(own + np.hstack([own, ones]) @ population.weights["corrected_by_own"], abs=1e-6)


def test_only_the_scores_asked_for_are_made(states, population):
    assert list(population.scores(Block.of(states[0], np.array([0]), population.columns), ("follows",))) == ["follows"]


def test_chunks_of_customers_change_nothing(states, population, monkeypatch):
    whole = module.chunks
    monkeypatch.setattr(module, "chunks", lambda customers: whole(customers, 7))
    for name, weights in Population.of(states).weights.items():
        assert weights == pytest.approx(population.weights[name], abs=1e-5)


def test_the_same_states_give_the_same_population_bit_by_bit(states, population):
    again = Population.of(states)
    for name in SCORES:
        assert again.weights[name].tobytes() == population.weights[name].tobytes()


def test_matrices_are_learnt_from_the_customers_chosen_and_rates_from_all(states, population):
    chosen = np.arange(0, CUSTOMERS, 2)
    part = Population.of(states, sample=chosen)
    alone = [
        State(
            state.moment,
            state.horizon_days,
            CUSTOMERS,
            CATEGORIES,
            state.pairs,
            state.trips,
            state.eligible & np.isin(np.arange(CUSTOMERS), chosen),
        )
        for state in states
    ]
    assert part.popularity.tolist() == population.popularity.tolist()
    assert part.weights["goes_together"] == pytest.approx(Population.of(alone).weights["goes_together"])
    assert part.weights["goes_together"] != pytest.approx(population.weights["goes_together"])
    mask = np.isin(np.arange(CUSTOMERS), chosen)
    assert Population.of(states, sample=mask).weights["follows"].tobytes() == part.weights["follows"].tobytes()


def test_a_sample_is_spread_evenly_over_the_eligible(states):
    eligible = np.flatnonzero(np.any([state.eligible for state in states], axis=0))
    spread = eligible[[place * len(eligible) // 10 for place in range(10)]]
    sampled, chosen = Population.of(states, sample=10), Population.of(states, sample=spread)
    assert sampled.weights["goes_together"].tobytes() == chosen.weights["goes_together"].tobytes()


def test_matrices_hold_the_categories_that_most_have_taken(states, population):
    few = Population.of(states, most=2)
    order = sorted(range(CATEGORIES), key=lambda what: (-population.popularity_ever[what], what))
    assert few.columns.tolist() == sorted(order[:2])
    assert few.weights["goes_together"].shape == (2, 2)
    assert few.weights["follows"].shape == (5, 2)
    assert few.popularity.tolist() == population.popularity.tolist()


def test_without_an_earlier_state_trends_are_1_and_what_follows_is_unknown(states):
    alone = Population.of(states[:1])
    assert alone.trend.tolist() == [1.0] * CATEGORIES
    assert np.isnan([alone.adoption, alone.repeat_rate, alone.popularity_before]).all()
    assert list(alone.weights) == ["goes_together"]
    assert np.isfinite(alone.base_rate).all()


def test_nobody_eligible_is_a_population_without_matrices():
    states = states_before([(0, 0, 1), (1, 1, 2)], 300, customers=2, categories=2, active_within=10)
    population = Population.of(states)
    assert population.customers == 0
    assert population.popularity.tolist() == [0.0, 0.0]
    assert np.isnan(population.habits.mean).all()
    assert len(population.columns) == len(population.weights) == 0
    assert np.all((population.base_rate > 0) & (population.base_rate < 1))


def test_nothing_taken_yet_is_a_population_too():
    population = Population.of(states_before([], 100, customers=3, categories=2))
    assert population.popularity.tolist() == [0.0, 0.0]
    assert not population.weights


def test_one_customer_and_one_category():
    population = Population.of(states_before([(0, 0, day) for day in range(0, 100, 5)], 100, customers=1, categories=1))
    assert population.popularity.tolist() == [1.0]
    assert population.weights["goes_together"].tolist() == [[0.0]]
    assert all(np.isfinite(weights).all() for weights in population.weights.values())
    assert population.habits.mean[0] == 1.0


def test_a_category_nobody_took_yet_is_in_no_matrix():
    history = [(who, what, day) for who, what, day in HISTORY if what != 2 or day >= MOMENT]
    population = Population.of(states_before(history, MOMENT, customers=CUSTOMERS, categories=CATEGORIES))
    assert population.columns.tolist() == [0, 1, 3, 4, 5]
    assert population.popularity[2] == population.takers[2] == 0
    assert population.trend[2] == 1.0
    assert 0 < population.base_rate[2] < population.base_rate[[0, 1, 3, 4, 5]].min()


def test_tables_carry_the_moment_they_were_made_from(population):
    table = population.tables().to_pandas()
    assert len(table) == CATEGORIES
    assert (table["population_as_of"] == START + timedelta(days=MOMENT)).all()
    assert table["popularity"].tolist() == population.popularity.tolist()
    assert table["prior_trips"].tolist() == population.habits.prior.tolist()


def test_the_number_of_threads_changes_no_digit():
    history = made_history(400, 60, 200)
    states = states_before(history, 200, customers=400, categories=60)

    def weights(threads):
        with threadpool_limits(threads, "blas"):
            return Population.of(states).weights

    one, two = weights(1), weights(2)
    assert set(one) == set(SCORES)
    for name in SCORES:
        assert one[name].tobytes() == two[name].tobytes()


def test_a_season_is_how_popularity_changed_a_year_ago():
    rng = np.random.default_rng(0)
    history = [(who, 0, int(day)) for who in range(60) for day in rng.integers(0, 500, 12)]
    history += [(who, 1, 400 - 364 + 5) for who in range(40)]
    sides = {name: state_at(history, day, customers=60, categories=2) for name, day in (("before", 400 - 364), ("after", 400 - 364 + 28))}
    states = states_before(history, 400, customers=60, categories=2)
    population = Population.of(states, season=(sides["before"], sides["after"]))
    found = population.season
    eligible = [sides[name].eligible.sum() for name in ("before", "after")]
    assert found[1] == pytest.approx(((40 + 5) / eligible[1]) / ((0 + 5) / eligible[0]))
    assert found[0] < 2 < found[1]
    assert population.popularity_then[1] == 40 / eligible[1]
    assert np.isnan(Population.of(states).season).all()
