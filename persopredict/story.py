"""`Explanation`: what moved the scores of some customers, as numbers that shap's plots read and as a story that people read.

The only module that imports shap, which takes seconds: whoever needs it imports it where it is needed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persopredict import story_text
from persopredict.affinity.features import PairFeature
from persopredict.errors import did_you_mean
from persopredict.model import Asked
from persopredict.story_text import Many, One, Teller
from persopredict.targets import Affinity, Target
from persopredict.wording import Wording

with warnings.catch_warnings():
    # In a notebook without ipywidgets tqdm misses them, for progress bars that nobody draws here.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import shap

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Told:
    """Rows that a model was asked about, with what it says and why.

    Parameters
    ----------
    target, as_of, timezone, wording : what was asked, when, on which calendar, and in whose words it is told.
    asked : the rows.
    contributions : in log-odds before calibration, the base value last, shape (rows, inputs + 1).
    probability : calibrated, shape (rows,).
    start : the calibrated probability of the base value, from which contributions move the score, shape (rows,).
    usual : the probability that it is compared with, nan where there is none, shape (rows,).
    reasons : as they are published, a list for each row.
    """

    target: Target
    as_of: datetime
    timezone: str
    wording: Wording
    asked: Asked
    contributions: Floats
    probability: Floats
    start: Floats
    usual: Floats
    reasons: pa.ChunkedArray

    @cached_property
    def titles(self) -> list[str]:
        """What the features are called; where two have one title, with their names."""
        found = [self._title(feature) for feature in self.asked.features]
        return [
            f"{title} ({feature.name})" if found.count(title) > 1 else title
            for title, feature in zip(found, self.asked.features, strict=True)
        ]

    def _title(self, feature: Any) -> str:
        if isinstance(feature, PairFeature):
            return self.wording.pair_title(feature, self.target.horizon)
        return self.wording.title(feature)

    @property
    def width(self) -> int:
        """Columns that shap is shown: it can't do without any, where the model reads nothing."""
        return max(len(self.asked.features), 1)

    def category(self, row: int) -> str | None:
        """The row's, None where the target is asked once for each customer."""
        return None if self.asked.category is None else str(self.asked.category[row])

    def value_text(self, row: int, column: int) -> str:
        """A value in words."""
        feature, value = self.asked.features[column], np.array([self.asked.X[row, column]], dtype=np.float64)
        if isinstance(feature, PairFeature):
            by = self.target.by if isinstance(self.target, Affinity) else None
            said = self.wording.pair_reasons(feature, value, category=[self.category(row) or ""], horizon=self.target.horizon, by=by)
        else:
            said = self.wording.reasons(feature, value)
        return said[1][0]

    @property
    def tell(self) -> Teller:
        """Who tells it."""
        return Teller(self.target, self.as_of, self.timezone, self.wording)


