"""Confidence sequences of means: published values, integrals, and error rates at every look."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from upturn.core.errors import Invalid
from upturn.improve.statistics import sequences
from upturn.improve.statistics.interval import Interval

ALPHAS = st.floats(1e-6, 0.5)
ROWS = st.integers(2, 10**6)


def test_published_values_of_normal_mixtures() -> None:
    """Howard's confseq, test/uniform_boundaries_unittest.cpp, whose targets are from R.

    Its mixture's rho is the precision of the effects, 100 / rho our variance in squared errors.
    """
    x = 100 / 12.60056
    assert sequences.log_mixture(1.0, x) == pytest.approx(-0.6510052, abs=1e-5)
    assert 10 * sequences.two_sided_z(x, 0.05) == pytest.approx(30.35209, abs=1e-4)
    log = -2 * math.log(0.1)
    x = log + math.log1p(log)  # its best_rho for 2 · alpha
    assert sequences.log_half_mixture(1.0, x) == pytest.approx(-0.06502391, abs=1e-6)
    assert 10 * sequences.one_sided_z(x, 0.05) == pytest.approx(27.66071, abs=1e-4)


@given(ALPHAS, st.floats(0.01, 1e6))
def test_a_one_sided_bound_is_inside_the_published_one(alpha: float, x: float) -> None:
    """2103.06476, appendix B.1, has an upper bound of the exact one in closed form."""
    published = math.sqrt(2 * (1 + x) / x * math.log1p(math.sqrt(1 + x) / (2 * alpha)))
    found = sequences.one_sided_z(x, alpha)
    assert found <= published
    assert sequences.log_half_mixture(found, x) == pytest.approx(-math.log(alpha), rel=1e-9)
    assert found <= sequences.two_sided_z(x, alpha)


@given(ALPHAS, st.floats(1, 1e7))
def test_tuned_is_narrowest(alpha: float, n: float) -> None:
    best = sequences.tuned_rho2(alpha, n) * n
    found = optimize.minimize_scalar(
        lambda log_x: sequences.two_sided_z(math.exp(log_x), alpha),
        bounds=(-5, 6),
        method="bounded",
    )
    assert sequences.two_sided_z(best, alpha) == pytest.approx(found.fun, rel=1e-6)


@pytest.mark.parametrize(("z", "x"), [(0.0, 1.0), (1.5, 3.0), (-4.0, 0.2), (3.0, 50.0)])
def test_mixtures_are_averages_of_likelihood_ratios(z: float, x: float) -> None:
    def integrand(effect: float) -> float:
        return math.exp(effect * z - effect * effect / 2) * stats.norm.pdf(effect, 0, math.sqrt(x))

    both, _ = integrate.quad(integrand, -np.inf, np.inf)
    above, _ = integrate.quad(lambda effect: 2 * integrand(effect), 0, np.inf)
    assert math.exp(sequences.log_mixture(z, x)) == pytest.approx(both, rel=1e-6)
    assert math.exp(sequences.log_half_mixture(z, x)) == pytest.approx(above, rel=1e-6)


@pytest.mark.parametrize(("t", "df", "x"), [(2.0, 5, 8.0), (-1.0, 30, 3.0), (4.0, 12, 20.0)])
def test_the_t_sequence_is_a_ratio_of_t_densities(t: float, df: float, x: float) -> None:
    """Under the mixture, the t statistic has a t distribution √(1 + x) times as wide."""
    n = x / sequences.tuned_rho2(0.05, 100)
    found = sequences.t_sequence(t, 1.0, df, n, tuned_n=100)
    width = math.sqrt(1 + x)
    ratio = stats.t.pdf(t / width, df) / width / stats.t.pdf(t, df)
    assert found.p_value == pytest.approx(min(1 / ratio, 1.0), rel=1e-9)


METHODS: list[Callable[[float, float, float, float], Interval]] = [
    lambda z, n, alpha, null: sequences.asymptotic_interval(
        z, n, n, alpha=alpha, tuned_n=1000, null=null
    ),
    lambda z, n, alpha, null: sequences.asymptotic_bound(
        z, n, n, alpha=alpha, tuned_n=1000, null=null
    ),
    lambda z, n, alpha, null: sequences.asymptotic_bound(
        z, n, n, alpha=alpha, tuned_n=1000, null=null, side="high"
    ),
    lambda z, n, alpha, null: sequences.running_mean_interval(
        z, n, n, alpha=alpha, tuned_variance=1000, null=null
    ),
    lambda z, n, alpha, null: sequences.mixture_sprt(z, n, n, tau2=2.0, alpha=alpha, null=null),
    lambda z, n, alpha, null: sequences.t_sequence(
        z, 1.0, n - 1, n, alpha=alpha, tuned_n=1000, null=null
    ),
]


@pytest.mark.parametrize("method", METHODS, ids=["both", "low", "high", "running", "sprt", "t"])
@given(st.floats(-40, 40), ROWS, ALPHAS, st.floats(-3, 3))
def test_an_interval_leaves_out_what_its_p_value_rules_out(
    method: Callable[[float, float, float, float], Interval],
    z: float,
    n: int,
    alpha: float,
    null: float,
) -> None:
    found = method(z, n, alpha, null)
    assert found.low <= found.estimate <= found.high
    assume(abs(found.p_value / alpha - 1) > 1e-7)
    assert found.excludes(null) == (found.p_value < alpha)


def test_a_mean_that_drifts_and_depends_on_the_past() -> None:
    """Each value's mean is the sign of the last, slowed: the mean of these means is held."""
    draw = np.random.default_rng(10)
    wrong, n = 0, np.arange(1, 801)
    reach = np.array(
        [sequences.running_mean_interval(0, 1.0, k, tuned_variance=400).high for k in n[1:]]
    )
    for _ in range(300):
        noise, x, means = draw.normal(size=800), np.zeros(800), np.zeros(800)
        for at in range(1, 800):
            means[at] = np.sign(x[at - 1]) + at / 400
            x[at] = means[at] + noise[at]
        x[0] = noise[0]
        away = np.abs(x.cumsum() - means.cumsum()) / n
        wrong += bool((away[50:] > reach[49:]).any())
    assert wrong / 300 <= 0.05


