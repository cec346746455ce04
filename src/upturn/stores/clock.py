"""The clock of leases: time since the machine started, which nobody can set."""

import time
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def elapsed_s() -> float:
    """Seconds since the machine started, its sleep included; all its processes read the same.

    Where the system does not tell, the wall clock's seconds since 1970.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() if clock is None or not boot() else time.clock_gettime(clock)


@cache
def boot() -> str:
    """Which start of which machine this is; '' where the system does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
