"""Law 1 as a property: whatever is appended at or after a cutoff, or becomes known only then, changes nothing that the cutoff sees."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persopredict import Cancellation, Churn, Conversion, Feature, default_features
from persopredict.snapshots import snapshots
from tests.conformance import (
    ABOUT_FACTS,
    COLUMNS,
    DAY,
    ENGINES,
    FACTS,
    QUICK,
    TICK,
    WHERES,
    History,
    Rows,
    facts_of,
    instants_of,
    oracle,
    rows_of,
    shapes_of_facts,
    some_of_every_aggregate,
)

every_engine = pytest.mark.parametrize("engine", ENGINES)
some_zones = pytest.mark.parametrize("name", ["UTC", "America/New_York", "Pacific/Apia"])
ASKED = (
    Conversion("purchase", "7d", once=True, cohort="channel = 'web'"),
    Churn("visit", "7d"),
    Cancellation("cancel", "7d", gap="1d", start="subscribe"),
)


@st.composite
def appended_to(draw, rows, now):
    """Events of the same customers, and of new ones: at or after `now`, whenever known, or before it and known at it or later."""
    random = Random(draw(st.integers(0, 2**32)))
    later = [now, now + TICK, now + DAY, now + 40 * DAY]
    found = Rows()
    for _ in range(random.randint(5, 40)):
        at, known = random.choice(later), random.choice([None, now - 9 * DAY, *later])
        if random.random() < 0.4:
            at, known = now - random.choice([TICK, DAY, 8 * DAY, 300 * DAY]), random.choice(later)
        values = {column: random.choice(values) for column, values in COLUMNS.items()}
        if random.random() < 0.3:
            values |= {"event": "never seen", "channel": "never seen", "department": "never seen", "tier": "never seen"}
        who = random.choice([*(row["customer_id"] for row in rows), "newcomer"])
        found.append({"customer_id": who, "at": at, "known": known} | values | {"category": values["department"]})
    return found


def told_later(facts, now, random):
    """The lookup with rows of the same keys that are valid from `now` on, or known from then on, or both."""
    later, ever, rows = [now, now + TICK, now + 9 * DAY], [None, now - TICK, now - 9 * DAY], []
    for row in facts.rows:
        valid, told = random.choice([(later, [*ever, *later]), (ever, later)])
        changed = {column: random.choice(values) for column, values in FACTS[facts.key].items()}
        rows.append(row | changed | {"valid_from": random.choice(valid), "known_at": random.choice(told)})
    return oracle.Facts(facts.key, facts.columns, facts.rows + tuple(rows))


def bits(engine, history, features, cutoffs, now):
    """Every feature of every row up to `now`, to the last bit."""
    got = ENGINES[engine](history, features, cutoffs)
    values = {key: [row[feature.name] for feature in features] for key, row in got.items() if key[1] <= now}
    return {key: [value if value is None else value.hex() for value in row] for key, row in values.items()}


@every_engine
@some_zones
def test_nothing_at_or_after_the_cutoff_nor_known_later_changes_a_feature(name, engine):
    """Three cutoffs at once; what is appended starts at the second, so the first two must stay as they were."""
    cutoffs = instants_of(name)

    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name))
        features = some_of_every_aggregate(Random(data.draw(st.integers(0, 2**32))), WHERES)
        before, after = History(rows, name), History(rows + data.draw(appended_to(rows, cutoffs[1])), name)
        assert bits(engine, before, features, cutoffs, cutoffs[1]) == bits(engine, after, features, cutoffs, cutoffs[1])

    check()


@every_engine
def test_the_same_events_a_little_earlier_do_change_features(engine):
    """Else the property would hold of features that see nothing."""
    name = "America/New_York"
    cutoffs = instants_of(name)

    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name))
        features = some_of_every_aggregate(Random(0), [None])
        earlier = [row | {"at": cutoffs[1] - TICK, "known": None} for row in data.draw(appended_to(rows, cutoffs[1]))]
        before, after = (bits(engine, History(found, name), features, cutoffs, cutoffs[1]) for found in (rows, rows + earlier))
        owners = {row["customer_id"] for row in earlier}
        assert {who for who, cutoff in before if before[who, cutoff] != after[who, cutoff]} == owners & {who for who, _ in before}

    check()


@some_zones
def test_nothing_later_changes_who_is_known_and_asked_nor_which_features_are_built(name):
    cutoffs = instants_of(name)

    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name))
        rows += [rows[0] | {"event": event, "at": cutoffs[0] - 500 * DAY, "known": None} for event in COLUMNS["event"]]
        found = []
        for more in ([], data.draw(appended_to(rows, cutoffs[1]))):
            log = History(rows + more, name).log
            reasons = snapshots(log, cutoffs, [], ASKED).population().to_pylist()
            found.append(([row for row in reasons if row["cutoff"] <= cutoffs[1]], default_features(log, until=cutoffs[1])))
        assert set(found[0][0][0]) == {"customer_id", "cutoff", *(f"reason_{target.name}" for target in ASKED)}
        assert found[0] == found[1]

    check()


@some_zones
def test_no_fact_valid_or_known_from_the_cutoff_on_changes_a_feature(name):
    """Facts of customers and of items; events and facts are appended together."""
    cutoffs = instants_of(name)

    @QUICK
    @given(st.data())
    def check(data):
        rows, random = data.draw(rows_of(name)), Random(data.draw(st.integers(0, 2**32)))
        lookups = [data.draw(facts_of(name, key, "both")) for key in FACTS]
        later = tuple(told_later(facts, cutoffs[1], random) for facts in lookups)
        features = some_of_every_aggregate(random, ABOUT_FACTS, shapes=shapes_of_facts)
        before = History(rows, name, lookups=tuple(lookups))
        after = History(rows + data.draw(appended_to(rows, cutoffs[1])), name, lookups=later)
        assert bits("duckdb", before, features, cutoffs, cutoffs[1]) == bits("duckdb", after, features, cutoffs, cutoffs[1])
        assert default_features(before.log, until=cutoffs[1]) == default_features(after.log, until=cutoffs[1])

    check()


def test_a_fact_told_just_before_the_cutoff_does_change_features():
    name = "UTC"
    cutoff = instants_of(name)[1]
    row = dict.fromkeys((*COLUMNS, "category"), None) | {"customer_id": "c", "event": "visit", "at": cutoff - DAY, "known": None}
    first = {"key": "c", "valid_from": cutoff - 9 * DAY, "known_at": None, "plan": "basic", "score": None}
    features = [Feature("count", where="plan = 'pro'", fallback=0), Feature("share", where="plan = 'basic'", fallback=None)]
    found = []
    for shift in (timedelta(0), TICK):
        then = first | {"plan": "pro", "valid_from": cutoff - shift, "known_at": cutoff - shift}
        facts = oracle.Facts("customer_id", ("plan", "score"), (first, then))
        found.append(bits("duckdb", History([row], name, lookups=(facts,)), features, [cutoff], cutoff))
    assert list(found[0]) == list(found[1]) == [("c", cutoff)]
    assert found[0] != found[1]
