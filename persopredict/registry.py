"""Models in MLflow: every version kept with the numbers that earned its place, and two aliases, `champion` and `challenger`.

A version is a run (parameters, metrics, the specs, a fingerprint of the data) and a model from code (`scoring_model`) over the three files
of `Predictor.save`. Nothing of a customer goes there (law 10). With a sqlite store the artifacts lie beside `mlflow.db`, wherever the job
is started from. An alias is resolved once, to a version; who scores uses the version.

Everything goes through an `MlflowClient` of its own: the tracking URI, experiment and run that a user's own code has set stay as they are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import socket
import sqlite3
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from persopredict import scoring_model
from persopredict.errors import ConfigurationError, PersopredictError, Problem
from persopredict.times import instant

if TYPE_CHECKING:
    from persopredict.predictor import Predictor

Alias = Literal["champion", "challenger"]

_OWNER = "persopredict.process"
_ABANDONED = timedelta(days=1)  # A run of another machine can't be asked whether it lives; no registration takes a day.
_LONGEST = 6000  # What MLflow keeps of a parameter.

# Switches that MLflow only takes from the environment; they are set for the length of a call and put back.
_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # It would put the lock file of whatever project the job is started in into the model.
}
# MLflow's own patience with a server that doesn't answer is many minutes. What the user has set is kept.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
# MLflow warns of its own classes while they are imported, and that a model has a signature but no example: an example would be made up.
_HARMLESS = (r"[\s\S]*Any type hint is inferred as AnyType", r"[\s\S]*An input example was not provided")
_ALONE = threading.RLock()


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version of a model.

    Parameters
    ----------
    name : the registered model, by convention the target's name.
    version : 1, 2, ...
    run_id : the run that trained it.
    alias : the alias it was found by, if any. Aliases move; the version doesn't.
    tags : among them ``fingerprint`` (of the data), ``trained_until`` and ``recipe``.

    >>> ModelVersion("churn_purchase_28d", 3, "8f2c").uri
    'models:/churn_purchase_28d/3'
    """

    name: str
    version: int
    run_id: str
    alias: Alias | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

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
        """What it was trained by: the same recipe has the same text."""
        return self.tags.get("recipe")


