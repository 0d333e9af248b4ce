"""Contributions of many customers, against LightGBM, shap and woodelf-explainer: `make bench-reasons` prints what `reasons.md` keeps.

Made customers with a hundred features of an ordinary log, and four models of them: the one that the aim is set for, the same of bounded
depth, and models with the library's own settings. Everything is timed in a process of its own; what answers slowly is timed on a sample.
What each row's contributions and the base value come to is held against the raw score of every row, and against LightGBM's own values.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from speed import apart

from persopredict import learner
from persopredict.features.spec import Feature

ROWS, FITTED, FEATURES = 300_000, 60_000, 100
#: Rows on which the slow ones are timed.
SAMPLES = {"pred_contrib": 3_000, "shap": 1_500, "woodelf": 100_000}
LARGE = {"n_estimators": 300, "num_leaves": 31, "learning_rate": 0.05}
MODELS: dict[str, dict[str, Any]] = {
    "300 trees, 31 leaves": LARGE,
    "300 trees, 31 leaves, depth 6": LARGE | {"max_depth": 6},
    "as for pairs: 200 trees, 15 leaves": learner.PAIR_DEFAULTS,
    "as for customers: 150 trees, 7 leaves": learner.DEFAULTS,
}
AIMED = next(iter(MODELS))
#: Rows asked at once, where one way or the other is faster.
FEW = (250, 500, 1_000, 2_000, 4_000, 8_000)
EVENTS, WINDOWS = ("purchase", "visit", "email_open", "click", "app_start"), ("7d", "28d", "91d", None)


# Made customers --------------------------------------------------------------------------------------------------------------------


def features() -> list[Feature]:
    """A hundred, of the kinds that a log's default features are."""
    found: list[Feature] = []
    for event in EVENTS:
        where = f"event = '{event}'"
        found += [Feature(name, where=where, fallback=None) for name in ("recency", "tenure", "gap_mean", "gap_std", "overdue")]
        found += [Feature("count", where=where, window=window, fallback=0) for window in WINDOWS]
        found += [Feature("sum", "value", where=where, window=window, fallback=0) for window in WINDOWS]
        found += [Feature("distinct", "item_id", where=where, window=window, fallback=0) for window in WINDOWS]
        found += [Feature("share", where=where, window=window, fallback=None) for window in WINDOWS[1:]]
    return found


