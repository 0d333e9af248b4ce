"""Every aggregate, label and eligibility, on hostile logs, against the oracle: one run of the engine checks hundreds of values."""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from persopredict import Cancellation, Churn, Conversion, EventLog, Feature
from persopredict.features.spec import AGGREGATES
from persopredict.snapshots import snapshots
from persopredict.times import Duration, zone
from tests import oracle

TICK = timedelta(microseconds=1)
#: No shrinking: an example checks hundreds of values, and the message names the few that differ.
QUICK = settings(
    deadline=None, derandomize=True, max_examples=2, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)
EXACT = ("count", "distinct")

#: Cutoffs around what is nasty in each zone: year ends, days of 23, 24.5 and 25 hours, a midnight that does not exist, odd microseconds.
NASTY = {
    "UTC": ("2023-12-31T00:00:00+00:00", "2024-01-01T00:00:00+00:00", "2024-03-01T12:34:56.000001+00:00"),
    "America/New_York": ("2024-03-11T00:00:00-04:00", "2024-11-03T01:30:00-05:00", "2025-01-01T00:00:00-05:00"),
    "Europe/Madrid": ("2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
    "Australia/Lord_Howe": ("2024-04-07T01:45:00+10:30", "2024-04-08T00:00:00+10:30", "2024-10-07T00:00:00+11:00"),
    "America/Santiago": ("2024-09-08T04:00:00+00:00", "2024-09-09T00:00:00-03:00", "2024-10-06T00:00:00-03:00"),
}
WINDOWS = ("5h", "1d", "7d", "28d", "364d")
WHERES = (
    None,
    "event = 'purchase'",
    "event = 'it''s'",
    "event = '購入 ☕'",
    "event = 'never'",
    "channel <> 'web'",
    "NOT channel IN ('web', 'Web')",
    "channel IN ('web', NULL)",
    "channel IS NULL OR value < 0",
    "value BETWEEN -5 AND 1000000000.005",
    "hour >= 18 AND NOT weekday IN (6, 7)",
    "points > 1.5 OR tier IS NOT NULL",
)
VALUES = ("0", "0.01", "-5", "19.99", "1000000000.01", "999999999.99", "-0.000001", "999999999999.999999", "-999999999999.999999")
NUMERIC = ("quantity", "value", "points", "day", "hour", "weekday")
COLUMNS = {
    "event": ("purchase", "visit", "it's", "購入 ☕", "subscribe", "cancel", "expire"),
    "order_id": (None, "1", "2", "ø"),
    "item_id": (None, "a", "b", "A", " "),
    "channel": (None, "web", "Web", "store", ""),
    "department": (None, "food", "toys"),
    "family": (None, "bread", "dolls"),
    "tier": (None, "gold", "silver"),
    "value": (None, *map(Decimal, VALUES)),
    "quantity": (None, *map(Decimal, ("0", "1", "-1", "3", "0.5"))),
    "points": (None, *map(Decimal, ("0", "1.5", "2", "-7"))),
}


def instants_of(name):
    return [datetime.fromisoformat(text).astimezone(UTC) for text in NASTY[name]]


def every_boundary(name):
    """All instants at which something starts or ends, and the microseconds around them."""
    local, found = zone(name), set()
    for cutoff in instants_of(name):
        lengths = [Duration.parse(text) for text in WINDOWS]
        found |= {oracle.earlier(cutoff, length, local) for length in [*lengths, *(length.half() for length in lengths)]}
        found |= {oracle.later(cutoff, Duration.parse(text), local) for text in ("1d", "7d", "8d", "36h")}
        day = cutoff.astimezone(local).date()
        found |= {
            cutoff,
            *(datetime(d.year, d.month, d.day, tzinfo=local).astimezone(UTC) for d in (day, day - timedelta(1), day + timedelta(1))),
        }
    return sorted({moment + shift for moment in found for shift in (-TICK, timedelta(0), TICK)})


@st.composite
def rows_of(draw, name):
    """The rows of a log: up to 25 customers with up to 14 events each, half of them at a boundary, some known late, some twice."""
    boundaries, cutoffs = every_boundary(name), instants_of(name)
    somewhere = st.datetimes(datetime(2022, 6, 1), datetime(2025, 6, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
    near = st.tuples(st.sampled_from(cutoffs), st.integers(0, 40 * 24)).map(lambda pair: pair[0] - timedelta(hours=pair[1]))
    times = st.one_of(st.sampled_from(boundaries), near, somewhere)
    random = draw(st.randoms(use_true_random=False))
    rows = []
    for customer in range(draw(st.integers(5, 25))):
        for at in draw(st.lists(times, min_size=1, max_size=14)):
            late = random.choice([None, None, None, at, at - timedelta(days=1), at + TICK, at + timedelta(days=9), *cutoffs])
            row = {"customer_id": f"c{customer}", "at": at, "known": late}
            row |= {column: random.choice(values) for column, values in COLUMNS.items()}
            rows += [row] * random.choice([1, 1, 1, 2])
    return rows


def log_of(rows, name, *, late=True, **options):
    number = pa.decimal128(18, 6)
    columns = {
        "customer_id": pa.array([row["customer_id"] for row in rows]),
        "event_at": pa.array([row["at"] for row in rows], pa.timestamp("us", tz="UTC")),
        **{column: pa.array([row[column] for row in rows], number if column in NUMERIC else pa.string()) for column in COLUMNS},
    }
    if late:
        columns["known_at"] = pa.array([row["known"] for row in rows], pa.timestamp("us", tz="UTC"))
    return EventLog(pa.table(columns), category=("department", "family"), dimensions=["tier", "points"], timezone=name, **options)


def by_customer(rows):
    found = defaultdict(list)
    for row in rows:
        found[row["customer_id"]].append(row)
    return found


def agrees(got, expected, *, exactly):
    if got is None or expected is None:
        return got is expected
    return got == expected if exactly else math.isclose(got, expected, rel_tol=1e-9)


def assert_features_agree(rows, name, features, cutoffs, log=None):
    """Same customers, same values; as many as there are, so a failure shows the first few with what the oracle says."""
    local, customers = zone(name), by_customer(rows)
    got = {
        (row["customer_id"], row["cutoff"]): row for row in snapshots(log or log_of(rows, name), cutoffs, features).to_arrow().to_pylist()
    }
    assert set(got) == {(who, t) for who in customers for t in cutoffs if oracle.seen(customers[who], t)}
    wrong = []
    for (who, cutoff), row in got.items():
        for feature in features:
            expected = oracle.feature_value(feature, customers[who], cutoff, local, NUMERIC)
            if not agrees(row[feature.name], expected, exactly=feature.aggregate in EXACT):
                wrong.append((feature.name, who, cutoff.isoformat(), f"engine {row[feature.name]!r}", f"oracle {expected!r}"))
    assert not wrong, f"{len(wrong)} of {len(got) * len(features)} differ: {wrong[:5]}"


def every_shape(aggregate):
    """The columns that an aggregate is tried on."""
    if aggregate == "ratio":
        return [("value", "order_id"), ("value", "quantity"), ("quantity", "day"), ("points", "hour")]
    if aggregate == "distinct":
        return ["day", "item_id", "channel", "family", "value", "hour", "event", "tier"]
    plain = [None] if 0 in AGGREGATES[aggregate].columns else []
    return plain + (["value", "points", "quantity", "hour"] if 1 in AGGREGATES[aggregate].columns else [])


def feature_of(aggregate, column, window, where, fallback, number):
    return Feature(aggregate, column, window=window, where=where, fallback=fallback, name=f"f{number}_{aggregate}")


def test_all_aggregates_have_an_oracle():
    assert set(oracle._AGGREGATES) == set(AGGREGATES)


CONDITION = st.recursive(
    st.sampled_from([where for where in WHERES if where]),
    lambda inner: st.one_of(
        inner.map("NOT ({})".format), st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})")
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("name", NASTY)
def test_every_aggregate_agrees_with_the_oracle(name):
    """Each aggregate on each shape, window and some condition, drawn by Hypothesis; two hostile logs per zone."""
    shapes = [(aggregate, column, window) for aggregate in AGGREGATES for column in every_shape(aggregate) for window in (*WINDOWS, None)]
    shapes = [shape for shape in shapes if not (shape[0] == "trend" and shape[2] is None)]

    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name), label="rows")
        conditions = [None, *data.draw(st.lists(CONDITION, min_size=2, max_size=2), label="conditions")]
        random = data.draw(st.randoms(use_true_random=False))
        features = [
            feature_of(*shape, random.choice(conditions), random.choice([None, 0, -1.5]), number)
            for number, shape in enumerate(random.sample(shapes, 60))
        ]
        assert_features_agree(rows, name, features, instants_of(name))

    check()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_every_aggregate_under_every_condition_agrees_with_the_oracle(aggregate, hostile):
    """One aggregate at a time, so that a failure names it; its columns take turns."""
    rows, log = hostile
    windows, shapes = ("7d", "28d") if aggregate == "trend" else ("28d", None), every_shape(aggregate)
    features = [
        feature_of(aggregate, shapes[turn % len(shapes)], window, where, None, 2 * turn + number)
        for turn, where in enumerate(WHERES)
        for number, window in enumerate(windows)
    ]
    assert_features_agree(rows, "America/New_York", features, instants_of("America/New_York"), log)


@pytest.fixture(scope="module")
def hostile():
    """One dense log: 12 customers, every boundary of New York visited by somebody, every value, nulls everywhere."""
    name = "America/New_York"
    boundaries = every_boundary(name)
    rows = []
    for number in range(4 * len(boundaries)):
        at = boundaries[number * 7 % len(boundaries)]
        known = (None, None, at + timedelta(days=3), instants_of(name)[number % 3])[number % 4]
        row = {"customer_id": f"c{number % 12}", "at": at, "known": known}
        rows.append(row | {column: values[number * step % len(values)] for step, (column, values) in enumerate(COLUMNS.items(), 3)})
    return rows, log_of(rows, name)


def test_a_log_without_known_at_agrees_with_the_oracle(hostile):
    rows = [row | {"known": None} for row in hostile[0]]
    features = [
        feature_of(aggregate, every_shape(aggregate)[0], "28d", "event = 'purchase'", None, n) for n, aggregate in enumerate(AGGREGATES)
    ]
    cutoffs = instants_of("America/New_York")
    assert_features_agree(rows, "America/New_York", features, cutoffs, log_of(rows, "America/New_York", late=False))


def test_events_before_1970_agree_with_the_oracle():
    """Microseconds since 1970 are negative there; flooring, days, hours and weekdays must not round towards zero."""
    name, cutoff = "Europe/Madrid", datetime(1969, 12, 31, 23, tzinfo=UTC)
    blank = dict.fromkeys(COLUMNS, None) | {"event": "visit", "known": None, "customer_id": "c"}
    rows = [blank | {"at": cutoff - timedelta(hours=7 * n, microseconds=n), "value": Decimal(n)} for n in range(60)]
    features = [feature_of(aggregate, every_shape(aggregate)[0], "7d", None, None, n) for n, aggregate in enumerate(AGGREGATES)]
    features += [feature_of("mean", column, None, None, None, 50 + n) for n, column in enumerate(("hour", "weekday", "day"))]
    assert_features_agree(rows, name, features, [cutoff, cutoff - timedelta(days=3)])


def test_values_a_hair_apart_keep_their_spread_and_trend():
    """Two hundred amounts of 1e9 and of 1e12 that differ by cents: in doubles nothing of the spread would survive."""
    cutoff, blank = datetime(2024, 3, 1, tzinfo=UTC), dict.fromkeys(COLUMNS, None) | {"event": "visit", "known": None}
    rows = []
    for who, offset, number in (("large", Decimal(10) ** 9, 200), ("huge", Decimal(10) ** 12 - 9, 100), ("hugely apart", None, 100)):
        for n in range(number):
            value = (-1) ** n * (Decimal(10) ** 12 - 1) if offset is None else offset + Decimal(n) / 100
            rows.append(blank | {"customer_id": who, "at": cutoff - timedelta(hours=n + 1), "value": value})
    names = ("sum", "mean", "std", "min", "max", "share", "trend")
    features = [feature_of(aggregate, "value", "28d" if aggregate != "trend" else "7d", None, None, n) for n, aggregate in enumerate(names)]
    assert_features_agree(rows, "UTC", features, [cutoff])
    spread = oracle.feature_value(features[2], by_customer(rows)["large"], cutoff, zone("UTC"), NUMERIC)
    assert spread == pytest.approx(math.sqrt(200 * 201 / 12) / 100)


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
    ],
)
def test_the_oracle_by_hand(aggregate, column, where, expected):
    noon, cutoff = datetime(2024, 1, 10, 12, tzinfo=UTC), datetime(2024, 1, 11, tzinfo=UTC)
    days = [(0, 5, "web"), (4, 0, "web"), (4, None, None), (9, 10, None)]
    rows = [{"at": noon - timedelta(days=d), "known": None, "value": None if v is None else Decimal(v), "channel": c} for d, v, c in days]
    feature = Feature(aggregate, column, window="14d", where=where, fallback=None)
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


