"""Docstrings of this project, written for Sphinx.

They have numpydoc's sections, but say what a parameter is where numpydoc has its type, for the signature has that already. `fields` writes
sections as the field lists into which Sphinx then puts the types; and it marks names that end with an underscore, which reStructuredText
would take for references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

#: What becomes of a section's entries.
FIELDS = {"Parameters": "param", "Other Parameters": "param", "Attributes": "ivar", "Raises": "raises"}
PROSE = {"Returns": "returns", "Yields": "returns"}
_RULE = re.compile(r"-{3,}")
_ENTRY = re.compile(r"(?P<names>\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*)(?: : (?P<text>.+))?")


def fields(lines: Sequence[str]) -> list[str]:
    r"""The lines of a docstring, its sections as field lists.

    >>> parameters = "Parameters\n----------\nevery : step\n    between two.\nlow, high\n    edges.\n"
    >>> text = f"Count.\n\n{parameters}\nReturns\n-------\nA number."
    >>> print("\n".join(line for line in fields(text.split("\n")) if line))
    Count.
    :param every: step between two.
    :param low: edges.
    :param high: edges.
    :returns: A number.
    """
    found: list[str] = []
    for title, body in _sections(lines):
        if title in PROSE:
            paragraphs = list(_paragraphs(body))
            found += [f":{PROSE[title]}: {paragraphs[0]}", ""] if paragraphs else []
            found += [line for text in paragraphs[1:] for line in (text, "")]
        elif title in FIELDS:
            found += [*_field_list(FIELDS[title], body), ""]
        else:
            found += [f".. rubric:: {title.replace('`', '')}", ""] if title else []
            found += body
    return [line if line.lstrip().startswith((">>>", "...")) else _marked(line) for line in found]


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Titles and bodies; what stands before the first section, and what follows the entries of one, has the title ""."""
    title, body = "", list[str]()
    for place, line in enumerate(lines):
        following = lines[place + 1] if place + 1 < len(lines) else ""
        if line and not line.startswith(" ") and _RULE.fullmatch(following):
            yield title, body
            title, body = line, []
        elif title and _RULE.fullmatch(line) and not body:
            continue
        elif title and body and not body[-1] and line and _over(title, line, following):
            yield title, body
            title, body = "", [line]
        else:
            body.append(line)
    yield title, body


def _over(title: str, line: str, following: str) -> bool:
    """Whether a line after an empty one is no entry of the section any more."""
    if line.startswith((">>>", "Raises `")):
        return True
    if line.startswith(" ") or title not in FIELDS:
        return False
    entry = _ENTRY.fullmatch(line)
    return entry is None or (entry["text"] is None and not following.startswith(" "))


def _field_list(field: str, body: Sequence[str]) -> Iterator[str]:
    names: list[str] = []
    said: list[str] = []
    for line in (*body, ""):
        entry = None if line.startswith(" ") else _ENTRY.fullmatch(line)
        if entry:
            yield from _entries(field, names, said)
            names, said = entry["names"].replace("*", r"\*").split(", "), [entry["text"] or ""]
        elif line.strip():
            said.append(line.strip())
    yield from _entries(field, names, said)


def _entries(field: str, names: Sequence[str], said: Sequence[str]) -> Iterator[str]:
    text = " ".join(part for part in said if part)
    for name in names:
        yield f":{field} {name}: {text}"


def _paragraphs(body: Sequence[str]) -> Iterator[str]:
    for blank, group in groupby(body, key=lambda line: not line.strip()):
        if not blank:
            yield " ".join(line.strip() for line in group)


def _marked(line: str) -> str:
    """Names like ``scorer_`` as literals."""
    return re.sub(r"(?<![`\w:])(\w*[a-z]_)(?![\w`])", r"``\1``", line)
