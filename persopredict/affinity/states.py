"""States of pairs, read: what an engine says about customers and their categories at several moments, and what they took afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from persopredict import outcomes
from persopredict.affinity.occasions import EVENT, Occasions
from persopredict.affinity.pairs import (
    GAP,
    HALF_LIVES,
    OCCASIONS,
    OVERDUE,
    QUARTER,
    RECENCY,
    SPANS,
    TENURE,
    Codes,
    Floats32,
    Pairs,
    State,
    within,
)
from persopredict.events import EventLog
from persopredict.features.measures import Integers, needs
from persopredict.features.spec import Feature
from persopredict.measuring import Batch, Measuring
from persopredict.survey import Labels, Survey
from persopredict.targets import Affinity, Conversion
from persopredict.times import Duration

_UNDEFINED = np.float32("nan")
#: The columns of pairs that are no measures.
_WHO, _WHAT = "customer", "category"


@dataclass(frozen=True, eq=False)
class Taken:
    """The pairs that occurred within a label, ordered by customer and category."""

    customer: Codes
    category: Codes


@dataclass(frozen=True, eq=False)
class Reading:
    """A log, read for an affinity at some moments.

    `horizon`: the target's. `customer_id`: of each customer, shape (customers,). `categories`: the names, in order. `states`: by moment;
    none where labels alone were read. `taken`: by moment what was taken in its label, None where that has not ended in what was observed.
    `reasons`: by moment, codes of `outcomes.reasons`, shape (customers,). `features`: by moment, the values of the customers' own features,
    shape (customers, features).
    """

    horizon: Duration
    customer_id: NDArray[Any]
    categories: tuple[str, ...]
    states: Mapping[datetime, State]
    taken: Mapping[datetime, Taken | None]
    reasons: Mapping[datetime, NDArray[np.int8]]
    features: Mapping[datetime, Floats32]


def spans_of(horizon: Duration, number: int) -> Duration:
    """So many horizons."""
    return Duration(days=horizon.days * number, hours=horizon.hours * number)


def quarter_of(horizon: Duration) -> Duration:
    """A quarter of a horizon, at least an hour.

    >>> str(quarter_of(Duration(days=28))), str(quarter_of(Duration(days=30))), str(quarter_of(Duration(hours=2)))
    ('7d', '180h', '1h')
    """
    days, rest = divmod(horizon.days, 4)
    return max(Duration(days=days, hours=rest * 6 + horizon.hours // 4), Duration(hours=1), key=lambda length: length.approximate)


def measures_of(horizon: Duration) -> dict[str, Feature]:
    """What is measured of pairs and of trips, by name; see `pairs.Pairs`."""
    days = horizon.approximate.total_seconds() / 86_400
    half_lives = {name: max(1, round(horizons * days)) for name, horizons in HALF_LIVES.items()}
    return {
        OCCASIONS: Feature("count", fallback=0),
        QUARTER: Feature("count", window=quarter_of(horizon), fallback=0),
        **{within(number): Feature("count", window=spans_of(horizon, number), fallback=0) for number in range(1, SPANS + 1)},
        **{name: Feature("decayed_sum", half_life=Duration(days=length), fallback=0) for name, length in half_lives.items()},
        RECENCY: Feature("recency", fallback=None),
        TENURE: Feature("tenure", fallback=None),
        GAP: Feature("gap_mean", fallback=None),
        OVERDUE: Feature("overdue", fallback=None),
    }


def read(
    events: EventLog,
    target: Affinity,
    moments: Sequence[datetime],
    *,
    labelled: bool | Literal["only"] = False,
    until: datetime | None = None,
    features: Sequence[Feature] = (),
    chosen: Integers | None = None,
    categories: Sequence[str] | None = None,
) -> Reading:
    """Read the states at `moments`, ascending.

    Parameters
    ----------
    labelled : whether to read what was taken afterwards; "only": nothing else, but who was asked.
    until : labels count only what was known before it; default no limit.
    features : the customers' own.
    chosen : numbers of customers, ascending; default all.
    categories : the names to number the categories by, ascending, all that occur among them; default those that occur.
    """
    ids, reasons, values = _customers(events, target, moments, features)
    if chosen is not None:
        ids, reasons, values = ids[chosen], reasons[:, chosen], values[:, chosen]
    stated = labelled != "only"
    trips = _trips(events, target, moments, len(ids), chosen) if stated else []
    occasions = Occasions(events, target, by=target.by, chosen=chosen)
    names, category = _numbered(occasions, categories)
    asked = Conversion(EVENT, target.horizon, gap=target.gap)
    labels = Labels((asked,), until) if labelled else None
    found: list[list[dict[str, NDArray[Any]]]] = [[] for _ in moments]
    taken: list[list[tuple[Codes, Codes]]] = [[] for _ in moments]
    start = 0
    survey = _survey(occasions, target.horizon, moments, labels) if stated else Survey(occasions, [], cutoffs=moments, labels=labels)
    matured = survey.span_of(asked, survey.cutoffs)[2] & bool(labelled)
    for batch in Measuring(survey).batches():
        size = batch.measured.groups
        who, what = occasions.takers[start : start + size].astype(np.int32), category[start : start + size]
        start += size
        measured = _measured(batch, target.horizon) if stated else {}
        for number in range(len(moments)):
            if stated:
                known = measured[OCCASIONS][number] > 0
                held = {name: value[number, known] for name, value in measured.items()}
                found[number].append({_WHO: who[known], _WHAT: what[known], **held})
            if labelled:
                label = batch.labels[0][number]
                taken[number].append((who[label == 1], what[label == 1]))
    occasions.drop()
    days = target.horizon.approximate.total_seconds() / 86_400
    return Reading(
        target.horizon,
        ids,
        names,
        {
            moment: State(moment, days, len(ids), len(names), _joined(found[number]), trips[number], reasons[number] == 0)
            for number, moment in enumerate(moments)
            if stated
        },
        {moment: _all_taken(taken[number]) if matured[number] else None for number, moment in enumerate(moments)},
        dict(zip(moments, reasons, strict=True)),
        dict(zip(moments, values, strict=True)),
    )


def _survey(events: Occasions, horizon: Duration, moments: Sequence[datetime], labels: Labels | None = None) -> Survey:
    wanted = [need for feature in measures_of(horizon).values() for need in needs(feature, frozenset())]
    return Survey(events, wanted, cutoffs=moments, labels=labels)


def _measured(batch: Batch, horizon: Duration) -> dict[str, Floats32]:
    """All measures, each of shape (moments, owners)."""
    return {name: batch.measured.feature(feature, frozenset()).astype(np.float32) for name, feature in measures_of(horizon).items()}


def _numbered(occasions: Occasions, categories: Sequence[str] | None) -> tuple[tuple[str, ...], Codes]:
    """The names of the categories, and the number of each owner's."""
    names, category = occasions.categories
    if categories is None:
        return names, category
    place = {name: number for number, name in enumerate(categories)}
    return tuple(categories), np.array([place[name] for name in names], np.int32)[category]


