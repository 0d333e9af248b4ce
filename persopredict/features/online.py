"""The same features over one customer's events, in NumPy and without an engine: for the web call that can't wait.

The specs, their needs and what becomes of these are the engines' own (`measures`); only where the needs come from is another: one `Sweep`
over the customer's events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from persopredict import conditions
from persopredict.engines.expressions import microseconds
from persopredict.errors import Problem, SpecificationError
from persopredict.features.columns import NUMBERS, Columns
from persopredict.features.measures import LEAST, RECIPES, Asked, At, Dated, Days, Floats, Integers, Measure, Need, Squares, needs
from persopredict.features.spec import AGGREGATES, CALENDAR, Feature, check_features
from persopredict.features.sweep import Sweep
from persopredict.times import instant, zone

_DAYS_BEFORE_1970 = date(1970, 1, 1).toordinal()
#: Cutoffs whose windows are remembered: of many customers at one time all but the first find them ready.
_CUTOFFS = 256


class OnlineFeatures:
    """Features of one customer at a time; may be shared between threads.

    Parameters
    ----------
    features : the specs.
    timezone : of days and hours, and of times without an offset; the log's.
    numeric : further columns that hold numbers; `quantity` and `value` do, and so do those whose sums, means or extremes are asked for.

    Raises
    ------
    SpecificationError : with everything that no events could mend: names given twice, columns that features can't read, conditions that
        compare text with numbers.

    >>> features = [Feature("count", window="7d", fallback=0), Feature("sum", "value", where="event = 'purchase'", fallback=None)]
    >>> online = OnlineFeatures(features)
    >>> events = {"event_at": ["2024-03-01T10:00Z", "2024-03-02T09:00Z"], "event": ["visit", "purchase"], "value": [None, 19.9]}
    >>> online.row(events, "2024-03-09")
    {'count_7d': 1.0, 'sum_value_purchase_all': 19.9}
    >>> online.columns
    ('event', 'value')
    """

    def __init__(self, features: Sequence[Feature], *, timezone: str = "UTC", numeric: Collection[str] = ()) -> None:
        self.features, self.timezone, self.numeric = tuple(features), timezone, tuple(sorted(numeric))
        self._zone = zone(timezone)
        self._numeric = _numbers_of(self.features, numeric)
        wanted = [needs(feature, self._numeric) for feature in self.features]
        asked = Asked.of(need for each in wanted for need in each)
        self._windows = asked.windows
        self._reads = tuple(dict.fromkeys((*asked.natural, *asked.numbers)))
        self._sweep = Sweep(asked)
        self._groups = _grouped(self.features, wanted, self._sweep)
        self._fallbacks = np.array([np.nan if feature.fallback is None else feature.fallback for feature in self.features])
        self._cutoffs: dict[tuple[Any, int], tuple[At, Integers]] = {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, so that whoever has the log can tell whoever has the events; `from_dict` reads it back.

        >>> online = OnlineFeatures([Feature("count", fallback=0)], timezone="Europe/Madrid")
        >>> OnlineFeatures.from_dict(online.to_dict()).features == online.features
        True
        """
        return {"features": [feature.to_dict() for feature in self.features], "timezone": self.timezone, "numeric": list(self.numeric)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OnlineFeatures:
        """The features that `to_dict` wrote."""
        features = [Feature.from_dict(feature) for feature in values["features"]]
        return cls(features, timezone=values["timezone"], numeric=values["numeric"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the common model that `values` reads, `event_at` and (if given) `known_at` apart."""
        return tuple(name for name in self._reads if name not in CALENDAR)

    def values(self, events: Mapping[str, Any], as_of: str | datetime) -> Floats:
        """The features at `as_of`, as float64 in their order, NaN where undefined.

        Parameters
        ----------
        events : one customer's events, in any order: for each of `columns`, and for `event_at`, a sequence or an array with one entry per
            event; `known_at` if some became known later than they happened. Times are aware datetimes, datetime64 (UTC), integers
            (microseconds since 1970) or ISO text; None and NaN are null. Other columns are not looked at.
        as_of : the cutoff; naive ones are read in the time zone.

        Raises
        ------
        DataError : with everything that is wrong with the events.
        SpecificationError : `as_of` is no time.
        """
        at, starts = self._cutoff(as_of)
        columns = Columns.of(events, zone=self._zone, numeric=self._numeric, reads=self._reads)
        taken = self._sweep.taken(columns, at, starts)
        values = np.empty(len(self.features))
        for aggregate, positions, wanted in self._groups:
            values[positions] = RECIPES[aggregate].value(at, *(need.of(taken) for need in wanted))
        return np.where(np.isnan(values), self._fallbacks, values)

    def row(self, events: Mapping[str, Any], as_of: str | datetime) -> dict[str, float | None]:
        """The features at `as_of` by name, None where undefined; see `values`."""
        found = self.values(events, as_of).tolist()
        return {feature.name: None if value != value else value for feature, value in zip(self.features, found, strict=True)}

    def _cutoff(self, as_of: str | datetime) -> tuple[At, Integers]:
        """The cutoff, and where its windows start."""
        # Two passes of a repeated hour are equal to Python, and not the same.
        key = as_of, getattr(as_of, "fold", 0)
        found = self._cutoffs.get(key)
        if found is None:
            cutoff = instant(as_of, self._zone)
            day = cutoff.astimezone(self._zone).toordinal() - _DAYS_BEFORE_1970
            starts = [LEAST if window is None else microseconds(window.before(cutoff, self._zone)) for window in self._windows]
            found = At(np.array(microseconds(cutoff)), np.array(day)), np.array(starts, np.int64)
            if len(self._cutoffs) >= _CUTOFFS:
                self._cutoffs.clear()
            self._cutoffs[key] = found
        return found


def _numbers_of(features: Sequence[Feature], numeric: Collection[str]) -> frozenset[str]:
    """The columns that hold numbers; raises `SpecificationError` with all that is wrong with the features whatever the events."""
    strangers = [feature for feature in features if not isinstance(feature, Feature)]
    if strangers:
        text = f"a feature is a Feature, not a {type(strangers[0]).__name__}"
        problem = Problem("feature_type", text, count=len(strangers), example=repr(strangers[0]), remedy="Feature.from_dict reads dicts")
        raise SpecificationError("the features can't be computed", [problem])
    numbers = {*NUMBERS, *CALENDAR, *numeric}
    for feature in features:
        added = len(feature.columns) if AGGREGATES[feature.aggregate].numeric else int(feature.aggregate == "ratio")
        numbers.update(feature.columns[:added])
    # Which columns there are, the events say; but not those that no feature may read.
    named = {name for feature in features for name in (*feature.columns, *conditions.columns(feature.where))}
    problems = check_features(features, sorted({*named, *numbers}), sorted(numbers))
    if problems:
        raise SpecificationError("the features can't be computed", problems)
    return frozenset(numbers)


# Which features want what -------------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """One need of several features, in what was taken of the arrays: a slice of one of them for each component."""

    kind: type | None
    slices: tuple[tuple[int, slice], ...]

    def of(self, taken: Sequence[Integers | Floats]) -> Any:
        """The need's values."""
        components = [taken[array][where] for array, where in self.slices]
        return components[0] if self.kind is None else self.kind(*components)


_Group = tuple[str, npt.NDArray[np.intp], list[_Found]]
_KINDS: Mapping[str, type] = {"squares": Squares, "first": Dated, "last": Dated, "days": Days}


def _grouped(features: Sequence[Feature], wanted: Sequence[Sequence[Need]], sweep: Sweep) -> list[_Group]:
    """Features whose values come of one call each: same aggregate, same kinds of needs."""
    alike: dict[tuple[str, tuple[type | None, ...]], list[int]] = {}
    for position, (feature, asked) in enumerate(zip(features, wanted, strict=True)):
        kinds = tuple(_KINDS.get(need.part.kind) if isinstance(need.part, Measure) else None for need in asked)
        alike.setdefault((feature.aggregate, kinds), []).append(position)
    found = []
    for (aggregate, kinds), positions in alike.items():
        columns = zip(kinds, zip(*(wanted[position] for position in positions), strict=True), strict=True)
        found.append((aggregate, np.array(positions), [_Found(kind, sweep.take(same)) for kind, same in columns]))
    return found
