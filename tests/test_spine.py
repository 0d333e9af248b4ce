"""An own spine: the customers and instants that somebody asks about, event-time cutoffs included, with features and labels for each."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from random import Random

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persopredict import Churn, Conversion, Feature, measuring
from persopredict.errors import PersopredictError
from persopredict.snapshots import snapshots
from persopredict.times import zone
from tests import oracle
from tests.conformance import (
    ABOUT_FACTS,
    COLUMNS,
    DAY,
    FACTS,
    NASTY,
    QUICK,
    TARGETS,
    TICK,
    WHERES,
    History,
    dense,
    disagreements,
    every_boundary,
    facts_of,
    instants,
    instants_of,
    observed_in,
    rows_of,
    shapes_of_facts,
    some_of_every_aggregate,
)

T = datetime(2024, 3, 1, tzinfo=UTC)
BLANK = dict.fromkeys((*COLUMNS, "category"), None) | {"event": "visit", "known": None, "customer_id": "c"}


@st.composite
def spine_of(draw, rows, name):
    """Some rows for each customer: at instants of its events and a tick around them, at boundaries, at odd microseconds; and strangers."""
    random, cutoffs = Random(draw(st.integers(0, 2**32))), instants_of(name)
    own = {}
    for row in rows:
        own.setdefault(row["customer_id"], []).append(row["at"])
    pairs = set()
    for who in [*sorted(own)[random.randint(0, 2) :], "stranger", "ø stranger"]:
        for _ in range(random.randint(1, 4)):
            anywhere = cutoffs[0] + random.randrange(-400 * 86_400_000_000, 200 * 86_400_000_000) * TICK
            moments = random.choice((own.get(who, cutoffs), every_boundary(name), cutoffs, [anywhere]))
            pairs.add((who, random.choice(moments) + random.choice([-1, 0, 0, 1, 1234567]) * TICK))
    return random.sample(sorted(pairs), len(pairs))


def frame_of(pairs):
    return pa.table({"customer_id": pa.array([who for who, _ in pairs], pa.string()), "cutoff": instants([cutoff for _, cutoff in pairs])})


def on_spine(history, pairs, features, targets=(), **options):
    return snapshots(history.log, (), features, targets, spine=frame_of(pairs), **options)


def keys_of(table):
    return list(zip(table["customer_id"].to_pylist(), table["cutoff"].to_pylist(), strict=True))


def assert_spine_agrees(history, pairs, features, targets, until=None):
    """The spine's rows, all of them, by customer and cutoff; every feature, and every label, as the oracle has them."""
    targets = [target for target in targets if target.reads <= {row["event"] for row in history.rows}]
    table = on_spine(history, pairs, features, targets, until=until).to_arrow()
    names = ["customer_id", "cutoff", *(feature.name for feature in features), *(f"label_{target.name}" for target in targets)]
    assert table.schema.names == names
    assert keys_of(table) == sorted(pairs)
    got = dict(zip(sorted(pairs), table.to_pylist(), strict=True))
    wrong = disagreements(got, history, features)
    for (who, cutoff), row in got.items():
        joined, local = history.joined(who, cutoff), zone(history.name)
        for target in targets:
            asked = oracle.reason(target, joined, cutoff, local) is None
            expected = oracle.label(target, joined, cutoff, local, history.observed, until) if asked else None
            if row[f"label_{target.name}"] != expected:
                wrong.append((target.name, who, cutoff.isoformat(), row[f"label_{target.name}"], expected))
    assert not wrong, f"{len(wrong)} differ: {wrong[:5]}"


@pytest.mark.parametrize("name", NASTY)
def test_features_and_labels_of_a_spine_agree_with_the_oracle(name):
    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name))
        history = History(rows, name, observed=observed_in(name))
        features = some_of_every_aggregate(Random(data.draw(st.integers(0, 2**32))), WHERES, 2)
        until = data.draw(st.sampled_from([None, instants_of(name)[-1], instants_of(name)[-1] + 3 * DAY]))
        assert_spine_agrees(history, data.draw(spine_of(rows, name)), features, TARGETS, until)

    check()


