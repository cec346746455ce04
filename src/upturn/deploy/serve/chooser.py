"""Chooser: which arm each row of a request gets where the route's policy looks at the row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.linear_policy import Encoded, LinearPolicy
from upturn.core.routing import SPACE, position
from upturn.core.schema import Signature
from upturn.deploy.serve.rows import Rows
from upturn.model.contextual import encoded, probabilities


class Chooser:
    """A route's linear policy at work. Immutable; raises Invalid for inputs that clients lack."""

    __slots__ = ("_names", "_places", "_policy", "_salt")

    def __init__(self, policy: LinearPolicy, signature: Signature, salt: str) -> None:
        self._policy = policy
        self._salt = salt
        self._names = [arm.name for arm in policy.arms]
        self._places = {one.name: _place(one, signature) for one in policy.inputs}

    def choose(self, rows: Rows, ids: Sequence[str]) -> dict[str, tuple[list[int], list[float]]]:
        """By arm the rows' places, and with what probability each got it.

        A row's unit, or else its id, is hashed to a number in (0, 1), and the arm is the one in
        whose part of the row's own probabilities it lies: a unit in the same context stays.
        """
        block = rows.block

        def column(one: Encoded) -> Any:
            place = self._places[one.name]
            if isinstance(block, np.ndarray):
                return block[:, place]
            values = [row[place] for row in block]
            if one.values is None:
                return [np.nan if value is None else float(value) for value in values]
            return values

        chances = probabilities(self._policy, encoded(self._policy.inputs, column, len(rows)))
        ends = chances.cumsum(1)
        units = rows.units
        found: dict[str, tuple[list[int], list[float]]] = {}
        for place, row_id in enumerate(ids):
            unit = None if units is None else units[place]
            at = (position(row_id if unit is None else unit, self._salt) + 0.5) / SPACE
            arm = min(int(np.searchsorted(ends[place], at, side="right")), len(self._names) - 1)
            places, propensities = found.setdefault(self._names[arm], ([], []))
            places.append(place)
            propensities.append(float(chances[place, arm]))
        return found


def _place(one: Encoded, signature: Signature) -> int:
    if one.name not in signature.names:
        raise Invalid(
            f"The route's policy looks at {one.name!r}, which clients do not send.",
            hint=did_you_mean(one.name, signature.names),
        )
    place = signature.names.index(one.name)
    kind = signature.inputs[place].type
    if (one.values is None) != (kind in ("bool", "int", "float")) or kind in ("date", "datetime"):
        raise Invalid(f"The route's policy takes {one.name!r} for another type than {kind}.")
    return place
