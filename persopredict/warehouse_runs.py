"""A run and what came of it, and how both become rows of the warehouse's tables; everything wrong is said at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from persopredict.attribute_columns import SCHEMA, SCORED, arrow_schema
from persopredict.attributes import conform, run_id, target_name_problems, to_arrow, to_frame
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import instant
from persopredict.warehouse_tables import OUTCOMES, PUBLISHED, QUARANTINE, STATES, TABLES, State, first

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


@dataclass(frozen=True, slots=True)
class Run:
    """What one target came to at one `as_of`: a line of the ledger, with its attributes if there are any.

    Parameters
    ----------
    target, as_of : what was scored, and the instant of the scores.
    state : ``"published"`` (the default; needs `attributes`), ``"skipped"`` or ``"failed"`` (needs a `code`; its
        attributes, if given, hold no scores, only reasons such as target_failed).
    attributes : predictive attributes as `persopredict.attributes` makes them.
    code, reason : why it was skipped or failed: a stable snake_case name, and a sentence.
    grade : the evaluation's grade of the model.
    model_version, valid_until : default: those of the attributes.
    trained_until : what the model learnt from ends here.
    metrics : the evaluation's numbers, by name; may nest. Kept as JSON.
    """

    target: str
    as_of: datetime
    state: State = PUBLISHED
    attributes: IntoFrame | None = None
    code: str | None = None
    reason: str | None = None
    grade: str | None = None
    model_version: str | None = None
    trained_until: datetime | None = None
    valid_until: datetime | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, attributes: IntoFrame) -> Run:
        """The published run that a frame of attributes came from, read off its first row."""
        table = to_arrow(attributes)
        # The rest of the rows is checked when they are published.
        first = conform(table.slice(0, 1)).to_pylist()
        if not first:
            raise SpecificationError("a frame without rows names no target; pass Run(target, as_of, attributes=…)")
        return cls(first[0]["target"], first[0]["as_of"], attributes=table)


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a published run once its labels had ended, beside what it had said: a row of the table `outcomes`.

    `target`, `as_of`, `run_id`, `model_version`: of the run; `ended_at`: where its labels ended. `customers`: scored then, with a label
    now; `rows`: the same, but of an affinity their published pairs with categories. `expected`: the sum of their probabilities; 95% of the
    time the count would lie from `lower` to `upper` if these were right; `actual`: what it was. `auc`, `log_loss` (nats per row), `ece` and
    `ece_chance_p95` as in `metrics.Metrics`, nan where they have no value; `base_rate_log_loss`: of saying the actual rate of everyone.
    `settled_at`: the `as_of` of the job that compared; `measured_at`: by the clock.
    """

    target: str
    as_of: datetime
    run_id: str
    model_version: str
    ended_at: datetime
    customers: int
    rows: int
    expected: float
    lower: int
    upper: int
    actual: int
    auc: float
    log_loss: float
    base_rate_log_loss: float
    ece: float
    ece_chance_p95: float
    settled_at: datetime
    measured_at: datetime

    @classmethod
    def of(cls, values: Mapping[Any, Any]) -> Settled:
        """From a row of `Warehouse.outcomes`, times as UTC `datetime`."""
        plain: dict[str, Any] = {name: instant(value) if isinstance(value, datetime) else value for name, value in values.items()}
        return cls(**plain)

    @property
    def surprise(self) -> int:
        """1: more came than the interval holds; -1: fewer; 0: within it."""
        return (self.actual > self.upper) - (self.actual < self.lower)


def settled_rows(settled: Iterable[Settled]) -> pa.Table:
    """The rows of the table `outcomes`; a metric without a value is null."""
    rows = [{name: None if value != value else value for name, value in asdict(run).items()} for run in settled]
    return pa.Table.from_pylist(rows, arrow_schema(TABLES[OUTCOMES]))


