"""How good the predictions are: one default configuration, models trained with `until` at each test cutoff, judged on the four weeks after.

`make quality` prints the table; `tests/test_quality.py` checks the floors on the same numbers.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from persopredict import metrics
from persopredict.config import Config, load
from persopredict.demo import configuration
from persopredict.evaluation import FoldPredictions
from persopredict.events import EventLog
from persopredict.predictor import Predictor
from persopredict.targets import Affinity
from persopredict.times import instant, zone

_HEAD = f"{'cutoff':<12}{'rows':>6}{'rate':>7}{'AUC':>8}{'rule':>7}{'log-loss':>10}{'rule':>8}{'base':>8}{'ECE':>8}  calibration  seconds"
CUTOFFS = ("2017-10-08", "2017-11-05", "2017-12-03")


@dataclass(frozen=True)
class Judged:
    """One target at one cutoff, by a model that knew nothing later."""

    target: str
    cutoff: datetime
    fold: FoldPredictions
    calibration: str
    seconds: float


def journey(folder: str) -> Config:
    """The demo's configuration, written into `folder`."""
    from pathlib import Path

    file = Path(folder, "persopredict.toml")
    file.write_text(configuration(), encoding="utf-8")
    return load(file)


def judge(config: Config, events: EventLog, cutoffs: tuple[str, ...] = CUTOFFS) -> list[Judged]:
    """Fit each target that is asked once for each customer up to each cutoff and predict there; lists are judged by `affinity.py`."""
    found = []
    for predictor in config.predictors():
        if isinstance(predictor.target, Affinity):
            continue
        for text in cutoffs:
            start, cutoff = time.perf_counter(), instant(text, zone(events.timezone))
            fitted = Predictor(predictor.target).fit(events, cutoff)
            fold = fitted.test(events, [cutoff])[0]
            found.append(Judged(predictor.target.name, cutoff, fold, fitted.calibrator_.kind, time.perf_counter() - start))
    return found


def pooled_ece(judged: list[Judged]) -> tuple[float, float]:
    """ECE of all cutoffs together over ten equal-mass bins, and the 95th percentile that chance gives a perfect model."""
    y = np.concatenate([one.fold.y for one in judged])
    p = np.concatenate([one.fold.probability for one in judged])
    return metrics.ece(y, p), metrics.ece_chance(p)


def table(judged: list[Judged]) -> str:
    """The table of `make quality`."""
    lines = []
    for target in dict.fromkeys(one.target for one in judged):
        mine = [one for one in judged if one.target == target]
        lines.append(f"\n{target}")
        lines.append(_HEAD)
        lines += [_line(one) for one in mine]
        mean = np.mean([metrics.auc(one.fold.y, one.fold.probability) for one in mine])
        ece, chance = pooled_ece(mine)
        lines.append(f"mean AUC {mean:.3f}; pooled ECE {ece:.4f} (a perfect model stays below {chance:.4f} in 95% of draws)")
    return "\n".join(lines)


def _line(one: Judged) -> str:
    y, p, rule, base = one.fold.y, one.fold.probability, one.fold.baselines["best_rule"], one.fold.baselines["base_rate"]
    losses = f"{metrics.log_loss(y, p):>10.4f}{metrics.log_loss(y, rule):>8.4f}{metrics.log_loss(y, base):>8.4f}"
    ranks = f"{metrics.auc(y, p):>8.3f}{metrics.auc(y, rule):>7.3f}"
    first, last = f"{one.cutoff:%Y-%m-%d}  {len(y):>6,}{y.mean():>7.1%}", f"  {one.calibration:<11}{one.seconds:>9.1f}"
    return f"{first}{ranks}{losses}{metrics.ece(y, p):>8.4f}{last}"


def main() -> int:
    """Print the table."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        config = journey(folder)
        print("The Complete Journey, default configuration, four weeks ahead; each row's model was trained on what was known at its cutoff")
        print(table(judge(config, config.event_log())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
