"""Distributions: now against before, in bins or categories, and what was predicted against seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from upturn.improve.page import svg
from upturn.improve.page.html import Html
from upturn.improve.page.scales import Scale, number, share, ticks

_CATEGORIES = 8  # shown; the others are one bar


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """One bin of a calibration diagram: mean score, share of positives, its interval, rows."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


def histogram_pair(
    edges: Sequence[float],
    before: Sequence[float],
    now: Sequence[float],
    *,
    title: str,
    names: tuple[str, str] = ("baseline", "now"),
    missing: tuple[float, float] | None = None,
    width: int = 320,
    height: int = 170,
) -> Html:
    """Two counts over the same bins, each as shares of its rows: bars now, a stepped line before.

    `edges` are the inner ones (one fewer than bins) or all (one more). Each bin is as wide as any
    other, so that bins between quantiles can be read; the edges' values are below. `missing` are
    shares of missing values, before and now, named below the title.
    """
    count = len(now)
    inner = list(edges[1:-1]) if len(edges) == count + 1 else list(edges)
    p, q = _shares(before), _shares(now)
    top = max([*p, *q, 1e-9])
    left, right, bottom = 36.0, width - 4.0, height - 20.0
    y = Scale(0.0, top * 1.05, bottom, 40.0)
    slot = (right - left) / max(1, count)
    parts = [*_frame(title, names), *_share_axis(y, left, right)]
    if missing is not None:
        words = f"missing {share(missing[0])} → {share(missing[1])}"
        parts.append(svg.text(right, 30, words, "e"))
    gap = min(2.0, slot * 0.15)
    bars = [
        svg.rect(
            left + place * slot + gap / 2,
            y(value),
            max(0.5, slot - gap),
            bottom - y(value),
            "f",
            f"{_bin_name(inner, place)}: {share(p[place])} → {share(value)}",
        )
        for place, value in enumerate(q)
    ]
    parts.append(svg.group("c0", *bars))
    steps = [(left + (place + end) * slot, y(v)) for place, v in enumerate(p) for end in (0, 1)]
    parts.append(svg.group("c1", svg.curve(steps, "l")))
    parts.append(svg.line(left, bottom, right, bottom, "x"))
    parts += _edge_names(inner, left, slot, bottom)
    return svg.drawing(width, height, title, _describe(p, q, names), *parts, kind="")


def category_pair(
    values: Sequence[str],
    before: Sequence[float],
    now: Sequence[float],
    *,
    title: str,
    names: tuple[str, str] = ("baseline", "now"),
    other: tuple[float, float] = (0, 0),
    missing: tuple[float, float] | None = None,
    width: int = 320,
) -> Html:
    """Two counts over the same categories as shares: a bar now, and a line where it was before.

    The most frequent are shown, before and now together; the rest, and `other` (counts of values
    beyond those listed, before and now), is one bar.
    """
    total = sum(before) + other[0], sum(now) + other[1]
    each = [
        (value, _part(a, total[0]), _part(b, total[1]))
        for value, a, b in zip(values, before, now, strict=True)
    ]
    ranked = sorted(each, key=lambda one: (-max(one[1], one[2]), one[0]))
    shown, rest = ranked[:_CATEGORIES], ranked[_CATEGORIES:]
    beyond = (
        sum(a for _, a, _ in rest) + _part(other[0], total[0]),
        sum(b for _, _, b in rest) + _part(other[1], total[1]),
    )
    if rest or any(other):
        shown = [*shown, ("other values", *beyond)]
    height = 44 + 16 * max(1, len(shown))
    label, right = 104.0, width - 52.0
    x = Scale(0.0, max([1e-9, *(max(a, b) for _, a, b in shown)]), label, right)
    parts = _frame(title, names)
    if missing is not None:
        parts.append(
            svg.text(width - 4, 30, f"missing {share(missing[0])} → {share(missing[1])}", "e")
        )
    for place, (name, a, b) in enumerate(shown):
        at = 40 + 16 * place
        words = f"{name}: {share(a)} → {share(b)}"
        bar = svg.rect(label, at, max(0.5, x(b) - label), 11, "f", words)
        parts += [
            svg.text(label - 6, at + 9.5, svg.cut(name, 15), "e"),
            svg.group("c0", bar),
            svg.group("c1", svg.line(x(a), at - 1.5, x(a), at + 12.5, "w")),
            svg.text(width - 4, at + 9.5, share(b), "e"),
        ]
    p, q = [a for _, a, _ in shown], [b for _, _, b in shown]
    return svg.drawing(width, height, title, _describe(p, q, names), *parts, kind="")


