"""How a set of features becomes SQL: a few named steps, each a pure function of the specs.

The log is read once per kind of aggregate into *cells*: one customer, one stretch of time so short that no boundary of any window falls
inside it. Sums, counts and extremes of cells add up to those of every window of every cutoff, so the events themselves are touched once,
however many windows and cutoffs there are. Three kinds of steps follow one pattern, cells then a roll-up onto the spine:

    events ─► cells ──────► rolled       counts, sums, extremes, first and last times
           ─► pairs_<n> ─► holds_<n> ─► distinct_<n>
                                        distinct values: a value counts in a window if its last occurrence before the cutoff lies in it
           ─► days_<n> ───► rhythm_<n>   gaps between active days

A cell carries two times: when its events happened and when the latest of them became known; both must lie before the cutoff (law 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd

from sqlglot import exp

from persopredict import conditions
from persopredict.engines.base import Step
from persopredict.engines.expressions import (
    MICROSECONDS_PER_DAY,
    both,
    case,
    cast_to,
    col,
    count,
    double,
    floor_to,
    func,
    lit,
    quotient,
    select,
    table,
    where,
)
from persopredict.features.spec import Feature
from persopredict.times import Duration

SPINE, CUTOFFS, EVENTS = "spine", "cutoffs", "events"
KEYS = ("customer_id", "cutoff_us")


def bound(window: Duration) -> str:
    """The column of the table `cutoffs` that holds the start of this window.

    >>> bound(Duration.parse("4w"))
    'from_28d'
    """
    return f"from_{window}"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a cell holds, and how cells add up: `kind` is one of `_MEASURES`."""

    kind: str
    column: str | None = None
    where: str | None = None


#: kind: (aggregate of events into a cell, aggregate of cells into a window)
_MEASURES: Mapping[str, tuple[str, str]] = {
    "count": ("COUNT", "SUM"),
    "known": ("COUNT", "SUM"),
    "sum": ("SUM", "SUM"),
    "micros": ("SUM", "SUM"),
    "squares": ("SUM", "SUM"),
    "min": ("MIN", "MIN"),
    "max": ("MAX", "MAX"),
    "first": ("MIN", "MIN"),
    "last": ("MAX", "MAX"),
}


def _cell_value(measure: Measure) -> exp.Expression:
    """The measure of one cell, over its events."""
    condition = None if measure.where is None else conditions.parse(measure.where)
    if measure.kind == "count":
        return count(condition)
    source: exp.Expression = col("event_us") if measure.kind in ("first", "last") else col(measure.column or "")
    if measure.kind in ("micros", "squares"):
        # Spreads come from exact integer moments: millionths, squared in 128 bits.
        source = cast_to(cast_to(source, "DECIMAL(24, 6)") * lit(1_000_000), "HUGEINT")
    if measure.kind == "squares":
        source = source * source.copy()
    return where(func(_MEASURES[measure.kind][0], source), condition)


def _window_value(measure: Measure, name: str, within: exp.Expression | None) -> exp.Expression:
    return where(func(_MEASURES[measure.kind][1], col(name, "cell")), within)


def within(window: Duration | None, time: exp.Expression) -> exp.Expression | None:
    """``time >= start of the window``; None for all time."""
    return None if window is None else exp.GTE(this=time, expression=col(bound(window), "bounds"))


@dataclass(frozen=True)
class Log:
    """What planning needs to know of a log: whether some events became known late, and its columns that hold numbers."""

    late: bool
    numeric: frozenset[str]


@dataclass
class Grid:
    """The length of a cell: the greatest step that every boundary is a multiple of, in microseconds."""

    step: int

    @classmethod
    def of(cls, boundaries: Sequence[int]) -> Grid:
        """The grid on which all boundaries lie.

        >>> Grid.of([86_400_000_000, 7 * 86_400_000_000]).step == 86_400_000_000
        True
        """
        return cls(max(1, reduce(gcd, boundaries, 0)))


