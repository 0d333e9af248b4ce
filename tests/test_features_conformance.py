"""Every aggregate, label and eligibility, on hostile logs, against the oracle: one run of an engine checks hundreds of values."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persopredict import Churn, Conversion, Feature, survey
from persopredict.features.spec import AGGREGATES
from persopredict.snapshots import snapshots
from persopredict.times import Duration, zone
from tests import oracle
from tests.conformance import (
    ABOUT_FACTS,
    COLUMNS,
    DAY,
    ENGINES,
    FACTS,
    NASTY,
    QUICK,
    TARGETS,
    TICK,
    VERSIONS,
    WHERES,
    History,
    assert_engine_agrees,
    conformance,
    dense,
    every_shape,
    facts_of,
    feature_of,
    instants_of,
    observed_in,
    on_dense,
    rows_of,
    shapes_of_facts,
    some_of_every_aggregate,
)

CONDITION = st.recursive(
    st.sampled_from([where for where in WHERES if where]),
    lambda inner: st.one_of(
        inner.map("NOT ({})".format), st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})")
    ),
    max_leaves=4,
)
BLANK = dict.fromkeys(COLUMNS, None) | {"event": "visit", "known": None, "customer_id": "c"}
every_engine = pytest.mark.parametrize("engine", ENGINES)


def test_all_aggregates_have_an_oracle():
    assert set(oracle._AGGREGATES) == set(AGGREGATES)


@every_engine
@pytest.mark.parametrize("name", NASTY)
def test_every_aggregate_agrees_with_the_oracle(name, engine):
    """Each aggregate on some shapes and windows, under conditions drawn by Hypothesis; two hostile logs per zone."""

    @QUICK
    @given(rows_of(name), st.lists(CONDITION, min_size=2, max_size=2), st.integers(0, 2**32))
    def check(rows, conditions, seed):
        features = some_of_every_aggregate(Random(seed), [None, *conditions])
        assert_engine_agrees(engine, History(rows, name), features, instants_of(name))

    check()


@every_engine
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_every_aggregate_under_every_condition_agrees_with_the_oracle(aggregate, engine):
    """One aggregate at a time, so that a failure names it. The docs' table of aggregates and engines is made of this."""
    wrong = on_dense(aggregate, engine)
    assert not wrong, f"{len(wrong)} differ: {wrong[:5]}"


def test_the_published_table_holds_every_aggregate_on_every_engine():
    found = conformance()
    assert list(found) == list(AGGREGATES)
    assert {verdict for verdicts in found.values() for verdict in verdicts.values()} == {"exact", "1e-9"}
    assert all(list(verdicts) == list(ENGINES) for verdicts in found.values())


# Corners of their own ----------------------------------------------------------------------------------------------------------------


def one_of_each(window, where=None):
    return [feature_of(aggregate, every_shape(aggregate)[0], window, where, None, n) for n, aggregate in enumerate(AGGREGATES)]


@every_engine
def test_a_log_without_known_at_agrees_with_the_oracle(engine):
    history = History([row | {"known": None} for row in dense().rows], dense().name, late=False)
    assert_engine_agrees(engine, history, one_of_each("28d", "event = 'purchase'"), instants_of(history.name))


@every_engine
def test_events_before_1970_agree_with_the_oracle(engine):
    """Microseconds since 1970 are negative there; flooring, days, hours and weekdays must not round towards zero."""
    cutoff = datetime(1969, 12, 31, 23, tzinfo=UTC)
    rows = [BLANK | {"at": cutoff - timedelta(hours=7 * n, microseconds=n), "value": Decimal(n)} for n in range(60)]
    means = [feature_of("mean", column, None, None, None, 50 + n) for n, column in enumerate(("hour", "weekday", "day"))]
    assert_engine_agrees(engine, History(rows, "Europe/Madrid"), one_of_each("7d") + means, [cutoff, cutoff - timedelta(days=3)])


@every_engine
def test_values_a_hair_apart_keep_their_spread_and_trend(engine):
    """Two hundred amounts of 1e9 and of 1e12 that differ by cents: in doubles nothing of the spread would survive."""
    cutoff, rows = datetime(2024, 3, 1, tzinfo=UTC), []
    for who, offset, number in (("large", Decimal(10) ** 9, 200), ("huge", Decimal(10) ** 12 - 9, 100), ("hugely apart", None, 100)):
        for n in range(number):
            value = (-1) ** n * (Decimal(10) ** 12 - 1) if offset is None else offset + Decimal(n) / 100
            rows.append(BLANK | {"customer_id": who, "at": cutoff - timedelta(hours=n + 1), "value": value})
    names = ("sum", "mean", "std", "min", "max", "share", "trend", "decayed_sum", "first", "last")
    features = [feature_of(aggregate, "value", "28d" if aggregate != "trend" else "7d", None, None, n) for n, aggregate in enumerate(names)]
    history = History(rows, "UTC")
    assert_engine_agrees(engine, history, features, [cutoff])
    spread = oracle.feature_value(features[2], history.customers["large"], cutoff, UTC)
    assert spread == pytest.approx(math.sqrt(200 * 201 / 12) / 100)


