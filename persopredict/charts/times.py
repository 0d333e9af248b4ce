"""What a model reaches as time goes by: at one test cutoff after another, and in runs whose labels have ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import altair as alt

from persopredict.charts.parts import SHARES, chart, finished, key, listed, nothing, tips
from persopredict.charts.words import Words, spoken
from persopredict.cutoff_results import Result

_NAN = float("nan")
#: Measures that are shares.
_SHARED = ("skill", "rate")
#: So many lines beside the model's can be told apart.
_RIVALS = 3
#: So many runs can be told apart on a phone.
_APART = 30
#: So many steps have their values written beside them on a phone.
_NAMED = 5
#: What chance alone would reach, drawn where the scale comes near it.
_YARDSTICKS = {"auc": (0.5, "trend.chance"), "skill": (0.0, "trend.nothing")}


@dataclass(frozen=True, slots=True)
class Step:
    """A measure at one moment: what the axis calls it, the value, and its 95% interval, nan where there is none."""

    label: str
    value: float
    lower: float = _NAN
    upper: float = _NAN
    rows: int = 0


class Came(Protocol):
    """What a run promised and what came of it, as `warehouse_runs.Settled` holds it: counts of outcomes, a 95% interval of what was
    expected, and 1, -1 or 0 where `actual` is more than it holds, less, or within it.
    """

    @property
    def as_of(self) -> datetime: ...  # noqa: D102
    @property
    def expected(self) -> float: ...  # noqa: D102
    @property
    def lower(self) -> float: ...  # noqa: D102
    @property
    def upper(self) -> float: ...  # noqa: D102
    @property
    def actual(self) -> float: ...  # noqa: D102
    @property
    def surprise(self) -> int: ...  # noqa: D102


def steps(results: Iterable[Result], measure: str = "auc", *, baseline: str = "") -> tuple[Step, ...]:
    """One step for each test cutoff.

    Parameters
    ----------
    results : an evaluation's folds.
    measure : of `metrics.Metrics`, such as "auc" or "log_loss"; "rate", the share of positives; or "skill".
    baseline : whom skill is against.
    """
    found = []
    for result in results:
        value, (lower, upper) = _measured(result, measure, baseline)
        found.append(Step(result.label, value, lower, upper, result.rows))
    return tuple(found)


def _measured(result: Result, measure: str, baseline: str) -> tuple[float, tuple[float, float]]:
    if measure == "skill":
        return result.skill(baseline)
    if measure == "rate":
        return result.rate, (_NAN, _NAN)
    return getattr(result.model, measure), result.interval(measure)


def trend(
    found: Sequence[Step],
    *,
    rivals: Mapping[str, Sequence[Step]] | None = None,
    measure: str = "auc",
    title: str = "",
    words: Words | None = None,
) -> alt.LayerChart:
    """A measure from one test cutoff to the next, with its intervals: whether a model lasts.

    Parameters
    ----------
    found : the model's, in order of time; steps without a value stay empty.
    rivals : name to the steps of what it is compared with, at most 3; names of baselines are said in words.
    measure : says how values are written, and which yardstick is drawn.
    title : of the axis; default the measure's name.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) where no step has a value.
    """
    say = words or Words()
    known = [step for step in found if math.isfinite(step.value)]
    if not known:
        raise nothing(f"no test cutoff has a {measure}", "test on more customers, or on cutoffs where some had the outcome and some not")
    written = partial(say.percent, decimals=1) if measure in _SHARED else partial(say.number, decimals=4 if "loss" in measure else 3)
    series = {say("model"): found, **{say.name(name): others for name, others in [*(rivals or {}).items()][:_RIVALS]}}
    rows = [
        {
            "label": step.label, "who": name, "value": step.value, "lower": step.lower, "upper": step.upper, "said": written(step.value),
            "rows": say.number(step.rows, 0), "interval": _between(step, written, say),
        }
        for name, steps in series.items() for step in steps
    ]  # fmt: skip
    named = spoken(title) or say.name(f"trend.{measure}")
    low, high = _domain([step for steps in series.values() for step in steps], measure)
    y = alt.Y(
        "value:Q", title=named, scale=alt.Scale(domain=[low, high], zero=False, nice=False),
        axis=alt.Axis(tickCount=5, format=SHARES if measure in _SHARED else alt.Undefined),
    )  # fmt: skip
    layers = [*_yardstick(measure, low, high, say), *_stepped(rows, y, [*series], named, say)]
    said = listed([f"{step.label}: {written(step.value)}" for step in known], say, most=12)
    description = say("trend.description", measure=named, steps=len(found), first=found[0].label, last=found[-1].label, values=said)
    return finished(layers, say, description, height=260)


def _stepped(rows: list[dict[str, Any]], y: alt.Y, series: list[str], named: str, say: Words) -> list[Any]:
    """The model's points with their intervals, and a line for each of the series."""
    x = alt.X("label:O", title=say("trend.x"), sort=None, axis=alt.Axis(labelAngle=0), scale=alt.Scale(padding=0.6))
    told = [("label", say("trend.x")), ("rows", say("customers")), ("said", named), ("interval", say("interval"))]
    legend = key() if len(series) > 1 else None
    dashes = alt.Scale(domain=series, range=[[1, 0], [7, 3], [3, 3], [9, 3, 2, 3]])
    lines = chart(rows).mark_line(strokeWidth=1.5, aria=False).encode(
        x=x, y=y, color=alt.Color("who:N", scale=alt.Scale(domain=series), legend=legend),
        strokeDash=alt.StrokeDash("who:N", scale=dashes, legend=legend),
    )  # fmt: skip
    mine = [row for row in rows if row["who"] == series[0]]
    base = chart(mine).encode(x=x, tooltip=tips(*(pair for pair in told if pair[0] != "rows" or any(row["rows"] != "0" for row in mine))))
    layers: list[Any] = [
        lines,
        base.transform_filter("isValid(datum.lower)").mark_rule(style="interval").encode(y=alt.Y("lower:Q"), y2="upper:Q"),
        base.mark_point(style="model-point", filled=True, shape="circle", size=80).encode(y=y),
    ]
    if len(mine) <= _NAMED:
        layers += [base.mark_text(style=style, align="left", dx=9, dy=-9).encode(y=y, text="said:N") for style in ("halo", "label")]
    return layers


