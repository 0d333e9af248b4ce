"""How needs become SQL: a few named steps, each a pure function of the specs.

The log lies in order of its customers. Everything is asked for one range of customers at a time, so that memory stays bounded whatever the
log's size, and what comes back are compact aggregates, never events:

    events ─► grouped ─┬─► cells        counts, sums, extremes, first and last, active days of each cell (`fold` does the rest)
                       ├─► distinct_<n>  in which cells different values occur, and how many values share a pattern
                       └─► decayed       values times their weights, from a table by days of age

A *group* is a customer where all share the cutoffs, or a spine row where each has its own; `grouped` is the only place that knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp

from persopredict import conditions
from persopredict.engines.base import Step
from persopredict.engines.expressions import (
    DECIMAL,
    both,
    case,
    cast_to,
    col,
    count,
    every,
    floor_to,
    func,
    lit,
    parameter,
    select,
    table,
    where,
)
from persopredict.features.edges import SharedEdges
from persopredict.features.fold import BLOCK
from persopredict.features.measures import MILLION, WORD, Asked, Measure, Window
from persopredict.features.spec import CALENDAR
from persopredict.lookups import JoinedLookup
from persopredict.sources import CUSTOMER
from persopredict.times import Duration

EVENTS, ROWS, WEIGHTS = "events", "rows", "weights"
# Columns of ours have a space in their names: no column of a log has.
GROUP, CELL, SEEN, WEIGHED = "group number", "cell number", "first seen", "weighing day"
#: The range of customers that a step is asked for, both ends included.
LOW, HIGH = "low", "high"

#: One digit more than 64 bits hold: what is multiplied with it is multiplied in 128 bits.
_WIDE = "DECIMAL(19, 0)"


@dataclass(frozen=True)
class Log:
    """What planning needs to know of a log: whether some events became known late, its numeric columns, its lookups, its table."""

    late: bool
    numeric: frozenset[str]
    lookups: tuple[JoinedLookup, ...] = ()
    table: str = EVENTS

    def timed(self, columns: Iterable[str]) -> bool:
        """Whether one of the columns is a fact that depends on the cutoff."""
        facts = {name for lookup in self.lookups if lookup.versioned for name in lookup.columns}
        return not facts.isdisjoint(columns)


def _tree(edges: Sequence[exp.Expression], first: int = 0, last: int | None = None) -> exp.Expression:
    """How many of the ascending edges are not after the event, by halving: a few comparisons an event, however many edges there are."""
    last = len(edges) if last is None else last
    if first == last:
        return lit(first)
    middle = (first + last) // 2
    before = exp.LT(this=col("event_us"), expression=edges[middle].copy())
    return case([(before, _tree(edges, first, middle))], _tree(edges, middle + 1, last))


class CellQueries:
    """The steps that measure one range of customers, for needs over shared cutoffs or over a spine's rows.

    Parameters
    ----------
    asked : what is needed.
    log : what is known of the log.
    edges : of the shared cutoffs; for rows with edges of their own, how many each has (the table `rows` holds them).
    weights : the table of weights.
    suffix : of the names of tables that are made for one run.
    """

    def __init__(self, asked: Asked, log: Log, edges: SharedEdges | int, *, weights: str = WEIGHTS, suffix: str = "") -> None:
        self.asked, self.log, self.edges, self.weights, self._suffix = asked, log, edges, weights, suffix

    def stored(self, name: str) -> str:
        """The name under which the engine holds a table of this run: two runs over one log must not read one another's."""
        return f"{name}{self._suffix}"

    @property
    def shared(self) -> SharedEdges | None:
        """The edges that all customers share, if they do."""
        return self.edges if isinstance(self.edges, SharedEdges) else None

    @property
    def cutoffs(self) -> int:
        """How many cutoffs each group has."""
        return len(self.shared.reaches) if self.shared else 1

    def cutoff_us(self, number: int) -> int:
        """A shared cutoff."""
        assert self.shared is not None
        return self.shared.edges[self.shared.reaches[number].cells - 1]

    @cached_property
    def _flags(self) -> Mapping[str, str]:
        """Each condition is read once, as a column of its own."""
        return {text: f"if {number}" for number, text in enumerate(self.asked.conditions)}

    def _flag(self, text: str | None) -> exp.Expression | None:
        return None if text is None else col(self._flags[text])

    def steps(self) -> list[Step]:
        """All of them; each is a query with the parameters `LOW` and `HIGH`."""
        found = [self.cells()] if self.asked.measures else []
        found += [self.distinct(number) for number in range(len(self.asked.distincts))]
        return [*found, self.decayed()] if self.asked.decays else found

    # Where groups come from -------------------------------------------------------------------------------------------------------

    def events(self, columns: Sequence[str], *, seen: bool, rows: Iterable[str] = ()) -> exp.Select:
        """The events of the range, each once for every group it belongs to: group, time, and the columns asked for, facts included.

        `seen` leaves only what some cutoff sees; `rows` are further columns of a spine's rows.
        """
        facts = {name: lookup for lookup in self.log.lookups for name in lookup.columns}
        happened, known = col("event_us", EVENTS), col("event_us", EVENTS)
        if self.log.late:
            known = func("GREATEST", happened, func("COALESCE", col("known_us", EVENTS), happened.copy()))  # type: ignore[assignment]
        chosen: dict[str, exp.Expression] = {
            GROUP: col(CUSTOMER, EVENTS) - parameter(LOW) if self.shared else col(GROUP, ROWS),
            "event_us": happened,
            "known_us": known,
            **{name: col(name, facts[name].table if name in facts else EVENTS) for name in columns},
        }
        if self.shared is None:
            chosen |= {name: col(name, ROWS) for name in (*self.row_columns, *rows)}
        query = select(chosen, table(self.log.table, EVENTS))
        if self.shared is None:
            same = exp.EQ(this=col(CUSTOMER, ROWS), expression=col(CUSTOMER, EVENTS))
            query = query.join(table(self.stored(ROWS), ROWS), on=same, copy=False)
        for lookup in dict.fromkeys(facts[name] for name in columns if name in facts):
            found = lookup.matches(EVENTS)
            if lookup.versioned:
                found = every(found, lookup.in_force(col("cutoff_us", ROWS)))
            query = query.join(table(lookup.table), on=found, join_type="left", copy=False)
        query = query.where(exp.Between(this=col(CUSTOMER, EVENTS), low=parameter(LOW), high=parameter(HIGH)), copy=False)
        if seen:
            last = lit(self.cutoff_us(-1)) if self.shared else col("cutoff_us", ROWS)
            query = query.where(exp.LT(this=known.copy(), expression=last), copy=False)
        return query

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns of `rows`, customer and group apart."""
        return ("cutoff_us", "cutoff_day", *self._edge_columns, *self._start_columns.values())

    def grouped(self) -> exp.Subquery:
        """The events of the range that some cutoff sees, with their group, their cell and the conditions as columns."""
        asked = self.asked
        read = tuple(dict.fromkeys((*asked.natural, *asked.numbers)))
        placed: dict[str, exp.Expression] = {name: col(name) for name in (GROUP, "event_us", *read)}
        placed |= {flag: conditions.parse(text) for text, flag in self._flags.items()}
        placed[CELL] = cast_to(_tree(self._edges()), "SMALLINT")
        if asked.decays:
            placed[WEIGHED] = col("day") if self.shared else col("cutoff_day") - col("day")
        if self.shared is None:
            placed |= {name: col(name) for name in self._start_columns.values()}
        if self.log.late and self.shared:
            placed |= {"known_us": col("known_us")}
            placed[SEEN] = self._seen(self.shared)
        coded = dict.fromkeys(part.column for part in asked.coded)
        placed |= {code_column(name): col("its code", codes_table(name)) for name in coded}
        query = select(placed, self.events(read, seen=True).subquery("inside"))
        for name in coded:
            same = exp.EQ(this=col("its entry", codes_table(name)), expression=col(name, "inside"))
            query = query.join(table(self.stored(codes_table(name)), codes_table(name)), on=same, join_type="left", copy=False)
        return query.subquery("grouped")

    @property
    def _edge_columns(self) -> tuple[str, ...]:
        return () if isinstance(self.edges, SharedEdges) else tuple(edge_column(number) for number in range(self.edges))

    @cached_property
    def _start_columns(self) -> Mapping[Window, str]:
        """In a spine's rows: the columns that hold the first cell of each window."""
        return {window: start_column(window) for window in self.asked.windows if window is not None}

    def _edges(self) -> list[exp.Expression]:
        return [lit(edge) for edge in self.shared.edges] if self.shared else [col(name) for name in self._edge_columns]

    def _seen(self, shared: SharedEdges) -> exp.Expression:
        """The number of the first cutoff that sees the event."""
        cutoffs = range(len(shared.reaches))
        branches = [(exp.LT(this=col("known_us"), expression=lit(self.cutoff_us(number))), lit(number)) for number in cutoffs]
        return cast_to(case(branches), "SMALLINT")

    # What is measured ---------------------------------------------------------------------------------------------------------------

    def cells(self) -> Step:
        """The measures of each group's cells."""
        keys = [GROUP, CELL, *([SEEN] if self.log.late and self.shared else [])]
        values = {f"m{number}": self._cell_value(measure) for number, measure in enumerate(self.asked.measures)}
        query = select({**{key: col(key, "grouped") for key in keys}, **values}, self.grouped())
        return Step("cells", query.group_by(*(col(key, "grouped") for key in keys), copy=False))

    def _cell_value(self, measure: Measure) -> exp.Expression:
        condition = self._flag(measure.where)
        held = exact(measure.column) if measure.column is not None else exp.null()
        if measure.kind == "count":
            return count(condition)
        if measure.kind == "values":
            code = col(code_column(measure.column or ""))
            here = exp.Between(this=code, low=lit(measure.word * WORD), high=lit(measure.word * WORD + WORD - 1))
            return func(
                "COALESCE", where(func("BIT_OR", _bit(exp.Mod(this=code.copy(), expression=lit(WORD)))), both([here, condition])), lit(0)
            )
        if measure.kind == "days":
            bit = _bit(col("day") - floor_to(col("day"), BLOCK))
            return func("COALESCE", where(func("BIT_OR", bit), condition), lit(0))
        value = where(_CELL_VALUES[measure.kind](held), condition)
        return func("COALESCE", value, lit(0)) if measure.kind in ("sum", "squares") else value

    def distinct(self, number: int) -> Step:
        """In which cells values occur, and how many of a group's values have the same pattern: columns ``w<cutoff>_<word>`` and ``values``.

        A pattern tells each window of each cutoff whether the value lies in it, so one row serves them all; and no value leaves the engine.
        Where events became known late each cutoff has a pattern of its own, else all share that of cutoff 0.
        """
        part = list(self.asked.distincts)[number]
        entry = col(part.column, "grouped")
        present: exp.Expression = exp.Not(this=exp.Is(this=entry, expression=exp.null()))
        words = {name: func("COALESCE", value, lit(0)) for name, value in self._words().items()}
        pairs = select({GROUP: col(GROUP, "grouped"), **words}, self.grouped())
        pairs = pairs.where(both([present, self._flag(part.where)]), copy=False)
        pairs = pairs.group_by(col(GROUP, "grouped"), entry.copy(), copy=False)
        query = select({**{name: col(name) for name in (GROUP, *words)}, "values": count()}, pairs.subquery("pairs"))
        return Step(f"distinct_{number}", query.group_by(*(col(name) for name in (GROUP, *words)), copy=False))

    def _words(self) -> dict[str, exp.Expression]:
        several = self.log.late and self.shared is not None
        found = {}
        for cutoff in range(self.cutoffs if several else 1):
            for word in range(self.words):
                # Within its word; that it is this word is for the filter, and the engine shifts before it filters.
                bit = _bit(exp.Mod(this=col(CELL), expression=lit(WORD)))
                inside = exp.Between(this=col(CELL), low=lit(word * WORD), high=lit(word * WORD + WORD - 1)) if self.words > 1 else None
                seen = exp.LTE(this=col(SEEN), expression=lit(cutoff)) if several else None
                found[word_column(cutoff, word)] = where(func("BIT_OR", bit), both([inside, seen]))
        return found

    @property
    def words(self) -> int:
        """How many words hold a bit for every cell."""
        edges = len(self.edges.edges) if isinstance(self.edges, SharedEdges) else self.edges
        return edges // WORD + 1

    def decayed(self) -> Step:
        """Weighted sums for every cutoff: columns ``w<part>_<cutoff>_<window>``, in units of the weights."""
        values: dict[str, exp.Expression] = {}
        for order, (part, windows) in enumerate(self.asked.decays.items()):
            for cutoff in range(self.cutoffs):
                weight = cast_to(col(weight_column(part.half_life, cutoff), self.weights), _WIDE)
                value = weight if part.column is None else weight * exact(part.column)
                for place, window in enumerate(windows):
                    inside = both([self._before(cutoff), self._from(col(CELL), cutoff, window), self._flag(part.where)])
                    values[f"w{order}_{cutoff}_{place}"] = where(func("SUM", value.copy()), inside)
        weighed = exp.EQ(this=col(WEIGHED, "grouped"), expression=col(WEIGHED, self.weights))
        query = select({GROUP: col(GROUP, "grouped"), **values}, self.grouped())
        query = query.join(table(self.stored(self.weights), self.weights), on=weighed, copy=False)
        return Step("decayed", query.group_by(col(GROUP, "grouped"), copy=False))

    def _before(self, cutoff: int) -> exp.Expression | None:
        """That the cutoff sees the event; None where all that is there is seen."""
        if self.shared is None or (cutoff == self.cutoffs - 1 and not self.log.late):
            return None
        earlier = exp.LT(this=col(CELL), expression=lit(self.shared.reaches[cutoff].cells))
        return every(earlier, exp.LTE(this=col(SEEN), expression=lit(cutoff))) if self.log.late else earlier

    def _from(self, cell: exp.Expression, cutoff: int, window: Window) -> exp.Expression:
        """That a cell lies in the window, which no null does."""
        if window is None:
            return exp.Not(this=exp.Is(this=cell, expression=exp.null()))
        start = self.shared.reaches[cutoff].starts[window] if self.shared else None
        return exp.GTE(this=cell, expression=lit(start) if isinstance(start, int) else col(self._start_columns[window]))


