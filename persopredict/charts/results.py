"""One result as a chart of one kind, and what charts of evaluations share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import altair as alt

from persopredict.charts.curves import gain, lift, precision
from persopredict.charts.parts import shortened
from persopredict.charts.probabilities import curve_bins, reliability, scores
from persopredict.charts.words import Words
from persopredict.curves import Curve
from persopredict.cutoff_results import Result
from persopredict.errors import Problem, SpecificationError, did_you_mean

_DRAWN: Mapping[str, Callable[[Result, Words], alt.LayerChart]] = {
    "gain": lambda result, words: gain(result.curve, rivals=_rivals(result), words=words),
    "lift": lambda result, words: lift(result.curve, words=words),
    "precision": lambda result, words: precision(result.curve, words=words),
    "reliability": lambda result, words: reliability(result.reliability, words=words),
    "scores": lambda result, words: scores(curve_bins(result.curve), words=words),
}
#: What can be drawn of one result.
KINDS = tuple(_DRAWN)


def of_result(result: Result, kind: str, words: Words | None = None) -> alt.LayerChart:
    """The chart of one of `KINDS`; raises `SpecificationError` (code ``nothing_to_draw``) where the result holds nothing of it."""
    return _DRAWN[kind](result, words or Words())


def _rivals(result: Result) -> dict[str, Curve]:
    """Without the base rate, which says the same of everybody: by it any audience is as good as chance."""
    return {name: curve for name, curve in result.rivals.items() if name != "base_rate"}


def known_kind(kind: str, kinds: Sequence[str]) -> None:
    """Raise `SpecificationError` for a kind that is none of these."""
    if kind not in kinds:
        problem = Problem(
            "unknown_plot", f"there is no plot {kind!r}", remedy=did_you_mean(kind, kinds) or f"take one of {', '.join(kinds)}"
        )
        raise SpecificationError("this can't be drawn", [problem])


def titled(chart: alt.LayerChart, title: str) -> alt.LayerChart:
    """The same chart with a title, for where no page gives it one."""
    return chart.properties(title=shortened(title, 70))
