"""How right the probabilities are, and how they are spread: reliability and the distribution of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

from persopredict.charts.parts import SHARES, chart, finished, nothing, rounded_up, square_ticks, tips
from persopredict.charts.words import Words
from persopredict.curves import Curve, ReliabilityBin

#: Where the middle probability is a smaller part of the largest, small ones get room by a square-root scale.
_CROWDED = 0.2
#: Of all scores; of a curve, which knows a hundred of them.
_BINS, _COARSE = 24, 12


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """How many customers have a probability from `lower` to below `upper`."""

    lower: float
    upper: float
    rows: float


def score_bins(probabilities: ArrayLike, weights: ArrayLike | None = None) -> tuple[ScoreBin, ...]:
    """At most 24 bins of probabilities, shape (n,), from 0 to the largest; nan are left out, none without probabilities.

    `weights`: of how many customers each stands, shape (n,), default one. Bins are equally wide, or, where most probabilities are small
    beside the largest, equally wide on a square-root scale.

    >>> [(found.lower, found.upper, found.rows) for found in score_bins([0.9, 0.95, 0.5, 0.1])][-1]
    (0.958333, 1.0, 0.0)
    >>> sum(found.rows for found in score_bins([0.001] * 99 + [0.4]))
    100.0
    """
    given = np.asarray(probabilities, dtype=np.float64)
    known = ~np.isnan(given)
    counts = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    return _binned(given[known], counts[known], _BINS)


def curve_bins(curve: Curve) -> tuple[ScoreBin, ...]:
    """The same of a curve, which keeps the mean probability of each hundredth of its rows."""
    expected = np.diff([0.0, *curve.expected]) if curve.rows else np.zeros(0)
    weight = curve.rows / 100
    return _binned(expected / weight if weight else expected, np.full(len(expected), weight), _COARSE)


def _binned(probabilities: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], count: int) -> tuple[ScoreBin, ...]:
    if not len(probabilities):
        return ()
    order = np.argsort(probabilities, kind="stable")
    counted = np.cumsum(weights[order])
    top, middle = rounded_up(float(probabilities.max())), float(probabilities[order][np.searchsorted(counted, counted[-1] / 2)])
    steps = np.linspace(0, 1, count + 1)
    edges = np.array([float(f"{edge:.6g}") for edge in (steps**2 if middle < _CROWDED * top else steps) * top])
    rows, _ = np.histogram(np.clip(probabilities, 0, top), edges, weights=weights)
    return tuple(ScoreBin(lower, upper, float(count)) for (lower, upper), count in zip(pairwise(edges.tolist()), rows, strict=True))


def scores(bins: Sequence[ScoreBin], *, words: Words | None = None) -> alt.LayerChart:
    """How many customers have which probability.

    Parameters
    ----------
    bins : ascending, as `score_bins` makes them. Where they widen, the scale is a square root, so that bars of one width stay comparable.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without customers.
    """
    say = words or Words()
    everyone = sum(found.rows for found in bins)
    if not everyone:
        raise nothing("there are no scores", "score some customers first")
    square = len(bins) > 1 and bins[-1].upper - bins[-1].lower > 1.5 * (bins[0].upper - bins[0].lower)
    rows = [
        {
            "from": found.lower, "to": found.upper, "rows": found.rows, "customers": say.number(found.rows, 0),
            "range": say.between(found.lower, found.upper), "share": say.percent(found.rows / everyone),
        }
        for found in bins
    ]  # fmt: skip
    top = bins[-1].upper
    title = say("square", title=say("scores.x")) if square else say("scores.x")
    scale = alt.Scale(type="sqrt" if square else "linear", domain=[bins[0].lower, top], nice=False)
    ticks: dict[str, Any] = {"values": square_ticks(top)} if square else {"tickCount": 6}
    x = alt.X("from:Q", title=title, scale=scale, axis=alt.Axis(format=SHARES, **ticks))
    y = alt.Y("rows:Q", scale=alt.Scale(zero=True), title=say("scores.y"), axis=alt.Axis(tickCount=5, format=",~r"))
    base = chart(rows).encode(
        x=x, x2="to:Q", y=y, y2=alt.value("height"),
        tooltip=tips(("range", say("scores.range")), ("customers", say("customers")), ("share", say("scores.share"))),
    )  # fmt: skip
    description = say(
        "scores.description", rows=say.number(everyone, 0), median=say.percent(_quantile(bins, 0.5)), high=say.percent(_quantile(bins, 0.9))
    )
    return finished([base.mark_bar(style="histogram")], say, description)


def _quantile(bins: Sequence[ScoreBin], level: float) -> float:
    """Read off the counts: within a bin they are taken as even."""
    counted = np.cumsum([0.0, *(found.rows for found in bins)])
    return float(np.interp(level * counted[-1], counted, [bins[0].lower, *(found.upper for found in bins)]))


def reliability(bins: Sequence[ReliabilityBin], *, words: Words | None = None) -> alt.LayerChart:
    """What came where the model said nearly the same: a point for each bin with its 95% interval, beside the line of being right.

    Both scales are the same; square roots, where most of the probabilities are small beside the largest.

    Parameters
    ----------
    bins : as `curves.reliability` makes them.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without bins.
    """
    say = words or Words()
    if not bins:
        raise nothing("the evaluation does not hold what was said beside what came", "evaluate the model again")
    top = min(1.0, 1.04 * max(max(found.upper, found.predicted) for found in bins)) or 1.0
    square = float(np.median([found.predicted for found in bins])) < _CROWDED * max(found.predicted for found in bins)
    ticks = square_ticks(top) if square else None
    scale = alt.Scale(type="sqrt" if square else "linear", domain=[0, top], nice=False)
    axis = alt.Axis(format=SHARES, values=ticks) if ticks else alt.Axis(format=SHARES, tickCount=6)
    titles = {
        side: say("square", title=say(f"reliability.{side}")) if square and side == "x" else say(f"reliability.{side}") for side in "xy"
    }
    x = alt.X("said:Q", title=titles["x"], scale=scale, axis=axis)
    y = alt.Y("found:Q", title=titles["y"], scale=scale, axis=axis)
    right = chart({"said": end, "found": end} for end in (0.0, top)).mark_line(style="yardstick", aria=False).encode(x=x, y=y)
    place = top * (0.45 if square else 0.75)
    named = chart([{"said": place, "found": place}]).mark_text(style="quiet", align="left", baseline="top", dx=14, dy=8)
    layers: list[Any] = [right, named.encode(x=x, y=y, text=alt.value(say("reliability.right")))]
    held = [(True, "interval", "model-point", "circle"), (False, "outside-interval", "outside-point", "diamond")]
    for holds, line, point, symbol in held:
        rows = list(_said_and_found(bins, say, holds=holds))
        if rows:
            base = chart(rows).encode(x=x, tooltip=_told(say))
            layers.append(base.mark_rule(style=line).encode(y=alt.Y("lower:Q"), y2="upper:Q"))
            layers.append(base.mark_point(style=point, filled=True, shape=symbol, size=75).encode(y=y))
    counts = {"bins": len(bins), "rows": say.number(sum(found.rows for found in bins), 0), "holds": sum(found.holds for found in bins)}
    return finished(layers, say, say("reliability.description", **counts), height=340)


def _said_and_found(bins: Sequence[ReliabilityBin], say: Words, *, holds: bool) -> Iterator[dict[str, Any]]:
    for found in bins:
        if found.holds == holds:
            yield {
                "said": found.predicted, "found": found.observed, "lower": found.lower, "upper": found.upper,
                "rows": say.number(found.rows, 0), "said_text": say.percent(found.predicted), "found_text": say.percent(found.observed),
                "interval": say.between(found.lower, found.upper), "verdict": say(f"reliability.{'holds' if holds else 'outside'}"),
            }  # fmt: skip


def _told(say: Words) -> list[alt.Tooltip]:
    return tips(
        ("rows", say("customers")), ("said_text", say("reliability.said")), ("found_text", say("reliability.found")),
        ("interval", say("interval")), ("verdict", say("reliability.verdict")),
    )  # fmt: skip
