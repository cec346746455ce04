"""Summed: a metric that is a function of sums over rows, and so of the sums of their parts.

Whatever is needed of such a metric follows from the sums of blocks of rows: its value with weights,
its value without a block, its value in a bootstrap's draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.measures.arrays import Floats, aligned, ratio, sums_by, undefined

Rows = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Summed:
    """`columns(labels, scores)` are what each row adds, (k, rows); `value` is of (…, k) sums.

    The first column is 1 for each row, so the first sum is the rows' weight.
    """

    columns: Callable[[Floats, Floats], Sequence[Floats]]
    value: Callable[[Floats], Floats]

    def of(self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
        """The metric of these rows; nan where it is not defined, or a label or score is nan."""
        labels, scores, weights = aligned(labels, scores, weights)
        if undefined(labels, scores, weights):
            return float("nan")
        # Not a product of vectors: BLAS starts threads for it, and sums less exactly.
        sums = np.array([(weights * one).sum() for one in self.columns(labels, scores)])
        return float(self.value(sums))

    def by_block(
        self, labels: Floats, scores: Floats, weights: Floats, block: NDArray[np.intp], blocks: int
    ) -> Floats:
        """The sums of each block of rows: (blocks, k)."""
        columns = self.columns(labels, scores)
        return np.stack([sums_by(block, weights * one, blocks) for one in columns], axis=1)


def mean_of(rows: Rows) -> Summed:
    """The mean over rows.

    >>> mean_of(lambda labels, scores: labels - scores).of([1, 2], [0, 4])
    -0.5
    """
    return Summed(
        lambda labels, scores: (np.ones(len(labels)), rows(labels, scores)),
        lambda sums: ratio(sums[..., 1], sums[..., 0]),
    )


def root_mean_of(rows: Rows) -> Summed:
    """The root of the mean over rows."""
    mean = mean_of(rows)
    return Summed(mean.columns, lambda sums: np.sqrt(np.maximum(mean.value(sums), 0.0)))


def confusion(
    value: Callable[[Floats, Floats, Floats, Floats], Floats], threshold: float
) -> Summed:
    """A function of true positives, false positives, false negatives and true negatives.

    A score of `threshold` or more says positive.
    """

    def columns(labels: Floats, scores: Floats) -> Sequence[Floats]:
        positive, said = labels > 0.5, scores >= threshold
        kinds = (said & positive, said & ~positive, ~said & positive, ~said & ~positive)
        return np.ones(len(labels)), *(kind.astype(np.float64) for kind in kinds)

    return Summed(
        columns, lambda sums: value(sums[..., 1], sums[..., 2], sums[..., 3], sums[..., 4])
    )
