"""Tails and quantiles: scipy's over wide grids, digits that were computed with 50, and inverses."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as scipy_special
from scipy import stats

from upturn.improve.statistics import distributions as d
from upturn.improve.statistics.special import log_rest, log_sum

DFS = [0.5, 1, 1.5, 2, 3, 5, 10, 30, 100, 1000, 12345.6, 1e6]
PS = [1e-300, 1e-200, 1e-100, 1e-50, 1e-20, 1e-10, 1e-5, 0.01, 0.1, 0.3, 0.5, 0.6, 0.9, 0.99]
XS = [10**k for k in range(-3, 6)] + [0.3, 0.7, 2, 5, 17, 60, 250, 700]


def like(value: float) -> object:
    """To ten digits; what is smaller than 1e-300 is as good as zero."""
    return pytest.approx(value, rel=1e-10, abs=1e-300)


def test_normal_tails_are_scipys() -> None:
    for z in (-37.0, -8.0, -1.0, 0.0, 0.3, 1.96, 5.0, 9.999, 10.001, 20.0, 37.0, 200.0, 1e5):
        assert d.normal_sf(z) == like(stats.norm.sf(z))
        assert d.normal_cdf(z) == like(stats.norm.cdf(z))
        assert d.normal_log_sf(z) == like(stats.norm.logsf(z))
        assert d.two_sided(z) == like(2 * stats.norm.sf(abs(z)))


@given(st.floats(1e-300, 1))
def test_normal_quantiles_are_scipys(p: float) -> None:
    assert d.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-13, abs=1e-15)
    assert d.normal_isf(p) == -d.normal_quantile(p)


@pytest.mark.parametrize("df", DFS)
def test_t_tails_are_scipys(df: float) -> None:
    for t in (-50.0, -3.0, -0.1, 0.0, 0.01, 0.5, 1.0, 2.5, 10.0, 38.0, 500.0, 1e6, 1e40):
        assert d.t_sf(t, df) == like(stats.t.sf(t, df))
        assert d.t_cdf(t, df) == like(stats.t.cdf(t, df))


@pytest.mark.parametrize(
    ("t", "df", "tail"),
    [
        (1e100, 1, 3.1830988618379067e-101),  # 1 / (pi t): all that is left of Cauchy's tail
        (1e200, 1, 3.1830988618379067e-201),
        (1e100, 2, 0.5e-200),  # 1 / (2 t²)
        (1e-9, 1, 0.5 - 1e-9 / math.pi),
        (30, 1e300, 4.906713927148187e-198),
    ],
)
def test_far_tails_of_t(t: float, df: float, tail: float) -> None:
    assert d.t_sf(t, df) == like(tail)


@pytest.mark.parametrize("df", DFS)
def test_chi_square_tails_are_scipys(df: float) -> None:
    for x in XS:
        assert d.chi2_sf(x, df) == like(stats.chi2.sf(x, df))
        assert d.chi2_cdf(x, df) == like(stats.chi2.cdf(x, df))


def test_f_tails_are_scipys() -> None:
    for x, one, other in product(XS, DFS[1::2], DFS[::2]):
        assert d.f_sf(x, one, other) == like(stats.f.sf(x, one, other))


def test_beta_tails_are_scipys() -> None:
    shapes = [0.3, 0.5, 1, 2, 5, 30, 400, 1e4]
    for x, a, b in product([1e-9, 1e-3, 0.1, 0.3, 0.5, 0.9, 0.999], shapes, shapes):
        assert d.beta_cdf(x, a, b) == like(scipy_special.betainc(a, b, x))
        assert d.beta_sf(x, a, b) == like(scipy_special.betaincc(a, b, x))


def test_counts_tails_are_scipys() -> None:
    for n, p in product([1, 10, 1000, 10**6], [1e-6, 0.01, 0.3, 0.5, 0.99]):
        for k in {-1, 0, 1, 3, n // 3, n // 2, n - 1, n}:
            assert d.binomial_sf(k, n, p) == like(stats.binom.sf(k, n, p))
            assert d.binomial_cdf(k, n, p) == like(stats.binom.cdf(k, n, p))
    for k, mean in product([-1, 0, 1, 3, 30, 500, 10**4, 10**6], [0, 1e-6, 0.01, 5, 100, 1e6]):
        assert d.poisson_sf(k, mean) == like(stats.poisson.sf(k, mean))
        assert d.poisson_cdf(k, mean) == like(stats.poisson.cdf(k, mean))


def test_a_count_whose_tail_underflows() -> None:
    # In whole numbers: SciPy says -inf.
    exact = sum(math.comb(2000, k) for k in range(1900, 2001))
    wanted = math.log(exact) - 2000 * math.log(2)
    assert d.binomial_log_sf(1899, 2000, 0.5) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("df", DFS[1:])
@pytest.mark.parametrize("p", PS)
def test_quantiles_undo_tails(p: float, df: float) -> None:
    assert d.normal_sf(d.normal_isf(p)) == pytest.approx(p, rel=1e-12)
    assert d.chi2_sf(d.chi2_isf(p, df), df) == pytest.approx(p, rel=1e-10)
    assert d.t_sf(d.t_isf(p, df), df) == pytest.approx(p, rel=1e-10)
    if d.chi2_quantile(p, df) > 1e-290:
        assert d.chi2_cdf(d.chi2_quantile(p, df), df) == pytest.approx(p, rel=1e-10)
    if 1e-290 < d.beta_quantile(p, df, 2.0) < 0.999:
        assert d.beta_cdf(d.beta_quantile(p, df, 2.0), df, 2.0) == pytest.approx(p, rel=1e-9)
    if math.isfinite(x := d.f_isf(p, 4.0, df)) and x > 0:
        assert d.f_sf(x, 4.0, df) == pytest.approx(p, rel=1e-8)


def test_ends_and_what_is_no_number() -> None:
    nan, inf = math.nan, math.inf
    assert (d.normal_isf(0.0), d.normal_isf(1.0), d.t_isf(0.0, 3)) == (inf, -inf, inf)
    assert (d.chi2_quantile(0.0, 3), d.chi2_quantile(1.0, 3), d.chi2_isf(1.0, 3)) == (0, inf, 0)
    assert (d.t_sf(inf, 3), d.t_sf(-inf, 3), d.f_sf(inf, 2, 3), d.chi2_sf(inf, 2)) == (0, 1, 0, 0)
    for value in (
        d.normal_sf(nan),
        d.normal_log_sf(nan),
        d.normal_isf(nan),
        d.t_sf(nan, 3),
        d.t_isf(nan, 3),
        d.chi2_sf(nan, 3),
        d.gamma_cdf(nan, 3),
        d.beta_sf(nan, 1, 2),
        d.f_sf(nan, 1, 2),
        d.beta_quantile(nan, 1, 2),
        d.gamma_quantile(nan, 2),
    ):
        assert math.isnan(value)
    for wrong in (
        lambda: d.t_sf(1, 0),
        lambda: d.chi2_sf(1, -1),
        lambda: d.normal_quantile(1.5),
        lambda: d.binomial_sf(1, 3, -0.1),
        lambda: d.poisson_sf(1, -1),
        lambda: d.beta_quantile(-0.1, 1, 1),
    ):
        with pytest.raises(ValueError, match=r"no probability|not above 0|is none"):
            wrong()


@given(st.floats(1e-300, 1), st.floats(1e-300, 1))
def test_sums_and_rests_of_logarithms(p: float, q: float) -> None:
    assert log_sum(math.log(p), math.log(q)) == pytest.approx(math.log(p + q), abs=1e-12)
    assert math.exp(log_rest(math.log(p))) == pytest.approx(1 - p, abs=1e-12)


@given(st.floats(-60, 60), st.floats(0.2, 1e5))
def test_both_sides_of_t_are_one(t: float, df: float) -> None:
    assert d.t_sf(t, df) + d.t_cdf(t, df) == pytest.approx(1, abs=1e-12)
    assert d.t_sf(t, df) == d.t_cdf(-t, df)


@given(st.floats(0, 1e4), st.floats(0.05, 1e4), st.floats(0.001, 100))
def test_gamma_falls_and_its_sides_are_one(x: float, shape: float, more: float) -> None:
    assert d.gamma_sf(x, shape) + d.gamma_cdf(x, shape) == pytest.approx(1, abs=1e-12)
    assert d.gamma_log_sf(x + more, shape) <= d.gamma_log_sf(x, shape) + 1e-12
