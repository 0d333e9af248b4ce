"""What was said against what came: which runs are compared, with which labels, and when a count is a surprise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from persopredict.attributes import attributes
from persopredict.errors import SpecificationError
from persopredict.events import EventLog
from persopredict.hindsight import Hindsight, labels_of, likely_count, warning
from persopredict.targets import Cancellation, Conversion
from persopredict.warehouse import Run, Settled, Warehouse
from tests import made
from tests.made import CHURN, NIGHTS, TASTE, TASTE_NIGHTS

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BUYS = Conversion("purchase", "7d", name="buys")
PEOPLE = [f"p{number}" for number in range(10)]


def day(number: float) -> datetime:
    return FIRST + number * DAY


def log(*bought: tuple[str, float], until: float = 40, known: dict[str, float] | None = None) -> EventLog:
    """Everybody looks on day 0, and some buy: (customer, day). `known`: the day on which a customer's purchases became known."""
    rows = [(person, day(0), "view", day(0)) for person in PEOPLE]
    rows += [(person, day(number), "purchase", day((known or {}).get(person, number))) for person, number in bought]
    frame = pd.DataFrame(rows, columns=["customer_id", "event_at", "event", "known_at"])
    return EventLog(frame, observed=(day(-1), day(until)))


#: On day 10, and on day 20, p0 to p2 buy within a week.
SHOP = ("p9", 1.0), *((person, number) for number in (12.0, 22.0) for person in ("p0", "p1", "p2"))


def said(as_of: datetime, *, target: str = "buys", version: str = "1", of: list[str] = PEOPLE, p: float = 0.4) -> Run:
    frame = pd.DataFrame({"customer_id": of, "probability": [p + number / 100 for number in range(len(of))]})
    return Run(target, as_of, attributes=attributes(frame, target, as_of, horizon="7d", model_version=version))


def anybody(version: str) -> bool:
    return True


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(tmp_path / "warehouse.duckdb")


def settled(warehouse: Warehouse, events: EventLog, as_of: datetime, target=BUYS, answers=anybody, again=None) -> list[Settled]:
    return Hindsight(warehouse, events, as_of).settle(target, answers, again)


# How far chance goes ------------------------------------------------------------------------------------------------


def convolved(p) -> tuple[int, int]:
    """The quantiles of the count by adding one customer after the other."""
    mass = np.ones(1)
    for chance in p:
        mass = np.append(mass, 0.0) * (1 - chance) + np.append(0.0, mass) * chance
    below = np.cumsum(mass)
    return int(np.argmax(below >= 0.025)), int(np.argmax(below >= 0.975))


@pytest.mark.parametrize("size", [1, 2, 7, 60, 900])
@pytest.mark.parametrize("shape", [(0.3, 8), (1, 1), (8, 0.3), (0.02, 1)], ids=["rare", "even", "common", "hardly ever"])
def test_where_the_count_lies_is_what_adding_customers_one_by_one_gives(size, shape):
    p = np.random.default_rng(size).beta(*shape, size)
    assert likely_count(p) == convolved(p)


@pytest.mark.parametrize(("size", "p"), [(500, 0.35), (1000, 0.9), (20_000, 0.004), (3000, 0.05)])
def test_of_equal_probabilities_it_is_the_binomial_s(size, p):
    expected = stats.binom(size, p).ppf([0.025, 0.975])
    assert np.abs(np.subtract(likely_count([p] * size), expected)).max() <= 1


def test_beyond_the_exact_count_the_approximation_is_off_by_one_at_most():
    for seed in range(5):
        p = np.random.default_rng(seed).beta(0.3, 3, 3000)
        assert (p * (1 - p)).sum() > 100
        assert np.abs(np.subtract(likely_count(p), convolved(p))).max() <= 1


def test_without_anybody_nothing_is_expected():
    assert likely_count([]) == (0, 0)


def test_rows_of_one_customer_that_go_together_leave_more_to_chance():
    """Each of 400 customers takes all of four categories or none: the count is four times that of 400 coins."""
    taken = np.random.default_rng(0).random(400) < 0.5
    lower, upper = likely_count([0.5] * 1600, np.where(taken, 2.0, -2.0))
    coins = stats.binom(400, 0.5).ppf([0.025, 0.975]) * 4
    assert np.abs(np.subtract((lower, upper), coins)).max() <= 4
    independent = likely_count([0.5] * 1600)
    assert upper - lower > 1.9 * (independent[1] - independent[0])


# Labels -------------------------------------------------------------------------------------------------------------


