"""The policy: what a loop does next, as a pure function of its state, the evidence and the time.

| action | from | when | then |
| --- | --- | --- | --- |
| wait | idle, training, gating | what the loop needs is not there yet | the same |
| adopt | idle | one version answers alone | steady |
| yield | any but idle | a person changed the route | idle |
| keep | steady | no trigger fires, or the loop is cooling down | steady |
| retrain | steady | a trigger fires | training |
| failed | training | the training made no version | steady, cooling |
| judge | training | there is a candidate | gating |
| refuse | training, gating | not shown to be better, or not comparable | steady, cooling |
| shadow | gating, rollout | passed, and the next stage is a shadow | rollout |
| canary | gating, rollout | passed, and the next stage is a canary | rollout |
| watch | rollout | the stage goes on | rollout |
| extend | rollout | the stage is over, with too few rows to judge by | rollout |
| rollback | rollout, steady | harm, too little evidence, a server that refuses | steady, cooling |
| promote | gating, rollout | passed, and no stage is left | steady |

A decision is written before it is acted upon. Acting makes the world as the state says (its
`arms`, or the training of a state that trains), so repeating it changes nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from upturn.improve.evidence import Evidence, GateSeen, GuardSeen, Trained, TrainingFailed
from upturn.improve.loop import Loop
from upturn.improve.rollout import LATENCY, Beats, Full, NoWorse, Shadow
from upturn.improve.say import better_or_worse, guard_text, instant_text
from upturn.improve.state import (
    Candidate,
    Champion,
    Gating,
    Idle,
    Rollout,
    State,
    Steady,
    Training,
    arms,
    same_arms,
)
from upturn.improve.triggers import Signs

MAX_EXTENSIONS = 3
# After these the same instant may hold more to decide; after any other, time has to pass.
RESTLESS = frozenset({"adopt", "yield", "retrain", "judge"})
# Nothing changes by these: lists of decisions may leave them out.
QUIET = frozenset({"wait", "keep", "watch"})


class Verdict(msgspec.Struct, frozen=True):
    """What to do, why, and the state that it leaves behind."""

    action: str
    why: str
    state: State

    @property
    def rests(self) -> bool:
        """Whether nothing more can be decided at this instant."""
        return self.action not in RESTLESS


def needs(loop: Loop, state: State, now: datetime) -> frozenset[str]:
    """The evidence that `decide` will look at: 'version', 'drift', 'performance', and so on.

    The route is always looked at. A loop that is cooling down needs nothing else.
    """
    match state:
        case Idle():
            return frozenset({"version"})
        case Steady():
            return frozenset() if _quiet(state, now) else loop.when.needs
        case Training():
            return frozenset({"training"})
        case Gating():
            return frozenset({"gate"})
        case Rollout():
            return frozenset({"guards"})


def decide(loop: Loop, state: State, evidence: Evidence, now: datetime) -> Verdict:
    """What the loop does next. Pure: the same arguments give the same verdict."""
    if evidence.refused:
        return _refused(loop, state, evidence, now)
    if _changed_by_hand(state, evidence):
        answering = ", ".join(
            f"{loop.endpoint.model_name}:{arm.version}" for arm in evidence.route.arms
        )
        return Verdict(
            "yield",
            f"Revision {evidence.route.revision} of the route is not the loop's: somebody put"
            f" {answering or 'nothing'} there. It stays, and the loop looks at it anew.",
            Idle(seen=evidence.route.revision),
        )
    match state:
        case Idle():
            return _idle(loop, evidence, now)
        case Steady():
            return _steady(loop, state, evidence, now)
        case Training():
            return _training(loop, state, evidence, now)
        case Gating():
            return _gating(loop, state, evidence, now)
        case Rollout():
            return _rollout(loop, state, evidence, now)


def _changed_by_hand(state: State, evidence: Evidence) -> bool:
    if isinstance(state, Idle) or evidence.route.revision == state.seen:
        return False
    return not same_arms(evidence.route.arms, arms(state))


def _quiet(state: Steady, now: datetime) -> bool:
    return state.quiet_until is not None and now < state.quiet_until


def _idle(loop: Loop, evidence: Evidence, now: datetime) -> Verdict:
    seen, found = evidence.route, evidence.training
    if not seen.arms:
        why = (
            f"Nobody answers for {loop.endpoint.name!r} yet: deploy a version, and the loop"
            " takes it from there."
        )
        return Verdict("wait", why, Idle(seen=seen.revision))
    if len(seen.arms) > 1 or not isinstance(found, Trained):
        why = (
            f"Revision {seen.revision} of the route has {len(seen.arms)} arms that the loop did not"
            " make; it waits until one version answers alone."
        )
        return Verdict("wait", why, Idle(seen=seen.revision))
    champion = Champion(
        version=found.version,
        since=now,
        trained_until=found.trained_until,
        reference={name: found.metrics[name] for name in loop.metrics if name in found.metrics},
    )
    until = found.trained_until
    known = (
        f"trained on data until {instant_text(until)}" if until else "trained nobody knows on what"
    )
    why = f"{_name(loop, found.version)} answers for {loop.endpoint.name!r}, {known}: the champion."
    return Verdict("adopt", why, Steady(champion=champion, seen=seen.revision))


def _steady(loop: Loop, state: Steady, evidence: Evidence, now: datetime) -> Verdict:
    state = msgspec.structs.replace(state, seen=evidence.route.revision)
    if _quiet(state, now):
        assert state.quiet_until is not None
        why = f"Cooling down until {instant_text(state.quiet_until)}."
        return Verdict("keep", why, state)
    finding = loop.when.ask(
        Signs(
            now=now,
            min_rows=loop.min_rows,
            trained_until=state.champion.trained_until,
            reference=state.champion.reference,
            drift=evidence.drift,
            performance=evidence.performance,
        )
    )
    why = finding.why[:1].upper() + finding.why[1:] + "."
    if not finding.fired:
        champion, measured = _with_reference(loop, state.champion, evidence, now)
        return Verdict("keep", why + measured, msgspec.structs.replace(state, champion=champion))
    until = now - loop.holdout
    training = Training(
        champion=state.champion,
        since=now,
        start=until - loop.window,
        until=until,
        seen=evidence.route.revision,
    )
    return Verdict("retrain", why, training)


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


def _training(loop: Loop, state: Training, evidence: Evidence, now: datetime) -> Verdict:
    found = evidence.training
    if found is None:
        return Verdict("wait", "The training has not ended.", _seen(state, evidence))
    if isinstance(found, TrainingFailed):
        resume = f" Resume it with: upturn resume {found.run}." if found.run else ""
        why = f"The training made no version: {found.problem.message}{resume}"
        return Verdict("failed", why, _steady_again(loop, state.champion, evidence, now))
    name = _name(loop, found.version)
    if found.version == state.champion.version:
        why = f"The training gave the champion again, {name}: there is nothing to compare."
        return Verdict("refuse", why, _steady_again(loop, state.champion, evidence, now))
    candidate = Candidate(
        version=found.version,
        trained_until=found.trained_until,
        reference={key: found.metrics[key] for key in loop.metrics if key in found.metrics},
    )
    gating = Gating(
        champion=state.champion, candidate=candidate, since=now, seen=evidence.route.revision
    )
    why = (
        f"{name} was trained on data from {instant_text(state.start)} until"
        f" {instant_text(state.until)}; later rows are the gate's."
    )
    return Verdict("judge", why, gating)


def _gating(loop: Loop, state: Gating, evidence: Evidence, now: datetime) -> Verdict:
    gate, seen = loop.gate, evidence.gate
    if gate is None:
        return _next_stage(loop, state, 0, "The loop has no gate.", evidence, now)
    if seen is None:
        return Verdict("wait", "The gate has not looked yet.", _seen(state, evidence))
    if seen.impossible or seen.comparison is None or seen.labelled < loop.min_rows:
        return _gate_without_rows(loop, state, seen, evidence, now)
    if gate.metric in loop.metrics or seen.values:
        candidate = msgspec.structs.replace(
            state.candidate, reference={**state.candidate.reference, **seen.values}
        )
        state = msgspec.structs.replace(state, candidate=candidate)
    said = _gate_text(loop, gate, state, seen)
    if gate.passed(seen.comparison):
        return _next_stage(loop, state, 0, said, evidence, now)
    why = f"{said} That does not show it to be better by more than {gate.by:g}."
    return Verdict("refuse", why, _steady_again(loop, state.champion, evidence, now))


def _gate_text(loop: Loop, gate: Beats, state: Gating, seen: GateSeen) -> str:
    assert seen.comparison is not None
    return (
        f"On {seen.labelled:,} labelled rows since {instant_text(seen.since)},"
        f" {_name(loop, state.candidate.version)} has {gate.metric}"
        f" {seen.comparison.candidate:.4f} and {_name(loop, state.champion.version)}"
        f" {seen.comparison.champion:.4f}:"
        f" {better_or_worse(gate.metric, gate.gain(seen.comparison))}."
    )


def _gate_without_rows(
    loop: Loop, state: Gating, seen: GateSeen, evidence: Evidence, now: datetime
) -> Verdict:
    lack = seen.note or f"{seen.labelled:,} labelled rows are too few of {loop.min_rows:,}"
    if not seen.impossible and now - state.since < loop.holdout:
        return Verdict("wait", f"The gate can't judge yet: {lack}.", _seen(state, evidence))
    why = f"The gate can't judge {_name(loop, state.candidate.version)}: {lack}."
    return Verdict("refuse", why, _steady_again(loop, state.champion, evidence, now))


def _rollout(loop: Loop, state: Rollout, evidence: Evidence, now: datetime) -> Verdict:
    guards = [(guard, _guard_seen(guard, evidence)) for guard in loop.guard]
    said = " ".join(guard_text(guard, seen) for guard, seen in guards)
    broken = [guard.metric for guard, seen in guards if _broken(guard, seen)]
    name = _name(loop, state.candidate.version)
    if broken:
        why = f"{name} does harm to {' and '.join(broken)}. {said}"
        return Verdict("rollback", why, _steady_again(loop, state.champion, evidence, now))
    ends = state.since + state.stage.lasts * (1 + state.extended)
    if now < ends:
        why = f"{name} is in {state.stage} until {instant_text(ends)}. {said}".rstrip()
        return Verdict("watch", why, _seen(state, evidence))
    lacking = [guard.metric for guard, seen in guards if _lacks(guard, seen, state)]
    if not lacking:
        passed = f"{name} came through {state.stage} without evidence of harm. {said}".rstrip()
        return _next_stage(loop, state, state.index + 1, passed, evidence, now)
    lack = f"too few rows for {' and '.join(lacking)} of the {state.stage.min_rows:,} asked for"
    if state.extended < MAX_EXTENSIONS:
        longer = msgspec.structs.replace(state, extended=state.extended + 1)
        why = f"{name} stays in {state.stage} for as long again: {lack}. {said}"
        return Verdict("extend", why, _seen(longer, evidence))
    why = f"{name} was extended {state.extended} times in {state.stage}: still {lack}. {said}"
    why += " Give it a larger share, more time or a smaller min_rows."
    return Verdict("rollback", why, _steady_again(loop, state.champion, evidence, now))


def _guard_seen(guard: NoWorse, evidence: Evidence) -> GuardSeen | None:
    return next((seen for seen in evidence.guards if seen.metric == guard.metric), None)


def _broken(guard: NoWorse, seen: GuardSeen | None) -> bool:
    return seen is not None and seen.comparison is not None and guard.broken(seen.comparison)


def _lacks(guard: NoWorse, seen: GuardSeen | None, state: Rollout) -> bool:
    if seen is None or seen.exempt:
        return seen is None
    if seen.rows < state.stage.min_rows:
        return True
    # A bound for a 99th percentile takes 299 rows, which a small canary may never have.
    return seen.comparison is None and guard.metric != LATENCY


def _next_stage(
    loop: Loop, state: Gating | Rollout, index: int, why: str, evidence: Evidence, now: datetime
) -> Verdict:
    name = _name(loop, state.candidate.version)
    stage = loop.rollout[index] if index < len(loop.rollout) else Full()
    if isinstance(stage, Full):
        champion = Champion(
            version=state.candidate.version,
            since=now,
            trained_until=state.candidate.trained_until,
            reference=state.candidate.reference,
        )
        steady = Steady(champion=champion, previous=state.champion, seen=evidence.route.revision)
        return Verdict("promote", f"{why} {name} becomes the champion.", steady)
    rollout = Rollout(
        champion=state.champion,
        candidate=state.candidate,
        index=index,
        stage=stage,
        since=now,
        seen=evidence.route.revision,
    )
    action = "shadow" if isinstance(stage, Shadow) else "canary"
    return Verdict(action, f"{why} Next: {stage}.", rollout)


def _refused(loop: Loop, state: State, evidence: Evidence, now: datetime) -> Verdict:
    reason = evidence.refused.rstrip(".")
    if isinstance(state, Rollout):
        why = f"The server does not serve {_name(loop, state.candidate.version)}: {reason}."
        return Verdict("rollback", why, _steady_again(loop, state.champion, evidence, now))
    if isinstance(state, Steady) and state.previous is not None:
        why = f"The server does not serve {_name(loop, state.champion.version)}: {reason}."
        return Verdict("rollback", why, _steady_again(loop, state.previous, evidence, now))
    return Verdict("wait", f"The server does not take the route: {reason}.", _seen(state, evidence))


def _steady_again(loop: Loop, champion: Champion, evidence: Evidence, now: datetime) -> Steady:
    return Steady(champion=champion, quiet_until=now + loop.cooldown, seen=evidence.route.revision)


def _seen(state: State, evidence: Evidence) -> State:
    return msgspec.structs.replace(state, seen=evidence.route.revision)


def _name(loop: Loop, version: int) -> str:
    return f"{loop.endpoint.model_name}:{version}"
