"""The benchmarks compare like with like.

Features: on a small made log everybody's values are ours, and a value that is not is named. Affinity: the books are those of a plain loop,
and what was published is held against them.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise, product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from persopredict import EventLog, snapshots
from persopredict.errors import DataError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made_logs, rivals, rival_featuretools = (benchmark(name) for name in ("made_logs", "rivals", "rival_featuretools"))
books, _, affinity = (benchmark(name) for name in ("affinity_rivals", "speed", "affinity"))
CUTOFFS = made_logs.cutoffs(3)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return made_logs.log(4_000, 120, folder=tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def ours(log):
    return snapshots(EventLog(log), CUTOFFS, rivals.FEATURES).to_arrow()


def test_hand_written_sql_gives_the_same_values(log, ours):
    assert rivals.differences(ours, rivals.by_duckdb(log, CUTOFFS, 1)) == []


def test_hand_written_polars_gives_the_same_values(log, ours):
    assert rivals.differences(ours, rivals.by_polars(log, CUTOFFS)) == []


def test_featuretools_gives_the_same_values_of_what_it_can_express(log, ours, tmp_path):
    python = made_logs.FOLDER / "featuretools" / "bin" / "python"
    if not python.exists():
        pytest.skip("featuretools' own environment is made by the benchmark")
    specs, answer = rival_featuretools.expressible([feature.to_dict() for feature in rivals.FEATURES]), tmp_path / "answer.parquet"
    asked = {"path": str(log), "cutoffs": [cutoff.isoformat() for cutoff in CUTOFFS], "features": specs, "answer": str(answer)}
    command = [str(python), "-W", "ignore", rival_featuretools.__file__]
    subprocess.run(command, input=json.dumps(asked), text=True, check=True, capture_output=True)
    assert rivals.differences(ours, pq.read_table(answer)) == []
    assert len(specs) > 90


def test_what_is_measured_is_what_the_targets_ask_for(ours):
    assert len(rivals.FEATURES) >= 100
    assert {"distinct", "trend", "gap_mean", "gap_std", "overdue"} <= {feature.aggregate for feature in rivals.FEATURES}
    assert ours.column_names == ["customer_id", "cutoff", *rivals.NAMES]
    # A column of nulls, or of one value, would agree with anything.
    assert [name for name in rivals.NAMES if pc.count_distinct(ours[name]).as_py() < 3] == []


@pytest.mark.parametrize("name", ["count_visit_7d", "std_value_all"])
def test_a_value_that_differs_is_named(ours, name):
    values = ours[name].to_pylist()
    place = next(place for place, value in enumerate(values) if value)
    values[place] *= 1 + 1e-7
    other = ours.set_column(ours.column_names.index(name), name, pa.array(values))
    assert [text.split(":")[0] for text in rivals.differences(ours, other)] == [name]


def test_null_is_not_zero(ours):
    filled = ours.set_column(ours.column_names.index("mean_value_28d"), "mean_value_28d", pc.fill_null(ours["mean_value_28d"], 0.0))
    assert [text.split(":")[0] for text in rivals.differences(ours, filled)] == ["mean_value_28d"]


def test_a_missing_row_is_a_difference(ours):
    assert rivals.differences(ours, ours.slice(1))


def test_a_made_log_has_the_size_that_was_asked_for_and_is_made_once(log):
    rows = pq.read_table(log)
    assert rows.num_rows == 4_000
    assert 100 <= pc.count_distinct(rows["customer_id"]).as_py() <= 120
    assert pc.min(rows["event_at"]).as_py() >= made_logs.START
    assert pc.max(rows["event_at"]).as_py() < made_logs.END
    written = log.stat().st_mtime_ns
    assert made_logs.log(4_000, 120, folder=log.parent).stat().st_mtime_ns == written


def test_the_same_seed_makes_the_same_log(log):
    def rows(seed):
        return pa.concat_tables(made_logs.chunks(4_000, 120, seed))

    assert rows(1).equals(rows(1))
    assert not rows(1).equals(rows(2))


def test_cutoffs_are_four_weeks_apart_and_end_with_the_log():
    assert CUTOFFS[-1] == made_logs.END
    assert {later - earlier for earlier, later in pairwise(CUTOFFS)} == {timedelta(days=28)}


# Affinity: the books ---------------------------------------------------------------------------------------------------------------

CUTOFF = "2017-10-08"
#: The last day's two instants lie on either side of the cutoff, those of four weeks later on either side of the horizon's end.
LINES = [
    ("1", 10, "2017-01-05 12:00", "milk"),
    ("1", 11, "2017-10-07 23:59:59", "milk"),
    ("1", 11, "2017-10-07 23:59:59", "milk"),
    ("1", 12, "2017-10-08 00:00", "bread"),
    ("1", 13, "2017-11-04 23:59:59", "tea"),
    ("1", 14, "2017-11-05 00:00", "soap"),
    ("2", 20, "2017-09-10 00:00", "bread"),
    ("2", 21, "2017-09-09 23:59:59", "soap"),
    ("2", 22, "2017-10-20 12:00", None),
    ("3", 30, "2017-07-01 12:00", "bread"),
    ("4", 40, "2017-06-01 12:00", "bread"),
]


@pytest.fixture
def shop():
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{books.ZONE}'")
    connection.execute("CREATE TABLE lines (h VARCHAR, b BIGINT, ts TIMESTAMPTZ, item_id VARCHAR)")
    connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", LINES)
    # Household 3 bought long ago and redeemed a coupon; 4 is gone.
    connection.execute("CREATE TABLE activity AS SELECT h, ts FROM lines UNION ALL SELECT '3', TIMESTAMPTZ '2017-07-09'")
    return connection


def named(question, pairs):
    return {(question.households[household], question.things[thing]) for household, thing in pairs}


def test_who_is_asked_about_was_active_in_any_way(shop):
    assert books.at_cutoff(shop, "item_id", CUTOFF).households == ["1", "2", "3"]


def test_what_is_known_ends_where_the_horizon_begins(shop):
    question = books.at_cutoff(shop, "item_id", CUTOFF)
    assert named(question, question.baskets) == {("1", "milk"), ("2", "bread"), ("2", "soap"), ("3", "bread")}
    assert named(question, question.taken) == {("1", "bread"), ("1", "tea")}
    assert named(question, question.taken[question.is_new(question.taken)]) == {("1", "bread"), ("1", "tea")}


def test_what_nobody_had_taken_is_relevant_and_no_candidate(shop):
    question = books.at_cutoff(shop, "item_id", CUTOFF)
    assert set(question.things[: question.seen]) == {"milk", "bread", "soap"}
    assert question.things[question.seen :] == ["tea"]
    assert "tea" not in {thing for _, thing in named(question, question.candidates)}


def test_popularity_counts_the_households_of_the_last_28_days(shop):
    question = books.at_cutoff(shop, "item_id", CUTOFF)
    # Of four households that ever took something; the soap was taken a second too early.
    assert dict(zip(question.things, question.takers.tolist(), strict=True)) == {"bread": 0.25, "milk": 0.25, "soap": 0, "tea": 0}
    # Equally popular in four weeks, and ever taken more often.
    assert question.things[0] == "bread"


def test_a_basket_counts_once_and_for_half_after_its_half_life(shop):
    question = books.at_cutoff(shop, "item_id", CUTOFF)

    def milk(*decay):
        scores = question.own(*decay)
        return next(score for pair, score in zip(question.candidates, scores, strict=True) if named(question, [pair]) == {("1", "milk")})

    assert milk() == 2
    # From 5 January, noon, on New York's clocks: 275 days and 11 hours, one of which was skipped in March.
    assert milk("days", 28) == pytest.approx(2 ** (-1 / 86400 / 28) + 2 ** (-(275 + 11 / 24) / 28), rel=1e-9)
    assert milk("baskets", 2) == pytest.approx(2 ** (-1 / 2) + 2 ** (-2 / 2))


def test_the_last_basket_is_left_out_and_ages_count_from_it(shop):
    question, left_out = books.next_basket(shop)
    assert left_out == 2
    assert question.households == ["1", "2"]
    # The other's last basket holds nothing that has a name.
    assert named(question, question.taken) == {("1", "soap")}
    assert ("1", "soap") not in named(question, question.baskets)
    days = {named(question, [pair]).pop(): age for pair, age in zip(question.baskets, question.ages["days"], strict=True)}
    assert days["1", "tea"] == pytest.approx(1 / 86400)


@pytest.fixture(scope="module")
def question():
    """Thirty households, forty things of which two are first seen later, some things taken by nobody; a household that takes nothing."""
    rng = np.random.default_rng(5)
    households, things, seen = 30, 40, 38
    baskets = np.stack([rng.integers(0, households, 400), np.minimum(rng.geometric(0.1, 400) - 1, seen - 1)], axis=1)
    taken = np.unique(np.stack([rng.integers(1, households, 250), rng.integers(0, things, 250)], axis=1), axis=0)
    ages = {"days": rng.integers(1, 300, 400).astype(float)}
    names = [str(number) for number in range(things)]
    return books.Question(names[:households], names, np.sort(rng.integers(0, 9, things))[::-1] / 30, seen, baskets, ages, taken)


def by_a_loop(question, score, part):
    """(recall, ndcg, hit) of each household, over all things that were seen; `score` of (household, thing)."""
    known = {tuple(pair) for pair in question.baskets.tolist()}
    wanted = {"all": lambda pair: True, "repeat": lambda pair: pair in known, "explore": lambda pair: pair not in known}[part]
    for household in range(len(question.households)):
        relevant = {pair for pair in map(tuple, question.taken.tolist()) if pair[0] == household and wanted(pair)}
        pairs = [pair for pair in product([household], range(question.seen)) if wanted(pair)]
        first = sorted(pairs, key=lambda pair: (-score[pair], pair[1]))[:10]
        gain = sum(1 / math.log2(place + 2) for place, pair in enumerate(first) if pair in relevant)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
        hits = len(relevant.intersection(first))
        yield (hits / len(relevant), gain / ideal, float(hits > 0)) if relevant else (math.nan,) * 3


@pytest.mark.parametrize("part", ["all", "repeat", "explore"])
def test_an_order_and_its_metrics_are_those_of_a_plain_loop(question, part):
    pairs = np.array(list(product(range(30), range(question.seen))))
    scores = np.random.default_rng(6).integers(0, 5, len(pairs)).astype(float)
    shuffled = np.random.default_rng(7).permutation(len(pairs))
    order = question.lists(pairs[shuffled], part).order(scores[shuffled])
    expected = np.array(list(by_a_loop(question, dict(zip(map(tuple, pairs.tolist()), scores, strict=True)), part)))
    for name, column in zip(("recall", "ndcg", "hit"), expected.T, strict=True):
        np.testing.assert_allclose(order.metric(name), column, rtol=1e-12)
    assert np.isnan(expected[0]).all()
    assert len(np.unique(expected[1:, 1])) > 10


@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0, 100.0])
def test_nothing_but_a_candidate_could_be_among_the_first_of_a_rule(question, weight):
    setting = books.Setting("blended", "days", 56, weight)
    score = {pair: weight * question.takers[pair[1]] for pair in product(range(30), range(question.seen))}
    for pair, age in zip(map(tuple, question.baskets.tolist()), question.ages["days"], strict=True):
        score[pair] += 0.5 ** (age / 56)
    found = books.best(question, [setting])
    expected = np.array(list(by_a_loop(question, score, "all")))
    for name, column in zip(("recall", "ndcg", "hit"), expected.T, strict=True):
        np.testing.assert_allclose(found["blended", name].values, column, rtol=1e-12)


def test_a_rule_has_the_setting_that_does_best_by_each_metric(question):
    found = books.best(question, books.settings())
    assert {rule for rule, _ in found} == set(books.RULES)
    for metric in books.METRICS:
        tried = [books.best(question, [setting])["blended", metric].mean for setting in books.settings() if setting.rule == "blended"]
        assert found["blended", metric].mean == max(tried)
        assert found["best decay", metric].mean >= found["own frequency", metric].mean


def test_a_gain_is_paired_and_leaves_out_who_has_no_value():
    theirs = np.array([math.nan, *np.linspace(0.2, 0.6, 60)])
    gain = books.Gain.of("rule", theirs * 1.1, theirs)
    assert gain.relative == pytest.approx(0.1)
    assert 0.03 < gain.low < 0.04 < gain.high < 0.05
    unpaired = books.Gain.of("rule", theirs * 1.1, np.r_[math.nan, theirs[:0:-1]])
    assert unpaired.low < 0 < unpaired.high


def test_calibration_errors_are_the_gaps_within_bins_and_within_categories():
    probability, taken = np.repeat([0.1, 0.5], 1000), np.r_[np.arange(1000) < 200, np.arange(1000) < 450]
    assert books.ece(taken, probability, bins=2) == pytest.approx((0.1 + 0.05) / 2)
    found, chance = books.gaps(np.repeat([0, 2], 1000), taken, probability)
    np.testing.assert_allclose(found, [100 / 200, 50 / 450])
    np.testing.assert_allclose(chance, [math.sqrt(2 / math.pi * 90) / 200, math.sqrt(2 / math.pi * 250) / 450])
    assert len(books.gaps(np.zeros(1000, int), taken[:1000] & (np.arange(1000) < 99), probability[:1000])[0]) == 0


# Affinity: what was published ------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(question):
    pairs = np.array(list(product(range(30), range(question.seen))))
    names = {"customer_id": pairs[:, 0].astype(str), "category": pairs[:, 1].astype(str)}
    probability = np.random.default_rng(8).random(len(pairs))
    return pd.DataFrame({**names, "probability": probability, "is_new": question.is_new(pairs)}).sample(frac=1, random_state=1)


def test_what_was_published_keeps_its_own_order(question, published):
    judged = affinity.Judged.of(question, published)
    score = {(int(row.customer_id), int(row.category)): row.probability for row in published.itertuples()}
    expected = np.array(list(by_a_loop(question, score, "explore")))
    np.testing.assert_allclose(judged.metric("ndcg", "explore"), expected[:, 1], rtol=1e-12)
    assert judged.differences == []
    assert judged.taken.sum() == sum(thing < question.seen for _, thing in question.taken)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.iloc[3:], "3 pairs missing"),
        (lambda frame: frame.assign(is_new=frame["is_new"] ^ (np.arange(len(frame)) < 2)), "is_new is wrong for 2 pairs"),
        (lambda frame: pd.concat([frame, frame.iloc[:1].assign(customer_id="nobody")]), "1 pairs of unknown households or categories"),
        (lambda frame: pd.concat([frame, frame.iloc[:1].assign(category="39")]), "1 pairs of unknown households or categories"),
        (lambda frame: pd.concat([frame.iloc[1:], frame.iloc[1:2]]), "1 pairs published twice"),
    ],
)
def test_what_differs_from_the_books_is_said(question, published, change, said):
    assert affinity.Judged.of(question, change(published)).differences == [said]


def test_a_planted_favourite_counts_for_whom_it_was_asked_and_where_it_stands():
    tastes = pd.DataFrame({"customer_id": list("abcd"), "category": ["x"] * 4, "events": [10, 12, 9, 99]})
    places = {"a": ["y", "z", "x", "v"], "b": ["y", "z", "v", "x"], "c": ["x"]}
    rows = [(customer, category, 1 / (2 + place)) for customer, all_ in places.items() for place, category in enumerate(all_)]
    found = affinity.favourites_found(tastes, pd.DataFrame(rows, columns=["customer_id", "category", "probability"]))
    assert found == {"customers": 2, "share": 0.5}


@pytest.mark.journey
def test_the_rules_reach_what_was_measured_before():
    try:
        connection = books.journey()
    except DataError:
        pytest.skip("the demo's data is not installed")
    question = books.at_cutoff(connection, "product_category", affinity.LAST)
    assert question.seen == affinity.LEVELS["product_category"]
    known = books.best(question, [books.Setting("own frequency")])
    new = books.best(question, [books.Setting("popularity")], "explore")
    assert known["own frequency", "recall"].mean == pytest.approx(0.262, abs=0.003)
    assert known["own frequency", "ndcg"].mean == pytest.approx(0.652, abs=0.0015)
    assert new["popularity", "ndcg"].mean == pytest.approx(0.191, abs=0.0005)


# Contributions ---------------------------------------------------------------------------------------------------------------------


reasons = benchmark("reasons")


def test_customers_that_are_explained_have_a_hundred_different_features_and_both_labels():
    X, y = reasons.customers(2_000)
    features = reasons.features()
    assert X.shape == (2_000, reasons.FEATURES) == (2_000, len({feature.name for feature in features}))
    assert 0.05 < y.mean() < 0.6
    for feature, column in zip(features, X.T, strict=True):
        assert np.isnan(column).any() == (feature.fallback is None)
        assert feature.aggregate not in ("count", "distinct") or (column == column.round()).all()
    np.testing.assert_array_equal(reasons.customers(2_000)[0], X)


def test_contributions_that_don_t_add_up_or_take_long_miss_their_aims():
    good = reasons.Ours(predict=1.0, tables=0.5, whole=2.0, cores=1.9, peak=1.0, gap=1e-12, differs=1e-14)
    bad = reasons.Ours(predict=0.1, tables=0.5, whole=2.0, cores=1.0, peak=4.0, gap=1e-5, differs=1e-3)
    for found, verdict in ((good, "met"), (bad, "missed")):
        theirs = {(reasons.AIMED, way): 240.0 if verdict == "met" else 230.0 for way in reasons.SAMPLES}
        run = reasons.Run(100_000, {reasons.AIMED: found}, theirs)
        assert {row[-1] for row in reasons.target_rows(run)} == {verdict}
