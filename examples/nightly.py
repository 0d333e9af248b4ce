"""A nightly job in Python: `python examples/nightly.py [folder]`.

It makes a shop of 500 customers, whose log grows by four weeks between the nights; a real job would read files or a database here. What
`persopredict run` does from a `persopredict.toml`, this does with the same `Job`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import lightgbm as lgb

import persopredict as pp
from persopredict.datasets import made_log

NIGHTS = ("2024-09-29", "2024-10-27")


def job(folder: Path) -> pp.Job:
    """The log, what to predict, and where the results go."""
    made = made_log(500, days=300, seed=1)
    events = pp.EventLog(made.events, observed=(made.start, made.end), name="shop")
    # A few features and small trees, so that the example is quick; leave both out for the defaults.
    features = [
        pp.Feature("recency", where="event = 'purchase'", fallback=None),
        pp.Feature("count", where="event = 'purchase'", window="28d", fallback=0),
        pp.Feature("distinct", "order_id", window="91d", fallback=0),
        pp.Feature("sum", "value", window="91d", fallback=0, label="money spent, last 91 days"),
        pp.Feature("count", where="event = 'view'", window="28d", fallback=0),
        pp.Feature("overdue", where="event = 'purchase'", fallback=None),
    ]
    learner = lgb.LGBMClassifier(n_estimators=60, num_leaves=7, learning_rate=0.05)
    targets = [pp.Churn("purchase", "28d"), pp.Conversion("conversion", "28d", active_within="91d")]
    predictors = [pp.Predictor(target, features=features, estimator=learner) for target in targets]
    # Of so small a shop not every model can be shown to be better than a rule of thumb: here they serve all the same.
    return pp.Job(events, predictors, warehouse=folder / "warehouse.duckdb", project="made-shop", keep="365d", min_grade="C")


def main(folder: Path) -> int:
    """Two nights, then what a reader sees; the worst exit code of both."""
    nightly = job(folder)
    codes = []
    for night in NIGHTS:
        result = nightly.run(night)
        print(result, end="\n\n")
        codes.append(result.exit_code)

    warehouse = pp.Warehouse(folder / "warehouse.duckdb")
    moved = warehouse.compare("churn_purchase_28d", *NIGHTS).dropna(subset="change")
    changed = int((moved["band_a"] != moved["band_b"]).sum())
    print(f"{changed} of {len(moved)} customers who were scored both times changed their band of churn.")
    print("Likeliest to leave:")
    likeliest = warehouse.attributes("churn_purchase_28d").nlargest(5, "probability")
    print(likeliest[["customer_id", "probability", "percentile", "band"]].to_string(index=False, float_format="{:.3f}".format))
    return max(codes)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
