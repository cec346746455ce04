"""The timeline: when each policy trained, released, refused and rolled back, a row a policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from upturn.improve.page import svg
from upturn.improve.page.html import Html
from upturn.improve.page.scales import Scale, seconds_of, time_ticks
from upturn.improve.rehearsal import Event

_ROW = 24.0
_RETRAIN, _PROMOTE, _OTHER = "retrain", "promote", ("refuse", "rollback", "failed")
_WORDS = {
    "retrain": "trained",
    "promote": "released",
    "refuse": "refused",
    "rollback": "rolled back",
    "failed": "training failed",
}


def timeline(
    rows: Sequence[tuple[str, Sequence[Event]]],
    *,
    start: datetime,
    end: datetime,
    width: int = 880,
) -> Html:
    """A line a policy with a tick for each training, a dot for each release, a box for each no."""
    label = min(240.0, 16 + 6.6 * max((len(name) for name, _ in rows), default=4))
    x = Scale(seconds_of(start), seconds_of(end), label, width - 14.0)
    bottom = 26.0 + _ROW * len(rows)
    parts = [_legend(label)]
    for place, (name, events) in enumerate(rows):
        middle = 26.0 + _ROW * (place + 0.5)
        parts.append(svg.text(0, middle + 4, svg.cut(name, 34), "t"))
        parts.append(svg.line(label, middle, x.end, middle, "g"))
        parts += [_event(one, x, middle) for one in events if one.action in _WORDS]
    for tick, words in time_ticks(x.low, x.high, 8):
        half = 3.2 * len(words)
        parts.append(svg.line(x(tick), bottom, x(tick), bottom + 4, "x"))
        parts.append(svg.text(min(x(tick), x.end + 14 - half), bottom + 16, words, "m"))
    parts.append(svg.line(label, bottom, x.end, bottom, "x"))
    return svg.drawing(
        width, bottom + 22, "Decisions of each policy", _describe(rows), *parts, kind="wide"
    )


def _event(one: Event, x: Scale, middle: float) -> str:
    at = x(seconds_of(one.at))
    words = f"{one.at:%Y-%m-%d}: {_WORDS[one.action]}"
    words += "" if one.version is None else f", version {one.version}"
    if one.action == _RETRAIN:
        return svg.group("c5", svg.rect(at - 0.8, middle - 7, 1.6, 14, "f", words))
    if one.action == _PROMOTE:
        return svg.group("c2", svg.dot(at, middle, 4.5, "f", words))
    return svg.group("c1", svg.rect(at - 3.5, middle - 3.5, 7, 7, "f", words))


def _legend(left: float) -> str:
    keys = [
        svg.group("c5", svg.rect(left, 4, 1.6, 14, "f")) + svg.text(left + 8, 15, "trained"),
        svg.group("c2", svg.dot(left + 78, 11, 4.5, "f")) + svg.text(left + 88, 15, "released"),
        svg.group("c1", svg.rect(left + 158, 7.5, 7, 7, "f"))
        + svg.text(left + 171, 15, "refused, rolled back or failed"),
    ]
    return "".join(keys)


def _describe(rows: Sequence[tuple[str, Sequence[Event]]]) -> str:
    said: list[str] = []
    for name, events in rows:
        trained = sum(one.action == _RETRAIN for one in events)
        released = sum(one.action == _PROMOTE for one in events)
        noes = sum(one.action in _OTHER for one in events)
        said.append(f"{name}: trained {trained}, released {released}, no {noes} times.")
    return " ".join(said) or "Nothing was decided."
