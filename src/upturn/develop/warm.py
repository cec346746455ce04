"""Warm workers: pools that stay between the runs of a process, one run at a time in each."""

import atexit
import contextlib
import os
import threading
from collections.abc import Generator
from pathlib import Path

from upturn.core.ids import new_id
from upturn.core.settings import Settings
from upturn.develop.loading import own_files, third_party_imports
from upturn.develop.pools import Pools

_Key = tuple[Settings, str]
_idle: dict[_Key, Pools] = {}
_busy: set[Pools] = set()
_lock = threading.Lock()


def warm_up(settings: Settings, file: Path) -> None:
    """Have workers import what a flow's file imports, while it is loaded here."""
    with pool_for(settings, file):
        pass


@contextlib.contextmanager
def pool_for(settings: Settings, file: Path | None) -> Generator[Pools]:
    """A pool for the flows of a file, for one run alone.

    It is kept for the next run of the same file in the same state; a changed file gets new workers.
    """
    key = (settings, _state_of(file))
    pool = _take(key) or Pools(
        settings,
        preload=third_party_imports(file) if file is not None else [],
        folders=[str(file.parent)] if file is not None else [],
    )
    with _lock:
        _busy.add(pool)
    try:
        yield pool
    finally:
        _give_back(key, pool)


def close_pools() -> None:
    """End all workers of this process; the next run starts new ones."""
    with _lock:
        pools = [*_idle.values(), *_busy]
        _idle.clear()
        _busy.clear()
    for pool in pools:
        pool.close()


def _take(key: _Key) -> Pools | None:
    with _lock:
        found = _idle.pop(key, None)
        others = list(_idle.values())
        _idle.clear()
    for pool in others:
        pool.close()
    if found is not None and not found.alive:
        found.close()
        return None
    return found


def _give_back(key: _Key, pool: Pools) -> None:
    with _lock:
        ours = pool in _busy  # not when all were closed meanwhile
        _busy.discard(pool)
        keep = ours and pool.alive and key not in _idle
        if keep:
            _idle[key] = pool
    if ours and not keep:
        pool.close()


def _forget() -> None:
    """A forked child must not end its parent's workers."""
    global _lock  # noqa: PLW0603  # the parent may hold the old one
    _lock = threading.Lock()
    _idle.clear()
    _busy.clear()


def _state_of(file: Path | None) -> str:
    """A name for the file and the project's files that it imports, as they are now."""
    if file is None:
        return new_id()  # a notebook's cells change between runs
    stats = [(path, path.stat()) for path in own_files(file) if path.is_file()]
    return "|".join(f"{path}:{stat.st_mtime_ns}:{stat.st_size}" for path, stat in stats)


atexit.register(close_pools)
os.register_at_fork(after_in_child=_forget)
