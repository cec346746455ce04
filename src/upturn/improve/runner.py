"""The runner: decides and acts until the loop rests at this instant; one runner a loop."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from upturn.core.errors import Conflict, Invalid, NotFound, UpturnError
from upturn.core.ids import new_id
from upturn.core.metastore import MetaStore
from upturn.core.records import Decision
from upturn.core.time import utcnow
from upturn.improve.actions import Actions
from upturn.improve.evidence import Evidence, RouteSeen, UndoSeen, to_json
from upturn.improve.loop import Loop
from upturn.improve.policy import QUIET, Ruling, decide, needs
from upturn.improve.rollout import Approving
from upturn.improve.state import (
    Idle,
    Rollout,
    State,
    arms,
    same_arms,
    state_from_json,
    state_to_json,
)
from upturn.improve.undo import can_be_undone, taken_back

if TYPE_CHECKING:
    from upturn.improve.log import LogView

MAX_DECISIONS = 12  # in one tick: adopt, retrain, judge, shadow and a rollback make five
ANSWERS_S = 10.0  # between looks for a person's answer
Heard = Callable[[Decision], None]


def tick(
    loop: Loop,
    log: LogView,
    actions: Actions,
    store: MetaStore,
    now: datetime,
    *,
    name: str | None = None,
    entry: str = "",
    heard: Heard | None = None,
) -> list[Decision]:
    """Decide and act until the loop rests at `now`; the decisions made, oldest first.

    The last stored decision holds the state. Each decision is stored before it is acted upon, and
    acting may be repeated, so a tick that was killed anywhere is completed by the next one. `name`
    is what the decisions are stored under (the loop's own, unless it is a rehearsal), `entry` where
    the loop is, so that it is found again by its name alone; `heard` is told each decision as it is
    made. A training that fails is a decision; an error of the stores or
    of the Log is raised.
    """
    name = name or loop.name
    state, seq = _present(store, name)
    refused = act(state, actions, now, why="the loop's last decision, acted upon again")
    made: list[Decision] = []
    while len(made) < MAX_DECISIONS:
        question, gathered_at = asked(store, name, state), utcnow()
        evidence = _evidence(loop, state, log, actions, now, refused, question)
        ruling = decide(loop, state, evidence, now)
        new = record(
            name,
            ruling,
            evidence,
            now,
            seq=seq + 1,
            endpoint=loop.endpoint.name,
            entry=entry,
            gathered_at=gathered_at,
        )
        try:
            decision = store.add(new)
        except Conflict:  # a person took a decision back meanwhile: that one holds
            state, seq = _present(store, name)
            refused = ""
            continue
        made.append(decision)
        if heard is not None:
            heard(decision)
        state, seq = ruling.state, decision.seq
        refused = act(state, actions, now, why=f"loop {name}, decision {seq}")
        if ruling.rests and not (refused and ruling.action != "wait"):
            break
    return made


def asked(store: MetaStore, name: str, state: State) -> int:
    """The number of the decision by which a person was asked, while the loop waits; else 0."""
    if not (isinstance(state, Rollout) and isinstance(state.stage, Approving)):
        return 0
    found = [
        decision.seq
        for action in ("ask", "undo")
        for decision in store.select(Decision, loop=name, action=action, newest_first=True, limit=1)
    ]
    return max(found, default=0)


def present_state(store: MetaStore, name: str) -> State:
    """Where the loop of that name stands; idle before its first decision."""
    return _present(store, name)[0]


def _present(store: MetaStore, name: str) -> tuple[State, int]:
    """The state, and the number of the decision that holds it; 0 before the first."""
    last = store.find(Decision, name)
    return (Idle(), 0) if last is None else (state_from_json(last.state), last.seq)


def replay(loop: Loop, before: Decision | None, decision: Decision) -> Ruling:
    """What the policy says today to a stored decision's state, evidence and time.

    Equal to the decision, as long as loop and policy are the same.
    """
    state = Idle() if before is None else state_from_json(before.state)
    return decide(loop, state, msgspec.convert(decision.evidence, Evidence), decision.at)


def undo(
    store: MetaStore,
    actions: Actions,
    name: str,
    seq: int | None,
    *,
    who: str,
    why: str,
    now: datetime,
    cooldown: timedelta,
) -> Decision:
    """Take a decision of that loop back, the last that can be unless `seq` says which; act on it.

    Nothing else may have come of it meanwhile: what came later is taken back first. Raises Invalid
    for a decision by which nothing changed, Conflict when the route is not the loop's any more, or
    when the server does not take it.
    """
    decisions = store.select(Decision, loop=name, newest_first=True)
    if not decisions:
        raise NotFound(f"No decisions of a loop {name!r}.")
    last = next((one for one in decisions if one.action not in QUIET | {"extend"}), decisions[0])
    wanted = last if seq is None else store.get(Decision, name, seq)
    if wanted.seq < last.seq:
        raise Conflict(
            f"Decision {last.seq} ({last.action}) came after decision {wanted.seq}.",
            hint=f"Undo that one first, or deploy a version: upturn deploy {last.endpoint}.",
        )
    before = store.find(Decision, name, wanted.seq - 1)
    start = Idle() if before is None else state_from_json(before.state)
    if not can_be_undone(wanted.action, start):
        reason = _not_undone(wanted.action)
        raise Invalid(
            f"Decision {wanted.seq} ({wanted.action}) can't be undone: {reason}.",
            hint=f"Whoever deploys a version has the last word: upturn deploy {wanted.endpoint}.",
        )
    state, route = state_from_json(decisions[0].state), actions.route()
    if route is None or not same_arms(route.arms, arms(state)):
        raise Conflict(
            f"The route of {wanted.endpoint!r} is not the loop's any more: somebody changed it.",
            hint="The loop yields to that at its next tick; there is nothing to undo.",
        )
    evidence = Evidence(
        route=RouteSeen(revision=route.revision, arms=route.arms),
        undo=UndoSeen(
            decision=wanted.seq,
            action=wanted.action,
            before=state_to_json(start),
            model=route.model,
            who=who,
            why=why,
            quiet_until=now + cooldown,
        ),
    )
    ruling = taken_back(state, evidence, now)
    made = store.add(
        record(
            name,
            ruling,
            evidence,
            now,
            seq=decisions[0].seq + 1,
            endpoint=wanted.endpoint,
            entry=wanted.entry,
        )
    )
    refused = act(ruling.state, actions, now, why=f"loop {name}, decision {made.seq}")
    if refused:
        raise Conflict(f"It is decided, and the server does not take the route: {refused}")
    return made


def _not_undone(action: str) -> str:
    if action == "refuse":
        return "the gate's or a training's no is not a stage that could begin anew"
    if action == "undo":
        return "it is itself one that took another back"
    return "nothing changed by it that could be put back"


def _evidence(
    loop: Loop,
    state: State,
    log: LogView,
    actions: Actions,
    now: datetime,
    refused: str,
    asked: int,
) -> Evidence:
    from upturn.improve.gather import gather

    kinds = frozenset[str]() if refused else needs(loop, state, now)
    evidence = gather(loop, state, kinds, log, actions, now, asked=asked)
    return msgspec.structs.replace(evidence, refused=refused) if refused else evidence


def record(
    name: str,
    ruling: Ruling,
    evidence: Evidence,
    now: datetime,
    *,
    seq: int,
    endpoint: str,
    entry: str = "",
    gathered_at: datetime | None = None,
) -> Decision:
    """The decision as it is stored. Its number is said: of two who decide one gets a Conflict."""
    return Decision(
        loop=name,
        seq=seq,
        action=ruling.action,
        why=ruling.why,
        evidence=to_json(evidence),
        state=state_to_json(ruling.state),
        at=now,
        recorded_at=utcnow(),
        otherwise=ruling.otherwise,
        endpoint=endpoint,
        entry=entry,
        gathered_at=gathered_at,
    )


def act(state: State, actions: Actions, now: datetime, *, why: str) -> str:
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
    entry: str = "",
    heard: Heard | None = None,
    troubled: Callable[[UpturnError], None] | None = None,
    clock: Callable[[], datetime] = utcnow,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Tick every `loop.every` until interrupted, by the clock of the machine.

    A person's answer, and the end of a quiet time that holds a candidate up, bring the next tick
    forward. A tick that fails is left to the next one, and `troubled` is told; without it, the
    error is raised. `wait` sleeps for so many seconds.
    """
    sleep = wait or threading.Event().wait
    with sole_runner(store, loop.name):
        while True:
            began, made = clock(), list[Decision]()
            try:
                made = tick(loop, log, actions, store, began, entry=entry, heard=heard)
            except UpturnError as error:
                if troubled is None:
                    raise
                troubled(error)
            _rest(loop, actions, store, made, next_tick(loop, began, made), clock, sleep)


def next_tick(loop: Loop, now: datetime, made: Sequence[Decision]) -> datetime:
    """When to decide again, after what was decided at `now`.

    After `every`; sooner when a quiet time ends by then that holds a candidate up, so that a loop
    whose ticks all fall into quiet times gets on.
    """
    usual, until = now + loop.every, loop.quiet_until(now)
    held = bool(made) and made[-1].action == "hold"
    return min(usual, until) if held and until is not None else usual


def _rest(
    loop: Loop,
    actions: Actions,
    store: MetaStore,
    made: Sequence[Decision],
    until: datetime,
    clock: Callable[[], datetime],
    sleep: Callable[[float], object],
) -> None:
    """Sleep until then, or until a person has answered what the loop asks."""
    question = 0
    if made and made[-1].action in ("ask", "watch"):
        question = asked(store, loop.name, state_from_json(made[-1].state))
    while (left := (until - clock()).total_seconds()) > 0:
        if not question:
            sleep(left)
            return
        if actions.approval(question) is not None:
            return
        sleep(min(left, ANSWERS_S))
