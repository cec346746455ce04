"""Time: UTC instants, durations written as '90d', and the rule that a naive instant is an error."""

import re
from datetime import UTC, date, datetime, timedelta

from upturn.core.errors import Invalid

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def utcnow() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)


def duration(text: str | float | timedelta) -> timedelta:
    """The duration that `text` names: '500ms', '10m', '1.5h', '90d', '2w'; a number is seconds.

    A day is 24 elapsed hours. Raises Invalid for anything else.

    >>> duration("90d").days
    90
    """
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int | float):
        return timedelta(seconds=text)
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise Invalid(
            f"{text!r} is not a duration.",
            hint="Write a number and one of ms, s, m, h, d, w: '90d', '10m', '500ms'.",
        )
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def spell(span: timedelta) -> str:
    """A duration as people write it, in the largest unit that it reaches, to one decimal.

    >>> spell(duration("90d")), spell(duration("36h")), spell(duration("90s"))
    ('90d', '1.5d', '1.5m')
    """
    seconds = span.total_seconds()
    for unit in ("d", "h", "m"):
        if abs(seconds) >= _UNITS[unit]:
            return f"{round(seconds / _UNITS[unit], 1):g}{unit}"
    return f"{round(seconds, 1):g}s"


def instant(value: str | date | datetime) -> datetime:
    """The UTC instant that `value` names; a date is its midnight in UTC.

    Raises Invalid for a naive datetime: without a time zone it does not name an instant.

    >>> instant("2013-04-01").isoformat()
    '2013-04-01T00:00:00+00:00'
    """
    if isinstance(value, str):
        value = _parse(value)
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:
        raise Invalid(
            f"{value.isoformat()} has no time zone, so it does not name an instant.",
            hint=f"Write {value.isoformat()}Z for UTC, or give an offset.",
        )
    return value.astimezone(UTC)


def end_instant(value: str | date | datetime) -> datetime:
    """The instant at which a span up to `value` ends: for a date the midnight after it.

    >>> end_instant("2013-12-31").isoformat()
    '2014-01-01T00:00:00+00:00'
    """
    if isinstance(value, str):
        value = _parse(value)
    whole_day = not isinstance(value, datetime)
    return instant(value) + timedelta(days=1) if whole_day else instant(value)


def _parse(text: str) -> date | datetime:
    try:
        if len(text) == len("2013-04-01"):
            return date.fromisoformat(text)
        return datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f"{text!r} is not a date or an instant.",
            hint="Write 2013-04-01 or 2013-04-01T06:00:00Z.",
        ) from None


def micros(at: datetime) -> int:
    """Microseconds since 1970 in UTC: how stores keep an instant.

    >>> micros(instant("1970-01-02"))
    86400000000
    """
    return (at - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The instant of so many microseconds since 1970 in UTC."""
    return _EPOCH + timedelta(microseconds=value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
