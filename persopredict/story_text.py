"""How a score is told: one customer's story, and what moves the scores of many, in English and Spanish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict import html
from persopredict.calibration import sigmoid
from persopredict.html import Html
from persopredict.targets import Affinity, Target
from persopredict.times import Duration, zone
from persopredict.wording import Wording

#: Features that are named where many customers are told of at once.
_NAMED = 10
_ENGLISH = {
    "one": "Customer {customer}, as of {date}",
    "pair": "Customer {customer} and {category}, as of {date}",
    "rows": "{rows} customers, as of {date}",
    "row": "{rows} customer, as of {date}",
    "pairs": "{rows} pairs of customers and categories, as of {date}",
    "single_pair": "{rows} pair of customer and category, as of {date}",
    "nobody": "Nobody is among them.",
    "likely": "{percent} likely, where {usual} is usual: {outcome}.",
    "likely_alone": "{percent} likely: {outcome}.",
    "churn": "no {event} {span}",
    "conversion": "{event} {span}",
    "cancellation": "the contract ends by {event} {span}",
    "affinity": "{event} of {category} {span}",
    "affinity_all": "{event} of a category {span}",
    "within": "within {horizon}",
    "after_gap": "within {horizon}, counted from {gap} on",
    "with": "{event} with {where}",
    "event": "{name}",
    "or": " or ",
    "days": "{n} days",
    "day": "{n} day",
    "hours": "{n} hours",
    "hour": "{n} hour",
    "for": "What makes it likelier",
    "against": "What makes it less likely",
    "rest": "everything else",
    "same": "the same for everybody",
    "nothing": "The model says the same of everybody: nothing sets this customer apart.",
    "sum": "In log-odds: {base} to begin with, {moved} by all of these, {score} in the end. That is {raw}",
    "as_is": "{sum}; past tests call for no calibration.",
    "calibrated": "{sum}, and {percent} once calibrated by past tests.",
    "spread": "Half of them are {low} to {high} likely, {mean} on average: {outcome}.",
    "strongest": "What moves their scores most (mean effect in log-odds, either way)",
    "effect": "effect",
    "reason": "reason",
    "feature": "feature",
    "value": "value",
    "all": "all {count} features",
}
_SPANISH = {
    "one": "Cliente {customer}, a {date}",
    "pair": "Cliente {customer} y {category}, a {date}",
    "rows": "{rows} clientes, a {date}",
    "row": "{rows} cliente, a {date}",
    "pairs": "{rows} pares de cliente y categoría, a {date}",
    "single_pair": "{rows} par de cliente y categoría, a {date}",
    "nobody": "No hay nadie entre ellos.",
    "likely": "Probabilidad: {percent}; lo habitual es {usual}. Se predice: {outcome}.",
    "likely_alone": "Probabilidad: {percent}. Se predice: {outcome}.",
    "churn": "sin {event} {span}",
    "conversion": "{event} {span}",
    "cancellation": "fin del contrato por {event} {span}",
    "affinity": "{event} de {category} {span}",
    "affinity_all": "{event} de una categoría {span}",
    "within": "en {horizon}",
    "after_gap": "en {horizon}, a contar desde {gap} después",
    "with": "{event} con {where}",
    "event": "«{name}»",
    "or": " o ",
    "days": "{n} días",
    "day": "{n} día",
    "hours": "{n} horas",
    "hour": "{n} hora",
    "for": "Qué lo hace más probable",
    "against": "Qué lo hace menos probable",
    "rest": "todo lo demás",
    "same": "lo mismo para todos",
    "nothing": "El modelo dice lo mismo de todos: nada distingue a este cliente.",
    "sum": "En log-odds: {base} de partida, {moved} por todo lo anterior, {score} al final. Eso es {raw}",
    "as_is": "{sum}; según las pruebas pasadas no hace falta calibrar.",
    "calibrated": "{sum} y, calibrado con las pruebas pasadas, {percent}.",
    "spread": "La mitad tiene entre {low} y {high} de probabilidad, {mean} en promedio. Se predice: {outcome}.",
    "strongest": "Qué mueve más sus puntuaciones (efecto medio en log-odds, en un sentido u otro)",
    "effect": "efecto",
    "reason": "razón",
    "feature": "atributo",
    "value": "valor",
    "all": "los {count} atributos",
}
_TEXTS: Mapping[str, Mapping[str, str]] = {"en": _ENGLISH, "es": _SPANISH}


@dataclass(frozen=True)
class Teller:
    """Who tells scores of a target at a moment, in the language of a wording."""

    target: Target
    as_of: datetime
    timezone: str
    wording: Wording

    def __call__(self, key: str, **values: object) -> str:
        """A text in the wording's language, with values put in."""
        return _TEXTS[self.wording.language[:2].lower()][key].format(**values)

    @property
    def date(self) -> str:
        """The moment's day in the log's time zone."""
        return self.wording.date(self.as_of.astimezone(zone(self.timezone)))

    def outcome(self, category: str | None = None) -> str:
        """What is predicted, of one category where it is asked for each.

        >>> from persopredict.targets import Affinity, Churn
        >>> from persopredict.times import instant
        >>> Teller(Churn("purchase", "28d"), instant("2024-05-01"), "UTC", Wording("es")).outcome()
        'sin «purchase» en 28 días'
        >>> Teller(Affinity("purchase", "28d", by="family", gap="7d"), instant("2024-05-01"), "UTC", Wording()).outcome("wine")
        'purchase of wine within 28 days, counted from 7 days on'
        """
        target = self.target
        names = self("or").join(self("event", name=self.wording.event(name)) for name in target.event_names)
        event = self("with", event=names, where=target.where) if target.where else names
        lengths = {"horizon": self._length(target.horizon), "gap": self._length(target.gap)}
        span = self("after_gap" if target.gap else "within", **lengths)
        key = "affinity_all" if target.type == "affinity" and category is None else target.type
        return self(key, event=event, span=span, category=self.category(category))

    def category(self, name: str | None) -> str:
        """What a category is called: hours and weekdays as such, others in the wording's own words; "" where there is none.

        >>> from persopredict.targets import Affinity
        >>> from persopredict.times import instant
        >>> Teller(Affinity("purchase", "28d", by="weekday"), instant("2024-05-01"), "UTC", Wording("es")).category("6")
        'sábado'
        """
        return "" if name is None else self.wording.category(name, self.target.by if isinstance(self.target, Affinity) else None)

    def _length(self, length: Duration) -> str:
        number, unit = (length.days * 24 + length.hours, "hour") if length.hours else (length.days, "day")
        return self(unit if number == 1 else f"{unit}s", n=self.wording.number(number))

    def signed(self, effect: float) -> str:
        """An effect in log-odds."""
        return f"{'−' if effect < 0 else '+'}{self.wording.number(abs(effect), 2)}"


