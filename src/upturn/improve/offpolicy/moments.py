"""Moments: means of many columns and how they vary together, added up chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Accumulator(Protocol):
    """Takes rows of columns as they come; knows their means and the covariance of these means."""

    def add(self, columns: Floats, clusters: Sequence[Any] | None) -> None:
        """Take (rows, columns), and to which cluster each row belongs where that is asked for."""
        ...

    @property
    def units(self) -> int:
        """How many independent things there were: rows, or clusters."""
        ...

    @property
    def mean(self) -> Floats:
        """The mean of each column over all rows."""
        ...

    def variance(self, gradient: Floats) -> float:
        """The variance of the sum of gradient × mean; nan with fewer than two units."""
        ...


@dataclass
class RowMoments:
    """Rows are independent: a mean and a matrix of co-moments, whatever the number of rows.

    Chunks are joined by Chan, Golub & LeVeque (1979), which loses no digits where a mean is large
    beside the spread. `joint` False keeps the diagonal alone.

    >>> moments = RowMoments(1)
    >>> moments.add(np.array([[1.0], [3.0]]), None)
    >>> moments.add(np.array([[5.0]]), None)
    >>> float(moments.mean[0]), round(moments.variance(np.ones(1)), 4)  # 4 / 3 rows
    (3.0, 1.3333)
    """

    width: int
    joint: bool = True
    rows: int = 0
    _mean: Floats = field(init=False)
    _spread: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._mean = np.zeros(self.width)
        self._spread = np.zeros((self.width, self.width) if self.joint else self.width)

    def add(self, columns: Floats, clusters: Sequence[Any] | None) -> None:
        """See Accumulator."""
        del clusters
        if len(columns):
            mean = columns.mean(axis=0)
            apart = columns - mean
            spread = apart.T @ apart if self.joint else np.einsum("ij,ij->j", apart, apart)
            self._join(len(columns), mean, spread)

    def merge(self, other: "RowMoments") -> None:
        """Take what another one saw: of another file, or of another process."""
        if other.rows:
            self._join(other.rows, other._mean, other._spread)

    def _join(self, rows: int, mean: Floats, spread: Floats) -> None:
        total = self.rows + rows
        step = mean - self._mean
        between = np.outer(step, step) if self.joint else step * step
        self._spread = self._spread + spread + between * (self.rows * rows / total)
        self._mean = self._mean + step * (rows / total)
        self.rows = total

    @property
    def units(self) -> int:
        """See Accumulator."""
        return self.rows

    @property
    def mean(self) -> Floats:
        """See Accumulator."""
        return self._mean

    def variance(self, gradient: Floats) -> float:
        """See Accumulator."""
        if self.rows < 2:
            return float("nan")
        if self.joint:
            found = gradient @ self._spread @ gradient
        else:
            found = np.dot(gradient**2, self._spread)
        return max(float(found), 0.0) / (self.rows - 1) / self.rows


@dataclass
class ClusterMoments:
    """Rows of one cluster (a unit, a day) depend on each other: sums are kept for each cluster.

    The mean over rows is a ratio of sums over clusters, and varies as one (Liang & Zeger 1986, with
    G / (G − 1)). Memory is 8 bytes × columns × clusters.
    """

    width: int
    _places: dict[Any, int] = field(default_factory=dict[Any, int])
    _sums: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._sums = np.zeros((0, self.width + 1))

    def add(self, columns: Floats, clusters: Sequence[Any] | None) -> None:
        """See Accumulator."""
        if clusters is None:
            raise ValueError("no clusters")
        places = np.fromiter(
            (self._places.setdefault(one, len(self._places)) for one in clusters),
            dtype=np.int64,
            count=len(columns),
        )
        missing = len(self._places) - len(self._sums)
        if missing > 0:
            # Doubled rather than grown by the row: adding a chunk costs its rows, not all clusters.
            room = max(missing, len(self._sums))
            self._sums = np.concatenate([self._sums, np.zeros((room, self.width + 1))])
        np.add.at(self._sums, places, np.column_stack([columns, np.ones(len(columns))]))

    @property
    def units(self) -> int:
        """See Accumulator."""
        return len(self._places)

    def sums(self) -> Floats:
        """For each cluster the sums of its columns, and how many rows it has."""
        return self._sums[: self.units]

    @property
    def mean(self) -> Floats:
        """See Accumulator."""
        total = self._sums.sum(axis=0)
        return total[:-1] / max(total[-1], 1.0)

    def variance(self, gradient: Floats) -> float:
        """See Accumulator."""
        if self.units < 2:
            return float("nan")
        known = self.sums()
        rows = known[:, -1]
        values = known[:, :-1] @ gradient - rows * float(self.mean @ gradient)
        return float(values @ values) / float(rows.sum()) ** 2 * self.units / (self.units - 1)
