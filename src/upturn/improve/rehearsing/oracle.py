"""The oracle: each week the version that turned out to suit it best, a bound that no policy has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from upturn.core.time import micros
from upturn.improve.metrics import ROW_LOSSES
from upturn.improve.rehearsal import Event
from upturn.improve.rehearsing.shared import Done, Plan, Shared

_WEEK = timedelta(days=7)


def oracle(shared: Shared, known: Mapping[int, datetime], truth: np.ndarray, loss: str) -> Done:
    """Answers by the version of those `known` by a week's start that loses the least in that week.

    It looks at the week's own labels, so a part of its lead is luck: it is better than anything
    that could have been done. `known` says from when on there was each version. A week without
    labels is answered as the one before.
    """
    plan = Plan(name="oracle", kind="oracle")
    scores = np.full(shared.past.rows, np.nan)
    versions = sorted(known, key=lambda number: (known[number], number))
    weeks = _weeks(shared)
    lost = np.full((len(versions), len(weeks)), np.nan)
    for place, number in enumerate(versions):
        begin = next((week for week, (at, _, _) in enumerate(weeks) if at >= known[number]), None)
        if begin is None:
            continue
        low = weeks[begin][1]
        said = shared.scores.once(number, low, shared.past.rows)
        for week in range(begin, len(weeks)):
            _, first, last = weeks[week]
            lost[place, week] = _lost(loss, truth[first:last], said[first - low : last - low])
    chosen, events = 0, list[Event]()
    by_version: dict[int, list[int]] = {}
    for week, (at, _, _) in enumerate(weeks):
        column = lost[:, week]
        if np.isfinite(column).any():
            best = int(np.nanargmin(column))
            if best != chosen and week:
                events.append(Event(at=at, action="promote", version=versions[best]))
            chosen = best
        by_version.setdefault(chosen, []).append(week)
    for place, own in by_version.items():
        low = weeks[own[0]][1]
        said = shared.scores.once(versions[place], low, shared.past.rows)
        for week in own:
            _, first, last = weeks[week]
            scores[first:last] = said[first - low : last - low]
    return Done(plan=plan, scores=scores, changes=len(events), events=tuple(events))


def _weeks(shared: Shared) -> list[tuple[datetime, int, int]]:
    """When each week begins, and the places of its rows."""
    found: list[tuple[datetime, int, int]] = []
    at = shared.start
    while at < shared.end:
        until = min(at + _WEEK, shared.end)
        low, high = np.searchsorted(shared.past.at, [micros(at), micros(until)])
        if high > low:
            found.append((at, int(low), int(high)))
        at = until
    return found


def _lost(loss: str, truth: np.ndarray, scores: np.ndarray) -> float:
    usable = ~(np.isnan(truth) | np.isnan(scores))
    if not usable.any():
        return float("nan")
    return float(ROW_LOSSES[loss](truth[usable], scores[usable]).sum())
