"""Made logs of any size whose truth is known: events of a made shop, and P(label | what was observed) for every customer.

Customers are made in blocks of 4,096, each from its own random stream, so that a log is the same whether it is made at
once in memory or file by file, and no customer lies in two files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from persopredict.datasets import truth as posterior
from persopredict.datasets.generator import BLOCK, Generator, Ids
from persopredict.datasets.shop import Clock, Shop, microseconds
from persopredict.errors import DataError, Problem, SpecificationError, did_you_mean
from persopredict.times import Duration, instant

if TYPE_CHECKING:
    import pandas as pd

_DECIDING_EVENT = {"churn": "purchase", "conversion": "conversion"}


@dataclass(frozen=True, slots=True)
class MadeLog:
    """A made log in memory.

    Attributes
    ----------
    events : table in the common model's names, by block of customers and then by time: ``customer_id``; ``event_at``
        (UTC, microseconds); ``event``, one of "purchase" (one row per line of an order), "stockout" (with its order),
        "view", "email_click", "conversion"; ``event_id``, unique; ``order_id``, of purchases and stockouts;
        ``item_id``, ``category``, of purchases and views; ``value``, of purchases; ``channel``.
    start, end : what was observed, ``[start, end)``.
    shop : the parameters.
    tastes : ``customer_id``, ``category`` that the customer truly likes best, ``share`` of it in the customer's
        choices.
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
        kind
            "churn", no purchase in ``[cutoff, cutoff + horizon)``, or "conversion", at least one conversion in it.
        cutoff
            text or datetime, naive in UTC, not after `end`. Nothing at or after it touches the probability.
        horizon
            like "28d".

        Returns
        -------
        frame of the customers with a purchase before the cutoff, by customer: ``customer_id``, ``probability``,
        ``label`` (float 0 or 1; NaN for all when the horizon ends after the log does). Any choice of customers by what
        happened before the cutoff keeps it exact.

        Raises
        ------
        SpecificationError : unknown kind, unreadable time, empty horizon, a cutoff that the log does not reach.

        >>> frame = made_log(500, days=200, seed=1).truth("churn", "2024-05-01", "28d")
        >>> list(frame.columns), bool(frame["probability"].between(0, 1).all()), frame["label"].nunique()
        (['customer_id', 'probability', 'label'], True, 2)
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
    customers
        how many, at least 1; they arrive with a first order during the first 80% of the time, more of them early.
    days
        how long the log is.
    seed
        same seed, same log, to the byte (under one version of NumPy).
    start
        first day, naive in UTC.
    shop
        the parameters, default `Shop()`.
    ids
        customer ids as "text" (``c0000001``), "integer" or "uuid".

    Raises
    ------
    SpecificationError : no customers, no days, a negative seed, an unknown kind of ids.

    Notes
    -----
    On 100,000 customers of the default shop, over 28 days, at cutoffs from June to January: among those with a purchase
    in the last 91 days, churn is 38 to 40% (AUC of the truth 0.83 to 0.85), conversion 10 to 11% (0.81); among all,
    43 to 61% (0.86 to 0.93) and 7 to 10% (0.82 to 0.88). The channels' `dropout` moves churn; `conversion_per_view` and
    `conversion_per_email_click` move the base rate of conversions; a smaller ``shape`` of `view` and `email_click`, or
    fewer conversions out of the blue, raise their AUC. A customer has 49 events on average.

    >>> log = made_log(100, days=60)
    >>> log.events.column_names
    ['customer_id', 'event_at', 'event', 'event_id', 'order_id', 'item_id', 'category', 'value', 'channel']
    >>> log.events.equals(made_log(100, days=60).events), log.start.isoformat(), log.tastes.num_rows
    (True, '2024-01-01T00:00:00+00:00', 100)
    """
    generator = Generator(customers, days, seed, instant(start), shop or Shop(), ids)
    blocks = [generator.block(number) for number in range(generator.blocks)]
    events, tastes = (pa.concat_tables([block[side] for block in blocks]).combine_chunks() for side in (0, 1))
    return MadeLog(events, generator.start, generator.end, generator.shop, tastes)


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
    folder
        made if it is not there; must hold no Parquet files.
    customers_per_file
        rounded up to blocks of 4,096; does not change the log.
    customers, days, seed, start, shop, ids
        as in `made_log`.

    Raises
    ------
    DataError : the folder holds Parquet files. SpecificationError : as in `made_log`.
    """
    generator = Generator(customers, days, seed, instant(start), shop or Shop(), ids)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if present := sorted(target.glob("*.parquet")):
        remedy = "give an empty folder; a glob over it would mix two logs"
        raise DataError(
            f"{target} is in use",
            [Problem("folder_not_empty", "it holds Parquet files", count=len(present), remedy=remedy)],
        )
    step = max(1, -(-customers_per_file // BLOCK))
    paths = []
    for number, first in enumerate(range(0, generator.blocks, step)):
        path = target / f"part-{number:05d}.parquet"
        with pq.ParquetWriter(path, generator.schema, compression="zstd") as writer:
            for block in range(first, min(first + step, generator.blocks)):
                writer.write_table(generator.block(block)[0])
        paths.append(path)
    return MadeFiles(tuple(paths), generator.start, generator.end, generator.shop)


def _truth(events: pa.Table, log: MadeLog | MadeFiles, kind: str, cutoff: str | datetime, horizon: str | Duration) -> pd.DataFrame:
    import pandas as pd

    if kind not in _DECIDING_EVENT:
        raise SpecificationError(f"no truth about {kind!r}; {did_you_mean(str(kind), _DECIDING_EVENT)}")
    begin, length = instant(cutoff), Duration.parse(horizon)
    if not length:
        raise SpecificationError("the horizon is empty; write <int>h, <int>d or <int>w, like '28d'")
    if begin > log.end:
        raise SpecificationError(f"the log ends at {log.end.isoformat()}, before the cutoff {begin.isoformat()}; choose an earlier one")
    end = length.after(begin, UTC)
    first, last = microseconds(begin), microseconds(end)
    clock = Clock(log.start)
    now, then = (float(reading) for reading in clock.reading(np.array([first, last])))
    moment = events["event_at"].cast(pa.int64())
    seen = posterior.histories(events.filter(pc.less(moment, first)), log.shop, clock, first)
    probability = (posterior.no_order if kind == "churn" else posterior.conversion)(seen, log.shop, now, then - now)
    decides = pc.and_(
        pc.and_(pc.greater_equal(moment, first), pc.less(moment, last)),
        pc.equal(events["event"], _DECIDING_EVENT[kind]),
    )
    acted = pc.is_in(seen.customer_id, value_set=events.filter(decides)["customer_id"].combine_chunks())
    label = acted.to_numpy(zero_copy_only=False) != (kind == "churn")
    label = label.astype(np.float64) if end <= log.end else np.full(len(label), np.nan)
    frame = pd.DataFrame({"customer_id": seen.customer_id.to_pandas(), "probability": probability, "label": label})
    return frame.sort_values("customer_id", ignore_index=True)
