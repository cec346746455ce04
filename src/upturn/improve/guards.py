"""Guard evidence: candidate and champion on the rows of a stage so far, valid at every look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.records import Version
from upturn.improve.actions import Actions
from upturn.improve.compare import Comparison
from upturn.improve.evidence import GuardSeen
from upturn.improve.logged import blocks, inputs, seconds
from upturn.improve.loop import Loop
from upturn.improve.monitor.performance import outcomes, scores
from upturn.improve.rollout import ERRORS, LATENCY, Canary, NoWorse, Shadow
from upturn.improve.sequential import compare_latency, compare_rates, compare_sequential
from upturn.improve.state import Rollout

if TYPE_CHECKING:
    from upturn.improve.log import LogView


def guards_seen(
    loop: Loop, state: Rollout, log: LogView, actions: Actions, now: datetime
) -> tuple[GuardSeen, ...]:
    """What each of the loop's guards sees of the stage whose route holds; nothing without one."""
    stage = state.trial
    if stage is None or not loop.guard:
        return ()
    shadowed = isinstance(stage, Shadow)
    candidate = log.joined(
        since=state.trial_since,
        until=now,
        known_by=now,
        version=state.candidate.version,
        shadow=shadowed,
        features=not shadowed,
    )
    champion = log.joined(
        since=state.trial_since,
        until=now,
        known_by=now,
        version=state.champion.version,
        shadow=False,
    )
    version = actions.version(state.candidate.version)

    def seen(guard: NoWorse) -> GuardSeen:
        if guard.metric == LATENCY:
            return _latency(guard, champion, candidate)
        if guard.metric == ERRORS:
            return _errors(guard, state, log, now)
        if shadowed:
            return _on_same_rows(guard, stage, champion, candidate, version)
        return _on_own_rows(guard, stage, state.champion.version, candidate, version, actions)

    return tuple(seen(guard) for guard in loop.guard)


def _on_same_rows(
    guard: NoWorse,
    stage: Shadow | Canary,
    champion: pa.Table,
    candidate: pa.Table,
    version: Version,
) -> GuardSeen:
    """A shadow's rows have the ids of the rows that they shadow."""
    place = pc.index_in(champion["id"], value_set=candidate["id"])
    found = pc.is_valid(place)
    champion, candidate = champion.filter(found), candidate.take(place.drop_null())
    truth = outcomes(champion, version.signature)
    return _compared(guard, stage, champion, truth, lambda: (scores(champion), scores(candidate)))


def _on_own_rows(
    guard: NoWorse,
    stage: Shadow | Canary,
    champion: int,
    candidate: pa.Table,
    version: Version,
    actions: Actions,
) -> GuardSeen:
    """What a canary answered, against what the champion makes of the same rows of the Log.

    Not against what the champion answered meanwhile: those are other rows, and in a stage of a few
    days what differs between rows is far more than what differs between models.
    """
    rows = candidate.filter(pc.is_valid(candidate["label"]))
    truth = outcomes(rows, version.signature)
    return _compared(
        guard, stage, rows, truth, lambda: (actions.score(champion, inputs(rows)), scores(rows))
    )


def _compared(
    guard: NoWorse,
    stage: Shadow | Canary,
    rows: pa.Table,
    truth: np.ndarray,
    scored: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> GuardSeen:
    known = int((~np.isnan(truth)).sum())
    if not known:
        return GuardSeen(metric=guard.metric, rows=0)
    old, new = scored()
    block, planned = blocks(rows, stage.lasts)
    found = compare_sequential(
        guard.metric, truth, old, new, block, alpha=guard.alpha, planned=planned
    )
    return _seen(guard, known, found)


def _latency(guard: NoWorse, champion: pa.Table, candidate: pa.Table) -> GuardSeen:
    old, new = seconds(champion), seconds(candidate)
    if champion.num_rows and candidate.num_rows and not len(old) and not len(new):
        return GuardSeen(metric=guard.metric, rows=0, exempt="this Log holds no latencies")
    found = compare_latency(old, new, alpha=guard.alpha)
    return _seen(guard, min(len(old), len(new)), found)


def _errors(guard: NoWorse, state: Rollout, log: LogView, now: datetime) -> GuardSeen:
    """The requests that each version failed, of those that it was asked."""

    def counted(version: int, *, shadow: bool) -> tuple[int, int]:
        rows = log.predictions(
            since=state.trial_since,
            until=now,
            version=version,
            shadow=shadow,
            features=False,
            errors=True,
        )
        return rows.num_rows - rows["error"].null_count, rows.num_rows

    champion = counted(state.champion.version, shadow=False)
    candidate = counted(state.candidate.version, shadow=isinstance(state.trial, Shadow))
    found = compare_rates(ERRORS, champion, candidate, alpha=guard.alpha)
    return _seen(guard, found.rows, found)


def _seen(guard: NoWorse, rows: int, found: Comparison) -> GuardSeen:
    comparison = found if found.conclusive else None
    return GuardSeen(metric=guard.metric, rows=rows, comparison=comparison)
