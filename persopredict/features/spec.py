"""What a feature is: a plain value from a closed set of aggregates, computed over one customer's events before a cutoff.

A `Feature` knows nothing of engines. `plan` turns a set of them into SQL steps; the names derive from the values, so that they are the
same in every release, and a model trained last year still finds its columns.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from persopredict import conditions, html
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import Duration

#: Columns derived from `event_at` in the log's time zone: local day number, hour 0-23, ISO weekday 1-7.
CALENDAR = ("day", "hour", "weekday")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One member of the closed set: how many columns it takes, and what it measures in words."""

    columns: tuple[int, ...]
    numeric: bool
    meaning: str


#: The closed set. "Undefined" always means: the feature takes its fallback.
AGGREGATES: Mapping[str, Aggregate] = {
    "count": Aggregate((0,), False, "number of events; undefined if none"),
    "sum": Aggregate((1,), True, "sum of the column; undefined if it is null throughout"),
    "mean": Aggregate((1,), True, "mean of the column's values"),
    "min": Aggregate((1,), True, "smallest value"),
    "max": Aggregate((1,), True, "largest value"),
    "std": Aggregate((1,), True, "sample standard deviation; undefined below two values"),
    "distinct": Aggregate((1,), False, "number of distinct values, nulls apart; undefined if none"),
    "share": Aggregate((0, 1), True, "events (or sum of the column) that satisfy `where`, over all in the window"),
    "ratio": Aggregate((2,), False, "sum of the first column over the second's sum, or over its distinct values if it is text or the day"),
    "trend": Aggregate((0, 1), True, "(recent half - earlier half) / whole, of events or of the column's sum; -1 to 1; needs a window"),
    "recency": Aggregate((0,), False, "days since the last event"),
    "tenure": Aggregate((0,), False, "days since the first event"),
    "gap_mean": Aggregate((0,), False, "mean days between consecutive active days; undefined below two"),
    "gap_std": Aggregate((0,), False, "sample standard deviation of those gaps; undefined below two gaps"),
    "overdue": Aggregate((0,), False, "days since the last active day over the mean gap"),
    "decayed_sum": Aggregate((0, 1), True, "events, or the column's values, added up, each halved for every `half_life` of its age"),
    "first": Aggregate((1,), True, "the column at the earliest event that has it; of several at one instant the smallest"),
    "last": Aggregate((1,), True, "the column at the latest event that has it; of several at one instant the largest"),
}
#: Decayed weights are rounded to so many decimals: sums of them are exact, whatever their order (law 7).
DECAY_DECIMALS = 15


