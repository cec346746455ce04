"""How a loop words what it saw: differences with their intervals, and what a guard may conclude."""

from __future__ import annotations

from datetime import datetime

from upturn.improve.evidence import GuardSeen
from upturn.improve.rollout import ERRORS, LATENCY, SERVING, NoWorse
from upturn.improve.triggers import Signs, Trigger


def instant_text(at: datetime) -> str:
    """An instant for people: the day, and the minute when it is not midnight.

    >>> from datetime import UTC
    >>> (
    ...     instant_text(datetime(2013, 4, 1, tzinfo=UTC)),
    ...     instant_text(datetime(2013, 4, 1, 6, 30, tzinfo=UTC)),
    ... )
    ('2013-04-01', '2013-04-01 06:30')
    """
    return f"{at:%Y-%m-%d}" if (at.hour, at.minute) == (0, 0) else f"{at:%Y-%m-%d %H:%M}"


def difference(metric: str, signed: tuple[float, float, float]) -> str:
    """A difference with its interval, in the metric's units, or in per cent of a latency.

    >>> difference("auc", (0.0123, 0.004, 0.021))
    '+0.0123 [+0.0040, +0.0210]'
    """
    form = {LATENCY: "{:+.1%}", ERRORS: "{:+.2%}"}.get(metric, "{:+.4f}")
    value, low, high = (form.format(number + 0.0) for number in signed)  # no −0
    return f"{value} [{low}, {high}]"


def better_or_worse(metric: str, gain: tuple[float, float, float]) -> str:
    """A gain with its interval, said so that the number is not negative.

    >>> better_or_worse("auc", (-0.0123, -0.021, -0.004))
    'worse by +0.0123 [+0.0040, +0.0210]'
    """
    value, low, high = gain
    if value >= 0:
        return f"better by {difference(metric, gain)}"
    return f"worse by {difference(metric, (-value, -high, -low))}"


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def guard_text(guard: NoWorse, seen: GuardSeen | None) -> str:
    """What a guard may conclude so far; not shown to be worse is not shown to be no worse."""
    if seen is not None and seen.exempt:
        return f"{guard.metric} is not guarded: {seen.exempt}."
    if seen is None or seen.comparison is None:
        rows = 0 if seen is None else seen.rows
        return f"{guard.metric} can't be compared yet, on {count(rows, 'row')}."
    harm = guard.harm(seen.comparison)
    gain = better_or_worse(guard.metric, (-harm[0], -harm[2], -harm[1]))
    margin = f"{guard.margin:g}"
    if guard.metric in SERVING:
        margin = f"{100 * guard.margin:g}%"
    if guard.broken(seen.comparison):
        verdict = "shown to be worse"
    elif guard.cleared(seen.comparison):
        verdict = "shown to be no worse"
    else:
        verdict = "not shown to be worse, nor shown to be no worse"
    rows = count(seen.rows, "row")
    return f"{guard.metric} {gain} on {rows}, margin {margin}: {verdict}."


def near_text(when: Trigger, signs: Signs) -> str:
    """How far each part of a trigger is from where it fires: 'drift 0.14 of 0.2'."""
    return "; ".join(f"{name}: {text}" for name, text in nearness(when, signs)) + "."


def nearness(when: Trigger, signs: Signs) -> list[tuple[str, str]]:
    """Each part of a trigger, and how near it is, or why that can't be told."""
    found: list[tuple[str, str]] = []
    for part in when.parts:
        finding = part.ask(signs)
        if finding.near is None:
            text = finding.why
        else:
            value, limit = finding.near
            text = f"{value:.3g} of {limit:g}" if limit < 1000 else f"{value:,.0f} of {limit:,.0f}"
        found.append((type(part).__name__.lower(), text))
    return found
