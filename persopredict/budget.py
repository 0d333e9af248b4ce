"""How many of a log's customers teach and test a model: all, until there are more snapshots than it can make use of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow.compute as pc

from persopredict.events import EventLog
from persopredict.snapshots import snapshots
from persopredict.targets import Target

#: Snapshots, all cutoffs together, from which on customers are drawn: small trees have settled long before, and a snapshot of 140 features
#: takes a kilobyte, more than once.
MOST_SNAPSHOTS = 500_000
#: Where an outcome is rare (or its absence), snapshots are drawn until so many have it, up to twice as many snapshots.
RARER, MOST_FOR_RARE = 5_000, 1_000_000
#: Customers that are asked first how many snapshots there are, and how many have the outcome.
_PROBED = 20_000


def share_of(events: EventLog, target: Target, cutoffs: Sequence[datetime], until: datetime | None = None) -> float:
    """The share of the customers to train or test with, above 0 and at most 1; whoever they are decides md5 of their ids (`drawn`).

    `until`: labels count only what was known before it; default no limit.

    >>> from persopredict.datasets import made_log
    >>> from persopredict.targets import Churn
    >>> from persopredict.times import instant
    >>> log = EventLog(made_log(50, days=60, seed=1).events)
    >>> share_of(log, Churn("purchase", "7d"), [instant("2024-02-10")], instant("2024-02-20"))
    1.0
    """
    if events.customers * len(cutoffs) <= MOST_SNAPSHOTS:
        return 1.0
    probed = min(1.0, _PROBED / events.customers)
    table = snapshots(events, cutoffs, (), [target], until=until, share=probed).to_arrow()
    label = table.column(f"label_{target.name}")
    rows = len(label) - int(label.null_count)
    positives = int(pc.sum(label).as_py() or 0)
    rarer = max(min(positives, rows - positives), 1)
    wanted = max(MOST_SNAPSHOTS, min(MOST_FOR_RARE, rows * RARER / rarer))
    return min(1.0, float(probed * wanted / max(rows, 1)))
