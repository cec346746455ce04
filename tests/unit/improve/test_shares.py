"""Whether a share has grown: by chance and days that differ."""

import math

import numpy as np
import pytest

from upturn.improve.monitor.shares import grown


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_days_that_differ_do_not_cry_wolf(spread: float) -> None:
    """Log odds of a day vary by `spread`, in the baseline of 60 days too."""
    random = np.random.default_rng(1)
    rows = np.full(14, 2000)
    wrong = 0
    for _ in range(2000):
        odds = np.exp(random.normal(-4, spread, 74))
        counts = random.binomial(2000, odds / (1 + odds))
        found = grown(counts[:14], rows, counts[14:].sum(), 60 * 2000)
        wrong += found.p_value < 0.01
    assert wrong / 2000 < 0.018


def test_what_there_is_to_see() -> None:
    found = grown(np.array([30, 20, 25]), np.array([1000, 1000, 1000]), 100, 100_000)
    assert found.p_value < 1e-5
    steady = grown(np.array([25, 25, 26]), np.full(3, 1000), 100, 100_000)
    assert steady.dispersion == 1
    assert 0 < steady.p_value < 1e-40
    assert (found.before, found.now) == (0.001, 0.025)
    assert grown(np.array([0, 0]), np.array([10, 10]), 0, 100).p_value == 1.0
    assert math.isnan(grown(np.array([]), np.array([]), 1, 10).p_value)
    assert math.isnan(grown(np.array([1]), np.array([2]), 0, 0).p_value)
