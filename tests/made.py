"""A made shop and a quick learner, small enough for a whole job in two or three seconds."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta
from pathlib import Path

import lightgbm as lgb
import pandas as pd
import polars as pl

from persopredict.datasets import MadeLog, MadeTastes, made_log, made_tastes
from persopredict.events import EventLog
from persopredict.features.spec import Feature
from persopredict.job import Job
from persopredict.predictor import Predictor
from persopredict.targets import Affinity, Churn, Conversion, Target
from persopredict.warehouse import Warehouse

CHURN = Churn("purchase", "28d")
CONVERSION = Conversion("conversion", "28d")
#: Something that three customers ever do: too few for a model.
RARE = Conversion("gift", "28d")
FEATURES = (
    Feature("recency", fallback=None),
    Feature("count", window="28d", fallback=0),
    Feature("sum", "value", window="91d", fallback=0),
)


@functools.cache
def log() -> MadeLog:
    """500 customers, 300 days, 18,756 events, from 2024-01-01."""
    return made_log(500, days=300, seed=1)


END = datetime.fromisoformat("2024-10-27T00:00:00+00:00")
#: Three nights four weeks apart; at each the labels of the night before have just ended.
NIGHTS = (END - timedelta(days=56), END - timedelta(days=28), END)


def frame(*, rare: bool = False) -> pl.DataFrame:
    """The log as Polars; with `rare`, three gifts in it."""
    made = pl.DataFrame(log().events)
    if not rare:
        return made
    givers = made.filter(pl.col("customer_id").is_in(["c0000001", "c0000002", "c0000003"])).unique("customer_id", keep="first")
    given = pl.lit(END - timedelta(days=47)).cast(made.schema["event_at"])
    return pl.concat([made, givers.with_columns(event=pl.lit("gift"), event_at=given, event_id=-pl.col("event_id") - 1)])


def events(*, rare: bool = False) -> EventLog:
    return EventLog(frame(rare=rare), observed=(log().start, END))


def learner(**settings: object) -> lgb.LGBMClassifier:
    chosen = {"n_estimators": 20, "num_leaves": 7, "n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True} | settings
    return lgb.LGBMClassifier(**chosen)


def predictor(target: Target, **settings: object) -> Predictor:
    return Predictor(target, features=FEATURES, estimator=learner(**settings))


def job(folder: Path, *, of: EventLog | None = None, targets: tuple[Target, ...] = (CHURN, CONVERSION), **settings) -> Job:
    """A job whose warehouse and models lie in `folder`."""
    made = [predictor(target) for target in targets]
    # So small a log does not show that a model is better than its baseline; and a report takes longer than such a job.
    chosen = {"warehouse": folder / "warehouse.duckdb", "min_grade": "C", "report": False} | settings
    return Job(events() if of is None else of, chosen.pop("predictors", made), **chosen)


TASTE = Affinity("purchase", "14d", by="family", active_within="56d", top=4, top_new=2)
STAYING_AWAY = Churn("purchase", "14d", active_within="56d")


@functools.cache
def tastes() -> MadeTastes:
    """200 customers, 10 categories, 180 days, 3,060 events, from 2024-01-01."""
    return made_tastes(200, categories=10, days=180, seed=1)


#: Three nights two weeks apart; at each the labels of the night before have just ended.
TASTE_NIGHTS = tuple(datetime.fromisoformat("2024-06-29T00:00:00+00:00") - timedelta(days=days) for days in (28, 14, 0))


def taste_events() -> EventLog:
    return EventLog(tastes().events, observed=(tastes().start, tastes().end), category=("department", "family"))


def taste_predictor(**settings: object) -> Predictor:
    return Predictor(TASTE, estimator=learner(**{"n_estimators": 8} | settings))


def taste_job(folder: Path, *, of: EventLog | None = None, **settings) -> Job:
    """A job of churn and of an affinity."""
    predictors = settings.pop("predictors", [predictor(STAYING_AWAY), taste_predictor()])
    return job(folder, of=taste_events() if of is None else of, predictors=predictors, **{"retrain_every": "14d"} | settings)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What a reader of the warehouse sees, `scored_at` and `measured_at` aside."""
    warehouse = Warehouse(folder / "warehouse.duckdb")
    orders = {"predictive_attributes": "target, as_of, customer_id, rank", "customer_attributes": "customer_id", "runs": "target, as_of"}
    orders["outcomes"] = "target, as_of"
    found = {name: warehouse.sql(f"SELECT * FROM {name} ORDER BY {order}") for name, order in orders.items()}
    return {name: table.drop(columns=["scored_at", "measured_at"], errors="ignore") for name, table in found.items()}


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame], *, but: tuple[str, ...] = ()) -> None:
    """The same rows in every table; columns `but` are allowed to differ."""
    for name in left:
        pd.testing.assert_frame_equal(left[name].drop(columns=[*but], errors="ignore"), right[name].drop(columns=[*but], errors="ignore"))
