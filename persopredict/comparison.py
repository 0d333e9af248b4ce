"""Two predictors on the same customers: the paired difference, its interval, and the promotion that rests on it.

Judged on the same rows, two predictors share most of their luck, so the difference is known far better than either
log-loss. Whole customers are resampled, because the rows of one customer at several cutoffs are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import SpecificationError
from persopredict.metrics import log_losses

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Interval = tuple[float, float]

RESAMPLES = 500
MIN_CUSTOMERS = 10  # A bootstrap over fewer gives an interval that looks exact and means nothing.
MAX_ROWS = 100_000
NO_INTERVAL: Interval = (float("nan"), float("nan"))
_BLOCK = 2_000_000  # Rows drawn at a time: few steps, and some ten megabytes.


@dataclass(frozen=True, slots=True)
class Paired:
    """A metric of one predictor minus that of another on the same rows: mean log-loss in nats per row, unless said otherwise; then below
    zero the first is better.

    `interval`: 95%, over resampled customers; (nan, nan) below 10 customers.
    """

    difference: float
    interval: Interval
    rows: int
    customers: int


@dataclass(frozen=True, slots=True)
class Against:
    """A model against one baseline, on the same rows.

    `log_loss`: the model's minus the baseline's, below zero the model is better; `auc`: the model's minus the baseline's, above zero the
    model is better; `skill` = 1 − log-loss / log-loss of the baseline, with the 95% `skill_interval`.
    """

    log_loss: Paired
    auc: Paired
    skill: float
    skill_interval: Interval

    @property
    def ahead(self) -> bool:
        """Whether the whole interval of the paired log-loss is better than the baseline."""
        return self.log_loss.interval[1] < 0


def paired_log_loss(
    y: ArrayLike, p_a: ArrayLike, p_b: ArrayLike, customer_id: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """Mean log-loss of `p_a` minus that of `p_b`, with the 95% percentile interval of a bootstrap over customers.

    All of shape (n,); all rows of a customer are drawn together (see `Bootstrap`). Without rows the difference is nan.

    >>> y, ids = [0, 1] * 50, range(100)
    >>> paired = paired_log_loss(y, [0.2, 0.8] * 50, [0.5] * 100, ids)
    >>> round(paired.difference, 3), paired.interval[1] < 0
    (-0.47, True)
    """
    differences = log_losses(y, p_a) - log_losses(y, p_b)
    rows = len(differences)
    bootstrap = Bootstrap.of(customer_id, seed, resamples)
    if len(bootstrap.rows) != rows:
        raise SpecificationError(f"{len(bootstrap.rows)} customer ids for {rows} rows; give one per row")
    if not rows:
        return Paired(float("nan"), NO_INTERVAL, 0, 0)
    difference = float(differences.mean())
    return Paired(difference, bootstrap.interval(difference, bootstrap.means([differences])[:, 0]), rows, bootstrap.customers)


def decide(difference: float, interval: Interval, same_recipe: bool, measure: str = "log-loss") -> tuple[bool, str]:
    """Whether a challenger replaces the champion, and the reason (law 5).

    `difference` and `interval`: log-loss of the challenger minus the champion's, from `paired_log_loss` on matured
    cutoffs that neither was trained on; nan where there were none. `same_recipe`: the challenger is the champion's
    recipe on newer data. `measure`: what differs, the lower the better, as the reason calls it; "missed NDCG@10" for
    lists.

    The same recipe is promoted unless the whole interval is worse: newer data is an advantage that a short test can't
    show. A new recipe is promoted only if the whole interval is better: it has to prove itself.

    >>> decide(-0.004, (-0.006, -0.001), same_recipe=False)
    (True, 'new recipe, log-loss lower by 0.0040 (95% interval 0.0010 to 0.0060): the whole interval is better')
    >>> decide(0.001, (-0.001, 0.003), same_recipe=True)[0], decide(0.001, (-0.001, 0.003), same_recipe=False)[0]
    (True, False)
    >>> decide(0.001, (-0.001, 0.003), same_recipe=True, measure="missed NDCG@10")[1]
    'same recipe, missed NDCG@10 higher by 0.0010 (95% interval -0.0010 to 0.0030): the interval holds no difference'
    """
    recipe = "same recipe" if same_recipe else "new recipe"
    lower, upper = interval
    if not all(map(math.isfinite, (difference, lower, upper))):
        consequence = "" if same_recipe else ": it has to prove itself first"
        return same_recipe, f"{recipe}, nothing to compare on yet{consequence}"
    if difference <= 0:
        found = f"{measure} lower by {-difference:z.4f} (95% interval {-upper:z.4f} to {-lower:z.4f})"
    else:
        found = f"{measure} higher by {difference:z.4f} (95% interval {lower:z.4f} to {upper:z.4f})"
    if upper < 0:
        verdict = "the whole interval is better"
    elif lower > 0:
        verdict = "the whole interval is worse"
    else:
        verdict = "the interval holds no difference"
    return (lower <= 0 if same_recipe else upper < 0), f"{recipe}, {found}: {verdict}"


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """Resampling of whole customers with replacement (Field and Welsh 2007), bounded in time and memory.

    `rows`: which rows are resampled, shape (n,); `codes`: the customer of each of those, in sorted order of the ids, so
    that the order of the rows does not matter; `customers`: how many there are in all rows; `sampled`: how many of them
    are resampled; `resamples` and `seed` of the draws.

    Above 100,000 rows a random sample of the customers is resampled, and the spread around it is shrunk by the square
    root of its share (Politis and Romano 1994): the interval of all rows at the cost of 100,000.

    >>> bootstrap = Bootstrap.of(["b", "a", "b"], resamples=3)
    >>> bootstrap.codes.tolist(), [int(weights.sum()) for _, block in bootstrap.weights() for weights in block]
    ([1, 0, 1], [2, 2, 2, 2])
    """

    rows: NDArray[np.bool_]
    codes: Ints
    customers: int
    sampled: int
    resamples: int
    seed: int

    @classmethod
    def of(cls, customer_id: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Bootstrap:
        """Prepare for the rows of these customers, shape (n,)."""
        import pandas as pd

        codes, ids = pd.factorize(np.asarray(customer_id, dtype=object), sort=True)
        customers, share = len(ids), min(1.0, MAX_ROWS / max(len(codes), 1))
        sampled = max(int(customers * share), min(customers, MIN_CUSTOMERS))
        chosen = np.zeros(customers, dtype=bool)
        chosen[np.random.default_rng(seed).choice(customers, sampled, replace=False)] = True
        rows: NDArray[np.bool_] = chosen[codes]
        places = np.cumsum(chosen) - 1
        return cls(rows, places[codes[rows]].astype(np.intp), customers, sampled, resamples, seed)

    def weights(self) -> Iterator[tuple[slice, Floats]]:
        """How often each draw holds each sampled customer, in blocks: which draws, and weights (draws, customers).

        Draw 0 is the sample itself, every customer once; draws 1 to `resamples` are random.
        """
        yield slice(0, 1), np.ones((1, self.sampled))
        rng = np.random.default_rng(self.seed)
        size = max(1, _BLOCK // max(len(self.codes), 1))
        for start in range(0, self.resamples, size):
            count = min(size, self.resamples - start)
            drawn = rng.integers(0, self.sampled, size=(count, self.sampled))
            drawn += np.arange(count)[:, None] * self.sampled
            times = np.bincount(drawn.ravel(), minlength=count * self.sampled).reshape(count, self.sampled)
            yield slice(start + 1, start + 1 + count), times.astype(np.float64)

    def sums(self, columns: Sequence[Floats]) -> Floats:
        """Sums of columns of shape (n,) by sampled customer, shape (customers, columns): what resampled means need."""
        return np.stack([np.bincount(self.codes, column[self.rows], self.sampled) for column in columns], axis=1)

    def means(self, columns: Sequence[Floats]) -> Floats:
        """Means of columns of shape (n,) under each draw of `weights`, shape (1 + resamples, columns)."""
        sums = self.sums([np.ones(len(self.rows)), *columns])
        drawn = np.concatenate([weights @ sums for _, weights in self.weights()])
        means: Floats = drawn[:, 1:] / drawn[:, :1]
        return means

    def interval(self, estimate: float, draws: Floats) -> Interval:
        """The middle 95% around the estimate from all rows, of draws in the order of `weights`.

        Draws without a value are left out. (nan, nan) below 10 customers, or if no draw has a value.
        """
        spread = (draws[1:] - draws[0]) * math.sqrt(self.sampled / self.customers)
        valued = estimate + spread[np.isfinite(spread)]
        if self.customers < MIN_CUSTOMERS or not len(valued):
            return NO_INTERVAL
        lower, upper = np.quantile(valued, [0.025, 0.975])
        return float(lower), float(upper)
