"""Models in MLflow: every version kept with the numbers that earned its place; the aliases `champion` and `challenger`.

A version is a run (parameters, metrics, a fingerprint of the data) and a model from code (`scoring_model`) over the
three files of `Predictor.save`. Nothing of a customer goes there (law 10). With a sqlite store the artifacts lie beside
`mlflow.db`, wherever the job is started from. An alias is resolved once, to a version; who scores uses the version.

Everything goes through an `MlflowClient` of its own: the tracking uri, experiment and run that a user's own code has
set stay as they are.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from persopredict import html, scoring_model, tracking
from persopredict.errors import PersopredictError, Problem
from persopredict.learner import BoosterScorer
from persopredict.times import instant

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric
    from mlflow.models import ModelSignature

    from persopredict.evaluation import Evaluation
    from persopredict.predictor import Predictor
    from persopredict.ranking_results import RankedResult, RankingEvaluation
    from persopredict.results import Result

Alias = Literal["champion", "challenger"]

#: The experiment, and so the project, of models that nobody named one for.
EXPERIMENT = "persopredict"
_PROCESS = "persopredict.process"
_ABANDONED = timedelta(days=1)  # Another machine's process can't be asked whether it lives; no registration takes a day.
_LONGEST = 6000  # Characters that MLflow keeps of a parameter.


@dataclass(frozen=True, slots=True, repr=False)
class ModelVersion:
    """A registered version of a model.

    Parameters
    ----------
    name
        the registered model, by convention the target's name.
    version
        1, 2, …
    run_id
        the run that trained it.
    alias
        the alias it was found by, if any. Aliases move; the version doesn't.
    tags
        among them ``fingerprint`` (of the data), ``trained_until``, ``recipe``, ``grade`` and ``project``, the experiment it went to.

    >>> ModelVersion("churn_purchase_28d", 3, "8f2c").uri
    'models:/churn_purchase_28d/3'
    """

    name: str
    version: int
    run_id: str
    alias: Alias | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def __repr__(self) -> str:
        """Name, version, and what its tags say of it.

        >>> ModelVersion("churn", 3, "8f2c", "champion", {"grade": "B", "trained_until": "2017-12-03T05:00:00+00:00"})
        ModelVersion(churn, version 3, champion, grade B, trained until 2017-12-03)
        """
        until = f"trained until {self.trained_until:%Y-%m-%d}" if self.trained_until else ""
        grade = f"grade {self.tags['grade']}" if "grade" in self.tags else ""
        return f"ModelVersion({', '.join(filter(None, (self.name, f'version {self.version}', self.alias, grade, until)))})"

    def _repr_html_(self) -> str:
        facts = {**({"alias": self.alias} if self.alias else {}), "run": self.run_id, "uri": self.uri}
        facts |= {key.replace("_", " "): text for key, text in self.tags.items()}
        return html.block(html.title(f"{self.name}, version {self.version}"), html.facts(facts))

    @property
    def uri(self) -> str:
        """MLflow's address of it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def trained_until(self) -> datetime | None:
        """Until when it knew the log; None for a version registered by other means."""
        return instant(self.tags["trained_until"]) if "trained_until" in self.tags else None

    @property
    def recipe(self) -> str | None:
        """What it was trained by, as text; equal for equal recipes."""
        return self.tags.get("recipe")


