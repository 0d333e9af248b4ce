"""Numbers as tables of results show them, in text and in HTML."""

from __future__ import annotations

import math


def cell(value: float, decimals: int = 3) -> str:
    """A metric as a table shows it.

    >>> cell(0.25), cell(float("nan"))
    ('0.250', '–')
    """
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def percent(value: float) -> str:
    """A share as a table shows it.

    >>> percent(0.0831), percent(float("nan"))
    ('8.3%', '–')
    """
    return f"{value:z.1%}" if math.isfinite(value) else "–"


def between(bounds: tuple[float, float], decimals: int = 3) -> str:
    """An interval as a table shows it, "" where there is none.

    >>> between((0.7, 0.8)), between((float("nan"), float("nan")))
    (' (0.700 to 0.800)', '')
    """
    return f" ({bounds[0]:z.{decimals}f} to {bounds[1]:z.{decimals}f})" if math.isfinite(bounds[0]) else ""
