"""Nights to be killed: `python -m tests.night` imports once, then forks one job for each line of its standard input.

A line is JSON with `folder`, `kind` ("shop" or "tastes") and `as_of`, and, if the job is to be killed, `when` ("before" or "after"), the
dotted `name` of a function and which `call` of it. The job kills itself there with SIGKILL, as `kill -9` does: nothing is cleaned up, no
buffer is written. The answer is a line with the exit code, -9 if it was killed.
"""

from __future__ import annotations

import itertools
import json
import os
import pkgutil
import signal
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from persopredict import job, learner, registry, tracking, warehouse
from tests import made

__all__ = ["job", "learner", "registry", "warehouse"]  # Imported once, for every job.
JOBS = {"shop": made.job, "tastes": made.taste_job}


def deadly(when: str, name: str, call: int) -> None:
    """Let the process kill itself before or after a call of the function."""
    place, _, attribute = name.rpartition(".")
    owner = pkgutil.resolve_name(place)
    original, numbers = getattr(owner, attribute), itertools.count(1)

    def deadly(*arguments: Any, **named: Any) -> Any:
        last = next(numbers) == call
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*arguments, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, attribute, deadly)


def work(order: dict[str, Any]) -> int:
    try:
        if "name" in order:
            deadly(order["when"], order["name"], order["call"])
        return JOBS[order["kind"]](Path(order["folder"])).run(datetime.fromisoformat(order["as_of"])).exit_code
    except BaseException:
        traceback.print_exc()
        return 99


def main() -> None:
    made.log()
    made.tastes()
    with tracking.discreet():
        tracking._empty_store()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(work(json.loads(line)))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
