"""How often off-policy intervals hold the truth, and how wide they are, over many simulated logs.

    python benchmarks/statistics_offpolicy.py [--logs 4000]

A bandit of three actions and two contexts whose truth is known. `sd` is how much the estimates
really vary between logs, `width` the mean half-width of the interval over 1.96 sd: 1 is right.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

import upturn as up
from upturn.improve.offpolicy.anytime import EmpiricalBernstein
from upturn.improve.offpolicy.result import PolicyValue
from upturn.improve.statistics.interval import Interval
from upturn.improve.statistics.sequences import asymptotic_interval

PROPENSITY = np.array([0.5, 0.3, 0.2])
NEW = np.array([0.1, 0.2, 0.7])
CHANCES = {
    "common rewards": np.array([[0.1, 0.3, 0.5], [0.3, 0.2, 0.3]]),
    "rare rewards": np.array([[0.02, 0.03, 0.05], [0.03, 0.02, 0.03]]),
}


def main() -> None:
    """Print it for as many logs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=4000)
    report(parser.parse_args().logs)


def run(*, quick: bool) -> None:
    """Print it."""
    report(200 if quick else 4000)


def report(logs: int) -> None:
    """Coverage at one look, for several lengths of log; then error at every look."""
    for name, chance in CHANCES.items():
        for rounds in (200, 1000, 5000):
            one_look(name, chance, rounds, logs)
    every_look(logs)


def one_look(name: str, chance: np.ndarray, rounds: int, logs: int) -> None:
    """Print for each estimator the share of 95 % intervals with the truth in them."""
    truth = float((chance @ NEW).mean())
    hits: dict[str, int] = defaultdict(int)
    values: dict[str, list[float]] = defaultdict(list)
    widths: dict[str, list[float]] = defaultdict(list)
    random = np.random.default_rng(rounds)
    for _ in range(logs):
        for method, interval in intervals(simulated(random, chance, rounds)):
            hits[method] += interval.low <= truth <= interval.high
            values[method].append(interval.estimate)
            widths[method].append((interval.high - interval.low) / 2)
    print(f"{name}, {rounds:,} rounds, {logs:,} logs, truth {truth:.4f}")
    for method, found in values.items():
        sd = float(np.std(found))
        ratio = float(np.mean(widths[method])) / 1.96 / sd
        bias = (float(np.mean(found)) - truth) / sd
        covered = hits[method] / logs
        print(
            f"  {method:18} covers {covered:6.1%} ± {math.sqrt(covered * (1 - covered) / logs):.1%}"
            f"   sd {sd:.5f}   width {ratio:5.2f}   bias {bias:+.2f} sd"
        )


def simulated(random: np.random.Generator, chance: np.ndarray, rounds: int) -> PolicyValue:
    """One log, judged."""
    x = random.integers(0, 2, rounds)
    action = random.choice(3, rounds, p=PROPENSITY)
    log = pa.table(
        {
            "action": action,
            "reward": (random.random(rounds) < chance[x, action]).astype(float),
            "propensity": PROPENSITY[action],
            "x": x,
        }
    )
    shares = {place: float(share) for place, share in enumerate(NEW)}
    found = up.evaluate_policy(log, shares, context=["x"], bootstrap=200, reward_range=(0, 1))
    return found.policies["policy"]


def intervals(found: PolicyValue) -> Iterator[tuple[str, Interval]]:
    """Each interval with its name."""
    for name, one in found.estimates.items():
        if name != "DM":
            yield name, one.interval
        if one.bootstrap is not None and name in {"SNIPS", "DR"}:
            yield f"{name} bootstrap", one.bootstrap
    if found.bounded is not None:
        yield "bounded", found.bounded


def every_look(logs: int) -> None:
    """Print how often an interval leaves the truth out at any of many looks."""
    random = np.random.default_rng(7)
    truth, rounds = 0.3, 10_000
    looks = np.arange(100, rounds + 1, 50)
    wrong = {"fixed": 0, "asymptotic": 0, "bounded": 0}
    for _ in range(logs // 4):
        weights = np.where(random.random(rounds) < 0.25, 4.0, 0.0)
        rewards = (random.random(rounds) < truth).astype(float)
        values = weights * rewards
        mean = np.cumsum(values)[looks - 1] / looks
        se = np.sqrt((np.cumsum(values**2)[looks - 1] / looks - mean**2) / looks)
        wrong["fixed"] += bool((np.abs(mean - truth) > 1.96 * se).any())
        wrong["asymptotic"] += any(
            asymptotic_interval(m, s * s * n, n, tuned_n=5000).excludes(truth)
            for m, s, n in zip(mean, se, looks, strict=True)
        )
        found = EmpiricalBernstein.start(0, 1, alpha=0.05, tuned=5000)
        outside = False
        for start in range(0, rounds, 250):
            rows = slice(start, start + 250)
            found = found.add(weights[rows], rewards[rows])
            low, high = found.ends()
            outside |= not low <= truth <= high
        wrong["bounded"] += outside
    print(f"looked at all the time, {logs // 4:,} logs of {rounds:,} rounds, wrong at any look:")
    for name, count in wrong.items():
        print(f"  {name:12} {count / (logs // 4):6.1%}")


if __name__ == "__main__":
    main()
