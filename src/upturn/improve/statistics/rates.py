"""Rates at every look: shares of rows, counts in time, and a canary's against the control's.

A rate of rows is judged by a mixture of likelihood ratios of Bernoulli rates under a beta prior
around the hypothesis (Howard & Ramdas, "Sequential estimation of quantiles", arXiv 1906.09712,
section 3; Robbins 1970), a count in time by one of Poisson rates under a gamma prior (Lindon &
Kallus, "Anytime-valid continuous-time confidence processes for inhomogeneous Poisson processes",
arXiv 2410.09282). Both are exact for any number of rows, and hold at every row or instant.
"""

import math

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import beta_log_sf
from upturn.improve.statistics.fixed import check_alpha, check_counts
from upturn.improve.statistics.interval import Interval, Side, unsaid
from upturn.improve.statistics.sequences import tuned_rho2
from upturn.improve.statistics.special import edge, least_value, log_beta_ratio


def rate_interval(
    k: float, n: float, *, alpha: float = 0.05, tuned_n: float, null: float = math.nan
) -> Interval:
    """A rate by k of n independent rows, at every look; narrowest at about `tuned_n` rows.

    >>> found = rate_interval(30, 1000, tuned_n=1000)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0161, 0.049)
    """
    method = "Bernoulli confidence sequence"
    check_alpha(alpha)
    check_counts(k, n)
    worth = prior_worth(alpha, tuned_n)
    if n == 0:
        return unsaid(alpha=alpha, method=method, null=null)
    limit = -math.log(alpha)

    def allowed(rate: float) -> bool:
        return log_rate_mixture(k, n, rate, worth) < limit

    p_value = math.nan
    if 0 < null < 1:
        p_value = math.exp(min(-log_rate_mixture(k, n, null, worth), 0.0))
    return Interval(
        estimate=k / n,
        low=edge(allowed, k / n, 0.0) if k else 0.0,
        high=edge(allowed, k / n, 1.0) if k < n else 1.0,
        level=1 - alpha,
        p_value=p_value,
        method=method,
        null=null,
    )


def rate_bound(
    k: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_n: float,
    null: float = math.nan,
    side: Side = "low",
) -> Interval:
    """A lower or an upper bound of a rate at every look, with the p-value of its being beyond.

    >>> found = rate_bound(30, 1000, tuned_n=1000, null=0.01)
    >>> round(found.low, 4), found.high, found.p_value < 1e-4
    (0.0174, 1.0, True)
    """
    method = "one-sided Bernoulli confidence sequence"
    check_alpha(alpha)
    check_counts(k, n)
    worth = prior_worth(min(2 * alpha, 0.999), tuned_n)
    if n == 0:
        return unsaid(alpha=alpha, method=method, null=null)
    limit = -math.log(alpha)

    def allowed(rate: float) -> bool:
        return log_rate_half_mixture(k, n, rate, worth, side) < limit

    p_value = math.nan
    if 0 < null < 1:
        p_value = math.exp(min(-log_rate_half_mixture(k, n, null, worth, side), 0.0))
    return Interval(
        estimate=k / n,
        low=edge(allowed, k / n, 0.0) if side == "low" and k else 0.0,
        high=edge(allowed, k / n, 1.0) if side == "high" and k < n else 1.0,
        level=1 - alpha,
        p_value=p_value,
        method=method,
        null=null,
    )


def compare_rates(
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    alpha: float = 0.05,
    tuned_n: float,
) -> Interval:
    """The difference of two rates, second less first, at every look: (how often, of how many) each.

    The ends are those of all pairs of rates that the two arms' e-processes together do not rule
    out: their product is an e-process too, for rows of the arms are independent. That is narrower
    than half of alpha on either arm. The p-value is of equal rates. `tuned_n` is of one arm.

    >>> found = compare_rates((30, 1000), (70, 1000), tuned_n=1000)
    >>> found.low > 0, round(found.estimate, 3), found.p_value < 0.01
    (True, 0.04, True)
    """
    method = "Bernoulli confidence sequences"
    check_alpha(alpha)
    worth = prior_worth(alpha, tuned_n)
    for k, n in (first, second):
        check_counts(k, n)
    if not (first[1] and second[1]):
        return unsaid(alpha=alpha, method=method)
    one, other = first[0] / first[1], second[0] / second[1]
    limit = -math.log(alpha)

    def least(difference: float) -> float:
        """The least that is said against any pair of rates so far apart.

        It lies between the rate that pleases the first arm and the one that pleases the second.
        """
        ends = sorted((one, min(max(other - difference, 0.0), 1.0)))

        def at(rate: float) -> float:
            return log_rate_mixture(*first, rate, worth) + log_rate_mixture(
                *second, rate + difference, worth
            )

        low, high = max(ends[0], 0.0, -difference), min(ends[1], 1.0, 1 - difference)
        return least_value(at, low, high)[1] if low < high else at(low)

    return Interval(
        estimate=other - one,
        low=max(edge(lambda gap: least(gap) < limit, other - one, -1.0), -1.0),
        high=min(edge(lambda gap: least(gap) < limit, other - one, 1.0), 1.0),
        level=1 - alpha,
        p_value=math.exp(min(-least(0.0), 0.0)),
        method=method,
    )


# -- counts in time --------------------------------------------------------------------------------


