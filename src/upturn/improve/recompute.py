"""Recomputing: a stored decision made again from the Log, and what differs from what was stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.metastore import MetaStore
from upturn.core.records import Decision, Route, Version
from upturn.improve.actions import Actions
from upturn.improve.evidence import Evidence, Trained, to_json
from upturn.improve.gather import FROM_LOG, gather_logged
from upturn.improve.loop import Loop
from upturn.improve.runner import replay
from upturn.improve.say import instant_text
from upturn.improve.state import Idle, state_from_json, state_to_json

if TYPE_CHECKING:
    from upturn.improve.log import LogView

_CLOSE = 1e-9  # relative: sums of other chunks differ in their last digits


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is not as it was stored: 'evidence.gate.labelled'; None where there is none."""

    field: str
    recorded: Any
    found: Any
    why: str = ""


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """A decision made again: what was gathered anew for it, and what differs."""

    seq: int
    action: str
    gathered: tuple[str, ...]  # the kinds of evidence that were had from the Log again
    differing: tuple[Differing, ...]

    @property
    def same(self) -> bool:
        """Whether it came out as it was stored."""
        return not self.differing


class _Then:
    """A LogView as it was at an instant of our clock: without what was received later."""

    def __init__(self, log: LogView, received_by: datetime) -> None:
        self._log = log
        self._received_by = received_by

    @property
    def endpoint(self) -> str:
        return self._log.endpoint

    def predictions(self, **asked: Any) -> pa.Table:
        return self._log.predictions(**asked, received_by=self._received_by)

    def joined(self, **asked: Any) -> pa.Table:
        return self._log.joined(**asked, received_by=self._received_by)


def recompute(
    loop: Loop, log: LogView, actions: Actions, store: MetaStore, decision: Decision
) -> Recomputed:
    """Gather the evidence anew as of the decision's time, and ask the policy about what was stored.

    The Log is read as it was then: what came later counts for nothing, whatever time it names.

    What is not of the Log is compared with its own record: the route's revision, the version that
    was trained, a person's answer. What the server refused, and what a person took back, has no
    other record than the decision.
    """
    before = store.find(Decision, decision.loop, decision.seq - 1)
    state = Idle() if before is None else state_from_json(before.state)
    recorded = msgspec.convert(decision.evidence, Evidence)
    kinds = frozenset(kind for kind in FROM_LOG if getattr(recorded, kind))
    then = _Then(log, decision.gathered_at or decision.recorded_at)
    found = gather_logged(loop, state, kinds, then, actions, decision.at)
    differing: list[Differing] = []
    for kind in sorted(kinds):
        fields = _differing(f"evidence.{kind}", to_json(recorded)[kind], to_json(found).get(kind))
        differing += [msgspec.structs.replace(one, why=_why(recorded, log, kind)) for one in fields]
    differing += _world(recorded, actions, store, decision)
    ruling = replay(loop, before, decision)
    again = {"action": ruling.action, "why": ruling.why, "state": state_to_json(ruling.state)}
    for name, value in again.items():
        stored = getattr(decision, name)
        reason = "the loop or the policy is not what it was"
        differing += [
            msgspec.structs.replace(one, why=reason) for one in _differing(name, stored, value)
        ]
    return Recomputed(
        seq=decision.seq,
        action=decision.action,
        gathered=tuple(sorted(kinds)),
        differing=tuple(differing),
    )


def _world(
    recorded: Evidence, actions: Actions, store: MetaStore, decision: Decision
) -> Iterator[Differing]:
    route = store.find(Route, decision.endpoint, recorded.route.revision)
    if route is not None and route.arms != recorded.route.arms:
        yield Differing(field="evidence.route", recorded=recorded.route.arms, found=route.arms)
    made = recorded.training
    if isinstance(made, Trained) and made.artifact:
        version: Version = actions.version(made.version)
        if version.artifact != made.artifact:
            yield Differing(
                field="evidence.training.artifact", recorded=made.artifact, found=version.artifact
            )
    if recorded.approval is not None:
        said = actions.approval(recorded.approval.decision)
        if said != recorded.approval:
            yield Differing(field="evidence.approval", recorded=recorded.approval, found=said)


def _differing(field: str, recorded: Any, found: Any) -> Iterator[Differing]:
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in sorted({*recorded, *found}):
            yield from _differing(f"{field}.{key}", recorded.get(key), found.get(key))
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from _differing(f"{field}[{place}]", one, other)
    elif not _equal(recorded, found):
        yield Differing(field=field, recorded=recorded, found=found)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-12)
    return one == other


def _why(recorded: Evidence, log: LogView, kind: str) -> str:
    """The likeliest reason why the Log says otherwise today."""
    seen: Any = getattr(recorded, kind)
    if kind == "guards" or not hasattr(seen, "since"):
        return "the stage's rows, their labels or the models are not what they were"
    rows = log.predictions(since=seen.since, until=seen.until, features=False)
    if not rows.num_rows:
        return "the Log has none of its rows any more"
    first = pc.min(rows["at"]).as_py()
    before = getattr(seen, "rows", None)
    answered = rows.filter(pc.invert(rows["shadow"])).num_rows
    if before is not None and answered < before:
        return f"the Log's rows begin on {instant_text(first)}: earlier ones were removed"
    return "its labels or the models are not what they were"
