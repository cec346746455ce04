"""Ids: short random ones for runs, time-ordered ones for predictions, and paths."""

import os
import re
import secrets
import time
from collections import deque

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
_PREDICTION_ID = re.compile(r"[!-~]{1,128}")  # what a client may call it: visible ASCII
_OWN_PREDICTION_ID = re.compile(r"[0-9a-f]{28}")


def new_id(length: int = 6) -> str:
    """A random id of `length` characters, for people to type: 30 bits at the default length.

    >>> len(new_id())
    6
    """
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def prediction_ids(count: int) -> list[str]:
    """`count` new prediction ids: 12 hex digits of milliseconds, then 64 random bits.

    They sort by the time they were made, so that a log written in order stays in order.

    >>> [len(i) for i in prediction_ids(2)]
    [28, 28]
    """
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return [moment + _noise() for _ in range(count)]


_NOISE: deque[str] = (
    deque()
)  # random hex, 16 digits each: a system call for one id costs most of it
_AT_ONCE = 512
os.register_at_fork(after_in_child=_NOISE.clear)


def _noise() -> str:
    try:
        return _NOISE.popleft()
    except IndexError:
        digits = os.urandom(8 * _AT_ONCE).hex()
        _NOISE.extend(digits[at : at + 16] for at in range(16, len(digits), 16))
        return digits[:16]


def is_prediction_id(text: str) -> bool:
    """Whether `text` can be a prediction's id, ours or a client's (not whether there is one).

    >>> is_prediction_id("order-17/2"), is_prediction_id("two words")
    (True, False)
    """
    return _PREDICTION_ID.fullmatch(text) is not None


def is_own_prediction_id(text: str) -> bool:
    """Whether `text` has the form of what `prediction_ids` makes."""
    return _OWN_PREDICTION_ID.fullmatch(text) is not None


def task_path(run: str, step: str, index: int) -> str:
    """The path of a task, as people type it and as lineage names it.

    >>> task_path("k3f9x2", "train", 3)
    'run/k3f9x2/train/3'
    """
    return f"run/{run}/{step}/{index}"


def version_path(model: str, number: int) -> str:
    """The path of a version.

    >>> version_path("delays", 7)
    'version/delays:7'
    """
    return f"version/{model}:{number}"


def route_path(endpoint: str, revision: int) -> str:
    """The path of a route revision."""
    return f"route/{endpoint}/{revision}"


def artifact_path(digest: str) -> str:
    """The path of an artifact."""
    return f"artifact/{digest}"
