"""`Lookup`: facts about customers, items or any other column of the log, each as it stood at the cutoff.

What a lookup is, as a value; how its columns become a key, two times and facts; how the log joins what `lookup_intake` makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from persopredict.engines.expressions import MICROSECONDS_PER_DAY, case, cast_to, col, count, every, func, lit, select, some, table
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.features.spec import CALENDAR
from persopredict.mapping import different, mapping_problems, name_problems, safe
from persopredict.sources import MODEL, NUMBERS, Described, Mapped, is_blank, unreadable_as
from persopredict.usability import UNUSABLE_FACTS

#: Columns of the common model that say when or how much, not of whom or what.
_NO_KEYS = ("event_at", "known_at", *NUMBERS, *CALENDAR)
#: Columns of ``lookup_<n>`` besides the facts.
KEY, FROM, UNTIL = "key", "from_us", "until_us"
#: When a row holds and when it became known, on the way there. Facts have no spaces in their names, so they can't be confused.
VALID, KNOWN = "valid us", "known us"
#: Nothing is planned longer ahead: beyond are placeholders like 9999-12-31.
_FAR = 10 * 366 * MICROSECONDS_PER_DAY
_RENAME = "give it another name: columns={'another_name': column}"


class Lookup:
    """Facts about the values of a column of the log: a customer's tier, an item's brand.

    In force at a cutoff is, of the key's rows with ``valid_from`` and ``known_at`` before it, the one with the latest ``valid_from``; of
    several the one known last; of these the one whose facts, in the order of `columns`, come last (a null comes first). Every event of the
    key then has these facts, whatever its own time: facts are those of the cutoff.

    Parameters
    ----------
    source : what `EventLog` takes: path or glob, frame, DuckDB relation, or a table or query (with `engine`).
    key : column of the common model whose values the facts are about, like ``"customer_id"``; where the source calls it otherwise,
        ``{"customer_id": "client"}``. Ids become canonical text as in the log: 7, 7.0 and "7" meet.
    columns : the facts, as names or as {name in the log: column}; they become columns of the log like any other. Numbers are exact
        decimals, truth values 1 and 0, dates text.
    valid_from : column; since when a row holds. Null is "ever". Times without an offset are read in the log's time zone.
    known_at : column; when the row became known, if that was not when it began to hold. Null is "at valid_from".
    name : for messages.
    engine : DuckDB connection or database file that a table or query is read with.

    Without `valid_from` and `known_at` the rows are taken as true ever since: what the source says today, features of past cutoffs see too.
    `EventLog.check` says so.

    Raises
    ------
    SpecificationError : with every problem of the description. What is wrong with the source shows when the log is first used.

    >>> import pandas as pd
    >>> from persopredict.events import EventLog
    >>> clients = pd.DataFrame({"client": [7, 7], "tier": ["silver", "gold"], "since": ["2023-05-01", "2024-02-01"]})
    >>> tiers = Lookup(clients, key={"customer_id": "client"}, columns=["tier"], valid_from="since")
    >>> tiers
    Lookup('lookup', tier by customer_id)
    >>> frame = pd.DataFrame({"customer_id": ["7"], "event_at": ["2024-01-01T00:00:00Z"], "event": ["visit"]})
    >>> EventLog(frame).join(tiers).columns
    ('customer_id', 'event_at', 'event', 'tier', 'day', 'hour', 'weekday')
    """

    def __init__(
        self,
        source: Any,
        *,
        key: str | Mapping[str, str],
        columns: Sequence[str] | Mapping[str, Mapped],
        valid_from: str | None = None,
        known_at: str | None = None,
        name: str = "lookup",
        engine: Any = None,
    ) -> None:
        pairs: Any = list(key.items()) if isinstance(key, Mapping) else [(key, key)]
        names: Any = (columns,) if isinstance(columns, str) or not isinstance(columns, Iterable) else columns
        facts = list(names.items()) if isinstance(names, Mapping) else [(safe(column), column) for column in names]
        problems = _key_problems(pairs) + _fact_problems(facts)
        times = {"valid_from": valid_from, "known_at": known_at}
        problems += mapping_problems({**dict(facts), **{label: column for label, column in times.items() if column is not None}}, ())
        if problems:
            raise SpecificationError("the lookup is described wrongly", [replace(problem, source=name) for problem in problems])
        self.source, self.name, self.engine = source, name, engine
        self.key, self.key_column = pairs[0]
        self.facts: Mapping[str, Mapped] = dict(facts)
        self.valid_from, self.known_at = valid_from, known_at

    def __repr__(self) -> str:
        """The name, the facts and the key; nothing is read."""
        return f"Lookup({self.name!r}, {', '.join(self.facts)} by {self.key})"


def _key_problems(pairs: Sequence[tuple[Any, Any]]) -> list[Problem]:
    remedy = 'write key="customer_id", or key={"customer_id": "client"} where the source calls it otherwise'
    if len(pairs) != 1 or not all(isinstance(side, str) for side in pairs[0]):
        return [Problem("lookup_key", "key is not one column of the common model", remedy=remedy)]
    if pairs[0][0] in _NO_KEYS:
        text = f"{pairs[0][0]!r} says when or how much, so it can't be a key"
        return [Problem("lookup_key", text, remedy="give the column that says of whom or what the facts are")]
    return []


def _fact_problems(facts: Sequence[tuple[Any, Any]]) -> list[Problem]:
    if not facts:
        return [Problem("lookup_columns", "there are no facts", remedy='give columns=["tier"]')]
    problems = name_problems((), [(str(name), column) for name, column in facts])
    problems += [Problem("", f"{name!r} is a name that we use inside") for name, _ in facts if name in (KEY, FROM, UNTIL)]
    return [replace(problem, code="lookup_columns", remedy=_RENAME) for problem in problems]


@dataclass(frozen=True)
class JoinedLookup:
    """A lookup as the log holds it: `table` has the column `key` (text), the `columns`, and from when to when a row is in force.

    ``from_us`` is null for "ever", ``until_us`` for "still". `versioned`: some column of the source says when.
    """

    name: str
    key: str
    table: str
    columns: tuple[str, ...]
    versioned: bool

    def matches(self, events: str) -> exp.Expression:
        """That a row of the log's table `events` is of a row's key."""
        return exp.EQ(this=cast_to(col(self.key, events), "VARCHAR"), expression=col(KEY, self.table))

    def in_force(self, at_us: exp.Expression) -> exp.Expression:
        """That a row is in force at the cutoff `at_us`: it was so before it, and nothing else was."""
        start, end = col(FROM, self.table), col(UNTIL, self.table)
        begun = some(exp.Is(this=start, expression=exp.null()), exp.LT(this=start.copy(), expression=at_us.copy()))
        lasting = some(exp.Is(this=end, expression=exp.null()), exp.LTE(this=at_us.copy(), expression=end.copy()))
        return every(begun, lasting)

    def known_before(self, until_us: int | None) -> exp.Select:
        """A digest of all that was ever in force before `until_us`: the same facts in any order give the same digest."""
        hashed = func("HASH", *(col(name) for name in (KEY, FROM, *self.columns)))
        query = select({"rows": count(), "digest": exp.Sum(this=cast_to(hashed, "HUGEINT"))}, self.table)
        if until_us is None:
            return query
        start = col(FROM)
        return query.where(some(exp.Is(this=start, expression=exp.null()), exp.LT(this=start.copy(), expression=lit(until_us))))


def joined(lookups: Sequence[Lookup]) -> tuple[JoinedLookup, ...]:
    """The lookups of a log, in its order; of several of the same name each gets one of its own."""
    return tuple(
        JoinedLookup(name, each.key, f"lookup_{number}", tuple(each.facts), (each.valid_from or each.known_at) is not None)
        for number, (each, name) in enumerate(zip(lookups, different(each.name for each in lookups), strict=True))
    )


def join_problems(lookups: Sequence[Lookup], levels: Sequence[str], dimensions: Sequence[str]) -> list[Problem]:
    """Names that two columns of the log would have, and keys that no log has; `levels` and `dimensions` are those of its sources."""
    problems: list[Problem] = []
    taken = {**dict.fromkeys(dimensions, "is a dimension of the log already"), **dict.fromkeys(levels, "is a category level of the log")}
    places = joined(lookups)
    facts = {name: each.name for each in places for name in each.columns}
    known = dict.fromkeys((*(name for name in MODEL if name not in _NO_KEYS), *levels, *dimensions))
    for each in places:
        if each.key not in known:
            text, remedy = f"no column {each.key!r} in the common model", did_you_mean(each.key, known)
            if each.key in facts:
                text, remedy = f"the key {each.key!r} is a fact of {facts[each.key]}", "join the two in a query, or in the frame"
            problems.append(Problem("lookup_key", text, remedy=remedy, source=each.name))
        for name in each.columns:
            if name in taken:
                problems.append(Problem("lookup_columns", f"{name!r} {taken[name]}", remedy=_RENAME, source=each.name))
            taken.setdefault(name, f"is a fact of {each.name} already")
    return problems


@dataclass(frozen=True)
class DescribedLookup:
    """A lookup together with the columns that the engine found in its source."""

    lookup: Lookup
    place: JoinedLookup
    described: Described

    @property
    def numeric(self) -> frozenset[str]:
        """The facts that are numbers."""
        return self.described.numeric_dimensions

    def problems(self) -> list[Problem]:
        """Columns that are missing, or of a type that can't be read as what they should be."""
        lookup, types, found = self.lookup, self.described.types, []
        times = {"valid_from": lookup.valid_from, "known_at": lookup.known_at}
        for name, column in {f"the key {lookup.key}": lookup.key_column, **times, **lookup.facts}.items():
            if not isinstance(column, str):
                continue
            if column not in types:
                hint = did_you_mean(column, types)
                if column == lookup.key == lookup.key_column:
                    hint += f"{'; ' if hint else ''}where the source calls it otherwise, write key={{{lookup.key!r}: column}}"
                found.append(Problem("missing_column", f"{name} is mapped to {column!r}, which is not there", remedy=hint))
            elif remedy := unreadable_as("event_at" if name in times else "", types[column]):
                wanted = "time" if name in times else "text, number or id"
                text = f"{name} is mapped to {column!r} of type {types[column]}, which is not a {wanted}"
                found.append(Problem("mistyped_column", text, remedy=remedy))
        return [replace(problem, source=self.place.name) for problem in found]

    def rows(self, *, numeric_key: bool, now_us: int, whole: bool = False) -> exp.Select:
        """Every row with key, times and facts, why it can't be used (`problem`), and whether its time has no offset (`naive`).

        `whole` adds the row itself as JSON, `row`. A value is read in the inner level, and judged in the outer one.
        """
        source, lookup = self.described, self.lookup
        key = source.value_of(KEY, lookup.key_column, number=numeric_key)
        read = {
            # A number of the log is a decimal, and so is its text.
            KEY: cast_to(key, "VARCHAR") if numeric_key else key,
            VALID: source.instant_of(lookup.valid_from),
            KNOWN: source.instant_of(lookup.known_at),
            **{name: source.value_of(name, mapped, number=name in self.numeric) for name, mapped in lookup.facts.items()},
        }
        times = {VALID: lookup.valid_from, KNOWN: lookup.known_at}
        judged = {KEY: lookup.key_column, **times, **{name: lookup.facts[name] for name in sorted(self.numeric)}}
        given = {name: condition for name, mapped in judged.items() if (condition := source.given(mapped)) is not None}
        naive = source.naive if source.source.mapping else cast_to(lit(False), "BOOLEAN")
        inner = {**read, **{f"given {name}": condition for name, condition in given.items()}, "naive": naive}
        if whole:
            inner["row"] = cast_to(func("TO_JSON", exp.column(exp.to_identifier(source.view, quoted=True))), "VARCHAR")
        reasons = _unusable(set(given), sorted(self.numeric), numeric_key, now_us)
        outer = {**{name: col(name) for name in (*read, "naive")}, KNOWN: func("COALESCE", col(KNOWN), col(VALID))}
        outer["problem"] = cast_to(case([(condition, lit(code)) for code, condition in reasons.items()]), "VARCHAR")
        return select({**outer, **({"row": col("row")} if whole else {})}, select(inner, table(source.view)).subquery("read"))


