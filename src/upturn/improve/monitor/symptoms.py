"""Symptoms of a report: what its figures say is wrong, since when and where, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from upturn.improve.monitor.drift import Drift
from upturn.improve.monitor.segments import Segment
from upturn.improve.monitor.symptom import Severity, Symptom

MINOR, MAJOR = 0.1, 0.2  # of PSI beyond chance: the usual reading, Siddiqi (2006)
_ORDER = {"critical": 0, "warning": 1, "fine": 2}
_FIRST = ("traffic", "failures", "latency", "performance", "concept", "estimated", "labels")
_MOST = 3  # segments that are named


def ranked(symptoms: Iterable[Symptom]) -> tuple[Symptom, ...]:
    """The worst first; of equally bad ones the service, then answers, then what is given to models.

    Then the farthest beyond its limit, then by name.
    """
    return tuple(sorted(symptoms, key=_rank))


def _rank(one: Symptom) -> tuple[int, int, float, str]:
    kind = one.name.partition("/")[0]
    place = _FIRST.index(kind) if kind in _FIRST else len(_FIRST)
    return _ORDER[one.severity], place, -_beyond(one), one.name


def symptoms_of(
    drifts: Sequence[Drift],
    psi_by_window: Mapping[datetime, Mapping[str, float]],
    segments: Sequence[Segment] = (),
) -> list[Symptom]:
    """A symptom for each column: its drift, since when it goes on, and where it is strongest.

    The PSI beyond chance is a warning from 0.1 and critical from 0.2 (Siddiqi 2006). It began with
    the first of the last windows in a row that are at 0.1 or beyond.
    """
    return [_drifted(one, psi_by_window, segments) for one in drifts]


def began(psi_by_window: Mapping[datetime, Mapping[str, float]], column: str) -> datetime | None:
    """The start of the first of the last windows in a row in which the column drifted.

    >>> from upturn.core.time import instant
    >>> days = [instant(f"2013-04-0{day}") for day in (1, 2, 3)]
    >>> began({days[0]: {"x": 0.0}, days[1]: {"x": 0.3}, days[2]: {"x": 0.2}}, "x").day
    2
    """
    found: datetime | None = None
    for start in sorted(psi_by_window, reverse=True):
        value = psi_by_window[start].get(column)
        if value is None:
            continue
        if not value >= MINOR:
            break
        found = start
    return found


def _drifted(
    one: Drift,
    psi_by_window: Mapping[datetime, Mapping[str, float]],
    segments: Sequence[Segment],
) -> Symptom:
    severity = _severity(one.excess)
    facts: dict[str, Any] = {"column": one.column}
    where = _where(one.column, segments) if severity != "fine" else {}
    says = f"{one.column} {'drifted' if severity != 'fine' else 'is as it was'}"
    says += f": PSI {one.psi:.3g} where chance gives {one.psi_noise:.2g}"
    if one.missing - one.missing_before >= 0.01:
        says += f"; {one.missing:.1%} are missing, {one.missing_before:.1%} were"
    if one.unseen - one.unseen_before >= 0.01:
        says += f"; {one.unseen:.1%} are values that training did not have"
    if where:
        facts["segments"] = where
        says += f"; most where {', '.join(where)}"
    return Symptom(
        name=f"drift/{one.column}",
        severity=severity,
        says=says + ".",
        began_at=began(psi_by_window, one.column) if severity != "fine" else None,
        value=one.excess if one.excess == one.excess else None,
        limit=MINOR,
        facts=facts,
    )


def _severity(excess: float) -> Severity:
    if excess >= MAJOR:
        return "critical"
    return "warning" if excess >= MINOR else "fine"


def _where(column: str, segments: Sequence[Segment]) -> dict[str, float]:
    """The segments that drifted most, if they are not all alike."""
    found = {
        segment.name: one.excess
        for segment in segments
        for one in segment.drift
        if one.column == column and one.excess >= MINOR
    }
    if len(found) < 2:
        return found
    worst = sorted(found, key=lambda name: (-found[name], name))[:_MOST]
    least = min(found.values())
    return {name: found[name] for name in worst if found[name] > 1.5 * least}


def _beyond(one: Symptom) -> float:
    if one.value is None or not one.limit:
        return 0.0
    return abs(one.value / one.limit)
