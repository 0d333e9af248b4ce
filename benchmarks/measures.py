"""What one process of the benchmark measures, told on the command line and by JSON on the standard input; the answer is JSON too.

Libraries are loaded before the clock starts, for everybody.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import made_logs
import numpy as np
import pyarrow as pa

ONLINE_CUSTOMERS, ONLINE_EVENTS = 5_000, 500


def floor(path: str, threads: int) -> dict[str, Any]:
    """What nobody can beat: one grouped pass over the file."""
    import duckdb

    began = time.perf_counter()
    connection = duckdb.connect(config={"threads": threads})
    answer = connection.sql(f"SELECT customer_id, count(*), sum(value), max(event_at) FROM '{path}' GROUP BY customer_id").to_arrow_table()
    return {"seconds": time.perf_counter() - began, "rows": answer.num_rows}


def ours(path: str, threads: int, cutoffs: int, limit: str | None = None, names: Sequence[str] = ()) -> dict[str, Any]:
    """From the path to the last Arrow batch; `names`: of these features only."""
    from rivals import FEATURES

    chosen = [feature for feature in FEATURES if not names or feature.name in names]
    for _ in our_batches(made_logs.log(100, 10, folder=Path(path).parent), threads, 1, limit, chosen):
        # Modules that are imported on first use are not what is measured.
        pass
    began = time.perf_counter()
    rows, reading = 0, 0.0
    for batch in our_batches(Path(path), threads, cutoffs, limit, chosen):
        if batch is None:
            reading = time.perf_counter() - began
        else:
            rows += batch.num_rows
    return {"seconds": time.perf_counter() - began, "reading": reading, "rows": rows, "features": len(chosen)}


def our_batches(path: Path, threads: int, cutoffs: int, limit: str | None, chosen: Sequence[Any]) -> Iterator[Any]:
    """None once the log is read, then the batches."""
    import persopredict as pp

    events = pp.EventLog(path).limited(memory=limit, threads=threads).prepare()
    yield None
    yield from pp.snapshots(events, made_logs.cutoffs(cutoffs), chosen).batches()


def hand_written_sql(path: str, threads: int, cutoffs: int) -> dict[str, Any]:
    """Hand-written SQL."""
    from rivals import by_duckdb

    began = time.perf_counter()
    answer = by_duckdb(Path(path), made_logs.cutoffs(cutoffs), threads)
    return {"seconds": time.perf_counter() - began, "rows": answer.num_rows}


def hand_written_polars(path: str, threads: int, cutoffs: int) -> dict[str, Any]:
    """Hand-written Polars; its threads are set by the environment."""
    import polars
    from rivals import by_polars

    assert polars.thread_pool_size() == threads
    began = time.perf_counter()
    answer = by_polars(Path(path), made_logs.cutoffs(cutoffs))
    return {"seconds": time.perf_counter() - began, "rows": answer.num_rows}


def online(path: str, threads: int) -> dict[str, Any]:
    """One customer after another, as a service gets them: texts and numbers in lists, times in microseconds."""
    from rivals import FEATURES

    from persopredict.features.online import OnlineFeatures

    rows = pa.concat_tables(made_logs.chunks(ONLINE_CUSTOMERS * ONLINE_EVENTS, 10, seed=2)).drop_columns("customer_id")
    for name, kind in {"event_at": pa.int64(), "value": pa.float64()}.items():
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(kind))
    # Any so many rows from all over the year are one customer's: those of the made log have as many as they happen to have.
    customers = np.random.default_rng(2).permutation(len(rows)).reshape(ONLINE_CUSTOMERS, ONLINE_EVENTS)
    computer, took = OnlineFeatures(FEATURES), []
    for places in np.sort(customers):
        events = rows.take(places).to_pydict()
        began = time.perf_counter()
        computer.values(events, made_logs.END)
        took.append(time.perf_counter() - began)
    return {"seconds": sum(took), "median": float(np.median(took)), "p99": float(np.quantile(took, 0.99)), "features": len(FEATURES)}


def check(path: str, threads: int, cutoffs: int, featuretools: str = "") -> dict[str, Any]:
    """The values of everybody against ours; `featuretools`: the file that holds its answer."""
    import pyarrow.parquet as pq
    from rivals import FEATURES, by_duckdb, by_polars, differences

    began = time.perf_counter()
    answer = pa.Table.from_batches([batch for batch in our_batches(Path(path), threads, cutoffs, None, FEATURES) if batch is not None])
    moments = made_logs.cutoffs(cutoffs)
    if featuretools:
        rivals = {"featuretools": pq.read_table(featuretools)}
    else:
        rivals = {"duckdb": by_duckdb(Path(path), moments, threads), "polars": by_polars(Path(path), moments)}
    found = {name: differences(answer, theirs) for name, theirs in rivals.items()}
    return {"seconds": time.perf_counter() - began, "rows": answer.num_rows, "found": found}


def specs(threads: int) -> dict[str, Any]:
    """The features as plain values."""
    from rivals import FEATURES

    return {"seconds": 0.0, "specs": [feature.to_dict() for feature in FEATURES]}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "floor": floor,
    "ours": ours,
    "duckdb": hand_written_sql,
    "polars": hand_written_polars,
    "online": online,
    "check": check,
    "specs": specs,
}


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](**json.load(sys.stdin))))
