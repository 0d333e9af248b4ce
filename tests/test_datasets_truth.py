"""The truth of a made log: calibrated, blind to what comes after the cutoff, and equal to integrals and simulations done otherwise."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import integrate

from persopredict.datasets import Channel, Shop, Stream, made_log, truth
from persopredict.datasets.shop import Clock, microseconds
from persopredict.errors import SpecificationError

KINDS = ("churn", "conversion")


@pytest.fixture(scope="module")
def logs():
    """Three shops: the default one, one whose conversions drift upwards, one where leaving and moods differ."""
    moody = Shop(
        purchase=Stream(0.6, 0.05),
        email_click=Stream(1.0, 0.05),
        channels=(Channel("web", 0.6, 0.15, 1.0), Channel("app", 0.4, 0.02, 2.5)),
        stockout=0.2,
        memory=5.0,
        drift=-1.0,
    )
    shops = (Shop(), Shop(drift=1.2), moody)
    return [made_log(20_000, days=240, seed=seed, shop=shop) for seed, shop in enumerate(shops)]


@pytest.fixture(scope="module")
def small():
    return made_log(1500, days=200, seed=5, shop=Shop(drift=0.5))


def deviations(frame, bins=10):
    """Label minus probability in equal-mass bins, in standard deviations of what chance explains."""
    order = np.argsort(frame["probability"].to_numpy(), kind="stable")
    probability, label = (frame[name].to_numpy()[order] for name in ("probability", "label"))
    sums = [
        ((label - probability)[part].sum(), (probability * (1 - probability))[part].sum())
        for part in np.array_split(np.arange(len(order)), bins)
    ]
    # With fewer than one expected event on either side, the normal approximation says nothing about a bin.
    return np.array([difference / np.sqrt(variance) for difference, variance in sums if variance > 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shop", "cutoff"), [(0, "2024-04-07"), (1, "2024-07-14T17:30"), (2, "2024-05-26")])
def test_the_truth_is_calibrated_in_every_bin(logs, shop, cutoff, kind):
    frame = logs[shop].truth(kind, cutoff, "28d")
    found = deviations(frame)
    assert len(found) >= 6
    # 6 cases of 10 bins: were the seeds not fixed, 4 standard deviations would leave a chance of 0.4% for any alarm.
    assert np.abs(found).max() < 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("horizon", ["36h", "91d"])
def test_the_truth_is_calibrated_for_short_and_long_horizons(logs, kind, horizon):
    assert np.abs(deviations(logs[1].truth(kind, "2024-05-01", horizon))).max() < 4


def silent_app_customers(past, cutoff):
    lately = past.filter(pc.greater_equal(past["event_at"], cutoff - timedelta(days=20)))["customer_id"]
    return set(past.filter(pc.equal(past["channel"], "app"))["customer_id"].to_pylist()) - set(lately.to_pylist())


def met_a_stockout(past, cutoff):
    lately = pc.greater_equal(past["event_at"], cutoff - timedelta(days=60))
    return set(past.filter(pc.and_(pc.equal(past["event"], "stockout"), lately))["customer_id"].to_pylist())


def clicked_last_week(past, cutoff):
    lately = pc.greater_equal(past["event_at"], cutoff - timedelta(days=7))
    return set(past.filter(pc.and_(pc.equal(past["event"], "email_click"), lately))["customer_id"].to_pylist())


def chosen_deviations(log, kind, choice, cutoff=datetime(2024, 7, 15, tzinfo=UTC)):
    past = log.events.filter(pc.less(log.events["event_at"], cutoff))
    frame = log.truth(kind, cutoff, "28d")
    chosen = frame["customer_id"].isin(choice(past, cutoff))
    assert chosen.sum() > 500
    return np.abs(deviations(frame[chosen], bins=4)).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", [silent_app_customers, met_a_stockout, clicked_last_week])
def test_the_truth_is_calibrated_among_customers_chosen_by_their_past(logs, kind, choice):
    assert chosen_deviations(logs[0], kind, choice) < 4


@pytest.mark.parametrize(
    ("kind", "choice", "wrong"),
    [
        ("churn", met_a_stockout, {"stockout_factor": 1.0}),
        ("conversion", clicked_last_week, {"conversion_per_email_click": 0.0}),
    ],
)
def test_a_wrong_driver_would_be_noticed_among_those_it_touches(logs, kind, choice, wrong):
    log = logs[0]
    assert chosen_deviations(replace(log, shop=replace(log.shop, **wrong)), kind, choice) > 4


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("churn", {"purchase": Stream(0.5, 0.09)}),
        ("conversion", {"drift": 0.0}),
        ("conversion", {"conversion_per_view": 0.04}),
    ],
)
def test_a_wrong_parameter_would_be_noticed(logs, kind, wrong):
    log = logs[1]
    mistaken = replace(log, shop=replace(log.shop, **wrong))
    assert np.abs(deviations(mistaken.truth(kind, "2024-07-14", "28d"))).max() > 4


def auc(frame):
    ranks, positive = frame["probability"].rank(), frame["label"] == 1
    wins = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return wins / (positive.sum() * (~positive).sum())


def test_the_default_shop_is_neither_trivial_nor_hopeless(logs):
    conversion, churn = (logs[0].truth(kind, "2024-07-14", "28d") for kind in ("conversion", "churn"))
    assert 0.05 < conversion["label"].mean() < 0.15
    assert 0.80 < auc(conversion) < 0.88
    assert auc(churn) > 0.80


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_reads_nothing_at_or_after_the_cutoff(small, kind):
    cutoff = datetime(2024, 5, 1, 12, tzinfo=UTC)
    past = small.events.filter(pc.less(small.events["event_at"], cutoff))
    cut = replace(small, events=past, end=cutoff)
    whole = small.truth(kind, cutoff, "28d")
    from_the_past = cut.truth(kind, cutoff, "28d")
    assert from_the_past["customer_id"].equals(whole["customer_id"])
    assert from_the_past["probability"].equals(whole["probability"])
    assert from_the_past["label"].isna().all()
    assert whole["label"].notna().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rows_does_not_matter(small, kind):
    shuffled = small.events.take(pa.array(np.random.default_rng(1).permutation(small.events.num_rows)))
    expected = small.truth(kind, "2024-05-01", "28d")
    np.testing.assert_allclose(
        replace(small, events=shuffled).truth(kind, "2024-05-01", "28d")["probability"], expected["probability"], rtol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_what_sql_finds_in_the_horizon(small, kind):
    cutoff, end = "2024-05-01 00:00+00", "2024-05-29 00:00+00"
    events = small.events  # noqa: F841 (DuckDB reads it by name)
    event = {"churn": "purchase", "conversion": "conversion"}[kind]
    sql = f"""SELECT customer_id,
          coalesce(bool_or(event = '{event}' AND event_at >= TIMESTAMPTZ '{cutoff}' AND event_at < TIMESTAMPTZ '{end}'), false) AS acted
        FROM events GROUP BY customer_id HAVING min(event_at) < TIMESTAMPTZ '{cutoff}' ORDER BY customer_id"""
    found = duckdb.sql(sql).df()
    frame = small.truth(kind, "2024-05-01", "28d")
    assert frame["customer_id"].tolist() == found["customer_id"].tolist()
    assert (frame["label"] == (found["acted"] != (kind == "churn"))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chrun", "2024-05-01", "28d"), "did you mean 'churn'"),
        (("churn", "2024-05-01", "0d"), "the horizon is empty"),
        (("churn", "2025-05-01", "28d"), "the log ends at 2024-07-19"),
        (("churn", "May", "28d"), "is not a date"),
    ],
)
def test_impossible_questions_are_refused(small, arguments, message):
    with pytest.raises(SpecificationError, match=message):
        small.truth(*arguments)


# The mathematics, against integrals and simulations written down a second time -------------------------------------


def history(shop, orders, views, clicks, *, channel="web", stockout=False):
    """The log of one customer from moments in days after the start."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [(day, "purchase", number) for number, day in enumerate(orders)]
    rows += [(orders[-1], "stockout", len(orders) - 1)] * stockout
    rows += [(day, "view", None) for day in views] + [(day, "email_click", None) for day in clicks]
    table = pa.table(
        {
            "customer_id": ["c"] * len(rows),
            "event_at": pa.array([start + timedelta(days=day) for day, _, _ in rows], pa.timestamp("us", tz="UTC")),
            "event": [event for _, event, _ in rows],
            "order_id": pa.array([order for _, _, order in rows], pa.int64()),
            "channel": [channel] * len(rows),
        }
    )
    cutoff = microseconds(start + timedelta(days=60))
    clock = Clock(start)
    return truth.histories(table, shop, clock, cutoff), float(clock.reading(np.array([cutoff]))[0]), clock