@dataclass(frozen=True)
class One:
    """One row, explained.

    `probability`, calibrated, and the one that is `usual` (nan where that is not known); `reasons` as they are published; `base` and
    `score` in log-odds before calibration; `features`: (title, value in words, contribution) of each, strongest first.
    """

    customer: str
    category: str | None
    probability: float
    usual: float
    reasons: Sequence[Mapping[str, Any]]
    base: float
    score: float
    features: Sequence[tuple[str, str, float]]

    @property
    def rest(self) -> float:
        """What is left when the reasons are told."""
        return self.score - self.base - float(sum(reason["contribution"] for reason in self.reasons))


def head(one: One, tell: Teller) -> tuple[str, str]:
    """Who, and how likely it is."""
    said = {
        "percent": tell.wording.percent(one.probability),
        "usual": tell.wording.percent(one.usual),
        "outcome": tell.outcome(one.category),
    }
    who = tell("pair" if one.category is not None else "one", customer=one.customer, category=tell.category(one.category), date=tell.date)
    return who, tell("likely" if np.isfinite(one.usual) else "likely_alone", **said)


def story(one: One, tell: Teller) -> str:
    """One customer's story in lines."""
    blocks = [list(head(one, tell))]
    for key, said in _sides(one):
        blocks.append([tell(key), *(f"  {tell.signed(reason['contribution'])}  {reason['label']}" for reason in said)])
    rest = [f"  {tell.signed(one.rest)}  {tell('rest')}"] if abs(one.rest) >= 0.005 else []
    blocks.append([*rest, reckoned(one, tell)] if one.reasons else [tell("nothing")])
    return "\n\n".join("\n".join(block) for block in blocks)


