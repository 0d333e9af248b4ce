"""What every engine is held to: hostile logs made by Hypothesis, each engine as a function of them, and what agreement means.

`conformance` runs every aggregate on every engine against the oracle; `markdown` writes it down for the docs. A new engine is one more
entry of `ENGINES`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property
from random import Random

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import persopredict as pp
from persopredict import Cancellation, Churn, Conversion, EventLog, Feature
from persopredict.features.spec import AGGREGATES
from persopredict.snapshots import snapshots
from persopredict.times import Duration, zone
from tests import oracle

TICK, DAY = timedelta(microseconds=1), timedelta(days=1)
#: No shrinking: an example checks hundreds of values, and the message names the few that differ.
QUICK = settings(
    deadline=None, derandomize=True, max_examples=2, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)

#: Cutoffs around what is nasty in each zone: year ends, days of 23, 24.5 and 25 hours, a midnight that does not exist, odd microseconds,
#: a whole day that does not exist, an hour that is repeated across midnight, so that the calendar goes back a day.
NASTY = {
    "UTC": ("2023-12-31T00:00:00+00:00", "2024-01-01T00:00:00+00:00", "2024-03-01T12:34:56.000001+00:00"),
    "America/New_York": ("2024-03-11T00:00:00-04:00", "2024-11-03T01:30:00-05:00", "2025-01-01T00:00:00-05:00"),
    "Europe/Madrid": ("2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
    "Australia/Lord_Howe": ("2024-04-07T01:45:00+10:30", "2024-04-08T00:00:00+10:30", "2024-10-07T00:00:00+11:00"),
    "America/Santiago": ("2024-09-08T04:00:00+00:00", "2024-09-09T00:00:00-03:00", "2024-10-06T00:00:00-03:00"),
    "Pacific/Apia": ("2011-12-29T23:59:59.999999-10:00", "2012-01-01T00:00:00+14:00", "2012-01-06T12:00:00+14:00"),
    "America/St_Johns": ("2010-03-15T00:00:00-02:30", "2010-11-07T02:45:00+00:00", "2010-11-08T00:00:00-03:30"),
}
WINDOWS = ("5h", "1d", "7d", "28d", "364d")
HALF_LIVES = ("1d", "7d", "28d", "365d")
WHERES = (
    None,
    "event = 'purchase'",
    "event = 'it''s'",
    "event = '購入 ☕'",
    "event = 'never'",
    "channel <> 'web'",
    "NOT channel IN ('web', 'Web')",
    "channel IN ('web', NULL, 'caf\u00e9')",
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
    "item_id": (None, "a", "b", "A", "ü"),
    # One word in two spellings of Unicode is two values.
    "channel": (None, "web", "Web", "store", "", "caf\u00e9", "cafe\u0301"),
    "department": (None, "food", "toys"),
    "family": (None, "bread", "dolls"),
    "tier": (None, "gold", "silver"),
    "value": (None, *map(Decimal, VALUES)),
    "quantity": (None, *map(Decimal, ("0", "1", "-1", "3", "0.5"))),
    "points": (None, *map(Decimal, ("0", "1.5", "2", "-7"))),
}
#: Facts of lookups, by the column that they are facts of.
FACTS = {
    "customer_id": {"plan": (None, "basic", "pro", "購"), "score": (None, *map(Decimal, ("0", "-2.5", "999999999999.999999")))},
    "item_id": {"brand": (None, "x", "y", ""), "cost": (None, *map(Decimal, ("0.000001", "3", "-1")))},
}
NUMERIC_FACTS = ("score", "cost")
ABOUT_FACTS = (
    None,
    "plan = 'pro'",
    "brand <> 'x' OR score < 0",
    "NOT plan IN ('basic', '購')",
    "cost > 0 AND event = 'purchase'",
    "brand IS NULL",
)
#: The times that a lookup tells.
VERSIONS = {"neither": (), "valid_from": ("valid_from",), "known_at": ("known_at",), "both": ("valid_from", "known_at")}
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


# Hostile logs ----------------------------------------------------------------------------------------------------------------------


class Rows(list):
    """Rows of a log, which a failing test does not print."""

    def __repr__(self):
        return f"<{len(self)} rows>"


@dataclass(frozen=True, eq=False)
class History:
    """A log as the oracle sees it (rows, lookups), and as the engines do (`log`)."""

    rows: list[dict]
    name: str
    late: bool = True
    lookups: tuple[oracle.Facts, ...] = ()
    observed: tuple[datetime, datetime] | None = None

    @cached_property
    def customers(self):
        found = defaultdict(list)
        for row in self.rows:
            found[row["customer_id"]].append(row)
        return found

    @cached_property
    def log(self):
        columns = {
            "customer_id": pa.array([row["customer_id"] for row in self.rows], pa.string()),
            "event_at": instants([row["at"] for row in self.rows]),
            **{column: cells(column, [row[column] for row in self.rows]) for column in COLUMNS},
        }
        if self.late:
            columns["known_at"] = instants([row["known"] for row in self.rows])
        described = {"category": ("department", "family"), "dimensions": ["tier", "points"], "timezone": self.name}
        log = EventLog(pa.table(columns), observed=self.observed, **described)
        return log.join(*map(lookup_of, self.lookups)) if self.lookups else log

    def seen(self, who, cutoff):
        return oracle.seen(self.customers[who], cutoff)

    def joined(self, who, cutoff):
        return oracle.joined(self.customers.get(who, []), self.lookups, cutoff)


def instants(moments):
    return pa.array(moments, pa.timestamp("us", tz="UTC"))


def cells(column, values):
    return pa.array(values, pa.decimal128(18, 6) if column in NUMERIC + NUMERIC_FACTS else pa.string())


def lookup_of(facts):
    """The lookup of a table whose columns carry the names they have in the log."""
    columns = {name: cells(name, [row[name] for row in facts.rows]) for name in facts.columns}
    columns[facts.key] = pa.array([row["key"] for row in facts.rows], pa.string())
    given = {name: name for name in ("valid_from", "known_at") if any(row[name] for row in facts.rows)}
    columns |= {name: instants([row[name] for row in facts.rows]) for name in given}
    return pp.Lookup(pa.table(columns), key=facts.key, columns=list(facts.columns), **given)


def instants_of(name):
    return [datetime.fromisoformat(text).astimezone(UTC) for text in NASTY[name]]


def observed_in(name):
    """From the first cutoff to exactly seven days after the last."""
    cutoffs = instants_of(name)
    return cutoffs[0], oracle.later(cutoffs[-1], Duration.parse("7d"), zone(name))


@cache
def every_boundary(name):
    """All instants at which something starts or ends, and the microseconds around them."""
    local, found = zone(name), set()
    for cutoff in instants_of(name):
        lengths = [Duration.parse(text) for text in WINDOWS]
        found |= {oracle.earlier(cutoff, length, local) for length in [*lengths, *(length.half() for length in lengths)]}
        found |= {oracle.later(cutoff, Duration.parse(text), local) for text in ("1d", "7d", "8d", "36h")}
        midnight = cutoff.astimezone(local).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        found |= {cutoff, *((midnight + days * DAY).astimezone(UTC) for days in (-1, 0, 1))}
    return sorted({moment + shift for moment in found for shift in (-TICK, timedelta(0), TICK)})


def moments_of(name):
    """At a boundary, in the weeks before a cutoff, or anywhere in the years around."""
    cutoffs = instants_of(name)
    naive = [cutoff.replace(tzinfo=None) for cutoff in (cutoffs[0] - 600 * DAY, cutoffs[-1] + 150 * DAY)]
    somewhere = st.datetimes(*naive).map(lambda moment: moment.replace(tzinfo=UTC))
    near = st.tuples(st.sampled_from(cutoffs), st.integers(0, 40 * 24)).map(lambda pair: pair[0] - timedelta(hours=pair[1]))
    return st.one_of(near, st.sampled_from(every_boundary(name)), somewhere)


def person(number):
    return (f"c{number}", f"ø {number}", f"客{number}", f"0{number}")[number % 4]


@st.composite
def rows_of(draw, name):
    """Up to 20 customers with up to 12 instants each, many at a boundary; several events at one instant, some known late, some twice."""
    random, cutoffs, rows = Random(draw(st.integers(0, 2**32))), instants_of(name), Rows()
    for number, moments in enumerate(draw(st.lists(st.lists(moments_of(name), min_size=3, max_size=12), min_size=5, max_size=20))):
        for at in moments:
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                late = random.choice([None, None, None, at, at - DAY, at + TICK, at + 9 * DAY, *cutoffs])
                row = {"customer_id": person(number), "at": at, "known": late}
                row |= {column: random.choice(values) for column, values in COLUMNS.items()}
                rows += [row | {"category": row["department"]}] * random.choice((1, 1, 1, 2))
    return rows


@st.composite
def facts_of(draw, name, key, version):
    """A lookup's rows, for keys that the log has, lacks, or leaves null; `version` is one of `VERSIONS`."""
    random, rows = Random(draw(st.integers(0, 2**32))), []
    times = [None, *(cutoff + shift for cutoff in instants_of(name) for shift in (-90 * DAY, -DAY, -TICK, timedelta(0), TICK))]
    keys = [*map(person, range(20)), "stranger"] if key == "customer_id" else [*COLUMNS["item_id"][1:], "stranger"]
    for owner in (*keys, None):
        for _ in range(random.choice((0, 1, 3, 6) if VERSIONS[version] else (0, 1, 1, 2))):
            valid, told = (random.choice(times) if told_of in VERSIONS[version] else None for told_of in ("valid_from", "known_at"))
            facts = {column: random.choice(values) for column, values in FACTS[key].items()}
            rows.append({"key": owner, "valid_from": valid, "known_at": told} | facts)
    return oracle.Facts(key, tuple(FACTS[key]), tuple(rows))


