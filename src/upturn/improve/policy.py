"""The policy: what a loop does next, as a pure function of its state, the evidence and the time.

| action | from | when | then |
| --- | --- | --- | --- |
| wait | idle, training, gating | what the loop needs is not there yet | the same |
| adopt | idle | one version answers alone | steady |
| yield | any but idle | a person changed the route | idle |
| keep | steady | no trigger fires, it is cooling down, nothing is new, no budget | steady |
| retrain | steady | a trigger fires | training |
| failed | training | the training made no version | steady, cooling |
| judge | training | there is a candidate | gating |
| refuse | training, gating | not shown to be better, or comparable; known | steady, cooling |
| refuse | rollout | rejected by a person, or by nobody approved in time | steady, cooling |
| hold | gating, rollout | it is a quiet time, or there is no budget for canaries yet | the same |
| ask | gating, rollout | passed, and the next stage is an approval | rollout |
| shadow | gating, rollout | passed, and the next stage is a shadow | rollout |
| canary | gating, rollout | passed, and the next stage is a canary | rollout |
| watch | rollout | the stage goes on | rollout |
| extend | rollout | the stage is over, with too few rows to judge by | rollout |
| rollback | rollout, steady | harm, few rows, no budget, a server refuses | steady, cooling |
| promote | gating, rollout | passed, and no stage is left | steady |
| undo | any but idle | a person took a decision back | steady, cooling; or rollout |

A decision is written before it is acted upon. Acting makes the world as the state says (its
`arms`, or the training of a state that trains), so repeating it changes nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from upturn.improve.evidence import Evidence, GateSeen, Trained, TrainingFailed
from upturn.improve.judging import demands, failing, gate_text
from upturn.improve.loop import Loop
from upturn.improve.rollout import Approving
from upturn.improve.ruling import QUIET, RESTLESS, Ruling, alone, name_of, seen, turned_down
from upturn.improve.say import instant_text, near_text
from upturn.improve.stages import exposure_text, in_rollout, next_stage
from upturn.improve.state import (
    Candidate,
    Champion,
    Gating,
    Idle,
    Refusal,
    Rollout,
    State,
    Steady,
    Training,
    arms,
    same_arms,
)
from upturn.improve.triggers import Signs
from upturn.improve.undo import taken_back

__all__ = ["QUIET", "RESTLESS", "Ruling", "decide", "needs", "signs_of"]


def needs(loop: Loop, state: State, now: datetime) -> frozenset[str]:
    """The evidence that `decide` will look at: 'version', 'drift', 'performance', and so on.

    The route is always looked at. A loop that is cooling down needs nothing else.
    """
    exposure = {"exposure"} if loop.budget.exposed else set[str]()
    match state:
        case Idle():
            return frozenset({"version"})
        case Steady():
            if _cooling(state, now):
                return frozenset()
            return loop.when.needs | ({"labels"} if state.memory.refused else set[str]())
        case Training():
            return frozenset({"training"})
        case Gating():
            # The gate looks once. In a quiet time it could not act on what it sees.
            return frozenset() if loop.quiet_until(now) else frozenset({"gate"} | exposure)
        case Rollout():
            asked = {"approval"} if isinstance(state.stage, Approving) else set[str]()
            return frozenset({"guards"} | exposure | asked)


def decide(loop: Loop, state: State, evidence: Evidence, now: datetime) -> Ruling:
    """What the loop does next. Pure: the same arguments give the same ruling."""
    if evidence.undo is not None:
        return taken_back(state, evidence, now)
    if evidence.refused:
        return _refused(loop, state, evidence, now)
    if _changed_by_hand(state, evidence):
        answering = ", ".join(
            f"{loop.endpoint.model_name}:{arm.version}" for arm in evidence.route.arms
        )
        return Ruling(
            "yield",
            f"Revision {evidence.route.revision} of the route is not the loop's: somebody put"
            f" {answering or 'nothing'} there. It stays, and the loop looks at it anew.",
            Idle(seen=evidence.route.revision, memory=state.memory),
        )
    match state:
        case Idle():
            return _idle(loop, state, evidence, now)
        case Steady():
            return _steady(loop, state, evidence, now)
        case Training():
            return _training(loop, state, evidence, now)
        case Gating():
            return _gating(loop, state, evidence, now)
        case Rollout():
            return in_rollout(loop, state, evidence, now)


def _changed_by_hand(state: State, evidence: Evidence) -> bool:
    if isinstance(state, Idle) or evidence.route.revision == state.seen:
        return False
    return not same_arms(evidence.route.arms, arms(state))


def _cooling(state: Steady, now: datetime) -> bool:
    return state.quiet_until is not None and now < state.quiet_until


def _idle(loop: Loop, state: Idle, evidence: Evidence, now: datetime) -> Ruling:
    route, found = evidence.route, evidence.training
    if not route.arms:
        why = (
            f"Nobody answers for {loop.endpoint.name!r} yet: deploy a version, and the loop"
            " takes it from there."
        )
        return Ruling("wait", why, seen(state, evidence), "One version that answers alone.")
    if len(route.arms) > 1 or not isinstance(found, Trained):
        why = (
            f"Revision {route.revision} of the route has {len(route.arms)} arms that the loop did"
            " not make; it waits until one version answers alone."
        )
        return Ruling("wait", why, seen(state, evidence), "One version that answers alone.")
    champion = Champion(
        version=found.version,
        since=now,
        trained_until=found.trained_until,
        reference={name: found.metrics[name] for name in loop.metrics if name in found.metrics},
        artifact=found.artifact,
    )
    until = found.trained_until
    known = (
        f"trained on data until {instant_text(until)}" if until else "trained nobody knows on what"
    )
    name = name_of(loop, found.version)
    why = f"{name} answers for {loop.endpoint.name!r}, {known}: the champion."
    steady = Steady(champion=champion, seen=route.revision, memory=state.memory)
    return Ruling("adopt", why, steady, "Several versions that answer.")


def _steady(loop: Loop, state: Steady, evidence: Evidence, now: datetime) -> Ruling:
    state = msgspec.structs.replace(state, seen=evidence.route.revision)
    if _cooling(state, now):
        assert state.quiet_until is not None
        why = f"Cooling down until {instant_text(state.quiet_until)}."
        return Ruling("keep", why, state, "Time passing.")
    signs = signs_of(loop, state, evidence, now)
    finding = loop.when.ask(signs)
    why = finding.why[:1].upper() + finding.why[1:] + "."
    if not finding.fired:
        champion, measured = _with_reference(loop, state.champion, evidence, now)
        kept = msgspec.structs.replace(state, champion=champion)
        return Ruling("keep", why + measured, kept, near_text(loop.when, signs))
    held_back, otherwise = _held_back(loop, state, evidence, now)
    if held_back:
        return Ruling("keep", f"{why} {held_back}", state, otherwise)
    until = now - loop.holdout
    training = Training(
        champion=state.champion,
        since=now,
        start=until - loop.window,
        until=until,
        seen=evidence.route.revision,
        memory=state.memory.trained(now),
    )
    return Ruling("retrain", why, training, near_text(loop.when, signs))


def _held_back(loop: Loop, state: Steady, evidence: Evidence, now: datetime) -> tuple[str, str]:
    """Why nothing is trained though a trigger fires, and what would change that; or ''."""
    last, labels = _last_refusal(state), evidence.labels
    if last is not None and (labels is None or labels.newest is None or labels.newest <= last.at):
        why = (
            f"But no label became known after {name_of(loop, last.version)} came to nothing on"
            f" {instant_text(last.at)}: on the same evidence nothing is tried again."
        )
        return why, "A label that became known since."
    allowed = loop.budget.retrains
    free = None if allowed is None else allowed.free_at(state.memory.retrains, now)
    if free is None:
        return "", ""
    why = f"But of trainings {allowed} are allowed, and spent until {instant_text(free)}."
    return why, "A larger budget."


def signs_of(loop: Loop, state: Steady, evidence: Evidence, now: datetime) -> Signs:
    """What a trigger is asked about."""
    return Signs(
        now=now,
        min_rows=loop.min_rows,
        trained_until=state.champion.trained_until,
        reference=state.champion.reference,
        drift=evidence.drift,
        performance=evidence.performance,
        labels=evidence.labels,
        alarms=evidence.alarms,
        trained_at=max([state.champion.since, *state.memory.retrains]),
    )


def _with_reference(
    loop: Loop, champion: Champion, evidence: Evidence, now: datetime
) -> tuple[Champion, str]:
    recent = evidence.performance
    # As many days as a gate has: the first few rows would be a reference to chance.
    if recent is None or now - champion.since < loop.holdout or recent.labelled < loop.min_rows:
        return champion, ""
    missing = {
        name: value
        for name, value in recent.values.items()
        if name in loop.metrics and name not in champion.reference
    }
    if not missing:
        return champion, ""
    reference = {**champion.reference, **missing}
    said = ", ".join(f"{name} {value:.4f}" for name, value in missing.items())
    note = f" The champion's reference is what it shows now: {said}."
    return msgspec.structs.replace(champion, reference=reference), note


def _training(loop: Loop, state: Training, evidence: Evidence, now: datetime) -> Ruling:
    found = evidence.training
    if found is None:
        return Ruling("wait", "The training has not ended.", seen(state, evidence), "Its end.")
    if isinstance(found, TrainingFailed):
        resume = f" Resume it with: upturn resume {found.run}." if found.run else ""
        why = f"The training made no version: {found.problem.message}{resume}"
        steady = alone(loop, state.champion, state.memory, evidence, now)
        return Ruling("failed", why, steady, "A training that ends.")
    name = name_of(loop, found.version)
    if found.version == state.champion.version:
        why = f"The training gave the champion again, {name}: there is nothing to compare."
        steady = alone(loop, state.champion, state.memory, evidence, now)
        return Ruling("refuse", why, steady, "Another model.")
    candidate = Candidate(
        version=found.version,
        trained_until=found.trained_until,
        reference={key: found.metrics[key] for key in loop.metrics if key in found.metrics},
        artifact=found.artifact,
    )
    gating = Gating(
        champion=state.champion,
        candidate=candidate,
        since=now,
        seen=evidence.route.revision,
        memory=state.memory,
    )
    before = state.memory.find(found.version, found.artifact)
    if before is not None:
        same = name if before.version == found.version else f"{name_of(loop, before.version)} again"
        why = (
            f"The training gave {same}, which came to nothing on {instant_text(before.at)}"
            f" ({before.action}): the same model is not tried twice. Deploy it by hand if you must."
        )
        return _refuse(loop, gating, why, evidence, now, "Another model.")
    why = (
        f"{name} was trained on data from {instant_text(state.start)} until"
        f" {instant_text(state.until)}; later rows are the gate's."
    )
    return Ruling("judge", why, gating, "A training that makes no version, or one tried before.")


def _gating(loop: Loop, state: Gating, evidence: Evidence, now: datetime) -> Ruling:
    not_yet = _before_the_gate(loop, state, evidence, now)
    if not_yet is not None:
        return not_yet
    gate, found = loop.gate, evidence.gate
    if gate is None:
        return next_stage(loop, state, 0, "The loop has no gate.", evidence, now, "A gate.")
    if found is None:
        return Ruling("wait", "The gate has not looked yet.", seen(state, evidence))
    if found.impossible or found.comparison is None or found.labelled < loop.min_rows:
        return _gate_without_rows(loop, state, found, evidence, now)
    used_up = _used_up(loop, state, found)
    if used_up:
        return _refuse(loop, state, used_up, evidence, now, "A label that became known since.")
    if found.values:
        candidate = msgspec.structs.replace(
            state.candidate, reference={**state.candidate.reference, **found.values}
        )
        state = msgspec.structs.replace(state, candidate=candidate)
    names = name_of(loop, state.candidate.version), name_of(loop, state.champion.version)
    said, failed = gate_text(gate, found, *names), failing(gate, found)
    if not failed:
        return next_stage(loop, state, 0, said, evidence, now, demands(gate))
    why = " ".join([said, *(fault.says for fault in failed)])
    return _refuse(loop, state, why, evidence, now, " ".join(one.otherwise for one in failed))


def _before_the_gate(loop: Loop, state: Gating, evidence: Evidence, now: datetime) -> Ruling | None:
    until = loop.quiet_until(now)
    if until is not None:
        why = f"Quiet until {instant_text(until)}: the gate looks then."
        return Ruling("hold", why, seen(state, evidence), "The end of the quiet time.")
    over, never = exposure_text(loop, 0, evidence)
    if over and not never:
        return Ruling("hold", f"The gate waits: {over}.", seen(state, evidence), "Time passing.")
    if over:
        why = f"{name_of(loop, state.candidate.version)} can't be tried: {over}."
        return _refuse(loop, state, why, evidence, now, "A larger budget, or smaller canaries.")
    return None


def _used_up(loop: Loop, state: Gating, found: GateSeen) -> str:
    last = _last_refusal(state)
    if last is None or found.newest is None or found.newest > last.at:
        return ""
    return (
        f"None of the gate's labels became known after {name_of(loop, last.version)} came to"
        f" nothing on {instant_text(last.at)}: on the same evidence no other is tried."
    )


def _gate_without_rows(
    loop: Loop, state: Gating, found: GateSeen, evidence: Evidence, now: datetime
) -> Ruling:
    lack = found.note or f"{found.labelled:,} labelled rows are too few of {loop.min_rows:,}"
    otherwise = f"{loop.min_rows:,} labelled rows that came after both were trained."
    if not found.impossible and now - state.since < loop.holdout:
        return Ruling(
            "wait", f"The gate can't judge yet: {lack}.", seen(state, evidence), otherwise
        )
    why = f"The gate can't judge {name_of(loop, state.candidate.version)}: {lack}."
    return _refuse(loop, state, why, evidence, now, "" if found.impossible else otherwise)


def _refuse(
    loop: Loop, state: Gating, why: str, evidence: Evidence, now: datetime, otherwise: str
) -> Ruling:
    return turned_down(
        loop,
        "refuse",
        why,
        state.candidate,
        state.champion,
        state.memory,
        evidence,
        now,
        otherwise,
    )


def _last_refusal(state: Steady | Gating) -> Refusal | None:
    return state.memory.refused[-1] if state.memory.refused else None


def _refused(loop: Loop, state: State, evidence: Evidence, now: datetime) -> Ruling:
    reason = evidence.refused.rstrip(".")
    if isinstance(state, Rollout):
        candidate, back = state.candidate, state.champion
        name = name_of(loop, candidate.version)
    elif isinstance(state, Steady) and state.previous is not None:
        champion, back = state.champion, state.previous
        name = name_of(loop, champion.version)
        candidate = Candidate(version=champion.version, artifact=champion.artifact)
    else:
        why = f"The server does not take the route: {reason}."
        return Ruling("wait", why, seen(state, evidence), "A server that takes it.")
    why = f"The server does not serve {name}: {reason}."
    return turned_down(
        loop, "rollback", why, candidate, back, state.memory, evidence, now, "A server that does."
    )
