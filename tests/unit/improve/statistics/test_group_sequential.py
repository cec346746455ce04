"""Group-sequential bounds: published tables, scipy's multivariate normal, and simulated walks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from upturn.core.errors import Invalid
from upturn.improve.statistics.group_sequential import (
    boundaries,
    crossing_probabilities,
    drift_for_power,
    repeated_interval,
    repeated_p,
    spent,
)

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def even(looks: int) -> tuple[float, ...]:
    return tuple((k + 1) / looks for k in range(looks))


@pytest.mark.parametrize(
    ("looks", "chance"), [(1, 0.05), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193)]
)
def test_repeated_significance_tests(looks: int, chance: float) -> None:
    """Armitage, McPherson & Rowe (1969), table 2: the chance of |z| > 1.96 at any of the looks."""
    found = sum(crossing_probabilities(even(looks), [1.959964] * looks))
    assert found == pytest.approx(chance, abs=5.1e-4)


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming"),
    [
        (2, 2.178, 1.977),
        (3, 2.289, 2.004),
        (4, 2.361, 2.024),
        (5, 2.413, 2.040),
        (10, 2.555, 2.087),
    ],
)
def test_constants_of_pocock_and_obrien_fleming(
    looks: int, pocock: float, obrien_fleming: float
) -> None:
    """Jennison & Turnbull (2000), tables 2.1 and 2.3, alpha 0.05: bounds C and C·√(K / k)."""
    fractions = even(looks)
    alike = crossing_probabilities(fractions, [pocock] * looks)
    strict = crossing_probabilities(fractions, [obrien_fleming / math.sqrt(t) for t in fractions])
    assert sum(alike) == pytest.approx(0.05, abs=1e-4)
    assert sum(strict) == pytest.approx(0.05, abs=1e-4)


def test_more_information_than_one_look_takes() -> None:
    """Jennison & Turnbull (2000), tables 2.2 and 2.4: power 0.9, five looks: 1.207 and 1.026."""
    one_look = (1.959964 + 1.281552) ** 2
    alike = drift_for_power(FIFTHS, [2.413] * 5, power=0.9)
    strict = drift_for_power(FIFTHS, [2.040 / math.sqrt(t) for t in FIFTHS], power=0.9)
    assert alike**2 / one_look == pytest.approx(1.207, abs=1e-3)
    assert strict**2 / one_look == pytest.approx(1.026, abs=1e-3)


def test_lan_and_demets_bounds() -> None:
    """Reboussin, DeMets, Kim & Lan (2000), five even looks, two-sided 0.05."""
    strict = boundaries(FIFTHS)
    assert strict == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)
    alike = boundaries(FIFTHS, spending="pocock")
    assert alike == pytest.approx((2.4380, 2.4268, 2.4101, 2.3966, 2.3859), abs=1.1e-4)


def test_gsdesigns_default() -> None:
    """R's gsDesign(): three looks, one-sided 0.025, Hwang-Shih-DeCani with gamma −4."""
    found = boundaries(even(3), alpha=0.025, sides=1, spending="hwang-shih-decani", gamma=-4)
    assert found == pytest.approx((3.010739, 2.546531, 1.999226), abs=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.05, 1), min_size=2, max_size=3),
    st.floats(1.2, 3),
    st.floats(-2, 3),
    st.integers(1, 2),
)
def test_chances_are_those_of_a_multivariate_normal(
    steps: list[float], bound: float, drift: float, sides: int
) -> None:
    t = np.cumsum(steps) / sum(steps)
    found = crossing_probabilities(t.tolist(), [bound] * len(t), drift=drift, sides=sides)
    covariance = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    normal = stats.multivariate_normal(drift * np.sqrt(t), covariance)
    lower = [-bound] * len(t) if sides == 2 else [-np.inf] * len(t)
    inside = normal.cdf([bound] * len(t), lower_limit=lower)
    assert sum(found) == pytest.approx(1 - inside, abs=2e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0.05, 1), min_size=1, max_size=6),
    st.floats(0.001, 0.2),
    st.sampled_from(["obrien-fleming", "pocock", "hwang-shih-decani"]),
    st.integers(1, 2),
)
def test_bounds_spend_what_they_may(
    steps: list[float], alpha: float, spending: str, sides: int
) -> None:
    fractions = (np.cumsum(steps) / sum(steps)).tolist()
    bounds = boundaries(fractions, alpha=alpha, spending=spending, sides=sides)  # type: ignore[arg-type]
    found = np.cumsum(crossing_probabilities(fractions, bounds, sides=sides))
    meant = [spent(t, alpha, spending, sides=sides) for t in fractions]  # type: ignore[arg-type]
    assert found == pytest.approx(meant, abs=1e-8)
    assert found[-1] == pytest.approx(alpha)


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 8), st.integers(1, 4))
def test_an_interval_leaves_out_what_its_p_value_rules_out(z: float, looks: int) -> None:
    fractions = even(4)[:looks]
    found = repeated_interval(z, 1.0, fractions, spending="pocock")
    if abs(found.p_value - 0.05) > 1e-6:
        assert found.excludes(0.0) == (found.p_value < 0.05)
    assert found.p_value >= 2 * stats.norm.sf(z) * (1 - 1e-9)


def test_p_values_far_out() -> None:
    assert repeated_interval(2.0, 1.0, (1.0,)).p_value == pytest.approx(2 * stats.norm.sf(2.0))
    assert 1e-100 < repeated_interval(20.0, 1.0, (0.5, 1.0)).p_value < 1e-80
    assert repeated_interval(0.0, 1.0, (0.5, 1.0)).p_value == 1.0
    assert repeated_p(-boundaries((0.5, 1.0), alpha=0.01)[1], (0.5, 1.0)) == pytest.approx(0.01)


def test_what_can_not_be_said_and_refusals() -> None:
    assert not repeated_interval(1.0, 0.0, (1.0,)).said
    assert not repeated_interval(math.nan, 1.0, (1.0,)).said
    for fractions in [(), (0.5, 0.5), (0.5, 1.2), (-0.1, 1.0)]:
        with pytest.raises(Invalid):
            boundaries(fractions)
    with pytest.raises(Invalid):
        boundaries((1.0,), sides=3)
    with pytest.raises(Invalid):
        crossing_probabilities((0.5, 1.0), [2.0])
    with pytest.raises(Invalid):
        drift_for_power((1.0,), [1.96], power=1.0)
