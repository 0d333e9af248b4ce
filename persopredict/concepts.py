"""Concepts: features that say the same to a person, whatever the window, are one thing, which counts as the sum of them.

A dozen features may say that a customer comes often. Three reasons of which each says so are one reason; and of a dozen small
contributions none would be named, while together they outweigh the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict import conditions
from persopredict.affinity.features import PairFeature
from persopredict.features.spec import Feature

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
AnyFeature = Feature | PairFeature

#: Rows that are worked on at a time: few enough to stay near the processor.
BLOCK = 4096
#: The share of rows in which two features have to be equal to say the same.
ALIKE = 0.8
#: Columns whose distinct values count how often a customer came.
_OCCASIONS = ("day", "order_id")
_OFTEN = ("count", "decayed_sum", "gap_mean", "gap_std")
_LEVEL = ("mean", "min", "max", "std", "first", "last")


def measure_of(feature: Feature) -> tuple[object, ...]:
    """What neighbouring windows of one aggregate have in common; finer than `concept`.

    >>> len({measure_of(Feature("count", window=window, fallback=0)) for window in ("7d", "28d", None)})
    1
    """
    return (feature.aggregate, feature.column, feature.where)


def concept(feature: AnyFeature) -> tuple[object, ...]:
    """What a feature is about: features of one concept are one reason, over whatever window and however measured.

    Of a `PairFeature` the concept that it names. Of a `Feature` it follows from the spec, by this closed list; features of different
    `where` (other events, another channel) are not of one concept, shares apart, unless they say the same in a log (`alike`):

    ==========  ==========================================================================================================================
    recency     ``recency``, ``overdue``: how long ago the last of these events was; the second is the first in units of the usual gap
    tenure      ``tenure``: how long ago the first was
    often       ``count``, ``decayed_sum`` of events, ``distinct`` days or orders, ``gap_mean``, ``gap_std``: how often the customer comes.
                The mean gap is the window over the count, and gaps spread as far as they are long
    amount      ``sum``, ``decayed_sum`` of a column: how much in all
    level       ``mean, min, max, std, first, last`` of a column, and its ``ratio`` to orders or days: how much at a time
    trend       ``trend`` of events, or of a column
    variety     ``distinct`` values of any other column
    share       ``share`` by conditions on the same columns: parts of one whole, of which one can't grow without another's shrinking (of two
                channels each tells the other)
    ratio       ``ratio`` of two columns otherwise
    ==========  ==========================================================================================================================

    >>> bought = "event = 'purchase'"
    >>> concept(Feature("recency", where=bought, fallback=None)) == concept(Feature("overdue", where=bought, window="91d", fallback=None))
    True
    >>> concept(Feature("count", window="7d", fallback=0)) == concept(Feature("distinct", "day", fallback=0))
    True
    >>> concept(Feature("sum", "value", fallback=0)) == concept(Feature("mean", "value", fallback=None))
    False
    """
    if isinstance(feature, PairFeature):
        return ("pair", feature.concept)
    aggregate, columns = feature.aggregate, feature.columns
    if aggregate == "share":
        return ("share", columns, tuple(sorted(conditions.columns(feature.where))))
    return (*_about(aggregate, columns), feature.where)


def _about(aggregate: str, columns: tuple[str, ...]) -> tuple[object, ...]:
    if aggregate in ("recency", "overdue"):
        return ("recency",)
    if (aggregate in _OFTEN and not columns) or (aggregate == "distinct" and columns[0] in _OCCASIONS):
        return ("often",)
    if aggregate in ("sum", "decayed_sum"):
        return ("amount", *columns)
    if aggregate in _LEVEL or (aggregate == "ratio" and columns[1] in _OCCASIONS):
        return ("level", columns[0])
    return ("variety" if aggregate == "distinct" else aggregate, *columns)


def alike(X: NDArray[Any], features: Sequence[AnyFeature]) -> list[list[int]]:
    """The places of the features of each concept, in the order in which `features` names them first, as a log has them.

    In a log of logins and little else "no activity" and "no logins" are one thing, and so are orders and their first events. Concepts that
    differ by their `where` alone are one where two of their features, over the same window, are equal in at least `ALIKE` of the rows in
    which either of them has something.

    `X`: rows that a model learnt from, shape (rows, features), nan where null.

    >>> bought = "event = 'purchase'"
    >>> f = [Feature("count", fallback=0), Feature("count", where=bought, fallback=0), Feature("recency", fallback=None)]
    >>> alike(np.array([[3.0, 3.0, 9.0], [2.0, 2.0, 1.0]]), f), alike(np.array([[3.0, 1.0, 9.0], [2.0, 0.0, 1.0]]), f)
    ([[0, 1], [2]], [[0], [1], [2]])
    """
    found = _members(features)
    joined: list[list[int]] = []
    for places in found:
        same = next((other for other in joined if _say_the_same(X, features, other, places)), None)
        if same is None:
            joined.append(places)
        else:
            same += places
    return joined


def _say_the_same(X: NDArray[Any], features: Sequence[AnyFeature], some: Sequence[int], others: Sequence[int]) -> bool:
    first, second = features[some[0]], features[others[0]]
    if isinstance(first, PairFeature) or isinstance(second, PairFeature) or "share" in (first.aggregate, second.aggregate):
        return False
    if _about(first.aggregate, first.columns) != _about(second.aggregate, second.columns):
        return False
    pairs = ((one, other) for one in some for other in others)
    return any(_equal(X[:, one], X[:, other]) for one, other in pairs if _window(features[one]) == _window(features[other]))


def _window(feature: AnyFeature) -> object:
    return None if isinstance(feature, PairFeature) else feature.window


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    held = (np.nan_to_num(one) != 0) | (np.nan_to_num(other) != 0)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return bool(held.any() and same[held].mean() >= ALIKE)


def grouped(values: NDArray[Any], features: Sequence[AnyFeature], groups: Mapping[str, int] | None = None) -> tuple[Floats, Places]:
    """Contributions of concepts, and their faces.

    Parameters
    ----------
    values : contributions of features, shape (rows, features), in log-odds; columns beyond them (a base value) are not looked at.
    features : in the columns' order.
    groups : by name, a number that features of one concept share, as a log has them (`alike`); features without one go by their spec.

    Returns
    -------
    Two arrays of shape (rows, concepts), concepts in the order in which `features` names them first: the sum of the members'
    contributions, and the place of the member that stands for the concept: of those that point the way the sum points, the one of largest
    contribution, of equals the first.

    >>> f = [Feature("count", window=w, fallback=0) for w in ("7d", "28d")] + [Feature("recency", fallback=None)]
    >>> total, face = grouped(np.array([[0.5, -0.2, -0.1], [0.1, -0.4, 0.0]]), f)
    >>> total.round(3).tolist(), face.tolist()
    ([[0.3, -0.1], [-0.3, 0.0]], [[0, 2], [1, 2]])
    """
    members = _members(features, groups)
    total, face = np.empty((len(values), len(members))), np.empty((len(values), len(members)), np.int64)
    for rows in slices(len(values), BLOCK):
        # By columns: sums then run in the order of features, so that a row's don't depend on how many others there are.
        columns = np.ascontiguousarray(values[rows, : len(features)].T, dtype=np.float64)
        for group, places in enumerate(members):
            total[rows, group], face[rows, group] = _summed(columns, places)
    return total, face


def _summed(columns: Floats, places: Sequence[int]) -> tuple[Floats, Places | int]:
    total = columns[places[0]]
    if len(places) == 1:
        return total, places[0]
    for place in places[1:]:
        total = total + columns[place]
    way = np.sign(total)
    face = np.full(len(total), places[0])
    strongest = columns[places[0]] * way
    for place in places[1:]:
        strength = columns[place] * way
        stronger = strength > strongest
        face[stronger] = place
        np.maximum(strongest, strength, out=strongest)
    return total, face


def _members(features: Sequence[AnyFeature], groups: Mapping[str, int] | None = None) -> list[list[int]]:
    found: dict[object, list[int]] = {}
    for place, feature in enumerate(features):
        number = (groups or {}).get(feature.name)
        found.setdefault(concept(feature) if number is None else number, []).append(place)
    return list(found.values())


def slices(rows: int, most: int) -> Iterator[slice]:
    """Rows in parts of nearly one size, of at most `most`: no small part is left for the end."""
    parts = -(-rows // most)
    for part in range(parts):
        yield slice(rows * part // parts, rows * (part + 1) // parts)
