"""What becomes of the engine's answers: tables of one range of customers, put into arrays and folded.

A `Part` is some of the cutoffs that all customers share, or all rows of a spine. It asks (`ask`, in the engine's thread) and it folds
(`answer`), two steps so that the one can run ahead of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from persopredict import outcomes
from persopredict.engines.base import Step
from persopredict.engines.expressions import microseconds
from persopredict.features import measured as arrays
from persopredict.features.edges import OwnEdges
from persopredict.features.fold import Cells, Reach, distinct
from persopredict.features.measured import Measured
from persopredict.features.measures import MILLION, MOST, At, Distinct, Floats, Integers, Need, weights, words_of
from persopredict.features.plan import (
    CELL,
    GROUP,
    HIGH,
    LOW,
    ROWS,
    SEEN,
    WEIGHED,
    CellQueries,
    edge_column,
    start_column,
    weight_column,
    word_column,
)
from persopredict.features.spec import DECAY_DECIMALS
from persopredict.sources import CUSTOMER
from persopredict.survey import Survey
from persopredict.targets import Target


@dataclass(frozen=True)
class Range:
    """Some groups: the ids of their customers, their cutoffs, and the numbers of the first and the last of the customers.

    `owners`: where groups are a spine's rows, the number of each one's customer, -1 for a customer that the log does not know.
    """

    customers: pa.Array
    at: At
    low: int
    high: int
    owners: Integers | None = None


@dataclass(frozen=True)
class Answers:
    """The tables of one range, in the order of the steps, and how its cells lie.

    `spans`: of a spine's rows, by target: where labels start and end, and which have matured.
    """

    tables: Sequence[pa.Table]
    reaches: Sequence[Reach]
    base_days: Integers
    spans: Mapping[int, tuple[Integers, Integers, Any]] = field(default_factory=dict)


@dataclass
class Part:
    """The queries for some of the cutoffs, from number `first` on, and what becomes of their answers."""

    survey: Survey
    queries: CellQueries
    first: int

    @property
    def _targets(self) -> tuple[Target, ...]:
        return self.survey.labels.targets

    def steps(self) -> list[Step]:
        """Every step of one range."""
        labels = self._labels_step
        return [*self._steps, *([] if labels is None else [labels])]

    @cached_property
    def _steps(self) -> list[Step]:
        return self.queries.steps()

    @cached_property
    def _cutoffs(self) -> Integers:
        return self.survey.cutoffs[self.first : self.first + self.queries.cutoffs]

    @cached_property
    def _spans(self) -> dict[tuple[int, int], outcomes.Span]:
        """Of shared cutoffs: where each label starts and ends; None where it has not matured."""
        found: dict[tuple[int, int], outcomes.Span] = {}
        for number, target in enumerate(self._targets):
            starts, ends, matured = self.survey.span_of(target, self._cutoffs)
            for cutoff in range(len(self._cutoffs)):
                found[number, cutoff] = (int(starts[cutoff]), int(ends[cutoff])) if matured[cutoff] else None
        return found

    @cached_property
    def _labels_step(self) -> Step | None:
        spans = {} if self.survey.own else self._spans
        if not self._targets or (not self.survey.own and not any(spans.values())):
            return None
        until = self.survey.labels.until
        return outcomes.labels_step(self._targets, self.queries, spans, None if until is None else microseconds(until))

    # Tables that the queries read ---------------------------------------------------------------------------------------------------

    def load_weights(self) -> list[str]:
        """The table of weights by day, or by age; nothing if nothing decays."""
        half_lives = dict.fromkeys(part.half_life for part in self.survey.asked.decays)
        if not half_lives:
            return []
        first, _ = self.survey.events.span_us
        clock = self.survey.clock
        cutoffs = self.survey.cutoffs if self.survey.spine is None else self.survey.spine.span
        earliest, last = (int(clock.day(np.array([moment]))[0]) for moment in (first, cutoffs.max()))
        # Where clocks go back over midnight a cutoff comes a day before an event that it sees: its age is 0 nonetheless.
        ahead, ages = 2, max(last - earliest, 0) + 1
        if self.survey.own:
            weighed = np.arange(-ahead, ages)
            columns = {weight_column(half, 0): np.array(weights(half, ages))[np.maximum(weighed, 0)] for half in half_lives}
        else:
            weighed = np.arange(earliest, last + ahead)
            age = np.maximum(clock.day(self._cutoffs)[:, np.newaxis] - weighed, 0)
            tables = {half: np.array(weights(half, ages)) for half in half_lives}
            columns = {weight_column(half, number): tables[half][row] for half in half_lives for number, row in enumerate(age)}
        columns[WEIGHED] = weighed
        self.survey.events.engine.load(self.queries.stored(self.queries.weights), pa.table(columns))
        return [self.queries.stored(self.queries.weights)]

    def load_rows(self, customers: Integers, cutoffs: Integers) -> tuple[OwnEdges, dict[int, tuple[Integers, Integers, Any]]]:
        """The table of a batch's rows; the rows' edges, and the spans of their labels."""
        survey = self.survey
        edges = OwnEdges.of(cutoffs, survey.asked.windows, survey.clock, survey.edges_of_blocks)
        spans = {number: survey.span_of(target, cutoffs) for number, target in enumerate(self._targets)}
        columns: dict[str, Any] = {
            CUSTOMER: pa.array(customers, pa.int32()),
            GROUP: pa.array(np.arange(len(customers)), pa.int32()),
            "cutoff_us": cutoffs,
            "cutoff_day": pa.array(survey.clock.day(cutoffs), pa.int32()),
            **{edge_column(number): edge for number, edge in enumerate(edges.edges)},
            **{start_column(window): start for window, start in edges.reach.starts.items() if window is not None},
        }
        for number, (starts, ends, matured) in spans.items():
            for name, side in zip(outcomes.bounds(number), (starts, ends), strict=True):
                columns[name] = pa.array(side, mask=~matured)
        survey.events.engine.load(self.queries.stored(ROWS), pa.table(columns))
        return edges, spans

    # Answers ------------------------------------------------------------------------------------------------------------------------

    def ask(self, here: Range) -> Answers:
        """Have the engine answer for a range."""
        shared = self.queries.shared
        if shared is not None:
            reaches: Sequence[Reach] = shared.reaches
            base_days, spans = shared.base_days, dict[int, tuple[Integers, Integers, Any]]()
        else:
            assert here.owners is not None
            edges, spans = self.load_rows(here.owners, here.at.us[0])
            reaches, base_days = (edges.reach,), edges.base_days
        tables = [self.survey.events.engine.arrow(step, {LOW: here.low, HIGH: here.high}) for step in self.steps()]
        return Answers(tables, reaches, base_days, spans)

    def answer(self, answers: Answers, found: Measured, labels: Mapping[int, Floats]) -> None:
        """Put the answers into `found`, and the labels into `labels`."""
        asked, tables = self.survey.asked, iter(answers.tables)
        if asked.measures:
            self._put_cells(answers, found, next(tables))
        for part in asked.coded:
            self._put_coded(found, part)
        for part in asked.distincts:
            self._put_distinct(answers, found, part, next(tables))
        if asked.decays:
            self._put_decays(found, next(tables))
        if self._labels_step is not None:
            self._put_labels(answers, labels, next(tables), found.groups)

    def _put_cells(self, answers: Answers, found: Measured, rows: pa.Table) -> None:
        measures = self.survey.asked.measures
        cells = Cells(len(answers.base_days), found.groups, answers.base_days, days_return=self.survey.clock.days_return)
        place, group = arrays.integers(rows.column(CELL)), arrays.integers(rows.column(GROUP))
        components = arrays.cells_of(rows, list(measures))
        if SEEN not in rows.column_names:
            cells.put(place, group, components)
            found.fold(cells, answers.reaches, measures, first=self.first)
            return
        seen = arrays.integers(rows.column(SEEN))
        for number, reach in enumerate(answers.reaches):
            new = seen == number
            cells.put(place[new], group[new], {m: tuple(c[new] for c in parts) for m, parts in components.items()})
            found.fold(cells, [reach], measures, first=self.first + number)

    def _put_coded(self, found: Measured, part: Distinct) -> None:
        """Different values out of few: the bits that are set in the cells' words."""
        measures = words_of(part, len(self.survey.codes[part.column]))
        for window in self.survey.asked.coded[part]:
            counts = sum(np.bitwise_count(found[Need(measure, window)]).astype(np.int64) for measure in measures)
            for number in range(self.first, self.first + self.queries.cutoffs):
                found.put(Need(part, window), number, counts[number])

    def _put_distinct(self, answers: Answers, found: Measured, part: Distinct, rows: pa.Table) -> None:
        """Different values out of many: the patterns of cells in which they occur."""
        group, values = arrays.integers(rows.column(GROUP)), arrays.integers(rows.column("values"))
        windows, shape = self.survey.asked.distincts[part], (len(answers.base_days), found.groups)

        def counted(cutoff: int, reaches: Sequence[Reach]) -> Iterator[list[Integers]]:
            words = [arrays.integers(rows.column(word_column(cutoff, word))) for word in range(self.queries.words)]
            return distinct(words, group, values, shape, reaches, windows)

        # Where events became known late each cutoff has patterns of its own.
        own = word_column(1, 0) in rows.column_names
        counts = chain(*(counted(k, [reach]) for k, reach in enumerate(answers.reaches))) if own else counted(0, answers.reaches)
        for number, each in enumerate(counts, start=self.first):
            for window, value in zip(windows, each, strict=True):
                found.put(Need(part, window), number, value)

    def _put_decays(self, found: Measured, rows: pa.Table) -> None:
        group = arrays.integers(rows.column(GROUP))
        for position, (part, windows) in enumerate(self.survey.asked.decays.items()):
            unit = 10**DECAY_DECIMALS * (1 if part.column is None else MILLION)
            for number in range(self.queries.cutoffs):
                for place, window in enumerate(windows):
                    values = arrays.decayed(rows.column(f"w{position}_{number}_{place}"), unit)
                    found.put(Need(part, window), self.first + number, arrays.spread_over(found.groups, group, values, np.nan))

    def _put_labels(self, answers: Answers, labels: Mapping[int, Floats], rows: pa.Table, groups: int) -> None:
        group = arrays.integers(rows.column(GROUP))
        for number, target in enumerate(self._targets):
            for cutoff in range(self.queries.cutoffs):
                if self.queries.shared and self._spans[number, cutoff] is None:
                    continue

                def first(what: str, number: int = number, cutoff: int = cutoff) -> Integers:
                    column = rows.column(f"{number}_{cutoff}_{what}")
                    return np.asarray(arrays.spread_over(groups, group, arrays.integers(column.fill_null(MOST)), MOST))

                matured = answers.spans[number][2] if answers.spans else np.ones(groups, np.bool_)
                labels[number][self.first + cutoff] = outcomes.label(target, matured, first)
