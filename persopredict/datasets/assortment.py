"""Who chooses what: categories that differ in popularity, customers with planted tastes, and one definition of what a line is made of.

A line of an order, or a view, is

- the customer's favourite, drawn without regard to popularity, so that it often is a rare category, with the customer's own `share`; else
- once the customer has adopted the *next* taste of its segment, that category, with probability `ADOPTED`; else
- any category by its weight: `TOGETHER` of the weight lies on the categories of the customer's segment, the rest is popularity, with a long
  tail; seasonal and trending categories weigh more at some times than at others, late ones nothing until they appear.

`choices` gives these probabilities, `chosen` draws by them. The next taste is none of the segment's categories of before, and a customer
adopts it at some midnight: whoever knows what goes together can tell who will take it, and before that hardly anybody has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from persopredict.datasets.generator import BLOCK
from persopredict.datasets.shop import Floats, Integers

ORDERS_SHAPE, ORDERS_PER_DAY = 1.5, 0.06
SHARE = (0.35, 0.5)
ADOPTED = 0.3
ADOPTION_PER_DAY = 0.004
TOGETHER = 0.5
CHANNELS = ("web", "app", "store")
#: With fewer categories all are steady, and there is nothing to adopt.
ENOUGH_FOR_KINDS = 6
MOST_SEGMENTS = 8


class Assortment:
    """What there is to choose from: `size` categories, the popular ones first, the late ones last, over `length` days of the shop's clock.

    >>> assortment = Assortment(30, length=200.0)
    >>> assortment.next.tolist(), str(assortment.kind[29]), float(assortment.appears[29])
    ([25, 26, 22, 23, 24], 'late', 130.0)
    >>> assortment.shares(np.array([0, 199])).shape, assortment.shares(np.array([0, 199]))[:, 0, 29].round(2).tolist()
    ((2, 5, 30), [0.0, 0.02])
    """

    def __init__(self, size: int, length: float) -> None:
        number, kinds = np.arange(size), size >= ENOUGH_FOR_KINDS
        self.size, self.length = size, length
        self.segments = min(max(1, size // 6), MOST_SEGMENTS)
        self.segment, self.department = number % self.segments, number // 5
        self.late = size // 15 + 1 if kinds else 0
        early = number < size - self.late
        self.kind = np.where(early, "steady", "late").astype(object)
        if kinds:
            self.kind[early & (number % 10 == 2)] = "seasonal"
            self.kind[early & (number % 15 == 4)] = "trending"
        self.appears = np.zeros(size)
        self.appears[~early] = np.floor(length * np.linspace(0.35, 0.65, self.late))
        # The rarest of a segment's categories is its next taste. What comes late is no rarity when it comes.
        opened = range(self.segments if kinds else 0)
        self.next = np.array([number[early & (self.segment == each)].max() for each in opened], dtype=np.int64)
        weight = 1 / (np.where(early, number, 4) + 3.0)
        member = (self.segment == np.arange(self.segments)[:, None]) & early & ~np.isin(number, self.next)
        self.weight = TOGETHER * _shares(member * np.sqrt(weight)) + (1 - TOGETHER) * _shares(weight)

    def shares(self, day: Integers) -> Floats:
        """Shares of the categories in what is neither favourite nor next taste (days × segments × categories)."""
        season = 1 + 0.8 * np.sin(2 * np.pi * (day[:, None] / 365 + np.arange(self.size) / 7))
        trend = 0.3 + 1.7 * day[:, None] / self.length
        factor = np.select([self.kind == "seasonal", self.kind == "trending"], [season, trend], 1.0) * (day[:, None] >= self.appears)
        return _shares(self.weight * factor[:, None, :])

    def favourites(self, rng: np.random.Generator, segment: Integers) -> Integers:
        """Any category with the same chance, but none that comes late, nor the next taste of the customer's segment."""
        if not len(self.next):
            return rng.integers(0, self.size, len(segment))
        drawn = rng.integers(0, self.size - self.late - 1, len(segment))
        return drawn + (drawn >= self.next[segment])


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Customers as they truly are, one entry each: indices of segment, favourite and home channel, rate of orders per day, and when each
    arrived, left and adopted the next taste, on the shop's clock (long after the log, if never).
    """

    segment: Integers
    favourite: Integers
    share: Floats
    orders: Floats
    home: Integers
    arrival: Floats
    left: Floats
    adopted: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, assortment: Assortment, leaving: float) -> People:
        """One block of customers; half of them arrive in the first sixth of the log. `leaving` is a hazard per day."""
        segment = rng.integers(0, assortment.segments, BLOCK)
        arrival = 0.7 * assortment.length * rng.random(BLOCK) ** 2
        hazards = (leaving, ADOPTION_PER_DAY if len(assortment.next) else 0.0)
        left, adopted = (np.floor(arrival) + np.ceil(rng.exponential(1.0, BLOCK) / max(hazard, 1e-12)) for hazard in hazards)
        return cls(
            segment=segment,
            favourite=assortment.favourites(rng, segment),
            share=rng.uniform(*SHARE, BLOCK),
            orders=rng.gamma(ORDERS_SHAPE, ORDERS_PER_DAY / ORDERS_SHAPE, BLOCK),
            home=rng.choice(len(CHANNELS), BLOCK, p=[0.5, 0.3, 0.2]),
            arrival=arrival,
            left=left,
            adopted=adopted,
        )

    @classmethod
    def joined(cls, blocks: Sequence[People], size: int) -> People:
        """The first `size` customers of the blocks."""
        return cls(*(np.concatenate([getattr(block, each.name) for block in blocks])[:size] for each in fields(cls)))


def choices(people: People, assortment: Assortment, day: int) -> tuple[Floats, Floats]:
    """Probability that a line of this day is of the category, before and after adopting (customers × categories each)."""
    favourite = people.share[:, None] * (np.arange(assortment.size) == people.favourite[:, None])
    rest = (1 - people.share)[:, None] * assortment.shares(np.array([day]))[0, people.segment]
    if not len(assortment.next):
        return favourite + rest, favourite + rest
    adopter = favourite + (1 - ADOPTED) * rest
    adopter[np.arange(len(adopter)), assortment.next[people.segment]] += ADOPTED * (1 - people.share)
    return favourite + rest, adopter


def chosen(rng: np.random.Generator, people: People, assortment: Assortment, customer: Integers, reading: Floats) -> Integers:
    """The category (index) of each line or view, made by `customer` (index) at `reading` on the shop's clock."""
    day, segment = reading.astype(np.int64), people.segment[customer]
    shares = assortment.shares(np.arange(day.max() + 1))
    found = _drawn(rng, shares.reshape(-1, assortment.size), day * assortment.segments + segment)
    if len(assortment.next):
        adopts = (people.adopted[customer] <= reading) & (rng.random(len(day)) < ADOPTED)
        found = np.where(adopts, assortment.next[segment], found)
    return np.where(rng.random(len(day)) < people.share[customer], people.favourite[customer], found)


def _drawn(rng: np.random.Generator, shares: Floats, row: Integers) -> Integers:
    """A column for each entry of `row`, by the shares of that row."""
    # All rows' running totals, one row after the other, are one sorted array: a single search serves every row.
    totals = np.cumsum(shares, axis=1)
    totals[:, -1] = 1.0
    place = np.searchsorted((totals + np.arange(len(shares))[:, None]).ravel(), row + rng.random(len(row)), side="right")
    return np.asarray(place - row * shares.shape[1], dtype=np.int64)


def _shares(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float64)
