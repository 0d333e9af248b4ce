"""Progress of long work: what runs, how far it is and for how long, on a terminal or in a notebook; nothing at all elsewhere.

Two ways to draw. A long call of the library (`fit`, `predict`, …) is a `task`: if it takes longer than `DELAY` seconds, one line shows
what it is at, and disappears when it ends. A command is a series of `steps`, each of which leaves a line with its time. Whatever runs
within says what it is at by `step` and `track`; it need not know who draws, nor whether anybody does, and a task within a task is a part
of it.

Progress goes to standard error, so that standard output holds results alone. `PERSOPREDICT_PROGRESS=off` silences all of it, `quiet` what
runs in a block.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console, RenderableType
    from rich.live import Live

Progress = Callable[[str], None]
T = TypeVar("T")

#: The environment variable that silences, and what it is set to then.
SWITCH, OFF = "PERSOPREDICT_PROGRESS", ("off", "0", "no", "false", "never")
#: Seconds before a task is drawn: what is quicker would only flicker.
DELAY = 1.0
#: Seconds between two looks of a notebook; a terminal is redrawn by rich.
_INTERVAL = 0.5
_WIDTH = 20
#: One line at a time, whatever other threads do.
_drawing = threading.Lock()


@dataclass
class _Part:
    """A part of what runs: `done` of `total`, where it can be counted (`total` above 0); `numbered`: people would count so too."""

    name: str
    total: int = 0
    done: int = 0
    numbered: bool = True

    def __str__(self) -> str:
        """The name and, where it is counted, at which it is, or how much of it is done."""
        if self.total < 2:
            return self.name
        here = f"{min(self.done + 1, self.total):,} of {self.total:,}" if self.numbered else f"{self.done / self.total:.0%}"
        return f"{self.name} {here}"


@dataclass
class Work:
    """What runs, from the whole to its smallest part; written by the thread that works, read by the one that draws."""

    title: str = ""
    parts: list[_Part] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float | None:
        """How much of the outermost part that is counted is done, the parts within it included; None if nothing is counted."""
        counted = [part for part in tuple(self.parts) if part.total]
        share = 0.0
        for part in reversed(counted):
            share = min((part.done + share) / part.total, 1.0)
        return share if counted else None

    @property
    def seconds(self) -> float:
        """Since when it runs."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        """One line.

        >>> print(Work("fit churn", [_Part("tests"), _Part("cutoff", 5, 2), _Part("customers", 10, 4, numbered=False)]))
        fit churn · tests · cutoff 3 of 5 · customers 40%
        """
        return " · ".join(filter(None, (self.title, *map(str, tuple(self.parts)))))


@dataclass(frozen=True)
class _Scope:
    """A task within what runs: its own parts are those from `depth` on."""

    work: Work
    depth: int = 0


#: What runs in this context; None where nothing is drawn or told.
_running: ContextVar[_Scope | None] = ContextVar("persopredict_progress", default=None)


# For whoever works -------------------------------------------------------------------------------------------------------------------


def step(name: str) -> None:
    """Say what the running task does next; nothing if none runs."""
    if (scope := _running.get()) is not None:
        scope.work.parts[scope.depth :] = [_Part(name)]


def track(items: Collection[T], name: str, *, numbered: bool = True) -> Iterator[T]:
    """The items one by one, a part of whatever runs: as "`name` 3 of 5", or as a percentage if not `numbered`.

    >>> list(track("ab", "cutoff"))
    ['a', 'b']
    """
    scope, part = _running.get(), _Part(name, len(items), numbered=numbered)
    if scope is None:
        yield from items
        return
    parts = scope.work.parts
    parts.append(part)
    try:
        for item in items:
            yield item
            part.done += 1
    finally:
        # Another step may have begun meanwhile, and has forgotten the parts of the last.
        place = next((place for place, each in enumerate(parts) if each is part), len(parts))
        del parts[place:]


@contextmanager
def task(title: str) -> Iterator[None]:
    """Work that may be long: drawn, once it has taken a while, where somebody looks; a part of what runs already, if something does."""
    if (outer := _running.get()) is not None:
        with _within(_Scope(outer.work, len(outer.work.parts))):
            yield
        return
    work = Work(title)
    with _within(_Scope(work)), _shown(work):
        yield


@contextmanager
def _within(scope: _Scope) -> Iterator[None]:
    token = _running.set(scope)
    try:
        yield
    finally:
        _running.reset(token)
        del scope.work.parts[scope.depth :]


@contextmanager
def quiet() -> Iterator[None]:
    """Draw nothing of what runs within.

    >>> with quiet():
    ...     step("nobody sees this")
    """
    with _within(_Scope(Work())):
        yield


def told(progress: Progress | None) -> AbstractContextManager[None]:
    """Within, steps are told to `progress`, a user's own, and nothing is drawn; without one this does nothing."""
    return nullcontext() if progress is None or _running.get() is not None else quiet()


# Steps of a command ------------------------------------------------------------------------------------------------------------------


@contextmanager
def steps(title: str = "", *, console: Console | None = None) -> Iterator[Progress]:
    """Draw the steps that are announced to the yielded callable, each with the seconds it took.

    `title` is printed above the steps. `console` is where to draw, by default standard error. On a terminal the running step has a spinner
    and says what it is at; in a notebook each finished step is a line; elsewhere nothing is written.

    >>> with steps("training") as progress:
    ...     progress("features")
    """
    drawing = _Steps(console or error_console())
    drawing.open(title)
    try:
        with _within(_Scope(drawing.work)):
            yield drawing.begin
    except BaseException:
        drawing.end("✗")
        raise
    drawing.end("✓")


