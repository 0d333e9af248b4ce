"""Durations, time zones and instants: the only place where text becomes time.

Instants are aware `datetime` values in UTC with microseconds. Days and weeks are calendar days of the log's time zone (a day with a
daylight-saving change has 23 or 25 hours); hours are elapsed hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from datetime import timezone as fixed_offset
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

from persopredict.errors import SpecificationError, did_you_mean

Microseconds = npt.NDArray[np.int64]
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(\d{1,5})\s*([hdw])")


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time written ``<int>h``, ``<int>d`` or ``<int>w``; weeks are kept as days.

    >>> str(Duration.parse("4w")), Duration.parse("91d").days, Duration.parse("36h").hours
    ('28d', 91, 36)
    >>> Duration.parse("1 month")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: '1 month' is not a duration; write <int>h, <int>d or <int>w, like '28d'
    """

    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str | Duration) -> Duration:
        """Read a duration; raises `SpecificationError` if it can't be read."""
        if isinstance(text, Duration):
            return text
        match = _DURATION.fullmatch(text.strip().lower()) if isinstance(text, str) else None
        if match is None:
            raise SpecificationError(f"{text!r} is not a duration; write <int>h, <int>d or <int>w, like '28d'")
        amount, unit = int(match[1]), match[2]
        if unit == "h":
            return cls(hours=amount)
        return cls(days=amount * (7 if unit == "w" else 1))

    def __str__(self) -> str:
        """Canonical text: hours if there are any, else days."""
        return f"{self.days * 24 + self.hours}h" if self.hours else f"{self.days}d"

    def __bool__(self) -> bool:
        """False for a zero duration."""
        return bool(self.days or self.hours)

    @property
    def approximate(self) -> timedelta:
        """The length with every day taken as 24 hours: for comparing and for rates, never for boundaries."""
        return timedelta(days=self.days, hours=self.hours)

    def half(self) -> Duration:
        """Half of it, in whole hours: the boundary of the `trend` aggregate.

        >>> str(Duration.parse("28d").half()), str(Duration.parse("7d").half())
        ('14d', '84h')
        """
        total = self.days * 24 + self.hours
        if self.hours or total % 48:
            return Duration(hours=total // 2)
        return Duration(days=total // 48)

    def after(self, start: datetime, timezone: tzinfo) -> datetime:
        """The instant this much later than `start`, days counted on the calendar of `timezone`.

        >>> Duration.parse("1d").after(instant("2024-03-09", "America/New_York"), ZoneInfo("America/New_York")).isoformat()
        '2024-03-10T05:00:00+00:00'
        >>> Duration.parse("1d").after(instant("2024-03-10", "America/New_York"), ZoneInfo("America/New_York")).isoformat()
        '2024-03-11T04:00:00+00:00'
        """
        return _moved(start, self.days, timezone) + timedelta(hours=self.hours)

    def before(self, end: datetime, timezone: tzinfo) -> datetime:
        """The instant this much earlier than `end`."""
        return _moved(end, -self.days, timezone) - timedelta(hours=self.hours)


def _moved(moment: datetime, days: int, timezone: tzinfo) -> datetime:
    """The instant at which the wall clock of `timezone` shows the same time, so many days away.

    Where daylight saving skips midnight, the day's first instant counts as its midnight: cutoffs stay on days, whatever the season.
    """
    if not days:
        # The wall can't tell the two passes of an hour that is repeated; the instant can.
        return moment.astimezone(UTC)
    wall = moment.astimezone(timezone).replace(tzinfo=None)
    if local_midnight(moment, timezone) == moment:
        wall = datetime(wall.year, wall.month, wall.day)
    return (wall + timedelta(days=days)).replace(tzinfo=timezone).astimezone(UTC)


def zone(name: str) -> ZoneInfo:
    """The time zone of that name; raises `SpecificationError` with the nearest known name.

    >>> zone("Europe/Madrd")
    Traceback (most recent call last):
    persopredict.errors.SpecificationError: no time zone 'Europe/Madrd'; did you mean 'Europe/Madrid'?
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise SpecificationError(f"no time zone {name!r}; {did_you_mean(str(name), available_timezones())}") from None


def instant(value: str | date | datetime, timezone: str | tzinfo = "UTC") -> datetime:
    """An aware UTC `datetime` from text, a date or a datetime; naive values are read in `timezone`.

    >>> instant("2017-12-03", "America/New_York").isoformat()
    '2017-12-03T05:00:00+00:00'
    >>> instant("2017-12-03T05:00:00Z").isoformat()
    '2017-12-03T05:00:00+00:00'
    """
    local = zone(timezone) if isinstance(timezone, str) else timezone
    if isinstance(value, datetime) and value == value:  # pandas' NaT is a datetime that equals nothing
        moment = value
    elif isinstance(value, date) and value == value:
        moment = datetime(value.year, value.month, value.day)
    else:
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            example = "'2017-12-03' or '2017-12-03T06:00:00+01:00'"
            raise SpecificationError(f"{value!r} is not a date or time; write it like {example}") from None
    # pandas Timestamps are datetimes with nanoseconds: rebuilding drops what an instant can't hold.
    clock = (moment.hour, moment.minute, moment.second, moment.microsecond)
    return datetime(moment.year, moment.month, moment.day, *clock, moment.tzinfo or local, fold=moment.fold).astimezone(UTC)


def local_midnight(moment: datetime, timezone: tzinfo) -> datetime:
    """The last midnight of `timezone` not after `moment`.

    >>> local_midnight(instant("2017-12-03T04:00:00Z"), zone("America/New_York")).isoformat()
    '2017-12-02T05:00:00+00:00'
    """
    local = moment.astimezone(timezone)
    return datetime(local.year, local.month, local.day, tzinfo=timezone).astimezone(UTC)


def on_the_clock(moment: datetime, timezone: tzinfo) -> datetime:
    """The same instant as the clocks of `timezone` show it, with the offset that they have then: a fixed one, so that two of them compare
    as instants, also within an hour that these clocks repeat.

    >>> print(on_the_clock(instant("2017-12-03T05:00:00Z"), zone("America/New_York")))
    2017-12-03 00:00:00-05:00
    """
    local = moment.astimezone(timezone)
    return local.replace(tzinfo=fixed_offset(local.utcoffset() or timedelta()))


def offsets(timezone: tzinfo, start: datetime, end: datetime) -> list[tuple[datetime | None, int]]:
    """The zone's offsets from `start` to `end`: (valid before this instant, microseconds to add to UTC); the last has no end.

    >>> found = offsets(zone("Europe/Madrid"), instant("2024-01-01"), instant("2024-07-01"))
    >>> [(until and until.isoformat(), offset // 3_600_000_000) for until, offset in found]
    [('2024-03-31T01:00:00+00:00', 1), (None, 2)]
    """

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(timezone).utcoffset() or timedelta(0)

    found: list[tuple[datetime | None, int]] = []
    current = start
    while current < end:
        # Zones change their offset at most a few times a year: a day is a safe step, then bisection finds the instant.
        following = min(current + timedelta(days=1), end)
        if offset(current) != offset(following):
            low, high = current, following
            while high - low > timedelta(microseconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if offset(middle) == offset(current) else (low, middle)
            found.append((high, offset(current) // timedelta(microseconds=1)))
        current = following
    return [*found, (None, offset(end) // timedelta(microseconds=1))]


class WallClock:
    """What the clocks on the walls of a time zone showed at many instants at once, between two instants; all in microseconds.

    Parameters
    ----------
    timezone : whose walls.
    start, end : instants (microseconds since 1970, UTC); what is asked may lie two days outside, no more.

    >>> clock = WallClock(zone("Europe/Madrid"), 1_711_753_200_000_000, 1_711_926_000_000_000)
    >>> days = clock.day(np.array([1_711_835_999_999_999, 1_711_836_000_000_000, 1_711_922_400_000_000]))
    >>> (days - days[0]).tolist()
    [0, 0, 2]
    """

    def __init__(self, timezone: tzinfo, start: int, end: int) -> None:
        margin = timedelta(days=4)
        found = offsets(timezone, _EPOCH + timedelta(microseconds=start) - margin, _EPOCH + timedelta(microseconds=end) + margin)
        self._offsets = np.array([offset for _, offset in found], np.int64)
        self._changes = np.array([(until - _EPOCH) // timedelta(microseconds=1) for until, _ in found if until is not None], np.int64)
        # Of a time that comes twice the first is meant, and one that is skipped is read by the clock before the change (PEP 495, fold=0).
        self._walls = self._changes + np.maximum(self._offsets[:-1], self._offsets[1:])

    @property
    def days_return(self) -> bool:
        """Whether clocks were put back over midnight: a day comes, goes, and comes again (St. John's, in autumn, until 2011)."""
        before, after = (self._changes - 1 + self._offsets[:-1]) // _DAY, (self._changes + self._offsets[1:]) // _DAY
        return bool((after < before).any())

    def local(self, instants: Microseconds) -> Microseconds:
        """What the wall clock shows, as microseconds since the wall clock's 1970."""
        return np.asarray(instants + self._offsets[np.searchsorted(self._changes, instants, side="right")])

    def day(self, instants: Microseconds) -> Microseconds:
        """The local day, as days since 1970."""
        return np.asarray(self.local(instants) // _DAY)

    def instants(self, walls: Microseconds) -> Microseconds:
        """The instants at which the wall clock shows these times."""
        return np.asarray(walls - self._offsets[np.searchsorted(self._walls, walls, side="right")])

    def before(self, instants: Microseconds, length: Duration) -> Microseconds:
        """`Duration.before` of many instants."""
        return self._moved(instants, -length.days) - length.hours * _HOUR

    def after(self, instants: Microseconds, length: Duration) -> Microseconds:
        """`Duration.after` of many instants."""
        return self._moved(instants, length.days) + length.hours * _HOUR

    def _moved(self, instants: Microseconds, days: int) -> Microseconds:
        if not days:
            return instants
        walls = self.local(instants)
        midnights = walls // _DAY * _DAY
        walls = np.where(self.instants(midnights) == instants, midnights, walls)
        return self.instants(walls + days * _DAY)


def local(moment: datetime, timezone: str) -> str:
    """The date as the zone writes it, with the time unless it is midnight.

    >>> local(datetime.fromisoformat("2017-10-08T05:00Z"), "America/Mexico_City"), local(datetime.fromisoformat("2017-10-08T05:00Z"), "UTC")
    ('2017-10-08', '2017-10-08 05:00')
    """
    there = moment.astimezone(zone(timezone))
    return f"{there:%Y-%m-%d}" if there.time() == time() else f"{there:%Y-%m-%d %H:%M}"
