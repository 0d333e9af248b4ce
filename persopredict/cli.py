"""The command line: one command for cron or Airflow, with exit codes that a scheduler can act on.

Exit codes: 0 done; 1 failed; 2 bad usage or configuration; 3 data not ready or stale, nothing published; 4 published,
some targets skipped. Results go to standard output, messages and progress to standard error. Whatever is heavy is
imported by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import os
import traceback as tracebacks
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from persopredict.errors import ConfigurationError, NotReadyError, PersopredictError, Problem, did_you_mean
from persopredict.progress import error_console, steps

if TYPE_CHECKING:
    from rich.console import Console

    from persopredict.config import Config
    from persopredict.job import Job, JobResult

_HOW_TO_TRACE = "For the traceback: persopredict --traceback <command>, or PERSOPREDICT_TRACEBACK=1"
_GUESSED = "No column looks like the name of the event: every row is taken to be one purchase, which is a guess. "
_WRITABLE = "give a folder that may be written to, or the right to write there"
#: What to do about what a system refuses.
_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _WRITABLE),
}
_EPILOG = (
    "Exit codes: 0 done; 1 failed; 2 bad usage or configuration; 3 data not ready or stale, nothing published; "
    "4 published, some targets skipped."
)


class _Commands(TyperGroup):
    """The group of commands; the one place where an exception becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an exception becomes a message on standard error and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except PersopredictError as error:
            self._report(ctx, error, _told(error, examples=error_console().is_terminal))
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            self._report(ctx, error, _refused(error))
            raise typer.Exit(1) from None
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            self._report(ctx, error, f"unexpected {type(error).__name__}: {reason}\n{_HOW_TO_TRACE}")
            raise typer.Exit(1) from None

    def _report(self, ctx: Any, error: Exception, message: str) -> None:
        if ctx.params.get("traceback"):
            _say("".join(tracebacks.format_exception(error)), fold=False)
        _say(f"persopredict: {message}")


app = typer.Typer(
    cls=_Commands,
    help="Predictive attributes for every customer, from event logs.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help is there in a quarter of a second; drawn with rich it takes three times as long.
    rich_markup_mode=None,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="Date or time of the scores, in the project's time zone. Default: the last midnight."),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", help="Learn from what was known before this date or time. Default: the last midnight."),
]
DEFAULT_CONFIG = Path("persopredict.toml")


def main() -> None:
    """The entry point of the command `persopredict`."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        _print(f"persopredict {importlib.metadata.version('persopredict')}")
        raise typer.Exit


@app.callback()
def _options(
    traceback: Annotated[
        bool, typer.Option("--traceback", envvar="PERSOPREDICT_TRACEBACK", help="Show the traceback of a failure.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Predictive attributes for every customer, from event logs."""


@app.command()
def init(
    config: ConfigOption = DEFAULT_CONFIG,
    events: Annotated[str | None, typer.Option(help="A Parquet or CSV file (or glob) to propose the mapping from.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    from persopredict import starter

    if config.exists() and not force:
        remedy = "give --force to overwrite it, or --config for another name"
        raise ConfigurationError("nothing was written", [Problem("file_exists", f"{config} is there already", remedy=remedy)])
    if events is None:
        text = starter.starter_toml()
    else:
        _must_exist(events)
        types, mapping, names = starter.inspect(events)
        unused = [column for column in types if column not in mapping.values()]
        path = events if "://" in events else os.path.relpath(events, config.parent)
        text = starter.starter_toml(path, mapping, unused=unused, event_names=names)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text, encoding="utf-8")
    guessed = "" if events is None or "event" in mapping else _GUESSED
    _print(f"Wrote {config}. {guessed}Look through it, then: persopredict check")


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, as_of: AsOfOption = None) -> None:
    """Print the data-usability report.

    Every problem of the events at once, each with its count, first example and remedy. With --as-of it is also judged
    whether the events are fresh enough to score at that time.
    """
    from persopredict.usability import stale_sources

    settings = _load(config)
    moment = settings.instant(as_of)
    with steps("persopredict check") as progress:
        progress("reading the events")
        log = settings.event_log()
        report = log.check(list(settings.targets.values()), moment)
    _print(str(report))
    if not report.ok:
        raise typer.Exit(1)
    if moment is not None and stale_sources(log.source_facts, moment, settings.max_staleness.approximate):
        raise typer.Exit(NotReadyError.exit_code)


@app.command()
def train(config: ConfigOption = DEFAULT_CONFIG, until: UntilOption = None) -> None:
    """Train, evaluate and register every target's model."""
    with _job(config, "train") as (job, settings):
        result = job.train(settings.instant(until))
    _finish(result)


@app.command()
def score(config: ConfigOption = DEFAULT_CONFIG, as_of: AsOfOption = None) -> None:
    """Score every customer with the champions, publish."""
    with _job(config, "score") as (job, settings):
        result = job.score(settings.instant(as_of))
    _finish(result)


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG, as_of: AsOfOption = None) -> None:
    """The nightly job: train what is due, score, publish."""
    with _job(config, "run") as (job, settings):
        result = job.run(settings.instant(as_of))
    _finish(result)


