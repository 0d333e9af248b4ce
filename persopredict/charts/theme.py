"""How every chart looks: colours by what they stand for, and one Vega configuration made of them.

No chart names a colour. Marks carry the name of a style, and what the style looks like stands in the configuration: the same chart is
light, dark, or, where its page writes the colours as CSS variables, both at once and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import altair as alt

from persopredict.errors import SpecificationError, did_you_mean
from persopredict.wording.languages import locale_of

Look = Literal["light", "dark", "page"]

#: By what they stand for; "model" is also what makes an outcome likelier, "rival" what makes it less likely. They are Okabe and Ito's
#: (2008), which stay apart for every kind of colour blindness, darkened on light and lightened on dark until each has a contrast of 3:1
#: with its surface, ink and muted ink of 4.5:1.
COLORS: Mapping[str, Mapping[str, str]] = {
    "light": {
        "surface": "#ffffff",
        "ink": "#1f2328",
        "muted": "#59636e",
        "grid": "#e3e6ea",
        "model": "#0072b2",
        "rival": "#c25500",
        "rival-2": "#007a5a",
        "rival-3": "#a34f86",
    },
    "dark": {
        "surface": "#16191d",
        "ink": "#eceff2",
        "muted": "#a3adb8",
        "grid": "#30363d",
        "model": "#56b4e9",
        "rival": "#f0a030",
        "rival-2": "#2fc49a",
        "rival-3": "#e08cc0",
    },
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"

#: Vega-Embed reads its options from the chart, wherever that is shown. SVG is sharp and can be read aloud; a notebook has a menu.
NOTEBOOK_OPTIONS: Mapping[str, Any] = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
PAGE_OPTIONS: Mapping[str, Any] = {"renderer": "svg", "actions": False}


def colors(look: Look = "light") -> dict[str, str]:
    """Colours by role, of a look; of "page" the names of CSS variables, ``var(--chart-ink)`` and so on, which the page defines.

    >>> colors("light")["model"], colors("page")["rival-2"]
    ('#0072b2', 'var(--chart-rival-2)')
    """
    if look == "page":
        return {role: f"var(--chart-{role})" for role in COLORS["light"]}
    if look not in COLORS:
        raise SpecificationError(f"there is no look {look!r}; {did_you_mean(look, [*COLORS, 'page'])}")
    return dict(COLORS[look])


def css(look: Literal["light", "dark"] = "light") -> str:
    """Declarations of the variables that charts of the look "page" use, to be put into a CSS rule.

    >>> css("dark").startswith("--chart-surface:#16191d;--chart-ink:")
    True
    """
    return "".join(f"--chart-{role}:{color};" for role, color in colors(look).items())


def theme(look: Look = "light", *, language: str = "en") -> dict[str, Any]:
    """A Vega-Lite configuration.

    Parameters
    ----------
    look : "light", "dark", or "page": colours are CSS variables (`css`), for Vega's SVG renderer alone, on whatever lies below.
    language : how axes write numbers: "en", "es", or with a region ("es-MX"), as Babel knows them.
    """
    of = colors(look)
    return {
        "background": "transparent" if look == "page" else of["surface"],
        "font": FONT,
        "padding": 6,
        "locale": {"number": number_locale(language)},
        "view": {"stroke": None, "continuousWidth": 560, "continuousHeight": 300, "discreteWidth": 560},
        "axis": {
            "labelColor": of["muted"], "titleColor": of["muted"], "gridColor": of["grid"], "domainColor": of["grid"],
            "tickColor": of["grid"], "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 5,
            "titlePadding": 8, "labelOverlap": "greedy", "labelSeparation": 6, "labelLimit": 180, "titleLimit": 0,
        },
        "axisX": {"grid": False, "ticks": True},
        "axisY": {
            "domain": False, "ticks": False, "titleAngle": 0, "titleAlign": "left", "titleAnchor": "start", "titleY": -10, "titleX": 0,
        },
        "legend": {
            "orient": "top", "title": None, "labelColor": of["ink"], "labelFontSize": 12, "labelLimit": 260, "symbolStrokeWidth": 2.5,
            "symbolSize": 120, "columnPadding": 24, "offset": 26,
        },
        "title": {"color": of["ink"], "anchor": "start", "fontSize": 15, "fontWeight": 600, "subtitleColor": of["muted"], "offset": 14},
        "mark": {"color": of["ink"]},
        "range": {"category": [of["model"], of["rival"], of["rival-2"], of["rival-3"]], "ordinal": [of["model"], of["ink"], of["rival"]]},
        "style": {
            "model-line": {"color": of["model"], "strokeWidth": 2.5},
            "model-bar": {"color": of["model"]},
            "model-band": {"color": of["model"], "fillOpacity": 0.22},
            "histogram": {"color": of["model"], "stroke": of["surface"], "strokeWidth": 1},
            "model-point": {"color": of["model"], "stroke": of["surface"], "strokeWidth": 1, "opacity": 1},
            "interval": {"color": of["model"], "strokeWidth": 2, "opacity": 0.8},
            "outside-point": {"color": of["rival"], "stroke": of["surface"], "strokeWidth": 1, "opacity": 1},
            "outside-interval": {"color": of["rival"], "strokeWidth": 2, "opacity": 0.8},
            "expected": {"color": of["ink"], "stroke": of["ink"], "opacity": 1},
            "expected-line": {"color": of["ink"], "strokeWidth": 2},
            "expected-band": {"color": of["ink"], "fillOpacity": 0.15},
            "yardstick": {"color": of["muted"], "strokeWidth": 1.5, "strokeDash": [5, 4]},
            "marker": {"color": of["ink"], "strokeWidth": 1, "opacity": 0.8},
            "marker-point": {"color": of["ink"], "stroke": of["surface"], "strokeWidth": 1, "opacity": 1, "size": 80},
            "whole": {"color": of["muted"]},
            "label": {"color": of["ink"], "fontSize": 12},
            "quiet": {"color": of["muted"], "fontSize": 11.5},
            "halo": {"color": of["surface"], "stroke": of["surface"], "strokeWidth": 4, "strokeJoin": "round", "fontSize": 12},
            "link": {"color": of["muted"], "strokeWidth": 1},
        },
    }  # fmt: skip


def number_locale(language: str) -> dict[str, Any]:
    """How d3, which formats Vega's axes, writes numbers in a language.

    >>> number_locale("es")["decimal"], number_locale("es-MX")["decimal"], number_locale("en")["percent"]
    (',', '.', '%')
    """
    locale = locale_of(language)
    symbols = locale.number_symbols.get("latn", locale.number_symbols)
    space = locale.percent_formats[None].pattern.rpartition("0")[2]
    return {
        "decimal": symbols["decimal"],
        "thousands": symbols["group"],
        "grouping": [3],
        "currency": ["", ""],
        "percent": space.replace("%", symbols["percentSign"]),
        "minus": symbols["minusSign"],
    }


def dressed(
    chart: alt.LayerChart, look: Look = "light", *, width: int | Literal["container"] | None = None, language: str | None = None
) -> alt.LayerChart:
    """The same chart in another look, width or language of its numbers; the chart that is given stays as it is.

    Parameters
    ----------
    chart : of this package.
    look : see `theme`.
    width : in pixels, "container" to be as wide as the element it is put into; default: unchanged.
    language : of the axes' numbers; default: unchanged.
    """
    kept: str = language or chart.usermeta["language"]
    options = PAGE_OPTIONS if look == "page" else NOTEBOOK_OPTIONS
    wide: dict[str, Any] = {} if width is None else {"width": width}
    return chart.properties(
        config=alt.Config(**theme(look, language=kept)), usermeta={"language": kept, "embedOptions": dict(options)}, **wide
    )
