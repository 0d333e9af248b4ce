"""What each feature adds to the scores of many rows at once: path-dependent SHAP values of trees (Lundberg et al. 2020), exact.

What a leaf adds for a row depends on bits alone: for each feature on the leaf's path, whether the row goes the leaf's way at all nodes that
ask for it. So says WOODELF (Nadel and Wettenstein 2026, doi:10.1609/aaai.v40i29.39630), and woodelf-explainer computes what a leaf adds to
each of its features for every pattern of bits. This module takes those patterns from the library and looks them up itself:

- The library walks all leaves of all trees for every batch, makes the patterns' values anew each time, and adds them up in single
  precision. Here they are made once for a model, in double precision, so that contributions and base value are the raw score to the last
  digits, whatever the number of rows.
- Leaves below one node share the bits above it. They get one table, of the sums of what they add: its index is made of those bits and of
  the answers of the nodes in between. Of a tree with 31 leaves that leaves some 60 numbers to look up for a row, instead of 200.
- A node is asked as LightGBM asks it: where nan is missing, where 0 is, where nothing is.

All is done in arrays of rows, in the order of trees: neither the number of rows, nor the parts in which they are worked on, nor threads
change a single bit. `benchmarks/reasons.md` has the times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.trees import ALMOST_ZERO, NO_VALUE, ZERO, Floats, Step, Steps, Tree, by_feature, steps_of

Places = NDArray[np.intp]
Bytes = NDArray[np.uint8]
#: A bit of an index: what is asked, as nodes and whether their answers are turned round; all must hold.
Bit = tuple[tuple[int, bool], ...]

#: Bits of a table: 12 make 4096 numbers for each feature, which stay in the processor's first cache. Fewer where tables would take more
#: than so many bytes.
BITS, MOST_BYTES = (12, 11, 10, 9, 8), 400_000_000
#: Features on one path; patterns of more are not worked out.
DEEPEST = 24
#: Rows worked on at a time: few enough to stay near the processor, enough for NumPy to work rather than to be called.
_ROWS, _LEAST_ROWS = 32_768, 2048
#: What a table costs a row, in numbers looked up, besides those for its features: itself, and each bit; and a leaf without a table.
_COST, _COST_OF_BIT, _COST_OF_LEAF = 3.0, 0.3, 150.0
#: Patterns that are worked out at a time.
_PATTERNS = 512


# Which leaves share a table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    """All below a node `top`: the inner nodes `asked` there, itself among them, and the leaves. `bits`: of an index that tells rows apart;
    `features`: how many get contributions.
    """

    top: int
    asked: tuple[int, ...]
    leaves: tuple[int, ...]
    bits: int
    features: int

    @property
    def cost(self) -> float:
        """Of looking it up."""
        return _COST + self.features + _COST_OF_BIT * self.bits


def _branches(tree: Tree, steps: Steps, bits: int) -> list[_Branch]:
    """The cheapest division of a tree into branches that have at most so many bits, or are one leaf."""
    whole: dict[int, _Branch] = {}
    divided: dict[int, list[_Branch]] = {}
    cost: dict[int, float] = {}
    for node in reversed(steps):
        above = {step.feature for step in steps[node]}
        if node < 0:
            branch = _Branch(node, (), (node,), len(above), len(above))
            cost[node], divided[node] = branch.cost if branch.bits <= bits else _COST_OF_LEAF, [branch]
        else:
            children = [int(tree.left[node]), int(tree.right[node])]
            left, right = (whole[child] for child in children)
            asked = (node, *left.asked, *right.asked)
            features = above.union(tree.feature[list(asked)].tolist())
            branch = _Branch(node, asked, (*left.leaves, *right.leaves), len(above) + len(asked), len(features))
            apart = sum(cost[child] for child in children)
            together = branch.bits <= bits and branch.cost <= apart
            cost[node] = branch.cost if together else apart
            divided[node] = [branch] if together else [part for child in children for part in divided[child]]
        whole[node] = branch
    return divided.get(0, [])


def _size(branches: Iterable[_Branch], bits: int) -> int:
    """Of the tables, in bytes."""
    return sum(8 * branch.features * 2**branch.bits for branch in branches if branch.bits <= bits)


# What is looked up -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """What the leaves of a branch add. `bits`: of the index, that which counts 1 first. `features`: their columns, and `values`: what they
    get for each index, shape (features, 2 ** bits).
    """

    bits: tuple[Bit, ...]
    features: tuple[int, ...]
    values: Floats

    @classmethod
    def of(cls, tree: Tree, steps: Steps, branch: _Branch) -> _Table:
        """Leaf by leaf."""
        above = by_feature(steps[branch.top])
        bits = (*_bits(above), *(((node, False),) for node in branch.asked))
        every = np.arange(2 ** len(bits))
        answers = [(every >> place & 1).astype(bool) for place in range(len(bits))]
        # Of one node the answer itself is the bit, turned or not; of several it is whether all of them agree with the path.
        held = {name: answers[place] ^ (found[0].turned and len(found) == 1) for place, (name, found) in enumerate(above.items())}
        below = dict(zip(branch.asked, answers[len(above) :], strict=True))
        features = tuple(dict.fromkeys([*above, *(int(tree.feature[node]) for node in branch.asked)]))
        values = np.zeros((len(features), len(every)))
        for leaf in branch.leaves:
            goes = dict(held)
            for step in steps[leaf][len(steps[branch.top]) :]:
                answer = below[step.node] ^ step.turned
                goes[step.feature] = goes[step.feature] & answer if step.feature in goes else answer
            found = by_feature(steps[leaf])
            pattern = np.zeros(len(every), np.intp)
            for feature in found:
                pattern = 2 * pattern + goes[feature]
            added = shapley(_shares(found), np.arange(2 ** len(found)), float(tree.value[~leaf]))
            for feature, row in zip(found, added, strict=True):
                values[features.index(feature)] += row[pattern]
        return cls(bits, features, values)

    def at(self, index: Places) -> tuple[Places, Floats]:
        """Where in which values rows with these indexes look, shape (rows,)."""
        return index, self.values


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    """A leaf with too many bits for a table: what it adds is worked out for those patterns that occur.

    `bits`, `features`: as in `_Table`. `turned`: the bits of an index that are 1 where the row does not go the leaf's way. `shares`: of the
    training rows that went its way at the nodes of each feature, shape (features,).
    """

    bits: tuple[Bit, ...]
    features: tuple[int, ...]
    turned: int
    shares: Floats
    value: float

    @classmethod
    def of(cls, tree: Tree, steps: Steps, leaf: int) -> _Leaf:
        # Of a pattern the last feature is the bit that counts 1.
        found = dict(reversed(by_feature(steps[leaf]).items()))
        turned = sum(2**place for place, steps in enumerate(found.values()) if len(steps) == 1 and steps[0].turned)
        return cls(_bits(found), tuple(found), turned, _shares(found)[::-1], float(tree.value[~leaf]))

    def at(self, index: Places) -> tuple[Places, Floats]:
        """As `_Table.at`."""
        import pandas as pd

        places, patterns = pd.factorize(index ^ self.turned)
        return places, np.ascontiguousarray(shapley(self.shares, patterns, self.value)[::-1])


def _bits(found: Mapping[int, tuple[Step, ...]]) -> tuple[Bit, ...]:
    return tuple(tuple((step.node, step.turned) for step in steps) for steps in found.values())


def _shares(found: Mapping[int, tuple[Step, ...]]) -> Floats:
    return np.array([prod(step.share for step in steps) for steps in found.values()])


def shapley(shares: Floats, patterns: NDArray[np.integer], value: float) -> Floats:
    """What a leaf adds to each feature on its path.

    Parameters
    ----------
    shares : of the training rows that go the leaf's way at the nodes of each feature, shape (features,).
    patterns : which features send a row the leaf's way, as bits, the last feature counting 1; shape (patterns,).
    value : of the leaf.

    Returns
    -------
    shape (features, patterns). With `value` times the product of shares they add up to `value` where all bits are 1, and to 0 elsewhere.

    >>> shapley(np.array([0.5, 0.25]), np.array([0b11, 0b01]), 8.0).tolist()
    [[2.5, -2.5], [4.5, 1.5]]
    """
    from woodelf.core.path_to_s_vectors.lts_recursive_p2s import improved_linear_tree_shap_magic

    # For one pattern alone NumPy adds in another order, and the last digit differs.
    parts = np.array_split(patterns, -(-len(patterns) // _PATTERNS)) if len(patterns) > 1 else [np.repeat(patterns, 2)]
    found = np.concatenate([improved_linear_tree_shap_magic(shares, part, _weights(len(shares)), value) for part in parts])
    return np.asarray(found[: len(patterns)].T)


@cache
def _weights(features: int) -> Floats:
    from woodelf.core.path_to_s_vectors.lts_recursive_p2s import shapley_values_f_w

    return np.asarray(shapley_values_f_w(features))


# Rows ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TreeContributions:
    """Contributions of a model's trees.

    `columns`: how many rows have. `seen`: columns that trees ask for, each with what it takes for a missing value. `trees`: those that ask,
    each with the places in `seen` of what its nodes ask for, and with what is looked up. `base`: the base value.
    """

    columns: int
    seen: tuple[tuple[int, int], ...]
    trees: tuple[tuple[Tree, tuple[int, ...], tuple[_Table | _Leaf, ...]], ...]
    base: float

    @classmethod
    def of(cls, trees: Sequence[Tree], columns: int) -> TreeContributions | None:
        """Work out all tables, which takes as long as LightGBM takes for a thousand rows; None if the trees are too many or too deep."""
        steps = [steps_of(tree) for tree in trees]
        for bits in BITS:
            plan = [_branches(tree, found, bits) for tree, found in zip(trees, steps, strict=True)]
            if sum(_size(branches, bits) for branches in plan) <= MOST_BYTES:
                break
        else:
            return None
        if any(branch.bits > DEEPEST for branches in plan for branch in branches):
            return None
        asked = [tuple(zip(tree.feature.tolist(), tree.missing.tolist(), strict=True)) for tree in trees]
        seen = {pair: place for place, pair in enumerate(sorted({pair for pairs in asked for pair in pairs}))}
        made = []
        for tree, found, branches, pairs in zip(trees, steps, plan, asked, strict=True):
            parts = (_Table.of(tree, found, branch) if branch.bits <= bits else _Leaf.of(tree, found, branch.top) for branch in branches)
            made.append((tree, tuple(seen[pair] for pair in pairs), tuple(parts)))
        base = sum(_mean(tree, found) for tree, found in zip(trees, steps, strict=True))
        return cls(columns, tuple(seen), tuple(each for each in made if each[0].nodes), base)

    def __call__(self, X: NDArray[Any]) -> Floats:
        """Contributions of rows, and the base value last, shape (rows, columns + 1); `X`: shape (rows, columns), nan where null."""
        found = np.empty((len(X), self.columns + 1))
        found[:, -1] = self.base
        threads = max(1, min(_threads(), len(X) // _LEAST_ROWS))
        parts = -(-len(X) // (_ROWS * threads)) * threads
        bounds = [len(X) * part // max(parts, 1) for part in range(parts + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda ends: self._write(X[slice(*ends)], found[slice(*ends), :-1]), pairwise(bounds)))
        return found

    def _write(self, X: NDArray[Any], into: Floats) -> None:
        room = _Room(len(X), max((tree.nodes for tree, _, _ in self.trees), default=0))
        seen, total = self._see(X), np.zeros((self.columns, len(X)))
        for tree, asked, parts in self.trees:
            room.ask(tree, [seen[place] for place in asked])
            for part in parts:
                index, values = part.at(room.index(part.bits))
                for feature, row in zip(part.features, values, strict=True):
                    row.take(index, out=room.found, mode="clip")
                    np.add(total[feature], room.found, out=total[feature])
        for rows in _tiles(len(X)):
            into[rows] = total[:, rows].T

    def _see(self, X: NDArray[Any]) -> Floats:
        """What nodes compare, shape (seen, rows): nan where a value is missing."""
        found = np.empty((len(self.seen), len(X)))
        features = [feature for feature, _ in self.seen]
        for rows in _tiles(len(X)):
            found[:, rows] = X[rows, features].T
        for values, (_, missing) in zip(found, self.seen, strict=True):
            # Whatever is nearly 0 LightGBM takes for 0 before it asks anything.
            values[np.abs(values) <= ALMOST_ZERO] = np.nan if missing == ZERO else 0.0
            if missing == NO_VALUE:
                values[np.isnan(values)] = 0.0
        return found


def _mean(tree: Tree, steps: Steps) -> float:
    """What a tree says of a training row in the mean."""
    if not tree.nodes:
        return float(tree.value[0])
    return sum(float(tree.value[~leaf]) * prod(step.share for step in path) for leaf, path in steps.items() if leaf < 0)


class _Room:
    """Arrays that are written again and again, of so many rows."""

    def __init__(self, rows: int, nodes: int) -> None:
        self.answers: Bytes = np.empty((nodes, rows), np.uint8)
        self.found: Floats = np.empty(rows)
        self._index, self._shifted = np.empty(rows, np.intp), np.empty(rows, np.intp)
        self._eight, self._bit, self._other = (np.empty(rows, np.uint8) for _ in range(3))

    def ask(self, tree: Tree, values: Sequence[Floats]) -> None:
        """The answers of a tree's nodes. Comparisons with nan are false: the answer is 0 where a value is missing."""
        for answers, column, limit, left in zip(
            self.answers.view(bool), values, tree.threshold.tolist(), tree.missing_left.tolist(), strict=False
        ):
            (np.greater if left else np.less_equal)(column, limit, out=answers)

    def index(self, bits: Sequence[Bit]) -> Places:
        """The indexes of rows: their bits, the first of which counts 1."""
        for place in range(0, len(bits), 8):
            self._pack(bits[place : place + 8])
            if not place:
                np.copyto(self._index, self._eight)
            else:
                np.copyto(self._shifted, self._eight)
                np.left_shift(self._shifted, place, out=self._shifted)
                np.bitwise_or(self._index, self._shifted, out=self._index)
        return self._index

    def _pack(self, bits: Sequence[Bit]) -> None:
        """At most eight bits: of bytes, NumPy works on many at a time."""
        np.copyto(self._eight, self._of(bits[-1]))
        for bit in bits[-2::-1]:
            np.add(self._eight, self._eight, out=self._eight)
            np.bitwise_or(self._eight, self._of(bit), out=self._eight)

    def _of(self, bit: Bit) -> Bytes:
        (node, turned), *others = bit
        if not others:
            return np.asarray(self.answers[node])
        np.bitwise_xor(self.answers[node], np.uint8(turned), out=self._bit)
        for node, turned in others:
            np.bitwise_xor(self.answers[node], np.uint8(turned), out=self._other)
            np.bitwise_and(self._bit, self._other, out=self._bit)
        return self._bit


def _tiles(rows: int) -> Iterable[slice]:
    """Rows that are turned into columns at a time: these few lie side by side in the processor's cache."""
    return (slice(start, start + 512) for start in range(0, rows, 512))


def _threads() -> int:
    """As many as LightGBM takes."""
    from threadpoolctl import threadpool_info

    return max((found["num_threads"] for found in threadpool_info() if found["user_api"] == "openmp"), default=1)
