"""The values of an evaluation: what was reached at each cutoff, the grade, and how both are shown and stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Literal

from persopredict.calibration import Choice
from persopredict.comparison import Interval, Paired
from persopredict.metrics import NAMES, Metrics
from persopredict.times import zone

if TYPE_CHECKING:
    import pandas as pd

Grade = Literal["A", "B", "C"]
MODEL = "model"

#: What a digest shows: heading, name in `Metrics`, decimals.
_DIGEST = (
    ("AUC", "auc", 3),
    ("avg.prec.", "average_precision", 3),
    ("log-loss", "log_loss", 4),
    ("Brier", "brier", 4),
    ("ECE", "ece", 3),
    ("lift 10%", "lift_top_decile", 2),
)


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

    @property
    def label(self) -> str:
        """The cutoff as its own time zone writes it: the date alone at midnight; "pooled" without one."""
        cutoff = self.cutoff
        if cutoff is None:
            return "pooled"
        return f"{cutoff:%Y-%m-%d}" if cutoff.time() == time() else f"{cutoff:%Y-%m-%d %H:%M}{cutoff:%z}"

    def predictors(self) -> dict[str, Metrics]:
        """Metrics by name: the model first, then its baselines."""
        return {MODEL: self.model, **self.baselines}

    def flat(self) -> dict[str, float]:
        """Counts and metrics under flat names, the model's own without prefix; nan where a metric has no value.

        ``rows``, ``positives``, ``rate``, ``auc``, …, ``auc_lower``, ``auc_upper``, …, ``best_rule_auc``, ….
        """
        flat: dict[str, float] = {"rows": self.rows, "positives": self.positives, "rate": self.rate}
        flat |= {name: getattr(self.model, name) for name in NAMES}
        for name, (lower, upper) in self.intervals.get(MODEL, {}).items():
            flat |= {f"{name}_lower": lower, f"{name}_upper": upper}
        for baseline, metrics in self.baselines.items():
            flat |= {f"{baseline}_{name}": getattr(metrics, name) for name in NAMES}
        return flat

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """From what `plain` made of it."""
        intervals = {name: {metric: interval(pair) for metric, pair in found.items()} for name, found in values["intervals"].items()}
        counts = {name: int(values[name]) for name in ("rows", "positives", "train_rows", "train_positives")}
        return cls(
            cutoff=None if values["cutoff"] is None else datetime.fromisoformat(values["cutoff"]),
            rate=number(values["rate"]),
            model=_metrics(values["model"]),
            baselines={name: _metrics(metrics) for name, metrics in values["baselines"].items()},
            intervals=intervals,
            **counts,
        )


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
        flat = self.pooled.flat()
        flat |= {"skill": self.skill, "skill_lower": self.skill_interval[0], "skill_upper": self.skill_interval[1]}
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_frame(self) -> pd.DataFrame:
        """One row per cutoff and a last one, `"pooled"`; the index is the cutoff's date (and time, unless midnight),
        the columns are flat names.

        Intervals (`auc_lower`, …) have values in the pooled row only.
        """
        import pandas as pd

        results = (*self.folds, self.pooled)
        counts = ("rows", "positives", "rate", "train_rows", "train_positives")
        rows = [{name: getattr(result, name) for name in counts} | result.flat() for result in results]
        index = pd.Index([result.label for result in results], name="cutoff")
        return pd.DataFrame(rows, index=index)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: nan becomes null, times ISO text."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        paired = values["difference"]
        calibration = values["calibration"]
        return cls(
            target=values["target"],
            folds=tuple(Result.from_dict(fold) for fold in values["folds"]),
            pooled=Result.from_dict(values["pooled"]),
            best_baseline=values["best_baseline"],
            skill=number(values["skill"]),
            skill_interval=interval(values["skill_interval"]),
            difference=Paired(
                number(paired["difference"]),
                interval(paired["interval"]),
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

    def digest(self, timezone: str = "UTC") -> Iterator[str]:
        """Lines for whoever reads what a job did: the reason of the grade, then the pooled metrics of the model and its baselines, best
        first; dates in `timezone`.
        """
        pooled = self.pooled
        yield self.grade_reason
        when = at_cutoffs([fold.cutoff for fold in self.folds], timezone)
        yield f"tested on {pooled.rows:,} snapshots of customers{when}: {pooled.positives:,} ({pooled.rate:.1%}) with the outcome"
        yield f"{'':<10}" + "".join(f"{heading:>11}" for heading, _, _ in _DIGEST)
        baselines = sorted(pooled.baselines.items(), key=lambda entry: (entry[1].log_loss, entry[0]))
        for name, metrics in ((MODEL, pooled.model), *baselines):
            yield f"{name:<10}" + "".join(f"{cell(getattr(metrics, key), decimals):>11}" for _, key, decimals in _DIGEST)
        if len(self.folds) > 1:
            yield "model's AUC by cutoff: " + ", ".join(cell(fold.model.auc) for fold in self.folds)

    def _repr_html_(self) -> str:
        from html import escape

        shown = ("auc", "average_precision", "log_loss", "brier_skill", "ece", "lift_top_decile")
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("pooled", *shown))
        body = "".join(
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell(getattr(metrics, key))}</td>" for key in shown) + "</tr>"
            for name, metrics in self.pooled.predictors().items()
        )
        title = f"<p><b>{escape(self.target)}: grade {self.grade}</b>. {escape(self.grade_reason)}</p>"
        return f"{title}<table><tr>{head}</tr>{body}</table>"


_HEADER = (
    f"{'cutoff':<10} {'rows':>9} {'positives':>15}  {'predictor':<10} {'AUC':>6} {'avg.prec.':>9} {'log-loss':>8} "
    f"{'Brier':>7} {'ECE':>6} {'by chance':>9} {'lift 10%':>8}"
)


def _lines(result: Result) -> list[str]:
    lines = []
    counts = (result.label, f"{result.rows:,}", f"{result.positives:,} ({result.rate:.1%})")
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


def cell(value: float, decimals: int = 3) -> str:
    """A metric as a table shows it.

    >>> cell(0.25), cell(float("nan"))
    ('0.250', '–')
    """
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def local(moment: datetime, timezone: str) -> str:
    """The date as the zone writes it, with the time unless it is midnight."""
    there = moment.astimezone(zone(timezone))
    return f"{there:%Y-%m-%d}" if there.time() == time() else f"{there:%Y-%m-%d %H:%M}"


def at_cutoffs(cutoffs: Sequence[datetime | None], timezone: str) -> str:
    """How many cutoffs a test had, and the first and last of them; "" without any.

    >>> at_cutoffs([datetime.fromisoformat("2017-10-08T05:00Z"), datetime.fromisoformat("2017-11-05T06:00Z")], "America/Mexico_City")
    ' at 2 cutoffs, 2017-10-08 to 2017-11-05'
    """
    moments = [local(cutoff, timezone) for cutoff in cutoffs if cutoff is not None]
    if len(moments) < 2:
        return f" at 1 cutoff, {moments[0]}" if moments else ""
    return f" at {len(moments)} cutoffs, {moments[0]} to {moments[-1]}"


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


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(**{name: number(values[name]) for name in NAMES})
