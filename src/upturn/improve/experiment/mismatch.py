"""Mismatch: whether the arms have the sizes that they should, asked as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping

from upturn.improve.experiment.result import Mismatch
from upturn.improve.statistics.multinomial import ratio_mismatch

LIMIT = 0.001  # below it, nothing else is to be read (Fabijan et al. 2019)


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float]) -> Mismatch:
    """The sequential multinomial test of the arms' counts against their shares (`multinomial`).

    >>> sample_ratio({"a": 5000, "b": 5012}, {"a": 0.5, "b": 0.5}).found
    False
    >>> sample_ratio({"a": 5000, "b": 5600}, {"a": 0.5, "b": 0.5}).found
    True
    """
    seen = [counts.get(arm, 0) for arm in shares]
    p_value = ratio_mismatch(seen, list(shares.values())).p_value
    return Mismatch(p_value=p_value, found=p_value < LIMIT)
