"""The demo: The Complete Journey through the ordinary path. It writes a `persopredict.toml` and calls what `persopredict run` calls, then
shows what came of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persopredict.config import load
from persopredict.datasets import complete_journey_sources
from persopredict.errors import ConfigurationError, Problem
from persopredict.job_result import JobResult, Outcome
from persopredict.times import zone

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "persopredict-demo"
TIMEZONE = "America/New_York"
#: The day after the data's last: everything is known, and the last label ends here.
AS_OF = "2018-01-01"
_SHOWN = ("customer_id", "probability", "percentile", "band")
_ROWS = 3
_TOP, _TOP_NEW = 5, 3
_WAYS = {"for": "for it ", "against": "against"}
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

[targets.affinity_department_28d]       # which departments each will buy from in the next four weeks, and which would be new to them
type = "affinity"
event = "purchase"
horizon = "28d"
by = "department"
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


def run(folder: str | Path = FOLDER, *, progress: Callable[[str], None] | None = None) -> JobResult:
    """Write the configuration into `folder` and run the job.

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
    return load(file).build(progress=progress).run(AS_OF)


def shown(result: JobResult) -> str:
    """What the job did, then of each target what its attributes look like."""
    published = [(outcome, outcome.attributes) for outcome in result.outcomes if outcome.attributes is not None]
    tables = (_example(outcome, rows) if rows["category"].notna().any() else _likeliest(outcome, rows) for outcome, rows in published)
    return "\n\n".join([str(result), *tables])


def _likeliest(outcome: Outcome, rows: pd.DataFrame) -> str:
    """The likeliest customers as a table, each with the two strongest reasons."""
    first = rows.nlargest(_ROWS, "probability", keep="first")
    columns = first[list(_SHOWN)].copy()
    for place, name in enumerate(("first reason", "second reason")):
        columns[name] = [_reason(found, place) for found in first["reasons"]]
    table = columns.to_string(index=False, float_format=lambda value: f"{value:.3f}")
    return f"The likeliest of {outcome.target}, of {outcome.counts.get('scored', 0):,} scored:\n{table}"


def _reason(reasons: Sequence[Mapping[str, Any]], place: int) -> str:
    return str(reasons[place]["label"]) if len(reasons) > place else ""


def _example(outcome: Outcome, rows: pd.DataFrame) -> str:
    """The household to whom something new is suggested that sets it apart most from the others, told to a marketer, with the reasons."""
    pairs = rows[rows["category"].notna()].reset_index(drop=True)
    new = pairs["is_new"].eq(True)
    # How many more of a hundred like it will buy there than of all: the likeliest is what everybody buys, and the highest index may
    # belong to what hardly anybody does.
    ahead = pairs["probability"] * (1 - 1 / pairs["affinity_index"])
    place: Any = (ahead[new] if new.any() else ahead).idxmax()
    best = pairs.loc[place]
    mine = pairs[pairs["customer_id"] == best["customer_id"]].sort_values("rank")
    known, never = mine[~mine["is_new"].eq(True)].head(_TOP), mine[mine["is_new"].eq(True)].head(_TOP_NEW)
    width = max(28, *(len(name) for name in mine["category"]))
    until = best["valid_until"].astimezone(zone(TIMEZONE))
    lines = [
        f"An example of {outcome.target}: household {best['customer_id']}, of {outcome.counts.get('scored', 0):,} scored.",
        f"  {f'before {until:%Y-%m-%d} it buys from':<{width}}  {'chance':>6}  {'against the others':>18}  {'percentile':>10}",
        *(_suggestion(row, width) for _, row in known.iterrows()),
    ]
    if len(never):
        lines += ["  and where it never bought so far", *(_suggestion(row, width) for _, row in never.iterrows())]
        usual = _percent(best["probability"] / best["affinity_index"])
        lines.append(f"New and above the usual: {best['category']}, {_percent(best['probability'])} where it is {usual} of all households.")
        lines += [f"  {_WAYS[reason['direction']]}  {reason['label']}" for reason in best["reasons"]]
    return "\n".join(lines)


def _suggestion(row: pd.Series[Any], width: int) -> str:
    likely = f"{row['affinity_index']:.1f} x as likely"
    return f"  {row['category']:<{width}}  {_percent(row['probability']):>6}  {likely:>18}  {row['percentile']:>10}"


def _percent(share: float) -> str:
    """In words of a marketer, who knows that nothing is certain.

    >>> _percent(0.734), _percent(0.998), _percent(0.002)
    ('73%', '>99%', '<1%')
    """
    return ">99%" if share > 0.99 else "<1%" if share < 0.01 else f"{share:.0%}"


def next_steps(folder: Path) -> str:
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
            f"In {folder}/ are now: report.html, to be opened in a browser; persopredict.toml (what was run); warehouse.duckdb with the",
            "tables predictive_attributes, customer_attributes, runs, outcomes, jobs, quarantine; customer_attributes.parquet (a copy that",
            "is never locked); mlflow.db and mlartifacts/.",
            "What to try next:",
            *lines,
        ]
    )
