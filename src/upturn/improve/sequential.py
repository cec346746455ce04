"""Sequential comparison: candidate against champion, with bounds that hold at every look at once.

A guard looks at a stage again and again. A bound for one look, looked at 50 times, is wrong far
more often than it says; these are confidence sequences: with probability 1 − alpha the truth lies
on the right side of the bound at all looks together, so a stage may be ended at any of them.

For a metric, the difference of the two models is to first order a mean over blocks (hours or days)
of their influence: how much a block adds to the difference (for AUC from the placements of DeLong,
DeLong & Clarke-Pearson 1988, for others from the rows' losses). The bound is the one-sided
asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences" (arXiv 2103.06476, appendix B), narrowest
around the stage's planned end. Neighbouring hours are alike, so their variance is the long-run one
of a first-order autoregression fitted to them, with its bias taken out (Kendall 1954). n hours are
worth fewer independent ones then; with fewer than twelve nothing is said, and from there on the
variance is taken as (n + 1)/(n − 2) times its estimate, which simulations ask for
(benchmarks/statistics_guards.py).

For a latency's quantile no distribution is assumed: a value is ruled out as the quantile when the
share of rows beyond it is, by an e-process, no more the one that it should have. That process is a
mixture of likelihood ratios of Bernoulli rates (Howard & Ramdas, "Sequential estimation of
quantiles", arXiv 1906.09712; Lindon, Sanden & Shirikian, "Rapid regression detection in software
deployments", arXiv 2205.14762, for its use on canaries), and Ville's inequality makes it hold at
every look.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.comparison import Comparison
from upturn.improve.metrics import ROW_LOSSES, Floats, get_metric

LEAST_BLOCKS = 12  # worth of evidence; below, the asymptotics are no guide
_RATES = 40  # alternatives to the rate of a quantile, on each side of it
_FURTHEST = 50.0  # times the rate, or a share of it: of the alternatives


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
    labels, champion, candidate = (
        np.asarray(values, dtype=np.float64)
        for values in (labels, champion_scores, candidate_scores)
    )
    keep = ~(np.isnan(labels) | np.isnan(champion) | np.isnan(candidate))
    labels, champion, candidate = labels[keep], champion[keep], candidate[keep]
    names, block = np.unique(np.asarray(blocks)[keep], return_inverse=True)
    function = get_metric(metric).function
    old, new = (function(labels, scores) for scores in (champion, candidate))
    low = high = float("nan")
    if len(names) >= 2 and np.isfinite(new - old):
        adds_of = influence(metric)
        adds = [adds_of(labels, scores, block, len(names)) for scores in (champion, candidate)]
        reach = bound(adds[1] - adds[0], alpha=alpha, planned=planned)
        low, high = new - old - reach, new - old + reach
    return Comparison(
        metric=metric,
        champion=old,
        candidate=new,
        difference=new - old,
        low=low,
        high=high,
        level=1 - alpha,
        rows=len(labels),
        blocks=len(names),
        method="asymptotic confidence sequence over blocks",
    )


def bound(values: Floats, *, alpha: float, planned: int) -> float:
    """How far a one-sided confidence sequence for the mean of `values` reaches from their mean.

    `values` come in the order of time. nan while they are worth fewer than twelve independent ones.

    >>> round(bound(np.tile([1.0, -1.0], 50), alpha=0.05, planned=100), 3)
    0.284
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
    # The mixture's parameter for which the bound is narrowest there (2103.06476, appendix B.2).
    log_alpha = -2 * np.log(alpha)
    rho2 = (log_alpha + np.log(log_alpha) + 1) / max(planned, LEAST_BLOCKS)
    inside = count * rho2 + 1
    spread = 2 * inside / (count**2 * rho2) * np.log1p(np.sqrt(inside) / (2 * alpha))
    return float(np.sqrt(variance * spread))


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
    return Comparison(
        metric=f"latency_p{100 * quantile:g}",
        champion=champion,
        candidate=candidate,
        difference=candidate / champion - 1 if champion > 0 else float("nan"),
        low=low,
        high=high,
        level=1 - alpha,
        rows=rows,
        blocks=rows,
        method="quantile confidence sequences of both arms",
    )


