"""The runner: decides and acts until the loop rests at this instant; one runner a loop."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from upturn.core.errors import Conflict, UpturnError
from upturn.core.ids import new_id
from upturn.core.metastore import MetaStore
from upturn.core.records import Decision
from upturn.core.time import utcnow
from upturn.improve.actions import Actions
from upturn.improve.evidence import Evidence, to_json
from upturn.improve.loop import Loop
from upturn.improve.policy import Verdict, decide, needs
from upturn.improve.state import (
    Idle,
    State,
    arms,
    same_arms,
    state_from_json,
    state_to_json,
)

if TYPE_CHECKING:
    from upturn.improve.log import LogView

MAX_DECISIONS = 12  # in one tick: adopt, retrain, judge, shadow and a rollback make five
Heard = Callable[[Decision], None]


def tick(
    loop: Loop,
    log: LogView,
    actions: Actions,
    store: MetaStore,
    now: datetime,
    *,
    name: str | None = None,
    heard: Heard | None = None,
) -> list[Decision]:
    """Decide and act until the loop rests at `now`; the decisions made, oldest first.

    The last stored decision holds the state. Each decision is stored before it is acted upon, and
    acting may be repeated, so a tick that was killed anywhere is completed by the next one. `name`
    is what the decisions are stored under (the loop's own, unless it is a rehearsal); `heard` is
    told each decision as it is made. A training that fails is a decision; an error of the stores or
    of the Log is raised.
    """
    name = name or loop.name
    state = present_state(store, name)
    refused = _act(state, actions, now, why="the loop's last decision, acted upon again")
    made: list[Decision] = []
    while len(made) < MAX_DECISIONS:
        evidence = _evidence(loop, state, log, actions, now, refused)
        verdict = decide(loop, state, evidence, now)
        decision = store.add(_record(name, verdict, evidence, now))
        made.append(decision)
        if heard is not None:
            heard(decision)
        state = verdict.state
        refused = _act(state, actions, now, why=f"loop {name}, decision {decision.seq}")
        if verdict.rests and not (refused and verdict.action != "wait"):
            break
    return made


def present_state(store: MetaStore, name: str) -> State:
    """Where the loop of that name stands; idle before its first decision."""
    last = store.find(Decision, name)
    return Idle() if last is None else state_from_json(last.state)


def replay(loop: Loop, before: Decision | None, decision: Decision) -> Verdict:
    """What the policy says today to a stored decision's state, evidence and time.

    Equal to the decision, as long as loop and policy are the same.
    """
    state = Idle() if before is None else state_from_json(before.state)
    return decide(loop, state, msgspec.convert(decision.evidence, Evidence), decision.at)


def _evidence(
    loop: Loop, state: State, log: LogView, actions: Actions, now: datetime, refused: str
) -> Evidence:
    from upturn.improve.gather import gather

    kinds = frozenset[str]() if refused else needs(loop, state, now)
    evidence = gather(loop, state, kinds, log, actions, now)
    return msgspec.structs.replace(evidence, refused=refused) if refused else evidence


def _record(name: str, verdict: Verdict, evidence: Evidence, now: datetime) -> Decision:
    return Decision(
        loop=name,
        action=verdict.action,
        why=verdict.why,
        evidence=to_json(evidence),
        state=state_to_json(verdict.state),
        at=now,
        recorded_at=utcnow(),
    )


def _act(state: State, actions: Actions, now: datetime, *, why: str) -> str:
    """Make the world as the state says; why the server refuses, or ''.

    A route of a later revision than the decision saw is the decision's own, or somebody else's: it
    is left alone, and the policy tells which.
    """
    wanted, route = arms(state), actions.route()
    if not wanted or route is None or route.revision != state.seen:
        return ""
    if same_arms(route.arms, wanted):
        return ""
    try:
        return actions.set_route(wanted, after=state.seen, why=why, now=now)
    except Conflict:
        return ""  # somebody came first; the next tick sees it and yields


@contextmanager
def sole_runner(
    store: MetaStore, name: str, *, kind: str = "loop", ttl_s: float = 15.0
) -> Generator[None]:
    """Hold the loop's lease meanwhile, renewed by a thread. Raises Conflict if another has it.

    The lease of a runner that died on this machine is taken over at once, any other's when it
    expires.
    """
    lease, host = f"{kind}/{name}", socket.gethostname()
    owner = f"{host}:{os.getpid()}:{new_id()}"
    payload = {"pid": os.getpid(), "host": host}
    held = store.lease(lease)
    if (
        held is not None
        and held.payload.get("host") == host
        and not _alive(held.payload.get("pid"))
    ):
        store.release(lease, held.owner)
    if not store.claim(lease, owner, ttl_s=ttl_s, payload=payload):
        held = store.lease(lease)
        who = (
            f"process {held.payload.get('pid')} on {held.payload.get('host')}"
            if held
            else "another"
        )
        raise Conflict(
            f"The {kind} {name!r} is being run by {who}.",
            hint="One runner is enough; stop that one first.",
        )
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(ttl_s / 3):
            store.claim(lease, owner, ttl_s=ttl_s, payload=payload)

    thread = threading.Thread(target=renew, name=lease, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        store.release(lease, owner)


def _alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def run_forever(
    loop: Loop,
    log: LogView,
    actions: Actions,
    store: MetaStore,
    *,
    heard: Heard | None = None,
    troubled: Callable[[UpturnError], None] | None = None,
    clock: Callable[[], datetime] = utcnow,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Tick every `loop.every` until interrupted, by the clock of the machine.

    A tick that fails is left to the next one, and `troubled` is told; without it, the error is
    raised. `wait` sleeps for so many seconds.
    """
    sleep = wait or threading.Event().wait
    with sole_runner(store, loop.name):
        while True:
            began = clock()
            try:
                tick(loop, log, actions, store, began, heard=heard)
            except UpturnError as error:
                if troubled is None:
                    raise
                troubled(error)
            sleep(max(0.0, (began + loop.every - clock()).total_seconds()))