def count_interval(
    count: int, *, alpha: float = 0.05, tuned_count: float, null: float = math.nan
) -> Interval:
    """What a count is expected to be by now, at every instant: the cumulative rate of arrivals.

    The rate may go up and down in time as it likes (arXiv 2410.09282). Divide by the
    exposure for a mean rate. Narrowest at about `tuned_count` arrivals.

    >>> found = count_interval(100, tuned_count=100)
    >>> round(found.low, 1), round(found.high, 1)
    (72.3, 133.2)
    """
    check_alpha(alpha)
    check_counts(count, math.inf)
    shape = _gamma_shape(alpha, tuned_count)
    limit = -math.log(alpha)

    def allowed(expected: float) -> bool:
        return log_count_mixture(count, expected, shape) < limit

    far = 2 * count + 10 * shape + 100 * limit + 100
    return Interval(
        estimate=float(count),
        low=edge(allowed, float(count), 0.0) if count else 0.0,
        high=edge(allowed, float(count), far),
        level=1 - alpha,
        p_value=math.exp(min(-log_count_mixture(count, null, shape), 0.0))
        if null > 0
        else math.nan,
        method="Poisson confidence sequence",
        null=null,
    )


def count_ratio(
    first: int,
    second: int,
    *,
    exposure: float = 1.0,
    alpha: float = 0.05,
    tuned_count: float,
) -> Interval:
    """How many times as often something befalls the second arm as the first, at every instant.

    `exposure` is how much of what can be befallen (requests, units, machine hours) the second arm
    has for one of the first's: a canary with 5 % of the traffic has 5 / 95. Of each arrival it is
    a coin's toss, of known chance while the rates are alike, whose arm it is; so rates may go up
    and down in time, as long as they do in both arms alike (Lindon & Malek, arXiv 2011.03567;
    Lindon, Sanden & Shirikian, "Rapid regression detection in software deployments",
    arXiv 2205.14762). The p-value is of the ratio 1. Nothing needs to be known of what did not
    happen. Narrowest at about `tuned_count` arrivals in both arms.

    >>> found = count_ratio(95, 20, exposure=5 / 95, tuned_count=100)
    >>> round(found.estimate, 2), round(found.low, 2), round(found.p_value, 4)
    (4.0, 1.71, 0.0001)
    """
    method = "count ratio confidence sequence"
    if not 0 < exposure < math.inf:
        raise Invalid(
            f"exposure={exposure} is none.", hint="Give the second arm's over the first's."
        )
    share = exposure / (1 + exposure)
    if not first + second:
        check_counts(first, first)
        return unsaid(alpha=alpha, method=method, null=1.0)
    found = rate_interval(second, first + second, alpha=alpha, tuned_n=tuned_count, null=share)

    def ratio(of: float) -> float:
        return of / (1 - of) / exposure if of < 1 else math.inf

    return Interval(
        estimate=ratio(found.estimate),
        low=ratio(found.low),
        high=ratio(found.high),
        level=1 - alpha,
        p_value=found.p_value,
        method=method,
        null=1.0,
    )


def equal_counts_log_e(
    first: int, second: int, *, alpha: float = 0.05, tuned_count: float
) -> float:
    """The log of an e-process against two arms' being expected to have had as many arrivals by now.

    By contrast to `count_ratio` the two rates may differ at times, as long as they make up for it:
    the product of both arms' e-processes at the common expectation that they say least against,
    which is the mean of the counts (arXiv 2410.09282).

    >>> equal_counts_log_e(100, 100, tuned_count=100) < 0
    True
    >>> equal_counts_log_e(50, 150, tuned_count=100) > 10
    True
    """
    shape = _gamma_shape(alpha, tuned_count)
    common = (first + second) / 2
    return log_count_mixture(first, common, shape) + log_count_mixture(second, common, shape)


# -- the mixtures ----------------------------------------------------------------------------------


def prior_worth(alpha: float, tuned_n: float) -> float:
    """The beta prior's worth in rows with which a rate's interval is narrowest at `tuned_n`.

    As BetaBinomialMixture of Howard's confseq: the normal mixture's of that precision, less one.
    """
    return max(1 / tuned_rho2(alpha, tuned_n) - 1, 1e-3)


def log_rate_mixture(k: float, n: float, rate: float, worth: float) -> float:
    """log of the mixture likelihood ratio against a rate, with k of n; infinite if impossible."""
    if not 0 < rate < 1:
        return 0.0 if (k == 0 and rate == 0) or (k == n and rate == 1) else math.inf
    return (
        log_beta_ratio(worth * rate, worth * (1 - rate), k, n - k)
        - k * math.log(rate)
        - (n - k) * math.log1p(-rate)
    )


def log_rate_half_mixture(k: float, n: float, rate: float, worth: float, side: Side) -> float:
    """The same with the rates beyond the hypothesis alone: above it for a low bound."""
    whole = log_rate_mixture(k, n, rate, worth)
    if not 0 < rate < 1:
        return whole
    a, b = worth * rate, worth * (1 - rate)
    if side == "low":
        return whole + beta_log_sf(rate, a + k, b + n - k) - beta_log_sf(rate, a, b)
    return whole + beta_log_sf(1 - rate, b + n - k, a + k) - beta_log_sf(1 - rate, b, a)


def log_count_mixture(count: float, expected: float, shape: float) -> float:
    """log of the mixture likelihood ratio against an expected count, under a gamma prior of mean 1.

    phi^phi / (phi + L)^(phi + N) · Γ(phi + N) / Γ(phi) · e^L, of a count N where L is expected.
    """
    if expected <= 0:
        return math.inf if count else 0.0
    total = shape + count
    return (
        math.lgamma(total)
        - math.lgamma(shape)
        - count * math.log(shape + expected)
        - shape * math.log1p(expected / shape)
        + expected
    )


def _gamma_shape(alpha: float, tuned_count: float) -> float:
    # A gamma of mean 1 has the variance 1 / shape: of a count L it is L² / shape, against L.
    return 1 / tuned_rho2(alpha, tuned_count)
