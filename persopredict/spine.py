"""A spine of one's own: which customer is asked at which cutoff, read from a frame, a file or a query like a log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import cast_to, col, count, func, lit, moment, select, table
from persopredict.errors import DataError, Problem
from persopredict.events import EventLog
from persopredict.features.measured import integers
from persopredict.features.measures import Integers
from persopredict.intake import CUSTOMERS
from persopredict.sources import CUSTOMER, constant

SPINE = "spine"


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

    def rows(self, engine: Engine) -> tuple[pa.Array, Integers, Integers]:
        """Ids, customer numbers (-1 for customers that the log does not know) and cutoffs, in order of ids and cutoffs.

        `engine` is the log's: the rows are its table `spine` for as long as they are being numbered.
        """
        given = {"customer_id": col("customer_id"), "cutoff_us": col("event_us")}
        engine.load(SPINE, self._rows.engine.arrow(Step(SPINE, select(given, self._rows.table))))
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

    @property
    def last(self) -> datetime:
        """The last cutoff."""
        return moment(int(self.span.max()))
