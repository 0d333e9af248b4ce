"""A spine of one's own: which customer is asked at which cutoff, read from a frame, a file or a query like a log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import cast_to, col, count, func, lit, microseconds, moment, select, table
from persopredict.errors import DataError, Problem
from persopredict.events import EventLog
from persopredict.features.measured import integers
from persopredict.features.measures import Integers
from persopredict.intake import CUSTOMERS
from persopredict.sources import CUSTOMER, constant

SPINE = "spine"
#: Ids, customer numbers (-1 for customers that the log does not know) and cutoffs, in order of ids and cutoffs.
Numbered = tuple[pa.Array, Integers, Integers]


class Spine:
    """The rows of a spine.

    Parameters
    ----------
    source : what an `EventLog` is made of, with the columns `customer_id` and `cutoff`; naive cutoffs are read in the log's time zone.
    events : the log.

    Raises
    ------
    DataError : if columns are missing, rows can't be read, or rows are there twice.
    """

    def __init__(self, source: Any, events: EventLog) -> None:
        mapping: dict[str, Any] = {"customer_id": "customer_id", "event_at": "cutoff", "event": constant(SPINE)}
        self._rows = EventLog(source, **mapping, timezone=events.timezone, name=SPINE)
        self._rows.prepare()
        problems = [problem for problem in self._rows.check().problems if problem.severity == "error"]
        held = select({"customer_id": col("customer_id"), "event_us": col("event_us")}, self._rows.table)
        total = int(self._rows.engine.rows(Step("rows", select({"rows": count()}, self._rows.table)))[0][0])
        different = int(self._rows.engine.rows(Step("different", select({"rows": count()}, held.distinct().subquery("held"))))[0][0])
        if different < total:
            text = "rows are there more than once"
            problems.append(Problem("spine_duplicates", text, count=total - different, remedy="give each row once", source=SPINE))
        lost = self._rows.quarantine()
        if lost.num_rows:
            reasons = ", ".join(sorted(set(lost.column("reason").to_pylist())))
            remedy = "give each row a customer_id and a cutoff that can be read and is not in the future"
            problems.append(Problem("spine_unreadable", f"rows can't be used: {reasons}", count=lost.num_rows, remedy=remedy, source=SPINE))
        if problems:
            raise DataError("the spine can't be used", problems)
        sides = {name: func(name.upper(), col("event_us")) for name in ("min", "max")}
        self.span: Integers = np.array(self._rows.engine.rows(Step("span", select(sides, self._rows.table)))[0], np.int64)

    def rows(self, engine: Engine) -> Numbered:
        """Its rows; `engine` is the log's."""
        given = {"customer_id": col("customer_id"), "cutoff_us": col("event_us")}
        return _numbered(engine, self._rows.engine.arrow(Step(SPINE, select(given, self._rows.table))))

    @property
    def last(self) -> datetime:
        """The last cutoff."""
        return moment(int(self.span.max()))

    def __repr__(self) -> str:
        """From when to when its cutoffs are."""
        first, last = (moment(int(side)) for side in self.span)
        return f"Spine(cutoffs from {first:%Y-%m-%d} to {last:%Y-%m-%d})"


class Members:
    """Some customers at one moment, as a spine: of a large log only their events are looked at. What is known of them is the same."""

    def __init__(self, customers: Sequence[str], at: datetime) -> None:
        self.customers, self.last = tuple(customers), at
        self.span: Integers = np.full(2, microseconds(at), np.int64)

    def rows(self, engine: Engine) -> Numbered:
        """Its rows; `engine` is the log's."""
        cutoffs = pa.array(np.full(len(self.customers), self.span[0]), pa.int64())
        return _numbered(engine, pa.table({"customer_id": pa.array(self.customers, pa.string()), "cutoff_us": cutoffs}))

    def __repr__(self) -> str:
        """How many; who they are is nobody's business."""
        return f"Members({len(self.customers):,} customers at {self.last:%Y-%m-%d})"


def _numbered(engine: Engine, given: pa.Table) -> Numbered:
    """The rows of a table with the customers' numbers, which for a moment is the log's own table `spine`."""
    engine.load(SPINE, given)
    columns: dict[str, exp.Expression] = {
        "customer_id": col("customer_id", SPINE),
        "number": func("COALESCE", cast_to(col(CUSTOMER, CUSTOMERS), "BIGINT"), lit(-1)),
        "cutoff_us": col("cutoff_us", SPINE),
    }
    same = exp.EQ(this=col("customer_id", CUSTOMERS), expression=col("customer_id", SPINE))
    query = select(columns, table(SPINE)).join(table(CUSTOMERS), on=same, join_type="left")
    found = engine.arrow(Step("spine_rows", query.order_by(col("customer_id", SPINE), col("cutoff_us", SPINE))))
    engine.drop(SPINE)
    return found.column(0).combine_chunks(), integers(found.column(1)), integers(found.column(2))
