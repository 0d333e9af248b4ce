"""What can be learned from 25 positives: logs of a few customers, and 20,000 others of the same process to be judged on.

`visits` is as simple as a process can be, so that nobody doubts its truth. Time goes in months of 28 days. A customer's visits in a month
are Poisson, with a mean that differs between customers and, for each, between months. Whether the customer buys in the next month is a
coin of probability sigmoid(`LEVEL` + `SLOPE` · log(1 + visits of this month)); where nothing is planted, of `RATE` for everybody, whatever
they did. At the end of a month the log tells exactly what the coin is. `shop` is the made shop of `persopredict.datasets`, with more in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, partial
from itertools import product
from typing import Any, Literal, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import persopredict as pp
from persopredict import metrics
from persopredict.calibration import sigmoid
from persopredict.datasets import made_log
from persopredict.errors import TooLittleDataError
from persopredict.forward import matured_cutoffs

#: 25 customers who have the outcome at some cutoff that teaches, or 25 snapshots that have it.
Counted = Literal["customers", "snapshots"]

START, MONTH = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=28)
#: How many months are known at the cutoff that is judged.
MONTHS, FEW_MONTHS = 7, 3
#: Between customers the mean number of visits in a month is gamma distributed, between the months of one it varies log-normally.
VISITS, SHAPE, UNSTEADY = 6.0, 0.7, 0.8
#: A true AUC of 0.85, and a tenth of the customers.
LEVEL, SLOPE, RATE = -4.8, 1.38, 0.1
POSITIVES, FRESH, SEEDS = 25, 20_000, 20
#: Of so many customers the first are taken, until they hold the positives.
_POOL = 1_000
_FRESH_SEED = 1_000_000
REFUSED = "refused"


@dataclass(frozen=True, eq=False)
class Made:
    """A log and what is true of it.

    `events`: customer_id (text), event_at (UTC), event, and more. `outcome`: the event that is asked for. `until`: the cutoff that is
    judged, a month before the log ends. `ids`: the customers, in the order they are taken. `probability`: of each of them
    P(an outcome within a month of `until` | the log before), nan for those whom the log does not know.
    """

    events: pa.Table
    outcome: str
    until: datetime
    ids: NDArray[Any]
    probability: NDArray[np.float64]

    @property
    def target(self) -> pp.Conversion:
        """The outcome within a month, asked of everybody."""
        return pp.Conversion(self.outcome, "28d")

    def log(self, end: datetime | None = None) -> pp.EventLog:
        """What was observed before `end` (default: with the month that is judged)."""
        last = end or self.until + MONTH
        return pp.EventLog(self.events.filter(pc.less(self.events["event_at"], last)), observed=(START, last))

    def first(self, customers: int) -> Self:
        """The log of the first customers alone."""
        kept = self.events.filter(pc.is_in(self.events["customer_id"], pa.array(self.ids[:customers])))
        return replace(self, events=kept, ids=self.ids[:customers], probability=self.probability[:customers])

    def holding(self, positives: int, counted: Counted) -> Self:
        """As few of the first customers as hold so many `positives`, or of customers who have one."""
        did = self.positives
        places = np.sort(np.searchsorted(self.ids, did if counted == "snapshots" else np.unique(did)))
        return self.first(int(places[positives - 1]) + 1)

    @cached_property
    def positives(self) -> NDArray[Any]:
        """The customer of each positive label at the cutoffs that teach by default."""
        log = self.log(self.until)
        cutoffs = matured_cutoffs(log, self.target, None, self.until)
        rows = pp.snapshots(log, cutoffs, [pp.Feature("count", fallback=0)], [self.target], until=self.until).to_arrow()
        return rows["customer_id"].filter(pc.equal(rows[f"label_{self.target.name}"], 1)).to_numpy().astype(str)

    def true_auc(self) -> float:
        """Expected AUC of the truth itself, over the customers whom the log knows."""
        p = np.sort(self.probability[~np.isnan(self.probability)])
        below = np.cumsum(1 - p) - (1 - p) / 2
        return float((p * below).sum() / (p.sum() * (1 - p).sum()))


def visits(customers: int, *, seed: int, months: int = MONTHS, planted: bool = True) -> Made:
    """The process of this module, so many months before the one that is judged: events "visit" and "purchase", outcome "purchase"."""
    rng = np.random.default_rng([seed, customers, months, planted])
    unsteady = rng.lognormal(-(UNSTEADY**2) / 2, UNSTEADY, (customers, months + 1))
    mean = rng.gamma(SHAPE, VISITS / SHAPE, customers)[:, None] * unsteady
    count = rng.poisson(mean)
    chance = sigmoid(LEVEL + SLOPE * np.log1p(count)) if planted else np.full(count.shape, RATE)
    # Nobody buys in the first month: there is none before it.
    bought = np.zeros(count.shape, dtype=np.int64)
    bought[:, 1:] = rng.random((customers, months)) < chance[:, :-1]
    ids = np.array([f"c{seed}_{number:06d}" for number in range(customers)])
    cell = np.concatenate([np.repeat(np.arange(count.size), times.ravel()) for times in (count, bought)])
    who, month = np.divmod(cell, months + 1)
    micros = ((month + rng.random(len(month))) * (MONTH / timedelta(microseconds=1))).astype(np.int64)
    at = pa.array(micros + int(START.timestamp()) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    event = np.repeat(["visit", "purchase"], [count.sum(), bought.sum()])
    events = pa.table({"customer_id": pa.array(ids[who]), "event_at": at, "event": pa.array(event)})
    known = (count[:, :-1] + bought[:, :-1]).any(axis=1)
    return Made(events, "purchase", START + months * MONTH, ids, np.where(known, chance[:, -2], np.nan))


def shop(customers: int, *, seed: int) -> Made:
    """The made shop: purchases, views, clicks, channels, categories; outcome "conversion"."""
    made = made_log(customers, days=((MONTHS + 1) * MONTH).days, seed=seed, start=START)
    until = made.end - MONTH
    truth = made.truth("conversion", until, "28d")
    ids = np.sort(made.tastes["customer_id"].to_numpy())
    return Made(made.events, "conversion", until, ids, truth.set_index("customer_id")["probability"].reindex(ids).to_numpy())


PLANTED: dict[str, Callable[..., Made]] = {"visits": visits, "visits, a short log": partial(visits, months=FEW_MONTHS), "shop": shop}
#: The same activity, and an outcome that does not depend on it.
NOTHING: dict[str, Callable[..., Made]] = {name: partial(PLANTED[name], planted=False) for name in ("visits", "visits, a short log")}


@dataclass(frozen=True)
class Graded:
    """What came of one small log.

    `positives` and `doers`: positive labels in the snapshots that teach, and customers who have one. `grade` and `kind`: of the model, or
    "refused". `skill`: Brier skill among the fresh customers, beside the `true_skill` of the truth; `auc` and `true_auc` likewise. `harm`:
    by how much of itself the calibration raised the log-loss among them. All nan if they were not asked.
    """

    process: str
    planted: bool
    counted: str
    seed: int
    customers: int
    positives: int
    doers: int
    grade: str
    kind: str
    skill: float = float("nan")
    true_skill: float = float("nan")
    auc: float = float("nan")
    true_auc: float = float("nan")
    harm: float = float("nan")


def graded(process: str, counted: Counted, seed: int, *, planted: bool = True) -> Graded:
    """Fit on a log that holds 25 positives; where something is planted, judge the model by the fresh customers."""
    made = (PLANTED if planted else NOTHING)[process](_POOL, seed=seed).holding(POSITIVES, counted)
    did = made.positives
    about = (process, planted, counted, seed, len(made.ids), len(did), len(np.unique(did)))
    try:
        predictor = pp.Predictor(made.target).fit(made.log(made.until), until=made.until)
    except TooLittleDataError:
        return Graded(*about, REFUSED, REFUSED)
    found = Graded(*about, predictor.evaluation_.grade, predictor.scorer_.kind)
    if not planted:
        return found
    fresh = _fresh(process)
    (fold,) = predictor.test(fresh.log(), [fresh.until])
    truth = fresh.probability[np.searchsorted(fresh.ids, fold.customer_id.astype(str))]
    return replace(
        found,
        skill=metrics.brier_skill(fold.y, fold.probability),
        true_skill=metrics.brier_skill(fold.y, truth),
        auc=metrics.auc(fold.y, fold.probability),
        true_auc=metrics.auc(fold.y, truth),
        harm=metrics.log_loss(fold.y, fold.probability) / metrics.log_loss(fold.y, sigmoid(fold.logit)) - 1,
    )


@cache
def _fresh(process: str) -> Made:
    return PLANTED[process](FRESH, seed=_FRESH_SEED)


def all_graded(seeds: int = SEEDS) -> Iterator[Graded]:
    """Every process, both ways of counting, with something planted and without; one by one as they come."""
    counts: tuple[Counted, ...] = get_args(Counted)
    for processes, planted in ((PLANTED, True), (NOTHING, False)):
        for process, counted, seed in product(processes, counts, range(seeds)):
            yield graded(process, counted, seed, planted=planted)
