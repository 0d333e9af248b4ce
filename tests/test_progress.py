"""Progress: long work says what it is at where somebody looks, once, and leaves nothing behind; elsewhere it is silent."""

from __future__ import annotations

import _thread
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from persopredict import progress, snapshots
from persopredict.progress import Work, quiet, step, steps, task, track
from tests import made


class Canvas:
    """Keeps what would be drawn."""

    def __init__(self, lines):
        self.lines, self.cleared = lines, 0

    def draw(self, work):
        if not self.lines or self.lines[-1] != str(work):
            self.lines.append(str(work))

    def clear(self):
        self.cleared += 1


@pytest.fixture
def canvases(monkeypatch):
    """The canvases that are asked for; everything is drawn at once and often."""
    made_ones = []

    def canvas():
        made_ones.append(Canvas([]))
        return made_ones[-1]

    monkeypatch.setattr(progress, "_canvas", canvas)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "_INTERVAL", 0.001)
    return made_ones


def seen(canvas, text, *, within=5.0):
    """Wait until a line that contains the text has been drawn."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if any(text in line for line in list(canvas.lines)):
            return True
        time.sleep(0.002)
    return False


# What it says ----------------------------------------------------------------------------------------------------------------------------


def test_a_task_says_what_it_is_at_from_the_whole_to_its_smallest_part(canvases):
    with task("fit churn"):
        step("tests")
        for cutoff in track(["a", "b", "c"], "cutoff"):
            for place in track(range(4), "customers", numbered=False):
                if (cutoff, place) == ("b", 1):
                    assert seen(canvases[0], "fit churn · tests · cutoff 2 of 3 · customers 25%")
        step("model")
        assert seen(canvases[0], "fit churn · model")
    assert canvases[0].cleared == 1


def test_parts_within_parts_count_for_the_whole():
    work = Work("fit")
    token = progress._running.set(progress._Scope(work))
    try:
        step("tests")
        assert work.share is None
        shares = [work.share for _ in track(range(2), "cutoff") for _ in track(range(4), "customers")]
        assert shares == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]
        assert [part.name for part in work.parts] == ["tests"]
    finally:
        progress._running.reset(token)


def test_a_loop_that_is_left_early_is_forgotten(canvases):
    with task("fit"):
        for _ in track(range(5), "cutoff"):
            break
        assert seen(canvases[0], "fit")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            for _ in track(range(5), "cutoff"):
                raise ZeroDivisionError
        step("model")
        assert seen(canvases[0], "fit · model")
    assert not any("cutoff" in line and "model" in line for line in canvases[0].lines)


def test_a_step_forgets_the_parts_of_the_last(canvases):
    with task("fit"):
        loop = track(range(5), "cutoff")
        next(loop)
        step("model")
        list(loop)
        assert seen(canvases[0], "fit · model")


# Once ------------------------------------------------------------------------------------------------------------------------------------


def test_a_task_within_a_task_is_a_part_of_it(canvases):
    with task("job"):
        step("churn: training")
        with task("fit churn"):
            step("tests")
            assert seen(canvases[0], "job · churn: training · tests")
            step("model")
            assert seen(canvases[0], "job · churn: training · model")
        step("publishing")
        assert seen(canvases[0], "job · publishing")
    assert len(canvases) == 1


def test_of_two_threads_one_draws(canvases):
    entered, done = threading.Event(), threading.Event()

    def other():
        with task("other"):
            entered.set()
            done.wait(5)

    with task("first"):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(5)
        assert seen(canvases[0], "first")
        done.set()
        thread.join()
    assert [bool(canvas.lines) for canvas in canvases] == [True, False]
    with task("again"):
        assert seen(canvases[2], "again")


def test_what_fails_is_taken_away_too_and_the_next_is_drawn(canvases):
    with pytest.raises(ZeroDivisionError), task("first"):  # noqa: PT012
        assert seen(canvases[0], "first")
        raise ZeroDivisionError
    assert canvases[0].cleared == 1
    with task("second"):
        assert seen(canvases[1], "second")


def test_work_does_not_mind_if_it_can_t_be_drawn(canvases, monkeypatch, capsys):
    def broken(*arguments):
        raise BrokenPipeError

    monkeypatch.setattr(Canvas, "draw", broken)
    monkeypatch.setattr(Canvas, "clear", broken)
    with task("fit"):
        time.sleep(0.01)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def heard():
    """Ctrl-C is heard, also where what started the tests had it ignored, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_the_line_is_taken_away_takes_it_away_and_the_next_is_drawn(canvases, monkeypatch, heard):
    cleared = Canvas.clear

    def slowly(canvas):
        # Ctrl-C, pressed once more.
        _thread.interrupt_main()
        time.sleep(0.2)
        cleared(canvas)

    monkeypatch.setattr(Canvas, "clear", slowly)
    with pytest.raises(KeyboardInterrupt), task("first"):
        assert seen(canvases[0], "first")
    assert canvases[0].cleared == 1
    monkeypatch.setattr(Canvas, "clear", cleared)
    with task("second"):
        assert seen(canvases[1], "second")


