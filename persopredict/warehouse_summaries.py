"""What the rows of a published run come to, counted in the warehouse: how probabilities lie, and which categories are published.

A report tells of a run with these alone: no customer's row leaves the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlglot import exp

from persopredict.warehouse import Warehouse
from persopredict.warehouse_tables import ATTRIBUTES, column

if TYPE_CHECKING:
    import pandas as pd

#: Classes of probabilities: equally wide on a square-root scale, so that small ones are told apart.
CLASSES = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """How the probabilities of a run lie: the middle of each class that holds any, ascending, and how many it holds. None without a score.

    >>> Spread((0.1, 0.9), (3, 1)).total
    4
    """

    probabilities: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """How many have a probability."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class PublishedCategory:
    """A category in the published rows of an affinity.

    `customers` of whom it is published, `first`: of whom it is the likeliest of all; `new`: of whom it is published and who never took it;
    `expected`: takers among them, the sum of their probabilities.
    """

    category: str
    customers: int
    first: int
    new: int
    expected: float


def spread(warehouse: Warehouse, target: str, as_of: datetime) -> Spread:
    """How the published probabilities of a target lie; of an affinity those of pairs."""
    query = _rows(target, as_of, _place().as_("place"), _count().as_("count")).where(column("probability").is_(exp.null()).not_())
    return _spread(warehouse.sql(query.group_by(exp.Literal.number(1)).order_by(exp.Literal.number(1)).sql("duckdb")))


def spreads_of_categories(warehouse: Warehouse, target: str, as_of: datetime, categories: Sequence[str]) -> dict[str, tuple[Spread, float]]:
    """Of an affinity's run, for each of these categories that is published: how its published probabilities lie, and the mean probability
    of all who were asked for it (nan where no index was published).
    """
    if not categories:
        return {}
    ratio = exp.Div(this=column("probability"), expression=exp.func("NULLIF", column("affinity_index"), exp.Literal.number(0)))
    # Rounding alone makes the averages of a category's rows differ.
    average = exp.Min(this=ratio).as_("average")
    query = _rows(target, as_of, column("category"), _place().as_("place"), _count().as_("count"), average)
    query = query.where(exp.In(this=column("category"), expressions=[exp.Literal.string(name) for name in categories]))
    query = query.where(column("probability").is_(exp.null()).not_()).group_by(exp.Literal.number(1), exp.Literal.number(2))
    found = warehouse.sql(query.order_by(exp.Literal.number(1), exp.Literal.number(2)).sql("duckdb"))
    return {str(name): (_spread(mine), float(mine["average"].min())) for name, mine in found.groupby("category")}


def published_categories(warehouse: Warehouse, target: str, as_of: datetime, most: int) -> tuple[tuple[PublishedCategory, ...], int]:
    """The categories that are published of most customers, at most so many, and how many categories there are in all."""
    known = column("category").is_(exp.null()).not_()
    first = _filtered(_count(), exp.EQ(this=column("rank"), expression=exp.Literal.number(1)))
    columns = {"customers": _count(), "first": first, "new": _filtered(_count(), column("is_new"))}
    measured = [value.as_(name, quoted=True) for name, value in columns.items()]
    expected = exp.Sum(this=column("probability")).as_("expected")
    query = _rows(target, as_of, column("category"), *measured, expected).where(known).group_by(column("category"))
    ordered = query.order_by(column("customers").desc(), column("expected").desc(), column("category").asc())
    found = warehouse.sql(ordered.limit(most).sql("duckdb"))
    count = exp.Count(this=exp.Distinct(expressions=[column("category")])).as_("count")
    total = warehouse.sql(_rows(target, as_of, count).sql("duckdb"))["count"].iloc[0]
    rows = (
        PublishedCategory(str(row["category"]), int(row["customers"]), int(row["first"]), int(row["new"]), float(row["expected"]))
        for row in found.to_dict("records")
    )
    return tuple(rows), int(total)


def _rows(target: str, as_of: datetime, *columns: exp.Expr) -> exp.Select:
    """Columns of the rows of one run; its name and time are literals, which sqlglot quotes."""
    moment: Any = exp.cast(exp.Literal.string(as_of.isoformat()), "TIMESTAMPTZ")
    mine = exp.EQ(this=column("target"), expression=exp.Literal.string(target)), exp.EQ(this=column("as_of"), expression=moment)
    return exp.select(*columns).from_(ATTRIBUTES).where(*mine)


def _place() -> exp.Expr:
    """The number of a probability's class."""
    root = exp.Mul(this=exp.func("SQRT", column("probability")), expression=exp.Literal.number(CLASSES))
    return exp.func("LEAST", exp.cast(exp.func("FLOOR", root), "BIGINT"), exp.Literal.number(CLASSES - 1))


def _spread(found: pd.DataFrame) -> Spread:
    """Classes and how many each holds."""
    middles = ((found["place"].to_numpy(np.float64) + 0.5) / CLASSES) ** 2
    return Spread(tuple(middles.tolist()), tuple(int(count) for count in found["count"]))


def _count() -> exp.Expr:
    return exp.Count(this=exp.Star())


def _filtered(value: exp.Expr, condition: exp.Expr) -> exp.Expr:
    return exp.Filter(this=value, expression=exp.Where(this=condition))
