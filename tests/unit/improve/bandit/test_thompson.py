"""Thompson sampling in batches: exact probabilities, a minimum that always holds, little regret."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import upturn as up
from upturn.core.errors import Invalid
from upturn.improve.bandit.best import Beta, Student, best_probabilities
from upturn.improve.bandit.evidence import ArmSeen
from upturn.improve.bandit.moments import weighted_mean
from upturn.improve.bandit.shares import shares
from upturn.improve.bandit.thompson import Thompson


def by_scipy(dists: list[Any]) -> list[float]:
    """P(each is the largest) by adaptive quadrature."""
    found = []
    for place, one in enumerate(dists):
        others = [other for at, other in enumerate(dists) if at != place]
        low, high = one.ppf(1e-13), one.isf(1e-13)
        inside = [
            x
            for other in others
            for x in other.ppf([1e-9, 1e-4, 0.01, 0.5, 0.99, 1 - 1e-4, 1 - 1e-9])
            if low < x < high
        ]

        def value(x: float, one: Any = one, others: Any = others) -> float:
            return one.pdf(x) * math.prod(other.cdf(x) for other in others)

        found.append(integrate.quad(value, low, high, points=inside or None, limit=400)[0])
    return found


@pytest.mark.parametrize(
    "pairs",
    [
        [(3, 200), (4, 150)],
        [(1, 1), (1, 1), (1, 1)],
        [(1, 1_000_000), (2, 900_000)],
        [(40_000, 1_000_000), (40_100, 1_000_000), (1, 1)],
        [(1.5, 3.25), (90.0, 10.0), (80.0, 9.0), (5.0, 1.0)],
    ],
)
def test_best_of_betas_is_the_integral(pairs: list[tuple[float, float]]) -> None:
    found = best_probabilities([Beta(a=a, b=b) for a, b in pairs])
    assert found == pytest.approx(by_scipy([stats.beta(a, b) for a, b in pairs]), abs=2e-7)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "triples",
    [
        [(0.0, 1.0, 9), (1.0, 1.0, 9)],
        [(0.0, 1.0, 3), (1.0, 0.001, 300), (1.0, 5.0, 20)],
        [(1e9, 2.0, 50), (1e9 + 1, 1.0, 4)],
    ],
)
def test_best_of_students_is_the_integral(triples: list[tuple[float, float, float]]) -> None:
    found = best_probabilities([Student(mean=m, scale=s, df=df) for m, s, df in triples])
    draw = np.random.default_rng(3)
    sampled = np.stack([m + s * draw.standard_t(df, 400_000) for m, s, df in triples])
    won = np.bincount(sampled.argmax(0), minlength=len(triples)) / 400_000
    assert found == pytest.approx(won.tolist(), abs=0.004)


def test_two_betas_by_the_closed_sum() -> None:
    """For whole parameters P(B > A) is a finite sum (Cook 2005)."""
    a1, b1, a2, b2 = 7, 30, 12, 25
    better = sum(
        math.exp(
            _log_beta(a1 + i, b1 + b2) - math.log(b2 + i) - _log_beta(1 + i, b2) - _log_beta(a1, b1)
        )
        for i in range(a2)
    )
    assert best_probabilities([Beta(a=a1, b=b1), Beta(a=a2, b=b2)])[1] == pytest.approx(
        better, abs=1e-10
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def test_certain_arms_share_a_tie_and_lose_no_one_else() -> None:
    certain = [Student(mean=mean, scale=0.0, df=1.0) for mean in (1.0, 1.0, 0.0)]
    assert best_probabilities(certain) == [0.5, 0.5, 0.0]
    mixed = [Student(mean=1.0, scale=0.0, df=5), Student(mean=1.0, scale=2.0, df=5)]
    assert best_probabilities(mixed) == pytest.approx([0.5, 0.5], abs=1e-6)


@example(best=[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], part=1.0)
@given(
    best=st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda some: sum(some) > 0),
    part=st.floats(0.001, 1.0),
)
def test_every_arm_keeps_the_minimum(best: list[float], part: float) -> None:
    total = math.fsum(best)
    least = part / len(best)
    found = shares([one / total for one in best], least)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-9)
    assert min(found) >= least - 1e-9
    free = [(b, f) for b, f in zip(best, found, strict=True) if f > least + 1e-3]
    for (b1, f1), (b2, f2) in itertools.pairwise(free):  # the others keep their ratio
        assert b1 * f2 == pytest.approx(b2 * f1, abs=3e-4 * total)


@pytest.mark.parametrize("least", [0.0, -0.1, 0.6, math.nan])
def test_a_minimum_that_can_not_be(least: float) -> None:
    with pytest.raises(Invalid, match="least"):
        up.Bandit("shop", arms={"a": 1, "b": 2}, least=least)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_weighted_mean_is_the_plain_one_where_nothing_is_special(seed: int) -> None:
    values = np.random.default_rng(seed).normal(3, 2, 40)
    found = weighted_mean(values, np.full(40, 7.0), np.arange(40))
    assert found.mean == pytest.approx(values.mean())
    assert found.se == pytest.approx(stats.sem(values))
    assert (found.effective, found.df, found.rows, found.units) == pytest.approx((40, 39, 40, 40))


def test_rows_of_a_unit_count_as_what_they_say() -> None:
    """Repeating each row ten times adds rows and no knowledge."""
    values = np.random.default_rng(1).integers(0, 2, 300).astype(float)
    once = weighted_mean(values, np.ones(300), np.arange(300))
    often = weighted_mean(np.repeat(values, 10), np.ones(3000), np.repeat(np.arange(300), 10))
    assert often.se == pytest.approx(once.se)
    assert often.effective == pytest.approx(once.effective)
    same = weighted_mean(np.zeros(3000), np.ones(3000), np.repeat(np.arange(300), 10))
    assert (same.se, same.effective) == (0.0, pytest.approx(300))


def test_the_posterior_is_the_conjugate_one() -> None:
    rewards = np.repeat([1.0, 0.0], [13, 87])
    arm = seen("a", rewards)
    [found] = Thompson().posteriors([arm])
    assert isinstance(found, Beta)
    assert (found.a, found.b) == pytest.approx((14, 88))
    draws = np.random.default_rng(5).normal(2, 3, 60)
    [student] = Thompson("gaussian").posteriors([seen("a", draws)])
    low, high = stats.t.interval(0.9, 59, draws.mean(), stats.sem(draws))
    assert isinstance(student, Student)
    assert stats.t.cdf((low - student.mean) / student.scale, student.df) == pytest.approx(0.05)
    assert stats.t.cdf((high - student.mean) / student.scale, student.df) == pytest.approx(0.95)


def test_rewards_that_no_bernoulli_can_have() -> None:
    with pytest.raises(Invalid, match=r"go from 0 to 7.5, beyond 0 and 1"):
        Thompson().posteriors([seen("a", np.array([0.0, 7.5]))])
    with pytest.raises(Invalid, match="bernouli"):
        Thompson("bernouli")  # pyright: ignore[reportArgumentType]
    with pytest.raises(Invalid, match="prior"):
        Thompson(prior=(0.5, 1.0))


def seen(name: str, rewards: np.ndarray) -> ArmSeen:
    found = weighted_mean(rewards, np.ones(len(rewards)), np.arange(len(rewards)))
    low, high = (float(rewards.min()), float(rewards.max())) if len(rewards) else (0.0, 0.0)
    return ArmSeen(name=name, version=1, reward=found, low=low, high=high)


# ---- what it earns ---------------------------------------------------------------------------


def simulated(
    means: list[float], *, runs: int, ticks: int, rows: int, least: float, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean reward a row of each tick, (runs, ticks), and the last shares, (runs, arms)."""
    draw = np.random.default_rng(11)
    policy = Thompson(kind)  # pyright: ignore[reportArgumentType]
    earned, last = np.zeros((runs, ticks)), np.zeros((runs, len(means)))
    for run in range(runs):
        now = [1 / len(means)] * len(means)
        got: list[list[float]] = [[] for _ in means]
        for tick in range(ticks):
            arms = draw.choice(len(means), rows, p=np.array(now) / sum(now))
            for place, mean in enumerate(means):
                count = int((arms == place).sum())
                found = (
                    (draw.random(count) < mean).astype(float)
                    if kind == "bernoulli"
                    else draw.normal(mean, 1.0, count)
                )
                got[place] += found.tolist()
            earned[run, tick] = float(np.array(means)[arms].mean())
            arrays = [np.array(one) for one in got]
            if min(map(len, arrays)) >= 2:
                posteriors = policy.posteriors([seen("", one) for one in arrays])
                now = shares(best_probabilities(posteriors), least)
            assert min(now) >= least - 1e-9
        last[run] = now
    return earned, last


