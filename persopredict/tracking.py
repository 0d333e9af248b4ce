"""MLflow as a library may use it: quiet, without telemetry, quick to give up, its store made whole or not at all.

MLflow takes several of its settings only from the environment and its loggers only from the process. They are changed
for the length of a call, by one thread at a time, and put back.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sqlite3
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from persopredict.errors import ConfigurationError, PersopredictError, Problem

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # It would put the lock file of whatever project the job is started in into the model.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# MLflow's own patience with a server that doesn't answer is many minutes. What the user has set is kept.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_HARMLESS = (
    (UserWarning, r"[\s\S]*Any type hint is inferred as AnyType"),  # Of MLflow's own classes, while it is imported.
    (UserWarning, r"[\s\S]*An input example was not provided"),  # The signature says it all; it would be made up.
    (DeprecationWarning, r"The ``noload`` loader strategy"),  # MLflow's tables, of SQLAlchemy 2.1.
)
_ALONE = threading.RLock()


@contextmanager
def session(doing: str, uri: str) -> Iterator[None]:
    """MLflow for the length of a call; what it raises becomes a `PersopredictError` that names the uri and a remedy.

    Parameters
    ----------
    doing
        what is tried, in words, for the error.
    uri
        of the store, for the error; a password in it is not shown.

    """
    with discreet():
        try:
            yield
        except Exception as error:
            package = type(error).__module__.partition(".")[0]
            if isinstance(error, OSError) or package in ("mlflow", "sqlalchemy", "alembic", "sqlite3"):
                # MLflow's own message holds the uri as it is.
                raise _explained(doing, uri, error) from (error if shown(uri) == uri else None)
            raise


@contextmanager
def discreet() -> Iterator[None]:
    """MLflow's switches and loggers set to quiet, and put back."""
    wanted = _SWITCHES | {key: value for key, value in _PATIENCE.items() if key not in os.environ}
    with _ALONE:
        before = {key: os.environ.get(key) for key in wanted}
        os.environ.update(wanted)
        try:
            with warnings.catch_warnings():
                for category, message in _HARMLESS:
                    warnings.filterwarnings("ignore", message=message, category=category)
                import mlflow.pyfunc  # noqa: F401  # Importing it sets its loggers up, and so comes before changing them.

                with _quiet("mlflow"), _quiet("alembic"):
                    yield
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # What MLflow logs as an error it also raises.
    try:
        yield
    finally:
        logger.setLevel(level)


def settled(uri: str) -> tuple[str, Path | None]:
    """The uri without what depends on the current folder, and the sqlite file if it is one.

    Raises `ConfigurationError` for anything but a sqlite file and an http(s) address, and for a path that MLflow and
    SQLAlchemy would read differently.

    >>> settled("https://mlflow.example.com/")
    ('https://mlflow.example.com', None)
    >>> settled("sqlite:////data/mlflow.db")[0]
    'sqlite:////data/mlflow.db'
    """
    path = uri.removeprefix("sqlite:///")
    message = "models are kept in a sqlite file or by a tracking server"
    remedy = "write sqlite:///mlflow.db, or the https:// address of an MLflow server"
    if path not in (uri, "", ":memory:"):
        database = Path(path).absolute()
        if not re.search(r"\?|%[0-9A-Fa-f]{2}", str(database)):
            return f"sqlite:///{database.as_posix()}", database
        message, remedy = f"the path {str(database)!r} holds '?' or an escape like '%20'", "move it to another folder"
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        return uri.rstrip("/"), None
    raise ConfigurationError(f"{shown(uri)!r} is not a tracking uri", [Problem("tracking_uri", message, remedy=remedy)])


def shown(uri: str) -> str:
    """The uri without its password.

    >>> shown("https://ana:secret@mlflow.example.com/x")
    'https://ana:***@mlflow.example.com/x'
    """
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@", 1) if password else uri


def ensure_store(database: Path) -> None:
    """Make the sqlite store if there is none; refuse a file that MLflow would otherwise write its tables into.

    A store killed while MLflow migrates it can't be opened again, so a new one appears whole, at once, and never in the
    place of another job's.
    """
    if database.exists():
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=5)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "alembic_version" not in tables:
            message = f"{database} holds other tables than MLflow's"
            raise ConfigurationError("models can't be kept there", [Problem("tracking_foreign", message, remedy="name another file")])
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    fresh = database.with_name(f".{database.name}-{uuid.uuid4().hex}")
    try:
        with fresh.open("xb") as file:
            file.write(_empty_store())
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(fresh, database)
    finally:
        fresh.unlink(missing_ok=True)


def _put_in_place(fresh: Path, database: Path) -> None:
    try:
        os.link(fresh, database)
    except FileExistsError:
        return
    except OSError:  # A file system without hard links: the moment between looking and moving can't be closed there.
        if not database.exists():
            fresh.replace(database)


@functools.cache
def _empty_store() -> bytes:
    """An empty MLflow store at its latest schema: seconds of migrations, done once in a process."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        uri = f"sqlite:///{file.as_posix()}"
        MlflowClient(tracking_uri=uri, registry_uri=uri)
        return file.read_bytes()


_REMEDIES = (
    (
        "API request to|ConnectionError|Timeout",
        "tracking_unreachable",
        "start the tracking server, or correct the uri; credentials are MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN",
    ),
    (
        "out-of-date database schema|Can't locate revision",
        "tracking_schema",
        "after a backup, `mlflow db upgrade <uri>` if an older MLflow made the file; if a newer one did, install that",
    ),
    ("not a database|malformed", "tracking_corrupt", "restore a backup, or name another file and train again"),
    ("database is locked", "tracking_busy", "wait for the process that writes the file, or stop it"),
    (
        "FileNotFoundError|failures occurred while downloading",
        "tracking_files_missing",
        "bring the artifacts back to where they were written, or train again",
    ),
    ("unable to open|readonly|PermissionError|FileExistsError", "tracking_unwritable", "name a file in a folder that can be written"),
    ("RESOURCE_DOES_NOT_EXIST", "tracking_missing", "register it first, or correct the name"),
    ("", "tracking_failed", "do what the message says, or name another tracking uri"),
)


def _explained(doing: str, uri: str, error: Exception) -> PersopredictError:
    """What went wrong, in one line of MLflow's, and what to do about it."""
    lines = [line.strip() for line in str(error).replace(uri, shown(uri)).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    looked_at = f"{type(error).__name__} {getattr(error, 'error_code', '')} {text}"
    code, remedy = next((code, remedy) for pattern, code, remedy in _REMEDIES if re.search(pattern, looked_at))
    return PersopredictError(f"{doing} failed", [Problem(code, text, remedy=remedy, source=shown(uri))])
