"""DiskBlobStore: blobs as read-only files named by the digest of their bytes."""

import contextlib
import errno
import fcntl
import mmap
import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import blake3

from upturn.core.blobstore import USE_MARGIN_S, Buffer, Entry
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

    A file's mtime is when it was last used, and a sweep never asks first and removes then, for a
    use might come between. It moves the file to `trash/`, looks at its mtime *there*, and removes
    it or moves it back. Who uses a blob sets its mtime where it belongs; when it is not there, he
    moves it back from the trash, which makes the sweep's removal find nothing. So whichever comes
    first, rename or use, decides, and the other one sees it. A sweep that dies leaves a file in
    the trash, where it is as good as in its place. There is one sweep at a time: a second one
    might remove from the trash what was taken back and put there anew.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._root = os.fspath(self._directory)
        self._fresh = os.path.join(self._root, "tmp")
        self._trash = os.path.join(self._root, "trash")
        with _disk(self._root):
            os.makedirs(self._root, exist_ok=True)  # as it is, where nothing may be written
            _clean(self._fresh)

    def put(self, parts: Sequence[Buffer], *, sync: bool = False) -> str:
        """Store the concatenation of the parts and return its digest; see BlobStore.put."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        digest = digest_of(views)
        path = self._path(digest)
        size = sum(view.nbytes for view in views)
        with _disk(self._root):
            if self._use(path) != size:  # missing, or cut short by a failing disk
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
            if view is None and path and self._take_back(path):
                view = _read(path)
        if view is None:
            raise _missing(digest, self._root)
        if digest_of([view]) != digest:
            raise _damaged(digest, path)
        return view

    def writing(self) -> "_Writer":
        """Begin to write a blob that need not fit in memory; see BlobStore.writing."""
        return _Writer(self._root, self._fresh, self._settle)

    def reading(self, digest: str) -> "_Reader":
        """Begin to read a blob that need not fit in memory; see BlobStore.reading."""
        path = self._path(digest) if _DIGEST.fullmatch(digest) else ""
        with _disk(self._root):
            file = _open(path)
            if file is None and path and self._take_back(path):
                file = _open(path)
        if file is None:
            raise _missing(digest, self._root)
        return _Reader(self._root, digest, path, file)

    def has(self, digest: str, *, use: bool = True) -> bool:
        """Whether there is a blob with that digest; see BlobStore.has."""
        if not _DIGEST.fullmatch(digest):
            return False
        places = (self._path(digest), os.path.join(self._trash, digest))
        with _disk(self._root):
            return self._use(places[0]) >= 0 if use else any(map(os.path.exists, places))

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        if not _DIGEST.fullmatch(digest):
            return
        for path in (self._path(digest), os.path.join(self._trash, digest)):
            with _disk(self._root), contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def size_bytes(self) -> int:
        """How much is stored, in all."""
        return sum(entry.size_bytes for entry in self.entries())

    def entries(self) -> Iterator[Entry]:
        """Every blob, in no order; see BlobStore.entries."""
        with _disk(self._root):
            for shard in os.scandir(self._root):
                if shard.name == "tmp" or not shard.is_dir():
                    continue
                prefix = "" if shard.name == "trash" else shard.name
                for file in os.scandir(shard.path):
                    if _DIGEST.fullmatch(prefix + file.name):
                        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                            stat = file.stat()
                            yield Entry(prefix + file.name, stat.st_size, stat.st_mtime)

    def sweep(self, digests: Iterable[str], *, unused_since: float) -> Iterator[tuple[str, bool]]:
        """Remove those of the blobs that were not used since then; see BlobStore.sweep."""
        with _disk(self._root):
            os.makedirs(self._trash, exist_ok=True)
        with _alone(self._trash):
            for digest in digests:
                with _disk(self._root):
                    gone = self._remove_unused(digest, unused_since)
                yield digest, gone

    def _settle(self, fresh: str, digest: str, size: int, *, sync: bool) -> None:
        """Give a file that was written its place, unless its blob is there already."""
        path = self._path(digest)
        if self._use(path) != size:
            _rename(fresh, path)
        else:
            os.unlink(fresh)
        if sync:
            for made in (path, os.path.dirname(path), self._root):
                _sync(made)

    def _remove_unused(self, digest: str, unused_since: float) -> bool:
        path, trashed = self._path(digest), os.path.join(self._trash, digest)
        with contextlib.suppress(FileNotFoundError):  # left in the trash by a sweep that died
            if os.stat(path).st_mtime >= unused_since:
                return False  # without a move, as most are
            os.rename(path, trashed)
        try:
            if os.stat(trashed).st_mtime >= unused_since:
                self._take_back(path)
                return False
            os.unlink(trashed)
        except FileNotFoundError:  # somebody took it back
            return False
        return True

    def _use(self, path: str) -> int:
        """Note that a blob is used; its size, or -1 when there is none."""
        stat = _stat(path)
        if stat is None:
            if not self._take_back(path):
                return -1
            stat = _stat(path)
        if stat is not None and stat.st_mtime < time.time() - USE_MARGIN_S:
            try:
                os.utime(path)
            except FileNotFoundError:  # a sweep took it just now
                return self._use(path)
            except OSError as error:
                # A store that we may only read is swept by its owner, who can't know of this use.
                if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS):
                    raise
        return stat.st_size if stat is not None else -1

    def _take_back(self, path: str) -> bool:
        """Put a blob that a sweep is about to remove back into its place."""
        digest = os.path.basename(os.path.dirname(path)) + os.path.basename(path)
        try:
            os.rename(os.path.join(self._trash, digest), path)
        except FileNotFoundError:
            return os.path.exists(path)  # the sweep itself put it back
        return True

    def _path(self, digest: str) -> str:
        return os.path.join(self._root, digest[:2], digest[2:])

    def _write(self, path: str, views: Sequence[memoryview], *, sync: bool) -> None:
        fresh = _fresh_path(self._fresh)
        file = _create(fresh)
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


class _Writer:
    """A file of its own until it is finished; see BlobWriter."""

    def __init__(self, root: str, directory: str, settle: Callable[..., None]) -> None:
        self._root = root
        self._path = _fresh_path(directory)
        self._settle = settle
        self._hasher = blake3.blake3()
        self._size = 0
        with _disk(root):
            self._file = _create(self._path)

    def write(self, part: Buffer) -> None:
        """Add a part; see BlobWriter.write."""
        view = memoryview(part).cast("B")
        with _disk(self._root):
            _write_all(self._file, view)
        self._hasher.update(view)
        self._size += view.nbytes

    def finish(self, *, sync: bool = False) -> str:
        """Store what was written; see BlobWriter.finish."""
        digest = self._hasher.hexdigest()
        try:
            with _disk(self._root):
                if sync:
                    os.fsync(self._file)
                self._close()
                self._settle(self._path, digest, self._size, sync=sync)
        except BaseException:
            self.abandon()
            raise
        self._path = ""
        return digest

    def abandon(self) -> None:
        """Forget what was written; see BlobWriter.abandon."""
        self._close()
        path, self._path = self._path, ""
        with contextlib.suppress(OSError):
            os.unlink(path)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.abandon()


class _Reader:
    """An open file and the digest of what was read of it; see BlobReader."""

    def __init__(self, root: str, digest: str, path: str, file: int) -> None:
        self._root = root
        self._digest = digest
        self._path = path
        self._file = file
        self._hasher = blake3.blake3()
        self._left = self._size = os.fstat(file).st_size
        if not self._size:
            self._check(b"")

    @property
    def size_bytes(self) -> int:
        """How long the blob is."""
        return self._size

    def read(self, size: int) -> bytes:
        """The next part; see BlobReader.read."""
        if not self._left:
            return b""
        with _disk(self._root):
            part = os.read(self._file, min(size, self._left))
        self._left -= len(part)
        if not part:
            raise _damaged(self._digest, self._path)
        return self._check(part)

    def _check(self, part: bytes) -> bytes:
        self._hasher.update(part)
        if not self._left and self._hasher.hexdigest() != self._digest:
            raise _damaged(self._digest, self._path)
        return part

    def close(self) -> None:
        """Release the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()


