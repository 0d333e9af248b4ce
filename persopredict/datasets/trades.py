"""Small made logs of other trades, in the columns of `made_log`: what they don't know is null.

They are plausible, not solved: no truth comes with them. Each takes the ways in which ids and times differ between
trades: ids as text, integers or UUIDs, and dates without hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict.datasets.generator import SCHEMA, Ids, check_size, customer_ids
from persopredict.datasets.shop import DAY, Floats, Integers, microseconds
from persopredict.times import WallClock, instant, zone

_MONTH = 30.4
#: The latest departure after its booking, in days.
_AHEAD = 120


def subscriptions(
    customers: int = 2000,
    *,
    days: int = 730,
    seed: int = 0,
    start: str | date | datetime = "2023-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """Contracts paid by the month: "subscription_start", "payment", "support_call", and the ends that compete: "cancel" or "move_away".

    Calls, a cheap plan and a young contract make a cancellation likelier; moving away strikes anyone. `category` is the
    plan, `order_id` the invoice, `value` what was paid. At most one end per customer, and nothing after it.

    Parameters
    ----------
    customers, days, seed, start
        the size of the log.
    ids
        customer ids as "text", "integer" or "uuid".
    dates_only
        `event_at` is a date32 instead of a timestamp in UTC.

    Raises `SpecificationError`: no customers, no days, a negative seed, an unknown kind of ids.

    >>> sorted(set(subscriptions(200)["event"].to_pylist()))
    ['cancel', 'move_away', 'payment', 'subscription_start', 'support_call']
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    months = int(days / _MONTH) + 1
    shape = (customers, months)
    plan, channel = rng.choice(3, customers, p=[0.5, 0.3, 0.2]), rng.choice(2, customers)
    begin = days * rng.random(customers)
    calls = rng.random(shape) < rng.beta(0.6, 6.0, customers)[:, None]
    hazard = np.array([0.035, 0.02, 0.012])[plan][:, None] * np.where(calls, 5.0, 1.0) * np.linspace(1.6, 0.7, months)
    chance = rng.random(shape)
    ends = chance < hazard + 0.006
    last = np.where(ends.any(axis=1), ends.argmax(axis=1), months)
    moves = chance[np.arange(customers), np.minimum(last, months - 1)] >= hazard[np.arange(customers), np.minimum(last, months - 1)]
    who, month = np.nonzero(np.arange(months) <= last[:, None])
    paid = begin[who] + _MONTH * month
    # The call, if any, comes in the days after a payment, and an end after that, before the next.
    called = calls[who, month]
    leaver = np.flatnonzero(last < months)
    parts = [
        _rows("subscription_start", np.arange(customers), begin),
        _rows("payment", who, paid + 0.01, order=np.arange(len(who)), value=np.array([9.99, 14.99, 24.99])[plan[who]]),
        _rows("support_call", who[called], (paid + 1 + 14 * rng.random(len(who)))[called]),
        _rows("end", leaver, begin[leaver] + _MONTH * last[leaver] + 16 + 14 * rng.random(len(leaver))),
    ]
    parts[-1]["event"] = np.where(moves[leaver], "move_away", "cancel")
    rows = _stacked(parts)
    rows["category"] = np.array(["basic", "plus", "family"])[plan][rows["customer"]]
    rows["channel"] = np.array(["web", "phone"])[channel][rows["customer"]]
    return _table(rows, instant(start), days, customer_ids(np.arange(customers), ids, seed), dates_only)


