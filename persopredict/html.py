"""What a notebook shows of a value: tables and facts in HTML, readable on light and dark, with one style.

Colours are the notebook's own, so that a table is at home in any theme. All text is escaped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

__all__ = ["Html", "block", "escape", "facts", "folded", "note", "table", "text", "title"]

#: Names may be as long as a sentence; a cell shows so many characters, and all of them to a pointer that rests on it.
LONGEST = 160

_STYLE = (
    ".persopredict{font-size:13px;line-height:1.45;max-width:72em}"
    ".persopredict p{margin:.3em 0}"
    ".persopredict table{border-collapse:collapse;margin:.5em 0;font-size:inherit;font-variant-numeric:tabular-nums}"
    ".persopredict th,.persopredict td{padding:.2em .7em;text-align:right;vertical-align:top;background:none;color:inherit;"
    "border:0;border-bottom:1px solid rgba(128,128,128,.3);white-space:normal;overflow-wrap:break-word;max-width:32em}"
    ".persopredict th{font-weight:600;border-bottom-color:rgba(128,128,128,.7)}"
    # As specific as it takes: JupyterLab has cells of its own end at the right.
    ".persopredict table th.t,.persopredict table td.t{text-align:left}"
    ".persopredict .quiet{opacity:.75}"
    ".persopredict details{margin:.3em 0}.persopredict summary{cursor:pointer}"
)


class Html(str):
    """Text that is HTML already: the only text that is not escaped. Made here, or by whoever has escaped it."""

    __slots__ = ()


def text(value: object) -> Html:
    """A value as HTML: what is `Html` stays, all else is escaped, and cut where it is longer than `LONGEST`.

    >>> text("<b>"), text(Html("<b>x</b>"))
    ('&lt;b&gt;', '<b>x</b>')
    """
    if isinstance(value, Html):
        return value
    said = str(value)
    if len(said) <= LONGEST:
        return Html(escape(said))
    return Html(f'<span title="{escape(said)}">{escape(said[: LONGEST - 1])}…</span>')


def table(heading: Sequence[object], rows: Iterable[Sequence[object]], *, words: Collection[int] = (0,)) -> Html:
    """A table.

    Parameters
    ----------
    heading : one text for each column.
    rows : one value for each column; texts are escaped.
    words : the columns, counted from 0, that hold words and begin at the left; the others hold numbers and end at the right.

    >>> table(["event", "rows"], [["<visit>", "7"]])
    '<table><tr><th class="t">event</th><th>rows</th></tr><tr><td class="t">&lt;visit&gt;</td><td>7</td></tr></table>'
    """

    def line(cells: Sequence[object], tag: str) -> str:
        classes = (' class="t"' if place in words else "" for place in range(len(heading)))
        return "<tr>" + "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for cell, kind in zip(cells, classes, strict=True)) + "</tr>"

    return Html(f"<table>{line(heading, 'th')}{''.join(line(cells, 'td') for cells in rows)}</table>")


def facts(pairs: Mapping[str, object]) -> Html:
    """Key facts, one in a row: its name and its value.

    >>> facts({"grade": "A"})
    '<table><tr><th class="t">grade</th><td class="t">A</td></tr></table>'
    """
    lines = (f'<tr><th class="t">{text(name)}</th><td class="t">{text(value)}</td></tr>' for name, value in pairs.items())
    return Html(f"<table>{''.join(lines)}</table>")


def title(name: object, rest: object = "") -> Html:
    """The first line: a name in bold, and what is said of it.

    >>> title("churn: grade A", "Clearly better.")
    '<p><b>churn: grade A</b>. Clearly better.</p>'
    """
    said = text(rest) if isinstance(rest, Html) else Html(escape(str(rest)))
    return Html(f"<p><b>{text(name)}</b>{'. ' if said else ''}{said}</p>")


def note(lines: Iterable[object]) -> Html:
    """Smaller print below a table; nothing without lines.

    >>> note(["7 rows", "a < b"]), note([])
    ('<p class="quiet">7 rows<br>a &lt; b</p>', '')
    """
    said = "<br>".join(value if isinstance(value, Html) else escape(str(value)) for value in lines)
    return Html(f'<p class="quiet">{said}</p>' if said else "")


def folded(summary: object, *parts: Html) -> Html:
    """Parts that open on a click.

    >>> folded("more", note(["x"]))
    '<details><summary>more</summary><p class="quiet">x</p></details>'
    """
    return Html(f"<details><summary>{text(summary)}</summary>{''.join(parts)}</details>")


def block(*parts: Html) -> Html:
    """What `_repr_html_` returns: the parts under the one style. A block within a block is taken as it is, without a second style.

    >>> block(note(["x"])).endswith('<p class="quiet">x</p></div>')
    True
    """
    inner = "".join(part.replace(_HEAD, "<div>") for part in parts)
    return Html(f"{_HEAD}{inner}</div>")


_HEAD = f'<div class="persopredict"><style>{_STYLE}</style>'
