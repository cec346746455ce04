"""Mismatch: whether the arms have the sizes that they should, asked as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from upturn.improve.experiment.result import Mismatch

LIMIT = 0.001  # below it, nothing else is to be read (Fabijan et al. 2019)
_CONCENTRATION = 10_000.0


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float]) -> Mismatch:
    """The sequential multinomial test of the arms' counts against their shares.

    The Bayes factor of a Dirichlet around the shares against the shares themselves is an e-process
    under them (Lindon & Malek 2022, arXiv:2011.03567, §4.1), so 1 / it is an always-valid p-value.

    >>> sample_ratio({"a": 5000, "b": 5012}, {"a": 0.5, "b": 0.5}).found
    False
    >>> sample_ratio({"a": 5000, "b": 5600}, {"a": 0.5, "b": 0.5}).found
    True
    """
    n = sum(counts.values())
    logs = math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + n)
    for arm, share in shares.items():
        count, prior = counts.get(arm, 0), _CONCENTRATION * share
        logs += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    p_value = math.exp(min(0.0, -logs))
    return Mismatch(p_value=p_value, found=p_value < LIMIT)
