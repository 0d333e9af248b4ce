"""Words for people: what features are called, and the sentences that their values make, in English and Spanish.

Pure functions of features and values; no customers, no engine. A language is a table of texts (`en`, `es`), and another language is another
table (`languages.TABLES`); numbers, dates and plurals are Babel's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.features.spec import Feature, derived_label
from persopredict.times import Duration
from persopredict.wording import features as customers
from persopredict.wording import pairs
from persopredict.wording.labels import CATEGORY, MARK, MISSING, VALUE, Label, problems_of
from persopredict.wording.languages import Words, locale_of
from persopredict.wording.many import cleaned, remembering, sentences, texts
from persopredict.wording.parts import Telling
from persopredict.wording.units import Floats

if TYPE_CHECKING:
    from persopredict.affinity.features import PairFeature


@dataclass(frozen=True)
class Wording:
    """The words of one language, the numbers and dates of one region, and the user's own words where there are any.

    Parameters
    ----------
    language : "en" (default) or "es", or either with a region for numbers and dates, like "es-MX" or "en-GB".
    labels : name of a feature to the words that take the place of ours. They may hold ``{value}``, the value as a number without its unit
        of time, and of features of pairs ``{category}``. Without ``{value}`` the value follows after a colon. Where a value is unknown, a
        label with ``{value}`` gives way to our own sentence.
    names : what events, columns, channels and categories of the log are called: ``{"purchase": "compra", "value": "spend"}``. Default: as
        the log calls them, with spaces for underscores in names of events and columns.
    currency : of the column `value`, a code like "EUR"; None (default) writes amounts as plain numbers.

    Raises
    ------
    SpecificationError : an unknown language, region or currency, and every label and name that can't be used.

    >>> import numpy as np
    >>> recency = Feature("recency", where="event = 'purchase'", fallback=None)
    >>> Wording().reasons(recency, np.array([34.2, np.nan]), usual=np.array([9.0, np.nan]))
    (['last purchase 34 days ago; usually every 9', 'no purchase yet'], ['34 days', 'unknown'])
    >>> Wording("es").reasons(recency, np.array([34.2]))[0]
    ['última vez de «purchase»: hace 34 días']
    >>> Wording(labels={"recency_purchase_all": "Last order {value} days ago"}).reasons(recency, np.array([34.2]))[0]
    ['Last order 34 days ago']
    >>> Wording(labels={"recency_all": "Seen {days} ago"})
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: the wording is wrong:
      - error unknown_placeholder: label of 'recency_all': {days} is unknown. Remedy: write {value} as it stands here, or no placeholder.
    """

    language: str = "en"
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    names: Mapping[str, str] = field(default_factory=dict, hash=False, kw_only=True)
    currency: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        problems = []
        for key, example in (("labels", "{'recency_all': 'Last seen'}"), ("names", "{'purchase': 'order'}")):
            given: object = getattr(self, key)
            if not isinstance(given, Mapping):
                problems.append(Problem("not_a_mapping", f"{key} is {given!r}", remedy=f"give a mapping like {example}"))
            object.__setattr__(self, key, dict(given) if isinstance(given, Mapping) else {})
        problems += problems_of(self.labels)
        problems += [
            Problem("empty_name", f"the name of {name!r} is {text!r}", remedy="give it words, or leave it out")
            for name, text in self.names.items()
            if not isinstance(text, str) or not text.strip()
        ]
        try:
            locale_of(str(self.language))
        except SpecificationError as error:
            problems.append(Problem("unknown_language", str(error)))
        if self.currency is not None and not _is_currency(self.currency):
            problems.append(Problem("unknown_currency", f"no currency {self.currency!r}", remedy="write its code, like 'EUR'"))
        if problems:
            raise SpecificationError("the wording is wrong", problems)

    def unknown(self, names: Collection[str]) -> list[Problem]:
        """A problem for each of `labels` that is of none of `names`, the features that there are.

        >>> print(*Wording(labels={"recency_al": "Last seen"}).unknown(["recency_all"]))
        error unknown_label: a label of 'recency_al', which is no feature. Remedy: did you mean 'recency_all'?
        """
        return [
            Problem("unknown_label", f"a label of {name!r}, which is no feature", remedy=did_you_mean(name, names))
            for name in self.labels
            if name not in names
        ]

    def title(self, feature: Feature) -> str:
        """The feature by itself, without a value: for axes and tables.

        >>> Wording().title(Feature("sum", "value", window="28d", where="channel = 'web'", fallback=0))
        'total value of events via web in the last 28 days'
        """
        own = self._label(feature)
        return self._told(feature).title if own is None else own.title

    def companion(self, feature: Feature) -> Feature | None:
        """The feature whose value puts this one's into context, so that its column can be given as `usual`; None if there is none.

        >>> Wording().companion(Feature("recency", where="event = 'purchase'", fallback=None)).name
        'gap_mean_purchase_all'
        """
        if feature.aggregate not in ("recency", "overdue"):
            return None
        # How overdue somebody is in a window was measured by the gaps of that window.
        window = feature.window if feature.aggregate == "overdue" else None
        return Feature("gap_mean", where=feature.where, window=window, fallback=None)

    def reasons(self, feature: Feature, values: Floats, usual: Floats | None = None) -> tuple[list[str], list[str]]:
        """Sentences and values with their units, for many customers at once.

        Parameters
        ----------
        feature : whose values they are.
        values : shape (customers,), NaN where unknown.
        usual : the values of `companion(feature)`, shape (customers,), NaN where undefined; None if they are not at hand.

        Returns
        -------
        (labels, value_texts), each as long as `values`.
        """
        found = cleaned(values, customers.stand_in(feature))
        return self._reasons(self._told(feature), self._label(feature), found, usual)

    def pair_title(self, feature: PairFeature, horizon: Duration, *, by: str | None = None) -> str:
        """A feature of pairs by itself, for an affinity of that horizon and, if it is given, to the values of `by`."""
        own = self._pair_label(feature)
        return self._pair(feature, horizon, by).title if own is None else own.title

    def pair_companion(self, feature: PairFeature) -> str | None:
        """The name of the feature of pairs whose values are the `usual` of this one; None if there is none."""
        return pairs.COMPANIONS.get(feature.name)

    def pair_reasons(
        self,
        feature: PairFeature,
        values: Floats,
        usual: Floats | None = None,
        *,
        category: Sequence[str],
        horizon: Duration,
        by: str | None = None,
    ) -> tuple[list[str], list[str]]:
        """As `reasons`, for pairs of customers and categories: sentences speak of each row's category.

        Parameters
        ----------
        feature, values, usual : as in `reasons`; `usual` are the values of `pair_companion(feature)`.
        category : of each row, as long as `values`.
        horizon : the target's.
        by : what the categories are, the target's `by`, so that hours and weekdays are written as such.

        >>> from persopredict.affinity.features import PAIR_FEATURES
        >>> rows = {"category": ["cheese", "wine"], "horizon": Duration(days=28)}
        >>> Wording("es").pair_reasons(PAIR_FEATURES[2], [4.0, 0.0], **rows)[0]
        ['cheese: 4 veces en los últimos 28 días', 'wine: ninguna vez en los últimos 28 días']
        """
        own = self._pair_label(feature)
        labels, written = self._reasons(self._pair(feature, horizon, by), own, cleaned(values), usual)
        marked = own is not None and own.holds(CATEGORY)
        if not marked and not pairs.is_of_category(feature.name):
            return labels, written
        called = {name: self.category(name, by) for name in set(category)}
        about = str(self._words.table.texts["pair.about"])
        return [
            label.replace(MARK, called[name]) if marked and MARK in label else about.format(category=called[name], sentence=label)
            for label, name in zip(labels, category, strict=True)
        ], written

    def event(self, name: str) -> str:
        """What an event is called, by its name in the log.

        >>> Wording().event("email_click"), Wording(names={"email_click": "click"}).event("email_click")
        ('email click', 'click')
        """
        return self._words.named(name)

    def category(self, name: str, by: str | None = None) -> str:
        """What a category is called, by its name in the log; `by`: what the categories are, an affinity's `by`.

        >>> Wording("es").category("18", "hour"), Wording("es").category("6", "weekday"), Wording().category("red wine", "family")
        ('18:00', 'sábado', 'red wine')
        """
        return pairs.category_text(name, by, self._words)

    def number(self, x: float, digits: int | None = None) -> str:
        """A number: whole ones plain, others with three significant digits, or with `digits` after the point.

        >>> Wording("es").number(1234.5), Wording("es").number(0.12345), Wording("en").number(1234.5, 1)
        ('1.234', '0,123', '1,234.5')
        """
        return self._words.number(x, digits)

    def percent(self, x: float, digits: int | None = None) -> str:
        """A share between 0 and 1 as a percentage, with `digits` after the point; default none, or one where that is too coarse.

        >>> Wording().percent(0.234), Wording().percent(0.0234), Wording().percent(0.9999), Wording().percent(0.5, 1)
        ('23%', '2.3%', '>99.9%', '50.0%')
        """
        return self._words.percent(x, digits)

    def date(self, day: date | datetime) -> str:
        """A day, with its month as a short word."""
        return self._words.date(day)

    def money(self, x: float, currency: str | None = None) -> str:
        """An amount in `currency`, by default the wording's own; a plain number without any.

        >>> Wording("es").money(1234.6, "EUR") == "1.235\N{NO-BREAK SPACE}€", Wording(currency="USD").money(12.5)
        (True, '$12.50')
        """
        return self._words.money(x, currency or self.currency)

    @cached_property
    def _words(self) -> Words:
        return Words.of(self.language, self.names, self.currency)

    @cached_property
    def _tellings(self) -> dict[object, Telling]:
        return {}

    def __getstate__(self) -> dict[str, object]:
        """What is given, without what was made of it."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def _told(self, feature: Feature) -> Telling:
        if feature not in self._tellings:
            self._tellings[feature] = remembering(customers.telling(feature, self._words))
        return self._tellings[feature]

    def _pair(self, feature: PairFeature, horizon: Duration, by: str | None) -> Telling:
        key = (feature.name, horizon, by)
        if key not in self._tellings:
            self._tellings[key] = remembering(pairs.telling(pairs.Pair(feature.name, self._words, horizon, by or CATEGORY)))
        return self._tellings[key]

    def _label(self, feature: Feature) -> Label | None:
        """The user's own words: of this wording, or of the feature itself if they are not the derived ones."""
        if feature.name in self.labels:
            # A feature of customers may be called like one of pairs; it has no category.
            return Label(self.labels[feature.name].replace("{category}", MISSING))
        return None if feature.label == derived_label(feature) else Label.of_words(feature.label)

    def _pair_label(self, feature: PairFeature) -> Label | None:
        return Label(self.labels[feature.name]) if feature.name in self.labels else None

    def _reasons(self, told: Telling, own: Label | None, values: Floats, usual: Floats | None) -> tuple[list[str], list[str]]:
        """Labels and texts of values; where the user's words hold a category, `MARK` stands for it."""

        def text(value: float) -> str:
            return self._words.unknown if math.isnan(value) else told.unit.text(value)

        written = texts(values, told.unit.shown, text)
        if own is None:
            return sentences(told, values, None if usual is None else cleaned(usual)), written
        if not own.holds(VALUE):
            title = own.filled()
            return texts(values, told.unit.shown, lambda value: self._words.say("colon", title=title, value=text(value))), written
        bare = told.unit.bare or told.unit

        def filled(value: float) -> str:
            return told.sentence(value) if math.isnan(value) else own.filled(value=bare.text(value))

        return texts(values, bare.shown, filled), written


def wording_of(given: Wording | None) -> Wording:
    """The wording that was given, English where none was; raises SpecificationError for anything else.

    >>> wording_of(None).language
    'en'
    >>> wording_of("es")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: 'es' is no wording; give a Wording, like Wording('es')
    """
    if given is not None and not isinstance(given, Wording):
        raise SpecificationError(f"{given!r} is no wording; give a Wording, like Wording('es')")
    return Wording() if given is None else given


def _is_currency(code: object) -> bool:
    from babel.core import get_global

    return isinstance(code, str) and code in get_global("all_currencies")
