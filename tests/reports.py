"""Made shops with something to report, and what a report's HTML holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import polars as pl

from persopredict.events import EventLog
from persopredict.job import Job
from persopredict.targets import Affinity, Churn
from tests import made

#: Names that a careless page would run, break off at, turn around or be torn apart by.
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>document.title='taken'</script>",
    "<img src=https://example.com/x onerror=alert(2)>",
    "\"><svg/onload=alert(3)>'",
    "\u202egnitrow si siht\u202c",
    "مرحبا بالعالم",
    "🧀 cheese 👩‍👩‍👧 {{ 7 * 7 }} {value}",
    "x" * 300,
    "&amp; &lt;b&gt; <!-- <script>",
    "line one\nline two\u2028line three",
)
EVENT = "<b>purchase</b></script>"
PROJECT = "Bazaar </title><script>alert(4)</script> & sons"
TASTE = Affinity(EVENT, "14d", by="family", active_within="56d", top=4, top_new=2, name="taste")
STAYING_AWAY = Churn(EVENT, "14d", active_within="56d", name="staying_away")


def shop(folder: Path, **settings) -> Job:
    """A job of churn, of a conversion, and of something too rare for a model."""
    chosen = {"project": "made shop", "report": folder / "report.html"} | settings
    return made.job(folder, of=made.events(rare=True), targets=(made.CHURN, made.CONVERSION, made.RARE), **chosen)


def bazaar(folder: Path, **settings) -> Job:
    """A job of churn and of an affinity whose categories, and whose very event, have hostile names."""
    frame = pl.DataFrame(made.tastes().events)
    families = sorted(frame["family"].drop_nulls().unique())
    renamed = dict(zip(families, HOSTILE, strict=False))
    event = pl.when(pl.col("event") == "purchase").then(pl.lit(EVENT)).otherwise(pl.col("event"))
    rows = frame.with_columns(family=pl.col("family").replace(renamed), event=event)
    log = EventLog(rows, observed=(made.tastes().start, made.tastes().end), category=("department", "family"))
    chosen = {"project": PROJECT, "report": folder / "report.html"} | settings
    predictors = [made.predictor(STAYING_AWAY), made.Predictor(TASTE, estimator=made.learner(n_estimators=8))]
    return made.job(folder, of=log, predictors=predictors, retrain_every="14d", **chosen)


_VOID = {"meta", "link", "input", "br", "img", "hr"}


@dataclass
class Element:
    """A tag with its attributes, its text, and the tags that it stands in."""

    tag: str
    attributes: dict[str, str]
    within: tuple[str, ...]
    text: str = ""


@dataclass
class Html(HTMLParser):
    """A page read strictly: tags closed in order, ids given once."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, text: str) -> Html:
        page = cls()
        page.feed(text)
        page.close()
        assert not page.open, [element.tag for element in page.open]
        return page

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attributes}, tuple(one.tag for one in self.open))
        self.elements.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        assert closed.tag == tag, f"<{closed.tag}> is closed by </{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def by_id(self, id: str) -> Element:
        (found,) = [element for element in self.elements if element.attributes.get("id") == id]
        return found

    @property
    def text(self) -> str:
        """What a reader reads: no scripts, no styles."""
        body = self.all("body")[0].text
        for element in self.all("script", "style"):
            body = body.replace(element.text, "") if "body" in element.within else body
        return body
