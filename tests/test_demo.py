"""The demo: the ordinary path over its own configuration, and a text worth reading."""

from __future__ import annotations

import polars as pl
import pytest

from persopredict import demo, learner
from persopredict.config import load
from persopredict.errors import ConfigurationError
from persopredict.warehouse import Warehouse
from tests import made


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The demo's configuration over a made shop of 200 customers instead of the grocer's year."""
    rows = made.frame().filter(pl.col("customer_id") <= "c0000200")
    rows.write_parquet(tmp_path / "rows.parquet")
    sources = [
        {
            "name": name,
            "event": name,
            "query": f"SELECT * FROM '{tmp_path / 'rows.parquet'}' WHERE event = '{event}'",
            "columns": {"customer_id": "customer_id", "event_at": "event_at", "value": "value"},
            "observed": ["2024-01-01", "2024-10-27"],
        }
        for name, event in (("purchase", "purchase"), ("coupon_redemption", "email_click"))
    ]
    monkeypatch.setattr(demo, "complete_journey_sources", lambda timezone: sources)
    monkeypatch.setattr(demo, "AS_OF", "2024-10-27")
    monkeypatch.setattr(learner, "DEFAULTS", learner.DEFAULTS | {"n_estimators": 20, "n_jobs": 1})
    return tmp_path / "demo"


def test_the_demo_shows_metrics_rows_and_what_to_try_next(shop):
    result, text = demo.run(shop)
    assert result.exit_code == 0
    assert text.startswith(str(result))
    published = Warehouse(shop / "warehouse.duckdb").attributes("churn_purchase_28d")
    table = text.split("The likeliest of churn_purchase_28d")[1].splitlines()
    likeliest = published.nlargest(3, "probability", keep="first")
    assert [line.split()[:2] for line in table[2:5]] == [[row.customer_id, f"{row.probability:.3f}"] for row in likeliest.itertuples()]
    assert likeliest["reasons"].iloc[0][0]["label"] in table[2]
    assert "What to try next:" in text
    for name in ("persopredict.toml", "warehouse.duckdb", "customer_attributes.parquet", "mlflow.db", "mlartifacts"):
        assert (shop / name).exists()
        assert name in text
    assert load(shop / "persopredict.toml").path("mlflow.db") == str(shop / "mlflow.db")


def test_a_configuration_of_somebody_else_is_left_alone(shop):
    file = shop / "persopredict.toml"
    shop.mkdir()
    for theirs in ("[project]\n", demo.configuration() + "\n# my own change\n", ""):
        file.write_text(theirs)
        with pytest.raises(ConfigurationError, match="was not written by the demo, or changed since"):
            demo.run(shop)
        assert file.read_text() == theirs


def test_the_demos_own_configuration_may_be_written_again(shop, monkeypatch):
    shop.mkdir()
    (shop / "persopredict.toml").write_text(demo.configuration())
    monkeypatch.setattr(demo, "AS_OF", "2030-01-01")
    with pytest.raises(Exception, match="older than"):
        demo.run(shop)
    assert "--as-of 2030-01-01" in (shop / "persopredict.toml").read_text()
