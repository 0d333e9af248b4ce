"""The documentation as a site: it builds without a warning, is read without a network, and what it says of schedulers holds."""

from __future__ import annotations

import doctest
import logging
import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import persopredict as pp
from persopredict import errors
from tests.pages import PAGES, ROOT, blocks, named
from tests.test_docs import check_command

#: What makes a browser load something by itself; a link that a reader may follow is none of it.
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "object": "data"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--doctree-dir", str(folder / "doctrees"), "--conf-dir", str(ROOT / "docs")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Loads(HTMLParser):
    """What a page loads, and the ids in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if given.get("id") else set()
        if tag in LOADED and given.get(LOADED[tag]) and given.get("rel") not in ("next", "prev", "search", "index", "canonical"):
            self.loaded.append(given[LOADED[tag]])


def test_the_site_is_read_from_files_without_a_network(site):
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    assert len(pages) > len(PAGES) + len(list((ROOT / "notebooks").glob("*.ipynb")))
    for page in pages:
        for address in Loads(page).loaded:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
            assert address.startswith("data:") or (page.parent / address.partition("?")[0]).exists(), f"{page.name} lacks {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import\s+|url\()[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_first_page_leads_to_the_documentation_and_the_search_knows_its_words(site):
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")
    assert all(name in index for name in ("docs/how-to/sql", "rolling_cutoffs", "benchmarks/quality"))


def test_every_public_name_and_every_error_is_on_a_page_of_the_reference(site):
    ids = set().union(*(Loads(page).ids for page in (site / "docs" / "reference" / "api").glob("*.html")))
    assert {f"persopredict.{name}" for name in pp.__all__} <= ids
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PersopredictError)}
    assert {f"persopredict.errors.{kind.__name__}" for kind in kinds} - {"persopredict.errors.PersopredictError"} <= ids


def test_no_markup_of_a_docstring_is_left_over(site):
    for page in (site / "docs" / "reference" / "api").glob("*.html"):
        text = re.sub(r"<(pre|script).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"-----|:param |:raises |``", text), page.name


@pytest.fixture(scope="module")
def browser(site):
    """Opens a page of the site in Chromium: `browser(size, color_scheme=…)`, a context manager."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it is one of the development tools")
    from tests import test_report_browser as browsers

    if browsers.CHROMIUM is None and not browsers.REQUIRED:
        pytest.skip("no Chromium here: install it (Debian: apt-get install chromium), or name it in PERSOPREDICT_CHROMIUM")
    assert browsers.CHROMIUM is not None, "Chromium is missing, and PERSOPREDICT_BROWSER says that it is required"
    with browsers.sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browsers.CHROMIUM, args=list(browsers.QUIET))
        yield partial(browsers.watched, started)
        started.close()


def complaints(seen) -> list[str]:
    """What the browser said, apart from the theme's own log."""
    return [text for text in seen.said if not text.startswith("log: [PST]")]


SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_pages_open_from_files_without_an_error_and_as_wide_as_the_screen(browser, site, size):
    for name in ("index", "how-to/sql", "reference/attributes", "reference/api/predicting", "report"):
        with browser(size) as seen:
            seen.page.goto((site / "docs" / f"{name}.html").as_uri())
            assert complaints(seen) == [], name
            assert all(address.startswith(("file:", "data:")) for address in seen.asked), name
            assert seen.width() <= size[0], name


def test_the_site_is_dark_where_the_reader_s_system_is(browser, site):
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
    found = {}
    for scheme in ("light", "dark"):
        with browser(SIZES["desktop"], color_scheme=scheme) as seen:
            seen.page.goto((site / "docs" / "concepts" / "time.html").as_uri())
            found[scheme] = seen.page.evaluate(brightness)
    assert found["light"] > 3 * 200 > 3 * 60 > found["dark"]


def test_the_search_finds_pages_without_a_server(browser, site):
    with browser(SIZES["desktop"]) as seen:
        seen.page.goto((site / "index.html").as_uri())
        seen.page.wait_for_url("**/docs/index.html")
        seen.page.keyboard.press("Control+k")
        seen.page.locator("input[type=search]:visible").fill("quarantine")
        seen.page.keyboard.press("Enter")
        first = seen.page.locator("#search-results li a").first
        first.wait_for()
        first.click()
        seen.page.wait_for_url("**/docs/**")
        assert "quarantine" in seen.page.inner_text("article").lower()
        assert complaints(seen) == []


