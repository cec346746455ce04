"""Page: an analysis as one self-contained HTML document, with its intervals drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, time

from upturn.improve.experiment.result import Analysis, Effect, Point
from upturn.improve.experiment.show import (
    Shown,
    effects_table,
    guardrails_table,
    how,
    interactions_table,
    segments_table,
    sizes,
)
from upturn.improve.experiment.verdict import interval_text
from upturn.improve.page.html import Tone, badge, figure, note, page, section, table
from upturn.improve.page.plots import Row, Series, intervals, lines

_TONES: dict[str, Tone] = {
    "better": "good",
    "passed": "good",
    "worse": "critical",
    "failed": "critical",
}


def experiment_page(found: Analysis) -> str:
    """The page: the verdict first, then what it rests on."""
    effects = [(f"{one.metric} ({one.arm})", one) for one in found.effects]
    sections = [
        section(
            "Verdict",
            note(found.verdict, _tone(found)),
            *(note(text, "warning") for text in found.notes),
            lead=sizes(found),
        ),
        section("Effects", _forest(effects), _table(effects_table(found)), note(how(found))),
    ]
    if found.guardrails:
        sections.append(section("Guardrails", _table(guardrails_table(found))))
    if found.over_time:
        sections.append(section("Over time", *_paths(found)))
    if found.segments:
        inside = [
            (f"{one.segment} = {one.value}: {one.effect.metric} ({one.effect.arm})", one.effect)
            for one in found.segments
        ]
        parts = [_forest(inside), _table(segments_table(found))]
        if found.interactions:
            parts.append(_table(interactions_table(found)))
        lead = "p-values are adjusted over all segments (Benjamini & Hochberg)."
        sections.append(section("Segments", *parts, lead=lead))
    return page(found.experiment, *sections, subtitle=f"Experiment, {found.method}")


def _tone(found: Analysis) -> Tone:
    if found.mismatch.found:
        return "critical"
    said = {one.status for one in found.effects} | {one.status for one in found.guardrails}
    if said & {"worse", "failed"}:
        return "critical"
    return "good" if "better" in said else ""


def _table(shown: Shown) -> str:
    rows = [
        (*row[:-1], badge(row[-1], _TONES.get(status, "")))
        for row, status in zip(shown.rows, shown.statuses, strict=True)
    ]
    numeric = range(shown.texts, len(shown.columns) - 1)
    return table(shown.columns, rows, numeric=list(numeric))


def _forest(rows: Sequence[tuple[str, Effect]]) -> str | None:
    """The lifts in per cent, one a row."""
    shown = [
        Row(
            label=name,
            estimate=100 * one.lift.estimate,
            low=100 * one.lift.low,
            high=100 * one.lift.high,
            text=interval_text(one.lift, per_cent=True, signed=True),
        )
        for name, one in rows
        if math.isfinite(one.lift.low)
    ]
    if not shown:
        return None
    return figure(intervals(shown, title="Lift with its interval", x_label="lift, per cent"))


def _paths(found: Analysis) -> list[str]:
    """Each metric's difference by the units that had come in by the end of each day."""
    made: list[str] = []
    for metric, arm in dict.fromkeys((one.metric, one.arm) for one in found.over_time):
        points = [one for one in found.over_time if (one.metric, one.arm) == (metric, arm)]
        if len(points) > 1:
            drawn = lines([_series(points)], title=f"{metric} ({arm})", reference=0.0)
            made.append(figure(drawn, f"{metric}: {arm} less {found.control}, by units so far"))
    return made


def _series(points: Sequence[Point]) -> Series:
    # The first days' intervals are so wide that nothing could be seen beside them.
    reach = 4 * max(abs(points[-1].difference.low), abs(points[-1].difference.high))

    def held(value: float) -> float:
        return min(max(value, -reach), reach)

    return Series(
        "difference",
        [datetime.combine(one.day, time(), UTC) for one in points],
        [held(one.difference.estimate) for one in points],
        [held(one.difference.low) for one in points],
        [held(one.difference.high) for one in points],
    )
