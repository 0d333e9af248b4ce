"""The user's own words for a feature, which may hold its value and, of a feature of pairs, the category."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from persopredict.errors import Problem
from persopredict.wording import pairs

VALUE, CATEGORY = "value", "category"
#: What stands for a value in a title, and for a category until it is put in.
MISSING, MARK = "…", "\0"


@dataclass(frozen=True)
class Label:
    """A template like "Last order {value} days ago".

    >>> label = Label("Last order {value} days ago")
    >>> label.holds(VALUE), label.filled(value="9"), label.title, Label.of_words("100% {safe}").title
    (True, 'Last order 9 days ago', 'Last order … days ago', '100% {safe}')
    """

    template: str

    @classmethod
    def of_words(cls, words: str) -> Label:
        """Words as they are, whatever braces they hold."""
        return cls(words.replace("{", "{{").replace("}", "}}"))

    @cached_property
    def _places(self) -> frozenset[str]:
        return frozenset(place for _, place, _, _ in string.Formatter().parse(self.template) if place is not None)

    def holds(self, place: str) -> bool:
        """Whether it has this placeholder."""
        return place in self._places

    def filled(self, *, value: str = MISSING, category: str = MARK) -> str:
        """With its placeholders filled in."""
        return self.template.format(value=value, category=category)

    @property
    def title(self) -> str:
        """Without value and category."""
        return self.filled(category=MISSING)


def problems_of(labels: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the templates of a mapping from names of features."""
    return [problem for name, text in labels.items() for problem in _problems(name, text)]


def _problems(name: str, text: str) -> list[Problem]:
    allowed = (VALUE, CATEGORY) if name in pairs.TELLERS else (VALUE,)
    if not isinstance(text, str) or not text.strip():
        return [Problem("empty_label", f"label of {name!r} is {text!r}", remedy="give it words, or leave it out")]
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        return [Problem("unreadable_label", f"label of {name!r}: {error}", remedy="write {{ and }} for braces")]
    remedy = f"write {' or '.join(f'{{{place}}}' for place in allowed)} as it stands here, or no placeholder"
    return [
        Problem("unknown_placeholder", f"label of {name!r}: {_written(place, detail, turned)} is unknown", remedy=remedy)
        for _, place, detail, turned in parts
        if place is not None and (place not in allowed or detail or turned)
    ]


def _written(place: str, detail: str | None, turned: str | None) -> str:
    """A placeholder as it stands in a template."""
    return f"{{{place}{f'!{turned}' if turned else ''}{f':{detail}' if detail else ''}}}"
