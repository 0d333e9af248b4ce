"""An evaluation of rankings: what the lists of an affinity reached, how right its probabilities are in each category, the grade, and how
all of it is shown and stored.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persopredict import html
from persopredict.calibration import Choice
from persopredict.cells import cell
from persopredict.cutoff_lists import ENOUGH_TAKERS, HEADLINE, MOST_CATEGORIES, VARIANTS, Asked, Categories, Gain, Lists, RankedResult
from persopredict.cutoff_results import MODEL, plain
from persopredict.results import Grade
from persopredict.results_text import at_cutoffs

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from persopredict.charts import Step
    from persopredict.wording import Wording

__all__ = [
    "ENOUGH_TAKERS",
    "HEADLINE",
    "MOST_CATEGORIES",
    "VARIANTS",
    "Asked",
    "Categories",
    "Gain",
    "Lists",
    "RankedResult",
    "RankingEvaluation",
]

#: What a digest shows of them.
_DIGEST = tuple((name, heading) for name, _, _, heading in HEADLINE if name in ("recall_at_10", "ndcg_at_10", "explore_ndcg_at_10"))
_GAPS_SHOWN = 5
#: Categories that a chart shows.
_TAKERS_SHOWN = 12
_LONGEST_NAME = 28
_WIDTH = 140


@dataclass(frozen=True, slots=True)
class RankingEvaluation:
    """How well it can be told which categories a customer takes, judged on rolling out-of-time cutoffs.

    Parameters
    ----------
    folds : one `RankedResult` per cutoff.
    pooled : every customer at every cutoff together, with intervals.
    best_baseline : the one of highest pooled NDCG@10.
    gains : of the model over the best baseline in each of ``recall_at_10``, ``ndcg_at_10`` and ``explore_ndcg_at_10``; the best in one may
        not be the best in another.
    grade : A, the whole 95% interval of the paired difference in NDCG@10 is above zero and the gain at least 3%; B, the whole interval is
        above zero; C, not shown to be better.
    grade_reason : a sentence with the numbers.
    calibration : how the shipped calibrator was chosen.
    """

    target: str
    folds: tuple[RankedResult, ...]
    pooled: RankedResult
    best_baseline: str
    gains: Mapping[str, Gain]
    grade: Grade
    grade_reason: str
    calibration: Choice | None = None

    def summary(self) -> dict[str, float]:
        """Pooled metrics under flat names, those without a value left out: for MLflow and job results.

        ``recall_at_10``, ``recall_at_10_lower``, …, ``explore_ndcg_at_10``, ``popularity_ndcg_at_10``, …, ``log_loss``,
        ``ece``, ``calibration_gap``, …; ``ndcg_at_10_gain``, with ``_lower`` and ``_upper``, is relative: 0.03 is 3%.
        """
        flat = self.pooled.flat()
        for name, gain in self.gains.items():
            lower, upper = gain.relative_interval
            flat |= {f"{name}_gain": gain.relative, f"{name}_gain_lower": lower, f"{name}_gain_upper": upper}
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_frame(self) -> pd.DataFrame:
        """One row per cutoff and a last one, ``"pooled"``, with every metric of every predictor under flat names.

        The index is the cutoff's date (and time, unless midnight). Intervals have values in the pooled row only.
        """
        import pandas as pd

        results = (*self.folds, self.pooled)
        index = pd.Index([result.pairs.label for result in results], name="cutoff")
        return pd.DataFrame([result.flat(whole=True) for result in results], index=index)

    def categories(self) -> pd.DataFrame:
        """Calibration by category over all cutoffs, the most taken first (at most 1,000).

        Returns
        -------
        pandas frame indexed by category: `asked` (customers), `expected` and `actual` takers, `by_chance` (how far the two differ by chance
        at most, 95 times in 100), `gap` = expected − actual, `relative_gap` = gap / actual. For one cutoff there is
        ``folds[0].categories.to_frame()``, as long as the evaluation has not been stored.
        """
        return self.pooled.categories.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: nan becomes null, times ISO text. Categories are those of the pooled result alone."""
        stored: Any = plain(self)
        for fold in stored["folds"]:
            del fold["categories"]
        values: dict[str, Any] = stored
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RankingEvaluation:
        """The inverse of `to_dict`."""
        return cls(
            target=values["target"],
            folds=tuple(RankedResult.from_dict(fold) for fold in values["folds"]),
            pooled=RankedResult.from_dict(values["pooled"]),
            best_baseline=values["best_baseline"],
            gains={name: Gain.from_dict(found) for name, found in values["gains"].items()},
            grade=values["grade"],
            grade_reason=values["grade_reason"],
            calibration=None if values["calibration"] is None else Choice.from_dict(values["calibration"]),
        )

    def __repr__(self) -> str:
        """In a line; `str` tells all of it."""
        return f"RankingEvaluation({self.target}, grade {self.grade}, {len(self.folds)} cutoffs, {self.pooled.rows:,} pairs)"

    def __str__(self) -> str:
        """The grade, its reason, the model beside its baselines at every cutoff, and how right the probabilities are."""
        title = textwrap.fill(f"{self.target}: grade {self.grade}. {self.grade_reason}", _WIDTH)
        lines = [title, "", *self.table(), "", *self.findings()]
        return "\n".join(lines if self.calibration is None else [*lines, textwrap.fill(str(self.calibration), _WIDTH)])

    def table(self, results: Sequence[RankedResult] | None = None) -> list[str]:
        """A heading, then the model and its baselines in each of these results, default all; pooled with 95% intervals."""
        shown = (*self.folds, self.pooled) if results is None else results
        width = max(len(name) for name in ("predictor", *self.pooled.predictors()))
        head = f"{'cutoff':<10} {'customers':>9} {'pairs':>11} {'taken':>16}  {'predictor':<{width}}"
        return [head + "".join(f"  {heading}" for *_, heading in HEADLINE), *(line for result in shown for line in _rows(result, width))]

    def findings(self) -> Iterator[str]:
        """What the table does not hold: whom the means are of, gains over the best baselines, and how right the probabilities are."""
        pooled = self.pooled
        counted = (f"{asked.customers:,} ({variant}; {asked.left_out:,} left out)" for variant, asked in pooled.asked.items())
        yield f"customers at a cutoff with anything relevant: {', '.join(counted)}"
        reached = (f"{asked.candidates_recall:.1%} ({variant})" for variant, asked in pooled.asked.items())
        yield f"of what was taken, candidates were {', '.join(reached)}"
        headings = {name: heading for name, _, _, heading in HEADLINE}
        for name, gain in self.gains.items():
            between = f"{gain.interval[0]:+z.4f} to {gain.interval[1]:+z.4f}"
            relative = f", which is {gain.relative:+.1%}" if math.isfinite(gain.relative) else ""
            yield f"{headings[name]} against {gain.baseline}: {gain.difference:+z.4f} (95% interval {between}){relative}"
        yield from self._calibrated()
        yield from _furthest(pooled.categories)

    def digest(self, timezone: str = "UTC") -> Iterator[str]:
        """Lines for whoever reads what a job did: the reason of the grade, the pooled lists of the model and its baselines, best first, and
        how right the probabilities are; dates in `timezone`.
        """
        pooled, width = self.pooled, max(len(name) for name in self.pooled.predictors())
        yield self.grade_reason
        when = at_cutoffs([fold.cutoff for fold in self.folds], timezone)
        yield f"tested on {pooled.asked['all'].customers:,} lists{when}, of customers who took anything afterwards"
        yield " " * width + "".join(f"{heading:>17}" for _, heading in _DIGEST)
        ranked = sorted(pooled.baselines.items(), key=lambda entry: (-entry[1].all.ndcg_at_10, entry[0]))
        for name, lists in ((MODEL, pooled.model), *ranked):
            reached = lists.headline()
            yield f"{name:<{width}}" + "".join(f"{cell(reached[key]):>17}" for key, _ in _DIGEST)
        if len(self.folds) > 1:
            yield "model's NDCG@10 by cutoff: " + ", ".join(cell(fold.model.all.ndcg_at_10) for fold in self.folds)
        yield f"tested on {pooled.rows:,} pairs of customer and category: {pooled.positives:,} ({pooled.rate:.1%}) taken"
        yield from self._calibrated()

    def _calibrated(self) -> Iterator[str]:
        """How right the probabilities are, over all pairs and by category."""
        pooled, found = self.pooled, self.pooled.pairs.model
        yield (
            f"probabilities: log-loss {found.log_loss:.4f} (past rate of each category {pooled.base_rate_log_loss:.4f}), "
            f"Brier {found.brier:.4f}, ECE {found.ece:.4f} (by chance < {found.ece_chance_p95:.4f}), AUC {found.auc:.3f}"
        )
        if pooled.calibration_categories:
            many = f"{pooled.calibration_categories} categories with {ENOUGH_TAKERS} takers or more at a cutoff"
            yield f"expected takers differ from actual ones by {pooled.calibration_gap:.1%} on average, over {many}"

    def plot(self, kind: str = "trend", *, wording: Wording | None = None) -> alt.LayerChart:
        """One chart of the tests: an Altair chart, which a notebook shows and ``.save("trend.png")`` writes (or .svg, .html, .json).

        Parameters
        ----------
        kind
            "trend": NDCG@10 of the model and its best baseline from cutoff to cutoff; "lists": the same of all baselines, all cutoffs
            together; "categories": takers expected and come, of the categories most taken.
        wording
            language of the chart; default English.

        Raises `SpecificationError` for another kind, or (code ``nothing_to_draw``) where the tests hold nothing of it.
        """
        from persopredict import charts
        from persopredict.wording import wording_of

        charts.known_kind(kind, ("trend", "lists", "categories"))
        words = charts.Words(wording_of(wording).language)
        if kind == "lists":
            reached = {name: lists.all.ndcg_at_10 for name, lists in self.pooled.predictors().items() if lists.all.ndcg_at_10 >= 0}
            ranked = sorted(reached.items(), key=lambda entry: (-entry[1], entry[0]))
            bars = [charts.Bar(words.name(name), value, words.number(value, 3), name == MODEL) for name, value in ranked]
            return charts.titled(charts.bars(bars, measure="NDCG@10", words=words), f"{self.target}: NDCG@10")
        if kind == "categories":
            columns = (getattr(self.pooled.categories, name)[:_TAKERS_SHOWN] for name in ("category", "expected", "actual", "by_chance"))
            takers = [charts.Takers(*values) for values in zip(*columns, strict=True)]
            return charts.titled(charts.takers(takers, words=words), self.target)
        rivals = {self.best_baseline: self._steps(self.best_baseline)}
        return charts.titled(charts.trend(self._steps(MODEL), rivals=rivals, measure="ndcg_at_10", words=words), self.target)

    def _steps(self, predictor: str) -> list[Step]:
        from persopredict.charts import Step

        lists = [(fold, fold.predictors()[predictor].all.ndcg_at_10) for fold in self.folds]
        return [Step(fold.pairs.label, reached, rows=fold.asked["all"].customers) for fold, reached in lists]

    def _repr_html_(self) -> str:
        """For notebooks: the grade and its reason, the model's lists beside those of its baselines, cutoff by cutoff, and findings."""
        pooled, steps = self.pooled, []
        rows = [(name, *(cell(value) for value in lists.headline().values())) for name, lists in pooled.predictors().items()]
        for fold in self.folds:
            ours, theirs = fold.model.all.ndcg_at_10, fold.predictors()[self.best_baseline].all.ndcg_at_10
            steps.append(
                (fold.pairs.label, f"{fold.asked['all'].customers:,}", f"{fold.rows:,}", f"{fold.positives:,}", cell(ours), cell(theirs))
            )
        heading = ("cutoff", "customers", "pairs", "taken", "NDCG@10", f"of {self.best_baseline}")
        return html.block(
            html.title(f"{self.target}: grade {self.grade}", self.grade_reason),
            html.table(("", *(name for *_, name in HEADLINE)), rows),
            html.table(heading, steps),
            html.note(self.findings()),
        )


