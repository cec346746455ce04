"""How often a loop's guards and gates err, and how soon they see harm: simulated.

    python benchmarks/statistics_guards.py [--runs 2000]

A guard looks at a stage at every tick. What is claimed: over the whole stage it rolls a harmless
candidate back with probability alpha at most. The worst harmless one is exactly as much worse as
the margin allows, and is simulated here. `one look` is the bound that guards had before: a t bound
for a single look, looked at just as often.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import stats

from upturn.improve.compare import compare_paired, p_beyond
from upturn.improve.evidence import SliceSeen
from upturn.improve.judging import harmed
from upturn.improve.rollout import beats
from upturn.improve.sequential import LEAST_BLOCKS, bound, compare_latency

ALPHA = 0.05
Floats = np.ndarray


def stages(runs: int, hours: int, *, like: float, by_day: float, seed: int) -> Floats:
    """Hourly harm beyond the margin, mean 0: neighbours alike by `like`, days by `by_day`."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(runs, hours))
    for hour in range(1, hours):
        found[:, hour] = like * found[:, hour - 1] + np.sqrt(1 - like**2) * found[:, hour]
    days = by_day * random.normal(size=(runs, -(-hours // 24)))
    return found + np.repeat(days, 24, axis=1)[:, :hours]


def sequential(values: Floats, planned: int) -> bool:
    """Whether the guard sees harm in these hours."""
    return bool(values.mean() - bound(values, alpha=ALPHA, planned=planned) > 0)


def one_look(values: Floats, planned: int) -> bool:
    """The same by a bound for one look."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return bool(values.mean() - stats.t.ppf(1 - ALPHA, len(values) - 1) * error > 0)


def rate(
    sees: Callable[[Floats, int], bool], found: Floats, every: int, *, harm: float = 0.0
) -> tuple[float, float]:
    """How many stages are ended by harm, and after how many hours in the median of those."""
    hours = found.shape[1]
    looks = range(max(every, LEAST_BLOCKS), hours + 1, every)
    ended = [
        next((look for look in looks if sees(run[:look] + harm, hours)), None) for run in found
    ]
    after = [look for look in ended if look is not None]
    return len(after) / len(ended), float(np.median(after)) if after else float("nan")


def metric_guards(runs: int) -> None:
    """False rollbacks over whole stages, and how soon harm of half a deviation is seen."""
    print(f"guards of a metric: false rollbacks over a stage, alpha {ALPHA:g}, {runs:,} stages")
    print("  hours  looks every  hours alike  days alike   one look  sequential   harm seen  after")
    for hours, every in ((24, 1), (72, 1), (72, 24), (168, 6), (168, 24)):
        for like, by_day in ((0.0, 0.0), (0.3, 0.0), (0.5, 0.0), (0.0, 0.15), (0.0, 0.3)):
            found = stages(runs, hours, like=like, by_day=by_day, seed=1)
            wrong, _ = rate(sequential, found, every)
            before, _ = rate(one_look, found, every)
            power, after = rate(sequential, found, every, harm=0.5)
            print(
                f"  {hours:5}  {every:9} h  {like:11.1f}  {by_day:10.2f}   {before:8.1%}"
                f"  {wrong:10.1%}   {power:9.1%}  {after:3.0f} h"
            )


def latency_guards(runs: int) -> None:
    """The same for a 99th percentile, at every hundred requests of the candidate."""
    print(f"guards of latency_p99, of 3,000 requests of the candidate, {runs:,} stages")
    for slower in (1.0, 1.3, 2.0):
        ended = 0
        for seed in range(runs):
            random = np.random.default_rng(seed)
            one = random.lognormal(-5, 0.5, 6000)
            other = slower * random.lognormal(-5, 0.5, 3000)
            ended += any(
                compare_latency(one[: 2 * at], other[:at], alpha=ALPHA).low > 0
                for at in range(300, 3001, 100)
            )
        print(f"  {slower:g} times as slow: {ended / runs:.1%} rolled back, margin 0")


def slice_gates(runs: int) -> None:
    """How often a gate over eight slices finds harm in one, where there is none in any."""
    gate, wrong = beats("log_loss", alpha=ALPHA), 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        seen: list[SliceSeen] = []
        for _ in range(8):
            day = np.repeat(np.arange(14), 20)
            luck = np.repeat(random.normal(1, 0.4, size=(2, 14)), 20, axis=1)
            labels = (random.random(280) < 0.3).astype(float)
            scores = 1 / (1 + np.exp(1 - luck * labels - random.normal(size=(2, 280))))
            found = compare_paired("log_loss", labels, *scores, day, draws=300, seed=seed)
            p_harm = p_beyond(found, 0.0, more=True)
            seen.append(SliceSeen(name="s", rows=280, comparison=found, p_harm=p_harm))
        wrong += bool(harmed(gate, tuple(seen)))
    print(f"gates over 8 slices, none of them harmed: {wrong / runs:.1%} name one, of {runs:,}")


def run(*, quick: bool) -> None:
    """Print all of it."""
    report(200 if quick else 2000)


def report(runs: int) -> None:
    """Print all of it, of so many runs."""
    metric_guards(runs)
    latency_guards(max(50, runs // 5))
    slice_gates(max(50, runs // 5))


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    report(parser.parse_args().runs)


if __name__ == "__main__":
    main()