class Registry:
    """The models of one MLflow store.

    Parameters
    ----------
    uri
        ``sqlite:///mlflow.db`` (made if it doesn't exist, with the artifacts in ``mlartifacts`` beside it), or the
        ``http(s)://`` address of a tracking server.
    experiment
        the MLflow experiment that its runs go to, made if it doesn't exist.

    Raises `ConfigurationError` for another kind of uri or a file of something else, `PersopredictError` if the store
    can't be reached or read.

    >>> Registry("mlruns")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    persopredict.errors.ConfigurationError: 'mlruns' is not a tracking uri:
      - error tracking_uri: models are kept in a sqlite file or by a tracking server. Remedy: write sqlite:///...
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        self.uri, database = tracking.settled(uri)
        self.experiment = experiment
        with self._session("opening the model store"):
            from mlflow import MlflowClient

            if database is not None:
                tracking.ensure_store(database)
            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self._experiment_id = self._find_experiment(database)

    def register(self, predictor: Predictor, *, name: str, fingerprint: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Log a fitted predictor as a run and register it as a new version of `name`, without alias.

        Parameters
        ----------
        predictor
            fitted; its `save` gives the files.
        name
            the registered model, made if it doesn't exist.
        fingerprint
            of the data it was trained on (`EventLog.fingerprint`).
        tags
            further tags of the run and the version.

        Raises `SpecificationError` if the learner is not LightGBM, `PersopredictError` if the store can't be written;
        the run is then marked as failed. A registration that is killed leaves no version, or one without alias;
        `recover` marks its run.
        """
        with self._session(f"registering {name}"), tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "predictor")
            files.mkdir()
            predictor.save(files)
            specs, calibrator = (json.loads((files / file).read_text("utf-8")) for file in ("specs.json", "calibrator.json"))
            facts = {"project": self.experiment, **_facts(specs, predictor.evaluation_, fingerprint), **dict(tags or {})}
            run = self._client.create_run(self._experiment_id, tags=facts | {_PROCESS: _this_process()}, run_name=name)
            run_id = run.info.run_id
            try:
                self._log(run_id, _params(predictor, specs, calibrator), predictor.evaluation_)
                model = self._store(run_id, name, files, specs)
                self._ensure_model(name)
                # Not "models:/<id>" as the source: MLflow looks that up in the global store, which is not ours.
                made = self._client.create_model_version(name, model.artifact_location, run_id, tags=facts, model_id=model.model_id)
                self._client.set_terminated(run_id, "FINISHED")
            except BaseException:
                with suppress(Exception):
                    self._client.set_terminated(run_id, "FAILED")
                raise
            return ModelVersion(name, int(made.version), run_id, tags=MappingProxyType(facts))

    def champion(self, name: str) -> ModelVersion | None:
        """The version that is published now; None if there is none."""
        return self._by_alias(name, "champion")

    def challenger(self, name: str) -> ModelVersion | None:
        """The version that waits to be compared with the champion; None if there is none."""
        return self._by_alias(name, "challenger")

    def version(self, name: str, number: int) -> ModelVersion:
        """A version, whatever its aliases; raises `PersopredictError` (``tracking_missing``) if there is none."""
        with self._session(f"looking for {name} version {number}"):
            found = self._client.get_model_version(name, str(number))
            return ModelVersion(name, number, str(found.run_id), tags=MappingProxyType(dict(found.tags)))

    def parameters(self, version: ModelVersion) -> Mapping[str, str]:
        """What a version was made with, as text: ``model_kind``, ``features``, ``versions.lightgbm``, …"""
        with self._session(f"reading the parameters of {version.name} version {version.version}"):
            return MappingProxyType(dict(self._client.get_run(version.run_id).data.params))

    def load(self, name: str, version: int) -> Predictor:
        """The predictor of a version; raises `PersopredictError` if there is no such version or its files are gone."""
        from persopredict.predictor import Predictor

        with self._session(f"loading {name} version {version}"), tempfile.TemporaryDirectory() as folder:
            from mlflow.artifacts import download_artifacts

            # Not "models:/<name>/<version>": MLflow looks that up in the global store as well.
            source = f"{self._client.get_model_version_download_uri(name, str(version))}/artifacts"
            return Predictor.load(Path(download_artifacts(source, dst_path=folder, tracking_uri=self.uri)))

    def promote(self, name: str, version: int) -> None:
        """Make a version the champion; if it was the challenger, there is none afterwards."""
        with self._session(f"promoting {name} version {version}"):
            self._client.set_registered_model_alias(name, "champion", str(version))
            if self._aliases(name).get("challenger") == version:
                self._client.delete_registered_model_alias(name, "challenger")

    def challenge(self, name: str, version: int) -> None:
        """Make a version the challenger."""
        with self._session(f"making {name} version {version} the challenger"):
            self._client.set_registered_model_alias(name, "challenger", str(version))

    def recover(self) -> tuple[str, ...]:
        """Mark the runs that died while registering as killed, and return their ids; for the start of a job.

        Only runs of this library are touched: those of this machine whose process is gone, and after a day those of
        other machines.
        """
        with self._session("looking for runs that died"):
            running = self._client.search_runs([self._experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
            dead = [run for run in running if _is_dead(run.data.tags.get(_PROCESS), run.info.start_time)]
            for run in dead:
                self._client.set_terminated(run.info.run_id, "KILLED")
            return tuple(run.info.run_id for run in dead)

    def _session(self, doing: str) -> AbstractContextManager[None]:
        return tracking.session(doing, self.uri)

    def _by_alias(self, name: str, alias: Alias) -> ModelVersion | None:
        with self._session(f"looking for the {alias} of {name}"):
            number = self._aliases(name).get(alias)
            if number is None:
                return None
            found = self._client.get_model_version(name, str(number))
            return ModelVersion(name, number, str(found.run_id), alias, MappingProxyType(dict(found.tags)))

    def _aliases(self, name: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            return {alias: int(number) for alias, number in self._client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise

    def _find_experiment(self, database: Path | None) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            # By default MLflow would keep the current folder as the place of artifacts, for good.
            place = None if database is None else (database.parent / "mlartifacts").as_uri()
            return str(self._client.create_experiment(self.experiment, artifact_location=place))
        if found.lifecycle_stage == "deleted":
            message = f"the experiment {self.experiment!r} was deleted"
            remedy = f"name another, or `mlflow experiments restore --experiment-id {found.experiment_id}`"
            problem = Problem("experiment_deleted", message, remedy=remedy, source=tracking.shown(self.uri))
            raise PersopredictError("models can't be registered", [problem])
        return str(found.experiment_id)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _log(self, run_id: str, params: Mapping[str, str], evaluation: Evaluation | RankingEvaluation) -> None:
        from mlflow.entities import Param

        # MLflow takes 100 parameters and 1000 metrics at once.
        pairs = [Param(key, value[:_LONGEST]) for key, value in params.items()]
        for start in range(0, len(pairs), 100):
            self._client.log_batch(run_id, params=pairs[start : start + 100], synchronous=True)
        points = list(_metrics(evaluation))
        for start in range(0, len(points), 1000):
            self._client.log_batch(run_id, metrics=points[start : start + 1000], synchronous=True)

    def _store(self, run_id: str, name: str, files: Path, specs: Mapping[str, Any]) -> LoggedModel:
        """Store the model from code with its three files."""
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        model = self._client.create_logged_model(self._experiment_id, name, run_id, model_type="persopredict")
        mlflow.pyfunc.save_model(
            path=files.parent / "model",
            python_model=scoring_model.__file__,
            artifacts={file.name: str(file) for file in sorted(files.iterdir())},
            signature=_signature(specs),
            pip_requirements=[f"{name}=={installed(name)}" for name in ("mlflow", "lightgbm", "numpy", "pandas", "scipy")],
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            ),
        )
        self._client.log_model_artifacts(model.model_id, str(files.parent / "model"))
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._client.finalize_logged_model(model.model_id, "READY")


def _facts(specs: Mapping[str, Any], evaluation: Evaluation | RankingEvaluation, fingerprint: str) -> dict[str, str]:
    """What is known of a version without opening it."""
    return {
        "fingerprint": fingerprint,
        "trained_until": specs["trained_until"],
        "recipe": specs["recipe"],
        "target": json.dumps(specs["target"]),
        "grade": evaluation.grade,
        "grade_reason": evaluation.grade_reason,
    }


def _params(predictor: Predictor, specs: Mapping[str, Any], calibrator: Mapping[str, Any]) -> dict[str, str]:
    """What the model was made with, flat, as text; what is not set is left out."""
    learner: dict[str, Any] = {"model_kind": predictor.scorer_.kind}
    if isinstance(predictor.scorer_, BoosterScorer):
        booster = predictor.scorer_.booster
        learner |= {**{f"lightgbm.{key}": value for key, value in booster.params.items()}, "trees": booster.num_trees()}
    params = {
        **{f"target.{key}": value for key, value in specs["target"].items()},
        **learner,
        **{f"calibration.{key}": value for key, value in calibrator.items()},
        **{f"versions.{key}": value for key, value in specs["versions"].items()},
        **{key: specs[key] for key in ("recipe", "trained_until", "timezone", "random_state", "rows", "positives", "cutoffs")},
        "features": len(scoring_model.columns(specs)),
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
    return {key: text for key, text in texts.items() if text not in ("null", "")}


def _metrics(evaluation: Evaluation | RankingEvaluation) -> Iterator[Metric]:
    """The pooled metrics under their own names, those of each cutoff under ``by_cutoff/`` in steps, at their time."""
    from mlflow.entities import Metric

    now = int(datetime.now(UTC).timestamp() * 1000)
    for name, value in evaluation.summary().items():
        yield Metric(name, value, now, 0)
    folds: Sequence[Result | RankedResult] = evaluation.folds
    for step, fold in enumerate(folds):
        at = now if fold.cutoff is None else int(fold.cutoff.timestamp() * 1000)
        for name, value in fold.flat().items():
            if value == value:  # A metric without a value is nan.
                yield Metric(f"by_cutoff/{name}", float(value), at, step)


def _signature(specs: Mapping[str, Any]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    keys = scoring_model.keys(specs["target"])
    text = {key: ColSpec(DataType.string, key) for key in keys if key != "cutoff"}
    # MLflow's datetime refuses instants with a time zone, which is what snapshots have; the model itself reads any.
    given = text | {"cutoff": ColSpec(AnyType(), "cutoff")}  # type: ignore[no-untyped-call]
    answered = text | {"cutoff": ColSpec(DataType.datetime, "cutoff")}
    features = [ColSpec(DataType.double, name) for name in scoring_model.columns(specs)]
    numbers = [ColSpec(DataType.double, name) for name in ("score", "probability")]
    return ModelSignature(
        inputs=Schema([*(given[key] for key in keys), *features]),
        outputs=Schema([*(answered[key] for key in keys), *numbers]),
    )


def _this_process() -> str:
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(process: str | None, started: int) -> bool:
    import psutil

    if process is None:
        return False
    host, number, born = process.rsplit(":", 2)
    if host != socket.gethostname():
        return datetime.now(UTC) - datetime.fromtimestamp(started / 1000, UTC) > _ABANDONED
    try:
        # Numbers are given again: only the time of birth tells a process from the next one.
        return abs(float(psutil.Process(int(number)).create_time()) - float(born)) > 2
    except psutil.NoSuchProcess:
        return True
