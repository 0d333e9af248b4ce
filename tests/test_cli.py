"""The command line as the specification: what each command does, what it exits with, and what it does not say."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from persopredict import config as configuration
from persopredict.cli import app
from persopredict.errors import DataError, NotReadyError, PersopredictError, Problem, WarehouseBusyError
from persopredict.progress import steps

CONFIG = """
[project]
timezone = "America/New_York"
[[events]]
path = "sales.parquet"
event = "purchase"
[events.columns]
customer_id = "client"
event_at = "sold_at"
value = "amount"
[targets.churn_purchase_28d]
type = "churn"
event = "purchase"
horizon = "28d"
[warehouse]
url = "warehouse.duckdb"
"""


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def command(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a scheduler starts it."""
    start = [sys.executable, "-c", "from persopredict.cli import main; main()", *arguments]
    return subprocess.run(start, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a configuration and ten months of sales to 200 customers."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "client": random.integers(0, 200, 3000),
            "sold_at": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300 * 86400, 3000), unit="s"),
            "amount": random.integers(1, 100, 3000) / 4,
            "Store No": "centre",
        }
    )
    frame.to_parquet(tmp_path / "sales.parquet")
    (tmp_path / "persopredict.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(monkeypatch):
    """A job that notes what it is asked and does what the test says; building it needs no events."""

    class Job(SimpleNamespace):
        def _do(self, what: str, moment: datetime | None):
            self.asked.append((what, moment))
            self.progress(what)
            if isinstance(self.does, BaseException):
                raise self.does
            return self.does

        def train(self, until=None):
            return self._do("train", until)

        def score(self, as_of=None):
            return self._do("score", as_of)

        def run(self, as_of=None):
            return self._do("run", as_of)

    class Result(SimpleNamespace):
        def __str__(self) -> str:
            return "churn_purchase_28d: published [12 customers] :apple:"

    made = Job(asked=[], does=Result(exit_code=0))
    monkeypatch.setattr(configuration.Config, "build", lambda self, progress=None: setattr(made, "progress", progress) or made)
    return made


# Start-up and usage -------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy(tmp_path):
    heavy = "{'pandas', 'numpy', 'mlflow', 'lightgbm', 'sklearn', 'duckdb', 'pyarrow', 'pydantic', 'sqlglot'}"
    code = (
        "import sys; from persopredict.cli import app\n"
        "try: app(['--help'])\n"
        f"except SystemExit: sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exit codes: 0 done; 1 failed; 2 bad usage" in done.stdout


def test_the_commands_are_those_that_work():
    listed = invoke("--help").stdout.split("Commands:")[1].split("Exit codes:")[0]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == ["init", "check", "train", "score", "run", "report", "demo"]


@pytest.mark.parametrize("arguments", [["chek"], ["run", "--nonsense"], ["run", "--config"]])
def test_bad_usage_exits_2(arguments):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert done.stderr


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert invoke("--version").stdout.strip() == f"persopredict {version('persopredict')}"


# init ---------------------------------------------------------------------------------------------------------------


def test_init_writes_a_configuration_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("init")
    assert done.exit_code == 0
    assert "persopredict check" in done.stdout
    assert list(configuration.load("persopredict.toml").targets) == ["churn_purchase_28d"]


def test_init_does_not_overwrite_without_force(project):
    assert invoke("init").exit_code == 2
    assert (project / "persopredict.toml").read_text() == CONFIG
    assert invoke("init", "--force").exit_code == 0
    assert (project / "persopredict.toml").read_text() != CONFIG


def test_init_proposes_the_mapping_of_a_file(project):
    done = invoke("init", "--events", "sales.parquet", "--config", "nightly/job.toml")
    assert done.exit_code == 0
    written = configuration.load("nightly/job.toml")
    assert written.events[0].columns.given() == {"customer_id": "client", "event_at": "sold_at", "value": "amount"}
    assert written.events[0].events.path == "../sales.parquet"
    assert 'store_no = "Store No"' in (project / "nightly" / "job.toml").read_text()
    assert invoke("check", "--config", "nightly/job.toml").exit_code == 0


def test_init_proposes_a_target_that_is_in_the_file(project):
    frame = pd.read_parquet("sales.parquet").assign(event_name=["login", "login", "ticket sale"] * 1000)
    frame.to_csv("log.csv", index=False)
    assert invoke("init", "--events", "log.csv", "--force").exit_code == 0
    target = next(iter(configuration.load("persopredict.toml").targets.values()))
    assert (target.name, target.event) == ("churn_ticket_sale_28d", "ticket sale")
    assert invoke("check").exit_code == 0


def test_init_names_the_nearest_file(project):
    done = invoke("init", "--events", "salse.parquet", "--force")
    assert done.exit_code == 2
    assert "did you mean 'sales.parquet'?" in done.stderr
    assert (project / "persopredict.toml").read_text() == CONFIG


# check --------------------------------------------------------------------------------------------------------------


def test_check_prints_the_report(project):
    done = invoke("check")
    assert done.exit_code == 0
    assert "3,000 rows, 3,000 usable" in done.stdout
    assert "naive_times" in done.stdout
    assert "America/New_York" in done.stdout
    assert done.stderr == ""


def test_check_fails_where_the_job_could_not_go_on(project):
    (project / "persopredict.toml").write_text(CONFIG.replace('"client"', '"cleint"'))
    done = invoke("check")
    assert done.exit_code == 1
    assert "did you mean 'client'?" in done.stdout


def test_check_shows_unusable_rows_with_an_example(project):
    frame = pd.read_parquet("sales.parquet").astype({"client": "object"})
    frame.loc[5, "client"] = None
    frame.to_parquet("sales.parquet")
    done = invoke("check")
    assert done.exit_code == 0
    assert "null_customer_id" in done.stdout
    assert "first:" in done.stdout


def test_check_exits_3_where_the_events_end_earlier_than_max_staleness(project):
    done = invoke("check", "--as-of", "2024-12-24")
    assert done.exit_code == 3
    assert "source_stopped" in done.stdout
    assert invoke("check", "--as-of", "2024-10-29").exit_code == 0
    (project / "persopredict.toml").write_text(CONFIG + "[job]\nmax_staleness = '60d'")
    assert invoke("check", "--as-of", "2024-12-24").exit_code == 0


AFFINITIES = """
[targets.favourites]
type = "affinity"
event = "purchase"
horizon = "28d"
by = "item_id"
[targets.best_hour]
type = "affinity"
event = "purchase"
horizon = "28d"
by = "hour"
[targets.taste]
type = "affinity"
event = "purchas"
horizon = "28d"
by = "category"
"""


def test_check_tells_what_an_affinity_lacks_together_with_everything_else(project):
    (project / "persopredict.toml").write_text(CONFIG + AFFINITIES)
    done = invoke("check")
    assert done.exit_code == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("- error")]
    assert len(problems) == 3
    for problem in (
        "unknown_category [favourites]: the log has no item_id. Remedy: map it when the log is made; there are: 'hour', 'weekday'.",
        "unknown_event [taste]: the log never holds 'purchas' (event). Remedy: did you mean 'purchase'?",
        "unknown_category [taste]: the log has no category. Remedy: map it when the log is made; there are: 'hour', 'weekday'.",
    ):
        assert f"- error {problem}" in problems
    assert "naive_times" in done.stdout
    assert "best_hour" not in done.stdout


def test_a_level_of_category_that_no_source_maps_is_refused_with_the_nearest_one(project):
    with_stores = CONFIG.replace('value = "amount"\n', 'value = "amount"\ncategory = ["Store No", "amount"]\n')
    (project / "persopredict.toml").write_text(with_stores + AFFINITIES.partition("[targets.best_hour]")[0].replace("item_id", "store_n"))
    done = invoke("check")
    assert done.exit_code == 2
    assert "did you mean 'store_no'?" in done.stderr


# train, score, run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "option"), [("train", "--until"), ("score", "--as-of"), ("run", "--as-of")])
def test_dates_are_read_in_the_projects_zone(project, job, name, option):
    assert invoke(name).exit_code == 0
    assert invoke(name, option, "2024-07-01").exit_code == 0
    assert job.asked == [(name, None), (name, datetime(2024, 7, 1, 4, tzinfo=UTC))]


def test_the_demo_shows_what_it_did(tmp_path, monkeypatch):
    from persopredict import demo

    monkeypatch.setattr(demo, "run", lambda folder, progress: SimpleNamespace(exit_code=4, made_in=folder.name))
    monkeypatch.setattr(demo, "shown", lambda result: f"made in {result.made_in}")
    monkeypatch.setattr(demo, "next_steps", lambda folder: f"look into {folder.name}")
    done = invoke("demo", str(tmp_path / "first"))
    assert (done.exit_code, done.stdout) == (4, "made in first\n\nlook into first\n")


def test_a_date_that_is_none_is_bad_usage(project, job):
    done = invoke("run", "--as-of", "yesterday")
    assert done.exit_code == 2
    assert "'yesterday' is not a date" in done.stderr
    assert job.asked == []


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_the_exit_code_is_the_results(project, job, code):
    job.does.exit_code = code
    done = invoke("run")
    assert done.exit_code == code
    assert done.stdout == "churn_purchase_28d: published [12 customers] :apple:\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotReadyError("the events stopped on 2024-10-26"), 3),
        (WarehouseBusyError("warehouse.duckdb is held by process 4711"), 1),
        (DataError("the log can't be used"), 1),
        (PersopredictError("something"), 1),
    ],
)
def test_an_error_on_purpose_has_its_code_and_no_traceback(project, job, error, code):
    job.does = error
    done = invoke("run")
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr == f"persopredict: {error}\n"


