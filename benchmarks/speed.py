"""How long it takes and how much memory it needs, on The Complete Journey. `make bench` prints what was measured beside what is aimed at.

Every figure comes from a process of its own; a machine that does other work at the same time gives worse ones, so its load is shown.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from persopredict.config import load
from persopredict.demo import AS_OF, configuration
from persopredict.features.builders import default_features
from persopredict.snapshots import rolling_cutoffs, snapshots

CUTOFFS = 9
IMPORT = "import time; start = time.perf_counter(); import persopredict; print(time.perf_counter() - start)"


def import_seconds() -> float:
    """The best of three fresh interpreters, bytecode warm."""
    runs = [subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True) for _ in range(3)]
    return min(float(run.stdout) for run in runs)


def snapshot_seconds(file: Path) -> tuple[float, int, int]:
    """Events, features and labels of both targets at nine cutoffs: seconds, rows, columns."""
    start = time.perf_counter()
    config = load(file)
    events, targets = config.event_log(), list(config.targets.values())
    cutoffs = rolling_cutoffs(events, every="28d", horizon="28d", until=AS_OF, limit=CUTOFFS)
    focus = [name for target in targets for name in target.event_names]
    table = snapshots(events, cutoffs, default_features(events, focus=focus), targets, until=AS_OF).to_arrow()
    return time.perf_counter() - start, table.num_rows, table.num_columns


def job(file: Path) -> tuple[float, float]:
    """`persopredict run` as a user calls it: seconds, and its peak resident memory in GB."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "from persopredict.cli import main; main()", "run", "--config", str(file), "--as-of", AS_OF]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    return time.perf_counter() - start, peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


def apart(measure: Callable[..., Any], *arguments: object) -> Any:
    """The measure's result, from a fresh process: neither its memory nor what it has read serves the next.

    Raises `BrokenProcessPool` if the process is killed.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def figures(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(what, measured, aim), one by one as they come."""
    file = folder / "persopredict.toml"
    file.write_text(configuration(), encoding="utf-8")
    yield "import persopredict", f"{apart(import_seconds):.2f} s", "0.5 s"
    seconds, rows, columns = apart(snapshot_seconds, file)
    yield f"events, features, labels, {CUTOFFS} cutoffs ({rows:,} rows, {columns} columns)", f"{seconds:.1f} s", "15 s"
    seconds, peak = apart(job, file)
    yield "persopredict run, which trains two targets", f"{seconds:.0f} s", "90 s"
    yield "  its peak memory", f"{peak:.2f} GB", "1.5 GB"
    seconds, peak = apart(job, file)
    yield "persopredict run again, nothing to train", f"{seconds:.0f} s", ""
    yield "  its peak memory", f"{peak:.2f} GB", "1.5 GB"


def main() -> int:
    """Print the table."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print(f"{'':<70}{'measured':>10}{'aim':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for what, measured, aim in figures(Path(folder)):
            print(f"{what:<70}{measured:>10}{aim:>10}", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
