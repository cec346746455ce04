"""Looking at every row: false finds of each sequential method beside a test that is peeked at.

Of each kind of values, many runs without any effect, looked at after every row from the first look
on. Claimed is that at most 5 in 100 runs find an effect at any look; of an interval that is the
same as that 95 of 100 hold the truth at all looks together.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.bounded import betting_interval, empirical_bernstein_path
from upturn.improve.statistics.distributions import t_isf
from upturn.improve.statistics.group_sequential import boundaries
from upturn.improve.statistics.multinomial import ratio_mismatch
from upturn.improve.statistics.power import fixed_n, sequence_n, sequence_power
from upturn.improve.statistics.quantiles import quantile_difference, quantile_interval
from upturn.improve.statistics.rates import (
    compare_rates,
    equal_counts_log_e,
    log_count_mixture,
    log_rate_half_mixture,
    log_rate_mixture,
    prior_worth,
    tuned_rho2,
)
from upturn.improve.statistics.sequences import (
    asymptotic_bound,
    asymptotic_interval,
    least_rows,
    mixture_sprt,
    t_sequence,
)

Floats = NDArray[np.float64]
ALPHA, ROWS, TUNED, CHUNK = 0.05, 20_000, 10_000, 100
Drawn = Callable[[np.random.Generator, tuple[int, int]], Floats]
KINDS: dict[str, tuple[Drawn, float]] = {  # values of mean 0, and their skewness
    "normal": (lambda draw, shape: draw.normal(size=shape), 0.0),
    "exponential": (lambda draw, shape: draw.exponential(size=shape) - 1, 2.0),
    "lognormal, sd 1.3": (lambda draw, shape: draw.lognormal(0, 0.7, shape) - np.exp(0.245), 2.9),
    "lognormal, sd 2.2": (lambda draw, shape: draw.lognormal(0, 1, shape) - np.exp(0.5), 6.2),
    "share of 0.1": (lambda draw, shape: (draw.random(shape) < 0.1) - 0.1, 2.7),
    "share of 0.01": (lambda draw, shape: (draw.random(shape) < 0.01) - 0.01, 9.9),
}


def means(runs: int) -> None:
    """Print how often each method finds an effect that is not there."""
    zs: dict[str, Floats] = {  # half-widths for a standard error of 1
        "asymptotic": bounds(lambda k: asymptotic_interval(0, k, k, tuned_n=TUNED).high),
        "one-sided": bounds(lambda k: -asymptotic_bound(0, k, k, tuned_n=TUNED).low),
        "mixture SPRT": bounds(
            lambda k: mixture_sprt(0, 1, k, tau2=0.001).high * math.sqrt(k),
        ),
        "peeked t": bounds(lambda k: t_isf(ALPHA / 2, k - 1)),
    }
    print(f"{runs:,} runs of {ROWS:,} rows without an effect, each row looked at from `least_rows`")
    print("of the smaller arm on; too soon: from its 5th row on; t: from the 2nd, arms alike")
    for title, share in (("arms of 50 : 50", 0.5), ("arms of 10 : 90", 0.1), ("one arm", 1.0)):
        names = [*zs, "anytime t", "too soon", "one look t"]
        print(f"  {title:18}" + "".join(f"{name:>14}" for name in names))
        for kind, (drawn, skewness) in KINDS.items():
            draw, hits = np.random.default_rng(1), dict.fromkeys(names, 0)
            for begin in range(0, runs, CHUNK):
                x = drawn(draw, (min(CHUNK, runs - begin), ROWS))
                z, rows = apart(x, share, draw)
                for name, reach in zs.items():
                    over = (z if name == "one-sided" else np.abs(z)) > reach
                    hits[name] += int((over & (rows >= least_rows(skewness))).any(axis=1).sum())
                soon = (np.abs(z) > zs["asymptotic"]) & (rows >= 5)
                hits["too soon"] += int(soon.any(axis=1).sum())
                hits["anytime t"] += int((np.abs(z) > T_BOUNDS)[:, 3:].any(axis=1).sum())
                hits["one look t"] += int((np.abs(z[:, -1]) > zs["peeked t"][-1]).sum())
            print(f"  {kind:18}" + "".join(f"{hit / runs:14.1%}" for hit in hits.values()))


def apart(x: Floats, share: float, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """How many standard errors two arms are apart, or one from 0, and the smaller arm's rows."""
    new = (draw.random(x.shape) < share).astype(np.float64)
    other = moments(x, new)
    if share == 1:
        return z_scores(*other[:2]), other[2]
    one = moments(x, 1 - new)
    return z_scores(other[0] - one[0], one[1] + other[1]), np.minimum(one[2], other[2])