@pytest.mark.parametrize("version", ["both", "neither"])
def test_facts_on_a_spine_are_those_of_each_row_s_own_cutoff(version):
    name = "Europe/Madrid"
    targets = (
        Conversion("purchase", "7d", cohort="plan = 'pro'", name="pros"),
        Churn("visit", "36h", where="brand = 'x'", name="x_visits"),
    )

    @QUICK
    @given(st.data())
    def check(data):
        rows = data.draw(rows_of(name))
        lookups = tuple(data.draw(facts_of(name, key, version)) for key in FACTS)
        history = History(rows, name, lookups=lookups, observed=observed_in(name))
        features = some_of_every_aggregate(Random(data.draw(st.integers(0, 2**32))), ABOUT_FACTS, 2, shapes_of_facts)
        assert_spine_agrees(history, data.draw(spine_of(rows, name)), features, targets)

    check()


def test_the_event_that_sets_a_cutoff_is_not_in_its_own_features():
    moments = [T - 9 * DAY, T - 2 * DAY + 7 * TICK, T]
    history = History([BLANK | {"at": at, "value": Decimal(number + 1)} for number, at in enumerate(moments)], "UTC")
    features = [Feature("count", fallback=0), Feature("last", "value", fallback=None), Feature("recency", fallback=None)]
    rows = on_spine(history, [("c", at) for at in moments], features).to_arrow().drop_columns(["customer_id", "cutoff"]).to_pylist()
    seven = (7 * DAY + 7 * TICK) / DAY
    assert [tuple(row.values()) for row in rows] == [(0, None, None), (1, 1, seven), (2, 2, pytest.approx((2 * DAY - 7 * TICK) / DAY))]


def test_a_row_of_a_customer_without_history_gets_fallbacks_and_no_label():
    """Never heard of; not yet; known only later."""
    rows = [BLANK | {"customer_id": "soon", "at": T}, BLANK | {"customer_id": "unknown", "at": T - DAY, "known": T}]
    history = History([*rows, BLANK | {"at": T - 90 * DAY}], "UTC", observed=(T - 90 * DAY, T + 90 * DAY))
    features = [Feature("count", fallback=-3), Feature("recency", fallback=None)]
    targets = [Conversion("visit", "7d"), Churn("visit", "7d", active_within=None)]
    pairs = [(who, T) for who in ("nobody", "soon", "unknown")] + [("c", T - 400 * DAY)]
    table = on_spine(history, pairs, features, targets).to_arrow()
    assert keys_of(table) == [("c", T - 400 * DAY), ("nobody", T), ("soon", T), ("unknown", T)]
    assert {tuple(row.values()) for row in table.drop_columns(["customer_id", "cutoff"]).to_pylist()} == {(-3, None, None, None)}


def test_each_target_has_its_own_label_and_those_it_does_not_ask():
    observed = (T - 90 * DAY, T + 7 * DAY)
    rows = [BLANK | {"event": event, "at": at} for event, at in (("purchase", T - DAY), ("visit", T - 40 * DAY), ("visit", T + 5 * DAY))]
    history = History(rows, "UTC", observed=observed)
    targets = [Churn("purchase", "7d"), Conversion("visit", "7d"), Conversion("visit", "8d"), Churn("visit", "7d", active_within="28d")]
    table = on_spine(history, [("c", T), ("c", T - 30 * DAY)], [], targets).to_arrow()
    labels = [tuple(row.values()) for row in table.drop_columns(["customer_id", "cutoff"]).to_pylist()]
    assert labels == [(None, 0, 0, 1), (1, 1, None, None)]


def test_the_spine_of_a_grid_gives_the_grid_s_rows():
    history, cutoffs = dense(), instants_of(dense().name)
    features = some_of_every_aggregate(Random(5), WHERES, 2)
    grid = snapshots(history.log, cutoffs, features).to_arrow()
    assert on_spine(history, keys_of(grid)[::-1], features).to_arrow().equals(grid)


def test_what_others_do_changes_nothing():
    history, features = dense(), some_of_every_aggregate(Random(6), WHERES, 2)
    who = history.rows[0]["customer_id"]
    alone = History(history.customers[who], history.name)
    pairs = [(who, at + shift) for at in instants_of(history.name) for shift in (-TICK, timedelta(0), TICK)]
    among = pairs + [(other, at - number * TICK) for number, other in enumerate(history.customers) for _, at in pairs if other != who]
    rows = on_spine(history, among, features).to_arrow()
    assert rows.filter(pc.equal(rows["customer_id"], who)).equals(on_spine(alone, pairs, features).to_arrow())


