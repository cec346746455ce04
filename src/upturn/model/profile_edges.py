"""Edges: exact quantiles of a column, whatever its length, as the bins of a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DIGIT, _LEVELS = 16, 4  # bits that a pass finds of the 64 that a number has
_SIGN = np.uint64(1 << 63)


def edges_of(ordered: Floats, bins: int) -> Floats:
    """Values of sorted data at its quantiles, distinct, so that no bin is empty."""
    if not len(ordered):
        return np.empty(0)
    found = np.unique(ordered[quantile_places(len(ordered), bins)])
    # Above the last edge there is at least the greatest value. Adding 0 makes -0 into 0.
    return found[found < ordered[-1]] + 0.0


def quantile_places(count: int, bins: int) -> NDArray[np.int64]:
    """Where the edges lie in sorted data: edges are inclusive above, so each one ends its bin."""
    return np.maximum(np.arange(1, bins) * count // bins - 1, 0)


def order_statistics(
    blocks: Callable[[], Iterable[Floats]], places: Sequence[int]
) -> tuple[Floats, NDArray[np.int64]]:
    """The values at these places of the data in order, and how many values are not above each.

    Radix selection in four passes: each finds 16 more bits of every value sought, by counting how
    the numbers that share those found so far go on. Memory does not grow with the data: half a
    megabyte a place. `blocks` yields the numbers anew at each call; nan is left out.

    >>> order_statistics(lambda: [np.array([3.0, 1.0]), np.array([2.0, 2.0])], [0, 2])
    (array([1., 2.]), array([1, 3]))
    """
    prefixes = np.zeros(len(places), np.uint64)  # of each place, the bits found so far
    ranks = np.array(places, np.int64)  # among the numbers that share them
    below = np.zeros(len(places), np.int64)  # how many numbers are less than all of these
    inside = np.zeros(len(places), np.int64)
    for level in range(_LEVELS):
        known, which = np.unique(prefixes, return_inverse=True)
        counts = _count(blocks(), known, level)
        for place, slot in enumerate(which.tolist()):
            upto = np.cumsum(counts[slot])
            digit = int(np.searchsorted(upto, ranks[place], side="right"))
            before = int(upto[digit - 1]) if digit else 0
            ranks[place] -= before
            below[place] += before
            inside[place] = counts[slot, digit]
            prefixes[place] = (prefixes[place] << np.uint64(_DIGIT)) | np.uint64(digit)
    return _numbers(prefixes), below + inside


def _count(blocks: Iterable[Floats], known: NDArray[np.uint64], level: int) -> NDArray[np.int64]:
    """How the numbers that begin with each known prefix go on: (prefixes, 2^16)."""
    width = 1 << _DIGIT
    found = np.zeros(len(known) * width, np.int64)
    shift = np.uint64(64 - _DIGIT * (level + 1))
    for block in blocks:
        keys = _keys(block[block == block]) >> shift
        digits = (keys & np.uint64(width - 1)).astype(np.int64)
        if level:
            prefix = keys >> np.uint64(_DIGIT)
            slots = np.minimum(np.searchsorted(known, prefix), len(known) - 1)
            mine = known[slots] == prefix
            digits = digits[mine] + slots[mine] * width
        found += np.bincount(digits, minlength=len(found))
    return found.reshape(len(known), width)


def _keys(values: Floats) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values; -0 and 0 are one."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(keys: NDArray[np.uint64]) -> Floats:
    return np.where(keys & _SIGN, keys & ~_SIGN, ~keys).view(np.float64)
