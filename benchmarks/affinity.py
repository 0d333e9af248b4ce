"""Affinity against simple rules, against planted tastes and against the clock: `make bench-affinity` prints what `affinity.md` keeps.

The Complete Journey, at three cutoffs, each with a model trained before it: all pairs of household and category, judged on the 28 days
after, beside the rules of `affinity_rivals.py`, whose half-lives and weights are the best for the very households that are judged. Then
each household's last basket, item by item; then made logs whose tastes are known; then time and memory. Whatever a library answers comes
from a process of its own. A household, a category or an `is_new` that differs from the books of `affinity_rivals.py` fails the run.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import affinity_rivals as rivals
import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from affinity_rivals import HALF_LIVES_OF_ITEMS, METRICS, RULES, Best, Gain, Order, Question
from speed import apart

import persopredict as pp

PARTS = ("pairs", "basket", "planted", "speed")
CUTOFFS = ("2017-10-08", "2017-11-05", "2017-12-03")
LAST = CUTOFFS[-1]
LEVELS = {"product_category": 302, "department": 30}
FINEST = next(iter(LEVELS))
HORIZON, JOURNEY_ENDS = "28d", "2018-01-01"
#: More than there are: what is published is then every pair.
ALL = 1_000
PLANTED_CUSTOMERS, PLANTED_EVENTS, PLANTED_TOP = 10_000, 10, 3
MANY, MANY_FITTED = 100_000, 20_000


# What a process of its own does ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Took:
    """Seconds, and the process's peak resident memory in GB."""

    seconds: float
    peak: float

    @classmethod
    def since(cls, began: float) -> Took:
        # Linux counts in kilobytes, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return cls(time.perf_counter() - began, peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024))


def journey_answer(file: Path, by: str, cutoff: str, every_pair: bool) -> Took:
    """From the packaged tables to the attributes of one cutoff, by a model trained before it; they are kept in `file`."""
    from quality import journey

    began = time.perf_counter()
    events = journey(str(file.parent)).event_log()
    published = {"top": ALL, "top_new": ALL} if every_pair else {}
    predictor = pp.Predictor(pp.Affinity("purchase", HORIZON, by=by, **published)).fit(events, until=cutoff)
    return _kept(predictor.predict(events, as_of=cutoff), file, began)


def basket_answer(file: Path, horizon: str) -> Took:
    """The ten likeliest items of each household at the log's end, from a log without the households' last baskets."""
    began = time.perf_counter()
    events = log_without_last_baskets(file.parent)
    target = pp.Affinity("purchase", horizon, by="item_id", active_within=None, top=rivals.K)
    predictor = pp.Predictor(target).fit(events, until=JOURNEY_ENDS)
    return _kept(predictor.predict(events, as_of=JOURNEY_ENDS), file, began)


def log_without_last_baskets(folder: Path) -> pp.EventLog:
    """Everything else known. Coupons are redeemed at a till: those of the last basket's day are left out with it."""
    from persopredict.datasets import complete_journey_sources

    last = folder / "last_baskets.parquet"
    connection = rivals.journey()
    rivals.next_basket(connection)
    connection.sql("SELECT h::INT AS household_id, b AS basket_id, date_trunc('day', until) AS day FROM last_baskets").write_parquet(
        str(last)
    )
    without = {
        "purchases": "l.basket_id = s.basket_id",
        "redemptions": "l.household_id = s.household_id AND s.redeemed_at >= l.day",
    }
    logs = []
    for source in complete_journey_sources(rivals.ZONE):
        query, condition = source["query"], without.get(source["name"])
        if condition:
            query = f"SELECT s.* FROM ({query}) AS s LEFT JOIN read_parquet('{last}') AS l ON {condition} WHERE l.basket_id IS NULL"
        event, observed = pp.lit(source["event"]), source["observed"]
        logs.append(pp.EventLog(query, **source["columns"], event=event, observed=observed, timezone=rivals.ZONE, name=source["name"]))
    return pp.EventLog.union(*logs)


def made_log(file: Path, customers: int) -> tuple[datetime, pd.DataFrame]:
    """A made log in `file`; a cutoff one horizon before its end, and each customer's favourite and number of events before it."""
    from persopredict.datasets import made_tastes

    made = made_tastes(customers)
    cutoff = made.end - timedelta(days=rivals.HORIZON_DAYS)
    pq.write_table(made.events, file)
    before = duckdb.connect().execute(f"SELECT customer_id, count(*) FROM '{file}' WHERE event_at < ? GROUP BY ALL", [cutoff]).fetchall()
    tastes = made.tastes.select(["customer_id", "category"]).to_pandas()
    return cutoff, tastes.assign(events=tastes["customer_id"].map(dict(before)).fillna(0).astype(int))


