"""What a log is asked: which needs, at which cutoffs, for which labels; and the calendar on which windows and labels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
from sqlglot import exp

from persopredict import outcomes
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import col, floor_to, microseconds, table
from persopredict.features.fold import BLOCK
from persopredict.features.measures import MILLION, WORD, Asked, Distinct, Integers, Need
from persopredict.features.plan import Log
from persopredict.lookups import JoinedLookup
from persopredict.spine import Members, Spine
from persopredict.targets import Target
from persopredict.times import WallClock

#: Values of a column that are told apart by bits: two words of them. More are told apart by grouping.
_FEW = 2 * WORD
#: Blocks of days that a log may span (ten years) before it is asked which of them hold any event.
_MANY_BLOCKS = 60


@dataclass(frozen=True)
class Labels:
    """What labels are asked for: of which targets, from what was known before `until`."""

    targets: tuple[Target, ...] = ()
    until: datetime | None = None


class Surveyed(Protocol):
    """What can be surveyed: an `EventLog`, or its events seen from something else than its customers."""

    @property
    def engine(self) -> Engine:
        """The engine that holds the tables."""

    @property
    def table(self) -> str:
        """The name of the table of events, in order of their owners' numbers; made on first use."""

    @property
    def owners(self) -> str:
        """The name of the table of owners (customers, for a log), with their ids and numbers."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its days."""

    @property
    def span_us(self) -> tuple[int, int]:
        """The times of the first and the last event, in microseconds."""

    @property
    def late(self) -> bool:
        """Whether some rows became known later than they happened."""

    @property
    def numeric(self) -> tuple[str, ...]:
        """The columns that hold numbers."""

    @property
    def lookups(self) -> tuple[JoinedLookup, ...]:
        """The lookups whose facts are columns."""

    def observed_for(self, target: Target) -> tuple[datetime, datetime]:
        """The span observed by every source that the target's label reads."""


class Survey:
    """The needs of all customers of a log, at cutoffs that they share or at those of a spine.

    Parameters
    ----------
    events : the log.
    wanted : the needs.
    cutoffs : shared by all customers; none with a spine.
    spine : rows of customers with cutoffs of their own.
    labels : the labels to read besides.
    """

    def __init__(
        self,
        events: Surveyed,
        wanted: Sequence[Need],
        *,
        cutoffs: Sequence[datetime],
        spine: Spine | Members | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.events, self.spine = events, spine
        self.cutoffs = np.array([microseconds(cutoff) for cutoff in cutoffs], np.int64)
        self.labels = labels or Labels()
        #: Of the names of tables that are made for one run over the log; none where the plan is only shown.
        self.suffix = ""
        self.log = Log(events.late, frozenset(events.numeric), events.lookups, events.table)
        self.asked = Asked.of(wanted, {name: len(values) for name, values in self._few(wanted).items()})
        # Facts that depend on the cutoff differ from cutoff to cutoff for one and the same event: then every cutoff has its own cells.
        self.own = spine is not None or self.log.timed((*self._columns, *self.asked.numbers))

    def _few(self, wanted: Sequence[Need]) -> dict[str, tuple[str, ...]]:
        """The text columns whose different values are asked for and are few, with these values in order: `codes`."""
        facts = {name for lookup in self.events.lookups for name in lookup.columns}
        asked = dict.fromkeys(part.column for part, _ in wanted if isinstance(part, Distinct))
        self.codes: dict[str, tuple[str, ...]] = {}
        for name in asked:
            if name in facts or name in self.log.numeric:
                continue
            query = exp.select(col(name)).from_(table(self.events.table)).distinct().limit(_FEW + 1)
            found = self.events.engine.rows(Step("values", query.where(exp.Not(this=exp.Is(this=col(name), expression=exp.null())))))
            if 0 < len(found) <= _FEW:
                self.codes[name] = tuple(sorted(row[0] for row in found))
        return self.codes

    @property
    def _columns(self) -> tuple[str, ...]:
        """The columns of the log that are read as they are."""
        labels = ("event", *outcomes.label_columns(self.labels.targets)) if self.labels.targets else ()
        return tuple(dict.fromkeys((*self.asked.natural, *labels)))

    @cached_property
    def clock(self) -> WallClock:
        """The wall clock of the log's time zone, over all that is asked."""
        cutoffs = self.cutoffs if self.spine is None else self.spine.span
        windows = [window for window in self.asked.windows if window is not None]
        first, last = self.events.span_us
        lengths = [length.approximate for target in self.labels.targets for length in (target.gap, target.horizon)]
        ahead = 2 * int(max((length.total_seconds() for length in lengths), default=0)) * MILLION
        back = int(max((window.approximate.total_seconds() for window in windows), default=0)) * MILLION
        return WallClock(self.events.zone, min(first, int(cutoffs.min()) - back), max(last, int(cutoffs.max()) + ahead))

    @cached_property
    def _blocks(self) -> Integers:
        """The local days (as starts of blocks) in which the log may have events; none where no active days are asked for."""
        if not self.asked.has_days:
            return np.empty(0, np.int64)
        first, last = (self.clock.day(np.array(self.events.span_us)) // BLOCK * BLOCK).tolist()
        if last - first <= _MANY_BLOCKS * BLOCK:
            # A day more at the end: where clocks go back over midnight, a day may begin before the instant that ends it.
            return np.arange(first, last + BLOCK + 1, BLOCK)
        # One event of long ago must not cut everybody's time in thousands of cells.
        query = exp.select(exp.alias_(floor_to(col("day"), BLOCK), "block")).from_(table(self.events.table)).distinct()
        return np.array(sorted(row[0] for row in self.events.engine.rows(Step("blocks", query))), np.int64)

    @cached_property
    def edges_of_blocks(self) -> Integers:
        """Where blocks of active days start and end."""
        days = np.unique(np.concatenate([self._blocks, self._blocks + BLOCK]))
        return self.clock.instants(days * 24 * 3600 * MILLION)

    def span_of(self, target: Target, cutoffs: Integers) -> tuple[Integers, Integers, Any]:
        """Where labels start and end, and which have matured: their sources, and `until`, have reached their end."""
        starts = self.clock.after(cutoffs, target.gap)
        ends = self.clock.after(starts, target.horizon)
        first, last = (microseconds(side) for side in self.events.observed_for(target))
        until = last if self.labels.until is None else min(last, microseconds(self.labels.until))
        return starts, ends, (first <= cutoffs) & (ends <= until)
