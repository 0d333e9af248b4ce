"""How good the predictions are: one default configuration on real logs and on made ones, everywhere by models that knew nothing later.

`make quality` prints what is measured beside what is aimed at, and writes it to `quality.md`:

- journey: The Complete Journey, churn and coupon conversion four weeks ahead, at three cutoffs;
- news: who returns to a news portal within three days, at three cutoffs, where its clicks are at hand (`--data`);
- made: 100,000 customers of made shops, whose true probabilities are known;
- small: logs with 25 positives (`small_data.py`);
- calibration: what it did to the log-loss of all these;
- speed: time and memory, each in a process of its own.

Lists, which are asked for customers and categories, are judged by `affinity.py`; `tests/test_quality.py` holds floors for the journey.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import made_logs
import numpy as np
import small_data
from affinity import Took
from numpy.typing import NDArray
from quality_judged import Judged
from quality_report import PARTS, Run, report
from speed import apart

import persopredict as pp
from persopredict.config import Config, load
from persopredict.datasets import Channel, Shop, Stream, made_log_parquet
from persopredict.demo import AS_OF, configuration
from persopredict.errors import DataError
from persopredict.events import EventLog
from persopredict.targets import Affinity, Target
from persopredict.times import instant, zone

CUTOFFS = ("2017-10-08", "2017-11-05", "2017-12-03")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLICKS = "globo_clicks.parquet"
#: Every eighth of the readers, by number; days end at midnight where the portal is.
READERS, NEWS_ZONE = 8, "America/Sao_Paulo"
NEWS_OBSERVED = ("2017-10-01", "2017-10-17")
NEWS_CUTOFFS = ("2017-10-09", "2017-10-11", "2017-10-13")
HORIZON = timedelta(days=28)
#: A shop that few customers leave: a tenth of those who bought in the last quarter stays away for four weeks.
STEADY = Shop(
    purchase=Stream(2.5, 0.15),
    channels=(Channel("web", 0.5, 0.001, 1.0), Channel("app", 0.3, 0.0006, 1.6), Channel("store", 0.2, 0.002, 0.5)),
)
SHOPS: dict[str, tuple[Shop, Target]] = {
    "conversion": (Shop(), pp.Conversion("conversion", "28d", active_within="91d")),
    "churn": (STEADY, pp.Churn("purchase", "28d")),
}
CUSTOMERS, EVENTS_EACH = 100_000, 20


# The tasks -------------------------------------------------------------------------------------------------------------------------


def journey(folder: str) -> Config:
    """The demo's configuration, written into `folder`."""
    file = Path(folder, "persopredict.toml")
    file.write_text(configuration(), encoding="utf-8")
    return load(file)


def judge(config: Config, events: EventLog, cutoffs: Sequence[str] = CUTOFFS) -> list[Judged]:
    """Fit each target that is asked once for each customer up to each cutoff, and predict there."""
    moments = [instant(text, zone(events.timezone)) for text in cutoffs]
    return [Judged.of(events, target, moment) for target in asked(config).values() for moment in moments]


def asked(config: Config) -> dict[str, Target]:
    """The targets that are asked once for each customer, by name."""
    return {target.name: target for target in config.targets.values() if not isinstance(target, Affinity)}


def clicks(file: Path) -> EventLog:
    """The log of a part of the readers; the file's times are UTC."""
    query = f"SELECT *, click_timestamp AT TIME ZONE 'UTC' AS clicked_at FROM '{file.as_posix()}' WHERE user_id % {READERS} = 0"
    dimensions = {name: f"click_{name}" for name in ("environment", "os", "country", "region", "referrer_type")}
    return EventLog(
        query,
        customer_id="user_id",
        event_at="clicked_at",
        event=pp.lit("click"),
        item_id="click_article_id",
        channel="click_deviceGroup",
        dimensions=dimensions,
        timezone=NEWS_ZONE,
        observed=NEWS_OBSERVED,
    )


def judged_journey(folder: Path) -> list[Judged]:
    """Both targets of The Complete Journey."""
    config = journey(str(folder))
    return judge(config, config.event_log())


def judged_news(file: Path) -> list[Judged]:
    """Whether a reader of the last week returns within three days."""
    events = clicks(file)
    target = pp.Conversion("click", "3d", active_within="7d")
    return [Judged.of(events, target, instant(text, zone(NEWS_ZONE))) for text in NEWS_CUTOFFS]


