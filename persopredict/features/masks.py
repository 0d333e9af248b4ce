"""Conditions without a database: which of one customer's events satisfy a `where`, in NumPy.

SQL knows true, false and unknown. Instead of carrying the unknown along, each node of a condition is asked one of two questions: where is
it true, or where is it false? ``NOT`` swaps the question, and a row that is unknown answers neither.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache, partial, reduce
from typing import Any, cast

import numpy as np
from sqlglot import exp

from persopredict import conditions
from persopredict.errors import SpecificationError
from persopredict.features.columns import MILLION, Columns, Mask, Numbers, Texts

Evaluate = Callable[[Columns], Mask]
Literal = Decimal | str | None

_COMPARE: Mapping[type[exp.Expression], np.ufunc] = {
    exp.EQ: np.equal, exp.NEQ: np.not_equal, exp.LT: np.less, exp.LTE: np.less_equal, exp.GT: np.greater, exp.GTE: np.greater_equal,
}  # fmt: skip
_OF_VALUES: Mapping[np.ufunc, Callable[[Any, Any], bool]] = {
    np.equal: operator.eq, np.not_equal: operator.ne, np.less: operator.lt, np.less_equal: operator.le, np.greater: operator.gt,
    np.greater_equal: operator.ge,
}  # fmt: skip
_OPPOSITE: Mapping[np.ufunc, np.ufunc] = {
    np.equal: np.not_equal, np.not_equal: np.equal, np.less: np.greater_equal, np.greater_equal: np.less, np.greater: np.less_equal,
    np.less_equal: np.greater,
}  # fmt: skip
_MIRRORED: Mapping[np.ufunc, np.ufunc] = {
    np.less: np.greater, np.greater: np.less, np.less_equal: np.greater_equal, np.greater_equal: np.less_equal,
}  # fmt: skip
#: No column reaches beyond, so that a literal which does compares like these.
_BEYOND = Decimal(2 * 10**12)
#: Literals have at most 38 digits, millionths of them six more.
_WIDE = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition ready to be evaluated: `text` as given, `columns` the columns of the common model that it reads."""

    text: str
    columns: frozenset[str]
    _true: Evaluate

    def __call__(self, columns: Columns) -> Mask:
        """The rows for which the condition is true (unknown does not count): bool, one entry per event, read-only.

        Raises `DataError` if a column is missing or can't be read, `SpecificationError` if text is compared with numbers.
        """
        return self._true(columns)


@lru_cache(maxsize=4096)
def compile_condition(text: str) -> Condition:
    """Make a condition of `conditions.parse`'s grammar ready for NumPy.

    Raises `SpecificationError` if it is outside the grammar, compares text with a number, or negates what is not a number.

    >>> from zoneinfo import ZoneInfo
    >>> day = [86_400_000_000 * number for number in range(4)]
    >>> columns = Columns.of({"event_at": day, "value": [1, 20.0, None, 30], "channel": ["web", None, "web", "app"]}, zone=ZoneInfo("UTC"))
    >>> compile_condition("value >= 10").columns, compile_condition("value >= 10")(columns)
    (frozenset({'value'}), array([False,  True, False,  True]))
    >>> compile_condition("NOT (channel = 'web' AND value < 10)")(columns)
    array([False,  True, False,  True])
    """
    return Condition(text, conditions.columns(text), _where(conditions.parse(text), True))


# Logic -----------------------------------------------------------------------------------------------------------------------------


def _where(node: exp.Expression, truth: bool) -> Evaluate:
    """The rows for which the node is `truth`; remembered with the columns, so that conditions share what they have in common."""
    node = _bare(node)
    if isinstance(node, exp.Not):
        return _where(node.this, not truth)
    evaluate = _node(node, truth)
    key = f"{truth} {node.sql(dialect='duckdb')}"

    def remembered(columns: Columns) -> Mask:
        found = columns.masks.get(key)
        if found is None:
            found = columns.masks[key] = evaluate(columns)
            found.flags.writeable = False
        return found

    return remembered


def _bare(node: Any) -> exp.Expression:
    """Without its parentheses."""
    return cast(exp.Expression, node.unnest())


def _node(node: exp.Expression, truth: bool) -> Evaluate:
    if isinstance(node, exp.And | exp.Or):
        return _joined([_where(_bare(part), truth) for part in node.flatten()], every=isinstance(node, exp.And) == truth)
    if isinstance(node, exp.Between):
        return _between(node, truth)
    if isinstance(node, exp.In):
        return _in(node, truth)
    if isinstance(node, exp.Is):
        return _is(node, truth)
    compare = _COMPARE.get(type(node))
    if compare is not None:
        return _compared(node, compare, node.this, node.expression, truth)
    # A number in the place of a condition is true unless it is zero.
    return _compared(node, np.not_equal, node, exp.false(), truth)


