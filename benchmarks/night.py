"""The nightly job on a large log: `make bench-night` runs two nights of a shop of a million customers and 50 million events.

The first night trains and scores, the second only scores, as most nights do: churn and conversion with reasons for every customer, and what
each is drawn to among 30 categories, with reasons for the top three. What each step takes, and the peak memory by its end, is printed and
written to `night.md`. Each night is a process of its own, as a scheduler starts it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import made_logs
from speed import apart

import persopredict as pp

CUSTOMERS, EVENTS = 1_000_000, 50_000_000
NIGHTS = (made_logs.END - timedelta(days=1), made_logs.END)
#: Minutes and GB.
GOAL, MEMORY = 30, 8
#: GB that the log may take of it.
LOG_MEMORY = 2


@dataclass(frozen=True, slots=True)
class Step:
    """What a step took in seconds, and the peak memory of the process by its end in GB."""

    name: str
    seconds: float
    peak: float


@dataclass
class Night:
    """A night as it went: `steps` in order, by target the `rows` that were published and the customers `scored`, the job's `exit_code`, and
    the `size` of what it left on disk in GB.
    """

    as_of: datetime
    steps: list[Step] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    exit_code: int = -1
    size: float = 0.0

    @property
    def seconds(self) -> float:
        """From the start of the process's work to its end."""
        return sum(step.seconds for step in self.steps)

    @property
    def peak(self) -> float:
        """GB."""
        return max(step.peak for step in self.steps)


class Clock:
    """The progress of a job, timed."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._name, self._since = "starting", time.perf_counter()

    def __call__(self, step: str) -> None:
        """A step begins, the one before it has ended."""
        now = time.perf_counter()
        self.steps.append(Step(self._name, now - self._since, _peak()))
        print(f"  {self._name:<55}{now - self._since:>9.1f} s{_peak():>8.2f} GB", flush=True)
        self._name, self._since = step, now


def night(log: Path, folder: Path, as_of: datetime) -> Night:
    """One run of the job."""
    clock = Clock()
    events = pp.EventLog(log, observed=(made_logs.START, made_logs.END), timezone="UTC").limited(memory=f"{LOG_MEMORY}GB")
    targets = [
        pp.Churn("purchase", "28d", name="churn"),
        pp.Conversion("purchase", "28d", active_within="91d", name="conversion"),
        pp.Affinity("purchase", "28d", by="category", top=3, top_new=1, name="affinity"),
    ]
    predictors, warehouse = [pp.Predictor(target) for target in targets], folder / "warehouse.duckdb"
    # Any category of the made log is as likely as its share of the events: no model of it beats that, and none is refused here.
    job = pp.Job(events, predictors, warehouse=warehouse, min_grade="C", progress=clock)
    result = job.run(as_of)
    clock("")
    found = Night(as_of, clock.steps, exit_code=result.exit_code)
    for outcome in result.outcomes:
        found.rows[outcome.target] = 0 if outcome.attributes is None else len(outcome.attributes)
        found.scored[outcome.target] = outcome.counts.get("scored", 0)
    found.size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e9
    return found


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    return peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


def report(nights: Sequence[Night], chosen: argparse.Namespace, load: tuple[float, float]) -> str:
    """The nights as Markdown."""
    lines = [
        "# The nightly job, a large log",
        "",
        f"`make bench-night`: {chosen.customers:,} customers, {chosen.events:,} events of a year, 30 categories, {chosen.threads} threads.",
        f"Measured {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in ('duckdb', 'lightgbm', 'numpy'))}; "
        f"load {load[0]:.1f} before, {load[1]:.1f} after.",
        "",
        "| what | aimed at | the first night, which trains | the second, which scores |",
        "| --- | --- | --- | --- |",
        f"| minutes in all | {GOAL} | " + " | ".join(f"{each.seconds / 60:.1f}" for each in nights) + " |",
        f"| peak memory, GB | below {MEMORY} | " + " | ".join(f"{each.peak:.2f}" for each in nights) + " |",
        "| exit code | 0 | " + " | ".join(str(each.exit_code) for each in nights) + " |",
    ]
    lines += [
        f"| {name}: customers scored, rows | | " + " | ".join(f"{each.scored[name]:,}, {each.rows[name]:,}" for each in nights) + " |"
        for name in nights[0].rows
    ]
    lines.append("| warehouse, Parquet copy and model store, GB | | " + " | ".join(f"{each.size:.2f}" for each in nights) + " |")
    for number, each in enumerate(nights, 1):
        lines += [
            "",
            f"## Night {number}, as of {each.as_of:%Y-%m-%d}",
            "",
            "| step | seconds | peak by its end, GB |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {step.name} | {step.seconds:.1f} | {step.peak:.2f} |" for step in each.steps]
    return "\n".join([*lines, ""])


def main() -> int:
    """Make the log, run the nights, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=made_logs.FOLDER, help="where the log is kept; default %(default)s")
    parser.add_argument("--report", type=Path, help="default night.md beside this file for the whole log, else none")
    chosen = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        # Every process started from here inherits it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    load = os.getloadavg()[0]
    log = apart(made_logs_log, chosen.events, chosen.customers, chosen.data)
    nights = []
    with tempfile.TemporaryDirectory() as folder:
        for as_of in NIGHTS:
            print(f"night of {as_of:%Y-%m-%d}", flush=True)
            nights.append(apart(night, log, Path(folder), as_of))
    text = report(nights, chosen, (load, os.getloadavg()[0]))
    print(text)
    whole = (chosen.customers, chosen.events) == (CUSTOMERS, EVENTS)
    if file := chosen.report or (Path(__file__).with_suffix(".md") if whole else None):
        file.write_text(text, encoding="utf-8")
    return 0


def made_logs_log(events: int, customers: int, folder: Path) -> Path:
    """The log's file, made if it isn't there."""
    return made_logs.log(events, customers, folder=folder)


if __name__ == "__main__":
    sys.exit(main())
