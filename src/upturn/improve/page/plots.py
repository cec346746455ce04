"""Plots for a page: each is one accessible SVG string, the same bytes for the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from upturn.improve.page import svg
from upturn.improve.page.distributions import (
    Reliability,
    calibration,
    category_pair,
    histogram_pair,
)
from upturn.improve.page.html import Html
from upturn.improve.page.lines import Band, Mark, Series, lines
from upturn.improve.page.scales import Scale, number, span, ticks

__all__ = (
    "Band",
    "Mark",
    "Reliability",
    "Row",
    "Series",
    "bars",
    "calibration",
    "category_pair",
    "heatmap",
    "histogram_pair",
    "intervals",
    "lines",
    "spark",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a forest plot: an estimate with its ends, which may be infinite or nan."""

    label: str
    estimate: float
    low: float
    high: float
    text: str = ""  # at the right; the numbers if empty
    colour: int = 0


def intervals(
    rows: Sequence[Row],
    *,
    title: str,
    reference: float | None = 0.0,
    x_label: str = "",
    width: int = 880,
) -> Html:
    """A forest plot: an interval a row, and the line that it is to be on one side of."""
    label = min(300.0, 16 + 6.6 * max((len(row.label) for row in rows), default=4))
    texts = [row.text or _in_numbers(row) for row in rows]
    right = width - min(280.0, 20 + 6.4 * max((len(text) for text in texts), default=0))
    ends = [value for row in rows for value in (row.low, row.estimate, row.high)]
    low, high = span([*ends, *([] if reference is None else [reference])])
    pad = (high - low) * 0.05
    x = Scale(low - pad, high + pad, label, right)
    bottom = 12.0 + 26 * max(1, len(rows))
    parts = [svg.line(x(tick), 6, x(tick), bottom, "g") for tick in ticks(x.low, x.high, 5)]
    parts += [svg.text(x(tick), bottom + 14, number(tick), "m") for tick in ticks(x.low, x.high, 5)]
    if reference is not None:
        parts.append(svg.line(x(reference), 4, x(reference), bottom, "r"))
    for place, (row, words) in enumerate(zip(rows, texts, strict=True)):
        at = 23.0 + 26 * place
        parts.append(svg.text(0, at + 4, svg.cut(row.label, 44), "t"))
        parts.append(svg.text(width, at + 4, svg.cut(words, 43), "e t"))
        parts.append(_whisker(row, at, x))
    if x_label:
        parts.append(svg.text((label + right) / 2, bottom + 30, x_label, "m"))
    desc = "; ".join(f"{row.label}: {_in_numbers(row)}" for row in rows)
    height = bottom + (36 if x_label else 20)
    return svg.drawing(width, height, title, desc or "No rows.", *parts, kind="wide")


def _whisker(row: Row, at: float, x: Scale) -> str:
    parts: list[str] = []
    if not math.isnan(row.low + row.high) or math.isinf(row.low) or math.isinf(row.high):
        parts.append(svg.line(x(row.low), at, x(row.high), at, "w"))
        ends = [end for end in (row.low, row.high) if math.isfinite(end)]
        parts += [svg.line(x(end), at - 5, x(end), at + 5, "w") for end in ends]
    if math.isfinite(row.estimate):
        parts.append(svg.dot(x(row.estimate), at, 4.5, "f", f"{row.label}: {_in_numbers(row)}"))
    return svg.group(f"c{row.colour % 6}", *parts)


def _in_numbers(row: Row) -> str:
    return f"{number(row.estimate)} ({number(row.low)} to {number(row.high)})"


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    steps: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.5),
    unit: str = "",
    width: int = 880,
) -> Html:
    """A value for each row and column, as one of six colours: `steps` are where the next begins.

    None and nan stay empty. The steps' colours are named below; the default ones are of a PSI.
    """
    label = min(220.0, 14 + 6.6 * max((len(row) for row in rows), default=4))
    slot = min(64.0, (width - label) / max(1, len(columns)))
    tall = 20.0 if len(rows) <= 30 else 15.0
    written = slot >= 34 and tall >= 18
    parts: list[str] = []
    for line, (name, row) in enumerate(zip(rows, values, strict=True)):
        at = 4 + tall * line
        parts.append(svg.text(label - 8, at + tall - 6, svg.cut(name, 32), "e t"))
        for place, (column, value) in enumerate(zip(columns, row, strict=True)):
            if value is None or math.isnan(value):
                continue
            level = sum(value >= step for step in steps)
            left = label + slot * place
            words = f"{name}, {column}: {number(value)}{unit}"
            parts.append(svg.rect(left, at, slot - 1, tall - 1, f"h{min(level, 5)}", words))
            if written and level:
                ink = f"m k{min(level, 5)}"
                parts.append(svg.text(left + slot / 2, at + tall - 6, number(value, 2), ink))
    bottom = 4 + tall * max(1, len(rows))
    parts += _column_names(columns, label, slot, bottom)
    parts += _steps(steps, unit, label, bottom + 28)
    desc = _hottest(rows, columns, values)
    height = bottom + 44
    return svg.drawing(width, height, title, desc, *parts, kind="wide")