def made_answer(log: Path, file: Path, cutoff: datetime, model: Path, fit_on: Path | None) -> Took:
    """The attributes of a made log; fitted on `fit_on` and saved, or by what was saved."""
    if fit_on:
        target = pp.Affinity("purchase", HORIZON, by="category")
        pp.Predictor(target).fit(pp.EventLog(fit_on), until=cutoff).save(model)
    predictor = pp.Predictor.load(model)
    began = time.perf_counter()
    return _kept(predictor.predict(pp.EventLog(log), as_of=cutoff), file, began)


def _kept(attributes: Any, file: Path, began: float) -> Took:
    took = Took.since(began)
    attributes[["customer_id", "category", "probability", "is_new"]].dropna(subset="category").to_parquet(file)
    return took


# What is judged --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What was published at one question, in the numbers of its books; `part` of `rivals.best`: all, repeat, explore.

    pairs : (m, 2), household and category; probability, is_new : (m,); differences : what the books say otherwise.
    """

    question: Question
    pairs: np.ndarray
    probability: np.ndarray
    differences: list[str]
    half_lives: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(rivals.HALF_LIVES))

    @classmethod
    def of(cls, question: Question, published: pd.DataFrame, *, every_pair: bool = True, **more: Any) -> Judged:
        """`published` has customer_id, category, probability and is_new; `every_pair`: none of those the books know may be missing."""
        columns = [
            pd.Index(names).get_indexer(published[name].astype(str))
            for names, name in ((question.households, "customer_id"), (question.things, "category"))
        ]
        pairs, known = np.stack(columns, axis=1), (columns[0] >= 0) & (columns[1] >= 0) & (columns[1] < question.seen)
        differences = [f"{(~known).sum()} pairs of unknown households or categories"] if not known.all() else []
        pairs, rows = pairs[known], published[known]
        if repeated := len(pairs) - len(np.unique(question.keys(pairs))):
            differences.append(f"{repeated} pairs published twice")
        if missing := len(question.households) * question.seen - len(pairs) if every_pair else 0:
            differences.append(f"{missing} pairs missing")
        if wrong := int((rows["is_new"].to_numpy(bool) != question.is_new(pairs)).sum()):
            differences.append(f"is_new is wrong for {wrong} pairs")
        return cls(question, pairs, rows["probability"].to_numpy(float), differences, **more)

    def metric(self, name: str, part: str = "all") -> np.ndarray:
        """One value for each household, as in `rivals.Order`."""
        if part not in self._orders:
            self._orders[part] = self.question.lists(self.pairs, part).order(self.probability)
        return self._orders[part].metric(name)

    def rules(self, part: str = "all") -> dict[tuple[str, str], Best]:
        """The best of each rule. Among what was never taken, a household's own history says nothing: popularity is all there is."""
        if part not in self._rules:
            tried = [rivals.Setting("popularity")] if part == "explore" else rivals.settings(self.half_lives)
            self._rules[part] = rivals.best(self.question, tried, part)
        return self._rules[part]

    @cached_property
    def _rules(self) -> dict[str, dict[tuple[str, str], Best]]:
        return {}

    @cached_property
    def _orders(self) -> dict[str, Order]:
        return {}

    @cached_property
    def taken(self) -> np.ndarray:
        """(m,): whether the pair was taken."""
        return np.isin(self.question.keys(self.pairs), self.question.keys(self.question.taken))


def gains(judged: Judged, metric: str, part: str = "all") -> list[Gain]:
    """Against every rule, the hardest first."""
    ours = judged.metric(metric, part)
    found = [Gain.of(rule, ours, theirs.values) for (rule, name), theirs in judged.rules(part).items() if name == metric]
    return sorted(found, key=lambda gain: gain.relative)


