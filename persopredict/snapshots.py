"""Snapshots: customers as they stood at each cutoff, with features from before it and labels from after it.

`Snapshots` is a plan until its rows are asked for; `sql()` shows the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from persopredict import conditions, outcomes
from persopredict.engines.base import Step
from persopredict.engines.expressions import case, cast_to, col, microseconds, select, table
from persopredict.errors import Problem, SpecificationError
from persopredict.events import EventLog, Moment
from persopredict.features.plan import KEYS, SPINE, FeaturePlan, Grid, Log, bound
from persopredict.features.spec import Feature, check_features
from persopredict.targets import Target
from persopredict.times import Duration, instant, local_midnight

if TYPE_CHECKING:
    import pandas as pd

_MOST_CUTOFFS = 2000
_INSTANT = pa.timestamp("us", tz="UTC")


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
    last = local_midnight(end, events._zone) if until is None else instant(until, events._zone)
    earliest = start if since is None else instant(since, events._zone)
    latest = Duration.parse(gap).before(Duration.parse(horizon).before(last, events._zone), events._zone)
    found: list[datetime] = []
    for number in range(_MOST_CUTOFFS + 1):
        cutoff = Duration(days=step.days * number, hours=step.hours * number).before(latest, events._zone)
        if cutoff <= earliest or (limit is not None and len(found) == limit):
            return found[::-1]
        found.append(cutoff)
    raise SpecificationError(f"every={step} gives more than {_MOST_CUTOFFS:,} cutoffs; take a longer step or a limit")


def snapshots(
    events: EventLog,
    cutoffs: Sequence[Moment],
    features: Sequence[Feature] | None = None,
    targets: Sequence[Target] = (),
    *,
    until: Moment | None = None,
) -> Snapshots:
    """Snapshots of `events` at `cutoffs`.

    Parameters
    ----------
    events : the log.
    cutoffs : instants; naive ones are read in the log's time zone.
    features : default `default_features(events)`, of what was known before the last cutoff.
    targets : each gives a column ``label_<name>``; rows are the customers eligible for at least one of them. Without targets, every
        customer known before the cutoff.
    until : labels count only what was known before it; default no limit.

    Returns
    -------
    Snapshots : customer_id (text), cutoff (UTC), features (float64, null where undefined), labels (0, 1 or null); ordered by customer and
        cutoff.

    Raises
    ------
    SpecificationError : with every problem of features, targets and cutoffs.
    """
    from persopredict.features.builders import default_features

    moments = tuple(sorted({instant(cutoff, events._zone) for cutoff in cutoffs}))
    chosen = tuple(default_features(events, until=moments[-1] if moments else None) if features is None else features)
    problems = check_features(chosen, events.columns, events.numeric)
    for target in targets:
        for key in ("where", "cohort"):
            texts = conditions.misread(getattr(target, key), events.columns, events.numeric)
            problems += [Problem(f"target_{key}", f"{target.name}: {text}") for text in texts]
    names = [target.name for target in targets]
    problems += [Problem("target_name", f"two targets are named {name!r}") for name in sorted({n for n in names if names.count(n) > 1})]
    if not len(cutoffs):
        problems.append(Problem("no_cutoff", "there is no cutoff", remedy="give at least one, see rolling_cutoffs"))
    if problems:
        raise SpecificationError("the snapshots can't be planned", problems)
    return Snapshots(events, moments, chosen, tuple(targets), None if until is None else instant(until, events._zone))


@dataclass(frozen=True)
class Snapshots:
    """A plan of snapshots. Nothing is computed before `batches`, `to_arrow`, `to_pandas` or `to_parquet`."""

    events: EventLog
    cutoffs: tuple[datetime, ...]
    features: tuple[Feature, ...]
    targets: tuple[Target, ...] = ()
    until: datetime | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' columns."""
        return tuple(f"label_{target.name}" for target in self.targets)

    def bounds(self) -> pa.Table:
        """The table `cutoffs`: every boundary that some step needs, in microseconds, one row per cutoff."""
        zone = self.events._zone
        windows = {feature.window for feature in self.features if feature.window is not None}
        windows |= {feature.window.half() for feature in self.features if feature.aggregate == "trend" and feature.window}
        windows |= {target.active_within for target in self.targets if target.active_within is not None}
        columns: dict[str, list[int | None]] = {"cutoff_us": [microseconds(cutoff) for cutoff in self.cutoffs]}
        columns["cutoff_day"] = [cutoff.astimezone(zone).toordinal() - datetime(1970, 1, 1).toordinal() for cutoff in self.cutoffs]
        for window in sorted(windows, key=lambda window: (window.approximate, str(window))):
            columns[bound(window)] = [microseconds(window.before(cutoff, zone)) for cutoff in self.cutoffs]
        for number, target in enumerate(self.targets):
            spans = [self._label_span(target, cutoff) for cutoff in self.cutoffs]
            for name, side in zip(outcomes.label_bounds(number), (0, 1), strict=True):
                columns[name] = [None if span is None else microseconds(span[side]) for span in spans]
        return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})

    def _label_span(self, target: Target, cutoff: datetime) -> tuple[datetime, datetime] | None:
        """Where the label of a cutoff starts and ends; None before the sources it reads, and `until`, have reached its end."""
        zone = self.events._zone
        start = target.gap.after(cutoff, zone)
        end = target.horizon.after(start, zone)
        observed = self.events.observed_for(target)
        matured = observed[0] <= cutoff and end <= observed[1] and (self.until is None or end <= self.until)
        return (start, end) if matured else None

    def steps(self) -> list[Step]:
        """The named steps, in order; the last is ``snapshots``."""
        grid, log = self._grid(), self._log()
        plan = FeaturePlan(self.features, log)
        steps = [*outcomes.population(self.targets, grid, log), outcomes.spine_of_eligible(self.targets), *plan.steps(grid)]
        if self.targets:
            steps.append(outcomes.labels(self.targets, until_us=None if self.until is None else microseconds(self.until)))
        return [*steps, self._last(plan)]

    def _log(self) -> Log:
        return Log(self.events.late, frozenset(self.events.numeric))

    def _grid(self) -> Grid:
        bounds = self.bounds()
        edges = [name for name in bounds.column_names if name.startswith(("cutoff_us", "from_"))]
        return Grid.of([value for name in edges for value in bounds[name].to_pylist()])

    def _last(self, plan: FeaturePlan) -> Step:
        columns = {**{key: col(key, SPINE) for key in KEYS}, **plan.columns}
        for number, target in enumerate(self.targets):
            asked = exp.Is(this=col(outcomes.status_column(number), "population"), expression=exp.null())
            label = case([(asked, col(f"label_{number}", "labels"))])
            columns[f"label_{target.name}"] = cast_to(label, "TINYINT")
        query = select(columns, table(SPINE))
        for name in [*plan.results(), *(["labels", "population"] if self.targets else [])]:
            same = exp.and_(*(exp.EQ(this=col(key, name), expression=col(key, SPINE)) for key in KEYS))
            query = query.join(table(name), on=same, join_type="left", copy=False)
        return Step("snapshots", query.order_by(*(col(key, SPINE) for key in KEYS)))

    def sql(self) -> str:
        """The SQL of every step, in the engine's dialect, each under its name."""
        dialect = self.events.engine.dialect
        return "\n\n".join(f"-- {step.name}\n{step.sql(dialect)};" for step in self.steps())

    def _run(self) -> tuple[Step, list[str]]:
        """Run every step but the last, which is returned unread, with the tables that it reads."""
        engine = self.events.engine
        self.events.prepare()
        engine.load("cutoffs", self.bounds())
        *before, last = self.steps()
        for step in before:
            engine.create(step)
            for name in step.drops:
                engine.drop(name)
        return last, [step.name for step in before]

    def batches(self, size: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Arrow batches of at most `size` rows."""
        last, read = self._run()
        for batch in self.events.engine.batches(last, size):
            yield batch.set_column(1, "cutoff", batch.column("cutoff_us").cast(_INSTANT))
        for name in read:
            self.events.engine.drop(name)

    def to_arrow(self) -> pa.Table:
        """One Arrow table."""
        return pa.Table.from_batches(list(self.batches()))

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame; a label with nulls becomes float64."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_parquet(self, path: str | Path) -> Path:
        """Write a Parquet file, batch by batch; returns its path."""
        batches = self.batches()
        first = next(batches)
        with pq.ParquetWriter(path, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
        return Path(path)

    def population(self) -> pa.Table:
        """Every customer that the cutoffs know: customer_id, cutoff, and per target ``reason_<name>``, null where it is asked."""
        engine = self.events.engine
        self.events.prepare()
        engine.load("cutoffs", self.bounds())
        for step in outcomes.population(self.targets, self._grid(), self._log()):
            engine.create(step)
        names = {f"reason_{target.name}": col(outcomes.status_column(number)) for number, target in enumerate(self.targets)}
        query = select({**{key: col(key) for key in KEYS}, **names}, "population").order_by(*(col(key) for key in KEYS))
        rows = engine.arrow(Step("reasons", query))
        return rows.set_column(1, "cutoff", rows.column("cutoff_us").cast(_INSTANT))