@cache
def dense():
    """One dense log: 6 customers, every boundary of New York visited by somebody, every value, nulls everywhere."""
    name = "America/New_York"
    random, rows = Random(1), []
    for at in every_boundary(name) * 2:
        known = random.choice((None, None, at + 3 * DAY, *instants_of(name)))
        row = {"customer_id": person(random.randrange(6)), "at": at, "known": known}
        row |= {column: random.choice(values) for column, values in COLUMNS.items()}
        rows.append(row | {"category": row["department"]})
    return History(rows, name, observed=observed_in(name))


# Features --------------------------------------------------------------------------------------------------------------------------


def every_shape(aggregate):
    """The columns that an aggregate is tried on."""
    if aggregate == "ratio":
        return [("value", "order_id"), ("value", "quantity"), ("quantity", "day"), ("points", "hour")]
    if aggregate == "distinct":
        return ["day", "item_id", "channel", "family", "value", "hour", "event", "tier", "category"]
    plain = [None] if 0 in AGGREGATES[aggregate].columns else []
    return plain + (["value", "points", "quantity", "hour"] if 1 in AGGREGATES[aggregate].columns else [])


def shapes_of_facts(aggregate):
    """The columns that an aggregate is tried on where there are lookups."""
    if aggregate == "ratio":
        return [("cost", "brand"), ("value", "plan"), ("score", "cost"), ("cost", "day")]
    if aggregate == "distinct":
        return ["brand", "plan", "cost", "score"]
    return [None] * (0 in AGGREGATES[aggregate].columns) + ["cost", "score", "value"] * (1 in AGGREGATES[aggregate].columns)


