"""Undo: what a loop does when a person takes a decision back, as a pure function."""

from __future__ import annotations

from datetime import datetime

import msgspec

from upturn.improve.evidence import Evidence
from upturn.improve.ruling import Ruling
from upturn.improve.state import (
    Candidate,
    Gating,
    Idle,
    Rollout,
    State,
    Steady,
    state_from_json,
)

ONWARDS = frozenset({"retrain", "judge", "ask", "shadow", "canary", "promote"})
ENDINGS = frozenset({"rollback", "refuse"})


def can_be_undone(action: str, before: State) -> bool:
    """Whether a decision of that action, which started from `before`, can be taken back."""
    if action in ENDINGS:
        return isinstance(before, Rollout)
    return action in ONWARDS and not isinstance(before, Idle)


def taken_back(state: State, evidence: Evidence, now: datetime) -> Ruling:
    """A candidate that was moved on counts as rolled back; one that was ended is tried again.

    The champion of before answers alone, or the stage that was ended begins anew.
    """
    undo = evidence.undo
    assert undo is not None
    before, revision = state_from_json(undo.before), evidence.route.revision
    assert not isinstance(before, Idle)
    reason = f": {undo.why.rstrip('.')}" if undo.why else ""
    said = f"{undo.who} took decision {undo.decision} ({undo.action}) back{reason}."
    if isinstance(before, Rollout) and undo.action in ENDINGS:
        version = before.candidate.version
        again = msgspec.structs.replace(
            before,
            since=now,
            rows_since=None if before.held is None else now,
            extended=0,
            seen=revision,
            memory=state.memory.again(version),
        )
        why = f"{said} {undo.model}:{version} begins {before.stage} anew."
        return Ruling("undo", why, again)
    candidate, memory = _candidate_of(state), state.memory
    if candidate is not None:
        memory = memory.without(candidate, now, "undo")
        said += f" {undo.model}:{candidate.version} counts as rolled back."
    steady = Steady(
        champion=before.champion, quiet_until=undo.quiet_until, seen=revision, memory=memory
    )
    return Ruling("undo", f"{said} {undo.model}:{before.champion.version} answers alone.", steady)


def _candidate_of(state: State) -> Candidate | None:
    """The candidate of a state; after a promotion, the champion that it became."""
    match state:
        case Gating() | Rollout():
            return state.candidate
        case Steady() if state.previous is not None:
            return Candidate(version=state.champion.version, artifact=state.champion.artifact)
        case _:
            return None
