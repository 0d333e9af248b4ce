"""The registry: what a version holds, who is champion, and what happens when MLflow, its store or the process fails."""

import json
import logging
import math
import os
import pickletools
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from persopredict import registry as registry_module
from persopredict import scoring_model, tracking
from persopredict.baselines import BaseRate, BestRule
from persopredict.calibration import Calibrator
from persopredict.errors import ConfigurationError, PersopredictError
from persopredict.evaluation import FoldPredictions, evaluate
from persopredict.features.spec import Feature
from persopredict.kinds import Rivals
from persopredict.predictor import Predictor
from persopredict.ranking_evaluation import rank_evaluate
from persopredict.registry import ModelVersion, Registry
from persopredict.scoring_model import Scorer
from persopredict.targets import Affinity, Churn
from persopredict.times import instant
from tests import folds

FEATURES = (
    Feature("count", window="28d", fallback=0),
    Feature("recency", fallback=None),
    Feature("sum", "value", window="7d", fallback=0),
)
NAMES = [feature.name for feature in FEATURES]
TARGET = Churn("purchase", "28d")
CUTOFFS = [instant("2024-01-01") + timedelta(days=28 * number) for number in range(3)]
NAME = TARGET.name


def rows(count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(count, len(NAMES)))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


def outcomes(values: np.ndarray) -> np.ndarray:
    chance = 1 / (1 + np.exp(-2 * np.nan_to_num(values[:, 0])))
    return (np.random.default_rng(2).random(len(values)) < chance).astype(np.int8)


def fold(cutoff: datetime) -> FoldPredictions:
    values = rows(200)
    y, logit = outcomes(values), np.nan_to_num(values[:, 0])
    probability = Calibrator().apply(logit)
    baselines = {"base_rate": np.full(len(y), y.mean()), "best_rule": np.clip(0.8 * probability, 0.01, 0.99)}
    ids = np.array([f"secret-{number}" for number in range(len(y))], dtype=object)
    return FoldPredictions(cutoff, ids, y, logit, probability, baselines, 300, 150)


