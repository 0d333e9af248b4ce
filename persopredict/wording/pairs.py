"""Features of pairs in words: what an affinity knows of a customer and a category, told about the category."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from persopredict.affinity.pairs import FAR, FAST, GAP, HALF_LIVES, OCCASIONS, OVERDUE, QUARTER, RECENCY, SLOW, TENURE, within
from persopredict.times import Duration
from persopredict.wording import units
from persopredict.wording.habits import direction, lateness, with_usual
from persopredict.wording.languages import Words
from persopredict.wording.parts import Telling
from persopredict.wording.units import Unit

#: The companion of what says how long ago something was: the usual gap; of what a customer is expected to do: what all do.
COMPANIONS: Mapping[str, str] = {
    **dict.fromkeys((RECENCY, OVERDUE, "late"), GAP),
    **dict.fromkeys(("habit_probability", "recent_habit_probability", "follows", "corrected_by_taken", "corrected_by_own"), "popularity"),
    "goes_together": "popularity_ever",
}


@dataclass(frozen=True)
class Pair:
    """A feature of pairs and a language. `horizon`: the target's; `by`: what the categories are."""

    name: str
    words: Words
    horizon: Duration
    by: str = "category"

    @cached_property
    def spans(self) -> dict[str, str]:
        """The stretches of time that the texts speak of."""
        # Imported here: it speaks to engines.
        from persopredict.affinity.states import quarter_of

        return {
            **{place: units.span(self.horizon, self.words, which) for place, which in _PLACES.items()},
            "quarter": units.span(quarter_of(self.horizon), self.words, "last"),
            "length": units.length(self.horizon, self.words),
        }

    def say(self, key: str, **values: str) -> str:
        """A text about pairs."""
        return self.counted(None, key, **values)

    def counted(self, n: float | None, key: str, **values: str) -> str:
        """The same with a number."""
        return self.words.counted(n, f"pair.{key}", **{**self.spans, **values})

    def within(self, span: str) -> str:
        """As in " in the last 28 days"; " so far" without a span."""
        return self.words.say("within", span=span) if span else self.words.say("so_far")

    def share(self, clip: bool = False) -> Unit:
        """Shares and probabilities; `clip`: of scores, which stray beyond 0 and 1."""
        plain = units.shares(self.words)
        return Unit(lambda values: units.rounded_shares(np.clip(values, 0.0, 1.0)), plain.text) if clip else plain


_PLACES = {"span": "last", "before": "before", "next": "next"}
Teller = Callable[[Pair], Telling]


def telling(pair: Pair) -> Telling:
    """How a feature of pairs is told.

    >>> told = telling(Pair("occasions_1", Words.of("en", {}, None), Duration(days=28)))
    >>> told.title, told.sentence(4.0), told.sentence(0.0)
    ('times chosen in the last 28 days', 'chosen 4 times in the last 28 days', 'not chosen in the last 28 days')
    """
    return TELLERS[pair.name](pair)


def category_text(category: str, by: str | None, words: Words) -> str:
    """A category as people write it: hours as times of day, weekdays by name, others as they are called.

    >>> words = Words.of("es", {}, None)
    >>> category_text("18", "hour", words), category_text("1", "weekday", words), category_text("cheese", "department", words)
    ('18:00', 'lunes', 'cheese')
    """
    number = int(category) if by in ("hour", "weekday") and category.isdecimal() else -1
    if by == "hour" and 0 <= number < 24:
        return words.clock(number)
    return words.weekday(number) if by == "weekday" and 1 <= number <= 7 else words.value(category)


def _often(pair: Pair, *, key: str = "times", horizons: int | None = None, quarter: bool = False) -> Telling:
    """How often in so many horizons, in a quarter of one, or ever; of the pair, or (`key`) of anything."""
    span = pair.spans["quarter"] if quarter else ""
    if horizons:
        span = units.span(Duration(days=pair.horizon.days * horizons, hours=pair.horizon.hours * horizons), pair.words, "last")
    when = pair.within(span)

    def sentence(value: float) -> str:
        if not units.is_nothing(value):
            return pair.counted(value, key, when=when)
        return pair.say(f"{key}_none", when=when) if span else pair.say(f"{key}_never")

    return Telling(pair.say(f"title.{key}", when=when), units.whole_numbers(pair.words), sentence)


def _decayed(pair: Pair) -> Telling:
    days = pair.horizon.approximate.total_seconds() / 86_400
    half = pair.words.counted(max(1, round(HALF_LIVES[pair.name] * days)), "days")
    title, unit = pair.say("decayed", half=half), units.numbers(pair.words)

    def sentence(value: float) -> str:
        return pair.say("times_never") if units.is_nothing(value) else pair.words.say("colon", title=title, value=unit.text(value))

    return Telling(title, unit, sentence)


def _ago(pair: Pair, *, never: str = "times_never", usual: bool = False) -> Telling:
    """How long ago it was, or anything."""
    unit = units.days(pair.words)

    def sentence(value: float) -> str:
        return pair.say(never) if math.isnan(value) else pair.say(pair.name, time=unit.text(value))

    def beside(text: str, value: float, gap: float) -> str:
        return text if math.isnan(value) else with_usual(text, gap, pair.words, in_days=1 <= value < units.YEARS)

    return Telling(pair.say(f"title.{pair.name}"), unit, sentence, beside if usual else None)


