"""Charts: functions from plain values to Altair charts, for notebooks and for the report alike.

Every function takes values and `Words`, and returns an `altair.LayerChart` that is light and 560 pixels wide; `dressed` gives it another
look, width or language of numbers. ``chart.to_dict()`` is one self-contained Vega-Lite specification, whose `description` is the chart in a
sentence; ``chart.save("gain.png")``, ``.svg`` and ``chart.save("gain.html", inline=True)`` need no network.
"""

from persopredict.charts.categories import Bar, Takers, bars, takers
from persopredict.charts.curves import gain, lift, precision
from persopredict.charts.parts import AUDIENCE
from persopredict.charts.probabilities import ScoreBin, curve_bins, reliability, score_bins, scores
from persopredict.charts.reasons import Driver, Effect, ShapeBin, drivers, importance, shape, story
from persopredict.charts.results import KINDS, known_kind, of_result, titled
from persopredict.charts.theme import COLORS, colors, css, dressed, number_locale, theme
from persopredict.charts.times import Step, outcomes, steps, trend
from persopredict.charts.words import TEXTS, Words

__all__ = [
    "AUDIENCE",
    "COLORS",
    "KINDS",
    "TEXTS",
    "Bar",
    "Driver",
    "Effect",
    "ScoreBin",
    "ShapeBin",
    "Step",
    "Takers",
    "Words",
    "bars",
    "colors",
    "css",
    "curve_bins",
    "dressed",
    "drivers",
    "gain",
    "importance",
    "known_kind",
    "lift",
    "number_locale",
    "of_result",
    "outcomes",
    "precision",
    "reliability",
    "score_bins",
    "scores",
    "shape",
    "steps",
    "story",
    "takers",
    "theme",
    "titled",
    "trend",
]
