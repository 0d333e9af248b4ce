"""What drives a model's scores: by how much each concept moves them, which way, and what its values do.

Computed once, when a model is fitted, on some of the rows that it learnt from. What is kept are means over many rows and quantiles between
the first hundredth and the last: nobody's own values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from persopredict import html, learner
from persopredict.cells import percent
from persopredict.concepts import AnyFeature, alike
from persopredict.errors import SpecificationError, did_you_mean
from persopredict.learner import Scorer

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from persopredict.wording import Wording

Floats = NDArray[np.float64]
Direction = Literal["up", "down", "mixed"]

#: How many rows are looked at, and the salt by which they are drawn.
MOST_ROWS, SALT = 5_000, "drivers"
#: Bins of known values, and rows that a bin has at least.
BINS, LEAST = 10, 20
#: Where of a feature's values the outermost bins end.
TAIL = 0.01
#: From this Gini correlation on, larger values speak for the outcome; below minus this, against it.
CLEAR = 0.75
#: Effects in log-odds that are rounding errors.
_NOTHING = 1e-9
_SHOWN = 12
_LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose values of a feature lie next to each other; or where it is unknown.

    `low`, `high`: the least and the largest value, the tails cut off at the hundredth; `value`: their mean; all None where the value is
    unknown. `contribution`: of the whole concept, the mean in log-odds. `share`: of all rows.
    """

    low: float | None
    high: float | None
    value: float | None
    contribution: float
    share: float

    @property
    def known(self) -> bool:
        """Whether these rows have a value."""
        return self.value is not None

    def text(self, number: Callable[[float], str]) -> str:
        """The values in words, "" where they are unknown; `number` writes one.

        >>> Bin(3.0, 5.0, 4.2, 0.1, 0.2).text(lambda value: f"{value:g}"), Bin(3.0, 3.0, 3.0, 0.1, 0.2).text(str)
        ('3 – 5', '3.0')
        """
        if self.low is None or self.high is None:
            return ""
        low, high = number(self.low), number(self.high)
        return low if low == high else f"{low} – {high}"


