"""Notebooks run from a fresh kernel, and what is stored in them is what a run gives.

`python -m tests.test_notebooks` runs them and stores their outputs; of some only, if you name them: `python -m tests.test_notebooks churn`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
#: Seconds of processor time for one notebook, and characters for what is stored.
LONGEST, LARGEST = 60, 300_000
#: Characters of a line of code, as in notebooks/ruff.toml.
WIDEST = 100
#: One thread each: on small data several wait for one another, and two notebooks run at a time.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
#: What a path of the machine that ran it would begin with.
LOCAL = re.compile(r"(/home/|/Users/|/root/|/tmp/|/private/|[A-Z]:\\\\)")
#: The day on which it ran: whatever is shown is of the data's time.
TODAY = re.compile(r"\b20(?:2[5-9]|[3-9]\d)-\d\d-\d\d")


def execute(path: Path, folder: Path) -> Any:
    """The notebook with the outputs of a run in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from nbclient import NotebookClient
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=3 * LONGEST, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    found = client.execute(env=os.environ | THREADS)
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs = list(kept(cell.outputs))
    return found


def kept(outputs: Iterable[Any]) -> Iterator[Any]:
    """What is stored: of a chart the picture, which is all that a page without Vega draws, and a tenth of the specification; of progress,
    which is emptied at its end, nothing; of what is printed one text, in however many parts it came.
    """
    printed = None
    for output in outputs:
        if "data" in output:
            output.data = {kind: value for kind, value in output.data.items() if not kind.startswith("application/vnd.vegalite") and value}
            if not output.data:
                continue
        elif printed is not None and output.get("name") == printed.get("name"):
            printed.text += output.text
            continue
        printed = None if "data" in output else output
        yield output


def shown(notebook: Any) -> list[str]:
    """The words of each code cell's outputs."""
    return [" ".join(map(words_of, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]


def words_of(output: Any) -> str:
    """An output's text and tables without markup, numbers and spacing: other processors may round otherwise."""
    data = output.get("data", {})
    page = unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", "".join(data.get("text/html", "")), flags=re.DOTALL))
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return re.sub(r"[\s\-–]+", " ", re.sub(r"-?\d[\d,.:]*%?", "#", f"{text} {page}")).strip()


def seconds() -> float:
    """The processor's time so far, that of finished kernels included: on a busy machine the clock on the wall says little."""
    return sum(os.times()[:4])


class Notebook:
    """What holds of a notebook. Each is a class of its own, for a class is what `--dist loadscope` gives to a worker."""

    name = ""

    @pytest.mark.notebook
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_it_runs_and_gives_what_it_stores(self, tmp_path):
        start = seconds()
        found = execute(NOTEBOOKS[self.name], tmp_path)
        assert seconds() - start < LONGEST
        assert not [output for cell in found.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
        assert shown(found) == shown(nbformat.read(NOTEBOOKS[self.name], as_version=4))

    def test_what_it_stores_is_complete_and_of_no_particular_machine_or_day(self):
        notebook = nbformat.read(NOTEBOOKS[self.name], as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
        assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
        outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
        assert not LOCAL.search(outputs)
        assert not TODAY.search(outputs)
        assert NOTEBOOKS[self.name].stat().st_size < LARGEST

    def test_its_code_is_no_wider_than_a_page_shows(self):
        """Texts too, which no formatter breaks."""
        notebook = nbformat.read(NOTEBOOKS[self.name], as_version=4)
        lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
        assert [line for line in lines if len(line) > WIDEST] == []

    def test_its_links_lead_somewhere(self):
        notebook = nbformat.read(NOTEBOOKS[self.name], as_version=4)
        told = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        targets = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", told)]
        assert targets
        assert not [target for target in targets if not (ROOT / "notebooks" / target).is_file()]


class TestQuickStart(Notebook):
    name = "quick_start"


class TestFeaturesAndTime(Notebook):
    name = "features_and_time"


@pytest.mark.journey
class TestChurn(Notebook):
    name = "churn"


@pytest.mark.journey
class TestAffinity(Notebook):
    name = "affinity"


class TestOwnEstimator(Notebook):
    name = "own_estimator"


def test_every_notebook_is_tested():
    assert sorted(NOTEBOOKS) == sorted(kind.name for kind in Notebook.__subclasses__())


def main(names: list[str]) -> None:
    """Store the outputs of a run in the notebooks of these names; without any, in all."""
    for path in [NOTEBOOKS[name] for name in names] or NOTEBOOKS.values():
        start = seconds()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: {seconds() - start:.0f} s, {path.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
