"""How good the lists of an affinity are: beside simple rules, taken before and new, and how right the takers of each category are."""

from __future__ import annotations

import math

from persopredict import charts
from persopredict.ranking_results import HEADLINE, RankingEvaluation
from persopredict.report.blocks import Block, Cell, Figure, Grid, Part, Table, Text, Tone
from persopredict.report.drawing import bounded, figure, number
from persopredict.report.quality import at_cutoffs, baseline, dated
from persopredict.report.texts import Texts
from persopredict.results import MODEL

_TONES: dict[str, Tone] = {"A": "good", "B": "good", "C": "bad"}
#: The texts of the headline metrics.
_METRICS = {
    "recall_at_10": "recall", "ndcg_at_10": "ndcg", "hit_rate_at_10": "hit", "repeat_ndcg_at_10": "repeat", "explore_ndcg_at_10": "explore",
}  # fmt: skip
#: Drawn are these; the table has all.
_DRAWN = ("ndcg_at_10", "explore_ndcg_at_10")
_CATEGORIES = 12


def parts(say: Texts, evaluation: RankingEvaluation, id: str) -> list[Part]:
    """How good the lists are, how right their probabilities, how lasting."""
    return [_grade(say, evaluation, id), _calibration(say, evaluation, id), _stability(say, evaluation, id)]


def found(say: Texts, evaluation: RankingEvaluation) -> str:
    """The share of what customers took that stood among the first ten of their lists."""
    return say.percent(evaluation.pooled.model.all.recall_at_10)


def lead(say: Texts, evaluation: RankingEvaluation) -> str:
    """By how much the lists are better than those of the best baseline; "" where nobody took anything."""
    gain = evaluation.gains["ndcg_at_10"]
    lower, upper = gain.relative_interval
    if not math.isfinite(gain.relative + lower + upper):
        return ""
    bounds = {"lower": say.percent(lower, 1), "upper": say.percent(upper, 1)}
    key = "grade.lists" if lower > 0 else "grade.lists_worse"
    return say(key, baseline=baseline(say, gain.baseline), gain=say.percent(gain.relative, 1), **bounds)


def _grade(say: Texts, evaluation: RankingEvaluation, id: str) -> Part:
    pooled = evaluation.pooled
    cutoffs = at_cutoffs(say, [fold.cutoff for fold in evaluation.folds if fold.cutoff is not None])
    tested = say("quality.tested_lists", lists=pooled.asked["all"].customers, cutoffs=cutoffs)
    meaning = Text(say(f"grade.{evaluation.grade}_lists"), _TONES[evaluation.grade], title=say("grade.badge", grade=evaluation.grade))
    blocks: list[Block] = [meaning, Text(f"{lead(say, evaluation)} {tested}".strip()), _predictors(say, evaluation)]
    drawn = [one for name in _DRAWN if (one := _beside(say, evaluation, name, id)) is not None]
    blocks += [Grid(tuple(drawn))] if drawn else []
    blocks.append(Text(say("quality.lists_note"), "note"))
    return Part(f"{id}-quality", say("quality.heading"), tuple(blocks))


def _ranked(evaluation: RankingEvaluation) -> list[str]:
    """The baselines, best first."""
    return sorted(evaluation.pooled.baselines, key=lambda name: (-evaluation.pooled.baselines[name].all.ndcg_at_10, name))


def _predictors(say: Texts, evaluation: RankingEvaluation) -> Table:
    pooled = evaluation.pooled
    reached = {name: lists.headline() for name, lists in pooled.predictors().items()}
    rows = []
    for name in (MODEL, *_ranked(evaluation)):
        strong, cells = name == MODEL, []
        for metric, *_ in HEADLINE:
            value = say.number(reached[name][metric], 3)
            lower, upper = pooled.intervals.get(name, {}).get(metric, (float("nan"),) * 2) if strong else (float("nan"),) * 2
            cells.append(bounded(say, value, (say.number(lower, 3), say.number(upper, 3)), strong=strong))
        rows.append((Cell(say("quality.model") if strong else baseline(say, name), strong=strong), *cells))
    head = (say("quality.predictor"), *(say(f"quality.{_METRICS[metric]}") for metric, *_ in HEADLINE))
    return Table(say("quality.table"), head, tuple(rows))


