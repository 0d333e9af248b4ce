"""LightGBM's trees as arrays, read from their text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
#: The inner nodes above a node, from the root, each with whether the path goes left there.
Path = tuple[tuple[int, bool], ...]

#: What a node takes for a missing value: nothing (nan is 0), 0 and nan, nan.
NO_VALUE, ZERO, NAN = 0, 1, 2
#: Up to this, a float of single precision, LightGBM takes a value for 0.
ALMOST_ZERO = float(np.float32(1e-35))
_CATEGORICAL, _MISSING_LEFT, _MISSING = 1, 2, 2


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One tree. Inner nodes have numbers from 0, which is the root; as a child, the leaf of number n is ~n.

    `feature`, `threshold`: a value of the feature up to the threshold goes left, a larger one right. `missing`: what is a missing value
    (`NO_VALUE`, `ZERO`, `NAN`), and `missing_left` where it goes. `left`, `right`: the children; all of shape (inner nodes,).
    `share`: of the node's training rows that went left, and right, shape (inner nodes, 2). `value`: of leaves, shape (leaves,).
    """

    feature: Integers
    threshold: Floats
    missing: Integers
    missing_left: NDArray[np.bool_]
    left: Integers
    right: Integers
    share: Floats
    value: Floats

    @property
    def nodes(self) -> int:
        """How many inner nodes there are; one less than leaves."""
        return len(self.feature)


def read(text: str) -> tuple[Tree, ...] | None:
    """The trees of a LightGBM model, in order; None if they are more than numbers compared with thresholds and values added up.

    That is: categories, leaves that are linear models, averages of trees (random forests), several outputs, or no counts of training rows.
    """
    head, *parts = text.split("\nTree=")
    settings = _settings(head)
    if settings.get("num_tree_per_iteration") != "1" or "average_output" in head.splitlines():
        return None
    found = [_tree(_settings(part.partition("\n\n")[0])) for part in parts]
    return None if any(tree is None for tree in found) else tuple(tree for tree in found if tree is not None)


def linear(text: str) -> bool:
    """Whether leaves of a LightGBM model are linear models."""
    return "\nis_linear=1\n" in text


def scale(text: str) -> float:
    """What a model's raw scores are times to be log-odds: those of a random forest are sums where its probability comes of the mean, and
    LightGBM's own `sigmoid` stretches them.
    """
    head, *parts = text.split("\nTree=")
    lines = head.splitlines()
    settings = next((line.split() for line in lines if line.startswith("objective=")), [])
    stretched = [float(setting.partition(":")[2]) for setting in settings if setting.startswith("sigmoid:")]
    return (stretched[0] if stretched else 1.0) / (len(parts) if "average_output" in lines and parts else 1)


def _settings(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, sign, value in pairs if sign}


def _tree(settings: dict[str, str]) -> Tree | None:
    def numbers(name: str, kind: type) -> NDArray[Any]:
        return np.array(settings.get(name, "").split(), dtype=kind)

    value = numbers("leaf_value", float)
    if settings.get("is_linear", "0") != "0" or settings.get("num_cat", "0") != "0":
        return None
    if len(value) == 1:
        nothing = np.empty(0, np.int64)
        return Tree(nothing, np.empty(0), nothing, np.empty(0, bool), nothing, nothing, np.empty((0, 2)), value)
    decision, left, right = (numbers(name, int) for name in ("decision_type", "left_child", "right_child"))
    inner, leaves = numbers("internal_count", float), numbers("leaf_count", float)
    if (decision & _CATEGORICAL).any() or len(inner) != len(left) or len(leaves) != len(value) or min(inner.min(), leaves.min()) <= 0:
        return None
    rows = np.append(inner, leaves[::-1])
    share = np.stack([rows[left], rows[right]], axis=1) / inner[:, None]
    kinds = (decision >> _MISSING) & 3
    return Tree(
        numbers("split_feature", int), numbers("threshold", float), kinds, (decision & _MISSING_LEFT) > 0, left, right, share, value
    )


def walk(tree: Tree) -> Iterator[tuple[int, Path]]:
    """Every node of a tree that has any (leaves as ~number) with its path; parents come before children.

    >>> stump = Tree(*(np.array([value]) for value in (0, 0.5, 2, True, ~0, ~1)), np.array([[0.5, 0.5]]), np.array([1.0, 2.0]))
    >>> list(walk(stump))
    [(0, ()), (-1, ((0, True),)), (-2, ((0, False),))]
    """
    waiting: list[tuple[int, Path]] = [(0, ())] if tree.nodes else []
    left, right = tree.left.tolist(), tree.right.tolist()
    while waiting:
        node, path = waiting.pop()
        yield node, path
        if node >= 0:
            waiting += [(right[node], (*path, (node, False))), (left[node], (*path, (node, True)))]


class Step(NamedTuple):
    """A path at one inner node: `turned` if a row goes this way where the node's answer is 0; `share` of the training rows that did."""

    node: int
    feature: int
    turned: bool
    share: float


Steps = dict[int, tuple[Step, ...]]


def steps_of(tree: Tree) -> Steps:
    """The steps from the root to every node."""

    def step(node: int, goes_left: bool) -> Step:
        # A node's answer is 1 where a value that is not missing goes the way that missing ones don't: see `contributions`.
        turned = bool(tree.missing_left[node]) == goes_left
        return Step(node, int(tree.feature[node]), turned, float(tree.share[node, 0 if goes_left else 1]))

    def steps(path: Path) -> tuple[Step, ...]:
        return tuple(known[place] for place in path)

    known = {(node, goes_left): step(node, goes_left) for node in range(tree.nodes) for goes_left in (True, False)}
    return {node: steps(path) for node, path in walk(tree)}


def by_feature(steps: Iterable[Step]) -> dict[int, tuple[Step, ...]]:
    """The steps of each feature, in the order in which a path comes to features."""
    found: dict[int, tuple[Step, ...]] = {}
    for step in steps:
        found[step.feature] = (*found.get(step.feature, ()), step)
    return found
