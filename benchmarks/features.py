"""Features against the floor, against what a user would write, against featuretools: `make bench` prints ratios and targets.

Logs are made (`made_logs.py`), rivals compute the same features (`rivals.py`, `rival_featuretools.py`), and their values are compared with
ours before anything is timed: a difference fails the run. Every figure comes from a process of its own, on the same two cores, the best of
up to three rounds in which everybody takes turns, the file being in the system's cache. A whole run also writes `features.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import made_logs
import measures
from measures import ONLINE_CUSTOMERS, ONLINE_EVENTS
from rival_featuretools import PACKAGES, environment, expressible

PARTS = ("floor", "ours", "duckdb", "polars", "featuretools", "memory", "online")
#: Another round is begun while the ones before took less than this together.
_SHORT_SECONDS = 60
_MEMORY_LIMIT = "4GB"


@dataclass(frozen=True)
class Measured:
    """What one process took: seconds as it counted them itself, peak resident memory in GB, and whatever else it said."""

    seconds: float
    peak: float
    said: dict[str, Any] = field(default_factory=dict)


class Failed(Exception):
    """A process that did not finish; `peak` is its peak resident memory in GB."""

    def __init__(self, text: str, peak: float) -> None:
        super().__init__(text)
        self.peak = peak


# Processes -------------------------------------------------------------------------------------------------------------------------


def apart(measure: str, **arguments: Any) -> Measured:
    """The measure from a fresh process: neither memory nor anything read serves the next."""
    return _run([sys.executable, str(Path(measures.__file__)), measure], json.dumps(arguments), arguments["threads"])


def _run(command: Sequence[str], asked: str, threads: int) -> Measured:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    settings = {**os.environ, "PYTHONWARNINGS": "ignore", **dict.fromkeys(names, str(threads))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings, text=True)
    assert process.stdin
    assert process.stdout
    process.stdin.write(asked)
    process.stdin.close()
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts in kilobytes, macOS in bytes.
    peak = usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e9 / 1024)
    if process.returncode:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}; it was asked {asked[:300]}", peak)
    found = json.loads(said.splitlines()[-1])
    return Measured(found["seconds"], peak, found)


def featuretools(
    path: Path, cutoffs: int, specs: Sequence[dict[str, Any]], chosen: argparse.Namespace, answer: Path | None = None
) -> Measured:
    """featuretools' own process. It has one thread: its parallel mode fails with the versions of dask that exist today."""
    asked = {
        "path": str(path),
        "cutoffs": [cutoff.isoformat() for cutoff in made_logs.cutoffs(cutoffs)],
        "features": specs,
        "answer": str(answer or ""),
    }
    script = Path(__file__).with_name("rival_featuretools.py")
    return _run([str(environment(chosen.data)), str(script)], json.dumps(asked), chosen.threads)


# A run -----------------------------------------------------------------------------------------------------------------------------


