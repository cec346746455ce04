"""Shares: the probabilities of being best as shares of a route, each at least a minimum."""

import math
from collections.abc import Sequence

import numpy as np

from upturn.core.errors import Invalid
from upturn.model.contextual import floored

_STEPS = 10_000


def shares(best: Sequence[float], least: float) -> list[float]:
    """Shares that follow `best`, none below `least`, that sum to 1, in steps of 0.0001.

    What lifts the small ones to the minimum is taken from the others in proportion.

    >>> shares([0.99, 0.008, 0.002], 0.05)
    [0.9, 0.05, 0.05]
    """
    check_least(least, len(best))
    lifted = floored(np.array([best]), least)[0].tolist()
    # Down, so that what is left for the largest is no less than its own.
    rounded = [least + math.floor((one - least) * _STEPS + 1e-6) / _STEPS for one in lifted]
    top = max(range(len(best)), key=lambda place: lifted[place])
    rounded[top] = 1.0 - math.fsum(one for place, one in enumerate(rounded) if place != top)
    return [round(one, 12) for one in rounded]


def check_least(least: float, arms: int) -> None:
    """Raise Invalid unless every one of so many arms can have that share, which is above 0."""
    if not 0.0 < least <= 1.0 / arms:
        raise Invalid(
            f"least={least:g}: of {arms} arms each needs a share above 0, and all sum to 1.",
            hint=f"Take at most {1.0 / arms:g}. Without exploration an arm is never seen again.",
        )
