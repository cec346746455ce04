"""A bandit's runner: asks the Log, decides, stores the decision, and sets the route."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from upturn.core.errors import Conflict, UpturnError
from upturn.core.linear_policy import LinearPolicy
from upturn.core.metastore import MetaStore
from upturn.core.records import Arm, Decision, Endpoint, Route, Version
from upturn.core.time import utcnow
from upturn.improve.bandit.bandit import Bandit
from upturn.improve.bandit.evidence import Evidence, arms_seen, label_warnings
from upturn.improve.bandit.linear import Learned, inputs_of, learn
from upturn.improve.bandit.rows import Counted, counted
from upturn.improve.bandit.ruling import Ruling, State, decide
from upturn.improve.bandit.thompson import Thompson
from upturn.improve.log import LogView
from upturn.improve.runner import sole_runner

Heard = Callable[[Decision], None]


class Routes(Protocol):
    """What a bandit does to the world."""

    def route(self) -> Route | None:
        """The endpoint's present route."""
        ...

    def set_route(
        self,
        arms: tuple[Arm, ...],
        *,
        after: int,
        why: str,
        now: datetime,
        policy: LinearPolicy | None = None,
    ) -> str:
        """Make these the arms, and wait until they are served. Why they are not, or ''.

        Raises Conflict when the route is not at the revision `after` any more.
        """
        ...


def tick(
    bandit: Bandit,
    log: LogView,
    routes: Routes,
    store: MetaStore,
    now: datetime,
    *,
    entry: str = "",
    anew: bool = False,
) -> Decision:
    """Decide once as of `now`, and act on it; the decision.

    It is stored before it is acted upon, and acting may be repeated: a tick that was killed is
    completed by the next one. `anew` takes the endpoint over again after somebody else changed its
    route. Raises Invalid for rewards that the policy can't take, and when the server refuses a
    version.
    """
    last = store.find(Decision, bandit.name)
    state = None if last is None else state_of(last)
    if state is not None:
        _act(state, routes, now, f"bandit {bandit.name}, acted upon again")
    gathered_at = utcnow()
    evidence = gather(bandit, log, routes.route(), store, now, received_by=gathered_at)
    ruling = decide(bandit, state, evidence, anew=anew)
    made = store.add(
        Decision(
            loop=bandit.name,
            seq=1 + (0 if last is None else last.seq),
            action=ruling.action,
            why=" ".join([ruling.why, *evidence.warnings]),
            evidence=facts(evidence, ruling),
            state=msgspec.to_builtins(ruling.state),
            at=now,
            recorded_at=utcnow(),
            otherwise=ruling.otherwise,
            endpoint=bandit.endpoint,
            entry=entry,
            gathered_at=gathered_at,
        )
    )
    refused = _act(ruling.state, routes, now, f"bandit {bandit.name}, decision {made.seq}")
    if refused:
        raise Conflict(f"It is decided, and the server does not take the route: {refused}")
    return made


def gather(
    bandit: Bandit,
    log: LogView,
    route: Route | None,
    store: MetaStore,
    now: datetime,
    *,
    received_by: datetime | None = None,
) -> Evidence:
    """What the Log says of the arms as of `now`, and as it was at `received_by`."""
    since = None if bandit.window is None else now - bandit.window
    until = now - bandit.matures
    rows = counted(
        log,
        store.select(Route, endpoint=bandit.endpoint),
        bandit.arms,
        reward=bandit.reward,
        otherwise=bandit.otherwise,
        since=since,
        until=until,
        known_by=now,
        received_by=received_by,
        features=not isinstance(bandit.policy, Thompson),
    )
    seen = arms_seen(rows, bandit.arms, balance=bandit.balance)
    return Evidence(
        revision=None if route is None else route.revision,
        arms=() if route is None else route.arms,
        seen=seen,
        since=since,
        until=until,
        policy=None if route is None else route.policy,
        learned=_learned(bandit, store, rows, route),
        forced=rows.forced,
        warnings=label_warnings(seen, otherwise=bandit.otherwise),
    )


