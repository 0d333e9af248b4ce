"""What a run gave: how its scores lie, who has none and why, what came of earlier ones, and where they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from persopredict import charts
from persopredict.report.blocks import Block, Cell, Facts, Items, Part, Table, Text
from persopredict.report.drawing import figure, number
from persopredict.report.gathering import ServingModel, TargetReport
from persopredict.report.quality import at_cutoffs, calibration, kind
from persopredict.report.texts import Texts, sentence
from persopredict.targets import Affinity


def run(say: Texts, told: TargetReport, id: str) -> Part:
    """How the scores lie, and who has one."""
    by_pair = isinstance(told.target, Affinity) or bool(told.categories)
    title = say("run.pairs_title" if by_pair else "run.title")
    blocks: list[Block] = []
    if told.spread.total:
        bins = charts.score_bins(np.asarray(told.spread.probabilities), weights=np.asarray(told.spread.counts))
        rows = (
            (
                Cell(say("page.interval", lower=say.percent(found.lower), upper=say.percent(found.upper))), number(say.number(found.rows)),
                number(say.percent(found.rows / told.spread.total, 1)),
            )
            for found in bins
            if found.rows
        )  # fmt: skip
        head = (say("run.probability"), say("run.pairs" if by_pair else "run.customers"), say("run.share"))
        table = Table(title, head, tuple(rows), hidden_caption=True)
        own = {"scores.y": say("run.pairs"), "scores.description": say.template("run.pairs_description")} if by_pair else {}
        drawn = figure(f"{id}-scores", title, lambda words: charts.scores(bins, words=replace(words, texts=own)), table, say)
        blocks += [] if drawn is None else [drawn]
    else:
        blocks.append(Text(say("run.nobody"), "note"))
    blocks.append(_asked(say, told))
    notes = tuple(Cell(sentence(note), language="" if say.english else "en") for note in told.noted.notes)
    blocks += [Items(say("run.notes"), notes)] if notes else []
    return Part(
        f"{id}-run", say("run.heading"), tuple(blocks), say("run.valid", date=say.date(told.valid_until)) if told.valid_until else ""
    )


def _asked(say: Texts, told: TargetReport) -> Table:
    everyone = sum(told.customers.values())
    rows = (
        (
            Cell(_status(say, status)), number(say.number(count)), number(say.percent(count / everyone, 1) if everyone else "–"),
        )
        for status, count in told.customers.items()
    )  # fmt: skip
    return Table(say("run.asked"), (say("run.status"), say("run.count"), say("run.share")), tuple(rows))


def _status(say: Texts, status: str) -> str:
    if status == "scored":
        return say("run.scored")
    return say(f"reason.{status}") if say.has(f"reason.{status}") else status.replace("_", " ")


def categories(say: Texts, told: TargetReport, id: str) -> Part | None:
    """Of an affinity the categories that are published of most customers."""
    if not told.categories:
        return None
    title = say("categories.title")
    head = tuple(say(f"categories.{key}") for key in ("category", "customers", "first", "new", "expected"))
    rows = (
        (
            Cell(found.category), number(say.number(found.customers)), number(say.number(found.first)), number(say.number(found.new)),
            number(say.rounded(found.expected)),
        )
        for found in told.categories
    )  # fmt: skip
    table = Table(title, head, tuple(rows), hidden_caption=True)
    bars = [charts.Bar(found.category, found.customers, say.number(found.customers)) for found in told.categories[:12]]
    drawn = figure(f"{id}-categories", title, lambda words: charts.bars(bars, measure=say("categories.customers"), words=words), table, say)
    lead = say("categories.lead", scored=told.scored, count=told.category_count)
    return Part(f"{id}-categories", say("categories.heading"), () if drawn is None else (drawn,), lead)


def came(say: Texts, told: TargetReport, id: str) -> Part:
    """What came of earlier runs."""
    heading = say("came.heading")
    if not told.trend:
        text = say("came.none", date=say.date(told.valid_until)) if told.valid_until else say("came.none_undated")
        return Part(f"{id}-came", heading, (Text(text, "note"),))
    head = tuple(say(f"came.{key}") for key in ("as_of", "expected", "interval", "actual", "verdict", "auc"))
    rows = (
        (
            Cell(say.date(one.as_of)), number(say.rounded(one.expected)),
            number(say("page.interval", lower=say.number(one.lower), upper=say.number(one.upper))), number(say.number(one.actual)),
            Cell(say("came.outside" if one.surprise else "came.within"), tone="bad" if one.surprise else "good"),
            number(say.number(one.auc, 3)),
        )
        for one in told.trend
    )  # fmt: skip
    table = Table(say("came.title"), head, tuple(rows), hidden_caption=True)
    drawn = figure(f"{id}-outcomes", say("came.title"), lambda words: charts.outcomes(told.trend, when=say.date, words=words), table, say)
    verdict = Text(newest(say, told), "bad" if told.trend[-1].surprise else "good")
    lead = f"{say('came.lead')} {say('came.pairs')}" if isinstance(told.target, Affinity) else say("came.lead")
    return Part(f"{id}-came", heading, (verdict, table if drawn is None else drawn), lead)


def newest(say: Texts, told: TargetReport) -> str:
    """What came of the newest run whose labels have ended, in a sentence."""
    one = told.trend[-1]
    key = {0: "came.fine", 1: "came.more", -1: "came.fewer"}[one.surprise]
    return say(key, date=say.date(one.as_of), expected=say.rounded(one.expected), actual=one.actual, lower=one.lower, upper=one.upper)


def lineage(say: Texts, told: TargetReport, id: str) -> Part:
    """Version, data and rows behind the scores."""
    model = told.model
    blocks: list[Block] = []
    if model is None:
        blocks.append(Text(say("model.elsewhere"), "note"))
    elif model.missing:
        blocks.append(Text(say("model.missing", version=model.version), "warning"))
        blocks.append(Text(sentence(model.missing), "note", language="" if say.english else "en"))
    pairs = {} if model is None else _of_model(say, model)
    pairs |= {"run": told.run_id or "–", "scored_at": "–" if told.scored_at is None else f"{told.scored_at:%Y-%m-%d %H:%M} UTC"}
    blocks.append(Facts(tuple((say(f"model.{key}"), Cell(value)) for key, value in pairs.items())))
    return Part(f"{id}-model", say("model.heading"), tuple(blocks), say("model.lead"))


def _of_model(say: Texts, model: ServingModel) -> dict[str, str]:
    pairs = {"version": model.version, "trained_until": say.date(model.trained_until)}
    if (predictor := model.predictor) is not None:
        evaluation, dropped = predictor.evaluation_, len(predictor.dropped_)
        count = len(predictor.model_.inputs)
        pairs["kind"] = kind(say, predictor.scorer_.kind)
        pairs["cutoffs"] = at_cutoffs(say, list(predictor.cutoffs_))
        pairs["rows"] = say("model.rows_value", rows=predictor.rows_, positives=predictor.positives_)
        pairs["features"] = say("model.features_dropped", count=count, dropped=dropped) if dropped else say.number(count)
        pairs["calibration"] = calibration(say, evaluation.calibration)
        if (share := getattr(evaluation, "share", 1.0)) < 1:
            pairs["share"] = say.percent(share)
        pairs["recipe"] = predictor.recipe_
    pairs |= {"fingerprint": model.fingerprint, "tracking_run": model.run_id}
    pairs["libraries"] = ", ".join(f"{name} {version}" for name, version in model.libraries.items())
    return {key: value for key, value in pairs.items() if value}