def test_an_unexpected_error_is_one_line_and_how_to_get_the_traceback(project, job):
    job.does = ZeroDivisionError("division by zero\nand more")
    done = invoke("run")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "persopredict: unexpected ZeroDivisionError: division by zero",
        "For the traceback: persopredict --traceback <command>, or PERSOPREDICT_TRACEBACK=1",
    ]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_traceback_is_there_when_asked_for(project, job, monkeypatch, way):
    job.does = ZeroDivisionError("division by zero")
    if way == "environment":
        monkeypatch.setenv("PERSOPREDICT_TRACEBACK", "1")
    done = invoke(*(["--traceback"] if way == "option" else []), "run")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "persopredict: unexpected ZeroDivisionError" in done.stderr


def test_examples_from_the_data_stay_out_of_a_schedulers_log(project, job):
    job.does = DataError("the log can't be used", [Problem("null_event", "no name", count=3, example="client 4711")])
    done = invoke("run")
    assert "null_event" in done.stderr
    assert "(3)" in done.stderr
    assert "4711" not in done.stderr


def test_the_configuration_is_found_by_its_option(tmp_path):
    done = invoke("run", "--config", str(tmp_path / "other.toml"))
    assert done.exit_code == 2
    assert "other.toml can't be read" in done.stderr


