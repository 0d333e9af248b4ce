"""What a feature needs to know of a window, and what it makes of it: the definition of every aggregate, once for every engine.

A `Need` is a part (a `Measure`, `Distinct` or `Decayed`) over a window. Whoever computes features, an engine over a whole log or `online`
over one customer, supplies the needs; `finished` turns them into float64. Numbers are integers all the way here: values of columns in
millionths, times in microseconds, so that nothing depends on the order in which they were added (law 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from persopredict import conditions
from persopredict.features.spec import DECAY_DECIMALS, Feature
from persopredict.times import Duration

Window = Duration | None
Integers = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MILLION = 1_000_000
_DAY = 86_400_000_000.0
#: Stands for "nothing there" where zero would mean something; no time and no value in millionths comes near it.
LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Measure:
    """What a stretch of a customer's time holds, such that stretches add up: one of `KINDS`; `word` numbers the words of ``values``."""

    kind: str
    column: str | None = None
    where: str | None = None
    word: int = field(default=0, repr=False)


#: kind: what it is. A column's values are in millionths, times in microseconds.
KINDS: Mapping[str, str] = {
    "count": "events",
    "known": "events that have the column",
    "sum": "sum of the column",
    "squares": "sum of the column's squares (`Squares`)",
    "min": "smallest value, `MOST` if none",
    "max": "largest value, `LEAST` if none",
    "first": "the earliest event that has the column, of several the smallest (`Dated`)",
    "last": "the latest event that has the column, of several the largest (`Dated`)",
    "first_us": "time of the earliest event, `MOST` if none",
    "last_us": "time of the latest event, `LEAST` if none",
    "days": "the active days (`Days`)",
    "values": "which of a column's values, if they are few: a bit for each, `WORD` of them a word",
}
#: Bits that one word holds: as float64 it is exact, and its exponent is the place of its highest bit.
WORD = 52


@dataclass(frozen=True, slots=True)
class Distinct:
    """The number of different values of a column."""

    column: str
    where: str | None


@dataclass(frozen=True, slots=True)
class Decayed:
    """Events (or a column's values) weighted by their age; NaN if there are none."""

    column: str | None
    where: str | None
    half_life: Duration


Part = Measure | Distinct | Decayed


class Need(NamedTuple):
    """A part over a window before the cutoff; None is all time."""

    part: Part
    window: Duration | None


class Squares(NamedTuple):
    """Sums of squares as ``high * 2**64 + middle * 2**32 + low``, which adds up limb by limb without carrying."""

    low: Integers
    middle: Integers
    high: Integers


class Dated(NamedTuple):
    """A value and when it was: `LEAST` (or `MOST`) microseconds if there is none."""

    us: Integers
    value: Integers


class Days(NamedTuple):
    """Active days: how many, the first and the last (as days since 1970), and the sum of the squared gaps between them."""

    number: Integers
    first: Integers
    last: Integers
    squares: Integers


class At(NamedTuple):
    """The cutoffs, shaped so that they broadcast against the needs: instants in microseconds and local days."""

    us: Integers
    day: Integers


