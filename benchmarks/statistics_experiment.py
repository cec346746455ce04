"""Error rates of experiments: false finds under continuous looking, coverage, and what it costs."""

import argparse

import numpy as np
from numpy.typing import NDArray

import upturn as up
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.estimate import Estimates, difference, estimate_arrays
from upturn.improve.experiment.mismatch import sample_ratio

Array = NDArray[np.float64]
UNITS, ALPHA = 20_000, 0.05
LOOKS = np.unique(np.geomspace(100, UNITS, 100).astype(int))
KINDS = ("mean", "heavy tail", "proportion", "rare", "count", "ratio", "CUPED", "two covariates")


def drawn(kind: str, draw: np.random.Generator, n: int) -> Array:
    """The columns of n units: outcomes, then covariates."""
    x = draw.normal(0, 1, (n, 2))
    made = {
        "mean": lambda: [draw.exponential(1, n)],
        "heavy tail": lambda: [draw.lognormal(0, 1.5, n)],
        "proportion": lambda: [draw.random(n) < 0.1],
        "rare": lambda: [draw.random(n) < 0.01],
        "count": lambda: [draw.poisson(0.4, n)],
        "ratio": lambda: [(views := 1 + draw.poisson(5, n)) * draw.beta(3, 7, n), views],
        "CUPED": lambda: [x[:, 0] + draw.exponential(1, n), x[:, 0]],
        "two covariates": lambda: [x.sum(axis=1) + draw.exponential(1, n), x[:, 0], x[:, 1]],
    }[kind]()
    return np.stack([np.asarray(one, np.float64) for one in made], axis=1)


def at_looks(values: Array, new: NDArray[np.bool_], kind: str) -> Estimates:
    """The estimates of both arms at every look."""
    k = values.shape[1]
    products = (values[:, :, None] * values[:, None, :]).reshape(len(values), -1)
    columns = np.concatenate([np.ones((len(values), 1)), values, products], axis=1)
    arms = np.stack([~new, new])[:, :, None] * columns
    sums = arms.cumsum(axis=1)[:, LOOKS - 1].swapaxes(0, 1)  # (looks, arms, statistics)
    n = sums[..., 0]
    mean = sums[..., 1 : 1 + k] / n[..., None]
    square = sums[..., 1 + k :].reshape(*n.shape, k, k) / n[..., None, None]
    cov = (square - mean[..., :, None] * mean[..., None, :]) * (n / (n - 1))[..., None, None]
    return estimate_arrays(n, mean, cov, ratio=kind == "ratio")


def rates(kind: str, times: int, seed: int) -> tuple[float, float, float]:
    """How often equal arms are found to differ: at any look, by a fixed test at any, at the end."""
    draw = np.random.default_rng(seed)
    anytime = np.array([Rule("anytime", ALPHA).multiplier(int(n)) for n in LOOKS])
    fixed = Rule("fixed", ALPHA).multiplier(UNITS)
    hits = np.zeros(3)
    for _ in range(times):
        values = drawn(kind, draw, UNITS)
        found = at_looks(values, draw.random(UNITS) < 0.5, kind)
        gap, variance = difference(found, 1, 0)
        z = np.abs(gap) / np.sqrt(np.where(variance > 0, variance, np.inf))
        if kind in ("proportion", "rare"):  # as `effects.too_few`
            events = (found.raw * found.n).sum(axis=1)
            few = events * found.n.min(axis=1) / found.n.sum(axis=1) < 10
            z = np.where(few, 0.0, z)
        z = np.where(found.n.min(axis=1) < 50, 0.0, z)
        hits += [(z > anytime).any(), (z > fixed).any(), z[-1] > fixed]
    return tuple(hits / times)  # type: ignore[return-value]


def quantiles(times: int, seed: int) -> tuple[float, float]:
    """The same for the 90 % quantile of clustered rows, at ten looks; and the fixed coverage."""
    draw = np.random.default_rng(seed)
    asked = {"arms": ["control", "new"], "metrics": [up.Quantile("x", 0.9)], "unit": "user"}
    anytime, fixed = up.Experiment("a", **asked), up.Experiment("f", method="fixed", **asked)
    found, covered = 0, 0
    for _ in range(times):
        users = np.repeat(np.arange(2000), 3)
        x = np.repeat(draw.lognormal(0, 1, 2000), 3) * draw.lognormal(0, 0.3, 6000)
        arm = np.where(draw.random(2000) < 0.5, "new", "control")[users]
        rows = {"arm": arm, "user": users, "x": x}
        ends = np.geomspace(600, 6000, 10).astype(int)
        looks = [anytime.analyze({k: v[:end] for k, v in rows.items()}) for end in ends]
        found += any(one.effects[0].status in ("better", "worse") for one in looks)
        covered += not fixed.analyze(rows).effects[0].difference.excludes(0.0)
    return found / times, covered / times


def power(times: int, seed: int) -> tuple[float, float, float]:
    """Of an effect that one look finds in 80 %: found at any look, by then, and the units taken."""
    draw = np.random.default_rng(seed)
    rule = Rule("anytime", ALPHA, tuned_n=UNITS)
    anytime = np.array([rule.multiplier(int(n)) for n in LOOKS])
    effect = (Rule("fixed", ALPHA).multiplier(UNITS) + 0.8416) * 2 / np.sqrt(UNITS)
    once, ever, taken = 0, 0, []
    for _ in range(times):
        new = draw.random(UNITS) < 0.5
        values = drawn("mean", draw, UNITS) + effect * new[:, None]
        gap, variance = difference(at_looks(values, new, "mean"), 1, 0)
        z = gap / np.sqrt(variance)
        crossed = np.nonzero(z > anytime)[0]
        once += z[-1] > 1.96
        ever += len(crossed) > 0
        taken.append(LOOKS[crossed[0]] if len(crossed) else UNITS)
    return once / times, ever / times, float(np.mean(taken)) / UNITS


def mismatch(times: int, seed: int) -> float:
    """How often arms of the right size are said to mismatch at 0.05, looked at 200 times."""
    draw = np.random.default_rng(seed)
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    wrong = 0
    for _ in range(times):
        counts = draw.multinomial(100, list(shares.values()), 200).cumsum(axis=0)
        wrong += any(
            sample_ratio(dict(zip(shares, row, strict=True)), shares).p_value < 0.05
            for row in counts.tolist()
        )
    return wrong / times


def run(*, quick: bool) -> None:
    """Print the rates."""
    report(100 if quick else 1000, 0)


def report(times: int, seed: int) -> None:
    """Print the rates of so many experiments."""
    print(f"A/A of {UNITS:,} units, {len(LOOKS)} looks, {times:,} times, alpha {ALPHA}")
    print(f"{'metric':16} {'anytime':>8} {'fixed, peeking':>15} {'fixed, once':>12}")
    for kind in KINDS:
        ever, peeked, once = rates(kind, times, seed)
        print(f"{kind:16} {ever:8.1%} {peeked:15.1%} {once:12.1%}")
    found, covered = quantiles(max(20, times // 5), seed)
    print(f"{'quantile':16} {found:8.1%} {'':15} {1 - covered:12.1%}")
    print(f"sample ratio, 200 looks: {mismatch(times, seed):.1%}")
    once, ever, taken = power(times, seed)
    print(f"power at one look {once:.1%}, anytime by then {ever:.1%}, units taken {taken:.0%}")


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report(given.times, given.seed)


if __name__ == "__main__":
    main()