# Frames --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        lambda spine: spine,
        lambda spine: spine.select(["cutoff", "customer_id"]),
        lambda spine: spine.to_pandas(),
        lambda spine: spine.to_pandas().set_index(pd.Index([7, 7])),
        lambda spine: pl.from_arrow(spine),
        lambda spine: spine.to_pandas().assign(cutoff=lambda frame: frame["cutoff"].dt.tz_convert("Asia/Tokyo")),
        lambda spine: spine.to_pandas().assign(cutoff=lambda frame: frame["cutoff"].dt.tz_convert("America/New_York").dt.tz_localize(None)),
        lambda spine: spine.to_pandas().assign(customer_id=[17.0, 4.0]),
    ],
    ids=["arrow", "other order", "pandas", "any index", "polars", "another zone", "naive, in the log's zone", "floats"],
)
def test_a_spine_may_be_any_frame(spelled):
    rows = [BLANK | {"customer_id": who, "at": T - DAY} for who in ("4", "17", "17")]
    log, pairs = History(rows, "America/New_York").log, [("17", T), ("4", T - DAY + TICK)]
    table = snapshots(log, (), [Feature("count", fallback=0)], spine=spelled(frame_of(pairs))).to_arrow()
    assert keys_of(table) == pairs
    assert table["count_all"].to_pylist() == [2, 1]


def test_a_spine_comes_in_batches_as_pandas_and_as_parquet(tmp_path):
    history, features = dense(), [Feature("count", window="7d", fallback=0), Feature("recency", fallback=None)]
    pairs = [(who, at + number * TICK) for number, who in enumerate(history.customers) for at in instants_of(history.name)]
    snap = on_spine(history, pairs, features, [Conversion("purchase", "7d")])
    whole, batches = snap.to_arrow(), list(snap.batches(7))
    assert max(batch.num_rows for batch in batches) <= 7
    assert pa.Table.from_batches(batches).equals(whole)
    assert pq.read_table(snap.to_parquet(tmp_path / "spine.parquet")).equals(whole)
    assert snap.to_pandas().equals(whole.to_pandas())


@pytest.mark.parametrize(
    ("cutoffs", "spine", "word"),
    [
        ((), {"customer_id": ["c"]}, "cutoff"),
        ((), {"client": ["c"], "cutoff": [T]}, "customer_id"),
        ((), {"customer_id": ["c"], "cutoff": [None]}, "cutoff"),
        ((), {"customer_id": [None], "cutoff": [T]}, "customer_id"),
        ([T], {"customer_id": ["c"], "cutoff": [T]}, "spine"),
        ((), {"customer_id": ["c", "c"], "cutoff": [T, T]}, "more than once"),
        ((), None, "cutoff"),
    ],
    ids=["no cutoff", "no customer", "null cutoff", "null customer", "both", "twice", "neither"],
)
def test_a_spine_that_can_not_be_meant_is_refused(cutoffs, spine, word):
    log = History([BLANK | {"at": T - DAY}], "UTC").log
    with pytest.raises(PersopredictError, match=word):
        snapshots(log, cutoffs, [Feature("count", fallback=0)], spine=None if spine is None else pd.DataFrame(spine)).to_arrow()


def test_two_plans_over_one_log_may_be_read_in_turns(monkeypatch):
    """Each run has tables of its own: neither reads, replaces nor drops the other's."""
    monkeypatch.setattr(measuring, "_MOST", 1)
    monkeypatch.setattr(measuring, "_FEWEST", 1)
    rows = [BLANK | {"customer_id": f"c{n}", "at": T - n * DAY, "value": Decimal(n)} for n in range(1, 9)]
    history = History(rows, "UTC", observed=(T - 90 * DAY, T))
    features = [Feature("decayed_sum", "value", half_life="3d", fallback=0), Feature("distinct", "event", fallback=0)]
    log = history.log
    plans = [
        snapshots(log, [T], features),
        snapshots(log, [T - 5 * DAY], features),
        *(
            snapshots(log, None, features, spine=pd.DataFrame({"customer_id": [f"c{n}" for n in range(9)], "cutoff": T - d * DAY}))
            for d in (0, 4)
        ),
    ]
    alone = [plan.to_arrow().to_pylist() for plan in plans]
    together = [[], [], [], []]
    for batches in zip_longest(*(plan.batches() for plan in plans)):
        for rows_, batch in zip(together, batches, strict=True):
            rows_ += [] if batch is None else batch.to_pylist()
    assert together == alone