def _column_names(columns: Sequence[str], left: float, slot: float, bottom: float) -> list[str]:
    room = 6.4 * max((len(name) for name in columns), default=1) + 8
    step = max(1, math.ceil(room / slot))
    last = len(columns) - 1
    right = left + slot * len(columns)
    return [
        svg.text(
            # The last name stays within the picture.
            min(left + slot * (place + 0.5), right - 3.2 * len(columns[place])),
            bottom + 13,
            columns[place],
            "m",
        )
        for place in range(last % step, len(columns), step)
    ]


def _steps(steps: Sequence[float], unit: str, left: float, at: float) -> list[str]:
    names = [f"< {number(steps[0])}{unit}", *(f"≥ {number(step)}{unit}" for step in steps)]
    parts: list[str] = []
    for level, name in enumerate(names):
        parts += [svg.rect(left, at, 12, 12, f"h{level}"), svg.text(left + 17, at + 10, name)]
        left += 30 + 6.4 * len(name)
    return parts


def _hottest(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]]
) -> str:
    found = [
        (value, rows[line], columns[place])
        for line, row in enumerate(values)
        for place, value in enumerate(row)
        if value is not None and not math.isnan(value)
    ]
    if not found:
        return "No values."
    value, row, column = max(found)
    return f"The greatest is {number(value)}: {row}, {column}."


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    texts: Sequence[str] = (),
    width: int = 880,
) -> Html:
    """A horizontal bar a row, from 0."""
    label = min(300.0, 16 + 6.6 * max((len(name) for name in labels), default=4))
    known = [value if math.isfinite(value) else 0.0 for value in values]
    low, high = span(known, zero=True)
    x = Scale(min(0.0, low), max(high, 1e-12), label, width - 90.0)
    parts: list[str] = []
    for place, (name, value) in enumerate(zip(labels, known, strict=True)):
        at = 4.0 + 22 * place
        begin, end = sorted((x(0.0), x(value)))
        words = texts[place] if texts else number(values[place])
        parts += [
            svg.text(0, at + 12, svg.cut(name, 44), "t"),
            svg.group(
                "c0", svg.rect(begin, at, max(0.5, end - begin), 15, "f", f"{name}: {words}")
            ),
            svg.text(x(max(value, 0.0)) + 6, at + 12, words),
        ]
    desc = "; ".join(f"{a}: {number(b)}" for a, b in zip(labels, values, strict=True))
    height = 8 + 22 * max(1, len(labels))
    return svg.drawing(width, height, title, desc or "No rows.", *parts, kind="wide")


def spark(
    values: Sequence[float | None], *, title: str, width: int = 110, height: int = 22
) -> Html:
    """A line as small as a word, for a cell of a table."""
    known = [math.nan if v is None or not math.isfinite(v) else v for v in values]
    low, high = span(known)
    y = Scale(low, high, height - 3.0, 3.0)
    step = (width - 6) / max(1, len(known) - 1)
    points = [(3 + step * place, y(v) if v == v else v) for place, v in enumerate(known)]
    parts = [svg.curve(points, "l")]
    last = [point for point in points if not math.isnan(point[1])]
    parts += [svg.dot(*last[-1], 2.4, "f")] if last else []
    shown = [v for v in known if v == v]
    desc = f"From {number(shown[0])} to {number(shown[-1])}." if shown else "No values."
    return svg.drawing(width, height, title, desc, svg.group("c0", *parts), kind="spark")
