"""Pairs: rows that two models scored, those with a label and both scores, and their blocks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.comparison import Comparison, compared

Floats = NDArray[np.float64]


class Pairs(NamedTuple):
    """Rows with a label and both scores; `block` numbers the block of each, below `blocks`."""

    labels: Floats
    champion: Floats
    candidate: Floats
    block: NDArray[np.intp]
    blocks: int

    def compared(
        self, metric: str, old: float, new: float, reach: float, *, alpha: float, method: str
    ) -> Comparison:
        """The comparison of the models' values on them, whose bounds reach that far."""
        return compared(
            metric,
            old,
            new,
            (new - old - reach, new - old + reach),
            alpha=alpha,
            rows=len(self.labels),
            blocks=self.blocks,
            method=method,
        )


def paired(
    labels: ArrayLike, champion_scores: ArrayLike, candidate_scores: ArrayLike, blocks: ArrayLike
) -> Pairs:
    """The rows in which nothing is nan; `blocks` names the block of each, in an order that sorts.

    >>> paired([0, 1, 1], [0.2, 0.7, np.nan], [0.1, 0.9, 0.8], ["b", "a", "a"]).block
    array([1, 0])
    """
    given = [np.asarray(one, np.float64) for one in (labels, champion_scores, candidate_scores)]
    keep = ~np.isnan(given).any(axis=0)
    names, block = np.unique(np.asarray(blocks)[keep], return_inverse=True)
    truth, champion, candidate = (values[keep] for values in given)
    return Pairs(truth, champion, candidate, block, len(names))
