"""An affinity in the nightly job: counted in customers, trained and promoted like any target, and the same from its model store."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from persopredict import tracking
from persopredict.affinity.task import PairTask
from persopredict.affinity.training import Standing, read_with_past
from persopredict.events import EventLog
from persopredict.predictor import Predictor
from persopredict.registry import Registry
from persopredict.targets import Affinity
from persopredict.warehouse import Warehouse
from tests import made
from tests.made import STAYING_AWAY, TASTE, TASTE_NIGHTS

END = TASTE_NIGHTS[-1]


@pytest.fixture(scope="module")
def events() -> EventLog:
    return made.taste_events()


@pytest.fixture(scope="module")
def nights(events, tmp_path_factory):
    """Three nights, two weeks apart; the last one run twice. Folder, results, tables after each run, steps of each."""
    folder = tmp_path_factory.mktemp("nights")
    results, seen, steps = [], [], []
    for as_of in (*TASTE_NIGHTS, END):
        steps.append([])
        results.append(made.taste_job(folder, of=events, progress=steps[-1].append).run(as_of))
        seen.append(made.tables(folder))
    return folder, results, seen, steps


@pytest.fixture(scope="module")
def rows(nights):
    """What was published of the affinity in the last night."""
    return Warehouse(nights[0] / "warehouse.duckdb").attributes(TASTE.name, END)


def registry(folder: Path) -> Registry:
    return Registry(f"sqlite:///{folder / 'mlflow.db'}")


def taste_of(result):
    (outcome,) = [outcome for outcome in result.outcomes if outcome.target == TASTE.name]
    return outcome


def stored_in(folder: Path) -> dict:
    """Where the models of a night lie that is to be served by them without training."""
    return {"tracking": f"sqlite:///{folder / 'mlflow.db'}"}


def served_by(folder: Path, nights, *, version: int, targets=(TASTE,)) -> None:
    """Make a model store in `folder` whose champions are these versions, so that nothing has to be trained first."""
    for target in targets:
        known = registry(nights[0]).load(target.name, version)
        made_ = registry(folder).register(known, name=target.name, fingerprint="the same")
        registry(folder).promote(target.name, made_.version)


# Counts -------------------------------------------------------------------------------------------------------------


def test_an_affinity_is_counted_in_customers_not_in_rows(nights, rows):
    outcome = taste_of(nights[1][-1])
    expected: dict[str, set[str]] = {}
    for row in rows.itertuples():
        expected.setdefault("scored" if row.status == "scored" else row.not_scored_reason, set()).add(row.customer_id)
    assert outcome.counts == {status: len(customers) for status, customers in expected.items()}
    assert list(outcome.counts) == ["scored", "not_active"]
    assert sum(outcome.counts.values()) == nights[1][-1].report.customers == 200
    assert len(rows) > 3 * outcome.counts["scored"]


def test_the_ledger_counts_an_affinity_in_customers(nights):
    ledger = nights[2][-1]["runs"]
    for result, as_of in zip(nights[1], TASTE_NIGHTS, strict=False):
        counts = dict(taste_of(result).counts)
        (line,) = ledger[(ledger["target"] == TASTE.name) & (ledger["as_of"] == as_of)].to_dict("records")
        assert (line["customers"], line["scored"]) == (sum(counts.values()), counts.pop("scored"))
        assert json.loads(line["counts_by_reason"]) == counts


def test_the_result_tells_how_many_pairs_were_published(nights, rows):
    pairs, new = rows["category"].notna().sum(), sum(row is True or row is np.True_ for row in rows["is_new"])
    text = taste_of(nights[1][-1]).text()
    assert f"published: {pairs:,} pairs of customer and category, {new:,} of them new to the customer" in text
    assert str(nights[1][-1]).count("pairs of customer and category, ") == 1, "a target of one score has no pairs"


# Night after night --------------------------------------------------------------------------------------------------


def test_a_job_with_an_affinity_run_twice_leaves_the_same_rows_and_does_not_train_again(nights):
    _, _, seen, steps = nights
    made.assert_same(seen[2], seen[3])
    assert f"{TASTE.name}: training" in steps[2]
    assert not [step for step in steps[3] if "training" in step]


def test_an_affinity_that_is_due_is_retrained_and_promoted_unless_its_lists_are_worse(nights):
    folder, results, _, _ = nights
    outcomes = [taste_of(result) for result in results]
    assert [outcome.model_version for outcome in outcomes] == ["1", "2", "3", "3"]
    assert [outcome.trained_until for outcome in outcomes] == [*TASTE_NIGHTS, END]
    for outcome in outcomes[1:3]:
        assert "is the new champion: same recipe, missed NDCG@10" in outcome.notes[-1]
    assert registry(folder).champion(TASTE.name).version == 3


def test_a_night_of_an_affinity_is_run_again_with_the_version_that_served_it_and_replaces_itself_alone(nights, events):
    folder, _, seen, _ = nights
    steps: list[str] = []
    result = made.taste_job(folder, of=events, progress=steps.append).run(TASTE_NIGHTS[0])
    assert taste_of(result).notes == ("scored by version 1, which served at that time; the champion is version 3",)
    assert not [step for step in steps if "training" in step]
    made.assert_same(seen[3], made.tables(folder))


def test_another_night_adds_rows_and_leaves_those_of_the_others(nights):
    _, _, seen, _ = nights
    for before, after in itertools.pairwise(seen[:3]):
        kept = after["predictive_attributes"].merge(before["runs"][["target", "as_of"]])
        assert len(after["predictive_attributes"]) > len(kept)
        pd.testing.assert_frame_equal(kept[before["predictive_attributes"].columns], before["predictive_attributes"])


def test_how_many_categories_are_published_is_as_configured_today_whatever_the_champion_was_made_for(nights, events, tmp_path):
    fewer = made.taste_predictor()
    fewer.target = replace(TASTE, top=2, top_new=1)
    result = made.taste_job(tmp_path, of=events, predictors=[fewer], **stored_in(nights[0])).score(END)
    published = taste_of(result).attributes
    rows = published[published["status"] == "scored"]
    assert taste_of(result).model_version == "3"
    assert sorted(rows.groupby("customer_id").size().unique()) == [2, 3]
    assert rows[rows["rank"] > 2]["is_new"].all()


def test_an_affinity_that_is_defined_anew_takes_over_without_comparing_lists_of_other_things(nights, events, tmp_path):
    served_by(tmp_path, nights, version=2)
    coarse = Predictor(Affinity("purchase", "14d", by="department", name=TASTE.name), estimator=made.learner(n_estimators=8))
    job = made.taste_job(tmp_path, of=events, predictors=[coarse])
    refused = taste_of(job.score(END))
    assert (refused.state, refused.code) == ("skipped", "no_model")
    assert "no champion that answers it as it is defined now: version 1 was asked otherwise" in refused.reason
    outcome = taste_of(job.run(END))
    assert outcome.model_version == "2"
    assert outcome.notes == ("version 2 is the new champion: the target was defined anew, version 1 answers what was asked before",)
    assert set(outcome.attributes["category"].dropna()) == {"department 1", "department 2"}


def test_a_worse_recipe_of_an_affinity_stays_challenger(nights, events, tmp_path):
    served_by(tmp_path, nights, version=2)
    worse = made.taste_predictor(n_estimators=1, learning_rate=0.0001)
    outcome = taste_of(made.taste_job(tmp_path, of=events, predictors=[worse]).run(END))
    assert (outcome.model_version, outcome.trained_until) == ("1", TASTE_NIGHTS[1])
    assert "version 2 stays challenger: new recipe, missed NDCG@10 higher by" in outcome.notes[-1]


# Expected against actual, and grades ---------------------------------------------------------------------------------


def test_what_came_of_published_pairs_is_compared_with_what_was_expected(nights):
    folder, results, seen, _ = nights
    outcomes = seen[-1]["outcomes"].query("target == @TASTE.name")
    assert outcomes["as_of"].tolist() == [pd.Timestamp(night) for night in TASTE_NIGHTS[:2]]
    events = pl.DataFrame(made.tastes().events).filter(pl.col("event") == "purchase")
    for line in outcomes.to_dict("records"):
        came = events.filter(pl.col("event_at").is_between(line["as_of"], line["ended_at"], closed="left"))
        taken = set(came.select("customer_id", "family").iter_rows())
        published = Warehouse(folder / "warehouse.duckdb").attributes(TASTE.name, line["as_of"]).dropna(subset="category")
        pairs = list(zip(published["customer_id"], published["category"], strict=True))
        assert (line["customers"], line["rows"]) == (published["customer_id"].nunique(), len(pairs))
        assert line["actual"] == sum(pair in taken for pair in pairs) > 0
        assert line["expected"] == pytest.approx(published["probability"].sum())
    assert [len(taste_of(result).trend) for result in results] == [0, 1, 2, 2]


def test_an_affinity_whose_lists_are_not_better_does_not_serve_unless_its_grade_is_let(nights, events, tmp_path):
    assert registry(nights[0]).champion(TASTE.name).tags["grade"] == "C"
    refused = taste_of(made.taste_job(tmp_path, of=events, predictors=[made.taste_predictor()], min_grade="B").run(END))
    assert (refused.state, refused.code) == ("skipped", "grade_too_low")
    assert "has grade C, and B is the least that may serve. Not better than the baseline: NDCG@10" in refused.reason


# What readers see ---------------------------------------------------------------------------------------------------


def test_the_wide_table_holds_the_top_three_and_the_first_new_one_of_each_customer(nights, rows):
    wide = nights[2][-1]["customer_attributes"].set_index("customer_id")
    mine = [name for name in wide.columns if name.startswith(TASTE.name)]
    assert mine == [f"{TASTE.name}_{name}" for name in ("top_1", "top_2", "top_3", "top_new_1")]
    assert len(wide) == 200
    published: dict[str, list] = {customer: [] for customer in wide.index}
    for row in rows[rows["status"] == "scored"].sort_values("rank").itertuples():
        published[row.customer_id].append(row)
    for customer, shown in wide[mine].iterrows():
        tops = [row.category for row in published[customer] if row.rank <= 3]
        new = [row.category for row in published[customer] if row.is_new]
        expected = [*tops, *[None] * (3 - len(tops)), new[0] if new else None]
        assert [value if isinstance(value, str) else None for value in shown] == expected
    assert wide[mine].isna().all(axis=1).sum() == (rows["status"] != "scored").sum() > 0


def test_each_customer_has_four_categories_and_the_two_likeliest_that_were_never_bought(rows):
    bought = {
        customer: {name for name, count in zip(made.tastes().categories["category"].to_pylist(), counts, strict=True) if count}
        for customer, counts in zip(made.tastes().tastes["customer_id"].to_pylist(), made.tastes().counts_before(END), strict=True)
    }
    for customer, published in rows[rows["status"] == "scored"].groupby("customer_id"):
        assert published["rank"].tolist()[: TASTE.top] == [1, 2, 3, 4]
        assert published["probability"].is_monotonic_decreasing
        new = published[published["is_new"].eq(True)]
        assert set(new["category"]) == set(published["category"]) - bought[customer]
        assert len(new) >= min(TASTE.top_new, 10 - len(bought[customer]))
        assert published[published["rank"] > TASTE.top]["is_new"].all()


def test_the_job_publishes_what_the_champion_from_the_model_store_predicts(nights, events, rows):
    champion = registry(nights[0]).load(TASTE.name, 3)
    given = champion.predict(events, END).to_pandas()
    assert champion.target == TASTE
    for name in ("customer_id", "category", "probability", "affinity_index", "rank", "is_new", "percentile", "band", "not_scored_reason"):
        pd.testing.assert_series_equal(given[name].astype(object).where(given[name].notna(), None),
                                       rows[name].astype(object).where(rows[name].notna(), None))  # fmt: skip


# The stored model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(nights, events):
    """The champion; and what its stored model is asked with: keys and columns as double of everybody's candidates at the last night."""
    champion = registry(nights[0]).load(TASTE.name, 3)
    reading = read_with_past(events, TASTE, [END], champion.features_)
    standing = Standing.of(reading, END, events.zone)
    customer, category = standing.pairs(standing.eligible)
    matrix = standing.matrix(customer, category)
    frame = pd.DataFrame(matrix.astype(np.float64), columns=list(champion.model_.inputs))
    frame.insert(0, "customer_id", pd.Series(reading.customer_id[customer], dtype="str"))
    frame.insert(1, "cutoff", pd.Series([END] * len(frame), dtype="datetime64[us, UTC]"))
    frame.insert(2, "category", pd.Series(np.array(reading.categories, object)[category], dtype="str"))
    return champion, matrix, frame


