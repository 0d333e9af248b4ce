"""An evaluation: what was reached at each cutoff, the grade, and how both are shown and stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from persopredict import html, results_html, results_text
from persopredict.calibration import Choice
from persopredict.cells import between, cell, percent
from persopredict.comparison import Against, Interval, Paired
from persopredict.curves import Audience
from persopredict.cutoff_results import MODEL, Result, interval, number, paired, plain
from persopredict.errors import Problem
from persopredict.results_text import at_cutoffs
from persopredict.times import local

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from persopredict.wording import Wording

__all__ = ["MODEL", "Evaluation", "Grade", "Result", "at_cutoffs", "cell", "interval", "local", "number", "plain"]

Grade = Literal["A", "B", "C"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a target can be predicted, judged on rolling out-of-time cutoffs. Printed, it is a table in words.

    Parameters
    ----------
    target : its name.
    folds : one `Result` per cutoff.
    pooled : all rows together.
    best_baseline : the one of lowest pooled log-loss.
    skill : 1 − log-loss / log-loss of the best baseline, with its 95% `skill_interval`.
    difference : the paired log-loss of the model minus the best baseline's.
    grade : A, the whole 95% interval of that difference is better than the best baseline and skill is at least 0.10; B, the whole interval
        is better, skill is less; C, not shown to be better.
    grade_reason : a sentence with the numbers and what they come to.
    calibration : how the shipped calibrator was chosen.
    kind : of the model that is shipped, as in the attributes' `model_kind`; "" where it is not known.
    kinds : what it was chosen by: each candidate's pooled out-of-time log-loss.
    suspected : what looks like leakage; their examples are not stored.
    share : of the customers that were looked at; below 1 they were drawn by md5, because there are more than a model can use.
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
    kind: str = ""
    kinds: Mapping[str, float] = field(default_factory=dict)
    suspected: tuple[Problem, ...] = ()
    share: float = 1.0

    @property
    def against(self) -> Mapping[str, Against]:
        """The model against each baseline, all cutoffs together; it is ahead of one where `Against.ahead`."""
        return self.pooled.against

    def audience(self, size: int | None = None, *, share: float | None = None, of: int | None = None) -> Audience:
        """What contacting the likeliest customers would reach, by tests on customers like them.

        Parameters
        ----------
        size, share
            how many to contact, 1 to `of`, or which share, above 0 and at most 1: one of the two.
        of
            how many customers they are chosen from; by default as many as were asked at the latest cutoff.

        In the tests the same share was taken at each cutoff. Between the hundredths that are kept, values are interpolated; below 1% it is
        the precision of the first hundredth. Works on a loaded model as well.

        Raises `SpecificationError` for an impossible size or share, or where an older version evaluated the model and kept no curve.
        """
        latest = [round(fold.rows / self.share) for fold in self.folds if fold.rows]
        return self.pooled.curve.audience(size, share=share, of=latest[-1] if of is None and latest else of)

    def summary(self) -> dict[str, float]:
        """Pooled metrics under flat names, those without a value left out: for MLflow and job results.

        Those of `Result.flat`, ``skill``, ``skill_lower``, ``skill_upper``, and ``candidate_lightgbm_log_loss``, … of each kind of model.
        """
        flat = self.pooled.flat()
        flat |= {"skill": self.skill, "skill_lower": self.skill_interval[0], "skill_upper": self.skill_interval[1]}
        flat |= {f"candidate_{kind}_log_loss": value for kind, value in self.kinds.items()}
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_frame(self) -> pd.DataFrame:
        """One row per cutoff and a last one, `"pooled"`; the index is the cutoff's date (and time, unless midnight),
        the columns are flat names.
        """
        import pandas as pd

        results = (*self.folds, self.pooled)
        counts = ("rows", "positives", "rate", "train_rows", "train_positives")
        rows = [{name: getattr(result, name) for name in counts} | result.flat() for result in results]
        index = pd.Index([result.label for result in results], name="cutoff")
        return pd.DataFrame(rows, index=index)

    def trend(self) -> pd.DataFrame:
        """How the model does from cutoff to cutoff, so that decay shows; indexed as `to_frame`, without the pooled row.

        Columns: `rows`, `positives`, `rate`, `auc`, `log_loss` and `skill` against the best baseline, each of these three with its 95%
        interval (`auc_lower`, `auc_upper`, …).
        """
        import pandas as pd

        rows = []
        for fold in self.folds:
            row: dict[str, float] = {"rows": fold.rows, "positives": fold.positives, "rate": fold.rate}
            measured = {name: (getattr(fold.model, name), fold.interval(name)) for name in ("auc", "log_loss")}
            for name, (value, (lower, upper)) in {**measured, "skill": fold.skill(self.best_baseline)}.items():
                row |= {name: value, f"{name}_lower": lower, f"{name}_upper": upper}
            rows.append(row)
        return pd.DataFrame(rows, index=pd.Index([fold.label for fold in self.folds], name="cutoff"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: nan becomes null, times ISO text. What is stored holds nothing of a customer: suspicions lose their examples."""
        stored: Any = plain(replace(self, suspected=tuple(replace(problem, example="") for problem in self.suspected)))
        values: dict[str, Any] = stored
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`; also of what older versions stored."""
        calibration = values["calibration"]
        return cls(
            target=values["target"],
            folds=tuple(Result.from_dict(fold) for fold in values["folds"]),
            pooled=Result.from_dict(values["pooled"]),
            best_baseline=values["best_baseline"],
            skill=number(values["skill"]),
            skill_interval=interval(values["skill_interval"]),
            difference=paired(values["difference"]),
            grade=values["grade"],
            grade_reason=values["grade_reason"],
            calibration=None if calibration is None else Choice.from_dict(calibration),
            kind=values.get("kind", ""),
            kinds={kind: number(value) for kind, value in values.get("kinds", {}).items()},
            suspected=tuple(Problem(**problem) for problem in values.get("suspected", ())),
            share=float(values.get("share", 1.0)),
        )

    def __repr__(self) -> str:
        """In a line; `str` tells all of it."""
        return f"Evaluation({self.target}, grade {self.grade}, {len(self.folds)} cutoffs, {self.pooled.rows:,} rows)"

    def __str__(self) -> str:
        """The grade and its reason, the model beside its baselines, cutoff by cutoff, by decile, and how right its probabilities are."""
        head = [f"{self.target}: grade {self.grade}. {self.grade_reason}", *results_text.chosen(self.kind, self.kinds)]
        head += results_text.share(self.share)
        blocks = [
            [*head, *results_text.suspicions(self.suspected)],
            [*results_text.predictors(self.pooled), *results_text.ahead(self.pooled)],
            list(results_text.trend((*self.folds, self.pooled) if len(self.folds) > 1 else self.folds, self.best_baseline)),
            list(results_text.deciles(self.pooled)),
            list(results_text.reliability(self.pooled)),
            [] if self.calibration is None else [str(self.calibration)],
        ]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def digest(self, timezone: str = "UTC") -> Iterator[str]:
        """Lines for whoever reads what a job did: the reason of the grade, what looks like leakage, then the pooled metrics of the model
        and its baselines, best first; dates in `timezone`.
        """
        pooled = self.pooled
        yield self.grade_reason
        yield from results_text.suspicions(self.suspected)
        yield from results_text.chosen(self.kind, self.kinds)
        yield from results_text.share(self.share)
        when = at_cutoffs([fold.cutoff for fold in self.folds], timezone)
        yield f"tested on {pooled.rows:,} snapshots of customers{when}: {pooled.positives:,} ({percent(pooled.rate)}) with the outcome"
        yield from results_text.predictors(pooled)
        yield from results_text.ahead(pooled)
        if len(self.folds) > 1:
            found = (f"{cell(fold.model.auc)}{between(fold.interval('auc'))}" for fold in self.folds)
            yield "model's AUC by cutoff: " + ", ".join(found)

    def plot(self, kind: str = "gain", *, wording: Wording | None = None) -> alt.LayerChart:
        """One chart of the tests: an Altair chart, which a notebook shows and ``.save("gain.png")`` writes (or .svg, .html, .json).

        Parameters
        ----------
        kind
            "gain": the share of all outcomes that each share of the customers holds, the likeliest first, with the baselines beside;
            "lift": outcomes by tenths of the customers, expected and come; "precision": of audiences of every size, with 95% intervals;
            "reliability": what was said beside what came; "scores": how the probabilities are spread; "trend": AUC from cutoff to cutoff,
            with 95% intervals; "skill": the same of skill against the best baseline.
        wording
            language of the chart; default English.

        Raises `SpecificationError` for another kind, or (code ``nothing_to_draw``) where the tests hold nothing of it.
        """
        from persopredict import charts
        from persopredict.wording import wording_of

        charts.known_kind(kind, [*charts.KINDS, "trend", "skill"])
        words = charts.Words(wording_of(wording).language)
        if kind in charts.KINDS:
            return charts.titled(charts.of_result(self.pooled, kind, words), self.target)
        if kind == "trend":
            return charts.titled(charts.trend(charts.steps(self.folds), words=words), self.target)
        steps = charts.steps(self.folds, "skill", baseline=self.best_baseline)
        title = words("trend.skill", baseline=words.name(self.best_baseline))
        return charts.titled(charts.trend(steps, measure="skill", title=title, words=words), self.target)

    def _repr_html_(self) -> str:
        """For notebooks: the grade and its reason, the model beside its baselines, cutoff by cutoff; more to be opened."""
        heading = ("cutoff", "rows", "positives", "AUC (95% interval)", f"skill against {self.best_baseline}")
        steps = [
            (fold.label, f"{fold.rows:,}", f"{fold.positives:,}", cell(fold.model.auc) + between(fold.interval("auc")),
             percent(fold.skill(self.best_baseline)[0]))
            for fold in self.folds
        ]  # fmt: skip
        said = [*results_text.chosen(self.kind, self.kinds), *results_text.share(self.share), *results_text.suspicions(self.suspected)]
        return html.block(
            html.title(f"{self.target}: grade {self.grade}", self.grade_reason),
            results_html.predictors(self.pooled.predictors()),
            html.table(heading, steps),
            results_html.deciles(self.pooled.curve),
            results_html.reliability(self.pooled.reliability),
            html.note(said),
        )