class Run:
    """What was asked for, and what has been measured so far, the best of each."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.best: dict[tuple[Any, ...], Measured] = {}
        self.agreed: list[str] = []
        self._spent: dict[tuple[Any, ...], float] = {}
        #: Told by another process too: what a parent has loaded counts in its children's peaks.
        self.specs: list[dict[str, Any]] = apart("specs", threads=chosen.threads).said["specs"]

    def log(self, events: int) -> Path:
        """A made log of so many events, 33 of a customer on average; another process makes it, so that its memory is not ours."""
        file = made_logs.place(events, self.customers(events), folder=self.chosen.data)
        if not file.exists():
            sizes = ["--events", str(events), "--customers", str(self.customers(events)), "--data", str(self.chosen.data)]
            subprocess.run([sys.executable, str(Path(made_logs.__file__)), *sizes], check=True)
        return file

    def customers(self, events: int) -> int:
        """As many as asked for the main log; the same proportion for the others."""
        return max(1, events * self.chosen.customers // self.chosen.events)

    def measure(self, key: tuple[Any, ...], take: Callable[[], Measured]) -> None:
        """One more round, if the rounds before were short."""
        spent = self._spent.get(key, 0.0)
        if spent < _SHORT_SECONDS:
            found = take()
            self._spent[key] = spent + found.seconds
            if key not in self.best or found.seconds < self.best[key].seconds:
                self.best[key] = found
            print(f"{' '.join(map(str, key)):<28}{found.seconds:>9.2f} s{found.peak:>7.2f} GB", flush=True)

    def values_agree(self) -> bool:
        """Whether every rival's values are ours, on smaller logs of the same kind; says what differs."""
        agree, chosen = True, self.chosen
        path, rivals = self.log(chosen.check_events), {"duckdb", "polars"} & set(chosen.only)
        for cutoffs in chosen.cutoffs if rivals else ():
            agree &= self._agrees(apart("check", path=str(path), threads=chosen.threads, cutoffs=cutoffs), path)
        if "featuretools" in chosen.only:
            path = self.log(chosen.check_events // 10)
            answer = chosen.data / "featuretools.parquet"
            featuretools(path, 3, expressible(self.specs), chosen, answer)
            agree &= self._agrees(apart("check", path=str(path), threads=chosen.threads, cutoffs=3, featuretools=str(answer)), path)
        return agree

    def _agrees(self, checked: Measured, path: Path) -> bool:
        for name, differences in checked.said["found"].items():
            print(
                f"{name}: {'the same values as ours' if not differences else 'OTHER VALUES'}, {checked.said['rows']:,} rows of {path.name}"
            )
            for text in differences:
                print(f"  {text}")
            self.agreed += [name] if not differences and name not in self.agreed else []
        return not any(checked.said["found"].values())

    def side_by_side(self) -> None:
        """The floor, ours and the hand-written rivals, in turns."""
        asked = [name for name in ("floor", "ours", "duckdb", "polars") if name in self.chosen.only]
        path = str(self.log(self.chosen.events)) if asked else ""
        for _ in range(self.chosen.rounds):
            for name in asked:
                for cutoffs in [None] if name == "floor" else self.chosen.cutoffs:
                    more = {} if cutoffs is None else {"cutoffs": cutoffs}
                    key = (name, *more.values())
                    self.measure(key, lambda name=name, more=more: apart(name, path=path, threads=self.chosen.threads, **more))

    def others(self) -> None:
        """featuretools, a large log in little memory, one customer at a time."""
        chosen = self.chosen
        if "featuretools" in chosen.only:
            path, specs = self.log(chosen.featuretools_events), expressible(self.specs)
            names = [spec["name"] for spec in specs]
            for _ in range(self.chosen.rounds):
                same = {"path": str(path), "threads": chosen.threads, "cutoffs": 3, "names": names}
                self.measure(("ours", "as featuretools"), lambda same=same: apart("ours", **same))
            self.measure(("featuretools",), lambda: featuretools(path, 3, specs, chosen))
        if "memory" in chosen.only:
            path = self.log(chosen.memory_events)
            for cutoffs in (1, 3):
                same = {"path": str(path), "threads": chosen.threads, "cutoffs": cutoffs, "limit": _MEMORY_LIMIT}
                try:
                    self.measure(("memory", cutoffs), lambda same=same: apart("ours", **same))
                except Failed as failed:
                    # Memory that is not bounded is a result too.
                    print(failed, flush=True)
                    self.best["memory", cutoffs] = Measured(math.nan, failed.peak)
        if "online" in chosen.only:
            self.measure(("online",), lambda: apart("online", path="", threads=chosen.threads))


# What it comes to ------------------------------------------------------------------------------------------------------------------


def measured_rows(run: Run) -> Iterator[tuple[str, ...]]:
    """(what, seconds, times the floor, peak memory)."""
    whole = run.best.get(("floor",))
    for key, found in run.best.items():
        name, *rest = key
        cutoffs = _cutoffs(rest[0]) if rest else ""
        what = {
            "floor": "floor: count, sum, max by customer",
            "ours": f"persopredict, {cutoffs}",
            "duckdb": f"hand-written DuckDB SQL, {cutoffs}",
            "polars": f"hand-written Polars, {cutoffs}",
            "featuretools": f"featuretools, 3 cutoffs, {run.chosen.featuretools_events:,} events",
            "memory": f"persopredict, {cutoffs}, {run.chosen.memory_events:,} events, limit {_MEMORY_LIMIT}",
            "online": f"online, one customer of {ONLINE_EVENTS} events",
        }[name]
        if rest == ["as featuretools"]:
            what = f"persopredict, 3 cutoffs, the {found.said['features']} features that featuretools can express"
        seconds = f"{found.seconds:.2f}"
        if "reading" in found.said:
            seconds += f" (reading {found.said['reading']:.2f}, features {found.seconds - found.said['reading']:.2f})"
        if name == "online":
            seconds = f"median {found.said['median'] * 1000:.2f} ms, p99 {found.said['p99'] * 1000:.2f} ms"
        compared = whole is not None and name in ("floor", "ours", "duckdb", "polars") and rest != ["as featuretools"]
        yield what, seconds, f"{found.seconds / whole.seconds:.1f}" if compared and whole else "", f"{found.peak:.2f} GB"


def target_rows(run: Run) -> Iterator[tuple[str, ...]]:
    """(target, aimed at, measured, verdict), of what was measured."""
    best = {key: found.seconds for key, found in run.best.items()}
    for cutoffs, most, stretch in ((3, 20, 12), (12, 50, None)):
        if ("ours", cutoffs) in best and ("floor",) in best:
            ratio = best["ours", cutoffs] / best["floor",]
            aim = f"at most {most}" + (f", stretch {stretch}" if stretch else "")
            verdict = "missed" if ratio > most else "met, stretch too" if stretch and ratio <= stretch else "met"
            yield f"persopredict / floor, {cutoffs} cutoffs", aim, f"{ratio:.1f}", verdict
    for cutoffs, least in ((3, 1.5), (12, 3)):
        rivals = {name: best[name, cutoffs] for name in ("duckdb", "polars") if (name, cutoffs) in best}
        if len(rivals) == 2 and ("ours", cutoffs) in best:
            better = min(rivals, key=lambda name: rivals[name])
            ratio = rivals[better] / best["ours", cutoffs]
            yield (
                f"better hand-written ({better}) / persopredict, {cutoffs} cutoffs",
                f"at least {least}",
                f"{ratio:.2f}",
                _verdict(ratio >= least),
            )
    if ("featuretools",) in best:
        ratio = best["featuretools",] / best["ours", "as featuretools"]
        yield "featuretools / persopredict, same features", "at least 20", f"{ratio:.0f}", _verdict(ratio >= 20)
    for key in (key for key in best if key[0] == "memory"):
        what = f"{run.chosen.memory_events:,} events under {_MEMORY_LIMIT}, {_cutoffs(key[1])}"
        yield what, "finishes", f"peak {run.best[key].peak:.2f} GB", _verdict(not math.isnan(best[key]))
    if ("online",) in best:
        p99 = run.best["online",].said["p99"] * 1000
        yield f"online, p99 of {ONLINE_CUSTOMERS:,} customers", "at most 2 ms", f"{p99:.2f} ms", _verdict(p99 <= 2)


def _cutoffs(count: Any) -> str:
    return f"{count} cutoff{'' if count == 1 else 's'}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def machine(threads: int) -> str:
    """What it was measured on; no names."""
    import psutil

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine()
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("persopredict", "duckdb", "polars", "numpy", "pyarrow"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores ({threads} used), {model}, {psutil.virtual_memory().total / 1e9:.0f} GB; "
        f"{platform.system()},\nPython {platform.python_version()}, {libraries}, {', '.join(PACKAGES[:3]).replace('==', ' ')} (apart)."
    )


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [tuple(head), tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _compared(rivals: Sequence[str]) -> str:
    if not rivals:
        return "Values were not compared in this run."
    names = ", ".join(rivals)
    return f"Before that, on smaller logs of the same generator,\n{names} gave persopredict's values (1e-9 relative, nulls equal)."


def report(run: Run, loads: tuple[float, float]) -> str:
    """The results as Markdown."""
    chosen = run.chosen
    return f"""# Features: against the floor, and against what a user would write or pick

Written by `make bench` (`features.py`). {len(run.specs)} features; a made log of {chosen.events:,} events and {chosen.customers:,}
customers over a year; cutoffs every 28 days, the last at the log's end. Each figure is the best of up to {chosen.rounds} rounds, each in a
process of its own, from the Parquet file to the last Arrow batch. {_compared(run.agreed)}

{machine(chosen.threads)}
Load {loads[0]:.1f} at the start, {loads[1]:.1f} at the end.

{_table(("target", "aimed at", "measured", ""), target_rows(run))}

{_table(("what", "seconds", "x floor", "peak memory"), measured_rows(run))}
"""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=300_000)
    parser.add_argument("--cutoffs", type=int, nargs="+", default=[3, 12])
    parser.add_argument(
        "--check-events", type=int, default=200_000, help="of the log on which values are compared; a tenth for featuretools"
    )
    parser.add_argument("--featuretools-events", type=int, default=1_000_000)
    parser.add_argument("--memory-events", type=int, default=50_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="at most so many, fewer of what takes long")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=made_logs.FOLDER, help="folder that keeps the made logs")
    parser.add_argument("--report", type=Path, help="default features.md beside this file after a whole run, else none")
    chosen = parser.parse_args(given)
    if unknown := set(chosen.only) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if chosen.report is None and chosen == parser.parse_args([]):
        chosen.report = Path(__file__).with_suffix(".md")
    return chosen


def main() -> int:
    """Measure, print, write; 1 if a rival's values are not ours."""
    chosen = arguments()
    if hasattr(os, "sched_setaffinity"):
        # Every process started from here inherits it: nobody's hidden thread pool gets more cores than the others'.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    if "online" in chosen.only and importlib.util.find_spec("persopredict.features.online") is None:
        print("online is left out: there is no persopredict.features.online yet")
        chosen.only = tuple(part for part in chosen.only if part != "online")
    run, load = Run(chosen), os.getloadavg()[0]
    if not run.values_agree():
        return 1
    run.side_by_side()
    run.others()
    text = report(run, (load, os.getloadavg()[0]))
    print(text)
    if chosen.report:
        chosen.report.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
