"""The report as one HTML file: the page drawn by its template, with styles, scripts and charts inside, and nothing from outside.

The browser is told so: the content security policy allows no request at all, and of scripts those alone whose digests it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from persopredict.errors import DataError, Problem
from persopredict.report import drawing
from persopredict.report.blocks import Part, Slider, figures
from persopredict.report.gathering import ReportData
from persopredict.report.page import page
from persopredict.report.texts import Texts
from persopredict.wording import Wording

#: The default name, beside the warehouse.
NAME = "report.html"


def rendered(data: ReportData, wording: Wording | None = None) -> str:
    """The report as HTML, in the language of `wording`, English by default."""
    shown = page(data, wording)
    say = Texts(wording or Wording(), data.timezone)
    parts = [part for section in shown.sections for part in section.parts]
    scripts = [_bundle(), _source("page.js")]
    content = {
        "theme": drawing.theme(say),
        "charts": {figure.id: figure.spec for part in parts for figure in figures(part.blocks)},
        "sliders": {slider.id: _steps(slider) for slider in _sliders(parts)},
    }
    template = _environment().get_template("page.html.j2")
    whole: str = template.render(
        page=shown, say=say, styles=_source("page.css"), colors=drawing.colors(), scripts=scripts, policy=_policy(scripts),
        content=_json(content),
    )  # fmt: skip
    return whole


def write(path: str | Path, data: ReportData, wording: Wording | None = None) -> Path:
    """Write the report to `path`, replacing what is there whole or not at all; returns the path.

    Raises `DataError` if it can't be written.
    """
    file = Path(path)
    text = rendered(data, wording)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        problem = Problem(
            "report_unwritable", f"{file} can't be written: {error.strerror or error}", remedy="name a file in a folder that can be written"
        )
        raise DataError("the report was not written", [problem]) from None
    return file


def _json(content: object) -> str:
    """JSON that may stand in a page: nothing in it begins a tag or an entity."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _sliders(parts: Sequence[Part]) -> list[Slider]:
    return [block for part in parts for block in part.blocks if isinstance(block, Slider)]


def _steps(slider: Slider) -> dict[str, Any]:
    """What the page's script shows: of each choice the texts of its steps, in the order in which the script knows them."""
    names = ("share", "size", "expected", "precision", "interval", "lift", "gain", "note", "said")
    choices = [
        {"of": choice.of, "about": choice.note, "steps": [[getattr(step, name) for name in names] for step in choice.steps]}
        for choice in slider.choices
    ]
    return {"charts": slider.charts, "choices": choices}


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, as vl-convert brings them."""
    import vl_convert

    # Inside a page the end of a script would end it, whatever the string it stands in.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return str(bundle).replace("</script", "<\\/script").replace("<!--", "<\\!--").strip()


def _policy(scripts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@cache
def _source(name: str) -> str:
    from importlib.resources import files

    return files("persopredict.report").joinpath("templates", name).read_text("utf-8").strip()


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("persopredict.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
