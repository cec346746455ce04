"""How much better or worse a candidate is than the champion, with honest uncertainty.

Rows of one day share their weather, their strikes and their broken radar: the errors in them are
correlated, and a test that takes rows for independent (DeLong's for AUC, McNemar's for accuracy) is
far too sure. So whole blocks, days as a rule, are drawn with replacement, and with them every row:
the cluster bootstrap (Cameron, Gelbach & Miller 2008; Künsch 1989 for time series; Efron &
Tibshirani 1993, chapters 6 and 12). Both models are judged on the same drawn days, so that a
hard day is hard for both and cancels.

The interval is `difference ± t · se`, where `se` is the standard deviation over the draws times
√(G/(G-1)) and t the quantile of Student's t with G-1 degrees of freedom, G the number of blocks.
Percentile intervals are too narrow by about that factor and by the ratio of t to the normal
quantile (Hesterberg 2015), which is what matters with a week or two of days; with many blocks the
two agree. For a mean over equally large days it is exactly the paired t test on the days' means.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.comparison import Comparison
from upturn.improve.metrics import ROW_LOSSES, Floats, get_metric
from upturn.improve.student import t_quantile

__all__ = ["Comparison", "compare_latency", "compare_paired"]

# The metric's value in each draw, from how often each draw has each block: (draws, blocks) → draws.
_Drawn = Callable[[Floats], Floats]

_CELLS = 200_000  # of a chunk of draws × rows: small enough to stay in the processor's cache


def compare_paired(
    metric: str,
    labels: ArrayLike,
    champion_scores: ArrayLike,
    candidate_scores: ArrayLike,
    blocks: ArrayLike,
    *,
    alpha: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models that scored the same rows; `blocks` names the day of each row.

    All arrays have one entry a row; labels are 0 or 1, or numbers. Rows in which a label or a score
    is nan are left out. The same seed gives the same interval. Raises NotFound for a metric that
    does not exist.

    >>> truth, day = [0, 1, 0, 1, 0, 1, 0, 1], [1, 1, 2, 2, 3, 3, 4, 4]
    >>> found = compare_paired(
    ...     "brier", truth, [0.5] * 8, [0.2, 0.8, 0.3, 0.8, 0.2, 0.7, 0.2, 0.8], day
    ... )
    >>> found.blocks, round(found.difference, 3), found.high < 0
    (4, -0.198, True)
    """
    labels, champion, candidate = (
        np.asarray(values, dtype=np.float64)
        for values in (labels, champion_scores, candidate_scores)
    )
    keep = ~(np.isnan(labels) | np.isnan(champion) | np.isnan(candidate))
    labels, champion, candidate = labels[keep], champion[keep], candidate[keep]
    names, block = np.unique(np.asarray(blocks)[keep], return_inverse=True)
    return _compare(
        metric,
        champion=_drawn(metric, labels, champion, block, len(names)),
        candidate=_drawn(metric, labels, candidate, block, len(names)),
        blocks=len(names),
        rows=len(labels),
        alpha=alpha,
        draws=draws,
        seed=seed,
        method="paired block bootstrap, t interval",
    )


