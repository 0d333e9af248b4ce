"""The independent oracle: every aggregate, lookup, eligibility and label as a slow, obvious loop over one customer's rows.

Written from the laws and the specifications, not from the engines. A row is a dict: `at` and `known` (aware UTC, `known` may be None),
and the columns of the common model; numbers are `Decimal`. Arithmetic is exact (`Fraction`) until the end.
"""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise

from sqlglot import exp, parse_one

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1) // MICROSECOND


# Time ---------------------------------------------------------------------------------------------------------------------------


def later(moment, duration, zone):
    """Days move the clock on the wall of `zone`, hours are elapsed hours."""
    return _moved(moment, duration, zone, 1)


def earlier(moment, duration, zone):
    return _moved(moment, duration, zone, -1)


def _moved(moment, duration, zone, sign):
    if duration.days:
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        midnight = datetime(wall.year, wall.month, wall.day)
        if _instant(midnight, zone) == moment:
            # Where daylight saving skips midnight, the day's first instant is its midnight.
            wall = midnight
        moment = _instant(wall + sign * timedelta(days=duration.days), zone)
    return moment + sign * timedelta(hours=duration.hours)


def _instant(wall, zone):
    return wall.replace(tzinfo=zone).astimezone(UTC)


def day_of(moment, zone):
    """Number of the local day, 1970-01-01 being 0."""
    return (moment.astimezone(zone).date() - datetime(1970, 1, 1).date()).days


def known(row):
    return row["at"] if row["known"] is None else row["known"]


def seen(rows, cutoff):
    """What had happened and was known before the cutoff."""
    return [row for row in rows if row["at"] < cutoff and known(row) < cutoff]


def column_of(row, name, zone):
    local = row["at"].astimezone(zone)
    calendar = {"day": day_of(row["at"], zone), "hour": local.hour, "weekday": local.isoweekday()}
    return calendar[name] if name in calendar else row[name]


# Lookups ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """A lookup's rows: each a dict of `key`, `valid_from`, `known_at` (both aware UTC, or None) and the facts."""

    key: str
    columns: tuple[str, ...]
    rows: tuple[dict, ...] = field(repr=False)


def joined(rows, lookups, cutoff):
    """The rows with the facts of each lookup as they stood at the cutoff, whenever the row itself happened."""
    return [row | {name: value for facts in lookups for name, value in standing(facts, row[facts.key], cutoff).items()} for row in rows]


def standing(facts, key, cutoff):
    """The facts of a key at the cutoff: of the rows valid and known before it the one valid latest, of those the one known latest.

    Of rows that differ in nothing else, that whose facts come last, a null first.
    """
    best, best_rank = dict.fromkeys(facts.columns), None
    for row in facts.rows:
        valid, told = row["valid_from"], row["valid_from"] if row["known_at"] is None else row["known_at"]
        if key is None or row["key"] != key or any(moment is not None and moment >= cutoff for moment in (valid, told)):
            continue
        rank = [(value is not None, value) for value in (valid, told, *(row[name] for name in facts.columns))]
        if best_rank is None or rank > best_rank:
            best, best_rank = {name: row[name] for name in facts.columns}, rank
    return best


# Conditions: True, False or None (unknown) -----------------------------------------------------------------------------------------


def holds(condition, row, zone):
    """Whether the row counts: an unknown row does not."""
    return condition is None or _truth(_parsed(condition), row, zone) is True


@lru_cache
def _parsed(condition):
    return parse_one(condition, dialect="duckdb")


def _truth(node, row, zone):
    if isinstance(node, exp.Paren):
        return _truth(node.this, row, zone)
    if isinstance(node, exp.And | exp.Or):
        sides = [_truth(node.left, row, zone), _truth(node.right, row, zone)]
        decisive = isinstance(node, exp.Or)
        return decisive if decisive in sides else None if None in sides else not decisive
    if isinstance(node, exp.Not):
        inner = _truth(node.this, row, zone)
        return None if inner is None else not inner
    if isinstance(node, exp.Is):
        return _scalar(node.this, row, zone) is None
    if isinstance(node, exp.In):
        return _any(_compared(exp.EQ, node.this, other, row, zone) for other in node.expressions)
    if isinstance(node, exp.Between):
        sides = [_compared(exp.GTE, node.this, node.args["low"], row, zone), _compared(exp.LTE, node.this, node.args["high"], row, zone)]
        return False if False in sides else None if None in sides else True
    return _compared(type(node), node.this, node.expression, row, zone)