def _beside(say: Texts, evaluation: RankingEvaluation, metric: str, id: str) -> Figure | None:
    """One metric of the model and its baselines as bars."""
    reached = {name: lists.headline()[metric] for name, lists in evaluation.pooled.predictors().items()}
    title = say(f"quality.{_METRICS[metric]}")
    names = [name for name in (MODEL, *_ranked(evaluation)) if math.isfinite(reached[name])]
    titles = {name: say("quality.model") if name == MODEL else baseline(say, name) for name in names}
    bars = [charts.Bar(titles[name], reached[name], say.number(reached[name], 3), name == MODEL) for name in names]
    rows = tuple((Cell(titles[name]), number(say.number(reached[name], 3))) for name in names)
    table = Table(title, (say("quality.predictor"), title), rows, hidden_caption=True)
    return figure(f"{id}-{metric.replace('_', '-')}", title, lambda words: charts.bars(bars, measure=title, words=words), table, say)


def _calibration(say: Texts, evaluation: RankingEvaluation, id: str) -> Part:
    pooled = evaluation.pooled
    held = pooled.categories
    columns = zip(held.category, held.asked, held.expected, held.actual, held.by_chance, strict=True)
    shown = [one for one, _ in zip(columns, range(_CATEGORIES), strict=False)]
    head = tuple(say(f"reliability.{key}") for key in ("category", "asked", "expected", "came", "by_chance"))
    rows = tuple(
        (
            Cell(category), number(say.number(asked)), number(say.rounded(expected)), number(say.number(actual)),
            number(say("page.interval", lower=say.number(max(0.0, expected - chance), 0), upper=say.number(expected + chance, 0))),
        )
        for category, asked, expected, actual, chance in shown
    )  # fmt: skip
    table = Table(say("reliability.categories_title"), head, rows, hidden_caption=True)
    takers = [charts.Takers(category, expected, actual, chance) for category, _, expected, actual, chance in shown]
    drawn = figure(
        f"{id}-takers", say("reliability.categories_title"), lambda words: charts.takers(takers, words=words), table, say,
        note=say("reliability.takers_note"),
    )  # fmt: skip
    if pooled.calibration_categories:
        text = say("reliability.categories_lead", gap=say.percent(pooled.calibration_gap, 1), count=pooled.calibration_categories)
    else:
        text = say("reliability.categories_few")
    model = pooled.pairs.model
    pairs = say("reliability.pairs", rows=pooled.rows, ece=say.percent(model.ece, 2), chance=say.percent(model.ece_chance_p95, 2))
    blocks: tuple[Block, ...] = () if drawn is None else (drawn,)
    return Part(f"{id}-reliability", say("reliability.heading"), (*blocks, Text(pairs, "note")), text)


def _stability(say: Texts, evaluation: RankingEvaluation, id: str) -> Part:
    folds = evaluation.folds
    if len(folds) < 2:
        return Part(f"{id}-stability", say("stability.heading"), (Text(say("stability.one"), "note"),))
    shown = ("ndcg_at_10", "recall_at_10", "explore_ndcg_at_10")
    head = (say("stability.cutoff"), say("stability.rows"), *(say(f"quality.{_METRICS[metric]}") for metric in shown))
    rows = []
    for fold in folds:
        reached = fold.model.headline()
        rows.append(
            (
                Cell(say.date(fold.cutoff)),
                number(say.number(fold.asked["all"].customers)),
                *(number(say.number(reached[metric], 3)) for metric in shown),
            )
        )
    table = Table(say("stability.title"), head, tuple(rows), hidden_caption=True)
    steps = [charts.Step(say.date(fold.cutoff), fold.model.all.ndcg_at_10, rows=fold.asked["all"].customers) for fold in folds]
    drawn = figure(
        f"{id}-stability", say("stability.title"),
        lambda words: charts.trend(steps, measure="ndcg_at_10", words=dated(say, words)), table, say,
    )  # fmt: skip
    return Part(f"{id}-stability", say("stability.heading"), (table,) if drawn is None else (drawn,), say("stability.lead"))
