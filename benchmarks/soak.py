"""Kill a nightly job at many moments with a real `kill -9`, and see what is left: `python benchmarks/soak.py` (or `make soak`).

Each round starts from a folder with one night in it, starts a second night as a process of its own, kills it after a delay, and looks:
a reader must see the first night alone or both nights whole; the next run must succeed, and leave what an undisturbed job leaves. The
delays are spread evenly over the job's own duration, each at a random place within its share. Exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from persopredict.registry import Registry  # noqa: E402
from tests import made  # noqa: E402

FIRST, SECOND = made.NIGHTS[1:]
#: A version that nobody was promoted to still takes its number.
NUMBERS = ("model_version", "run_id")


def night(folder: str, as_of: str) -> int:
    """What the killed process does: one run, its steps on standard output."""
    job = made.job(Path(folder), progress=lambda step: print(step, flush=True))
    # Opened once before the first step: MLflow imports most of itself only then, and most moments would fall into that.
    Registry(job.tracking, job.project)
    return job.run(datetime.fromisoformat(as_of)).exit_code


@dataclass
class Started:
    """A night in a process of its own; `steps` grows as it goes."""

    folder: Path
    as_of: datetime
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, "--night", str(self.folder), self.as_of.isoformat()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.begun = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.steps.append(line.strip())
            self.begun.set()
        self.begun.set()

    def kill_after(self, seconds: float) -> int:
        """Kill it this long after its first step; its exit code, -9 unless it was done before."""
        self.begun.wait()
        time.sleep(seconds)
        self.process.send_signal(signal.SIGKILL)
        return self.finish()[0]

    def finish(self) -> tuple[int, str]:
        """Exit code and standard error."""
        self.reader.join()
        error = self.process.stderr.read() if self.process.stderr else ""
        return self.process.wait(), error


class Soak:
    """The folder, and the tables before and after an undisturbed second night."""

    def __init__(self, place: Path) -> None:
        self.folder, self.backup = place / "shop", place / "backup"
        self.folder.mkdir()
        self.must(FIRST)
        shutil.copytree(self.folder, self.backup)
        self.before = made.tables(self.folder)
        watched = Started(self.folder, SECOND)
        watched.begun.wait()
        start = time.monotonic()
        code, error = watched.finish()
        self.duration = time.monotonic() - start
        if code:
            raise SystemExit(f"the undisturbed job failed ({code}):\n{error}")
        self.after = made.tables(self.folder)

    def must(self, as_of: datetime) -> None:
        code, error = Started(self.folder, as_of).finish()
        if code:
            raise AssertionError(f"the next run exited with {code}: {error.strip().splitlines()[-1:]}")

    def round(self, delay: float) -> tuple[str, str, str]:
        """The step reached, what was visible, and "ok" or what was violated."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.backup, self.folder)  # At the same place: the model store holds absolute paths.
        killed = Started(self.folder, SECOND)
        code = killed.kill_after(delay)
        step = killed.steps[-1] if code == -9 else "(done)"
        try:
            visible = self.visible()
            self.must(SECOND)
            made.assert_same(made.tables(self.folder), self.after, but=NUMBERS)
        except Exception as error:
            return step, "?", f"{type(error).__name__}: {error}".splitlines()[0]
        return step, visible, "ok"

    def visible(self) -> str:
        """Which nights a reader sees; raises if one of them is not whole."""
        found = made.tables(self.folder)
        both = len(found["runs"]) != len(self.before["runs"])
        made.assert_same(found, self.after if both else self.before, but=NUMBERS)
        return "both nights" if both else "first night"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--moments", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--night", nargs=2, metavar=("FOLDER", "AS_OF"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.night:
        return night(*given.night)
    chance, failed = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as place:
        soak = Soak(Path(place))
        print(f"an undisturbed night takes {soak.duration:.2f} s from its first step; {given.moments} moments, seed {given.seed}")
        print(f"{'killed after':>12}  {'while':<42} {'visible':<12} next run")
        for number in range(given.moments):
            delay = soak.duration * (number + chance.random()) / given.moments
            step, visible, result = soak.round(delay)
            failed += result != "ok"
            print(f"{delay:10.2f} s  {step:<42} {visible:<12} {result}", flush=True)
    print(f"{given.moments - failed} of {given.moments} moments left nothing half-written and a next run that succeeded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
