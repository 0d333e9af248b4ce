"""Asking an engine what features, eligibility and labels need: one range of customers at a time, in memory that is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

import numpy as np
import pyarrow as pa

from persopredict.answers import Answers, Part, Range
from persopredict.engines.base import Step
from persopredict.engines.expressions import col, select
from persopredict.features.edges import SharedEdges
from persopredict.features.measured import Measured
from persopredict.features.measures import At, Floats, Integers
from persopredict.features.plan import ROWS, CellQueries, codes_table
from persopredict.progress import track
from persopredict.sources import CUSTOMER
from persopredict.survey import Survey

#: Cutoffs that one query answers; more come in several.
_CHUNK = 32
#: What the arrays of a batch may take, and the groups it may have at least and at most.
_BYTES, _FEWEST, _MOST = 256_000_000, 256, 65_536
#: Ranges that are asked for ahead of the fold: with fewer, one of the two waits for the other.
_AHEAD = 2
_RUNS = count()


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


class Measuring:
    """A survey, answered batch by batch."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey

    def steps(self) -> list[Step]:
        """The steps that are run for every range of customers."""
        return [step for part in self._parts for step in part.steps()]

    @cached_property
    def _parts(self) -> list[Part]:
        """The shared cutoffs, some at a time; or all rows at once."""
        survey = self.survey
        if survey.own:
            width = len({window for window in survey.asked.windows if window is not None}) + len(survey.edges_of_blocks) + 1
            return [Part(survey, CellQueries(survey.asked, survey.log, width, suffix=survey.suffix), 0)]
        found = []
        for first in range(0, len(survey.cutoffs), _CHUNK):
            cutoffs = survey.cutoffs[first : first + _CHUNK].tolist()
            edges = SharedEdges.of(cutoffs, survey.asked.windows, survey.clock, survey.edges_of_blocks, since=survey.events.span_us[0])
            queries = CellQueries(survey.asked, survey.log, edges, weights=f"weights_{first}", suffix=survey.suffix)
            found.append(Part(survey, queries, first))
        return found

    # Batches ------------------------------------------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Batch]:
        """All groups, in order of their customers' ids and, with a spine, of their cutoffs.

        While one range is folded the engine, in a thread of its own, answers for the next ones.
        """
        engine = self.survey.events.engine
        assert self.survey.events.table
        self.survey.suffix = f"_{next(_RUNS)}"
        made = [*self._load_codes(), *(name for part in self._parts for name in part.load_weights())]
        made += [part.queries.stored(ROWS) for part in self._parts if self.survey.own]
        try:
            ranges = list(self._own_ranges() if self.survey.own else self._shared_ranges())
            with ThreadPoolExecutor(1) as pool:
                waiting: deque[Future[list[Answers]]] = deque(pool.submit(self._ask, here) for here in ranges[:_AHEAD])
                for place, here in enumerate(track(ranges, "customers", numbered=False), _AHEAD):
                    answers = waiting.popleft().result()
                    if place < len(ranges):
                        waiting.append(pool.submit(self._ask, ranges[place]))
                    yield self._batch(here, answers)
        finally:
            for name in made:
                engine.drop(name)

    def _load_codes(self) -> list[str]:
        """The tables that number the values of columns that have few."""
        for name, values in self.survey.codes.items():
            entries = pa.table({"its entry": pa.array(values, pa.string()), "its code": pa.array(range(len(values)), pa.int16())})
            self.survey.events.engine.load(self._parts[0].queries.stored(codes_table(name)), entries)
        return [self._parts[0].queries.stored(codes_table(name)) for name in self.survey.codes]

    def _ask(self, here: Range) -> list[Answers]:
        return [part.ask(here) for part in self._parts]

    def _batch(self, here: Range, answers: Sequence[Answers]) -> Batch:
        found = Measured(here.at, len(here.customers))
        labels = {number: np.full((found.cutoffs, found.groups), np.nan) for number in range(len(self.survey.labels.targets))}
        for part, answer in zip(self._parts, answers, strict=True):
            part.answer(answer, found, labels)
        return Batch(here.customers, found, labels)

    def _ids(self) -> pa.Array:
        """The ids of all customers, in order."""
        query = select({"customer_id": col("customer_id")}, self.survey.events.owners).order_by(col(CUSTOMER))
        return self.survey.events.engine.arrow(Step("ids", query)).column(0).combine_chunks()

    def _shared_ranges(self) -> Iterator[Range]:
        ids = self._ids()
        size = self._batch_size(
            sum(len(part.queries.shared.edges) + 1 for part in self._parts if part.queries.shared), len(self.survey.cutoffs)
        )
        at = At(self.survey.cutoffs[:, np.newaxis], self.survey.clock.day(self.survey.cutoffs)[:, np.newaxis])
        for low in range(0, len(ids), size):
            customers = ids[low : low + size]
            yield Range(customers, at, low, low + len(customers) - 1)

    def _own_ranges(self) -> Iterator[Range]:
        (part,) = self._parts
        assert isinstance(part.queries.edges, int)
        ids, customers, cutoffs = self._rows()
        size = self._batch_size(part.queries.edges + 1, 1)
        for first in range(0, len(customers), size):
            owner, cutoff = customers[first : first + size], cutoffs[first : first + size]
            known = owner[owner >= 0]
            low, high = (int(known.min()), int(known.max())) if len(known) else (0, -1)
            at = At(cutoff[np.newaxis, :], self.survey.clock.day(cutoff)[np.newaxis, :])
            yield Range(ids[first : first + size], at, low, high, owner)

    def _rows(self) -> tuple[pa.Array, Integers, Integers]:
        """Ids, customer numbers and cutoffs of all rows, in order: the spine's, or every customer at every cutoff."""
        if self.survey.spine is not None:
            return self.survey.spine.rows(self.survey.events.engine)
        ids = self._ids()
        customers = np.repeat(np.arange(len(ids), dtype=np.int64), len(self.survey.cutoffs))
        return ids.take(pa.array(customers)), customers, np.tile(self.survey.cutoffs, len(ids))

    def _batch_size(self, cells: int, cutoffs: int) -> int:
        asked = self.survey.asked
        words = cells * len(asked.measures) + cutoffs * sum(len(windows) for windows in asked.measures.values()) * 2 + 8
        return min(_MOST, max(_FEWEST, _BYTES // (8 * words)))
