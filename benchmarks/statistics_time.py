"""Days that are alike: coverage of the bootstrap over time, and how seldom a detector errs."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.bootstrap import (
    block_draws,
    block_length,
    bootstrap_interval,
    cluster_draws,
    interval_length,
    stationary_draws,
)
from upturn.improve.statistics.e_values import detector_path
from upturn.improve.statistics.sequences import asymptotic_interval

Floats = NDArray[np.float64]


def alike(n: int, by: float, draw: np.random.Generator) -> Floats:
    """A day's value each, of variance 1; neighbours correlate by `by`."""
    noise = draw.normal(size=n)
    for at in range(1, n):
        noise[at] = by * noise[at - 1] + np.sqrt(1 - by * by) * noise[at]
    return noise


def over_time(runs: int) -> None:
    """Print how often intervals hold the mean, and a sequence that takes days for independent."""
    print(f"the mean of days: coverage of 95 %, {runs:,} runs")
    print(
        "  days  alike by   a day at a time   blocks   shorter ones   mean length   sequence errs"
    )
    for n in (60, 180, 365):
        for by in (0.0, 0.3, 0.6):
            draw, held, length = np.random.default_rng(1), np.zeros(3), 0.0
            out = 0
            for seed in range(runs):
                x = alike(n, by, draw)
                sums, mean = x[:, None], float(x.mean())
                fixed, best = interval_length(x), block_length(x)
                length += fixed / runs
                drawn = (
                    (cluster_draws(sums, draws=300, seed=seed), n),
                    (block_draws(sums, fixed, draws=300, seed=seed), n // fixed),
                    (stationary_draws(sums, best, draws=300, seed=seed), int(n / best)),
                )
                held += [
                    not bootstrap_interval(mean, total[:, 0] / n, clusters=groups).excludes(0)
                    for total, groups in drawn
                ]
                k = np.arange(1, n + 1)
                run_mean = x.cumsum() / k
                spread = (x**2).cumsum() / k - run_mean**2
                out += any(
                    asymptotic_interval(run_mean[at], spread[at], at + 1, tuned_n=n).excludes(0)
                    for at in range(20, n, 5)
                )
            a, b, c = held / runs
            print(
                f"  {n:4}  {by:8.1f}   {a:15.1%}  {b:7.1%}   {c:10.1%}   {length:11.1f}"
                f"   {out / runs:13.1%}"
            )


def alarms(runs: int) -> None:
    """Print how long a detector takes to a false alarm, and to a true one."""
    print(f"e-detectors of a shift by half a deviation, alarm once in 200 windows, {runs:,} runs")
    draw = np.random.default_rng(2)
    calm = 0.5 * draw.normal(size=(runs, 4000)) - 0.125
    shifted = 0.5 * (draw.normal(size=(runs, 400)) + 0.5) - 0.125
    for name, cusum in (("Shiryaev-Roberts", False), ("CUSUM", True)):
        late, soon = (
            detector_path(log_es, cusum=cusum) >= np.log(200) for log_es in (calm, shifted)
        )
        first = np.where(late.any(axis=1), late.argmax(axis=1) + 1, 4000)
        print(
            f"  {name:18} false alarm after {first.mean():6.0f} windows (at least 200), "
            f"true after {soon.argmax(axis=1).mean() + 1:4.0f}"
        )


def run(*, quick: bool) -> None:
    """Print both."""
    over_time(100 if quick else 1000)
    alarms(300 if quick else 3000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick)