def test_docstrings_become_field_lists(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import docstrings

    assert doctest.testmod(docstrings).failed == 0
    given = """Fit.

        Parameters
        ----------
        kind : what to fit, whose words are so many that they had to go on in
            the next line.
        **settings : of the learner.

        After them a paragraph.

        Raises
        ------
        DataError, EngineError : on use.

        Attributes after `fit`
        ----------------------
        scorer_ and one more."""
    assert docstrings.fields([line.strip() if line[8:9] != " " else line[8:] for line in given.split("\n")]) == [
        "Fit.", "",
        ":param kind: what to fit, whose words are so many that they had to go on in the next line.",
        r":param \*\*settings: of the learner.", "",
        "After them a paragraph.", "",
        ":raises DataError: on use.", ":raises EngineError: on use.", "",
        ".. rubric:: Attributes after fit", "", "``scorer_`` and one more.",
    ]  # fmt: skip


# Schedulers -------------------------------------------------------------------------------------------------------------------------------

CRON = re.compile(r"(\S+) (\S+) (\S+) (\S+) (\S+) +(\S.*)")
HIGHEST = (59, 23, 31, 12, 7)


def cron_problem(when: str) -> str:
    """What is wrong with the five fields of a cron line, "" if nothing."""
    fields = when.split()
    if len(fields) != 5:
        return f"{len(fields)} fields"
    for field, highest in zip(fields, HIGHEST, strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(\*|(\d+)(-(\d+))?)(/\d+)?", part)
            if not found or any(int(number) > highest for number in (found[2], found[4]) if number):
                return f"{part} is no time"
    return ""


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.kind == "cron" for block in blocks(page))], ids=named)
def test_a_line_for_cron_has_times_and_a_command_without_percent_signs(page):
    for block in blocks(page):
        lines = block.text.splitlines() if block.kind == "cron" else ()
        for line in [line for line in lines if line and not re.match(r"#|[A-Z_]+=", line)]:
            found = CRON.fullmatch(line)
            assert found, line
            assert not cron_problem(" ".join(found.groups()[:5])), line
            assert not re.search(r"(?<!\\)%", found[6]), line
            command = re.split(r"\s*(?:>|2>|&&)", found[6])
            assert any(check_command(part) for part in command) or command[0].endswith(".sh"), line


@pytest.mark.parametrize(
    ("when", "right"), [("30 4 * * *", True), ("*/15 0-6 1,15 * 1-5", True), ("60 4 * * *", False), ("4 * * *", False)]
)
def test_times_of_cron_are_told_from_others(when, right):
    assert (cron_problem(when) == "") == right


def shown_file(name: str) -> str:
    [found] = [block.text for page in PAGES for block in blocks(page) if block.file == name]
    return found


@pytest.fixture
def pretender(tmp_path):
    """A persopredict that notes how it was called and ends with the next of the exit codes that it was given."""

    def make(*codes: int) -> Path:
        command = tmp_path / ".venv" / "bin" / "persopredict"
        command.parent.mkdir(parents=True)
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        command.write_text(
            f'#!/bin/bash\ncd "{tmp_path}"\necho "$@" >> calls\nread -r code < codes\nsed -i 1d codes\necho result\nexit "$code"\n'
        )
        command.chmod(0o755)
        return command

    return make


@pytest.mark.parametrize(
    ("codes", "ends", "calls", "told"),
    [
        ((0,), 0, 1, ""),
        ((4,), 4, 1, "some targets were skipped"),
        ((1,), 1, 1, "is not published: exit code 1"),
        ((2,), 2, 1, "is not published: exit code 2"),
        ((3, 3, 0), 0, 3, "attempt 2: the data is not ready"),
        ((3,) * 6, 3, 6, "is not published: exit code 3"),
    ],
)
def test_the_script_for_cron_waits_for_late_data_only_and_passes_the_exit_code_on(tmp_path, pretender, codes, ends, calls, told):
    pretender(*codes)
    script = tmp_path / "nightly.sh"
    script.write_text(shown_file("nightly.sh"))
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PAUSE": "0"}, check=False)
    assert done.returncode == ends
    assert told in done.stderr
    assert done.stdout.splitlines() == ["result"] * calls
    called = (tmp_path / "calls").read_text().splitlines()
    assert len(called) == calls
    assert all(check_command(f"persopredict {call}") for call in called)
    assert all(re.fullmatch(r"run --as-of \d{4}-\d\d-\d\d", call) for call in called)


class AirflowFailException(Exception):
    """Stands for Airflow's, which ends a task without another attempt."""


@pytest.fixture
def dag(monkeypatch, tmp_path):
    """The page's DAG, with stand-ins for what it imports of Airflow: its settings, those of its task, and the task's function."""
    asked = SimpleNamespace()

    def dag(**settings):
        asked.dag = settings
        return lambda function: function

    def task(**settings):
        def decorated(function):
            asked.task, asked.function = settings, function
            return lambda: None

        return decorated

    modules = {
        "airflow": {},
        "airflow.sdk": {"dag": dag, "task": task},
        "airflow.sdk.exceptions": {"AirflowFailException": AirflowFailException},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    file = tmp_path / "persopredict_nightly.py"
    file.write_text(shown_file("dags/persopredict_nightly.py"))
    runpy.run_path(str(file))
    return asked


def test_the_dag_runs_once_a_night_and_never_twice_at_a_time(dag):
    assert not cron_problem(dag.dag["schedule"])
    assert dag.dag["start_date"].tzinfo is not None
    assert (dag.dag["catchup"], dag.dag["max_active_runs"]) == (False, 1)
    assert dag.task["retries"] > 0


@pytest.mark.parametrize(("code", "raised"), [(0, None), (4, None), (1, RuntimeError), (3, RuntimeError), (2, AirflowFailException)])
def test_the_dag_s_task_tries_again_what_waiting_may_mend(dag, pretender, tmp_path, monkeypatch, caplog, code, raised):
    monkeypatch.setitem(dag.function.__globals__, "PERSOPREDICT", str(pretender(code)))
    after_midnight_in_madrid = SimpleNamespace(run_after=datetime(2026, 7, 1, 22, 30, tzinfo=UTC))
    with caplog.at_level(logging.WARNING):
        if raised is None:
            assert dag.function(dag_run=after_midnight_in_madrid) == "2026-07-02"
        else:
            with pytest.raises(raised):
                dag.function(dag_run=after_midnight_in_madrid)
    assert ("skipped" in caplog.text) == (code == 4)
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert call == "run --config /srv/shop/persopredict.toml --as-of 2026-07-02"
    assert check_command(f"persopredict {call}")
