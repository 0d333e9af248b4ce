"""States of pairs agree with plain loops over raw events, on logs made to break them: what was taken before a moment, and after."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from persopredict.affinity import states
from persopredict.affinity.occasions import affinity_problems
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.lookups import Lookup
from persopredict.targets import Affinity
from persopredict.times import Duration, instant, zone
from tests import oracle
from tests.conformance import COLUMNS, DAY, FACTS, TICK, History, instants_of, person

ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia")
HALF_LIVES = {"decayed_fast": 0.75, "decayed_slow": 2.25, "decayed_far": 6.0}
QUARTERS = {"7d": Duration(days=1, hours=18), "36h": Duration(hours=9), "6h": Duration(hours=1)}
BLANK = ("", " ", "\t", " \u00a0 ")
PURCHASE = Affinity("purchase", "7d", by="category")


# Hostile logs --------------------------------------------------------------------------------------------------------------------------


def multiple(length, number):
    return Duration(days=length.days * number, hours=length.hours * number)


def edges(target, name):
    """Every instant at which something starts or ends, and the microseconds around it."""
    local, found = zone(name), set()
    for moment in instants_of(name):
        found |= {oracle.earlier(moment, multiple(target.horizon, number), local) for number in range(8)}
        found |= {oracle.earlier(moment, length, local) for length in (Duration(days=91), QUARTERS[str(target.horizon)])}
        found |= {oracle.later(moment, target.gap, local)}
        found |= {oracle.later(oracle.later(moment, target.gap, local), target.horizon, local)}
    return sorted({moment + shift for moment in found for shift in (-TICK, timedelta(0), TICK)})


def hostile(target, name, *, seed=0, customers=12, each=20):
    """Events at every edge; several at one instant, some known late, some twice; names null, blank, or spelled in two ways."""
    random, rows = Random(seed), []
    moments, last = edges(target, name), instants_of(name)[-1]
    for number in range(customers):
        instants = random.sample(moments, each // 2) + [last - timedelta(hours=random.randrange(24 * 120)) for _ in range(each // 2)]
        for at in instants:
            for _ in range(random.choice((1, 1, 2, 3))):
                row = {column: random.choice(values) for column, values in COLUMNS.items()}
                row |= {"event": random.choice(("purchase", "purchase", "visit")), "customer_id": person(number) + str(number), "at": at}
                row |= {"known": random.choice([None, None, None, at + TICK, at + 3 * DAY, *instants_of(name)])}
                row |= {"department": random.choice(("food", "toys", "Toys", None, *BLANK))}
                rows += [row | {"category": row["department"]}] * random.choice((1, 1, 2))
    return rows


def history(target, name, *, seed=0, lookups=()):
    """A log observed until the label of the second moment has ended."""
    ended = oracle.later(oracle.later(instants_of(name)[1], target.gap, zone(name)), target.horizon, zone(name))
    return History(hostile(target, name, seed=seed), name, lookups=lookups, observed=(instants_of(name)[0] - 400 * DAY, ended))


def facts_of(key, versions=()):
    """Rows of a lookup: one of each key, or one of each key and version, each saying something else."""
    owners = [person(number) + str(number) for number in range(12)] if key == "customer_id" else COLUMNS["item_id"][1:]
    asked = [(owner, valid) for owner in owners for valid in versions or (None,)]
    facts = [{column: values[place % len(values)] for column, values in FACTS[key].items()} for place in range(len(asked))]
    found = [{"key": owner, "valid_from": valid, "known_at": None} | row for (owner, valid), row in zip(asked, facts, strict=True)]
    return oracle.Facts(key, tuple(FACTS[key]), tuple(found))


# The oracle ----------------------------------------------------------------------------------------------------------------------------


def name_of(row, by, local):
    """The name of a row's category, None if it is nobody's."""
    value = oracle.column_of(row, "department" if by == "category" else by, local)
    return None if value is None or not str(value).strip() else str(value)


def takes(row, target, local):
    return row["event"] in target.event_names and oracle.holds(target.where, row, local)


def taken_before(rows, target, cutoff, local):
    """The instants at which each category was taken, and anything at all (None), known before the cutoff."""
    found = defaultdict(set)
    for row in oracle.seen(rows, cutoff):
        if takes(row, target, local):
            found[None].add(row["at"])
            if (name := name_of(row, target.by, local)) is not None:
                found[name].add(row["at"])
    return found


def measured(instants, cutoff, horizon, local):
    """Everything that is told of a pair, or of trips."""
    if not instants:
        return dict.fromkeys(states.measures_of(horizon), 0) | dict.fromkeys(("recency", "tenure", "gap", "overdue"), np.nan)
    today, days = oracle.day_of(cutoff, local), sorted({oracle.day_of(at, local) for at in instants})
    gap = (days[-1] - days[0]) / (len(days) - 1) if len(days) > 1 else np.nan
    long = horizon.days + horizon.hours / 24
    ages = [max(0, today - oracle.day_of(at, local)) for at in instants]
    return {
        "occasions": len(instants),
        "occasions_quarter": sum(at >= oracle.earlier(cutoff, QUARTERS[str(horizon)], local) for at in instants),
        **{f"occasions_{n}": sum(at >= oracle.earlier(cutoff, multiple(horizon, n), local) for at in instants) for n in range(1, 7)},
        **{name: sum(0.5 ** (age / max(1, round(horizons * long))) for age in ages) for name, horizons in HALF_LIVES.items()},
        "recency": (cutoff - max(instants)) / DAY,
        "tenure": (cutoff - min(instants)) / DAY,
        "gap": gap,
        "overdue": (today - days[-1]) / gap,
    }


def taken_after(rows, target, cutoff, local, until):
    """The categories taken in the label, as it was known before `until`."""
    start = oracle.later(cutoff, target.gap, local)
    end = oracle.later(start, target.horizon, local)
    inside = [row for row in rows if start <= row["at"] < end and (until is None or oracle.known(row) < until)]
    return {name_of(row, target.by, local) for row in inside if takes(row, target, local)} - {None}


def end_of(target, cutoff, local):
    return oracle.later(oracle.later(cutoff, target.gap, local), target.horizon, local)


# Agreement -----------------------------------------------------------------------------------------------------------------------------


def told(reading, moment):
    """What a reading says at a moment: values by customer and name of the category, of trips under None; who is asked; what was taken."""
    state, taken = reading.states[moment], reading.taken[moment]
    pairs = state.pairs
    assert np.all(np.diff(pairs.customer.astype(np.int64) * max(state.categories, 1) + pairs.category) > 0)
    values = {
        (reading.customer_id[who], reading.categories[what]): {name: float(pairs[name][row]) for name in pairs.values}
        for row, (who, what) in enumerate(zip(pairs.customer, pairs.category, strict=True))
    }
    for number, who in enumerate(reading.customer_id):
        values[who, None] = {name: float(column[number]) for name, column in state.trips.items()}
    after = None
    if taken is not None:
        after = {(reading.customer_id[who], reading.categories[what]) for who, what in zip(taken.customer, taken.category, strict=True)}
    return values, {who for who, asked in zip(reading.customer_id, state.eligible, strict=True) if asked}, after


def expected(log, target, moment, until=None, observed=None):
    """The same by plain loops."""
    local, values, asked, after = zone(log.name), {}, set(), set()
    for who, rows in log.customers.items():
        joined = log.joined(who, moment)
        instants = taken_before(joined, target, moment, local)
        values |= {(who, name): measured(found, moment, target.horizon, local) for name, found in instants.items()}
        values.setdefault((who, None), measured(set(), moment, target.horizon, local))
        asked |= {who} if oracle.reason(target, joined, moment, local) is None else set()
        after |= {(who, name) for name in taken_after(joined, target, moment, local, until)}
        assert len(rows) == len(joined)
    first, last = observed or log.observed
    ended = first <= moment and end_of(target, moment, local) <= min(last, until or last)
    return values, asked, after if ended else None


def assert_agrees(got, wanted):
    (values, asked, after), (right, whom, later) = got, wanted
    assert values.keys() == right.keys()
    for pair, row in right.items():
        assert values[pair] == pytest.approx(row, rel=2e-6, abs=1e-7, nan_ok=True), pair
    assert (asked, after) == (whom, later)


def assert_states_agree(log, target, *, until=None, **how):
    moments = instants_of(log.name)
    reading = states.read(log.log, target, moments, labelled=True, until=until, **how)
    for moment in moments:
        assert_agrees(told(reading, moment), expected(log, target, moment, until))
    return reading


@pytest.mark.parametrize("name", ZONES)
def test_states_are_those_of_a_plain_loop_across_every_change_of_clocks(name):
    reading = assert_states_agree(history(PURCHASE, name), PURCHASE)
    assert reading.categories == ("Toys", "food", "toys")
    assert [reading.taken[moment] is not None for moment in instants_of(name)] == [True, True, False]


@pytest.mark.parametrize("by", ["family", "item_id", "channel", "hour", "weekday"])
def test_any_column_of_categories_and_any_part_of_the_local_calendar_makes_pairs(by):
    target = Affinity("purchase", "7d", by=by)
    reading = assert_states_agree(history(target, "America/New_York", seed=1), target)
    assert len(reading.categories) > 1


@pytest.mark.parametrize(
    "target",
    [
        Affinity("purchase", "36h", by="category", active_within=None),
        Affinity("purchase", "6h", by="category"),
        Affinity(("purchase", "visit"), "7d", by="category", gap="3d"),
        Affinity("purchase", "7d", by="category", gap="5h", active_within="28d"),
        Affinity("purchase", "7d", by="category", where="value > 0"),
        Affinity("purchase", "7d", by="channel", where="channel <> 'web' AND hour >= 6", cohort="tier = 'gold'"),
    ],
    ids=lambda target: f"{target.horizon}, gap {target.gap}, {target.where or target.active_within}",
)
def test_horizons_gaps_conditions_and_cohorts_mean_what_they_mean_elsewhere(target):
    assert_states_agree(history(target, "Australia/Lord_Howe", seed=2), target)


@pytest.mark.parametrize("where", ["cost > 0 AND item_id <> 'b' AND plan IS NULL", "NOT plan = 'pro' OR brand IS NULL"])
def test_a_condition_may_read_facts_of_lookups_that_do_not_change(where):
    target = Affinity("purchase", "7d", by="family", where=where)
    log = history(target, "UTC", seed=3, lookups=(facts_of("customer_id"), facts_of("item_id")))
    assert len(assert_states_agree(log, target).states[instants_of("UTC")[1]].pairs)


def test_a_cohort_may_read_facts_that_change():
    target = Affinity("purchase", "7d", by="category", cohort="plan = 'pro'")
    versions = [moment - DAY // 2 for moment in instants_of("UTC")]
    log = history(target, "UTC", seed=4, lookups=(facts_of("customer_id", versions),))
    reading = assert_states_agree(log, target)
    asked = [reading.states[moment].eligible.tolist() for moment in instants_of("UTC")]
    assert asked[0] != asked[2] != asked[1] != asked[0]


def test_labels_count_what_was_known_before_until_and_end_by_then():
    moments, log = instants_of("UTC"), history(PURCHASE, "UTC", seed=5)
    for until in (end_of(PURCHASE, moments[0], UTC), end_of(PURCHASE, moments[1], UTC), log.observed[1] - TICK):
        assert_states_agree(log, PURCHASE, until=until)
    early, late = (states.read(log.log, PURCHASE, moments, labelled=True, until=until) for until in (moments[0] + 7 * DAY, None))
    first, whole = (told(reading, moments[0])[2] for reading in (early, late))
    assert first < whole
    assert early.taken[moments[1]] is None


def test_without_labels_none_are_read():
    reading = states.read(history(PURCHASE, "UTC").log, PURCHASE, instants_of("UTC"))
    assert set(reading.taken.values()) == {None}


def test_chosen_customers_are_read_as_if_there_were_no_others():
    log, moments, chosen = history(PURCHASE, "UTC", seed=6), instants_of("UTC"), np.array([1, 4, 5, 10])
    features = [Feature("count", fallback=0), Feature("mean", "value", window="28d", fallback=None)]
    whole = states.read(log.log, PURCHASE, moments, labelled=True, features=features)
    some = states.read(log.log, PURCHASE, moments, labelled=True, features=features, chosen=chosen)
    ids = set(whole.customer_id[chosen])
    assert set(some.customer_id) == ids
    for moment in moments:
        values, asked, after = told(whole, moment)
        here, whom, later = told(some, moment)
        np.testing.assert_equal(here, {pair: row for pair, row in values.items() if pair[0] in ids})
        assert whom == asked & ids
        assert later == (None if after is None else {pair for pair in after if pair[0] in ids})
        np.testing.assert_array_equal(some.features[moment], whole.features[moment][chosen])


def test_categories_are_numbered_by_the_names_given():
    log, moments, chosen = history(PURCHASE, "UTC", seed=6), instants_of("UTC"), np.array([1, 4, 5, 10])
    names = ("Toys", "another", "food", "toys")
    plain, named = (states.read(log.log, PURCHASE, moments, labelled=True, chosen=chosen, categories=given) for given in (None, names))
    assert named.categories == names
    for moment in moments:
        assert named.states[moment].categories == 4
        np.testing.assert_equal(told(named, moment), told(plain, moment))
        assert named.states[moment].seen.tolist() == [name in {what for _, what in told(plain, moment)[0]} for name in names]


def test_labels_alone_are_those_that_are_read_with_states():
    log, moments = history(PURCHASE, "UTC", seed=6), instants_of("UTC")
    whole, alone = (states.read(log.log, PURCHASE, moments, labelled=labelled) for labelled in (True, "only"))
    assert (alone.categories, alone.states) == (whole.categories, {})
    np.testing.assert_array_equal(alone.customer_id, whole.customer_id)
    for moment in moments:
        np.testing.assert_array_equal(alone.reasons[moment] == 0, whole.states[moment].eligible)
        some, other = alone.taken[moment], whole.taken[moment]
        assert (some is None) == (other is None)
        if some is not None:
            np.testing.assert_array_equal(some.customer, other.customer)
            np.testing.assert_array_equal(some.category, other.category)


@pytest.mark.parametrize(
    "versions", [(), (None, datetime(2023, 12, 20, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))], ids=["fixed", "timed"]
)
def test_own_features_of_customers_are_those_of_everywhere_else_whether_facts_change_or_not(versions):
    log = history(PURCHASE, "UTC", seed=7, lookups=(facts_of("customer_id", versions),))
    features = [Feature("sum", "value", window="28d", fallback=0), Feature("last", "score", fallback=None)]
    reading = states.read(log.log, PURCHASE, instants_of("UTC"), features=features)
    for moment in instants_of("UTC"):
        for number, who in enumerate(reading.customer_id):
            rows = log.joined(who, moment)
            right = [oracle.feature_value(each, rows, moment, UTC, ("value", "score")) for each in features]
            right = [np.nan if value is None else value for value in right]
            assert reading.features[moment][number].tolist() == pytest.approx(right, rel=1e-6, nan_ok=True)


# Two sources ---------------------------------------------------------------------------------------------------------------------------


def test_sources_add_up_and_each_that_holds_the_event_must_have_observed_the_label():
    moments, name = instants_of("UTC"), "UTC"
    start, shops = moments[0] - 400 * DAY, [hostile(PURCHASE, name, seed=seed) for seed in (8, 9)]
    ends = end_of(PURCHASE, moments[2], UTC), end_of(PURCHASE, moments[0], UTC)
    parts = [History(rows, name, observed=(start, end)) for rows, end in zip(shops, ends, strict=True)]
    visits = [row | {"event": "visit", "customer_id": "only looks"} for row in shops[0][:30]]
    looking = History(visits, name, observed=(start, moments[0]))
    whole = History(shops[0] + shops[1] + visits, name, observed=(start, ends[1]))
    reading = states.read(EventLog.union(*(part.log for part in (*parts, looking))), PURCHASE, moments, labelled=True)
    for moment in moments:
        assert_agrees(told(reading, moment), expected(whole, PURCHASE, moment))
    assert [reading.taken[moment] is None for moment in moments] == [False, True, True]
    alone = states.read(EventLog.union(parts[0].log, looking.log), PURCHASE, moments, labelled=True)
    assert None not in alone.taken.values()


# Sentence by sentence ------------------------------------------------------------------------------------------------------------------

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)


def small(*rows, **settings):
    """A log of (customer, days after the cutoff, event, category, days until it was known)."""
    rows = [(*row, *("purchase", "cheese", 0)[len(row) - 2 :]) for row in rows]
    columns = dict(zip(("customer_id", "event_at", "event", "category", "known_at"), zip(*rows, strict=True), strict=True))
    at = [CUTOFF + days * DAY for days in columns["event_at"]]
    known = [moment + days * DAY for moment, days in zip(at, columns["known_at"], strict=True)]
    table = pa.table({**columns, "event_at": at, "known_at": known, "family": ["any"] * len(rows)})
    span = CUTOFF - 200 * DAY, CUTOFF + 100 * DAY
    return EventLog(table, category=("category", "family"), observed=span, **settings)


def pairs_of(log, target=PURCHASE, **how):
    reading = states.read(log, target, [CUTOFF], labelled=True, **how)
    values, asked, after = told(reading, CUTOFF)
    return {pair: row["occasions"] for pair, row in values.items() if pair[1] is not None}, asked, after


def test_a_basket_with_three_cheeses_is_one_occasion_and_one_trip():
    log = small(*[("a", -3)] * 3, ("a", -3, "purchase", "wine"), ("a", -2.9))
    reading = states.read(log, PURCHASE, [CUTOFF])
    values, _, _ = told(reading, CUTOFF)
    assert {pair: row["occasions"] for pair, row in values.items()} == {("a", "cheese"): 2, ("a", "wine"): 1, ("a", None): 2}


def test_a_category_without_a_name_is_nobodys_yet_the_trip_was_made():
    nameless = [None, *BLANK, "\u3000"]
    before = [(f"no name {number}", -3, "purchase", name) for number, name in enumerate(nameless)]
    log = small(*before, *(("b", 3, "purchase", name) for name in nameless), ("b", -3))
    reading = states.read(log, PURCHASE, [CUTOFF], labelled=True)
    values, asked, after = told(reading, CUTOFF)
    assert reading.categories == ("cheese",)
    assert {pair: row["occasions"] for pair, row in values.items()} == {(who, None): 1 for who in asked} | {("b", "cheese"): 1}
    assert (len(asked), after) == (len(nameless) + 1, set())


def test_other_events_take_nothing_but_keep_a_customer_asked():
    log = small(("a", -3, "visit"), ("b", -3), ("c", -92), ("a", 1, "visit"))
    assert pairs_of(log) == ({("b", "cheese"): 1, ("c", "cheese"): 1}, {"a", "b"}, set())


def test_the_cutoff_belongs_to_the_label():
    assert pairs_of(small(("a", 0), ("b", -1), ("b", 7))) == ({("b", "cheese"): 1}, {"b"}, {("a", "cheese")})


def test_what_was_known_too_late_did_not_happen():
    log = small(("a", -3, "purchase", "cheese", 3), ("b", -3, "purchase", "cheese", 2), ("b", 2, "purchase", "cheese", 8), ("a", 2))
    until = CUTOFF + 10 * DAY
    assert pairs_of(log, until=until) == ({("b", "cheese"): 1}, {"b"}, {("a", "cheese")})
    assert pairs_of(log, until=until + TICK)[2] == {("a", "cheese"), ("b", "cheese")}


def test_an_occasion_is_known_when_the_first_of_its_events_is():
    log = small(("a", -3, "purchase", "cheese", 9), ("a", -3, "purchase", "cheese", 1))
    assert pairs_of(log)[0] == {("a", "cheese"): 1}


def test_with_a_gap_the_label_starts_after_it():
    target = Affinity("purchase", "7d", by="category", gap="2d")
    log = small(("a", -1), ("a", 1.9), ("b", 2), ("c", 8.9), ("d", 9))
    assert pairs_of(log, target)[2] == {("b", "cheese"), ("c", "cheese")}


def test_a_department_is_taken_whenever_one_of_its_families_is():
    made = history(Affinity("purchase", "7d", by="family"), "UTC", seed=10)
    rows = [row | {"department": {"bread": "food", "dolls": "toys", None: None}[row["family"]]} for row in made.rows]
    log = History([row | {"category": row["department"]} for row in rows], "UTC", observed=made.observed)
    moments = instants_of("UTC")
    fine, coarse = (states.read(log.log, Affinity("purchase", "7d", by=by), moments, labelled=True) for by in ("family", "department"))
    for moment in moments[:2]:
        (families, _, after), (departments, _, later) = told(fine, moment), told(coarse, moment)
        up = {"bread": "food", "dolls": "toys"}
        assert {(who, up.get(what)): row["occasions"] for (who, what), row in families.items()} == {
            pair: row["occasions"] for pair, row in departments.items()
        }
        assert {(who, up[what]) for who, what in after} == later


def test_where_nobody_ever_took_anything_there_are_customers_without_pairs():
    for log in (small(("a", -3, "visit"), ("b", -3, "purchase", " ")), small(("a", -3, "visit"), ("b", 300))):
        reading = states.read(log, PURCHASE, [CUTOFF], labelled=True)
        assert (len(reading.states[CUTOFF].pairs), reading.states[CUTOFF].eligible.sum()) in {(0, 2), (0, 1)}


# Refusals ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "text", "remedy"),
    [
        ("categori", "by='categori' is no level", "did you mean 'category'?"),
        ("famly", "by='famly' is no level", "did you mean 'family'?"),
        ("item_id", "the log has no item_id", "'category', 'family', 'hour', 'weekday'"),
        ("value", "by='value' is no level of category, item_id, channel, hour or weekday", "'category', 'family', 'hour', 'weekday'"),
    ],
)
def test_categories_that_the_log_lacks_are_refused_with_the_nearest_name(by, text, remedy):
    (problem,) = affinity_problems(Affinity("purchase", "7d", by=by), small(("a", -1)))
    assert problem.code == "unknown_category"
    assert text in problem.message
    assert remedy in problem.remedy


def test_a_condition_on_facts_that_change_is_refused_beside_everything_else():
    facts = pa.table({"customer_id": ["a"], "tier": ["gold"], "since": [CUTOFF - DAY], "seen": [CUTOFF - DAY]})
    for version in ("valid_from", "known_at"):
        log = small(("a", -1)).join(Lookup(facts, key="customer_id", columns=["tier"], **{version: "since"}))
        found = affinity_problems(Affinity("purchase", "7d", by="famly", where="tier = 'gold' AND hour > 3"), log)
        assert [problem.code for problem in found] == ["unknown_category", "versioned_fact"]
        assert "where reads tier" in found[1].message
    fixed = small(("a", -1)).join(Lookup(facts, key="customer_id", columns=["tier"]))
    assert affinity_problems(Affinity("purchase", "7d", by="family", where="tier = 'gold'"), fixed) == []


def test_a_label_that_has_ended_without_anything_taken_is_no_label_that_has_not():
    frame = pl.DataFrame({"customer_id": ["a", "a"], "event_at": ["2024-01-01", "2024-03-01"], "event": ["purchase", "purchase"]})
    log = EventLog(frame.with_columns(category=pl.lit(None, pl.String)), category="category")
    moments = [instant("2024-01-15"), instant("2024-02-20")]
    found = states.read(log, Affinity("purchase", "28d", by="category"), moments, labelled=True)
    assert len(found.taken[moments[0]].customer) == 0
    assert found.taken[moments[1]] is None
