"""What is known of a log before it is judged, and what the judgement is shown as: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from persopredict import html
from persopredict.errors import Problem, Severity
from persopredict.sources import UNUSABLE
from persopredict.times import Duration, zone

_WORST_FIRST: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class SourceFacts:
    """What one source held.

    `unusable`: code to (count, first example). `naive`: rows whose time carries no offset. `observed`: the span in which the source is
    complete; `declared` if its owner said so, then `outside` it lie so many rows. `remarks`: what was bearable about its files.
    """

    name: str
    rows: int
    usable: int
    unusable: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    duplicates: int = 0
    identical: int = 0
    naive: int = 0
    observed: tuple[datetime, datetime] | None = None
    max_lag: Duration = field(default_factory=Duration)
    outside: int = 0
    declared: bool = False
    remarks: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class LookupFacts:
    """What one lookup held.

    `unusable`: code to (count, first example). `keys`: different keys of the usable rows. `repeated`: rows beyond the first of their key
    and times; `differing`: those of them with other facts. `pending`: rows that begin to hold in the future. `naive`: rows whose time
    carries no offset. `empty`: facts that are null throughout. `versioned`: some column says since when. Of the `log_keys` values that the
    log has of the key, the lookup lacks `unmatched`; `examples` are the first of these and the lookup's own first key.
    """

    name: str
    key: str
    columns: tuple[str, ...]
    rows: int
    usable: int
    keys: int
    unusable: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    repeated: int = 0
    differing: int = 0
    pending: int = 0
    naive: int = 0
    empty: tuple[str, ...] = ()
    versioned: bool = True
    log_keys: int = 0
    unmatched: int = 0
    examples: tuple[str, str] = ("", "")
    remarks: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class LogFacts:
    """What the whole log held. `events`: name to (rows, customers); `categories`: the levels, `category` first; `spans`: name to the first
    and the last time of an event.
    """

    timezone: str
    columns: tuple[str, ...]
    sources: tuple[SourceFacts, ...]
    events: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    structural: tuple[Problem, ...] = ()
    negatives: Mapping[str, int] = field(default_factory=dict)
    currencies: tuple[str, ...] = ()
    sources_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    numeric: tuple[str, ...] = ()
    lookups: tuple[LookupFacts, ...] = ()
    categories: tuple[str, ...] = ()
    spans: Mapping[str, tuple[datetime, datetime]] = field(default_factory=dict)


@dataclass(frozen=True)
class UsabilityReport:
    """What `EventLog.check` found. `ok`: a job can go on; `str()` is the report for people."""

    problems: tuple[Problem, ...]
    rows: int
    usable: int
    customers: int
    observed: tuple[datetime, datetime] | None
    events: Mapping[str, tuple[int, int]]
    lookups: tuple[LookupFacts, ...] = ()
    timezone: str = "UTC"

    @property
    def ok(self) -> bool:
        """True unless a problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def _days(self) -> str:
        """The first and the last day observed, in the log's time zone."""
        return " to ".join(f"{moment.astimezone(zone(self.timezone)):%Y-%m-%d}" for moment in self.observed or ())

    @property
    def quarantined(self) -> int:
        """Rows of events that can't be used."""
        return sum(problem.count for problem in self.problems if problem.code in UNUSABLE)

    def codes(self) -> list[str]:
        """The codes of the problems, in order."""
        return [problem.code for problem in self.problems]

    def to_frame(self) -> Any:
        """The problems as a pandas frame: severity, code, source, message, count, example, remedy."""
        import pandas as pd

        keys = ("severity", "code", "source", "message", "count", "example", "remedy")
        return pd.DataFrame([{key: getattr(problem, key) for key in keys} for problem in self.problems], columns=list(keys))

    def __repr__(self) -> str:
        """In a line; `str` tells all of it."""
        found = ", ".join(self.codes()) or "no problems"
        return f"UsabilityReport({'ok' if self.ok else 'not ok'}, {self.rows:,} rows, {self.customers:,} customers: {found})"

    def __str__(self) -> str:
        """Several lines: totals, events, lookups, problems by severity."""
        span = f", {self._days}" if self.observed else ""
        lines = [f"{self.rows:,} rows, {self.usable:,} usable, {self.customers:,} customers{span}"]
        for name, (rows, customers) in self.events.items():
            lines.append(f"  {name}: {rows:,} events of {customers:,} customers")
        lines += [
            f"  {each.name}: {', '.join(each.columns)} by {each.key}, {each.usable:,} rows of {each.keys:,} keys" for each in self.lookups
        ]
        lines += [f"- {problem}" for problem in sorted(self.problems, key=lambda problem: _WORST_FIRST[problem.severity])]
        if not self.problems:
            lines.append("no problems found")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: totals, the problems, the worst first, and the log's events and lookups, to be opened."""
        span = f", {self._days}" if self.observed else ""
        verdict = "usable" if self.ok else "not usable as it is"
        problems = [
            (
                f"{problem.severity} {problem.code}",
                problem.source,
                problem.message,
                f"{problem.count:,}" if problem.count else "",
                problem.example,
                problem.remedy,
            )
            for problem in sorted(self.problems, key=lambda problem: _WORST_FIRST[problem.severity])
        ]
        heading = ("", "where", "what", "count", "first", "remedy")
        events = [(name, f"{rows:,}", f"{customers:,}") for name, (rows, customers) in self.events.items()]
        facts = [(each.name, ", ".join(each.columns), each.key, f"{each.usable:,}", f"{each.keys:,}") for each in self.lookups]
        return html.block(
            html.title(verdict, f"{self.rows:,} rows, {self.usable:,} usable, {self.customers:,} customers{span}"),
            html.table(heading, problems, words=(0, 1, 2, 4, 5)) if problems else html.note(["no problems found"]),
            html.folded("events", html.table(("event", "events", "customers"), events)) if events else html.note([]),
            html.folded("lookups", html.table(("lookup", "facts", "key", "rows", "keys"), facts, words=(0, 1, 2)))
            if facts
            else html.note([]),
        )
