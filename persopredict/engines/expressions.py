"""The few words in which our SQL is written: sqlglot expressions, no text (law 4).

Times are BIGINT microseconds since 1970 in UTC, so that no engine's calendar has a say; money is DECIMAL(18, 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from sqlglot import exp

MICROSECONDS_PER_DAY = 86_400_000_000
MICROSECONDS_PER_HOUR = 3_600_000_000
DECIMAL = "DECIMAL(18, 6)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware instant.

    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The instant of so many microseconds since 1970.

    >>> moment(86400000000).isoformat()
    '1970-01-02T00:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=value)


def col(name: str, table: str | None = None) -> exp.Column:
    """A quoted column."""
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(table, quoted=True) if table else None)


def lit(value: str | int | float | bool | None) -> exp.Expression:
    """A literal."""
    return cast(exp.Expression, exp.convert(value))


def parameter(name: str) -> exp.Expression:
    """A value that is given when the query runs."""
    return exp.Parameter(this=exp.Var(this=name))


def table(name: str, alias: str | None = None) -> exp.Table:
    """A quoted table."""
    return exp.table_(exp.to_identifier(name, quoted=True), alias=alias)


def named(expression: exp.Expression, name: str) -> exp.Expression:
    """``expression AS "name"``."""
    return cast(exp.Expression, exp.alias_(expression, exp.to_identifier(name, quoted=True)))


def cast_to(expression: exp.Expression, kind: str) -> exp.Cast:
    """``CAST(expression AS kind)``."""
    return exp.cast(expression, kind, dialect="duckdb")


def try_cast_to(expression: exp.Expression, kind: str) -> exp.TryCast:
    """``TRY_CAST(expression AS kind)``: null where it can't be read."""
    return exp.TryCast(this=expression, to=exp.DataType.build(kind, dialect="duckdb"), requires_string=False)


def func(name: str, *arguments: exp.Expression) -> exp.Expression:
    """A function call."""
    return cast(exp.Expression, exp.func(name, *arguments, dialect="duckdb"))


def where(aggregate: exp.Expression, condition: exp.Expression | None) -> exp.Expression:
    """The aggregate over the rows that satisfy the condition only."""
    return aggregate if condition is None else exp.Filter(this=aggregate, expression=exp.Where(this=condition))


def count(condition: exp.Expression | None = None) -> exp.Expression:
    """``count(*)`` over the rows that satisfy the condition."""
    return where(exp.Count(this=exp.Star()), condition)


def both(conditions: Iterable[exp.Expression | None]) -> exp.Expression | None:
    """The conjunction of those that are given; None if none is."""
    given = [condition for condition in conditions if condition is not None]
    return every(*given) if given else None


def every(*conditions: exp.Expression) -> exp.Expression:
    """All of the conditions."""
    return cast(exp.Expression, exp.and_(*conditions))


def some(*conditions: exp.Expression) -> exp.Expression:
    """Any of the conditions."""
    return cast(exp.Expression, exp.or_(*conditions))


def case(branches: Sequence[tuple[exp.Expression, exp.Expression]], otherwise: exp.Expression | None = None) -> exp.Expression:
    """``CASE WHEN … THEN … ELSE … END``; only `otherwise` where there are no branches."""
    if not branches:
        return otherwise or exp.null()
    result = exp.Case()
    for condition, value in branches:
        result = result.when(condition, value)
    return result.else_(otherwise) if otherwise is not None else result


def double(expression: exp.Expression) -> exp.Cast:
    """Cast before dividing: engines differ in what ``/`` means for integers and decimals."""
    return cast_to(expression, "DOUBLE")


def quotient(numerator: exp.Expression, denominator: exp.Expression) -> exp.Expression:
    """``numerator / denominator`` in double precision; null where the denominator is zero or null."""
    return exp.Div(this=double(numerator), expression=func("NULLIF", double(denominator), lit(0.0)), typed=False, safe=False)


def floor_to(value: exp.Expression, step: int) -> exp.Expression:
    """The largest multiple of `step` not above an integer value, negative ones included (``%`` takes the sign of its left side)."""
    if step == 1:
        return value
    remainder = exp.Mod(this=exp.paren(exp.Mod(this=value.copy(), expression=lit(step)) + lit(step)), expression=lit(step))
    return exp.paren(value.copy() - exp.paren(remainder))


def select(columns: Mapping[str, exp.Expression], source: exp.Expression | str) -> exp.Select:
    """``SELECT expression AS name, … FROM source``."""
    start = source if isinstance(source, exp.Expression) else table(source)
    return exp.select(*(named(expression, name) for name, expression in columns.items())).from_(start)
