"""What sentences about a feature are put together from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from persopredict.features.spec import CALENDAR, Feature
from persopredict.wording import units
from persopredict.wording.events import ACTIVITY, Events, events_of
from persopredict.wording.languages import Words
from persopredict.wording.units import Unit


@dataclass(frozen=True)
class Telling:
    """How a feature is told: `title` without a value, `sentence` with one as its unit shows it, or NaN.

    `beside`: the sentence, the value and that of the companion, as `usual` shows it or NaN, to a sentence with both.
    """

    title: str
    unit: Unit
    sentence: Callable[[float], str]
    beside: Callable[[str, float, float], str] | None = None
    usual: Callable[[units.Floats], units.Floats] = units.rounded_gaps


@dataclass(frozen=True)
class Parts:
    """A feature and a language."""

    feature: Feature
    words: Words

    @cached_property
    def events(self) -> Events:
        """The events that it reads."""
        return events_of(self.feature.where, self.words)

    @cached_property
    def acts(self) -> Events:
        """The same where it matters when they were: all events are activity."""
        return events_of(self.feature.where, self.words, activity=True)

    @property
    def within(self) -> str:
        """As in " in the last 28 days"; nothing for all time."""
        window = self.feature.window
        return "" if window is None else self.words.say("within", span=units.span(window, self.words, "last"))

    @property
    def when(self) -> str:
        """The same, but " so far" for all time."""
        return self.within or self.words.say("so_far")

    @property
    def of_events(self) -> str:
        """As in " of purchases"; nothing for all events."""
        return self.words.say("of", events=self.events.many) if self.feature.where else ""

    @property
    def column(self) -> str:
        """The first column, if there is one."""
        return self.feature.columns[0] if self.feature.columns else ""

    @property
    def halves(self) -> dict[str, str]:
        """The two halves of the window of a trend."""
        assert self.feature.window is not None
        half = self.feature.window.half()
        return {"recent": units.span(half, self.words, "last"), "before": units.span(half, self.words, "before")}

    def act(self, key: str, **values: str) -> str:
        """A text about when events were."""
        return self.count_acts(None, key, **values)

    def count_acts(self, n: float | None, key: str, **values: str) -> str:
        """The same with a number."""
        return self.words.counted(n, key, self.acts.kind, event=self.acts.one, events=self.acts.many, **values)

    def event(self, key: str, **values: str) -> str:
        """A text about how many events there were."""
        return self.count_events(None, key, **values)

    def count_events(self, n: float | None, key: str, **values: str) -> str:
        """The same with a number."""
        return self.words.counted(n, key, self.events.kind, event=self.events.one, events=self.events.many, **values)

    def amount(self, key: str, **values: str) -> str:
        """A text about a column of events."""
        names = {"column": self.words.column(self.column), "of": self.of_events, "event": self.events.one, "events": self.events.many}
        # A column that the user calls otherwise takes the texts of any column.
        variants = (self.events.kind,) if self.column in self.words.names else (self.column, self.events.kind)
        return self.words.say(key, *variants, **{**names, **values})

    def nothing(self) -> str:
        """That there are no such events."""
        return self.act("none", when=self.within) if self.within else self.act("never")

    def nothing_at_all(self) -> str:
        """That there are no events, whatever the condition."""
        activity = self.words.say("activity")
        key, values = ("none", {"events": activity, "when": self.within}) if self.within else ("never", {"event": activity})
        return self.words.say(key, ACTIVITY, **values)

    def no_value(self) -> str:
        """That the column has no value: of what every event has, that there are no events."""
        return self.nothing() if self.column in CALENDAR else self.amount("no_column", when=self.within)
