"""Ruling: what the policy says to do, why, and what would have made it say otherwise."""

from __future__ import annotations

from datetime import datetime

import msgspec

from upturn.improve.evidence import Evidence
from upturn.improve.loop import Loop
from upturn.improve.state import Candidate, Champion, Memory, State, Steady

# After these the same instant may hold more to decide; after any other, time has to pass.
RESTLESS = frozenset({"adopt", "yield", "retrain", "judge"})
# Nothing changes by these: lists of decisions may leave them out.
QUIET = frozenset({"wait", "keep", "watch", "hold"})


class Ruling(msgspec.Struct, frozen=True):
    """What to do, why, the state that it leaves behind, and what would have changed it."""

    action: str
    why: str
    state: State
    otherwise: str = ""

    @property
    def rests(self) -> bool:
        """Whether nothing more can be decided at this instant."""
        return self.action not in RESTLESS


def turned_down(
    loop: Loop,
    action: str,
    why: str,
    candidate: Candidate,
    champion: Champion,
    memory: Memory,
    evidence: Evidence,
    now: datetime,
    otherwise: str = "",
) -> Ruling:
    """A candidate came to nothing: it is remembered, and the champion answers alone."""
    remembered = memory.without(candidate, now, action)
    return Ruling(action, why, alone(loop, champion, remembered, evidence, now), otherwise)


def alone(
    loop: Loop, champion: Champion, memory: Memory, evidence: Evidence, now: datetime
) -> Steady:
    """The champion answers alone, and nothing is trained for a while."""
    return Steady(
        champion=champion,
        quiet_until=now + loop.cooldown,
        seen=evidence.route.revision,
        memory=memory,
    )


def seen(state: State, evidence: Evidence) -> State:
    """The state as it is, on the route as it was seen."""
    return msgspec.structs.replace(state, seen=evidence.route.revision)


def name_of(loop: Loop, version: int) -> str:
    """The version as people call it: 'delays:7'."""
    return f"{loop.endpoint.model_name}:{version}"
