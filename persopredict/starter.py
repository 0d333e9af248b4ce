"""The first `persopredict.toml`: a commented text to start from, its mapping proposed from the columns of a file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence

#: What columns of each kind are called elsewhere, the likeliest first. Earlier names of the common model choose first.
SYNONYMS: Mapping[str, Sequence[str]] = {
    name: text.split()
    for name, text in {
        "customer_id": "customer_id client_id user_id household_id member_id account_id subscriber_id contact_id"
        " visitor_id person_id customer client user household member account",
        "event_id": "event_id line_id message_id row_id uuid",
        "known_at": "known_at loaded_at ingested_at received_at inserted_at load_time",
        "event_at": "event_at event_time event_timestamp timestamp occurred_at transaction_timestamp click_timestamp"
        " sold_at purchased_at ordered_at order_date invoice_date transaction_date created_at event_date datetime ts"
        " date time",
        "event": "event event_name event_type action activity status state",
        "order_id": "order_id basket_id transaction_id ticket_id receipt_id invoice_id invoice_no session_id ticket",
        "item_id": "item_id product_id sku article_id stock_code product item",
        "category": "category department product_category product_type family section",
        "quantity": "quantity qty units",
        "value": "value amount sales_value revenue total price",
        "currency": "currency currency_code",
        "channel": "channel medium device",
    }.items()
}
_NUMBER = re.compile(r"FLOAT|DOUBLE|DECIMAL|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_TIME = re.compile(r"TIMESTAMP|DATE|VARCHAR")
_LIKELY_OUTCOME = re.compile(r"purchase|order|transaction|payment|sale|checkout|approved|renew", re.IGNORECASE)
_LIKELY_END = re.compile(r"cancel|churned|unsubscri|terminat|kuend|künd", re.IGNORECASE)
_LIKELY_START = re.compile(r"(?<!un)subscri|sign_?up|start|activat|open|join", re.IGNORECASE)


def propose_mapping(types: Mapping[str, str]) -> dict[str, str]:
    """The common model's names and the columns that look like them; what nothing looks like is left out.

    `types` goes from column name to DuckDB type name, as an engine's `describe` gives them.

    >>> propose_mapping({"ClientID": "BIGINT", "sold_at": "TIMESTAMP", "Amount": "DOUBLE", "shop": "VARCHAR"})
    {'customer_id': 'ClientID', 'event_at': 'sold_at', 'value': 'Amount'}
    """
    free = dict(types)
    found: dict[str, str] = {}
    for name, synonyms in SYNONYMS.items():
        candidates = [column for column, kind in free.items() if _fits(name, kind)]
        ranked = [(_likeness(column, synonyms), -index, column) for index, column in enumerate(candidates)]
        likeness, _, column = max(ranked, default=(0.0, 0, ""))
        if likeness >= 0.85:
            found[name] = column
            del free[column]
    return found


def _fits(name: str, kind: str) -> bool:
    if name in ("event_at", "known_at"):
        return bool(_TIME.match(kind))
    if name in ("quantity", "value"):
        return bool(_NUMBER.match(kind)) or kind == "VARCHAR"
    return not kind.startswith(("TIMESTAMP", "DATE", "TIME"))


def _likeness(column: str, synonyms: Sequence[str]) -> float:
    """1 or more for an exact synonym, the more the likelier it is; below 1 for similar spelling."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower()
    plain = re.sub(r"[^a-z0-9]+", "_", snake).strip("_")
    if plain in synonyms:
        return 2.0 - synonyms.index(plain) / 100
    return max(difflib.SequenceMatcher(None, plain, synonym).ratio() for synonym in synonyms)


def starter_toml(
    path: str = "events.parquet",
    mapping: Mapping[str, str] | None = None,
    *,
    unused: Sequence[str] = (),
    event_names: Sequence[str] = (),
    project: str = "my-project",
) -> str:
    """The text of a configuration with comments, valid as soon as `path` exists and has the columns of `mapping`.

    Parameters
    ----------
    path
        the events' file or glob, relative to the folder of the configuration.
    mapping
        common model's name to column; by default columns of the common model's own names. A name that is needed and
        lacking is written with a note to fill it in.
    unused
        columns of the file that the mapping leaves out; proposed as dimensions, in a comment.
    event_names
        the events in the file, most frequent first; the first that looks like an outcome becomes the target.
    project
        the project's name.

    >>> starter_toml("sales.csv", {"customer_id": "client", "event_at": "sold_at"}).splitlines()[3:5]
    ['[project]', 'name = "my-project"']
    """
    mapped = dict(mapping) if mapping is not None else {"customer_id": "customer_id", "event_at": "event_at"}
    outcome = likely_outcome(event_names)
    slug, known = _slug(outcome), f"  # in the file: {', '.join(map(_quoted, event_names[:8]))}" if event_names else ""
    return _TEMPLATE.format(
        project=_quoted(project),
        path=_quoted(path),
        constant="" if "event" in mapped else f"event = {_quoted(outcome)}  # what every row is; or map a column to `event` below\n",
        columns="\n".join(_column_lines(mapped, unused)),
        target=_cancellation(event_names, known) or _CHURN.format(slug=slug, outcome=_quoted(outcome), known=known),
        slug=slug,
        outcome=_quoted(outcome),
        affinity=_AFFINITY.format(slug=slug, outcome=_quoted(outcome)) if "category" in mapped else "",
    )


