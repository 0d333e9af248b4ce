"""Which categories a customer is asked about: all that were seen, or where these are many, those with a chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.affinity.pairs import SLOW, Codes, State
from persopredict.affinity.population import FOLLOWS, GOES_TOGETHER, Block, Floats, Numbers, Population, chunks, held

#: How many of `most` each rule may name: a customer's own, popular, rising, going together with their own, following from these.
OWN, POPULAR, RISING = 0.6, 0.2, 0.04
UNTRIED = {GOES_TOGETHER: 0.1, FOLLOWS: 0.1}
#: A trend of fewer takers is none.
FEWEST_TAKERS = 10
#: Cells (customers × categories) marked at a time.
CELLS = 16_000_000


def candidates(state: State, population: Population, customers: NDArray[Any], *, most: int = 500) -> tuple[Codes, Codes]:
    """The pairs that customers are asked about: numbers of customer and category, shape (pairs,) each, in order of customer, then category.

    `population`: at the state's moment. `customers`: their numbers. Every category that anyone has taken so far, if these are at most
    `most`.

    Else at most `most` per customer, for `most` = 500 in this order: the 300 of their own with the most decayed occasions, the 100 most
    popular, the 20 with the strongest trend and at least ten takers, and of those not taken yet the 50 that go together best with what was
    taken and the 50 that follow best from it. Of equals those with the lower number.
    """
    numbers = np.unique(np.asarray(customers))
    seen = population.seen
    if len(seen) <= most:
        return np.repeat(numbers, len(seen)).astype(np.int32), np.tile(seen, len(numbers)).astype(np.int32)
    found = [_marked(state, population, chunk, most) for chunk in chunks(numbers, max(1, min(CELLS // state.categories, 8192)))]
    if not found:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    return np.concatenate([customer for customer, _ in found]), np.concatenate([category for _, category in found])


def _marked(state: State, population: Population, customers: NDArray[Any], most: int) -> tuple[Codes, Codes]:
    """The candidates of a chunk of customers, found by marking rule after rule, each as far as there is room."""
    seen = population.seen
    marks = np.zeros((len(customers), state.categories), bool)
    row, category = _own(state, customers, round(OWN * most))
    marks[row, category] = True
    popular = _top(population.popularity, seen, round(POPULAR * most))
    _mark(marks, np.broadcast_to(popular, (len(customers), len(popular))), most)
    rising = _top(population.trend, seen[population.takers[seen] >= FEWEST_TAKERS], round(RISING * most))
    _mark(marks, np.broadcast_to(rising, (len(customers), len(rising))), most)
    block = Block.of(state, customers, population.columns)
    for name, scores in population.scores(block, tuple(UNTRIED)).items():
        _mark(marks, _best(scores, block, round(UNTRIED[name] * most)), most)
    rows, columns = np.nonzero(marks)
    return customers[rows].astype(np.int32), columns.astype(np.int32)


def _own(state: State, customers: NDArray[Any], quota: int) -> tuple[Numbers, Codes]:
    """Of every customer's own pairs those with the most decayed occasions: places of the customers, and categories."""
    row, pair = held(state, customers)
    category = state.pairs.category[pair]
    order = np.lexsort((category, -state.pairs[SLOW][pair], row))
    starts = np.searchsorted(row, np.arange(len(customers)))
    rank = np.arange(len(row)) - starts[row]
    kept = order[rank < quota]
    return row[kept], category[kept]


def _top(value: Floats, among: NDArray[Any], quota: int) -> NDArray[Any]:
    """The categories with the highest value, the highest first."""
    return among[np.argsort(-value[among], kind="stable")[:quota]]


def _best(scores: Floats, block: Block, quota: int) -> NDArray[Any]:
    """Of each customer of a block the categories not taken yet with the highest scores, shape (customers, quota); -1: no more."""
    open_ = scores.astype(np.float32)
    open_[block.row, block.column] = -np.inf
    order = np.argsort(-open_, axis=1, kind="stable")[:, :quota]
    return np.where(np.isneginf(np.take_along_axis(open_, order, axis=1)), -1, block.columns[order])


def _mark(marks: NDArray[np.bool_], named: NDArray[Any], most: int) -> None:
    """Marks the categories named (customers, names), -1 for none, the first ones first, as long as a customer has fewer than `most`."""
    rows = np.arange(len(marks))[:, None]
    fresh = (named >= 0) & ~marks[rows, named]
    fresh &= np.cumsum(fresh, axis=1) <= (most - marks.sum(axis=1))[:, None]
    row, place = np.nonzero(fresh)
    marks[row, named[row, place]] = True
