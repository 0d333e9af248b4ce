"""Charts on the page: dressed in the page's colours, as wide as their place, each with its values as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from persopredict import charts
from persopredict.errors import SpecificationError
from persopredict.report.blocks import Cell, Figure, Table
from persopredict.report.texts import Texts


def figure(
    id: str, title: str, draw: Callable[[charts.Words], Any], table: Table, say: Texts, *, note: str = "", compact: bool = False
) -> Figure | None:
    """A chart, None where there is nothing to draw.

    What all charts share, the theme, is taken out: the page gives it once (`theme`).
    """
    try:
        chart = draw(charts.Words(say.wording.language))
    except SpecificationError as error:
        if {problem.code for problem in error.problems} == {"nothing_to_draw"}:
            return None
        raise
    spec = charts.dressed(chart, "page", width="container", language=say.wording.language).to_dict(validate=False)
    for key in ("config", "usermeta", "$schema"):
        spec.pop(key, None)
    return Figure(f"{id}-chart", title, spec, table, note, compact)


def theme(say: Texts) -> dict[str, Any]:
    """The configuration of every chart on the page."""
    # What a reader who can't see is told stands beside each chart, in words; marks would be read out one by one.
    return {**charts.theme("page", language=say.wording.language), "aria": False}


def colors() -> dict[str, str]:
    """Declarations of the charts' colours, light and dark."""
    return {"light": charts.css("light"), "dark": charts.css("dark")}


def number(text: str, *, strong: bool = False) -> Cell:
    """A cell with a number, said already."""
    return Cell(text, number=True, strong=strong)


def bounded(say: Texts, value: str, bounds: tuple[str, str], *, strong: bool = False) -> Cell:
    """A cell with a number and its interval; without the latter where there is none."""
    lower, upper = bounds
    note = "" if "–" in bounds else say("page.interval", lower=lower, upper=upper)
    return Cell(value, number=True, strong=strong, note=note)
