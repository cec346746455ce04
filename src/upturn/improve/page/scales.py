"""Scales: where a value lies on an axis, which ticks the axis has, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

X = datetime | float
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS = (
    1, 5, 15, 30, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE,
    _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY,
)  # fmt: skip
_MONTHS = (1, 3, 6, 12, 24, 60, 120)


class Scale(msgspec.Struct, frozen=True):
    """A line from values in [low, high] to places in [begin, end]."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of the value; what lies outside is at the nearer end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def span(values: Iterable[float], *, zero: bool = False) -> tuple[float, float]:
    """The least and the greatest finite value, never equal; with `zero`, 0 is among them.

    >>> span([1.0, float("nan"), 3.0]), span([2.0]), span([])
    ((1.0, 3.0), (1.0, 3.0), (0.0, 1.0))
    """
    # Beyond that, and closer to 0, steps between ticks have no numbers.
    finite = [
        value if abs(value) > 1e-290 else 0.0
        for value in values
        if math.isfinite(value) and abs(value) < 1e300
    ]
    if zero:
        finite.append(0.0)
    if not any(finite):
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        reach = abs(low) / 2 or 1.0
        return low - reach, high + reach
    return low, high


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers in [low, high], about `count`, in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(place * step, digits) + 0.0 for place in range(first, last + 1)]


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: as many digits as it needs, an em dash for what can't be said.

    >>> number(0.12345), number(1234567.0), number(1e-9), number(float("nan")), number(42.0)
    ('0.123', '1,234,567', '1e-09', '—', '42')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1e9 or 0 < size < 10.0**-4:
        return f"{value:.{digits}g}".replace("-", "−", 1) if value < 0 else f"{value:.{digits}g}"
    decimals = max(0, digits - max(0, math.floor(math.log10(size)) + 1)) if size else 0
    text = f"{value:,.{max(decimals, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "−" + text[1:] if text.startswith("-") and text != "-0" else text.replace("-0", "0")


def share(value: float | None) -> str:
    """A share as per cent.

    >>> share(0.1234), share(None)
    ('12.3%', '—')
    """
    return "—" if value is None or not math.isfinite(value) else f"{value:.1%}"


def seconds_of(x: X) -> float:
    """A place on the x axis as a number: of an instant its seconds since 1970."""
    return x.timestamp() if isinstance(x, datetime) else float(x)


def time_ticks(low: float, high: float, count: int = 7) -> list[tuple[float, str]]:
    """Instants in [low, high] (seconds since 1970) where a day, a month, … begins, with names.

    The first one and each that begins a year say the year.

    >>> time_ticks(0.0, 86_400.0 * 45, count=3)
    [(0.0, '1 Jan 1970'), (2678400.0, '1 Feb')]
    """
    rough = (high - low) / max(1, count)
    step = next((step for step in _STEPS if step >= 0.75 * rough), None)
    if step is None or rough > 10 * _DAY:
        found = _months(low, high, rough)
        return _named(found, "%b" if rough > 27 * _DAY else "%-d %b")
    begin = -3 * _DAY if step >= 7 * _DAY else 0  # weeks begin on Mondays; 1970 on a Thursday
    first = math.ceil((low - begin) / step) * step + begin
    places = range(int(first), math.floor(high) + 1, step)
    shape = "%-d %b" if step >= _DAY else "%H:%M" if step >= _MINUTE else "%H:%M:%S"
    return _named([datetime.fromtimestamp(place, UTC) for place in places], shape)


def _months(low: float, high: float, rough: float) -> list[datetime]:
    every = next((m for m in _MONTHS if m * 30.5 * _DAY >= rough), _MONTHS[-1])
    begin = datetime.fromtimestamp(low, UTC)
    month = begin.year * 12 + begin.month - 1
    month -= month % every
    found: list[datetime] = []
    while (at := _month(month)).timestamp() <= high:
        if at.timestamp() >= low:
            found.append(at)
        month += every
    return found


def _month(count: int) -> datetime:
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def _named(instants: Sequence[datetime], shape: str) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    before: datetime | None = None
    for at in instants:
        name = _name(at, shape)
        if shape.startswith("%H"):
            if before is None or at.date() != before.date():
                name = _name(at, "%-d %b") if not (at.hour or at.minute) else name
        elif before is None or at.year != before.year:
            name += f" {at.year}"
        found.append((at.timestamp(), name))
        before = at
    return found


def _name(at: datetime, shape: str) -> str:
    # Not strftime's %b and %-d: the first depends on the locale, the second on the platform.
    if shape == "%b":
        return _NAMES[at.month - 1]
    return f"{at.day} {_NAMES[at.month - 1]}" if shape == "%-d %b" else at.strftime(shape)


_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def when(seconds: float) -> str:
    """An instant in words, its time of day where it has one.

    >>> when(86_400.0)
    '1970-01-02'
    """
    at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%d" if not seconds % _DAY else "%Y-%m-%d %H:%M")
