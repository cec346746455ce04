"""Bootstrap replicates of columns' means, in memory that does not grow with the rows."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from upturn.improve.offpolicy.moments import ClusterMoments
from upturn.improve.statistics.bootstrap import cluster_draws

Floats = NDArray[np.float64]
_BLOCK = 1 << 22  # weights drawn at once


def _poisson_table() -> NDArray[np.uint8]:
    """65,536 equally likely values of a Poisson variable of mean 1, so that two bytes draw one."""
    tail = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(9)])
    return np.searchsorted(tail, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.uint8)


@dataclass
class PoissonBootstrap:
    """Each row is drawn a Poisson(1) number of times by each replicate, as it passes.

    Hanley & MacGibbon (2006); Chamandy, Muralidharan, Najmi & Naidu (2012) for streams. Its
    weights come from the seed and the row's place, so replicates are the same each time.

    >>> rows = np.random.default_rng(1).normal(size=(4000, 1))
    >>> drawn = PoissonBootstrap(1, 200, seed=1)
    >>> drawn.add(rows, first=0)
    >>> round(float(drawn.means().std() * 4000**0.5), 1)
    1.0
    """

    width: int
    replicates: int
    seed: int
    _sums: Floats = field(init=False)
    _table: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self._sums = np.zeros((self.replicates, self.width + 1))
        self._table = _poisson_table()

    def add(self, columns: Floats, first: int) -> None:
        """Take rows, the first of which has this place in the log."""
        rows = np.column_stack([columns, np.ones(len(columns))])
        step = max(_BLOCK // max(len(rows), 1), 1)
        random = np.random.default_rng((self.seed, first))
        for start in range(0, self.replicates, step):
            count = min(step, self.replicates - start)
            drawn = random.integers(0, 1 << 16, (count, len(rows)), dtype=np.uint16)
            self._sums[start : start + count] += self._table[drawn].astype(np.float64) @ rows

    def means(self) -> Floats:
        """The columns' means in each replicate: (replicates, columns)."""
        return self._sums[:, :-1] / np.maximum(self._sums[:, -1:], 1.0)


def cluster_means(moments: ClusterMoments, replicates: int, seed: int) -> Floats:
    """The columns' means where whole clusters are drawn with replacement."""
    totals = cluster_draws(moments.sums(), draws=replicates, seed=seed)
    return totals[:, :-1] / np.maximum(totals[:, -1:], 1.0)
