"""The occasions of an affinity: the log's events seen from pairs of customers and categories.

What is known of customers is known of pairs in the same way: `Occasions` puts the events in order of their pairs, and from there on cells,
folds and labels are those of every other target.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from itertools import count
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from sqlglot import exp

from persopredict import conditions, usability
from persopredict.affinity.pairs import Codes
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import cast_to, col, every, func, lit, microseconds, select, table
from persopredict.engines.expressions import count as count_rows
from persopredict.errors import Problem
from persopredict.events import EventLog
from persopredict.features.measured import integers
from persopredict.features.measures import Integers
from persopredict.lookups import JoinedLookup
from persopredict.sources import CUSTOMER, is_blank
from persopredict.targets import Affinity, Target

#: What the target's events are called among occasions.
EVENT = "occasion"
_TAKER = "taker number"
_NUMBERS = count()


def affinity_problems(target: Affinity, events: EventLog) -> list[Problem]:
    """What keeps a log from being asked for an affinity; `EventLog.check` tells it too."""
    changing = {name for lookup in events.lookups if lookup.versioned for name in lookup.columns}
    return usability.affinity_problems(target, events.categories, events.columns, changing)


class Occasions:
    """The events of a target as a log whose owners are pairs, or customers where `by` is None; see `survey.Surveyed`.

    Parameters
    ----------
    events : the log.
    target : whose events are read; those at the same instant are one.
    by : the column of the categories.
    chosen : numbers of customers, ascending: only theirs are read; default all.
    """

    def __init__(self, events: EventLog, target: Affinity, *, by: str | None, chosen: Integers | None = None) -> None:
        self._events, self._target, self._by, self._chosen = events, target, by, chosen
        self._suffix = f"_{next(_NUMBERS)}"
        self.numeric: tuple[str, ...] = ()
        self.lookups: tuple[JoinedLookup, ...] = ()

    @property
    def engine(self) -> Engine:
        """The log's."""
        return self._events.engine

    @property
    def zone(self) -> ZoneInfo:
        """The log's."""
        return self._events.zone

    @property
    def late(self) -> bool:
        """As the log."""
        return self._events.late

    @property
    def span_us(self) -> tuple[int, int]:
        """The log's."""
        return self._events.span_us

    def observed_for(self, target: Target) -> tuple[datetime, datetime]:
        """The span observed by the sources of the target's events; `target` is what they are called here."""
        return self._events.observed_for(self._target)

    @cached_property
    def table(self) -> str:
        """The occasions in order of their owners."""
        read, occasions = f"taken{self._suffix}", f"occasions{self._suffix}"
        self.engine.create(Step(read, self._taken()))
        self.engine.create(Step(self.owners, self._numbered(read)))
        same = [exp.EQ(this=col(name, read), expression=col(name, self.owners)) for name in self._keys]
        columns = {
            CUSTOMER: col(CUSTOMER, self.owners),
            "event": cast_to(lit(EVENT), "VARCHAR"),
            **{name: col(name, read) for name in ("event_us", "known_us", "day")},
        }
        query = select(columns, read).join(table(self.owners), on=every(*same))
        self.engine.create(Step(occasions, query.order_by(col(CUSTOMER, self.owners))))
        self.engine.drop(read)
        return occasions

    @property
    def owners(self) -> str:
        """The owners: numbers as ids, with what they are numbers of."""
        return f"owners{self._suffix}"

    @property
    def _keys(self) -> tuple[str, ...]:
        return (_TAKER,) if self._by is None else (_TAKER, "category")

    @cached_property
    def takers(self) -> Integers:
        """The customer's number (among the chosen) of each owner, in their order."""
        found = integers(self._owned(_TAKER)).astype(np.int64)
        return found if self._chosen is None else np.searchsorted(self._chosen, found)

    @cached_property
    def categories(self) -> tuple[tuple[str, ...], Codes]:
        """The names of the categories in order, and the place in them of each owner's."""
        coded = self._owned("category").combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(names), np.int32)
        place[order] = np.arange(len(names), dtype=np.int32)
        return tuple(names[number] for number in order), place[coded.indices.to_numpy()]

    def _owned(self, name: str) -> pa.ChunkedArray:
        assert self.table
        query = select({name: col(name)}, self.owners).order_by(col(CUSTOMER))
        return self.engine.arrow(Step("owners", query)).column(name)

    def size(self, before: datetime) -> tuple[int, int]:
        """How many owners and customers had an occasion that was known before a moment."""
        known = exp.LT(this=col("known_us"), expression=lit(microseconds(before)))
        owners = select({name: col(name) for name in self._keys}, self._taken().subquery("taken")).where(known).distinct()
        counts = {"owners": count_rows(), "customers": exp.Count(this=exp.Distinct(expressions=[col(_TAKER)]))}
        found = self.engine.rows(Step("size", select(counts, owners.subquery("owners"))))[0]
        return int(found[0]), int(found[1])

    def drop(self) -> None:
        """Give the tables back."""
        for name in (self.table, self.owners, *([] if self._chosen is None else [self._chosen_table])):
            self.engine.drop(name)

    @property
    def _chosen_table(self) -> str:
        return f"chosen{self._suffix}"

    def _taken(self) -> exp.Select:
        """The target's events, those of one owner and instant as one, known when the first of them was."""
        events = self._events.table
        happened = col("event_us", events)
        keys: dict[str, exp.Expression] = {_TAKER: col(CUSTOMER, events)}
        named: list[exp.Expression] = []
        if self._by is not None:
            keys["category"] = cast_to(col(self._by, events), "VARCHAR")
            named.append(exp.Not(this=exp.paren(is_blank(keys["category"].copy()))))
        known = func("GREATEST", happened, func("COALESCE", col("known_us", events), happened.copy()))
        columns = {**keys, "event_us": happened, "known_us": func("MIN", known), "day": func("MIN", col("day", events))}
        query = select(columns, events)
        facts = {name: lookup for lookup in self._events.lookups for name in lookup.columns}
        for lookup in dict.fromkeys(facts[name] for name in sorted(conditions.columns(self._target.outcome)) if name in facts):
            query = query.join(table(lookup.table), on=lookup.matches(events), join_type="left")
        if self._chosen is not None:
            chosen = self._chosen_table
            self.engine.load(chosen, pa.table({"chosen number": pa.array(self._chosen, pa.int32())}))
            query = query.join(table(chosen), on=exp.EQ(this=col(CUSTOMER, events), expression=col("chosen number", chosen)))
        query = query.where(every(conditions.parse(self._target.outcome), *named))
        return query.group_by(*(key.copy() for key in keys.values()), happened.copy())

    def _numbered(self, read: str) -> exp.Select:
        """The owners, numbered in order of customers and then of categories."""
        different = select({name: col(name) for name in self._keys}, read).distinct().subquery("different")
        order = exp.Order(expressions=[exp.Ordered(this=col(name), nulls_first=False) for name in self._keys])
        number = cast_to(exp.paren(exp.Window(this=func("ROW_NUMBER"), order=order) - lit(1)), "INTEGER")
        return select({**{name: col(name) for name in self._keys}, "customer_id": number, CUSTOMER: number.copy()}, different)