def cells(
    name: str,
    grid: Grid,
    log: Log,
    *,
    keys: Mapping[str, exp.Expression],
    values: Mapping[str, exp.Expression],
    only: exp.Expression | None,
) -> Step:
    """Events grouped by customer, `keys` and cell: ``cell_us`` is when they happened, ``known_us`` when they were known, both floored."""
    floored = {"cell_us": floor_to(col("event_us"), grid.step)}
    if log.late:
        known = func("GREATEST", col("event_us"), func("COALESCE", col("known_us"), col("event_us")))
        floored["known_cell_us"] = floor_to(known, grid.step)
    query = select({"customer_id": col("customer_id"), **keys, **floored, **values}, EVENTS)
    if only is not None:
        query = query.where(only)
    grouped = [col("customer_id"), *keys.values(), *floored.values()]
    return Step(name, query.group_by(*(column.copy() for column in grouped), copy=False))


def on_spine(name: str, log: Log, columns: Mapping[str, exp.Expression], *, keys: Sequence[str] = (), spine: bool = True) -> exp.Select:
    """Cells joined to every cutoff that sees them, ready to be grouped; without a spine, every customer the cutoff knows."""
    known = col("known_cell_us" if log.late else "cell_us", "cell")
    seen = exp.LT(this=known, expression=col("cutoff_us", "bounds"))
    owner = "spine" if spine else "cell"
    start = {"customer_id": col("customer_id", owner), "cutoff_us": col("cutoff_us", "bounds"), **{key: col(key, "cell") for key in keys}}
    query = select({**start, **columns}, table(CUTOFFS, "bounds"))
    if spine:
        query = query.join(
            table(SPINE, "spine"), on=exp.EQ(this=col("cutoff_us", "spine"), expression=col("cutoff_us", "bounds")), copy=False
        )
        same = exp.EQ(this=col("customer_id", "cell"), expression=col("customer_id", "spine"))
        query = query.join(table(name, "cell"), on=exp.and_(same, seen), copy=False)
    else:
        query = query.join(table(name, "cell"), on=seen, copy=False)
    return query.group_by(*(column.copy() for column in start.values()), copy=False)


@dataclass
class Rollup:
    """Windowed measures over one table of cells, each asked for once and known by a column name."""

    log: Log
    measures: dict[Measure, str] = field(default_factory=dict)
    windowed: dict[tuple[Measure, Duration | None], str] = field(default_factory=dict)

    def ask(self, measure: Measure, window: Duration | None) -> exp.Expression:
        """The column that will hold the measure over the window."""
        self.measures.setdefault(measure, f"m{len(self.measures)}")
        return col(self.windowed.setdefault((measure, window), f"w{len(self.windowed)}"))

    def steps(self, grid: Grid, *, source: str, result: str, spine: bool = True) -> list[Step]:
        """The cells, then their roll-up."""
        values = {name: _cell_value(measure) for measure, name in self.measures.items()}
        rolled = {
            name: _window_value(measure, self.measures[measure], within(window, col("cell_us", "cell")))
            for (measure, window), name in self.windowed.items()
        }
        return [
            cells(source, grid, self.log, keys={}, values=values, only=None),
            Step(result, on_spine(source, self.log, rolled, spine=spine), drops=(source,)),
        ]


@dataclass
class Distinct:
    """Distinct values of one column under one condition, over several windows."""

    column: str
    condition: str | None
    windows: dict[Duration | None, str] = field(default_factory=dict)

    def ask(self, window: Duration | None, prefix: str) -> exp.Expression:
        """The column that will hold the number of distinct values in the window."""
        return col(self.windows.setdefault(window, f"{prefix}w{len(self.windows)}"))

    def steps(self, number: int, grid: Grid, log: Log) -> list[Step]:
        """Pairs of customer and value by cell; for each cutoff the last cell of each pair; how many of those lie in each window.

        Most pairs stay as they are from one cutoff to the next, so they are not spread over all cutoffs and grouped again: each occurrence
        that is a pair's last holds from the first cutoff that sees it until a later one is seen (`holds`).
        """
        present = exp.Not(this=exp.Is(this=col(self.column), expression=exp.null()))
        only = both([present, None if self.condition is None else conditions.parse(self.condition)])
        pairs = cells(f"pairs_{number}", grid, log, keys={"entry": col(self.column)}, values={}, only=only)
        holds = Step(f"holds_{number}", _holding(pairs.name, log), drops=(pairs.name,))
        counts = {name: count(within(window, col("last_us", "holds"))) for window, name in self.windows.items()}
        return [pairs, holds, Step(f"distinct_{number}", _on_held(holds.name, counts), drops=(holds.name,))]


