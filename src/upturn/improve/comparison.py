"""Comparison: the record of a candidate judged against the champion, light to import."""

import msgspec


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate's metric against the champion's on the same evidence.

    `difference` is candidate − champion, for latency candidate / champion − 1, whichever way is
    better. `low` is a lower and `high` an upper bound of it, each at confidence `level` on its own
    (one-sided), so that both together hold with 2·level − 1. Both are nan when there is not enough
    evidence: fewer than two blocks, or a class is missing. `rows` are pairs, or the rows of the
    smaller arm.
    """

    metric: str
    champion: float
    candidate: float
    difference: float
    low: float
    high: float
    level: float
    rows: int
    blocks: int
    method: str

    @property
    def conclusive(self) -> bool:
        """Whether there was enough evidence for an interval."""
        return self.low == self.low and self.high == self.high


def compared(
    metric: str,
    champion: float,
    candidate: float,
    ends: tuple[float, float],
    *,
    ratio: bool = False,
    alpha: float,
    rows: int,
    blocks: int,
    method: str,
) -> Comparison:
    """Two values compared, with the bounds of their difference, or of their `ratio` − 1.

    >>> compared("auc", 0.7, 0.75, (0.0, 0.1), alpha=0.05, rows=9, blocks=3, method="t").level
    0.95
    """
    difference = candidate - champion
    if ratio:
        difference = candidate / champion - 1 if champion > 0 else float("nan")
    return Comparison(
        metric=metric,
        champion=champion,
        candidate=candidate,
        difference=difference,
        low=ends[0],
        high=ends[1],
        level=1 - alpha,
        rows=rows,
        blocks=blocks,
        method=method,
    )
