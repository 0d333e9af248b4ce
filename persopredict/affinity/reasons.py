"""Reasons of pairs: what speaks for a category and what against it, so that three reasons are three reasons.

Which features of a pair say the same depends on whether it was ever taken. Of a pair that was, the scores that follow from what the
customer took lately tell its own habit above all: they read it (Spearman's correlation with the habit's probability is 0.9 and more). Of a
pair that was not, they tell what the customer's other categories say; and its own past says one thing, however many features say it: never
taken. So some features stand twice among those that are told: as they are told of pairs that were taken, and of new ones. Decayed occasions
can't be pictured, and are told as the plain ones that come closest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from persopredict import explain
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.affinity.pairs import FAR, FAST, OCCASIONS, SLOW, within
from persopredict.affinity.population import GOES_TOGETHER
from persopredict.concepts import AnyFeature

if TYPE_CHECKING:
    import pyarrow as pa

    from persopredict.wording import Wording

Floats = NDArray[np.float64]

#: What tells a habit even where nothing was taken yet: by what is usual.
_USUAL = ("habit", "habit_probability", "recent_habit_probability")
#: A pair's own past, and the scores that read it: the places of these features.
_PAST = [place for place, feature in enumerate(PAIR_FEATURES) if feature.about == "pair" and feature.name not in _USUAL]
_READERS = [place for place, feature in enumerate(PAIR_FEATURES) if feature.about == "together" and feature.name != GOES_TOGETHER]
_PLACE = {feature.name: place for place, feature in enumerate(PAIR_FEATURES)}
_OCCASIONS = _PLACE[OCCASIONS]
#: Decayed occasions, and as what they are told: in a window of 4/3 half-lives, which the first two are, and in all time.
_DECAYED = {_PLACE[FAST]: _PLACE[within(1)], _PLACE[SLOW]: _PLACE[within(3)], _PLACE[FAR]: _OCCASIONS}
#: What is told otherwise of new pairs.
_OTHERWISE = [_OCCASIONS, *_READERS]


def reasons(
    contributions: explain.Contributions, X: NDArray[Any], features: Sequence[AnyFeature], wording: Wording, pairs: explain.Pairs
) -> pa.ChunkedArray:
    """The reasons of pairs, as `explain.reasons` gives them: those of one don't depend on which others there are.

    Parameters
    ----------
    contributions : a scorer's method, which is asked for some rows at a time; or what it gave.
    X : shape (rows, features), in the order of `features`.
    features : `PAIR_FEATURES`, and after them customers' own.
    pairs : whose category each row is about.
    """
    size = len(features)
    X = np.hstack([X, X[:, _OTHERWISE]])

    def told(rows: NDArray[Any]) -> Floats:
        read = np.ascontiguousarray(rows[:, :size])
        return split(contributions(read) if callable(contributions) else contributions, read[:, _OCCASIONS] == 0, size)

    return explain.reasons(told if callable(contributions) else told(X), X, as_told(features), wording, pairs=pairs)


def as_told(features: Sequence[AnyFeature]) -> list[AnyFeature]:
    """The features as they are told of pairs that were taken, and what is told otherwise of new ones after them.

    >>> told = as_told(PAIR_FEATURES)
    >>> [(feature.name, feature.concept) for feature in told if feature.about == "together"][:3]
    [('goes_together', 'together'), ('follows', 'habit'), ('corrected_by_taken', 'habit')]
    >>> [(feature.name, feature.concept) for feature in told[len(PAIR_FEATURES):]][:2]
    [('occasions', 'never'), ('follows', 'together')]
    """
    taken: list[AnyFeature] = list(features)
    for place in _READERS:
        taken[place] = replace(PAIR_FEATURES[place], concept="habit")
    never = replace(PAIR_FEATURES[_OCCASIONS], concept="never")
    return [*taken, never, *(PAIR_FEATURES[place] for place in _READERS)]


def split(values: NDArray[Any], new: NDArray[np.bool_], size: int) -> Floats:
    """Contributions of `size` features, shape (rows, size) or with a base value as a last column, as those of `as_told`.

    `new`: which pairs were never taken. A row's contributions add up to the same as before.
    """
    found = np.zeros((len(values), size + len(_OTHERWISE)))
    found[:, :size] = values[:, :size]
    for decayed, plain in _DECAYED.items():
        found[:, plain] += found[:, decayed]
        found[:, decayed] = 0.0
    found[:, size] = np.where(new, found[:, _PAST].sum(axis=1), 0.0)
    found[:, size + 1 :] = np.where(new[:, None], found[:, _READERS], 0.0)
    found[np.ix_(np.flatnonzero(new), np.array(_PAST + _READERS))] = 0.0
    return found