def feature_of(aggregate, column, window, where, fallback, number):
    half_life = HALF_LIVES[number % len(HALF_LIVES)] if aggregate == "decayed_sum" else None
    name = f"f{number}_{aggregate}"
    return Feature(aggregate, column, window=window, where=where, fallback=fallback, name=name, half_life=half_life)


def some_of_every_aggregate(random, wheres, each=4, shapes=every_shape):
    """So many features of each aggregate, each with some column, window, condition and fallback."""
    found = []
    for aggregate in AGGREGATES:
        windows = WINDOWS if aggregate == "trend" else (*WINDOWS, None)
        choices = [(column, window) for column in shapes(aggregate) for window in windows]
        for column, window in random.sample(choices, min(each, len(choices))):
            found.append(feature_of(aggregate, column, window, random.choice(wheres), random.choice([None, 0, -1.5]), len(found)))
    return found


# Engines ---------------------------------------------------------------------------------------------------------------------------

Values = dict[tuple[str, datetime], Mapping[str, float | None]]


def _duckdb(history, features, cutoffs) -> Values:
    return {(row["customer_id"], row["cutoff"]): row for row in snapshots(history.log, cutoffs, features).to_arrow().to_pylist()}


def _online(history, features, cutoffs) -> Values:
    """The rows as one customer's events at a time, in turns spelled as each caller might."""
    from persopredict.features.online import OnlineFeatures

    online, found = OnlineFeatures(features, timezone=history.name, numeric=("points",)), {}
    for spelling, (who, rows) in enumerate(history.customers.items()):
        events = spelled(rows, spelling, late=history.late)
        for cutoff in cutoffs:
            if history.seen(who, cutoff):
                values = online.values(events, cutoff)
                assert (values.dtype, values.shape) == (np.dtype("float64"), (len(features),))
                values = [None if math.isnan(value) else value for value in values.tolist()]
                found[who, cutoff] = dict(zip((feature.name for feature in features), values, strict=True))
    return found