def likely_outcome(event_names: Sequence[str]) -> str:
    """The event to predict: one that looks like it, else the most frequent that neither starts nor ends a contract.

    >>> likely_outcome(["subscribed", "login", "cancelled"]), likely_outcome(["page_view", "order_placed"]), likely_outcome([])
    ('login', 'order_placed', 'purchase')
    """
    usual = [name for name in event_names if not (_LIKELY_END.search(name) or _LIKELY_START.search(name))] or list(event_names)
    return next((name for name in usual if _LIKELY_OUTCOME.search(name)), usual[0] if usual else "purchase")


def _cancellation(event_names: Sequence[str], known: str) -> str:
    """The target of a log whose contracts end; "" where no event looks like an end."""
    ends = [name for name in event_names if _LIKELY_END.search(name)]
    if not ends:
        return ""
    start = next((name for name in event_names if _LIKELY_START.search(name) and name not in ends), None)
    started = f"start = {_quoted(start)}\n" if start else '# start = "subscribed"  # what starts a contract; default: any event\n'
    return _CANCELLATION.format(slug=_slug(ends[0]), end=_quoted(ends[0]), known=known, started=started)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:24].rstrip("_") or "event"


def _column_lines(mapped: Mapping[str, str], unused: Sequence[str]) -> list[str]:
    lines = [
        f"{name} = {_quoted(mapped[name])}" if name in mapped else f'{name} = "{name}"  # fill in: no column of the file looks like it'
        for name in ("customer_id", "event_at")
    ]
    rest = [name for name in SYNONYMS if name not in ("customer_id", "event_at")]
    lines += [f"{name} = {_quoted(mapped[name])}" for name in rest if name in mapped]
    lines += [f'# {name} = "{name}"' for name in rest if name not in mapped and name != "event"]
    if unused:
        named = {re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_") or "column": column for column in unused}
        pairs = ", ".join(f"{name} = {_quoted(column)}" for name, column in named.items())
        lines.append(f"# dimensions = {{ {pairs} }}  # columns without a place so far")
    return lines


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, except that DEL needs one too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def inspect(path: str) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Look into the file or glob of events at `path`.

    Returns
    -------
    types : column to DuckDB type name.
    mapping : as `propose_mapping`.
    event_names : the most frequent names in the column that looks like `event`, at most 20; empty if there is none.

    Raises
    ------
    DataError : the file is empty or neither Parquet nor CSV.
    """
    from sqlglot import exp

    from persopredict.engines.base import Step
    from persopredict.engines.duckdb import DuckDBEngine

    engine = DuckDBEngine()
    types = engine.describe(path, link=None, name="events")
    mapping = propose_mapping(types)
    if "event" not in mapping:
        return types, mapping, []
    column = exp.column(exp.to_identifier(mapping["event"], quoted=True))
    query = (
        exp.select(column).from_("events").where(column.is_(exp.null()).not_()).group_by(column).order_by(exp.Count(this=exp.Star()).desc())
    )
    return types, mapping, [str(name) for (name,) in engine.rows(Step("event_names", query.limit(20)))]


_AFFINITY = """\
# [targets.affinity_{slug}_28d]
# type = "affinity"  # such an event of each category within the horizon: what a customer is drawn to
# event = {outcome}
# horizon = "28d"
# by = "category"  # or item_id, channel, hour, weekday

"""
_CHURN = """\
[targets.churn_{slug}_28d]
type = "churn"  # no such event within the horizon
event = {outcome}{known}
horizon = "28d"
active_within = "91d"  # only customers with such an event in the last 91 days
"""
_CANCELLATION = """\
[targets.cancellation_{slug}_28d]
type = "cancellation"  # the running contract ends by such an event within the horizon
event = {end}{known}
{started}horizon = "28d"
"""
_TEMPLATE = """\
# What persopredict reads, predicts and writes. Relative paths start at the folder of this file.
# Secrets stay outside: url = "${{NAME}}" is taken from the environment.

[project]
name = {project}
timezone = "UTC"  # times without an offset are read in this zone; days and hours are counted in it

# One [[events]] for each source; together they become one log.
[[events]]
path = {path}  # Parquet or CSV, a glob too; or table = "..." or query = "..." on the database of [source]
{constant}# observed = [2024-01-01, 2025-01-01]  # the period that the source covers; default: from first to last event
# max_lag = "1d"  # how late an event may arrive

# Name in the common model = column of the source.
[events.columns]
{columns}

# One [targets.<name>] for each thing to predict. Types: churn, conversion, cancellation, affinity.
{target}
# [targets.conversion_{slug}_7d]
# type = "conversion"  # such an event within the horizon
# event = {outcome}
# horizon = "7d"

{affinity}[tracking]
uri = "sqlite:///mlflow.db"  # MLflow: every model, with its metrics

[job]
retrain_every = "28d"
max_staleness = "3d"  # refuse to publish if the events stop earlier than this before the run's date
# keep = "365d"  # how long attributes are kept
# min_grade = "C"  # let models serve too that are not shown to be better than their baseline

[report]
language = "en"  # of the report and of reasons: en or es, with a region too, like es-MX
# path = "report.html"  # written by every run; default: report.html beside the warehouse

[warehouse]
url = "warehouse.duckdb"  # where the attributes go
"""
