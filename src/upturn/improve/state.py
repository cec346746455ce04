"""State: where a loop stands, as it is stored in each of its decisions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from upturn.core.records import Arm
from upturn.improve.evidence import to_json
from upturn.improve.rollout import CHAMPION, Approving, Canary, Shadow

_REMEMBERED = 50  # refusals, and the trainings of so many days
_TRAININGS = timedelta(days=60)


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A candidate that came to nothing, and when: labels known by then are evidence used up."""

    version: int
    artifact: str = ""  # digest of the model
    at: datetime
    action: str  # 'refuse', 'rollback', 'undo'


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a loop keeps from one candidate to the next."""

    retrains: tuple[datetime, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def trained(self, at: datetime) -> Memory:
        """With a training begun at `at`."""
        kept = tuple(one for one in self.retrains if one > at - _TRAININGS)
        return msgspec.structs.replace(self, retrains=(*kept, at))

    def without(self, candidate: Candidate, at: datetime, action: str) -> Memory:
        """With a candidate that came to nothing at `at`."""
        one = Refusal(version=candidate.version, artifact=candidate.artifact, at=at, action=action)
        return msgspec.structs.replace(self, refused=(*self.refused, one)[-_REMEMBERED:])

    def again(self, version: int) -> Memory:
        """Without what was remembered of that version: a person gives it another try."""
        return msgspec.structs.replace(
            self, refused=tuple(one for one in self.refused if one.version != version)
        )

    def find(self, version: int, artifact: str) -> Refusal | None:
        """The refusal of that very model, if there was one."""
        for one in reversed(self.refused):
            if one.version == version or (artifact and one.artifact == artifact):
                return one
        return None


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """The version that answers, and what is known of it."""

    version: int
    since: datetime
    trained_until: datetime | None = None
    reference: dict[str, float] = {}  # its metrics when it became the champion
    artifact: str = ""  # digest of the model


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that may become the champion."""

    version: int
    trained_until: datetime | None = None
    reference: dict[str, float] = {}
    artifact: str = ""  # digest of the model


class Idle(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="idle"):
    """No champion of the loop's own: before its first tick, or while a person routes by hand."""

    seen: int = 0  # the route's revision when this was decided
    memory: Memory = Memory()


class Steady(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="steady"):
    """The champion answers, and there is no candidate."""

    champion: Champion
    previous: Champion | None = None  # before the last promotion
    quiet_until: datetime | None = (
        None  # no training before, after a candidate that came to nothing
    )
    seen: int = 0
    memory: Memory = Memory()


class Training(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="training"):
    """A candidate is being trained on the data in [start, until)."""

    champion: Champion
    since: datetime
    start: datetime
    until: datetime
    seen: int = 0
    memory: Memory = Memory()


class Gating(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="gating"):
    """A candidate is compared with the champion on the Log."""

    champion: Champion
    candidate: Candidate
    since: datetime
    seen: int = 0
    memory: Memory = Memory()


class Rollout(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="rollout"):
    """A candidate is in a stage, or waits for a person in the one before it.

    `held` is that one, whose route goes on meanwhile and whose guards go on looking; None when
    nothing came before: the champion answers alone.
    """

    champion: Champion
    candidate: Candidate
    index: int
    stage: Shadow | Canary | Approving
    since: datetime
    extended: int = 0
    seen: int = 0
    memory: Memory = Memory()
    held: Shadow | Canary | None = None
    rows_since: datetime | None = None  # the beginning of the stage that is held

    @property
    def trial(self) -> Shadow | Canary | None:
        """The stage whose route holds."""
        return self.held if isinstance(self.stage, Approving) else self.stage

    @property
    def trial_since(self) -> datetime:
        """From when on that stage's rows count."""
        return self.rows_since or self.since


State = Idle | Steady | Training | Gating | Rollout


def arms(state: State) -> tuple[Arm, ...]:
    """The route that the state asks for; none while the loop has no champion of its own."""
    match state:
        case Idle():
            return ()
        case Rollout() if state.trial is not None:
            return state.trial.arms(state.champion.version, state.candidate.version)
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
