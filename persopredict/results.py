"""The values of an evaluation: what was reached at each cutoff, the grade, and how both are shown and stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Literal

from persopredict.calibration import Choice
from persopredict.comparison import Interval, Paired
from persopredict.metrics import NAMES, Metrics

if TYPE_CHECKING:
    import pandas as pd

Grade = Literal["A", "B", "C"]
MODEL = "model"


@dataclass(frozen=True, slots=True)
class Result:
    """What the model and its baselines reached at one cutoff, or pooled over all of them (`cutoff` None, with 95%
    intervals).

    `rows`, `positives` and `rate` of the test; `train_rows` and `train_positives` of the fold's model, of the last
    fold where pooled. `intervals`: predictor name to metric name to (lower, upper), for the pooled result alone. ECE
    has none, since resampling inflates it; its yardstick is `ece_chance_p95`.
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

    def predictors(self) -> dict[str, Metrics]:
        """Metrics by name: the model first, then its baselines."""
        return {MODEL: self.model, **self.baselines}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a target can be predicted, judged on rolling out-of-time cutoffs.

    `folds`: one `Result` per cutoff; `pooled`: all rows together, with intervals; `best_baseline`: the one of lowest
    pooled log-loss; `skill` = 1 − log-loss / log-loss of the best baseline, with `skill_interval`; `difference`: the
    paired log-loss of the model minus the best baseline's; `calibration`: how the shipped calibrator was chosen.

    Grades: A = the whole 95% interval of the paired difference is better than the best baseline and skill is at least
    0.10; B = the whole interval is better; C = not shown to be better. Printed, it is a table in words.
    """

    target: str
    folds: tuple[Result, ...]
    pooled: Result
    best_baseline: str
    skill: float
    skill_interval: Interval
    difference: Paired
    grade: Grade
    grade_reason: str
    calibration: Choice | None = None

    def summary(self) -> dict[str, float]:
        """Pooled metrics under flat names, those without a value left out: for MLflow and job results.

        `auc`, `auc_lower`, `auc_upper`, …, `best_rule_auc`, …, `skill`, `skill_lower`, `skill_upper`, `rows`,
        `positives`, `rate`.
        """
        flat: dict[str, float] = {
            "rows": self.pooled.rows,
            "positives": self.pooled.positives,
            "rate": self.pooled.rate,
        }
        flat |= {"skill": self.skill, "skill_lower": self.skill_interval[0], "skill_upper": self.skill_interval[1]}
        flat |= _flat(self.pooled)
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_frame(self) -> pd.DataFrame:
        """One row per cutoff and a last one, `"pooled"`; the index is the cutoff's date (and time, unless midnight),
        the columns are flat names.

        Intervals (`auc_lower`, …) have values in the pooled row only.
        """
        import pandas as pd

        results = (*self.folds, self.pooled)
        counts = ("rows", "positives", "rate", "train_rows", "train_positives")
        rows = [{name: getattr(result, name) for name in counts} | _flat(result) for result in results]
        index = pd.Index([_label(result) for result in results], name="cutoff")
        return pd.DataFrame(rows, index=index)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: nan becomes null, times ISO text."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        paired = values["difference"]
        calibration = values["calibration"]
        return cls(
            target=values["target"],
            folds=tuple(_result(fold) for fold in values["folds"]),
            pooled=_result(values["pooled"]),
            best_baseline=values["best_baseline"],
            skill=_number(values["skill"]),
            skill_interval=_interval(values["skill_interval"]),
            difference=Paired(
                _number(paired["difference"]),
                _interval(paired["interval"]),
                int(paired["rows"]),
                int(paired["customers"]),
            ),
            grade=values["grade"],
            grade_reason=values["grade_reason"],
            calibration=None if calibration is None else Choice.from_dict(calibration),
        )

    def __str__(self) -> str:
        """The grade, its reason, and the model beside its baselines at every cutoff."""
        lines = [f"{self.target}: grade {self.grade}. {self.grade_reason}", "", _HEADER]
        for result in (*self.folds, self.pooled):
            lines += _lines(result)
        if self.calibration is not None:
            lines += ["", str(self.calibration)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        shown = ("auc", "average_precision", "log_loss", "brier_skill", "ece", "lift_top_decile")
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("pooled", *shown))
        body = "".join(
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{_cell(getattr(metrics, key))}</td>" for key in shown) + "</tr>"
            for name, metrics in self.pooled.predictors().items()
        )
        title = f"<p><b>{escape(self.target)}: grade {self.grade}</b>. {escape(self.grade_reason)}</p>"
        return f"{title}<table><tr>{head}</tr>{body}</table>"


def _flat(result: Result) -> dict[str, float]:
    """Metrics of all predictors under flat names: the model's own without prefix, followed by its intervals."""
    flat = {name: getattr(result.model, name) for name in NAMES}
    for name, (lower, upper) in result.intervals.get(MODEL, {}).items():
        flat |= {f"{name}_lower": lower, f"{name}_upper": upper}
    for baseline, metrics in result.baselines.items():
        flat |= {f"{baseline}_{name}": getattr(metrics, name) for name in NAMES}
    return flat