def _yardstick(measure: str, low: float, high: float, say: Words) -> list[Any]:
    """What chance alone would reach, where the scale comes near it."""
    level, name = _YARDSTICKS.get(measure, (_NAN, ""))
    if not low <= level <= high:
        return []
    base = chart([{"level": level, "name": say(name)}]).encode(y=alt.Y("level:Q"))
    text = base.mark_text(style="quiet", align="left", baseline="bottom", dy=-3, dx=2)
    return [base.mark_rule(style="yardstick"), text.encode(x=alt.value(0), text="name:N")]


def _between(step: Step, written: Callable[[float], str], say: Words) -> str:
    known = math.isfinite(step.lower + step.upper)
    return say("between", lower=written(step.lower), upper=written(step.upper)) if known else "–"


def _domain(known: Sequence[Step], measure: str) -> tuple[float, float]:
    """From below the lowest to above the highest; down to the yardstick where that is near or crossed."""
    ends = [value for step in known for value in (step.value, step.lower, step.upper) if math.isfinite(value)]
    low, high = min(ends), max(ends)
    if measure in _YARDSTICKS:
        level = _YARDSTICKS[measure][0]
        if measure == "skill" or low - level < high - low:
            low, high = min(low, level), max(high, level)
    pad = 0.12 * (high - low) or 0.1 * abs(high) or 0.1
    return low - pad, high + pad


