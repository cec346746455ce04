"""Pace: how long a model takes for so many rows, as it was measured at first and goes now."""

from collections.abc import Sequence

_WEIGHT = 0.2  # of the newest batch
_ANY = 2**30  # rows
_LEAST, _MOST = 0.05, 100.0  # how far from the first measurement it can get


class Pace:
    """A batch of n rows takes `scale * (fixed_s + n * row_s)`; the scale follows what is seen.

    The two parts come from the measurements of the warm-up, `(rows, seconds)`, smallest first.
    Load, neighbours and clocks change both alike, which is what the scale is for: from batches of
    one size alone the parts could not be told from each other.
    """

    __slots__ = ("_fixed_s", "_row_s", "_scale")

    def __init__(self, measured: Sequence[tuple[int, float]] = ()) -> None:
        self._fixed_s, self._row_s = _parts(measured)
        self._scale = 1.0

    def seconds(self, rows: int) -> float:
        """How long a batch of so many rows should take."""
        return self._scale * (self._fixed_s + rows * self._row_s)

    def rows_in(self, seconds: float) -> int:
        """How many rows are predicted in so many seconds, or in twice what a batch costs anyway.

        At least one: a model that takes long for any batch would answer fewest in the smallest.
        """
        fixed_s, row_s = self._scale * self._fixed_s, self._scale * self._row_s
        left = max(seconds - fixed_s, fixed_s)
        return max(1, int(left / row_s)) if row_s * _ANY > left else _ANY

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        expected = self._fixed_s + rows * self._row_s
        if expected > 0:  # else nothing was measured
            scale = min(_MOST, max(_LEAST, seconds / expected))
            self._scale += _WEIGHT * (scale - self._scale)


def _parts(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    if not measured:
        return 0.0, 0.0
    (few, few_s), (many, many_s) = measured[0], measured[-1]
    if many == few:
        return 0.0, few_s / few  # nothing says that more rows at a time cost less
    row_s = max(0.0, (many_s - few_s) / (many - few))
    return max(0.0, few_s - few * row_s), row_s
