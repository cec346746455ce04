"""LinearPolicy: what a route carries where a row's own values say which arm it gets."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from upturn.core.errors import Invalid


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """An input as columns of numbers: (x − mean) / scale, or one column of 0 and 1 for each value.

    Where a number is missing its column is 0, which is the mean; of a value that is none of these
    all are.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    values: tuple[str, ...] | None = None  # of a text


class LinearArm(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed of an arm: the reward of a row x is about mean · x, give or take."""

    name: str
    mean: tuple[float, ...]  # the intercept, then the columns of the inputs
    covariance: tuple[tuple[float, ...], ...]  # of those


class LinearPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The probabilities of arms for a row x, none below `least`.

    LinTS: that of each to be the best, with rewards N(mean · x, xᵀ · covariance · x). LinUCB: all
    to the arm with the greatest mean · x + √(xᵀ · covariance · x).
    """

    kind: Literal["LinTS", "LinUCB"]
    least: float
    inputs: tuple[Encoded, ...]
    arms: tuple[LinearArm, ...]

    def check(self, answering: Sequence[str]) -> None:
        """Raise Invalid unless it is about these arms and its numbers fit together."""
        if sorted(answering) != sorted(arm.name for arm in self.arms):
            raise Invalid("The route's policy is about other arms than those that answer.")
        width = 1 + sum(1 if one.values is None else len(one.values) for one in self.inputs)
        for arm in self.arms:
            rows = [arm.mean, *arm.covariance]
            if len(rows) != width + 1 or any(len(row) != width for row in rows):
                raise Invalid(f"The policy of arm {arm.name!r} is not one of {width} columns.")
        if not 0.0 < self.least <= 1.0 / len(self.arms):
            raise Invalid(f"A policy's least={self.least:g} has to leave each arm a chance.")
