"""Conclusions of a rehearsal in sentences: who won, at what cost, and how far to trust that."""

from __future__ import annotations

import math

from upturn.improve.rehearsal import Difference, Policy, Rehearsal

_LEVEL = 0.05


def conclusion(rehearsal: Rehearsal) -> str:
    """Who won by the deciding metric, or that it can't be told, and at what cost."""
    deciding = rehearsal.metrics[0] if rehearsal.metrics else ""
    first = next((one for one in rehearsal.policies if one.kind == "loop"), None)
    sentences = [
        _against(rehearsal, "loop" if first is None else first.name, one)
        for one in rehearsal.differences
        if one.comparison.metric == deciding
    ]
    sentences += [sentence for sentence in (_best(rehearsal), _selected(rehearsal)) if sentence]
    trained = [one for one in rehearsal.policies if one.kind in ("loop", "calendar")]
    if trained:
        costs = ", ".join(f"{one.name} {one.retrains}" for one in trained)
        sentences.append(f"Retrains: {costs}.")
    return " ".join(sentences)


def _against(rehearsal: Rehearsal, loop: str, one: Difference) -> str:
    found = one.comparison
    against = _named(rehearsal, one.against)
    subject = "the loop" if loop == "loop" else loop
    opening = subject[0].upper() + subject[1:]
    said = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    if found.difference == 0 and found.low == found.high:
        return f"{opening} and {against} gave the same answers."
    if not found.conclusive:
        return f"Whether {subject} or {against} had the better {found.metric} can't be told."
    if one.verdict == "open":
        return (
            f"Whether {subject} or {against} had the better {found.metric} can't be told: {said}."
        )
    return f"{opening}'s {found.metric} was {one.verdict} than that of {against}: {said}."


def _named(rehearsal: Rehearsal, name: str) -> str:
    policy = rehearsal.policy(name)
    if policy is None or policy.kind == "never":
        return "never retraining"
    if policy.kind == "calendar":
        return f"retraining every {policy.settings.get('every', rehearsal.calendar)}"
    return name


def _best(rehearsal: Rehearsal) -> str:
    """Of more than a loop and its baselines: which was the best, and which are not told from it."""
    if not rehearsal.best or not _many(rehearsal):
        return ""
    real = [one for one in rehearsal.policies if one.kind != "oracle"]
    known = [one for one in real if one.regret is not None and one.regret.low is not None]
    opening = f"In hindsight {rehearsal.best} lost the least"
    if len(known) < len(real):
        return f"{opening}; over so few days nobody can tell whether by chance."
    others = [one.name for one in known if one.name != rehearsal.best and not _worse(one)]
    worse = [one.name for one in known if _worse(one)]
    if not others:
        return f"{opening}, and each of the {len(worse)} others is shown to be worse."
    said = f"{opening}, and can't be told from {_listed(others)}"
    return f"{said}; shown to be worse: {_listed(worse)}." if worse else f"{said}."


def _worse(policy: Policy) -> bool:
    seen = policy.regret
    return seen is not None and seen.low is not None and seen.low > 0


def _selected(rehearsal: Rehearsal) -> str:
    found = rehearsal.selection
    if found is None or not _many(rehearsal) or math.isnan(found.p):
        return ""
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    words = "is" if found.p < _LEVEL else "is not"
    return (
        f"That the best of these {found.among} beats never retraining {words} more than the luck of"
        f" having tried {found.among} ({p})."
    )


def _many(rehearsal: Rehearsal) -> bool:
    """Whether there is more than one loop beside the two baselines."""
    return sum(one.kind not in ("never", "oracle") for one in rehearsal.policies) > 2


def _listed(names: list[str]) -> str:
    if len(names) <= 1:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
