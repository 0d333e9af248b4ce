"""What moves the scores: importance and drivers, what a driver's values do, and one customer's story."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from persopredict.charts.categories import Bar, bars
from persopredict.charts.parts import LINE, chart, finished, key, lines, listed, names, nothing, shortened, tips
from persopredict.charts.words import Words

Direction = Literal["up", "down", "mixed"]
_DIRECTIONS: tuple[Direction, ...] = ("up", "down", "mixed")
#: Pixels from one bar to the next where a label stands beside each.
_NARROW = 26
#: About as many pixels has a letter of an axis's title.
_LETTER = 6.2
#: What an effect above 0 does, and one below.
_SIDES = ("story.for", "story.against")


@dataclass(frozen=True, slots=True)
class Driver:
    """What moves scores: a title in words, its mean effect (absolute, in log-odds), and where more of it leads: "up", "down" or "mixed"."""

    title: str
    effect: float
    direction: Direction = "mixed"


@dataclass(frozen=True, slots=True)
class ShapeBin:
    """Customers whose values of a feature are nearly the same.

    `label`: their values in words, "" where the value is unknown; `effect`: the mean effect on their score (log-odds); `share` of all.
    """

    label: str
    effect: float
    share: float


@dataclass(frozen=True, slots=True)
class Effect:
    """One reason of one customer: a sentence, and by how much it moves the score (log-odds)."""

    label: str
    effect: float


def importance(values: Mapping[str, float], *, most: int = 15, words: Words | None = None) -> alt.LayerChart:
    """Names by how much of what moves the scores is theirs, the strongest first.

    Parameters
    ----------
    values : name to importance, not negative, in any unit; shares of their sum are drawn.
    most : how many are shown.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) where none is above 0.
    """
    say = words or Words()
    total = sum(value for value in values.values() if value > 0)
    ranked = sorted(((name, value / total) for name, value in values.items() if value > 0), key=lambda pair: (-pair[1], pair[0]))[:most]
    if not ranked:
        raise nothing("nothing moves the scores", "the model says the same of everybody; give it more features or more rows")
    description = say("importance.description", names=listed([f"{name} ({say.percent(share)})" for name, share in ranked], say))
    drawn = bars([Bar(name, share, say.percent(share)) for name, share in ranked], measure=say("importance.share"), words=say)
    return drawn.properties(description=description)


def drivers(found: Sequence[Driver], *, most: int = 10, words: Words | None = None) -> alt.LayerChart:
    """What moves the scores most, and where more of it leads.

    Parameters
    ----------
    found : in any order; those without effect are left out.
    most : how many are shown, the strongest.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) where nothing has an effect.
    """
    say = words or Words()
    ranked = sorted((driver for driver in found if driver.effect > 0), key=lambda driver: (-driver.effect, driver.title))[:most]
    if not ranked:
        raise nothing("nothing moves the scores", "the model says the same of everybody; give it more features or more rows")
    rows = [
        {
            "title": driver.title,
            "effect": driver.effect,
            "said": say.number(driver.effect, 2),
            "direction": say(f"drivers.{driver.direction}"),
        }
        for driver in ranked
    ]
    known = [say(f"drivers.{direction}") for direction in _DIRECTIONS]
    shown = [name for name in known if any(row["direction"] == name for row in rows)]
    color = alt.Color("direction:N", scale=alt.Scale(domain=known), legend=key(shown, offset=10))
    told = listed([f"{driver.title} ({say(f'drivers.{driver.direction}')})" for driver in ranked], say)
    layers = _bars(rows, say("drivers.effect"), say, color)
    return finished(layers, say, say("drivers.description", names=told), height=LINE * len(rows))


def _bars(rows: list[dict[str, Any]], measure: str, say: Words, color: alt.Color) -> list[Any]:
    """Bars one below the other, each under its name."""
    numbered = [{"place": place, "short": shortened(row["title"]), **row} for place, row in enumerate(rows)]
    told = tips(("title", " "), ("said", measure), ("direction", say("drivers.direction")))
    base = chart(numbered).encode(
        y=lines(),
        tooltip=told,
    )
    x = alt.X("effect:Q", axis=None, scale=alt.Scale(domain=[0, 1.16 * max(row["effect"] for row in rows)], nice=False))
    bar = base.mark_bar(height=12, yOffset=9, cornerRadiusEnd=2)
    return [
        bar.encode(x=x, color=color),
        *names(base),
        base.mark_text(style="quiet", align="left", baseline="middle", dx=5, dy=9).encode(x=x, text="said:N"),
    ]


def shape(bins: Sequence[ShapeBin], *, name: str, words: Words | None = None) -> alt.LayerChart:
    """What the values of a feature do to the score: a bar to the right makes the outcome likelier, one to the left less likely.

    Parameters
    ----------
    bins : ascending by value; of unknown values last, with an empty label.
    name : of the feature, in words.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without bins.
    """
    say = words or Words()
    bins = [found for found in bins if math.isfinite(found.effect)]
    if not bins:
        raise nothing(f"there are no values of {name!r}", "fit on rows that have the feature")
    rows: list[dict[str, Any]] = [
        {
            "place": place, "value": found.label or say("unknown"), "effect": found.effect, "said": _signed(found.effect, say),
            "share": say.percent(found.share), "direction": say(_SIDES[found.effect < 0]),
        }
        for place, found in enumerate(bins)
    ]  # fmt: skip
    told = tips(
        ("value", shortened(name, 60)), ("said", say("shape.effect")), ("direction", say("story.direction")), ("share", say("shape.share"))
    )
    labels = json.dumps([f"{shortened(row['value'], 22)} · {row['share']}" for row in rows])
    title = say("shape.rows")
    # Where labels are shorter than the title, room is made for the title.
    named = alt.Axis(
        labelExpr=f"{labels}[datum.value]", grid=False, domain=False, ticks=False, labelOverlap=False, titleX=-5, titleAlign="right",
        minExtent=_LETTER * len(title),
    )  # fmt: skip
    y = alt.Y("place:O", title=title, axis=named, scale=alt.Scale(paddingInner=0.35))
    base = chart(rows).encode(y=y, tooltip=told)
    widest = max(abs(found.effect) for found in bins) or 1.0
    x = alt.X("effect:Q", axis=None, scale=alt.Scale(domain=[-1.9 * widest, 1.9 * widest], nice=False))
    layers: list[Any] = [
        base.mark_bar(cornerRadiusEnd=2).encode(x=x, color=_two_sided(rows, say, offset=26, columns=1)),
        base.transform_filter("datum.effect >= 0").mark_text(style="quiet", align="left", dx=5).encode(x=x, text="said:N"),
        base.transform_filter("datum.effect < 0").mark_text(style="quiet", align="right", dx=-5).encode(x=x, text="said:N"),
        chart([{"zero": 0}]).mark_rule(style="link", aria=False).encode(x="zero:Q"),
    ]
    values = listed([f"{row['value']}: {row['said']}" for row in rows], say, most=11)
    return finished(layers, say, say("shape.description", name=name, values=values), height=_NARROW * len(rows) + 8)


def story(effects: Sequence[Effect], *, start: str = "", end: str = "", most: int = 8, words: Words | None = None) -> alt.LayerChart:
    """One customer's score, from the usual customer's to their own: each reason moves it on from where the one before had left it.

    Parameters
    ----------
    effects : in the order that they are told in.
    start, end : what is said of the usual customer and of this one, such as their probabilities.
    most : how many effects are told; those after them become one.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without effects.
    """
    say = words or Words()
    if not effects:
        raise nothing("there is no reason to tell", "explain a customer whom the model has scored")
    told = [*effects[:most], *([Effect(say("story.others"), sum(rest.effect for rest in effects[most:]))] if effects[most:] else [])]
    rows, reached = [], 0.0
    for place, found in enumerate(told, 1):
        rows.append(
            {
                "place": place, "title": found.label, "short": shortened(found.label), "from": reached,
                "to": reached + found.effect,
                "last": max(reached, reached + found.effect), "said": _signed(found.effect, say),
                "direction": say(_SIDES[found.effect < 0]),
            }
        )  # fmt: skip
        reached += found.effect
    ends = [
        {"place": place, "short": ": ".join(filter(None, (say(f"story.{key}"), note))), "to": at}
        for place, key, note, at in ((0, "start", start, 0.0), (len(told) + 1, "end", end, reached))
    ]
    layers = _waterfall(rows, ends, say)
    description = say("story.description", reasons=listed([f"{row['title']} ({row['said']})" for row in rows], say, most=most + 1))
    return finished(layers, say, description, height=LINE * (len(rows) + len(ends)))


def _waterfall(rows: list[dict[str, Any]], ends: list[dict[str, Any]], say: Words) -> list[Any]:
    """Floating bars between two ends, each under its sentence; a thin line hands the score on from one to the next."""
    reached = [0.0, *(row["to"] for row in rows)]
    wide = max(reached) - min(reached) or 1.0
    scale = alt.Scale(domain=[min(reached) - 0.04 * wide, max(reached) + 0.16 * wide], nice=False)
    y, x = lines(range(len(rows) + 2)), alt.X("from:Q", axis=None, scale=scale)
    told = tips(("title", " "), ("said", say("story.effect")), ("direction", say("story.direction")))
    moved, edges = chart(rows).encode(y=y, tooltip=told), chart(ends).encode(y=y)
    handed = chart(
        {"place": row["place"] - 1, "next": row["place"], "at": row["from"]}
        for row in [*rows, {"place": len(rows) + 1, "from": reached[-1]}]
    )
    y_from = alt.Y("place:O", axis=None, bandPosition=0.72)
    return [
        handed.mark_rule(style="link", aria=False).encode(
            x=alt.X("at:Q", axis=None, scale=scale), y=y_from, y2=alt.Y2("next:O", bandPosition=0.72)
        ),
        moved.mark_bar(height=12, yOffset=9).encode(x=x, x2="to:Q", color=_two_sided(rows, say, offset=12)),
        *names(moved),
        moved.mark_text(style="quiet", align="left", baseline="middle", dx=5, dy=9).encode(
            x=alt.X("last:Q", axis=None, scale=scale), text="said:N"
        ),
        edges.mark_point(style="marker-point", filled=True, yOffset=9).encode(x=alt.X("to:Q", axis=None, scale=scale)),
        *names(edges),
    ]


def _two_sided(rows: Sequence[Mapping[str, Any]], say: Words, **legend: Any) -> alt.Color:
    """One colour for what makes the outcome likelier, one for what makes it less likely."""
    sides = [say(side) for side in _SIDES]
    shown = [name for name in sides if any(row["direction"] == name for row in rows)]
    return alt.Color("direction:N", scale=alt.Scale(domain=sides), legend=key(shown, **legend))


def _signed(value: float, say: Words) -> str:
    if not math.isfinite(value):
        return say.number(value)
    return f"{'+' if value >= 0 else '−'}{say.number(abs(value), 2)}"