@pytest.mark.parametrize(
    ("kind", "means"), [("bernoulli", [0.05, 0.06, 0.10]), ("gaussian", [0.0, 0.1, 0.4])]
)
def test_regret_is_far_below_uniform(kind: str, means: list[float]) -> None:
    least = 0.02
    earned, last = simulated(means, runs=25, ticks=30, rows=200, least=least, kind=kind)
    uniform = max(means) - sum(means) / len(means)
    regret = max(means) - earned.mean(0)
    assert regret.mean() < 0.4 * uniform
    at_best = least * sum(max(means) - one for one in means)  # what the minimum costs
    assert regret[-8:].mean() < 0.25 * uniform + at_best
    assert np.median(last[:, 2]) > 0.9


def test_off_policy_values_are_unbiased_though_shares_changed() -> None:
    """The logged propensities are the shares of the time: IPS of a constant policy has its mean."""
    means, draw = [0.3, 0.5], np.random.default_rng(2)
    values: list[float] = []
    pooled: list[float] = []
    for _ in range(120):
        now, arm, reward, propensity = [0.5, 0.5], [], [], []
        for _ in range(5):
            chosen = (draw.random(30) < now[1]).astype(int)
            got = (draw.random(30) < np.array(means)[chosen]).astype(float)
            arm.append(chosen)
            reward.append(got)
            propensity.append(np.array(now)[chosen])
            taken, found = np.concatenate(arm), np.concatenate(reward)
            beliefs = Thompson().posteriors([seen("", found[taken == k]) for k in (0, 1)])
            now = shares(best_probabilities(beliefs), 0.1)
        log = {
            "action": np.concatenate(arm),
            "reward": np.concatenate(reward),
            "propensity": np.concatenate(propensity),
        }
        result = up.evaluate_policy(log, {0: 1.0}, model=None)
        values.append(result.policies["policy"].estimates["IPS"].interval.estimate)
        pooled.append(log["reward"][log["action"] == 0].mean())
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - 0.3) < 3.3 * error
    # An arm that was unlucky at first is left alone, and its mean stays low (Nie et al. 2018).
    assert np.mean(pooled) < 0.3 - 2 * np.std(pooled, ddof=1) / math.sqrt(len(pooled))
