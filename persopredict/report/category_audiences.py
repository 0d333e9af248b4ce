"""Whom to contact for a category: an affinity's slider, over the customers in whose lists the category stands.

An evaluation of lists keeps of each category how many takers it expected and how many came, not of its likeliest tenth: what an audience
would reach is what the probabilities promise, and beside it stands whether they were right of this category in the tests.
"""

from __future__ import annotations

import math

from persopredict.ranking_results import RankingEvaluation
from persopredict.report.audiences import CHOSEN
from persopredict.report.blocks import Cell, Choice, Part, Slider, Step, Table
from persopredict.report.drawing import number
from persopredict.report.gathering import TargetReport
from persopredict.report.reach import Reach
from persopredict.report.texts import Texts


def part(say: Texts, told: TargetReport, evaluation: RankingEvaluation, id: str) -> Part | None:
    """The part of the section; None where no category is published."""
    if not told.reach:
        return None
    tests = _tests(evaluation)
    choices = tuple(_choice(say, reach, told.scored, tests) for reach in told.reach)
    # What everybody takes tells nothing of a slider: the category that its likeliest are furthest ahead in is shown first.
    lifts = [reach.promise(CHOSEN / 100).lift for reach in told.reach]
    opened = max(range(len(lifts)), key=lambda place: (lifts[place] if math.isfinite(lifts[place]) else 0.0, -place))
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
    return Part(f"{id}-audience", say("reach.heading"), (slider, _table(say, choices)), say("reach.lead"))


def _tests(evaluation: RankingEvaluation) -> dict[str, tuple[int, float, int, float]]:
    """Of each category in the tests: asked, expected, actual, by chance."""
    held = evaluation.pooled.categories
    columns = zip(held.category, held.asked, held.expected, held.actual, held.by_chance, strict=True)
    lists = evaluation.pooled.asked["all"]
    everyone = lists.customers + lists.left_out
    return {name: (asked == everyone, expected, actual, chance) for name, asked, expected, actual, chance in columns}


def _choice(say: Texts, reach: Reach, scored: int, tests: dict[str, tuple[int, float, int, float]]) -> Choice:
    """One category at each hundredth of its customers."""
    # Of so many categories that not everybody was asked for each, it is not known how many were.
    known = tests.get(reach.category)
    asked = scored if known is not None and known[0] else None
    steps = tuple(_step(say, reach, hundredth, asked) for hundredth in range(1, 101))
    return Choice(reach.category, say("reach.of_customers", count=reach.customers), steps, _note(say, known))


def _step(say: Texts, reach: Reach, hundredth: int, asked: int | None) -> Step:
    found = reach.promise(hundredth / 100, asked)
    share, size, expected = say.percent(hundredth / 100, 0), say.number(found.size), say.rounded(found.expected)
    precision, lift, gain = say.percent(found.precision, 1), say.number(found.lift, 1), say.percent(found.gain, 0)
    said = say("reach.value", share=share, size=size, expected=expected, precision=precision, lift=lift)
    return Step(share, size, expected, precision, "", lift, gain, said)


def _note(say: Texts, known: tuple[int, float, int, float] | None) -> str:
    """Whether the category's probabilities were right in the tests."""
    if known is None:
        return say("reach.untested")
    _, expected, actual, chance = known
    verdict = "right" if abs(expected - actual) <= chance else "more" if actual > expected else "fewer"
    return say(f"reach.{verdict}", expected=say.rounded(expected), actual=actual)


def _table(say: Texts, choices: tuple[Choice, ...]) -> Table:
    """Every category at the share that is marked at first."""
    head = ("categories.category", "categories.customers", "audience.customers", "reach.expected", "words.precision_word", "words.lift_word")
    rows = []
    for choice in choices:
        step = choice.steps[CHOSEN - 1]
        listed = say.number(int(choice.count))
        rows.append((Cell(choice.name), *(number(text) for text in (listed, step.size, step.expected, step.precision, step.lift))))
    return Table(say("reach.title", share=say.percent(CHOSEN / 100, 0)), tuple(say(key) for key in head), tuple(rows))
