"""What lists of categories reached at one cutoff, or at all of them together: values, and the JSON they are stored as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from persopredict.comparison import Interval
from persopredict.cutoff_results import MODEL, Result, interval, number
from persopredict.ranking import NAMES, RankingMetrics

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
#: Categories in the table, those most taken first: names of a large assortment would outweigh the model that they are stored with.
MOST_CATEGORIES = 1000
#: A category with fewer takers says nothing of calibration.
ENOUGH_TAKERS = 100


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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gain:
        """From what `plain` made of it."""
        bounds = interval(values["interval"]), interval(values["relative_interval"])
        return cls(values["baseline"], number(values["difference"]), bounds[0], number(values["relative"]), bounds[1])


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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RankedResult:
        """From what `plain` made of it."""
        table = {name: tuple(column) for name, column in values.get("categories", {}).items()}
        intervals = {name: {metric: interval(pair) for metric, pair in found.items()} for name, found in values["intervals"].items()}
        return cls(
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


def _lists(values: Mapping[str, Any]) -> Lists:
    means = {variant: {name: number(values[variant][name]) for name in NAMES} for variant in VARIANTS}
    return Lists(**{variant: RankingMetrics(**found) for variant, found in means.items()})
