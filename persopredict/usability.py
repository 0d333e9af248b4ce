"""The data-usability report: every problem of a log at once, each with code, count, first example and remedy.

Pure: it reads `LogFacts`, which `events` gathers from the engine, and the targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from persopredict import conditions
from persopredict.errors import Problem, Severity, did_you_mean
from persopredict.sources import UNUSABLE
from persopredict.targets import KINDS_OF_AFFINITY, Affinity, Target
from persopredict.times import local, zone
from persopredict.usability_report import LogFacts, LookupFacts, SourceFacts, UsabilityReport

__all__ = [
    "LONGEST_WINDOW",
    "LogFacts",
    "LookupFacts",
    "SourceFacts",
    "UsabilityReport",
    "assess",
    "stale_sources",
]

#: Fewer customers than this with the outcome, and nothing can be validated: 10 positives leave an AUC's standard error near 0.08
#: (Hanley & McNeil 1982, AUC 0.8), and three test cutoffs need them each.
MIN_POSITIVES = 25
#: So many of a target's events would have come, at their pace until then, in the silence before the end of what was observed.
MISSED_EVENTS = 10
#: The longest window of the default features, all time aside.
LONGEST_WINDOW = timedelta(days=364)
#: A larger share of the log's keys that a lookup lacks is a warning, a smaller one a note: some items are always new.
MOST_UNMATCHED = 0.1

#: Why a lookup's row goes to quarantine: code, sentence, remedy. The first that applies is the row's reason.
UNUSABLE_FACTS: Mapping[str, tuple[str, str]] = {
    "lookup_unreadable_line": UNUSABLE["unreadable_line"],
    "lookup_null_key": ("the key is null", "leave the rows out, or fill the key in"),
    "lookup_blank_key": ("the key is blank", "leave the rows out, or fill the key in"),
    "lookup_unparsable_key": ("the key is not a number, as the log's column is", "make both numbers, or both text"),
    "lookup_unparsable_valid_from": ("valid_from is not a time", "write times like 2017-12-03T06:00:00+01:00; null means ever"),
    "lookup_distant_valid_from": ("valid_from lies more than ten years ahead", "leave placeholders out; null means ever"),
    "lookup_unparsable_known_at": ("known_at is not a time", UNUSABLE["unparsable_known_at"][1]),
    "lookup_future_known_at": ("known_at lies in the future", UNUSABLE["future_known_at"][1]),
    "lookup_unparsable_fact": (
        "a numeric fact is infinite or beyond 10^12",
        "turn it into text in the source, if it is a name and not an amount",
    ),
}


def assess(facts: LogFacts, customers: int, targets: Sequence[Target] = (), as_of: datetime | None = None) -> UsabilityReport:
    """The report for these facts, for what `targets` need, and for a scoring at `as_of`."""
    rows, usable = sum(source.rows for source in facts.sources), sum(source.usable for source in facts.sources)
    problems = list(facts.structural)
    for source in facts.sources:
        problems += _source_problems(source, facts.timezone)
    for lookup in facts.lookups:
        problems += _lookup_problems(lookup, facts.timezone)
    if not facts.structural and not usable:
        problems.append(Problem("empty_log", "no usable event is left", remedy="check the sources and the reasons above"))
    problems += [
        Problem(
            f"negative_{column}",
            f"{column} is negative: kept, as returns or refunds",
            "note",
            count,
            remedy="leave them out if they are neither",
        )
        for column, count in facts.negatives.items()
        if count
    ]
    if len(facts.currencies) > 1:
        problems.append(
            Problem(
                "mixed_currencies",
                "values are in several currencies and are summed as they are",
                "warning",
                len(facts.currencies),
                ", ".join(facts.currencies[:5]),
                "convert them to one currency in the source",
            )
        )
    if usable:
        for target in targets:
            problems += _target_problems(target, facts)
        if as_of is not None:
            problems += stale_sources(facts.sources, as_of, timezone=facts.timezone)
    spans = [source.observed for source in facts.sources if source.observed]
    observed = (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None
    return UsabilityReport(tuple(problems), rows, usable, customers, observed, facts.events, facts.lookups, facts.timezone)


def _source_problems(source: SourceFacts, timezone: str) -> list[Problem]:
    problems = [problem if problem.source else replace(problem, source=source.name) for problem in source.remarks]
    for code, (count, example) in source.unusable.items():
        message, remedy = UNUSABLE[code]
        problems.append(Problem(code, f"{message}: put into quarantine", "warning", count, example, remedy, source.name))
    if source.duplicates:
        remedy = "if they are different events, don't map event_id"
        text = "event_id occurs more than once: the first known is kept"
        problems.append(Problem("duplicate_event_id", text, "warning", source.duplicates, remedy=remedy, source=source.name))
    if source.identical:
        remedy = "map event_id if a repeated row is the same event"
        text = "rows are identical in everything: kept"
        problems.append(Problem("identical_rows", text, "note", source.identical, remedy=remedy, source=source.name))
    if source.naive:
        text = f"times carry no offset: read in {timezone}"
        remedy = "set timezone if that is not the log's"
        problems.append(Problem("naive_times", text, "note", source.naive, remedy=remedy, source=source.name))
    if source.outside:
        text = "events lie outside observed: kept as history, but no label reads them"
        problems.append(
            Problem("outside_observed", text, "note", source.outside, remedy="widen observed= if it is complete there", source=source.name)
        )
    if source.declared and source.observed and source.observed[1] > datetime.now(UTC) + timedelta(days=1):
        text = f"observed ends in the future ({source.observed[1]:%Y-%m-%d %H:%M} UTC): what has not happened yet counts as not done"
        remedy = "end observed= where the source is complete, at the latest now"
        problems.append(Problem("observed_in_future", text, "warning", remedy=remedy, source=source.name))
    if not source.rows:
        problems.append(Problem("empty_source", "no rows", "warning", remedy="check the export that writes it", source=source.name))
    return problems


def _lookup_problems(lookup: LookupFacts, timezone: str) -> list[Problem]:
    problems = list(lookup.remarks)
    for code, (count, example) in lookup.unusable.items():
        message, remedy = UNUSABLE_FACTS[code]
        problems.append(Problem(code, f"{message}: put into quarantine", "warning", count, example, remedy))
    if not lookup.usable:
        text = "there is no row that can be used: its facts are null throughout"
        problems.append(Problem("empty_lookup", text, "warning", remedy="check the export that writes it, and the reasons above"))
        return [replace(problem, source=lookup.name) for problem in problems]
    if lookup.naive:
        remedy = "set timezone if that is not the log's"
        problems.append(Problem("naive_times", f"times carry no offset: read in {timezone}", "note", lookup.naive, remedy=remedy))
    if lookup.pending:
        text = "rows begin to hold in the future: not in force before"
        problems.append(Problem("lookup_pending", text, "note", lookup.pending, remedy="nothing, if they are planned changes"))
    problems += _time_problems(lookup) + _match_problems(lookup)
    for name in lookup.empty:
        remedy = "check the source, or leave the column out"
        problems.append(Problem("lookup_null_column", f"{name} is null in every row", "warning", lookup.usable, remedy=remedy))
    return [replace(problem, source=lookup.name) for problem in problems]


def _time_problems(lookup: LookupFacts) -> list[Problem]:
    problems = []
    if not lookup.versioned:
        text = f"nothing says since when {', '.join(lookup.columns)} held: features of past cutoffs see what the source says today"
        remedy = "give valid_from=, the column that says since when a row holds; without one, take only facts that never change"
        problems.append(Problem("lookup_without_valid_from", text, "warning", remedy=remedy))
    when = "of the same times" if lookup.versioned else "and nothing says which is newer"
    if lookup.differing:
        text = f"keys have several rows with different facts {when}: of each the last in the order of its facts is taken"
        remedy = "keep one of them, or say since when each holds"
        problems.append(Problem("lookup_ambiguous", text, "warning", lookup.differing, remedy=remedy))
    if identical := lookup.repeated - lookup.differing:
        text = "rows repeat another in key, times and facts: nothing is lost"
        problems.append(Problem("lookup_repeated", text, "note", identical, remedy="nothing, or leave the copies out"))
    return problems


def _match_problems(lookup: LookupFacts) -> list[Problem]:
    if not lookup.unmatched:
        return []
    share = lookup.unmatched / lookup.log_keys
    text = f"{lookup.unmatched:,} of the log's {lookup.log_keys:,} values of {lookup.key} ({share:.1%}) are not in it: their facts are null"
    remedy, example = "complete the lookup, if they should be there", lookup.examples[0]
    if lookup.unmatched == lookup.log_keys:
        remedy, example = "check the key: one of the two may be written otherwise", f"{example}; the lookup's: {lookup.examples[1]}"
    severity: Severity = "warning" if share > MOST_UNMATCHED else "note"
    return [Problem("lookup_unmatched", text, severity, lookup.unmatched, example, remedy)]


def _target_problems(target: Target, facts: LogFacts) -> list[Problem]:
    named = {name: key for key in ("event", "start", "competing") for name in _names(getattr(target, key, None))}
    problems = [
        Problem("unknown_event", f"the log never holds {name!r} ({key})", remedy=did_you_mean(name, facts.events), source=target.name)
        for name, key in named.items()
        if name not in facts.events
    ]
    for key in ("where", "cohort"):
        texts = conditions.misread(getattr(target, key), facts.columns, facts.numeric)
        problems += [Problem("unknown_column", f"{key}: {text}", source=target.name) for text in texts]
    if isinstance(target, Affinity):
        changing = {name for lookup in facts.lookups if lookup.versioned for name in lookup.columns}
        problems += affinity_problems(target, facts.categories, facts.columns, changing)
    if problems:
        return problems
    problems += _history_problems(target, facts)
    doers = max((facts.events[name][1] for name in target.event_names), default=0)
    if doers < MIN_POSITIVES:
        text = f"only {doers} customers ever did it, {MIN_POSITIVES} are the least that can be validated"
        problems.append(
            Problem("too_few_positives", text, "warning", doers, remedy="lengthen the horizon or widen the event", source=target.name)
        )
    return problems


def affinity_problems(target: Affinity, categories: Sequence[str], columns: Collection[str], changing: Collection[str]) -> list[Problem]:
    """What keeps a log of these category levels and columns from being asked for an affinity; `changing`: facts with a history."""
    allowed = [*categories, *(name for name in KINDS_OF_AFFINITY if name in columns)]
    problems = []
    if target.by not in allowed:
        text, remedy = f"by={target.by!r} is no level of category, item_id, channel, hour or weekday", did_you_mean(target.by, allowed)
        if target.by in ("category", *KINDS_OF_AFFINITY):
            text, remedy = f"the log has no {target.by}", f"map it when the log is made; {remedy}"
        problems.append(Problem("unknown_category", text, remedy=remedy, source=target.name))
    read = set() if target.where is None else set(conditions.columns(target.where))
    if late := sorted(read & set(changing)):
        text = f"where reads {', '.join(late)}, a fact that changes in time"
        remedy = "use a column of the events, or a lookup without valid_from"
        problems.append(Problem("versioned_fact", text, remedy=remedy, source=target.name))
    return problems


def _history_problems(target: Target, facts: LogFacts) -> list[Problem]:
    """Whether what the sources of the label observed together is long enough for it, and for the windows of features."""
    need = target.gap.approximate + target.horizon.approximate
    read = [
        source
        for source in facts.sources
        if source.observed and any(source.name in facts.sources_of.get(name, ()) for name in target.reads)
    ]
    spans = [source.observed for source in read if source.observed]
    span = min(end for _, end in spans) - max(start for start, _ in spans) if spans else timedelta(0)
    # One cutoff to train on, one to test on, and some history before the first: below that there is nothing to learn from.
    if span < 2 * need:
        text = f"{max(span.days, 0)} days were observed, gap and horizon need {need.days} after each cutoff, twice at least"
        return [Problem("log_too_short", text, "warning", remedy="shorten the horizon, or wait for more history", source=target.name)]
    if spans and (silent := _silence(target, facts, min(end for _, end in spans))):
        return [silent]
    history = span - need
    # What is known of pairs has no windows.
    if history < LONGEST_WINDOW and not isinstance(target, Affinity):
        text = f"no cutoff has more than {history.days} days before it: features over longer windows are left out"
        return [
            Problem("window_longer_than_history", text, "note", remedy="nothing; longer windows come with more history", source=target.name)
        ]
    return []


def _silence(target: Target, facts: LogFacts, end: datetime) -> Problem | None:
    """The target's events ended long before what counts as observed: labels after them are all the same, and teach that nothing happens."""
    held = [(facts.events[name][0], *facts.spans[name]) for name in target.event_names if name in facts.spans]
    if not held:
        return None
    rows, first, last = sum(row[0] for row in held), min(row[1] for row in held), max(row[2] for row in held)
    silence = end - last
    if silence < target.horizon.approximate / 2 or rows * silence < MISSED_EVENTS * max(last - first, timedelta(hours=1)):
        return None
    text = f"the last came {silence.days} days before the end of what was observed: labels between count it as not done"
    remedy = "give observed= with the end until which the source is complete for it"
    return Problem("event_stopped", text, "warning", silence.days, f"{last.astimezone(zone(facts.timezone)):%Y-%m-%d}", remedy, target.name)


def stale_sources(
    sources: Sequence[SourceFacts], as_of: datetime, limit: timedelta = timedelta(days=1), *, timezone: str = "UTC"
) -> list[Problem]:
    """Sources whose observation ended more than `limit`, or their own `max_lag` if that is longer, before `as_of`; dates in `timezone`."""
    found, days = [], zone(timezone)
    for source in sources:
        if source.observed is None:
            continue
        behind = as_of - source.observed[1]
        if behind > max(source.max_lag.approximate, limit):
            last = source.observed[1].astimezone(days)
            text = f"stopped {behind.days} days before {local(as_of, timezone)} (last observed {last:%Y-%m-%d %H:%M} {timezone})"
            # Up to the day after the last event nothing is missing; --as-of takes the date as it stands here.
            known = (last - timedelta(microseconds=1)).replace(tzinfo=None) + timedelta(days=1)
            remedy = (
                f"wait for its load; or score an earlier time, as_of {known:%Y-%m-%d} (--as-of); "
                "or give observed= if it is complete and simply had no events"
            )
            found.append(Problem("source_stopped", text, "warning", remedy=remedy, source=source.name))
    return found


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
