"""The features we build when nobody says otherwise. A builder is a function from a log's profile to features; add one to `BUILDERS`.

Windows follow the week, so that weekdays weigh the same in each: 7, 14, 28, 56, 91, 182, 364 days and all time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from persopredict import conditions
from persopredict.features.spec import Feature, with_digest
from persopredict.times import Duration, instant

if TYPE_CHECKING:
    from persopredict.events import EventLog, Moment

WINDOWS: tuple[str | None, ...] = ("7d", "14d", "28d", "56d", "91d", "182d", "364d", None)
_LONGER: tuple[str | None, ...] = ("28d", "91d", "182d", "364d", None)
#: More kinds of events or channels than this are the log's long tail: the rest enters the totals only.
_MOST_EVENTS, _MOST_CHANNELS, _MOST_CATEGORIES = 8, 6, 10
#: A dimension with more values than this says who rather than what; targets may name any of this many kinds of events.
_MOST_VALUES, _MOST_KINDS = 6, 1000
#: A value becomes part of a feature's definition, and so of a model store: one that a few customers hold might say who they are (law 10).
_LEAST_HOLDERS = 10


@dataclass(frozen=True)
class Profile:
    """What builders may know of a log: names only, no values of customers."""

    columns: frozenset[str]
    numeric: frozenset[str]
    events: tuple[str, ...]
    categories: tuple[str, ...]
    channels: tuple[str, ...]
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def wheres(self) -> tuple[str | None, ...]:
        """Every event, then each kind of event if there are several."""
        return (None, *(conditions.event_is([name]) for name in self.events)) if len(self.events) > 1 else (None,)


def recency(profile: Profile) -> list[Feature]:
    """Days since the last event of each kind."""
    return [Feature("recency", where=where, fallback=None) for where in profile.wheres]


def tenure(profile: Profile) -> list[Feature]:
    """Days since the first event of each kind."""
    return [Feature("tenure", where=where, fallback=None) for where in profile.wheres]


def frequency(profile: Profile) -> list[Feature]:
    """Active days over every window; events of each kind over every window."""
    days = [Feature("distinct", "day", window=window, fallback=0) for window in WINDOWS]
    orders = [Feature("distinct", "order_id", window=window, fallback=0) for window in _LONGER] if "order_id" in profile.columns else []
    return days + orders + [Feature("count", where=where, window=window, fallback=0) for where in profile.wheres for window in WINDOWS]


def monetary(profile: Profile) -> list[Feature]:
    """Totals over every window, means, extremes and spread over the longer ones, money per order."""
    if "value" not in profile.columns:
        return []
    found = [Feature("sum", "value", window=window, fallback=0) for window in WINDOWS]
    for window in ("91d", None):
        found += [Feature(aggregate, "value", window=window, fallback=None) for aggregate in ("mean", "max", "std")]
    if "order_id" in profile.columns:
        found += [Feature("ratio", ("value", "order_id"), window=window, fallback=None) for window in ("28d", "91d", None)]
    return found


def rhythm(profile: Profile) -> list[Feature]:
    """The customer's own gaps between active days, and how overdue the next one is against them."""
    found = [
        Feature(aggregate, window=window, fallback=None)
        for aggregate in ("gap_mean", "gap_std", "overdue")
        for window in ("91d", "182d", None)
    ]
    for where in profile.wheres[1:]:
        found += [Feature(aggregate, where=where, fallback=None) for aggregate in ("gap_mean", "overdue")]
    return found


def trend(profile: Profile) -> list[Feature]:
    """The recent half of each window against the earlier one, in events and in money."""
    windows = ("14d", "28d", "56d", "182d", "364d")
    found = [Feature("trend", window=window, fallback=None) for window in windows]
    return found + ([Feature("trend", "value", window=window, fallback=None) for window in windows] if "value" in profile.columns else [])


def variety(profile: Profile) -> list[Feature]:
    """Distinct categories, items and channels."""
    names = [name for name in profile.categories if name != "category" or len(profile.categories) == 1]
    names += [name for name in ("item_id", "channel") if name in profile.columns]
    return [Feature("distinct", name, window=window, fallback=0) for name in names for window in ("28d", "91d", "182d", None)]


