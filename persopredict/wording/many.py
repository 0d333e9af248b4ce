"""Many values at once: rounded as they are shown, each different one written once, and given to all that share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from persopredict.wording.parts import Telling
from persopredict.wording.units import Floats

#: Nothing that is counted or measured is so large; to round it would overflow.
_BEYOND = 1e200


def cleaned(values: Floats, stand_in: float | None = None) -> Floats:
    """As float64, NaN where a value is infinite or stands for "undefined"."""
    found = np.array(values, np.float64)
    found[~(np.abs(found) < _BEYOND)] = np.nan
    if stand_in is not None:
        found[found == stand_in] = np.nan
    return found


def remembering(told: Telling) -> Telling:
    """The same, which does not write the same sentence twice: rows come some thousands at a time."""
    return replace(told, sentence=lru_cache(maxsize=4096)(told.sentence))


def texts(values: Floats, shown: Callable[[Floats], Floats], write: Callable[[float], str]) -> list[str]:
    """Each value in words.

    >>> texts(np.array([2.0, np.nan, 2.2]), np.rint, str)
    ['2.0', 'nan', '2.0']
    """
    different, place = np.unique(_shown(values, shown), return_inverse=True)
    return _given([write(value) for value in _plain(different)], place)


def sentences(told: Telling, values: Floats, usual: Floats | None) -> list[str]:
    """The sentence of each value, with its companion's if there is one."""
    if usual is None or told.beside is None:
        return texts(values, told.unit.shown, told.sentence)
    shown, column = np.unique(_shown(values, told.unit.shown), return_inverse=True)
    # A mean gap is never 0: where one stands for "undefined" it is no gap. What nobody does is no context either.
    gaps, row = np.unique(_shown(np.where(usual > 0, usual, np.nan), told.usual), return_inverse=True)
    both, place = np.unique(row * len(shown) + column, return_inverse=True)
    known, usually = _plain(shown), _plain(gaps)
    plain = [told.sentence(value) for value in known]
    pairs = zip(*(side.tolist() for side in np.divmod(both, len(shown))), strict=True)
    return _given([told.beside(plain[of], known[of], usually[gap]) for gap, of in pairs], place)


def _plain(values: Floats) -> list[float]:
    """As Python's floats, with one NaN for all: others would never be found again by who remembers."""
    return [math.nan if math.isnan(value) else value for value in values.tolist()]


def _shown(values: Floats, shown: Callable[[Floats], Floats]) -> Floats:
    found = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    # Plus nothing: minus zero would be a value of its own.
    found[known] = shown(values[known]) + 0.0
    return found


def _given(written: Sequence[str], place: NDArray[np.intp]) -> list[str]:
    found = np.empty(len(written), object)
    found[:] = written
    return list(found[place])