def _joined(parts: list[Evaluate], *, every: bool) -> Evaluate:
    join = np.logical_and if every else np.logical_or
    if len(parts) == 1:
        return parts[0]
    return lambda columns: reduce(join, [part(columns) for part in parts])


def _constant(truth: bool) -> Evaluate:
    return lambda columns: np.full(len(columns), truth)


def _between(node: exp.Between, truth: bool) -> Evaluate:
    sides = {np.greater_equal: node.args["low"], np.less_equal: node.args["high"]}
    return _joined([_compared(node, compare, node.this, side, truth) for compare, side in sides.items()], every=truth)


def _in(node: exp.In, truth: bool) -> Evaluate:
    column, others = _bare(node.this), [_bare(other) for other in node.expressions]
    if not others:
        # Nothing is in an empty list, unless it is unknown.
        return _constant(False) if truth else _null(node, column, False)
    if isinstance(column, exp.Column) and all(isinstance(other, exp.Literal) and other.is_string for other in others):
        return partial(_in_texts, column.name, frozenset(other.name for other in others), truth)
    return _joined([_compared(node, np.equal, column, other, truth) for other in others], every=not truth)


def _is(node: exp.Is, truth: bool) -> Evaluate:
    if isinstance(node.expression, exp.Null):
        return _null(node, node.this, truth)
    if not isinstance(node.expression, exp.Boolean):
        raise _refused(node, "IS takes NULL, TRUE or FALSE")
    # Never unknown: what is not true counts as false.
    inner = _where(node.this, bool(node.expression.this))
    return inner if truth else lambda columns: ~inner(columns)


def _null(node: exp.Expression, operand: exp.Expression, truth: bool) -> Evaluate:
    """Where an operand is null, or where it is not."""
    found = _operand(node, operand)
    if not isinstance(found, _Column | _Term):
        return _constant((found is None) == truth)

    def evaluate(columns: Columns) -> Mask:
        valid = columns.valid(found.name) if isinstance(found, _Column) else found.numbers(columns).valid
        if valid is None:
            return np.full(len(columns), not truth)
        return ~valid if truth else valid

    return evaluate


# Operands --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: of text or of numbers, as the events will show."""

    name: str

    def numbers(self, columns: Columns) -> Numbers:
        return columns.number(self.name)


@dataclass(frozen=True, slots=True)
class _Term:
    """A number for every row: a negated column, or a condition, true being 1 and false 0."""

    numbers: Callable[[Columns], Numbers]


def _operand(node: exp.Expression, operand: exp.Expression) -> Literal | _Column | _Term:
    """One side of the comparison `node`: a literal number (exact), a literal text, NULL as None, or something to be evaluated."""
    operand = _bare(operand)
    if isinstance(operand, exp.Null):
        return None
    if isinstance(operand, exp.Boolean):
        return Decimal(bool(operand.this))
    if isinstance(operand, exp.Literal):
        return str(operand.name) if operand.is_string else Decimal(operand.name)
    if isinstance(operand, exp.Column):
        return _Column(operand.name)
    if isinstance(operand, exp.Neg):
        return _negated(node, _bare(operand.this))
    true, false = _where(operand, True), _where(operand, False)
    return _Term(lambda columns: _truths(true(columns), false(columns)))


def _negated(node: exp.Expression, operand: exp.Expression) -> Literal | _Term:
    found = _operand(node, operand)
    if found is None:
        return None
    if isinstance(found, Decimal) and not isinstance(operand, exp.Boolean):
        return found.copy_negate()
    if isinstance(operand, exp.Column | exp.Neg) and not isinstance(found, Decimal | str):
        return _Term(lambda columns: _minus(found.numbers(columns)))
    raise _refused(node, f"{operand.sql(dialect='duckdb')} is not a number that can be negated")


def _minus(numbers: Numbers) -> Numbers:
    return Numbers(-numbers.units, numbers.scale, numbers.valid)


def _truths(true: Mask, false: Mask) -> Numbers:
    known = true | false
    return Numbers(true.astype(np.int64), 1, None if known.all() else known)


# Comparisons -----------------------------------------------------------------------------------------------------------------------


