"""Which of a customer's pairs are published, with all that is published of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import explain
from persopredict.affinity.baselines import own
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.affinity.pairs import OCCASIONS, Codes, Floats32
from persopredict.affinity.reasons import reasons
from persopredict.affinity.states import Reading
from persopredict.affinity.training import Standing
from persopredict.attribute_columns import REASONS
from persopredict.learner import explains
from persopredict.model import Model
from persopredict.targets import Affinity

if TYPE_CHECKING:
    from persopredict.wording import Wording

#: Rows that are explained at a time, at least: of many categories a block of candidates holds few customers, and a model explains many rows
#: far sooner than many times a few.
_TOLD = 65_536


@dataclass(frozen=True, eq=False)
class Scored:
    """The candidates of some customers, and which of them are published.

    `category`, `probability`: of all candidates, shape (pairs,). `kept`: the places of those to publish, ordered by customer and rank,
    shape (rows,); `customer`, `rank`, `new`: theirs; `X`: what the model reads of them, shape (rows, inputs).
    """

    category: Codes
    probability: NDArray[np.float64]
    kept: NDArray[np.int64]
    customer: Codes
    rank: NDArray[np.int32]
    new: NDArray[np.bool_]
    X: Floats32


def scored(standing: Standing, model: Model, target: Affinity, customers: NDArray[Any]) -> Iterator[Scored]:
    """All candidates of some customers (numbers, ascending), a block of customers at a time."""
    for customer, category in standing.blocks(customers):
        X = standing.matrix(customer, category)
        probability = model.calibrator.apply(model.scorer.logits(X))
        new = own(standing.state, customer, category, OCCASIONS) == 0
        kept, rank = _best(customer, probability, new, target)
        yield Scored(category, probability, kept, customer[kept], rank, new[kept], X[kept])


@dataclass(frozen=True, eq=False)
class Published:
    """The pairs that are published, ordered by customer and rank; arrays of shape (rows,).

    `index`: the probability over the category's mean among all that were asked for it. `rank`: among all candidates of the customer.
    `percentile`: among all customers that were asked for the category. `reasons`: a list for each row, empty where the model tells none.
    """

    customer: Codes
    category: Codes
    probability: NDArray[np.float64]
    index: NDArray[np.float64]
    rank: NDArray[np.int32]
    new: NDArray[np.bool_]
    percentile: NDArray[np.int32]
    reasons: pa.ChunkedArray

    @classmethod
    def of(cls, standing: Standing, model: Model, target: Affinity, names: tuple[str, ...], wording: Wording) -> Published:
        """Score all candidates of everybody who is eligible; all probabilities are held, features of some pairs at a time.

        `names`: of the categories.
        """
        parts: list[tuple[Any, ...]] = []
        categories: list[Codes] = []
        everything: list[NDArray[np.float32]] = []
        told: list[pa.Array] = []
        waiting: list[tuple[Floats32, Codes]] = []
        for block in scored(standing, model, target, standing.eligible):
            # A percentile compares what is held for all with what is published: both in single precision.
            held = block.probability.astype(np.float32)
            categories.append(block.category)
            everything.append(held)
            category = block.category[block.kept]
            parts.append((block.customer, category, block.probability[block.kept], held[block.kept], block.rank, block.new))
            waiting.append((block.X, category))
            if sum(len(X) for X, _ in waiting) >= _TOLD:
                told += _reasons(waiting, model, target, names, wording).chunks
                waiting = []
        told += _reasons(waiting, model, target, names, wording).chunks if waiting else []
        kinds = (np.int32, np.int32, np.float64, np.float32, np.int32, np.bool_)
        nothing: tuple[Any, ...] = tuple(np.empty(0, kind) for kind in kinds)
        customer, category, probability, held, rank, new = (np.concatenate(each) for each in zip(nothing, *parts, strict=True))
        asked, all_held = np.concatenate([nothing[1], *categories]), np.concatenate([nothing[3], *everything])
        count = np.bincount(asked, minlength=standing.state.categories)
        total = np.bincount(asked, all_held, minlength=standing.state.categories)
        mean = np.divide(total, count, out=np.ones(len(count)), where=count > 0)
        percentile = _percentiles(asked, all_held, category, held)
        reasons = pa.chunked_array(told, REASONS)
        return cls(customer, category, probability, probability / mean[category], rank, new, percentile, reasons)

    def table(self, reading: Reading, why: pa.StringArray) -> pa.Table:
        """The columns of `attributes.attributes` that an affinity fills, ordered by customer and rank.

        `why`: of each customer why there is no score, null where there is one, or no row to be. Who has a reason has one row.
        """
        everyone = np.concatenate([self.customer, np.flatnonzero(why.is_valid())])
        order = np.argsort(everyone, kind="stable")
        unscored = order >= len(self.customer)
        places, numbers = np.flatnonzero(~unscored), pa.array(everyone[order])

        def column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
            spread = np.zeros(len(order), values.dtype)
            spread[places] = values
            return pa.array(spread, kind, mask=unscored)

        columns = {
            "customer_id": pa.array(reading.customer_id, pa.string()).take(numbers),
            "category": pa.array(reading.categories, pa.string()).take(column(self.category, pa.int32())),
            "probability": column(self.probability, pa.float64()),
            "affinity_index": column(self.index, pa.float64()),
            "rank": column(self.rank, pa.int32()),
            "is_new": column(self.new, pa.bool_()),
            "percentile": column(self.percentile, pa.int32()),
            "reasons": explain.placed(self.reasons, places, len(order)),
            "not_scored_reason": why.take(numbers),
        }
        return pa.table(columns)


def _reasons(
    blocks: list[tuple[Floats32, Codes]], model: Model, target: Affinity, names: tuple[str, ...], wording: Wording
) -> pa.ChunkedArray:
    X, category = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    if not explains(model.scorer):
        return explain.unexplained(len(X))
    about = explain.Pairs(category, names, target.horizon, target.by)
    return reasons(model.scorer.contributions, X, [*PAIR_FEATURES, *model.features], wording, about)


def _best(customer: Codes, probability: Any, new: NDArray[np.bool_], target: Affinity) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The places of the pairs to publish, by customer and rank, and their ranks. Equal probabilities keep the order of categories."""
    order = np.lexsort((np.arange(len(customer)), -probability, customer))
    rank = _counted(customer[order])
    among_new = np.zeros(len(order), np.int64)
    is_new = new[order]
    among_new[is_new] = _counted(customer[order][is_new])
    kept = (rank <= target.top) | (is_new & (among_new <= target.top_new))
    return order[kept], rank[kept].astype(np.int32)


def _counted(groups: Codes) -> NDArray[np.int64]:
    """The place of each row in its group, from 1; groups lie together.

    >>> _counted(np.array([4, 4, 7], np.int32)).tolist()
    [1, 2, 1]
    """
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.empty(0, np.int64)
    return np.asarray(np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)])) + 1)


def _percentiles(asked: Codes, everything: Any, category: Codes, published: Any) -> NDArray[np.int32]:
    """ceil(100 · midrank / n) of published probabilities among all of their category."""
    order = np.lexsort((everything, asked))
    bounds = np.searchsorted(asked[order], np.arange(int(asked.max(initial=-1)) + 2))
    found = np.zeros(len(published), np.int32)
    for number in np.unique(category):
        values = everything[order[bounds[number] : bounds[number + 1]]]
        rows = np.flatnonzero(category == number)
        # Twice a midrank is a whole number: integers round up exactly.
        doubled = np.searchsorted(values, published[rows], "left") + np.searchsorted(values, published[rows], "right") + 1
        found[rows] = -((-100 * doubled) // (2 * len(values)))
    return found