def loan_applications(
    customers: int = 2000,
    *,
    days: int = 730,
    seed: int = 0,
    start: str | date | datetime = "2023-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """Applications for loans, `order_id` the application: "applied", then at most one of "approved", "cancelled", "declined".

    Large sums and brokers are declined more often, slow decisions are cancelled by the applicant, some are still open
    at the end. `value` is the sum applied for or approved, `category` what the loan is for. Parameters and errors as in
    `subscriptions`.

    >>> sorted(set(loan_applications(200)["event"].to_pylist()))
    ['applied', 'approved', 'cancelled', 'declined']
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(customers), 1 + rng.poisson(rng.gamma(0.7, 1.0, customers)))
    size = len(who)
    applied, loan, channel = (
        days * rng.random(size),
        rng.choice(3, size, p=[0.5, 0.35, 0.15]),
        rng.choice(3, size, p=[0.5, 0.3, 0.2]),
    )
    amount: Floats = np.exp(rng.normal(np.array([8.5, 9.5, 11.5])[loan], 0.5)).round(-2)
    decided = rng.lognormal(1.8, 0.7, size)
    patience = rng.exponential(40.0, size)
    score = 0.8 - 0.6 * (np.log(amount) - 9.2) - 0.9 * (channel == 2) + rng.logistic(size=size)
    outcome = np.where(patience < decided, "cancelled", np.where(score > 0, "approved", "declined"))
    order = np.arange(size)
    parts = [
        _rows("applied", who, applied, order=order, value=amount),
        _rows(
            "outcome",
            who,
            applied + np.minimum(decided, patience),
            order=order,
            value=np.where(outcome == "approved", amount, np.nan),
        ),
    ]
    parts[1]["event"] = outcome
    rows = _stacked(parts)
    rows["category"] = np.array(["personal", "car", "home"])[np.tile(loan, 2)]
    rows["channel"] = np.array(["online", "branch", "broker"])[np.tile(channel, 2)]
    return _table(rows, instant(start), days, customer_ids(np.arange(customers), ids, seed), dates_only)


