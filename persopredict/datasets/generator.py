"""The made shop at work: blocks of customers and their events, each block from a random stream of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict.datasets.shop import Clock, Floats, Integers, Shop, Stream, microseconds
from persopredict.errors import Problem, SpecificationError, did_you_mean

Ids = Literal["text", "integer", "uuid"]

BLOCK = 4096
EVENTS = ("purchase", "stockout", "view", "email_click", "conversion")
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("event_at", pa.timestamp("us", tz="UTC")),
        ("event", pa.string()),
        ("event_id", pa.int64()),
        ("order_id", pa.int64()),
        ("item_id", pa.int64()),
        ("category", pa.string()),
        ("value", pa.float64()),
        ("channel", pa.string()),
    ]
)


def customer_ids(numbers: Integers, ids: str, seed: int) -> pa.Array:
    """The ids of the customers with these numbers (from 0), as "text", "integer" or "uuid" (a function of number and seed).

    Raises `SpecificationError` for any other kind.

    >>> customer_ids(np.array([0, 41]), "text", 0).to_pylist()
    ['c0000001', 'c0000042']
    """
    if ids == "integer":
        return pa.array(numbers + 1, pa.int64())
    if ids == "text":
        return pa.array([f"c{number + 1:07d}" for number in numbers], pa.string())
    if ids == "uuid":
        space = uuid.uuid5(uuid.NAMESPACE_OID, f"persopredict {seed}")
        return pa.array([str(uuid.uuid5(space, str(number))) for number in numbers], pa.string())
    raise SpecificationError(f"no kind of ids {ids!r}; {did_you_mean(str(ids), ('text', 'integer', 'uuid'))}")


def check_size(customers: int, days: int, seed: int) -> None:
    """Raise `SpecificationError` for a log without customers or days, or a negative seed, naming all that is wrong."""
    lowest = {"customers": (customers, 1), "days": (days, 1), "seed": (seed, 0)}
    wrong = [
        Problem("out_of_range", f"{name} is {value}", remedy=f"give a whole number of at least {least}")
        for name, (value, least) in lowest.items()
        if value < least
    ]
    if wrong:
        raise SpecificationError("the log is impossible", wrong)


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of one kind: customer (index in the block), time on the shop's clock, channel (index), and what else the kind has."""

    event: str
    customer: Integers
    reading: Floats
    channel: Integers
    order: Integers | None = None
    item: Integers | None = None
    value: Floats | None = None

    def take(self, chosen: NDArray[Any]) -> Self:
        """The rows at these indices, or where this is true."""
        arrays = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "event"}
        return replace(self, **{name: array[chosen] for name, array in arrays.items() if array is not None})