@pytest.fixture(scope="module")
def served(nights, pairs):
    """The answer of the stored model."""
    store = registry(nights[0])
    with tracking.discreet():
        import mlflow.pyfunc

        where = store._client.get_model_version_download_uri(TASTE.name, "3")
        return mlflow.pyfunc.load_model(where).predict(pairs[2])


def test_the_stored_model_of_an_affinity_answers_keys_and_columns_with_the_predictors_probabilities(pairs, served):
    champion, matrix, frame = pairs
    assert len(frame) > 1000
    assert list(served.columns) == ["customer_id", "cutoff", "category", "score", "probability"]
    pd.testing.assert_frame_equal(served[["customer_id", "category"]], frame[["customer_id", "category"]])
    np.testing.assert_allclose(served["probability"], champion.probability(matrix), rtol=1e-12, atol=0)


def test_the_stored_model_of_an_affinity_gives_the_published_probabilities(served, rows):
    published = rows[rows["status"] == "scored"]
    answered = published.merge(served, on=["customer_id", "category"], validate="one_to_one", suffixes=("", "_served"))
    assert len(answered) == len(published)
    np.testing.assert_allclose(answered["probability"], answered["probability_served"], rtol=1e-12, atol=0)


def test_no_customer_of_an_affinity_reaches_the_model_store(nights):
    folder = nights[0]
    files = [folder / "mlflow.db", *(path for path in (folder / "mlartifacts").rglob("*") if path.is_file())]
    assert len(files) > 10
    assert not [path.name for path in files if b"c0000" in path.read_bytes()]


