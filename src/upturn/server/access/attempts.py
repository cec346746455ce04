"""Attempts: how often an address failed to say who it is, and when it may try again."""

import time
from collections import OrderedDict
from collections.abc import Callable

from upturn.core.errors import UpturnError

BURST = 20  # failures at once
REFILL_S = 3.0  # for one more
_MOST = 10_000  # addresses that are remembered


class TooManyAttempts(UpturnError):
    """An address failed too often to say who it is; `retry_after_s` says when it may again."""

    code = "too_many_attempts"
    http_status = 429


class Attempts:
    """Counts failures by address. For one thread; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()  # when all its failures are forgotten

    def failed(self, address: str) -> None:
        """Count a failure."""
        now = self._clock()
        until = max(now, self._until.pop(address, now)) + REFILL_S
        self._until[address] = min(until, now + (BURST + 1) * REFILL_S)
        while len(self._until) > _MOST:
            self._until.popitem(last=False)

    def check(self, address: str) -> None:
        """Raise TooManyAttempts while the address has failed too often."""
        until = self._until.get(address)
        if until is None:
            return
        over = until - self._clock() - BURST * REFILL_S
        if over > 0:
            raise TooManyAttempts(
                "Too many tokens that do not hold came from this address.",
                hint="Wait a moment, and check the token.",
                retry_after_s=int(over) + 1,
            )
