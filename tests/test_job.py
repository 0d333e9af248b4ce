"""The nightly job as the specification: what it trains, what it publishes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from persopredict.errors import DataError, NotReadyError, SpecificationError, WarehouseBusyError
from persopredict.events import EventLog
from persopredict.registry import Registry
from persopredict.targets import Churn
from persopredict.warehouse import Warehouse
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
            f"{metrics.ece:.3f}", f"{metrics.lift_top_decile:.2f}",
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