def rivals(values: np.ndarray) -> Rivals:
    y = outcomes(values)
    return Rivals(BaseRate.fit(y), BestRule.fit(values[:, :1], NAMES[:1], y), None, ())


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A fitted predictor, put together from the files that `Predictor.save` documents: no log is needed here."""
    folder, values = tmp_path_factory.mktemp("predictor"), rows()
    data = lgb.Dataset(values, outcomes(values), feature_name=NAMES)
    booster = lgb.train({"objective": "binary", "num_leaves": 7, "verbosity": -1, "seed": 3, "num_threads": 1}, data, 20)
    specs = {
        "target": TARGET.to_dict(),
        "features": [feature.to_dict() for feature in FEATURES],
        "cutoffs": [cutoff.isoformat() for cutoff in CUTOFFS],
        "trained_until": "2024-06-01T00:00:00+00:00",
        "rows": len(values),
        "positives": int(outcomes(values).sum()),
        "timezone": "UTC",
        "random_state": 7,
        "calibration": "auto",
        "recipe": "0123456789abcdef",
        "baseline": rivals(values).to_dict(),
        "versions": {"lightgbm": lgb.__version__},
        "evaluation": evaluate([fold(cutoff) for cutoff in CUTOFFS], target=NAME, resamples=200).to_dict(),
    }
    booster.save_model(folder / "model.txt")
    (folder / "calibrator.json").write_text(json.dumps(Calibrator("platt", 0.9, -0.2).to_dict()))
    (folder / "specs.json").write_text(json.dumps(specs))
    return Predictor.load(folder)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    """The folder that the job is started in: not the one of the store."""
    folder, before = tmp_path_factory.mktemp("elsewhere"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "Kundenwerte #1 50% ñ" / "mlflow.db"


@pytest.fixture(scope="module")
def registry(store: Path, elsewhere: Path) -> Registry:
    return Registry(f"sqlite:///{store}")


@pytest.fixture(scope="module")
def version(registry: Registry, predictor: Predictor) -> ModelVersion:
    return registry.register(predictor, name=NAME, fingerprint="f1", tags={"as_of": "2024-06-01"})


@pytest.fixture
def client(registry: Registry):
    with tracking.discreet():
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)


def model_folder(store: Path) -> Path:
    found = sorted((store.parent / "mlartifacts" / "models").iterdir(), key=lambda path: path.stat().st_mtime)
    return found[0] / "artifacts"


def snapshots(values: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=NAMES)
    frame.insert(0, "customer_id", [f"c{number}" for number in range(len(values))])
    frame.insert(1, "cutoff", pd.Series([CUTOFFS[0]] * len(values), dtype="datetime64[us, UTC]"))
    return frame


# What a version holds -------------------------------------------------------------------------------------------------


def test_a_version_is_numbered_and_has_no_alias(version: ModelVersion):
    assert (version.name, version.version, version.alias) == (NAME, 1, None)
    assert version.trained_until == instant("2024-06-01")
    assert version.recipe == "0123456789abcdef"
    assert version.tags["fingerprint"] == "f1"
    assert version.tags["as_of"] == "2024-06-01"


def test_artifacts_lie_beside_the_store_and_nothing_in_the_current_folder(version: ModelVersion, store: Path, elsewhere: Path):
    assert sorted(path.name for path in store.parent.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert (model_folder(store) / "MLmodel").is_file()
    assert list(elsewhere.iterdir()) == []


def test_a_model_is_code_and_text_without_a_pickle(version: ModelVersion, store: Path):
    files = {str(path.relative_to(model_folder(store))): path for path in model_folder(store).rglob("*") if path.is_file()}
    assert {"scoring_model.py", "artifacts/model.txt", "artifacts/calibrator.json", "artifacts/specs.json"} <= set(files)
    for path in files.values():
        path.read_text("utf-8")
        with pytest.raises(ValueError):
            list(pickletools.genops(path.read_bytes()))
    assert "loader_module: mlflow.pyfunc.loaders.code_model" in files["MLmodel"].read_text()


def test_the_signature_has_the_features_as_double(version: ModelVersion, store: Path):
    with tracking.discreet():
        from mlflow.models import Model

        signature = Model.load(str(model_folder(store))).signature
    inputs = {each.name: (str(each.type), each.required) for each in signature.inputs.inputs}
    assert list(inputs) == ["customer_id", "cutoff", *NAMES]
    assert {inputs[name] for name in NAMES} == {("DataType.double", True)}
    assert signature.outputs.input_names() == ["customer_id", "cutoff", "score", "probability"]


def test_a_run_tells_how_the_model_was_made(version: ModelVersion, client, predictor: Predictor):
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {key: run.data.params[key] for key in ("target.event", "target.horizon", "lightgbm.num_leaves", "calibration.kind")} == {
        "target.event": "purchase",
        "target.horizon": "28d",
        "lightgbm.num_leaves": "7",
        "calibration.kind": "platt",
    }
    assert json.loads(run.data.params["cutoffs"]) == [cutoff.isoformat() for cutoff in CUTOFFS]
    assert run.data.params["trees"] == "20"
    assert run.data.tags["fingerprint"] == "f1"
    assert run.data.tags["grade"] == predictor.evaluation_.grade


def test_a_run_holds_the_metrics_beside_those_of_the_baselines(version: ModelVersion, client, predictor: Predictor):
    logged, pooled = client.get_run(version.run_id).data.metrics, predictor.evaluation_.pooled
    assert logged["log_loss"] == pooled.model.log_loss
    assert logged["best_rule_log_loss"] == pooled.baselines["best_rule"].log_loss
    assert logged["base_rate_auc"] == 0.5


def test_the_metrics_of_each_cutoff_are_steps_at_its_time(version: ModelVersion, client, predictor: Predictor):
    history = sorted(client.get_metric_history(version.run_id, "by_cutoff/auc"), key=lambda point: point.step)
    assert [point.step for point in history] == [0, 1, 2]
    assert [datetime.fromtimestamp(point.timestamp / 1000, UTC) for point in history] == CUTOFFS
    assert [point.value for point in history] == [each.model.auc for each in predictor.evaluation_.folds]
    assert len(client.get_metric_history(version.run_id, "by_cutoff/best_rule_log_loss")) == 3


def test_a_metric_without_value_is_left_out(predictor: Predictor):
    from dataclasses import replace

    first = predictor.evaluation_.folds[0]
    blind = replace(predictor.evaluation_, folds=(replace(first, model=replace(first.model, auc=math.nan)),))
    with tracking.discreet():
        keys = {metric.key for metric in registry_module._metrics(blind)}
    assert "by_cutoff/auc" not in keys
    assert "by_cutoff/brier" in keys


def test_no_customer_reaches_the_store(version: ModelVersion, store: Path):
    written = [path for path in store.parent.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [path for path in written if b"secret-" in path.read_bytes()] == []


def test_a_loaded_predictor_answers_as_the_registered_one(version: ModelVersion, registry: Registry, predictor: Predictor):
    loaded = registry.load(NAME, version.version)
    np.testing.assert_array_equal(loaded.probability(rows()), predictor.probability(rows()))
    assert loaded.trained_until_ == predictor.trained_until_
    assert loaded.features_ == predictor.features_


# What a version of an affinity holds -----------------------------------------------------------------------------------

TASTE = Affinity("purchase", "28d", by="department")


class OfPairs:
    """What a registry asks of a fitted predictor, of an affinity: specs that name columns in place of features, lists evaluated."""

    def __init__(self, predictor: Predictor) -> None:
        self.scorer_, self._save = predictor.scorer_, predictor.save
        self.evaluation_ = rank_evaluate([folds.ranked(cutoff) for cutoff in CUTOFFS], target=TASTE.name, resamples=50)

    def save(self, folder: Path) -> None:
        specs = json.loads((self._save(folder) / "specs.json").read_text())
        specs |= {"target": TASTE.to_dict(), "columns": NAMES, "pair_features": NAMES, "evaluation": self.evaluation_.to_dict()}
        (folder / "specs.json").write_text(json.dumps({key: value for key, value in specs.items() if key not in ("features", "baseline")}))


@pytest.fixture(scope="module")
def taste(registry: Registry, predictor: Predictor) -> tuple[OfPairs, ModelVersion]:
    fitted = OfPairs(predictor)
    return fitted, registry.register(fitted, name=TASTE.name, fingerprint="f1")  # type: ignore[arg-type]


def files_in_store(client, name: str) -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(client.get_model_version_download_uri(name, "1")))


def test_the_model_of_an_affinity_is_asked_by_customer_cutoff_and_category(taste: tuple[OfPairs, ModelVersion], client):
    with tracking.discreet():
        from mlflow.models import Model

        signature = Model.load(str(files_in_store(client, TASTE.name))).signature
    assert signature.inputs.input_names() == ["customer_id", "cutoff", "category", *NAMES]
    assert signature.outputs.input_names() == ["customer_id", "cutoff", "category", "score", "probability"]
    stored = Scorer.load(files_in_store(client, TASTE.name) / "artifacts")
    answer = stored.score(snapshots(rows(3)).assign(category=list(folds.CATEGORIES)))
    assert answer["category"].tolist() == list(folds.CATEGORIES)


def test_a_run_of_an_affinity_holds_its_lists_beside_those_of_the_baselines(taste: tuple[OfPairs, ModelVersion], client):
    fitted, version = taste
    run, pooled = client.get_run(version.run_id), fitted.evaluation_.pooled
    assert run.data.metrics["ndcg_at_10"] == pooled.model.all.ndcg_at_10
    assert run.data.metrics["popularity_ndcg_at_10"] == pooled.baselines["popularity"].all.ndcg_at_10
    assert run.data.metrics["log_loss"] == pooled.pairs.model.log_loss
    history = sorted(client.get_metric_history(version.run_id, "by_cutoff/explore_ndcg_at_10"), key=lambda point: point.step)
    assert [datetime.fromtimestamp(point.timestamp / 1000, UTC) for point in history] == CUTOFFS
    assert [point.value for point in history] == [fold.model.explore.ndcg_at_10 for fold in fitted.evaluation_.folds]
    assert {key: run.data.params[key] for key in ("target.by", "target.top", "features")} == {
        "target.by": "department", "target.top": "10", "features": str(len(NAMES)),
    }  # fmt: skip
    assert (run.data.tags["grade"], version.recipe) == (fitted.evaluation_.grade, "0123456789abcdef")


# The stored model -----------------------------------------------------------------------------------------------------

SERVED = """
    import json, sys, warnings

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("persopredict", "duckdb", "sqlglot"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Blocked())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own classes warn while they are imported.
        import mlflow.pyfunc
    warnings.simplefilter("error")
    import pandas as pd

    model = mlflow.pyfunc.load_model(sys.argv[1])
    frame = pd.read_parquet(sys.argv[2])
    answer = model.predict(frame[frame.columns[::-1]].assign(label_churn=1))
    try:
        model.predict(frame.drop(columns=sys.argv[3]))
        refused = ""
    except Exception as error:
        refused = str(error)
    answer.to_parquet(sys.argv[4])
    print(json.dumps({"refused": refused, "imported": sorted(sys.modules)}))
