"""The one-standard-error rule: a richer candidate takes a simpler one's place only if it is clearly better out of time.

Where two are equally good the data can't tell them apart, and the simpler one is right more often (Breiman et al. 1984). What a standard
error is has to be thought of: customers of one month share its weather, so that however many they are, they are one witness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.metrics import log_losses

#: By how much a base rate is taken to move from one cutoff to the next, in logits, where the cutoffs themselves don't show more: a fifth.
DRIFT = 0.2
#: How often a normal error stays below one standard error.
_ONE_ERROR = 0.841344746


def clearly_better(y: Sequence[ArrayLike], simple: Sequence[ArrayLike], rich: Sequence[ArrayLike]) -> bool:
    """Whether the log-loss of `rich` is lower than that of `simple` by more than one standard error of the paired difference.

    Parameters
    ----------
    y
        labels of each test cutoff, one array of shape (rows,) per cutoff; at least one row in all.
    simple, rich
        the probabilities of both candidates for the same rows, inside (0, 1).

    The standard error is the largest of three:

    - between rows;
    - between cutoffs, where there are two or more: with the quantile of Student's t in the place of 1, because two or three cutoffs don't
      show their own spread well;
    - what the gain would change by if base rates moved by a fifth (`DRIFT`) between cutoffs, over the root of their number. One cutoff
      can't show how cutoffs differ, and a gain that hangs on its level alone is as easily a loss in the next month.

    >>> y = [np.arange(4000) % 10 < 3, np.arange(4000) % 10 < 4]
    >>> simple = [np.full(4000, 0.1)] * 2
    >>> clearly_better(y, simple, [np.full(4000, 0.35)] * 2), clearly_better(y, simple, [np.full(4000, 0.1001)] * 2)
    (True, True)
    >>> clearly_better(y[:1], [np.full(4000, 0.28)], [np.full(4000, 0.3)])  # 4,000 rows, but one month.
    False
    """
    gains = [log_losses(labels, now) - log_losses(labels, new) for labels, now, new in zip(y, simple, rich, strict=True)]
    rows = np.concatenate(gains)
    # The derivative of a row's gain by its label is the difference of the logits; that of its label by the level, p(1 − p).
    moved = [_leverage(np.asarray(now), np.asarray(new)) for now, new in zip(simple, rich, strict=True)]
    errors = [
        float(rows.std()) / math.sqrt(len(rows)),
        DRIFT * abs(float(np.concatenate(moved).mean())) / math.sqrt(len(gains)),
    ]
    if len(gains) > 1:
        errors.append(_student(len(gains) - 1) * float(np.std([gain.mean() for gain in gains], ddof=1)) / math.sqrt(len(gains)))
    return float(rows.mean()) > max(errors)


def _leverage(now: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    change: NDArray[np.float64] = new * (1 - new) * (np.log(new / now) - np.log((1 - new) / (1 - now)))
    return change


def _student(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, _ONE_ERROR))
