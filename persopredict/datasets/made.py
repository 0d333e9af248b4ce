"""Made logs of any size whose truth is known: events of a made shop, and P(label | what was observed) for every customer.

Customers are made in blocks of `BLOCK`, each from its own random stream, so that a log is the same whether it is made at once in memory or
file by file, and no customer lies in two files.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from persopredict.datasets import truth as mathematics
from persopredict.datasets.shop import DAY, Clock, Floats, Integers, Shop, Stream, microseconds
from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.times import Duration, instant

if TYPE_CHECKING:
    import pandas as pd

Ids = Literal["text", "integer", "uuid"]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
_EVENTS = ("purchase", "stockout", "view", "email_click", "conversion")
_KINDS = ("churn", "conversion")

BLOCK = 4096


@dataclass(frozen=True, slots=True)
class MadeLog:
    """A made log in memory.

    Attributes
    ----------
    events : table in the common model's names, by block of customers and then by time: ``customer_id``; ``event_at`` (UTC, microseconds);
        ``event``, one of "purchase" (one row per line of an order), "stockout" (with its order), "view", "email_click", "conversion";
        ``event_id``, unique; ``order_id``, of purchases and stockouts; ``item_id``, ``category``, of purchases and views; ``value``, of
        purchases; ``channel``.
    start, end : what was observed, ``[start, end)``.
    shop : the parameters.
    tastes : ``customer_id``, ``category`` that the customer truly likes best, ``share`` of it in the customer's choices.
    """

    events: pa.Table
    start: datetime
    end: datetime
    shop: Shop
    tastes: pa.Table

    def truth(self, kind: str, cutoff: str | datetime, horizon: str | Duration) -> pd.DataFrame:
        """P(label | the log before the cutoff), computed exactly; see `persopredict.datasets.truth` for how.

        Parameters
        ----------
        kind : "churn", no purchase in ``[cutoff, cutoff + horizon)``, or "conversion", at least one conversion in it.
        cutoff : text or datetime, naive in UTC. Nothing at or after it touches the probability.
        horizon : like "28d".

        Returns
        -------
        frame of the customers with a purchase before the cutoff, by customer: ``customer_id``, ``probability``, ``label`` (float 0 or 1;
        NaN for all when the horizon ends after the log does). A choice of customers by what happened before the cutoff keeps it exact.

        Raises
        ------
        SpecificationError : unknown kind, unreadable time, no horizon.

        >>> log = made_log(500, days=200, seed=1)
        >>> frame = log.truth("churn", "2024-05-01", "28d")
        >>> list(frame.columns), bool(frame["probability"].between(0, 1).all()), sorted(frame["label"].unique())
        (['customer_id', 'probability', 'label'], True, [0.0, 1.0])
        """
        return _truth(self.events, self, kind, cutoff, horizon)


@dataclass(frozen=True, slots=True)
class MadeFiles:
    """A made log in Parquet files: `paths`, each with the columns of `MadeLog.events`; `start`, `end`, `shop` as there."""

    paths: tuple[Path, ...]
    start: datetime
    end: datetime
    shop: Shop

    def truth(self, kind: str, cutoff: str | datetime, horizon: str | Duration) -> pd.DataFrame:
        """As `MadeLog.truth`, computed file by file."""
        import pandas as pd

        columns = ["customer_id", "event_at", "event", "order_id", "channel"]
        frames = [_truth(pq.read_table(path, columns=columns), self, kind, cutoff, horizon) for path in self.paths]
        return pd.concat(frames).sort_values("customer_id", ignore_index=True)


def made_log(
    customers: int,
    *,
    days: int = 400,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    shop: Shop | None = None,
    ids: Ids = "text",
) -> MadeLog:
    """Make a log whose truth is known.

    Parameters
    ----------
    customers : how many, at least 1; they arrive with a first order during the first 80% of the time, more of them early.
    days : how long the log is.
    seed : same seed, same log, to the byte (under one version of NumPy).
    start : first day, naive in UTC.
    shop : the parameters, default `Shop()`. Measured there on 100,000 customers at day 300, all with an order in the last 91 days, horizon
        28 days: churn 41% (AUC of the truth 0.80), conversion 9% (0.85). `conversion_per_view` and `conversion_per_email_click` move the base
        rate; a smaller ``shape`` of `view` or a larger share of views among the causes raises the AUC.
    ids : customer ids as "text" (``c0000001``), "integer" or "uuid".

    Raises
    ------
    SpecificationError : no customers, no days, unknown kind of ids.

    >>> log = made_log(100, days=60)
    >>> log.events.column_names
    ['customer_id', 'event_at', 'event', 'event_id', 'order_id', 'item_id', 'category', 'value', 'channel']
    >>> log.events.equals(made_log(100, days=60).events), log.start.isoformat(), log.tastes.num_rows
    (True, '2024-01-01T00:00:00+00:00', 100)
    """
    maker = _Maker(customers, days, seed, instant(start), shop or Shop(), ids)
    made = [maker.block(block) for block in range(maker.blocks)]
    events, tastes = (pa.concat_tables([pair[side] for pair in made]).combine_chunks() for side in (0, 1))
    return MadeLog(events, maker.start, maker.end, maker.shop, tastes)


def made_log_parquet(
    folder: str | Path,
    customers: int,
    *,
    days: int = 400,
    seed: int = 0,
    start: str | date | datetime = "2024-01-01",
    shop: Shop | None = None,
    ids: Ids = "text",
    customers_per_file: int = 25 * BLOCK,
) -> MadeFiles:
    """Make the log of `made_log`, row for row, as files ``part-00000.parquet``, … in `folder`; memory holds one block of customers.

    Parameters
    ----------
    folder : made if it is not there; must hold no Parquet files.
    customers_per_file : rounded up to blocks of 4,096; does not change the log.
    customers, days, seed, start, shop, ids : as in `made_log`.

    Raises
    ------
    DataError : the folder holds Parquet files. SpecificationError : as in `made_log`.
    """
    maker = _Maker(customers, days, seed, instant(start), shop or Shop(), ids)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if present := sorted(target.glob("*.parquet")):
        remedy = "give an empty folder; a glob over it would mix two logs"
        raise DataError(f"{target} is in use", [Problem("folder_not_empty", "it holds Parquet files", count=len(present), remedy=remedy)])
    step = max(1, -(-customers_per_file // BLOCK))
    paths = []
    for number, first in enumerate(range(0, maker.blocks, step)):
        path = target / f"part-{number:05d}.parquet"
        with pq.ParquetWriter(path, maker.schema, compression="zstd") as writer:
            for block in range(first, min(first + step, maker.blocks)):
                writer.write_table(maker.block(block)[0])
        paths.append(path)
    return MadeFiles(tuple(paths), maker.start, maker.end, maker.shop)


def customer_ids(numbers: Integers, ids: str, seed: int) -> pa.Array:
    """The ids of the customers with these numbers (from 0), as "text", "integer" or "uuid" (a function of number and seed).

    >>> customer_ids(np.array([0, 41]), "text", 0).to_pylist()
    ['c0000001', 'c0000042']
    """
    if ids == "integer":
        return pa.array(numbers + 1)
    if ids == "text":
        return pa.array([f"c{number + 1:07d}" for number in numbers])
    if ids == "uuid":
        space = uuid.uuid5(uuid.NAMESPACE_OID, f"persopredict {seed}")
        return pa.array([str(uuid.uuid5(space, str(number))) for number in numbers])
    raise SpecificationError(f"no kind of ids {ids!r}; {did_you_mean(str(ids), ('text', 'integer', 'uuid'))}")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Events of one kind: customer (index in the block), time on the shop's clock, and what the kind has of the other columns."""

    event: str
    customer: Integers
    reading: Floats
    order: Integers | None = None
    item: Integers | None = None
    value: Floats | None = None
    channel: Integers | None = None


