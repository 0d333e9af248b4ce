"""Conditions: the `where` of features, targets and cohorts, as a closed part of SQL over the common model.

A condition may use ``= <> < > <= >= IN BETWEEN IS NULL AND OR NOT``, columns of the common model and literals; nothing else, so that every
engine and NumPy evaluate it alike. Nulls follow SQL: a comparison with null is unknown, and an unknown row does not count. Numbers are
exact decimals, in the log and in conditions: one with an exponent, which SQL would read as a double, is spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import cast

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from persopredict.errors import SpecificationError, did_you_mean

#: Columns that a condition may not read: time is the window's business, and identity would be a leak into names and logs.
FORBIDDEN = frozenset({"event_at", "known_at", "customer_id", "event_id"})
#: The digits that a number may have before and after its point: 38 together, which is what every engine compares exactly.
WHOLE, PLACES = 20, 18

_ALLOWED = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Paren, exp.EQ, exp.NEQ, exp.LT, exp.GT, exp.LTE, exp.GTE,
    exp.In, exp.Between, exp.Is, exp.And, exp.Or, exp.Not,
)  # fmt: skip
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.GT, exp.LTE, exp.GTE, exp.In, exp.Between)
_WORDS = {
    "<>": "not", "<=": "lte", ">=": "gte", "<": "lt", ">": "gt", "=": "", "IS NULL": "is_null", "-": "minus",
}  # fmt: skip


def parse(text: str) -> exp.Expression:
    """The condition as an expression tree, checked against the closed grammar.

    Raises `SpecificationError` naming what is not allowed.

    >>> parse("channel = 'web' and value >= 10").sql(dialect="duckdb")
    "channel = 'web' AND value >= 10"
    >>> parse("value > 2.5e3").sql(dialect="duckdb")
    'value > 2500'
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
        if not isinstance(node, _ALLOWED) or any(node.args.get(key) for key in ("query", "unnest", "field", "symmetric")):
            name = "BETWEEN SYMMETRIC" if isinstance(node, exp.Between) else type(node).__name__
            raise SpecificationError(f'where "{text}": {name} is not allowed; use = <> < > <= >= IN BETWEEN IS NULL AND OR NOT')
        if isinstance(node, exp.Column) and node.table:
            raise SpecificationError(f'where "{text}": {node.sql()} names a table; conditions read the columns of the common model')
        if isinstance(node, exp.Literal) and not node.is_string:
            node.set("this", _spelled_out(text, node.name))
    if not isinstance(tree, exp.Condition) or isinstance(tree, exp.Literal | exp.Column | exp.Null | exp.Neg):
        raise SpecificationError(f'where "{text}" is not a condition; write a comparison, like "channel = \'web\'"')
    return cast(exp.Expression, tree)


def _spelled_out(text: str, number: str) -> str:
    """The number as it is, or without its exponent."""
    whole, _, places = number.partition(".")
    if number.replace(".", "").isdecimal() and len(whole) <= WHOLE and len(places) <= PLACES:
        return number
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise SpecificationError(f'where "{text}": {number} is not a number') from None
    # Judged by its size first: written out, 1e999999999 would fill the memory.
    if not value or -PLACES <= value.adjusted() < WHOLE:
        whole, _, places = f"{value if value else 0:f}".partition(".")
        whole, places = whole.lstrip("0") or "0", places.rstrip("0")
        if len(places) <= PLACES:
            return f"{whole}.{places}" if places else whole
    raise SpecificationError(
        f'where "{text}": {number} is too long; a number has at most {WHOLE} digits before the point and {PLACES} after it'
    )


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
    """One sentence for each column that the log does not have, and for whatever mixes text, numbers and truth values.

    SQL would turn one into the other, each engine by rules of its own, or fail at the first row that can't be turned.

    >>> misread("channel = 1 AND value > '10'", ["channel", "value"], ["value"])
    ["channel = 1 compares text with a number; write '1'", "value > '10' compares a number with text; write 10"]
    >>> misread("value = channel OR value", ["channel", "value"], ["value"])
    ['value is a number, not a condition; write a comparison', 'value = channel compares a number with text']
    """
    found = unknown_columns(text, available)
    if text is not None:
        numbers = set(numeric)
        kinds = {name: _NUMBER if name in numbers else _TEXT for name in available if name not in FORBIDDEN}
        found += dict.fromkeys(_mixed(parse(text), kinds))
    return found


