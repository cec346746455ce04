"""State: where a loop stands, as it is stored in each of its decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from upturn.core.records import Arm
from upturn.improve.evidence import to_json
from upturn.improve.rollout import CHAMPION, Canary, Shadow


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """The version that answers, and what is known of it."""

    version: int
    since: datetime
    trained_until: datetime | None = None
    reference: dict[str, float] = {}  # its metrics when it became the champion


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that may become the champion."""

    version: int
    trained_until: datetime | None = None
    reference: dict[str, float] = {}


class Idle(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="idle"):
    """No champion of the loop's own: before its first tick, or while a person routes by hand."""

    seen: int = 0  # the route's revision when this was decided


class Steady(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="steady"):
    """The champion answers, and there is no candidate."""

    champion: Champion
    previous: Champion | None = None  # before the last promotion
    quiet_until: datetime | None = (
        None  # no training before, after a candidate that came to nothing
    )
    seen: int = 0


class Training(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="training"):
    """A candidate is being trained on the data in [start, until)."""

    champion: Champion
    since: datetime
    start: datetime
    until: datetime
    seen: int = 0


class Gating(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="gating"):
    """A candidate is compared with the champion on the Log."""

    champion: Champion
    candidate: Candidate
    since: datetime
    seen: int = 0


class Rollout(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="rollout"):
    """A candidate is in a stage, which lasts its length and as much again for each extension."""

    champion: Champion
    candidate: Candidate
    index: int
    stage: Shadow | Canary
    since: datetime
    extended: int = 0
    seen: int = 0


State = Idle | Steady | Training | Gating | Rollout


def arms(state: State) -> tuple[Arm, ...]:
    """The route that the state asks for; none while the loop has no champion of its own."""
    match state:
        case Idle():
            return ()
        case Rollout():
            return state.stage.arms(state.champion.version, state.candidate.version)
        case _:
            return (Arm(name=CHAMPION, version=state.champion.version, share=1.0),)


def same_arms(one: tuple[Arm, ...], other: tuple[Arm, ...]) -> bool:
    """Whether the same versions answer in the same shares, whatever the arms are called."""

    def key(route: tuple[Arm, ...]) -> list[tuple[int, float, bool]]:
        return [(arm.version, round(arm.share, 9), arm.shadow) for arm in route]

    return key(one) == key(other)


def state_to_json(state: State) -> dict[str, Any]:
    """The state as a decision stores it."""
    return to_json(state)


def state_from_json(stored: dict[str, Any]) -> State:
    """The state that a decision stored; `Idle` of an empty one."""
    return msgspec.convert(stored, State) if stored else Idle()
