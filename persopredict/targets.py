"""What is predicted: for whom (eligibility at the cutoff) and what counts as yes (the label after it). Plain values, no engine.

A label at cutoff t looks at ``[t + gap, t + gap + horizon)``. Eligibility looks strictly before t.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from persopredict import conditions, html
from persopredict.errors import Problem, SpecificationError, did_you_mean
from persopredict.times import Duration

Event = str | tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """What all targets share. Use `Conversion`, `Churn`, `Cancellation` or `Affinity`. Printed, it is a sentence.

    Parameters
    ----------
    event : name of the event, or several.
    horizon : how far the label looks, like ``"28d"``.
    gap : time between the cutoff and the start of the label, default none.
    where : further condition on the event.
    active_within : eligible only with activity in this window before the cutoff; None asks only for some history.
    cohort : condition; eligible only from the first event that satisfies it on.
    name : ``[a-z0-9_]``, at most 48 bytes (column names of the wide table derive from it).
    """

    event: Event
    horizon: Duration
    gap: Duration = field(default=Duration(), kw_only=True)
    where: str | None = field(default=None, kw_only=True)
    active_within: Duration | None = field(default=None, kw_only=True)
    cohort: str | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)

    type: ClassVar[str] = ""

    def __post_init__(self) -> None:
        problems: list[Problem] = []
        for key in ("horizon", "gap", "active_within"):
            self._settle(key, lambda text: None if text is None else Duration.parse(text), problems)
        for key in ("where", "cohort"):
            self._settle(key, conditions.canonical, problems)
        self._settle("event", lambda event: _event_names(event), problems)
        self._settle_more(problems)
        for key in ("horizon", "active_within"):
            length = getattr(self, key)
            if isinstance(length, Duration) and not length:
                problems.append(Problem(f"target_{key}", f"{key} must be longer than nothing"))
        if not problems:
            object.__setattr__(self, "name", self.name or self._default_name())
            if not re.fullmatch(r"[a-z0-9_]{1,48}", self.name):
                problems.append(Problem("target_name", f"name {self.name!r} must be [a-z0-9_], at most 48 bytes", remedy="give name="))
        if problems:
            raise SpecificationError(f"{type(self).__name__}({self.event!r}) is wrong", problems)

    def _settle(self, key: str, read: Any, problems: list[Problem]) -> None:
        try:
            object.__setattr__(self, key, read(getattr(self, key)))
        except SpecificationError as error:
            problems.append(Problem(f"target_{key}", str(error)))

    def _settle_more(self, problems: list[Problem]) -> None:
        """Checks of a particular target."""

    def _default_name(self) -> str:
        event = self.event if isinstance(self.event, str) else "_".join(self.event)
        return re.sub(r"[^a-z0-9]+", "_", f"{self.type}_{event}_{self.horizon}".lower()).strip("_")

    @property
    def event_names(self) -> tuple[str, ...]:
        """The names of the event."""
        return (self.event,) if isinstance(self.event, str) else self.event

    @property
    def outcome(self) -> str:
        """The condition of the event that the label looks for."""
        return conditions.both(conditions.event_is(self.event_names), self.where) or ""

    @property
    def activity(self) -> str | None:
        """The condition of the activity that `active_within` asks for; None is any event."""
        return None

    @property
    def reads(self) -> frozenset[str]:
        """The events that the label needs to have been observed."""
        return frozenset(self.event_names)

    @property
    def meaning(self) -> str:
        """The outcome that a probability is of, in words."""
        return f"at least one {self._events} {self._within}"

    @property
    def asked_of(self) -> str:
        """Who is asked, in words."""
        return f"customers with {self._history}{self._since_cohort}"

    @property
    def _history(self) -> str:
        return f"any event in the {in_words(self.active_within)} before" if self.active_within else "any event before"

    @property
    def _events(self) -> str:
        return named(self.event_names) + (f" with {self.where}" if self.where else "")

    @property
    def _within(self) -> str:
        if not self.gap:
            return f"within {in_words(self.horizon)}"
        return f"within the {in_words(self.horizon)} that begin {in_words(self.gap)} later"

    @property
    def _since_cohort(self) -> str:
        return f", from their first event with {self.cohort} on" if self.cohort else ""

    def question(self) -> dict[str, Any]:
        """What is asked, JSON-ready: all but how much of the answer is published. Models of one question can be compared."""
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `target_from_dict` reads it back.

        >>> t = Churn("purchase", "28d")
        >>> target_from_dict(t.to_dict()) == t
        True
        """
        values: dict[str, Any] = {"type": self.type}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Duration):
                value = str(value)
            values[item.name] = list(value) if isinstance(value, tuple) else value
        return values

    def __repr__(self) -> str:
        """As it is written: the event, the horizon and whatever is not as by default.

        >>> Churn("purchase", "4w", active_within="56d")
        Churn('purchase', '28d', active_within='56d')
        """
        given = [
            f"{item.name}={_written(getattr(self, item.name))}"
            for item in fields(self)
            if item.name not in ("event", "horizon") and getattr(self, item.name) != self._by_default(item.name, item.default)
        ]
        return f"{type(self).__name__}({', '.join([_written(self.event), _written(self.horizon), *given])})"

    def _by_default(self, key: str, default: Any) -> Any:
        return self._default_name() if key == "name" else default

    def __str__(self) -> str:
        """Name, outcome and who is asked, in one sentence.

        >>> print(Churn("purchase", "28d"))
        churn_purchase_28d: no purchase within 28 days, asked of customers with at least one purchase in the 91 days before
        """
        return f"{self.name}: {self.meaning}, asked of {self.asked_of}"

    def _repr_html_(self) -> str:
        arguments = {"type": self.type, "event": named(self.event_names), "horizon": in_words(self.horizon)}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ("event", "horizon", "name") and value not in (None, False, (), Duration()):
                arguments[item.name.replace("_", " ")] = in_words(value) if isinstance(value, Duration) else _listed(value)
        sentence = f"Predicts {self.meaning}. Asked of {self.asked_of}."
        return html.block(html.title(self.name, sentence), html.folded("arguments", html.facts(arguments)))


