"""The report's words: one table of texts for each language, filled in with numbers as the region writes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from functools import cache
from importlib.resources import files
from typing import Any

from persopredict.errors import Problem
from persopredict.times import Duration, zone
from persopredict.wording import Wording
from persopredict.wording.languages import locale_of

#: The forms of a text that depends on a number; of CLDR's plural categories English and Spanish need these two.
_FORMS = {"one", "other"}


@cache
def table(language: str) -> Mapping[str, Any]:
    """The texts of a language by dotted key: text, or its forms by plural category.

    >>> table("en")["page.glance"], table("es")["fact.events"]["one"]
    ('At a glance', 'evento')
    """
    source = files("persopredict.report").joinpath("languages", f"{language}.toml").read_text("utf-8")
    return dict(_flat(tomllib.loads(source), ""))


def _flat(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and not set(value) <= _FORMS:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


@dataclass(frozen=True)
class Texts:
    """The words of a report.

    Parameters
    ----------
    wording : its language decides on texts and numbers.
    timezone : of dates and times.

    >>> Texts(Wording("es"))("duration.days", count=3), Texts(Wording())("page.published", count=1, total=3)
    ('3 días', '1 of 3')
    """

    wording: Wording
    timezone: str = "UTC"

    @property
    def language(self) -> str:
        """As HTML's `lang` has it: "en", "es-MX"."""
        return str(locale_of(self.wording.language)).replace("_", "-")

    @property
    def english(self) -> bool:
        """Whether what the library says, in English, needs no mark of its language."""
        return locale_of(self.wording.language).language == "en"

    @property
    def _table(self) -> Mapping[str, Any]:
        return table(locale_of(self.wording.language).language)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._table

    def __call__(self, key: str, **values: str | float) -> str:
        """A text, filled in; numbers are written as the region does, and the number `count` chooses the form."""
        text = self._table[key]
        if isinstance(text, Mapping):
            number = values["count"]
            assert not isinstance(number, str)
            text = text[str(locale_of(self.wording.language).plural_form(number))]
        shown = {name: value if isinstance(value, str) else self.number(value) for name, value in values.items()}
        return str(text).format(**shown)

    def template(self, key: str) -> str:
        """A text whose places others fill."""
        return str(self._table[key])

    def number(self, x: float, digits: int | None = None) -> str:
        """A number; "–" where it has no value."""
        return self.wording.number(x, digits) if x == x else "–"

    def rounded(self, x: float) -> str:
        """A count that need not be whole: whole from 10 on, with one decimal below."""
        return self.number(x, 0 if x >= 9.95 or x == int(x) else 1) if x == x else "–"

    def percent(self, x: float, digits: int | None = None) -> str:
        """A share; "–" where it has no value."""
        return self.wording.percent(x, digits) if x == x else "–"

    def between(self, bounds: tuple[float, float]) -> str:
        """An interval of shares, "–" where there is none."""
        lower, upper = bounds
        return self("page.interval", lower=self.percent(lower, 1), upper=self.percent(upper, 1)) if lower == lower else "–"

    def date(self, moment: datetime | None) -> str:
        """The date in the log's time zone, with the time unless it is midnight there."""
        if moment is None:
            return "–"
        there = moment.astimezone(zone(self.timezone))
        day = self.wording.date(there)
        return day if there.time() == time() else f"{day}, {there:%H:%M}"

    def duration(self, length: Duration, kind: str = "") -> str:
        """A length of time; `kind` "last" or "next": as a window that ends or begins now.

        >>> english = Texts(Wording())
        >>> english.duration(Duration.parse("4w")), english.duration(Duration.parse("1d"), "next")
        ('28 days', 'next day')
        """
        prefix = f"duration.{kind}_" if kind else "duration."
        if not length.hours:
            return self(f"{prefix}days", count=length.days)
        if kind or not length.days:
            return self(f"{prefix}hours", count=24 * length.days + length.hours)
        return self("duration.both", days=self("duration.days", count=length.days), hours=self("duration.hours", count=length.hours))

    def problem(self, problem: Problem) -> tuple[str, str, str]:
        """What is wrong and what to do about it, and the language of these words: as they were found (English), unless this language has
        words for the problem's code.
        """
        key = f"problem.{problem.code}"
        if self.has(f"{key}.message"):
            return sentence(self(f"{key}.message")), sentence(self(f"{key}.remedy")), self.language
        return sentence(problem.message), sentence(problem.remedy), self.language if self.english else "en"


def capital(text: str) -> str:
    """With a capital, unless it begins with a name.

    >>> capital("days since the last visit"), capital("event_at is null")
    ('Days since the last visit', 'event_at is null')
    """
    first = text.split(" ", 1)[0]
    return text if "_" in first or "=" in first else text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name, and a full stop.

    >>> sentence("check the source"), sentence("event_at is null"), sentence("why?"), sentence("")
    ('Check the source.', 'event_at is null.', 'Why?', '')
    """
    if not text:
        return ""
    begun = capital(text)
    return begun if begun.endswith((".", "?", "!", "…")) else f"{begun}."
