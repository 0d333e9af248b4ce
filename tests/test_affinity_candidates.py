"""Candidates: every category seen, or where these are many, those that the rules name for each customer, and no more than asked for."""

import numpy as np
import pytest

from persopredict.affinity import candidates as module
from persopredict.affinity.candidates import candidates
from persopredict.affinity.population import Block, Population
from tests.histories import made_history, states_before

CUSTOMERS, CATEGORIES, MOMENT = 50, 60, 170
HISTORY = made_history(CUSTOMERS - 1, CATEGORIES, MOMENT, trips=25, basket=6)
NEVER = CUSTOMERS - 1


@pytest.fixture(scope="module")
def states():
    return states_before(HISTORY, MOMENT, customers=CUSTOMERS, categories=CATEGORIES)


@pytest.fixture(scope="module")
def population(states):
    return Population.of(states, most=50)


def by_customer(found):
    """The candidates of each customer, as lists in the order they came."""
    customer, category = found
    assert customer.dtype == category.dtype == np.int32
    lists = {}
    for who, what in zip(customer.tolist(), category.tolist(), strict=True):
        lists.setdefault(who, []).append(what)
    return lists


def highest(value, among, number):
    """The categories with the highest value, of equals the lower number."""
    return sorted(among, key=lambda what: (-value[what], what))[:number]


def named_by_loop(states, population, who, most):
    """The candidates of one customer, rule after rule."""
    pairs = states[0].pairs
    mine = {
        int(what): float(value)
        for one, what, value in zip(pairs.customer, pairs.category, pairs["decayed_slow"], strict=True)
        if one == who
    }
    seen = sorted({what for _, what, day in HISTORY if day < MOMENT})
    lists = [
        highest(mine, mine, round(0.6 * most)),
        highest(population.popularity, seen, round(0.2 * most)),
        highest(population.trend, [what for what in seen if population.takers[what] >= 10], round(0.04 * most)),
    ]
    scores = population.scores(Block.of(states[0], np.array([who]), population.columns))
    open_ = [place for place, what in enumerate(population.columns) if what not in mine]
    lists += [
        [int(population.columns[place]) for place in highest(scores[name][0], open_, round(0.1 * most))]
        for name in ("goes_together", "follows")
    ]
    found = []
    for what in (what for named in lists for what in named):
        if what not in found and len(found) < most:
            found.append(what)
    return sorted(found)


def test_up_to_the_most_every_category_seen_is_a_candidate_of_everyone(states, population):
    seen = sorted({what for _, what, _ in HISTORY})
    found = by_customer(candidates(states[0], population, np.array([0, 7, NEVER]), most=len(seen)))
    assert found == {0: seen, 7: seen, NEVER: seen}


def test_a_category_not_seen_before_the_moment_is_nobodys_candidate():
    history = [(0, 0, 10), (1, 2, 20), (0, 1, 95)]
    states = states_before(history, 90, customers=2, categories=4)
    assert by_customer(candidates(states[0], Population.of(states), np.array([0, 1]))) == {0: [0, 2], 1: [0, 2]}


@pytest.mark.parametrize("most", [10, 20, 50])
def test_beyond_the_most_candidates_are_the_union_of_the_rules(states, population, most):
    found = by_customer(candidates(states[0], population, np.arange(CUSTOMERS), most=most))
    assert found == {who: named_by_loop(states, population, who, most) for who in range(CUSTOMERS)}
    assert max(map(len, found.values())) <= most


def test_of_many_own_categories_those_taken_most_lately_are_kept():
    history = [(who, what, day) for who in range(1, 30) for what in range(600 + who, 900) for day in (20, 60, 89)]
    history += [(0, what, 80) for what in range(320)] + [(who, what, 30) for who in range(1, 30) for what in range(320, 600, 1 + who % 3)]
    states = states_before(history, 90, customers=30, categories=900, number=3)
    population = Population.of(states)
    assert np.setdiff1d(np.arange(320), population.columns).size > 0
    mine = by_customer(candidates(states[0], population, np.array([0])))[0]
    assert len(mine) <= 500
    assert [what for what in mine if what < 320] == list(range(300))
    assert set(highest(population.popularity, range(900), 100)) <= set(mine)