@dataclass(frozen=True, slots=True, repr=False)
class Conversion(Target):
    """Will the customer do `event` within the horizon? ``once=True`` leaves out those who already did.

    >>> Conversion("coupon_redemption", "28d").name
    'conversion_coupon_redemption_28d'
    """

    once: bool = field(default=False, kw_only=True)
    type: ClassVar[str] = "conversion"

    @property
    def asked_of(self) -> str:
        """Who is asked, in words."""
        return f"customers with {self._history}{f' and no {self._events} so far' if self.once else ''}{self._since_cohort}"


@dataclass(frozen=True, slots=True, repr=False)
class Churn(Target):
    """Will the customer stay away: no `event` within the horizon? Eligible: at least one `event` within `active_within` before the cutoff.

    With ``active_within=None``, at least one ever: nobody leaves before having come.

    >>> Churn("purchase", "4w").name
    'churn_purchase_28d'
    """

    active_within: Duration | None = field(default=Duration(days=91), kw_only=True)
    type: ClassVar[str] = "churn"

    @property
    def activity(self) -> str | None:
        """Activity is the event itself: who stopped long ago can't leave again."""
        return self.outcome

    @property
    def meaning(self) -> str:
        """The outcome that a probability is of, in words."""
        return f"no {self._events} {self._within}"

    @property
    def asked_of(self) -> str:
        """Who is asked, in words."""
        recent = f"in the {in_words(self.active_within)} before" if self.active_within else "before"
        return f"customers with at least one {self._events} {recent}{self._since_cohort}"


@dataclass(frozen=True, slots=True, repr=False)
class Cancellation(Target):
    """Will a running contract end by `event` within the horizon?

    Eligible: started by `start` and no end later than the last start (an end and a start at the same instant are a renewal, unless it is
    the first start, which has nothing to renew: that contract has ended); without `start`, any event starts and any end is final. A
    `competing` end that comes before `event` counts as no; any end within the gap excludes the customer at that cutoff.

    >>> Cancellation("cancel", "30d", start="subscribe", competing=("expire",)).name
    'cancellation_cancel_30d'
    """

    start: Event | None = field(default=None, kw_only=True)
    competing: tuple[str, ...] = field(default=(), kw_only=True)
    type: ClassVar[str] = "cancellation"

    def _settle_more(self, problems: list[Problem]) -> None:
        self._settle("start", lambda event: None if event is None else _event_names(event), problems)
        given: Any = self.competing
        object.__setattr__(self, "competing", (given,) if isinstance(given, str) else tuple(given))
        both = set(self.competing) & set(self.event_names)
        if both:
            problems.append(Problem("target_competing", f"{sorted(both)} can't be the event and a competing end at once"))

    @property
    def start_names(self) -> tuple[str, ...]:
        """The names of the starting event; none if any event starts."""
        return () if self.start is None else (self.start,) if isinstance(self.start, str) else self.start

    @property
    def reads(self) -> frozenset[str]:
        """The ends, competing ones included."""
        return frozenset((*self.event_names, *self.competing))

    @property
    def meaning(self) -> str:
        """The outcome that a probability is of, in words."""
        return f"the contract ends by {self._events} {self._within}{f', not by {named(self.competing)}' if self.competing else ''}"

    @property
    def asked_of(self) -> str:
        """Who is asked, in words."""
        recent = f", active in the {in_words(self.active_within)} before" if self.active_within else ""
        return f"customers with a running contract{recent}{self._since_cohort}"