def _any(truths):
    found = list(truths)
    return True if True in found else None if None in found else False


def _compared(kind, left, right, row, zone):
    a, b = _scalar(left, row, zone), _scalar(right, row, zone)
    if a is None or b is None:
        return None
    return {exp.EQ: a == b, exp.NEQ: a != b, exp.LT: a < b, exp.LTE: a <= b, exp.GT: a > b, exp.GTE: a >= b}[kind]


def _scalar(node, row, zone):
    if isinstance(node, exp.Paren):
        return _scalar(node.this, row, zone)
    if isinstance(node, exp.Column):
        return column_of(row, node.name, zone)
    if isinstance(node, exp.Neg):
        return -_scalar(node.this, row, zone)
    if isinstance(node, exp.Null):
        return None
    return node.name if node.is_string else Decimal(node.name)


# Features --------------------------------------------------------------------------------------------------------------------------


def feature_value(feature, rows, cutoff, zone, numeric=("value", "quantity", "hour", "weekday", "day")):
    """The feature over one customer's rows (with facts if there are lookups): a float, or None."""
    start = None if feature.window is None else earlier(cutoff, feature.window, zone)
    window = [row for row in seen(rows, cutoff) if start is None or row["at"] >= start]
    chosen = [row for row in window if holds(feature.where, row, zone)]
    find = _AGGREGATES[feature.aggregate]
    found = find(_Question(feature, window, chosen, cutoff, zone, numeric))
    return feature.fallback if found is None else float(found)


class _Question:
    def __init__(self, feature, window, chosen, cutoff, zone, numeric):
        self.feature, self.window, self.chosen, self.cutoff, self.zone, self.numeric = feature, window, chosen, cutoff, zone, numeric

    def values(self, place=0, rows=None):
        name = self.feature.columns[place]
        found = [column_of(row, name, self.zone) for row in (self.chosen if rows is None else rows)]
        return [Fraction(value) if name in self.numeric else value for value in found if value is not None]

    def size(self, rows):
        """Events, or the sum of the column; None if there is nothing to add."""
        if not self.feature.columns:
            return len(rows) or None
        return _sum(self.values(rows=rows))

    def active_days(self):
        return sorted({day_of(row["at"], self.zone) for row in self.chosen})


def _sum(values):
    return sum(values) if values else None


def _mean(values):
    return Fraction(sum(values)) / len(values) if values else None


def _std(values):
    if len(values) < 2:
        return None
    mean = _mean(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance)


def _over(part, whole):
    return None if part is None or not whole else Fraction(part) / Fraction(whole)


def _distinct(q):
    return len(set(q.values())) or None


def _share(q):
    return _over(q.size(q.chosen) or 0, q.size(q.window))


def _ratio(q):
    per, name = q.values(1), q.feature.columns[1]
    return _over(_sum(q.values(0)), _sum(per) if name in q.numeric and name != "day" else len(set(per)))


def _trend(q):
    middle = earlier(q.cutoff, q.feature.window.half(), q.zone)
    recent = q.size([row for row in q.chosen if row["at"] >= middle]) or 0
    before = q.size([row for row in q.chosen if row["at"] < middle]) or 0
    return _over(recent - before, q.size(q.chosen))


