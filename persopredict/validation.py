"""Validation that looks forward: which cutoffs a fold may train on (law 5). Random splits do not exist here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.errors import SpecificationError
from persopredict.times import Duration, instant, zone

Indices = NDArray[np.intp]


class ForwardSplit:
    """A scikit-learn splitter over cutoffs: tests on each of the last `n_splits` cutoffs, trains on those whose labels had ended by then.

    Parameters
    ----------
    n_splits : number of test cutoffs; fewer if there are not enough with something to train on.
    embargo : gap + horizon of the label, like ``"28d"``: a training cutoff c serves a test cutoff t if c + embargo <= t. Nothing more is
        held back.
    timezone : where the days of the embargo are counted and naive cutoffs are read, default UTC.

    Pass the cutoffs as `groups`: aware or naive times, texts, or NumPy's datetime64 (UTC). Rows may come in any order.

    >>> import pandas as pd
    >>> cutoffs = pd.to_datetime(["2024-01-01", "2024-01-29", "2024-02-26", "2024-02-26"], utc=True)
    >>> [(train.tolist(), test.tolist()) for train, test in ForwardSplit(2, embargo="28d").split(cutoffs, groups=cutoffs)]
    [([0], [1]), ([0, 1], [2, 3])]
    """

    def __init__(self, n_splits: int = 3, *, embargo: str | Duration, timezone: str = "UTC") -> None:
        if n_splits < 1:
            raise SpecificationError(f"n_splits must be at least 1, got {n_splits}")
        self.n_splits, self.embargo, self.timezone = n_splits, Duration.parse(embargo), timezone
        self._zone = zone(timezone)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """The number of splits: `n_splits` at most, as many as the cutoffs in `groups` allow."""
        return self.n_splits if groups is None else len(self.test_cutoffs(self._instants(groups)))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Indices, Indices]]:
        """Row numbers to train on and to test on, for each test cutoff in order of time; raises `SpecificationError` without groups."""
        if groups is None:
            raise SpecificationError("ForwardSplit needs groups: the cutoff of each row")
        cutoffs = self._instants(groups)
        place = {cutoff: number for number, cutoff in enumerate(sorted(set(cutoffs)))}
        rows = np.array([place[cutoff] for cutoff in cutoffs])
        for test in self.test_cutoffs(cutoffs):
            yield np.flatnonzero(np.isin(rows, [place[c] for c in self.trains(test, list(place))])), np.flatnonzero(rows == place[test])

    def trains(self, test: datetime, cutoffs: Sequence[datetime]) -> list[datetime]:
        """The cutoffs whose labels had ended by `test`."""
        return [cutoff for cutoff in cutoffs if self.embargo.after(cutoff, self._zone) <= test]

    def test_cutoffs(self, cutoffs: Sequence[datetime]) -> list[datetime]:
        """The last cutoffs that have something to train on, ascending."""
        distinct = sorted(set(cutoffs))
        return [cutoff for cutoff in distinct if self.trains(cutoff, distinct)][-self.n_splits :]

    def _instants(self, groups: Any) -> list[datetime]:
        if getattr(getattr(groups, "dtype", None), "kind", "") == "M" and isinstance(groups, np.ndarray):
            groups = [moment.replace(tzinfo=UTC) for moment in groups.astype("datetime64[us]").tolist()]
        read: dict[Any, datetime] = {}
        for group in (values := list(groups)):
            if group not in read:
                read[group] = instant(group, self._zone)
        return [read[group] for group in values]