def _gap(pair: Pair) -> Telling:
    unit = units.gaps(pair.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return pair.say("no_rhythm")
        return pair.say("gap_daily") if value == 1 else pair.say("gap", time=unit.text(value))

    return Telling(pair.say("title.gap"), unit, sentence)


def _overdue(pair: Pair) -> Telling:
    def sentence(value: float) -> str:
        if math.isnan(value):
            return pair.say("no_rhythm")
        key, values = lateness(value, pair.words)
        return pair.say(f"overdue{key}", **values)

    return Telling(pair.say("title.overdue"), units.times(pair.words), sentence, _with_gap(pair))


def _late(pair: Pair) -> Telling:
    unit = units.differences(pair.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return pair.say("no_rhythm")
        if not value:
            return pair.say("late_now")
        return pair.say("late" if value > 0 else "late_ahead", time=units.time_text(abs(value), pair.words))

    return Telling(pair.say("title.late"), unit, sentence, _with_gap(pair))


def _with_gap(pair: Pair) -> Callable[[str, float, float], str]:
    def beside(text: str, value: float, gap: float) -> str:
        return text if math.isnan(value) or math.isnan(gap) else with_usual(text, gap, pair.words)

    return beside


def _share(pair: Pair, *, zero: str | None = None, unknown: str | None = None, clip: bool = False) -> Telling:
    """A share or a probability. `zero`, `unknown`: the keys of other texts for what is none, and not known."""
    title, unit, everybody = pair.say(f"title.{pair.name}"), pair.share(clip), pair.share()

    def sentence(value: float) -> str:
        if math.isnan(value):
            return pair.say(unknown) if unknown else pair.words.say("colon", title=title, value=pair.words.unknown)
        return pair.say(zero) if zero and not value else pair.say(pair.name, percent=unit.text(value))

    def beside(text: str, value: float, of_all: float) -> str:
        return text if math.isnan(value) or math.isnan(of_all) else pair.say("of_all", sentence=text, percent=everybody.text(of_all))

    return Telling(title, unit, sentence, beside if pair.name in COMPANIONS else None, everybody.shown)


def _change(pair: Pair, *, unknown: str | None = None) -> Telling:
    """A quotient of two popularities."""
    title, unit = pair.say(f"title.{pair.name}"), units.quotients(pair.words)

    def sentence(value: float) -> str:
        if math.isnan(value):
            return pair.say(unknown) if unknown else pair.words.say("colon", title=title, value=pair.words.unknown)
        key, values = direction(value, pair.words)
        return pair.say(f"{pair.name}{key}", **values)

    return Telling(title, unit, sentence)


def _lately(pair: Pair) -> Telling:
    """A quotient of the last quarter of a horizon and a quarter of the whole: who chose it lately, of those who did in the horizon."""
    plain = pair.share(clip=True)
    unit = Unit(lambda values: plain.shown(values / 4), plain.text)

    def sentence(value: float) -> str:
        return pair.say(pair.name, percent=_or_unknown(value, unit, pair.words))

    return Telling(pair.say(f"title.{pair.name}"), unit, sentence)


def _expected(pair: Pair) -> Telling:
    unit = units.numbers(pair.words)

    def sentence(value: float) -> str:
        return pair.counted(0.0 if math.isnan(value) else value, "trips_expected")

    return Telling(pair.say("title.trips_expected"), unit, sentence)


def _variety(pair: Pair, *, key: str, lately: bool) -> Telling:
    """How many categories."""
    when = pair.within(pair.spans["span"] if lately else "")

    def text(number: float | None) -> str:
        return pair.say(key, things=pair.words.things(pair.by, number), when=when)

    return Telling(text(None), units.whole_numbers(pair.words), lambda value: text(0 if math.isnan(value) else value))


def _or_unknown(value: float, unit: Unit, words: Words) -> str:
    return words.unknown if math.isnan(value) else unit.text(value)


_OF_CATEGORY: Mapping[str, Teller] = {
    OCCASIONS: _often,
    QUARTER: partial(_often, quarter=True),
    **{within(number): partial(_often, horizons=number) for number in (1, 2, 3)},
    "presence": partial(_share, zero="presence_none"),
    **dict.fromkeys((FAST, SLOW, FAR), _decayed),
    RECENCY: partial(_ago, usual=True),
    TENURE: _ago,
    GAP: _gap,
    OVERDUE: _overdue,
    "late": _late,
    "share_of_trips": partial(_share, zero="times_never", unknown="times_never"),
    "share_of_taken": partial(_share, zero="times_never", unknown="times_never"),
    **dict.fromkeys(("habit", "habit_probability", "recent_habit_probability"), _share),
    **dict.fromkeys(("popularity", "popularity_now", "popularity_ever", "adoption", "adoption_now", "repeat_rate"), _share),
    "trend": _change,
    "trend_now": _lately,
    "popularity_then": partial(_share, unknown="no_year"),
    "season": partial(_change, unknown="no_year"),
    **dict.fromkeys(("goes_together", "follows", "corrected_by_taken", "corrected_by_own"), partial(_share, unknown="too_rare", clip=True)),
}
_OF_CUSTOMERS: Mapping[str, Teller] = {
    "trips": partial(_often, key="trips"),
    **{f"trips_{number}": partial(_often, key="trips", horizons=number) for number in (1, 2, 3)},
    "trips_expected": _expected,
    "trips_recency": partial(_ago, never="trips_never"),
    "trips_tenure": partial(_ago, never="trips_never"),
    "categories": partial(_variety, key="categories", lately=False),
    "categories_1": partial(_variety, key="categories", lately=True),
    "categories_new": partial(_variety, key="categories_new", lately=True),
}
TELLERS: Mapping[str, Teller] = {**_OF_CATEGORY, **_OF_CUSTOMERS}


def is_of_category(name: str) -> bool:
    """Whether a feature of pairs speaks of the category, and not of the customer alone."""
    return name in _OF_CATEGORY
