"""The values of an evaluation of rankings: what the lists of an affinity reached, how right its probabilities are in
each category, the grade, and how all of it is shown and stored.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from persopredict.calibration import Choice
from persopredict.comparison import Interval
from persopredict.ranking import NAMES, RankingMetrics
from persopredict.results import MODEL, Grade, Result, at_cutoffs, cell, interval, number, plain

if TYPE_CHECKING:
    import pandas as pd

#: All pairs; those of categories that the customer had taken before the cutoff; those of categories new to it.
VARIANTS = ("all", "repeat", "explore")
#: What is shown first, has intervals, and is told of baselines too: flat name, variant, name in `RankingMetrics`, heading.
HEADLINE = (
    ("recall_at_10", "all", "recall_at_10", "recall@10"),
    ("ndcg_at_10", "all", "ndcg_at_10", "NDCG@10"),
    ("hit_rate_at_10", "all", "hit_rate_at_10", "hit rate@10"),
    ("repeat_ndcg_at_10", "repeat", "ndcg_at_10", "repeat NDCG@10"),
    ("explore_ndcg_at_10", "explore", "ndcg_at_10", "explore NDCG@10"),
)
#: What a digest shows of them.
_DIGEST = tuple((name, heading) for name, _, _, heading in HEADLINE if name in ("recall_at_10", "ndcg_at_10", "explore_ndcg_at_10"))
#: Categories in the table, those most taken first: names of a large assortment would outweigh the model that they are stored with.
MOST_CATEGORIES = 1000
ENOUGH_TAKERS = 100
_GAPS_SHOWN = 5
_LONGEST_NAME = 28
_WIDTH = 140


@dataclass(frozen=True, slots=True)
class Lists:
    """Ranking metrics of one predictor: over all pairs, over those taken before (`repeat`), over new ones (`explore`)."""

    all: RankingMetrics
    repeat: RankingMetrics
    explore: RankingMetrics

    def headline(self) -> dict[str, float]:
        """The metrics that are shown first, by flat name."""
        return {name: float(getattr(getattr(self, variant), metric)) for name, variant, metric, _ in HEADLINE}

    def flat(self) -> dict[str, float]:
        """All metrics, by flat name: ``recall_at_1``, …, ``repeat_recall_at_1``, …, ``explore_hit_rate_at_10``."""
        prefixes = {"all": "", "repeat": "repeat_", "explore": "explore_"}
        return {f"{prefixes[variant]}{name}": float(getattr(getattr(self, variant), name)) for variant in VARIANTS for name in NAMES}


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom a ranking metric is a mean, and what their lists could find.

    `customers` with anything relevant; `left_out`, those without; `relevant` categories of all customers; `candidates`
    among these, which were pairs.
    """

    customers: int
    left_out: int
    relevant: int
    candidates: int

    @property
    def candidates_recall(self) -> float:
        """What share of the relevant a perfect list of any length would find; nan without anything relevant."""
        return self.candidates / self.relevant if self.relevant else float("nan")


