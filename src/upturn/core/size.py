"""Sizes: bytes written as '2GB', and read."""

import re

from upturn.core.errors import Invalid

_UNITS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kmgt]?i?b)", re.IGNORECASE)


def size_bytes(text: str | int) -> int:
    """The bytes that `text` names: '500MB', '1.5 GB', '2GiB'; a number is bytes.

    Raises Invalid for anything else, and for nothing or less.

    >>> size_bytes("1.5GB")
    1500000000
    """
    if isinstance(text, int):
        size = text
    else:
        found = _SIZE.fullmatch(text.strip())
        size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size <= 0:
        raise Invalid(
            f"{text!r} is not a size.", hint="Write a number and one of MB, GB, MiB, GiB: '2GB'."
        )
    return size


def bytes_text(size: int) -> str:
    """A size as people write it.

    >>> bytes_text(1_500_000)
    '1.5 MB'
    """
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
