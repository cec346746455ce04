"""Stages: the part of the policy that leads a candidate from its gate to the whole traffic."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from upturn.core.time import spell
from upturn.improve.evidence import Evidence, GuardSeen
from upturn.improve.loop import Loop
from upturn.improve.rollout import SERVING, Approving, Canary, Full, NoWorse, Shadow, Stage
from upturn.improve.ruling import Ruling, name_of, seen, turned_down
from upturn.improve.say import guard_text, instant_text
from upturn.improve.state import Champion, Gating, Rollout, Steady


def in_rollout(loop: Loop, state: Rollout, evidence: Evidence, now: datetime) -> Ruling:
    """What comes next for a candidate that is in a stage."""
    guards = [(guard, _guard_seen(guard, evidence)) for guard in loop.guard] if state.trial else []
    said = " ".join(guard_text(guard, seen) for guard, seen in guards)
    broken = [guard for guard, seen in guards if _broken(guard, seen)]
    name = name_of(loop, state.candidate.version)
    if broken:
        metrics = " and ".join(guard.metric for guard in broken)
        why = f"{name} does harm to {metrics}. {said}"
        otherwise = f"A lower bound of the harm to {metrics} within the margin."
        return _ended(loop, "rollback", why, state, evidence, now, otherwise)
    if isinstance(state.trial, Canary) and (spent := _overspent(loop, evidence)):
        return _ended(loop, "rollback", f"{name} has answered {spent} {said}", state, evidence, now)
    if isinstance(state.stage, Approving):
        return _approval(loop, state, state.stage, said, evidence, now)
    return _trial(loop, state, state.stage, guards, said, evidence, now)


def _trial(
    loop: Loop,
    state: Rollout,
    stage: Shadow | Canary,
    guards: list[tuple[NoWorse, GuardSeen | None]],
    said: str,
    evidence: Evidence,
    now: datetime,
) -> Ruling:
    name = name_of(loop, state.candidate.version)
    lack = _lack(guards, stage)
    margins = ", ".join(f"{guard.metric} beyond {guard.margin:g}" for guard, _ in guards)
    harm = f"Harm shown to {margins}." if margins else "Nothing: no guard looks."
    ends = state.since + stage.lasts
    if now < ends:
        why = f"{name} is in {stage} until {instant_text(ends)}. {said}".rstrip()
        return Ruling("watch", why, seen(state, evidence), harm)
    if not lack:
        passed = f"{name} came through {stage} without evidence of harm. {said}".rstrip()
        return next_stage(loop, state, state.index + 1, passed, evidence, now, harm)
    last = state.since + stage.limit
    rows = f"{stage.min_rows:,} rows for each guard end the stage."
    if now >= last:
        why = f"{name} was in {stage} for {spell(now - state.since)}: still {lack}. {said}"
        why += " Give it a larger share, more time or a smaller min_rows."
        return _ended(loop, "rollback", why, state, evidence, now, rows)
    why = f"{name} stays in {stage}, until {instant_text(last)} at the latest: {lack}. {said}"
    if state.extended:
        return Ruling("watch", why, seen(state, evidence), f"{rows} {harm}")
    longer = msgspec.structs.replace(state, extended=1)
    return Ruling("extend", why, seen(longer, evidence), f"{rows} {harm}")


def _approval(
    loop: Loop,
    state: Rollout,
    stage: Approving,
    said: str,
    evidence: Evidence,
    now: datetime,
) -> Ruling:
    name, answer = name_of(loop, state.candidate.version), evidence.approval
    command = f"upturn decisions approve {loop.name}"
    ends = state.since + stage.lasts
    if answer is None and now < ends:
        waits = f"{name} waits until {instant_text(ends)} for {stage.wanted}"
        why = f"{waits}: {command}. {said}".rstrip()
        otherwise = f"{command}, or the same with --reject."
        return Ruling("watch", why, seen(state, evidence), otherwise)
    if answer is None:
        why = f"Nobody approved {name} in {spell(stage.lasts)}. {said}".rstrip()
        return _ended(loop, "refuse", why, state, evidence, now, f"{command}, in time.")
    reason = f": {answer.why.rstrip('.')}" if answer.why else ""
    if not answer.approved:
        why = f"{answer.who} rejected {name}{reason}. {said}".rstrip()
        return _ended(loop, "refuse", why, state, evidence, now, "An approval.")
    passed = f"{answer.who} approved {name}{reason}. {said}".rstrip()
    return next_stage(loop, state, state.index + 1, passed, evidence, now, "A no.")


def next_stage(
    loop: Loop,
    state: Gating | Rollout,
    index: int,
    why: str,
    evidence: Evidence,
    now: datetime,
    otherwise: str,
) -> Ruling:
    """The stage at that place of the rollout begins, unless this is a quiet time.

    `why` says what was passed, and `otherwise` what would not have passed.
    """
    name = name_of(loop, state.candidate.version)
    stage: Stage = loop.rollout[index] if index < len(loop.rollout) else Full()
    until = None if isinstance(stage, Approving) else loop.quiet_until(now)
    if until is not None:
        why = f"{why} Quiet until {instant_text(until)}: {stage} has to wait."
        return Ruling("hold", why, seen(state, evidence), "The end of the quiet time.")
    if isinstance(state, Rollout) and isinstance(stage, Canary):
        no_room = _no_room(loop, state, index, why, evidence, now)
        if no_room is not None:
            return no_room
    if isinstance(stage, Full):
        champion = Champion(
            version=state.candidate.version,
            since=now,
            trained_until=state.candidate.trained_until,
            reference=state.candidate.reference,
            artifact=state.candidate.artifact,
        )
        steady = Steady(
            champion=champion,
            previous=state.champion,
            seen=evidence.route.revision,
            memory=state.memory,
        )
        return Ruling("promote", f"{why} {name} becomes the champion.", steady, otherwise)
    rollout = Rollout(
        champion=state.champion,
        candidate=state.candidate,
        index=index,
        stage=stage,
        since=now,
        seen=evidence.route.revision,
        memory=state.memory,
    )
    if isinstance(stage, Approving):
        if isinstance(state, Rollout):
            rollout = msgspec.structs.replace(
                rollout, held=state.trial, rows_since=state.trial_since
            )
        why = f"{why} Next: {stage}. Say it with: upturn decisions approve {loop.name}"
        return Ruling("ask", why, rollout, otherwise)
    action = "shadow" if isinstance(stage, Shadow) else "canary"
    return Ruling(action, f"{why} Next: {stage}.", rollout, otherwise)


def _no_room(
    loop: Loop, state: Rollout, index: int, why: str, evidence: Evidence, now: datetime
) -> Ruling | None:
    """A canary that the budget has no room for waits; one that it never will have any for ends."""
    over, never = exposure_text(loop, index, evidence)
    if not over:
        return None
    why = f"{why} But {over}."
    if never:
        return _ended(loop, "rollback", why, state, evidence, now, "A larger budget.")
    return Ruling("hold", why, seen(state, evidence), "Time passing, or a larger budget.")


def exposure_text(loop: Loop, index: int, evidence: Evidence) -> tuple[str, bool]:
    """Why the canaries from that place on do not fit into the budget, or ''; if they never will."""
    allowed, found = loop.budget.exposed, evidence.exposure
    canaries = [stage for stage in loop.rollout[index:] if isinstance(stage, Canary)]
    if allowed is None or found is None or not canaries:
        return "", False
    # By the traffic of the last span: the best that is known of the next one's.
    days = sum((stage.share * stage.lasts for stage in canaries), timedelta())
    need = round(found.answered * (days / allowed.per))
    if found.exposed + need <= allowed.count:
        return "", False
    why = (
        f"its canaries would answer about {need:,} requests and candidates have answered"
        f" {found.exposed:,}, of {allowed} that are allowed"
    )
    return why, need > allowed.count


def _overspent(loop: Loop, evidence: Evidence) -> str:
    allowed, found = loop.budget.exposed, evidence.exposure
    if allowed is None or found is None or found.exposed < allowed.count:
        return ""
    return f"as many requests as are allowed: {found.exposed:,}, of {allowed}."


def _ended(
    loop: Loop,
    action: str,
    why: str,
    state: Rollout,
    evidence: Evidence,
    now: datetime,
    otherwise: str = "",
) -> Ruling:
    return turned_down(
        loop,
        action,
        why.rstrip(),
        state.candidate,
        state.champion,
        state.memory,
        evidence,
        now,
        otherwise,
    )


def _guard_seen(guard: NoWorse, evidence: Evidence) -> GuardSeen | None:
    return next((seen for seen in evidence.guards if seen.metric == guard.metric), None)


def _broken(guard: NoWorse, seen: GuardSeen | None) -> bool:
    return seen is not None and seen.comparison is not None and guard.broken(seen.comparison)


def _lack(guards: list[tuple[NoWorse, GuardSeen | None]], stage: Shadow | Canary) -> str:
    """What a stage can't end without, or ''."""
    few: list[str] = []
    mute: list[str] = []
    for guard, found in guards:
        if found is not None and found.exempt:
            continue
        if found is None or found.rows < stage.min_rows:
            few.append(guard.metric)
        # A bound for a 99th percentile takes hundreds of rows, which a small canary may never have.
        elif found.comparison is None and guard.metric not in SERVING:
            mute.append(guard.metric)
    asked = f"too few rows for {' and '.join(few)} of the {stage.min_rows:,} asked for"
    alike = f"rows too few or too alike for a bound of {' and '.join(mute)}"
    return ", and ".join(text for text, names in ((asked, few), (alike, mute)) if names)
