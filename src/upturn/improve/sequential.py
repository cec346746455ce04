"""Sequential comparison: candidate against champion, with bounds that hold at every look at once.

A guard looks at a stage again and again. A bound for one look, looked at 50 times, is wrong far
more often than it says; these are confidence sequences: with probability 1 − alpha the truth lies
on the right side of the bound at all looks together, so a stage may be ended at any of them.

For a metric, the difference of the two models is to first order a mean over blocks (hours or days)
of their influence: how much a block adds to the difference (for AUC from the placements of DeLong,
DeLong & Clarke-Pearson 1988, for others from the rows' losses). The bound is that of
`sequences.asymptotic_bound`, narrowest around the stage's planned end. Neighbouring hours are
alike, so their variance is the long-run one of a first-order autoregression fitted to them, with
its bias taken out (Kendall 1954). n hours are worth fewer independent ones then; with fewer than
twelve nothing is said, and from there on the variance is taken as (n + 1)/(n − 2) times its
estimate, which simulations ask for (benchmarks/statistics_guards.py).

For a latency's quantile and a rate no distribution is assumed, and no number of rows is known
before: `statistics.multiples` bounds each arm's.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.comparison import Comparison, compared
from upturn.improve.influence import influence
from upturn.improve.pairs import paired
from upturn.improve.statistics.multiples import quantile_bounds, rate_bounds
from upturn.improve.statistics.sequences import one_sided_z, tuned_rho2_one_sided

Floats = NDArray[np.float64]
LEAST_BLOCKS = 12  # worth of evidence; below, the asymptotics are no guide


def compare_sequential(
    metric: str,
    labels: ArrayLike,
    champion_scores: ArrayLike,
    candidate_scores: ArrayLike,
    blocks: ArrayLike,
    *,
    alpha: float = 0.05,
    planned: int = 48,
) -> Comparison:
    """Compare two models on the rows of a stage so far; `blocks` numbers the hour or day of each.

    `planned` is how many blocks the stage is going to have: bounds are narrowest there. All arrays
    have one entry a row; rows in which a label or a score is nan are left out. `low` and `high`
    are nan while there is too little evidence. Raises NotFound for a metric that does not exist.

    >>> hour = np.repeat(np.arange(40), 5)
    >>> truth = np.tile([0, 1, 0, 1, 1], 40)
    >>> found = compare_sequential(
    ...     "brier", truth, 0.5 + 0.1 * (-1.0) ** hour, 0.3 + 0.5 * truth, hour, planned=40
    ... )
    >>> found.blocks, found.high < 0
    (40, True)
    """
    pairs = paired(labels, champion_scores, candidate_scores, blocks)
    scores = [pairs.champion, pairs.candidate]
    found = influence(metric, pairs.labels, scores, pairs.block, pairs.blocks)
    old, new = found.values.tolist()
    reach = float("nan")
    if math.isfinite(new - old):
        adds = pairs.blocks * (found.phi[1] - found.phi[0])
        reach = bound(adds, alpha=alpha, planned=planned)
    return pairs.compared(
        metric, old, new, reach, alpha=alpha, method="asymptotic confidence sequence over blocks"
    )


def bound(values: Floats, *, alpha: float, planned: int) -> float:
    """How far a one-sided confidence sequence for the mean of `values` reaches from their mean.

    `values` come in the order of time. nan while they are worth fewer than twelve independent ones.

    >>> round(bound(np.tile([1.0, -1.0], 50), alpha=0.05, planned=100), 3)
    0.282
    """
    count = len(values)
    if count < LEAST_BLOCKS:
        return float("nan")
    variance, own = long_run_variance(values)
    if variance == 0:
        return 0.0
    worth = count * own / variance
    if worth < LEAST_BLOCKS:
        return float("nan")
    variance *= (worth + 1) / (worth - 2)
    rho2 = tuned_rho2_one_sided(alpha, max(planned, LEAST_BLOCKS))
    return one_sided_z(count * rho2, alpha) * math.sqrt(variance / count)


def long_run_variance(values: Floats) -> tuple[float, float]:
    """The variance that n times the mean's one tends to, and the values' own, which is no more.

    By the first autocorrelation r, with Kendall's correction for its bias: var · (1 + r)/(1 − r),
    where r is positive.
    """
    count = len(values)
    centred = values - values.mean()
    own = float(centred @ centred) / (count - 1)
    if own <= 1e-30:
        return 0.0, 0.0
    r = float(centred[1:] @ centred[:-1]) / float(centred @ centred)
    r = min(max(r + (1 + 3 * r) / count, 0.0), 0.95)
    return own * (1 + r) / (1 - r), own


def compare_latency(
    champion_s: ArrayLike,
    candidate_s: ArrayLike,
    *,
    quantile: float = 0.99,
    alpha: float = 0.05,
) -> Comparison:
    """Compare a quantile of two arms' latencies in seconds; `difference` is their ratio − 1.

    Each bound puts half of alpha on either arm. Requests are taken for independent: a pause that
    hits many of them at once makes the bounds too narrow. They are nan while either arm has too few
    rows to bound its quantile from above: some 500 for p99.

    >>> round(compare_latency([0.010] * 600, [0.012] * 600).difference, 3)
    0.2
    """
    one, other = (_ordered(values) for values in (champion_s, candidate_s))
    rows = min(len(one), len(other))
    champion, candidate = _rank_value(one, quantile), _rank_value(other, quantile)
    low = high = float("nan")
    below, above = (quantile_bounds(arm, quantile, alpha / 2) for arm in (one, other))
    if below[0] > 0 and np.isfinite([*below, *above]).all():
        low, high = above[0] / below[1] - 1, above[1] / below[0] - 1
    return compared(
        f"latency_p{100 * quantile:g}",
        champion,
        candidate,
        (low, high),
        ratio=True,
        alpha=alpha,
        rows=rows,
        blocks=rows,
        method="quantile confidence sequences of both arms",
    )


def compare_rates(
    metric: str, champion: tuple[int, int], candidate: tuple[int, int], *, alpha: float = 0.05
) -> Comparison:
    """Compare how often something befell the requests of two arms: (how often, of how many) each.

    Each bound of the difference puts half of alpha on either arm. Requests are taken for
    independent. The bounds are nan while an arm has none.

    >>> found = compare_rates("error_rate", (3, 4000), (40, 800))
    >>> found.difference, found.low > 0.01
    (0.04925, True)
    """
    rows = min(champion[1], candidate[1])
    old, new = (count / of if of else float("nan") for count, of in (champion, candidate))
    low = high = float("nan")
    if rows:
        below, above = (rate_bounds(*arm, alpha / 2) for arm in (champion, candidate))
        low, high = above[0] - below[1], above[1] - below[0]
    return compared(
        metric,
        old,
        new,
        (low, high),
        alpha=alpha,
        rows=rows,
        blocks=rows,
        method="confidence sequences of both arms' rates",
    )


def _ordered(values: ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return np.sort(values[~np.isnan(values)])


def _rank_value(ordered: Floats, quantile: float) -> float:
    if not len(ordered):
        return float("nan")
    rank = min(max(int(np.ceil(quantile * len(ordered))), 1), len(ordered))
    return float(ordered[rank - 1])
