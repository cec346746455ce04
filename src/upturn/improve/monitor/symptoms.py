"""Symptoms of a report: what its figures say is wrong, since when and where, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from upturn.improve.monitor.alarms import Alarm
from upturn.improve.monitor.drift import Drift
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.statistics.multiplicity import benjamini_hochberg

MINOR, MAJOR = 0.1, 0.2  # of PSI beyond chance: the usual reading, Siddiqi (2006)
ALPHA = 0.05  # of a report, over all of its columns
_ORDER = {"critical": 0, "warning": 1, "fine": 2}
_FIRST = ("traffic", "failures", "latency", "performance", "concept", "estimated", "labels")
_MOST = 3  # segments that are named


class Apart(Protocol):
    """Rows that are told apart: a segment of a report, or of a table."""

    @property
    def name(self) -> str: ...

    @property
    def drift(self) -> Sequence[Drift]: ...


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
    segments: Sequence[Apart] = (),
    alarmed: Sequence[Alarm] = (),
    *,
    alpha: float = ALPHA,
) -> list[Symptom]:
    """A symptom for each column: its drift, since when it goes on, and where it is strongest.

    The PSI beyond chance is a warning from 0.1 and critical from 0.2 (Siddiqi 2006), if it is more
    than chance too: if Pearson's test of the column, among those of all columns, is significant by
    Benjamini & Hochberg (1995), so that few rows or many columns do not cry wolf. A column with an
    alarm (see alarms.py) is a warning at least. It began where the alarm's evidence begins to rise,
    else with the first of the last windows in a row that are at 0.1 or beyond.
    """
    adjusted = benjamini_hochberg([one.p_value for one in drifts])
    known = {one.column: one for one in alarmed}
    return [
        _drifted(one, p, p <= alpha, psi_by_window, segments, known.get(one.column))
        for one, p in zip(drifts, adjusted, strict=True)
    ]


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
    p_value: float,
    sure: bool,
    psi_by_window: Mapping[datetime, Mapping[str, float]],
    segments: Sequence[Apart],
    alarm: Alarm | None,
) -> Symptom:
    alarmed = alarm is not None and alarm.raised
    severity = _severity(one.excess) if sure else "fine"
    severity = "warning" if alarmed and severity == "fine" else severity
    since = alarm.began_at if alarm is not None and alarmed else began(psi_by_window, one.column)
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
        began_at=since if severity != "fine" else None,
        value=one.excess if one.excess == one.excess else None,
        limit=MINOR,
        p_value=p_value if p_value == p_value else None,
        e_value=alarm.evidence if alarm is not None else None,
        facts=facts,
    )


def _severity(excess: float) -> Severity:
    if excess >= MAJOR:
        return "critical"
    return "warning" if excess >= MINOR else "fine"


def _where(column: str, segments: Sequence[Apart]) -> dict[str, float]:
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
