"""Aggregates of events in words: how many there were, when, how regularly, which part of all, and whether they become more."""

from __future__ import annotations

import math

from persopredict.wording import units
from persopredict.wording.languages import Words
from persopredict.wording.parts import Parts, Telling


def recency(parts: Parts) -> Telling:
    """As in "last purchase 34 days ago; usually every 9"."""
    unit = units.days(parts.words)

    def sentence(value: float) -> str:
        return parts.nothing() if math.isnan(value) else parts.act("recency", time=unit.text(value))

    def beside(text: str, value: float, usual: float) -> str:
        return text if math.isnan(value) else with_usual(text, usual, parts.words, in_days=1 <= value < units.YEARS)

    return Telling(parts.act("title.recency", when=parts.within), unit, sentence, beside)


def with_usual(text: str, usual: float, words: Words, *, in_days: bool = False) -> str:
    """A sentence with the usual gap behind it, or that there was one day only; `in_days`: it speaks of days, so that a number will do."""
    if math.isnan(usual):
        return words.say("usual_none", sentence=text)
    if usual == 1:
        return words.say("usual_daily", sentence=text)
    plain = in_days and 1 < usual < units.YEARS
    return words.say("usual", sentence=text, time=words.number(usual) if plain else units.time_text(usual, words))


def tenure(parts: Parts) -> Telling:
    """As in "first purchase 400 days ago"."""
    unit = units.days(parts.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return parts.nothing()
        if parts.within:
            return parts.act("tenure_within", time=unit.text(value), when=parts.within)
        return parts.act("tenure", time=unit.text(value))

    return Telling(parts.act("title.tenure", when=parts.within), unit, sentence)


def count(parts: Parts) -> Telling:
    """As in "3 purchases in the last 28 days"."""

    def sentence(value: float) -> str:
        return parts.nothing() if units.is_nothing(value) else parts.count_events(value, "count", when=parts.when)

    return Telling(parts.event("title.count", when=parts.when), units.whole_numbers(parts.words), sentence)


def distinct(parts: Parts) -> Telling:
    """As in "5 different items in the last 28 days"; of days "purchases on 5 days in the last 28 days"."""
    words, unit = parts.words, units.whole_numbers(parts.words)
    if parts.column == "day":

        def on_days(value: float) -> str:
            return parts.nothing() if units.is_nothing(value) else parts.count_acts(value, "active_days", when=parts.when)

        return Telling(parts.act("title.active_days", when=parts.when), unit, on_days)
    among = words.say("among", events=parts.events.many) if parts.feature.where else ""

    def text(number: float | None) -> str:
        return words.say("distinct", things=words.things(parts.column, number), among=among, when=parts.when)

    return Telling(text(None), unit, lambda value: text(0 if math.isnan(value) else value))


def gap_mean(parts: Parts) -> Telling:
    """As in "purchases usually every 9.3 days"."""
    unit = units.gaps(parts.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return _no_rhythm(parts)
        key, values = ("gap_mean_daily", {}) if value == 1 else ("gap_mean", {"time": unit.text(value)})
        return parts.act(key, when=parts.within, **values)

    return Telling(parts.act("title.gap_mean", when=parts.within), unit, sentence)


def gap_std(parts: Parts) -> Telling:
    """As in "gaps between purchases vary by 3.2 days"."""
    unit = units.gaps(parts.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return _no_rhythm(parts)
        key, values = ("gap_std", {"time": unit.text(value)}) if value else ("gap_std_none", {})
        return parts.act(key, when=parts.within, **values)

    return Telling(parts.act("title.gap_std", when=parts.within), units.spread(unit), sentence)


def _no_rhythm(parts: Parts) -> str:
    return parts.act("no_rhythm", when=parts.within)


def overdue(parts: Parts) -> Telling:
    """As in "3.8 times as long as usual since the last purchase"."""
    words, window = parts.words, parts.feature.window

    def by_rhythm(text: str) -> str:
        return text if window is None else words.say("rhythm_of", sentence=text, span=units.span(window, words, "last"))

    def sentence(value: float) -> str:
        if math.isnan(value):
            return _no_rhythm(parts)
        key, values = lateness(value, words)
        return by_rhythm(parts.act(f"overdue{key}", **values))

    def beside(text: str, value: float, usual: float) -> str:
        return text if math.isnan(value) or math.isnan(usual) else with_usual(text, usual, words)

    return Telling(by_rhythm(parts.act("title.overdue")), units.times(words), sentence, beside)


def lateness(value: float, words: Words) -> tuple[str, dict[str, str]]:
    """How a multiple of the usual time is told: the end of a key, and what goes into its text."""
    if 0.95 <= value <= 1.05:
        return "_even", {}
    return ("_early", {"percent": words.percent(value)}) if value < 1 else ("", {"times": words.number(value)})


def share(parts: Parts) -> Telling:
    """As in "23% of events via web in the last 91 days"."""
    unit = units.shares(parts.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return parts.nothing_at_all()
        return _part(parts, unit.text(value)) if value else parts.nothing()

    return Telling(parts.event("title.share", when=parts.within), unit, sentence)


def _part(parts: Parts, percent: str) -> str:
    events = parts.events
    variants = (events.kind,) if events.words else ()
    return parts.words.say("share", *variants, events=events.many, words=events.words, percent=percent, when=parts.within)


def trend(parts: Parts) -> Telling:
    """As in "40% fewer purchases in the last 14 days than in the 14 days before"."""

    def sentence(value: float) -> str:
        if math.isnan(value):
            return parts.nothing()
        key, values = direction(value, parts.words)
        return parts.act(f"trend{key}", **parts.halves, **values)

    return Telling(parts.act("title.trend", **parts.halves), units.changes(parts.words), sentence)


def direction(change: float, words: Words) -> tuple[str, dict[str, str]]:
    """How a change is told: the end of a key, and what goes into its text."""
    plain = {units.NEW: "_new", units.UP: "_up", units.DOWN: "_down", 0.0: "_same", -1.0: "_gone"}
    if change in plain:
        return plain[change], {}
    return "_more" if change > 0 else "_less", {"percent": words.percent(abs(change))}
