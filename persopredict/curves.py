"""Where the outcomes are: in which tenth of the customers, in an audience of any size, and at which probability.

A curve says of each share of the customers, the likeliest first, how many outcomes their probabilities promise and how many came. Its
hundred points are all that deciles and audiences need, so that they can be kept with a model and asked long after the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persopredict.errors import Problem, SpecificationError
from persopredict.metrics import Ranking, cumulative_gain

Floats = NDArray[np.float64]

#: The shares of the customers at which a curve is known: 1%, 2%, …, 100%.
SHARES: Floats = np.arange(1, 101) / 100
#: Of a 95% interval of a normal distribution.
_Z = 1.959963984540054
_NOWHERE = (float("nan"),) * len(SHARES)


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of the customers: `decile` 1 is the likeliest, 10 the least likely.

    `rows`, a tenth of all, so not always whole; `positives` among them, in parts where the border cuts through equal predictions;
    `expected`: positives by the probabilities; `precision` = positives / rows; `lift`: precision over the rate of all; `gain`: share of all
    positives in this decile and those above. nan where there is nothing to divide by.
    """

    decile: int
    rows: float
    positives: float
    expected: float
    precision: float
    lift: float
    gain: float


@dataclass(frozen=True, slots=True)
class Audience:
    """What contacting the likeliest customers would reach, by the tests.

    Parameters
    ----------
    size : how many are contacted.
    of : among how many customers they are the likeliest.
    expected : outcomes among them, by the calibrated probabilities.
    precision : share of them that had the outcome in the tests, with its 95% `interval` of a bootstrap over customers.
    lift : precision over the rate of all.
    gain : share of all outcomes that they hold.

    >>> print(Audience(500, 10_000, 61.2, 0.12, (0.11, 0.134), 3.0, 0.15))
    500 likeliest of 10,000 (5.0%): 61 outcomes expected; in the tests 12.0% had it (95% interval 11.0% to 13.4%), lift 3.00, 15.0% of all
    """

    size: int
    of: int
    expected: float
    precision: float
    interval: tuple[float, float]
    lift: float
    gain: float

    @property
    def share(self) -> float:
        """`size` / `of`."""
        return self.size / self.of

    def __str__(self) -> str:
        """One line."""
        promised = f"{self.expected:,.0f}" if self.expected >= 10 else f"{self.expected:.1f}"
        between = f" (95% interval {self.interval[0]:.1%} to {self.interval[1]:.1%})" if math.isfinite(self.interval[0]) else ""
        return (
            f"{self.size:,} likeliest of {self.of:,} ({self.share:.1%}): {promised} outcomes expected; in the tests "
            f"{self.precision:.1%} had it{between}, lift {self.lift:.2f}, {self.gain:.1%} of all"
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """What the likeliest 1%, 2%, …, 100% of the customers at a cutoff held.

    Parameters
    ----------
    rows, positives : of all.
    expected : sums of the probabilities in each share, to the third decimal.
    found : positives in each share, to the third decimal; a border through equal predictions takes its part of them.
    lower, upper : 95% interval of each share's precision, to the sixth decimal, nan where there is none; empty where none was asked for.

    They have 100 places, none without rows.

    >>> curve = Curve.of([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    >>> curve.found[49], curve.expected[49], curve.deciles[0].lift
    (1.0, 1.7, 2.0)
    """

    rows: int = 0
    positives: int = 0
    expected: tuple[float, ...] = ()
    found: tuple[float, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()

    @classmethod
    def of(cls, y: ArrayLike, p: ArrayLike) -> Curve:
        """The curve of labels 0 or 1 and probabilities, shape (n,), without intervals."""
        labels, predicted = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
        if not len(labels):
            return cls()
        positives = int(labels.sum())
        summed = np.concatenate([[0.0], np.cumsum(np.sort(predicted)[::-1])])
        expected = np.interp(SHARES * len(predicted), np.arange(len(summed)), summed)
        found = cumulative_gain(labels, predicted, SHARES) * positives if positives else np.zeros(len(SHARES))
        return cls(len(labels), positives, _kept(expected, 3), _kept(found, 3), _NOWHERE, _NOWHERE)

    @classmethod
    def together(cls, curves: Sequence[Curve]) -> Curve:
        """The likeliest of each cutoff put together, without intervals: an audience is chosen at one moment, among those of that moment."""
        held = [curve for curve in curves if curve.rows]
        if not held:
            return cls()
        expected, found = (np.sum([getattr(curve, name) for curve in held], axis=0) for name in ("expected", "found"))
        rows, positives = sum(curve.rows for curve in held), sum(curve.positives for curve in held)
        return cls(rows, positives, _kept(expected, 3), _kept(found, 3), _NOWHERE, _NOWHERE)

    def within(self, intervals: Sequence[tuple[float, float]]) -> Curve:
        """The same with the intervals of its precision, one for each share."""
        if not self.rows:
            return self
        lower, upper = np.asarray(intervals, dtype=np.float64).T
        return replace(self, lower=_kept(lower, 6), upper=_kept(upper, 6))

    @property
    def precision(self) -> Floats:
        """Of each share of the customers, the share that had the outcome, shape (100,); empty without rows."""
        return np.asarray(self.found) / (SHARES[: len(self.found)] * self.rows)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """`lower` and `upper` in 100 places, nan where there is no interval."""
        return self.lower or _NOWHERE, self.upper or _NOWHERE

    @property
    def deciles(self) -> tuple[Decile, ...]:
        """Ten of them, none without rows. ``pandas.DataFrame(curve.deciles)`` is a table."""
        if not self.rows:
            return ()
        found, expected = (np.asarray((0.0, *values[9::10])) for values in (self.found, self.expected))
        rows, rate = self.rows / 10, self.positives / self.rows
        tenths = zip(np.diff(found).tolist(), np.diff(expected).tolist(), found[1:].tolist(), strict=True)
        return tuple(
            Decile(number, rows, came, promised, came / rows, _over(came / rows, rate), _over(gained, self.positives))
            for number, (came, promised, gained) in enumerate(tenths, 1)
        )

    def audience(self, size: int | None = None, *, share: float | None = None, of: int | None = None) -> Audience:
        """See `results.Evaluation.audience`; `of` is by default the rows of the curve."""
        if not self.rows:
            remedy = "train the model again, or evaluate it on cutoffs whose labels have ended"
            raise _impossible([Problem("no_curve", "the evaluation does not say what a share of its customers held", remedy=remedy)])
        everyone = self.rows if of is None else of
        number = _size(size, share, everyone)
        part, rate = number / everyone, self.positives / self.rows
        found, expected = (float(np.interp(part, [0.0, *SHARES], [0.0, *values])) for values in (self.found, self.expected))
        lower, upper = (float(np.interp(part, SHARES, values)) for values in self.bounds)
        precision = found / (part * self.rows)
        promised = expected / self.rows * everyone
        return Audience(number, everyone, promised, precision, (lower, upper), _over(precision, rate), _over(found, self.positives))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """What came where the model said nearly the same.

    `rows` of the bin; `predicted`: mean probability; `observed`: rate of positives, with `lower` and `upper`, its 95% interval (`wilson`),
    which takes the rows for independent: over several cutoffs of the same customers it is a little too narrow.
    """

    rows: int
    predicted: float
    observed: float
    lower: float
    upper: float

    @property
    def holds(self) -> bool:
        """Whether the interval holds what was predicted."""
        return self.lower <= self.predicted <= self.upper


def reliability(y: ArrayLike, p: ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Observed rates beside predictions in bins of equal mass (those of `metrics.ece`), from the least likely to the most.

    `y`: labels 0 or 1, `p`: probabilities, both of shape (n,). Bins without rows are left out.

    >>> [(bin.rows, bin.predicted, bin.observed, bin.holds) for bin in reliability([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], bins=2)]
    [(2, 0.1, 0.0, True), (2, 0.9, 1.0, True)]
    """
    rows, positives, expected = (values[::-1] for values in Ranking(y, p).masses(bins))
    lower, upper = wilson(positives, rows)
    columns = (rows.astype(int), expected / rows, positives / rows, lower, upper)
    return tuple(ReliabilityBin(*values) for values in zip(*(column.tolist() for column in columns), strict=True))


def wilson(positives: ArrayLike, rows: ArrayLike) -> tuple[Floats, Floats]:
    """95% interval of a rate by the score method (Wilson 1927), which keeps its level where hardly anyone, or everyone, is positive.

    >>> [float(bound.round(4)) for bound in wilson(0, 50)]
    [0.0, 0.0713]
    """
    n = np.asarray(rows, dtype=np.float64)
    rate = np.asarray(positives, dtype=np.float64) / n
    middle = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _size(size: int | None, share: float | None, of: int) -> int:
    """How many customers are meant; raises `SpecificationError` where that makes no audience."""
    problems = [
        Problem("audience_not_a_number", f"{name} is {value!r}", remedy=f"give {kind}")
        for name, value, kind, numbers in (
            ("size", size, "a whole number", int),
            ("share", share, "a number", float),
            ("of", of, "a whole number", int),
        )
        if value is not None and not _is_number(value, numbers)
    ]
    if problems:
        raise _impossible(problems)
    if of < 1:
        problems.append(Problem("audience_of_nobody", f"of is {of}", remedy="give the number of customers to choose from, at least 1"))
    if (size is None) == (share is None):
        given = "neither size nor share is given" if size is None else "both size and share are given"
        problems.append(Problem("audience_ambiguous", given, remedy="give one of them"))
    if size is not None and not 1 <= size <= max(of, 1):
        problems.append(
            Problem("audience_size", f"size is {size:,}", remedy=f"choose from 1 to {max(of, 1):,} customers, or give another of=")
        )
    if share is not None and not 0 < share <= 1:
        problems.append(Problem("audience_share", f"share is {share}", remedy="give a share above 0 and at most 1; 0.1 is a tenth"))
    if problems:
        raise _impossible(problems)
    return size if size is not None else max(1, round((share or 0.0) * of))


def _is_number(value: object, kind: type) -> bool:
    """Whether a value is a whole number, or (`float`) any number."""
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | np.integer) or (kind is float and isinstance(value, float | np.floating))


def _impossible(problems: Sequence[Problem]) -> SpecificationError:
    return SpecificationError("there is no such audience", problems)


def _over(value: float, by: float) -> float:
    return value / by if by else float("nan")


def _kept(values: Floats, decimals: int) -> tuple[float, ...]:
    """Rounded: what is kept with a model is to stay small."""
    return tuple(np.round(values, decimals).tolist())
