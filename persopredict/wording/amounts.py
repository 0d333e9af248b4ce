"""Aggregates of a column in words: amounts, extremes, spreads, quotients, and how they change."""

from __future__ import annotations

import math
from collections.abc import Callable

from persopredict.features.spec import CALENDAR
from persopredict.wording import units
from persopredict.wording.habits import direction
from persopredict.wording.parts import Parts, Telling
from persopredict.wording.units import Unit


def total(parts: Parts) -> Telling:
    """As in "total value of purchases in the last 28 days: 120"."""
    return _told(parts, parts.amount("title.sum", when=parts.when), unit_of(parts.column, parts, adds=True))


def single(parts: Parts) -> Telling:
    """As in "average value of purchases in the last 28 days: 20"; also extremes."""
    aggregate = parts.feature.aggregate
    if (aggregate, parts.column) == ("mean", "hour"):
        title = parts.amount("title.mean", events=parts.acts.many, when=parts.within)
        return _told(parts, title, units.middle_hours(parts.words))
    return _told(parts, parts.amount(f"title.{aggregate}", when=parts.within), unit_of(parts.column, parts))


def end(parts: Parts) -> Telling:
    """As in "value of the first purchase in the last 28 days: 20"; also of the last."""
    return _told(parts, parts.amount(f"title.{parts.feature.aggregate}", when=parts.within), unit_of(parts.column, parts))


def deviation(parts: Parts) -> Telling:
    """As in "variation in value of purchases in the last 28 days: ±5"."""
    words = parts.words
    lengths = {"hour": units.hours(words), "day": units.gaps(words)}
    unit = lengths.get(parts.column) or unit_of(parts.column, parts, adds=True)
    title = parts.amount("title.std", events=parts.acts.many, when=parts.within)
    # One value alone has none either.
    return _told(parts, title, units.spread(unit), lambda: words.say("colon", title=title, value=words.unknown))


def ratio(parts: Parts) -> Telling:
    """As in "value per order in the last 28 days: 20"."""
    words, lower = parts.words, parts.feature.columns[1]
    per = words.column(lower)
    if lower not in words.names and f"per.{lower}" in words.table.texts:
        per = words.say(f"per.{lower}")
    return _told(parts, parts.amount("title.ratio", per=per, when=parts.within), unit_of(parts.column, parts, adds=True))


def decayed(parts: Parts) -> Telling:
    """As in "number of purchases so far, recent ones counting more (half after 28 days): 3.2"; of a column its total."""
    words, half_life = parts.words, parts.feature.half_life
    assert half_life is not None
    column = parts.column
    plain = parts.amount("title.sum", when=parts.when) if column else parts.event("title.count", when=parts.when)
    title = words.say("decayed", title=plain, time=words.counted(half_life.days, "days"))
    unit = unit_of(column, parts, adds=True) if column else units.numbers(words)
    return _told(parts, title, unit, None if column else parts.nothing)


def share_of(parts: Parts) -> Telling:
    """As in "purchases: 23% of value in the last 91 days"."""
    unit = units.shares(parts.words)

    def sentence(value: float) -> str:
        return parts.no_value() if math.isnan(value) else parts.amount("share_of", percent=unit.text(value), when=parts.within)

    return Telling(parts.amount("title.share_of", when=parts.within), unit, sentence)


def trend_of(parts: Parts) -> Telling:
    """As in "40% less value in the last 14 days than in the 14 days before"."""

    def sentence(value: float) -> str:
        if math.isnan(value):
            return parts.nothing() if parts.column in CALENDAR else parts.amount("trend_of_none", **parts.halves)
        key, values = direction(value, parts.words)
        return parts.amount(f"trend_of{key}", **parts.halves, **values)

    return Telling(parts.amount("title.trend_of", **parts.halves), units.changes(parts.words), sentence)


def unit_of(column: str, parts: Parts, *, adds: bool = False) -> Unit:
    """What a column's values are measured in; `adds`: sums and differences of them are meant, which are no hours, weekdays and dates."""
    kinds = {"value": units.money} if adds else {"value": units.money, "hour": units.clock, "weekday": units.weekdays, "day": units.dates}
    return kinds.get(column, units.numbers)(parts.words)


def _told(parts: Parts, title: str, unit: Unit, nothing: Callable[[], str] | None = None) -> Telling:
    """The title, and after a colon the value."""

    def sentence(value: float) -> str:
        if math.isnan(value):
            return (nothing or parts.no_value)()
        return parts.words.say("colon", title=title, value=unit.text(value))

    return Telling(title, unit, sentence)
