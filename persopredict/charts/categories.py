"""Categories and lists: bars under their names, and takers that were expected beside those that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from persopredict.charts.parts import LINE, chart, finished, lines, listed, names, nothing, shortened, tips
from persopredict.charts.words import Words


@dataclass(frozen=True, slots=True)
class Bar:
    """A name, a value of 0 or more, how it is written, and whether it is what the chart is about or only beside it."""

    title: str
    value: float
    said: str
    strong: bool = True


@dataclass(frozen=True, slots=True)
class Takers:
    """Of one category how many takers were expected, how many came, and how far by chance alone the two differ at most (95%)."""

    title: str
    expected: float
    actual: float
    by_chance: float

    @property
    def least(self) -> float:
        """The fewest takers that chance explains."""
        return max(0.0, self.expected - self.by_chance)

    @property
    def most(self) -> float:
        """The most takers that chance explains."""
        return self.expected + self.by_chance

    @property
    def holds(self) -> bool:
        """Whether chance explains the difference."""
        return abs(self.expected - self.actual) <= self.by_chance


def bars(found: Sequence[Bar], *, measure: str, words: Words | None = None) -> alt.LayerChart:
    """Values one below the other, each under its name, in the order given; those that are only beside the others in grey.

    Parameters
    ----------
    found : the bars.
    measure : what their values are, in words.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) where no value is above 0.
    """
    say = words or Words()
    if not any(bar.value > 0 for bar in found):
        raise nothing(f"there is no {measure}", "nothing: there is none")
    rows = [
        {"place": place, "title": bar.title, "short": shortened(bar.title), "value": bar.value, "said": bar.said, "strong": bar.strong}
        for place, bar in enumerate(found)
    ]
    base = chart(rows).encode(y=lines(), tooltip=tips(("title", " "), ("said", measure)))
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, 1.2 * max(bar.value for bar in found)], nice=False))
    layers: list[Any] = [
        base.transform_filter(f"{sign}datum.strong").mark_bar(height=12, yOffset=9, cornerRadiusEnd=2, style=style).encode(x=x)
        for sign, style in (("", "model-bar"), ("!", "whole"))
    ]
    layers += names(base)
    layers.append(base.mark_text(style="quiet", align="left", baseline="middle", dx=5, dy=9).encode(x=x, text="said:N"))
    values = listed([f"{bar.title}: {bar.said}" for bar in found], say, most=12)
    return finished(layers, say, say("bars.description", measure=measure, values=values), height=LINE * len(rows))


def takers(found: Sequence[Takers], *, words: Words | None = None) -> alt.LayerChart:
    """Takers of categories: how many were expected, with what chance alone explains, and how many came.

    Parameters
    ----------
    found : in the order in which they are drawn.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without categories.
    """
    say = words or Words()
    if not found:
        raise nothing("there are no categories", "evaluate the model on cutoffs after which something was taken")
    rows = [
        {
            "place": place, "title": one.title, "short": shortened(one.title), "expected": one.expected, "actual": one.actual,
            "lower": one.least, "upper": one.most,
            "promised": say.number(one.expected, 0), "came": say.number(one.actual, 0),
            "chance": say("between", lower=say.number(one.least, 0), upper=say.number(one.most, 0)),
            "verdict": say("outcomes.within" if one.holds else "outcomes.outside"),
        }
        for place, one in enumerate(found)
    ]  # fmt: skip
    told = tips(
        ("title", " "),
        ("promised", say("expected")),
        ("chance", say("takers.chance")),
        ("came", say("actual")),
        ("verdict", say("takers.verdict")),
    )
    base = chart(rows).encode(y=lines(), tooltip=told)
    top = 1.12 * max(max(one.most, one.actual) for one in found)
    scale = alt.Scale(domain=[0, top], nice=False)
    x = alt.X("expected:Q", title=say("takers.x"), scale=scale, axis=alt.Axis(tickCount=4, format=",~r"))
    verdicts = [say("outcomes.within"), say("outcomes.outside")]
    legend = {
        "color": alt.Color("verdict:N", scale=alt.Scale(domain=verdicts), legend=alt.Legend()),
        "shape": alt.Shape("verdict:N", scale=alt.Scale(domain=verdicts, range=["circle", "diamond"]), legend=alt.Legend()),
    }
    layers: list[Any] = [
        base.mark_rule(style="expected-line", yOffset=9).encode(x=alt.X("lower:Q", scale=scale), x2="upper:Q"),
        base.mark_tick(style="expected", thickness=3, size=18, yOffset=9).encode(x=x),
        base.mark_point(filled=True, size=80, opacity=1, yOffset=9).encode(x=alt.X("actual:Q", scale=scale), **legend),
        *names(base),
    ]
    values = listed([f"{row['title']}: {row['promised']}, {row['came']}" for row in rows], say, most=12)
    description = say("takers.description", categories=len(found), holds=sum(one.holds for one in found), values=values)
    return finished(layers, say, description, height=LINE * len(rows))