def _rows(result: RankedResult, width: int) -> Iterator[str]:
    taken = f"{result.positives:,} ({result.rate:.1%})"
    counts = f"{result.pairs.label:<10} {result.asked['all'].customers:>9,} {result.rows:>11,} {taken:>16}"
    for name, lists in result.predictors().items():
        yield f"{counts}  {name:<{width}}{_cells(lists.headline())}"
        counts = " " * 49
    for place, words in enumerate(("95% from", "to")):
        if MODEL in result.intervals:
            bounds = {name: interval[place] for name, interval in result.intervals[MODEL].items()}
            yield f"{'model, ' + words:>{51 + width}}{_cells(bounds)}"


def _cells(values: Mapping[str, float]) -> str:
    return "".join(f"  {cell(values[name]):>{len(heading)}}" for name, _, _, heading in HEADLINE)


def _furthest(categories: Categories) -> Iterator[str]:
    """The categories whose takers differ most from what was expected, in units of what chance can do."""
    far = [abs(e - a) / chance for e, a, chance in zip(categories.expected, categories.actual, categories.by_chance, strict=True)]
    for place in sorted(range(len(far)), key=lambda place: -far[place])[:_GAPS_SHOWN]:
        if far[place] > 1:
            name, bound = categories.category[place], categories.by_chance[place]
            short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            takers = f"{categories.expected[place]:>9,.0f} takers expected, {categories.actual[place]:>9,} came"
            yield f"  {short:<{_LONGEST_NAME}} {takers} (by chance within {bound:,.0f})"
