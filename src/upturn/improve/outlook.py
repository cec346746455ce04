"""Outlook: where a loop stands, what it would decide now and why, and what it waits for."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from upturn.core.metastore import MetaStore
from upturn.improve.actions import Actions
from upturn.improve.evidence import Evidence
from upturn.improve.gather import gather
from upturn.improve.loop import Loop
from upturn.improve.policy import Ruling, decide, needs, signs_of
from upturn.improve.rollout import Approving
from upturn.improve.runner import asked, present_state
from upturn.improve.say import instant_text, nearness
from upturn.improve.state import Gating, Idle, Rollout, State, Steady, Training

if TYPE_CHECKING:
    from upturn.improve.log import LogView


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a loop at an instant, without anything done.

    `ruling` is what the next tick would decide on today's evidence; None while it would train
    first. `near` is how far each part of the trigger has come; `until` is what ends when.
    """

    state: State
    ruling: Ruling | None
    near: tuple[tuple[str, str], ...] = ()
    until: tuple[tuple[str, datetime], ...] = ()


def outlook(
    loop: Loop,
    log: LogView,
    actions: Actions,
    store: MetaStore,
    now: datetime,
    *,
    name: str | None = None,
) -> Outlook:
    """Gather today's evidence and decide on it, as the next tick would; nothing is done or stored.

    A training is not begun: that of a loop which is about to train is left out.
    """
    name = name or loop.name
    state = present_state(store, name)
    kinds = needs(loop, state, now) - {"training"}
    evidence = gather(loop, state, kinds, log, actions, now, asked=asked(store, name, state))
    return Outlook(
        state=state,
        ruling=None if isinstance(state, Training) else decide(loop, state, evidence, now),
        near=_near(loop, state, evidence, log, actions, now),
        until=tuple(_until(loop, state, now)),
    )


def state_text(state: State, model: str) -> str:
    """Where a loop stands, in one sentence."""
    match state:
        case Idle():
            return "It has no champion of its own: it waits until one version answers alone."
        case Steady():
            champion = state.champion
            text = (
                f"{model}:{champion.version} is the champion since {instant_text(champion.since)}"
            )
            if champion.trained_until:
                text += f", trained on data until {instant_text(champion.trained_until)}"
            return f"{text}."
        case Training():
            span = f"{instant_text(state.start)} until {instant_text(state.until)}"
            return f"A candidate is being trained on data from {span}."
        case Gating():
            return f"{model}:{state.candidate.version} is at the gate."
        case Rollout():
            return (
                f"{model}:{state.candidate.version} is in {state.stage} since"
                f" {instant_text(state.since)}; {model}:{state.champion.version} is the champion."
            )


def _near(
    loop: Loop,
    state: State,
    evidence: Evidence,
    log: LogView,
    actions: Actions,
    now: datetime,
) -> tuple[tuple[str, str], ...]:
    if not isinstance(state, Steady):
        return ()
    if needs(loop, state, now) < loop.when.needs:  # cooling down: the trigger is not asked
        evidence = gather(loop, state, loop.when.needs, log, actions, now)
    return tuple(nearness(loop.when, signs_of(loop, state, evidence, now)))


def _until(loop: Loop, state: State, now: datetime) -> list[tuple[str, datetime]]:
    found: list[tuple[str, datetime]] = []
    if isinstance(state, Steady) and state.quiet_until and now < state.quiet_until:
        found.append(("it cools down", state.quiet_until))
    if isinstance(state, Rollout):
        if isinstance(state.stage, Approving):
            found.append(("it waits for an approval", state.since + state.stage.lasts))
        else:
            found.append(("the stage lasts", state.since + state.stage.lasts))
            found.append(("or, while rows lack, at most", state.since + state.stage.limit))
    quiet = loop.quiet_until(now)
    if quiet is not None:
        found.append(("it is quiet", quiet))
    allowed = loop.budget.retrains
    free = None if allowed is None else allowed.free_at(state.memory.retrains, now)
    if free is not None:
        found.append((f"its trainings are spent ({allowed})", free))
    return found
