"""Cache: verified copies of a server's blobs on this machine's disk, which can be mapped."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from upturn.core.blobstore import BlobWriter, Buffer
from upturn.core.errors import Corrupt, NotFound
from upturn.stores.disk import DiskBlobStore

_LIMIT_BYTES = 20 * 2**30  # kept at most, and never more than a tenth of the disk
_LOOK_BYTES = 2**30  # so much may come before it is looked at again how much there is
_YOUNG_S = 3600.0  # what was used so lately stays: somebody may be about to read it


class Cache:
    """Copies in a directory, the least lately used removed when there are too many.

    What is in here is of no worth: it may be deleted at any time.
    """

    def __init__(self, directory: Path, *, limit_bytes: int | None = None) -> None:
        self._directory = directory
        self._limit = limit_bytes
        self._store: DiskBlobStore | None = None
        self._since_look = 0

    def find(self, digest: str) -> memoryview | None:
        """The copy, verified; None when there is none. A damaged one is removed."""
        store = self._open()
        try:
            view = store.get(digest)
        except NotFound:
            return None
        except Corrupt:
            store.delete(digest)
            return None
        store.has(digest)  # a use of it
        return view

    def put(self, parts: Sequence[Buffer]) -> str:
        """Keep a copy of what is being stored; its digest."""
        digest = self._open().put(parts)
        self.grown(sum(memoryview(part).nbytes for part in parts))
        return digest

    def writing(self) -> BlobWriter:
        """Begin to write a copy; call `grown` once it is finished."""
        return self._open().writing()

    def drop(self, digest: str) -> None:
        """Have no copy of it."""
        self._open().delete(digest)

    def _open(self) -> DiskBlobStore:
        if self._store is None:
            self._store = DiskBlobStore(self._directory)
        return self._store

    def grown(self, size: int) -> None:
        """So many bytes have come: look whether it is too much now."""
        self._since_look += size
        if self._since_look >= min(_LOOK_BYTES, self._limit or _LOOK_BYTES):
            self._since_look = 0
            self.trim()

    def trim(self, *, now: float | None = None) -> None:
        """Remove what was least lately used, until what is left is within the limit."""
        store = self._open()
        limit = self._limit
        if limit is None:
            disk = os.statvfs(self._directory)
            limit = min(_LIMIT_BYTES, disk.f_blocks * disk.f_frsize // 10)
        now = time.time() if now is None else now
        entries = sorted(store.entries(), key=lambda entry: entry.used_at)
        total = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if total <= limit or entry.used_at > now - _YOUNG_S:
                return
            with contextlib.suppress(OSError):
                store.delete(entry.digest)
            total -= entry.size_bytes