def compare_latency(
    champion_s: ArrayLike,
    candidate_s: ArrayLike,
    *,
    quantile: float = 0.99,
    alpha: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare a quantile of two arms' latencies in seconds; `difference` is their ratio − 1.

    Rows are drawn one by one, which takes requests for independent: a pause that hits many of them
    at once makes the interval too narrow. The k-th smallest of a sample drawn from n values is the
    value at rank ⌈n·B⌉ with B ~ Beta(k, n-k+1), so a draw costs one random number; the interval is
    the percentile one (Efron & Tibshirani 1993, chapter 13). It is nan below the least sample whose
    maximum bounds the quantile at this level, quantileⁿ <= alpha (Wilks 1941): 299 rows for p99.

    >>> round(compare_latency([0.010] * 400, [0.012] * 400).difference, 3)
    0.2
    """
    one, other = (np.sort(_without_nan(values)) for values in (champion_s, candidate_s))
    rows = min(len(one), len(other))
    champion, candidate = _rank_value(one, quantile), _rank_value(other, quantile)
    low = high = float("nan")
    if rows and quantile**rows <= alpha and champion > 0:
        random = np.random.default_rng(seed)
        drawn = _drawn_quantiles(other, quantile, draws, random) / _drawn_quantiles(
            one, quantile, draws, random
        )
        low, high = (float(value) - 1 for value in np.quantile(drawn, (alpha, 1 - alpha)))
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
        method="bootstrap of rows, percentile interval of the ratio",
    )


def _compare(
    metric: str,
    *,
    champion: _Drawn,
    candidate: _Drawn,
    blocks: int,
    rows: int,
    alpha: float,
    draws: int,
    seed: int,
    method: str,
) -> Comparison:
    once = np.ones((1, blocks))
    champion_value, candidate_value = float(champion(once)[0]), float(candidate(once)[0])
    difference = candidate_value - champion_value
    reach = float("nan")
    if blocks >= 2 and not np.isnan(difference):
        random = np.random.default_rng(seed)
        counts = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws)
        counts = counts.astype(np.float64)
        reach = _reach(candidate(counts) - champion(counts), blocks, alpha)
    return Comparison(
        metric=metric,
        champion=champion_value,
        candidate=candidate_value,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        level=1 - alpha,
        rows=rows,
        blocks=blocks,
        method=method,
    )


def _reach(differences: Floats, blocks: int, alpha: float) -> float:
    """How far the interval reaches to either side of the estimate."""
    usable = differences[~np.isnan(differences)]
    # A draw may miss a class. Where that is common the rows say too little for an interval.
    if len(usable) < 0.95 * len(differences):
        return float("nan")
    narrow = float(usable.std(ddof=1))
    return t_quantile(1 - alpha, blocks - 1) * narrow * float(np.sqrt(blocks / (blocks - 1)))


def _drawn(
    metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int
) -> _Drawn:
    name = get_metric(metric).name
    if name == "auc":
        return _drawn_auc(labels, scores, block)
    return _drawn_mean(name, labels, scores, block, blocks)


def _drawn_mean(
    metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int
) -> _Drawn:
    sums = np.bincount(block, weights=ROW_LOSSES[metric](labels, scores), minlength=blocks)
    sizes = np.bincount(block, minlength=blocks).astype(np.float64)

    def values(counts: Floats) -> Floats:
        rows = counts @ sizes
        means = np.divide(counts @ sums, rows, out=np.full(len(rows), np.nan), where=rows > 0)
        return np.sqrt(means) if metric == "rmse" else means

    return values


def _drawn_auc(labels: Floats, scores: Floats, block: NDArray[np.intp]) -> _Drawn:
    """AUC as in metrics.auc; sorting and searching are done once, so a draw costs O(rows)."""
    positive = labels > 0.5
    order = np.argsort(scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    first = np.searchsorted(negatives, scores[positive], side="left")
    last = np.searchsorted(negatives, scores[positive], side="right")
    negative_block, positive_block = block[~positive][order], block[positive]
    step = max(1, _CELLS // max(1, len(labels)))

    def values(counts: Floats) -> Floats:
        return np.concatenate(
            [chunk(counts[start : start + step]) for start in range(0, len(counts), step)]
        )

    def chunk(counts: Floats) -> Floats:
        below = np.zeros((len(counts), len(negatives) + 1))
        np.cumsum(counts[:, negative_block], axis=1, out=below[:, 1:])
        weights = counts[:, positive_block]
        won = np.einsum("ij,ij->i", weights, below[:, first] + below[:, last]) / 2
        pairs = weights.sum(axis=1) * below[:, -1]
        return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)

    return values


def _without_nan(values: ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return values[~np.isnan(values)]


def _rank(rows: int, quantile: float) -> int:
    return min(max(int(np.ceil(quantile * rows)), 1), rows)


def _rank_value(ordered: Floats, quantile: float) -> float:
    if not len(ordered):
        return float("nan")
    return float(ordered[_rank(len(ordered), quantile) - 1])


def _drawn_quantiles(
    ordered: Floats, quantile: float, draws: int, random: np.random.Generator
) -> Floats:
    rows = len(ordered)
    rank = _rank(rows, quantile)
    places = np.ceil(rows * random.beta(rank, rows - rank + 1, size=draws)).astype(np.intp)
    return ordered[np.clip(places, 1, rows) - 1]