@dataclass
class Asked:
    """The parts that a set of needs asks for, each with its windows, in the order in which they were first asked."""

    measures: dict[Measure, list[Window]] = field(default_factory=dict)
    distincts: dict[Distinct, list[Window]] = field(default_factory=dict)
    decays: dict[Decayed, list[Window]] = field(default_factory=dict)
    coded: dict[Distinct, list[Window]] = field(default_factory=dict)

    @classmethod
    def of(cls, needs: Iterable[Need], few: Mapping[str, int] | None = None) -> Asked:
        """The parts of the needs. Different values of the columns `few`, with so many values each, are told by the bits of measures."""
        asked = cls()
        for part, window in needs:
            if isinstance(part, Distinct) and part.column in (few or {}):
                for measure in words_of(part, (few or {})[part.column]):
                    _add(asked.measures, measure, window)
                _add(asked.coded, part, window)
                continue
            kinds: dict[type, dict[Part, list[Window]]] = {Measure: asked.measures, Distinct: asked.distincts, Decayed: asked.decays}  # type: ignore[dict-item]
            _add(kinds[type(part)], part, window)
        return asked

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return (*self.measures, *self.distincts, *self.decays)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows, each once."""
        asked = (*self.measures.values(), *self.distincts.values(), *self.decays.values())
        return tuple(dict.fromkeys(window for windows in asked for window in windows))

    @property
    def conditions(self) -> tuple[str, ...]:
        """All conditions, each once."""
        return tuple(dict.fromkeys(part.where for part in self.parts if part.where is not None))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns whose values are added up or compared."""
        columns = (*(each.column for each in self.measures if each.kind != "values"), *(decayed.column for decayed in self.decays))
        return tuple(dict.fromkeys(column for column in columns if column is not None))

    @property
    def natural(self) -> tuple[str, ...]:
        """The columns that are read as they are: by conditions, as entries to tell apart, and the day."""
        found = [name for text in self.conditions for name in sorted(conditions.columns(text))]
        found += [distinct.column for distinct in (*self.distincts, *self.coded)]
        return tuple(dict.fromkeys([*found, "day"] if self.has_days or self.decays else found))

    @property
    def has_days(self) -> bool:
        """Whether active days are asked for."""
        return any(measure.kind == "days" for measure in self.measures)