def happened(rows: pl.DataFrame, event: str, start: datetime, length: timedelta) -> pl.DataFrame:
    return rows.filter((pl.col("event") == event) & (pl.col("event_at") >= start) & (pl.col("event_at") < start + length))


def test_labels_of_customers_are_those_of_a_plain_loop():
    events, rows = made.events(), made.frame()
    found = labels_of(events, CHURN, NIGHTS[:2])
    for night in NIGHTS[:2]:
        active = set(happened(rows, "purchase", night - 91 * DAY, 91 * DAY)["customer_id"])
        stayed = set(happened(rows, "purchase", night, 28 * DAY)["customer_id"])
        asked = sorted({*rows["customer_id"], "nobody"})
        expected = [float(who not in stayed) if who in active else np.nan for who in asked]
        np.testing.assert_array_equal(found[night](pd.DataFrame({"customer_id": asked})), expected)


def test_labels_of_pairs_are_those_of_a_plain_loop():
    events, rows = made.taste_events(), pl.DataFrame(made.tastes().events)
    found = labels_of(events, TASTE, TASTE_NIGHTS[:2])
    families = {name for name in rows["family"] if name and name.strip()}  # An event without a category is nobody's.
    pairs = pd.MultiIndex.from_product([[*sorted(set(rows["customer_id"])), "nobody"], [*sorted(families), "unheard of"]])
    asked = pairs.to_frame(index=False, name=["customer_id", "category"])
    for night in TASTE_NIGHTS[:2]:
        active = set(rows.filter((pl.col("event_at") < night) & (pl.col("event_at") >= night - 56 * DAY))["customer_id"])
        taken = set(happened(rows, "purchase", night, 14 * DAY).select("customer_id", "family").iter_rows())
        expected = [float(pair in taken) if pair[0] in active else np.nan for pair in pairs]
        np.testing.assert_array_equal(found[night](asked), expected)
        assert 0 < np.nansum(expected) < np.isfinite(expected).sum()


# What is compared ---------------------------------------------------------------------------------------------------


def test_a_run_whose_labels_have_ended_is_held_to_them(warehouse):
    warehouse.publish(said(day(10)))
    (run,) = settled(warehouse, log(*SHOP), day(17))
    p, y = np.array([0.4 + number / 100 for number in range(10)]), np.array([1.0] * 3 + [0.0] * 7)
    assert (run.target, run.as_of, run.ended_at, run.settled_at, run.model_version) == ("buys", day(10), day(17), day(17), "1")
    assert run.run_id == warehouse.runs()["run_id"][0]
    assert (run.customers, run.rows, run.actual) == (10, 10, 3)
    assert run.expected == pytest.approx(4.45)
    assert (run.lower, run.upper) == convolved(p)
    assert run.auc == 0.0, "those who bought were given the lowest probabilities"
    assert run.log_loss == pytest.approx(-np.mean(np.where(y > 0, np.log(p), np.log(1 - p))))
    assert run.base_rate_log_loss == pytest.approx(-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)))
    assert 0 < run.ece <= 1
    assert 0 < run.ece_chance_p95 < 1


def test_a_run_waits_until_its_labels_have_ended_and_until_they_were_observed(warehouse):
    warehouse.publish(said(day(10)))
    assert settled(warehouse, log(*SHOP), day(17) - timedelta(hours=1)) == []
    assert settled(warehouse, log(*SHOP, until=16.9), day(17)) == []
    assert [run.as_of for run in settled(warehouse, log(*SHOP, until=17), day(17))] == [day(10)]


def test_a_gap_is_waited_for_too(warehouse):
    later = Conversion("purchase", "7d", gap="3d", name="buys")
    warehouse.publish(said(day(10)))
    assert settled(warehouse, log(*SHOP), day(19), later) == []
    (run,) = settled(warehouse, log(*SHOP), day(20), later)
    assert (run.ended_at, run.actual) == (day(20), 0)


def test_a_run_from_before_the_log_begins_is_left_alone(warehouse):
    warehouse.publish([said(day(-2)), said(day(10))])
    assert [run.as_of for run in settled(warehouse, log(*SHOP), day(17))] == [day(10)]


def test_a_row_that_arrived_late_counts_as_soon_as_it_is_known(warehouse):
    warehouse.publish(said(day(10)))
    (run,) = settled(warehouse, log(*SHOP, known={"p1": 25}), day(17))
    assert run.actual == 3


