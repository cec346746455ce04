"""Power: statsmodels' numbers, and confidence sequences simulated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import power_proportions_2indep

from upturn.core.errors import Invalid
from upturn.improve.statistics import power
from upturn.improve.statistics.sequences import tuned_rho2, two_sided_z

NORMAL = NormalIndPower()


@given(st.floats(0.02, 1), st.floats(0.2, 0.8), st.floats(0.001, 0.2), st.floats(0.5, 0.99))
def test_rows_for_means_are_statsmodels(
    effect: float, share: float, alpha: float, asked: float
) -> None:
    for sides, alternative in ((2, "two-sided"), (1, "larger")):
        n = power.fixed_n(effect, 1.0, share=share, alpha=alpha, power=asked, sides=sides)
        se = math.sqrt(1 / n * (1 / share + 1 / (1 - share)))
        ours = power.fixed_power(effect, se, alpha=alpha, sides=sides)
        first = (1 - share) * n
        theirs = NORMAL.power(effect, first, alpha, share / (1 - share), alternative)
        assert ours == pytest.approx(theirs, abs=1e-9)
        assert ours >= asked - 1e-6
        assert power.detectable(se, alpha=alpha, power=asked, sides=sides) <= effect * 1.00001


@given(st.floats(0.02, 0.9), st.floats(0.01, 0.09))
def test_rows_for_proportions_are_statsmodels(base: float, more: float) -> None:
    n = power.fixed_n_proportions(base, base + more)
    theirs = power_proportions_2indep(more, base, n / 2, return_results=False)
    unpooled = NORMAL.power(
        more / math.sqrt((base * (1 - base) + (base + more) * (1 - base - more)) / 2),
        n / 2,
        0.05,
    )
    assert unpooled == pytest.approx(0.8, abs=2e-3)
    assert theirs == pytest.approx(0.8, abs=0.03)  # pooled


def test_a_ratios_variance_by_drawing() -> None:
    draw = np.random.default_rng(3)
    bottom = draw.gamma(9, 1, 400_000)
    top = 0.2 * bottom + draw.normal(0, 1, 400_000)
    cov = np.cov(top, bottom)
    found = power.ratio_variance(top.mean(), bottom.mean(), cov[0, 0], cov[1, 1], float(cov[0, 1]))
    ratios = top.reshape(4000, 100).mean(axis=1) / bottom.reshape(4000, 100).mean(axis=1)
    assert found == pytest.approx(100 * ratios.var(), rel=0.06)


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_a_sequences_power_is_what_simulations_find(effect: float) -> None:
    draw = np.random.default_rng(12)
    n, looks = 2000, np.unique(np.geomspace(50, 2000, 60).astype(int))
    steps = np.diff(looks, prepend=0)
    walks = (draw.normal(size=(8000, len(looks))) * np.sqrt(steps) + effect * steps).cumsum(axis=1)
    bounds = np.array([two_sided_z(k * tuned_rho2(0.05, 1000), 0.05) for k in looks])
    crossed = np.abs(walks / np.sqrt(looks)) > bounds
    found = power.sequence_power(effect, 1.0, n, tuned_n=1000)
    assert crossed.any(axis=1).mean() == pytest.approx(found.power, abs=0.012)
    first = np.where(crossed.any(axis=1), looks[crossed.argmax(axis=1)], n)
    assert first.mean() == pytest.approx(found.expected_n, rel=0.02)
    if effect:
        assert np.median(first) == pytest.approx(found.median_n, rel=0.08)


def test_rows_for_a_sequence() -> None:
    n = power.sequence_n(0.1, 4.0, power=0.8)
    found = power.sequence_power(0.1, 4.0, n, tuned_n=n, first_n=n / 50)
    assert found.power == pytest.approx(0.8, abs=0.02)
    assert found.expected_n < 0.75 * n
    assert power.sequence_n(0.2, 4.0) == pytest.approx(n / 4, rel=1e-3)


def test_refusals() -> None:
    for wrong in (
        lambda: power.fixed_n(0.0, 1.0),
        lambda: power.fixed_n(0.1, 0.0),
        lambda: power.fixed_n(0.1, 1.0, share=1.0),
        lambda: power.fixed_n(0.1, 1.0, power=1.0),
        lambda: power.fixed_n_proportions(0.1, 0.1),
        lambda: power.fixed_power(0.1, 0.0),
        lambda: power.ratio_variance(1.0, 0.0, 1.0, 1.0, 0.0),
        lambda: power.sequence_power(0.1, 0.0, 100, tuned_n=100),
        lambda: power.sequence_n(0.0, 1.0),
        lambda: power.detectable(1.0, sides=3),
    ):
        with pytest.raises(Invalid):
            wrong()
