"""The nightly job as the specification: what it trains, what it publishes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from persopredict import hindsight
from persopredict.errors import DataError, EngineError, NotReadyError, SpecificationError, WarehouseBusyError
from persopredict.events import EventLog
from persopredict.predictor import Predictor
from persopredict.registry import Registry
from persopredict.targets import Churn
from persopredict.warehouse import Warehouse
from persopredict.wording import Wording
from tests import made
from tests.made import CHURN, CONVERSION, END, NIGHTS, RARE

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def events() -> EventLog:
    """One log for all tests: it is read once."""
    return made.events()


@pytest.fixture(scope="module")
def nights(events, tmp_path_factory):
    """Three nights, four weeks apart; the last one run twice. Folder, results, tables after each run, steps of each."""
    folder = tmp_path_factory.mktemp("nights")
    results, seen, steps = [], [], []
    for as_of in (*NIGHTS, NIGHTS[-1]):
        steps.append([])
        results.append(made.job(folder, of=events, progress=steps[-1].append).run(as_of))
        seen.append(made.tables(folder))
    return folder, results, seen, steps


def registry(folder: Path) -> Registry:
    return Registry(f"sqlite:///{folder / 'mlflow.db'}")


def digest(folder: Path) -> dict[str, str]:
    """Every file of the warehouse, by content."""
    files = [path for path in folder.iterdir() if path.name.startswith(("warehouse", "customer_attributes")) and path.suffix != ".lock"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Night after night --------------------------------------------------------------------------------------------------


def test_a_job_run_twice_leaves_the_same_rows(nights):
    _, _, seen, _ = nights
    made.assert_same(seen[2], seen[3])
    assert len(seen[2]["predictive_attributes"]) == 2 * sum(seen[2]["runs"]["customers"]) // 2


def test_a_job_run_twice_does_not_train_again(nights):
    folder, _, _, steps = nights
    assert any("training" in step for step in steps[2])
    assert steps[3] == [
        "reading and checking the events",
        "opening the model store",
        f"{CHURN.name}: scoring",
        f"{CONVERSION.name}: scoring",
        "comparing what was expected with what came",
        "publishing",
    ]
    assert registry(folder).champion(CHURN.name).version == 3


def test_every_night_adds_a_run_of_every_target(nights):
    _, results, seen, _ = nights
    ledger = seen[3]["runs"]
    assert [result.exit_code for result in results] == [0, 0, 0, 0]
    assert ledger[["target", "as_of", "state"]].values.tolist() == [
        [target.name, pd.Timestamp(night), "published"] for target in (CHURN, CONVERSION) for night in NIGHTS
    ]
    assert ledger["grade"].isin(["A", "B", "C"]).all()
    assert (ledger["trained_until"] == ledger["as_of"]).all()


def test_the_wide_table_holds_the_latest_night_and_the_band_before(nights):
    _, _, seen, _ = nights
    rows = seen[3]["predictive_attributes"]
    bands = {night: rows[(rows["target"] == CHURN.name) & (rows["as_of"] == night)].set_index("customer_id")["band"] for night in NIGHTS}
    wide = seen[3]["customer_attributes"].set_index("customer_id")
    latest, before = bands[NIGHTS[2]], bands[NIGHTS[1]].reindex(bands[NIGHTS[2]].index)
    pd.testing.assert_series_equal(wide.loc[latest.index, f"{CHURN.name}_band"], latest, check_names=False)
    pd.testing.assert_series_equal(wide.loc[latest.index, f"{CHURN.name}_previous_band"], before, check_names=False)
    assert (latest.dropna() != before.reindex(latest.dropna().index)).any()


def test_the_same_recipe_is_retrained_when_due_and_promoted(nights):
    _, results, _, _ = nights
    assert [result.outcomes[0].model_version for result in results] == ["1", "2", "3", "3"]
    assert "version 2 is the new champion: same recipe" in results[1].outcomes[0].notes[-1]
    assert results[3].outcomes[0].notes == ()


def test_a_model_is_not_retrained_before_it_is_due(nights, events):
    folder, _, _, _ = nights
    steps: list[str] = []
    later = EventLog(made.frame(), observed=(made.log().start, END + 2 * DAY))
    made.job(folder, of=later, targets=(CHURN,), progress=steps.append, warehouse=folder / "later" / "warehouse.duckdb",
             tracking=f"sqlite:///{folder / 'mlflow.db'}").run(END + DAY)  # fmt: skip
    assert not any("training" in step for step in steps)


def test_words_for_a_feature_that_no_target_has_are_told_once_and_stop_nothing(nights, events, tmp_path):
    labels = {"recency_all": "not seen for {value} days", "recency_al": "away", "occasions": "taken"}
    result = made.job(nights[0], of=events, warehouse=tmp_path / "warehouse.duckdb",
                      tracking=f"sqlite:///{nights[0] / 'mlflow.db'}", wording=Wording(labels=labels)).score(END)  # fmt: skip
    assert [outcome.state for outcome in result.outcomes] == ["published", "published"]
    notes = [line for line in str(result).splitlines() if line.startswith("Note: ")]
    assert notes == [
        "Note: a label of 'recency_al', which is no feature; did you mean 'recency_all'?",
        "Note: a label of 'occasions', which is no feature; there are: 'count_28d', 'recency_all', 'sum_value_91d'.",
    ]
    for outcome in result.outcomes:
        said = {reason["feature"]: reason["label"] for reasons in outcome.attributes["reasons"].dropna() for reason in reasons}
        assert said["recency_all"].startswith("not seen for ")


# Expected against actual --------------------------------------------------------------------------------------------


def test_a_night_whose_labels_have_ended_is_compared_with_what_came(nights, events):
    folder, _, seen, _ = nights
    outcomes = seen[3]["outcomes"]
    keys = [[target.name, pd.Timestamp(night)] for target in (CHURN, CONVERSION) for night in NIGHTS[:2]]
    assert outcomes[["target", "as_of"]].values.tolist() == keys
    assert (outcomes["settled_at"] == outcomes["as_of"] + 28 * DAY).all()
    assert (outcomes["ended_at"] == outcomes["settled_at"]).all()
    rows = pl.DataFrame(made.log().events)
    for line in outcomes.to_dict("records"):
        event = {CHURN.name: CHURN.event, CONVERSION.name: CONVERSION.event}[line["target"]]
        came = rows.filter((pl.col("event") == event) & pl.col("event_at").is_between(line["as_of"], line["ended_at"], closed="left"))
        published = Warehouse(folder / "warehouse.duckdb").attributes(line["target"], line["as_of"]).dropna(subset="probability")
        with_event = published["customer_id"].isin(set(came["customer_id"]))
        y = ~with_event if line["target"] == CHURN.name else with_event
        assert (line["customers"], line["rows"], line["actual"]) == (len(y), len(y), y.sum())
        assert line["expected"] == pytest.approx(published["probability"].sum())
        assert line["lower"] < line["expected"] < line["upper"]
        assert line["auc"] == pytest.approx(roc_auc_score(y, published["probability"]))
        assert line["log_loss"] == pytest.approx(log_loss(y, published["probability"]))
        assert line["base_rate_log_loss"] == pytest.approx(log_loss(y, [y.mean()] * len(y)))


def test_what_came_of_earlier_nights_is_told_beside_the_new_scores(nights):
    _, results, seen, _ = nights
    assert [len(result.outcomes[0].trend) for result in results] == [0, 1, 2, 2]
    text = results[2].outcomes[0].text()
    for line in seen[2]["outcomes"].query("target == @CHURN.name").to_dict("records"):
        (told,) = [told for told in text.splitlines() if told.strip().startswith(f"scores of {line['as_of']:%Y-%m-%d}")]
        counts = [f"{line['expected']:,.0f}", f"{line['lower']:,}", "to", f"{line['upper']:,}", f"{line['actual']:,}"]
        assert told.split()[3:] == [
            *counts, f"{line['auc']:.3f}", f"{line['log_loss']:.4f}", f"{line['base_rate_log_loss']:.4f}", f"{line['ece']:.3f}",
        ]  # fmt: skip
    assert "what came of" not in results[0].outcomes[0].text()


@pytest.fixture
def served(nights, tmp_path):
    """A folder with its own warehouse and the champions of another night."""
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    store = registry(nights[0])
    made_ = Registry(tracking).register(store.load(CHURN.name, 1), name=CHURN.name, fingerprint="the same")
    Registry(tracking).promote(CHURN.name, made_.version)
    return tmp_path


def test_another_projects_model_of_the_same_name_serves_nobody(nights, tmp_path):
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    theirs = Registry(tracking, "theirs").register(registry(nights[0]).load(CHURN.name, 1), name=CHURN.name, fingerprint="the same")
    Registry(tracking, "theirs").promote(CHURN.name, theirs.version)
    (outcome,) = made.job(tmp_path, targets=(CHURN,)).score(NIGHTS[0]).outcomes
    assert (outcome.state, outcome.code) == ("failed", "other_project")
    assert "is of the project 'theirs', not of 'persopredict'. Name the target otherwise" in outcome.reason
    job = made.job(tmp_path, targets=(CHURN,))
    job.project = "theirs"
    assert job.score(NIGHTS[0]).outcomes[0].state == "published"


def test_more_than_expected_is_warned_of_in_text_and_log_and_more_loudly_the_second_time(served, caplog):
    """From the day of the first scores on, nobody buys any more: all have churned."""
    rows = made.frame().filter((pl.col("event") != "purchase") | (pl.col("event_at") < NIGHTS[0]) | (pl.col("customer_id") == "c0000001"))
    gone = EventLog(rows, observed=(made.log().start, END))
    outcomes = []
    for night in NIGHTS:
        caplog.clear()
        outcomes += made.job(served, of=gone, targets=(CHURN,)).score(night).outcomes
    first, second = (outcome.trend[-1] for outcome in outcomes[1:])
    assert (first.surprise, second.surprise) == (1, 1)
    assert "warning" not in outcomes[0].text()
    said = f"more came than the scores of {NIGHTS[0]:%Y-%m-%d} said: {first.actual} for {first.expected:.0f} expected"
    assert f"\n  warning: {said}" in outcomes[1].text()
    assert "retrain, or look at the log" in outcomes[1].text()
    assert "2 runs in a row. The probabilities are wrong: retrain" in outcomes[2].text()
    assert "2 runs in a row" in caplog.text
    assert "c0000001" not in caplog.text


def test_a_target_defined_otherwise_since_is_not_compared_with_what_it_asks_now(nights, events, tmp_path):
    folder = nights[0]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock"))
    store = {"tracking": f"sqlite:///{folder / 'mlflow.db'}"}
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("DELETE FROM outcomes")
    anew = Churn("purchase", "14d", name=CHURN.name)
    job = made.job(tmp_path, of=events, predictors=[made.predictor(anew), made.predictor(CONVERSION)], **store)
    assert job.score(END).exit_code == 4
    assert set(made.tables(tmp_path)["outcomes"]["target"]) == {CONVERSION.name}


def test_a_comparison_that_fails_does_not_keep_the_scores_back(nights, events, tmp_path, monkeypatch):
    shutil.copytree(nights[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock"))
    before = made.tables(tmp_path)

    def refuse(*_):
        raise EngineError("labels", "SELECT 1", "out of memory")

    monkeypatch.setattr(hindsight, "labels_of", refuse)
    result = made.job(tmp_path, of=events, tracking=f"sqlite:///{nights[0] / 'mlflow.db'}").run(END)
    assert result.exit_code == 0
    assert result.outcomes[0].notes[-1] == "what was expected could not be compared with what came: step 'labels' failed"
    made.assert_same(made.tables(tmp_path), before)


# Grades -------------------------------------------------------------------------------------------------------------


def poor() -> Predictor:
    """What says nearly the same of everybody is not better than a rule."""
    return made.predictor(CHURN, n_estimators=1, learning_rate=0.0001)


@pytest.fixture(scope="module")
def refused(events, tmp_path_factory):
    """A night whose only model is graded C, then the same again: results and steps, and the folder."""
    folder = tmp_path_factory.mktemp("refused")
    steps = [[], []]
    results = [made.job(folder, of=events, predictors=[poor()], min_grade="B", progress=each.append).run(NIGHTS[1]) for each in steps]
    return results, steps, folder


def test_a_first_model_of_too_low_a_grade_does_not_serve_and_says_why(refused):
    results, _, folder = refused
    outcome = results[0].outcomes[0]
    assert (results[0].exit_code, outcome.state, outcome.code) == (3, "skipped", "grade_too_low")
    assert "version 1 has grade C, and B is the least that may serve. Not better than the best baseline: log-loss " in outcome.reason
    assert 'min_grade = "C" under [job]' in outcome.reason
    assert (registry(folder).champion(CHURN.name), registry(folder).challenger(CHURN.name).version) == (None, 1)
    assert digest(folder) == {}


def test_a_model_of_too_low_a_grade_is_not_trained_again_every_night_and_the_reason_stays(refused):
    results, steps, _ = refused
    assert any("training" in step for step in steps[0])
    assert not any("training" in step for step in steps[1])
    assert results[1].outcomes[0].reason == results[0].outcomes[0].reason


def test_scoring_without_training_says_that_the_grade_is_too_low(refused, events):
    result = made.job(refused[2], of=events, predictors=[poor()], min_grade="B").score(NIGHTS[2])
    assert (result.exit_code, result.outcomes[0].code) == (3, "grade_too_low")


def test_a_target_whose_grade_is_too_low_is_skipped_and_the_others_published(refused, events, tmp_path):
    """Of the others one was champion before anybody asked for a grade."""
    tracking = f"sqlite:///{refused[2] / 'mlflow.db'}"
    store = Registry(tracking)
    fitted = made.predictor(CONVERSION, n_estimators=1, learning_rate=0.0001).fit(events, NIGHTS[1])
    assert fitted.evaluation_.grade == "C"
    store.promote(CONVERSION.name, store.register(fitted, name=CONVERSION.name, fingerprint="the same").version)
    predictors = [poor(), made.predictor(CONVERSION, n_estimators=1, learning_rate=0.0001)]
    result = made.job(tmp_path, of=events, predictors=predictors, tracking=tracking, min_grade="B").run(NIGHTS[1])
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("skipped", "grade_too_low"), ("published", "")]
    assert result.exit_code == 4
    assert made.tables(tmp_path)["runs"].set_index("target").loc[CHURN.name, "code"] == "grade_too_low"


def test_the_champion_goes_on_where_the_challenger_s_grade_is_too_low(events, tmp_path):
    made.job(tmp_path, of=events, predictors=[poor()]).run(NIGHTS[1])
    result = made.job(tmp_path, of=events, predictors=[poor()], min_grade="B").run(NIGHTS[2])
    outcome = result.outcomes[0]
    assert (result.exit_code, outcome.model_version, outcome.grade) == (0, "1", "C")
    assert outcome.notes[-1].startswith("version 2 stays challenger: grade C, and B is the least that may serve. Not better than")


def test_a_model_that_waited_for_its_grade_alone_serves_where_the_configuration_says_so(events, tmp_path):
    assert made.job(tmp_path, of=events, predictors=[poor()], min_grade="B").run(NIGHTS[1]).exit_code == 3
    result = made.job(tmp_path, of=events, predictors=[poor()], min_grade="C").run(NIGHTS[1])
    assert (result.exit_code, result.outcomes[0].grade, result.outcomes[0].model_version) == (0, "C", "2")


def test_a_grade_that_there_is_not_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(SpecificationError, match=r"min_grade: there is no grade 'D'. Remedy: there are: 'A', 'B', 'C'"):
        made.job(tmp_path, min_grade="D")


# Champion and challenger --------------------------------------------------------------------------------------------


def test_a_worse_recipe_stays_challenger_and_is_not_trained_every_night(events, tmp_path):
    made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[1])
    worse = made.predictor(CHURN, n_estimators=1, learning_rate=0.001)
    steps: list[str] = []
    result = made.job(tmp_path, of=events, predictors=[worse], progress=steps.append).run(NIGHTS[2])
    outcome = result.outcomes[0]
    assert (result.exit_code, outcome.model_version, outcome.trained_until) == (0, "1", NIGHTS[1])
    assert "version 2 stays challenger: new recipe, log-loss higher by" in outcome.notes[-1]
    assert registry(tmp_path).challenger(CHURN.name).version == 2
    steps.clear()
    made.job(tmp_path, of=events, predictors=[worse], progress=steps.append).run(NIGHTS[2])
    assert not any("training" in step for step in steps)


def test_a_better_recipe_becomes_champion(events, tmp_path):
    made.job(tmp_path, of=events, predictors=[made.predictor(CHURN, n_estimators=1, learning_rate=0.001)]).run(NIGHTS[1])
    result = made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[2])
    assert result.outcomes[0].model_version == "2"
    assert "the whole interval is better" in result.outcomes[0].notes[-1]


def test_a_new_recipe_with_nothing_to_compare_on_waits(events, tmp_path):
    made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[2])
    result = made.job(tmp_path, of=events, predictors=[made.predictor(CHURN, n_estimators=30)]).train(NIGHTS[2])
    assert (result.outcomes[0].state, result.outcomes[0].model_version) == ("trained", "1")
    assert "has to prove itself" in result.outcomes[0].notes[-1]


def test_a_model_that_knows_less_does_not_replace_the_champion(nights, events, tmp_path):
    made.job(tmp_path, of=events, targets=(CHURN,)).train(NIGHTS[2])
    result = made.job(tmp_path, of=events, targets=(CHURN,)).train(NIGHTS[1])
    assert result.outcomes[0].model_version == "1"
    assert "it knows less than the champion" in result.outcomes[0].notes[-1]


def test_without_data_to_train_again_the_champion_serves(events, tmp_path):
    made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[1])
    only_ends = made.predictor(CHURN)
    only_ends.cutoffs = (NIGHTS[1],)
    result = made.job(tmp_path, of=events, predictors=[only_ends]).run(NIGHTS[2])
    outcome = result.outcomes[0]
    assert (result.exit_code, outcome.state, outcome.model_version) == (0, "published", "1")
    assert outcome.notes[0].startswith("not trained again: 1 cutoffs have labels that ended by 2024-10-27")


def test_a_fitted_predictor_serves_as_a_recipe(events, tmp_path):
    fitted = made.predictor(CHURN).fit(events, NIGHTS[1])
    result = made.job(tmp_path, of=events, predictors=[fitted]).run(NIGHTS[2])
    assert result.outcomes[0].trained_until == NIGHTS[2]
    assert fitted.trained_until_ == NIGHTS[1]


# Earlier times ------------------------------------------------------------------------------------------------------


def test_a_night_is_run_again_with_the_version_that_served_it(nights, events):
    folder, _, seen, _ = nights
    steps: list[str] = []
    result = made.job(folder, of=events, progress=steps.append).run(NIGHTS[0])
    assert result.exit_code == 0
    assert result.outcomes[0].notes == ("scored by version 1, which served at that time; the champion is version 3",)
    assert not any("training" in step for step in steps)
    made.assert_same(seen[3], made.tables(folder))


def test_a_time_before_the_champion_was_trained_is_not_scored(nights, events):
    folder, _, seen, _ = nights
    result = made.job(folder, of=events).run(NIGHTS[0] - DAY)
    assert result.exit_code == 3
    assert {outcome.code for outcome in result.outcomes} == {"in_sample"}
    assert "2024-08-31 lies before 2024-10-27, until when the champion was trained" in result.outcomes[0].reason
    made.assert_same(seen[3], made.tables(folder))


# What can't be done -------------------------------------------------------------------------------------------------


def test_a_target_with_too_little_data_is_skipped_with_its_counts_and_the_others_published(tmp_path):
    rare = made.predictor(RARE)
    rare.cutoffs = tuple(END - 28 * number * DAY for number in (4, 3, 2, 1))  # The gifts lie in the label of one of them.
    result = made.job(tmp_path, of=made.events(rare=True), predictors=[rare, made.predictor(CHURN)]).run(END)
    skipped, published = result.outcomes
    assert (result.exit_code, skipped.state, skipped.code, published.state) == (4, "skipped", "too_few_positives", "published")
    assert "labelled snapshots are with the outcome, 25 are the least" in skipped.reason
    assert skipped.problems[0].count == 3
    ledger = made.tables(tmp_path)["runs"].set_index("target")
    assert ledger.loc[RARE.name, ["state", "code", "customers"]].tolist() == ["skipped", "too_few_positives", 0]
    assert ledger.loc[RARE.name, "reason"] == skipped.reason
    assert f"Published: {CHURN.name}. Skipped: {RARE.name}." in str(result)


def test_with_every_target_skipped_nothing_is_published(tmp_path):
    result = made.job(tmp_path, of=made.events(rare=True), targets=(RARE,)).run(END)
    assert (result.exit_code, result.outcomes[0].code) == (3, "too_few_positives")
    assert digest(tmp_path) == {}
    assert "Nothing was published." in str(result)


def test_a_target_of_an_unknown_event_is_skipped_by_name_and_the_others_published(events, tmp_path):
    result = made.job(tmp_path, of=events, targets=(Churn("purchse", "28d"), CHURN)).run(END)
    assert (result.exit_code, result.outcomes[0].code) == (4, "unknown_event")
    assert "Did you mean 'purchase'?" in result.outcomes[0].reason


def test_an_event_that_the_log_has_lost_does_not_unset_everybody(nights, tmp_path):
    folder, _, _, _ = nights
    lost = EventLog(made.frame().filter(pl.col("event") != "conversion"), observed=(made.log().start, END + DAY))
    here = {"warehouse": tmp_path / "warehouse.duckdb", "tracking": f"sqlite:///{folder / 'mlflow.db'}"}
    result = made.job(tmp_path, of=lost, **here).run(END + DAY)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("skipped", "unknown_event")]


def test_scoring_without_a_champion_says_to_train(events, tmp_path):
    result = made.job(tmp_path, of=events).score(END)
    assert (result.exit_code, result.outcomes[0].code) == (3, "no_model")
    assert "persopredict train" in result.outcomes[0].reason


def test_a_stale_source_stops_the_job_and_leaves_the_warehouse_alone(nights, events, tmp_path):
    with pytest.raises(
        NotReadyError, match=r"older than 3d(.|\n)*stale_source \[events\](.|\n)*stopped 4 days before 2024-10-31"
    ) as caught:
        made.job(tmp_path, of=events).run(END + 4 * DAY)
    assert caught.value.exit_code == 3
    assert digest(tmp_path) == {}
    folder = nights[0]
    before = digest(folder)
    with pytest.raises(NotReadyError):
        made.job(folder, of=events).run(END + 4 * DAY)
    assert digest(folder) == before


def test_events_are_fresh_enough_up_to_the_limit(nights, events, tmp_path):
    tracking = f"sqlite:///{nights[0] / 'mlflow.db'}"
    assert made.job(tmp_path, of=events, tracking=tracking).score(END + 3 * DAY).exit_code == 0


def test_a_model_whose_files_are_gone_fails_alone(events, tmp_path):
    made.job(tmp_path, of=events).run(END)
    for file in (tmp_path / "mlartifacts").rglob("model.txt"):
        if CONVERSION.event in (file.parent / "specs.json").read_text().split('"horizon"')[0]:
            file.unlink()
    result = made.job(tmp_path, of=events).run(END)
    assert [(outcome.state, outcome.code) for outcome in result.outcomes] == [("published", ""), ("failed", "model_unreadable")]
    assert result.exit_code == 4
    assert made.tables(tmp_path)["runs"]["state"].tolist() == ["published", "failed"]
    assert made.job(tmp_path, of=events, targets=(CONVERSION,)).run(END).exit_code == 1
    trained = made.job(tmp_path, of=events, targets=(CONVERSION,)).train(END)
    assert trained.outcomes[0].notes[-1] == "version 2 is the new champion: version 1 can't be read any more"


def test_a_log_that_cannot_be_used_stops_everything_with_all_its_problems(tmp_path):
    nothing = EventLog(pl.DataFrame({"customer_id": [None, " "], "event_at": ["2024-01-01", "2024-01-02"], "event": ["purchase"] * 2}))
    with pytest.raises(DataError):
        made.job(tmp_path, of=nothing).run(END)
    assert digest(tmp_path) == {}


# What is refused before anything is read ----------------------------------------------------------------------------


def test_an_estimator_that_cannot_be_kept_is_refused_before_the_training(events, tmp_path):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    own = made.predictor(CHURN)
    own.estimator = make_pipeline(SimpleImputer(), LogisticRegression())
    with pytest.raises(SpecificationError, match=r"estimator_not_kept \[churn_purchase_28d\]: a job keeps LightGBM models, got a Pipeline"):
        made.job(tmp_path, of=events, predictors=[own])


def test_all_that_is_wrong_with_the_predictors_is_said_at_once(events, tmp_path):
    targets = (
        CHURN,
        Churn("purchase", "7d", name=CHURN.name),
        Churn("purchase", "7d", name="churn"),
        Churn("purchase", "7d", name="churn_previous"),
    )
    with pytest.raises(SpecificationError) as caught:
        made.job(tmp_path, of=events, targets=targets)
    assert [problem.code for problem in caught.value.problems] == ["two_of_one_name", "same_column"]


def test_a_folder_that_is_not_ours_is_refused_before_the_training(events, tmp_path):
    pd.DataFrame({"theirs": [1]}).to_parquet(tmp_path / "customer_attributes.parquet")
    steps: list[str] = []
    with pytest.raises(DataError, match="is not persopredict's"):
        made.job(tmp_path, of=events, progress=steps.append).run(END)
    assert steps == []


# What is published --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """A log of which five rows can't be used, as Polars; the job's folder and result."""
    folder = tmp_path_factory.mktemp("dirty")
    rows = made.frame().with_row_index("row")
    rows = rows.with_columns(
        customer_id=pl.when(pl.col("row").is_in([3, 5])).then(None).when(pl.col("row") == 7).then(pl.lit("  ")).otherwise("customer_id"),
        event_at=pl.when(~pl.col("row").is_in([11, 13])).then("event_at"),
    )
    of = EventLog(rows, observed=(made.log().start, END), name="shop")
    return folder, of, made.job(folder, of=of, targets=(CHURN,)).run(END)


def test_rows_that_cannot_be_used_are_published_with_the_reason(dirty):
    folder, _, result = dirty
    rows = Warehouse(folder / "warehouse.duckdb").sql("SELECT source, code, count(*) AS rows FROM quarantine GROUP BY ALL ORDER BY code")
    assert rows.values.tolist() == [["shop", "blank_customer_id", 1], ["shop", "null_customer_id", 2], ["shop", "null_event_at", 2]]
    reasons = "1 blank_customer_id, 2 null_customer_id, 2 null_event_at."
    assert f"5 of 18,756 rows could not be used and are in the table quarantine: {reasons}" in str(result)


def test_the_job_publishes_what_predict_gives(dirty):
    folder, of, _ = dirty
    served = registry(folder).load(CHURN.name, 1)
    given = served.predict(of, END)
    assert isinstance(given, pl.DataFrame)
    published = Warehouse(folder / "warehouse.duckdb").attributes(CHURN.name)
    for column in ("customer_id", "probability", "percentile", "band", "status", "not_scored_reason"):
        assert given[column].to_list() == [None if value is pd.NA or value != value else value for value in published[column]]


def test_customers_are_counted_by_status(dirty):
    _, _, result = dirty
    outcome = result.outcomes[0]
    frame = outcome.attributes
    assert outcome.counts["scored"] == int(frame["probability"].notna().sum())
    assert sum(outcome.counts.values()) == len(frame) == result.report.customers
    assert next(iter(outcome.counts)) == "scored"


def test_the_result_shows_each_model_beside_its_baselines(dirty):
    _, _, result = dirty
    text = str(result)
    pooled = result.outcomes[0].evaluation.pooled
    assert text.startswith("As of 2024-10-27 (UTC): 18,751 events of 500 customers.")
    for name, metrics in pooled.predictors().items():
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{name} "))
        assert line.split()[1:] == [
            f"{metrics.auc:.3f}", f"{metrics.average_precision:.3f}", f"{metrics.log_loss:.4f}", f"{metrics.brier:.4f}",
            f"{metrics.ece:.4f}", "<", f"{metrics.ece_chance_p95:.4f}", f"{metrics.lift_top_decile:.2f}",
        ]  # fmt: skip
    assert f"published, grade {result.outcomes[0].grade}" in text


def test_no_customer_is_named_in_text_or_model_store(dirty):
    folder, _, result = dirty
    assert "c0000" not in str(result)
    files = [folder / "mlflow.db", *(path for path in (folder / "mlartifacts").rglob("*") if path.is_file())]
    assert not [path.name for path in files if b"c0000" in path.read_bytes()]


def test_old_history_is_forgotten(events, tmp_path):
    made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[1])
    made.job(tmp_path, of=events, targets=(CHURN,), keep="7d").run(NIGHTS[2])
    assert made.tables(tmp_path)["runs"]["as_of"].tolist() == [pd.Timestamp(NIGHTS[2])]


# One at a time ------------------------------------------------------------------------------------------------------

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
print("held", flush=True)
sys.stdin.read()
"""
LOCK = """
import os, sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
open(sys.argv[1], "w").write(str(os.getpid()))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """A process that holds something until the test is over."""
    started = []

    def start(code: str, path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_a_reader_that_stays_is_named_and_the_trained_model_kept(events, tmp_path, holder, caplog):
    file = tmp_path / "warehouse.duckdb"
    made.job(tmp_path, of=events, targets=(CHURN,)).run(NIGHTS[1])
    before = made.tables(tmp_path)
    reader = holder(HOLD, file)
    with pytest.raises(WarehouseBusyError, match=rf"PID {reader.pid}(.|\n)*the models are kept") as caught:
        made.job(tmp_path, of=events, targets=(CHURN,), warehouse=Warehouse(file, wait=0.2)).run(NIGHTS[2])
    assert caught.value.exit_code == 1
    assert f"publishing will have to wait: {file} was in use" in caplog.text
    reader.kill()
    reader.wait()
    made.assert_same(before, made.tables(tmp_path))
    steps: list[str] = []
    result = made.job(tmp_path, of=events, targets=(CHURN,), progress=steps.append).run(NIGHTS[2])
    assert (result.exit_code, result.outcomes[0].model_version) == (0, "2")
    assert not any("training" in step for step in steps)


def test_a_reader_that_leaves_is_waited_for(nights, events, tmp_path, holder):
    tracking = f"sqlite:///{nights[0] / 'mlflow.db'}"
    made.job(tmp_path, of=events, targets=(CHURN,), tracking=tracking).run(END)
    reader = holder(HOLD, tmp_path / "warehouse.duckdb")
    threading.Timer(1.0, reader.stdin.close).start()
    assert made.job(tmp_path, of=events, targets=(CHURN,), tracking=tracking).run(END + DAY).exit_code == 0


def test_a_second_job_is_refused_naming_the_first(events, tmp_path, holder):
    first = holder(LOCK, tmp_path / "warehouse.job.lock")
    steps: list[str] = []
    second = made.job(tmp_path, of=events, warehouse=Warehouse(tmp_path / "warehouse.duckdb", wait=0.2), progress=steps.append)
    with pytest.raises(WarehouseBusyError, match=rf"another job \(process {first.pid}\) works on"):
        second.run(END)
    assert steps == []


def test_a_lock_file_left_by_a_dead_process_does_not_block(nights, events, tmp_path, holder):
    dead = holder(LOCK, tmp_path / "warehouse.job.lock")
    dead.kill()
    dead.wait()
    assert (tmp_path / "warehouse.job.lock").read_text() == str(dead.pid)
    tracking = f"sqlite:///{nights[0] / 'mlflow.db'}"
    impatient = Warehouse(tmp_path / "warehouse.duckdb", wait=0)
    assert made.job(tmp_path, of=events, targets=(CHURN,), tracking=tracking, warehouse=impatient).run(END).exit_code == 0


# From the command line ----------------------------------------------------------------------------------------------

CONFIG = """
[project]
name = "shop"
[[events]]
path = "events.csv"
observed = ["2024-01-01", "2024-10-27"]
[events.columns]
customer_id = "client"
event_at = "at"
event = "what"
value = "amount"
[job]
min_grade = "C"
[warehouse]
url = "warehouse.duckdb"
[targets.churn_purchase_28d]
type = "churn"
event = "purchase"
horizon = "28d"
lightgbm = { n_estimators = 5, num_leaves = 7 }
"""
GIFTS = """
[targets.conversion_gift_28d]
type = "conversion"
event = "gift"
horizon = "28d"
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", "from persopredict.cli import main; main()", *arguments]
    return subprocess.run(
        start, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_the_command_publishes_then_skips_then_refuses(tmp_path):
    names = {"customer_id": "client", "event_at": "at", "event": "what", "value": "amount"}
    made.frame(rare=True).filter(pl.col("customer_id") <= "c0000200").select(*names).rename(names).write_csv(tmp_path / "events.csv")
    (tmp_path / "persopredict.toml").write_text(CONFIG)

    done = command(tmp_path, "run", "--as-of", "2024-10-27")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Published: churn_purchase_28d." in done.stdout
    assert "best_rule" in done.stdout

    (tmp_path / "persopredict.toml").write_text(CONFIG + GIFTS)
    done = command(tmp_path, "run", "--as-of", "2024-10-27")
    assert done.returncode == 4
    assert "Published: churn_purchase_28d. Skipped: conversion_gift_28d." in done.stdout
    assert "conversion_gift_28d: skipped (too_few_positives)" in done.stdout

    before = digest(tmp_path)
    done = command(tmp_path, "run", "--as-of", "2024-11-05")
    assert (done.returncode, done.stdout, digest(tmp_path)) == (3, "", before)
    assert "nothing was published for 2024-11-05" in done.stderr
    assert "stopped 9 days before 2024-11-05" in done.stderr
