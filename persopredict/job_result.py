"""What a job came to: one `Outcome` per target, a `JobResult` for the run, and the text that a person reads the morning after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persopredict import html
from persopredict.cells import cell
from persopredict.errors import PersopredictError, Problem
from persopredict.hindsight import warning
from persopredict.ranking_results import RankingEvaluation
from persopredict.results import Evaluation
from persopredict.sources import UNUSABLE
from persopredict.times import local
from persopredict.usability import UsabilityReport
from persopredict.warehouse_runs import Settled

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from persopredict.wording import Wording

State = Literal["published", "trained", "skipped", "failed"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a job made of one target.

    Attributes
    ----------
    target : its name.
    state : "published"; "trained" (by `Job.train`); "skipped": it can't be trained or scored on what there is; "failed": its model could
        not be kept or read.
    code, reason : why it was skipped or failed, "" otherwise; `problems` holds the same with counts and remedies.
    evaluation, model_version, trained_until : of the model that served.
    counts : customers by status: "scored", then the reasons of the others.
    attributes : what was published; of an affinity several rows for each customer.
    notes : what else a reader should know (promotion, features left out).
    trend : what came of earlier runs, oldest first (see `Hindsight.trend`).

    >>> print(Outcome.without("churn", PersopredictError("no", [Problem("no_model", "churn has no champion", remedy="train it")])))
    churn: skipped (no_model)
      churn has no champion. Train it.
    """

    target: str
    state: State
    code: str = ""
    reason: str = ""
    problems: tuple[Problem, ...] = ()
    evaluation: Evaluation | RankingEvaluation | None = None
    model_version: str = ""
    trained_until: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    attributes: pd.DataFrame | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    trend: tuple[Settled, ...] = ()

    @classmethod
    def without(cls, target: str, error: PersopredictError, state: State = "skipped") -> Outcome:
        """The outcome of a target that an error stopped: the first problem's code, all messages with their remedies."""
        problems = error.problems or (Problem(f"target_{state}", str(error).splitlines()[0]),)
        sentences = [text.rstrip(".") for problem in problems for text in (problem.message, problem.remedy) if text]
        return cls(
            target,
            state,
            problems[0].code,
            " ".join(f"{text[0].upper() if place else text[0]}{text[1:]}." for place, text in enumerate(sentences)),
            problems,
        )

    @property
    def grade(self) -> str:
        """The grade of the model that served, "" without one."""
        return self.evaluation.grade if self.evaluation else ""

    def __repr__(self) -> str:
        """In a line; `str` tells all of it."""
        return f"Outcome({self.target}, {self.state}{f', grade {self.grade}' if self.grade else ''})"

    def __str__(self) -> str:
        """As `text`, dates in UTC."""
        return self.text()

    def text(self, timezone: str = "UTC") -> str:
        """The grade and its reason, the model beside its baselines, counts, what came of earlier runs, and notes; dates in `timezone`."""
        if self.state in ("skipped", "failed"):
            return "\n  ".join([f"{self.target}: {self.state} ({self.code})", self.reason, *self._came(timezone)])
        lines = [f"{self.target}: {self.state}", *(() if self.evaluation is None else self.evaluation.digest(timezone))]
        if self.evaluation is not None:
            lines[0] += f", grade {self.grade}"
        if self.counts:
            lines.append("customers: " + ", ".join(f"{count:,} {status}" for status, count in self.counts.items()))
        lines += self._pairs()
        if self.trained_until is not None:
            lines.append(f"model: version {self.model_version}, trained until {local(self.trained_until, timezone)}")
        return "\n  ".join([*lines, *self._came(timezone), *(f"note: {note}" for note in self.notes)])

    def _came(self, timezone: str) -> Iterator[str]:
        """A table of the trend, and a warning if the newest count is a surprise."""
        if not self.trend:
            return
        yield f"{'what came of':<28}{'expected':>10}{'95% interval':>20}{'came':>10}{'AUC':>7}{'log-loss':>10}{'of the rate':>13}{'ECE':>7}"
        for run in self.trend:
            between = f"{run.lower:,} to {run.upper:,}"
            counts = f"{f'scores of {local(run.as_of, timezone)}':<28}{run.expected:>10,.0f}{between:>20}{run.actual:>10,}"
            losses = f"{cell(run.log_loss, 4):>10}{cell(run.base_rate_log_loss, 4):>13}"
            yield f"{counts}{cell(run.auc):>7}{losses}{cell(run.ece):>7}"
        if found := warning(self.trend, timezone):
            yield f"warning: {found}"

    def plot(self, *, wording: Wording | None = None) -> alt.LayerChart:
        """What earlier runs promised beside what came of them: an Altair chart.

        `wording`: language of the chart; default English. Raises `SpecificationError` (code ``nothing_to_draw``) as long as no run's labels
        have ended.
        """
        from persopredict import charts
        from persopredict.wording import wording_of

        words = charts.Words(wording_of(wording).language)
        return charts.titled(charts.outcomes(self.trend, words=words), self.target)

    def _repr_html_(self) -> str:
        """For notebooks: what became of the target, who was scored and who not, and how good the model is."""
        head = html.title(self.target, f"{self.state}, grade {self.grade}" if self.grade else f"{self.state} {self.code}".strip())
        counts = html.facts({status: f"{count:,}" for status, count in self.counts.items()}) if self.counts else html.note([])
        said = [line for line in (self.reason, *(f"note: {note}" for note in self.notes), warning(self.trend)) if line]
        tested = html.note([]) if self.evaluation is None else html.Html(self.evaluation._repr_html_())
        return html.block(head, counts, html.note(said), tested)

    def _pairs(self) -> Iterator[str]:
        """How many rows were published, where these are not customers but customers' categories."""
        rows = self.attributes
        if rows is not None and (pairs := int(rows["category"].notna().sum())):
            new = int(rows["is_new"].eq(True).sum())
            yield f"published: {pairs:,} pairs of customer and category, {new:,} of them new to the customer"


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job did.

    Attributes
    ----------
    as_of : the instant of the scores, or until when was trained.
    outcomes : one for each target, in the job's order.
    report : what `EventLog.check` found.
    timezone : of the log, for the text.
    notes : what else a reader should know about all of it.
    report_path : where the report that people read was written, None if it was not.
    """

    as_of: datetime
    outcomes: tuple[Outcome, ...]
    report: UsabilityReport
    timezone: str = "UTC"
    notes: tuple[str, ...] = ()
    report_path: Path | None = None

    @property
    def exit_code(self) -> int:
        """For a scheduler: 0 done; 4 some targets were skipped or failed; with none left 3, or 1 if any failed (nothing was published)."""
        states = [outcome.state for outcome in self.outcomes]
        lost = states.count("skipped") + states.count("failed")
        return 0 if not lost else 4 if lost < len(states) else 1 if "failed" in states else 3

    @property
    def published(self) -> bool:
        """Whether the warehouse was written."""
        return any(outcome.state == "published" for outcome in self.outcomes)

    def __repr__(self) -> str:
        """In a line; `str` tells all of it."""
        return f"JobResult(as of {local(self.as_of, self.timezone)}, {', '.join(map(repr, self.outcomes))})"

    def __str__(self) -> str:
        """Everything a person wants to read after a run."""
        size = f"{self.report.usable:,} events of {self.report.customers:,} customers"
        head = [
            f"As of {local(self.as_of, self.timezone)} ({self.timezone}): {size}.",
            *_quarantined(self.report),
            " ".join(self._summary()),
            *(f"Note: {note}" for note in self.notes),
            *([f"Report: {self.report_path}"] if self.report_path else []),
        ]
        return "\n\n".join(["\n".join(head), *(outcome.text(self.timezone) for outcome in self.outcomes)])

    def _repr_html_(self) -> str:
        """For notebooks: one row for each target; each target and the check of the log to be opened."""
        rows = [
            (each.target, f"{each.state} {each.code}".strip(), each.grade, f"{each.counts['scored']:,}" if "scored" in each.counts else "",
             each.model_version, "" if each.trained_until is None else local(each.trained_until, self.timezone))
            for each in self.outcomes
        ]  # fmt: skip
        heading = ("target", "state", "grade", "scored", "model version", "trained until")
        return html.block(
            html.title(f"As of {local(self.as_of, self.timezone)} ({self.timezone})", " ".join(self._summary())),
            html.table(heading, rows, words=(0, 1, 2)),
            *(html.folded(each.target, html.Html(each._repr_html_())) for each in self.outcomes),
            html.folded("the log", html.Html(self.report._repr_html_())),
            html.note(self.notes),
        )

    def _summary(self) -> Iterator[str]:
        for state in ("published", "trained", "skipped", "failed"):
            names = [outcome.target for outcome in self.outcomes if outcome.state == state]
            if names:
                yield f"{state.capitalize()}: {', '.join(names)}."
        if not any(outcome.state in ("published", "trained") for outcome in self.outcomes):
            yield "Nothing was published."


def _quarantined(report: UsabilityReport) -> list[str]:
    reasons: dict[str, int] = {}
    for problem in report.problems:
        if problem.code in UNUSABLE:
            reasons[problem.code] = reasons.get(problem.code, 0) + problem.count
    if not reasons:
        return []
    text = ", ".join(f"{count:,} {code}" for code, count in reasons.items())
    return [f"{sum(reasons.values()):,} of {report.rows:,} rows could not be used and are in the table quarantine: {text}."]
