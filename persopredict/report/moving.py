"""What moves the scores of a model, and how they follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from persopredict import charts
from persopredict.affinity.features import PAIR_FEATURES, PairFeature
from persopredict.concepts import AnyFeature
from persopredict.errors import SpecificationError
from persopredict.kinds import with_rhythm
from persopredict.report.blocks import Block, Cell, Figure, Grid, Part, Table, Text
from persopredict.report.drawing import figure, number
from persopredict.report.texts import Texts, capital
from persopredict.targets import Affinity, Target

if TYPE_CHECKING:
    from persopredict.drivers import Bin, Driver
    from persopredict.predictor import Predictor

#: Drivers that are named, and those whose shape is drawn.
_SHOWN, _SHAPES = 10, 6
#: A smaller effect would be written as none.
_LEAST = 0.005


def part(say: Texts, predictor: Predictor, id: str) -> Part:
    """The part of the section: drivers with their shapes; of a model that was fitted before these were kept, importance alone."""
    found = predictor.drivers_
    blocks = _importance(say, predictor, id) if found is None else _drivers(say, predictor, found[:_SHOWN], id)
    return Part(
        f"{id}-drivers",
        say("drivers.heading"),
        tuple(blocks) or (Text(say("drivers.none"), "note"),),
        say("drivers.lead") if blocks else "",
    )


class _Told:
    """The words of a model's inputs, and of their values."""

    def __init__(self, say: Texts, target: Target, features: Mapping[str, AnyFeature]) -> None:
        self.say, self.target, self.features = say, target, features

    @classmethod
    def of(cls, say: Texts, predictor: Predictor) -> _Told:
        target = predictor.target
        known: list[AnyFeature] = list(predictor.features_)
        known = [*known, *PAIR_FEATURES] if isinstance(target, Affinity) else list(with_rhythm(predictor.features_, target))
        return cls(say, target, {feature.name: feature for feature in known})

    @property
    def _by(self) -> str | None:
        return self.target.by if isinstance(self.target, Affinity) else None

    def title(self, name: str) -> str:
        feature, wording = self.features.get(name), self.say.wording
        if feature is None:
            return name.replace("_", " ")
        return wording.pair_title(feature, self.target.horizon, by=self._by) if isinstance(feature, PairFeature) else wording.title(feature)

    def values(self, name: str, low: float, high: float) -> str:
        """From where to where, with the unit once: "3 – 5 days"."""
        feature, wording, ends = self.features.get(name), self.say.wording, np.array([low, high])
        if feature is None:
            first, last = (self.say.number(value) for value in (low, high))
        elif isinstance(feature, PairFeature):
            first, last = wording.pair_reasons(feature, ends, category=["", ""], horizon=self.target.horizon, by=self._by)[1]
        else:
            first, last = wording.reasons(feature, ends)[1]
        if first == last:
            return first
        (start, _, unit), (_, _, its) = first.partition(" "), last.partition(" ")
        return f"{start if unit == its else first} – {last}"


def _drivers(say: Texts, predictor: Predictor, known: tuple[Driver, ...], id: str) -> list[Block]:
    told, title = _Told.of(say, predictor), say("drivers.title")
    found = tuple(driver for driver in known if driver.effect >= _LEAST) or known[:1]
    titles = [capital(told.title(driver.feature)) for driver in found]
    rows = (
        (Cell(name), number(say.number(driver.effect, 2)), Cell(say(f"drivers.{driver.direction}")))
        for name, driver in zip(titles, found, strict=True)
    )
    table = Table(title, (say("drivers.name"), say("drivers.effect"), say("drivers.direction")), tuple(rows), hidden_caption=True)
    bars = [charts.Driver(name, driver.effect, driver.direction) for name, driver in zip(titles, found, strict=True)]
    whole = figure(f"{id}-drivers", title, lambda words: charts.drivers(bars, most=_SHOWN, words=words), table, say)
    shapes = [
        _shape(say, told, driver, name, f"{id}-shape-{place}")
        for place, (name, driver) in enumerate(zip(titles, found[:_SHAPES], strict=False), 1)
    ]
    drawn = tuple(shape for shape in shapes if shape is not None)
    return [*([] if whole is None else [whole]), *([Grid(drawn, say("drivers.shapes"))] if drawn else [])]


def _shape(say: Texts, told: _Told, driver: Driver, title: str, id: str) -> Figure | None:
    """How the score follows one driver; None where there are no two values to compare."""
    bins = joined([charts.ShapeBin(_label(told, driver, one), one.contribution, one.share) for one in driver.bins])
    if len(bins) < 2:
        return None
    rows = ((Cell(one.label or say("drivers.unknown")), number(say.number(one.effect, 2)), number(say.percent(one.share))) for one in bins)
    pairs = isinstance(told.target, Affinity)
    head = (say("drivers.value"), say("drivers.effect"), say("drivers.pairs" if pairs else "drivers.share"))
    table = Table(title, head, tuple(rows), hidden_caption=True)
    own = {"shape.rows": say("drivers.pairs_rows"), "shape.share": say("drivers.pairs_share")} if pairs else {}
    return figure(id, title, lambda words: charts.shape(bins, name=title, words=replace(words, texts=own)), table, say, compact=True)


def joined(bins: list[charts.ShapeBin]) -> list[charts.ShapeBin]:
    """Neighbours whose values read the same become one: their shares together, their effects by share."""
    found: list[charts.ShapeBin] = []
    for one in bins:
        if found and found[-1].label == one.label:
            last = found.pop()
            share = last.share + one.share
            effect = (last.effect * last.share + one.effect * one.share) / share if share else one.effect
            one = charts.ShapeBin(one.label, effect, share)
        found.append(one)
    return found


def _label(told: _Told, driver: Driver, one: Bin) -> str:
    """The values of a bin, "" where they are unknown."""
    return "" if one.low is None or one.high is None else told.values(driver.feature, one.low, one.high)


def _importance(say: Texts, predictor: Predictor, id: str) -> list[Block]:
    try:
        found = predictor.importance_
    except SpecificationError:
        return []
    told = _Told.of(say, predictor)
    values = {capital(told.title(str(name))): float(value) for name, value in found.items() if value > 0}
    rows = tuple((Cell(name), number(say.percent(value / sum(values.values()), 1))) for name, value in list(values.items())[:_SHOWN])
    table = Table(say("drivers.title"), (say("drivers.name"), say("drivers.share")), rows, hidden_caption=True)
    drawn = figure(f"{id}-drivers", say("drivers.title"), lambda words: charts.importance(values, most=_SHOWN, words=words), table, say)
    return [] if drawn is None else [drawn]
