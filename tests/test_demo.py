"""The demo: the ordinary path over its own configuration, and a text worth reading."""

from __future__ import annotations

import re

import pandas as pd
import pyarrow.parquet as pq
import pytest

from persopredict import demo, learner
from persopredict.config import load
from persopredict.errors import ConfigurationError
from persopredict.job_result import Outcome
from persopredict.warehouse import Warehouse
from tests import made


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    """A made shop of 200 customers with tastes instead of the grocer's year, and few trees."""
    rows = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(made.tastes().events, rows)
    query = f"SELECT * REPLACE (family AS department), department AS aisle FROM '{rows}'"
    columns = {"customer_id": "customer_id", "event_at": "event_at", "value": "value", "category": ["department", "aisle"]}
    known = {"columns": columns, "observed": ["2024-01-01", "2024-06-29"]}
    events = {"purchase": "purchase", "coupon_redemption": "view"}
    sources = [{"name": name, "event": name, "query": f"{query} WHERE event = '{event}'", **known} for name, event in events.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "complete_journey_sources", lambda timezone: sources)
        patch.setattr(demo, "AS_OF", "2024-06-29")
        patch.setattr(demo, "_HEAD", demo._HEAD + '\n[job]\nmin_grade = "C"  # So small a shop shows nobody to be better than a rule.\n')
        for settings in (learner.DEFAULTS, learner.PAIR_DEFAULTS):
            for name, value in {"n_estimators": 10, "num_leaves": 7, "n_jobs": 1}.items():
                patch.setitem(settings, name, value)
        yield


@pytest.fixture
def shop(tmp_path):
    return tmp_path / "demo"


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """The folder, and what the demo shows."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    result = demo.run(folder)
    assert result.exit_code == 0
    assert demo.shown(result).startswith(str(result))
    return folder, demo.shown(result)


@pytest.fixture
def text(demonstrated):
    return demonstrated[1]


def published(demonstrated, target: str) -> pd.DataFrame:
    return Warehouse(demonstrated[0] / "warehouse.duckdb").attributes(target)


def test_the_demo_shows_the_likeliest_customers_with_their_reasons(demonstrated, text):
    table = text.split("The likeliest of churn_purchase_28d")[1].splitlines()
    likeliest = published(demonstrated, "churn_purchase_28d").nlargest(3, "probability", keep="first")
    assert [line.split()[:2] for line in table[2:5]] == [[row.customer_id, f"{row.probability:.3f}"] for row in likeliest.itertuples()]
    assert likeliest["reasons"].iloc[0][0]["label"] in table[2]


def test_the_demo_shows_the_household_to_whom_something_new_is_suggested_furthest_above_the_usual(demonstrated, text):
    rows = [row for row in published(demonstrated, "affinity_department_28d").itertuples() if row.status == "scored"]
    best = max((row for row in rows if row.is_new), key=lambda row: row.probability - row.probability / row.affinity_index)
    mine = sorted((row for row in rows if row.customer_id == best.customer_id), key=lambda row: row.rank)
    known, new = [row for row in mine if not row.is_new][:5], [row for row in mine if row.is_new][:3]
    table = text.split("An example of affinity_department_28d: ")[1].splitlines()
    assert table[0] == f"household {best.customer_id}, of {len({row.customer_id for row in rows})} scored."
    assert table[1].split()[:5] == ["before", "2024-07-27", "it", "buys", "from"]
    told = [re.split(r"\s{2,}", line.strip()) for line in table[2 : 3 + len(known) + len(new)]]
    assert told.pop(len(known)) == ["and where it never bought so far"]
    for cells, row in zip(told, [*known, *new], strict=True):
        assert cells == [row.category, f"{row.probability:.0%}", f"{row.affinity_index:.1f} x as likely", str(row.percentile)]
    chance, usual = f"{best.probability:.0%}", f"{best.probability / best.affinity_index:.0%}"
    assert table[len(told) + 3] == f"New and above the usual: {best.category}, {chance} where it is {usual} of all households."
    assert max(map(len, table[: len(told) + 4])) <= 80
    ways = {"for": "for it ", "against": "against"}
    assert len(best.reasons) > 1
    assert table[len(told) + 4 :] == [f"  {ways[reason['direction']]}  {reason['label']}" for reason in best.reasons]


def test_the_demo_tells_what_lies_where_and_what_to_try_next(demonstrated):
    shop = demonstrated[0]
    told = demo.next_steps(shop)
    assert "What to try next:" in told
    for name in ("persopredict.toml", "warehouse.duckdb", "customer_attributes.parquet", "report.html", "mlflow.db", "mlartifacts"):
        assert (shop / name).exists()
        assert name in told
    assert load(shop / "persopredict.toml").path("mlflow.db") == str(shop / "mlflow.db")


def test_a_household_that_has_bought_everything_is_shown_without_anything_new():
    rows = pd.DataFrame(
        {
            "customer_id": ["a", "b", "b"],
            "category": ["bread", "bread", "wine"],
            "probability": [0.5, 0.996, 0.4],
            "affinity_index": [0.7, 1.3, 1.2],
            "rank": [1, 1, 2],
            "is_new": [False, False, False],
            "percentile": [25, 75, 50],
            "valid_until": pd.Timestamp("2024-01-29 05:00", tz="UTC"),
        }
    )
    lines = demo._example(Outcome("taste", "published", counts={"scored": 2}, attributes=rows), rows).splitlines()
    assert lines[0] == "An example of taste: household b, of 2 scored."
    assert [line.split()[:2] for line in lines[2:]] == [["bread", ">99%"], ["wine", "40%"]]


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
