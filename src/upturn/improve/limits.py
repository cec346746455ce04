"""Limits: when a loop keeps still, and how often it may train or put a candidate before people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from zoneinfo import ZoneInfo

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration, spell

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_AHEAD = 9  # days that are looked at for the end of a quiet time: more than a week of them


class Quiet(msgspec.Struct, frozen=True):
    """The times in which no candidate gets anything new: these hours of a day, and whole days.

    Times are those of the zone's clocks. `hours` may go over midnight: ("22:00", "06:00").
    """

    hours: tuple[str, str] | None
    days: tuple[str, ...]
    tz: str

    def ends(self, now: datetime) -> datetime | None:
        """When the quiet time that `now` lies in is over; None when it lies in none."""
        if not self._covers(now):
            return None
        for moment in self._edges(now):
            if moment > now and not self._covers(moment):
                return moment
        raise AssertionError("checked when it was made: every week has a time that is not quiet")

    def _covers(self, now: datetime) -> bool:
        local = now.astimezone(ZoneInfo(self.tz))
        if _DAYS[local.weekday()] in self.days:
            return True
        if self.hours is None:
            return False
        begin, end = (clock.fromisoformat(text) for text in self.hours)
        at = local.time()
        return begin <= at < end if begin < end else at >= begin or at < end

    def _edges(self, now: datetime) -> Iterator[datetime]:
        """The instants at which it may end, in order: midnights, and the ends of the hours."""
        zone = ZoneInfo(self.tz)
        today = now.astimezone(zone).date()
        times = sorted({clock(0), *(clock.fromisoformat(text) for text in self.hours or ())})
        for ahead in range(_AHEAD):
            for at in times:
                local = datetime.combine(today + timedelta(days=ahead), at, tzinfo=zone)
                yield local.astimezone(UTC)

    def __str__(self) -> str:
        parts = [f"{self.hours[0]} to {self.hours[1]}"] if self.hours else []
        parts += [" and ".join(self.days)] if self.days else []
        return f"{', '.join(parts)} ({self.tz})"


class Rate(msgspec.Struct, frozen=True):
    """So many in any span of that length."""

    count: int
    per: timedelta

    def free_at(self, spent: Sequence[datetime], now: datetime) -> datetime | None:
        """When one more is allowed, of those spent so far; None when it is now."""
        within = sorted(at for at in spent if at > now - self.per)
        if len(within) < self.count:
            return None
        return within[len(within) - self.count] + self.per

    def __str__(self) -> str:
        return f"{self.count:,} in {spell(self.per)}"


class Budget(msgspec.Struct, frozen=True):
    """What a loop may spend: trainings, and requests that a candidate answers in a canary."""

    retrains: Rate | None = None
    exposed: Rate | None = None


def quiet(hours: str | None = None, *, days: str | Sequence[str] = (), tz: str = "UTC") -> Quiet:
    """Times in which no route changes towards a candidate; a rollback is allowed at any time.

    `hours` are quiet on every day, `days` as a whole: quiet("22:00-06:00", days="sat,sun") is quiet
    at night and on weekends, by the clocks of `tz`. Raises Invalid for what names no such time, for
    a zone that there is not, and when no time is left.

    >>> from upturn.core.time import instant
    >>> nights = quiet("22:00-06:00", days="sat,sun", tz="Europe/Berlin")
    >>> nights.ends(instant("2025-04-04T21:00:00Z")).isoformat()  # a Friday, 23:00 there
    '2025-04-07T04:00:00+00:00'
    >>> nights.ends(instant("2025-04-04T12:00:00Z"))
    """
    named = [day.strip().lower()[:3] for day in _listed(days)]
    for day in named:
        if day not in _DAYS:
            raise Invalid(f"{day!r} is no day of the week.", hint=did_you_mean(day, _DAYS))
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise Invalid(
            f"There is no time zone {tz!r} on this machine.",
            hint="Write one like Europe/Berlin. A machine without any: pip install tzdata",
        ) from None
    made = Quiet(
        None if hours is None else _span(hours), tuple(day for day in _DAYS if day in named), tz
    )
    if made.hours is None and not made.days:
        raise Invalid("quiet() names no time.", hint='Write quiet("22:00-06:00").')
    if len(made.days) == len(_DAYS):
        raise Invalid("quiet() leaves no time in which a candidate could come up.")
    return made


def budget(*, retrains: str | None = None, exposed: str | None = None) -> Budget:
    """What a loop may spend in any day, week or span of so many days: "2/week", "20000/7d".

    `retrains` counts trainings. `exposed` counts the requests that candidates answer in canaries:
    a canary begins only when what it is going to take, by the traffic of the last such span, fits
    into what is left, and is rolled back when it has used up the rest. Raises Invalid for what is
    no such rate.

    >>> str(budget(retrains="2/week").retrains)
    '2 in 7d'
    """
    return Budget(
        None if retrains is None else _rate("retrains", retrains),
        None if exposed is None else _rate("exposed", exposed),
    )


def _listed(days: str | Sequence[str]) -> list[str]:
    if isinstance(days, str):
        return [part for part in days.split(",") if part.strip()]
    if not isinstance(days, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"days={days!r} names no days.", hint='Write days="sat,sun".')
    return [str(day) for day in days]


def _span(hours: str) -> tuple[str, str]:
    found = _SPAN.fullmatch(hours.strip())
    try:
        if found is None:
            raise ValueError
        begin, end = (clock(int(found[at]), int(found[at + 1])) for at in (1, 3))
    except ValueError:
        raise Invalid(
            f"{hours!r} is no span of hours.", hint="Write 22:00-06:00; it may go over midnight."
        ) from None
    if begin == end:
        raise Invalid(f"{hours!r} has no length.", hint="A whole day is named by days=.")
    return f"{begin:%H:%M}", f"{end:%H:%M}"


def _rate(name: str, text: str) -> Rate:
    number, slash, per = str(text).replace(",", "").replace("_", "").partition("/")
    per = {"day": "1d", "week": "7d", "month": "30d"}.get(per.strip(), per)
    if not slash or not number.strip().isdigit():
        raise Invalid(f"{name}={text!r} is no rate.", hint="Write 2/week, or 20000/7d.")
    rate = Rate(int(number), duration(per))
    if rate.per <= timedelta(0) or rate.count < 1:
        raise Invalid(f"{name}={text!r} allows nothing.", hint="Write 2/week, or 20000/7d.")
    return rate