#: What an affinity may be about besides the levels of `category`.
KINDS_OF_AFFINITY = ("item_id", "channel", "hour", "weekday")


@dataclass(frozen=True, slots=True, repr=False)
class Affinity(Target):
    """Which values of `by` is the customer drawn to: at least one `event` of the value within the horizon?

    Asked for each eligible customer and each value of `by` (a *category*): a level of the log's category, ``item_id``, ``channel``, or a
    part of the local calendar, ``hour`` or ``weekday``. Eligible: any event within `active_within` before the cutoff. Events without a
    value of `by` are nobody's category.

    Parameters
    ----------
    by : the column whose values are the categories.
    top : how many categories of each customer are published, the likeliest first; default 10.
    top_new : how many of those that the customer never took are published in any case, the likeliest first; default 3.

    >>> Affinity("purchase", "28d", by="department").name
    'affinity_department_28d'
    """

    by: str = field(default="", kw_only=True)
    top: int = field(default=10, kw_only=True)
    top_new: int = field(default=3, kw_only=True)
    active_within: Duration | None = field(default=Duration(days=91), kw_only=True)
    type: ClassVar[str] = "affinity"

    def _settle_more(self, problems: list[Problem]) -> None:
        if not (isinstance(self.by, str) and self.by.strip()):
            remedy = f"give by= a level of category, or one of {', '.join(KINDS_OF_AFFINITY)}"
            problems.append(Problem("target_by", f"by={self.by!r} is not a column", remedy=remedy))
        for key, least in (("top", 1), ("top_new", 0)):
            value: Any = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                problems.append(Problem(f"target_{key}", f"{key}={value!r} must be a whole number, at least {least}"))

    @property
    def meaning(self) -> str:
        """The outcome that a probability is of, in words."""
        return f"at least one {self._events} {self._within}, for each {named((self.by,))}"

    def question(self) -> dict[str, Any]:
        """What is asked, JSON-ready: `top` and `top_new` only say how much of the answer is published."""
        return {key: value for key, value in self.to_dict().items() if key not in ("top", "top_new")}

    def _default_name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "_", f"{self.type}_{self.by}_{self.horizon}".lower()).strip("_")


def in_words(length: Duration) -> str:
    """A length of time as people write it.

    >>> in_words(Duration(days=28)), in_words(Duration(hours=1)), in_words(Duration(days=1, hours=12))
    ('28 days', '1 hour', '36 hours')
    """
    number, unit = (length.days * 24 + length.hours, "hour") if length.hours else (length.days, "day")
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def named(names: Sequence[str]) -> str:
    """Names of events or columns as people write them.

    >>> named(["coupon_redemption", "visit"])
    'coupon redemption or visit'
    """
    return " or ".join(name.removesuffix("_id").replace("_", " ") for name in names)


def _written(value: Any) -> str:
    return repr(str(value)) if isinstance(value, Duration) else repr(value)


def _listed(value: Any) -> str:
    return named(value) if isinstance(value, tuple) else str(value)


def _event_names(event: Any) -> Event:
    names = (event,) if isinstance(event, str) else tuple(event) if isinstance(event, Sequence) else ()
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise SpecificationError(f"{event!r} is not an event name, nor several")
    return names[0] if len(names) == 1 else names


TYPES: Mapping[str, type[Target]] = {kind.type: kind for kind in (Conversion, Churn, Cancellation, Affinity)}


def target_from_dict(values: Mapping[str, Any]) -> Target:
    """The target that `Target.to_dict` wrote, or that a configuration file describes.

    >>> target_from_dict({"type": "chrun", "event": "purchase", "horizon": "28d"})
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no target type 'chrun'; did you mean 'churn'?
    """
    arguments = dict(values)
    kind = arguments.pop("type", None)
    if kind not in TYPES:
        raise SpecificationError(f"no target type {kind!r}; {did_you_mean(str(kind), TYPES)}")
    known = [item.name for item in fields(TYPES[kind])]
    unknown = [Problem("target_key", f"no argument {key!r}; {did_you_mean(key, known)}") for key in arguments if key not in known]
    missing = [Problem("target_key", f"{key!r} is missing") for key in ("event", "horizon") if key not in arguments]
    if unknown or missing:
        raise SpecificationError(f"target of type {kind!r} is wrong", [*unknown, *missing])
    return TYPES[kind](**arguments)