# What it comes to ------------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """All that was measured; what was not asked for is empty."""

    pairs: dict[tuple[str, str], Judged] = field(default_factory=dict)
    basket: Judged | None = None
    left_out: int = 0
    planted: dict[str, float] = field(default_factory=dict)
    took: dict[str, Took] = field(default_factory=dict)

    def measure(self, parts: Sequence[str], folder: Path) -> None:
        """First what runs apart: its peak memory counts what this process holds. Then what was answered is judged."""
        if "speed" in parts:
            # What is timed publishes what it does by default.
            self._told("fit and score", apart(journey_answer, folder / "timed.parquet", FINEST, LAST, False))
            self._told("many", self._many(folder))
        answers = {(by, cutoff): folder / f"{by}_{cutoff}.parquet" for by in LEVELS for cutoff in CUTOFFS if "pairs" in parts}
        for (by, cutoff), file in answers.items():
            self._told(f"{by} {cutoff}, every pair", apart(journey_answer, file, by, cutoff, True))
        if "planted" in parts:
            self.planted = self._planted(folder)
        if "basket" in parts:
            self._told("next basket", apart(basket_answer, folder / "basket.parquet", HORIZON))
        connection = rivals.journey()
        for (by, cutoff), file in answers.items():
            self.pairs[by, cutoff] = Judged.of(rivals.at_cutoff(connection, by, cutoff), pd.read_parquet(file))
        if "basket" in parts:
            question, self.left_out = rivals.next_basket(connection)
            published, tried = pd.read_parquet(folder / "basket.parquet"), dict(HALF_LIVES_OF_ITEMS)
            self.basket = Judged.of(question, published, every_pair=False, half_lives=tried)

    def _told(self, what: str, took: Took) -> None:
        self.took[what] = took
        print(f"{what:<40}{took.seconds:>8.1f} s{took.peak:>7.2f} GB", flush=True)

    def _many(self, folder: Path) -> Took:
        log, smaller, model, file = (folder / name for name in ("many.parquet", "fitted.parquet", "model", "many_answer.parquet"))
        cutoff, _ = apart(made_log, log, MANY)
        apart(made_log, smaller, MANY_FITTED)
        apart(made_answer, smaller, file, cutoff, model, smaller)
        return apart(made_answer, log, file, cutoff, model, None)

    def _planted(self, folder: Path) -> dict[str, float]:
        log, file = folder / "planted.parquet", folder / "planted_answer.parquet"
        cutoff, tastes = apart(made_log, log, PLANTED_CUSTOMERS)
        apart(made_answer, log, file, cutoff, folder / "planted", log)
        return favourites_found(tastes, pd.read_parquet(file))

    @property
    def differences(self) -> list[str]:
        """Whatever the books say otherwise."""
        asked = {" ".join(key): judged for key, judged in self.pairs.items()} | ({"next basket": self.basket} if self.basket else {})
        return [f"{name}: {text}" for name, judged in asked.items() for text in judged.differences]


def favourites_found(tastes: pd.DataFrame, published: pd.DataFrame) -> dict[str, float]:
    """Of the customers who got an answer and had events enough: how many there are, and for which share the favourite is at the top."""
    place = published.groupby("customer_id")["probability"].rank(method="first", ascending=False)
    top = published.assign(place=place).query("place <= @PLANTED_TOP")
    asked = tastes[(tastes["events"] >= PLANTED_EVENTS) & tastes["customer_id"].isin(published["customer_id"])]
    found = asked.merge(top, on=["customer_id", "category"])
    return {"customers": len(asked), "share": len(found) / len(asked)}


Row = tuple[str, ...]


def target_rows(run: Run) -> Iterator[Row]:
    """(target, aimed at, measured, verdict), of what was measured."""
    for by, size in LEVELS.items():
        if (by, LAST) in run.pairs:
            yield from _ranking_rows(run.pairs[by, LAST], f"{size} categories", 0.03 if by == FINEST else 0.0)
        mine = [judged for (level, _), judged in run.pairs.items() if level == by]
        if mine:
            yield from _calibration_rows(mine, f"{size} categories")
    if run.basket:
        hardest = next(gain for gain in gains(run.basket, "recall") if gain.rule == "blended")
        met = hardest.relative >= 0.05 and hardest.low > 0
        yield "next basket, recall@10 against blended", "at least +5%, clear of zero", str(hardest), _verdict(met)
    if run.planted:
        what = (
            f"planted favourite among the top {PLANTED_TOP}, {run.planted['customers']:,.0f} customers of {PLANTED_EVENTS} events or more"
        )
        yield what, "at least 95%", f"{run.planted['share']:.1%}", _verdict(run.planted["share"] >= 0.95)
    aims = {"fit and score": (150, f"{LEVELS[FINEST]} categories, {LAST}"), "many": (60, f"{MANY:,} customers × 30 scored")}
    for name, (most, what) in aims.items():
        if took := run.took.get(name):
            yield f"{what}, seconds", f"at most {most}", f"{took.seconds:.0f}", _verdict(took.seconds <= most)
            yield f"{what}, peak memory", "below 4 GB", f"{took.peak:.2f} GB", _verdict(took.peak < 4)


