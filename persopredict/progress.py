"""Progress of a long run: the step at work and its time, on a terminal or in a notebook; nothing at all elsewhere.

Whatever takes long accepts ``progress``, a callable that is told the name of each step as it begins; `steps` makes one
that draws.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

Progress = Callable[[str], None]


@contextmanager
def steps(title: str = "", *, console: Console | None = None) -> Iterator[Progress]:
    """Draw the steps that are announced to the yielded callable, each with the seconds it took.

    `title` is printed above the steps. `console` is where to draw, by default standard error, so that standard output
    holds results alone. On a terminal the running step has a spinner; in a notebook each finished step is a line;
    elsewhere nothing is written.

    >>> with steps("training") as progress:
    ...     progress("features")
    """
    drawing = _Drawing(console or error_console())
    drawing.open(title)
    try:
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

    return Console(stderr=True, force_terminal=sys.stderr.isatty())


class _Drawing:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.visible = console.is_terminal or console.is_jupyter
        self.step, self.since = "", 0.0
        self.status: Status | None = None

    def open(self, title: str) -> None:
        if self.visible and title:
            self.console.print(title, style="bold", highlight=False, markup=False, emoji=False)

    def begin(self, step: str) -> None:
        """Finish the running step and start this one."""
        if not self.visible:
            return
        self.end("✓")
        self.step, self.since = step, time.monotonic()
        from rich.text import Text

        # A spinner in a notebook needs a widget extension that may be missing, and would be stored with the outputs.
        if not self.console.is_jupyter:
            self.status = self.console.status(Text(step), spinner="dots")
            self.status.start()

    def end(self, mark: str) -> None:
        """Write the running step's line, if there is one."""
        if self.status is not None:
            self.status.stop()
            self.status = None
        if self.visible and self.step:
            self.console.print(f"{mark} {self.step}  {time.monotonic() - self.since:.1f} s", highlight=False, markup=False)
        self.step = ""