@dataclass(frozen=True, slots=True, repr=False)
class Feature:
    """One feature: an aggregate of a customer's events in ``[cutoff - window, cutoff)`` that were known before the cutoff.

    Parameters
    ----------
    aggregate : one of `AGGREGATES`.
    column : column of the common model (`value`, `item_id`, `day`, ...); a pair for ``ratio``; None where none is needed.
    window : duration like ``"28d"``; None is all time.
    where : condition over the common model; None is every event.
    fallback : the value where the aggregate is undefined; mandatory, None keeps it null.
    name : ``[a-z0-9_]``, at most 63 bytes; derived from the rest by default.
    label : words for people; derived by default.
    half_life : of ``decayed_sum``, whole days like ``"28d"``: an event's weight is ``2 ** (-age / half_life)``, its age the number of
        local days from its day to the cutoff's, never below 0.

    Raises
    ------
    SpecificationError : with every problem of the specification.

    >>> Feature("sum", "value", window="4w", where="channel = 'web'", fallback=0).name
    'sum_value_channel_web_28d'
    >>> Feature("sum", window="4 weeks", fallback=0)
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: Feature('sum') is wrong:
      - error feature_window: '4 weeks' is not a duration; write <int>h, <int>d or <int>w, like '28d'.
      - error feature_column: sum takes 1 column, got 0.
    """

    aggregate: str
    column: str | tuple[str, str] | None = None
    window: Duration | None = field(default=None, kw_only=True)
    where: str | None = field(default=None, kw_only=True)
    fallback: float | None = field(kw_only=True)
    name: str = field(default="", kw_only=True)
    label: str = field(default="", kw_only=True, compare=False)
    half_life: Duration | None = field(default=None, kw_only=True)

    def __init__(
        self,
        aggregate: str,
        column: str | Sequence[str] | None = None,
        *,
        window: str | Duration | None = None,
        where: str | None = None,
        fallback: float | None,
        name: str | None = None,
        label: str | None = None,
        half_life: str | Duration | None = None,
    ) -> None:
        problems: list[Problem] = []
        length = _duration(window, "feature_window", problems)
        halving = _duration(half_life, "feature_half_life", problems)
        condition = None
        try:
            condition = conditions.canonical(where)
        except SpecificationError as error:
            problems.append(Problem("feature_where", str(error)))
        names = () if column is None else (column,) if isinstance(column, str) else tuple(column)
        unreadable = window is not None and length is None
        problems += _shape_problems(aggregate, names, Duration(days=1) if unreadable else length, fallback)
        if half_life is None or halving is not None:
            problems += _half_life_problems(aggregate, halving)
        if problems:
            raise SpecificationError(f"Feature({aggregate!r}) is wrong", problems)
        assign = object.__setattr__
        assign(self, "aggregate", aggregate)
        assign(self, "column", None if not names else names[0] if len(names) == 1 else names)
        assign(self, "window", length)
        assign(self, "where", condition)
        assign(self, "fallback", None if fallback is None else float(fallback))
        assign(self, "half_life", halving)
        assign(self, "name", name or derived_name(self))
        assign(self, "label", label or derived_label(self))
        if not re.fullmatch(r"[a-z0-9_]{1,63}", self.name):
            problem = Problem("feature_name", f"name {self.name!r} must be [a-z0-9_], at most 63 bytes")
            raise SpecificationError(f"Feature({aggregate!r}) is wrong", [problem])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads, those of the condition apart."""
        return () if self.column is None else (self.column,) if isinstance(self.column, str) else self.column

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back.

        >>> f = Feature("recency", where="event = 'purchase'", fallback=None)
        >>> Feature.from_dict(f.to_dict()) == f
        True
        """
        return {
            "aggregate": self.aggregate,
            "column": list(self.column) if isinstance(self.column, tuple) else self.column,
            "window": None if self.window is None else str(self.window),
            "where": self.where,
            "fallback": self.fallback,
            "name": self.name,
            "label": self.label,
            **({} if self.half_life is None else {"half_life": str(self.half_life)}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Feature:
        """The feature that `to_dict` wrote."""
        return cls(**values)

    def __repr__(self) -> str:
        """As it is written: whatever is not as by default.

        >>> Feature("sum", "value", window="4w", where="channel = 'web'", fallback=0)
        Feature('sum', 'value', window='28d', where="channel = 'web'", fallback=0)
        """
        given = [repr(self.aggregate), *([] if self.column is None else [repr(self.column)])]
        given += [f"{key}={str(length)!r}" for key, length in (("window", self.window), ("half_life", self.half_life)) if length]
        given += [f"where={self.where!r}"] if self.where else []
        given.append(f"fallback={_plain(self.fallback)}")
        derived = {"name": derived_name(self), "label": derived_label(self)}
        given += [f"{key}={getattr(self, key)!r}" for key, usual in derived.items() if getattr(self, key) != usual]
        return f"Feature({', '.join(given)})"

    def _repr_html_(self) -> str:
        facts = {
            "value": AGGREGATES[self.aggregate].meaning,
            "column": " and ".join(self.columns),
            "window": f"the last {self.window} before the cutoff" if self.window else "all time before the cutoff",
            "half-life": str(self.half_life or ""),
            "events": self.where or "all",
            "where undefined": "null" if self.fallback is None else _plain(self.fallback),
        }
        return html.block(html.title(self.name, self.label), html.facts({key: text for key, text in facts.items() if text}))


def _plain(value: float | None) -> str:
    return str(int(value)) if value is not None and value.is_integer() else str(value)


def _duration(text: str | Duration | None, code: str, problems: list[Problem]) -> Duration | None:
    try:
        return None if text is None else Duration.parse(text)
    except SpecificationError as error:
        problems.append(Problem(code, str(error)))
    return None


def _half_life_problems(aggregate: str, half_life: Duration | None) -> list[Problem]:
    if aggregate != "decayed_sum":
        refused = half_life is not None and aggregate in AGGREGATES
        return [Problem("feature_half_life", f"{aggregate} has no half_life; decayed_sum has")] if refused else []
    if half_life is None or not half_life.days or half_life.hours:
        return [Problem("feature_half_life", "decayed_sum needs a half_life of whole days, like '28d'")]
    return []


def _shape_problems(aggregate: str, names: tuple[str, ...], window: Duration | None, fallback: object) -> list[Problem]:
    known = AGGREGATES.get(aggregate)
    if known is None:
        return [Problem("feature_aggregate", f"no aggregate {aggregate!r}; {did_you_mean(str(aggregate), AGGREGATES)}")]
    problems = []
    if len(names) not in known.columns:
        wanted = " or ".join(str(number) for number in known.columns)
        problems.append(Problem("feature_column", f"{aggregate} takes {wanted} column{'' if wanted == '1' else 's'}, got {len(names)}"))
    if window is not None and not window:
        problems.append(Problem("feature_window", "window must be longer than nothing", remedy="leave it out for all time"))
    elif aggregate == "trend" and not (window and window.half()):
        problems.append(Problem("feature_window", "trend compares the halves of a window and needs one of two hours or more"))
    if fallback is not None and not (isinstance(fallback, Real) and math.isfinite(fallback)):
        problems.append(Problem("feature_fallback", f"fallback must be a finite number or None, got {fallback!r}"))
    return problems


def derived_name(feature: Feature) -> str:
    """The name from aggregate, columns, condition and window; one that is long, or lost letters, is made unique by a digest."""
    parts = [feature.aggregate, *feature.columns]
    if feature.where:
        parts.append(conditions.slug(feature.where))
    if feature.half_life:
        parts.append(f"half_{feature.half_life}")
    parts.append(str(feature.window) if feature.window else "all")
    name = re.sub(r"[^a-z0-9_]+", "_", "_".join(parts).lower())
    if len(name) <= 63 and (feature.where or "").isascii():
        return name
    return with_digest(feature, name)


def with_digest(feature: Feature, name: str) -> str:
    """The name, cut where it is long, and a digest that tells it from those of features with other conditions."""
    digest = hashlib.md5(name.encode() + repr(feature.where).encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{name[:54].rstrip('_')}_{digest}"


_LABELS = {
    "count": "number of {events}",
    "sum": "total {column} of {events}",
    "mean": "mean {column} of {events}",
    "min": "smallest {column} of {events}",
    "max": "largest {column} of {events}",
    "std": "spread of {column} of {events}",
    "distinct": "{entries}{of_events}",
    "share": "share of {events}",
    "ratio": "{column}{of_events}",
    "trend": "{column} of {events}: recent half against earlier half",
    "recency": "days since the last {event}",
    "tenure": "days since the first {event}",
    "gap_mean": "usual days between {events}",
    "gap_std": "spread of the days between {events}",
    "overdue": "days since the last {event}, against the usual gap",
    "decayed_sum": "{column} of {events}, halved every {half_life}",
    "first": "first {column} of {events}",
    "last": "last {column} of {events}",
}
#: What distinct values of a column are called; others are "different <column>s".
_ENTRIES = {"day": "active days", "order_id": "orders"}


def derived_label(feature: Feature) -> str:
    """Plain words for the feature.

    >>> Feature("count", where="event = 'purchase'", window="28d", fallback=0).label
    'number of purchase events, last 28 days'
    >>> Feature("distinct", "item_id", fallback=0).label, Feature("recency", fallback=None).label
    ('different items', 'days since the last event')
    """
    named = sorted(name.replace("_", " ") for name in conditions.literals(feature.where, "event"))
    only_event = feature.where is not None and conditions.columns(feature.where) == {"event"}
    if only_event and named:
        event, events = f"{' or '.join(named)} event", f"{' and '.join(named)} events"
    else:
        event, events = (f"{noun} with {feature.where}" if feature.where else noun for noun in ("event", "events"))
    words = [name.removesuffix("_id").replace("_", " ") for name in feature.columns]
    text = _LABELS[feature.aggregate].format(
        event=event,
        events=events,
        of_events=f" of {events}" if feature.where else "",
        column=" per ".join(words) or "number",
        half_life=f"{feature.half_life.days} days" if feature.half_life else "",
        entries=_ENTRIES.get(feature.columns[0], f"different {_plural(words[0])}") if words else "",
    )
    if feature.window is None:
        return text
    return f"{text}, last {feature.window.days} days" if not feature.window.hours else f"{text}, last {feature.window.hours} hours"


def _plural(word: str) -> str:
    if word.endswith("y") and not word.endswith(("ay", "ey", "oy", "uy")):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


def check_features(features: Sequence[Feature], available: Sequence[str], numeric: Sequence[str]) -> list[Problem]:
    """Every problem of a set of features on a log with the columns `available`, of which `numeric` hold numbers."""
    problems = []
    seen: dict[str, Feature] = {}
    for feature in features:
        if feature.name in seen:
            same = "the same feature twice" if seen[feature.name] == feature else "two features; give one a name"
            problems.append(Problem("feature_name", f"{feature.name!r} names {same}"))
        seen[feature.name] = feature
        readable = [name for name in available if name not in conditions.FORBIDDEN]
        for column in feature.columns:
            if column in conditions.FORBIDDEN:
                problems.append(Problem("feature_column", f"{feature.name}: {column!r} can't be read by a feature; day, hour, weekday can"))
            elif column not in readable:
                problems.append(Problem("feature_column", f"{feature.name}: no column {column!r}; {did_you_mean(column, readable)}"))
        numbers = feature.columns[:1] if feature.aggregate == "ratio" else feature.columns if AGGREGATES[feature.aggregate].numeric else ()
        problems += [
            Problem("feature_column", f"{feature.name}: {feature.aggregate} needs numbers, {column!r} holds text")
            for column in numbers
            if column in readable and column not in numeric
        ]
        problems += [Problem("feature_where", f"{feature.name}: {text}") for text in conditions.misread(feature.where, available, numeric)]
    return problems
