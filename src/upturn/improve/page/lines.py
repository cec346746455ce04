"""Lines: values over time or over a number, with their intervals, events and spans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from upturn.improve.page import svg
from upturn.improve.page.html import Html
from upturn.improve.page.scales import Scale, X, number, seconds_of, span, ticks, time_ticks, when

T = TypeVar("T")
_DASH = {"solid": "", "dashed": " d", "dotted": " o"}
_POINTS = 80  # up to so many, each value is a dot that says its number
_MOST = 2000  # more points than pixels are of no use


class Series(msgspec.Struct, frozen=True):
    """One line: `low` and `high`, if given, are the ends of the interval at each x."""

    name: str
    x: Sequence[X]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    style: Literal["solid", "dashed", "dotted"] = "solid"
    colour: int | None = None  # of the palette, 0 to 5; None: the series' place


class Mark(msgspec.Struct, frozen=True):
    """An event: a vertical line with a word."""

    x: X
    label: str


class Band(msgspec.Struct, frozen=True):
    """A span of x in the background: labels not yet complete, a rollout."""

    begin: X
    end: X
    label: str = ""


def lines(
    series: Sequence[Series],
    *,
    title: str,
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
    y_label: str = "",
    x_label: str = "",
    reference: float | None = None,
    zero: bool = False,
    width: int = 880,
    height: int = 240,
) -> Html:
    """Lines over time (UTC), or over numbers, with intervals as bands around them.

    With `zero` the y axis holds 0; `reference` is a horizontal line. Lines break where a value is
    None, nan or infinite.

    >>> lines([Series("auc", [1.0, 2.0], [0.8, 0.7])], title="AUC").startswith("<svg")
    True
    """
    series = [_thinned(one) for one in series]
    wide = width > 400
    shown = [v for one in series for v in (*_floats(one.y), *_floats(one.low), *_floats(one.high))]
    low, high = span([*shown, *([] if reference is None else [reference])], zero=zero)
    pad = (high - low) * 0.06
    low, high = (low if zero and low == 0 else low - pad), high + pad
    named = [*([y_label] if y_label else []), *(one.name for one in series if len(series) > 1)]
    top = (26 if named else 8) + (16 if marks else 0)
    places = [seconds_of(x) for one in series for x in one.x]
    x_low, x_high = span([*places, *(seconds_of(mark.x) for mark in marks)])
    of_time = any(isinstance(x, datetime) for one in series for x in one.x)
    if of_time and len(set(places)) == 1:
        x_low, x_high = places[0] - 43_200, places[0] + 43_200
    y_ticks = ticks(low, high, 4 if height < 200 else 5)
    left = 12 + 6.6 * max((len(number(tick)) for tick in y_ticks), default=2)
    x_scale = Scale(x_low, x_high, left, width - 14)
    y_scale = Scale(low, high, height - (36 if x_label else 22), top)
    parts = [
        *_spans(bands, x_scale, y_scale),
        *_y_axis(y_ticks, y_scale, left, width),
        *_x_axis(x_scale, y_scale.begin, of_time, 7 if wide else 3),
    ]
    if x_label:
        parts.append(svg.text((left + width) / 2, height - 2, x_label, "m"))
    if reference is not None:
        parts.append(svg.line(left, y_scale(reference), width - 14, y_scale(reference), "r"))
    parts += [_line(one, place, x_scale, y_scale, of_time) for place, one in enumerate(series)]
    parts += _marks(marks, x_scale, y_scale)
    parts.append(_legend(series, y_label, left))
    return svg.drawing(
        width, height, title, _describe(series, of_time), *parts, kind="wide" if wide else ""
    )


def _thinned(one: Series) -> Series:
    """Every nth point, so that there are no more than a screen shows; the last one stays."""
    if len(one.x) <= _MOST:
        return one
    step = math.ceil(len(one.x) / _MOST)
    keep = sorted({*range(0, len(one.x), step), len(one.x) - 1})

    return msgspec.structs.replace(
        one,
        x=_at(one.x, keep),
        y=_at(one.y, keep),
        low=_at(one.low, keep),
        high=_at(one.high, keep),
    )


def _at(values: Sequence[T], places: Sequence[int]) -> list[T]:
    return [values[place] for place in places] if len(values) else []


def _floats(values: Sequence[float | None]) -> list[float]:
    return [
        math.nan if value is None or not math.isfinite(value) else float(value) for value in values
    ]


def _line(one: Series, place: int, x: Scale, y: Scale, of_time: bool) -> str:
    xs = [seconds_of(value) for value in one.x]
    points = [
        (x(at), math.nan if math.isnan(value) else y(value))
        for at, value in zip(xs, _floats(one.y), strict=True)
    ]
    parts: list[str] = []
    if len(one.low) and len(one.high):
        upper = _ends(one.high, x, y, xs, math.inf)
        lower = _ends(one.low, x, y, xs, -math.inf)
        parts.append(svg.area(upper, lower, "b"))
        if len(points) == 1 and not math.isnan(upper[0][1] + lower[0][1]):
            parts.append(svg.line(upper[0][0], upper[0][1], lower[0][0], lower[0][1], "w"))
    parts.append(svg.curve(points, "l" + _DASH[one.style]))
    if len(points) <= _POINTS:
        for at, value, (px, py) in zip(xs, _floats(one.y), points, strict=True):
            if not math.isnan(py):
                name = when(at) if of_time else number(at)
                parts.append(svg.dot(px, py, 2.6, "f", f"{one.name}, {name}: {number(value, 4)}"))
    return svg.group(_colour(one, place), *parts)


def _ends(
    values: Sequence[float | None], x: Scale, y: Scale, xs: Sequence[float], open_end: float
) -> list[svg.Point]:
    """The ends of intervals; one that is not bounded reaches to the edge of the plot."""
    found: list[svg.Point] = []
    for at, value in zip(xs, values, strict=True):
        bounded = math.nan if value is None else value
        if math.isinf(bounded):
            bounded = open_end
        found.append((x(at), math.nan if math.isnan(bounded) else y(bounded)))
    return found


def _colour(one: Series, place: int) -> str:
    return f"c{(place if one.colour is None else one.colour) % 6}"


def _y_axis(places: Sequence[float], y: Scale, left: float, width: float) -> list[str]:
    parts = [svg.line(left, y(tick), width - 14, y(tick), "g") for tick in places]
    return parts + [svg.text(left - 6, y(tick) + 4, number(tick, 4), "e") for tick in places]


def _x_axis(x: Scale, bottom: float, of_time: bool, count: int) -> list[str]:
    if of_time:
        named = time_ticks(x.low, x.high, count)
    else:
        named = [(tick, number(tick, 4)) for tick in ticks(x.low, x.high, count)]
    parts = [svg.line(x.begin, bottom, x.end, bottom, "x")]
    until = -math.inf
    for tick, name in named:
        half = 3.2 * len(name)
        middle = min(x(tick), x.end + 14 - half)  # the last name stays within the picture
        parts.append(svg.line(x(tick), bottom, x(tick), bottom + 4, "x"))
        if middle - half > until:
            parts.append(svg.text(middle, bottom + 16, name, "m"))
            until = middle + half + 4
    return parts


def _spans(bands: Sequence[Band], x: Scale, y: Scale) -> list[str]:
    parts: list[str] = []
    for band in bands:
        begin, end = x(seconds_of(band.begin)), x(seconds_of(band.end))
        parts.append(
            svg.group("c5", svg.rect(begin, y.end, max(1, end - begin), y.begin - y.end, "s"))
        )
        if band.label:
            parts.append(svg.text(end - 4, y.begin - 6, band.label, "e"))
    return parts


def _marks(marks: Sequence[Mark], x: Scale, y: Scale) -> list[str]:
    """Events with their words above the plot; words that would overlap are left to the title."""
    parts: list[str] = []
    free = -math.inf
    for mark in sorted(marks, key=lambda mark: seconds_of(mark.x)):
        at = x(seconds_of(mark.x))
        parts.append(
            f'<path class="r" d="M{svg.at(at)} {svg.at(y.end - 4)}V{svg.at(y.begin)}">'
            f"<title>{svg.escape(mark.label)}</title></path>"
        )
        words = svg.cut(mark.label, 32)
        length = 6.2 * len(words)
        begin = min(at, x.end + 12 - length)
        if begin > free:
            parts.append(svg.text(begin, y.end - 8, words))
            free = begin + length + 6
    return parts


def _legend(series: Sequence[Series], y_label: str, left: float) -> str:
    parts = [svg.text(0, 13, y_label, "h")] if y_label else []
    at = 7.4 * len(y_label) + 16 if y_label else left
    if len(series) > 1:
        for place, one in enumerate(series):
            key = svg.curve([(at, 9), (at + 20, 9)], "l" + _DASH[one.style])
            parts += [svg.group(_colour(one, place), key), svg.text(at + 26, 13, one.name, "t")]
            at += 26 + 6.4 * len(one.name) + 18
    return "".join(parts)


def _describe(series: Sequence[Series], of_time: bool) -> str:
    said: list[str] = []
    for one in series:
        known = [
            (seconds_of(x), y)
            for x, y in zip(one.x, _floats(one.y), strict=True)
            if not math.isnan(y)
        ]
        if not known:
            said.append(f"{one.name}: no values.")
            continue
        say = when if of_time else number
        (first, value), (last, end) = known[0], known[-1]
        least, most = min(y for _, y in known), max(y for _, y in known)
        said.append(
            f"{one.name}: {number(value, 4)} at {say(first)}, {number(end, 4)} at {say(last)}, "
            f"between {number(least, 4)} and {number(most, 4)}."
        )
    return " ".join(said) or "Nothing to show."