def quantile_bounds(ordered: Floats, quantile: float, alpha: float) -> tuple[float, float]:
    """A lower and an upper bound of a quantile, each valid at every look with 1 − alpha.

    `ordered` are the values so far, the smallest first. An end that can't be bounded yet is
    infinite.
    """
    count, rate = len(ordered), 1 - quantile
    steps = np.geomspace(1.05, min(_FURTHEST, 0.5 / rate), _RATES)
    # Too many lie beyond a value: the quantile is not below it. Too few: it is not above.
    many = _first(lambda k: log_e(k, count, rate, rate * steps) >= -np.log(alpha), count)
    few = _first(lambda k: log_e(k, count, rate, rate / steps) < -np.log(alpha), count)
    low = float(ordered[count - many]) if 0 < many <= count else -np.inf
    high = float(ordered[count - few]) if 0 < few <= count else np.inf
    return low, high


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
    return Comparison(
        metric=metric,
        champion=old,
        candidate=new,
        difference=new - old,
        low=low,
        high=high,
        level=1 - alpha,
        rows=rows,
        blocks=rows,
        method="confidence sequences of both arms' rates",
    )


def rate_bounds(count: int, rows: int, alpha: float) -> tuple[float, float]:
    """A lower and an upper bound of a rate by its count, each valid at every look with 1 − alpha.

    The rates that the e-processes against higher and lower ones have not ruled out.
    """
    seen, limit = count / rows, -np.log(alpha)

    def ruled_out(rate: float, *, up: bool) -> bool:
        if rate >= 1:  # halving ends there; a single other row rules it out
            return True
        furthest = min(_FURTHEST, 0.999 / rate) if up else _FURTHEST
        steps = np.geomspace(1.05, max(1.06, furthest), _RATES)
        others = np.minimum(rate * steps, 0.999999) if up else rate / steps
        return log_e(count, rows, rate, others) >= limit

    low = _edge(lambda rate: ruled_out(rate, up=True), 0.0, seen) if count else 0.0
    high = _edge(lambda rate: not ruled_out(rate, up=False), seen, 1.0) if count < rows else 1.0
    return low, high


def _edge(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where it ceases to hold, between a low value at which it does and a high one."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def log_e(beyond: int, count: int, rate: float, others: Floats) -> float:
    """The log of the e-process against `rate`: a mixture of likelihood ratios of other rates."""
    logs = beyond * np.log(others / rate) + (count - beyond) * np.log((1 - others) / (1 - rate))
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).mean()))


def _first(holds: Callable[[int], bool], count: int) -> int:
    """The least k in [0, count] from which on it holds; count + 1 when it never does."""
    low, high = 0, count + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def influence(metric: str) -> Callable[[Floats, Floats, NDArray[np.intp], int], Floats]:
    """The function of labels, scores, blocks and their number that gives each block's influence."""
    if metric == "auc":
        return _auc_influence
    if metric in ROW_LOSSES:
        return lambda labels, scores, block, blocks: _mean_influence(
            metric, labels, scores, block, blocks
        )
    return lambda labels, scores, block, blocks: left_out(metric, labels, scores, block, blocks)


def _mean_influence(
    metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int
) -> Floats:
    losses = ROW_LOSSES[metric](labels, scores)
    mean = float(losses.mean())
    adds = np.bincount(block, weights=losses - mean, minlength=blocks) * (blocks / len(labels))
    if metric != "rmse":
        return _floats(adds)
    return _floats(adds / (2 * float(np.sqrt(mean))) if mean > 0 else np.zeros(blocks))


def _auc_influence(labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int) -> Floats:
    """By the placements of each positive among the negatives, and the other way round."""
    positive = labels > 0.5
    placed = np.empty(len(labels))
    placed[positive] = _placements(scores[positive], scores[~positive])
    placed[~positive] = 1 - _placements(scores[~positive], scores[positive])
    area = placed[positive].mean()
    share = positive.mean()
    adds = (placed - area) / np.where(positive, share, 1 - share)
    return _floats(np.bincount(block, weights=adds, minlength=blocks) * (blocks / len(labels)))


def _placements(values: Floats, others: Floats) -> Floats:
    """The share of the others that lie below each value, ties counting half."""
    ordered = np.sort(others)
    first, last = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return _floats((first + last) / (2 * len(ordered)))


def left_out(
    metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int
) -> Floats:
    """The jackknife's: how the metric changes without the block (Efron & Tibshirani 1993, 11)."""
    function = get_metric(metric).function
    whole = function(labels, scores)
    without = [function(labels[block != one], scores[block != one]) for one in range(blocks)]
    return (blocks - 1) * (whole - np.asarray(without))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _ordered(values: ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return np.sort(values[~np.isnan(values)])


def _rank_value(ordered: Floats, quantile: float) -> float:
    if not len(ordered):
        return float("nan")
    rank = min(max(int(np.ceil(quantile * len(ordered))), 1), len(ordered))
    return float(ordered[rank - 1])
