"""Histories small enough to be read: who took what on which day, and the states they come to, one occasion after another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from persopredict.affinity.pairs import HALF_LIVES, QUARTER, SPANS, Pairs, State, within

START = datetime(2024, 1, 1, tzinfo=UTC)
NAN = float("nan")
NAMES = ("occasions", QUARTER, *(within(span) for span in range(1, SPANS + 1)), *HALF_LIVES, "recency", "tenure", "gap", "overdue")


def measured(days, moment, horizon):
    """All values of the days, before the moment, on which something occurred."""
    ages = [moment - day for day in sorted(days)]
    gap = (ages[0] - ages[-1]) / (len(ages) - 1) if len(ages) > 1 else NAN
    return {
        "occasions": len(ages),
        QUARTER: sum(age <= horizon / 4 for age in ages),
        **{within(span): sum(age <= span * horizon for age in ages) for span in range(1, SPANS + 1)},
        **{name: sum(0.5 ** (age / max(1, round(length * horizon))) for age in ages) for name, length in HALF_LIVES.items()},
        "recency": ages[-1] if ages else NAN,
        "tenure": ages[0] if ages else NAN,
        "gap": gap,
        "overdue": ages[-1] / gap if ages else NAN,
    }


def state_at(history, moment, *, customers, categories, horizon=28, active_within=91):
    """The state before a day; `history`: (customer, category, day), whole days. What a customer takes on a day is one trip."""
    days, trips = {}, {who: set() for who in range(customers)}
    for who, what, day in history:
        if day < moment:
            days.setdefault((who, what), set()).add(day)
            trips[who].add(day)
    pairs = sorted(days)
    values = [measured(days[pair], moment, horizon) for pair in pairs]
    overall = [measured(trips[who], moment, horizon) for who in range(customers)]
    return State(
        START + timedelta(days=moment),
        float(horizon),
        customers,
        categories,
        Pairs(
            np.array([who for who, _ in pairs], np.int32),
            np.array([what for _, what in pairs], np.int32),
            {name: np.array([value[name] for value in values], np.float32) for name in NAMES},
        ),
        {name: np.array([value[name] for value in overall], np.float32) for name in NAMES},
        np.array([any(moment - day <= active_within for day in trips[who]) for who in range(customers)]),
    )


def states_before(history, moment, *, customers, categories, horizon=28, number=4, active_within=91):
    """The state before a day, and those one, two, … horizons earlier."""
    return [
        state_at(history, moment - back * horizon, customers=customers, categories=categories, horizon=horizon, active_within=active_within)
        for back in range(number)
    ]


def made_history(customers, categories, days, *, seed=0, trips=20, basket=3):
    """Baskets at random: every customer with tastes and a pace of their own, some categories far more popular than others."""
    rng = np.random.default_rng(seed)
    level = np.linspace(1.5, -1.5, categories)
    history = []
    for who in range(customers):
        chance = np.exp(level + rng.normal(size=categories))
        chance /= chance.sum()
        for day in np.unique(rng.integers(0, days, rng.integers(1, 2 * trips))):
            size = min(1 + rng.poisson(basket - 1), categories)
            history += [(who, int(what), int(day)) for what in rng.choice(categories, size, replace=False, p=chance)]
    return history
