"""Units: how values of a kind are rounded for people, thousands at once, and written with their unit, one at a time.

Rounding comes first and writing after it, so that few different values are left to be written, and a text says nothing that the rounded
value does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from persopredict.times import Duration
from persopredict.wording.languages import Words
from persopredict.wording.numerals import CENTS_BELOW

Floats = NDArray[np.float64]

#: From so many days on, people think in years.
YEARS = 730.0
_YEAR, _HOURS = 365.25, 24.0
_EPOCH = date(1970, 1, 1).toordinal()
#: Changes that are no percentage: something out of nothing, and up or down from or to below nothing.
NEW, UP, DOWN = 1e300, 1e299, -1e299


@dataclass(frozen=True)
class Unit:
    """`shown`: values as they are shown; `text`: one of these, with its unit; `bare`: the same without it (a label's ``{value}``)."""

    shown: Callable[[Floats], Floats]
    text: Callable[[float], str]
    bare: Unit | None = None


def rounded(values: Floats) -> Floats:
    """Three significant digits for what is not whole, none after the point from 1,000 on.

    >>> rounded(np.array([34.0, 34.567, 0.012345, 12345.6, -0.5])).tolist()
    [34.0, 34.6, 0.0123, 12346.0, -0.5]
    """
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = np.clip(2 - np.floor(np.log10(size)), 0, 12)
    places[~np.isfinite(places)] = 0
    scale = 10.0**places
    return np.asarray(np.where(size == np.rint(size), values, np.rint(values * scale) / scale))


def rounded_shares(values: Floats) -> Floats:
    """Whole percentages, tenths of one where that is too coarse (`numerals.share_decimals`).

    Only nothing becomes 0, and only everything 1: a value within 0.001 of one of them becomes 0.0005 away from it.

    >>> rounded_shares(np.array([0.2345, 0.02345, 0.99631, 0.0002, 0.9998, 1.0])).tolist()
    [0.23, 0.023, 0.996, 0.0005, 0.9995, 1.0]
    """
    size = np.abs(values)
    fine = (size < 0.0995) | ((size >= 0.985) & (size < 1))
    found = np.where(fine, np.round(values, 3), np.round(values, 2))
    found = np.where((size > 0) & (size < 0.001), np.copysign(0.0005, values), found)
    return np.asarray(np.where((values > 0.999) & (values < 1), 0.9995, found))


def rounded_days(values: Floats) -> Floats:
    """Whole days; below one day hours, from `YEARS` on tenths of years; all in days.

    >>> rounded_days(np.array([34.4, 0.51, 0.03, 800.0])).round(2).tolist()
    [34.0, 0.5, 0.0, 803.55]
    """
    hours, years = np.floor(values * _HOURS + 1e-9) / _HOURS, np.round(values / _YEAR, 1) * _YEAR
    return np.asarray(np.where(values < 1, hours, np.where(values < YEARS, np.rint(values), years)))


def rounded_gaps(values: Floats) -> Floats:
    """Whole days from 10 on, below that two significant digits; from `YEARS` on tenths of years.

    >>> rounded_gaps(np.array([34.4, 9.333, 0.0471])).tolist()
    [34.0, 9.3, 0.047]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** np.clip(1 - np.floor(np.log10(np.abs(values))), 0, 12)
    scale[~np.isfinite(scale)] = 1.0
    years = np.round(values / _YEAR, 1) * _YEAR
    return np.asarray(np.where(values < YEARS, np.rint(values * scale) / scale, years))


def rounded_changes(values: Floats) -> Floats:
    """From a trend, (recent - earlier) / whole, to the recent half over the earlier one, minus 1.

    A change of less than half a percent is none. What comes out of nothing is `NEW`; where a half is below zero there is no percentage, and
    it is `UP` or `DOWN`.

    >>> rounded_changes(np.array([0.0, 0.25, -0.25, -1.0, 1.0, 1.5])).tolist()
    [0.0, 0.67, -0.4, -1.0, 1e+300, 1e+299]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.round(2 * values / (1 - values), 2)
    change = np.where(np.abs(change) < 0.005, 0.0, change)
    change = np.where(values == 1, NEW, np.where(values > 1, UP, np.where(values < -1, DOWN, change)))
    # Nearly all of it is not all of it.
    return np.asarray(np.where((values > -1) & (change == -1), -0.99, change))


def rounded_times(values: Floats) -> Floats:
    """Hundredths below 1, tenths below 10, whole numbers from there on.

    >>> rounded_times(np.array([0.4321, 3.8123, 12.34])).tolist()
    [0.43, 3.8, 12.0]
    """
    return np.asarray(np.where(values < 1, np.round(values, 2), np.where(values < 10, np.round(values, 1), np.rint(values))))


def is_nothing(value: float) -> bool:
    """Whether a number of things is none, or unknown."""
    return not value or math.isnan(value)


def numbers(words: Words) -> Unit:
    """Plain numbers."""
    return Unit(rounded, words.number)


def whole_numbers(words: Words) -> Unit:
    """Counts."""
    return Unit(lambda values: np.asarray(np.rint(values)), words.number)


def shares(words: Words) -> Unit:
    """Percentages of a whole."""
    return Unit(rounded_shares, words.percent)


def times(words: Words) -> Unit:
    """Multiples of what is usual: "3.8×"."""
    return Unit(rounded_times, lambda value: f"{words.number(value)}×", numbers(words))


def spread(unit: Unit) -> Unit:
    """What deviates to both sides: "±5"."""
    return Unit(unit.shown, lambda value: f"±{unit.text(value)}", unit.bare or unit)


def days(words: Words) -> Unit:
    """Time passed, in days."""
    bare = Unit(lambda values: np.asarray(np.where(values < 1, rounded(values), np.rint(values))), words.number)
    return Unit(rounded_days, lambda value: time_text(value, words), bare)


def gaps(words: Words) -> Unit:
    """Mean time between, in days."""
    return Unit(rounded_gaps, lambda value: time_text(value, words) if value else words.counted(0, "days"), numbers(words))


def money(words: Words) -> Unit:
    """Amounts of the column `value`."""
    if not words.currency:
        return numbers(words)
    return Unit(
        lambda values: np.asarray(np.where(np.abs(values) < CENTS_BELOW, np.round(values, 2), np.rint(values))),
        lambda value: words.money(value, words.currency),
    )


def clock(words: Words) -> Unit:
    """Hours of the day, to half an hour."""
    return Unit(lambda values: np.asarray(np.rint(values * 2) / 2), words.clock, numbers(words))


def middle_hours(words: Words) -> Unit:
    """Mean hours as times of day: an hour's number says when it began, so that half of it is added."""
    return Unit(lambda values: np.asarray(np.rint(values * 2 + 1) / 2), words.clock, numbers(words))


def hours(words: Words) -> Unit:
    """A length of time in hours."""
    return Unit(rounded_times, lambda value: words.counted(value, "hours"), numbers(words))


def weekdays(words: Words) -> Unit:
    """ISO weekdays, 1 to 7, by name."""
    return Unit(
        lambda values: np.asarray(np.rint(values)),
        lambda value: words.weekday(int(value)) if 1 <= value <= 7 else words.number(value),
        whole_numbers(words),
    )


def dates(words: Words) -> Unit:
    """Days since 1970 as dates."""

    def text(value: float) -> str:
        possible = 1 - _EPOCH <= value <= date.max.toordinal() - _EPOCH
        return words.date(date.fromordinal(_EPOCH + int(value))) if possible else words.number(value)

    return Unit(lambda values: np.asarray(np.rint(values)), text)


def changes(words: Words) -> Unit:
    """Changes between two halves of a window: "+40%"."""
    special = {NEW: "from_nothing", UP: "higher", DOWN: "lower"}

    def text(value: float) -> str:
        return words.say(special[value]) if value in special else signed(value, words)

    return Unit(rounded_changes, text)


def quotients(words: Words) -> Unit:
    """Quotients of two amounts as changes from the second to the first: 1.4 is "+40%"."""
    return Unit(lambda values: np.asarray(np.round(values - 1, 2)), lambda value: signed(value, words))


def differences(words: Words) -> Unit:
    """Days later (or, negative, earlier) than something."""

    def text(value: float) -> str:
        sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
        return sign + (time_text(abs(value), words) if value else words.counted(0, "days"))

    whole = Unit(lambda values: np.asarray(np.rint(values)), words.number)
    return Unit(lambda values: np.copysign(rounded_days(np.rint(np.abs(values))), values), text, whole)


def signed(change: float, words: Words) -> str:
    """A change as a percentage with its sign.

    >>> from persopredict.wording.languages import Words
    >>> [signed(change, Words.of("en", {}, None)) for change in (0.4, -0.4, 0.0)]
    ['+40%', '−40%', '0%']
    """
    sign = "+" if change > 0 else "\N{MINUS SIGN}" if change < 0 else ""
    return sign + words.percent(abs(change))


def time_text(value: float, words: Words) -> str:
    """A rounded number of days with its unit.

    >>> from persopredict.wording.languages import Words
    >>> [time_text(value, Words.of("es", {}, None)) for value in (1.0, 9.3, 0.5, 0.0, 986.175)]
    ['1 día', '9,3 días', '12 horas', 'menos de una hora', '2,7 años']
    """
    if value >= YEARS:
        return words.counted(round(value / _YEAR, 1), "years")
    if value == 0:
        return words.say("moment")
    hours = value * _HOURS
    # Hours are whole where time has passed (`rounded_days`); a mean below a day stays one of days.
    return words.counted(round(hours), "hours") if value < 1 and math.isclose(hours, round(hours)) else words.counted(value, "days")


def span(length: Duration, words: Words, which: str) -> str:
    """A stretch of time before ("last"), before that ("before") or after ("next") a moment: "the last 28 days".

    >>> from persopredict.wording.languages import Words
    >>> span(Duration(days=28), Words.of("es", {}, None), "last"), span(Duration(hours=36), Words.of("en", {}, None), "before")
    ('los últimos 28 días', 'the 36 hours before')
    """
    if length.hours:
        return words.counted(length.days * 24 + length.hours, f"{which}_hours")
    return words.counted(length.days, f"{which}_days")


def length(duration: Duration, words: Words) -> str:
    """A duration with its unit: "28 days"."""
    return words.counted(duration.days * 24 + duration.hours, "hours") if duration.hours else words.counted(duration.days, "days")
