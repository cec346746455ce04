"""Gathering: the evidence that the policy asks for, from the Log and the world acted on."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.records import Version
from upturn.improve.actions import Actions
from upturn.improve.evidence import (
    ApprovalSeen,
    ColumnDrift,
    DriftSeen,
    Evidence,
    ExposureSeen,
    LabelsSeen,
    PerformanceSeen,
    RouteSeen,
    Trained,
    TrainingFailed,
)
from upturn.improve.gate import gate_seen, seed_of
from upturn.improve.guards import guards_seen
from upturn.improve.loop import Loop
from upturn.improve.monitor.drift import PREDICTION, drift, observed
from upturn.improve.monitor.performance import performance
from upturn.improve.rollout import CANDIDATE
from upturn.improve.state import Gating, Idle, Rollout, State, Steady, Training

if TYPE_CHECKING:
    from upturn.improve.log import LogView

__all__ = ["FROM_LOG", "gather", "seed_of"]

# What can be had again from the Log, as of the time of a decision.
FROM_LOG = frozenset({"drift", "performance", "labels", "gate", "guards", "exposure"})


def gather(
    loop: Loop,
    state: State,
    kinds: frozenset[str],
    log: LogView,
    actions: Actions,
    now: datetime,
    *,
    asked: int = 0,
) -> Evidence:
    """The evidence of these kinds at `now`, on labels known by then. Training happens in here.

    `asked` is the number of the decision by which a person was asked. Randomness is seeded by the
    loop's name and the time, so that the evidence can be had again.
    """
    route = actions.route()
    found = RouteSeen() if route is None else RouteSeen(revision=route.revision, arms=route.arms)
    approval: ApprovalSeen | None = None
    if "approval" in kinds and asked:
        approval = actions.approval(asked)
    logged = gather_logged(loop, state, kinds, log, actions, now)
    return Evidence(
        route=found,
        training=_training(state, kinds, found, actions),
        alarms=actions.alarms() if "alarms" in kinds else None,
        approval=approval,
        drift=logged.drift,
        performance=logged.performance,
        labels=logged.labels,
        gate=logged.gate,
        guards=logged.guards,
        exposure=logged.exposure,
    )


def gather_logged(
    loop: Loop, state: State, kinds: frozenset[str], log: LogView, actions: Actions, now: datetime
) -> Evidence:
    """The part of it that comes from the Log (`FROM_LOG`): the same whenever it is asked for."""
    drift_seen, performance_seen = _champion(loop, state, kinds, log, actions, now)
    return Evidence(
        drift=drift_seen,
        performance=performance_seen,
        labels=_labels(loop, state, log, now)
        if isinstance(state, Steady) and "labels" in kinds
        else None,
        gate=gate_seen(loop, state, log, actions, now)
        if isinstance(state, Gating) and "gate" in kinds
        else None,
        guards=guards_seen(loop, state, log, actions, now)
        if isinstance(state, Rollout) and "guards" in kinds
        else (),
        exposure=_exposure(loop, log, now) if "exposure" in kinds else None,
    )


def _training(
    state: State, kinds: frozenset[str], route: RouteSeen, actions: Actions
) -> Trained | TrainingFailed | None:
    if isinstance(state, Training) and "training" in kinds:
        return actions.train(state.start, state.until)
    if "version" in kinds and len(route.arms) == 1:
        return actions.trained(route.arms[0].version)
    return None


def _labels(loop: Loop, state: Steady, log: LogView, now: datetime) -> LabelsSeen:
    since = state.champion.trained_until or state.champion.since
    labelled, newest = 0, None
    begin = since
    while begin < now:  # a window at a time: of a year nobody wants all rows in memory
        end = min(begin + loop.monitor_window, now)
        rows = log.joined(since=begin, until=end, known_by=now, shadow=False)
        known = rows.filter(pc.is_valid(rows["label"]))["known_at"]
        labelled += len(known)
        last: datetime | None = pc.max(known).as_py()
        newest = max((at for at in (newest, last) if at is not None), default=None)
        begin = end
    return LabelsSeen(since=since, until=now, labelled=labelled, newest=newest)


def _exposure(loop: Loop, log: LogView, now: datetime) -> ExposureSeen | None:
    allowed = loop.budget.exposed
    if allowed is None:
        return None
    since = now - allowed.per
    rows = log.predictions(since=since, until=now, shadow=False, features=False, errors=True)
    exposed = rows.filter(pc.equal(rows["arm"], pa.scalar(CANDIDATE))).num_rows
    return ExposureSeen(since=since, until=now, exposed=exposed, answered=rows.num_rows)


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