# Labels and eligibility --------------------------------------------------------------------------------------------------------------

SPAN = (datetime(2023, 12, 31, tzinfo=UTC), datetime(2025, 1, 5, tzinfo=UTC))
TARGETS = (
    Conversion("purchase", "7d", name="plain"),
    Conversion(("purchase", "it's"), "36h", gap="1d", name="two_events"),
    Conversion("purchase", "7d", once=True, name="once"),
    Conversion("purchase", "7d", where="channel = 'web' OR value < 0", active_within="28d", name="where_active"),
    Conversion("購入 ☕", "7d", once=True, where="value > 0", cohort="tier = 'gold'", name="cohort_once"),
    Churn("purchase", "7d", active_within="28d", name="churn"),
    Churn("purchase", "7d", gap="1d", active_within=None, name="churn_ever"),
    Churn("visit", "36h", where="channel = 'web'", active_within="364d", cohort="event = 'purchase'", name="churn_web"),
    Cancellation("cancel", "7d", start="subscribe", competing=("expire",), name="contract"),
    Cancellation("cancel", "7d", gap="1d", start="subscribe", competing=("expire",), name="contract_gap"),
    Cancellation(("cancel", "expire"), "7d", gap="5h", name="any_end"),
    Cancellation("cancel", "7d", start="subscribe", where="channel <> 'web'", competing="expire", active_within="28d", name="web_end"),
)