def _learned(
    bandit: Bandit, store: MetaStore, rows: Counted, route: Route | None
) -> Learned | None:
    if isinstance(bandit.policy, Thompson):
        return None
    model = store.get(Endpoint, bandit.endpoint).model_name
    # Each arm has to take them: the Log has of a row what its arm was given.
    encodings = [
        inputs_of(store.get(Version, model, number), bandit.policy.inputs)
        for number in bandit.arms.values()
    ]
    return learn(
        bandit.policy,
        encodings[0],
        rows,
        list(bandit.arms),
        least=bandit.least,
        before=None if route is None else route.policy,
    )


def facts(evidence: Evidence, ruling: Ruling) -> dict[str, Any]:
    """What is stored as a decision's evidence: what it was made from, and what was believed.

    The policies themselves are in the routes and in the states.
    """
    stored = msgspec.to_builtins(evidence)
    del stored["policy"]
    if stored["learned"] is not None:
        del stored["learned"]["policy"]
    believed = {"posteriors": ruling.posteriors, "best": ruling.best}
    return stored | msgspec.to_builtins(believed)


def state_of(decision: Decision) -> State:
    """The state that a decision left behind."""
    return msgspec.convert(decision.state, State)


def differing(
    bandit: Bandit, log: LogView, store: MetaStore, decision: Decision, before: Decision | None
) -> list[str]:
    """What comes out otherwise when a decision is made again from the Log as it was then.

    Each is a field's path with what is stored and what is found; none of a decision that stands.
    """
    stored = decision.evidence
    revision = stored["revision"]
    route = None if revision is None else store.get(Route, bandit.endpoint, revision)
    evidence = gather(bandit, log, route, store, decision.at, received_by=decision.gathered_at)
    state = None if before is None else state_of(before)
    ruling = decide(bandit, state, evidence, anew=decision.action == "begin")
    again = {"action": ruling.action, "state": msgspec.to_builtins(ruling.state)}
    again |= {"evidence": facts(evidence, ruling)}
    was = {"action": decision.action, "state": decision.state, "evidence": stored}
    return list(_differing("", was, again))


def _differing(path: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            text
            for name in {**one, **other}
            for text in _differing(f"{path}.{name}".strip("."), one.get(name), other.get(name))
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for place, (a, b) in pairs for text in _differing(f"{path}[{place}]", a, b)]
    return [] if one == other else [f"{path}: {one}, now {other}"]


def _act(state: State, routes: Routes, now: datetime, why: str) -> str:
    """Make the route as the state says; why the server refuses, or ''."""
    route = routes.route()
    revision = 0 if route is None else route.revision
    if not state.on or revision != state.seen:
        return ""
    wanted = {one.name: one for one in state.arms}
    if route is not None and _answering(route) == wanted and route.policy == state.policy:
        return ""
    shadows = () if route is None else tuple(one for one in route.arms if one.shadow)
    try:
        return routes.set_route(
            (*state.arms, *shadows), after=state.seen, why=why, now=now, policy=state.policy
        )
    except Conflict:
        return ""  # somebody came first; the next tick sees it


def _answering(route: Route) -> dict[str, Arm]:
    return {one.name: one for one in route.arms if not one.shadow}


def run_once(
    bandit: Bandit, log: LogView, routes: Routes, store: MetaStore, now: datetime, **options: Any
) -> Decision:
    """`tick`. Raises Conflict while another runner is at it."""
    with sole_runner(store, bandit.name, kind="bandit"):
        return tick(bandit, log, routes, store, now, **options)


def run_forever(
    bandit: Bandit,
    log: LogView,
    routes: Routes,
    store: MetaStore,
    *,
    entry: str = "",
    anew: bool = False,
    heard: Heard | None = None,
    troubled: Callable[[UpturnError], None] | None = None,
    clock: Callable[[], datetime] = utcnow,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Tick every `bandit.every` until interrupted, by the clock of the machine.

    A tick that fails is left to the next one, and `troubled` is told; without it, the error is
    raised. `wait` sleeps for so many seconds.
    """
    sleep = wait or threading.Event().wait
    with sole_runner(store, bandit.name, kind="bandit"):
        while True:
            began = clock()
            try:
                made = tick(bandit, log, routes, store, began, entry=entry, anew=anew)
                anew = False
                if heard is not None:
                    heard(made)
            except UpturnError as error:
                if troubled is None:
                    raise
                troubled(error)
            sleep(max(0.0, (began + bandit.every - clock()).total_seconds()))