"""


def test_the_stored_model_answers_without_persopredict_and_without_an_engine(
    version: ModelVersion, store: Path, predictor: Predictor, tmp_path: Path, elsewhere: Path
):
    frame = snapshots(rows(50))
    frame.to_parquet(tmp_path / "in.parquet")
    arguments = [model_folder(store), tmp_path / "in.parquet", NAMES[0], tmp_path / "out.parquet"]
    script = [sys.executable, "-I", "-c", textwrap.dedent(SERVED), *map(str, arguments)]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    served = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert served.returncode == 0, served.stderr
    answer, told = pd.read_parquet(tmp_path / "out.parquet"), json.loads(served.stdout)
    assert answer.columns.tolist() == ["customer_id", "cutoff", "score", "probability"]
    pd.testing.assert_frame_equal(answer[["customer_id", "cutoff"]], frame[["customer_id", "cutoff"]], check_dtype=False)
    np.testing.assert_array_equal(answer["score"], predictor.scorer_.logits(rows(50)))
    np.testing.assert_array_equal(answer["probability"], predictor.probability(rows(50)))
    assert f"missing inputs ['{NAMES[0]}']" in told["refused"]
    assert not {"persopredict", "duckdb", "sqlglot"} & set(told["imported"])
    assert list(elsewhere.iterdir()) == []


@pytest.fixture(scope="module")
def scorer(version: ModelVersion, store: Path) -> Scorer:
    return Scorer.load(model_folder(store) / "artifacts")


def files_of(predictor: Predictor) -> tuple[str, dict, dict]:
    specs = {"target": TARGET.to_dict(), "features": [{"name": name} for name in NAMES]}
    return predictor.scorer_.text, {"kind": "none", "slope": 1.0, "intercept": 0.0}, specs


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator(),
        Calibrator("temperature", slope=0.4),
        Calibrator("platt", 1.7, -3.0),
        Calibrator("platt", 100.0, 50.0),
        Calibrator("beta", 1.7, -3.0, 0.3),
        Calibrator("spline", knots=(-30.0, -2.5, 0.1, 30.0), points=(-40.0, -2.0, -1.9, 7.3)),
    ],
)
def test_the_stored_calibration_is_the_calibrators_to_the_last_bit(predictor: Predictor, calibrator: Calibrator):
    model, _, specs = files_of(predictor)
    answer = Scorer(model, calibrator.to_dict(), specs).score(snapshots(rows()))
    np.testing.assert_array_equal(answer["probability"], calibrator.apply(answer["score"]))


def test_order_of_columns_and_further_columns_change_nothing(scorer: Scorer):
    frame = snapshots(rows(20))
    expected = scorer.score(frame)
    pd.testing.assert_frame_equal(scorer.score(frame[frame.columns[::-1]].assign(label_churn=0, note="x")), expected)


def test_a_missing_value_is_kept_and_a_missing_feature_is_named(scorer: Scorer):
    frame = snapshots(np.full((2, len(NAMES)), np.nan))
    assert np.isfinite(scorer.score(frame)["score"]).all()
    with pytest.raises(ValueError, match=f"lack 2 of the model's columns: {NAMES[0]}, {NAMES[2]}"):
        scorer.score(frame.drop(columns=[NAMES[2], NAMES[0]]))


def test_a_feature_that_holds_text_is_named(scorer: Scorer):
    with pytest.raises(ValueError, match=f"1 of the model's features don't hold numbers: {NAMES[1]}"):
        scorer.score(snapshots(rows(2)).assign(**{NAMES[1]: ["a", "b"]}))


def test_whole_numbers_and_nulls_are_read_as_float(scorer: Scorer):
    frame = snapshots(np.array([[1.0, np.nan, 2.0], [3.0, 4.0, 5.0]]))
    typed = frame.assign(**{NAMES[0]: [1, 3], NAMES[1]: pd.array([None, 4], dtype="Int64"), NAMES[2]: [2.0, 5.0]})
    pd.testing.assert_frame_equal(scorer.score(typed), scorer.score(frame))


def test_rows_keep_their_index_and_no_rows_give_no_rows(scorer: Scorer):
    frame = snapshots(rows(3)).set_index(pd.Index([7, 5, 9]))
    assert scorer.score(frame).index.tolist() == [7, 5, 9]
    none = scorer.score(frame.iloc[:0])
    assert none.columns.tolist() == ["customer_id", "cutoff", "score", "probability"]
    assert len(none) == 0


def test_cutoffs_are_read_from_text_as_served_over_http(scorer: Scorer):
    frame = snapshots(rows(2)).assign(cutoff=["2024-01-01T00:00:00+00:00", "2024-01-01T01:00:00+01:00"])
    assert scorer.score(frame)["cutoff"].tolist() == [pd.Timestamp(CUTOFFS[0])] * 2


def test_a_target_by_category_has_the_category_among_its_keys(predictor: Predictor):
    model, calibrator, specs = files_of(predictor)
    by_category = Scorer(model, calibrator, specs | {"target": {"type": "affinity", "by": "department"}})
    answer = by_category.score(snapshots(rows(2)).assign(category=["dairy", "wine"]))
    assert answer["category"].tolist() == ["dairy", "wine"]
    with pytest.raises(ValueError, match="lack 1 of the model's columns: category"):
        by_category.score(snapshots(rows(2)))


def test_the_columns_of_the_specs_name_the_inputs_before_the_features_do(predictor: Predictor):
    model, calibrator, specs = files_of(predictor)
    named = {"target": specs["target"], "columns": NAMES, "pair_features": ["not", "these"]}
    assert scoring_model.columns(named) == tuple(NAMES)
    frame = snapshots(rows(5))
    pd.testing.assert_frame_equal(Scorer(model, calibrator, named).score(frame), Scorer(model, calibrator, specs).score(frame))
    with pytest.raises(ValueError, match="different models; they differ in the order of the features"):
        Scorer(model, calibrator, named | {"columns": NAMES[::-1]})


def test_files_of_different_models_are_refused(predictor: Predictor):
    model, calibrator, specs = files_of(predictor)
    other = specs | {"features": [*specs["features"][:2], {"name": "other"}]}
    with pytest.raises(ValueError, match=f"different models; they differ in other, {NAMES[2]}"):
        Scorer(model, calibrator, other)
    with pytest.raises(ValueError, match="kind 'isotonic'"):
        Scorer(model, calibrator | {"kind": "isotonic"}, specs)


def test_the_stored_code_holds_the_same_bounds_as_the_library():
    from persopredict import calibration

    assert (scoring_model.CLIP, scoring_model.LOGIT_CLIP, scoring_model.KINDS) == (
        calibration.CLIP,
        calibration.LOGIT_CLIP,
        calibration.KINDS,
    )


# Champion and challenger ----------------------------------------------------------------------------------------------


def test_there_is_no_champion_until_one_is_promoted(registry: Registry, predictor: Predictor):
    assert registry.champion("nobody") is None
    registry.register(predictor, name="crowned", fingerprint="f1")
    assert registry.champion("crowned") is None
    registry.promote("crowned", 1)
    champion = registry.champion("crowned")
    assert champion is not None
    assert (champion.version, champion.alias, champion.tags["fingerprint"]) == (1, "champion", "f1")


def test_a_new_version_and_a_challenger_leave_the_champion_alone(registry: Registry, predictor: Predictor):
    registry.register(predictor, name="contested", fingerprint="f1")
    registry.promote("contested", 1)
    second = registry.register(predictor, name="contested", fingerprint="f2")
    assert second.version == 2
    assert registry.challenger("contested") is None
    registry.challenge("contested", 2)
    champion, challenger = registry.champion("contested"), registry.challenger("contested")
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version, challenger.tags["fingerprint"]) == (1, 2, "f2")
    registry.promote("contested", 2)
    assert registry.champion("contested") == ModelVersion("contested", 2, second.run_id, "champion")
    assert registry.challenger("contested") is None


def test_promoting_another_version_keeps_the_challenger(registry: Registry, predictor: Predictor):
    for fingerprint in ("f1", "f2"):
        registry.register(predictor, name="patient", fingerprint=fingerprint)
    registry.challenge("patient", 2)
    registry.promote("patient", 1)
    challenger = registry.challenger("patient")
    assert challenger is not None
    assert challenger.version == 2


@pytest.mark.parametrize("act", ["load", "promote", "challenge"])
@pytest.mark.parametrize(("name", "number"), [(NAME, 99), ("nobody", 1)])
def test_a_version_that_does_not_exist_is_named(registry: Registry, version: ModelVersion, act: str, name: str, number: int):
    with pytest.raises(PersopredictError, match=f"{name}.*version {number}") as raised:
        getattr(registry, act)(name, number)
    assert raised.value.problems[0].code == "tracking_missing"


# Faults ---------------------------------------------------------------------------------------------------------------


class Falling:
    """A predictor whose registration comes to a bad end."""

    def __init__(self, predictor: Predictor, end) -> None:
        self.save, self.scorer_, self.evaluation_ = predictor.save, predictor.scorer_, self
        self.grade = self.grade_reason = "?"
        self.summary = end


def test_a_registration_that_fails_leaves_a_failed_run_and_no_version(registry: Registry, predictor: Predictor, client):
    def fall():
        raise RuntimeError("fallen")

    with pytest.raises(RuntimeError, match="fallen"):
        registry.register(Falling(predictor, fall), name="fallen", fingerprint="f1")
    run = client.search_runs([registry._experiment_id], "attributes.run_name = 'fallen'")[0]
    assert run.info.status == "FAILED"
    assert registry.champion("fallen") is None


def test_files_that_are_gone_are_named(registry: Registry, predictor: Predictor, client):
    registry.register(predictor, name="emptied", fingerprint="f1")
    folder = files_in_store(client, "emptied")
    folder.rename(folder.with_name("moved"))
    with pytest.raises(PersopredictError, match="loading emptied version 1 failed") as raised:
        registry.load("emptied", 1)
    assert raised.value.problems[0].code == "tracking_files_missing"


KILLED = """
    import os, signal, sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(sys.argv[3])))
    from tests import test_registry
    from persopredict.predictor import Predictor
    from persopredict.registry import Registry

    fitted = Predictor.load(sys.argv[2])
    falling = test_registry.Falling(fitted, lambda: os.kill(os.getpid(), signal.SIGKILL))
    Registry(sys.argv[1]).register(falling, name="killed", fingerprint="f1")
