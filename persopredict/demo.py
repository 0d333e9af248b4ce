"""The demo: The Complete Journey through the ordinary path. It writes a `persopredict.toml` and calls what `persopredict run` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from persopredict.config import load
from persopredict.datasets import complete_journey_sources
from persopredict.job import JobResult

FOLDER = "persopredict-demo"
TIMEZONE = "America/New_York"
#: The day after the data's last: everything is known, and the last label ends here.
AS_OF = "2018-01-01"
_SHOWN = ("customer_id", "target", "probability", "percentile", "band", "status")

_HEAD = """\
# The Complete Journey: a grocer's year, 2,469 households. Made by `persopredict demo`; `persopredict run --as-of {as_of}` does it again.

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
    return _HEAD.format(timezone=TIMEZONE, as_of=AS_OF) + "".join(_events(source) for source in complete_journey_sources(TIMEZONE))


def _events(source: Mapping[str, Any]) -> str:
    """One source as TOML. JSON's strings and lists are TOML's too."""
    lines = [f"\n[[events]]\nname = {json.dumps(source['name'])}\nevent = {json.dumps(source['event'])}"]
    lines += [f"observed = {json.dumps(source['observed'])}", f"query = '''\n{source['query']}'''", "\n[events.columns]"]
    lines += [f"{name} = {json.dumps(column)}" for name, column in source["columns"].items()]
    return "\n".join(lines) + "\n"


def run(folder: str | Path = FOLDER, *, progress: Callable[[str], None] | None = None) -> tuple[JobResult, str]:
    """Write the configuration into `folder` and run the job; what it did, and the text to show.

    Raises what `Job.run` raises.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    file = path / "persopredict.toml"
    file.write_text(configuration(), encoding="utf-8")
    result = load(file).build(progress=progress).run(AS_OF)
    return result, f"{result}\n\n{_first_rows(result)}\n\n{_next(path)}"


def _first_rows(result: JobResult) -> str:
    """The likeliest customers of each target, as a table, each with the first reason."""
    import pandas as pd

    parts = []
    for outcome in result.outcomes:
        if outcome.attributes is None:
            continue
        first = outcome.attributes.nlargest(3, "probability", keep="first")
        shown = first[list(_SHOWN)].copy()
        shown["first reason"] = [f"{found[0]['label']}: {found[0]['value_text']}" if len(found) else "" for found in first["reasons"]]
        parts.append(shown)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    text: str = frame.to_string(index=False, float_format=lambda value: f"{value:.3f}", max_colwidth=70)
    return f"The likeliest customers, from the attributes:\n{text}"


def _next(folder: Path) -> str:
    return (
        f"Everything is in {folder}/: persopredict.toml, warehouse.duckdb, customer_attributes.parquet, mlflow.db, mlartifacts/\n"
        "What to try next:\n"
        f"  persopredict run --config {folder}/persopredict.toml --as-of {AS_OF}    # again: the same rows\n"
        f"  python -c \"import persopredict as pp; print(pp.Warehouse('{folder}/warehouse.duckdb').runs())\"\n"
        f"  mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db             # the models and their metrics\n"
        "  persopredict init --events your_events.parquet                          # your own data"
    )
