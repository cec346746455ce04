"""One planned look: how often intervals of 95 % hold the truth, and how many tests at once err."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from upturn.improve.statistics.distributions import normal_sf
from upturn.improve.statistics.fixed import (
    clopper_pearson,
    delta_lift,
    fieller_lift,
    newcombe,
    non_inferiority,
    welch,
    wilson,
)
from upturn.improve.statistics.interval import Interval
from upturn.improve.statistics.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    e_benjamini_hochberg,
    holm,
)

Draw = np.random.Generator


def arm(draw: Draw, kind: str, n: int) -> tuple[float, float, float]:
    """Mean, variance and rows of an arm whose mean is 1."""
    x = {
        "normal": lambda: draw.normal(1, 1, n),
        "exponential": lambda: draw.exponential(1, n),
        "lognormal": lambda: draw.lognormal(-0.5, 1, n),
    }[kind]()
    return float(x.mean()), float(x.var(ddof=1)), n


def cases() -> dict[str, Callable[[Draw], tuple[Interval, float]]]:
    """Each draws an interval, and what it should hold."""

    def difference(kind: str, n: int, m: int) -> Callable[[Draw], tuple[Interval, float]]:
        return lambda draw: (welch(arm(draw, kind, n), arm(draw, kind, m)), 0.0)

    def rates(n: int, p: float, m: int, r: float) -> Callable[[Draw], tuple[Interval, float]]:
        return lambda draw: (
            newcombe((int(draw.binomial(n, p)), n), (int(draw.binomial(m, r)), m)),
            r - p,
        )

    def lift(
        method: Callable[..., Interval], errors: float
    ) -> Callable[[Draw], tuple[Interval, float]]:
        def drawn(draw: Draw) -> tuple[Interval, float]:
            base, new = draw.normal(errors, 1), draw.normal(1.2 * errors, 1)
            return method(base, new, 1.0, 1.0), 0.2

        return drawn

    return {
        "Welch t, normal, 10 and 20": difference("normal", 10, 20),
        "Welch t, exponential, 100": difference("exponential", 100, 100),
        "Welch t, exponential, 30 and 300": difference("exponential", 30, 300),
        "Welch t, lognormal, 2,000": difference("lognormal", 2000, 2000),
        "Wilson, 0.05 of 100": lambda draw: (wilson(int(draw.binomial(100, 0.05)), 100), 0.05),
        "Wilson, 0.5 of 15": lambda draw: (wilson(int(draw.binomial(15, 0.5)), 15), 0.5),
        "Clopper-Pearson, 0.05 of 100": lambda draw: (
            clopper_pearson(int(draw.binomial(100, 0.05)), 100),
            0.05,
        ),
        "Newcombe, 0.1 of 60, 0.15 of 80": rates(60, 0.1, 80, 0.15),
        "Newcombe, 0.01 of 1,000, 0.012": rates(1000, 0.01, 1000, 0.012),
        "Fieller, base 3 errors from 0": lift(fieller_lift, 3),
        "delta method, base 3 errors": lift(delta_lift, 3),
        "Fieller, base 20 errors from 0": lift(fieller_lift, 20),
        "delta method, base 20 errors": lift(delta_lift, 20),
    }


def coverage(runs: int) -> None:
    """Print the share of intervals that hold the truth."""
    print(f"coverage of 95 %, {runs:,} runs")
    for name, drawn in cases().items():
        draw = np.random.default_rng(1)
        pairs = [drawn(draw) for _ in range(runs)]
        held = np.mean([not found.excludes(truth) for found, truth in pairs])
        none = np.mean([not found.said for found, _ in pairs])
        print(f"  {name:34}{held:8.1%}" + (f"   says nothing in {none:.1%}" if none else ""))
    draw = np.random.default_rng(2)
    wrong = np.mean(
        [non_inferiority(draw.normal(-0.5, 0.2), 0.2, 0.5).p_value < 0.05 for _ in range(runs)]
    )
    print(f"  {'non-inferior at the very margin':34}{wrong:8.1%}   (of 5.0 %)")


def many(runs: int) -> None:
    """Print error rates of corrections: 40 tests, 10 with an effect, correlated by a half."""
    draw, found = np.random.default_rng(3), dict[str, list[tuple[float, float, float]]]()
    for _ in range(runs):
        z = np.sqrt(0.5) * (draw.normal(size=40) + draw.normal())
        z[:10] += 3
        ps = [normal_sf(one) for one in z.tolist()]
        masks = {
            "none": np.array(ps) <= 0.05,
            "Holm": np.array(holm(ps)) <= 0.05,
            "Benjamini-Hochberg": np.array(benjamini_hochberg(ps)) <= 0.05,
            "Benjamini-Yekutieli": np.array(benjamini_yekutieli(ps)) <= 0.05,
            "e-values": np.array(e_benjamini_hochberg(np.exp(3 * z - 4.5).tolist(), 0.05)),
        }
        for name, mask in masks.items():
            wrong = int(mask[10:].sum())
            found.setdefault(name, []).append(
                (float(wrong > 0), wrong / max(int(mask.sum()), 1), float(mask[:10].mean()))
            )
    print(f"40 tests at once, 10 with an effect, alpha 0.05, {runs:,} runs")
    print(f"  {'':22}{'any false':>12}{'share false':>14}{'found of 10':>14}")
    for name, rows in found.items():
        any_false, share, power = np.mean(rows, axis=0)
        print(f"  {name:22}{any_false:12.1%}{share:14.1%}{power:14.1%}")


def run(*, quick: bool) -> None:
    """Print both."""
    coverage(2000 if quick else 20_000)
    many(300 if quick else 3000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick)