"""


def test_a_run_that_was_killed_is_marked_at_the_next_start_and_the_store_goes_on(
    registry: Registry, predictor: Predictor, client, tmp_path: Path
):
    predictor.save(tmp_path / "files")
    arguments = [registry.uri, str(tmp_path / "files"), __file__]
    script = [sys.executable, "-c", textwrap.dedent(KILLED), *arguments]
    assert subprocess.run(script, capture_output=True, timeout=120, check=False).returncode == -signal.SIGKILL
    run = client.search_runs([registry._experiment_id], "attributes.run_name = 'killed'")[0]
    assert run.info.status == "RUNNING"
    assert registry.recover() == (run.info.run_id,)
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    assert registry.recover() == ()
    assert registry.register(predictor, name="killed", fingerprint="f1").version == 1


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("owner", "age", "dead"),
    [
        (None, 100 * 24 * HOUR, False),
        ("this process", 100 * 24 * HOUR, False),
        ("another machine:1:0", 23 * HOUR, False),
        ("another machine:1:0", 25 * HOUR, True),
        (f"{socket.gethostname()}:{os.getpid()}:12345", 0, True),
    ],
    ids=["a run of others", "of a living process", "of a machine far away", "long ago", "of an earlier process with this number"],
)
def test_only_runs_that_can_not_go_on_are_marked(owner: str | None, age: int, dead: bool):
    owner = registry_module._this_process() if owner == "this process" else owner
    assert registry_module._is_dead(owner, int(time.time() * 1000) - age) is dead


def code_of(uri: str) -> str:
    with pytest.raises(PersopredictError) as raised:
        Registry(uri)
    assert raised.value.problems[0].remedy
    return raised.value.problems[0].code


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///mlruns", "sqlite://", "sqlite:///:memory:", "https://", "sqlite:///a%20b/m.db", "sqlite:///m.db?x=1"]
)
def test_a_uri_of_another_kind_is_refused_before_anything_is_written(uri: str, elsewhere: Path):
    with pytest.raises(ConfigurationError, match="is not a tracking uri"):
        Registry(uri)
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_is_no_store_is_refused_and_kept(tmp_path: Path, registry: Registry, store: Path):
    junk, foreign, torn, newer = (tmp_path / f"{name}.db" for name in ("junk", "foreign", "torn", "newer"))
    junk.write_bytes(b"certainly not a database" * 100)
    torn.write_bytes(store.read_bytes()[:200_000])
    newer.write_bytes(store.read_bytes())
    with closing(sqlite3.connect(foreign)) as connection, closing(sqlite3.connect(newer)) as other:
        connection.execute("CREATE TABLE customers (id)")
        connection.commit()
        other.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        other.commit()
    before = {path: path.read_bytes() for path in (junk, foreign, torn, newer)}
    started = time.monotonic()
    assert [code_of(f"sqlite:///{path}") for path in before] == [
        "tracking_corrupt",
        "tracking_foreign",
        "tracking_corrupt",
        "tracking_schema",
    ]
    assert code_of(f"sqlite:///{tmp_path}") == "tracking_unwritable"
    assert code_of(f"sqlite:///{junk}/mlflow.db") == "tracking_unwritable"
    assert time.monotonic() - started < 10
    assert {path: path.read_bytes() for path in before} == before


def test_a_store_that_another_job_made_meanwhile_is_kept(tmp_path: Path, registry: Registry, store: Path, monkeypatch: pytest.MonkeyPatch):
    database = tmp_path / "mlflow.db"

    def meanwhile() -> bytes:
        database.write_bytes(store.read_bytes())
        return b"too late"

    monkeypatch.setattr(tracking, "_empty_store", meanwhile)
    tracking.ensure_store(database)
    assert database.read_bytes() == store.read_bytes()
    assert list(tmp_path.iterdir()) == [database]


def test_a_store_is_made_where_there_are_no_hard_links_and_with_the_usual_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refused)
    with tracking.discreet():
        tracking.ensure_store(tmp_path / "mlflow.db")
    (tmp_path / "usual").touch()
    assert (tmp_path / "mlflow.db").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "usual"]


def test_a_deleted_experiment_is_named_with_how_to_restore_it(registry: Registry, client):
    Registry(registry.uri, experiment="gone")
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    with pytest.raises(PersopredictError, match=r"'gone' was deleted.*mlflow experiments restore"):
        Registry(registry.uri, experiment="gone")


def test_a_server_that_is_not_there_is_named_soon_without_the_password():
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(PersopredictError) as raised:
        Registry(f"http://ana:secret@127.0.0.1:{port}")
    assert time.monotonic() - started < 10
    assert raised.value.problems[0].code == "tracking_unreachable"
    assert f"http://ana:***@127.0.0.1:{port}" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_server_that_never_answers_is_given_up_in_the_time_the_user_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        started = time.monotonic()
        assert code_of(f"http://127.0.0.1:{silent.getsockname()[1]}") == "tracking_unreachable"
        assert time.monotonic() - started < 5
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_server_of_something_else_is_named():
    class Shop(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<html>a shop</html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert code_of(f"http://127.0.0.1:{server.server_address[1]}") == "tracking_unreachable"
        finally:
            server.shutdown()
            thread.join()


# Manners --------------------------------------------------------------------------------------------------------------


def test_what_the_user_has_set_in_mlflow_stays_as_it_was(
    registry: Registry, predictor: Predictor, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with tracking.discreet():
        import mlflow

    for key in [key for key in os.environ if key.startswith("MLFLOW_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a network call"))
    before = (dict(os.environ), logging.getLogger("mlflow").level, list(warnings.filters), mlflow.get_tracking_uri())
    registry.register(predictor, name="polite", fingerprint="f1")
    registry.promote("polite", 1)
    registry.load("polite", 1)
    assert (dict(os.environ), logging.getLogger("mlflow").level, list(warnings.filters), mlflow.get_tracking_uri()) == before
    assert mlflow.active_run() is None
    assert capfd.readouterr() == ("", "")


def test_mlflow_sends_no_telemetry_of_ours(monkeypatch: pytest.MonkeyPatch):
    with tracking.discreet():
        from mlflow.telemetry import utils

    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    assert not utils.is_telemetry_disabled()
    with tracking.discreet():
        assert utils.is_telemetry_disabled()
    assert not utils.is_telemetry_disabled()


def test_importing_the_registry_does_not_import_mlflow():
    script = "import persopredict.registry, sys; sys.exit('mlflow' in sys.modules or 'lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