def outcomes(
    runs: Sequence[Came], *, when: Callable[[datetime], str] = lambda moment: f"{moment:%Y-%m-%d}", words: Words | None = None
) -> alt.LayerChart:
    """What runs promised beside what came of them: a mark with the 95% interval for the one, a point for the other.

    Parameters
    ----------
    runs : in order of time.
    when : how a run's `as_of` is written; default its date as it stands.
    words : default English.

    Raises `SpecificationError` (code ``nothing_to_draw``) without runs.
    """
    say = words or Words()
    if not runs:
        raise nothing("the labels of no published run have ended yet", "wait until a run is as old as its horizon, and run the job again")
    rows = [
        {
            "label": when(run.as_of), "expected": run.expected, "lower": run.lower, "upper": run.upper, "actual": run.actual,
            "promised": say.number(run.expected, 0 if run.expected >= 10 else 1), "came": say.number(run.actual, 0),
            "interval": say("between", lower=say.number(run.lower, 0), upper=say.number(run.upper, 0)),
            "promise": say("outcomes.expected"), "verdict": say("outcomes.outside" if run.surprise else "outcomes.within"),
        }
        for run in runs
    ]  # fmt: skip
    ends = [value for run in runs for value in (run.lower, run.upper, run.actual, run.expected)]
    pad = 0.1 * (max(ends) - min(ends)) or 1.0
    scale = alt.Scale(domain=[max(0.0, min(ends) - pad), max(ends) + pad], zero=False, nice=False)
    layers = _dense(rows, scale, say) if len(rows) > _APART else _apart(rows, scale, say)
    newest = runs[-1]
    description = say(
        "outcomes.description", runs=len(runs), first=rows[0]["label"], last=rows[-1]["label"],
        holds=sum(not run.surprise for run in runs), expected=say.number(newest.expected, 0), actual=say.number(newest.actual, 0),
    )  # fmt: skip
    return finished(layers, say, description, height=280)


def _runs(rows: list[dict[str, Any]], say: Words) -> alt.Chart:
    told = tips(("label", say("outcomes.x")), ("promised", say("expected")), ("interval", say("interval")), ("came", say("actual")))
    axis = alt.Axis(labelAngle=0, ticks=len(rows) <= _APART)
    return chart(rows).encode(x=alt.X("label:O", title=say("outcomes.x"), sort=None, axis=axis), tooltip=told)


def _apart(rows: list[dict[str, Any]], scale: alt.Scale, say: Words) -> list[Any]:
    """Each run by itself: a mark for what was expected, its interval, and a point for what came."""
    base = _runs(rows, say)
    y = alt.Y("expected:Q", title=say("outcomes.y"), scale=scale, axis=alt.Axis(tickCount=5, format=",~r"))
    return [
        base.mark_rule(style="expected-line").encode(y=alt.Y("lower:Q", scale=scale), y2="upper:Q"),
        base.mark_point(size=500, strokeWidth=3, opacity=1).encode(y=y, **_legend("promise", rows, say)),
        base.mark_point(filled=True, size=110, opacity=1).encode(y=alt.Y("actual:Q"), **_legend("verdict", rows, say)),
    ]


def _dense(rows: list[dict[str, Any]], scale: alt.Scale, say: Words) -> list[Any]:
    """Runs of many nights: a line of what was expected in a band of its intervals, and a dot for what came."""
    base = _runs(rows, say)
    y = alt.Y("expected:Q", title=say("outcomes.y"), scale=scale, axis=alt.Axis(tickCount=5, format=",~r"))
    return [
        base.mark_area(style="expected-band", aria=False).encode(y=alt.Y("lower:Q", scale=scale), y2="upper:Q"),
        base.mark_point(size=30, strokeWidth=2, opacity=1).encode(y=y, **_legend("promise", rows, say)),
        base.mark_point(filled=True, size=24, opacity=1).encode(y=alt.Y("actual:Q"), **_legend("verdict", rows, say)),
    ]


def _legend(column: str, rows: list[dict[str, Any]], say: Words) -> dict[str, Any]:
    """Colours and shapes of what was expected, what came as expected and what did not, of which the legend names those that are there."""
    kinds = [say("outcomes.within"), say("outcomes.expected"), say("outcomes.outside")]
    shown = [kind for kind in kinds if kind == kinds[1] or any(row["verdict"] == kind for row in rows)]
    shapes = alt.Scale(domain=kinds, range=["circle", "stroke", "diamond"])
    colors = alt.Scale(domain=kinds, range="ordinal")
    return {
        "color": alt.Color(f"{column}:N", scale=colors, legend=key(shown)),
        "shape": alt.Shape(f"{column}:N", scale=shapes, legend=key(shown)),
    }