class Generator:
    """Makes the blocks of one log; `block(i)` depends on nothing but the arguments and i."""

    def __init__(self, customers: int, days: int, seed: int, start: datetime, shop: Shop, ids: Ids) -> None:
        check_size(customers, days, seed)
        self.customers, self.seed, self.shop, self.ids = customers, seed, shop, ids
        self.start, self.end = start, start + timedelta(days=days)
        self.clock, self.blocks = Clock(start), -(-customers // BLOCK)
        self.length = float(self.clock.reading(np.array([microseconds(self.end)]))[0])
        self.categories = pa.array([f"category {number + 1}" for number in range(shop.categories)])
        self.schema = SCHEMA.set(0, pa.field("customer_id", customer_ids(np.arange(0), ids, seed).type))

    def block(self, block: int) -> tuple[pa.Table, pa.Table]:
        """Events and tastes of the customers of one block, counted from 0."""
        shop, first = self.shop, block * BLOCK
        size = min(BLOCK, self.customers - first)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(block,)))
        home = rng.choice(len(shop.channels), size, p=[channel.share for channel in shop.channels])
        arrival = 0.8 * self.length * rng.random(size) ** 1.5
        popularity = np.arange(shop.categories, 0, -1) / (shop.categories * (shop.categories + 1) / 2)
        tastes = rng.dirichlet(shop.taste * popularity, size)

        orders, stockouts, departure = self._orders(rng, home, arrival)
        views = self._touches(rng, "view", home, arrival, departure)
        clicks = self._touches(rng, "email_click", home, arrival, departure)
        conversions = self._conversions(rng, home, arrival, departure, views, clicks)
        lines = orders.take(np.repeat(np.arange(len(orders.customer)), 1 + rng.poisson(shop.basket, len(orders.customer))))
        item = self._items(rng, lines, tastes)
        price: Floats = np.exp(rng.normal(2.5 + 0.15 * (item // 1000), 0.6)).round(2)
        lines = replace(lines, item=item, value=price)
        views = replace(views, item=self._items(rng, views, tastes))

        names = customer_ids(np.arange(first, first + size), self.ids, self.seed)
        liked = {
            "customer_id": names,
            "category": self.categories.take(pa.array(tastes.argmax(axis=1))),
            "share": tastes.max(axis=1),
        }
        return self._table((lines, stockouts, views, clicks, conversions), names, block), pa.table(liked)

    def _process(self, rng: np.random.Generator, stream: Stream, arrival: Floats) -> tuple[Integers, Floats]:
        """Customer and time of each event of a stream from arrival to the end of the log, as if nobody left."""
        rates = rng.gamma(stream.shape, 1 / stream.rate, len(arrival))
        return self._scatter(rng, np.repeat(np.arange(len(arrival)), rng.poisson(rates * (self.length - arrival))), arrival)

    def _scatter(self, rng: np.random.Generator, customer: Integers, arrival: Floats) -> tuple[Integers, Floats]:
        """Given their number, the events of an even Poisson process lie anywhere."""
        return customer, arrival[customer] + rng.random(len(customer)) * (self.length - arrival[customer])

    def _orders(self, rng: np.random.Generator, home: Integers, arrival: Floats) -> tuple[Rows, Rows, Floats]:
        """Orders, the stockouts among them, and when each customer leaves (infinite for those who have not when the log ends)."""
        repeat, when = self._process(rng, self.shop.purchase, arrival)
        customer, reading = np.concatenate([np.arange(len(home)), repeat]), np.concatenate([arrival, when])
        by_time = np.lexsort((reading, customer))
        customer, reading = customer[by_time], reading[by_time]
        channel = self._channels(rng, home, customer)
        channel[np.unique(customer, return_index=True)[1]] = home
        stockout = rng.random(len(customer)) < self.shop.stockout
        leaves = rng.random(len(customer)) < self.shop.leaving(home[customer], stockout)
        departure = np.full(len(home), np.inf)
        np.minimum.at(departure, customer[leaves], reading[leaves])
        kept = reading <= departure[customer]
        orders = Rows("purchase", customer, reading, channel, order=np.arange(len(customer)))
        return orders.take(kept), replace(orders, event="stockout").take(kept & stockout), departure

    def _channels(self, rng: np.random.Generator, home: Integers, customer: Integers) -> Integers:
        """The channel of each event: the customer's own or, with probability 1 − faithful, any."""
        stray = rng.random(len(customer)) >= self.shop.faithful
        return np.where(stray, rng.integers(0, len(self.shop.channels), len(customer)), home[customer])

    def _touches(self, rng: np.random.Generator, event: str, home: Integers, arrival: Floats, departure: Floats) -> Rows:
        customer, reading = self._process(rng, getattr(self.shop, event), arrival)
        email = np.full(len(customer), len(self.shop.channels))
        channel = email if event == "email_click" else self._channels(rng, home, customer)
        return Rows(event, customer, reading, channel).take(reading < departure[customer])

    def _conversions(self, rng: np.random.Generator, home: Integers, arrival: Floats, departure: Floats, views: Rows, clicks: Rows) -> Rows:
        """Each cause makes its own Poisson process, at the rate that the drift reaches at its highest; then the drift thins them."""
        shop = self.shop
        highest = np.exp(max(shop.daily_drift, 0.0) * self.length)
        factor = highest * np.array([channel.conversion for channel in shop.channels])[home]
        uncaused = np.repeat(np.arange(len(home)), rng.poisson(factor * shop.conversion_per_day * (self.length - arrival)))
        parts = [self._scatter(rng, uncaused, arrival)]
        for rows, effect in ((views, shop.conversion_per_view), (clicks, shop.conversion_per_email_click)):
            cause = np.repeat(np.arange(len(rows.customer)), rng.poisson(factor[rows.customer] * effect))
            parts.append((rows.customer[cause], rows.reading[cause] + rng.exponential(shop.memory, len(cause))))
        customer, reading = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        kept = rng.random(len(customer)) * highest < np.exp(shop.daily_drift * np.minimum(reading, self.length))
        kept &= (reading < departure[customer]) & (reading < self.length)
        return Rows("conversion", customer, reading, self._channels(rng, home, customer)).take(kept)

    def _items(self, rng: np.random.Generator, rows: Rows, tastes: Floats) -> Integers:
        """An item for each row: a category by the customer's taste, then one of its 100 items, the first ones more often."""
        steps = np.cumsum(tastes, axis=1)[rows.customer, :-1]
        category = (steps < rng.random(len(rows.customer))[:, None]).sum(axis=1)
        item: Integers = category * 1000 + (100 * rng.random(len(rows.customer)) ** 2).astype(np.int64)
        return item

    def _table(self, parts: tuple[Rows, ...], names: pa.Array, block: int) -> pa.Table:
        """One table of all kinds, by time."""
        customer, reading, channel = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("customer", "reading", "channel")
        )
        moment = self.clock.moment(reading)
        kind = np.repeat([EVENTS.index(part.event) for part in parts], [len(part.customer) for part in parts])
        order, item, value = (_filled(parts, name) for name in ("order", "item", "value"))
        # A reading just below the end can be rounded up to it.
        inside = np.flatnonzero(moment < microseconds(self.end))
        by_time = inside[np.lexsort((order[inside], kind[inside], customer[inside], moment[inside]))]
        order, item, value = order[by_time], item[by_time], value[by_time]
        whole_item = np.nan_to_num(item).astype(np.int64)
        prefix = block << 32
        columns = [
            names.take(pa.array(customer[by_time])),
            pa.array(moment[by_time]).cast(SCHEMA.field("event_at").type),
            pa.array(EVENTS).take(pa.array(kind[by_time])),
            pa.array(prefix + np.arange(len(by_time))),
            pa.array(prefix + np.nan_to_num(order).astype(np.int64), mask=np.isnan(order)),
            pa.array(whole_item, mask=np.isnan(item)),
            self.categories.take(pa.array(whole_item // 1000, mask=np.isnan(item))),
            pa.array(value, mask=np.isnan(value)),
            pa.array([*(each.name for each in self.shop.channels), "email"]).take(pa.array(channel[by_time])),
        ]
        return pa.table(columns, schema=self.schema)


def _filled(parts: Sequence[Rows], name: str) -> Floats:
    """One column over all kinds, NaN where a kind lacks it (an index stays exact in a float)."""
    arrays = [(part, getattr(part, name)) for part in parts]
    return np.concatenate([np.full(len(part.customer), np.nan) if array is None else array.astype(np.float64) for part, array in arrays])
