"""How a predictor is shown in a notebook: what it will do, or what it has become and how well it does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from persopredict import html
from persopredict.html import Html
from persopredict.kinds import competing
from persopredict.model import Model
from persopredict.targets import Affinity, Target
from persopredict.times import local


def plan(target: Target, features: Sequence[Any] | None, cutoffs: Sequence[Any] | None, estimator: Any, calibration: str) -> Html:
    """What `fit` will do, by its arguments."""
    rivals = "trees (LightGBM)" if isinstance(target, Affinity) else f"the best of {', '.join(competing(target))}, by past tests"
    own = "a log's own" if not isinstance(target, Affinity) else "those of pairs"
    facts = {
        "features": f"default: {own}" if features is None else f"{len(features)} given",
        "model": rivals if estimator is None else type(estimator).__name__,
        "cutoffs": "default: every half horizon" if cutoffs is None else f"{len(cutoffs)} given",
        "calibration": "by past tests" if calibration == "auto" else calibration,
    }
    sentence = f"Predicts {target.meaning}. Asked of {target.asked_of}. Not fitted yet: fit(events, until=...)"
    return html.block(html.title(target.name, sentence), html.facts(facts))


def fitted(target: Target, model: Model, cutoffs: Sequence[datetime], until: datetime, timezone: str, evaluation: Any) -> Html:
    """What a fit left, with its evaluation."""
    first, last = (local(side, timezone) for side in (cutoffs[0], cutoffs[-1]))
    dropped = f", {len(model.dropped)} left out: their windows are longer than the history" if model.dropped else ""
    facts = {
        "model": f"{model.scorer.kind}, calibration {model.calibrator.kind}",
        "trained until": local(until, timezone),
        "taught by": f"{model.rows:,} snapshots, {model.positives:,} with the outcome, of {len(cutoffs)} cutoffs ({first} to {last})",
        "features": f"{len(model.inputs)} read{dropped}",
    }
    sentence = f"Predicts {target.meaning}. Asked of {target.asked_of}."
    return html.block(html.title(target.name, sentence), html.facts(facts), Html(evaluation._repr_html_()))