class _Maker:
    """Makes the blocks of one log."""

    def __init__(self, customers: int, days: int, seed: int, start: datetime, shop: Shop, ids: Ids) -> None:
        wrong = [
            Problem("out_of_range", f"{name} is {value}", remedy="give a whole number of at least 1")
            for name, value in (("customers", customers), ("days", days))
            if value < 1
        ]
        if wrong:
            raise SpecificationError("the log is impossible", wrong)
        customer_ids(np.zeros(0, dtype=np.int64), ids, seed)
        self.customers, self.seed, self.shop, self.ids = customers, seed, shop, ids
        self.start, self.end = start, start + timedelta(days=days)
        self.clock, self.blocks = Clock(start), -(-customers // BLOCK)
        self.length = float(self.clock.reading(np.array([microseconds(self.end)]))[0])
        self.channels = pa.array([*(channel.name for channel in shop.channels), "email"])
        self.categories = pa.array([f"category {number + 1}" for number in range(shop.categories)])
        self.schema = self.block(self.blocks)[0].schema

    def block(self, block: int) -> tuple[pa.Table, pa.Table]:
        """Events and tastes of the customers of one block (none, after the last)."""
        first = block * BLOCK
        size = max(0, min(BLOCK, self.customers - first))
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(block,)))
        shop = self.shop
        home = rng.choice(len(shop.channels), size, p=[channel.share for channel in shop.channels])
        arrival = 0.8 * self.length * rng.random(size) ** 1.5
        popularity = np.arange(shop.categories, 0, -1) / (shop.categories * (shop.categories + 1) / 2)
        tastes = rng.dirichlet(shop.taste * popularity * shop.categories, size)
        orders, departure = self._orders(rng, home, arrival)
        touches = [self._touches(rng, name, stream, home, arrival, departure) for name, stream in self._touch_streams()]
        conversions = self._conversions(rng, home, arrival, departure, touches)
        purchases = self._lines(rng, orders[0], tastes)
        views = self._items(rng, touches[0], tastes)
        rows = (purchases, orders[1], views, touches[1], conversions)
        names = customer_ids(np.arange(first, first + size), self.ids, self.seed)
        best = tastes.argmax(axis=1) if size else np.zeros(0, dtype=np.int64)
        liked = {"customer_id": names, "category": self.categories.take(pa.array(best)), "share": tastes.max(axis=1, initial=0.0)}
        return self._table(rows, names, block), pa.table(liked)

    def _touch_streams(self) -> tuple[tuple[str, Stream], ...]:
        return ("view", self.shop.view), ("email_click", self.shop.email_click)

    def _process(self, rng: np.random.Generator, stream: Stream, arrival: Floats) -> tuple[Integers, Floats]:
        """Customer and time of each event of a stream from arrival to the end of the log, as if nobody left."""
        rates = rng.gamma(stream.shape, 1 / stream.rate, len(arrival))
        customer = np.repeat(np.arange(len(arrival)), rng.poisson(rates * (self.length - arrival)))
        return customer, arrival[customer] + rng.random(len(customer)) * (self.length - arrival[customer])

    def _orders(self, rng: np.random.Generator, home: Integers, arrival: Floats) -> tuple[tuple[_Rows, _Rows], Floats]:
        """Orders, the stockouts among them, and when each customer leaves (infinite for those who have not when the log ends)."""
        size = len(home)
        repeat, when = self._process(rng, self.shop.purchase, arrival)
        customer = np.concatenate([np.arange(size), repeat])
        reading = np.concatenate([arrival, when])
        sequence = np.lexsort((reading, customer))
        customer, reading = customer[sequence], reading[sequence]
        channel = self._channel(rng, home, customer)
        first = np.unique(customer, return_index=True)[1]
        channel[first] = home
        stockout = rng.random(len(customer)) < self.shop.stockout
        leaves = rng.random(len(customer)) < self.shop.leaving(home[customer], stockout)
        departure = np.full(size, np.inf)
        np.minimum.at(departure, customer[leaves], reading[leaves])
        kept = reading <= departure[customer]
        orders = _Rows("purchase", customer[kept], reading[kept], order=np.arange(kept.sum()), channel=channel[kept])
        return (orders, _chosen(orders, stockout[kept], "stockout")), departure

    def _channel(self, rng: np.random.Generator, home: Integers, customer: Integers) -> Integers:
        """The channel of each event: the customer's own or, with probability 1 − faithful, any."""
        stray = rng.random(len(customer)) >= self.shop.faithful
        return np.where(stray, rng.integers(0, len(self.shop.channels), len(customer)), home[customer])

    def _touches(self, rng: np.random.Generator, name: str, stream: Stream, home: Integers, arrival: Floats, departure: Floats) -> _Rows:
        customer, reading = self._process(rng, stream, arrival)
        kept = reading < departure[customer]
        email = np.full(len(customer), len(self.shop.channels))
        channel = email if name == "email_click" else self._channel(rng, home, customer)
        return _chosen(_Rows(name, customer, reading, channel=channel), kept, name)

    def _conversions(self, rng: np.random.Generator, home: Integers, arrival: Floats, departure: Floats, touches: list[_Rows]) -> _Rows:
        """Each cause makes its own Poisson process of conversions; a drift thins them."""
        shop, size = self.shop, len(home)
        factor = np.array([channel.conversion for channel in shop.channels])[home]
        highest = np.exp(max(shop.daily_drift, 0.0) * self.length)
        customer = np.repeat(np.arange(size), rng.poisson(factor * highest * shop.conversion_per_day * (self.length - arrival)))
        parts = [(customer, arrival[customer] + rng.random(len(customer)) * (self.length - arrival[customer]))]
        for rows, effect in zip(touches, (shop.conversion_per_view, shop.conversion_per_email_click), strict=True):
            cause = np.repeat(np.arange(len(rows.customer)), rng.poisson(factor[rows.customer] * highest * effect))
            parts.append((rows.customer[cause], rows.reading[cause] + rng.exponential(shop.memory, len(cause))))
        customer = np.concatenate([part[0] for part in parts])
        reading = np.concatenate([part[1] for part in parts])
        thinned = rng.random(len(customer)) * highest < np.exp(shop.daily_drift * np.minimum(reading, self.length))
        kept = thinned & (reading < departure[customer]) & (reading < self.length)
        rows = _Rows("conversion", customer, reading, channel=self._channel(rng, home, customer))
        return _chosen(rows, kept, "conversion")

    def _lines(self, rng: np.random.Generator, orders: _Rows, tastes: Floats) -> _Rows:
        count = 1 + rng.poisson(self.shop.basket, len(orders.customer))
        at = np.repeat(np.arange(len(orders.customer)), count)
        assert orders.order is not None and orders.channel is not None
        lines = _Rows("purchase", orders.customer[at], orders.reading[at], order=orders.order[at], channel=orders.channel[at])
        bought = self._items(rng, lines, tastes)
        assert bought.item is not None
        value = np.round(np.exp(rng.normal(2.5 + 0.15 * (bought.item // 1000), 0.6)), 2)
        return _Rows("purchase", lines.customer, lines.reading, lines.order, bought.item, value, lines.channel)

    def _items(self, rng: np.random.Generator, rows: _Rows, tastes: Floats) -> _Rows:
        """Add an item: category by the customer's taste, then one of its 100 items, the first ones more often."""
        steps = np.cumsum(tastes, axis=1)[rows.customer, :-1]
        category = (steps < rng.random(len(rows.customer))[:, None]).sum(axis=1)
        item = category * 1000 + (100 * rng.random(len(rows.customer)) ** 2).astype(np.int64)
        return _Rows(rows.event, rows.customer, rows.reading, item=item, channel=rows.channel)

    def _table(self, parts: tuple[_Rows, ...], names: pa.Array, block: int) -> pa.Table:
        """One table of all kinds, by time."""
        customer = np.concatenate([part.customer for part in parts])
        moment = self.clock.moment(np.concatenate([part.reading for part in parts]))
        kind = np.repeat([_EVENTS.index(part.event) for part in parts], [len(part.customer) for part in parts])
        order, item, channel = (_filled(parts, name, -1, np.int64) for name in ("order", "item", "channel"))
        value = _filled(parts, "value", np.nan, np.float64)
        inside = np.flatnonzero(moment < microseconds(self.end))
        by_time = inside[np.lexsort((order[inside], kind[inside], customer[inside], moment[inside]))]
        order, item, value = order[by_time], item[by_time], value[by_time]
        prefix = np.int64(block) << 32
        columns = {
            "customer_id": names.take(pa.array(customer[by_time])),
            "event_at": pa.array(moment[by_time]).cast(pa.timestamp("us", tz="UTC")),
            "event": pa.array(_EVENTS).take(pa.array(kind[by_time])),
            "event_id": pa.array(prefix + np.arange(len(by_time))),
            "order_id": pa.array(prefix + order, mask=order < 0),
            "item_id": pa.array(item, mask=item < 0),
            "category": self.categories.take(pa.array(item // 1000, mask=item < 0)),
            "value": pa.array(value, mask=np.isnan(value)),
            "channel": self.channels.take(pa.array(channel[by_time])),
        }
        return pa.table(columns)


def _chosen(rows: _Rows, kept: Flags, event: str) -> _Rows:
    order = None if rows.order is None else rows.order[kept]
    channel = None if rows.channel is None else rows.channel[kept]
    return _Rows(event, rows.customer[kept], rows.reading[kept], order=order, channel=channel)


def _filled(parts: tuple[_Rows, ...], name: str, missing: float, dtype: type) -> np.ndarray[tuple[int], np.dtype[np.float64 | np.int64]]:
    arrays = [getattr(part, name) for part in parts]
    return np.concatenate(
        [np.full(len(part.customer), missing, dtype) if array is None else array for part, array in zip(parts, arrays, strict=True)]
    )


def _truth(events: pa.Table, log: MadeLog | MadeFiles, kind: str, cutoff: str | datetime, horizon: str | Duration) -> pd.DataFrame:
    import pandas as pd

    if kind not in _KINDS:
        raise SpecificationError(f"no truth about {kind!r}; {did_you_mean(str(kind), _KINDS)}")
    length = Duration.parse(horizon)
    if not length:
        raise SpecificationError("the horizon is empty; write <int>h, <int>d or <int>w, like '28d'")
    begin = instant(cutoff)
    end = length.after(begin, begin.tzinfo or log.start.tzinfo)
    clock, edges = Clock(log.start), np.array([microseconds(begin), microseconds(end)])
    now, then = (float(reading) for reading in clock.reading(edges))
    moment = events["event_at"].cast(pa.int64())
    past = events.filter(pc.less(moment, int(edges[0])))
    seen = mathematics.histories(past, log.shop, clock, int(edges[0]))
    probability = (mathematics.no_order if kind == "churn" else mathematics.conversion)(seen, log.shop, now, then - now)
    inside = pc.and_(pc.greater_equal(moment, int(edges[0])), pc.less(moment, int(edges[1])))
    name = "purchase" if kind == "churn" else "conversion"
    acted = events.filter(pc.and_(inside, pc.equal(events["event"], name)))["customer_id"]
    label = pc.is_in(seen.customer_id, value_set=acted.combine_chunks()).to_numpy(zero_copy_only=False) ^ (kind == "churn")
    frame = pd.DataFrame({"customer_id": seen.customer_id.to_pandas(), "probability": probability, "label": label.astype(np.float64)})
    if end > log.end:
        frame["label"] = np.nan
    return frame.sort_values("customer_id", ignore_index=True)
