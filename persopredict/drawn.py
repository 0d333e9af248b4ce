"""A log of which some customers are looked at, where all would be more than is needed: drawn by md5 of their ids, events and all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from itertools import count as counted
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from sqlglot import exp

from persopredict.draws import hashes, uniform
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import col, select, table
from persopredict.events import EventLog
from persopredict.lookups import JoinedLookup
from persopredict.sources import CUSTOMER
from persopredict.survey import Surveyed
from persopredict.targets import Target

_SALT = "customers"
_PLACE = "place among all"
_NUMBERS = counted()


def drawn(log: EventLog, share: float) -> Surveyed:
    """The log with a share of its customers, above 0 and at most 1; made once.

    >>> from persopredict.datasets import made_log
    >>> log = EventLog(made_log(200, days=30, seed=1).events)
    >>> from persopredict.engines.expressions import count
    >>> half = drawn(log, 0.5)
    >>> half.engine.rows(Step("held", select({"customers": count()}, half.owners)))
    [(98,)]
    """
    if share >= 1:
        return log
    if share not in log.shares:
        log.shares[share] = Drawn(log, share)
    found: Drawn = log.shares[share]
    return found


class Drawn:
    """Some customers of a log with all their events; see `survey.Surveyed`.

    `share`: of the log's customers, above 0 and below 1. Whoever is drawn for one share is drawn for every larger one, and nobody's lot
    depends on who else is there.
    """

    def __init__(self, log: EventLog, share: float) -> None:
        self._log, self.share = log, share
        self._suffix = f"_{next(_NUMBERS)}"

    @property
    def engine(self) -> Engine:
        """The log's."""
        return self._log.engine

    @property
    def zone(self) -> ZoneInfo:
        """The log's."""
        return self._log.zone

    @property
    def late(self) -> bool:
        """As the log."""
        return self._log.late

    @property
    def span_us(self) -> tuple[int, int]:
        """The log's."""
        return self._log.span_us

    @property
    def numeric(self) -> tuple[str, ...]:
        """The log's."""
        return self._log.numeric

    @property
    def lookups(self) -> tuple[JoinedLookup, ...]:
        """The log's."""
        return self._log.lookups

    def observed_for(self, target: Target) -> tuple[datetime, datetime]:
        """As the log: what its sources observed."""
        return self._log.observed_for(target)

    @property
    def owners(self) -> str:
        """The customers that were drawn, numbered anew."""
        assert self.table
        return f"drawn_customers{self._suffix}"

    @cached_property
    def table(self) -> str:
        """Their events, in their order."""
        ids = {"customer_id": col("customer_id")}
        everybody = self.engine.arrow(Step("ids", select(ids, self._log.owners).order_by(col(CUSTOMER)))).column(0)
        places = np.flatnonzero(uniform(hashes(everybody.to_pylist(), _SALT)) < self.share)
        numbers = pa.array(np.arange(len(places)), pa.int32())
        chosen, events = f"drawn{self._suffix}", f"drawn_events{self._suffix}"
        self.engine.load(chosen, pa.table({_PLACE: pa.array(places, pa.int32()), CUSTOMER: numbers}))
        self.engine.create(Step(f"drawn_customers{self._suffix}", self._of(chosen, self._log.owners, ("customer_id",))))
        others = tuple(name for name in self._log.stored if name != CUSTOMER)
        self.engine.create(Step(events, self._of(chosen, self._log.table, others).order_by(col(CUSTOMER, chosen))))
        self.engine.drop(chosen)
        return events

    @staticmethod
    def _of(chosen: str, name: str, columns: Sequence[str]) -> exp.Select:
        """Columns of a table of the log, of the customers that were chosen, with their new numbers."""
        query = select({**{each: col(each, name) for each in columns}, CUSTOMER: col(CUSTOMER, chosen)}, name)
        return query.join(table(chosen), on=exp.EQ(this=col(CUSTOMER, name), expression=col(_PLACE, chosen)))