def _joined(parts: Sequence[dict[str, NDArray[Any]]]) -> Pairs:
    """The pairs of all batches, which are emptied column by column: of many millions there is no room for two of each."""
    if not parts:
        nothing = np.empty(0, np.int32)
        return Pairs(nothing, nothing, {name: np.empty(0, np.float32) for name in measures_of(Duration(days=1))})
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in [*parts[0]]}
    return Pairs(columns.pop(_WHO), columns.pop(_WHAT), columns)


def _all_taken(parts: Sequence[tuple[Codes, Codes]]) -> Taken:
    """What was taken, of all batches."""
    nothing = np.empty(0, np.int32)
    return Taken(*(np.concatenate([nothing, *(part[side] for part in parts)]) for side in (0, 1)))


def _trips(
    events: EventLog, target: Affinity, moments: Sequence[datetime], customers: int, chosen: Integers | None
) -> list[dict[str, Floats32]]:
    """Occasions of any category, by moment."""
    occasions = Occasions(events, target, by=None, chosen=chosen)
    found: list[dict[str, Floats32]] = []
    for _ in moments:
        named = measures_of(target.horizon).items()
        found.append({name: np.full(customers, 0 if feature.fallback == 0 else _UNDEFINED, np.float32) for name, feature in named})
    start = 0
    for batch in Measuring(_survey(occasions, target.horizon, moments)).batches():
        who = occasions.takers[start : start + batch.measured.groups]
        start += batch.measured.groups
        for name, value in _measured(batch, target.horizon).items():
            for number in range(len(moments)):
                found[number][name][who] = value[number]
    occasions.drop()
    return found


def _customers(
    events: EventLog, target: Affinity, moments: Sequence[datetime], features: Sequence[Feature]
) -> tuple[NDArray[Any], NDArray[np.int8], Floats32]:
    """Ids, reasons (moments, customers), and features (moments, customers, features) of all customers of the log."""
    numeric = frozenset(events.numeric)
    wanted = [*outcomes.eligibility_needs([target]), *(need for feature in features for need in needs(feature, numeric))]
    ids: list[Any] = []
    reasons: list[NDArray[np.int8]] = []
    values: list[Floats32] = []
    survey = Survey(events, wanted, cutoffs=moments)
    for batch in Measuring(survey).batches():
        ids += batch.customers.to_pylist()
        reasons.append(outcomes.reasons(target, batch.measured.__getitem__))
        own = [batch.measured.feature(feature, numeric).astype(np.float32) for feature in features]
        values.append(np.stack(own, -1) if own else np.empty((*reasons[-1].shape, 0), np.float32))
    reason, value = np.concatenate(reasons, 1), np.concatenate(values, 1)
    if survey.own:
        # Facts that change make a group of each customer at each moment, in this order.
        ids = ids[:: len(moments)]
        shape = len(ids), len(moments)
        reason, value = reason.reshape(shape).T, value.reshape(*shape, len(features)).swapaxes(0, 1)
    return np.array(ids, object), reason, value