@app.command()
def report(
    config: ConfigOption = DEFAULT_CONFIG,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Of which run, in the project's time zone. Default: the latest.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The HTML file. Default: [report] path, or report.html.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="en or es, or with a region. Default: [report] language.")] = None,
) -> None:
    """Write the report of a published run as one HTML file.

    It is made from the warehouse and the model store; the events are not read.
    """
    with _job(config, "report") as (job, settings):
        wording = settings.wording if language is None else dataclasses.replace(settings.wording, language=language)
        path = job.report(output, settings.instant(as_of), wording=wording)
    _print(f"Wrote {path}", fold=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path("persopredict-demo"),
) -> None:
    """The nightly job on a year of real purchases, from events to attributes."""
    from persopredict import demo as demonstration

    with steps("persopredict demo") as progress:
        result = demonstration.run(folder, progress=progress)
    _print(demonstration.shown(result))
    # Commands are there to be copied: no line of theirs is broken.
    _print(f"\n{demonstration.next_steps(folder)}", fold=False)
    raise typer.Exit(result.exit_code)


@contextmanager
def _job(path: Path, title: str) -> Iterator[tuple[Job, Config]]:
    settings = _load(path)
    with steps(f"persopredict {title}") as progress:
        yield settings.build(progress=progress), settings


def _load(path: Path) -> Config:
    from persopredict.config import load

    return load(path)


def _finish(result: JobResult) -> None:
    _print(str(result))
    raise typer.Exit(result.exit_code)


def _must_exist(pattern: str) -> None:
    """Refuse a local file or glob that matches nothing."""
    import glob

    if "://" not in pattern and not glob.glob(pattern):
        folder = Path(pattern).parent
        beside = [file.name for file in sorted(folder.iterdir())] if folder.is_dir() else []
        hint = did_you_mean(Path(pattern).name, beside) or "check the path"
        raise ConfigurationError("nothing was written", [Problem("no_file", f"no file matches {pattern!r}", remedy=hint)])


def _refused(error: OSError) -> str:
    """What the system refused, where, and what to do; what was published before stays, for a file is replaced as a whole or not at all."""
    where = "" if error.filename is None else f" ({error.filename})"
    if error.errno not in _REMEDIES:
        return f"unexpected {type(error).__name__}: {error.strerror or error}{where}\n{_HOW_TO_TRACE}"
    return f"{error.strerror}{where}: {_REMEDIES[error.errno]}. What was published before is as it was"


def _told(error: PersopredictError, *, examples: bool) -> str:
    """The error's text; `examples` come from the data and belong on the user's screen, not in a scheduler's log."""
    if examples or error.exit_code == 2 or not any(problem.example for problem in error.problems):
        return str(error)
    head = str(error).partition(":\n  - ")[0]
    withheld = [dataclasses.replace(problem, example="") for problem in error.problems]
    lines = "".join(f"\n  - {problem}" for problem in withheld)
    return f"{head}:{lines}\n(Examples are shown on a terminal only.)"


def _say(text: str, *, fold: bool = True) -> None:
    _write(error_console(), text, fold=fold)


def _print(text: str, *, fold: bool = True) -> None:
    from rich.console import Console

    _write(Console(), text, fold=fold)


def _write(console: Console, text: str, *, fold: bool) -> None:
    """The text as it is; on a terminal with lines folded between words, for it would break them anywhere."""
    folded = _folded(text, console.width) if fold and console.file.isatty() else text
    console.print(folded, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _folded(text: str, width: int) -> str:
    r"""Lines longer than `width` in several, the further ones indented by two more than the first.

    >>> print(_folded("churn: published\n  model: version 1, trained until 2018-01-01", 26))
    churn: published
      model: version 1,
        trained until
        2018-01-01
    """
    import textwrap

    lines = []
    for line in text.splitlines():
        margin = " " * (len(line) - len(line.lstrip()) + 2)
        fitting = textwrap.wrap(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
        lines += fitting if len(line) > width else [line]
    return "\n".join(lines)