@dataclass(frozen=True, slots=True)
class Driver:
    """One concept that moves scores.

    `feature`, `label`: its face, the member that contributes most, by name and in words; `members`: the names of all. `effect`: the mean of
    what all members together add to a score, whichever way, in log-odds. `direction`: where more of the face leads, "up", "down" or
    "mixed". `bins`: of the face's values, ascending, the unknown ones last.
    """

    feature: str
    label: str
    members: tuple[str, ...]
    effect: float
    direction: Direction
    bins: tuple[Bin, ...]

    @property
    def shape(self) -> str:
        """The mean contributions of known values as bars, lowest to highest value.

        >>> Driver("f", "f", ("f",), 0.4, "up", (Bin(0, 1, 0.5, -0.4, 0.5), Bin(2, 9, 4, 0.4, 0.4), Bin(None, None, None, 0, 0.1))).shape
        '▁█'
        """
        found = [bin.contribution for bin in self.bins if bin.known]
        low, high = min(found, default=0.0), max(found, default=0.0)
        if len(found) < 2 or high - low <= _NOTHING:
            return _LEVELS[len(_LEVELS) // 2] * len(found)
        return "".join(_LEVELS[round((value - low) / (high - low) * (len(_LEVELS) - 1))] for value in found)

    def to_frame(self) -> pd.DataFrame:
        """The bins as a pandas frame: low, high, value, contribution, share."""
        import pandas as pd

        return pd.DataFrame([asdict(bin) for bin in self.bins], columns=list(Bin.__dataclass_fields__)).astype(float)


@dataclass(frozen=True, slots=True)
class Drivers(Sequence[Driver]):
    """What drives a model's scores, strongest first. `rows`: how many were looked at.

    >>> found = Drivers(2_000, (Driver("count_28d", "number of events", ("count_28d",), 0.4, "up", (Bin(0, 1, 0.4, 0.4, 1.0),)),))
    >>> print(found)
    what moves the score (2,000 rows)
      effect  share  direction  values  driver
       0.400   100%  up         ▅       number of events
    >>> Drivers.from_dict(found.to_dict()) == found
    True
    """

    rows: int
    found: tuple[Driver, ...]

    @classmethod
    def of(
        cls, scorer: Scorer, X: NDArray[np.floating], features: Sequence[AnyFeature], *, weight: NDArray[np.floating] | None = None
    ) -> Drivers | None:
        """What drives a model's scores of these rows; None if the model can't tell.

        Parameters
        ----------
        X : what the model reads, shape (rows, inputs), nan where null.
        features : its inputs, in order. Those of one concept in these rows (`concepts.alike`) are one driver, whose contribution is their
            sum.
        weight : how many rows each row stands for, shape (rows,); default one.

        The direction follows from the Gini correlation (Schechtman and Yitzhaki 1987) of the bins' contributions with their order: of all
        differences between the contributions of two bins, weighted by the rows of both, how much goes up with the value, less what goes
        down. It is 1 where a larger value never adds less, -1 where it never adds more; from `CLEAR` on the direction is "up", below
        -`CLEAR` "down", else "mixed".
        """
        if not learner.explains(scorer):
            return None
        values = scorer.contributions(X)
        weights = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=np.float64)
        found = (_driver(values, X, features, members, weights) for members in alike(X, features)) if len(X) else ()
        # Equal effects keep the order of the features.
        return cls(len(X), tuple(sorted((driver for driver in found if driver.effect > 0), key=lambda driver: -driver.effect)))

    @overload
    def __getitem__(self, place: int) -> Driver: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Driver, ...]: ...
    def __getitem__(self, place: int | slice) -> Driver | tuple[Driver, ...]:
        """By rank, from 0."""
        return self.found[place]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.found)

    def __contains__(self, feature: object) -> bool:
        """Whether a feature, by its name, is a member of one of them."""
        return any(feature in driver.members for driver in self.found)

    def of_feature(self, name: str) -> Driver:
        """The driver that a feature belongs to, by its name; raises `SpecificationError` where it moves nothing."""
        for driver in self.found:
            if name in driver.members:
                return driver
        known = [member for driver in self.found for member in driver.members]
        raise SpecificationError(f"{name!r} drives nothing; {did_you_mean(str(name), known) or 'to_frame() lists what does'}")

    @property
    def groups(self) -> dict[str, int]:
        """The rank of the driver that each feature is a member of, by its name: what is one concept to the model's log."""
        return {member: rank for rank, driver in enumerate(self.found) for member in driver.members}

    @property
    def shares(self) -> tuple[float, ...]:
        """Of all effects, each driver's."""
        total = sum(driver.effect for driver in self.found)
        return tuple(driver.effect / total for driver in self.found)

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame, one row for each driver: feature, label, effect, share (of all effects), direction, members."""
        import pandas as pd

        rows = [
            (driver.feature, driver.label, driver.effect, share, driver.direction, list(driver.members))
            for driver, share in zip(self.found, self.shares, strict=True)
        ]
        return pd.DataFrame(rows, columns=["feature", "label", "effect", "share", "direction", "members"])

    def plot(
        self, feature: str | None = None, *, title: Callable[[str], str] | None = None, wording: Wording | None = None
    ) -> alt.LayerChart:
        """The strongest drivers; or, with a feature's name, what the values of its driver do: an Altair chart.

        Parameters
        ----------
        title : what a feature is called, by its name; default its label.
        wording : language of the chart, default English.

        Raises `SpecificationError` for a feature that drives nothing, or where nothing does; for a `wording` that is none.
        """
        from persopredict import charts
        from persopredict.wording import wording_of

        words = charts.Words(wording_of(wording).language)

        def called(driver: Driver) -> str:
            return title(driver.feature) if title else driver.label

        if feature is None:
            return charts.drivers([charts.Driver(called(driver), driver.effect, driver.direction) for driver in self.found], words=words)
        driver = self.of_feature(feature)
        bins = [charts.ShapeBin(bin.text(words.number), bin.contribution, bin.share) for bin in driver.bins]
        return charts.titled(charts.shape(bins, name=called(driver), words=words), called(driver))

    def __repr__(self) -> str:
        """In a line; `str` tells the strongest."""
        return f"Drivers({len(self.found)} drivers, {self.rows:,} rows)"

    def __str__(self) -> str:
        """The strongest, one in a line."""
        lines = [f"what moves the score ({self.rows:,} rows)"]
        if not self.found:
            return f"{lines[0]}: nothing does, it is the same for everybody"
        width = max(len("values"), *(len(driver.shape) for driver in self.found[:_SHOWN]))
        lines.append(f"  effect  share  direction  {'values':{width}}  driver")
        for driver, share in zip(self.found[:_SHOWN], self.shares, strict=False):
            lines.append(f"  {driver.effect:6.3f}  {share:5.0%}  {driver.direction:9}  {driver.shape:{width}}  {driver.label}")
        if len(self.found) > _SHOWN:
            lines.append(f"  and {len(self.found) - _SHOWN} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the strongest as a table."""
        heading = html.title("What moves the score", "" if self.found else "Nothing does: it is the same for everybody.")
        told = zip(self.found[:_SHOWN], self.shares, strict=False)
        rows = [[driver.label, f"{driver.effect:.3f}", percent(share), driver.direction, driver.shape] for driver, share in told]
        table = html.table(["driver", "effect", "share", "direction", "values"], rows, words=(0, 3, 4))
        rest = [f"and {len(self.found) - _SHOWN} more"] if len(self.found) > _SHOWN else []
        note = f"{self.rows:,} rows; effect: mean contribution to the score, either way, in log-odds; values: from low to high"
        return html.block(heading, table if self.found else html.note([]), html.note([*rest, note]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `from_dict` reads it back."""
        return {"rows": self.rows, "drivers": [asdict(driver) | {"members": list(driver.members)} for driver in self.found]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Drivers:
        """What `to_dict` wrote."""
        found = (
            Driver(**driver | {"members": tuple(driver["members"]), "bins": tuple(Bin(**bin) for bin in driver["bins"])})
            for driver in values["drivers"]
        )
        return cls(values["rows"], tuple(found))


def _driver(values: Floats, X: NDArray[Any], features: Sequence[AnyFeature], members: Sequence[int], weight: Floats) -> Driver:
    total = np.sum([values[:, place] for place in members], axis=0)
    strength = [float(np.average(np.abs(values[:, place]), weights=weight)) for place in members]
    effect = float(np.average(np.abs(total), weights=weight))
    face = members[int(np.argmax(strength))]
    bins = _bins(np.asarray(X[:, face], dtype=np.float64), total, weight)
    names = tuple(features[place].name for place in members)
    rounded = 0.0 if effect <= _NOTHING else _rounded(effect)
    return Driver(features[face].name, features[face].label, names, rounded, _direction(bins), bins)


def _bins(value: Floats, contribution: Floats, weight: Floats) -> tuple[Bin, ...]:
    """Bins of nearly equal weight; equal values are in one bin."""
    known = np.isfinite(value)
    rows = np.flatnonzero(known)[np.argsort(value[known], kind="stable")]
    ordered = value[rows]
    # However long the tails are, a bin's values are those of several rows.
    tail = min(max(LEAST, int(TAIL * len(rows))), (len(rows) + 1) // 2) - 1
    inside = ordered.clip(ordered[tail], ordered[-1 - tail]) if len(rows) else ordered

    def told(rows: NDArray[np.intp], values: Floats | None) -> Bin:
        mean = _rounded(np.average(contribution[rows], weights=weight[rows]))
        share = _rounded(weight[rows].sum() / weight.sum())
        if values is None:
            return Bin(None, None, None, mean, share)
        return Bin(_rounded(values[0]), _rounded(values[-1]), _rounded(np.average(values, weights=weight[rows])), mean, share)

    cuts = _cuts(ordered, weight[rows])
    bins = [told(rows[start:end], inside[start:end]) for start, end in pairwise(cuts)]
    if not known.all():
        bins.append(told(np.flatnonzero(~known), None))
    return tuple(bins)


def _cuts(ordered: Floats, weight: Floats) -> list[int]:
    """Where bins of ascending values begin, and where the last one ends; none where there are too few."""
    if len(ordered) < LEAST:
        return []
    number = min(BINS, len(ordered) // LEAST)
    reached = np.cumsum(weight)
    last = np.searchsorted(reached, reached[-1] * np.arange(1, number) / number)
    cuts = [0]
    for cut in np.searchsorted(ordered, ordered[last], side="right").tolist():
        if cut - cuts[-1] >= LEAST and len(ordered) - cut >= LEAST:
            cuts.append(cut)
    return [*cuts, len(ordered)]


def _direction(bins: Sequence[Bin]) -> Direction:
    found = [bin for bin in bins if bin.known]
    steps = [(right.contribution - left.contribution) * left.share * right.share for left, right in combinations(found, 2)]
    whole = sum(abs(step) for step in steps)
    correlation = sum(steps) / whole if whole > _NOTHING else 0.0
    return "up" if correlation >= CLEAR else "down" if correlation <= -CLEAR else "mixed"


def _rounded(value: float) -> float:
    """Six digits say all that there is to say."""
    return float(f"{value:.6g}")