def calibration(
    points: Sequence[Reliability], *, title: str, width: int = 400, height: int = 400
) -> Html:
    """What was predicted against what came true, with intervals; on the diagonal both agree.

    The bars at the foot are the rows of each bin, the fullest as high as the space.
    """
    left, top, foot = 44.0, 12.0, 46.0
    side = min(width - left - 10, height - top - foot - 24)
    x = Scale(0.0, 1.0, left, left + side)
    y = Scale(0.0, 1.0, top + side, top)
    places = ticks(0.0, 1.0)
    parts = [svg.line(left, y(tick), left + side, y(tick), "g") for tick in places]
    parts += [svg.text(left - 6, y(tick) + 4, number(tick), "e") for tick in places]
    base = top + side
    parts += [svg.text(x(tick), base + 15, number(tick), "m") for tick in places]
    parts.append(svg.line(x(0), y(0), x(1), y(1), "r"))
    parts.append(svg.line(left, base, left + side, base, "x"))
    known = [one for one in points if math.isfinite(one.predicted) and math.isfinite(one.observed)]
    for one in known:
        words = (
            f"predicted {number(one.predicted)}, came true {number(one.observed)} "
            f"({number(one.low)} to {number(one.high)}), {one.rows:,} rows"
        )
        at = x(one.predicted)
        if not math.isnan(one.low + one.high):
            parts.append(svg.group("c0", svg.line(at, y(one.low), at, y(one.high), "w")))
        parts.append(svg.group("c0", svg.dot(at, y(one.observed), 4, "f", words)))
    most = max((one.rows for one in known), default=1) or 1
    for one in known:
        bar = foot * 0.5 * one.rows / most
        parts.append(svg.group("c5", svg.rect(x(one.predicted) - 3, base + 44 - bar, 6, bar, "b")))
    parts.append(svg.text(left + side / 2, base + foot + 12, "predicted; rows in bars", "m"))
    parts.append(svg.text(10, top + side / 2, "came true", "m", turn=True))
    desc = "; ".join(
        f"{number(one.predicted)} predicted, {number(one.observed)} seen" for one in known
    )
    return svg.drawing(width, height, title, desc or "No labelled rows.", *parts, kind="")


def _shares(counts: Sequence[float]) -> list[float]:
    known = [max(0.0, value) if math.isfinite(value) else 0.0 for value in counts]
    total = sum(known)
    return [_part(value, total) for value in known]


def _part(value: float, total: float) -> float:
    return value / total if total else 0.0


def _frame(title: str, names: tuple[str, str]) -> list[str]:
    before, now = names
    at = 16 + 6.2 * len(now) + 12
    return [
        svg.text(0, 13, svg.cut(title, 42), "h"),
        svg.group("c0", svg.rect(0, 22, 10, 9, "f")),
        svg.text(14, 30, now),
        svg.group("c1", svg.curve([(at, 26.5), (at + 12, 26.5)], "l")),
        svg.text(at + 17, 30, before),
    ]


def _share_axis(y: Scale, left: float, right: float) -> list[str]:
    places = ticks(0.0, y.high, 3)
    digits = 0 if len(places) < 2 or places[1] >= 0.01 else 1
    parts = [svg.line(left, y(tick), right, y(tick), "g") for tick in places]
    return parts + [svg.text(left - 4, y(tick) + 4, f"{tick:.{digits}%}", "e") for tick in places]


def _edge_names(inner: Sequence[float], left: float, slot: float, bottom: float) -> list[str]:
    """As many edges as have room for their numbers, always the same ones."""
    if not inner:
        return []
    names = [number(edge) for edge in inner]
    room = 6.4 * max(len(name) for name in names) + 10
    step = max(1, math.ceil(room / slot))
    first = (len(inner) - 1) % step // 2
    return [
        svg.text(left + (place + 1) * slot, bottom + 14, names[place], "m")
        for place in range(first, len(inner), step)
    ]


def _bin_name(inner: Sequence[float], place: int) -> str:
    if not inner:
        return "all"
    if place == 0:
        return f"up to {number(inner[0])}"
    if place >= len(inner):
        return f"above {number(inner[-1])}"
    return f"{number(inner[place - 1])} to {number(inner[place])}"


def _describe(p: Sequence[float], q: Sequence[float], names: tuple[str, str]) -> str:
    apart = sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
    return f"{share(apart)} of the rows lie elsewhere in {names[1]} than in {names[0]}."
