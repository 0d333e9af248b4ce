"""Pages as tests see them: their blocks in order, and how these run in a folder of the page's own.

What the word behind a block's fence makes of it:

- ``python`` runs in the page's namespace; with ``<!-- file: name -->`` before it, it becomes that file instead, for a command to run;
- ``console``: every line behind ``$`` runs in bash, and the lines below it are what it prints; a line ``…`` stands for any lines;
- ``sql`` runs against ``warehouse.duckdb`` of the page's folder, read only;
- ``text`` right behind ``python`` or ``sql`` is what they print;
- any other block with ``<!-- file: name -->`` before it becomes that file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?:^<!-- file: (?P<file>\S+) -->\n+)?^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_LINES = "…"
RUN = ("python", "console", "sql")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block; `output` is what the page shows that it prints, `place` where that stands in the page, or would have to."""

    kind: str
    text: str
    line: int
    file: str | None
    output: str | None
    place: tuple[int, int]

    @property
    def runs(self) -> bool:
        return self.kind in RUN and self.file is None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found, fences = [], list(FENCE.finditer(text))
    for number, fence in enumerate(fences):
        following = fences[number + 1] if number + 1 < len(fences) else None
        output, place = None, (fence.end(), fence.end())
        if fence["kind"] == "console":
            output, place = fence["text"], fence.span("text")
        elif fence["kind"] in RUN and following and following["kind"] == "text" and not text[fence.end() : following.start()].strip():
            output, place = following["text"], following.span("text")
        found.append(Block(fence["kind"], fence["text"], text[: fence.start("text")].count("\n"), fence["file"], output, place))
    return found


def shown(block: Block, printed: str) -> str:
    """What stands at the block's `place` if the page shows what it printed."""
    return printed if block.output is not None or not printed else f"\n\n```text\n{printed}```"


def without_blocks(page: Path) -> str:
    """The page's text, its blocks left out."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def run(page: Path) -> Iterator[tuple[Block, str]]:
    """Run the page in the current folder, block after block; each that runs with what it printed."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            yield block, _tidy(_python(block, named(page), namespace))
        elif block.kind == "console":
            yield block, _console(block.text)
        elif block.kind == "sql":
            yield block, _tidy(_sql(block.text))


def _python(block: Block, name: str, namespace: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block.line + block.text, name, "exec"), namespace)
    return printed.getvalue()


def _sql(query: str) -> str:
    import duckdb

    with duckdb.connect("warehouse.duckdb", read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        answer = connection.sql(query)
        return "" if answer is None else answer.to_arrow_table().to_pandas().to_string(index=False)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console's text, each with the output that is shown for it; a line that ends with ``\\`` goes on."""
    command: list[str] = []
    shown: list[str] = []
    for line in text.splitlines():
        goes_on = bool(command) and not shown and command[-1].endswith("\\")
        if line.startswith("$ ") and not goes_on:
            if command:
                yield "\n".join(command), "\n".join(shown)
            command, shown = [line.removeprefix("$ ")], []
        elif goes_on:
            command.append(line)
        else:
            shown.append(line)
    yield "\n".join(command), "\n".join(shown)


def _console(text: str) -> str:
    """The same console with what its commands print now; parts that are left out stay left out where the rest is right."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "PYTHONWARNINGS": "default"}
    lines, code = [], 0
    for command, shown in commands(text):
        done = subprocess.run(
            ["bash", "-c", f"(exit {code})\n{command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            check=False,
        )
        code, printed = done.returncode, _tidy(done.stdout)
        kept = shown if ANY_LINES in shown.splitlines() and parts_of(shown, printed) else printed.rstrip("\n")
        lines += [f"$ {command}", *([kept] if kept else [])]
    return "\n".join(lines) + "\n"


def parts_of(shown: str, printed: str) -> bool:
    """Whether the parts between lines ``…`` come in the output one after the other, numbers aside."""
    rest = words(printed)
    for part in filter(None, map(words, re.split(rf"^{ANY_LINES}$", shown, flags=re.MULTILINE))):
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True


def words(text: str) -> str:
    """The text without its numbers and spacing: other versions of LightGBM and other processors may round otherwise."""
    return re.sub(r"[\s\-–]+", " ", re.sub(r"-?\d[\d,.:]*%?", "#", text)).strip()


def _tidy(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
