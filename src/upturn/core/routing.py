"""The route's choice as a pure function: which arm answers a unit, and with which probability."""

from collections.abc import Sequence
from hashlib import blake2b

from upturn.core.errors import Invalid
from upturn.core.records import Arm

_SPACE = 2**64


def position(unit: str, salt: str) -> float:
    """Where a unit lies in [0, 1): the same for the same unit and salt, uniform over units.

    >>> position("N14228", "delays") == position("N14228", "delays")
    True
    """
    digest = blake2b(unit.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / _SPACE


def choose(arms: Sequence[Arm], unit: str, salt: str) -> Arm:
    """The arm that answers this unit.

    The first answering arm is the one that others take units from: every other arm owns an interval
    that is anchored at its own place, from the top of the space downwards in the order of the arms,
    so when the last arm's share grows only units of the first arm move, and only to that arm.
    """
    answering = [arm for arm in arms if not arm.shadow]
    place = position(unit, salt)
    top = 1.0
    for arm in answering[1:]:
        top -= arm.share
        if place >= top:
            return arm
    return answering[0]


def check_arms(arms: Sequence[Arm]) -> None:
    """Raise Invalid unless the arms can be a route: distinct names, shares that sum to one."""
    answering = [arm for arm in arms if not arm.shadow]
    names = [arm.name for arm in arms]
    if not answering:
        raise Invalid("A route needs an arm that answers.", hint="Give one arm a share of 1.")
    if len(set(names)) != len(names):
        raise Invalid(f"Two arms of a route have the same name: {', '.join(names)}.")
    if any(not 0.0 <= arm.share <= 1.0 for arm in arms):
        raise Invalid("An arm's share lies between 0 and 1.")
    if any(arm.shadow and arm.share for arm in arms):
        raise Invalid("A shadow arm answers nobody.", hint="Leave its share at 0.")
    total = sum(arm.share for arm in answering)
    if abs(total - 1.0) > 1e-9:
        raise Invalid(f"The shares of a route's arms sum to 1, not to {total:g}.")
