"""How a log is described: names of columns, levels and dimensions, judged all at once before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from persopredict.errors import Problem
from persopredict.features.spec import CALENDAR
from persopredict.sources import MODEL, Constant, Mapped
from persopredict.times import instant

#: Names that the library's own steps use: a dimension of that name would be read in their place.
_INTERNAL = (
    "event_us", "known_us", "local_us", "cutoff_us", "cell_us", "known_cell_us", "last_us", "before_us", "cutoff", "cutoff_day", "before",
    "entry", "source", "problem", "row", "copy",
)  # fmt: skip


def safe(name: Any) -> str:
    """A column's name as the common model spells it: lower case, ``[a-z0-9_]``."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_") or "column"


def name_problems(levels: Sequence[str], dimensions: Sequence[tuple[str, Mapped]]) -> list[Problem]:
    """Names of levels and dimensions that are taken, given twice, or can't be written in a condition."""
    problems = []
    names = [*((safe(level), "category") for level in levels if len(levels) > 1), *((name, "dimension") for name, _ in dimensions)]
    reserved = {*MODEL, *CALENDAR, *_INTERNAL}
    for position, (name, kind) in enumerate(names):
        remedy = (
            f"give it another name: dimensions={{'my_{safe(name)}': column}}" if kind == "dimension" else "rename the column in the source"
        )
        if name in reserved and not (kind == "category" and position == 0 and name == "category"):
            problems.append(Problem(f"{kind}_name", f"{name!r} is a name of the common model, or one that we use inside", remedy=remedy))
        elif name != safe(name) or not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            problems.append(Problem(f"{kind}_name", f"{name!r} is not a name of a-z, 0-9 and _", remedy=remedy))
        elif name in [other for other, _ in names[:position]]:
            problems.append(Problem(f"{kind}_name", f"{name!r} is the name of two columns", remedy=remedy))
    return problems


def mapping_problems(mapping: Mapping[str, Any], levels: Sequence[Any]) -> list[Problem]:
    """What is mapped to something else than a column or a constant."""
    entries = [*mapping.items(), *(("category", level) for level in levels)]
    remedy = 'give the name of a column, or pp.lit("...") for a constant'
    return [
        Problem("bad_mapping", f"{name} is mapped to {type(column).__name__}, not to a column", remedy=remedy)
        for name, column in entries
        if not isinstance(column, str | Constant)
    ]


def span_of(observed: Sequence[str | datetime], timezone: str, problems: list[Problem]) -> tuple[datetime, datetime] | None:
    """The start and end of what was observed; None, with a problem added, if they are not that."""
    if not isinstance(observed, Sequence) or isinstance(observed, str) or len(observed) != 2:
        problems.append(Problem("bad_observed", "observed is not a start and an end", remedy="write observed=('2024-01-01', '2025-01-01')"))
        return None
    start, end = instant(observed[0], timezone), instant(observed[1], timezone)
    if start >= end:
        text = f"observed starts at {start:%Y-%m-%d %H:%M} UTC and ends at {end:%Y-%m-%d %H:%M} UTC, not later"
        problems.append(Problem("bad_observed", text, remedy="give the start first; the end is exclusive"))
    return start, end


def different(names: Iterable[str]) -> list[str]:
    """The names, those that occur more than once with their position; always different.

    >>> different(["a", "b", "a", "a_3"])
    ['a_1', 'b', 'a_3_', 'a_3']
    """
    given = list(names)
    taken = {name for name in given if given.count(name) == 1}
    found = []
    for position, name in enumerate(given, 1):
        other = f"{name}_{position}" if given.count(name) > 1 else name
        while given.count(name) > 1 and other in taken:
            other += "_"
        taken.add(other)
        found.append(other)
    return found