def exact(column: str) -> exp.Expression:
    """A number as a decimal of six places, whose digits are its millionths; the calendar's are integers in the log."""
    held = col(column, "grouped")
    return cast_to(held, DECIMAL) if column in CALENDAR else held


def _bit(place: exp.Expression) -> exp.Expression:
    return exp.BitwiseLeftShift(this=cast_to(lit(1), "BIGINT"), expression=exp.paren(place))


def _packed(held: exp.Expression) -> exp.Expression:
    """Time and value as one integer that sorts by time, then by value: ``time * 2**64 + (millionths + 2**63)``."""
    time = cast_to(col("event_us"), "HUGEINT") * exp.Literal.number(2**64)
    # Six more digits than a column's eighteen: the largest value in millionths still fits.
    millionths = cast_to(exp.paren(cast_to(held, "DECIMAL(24, 6)") * lit(MILLION)), "HUGEINT")
    return case([(exp.Not(this=exp.Is(this=held, expression=exp.null())), time + exp.paren(millionths + exp.Literal.number(2**63)))])


_CELL_VALUES: Mapping[str, Callable[[exp.Expression], exp.Expression]] = {
    "known": lambda held: func("COUNT", held),
    "sum": lambda held: func("SUM", held),
    "squares": lambda held: func("SUM", cast_to(held, "DECIMAL(19, 6)") * held.copy()),
    "min": lambda held: func("MIN", held),
    "max": lambda held: func("MAX", held),
    "first": lambda held: func("MIN", _packed(held)),
    "last": lambda held: func("MAX", _packed(held)),
    "first_us": lambda held: func("MIN", col("event_us")),
    "last_us": lambda held: func("MAX", col("event_us")),
}


def codes_table(column: str) -> str:
    """The table that numbers the values of a column, if they are few: columns ``its entry`` and ``its code``."""
    return f"codes of {column}"


def code_column(column: str) -> str:
    """The column of `grouped` that holds the number of a column's value."""
    return f"{column} code"


def word_column(cutoff: int, word: int) -> str:
    """The column of `distinct_<n>` that holds a word of a pattern."""
    return f"w{cutoff}_{word}"


def edge_column(number: int) -> str:
    """The column of `rows` that holds a row's edge."""
    return f"edge_{number}"


def start_column(window: Window) -> str:
    """The column of `rows` that holds the first cell of a window.

    >>> start_column(Duration.parse("4w"))
    'start_28d'
    """
    return f"start_{window}"


def weight_column(half_life: Duration, cutoff: int) -> str:
    """The column of `weights` that holds the weights of a half-life at a cutoff."""
    return f"{half_life}_{cutoff}"