def habits(profile: Profile) -> list[Feature]:
    """When the customer is active: parts of the day and of the week, in the log's time zone."""
    parts = ("hour < 6", "hour BETWEEN 6 AND 11", "hour BETWEEN 12 AND 17", "hour >= 18", "weekday >= 6")
    found = [Feature("share", where=part, window=window, fallback=None) for part in parts for window in ("91d", None)]
    return found + [Feature(aggregate, "hour", fallback=None) for aggregate in ("mean", "std")]


def channels(profile: Profile) -> list[Feature]:
    """Each channel's share of the events."""
    wheres = [conditions.column_is("channel", name) for name in profile.channels]
    return [Feature("share", where=where, window=window, fallback=None) for where in wheres for window in ("91d", None)]


def mix(profile: Profile) -> list[Feature]:
    """What the customer's events are made of: the largest categories, and the values of dimensions that have few."""
    found: list[Feature] = []
    for column, values in profile.kinds.items():
        windows: tuple[str | None, ...] = ("91d",) if column in profile.categories else ("28d", "91d", None)
        for value in values:
            where = conditions.column_is(column, value)
            found += [Feature("count", where=where, window=window, fallback=0) for window in windows]
            found += [Feature("recency", where=where, fallback=None)] if column not in profile.categories else []
    return found


Builder = Callable[[Profile], list[Feature]]
BUILDERS: Sequence[Builder] = (recency, tenure, frequency, monetary, rhythm, trend, variety, habits, channels, mix)


def default_features(events: EventLog, *, focus: Sequence[str] = (), until: Moment | None = None) -> list[Feature]:
    """The default features of a log: recency, tenure, frequency, monetary, rhythm, trend, variety, habits, channel shares, mix.

    Parameters
    ----------
    events : the log; only names of columns, events and channels are looked at.
    focus : events that get features of their own even if they are rare (a target's event).
    until : only names that the log held before it, a naive one in the log's time zone; default all.

    Returns
    -------
    list of Feature, in a stable order; at least 60 for a log with values, orders and categories.

    >>> import pandas as pd
    >>> from persopredict.events import EventLog
    >>> frame = pd.DataFrame({"customer_id": [1], "event_at": ["2024-01-01"], "event": ["visit"]})
    >>> [feature.name for feature in default_features(EventLog(frame))][:4]
    ['recency_all', 'tenure_all', 'distinct_day_7d', 'distinct_day_14d']
    """
    profile = profile_of(events, focus, None if until is None else instant(until, events.zone))
    features: dict[str, Feature] = {}
    for builder in BUILDERS:
        for feature in builder(profile):
            # Names that differ only in what a name can't hold ('web', 'Web') would hide one another.
            if features.get(feature.name, feature) != feature:
                feature = Feature.from_dict({**feature.to_dict(), "name": with_digest(feature, feature.name)})
            features.setdefault(feature.name, feature)
    return list(features.values())


def profile_of(events: EventLog, focus: Sequence[str] = (), until: datetime | None = None) -> Profile:
    """The profile of what a log held before `until`; names in alphabetical order, so that growth alone does not reorder features."""
    known = events.values_of("event", _MOST_KINDS, until)
    names = sorted({*known[:_MOST_EVENTS], *(name for name in focus if name in known)})
    kinds: dict[str, tuple[str, ...]] = {}
    if events.categories:
        kinds[events.categories[0]] = tuple(sorted(events.values_of(events.categories[0], _MOST_CATEGORIES, until)))
    for name in events.dimensions:
        if name not in events.numeric and len(events.values_of(name, _MOST_VALUES + 1, until)) <= _MOST_VALUES:
            kinds[name] = tuple(sorted(events.values_of(name, _MOST_VALUES, until, held_by=_LEAST_HOLDERS)))
    channels = tuple(sorted(events.values_of("channel", _MOST_CHANNELS, until)))
    return Profile(frozenset(events.columns), frozenset(events.numeric), tuple(names), events.categories, channels, kinds)


def windows_within(features: Sequence[Feature], history: Duration) -> tuple[list[Feature], list[Feature]]:
    """Those whose window fits into `history`, and those whose window doesn't."""
    fits = [feature.window is None or feature.window.approximate <= history.approximate for feature in features]
    return [f for f, fit in zip(features, fits, strict=True) if fit], [f for f, fit in zip(features, fits, strict=True) if not fit]
