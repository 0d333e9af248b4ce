"""What the job found in the events: how many, of what kind, and every problem with its remedy."""

from __future__ import annotations

from persopredict.report.blocks import Block, Cell, Part, Section, Table, Text, Tone
from persopredict.report.drawing import number
from persopredict.report.gathering import ReportData
from persopredict.report.texts import Texts
from persopredict.usability import UsabilityReport

_TONES: dict[str, Tone] = {"error": "bad", "warning": "warning", "note": "plain"}
_ORDER = ("error", "warning", "note")


def section(say: Texts, data: ReportData) -> Section:
    """The section of the data."""
    heading = say("page.data")
    if data.findings is None:
        return Section("data", heading, (), say("data.none"))
    report = data.findings.report
    parts = [_problems(say, report), _events(say, report)]
    parts += [_lookups(say, report)] if report.lookups else []
    details = [f"{say('data.rows')}: {say.number(report.rows)}, {say.number(report.usable)} {say('data.usable')}"]
    if report.observed:
        details.append(say("data.span", first=say.date(report.observed[0]), last=say.date(report.observed[1])))
    return Section("data", heading, tuple(parts), say("data.lead", date=say.date(data.as_of)), details=tuple(details))


def _problems(say: Texts, report: UsabilityReport) -> Part:
    blocks: tuple[Block, ...] = (Text(say("data.clean"), "good"),)
    if report.problems:
        head = tuple(say(f"data.{key}") for key in ("what", "severity", "where", "how_many", "remedy"))
        rows = []
        for problem in sorted(report.problems, key=lambda problem: _ORDER.index(problem.severity)):
            message, remedy, language = say.problem(problem)
            foreign = "" if language == say.language else language
            severity = Cell(say(f"data.{problem.severity}"), tone=_TONES[problem.severity])
            count = number(say.number(problem.count) if problem.count else "–")
            rows.append((Cell(message, language=foreign), severity, Cell(problem.source or "–"), count, Cell(remedy, language=foreign)))
        blocks = (Table(say("data.problems"), head, tuple(rows), hidden_caption=True),)
    return Part("data-problems", say("data.problems"), blocks)


def _events(say: Texts, report: UsabilityReport) -> Part:
    head = tuple(say(f"data.{key}") for key in ("event", "count", "customers"))
    ranked = sorted(report.events.items(), key=lambda entry: (-entry[1][0], entry[0]))
    rows = tuple((Cell(name), number(say.number(count)), number(say.number(customers))) for name, (count, customers) in ranked)
    return Part("data-events", say("data.events"), (Table(say("data.events"), head, rows, hidden_caption=True),))


def _lookups(say: Texts, report: UsabilityReport) -> Part:
    head = tuple(say(f"data.{key}") for key in ("lookup", "facts", "key", "rows", "matched"))
    rows = []
    for lookup in report.lookups:
        matched = say("data.matched_value", share=say.percent(1 - lookup.unmatched / lookup.log_keys)) if lookup.log_keys else "–"
        rows.append(
            (Cell(lookup.name), Cell(", ".join(lookup.columns)), Cell(lookup.key), number(say.number(lookup.usable)), Cell(matched))
        )
    return Part("data-lookups", say("data.lookups"), (Table(say("data.lookups"), head, tuple(rows), hidden_caption=True),))
