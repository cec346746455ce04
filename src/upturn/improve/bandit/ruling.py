"""What a bandit decides, as a pure function of its state and of the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from upturn.core.linear_policy import LinearPolicy
from upturn.core.records import Arm
from upturn.improve.bandit.bandit import Bandit
from upturn.improve.bandit.best import Posterior, best_probabilities
from upturn.improve.bandit.evidence import ArmSeen, Evidence
from upturn.improve.bandit.linear import Learned
from upturn.improve.bandit.shares import shares
from upturn.improve.bandit.thompson import Thompson

_RESTART = "--restart begins anew."
Action = Literal["begin", "keep", "reshare", "yield"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a bandit made of its endpoint: the arms, and whether the route is still its own."""

    arms: tuple[Arm, ...] = ()
    seen: int = 0  # the revision of the route that was decided on
    on: bool = False
    policy: LinearPolicy | None = None


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, why, and what was believed of each arm."""

    action: Action
    why: str
    state: State
    posteriors: dict[str, Posterior] = {}
    best: dict[str, float] = {}
    otherwise: str = ""


def decide(
    bandit: Bandit, state: State | None, evidence: Evidence, *, anew: bool = False
) -> Ruling:
    """The ruling. `anew` takes the endpoint over again after somebody else changed its route."""
    mine = _versions(evidence.arms) == dict(bandit.arms) and all(
        one.share > 0 for one in evidence.arms if not one.shadow
    )
    if anew or state is None or _versions(state.arms) != dict(bandit.arms):
        return _begin(bandit, evidence, mine=mine)
    revision = evidence.revision or 0
    if state.on and mine:
        return _reshare(bandit, evidence)
    left = msgspec.structs.replace(state, seen=revision, on=False)
    if state.on:
        why = f"Somebody changed the route to other arms (revision {revision})."
        return Ruling(action="yield", why=why, state=left, otherwise=_RESTART)
    why = "Somebody else decides who answers, so the shares are theirs."
    return Ruling(action="keep", why=why, state=left, otherwise=_RESTART)


def _begin(bandit: Bandit, evidence: Evidence, *, mine: bool) -> Ruling:
    now = {arm.name: arm.share for arm in evidence.arms} if mine else {}
    equal = 1.0 / len(bandit.arms)
    found = shares([now.get(name, equal) for name in bandit.arms], bandit.least)
    arms = _arms(bandit, found)
    why = f"It begins with {_spelled(arms)}."
    state = State(arms=arms, seen=evidence.revision or 0, on=True)
    return Ruling(action="begin", why=why, state=state)


def _reshare(bandit: Bandit, evidence: Evidence) -> Ruling:
    now = {arm.name: arm.share for arm in evidence.arms}
    state = State(
        arms=_arms(bandit, [now[name] for name in bandit.arms]),
        seen=evidence.revision or 0,
        on=True,
        policy=evidence.policy,
    )
    few = [arm for arm in evidence.seen if arm.reward.rows < bandit.min_rows]
    if few:
        why = (
            f"{few[0].name} has {few[0].reward.rows:,} rows with a reward, "
            f"fewer than {bandit.min_rows:,}."
        )
        return Ruling(action="keep", why=why, state=state, otherwise="More rewards.")
    if isinstance(bandit.policy, Thompson):
        return _by_arms(bandit, bandit.policy, evidence, state)
    if evidence.learned is None:
        raise ValueError("a policy that looks at rows has to be learned first")
    return _by_rows(bandit, evidence.learned, state)


def _by_arms(bandit: Bandit, policy: Thompson, evidence: Evidence, state: State) -> Ruling:
    believed = policy.posteriors(evidence.seen)
    best = best_probabilities(believed)
    wanted = shares(best, bandit.least)
    moved = max(abs(one.share - share) for one, share in zip(state.arms, wanted, strict=True))
    held = [name for name, one in zip(bandit.arms, best, strict=True) if one < bandit.least]
    stays = moved < bandit.step and state.policy is None
    arms = state.arms if stays else _arms(bandit, wanted)
    ends = f"No share would change by {bandit.step:g}." if stays else f"Now {_spelled(arms)}."
    return Ruling(
        action="keep" if stays else "reshare",
        why=f"{_believed(evidence.seen, best)} {ends}",
        state=msgspec.structs.replace(state, arms=arms, policy=None),
        posteriors=dict(zip(bandit.arms, believed, strict=True)),
        best=dict(zip(bandit.arms, best, strict=True)),
        otherwise=f"{', '.join(held)} would have less but for least={bandit.least:g}."
        if held
        else "",
    )


def _by_rows(bandit: Bandit, learned: Learned, state: State) -> Ruling:
    looks = ", ".join(one.name for one in learned.policy.inputs)
    said = (
        f"By {looks} a row is expected to earn {learned.value:.4g}, "
        f"with equal shares {learned.uniform:.4g}."
    )
    if state.policy is not None and learned.moved < bandit.step:
        why = f"{said} A row's chances would change by {learned.moved:.2g} on average."
        return Ruling(action="keep", why=why, state=state, best=learned.shares)
    arms = _arms(bandit, shares([learned.shares[name] for name in bandit.arms], bandit.least))
    return Ruling(
        action="reshare",
        why=f"{said} On average {_spelled(arms)}.",
        state=msgspec.structs.replace(state, arms=arms, policy=learned.policy),
        best=learned.shares,
    )


def _arms(bandit: Bandit, given: Sequence[float]) -> tuple[Arm, ...]:
    return tuple(
        Arm(name=name, version=version, share=share)
        for (name, version), share in zip(bandit.arms.items(), given, strict=True)
    )


def _versions(arms: Sequence[Arm]) -> Mapping[str, int]:
    return {arm.name: arm.version for arm in arms if not arm.shadow}


def _spelled(arms: Sequence[Arm]) -> str:
    return ", ".join(f"{arm.name} {arm.share * 100:.4g} %" for arm in arms)


def _believed(seen: Sequence[ArmSeen], best: Sequence[float]) -> str:
    parts = [
        f"{arm.name} earned {arm.reward.mean:.4g} over {arm.reward.rows:,} rows "
        f"(best with {chance:.3g})"
        for arm, chance in zip(seen, best, strict=True)
    ]
    return "; ".join(parts) + "."
