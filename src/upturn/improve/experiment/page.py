"""Page: an analysis as one self-contained HTML document, with its intervals drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from upturn.improve.experiment.result import Analysis, Effect, Point
from upturn.improve.experiment.verdict import interval_text, p_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #69717c; --line: #d9dde2; --good: #12805c;
--bad: #c03a2b; --paper: #fff } @media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb;
--soft: #9aa3ad; --line: #3a4048; --good: #4cc38a; --bad: #ff8a7a; --paper: #15181c } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
max-width: 60rem; margin: 2rem auto; padding: 0 1rem } h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } .verdict { font-size: 1.15rem; font-weight: 600 }
.soft { color: var(--soft) } table { border-collapse: collapse; width: 100% }
td, th { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right }
td:first-child, th:first-child, .left { text-align: left } th { font-weight: 600 }
.better, .passed { color: var(--good) } .worse, .failed { color: var(--bad) }
svg { width: 100%; height: auto } svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
"""
_WIDE, _LEFT, _RIGHT, _ROW = 800, 220, 30, 30
_COLOURS = {"better": "var(--good)", "worse": "var(--bad)"}


def experiment_page(found: Analysis) -> str:
    """The page: the verdict first, then what it rests on."""
    sizes = ", ".join(f"{one.arm} {one.units:,}" for one in found.arms)
    parts = [
        f"<h1>{escape(found.experiment)}</h1>",
        f'<p class="soft">{escape(sizes)} units{_span(found)}</p>',
        f'<p class="verdict">{escape(found.verdict)}</p>',
        *(f"<p>{escape(note)}</p>" for note in found.notes),
        "<h2>Lift of each metric</h2>",
        _forest([(f"{one.metric} ({one.arm})", one) for one in found.effects]),
        _effects(found.effects),
        _how(found),
    ]
    if found.guardrails:
        parts += ["<h2>Guardrails</h2>", _guardrails(found)]
    if found.segments:
        rows = [
            (f"{one.segment} = {one.value}: {one.effect.metric} ({one.effect.arm})", one.effect)
            for one in found.segments
        ]
        parts += ["<h2>Segments</h2>", _forest(rows), _differ(found)]
    for key in dict.fromkeys((one.metric, one.arm) for one in found.over_time):
        points = [one for one in found.over_time if (one.metric, one.arm) == key]
        if len(points) > 1:
            parts += [f"<h2>{escape(key[0])} ({escape(key[1])}) over time</h2>", _path(points)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(found.experiment)}</title><style>{_STYLE}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def _span(found: Analysis) -> str:
    return f", {found.since} to {found.until}" if found.since else ""


def _how(found: Analysis) -> str:
    held = {"anytime": "at every look", "fixed": "for one look"}.get(
        found.method, "at planned looks"
    )
    many = len(found.effects) > 1 and found.correction
    how = {"holm": "Holm", "bh": "Benjamini and Hochberg"}.get(found.correction or "", "")
    said = f" p is adjusted for {len(found.effects)} comparisons ({how})." if many else ""
    return (
        f'<p class="soft">Each interval holds with {1 - found.alpha:.0%} by itself, {held}.{said} '
        "Lifts have Fieller's interval.</p>"
    )


def _effects(effects: Sequence[Effect]) -> str:
    rows = [
        (
            escape(one.metric),
            escape(one.arm),
            _number(one.control_value),
            _number(one.value),
            "" if one.why else escape(interval_text(one.difference, signed=True)),
            "" if math.isnan(one.p_adjusted) else p_text(one.p_adjusted),
            _status(one.status, one.why),
        )
        for one in effects
    ]
    return _table(("metric", "arm", "control", "arm's", "difference", "p", "says"), rows)


def _guardrails(found: Analysis) -> str:
    rows = [
        (
            escape(one.effect.metric),
            escape(one.effect.arm),
            "" if one.effect.why else escape(interval_text(one.effect.difference, signed=True)),
            f"{one.margin:.1%}" if one.relative else f"{one.margin:.4g}",
            _status(one.status, one.effect.why),
        )
        for one in found.guardrails
    ]
    return _table(("guardrail", "arm", "difference", "margin", "says"), rows)


