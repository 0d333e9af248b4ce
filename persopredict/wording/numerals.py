"""Numbers, shares, money, dates and lists as a locale writes them (Babel)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babel import Locale
    from babel.numbers import NumberPattern

#: CLDR puts a thin space before "PM" that many fonts lack.
_THIN, _SPACE = "\u202f", "\xa0"
#: Amounts of money show cents as long as these are three significant digits or the fourth.
CENTS_BELOW = 100
#: Beyond a float's whole numbers there are no digits to write out.
_ASTRONOMIC = 2.0**53


@dataclass(frozen=True)
class Numerals:
    """How a locale writes numbers; what is not finite is written `unknown`."""

    locale: Locale
    unknown: str

    def number(self, x: float, digits: int | None = None) -> str:
        """Whole numbers plain, others with three significant digits (none after the point from 1,000 on), or `digits` after the point."""
        if not math.isfinite(x):
            return self.unknown
        places = decimals_of(x) if digits is None else digits
        return _written(self.locale, round(x, places), _places(places, fixed=digits is not None))

    def percent(self, x: float, digits: int | None = None) -> str:
        """A share: 0.234 is 23%; below 10% and from 98.5% on with one decimal, or with as many as `digits` says.

        Only nothing is 0%, and only everything 100%: what lies within 0.1% of them is "<0.1%" (">-0.1%" where it is negative) and ">99.9%".
        """
        if not math.isfinite(x):
            return self.unknown
        if digits is None and 0 < abs(x) < 0.001:
            return ("<" if x > 0 else ">") + self.percent(math.copysign(0.001, x))
        if digits is None and 0.999 < x < 1:
            return ">" + self.percent(0.999)
        places = share_decimals(x) if digits is None else digits
        pattern = self.locale.percent_formats[None].pattern
        return _written(self.locale, round(x, places + 2), pattern.replace("#,##0", _places(places, fixed=digits is not None)))

    def money(self, x: float, currency: str | None, *, whole: bool = False) -> str:
        """An amount with its currency's sign, and its decimals below 100 unless `whole`; a plain number without a currency."""
        if not currency or not math.isfinite(x):
            return self.number(x)
        pattern = self.locale.currency_formats["standard"].pattern
        if abs(x) >= CENTS_BELOW or whole:
            return _written(self.locale, round(x), re.sub(r"\.0+", "", pattern), currency, digits=False)
        return _written(self.locale, x, pattern, currency)

    def date(self, day: date | datetime) -> str:
        """A day, with the month as a short word."""
        from babel.dates import format_date

        return str(format_date(day, format="medium", locale=self.locale))

    def clock(self, hour: float) -> str:
        """A time of day, to the minute; 24 is midnight again."""
        from babel.dates import format_time

        minutes = round(hour * 60) % 1440
        return str(format_time(time(minutes // 60, minutes % 60), format="short", locale=self.locale)).replace(_THIN, _SPACE)

    def weekday(self, number: int) -> str:
        """The name of an ISO weekday, 1 to 7."""
        from babel.dates import get_day_names

        return str(get_day_names("wide", locale=self.locale)[number - 1])

    def either(self, names: Sequence[str]) -> str:
        """A list joined by "or"."""
        from babel.lists import format_list

        return str(format_list(list(names), style="or", locale=self.locale))


def decimals_of(x: float) -> int:
    """How many decimals three significant digits leave: none for whole numbers, and from 1,000 on.

    >>> [decimals_of(x) for x in (34.0, 34.56, 0.01234, 1234.5)]
    [0, 1, 4, 0]
    """
    if x == int(x) or abs(x) >= 1000:
        return 0
    return min(2 - math.floor(math.log10(abs(x))), 12)


def share_decimals(share: float) -> int:
    """How many decimals a percentage needs: 2.3% and 99.6%, but 23%.

    >>> [share_decimals(x) for x in (0.234, 0.023, 0.996, 1.0, 0.0)]
    [0, 1, 1, 0, 0]
    """
    size = abs(share)
    if size in (0.0, 1.0):
        return 0
    return 1 if size < 0.0995 or 0.985 <= size < 1.0 else 0


@lru_cache(maxsize=65_536)
def _written(locale: Locale, x: float, pattern: str, currency: str | None = None, *, digits: bool = True) -> str:
    """A number in a pattern of CLDR; Babel takes its time, and the same few numbers come up again and again."""
    if abs(x) >= _ASTRONOMIC:
        from babel.numbers import format_scientific

        return str(format_scientific(x, "0.##E0", locale=locale))
    # Plus nothing: minus zero would be written with its sign.
    text = str(_parsed(pattern).apply(x + 0.0, locale, currency=currency, currency_digits=digits))
    # CLDR wants a space between letters and digits, which Babel leaves out: $5, but EUR 5.
    return re.sub(r"(?<=[A-Za-z])(?=\d)", _SPACE, text) if currency else text


@lru_cache(maxsize=64)
def _places(places: int, *, fixed: bool) -> str:
    return "#,##0" + ("." + ("0" if fixed else "#") * places if places else "")


@lru_cache(maxsize=256)
def _parsed(pattern: str) -> NumberPattern:
    from babel.numbers import parse_pattern

    return parse_pattern(pattern)
