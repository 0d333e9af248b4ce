"""Which events a feature reads, as a noun with its conditions: "purchases via web and before 6:00"."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

from sqlglot import exp

from persopredict import conditions
from persopredict.wording.languages import Words

#: How events are named: by their own name, by any name under a condition, or not at all.
NAMED, ANY, ACTIVITY = "named", "event", "activity"


@dataclass(frozen=True)
class Events:
    """The events of a feature. `one`, `many`: the noun with its conditions; `kind`: one of `NAMED`, `ANY` and `ACTIVITY`.

    `words`: the conditions alone, but for the events' names.
    """

    one: str
    many: str
    kind: str
    words: str


def events_of(where: str | None, words: Words, *, activity: bool = False) -> Events:
    """The events that a condition chooses; without any, `activity` calls them activity.

    >>> words = Words.of("en", {}, None)
    >>> events_of("event = 'email_click' AND weekday >= 6", words).many, events_of("channel = 'web' AND value >= 10", words).one
    ('email clicks on weekends', 'event via web and with value of at least 10')
    """
    parts = list(_parts(conditions.parse(where), exp.And)) if where is not None else []
    names = next((found for part in parts if (found := _event_names(part))), [])
    # What is excepted comes last, so that nothing behind it seems to be excepted too.
    rest = sorted((part for part in parts if not names or _event_names(part) != names), key=_is_exception)
    if names:
        one, many = (words.either(nouns) for nouns in zip(*(words.noun(name) for name in names), strict=True))
    elif rest or not activity:
        one, many = words.counted(1, "any"), words.counted(2, "any")
    else:
        one = many = words.say("activity")
    kind = NAMED if names else ANY if rest or not activity else ACTIVITY
    told = ""
    if rest:
        told = _joined([_told(part, words, within=exp.And) for part in rest], "and", words)
        one, many = (words.say("qualified", events=noun, words=told) for noun in (one, many))
    return Events(one, many, kind, told)


def _parts(tree: exp.Expression, kind: type[exp.Connector]) -> Iterable[exp.Expression]:
    """The sides of nested conjunctions (or disjunctions), in order."""
    tree = _plain(tree)
    if not isinstance(tree, kind):
        return [tree]
    return [part for side in (tree.left, tree.right) for part in _parts(cast(exp.Expression, side), kind)]


def _plain(tree: exp.Expression) -> exp.Expression:
    return cast(exp.Expression, tree.unnest())


def _is_exception(part: exp.Expression) -> bool:
    return isinstance(part, exp.NEQ) or (isinstance(part, exp.Not) and not isinstance(_plain(part.this), exp.Is))


def _event_names(part: exp.Expression) -> list[str]:
    """The events that a condition names, if that is all it says."""
    if _column_of(part) != "event" or not isinstance(part, exp.EQ | exp.In):
        return []
    return [value.name for value in _values(part) if isinstance(value, exp.Literal)]


def _column_of(part: exp.Expression) -> str | None:
    """The column that a condition compares with literals, None if it does anything else."""
    column = part.this if isinstance(part.this, exp.Column) else None
    return column.name if column is not None and all(_literal(value) is not None for value in _values(part)) else None


def _values(part: exp.Expression) -> list[exp.Expression]:
    """What a column is compared with."""
    if isinstance(part, exp.In):
        return list(part.expressions)
    return [part.args["low"], part.args["high"]] if isinstance(part, exp.Between) else [part.expression]


def _literal(value: exp.Expression) -> str | float | None:
    value = _plain(value)
    if isinstance(value, exp.Neg) and isinstance(number := _literal(value.this), float):
        return -number
    if not isinstance(value, exp.Literal):
        return None
    return value.name if value.is_string else float(value.name)


def _joined(told: Sequence[str], key: str, words: Words) -> str:
    return reduce(lambda first, second: words.say(key, first=first, second=second), told)


def _told(part: exp.Expression, words: Words, within: type[exp.Expression] | None = None) -> str:
    """A condition in words that follow a noun; in brackets where it stands within another kind of conjunction."""
    part = _flipped(_plain(part))
    for kind, key in ((exp.And, "and"), (exp.Or, "or")):
        if isinstance(part, kind):
            text = _joined([_told(side, words, within=kind) for side in _parts(part, kind)], key, words)
            return words.say("grouped", words=text) if within not in (None, kind) else text
    if isinstance(part, exp.Not):
        inner = _plain(part.this)
        if isinstance(inner, exp.Is) and isinstance(inner.this, exp.Column):
            return words.say("known", column=words.column(inner.this.name))
        return words.say("except", words=_told(inner, words, within=exp.Not))
    if isinstance(part, exp.NEQ):
        return words.say("except", words=_told(exp.EQ(this=part.this, expression=part.expression), words))
    if isinstance(part, exp.Is) and isinstance(part.this, exp.Column) and isinstance(part.expression, exp.Null):
        return words.say("null", column=words.column(part.this.name))
    column = _column_of(part) if isinstance(part, (*_COMPARED, exp.In, exp.Between)) else None
    return (_of_column(part, column, words) if column else None) or words.say("sql", sql=part.sql(dialect="duckdb"))


def _flipped(part: exp.Expression) -> exp.Expression:
    """The comparison with its column on the left."""
    kind = _MIRRORED.get(type(part))
    if kind is None or isinstance(part.this, exp.Column) or not isinstance(part.expression, exp.Column):
        return part
    return kind(this=part.expression, expression=part.this)


def _of_column(part: exp.Expression, column: str, words: Words) -> str | None:
    """A comparison of a column with literals; None if it can't be told."""
    if column in _CALENDAR:
        return _CALENDAR[column](part, words)
    values = [_literal(value) for value in _values(part)]
    texts = [value if isinstance(value, str) else _amount(column, cast(float, value), words) for value in values]
    name = words.column(column)
    if isinstance(part, exp.Between):
        return words.say("between", column=name, low=texts[0], high=texts[1])
    if isinstance(part, exp.EQ | exp.In):
        named = [words.named(text) if column == "event" else words.value(text) for text in texts]
        quoted = [words.quoted(text) if isinstance(value, str) else text for text, value in zip(named, values, strict=True)]
        return words.say("is", column, column=name, values=words.either(quoted), names=words.either(named))
    return words.say(_COMPARED[type(part)], column=name, value=texts[0])