def words_of(part: Distinct, values: int) -> tuple[Measure, ...]:
    """The measures whose bits tell so many values apart."""
    return tuple(Measure("values", part.column, part.where, word) for word in range((values - 1) // WORD + 1))


def _add(parts: dict[Any, list[Window]], part: Part, window: Window) -> None:
    windows = parts.setdefault(part, [])
    if window not in windows:
        windows.append(window)


# The aggregates: what each needs, what it makes of it --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipe:
    """An aggregate: its needs, and its value (NaN where undefined) from what came of them, in the same order."""

    needs: Callable[[Feature, frozenset[str]], Sequence[Need]]
    value: Callable[..., Floats]


def needs(feature: Feature, numeric: frozenset[str]) -> Sequence[Need]:
    """What the feature needs, on a log whose columns `numeric` hold numbers."""
    return RECIPES[feature.aggregate].needs(feature, numeric)


def finished(feature: Feature, at: At, found: Sequence[Any]) -> Floats:
    """The feature's values from what came of its needs, the fallback where it is undefined; NaN is null."""
    value = RECIPES[feature.aggregate].value(at, *found)
    if feature.fallback is not None:
        np.copyto(value, feature.fallback, where=np.isnan(value))
    return value


def _of(feature: Feature, kind: str, *, column: int | None = None, anywhere: bool = False) -> Need:
    name = None if column is None else feature.columns[column]
    return Need(Measure(kind, name, None if anywhere else feature.where), feature.window)


def _size(feature: Feature, *, anywhere: bool = False) -> Need:
    """Events, or the sum of the column."""
    return _of(feature, "sum", column=0, anywhere=anywhere) if feature.columns else _of(feature, "count", anywhere=anywhere)


def _column(*kinds: str) -> Callable[[Feature, frozenset[str]], Sequence[Need]]:
    """Measures of the feature's column."""
    return lambda feature, numeric: [_of(feature, kind, column=0) for kind in kinds]


def _events(*kinds: str) -> Callable[[Feature, frozenset[str]], Sequence[Need]]:
    """Measures of the events."""
    return lambda feature, numeric: [_of(feature, kind) for kind in kinds]


def _needs_of_distinct(feature: Feature, numeric: frozenset[str]) -> Sequence[Need]:
    return [_distinct(feature, feature.columns[0])]


def _distinct(feature: Feature, column: str) -> Need:
    part = Measure("days", None, feature.where) if column == "day" else Distinct(column, feature.where)
    return Need(part, feature.window)


def _needs_of_ratio(feature: Feature, numeric: frozenset[str]) -> Sequence[Need]:
    lower = feature.columns[1]
    added = lower in numeric and lower != "day"
    below = [_of(feature, kind, column=1) for kind in ("sum", "known")] if added else [_distinct(feature, lower)]
    return [*_column("sum", "known")(feature, numeric), *below]


def _needs_of_trend(feature: Feature, numeric: frozenset[str]) -> Sequence[Need]:
    assert feature.window is not None
    whole = _size(feature)
    return [Need(whole.part, feature.window.half()), whole]


def _needs_of_decayed(feature: Feature, numeric: frozenset[str]) -> Sequence[Need]:
    assert feature.half_life is not None
    return [Need(Decayed(feature.columns[0] if feature.columns else None, feature.where, feature.half_life), feature.window)]


def _real(numbers: Integers, unit: float = 1.0) -> Floats:
    """As float64; Python's integers, where 64 bits didn't do, too."""
    if numbers.dtype == object and unit != 1.0:
        return np.asarray(numbers / int(unit), np.float64)
    return numbers.astype(np.float64) if unit == 1.0 else np.asarray(numbers / unit, np.float64)


def _where(defined: npt.NDArray[np.bool_], value: Floats) -> Floats:
    return np.asarray(np.where(defined, value, np.nan), np.float64)


def _over(upper: Floats, lower: Integers | Floats) -> Floats:
    """The quotient; NaN over zero."""
    below = _real(lower) if lower.dtype != np.float64 else lower
    return np.asarray(np.divide(upper, below, out=np.full(np.broadcast(upper, below).shape, np.nan), where=below != 0))


def _positive(at: At, number: Integers) -> Floats:
    return _where(number != 0, _real(number))


def _sum(at: At, total: Integers, known: Integers) -> Floats:
    return _where(known != 0, _real(total, MILLION))


def _mean(at: At, total: Integers, known: Integers) -> Floats:
    return _over(_real(total, MILLION), known)


def _dated(at: At, found: Dated) -> Floats:
    return _where((found.us != LEAST) & (found.us != MOST), _real(found.value, MILLION))


def _value(at: At, value: Integers) -> Floats:
    return _where((value != LEAST) & (value != MOST), _real(value, MILLION))


def _std(at: At, number: Integers, total: Integers, squares: Squares) -> Floats:
    return spread(number, total, squares) / MILLION


def _share(at: At, part: Integers, whole: Integers) -> Floats:
    return _over(_real(part), whole)


def _distinct_value(at: At, found: Integers | Days) -> Floats:
    return _positive(at, _number(found))


def _number(found: Integers | Days) -> Integers:
    return found.number if isinstance(found, Days) else found


def _ratio(at: At, upper: Integers, known: Integers, lower: Integers | Days, lower_known: Integers | None = None) -> Floats:
    """Over a sum, whose millionths cancel out, or over a number of values."""
    unit = MILLION if lower_known is None else 1.0
    return _where(known != 0, _over(_real(upper, unit), _number(lower)))


def _trend(at: At, recent: Integers, whole: Integers) -> Floats:
    # Subtracted as integers: halves of large totals differ by less than a double can hold.
    return _over(_real(recent - (whole - recent)), whole)


def _recency(at: At, last: Integers) -> Floats:
    return _where(last != LEAST, (at.us - last) / _DAY)


def _tenure(at: At, first: Integers) -> Floats:
    return _where(first != MOST, (at.us - first) / _DAY)


def _gap_mean(at: At, days: Days) -> Floats:
    return _over(_real(days.last - days.first), np.maximum(days.number - 1, 0))


def _gap_std(at: At, days: Days) -> Floats:
    gaps, span = days.number - 1, days.last - days.first
    variance = _over(_real(gaps * days.squares - span * span), np.where(gaps > 1, gaps * (gaps - 1), 0))
    return np.sqrt(variance)


def _overdue(at: At, days: Days) -> Floats:
    span = np.where(days.number > 1, days.last - days.first, 0)
    return _over(_real((at.day - days.last) * (days.number - 1)), span)


def _as_is(at: At, found: Floats) -> Floats:
    return found.copy()


RECIPES: Mapping[str, Recipe] = {
    "count": Recipe(_events("count"), _positive),
    "sum": Recipe(_column("sum", "known"), _sum),
    "mean": Recipe(_column("sum", "known"), _mean),
    "min": Recipe(_column("min"), _value),
    "max": Recipe(_column("max"), _value),
    "std": Recipe(_column("known", "sum", "squares"), _std),
    "distinct": Recipe(_needs_of_distinct, _distinct_value),
    "share": Recipe(lambda feature, numeric: [_size(feature), _size(feature, anywhere=True)], _share),
    "ratio": Recipe(_needs_of_ratio, _ratio),
    "trend": Recipe(_needs_of_trend, _trend),
    "recency": Recipe(_events("last_us"), _recency),
    "tenure": Recipe(_events("first_us"), _tenure),
    "gap_mean": Recipe(_events("days"), _gap_mean),
    "gap_std": Recipe(_events("days"), _gap_std),
    "overdue": Recipe(_events("days"), _overdue),
    "decayed_sum": Recipe(_needs_of_decayed, _as_is),
    "first": Recipe(_column("first"), _dated),
    "last": Recipe(_column("last"), _dated),
}


@lru_cache(maxsize=64)
def weights(half_life: Duration, ages: int) -> tuple[int, ...]:
    """The weight of each age from 0 to `ages` - 1 days, in units of ``10 ** -DECAY_DECIMALS``; nothing once it rounds to nothing.

    >>> weights(Duration.parse("7d"), 8)[::7]
    (1000000000000000, 500000000000000)
    """
    with localcontext() as context:
        context.prec = 60
        unit = Decimal(10) ** DECAY_DECIMALS
        found = []
        for age in range(ages):
            weight = int((unit * Decimal(2) ** (Decimal(-age) / half_life.days)).to_integral_value(ROUND_HALF_EVEN))
            if not weight:
                break
            found.append(weight)
    return (*found, *[0] * (ages - len(found)))


# Spreads from exact moments -----------------------------------------------------------------------------------------------------------

_LOW = 0xFFFFFFFF
_FEW = 32


def spread(number: Integers, total: Integers, squares: Squares) -> Floats:
    """Sample standard deviation from integer moments; NaN below two values.

    With m the whole part of the mean and r = Σx - n m, Σ(x - m)² = Σx² - m (Σx + r) is an exact integer and the deviation follows from it
    without cancellation: variance = (Σ(x - m)² - r²/n) / (n - 1).
    """
    some = np.maximum(number, 1)
    mean = total // some
    rest = total - mean * some
    if total.dtype == object or total.size <= _FEW:
        # For one customer's few windows Python's integers are quicker than two dozen calls of NumPy.
        low, middle, high = (limb.astype(object) for limb in squares)
        mean, rest, total = mean.astype(object), rest.astype(object), total.astype(object)
        whole = low + middle * 2**32 + high * 2**64
        about = np.asarray(whole - mean * (total + rest), np.float64)
    else:
        about = _about(squares, mean, total + rest)
    r = _real(rest)
    variance = _over(about - r * r / some.astype(np.float64), np.where(number > 1, number - 1, 0))
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _about(squares: Squares, left: Integers, right: Integers) -> Floats:
    """``squares - left * right`` in 128 bits, as float64; both factors have the same sign, or one is zero, or the result stays exact."""
    middle = squares.middle + (squares.low >> 32)
    high = (squares.high + (middle >> 32)).astype(np.uint64)
    low = ((middle & _LOW) << 32 | (squares.low & _LOW)).astype(np.uint64)
    product_high, product_low = _product(left, right)
    difference = low - product_low
    top = (high - product_high - (low < product_low)).astype(np.int64)
    return np.asarray(top.astype(np.float64) * 2.0**64 + difference.astype(np.float64))


def _product(left: Integers, right: Integers) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The signed product in 128 bits: its upper and its lower half, as two's complement."""
    a, b = left.astype(np.uint64), right.astype(np.uint64)
    a0, a1, b0, b1 = a & _LOW, a >> 32, b & _LOW, b >> 32
    cross = a1 * b0 + (a0 * b0 >> 32)
    other = a0 * b1 + (cross & _LOW)
    upper = a1 * b1 + (cross >> 32) + (other >> 32)
    # Two's complement: a negative factor counts as 2**64 too much.
    upper = upper - np.where(left < 0, b, 0).astype(np.uint64) - np.where(right < 0, a, 0).astype(np.uint64)
    return upper, a * b