_HEADER = (
    f"{'cutoff':<10} {'rows':>9} {'positives':>15}  {'predictor':<10} {'AUC':>6} {'avg.prec.':>9} {'log-loss':>8} "
    f"{'Brier':>7} {'ECE':>6} {'by chance':>9} {'lift 10%':>8}"
)


def _lines(result: Result) -> list[str]:
    lines = []
    counts = (_label(result), f"{result.rows:,}", f"{result.positives:,} ({result.rate:.1%})")
    for name, metrics in result.predictors().items():
        chance = f"< {metrics.ece_chance_p95:.3f}"
        lines.append(
            f"{counts[0]:<10} {counts[1]:>9} {counts[2]:>15}  {name:<10} {metrics.auc:6.3f} "
            f"{metrics.average_precision:9.3f} {metrics.log_loss:8.4f} {metrics.brier:7.4f} {metrics.ece:6.3f} "
            f"{chance:>9} {metrics.lift_top_decile:8.2f}"
        )
        counts = ("", "", "")
    if found := result.intervals.get(MODEL):
        shown = (
            ("AUC", "auc"),
            ("avg.prec.", "average_precision"),
            ("log-loss", "log_loss"),
            ("lift 10%", "lift_top_decile"),
        )
        text = ", ".join(f"{label} {found[key][0]:.3f} to {found[key][1]:.3f}" for label, key in shown)
        lines.append(f"model, 95% intervals: {text}")
    return lines


def _label(result: Result) -> str:
    """The cutoff as its own time zone writes it: the date alone at midnight."""
    cutoff = result.cutoff
    if cutoff is None:
        return "pooled"
    return f"{cutoff:%Y-%m-%d}" if cutoff.time() == time() else f"{cutoff:%Y-%m-%d %H:%M}{cutoff:%z}"


def _cell(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _plain(value: object) -> object:
    if isinstance(value, Choice):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _result(values: Mapping[str, Any]) -> Result:
    baselines = {name: _metrics(metrics) for name, metrics in values["baselines"].items()}
    intervals = {name: {metric: _interval(pair) for metric, pair in found.items()} for name, found in values["intervals"].items()}
    cutoff = None if values["cutoff"] is None else datetime.fromisoformat(values["cutoff"])
    counts = {name: int(values[name]) for name in ("rows", "positives", "train_rows", "train_positives")}
    return Result(
        cutoff=cutoff,
        rate=_number(values["rate"]),
        model=_metrics(values["model"]),
        baselines=baselines,
        intervals=intervals,
        **counts,
    )


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(**{name: _number(values[name]) for name in NAMES})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _interval(values: Sequence[float | None]) -> Interval:
    return _number(values[0]), _number(values[1])