class Registry:
    """The models of one MLflow store.

    Parameters
    ----------
    uri : ``sqlite:///mlflow.db`` (made if it doesn't exist; artifacts go to ``mlartifacts`` beside it) or the ``http(s)://`` address of
        a tracking server.
    experiment : its MLflow experiment, made if it doesn't exist.

    Raises `ConfigurationError` for another kind of uri, `PersopredictError` if the store can't be reached or read.

    >>> Registry("mlruns")
    Traceback (most recent call last):
    persopredict.errors.ConfigurationError: 'mlruns' is not a tracking uri:
      - error tracking_uri: persopredict writes to a sqlite file or a tracking server. Remedy: write sqlite:///mlflow.db or https://....
    """

    def __init__(self, uri: str, experiment: str = "persopredict") -> None:
        self.uri, self._database = _settled(uri)
        self.experiment = experiment
        with self._session("opening the model store"):
            from mlflow import MlflowClient

            if self._database is not None:
                _ensure_store(self._database)
            self._client: Any = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self._experiment_id = self._find_experiment()

    def register(self, predictor: Predictor, *, name: str, fingerprint: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Log a fitted predictor as a run and register it as a new version of `name`, without alias.

        Parameters
        ----------
        predictor : fitted; its `save` gives the files.
        name : the registered model, made if it doesn't exist.
        fingerprint : of the data it was trained on (`EventLog.fingerprint`).
        tags : further tags of the run and the version.

        Raises `PersopredictError` if the store can't be written; the run is then marked as failed. A registration that is killed leaves
        no version, or one without alias; `recover` marks its run.
        """
        with self._session(f"registering {name}"), tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "predictor"
            files.mkdir()
            predictor.save(files)
            specs, calibrator = (json.loads((files / file).read_text("utf-8")) for file in ("specs.json", "calibrator.json"))
            facts = {
                "fingerprint": fingerprint,
                "trained_until": str(specs["trained_until"]),
                "recipe": _recipe(specs["recipe"]),
                **(tags or {}),
            }
            run_id = self._client.create_run(self._experiment_id, tags={**facts, _OWNER: _this_process()}, run_name=name).info.run_id
            try:
                self._log(run_id, _params(predictor.booster_, specs, calibrator), _metrics(specs["evaluation"]))
                model = self._store(run_id, name, files, specs)
                self._ensure_model(name)
                source = model.artifact_location  # MLflow looks "models:/<id>" up in the global store, which is not ours.
                made = self._client.create_model_version(name, source, run_id, tags=facts, model_id=model.model_id)
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

    def load(self, name: str, version: int) -> Predictor:
        """The predictor of a version; raises `PersopredictError` if there is no such version or its files are gone."""
        from persopredict.predictor import Predictor

        with self._session(f"loading {name} version {version}"), tempfile.TemporaryDirectory() as folder:
            from mlflow.artifacts import download_artifacts

            # Not "models:/<name>/<version>", which MLflow looks up in the global store.
            files = f"{self._client.get_model_version_download_uri(name, str(version))}/artifacts"
            return Predictor.load(Path(download_artifacts(artifact_uri=files, dst_path=folder, tracking_uri=self.uri)))

    def promote(self, name: str, version: int) -> None:
        """Make a version the champion; if it was the challenger, there is none afterwards."""
        with self._session(f"promoting {name} version {version}"):
            self._client.set_registered_model_alias(name, "champion", str(version))
            if self._aliases(name).get("challenger") == version:
                self._client.delete_registered_model_alias(name, "challenger")

    def challenge(self, name: str, version: int) -> None:
        """Make a version the challenger."""
        with self._session(f"naming {name} version {version} as challenger"):
            self._client.set_registered_model_alias(name, "challenger", str(version))

    def recover(self) -> tuple[str, ...]:
        """Mark the runs that died while registering as killed, and return their ids. Call it before a job starts.

        Only runs of this library are touched: those of this machine whose process is gone, those of other machines after a day.
        """
        with self._session("looking for runs that died"):
            running = self._client.search_runs([self._experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
            dead = [run for run in running if _is_dead(run.data.tags.get(_OWNER), run.info.start_time)]
            for run in dead:
                self._client.set_terminated(run.info.run_id, "KILLED")
            return tuple(run.info.run_id for run in dead)

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

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            place = None if self._database is None else (self._database.parent / "mlartifacts").as_uri()
            return str(self._client.create_experiment(self.experiment, artifact_location=place))
        if found.lifecycle_stage == "deleted":
            remedy = f"mlflow experiments restore --experiment-id {found.experiment_id}, or name another experiment"
            problem = Problem("experiment_deleted", f"experiment {self.experiment!r} was deleted", remedy=remedy, source=_shown(self.uri))
            raise PersopredictError("models can't be registered", [problem])
        return str(found.experiment_id)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _log(self, run_id: str, params: Mapping[str, str], metrics: Iterable[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric, Param

        now = int(datetime.now(UTC).timestamp() * 1000)
        pairs = [Param(key, value[:_LONGEST]) for key, value in params.items()]
        points = [Metric(key, value, at or now, step) for key, value, at, step in metrics]
        for start in range(0, max(len(pairs), 1), 100):  # MLflow takes 100 parameters and 1000 metrics at once.
            self._client.log_batch(run_id, params=pairs[start : start + 100], synchronous=True)
        for start in range(0, len(points), 1000):
            self._client.log_batch(run_id, metrics=points[start : start + 1000], synchronous=True)

    def _store(self, run_id: str, name: str, files: Path, specs: Mapping[str, Any]) -> Any:
        """Store the model from code with its three files; returns MLflow's logged model."""
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        model = self._client.create_logged_model(self._experiment_id, name=name, source_run_id=run_id, model_type="persopredict")
        mlflow.pyfunc.save_model(
            path=files.parent / "model",
            python_model=str(Path(scoring_model.__file__)),
            artifacts={file: str(files / file) for file in scoring_model.FILES},
            signature=_signature(specs),
            pip_requirements=[f"{package}=={installed(package)}" for package in ("mlflow", "lightgbm", "numpy", "pandas")],
            mlflow_model=Model(artifact_path=model.artifact_location, run_id=run_id, model_uuid=model.model_id, model_id=model.model_id),
        )
        self._client.log_model_artifacts(model.model_id, str(files.parent / "model"))
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._client.finalize_logged_model(model.model_id, "READY")

    @contextmanager
    def _session(self, doing: str) -> Iterator[None]:
        """MLflow without its noise, its telemetry and its patience; what it raises becomes an error that says what to do."""
        with _discreet():
            from alembic.util import CommandError
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                yield
            except (MlflowException, CommandError, SQLAlchemyError, OSError, sqlite3.Error) as error:
                raise _explained(doing, self.uri, error) from error