def readings(clock, days):
    return clock.reading(np.array([clock.start + round(day * 86_400_000_000) for day in days]))


@pytest.mark.parametrize("drift", [0.0, 0.9])
@pytest.mark.parametrize("stockout", [False, True])
def test_life_and_churn_agree_with_integrals_over_the_rates(drift, stockout):
    shop = Shop(drift=drift)
    orders, views, clicks = [3.0, 9.5, 20.25, 41.5], [5.0, 33.0, 40.9], [38.0]
    seen, now, clock = history(shop, orders, views, clicks, stockout=stockout)
    begin, last = readings(clock, [orders[0], orders[-1]])
    weights = [shop.conversion_per_view] * len(views) + [shop.conversion_per_email_click] * len(clicks)

    def conversion_rate(at):
        past = sum(w * np.exp(-(at - s) / shop.memory) / shop.memory for w, s in zip(weights, readings(clock, views + clicks), strict=True))
        return np.exp(drift / 365 * at) * (shop.conversion_per_day + past)

    def likelihood(stream, count, length, weight=lambda rate: 1.0):
        rate_of_rates = stream.shape / stream.per_day

        def density(rate):
            return rate_of_rates**stream.shape * rate ** (stream.shape - 1) * math.exp(-rate_of_rates * rate) / math.gamma(stream.shape)

        return integrate.quad(lambda rate: rate**count * np.exp(-rate * length) * weight(rate) * density(rate), 0, np.inf, epsabs=0)[0]

    def story(until, weight=lambda rate: 1.0):
        touches = likelihood(shop.view, len(views), until - begin) * likelihood(shop.email_click, len(clicks), until - begin)
        return likelihood(shop.purchase, len(orders) - 1, until - begin, weight) * touches

    leaving = 0.025 * (5 if stockout else 1)
    stayed = (1 - leaving) * np.exp(-integrate.quad(conversion_rate, last, now)[0])
    total = leaving * story(last) + stayed * story(now)
    assert truth.alive(seen, shop, now)[0] == pytest.approx(stayed * story(now) / total, rel=1e-6)
    buys = stayed * story(now, lambda rate: 1 - np.exp(-rate * 28)) / total
    assert truth.no_order(seen, shop, now, 28.0)[0] == pytest.approx(1 - buys, rel=1e-6)


