"""What an audience reaches: gain, lift and precision, of a `Curve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np

from persopredict.charts.parts import AUDIENCE, SHARES, chart, finished, key, nothing, rounded_up, share_axis, tips
from persopredict.charts.words import Words
from persopredict.curves import SHARES as HUNDREDTHS
from persopredict.curves import Curve

#: So many lines beside the model's can be told apart.
_RIVALS = 3
_RETEST = "evaluate the model on cutoffs whose labels have ended"


def gain(
    curve: Curve, *, rivals: Mapping[str, Curve] | None = None, audience: float | None = 0.1, words: Words | None = None
) -> alt.LayerChart:
    """The share of all outcomes that each share of the customers holds, the likeliest first.

    Parameters
    ----------
    curve : of the model.
    rivals : name to curve of what it is compared with, at most 3; names of baselines are said in words.
    audience : the share that is marked, whole per cent from 0.01 to 1; None marks none. A page moves it by the parameter `AUDIENCE`.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without rows or outcomes.
    """
    say = words or Words()
    _outcomes(curve)
    shown = [(say.name(name), held) for name, held in (rivals or {}).items() if held.positives]
    series = {say("model"): curve, **dict(shown[:_RIVALS])}
    lines = chart(
        {"share": share, "gain": held, "who": name} for name, found in series.items() for share, held in zip(*_gains(found), strict=True)
    )
    shape: dict[str, Any] = {"x": alt.X("share:Q", **_shares(say("gain.x"))), "y": alt.Y("gain:Q", **share_axis(title=say("gain.y")))}
    legend: Any = key() if len(series) > 2 else alt.Legend() if len(series) > 1 else None
    drawn = lines.mark_line(strokeWidth=2.5).encode(
        **shape,
        color=alt.Color("who:N", scale=alt.Scale(domain=[*series]), legend=legend),
        strokeDash=alt.StrokeDash("who:N", scale=alt.Scale(domain=[*series], range=[[1, 0], [7, 3], [3, 3], [9, 3, 2, 3]]), legend=legend),
    )
    ends = chart({"share": end, "gain": end} for end in (0.0, 1.0)).mark_line(style="yardstick", aria=False).encode(**shape)
    chance = (
        chart([{"share": 0.7, "gain": 0.7}])
        .mark_text(style="quiet", align="left", baseline="top", dx=6, dy=4)
        .encode(**shape, text=alt.value(say("chance")))
    )
    rows = _gain_rows(curve, say)
    hidden = _hover(rows, {"contacted": "gain.contacted", "reached": "gain.reached", "promised": "gain.promised"}, say).encode(x=shape["x"])
    layers = [ends, chance, drawn, hidden]
    description = say(
        "gain.description", rows=say.number(curve.rows, 0), share=say.percent(0.1), gain=say.percent(curve.found[9] / curve.positives)
    )
    if audience is not None:
        layers += _marked(rows, shape, audience, below=True)
    return finished(layers, say, description)


def lift(curve: Curve, *, words: Words | None = None) -> alt.LayerChart:
    """How many times as many outcomes as on average each tenth of the customers holds: bars of what came, and a mark for what was expected.

    Raises `SpecificationError` (code ``nothing_to_draw``) without rows or outcomes.
    """
    say = words or Words()
    _outcomes(curve)
    rate = curve.positives / curve.rows
    rows: list[dict[str, Any]] = [
        {
            "decile": found.decile, "lift": found.lift, "expected": found.expected / found.rows / rate, "above": say.number(found.lift, 1),
            "customers": say.number(found.rows, 0), "came": say.number(found.positives, 0), "promised": say.number(found.expected, 0),
            "precision": say.percent(found.precision), "gain": say.percent(found.gain), "times": say.number(found.lift, 2),
            "came_kind": say("actual"), "expected_kind": say("expected"),
        }
        for found in curve.deciles
    ]  # fmt: skip
    base = chart(rows).encode(
        x=alt.X("decile:O", title=say("lift.x"), axis=alt.Axis(labelAngle=0, labelOverlap=False), scale=alt.Scale(paddingInner=0.25)),
        tooltip=tips(
            ("decile", say("lift.decile")), ("customers", say("customers")), ("promised", say("expected")), ("came", say("actual")),
            ("precision", say("lift.precision")), ("times", say("lift.lift")), ("gain", say("lift.gain")),
        ),
    )  # fmt: skip
    top = 1.1 * max(max(row["lift"], row["expected"]) for row in rows)
    height = alt.Scale(domain=[0, top], nice=False)
    axis = alt.Axis(tickCount=5, format="~r")
    average = chart([{"one": 1.0, "text": say("rate", rate=say.percent(rate))}])
    layers: list[Any] = [
        base.mark_bar().encode(y=alt.Y("lift:Q", title=say("lift.y"), scale=height, axis=axis), color=_kind("came_kind", say)),
        average.mark_rule(style="yardstick").encode(y="one:Q"),
        average.mark_text(style="quiet", align="right", baseline="bottom", dy=-3).encode(x=alt.value("width"), y="one:Q", text="text:N"),
        base.mark_tick(thickness=3, opacity=1).encode(y="expected:Q", color=_kind("expected_kind", say)),
        *(_above(base.mark_text(style=style, baseline="bottom", dy=-6)) for style in ("halo", "label")),
    ]
    description = say(
        "lift.description", rows=say.number(curve.rows, 0), first=say.number(rows[0]["lift"], 1), last=say.number(rows[-1]["lift"], 1)
    )
    return finished(layers, say, description)


def precision(curve: Curve, *, audience: float | None = 0.1, of: int | None = None, words: Words | None = None) -> alt.LayerChart:
    """Which share of an audience had the outcome, by its size, with the 95% interval where the curve has one.

    Parameters
    ----------
    curve : of the model.
    audience : the share that is marked, as in `gain`.
    of : among how many customers audiences are chosen, for the tooltips' sizes; default: the curve's rows.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without rows.
    """
    say = words or Words()
    _rows(curve)
    everyone = curve.rows if of is None else of
    rate = curve.positives / curve.rows
    found = curve.precision.tolist()
    rows = [
        {
            "place": place, "share": float(share), "precision": value, "lower": lower, "upper": upper,
            "contacted": say.percent(float(share)), "size": say.number(share * everyone, 0),
            "reached": say.percent(value), "interval": say.between(lower, upper),
            "said": say("precision.at", share=say.percent(float(share)), precision=say.percent(value)),
        }
        for place, (share, value, lower, upper) in enumerate(zip(HUNDREDTHS, found, *curve.bounds, strict=True), 1)
    ]  # fmt: skip
    top = rounded_up(float(np.nanmax([*found, *curve.bounds[1]])) or 1.0)
    x = alt.X("share:Q", **_shares(say("precision.x")))
    y = alt.Y("precision:Q", **share_axis(top, title=say("precision.y")))
    base = chart(rows).encode(x=x)
    average = chart([{"rate": rate, "text": say("rate", rate=say.percent(rate))}])
    told = {"contacted": "gain.contacted", "size": "precision.size", "reached": "precision.precision", "interval": "interval"}
    layers: list[Any] = [
        base.transform_filter("isValid(datum.lower)").mark_area(style="model-band", aria=False).encode(y=alt.Y("lower:Q"), y2="upper:Q"),
        average.mark_rule(style="yardstick").encode(y="rate:Q"),
        base.mark_line(style="model-line").encode(y=y),
        *(
            average.mark_text(style=style, align="right", baseline="top", dy=6).encode(x=alt.value("width"), y="rate:Q", text="text:N")
            for style in ("halo", "quiet")
        ),
        _hover(rows, told, say).encode(x=x),
    ]
    if audience is not None:
        layers += _marked(rows, {"x": x, "y": y}, audience, below=False)
    description = say("precision.description", share=say.percent(0.1), precision=say.percent(found[9]), rate=say.percent(rate))
    return finished(layers, say, description)


def _above(text: alt.Chart) -> alt.Chart:
    """The lift above its bar, and above what was expected."""
    placed: alt.Chart = text.encode(y=alt.Y("top:Q"), text="above:N").transform_calculate(top="max(datum.lift, datum.expected)")
    return placed


def _kind(column: str, say: Words) -> alt.Color:
    """The colour of what came, or of what was expected, and both in the legend."""
    scale = alt.Scale(domain=[say("actual"), say("expected")], range="ordinal")
    return alt.Color(f"{column}:N", scale=scale, legend=alt.Legend(symbolType="square"))


def _rows(curve: Curve) -> None:
    if not curve.rows:
        raise nothing("the evaluation does not say what a share of its customers held", _RETEST)


def _outcomes(curve: Curve) -> None:
    _rows(curve)
    if not curve.positives:
        raise nothing(f"none of the {curve.rows:,} tested had the outcome", _RETEST)


def _shares(title: str) -> dict[str, Any]:
    return {
        "scale": alt.Scale(domain=[0, 1], nice=False),
        "axis": alt.Axis(format=SHARES, values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
        "title": title,
    }


def _gains(curve: Curve) -> tuple[list[float], list[float]]:
    return [0.0, *HUNDREDTHS.tolist()], [0.0, *(np.asarray(curve.found) / curve.positives).round(5).tolist()]


def _gain_rows(curve: Curve, say: Words) -> list[dict[str, Any]]:
    rows = []
    for place, (share, found, expected) in enumerate(zip(HUNDREDTHS.tolist(), curve.found, curve.expected, strict=True), 1):
        held = {"contacted": say.percent(share), "reached": say.percent(found / curve.positives)}
        held["promised"] = say.percent(expected / curve.expected[-1]) if curve.expected[-1] else "–"
        said = say("gain.at", share=held["contacted"], gain=held["reached"])
        rows.append({"place": place, "share": share, "gain": found / curve.positives, **held, "said": said})
    return rows


def _hover(rows: list[dict[str, Any]], told: Mapping[str, str], say: Words) -> alt.Chart:
    """A wide, invisible line for each hundredth, so that a pointer anywhere is told something."""
    titles = tips(*((column, say(key)) for column, key in told.items()))
    hidden: alt.Chart = chart(rows).mark_rule(opacity=0, strokeWidth=9, aria=False).encode(tooltip=titles)
    return hidden


def _marked(rows: list[dict[str, Any]], axes: dict[str, Any], audience: float, *, below: bool) -> list[Any]:
    """A line through the marked audience, a point on the curve, and a sentence in the corner that the curve leaves free."""
    parameter = alt.param(name=AUDIENCE, value=min(1.0, max(0.01, round(audience, 2))))
    base = chart(rows).add_params(parameter).transform_filter(f"datum.place === round({AUDIENCE} * 100)")
    here = chart(rows).transform_filter(f"datum.place === round({AUDIENCE} * 100)")
    corner = {"x": alt.value("width"), "y": alt.value("height" if below else 0)}
    said: dict[str, Any] = {"align": "right", "baseline": "bottom" if below else "top", "dx": -8, "dy": -8 if below else 8}
    return [
        base.mark_rule(style="marker", aria=False).encode(x=axes["x"]),
        here.mark_point(style="marker-point", filled=True).encode(**axes),
        *(here.mark_text(style=style, **said).encode(**corner, text="said:N") for style in ("halo", "label")),
    ]