def customers(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Features, shape (rows, 100), nan where one is undefined; and labels, shape (rows,)."""
    rng = np.random.default_rng(0)
    X, score = np.empty((rows, FEATURES)), np.full(rows, -2.0)
    known = rng.uniform(10, 700, rows)
    for number, block in enumerate(np.split(X, len(EVENTS), axis=1)):
        rate = rng.gamma(0.7, 0.08 * (1 + number), rows)
        days = [np.minimum(length, known) for length in (0, 7, 28, 91, 700)]
        counts = np.cumsum([rng.poisson(rate * (longer - shorter)) for shorter, longer in pairwise(days)], axis=0)
        often, ever = counts[-1] > 1, counts[-1] > 0
        gap = np.where(often, known / np.maximum(counts[-1], 1), np.nan)
        recency = np.where(ever, np.round(np.minimum(rng.exponential(1 / (rate + 1e-3)), known), 2), np.nan)
        columns = [recency, np.where(ever, np.round(known, 2), np.nan), gap, gap * rng.uniform(0.2, 1.5, rows), recency / gap, *counts]
        columns += [np.round(rng.gamma(np.maximum(count, 0.01), 20.0), 2) * (count > 0) for count in counts]
        columns += [rng.binomial(count, 0.6) for count in counts]
        columns += [np.where(count > 0, rng.beta(2, 3, rows), np.nan) for count in counts[1:]]
        block[:] = np.stack(columns, axis=1)
        score += np.where(ever, 0.6 * np.exp(-np.nan_to_num(recency) / 20), -0.4) + 0.1 * np.log1p(counts[1]) * (number - 1)
    score += 0.5 * (X[:, 5] > 0) * (X[:, 25] > 1) - 0.4 * (np.nan_to_num(X[:, 4]) > 2)
    return X, (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int8)


# What a process of its own does ----------------------------------------------------------------------------------------------------


def made(folder: Path, rows: int) -> None:
    """The customers and the models, as files."""
    import lightgbm as lgb

    X, y = customers(rows)
    np.save(folder / "X.npy", X)
    names = [feature.name for feature in features()]
    for name, chosen in MODELS.items():
        model = lgb.LGBMClassifier(**chosen, random_state=0, deterministic=True, force_row_wise=True, verbose=-1)
        model.fit(X[:FITTED], y[:FITTED], feature_name=names).booster_.save_model(_file(folder, name))


@dataclass(frozen=True)
class Ours:
    """One model's contributions of all rows.

    Seconds: `predict` (the best of three), `tables`, and `whole`, with the tables in it. `cores`: busy during it. `peak`: the process's
    resident memory in GB, rows and answer in it. `gap`: of sums and raw scores, relative; `differs`: from LightGBM's values, at most.
    """

    predict: float
    tables: float
    whole: float
    cores: float
    peak: float
    gap: float
    differs: float


def ours(folder: Path, name: str) -> Ours:
    """Timed as a nightly job meets it: the model was just read, and nothing is made yet."""
    scorer, X = _read(folder, name)
    predict, raw = _best(lambda: scorer.logits(X), 3)
    tables, _ = _best(lambda: _tables(scorer), 1)
    busy = time.process_time()
    whole, values = _best(lambda: scorer.contributions(X), 1)
    cores, peak = (time.process_time() - busy) / whole, _peak()
    gap = (np.abs(values.sum(axis=1) - raw) / np.maximum(np.abs(raw), 1e-9)).max()
    differs = np.abs(values[:500] - scorer.booster.predict(X[:500], pred_contrib=True)).max()
    return Ours(predict, tables, whole, cores, peak, float(gap), float(differs))


def theirs(folder: Path, name: str, way: str, rows: int) -> float:
    """Microseconds that a way takes for a row; what it prepares is not counted, where it prepares apart."""
    scorer, X = _read(folder, name)
    X = X[:rows]
    if way == "pred_contrib":
        seconds, _ = _best(lambda: scorer.booster.predict(X, pred_contrib=True), 2)
    elif way == "shap":
        import shap

        warnings.simplefilter("ignore", UserWarning)
        explainer = shap.TreeExplainer(scorer.booster)
        seconds, _ = _best(lambda: explainer.shap_values(X), 2)
    else:
        import pandas as pd
        from woodelf import WoodelfExplainer

        frame, explainer = pd.DataFrame(X, columns=list(scorer.names)), WoodelfExplainer(scorer.booster)
        seconds, _ = _best(lambda: explainer.shap_values(frame, verbose=False), 1)
    return seconds / len(X) * 1e6


@dataclass(frozen=True)
class Words:
    """From features to reasons in words, of all rows: seconds, the process's peak memory in GB, and how many reasons there are."""

    seconds: float
    peak: float
    reasons: int


def in_words(folder: Path, name: str) -> Words:
    """What a nightly job publishes."""
    from persopredict import explain
    from persopredict.wording import Wording

    scorer, X = _read(folder, name)
    seconds, found = _best(lambda: explain.reasons(scorer.contributions, X, features(), Wording()), 1)
    return Words(seconds, _peak(), sum(len(chunk.flatten()) for chunk in found.chunks))


def few(folder: Path, name: str) -> list[tuple[float, float, float]]:
    """For each of `FEW`, seconds of LightGBM, of tables that are made first, and of tables at hand."""
    scorer, X = _read(folder, name)
    making, tables = _best(lambda: _tables(scorer), 1)
    found = []
    for rows in FEW:
        slow, _ = _best(lambda rows=rows: scorer.booster.predict(X[:rows], pred_contrib=True), 2)
        quick, _ = _best(lambda rows=rows: tables(X[:rows]), 2)
        found.append((slow, making + quick, quick))
    return found


def _tables(scorer: learner.BoosterScorer) -> Any:
    """Made anew."""
    from persopredict.contributions import TreeContributions
    from persopredict.trees import read

    return TreeContributions.of(read(scorer.text) or (), len(scorer.names))


def _read(folder: Path, name: str) -> tuple[learner.BoosterScorer, np.ndarray]:
    return learner.BoosterScorer.from_text(_file(folder, name).read_text()), np.load(folder / "X.npy")


def _file(folder: Path, name: str) -> Path:
    return folder / f"{list(MODELS).index(name)}.txt"


def _best(what: Callable[[], Any], runs: int) -> tuple[float, Any]:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        found = what()
        times.append(time.perf_counter() - began)
    return min(times), found


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    return peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


# What it comes to ------------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """All that was measured, by model; `theirs` also by way, in microseconds a row."""

    rows: int
    ours: dict[str, Ours] = field(default_factory=dict)
    theirs: dict[tuple[str, str], float] = field(default_factory=dict)
    few: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    words: dict[str, Words] = field(default_factory=dict)

    def measure(self, names: Sequence[str], folder: Path) -> None:
        """Each figure from a process of its own."""
        apart(made, folder, self.rows)
        for name in names:
            self.ours[name] = self._told(name, "ours", apart(ours, folder, name))
            for way, rows in SAMPLES.items():
                self.theirs[name, way] = self._told(name, way, apart(theirs, folder, name, way, min(rows, self.rows)))
            self.few[name] = self._told(name, "few rows", apart(few, folder, name))
            self.words[name] = self._told(name, "in words", apart(in_words, folder, name))

    def _told(self, name: str, what: str, found: Any) -> Any:
        print(f"{name}: {what}: {found}", file=sys.stderr, flush=True)
        return found

    def row(self, name: str) -> float:
        """Our microseconds for a row, tables included."""
        return self.ours[name].whole / self.rows * 1e6

    def faster(self, name: str, way: str) -> float:
        """How many times faster we are."""
        return self.theirs[name, way] / self.row(name)

    def of_predict(self, name: str) -> float:
        """How many times as long as predicting."""
        return self.ours[name].whole / self.ours[name].predict


Row = tuple[str, ...]


def target_rows(run: Run) -> Iterator[Row]:
    """(target, aimed at, measured, verdict), of the model that they are set for."""
    if AIMED not in run.ours:
        return
    found = run.ours[AIMED]
    for way, label in (("pred_contrib", "`pred_contrib`"), ("shap", "`shap.TreeExplainer`")):
        faster = run.faster(AIMED, way)
        yield f"against {label}", "at least 12 × faster", f"{faster:.0f} ×", _verdict(faster >= 12)
    yield "against `predict`", "at most 12 × its time", f"{run.of_predict(AIMED):.1f} ×", _verdict(run.of_predict(AIMED) <= 12)
    yield "peak memory of the process", "below 3 GB", f"{found.peak:.2f} GB", _verdict(found.peak < 3)
    yield "cores busy", "both", f"{found.cores:.2f}", _verdict(found.cores > 1.5)
    for name, each in run.ours.items():
        measured = f"{each.gap:.0e}, {each.differs:.0e}"
        aim = "at most 1e-06 of the score, 1e-05"
        yield (
            f"{name}: sums against raw scores, values against LightGBM's",
            aim,
            measured,
            _verdict(each.gap <= 1e-6 and each.differs <= 1e-5),
        )


def model_rows(run: Run) -> Iterator[Row]:
    """(model, microseconds a row of each way, ratios, tables, memory)."""
    for name, found in run.ours.items():
        ways = [f"{run.theirs[name, way]:.1f} ({run.faster(name, way):.1f} ×)" for way in SAMPLES]
        predict = f"{found.predict / run.rows * 1e6:.1f}"
        yield name, predict, f"{run.row(name):.1f}", f"{run.of_predict(name):.1f} ×", *ways, f"{found.tables:.1f} s", f"{found.peak:.2f} GB"


def few_rows(run: Run) -> Iterator[Row]:
    """(model, seconds of LightGBM / of tables that are made first / of tables at hand, for each number of rows)."""
    for name, found in run.few.items():
        yield name, *(" / ".join(f"{seconds:.2f}" for seconds in three) for three in found)


def word_rows(run: Run) -> Iterator[Row]:
    """(model, seconds, reasons, against predicting, against `pred_contrib`, memory)."""
    for name, found in run.words.items():
        slow = run.theirs[name, "pred_contrib"] * run.rows / 1e6
        predict = f"{found.seconds / run.ours[name].predict:.1f} ×"
        yield name, f"{found.seconds:.1f}", f"{found.reasons:,}", predict, f"{slow / found.seconds:.1f} × faster", f"{found.peak:.2f} GB"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _table(head: Sequence[str], rows: Iterator[Row]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (tuple(head), tuple("---" for _ in head), *rows))


def report(run: Run, loads: tuple[float, float]) -> str:
    """The results as Markdown."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("persopredict", "lightgbm", "shap", "woodelf-explainer", "numpy"))
    samples = ", ".join(f"{way} {rows:,}" for way, rows in SAMPLES.items())
    ways = [f"{way}, µs a row" for way in SAMPLES]
    head = ("model", "predict, µs a row", "ours, µs a row", "of predict", *ways, "tables", "peak memory")
    return f"""# Contributions of many customers at once

Written by `make bench-reasons` (`reasons.py`). {run.rows:,} made customers, {FEATURES} features, all threads that there are. Ours are
timed with all that is made once for a model, its tables; the others on a sample of the same rows ({samples}),
and in brackets stands how many times faster ours are. woodelf-explainer prepares for any number of rows anew, and works on one core.

{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, load {loads[0]:.1f} at the start, {loads[1]:.1f} at the end; {platform.system()},
Python {platform.python_version()}, {libraries}.

{_table((f"target ({AIMED})", "aimed at", "measured", ""), target_rows(run))}

{_table(head, model_rows(run))}

## Reasons in words

From the matrix of features to the column that is published: contributions, three reasons for and three against, as sentences.

{_table(("model", "seconds", "reasons", "of predict", "against pred_contrib alone", "peak memory"), word_rows(run))}

## Few rows

Seconds by LightGBM (`pred_contrib`) / with tables that are made first / with tables at hand. From `learner.MANY_ROWS`
({learner.MANY_ROWS:,}) on tables are used.

{_table(("model", *(f"{rows:,} rows" for rows in FEW)), few_rows(run))}
"""


def main() -> int:
    """Measure, print, write; 1 if contributions don't add up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--models", type=int, default=len(MODELS), help="only the first so many")
    parser.add_argument("--report", type=Path, help="default reasons.md beside this file after a whole run, else none")
    chosen = parser.parse_args()
    run, load = Run(chosen.rows), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run.measure(list(MODELS)[: chosen.models], Path(folder))
    text = report(run, (load, os.getloadavg()[0]))
    print(text)
    whole = chosen.rows == ROWS and chosen.models == len(MODELS)
    if file := chosen.report or (Path(__file__).with_suffix(".md") if whole else None):
        file.write_text(text, encoding="utf-8")
    return int(any(found.gap > 1e-6 or found.differs > 1e-5 for found in run.ours.values()))


if __name__ == "__main__":
    sys.exit(main())
