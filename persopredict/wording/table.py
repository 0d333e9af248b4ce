"""What a language is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Text = str | Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The texts of a language; `plural` gives the plural of a noun, None where it can't be told (names are quoted then).

    A text is a template, or a mapping from "zero" (optional), CLDR's plural categories (at least "other") and "title" (without a number,
    optional) to templates. ``key.variant`` takes the place of ``key`` where that reads better: for "event" (events of any name, under a
    condition), "activity" (any event at all), or a column's name.
    """

    texts: Mapping[str, Text]
    plural: Callable[[str], str | None] | None = None
