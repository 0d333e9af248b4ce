"""How good a model of customers is: its grade, the rules beside it, whether its probabilities are right, and whether it lasts."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from persopredict import charts
from persopredict.calibration import Choice
from persopredict.errors import Problem
from persopredict.metrics import Metrics
from persopredict.report.blocks import Badge, Block, Cell, Items, Part, Table, Text, Tone
from persopredict.report.drawing import bounded, figure, number
from persopredict.report.texts import Texts
from persopredict.results import MODEL, Evaluation

_TONES: dict[str, Tone] = {"A": "good", "B": "good", "C": "bad"}


def badge(say: Texts, grade: str) -> Badge:
    """A grade and its words."""
    return Badge(grade, say(f"grade.{grade}"), _TONES[grade]) if grade in _TONES else Badge("–", say("grade.none"), "note")


def baseline(say: Texts, name: str) -> str:
    """A baseline in words; as it is called where nobody knows it."""
    return say(f"baseline.{name}") if say.has(f"baseline.{name}") else name.replace("_", " ")


def kind(say: Texts, name: str) -> str:
    """A kind of model in words."""
    return say(f"kind.{name}") if say.has(f"kind.{name}") else name


def parts(say: Texts, evaluation: Evaluation, id: str) -> list[Part]:
    """How good it is, how right, how lasting."""
    return [_grade(say, evaluation, id), _reliability(say, evaluation, id), _stability(say, evaluation, id)]


def at_cutoffs(say: Texts, cutoffs: list[datetime]) -> str:
    """How many test dates, the first and the last."""
    return say("quality.cutoffs", count=len(cutoffs), first=say.date(cutoffs[0]), last=say.date(cutoffs[-1])) if cutoffs else "–"


def suspicions(say: Texts, suspected: tuple[Problem, ...]) -> list[Block]:
    """What looks like leakage."""
    if not suspected:
        return []
    items = []
    for problem in suspected:
        message, remedy, language = say.problem(problem)
        items.append(Cell(f"{problem.source}: {message} {remedy}", language=language))
    return [Items(say("quality.suspected"), tuple(items))]


def chosen(say: Texts, kind_: str, kinds: int) -> list[Block]:
    """Which kind of model serves, where several competed."""
    return [Text(say("quality.kind", kind=kind(say, kind_), count=kinds))] if kind_ and kinds > 1 else []


def _grade(say: Texts, evaluation: Evaluation, id: str) -> Part:
    pooled = evaluation.pooled
    cutoffs = at_cutoffs(say, [fold.cutoff for fold in evaluation.folds if fold.cutoff is not None])
    tested = say("quality.tested", rows=pooled.rows, positives=pooled.positives, rate=say.percent(pooled.rate), cutoffs=cutoffs)
    meaning = Text(say(f"grade.{evaluation.grade}_meaning"), _TONES[evaluation.grade], title=say("grade.badge", grade=evaluation.grade))
    blocks: list[Block] = [
        meaning,
        Text(f"{lead(say, evaluation)} {tested}"),
        _predictors(say, evaluation),
        Text(say("quality.auc_note", half=say.number(0.5, 1)), "note"),
    ]
    blocks += chosen(say, evaluation.kind, len(evaluation.kinds))
    blocks += suspicions(say, evaluation.suspected)
    return Part(f"{id}-quality", say("quality.heading"), tuple(blocks))


def lead(say: Texts, evaluation: Evaluation) -> str:
    """By how much it is ahead of the best baseline."""
    lower, upper = evaluation.skill_interval
    name = baseline(say, evaluation.best_baseline)
    if not math.isfinite(evaluation.skill + lower + upper):
        return say("grade.skill_unknown", baseline=name)
    bounds = {"lower": say.percent(lower, 1), "upper": say.percent(upper, 1)}
    key = "grade.skill" if lower > 0 else "grade.skill_worse"
    return say(key, baseline=name, skill=say.percent(evaluation.skill, 1), **bounds)


def _predictors(say: Texts, evaluation: Evaluation) -> Table:
    pooled = evaluation.pooled
    head = ("predictor", "auc", "log_loss", "lift", "skill")
    rows = [(Cell(say("quality.model"), strong=True), *_cells(say, evaluation, MODEL, pooled.model), number("–"))]
    for name, metrics in sorted(pooled.baselines.items(), key=lambda entry: (entry[1].log_loss, entry[0])):
        against = pooled.against.get(name)
        ahead = number("–")
        if against is not None and math.isfinite(against.skill):
            verdict = say("quality.ahead" if against.ahead else "quality.level")
            ahead = Cell(say.percent(against.skill, 1), number=True, tone="good" if against.ahead else "bad", note=verdict)
        rows.append((Cell(baseline(say, name)), *_cells(say, evaluation, name, metrics), ahead))
    return Table(say("quality.table"), tuple(say(f"quality.{key}") for key in head), tuple(rows))


def _cells(say: Texts, evaluation: Evaluation, name: str, metrics: Metrics) -> tuple[Cell, ...]:
    """AUC, log-loss and lift; of the model with their intervals."""
    strong = name == MODEL
    found = []
    for metric, digits in (("auc", 3), ("log_loss", 3), ("lift_top_decile", 2)):
        value = say.number(getattr(metrics, metric), digits)
        lower, upper = evaluation.pooled.interval(metric, name) if strong else (float("nan"), float("nan"))
        found.append(bounded(say, value, (say.number(lower, digits), say.number(upper, digits)), strong=strong))
    return tuple(found)


def _reliability(say: Texts, evaluation: Evaluation, id: str) -> Part:
    pooled, bins = evaluation.pooled, evaluation.pooled.reliability
    names = ("reliability.said", "reliability.came", "reliability.rows", "page.ninety_five", "reliability.verdict")
    rows = (
        (
            Cell(say.percent(found.predicted, 1)), number(say.percent(found.observed, 1)), number(say.number(found.rows)),
            number(say.between((found.lower, found.upper))), Cell(say("page.yes" if found.holds else "page.no")),
        )
        for found in reversed(bins)
    )  # fmt: skip
    table = Table(say("reliability.title"), tuple(say(name) for name in names), tuple(rows), hidden_caption=True)
    drawn = figure(f"{id}-reliability", say("reliability.title"), lambda words: charts.reliability(bins, words=words), table, say)
    model = pooled.model
    gap = say(
        "reliability.off" if model.ece > model.ece_chance_p95 else "reliability.fine",
        ece=say.percent(model.ece, 1), chance=say.percent(model.ece_chance_p95, 1),
    )  # fmt: skip
    text = f"{say('reliability.lead', holds=sum(found.holds for found in bins), bins=len(bins))} {gap}"
    return Part(f"{id}-reliability", say("reliability.heading"), () if drawn is None else (drawn,), text)


def _stability(say: Texts, evaluation: Evaluation, id: str) -> Part:
    folds = evaluation.folds
    if len(folds) < 2:
        return Part(f"{id}-stability", say("stability.heading"), (Text(say("stability.one"), "note"),))
    head = (
        say("stability.cutoff"),
        say("stability.rows"),
        say("stability.rate"),
        say("quality.auc"),
        say("quality.log_loss"),
        say("quality.skill"),
    )
    rows = []
    for fold in folds:
        skill, bounds = fold.skill(evaluation.best_baseline)
        auc = fold.interval("auc")
        rows.append(
            (
                Cell(say.date(fold.cutoff)), number(say.number(fold.rows)), number(say.percent(fold.rate, 1)),
                bounded(say, say.number(fold.model.auc, 3), (say.number(auc[0], 3), say.number(auc[1], 3))),
                number(say.number(fold.model.log_loss, 3)),
                bounded(say, say.percent(skill, 1), (say.percent(bounds[0], 1), say.percent(bounds[1], 1))),
            )
        )  # fmt: skip
    table = Table(say("stability.title"), head, tuple(rows), hidden_caption=True)
    found = [
        charts.Step(say.date(fold.cutoff), step.value, step.lower, step.upper, step.rows)
        for fold, step in zip(folds, charts.steps(folds), strict=True)
    ]
    drawn = figure(
        f"{id}-stability", say("stability.title"), lambda words: charts.trend(found, measure="auc", words=dated(say, words)), table, say
    )
    return Part(f"{id}-stability", say("stability.heading"), (table,) if drawn is None else (drawn,), say("stability.lead"))


def dated(say: Texts, words: charts.Words) -> charts.Words:
    """A chart's words, its axis of test cutoffs named as the page names it."""
    name = say("stability.cutoff")
    return replace(words, texts={**words.texts, "trend.x": name[:1].lower() + name[1:]})


def calibration(say: Texts, choice: Choice | None) -> str:
    """How the shipped probabilities are calibrated."""
    return say("page.unknown") if choice is None else say("model.none") if choice.kind == "none" else choice.kind