def _days_since(q, which):
    return Fraction((q.cutoff - which(row["at"] for row in q.chosen)) // MICROSECOND, DAY) if q.chosen else None


def _gaps(q):
    return [b - a for a, b in pairwise(q.active_days())]


@cache
def weight(age, half_life):
    """2 ** (-age / half_life), both in whole days, computed with 60 digits and rounded half-even to 15 decimals."""
    with localcontext(prec=60):
        return Fraction((Decimal(2) ** (Decimal(-age) / half_life)).quantize(Decimal("1e-15"), ROUND_HALF_EVEN))


def _decayed_sum(q):
    today, total, found = day_of(q.cutoff, q.zone), Fraction(0), False
    for row in q.chosen:
        (value,) = q.values(rows=[row]) or (None,) if q.feature.columns else (1,)
        if value is not None:
            total, found = total + value * weight(max(0, today - day_of(row["at"], q.zone)), q.feature.half_life.days), True
    return total if found else None


def _edge(q, which, of_several):
    """The column at the earliest or latest event that has it; of several at that instant the smallest or largest."""
    having = [row for row in q.chosen if q.values(rows=[row])]
    edge = which((row["at"] for row in having), default=None)
    return of_several(q.values(rows=[row for row in having if row["at"] == edge]), default=None)


def _overdue(q):
    days = q.active_days()
    return _over(day_of(q.cutoff, q.zone) - days[-1], _mean(_gaps(q))) if len(days) > 1 else None


_AGGREGATES = {
    "count": lambda q: len(q.chosen) or None,
    "sum": lambda q: _sum(q.values()),
    "mean": lambda q: _mean(q.values()),
    "min": lambda q: min(q.values(), default=None),
    "max": lambda q: max(q.values(), default=None),
    "std": lambda q: _std(q.values()),
    "distinct": _distinct,
    "share": _share,
    "ratio": _ratio,
    "trend": _trend,
    "recency": lambda q: _days_since(q, max),
    "tenure": lambda q: _days_since(q, min),
    "gap_mean": lambda q: _mean(_gaps(q)),
    "gap_std": lambda q: _std(_gaps(q)),
    "overdue": _overdue,
    "decayed_sum": _decayed_sum,
    "first": lambda q: _edge(q, min, min),
    "last": lambda q: _edge(q, max, max),
}


# Targets ---------------------------------------------------------------------------------------------------------------------------


def reason(target, rows, cutoff, zone):
    """Why the customer is not asked at the cutoff; None if they are."""
    before = seen(rows, cutoff)
    if not before:
        return "no_history"
    if target.cohort is not None and not any(holds(target.cohort, row, zone) for row in before):
        return "not_in_cohort"
    if target.type == "conversion" and target.once and any(_outcome(target, row, zone) for row in before):
        return "already_converted"
    if target.type == "cancellation" and not _running(target, before, zone):
        return "not_active"
    return None if _active(target, before, cutoff, zone) else "not_active"


def _active(target, before, cutoff, zone):
    """Some event, in the window if there is one; for churn, the event that one can stay away from."""
    acts = [row for row in before if target.type != "churn" or _outcome(target, row, zone)]
    if target.active_within is not None:
        start = earlier(cutoff, target.active_within, zone)
        acts = [row for row in acts if row["at"] >= start]
    return bool(acts)


def _running(target, before, zone):
    """With starts: started, and no end later than the last start. Without: never ended."""
    ends = [row["at"] for row in before if _end(target, row, zone)]
    if not target.start_names:
        return not ends
    starts = [row["at"] for row in before if row["event"] in target.start_names]
    if not starts:
        return False
    return not any(end > max(starts) or end == max(starts) == min(starts) for end in ends)


def _outcome(target, row, zone):
    return row["event"] in target.event_names and holds(target.where, row, zone)


def _end(target, row, zone):
    return _outcome(target, row, zone) or row["event"] in target.competing


def label(target, rows, cutoff, zone, observed, until=None):
    """1, 0, or None where the label had not ended in what was observed (or by `until`), or a contract ended within the gap."""
    start = later(cutoff, target.gap, zone)
    end = later(start, target.horizon, zone)
    if not (observed[0] <= cutoff and end <= observed[1] and (until is None or end <= until)):
        return None
    known_rows = [row for row in rows if until is None or known(row) < until]
    within = [row for row in known_rows if start <= row["at"] < end]
    if target.type == "conversion":
        return int(any(_outcome(target, row, zone) for row in within))
    if target.type == "churn":
        return int(not any(_outcome(target, row, zone) for row in within))
    if any(cutoff <= row["at"] < start and _end(target, row, zone) for row in known_rows):
        return None
    ends = sorted((row["at"], row["event"] in target.competing) for row in within if _end(target, row, zone))
    # At the same instant the event itself decides.
    return int(bool(ends) and not ends[0][1])