def _differ(found: Analysis) -> str:
    rows = [
        (
            escape(one.segment),
            escape(one.metric),
            escape(one.arm),
            escape(one.value),
            p_text(one.p_adjusted),
        )
        for one in found.interactions
    ]
    columns = ("does the effect differ by", "metric", "arm", "most in", "p")
    return _table(columns, rows) if rows else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _status(status: str, why: str) -> str:
    said = {"open": "not shown", "unsaid": f"can't be said: {why}"}.get(status, status)
    return f'<span class="{status}">{escape(said)}</span>'


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _forest(rows: Sequence[tuple[str, Effect]]) -> str:
    """Intervals of the lift, one a row, with a line at no change."""
    shown = [(name, one) for name, one in rows if math.isfinite(one.lift.low)]
    if not shown:
        return ""
    ends = [0.0, *(one.lift.low for _, one in shown), *(one.lift.high for _, one in shown)]
    place, ticks = _scale(min(ends), max(ends))
    height = _ROW * len(shown) + 30
    marks = [
        f'<line x1="{place(at):.1f}" x2="{place(at):.1f}" y1="0" y2="{height - 25}" '
        f'stroke="var(--line)"/><text x="{place(at):.1f}" y="{height - 8}" text-anchor="middle">'
        f"{100 * at:.3g} %</text>"
        for at in ticks
    ]
    marks.append(
        f'<line x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - 25}" '
        'stroke="var(--soft)"/>'
    )
    for row, (name, one) in enumerate(shown):
        y = _ROW * row + _ROW / 2
        colour = _COLOURS.get(one.status, "var(--ink)")
        lift = one.lift
        marks.append(
            f'<text x="0" y="{y + 4}">{escape(name[:34])}</text><line x1="{place(lift.low):.1f}" '
            f'x2="{place(lift.high):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{place(lift.estimate):.1f}" cy="{y}" r="4" fill="{colour}">'
            f"<title>{escape(interval_text(lift, per_cent=True, signed=True))}</title></circle>"
        )
    return _svg("Lift with its interval", height, marks)


def _path(points: Sequence[Point]) -> str:
    """The difference and its interval, by the units that had come in by each day."""
    height, top, bottom = 220, 10.0, 190.0
    # The first days' intervals are so wide that nothing else could be seen beside them.
    late = points[len(points) // 4 :]
    low = min(0.0, *(one.difference.low for one in late))
    high = max(0.0, *(one.difference.high for one in late))
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return bottom - (min(max(value, low), high) - low) / span * (bottom - top)

    def x(place: int) -> float:
        return 60 + place * (_WIDE - 60 - _RIGHT) / max(1, len(points) - 1)

    upper = [f"{x(i):.1f},{y(one.difference.high):.1f}" for i, one in enumerate(points)]
    lower = [f"{x(i):.1f},{y(one.difference.low):.1f}" for i, one in enumerate(points)]
    middle = [f"{x(i):.1f},{y(one.difference.estimate):.1f}" for i, one in enumerate(points)]
    marks = [
        f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="var(--good)" '
        'opacity="0.18"/>',
        f'<polyline points="{" ".join(middle)}" fill="none" stroke="var(--good)" '
        'stroke-width="2"/>',
        f'<line x1="60" x2="{_WIDE - _RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}" '
        'stroke="var(--soft)" stroke-dasharray="3 3"/>',
        *(
            f'<text x="54" y="{y(at) + 4:.1f}" text-anchor="end">{at:.3g}</text>'
            for at in dict.fromkeys((low, 0.0, high))
        ),
        f'<text x="60" y="{height - 8}">{points[0].day}</text>',
        f'<text x="{_WIDE - _RIGHT}" y="{height - 8}" text-anchor="end">{points[-1].day}, '
        f"{points[-1].units:,} units</text>",
    ]
    return _svg("Difference with its interval, by day", height, marks)


def _scale(low: float, high: float) -> tuple["_Place", list[float]]:
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next((m for m in (1, 2, 5, 10) if span / (step * m) <= 6), 10)
    first = math.ceil(low / step)
    ticks = [step * k for k in range(first, math.floor(high / step) + 1)]
    return _Place(low, span), ticks


class _Place:
    """Where a value lies across the drawing."""

    def __init__(self, low: float, span: float) -> None:
        self._low, self._span = low, span

    def __call__(self, value: float) -> float:
        return _LEFT + (value - self._low) / self._span * (_WIDE - _LEFT - _RIGHT)


def _svg(title: str, height: float, marks: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDE} {height}" role="img"><title>{title}</title>{"".join(marks)}</svg>'