def name_problems(names: Sequence[str]) -> list[Problem]:
    """What the tables would refuse of the targets of one job: names that can't begin columns, and pairs that would make the same column.

    >>> [problem.code for problem in name_problems(["churn", "churn_previous"])]
    ['same_column']
    """
    if not names:
        return [Problem("no_targets", "there are no predictors", remedy="give one for each target")]
    problems = [problem for name in dict.fromkeys(names) for problem in target_name_problems(name)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    problems += [
        Problem("two_of_one_name", f"two predictors are of the target {name!r}", remedy="give one another name=") for name in doubled
    ]
    for name in sorted({name for name in names if f"{name}_previous" in names}):
        text = f"the targets {name!r} and '{name}_previous' would both make the column '{name}_previous_band'"
        problems.append(Problem("same_column", text, remedy="give one another name="))
    return problems


def prepare(runs: Sequence[Run], now: datetime) -> tuple[list[dict[str, Any]], list[pa.Table]]:
    """The lines of the ledger and the attributes; raises `SpecificationError` with the problems of all runs."""
    problems: list[Problem] = []
    lines: list[dict[str, Any]] = []
    frames: list[pa.Table] = []
    for run in runs:
        try:
            table = None if run.attributes is None else conform(run.attributes)
        except SpecificationError as error:
            found: Iterable[Problem] = error.problems or [Problem("bad_frame", str(error))]
        else:
            found = _run_problems(run, table)
            if not found:
                lines.append(_line(run, table, now))
                frames += [] if table is None else [table]
        problems += [replace(problem, source=problem.source or str(run.target)) for problem in found]
    keys = [(line["target"], line["as_of"]) for line in lines]
    for target, as_of in sorted({key for key in keys if keys.count(key) > 1}):
        problems.append(Problem("duplicate_run", f"two runs at {as_of.isoformat()}", source=target, remedy="give one"))
    if problems:
        raise SpecificationError("nothing was published, the runs have problems", problems)
    return lines, frames


def _run_problems(run: Run, table: pa.Table | None) -> list[Problem]:
    problems = target_name_problems(run.target)
    if run.state not in STATES:
        return [*problems, Problem("bad_state", f"no state {run.state!r}", remedy=did_you_mean(run.state, STATES))]
    if run.state == PUBLISHED and table is None:
        problems.append(Problem("no_attributes", "published without attributes", remedy="give them, or say skipped"))
    if run.state == PUBLISHED and table is not None and _valid_until(run, table) is None:
        problems.append(Problem("no_valid_until", "no attributes to take valid_until from", remedy="give valid_until"))
    if run.state != PUBLISHED and not run.code:
        problems.append(Problem("no_code", f"{run.state} without a code", remedy="say why"))
    if table is None:
        return problems
    if run.state != PUBLISHED and SCORED in table["status"].unique().to_pylist():
        problems.append(Problem("hidden_scores", f"{run.state}, yet some customers are scored", remedy="publish it"))
    expected = {"target": run.target, "as_of": instant(run.as_of), "run_id": _id(run, table)}
    for name, value in expected.items():
        if set(table[name].unique().to_pylist()) - {value}:
            message = f"its attributes have another {name} than {value}"
            problems.append(Problem("attributes_of_another_run", message, remedy="make them with pp.attributes"))
    return problems


def _id(run: Run, table: pa.Table | None) -> str:
    return run_id(run.target, instant(run.as_of), run.model_version or first(table, "model_version"))


def _valid_until(run: Run, table: pa.Table | None) -> datetime | None:
    given = run.valid_until or first(table, "valid_until")
    return None if given is None else instant(given)


def _line(run: Run, table: pa.Table | None, now: datetime) -> dict[str, Any]:
    """The run as a row of the ledger."""
    rows = to_frame((SCHEMA.empty_table() if table is None else table).select(["customer_id", "status", "not_scored_reason"]))
    reasons = rows.groupby("not_scored_reason")["customer_id"].nunique()
    return {
        "target": run.target,
        "as_of": instant(run.as_of),
        "run_id": _id(run, table),
        "state": run.state,
        "code": run.code,
        "reason": run.reason,
        "customers": int(rows["customer_id"].nunique()),
        "scored": int(rows.loc[rows["status"] == SCORED, "customer_id"].nunique()),
        "counts_by_reason": json.dumps(reasons.to_dict(), sort_keys=True),
        "grade": run.grade,
        "model_version": run.model_version or first(table, "model_version"),
        "trained_until": None if run.trained_until is None else instant(run.trained_until),
        "valid_until": _valid_until(run, table),
        "metrics": json.dumps(_plain(run.metrics), sort_keys=True),
        "scored_at": now if table is None or not len(table) else max(table["scored_at"].unique().to_pylist()),
    }


def _plain(value: object) -> object:
    """What JSON can hold of a metric: NumPy scalars as Python's, NaN and infinities as null, the rest as text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def rejected(quarantine: IntoFrame, as_ofs: set[datetime]) -> pa.Table:
    """The quarantined rows as the table wants them, their `as_of` that of the runs."""
    table, columns = to_arrow(quarantine), TABLES[QUARANTINE]
    if len(as_ofs) != 1:
        raise SpecificationError(f"quarantined rows belong to one as_of, but the runs have {len(as_ofs)}; publish them apart")
    problems = [
        Problem("missing_column", f"no column {name!r}", remedy=did_you_mean(name, table.column_names), source=QUARANTINE)
        for name in ("source", "code", "reason", "row")
        if name not in table.column_names
    ]
    if problems:
        raise SpecificationError("the quarantined rows can't be kept", problems)
    given = {name: table[name] if name in table.column_names else pa.nulls(len(table)) for name in columns}
    given["as_of"] = pa.array([*as_ofs] * len(table), arrow_schema(columns).field("as_of").type)
    return pa.table(given).cast(arrow_schema(columns))
