"""Snapshots: customers as they stood at each cutoff, with features from before it and labels from after it.

`Snapshots` is a plan until its rows are asked for; `sql()` shows the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from persopredict import conditions, html, outcomes, progress
from persopredict.drawn import drawn
from persopredict.engines.base import Step
from persopredict.errors import Problem, SpecificationError
from persopredict.events import EventLog, Moment
from persopredict.features.measures import LEAST, Need, needs
from persopredict.features.spec import Feature, check_features
from persopredict.measuring import Batch, Measuring
from persopredict.spine import Members, Spine
from persopredict.survey import Labels, Survey
from persopredict.targets import Target
from persopredict.times import Duration, instant, local_midnight

if TYPE_CHECKING:
    import pandas as pd

_MOST_CUTOFFS = 2000
_INSTANT = pa.timestamp("us", tz="UTC")
_KEYS = (("customer_id", pa.string()), ("cutoff", _INSTANT))


def rolling_cutoffs(
    events: EventLog,
    *,
    every: str | Duration = "28d",
    horizon: str | Duration = "28d",
    gap: str | Duration = "0d",
    until: Moment | None = None,
    since: Moment | None = None,
    limit: int | None = None,
) -> list[datetime]:
    """Cutoffs whose labels have ended by `until`, going back by `every` to the start of the log; ascending, in UTC.

    Parameters
    ----------
    every : step between cutoffs, on the log's calendar; default ``"28d"``.
    horizon, gap : of the label; the last cutoff is `until` - gap - horizon.
    until : nothing after it is used; default the last midnight (of the log's time zone) that was observed.
    since : every cutoff is later than this; default the start of the log.
    limit : keep at most so many, the latest.

    Raises
    ------
    SpecificationError : if `every` is nothing, or would give more than 2,000 cutoffs.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"customer_id": [1, 1], "event_at": ["2024-01-01", "2024-04-01"], "event": ["visit", "visit"]})
    >>> [f"{t:%Y-%m-%d}" for t in rolling_cutoffs(EventLog(frame), horizon="28d", until="2024-04-01")]
    ['2024-01-08', '2024-02-05', '2024-03-04']
    """
    step = Duration.parse(every)
    if not step:
        raise SpecificationError("every must be longer than nothing")
    start, end = events.observed
    last = local_midnight(end, events.zone) if until is None else instant(until, events.zone)
    earliest = start if since is None else instant(since, events.zone)
    latest = Duration.parse(gap).before(Duration.parse(horizon).before(last, events.zone), events.zone)
    found: list[datetime] = []
    for number in range(_MOST_CUTOFFS + 1):
        cutoff = Duration(days=step.days * number, hours=step.hours * number).before(latest, events.zone)
        if cutoff <= earliest or (limit is not None and len(found) == limit):
            return found[::-1]
        found.append(cutoff)
    raise SpecificationError(f"every={step} gives more than {_MOST_CUTOFFS:,} cutoffs; take a longer step or a limit")


def snapshots(
    events: EventLog,
    cutoffs: Sequence[Moment] | None = None,
    features: Sequence[Feature] | None = None,
    targets: Sequence[Target] | None = None,
    spine: Any = None,
    *,
    until: Moment | None = None,
    share: float = 1.0,
) -> Snapshots:
    """Snapshots of `events` at `cutoffs`, or at the rows of a spine.

    Parameters
    ----------
    events : the log.
    cutoffs : instants; naive ones are read in the log's time zone.
    features : default `default_features(events)`, of what was known before the last cutoff.
    targets : each gives a column ``label_<name>``; rows are the customers eligible for at least one of them. Without targets, every
        customer known before the cutoff.
    spine : instead of cutoffs, a frame (or a path, or whatever a log is made of) with the columns ``customer_id`` and ``cutoff``, which may
        be any instant, like that of an event. Its rows are the answer's, each once, whether eligible or not.
    until : labels count only what was known before it; default no limit.
    share : of the customers, above 0; below 1 (default) they are drawn by md5 of their ids, and the rest of the log is not looked at.

    Returns
    -------
    Snapshots : customer_id (text), cutoff (UTC), features (float64, null where undefined), labels (0, 1, or null where the target is not
        asked or the label has not matured); ordered by customer and cutoff.

    Raises
    ------
    SpecificationError : with every problem of features, targets and cutoffs.
    DataError : if the spine can't be used.
    """
    from persopredict.features.builders import default_features

    moments = tuple(sorted({instant(cutoff, events.zone) for cutoff in cutoffs or ()}))
    asked = tuple(targets or ())
    problems = []
    if spine is not None and moments:
        problems.append(Problem("no_cutoff", "both cutoffs and a spine were given", remedy="a spine has its own cutoffs: give no others"))
    elif spine is None and not moments:
        problems.append(Problem("no_cutoff", "there is no cutoff", remedy="give at least one, see rolling_cutoffs, or a spine"))
    if not 0 < share <= 1 or (spine is not None and share < 1):
        remedy = "give more than 0 and at most 1" if spine is None else "a spine says itself which rows there are: leave share out"
        problems.append(Problem("share", f"share is {share!r}", remedy=remedy))
    rows = None
    if spine is not None and not problems:
        rows = spine if isinstance(spine, Members) else Spine(spine, events)
    latest = moments[-1] if moments else None if rows is None else rows.last
    chosen = tuple(default_features(events, until=latest) if features is None else features)
    problems = [*check_features(chosen, events.columns, events.numeric), *_target_problems(asked, events), *problems]
    if problems:
        raise SpecificationError("the snapshots can't be planned", problems)
    return Snapshots(events, moments, chosen, asked, None if until is None else instant(until, events.zone), rows, share)


def _target_problems(targets: Sequence[Target], events: EventLog) -> list[Problem]:
    problems = []
    for target in targets:
        for key in ("where", "cohort"):
            texts = conditions.misread(getattr(target, key), events.columns, events.numeric)
            problems += [Problem(f"target_{key}", f"{target.name}: {text}") for text in texts]
    names = [target.name for target in targets]
    twice = sorted({name for name in names if names.count(name) > 1})
    return problems + [Problem("target_name", f"two targets are named {name!r}") for name in twice]


@dataclass(frozen=True, repr=False)
class Snapshots:
    """A plan of snapshots. Nothing is computed before `batches`, `to_arrow`, `to_pandas` or `to_parquet`."""

    events: EventLog
    cutoffs: tuple[datetime, ...]
    features: tuple[Feature, ...]
    targets: tuple[Target, ...] = ()
    until: datetime | None = None
    spine: Spine | Members | None = None
    share: float = 1.0

    def __repr__(self) -> str:
        """What is planned; nothing is computed.

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"customer_id": [1, 1], "event_at": ["2024-01-01", "2024-04-01"], "event": ["visit", "visit"]})
        >>> snapshots(EventLog(frame), ["2024-02-01", "2024-03-01"], [Feature("recency", fallback=None)])
        Snapshots(2 cutoffs, 2024-02-01 to 2024-03-01, 1 feature; not computed)
        """
        labels = f", {_counted(self.targets, 'label')}" if self.targets else ""
        return f"Snapshots({self._rows_in_words}, {_counted(self.features, 'feature')}{labels}; not computed)"

    @property
    def _rows_in_words(self) -> str:
        if self.spine is not None:
            return repr(self.spine)
        first, last = (f"{cutoff.astimezone(self.events.zone):%Y-%m-%d}" for cutoff in (self.cutoffs[0], self.cutoffs[-1]))
        drawn_ = f", {self.share:.1%} of the customers" if self.share < 1 else ""
        return f"{_counted(self.cutoffs, 'cutoff')}, {first} to {last}{drawn_}"

    def _repr_html_(self) -> str:
        until = "" if self.until is None else f"{self.until.astimezone(self.events.zone):%Y-%m-%d}"
        facts = {"rows": self._rows_in_words, "time zone": self.events.timezone, "labels known until": until}
        asked = zip(self.label_names, self.targets, strict=True)
        labels = html.table(("label", "is 1 if", "asked of"), [(name, t.meaning, t.asked_of) for name, t in asked], words=(0, 1, 2))
        features = html.table(("feature", "what it is"), [(each.name, each.label) for each in self.features], words=(0, 1))
        return html.block(
            html.title("Snapshots", "a plan: to_arrow(), to_pandas(), to_parquet(path) or batches() compute it"),
            html.facts({name: text for name, text in facts.items() if text}),
            *([labels] if self.targets else []),
            html.folded(_counted(self.features, "feature"), features),
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' columns."""
        return tuple(f"label_{target.name}" for target in self.targets)

    @cached_property
    def _numeric(self) -> frozenset[str]:
        return frozenset(self.events.numeric)

    def _measuring(self, *, whole: bool) -> Measuring:
        """What to ask for: of eligibility alone, or of features and labels too."""
        wanted: list[Need] = outcomes.eligibility_needs(self.targets)
        if whole:
            wanted += [need for feature in self.features for need in needs(feature, self._numeric)]
        labels = Labels(self.targets, self.until) if whole else None
        return Measuring(Survey(drawn(self.events, self.share), wanted, cutoffs=self.cutoffs, spine=self.spine, labels=labels))

    def steps(self) -> list[Step]:
        """The named steps: those that put the log in order, and those that are run for every range of customers."""
        return self._measuring(whole=True).steps()

    def sql(self) -> str:
        """The SQL of every step, in the engine's dialect, each under its name; `$low` and `$high` are a range of customers.

        What the steps give, measures of each customer's cells, is folded into windows by `persopredict.features.fold`.
        """
        dialect = self.events.engine.dialect
        return "\n\n".join(f"-- {step.name}\n{step.sql(dialect)};" for step in self.steps())

    def batches(self, size: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Arrow batches of at most `size` rows."""
        empty = True
        for batch in self._measuring(whole=True).batches():
            rows = self._rows(batch)
            for start in range(0, rows.num_rows, size):
                empty = False
                yield rows.slice(start, size)
        if empty:
            yield pa.RecordBatch.from_pylist([], schema=self._schema)

    @property
    def _schema(self) -> pa.Schema:
        labels = [(name, pa.int8()) for name in self.label_names]
        return pa.schema([*_KEYS, *((feature.name, pa.float64()) for feature in self.features), *labels])

    def _rows(self, batch: Batch) -> pa.RecordBatch:
        """The batch's rows, by group and cutoff: those whom some target asks for, or all of a spine."""
        found = batch.measured
        codes = [outcomes.reasons(target, found.__getitem__) for target in self.targets]
        kept = self._kept(batch, codes)
        arrays: list[pa.Array] = _keys(batch, kept)
        for feature in self.features:
            values = _flat(found.feature(feature, self._numeric), kept)
            # Told by a mask: what comes "from pandas" loads pandas.
            arrays.append(pa.array(values, pa.float64(), mask=np.isnan(values) if feature.fallback is None else None))
        for number, code in enumerate(codes):
            label = np.where(code == 0, batch.labels[number], np.nan)
            values = _flat(label, kept)
            arrays.append(pa.array(np.nan_to_num(values).astype(np.int8), mask=np.isnan(values)))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _kept(self, batch: Batch, codes: Sequence[npt.NDArray[np.int8]]) -> _Mask | None:
        """The rows to give, (cutoffs, groups); None for all."""
        known = batch.measured[outcomes.KNOWN] != LEAST
        if self.spine is not None:
            return None
        for_some: _Mask = known & np.any([code == 0 for code in codes], axis=0) if codes else known
        return None if for_some.all() else for_some

    def to_arrow(self) -> pa.Table:
        """One Arrow table."""
        with progress.task("snapshots"):
            return pa.Table.from_batches(list(self.batches()))

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame; a label with nulls becomes float64."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_parquet(self, path: str | Path) -> Path:
        """Write a Parquet file, batch by batch; returns its path."""
        with progress.task(f"snapshots into {Path(path).name}"):
            batches = self.batches()
            first = next(batches)
            with pq.ParquetWriter(path, first.schema) as writer:
                writer.write_batch(first)
                for batch in batches:
                    writer.write_batch(batch)
        return Path(path)

    def population(self) -> pa.Table:
        """Every customer that the cutoffs know: customer_id, cutoff, and per target ``reason_<name>``, null where it is asked."""
        names = [f"reason_{target.name}" for target in self.targets]
        schema = pa.schema([*_KEYS, *((name, pa.string()) for name in names)])
        words = pa.array([None, *outcomes.REASONS], pa.string())
        found = []
        for batch in self._measuring(whole=False).batches():
            known = batch.measured[outcomes.KNOWN] != LEAST
            codes = [_flat(outcomes.reasons(target, batch.measured.__getitem__), known) for target in self.targets]
            found.append(pa.RecordBatch.from_arrays([*_keys(batch, known), *(words.take(pa.array(code)) for code in codes)], schema=schema))
        return pa.Table.from_batches(found, schema)


_Mask = npt.NDArray[np.bool_]


def _counted(items: Sequence[Any], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _flat(values: npt.NDArray[Any], kept: _Mask | None) -> npt.NDArray[Any]:
    """(cutoffs, groups) as rows, by group and cutoff."""
    return np.ascontiguousarray(values.T).reshape(-1) if kept is None else np.asarray(values.T[kept.T])


def _keys(batch: Batch, kept: _Mask | None) -> list[pa.Array]:
    shape = (batch.measured.cutoffs, batch.measured.groups)
    groups = _flat(np.broadcast_to(np.arange(shape[1]), shape), kept)
    cutoffs = _flat(np.broadcast_to(batch.measured.at.us, shape), kept)
    return [batch.customers.take(pa.array(groups)), pa.array(cutoffs, pa.int64()).cast(_INSTANT)]
