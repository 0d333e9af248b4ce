"""What was said against what came: once the labels of a published run have ended, its probabilities are held to them.

A label counts what is known of it now, however late it arrived, so that a run is judged by the truth and not by what was in time. Who was
asked is decided again too: a customer who, as is known by now, should not have been asked has no label and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.affinity.states import read
from persopredict.errors import DataError
from persopredict.events import EventLog
from persopredict.metrics import auc, ece, ece_chance, log_loss
from persopredict.snapshots import snapshots
from persopredict.targets import Affinity, Target
from persopredict.times import instant, local
from persopredict.warehouse import Warehouse
from persopredict.warehouse_runs import Settled

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
#: The labels (0, 1, nan where there is none) of rows of attributes, shape (rows,).
Labels = Callable[["pd.DataFrame"], Floats]

#: How many runs a trend shows.
SHOWN = 4
#: Runs whose labels are read at once: a first comparison may have a year of nights to make up for.
_AT_ONCE = 8
_SAID = ("customer_id", "category", "probability")
_LEVEL = 0.95
#: A count of a smaller variance has its exact distribution: twelve standard deviations lie within half of the window.
_EXACT_BELOW, _WINDOW = 100.0, 256
_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class _Due:
    """A run to be compared: where its labels end, whose scores they were, and whose comparison it is."""

    as_of: datetime
    ended_at: datetime
    run_id: str
    model_version: str
    settled_at: datetime


class Hindsight:
    """The published runs of a warehouse, as a job at `as_of` looks back on them.

    Parameters
    ----------
    warehouse : where the runs are published; it may be new.
    events : the log, as it is known now.
    as_of : of the job; labels that end later are not looked at, even where the log has them.

    Raises `WarehouseBusyError` if another process writes to the warehouse for longer than it waits.
    """

    def __init__(self, warehouse: Warehouse, events: EventLog, as_of: datetime) -> None:
        self.warehouse, self.events, self.as_of = warehouse, events, as_of
        self._runs: list[dict[Any, Any]] = []
        self._settled: dict[tuple[str, datetime], Settled] = {}
        try:
            runs, outcomes = warehouse.runs(), warehouse.outcomes()
        except DataError:  # Nothing is published yet.
            return
        self._runs = runs[runs["state"] == "published"].to_dict("records")
        self._settled = {(run.target, run.as_of): run for run in map(Settled.of, outcomes.to_dict("records"))}

    def settle(self, target: Target, answers: Callable[[str], bool], again: pd.DataFrame | None = None) -> list[Settled]:
        """Compare the target's runs that are due, by as_of: those whose labels have ended by the job's `as_of` in what was observed, and
        that nobody has compared yet, or a job of this very `as_of` has: a job that is repeated compares again.

        Parameters
        ----------
        target : as it is defined now.
        answers : whether a model version was asked what the target asks now; runs of the others stay as they are.
        again : attributes that the job publishes at its own `as_of`. Where a later job has compared what was published there before,
            they are compared in its name.

        Raises what reading the log raises, such as `SpecificationError` for an event that it has lost.
        """
        start, end = self.events.observed_for(target)
        due = [run for run in self._due(target, again) if start <= run.as_of and run.ended_at <= end]
        asked = {version: answers(version) for version in {run.model_version for run in due}}
        due = [run for run in due if asked[run.model_version]]
        found = []
        for first in range(0, len(due), _AT_ONCE):
            some = due[first : first + _AT_ONCE]
            labels = labels_of(self.events, target, [run.as_of for run in some])
            for run in some:
                said = again if again is not None and run.as_of == self.as_of else self.warehouse.attributes(target.name, run.as_of, _SAID)
                found.append(_compared(target, run, said, labels[run.as_of]))
        self._settled |= {(run.target, run.as_of): run for run in found}
        return found

    def _due(self, target: Target, again: pd.DataFrame | None) -> Iterator[_Due]:
        """By as_of; whether the labels were observed is not looked at."""
        for line in self._runs:
            moment = instant(line["as_of"])
            ended = target.horizon.after(target.gap.after(moment, self.events.zone), self.events.zone)
            known = self._settled.get((target.name, moment))
            if line["target"] != target.name:
                continue
            if moment == self.as_of:
                if again is not None and known is not None and len(again):
                    now = again.iloc[0]
                    yield _Due(moment, ended, now["run_id"], now["model_version"], known.settled_at)
            elif ended <= self.as_of and (known is None or known.run_id != line["run_id"] or known.settled_at == self.as_of):
                yield _Due(moment, ended, line["run_id"], line["model_version"] or "", self.as_of)

    def trend(self, target: str) -> tuple[Settled, ...]:
        """What came of the target's last runs up to the job's `as_of`: see `trend`."""
        return trend(self._settled.values(), target, self.as_of)


def trend(settled: Iterable[Settled], target: str, as_of: datetime, most: int = SHOWN) -> tuple[Settled, ...]:
    """Of the runs of a target those whose labels ended by `as_of`, at most so many, oldest first: the newest, and before it those whose
    labels share no time with a later one shown. Of a nightly job with a horizon of four weeks it is every 28th night: the labels of two
    nights in a row are nearly the same events.
    """
    chosen: list[Settled] = []
    for run in sorted((run for run in settled if run.target == target), key=lambda run: run.as_of, reverse=True):
        apart = not chosen or run.ended_at <= chosen[-1].as_of
        if run.ended_at <= as_of and apart and len(chosen) < most:
            chosen.append(run)
    return tuple(chosen[::-1])


def warning(trend: Sequence[Settled], timezone: str = "UTC") -> str:
    """What to say of the newest run of a trend: nothing, unless its count left the interval; more, if those before did on the same side."""
    if not trend or not (side := trend[-1].surprise):
        return ""
    newest = trend[-1]
    row = next((number for number, run in enumerate(reversed(trend)) if run.surprise != side), len(trend))
    times = f"{newest.actual / newest.expected:.2f} times as many, " if newest.expected >= 1 else ""
    found = (
        f"{'more' if side > 0 else 'fewer'} came than the scores of {local(newest.as_of, timezone)} said: {newest.actual:,} for "
        f"{newest.expected:,.0f} expected ({times}95% interval {newest.lower:,} to {newest.upper:,})"
    )
    if row > 1:
        return f"{found}, {row} runs in a row. The probabilities are wrong: retrain, and look for what has changed in the log"
    return f"{found}. The model may be rotting: retrain, or look at the log"


def labels_of(events: EventLog, target: Target, moments: Sequence[datetime]) -> dict[datetime, Labels]:
    """The labels of what was scored at `moments`, ascending; they must have ended in what was observed."""
    if isinstance(target, Affinity):
        return _labels_of_pairs(events, target, moments)
    table = snapshots(events, moments, (), [target]).to_arrow()
    frame: pd.DataFrame = table.to_pandas()
    frame.columns = ["customer_id", "cutoff", "label"]

    def of(mine: pd.DataFrame) -> Labels:
        known = mine.set_index("customer_id")["label"]
        return lambda said: known.reindex(said["customer_id"]).to_numpy(np.float64)

    return {moment: of(frame[frame["cutoff"] == moment]) for moment in moments}


def _labels_of_pairs(events: EventLog, target: Affinity, moments: Sequence[datetime]) -> dict[datetime, Labels]:
    """Of pairs of customers and categories: 1 where the customer took it."""
    import pandas as pd

    reading = read(events, target, moments, labelled="only")
    customers, categories = pd.Index(reading.customer_id), pd.Index(reading.categories, dtype=object)

    def of(moment: datetime) -> Labels:
        taken, asked = reading.taken[moment], reading.reasons[moment] == 0
        assert taken is not None
        pairs = taken.customer.astype(np.int64) * len(categories) + taken.category

        def labels(said: pd.DataFrame) -> Floats:
            who, what = (known.get_indexer(pd.Index(said[name])) for known, name in ((customers, "customer_id"), (categories, "category")))
            # A category that the log no longer has was taken by nobody.
            found = (what >= 0) & np.isin(who * len(categories) + what, pairs)
            return np.where((who >= 0) & asked[who], found.astype(np.float64), np.nan)

        return labels

    return {moment: of(moment) for moment in moments}


def _compared(target: Target, run: _Due, said: pd.DataFrame, labels: Labels) -> Settled:
    """What was said against what came, of the rows that have a score and a label."""
    scored = said[said["probability"].notna()]
    label = labels(scored)
    known = ~np.isnan(label)
    p, y, customers = scored["probability"].to_numpy(np.float64)[known], label[known], scored["customer_id"][known]
    residuals = None
    if isinstance(target, Affinity):
        residuals = (customers.to_frame().assign(missed=y - p)).groupby("customer_id")["missed"].sum().to_numpy()
    lower, upper = likely_count(p, residuals)
    return Settled(
        target=target.name, as_of=run.as_of, run_id=run.run_id, model_version=run.model_version, ended_at=run.ended_at,
        customers=int(customers.nunique()), rows=len(y), expected=float(p.sum()), lower=lower, upper=upper, actual=int(y.sum()),
        auc=auc(y, p), log_loss=log_loss(y, p), base_rate_log_loss=log_loss(y, np.full(len(y), y.mean() if len(y) else np.nan)),
        ece=ece(y, p), ece_chance_p95=ece_chance(p), settled_at=run.settled_at, measured_at=datetime.now(UTC),
    )  # fmt: skip


def likely_count(p: ArrayLike, residuals: ArrayLike | None = None) -> tuple[int, int]:
    """From where to where the count of positives lies at least 95% of the time if the probabilities are right.

    Parameters
    ----------
    p : probabilities, shape (rows,).
    residuals : where rows of one customer hang together, what each customer's labels add up to beyond the probabilities, shape
        (customers,). Without it rows are independent.

    Independent rows have a Poisson-binomial count: exact by the discrete Fourier transform of its characteristic function (Hong 2013)
    where its variance is below 100, else by its first four cumulants (Cornish and Fisher 1938). Of customers whose rows hang together the
    variance is the sum of their squared residuals, if that is larger than that of independent rows, and the count normal.

    >>> likely_count([0.5] * 100), likely_count([0.001] * 50), likely_count([0.1] * 100_000)
    ((40, 60), (0, 1), (9814, 10186))
    """
    chances = np.asarray(p, np.float64)
    mean, spread = float(chances.sum()), chances * (1 - chances)
    variance = float(spread.sum())
    hanging = 0.0 if residuals is None else float((np.asarray(residuals, np.float64) ** 2).sum())
    skewness = kurtosis = 0.0
    if hanging <= variance:
        if variance < _EXACT_BELOW:
            return _exact(chances, mean)
        skewness = float((spread * (1 - 2 * chances)).sum()) / variance**1.5
        kurtosis = float((spread * (1 - 6 * spread)).sum()) / variance**2
    z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
    ends = []
    for quantile in (-z, z):
        moved = quantile + skewness * (quantile**2 - 1) / 6 + kurtosis * (quantile**3 - 3 * quantile) / 24
        moved -= skewness**2 * (2 * quantile**3 - 5 * quantile) / 36
        ends.append(math.ceil(mean + math.sqrt(max(variance, hanging)) * moved - 0.5))
    return max(ends[0], 0), min(ends[1], len(chances))


def _exact(p: Floats, mean: float) -> tuple[int, int]:
    """The 2.5% and 97.5% quantiles of a Poisson-binomial count, whose mass outside of a window around its mean is nought."""
    first = max(0, math.floor(mean) - _WINDOW // 2)
    frequency = 2 * np.pi / _WINDOW * np.arange(_WINDOW // 2 + 1)
    turn, characteristic = np.exp(1j * frequency) - 1, np.exp(-1j * frequency * first)
    for start in range(0, len(p), _BLOCK):
        characteristic = characteristic * np.prod(1 + p[start : start + _BLOCK, None] * turn, axis=0)
    below = np.cumsum(np.fft.irfft(characteristic.conj(), _WINDOW))
    lower, upper = (first + int(np.searchsorted(below, tail)) for tail in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return lower, upper
