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
from upturn.improve.pairs import paired
from upturn.improve.statistics.bootstrap import cluster_counts, draws_error
from upturn.improve.statistics.distributions import t_isf, t_sf

__all__ = ["Comparison", "compare_paired", "p_beyond"]

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
    pairs = paired(labels, champion_scores, candidate_scores, blocks)
    truth, block, count = pairs.labels, pairs.block, pairs.blocks
    champion = _drawn(metric, truth, pairs.champion, block, count)
    candidate = _drawn(metric, truth, pairs.candidate, block, count)
    once = np.ones((1, count))
    old, new = float(champion(once)[0]), float(candidate(once)[0])
    reach = float("nan")
    if count >= 2 and not np.isnan(new - old):
        counts = cluster_counts(count, draws=draws, seed=seed)
        # A draw may miss a class. Where that is common the rows say too little for an interval.
        error = draws_error(candidate(counts) - champion(counts), count)
        reach = t_isf(alpha, count - 1) * error
    return pairs.compared(
        metric, old, new, reach, alpha=alpha, method="paired block bootstrap, t interval"
    )


def p_beyond(comparison: Comparison, margin: float, *, more: bool) -> float:
    """The one-sided p-value of a difference of up to `margin`: small where it is more than that.

    `more` looks upwards, at the difference, otherwise downwards, at its opposite. `comparison` is
    one of `compare_paired`, whose statistic has Student's t distribution. nan without an interval.

    >>> found = compare_paired("brier", [1, 0] * 40, [0.6] * 80, [0.7, 0.4] * 40, range(80))
    >>> p_beyond(found, 0.0, more=True) > 0.9 > 0.1 > p_beyond(found, 0.0, more=False)
    True
    """
    if not comparison.conclusive:
        return float("nan")
    df = comparison.blocks - 1
    error = (comparison.high - comparison.low) / 2 / t_isf(1 - comparison.level, df)
    beyond = (comparison.difference if more else -comparison.difference) - margin
    if error == 0:
        return 0.0 if beyond > 0 else 1.0
    return t_sf(beyond / error, df)


def _drawn(
    metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp], blocks: int
) -> _Drawn:
    name = get_metric(metric).name
    if name == "auc":
        return _drawn_auc(labels, scores, block)
    if name in ROW_LOSSES:
        return _drawn_mean(name, labels, scores, block, blocks)
    return _drawn_weighted(name, labels, scores, block)


def _drawn_weighted(metric: str, labels: Floats, scores: Floats, block: NDArray[np.intp]) -> _Drawn:
    """Any metric that takes weights: a row counts as often as its block was drawn."""
    function = get_metric(metric).function

    def values(counts: Floats) -> Floats:
        return np.array([function(labels, scores, weights=drawn[block]) for drawn in counts])

    return values


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
