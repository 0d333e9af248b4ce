"""Seeded logs of any size for the benchmarks, written as one Parquet file each, in bounded memory.

A year of a shop: sessions of a few events, customers of very different activity who come and go, 5,000 items of which few are popular,
three channels. Rows are in order of time, as a log grows. The same arguments give the same rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
FOLDER = Path(__file__).parent / ".data"
EVENTS = ("visit", "purchase", "email_open", "cart")
CHANNELS = ("web", "app", "store")
ITEMS, CATEGORIES = 5_000, 30

#: Changes when the rows do, so that no file of an older generator is taken for one of this.
_VERSION = 1
#: Who is a customer changes from one stretch of the year to the next; a stretch is what is held in memory.
_LEAST_STRETCHES, _MOST_ROWS = 52, 1 << 18
_MICROSECONDS_PER_SECOND = 1_000_000
_SESSION_SECONDS = 1_800
#: Mean number of events in a session: a page view log has more, a till fewer.
_SESSION_SIZE = 3
_EVENT_SHARES = (0.6, 0.15, 0.1, 0.15)
_CHANNEL_SHARES = (0.5, 0.3, 0.2)
#: Rows that hold no value: every opened e-mail, and a third of the visits.
_VISITS_WITHOUT_VALUE = 1 / 3


@dataclass(frozen=True)
class Shop:
    """What stays the same throughout a log: who its customers are, and what its items cost."""

    activity: np.ndarray
    joined: np.ndarray
    left: np.ndarray
    popularity: np.ndarray
    cents: np.ndarray

    @classmethod
    def made(cls, customers: int, random: np.random.Generator) -> Shop:
        """A shop with heavy customers and rare ones; two thirds of them are there from the first day, a third leaves within the year."""
        joined = np.where(random.random(customers) < 2 / 3, 0.0, random.random(customers) * 0.9)
        left = np.where(random.random(customers) < 2 / 3, 1.0, joined + 0.1 + random.random(customers))
        return cls(
            0.1 + random.lognormal(0, 1.2, customers),
            joined,
            left,
            np.cumsum(1 / np.arange(1, ITEMS + 1) ** 0.8),
            np.maximum(random.lognormal(3, 1, ITEMS) * 100, 49).astype(np.int64),
        )

    def drawn(self, count: int, share: float, random: np.random.Generator) -> np.ndarray:
        """Customers by their activity, among those who are there when this share of the year has passed."""
        there = np.cumsum(np.where((self.joined <= share) & (share < self.left), self.activity, 0))
        return np.searchsorted(there, random.random(count) * there[-1], side="right")


def place(events: int, customers: int, *, seed: int = 1, folder: Path = FOLDER) -> Path:
    """Where `log` keeps it."""
    return folder / f"log_{events}_{customers}_{seed}_v{_VERSION}.parquet"


def log(events: int, customers: int, *, seed: int = 1, folder: Path = FOLDER) -> Path:
    """The Parquet file of a log with exactly so many events of about so many customers; made on first use.

    Columns: customer_id, event, item_id, category, channel, order_id (text), event_at (timestamp in UTC, microseconds), value
    (DECIMAL(10, 2)). A customer of very little activity may have no event at all.
    """
    file = place(events, customers, seed=seed, folder=folder)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished")
        # Readers other than Arrow's know no dictionaries: without Arrow's own schema, texts are plain texts to all of them.
        with pq.ParquetWriter(unfinished, _SCHEMA, store_schema=False, store_decimal_as_integer=True) as writer:
            for rows in chunks(events, customers, seed):
                writer.write_table(rows)
        unfinished.rename(file)
    return file


def chunks(events: int, customers: int, seed: int) -> Iterator[pa.Table]:
    """The rows of a log, stretch by stretch of its year."""
    random = np.random.default_rng([seed, events, customers])
    shop = Shop.made(customers, random)
    length = min(_MOST_ROWS, -(-events // _LEAST_STRETCHES))
    for first in range(0, events, length):
        size = min(length, events - first)
        yield _stretch(shop, size, first / events, (first + size) / events, first, random)


def _stretch(shop: Shop, size: int, start: float, end: float, first: int, random: np.random.Generator) -> pa.Table:
    """So many events, in sessions that begin between two shares of the year, in order of time."""
    lengths = random.geometric(1 / _SESSION_SIZE, size)
    # One session of at least one event for each row is more than enough: the first sessions that fill the stretch are taken.
    session = np.repeat(np.arange(size), lengths)[:size]
    sessions = int(session[-1]) + 1
    begins = start + random.random(sessions) * (end - start)
    year = int((END - START) / timedelta(seconds=1))
    seconds = (begins[session] * year).astype(np.int64) + random.integers(0, _SESSION_SECONDS, size)
    micros = np.minimum(seconds, year - 1) * _MICROSECONDS_PER_SECOND + random.integers(0, _MICROSECONDS_PER_SECOND, size)
    order = np.argsort(micros, kind="stable")
    session, micros = session[order], micros[order]
    kind = random.choice(len(EVENTS), size, p=_EVENT_SHARES)
    item = np.searchsorted(shop.popularity, random.random(size) * shop.popularity[-1], side="right")
    columns = {
        "customer_id": _named("c", 7, shop.drawn(sessions, (start + end) / 2, random)[session]),
        "event_at": pa.array(micros + int(START.timestamp()) * _MICROSECONDS_PER_SECOND).cast(_SCHEMA.field("event_at").type),
        "event": _one_of(EVENTS, kind),
        "item_id": _one_of(_ITEM_NAMES, item, kind == EVENTS.index("email_open")),
        "category": _one_of(_CATEGORY_NAMES, item % CATEGORIES, kind == EVENTS.index("email_open")),
        "channel": _one_of(CHANNELS, random.choice(len(CHANNELS), sessions, p=_CHANNEL_SHARES)[session]),
        # What a session buys is one order.
        "order_id": _named("o", 9, first + session, kind != EVENTS.index("purchase")),
        "value": _money(shop.cents[item] * random.integers(80, 121, size) // 100, _valueless(kind, random)),
    }
    return pa.table([columns[name].cast(_SCHEMA.field(name).type) for name in _SCHEMA.names], schema=_SCHEMA)


def _valueless(kind: np.ndarray, random: np.random.Generator) -> np.ndarray:
    visits = (kind == EVENTS.index("visit")) & (random.random(len(kind)) < _VISITS_WITHOUT_VALUE)
    return visits | (kind == EVENTS.index("email_open"))


def _named(letter: str, digits: int, numbers: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    texts = pc.utf8_lpad(pa.array(numbers, mask=missing).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(letter, texts, "")


def _one_of(names: tuple[str, ...], places: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32), mask=missing), pa.array(names))


def _money(cents: np.ndarray, missing: np.ndarray) -> pa.Array:
    """Decimals straight from their 128 bits: there is no quick way from whole cents."""
    words = np.zeros((len(cents), 2), dtype="<i8")
    words[:, 0] = cents
    known = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(_SCHEMA.field("value").type, len(cents), [known, pa.py_buffer(words)])


_ITEM_NAMES = tuple(f"i{number:04d}" for number in range(ITEMS))
_CATEGORY_NAMES = tuple(f"category {number:02d}" for number in range(CATEGORIES))
_TEXT = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    {
        "customer_id": pa.string(),
        "event_at": pa.timestamp("us", tz="UTC"),
        "event": _TEXT,
        "item_id": _TEXT,
        "category": _TEXT,
        "channel": _TEXT,
        "order_id": pa.string(),
        "value": pa.decimal128(10, 2),
    }
)


def cutoffs(count: int) -> list[datetime]:
    """So many cutoffs, 28 days apart, the last at the end of the year."""
    return [END - timedelta(days=28 * number) for number in range(count)][::-1]


def main() -> None:
    """Make one log and print where it is."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--customers", type=int, default=300_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--data", type=Path, default=FOLDER)
    chosen = arguments.parse_args()
    began = time.perf_counter()
    file = log(chosen.events, chosen.customers, seed=chosen.seed, folder=chosen.data)
    print(f"{file}: {file.stat().st_size / 1e6:,.0f} MB, {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
