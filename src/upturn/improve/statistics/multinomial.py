"""Sample ratio mismatch: whether the arms have the sizes that they should, asked at any time.

Lindon & Malek, "Anytime-valid inference for multinomial count data" (2022, arXiv 2011.03567): the
Bayes factor of a Dirichlet mixture of shares against the expected ones is a martingale while those
are right, so 1 / it is an always-valid p-value, and the shares that it has not ruled out are a
confidence sequence for all arms at once.
"""

import math
from collections.abc import Sequence

import msgspec

from upturn.core.errors import Invalid
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.interval import Interval
from upturn.improve.statistics.special import solve

CONCENTRATION = 10_000.0  # rows that the prior is worth: finds shares that are off by a little


class RatioMismatch(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence that units do not come to the arms as they should.

    `p_value` is always valid. `intervals` are of the arms' true shares, all at once at every look.
    """

    log_e: float  # the log of the e-value against the expected shares
    p_value: float
    intervals: tuple[Interval, ...]
    rows: int

    @property
    def e_value(self) -> float:
        """Its expectation is 1 at most while the shares are right; infinite beyond 1e308."""
        return math.exp(self.log_e) if self.log_e < 709 else math.inf


def ratio_mismatch(
    counts: Sequence[int],
    expected: Sequence[float],
    *,
    alpha: float = 0.05,
    concentration: float = CONCENTRATION,
) -> RatioMismatch:
    """The sequential multinomial test of the arms' counts against their expected shares or weights.

    `concentration` is how many rows the Dirichlet prior around the expected shares is worth: large
    looks for small mismatches, small for gross ones early. It is chosen before the data are seen.
    An alpha of 0.001 is usual for experiments, as what follows a mismatch is not worth reading
    (Fabijan et al. 2019). Raises Invalid for counts and shares that are none.

    >>> ratio_mismatch([5000, 5012], [0.5, 0.5]).p_value
    1.0
    >>> found = ratio_mismatch([5000, 5600], [0.5, 0.5])
    >>> found.p_value < 0.001, found.intervals[1].excludes(0.5)
    (True, True)
    """
    check_alpha(alpha)
    shares = _shares(counts, expected, concentration)
    rows = sum(counts)
    prior = [concentration * share for share in shares]
    log_marginal = math.lgamma(concentration) - math.lgamma(concentration + rows)
    log_marginal += sum(
        math.lgamma(a + k) - math.lgamma(a) for a, k in zip(prior, counts, strict=True)
    )
    log_e = log_marginal - sum(
        k * math.log(share) for k, share in zip(counts, shares, strict=True) if k
    )
    # log-likelihood of the best shares that an arm's own one leaves to the others
    limit = log_marginal + math.log(alpha)
    return RatioMismatch(
        log_e=log_e,
        p_value=math.exp(min(-log_e, 0.0)),
        intervals=tuple(
            _interval(place, counts, shares, limit, alpha) for place in range(len(counts))
        ),
        rows=rows,
    )


def _interval(
    place: int, counts: Sequence[int], shares: Sequence[float], limit: float, alpha: float
) -> Interval:
    """The arm's shares s with max over the others' of the likelihood at least alpha · mixture."""
    rows, own = sum(counts), counts[place]
    rest = rows - own
    others = sum(k * math.log(k / rest) for at, k in enumerate(counts) if k and at != place)
    log_limit = limit - others

    def log_likelihood(share: float, other: float) -> float:
        # 0 · log 0 is 0: none of a kind says nothing against its having no share.
        return (own * math.log(share) if own else 0.0) + (rest * math.log(other) if rest else 0.0)

    def away(logit: float) -> tuple[float, float]:
        share, other = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(logit))
        return log_likelihood(share, other) - log_limit, own * other - rest * share

    def ends() -> tuple[float, float]:
        if not rows:
            return 0.0, 1.0
        middle = (
            math.log((own + 0.5) / (rest + 0.5)) if not (own and rest) else math.log(own / rest)
        )
        low = 1 / (1 + math.exp(-solve(away, -700.0, middle, middle - 1))) if own else 0.0
        high = 1 / (1 + math.exp(-solve(away, middle, 700.0, middle + 1))) if rest else 1.0
        return low, high

    low, high = ends()
    estimate = own / rows if rows else math.nan
    expected = shares[place]
    log_e = limit - math.log(alpha) - others - log_likelihood(expected, 1 - expected)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        level=1 - alpha,
        p_value=math.exp(min(-log_e, 0.0)),
        method="multinomial confidence sequence",
        null=expected,
    )


def _shares(counts: Sequence[int], expected: Sequence[float], concentration: float) -> list[float]:
    if len(counts) != len(expected) or len(counts) < 2:
        raise Invalid(
            f"{len(counts)} counts have {len(expected)} expected shares.",
            hint="Give one share for each arm, of two arms at least.",
        )
    if not all(k >= 0 for k in counts):
        raise Invalid(f"{list(counts)} are no counts.")
    total = math.fsum(expected)
    if not (all(share > 0 for share in expected) and math.isfinite(total)):
        raise Invalid(f"{list(expected)} are no shares.", hint="Each arm's has to be above 0.")
    if not 0 < concentration < math.inf:
        raise Invalid(f"concentration={concentration} is no number of rows.")
    return [share / total for share in expected]
