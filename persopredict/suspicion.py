"""Suspected leakage in features: one that alone is nearly the label, one that was constant while it was learnt from.

Features look strictly before their cutoff, but a log can lie about times. These are suspicions: each has innocent explanations, so nothing
is left out by itself; and what chance could explain stays unsaid. What the log itself tells is in `aftermath`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.draws import Hashes, lowest, snapshot_hashes
from persopredict.errors import Problem, SpecificationError

Floats = NDArray[np.float64]

#: A feature of this AUC is suspected, if its interval reaches no further down than `WITHIN`: on 25 snapshots with the outcome an honest
#: feature of AUC 0.95 exceeds 0.98 by chance one time in ten.
NEARLY, WITHIN = 0.98, 0.04
#: A 95% quantile of the normal distribution, one-sided.
_Z = 1.6449
#: Snapshots of either label that are looked at, and at a glance: who is `WITHIN` of suspicion then is looked at closely, which is a dozen
#: standard errors.
_MOST_ROWS, _GLANCE = 30_000, 1_000
_SALT = "suspicion"
#: Of the scored, and of the training snapshots of each cutoff, how many must differ; what chance may explain; cutoffs that show a habit.
_SHARE, _SHARE_BEFORE, _CHANCE, _LEAST_CUTOFFS = 0.01, 0.05, 1e-4, 6


def nearly_the_label(
    X: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    *,
    customer: ArrayLike | None = None,
    cutoff: ArrayLike | None = None,
    at_least: float = NEARLY,
) -> list[Problem]:
    """Features that tell the label alone: by high values, by low ones, or by being missing.

    Parameters
    ----------
    X : labelled training snapshots, nan where null, shape (rows, features).
    y : labels 0 or 1, shape (rows,).
    names : of the features.
    customer : of each row, shape (rows,): of many rows, ids and cutoffs decide which are looked at. Default: the rows' numbers.
    cutoff : of each row, in integer microseconds, shape (rows,). With it the rows of the last cutoff are judged by themselves too: a
        column filled in afterwards knows the latest outcomes best.
    at_least : AUC from which on a feature is suspected; default 0.98.

    Returns
    -------
    list of Problem ``feature_nearly_the_label``, one for each feature, most telling first. Null counts as a value of its own. Of more than
    30,000 rows with either label 30,000 are drawn, by md5. Where a few snapshots could have come out so by chance nothing is
    said: the AUC's score interval (Newcombe 2006, with the variance of Hanley and McNeil 1982) must end within 0.04
    of `at_least`, which takes 20 of each label even where all are told apart.

    Raises `SpecificationError` if the shapes don't fit or a label is not 0 or 1.

    >>> y = np.repeat([0, 1], 50)
    >>> [(p.code, p.count) for p in nearly_the_label(np.stack([y, np.arange(100) % 7], axis=1), y, ["closed", "weekday"])]
    [('feature_nearly_the_label', 100)]
    """
    rows, labels, named = np.asarray(X, np.float64), np.asarray(y), tuple(names)
    times = np.zeros(len(labels), np.int64) if cutoff is None else np.asarray(cutoff)
    if rows.shape != (len(labels), len(named)) or times.shape != labels.shape:
        message = f"X has shape {rows.shape} for {len(labels)} labels, {len(times)} cutoffs and {len(named)} names"
        raise SpecificationError("features can't be suspected", [Problem("shapes_differ", message, remedy="pass X as (rows, names)")])
    if not np.isin(labels, (0, 1)).all():
        raise SpecificationError("labels must be 0 or 1, shape (n,); leave out rows without a label")
    if not len(labels):
        return []
    hashed = snapshot_hashes(np.arange(len(labels)) if customer is None else customer, times, _SALT)
    found: dict[str, tuple[float, Problem]] = {}
    parts = {"": np.ones(len(labels), bool), " at the last cutoff": times == times.max()}
    for when, part in parts.items():
        sides = int(np.count_nonzero(labels[part] == 1)), int(np.count_nonzero(labels[part] == 0))
        if not min(sides) or (when and part.all()):
            continue
        glanced, looked = (_drawn(part, labels, hashed, most) for most in (_GLANCE, _MOST_ROWS))
        at_glance = np.ascontiguousarray(rows[glanced].T)
        for place, name in enumerate(named):
            if _told(labels[glanced], at_glance[place])[0] < at_least - WITHIN:
                continue
            reached, how = _told(labels[looked], rows[looked, place])
            if name not in found and reached >= at_least and surely(reached, *sides) >= at_least - WITHIN:
                found[name] = reached, _nearly(name, how, when, reached, sides)
    return [problem for _, problem in sorted(found.values(), key=lambda pair: (-pair[0], pair[1].source))]


def _nearly(name: str, how: str, when: str, reached: float, sides: tuple[int, int]) -> Problem:
    text = f"{name} is nearly the label: {how} alone tell{'s' if how.endswith('null') else ''} {sides[0]:,} snapshots with the outcome "
    text += f"from {sides[1]:,} without it{when} at an AUC of {reached:.3f}"
    remedy = "see whether it is known before the outcome; if not, leave it out with features=, or give its source known_at or valid_from"
    return Problem("feature_nearly_the_label", text, "warning", sum(sides), remedy=remedy, source=name)


def _drawn(part: NDArray[np.bool_], labels: NDArray[Any], hashed: Hashes, most: int) -> NDArray[np.intp]:
    """Rows of a part, at most so many of each label, in order."""
    sides = (np.flatnonzero(part & (labels == label)) for label in (0, 1))
    return np.concatenate([places[lowest(hashed[places], most)] for places in sides])


def _told(y: NDArray[Any], values: Floats) -> tuple[float, str]:
    """The best AUC of one feature, and what of it tells."""
    missing = np.isnan(values)
    _, place = np.unique(values[~missing], return_inverse=True)
    weights = [y[~missing] == 1, y[~missing] == 0]
    known = np.stack([np.bincount(place, weights=weight) for weight in weights], axis=1)
    null = np.array([[np.count_nonzero(y[missing] == 1), np.count_nonzero(y[missing] == 0)]], np.float64)
    tried = [(null, known.sum(axis=0, keepdims=True), "its being null"), (null, known, "its values"), (known, null, "its values")]
    reached = [(separated(np.concatenate([low, high])), how) for low, high, how in tried]
    # Where being null tells as much as all the values, it is what tells.
    return max(((max(found, 1 - found), how) for found, how in reached), key=lambda pair: pair[0])


def separated(counts: ArrayLike) -> float:
    """The AUC of groups in their order, ties counting half; `counts`: those with the outcome and those without, shape (groups, 2).

    >>> separated([[0, 3], [1, 1], [3, 0]])
    0.96875
    """
    yes, no = np.asarray(counts, np.float64).T
    return float(yes @ (np.cumsum(no) - no / 2) / (yes.sum() * no.sum()))


def in_any_order(groups: ArrayLike) -> float:
    """The AUC of a few groups, shape (groups, 2), in the order of their rates; at least one must hold either.

    >>> in_any_order([[3, 0], [0, 3], [1, 1]])
    0.96875
    """
    counts = np.asarray(groups, np.float64)
    held = counts[counts.sum(axis=1) > 0]
    return separated(held[np.argsort(held[:, 0] / held.sum(axis=1), kind="stable")])


def surely(reached: float, positives: int, negatives: int) -> float:
    """The lower end of the one-sided 95% score interval of an AUC: the least that would have given `reached` without a surprise.

    Newcombe 2006 (method 4 of part 2), with the variance of Hanley and McNeil 1982; 0 if one class is missing.

    >>> round(surely(1.0, 25, 1000), 3), round(surely(1.0, 2500, 10_000), 3), round(surely(0.985, 25, 1000), 3)
    (0.95, 0.999, 0.925)
    """
    if not (positives and negatives):
        return 0.0
    low, high = 0.0, reached
    for _ in range(50):
        middle = (low + high) / 2
        first, second = middle / (2 - middle), 2 * middle**2 / (1 + middle)
        spread = middle * (1 - middle) + (positives - 1) * (first - middle**2) + (negatives - 1) * (second - middle**2)
        near = reached - middle <= _Z * math.sqrt(spread / (positives * negatives))
        low, high = (low, middle) if near else (middle, high)
    return high


def constant_before(X_train: ArrayLike, X_scoring: ArrayLike, names: Sequence[str], *, cutoff: ArrayLike | None = None) -> list[Problem]:
    """Features that were constant in training and are not where the model scores, or the other way round.

    Parameters
    ----------
    X_train : training snapshots, nan where null, shape (rows, features).
    X_scoring : snapshots at the moment of scoring, shape (rows, features).
    names : of the features.
    cutoff : of each row of `X_train`; without it the second question is not asked.

    Returns
    -------
    list of Problem. ``constant_in_training``: one value (null included) in training, another for at least 1% of the scored, and for more
    than chance would hold back from training (below 1e-4, rows taken as drawn from one pot). ``constant_at_scoring``: one value where it
    scores, but at each of at least 6 training cutoffs another for 5% of the rows and more: its source may have stopped, or is filled in
    later; what comes and goes, like a campaign, had a quiet cutoff before.

    Raises `SpecificationError` if the shapes don't fit.

    >>> [(p.code, p.source) for p in constant_before(np.zeros((200, 1)), np.arange(90).reshape(-1, 1), ["opened"])]
    [('constant_in_training', 'opened')]
    """
    learnt, scored, named = np.asarray(X_train, np.float64), np.asarray(X_scoring, np.float64), tuple(names)
    times = np.zeros(len(learnt)) if cutoff is None else np.asarray(cutoff)
    if not (learnt.ndim == scored.ndim == 2 and learnt.shape[1] == scored.shape[1] == len(named)) or len(times) != len(learnt):
        message = f"training is {learnt.shape}, scoring {scored.shape}, for {len(named)} names and {len(times)} cutoffs"
        raise SpecificationError("features can't be suspected", [Problem("shapes_differ", message, remedy="pass both as (rows, names)")])
    if not (len(learnt) and len(scored)):
        return []
    found = [_constant_in_training(learnt[:, place], scored[:, place], named[place]) for place in _constants(learnt)]
    moments = np.unique(times)
    if len(moments) >= _LEAST_CUTOFFS:
        groups = [times == at for at in moments]
        found += [_constant_at_scoring(learnt[:, place], scored[:, place], groups, named[place]) for place in _constants(scored)]
    return [problem for problem in found if problem is not None]


def _differs(values: Floats, constant: float) -> NDArray[np.bool_]:
    return ~np.isnan(values) if math.isnan(constant) else values != constant


def _constants(rows: Floats) -> list[int]:
    """The columns that have one value, null included; most others show it in their first thousand rows."""
    maybe = [place for place in range(rows.shape[1]) if not _differs(rows[:1000, place], rows[0, place]).any()]
    return [place for place in maybe if not _differs(rows[:, place], rows[0, place]).any()]


def _constant_in_training(learnt: Floats, scored: Floats, name: str) -> Problem | None:
    others = int(np.count_nonzero(_differs(scored, learnt[0])))
    # Were all rows drawn from one pot, none of those that differ would have been drawn for training.
    chance = others * math.log(len(scored) / (len(scored) + len(learnt)))
    if others < _SHARE * len(scored) or chance > math.log(_CHANCE):
        return None
    text = f"{name} is {_value(learnt[0])} in all {len(learnt):,} training snapshots, but not for {others:,} of {len(scored):,} scored"
    remedy = "nothing was learnt from it: leave it out with features=, or give its source's history"
    return Problem("constant_in_training", text, "warning", others, remedy=remedy, source=name)


def _constant_at_scoring(learnt: Floats, scored: Floats, groups: Sequence[NDArray[np.bool_]], name: str) -> Problem | None:
    shares = [float(_differs(learnt[group], scored[0]).mean()) for group in groups]
    if min(shares) < _SHARE_BEFORE or len(scored) * math.log1p(-min(*shares, 1 - 1e-9)) > math.log(_CHANCE):
        return None
    text = f"{name} is {_value(scored[0])} for all {len(scored):,} scored, but not for {min(shares):.0%} and more at each of "
    text += f"{len(groups)} training cutoffs"
    remedy = "see whether its source stopped, or is filled in later than it says; then leave it out, or give it known_at"
    return Problem("constant_at_scoring", text, "warning", len(scored), remedy=remedy, source=name)


def _value(constant: float) -> str:
    return "null" if math.isnan(constant) else f"{constant:g}"