def spelled(rows, spelling, *, late=True):
    """One customer's columns: times as datetimes, NumPy's or integers; numbers as decimals or, where they fit, floats."""
    columns = {name: [row[name] for row in rows] for name in COLUMNS} | {"category": [row["department"] for row in rows]}
    times = {"event_at": [row["at"] for row in rows]} | ({"known_at": [row["known"] for row in rows]} if late else {})
    if spelling % 3 == 1:
        for name in set(columns) & set(NUMERIC):
            columns[name] = [math.nan if n is None else float(n) if abs(n) < 10**8 else n for n in columns[name]]
        times = {name: np.array([at and at.replace(tzinfo=None) for at in moments], "datetime64[us]") for name, moments in times.items()}
    elif spelling % 3 == 2:
        columns["quantity"] = [int(n) if n is not None and n == int(n) else n for n in columns["quantity"]]
        times["event_at"] = np.array([(at - datetime(1970, 1, 1, tzinfo=UTC)) // TICK for at in times["event_at"]], np.int64)
    return columns | times


ENGINES: Mapping[str, Callable[..., Values]] = {"duckdb": _duckdb, "online": _online}


# Agreement -------------------------------------------------------------------------------------------------------------------------

INTEGERS = ("count", "distinct")
#: Sums of decimals, or decimals themselves: exact until the last step, which makes a double of them.
DECIMALS = ("sum", "min", "max", "decayed_sum", "first", "last")


def agrees(aggregate, got, expected):
    if got is None or expected is None:
        return got is expected
    if aggregate in INTEGERS:
        return got == expected
    if aggregate in DECIMALS:
        return abs(got - expected) <= max(math.ulp(got), math.ulp(expected))
    return math.isclose(got, expected, rel_tol=1e-9)


def disagreements(got, history, features):
    """The values of an engine that are not the oracle's, each with both."""
    wrong = []
    for (who, cutoff), row in got.items():
        rows = history.joined(who, cutoff)
        for feature in features:
            expected = oracle.feature_value(feature, rows, cutoff, zone(history.name), NUMERIC + NUMERIC_FACTS)
            if not agrees(feature.aggregate, row[feature.name], expected):
                wrong.append((feature.name, who, cutoff.isoformat(), f"engine {row[feature.name]!r}", f"oracle {expected!r}"))
    return wrong


def assert_engine_agrees(engine, history, features, cutoffs):
    """Same customers, same values; a failure shows the first few with what the oracle says."""
    got = ENGINES[engine](history, features, cutoffs)
    assert set(got) == {(who, cutoff) for who in history.customers for cutoff in cutoffs if history.seen(who, cutoff)}
    wrong = disagreements(got, history, features)
    assert not wrong, f"{len(wrong)} of {len(got) * len(features)} differ on {engine}: {wrong[:5]}"


@cache
def on_dense(aggregate, engine):
    """What differs of one aggregate on the dense log, under every condition; its columns take turns."""
    history = dense()
    windows, shapes = ("7d", "28d") if aggregate == "trend" else ("28d", None), every_shape(aggregate)
    features = [
        feature_of(aggregate, shapes[turn % len(shapes)], window, where, None, 2 * turn + number)
        for turn, where in enumerate(WHERES)
        for number, window in enumerate(windows)
    ]
    return tuple(disagreements(ENGINES[engine](history, features, instants_of(history.name)), history, features))


def conformance():
    """For each aggregate and engine: "exact" or "1e-9", how closely it is held to the oracle, or "differs" where it is not."""

    def found(aggregate, engine):
        return "differs" if on_dense(aggregate, engine) else "exact" if aggregate in (*INTEGERS, *DECIMALS) else "1e-9"

    return {aggregate: {engine: found(aggregate, engine) for engine in ENGINES} for aggregate in AGGREGATES}


def markdown(found):
    """The conformance as a table of aggregates × engines.

    >>> print(markdown({"count": {"duckdb": "exact", "online": "exact"}}), end="")
    | aggregate | duckdb | online |
    | --- | --- | --- |
    | `count` | exact | exact |
    """
    engines = list(next(iter(found.values())))
    lines = [("aggregate", *engines), ("---",) * (1 + len(engines))]
    lines += [(f"`{aggregate}`", *verdicts.values()) for aggregate, verdicts in found.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