def is_null(name: str) -> exp.Expression:
    """That a column is null."""
    return exp.Is(this=col(name), expression=exp.null())


def _unusable(given: set[str], numbers: Sequence[str], numeric_key: bool, now_us: int) -> dict[str, exp.Expression]:
    """The condition of each reason, in the order of `UNUSABLE_FACTS`; `given` are the columns that the source has."""

    def lost(*names: str) -> exp.Expression | None:
        """That something was given for one of them, and nothing readable came of it."""
        found = [every(col(f"given {name}"), is_null(name)) for name in names if name in given]
        return some(*found) if found else None

    def later(name: str, than_us: int) -> exp.Expression | None:
        return exp.GT(this=col(name), expression=lit(than_us)) if name in given else None

    found = {
        "lookup_null_key": exp.Not(this=col(f"given {KEY}")) if numeric_key else is_null(KEY),
        "lookup_blank_key": None if numeric_key else is_blank(col(KEY)),
        "lookup_unparsable_key": lost(KEY) if numeric_key else None,
        "lookup_unparsable_valid_from": lost(VALID),
        "lookup_distant_valid_from": later(VALID, now_us + _FAR),
        "lookup_unparsable_known_at": lost(KNOWN),
        "lookup_future_known_at": later(KNOWN, now_us),
        "lookup_unparsable_fact": lost(*numbers),
    }
    return {code: condition for code in UNUSABLE_FACTS if (condition := found.get(code)) is not None}