def test_p_values_far_out_and_of_nothing() -> None:
    found = sequences.asymptotic_interval(36.5, 1000.0, 1000, tuned_n=1000)
    assert 0 < found.p_value < 1e-250
    assert sequences.asymptotic_interval(0.0, 1.0, 50, tuned_n=1000).p_value == 1.0
    assert sequences.asymptotic_bound(-5.0, 1.0, 50, tuned_n=1000).p_value == 1.0


@pytest.mark.parametrize(
    ("estimate", "variance", "n"),
    [(1.0, 0.0, 100), (math.nan, 1.0, 100), (1.0, math.inf, 100), (1.0, math.nan, 100), (1, 1, 1)],
)
def test_what_can_not_be_said(estimate: float, variance: float, n: int) -> None:
    for found in (
        sequences.asymptotic_interval(estimate, variance, n, tuned_n=100),
        sequences.asymptotic_bound(estimate, variance, n, tuned_n=100),
        sequences.mixture_sprt(estimate, variance, n, tau2=1.0),
    ):
        assert not found.said
        assert math.isnan(found.p_value)
    assert not sequences.t_sequence(estimate, math.nan, 3, 4, tuned_n=10).said
    # One degree of freedom: no t is far enough out at this alpha.
    assert not sequences.t_sequence(1.0, 0.1, 1, 2, tuned_n=1000, alpha=0.001).said


def test_what_is_refused() -> None:
    with pytest.raises(Invalid):
        sequences.asymptotic_interval(1.0, 1.0, 10, tuned_n=0)
    with pytest.raises(Invalid):
        sequences.asymptotic_interval(1.0, 1.0, 10, tuned_n=10, alpha=0)
    with pytest.raises(Invalid):
        sequences.mixture_sprt(1.0, 1.0, 10, tau2=-1.0)


def test_errors_at_every_look() -> None:
    """Means of exponentials from 50 on, normal ones from 2 on by t: 1,000 runs of 2,000 rows."""
    draw = np.random.default_rng(8)
    n = np.arange(1, 2001)
    x = draw.exponential(1, (1000, 2000)) - 1
    mean = x.cumsum(axis=1) / n
    spread = (x**2).cumsum(axis=1) / n - mean**2
    z = mean[:, 49:] / np.sqrt(spread[:, 49:] / n[49:])
    reach = [sequences.two_sided_z(k * sequences.tuned_rho2(0.05, 1000), 0.05) for k in n[49:]]
    assert np.mean((np.abs(z) > np.array(reach)).any(axis=1)) < 0.05
    assert np.mean((np.abs(z) > 1.96).any(axis=1)) > 0.35  # what looking at a fixed test does
    normal = draw.normal(size=(1000, 300))
    k = np.arange(1, 301)
    mean = normal.cumsum(axis=1) / k
    ss = (normal**2).cumsum(axis=1) - k * mean**2
    t = mean[:, 1:] / np.sqrt(ss[:, 1:] / k[:-1] / k[1:])
    reach = [sequences.t_sequence(0, 1.0, m - 1, m, tuned_n=100).high for m in k[1:]]
    assert np.mean((np.abs(t) > np.array(reach)).any(axis=1)) < 0.05
