"""Sums: the exact sum of numbers and of their squares, the same however the rows are cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upturn.core.schema import ColumnSums

_BLOCK = 1 << 13  # short enough that a dot product starts no threads
_BITS = 20  # of a limb: 2^13 products of two have 53 bits at most, what a float64 holds exactly
_LIMBS = 10
_REACH = 300  # exponents within which products of the least limbs are still normal numbers
_SPREAD = 100  # exponents that one part spans, of numbers that are farther apart than that
_UNIT = 1074  # 2^-1074 is the least float64: every other one is a multiple of it


@dataclass(frozen=True, slots=True)
class Sums:
    """How many finite numbers, their sum in units of 2^-1074, that of their squares in 2^-2148."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @property
    def mean(self) -> float | None:
        """The mean, correctly rounded; None of no numbers."""
        return self.total / (self.count << _UNIT) if self.count else None

    @property
    def std(self) -> float | None:
        """The standard deviation of these numbers themselves, to the last place or so."""
        if not self.count:
            return None
        # count · Σx² - (Σx)² = count² · variance, in units of 2^-2148: whole numbers, nothing lost.
        return _root(self.count * self.squares - self.total * self.total, self.count)

    @property
    def stored(self) -> ColumnSums:
        """As a profile keeps them."""
        return ColumnSums(
            count=self.count,
            total=_spelled(self.total, _UNIT),
            squares=_spelled(self.squares, 2 * _UNIT),
        )


def opened(stored: ColumnSums) -> Sums:
    """Sums as they were before they were stored.

    >>> opened(sums_of(np.array([0.1, 1e300])).stored) == sums_of(np.array([1e300, 0.1]))
    True
    """
    return Sums(stored.count, _read(stored.total, _UNIT), _read(stored.squares, 2 * _UNIT))


def sums_of(values: NDArray[np.float64]) -> Sums:
    """The exact sums of the finite values; the others are left out.

    Each block of values is cut into limbs of 20 bits, multiples of one power of two (the error-free
    extraction of Rump, Ogita & Oishi 2008, SIAM J. Sci. Comput. 31(1), Algorithm 3.1). Sums and
    products of limbs fit into float64 without rounding, in whatever order they are taken; what they
    come to is added as whole numbers. So parts add up to the whole, bit for bit.

    >>> found = sums_of(np.array([1e16, 1.0, -1e16, np.inf]))
    >>> found.count, found.mean == 1 / 3
    (3, True)
    """
    count = total = squares = 0
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK]
        high, low = float(block.max()), float(block.min())
        if not math.isfinite(high - low):
            block = block[np.isfinite(block)]
        count += len(block)
        if not len(block):
            continue
        one, square = _block(block)
        total += one
        squares += square
    return Sums(count, total, squares)


def _block(block: NDArray[np.float64]) -> tuple[int, int]:
    found = _limbs(block)
    if found is None:
        return _by_exponent(block)
    total = sum(_whole(float(limb.sum()), _UNIT) for limb in found)
    squares = 0
    for place, limb in enumerate(found):
        squares += _whole(float(limb @ limb), 2 * _UNIT)
        # Each pair of limbs counts twice, as in (a + b)² = a² + 2ab + b².
        squares += 2 * sum(_whole(float(limb @ other), 2 * _UNIT) for other in found[:place])
    return total, squares


def _limbs(block: NDArray[np.float64]) -> list[NDArray[np.float64]] | None:
    """The limbs that add up to the values; None where they would be too many or too small."""
    largest = max(abs(float(block.max())), abs(float(block.min())))
    exponent = math.frexp(largest)[1]  # every |x| < 2^exponent
    if abs(exponent) > _REACH and largest:
        return None
    limbs: list[NDArray[np.float64]] = []
    rest = block
    for place in range(1, _LIMBS + 1):
        # Adding 1.5 · 2^52 units and taking them away again rounds to whole units.
        anchor = math.ldexp(1.5, 52 + exponent - _BITS * place)
        limb = rest + anchor
        limb -= anchor
        limbs.append(limb)
        rest = rest - limb
        if not rest.any():
            return limbs
    return None


def _by_exponent(block: NDArray[np.float64]) -> tuple[int, int]:
    """The sums of numbers that are too far apart: by parts that are near each other, scaled."""
    exponents = np.frexp(block)[1] // _SPREAD
    total = squares = 0
    for exponent in np.unique(exponents).tolist():
        shift = _SPREAD * exponent
        part, square = _block(np.ldexp(block[exponents == exponent], -shift))
        total += part << shift if shift >= 0 else part >> -shift
        squares += square << 2 * shift if shift >= 0 else square >> -2 * shift
    return total, squares


def _whole(value: float, unit: int) -> int:
    """The value in units of 2^-unit, of which it is a multiple."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << unit + 1 - denominator.bit_length()


def _root(square: int, count: int) -> float:
    """√(square · 2^-2148) / count, through whole numbers of some 64 bits."""
    if not square:
        return 0.0
    shift = (130 - square.bit_length() + 2 * count.bit_length()) // 2
    scaled = square << 2 * shift if shift >= 0 else square >> -2 * shift
    return math.ldexp(float(math.isqrt(scaled // (count * count))), -_UNIT - shift)


def _spelled(units: int, unit: int) -> str:
    """A whole number of units as 'MpE' for M · 2^E, M odd and in hexadecimal: one spelling each.

    >>> _spelled(12, 2), _spelled(-5, 0), _spelled(0, 7)
    ('3p0', '-5p0', '0p0')
    """
    if not units:
        return "0p0"
    zeros = (units & -units).bit_length() - 1
    return f"{units >> zeros:x}p{zeros - unit}"


def _read(text: str, unit: int) -> int:
    mantissa, _, exponent = text.partition("p")
    return int(mantissa, 16) << int(exponent) + unit if int(mantissa, 16) else 0
