"""Running one policy over the past: a loop by its own tick, a calendar, a version that stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from upturn.core.records import Arm, Decision
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Loop
from upturn.improve.past.trainings import Window
from upturn.improve.rehearsal import Event
from upturn.improve.rehearsing.memory import recall, remember
from upturn.improve.rehearsing.shared import Done, Plan, Shared
from upturn.improve.rollout import CHAMPION
from upturn.improve.runner import tick
from upturn.improve.simulation import Simulation

_QUIET = frozenset({"keep", "watch", "wait", "hold", "extend"})


def run_policy(shared: Shared, plan: Plan, first: Trained | int) -> Done:
    """What that policy does and answers; `first` is the version that it begins with."""
    version = first.version if isinstance(first, Trained) else first
    if plan.kind == "loop":
        return _loop(shared, plan, first)
    if plan.kind == "calendar":
        return _calendar(shared, plan, version)
    return Done(plan=plan, scores=shared.scores.of(version, 0, shared.past.rows))


def _loop(shared: Shared, plan: Plan, first: Trained | int) -> Done:
    known = recall(shared, plan, first)
    if known is not None:
        shared.clock.finish(plan)
        return known
    loop = plan.loop
    assert loop is not None
    world = Simulation(
        shared.past,
        endpoint=loop.endpoint,
        flow=loop.train,
        scores=shared.scores,
        trainings=shared.trainings,
        find=shared.find,
        columns=shared.columns,
        first=first if isinstance(first, Trained) else None,
    )
    version = first.version if isinstance(first, Trained) else first
    arm = Arm(name=CHAMPION, version=version, share=1.0)
    world.set_route((arm,), after=0, why="the first champion", now=shared.start)
    name = shared.decisions_name(plan)
    decisions: list[Decision] = []
    for since, until in shared.clock.days(plan):
        shared.trainings.check()
        world.pass_time(since, until)
        decisions += tick(loop, world.log, world, shared.workspace.meta, until, name=name)
    done = Done(
        plan=plan,
        scores=world.answered,
        made=tuple(world.trained_on.items()),
        changes=sum(one.action == "promote" for one in decisions),
        events=events(decisions),
        decisions=tuple(decisions),
        decisions_name=name,
    )
    remember(shared, plan, first, done)
    return done


def events(decisions: Sequence[Decision]) -> tuple[Event, ...]:
    """The decisions by which something happened, and the version that each is about."""
    return tuple(
        Event(at=one.at, action=one.action, version=_version(one))
        for one in decisions
        if one.action not in _QUIET
    )


def _version(decision: Decision) -> int | None:
    state: Any = decision.state
    about = state.get("candidate") or state.get("champion")
    return None if about is None or decision.action == "retrain" else about["version"]


def _windows(loop: Loop, plan: Plan, start: datetime, end: datetime) -> list[Window]:
    """What a calendar trains on in [start, end), in order."""
    assert plan.every is not None
    found: list[Window] = []
    at = start + plan.every
    while at < end:
        found.append(Window(loop.train, at - loop.window, at))
        at += plan.every
    return found


def _calendar(shared: Shared, plan: Plan, first: int) -> Done:
    loop = plan.loop
    assert loop is not None
    windows = _windows(loop, plan, shared.start, shared.end)
    made: list[tuple[Window, Trained | TrainingFailed]] = []
    found: list[Event] = []
    parts: list[np.ndarray] = []
    version, since = first, shared.start
    for window in windows:
        shared.trainings.check()
        low, high = shared.past.span(since, window.until)
        parts.append(shared.scores.of(version, low, high))
        since = window.until
        one = shared.trainings.on(window)
        made.append((window, one))
        found.append(Event(at=since, action="retrain"))
        if isinstance(one, Trained) and one.version != version:
            version = one.version
            found.append(Event(at=since, action="promote", version=version))
    low, high = shared.past.span(since, shared.end)
    parts.append(shared.scores.of(version, low, high))
    return Done(
        plan=plan,
        scores=np.concatenate(parts),
        made=tuple(made),
        changes=sum(one.action == "promote" for one in found),
        events=tuple(found),
    )