def _amount(column: str, value: float, words: Words) -> str:
    return words.money(value, words.currency, whole=value == int(value)) if column == "value" else words.number(value)


def _hours(part: exp.Expression, words: Words) -> str | None:
    hours = _chosen(part, range(24))
    if not hours or len(hours) == 24:
        return None
    starts = [hour for hour in hours if hour - 1 not in hours]
    ends = [hour + 1 for hour in hours if hour + 1 not in hours]
    return _joined([_stretch(start, end, words) for start, end in zip(starts, ends, strict=True)], "or", words)


def _stretch(start: int, end: int, words: Words) -> str:
    """From one hour to another, of one day."""
    first, last = words.clock(start), words.clock(end)
    if start and end < 24:
        return words.say("hours_between", start=first, end=last)
    key, clock = ("hours_from", first) if start else ("hours_before", last)
    # In Spanish one o'clock is singular.
    return words.counted(1 if clock.startswith("1:") else 2, key, clock=clock)


def _weekdays(part: exp.Expression, words: Words) -> str | None:
    days = _chosen(part, range(1, 8))
    if not days or len(days) == 7:
        return None
    if days == [6, 7]:
        return words.say("weekend")
    if len(days) > 2 and len(days) == days[-1] - days[0] + 1:
        return words.say("weekdays", first=words.weekday(days[0]), last=words.weekday(days[-1]))
    return words.say("weekday", days=words.either([words.weekday(day) for day in days]))


def _chosen(part: exp.Expression, numbers: Iterable[int]) -> list[int]:
    """The numbers that satisfy a comparison with literals."""
    values = [_literal(value) for value in _values(part)]
    if any(isinstance(value, str) for value in values):
        return []
    if isinstance(part, exp.In):
        return [number for number in numbers if number in values]
    if isinstance(part, exp.Between):
        return [number for number in numbers if values[0] <= number <= values[1]]  # type: ignore[operator]
    compare = _OPERATORS[type(part)]
    return [number for number in numbers if compare(number, values[0])]


_COMPARED: dict[type[exp.Expression], str] = {exp.EQ: "is", exp.LT: "lt", exp.LTE: "lte", exp.GT: "gt", exp.GTE: "gte"}
_OPERATORS: dict[type[exp.Expression], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq, exp.LT: operator.lt, exp.LTE: operator.le, exp.GT: operator.gt, exp.GTE: operator.ge,
}  # fmt: skip
_MIRRORED: dict[type[exp.Expression], type[exp.Expression]] = {
    exp.EQ: exp.EQ, exp.NEQ: exp.NEQ, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE,
}  # fmt: skip
_CALENDAR: dict[str, Callable[[exp.Expression, Words], str | None]] = {"hour": _hours, "weekday": _weekdays}
