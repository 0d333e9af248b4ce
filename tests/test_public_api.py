"""The public face: quick to import, complete, and as its contract shows it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import lightgbm as lgb
import pandas as pd
import polars as pl
import pytest

import persopredict as pp
from persopredict import datasets

MODELS = ("mlflow", "lightgbm", "sklearn", "scipy", "shap")
DRAWING = ("altair", "vl_convert", "babel")
HEAVY = (*MODELS, *DRAWING, "pandas", "numpy", "pyarrow", "polars", "narwhals", "duckdb", "sqlglot", "pydantic", "typer", "rich")


def loaded_by(program):
    """Which heavy libraries a fresh interpreter holds after the program."""
    text = f"{program}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True).stdout.split())


def test_importing_it_imports_nothing_heavy():
    assert loaded_by("import persopredict") == set()


def test_describing_what_one_wants_imports_neither_models_nor_frames():
    program = "import persopredict as pp\npp.Predictor(pp.Churn('purchase', '28d'), features=[pp.Feature('recency', fallback=None)])"
    assert not loaded_by(program) & {*MODELS, "pandas", "polars"}


def test_online_features_need_neither_a_database_nor_frames_nor_models():
    program = """
from persopredict import Feature
from persopredict.features.online import OnlineFeatures
features = [Feature("decayed_sum", "value", half_life="7d", where="event = 'purchase'", fallback=0), Feature("distinct", "day", fallback=0)]
OnlineFeatures(features).row({"event_at": ["2024-03-01T10:00Z"], "event": ["purchase"], "value": [9.5]}, "2024-04-01")
"""
    assert loaded_by(program) <= {"numpy", "pyarrow", "sqlglot"}


def test_every_public_name_is_there_and_nothing_else_is_promised():
    assert sorted(pp.__all__) == sorted(pp._HOME)
    assert sorted(set(pp.__all__)) == sorted(pp.__all__)
    for name in pp.__all__:
        assert getattr(pp, name).__doc__
        assert name in dir(pp)
    assert pp.__version__.count(".") == 2


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'Predicter'; did you mean 'Predictor'"):
        pp.Predicter  # noqa: B018
    assert not hasattr(pp, "nonsense")


@pytest.mark.parametrize("name", ["snapshots", "attributes"])
def test_functions_win_over_modules_of_their_name(name):
    importlib.import_module(f"persopredict.{name}")
    assert callable(getattr(pp, name))
    program = f"import persopredict as pp\nfrom persopredict.{name} import __name__\npp.Predictor\nassert callable(pp.{name})"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture(scope="module")
def sales():
    """A made shop's purchase lines, as a till might write them: local times, its own names of columns."""
    rows = pl.DataFrame(datasets.made_log(300, days=330, seed=4, start="2017-01-15").events).filter(pl.col("event") == "purchase")
    local = rows["event_at"].dt.convert_time_zone("America/Mexico_City").dt.replace_time_zone(None)
    return pd.DataFrame(
        {
            "client": rows["customer_id"],
            "sold_at": local.dt.strftime("%Y-%m-%d %H:%M"),
            "line": rows["event_id"],
            "ticket": rows["order_id"],
            "department": rows["category"],
            "family": rows["category"] + "/" + (rows["item_id"] % 3).cast(pl.String),
            "amount": rows["value"],
            "channel": rows["channel"],
        }
    )


@pytest.fixture(scope="module")
def clients(sales):
    """The tier of most clients: silver at first, some of them gold later."""
    ids = sorted(set(sales["client"]))[:-20]
    silver = pd.DataFrame({"customer_id": ids, "tier": "silver", "since": "2017-01-01"})
    return pd.concat([silver, pd.DataFrame({"customer_id": ids[::5], "tier": "gold", "since": "2017-07-01"})])


def test_the_contract_s_example_runs_as_it_is_written(sales, clients, tmp_path):
    df = sales
    events = pp.EventLog(df, customer_id="client", event_at="sold_at", event=pp.lit("purchase"), event_id="line", order_id="ticket",
                         category=("department", "family"), value="amount", channel="channel", timezone="America/Mexico_City")  # fmt: skip
    events = events.join(pp.Lookup(clients, key="customer_id", columns=["tier"], valid_from="since"))
    assert events.check().ok
    churn = pp.Predictor(pp.Churn("purchase", "28d", active_within="91d", name="churn"))
    churn.fit(events, until="2017-12-03")
    assert churn.evaluation_.grade in ("A", "B")
    scores = churn.predict(events, as_of="2017-12-03")
    assert list(scores) == list(pp.attributes(scores[["customer_id", "probability", "not_scored_reason"]], "churn", "2017-12-03"))
    assert scores["as_of"].dt.tz_convert("America/Mexico_City").dt.strftime("%Y-%m-%d %H").unique().tolist() == ["2017-12-03 00"]

    web = pp.Feature("sum", "value", window="28d", where="channel = 'web'", fallback=0)
    mine = pp.Predictor(
        pp.Conversion("purchase", "7d"), features=[*pp.default_features(events), web], estimator=lgb.LGBMClassifier(num_leaves=15)
    )
    cutoffs = pp.rolling_cutoffs(events, every="28d", horizon="28d", until="2017-12-03")
    snap = pp.snapshots(events, cutoffs, targets=[churn.target]).to_pandas()
    assert list(snap)[:2] == ["customer_id", "cutoff"]
    assert any("tier_gold" in name for name in snap)
    assert list(snap)[-1] == "label_churn"
    splits = list(pp.ForwardSplit(3, embargo="28d").split(snap, groups=snap["cutoff"]))
    assert [len(set(snap["cutoff"].iloc[test])) for _, test in splits] == [1, 1, 1]

    job = pp.Job(events, [churn, mine], warehouse=tmp_path / "warehouse.duckdb", max_staleness="14d", min_grade="C")
    result = job.run(as_of="2017-12-03")
    assert result.exit_code == 0
    published = job.warehouse.attributes("churn", "2017-12-03")
    pd.testing.assert_series_equal(published["probability"], scores["probability"], check_dtype=False)