def _missing(digest: str, root: str) -> NotFound:
    return NotFound(
        f"No blob {digest!r} in {root}.",
        hint="upturn gc may have removed it; running what made it again brings it back.",
    )


def _damaged(digest: str, path: str) -> Corrupt:
    return Corrupt(
        f"The blob {digest} is damaged: {path} does not hold what was written.",
        hint="Delete that file and run what made it again, or put a copy back.",
        digest=digest,
        path=path,
    )


def _fresh_path(directory: str) -> str:
    return os.path.join(directory, f"{os.getpid()}-{secrets.token_hex(8)}")


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


def digest_of(views: Sequence[memoryview]) -> str:
    """The digest of the concatenation of the bytes."""
    large = any(view.nbytes >= _THREADS_FROM for view in views)
    hasher = blake3.blake3(max_threads=_hash_threads if large else 1)
    for view in views:
        hasher.update(view)
    return hasher.hexdigest()


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


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


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags, 0o444)
    except FileNotFoundError:  # the first one; or the whole store went away, and so does this
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path))
        return os.open(path, flags, 0o444)


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
    if not os.path.isdir(directory):
        return
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
def _alone(directory: str) -> Generator[None]:
    """Holds the lock of sweeps; it ends with the process, however that ends."""
    file = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "Another process removes blobs just now.", hint="Let it finish, then try again."
            ) from None
        yield
    finally:
        os.close(file)


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
    global _hash_threads  # noqa: PLW0603  # of the process, as its threads are
    _hash_threads = 1


os.register_at_fork(after_in_child=_hash_alone)
