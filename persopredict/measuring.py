"""Asking an engine what features, eligibility and labels need: one range of customers at a time, in memory that is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from persopredict import outcomes
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, floor_to, microseconds, select, table
from persopredict.events import EventLog
from persopredict.features import measured as arrays
from persopredict.features.edges import OwnEdges, SharedEdges
from persopredict.features.fold import BLOCK, Cells, distinct
from persopredict.features.measured import Measured
from persopredict.features.measures import MILLION, Asked, At, Floats, Integers, Need
from persopredict.features.plan import (
    CELL,
    CUSTOMER,
    CUSTOMERS,
    GROUP,
    HIGH,
    LOW,
    ROWS,
    SEEN,
    WEIGHED,
    CellQueries,
    Joined,
    Log,
    customers_step,
    edge_column,
    ordered_step,
    start_column,
    weight_column,
    word_column,
)
from persopredict.features.spec import DECAY_DECIMALS
from persopredict.spine import SPINE, Spine
from persopredict.targets import Target
from persopredict.times import WallClock

#: Cutoffs that one query answers; more come in several.
_CHUNK = 32
#: What the arrays of a batch may take, and the groups it may have at least and at most.
_BYTES, _FEWEST, _MOST = 256_000_000, 256, 65_536


@dataclass(frozen=True)
class Batch:
    """Some groups and what is known of them. Arrays have the shape (cutoffs, groups).

    Attributes
    ----------
    customers : the id of each group's customer.
    measured : the needs.
    labels : by place of the target; 1, 0, or NaN.
    """

    customers: pa.Array
    measured: Measured
    labels: Mapping[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """What labels are asked for: of which targets, from what was known before `until`."""

    targets: tuple[Target, ...] = ()
    until: datetime | None = None


class Measuring:
    """The needs of all customers of a log, at cutoffs that they share or at those of a spine.

    Parameters
    ----------
    events : the log.
    wanted : the needs.
    cutoffs : shared by all customers; none with a spine.
    spine : rows of customers with cutoffs of their own.
    labels : the labels to read besides.
    """

    def __init__(
        self,
        events: EventLog,
        wanted: Sequence[Need],
        *,
        cutoffs: Sequence[datetime],
        spine: Spine | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.events, self.asked, self.spine = events, Asked.of(wanted), spine
        self.cutoffs = np.array([microseconds(cutoff) for cutoff in cutoffs], np.int64)
        self.labels = labels or Labels()
        lookups = tuple(Joined(lookup.table, lookup.key, lookup.columns, lookup.versioned) for lookup in events.lookups)
        self.log = Log(events.late, frozenset(events.numeric), lookups)
        # Facts that depend on the cutoff differ from cutoff to cutoff for one and the same event: then every cutoff has its own cells.
        self.own = spine is not None or self.log.timed((*self._columns, *self.asked.numbers))

    @property
    def _columns(self) -> tuple[str, ...]:
        """The columns of the log that are read as they are."""
        labels = ("event", *outcomes.label_columns(self.labels.targets)) if self.labels.targets else ()
        return tuple(dict.fromkeys((*self.asked.natural, *labels)))

    # Steps ----------------------------------------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """The steps that put the log in order, then those that are run for every range of customers."""
        return [*self.preparations(), *(step for part in self._parts for step in part.steps())]

    def preparations(self) -> list[Step]:
        """The steps that are run once."""
        return [customers_step(None if self.spine is None else SPINE), ordered_step(self.log, self._columns, self.asked.numbers)]

    @cached_property
    def _clock(self) -> WallClock:
        cutoffs = self.cutoffs if self.spine is None else self.spine.span
        windows = [window for window in self.asked.windows if window is not None]
        first, last = self.events.span_us
        lengths = [length.approximate for target in self.labels.targets for length in (target.gap, target.horizon)]
        ahead = 2 * int(max((length.total_seconds() for length in lengths), default=0)) * MILLION
        back = int(max((window.approximate.total_seconds() for window in windows), default=0)) * MILLION
        return WallClock(self.events._zone, min(first, int(cutoffs.min()) - back), max(last, int(cutoffs.max()) + ahead))

    @cached_property
    def _blocks(self) -> Integers:
        """The local days (as starts of blocks) in which the log has events; none where no active days are asked for."""
        if not self.asked.has_days:
            return np.empty(0, np.int64)
        query = exp.select(exp.alias_(floor_to(col("day"), BLOCK), "block")).from_(table(self.events.table)).distinct()
        return np.array(sorted(row[0] for row in self.events.engine.rows(Step("blocks", query))), np.int64)

    @cached_property
    def _edges_of_blocks(self) -> Integers:
        days = np.unique(np.concatenate([self._blocks, self._blocks + BLOCK]))
        return self._clock.instants(days * 24 * 3600 * MILLION)

    @cached_property
    def _parts(self) -> list[_Part]:
        """The shared cutoffs, some at a time; or all rows at once."""
        if self.own:
            width = len({window for window in self.asked.windows if window is not None}) + len(self._edges_of_blocks) + 1
            return [_Part(self, CellQueries(self.asked, self.log, width), 0)]
        found = []
        for first in range(0, len(self.cutoffs), _CHUNK):
            cutoffs = self.cutoffs[first : first + _CHUNK].tolist()
            edges = SharedEdges.of(cutoffs, self.asked.windows, self._clock, self._edges_of_blocks)
            found.append(_Part(self, CellQueries(self.asked, self.log, edges, weights=f"weights_{first}"), first))
        return found

    # Batches ------------------------------------------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Batch]:
        """All groups, in order of their customers' ids and, with a spine, of their cutoffs."""
        engine = self.events.engine
        self.events.prepare()
        if self.spine is not None:
            self.spine.load(engine)
        made = []
        for step in self.preparations():
            engine.create(step)
            made.append(step.name)
        for part in self._parts:
            made += part.load_weights()
        query = select({"customer_id": col("customer_id")}, CUSTOMERS).order_by(col(CUSTOMER))
        ids = engine.arrow(Step("ids", query)).column(0).combine_chunks()
        yield from self._own_batches(ids) if self.own else self._shared_batches(ids)
        for name in made:
            engine.drop(name)

    def _shared_batches(self, ids: pa.Array) -> Iterator[Batch]:
        size = self._batch_size(sum(len(part.queries.shared.edges) + 1 for part in self._parts if part.queries.shared), len(self.cutoffs))
        at = At(self.cutoffs[:, np.newaxis], self._clock.day(self.cutoffs)[:, np.newaxis])
        for low in range(0, len(ids), size):
            high = min(low + size, len(ids)) - 1
            found = Measured(at, high - low + 1)
            labels = self._unlabelled(len(self.cutoffs), found.groups)
            for part in self._parts:
                part.measure(found, low, high)
                part.label(labels, found.groups, low, high)
            yield Batch(ids[low : high + 1], found, labels)

    def _own_batches(self, ids: pa.Array) -> Iterator[Batch]:
        (part,) = self._parts
        assert isinstance(part.queries.edges, int)
        customers, cutoffs = self._rows(len(ids))
        size = self._batch_size(part.queries.edges + 1, 1)
        for first in range(0, len(customers), size):
            owner, cutoff = customers[first : first + size], cutoffs[first : first + size]
            found = Measured(At(cutoff[np.newaxis, :], self._clock.day(cutoff)[np.newaxis, :]), len(owner))
            labels = self._unlabelled(1, found.groups)
            low, high = int(owner[0]), int(owner[-1])
            edges, spans = part.load_rows(owner, cutoff)
            part.measure(found, low, high, edges)
            part.label(labels, found.groups, low, high, spans)
            yield Batch(ids.take(pa.array(owner)), found, labels)

    def _rows(self, customers: int) -> tuple[Integers, Integers]:
        """Customer numbers and cutoffs of all rows, in order: the spine's, or every customer at every cutoff."""
        if self.spine is not None:
            return self.spine.rows(self.events.engine)
        return np.repeat(np.arange(customers, dtype=np.int64), len(self.cutoffs)), np.tile(self.cutoffs, customers)

    def _batch_size(self, cells: int, cutoffs: int) -> int:
        asked = self.asked
        words = cells * len(asked.measures) + cutoffs * sum(len(windows) for windows in asked.measures.values()) * 2 + 8
        return min(_MOST, max(_FEWEST, _BYTES // (8 * words)))

    def _unlabelled(self, cutoffs: int, groups: int) -> dict[int, Floats]:
        return {number: np.full((cutoffs, groups), np.nan) for number in range(len(self.labels.targets))}

    def span_of(self, target: Target, cutoffs: Integers) -> tuple[Integers, Integers, Any]:
        """Where labels start and end, and which have matured: their sources, and `until`, have reached their end."""
        starts = self._clock.after(cutoffs, target.gap)
        ends = self._clock.after(starts, target.horizon)
        first, last = (microseconds(side) for side in self.events.observed_for(target))
        until = last if self.labels.until is None else min(last, microseconds(self.labels.until))
        return starts, ends, (first <= cutoffs) & (ends <= until)


@dataclass
class _Part:
    """The queries for some of the cutoffs, from number `first` on, and what becomes of their answers."""

    owner: Measuring
    queries: CellQueries
    first: int

    @property
    def _targets(self) -> tuple[Target, ...]:
        return self.owner.labels.targets

    def steps(self) -> list[Step]:
        """Every step of one range."""
        labels = self._labels_step
        return [*self._steps, *([] if labels is None else [labels])]

    @cached_property
    def _steps(self) -> list[Step]:
        return self.queries.steps()

    @cached_property
    def _cutoffs(self) -> Integers:
        return self.owner.cutoffs[self.first : self.first + self.queries.cutoffs]

    @cached_property
    def _spans(self) -> dict[tuple[int, int], outcomes.Span]:
        """Of shared cutoffs: where each label starts and ends; None where it has not matured."""
        found: dict[tuple[int, int], outcomes.Span] = {}
        for number, target in enumerate(self._targets):
            starts, ends, matured = self.owner.span_of(target, self._cutoffs)
            for cutoff in range(len(self._cutoffs)):
                found[number, cutoff] = (int(starts[cutoff]), int(ends[cutoff])) if matured[cutoff] else None
        return found

    @cached_property
    def _labels_step(self) -> Step | None:
        spans = {} if self.owner.own else self._spans
        if not self._targets or (not self.owner.own and not any(spans.values())):
            return None
        until = self.owner.labels.until
        return outcomes.labels_step(self._targets, self.queries, spans, None if until is None else microseconds(until))

    def _asked(self, step: Step, low: int, high: int) -> pa.Table:
        return self.owner.events.engine.arrow(step, {LOW: low, HIGH: high})

    # Tables that the queries read ---------------------------------------------------------------------------------------------------

    def load_weights(self) -> list[str]:
        """The table of weights by day, or by age; nothing if nothing decays."""
        half_lives = dict.fromkeys(part.half_life for part in self.owner.asked.decays)
        if not half_lives:
            return []
        first, _ = self.owner.events.span_us
        clock = self.owner._clock
        cutoffs = self.owner.cutoffs if self.owner.spine is None else self.owner.spine.span
        earliest, last = (int(clock.day(np.array([moment]))[0]) for moment in (first, cutoffs.max()))
        # Where clocks go back over midnight a cutoff comes a day before an event that it sees: its age is 0 nonetheless.
        ahead, ages = 2, max(last - earliest, 0) + 1
        if self.owner.own:
            weighed = np.arange(-ahead, ages)
            columns = {weight_column(half, 0): np.array(arrays.weights(half, ages))[np.maximum(weighed, 0)] for half in half_lives}
        else:
            weighed = np.arange(earliest, last + ahead)
            age = np.maximum(clock.day(self._cutoffs)[:, np.newaxis] - weighed, 0)
            tables = {half: np.array(arrays.weights(half, ages)) for half in half_lives}
            columns = {weight_column(half, number): tables[half][row] for half in half_lives for number, row in enumerate(age)}
        columns[WEIGHED] = weighed
        self.owner.events.engine.load(self.queries.weights, pa.table(columns))
        return [self.queries.weights]

    def load_rows(self, customers: Integers, cutoffs: Integers) -> tuple[OwnEdges, dict[int, tuple[Integers, Integers, Any]]]:
        """The table of a batch's rows; the rows' edges, and the spans of their labels."""
        owner = self.owner
        edges = OwnEdges.of(cutoffs, owner.asked.windows, owner._clock, owner._edges_of_blocks)
        spans = {number: owner.span_of(target, cutoffs) for number, target in enumerate(self._targets)}
        columns: dict[str, Any] = {
            CUSTOMER: pa.array(customers, pa.int32()),
            GROUP: pa.array(np.arange(len(customers)), pa.int32()),
            "cutoff_us": cutoffs,
            "cutoff_day": pa.array(owner._clock.day(cutoffs), pa.int32()),
            **{edge_column(number): edge for number, edge in enumerate(edges.edges)},
            **{start_column(window): start for window, start in edges.reach.starts.items() if window is not None},
        }
        for number, (starts, ends, matured) in spans.items():
            for name, side in zip(outcomes.bounds(number), (starts, ends), strict=True):
                columns[name] = pa.array(side, mask=~matured)
        owner.events.engine.load(ROWS, pa.table(columns))
        return edges, spans

    # Answers ------------------------------------------------------------------------------------------------------------------------

    def measure(self, found: Measured, low: int, high: int, edges: OwnEdges | None = None) -> None:
        """Ask for a range of customers and put the answers into `found`."""
        asked, shared = self.owner.asked, self.queries.shared
        if edges is None:
            assert shared is not None
            reaches, base_days = shared.reaches, shared.base_days
        else:
            reaches, base_days = (edges.reach,), edges.base_days
        answers = iter(self._steps)
        if asked.measures:
            rows = self._asked(next(answers), low, high)
            cells = Cells(len(base_days), found.groups, base_days, days_return=self.owner._clock.days_return)
            place, group = arrays.integers(rows.column(CELL)), arrays.integers(rows.column(GROUP))
            components = arrays.cells_of(rows, list(asked.measures))
            if SEEN not in rows.column_names:
                cells.put(place, group, components)
                found.fold(cells, reaches, asked.measures, first=self.first)
            else:
                seen = arrays.integers(rows.column(SEEN))
                for number, reach in enumerate(reaches):
                    new = seen == number
                    cells.put(place[new], group[new], {m: tuple(c[new] for c in parts) for m, parts in components.items()})
                    found.fold(cells, [reach], asked.measures, first=self.first + number)
        for part, windows in asked.distincts.items():
            rows = self._asked(next(answers), low, high)
            group, values = arrays.integers(rows.column(GROUP)), arrays.integers(rows.column("values"))
            for number, reach in enumerate(reaches):
                own = number if word_column(number, 0) in rows.column_names else 0
                words = [arrays.integers(rows.column(word_column(own, word))) for word in range(self.queries.words)]
                counts = distinct(words, group, values, (len(base_days), found.groups), reach, windows)
                for window, value in zip(windows, counts, strict=True):
                    found.put(Need(part, window), self.first + number, value)
        if asked.decays:
            self._put_decays(found, self._asked(next(answers), low, high))

    def _put_decays(self, found: Measured, rows: pa.Table) -> None:
        group = arrays.integers(rows.column(GROUP))
        for position, (part, windows) in enumerate(self.owner.asked.decays.items()):
            unit = 10**DECAY_DECIMALS * (1 if part.column is None else MILLION)
            for number in range(self.queries.cutoffs):
                for place, window in enumerate(windows):
                    values = arrays.decayed(rows.column(f"w{position}_{number}_{place}"), unit)
                    found.put(Need(part, window), self.first + number, arrays.spread_over(found.groups, group, values, np.nan))

    def label(
        self, labels: Mapping[int, Floats], groups: int, low: int, high: int, spans: Mapping[int, tuple[Any, Any, Any]] | None = None
    ) -> None:
        """Ask for the labels of a range and put them into `labels`."""
        step = self._labels_step
        if step is None:
            return
        rows = self._asked(step, low, high)
        group = arrays.integers(rows.column(GROUP))
        most = np.iinfo(np.int64).max
        for number, target in enumerate(self._targets):
            for cutoff in range(self.queries.cutoffs):
                if spans is None and self._spans[number, cutoff] is None:
                    continue

                def first(what: str, number: int = number, cutoff: int = cutoff) -> Integers:
                    column = rows.column(f"{number}_{cutoff}_{what}")
                    return np.asarray(arrays.spread_over(groups, group, arrays.integers(column.fill_null(most)), most))

                matured = np.ones(groups, np.bool_) if spans is None else spans[number][2]
                labels[number][self.first + cutoff] = outcomes.label(target, matured, first)