# Silence ---------------------------------------------------------------------------------------------------------------------------------


def test_what_is_quick_is_not_drawn(canvases, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 60.0)
    with task("fit"):
        step("tests")
    assert canvases[0].lines == []


def test_where_there_is_no_terminal_nothing_is_written(monkeypatch, capfd):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    assert progress._canvas() is None
    fitted = made.predictor(made.CHURN).fit(made.events(), made.NIGHTS[1])
    fitted.predict(made.events(), made.END)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", ["off", "0", " Never "])
def test_the_environment_silences_everything(value, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress._canvas(), progress._Terminal)
    monkeypatch.setenv("PERSOPREDICT_PROGRESS", value)
    assert progress._canvas() is None
    file = io.StringIO()
    with steps("nightly", console=Console(file=file, force_terminal=True)) as announce:
        announce("training")
    assert file.getvalue() == ""
    monkeypatch.setenv("PERSOPREDICT_PROGRESS", "auto")
    assert progress._canvas() is not None
    monkeypatch.setenv("TERM", "dumb")
    assert progress._canvas() is None


def test_a_process_without_standard_error_works_in_silence(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress, "DELAY", 0.0)
        assert progress._canvas() is None
        with steps("nightly") as announce, task("fit"):
            announce("churn: training")


def test_a_block_can_be_quiet(canvases):
    with quiet(), task("fit"):
        step("tests")
        assert list(track("ab", "cutoff")) == ["a", "b"]
    assert canvases == []


# Who shows it ----------------------------------------------------------------------------------------------------------------------------


def test_whatever_may_take_long_shows_it(canvases, tmp_path):
    events = made.events()
    fitted = made.predictor(made.CHURN)
    work = {
        "check": lambda: events.check([made.CHURN]),
        "fit churn_purchase_28d": lambda: fitted.fit(events, made.NIGHTS[1]),
        "predict churn_purchase_28d": lambda: fitted.predict(events, made.END),
        "evaluate churn_purchase_28d": lambda: fitted.evaluate(events),
        "explain churn_purchase_28d": lambda: fitted.explain(events, as_of=made.END, sample=5),
        "snapshots": lambda: snapshots(events, [made.END], made.FEATURES).to_arrow(),
        "snapshots into rows.parquet": lambda: snapshots(events, [made.END], made.FEATURES).to_parquet(tmp_path / "rows.parquet"),
    }
    for title, call in work.items():
        canvases.clear()
        call()
        (canvas,) = canvases
        assert all(line.startswith(title) for line in canvas.lines), canvas.lines
        assert canvas.cleared == 1
    assert not progress._drawing.locked()


def test_a_fit_of_a_target_says_its_steps(canvases):
    for predictor, events, until in (
        (made.predictor(made.CHURN), made.events(), made.NIGHTS[1]),
        (made.taste_predictor(), made.taste_events(), made.TASTE_NIGHTS[1]),
    ):
        canvases.clear()
        predictor.fit(events, until)
        (canvas,) = canvases
        said = "\n".join(canvas.lines)
        for words in ("reading the events", "customers", "tests · cutoff 1 of "):
            assert words in said, said