def moments(x: Floats, taken: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the rows taken so far the mean, its squared standard error, and their number."""
    n = taken.cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (taken * x).cumsum(axis=1) / n
        spread = (taken * x * x).cumsum(axis=1) / n - mean * mean
        return mean, np.where(n > 1, spread / (n - 1), np.nan), n


def z_scores(estimate: Floats, squared: Floats) -> Floats:
    """0 where there is no variance, so that nothing is said."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squared > 1e-15, estimate / np.sqrt(squared), 0)


def bounds(of: Callable[[float], float]) -> Floats:
    """How many standard errors away a method finds something, after each row."""
    return np.array([np.inf, *(of(float(k)) for k in range(2, ROWS + 1))])


T_BOUNDS = bounds(lambda k: t_sequence(0, 1, max(k - 2, 1), k / 4, tuned_n=TUNED / 4).high)


def costs() -> None:
    """Print power and rows of the confidence sequence beside the test for one look."""
    print("power and rows, of an effect that one look finds with that power")
    print("  power   one look   anytime, within as many   until 'power', at most   on average")
    for power in (0.5, 0.8, 0.9, 0.95):
        once = fixed_n(0.1, 1.0, power=power)
        within = sequence_power(0.1, 4.0, once, tuned_n=once, looks=100)
        most = sequence_n(0.1, 4.0, power=power)
        taken = sequence_power(0.1, 4.0, most, tuned_n=most, looks=100)
        print(
            f"  {power:5.0%}   {once:8,}   {within.power:23.0%}   "
            f"{most:10,} ({most / once:.2f} x)   "
            f"{taken.expected_n:5,.0f} ({taken.expected_n / once:.2f} x)"
        )


def shares_and_counts(runs: int) -> None:
    """Print the same for rates, counts in time, canaries and sizes of arms."""
    looks = [int(k) for k in np.unique(np.geomspace(1, 2000, 150).astype(int))]
    worth, shape = prior_worth(ALPHA, 1000), 1 / tuned_rho2(ALPHA, 200)
    swing = 0.1 * (1 + np.sin(np.arange(2000) / 100))
    draw, limit = np.random.default_rng(2), -np.log(ALPHA)
    wrong: dict[str, int] = {}
    for _ in range(runs):
        few, many = ((draw.random(2000) < rate).cumsum().tolist() for rate in (0.01, 0.3))
        one, other, canary = (draw.poisson(swing * by).cumsum().tolist() for by in (1, 1, 0.05))
        sizes = draw.multinomial(1, [0.5, 0.3, 0.2], 2000).cumsum(axis=0).tolist()
        said = {
            "share of 0.01": [log_rate_mixture(few[k - 1], k, 0.01, worth) for k in looks],
            "share of 0.3": [log_rate_mixture(many[k - 1], k, 0.3, worth) for k in looks],
            "share of 0.3, one-sided": [
                log_rate_half_mixture(many[k - 1], k, 0.3, worth, "low") for k in looks
            ],
            "count, rate swings": [
                log_count_mixture(one[k - 1], float(swing[:k].sum()), shape) for k in looks
            ],
            "equal counts": [
                equal_counts_log_e(one[k - 1], other[k - 1], tuned_count=200) for k in looks
            ],
            "canary of 5 %": [
                log_rate_mixture(canary[k - 1], one[k - 1] + canary[k - 1], 0.05 / 1.05, worth)
                for k in looks
            ],
            "sizes of arms": [
                ratio_mismatch(sizes[k - 1], [5, 3, 2], concentration=1000).log_e
                for k in looks[::5]
            ],
        }
        for name, log_es in said.items():
            wrong[name] = wrong.get(name, 0) + (max(log_es) >= limit)
    print(f"shares and counts: {runs:,} runs of 2,000 rows or instants, {len(looks)} looks")
    for name, count in wrong.items():
        print(f"  {name:26}{count / runs:8.1%}")


def pairs(runs: int) -> None:
    """Print the same for differences of two arms, at 20 looks."""
    draw, wrong = np.random.default_rng(3), {"rates": 0, "medians": 0, "p95": 0, "p95 itself": 0}
    looks = [int(k) for k in np.unique(np.geomspace(50, 2000, 20).astype(int))]
    for _ in range(runs):
        a, b = draw.lognormal(size=2000), draw.lognormal(size=2000)
        k, j = (a > 3).cumsum().tolist(), (b > 3).cumsum().tolist()
        wrong["rates"] += any(
            compare_rates((k[n - 1], n), (j[n - 1], n), tuned_n=1000).excludes(0) for n in looks
        )
        for name, q in (("medians", 0.5), ("p95", 0.95)):
            wrong[name] += any(
                quantile_difference(a[:n], b[:n], q, tuned_n=1000).excludes(0) for n in looks
            )
        truth = float(np.exp(1.6448536269514722))
        wrong["p95 itself"] += any(
            quantile_interval(a[:n], 0.95, tuned_n=1000).excludes(truth) for n in looks
        )
    print(f"two arms of lognormal values: {runs:,} runs of 2,000 rows, {len(looks)} looks")
    for name, count in wrong.items():
        print(f"  {name:26}{count / runs:8.1%}")


def bounded(runs: int) -> None:
    """Print the same for means within 0 and 1, with the widths at the end."""
    print(f"means within 0 and 1: {runs:,} runs of 1,000 rows; widths at the last")
    print("                        betting    width   Bernstein    width   (one look t)")
    looks = [int(k) for k in np.unique(np.geomspace(1, 1000, 40).astype(int))]
    for name, a, b in (("beta(2, 8)", 2, 8), ("beta(0.05, 0.95)", 0.05, 0.95), ("toss", 0, 0)):
        draw, wrong, width = np.random.default_rng(4), np.zeros(2), np.zeros(3)
        truth = a / (a + b) if a else 0.5
        for _ in range(runs):
            x = draw.beta(a, b, 1000) if a else (draw.random(1000) < 0.5).astype(np.float64)
            lows, highs = empirical_bernstein_path(x)
            at = [betting_interval(x[:n], null=truth).p_value < ALPHA for n in looks]
            wrong += [any(at), bool(((truth < lows) | (truth > highs)).any())]
            last = betting_interval(x)
            once = 2 * t_isf(0.025, 999) * x.std(ddof=1) / np.sqrt(1000)
            width += [last.high - last.low, highs[-1] - lows[-1], once]
        rate, wide = wrong / runs, width / runs
        print(
            f"  {name:18}{rate[0]:11.1%}{wide[0]:9.3f}{rate[1]:12.1%}{wide[1]:9.3f}{wide[2]:12.3f}"
        )


def planned(runs: int) -> None:
    """Print false finds of group-sequential tests, at their planned looks."""
    draw, fifths = np.random.default_rng(5), (0.2, 0.4, 0.6, 0.8, 1.0)
    walks = draw.normal(size=(100 * runs, 5)).cumsum(axis=1) / np.sqrt(np.arange(1, 6))
    print(f"group-sequential, 5 looks: {100 * runs:,} runs")
    for spending in ("obrien-fleming", "pocock", "hwang-shih-decani"):
        found = (np.abs(walks) >= np.array(boundaries(fifths, spending=spending))).any(axis=1)
        print(f"  {spending:26}{found.mean():8.2%}")
    print(f"  {'1.96 at each of them':26}{(np.abs(walks) > 1.96).any(axis=1).mean():8.2%}")


def run(*, quick: bool) -> None:
    """Print all of it."""
    means(100 if quick else 2000)
    costs()
    shares_and_counts(100 if quick else 1000)
    pairs(20 if quick else 200)
    bounded(40 if quick else 400)
    planned(100 if quick else 4000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick)