def test_customers_without_score_or_label_are_left_out(warehouse):
    frame = pd.DataFrame({"customer_id": ["p0", "p3", "p4", "gone"], "probability": [0.5, 0.5, None, 0.5]})
    frame["not_scored_reason"] = [None, None, "not_active", None]
    warehouse.publish(attributes(frame, "buys", day(10), horizon="7d", model_version="1"))
    (run,) = settled(warehouse, log(*SHOP), day(17))
    assert (run.customers, run.expected, run.actual) == (2, 1.0, 1)


def test_a_contract_that_ended_within_the_gap_has_no_label(warehouse):
    leaves = Cancellation("purchase", "7d", gap="3d", name="buys")
    warehouse.publish(said(day(10)))
    (run,) = settled(warehouse, log(("p0", 11.0), ("p1", 14.0)), day(20), leaves)
    assert (run.customers, run.actual) == (9, 1)


def test_a_run_of_which_nobody_has_a_label_is_settled_with_nothing(warehouse):
    warehouse.publish(said(day(10), of=["gone"]))
    (run,) = settled(warehouse, log(*SHOP), day(17))
    assert (run.customers, run.expected, run.lower, run.upper, run.actual, run.surprise) == (0, 0.0, 0, 0, 0, 0)
    assert np.isnan([run.auc, run.log_loss, run.base_rate_log_loss, run.ece, run.ece_chance_p95]).all()
    warehouse.publish([], outcomes=[run])
    assert warehouse.outcomes()["auc"].isna().all()


def test_runs_that_were_asked_something_else_stay_as_they_are(warehouse):
    warehouse.publish([said(day(9), version="1"), said(day(10), version="2"), said(day(11), version="2")])
    asked = []
    found = settled(warehouse, log(*SHOP), day(20), answers=lambda version: asked.append(version) or version == "2")
    assert [run.as_of for run in found] == [day(10), day(11)]
    assert sorted(asked) == ["1", "2"], "each version is looked up once"


def test_other_targets_and_runs_that_were_not_published_are_none_of_its_business(warehouse):
    warehouse.publish([said(day(10), target="other"), Run("buys", day(9), "skipped", code="too_few_positives"), said(day(10))])
    assert [(run.target, run.as_of) for run in settled(warehouse, log(*SHOP), day(20))] == [("buys", day(10))]


def test_many_nights_are_made_up_for_at_once(warehouse):
    warehouse.publish([said(day(2 + number)) for number in range(20)])
    found = settled(warehouse, log(*SHOP), day(30))
    assert [run.as_of for run in found] == [day(2 + number) for number in range(20)]
    bought = [sum(start <= when < start + 7 for _, when in SHOP) for start in range(2, 22)]
    assert [run.actual for run in found] == bought


def test_pairs_of_an_affinity_are_counted_in_customers_and_rows(warehouse):
    events = made.taste_events()
    pairs = {"customer_id": ["c0000001"] * 2 + ["c0000002"] * 2, "category": ["category 1", "category 2"] * 2}
    frame = pd.DataFrame(pairs | {"probability": 0.5})
    warehouse.publish(attributes(frame, TASTE.name, TASTE_NIGHTS[0], horizon="14d", model_version="1"))
    (run,) = settled(warehouse, events, TASTE_NIGHTS[1], TASTE)
    rows = happened(pl.DataFrame(made.tastes().events), "purchase", TASTE_NIGHTS[0], 14 * DAY)
    taken = set(rows.select("customer_id", "family").iter_rows())
    assert (run.customers, run.rows, run.expected) == (2, 4, 2.0)
    assert run.actual == sum(pair in taken for pair in zip(frame["customer_id"], frame["category"], strict=True))


def test_an_event_that_the_log_has_lost_is_said(warehouse):
    warehouse.publish(said(day(10)))
    with pytest.raises(SpecificationError, match="the log never holds 'purchase'"):
        settled(warehouse, log(), day(17))


def test_a_warehouse_that_is_new_has_nothing_to_look_back_on(warehouse):
    hindsight = Hindsight(warehouse, log(*SHOP), day(17))
    assert (hindsight.settle(BUYS, anybody), hindsight.trend("buys")) == ([], ())


# Again --------------------------------------------------------------------------------------------------------------


def test_a_run_is_settled_once_and_by_a_repeated_job_again(warehouse):
    warehouse.publish([said(day(9)), said(day(10))])
    warehouse.publish(said(day(16)), outcomes=settled(warehouse, log(*SHOP), day(16)))
    assert [run.as_of for run in settled(warehouse, log(*SHOP), day(17))] == [day(10)]
    more = (*SHOP, ("p5", 13.0))
    again = settled(warehouse, log(*more), day(16))
    assert [(run.as_of, run.actual, run.settled_at) for run in again] == [(day(9), 4, day(16))]