# Progress -----------------------------------------------------------------------------------------------------------


def drawn(*, terminal: bool) -> str:
    file = io.StringIO()
    with steps("nightly", console=Console(file=file, force_terminal=terminal, width=60)) as progress:
        progress("features [9 cutoffs]")
        progress("training")
    return file.getvalue()


def test_steps_are_drawn_on_a_terminal_with_their_times():
    text = drawn(terminal=True)
    assert re.search(r"✓ features \[9 cutoffs\]  0\.\d s", text)
    assert text.index("features") < text.index("✓ training")


def test_steps_are_silent_where_nobody_looks():
    assert drawn(terminal=False) == ""


def test_a_step_that_fails_is_marked():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60)
    with pytest.raises(ZeroDivisionError), steps(console=console) as progress:  # noqa: PT012
        progress("features")
        progress("training")
        raise ZeroDivisionError
    assert "✓ features" in file.getvalue()
    assert "✗ training" in file.getvalue()
    assert "✓ training" not in file.getvalue()


# On a terminal ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_long_lines_are_folded_between_words_on_a_terminal_and_nowhere_else(project):
    piped = command("check", folder=project, COLUMNS="60", TERM="xterm").stdout
    theirs, ours = os.openpty()
    start = [sys.executable, "-c", "from persopredict.cli import main; main()", "check"]
    environment = os.environ | {"COLUMNS": "60", "TERM": "xterm"}
    subprocess.run(start, cwd=project, env=environment, stdout=ours, stderr=subprocess.DEVNULL, timeout=60, check=True)
    os.close(ours)
    shown = os.read(theirs, 100_000).decode().replace("\r\n", "\n")
    os.close(theirs)
    assert max(map(len, piped.splitlines())) > 60 >= max(map(len, shown.splitlines()))
    assert shown.split() == piped.split()
    further = [line for line in shown.splitlines() if not any(whole.startswith(line) for whole in piped.splitlines())]
    assert further
    assert all(line.startswith("  ") for line in further)


# In a process of its own --------------------------------------------------------------------------------------------


def test_a_process_exits_0_1_2_and_3(project):
    good = command("init", "--config", "other.toml", folder=project, FORCE_COLOR="1")
    assert (good.returncode, good.stderr) == (0, "")
    stale = command("run", "--as-of", "2025-06-01", folder=project)
    assert (stale.returncode, stale.stdout) == (3, "")
    assert "nothing was published" in stale.stderr
    assert not (project / "warehouse.duckdb").exists()
    (project / "sales.parquet").unlink()
    assert command("check", folder=project).returncode == 1
    (project / "persopredict.toml").write_text("[project")
    broken = command("check", folder=project)
    assert broken.returncode == 2
    assert "line 1" in broken.stderr
    assert "Traceback" not in broken.stderr
