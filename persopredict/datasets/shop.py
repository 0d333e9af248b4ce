"""The made shop: its known parameters, and the clock by which its customers live.

A customer appears with a first order, and from then on, until leaving, makes orders, views and e-mail clicks, each a
Poisson process with the customer's own rate, drawn from a Gamma distribution; after each order the customer leaves for
good with a probability that depends on what the log shows of that order (Schmittlein, Morrison & Colombo 1987,
"Counting your customers", Management Science 33; Fader, Hardie & Lee 2005, "Counting your customers the easy way",
Marketing Science 24, where the probability is Beta distributed instead of driven by observables). Views and clicks
raise, for some days, the rate of conversions. `persopredict.datasets.truth` turns this into probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import Problem, SpecificationError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stream:
    """A Poisson process whose rate differs between customers: Gamma(shape, mean `per_day`); a small shape spreads them widely.

    >>> Stream(shape=0.5, per_day=0.1).rate
    5.0
    """

    shape: float
    per_day: float

    @property
    def rate(self) -> float:
        """The rate parameter of the Gamma distribution, in days."""
        return self.shape / self.per_day


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: its share of the customers, how easily they leave after an order (probability), how readily they convert (factor)."""

    name: str
    share: float
    dropout: float
    conversion: float


@dataclass(frozen=True, slots=True)
class Shop:
    """The known parameters of a made shop; rates are per day of its clock.

    Parameters
    ----------
    purchase, view, email_click : the three streams of a customer who has not left.
    channels : shares sum to 1. A customer's home channel is that of the first order; `faithful` of the others are made
        there too.
    stockout : probability that an order meets a "stockout", logged with it; it multiplies the probability to leave by
        `stockout_factor`.
    conversion_per_day, conversion_per_view, conversion_per_email_click : expected conversions of a customer in a
        channel of factor 1: out of the blue, and following each view or click, spread over the days after it as
        exp(−days / `memory`) / `memory`.
    drift : change of the log of the conversion rate per 365 days; 0.7 doubles it in a year.
    basket : mean number of lines of an order beyond the first.
    categories, taste : number of categories, and how alike the customers' tastes are: Dirichlet(`taste` × popularity).

    Raises `SpecificationError`, with every parameter that is out of range.

    >>> Shop(stockout=2.0, channels=(Channel("web", 0.4, 0.05, 1.0),))
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: the shop is impossible:
      - error out_of_range: stockout is 2.0. Remedy: give a number from 0 to 1.
      - error out_of_range: the shares of the channels sum to 0.4. Remedy: let them sum to 1.
    """

    purchase: Stream = field(default=Stream(1.5, 0.09))
    view: Stream = field(default=Stream(0.4, 0.1))
    email_click: Stream = field(default=Stream(0.4, 0.015))
    channels: tuple[Channel, ...] = (
        Channel("web", 0.5, 0.025, 1.0),
        Channel("app", 0.3, 0.015, 1.6),
        Channel("store", 0.2, 0.05, 0.5),
    )
    faithful: float = 0.85
    stockout: float = 0.06
    stockout_factor: float = 5.0
    conversion_per_day: float = 0.0005
    conversion_per_view: float = 0.025
    conversion_per_email_click: float = 0.125
    memory: float = 10.0
    drift: float = 0.0
    basket: float = 0.7
    categories: int = 8
    taste: float = 3.0

    def __post_init__(self) -> None:
        """Refuse what is impossible, all of it at once."""
        if problems := list(self._problems()):
            raise SpecificationError("the shop is impossible", problems)

    def _problems(self) -> Iterator[Problem]:
        positive = {"memory": self.memory, "categories": self.categories, "taste": self.taste}
        for name in ("purchase", "view", "email_click"):
            stream: Stream = getattr(self, name)
            positive |= {f"{name}.shape": stream.shape, f"{name}.per_day": stream.per_day}
        not_negative = {
            "conversion_per_day": self.conversion_per_day,
            "conversion_per_view": self.conversion_per_view,
            "conversion_per_email_click": self.conversion_per_email_click,
            "stockout_factor": self.stockout_factor,
            "basket": self.basket,
        } | {f"conversion of channel {channel.name}": channel.conversion for channel in self.channels}
        fractions = {"stockout": self.stockout, "faithful": self.faithful}
        fractions |= {f"share of channel {channel.name}": channel.share for channel in self.channels}
        fractions |= {f"dropout of channel {channel.name}": channel.dropout for channel in self.channels}
        for name, value in positive.items():
            if not value > 0:
                yield Problem("out_of_range", f"{name} is {value}", remedy="give a number above 0")
        for name, value in not_negative.items():
            if not value >= 0:
                yield Problem("out_of_range", f"{name} is {value}", remedy="give 0 or more")
        for name, value in fractions.items():
            if not 0 <= value <= 1:
                yield Problem("out_of_range", f"{name} is {value}", remedy="give a number from 0 to 1")
        total = sum(channel.share for channel in self.channels)
        if abs(total - 1) > 1e-9:
            yield Problem("out_of_range", f"the shares of the channels sum to {total:g}", remedy="let them sum to 1")

    @property
    def daily_drift(self) -> float:
        """Change of the log of the conversion rate per day."""
        return self.drift / 365

    def leaving(self, channel: Integers, stockout: NDArray[np.bool_]) -> Floats:
        """Probability to leave after an order, by home channel (index) and whether the order met a stockout; shape of the arguments."""
        dropout = np.array([each.dropout for each in self.channels])[channel]
        return np.asarray(np.minimum(np.where(stockout, self.stockout_factor, 1.0) * dropout, 0.99), dtype=np.float64)

    def average_leaving(self) -> Floats:
        """Probability to leave after an order that has not been made yet, one per home channel."""
        every = np.arange(len(self.channels))
        met, missed = (self.leaving(every, np.full(len(every), flag)) for flag in (True, False))
        average: Floats = self.stockout * met + (1 - self.stockout) * missed
        return average


