"""Reasons: which concepts moved a customer's score, ranked and told in words.

Contributions are those of the model that scores (`learner.Scorer.contributions`), in log-odds before calibration; with the base value they
add up to the raw score, and grouping leaves that true. Between the matrix of features and the warehouse there are arrays only: NumPy ranks,
Arrow holds, and words are made once for each value that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from persopredict import concepts
from persopredict.affinity.features import PairFeature
from persopredict.attribute_columns import REASONS
from persopredict.concepts import AnyFeature, Floats, Places, grouped, slices
from persopredict.features.spec import Feature
from persopredict.progress import track
from persopredict.times import Duration

if TYPE_CHECKING:
    from persopredict.wording import Wording

Contributions = Callable[[NDArray[Any]], Floats] | Floats

#: How many reasons for, and how many against.
TOP = 3
#: Rows whose contributions are held at a time.
_CHUNK = 65_536
#: Log-odds below which a sum of contributions is a rounding error.
_NOTHING = 1e-9


def context(features: Sequence[Feature], among: Sequence[Feature], wording: Wording) -> list[Feature]:
    """What puts values of `features` into context and is not one of them, to be given as `beside`: as it stands `among` those that are
    computed anyway, else to be computed besides (unless another one of these bears its name).

    >>> from persopredict.wording import Wording
    >>> last, usual = Feature("recency", fallback=None), Feature("gap_mean", fallback=None)
    >>> context([last], [last], Wording()) == [usual], context([last, usual], [last, usual], Wording())
    (True, [])
    """
    known, names = {_meaning(feature): feature for feature in among}, {feature.name for feature in among}
    found: dict[object, Feature] = {}
    for feature in features:
        companion = wording.companion(feature)
        if companion is not None and (_meaning(companion) in known or companion.name not in names):
            found[_meaning(companion)] = known.get(_meaning(companion), companion)
    return [companion for meaning, companion in found.items() if meaning not in {_meaning(feature) for feature in features}]


def unexplained(rows: int) -> pa.ChunkedArray:
    """No reasons, so many times: of models that can't tell them.

    >>> unexplained(2).to_pylist()
    [[], []]
    """
    nothing = pa.nulls(0, REASONS.value_type)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1), pa.int32()), nothing, type=REASONS)], REASONS)


@dataclass(frozen=True, eq=False)
class Pairs:
    """What rows of pairs are about: `category`, the number of each row's, shape (rows,), and the `names` of these numbers; the affinity's
    `horizon`, and `by` what its categories are.
    """

    category: NDArray[np.integer]
    names: Sequence[str]
    horizon: Duration
    by: str


def reasons(
    contributions: Contributions,
    X: NDArray[Any],
    features: Sequence[AnyFeature],
    wording: Wording,
    *,
    top: int = TOP,
    beside: Mapping[Feature, ArrayLike] | None = None,
    pairs: Pairs | None = None,
    groups: Mapping[str, int] | None = None,
) -> pa.ChunkedArray:
    """The reasons of each row: the `top` concepts that speak most for the outcome and the `top` that speak most against it.

    Parameters
    ----------
    contributions : a scorer's method, which is asked for some rows at a time; or what it gave, shape (rows, features) or with the base
        value as a last column.
    X : the features' values, shape (rows, features), nan where null.
    features : in the columns' order.
    wording : whose sentences they are.
    top : how many for, and how many against; default 3.
    beside : features that the model does not read, with their values, shape (rows,) each: a value that it reads may be told in their
        context ("usually every 9 days").
    pairs : whose category each row is about, where `features` are of pairs.
    groups : what is one concept to the model's log (`drivers.Drivers.groups`), by names of features; default by their specs.

    Returns
    -------
    A list for each row, strongest first whichever way they point, of {feature, label, value, value_text, direction, contribution}: the
    concept's face and its value in this row, null where unknown; what `wording` says of it; "for" or "against" the outcome that is
    predicted; and the contribution of the whole concept. Concepts without any contribution are left out.

    Memory grows by what is returned, some 400 bytes a row; contributions are held for some rows at a time.

    >>> from persopredict.wording import Wording
    >>> f = [Feature("count", window=w, fallback=0) for w in ("7d", "28d")] + [Feature("recency", fallback=None)]
    >>> found = reasons(np.array([[0.5, 0.4, -0.1]]), np.array([[3.0, 9.0, np.nan]]), f, Wording())
    >>> [(reason["feature"], reason["direction"], round(reason["contribution"], 3)) for reason in found[0].as_py()]
    [('count_7d', 'for', 0.9), ('recency_all', 'against', -0.1)]
    """
    chosen = []
    for rows in track([*slices(len(X), _CHUNK)], "reasons", numbered=False):
        values = contributions(X[rows]) if callable(contributions) else contributions[rows]
        chosen.append(_Chosen.of(*grouped(values, features, groups), top))
    whole = _Chosen.joined(chosen)
    told = _Told.of(whole, X, features, wording, beside or {}, pairs)
    ends = np.append(0, np.cumsum(whole.counts))
    return pa.chunked_array([_listed(ends[rows.start : rows.stop + 1], whole, told) for rows in slices(len(X), _CHUNK)], REASONS)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The reasons of some rows, row after row. `counts`: of each row, shape (rows,); `face`, `contribution`: of each reason."""

    counts: NDArray[np.int8]
    face: NDArray[np.int32]
    contribution: Floats

    @classmethod
    def of(cls, total: Floats, face: Places, top: int) -> _Chosen:
        """The `top` on either side, shape (rows, concepts) both."""
        return cls.joined([cls._of(total[rows], face[rows], top) for rows in slices(len(total), concepts.BLOCK)])

    @classmethod
    def joined(cls, parts: Sequence[_Chosen]) -> _Chosen:
        """Rows one after the other."""
        nothing = cls(np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0))
        return cls(*(np.concatenate([getattr(part, name) for part in (nothing, *parts)]) for name in ("counts", "face", "contribution")))

    @classmethod
    def _of(cls, total: Floats, face: Places, top: int) -> _Chosen:
        most = min(top, total.shape[1])
        rows = np.arange(len(total))
        left = np.where(np.abs(total) > _NOTHING, total, 0.0)
        numbers, strengths = np.empty((len(total), 2 * most), np.int64), np.empty((len(total), 2 * most))
        for place in range(2 * most):
            found = left.argmax(axis=1) if place < most else left.argmin(axis=1)
            strength = left[rows, found]
            numbers[:, place] = found
            # Where nothing is left that speaks for it, the largest is nought or speaks against it.
            strengths[:, place] = np.maximum(strength, 0.0) if place < most else np.minimum(strength, 0.0)
            left[rows, found] = np.minimum(strength, 0.0) if place < most else 0.0
        order = np.lexsort((numbers, -np.abs(strengths)))
        numbers, strengths = np.take_along_axis(numbers, order, axis=1), np.take_along_axis(strengths, order, axis=1)
        speaks = strengths != 0
        faces = np.take_along_axis(face, numbers, axis=1)[speaks].astype(np.int32)
        return cls(speaks.sum(axis=1).astype(np.int8), faces, strengths[speaks])


