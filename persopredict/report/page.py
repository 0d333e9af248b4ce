"""The whole page as a value: cards at a glance, a section for each target, the data, and what the words mean."""

from __future__ import annotations

from importlib.metadata import version

from persopredict.errors import Problem
from persopredict.ranking_results import RankingEvaluation
from persopredict.report import audiences, category_audiences, dataset, lists, moving, quality, serving
from persopredict.report.asked import Asked
from persopredict.report.blocks import Badge, Block, Card, Cell, Page, Part, Section, Text, Tone
from persopredict.report.gathering import ReportData, TargetReport
from persopredict.report.texts import Texts, sentence
from persopredict.results import Evaluation
from persopredict.wording import Wording

_WORDS = ("grade", "probability", "lift_word", "gain_word", "precision_word", "interval_word", "rule_word", "unscored_word", "effect_word")


def page(data: ReportData, wording: Wording | None = None) -> Page:
    """The report's contents in the language of `wording`, English by default."""
    say = Texts(wording or Wording(), data.timezone)
    told = [_Told(say, target, f"t{number}") for number, target in enumerate(data.targets, 1)]
    date = say.date(data.as_of)
    return Page(
        language=say.language,
        title=say("page.title", project=data.project, date=date),
        project=data.project,
        as_of=say("page.scored_as_of", date=date),
        facts=tuple(_facts(say, data)),
        cards=tuple(one.card() for one in told),
        sections=(*(one.section() for one in told), dataset.section(say, data)),
        words=tuple((say(f"words.{key}"), say(f"words.{key.removesuffix('_word')}_text")) for key in _WORDS),
        made=say("page.made", version=version("persopredict"), date=date, timezone=data.timezone),
    )


def _facts(say: Texts, data: ReportData) -> list[tuple[str, str]]:
    """Numbers of the page's head: each with its name."""
    published = sum(target.state == "published" for target in data.targets)
    found = [(say("page.published", count=published, total=len(data.targets)), say("fact.published"))]
    if data.findings is not None:
        report = data.findings.report
        found.append((say.number(report.customers), say("fact.customers", count=report.customers)))
        found.append((say.number(report.usable), say("fact.events", count=report.usable)))
        if report.observed:
            span = say("page.interval", lower=say.date(report.observed[0]), upper=say.date(report.observed[1]))
            found.append((span, say("fact.observed")))
    return found


