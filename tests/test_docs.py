"""The documentation is true: its examples run and print what it shows, its tables are the code's, its links lead somewhere.

`python -m tests.test_docs` writes generated tables and printed outputs anew; names of pages behind it keep it to these.
"""

from __future__ import annotations

import configparser
import contextlib
import importlib
import inspect
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer.main

from persopredict import errors, sections
from persopredict.affinity import baselines, candidates, population, sampling
from persopredict.affinity.features import PAIR_FEATURES
from persopredict.attributes import COLUMNS, NOT_SCORED_REASONS
from persopredict.cli import app
from persopredict.config import load
from persopredict.features.spec import AGGREGATES
from persopredict.sources import UNUSABLE
from persopredict.usability import UNUSABLE_FACTS
from persopredict.warehouse_tables import JOBS, OUTCOMES, QUARANTINE, RUNS, TABLES
from tests import pages
from tests.conformance import conformance, markdown
from tests.pages import PAGES, ROOT, RUN, blocks, named, run, without_blocks, words

DOCS = ROOT / "docs"
MARKED = re.compile(r"<!-- generated: ([\w.]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
#: What is neither run nor read by anything here, but by the site itself or by the reader.
UNREAD = ("text", "", "{toctree}", "{eval-rst}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.kind in RUN for block in blocks(page))], ids=named)
def test_the_examples_run_and_print_what_the_page_shows(page, folder):
    for block, printed in run(page):
        if block.output is None:
            assert not printed, f"{named(page)}:{block.line} prints, and the page does not show what"
        else:
            assert words(printed) == words(block.output), f"{named(page)}:{block.line}"


# Tables that are generated ---------------------------------------------------------------------------------------------------------------


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def section_table(model: type[sections.Section]) -> str:
    """Key, default and what is allowed, of one table of the TOML."""
    rows = []
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else "–" if field.default in (None, {}) else f"`{shown(field.default)}`"
        rows.append((f"`{key}`", default, field.description or ""))
    return table(("key", "default", "allowed"), rows)


def shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def aggregates() -> str:
    def columns(numbers: tuple[int, ...]) -> str:
        return " or ".join(map(str, numbers))

    rows = [(f"`{name}`", columns(entry.columns), "yes" if entry.numeric else "no", entry.meaning) for name, entry in AGGREGATES.items()]
    return table(("aggregate", "columns", "numbers only", "value"), rows)


def quarantine(reasons: Mapping[str, tuple[str, str]]) -> str:
    return table(("code", "why", "what to do"), [(f"`{code}`", why, remedy) for code, (why, remedy) in reasons.items()])


def commands() -> str:
    """Every command with its options, from the command line itself."""
    rows = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        given = ["/".join(f"`{opt}`" for opt in parameter.opts) for parameter in command.params if parameter.name != "help"]
        rows.append((f"`{name}`", command.get_short_help_str(200), ", ".join(given)))
    return table(("command", "what it does", "options"), rows)


def exit_codes() -> str:
    from persopredict.cli import _EPILOG

    text = _EPILOG.removeprefix("Exit codes: ").rstrip(".")
    return table(("code", "meaning"), [(code, meaning) for code, _, meaning in (entry.partition(" ") for entry in text.split("; "))])


def pair_features() -> str:
    """What the model of an affinity knows, from the features themselves."""
    about = {"pair": "the pair", "category": "the category", "together": "what goes together", "customer": "the customer"}
    rows = [(f"`{entry.name}`", about[entry.about], entry.concept, entry.label) for entry in PAIR_FEATURES]
    return table(("feature", "about", "says", "value"), rows)


def affinity_candidates() -> str:
    most = inspect.signature(candidates.candidates).parameters["most"].default
    marks = (
        (candidates.OWN, "their own, those with the most decayed occasions"),
        (candidates.POPULAR, "the most popular in the last horizon"),
        (candidates.RISING, f"those with the strongest trend, of at least {candidates.FEWEST_TAKERS} takers"),
        (candidates.UNTRIED[population.GOES_TOGETHER], "new ones that go together best with all that was taken"),
        (candidates.UNTRIED[population.FOLLOWS], "new ones that follow best from what was taken lately"),
    )
    return table(("at most", "which"), [(str(round(share * most)), which) for share, which in marks])


def affinity_limits() -> str:
    matrices = inspect.signature(population.Population.of).parameters
    limits = (
        ("pairs that have occurred, times moments", sampling.MOST_HELD, _beyond_what_is_held()),
        ("rows that a model learns from", sampling.MOST_ROWS, "rows are drawn, with weights"),
        ("rows of one test", sampling.MOST_TESTED, "customers are left out"),
        ("categories of the matrices", matrices["most"].default, "the ones most taken"),
        ("customers from whom the matrices are learnt", matrices["sample"].default, "evenly chosen among the eligible"),
        ("customers who settle the baselines' half-life and weight", baselines.DECIDING, "evenly chosen"),
    )
    return table(("what", "at most", "beyond it"), [(what, f"{most:,}", beyond) for what, most, beyond in limits])


def _beyond_what_is_held() -> str:
    moments, customers = sampling._FEWEST_MOMENTS, sampling._FEWEST_CUSTOMERS
    return f"the earliest moments are left out, as long as {moments} remain, then customers, as long as {customers:,} remain"


SECTIONS = {
    "project": sections.Project,
    "source": sections.Source,
    "events": sections.Events,
    "events.columns": sections.Columns,
    "lookups": sections.Lookup,
    "targets.conversion": sections.Conversion,
    "targets.churn": sections.Churn,
    "targets.cancellation": sections.Cancellation,
    "targets.affinity": sections.Affinity,
    "targets.lightgbm": sections.LightGBM,
    "tracking": sections.Tracking,
    "job": sections.JobSettings,
    "report": sections.Report,
    "warehouse": sections.WarehouseSettings,
}
GENERATED: dict[str, Callable[[], str]] = {
    "aggregates": aggregates,
    "conformance": lambda: markdown(conformance()),
    "quarantine": lambda: quarantine(UNUSABLE),
    "lookup_quarantine": lambda: quarantine(UNUSABLE_FACTS),
    "commands": commands,
    "exit_codes": exit_codes,
    "pair_features": pair_features,
    "affinity_candidates": affinity_candidates,
    "affinity_limits": affinity_limits,
    **{f"toml.{name}": (lambda model=model: section_table(model)) for name, model in SECTIONS.items()},
}


def marked() -> dict[str, str]:
    return {name: content for page in PAGES for name, content in MARKED.findall(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_table_is_the_codes(name):
    assert marked()[name].strip() == GENERATED[name]().strip(), "write it anew: python -m tests.test_docs"


def test_no_marked_table_is_unknown():
    assert set(marked()) == set(GENERATED)


# Tables that are written, whose first columns the code knows ----------------------------------------------------------------------------


def rows_under(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, backticks taken off."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert f"\n{heading}\n" in text, f"{page} has no {heading!r}"
    lines = text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")][2:]


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("## `predictive_attributes`", COLUMNS),
        ("## `runs`", TABLES[RUNS]),
        ("## `outcomes`", TABLES[OUTCOMES]),
        ("## `jobs`", TABLES[JOBS]),
        ("## `quarantine`", TABLES[QUARANTINE]),
    ],
)
def test_the_warehouses_columns_are_the_codes(heading, columns):
    kinds = {name: "list of structs" if kind.startswith("STRUCT") else kind for name, kind in columns.items()}
    assert {row[0]: row[1] for row in rows_under("reference/attributes.md", heading)} == kinds
    assert [row[0] for row in rows_under("reference/attributes.md", heading)] == list(columns)


def test_the_reasons_for_no_score_are_the_codes():
    assert [row[0] for row in rows_under("reference/attributes.md", "### Why a customer has no score")] == list(NOT_SCORED_REASONS)


def codes_in(*modules: str) -> set[str]:
    found: set[str] = set()
    for module in modules:
        source = Path(importlib.import_module(f"persopredict.{module}").__file__ or "").read_text(encoding="utf-8")
        found |= set(re.findall(r'\bProblem\(\s*"([a-z_]+)"', source))
    return found


def test_the_usability_codes_are_the_codes():
    written = [row[0] for row in rows_under("reference/data-model.md", "### What a check can find")]
    assert len(written) == len(set(written))
    assert set(written) - {"negative_quantity", "negative_value", "missing_column", "mistyped_column"} == codes_in("usability")


def test_the_errors_table_names_every_public_error_with_its_exit_code():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PersopredictError)]
    written = {row[0]: int(row[1]) for row in rows_under("reference/command-line.md", "## Errors")}
    assert written == {kind.__name__: kind.exit_code for kind in kinds if kind is not errors.PersopredictError}


def test_the_rooms_are_the_import_linters_layers_from_upstream_down():
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:flow"]["layers"].split("\n")
    expected = [sorted(name.strip() for name in layer.split("|")) for layer in layers if layer.strip()][::-1]
    written = [sorted(re.findall(r"`?([\w.]+)`?", row[0].replace("`", ""))) for row in rows_under("architecture.md", "## Rooms")]
    assert written == expected


@pytest.mark.parametrize("folder", ["features", "affinity"])
def test_every_module_of_a_folder_has_a_room(folder):
    rooms = {name for row in rows_under("architecture.md", "## Rooms") for name in re.findall(rf"\b{folder}\.\w+", row[0])}
    assert rooms == {f"{folder}.{path.stem}" for path in (ROOT / "persopredict" / folder).glob("[!_]*.py")}


# Links, files, shell ----------------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in anchors(aim), f"{named(page)}: {target}"


def check_command(line: str) -> bool:
    """Whether a line calls persopredict or make, which must then have the commands, targets and options that it names."""
    parts = shlex.split(line, comments=True)
    if parts[:1] == ["make"]:
        known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert {part for part in parts[1:] if "=" not in part} <= known, line
        return True
    if not parts or Path(parts[0]).name != "persopredict":
        return False
    words_of = iter(parts[1:])
    command = next(word for word in words_of if word in COMMANDS or word in ("--help", "--version"))
    if command in COMMANDS:
        options = {option for parameter in COMMANDS[command].params for option in parameter.opts} | {"--help"}
        assert {word for word in words_of if word.startswith("-")} <= options, line
    return True


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_the_commands_that_the_pages_show_exist():
    lines = [line for page in PAGES for block in blocks(page) if block.kind == "shell" for line in block.text.splitlines()]
    assert sum(check_command(line) for line in lines) > 5


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_shown_configuration_is_a_right_one(page, tmp_path):
    """A part of one too, once the rest is there."""
    rest = {
        "[[events]]": """
            [[events]]
            path = "sales.csv"
            event = "purchase"
            columns = { customer_id = "client", event_at = "sold_at", category = ["department", "family"] }
            """,
        "[targets.": '[targets.churn]\ntype = "churn"\nevent = "purchase"\nhorizon = "28d"\n',
        "[warehouse]": '[warehouse]\nurl = "warehouse.duckdb"\n',
    }
    for block in blocks(page):
        if block.kind == "toml":
            whole = [block.text, *(text for table, text in rest.items() if table not in block.text)]
            file = tmp_path / "persopredict.toml"
            file.write_text("\n".join(whole), encoding="utf-8")
            assert load(file).predictors(), f"{named(page)}:{block.line}"


def test_every_notebook_is_on_the_site():
    tutorials = (DOCS / "tutorials" / "index.md").read_text(encoding="utf-8")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"](../../notebooks/{notebook.name})" in tutorials
        assert f"\n../../notebooks/{notebook.stem}\n" in tutorials


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_block_is_of_a_kind_that_nothing_tests(page):
    for block in blocks(page):
        assert block.kind in (*RUN, "shell", "toml", "cron", "bash", *UNREAD), f"{named(page)}:{block.line} {block.kind}"
        assert block.kind != "bash" or block.file, f"{named(page)}:{block.line} is no file; a command belongs into a console"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_file_that_a_page_shows_is_used_by_a_later_command_or_by_a_test(page):
    found = blocks(page)
    for number, block in enumerate(found):
        if block.file is not None and block.kind != "toml":
            called = [command for later in found[number:] if later.kind == "console" for command, _ in pages.commands(later.text)]
            assert block.file in USED or any(block.file in command for command in called), f"{named(page)}: {block.file}"


#: Files of pages that tests of their own run.
USED = ("nightly.sh", "dags/persopredict_nightly.py")


def test_the_example_configuration_is_a_right_one():
    config = load(ROOT / "examples" / "persopredict.toml")
    assert [predictor.target.name for predictor in config.predictors()] == list(config.targets)


def test_the_example_script_runs_twice_to_the_same_rows(folder, monkeypatch, capsys):
    printed = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["nightly.py", str(folder / "shop")])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "examples" / "nightly.py"), run_name="__main__")
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert "new champion" in printed[0]
    assert "new champion" not in printed[1]
    rows = [text.split("Likeliest to leave")[1] for text in printed]
    assert rows[0] == rows[1]


def main(*names: str) -> None:
    """Write generated tables and printed outputs into the pages; into those of these names only, if there are any."""
    for page in [page for page in PAGES if not names or named(page) in names]:
        text = page.read_text(encoding="utf-8")
        text = MARKED.sub(lambda found: f"<!-- generated: {found[1]} -->\n{GENERATED[found[1]]()}<!-- end -->\n", text)
        page.write_text(text, encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for block, printed in reversed(list(run(page))):
                text = text[: block.place[0]] + pages.shown(block, printed) + text[block.place[1] :]
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
