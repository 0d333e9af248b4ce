"""Conditions: the `where` of features, targets and cohorts, as a closed part of SQL over the common model.

A condition may use ``= <> < > <= >= IN BETWEEN IS NULL AND OR NOT``, columns of the common model and literals; nothing else, so that every
engine and NumPy evaluate it alike. Nulls follow SQL: a comparison with null is unknown, and an unknown row does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import cast

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from persopredict.errors import SpecificationError, did_you_mean

#: Columns that a condition may not read: time is the window's business, and identity would be a leak into names and logs.
FORBIDDEN = frozenset({"event_at", "known_at", "customer_id", "event_id"})

_ALLOWED = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Paren, exp.EQ, exp.NEQ, exp.LT, exp.GT, exp.LTE, exp.GTE,
    exp.In, exp.Between, exp.Is, exp.And, exp.Or, exp.Not,
)  # fmt: skip
_WORDS = {
    "<>": "not", "<=": "lte", ">=": "gte", "<": "lt", ">": "gt", "=": "", "IS NULL": "is_null", "-": "minus",
}  # fmt: skip


def parse(text: str) -> exp.Expression:
    """The condition as an expression tree, checked against the closed grammar.

    Raises `SpecificationError` naming what is not allowed.

    >>> parse("channel = 'web' and value >= 10").sql(dialect="duckdb")
    "channel = 'web' AND value >= 10"
    >>> parse("abs(value) > 1")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: where "abs(value) > 1": Abs is not allowed; use = <> < > <= >= IN BETWEEN IS NULL AND OR NOT
    """
    return _parsed(text).copy()


@lru_cache(maxsize=4096)
def _parsed(text: str) -> exp.Expression:
    try:
        tree = parse_one(text, dialect="duckdb")
    except SqlglotError as error:
        reason = re.sub(r"\x1b\[\d+m", "", str(error).split("\n")[0])
        raise SpecificationError(f"where {text!r} can't be read: {reason}") from None
    for node in tree.walk():
        allowed = isinstance(node, _ALLOWED) and not (
            isinstance(node, exp.In) and any(node.args.get(key) for key in ("query", "unnest", "field"))
        )
        if not allowed:
            raise SpecificationError(
                f'where "{text}": {type(node).__name__} is not allowed; use = <> < > <= >= IN BETWEEN IS NULL AND OR NOT'
            )
        if isinstance(node, exp.Column) and node.table:
            raise SpecificationError(f'where "{text}": {node.sql()} names a table; conditions read the columns of the common model')
    if not isinstance(tree, exp.Condition) or isinstance(tree, exp.Literal | exp.Column | exp.Null | exp.Neg):
        raise SpecificationError(f'where "{text}" is not a condition; write a comparison, like "channel = \'web\'"')
    return cast(exp.Expression, tree)


def canonical(text: str | None) -> str | None:
    """The condition's text in one spelling, so that equal conditions compare equal; None stays None.

    >>> canonical("channel='web'   AND value>10") == canonical("channel = 'web' and value > 10")
    True
    """
    return None if text is None else parse(text).sql(dialect="duckdb")


def columns(text: str | None) -> frozenset[str]:
    """The common model's columns that the condition reads.

    >>> sorted(columns("channel = 'web' OR quantity IS NULL"))
    ['channel', 'quantity']
    """
    return frozenset() if text is None else frozenset(column.name for column in parse(text).find_all(exp.Column))


def literals(text: str | None, column: str) -> frozenset[str]:
    """The text values that the condition compares `column` with: the events a target names, for instance.

    >>> sorted(literals("event IN ('a', 'b')", "event"))
    ['a', 'b']
    """
    found: set[str] = set()
    if text is None:
        return frozenset()
    for node in parse(text).find_all(exp.EQ, exp.NEQ, exp.In):
        if isinstance(node.this, exp.Column) and node.this.name == column:
            others = node.expressions if isinstance(node, exp.In) else [node.expression]
            found.update(other.name for other in others if isinstance(other, exp.Literal) and other.is_string)
    return frozenset(found)


def unknown_columns(text: str | None, available: Iterable[str]) -> list[str]:
    """One sentence for each column that the condition reads and the log does not have.

    >>> unknown_columns("chanel = 'web'", ["channel", "value"])
    ["no column 'chanel'; did you mean 'channel'?"]
    """
    known = [name for name in available if name not in FORBIDDEN]
    missing = sorted(columns(text) - set(known))
    return [
        f"{name!r} can't be read by a condition; use window" if name in FORBIDDEN else f"no column {name!r}; {did_you_mean(name, known)}"
        for name in missing
    ]


def misread(text: str | None, available: Iterable[str], numeric: Iterable[str]) -> list[str]:
    """One sentence for each column that the log does not have, and for each compared with a literal of the other kind.

    >>> misread("channel = 1 AND value > '10'", ["channel", "value"], ["value"])
    ["channel = 1 compares text with a number; write '1'", "value > '10' compares a number with text; write 10"]
    """
    found, known, numbers = unknown_columns(text, available), set(available), set(numeric)
    for node in () if text is None else parse(text).find_all(exp.EQ, exp.NEQ, exp.LT, exp.GT, exp.LTE, exp.GTE, exp.In, exp.Between):
        sides = [side.this if isinstance(side, exp.Neg) else side for side in node.iter_expressions()]
        kinds = {name.name in numbers for name in sides if isinstance(name, exp.Column) and name.name in known}
        for value in sides:
            if isinstance(value, exp.Literal) and len(kinds) == 1 and value.is_string == (True in kinds):
                words, mended = ("a number with text", value.name) if value.is_string else ("text with a number", f"'{value.name}'")
                found.append(f"{node.sql(dialect='duckdb')} compares {words}; write {mended}")
    return found


def slug(text: str) -> str:
    """A name for the condition in ``[a-z0-9_]``: values of `event` alone, other columns with theirs.

    >>> slug("event = 'purchase'"), slug("channel = 'web' AND value >= 10")
    ('purchase', 'channel_web_and_value_gte_10')
    """
    name = re.sub(r"\bevent = ", "", parse(text).sql(dialect="duckdb"))
    for symbol, word in _WORDS.items():
        name = name.replace(symbol, f" {word} ")
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def event_is(names: Iterable[str]) -> str:
    """The condition that an event is one of `names`.

    >>> event_is(["it's"]), event_is(["a", "b"])
    ("event = 'it''s'", "event IN ('a', 'b')")
    """
    values: list[exp.Expression] = [exp.Literal.string(name) for name in names]
    column = exp.column("event")
    tree = exp.EQ(this=column, expression=values[0]) if len(values) == 1 else exp.In(this=column, expressions=values)
    return tree.sql(dialect="duckdb")


def column_is(column: str, value: str) -> str:
    """The condition that a column has one value.

    >>> column_is("channel", "web")
    "channel = 'web'"
    """
    tree: str = exp.EQ(this=exp.column(column), expression=exp.Literal.string(value)).sql(dialect="duckdb")
    return tree


def both(first: str | None, second: str | None) -> str | None:
    """The conjunction of two conditions, either of which may be None.

    >>> both("event = 'a'", "value > 1 OR value < 0")
    "event = 'a' AND (value > 1 OR value < 0)"
    """
    if first is None or second is None:
        return canonical(first or second)
    return exp.and_(parse(first), parse(second)).sql(dialect="duckdb")