_TEXT, _NUMBER, _TRUTH = "text", "a number", "a truth value"


def _kind(node: exp.Expression, kinds: Mapping[str, str]) -> str | None:
    """What a part of a condition is; None where nobody knows: NULL, or a column that is not there."""
    node = cast(exp.Expression, node.unnest())
    if isinstance(node, exp.Column):
        return kinds.get(node.name)
    if isinstance(node, exp.Literal):
        return _TEXT if node.is_string else _NUMBER
    if isinstance(node, exp.Neg):
        return _NUMBER
    return None if isinstance(node, exp.Null) else _TRUTH


def _mixed(tree: exp.Expression, kinds: Mapping[str, str]) -> Iterator[str]:
    """Where text, numbers and truth values stand in each other's place."""
    if _kind(tree, kinds) in (_TEXT, _NUMBER):
        yield _no_condition(tree, kinds)
    for node in tree.walk():
        if isinstance(node, exp.And | exp.Or | exp.Not):
            yield from (_no_condition(side, kinds) for side in node.iter_expressions() if _kind(side, kinds) in (_TEXT, _NUMBER))
        elif isinstance(node, exp.Neg) and (kind := _kind(node.this, kinds)) in (_TEXT, _TRUTH):
            yield f"{_sql(node)} negates {kind}"
        elif isinstance(node, exp.Is) and isinstance(node.expression, exp.Boolean):
            if _kind(node.this, kinds) in (_TEXT, _NUMBER):
                yield f"{_sql(node)} compares {_kind(node.this, kinds)} with {_TRUTH}{_mended(node.expression, node.this, kinds)}"
        elif isinstance(node, exp.Is) and not isinstance(node.expression, exp.Null):
            yield f"{_sql(node)} is no comparison; IS takes NULL"
        elif isinstance(node, _COMPARISONS):
            yield from _mixed_sides(node, kinds)


def _mixed_sides(node: exp.Expression, kinds: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each side of a comparison that is of another kind than its column, or than the first side."""
    sides = [side for side in node.iter_expressions() if _kind(side, kinds) is not None]
    sides.sort(key=_is_literal)
    for other in sides[1:]:
        if _kind(other, kinds) != _kind(sides[0], kinds):
            yield f"{_sql(node)} compares {_kind(sides[0], kinds)} with {_kind(other, kinds)}{_mended(other, sides[0], kinds)}"


def _mended(literal: exp.Expression, side: exp.Expression, kinds: Mapping[str, str]) -> str:
    """How to write a literal so that it is of the kind of the other side; nothing if that is no column's."""
    if not _is_literal(literal) or _is_literal(side) or _kind(side, kinds) == _TRUTH:
        return ""
    if isinstance(literal, exp.Boolean):
        return f"; write {int(literal.this) if _kind(side, kinds) == _NUMBER else repr(str(literal.this).lower())}"
    return f"; write {literal.name if _kind(side, kinds) == _NUMBER else repr(_sql(literal))}"


def _no_condition(node: exp.Expression, kinds: Mapping[str, str]) -> str:
    return f"{_sql(node)} is {_kind(node, kinds)}, not a condition; write a comparison"


def _is_literal(node: exp.Expression) -> bool:
    return isinstance(node.this if isinstance(node, exp.Neg) else node, exp.Literal | exp.Boolean)


def _sql(node: exp.Expression) -> str:
    text: str = node.sql(dialect="duckdb")
    return text


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