class Clock:
    """The shop's own time, in days since `start`: it runs slowly at night, fast in the evening and on Saturdays, seven days in a week.

    A process that is even on this clock has a daily and weekly rhythm on ours, and its likelihood stays simple (the
    time change of a Poisson process).

    >>> clock = Clock(datetime(2024, 1, 1, tzinfo=UTC))
    >>> clock.reading(np.array([clock.start, clock.start + 7 * DAY]))
    array([0., 7.])
    >>> int(clock.moment(clock.reading(np.array([clock.start + 123_456_789])))[0]) - clock.start
    123456789
    """

    # Relative activity in each UTC hour of a day, then on each weekday from Monday.
    _HOURS = (3, 2, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 12, 11, 10, 10, 11, 13, 16, 18, 18, 15, 10, 6)
    _WEEKDAYS = (9, 9, 9, 10, 11, 13, 10)

    def __init__(self, start: datetime) -> None:
        self.start = microseconds(start)
        weights = np.multiply.outer(np.array(self._WEEKDAYS, dtype=float), np.array(self._HOURS, dtype=float)).ravel()
        self._knots = np.concatenate([[0.0], np.cumsum(weights) / weights.sum() * 7])
        self._offset = 0.0
        self._offset = float(self.reading(np.array([self.start]))[0])

    def reading(self, moments: Integers) -> Floats:
        """What the clock shows at `moments` (UTC microseconds since 1970)."""
        # The epoch was a Thursday: four days later a week begins.
        week, rest = np.divmod(moments - 4 * DAY, 7 * DAY)
        inside = np.interp(rest * (24 / DAY), np.arange(169), self._knots)
        return np.asarray(week * 7.0 + inside - self._offset, dtype=np.float64)

    def moment(self, readings: Floats) -> Integers:
        """The moment (UTC microseconds since 1970, rounded) at which the clock shows `readings`."""
        week, rest = np.divmod(readings + self._offset, 7.0)
        hours = np.interp(rest, self._knots, np.arange(169))
        return (week.astype(np.int64) * 7 + 4) * DAY + np.rint(hours * (DAY / 24)).astype(np.int64)


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware datetime.

    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC)) == DAY
    True
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)