def test_where_the_rules_name_more_than_the_most_the_last_ones_give_way():
    rng = np.random.default_rng(0)
    history = [(0, what, 85) for what in range(12)]
    history += [
        (who, int(what), int(day)) for who in range(1, 60) for what in rng.choice(np.arange(12, 100), 30) for day in rng.integers(0, 90, 2)
    ]
    states = states_before(history, 90, customers=60, categories=100, number=3)
    population = Population.of(states)
    found = by_customer(candidates(states[0], population, np.arange(60), most=20))
    assert len(found[0]) == 20
    assert found[0][:12] == list(range(12))
    follows = population.scores(Block.of(states[0], np.array([0]), population.columns), ("follows",))["follows"][0]
    places = [place for place, what in enumerate(population.columns) if what >= 12]
    best, second = (int(population.columns[place]) for place in highest(follows, places, 2))
    assert best in found[0]
    assert second not in found[0]


def test_a_trend_of_a_few_takers_is_none():
    steady = [(who, what, day) for who in range(40) for what in range(30) for day in (5, 40, 70)]
    few = [(who, 30, 80) for who in range(9)]
    enough = [(who, 31, 80) for who in range(10)] + [(who, 31, 40) for who in (20, 21)]
    states = states_before(steady + few + enough, 90, customers=50, categories=32, number=2)
    population = Population.of(states, most=10)
    assert population.trend[30] > population.trend[31] > population.trend[:30].max()
    stranger = by_customer(candidates(states[0], population, np.array([49]), most=25))[49]
    assert 31 in stranger
    assert 30 not in stranger


def test_equals_go_by_their_number():
    history = [(who, what, 80) for who in range(10) for what in range(30)]
    states = states_before(history, 90, customers=11, categories=30, number=1)
    population = Population.of(states, most=10)
    assert population.columns.tolist() == list(range(10))
    found = by_customer(candidates(states[0], population, np.array([0, 10]), most=20))
    assert found[0] == list(range(12))
    assert found[10] == list(range(4))


def test_a_customer_without_a_past_gets_what_is_popular_and_what_rises(states, population):
    mine = by_customer(candidates(states[0], population, np.array([NEVER]), most=20))[NEVER]
    assert set(highest(population.popularity, range(CATEGORIES), 4)) <= set(mine)


def test_without_scores_the_other_rules_stand():
    history = [(0, what, 80) for what in range(10)]
    states = states_before(history, 400, customers=2, categories=10, number=1)
    population = Population.of(states)
    assert not population.weights
    assert by_customer(candidates(states[0], population, np.array([0, 1]), most=5)) == {0: [0, 1, 2], 1: [0]}


def test_candidates_depend_neither_on_chunks_nor_on_who_else_is_asked(states, population, monkeypatch):
    whole = by_customer(candidates(states[0], population, np.arange(CUSTOMERS), most=20))
    alone = {who: by_customer(candidates(states[0], population, np.array([who]), most=20))[who] for who in range(CUSTOMERS)}
    monkeypatch.setattr(module, "CELLS", 7 * CATEGORIES)
    assert whole == alone == by_customer(candidates(states[0], population, np.arange(CUSTOMERS), most=20))


def test_customers_come_in_order_and_once(states, population):
    customer, _ = candidates(states[0], population, np.array([9, 3, 9]), most=20)
    assert np.unique(customer).tolist() == [3, 9]
    assert np.all(np.diff(customer) >= 0)


@pytest.mark.parametrize("most", [20, 500])
def test_nobody_asked_is_no_pairs(states, population, most):
    customer, category = candidates(states[0], population, np.empty(0, np.int32), most=most)
    assert len(customer) == len(category) == 0