class _Told:
    """One target, told."""

    def __init__(self, say: Texts, target: TargetReport, id: str) -> None:
        self.say, self.target, self.id = say, target, id
        self.asked = Asked(say, target.target, target.name)
        self.evaluation = target.evaluation

    @property
    def published(self) -> bool:
        return self.target.state == "published"

    def badge(self) -> Badge:
        if not self.published:
            return Badge("!", self.say(f"state.{self.target.state}"), "warning" if self.target.state == "skipped" else "bad")
        return quality.badge(self.say, self.target.grade)

    # At a glance -----------------------------------------------------------------------------------------------------------------------

    def card(self) -> Card:
        return Card(
            self.id, self.asked.title, self.asked.question, self.badge(), self._advice(), tuple(self._warnings()), tuple(self._counts())
        )

    def _advice(self) -> Cell:
        """What to do with it, in one sentence."""
        say, evaluation = self.say, self.evaluation
        if not self.published:
            problem = self._problems()[0]
            message, _, language = say.problem(problem)
            return Cell(message, language="" if language == say.language else language)
        if evaluation is None:
            lost = self.target.model is not None and self.target.model.missing
            return Cell(say("advice.lost" if lost else "advice.no_evaluation"))
        if evaluation.grade == "C":
            return Cell(say("advice.weak", baseline=quality.baseline(say, evaluation.best_baseline)))
        if isinstance(evaluation, RankingEvaluation):
            return Cell(say("advice.lists", found=lists.found(say, evaluation)))
        if not evaluation.pooled.curve.rows or not self.target.scored:
            return Cell(say("grade.B_meaning" if evaluation.grade == "B" else "grade.A_meaning"))
        audience = evaluation.audience(share=audiences.CHOSEN / 100, of=self.target.scored)
        shown = audiences.step(say, self.asked, audience, audiences.CHOSEN)
        values = {"share": shown.share, "size": shown.size, "expected": shown.expected, "lift": shown.lift}
        said = say("advice.audience", outcome=self.asked.outcome(), **values)
        return Cell(f"{said} {shown.note}".strip())

    def _warnings(self) -> list[str]:
        found = []
        if self.published and self.target.trend and self.target.trend[-1].surprise:
            found.append(self.say("advice.surprise"))
        if getattr(self.evaluation, "suspected", ()):
            found.append(self.say("advice.suspected"))
        return found

    def _weak(self) -> list[str]:
        """Of a model that serves though it is not shown to be better, that it isn't, before anybody reads whom to contact."""
        return [self._advice().text] if self.published and getattr(self.evaluation, "grade", "") == "C" else []

    def _counts(self) -> list[str]:
        say, target = self.say, self.target
        if not self.published:
            still = target.last_published
            return [say("state.still", date=say.date(still), until=say.date(target.last_until)) if still else say("state.no_scores")]
        others = sum(target.customers.values()) - target.scored
        found = [say("card.scored", count=target.scored)]
        if others:
            found.append(say("card.unscored", count=others))
        if isinstance(self.evaluation, Evaluation):
            found.append(say("card.average", rate=say.percent(self.evaluation.pooled.rate), outcome=self.asked.outcome("rate")))
        if target.valid_until is not None:
            found.append(say("card.valid", date=say.date(target.valid_until)))
        return found

    # In full ---------------------------------------------------------------------------------------------------------------------------

    def section(self) -> Section:
        parts = (
            self._parts()
            if self.published
            else [self._why(), *([serving.came(self.say, self.target, self.id)] if self.target.trend else [])]
        )
        return Section(
            self.id, self.asked.title, tuple(parts), self.asked.question, self.target.name, self.badge(),
            (*self.asked.conditions, *self._counts()), tuple(Text(text, "warning") for text in [*self._warnings(), *self._weak()]),
        )  # fmt: skip

    def _parts(self) -> list[Part]:
        say, target, id, evaluation = self.say, self.target, self.id, self.evaluation
        parts: list[Part | None] = []
        if isinstance(evaluation, Evaluation):
            parts += [audiences.part(say, self.asked, evaluation, target.scored, id), *quality.parts(say, evaluation, id)]
        elif isinstance(evaluation, RankingEvaluation):
            listed, reached = serving.categories(say, target, id), category_audiences.part(say, target, evaluation, id)
            parts += [listed, reached, *lists.parts(say, evaluation, id)]
        else:
            parts.append(serving.categories(say, target, id))
        if target.model is not None and target.model.predictor is not None:
            parts.append(moving.part(say, target.model.predictor, id))
        parts += [serving.run(say, target, id), serving.came(say, target, id), serving.lineage(say, target, id)]
        return [part for part in parts if part is not None]

    def _problems(self) -> tuple[Problem, ...]:
        """Why it was not published; where no job kept its problems, what the ledger says."""
        kept = self.target.noted.problems
        return kept or (Problem(self.target.code or self.target.state, self.target.reason or self.target.state),)

    def _why(self) -> Part:
        say = self.say
        tone: Tone = "warning" if self.target.state == "skipped" else "bad"
        blocks: list[Block] = []
        for problem in self._problems():
            message, remedy, language = say.problem(problem)
            foreign = "" if language == say.language else language
            blocks.append(Text(message, tone, title=say("state.why"), language=foreign))
            if remedy:
                blocks.append(Text(remedy, "plain", title=say("state.remedy"), language=foreign))
            if not foreign and not say.english:
                blocks.append(Text(sentence(f"{problem.code}: {problem.message}"), "note", language="en"))
        return Part(f"{self.id}-why", say(f"state.{self.target.state}"), tuple(blocks))