# One of two fails ---------------------------------------------------------------------------------------------------


def test_an_affinity_by_something_that_the_log_lacks_is_skipped_by_name_and_churn_published(nights, events, tmp_path):
    lost = Predictor(Affinity("purchase", "14d", by="famly"), estimator=made.learner())
    result = made.taste_job(tmp_path, of=events, predictors=[lost, made.predictor(STAYING_AWAY)], **stored_in(nights[0])).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("skipped", "unknown_category"), ("published", "")]
    assert "Did you mean 'family'?" in result.outcomes[0].reason
    assert result.exit_code == 4


def test_an_affinity_with_too_few_takers_is_skipped_with_their_number_and_churn_published(nights, tmp_path):
    rows = pl.DataFrame(made.tastes().events)
    gifts = rows.filter(pl.col("event") == "purchase").sample(12, seed=1).with_columns(event=pl.lit("gift"), event_id=-pl.col("event_id"))
    log = EventLog(pl.concat([rows, gifts]), observed=(made.tastes().start, END), category=("department", "family"))
    rare = Predictor(Affinity("gift", "14d", by="family", name="gifts"), estimator=made.learner())
    result = made.taste_job(tmp_path, of=log, predictors=[rare, made.predictor(STAYING_AWAY)], **stored_in(nights[0])).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("skipped", "too_few_positives"), ("published", "")]
    assert 0 < result.outcomes[0].problems[0].count < 25
    assert "pairs of" in result.outcomes[0].reason
    assert made.tables(tmp_path)["runs"].set_index("target").loc["gifts", ["state", "customers"]].tolist() == ["skipped", 0]


