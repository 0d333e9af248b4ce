"""Killed at any step, a job leaves nothing half-written, and the next one succeeds (law 8). `make soak` does it at random moments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from persopredict.registry import Registry
from tests import made
from tests.made import NIGHTS, TASTE_NIGHTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CLIENT = "mlflow.MlflowClient"
MOMENTS = {
    "reading": ("before", "persopredict.events.EventLog.prepare", 1),
    "training": ("before", "persopredict.learner.fit", 3),
    "registering, the model's files not yet stored": ("before", f"{CLIENT}.log_model_artifacts", 1),
    "registering, the version made and its run not ended": ("after", f"{CLIENT}.create_model_version", 1),
    "between registering and promoting": ("before", "persopredict.registry.Registry.promote", 1),
    "between the first target and the second": ("after", "persopredict.registry.Registry.promote", 1),
    "scoring": ("before", "persopredict.predictor.Predictor.attributes", 2),
    "publishing, some rows written": ("after", "persopredict.warehouse.insert", 2),
    "publishing, what came of the first night written": ("after", "persopredict.warehouse.settle", 1),
    "publishing, all rows written and not committed": ("after", "persopredict.warehouse.rebuild_wide", 1),
    "committed, the copy not begun": ("before", "persopredict.warehouse.Warehouse._write_copy", 1),
    "committed, the copy written and not in place": ("after", "persopredict.warehouse._sync", 1),
}
#: On the first night there is neither a model store nor a warehouse.
FIRST = {
    "making the model store": ("before", "persopredict.tracking._put_in_place", 1),
    "making the warehouse": ("after", "persopredict.warehouse._make", 1),
}
COMMITTED = [name for name in MOMENTS if name.startswith("committed")]
#: A version that nobody was promoted to still takes its number.
NUMBERS = ("model_version", "run_id")


class Nights:
    """A folder with one night in it, as it was before a second one and after it; `kind` of job as in `night`."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], kind: str = "shop", dates: Sequence[datetime] = NIGHTS[1:]) -> None:
        self.folder, self.process, self.kind = folder / "shop", process, kind
        self.backup = folder / "backup"
        self.first, self.second = dates
        self.folder.mkdir()
        assert self.run(self.first) == 0
        shutil.copytree(self.folder, self.backup)
        self.before = made.tables(self.folder)
        assert self.run(self.second) == 0
        self.after = made.tables(self.folder)

    def run(self, as_of: datetime, when: str = "", name: str = "", call: int = 0) -> int:
        order = {"folder": str(self.folder), "kind": self.kind, "as_of": as_of.isoformat()}
        order |= {"when": when, "name": name, "call": call} if name else {}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def restore(self, *, empty: bool = False) -> None:
        # At the same place: the model store holds absolute paths.
        shutil.rmtree(self.folder)
        self.folder.mkdir() if empty else shutil.copytree(self.backup, self.folder)

    def copy(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "customer_attributes.parquet").sort_values("customer_id", ignore_index=True)

    def running(self) -> int:
        client = Registry(f"sqlite:///{self.folder / 'mlflow.db'}")._client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return len(client.search_runs(experiments, "attributes.status = 'RUNNING'"))


@pytest.fixture(scope="module")
def process():
    start = [sys.executable, "-m", "tests.night"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(start, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def nights(process, tmp_path_factory):
    return Nights(tmp_path_factory.mktemp("nights"), process)


def killed_while(nights: Nights, moment: str) -> None:
    """Kill the second night there: readers see the first alone or both whole, and the next job makes up for it."""
    nights.restore()
    assert nights.run(nights.second, *MOMENTS[moment]) == -9

    visible = nights.after if moment in COMMITTED else nights.before
    made.assert_same(made.tables(nights.folder), visible, but=NUMBERS)
    assert len(nights.copy()) == len(nights.before["customer_attributes"])

    assert nights.run(nights.second) == 0
    found = made.tables(nights.folder)
    made.assert_same(found, nights.after, but=NUMBERS)
    assert (found["runs"].groupby("target")["run_id"].nunique() == 2).all()
    rows = found["predictive_attributes"]
    assert set(rows["run_id"]) == set(found["runs"]["run_id"])
    assert len(nights.copy()) == len(found["customer_attributes"])
    assert nights.copy().filter(like="_as_of").max().max() == pd.Timestamp(nights.second)
    assert nights.running() == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_job_killed_while(nights, moment):
    killed_while(nights, moment)


def test_a_job_with_an_affinity_killed_while_publishing(process, tmp_path):
    killed_while(Nights(tmp_path, process, "tastes", TASTE_NIGHTS[1:]), "publishing, some rows written")


@pytest.mark.parametrize("moment", FIRST)
def test_a_first_job_killed_while(nights, moment):
    nights.restore(empty=True)
    assert nights.run(NIGHTS[1], *FIRST[moment]) == -9
    assert not (nights.folder / "customer_attributes.parquet").exists()
    assert nights.run(NIGHTS[1]) == 0
    made.assert_same(made.tables(nights.folder), nights.before)
    leftovers = {path.name for path in nights.folder.iterdir()} - {path.name for path in nights.backup.iterdir()}
    assert not [name for name in leftovers if not name.startswith(".mlflow.db-")]


def test_a_killed_job_has_not_trained_in_vain(nights):
    nights.restore()
    nights.run(NIGHTS[2], *MOMENTS["publishing, some rows written"])
    assert nights.run(NIGHTS[2]) == 0
    made.assert_same(made.tables(nights.folder), nights.after)