@dataclass(frozen=True, slots=True)
class Categories:
    """Calibration by category, one place per category in every tuple.

    `asked`: customers; `expected`: takers, the sum of their probabilities; `actual`: takers; `by_chance`: how far
    `actual` would stray from `expected` at most, 95 times in 100, if every probability were right (1.96 standard
    deviations of a sum of independent draws).
    """

    category: tuple[str, ...] = ()
    asked: tuple[int, ...] = ()
    expected: tuple[float, ...] = ()
    actual: tuple[int, ...] = ()
    by_chance: tuple[float, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per category, with `gap` = expected − actual and `relative_gap` = gap / actual (nan without takers)."""
        import pandas as pd

        columns = asdict(self)
        frame = pd.DataFrame({name: pd.Series(list(values), dtype=_COLUMNS[name]) for name, values in columns.items()})
        frame["gap"] = frame["expected"] - frame["actual"]
        frame["relative_gap"] = frame["gap"] / frame["actual"].where(frame["actual"] > 0)
        return frame.set_index("category")


_COLUMNS = {"category": "str", "asked": "int64", "expected": "float64", "actual": "int64", "by_chance": "float64"}


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much the model is ahead of the baseline that is best in a metric; above zero, the model is better.

    `difference`: mean over customers of the model's metric minus the baseline's, with the 95% `interval` of a bootstrap
    over customers, (nan, nan) below 10; `relative`: the difference over the baseline's metric, nan where that is 0.
    """

    baseline: str
    difference: float
    interval: Interval
    relative: float
    relative_interval: Interval


@dataclass(frozen=True, slots=True)
class RankedResult:
    """What the model and its baselines reached at one cutoff, or pooled over all (`cutoff` None, with 95% intervals).

    Parameters
    ----------
    pairs : the probabilities of the model, over pairs; its baselines are empty. `ece_chance_p95` takes pairs as independent; those of one
        customer are not quite, so that chance reaches a little further.
    base_rate_log_loss : of each category's past rate, the yardstick of the model's log-loss.
    asked : of whom the ranking metrics of "all", "repeat" and "explore" are means.
    model, baselines : ranking metrics.
    calibration_gap : mean of |expected − actual| / actual takers over the categories with at least 100 actual takers; pooled, the mean over
        cutoffs that have such categories; nan without any.
    calibration_categories : how many categories those were, of any cutoff where pooled.
    categories : calibration by category; of a cutoff it is not stored.
    intervals : predictor name to flat metric name to (lower, upper), for the pooled result alone.
    """

    pairs: Result
    base_rate_log_loss: float
    asked: Mapping[str, Asked]
    model: Lists
    baselines: Mapping[str, Lists]
    calibration_gap: float
    calibration_categories: int
    categories: Categories = field(default=Categories(), compare=False)
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    @property
    def cutoff(self) -> datetime | None:
        """The test cutoff, None where pooled."""
        return self.pairs.cutoff

    @property
    def rows(self) -> int:
        """How many pairs."""
        return self.pairs.rows

    @property
    def positives(self) -> int:
        """How many pairs were taken."""
        return self.pairs.positives

    @property
    def rate(self) -> float:
        """The share of pairs that were taken."""
        return self.pairs.rate

    def predictors(self) -> dict[str, Lists]:
        """Ranking metrics by name: the model first, then its baselines."""
        return {MODEL: self.model, **self.baselines}

    def flat(self, *, whole: bool = False) -> dict[str, float]:
        """Counts, probabilities, calibration and rankings under flat names; nan where a metric has no value.

        Of baselines the headline alone, unless the whole is asked for.
        """
        flat = self.pairs.flat()
        for variant, asked in self.asked.items():
            prefix = "" if variant == "all" else f"{variant}_"
            counts = {"customers": asked.customers, "customers_left_out": asked.left_out, "candidates_recall": asked.candidates_recall}
            flat |= {f"{prefix}{name}": value for name, value in counts.items()}
        for name in ("base_rate_log_loss", "calibration_gap", "calibration_categories"):
            flat[name] = getattr(self, name)
        flat |= self.model.flat()
        for name, (lower, upper) in self.intervals.get(MODEL, {}).items():
            flat |= {f"{name}_lower": lower, f"{name}_upper": upper}
        for baseline, lists in self.baselines.items():
            flat |= {f"{baseline}_{name}": value for name, value in (lists.flat() if whole else lists.headline()).items()}
        return flat


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
            folds=tuple(_ranked_result(fold) for fold in values["folds"]),
            pooled=_ranked_result(values["pooled"]),
            best_baseline=values["best_baseline"],
            gains={name: _gain(found) for name, found in values["gains"].items()},
            grade=values["grade"],
            grade_reason=values["grade_reason"],
            calibration=None if values["calibration"] is None else Choice.from_dict(values["calibration"]),
        )

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

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{name}</th>" for name in ("pooled", *(heading for *_, heading in HEADLINE)))
        body = "".join(
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell(value)}</td>" for value in lists.headline().values()) + "</tr>"
            for name, lists in self.pooled.predictors().items()
        )
        title = f"<p><b>{escape(self.target)}: grade {self.grade}</b>. {escape(self.grade_reason)}</p>"
        return f"{title}<table><tr>{head}</tr>{body}</table>"


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


def _ranked_result(values: Mapping[str, Any]) -> RankedResult:
    table = {name: tuple(column) for name, column in values.get("categories", {}).items()}
    intervals = {name: {metric: interval(pair) for metric, pair in found.items()} for name, found in values["intervals"].items()}
    return RankedResult(
        pairs=Result.from_dict(values["pairs"]),
        base_rate_log_loss=number(values["base_rate_log_loss"]),
        asked={variant: Asked(**counts) for variant, counts in values["asked"].items()},
        model=_lists(values["model"]),
        baselines={name: _lists(found) for name, found in values["baselines"].items()},
        calibration_gap=number(values["calibration_gap"]),
        calibration_categories=int(values["calibration_categories"]),
        categories=Categories(**table),
        intervals=intervals,
    )


def _lists(values: Mapping[str, Any]) -> Lists:
    means = {variant: {name: number(values[variant][name]) for name in NAMES} for variant in VARIANTS}
    return Lists(**{variant: RankingMetrics(**found) for variant, found in means.items()})


def _gain(values: Mapping[str, Any]) -> Gain:
    return Gain(
        values["baseline"],
        number(values["difference"]),
        interval(values["interval"]),
        number(values["relative"]),
        interval(values["relative_interval"]),
    )