def _holding(pairs: str, log: Log) -> exp.Select:
    """For each pair: from which cutoff to before which its last occurrence is in which cell."""
    known = "known_cell_us" if log.late else "cell_us"
    instants = select({"known_us": col(known)}, pairs).distinct().subquery("instants")
    sees = exp.LT(this=col("known_us", "instants"), expression=col("cutoff_us", "bounds"))
    first = select({"known_us": col("known_us", "instants"), "first_us": func("MIN", col("cutoff_us", "bounds"))}, instants)
    first = first.join(table(CUTOFFS, "bounds"), on=sees).group_by(col("known_us", "instants"))
    keys = {"customer_id": col("customer_id", "pair"), "entry": col("entry", "pair"), "first_us": col("first_us", "sight")}
    seen = select({**keys, "last_us": func("MAX", col("cell_us", "pair"))}, table(pairs, "pair"))
    seen = seen.join(first.subquery("sight"), on=exp.EQ(this=col("known_us", "sight"), expression=col(known, "pair")))
    seen = seen.group_by(*(column.copy() for column in keys.values()))

    def over(value: exp.Expression) -> exp.Expression:
        order = exp.Order(expressions=[exp.Ordered(this=col("first_us"), nulls_first=False)])
        return exp.Window(this=value, partition_by=[col("customer_id"), col("entry")], order=order)

    # An occurrence that became known late may lie before one that was known already: the running maximum keeps the later.
    spans: dict[str, exp.Expression] = {"last_us": over(func("MAX", col("last_us"))), "next_us": over(func("LEAD", col("first_us")))}
    columns: dict[str, exp.Expression] = {"customer_id": col("customer_id"), "first_us": col("first_us"), **spans}
    return select(columns, seen.subquery("seen"))


def _on_held(holds: str, counts: Mapping[str, exp.Expression]) -> exp.Select:
    """The spine's rows with what each of their customers' pairs holds at the cutoff, grouped."""
    keys = {key: col(key, SPINE) for key in KEYS}
    at = col("cutoff_us", SPINE)
    until = exp.or_(exp.Is(this=col("next_us", "holds"), expression=exp.null()), exp.LT(this=at, expression=col("next_us", "holds")))
    held = exp.and_(
        exp.EQ(this=col("customer_id", "holds"), expression=col("customer_id", SPINE)),
        exp.LTE(this=col("first_us", "holds"), expression=at.copy()),
        until,
    )
    columns: dict[str, exp.Expression] = {**keys, **counts}
    query = select(columns, table(SPINE))
    query = query.join(table(CUTOFFS, "bounds"), on=exp.EQ(this=col("cutoff_us", "bounds"), expression=at.copy()))
    return query.join(table(holds, "holds"), on=held).group_by(*(column.copy() for column in keys.values()))