@dataclass(frozen=True, eq=False)
class _Told:
    """Reasons in words.

    `names`: of the features. `value`: of each reason, nan where unknown. `labels`, `texts`: what is said of it, and of its value, as
    numbers among the different ones.
    """

    names: pa.Array
    value: Floats
    labels: _Pool
    texts: _Pool

    @classmethod
    def of(
        cls,
        chosen: _Chosen,
        X: NDArray[Any],
        features: Sequence[AnyFeature],
        wording: Wording,
        beside: Mapping[Feature, ArrayLike],
        pairs: Pairs | None,
    ) -> _Told:
        """Feature by feature, all rows at once: what many share is written once."""
        row = np.repeat(np.arange(len(chosen.counts)), chosen.counts)
        value = np.asarray(X[row, chosen.face], dtype=np.float64)
        order = np.argsort(chosen.face, kind="stable")
        bounds = np.searchsorted(chosen.face[order], np.arange(len(features) + 1))
        labels, texts = _Pool.empty(len(row)), _Pool.empty(len(row))
        columns = _columns(X, features, beside)
        for place in np.flatnonzero(np.diff(bounds)).tolist():
            mine = order[bounds[place] : bounds[place + 1]]
            found = _sentences(features[place], value[mine], row[mine], columns, wording, pairs)
            for pool, written in zip((labels, texts), found, strict=True):
                pool.add(mine, written)
        return cls(pa.array([feature.name for feature in features], pa.string()), value, labels, texts)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Texts, each once, and which of them stands at each place."""

    parts: list[pa.Array]
    which: NDArray[np.int32]

    @classmethod
    def empty(cls, places: int) -> _Pool:
        return cls([pa.array([], pa.string())], np.empty(places, np.int32))

    def add(self, places: Places, written: Sequence[str]) -> None:
        """Write texts to places."""
        found = pa.array(written, pa.string()).dictionary_encode()
        self.which[places] = found.indices.to_numpy() + sum(map(len, self.parts))
        self.parts.append(found.dictionary)

    def texts(self, places: slice) -> pa.Array:
        """The texts at these places."""
        return self.whole.take(pa.array(self.which[places]))

    @cached_property
    def whole(self) -> pa.Array:
        """All of them."""
        return pa.concat_arrays(self.parts)


Columns = Mapping[object, ArrayLike]


def _columns(X: NDArray[Any], features: Sequence[AnyFeature], beside: Mapping[Feature, ArrayLike]) -> Columns:
    """The values of each feature that is known, by what it means, shape (rows,)."""
    known: dict[object, ArrayLike] = {_meaning(feature): values for feature, values in beside.items()}
    return known | {_meaning(feature): X[:, place] for place, feature in enumerate(features)}


def _meaning(feature: AnyFeature) -> object:
    """What tells one feature from another, whatever a user calls it."""
    if isinstance(feature, PairFeature):
        return feature.name
    return (feature.aggregate, feature.column, feature.window, feature.where, feature.half_life)


def _sentences(
    feature: AnyFeature, value: Floats, row: Places, columns: Columns, wording: Wording, pairs: Pairs | None
) -> tuple[list[str], list[str]]:
    """What is said of a feature's values in some rows, and the values in words."""
    if not isinstance(feature, PairFeature):
        companion = wording.companion(feature)
        return wording.reasons(feature, value, _beside(None if companion is None else _meaning(companion), columns, row))
    if pairs is None:
        raise ValueError("features of pairs are told of their categories: give pairs")
    usual = _beside(wording.pair_companion(feature), columns, row)
    category = np.asarray(pairs.names, object)[pairs.category[row]].tolist()
    return wording.pair_reasons(feature, value, usual, category=category, horizon=pairs.horizon, by=pairs.by)


