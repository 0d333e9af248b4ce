"""How results are told: cells, lines and tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from persopredict.cells import between, cell, percent
from persopredict.cutoff_results import MODEL, Result
from persopredict.errors import Problem
from persopredict.metrics import Metrics
from persopredict.times import local

#: What a table of predictors shows: heading, name in `Metrics`, decimals.
_COLUMNS = (
    ("AUC", "auc", 3),
    ("avg.prec.", "average_precision", 3),
    ("log-loss", "log_loss", 4),
    ("Brier", "brier", 4),
    ("ECE", "ece", 4),
    ("by chance", "ece_chance_p95", 4),
    ("lift 10%", "lift_top_decile", 2),
)


def at_cutoffs(cutoffs: Sequence[datetime | None], timezone: str) -> str:
    """How many cutoffs a test had, and the first and last of them; "" without any.

    >>> at_cutoffs([datetime.fromisoformat("2017-10-08T05:00Z"), datetime.fromisoformat("2017-11-05T06:00Z")], "America/Mexico_City")
    ' at 2 cutoffs, 2017-10-08 to 2017-11-05'
    """
    moments = [local(cutoff, timezone) for cutoff in cutoffs if cutoff is not None]
    if len(moments) < 2:
        return f" at 1 cutoff, {moments[0]}" if moments else ""
    return f" at {len(moments)} cutoffs, {moments[0]} to {moments[-1]}"


def chosen(kind: str, kinds: Mapping[str, float]) -> Iterator[str]:
    """Which kind of model is shipped, and what it was chosen by; nothing where that is not known.

    >>> list(chosen("logistic", {"lightgbm": 0.304, "logistic": 0.301}))
    ['model: logistic, chosen by out-of-time log-loss: logistic 0.3010, lightgbm 0.3040']
    """
    if kind:
        found = sorted(kinds.items(), key=lambda entry: (math.isnan(entry[1]), entry[1], entry[0]))
        compared = ", ".join(f"{name} {cell(value, 4)}" for name, value in found)
        yield f"model: {kind}{', chosen by out-of-time log-loss: ' if compared else ''}{compared}"


def share(share: float) -> list[str]:
    """That not all customers were looked at, if so.

    >>> share(1.0), share(0.048)
    ([], ['4.8% of the customers were looked at, drawn by md5 of their ids: more would not change what is found.'])
    """
    if share >= 1:
        return []
    return [f"{percent(share)} of the customers were looked at, drawn by md5 of their ids: more would not change what is found."]


def suspicions(suspected: Sequence[Problem]) -> Iterator[str]:
    """What looks like leakage, without examples: these are for the user's own screen, and an evaluation is stored and logged."""
    if suspected:
        yield "suspected leakage:"
        yield from (f"  {replace(problem, example='')}" for problem in suspected)


def predictors(result: Result) -> Iterator[str]:
    """The model and its baselines, best first, in one result; below the model its 95% intervals."""
    width = max(len(name) for name in ("95% from", *result.baselines)) + 2
    yield " " * width + "".join(f"{heading:>11}" for heading, _, _ in _COLUMNS)
    yield _row(MODEL, width, result.model)
    for place, words in enumerate(("  95% from", "  to")):
        if MODEL in result.intervals:
            bounds = [cell(result.interval(name)[place], decimals) for _, name, decimals in _COLUMNS]
            yield f"{words:<{width}}" + "".join(f"{'' if text == '–' else text:>11}" for text in bounds)
    for name, metrics in sorted(result.baselines.items(), key=lambda entry: (entry[1].log_loss, entry[0])):
        yield _row(name, width, metrics)


def _row(name: str, width: int, metrics: Metrics) -> str:
    cells = {key: cell(getattr(metrics, key), decimals) for _, key, decimals in _COLUMNS}
    cells["ece_chance_p95"] = f"< {cells['ece_chance_p95']}"
    return f"{name:<{width}}" + "".join(f"{text:>11}" for text in cells.values())


def ahead(result: Result) -> Iterator[str]:
    """By how much the model is ahead of each baseline, the hardest first."""
    for name, found in sorted(result.against.items(), key=lambda entry: (entry[1].skill, entry[0])):
        loss, auc = found.log_loss, found.auc
        gained = f"AUC {auc.difference:+z.3f}{between(auc.interval)}" if math.isfinite(auc.difference) else "AUC –"
        yield f"against {name}: log-loss {loss.difference:+z.4f}{between(loss.interval, 4)}, {gained}, skill {percent(found.skill)}"


def trend(results: Sequence[Result], best: str) -> Iterator[str]:
    """The model at each cutoff, with 95% intervals."""
    width = max(len(result.label) for result in results)
    yield f"{'cutoff':<{width}} {'rows':>11} {'positives':>18}  {'AUC':<22}  {'log-loss':<25}  skill against {best}"
    for result in results:
        skill, bounds = result.skill(best)
        auc = f"{cell(result.model.auc)}{between(result.interval('auc'))}"
        loss = f"{cell(result.model.log_loss, 4)}{between(result.interval('log_loss'), 4)}"
        around = f" ({percent(bounds[0])} to {percent(bounds[1])})" if math.isfinite(bounds[0]) else ""
        counts = f"{result.rows:>11,} {f'{result.positives:,} ({percent(result.rate)})':>18}"
        yield f"{result.label:<{width}} {counts}  {auc:<22}  {loss:<25}  {percent(skill)}{around}"


def deciles(result: Result) -> Iterator[str]:
    """Each tenth of the customers; nothing where the curve was not kept."""
    if result.deciles:
        yield f"{'decile':>6} {'rows':>11} {'expected':>10} {'came':>10} {'precision':>10} {'lift':>6} {'cumulative gain':>16}"
    for found in result.deciles:
        counts = f"{found.decile:>6} {found.rows:>11,.0f} {found.expected:>10,.0f} {found.positives:>10,.0f}"
        yield f"{counts} {percent(found.precision):>10} {cell(found.lift, 2):>6} {percent(found.gain):>16}"


def reliability(result: Result) -> Iterator[str]:
    """Predicted beside observed rates, the likeliest first; nothing where they were not kept."""
    if result.reliability:
        yield f"{'reliability':<12}{'rows':>6} {'predicted':>10} {'observed':>10}  95% interval"
    for found in reversed(result.reliability):
        outside = "" if found.holds else "  outside"
        bounds = f"{percent(found.lower)} to {percent(found.upper)}"
        yield f"{found.rows:>18,} {percent(found.predicted):>10} {percent(found.observed):>10}  {bounds}{outside}"