def news_site(
    customers: int = 2000,
    *,
    days: int = 60,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """Clicks on a news site: one event, "click", without value or order.

    `item_id` is the article, `category` its section, `channel` the device. Readers have few visits each, a section that
    they prefer, and read what was published in the last three days. Parameters and errors as in `subscriptions`.

    >>> clicks = news_site(200)
    >>> set(clicks["event"].to_pylist()), clicks["value"].null_count == clicks.num_rows
    ({'click'}, True)
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    visitor = np.repeat(np.arange(customers), 1 + rng.poisson(rng.gamma(0.4, 10.0, customers)))
    visit = days * rng.random(len(visitor))
    device = np.where(
        rng.random(len(visitor)) < 0.85,
        rng.choice(3, customers, p=[0.6, 0.3, 0.1])[visitor],
        rng.choice(3, len(visitor)),
    )
    length = rng.geometric(0.4, len(visitor))
    who, moment, device = (np.repeat(array, length) for array in (visitor, visit, device))
    moment = moment + rng.exponential(0.002, len(who))
    section = np.where(rng.random(len(who)) < 0.6, rng.choice(6, customers)[who], rng.choice(6, len(who)))
    published = np.maximum(moment - 3 * rng.random(len(who)) ** 2, 0).astype(np.int64)
    rows = _rows("click", who, moment)
    rows["item"] = (published * 6 + section) * 20.0 + (20 * rng.random(len(who)) ** 3).astype(np.int64)
    rows["category"] = np.array(["politics", "sport", "economy", "culture", "local", "science"])[section]
    rows["channel"] = np.array(["phone", "desktop", "tablet"])[device]
    return _table(rows, instant(start), days, customer_ids(np.arange(customers), ids, seed), dates_only)


def insurance_quotes(
    customers: int = 2000,
    *,
    days: int = 365,
    seed: int = 0,
    start: str | date | datetime = "2023-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """An insurer's leads: exactly one "quote" for each customer, and for some of them a "policy" that they buy days or weeks later.

    Dear quotes and those of a comparison portal are bought less often. `value` is the premium, `category` what is insured, `order_id`
    the policy. Parameters and errors as in `subscriptions`.

    >>> quotes = insurance_quotes(200)["event"].to_pylist()
    >>> quotes.count("quote"), 0 < quotes.count("policy") < 100
    (200, True)
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    who = np.arange(customers)
    asked = days * rng.random(customers)
    product, channel = rng.choice(3, customers, p=[0.6, 0.3, 0.1]), rng.choice(3, customers, p=[0.3, 0.5, 0.2])
    premium: Floats = np.exp(rng.normal(np.array([6.2, 5.4, 4.0])[product], 0.4)).round(2)
    wish = np.array([0.0, -1.2, 0.6])[channel] - 1.5 * (np.log(premium) - 5.7) - 0.8 + rng.logistic(size=customers)
    buyer = np.flatnonzero(wish > 0)
    bought = asked[buyer] + 0.02 + rng.lognormal(2.3, 0.9, len(buyer))
    parts = [
        _rows("quote", who, asked, value=premium),
        _rows("policy", buyer, bought, order=np.arange(len(buyer)), value=premium[buyer]),
    ]
    rows = _stacked(parts)
    rows["category"] = np.array(["car", "home", "travel"])[product][rows["customer"]]
    rows["channel"] = np.array(["website", "portal", "agent"])[channel][rows["customer"]]
    return _table(rows, instant(start), days, customer_ids(who, ids, seed), dates_only)


def gym_visits(
    customers: int = 600,
    *,
    days: int = 365,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
    timezone: str = "Europe/Berlin",
) -> pa.Table:
    """Members of a gym: customers, times and one event, "check_in"; all else is null.

    Everyone keeps to some weekdays and to an hour of the local clock, summer and winter alike; some stop coming. `timezone` is where the
    gym is: `start` is read there. Further parameters and errors as in `subscriptions`.

    >>> set(gym_visits(50)["event"].to_pylist())
    {'check_in'}
    """
    check_size(customers, days, seed)
    rng, place = np.random.default_rng(seed), zone(timezone)
    first = instant(start, place)
    opening = first.astimezone(place).replace(tzinfo=None)
    weekday = (opening.weekday() + np.arange(days)) % 7
    kept = rng.random((customers, 7)) < rng.beta(1.5, 3.5, customers)[:, None]
    joined = np.where(rng.random(customers) < 0.4, 0.0, 0.9 * days * rng.random(customers) ** 1.3)
    left = joined + rng.exponential(180.0, customers)
    day = np.arange(days)
    member = (day >= joined[:, None]) & (day < left[:, None])
    who, when = np.nonzero(member & (rng.random((customers, days)) < np.where(kept, 0.7, 0.04)[:, weekday]))
    hour = np.clip(rng.choice([7.0, 12.5, 18.0, 19.5], customers)[who] + rng.normal(0, 0.5, len(who)), 6, 22)
    begin = microseconds(opening.replace(tzinfo=UTC))
    walls = begin + np.rint((when + hour / 24) * DAY).astype(np.int64)
    if not dates_only:
        begin = microseconds(first)
        walls = WallClock(place, begin, begin + days * DAY).instants(walls)
    rows = _rows("check_in", who, (walls - begin) / DAY)
    return _table(
        rows, opening.replace(tzinfo=UTC) if dates_only else first, days, customer_ids(np.arange(customers), ids, seed), dates_only
    )


def wholesale(
    customers: int = 60,
    *,
    days: int = 730,
    seed: int = 0,
    start: str | date | datetime = "2023-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """A wholesaler's few customers: an "order" has one row per line, all at one instant of a working day; some get a "credit_note".

    Each company orders at a pace of its own, weekly to every two months, far more regularly than chance; some are lost. `order_id` is the
    order, `value` the line's, negative in a credit note, `category` the group of `item_id`. Parameters and errors as in `subscriptions`.

    >>> orders = wholesale(20)
    >>> orders.num_rows > 2 * len(orders["order_id"].unique())
    True
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    pace = rng.choice([7.0, 14.0, 28.0, 60.0], customers, p=[0.2, 0.3, 0.3, 0.2])
    most = int(2 * days / pace.min()) + 8
    times = (pace * rng.random(customers))[:, None] + np.cumsum(pace[:, None] * rng.gamma(10.0, 0.1, (customers, most)), axis=1)
    who, number = np.nonzero(times < np.minimum(days, rng.exponential(900.0, customers) + 2 * pace)[:, None])
    first = instant(start)
    date_ = np.floor(times[who, number])
    date_ += np.array([0, 0, 0, 0, 0, 2, 1])[(first.weekday() + date_.astype(np.int64)) % 7]
    moment = date_ + (8 + 9 * rng.random(len(who))) / 24
    lines = 1 + rng.poisson(3.0, len(who))
    order = np.repeat(np.arange(len(who)), lines)
    item = (12 * rng.integers(0, 4, customers)[who[order]] + 12 * rng.random(len(order)) ** 1.5).astype(np.int64) % 48
    value: Floats = np.exp(rng.normal(4.0, 0.5, len(order)) + rng.normal(0, 1, customers)[who[order]]).round(2)
    credited = np.flatnonzero(rng.random(len(order)) < 0.02)
    after = moment[order[credited]] + 7
    parts = [
        _rows("order", who[order], moment[order], order=order, value=value),
        _rows("credit_note", who[order[credited]], after, order=order[credited], value=-value[credited]),
    ]
    rows = _stacked(parts)
    rows["item"] = np.append(item, item[credited]).astype(np.float64)
    rows["category"] = np.array(["cleaning", "paper", "kitchen", "office"])[np.append(item, item[credited]) // 12]
    rows["channel"] = np.where(rng.random(customers) < 0.5, "rep", "portal")[rows["customer"]]
    return _table(rows, first, days, customer_ids(np.arange(customers), ids, seed), dates_only)


def travel_bookings(
    customers: int = 1000,
    *,
    days: int = 365,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    ids: Ids = "text",
    dates_only: bool = False,
) -> pa.Table:
    """A travel agency: weeks of silence, then a burst of "search", perhaps a "booking", and the "departure" up to 120 days after it.

    Searches and bookings lie in the first `days`; departures are planned and reach beyond them: the log's last event is not the end of
    what was observed. `order_id` is the booking, `value` its price, `category` the kind of journey. Parameters and errors as in
    `subscriptions`.

    >>> log = travel_bookings(200, days=100).to_pandas()
    >>> [(event, (at.max() - log["event_at"].min()).days > 100) for event, at in log.groupby("event")["event_at"]]
    [('booking', False), ('departure', True), ('search', False)]
    """
    check_size(customers, days, seed)
    rng = np.random.default_rng(seed)
    journey = np.repeat(np.arange(customers), 1 + rng.poisson(rng.gamma(0.8, 3.0 * days / 365, customers)))
    begin = days * rng.random(len(journey))
    length = rng.geometric(0.15, len(journey))
    burst = np.repeat(np.arange(len(journey)), length)
    searched = begin[burst] + rng.exponential(1.5, len(burst))
    booked = begin + 0.5 + rng.exponential(2.5, len(journey))
    made = np.flatnonzero((0.15 * length - 1.8 + rng.logistic(size=len(journey)) > 0) & (booked < days))
    departs = booked[made] + 3 + np.minimum(rng.gamma(1.5, 25.0, len(made)), _AHEAD - 3)
    seen = searched < days
    price: Floats = np.exp(rng.normal(6.5, 0.6, len(made))).round(2)
    parts = [
        _rows("search", journey[burst[seen]], searched[seen]),
        _rows("booking", journey[made], booked[made], order=made, value=price),
        _rows("departure", journey[made], departs, order=made),
    ]
    rows = _stacked(parts)
    kind = np.array(["beach", "city", "ski"])[rng.choice(3, len(journey))]
    rows["category"] = kind[np.concatenate([burst[seen], made, made])]
    rows["channel"] = np.where(rng.random(customers) < 0.5, "app", "web")[rows["customer"]]
    return _table(rows, instant(start), days + _AHEAD, customer_ids(np.arange(customers), ids, seed), dates_only)


def _rows(
    event: str, customer: Integers, day: Floats, order: Integers | None = None, value: Floats | None = None
) -> dict[str, NDArray[Any]]:
    """Columns of one kind of event; numbers that it lacks are NaN."""
    nothing = np.full(len(customer), np.nan)
    return {
        "customer": customer,
        "day": day,
        "event": np.full(len(customer), event),
        "order": nothing if order is None else order.astype(np.float64),
        "item": nothing,
        "value": nothing if value is None else value,
        "category": np.full(len(customer), None, dtype=object),
        "channel": np.full(len(customer), None, dtype=object),
    }


def _stacked(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _table(rows: dict[str, NDArray[Any]], start: datetime, days: int, names: pa.Array, dates_only: bool) -> pa.Table:
    """The rows before the end, by time, in the schema of every made log."""
    first, last = microseconds(start), microseconds(start + timedelta(days=days))
    moment = first + np.rint(rows["day"] * DAY).astype(np.int64)
    inside = np.flatnonzero(moment < last)
    by_time = inside[np.argsort(moment[inside], kind="stable")]
    chosen = {name: array[by_time] for name, array in rows.items()}
    missing = {name: np.isnan(chosen[name]) for name in ("order", "item", "value")}
    at = pa.array(moment[by_time]).cast(SCHEMA.field("event_at").type)
    columns = [
        names.take(pa.array(chosen["customer"])),
        at.cast(pa.date32()) if dates_only else at,
        pa.array(chosen["event"]),
        pa.array(np.arange(len(by_time))),
        *(pa.array(np.nan_to_num(chosen[name]).astype(np.int64), mask=missing[name]) for name in ("order", "item")),
        pa.array(chosen["category"], pa.string()),
        pa.array(chosen["value"], mask=missing["value"]),
        pa.array(chosen["channel"], pa.string()),
    ]
    return pa.table([column.cast(pa.string()) if pa.types.is_large_string(column.type) else column for column in columns], SCHEMA.names)
