"""The code that MLflow stores with every model: snapshots in; keys, raw score and calibrated probability out (law 11).

MLflow copies this one file into the model ("models from code") and runs the copy wherever the model is served, so it
needs nothing of persopredict: numpy, pandas and lightgbm read the three files that `Predictor.save` writes. Nothing is
pickled, and nothing is computed from events here: who asks brings the features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FILES = ("model.txt", "calibrator.json", "specs.json")

# The same numbers as in persopredict.calibration, which this file can't import; the tests hold them together.
CLIP = 1e-6
LOGIT_CLIP = 30.0
KINDS = ("none", "temperature", "platt")


class Scorer:
    """A trained model over snapshots: LightGBM's trees, then sigmoid(slope · logit + intercept) in [1e-6, 1 − 1e-6].

    Parameters
    ----------
    model
        LightGBM's own text (`model.txt`).
    calibrator
        ``kind``, ``slope`` and ``intercept`` (`calibrator.json`).
    specs
        of `specs.json` only ``target`` and the names of the model's inputs (see `columns`) are read.

    Raises `ValueError` if the files don't belong together, or the calibration is of a kind that this file doesn't know.

    >>> keys({"type": "churn"}), keys({"type": "affinity", "by": "department"})
    (('customer_id', 'cutoff'), ('customer_id', 'cutoff', 'category'))
    """

    def __init__(self, model: str, calibrator: Mapping[str, Any], specs: Mapping[str, Any]) -> None:
        import lightgbm as lgb

        self.booster = lgb.Booster(model_str=model)
        self.features = columns(specs)
        self.keys = keys(specs["target"])
        trained_on = tuple(self.booster.feature_name())
        if trained_on != self.features:
            different = sorted(set(trained_on) ^ set(self.features)) or ["the order of the features"]
            raise ValueError(f"model.txt and specs.json are of different models; they differ in {', '.join(different)}")
        if calibrator["kind"] not in KINDS:
            raise ValueError(f"calibrator.json holds kind {calibrator['kind']!r}; this model knows {', '.join(KINDS)}")
        self.slope, self.intercept = float(calibrator["slope"]), float(calibrator["intercept"])

    @classmethod
    def load(cls, folder: str | Path) -> Scorer:
        """Read the three `FILES` from a folder."""
        model, calibrator, specs = ((Path(folder) / name).read_text(encoding="utf-8") for name in FILES)
        return cls(model, json.loads(calibrator), json.loads(specs))

    def score(self, snapshots: pd.DataFrame) -> pd.DataFrame:
        """The keys of each snapshot with its ``score`` (log-odds before calibration) and ``probability``, both float64.

        Rows and index stay as they are. Columns may come in any order; more than needed are ignored. A missing value
        (nan) is a value to the model, a missing column is not: `ValueError` names every missing column, or every
        feature that does not hold numbers. A cutoff without time zone is taken as UTC.
        """
        missing = [name for name in (*self.keys, *self.features) if name not in snapshots.columns]
        if missing:
            raise ValueError(f"the snapshots lack {len(missing)} of the model's columns: {', '.join(missing)}")
        answer = snapshots.loc[:, list(self.keys)].copy()
        answer["cutoff"] = pd.to_datetime(answer["cutoff"], utc=True).dt.as_unit("us")
        logits = self.logits(_matrix(snapshots, self.features))
        calibrated = self.slope * np.clip(logits, -LOGIT_CLIP, LOGIT_CLIP) + self.intercept
        decay = np.exp(-np.abs(calibrated))
        answer["score"] = logits
        answer["probability"] = np.clip(np.where(calibrated >= 0, 1.0, decay) / (1.0 + decay), CLIP, 1 - CLIP)
        return answer

    def logits(self, matrix: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """LightGBM's raw score of each row of a (rows, features) matrix; no rows, no scores."""
        if not len(matrix):
            return np.empty(0)
        return np.asarray(self.booster.predict(matrix, raw_score=True), dtype=np.float64)


def keys(target: Mapping[str, Any]) -> tuple[str, ...]:
    """What identifies a snapshot of this target: a category too where the target is predicted per category."""
    return ("customer_id", "cutoff", "category") if target.get("by") else ("customer_id", "cutoff")


def columns(specs: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the model's inputs, in its order: ``columns`` of the specs; models of before have ``features`` alone.

    >>> columns({"columns": ["recency", "share"]}), columns({"features": [{"name": "recency"}]})
    (('recency', 'share'), ('recency',))
    """
    return tuple(map(str, specs["columns"])) if "columns" in specs else tuple(str(feature["name"]) for feature in specs["features"])


def _matrix(snapshots: pd.DataFrame, features: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    columns, wrong = [], []
    for name in features:
        try:
            columns.append(pd.to_numeric(snapshots[name]).to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError):
            wrong.append(name)
    if wrong:
        raise ValueError(f"{len(wrong)} of the model's features don't hold numbers: {', '.join(wrong)}")
    return np.column_stack(columns) if columns else np.empty((len(snapshots), 0))


def _hand_to_mlflow() -> None:
    from mlflow.models import set_model
    from mlflow.pyfunc.model import PythonModel, PythonModelContext

    class ScoringModel(PythonModel):
        def load_context(self, context: PythonModelContext) -> None:
            self.scorer = Scorer.load(Path(context.artifacts["model.txt"]).parent)

        # MLflow resolves these annotations where this function's own imports are not seen.
        def predict(self, context: object, model_input: pd.DataFrame, params: dict[str, object] | None = None) -> pd.DataFrame:
            return self.scorer.score(model_input)

    set_model(ScoringModel())


# MLflow runs the file under a name of its own; as a part of the package it only defines.
if __package__ != "persopredict":
    _hand_to_mlflow()
