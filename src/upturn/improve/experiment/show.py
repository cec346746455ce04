"""Show: an analysis as tables of text, for the terminal and for the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from upturn.improve.experiment.result import Analysis, Effect
from upturn.improve.experiment.verdict import interval_text, p_text


@dataclass(frozen=True, slots=True)
class Shown:
    """A table: names of columns, and rows of text; the first `texts` columns are no numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int
    statuses: tuple[str, ...]  # of each row, whose last column says it


def sizes(found: Analysis) -> str:
    """The arms' units, and from when to when they came in."""
    units = ", ".join(f"{one.arm} {one.units:,}" for one in found.arms)
    span = f", {found.since} to {found.until}" if found.since else ""
    return f"{units} units{span}"


def how(found: Analysis) -> str:
    """What the intervals and p-values are."""
    held = {"anytime": "at every look", "fixed": "for one look"}.get(
        found.method, "at planned looks"
    )
    said = f"Each interval holds with {1 - found.alpha:.0%} by itself, {held}."
    if found.correction and len(found.effects) > 1:
        name = {"holm": "Holm", "bh": "Benjamini & Hochberg"}[found.correction]
        said += f" p is adjusted for {len(found.effects)} comparisons ({name})."
    adjusted = sorted({one.adjustment for one in found.effects if one.adjustment})
    if adjusted:
        said += f" Adjusted by {', '.join(adjusted)}."
    clipped = [f"{one.metric} at {_ends(one)}" for one in found.effects if one.clipped]
    if clipped:
        said += f" Winsorised: {', '.join(dict.fromkeys(clipped))}."
    return f"{said} The lift's interval is Fieller's."


def effects_table(found: Analysis) -> Shown:
    """What each arm changes in each metric."""
    columns = ("metric", "arm", found.control, "arm's", "difference", "lift", "p", "says")
    rows = [
        (one.metric, one.arm, *_figures(one), _says(one.status, one.why)) for one in found.effects
    ]
    return Shown(columns, tuple(rows), 2, tuple(one.status for one in found.effects))


def guardrails_table(found: Analysis) -> Shown:
    """What must not get worse."""
    rows = [
        (
            one.effect.metric,
            one.effect.arm,
            *_figures(one.effect)[2:4],
            f"{one.margin:.1%}" if one.relative else f"{one.margin:.4g}",
            _says(one.status, one.effect.why),
        )
        for one in found.guardrails
    ]
    columns = ("guardrail", "arm", "difference", "lift", "margin", "says")
    return Shown(columns, tuple(rows), 2, tuple(one.status for one in found.guardrails))


def segments_table(found: Analysis) -> Shown:
    """The effects in each segment."""
    rows = [
        (
            f"{one.segment} = {one.value}",
            one.effect.metric,
            one.effect.arm,
            f"{one.effect.units:,}",
            *_figures(one.effect)[2:],
            _says(one.effect.status, one.effect.why),
        )
        for one in found.segments
    ]
    columns = ("segment", "metric", "arm", "units", "difference", "lift", "p", "says")
    return Shown(columns, tuple(rows), 3, tuple(one.effect.status for one in found.segments))


def interactions_table(found: Analysis) -> Shown:
    """Whether the effects differ between the values of a column."""
    said = [
        "differs" if one.p_adjusted <= found.alpha else "not shown" for one in found.interactions
    ]
    rows = [
        (one.segment, one.metric, one.arm, one.value, p_text(one.p_adjusted), says)
        for one, says in zip(found.interactions, said, strict=True)
    ]
    columns = ("the effect by", "metric", "arm", "most in", "p", "says")
    return Shown(columns, tuple(rows), 4, tuple(said))


def _figures(one: Effect) -> tuple[str, str, str, str, str]:
    gap = "" if one.why else interval_text(one.difference, signed=True)
    lifted = not one.why and math.isfinite(one.lift.low)
    lift = interval_text(one.lift, per_cent=True, signed=True) if lifted else ""
    p = "" if math.isnan(one.p_adjusted) else p_text(one.p_adjusted)
    control, arm = (f"{v:.4g}" if math.isfinite(v) else "" for v in (one.control_value, one.value))
    return control, arm, gap, lift, p


def _says(status: str, why: str) -> str:
    return {"open": "not shown", "unsaid": f"can't be said: {why}"}.get(status, status)


def _ends(one: Effect) -> str:
    return "" if one.clipped is None else f"{one.clipped[0]:.4g} and {one.clipped[1]:.4g}"
