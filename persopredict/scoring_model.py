"""The code that MLflow stores with every model: snapshots in; keys, raw score and calibrated probability out (law 11).

MLflow copies this one file into the model ("models from code") and runs the copy wherever the model is served, so it
needs nothing of persopredict: numpy, pandas and lightgbm read the three files that `Predictor.save` writes. Nothing is
pickled, and nothing is computed from events here: who asks brings the features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MODELS = ("model.txt", "model.json")

# The same numbers as in persopredict.calibration, which this file can't import; the tests hold them together.
CLIP = 1e-6
LOGIT_CLIP = 30.0
KINDS = ("none", "temperature", "platt", "beta", "spline")


Matrix = np.ndarray[Any, np.dtype[np.float64]]
Logits = Callable[[Matrix], Matrix]


class Scorer:
    """A trained model over snapshots: LightGBM's trees, or another kind of ours, then sigmoid(curve(logit)) in [1e-6, 1 − 1e-6].

    Parameters
    ----------
    model
        LightGBM's own text (`model.txt`), or the JSON of another kind of model (`model.json`).
    calibrator
        ``kind`` and the numbers of the curve (`calibrator.json`).
    specs
        of `specs.json` only ``target`` and the names of the model's inputs (see `columns`) are read.

    Raises `ValueError` if the files don't belong together, or the calibration is of a kind that this file doesn't know.

    >>> keys({"type": "churn"}), keys({"type": "affinity", "by": "department"})
    (('customer_id', 'cutoff'), ('customer_id', 'cutoff', 'category'))
    """

    def __init__(self, model: str, calibrator: Mapping[str, Any], specs: Mapping[str, Any]) -> None:
        self.features = columns(specs)
        self.keys = keys(specs["target"])
        trained_on, self.logits = _trees(model) if model.startswith("tree") else _parts(json.loads(model))
        if trained_on != self.features:
            different = sorted(set(trained_on) ^ set(self.features)) or ["the order of the features"]
            raise ValueError(f"the model and specs.json are of different models; they differ in {', '.join(different)}")
        if calibrator["kind"] not in KINDS:
            raise ValueError(f"calibrator.json holds kind {calibrator['kind']!r}; this model knows {', '.join(KINDS)}")
        self.calibrator = dict(calibrator)

    @classmethod
    def load(cls, folder: str | Path) -> Scorer:
        """Read the three files from a folder."""
        named = next((name for name in MODELS if (Path(folder) / name).is_file()), MODELS[0])
        model, calibrator, specs = ((Path(folder) / name).read_text(encoding="utf-8") for name in (named, "calibrator.json", "specs.json"))
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
        calibrated = _curve(self.calibrator, np.clip(logits, -LOGIT_CLIP, LOGIT_CLIP))
        decay = np.exp(-np.abs(calibrated))
        answer["score"] = logits
        answer["probability"] = np.clip(np.where(calibrated >= 0, 1.0, decay) / (1.0 + decay), CLIP, 1 - CLIP)
        return answer


def keys(target: Mapping[str, Any]) -> tuple[str, ...]:
    """What identifies a snapshot of this target: a category too where the target is predicted per category."""
    return ("customer_id", "cutoff", "category") if target.get("by") else ("customer_id", "cutoff")


def columns(specs: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the model's inputs, in its order: ``columns`` of the specs; models of before have ``features`` alone.

    >>> columns({"columns": ["recency", "share"]}), columns({"features": [{"name": "recency"}]})
    (('recency', 'share'), ('recency',))
    """
    return tuple(map(str, specs["columns"])) if "columns" in specs else tuple(str(feature["name"]) for feature in specs["features"])


def _curve(calibrator: Mapping[str, Any], x: Matrix) -> Matrix:
    """Calibrated logits, by the formulas of `persopredict.calibration.Calibrator`."""
    if calibrator["kind"] == "spline":
        return np.asarray(np.interp(x, calibrator["knots"], calibrator["points"]), dtype=np.float64)
    low, level = float(calibrator["slope"]), float(calibrator["intercept"])
    if calibrator["kind"] == "beta":
        return np.asarray(float(calibrator["upper"]) * np.logaddexp(0.0, x) - low * np.logaddexp(0.0, -x) + level, dtype=np.float64)
    return low * x + level


