"""Contents of files and folders as digests, remembered while their status stays the same."""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from upturn.core.records import Read

ABSENT = ""
# File systems keep times in steps of up to two seconds: a file that was changed within the last one
# may be changed again without its status telling.
UNSETTLED_NS = 2_000_000_000
_LARGE = 8 * 1024 * 1024  # from here on, threads are worth their start
_MOST_KNOWN = 100_000
_known: dict[str, tuple[str, str]] = {}  # path → stamp and digest
_CHANGING = frozenset({"__pycache__"})


def stamp_of(status: os.stat_result) -> str:
    """The status as text: while it is the same, so is the content, if it had settled."""
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def status_of(path: str) -> os.stat_result | None:
    """The status of what is at the path; None for nothing."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Whether a later change is sure to show in the status."""
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns) > UNSETTLED_NS


def digest_of(path: str, kind: str) -> tuple[str, str]:
    """The digest of a file's bytes, a folder's names, a tree's names and bytes; and its stamp.

    Of a SQLite database it is the status; an empty log of one is as good as none.

    The digest is empty for nothing, the stamp when it would not be sure to tell of a change.
    """
    if kind == "names":
        return _names_digest(path), ""
    if kind == "tree" and os.path.isdir(path):
        return _tree_digest(path), ""
    status = status_of(path)
    if status is None:
        return ABSENT, ""
    if kind == "database":
        # Not its bytes: to close a file drops the locks that SQLite has on it in this process.
        # Nor the time of its status: as root, SQLite sets the log's owner whenever it opens it.
        text = f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        return (text if status.st_size else ABSENT), ""
    if not stat.S_ISREG(status.st_mode):
        return f"no file: {stat.S_IFMT(status.st_mode)}", ""
    return _file_digest(path, status)


def _file_digest(path: str, status: os.stat_result) -> tuple[str, str]:
    stamp = stamp_of(status)
    known = _known.get(path)
    if known is not None and known[0] == stamp:
        return known[1], stamp
    settled = is_settled(status, time.time_ns())
    threads = blake3.AUTO if status.st_size >= _LARGE else 1
    try:
        digest = blake3(max_threads=threads).update_mmap(path).hexdigest()
    except OSError as error:
        return f"unreadable: {error.errno}", ""
    after = status_of(path)
    if not settled or after is None or stamp_of(after) != stamp:
        return digest, ""
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[path] = (stamp, digest)
    return digest, stamp


def _names_digest(path: str) -> str:
    try:
        with os.scandir(path) as entries:
            names = sorted(
                f"{entry.name}/" if entry.is_dir() else entry.name
                for entry in entries
                if entry.name not in _CHANGING
            )
    except OSError:
        return ABSENT
    return blake3("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _tree_digest(path: str) -> str:
    whole = blake3()
    for member in _members(path):
        name = os.path.relpath(member, path)
        whole.update(f"{name}\0{digest_of(member, 'file')[0]}\0".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _members(path: str) -> Iterator[str]:
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _CHANGING)
        yield from (os.path.join(folder, name) for name in sorted(files))


def first_changed(reads: Iterable[Read], root: Path) -> str | None:
    """The path of the first of the reads whose content is another one now; None when none is."""
    return next((read.path for read in reads if not is_same(read, root)), None)


def is_same(read: Read, root: Path) -> bool:
    """Whether what was read has the same content now."""
    path = os.path.join(root, read.path)
    if read.kind == "file":
        status = status_of(path)
        if status is None:
            return read.digest == ABSENT
        if read.stamp and read.stamp == stamp_of(status):
            return True
        if read.stamp and int(read.stamp.split(":")[1]) != status.st_size:
            return False
    return digest_of(path, read.kind)[0] == read.digest


def relative(path: str, root: str) -> str:
    """The path relative to the root when it is in there, so that it means the same elsewhere."""
    return path[len(root) + 1 :] if path.startswith(root + os.sep) else path
