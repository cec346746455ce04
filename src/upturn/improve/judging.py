"""Judging: what a gate says of a candidate, in words, and which of its demands are not met."""

from __future__ import annotations

import msgspec

from upturn.improve.evidence import GateSeen, SliceSeen
from upturn.improve.rollout import Beats, Gate, NoWorse, Slices, parts
from upturn.improve.say import better_or_worse, count, instant_text


class Fault(msgspec.Struct, frozen=True):
    """A demand that is not met: in words, and what would have met it."""

    says: str
    otherwise: str


def gate_text(gate: Gate, seen: GateSeen, candidate: str, champion: str) -> str:
    """What both versions showed on the gate's rows."""
    said = [
        f"{part.metric} {found.candidate:.4f} and {champion} {found.champion:.4f}:"
        f" {better_or_worse(part.metric, part.gain(found))}"
        for part, found in zip(parts(gate), seen.comparisons, strict=True)
    ]
    rows = f"On {seen.labelled:,} labelled rows since {instant_text(seen.since)},"
    return f"{rows} {candidate} has {'; '.join(said)}.{_slices_text(gate, seen)}"


def failing(gate: Gate, seen: GateSeen) -> list[Fault]:
    """The demands that are not met; none when the candidate passes."""
    faults: list[Fault] = []
    slices = seen.slices or ((),) * len(parts(gate))
    for part, found, several in zip(parts(gate), seen.comparisons, slices, strict=True):
        if not part.passed(found):
            faults.append(_fault(part, part.gain(found)[1]))
        if part.slices is not None:
            faults += [_slice_fault(part, part.slices, one) for one in harmed(part, several)]
    return faults


def demands(gate: Gate) -> str:
    """What a candidate has to show, so what it did not show would have refused it."""
    asked = f"Not to show {' and '.join(part.asks for part in parts(gate))}"
    sliced = any(part.slices for part in parts(gate))
    return f"{asked}, or harm shown in a part of the rows." if sliced else f"{asked}."


def harmed(gate: Beats | NoWorse, slices: tuple[SliceSeen, ...]) -> list[SliceSeen]:
    """The parts of the rows in which the candidate is shown to be worse by more than is allowed.

    By Holm's step-down procedure (1979) over all parts that could be tested, so of candidates that
    harm no part one in 1 / `alpha` at most is said to.
    """
    tested = sorted(
        (one for one in slices if one.p_harm is not None), key=lambda one: one.p_harm or 0.0
    )
    found: list[SliceSeen] = []
    for place, one in enumerate(tested):
        assert one.p_harm is not None
        if one.p_harm > gate.alpha / (len(tested) - place):
            break
        found.append(one)
    return found


def _fault(gate: Beats | NoWorse, low: float) -> Fault:
    if isinstance(gate, Beats):
        says = f"That does not show it to be better by more than {gate.by:g}."
        return Fault(
            says, f"A lower bound of the gain in {gate.metric} above {gate.by:g}: it is {low:+.4f}."
        )
    says = f"That does not show {gate.metric} to be no worse by {gate.margin:g}."
    return Fault(
        says,
        f"An upper bound of the harm to {gate.metric} up to {gate.margin:g}: it is {-low:.4f}.",
    )


def _slice_fault(gate: Beats | NoWorse, slices: Slices, one: SliceSeen) -> Fault:
    assert one.comparison is not None
    gain = better_or_worse(gate.metric, gate.gain(one.comparison))
    says = (
        f"For {one.name} ({count(one.rows, 'row')}) its {gate.metric} is {gain}: shown to be worse"
        f" by more than {slices.no_worse_by:g}."
    )
    return Fault(says, f"No harm shown for {one.name}.")


def _slices_text(gate: Gate, seen: GateSeen) -> str:
    judged = sum(one.p_harm is not None for several in seen.slices for one in several)
    asked = [name for part in parts(gate) if part.slices for name in part.slices.names]
    if not asked:
        return ""
    names = ", ".join(dict.fromkeys(asked))
    return f" Its parts by {names}: {judged} could be judged."