def _compared(node: exp.Expression, compare: np.ufunc, left: exp.Expression, right: exp.Expression, truth: bool) -> Evaluate:
    """Where the comparison is `truth`; where either side is null it is neither."""
    compare = compare if truth else _OPPOSITE[compare]
    a, b = _operand(node, left), _operand(node, right)
    if a is None or b is None:
        return _constant(False)
    if isinstance(a, Decimal | str):
        if isinstance(b, Decimal | str):
            return _constant(_of_literals(node, compare, a, b))
        a, b, compare = b, a, _MIRRORED.get(compare, compare)
    if isinstance(b, Decimal):
        return _with_number(a.numbers, compare, b)
    if isinstance(b, str):
        if isinstance(a, _Column):
            return _with_text(a.name, compare, b)
        raise _refused(node, f"it compares a number with text, {b!r}")
    return partial(_of_both, compare, a, b)


def _of_literals(node: exp.Expression, compare: np.ufunc, a: Decimal | str, b: Decimal | str) -> bool:
    if isinstance(a, str) != isinstance(b, str):
        raise _refused(node, "it compares a number with text")
    return _OF_VALUES[compare](a, b)


def _with_number(numbers: Callable[[Columns], Numbers], compare: np.ufunc, literal: Decimal) -> Evaluate:
    bounds = {scale: _bound(compare, literal, scale) for scale in (1, MILLION)}

    def evaluate(columns: Columns) -> Mask:
        found = numbers(columns)
        bound = bounds[found.scale]
        # A literal between two units is equal to no number, and different from every one that is known.
        mask = np.full(len(columns), compare is np.not_equal) if bound is None else compare(found.units, bound)
        return mask if found.valid is None else mask & found.valid

    return evaluate


def _bound(compare: np.ufunc, literal: Decimal, scale: int) -> int | None:
    """The whole number of units that decides the comparison like the literal itself; None if equality with it is impossible."""
    exact = _WIDE.multiply(min(max(literal, -_BEYOND), _BEYOND), Decimal(scale))
    if compare in (np.less, np.greater_equal):
        return int(exact.to_integral_value(ROUND_CEILING))
    if compare in (np.less_equal, np.greater):
        return int(exact.to_integral_value(ROUND_FLOOR))
    return int(exact) if exact == exact.to_integral_value() else None


def _with_text(name: str, compare: np.ufunc, literal: str) -> Evaluate:
    def equality(columns: Columns) -> Mask:
        found = columns.text(name)
        mask: Mask = compare(found.codes, found.index.get(literal, -2))
        return mask if found.valid is None else mask & found.valid

    def order(columns: Columns) -> Mask:
        found, holds = columns.text(name), _OF_VALUES[compare]
        # Python orders texts by code point, which is the order of their UTF-8 bytes. The entry at the end is for nulls, whose code is -1.
        return np.array([*(holds(text, literal) for text in found.index), False])[found.codes]

    return equality if compare in (np.equal, np.not_equal) else order


def _in_texts(name: str, literals: frozenset[str], truth: bool, columns: Columns) -> Mask:
    found = columns.text(name)
    answers = np.full(len(found.index) + 1, not truth)
    for literal in literals & found.index.keys():
        answers[found.index[literal]] = truth
    answers[-1] = False
    return answers[found.codes]


def _of_both(compare: np.ufunc, a: _Column | _Term, b: _Column | _Term, columns: Columns) -> Mask:
    """Two columns, or a column and a condition."""
    if isinstance(a, _Column) and isinstance(b, _Column) and not (columns.is_number(a.name) or columns.is_number(b.name)):
        return _of_texts(compare, columns.text(a.name), columns.text(b.name))
    x, y = a.numbers(columns), b.numbers(columns)
    scale = max(x.scale, y.scale)
    mask: Mask = compare(x.units * (scale // x.scale), y.units * (scale // y.scale))
    return _known(mask, x.valid, y.valid)


def _of_texts(compare: np.ufunc, x: Texts, y: Texts) -> Mask:
    ranks = {text: rank for rank, text in enumerate(sorted({*x.index, *y.index}))}
    ranked = [np.array([*(ranks[text] for text in texts.index), -1])[texts.codes] for texts in (x, y)]
    mask: Mask = compare(*ranked)
    return _known(mask, x.valid, y.valid)


def _known(mask: Mask, *valid: Mask | None) -> Mask:
    return reduce(np.logical_and, [known for known in valid if known is not None], mask)


def _refused(node: exp.Expression, why: str) -> SpecificationError:
    return SpecificationError(f"where {node.sql(dialect='duckdb')!r} can't be evaluated: {why}")