def judged_made(kind: str, folder: Path, customers: int) -> list[Judged]:
    """A made shop, four weeks before its log ends."""
    shop, target = SHOPS[kind]
    made = made_log_parquet(folder, customers, seed=1, shop=shop)
    cutoff = made.end - HORIZON
    known = made.truth(kind, cutoff, "28d").set_index("customer_id")["probability"]

    def truth(customer_id: NDArray) -> NDArray[np.float64]:
        return known.loc[customer_id].to_numpy()

    return [Judged.of(EventLog(folder / "*.parquet", observed=(made.start, made.end)), target, cutoff, truth)]


# The clock -------------------------------------------------------------------------------------------------------------------------


def journey_fit(folder: Path, name: str) -> Took:
    """From the packaged tables to the model of one target, folds included."""
    began = time.perf_counter()
    config = journey(str(folder))
    pp.Predictor(asked(config)[name]).fit(config.event_log(), until=AS_OF)
    return Took.since(began)


def many_fit(log: Path) -> tuple[Took, int, int]:
    """From a file of events to a model: snapshots at two cutoffs, and how many rows and features they are."""
    began = time.perf_counter()
    *cutoffs, until = made_logs.cutoffs(3)
    events = EventLog(log, observed=(made_logs.START, made_logs.END))
    fitted = pp.Predictor(pp.Conversion("purchase", "28d", active_within="91d"), cutoffs=cutoffs).fit(events, until=until)
    return Took.since(began), fitted.rows_, len(fitted.features_)


# All of it -------------------------------------------------------------------------------------------------------------------------


def measured(chosen: argparse.Namespace, folder: Path) -> Run:
    """Everything that is asked for, each task in a process of its own; told as it comes."""
    run = Run(chosen.only)
    wanted = set(chosen.only) | ({"journey", "news", "made"} if "calibration" in chosen.only else set())
    if wanted & {"journey", "speed"} and not _has_journey(folder):
        run.notes.append("The Complete Journey was not measured: the extra `demo` is not installed.")
        wanted -= {"journey"}
    if "news" in wanted and not (chosen.data / CLICKS).is_file():
        run.notes.append(f"News clicks were not measured: `{CLICKS}` is not in the folder that `--data` names.")
        wanted -= {"news"}
    if "speed" in wanted:
        # First, while the machine is as calm as whoever started this left it.
        _timed(run, folder, chosen.customers)
    if "small" in wanted:
        run.small = _told("small data", _small, chosen.seeds)
    if "journey" in wanted:
        run.add("journey", _told("journey", judged_journey, folder))
    if "news" in wanted:
        run.add("news", _told("news", judged_news, chosen.data / CLICKS))
    for kind in SHOPS if "made" in wanted else ():
        run.add("made", _told(f"made, {kind}", judged_made, kind, folder / kind, chosen.customers))
    return run


def _timed(run: Run, folder: Path, customers: int) -> None:
    if _has_journey(folder):
        for name in asked(journey(str(folder))):
            run.took[name] = _told(f"speed, {name}", journey_fit, folder, name)
    log = _told("speed, the log", _log, 10 * customers * EVENTS_EACH, 10 * customers, folder)
    run.many = (10 * customers, *_told("speed, many customers", many_fit, log))


def _log(events: int, customers: int, folder: Path) -> Path:
    return made_logs.log(events, customers, folder=folder)


def _small(seeds: int) -> list[small_data.Graded]:
    return list(small_data.all_graded(seeds))


def _told(what: str, measure: Callable[..., Any], *arguments: object) -> Any:
    began = time.perf_counter()
    found = apart(measure, *arguments)
    print(f"{what:<40}{time.perf_counter() - began:>8.1f} s", flush=True)
    return found


def _has_journey(folder: Path) -> bool:
    try:
        journey(str(folder))
    except DataError:
        return False
    return True


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of {CLICKS}; default %(default)s")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="of the made logs, a tenth of those of speed; default %(default)s")
    parser.add_argument("--seeds", type=int, default=small_data.SEEDS, help="of small data; default %(default)s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=Path, help="default quality.md beside this file after a whole run, else none")
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if hasattr(os, "sched_setaffinity"):
        # Every process started from here inherits it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run = measured(chosen, Path(folder))
    text = report(run, (load, os.getloadavg()[0]))
    print(text)
    whole = set(chosen.only) == set(PARTS) and (chosen.customers, chosen.seeds) == (CUSTOMERS, small_data.SEEDS)
    if file := chosen.report or (Path(__file__).with_suffix(".md") if whole else None):
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