@every_engine
def test_of_several_values_at_one_instant_first_takes_the_smallest_and_last_the_largest(engine):
    cutoff, rows = datetime(2024, 3, 1, tzinfo=UTC), []
    for at, values in ((9 * DAY, (3, 1, None, 2)), (10 * DAY, (None,)), (DAY, (-3, -1, None, -2)), (TICK, (None,)), (40 * DAY, (7,))):
        rows += [BLANK | {"at": cutoff - at, "value": None if value is None else Decimal(value)} for value in values]
    for order in (1, -1):
        history = History(rows[::order], "UTC")
        for window, expected in (("28d", (1, -1)), (None, (7, -1)), ("5h", (None, None))):
            features = [Feature(which, "value", window=window, fallback=None) for which in ("first", "last")]
            assert_engine_agrees(engine, history, features, [cutoff])
            assert tuple(oracle.feature_value(feature, rows, cutoff, UTC) for feature in features) == expected


@every_engine
def test_decayed_weights_fade_by_local_days_to_nothing(engine):
    """Amounts that cancel but for a cent, over four hundred days: what is left is exact, and an old event's weight is 0, not undefined."""
    name = "America/New_York"
    cutoff, rows = datetime(2024, 11, 4, 5, tzinfo=UTC), []
    cancelling = (Decimal("999999999999.99"), Decimal("-999999999999.98"))
    for age in (0, 1, 2, 15, 16, 17, 48, 49, 50, 51, 200, 448):
        at = oracle.earlier(cutoff, Duration(days=age), zone(name))
        for who, shift in (("noon", timedelta(hours=12)), ("start", TICK), ("end", -TICK)):
            rows += [BLANK | {"customer_id": who, "at": at - shift, "value": value} for value in cancelling]
    rows.append(BLANK | {"customer_id": "long ago", "at": cutoff - 500 * DAY, "value": Decimal(5)})
    shapes = [(column, window, half) for column in (None, "value") for window in ("7d", "364d", None) for half in ("1d", "3d", "28d")]
    features = [
        Feature("decayed_sum", column, window=window, half_life=half, fallback=-1, name=f"f{number}")
        for number, (column, window, half) in enumerate(shapes)
    ]
    history = History(rows, name)
    assert_engine_agrees(engine, history, features, [cutoff - TICK, cutoff, cutoff + TICK, cutoff + 12 * timedelta(hours=1)])
    faded = features[shapes.index(("value", None, "1d"))]
    assert oracle.feature_value(faded, history.customers["long ago"], cutoff, zone(name)) == 0


@every_engine
def test_a_day_that_clocks_went_back_from_comes_twice_around_the_one_before(engine):
    """St. John's, 2010: at 00:01 of 7 November it became 23:01 of the 6th. For a cutoff then, an event of the 7th is not older than
    one of today: its weight is 1; and the next visit is overdue by less than nothing.
    """
    name, midnight = "America/St_Johns", datetime(2010, 11, 7, 2, 30, tzinfo=UTC)
    moments = [midnight - 9 * DAY, midnight + TICK, midnight + timedelta(minutes=5), midnight + DAY]
    history = History([BLANK | {"at": at, "value": Decimal("0.3")} for at in moments], name)
    halved = [Feature("decayed_sum", column, window="7d", half_life="2d", fallback=None) for column in (None, "value")]
    cutoffs = [midnight + timedelta(minutes=3), midnight + timedelta(minutes=15), midnight + 2 * DAY]
    assert_engine_agrees(engine, history, [*halved, *one_of_each("28d")], cutoffs)
    assert oracle.feature_value(halved[0], history.rows, cutoffs[0], zone(name)) == 1


def test_online_gives_a_customer_without_history_the_fallbacks():
    from persopredict.features.online import OnlineFeatures

    shapes = [(aggregate, every_shape(aggregate)[0]) for aggregate in AGGREGATES]
    features = [feature_of(aggregate, column, "7d", None, n - 3, n) for n, (aggregate, column) in enumerate(shapes)]
    cutoff, nothing = datetime(2024, 3, 1, tzinfo=UTC), {name: [] for name in (*COLUMNS, "event_at")}
    online = OnlineFeatures(features, timezone="UTC", numeric=("points",))
    assert online.values(nothing, cutoff).tolist() == [feature.fallback for feature in features]
    nulls = OnlineFeatures([Feature("count", fallback=None), Feature("count", window="7d", fallback=0)])
    later = {"event": ["visit"], "event_at": [cutoff]}
    assert np.array_equal(nulls.values(later, cutoff), [math.nan, 0], equal_nan=True)
    assert list(nulls.row(later, cutoff).values()) == [None, 0]