def _ranking_rows(judged: Judged, where: str, least: float) -> Iterator[Row]:
    for metric in ("recall", "ndcg"):
        hardest = gains(judged, metric)[0]
        # Ahead by the whole interval is asked where the aim is a margin.
        met = hardest.relative >= least and hardest.low > 0 if least else hardest.relative > 0
        aim = f"at least {least:+.0%}, clear of zero" if least else "ahead"
        yield f"{where}, {metric}@{rivals.K} against {hardest.rule}, the hardest", aim, str(hardest), _verdict(met)
    if least:
        ratio = 1 + gains(judged, "ndcg", "explore")[0].relative
        yield f"{where}, explore NDCG@{rivals.K} / popularity", "at least 1.2", f"{ratio:.2f}", _verdict(ratio >= 1.2)


def _calibration_rows(mine: Sequence[Judged], where: str) -> Iterator[Row]:
    pooled = rivals.ece(np.concatenate([one.taken for one in mine]), np.concatenate([one.probability for one in mine]))
    yield f"{where}, pooled ECE", "at most 0.01", f"{pooled:.4f}", _verdict(pooled <= 0.01)
    found, chance = (
        np.concatenate(each) for each in zip(*(rivals.gaps(one.pairs[:, 1], one.taken, one.probability) for one in mine), strict=True)
    )
    measured = f"{found.mean():.1%} (chance alone {chance.mean():.1%})"
    yield f"{where}, expected against actual takers", "at most 15%", measured, _verdict(found.mean() <= 0.15)


def ranking_rows(name: str, judged: Judged, part: str, metric: str) -> Row:
    """(what, the model, each rule with its setting, gain over the hardest)."""
    rules = {rule: best for (rule, one), best in judged.rules(part).items() if one == metric}
    cells = (f"{rules[rule].mean:.4f} {rules[rule].setting}".strip() if rule in rules else "" for rule in RULES)
    return name, part, f"{metric}@{rivals.K}", f"{np.nanmean(judged.metric(metric, part)):.4f}", *cells, str(gains(judged, metric, part)[0])


def all_ranking_rows(run: Run) -> Iterator[Row]:
    """Of everything that was ranked."""
    for (by, cutoff), judged in run.pairs.items():
        for part, metric in (*(("all", metric) for metric in METRICS), ("repeat", "ndcg"), ("explore", "ndcg")):
            yield ranking_rows(f"{by}, {cutoff}", judged, part, metric)
    if run.basket:
        for metric in METRICS:
            yield ranking_rows(f"next basket, item_id ({run.left_out} households of one basket left out)", run.basket, "all", metric)


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _table(head: Sequence[str], rows: Iterator[Row]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (tuple(head), tuple("---" for _ in head), *rows))


def report(run: Run, loads: tuple[float, float]) -> str:
    """The results as Markdown."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("persopredict", "duckdb", "lightgbm", "numpy"))
    differences = "".join(f"\n- {text}" for text in run.differences) or " none."
    return f"""# Affinity: against simple rules, planted tastes and the clock

Written by `make bench-affinity` (`affinity.py`). The rules' half-lives and weights are, for each figure, the best for the very households
that are judged. In brackets: 95% intervals of the paired difference, from a bootstrap over households. Households that took nothing of
what is judged are left out. Differences between what was published and the benchmark's own books:{differences}

{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, load {loads[0]:.1f} at the start, {loads[1]:.1f} at the end; {platform.system()},
Python {platform.python_version()}, {libraries}.

{_table(("target", "aimed at", "measured", ""), target_rows(run))}

{_table(("what", "pairs", "metric", "persopredict", *RULES, "gain over the hardest"), all_ranking_rows(run))}

{_table(("process", "seconds", "peak memory"), ((name, f"{took.seconds:.1f}", f"{took.peak:.2f} GB") for name, took in run.took.items()))}
"""


def main() -> int:
    """Measure, print, write; 1 if something published differs from the books."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=Path, help="default affinity.md beside this file after a whole run, else none")
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if hasattr(os, "sched_setaffinity"):
        # Every process started from here inherits it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    run, load = Run(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run.measure(chosen.only, Path(folder))
    text = report(run, (load, os.getloadavg()[0]))
    print(text)
    if file := chosen.report or (Path(__file__).with_suffix(".md") if set(chosen.only) == set(PARTS) else None):
        file.write_text(text, encoding="utf-8")
    return 1 if run.differences else 0


if __name__ == "__main__":
    sys.exit(main())
