"""The language of charts: texts with values put into their places, and numbers as a region writes them."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from persopredict.charts.texts import ENGLISH, TEXTS
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.wording.languages import locale_of
from persopredict.wording.numerals import Numerals

__all__ = ["TEXTS", "Words"]


@dataclass(frozen=True)
class Words:
    r"""The language of a chart.

    Parameters
    ----------
    language : "en" or "es", or with a region ("es-MX"), whose numbers it then writes, as of `Wording`.
    texts : own texts instead of some of the built-in ones (`TEXTS`), by their keys, with the same places in braces.

    Raises `SpecificationError` for an unknown language, key or place.

    >>> Words("es").percent(0.0834), Words("es-MX")("rate", rate="8%"), Words().number(1234.5)
    ('8,3\xa0%', 'promedio 8%', '1,234')
    """

    language: str = "en"
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        locale_of(self.language)
        problems = [problem for key, text in self.texts.items() for problem in _problems(key, text)]
        if problems:
            raise SpecificationError("charts can't speak so", problems)

    @cached_property
    def _numerals(self) -> Numerals:
        return Numerals(locale_of(self.language), "–")

    @property
    def _table(self) -> Mapping[str, str]:
        return {**TEXTS[self._numerals.locale.language], **self.texts}

    def __call__(self, key: str, **values: object) -> str:
        """A text, with values put into its places."""
        template = self._table[key]
        return spoken(template.format(**values) if values else template)

    def name(self, key: str) -> str:
        """A baseline or a measure in words; as it is called where no text is known."""
        return spoken(self._table.get(key, key.removeprefix("trend.").replace("_", " ")))

    def number(self, value: float, decimals: int | None = None) -> str:
        """A number with so many decimals, default three significant digits; "–" for nan.

        >>> Words().number(0.012345), Words().number(12345.6), Words().number(3.14159, 2), Words().number(float("nan"))
        ('0.0123', '12,346', '3.14', '–')
        """
        return self._numerals.number(value, decimals)

    def percent(self, share: float, decimals: int | None = None) -> str:
        """A share as a percentage: with so many decimals, default one below 10%, and two digits below 0.1%; "–" for nan.

        >>> Words().percent(0.234), Words().percent(0.0831), Words().percent(0.000123), Words().percent(float("nan"))
        ('23%', '8.3%', '0.012%', '–')
        """
        if decimals is None and 0 < abs(share) < 0.001:
            decimals = min(8, -1 - math.floor(math.log10(abs(share))))
        return self._numerals.percent(share, decimals)

    def between(self, lower: float, upper: float) -> str:
        """An interval of shares in words, "–" where there is none."""
        return self("between", lower=self.percent(lower), upper=self.percent(upper)) if math.isfinite(lower + upper) else "–"


def spoken(text: str) -> str:
    r"""A text as titles may hold it: on one line, and without backslashes, which Vega-Lite writes into its expressions as they are.

    >>> spoken("a\\b" + chr(10) + "c")
    'a∖b c'
    """
    return " ".join(text.replace("\\", "∖").split())


def _problems(key: str, text: str) -> list[Problem]:
    """What is wrong with a user's own text."""
    if key not in ENGLISH:
        return [Problem("unknown_text", f"charts have no text {key!r}", remedy=did_you_mean(key, ENGLISH))]
    try:
        unknown = _places(text) - _places(ENGLISH[key])
    except ValueError as error:
        return [Problem("unreadable_text", f"{key}: {error}", remedy="write {{ and }} for braces")]
    remedy = f"it may hold {', '.join(sorted(_places(ENGLISH[key]))) or 'none'}"
    return [Problem("unknown_place", f"{key} has no place {{{place}}}", remedy=remedy) for place in sorted(unknown)]


def _places(text: str) -> set[str]:
    return {place for _, place, _, _ in string.Formatter().parse(text) if place is not None}
