"""Memory: what a loop did over a past is recalled when nothing that it rests on has changed.

A rehearsed loop follows from the past, from where it began, from its own definition, from Upturn's
code, and from what its trainings made. All but the last are a key. The trainings are asked for
again, in the order in which the loop asked for them, and each has to make the very version that it
made then: a changed step makes another one, and the loop is run again from the start. (A verifying
trace: Mokhov, Mitchell & Peyton Jones, Build systems à la carte, 2018, section 4.2.2.) An unchanged
training costs next to nothing, since the flow's own tasks are remembered.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from upturn.core.records import Decision
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Loop
from upturn.improve.past.kept import code_digest, key_of, version_parts
from upturn.improve.past.trainings import Window
from upturn.improve.rehearsal import Event
from upturn.improve.rehearsing.shared import Done, Plan, Shared

_NOT_IN_KEY = frozenset({"train", "history"})  # what they make is looked at instead


class _Training(msgspec.Struct, frozen=True):
    start: datetime
    until: datetime
    result: str  # what it came to, as a digest


class _Stored(msgspec.Struct, frozen=True):
    trainings: tuple[_Training, ...]
    changes: int
    events: tuple[Event, ...]
    decisions: tuple[Decision, ...]
    scores: bytes


def recall(shared: Shared, plan: Plan, first: Trained | int) -> Done | None:
    """What that loop did over this very past, if it is known and would do the same again."""
    key = _key(shared, plan, first)
    data = shared.kept.find(key) if key is not None else None
    if data is None or plan.loop is None:
        return None
    stored = msgspec.msgpack.decode(data, type=_Stored)
    made: list[tuple[Window, Trained | TrainingFailed]] = []
    for training in stored.trainings:
        window = Window(plan.loop.train, training.start, training.until)
        one = shared.trainings.on(window)
        if _result(shared, one) != training.result:
            return None
        made.append((window, one))
    name = shared.decisions_name(plan)
    decisions = tuple(msgspec.structs.replace(one, loop=name) for one in stored.decisions)
    if decisions:
        shared.workspace.meta.put(*decisions)
    return Done(
        plan=plan,
        scores=np.frombuffer(stored.scores, dtype=np.float64),
        made=tuple(made),
        changes=stored.changes,
        events=stored.events,
        decisions=decisions,
        decisions_name=name,
        reused=True,
    )


def remember(shared: Shared, plan: Plan, first: Trained | int, done: Done) -> None:
    """Keep what a loop did."""
    key = _key(shared, plan, first)
    if key is None:
        return
    stored = _Stored(
        trainings=tuple(
            _Training(window.start, window.until, _result(shared, one)) for window, one in done.made
        ),
        changes=done.changes,
        events=done.events,
        decisions=done.decisions,
        scores=np.ascontiguousarray(done.scores, dtype=np.float64).tobytes(),
    )
    shared.kept.put(key, msgspec.msgpack.encode(stored))


def _key(shared: Shared, plan: Plan, first: Trained | int) -> str | None:
    """The digest of all but the trainings; None for a loop that can't be told from another."""
    loop = plan.loop
    definition = None if loop is None else definition_of(loop)
    if loop is None or definition is None:
        return None
    number = first.version if isinstance(first, Trained) else first
    until = first.trained_until if isinstance(first, Trained) else None
    began = "" if until is None else until.isoformat()
    return key_of(
        "policy",
        code_digest(),
        shared.digest,
        [shared.start.isoformat(), shared.end.isoformat()],
        definition,
        [number, began, version_parts(shared.find(number))],
    )


def definition_of(loop: Loop) -> list[list[str]] | None:
    """All that a loop says, as text, but how it trains; None where its text does not say it all."""
    values: dict[str, Any] = {field.name: getattr(loop, field.name) for field in fields(loop)}
    said = {name: value for name, value in values.items() if name not in _NOT_IN_KEY}
    if not all(_plain(value) for value in said.values()):
        return None
    return [[name, repr(value)] for name, value in sorted(said.items())]


def _plain(value: Any) -> bool:
    """Whether the value's text says all of it: a trigger of somebody's own may hold code."""
    if isinstance(value, tuple | list):
        items: Any = value
        return all(_plain(item) for item in items)
    if isinstance(value, msgspec.Struct):
        parts = (getattr(value, name) for name in value.__struct_fields__)
        return type(value).__module__.startswith("upturn.") and all(map(_plain, parts))
    known = type(value).__module__ in {"builtins", "datetime"} and not callable(value)
    return value is None or known


def _result(shared: Shared, made: Trained | TrainingFailed) -> str:
    """What a training came to: the version and all that it says, or why there is none."""
    if isinstance(made, TrainingFailed):
        return key_of("failed", made.problem.code, made.problem.message)
    version = shared.find(made.version)
    metrics = sorted([name, repr(value)] for name, value in made.metrics.items())
    return key_of("trained", made.version, version_parts(version), metrics)
