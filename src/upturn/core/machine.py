"""The memory of the machine: how much there is, what is left, what a process uses of it."""

import os
from collections.abc import Iterator
from pathlib import Path

# A container's limit, in the form of control groups v2 and v1: the limit, and what is used of it.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
_CACHE_FILES = ("/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat")


def total_bytes() -> int:
    """The memory of the machine, or of the container that this process is in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for path, _ in _GROUPS if (limit := _number(path)) is not None]
    return min([physical, *limits])


def available_bytes() -> int | None:
    """How much more may be used before something is killed; None where the system does not say."""
    found = [_available_on_machine(), _available_in_container()]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _available_on_machine() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _available_in_container() -> int | None:
    for limit_path, used_path in _GROUPS:
        limit, used = _number(limit_path), _number(used_path)
        if limit is not None and used is not None:
            return max(0, limit - used + _file_cache())
    return None


def _file_cache() -> int:
    """What the container could give back: pages of files that nobody maps."""
    for path in _CACHE_FILES:
        for line in _lines(path):
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0


def process_tree(pid: int) -> list[int]:
    """The process and all that descend from it, as far as they live. Linux only: else the process.

    One that was detached (its parent ended) is no descendant any more.
    """
    found = [pid]
    for parent in found:
        found.extend(_children(parent))
    return found


def _children(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        for line in _lines(f"/proc/{pid}/task/{thread}/children"):
            yield from map(int, line.split())


def used_bytes(pid: int) -> int:
    """The memory that a process and its descendants have to themselves, mapped files left out.

    0 where the system does not say.
    """
    return sum(_private_bytes(member) for member in process_tree(pid))


def _private_bytes(pid: int) -> int:
    """What would be free if it ended: pages shared with the process it was forked from don't count.

    Summed from the kernel's own sum (`smaps_rollup`, Linux 4.14), which takes a millisecond or so
    for each GB, so it is asked only of processes that `status` calls large.
    """
    status = _fields(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:"))
    if status < _LARGE:
        return status
    exact = _fields(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))
    return exact or status


_LARGE = 64 * 1024 * 1024


def _fields(path: str, names: tuple[str, ...]) -> int:
    return sum(int(line.split()[1]) * 1024 for line in _lines(path) if line.startswith(names))


def _number(path: str) -> int | None:
    text = next(_lines(path), "").strip()
    return int(text) if text.isdecimal() else None


def _lines(path: str) -> Iterator[str]:
    try:
        text = Path(path).read_text()
    except OSError:
        return
    yield from text.splitlines()


def resident_bytes() -> int:
    """The memory that this process holds at the moment; where no system says, the most it held."""
    statm = next(_lines("/proc/self/statm"), "").split()
    if len(statm) > 1:
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
