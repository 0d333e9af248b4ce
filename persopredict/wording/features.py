"""Features in words: which way of telling each aggregate takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from persopredict.features.spec import Feature
from persopredict.wording import amounts, habits
from persopredict.wording.languages import Words
from persopredict.wording.parts import Parts, Telling

Teller = Callable[[Parts], Telling]

#: Of events, and of a column's values where an aggregate takes either.
TELLERS: Mapping[str, Teller | tuple[Teller, Teller]] = {
    "count": habits.count,
    "sum": amounts.total,
    "mean": amounts.single,
    "min": amounts.single,
    "max": amounts.single,
    "std": amounts.deviation,
    "distinct": habits.distinct,
    "share": (habits.share, amounts.share_of),
    "ratio": amounts.ratio,
    "trend": (habits.trend, amounts.trend_of),
    "recency": habits.recency,
    "tenure": habits.tenure,
    "gap_mean": habits.gap_mean,
    "gap_std": habits.gap_std,
    "overdue": habits.overdue,
    "decayed_sum": amounts.decayed,
    "first": amounts.end,
    "last": amounts.end,
}
#: Where these are undefined, a fallback other than null is a stand-in: no value that the customer ever had.
_STAND_IN = frozenset({"recency", "tenure", "gap_mean", "gap_std", "overdue", "mean", "min", "max", "ratio", "first", "last"})


def telling(feature: Feature, words: Words) -> Telling:
    """How a feature is told in a language.

    >>> told = telling(Feature("count", window="28d", where="event = 'purchase'", fallback=0), Words.of("en", {}, None))
    >>> told.title, told.sentence(3.0), told.sentence(0.0)
    ('number of purchases in the last 28 days', '3 purchases in the last 28 days', 'no purchases in the last 28 days')
    """
    teller = TELLERS[feature.aggregate]
    if isinstance(teller, tuple):
        teller = teller[bool(feature.columns)]
    return teller(Parts(feature, words))


def stand_in(feature: Feature) -> float | None:
    """The value that stands for "undefined", None if there is none, or if it says what undefined means (no events: 0)."""
    return feature.fallback if feature.aggregate in _STAND_IN else None
