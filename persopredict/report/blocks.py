"""What a report is made of: values that the page's template draws, their texts said already and not yet escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["plain", "note", "good", "warning", "bad"]
_LONGEST_WORD = 26


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: words, or a number (`number`), which ends at the right; `note` in small print below it; `language` where it is not
    the page's.
    """

    text: str
    number: bool = False
    language: str = ""
    strong: bool = False
    tone: Tone = "plain"
    note: str = ""

    @property
    def long(self) -> bool:
        """Whether some word of it may be broken anywhere, for no column is as wide."""
        return max(map(len, self.text.split()), default=0) > _LONGEST_WORD


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; the first cell of a row is its heading. `caption` is drawn, or only read out where `hidden_caption`."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    hidden_caption: bool = False
    kind: Literal["table"] = field(default="table", init=False)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers."""
        return tuple(all(row[place].number for row in self.rows) and bool(self.rows) for place in range(len(self.head)))


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and its values. `id`: in the page; `spec`: Vega-Lite, its `description` the chart in a sentence; `compact`: a
    small one of several beside each other.
    """

    id: str
    title: str
    spec: dict[str, Any]
    table: Table
    note: str = ""
    compact: bool = False
    kind: Literal["figure"] = field(default="figure", init=False)

    @property
    def description(self) -> str:
        """The chart in a sentence."""
        return str(self.spec.get("description", self.title))


@dataclass(frozen=True, slots=True)
class Grid:
    """Figures beside each other where there is room."""

    figures: tuple[Figure, ...]
    title: str = ""
    kind: Literal["grid"] = field(default="grid", init=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; of another tone than "plain" a notice with a mark. `language` where it is not the page's."""

    text: str
    tone: Tone = "plain"
    title: str = ""
    language: str = ""
    kind: Literal["text"] = field(default="text", init=False)


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    title: str
    items: tuple[Cell, ...]
    kind: Literal["items"] = field(default="items", init=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    pairs: tuple[tuple[str, Cell], ...]
    kind: Literal["facts"] = field(default="facts", init=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One position of the slider: what each output then says, and all of it in a sentence."""

    share: str
    size: str
    expected: str
    precision: str
    interval: str
    lift: str
    gain: str
    said: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a slider may be about: audiences of 1% to 100% of `customers`, `steps` in that order; `of`: of whom, in words; `note`: what
    is to be known of it at any step.
    """

    name: str
    of: str
    steps: tuple[Step, ...]
    note: str = ""
    customers: int = 0


@dataclass(frozen=True, slots=True)
class Slider:
    """Audiences of one of the `choices`, which a list called `choose` names where there are several.

    `chosen`: the position at first, from 1; `opened`: the place of the first choice. `charts`: ids of those that follow it.
    """

    id: str
    label: str
    choices: tuple[Choice, ...]
    chosen: int
    words: dict[str, str]
    charts: tuple[str, ...]
    choose: str = ""
    opened: int = 0
    kind: Literal["slider"] = field(default="slider", init=False)

    @property
    def choice(self) -> Choice:
        """What it is about at first."""
        return self.choices[self.opened]

    @property
    def first(self) -> Step:
        """The step that is shown at first."""
        return self.choice.steps[self.chosen - 1]


Block = Table | Figure | Grid | Text | Items | Facts | Slider


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a section, under a heading of its own; `folded`: closed at first, open on paper."""

    id: str
    heading: str
    blocks: tuple[Block, ...]
    lead: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Badge:
    """A grade: a letter, its words, and its tone."""

    letter: str
    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: of one target, or of the data. `code`: its name in tables."""

    id: str
    heading: str
    parts: tuple[Part, ...]
    lead: str = ""
    code: str = ""
    badge: Badge | None = None
    details: tuple[str, ...] = ()
    notices: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """A target at a glance."""

    id: str
    heading: str
    question: str
    badge: Badge
    advice: Cell
    warnings: tuple[str, ...]
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    language: str
    title: str
    project: str
    as_of: str
    facts: tuple[tuple[str, str], ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    words: tuple[tuple[str, str], ...]
    made: str


def figures(blocks: Sequence[Block]) -> list[Figure]:
    """The charts among blocks, those of grids too."""
    found: list[Figure] = []
    for block in blocks:
        found += [block] if isinstance(block, Figure) else list(block.figures) if isinstance(block, Grid) else []
    return found
