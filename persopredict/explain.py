"""Reasons: which features moved a customer's score, in words.

Contributions are those of the model that scores (`learner.Scorer.contributions`), in log-odds before calibration; with the base value they
add up to the raw score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.features.spec import Feature

TOP = 3
_CHUNK = 20_000
Reasons = list[dict[str, Any]]


def explained(
    contributions: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    X: NDArray[np.float64],
    features: Sequence[Feature],
    *,
    top: int = TOP,
) -> list[Reasons]:
    """The `top` reasons of each row of X, as `reasons` gives them; `contributions`, a scorer's, are held for some rows at a time."""
    parts = (X[start : start + _CHUNK] for start in range(0, len(X), _CHUNK))
    return [row for part in parts for row in reasons(contributions(part), part, features, top=top)]


def concept(feature: Feature) -> tuple[object, ...]:
    """What neighbouring windows of one aggregate have in common: of these only the strongest becomes a reason."""
    return (feature.aggregate, feature.column, feature.where)


def reasons(values: NDArray[np.float64], X: NDArray[np.float64], features: Sequence[Feature], *, top: int = TOP) -> list[Reasons]:
    """The `top` reasons of each row, strongest first, one for each concept.

    Parameters
    ----------
    values : contributions, shape (rows, features) or with the base value as a last column.
    X : the features' values, shape (rows, features).
    features : in the columns' order.
    top : how many, default 3.

    Returns
    -------
    For each row a list of {feature, label, value, value_text, direction, contribution}; `direction` is "for" or "against" the outcome that
    is predicted; features without any contribution are left out.

    >>> f = [Feature("count", window=w, fallback=0) for w in ("7d", "28d")] + [Feature("recency", fallback=None)]
    >>> [r["feature"] for r in reasons(np.array([[0.5, 0.4, -0.1]]), np.array([[3.0, 9.0, np.nan]]), f)[0]]
    ['count_7d', 'recency_all']
    """
    plain = values[:, : len(features)]
    groups = {key: number for number, key in enumerate(dict.fromkeys(concept(feature) for feature in features))}
    group_of = np.array([groups[concept(feature)] for feature in features])
    # A stable order makes ties fall the same way on every run.
    order = np.argsort(-np.abs(plain), axis=1, kind="stable")
    found: list[Reasons] = []
    for row, ranked in enumerate(order):
        seen: set[int] = set()
        chosen: Reasons = []
        for place in ranked:
            if len(chosen) == top or plain[row, place] == 0:
                break
            if group_of[place] not in seen:
                seen.add(int(group_of[place]))
                chosen.append(_reason(features[place], float(X[row, place]), float(plain[row, place])))
        found.append(chosen)
    return found


def _reason(feature: Feature, value: float, contribution: float) -> dict[str, Any]:
    known = math.isfinite(value)
    return {
        "feature": feature.name,
        "label": feature.label,
        "value": value if known else None,
        "value_text": value_text(value),
        "direction": "for" if contribution > 0 else "against",
        "contribution": contribution,
    }


def value_text(value: float) -> str:
    """A value as people write it: whole numbers plain, others with up to three significant digits.

    >>> value_text(1234.0), value_text(0.12345), value_text(34.56), value_text(float("nan"))
    ('1,234', '0.123', '34.6', 'unknown')
    """
    if not math.isfinite(value):
        return "unknown"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
