"""What a job found beside its scores: the check of the log, and what it noted of each target; a row of the table `jobs`.

With it a report of a run can be written long after, without the log. What is kept names no customer and shows no row of a source: problems
lose their examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from persopredict.attribute_columns import arrow_schema
from persopredict.errors import Problem
from persopredict.times import instant
from persopredict.usability import LookupFacts, UsabilityReport
from persopredict.warehouse_tables import JOBS, TABLES

#: What is kept of a lookup: facts about it, none out of it.
_OF_LOOKUPS = ("name", "key", "columns", "rows", "usable", "keys", "versioned", "log_keys", "unmatched")


@dataclass(frozen=True, slots=True)
class Noted:
    """What a job noted of one target: sentences for whoever reads it, and the problems for which it was skipped or failed."""

    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a job found at one `as_of`.

    Parameters
    ----------
    as_of : of the job's scores.
    report : what `EventLog.check` found; examples are not stored.
    targets : name to what was noted of it.

    >>> report = UsabilityReport((Problem("null_event", "no name", "warning", 2, example="row 7"),), 10, 8, 3, None, {"visit": (8, 3)})
    >>> kept = Findings.of(Findings(instant("2024-10-27"), report).row().to_pylist()[0])
    >>> kept.report.events, kept.report.problems[0].count, kept.report.problems[0].example
    ({'visit': (8, 3)}, 2, '')
    """

    as_of: datetime
    report: UsabilityReport
    targets: Mapping[str, Noted] = field(default_factory=dict)

    def row(self) -> pa.Table:
        """The row of the table `jobs`."""
        report = self.report
        first, last = report.observed or (None, None)
        lookups = [{name: getattr(lookup, name) for name in _OF_LOOKUPS} for lookup in report.lookups]
        targets = {
            name: {"notes": noted.notes, "problems": [_plain(problem) for problem in noted.problems]}
            for name, noted in self.targets.items()
        }
        values = {
            "as_of": self.as_of,
            "rows": report.rows,
            "usable": report.usable,
            "customers": report.customers,
            "observed_from": first,
            "observed_until": last,
            "events": json.dumps({name: list(counts) for name, counts in report.events.items()}, ensure_ascii=False),
            "lookups": json.dumps(lookups, ensure_ascii=False),
            "problems": json.dumps([_plain(problem) for problem in report.problems], ensure_ascii=False),
            "targets": json.dumps(targets, ensure_ascii=False),
        }
        return pa.Table.from_pylist([values], arrow_schema(TABLES[JOBS]))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Findings:
        """From a row of the table `jobs`."""
        spans = [values[name] for name in ("observed_from", "observed_until")]
        report = UsabilityReport(
            problems=_problems(json.loads(values["problems"])),
            rows=values["rows"],
            usable=values["usable"],
            customers=values["customers"],
            observed=None if spans[0] is None else (instant(spans[0]), instant(spans[1])),
            events={name: (counts[0], counts[1]) for name, counts in json.loads(values["events"]).items()},
            lookups=tuple(LookupFacts(**lookup | {"columns": tuple(lookup["columns"])}) for lookup in json.loads(values["lookups"])),
        )
        targets = {
            name: Noted(tuple(noted["notes"]), _problems(noted["problems"])) for name, noted in json.loads(values["targets"]).items()
        }
        return cls(instant(values["as_of"]), report, targets)


def _plain(problem: Problem) -> dict[str, Any]:
    return asdict(replace(problem, example=""))


def _problems(stored: list[dict[str, Any]]) -> tuple[Problem, ...]:
    known = {item.name for item in fields(Problem)}
    return tuple(Problem(**{name: value for name, value in values.items() if name in known}) for values in stored)
