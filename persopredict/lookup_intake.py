"""Reading a lookup: its rows go to the table ``lookup_<n>``, each with the time in which it is in force, or to quarantine with the reason.

Which row is in force when is settled here, once: no two rows of a key are in force at the same time, so whoever joins the table at a cutoff
finds one row of a key or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from sqlglot import exp

from persopredict import intake
from persopredict.engines.base import Engine, Step
from persopredict.engines.expressions import cast_to, col, count, every, func, lit, select, some
from persopredict.errors import DataError, EngineError, Problem, did_you_mean
from persopredict.lookups import FROM, KEY, KNOWN, UNTIL, VALID, DescribedLookup, JoinedLookup, Lookup, is_null, joined
from persopredict.sources import Described, Mapped, Source
from persopredict.usability import UNUSABLE_FACTS, LookupFacts

#: Columns on the way to the spans. Facts have no spaces in their names, so they can't be confused.
_RANK, _BEST, _NEXT = "rank of row", "best so far", "next rank"


@dataclass(frozen=True)
class LookupIntake:
    """What became of a lookup's rows. The tables ``lookup_<n>`` and ``quarantine_lookup_<n>`` hold them."""

    found: DescribedLookup
    counts: Mapping[str, int]
    remarks: tuple[Problem, ...] = field(default=())

    @property
    def quarantine_table(self) -> str:
        """The rows that can't be used: source, code, row."""
        return f"quarantine_{self.found.place.table}"

    def facts(self, engine: Engine, events: str | None) -> LookupFacts:
        """What the usability report needs to know; `events` is the log's table, None where there is none."""
        lookup, counts = self.found.lookup, dict(self.counts)
        reasons = select({"code": col("code"), "rows": count(), "example": func("MIN", col("row"))}, self.quarantine_table)
        unusable = {code: (rows, intake.short(row)) for code, rows, row in engine.rows(Step("reasons", reasons.group_by(col("code"))))}
        empty = tuple(name for name in lookup.facts if not counts[f"filled {name}"])
        log_keys, unmatched, examples = self._unmatched(engine, events) if events else (0, 0, ("", ""))
        return LookupFacts(
            self.found.place.name, lookup.key, tuple(lookup.facts), counts["rows"], counts["usable"], counts["keys"],
            {code: unusable[code] for code in UNUSABLE_FACTS if code in unusable}, counts["repeated"], counts["differing"],
            counts["pending"], counts["naive"], empty, self.found.place.versioned, log_keys, unmatched, examples, self.remarks,
        )  # fmt: skip

    def _unmatched(self, engine: Engine, events: str) -> tuple[int, int, tuple[str, str]]:
        """How many values of the key the log has, how many of them the lookup lacks, and the first of these and of the lookup's."""
        place = self.found.place
        of_log = select({KEY: cast_to(col(place.key), "VARCHAR")}, events).where(exp.Not(this=is_null(place.key))).distinct()
        of_lookup = select({KEY: col(KEY)}, place.table).distinct()
        same = exp.EQ(this=col(KEY, "logs"), expression=col(KEY, "theirs"))
        missing: exp.Expression = exp.Is(this=col(KEY, "theirs"), expression=exp.null())
        first = exp.Filter(this=func("MIN", col(KEY, "logs")), expression=exp.Where(this=missing.copy()))
        query = select({"keys": count(), "unmatched": count(missing), "example": first}, of_log.subquery("logs"))
        query = query.join(of_lookup.subquery("theirs"), on=same, join_type="left")
        keys, unmatched, example = engine.rows(Step("unmatched", query))[0]
        theirs = engine.rows(Step("first_key", select({"first": func("MIN", col(KEY))}, place.table)))[0][0]
        return keys, unmatched, (intake.short(example), intake.short(theirs))


def describe(engine: Engine, lookups: Sequence[Lookup], timezone: str) -> tuple[tuple[DescribedLookup, ...], tuple[Problem, ...]]:
    """The lookups whose sources can be opened, with the columns found there; and every problem of these columns, and of the others."""
    found, problems = [], []
    for each, place in zip(lookups, joined(lookups), strict=True):
        view, times = f"{place.table}_source", {"event_at": each.valid_from or each.known_at, "known_at": each.known_at}
        mapping: dict[str, Mapped] = {name: column for name, column in times.items() if column is not None}
        source = Source(each.source, mapping, {}, each.facts, each.engine, timezone, name=place.name)
        try:
            described = DescribedLookup(each, place, Described(source, view, engine.describe(each.source, link=each.engine, name=view)))
        except DataError as error:
            problems += [problem if problem.source else replace(problem, source=place.name) for problem in error.problems]
            continue
        problems += described.problems()
        if not described.problems():
            found.append(described)
    return tuple(found), tuple(problems)


def read_all(
    engine: Engine, found: Sequence[DescribedLookup], columns: Sequence[str], numeric: AbstractSet[str], *, complete: bool, now_us: int
) -> tuple[tuple[LookupIntake, ...], tuple[Problem, ...]]:
    """What became of the rows of each lookup that could be read, and what kept the others from it.

    `columns` are the log's, `numeric` its dimensions that are numbers; unless it is `complete`, a source that can't be opened may have
    the key that is missing.
    """
    intakes, problems = [], []
    for each in found:
        key = each.lookup.key
        if key not in columns:
            hint = did_you_mean(key, (name for name in columns if name not in each.lookup.facts))
            problems += [Problem("lookup_key", f"no column {key!r} in the log", remedy=hint, source=each.place.name)] if complete else []
            continue
        try:
            intakes.append(_read(engine, each, numeric_key=key in numeric, now_us=now_us))
        except EngineError as error:
            example = error.problems[0].example.split("\n")[0]
            text, remedy = "the lookup failed while it was being read", "read it by itself, and mend what fails"
            problems.append(Problem("unreadable_source", text, example=example, remedy=remedy, source=each.place.name))
    return tuple(intakes), tuple(problems)