def _trees(text: str) -> tuple[tuple[str, ...], Logits]:
    """LightGBM's columns and raw scores."""
    import lightgbm as lgb

    booster, scale = lgb.Booster(model_str=text), _scale(text)

    def logits(X: Matrix) -> Matrix:
        return scale * np.asarray(booster.predict(X, raw_score=True), dtype=np.float64) if len(X) else np.empty(0)

    return tuple(booster.feature_name()), logits


def _scale(text: str) -> float:
    """What raw scores are times to be log-odds, as `persopredict.trees.scale` reads it."""
    head, *parts = text.split("\nTree=")
    lines = head.splitlines()
    settings = next((line.split() for line in lines if line.startswith("objective=")), [])
    stretched = [float(setting.partition(":")[2]) for setting in settings if setting.startswith("sigmoid:")]
    return (stretched[0] if stretched else 1.0) / (len(parts) if "average_output" in lines and parts else 1)


def _parts(model: Mapping[str, Any]) -> tuple[tuple[str, ...], Logits]:
    """The columns and raw scores of a scorecard or of BG/NBD, by the formulas of `persopredict.scorecard` and `persopredict.btyd`."""
    names = tuple(model["names"])
    if model["kind"] == "btyd":
        return names, lambda X: _rhythm(model["rule"], X)

    def logits(X: Matrix) -> Matrix:
        found = np.full(len(X), float(model["intercept"]))
        for term in model["terms"]:
            x = X[:, names.index(term["name"])]
            points = np.asarray(term["points"], dtype=np.float64)
            known = points[np.searchsorted(term["knots"], x, side="right")] if term["steps"] else np.interp(x, term["knots"], points)
            found += np.where(np.isnan(x), term["missing"], known)
        return found

    return names, logits


def _rhythm(rule: Mapping[str, Any], X: Matrix) -> Matrix:
    """Log-odds of the label from active days, recency and tenure."""
    known = np.isfinite(X).all(axis=1) & (X[:, 0] >= 1)
    if rule["model"] is None:
        return np.full(len(X), np.log(rule["rate"] / (1 - rule["rate"])))
    x, tenure = X[known, 0] - 1, X[known, 2]
    span = np.clip(X[known, 2] - X[known, 1], 0.0, tenure)
    r, alpha, a, b = (rule["model"][name] for name in ("r", "alpha", "a", "b"))
    silence = np.log(alpha + tenure) - np.log(alpha + span)
    odds = np.log(a) - np.log(np.where(x > 0, b + x - 1, 1.0)) + (r + x) * silence
    alive = np.where(x > 0, 1 / (1 + np.exp(np.clip(odds, -700, 700))), 1.0)
    shape, rate = r + x, alpha + tenure
    soon = -np.expm1(-shape * np.log1p(rule["horizon"] / rate))
    if rule["gap"]:
        silent = np.exp(-shape * np.log1p(rule["horizon"] / rate)) * _stays(shape, a, b + x, rule["gap"] / (rate + rule["horizon"]))
        soon = np.clip(_stays(shape, a, b + x, rule["gap"] / rate) - silent, 0.0, 1.0)
    active = np.clip(alive * soon, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        raw = np.clip(np.log(active) - np.log1p(-active), -LOGIT_CLIP, LOGIT_CLIP)
    calibrated = _curve(rule["calibrator"], -raw if rule["churn"] else raw)
    found = np.full(len(X), np.log(rule["never"] / (1 - rule["never"])))
    likeliest = np.log(1 - CLIP) - np.log(CLIP)
    found[known] = np.clip(calibrated, -likeliest, likeliest)
    return found


def _stays(shape: Matrix, a: float, left: Matrix, z: Matrix) -> Matrix:
    """Gauss's 2F1(shape, a; a + left; -z), by the one of Pfaff's transformations whose series stays bounded."""
    from scipy.special import hyp2f1

    c, first = a + left, a <= shape
    return np.asarray(
        np.exp(-np.where(first, a, shape) * np.log1p(z))
        * hyp2f1(np.where(first, a, shape), np.where(first, c - shape, left), c, z / (1 + z))
    )


def _matrix(snapshots: pd.DataFrame, features: Sequence[str]) -> Matrix:
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
            self.scorer = Scorer.load(Path(context.artifacts["specs.json"]).parent)

        # MLflow resolves these annotations where this function's own imports are not seen.
        def predict(self, context: object, model_input: pd.DataFrame, params: dict[str, object] | None = None) -> pd.DataFrame:
            return self.scorer.score(model_input)

    set_model(ScoringModel())


# MLflow runs the file under a name of its own; as a part of the package it only defines.
if __package__ != "persopredict":
    _hand_to_mlflow()
