"""The demo: The Complete Journey through the ordinary path. It writes a `persopredict.toml` and calls what `persopredict run` calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from persopredict.config import load
from persopredict.datasets import complete_journey_sources
from persopredict.errors import ConfigurationError, Problem
from persopredict.job import JobResult

FOLDER = "persopredict-demo"
TIMEZONE = "America/New_York"
#: The day after the data's last: everything is known, and the last label ends here.
AS_OF = "2018-01-01"
_SHOWN = ("customer_id", "probability", "percentile", "band")
_ROWS = 3
#: What the demo's own file begins with, before the digest of the rest: any other file is somebody's work, and stays.
_MARK = "# Made by `persopredict demo`"

_HEAD = """\
# The Complete Journey: a grocer's year, 2,469 households. `persopredict run --as-of {as_of}` does it again.

[project]
name = "complete-journey"
timezone = "{timezone}"

[warehouse]
url = "warehouse.duckdb"

[tracking]
uri = "sqlite:///mlflow.db"

[targets.churn_purchase_28d]            # who will not buy anything in the next four weeks
type = "churn"
event = "purchase"
horizon = "28d"
active_within = "91d"

[targets.conversion_coupon_redemption_28d]   # who will redeem a coupon in the next four weeks
type = "conversion"
event = "coupon_redemption"
horizon = "28d"
active_within = "91d"
"""


def configuration() -> str:
    """The demo's `persopredict.toml`; raises `DataError` if the extra ``demo`` is not installed."""
    text = _HEAD.format(timezone=TIMEZONE, as_of=AS_OF) + "".join(_events(source) for source in complete_journey_sources(TIMEZONE))
    return f"{_mark(text)}\n{text}"


def _mark(text: str) -> str:
    return f"{_MARK} ({hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]})"


def _is_ours(file: Path) -> bool:
    """Whether the demo wrote the file, and nobody has changed it since."""
    first, _, rest = file.read_text(encoding="utf-8", errors="replace").partition("\n")
    return first == _mark(rest)


def _events(source: Mapping[str, Any]) -> str:
    """One source as TOML. JSON's strings and lists are TOML's too."""
    lines = [f"\n[[events]]\nname = {json.dumps(source['name'])}\nevent = {json.dumps(source['event'])}"]
    lines += [f"observed = {json.dumps(source['observed'])}", f"query = '''\n{source['query']}'''", "\n[events.columns]"]
    lines += [f"{name} = {json.dumps(column)}" for name, column in source["columns"].items()]
    return "\n".join(lines) + "\n"


def run(folder: str | Path = FOLDER, *, progress: Callable[[str], None] | None = None) -> tuple[JobResult, str]:
    """Write the configuration into `folder` and run the job; what it did, and the text to show.

    Raises
    ------
    ConfigurationError : a ``persopredict.toml`` lies there that the demo did not write, or that was changed since; it is left alone.
    DataError : the extra ``demo`` is not installed. Else what `Job.run` raises.
    """
    path = Path(folder)
    file = path / "persopredict.toml"
    if file.exists() and not _is_ours(file):
        remedy = f"name another folder (persopredict demo FOLDER); or run that file: persopredict run --config {file} --as-of {AS_OF}"
        problem = Problem("file_exists", f"{file} was not written by the demo, or changed since", remedy=remedy)
        raise ConfigurationError("nothing was overwritten", [problem])
    text = configuration()
    path.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    result = load(file).build(progress=progress).run(AS_OF)
    return result, "\n\n".join([str(result), *_first_rows(result), _next(path)])


def _first_rows(result: JobResult) -> Iterator[str]:
    """For each target the likeliest customers as a table, each with the two strongest reasons."""
    for outcome in result.outcomes:
        if outcome.attributes is None:
            continue
        first = outcome.attributes.nlargest(_ROWS, "probability", keep="first")
        shown = first[list(_SHOWN)].copy()
        for place, name in enumerate(("first reason", "second reason")):
            shown[name] = [_reason(found, place) for found in first["reasons"]]
        table = shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", max_colwidth=60)
        yield f"The likeliest of {outcome.target}, of {outcome.counts.get('scored', 0):,} scored:\n{table}"


def _reason(reasons: Sequence[Mapping[str, Any]], place: int) -> str:
    return f"{reasons[place]['label']}: {reasons[place]['value_text']}" if len(reasons) > place else ""


def _next(folder: Path) -> str:
    """What lies where, and commands to go on with, aligned."""
    python = f"import persopredict as pp; w = pp.Warehouse('{folder}/warehouse.duckdb')"
    commands = [
        (f"persopredict run --config {folder}/persopredict.toml --as-of {AS_OF}", "again: no training, the same rows"),
        (f"persopredict check --config {folder}/persopredict.toml", "what the data looks like, problem by problem"),
        (f'python -c "{python}; print(w.runs())"', "the ledger of runs"),
        (f"mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db", "every model with its metrics"),
        ("persopredict init --events your_events.parquet", "the same on your own data"),
    ]
    lines = [f"  {command}\n      # {purpose}" for command, purpose in commands]
    return "\n".join(
        [
            f"In {folder}/ are now: persopredict.toml (what was run); warehouse.duckdb with the tables predictive_attributes,",
            "customer_attributes, runs, quarantine; customer_attributes.parquet (a copy that is never locked); mlflow.db and mlartifacts/.",
            "What to try next:",
            *lines,
        ]
    )
