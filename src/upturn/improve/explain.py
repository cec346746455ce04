"""Explaining: a stored decision for people: what was asked, what was seen, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from upturn.core.records import Decision
from upturn.improve.comparison import Comparison
from upturn.improve.evidence import Evidence, GateSeen, SliceSeen, Trained
from upturn.improve.rollout import ERRORS, LATENCY, Approving
from upturn.improve.say import count, instant_text
from upturn.improve.state import (
    Gating,
    Idle,
    Rollout,
    State,
    Steady,
    Training,
    arms,
    state_from_json,
)

_COLUMNS = 5  # of drift, the largest


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision in words; `seen` are lines of a name and what was seen of it."""

    asked: str
    seen: tuple[tuple[str, str], ...]
    did: str
    otherwise: str


def explain(decision: Decision, before: Decision | None) -> Explanation:
    """Explain a decision by its own record and the one before, from whose state it started."""
    start = Idle() if before is None else state_from_json(before.state)
    evidence = msgspec.convert(decision.evidence, Evidence)
    return Explanation(
        asked="A person asked for it back." if evidence.undo else _asked(start),
        seen=tuple(_seen(evidence)),
        did=_did(decision, start, state_from_json(decision.state)),
        otherwise=decision.otherwise or "Nothing: it is a matter of fact.",
    )


def _asked(state: State) -> str:
    match state:
        case Idle():
            return "Is there a version that answers alone, to be the champion?"
        case Steady():
            return f"Is there a reason to train another than version {state.champion.version}?"
        case Training():
            return "Did the training make a candidate?"
        case Gating():
            return (
                f"Is version {state.candidate.version} shown to be better than"
                f" version {state.champion.version}, on rows that neither has seen?"
            )
        case Rollout() if isinstance(state.stage, Approving):
            return f"Has a person said yes or no to version {state.candidate.version}?"
        case Rollout():
            return (
                f"Does version {state.candidate.version} do harm in {state.stage},"
                " and is the stage over?"
            )


def _seen(evidence: Evidence) -> Iterator[tuple[str, str]]:
    route = evidence.route
    shares = ", ".join(
        f"version {arm.version} {'as a shadow' if arm.shadow else f'{arm.share:.0%}'}"
        for arm in route.arms
    )
    yield "route", f"revision {route.revision}: {shares or 'nobody answers'}"
    if evidence.refused:
        yield "server", evidence.refused
    yield from _champion(evidence)
    yield from _candidate(evidence)
    if evidence.undo is not None:
        undo = evidence.undo
        said = f"{undo.who} takes decision {undo.decision} ({undo.action}) back"
        yield "undo", f"{said}: {undo.why}" if undo.why else said


def _champion(evidence: Evidence) -> Iterator[tuple[str, str]]:
    drift = evidence.drift
    if drift is not None:
        span = f"{count(drift.rows, 'row')} since {instant_text(drift.since)}"
        yield "drift", f"PSI after noise, on {span}"
        for column in drift.columns[:_COLUMNS]:
            yield "", f"{column.column}  {column.index:.3f}"
        if len(drift.columns) > _COLUMNS:
            yield "", f"… and {len(drift.columns) - _COLUMNS} less than that"
    recent = evidence.performance
    if recent is not None:
        values = ", ".join(f"{name} {value:.4f}" for name, value in recent.values.items())
        rows = f"{recent.labelled:,} labels of {count(recent.rows, 'row')}"
        yield "performance", f"{values or 'nothing measured'} on {rows}"
    labels = evidence.labels
    if labels is not None:
        newest = f", the newest of {instant_text(labels.newest)}" if labels.newest else ""
        yield "labels", f"{labels.labelled:,} since {instant_text(labels.since)}{newest}"
    if evidence.alarms is not None:
        said = "; ".join(f"{name}: {text}" for name, text in evidence.alarms.going_on.items())
        yield "alarms", said or "none goes on"


def _candidate(evidence: Evidence) -> Iterator[tuple[str, str]]:
    made = evidence.training
    if isinstance(made, Trained):
        until = f", on data until {instant_text(made.trained_until)}" if made.trained_until else ""
        run = f", by run {made.run}" if made.run else ""
        yield "trained", f"version {made.version}{until}{run}"
    elif made is not None:
        yield "trained", f"nothing: {made.problem.message}"
    if evidence.gate is not None:
        yield from _gate(evidence.gate)
    for guard in evidence.guards:
        rows = count(guard.rows, "row")
        if guard.exempt:
            yield "guard", f"{guard.metric}: {guard.exempt}"
        elif guard.comparison is None:
            yield "guard", f"{guard.metric}: can't be said yet, on {rows}"
        else:
            yield "guard", f"{interval_text(guard.comparison)} on {rows}, at any look"
    exposure = evidence.exposure
    if exposure is not None:
        answered = f"{exposure.exposed:,} of {count(exposure.answered, 'request')}"
        yield "exposed", f"{answered} since {instant_text(exposure.since)} were a candidate's"
    if evidence.approval is not None:
        said = "approved" if evidence.approval.approved else "rejected"
        why = f": {evidence.approval.why}" if evidence.approval.why else ""
        yield "approval", f"{evidence.approval.who} {said}{why}"


def _gate(gate: GateSeen) -> Iterator[tuple[str, str]]:
    rows = f"{gate.labelled:,} labels of {count(gate.rows, 'row')} since {instant_text(gate.since)}"
    yield "gate", f"{rows}{': ' + gate.note if gate.note else ''}"
    for comparison in gate.comparisons:
        yield "", f"{interval_text(comparison)}, {comparison.blocks} days"
    for one in (one for several in gate.slices for one in several):
        yield "", _slice(one)


def _slice(one: SliceSeen) -> str:
    rows = count(one.rows, "row")
    if one.comparison is None or one.p_harm is None:
        return f"{one.name}: too few or too alike, on {rows}"
    return f"{one.name}: {interval_text(one.comparison)} on {rows}, p of harm {one.p_harm:.2g}"


def interval_text(found: Comparison) -> str:
    """A comparison with its interval: 'auc 0.7700 − 0.7500 = +0.0200 [+0.0100, +0.0300]'."""
    if found.metric == LATENCY:
        values = f"{1000 * found.candidate:.1f} ms against {1000 * found.champion:.1f}"
        ends = f"[{found.low:+.1%}, {found.high:+.1%}]"
        return f"{found.metric} {values} = {found.difference:+.1%} {ends}"
    if found.metric == ERRORS:
        values = f"{found.candidate:.2%} − {found.champion:.2%}"
        ends = f"[{found.low:+.2%}, {found.high:+.2%}]"
        return f"{found.metric} {values} = {found.difference:+.2%} {ends}"
    values = f"{found.candidate:.4f} − {found.champion:.4f}"
    ends = f"[{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.metric} {values} = {found.difference:+.4f} {ends}"


def _did(decision: Decision, start: State, end: State) -> str:
    if arms(start) == arms(end) or not arms(end):
        return f"{decision.action}: the route stayed as it was."
    shares = ", ".join(
        f"version {arm.version} {'as a shadow' if arm.shadow else f'{arm.share:.0%}'}"
        for arm in arms(end)
    )
    return f"{decision.action}: the route became {shares}."