def page(one: One, tell: Teller) -> Html:
    """One customer's story for a notebook."""
    rows = [(reason["label"], tell.signed(reason["contribution"])) for _, said in _sides(one) for reason in said]
    rows += [(tell("rest"), tell.signed(one.rest))] if one.reasons and abs(one.rest) >= 0.005 else []
    said = html.table((tell("reason"), tell("effect")), rows) if rows else html.note([tell("nothing")])
    every = [(title, value, tell.signed(effect)) for title, value, effect in one.features]
    table = html.table((tell("feature"), tell("value"), tell("effect")), every, words=(0, 1))
    folded = html.folded(tell("all", count=len(every)), table)
    return html.block(html.title(*head(one, tell)), said, html.note([reckoned(one, tell)] if rows else []), folded)


def reckoned(one: One, tell: Teller) -> str:
    """How the contributions add up, and what calibration does to their sum."""
    raw = float(sigmoid(one.score))
    numbers = {"base": tell.signed(one.base), "moved": tell.signed(one.score - one.base), "score": tell.signed(one.score)}
    told = tell("sum", **numbers, raw=tell.wording.percent(raw))
    same = abs(raw - one.probability) < 1e-6
    return tell("as_is" if same else "calibrated", sum=told, percent=tell.wording.percent(one.probability))


def _sides(one: One) -> list[tuple[str, list[Mapping[str, Any]]]]:
    sides = [(key, [reason for reason in one.reasons if reason["direction"] == key]) for key in ("for", "against")]
    return [(key, said) for key, said in sides if said]


@dataclass(frozen=True)
class Many:
    """Many rows, explained: their `probability`, shape (rows,), and the mean effect of each feature (by its title), either way."""

    probability: NDArray[np.float64]
    effects: Mapping[str, float]
    pairs: bool

    @property
    def strongest(self) -> list[tuple[str, float]]:
        """The features that do most, the strongest first; of equals in their order."""
        ranked = sorted(self.effects.items(), key=lambda entry: -entry[1])
        return [(title, effect) for title, effect in ranked[:_NAMED] if effect > 0]


def summary(many: Many, tell: Teller) -> tuple[str, str]:
    """How many, and how likely it is for them."""
    rows = len(many.probability)
    key = ("single_pair" if rows == 1 else "pairs") if many.pairs else ("row" if rows == 1 else "rows")
    who = tell(key, rows=tell.wording.number(rows), date=tell.date)
    if rows < 2:
        alone = {"percent": tell.wording.percent(float(many.probability[0])), "outcome": tell.outcome()} if rows else {}
        return who, tell("likely_alone", **alone) if rows else tell("nobody")
    low, high = np.quantile(many.probability, [0.25, 0.75])
    said = {"low": tell.wording.percent(low), "high": tell.wording.percent(high), "mean": tell.wording.percent(many.probability.mean())}
    return who, tell("spread", **said, outcome=tell.outcome())


def stories(many: Many, tell: Teller) -> str:
    """Many customers in lines."""
    lines = [f"  {tell.wording.number(effect, 2)}  {title}" for title, effect in many.strongest]
    return "\n".join([*summary(many, tell), *(["", tell("strongest"), *lines] if lines else [])])


def pages(many: Many, tell: Teller) -> Html:
    """Many customers for a notebook."""
    rows = [(title, tell.wording.number(effect, 2)) for title, effect in many.strongest]
    table = [html.table((tell("strongest"), tell("effect")), rows)] if rows else []
    return html.block(html.title(*summary(many, tell)), *table)
