"""What a target asks, in words: its title, the question, and what its outcome is called."""

from __future__ import annotations

from dataclasses import dataclass

from persopredict.report.texts import Texts, capital, sentence
from persopredict.targets import Affinity, Conversion, Target
from persopredict.wording.languages import Words


@dataclass(frozen=True)
class Asked:
    """The words of a target; of scores made elsewhere `target` is None and little is known.

    >>> from persopredict.targets import Churn
    >>> from persopredict.wording import Wording
    >>> asked = Asked(Texts(Wording()), Churn("purchase", "28d"), "churn")
    >>> asked.title, asked.question
    ('28 days without purchases', 'Which of the customers with purchases in the last 91 days will have none in the next 28 days?')
    """

    say: Texts
    target: Target | None
    name: str

    @property
    def kind(self) -> str:
        """The prefix of the texts that are its own."""
        return "unknown_target" if self.target is None else self.target.type

    @property
    def title(self) -> str:
        """A few words."""
        if self.target is None:
            return self.name.replace("_", " ")
        return capital(self.say(f"{self.kind}.title", **self._parts(horizon=self.say.duration(self.target.horizon))))

    @property
    def question(self) -> str:
        """What is asked of whom, in one sentence or two."""
        target = self.target
        if target is None:
            return self.say("unknown_target.question")
        form = "question_ever" if target.active_within is None else "question"
        active = "" if target.active_within is None else self.say.duration(target.active_within, "last")
        return self.say(f"{self.kind}.{form}", active=active, **self._parts(horizon=self.say.duration(target.horizon, "next")))

    @property
    def conditions(self) -> tuple[str, ...]:
        """What else belongs to the question: conditions, a gap, who is left out."""
        target = self.target
        if target is None:
            return ()
        found = [sentence(self.say(f"asked.{key}", **{key: value})) for key in ("where", "cohort") if (value := getattr(target, key))]
        if target.gap:
            found.append(self.say("asked.gap", gap=self.say.duration(target.gap)))
        if isinstance(target, Conversion) and target.once:
            found.append(self.say("conversion.once"))
        return tuple(found)

    def outcome(self, form: str = "outcome") -> str:
        """What its outcome is called; see the texts under the target's type."""
        return self.say(f"{self.kind}.{form}")

    @property
    def things(self) -> str:
        """Of an affinity what its categories are called, several of them."""
        assert isinstance(self.target, Affinity)
        by = self.target.by
        if self.say.has(f"affinity.{by}"):
            return self.say(f"affinity.{by}")
        words = self._words
        one = words.column(by)
        plural = words.table.plural(one) if words.table.plural else None
        return plural or self.say("affinity.values", column=words.quoted(one))

    @property
    def _words(self) -> Words:
        wording = self.say.wording
        return Words.of(wording.language, wording.names, wording.currency)

    def _parts(self, horizon: str) -> dict[str, str]:
        assert self.target is not None
        words = self._words
        parts = {"events": words.either([words.noun(name)[1] for name in self.target.event_names]), "horizon": horizon}
        return parts | ({"things": self.things} if isinstance(self.target, Affinity) else {})