# The oracle itself, by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aggregate", "column", "where", "expected"),
    [
        ("count", None, None, 4),
        ("sum", "value", None, 15),
        ("mean", "value", None, 5),
        ("std", "value", None, 5),
        ("distinct", "channel", None, 1),
        ("share", None, "channel = 'web'", 0.5),
        ("share", "value", "channel = 'web'", 1 / 3),
        ("ratio", ("value", "channel"), None, 15),
        ("trend", None, None, 0.5),
        ("recency", None, None, 0.5),
        ("tenure", None, None, 9.5),
        ("gap_mean", None, None, 4.5),
        ("gap_std", None, None, math.sqrt(0.5)),
        ("overdue", None, None, 1 / 4.5),
        ("decayed_sum", None, None, 2**-0.25 + 2 * 2**-1.25 + 2**-2.5),
        ("decayed_sum", "value", None, 5 * 2**-0.25 + 10 * 2**-2.5),
        ("decayed_sum", "value", "channel = 'web'", 5 * 2**-0.25),
        ("first", "value", None, 10),
        ("last", "value", None, 5),
        ("first", "value", "channel = 'web'", 0),
    ],
)
def test_the_oracle_by_hand(aggregate, column, where, expected):
    noon, cutoff = datetime(2024, 1, 10, 12, tzinfo=UTC), datetime(2024, 1, 11, tzinfo=UTC)
    days = [(0, 5, "web"), (4, 0, "web"), (4, None, None), (9, 10, None)]
    rows = [{"at": noon - timedelta(days=d), "known": None, "value": None if v is None else Decimal(v), "channel": c} for d, v, c in days]
    half_life = "4d" if aggregate == "decayed_sum" else None
    feature = Feature(aggregate, column, window="14d", where=where, fallback=None, half_life=half_life)
    assert oracle.feature_value(feature, rows, cutoff, UTC) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("channel = 'web'", False),
        ("NOT channel = 'web'", False),
        ("channel IS NULL", True),
        ("channel = 'web' OR value > 1", True),
        ("NOT (channel = 'web' AND value > 5)", True),
        ("value IN (1, NULL)", False),
        ("NOT value IN (1, NULL)", False),
        ("value BETWEEN -2 AND 2 AND weekday = 3", True),
    ],
)
def test_the_oracle_knows_three_truths(condition, expected):
    row = {"at": datetime(2024, 1, 10, 12, tzinfo=UTC), "channel": None, "value": Fraction(2)}
    assert oracle.holds(condition, row, UTC) is expected


@pytest.mark.parametrize(
    ("age", "half_life", "expected"),
    [
        (0, 7, "1"),
        (7, 7, "0.5"),
        (1, 2, "0.707106781186548"),
        (16, 1, "0.000015258789062"),
        (50, 1, "1e-15"),
        (51, 1, "0"),
    ],
)
def test_the_oracle_s_weights_are_rounded_half_even_to_fifteen_decimals(age, half_life, expected):
    """2 ** -16 = 0.0000152587890625 lies half-way between two of them."""
    assert oracle.weight(age, half_life) == Fraction(expected)


def test_the_oracle_takes_the_fact_valid_latest_of_those_known():
    t = datetime(2024, 1, 10, tzinfo=UTC)
    times = [(None, None), (t - 9 * DAY, None), (t - 5 * DAY, t - DAY), (t - 5 * DAY, t - 2 * DAY), (t - DAY, t), (t, t - 9 * DAY)]
    rows = [{"key": "c", "valid_from": valid, "known_at": told, "tier": n} for n, (valid, told) in enumerate(times)]
    rows += [rows[0] | {"tier": None}, rows[1] | {"tier": -1}]
    facts = oracle.Facts("customer_id", ("tier",), tuple(rows))
    moments = [t - 20 * DAY, t - 9 * DAY, t - 9 * DAY + TICK, t - 2 * DAY, t - DAY, t - DAY + TICK, t, t + TICK]
    assert [oracle.standing(facts, "c", moment)["tier"] for moment in moments] == [0, 0, 1, 1, 3, 2, 2, 5]
    assert oracle.standing(facts, "d", t) == oracle.standing(facts, None, t) == {"tier": None}


# Lookups -----------------------------------------------------------------------------------------------------------------------------

TARGETS_OF_FACTS = (
    Conversion("purchase", "7d", cohort="plan = 'pro'", name="pros"),
    Conversion("purchase", "7d", once=True, where="brand = 'x'", name="once_x"),
    Churn("purchase", "7d", where="cost > 0 OR score IS NULL", cohort="brand <> 'y'", name="churn_of_dear"),
)


