"""DiskBlobStore: blobs as read-only files named by the digest of their bytes."""

import contextlib
import errno
import mmap
import os
import re
import secrets
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NoReturn

import blake3

from upturn.core.blobstore import Buffer
from upturn.core.errors import Corrupt, NotFound, Unavailable

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAP_FROM = 64 * 1024  # smaller blobs are read: a process may hold only some 65,000 mappings
_THREADS_FROM = 8 * 1024 * 1024  # hashing in several threads pays from here
_DAY_S = 86_400.0
_MINUTE_S = 60.0
_hash_threads = blake3.blake3.AUTO
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskBlobStore:
    """Blobs in `<directory>/ab/cdef…`, made when it is missing. Safe from threads and processes.

    A blob is written to a file of its own, then renamed, so that it appears whole or not at all.
    Raises Unavailable when the disk is full or fails.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._root = os.fspath(self._directory)
        self._fresh = os.path.join(self._root, "tmp")
        with _disk(self._root):
            os.makedirs(self._fresh, exist_ok=True)
            _clean(self._fresh)

    def put(self, parts: Sequence[Buffer], *, sync: bool = False) -> str:
        """Store the concatenation of the parts and return its digest; see BlobStore.put."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        digest = _digest(views)
        path = self._path(digest)
        size = sum(view.nbytes for view in views)
        with _disk(self._root):
            if _size(path) != size:  # missing, or cut short by a failing disk
                self._write(path, views, sync=sync)
            if sync:
                _sync(path)
                _sync(os.path.dirname(path))
                _sync(self._root)
        return digest

    def get(self, digest: str) -> memoryview:
        """The bytes, mapped when there are many, verified against the digest; see BlobStore.get."""
        path = self._path(digest) if _DIGEST.fullmatch(digest) else ""
        with _disk(self._root):
            view = _read(path)
        if view is None:
            raise NotFound(f"No blob {digest!r} in {self._root}.", hint="It may have been deleted.")
        if _digest([view]) != digest:
            raise Corrupt(
                f"The blob {digest} is damaged: {path} does not hold what was written.",
                hint="Delete that file and run what made it again, or put a copy back.",
                digest=digest,
                path=path,
            )
        return view

    def has(self, digest: str) -> bool:
        """Whether there is a blob with that digest (not whether it is intact)."""
        return _DIGEST.fullmatch(digest) is not None and os.path.exists(self._path(digest))

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        if not _DIGEST.fullmatch(digest):
            return
        with _disk(self._root), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(digest))

    def size_bytes(self) -> int:
        """How much is stored, in all."""
        total = 0
        for shard in os.scandir(self._root):
            if shard.name != "tmp" and shard.is_dir():
                for entry in os.scandir(shard.path):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        total += entry.stat().st_size
        return total

    def _path(self, digest: str) -> str:
        return os.path.join(self._root, digest[:2], digest[2:])

    def _write(self, path: str, views: Sequence[memoryview], *, sync: bool) -> None:
        fresh = os.path.join(self._fresh, f"{os.getpid()}-{secrets.token_hex(8)}")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            try:
                for view in views:
                    _write_all(file, view)
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)
            _rename(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise


def _digest(views: Sequence[memoryview]) -> str:
    large = any(view.nbytes >= _THREADS_FROM for view in views)
    hasher = blake3.blake3(max_threads=_hash_threads if large else 1)
    for view in views:
        hasher.update(view)
    return hasher.hexdigest()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _read(path: str) -> memoryview | None:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(file).st_size
        if size >= _MAP_FROM:
            return memoryview(mmap.mmap(file, size, prot=mmap.PROT_READ))
        return memoryview(os.read(file, size))
    finally:
        os.close(file)


def _write_all(file: int, view: memoryview) -> None:
    while view.nbytes:
        view = view[os.write(file, view) :]


def _rename(source: str, target: str) -> None:
    try:
        os.replace(source, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _clean(directory: str) -> None:
    """Remove what writers that died left behind; a process elsewhere may own a pid unknown here."""
    now = time.time()
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError):
            age_s = now - entry.stat().st_mtime
            if age_s > _DAY_S or (age_s > _MINUTE_S and not _alive(entry.name.partition("-")[0])):
                os.unlink(entry.path)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _disk(root: str) -> Generator[None]:
    """Turns a failing disk into Unavailable."""
    try:
        yield
    except OSError as error:
        _refuse(root, error)


def _refuse(root: str, error: OSError) -> NoReturn:
    hint = "See that its disk is healthy and that the directory may be read and written."
    if error.errno in _FULL:
        hint = "Make room on the disk, then try again."
    raise Unavailable(f"{root} can't be used now: {error.strerror}.", hint=hint) from error


def _hash_alone() -> None:
    """The hasher's threads don't cross a fork: a child that asked for them would wait forever."""
    global _hash_threads  # noqa: PLW0603
    _hash_threads = 1


os.register_at_fork(after_in_child=_hash_alone)
