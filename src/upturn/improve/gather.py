"""Gathering: the evidence that the policy asks for, from the Log and the world acted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import UpturnError
from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Version
from upturn.improve.actions import Actions
from upturn.improve.compare import (
    Comparison,
    compare_latency,
    compare_paired,
)
from upturn.improve.evidence import (
    ColumnDrift,
    DriftSeen,
    Evidence,
    GateSeen,
    GuardSeen,
    PerformanceSeen,
    RouteSeen,
    Trained,
    TrainingFailed,
)
from upturn.improve.loop import Loop
from upturn.improve.monitor.drift import PREDICTION, drift, observed
from upturn.improve.monitor.performance import outcomes, performance, scores
from upturn.improve.rollout import LATENCY, NoWorse, Shadow
from upturn.improve.state import Gating, Idle, Rollout, State, Training

if TYPE_CHECKING:
    from upturn.improve.log import LogView

_HOUR, _DAY = 3_600_000_000, 86_400_000_000  # microseconds
_ENOUGH_DAYS = 8  # with fewer, a bootstrap that draws days hardly sees harm


def gather(
    loop: Loop, state: State, kinds: frozenset[str], log: LogView, actions: Actions, now: datetime
) -> Evidence:
    """The evidence of these kinds at `now`, on labels known by then. Training happens in here.

    Randomness is seeded by the loop's name and the time, so that the evidence can be had again.
    """
    route = actions.route()
    found = RouteSeen() if route is None else RouteSeen(revision=route.revision, arms=route.arms)
    drift_seen, performance_seen = _champion(loop, state, kinds, log, actions, now)
    training: Trained | TrainingFailed | None = None
    if isinstance(state, Training) and "training" in kinds:
        training = actions.train(state.start, state.until)
    elif "version" in kinds and len(found.arms) == 1:
        training = actions.trained(found.arms[0].version)
    return Evidence(
        route=found,
        drift=drift_seen,
        performance=performance_seen,
        training=training,
        gate=_gate(loop, state, log, actions, now)
        if isinstance(state, Gating) and "gate" in kinds
        else None,
        guards=_guards(loop, state, log, actions, now)
        if isinstance(state, Rollout) and "guards" in kinds
        else (),
    )


def seed_of(loop: Loop, now: datetime) -> int:
    """The seed of what is drawn at random for this loop at this time."""
    return crc32(f"{loop.name} {now.isoformat()}".encode())


# --- The champion ---------------------------------------------------------------------------


def _champion(
    loop: Loop, state: State, kinds: frozenset[str], log: LogView, actions: Actions, now: datetime
) -> tuple[DriftSeen | None, PerformanceSeen | None]:
    if isinstance(state, Idle) or not kinds & {"drift", "performance"}:
        return None, None
    champion = actions.version(state.champion.version)
    since = now - loop.monitor_window
    everybody = log.joined(
        since=since, until=now, known_by=now, shadow=False, features="drift" in kinds
    )
    rows = everybody.filter(pc.equal(everybody["version"], pa.scalar(champion.number)))
    covered = _covers(loop, rows, now)
    drift_seen = performance_seen = None
    if "drift" in kinds:
        drift_seen = DriftSeen(
            since=since,
            until=now,
            rows=everybody.num_rows,
            columns=_drift(champion, everybody, rows if covered else None)
            if everybody.num_rows >= loop.min_rows
            else (),
            covered=_covers(loop, everybody, now),
        )
    if "performance" in kinds:
        found = performance(rows, loop.metrics, signature=champion.signature)
        performance_seen = PerformanceSeen(
            since=since,
            until=now,
            rows=found.rows,
            labelled=found.labelled,
            values={name: value for name, value in found.values.items() if math.isfinite(value)},
            covered=covered,
        )
    return drift_seen, performance_seen


def _covers(loop: Loop, rows: pa.Table, now: datetime) -> bool:
    """Whether rows reach back over half of the monitor window: a day or two is no distribution."""
    if not rows.num_rows:
        return False
    first: datetime = pc.min(rows["at"]).as_py()
    return first <= now - loop.monitor_window / 2 + loop.every


def _drift(champion: Version, everybody: pa.Table, own: pa.Table | None) -> tuple[ColumnDrift, ...]:
    """The columns' drift: features of all rows, the prediction of the champion's own, if any."""
    features = [column.name for column in champion.profile.columns if column.name != PREDICTION]
    seen = drift(champion.profile, observed(everybody), features)
    if own is not None:
        seen += drift(champion.profile, observed(own), [PREDICTION])
    found = [
        ColumnDrift(column=one.column, psi=one.psi, noise=one.psi_noise)
        for one in seen
        if math.isfinite(one.psi) and math.isfinite(one.psi_noise)
    ]
    return tuple(sorted(found, key=lambda one: (-one.index, one.column)))


def inputs(rows: pa.Table) -> pa.Table:
    """The features of rows of the Log, under a model's names of them, and the ids."""
    names = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    table = rows.select(["id", *names])
    return table.rename_columns(["id", *(name.removeprefix(FEATURE_PREFIX) for name in names)])


# --- The gate -------------------------------------------------------------------------------


