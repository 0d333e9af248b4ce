"""A language at work: its table of texts, filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from persopredict.errors import SpecificationError, did_you_mean
from persopredict.wording import en, es
from persopredict.wording.numerals import Numerals
from persopredict.wording.table import Table

if TYPE_CHECKING:
    from babel import Locale

#: Another language is another table.
TABLES: Mapping[str, Table] = {"en": en.TABLE, "es": es.TABLE}
#: Line breaks and what else controls a terminal, and the marks that turn the direction of all the text behind them.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_TAG = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{2}|\d{3}))?", re.IGNORECASE)


@lru_cache(maxsize=64)
def locale_of(language: str) -> Locale:
    """Babel's locale of a language like "en", "es" or "es-MX"; raises SpecificationError if there is no table or no such region.

    >>> str(locale_of("es-mx"))
    'es_MX'
    >>> locale_of("es-XX")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no region 'XX' of 'es'; leave it out, or write it like 'es-MX'
    """
    from babel import Locale, UnknownLocaleError

    match = _TAG.fullmatch(language.strip()) if isinstance(language, str) else None
    if match is None or match[1].lower() not in TABLES:
        raise SpecificationError(f"no language {language!r}; {did_you_mean(str(language), TABLES)}, and each with a region, like 'es-MX'")
    try:
        return Locale.parse("_".join(part for part in (match[1].lower(), (match[2] or "").upper()) if part))
    except UnknownLocaleError:
        raise SpecificationError(f"no region {match[2]!r} of {match[1].lower()!r}; leave it out, or write it like 'es-MX'") from None


@dataclass(frozen=True)
class Words(Numerals):
    """A language's texts, filled in; `names` are the user's words for names of the log, `currency` that of the column `value`."""

    table: Table
    names: Mapping[str, str] = field(default_factory=dict)
    currency: str | None = None

    @classmethod
    def of(cls, language: str, names: Mapping[str, str], currency: str | None) -> Words:
        """The words of a language; raises SpecificationError if there is no such language."""
        locale = locale_of(language)
        table = TABLES[locale.language]
        return cls(locale, str(table.texts["unknown"]), table, names, currency)

    def say(self, key: str, *variants: str, **values: str) -> str:
        """The text of a key, in the first of the variants that it has, with its values put in."""
        return self.counted(None, key, *variants, **values)

    def counted(self, n: float | None, key: str, *variants: str, **values: str) -> str:
        """The same for a number of things, or for the things themselves (None)."""
        texts = self.table.texts
        text = next(texts[name] for name in (*(f"{key}.{variant}" for variant in variants), key) if name in texts)
        if not isinstance(text, str):
            text = text["zero"] if n == 0 and "zero" in text else text["title"] if n is None else text.get(self.plural(n), text["other"])
        return text.format(**values) if n is None else text.format(n=self.number(n), **values)

    def plural(self, n: float) -> str:
        """The plural category of a number, by CLDR."""
        return str(self.locale.plural_form(n))

    def noun(self, name: str) -> tuple[str, str]:
        """What one event of that name is called, and what several are."""
        words = self.named(name)
        plural = self.table.plural(words) if self.table.plural else None
        if plural is not None:
            return words, plural
        quoted = self.quoted(words)
        return self.counted(1, "name", quoted=quoted), self.counted(2, "name", quoted=quoted)

    def named(self, name: str) -> str:
        """The name of an event in words."""
        return self.names.get(name, readable(name.replace("_", " ")) or name)

    def value(self, name: str) -> str:
        """A value of a column, a channel or a category, as it is written, or in the user's words."""
        return self.names.get(name, readable(name))

    def quoted(self, words: str) -> str:
        """In the language's quotation marks."""
        return self.say("quoted", name=words)

    def column(self, name: str) -> str:
        """What a column is called: the common model's by the table, others by their name."""
        if name in self.names:
            return self.names[name]
        known = self.table.texts.get(f"column.{name}")
        return known if isinstance(known, str) else readable(name.removesuffix("_id").replace("_", " "))

    def things(self, column: str, n: float | None) -> str:
        """So many different values of a column; without a number, what they are."""
        one = many = self.column(column)
        if self.table.plural:
            plural = self.table.plural(one)
            one, many = (one, plural) if plural else (self.counted(number, "values_of", column=self.quoted(one)) for number in (1, 2))
        variants = () if column in self.names else (column,)
        return self.counted(n, "things", *variants, column=one, columns=many)


def readable(name: str) -> str:
    r"""A name of the log on one line, without what is not seen but changes how the sentence around it is shown.

    >>> readable("sale\n(web)"), readable("\u202egnp.exe"), readable(" red  wine ")
    ('sale (web)', 'gnp.exe', 'red  wine')
    """
    return _UNSEEN.sub(" ", name).strip()
