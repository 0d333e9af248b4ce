"""What `quality.py` measured, beside what is aimed at, as Markdown."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby

import numpy as np
from affinity import Took
from quality_judged import TRUTH, Judged, Pooled
from small_data import POSITIVES, REFUSED, Graded

from persopredict import metrics

PARTS = ("journey", "news", "made", "small", "calibration", "speed")
#: Mean AUC of the three cutoffs.
LEAST_AUC = {"churn_purchase_28d": 0.872, "conversion_coupon_redemption_28d": 0.918}
MOST_ECE = 0.02
#: Of made logs, in base rates and in AUC; and between what a made log must lie to count.
MOST_ERROR, MOST_AUC_LOST = 0.15, 0.01
RATES, TRUE_AUCS = (0.05, 0.15), (0.80, 0.88)
#: Shares of the seeds: skill where something is planted, none claimed where nothing is.
SKILLED, MODEST = 0.8, 0.9
MOST_HARM = 0.005
#: Seconds.
JOURNEY_FIT, MANY_FIT = 40, 300

Row = tuple[str, ...]


@dataclass
class Run:
    """All that was measured; what was not asked for is empty.

    `pooled`: by part, one entry for each target; `took`: by target of The Complete Journey; `many`: customers of a large log, the
    fit on it, its rows and features; `notes`: what could not be measured.
    """

    parts: Sequence[str]
    pooled: dict[str, list[Pooled]] = field(default_factory=dict)
    small: list[Graded] = field(default_factory=list)
    took: dict[str, Took] = field(default_factory=dict)
    many: tuple[int, Took, int, int] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, part: str, judged: Sequence[Judged]) -> None:
        """Put the cutoffs of each target together."""
        targets = dict.fromkeys(one.target for one in judged)
        self.pooled.setdefault(part, []).extend(Pooled([one for one in judged if one.target == target]) for target in targets)

    def of(self, part: str) -> list[Pooled]:
        """What was measured of a part that is asked for."""
        return self.pooled.get(part, []) if part in self.parts else []


# Targets ---------------------------------------------------------------------------------------------------------------------------


def target_rows(run: Run) -> Iterator[Row]:
    """(target, aimed at, measured, verdict), of what was measured."""
    for pooled in run.of("journey"):
        least, found = LEAST_AUC[pooled.target], pooled.auc(pooled.model)
        yield f"{pooled.target}, mean AUC", f"at least {least}", f"{found:.4f}", _verdict(found.value >= least)
        yield from _ahead_rows(pooled)
        yield _ece_row(pooled)
    for pooled in run.of("news"):
        yield from _ahead_rows(pooled)
        # Returns fall by a third from a Monday to a Friday, and nine days of history hold one week: no aim, but it is shown.
        yield *_ece_row(pooled)[:1], "shown", _ece_row(pooled)[2], ""
    for pooled in run.of("made"):
        yield from _truth_rows(pooled)
    for (process, planted, counted), each in _small_groups(run):
        yield _small_row(f"{process}, {POSITIVES} {counted}", planted, list(each))
    if "calibration" in run.parts:
        yield from _harm_rows(run)
    yield from _speed_rows(run)


def _ahead_rows(pooled: Pooled) -> Iterator[Row]:
    aim = "ahead, interval clear of zero"
    for name in pooled.baselines:
        loss, auc = pooled.loss_above(name), pooled.auc_above(name)
        yield f"{pooled.target}, log-loss against {name}", aim, f"{loss:+.4f}", _verdict(loss.interval[1] < 0)
        yield f"{pooled.target}, AUC against {name}", aim, f"{auc:+.4f}", _verdict(auc.interval[0] > 0)


def _ece_row(pooled: Pooled) -> Row:
    ece, chance = pooled.ece()
    aim = f"at most {MOST_ECE}, below the chance bound"
    return f"{pooled.target}, pooled ECE", aim, f"{ece:.4f} (bound {chance:.4f})", _verdict(ece <= MOST_ECE and ece < chance)


def _truth_rows(pooled: Pooled) -> Iterator[Row]:
    rate, true, error, auc = pooled.y.mean(), pooled.auc(TRUTH), pooled.error(), pooled.auc_above(TRUTH)
    where = f"made log, {pooled.target}"
    fits = RATES[0] <= rate <= RATES[1] and TRUE_AUCS[0] <= true.value <= TRUE_AUCS[1]
    aim = f"{RATES[0]:.0%} to {RATES[1]:.0%}, {TRUE_AUCS[0]:.2f} to {TRUE_AUCS[1]:.2f}"
    yield f"{where}, base rate and true AUC of {len(pooled.y):,} customers", aim, f"{rate:.1%}, {true:.4f}", _verdict(fits)
    aim = f"at most {MOST_ERROR:.0%} of the base rate"
    yield f"{where}, mean absolute error of the probabilities", aim, f"{error:.1%}", _verdict(error.value <= MOST_ERROR)
    yield f"{where}, AUC against the truth's", f"within {MOST_AUC_LOST}", f"{auc:+.4f}", _verdict(abs(auc.value) <= MOST_AUC_LOST)


def _small_groups(run: Run) -> Iterator[tuple[tuple[str, bool, str], Iterator[Graded]]]:
    yield from groupby(run.small, key=lambda one: (one.process, one.planted, one.counted))


def _small_row(name: str, planted: bool, graded: Sequence[Graded]) -> Row:
    if planted:
        well, share, what = sum(one.skill > 0 for one in graded), SKILLED, "Brier skill above zero"
    else:
        well, share, what = sum(one.grade in ("C", REFUSED) for one in graded), MODEST, "nothing planted, no skill claimed"
    least = round(share * len(graded))
    return f"{name}: {what}", f"at least {least} of {len(graded)} seeds", f"{well} of {len(graded)}", _verdict(well >= least)


def _harm_rows(run: Run) -> Iterator[Row]:
    aim, what = f"at most {MOST_HARM:+.1%}", "log-loss by calibration"
    for part, pooled in ((part, each) for part, found in run.pooled.items() for each in found):
        after, folds = pooled.harm(), pooled.harm_in_folds()
        yield f"{part}, {pooled.target}: {what}", aim, f"{after:+.2%}", _verdict(after.value <= MOST_HARM)
        yield f"{part}, {pooled.target}: {what}, folds of the fits", aim, f"{folds:+.2%}", _verdict(folds.value <= MOST_HARM)
    for (process, planted, counted), each in _small_groups(run):
        if planted and (harms := [one.harm for one in each if one.grade != REFUSED]):
            measured = f"{np.mean(harms):+.2%} on average, {max(harms):+.2%} at worst"
            yield f"small, {process}, {POSITIVES} {counted}: {what}", f"{aim} for each seed", measured, _verdict(max(harms) <= MOST_HARM)


def _speed_rows(run: Run) -> Iterator[Row]:
    for target, took in run.took.items():
        measured = f"{took.seconds:.0f} s, {took.peak:.2f} GB"
        yield f"journey, fit of {target}", f"at most {JOURNEY_FIT} s", measured, _verdict(took.seconds <= JOURNEY_FIT)
    if run.many:
        customers, took, rows, features = run.many
        measured = f"{took.seconds:.0f} s, {took.peak:.2f} GB"
        name = f"fit on a log of {customers:,} customers, {rows:,} snapshots × {features} features"
        yield name, f"at most {MANY_FIT} s", measured, _verdict(took.seconds <= MANY_FIT)


# Everything else that was measured -------------------------------------------------------------------------------------------------


def cutoff_rows(run: Run) -> Iterator[Row]:
    """One row for each fit; AUC and log-loss of every predictor."""
    names = _predictors(run)
    for part, one in ((part, one) for part, found in run.pooled.items() for pooled in found for one in pooled.judged):
        y, predictors = one.fold.y, one.predictors
        scores = (
            f"{metrics.auc(y, predictors[name]):.4f} / {metrics.log_loss(y, predictors[name]):.4f}" if name in predictors else ""
            for name in names
        )
        ece = f"{metrics.ece(y, one.fold.probability):.4f} ({metrics.ece_chance(one.fold.probability):.4f})"
        about = (one.kind, one.calibration, one.grade, f"{one.seconds:.0f}")
        yield f"{part}, {one.target}", f"{one.cutoff:%Y-%m-%d}", f"{len(y):,}", f"{y.mean():.1%}", *scores, ece, *about


def _predictors(run: Run) -> list[str]:
    names = dict.fromkeys(name for found in run.pooled.values() for pooled in found for name in pooled.names)
    # The truth last: it is no rival.
    return sorted(names, key=lambda name: name == TRUTH)


def small_rows(run: Run) -> Iterator[Row]:
    """One row for each process and way of counting; medians over the seeds, with the least and the greatest."""
    for (process, planted, counted), each in _small_groups(run):
        graded = list(each)
        sizes = (f"{np.median([getattr(one, name) for one in graded]):.0f}" for name in ("customers", "positives", "doers"))
        counts = (
            ", ".join(f"{kind} {times}" for kind, times in sorted(Counter(getattr(one, name) for one in graded).items()))
            for name in ("kind", "grade")
        )
        judged = [one for one in graded if not np.isnan(one.skill)]
        spans = (_span([getattr(one, name) for one in judged]) for name in ("skill", "true_skill", "auc", "true_auc"))
        yield process if planted else f"{process}, nothing planted", counted, *sizes, *counts, *spans


def _span(values: Sequence[float]) -> str:
    if not values:
        return ""
    least, middle, most = np.quantile(values, [0, 0.5, 1])
    return f"{middle:.3f} ({least:.3f} to {most:.3f})" if most > least else f"{middle:.3f}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _section(title: str, head: Sequence[str], rows: Iterable[Row]) -> str:
    """A table under its title; nothing without rows."""
    if not (lines := list(rows)):
        return ""
    table = "\n".join(f"| {' | '.join(line)} |" for line in (tuple(head), tuple("---" for _ in head), *lines))
    return f"\n{title}\n\n{table}\n" if title else f"{table}\n"


def report(run: Run, loads: tuple[float, float]) -> str:
    """The results as Markdown."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("persopredict", "duckdb", "lightgbm", "numpy"))
    notes = "".join(f"\n{note}\n" for note in run.notes)
    about, more = ("task", "cutoff", "rows", "rate"), ("ECE (chance bound)", "model kind", "calibration", "grade", "seconds")
    sizes, found = ("customers", "positive snapshots", "customers with one"), ("Brier skill", "the truth's", "AUC", "the truth's")
    sections = (
        _section("", ("target", "aimed at", "measured", ""), target_rows(run)),
        _section("AUC / log-loss of every predictor at each cutoff:", (*about, *_predictors(run), *more), cutoff_rows(run)),
        _section(
            "Small data, judged on fresh customers of the same process; medians over the seeds (least to greatest):",
            ("process", "counted", *sizes, "model kinds", "grades", *found),
            small_rows(run),
        ),
    )
    return f"""# How good the predictions are

Written by `make quality` (`quality.py`), with one default configuration throughout. Every model was trained on what was known at the
cutoff where it is judged. In brackets: 95% intervals of a bootstrap over customers, paired where two are compared. AUC is the mean over
the cutoffs; log-loss and ECE are of all of them together. What decided the defaults is in `defaults.md`.
{notes}
{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, load {loads[0]:.1f} at the start, {loads[1]:.1f} at the end; {platform.system()},
Python {platform.python_version()}, {libraries}.

{"".join(sections)}"""