@pytest.mark.parametrize(("name", "version"), list(zip(NASTY, VERSIONS, strict=False)))
def test_features_and_labels_over_facts_agree_with_the_oracle(name, version):
    """Facts of customers and of items as they stood at each cutoff, in columns, conditions and cohorts."""

    @QUICK
    @given(rows_of(name), *(facts_of(name, key, version) for key in FACTS), st.integers(0, 2**32))
    def check(rows, clients, items, seed):
        history = History(rows, name, lookups=(clients, items), observed=observed_in(name))
        features = some_of_every_aggregate(Random(seed), ABOUT_FACTS, 3, shapes_of_facts)
        assert_engine_agrees("duckdb", history, features, instants_of(name))
        assert_labels_agree(history, TARGETS_OF_FACTS, None)

    check()


@pytest.mark.parametrize("version", ["valid_from", "known_at", "both"])
def test_a_fact_is_in_force_from_just_after_it_was_valid_and_known(version):
    t = datetime(2024, 3, 1, tzinfo=UTC)
    told = {name: t if name in VERSIONS[version] else None for name in VERSIONS["both"]}
    before = dict.fromkeys(told, None) | {name: t - DAY for name, moment in told.items() if moment}
    facts = tuple({"key": "c"} | times | {"plan": plan, "score": None} for times, plan in ((before, "basic"), (told, "pro")))
    rows = [BLANK | {"at": t - 9 * DAY}]
    history = History(rows, "UTC", lookups=(oracle.Facts("customer_id", ("plan", "score"), facts),))
    counts = [Feature("count", where=f"plan = '{plan}'", fallback=0, name=plan) for plan in ("basic", "pro")]
    got = ENGINES["duckdb"](history, counts, [t - DAY, t - DAY + TICK, t, t + TICK])
    assert [tuple(row[plan] for plan in ("basic", "pro")) for row in got.values()] == [(0, 0), (1, 0), (1, 0), (0, 1)]


# Labels and eligibility --------------------------------------------------------------------------------------------------------------


def assert_labels_agree(history, targets, until):
    """The reason of each customer that a cutoff knows, the label of each that is asked; only rows of customers asked for something."""
    local, cutoffs = zone(history.name), instants_of(history.name)
    held = {row["event"] for row in history.rows}
    targets = [target for target in targets if target.reads <= held]
    snap = snapshots(history.log, cutoffs, [], targets, until=until)
    reasons = {(row["customer_id"], row["cutoff"]): row for row in snap.population().to_pylist()}
    assert set(reasons) == {(who, t) for who in history.customers for t in cutoffs if history.seen(who, t)}
    labels = {(row["customer_id"], row["cutoff"]): row for row in snap.to_arrow().to_pylist()}
    asked = set()
    for who, cutoff in reasons:
        rows = history.joined(who, cutoff)
        for target in targets:
            why = oracle.reason(target, rows, cutoff, local)
            assert reasons[who, cutoff][f"reason_{target.name}"] == why, (target.name, who, cutoff)
            asked |= {(who, cutoff)} if why is None else set()
            if (who, cutoff) in labels:
                expected = None if why else oracle.label(target, rows, cutoff, local, history.observed, until)
                assert labels[who, cutoff][f"label_{target.name}"] == expected, (target.name, who, cutoff)
    assert set(labels) == asked


@pytest.mark.parametrize("name", NASTY)
def test_labels_and_eligibility_agree_with_the_oracle(name):
    """Also with `until` at a boundary: some labels have not ended by it, some events are known too late for it."""
    ends = [oracle.later(instants_of(name)[place], Duration.parse(text), zone(name)) for place, text in ((0, "7d"), (-1, "36h"))]

    @QUICK
    @given(rows_of(name), st.sampled_from([None, *ends]))
    def check(rows, until):
        assert_labels_agree(History(rows, name, observed=observed_in(name)), TARGETS, until)

    check()


def test_labels_agree_with_the_oracle_on_a_dense_log():
    for until in (None, instants_of(dense().name)[-1] + timedelta(days=2)):
        assert_labels_agree(dense(), TARGETS, until)


@pytest.mark.parametrize("few", [0, 3])
def test_values_too_many_to_have_bits_are_told_apart_by_patterns_of_cells(few, monkeypatch):
    """A column's different values are bits of a cell if they are few, and patterns of cells if not: both agree with the oracle."""
    monkeypatch.setattr(survey, "_FEW", few)
    features = [
        Feature("distinct", column, window=window, where=where, fallback=None, name=f"f{number}")
        for number, (column, window, where) in enumerate(
            (column, window, where)
            for column in ("event", "item_id", "channel", "points")
            for window in ("5h", "28d", None)
            for where in WHERES[:6]
        )
    ]
    history = dense()
    assert_engine_agrees("duckdb", history, features, instants_of(history.name))