def test_a_view_after_the_last_order_proves_life():
    silent, now, _ = history(Shop(), [3.0, 20.0], [10.0], [])
    seen, _, _ = history(Shop(), [3.0, 20.0], [10.0, 20.001], [])
    assert truth.alive(silent, Shop(), now)[0] < 0.9
    assert truth.alive(seen, Shop(), now)[0] == 1


def test_lines_of_one_order_count_once():
    one, now, _ = history(Shop(), [3.0, 20.0], [], [])
    shop, start = Shop(), datetime(2024, 1, 1, tzinfo=UTC)
    at = [start + timedelta(days=day) for day in (3, 3, 3, 20)]
    columns = {
        "customer_id": ["c"] * 4,
        "event_at": pa.array(at, pa.timestamp("us", tz="UTC")),
        "event": ["purchase"] * 4,
        "order_id": [7, 7, 7, 9],
        "channel": ["web"] * 4,
    }
    lines = truth.histories(pa.table(columns), shop, Clock(start), microseconds(start + timedelta(days=60)))
    assert truth.no_order(lines, shop, now, 28.0) == truth.no_order(one, shop, now, 28.0)


def test_conversion_agrees_with_a_simulation_of_the_customers_future():
    shop = Shop(drift=0.9, stockout=0.3, conversion_per_view=0.05, view=Stream(0.8, 0.3), purchase=Stream(1.5, 0.2))
    orders, views, clicks = [3.0, 20.0, 41.5, 52.0], [5.0, 33.0, 55.0, 58.5], [57.0]
    seen, now, clock = history(shop, orders, views, clicks, channel="app")
    horizon, futures, rng = 28.0, 100_000, np.random.default_rng(0)
    tenure = now - readings(clock, orders[:1])[0]

    def rates(stream, count):
        return rng.gamma(stream.shape + count, 1 / (stream.shape / stream.per_day + tenure), futures)

    def moments(rate):
        number = rng.poisson(rate * horizon)
        return np.repeat(np.arange(futures), number), rng.random(number.sum()) * horizon

    departure = np.full(futures, horizon)
    who, when = moments(rates(shop.purchase, len(orders) - 1))
    leaves = rng.random(len(who)) < 0.015 * np.where(rng.random(len(who)) < shop.stockout, shop.stockout_factor, 1.0)
    np.minimum.at(departure, who[leaves], when[leaves])

    converted = np.zeros(futures, dtype=bool)
    grown = np.exp(0.9 / 365 * (now + horizon))

    def cause(who, begin, expected):
        """Conversions in the future, of causes at `begin` (negative in the past), thinned to the drift at their time."""
        number = rng.poisson(1.6 * grown * expected, len(who))
        follower, at = np.repeat(who, number), np.repeat(begin, number) + rng.exponential(shop.memory, number.sum())
        kept = (at >= 0) & (at < departure[follower]) & (rng.random(len(at)) * grown < np.exp(0.9 / 365 * (now + at)))
        converted[follower[kept]] = True

    for stream, past, expected in (
        (shop.view, views, shop.conversion_per_view),
        (shop.email_click, clicks, shop.conversion_per_email_click),
    ):
        who, when = moments(rates(stream, len(past)))
        alive_then = when < departure[who]
        cause(who[alive_then], when[alive_then], expected)
        for moment in readings(clock, past):
            cause(np.arange(futures), np.full(futures, moment - now), expected)
    blue = rng.poisson(1.6 * grown * shop.conversion_per_day * horizon, futures)
    who, when = np.repeat(np.arange(futures), blue), rng.random(blue.sum()) * horizon
    kept = (when < departure[who]) & (rng.random(len(when)) * grown < np.exp(0.9 / 365 * (now + when)))
    converted[who[kept]] = True

    expected = truth.conversion(seen, shop, now, horizon)[0]
    assert 0.2 < expected < 0.8
    assert abs(converted.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / futures)


@pytest.mark.parametrize("horizon", [1.0, 28.0, 91.0])
def test_more_nodes_do_not_change_the_probability(small, horizon):
    cutoff = microseconds(datetime(2024, 5, 1, tzinfo=UTC))
    clock = Clock(small.start)
    past = small.events.filter(pc.less(small.events["event_at"].cast(pa.int64()), cutoff))
    seen, now = truth.histories(past, small.shop, clock, cutoff), float(clock.reading(np.array([cutoff]))[0])
    few, many = (truth.conversion(seen, small.shop, now, horizon, nodes) for nodes in (truth.NODES, 96))
    np.testing.assert_allclose(few, many, rtol=0, atol=1e-9)
