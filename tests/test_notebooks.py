"""Notebooks run from a fresh kernel, and what is stored in them is what a run gives.

`python -m tests.test_notebooks` runs them and stores their outputs.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 60
#: What a path of the machine that ran it would begin with.
LOCAL = re.compile(r"(/home/|/Users/|/root/|/tmp/|/private/|[A-Z]:\\\\)")


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
    return client.execute()


def printed(notebook: Any) -> list[str]:
    """The plain text of each code cell's outputs."""
    return [
        "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def words(text: str) -> str:
    """The text without numbers and spacing, which other processors may round otherwise."""
    return re.sub(r"[\s\-–]+", " ", re.sub(r"-?\d[\d,.:]*%?", "#", text)).strip()


@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_what_it_stores(path, tmp_path):
    start = seconds()
    found = execute(path, tmp_path)
    assert seconds() - start < LONGEST
    stored = nbformat.read(path, as_version=4)
    assert not [output for cell in found.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert [words(text) for text in printed(found)] == [words(text) for text in printed(stored)]


def seconds() -> float:
    """The processor's time so far, that of finished kernels included: on a busy machine the clock on the wall says little."""
    return sum(os.times()[:4])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_complete_and_of_no_particular_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert not LOCAL.search(json.dumps([cell.get("outputs", []) for cell in notebook.cells]))


def main() -> None:
    """Store the outputs of a run in every notebook."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)} | {"language_info": {"name": "python"}}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
