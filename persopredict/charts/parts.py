"""What charts are put together from: data, axes of shares, tooltips, and what every chart has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from persopredict.charts.theme import NOTEBOOK_OPTIONS, theme
from persopredict.charts.words import Words, spoken
from persopredict.errors import Problem, SpecificationError

#: Of a chart that is not as high as it has rows.
HEIGHT = 300
#: Of a chart that is not as wide as its page.
WIDTH = 560
#: The parameter by which a page moves the marked audience: ``view.signal("audience", 0.2).runAsync()``.
AUDIENCE = "audience"
#: Thousandths of a per cent are written, noughts at the end are not.
SHARES = ".3~%"
#: What notebooks know a chart by. Altair's own name for it ends with ".json", under which a notebook's format allows nothing but text.
_MIME = f"application/vnd.vegalite.{alt.SCHEMA_VERSION.partition('.')[0]}+json"
_ROUNDED = (1, 2, 5, 10)
#: No axis of shares ends before.
_LEAST = 1e-6
_LONGEST = 90
#: Pixels from one bar to the next where a name stands above each.
LINE = 42


def values(rows: Iterable[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as they stand in the chart; what is not a number there is null."""
    return alt.InlineData([{name: _plain(value) for name, value in row.items()} for row in rows])


def _plain(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def chart(rows: Iterable[Mapping[str, Any]]) -> alt.Chart:
    """A layer to be, of its own rows."""
    return alt.Chart(values(rows))


def tips(*pairs: tuple[str, str]) -> list[alt.Tooltip]:
    """What a pointer is told: the column, which holds text, and its title."""
    return [alt.Tooltip(f"{column}:N", title=spoken(title) or " ") for column, title in pairs]


def share_axis(top: float = 1.0, *, title: str, wide: bool = False) -> dict[str, Any]:
    """The scale and axis of shares from 0 to `top`."""
    count = 5 if wide else 4
    return {"scale": alt.Scale(domain=[0, top], nice=False), "axis": alt.Axis(format=SHARES, tickCount=count), "title": title}


def key(shown: Sequence[str] | None = None, **settings: Any) -> alt.Legend:
    """A legend above the chart, one entry below the other where it is narrow; of some of the scale's names, default all.

    `width` is the chart's at first, and without its axes once these are laid out: where labels take much of it, `columns` must not depend
    on it, for no room is made for the lines that a legend gains then.
    """
    chosen: dict[str, Any] = {"columns": alt.expr("width < 420 ? 1 : 0")} | ({} if shown is None else {"values": [*shown]})
    return alt.Legend(**chosen | settings)


def lines(places: Sequence[int] | None = None) -> alt.Y:
    """A line for each place, high enough for a name and what stands below it, so that names have the whole width of a phone."""
    some: dict[str, Any] = {} if places is None else {"domain": [*places]}
    return alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0, **some))


def names(base: alt.Chart) -> list[alt.Chart]:
    """The name above each line, the column `short`, cut where the chart ends, and kept apart from what lies under it."""
    said: dict[str, Any] = {"align": "left", "baseline": "middle", "dy": -9, "limit": alt.expr("width")}
    return [base.mark_text(style=style, **said).encode(x=alt.value(0), text="short:N") for style in ("halo", "label")]


def rounded_up(value: float) -> float:
    """The next 1, 2 or 5 of its magnitude, at most 1: where an axis of shares ends.

    >>> rounded_up(0.034), rounded_up(0.7), rounded_up(0.0)
    (0.05, 1.0, 1.0)
    """
    if not 0 < value < 1:
        return 1.0
    value = max(value, _LEAST)
    scale = 10.0 ** math.floor(math.log10(value))
    return float(min(1.0, next(round(step * scale, 12) for step in _ROUNDED if step * scale >= value * (1 - 1e-9))))


def square_ticks(top: float, count: int = 6) -> list[float]:
    """Round shares, about evenly apart on a square-root scale from 0 to `top`.

    >>> square_ticks(0.5), square_ticks(0.01)
    ([0.0, 0.02, 0.05, 0.1, 0.2, 0.5], [0.0, 0.0005, 0.001, 0.002, 0.005, 0.01])
    """
    found = {0.0, *(rounded_up((place / count) ** 2 * top * 0.75) for place in range(1, count + 1))}
    return sorted(tick for tick in found if tick <= top)


def nothing(reason: str, remedy: str) -> SpecificationError:
    """The error of a chart that would be empty."""
    return SpecificationError("there is nothing to draw", [Problem("nothing_to_draw", reason, remedy=remedy)])


def shortened(text: str, longest: int = _LONGEST) -> str:
    r"""A name on one line, cut where it is longer than a line can be; its tooltip has all of it.

    >>> shortened("a\nb"), shortened("a" * 7, 5)
    ('a b', 'aaaa…')
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def listed(texts: Sequence[str], words: Words, most: int = 5) -> str:
    """The first of them, and how many there are besides."""
    rest = len(texts) - most
    return "; ".join([*texts[:most], *([words("more", count=rest)] if rest > 0 else [])])


class Figure(alt.LayerChart):
    """A chart that a notebook shows without network: interactive where the notebook itself knows Vega-Lite, else as an SVG picture.

    Altair's own default loads Vega from the network. Whoever wants that, or another of its renderers, enables it:
    ``altair.renderers.enable("html")``.
    """

    def _repr_mimebundle_(self, *args: Any, **options: Any) -> Any:
        if alt.renderers.active != "default":
            return super()._repr_mimebundle_(*args, **options)
        import vl_convert

        spec = self.to_dict()
        return {_MIME: spec, "image/svg+xml": vl_convert.vegalite_to_svg(spec), "text/plain": self.description}


def finished(layers: Sequence[Any], words: Words, description: str, *, height: float = HEIGHT) -> alt.LayerChart:
    """Layers become a chart: light, `WIDTH` wide, with a text alternative."""
    return Figure(
        layer=[*layers],
        width=WIDTH,
        height=height,
        description=description,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        config=alt.Config(**theme("light", language=words.language)),
        usermeta={"language": words.language, "embedOptions": dict(NOTEBOOK_OPTIONS)},
    )