def test_a_run_that_another_version_replaced_is_settled_anew(warehouse):
    warehouse.publish(said(day(10)))
    warehouse.publish([], outcomes=settled(warehouse, log(*SHOP), day(17)))
    warehouse.publish(said(day(10), version="2"))
    assert warehouse.outcomes().empty
    assert [(run.model_version, run.settled_at) for run in settled(warehouse, log(*SHOP), day(18))] == [("2", day(18))]


def test_an_earlier_night_that_is_published_again_keeps_being_what_a_later_one_settled(warehouse):
    warehouse.publish(said(day(10)))
    warehouse.publish([], outcomes=settled(warehouse, log(*SHOP), day(17)))
    changed = said(day(10), p=0.6)
    (run,) = settled(warehouse, log(*SHOP), day(10), again=changed.attributes)
    assert (run.expected, run.settled_at) == (pytest.approx(6.45), day(17))
    warehouse.publish(changed, outcomes=[run])
    assert warehouse.outcomes()["expected"].to_list() == [pytest.approx(6.45)]


def test_a_night_that_nobody_has_settled_is_not_settled_while_it_is_published(warehouse):
    run = said(day(10))
    warehouse.publish(run)
    assert settled(warehouse, log(*SHOP), day(10), again=run.attributes) == []


# The trend and its warning ------------------------------------------------------------------------------------------


def came(number: float, actual: int, *, expected: float = 100, lower: int = 80, upper: int = 120, target: str = "buys") -> Settled:
    metrics = {"auc": 0.8, "log_loss": 0.3, "base_rate_log_loss": 0.4, "ece": 0.01, "ece_chance_p95": 0.02}
    return Settled(
        target=target, as_of=day(number), run_id="r", model_version="1", ended_at=day(number + 7), customers=1000, rows=1000,
        expected=expected, lower=lower, upper=upper, actual=actual, settled_at=day(number + 7), measured_at=day(99), **metrics,
    )  # fmt: skip


def trend(warehouse: Warehouse, runs: list[Settled], as_of: datetime) -> list[float]:
    published = [said(run.as_of, target=run.target) for run in runs]
    ids = {(run.target, run.as_of): run.attributes["run_id"].iloc[0] for run in published}
    outcomes = [replace(run, run_id=ids[run.target, run.as_of]) for run in runs]
    warehouse.publish(published, outcomes=outcomes)
    return [(run.as_of - FIRST) / DAY for run in Hindsight(warehouse, log(*SHOP), as_of).trend("buys")]


def test_the_trend_of_a_nightly_job_shows_runs_whose_labels_share_no_time(warehouse):
    assert trend(warehouse, [came(number, 100) for number in range(40)], day(60)) == [18, 25, 32, 39]


def test_the_trend_shows_what_had_ended_by_the_job_s_time_of_its_own_target(warehouse):
    runs = [came(0, 100), came(10, 100), came(10, 100, target="other"), came(20, 100)]
    assert trend(warehouse, runs, day(26)) == [0, 10]


@pytest.mark.parametrize(("actual", "surprise"), [(79, -1), (80, 0), (120, 0), (121, 1)])
def test_a_count_is_a_surprise_outside_of_the_interval(actual, surprise):
    assert came(0, actual).surprise == surprise
    assert bool(warning([came(0, actual)])) == bool(surprise)


def test_what_came_as_expected_is_not_worth_a_word_whatever_was_before():
    assert warning([]) == ""
    assert warning([came(0, 200), came(10, 100)]) == ""


def test_a_surprise_is_told_with_its_size_and_what_to_do():
    assert warning([came(0, 100), came(10, 150)]) == (
        "more came than the scores of 2024-01-11 said: 150 for 100 expected (1.50 times as many, 95% interval 80 to 120). "
        "The model may be rotting: retrain, or look at the log"
    )
    fewer = warning([came(10, 40)], "America/New_York")
    assert fewer.startswith("fewer came than the scores of 2024-01-10 19:00 said: 40 for 100 expected (0.40 times as many")
    assert "times" not in warning([came(0, 3, expected=0.2, lower=0, upper=1)])


def test_surprises_in_a_row_on_the_same_side_are_told_in_stronger_words():
    assert warning([came(0, 100), came(10, 150), came(20, 160), came(30, 170)]).endswith(
        "3 runs in a row. The probabilities are wrong: retrain, and look for what has changed in the log"
    )
    assert "in a row" not in warning([came(0, 40), came(10, 150)])
