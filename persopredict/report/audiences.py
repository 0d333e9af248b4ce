"""Whom to contact: what an audience of any size reaches, for each hundredth of the customers."""

from __future__ import annotations

from persopredict import charts
from persopredict.curves import Audience, Curve
from persopredict.report.asked import Asked
from persopredict.report.blocks import Block, Cell, Choice, Grid, Part, Slider, Step, Table, Text
from persopredict.report.drawing import figure, number
from persopredict.report.texts import Texts
from persopredict.results import Evaluation

#: The audience that is marked at first, and that a card speaks of, in hundredths.
CHOSEN = 10
_SHOWN = (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def part(say: Texts, asked: Asked, evaluation: Evaluation, scored: int, id: str) -> Part:
    """The part of the section, with a slider where the model keeps a curve."""
    heading, lead = say("audience.heading"), say("audience.lead")
    curve = evaluation.pooled.curve
    if not curve.rows or not scored:
        return Part(f"{id}-audience", heading, (Text(say("audience.none" if scored else "audience.nobody"), "note"),))
    audiences = [evaluation.audience(share=hundredth / 100, of=scored) for hundredth in range(1, 101)]
    steps = tuple(step(say, asked, audience, hundredth) for hundredth, audience in enumerate(audiences, 1))
    ways = {
        "gain": lambda words: charts.gain(curve, audience=CHOSEN / 100, words=words),
        "precision": lambda words: charts.precision(curve, audience=CHOSEN / 100, of=scored, words=words),
    }
    titles = {name: say(f"audience.{name}_title") for name in ways}
    drawn = [figure(f"{id}-{name}", titles[name], draw, _table(say, name, titles[name], steps), say) for name, draw in ways.items()]
    beside = tuple(found for found in drawn if found is not None)
    lift = figure(f"{id}-lift", say("audience.lift_title"), lambda words: charts.lift(curve, words=words), deciles(say, curve), say)
    choice = Choice(asked.title, say("audience.of_customers", count=scored), steps, customers=scored)
    slider = Slider(
        f"{id}-slider", say("audience.slider"), (choice,), CHOSEN, _words(say, asked), tuple(found.id for found in beside)
    )  # fmt: skip
    blocks: list[Block] = [slider]
    blocks += [Grid(beside)] if beside else []
    blocks += [lift] if lift is not None else []
    return Part(f"{id}-audience", heading, tuple(blocks), lead)


def step(say: Texts, asked: Asked, audience: Audience, hundredth: int) -> Step:
    """What the outputs say of an audience."""
    share, size, expected = say.percent(hundredth / 100, 0), say.number(audience.size), say.rounded(audience.expected)
    precision, gain = say.percent(audience.precision, 1), say.percent(audience.gain, 0)
    said = say("audience.value", share=share, size=size, expected=expected, outcome=asked.outcome(), precision=precision, gain=gain)
    interval, lift, note = say.between(audience.interval), say.number(audience.lift, 1), _contradicted(say, audience)
    return Step(share, size, expected, precision, interval, lift, gain, said, note)


def _contradicted(say: Texts, audience: Audience) -> str:
    """What to count on where the tests held another number than the probabilities promise; "" where their interval holds it."""
    lower, upper = (bound * audience.size for bound in audience.interval)
    if not (audience.expected < lower or audience.expected > upper):
        return ""
    came, expected = say.rounded(audience.precision * audience.size), say.rounded(audience.expected)
    if came == expected:
        return ""
    return say("audience.less" if audience.expected > upper else "audience.more", came=came, expected=expected)


def deciles(say: Texts, curve: Curve) -> Table:
    """Lift and gain of each tenth."""
    head = (
        "audience.decile",
        "audience.tested",
        "came.expected",
        "audience.came",
        "words.precision_word",
        "words.lift_word",
        "words.gain_word",
    )
    rows = (
        (
            Cell(say.number(found.decile)), number(say.number(found.rows, 0)), number(say.rounded(found.expected)),
            number(say.rounded(found.positives)), number(say.percent(found.precision, 1)), number(say.number(found.lift, 2)),
            number(say.percent(found.gain, 1)),
        )
        for found in curve.deciles
    )  # fmt: skip
    return Table(say("audience.lift_title"), tuple(say(key) for key in head), tuple(rows), hidden_caption=True)


#: What stands in the table below a chart: heading, and the output of the slider.
_COLUMNS = {
    "gain": (("audience.customers", "size"), ("came.expected", "expected"), ("words.gain_word", "gain")),
    "precision": (("words.precision_word", "precision"), ("page.ninety_five", "interval"), ("words.lift_word", "lift")),
}


def _table(say: Texts, name: str, title: str, steps: tuple[Step, ...]) -> Table:
    columns = _COLUMNS[name]
    shown = (steps[hundredth - 1] for hundredth in _SHOWN)
    rows = tuple((Cell(found.share), *(number(getattr(found, output)) for _, output in columns)) for found in shown)
    head = (say("audience.contacted"), *(say(heading) for heading, _ in columns))
    return Table(title, head, rows, hidden_caption=True)


def _words(say: Texts, asked: Asked) -> dict[str, str]:
    """The names of the outputs."""
    return {
        "end": say("audience.slider_end"),
        "size": say("audience.customers"),
        "expected": say("audience.expected", outcome=asked.outcome()),
        "precision": asked.outcome("came"),
        "interval": say("page.ninety_five"),
        "lift": say("audience.lift"),
        "gain": say("audience.gain"),
        "of_all": asked.outcome("of_all"),
    }
