"""The page of two tables compared: a TableDrift as one HTML document."""

from __future__ import annotations

from upturn.improve.monitor.classifier import DomainShift
from upturn.improve.monitor.drift_page import (
    distribution_section,
    drift_section,
    symptom_table,
)
from upturn.improve.monitor.tables import TableDrift
from upturn.improve.page import plots
from upturn.improve.page.html import Html, figure, page, section, table, tiles
from upturn.improve.page.scales import number

_CLUES = 20


def render(found: TableDrift, *, before: str = "before", now: str = "now") -> Html:
    """The comparison as a page; `before` and `now` are the tables' names. No clock, no chance."""
    parts = [
        _changed(found),
        drift_section(found),
        distribution_section(found),
        _segments(found),
        _classifier(found.shift),
    ]
    shown = f"{found.rows:,} rows against {found.rows_before:,}"
    return page(
        f"{now} against {before}", *(part for part in parts if part is not None), subtitle=shown
    )


def _changed(found: TableDrift) -> Html:
    bad = [one for one in found.symptoms if one.severity != "fine"]
    shift = found.shift
    figures: list[tuple[str, object, str]] = [
        ("rows", f"{found.rows:,}", f"{found.rows_before:,} before"),
        ("columns", str(len(found.drift)), f"{len(bad)} of them drifted"),
    ]
    if found.windows:
        figures.append(("windows", str(len(found.windows)), f"of {found.every}"))
    if shift is not None and not shift.note:
        ends = f"{number(shift.auc.low)} to {number(shift.auc.high)}"
        figures.append(("told apart", number(shift.auc.estimate), f"AUC, {ends}"))
    left = f"Left out: {', '.join(found.left_out)}." if found.left_out else None
    return section("What changed", tiles(figures), symptom_table(found.symptoms), left)


def _segments(found: TableDrift) -> Html | None:
    if not found.segments:
        return None
    parts: list[str] = []
    for column in dict.fromkeys(one.column for one in found.segments):
        rows: list[list[object]] = []
        for one in found.segments:
            if one.column != column:
                continue
            most = [f"{drift.column} {number(drift.excess)}" for drift in one.drift[:3]]
            value = "(others)" if one.value is None else one.value
            rows.append([value, f"{one.rows:,}", ", ".join(most)])
        parts.append(table([column, "rows", "most drifted: PSI beyond chance"], rows))
    return section("Segments", *parts)


def _classifier(shift: DomainShift | None) -> Html | None:
    if shift is None:
        return None
    if shift.note:
        return section("Told apart by a classifier", f"It can't be said: {shift.note}")
    auc = shift.auc
    words = (
        f"A classifier that has not seen them tells rows of now from rows before with an AUC of "
        f"{number(auc.estimate)} ({number(auc.low)} to {number(auc.high)}); 0.5 is not at all. "
        f"Held out were whole {shift.blocks}. Below, how much less it is when a column is shuffled."
    )
    clues = shift.clues[:_CLUES]
    drawn = plots.bars(
        [one.column for one in clues],
        [max(0.0, one.drop) for one in clues],
        title="drop of the AUC when the column is shuffled",
        texts=[number(one.drop) for one in clues],
    )
    return section("Told apart by a classifier", words, figure(drawn))
