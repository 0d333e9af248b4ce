"""The benchmark compares like with like: on a small made log everybody's values are ours, and a value that is not is named."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from persopredict import EventLog, snapshots

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made_logs, rivals, rival_featuretools = (benchmark(name) for name in ("made_logs", "rivals", "rival_featuretools"))
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