def error_console() -> Console:
    """A console on standard error, a terminal only if standard error is one: a scheduler's log is not, whatever colours
    its environment asks for.
    """
    from rich.console import Console

    return Console(stderr=True, force_terminal=_is_terminal(sys.stderr))


def _is_terminal(stream: Any) -> bool:
    """Whether somebody reads this stream on a terminal; a service may have none, or have closed it."""
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:
        return False


def silenced() -> bool:
    """Whether the environment asks for silence."""
    return os.environ.get(SWITCH, "").strip().lower() in OFF


class _Steps:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.visible = (console.is_terminal or console.is_jupyter) and not silenced()
        self.work = Work()
        self.live: Live | None = None

    def open(self, title: str) -> None:
        if self.visible and title:
            self.console.print(title, style="bold", highlight=False, markup=False, emoji=False)

    def begin(self, name: str) -> None:
        """Finish the running step and start this one."""
        self.end("✓")
        self.work.title, self.work.since = name, time.monotonic()
        # In a notebook only what is done is drawn: what moves would be stored with the outputs.
        if self.visible and not self.console.is_jupyter:
            self.live = _live(self.work, self.console)
            self.live.start()

    def end(self, mark: str) -> None:
        """Write the running step's line, if there is one."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        if self.visible and self.work.title:
            self.console.print(f"{mark} {self.work.title}  {self.work.seconds:.1f} s", highlight=False, markup=False, emoji=False)
        self.work.title = ""
        self.work.parts.clear()


# How a task is drawn -----------------------------------------------------------------------------------------------------------------


class _Canvas(Protocol):
    """Where one line is drawn, changed, and taken away again."""

    def draw(self, work: Work) -> None:
        """Draw the line as it is now."""

    def clear(self) -> None:
        """Leave nothing behind."""


class _Terminal:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None

    def draw(self, work: Work) -> None:
        # rich redraws by itself from then on.
        if self.live is None:
            self.live = _live(work, self.console)
            self.live.start()

    def clear(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


class _Notebook:
    """A display that is changed in place and emptied at the end. A widget would need an extension, and be stored with the outputs."""

    def __init__(self) -> None:
        self.name = ""

    def draw(self, work: Work) -> None:
        from html import escape

        share, line = work.share, f"{work} · {work.seconds:.0f} s"
        value = "" if share is None else f' value="{share:.3f}"'
        self._show({"text/plain": line, "text/html": f'<progress max="1"{value}></progress> <small>{escape(line)}</small>'})

    def clear(self) -> None:
        if self.name:
            self._show({"text/plain": ""})

    def _show(self, bundle: dict[str, str]) -> None:
        from uuid import uuid4

        from IPython.display import display

        again = bool(self.name)
        self.name = self.name or uuid4().hex
        display(bundle, raw=True, display_id=self.name, update=again)  # type: ignore[no-untyped-call]


class _Painter:
    """A thread that draws a task from time to time, until it is stopped: the one that works may not come by for long."""

    def __init__(self, canvas: _Canvas, work: Work) -> None:
        self.canvas, self.work = canvas, work
        self.stopped = threading.Event()
        # A notebook finds the cell to draw in by the context.
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._paint,), name="persopredict-progress", daemon=True)

    def _paint(self) -> None:
        wait = DELAY
        # Whatever keeps it from being drawn, a terminal that is gone or a notebook's connection, is no concern of the work.
        with suppress(Exception):
            while not self.stopped.wait(wait):
                self.canvas.draw(self.work)
                wait = _INTERVAL
        # Here, and not by the thread that works: Ctrl-C comes to that one alone, and would leave a part of it behind.
        with suppress(Exception):
            self.canvas.clear()

    def stop(self) -> None:
        """Take away what is drawn."""
        self.stopped.set()
        try:
            self.thread.join()
        except KeyboardInterrupt:
            # Whoever presses Ctrl-C twice is heard, once the line is gone.
            self.thread.join(1.0)
            raise


@contextmanager
def _shown(work: Work) -> Iterator[None]:
    canvas = _canvas()
    if canvas is None or not _drawing.acquire(blocking=False):
        yield
        return
    try:
        painter = _Painter(canvas, work)
        painter.thread.start()
        try:
            yield
        finally:
            painter.stop()
    finally:
        _drawing.release()


def _canvas() -> _Canvas | None:
    """Where somebody looks; None if nobody does."""
    if silenced():
        return None
    # A notebook has loaded IPython; without it or a terminal, rich need not be loaded to find out.
    if not _is_terminal(sys.stderr) and "IPython" not in sys.modules:
        return None
    console = error_console()
    if console.is_jupyter:
        return _Notebook()
    return _Terminal(console) if console.is_terminal and not console.is_dumb_terminal else None


def _live(work: Work, console: Console) -> Live:
    """A line with spinner, text, bar and seconds, redrawn several times a second, that disappears when it is stopped."""
    from rich.live import Live

    line = _Line(work)
    # What is printed meanwhile goes above the line; unless standard output is a file or a pipe, where it must get.
    return Live(line, console=console, transient=True, refresh_per_second=8, redirect_stdout=_is_terminal(sys.stdout))


class _Line:
    def __init__(self, work: Work) -> None:
        from rich.spinner import Spinner

        self.work, self.spinner = work, Spinner("dots")

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        share = self.work.share
        row: list[Any] = [self.spinner, Text(str(self.work), no_wrap=True, overflow="ellipsis")]
        if share is not None:
            row.append(ProgressBar(total=1.0, completed=share, width=_WIDTH))
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*row, Text(f"{self.work.seconds:.0f} s", style="dim"))
        return grid
