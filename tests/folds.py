"""Small folds, of scores whose truth is known and of lists: nobody real."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from persopredict.calibration import Calibrator, sigmoid
from persopredict.evaluation import FoldPredictions
from persopredict.ranking import RankedFold

CATEGORIES = ("dairy", "cheese", "wine")
CUTOFFS = [datetime(2017, month, 1, tzinfo=UTC) for month in (10, 11, 12)]


def scored(seed: int = 0, *, informed: float = 1.5, noise: float = 0.0, rule: float = 0.0, rows: int = 800) -> list[FoldPredictions]:
    """Three months whose truth is known: the model knows `informed` of the logit and adds `noise`; the rule knows `rule`."""
    rng = np.random.default_rng(seed)
    customer_id = np.array([f"c{i:05d}" for i in range(rows)], dtype=object)
    folds = []
    for cutoff in CUTOFFS:
        known, by_rule = rng.normal(size=rows), rng.normal(size=rows)
        y = (rng.random(rows) < sigmoid(-2 + informed * known + rule * by_rule)).astype(np.int8)
        logit = -2 + informed * known + rule * by_rule + noise * rng.normal(size=rows)
        baselines = {"base_rate": np.full(rows, 0.17), "best_rule": sigmoid(-1.7 + rule * by_rule)}
        folds.append(FoldPredictions(cutoff, customer_id, y, logit, sigmoid(logit), baselines, 5000, 700))
    return folds


def ranked(cutoff: datetime, customers: int = 60) -> RankedFold:
    """Everybody is asked about every category; the model knows how each pair is drawn, the baselines know popularity and nonsense."""
    rng = np.random.default_rng(customers)
    customer, category = (codes.ravel() for codes in np.indices((customers, len(CATEGORIES))))
    logit, is_new = rng.normal(size=len(customer)), rng.random(len(customer)) < 0.5
    y = (rng.random(len(customer)) < Calibrator("temperature", 2.0).apply(logit)).astype(np.int8)
    return RankedFold(
        cutoff=cutoff,
        customer_id=np.array([f"secret-{number}" for number in range(customers)], dtype=object),
        categories=CATEGORIES,
        customer=customer,
        category=category,
        y=y,
        is_new=is_new,
        logit=logit,
        probability=Calibrator("temperature", 2.0).apply(logit),
        baselines={"own_frequency": -logit, "popularity": category.astype(float)},
        base_rate=np.full(len(y), 0.5),
        relevant=np.bincount(customer, y, customers).astype(int),
        relevant_new=np.bincount(customer, y * is_new, customers).astype(int),
        train_rows=300,
        train_positives=150,
    )