def _beside(companion: object, columns: Columns, row: Places) -> Floats | None:
    """The values of a companion in some rows; None where nothing has that meaning."""
    return np.asarray(np.asarray(columns[companion])[row], dtype=np.float64) if companion in columns else None


def _listed(ends: Places, chosen: _Chosen, told: _Told) -> pa.ListArray:
    """The reasons of some rows as Arrow has them; `ends`: where each row's begin, and where the last one's end."""
    here = slice(int(ends[0]), int(ends[-1]))
    value, contribution = told.value[here], chosen.contribution[here]
    columns = {
        "feature": told.names.take(pa.array(chosen.face[here])),
        "label": told.labels.texts(here),
        "value": pa.array(value, mask=~np.isfinite(value)),
        "value_text": told.texts.texts(here),
        "direction": pa.array(["against", "for"]).take(pa.array((contribution > 0).astype(np.int8))),
        "contribution": pa.array(contribution),
    }
    fields = list(REASONS.value_type)
    struct = pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(ends - ends[0], pa.int32()), struct, type=REASONS)


def placed(found: pa.ChunkedArray, places: Places, rows: int) -> pa.ChunkedArray:
    """Lists put to their `places`, ascending, shape (lists,), among `rows`; null elsewhere. Nothing is copied but where lists begin.

    >>> placed(pa.chunked_array([[["a"], ["b"]]]), np.array([0, 2]), 4).to_pylist()
    [['a'], None, ['b'], None]
    """
    parts, done, number = [], 0, 0
    for chunk in found.chunks:
        here = places[number : number + len(chunk)]
        number += len(chunk)
        end = rows if number == len(found) else int(places[number])
        held = np.zeros(end - done, bool)
        held[here - done] = True
        lengths = np.zeros(end - done, np.int64)
        lengths[held] = np.diff(chunk.offsets.to_numpy())
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        parts.append(pa.ListArray.from_arrays(offsets, chunk.flatten(), type=chunk.type, mask=pa.array(~held)))
        done = end
    return pa.chunked_array([*parts, pa.nulls(rows - done, found.type)], found.type)
