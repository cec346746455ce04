"""What Thompson sampling would have earned, by the random policy's log, and the other way round.

    python examples/bandit/bandit.py

Each policy also ran, so what it really earned is known as well: from as few clicks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from data import CAMPAIGNS, Floats, Policy, rounds, shown, thompson

import upturn as up
from upturn.improve.offpolicy.result import PolicyValue
from upturn.improve.statistics.interval import Interval

ESTIMATORS = ["IPS", "clipped", "SNIPS", "DR", "switch-DR"]
EARLY = 300


@dataclass(frozen=True)
class Question:
    """A policy, the log that is asked about it, and the log of what it really earned."""

    name: str
    log: Policy
    own: Policy
    every: Callable[[str], Floats]  # of a campaign: (3, items), its probabilities by position


QUESTIONS = [
    Question("Thompson sampling as it began", "random", "bts", thompson),
    Question("Thompson sampling as it ran", "random", "bts", shown),
    Question("the random policy", "bts", "random", lambda one: even(thompson(one))),
]


@dataclass(frozen=True)
class Finding:
    """What a policy really earned, and what another's log says that it would have."""

    campaign: str
    question: Question
    clicks: int  # of the policy's own log
    earned: Interval
    judged: PolicyValue


def main() -> None:
    """Print each comparison, how near the simulated policy is, and what it all comes to."""
    findings = [judge(campaign, one) for campaign in CAMPAIGNS for one in QUESTIONS]
    for found in findings:
        show(found)
    compare_with_the_log()
    summarize(findings)


def judge(campaign: str, question: Question) -> Finding:
    """The value of one policy by the log of the other."""
    own = rounds(question.own, campaign)
    names = {"action": "item", "reward": "click"}
    itself = by_position(even(thompson(campaign)))  # the log's own earnings need no policy
    real = up.evaluate_policy(own, itself, model=None, **names)
    found = up.evaluate_policy(
        rounds(question.log, campaign),
        {question.name: by_position(question.every(campaign))},
        context=["position"],
        reward_range=(0, 1),
        **names,
    )
    clicks = int(own["click"].to_numpy().sum())
    judged = found.policies[question.name]
    return Finding(campaign, question, clicks, real.logged.interval, judged)


def even(every: Floats) -> Floats:
    """The same probability for each item."""
    return np.full_like(every, 1 / every.shape[1])


def by_position(every: Floats) -> Callable[[pa.Table], dict[int, Floats]]:
    """A policy: with which probability each item comes to the position of a round."""

    def policy(table: pa.Table) -> dict[int, Floats]:
        return dict(enumerate(every[table["position"].to_numpy() - 1].T))

    return policy


def show(found: Finding) -> None:
    """Print one comparison."""
    earned, value = found.earned, found.judged
    print(f"{found.campaign}: {value.name}, by the log of {found.question.log}")
    print(
        f"  really earned   {earned.estimate:7.2%}   {earned.low:6.2%} to {earned.high:6.2%}   "
        f"{found.clicks} clicks in {value.rounds:,} rounds of its own"
    )
    for name in ESTIMATORS:
        one = value.estimates[name]
        ends = one.interval
        cut = "" if one.threshold in {None, math.inf} else f"   weights cut at {one.threshold:g}"
        print(f"  {name:14}  {ends.estimate:7.2%}   {ends.low:6.2%} to {ends.high:6.2%}{cut}")
    bounded = value.bounded
    print(f"  at every look            {bounded.low:6.2%} to {bounded.high:6.2%}")
    print(
        f"  worth {value.effective_rounds:,.0f} rounds of its own; greatest weight "
        f"{value.max_weight:,.1f}, mean {value.mean_weight.estimate:.2f}"
    )
    for warning in value.warnings:
        print(f"  ! {warning}")
    print()


def compare_with_the_log() -> None:
    """Print how near Thompson sampling by its prior is to the probabilities that it logged."""
    print("Correlation of the probabilities by its prior with those that Thompson sampling logged:")
    for campaign in CAMPAIGNS:
        log = rounds("bts", campaign)
        item, position = log["item"].to_numpy(), log["position"].to_numpy()
        began = thompson(campaign)[position - 1, item]
        real = log["propensity"].to_numpy()
        early = np.corrcoef(began[:EARLY], real[:EARLY])[0, 1]
        whole = np.corrcoef(began, real)[0, 1]
        print(f"  {campaign:6} {early:.2f} in the first {EARLY} rounds, {whole:.2f} in the week")
    print("It learned: what it began as is not what earned the clicks of the week.\n")


def summarize(findings: list[Finding]) -> None:
    """Print for how many comparisons the two intervals agree."""
    apart = [one for one in findings if not overlap(one.earned, one.judged.value)]
    least, most = min(one.clicks for one in findings), max(one.clicks for one in findings)
    agree = len(findings) - len(apart)
    print(
        f"{agree} of {len(findings)} estimates (DR) agree with what the policy really earned, "
        f"as far as {least} to {most} clicks can say."
    )
    for one in apart:
        print(f"  not: {one.campaign}, {one.judged.name}")


def overlap(a: Interval, b: Interval) -> bool:
    """Whether two intervals have a value in common."""
    return a.low <= b.high and b.low <= a.high


if __name__ == "__main__":
    main()
