"""How a log is told, in a line and for a notebook: from what is known of it already, so that showing a log never reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from persopredict import html
from persopredict.html import Html
from persopredict.lookups import JoinedLookup
from persopredict.sources import Constant, Source
from persopredict.times import zone

#: Events in a notebook's table; a log of clicks may have thousands of names.
_MOST_EVENTS = 20


@dataclass(frozen=True)
class Known:
    """What is known of a log.

    `catalog`: (source, event, rows, first, last) of each event, most frequent first; `observed`: the span that it covers; both None before
    the log was read. `customers`, `customers_of` (by event): None where nobody has counted.
    """

    sources: Sequence[Source]
    lookups: Sequence[JoinedLookup]
    timezone: str
    catalog: Sequence[tuple[str, str, int, int, int]] | None = None
    observed: tuple[datetime, datetime] | None = None
    customers: int | None = None
    customers_of: Mapping[str, int] | None = None

    @property
    def facts(self) -> str:
        """The lookups' columns, by their keys."""
        return "; ".join(f"{', '.join(each.columns)} by {each.key}" for each in self.lookups)

    @property
    def size(self) -> str:
        """How much it holds, "" before it was read."""
        if self.catalog is None:
            return ""
        rows = sum(row[2] for row in self.catalog)
        counted = f" of {_number(self.customers, 'customer')}" if self.customers is not None else ""
        return f"{_number(rows, 'event')}{counted}"

    @property
    def period(self) -> str:
        """From when to when it is observed, "" before it was read."""
        if self.observed is None:
            return ""
        start, end = (side.astimezone(zone(self.timezone)) for side in self.observed)
        return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"


def line(known: Known) -> str:
    """The log in one line.

    >>> line(Known([], [], "UTC", catalog=[("shop", "visit", 3, 0, 0)], customers=1))
    '3 events of 1 customer, UTC'
    """
    size = known.size or f"{', '.join(source.name for source in known.sources)}, not read yet"
    said = ", ".join(filter(None, (size, known.period, known.timezone)))
    return "; ".join(filter(None, (said, known.facts)))


def page(known: Known) -> Html:
    """The log for a notebook: what it holds, event by event, and where its columns come from."""
    size = known.size or "not read yet: check() reads it, and says what is wrong with it"
    facts = {"period": known.period, "time zone": known.timezone, "facts": known.facts}
    parts = [html.title("EventLog", size), html.facts({name: text for name, text in facts.items() if text})]
    if known.catalog is not None:
        parts.append(_events(known))
        parts.append(html.note([f"and {len(known.catalog) - _MOST_EVENTS:,} more"] if len(known.catalog) > _MOST_EVENTS else []))
    for source in known.sources:
        mapped = {**source.mapping, **source.categories, **source.dimensions}
        rows = [(name, said(column)) for name, column in mapped.items()]
        columns = html.table(["column of the log", "comes from"], rows, words=(0, 1))
        parts.append(html.folded(f"source {source.name}: {origin(source)}", columns if rows else html.note(["columns of the same names"])))
    return html.block(*parts)


def _events(known: Known) -> Html:
    assert known.catalog is not None
    several, counted = len(known.sources) > 1, known.customers_of is not None
    heading = ["event", *(["source"] if several else []), "events", *(["customers with it"] if counted else [])]
    rows = [
        [event, *([source] if several else []), f"{rows:,}", *([f"{known.customers_of[event]:,}"] if known.customers_of else [])]
        for source, event, rows, _, _ in known.catalog[:_MOST_EVENTS]
    ]
    return html.table(heading, rows, words=(0, 1) if several else (0,))


def said(column: Any) -> str:
    """A mapped column, or a constant, as it is written.

    >>> said("sold_at"), said(Constant("purchase"))
    ('sold_at', "'purchase' in every row")
    """
    return f"{column.value!r} in every row" if isinstance(column, Constant) else str(column)


def origin(source: Source) -> str:
    """Where the rows of a source are, without looking: a path as it was given, or the kind of frame, table or query.

    >>> origin(Source("events/*.parquet", {}))
    'events/*.parquet'
    """
    data = source.data
    if isinstance(data, str | Path):
        if source.link is None:
            return str(data)
        return "query" if len(str(data).split()) > 1 else f"table {data}"
    return f"{type(data).__module__.partition('.')[0].lstrip('_')} {type(data).__name__}"


def _number(count: int | None, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