def assert_labels_agree(rows, name, cutoffs, until):
    local, customers = zone(name), by_customer(rows)
    held = {row["event"] for row in rows}
    targets = [target for target in TARGETS if target.reads <= held]
    snap = snapshots(log_of(rows, name, observed=SPAN), cutoffs, [], targets, until=until)
    reasons = {(row["customer_id"], row["cutoff"]): row for row in snap.population().to_pylist()}
    assert set(reasons) == {(who, t) for who in customers for t in cutoffs if oracle.seen(customers[who], t)}
    labels = {(row["customer_id"], row["cutoff"]): row for row in snap.to_arrow().to_pylist()}
    expected_rows = set()
    for who, cutoff in reasons:
        for target in targets:
            why = oracle.reason(target, customers[who], cutoff, local)
            assert reasons[who, cutoff][f"reason_{target.name}"] == why, (target.name, who, cutoff)
            expected = None if why else oracle.label(target, customers[who], cutoff, local, SPAN, until)
            if why is None:
                expected_rows.add((who, cutoff))
            if (who, cutoff) in labels:
                assert labels[who, cutoff][f"label_{target.name}"] == expected, (target.name, who, cutoff)
    assert set(labels) == expected_rows


@pytest.mark.parametrize("name", NASTY)
def test_labels_and_eligibility_agree_with_the_oracle(name):
    """Also with `until` at a boundary: some labels have not ended by it, some events are known too late for it."""
    cutoffs = instants_of(name)
    moments = [
        None,
        oracle.later(cutoffs[0], Duration.parse("7d"), zone(name)),
        oracle.later(cutoffs[-1], Duration.parse("8d"), zone(name)),
    ]

    @QUICK
    @given(rows_of(name), st.sampled_from(moments))
    def check(rows, until):
        assert_labels_agree(rows, name, cutoffs, until)

    check()


def test_labels_agree_with_the_oracle_on_a_dense_log(hostile):
    cutoffs = instants_of("America/New_York")
    for until in (None, cutoffs[-1] + timedelta(days=2)):
        assert_labels_agree(hostile[0], "America/New_York", cutoffs, until)