def test_a_model_of_an_affinity_whose_files_are_gone_fails_alone(nights, events, tmp_path):
    served_by(tmp_path, nights, version=3, targets=(STAYING_AWAY, TASTE))
    assert made.taste_job(tmp_path, of=events).run(END).exit_code == 0
    for file in (tmp_path / "mlartifacts").rglob("model.txt"):
        if json.loads((file.parent / "specs.json").read_text())["target"]["type"] == "affinity":
            file.unlink()
    result = made.taste_job(tmp_path, of=events).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("failed", "model_unreadable")]
    wide = made.tables(tmp_path)["customer_attributes"]
    assert f"{STAYING_AWAY.name}_probability" in wide
    assert not [name for name in wide if name.startswith(TASTE.name)], "scores that nobody stands for are taken back"


def test_a_model_of_an_affinity_from_another_version_of_the_library_fails_alone(nights, events, tmp_path, monkeypatch):
    from persopredict.affinity import task, training

    served_by(tmp_path, nights, version=3, targets=(STAYING_AWAY, TASTE))
    monkeypatch.setattr(task, "input_names", lambda features: [*training.input_names(features), "one_more"])
    result = made.taste_job(tmp_path, of=events).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("failed", "model_unreadable")]
    assert "another persopredict's" in result.outcomes[1].reason


def test_an_affinity_that_fails_while_it_is_scored_leaves_churn_published(nights, events, tmp_path, monkeypatch):
    from persopredict.errors import EngineError

    def refuse(*_):
        raise EngineError("occasions", "SELECT 1", "out of memory")

    monkeypatch.setattr(PairTask, "scores", refuse)
    result = made.taste_job(tmp_path, of=events, **stored_in(nights[0])).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("failed", "engine_refused")]
    assert result.exit_code == 4
