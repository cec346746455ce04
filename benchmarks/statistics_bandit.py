"""What a bandit loses to the best arm, as a part of what equal shares lose, over simulated shops.

    python benchmarks/statistics_bandit.py [--runs 100]

Each of 40 ticks has 200 rows. `always` gives the arms the same chances at all times; in `days` all
are good at one tick and bad at the next, by up to a half. `at the end` is of the last tenth of the
ticks; a minimum of 2 % costs 6 % of what equal shares lose.
"""

import argparse

import numpy as np

from upturn.core.linear_policy import Encoded, LinearPolicy
from upturn.improve.bandit.best import best_probabilities
from upturn.improve.bandit.evidence import ArmSeen
from upturn.improve.bandit.linear import Contextual, LinTS, LinUCB, learn
from upturn.improve.bandit.moments import weighted_mean
from upturn.improve.bandit.rows import Counted
from upturn.improve.bandit.shares import shares
from upturn.improve.bandit.thompson import Thompson
from upturn.model.contextual import encoded, probabilities

CHANCES = np.array([0.05, 0.06, 0.10])
ROWS, TICKS = 200, 40
INPUT = Encoded(name="x")


def main() -> None:
    """Thompson sampling with and without balance, then policies that look at rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    for world in ("always", "days"):
        for balance in (True, False):
            found = np.array([thompson(seed, world, balance=balance) for seed in range(runs)])
            said = "balanced" if balance else "plain"
            tell(f"Thompson, {said}, {world}", found, CHANCES.max() - CHANCES.mean())
    for policy in (LinTS(["x"]), LinUCB(["x"])):
        found = np.array([linear(seed, policy) for seed in range(max(5, runs // 10))])
        tell(f"{type(policy).__name__}, arms that suit different rows", found, uniform())


def tell(name: str, regret: np.ndarray, equal: float) -> None:
    """Print what was lost a row, (runs, ticks), against equal shares."""
    parts = regret.mean(1) / equal
    last = regret[:, -TICKS // 10 :].mean(1) / equal
    print(
        f"{name:40} {parts.mean():6.1%} ± {parts.std() / len(parts) ** 0.5:.1%}"
        f"   at the end {last.mean():6.1%}   worst run {parts.max():6.1%}"
    )


def thompson(seed: int, world: str, *, balance: bool) -> list[float]:
    """What is lost a row at each tick."""
    draw, policy, now = np.random.default_rng(seed), Thompson(), [1 / 3] * 3
    arm, reward, weight = np.empty(0, int), np.empty(0), np.empty(0)
    lost: list[float] = []
    for _ in range(TICKS):
        luck = 1.0 if world == "always" else draw.uniform(0.5, 1.5)
        chosen = draw.choice(3, ROWS, p=np.array(now) / sum(now))
        arm = np.concatenate([arm, chosen])
        reward = np.concatenate([reward, draw.random(ROWS) < luck * CHANCES[chosen]])
        overlap = 1 / sum(1 / share for share in now)
        balanced = overlap / np.array(now)[chosen]
        weight = np.concatenate([weight, balanced if balance else np.ones(ROWS)])
        lost.append(float(CHANCES.max() - CHANCES[chosen].mean()))
        seen = [_arm(reward[arm == k], weight[arm == k]) for k in range(3)]
        now = shares(best_probabilities(policy.posteriors(seen)), 0.02)
    return lost


def _arm(reward: np.ndarray, weight: np.ndarray) -> ArmSeen:
    found = weighted_mean(reward, weight, np.arange(len(reward)))
    return ArmSeen(name="", version=1, reward=found, high=1.0)


SLOPES = np.array([0.5, -0.5, 0.0])


def uniform() -> float:
    """What equal shares lose where arms suit different rows: E[max(x/2, -x/2, 0)], x normal."""
    return 0.5 * (2 / np.pi) ** 0.5


def linear(seed: int, how: Contextual) -> list[float]:
    """What is lost a row at each tick."""
    draw, current = np.random.default_rng(seed), None
    x, arm, reward = np.empty(0), np.empty(0, int), np.empty(0)
    lost: list[float] = []
    for _ in range(TICKS):
        new = draw.normal(size=ROWS)
        chances = _chances(current, new)
        chosen = (draw.random((ROWS, 1)) > chances.cumsum(1)).sum(1).clip(0, 2)
        means = new[:, None] * SLOPES
        got = means[np.arange(ROWS), chosen]
        lost.append(float((means.max(1) - got).mean()))
        x, arm = np.concatenate([x, new]), np.concatenate([arm, chosen])
        reward = np.concatenate([reward, got + draw.normal(0, 0.5, ROWS)])
        rows = _rows(x, arm, reward)
        current = learn(how, [INPUT], rows, ["a", "b", "c"], least=0.02, before=current).policy
    return lost


def _chances(policy: LinearPolicy | None, x: np.ndarray) -> np.ndarray:
    if policy is None:
        return np.full((len(x), 3), 1 / 3)
    return probabilities(policy, encoded([INPUT], lambda _: x, len(x)))


def _rows(x: np.ndarray, arm: np.ndarray, reward: np.ndarray) -> Counted:
    import pyarrow as pa

    ones = np.ones(len(x))
    return Counted(
        table=pa.table({"features.x": x}),
        arm=arm,
        reward=reward,
        weight=ones,
        propensity=ones / 3,
        overlap=ones,
        unit=np.arange(len(x)),
        delay_s=ones,
        forced=0,
    )


if __name__ == "__main__":
    main()
