"""Made tastes: what is planted shows in the log, and the truth about it is exact."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from persopredict import EventLog
from persopredict.datasets import made_log, made_tastes
from persopredict.errors import SpecificationError

CUTOFF = "2024-08-26"


@pytest.fixture(scope="module")
def made():
    return made_tastes(12_000, seed=7)


@pytest.fixture(scope="module")
def small():
    return made_tastes(1500, seed=5)


def alarm(label, probability, chosen=None):
    """Label minus probability over the chosen pairs, in standard errors; customers are independent, the pairs of one are not."""
    use = ~np.isnan(probability) if chosen is None else chosen & ~np.isnan(probability)
    residual = np.where(use, label - np.nan_to_num(probability), 0.0).sum(axis=1)
    assert label[use].sum() > 100
    return abs(residual.sum()) / np.sqrt((residual**2).sum())


# The log ---------------------------------------------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_log_and_another_seed_another(small):
    again, other = made_tastes(1500, seed=5), made_tastes(1500, seed=6)
    assert again.events.equals(small.events)
    assert again.tastes.equals(small.tastes)
    assert not other.events.equals(small.events)
    assert not other.tastes.equals(small.tastes)


def test_the_first_customers_are_the_same_however_many_are_made():
    many = made_tastes(5000, days=60)
    few = made_tastes(4100, days=60)
    one = made_tastes(1, days=60)
    for part in (few, one):
        names = part.tastes["customer_id"].combine_chunks()
        assert many.tastes.slice(0, len(names)).equals(part.tastes)
        assert many.events.filter(pc.is_in(many.events["customer_id"], value_set=names)).equals(part.events)


def test_the_events_are_what_the_documentation_says(small):
    events = small.events.to_pandas()
    assert small.events.schema.names[:9] == made_log(1).events.schema.names
    assert events["event_id"].is_unique
    assert events["event_at"].between(small.start, small.end, inclusive="left").all()
    bought = events["event"] == "purchase"
    assert set(events["event"]) == {"purchase", "view"}
    assert events["value"].notna().equals(bought)
    assert events["order_id"].notna().equals(bought)
    orders = events[bought].groupby("order_id")
    assert (orders[["customer_id", "event_at", "channel"]].nunique() == 1).all(axis=None)
    assert 1.4 < orders.size().mean() < 1.6
    first = events.sort_values(["event_at", "event_id"]).groupby("customer_id")["event"].first()
    assert len(first) == 1500
    assert (first == "purchase").all()


def test_some_rows_lack_the_name_of_their_category_null_as_often_as_blank(small):
    category, rows = small.events["category"], small.events.num_rows
    for found in (category.null_count, pc.sum(pc.equal(category, " ")).as_py()):
        # Each is a binomial count with a mean of 1.5% of the rows.
        assert abs(found - 0.015 * rows) < 4 * math.sqrt(0.015 * rows)
    named = made_tastes(50, unnamed=0.0).events["category"]
    assert named.null_count == 0
    assert " " not in named.to_pylist()
    assert set(made_tastes(50, unnamed=1.0).events["department"].to_pylist()) == {None, " "}


def test_categories_come_in_departments_that_the_event_log_takes_as_levels(small):
    pairs = small.events.select(["department", "family"]).group_by(["department", "family"]).aggregate([])
    named = pairs.filter(pc.not_equal(pairs["family"], " "))
    assert named.num_rows == pc.count_distinct(named["family"]).as_py() == 30
    assert set(pc.value_counts(named["department"]).field("counts").to_pylist()) == {5}
    log = EventLog(small.events, category=("department", "family"), observed=(small.start, small.end))
    assert {"department", "family"} <= set(log.columns)
    assert small.events["family"].equals(small.events["category"])


@pytest.mark.parametrize(("ids", "kind"), [("text", pa.string()), ("integer", pa.int64()), ("uuid", pa.string())])
def test_ids_come_as_asked_and_change_nothing_else(small, ids, kind):
    other = made_tastes(1500, seed=5, ids=ids)
    assert other.events.schema.field("customer_id").type == other.tastes.schema.field("customer_id").type == kind
    assert other.events.drop_columns("customer_id").equals(small.events.drop_columns("customer_id"))
    assert (other.counts_before(CUTOFF) == small.counts_before(CUTOFF)).all()


@pytest.mark.parametrize("categories", [1, 2, 5, 6, 7, 12, 400])
def test_any_number_of_categories_will_do(categories):
    few = made_tastes(400, categories=categories, days=150)
    probability = few.probability("2024-04-29", "28d")
    assert probability.shape == (400, categories)
    assert few.categories["kind"].to_pylist().count("late") == (categories // 15 + 1 if categories >= 6 else 0)
    assert few.tastes["next_category"].null_count == (400 if categories < 6 else 0)
    assert alarm(few.counts_within("2024-04-29", "28d") > 0, probability) < 4


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(SpecificationError) as caught:
        made_tastes(0, categories=0, days=0, seed=-1, leaving=-0.1, unnamed=1.5)
    assert len(caught.value.problems) == 6
    with pytest.raises(SpecificationError, match="did you mean 'integer'"):
        made_tastes(3, ids="integers")


# What is planted -------------------------------------------------------------------------------------------------------------------------


def test_the_planted_favourite_is_what_frequent_customers_buy_most(made):
    counts = made.counts_before(CUTOFF)
    places = dict(zip(made.categories["category"].to_pylist(), range(30), strict=True))
    favourite = np.array([places[name] for name in made.tastes["category"].to_pylist()])
    frequent = counts.sum(axis=1) >= 20
    assert frequent.sum() > 2500
    assert (counts.argmax(axis=1) == favourite)[frequent].mean() > 0.95
    regular = counts.sum(axis=1) >= 10
    ahead = (counts > counts[np.arange(len(counts)), favourite][:, None]).sum(axis=1)
    assert (ahead < 3)[regular].mean() > 0.99


def test_favourites_have_nothing_to_do_with_popularity(made):
    counts, favourites = made.counts_before(CUTOFF).sum(axis=0), made.tastes["category"].to_pylist()
    liked = np.array([favourites.count(name) for name in made.categories["category"].to_pylist()])
    taken = liked > 0
    assert taken.sum() == 27
    assert liked[taken].max() < 1.5 * liked[taken].min()
    assert counts[taken].max() > 2.5 * counts[taken].min()
    assert (made.tastes["category"].to_pandas() != made.tastes["next_category"].to_pandas()).all()


def test_who_takes_one_category_of_a_segment_takes_the_others_more_often(made):
    taken, segment = made.counts_before(CUTOFF) > 0, made.categories["segment"].to_numpy()
    usual = taken[:, made.categories["kind"].to_numpy(zero_copy_only=False) != "late"]
    lift = (usual.T.astype(float) @ usual) / len(usual) / np.outer(usual.mean(axis=0), usual.mean(axis=0))
    same = segment[: usual.shape[1], None] == segment[: usual.shape[1]]
    aside = ~np.eye(len(same), dtype=bool)
    assert lift[same & aside].mean() > 1.3 * lift[~same].mean()


def test_the_next_taste_is_taken_by_few_until_it_is_adopted(made):
    at = np.array([made.categories["category"].to_pylist().index(name) for name in made.tastes["next_category"].to_pylist()])
    before = made.counts_before(CUTOFF)[np.arange(12_000), at] > 0
    cutoff = np.datetime64(CUTOFF)
    adopted_at = made.tastes["adopted_at"].to_pandas().dt.tz_localize(None).to_numpy()
    assert before[~(adopted_at < cutoff)].mean() < 0.25
    assert before[adopted_at < cutoff - np.timedelta64(60, "D")].mean() > 0.6
    taken = made.counts_before(CUTOFF) > 0
    fresh = ~taken
    rows = np.arange(12_000)
    probability = made.probability(CUTOFF, "28d")
    there = probability[:, 0] > 0
    explored = fresh[rows, at] & there
    # It is more than twice as likely as what else is new for the customer: there is something to explore.
    assert probability[rows, at][explored].mean() > 2 * probability[fresh & there[:, None]].mean()


def test_a_late_category_is_not_there_before_it_appears(made):
    events = made.events.to_pandas()
    first = events.groupby("category")["event_at"].min()
    late = made.categories.to_pandas().query("kind == 'late'").set_index("category")["appears_at"]
    assert len(late) == 3
    assert (late > made.start + timedelta(days=80)).all()
    wait = first[late.index] - late
    assert (wait >= timedelta(0)).all()
    assert (wait < timedelta(days=1)).all()
    assert (made.counts_before(late.iloc[-1].to_pydatetime())[:, -1] == 0).all()
    assert (first.drop([*late.index, " "]) < made.start + timedelta(days=2)).all()


def test_popularity_has_a_long_tail_seasons_and_trends(made):
    kind = made.categories["kind"].to_numpy(zero_copy_only=False)
    total = made.counts_before(CUTOFF).sum(axis=0)
    assert total[:5].sum() > 2 * total[22:27].sum()
    early, late = (made.counts_within(day, "28d").sum(axis=0) for day in ("2024-02-05", "2024-08-12"))
    change = (late / late.sum()) / np.maximum(early / early.sum(), 1e-12)
    assert (change[kind == "trending"] > 1.2).all()
    # Steady are those that are not just being adopted.
    steady = (kind == "steady") & ~np.isin(np.arange(30), made.assortment.next)
    assert np.ptp(np.log(change[kind == "seasonal"])) > 2 * np.ptp(np.log(change[steady]))
    assert (change[made.assortment.next] > change[steady].max()).all()


# The truth -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["category", "department"])
@pytest.mark.parametrize(
    ("cutoff", "horizon"), [("2024-04-01", "28d"), (CUTOFF, "28d"), ("2024-06-19T17:30", "36h"), ("2024-05-26", "91d")]
)
def test_the_truth_is_calibrated(made, cutoff, horizon, by):
    probability, label = made.probability(cutoff, horizon, by=by), made.counts_within(cutoff, horizon, by=by) > 0
    assert np.nanmin(probability) >= 0
    assert np.nanmax(probability) < 1
    known = ~np.isnan(probability)
    bins = np.searchsorted(np.quantile(probability[known], [0.2, 0.4, 0.6, 0.8, 0.9, 0.97]), probability)
    # 8 cases of 8 numbers: were the seed not fixed, 4 standard errors would leave a chance of 0.4% for any alarm.
    assert alarm(label, probability) < 4
    for position in np.unique(bins[known & (probability > 0)]):
        if label[chosen := known & (bins == position)].sum() > 100:
            assert alarm(label, probability, chosen) < 4


def test_the_truth_is_calibrated_in_every_category_and_for_what_is_new(made):
    probability, label = made.probability(CUTOFF, "28d"), made.counts_within(CUTOFF, "28d") > 0
    before = made.counts_before(CUTOFF)
    for column in range(30):
        assert alarm(label, probability, np.broadcast_to(np.arange(30) == column, label.shape)) < 4
    for chosen in (before == 0, before == 1, before > 3, (before == 0) & (before.sum(axis=1, keepdims=True) >= 10)):
        assert alarm(label, probability, chosen) < 4


@pytest.mark.parametrize("wrong", [{"leaving": 0.0}, {"leaving": 0.006}, {"unnamed": 0.1}])
def test_a_wrong_parameter_would_be_noticed(made, wrong):
    label = made.counts_within("2024-05-26", "91d") > 0
    assert alarm(label, replace(made, **wrong).probability("2024-05-26", "91d")) > 4


def nothing_taken(orders, shares, leave, adopt):
    """P(no order holds it), day by day with `shares` of it in the lines (before, after adopting): over all days to leave and to adopt."""
    days, total = len(shares), 0.0
    for leaves in range(1, days + 1):
        for adopts in range(1, days + 1):
            chance = 1.0
            for hazard, night in ((leave, leaves), (adopt, adopts)):
                chance *= (1 - hazard) ** (night - 1) * (hazard if night < days else 1.0)
            expected = 0.0
            for day in range(min(leaves, days)):
                share = shares[day][day >= adopts]
                # Of an order with n lines beyond the first, Poisson(0.5), none may be of the category.
                none = sum(math.exp(-0.5) * 0.5**n / math.factorial(n) * (1 - share) ** (n + 1) for n in range(30))
                expected += orders * (1 - none)
            total += chance * math.exp(-expected)
    return total


def share_of(goods, segment, category, day):
    weights = []
    for place, weight in enumerate(goods.weight[segment]):
        season = 1 + 0.8 * math.sin(2 * math.pi * (day / 365 + place / 7))
        trend = 0.3 + 1.7 * day / goods.length
        weights.append(weight * {"seasonal": season, "trending": trend}.get(goods.kind[place], float(day >= goods.appears[place])))
    return weights[category] / sum(weights)


def test_the_truth_is_the_sum_over_all_that_may_happen():
    made = made_tastes(300, seed=3, leaving=0.02, unnamed=0.1, start="2024-01-01")
    first, days = 140, 7
    probability = made.probability("2024-05-20", "7d")
    goods, people = made.assortment, made.people
    waiting = np.flatnonzero((people.left > first) & (people.adopted > first) & (people.arrival < first))[:3]
    adopters = np.flatnonzero((people.left > first) & (people.adopted <= first))[:2]
    assert len(waiting) + len(adopters) == 5
    for who in (*waiting, *adopters):
        segment, share = people.segment[who], people.share[who]
        for category in (people.favourite[who], goods.next[segment], 0, 2, 28):
            shares = []
            for day in range(days):
                rest = share_of(goods, segment, category, first + day) * (1 - share)
                coming = 0.3 * (1 - share) * (category == goods.next[segment])
                liked = share * (category == people.favourite[who])
                shares.append((0.9 * (liked + rest), 0.9 * (liked + 0.7 * rest + coming)))
            if who in adopters:
                shares = [(after, after) for _, after in shares]
            none = nothing_taken(people.orders[who], shares, 1 - math.exp(-0.02), 1 - math.exp(-0.004))
            assert probability[who, category] == pytest.approx(1 - none, abs=1e-9)


def test_who_has_left_takes_nothing_and_who_has_not_come_is_unknown(made):
    cutoff = made.start + timedelta(days=63)
    probability, tastes = made.probability(cutoff, "28d"), made.tastes.to_pandas()
    gone = (tastes["left_at"] <= cutoff).to_numpy()
    first = made.events.to_pandas().groupby("customer_id")["event_at"].min()
    unknown = (first[tastes["customer_id"]] >= cutoff).to_numpy()
    assert gone.sum() > 300
    assert (probability[gone] == 0).all()
    assert (made.counts_within(cutoff, "28d")[gone] == 0).all()
    assert unknown.sum() > 3000
    assert np.isnan(probability[unknown]).all()
    assert (probability[~gone & ~unknown][:, 0] > 0).all()


def test_without_leaving_nobody_is_ever_gone(small):
    loyal = made_tastes(1500, seed=5, leaving=0.0)
    assert loyal.tastes["left_at"].null_count == 1500
    assert loyal.tastes["category"].equals(small.tastes["category"])
    assert (loyal.probability(CUTOFF, "28d") > 0).all()


def test_a_horizon_may_reach_beyond_the_log_but_a_cutoff_may_not(small):
    beyond, within = small.probability(small.end, "28d"), small.probability(small.end, "1d")
    assert (beyond >= within).all()
    assert small.counts_within(small.end, "28d").sum() == 0
    with pytest.raises(SpecificationError, match="the log ends at"):
        small.probability(small.end + timedelta(days=1), "28d")
    with pytest.raises(SpecificationError, match="horizon is empty"):
        small.probability(CUTOFF, "0d")
    with pytest.raises(SpecificationError, match="did you mean 'department'"):
        small.probability(CUTOFF, "28d", by="departments")


def test_counts_are_those_of_a_plain_loop(small):
    cutoff = small.start + timedelta(days=140)
    columns = small.events.select(["customer_id", "event_at", "event", "department"]).to_pylist()
    names = [f"department {number}" for number in range(1, 7)]
    before, within = np.zeros((2, 1500, 6), dtype=int)
    for row in columns:
        if row["event"] == "purchase" and row["department"] in names:
            place = (int(row["customer_id"][1:]) - 1, names.index(row["department"]))
            before[place] += row["event_at"] < cutoff
            within[place] += cutoff <= row["event_at"] < cutoff + timedelta(days=28)
    assert (small.counts_before(cutoff, by="department") == before).all()
    assert (small.counts_within(cutoff, "28d", by="department") == within).all()
