"""Whom to contact for a category: an affinity's slider, over the customers in whose lists the category stands.

An evaluation of lists keeps of each category how many takers it expected and how many came, not of its likeliest tenth: what an audience
would reach is what the probabilities promise, and beside it stands whether they were right of this category in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from persopredict import charts
from persopredict.ranking_results import RankingEvaluation
from persopredict.report.audiences import CHOSEN
from persopredict.report.blocks import Block, Cell, Choice, Figure, Part, Slider, Step, Table
from persopredict.report.drawing import figure, number
from persopredict.report.gathering import TargetReport
from persopredict.report.reach import Reach
from persopredict.report.texts import Texts

#: Categories that the chart shows; the table has all.
_DRAWN = 12


def part(say: Texts, told: TargetReport, evaluation: RankingEvaluation, id: str) -> Part | None:
    """The part of the section; None where no category is published."""
    if not told.reach:
        return None
    tests = _tests(evaluation)
    choices = tuple(_choice(say, reach, told.scored, tests) for reach in told.reach)
    # What everybody takes needs no choosing: shown first is the category of which it brings most takers more than chance would.
    gained = [_gained(reach) for reach in told.reach]
    opened = gained.index(max(gained))
    words = {
        "end": say("audience.slider_end"),
        "size": say("audience.customers"),
        "expected": say("reach.expected"),
        "of_all": "" if all(choice.steps[0].gain == "–" for choice in choices) else say("reach.of_all"),
        "lift": say("audience.lift"),
        "precision": say("reach.precision"),
        "interval": "",
    }
    slider = Slider(f"{id}-slider", say("audience.slider"), choices, CHOSEN, words, (), say("reach.choose"), opened)
    drawn = _tenths(say, told, choices, id)
    blocks: tuple[Block, ...] = (slider,) if drawn is None else (slider, drawn)
    return Part(f"{id}-audience", say("reach.heading"), blocks, say("reach.lead"))


def _gained(reach: Reach) -> float:
    """Takers among the audience that is marked at first, beyond those of as many customers taken at random."""
    found = reach.promise(CHOSEN / 100)
    return found.expected - found.size * reach.average if math.isfinite(reach.average) else 0.0


@dataclass(frozen=True, slots=True)
class _Test:
    """A category in the tests: whether everybody was asked for it, takers expected and come, and how far chance lets the two differ."""

    asked_of_all: bool
    expected: float
    actual: int
    by_chance: float

    @property
    def verdict(self) -> str:
        """Whether its probabilities were right, or which way they were wrong."""
        if abs(self.expected - self.actual) <= self.by_chance:
            return "right"
        return "more" if self.actual > self.expected else "fewer"


def _tests(evaluation: RankingEvaluation) -> dict[str, _Test]:
    """By category."""
    held = evaluation.pooled.categories
    columns = zip(held.category, held.asked, held.expected, held.actual, held.by_chance, strict=True)
    lists = evaluation.pooled.asked["all"]
    everyone = lists.customers + lists.left_out
    return {name: _Test(asked == everyone, expected, actual, chance) for name, asked, expected, actual, chance in columns}


def _choice(say: Texts, reach: Reach, scored: int, tests: dict[str, _Test]) -> Choice:
    """One category at each hundredth of its customers."""
    # Of so many categories that not everybody was asked for each, it is not known how many were.
    known = tests.get(reach.category)
    asked = scored if known is not None and known.asked_of_all else None
    steps = tuple(_step(say, reach, hundredth, asked) for hundredth in range(1, 101))
    return Choice(reach.category, say("reach.of_customers", count=reach.customers), steps, _note(say, known), reach.customers)


def _step(say: Texts, reach: Reach, hundredth: int, asked: int | None) -> Step:
    found = reach.promise(hundredth / 100, asked)
    share, size, expected = say.percent(hundredth / 100, 0), say.number(found.size), say.rounded(found.expected)
    precision, lift, gain = say.percent(found.precision, 1), say.number(found.lift, 1), say.percent(found.gain, 0)
    said = say("reach.value", share=share, size=size, expected=expected, precision=precision, lift=lift)
    return Step(share, size, expected, precision, "", lift, gain, said)


def _note(say: Texts, known: _Test | None) -> str:
    """Whether the category's probabilities were right in the tests."""
    if known is None:
        return say("reach.untested")
    gap = say.percent(abs(known.actual / known.expected - 1)) if known.expected else "–"
    counts: dict[str, str | float] = {"expected": say.rounded(known.expected), "actual": known.actual}
    return say(f"reach.{known.verdict}", **counts | ({} if known.verdict == "right" else {"gap": gap}))


def _tenths(say: Texts, told: TargetReport, choices: tuple[Choice, ...], id: str) -> Figure | None:
    """Every category at the share that is marked at first."""
    rows: list[tuple[Cell, ...]] = []
    bars: list[charts.Bar] = []
    for reach, choice in zip(told.reach, choices, strict=True):
        step = choice.steps[CHOSEN - 1]
        shown = (say.number(choice.customers), step.size, step.expected, step.precision, step.lift)
        rows.append((Cell(choice.name), *(number(text) for text in shown)))
        if len(bars) < _DRAWN:
            said = say("reach.of", expected=step.expected, size=step.size)
            bars.append(charts.Bar(choice.name, reach.promise(CHOSEN / 100).expected, said))
    title = say("reach.title", share=say.percent(CHOSEN / 100, 0))
    head = ("categories.category", "reach.lists", "audience.contacted", "categories.expected", "words.precision_word", "words.lift_word")
    table = Table(title, tuple(say(key) for key in head), tuple(rows), hidden_caption=True)
    measure = say("categories.expected")
    return figure(f"{id}-reach", title, lambda words: charts.bars(bars, measure=measure, words=words), table, say)