def _read(engine: Engine, found: DescribedLookup, *, numeric_key: bool, now_us: int) -> LookupIntake:
    """Read a lookup into ``lookup_<n>`` and ``quarantine_lookup_<n>``; `numeric_key`: the log's column holds numbers."""
    described, name = found.described, found.place.table
    engine.read_naive_times_in(described.source.timezone)
    offsets = {column: intake.offsets_of(engine, described, column) for column in described.naive_columns}
    found = replace(found, described=replace(described, offsets=offsets))
    staged = f"read_{name}"
    engine.create(Step(staged, found.rows(numeric_key=numeric_key, now_us=now_us)))
    counts = _counted(engine, staged, found.place, now_us)
    unusable = found.rows(numeric_key=numeric_key, now_us=now_us, whole=True).subquery("read")
    # Where nothing is lost, no row need be written as JSON.
    bad = exp.Not(this=is_null("problem")) if counts["usable"] < counts["rows"] else exp.false()
    lost: exp.Query = _quarantined(found, unusable, col("problem")).where(bad)
    rejects = engine.rejected(described.view)
    if rejects is not None:
        counts["rows"] += engine.rows(Step("rejected", select({"rows": count()}, rejects.subquery("rejected"))))[0][0]
        lost = exp.union(lost, _quarantined(found, rejects.subquery("rejected"), lit("lookup_unreadable_line")), distinct=False)
    whole = LookupIntake(found, counts, engine.remarks(described.view))
    engine.create(Step(whole.quarantine_table, lost))
    engine.create(Step(name, _spans(staged, found.place)))
    engine.drop(staged)
    return whole


def _quarantined(found: DescribedLookup, rows: exp.Expression, code: exp.Expression) -> exp.Select:
    name = cast_to(lit(found.place.name), "VARCHAR")
    return select({"source": name, "code": cast_to(code, "VARCHAR"), "row": col("row")}, rows)


def _counted(engine: Engine, staged: str, place: JoinedLookup, now_us: int) -> dict[str, int]:
    """How many rows, usable ones, keys, and so on; facts that are filled in somewhere as ``filled <name>``."""
    usable, moment = is_null("problem"), [KEY, VALID, KNOWN]
    pending = some(*(exp.GT(this=col(name), expression=lit(now_us)) for name in (VALID, KNOWN)))
    judged = {"naive": col("naive"), "pending": pending, **{f"filled {name}": exp.Not(this=is_null(name)) for name in place.columns}}
    numbers = {"rows": count(), "usable": count(usable), **{name: count(every(usable, judgement)) for name, judgement in judged.items()}}
    counts = dict(zip(numbers, engine.rows(Step("rows", select(numbers, staged)))[0], strict=True))
    everything = {name: col(name) for name in (*moment, *place.columns)}
    kinds = select({**everything, "copies": count()}, staged).where(usable.copy()).group_by(*everything.values()).subquery("kinds")
    of_moment = {**{name: col(name) for name in moment}, "kinds": count(), "copies": func("SUM", col("copies"))}
    moments = select(of_moment, kinds).group_by(*(col(name) for name in moment)).subquery("moments")
    beyond = {f"{name} beyond": func("COALESCE", exp.Sum(this=col(name)) - count(), lit(0)) for name in ("copies", "kinds")}
    keys = exp.Count(this=exp.Distinct(expressions=[col(KEY)]))
    found = engine.rows(Step("keys", select({**beyond, "keys": keys}, moments)))[0]
    return counts | dict(zip(("repeated", "differing", "keys"), map(int, found), strict=True))


def _over(value: exp.Expression, *order: str) -> exp.Window:
    """A window over the rows of a key up to the current one, nulls first."""
    sorted_by = exp.Order(expressions=[exp.Ordered(this=col(name), nulls_first=True) for name in order])
    return exp.Window(this=value, partition_by=[col(KEY)], order=sorted_by)


def _spans(staged: str, place: JoinedLookup) -> exp.Select:
    """The rows that are ever in force, each from when it was valid and known to when the next one was.

    Rows of a key are ranked as they take precedence. Taken as they come to light, one is in force if it outranks all before it.
    """
    facts = {name: col(name) for name in place.columns}
    shown = func("GREATEST", func("COALESCE", col(VALID), col(KNOWN)), col(KNOWN))
    ranks = _over(func("ROW_NUMBER"), VALID, KNOWN, *place.columns)
    ranked = select({KEY: col(KEY), **facts, FROM: shown, _RANK: ranks}, staged).where(is_null("problem")).subquery("ranked")
    best = _over(func("MAX", col(_RANK)), FROM, _RANK)
    best.set("spec", exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW"))
    kept = {name: col(name) for name in (KEY, *facts, FROM, _RANK)}
    led = select({**kept, _BEST: best}, ranked).subquery("led")
    following = {UNTIL: _over(func("LEAD", col(FROM)), _RANK), _NEXT: _over(func("LEAD", col(_RANK)), _RANK)}
    leaders = select({**kept, **following}, led).where(exp.EQ(this=col(_RANK), expression=col(_BEST))).subquery("leaders")
    # Of rows that come to light at the same instant only the last ever holds.
    lasting = some(is_null(_NEXT), exp.Not(this=exp.paren(exp.NullSafeEQ(this=col(FROM), expression=col(UNTIL)))))
    return select({name: col(name) for name in (KEY, FROM, UNTIL, *facts)}, leaders).where(lasting)
