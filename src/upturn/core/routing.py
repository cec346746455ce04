"""The route's choice as pure functions: which arm answers a unit, and which units a change moves.

The space of positions is cut into slices, each an arm's. A unit's position is a hash of it, so it
stays where it is; a change of shares moves the ends of slices, and as little as can be: what arms
give up goes to those that grow, and nothing else changes hands.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from upturn.core.errors import Invalid
from upturn.core.records import Arm, Route, Slice

SPACE = 2**32


def position(unit: str, salt: str) -> int:
    """Where a unit lies in [0, SPACE): the same for the same unit and salt, uniform over units.

    >>> position("N14228", "delays") == position("N14228", "delays")
    True
    """
    digest = blake2b(unit.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest[:4], "big")


def choose(slices: Sequence[Slice], unit: str, salt: str) -> str:
    """The name of the arm that answers this unit.

    >>> choose([Slice(until=SPACE, arm="champion")], "N14228", "delays")
    'champion'
    """
    place = position(unit, salt)
    for one in slices:
        if place < one.until:
            return one.arm
    return slices[-1].arm


def slices_of(route: Route) -> tuple[Slice, ...]:
    """The route's slices; those of a first revision where none are recorded."""
    return route.slices or reshare((), route.arms)


def reshare(slices: Sequence[Slice], arms: Sequence[Arm]) -> tuple[Slice, ...]:
    """The slices for these arms, of which as little as can be is another arm's than before.

    Arms are the same when they have the same name. What shrinking arms give up, from their ends
    downwards, goes to the growing ones in their order; at first all is the first answering arm's.

    >>> arms = [Arm(name="a", version=1, share=0.75), Arm(name="b", version=2, share=0.25)]
    >>> [(one.until / SPACE, one.arm) for one in reshare((), arms)]
    [(0.75, 'a'), (1.0, 'b')]
    """
    answering = [arm for arm in arms if not arm.shadow]
    sizes = _sizes(answering)
    spans = list(_spans(slices)) or [(0, SPACE, answering[0].name)]
    held: dict[str, int] = {}
    for begin, end, name in spans:
        held[name] = held.get(name, 0) + end - begin
    surplus = {name: size - sizes.get(name, 0) for name, size in held.items()}
    wants = {name: size - held.get(name, 0) for name, size in sizes.items()}
    wanting = [name for name, size in wants.items() if size > 0]
    made: list[tuple[int, int, str]] = []
    for begin, end, name in reversed(spans):
        free = min(end - begin, max(0, surplus[name]))
        surplus[name] -= free
        top = end
        while free:
            taker = wanting[0]
            part = min(free, wants[taker])
            made.append((top - part, top, taker))
            top, free = top - part, free - part
            wants[taker] -= part
            if not wants[taker]:
                wanting.pop(0)
        if begin < top:
            made.append((begin, top, name))
    return _merged(reversed(made))


def _sizes(answering: Sequence[Arm]) -> dict[str, int]:
    """Each arm's part of the space, which they fill; the first one has what rounding leaves."""
    sizes = {arm.name: round(arm.share * SPACE) for arm in answering}
    sizes[answering[0].name] += SPACE - sum(sizes.values())
    return sizes


def _spans(slices: Iterable[Slice]) -> Iterable[tuple[int, int, str]]:
    begin = 0
    for one in slices:
        yield begin, one.until, one.arm
        begin = one.until


def _merged(spans: Iterable[tuple[int, int, str]]) -> tuple[Slice, ...]:
    made: list[Slice] = []
    for _, end, name in spans:
        if made and made[-1].arm == name:
            made.pop()
        made.append(Slice(until=end, arm=name))
    return tuple(made)


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