@dataclass
class Rhythm:
    """Gaps between active days under one condition, over several windows: exact sums of days and of squared days."""

    condition: str | None
    windows: dict[Duration | None, str] = field(default_factory=dict)

    def ask(self, window: Duration | None, prefix: str) -> tuple[exp.Expression, ...]:
        """Columns: number of gaps, their sum, their sum of squares, days since the last active day."""
        name = self.windows.setdefault(window, f"{prefix}w{len(self.windows)}")
        return tuple(col(f"{name}_{part}") for part in ("n", "sum", "squares", "since"))

    def steps(self, number: int, grid: Grid, log: Log) -> list[Step]:
        """Active days by cell; those each cutoff sees; the gap from each to the one before; sums over the windows that hold both ends."""
        only = None if self.condition is None else conditions.parse(self.condition)
        days = cells(f"days_{number}", grid, log, keys={"day": col("day")}, values={}, only=only)
        seen = on_spine(days.name, log, {"last_us": func("MAX", col("cell_us", "cell"))}, keys=["day"]).subquery("seen")
        before = {"before": "day", "before_us": "last_us"}
        order = exp.Order(expressions=[exp.Ordered(this=col("day"), nulls_first=False)])
        lagged = {
            name: exp.Window(this=func("LAG", col(source)), partition_by=[col(key) for key in KEYS], order=order.copy())
            for name, source in before.items()
        }
        gaps = select({**{name: col(name) for name in (*KEYS, "day", "last_us")}, **lagged}, seen).subquery("gap")
        length = cast_to(exp.paren(col("day", "gap") - col("before", "gap")), "BIGINT")
        sums: dict[str, exp.Expression] = {}
        for window, name in self.windows.items():
            inside = within(window, col("before_us", "gap"))
            held = both([exp.Not(this=exp.Is(this=col("before_us", "gap"), expression=exp.null())), inside])
            sums[f"{name}_n"] = count(held)
            sums[f"{name}_sum"] = where(func("SUM", length.copy()), held)
            sums[f"{name}_squares"] = where(func("SUM", length.copy() * length.copy()), held)
            since = exp.paren(col("cutoff_day", "bounds") - col("day", "gap"))
            sums[f"{name}_since"] = where(func("MIN", since), within(window, col("last_us", "gap")))
        return [days, Step(f"rhythm_{number}", _per_key(gaps, "gap", sums), drops=(days.name,))]


def _per_key(source: exp.Expression, alias: str, columns: Mapping[str, exp.Expression]) -> exp.Select:
    """Group by customer and cutoff, with the cutoff's bounds at hand."""
    keys = {key: col(key, alias) for key in KEYS}
    same = exp.EQ(this=col("cutoff_us", "bounds"), expression=col("cutoff_us", alias))
    query = select({**keys, **columns}, source).join(table(CUTOFFS, "bounds"), on=same, copy=False)
    return query.group_by(*(column.copy() for column in keys.values()), copy=False)