def _gate(
    loop: Loop, state: Gating, log: LogView, actions: Actions, now: datetime
) -> GateSeen | None:
    gate = loop.gate
    if gate is None:
        return None
    # Rows on which either was trained would favour it.
    ends = [state.champion.trained_until, state.candidate.trained_until, now - 2 * loop.holdout]
    since = max(end for end in ends if end is not None)
    rows = log.joined(since=since, until=now, known_by=now, shadow=False, features=True)
    total = rows.num_rows
    rows = rows.filter(pc.is_valid(rows["label"]))
    seen = GateSeen(since=since, until=now, rows=total, labelled=rows.num_rows)
    if rows.num_rows < loop.min_rows:
        return _noted(seen, f"{rows.num_rows:,} labelled rows are too few of {loop.min_rows:,}")
    candidate = actions.version(state.candidate.version)
    truth = outcomes(rows, candidate.signature)
    table = inputs(rows)
    try:
        old = actions.score(state.champion.version, table)
        new = actions.score(state.candidate.version, table)
    except UpturnError as error:
        return _noted(seen, f"the Log's rows can't be scored: {error}", impossible=True)
    comparison = compare_paired(
        gate.metric, truth, old, new, days(rows), alpha=gate.alpha, seed=seed_of(loop, now)
    )
    if not comparison.conclusive:
        return _noted(seen, f"the rows are too few or too alike to compare {gate.metric}")
    return GateSeen(
        since=since,
        until=now,
        rows=total,
        labelled=rows.num_rows,
        comparison=comparison,
        values=_values(loop, truth, new),
    )


def _noted(seen: GateSeen, note: str, *, impossible: bool = False) -> GateSeen:
    return GateSeen(
        since=seen.since,
        until=seen.until,
        rows=seen.rows,
        labelled=seen.labelled,
        note=note,
        impossible=impossible,
    )


def _values(loop: Loop, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    from upturn.improve.metrics import METRICS

    usable = ~(np.isnan(truth) | np.isnan(predicted))
    found = {
        name: METRICS[name].function(truth[usable], predicted[usable]) for name in loop.metrics
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def days(rows: pa.Table) -> np.ndarray:
    """The UTC day of each row: what it is drawn together with, since a day's errors go together."""
    at = np.asarray(rows["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False))
    return at // _DAY


def blocks(rows: pa.Table) -> np.ndarray:
    """What the rows of a stage are drawn by: days, or hours where a stage has only a few days.

    Hours make a guard too sure of harm, never too slow to see it: a false alarm costs a retrain.
    """
    by_day = days(rows)
    if len(np.unique(by_day)) >= _ENOUGH_DAYS:
        return by_day
    at = np.asarray(rows["at"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False))
    return at // _HOUR


# --- The guards -----------------------------------------------------------------------------


def _guards(
    loop: Loop, state: Rollout, log: LogView, actions: Actions, now: datetime
) -> tuple[GuardSeen, ...]:
    shadowed = isinstance(state.stage, Shadow)
    candidate = log.joined(
        since=state.since,
        until=now,
        known_by=now,
        version=state.candidate.version,
        shadow=shadowed,
        features=not shadowed,
    )
    champion = log.joined(
        since=state.since, until=now, known_by=now, version=state.champion.version, shadow=False
    )
    version = actions.version(state.candidate.version)
    seed = seed_of(loop, now)

    def seen(guard: NoWorse) -> GuardSeen:
        if guard.metric == LATENCY:
            return _latency(guard, champion, candidate, seed)
        if shadowed:
            return _on_same_rows(guard, champion, candidate, version, seed)
        return _on_own_rows(guard, state.champion.version, candidate, version, actions, seed)

    return tuple(seen(guard) for guard in loop.guard)


def _on_same_rows(
    guard: NoWorse, champion: pa.Table, candidate: pa.Table, version: Version, seed: int
) -> GuardSeen:
    """A shadow's rows have the ids of the rows that they shadow."""
    place = pc.index_in(champion["id"], value_set=candidate["id"])
    found = pc.is_valid(place)
    champion, candidate = champion.filter(found), candidate.take(place.drop_null())
    truth = outcomes(champion, version.signature)
    known = ~np.isnan(truth)

    def compare() -> Comparison:
        return compare_paired(
            guard.metric,
            truth,
            scores(champion),
            scores(candidate),
            blocks(champion),
            alpha=guard.alpha,
            seed=seed,
        )

    return _seen(guard, int(known.sum()), compare)


def _on_own_rows(
    guard: NoWorse,
    champion: int,
    candidate: pa.Table,
    version: Version,
    actions: Actions,
    seed: int,
) -> GuardSeen:
    """What a canary answered, against what the champion makes of the same rows of the Log.

    Not against what the champion answered meanwhile: those are other rows, and in a stage of a few
    days what differs between rows is far more than what differs between models.
    """
    rows = candidate.filter(pc.is_valid(candidate["label"]))
    truth = outcomes(rows, version.signature)

    def compare() -> Comparison:
        return compare_paired(
            guard.metric,
            truth,
            actions.score(champion, inputs(rows)),
            scores(rows),
            blocks(rows),
            alpha=guard.alpha,
            seed=seed,
        )

    return _seen(guard, int((~np.isnan(truth)).sum()), compare)


def _latency(guard: NoWorse, champion: pa.Table, candidate: pa.Table, seed: int) -> GuardSeen:
    old, new = (_seconds(table) for table in (champion, candidate))
    if champion.num_rows and candidate.num_rows and not len(old) and not len(new):
        return GuardSeen(metric=guard.metric, rows=0, exempt="this Log holds no latencies")
    return _seen(
        guard,
        min(len(old), len(new)),
        lambda: compare_latency(old, new, alpha=guard.alpha, seed=seed),
    )


def _seconds(table: pa.Table) -> np.ndarray:
    found = np.asarray(table["latency_s"].to_numpy(), dtype=np.float64)
    return found[~np.isnan(found)]


def _seen(guard: NoWorse, rows: int, compare: Callable[[], Comparison]) -> GuardSeen:
    comparison = compare() if rows else None
    if comparison is not None and not comparison.conclusive:
        comparison = None
    return GuardSeen(metric=guard.metric, rows=rows, comparison=comparison)