def test_a_job_draws_once_what_its_targets_do(canvases, tmp_path):
    made.job(tmp_path, targets=(made.CHURN,), report=False).run(made.NIGHTS[1])
    (canvas,) = canvases
    assert all(line.startswith("job of 2024-09-29") for line in canvas.lines)
    assert any("churn_purchase_28d: training · tests" in line for line in canvas.lines)
    assert any("publishing" in line for line in canvas.lines)


def test_who_is_told_the_steps_of_a_job_draws_for_himself(canvases, tmp_path):
    told = []
    made.job(tmp_path, targets=(made.CHURN,), report=False, progress=told.append).run(made.NIGHTS[1])
    assert "churn_purchase_28d: training" in told
    assert canvases == []


def test_a_command_s_steps_say_what_they_are_at_and_keep_their_names(canvases):
    file = io.StringIO()
    with steps("nightly", console=Console(file=file, force_terminal=True, width=80)) as announce:
        announce("churn: training")
        with task("fit churn"):
            step("tests")
            time.sleep(0.3)
        announce("publishing")
    text = file.getvalue()
    assert "churn: training · tests" in text
    assert "✓ churn: training  0." in text
    assert "✓ publishing  0." in text
    assert "✓ tests" not in text
    assert canvases == []


# On a terminal and in a notebook ---------------------------------------------------------------------------------------------------------

LONG = """
import time
from persopredict import progress
progress.DELAY = 0.0
with progress.task("fit churn"):
    for cutoff in progress.track(range(4), "cutoff"):
        time.sleep(0.15)
        print("result", cutoff)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_gets_one_line_that_goes_away_and_results_go_where_they_belong():
    theirs, ours = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=ours, env=environment, timeout=60, check=True)
    os.close(ours)
    shown = os.read(theirs, 100_000).decode()
    os.close(theirs)
    assert done.stdout.decode().split("\n") == ["result 0", "result 1", "result 2", "result 3", ""]
    assert "fit churn · cutoff 3 of 4" in shown
    assert "result" not in shown
    # The last thing is to erase the line and show the cursor again.
    assert shown.rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in shown
    piped = subprocess.run([sys.executable, "-c", LONG], capture_output=True, timeout=60, check=True)
    assert (piped.stdout, piped.stderr) == (done.stdout, b"")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_what_is_printed_on_the_same_terminal_stands_on_lines_of_its_own():
    theirs, ours = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", LONG], stdout=ours, stderr=ours, env=environment, timeout=60, check=True)
    os.close(ours)
    shown = os.read(theirs, 100_000).decode()
    os.close(theirs)
    for number in range(4):
        # The line is erased before it, and drawn again below it.
        assert re.search(rf"(^|\x1b\[2K|\x1b\[\?25[lh]|\n)result {number}\r\n", shown)


def test_a_notebook_gets_one_display_that_is_changed_in_place_and_emptied(monkeypatch):
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **how: calls.append((bundle, how)))
    notebook, work = progress._Notebook(), Work("fit <churn>", [progress._Part("cutoff", 4, 1)])
    notebook.clear()
    assert calls == []
    notebook.draw(work)
    work.parts[0].done = 2
    notebook.draw(work)
    notebook.clear()
    assert [how["update"] for _, how in calls] == [False, True, True]
    assert len({how["display_id"] for _, how in calls}) == 1
    assert all(how["raw"] for _, how in calls)
    assert calls[0][0]["text/html"] == '<progress max="1" value="0.250"></progress> <small>fit &lt;churn&gt; · cutoff 2 of 4 · 0 s</small>'
    assert calls[2][0] == {"text/plain": ""}
    progress._Notebook().draw(Work("fit", [progress._Part("model")]))
    assert calls[3][0]["text/html"] == '<progress max="1"></progress> <small>fit · model · 0 s</small>'
    assert {kind for bundle, _ in calls for kind in bundle} == {"text/plain", "text/html"}


@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_notebook_stores_of_it_is_nothing():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    nbformat.validate(notebook)
    outputs = notebook.cells[0].outputs
    assert [output.data for output in outputs if output.output_type == "display_data"] == [{"text/plain": ""}]
    assert "".join(output.text for output in outputs if output.output_type == "stream") == "result 0\nresult 1\nresult 2\nresult 3\n"