class FeaturePlan:
    """The steps that compute a set of features, and the columns that they end in."""

    def __init__(self, features: Sequence[Feature], log: Log) -> None:
        self.log = log
        self._rollup = Rollup(log)
        self._distinct: dict[tuple[str, str | None], Distinct] = {}
        self._rhythm: dict[str | None, Rhythm] = {}
        self.columns = {feature.name: self._finished(feature) for feature in features}

    def _finished(self, feature: Feature) -> exp.Expression:
        """The feature as double, its fallback where it is undefined."""
        value = double(getattr(self, f"_value_{feature.aggregate}")(feature))
        return value if feature.fallback is None else func("COALESCE", value, double(lit(feature.fallback)))

    def steps(self, grid: Grid) -> list[Step]:
        """All steps, in order."""
        found = self._rollup.steps(grid, source="cells", result="rolled") if self._rollup.measures else []
        for number, distinct in enumerate(self._distinct.values()):
            found += distinct.steps(number, grid, self.log)
        for number, rhythm in enumerate(self._rhythm.values()):
            found += rhythm.steps(number, grid, self.log)
        return found

    def results(self) -> list[str]:
        """The tables, keyed by customer and cutoff, that `columns` read."""
        rolled = ["rolled"] if self._rollup.measures else []
        return [*rolled, *(f"distinct_{n}" for n in range(len(self._distinct))), *(f"rhythm_{n}" for n in range(len(self._rhythm)))]

    # `_value_<aggregate>`: its value from windowed measures, null where undefined ------------------------------------------------

    def _ask(
        self, feature: Feature, kind: str, column: str | None = None, *, anywhere: bool = False, window: Duration | None = None
    ) -> exp.Expression:
        measure = Measure(kind, column, None if anywhere else feature.where)
        return self._rollup.ask(measure, window or feature.window)

    def _value_count(self, feature: Feature) -> exp.Expression:
        return func("NULLIF", self._ask(feature, "count"), lit(0))

    def _value_sum(self, feature: Feature) -> exp.Expression:
        return self._ask(feature, "sum", feature.columns[0])

    def _value_mean(self, feature: Feature) -> exp.Expression:
        return quotient(self._value_sum(feature), self._ask(feature, "known", feature.columns[0]))

    def _value_min(self, feature: Feature) -> exp.Expression:
        return self._ask(feature, "min", feature.columns[0])

    def _value_max(self, feature: Feature) -> exp.Expression:
        return self._ask(feature, "max", feature.columns[0])

    def _value_std(self, feature: Feature) -> exp.Expression:
        column = feature.columns[0]
        number, total, squares = (self._ask(feature, kind, column) for kind in ("known", "micros", "squares"))
        return quotient(_deviation(number, total, squares), lit(1e6))

    def _distinct_of(self, column: str, feature: Feature) -> exp.Expression:
        key = (column, feature.where)
        found = self._distinct.setdefault(key, Distinct(*key))
        return func("NULLIF", found.ask(feature.window, f"d{list(self._distinct).index(key)}"), lit(0))

    def _value_distinct(self, feature: Feature) -> exp.Expression:
        return self._distinct_of(feature.columns[0], feature)

    def _value_share(self, feature: Feature) -> exp.Expression:
        kind, column = ("sum", feature.columns[0]) if feature.columns else ("count", None)
        part = func("COALESCE", double(self._ask(feature, kind, column)), lit(0.0))
        return quotient(part, self._ask(feature, kind, column, anywhere=True))

    def _value_ratio(self, feature: Feature) -> exp.Expression:
        upper, lower = feature.columns
        below = self._ask(feature, "sum", lower) if lower in self.log.numeric and lower != "day" else self._distinct_of(lower, feature)
        return quotient(self._ask(feature, "sum", upper), below)

    def _value_trend(self, feature: Feature) -> exp.Expression:
        assert feature.window is not None
        kind, column = ("sum", feature.columns[0]) if feature.columns else ("count", None)
        recent = func("COALESCE", self._ask(feature, kind, column, window=feature.window.half()), lit(0))
        whole = self._ask(feature, kind, column)
        # Subtracted as exact decimals: halves of large totals differ by less than a double can hold.
        return quotient(exp.paren(recent + recent.copy() - whole), whole.copy())

    def _value_recency(self, feature: Feature) -> exp.Expression:
        return _days(col("cutoff_us", SPINE) - self._ask(feature, "last"))

    def _value_tenure(self, feature: Feature) -> exp.Expression:
        return _days(col("cutoff_us", SPINE) - self._ask(feature, "first"))

    def _gaps(self, feature: Feature) -> tuple[exp.Expression, ...]:
        found = self._rhythm.setdefault(feature.where, Rhythm(feature.where))
        return found.ask(feature.window, f"g{list(self._rhythm).index(feature.where)}")

    def _value_gap_mean(self, feature: Feature) -> exp.Expression:
        number, total, _, _ = self._gaps(feature)
        return quotient(total, number)

    def _value_gap_std(self, feature: Feature) -> exp.Expression:
        number, total, squares, _ = self._gaps(feature)
        return _deviation(number, total, squares)

    def _value_overdue(self, feature: Feature) -> exp.Expression:
        number, total, _, since = self._gaps(feature)
        return quotient(double(since) * double(number), total)


def _deviation(number: exp.Expression, total: exp.Expression, squares: exp.Expression) -> exp.Expression:
    """Sample standard deviation from integer moments, about the whole part m of the mean, with r = Σx − n m.

    Σ(x − m)² = Σx² − m (Σx + r) is exact, so nothing cancels, and no product is larger than the moments themselves.
    """
    n, s, q = (cast_to(part, "HUGEINT") for part in (number, total, squares))
    m = exp.paren(exp.IntDiv(this=s, expression=func("NULLIF", n, lit(0))))
    r = exp.paren(s.copy() - exp.paren(m * n.copy()))
    about_m = exp.paren(q - exp.paren(m.copy() * exp.paren(s.copy() + r)))
    spread = exp.paren(double(about_m) - exp.paren(quotient(exp.paren(double(r.copy()) * double(r.copy())), n.copy())))
    variance = quotient(spread, exp.paren(n.copy() - lit(1)))
    return case([(exp.GT(this=number.copy(), expression=lit(1)), func("SQRT", variance))])


def _days(microseconds: exp.Expression) -> exp.Expression:
    return quotient(exp.paren(microseconds), lit(MICROSECONDS_PER_DAY))
