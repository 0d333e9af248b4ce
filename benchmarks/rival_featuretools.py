"""featuretools computes those of the benchmark's features that it can express.

It runs in an environment of its own, made by `environment`: featuretools 1.31 and woodwork 0.31 don't work with pandas 3,
nor with a setuptools that has no `pkg_resources`. So this file imports nothing of persopredict: features come as JSON on the standard
input, the answer goes into a Parquet file.

Not expressible: windows within windows (trend), gaps between active days, and what follows from them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("featuretools==1.31.0", "woodwork==0.31.0", "pandas==2.3.3", "numpy==2.3.5", "setuptools==80.10.2", "pyarrow==25.0.1")
EXPRESSIBLE = ("count", "sum", "mean", "min", "max", "std", "share", "ratio", "distinct", "recency", "tenure")
#: Columns whose values conditions name, or whose different values are counted.
_CATEGORIES = ("customer_id", "event", "item_id", "category", "channel", "order_id", "day")

Spec = Mapping[str, Any]


def environment(folder: Path) -> Path:
    """The interpreter of featuretools' own environment, made on first use: see above."""
    home = folder / "featuretools"
    python, made = home / "bin" / "python", home / "packages.json"
    if not made.exists() or json.loads(made.read_text()) != list(PACKAGES):
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else shutil.which("uv")
        if uv is None:
            raise SystemExit(
                "featuretools needs an environment of its own, made by uv: pip install uv, or name the other parts with --only"
            )
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *PACKAGES], check=True)
        made.write_text(json.dumps(PACKAGES))
    return python


def expressible(specs: Sequence[Spec]) -> list[Spec]:
    """Those that featuretools can compute."""
    return [spec for spec in specs if spec["aggregate"] in EXPRESSIBLE]


def entities(path: str) -> Any:
    """The log as an entity set: events, and the customers that they name."""
    import featuretools as ft
    import pandas as pd

    events = pd.read_parquet(path)
    events["event_at"] = events["event_at"].dt.tz_localize(None)
    events["value"] = events["value"].astype(float)
    events["day"] = events["event_at"].dt.date.astype(str)
    whole = ft.EntitySet("log")
    whole.add_dataframe(
        dataframe=events.reset_index(names="event_number"),
        dataframe_name="events",
        index="event_number",
        time_index="event_at",
        logical_types=dict.fromkeys(_CATEGORIES, "Categorical"),
    )
    return whole.normalize_dataframe("events", "customers", "customer_id", make_time_index=False)


class Expressions:
    """The specs of one window as features of featuretools."""

    def __init__(self, whole: Any) -> None:
        import featuretools as ft
        from featuretools import primitives

        self._column = lambda name: ft.Feature(whole["events"].ww[name])
        self._feature = ft.Feature
        self._primitives = {
            "count": primitives.Count(),
            "sum": primitives.Sum(),
            "mean": primitives.Mean(),
            "min": primitives.Min(),
            "max": primitives.Max(),
            "std": primitives.Std(),
            "distinct": primitives.NumUnique(),
            "recency": primitives.TimeSinceLast(unit="days"),
            "tenure": primitives.TimeSinceFirst(unit="days"),
        }
        self._inputs = {"count": "event_number", "recency": "event_at", "tenure": "event_at"}

    def of(self, spec: Spec) -> Any:
        """The feature under its name; shares and ratios divide one by another."""
        column, where = spec["column"], spec["where"]
        if spec["aggregate"] == "share":
            size = "sum" if column else "count"
            found = self._aggregate(size, column, where) / self._aggregate(size, column, None)
        elif spec["aggregate"] == "ratio":
            found = self._aggregate("sum", column[0], where) / self._aggregate("distinct", column[1], where)
        else:
            found = self._aggregate(spec["aggregate"], column, where)
        return found.rename(spec["name"])

    def _aggregate(self, name: str, column: str | None, where: str | None) -> Any:
        condition = None
        if where is not None:
            asked, value = re.fullmatch(r"\"?(\w+)\"? = '(\w+)'", where).groups()  # type: ignore[union-attr]
            condition = self._column(asked) == value
        source = self._column(column or self._inputs[name])
        return self._feature(source, parent_dataframe_name="customers", primitive=self._primitives[name], where=condition)


def matrices(path: str, cutoffs: Sequence[str], specs: Sequence[Spec]) -> Iterator[Any]:
    """One feature matrix for each window: customers who were known at the cutoff, at each of them."""
    import featuretools as ft
    import pandas as pd

    whole = entities(path)
    first = whole["events"].groupby("customer_id", observed=True)["event_at"].min()
    instants = [pd.Timestamp(cutoff).tz_localize(None) for cutoff in cutoffs]
    asked = pd.concat([pd.DataFrame({"customer_id": first.index[first < instant], "time": instant}) for instant in instants])
    expressions = Expressions(whole)
    for window in dict.fromkeys(spec["window"] for spec in specs):
        yield ft.calculate_feature_matrix(
            [expressions.of(spec) for spec in specs if spec["window"] == window],
            entityset=whole,
            cutoff_time=asked,
            # `2d` would be read as two days all the same; featuretools' own words are clearer.
            training_window=None if window is None else f"{window[:-1]} days",
            include_cutoff_time=False,
            cutoff_time_in_index=True,
        )


def computed(path: str, cutoffs: Sequence[str], specs: Sequence[Spec]) -> Any:
    """All features side by side: customer_id, cutoff, features."""
    import numpy as np
    import pandas as pd

    whole = pd.concat(list(matrices(path, cutoffs, specs)), axis=1)
    for spec in specs:
        values = whole[spec["name"]].astype(float).replace([np.inf, -np.inf], np.nan)
        whole[spec["name"]] = values if spec["fallback"] is None else values.fillna(spec["fallback"])
    whole = whole.rename_axis(["customer_id", "cutoff"]).reset_index()
    return whole.assign(customer_id=whole["customer_id"].astype(str), cutoff=whole["cutoff"].dt.tz_localize("UTC").astype("M8[us, UTC]"))


def main() -> None:
    """Read what is asked from the standard input, write the answer, print the seconds that it took."""
    import featuretools  # noqa: F401 - what is imported before the clock starts is not counted, as with the others

    asked = json.load(sys.stdin)
    began = time.perf_counter()
    answer = computed(asked["path"], asked["cutoffs"], asked["features"])
    seconds = time.perf_counter() - began
    if asked.get("answer"):
        answer.to_parquet(asked["answer"])
    print(json.dumps({"seconds": seconds, "rows": len(answer), "columns": len(answer.columns) - 2}))


if __name__ == "__main__":
    main()
