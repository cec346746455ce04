"""Timetable: the instants that a cron expression names in a time zone, each of them once.

Two kinds of tables go differently over a change of the clock, as in Debian's cron. One whose
minutes and hours are given ("30 2 * * *") names times of the day: what falls into the hour that a
day lacks is due at once when the clock has jumped, and what comes in the hour that a day has twice
is due the first time. One with a star for minutes or hours ("*/15 * * * *") names every minute that
looks so, by elapsed time: none in an hour that is lacking, both of an hour that is there twice.

The fields are matched by cronsim, on local times without a zone; where they lie in UTC is decided
here, so that the ticks do not depend on where one begins to count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration, from_micros, micros

EVERY = "@every "
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAY = timedelta(days=1)
_LONGEST = 3660 * _DAY
_STEP = timedelta(hours=6)  # no zone changes its clock back and forth within less
_BACK = (timedelta(hours=1), _DAY, 32 * _DAY, 366 * _DAY, 9 * 366 * _DAY)  # leap years: 8 at most


@dataclass(frozen=True, slots=True)
class Timetable:
    """When something is due. Made by `timetable`."""

    text: str
    fields: str  # five of them; '' when it is every so often
    zone: tzinfo
    every: timedelta | None = None

    def after(self, at: datetime) -> Iterator[datetime]:
        """The instants after that one in UTC, each later than the one before; often without end."""
        if self.every is not None:
            return self._multiples(at, self.every)
        minute, hour = self.fields.split()[:2]
        if minute.startswith("*") or hour.startswith("*"):
            return self._elapsed(at)
        return self._of_the_day(at)

    def next(self, at: datetime) -> datetime | None:
        """The first instant after that one; None when there is none any more."""
        return next(self.after(at), None)

    def last(self, until: datetime) -> datetime | None:
        """The last instant that is no later than `until`; None when there was none in years."""
        for back in _BACK:
            found: datetime | None = None
            for tick in self.after(until - back):
                if tick > until:
                    break
                found = tick
            if found is not None:
                return found
        return None

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The instants in (start, end]."""
        for tick in self.after(start):
            if tick > end:
                return
            yield tick

    def _multiples(self, at: datetime, every: timedelta) -> Iterator[datetime]:
        length = every // timedelta(microseconds=1)
        number = micros(at) // length
        while True:
            number += 1
            yield from_micros(number * length)

    def _of_the_day(self, at: datetime) -> Iterator[datetime]:
        """Times of the day: each local time that is named, where it lies in UTC."""
        last = at
        # Far enough back for any change of the clock, so that what is dropped is what was before.
        for local in self._local(at.astimezone(self.zone).replace(tzinfo=None) - 2 * _DAY):
            tick = in_utc(local, self.zone)
            if tick > last:
                last = tick
                yield tick

    def _elapsed(self, at: datetime) -> Iterator[datetime]:
        """Minutes by elapsed time: between two changes of the clock, local time is UTC, shifted."""
        while True:
            shift = _offset(at, self.zone)
            local = (at + shift).replace(tzinfo=None)
            seen = at
            for found in self._local(local):
                tick = found.replace(tzinfo=UTC) - shift
                changed = _next_change(seen, tick, self.zone)
                if changed is not None:
                    shift = _offset(changed, self.zone)
                    if self._is_due((changed + shift).replace(tzinfo=None)):
                        yield changed
                    at = changed
                    break
                seen = tick
                yield tick
            else:
                return

    def _is_due(self, local: datetime) -> bool:
        return next(self._local(local - timedelta(seconds=1)), None) == local

    def _local(self, after: datetime) -> Iterator[datetime]:
        from cronsim import CronSim

        return CronSim(self.fields, after)


def timetable(text: str, tz: str = "UTC") -> Timetable:
    """The timetable of a cron expression, '@weekly' and its like, or '@every 6h', in a zone.

    Multiples of '@every' are counted from 1970 in UTC. Raises Invalid for anything else.

    >>> table = timetable("0 3 * * *", "Europe/Madrid")
    >>> table.next(datetime(2026, 3, 29, tzinfo=UTC)).isoformat()
    '2026-03-29T01:00:00+00:00'
    """
    from cronsim import CronSim, CronSimError

    zone = zone_of(tz)
    given = " ".join(text.split())
    if given.lower().startswith(EVERY):
        every = _length(given[len(EVERY) :])
        if not timedelta(seconds=1) <= every <= _LONGEST:
            raise Invalid(f"{text!r} is more often than once a second, or less than in ten years.")
        return Timetable(given, "", zone, every)
    fields = _MACROS.get(given.lower(), given)
    if fields.startswith("@"):
        raise Invalid(
            f"{text!r} is no schedule.", hint=did_you_mean(given, [*_MACROS, "@every 6h"])
        )
    if len(fields.split()) != 5:
        raise Invalid(
            f"{text!r} is no schedule: it has {len(fields.split())} fields.",
            hint="Write minute, hour, day of the month, month, day of the week: '0 3 * * *'.",
        )
    try:
        CronSim(fields, datetime(2026, 1, 1))  # noqa: DTZ001  # its fields are looked at, no time
    except CronSimError as error:
        raise Invalid(
            f"{text!r} is no schedule: {str(error)[:1].lower()}{str(error)[1:]}.",
            hint="Write minute, hour, day of the month, month, day of the week: '0 3 * * *'.",
        ) from None
    made = Timetable(given, fields, zone)
    if made.next(datetime(2026, 1, 1, tzinfo=UTC)) is None:
        raise Invalid(f"{text!r} names no time at all.")
    return made


def _length(text: str) -> timedelta:
    try:
        return duration(text)
    except OverflowError:
        raise Invalid(f"{text!r} is too long.") from None


def zone_of(name: str) -> tzinfo:
    """The time zone of that name: 'Europe/Madrid'. Raises Invalid."""
    from zoneinfo import ZoneInfo, available_timezones

    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        known = available_timezones()
        hint = did_you_mean(name, known) if known else "This machine knows none: install tzdata."
        raise Invalid(f"No time zone {name!r}.", hint=hint) from None


def in_utc(local: datetime, zone: tzinfo) -> datetime:
    """Where a local time lies: the first time that it comes, or when the clock has jumped over it.

    >>> from zoneinfo import ZoneInfo
    >>> in_utc(datetime(2026, 3, 29, 2, 30), ZoneInfo("Europe/Madrid")).isoformat()
    '2026-03-29T01:00:00+00:00'
    """
    first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return first
    # There is no such time. Counted from before the jump it lies after it, and the other way round.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _next_change(before, first, zone) or first


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _next_change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """The first instant in (start, end] from which on the clock is another one."""
    low, offset = start, _offset(start, zone)
    while low < end:
        high = min(low + _STEP, end)
        if _offset(high, zone) != offset:
            while high - low > timedelta(microseconds=1):
                middle = low + (high - low) / 2
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None
