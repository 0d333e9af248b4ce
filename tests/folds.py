"""Small folds of lists: sixty customers, three categories, nobody real."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from persopredict.calibration import Calibrator
from persopredict.ranking import RankedFold

CATEGORIES = ("dairy", "cheese", "wine")


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