class Explanation(shap.Explanation):  # type: ignore[misc]
    """What moved the scores of some customers, or of customers and categories: one row each, or one alone.

    A `shap.Explanation` in log-odds before calibration: `values`, with `base_values`, add up to the raw score; `data` are the values of
    the features (nan where unknown), `feature_names` their titles in words. All of shap's plots and slices take it as it is; a column is
    found by its title or by the feature's name, a row by its customer. What shap computes from it (``.abs.mean(0)``) is shap's own.

    Made by `Predictor.explain`. Printed, it is a story.
    """

    _told: Told
    _numbers: shap.Explanation

    @classmethod
    def of(cls, told: Told) -> Self:
        """All rows, shape (rows, features)."""
        shape, count = (len(told.asked.X), told.width), len(told.asked.features)
        values, data = np.zeros(shape), np.full(shape, np.nan)
        values[:, :count], data[:, :count] = told.contributions[:, :-1], told.asked.X
        titles = told.titles or [told.tell("same")]
        whole = shap.Explanation(values, told.contributions[:, -1].copy(), data, feature_names=list(titles))
        return cls._over(whole, shap.Explanation(np.arange(values.size).reshape(shape), feature_names=list(titles)), told)

    @classmethod
    def _over(cls, values: shap.Explanation, numbers: shap.Explanation, told: Told) -> Self:
        """`numbers`: of the cells of `told` that are seen through `values`, row by row."""
        found = cls.__new__(cls)
        found.__dict__.update(values.__dict__)
        found._told, found._numbers = told, numbers
        if found.single and np.ndim(numbers.values) == 1 and told.asked.features:
            found.display_data = np.array([told.value_text(found._row, column) for column in found._columns], dtype=object)
        return found

    def __getitem__(self, item: Any) -> Any:
        """A part of it, as shap slices; a column by its title or by the feature's name, a row by its customer, several by a list of these.

        Raises KeyError for a customer or a feature that it does not have.
        """
        parts = item if isinstance(item, tuple) else (item,)
        found = super().__getitem__(tuple(self._found(part, place) for place, part in enumerate(parts)))
        # shap notes what the slice came to, templates like `Explanation.abs` resolved.
        numbers = self._numbers[found.op_history[-1].args[0]]
        return type(self)._over(found, numbers, self._told)

    def _found(self, part: Any, place: int) -> Any:
        """A part of a slice, with the numbers of customers and features instead of names, which shap does not know."""
        if isinstance(part, list | np.ndarray) and len(part) and all(isinstance(each, str) for each in part):
            return [self._found(each, place) for each in part]
        if not isinstance(part, str):
            return part
        if place == 0 and (self._cells.ndim > 1 or not self.single):
            ids = [str(who) for who in self.customer_id]
            if part not in ids:
                raise KeyError("this explanation has no such customer")
            return ids.index(part)
        told, seen = self._told, self._across.tolist()
        known = {told.asked.features[column].name: number for number, column in enumerate(seen)}
        known |= {told.titles[column]: number for number, column in enumerate(seen)}
        if part not in known:
            raise KeyError(f"this explanation has no feature {part!r}; {did_you_mean(part, known) or 'feature_names has all of them'}")
        return known[part]

    def percentile(self, q: float, axis: int | None = None) -> shap.Explanation:
        """As shap's own: what it computes is nobody's story."""
        return copy.copy(self).percentile(q, axis)

    # What it is of -------------------------------------------------------------------------------------------------------------------

    @property
    def _cells(self) -> NDArray[np.int64]:
        return np.asarray(self._numbers.values, dtype=np.int64)

    @property
    def _rows(self) -> NDArray[np.int64]:
        """The rows that are seen, in their order."""
        cells, width = self._cells, self._told.width
        if cells.ndim < 2:
            return np.asarray(list(dict.fromkeys((cells.reshape(-1) // width).tolist())), dtype=np.int64)
        return np.asarray(cells[:, 0] // width)

    @property
    def _columns(self) -> NDArray[np.int64]:
        """The features that are seen, in their order, each once."""
        return np.asarray(list(dict.fromkeys(self._across.tolist())), dtype=np.int64)

    @property
    def _across(self) -> NDArray[np.int64]:
        """The features along the last axis, as often as they stand there."""
        cells, width = self._cells, self._told.width
        if not self._told.asked.features:
            return np.empty(0, np.int64)
        return np.asarray((cells[:1] if cells.ndim > 1 else cells).reshape(-1) % width, dtype=np.int64)

    @property
    def _row(self) -> int:
        return int(self._rows[0])

    @property
    def single(self) -> bool:
        """Whether it is of one row alone, which has been taken out: shape (features,)."""
        return np.ndim(self._numbers.values) < 2 and len(self._rows) == 1

    def _of_rows(self, values: NDArray[Any]) -> Any:
        return values[self._row] if self.single else values[self._rows]

    @property
    def customer_id(self) -> Any:
        """Whose scores: text of one customer, else an array of shape (rows,)."""
        return self._of_rows(self._told.asked.customer_id)

    @property
    def category(self) -> Any:
        """Of which categories: text of one, else an array of shape (rows,); None where the target is asked once for each customer."""
        return None if self._told.asked.category is None else self._of_rows(self._told.asked.category)

    @property
    def probability(self) -> Any:
        """The calibrated probability: of one row a float, else an array of shape (rows,)."""
        found = self._of_rows(self._told.probability)
        return float(found) if self.single else found

    @property
    def usual(self) -> Any:
        """How often the outcome came in the tests (of pairs: of the same category), shaped as `probability`; nan where nobody knows."""
        found = self._of_rows(self._told.usual)
        return float(found) if self.single else found

    @property
    def reasons(self) -> list[Any]:
        """The reasons as they are published: of one row a list of dicts, else one such list for each row."""
        found: list[Any] = self._told.reasons.take(pa.array(self._rows)).to_pylist()
        return list(found[0]) if self.single else found

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self._told.target

    @property
    def as_of(self) -> datetime:
        """When."""
        return self._told.as_of

    # How it is shown -----------------------------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """Every feature with its value and contribution, of one row strongest first.

        Returns
        -------
        pandas frame with feature, label (its title), value (nan where unknown) and contribution, in log-odds before calibration; of several
        rows with customer_id, and category where there are any, before them. ``frame.attrs["base"]`` is the base value: with it, a
        customer's contributions add up to the raw score.
        """
        import pandas as pd

        told, rows, columns = self._told, self._rows, self._columns
        names = np.array([feature.name for feature in told.asked.features], dtype=object)
        titles = np.array(told.titles, dtype=object)
        frame = pd.DataFrame({"feature": np.tile(names[columns], len(rows)), "label": np.tile(titles[columns], len(rows))})
        cells = np.ix_(rows, columns)
        frame["value"] = np.asarray(told.asked.X[cells], dtype=np.float64).reshape(-1)
        frame["contribution"] = told.contributions[cells].reshape(-1)
        if self.single:
            frame = frame.sort_values("contribution", key=abs, ascending=False, kind="stable", ignore_index=True)
        else:
            frame.insert(0, "customer_id", np.repeat(told.asked.customer_id[rows], len(columns)))
            if told.asked.category is not None:
                frame.insert(1, "category", np.repeat(told.asked.category[rows], len(columns)))
        frame.attrs["base"] = float(told.contributions[rows[0], -1]) if len(rows) else float("nan")
        return frame

    def plot(self) -> alt.LayerChart:
        """One customer's score from the base value to their own, reason by reason; of many, what moves their scores: an Altair chart.

        Raises `SpecificationError` where the model says the same of everybody, or where nobody is left. shap's own plots take this object
        as it is.
        """
        from persopredict import charts
        from persopredict.charts import Driver, Effect, Words

        words, tell = Words(self._told.wording.language), self._told.tell
        if not self.single:
            return charts.drivers([Driver(title, effect) for title, effect in self._many.effects.items()], words=words)
        one = self._one
        effects = [Effect(reason["label"], reason["contribution"]) for reason in one.reasons]
        rest = [Effect(tell("rest"), one.rest)] if effects and abs(one.rest) >= 0.005 else []
        start, end = (tell.wording.percent(float(each[self._row])) for each in (self._told.start, self._told.probability))
        return charts.story([*effects, *rest], start=start, end=end, words=words)

    @property
    def _one(self) -> One:
        told, row = self._told, self._row
        values = told.contributions[row, :-1]
        ranked: Sequence[int] = np.argsort(-np.abs(values), kind="stable").tolist()
        features = [(told.titles[place], told.value_text(row, place), float(values[place])) for place in ranked]
        base = float(told.contributions[row, -1])
        score = base + float(values.sum())
        who, probability = str(told.asked.customer_id[row]), float(told.probability[row])
        return One(who, told.category(row), probability, float(told.usual[row]), told.reasons[row].as_py(), base, score, features)

    @property
    def _many(self) -> Many:
        told, columns = self._told, self._columns
        found = np.abs(told.contributions[np.ix_(self._rows, columns)])
        effects = found.mean(axis=0) if len(found) else np.zeros(len(columns))
        titles = [told.titles[place] for place in columns]
        return Many(told.probability[self._rows], dict(zip(titles, effects.tolist(), strict=True)), told.asked.category is not None)

    def __str__(self) -> str:
        """The story in words: who, how likely and against what, what speaks for it and against it; of many, what moves their scores."""
        return story_text.story(self._one, self._told.tell) if self.single else story_text.stories(self._many, self._told.tell)

    def __repr__(self) -> str:
        """Target, moment, and one customer or how many."""
        pairs = self.category is not None
        if self.single:
            what = f"customer {self.customer_id}{f' and {self.category}' if pairs else ''}, {self.probability:.1%}"
        else:
            rows, columns = len(self._rows), len(self._columns)
            what = f"{rows:,} {'pair' if pairs else 'customer'}{'s' * (rows != 1)}, {columns} feature{'s' * (columns != 1)}"
        return f"Explanation({self.target.name} as of {self._told.tell.date}: {what})"

    def _repr_html_(self) -> str:
        return story_text.page(self._one, self._told.tell) if self.single else story_text.pages(self._many, self._told.tell)
