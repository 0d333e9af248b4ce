"""What goes wrong, said once: a problem is a value; an error carries all the problems found, never only the first.

Every message tells what to do (law 9 of the design): code, count, the first example, the remedy, and the nearest existing name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about data, configuration or a specification.

    Parameters
    ----------
    code : stable snake_case name of the finding, e.g. ``"null_customer_id"``.
    message : one sentence, without the remedy.
    severity : ``"error"`` stops the work, ``"warning"`` lets it go on with a loss, ``"note"`` only informs.
    count : how many rows (or customers, as the message says) it concerns; 0 where counting makes no sense.
    example : the first offending value or row, as text; ``""`` if none. Shown on the user's own screen only (law 10).
    remedy : what to do about it.
    source : the source, file or key it was found in.

    >>> print(Problem("null_customer_id", "customer_id is null", count=3, example="row 17", remedy="filter these rows"))
    error null_customer_id: customer_id is null (3; first: row 17). Remedy: filter these rows.
    """

    code: str
    message: str
    severity: Severity = "error"
    count: int = 0
    example: str = ""
    remedy: str = ""
    source: str = ""

    def __str__(self) -> str:
        """One line for a terminal."""
        where = f" [{self.source}]" if self.source else ""
        details = "; ".join(
            part for part in (f"{self.count:,}" if self.count else "", f"first: {self.example}" if self.example else "") if part
        )
        counted = f" ({details})" if details else ""
        stop = "" if self.remedy.endswith(("?", "!")) else "."
        remedy = f" Remedy: {self.remedy.rstrip('.')}{stop}" if self.remedy else ""
        return f"{self.severity} {self.code}{where}: {self.message.rstrip('.')}{counted}.{remedy}"


class PersopredictError(Exception):
    r"""Base of every error that the library raises on purpose; `problems` holds all that was found.

    >>> str(PersopredictError("the log has problems", [Problem("empty_log", "no events", remedy="check the path")]))
    'the log has problems:\n  - error empty_log: no events. Remedy: check the path.'
    """

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{message}:{lines}" if lines else message)


class ConfigurationError(PersopredictError):
    """The configuration file or the command line is wrong (exit code 2)."""

    exit_code = 2


class SpecificationError(PersopredictError, ValueError):
    """A feature, target, duration or condition is wrong, or asks for what the log does not have (exit code 2)."""

    exit_code = 2


class DataError(PersopredictError):
    """The log can't be used: missing columns, nothing left after quarantine (exit code 1)."""


class NotReadyError(PersopredictError):
    """The data is not ready or stale; nothing is published (exit code 3)."""

    exit_code = 3


class TooLittleDataError(PersopredictError):
    """A target can't be trained or validated on what there is; `problems` gives code and counts (the job skips it, exit code 4)."""

    exit_code = 4


class InSampleError(PersopredictError):
    """A prediction or evaluation was asked for at a time that the model was trained on."""


class NotFittedError(PersopredictError):
    """A predictor was used before `fit`."""


class EngineError(PersopredictError):
    """An engine refused a step; the message holds the step's name and its SQL."""

    def __init__(self, step: str, sql: str, cause: str) -> None:
        self.step, self.sql = step, sql
        # An engine's words may quote a row, so they are an example, as law 10 wants it.
        super().__init__(f"step {step!r} failed", [Problem("engine_refused", "the engine refused it", example=cause)])
        self.args = (f"{self.args[0]}\n--- SQL of {step} ---\n{sql}",)


class WarehouseBusyError(PersopredictError):
    """Another process holds the warehouse file, or another job runs; the message names it."""


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """A hint naming the nearest option, or all of them when they are few; empty if there is none.

    >>> did_you_mean("custmer_id", ["customer_id", "event_at"])
    "did you mean 'customer_id'?"
    >>> did_you_mean("zzz", ["a", "b"])
    "there are: 'a', 'b'"
    """
    known = list(dict.fromkeys(options))
    lowered = {option.lower(): option for option in reversed(known)}
    close = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f"did you mean {lowered[close[0]]!r}?"
    if known and len(known) <= 12:
        return "there are: " + ", ".join(repr(option) for option in known)
    return ""
