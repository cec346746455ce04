"""Metrics of rankings: one value a query, from the relevance and the score of its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.measures.arrays import Floats, ratio, sums_by


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows ordered by query, then by score, the greatest first.

    `query` numbers the queries from 0, `rank` counts from 0 within each, `relevance` is the rows'.
    `shared` is the mean relevance of the rows of one query with the same score: what is to be
    expected at a rank when ties are broken at random. `order` are the rows' places in the input.
    """

    query: NDArray[np.intp]
    rank: NDArray[np.intp]
    relevance: Floats
    shared: Floats
    queries: int
    order: NDArray[np.intp]

    def sums(self, values: Floats) -> Floats:
        """The sum of each query's rows."""
        return sums_by(self.query, values, self.queries)


def ranked(relevance: ArrayLike, scores: ArrayLike, queries: ArrayLike) -> Ranked:
    """The rows by query and score; of equal scores the least relevant row comes first.

    So a model that scores all rows alike earns nothing by a lucky order. Queries may have any
    type that sorts.
    """
    relevance = np.asarray(relevance, np.float64)
    scores = np.asarray(scores, np.float64)
    names, query = np.unique(np.asarray(queries), return_inverse=True)
    order = np.lexsort((relevance, -scores, query))
    query, relevance, scores = query[order], relevance[order], scores[order]
    rows = np.arange(len(order))
    begins = np.searchsorted(query, np.arange(len(names)))
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (query[1:] != query[:-1]) | (scores[1:] != scores[:-1])
    tie = np.cumsum(fresh) - 1
    means = ratio(np.bincount(tie, weights=relevance), np.bincount(tie)) if len(order) else []
    return Ranked(query, rows - begins[query], relevance, np.asarray(means)[tie], len(names), order)


def ndcg(found: Ranked, k: int | None = None) -> Floats:
    """Each query's discounted cumulative gain over the best possible one.

    The gain is the relevance itself, the discount log2(rank + 1) (Järvelin & Kekäläinen 2002); tied
    rows share their gain, as in scikit-learn (McSherry & Najork 2008). nan for a query that has no
    relevant row.

    >>> ndcg(ranked([0, 1], [0.2, 0.1], ["q", "q"])).round(4)
    array([0.6309])
    """
    discount = 1 / np.log2(found.rank + 2.0)
    if k is not None:
        discount = np.where(found.rank < k, discount, 0.0)
    best = np.lexsort((-found.relevance, found.query))
    return ratio(found.sums(discount * found.shared), found.sums(discount * found.relevance[best]))


def average_precision(found: Ranked, k: int | None = None) -> Floats:
    """Each query's mean precision at its relevant rows, of at most `k` (as in TREC's MAP@k).

    Σ precision(rank) · relevant / min(relevant rows, k). nan for a query without a relevant row.

    >>> average_precision(ranked([1, 0, 1], [3, 2, 1], [7, 7, 7])).round(4)
    array([0.8333])
    """
    hit = (found.relevance > 0).astype(np.float64)
    summed = np.cumsum(hit)
    begins = np.searchsorted(found.query, np.arange(found.queries))
    before = (summed - hit)[begins] if len(hit) else np.zeros(0)
    precision = (summed - before[found.query]) / (found.rank + 1.0)
    counted = hit if k is None else hit * (found.rank < k)
    relevant = found.sums(hit)
    return ratio(
        found.sums(precision * counted), relevant if k is None else np.minimum(relevant, k)
    )


def reciprocal_rank(found: Ranked, k: int | None = None) -> Floats:
    """One over the rank of each query's first relevant row, 0 beyond `k`.

    nan for a query without a relevant row.

    >>> reciprocal_rank(ranked([0, 1], [2, 1], ["q", "q"]))
    array([0.5])
    """
    hit = found.relevance > 0
    first = np.full(found.queries, np.inf)
    np.minimum.at(first, found.query[hit], found.rank[hit].astype(np.float64))
    value = 1 / (first + 1)
    if k is not None:
        value = np.where(first < k, value, 0.0)
    return np.where(np.isfinite(first), value, np.nan)


def recall(found: Ranked, k: int | None = None) -> Floats:
    """The share of each query's relevant rows that are among its first `k`.

    nan for a query without a relevant row.

    >>> recall(ranked([0, 1, 1], [3, 2, 1], ["q"] * 3), 2)
    array([0.5])
    """
    hit = (found.relevance > 0).astype(np.float64)
    inside = hit if k is None else hit * (found.rank < k)
    return ratio(found.sums(inside), found.sums(hit))


RANKING: dict[str, Callable[[Ranked, int | None], Floats]] = {
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "ranking_recall": recall,
}
