"""What was reached at one cutoff, or at all of them together: a value, and the JSON it is stored as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from typing import Any

from persopredict import html, results_html
from persopredict.calibration import Choice
from persopredict.cells import cell, percent
from persopredict.comparison import NO_INTERVAL, Against, Interval, Paired
from persopredict.curves import Curve, Decile, ReliabilityBin
from persopredict.metrics import NAMES, Metrics

MODEL = "model"


@dataclass(frozen=True, slots=True)
class Result:
    """What the model and its baselines reached at one cutoff, or pooled over all of them (`cutoff` None).

    Parameters
    ----------
    cutoff : aware datetime, None where pooled.
    rows, positives, rate : of the test.
    train_rows, train_positives : of the fold's model, of the last fold's where pooled.
    model, baselines : their metrics.
    intervals : predictor to metric to its 95% interval, of a bootstrap over customers. ECE has none, since resampling inflates it; its
        yardstick is `ece_chance_p95`.
    against : the model against each baseline, paired.
    curve : what each share of the customers held, the model's likeliest first; where pooled, the likeliest of each cutoff together.
    reliability : observed rates beside the model's probabilities.
    rivals : the curve of each baseline, without intervals, where pooled.
    """

    cutoff: datetime | None
    rows: int
    positives: int
    rate: float
    train_rows: int
    train_positives: int
    model: Metrics
    baselines: Mapping[str, Metrics]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    against: Mapping[str, Against] = field(default_factory=dict)
    curve: Curve = field(default_factory=Curve)
    reliability: tuple[ReliabilityBin, ...] = ()
    rivals: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The cutoff as its own time zone writes it: the date alone at midnight; "pooled" without one."""
        cutoff = self.cutoff
        if cutoff is None:
            return "pooled"
        return f"{cutoff:%Y-%m-%d}" if cutoff.time() == time() else f"{cutoff:%Y-%m-%d %H:%M}{cutoff:%z}"

    @property
    def deciles(self) -> tuple[Decile, ...]:
        """Lift and cumulative gain of each tenth of the customers, the likeliest first; none where the curve was not kept."""
        return self.curve.deciles

    def predictors(self) -> dict[str, Metrics]:
        """Metrics by name: the model first, then its baselines."""
        return {MODEL: self.model, **self.baselines}

    def interval(self, metric: str, predictor: str = MODEL) -> Interval:
        """The 95% interval of a metric, (nan, nan) where there is none."""
        return self.intervals.get(predictor, {}).get(metric, NO_INTERVAL)

    def skill(self, baseline: str) -> tuple[float, Interval]:
        """1 − log-loss / log-loss of a baseline, and its 95% interval, (nan, nan) where there is none."""
        if baseline in self.against:
            return self.against[baseline].skill, self.against[baseline].skill_interval
        theirs = self.baselines[baseline].log_loss
        return (1 - self.model.log_loss / theirs if theirs else float("nan")), NO_INTERVAL

    def flat(self) -> dict[str, float]:
        """Counts and metrics under flat names, the model's own without prefix; nan where a metric has no value.

        ``rows``, ``positives``, ``rate``, ``auc``, …, ``auc_lower``, ``auc_upper``, …, ``best_rule_auc``, …,
        ``skill_against_best_rule``, ``auc_gain_over_best_rule``, …, each of these two with ``_lower`` and ``_upper``.
        """
        flat: dict[str, float] = {"rows": self.rows, "positives": self.positives, "rate": self.rate}
        flat |= {name: getattr(self.model, name) for name in NAMES}
        for name, (lower, upper) in self.intervals.get(MODEL, {}).items():
            flat |= {f"{name}_lower": lower, f"{name}_upper": upper}
        for baseline, metrics in self.baselines.items():
            flat |= {f"{baseline}_{name}": getattr(metrics, name) for name in NAMES}
        for baseline, found in self.against.items():
            flat |= _bounded(f"skill_against_{baseline}", found.skill, found.skill_interval)
            flat |= _bounded(f"auc_gain_over_{baseline}", found.auc.difference, found.auc.interval)
        return flat

    def __repr__(self) -> str:
        """In a line."""
        return f"Result({self.label}, {self.rows:,} rows, {self.positives:,} positives, AUC {cell(self.model.auc)})"

    def _repr_html_(self) -> str:
        """For notebooks: how many were tested, the model beside its baselines; deciles and reliability to be opened."""
        return html.block(
            html.title(self.label, f"{self.rows:,} tested, {self.positives:,} ({percent(self.rate)}) with the outcome"),
            results_html.predictors(self.predictors()),
            results_html.deciles(self.curve),
            results_html.reliability(self.reliability),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """From what `plain` made of it; also where an older version had not kept all of it."""
        intervals = {name: {metric: interval(pair) for metric, pair in found.items()} for name, found in values["intervals"].items()}
        counts = {name: int(values[name]) for name in ("rows", "positives", "train_rows", "train_positives")}
        return cls(
            cutoff=None if values["cutoff"] is None else datetime.fromisoformat(values["cutoff"]),
            rate=number(values["rate"]),
            model=_metrics(values["model"]),
            baselines={name: _metrics(metrics) for name, metrics in values["baselines"].items()},
            intervals=intervals,
            against={name: _against(found) for name, found in values.get("against", {}).items()},
            curve=_curve(values.get("curve", {})),
            reliability=tuple(ReliabilityBin(**found) for found in values.get("reliability", ())),
            rivals={name: _curve(found) for name, found in values.get("rivals", {}).items()},
            **counts,
        )


def plain(value: object) -> object:
    """A result, or any part of one, JSON-safe: nan becomes null, times ISO text."""
    if isinstance(value, Choice):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def number(value: float | None) -> float:
    """The inverse of `plain` for a metric."""
    return float("nan") if value is None else float(value)


def interval(values: Sequence[float | None]) -> Interval:
    """The inverse of `plain` for an interval."""
    return number(values[0]), number(values[1])


def paired(values: Mapping[str, Any]) -> Paired:
    """The inverse of `plain` for a paired difference."""
    return Paired(number(values["difference"]), interval(values["interval"]), int(values["rows"]), int(values["customers"]))


def _against(values: Mapping[str, Any]) -> Against:
    return Against(paired(values["log_loss"]), paired(values["auc"]), number(values["skill"]), interval(values["skill_interval"]))


def _curve(values: Mapping[str, Any]) -> Curve:
    points = {name: tuple(map(number, values.get(name, ()))) for name in ("expected", "found", "lower", "upper")}
    return Curve(rows=int(values.get("rows", 0)), positives=int(values.get("positives", 0)), **points)


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(**{name: number(values[name]) for name in NAMES})


def _bounded(name: str, value: float, between: Interval) -> dict[str, float]:
    return {name: value, f"{name}_lower": between[0], f"{name}_upper": between[1]}
