"""Connections: to one SQLite file, shared by threads: one that writes, and several that read."""

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from upturn.core.errors import Corrupt, Invalid, Unavailable
from upturn.stores.forks import watch
from upturn.stores.migrate import migrate

T = TypeVar("T")
_KEPT = 8  # connections for reading that are kept open while nobody reads


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection to the store at the path, which is brought to the present schema.

    Raises Unavailable when it can't be opened or is held by others, Corrupt when it is no store.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path,
            timeout=busy_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        migrate(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            refuse(error, path)
        raise
    return connection


def refuse(error: sqlite3.Error, path: Path) -> NoReturn:
    """Raise what an error of SQLite means: Corrupt, Unavailable, or the error itself."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more than is needed
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        raise Corrupt(
            f"{path} is not an intact store: {error}.",
            hint="Put a copy back, or move it away to begin anew.",
            path=str(path),
        ) from error
    hint = _HINTS.get(code)
    if hint is not None:
        raise Unavailable(
            f"The store {path} can't be used now: {error}.",
            hint=hint,
            path=str(path),
            retry_after_s=_RETRY_S.get(code, 30),
        ) from error
    raise error


_RETRY_S = {sqlite3.SQLITE_BUSY: 1, sqlite3.SQLITE_LOCKED: 1}  # the rest takes somebody
_HINTS = {
    sqlite3.SQLITE_BUSY: "Another process holds it; try again.",
    sqlite3.SQLITE_LOCKED: "Another process holds it; try again.",
    sqlite3.SQLITE_FULL: "Make room on the disk, then try again.",
    sqlite3.SQLITE_IOERR: "See whether its disk is full or failing.",
    sqlite3.SQLITE_CANTOPEN: "See that its directory exists and may be written.",
    sqlite3.SQLITE_READONLY: "See that the file and its directory may be written.",
    sqlite3.SQLITE_PERM: "See that the file and its directory may be written.",
}


class Connections:
    """Opened when they are needed; for all stores of one file, whose writers wait for each other.

    Another connection's lock is looked at again after milliseconds, a thread's is handed over.
    None crosses a fork: none happens while one is in use, and the child closes what it inherited
    (which changes nothing on disk: the parent's locks hold) and opens its own.
    """

    def __init__(self, path: Path | str, *, busy_s: float = 10.0) -> None:
        self.path = Path(path)
        self._busy_s = busy_s
        self._closed = False
        self._reset()
        watch(self)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds; all that it reads is from one instant."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            return work(connection)
        except sqlite3.Error as error:
            refuse(error, self.path)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
            self._give(connection)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """What one statement finds."""
        connection = self._take()
        try:
            return connection.execute(sql, parameters).fetchall()  # pyright: ignore[reportArgumentType]
        except sqlite3.Error as error:
            refuse(error, self.path)
        finally:
            self._give(connection)

    def stamp(self) -> int:
        """A number that differs after somebody, in any process, has written; takes microseconds.

        The connection that it asks never writes, so every commit is another connection's to it.
        """
        with self._watching:
            if self._watcher is None:
                self._watcher = self._open()
            try:
                (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                refuse(error, self.path)
        return self._generation << 40 | version

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction: nothing of it is there when it raises."""
        with self._writing:
            connection = self._writer or self._open_writer()
            try:
                connection.execute("BEGIN IMMEDIATE")
                done = work(connection)
                connection.execute("COMMIT")
                return done
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    refuse(error, self.path)
                if isinstance(error, OverflowError | UnicodeEncodeError):
                    raise Invalid(f"This can't be stored: {error}.") from None
                raise

    def close(self) -> None:
        """Release the file; those who read just now finish first."""
        self._closed = True
        with self._writing, self._watching, self._reading:
            self._reading.wait_for(lambda: self._busy == 0)
            self._close_all()

    def before_fork(self) -> None:
        """Wait until no connection is in use."""
        self._writing.acquire()
        self._watching.acquire()
        self._reading.acquire()
        self._reading.wait_for(lambda: self._busy == 0)

    def after_fork(self, *, child: bool) -> None:
        """Let the connections be used again, by the process that opened them."""
        if child:
            self._close_all()
            self._reset()
        else:
            self._reading.release()
            self._watching.release()
            self._writing.release()

    def _reset(self) -> None:
        self._writer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._free: list[sqlite3.Connection] = []  # for reading
        self._busy = 0
        self._writing = threading.Lock()
        self._watching = threading.Lock()
        self._generation = os.getpid()  # in stamps: a connection that is opened again counts anew
        self._reading = threading.Condition(threading.Lock())

    def _take(self) -> sqlite3.Connection:
        with self._reading:
            self._busy += 1
            free = self._free.pop() if self._free else None
        try:
            return free or self._open()
        except BaseException:
            self._give(None)
            raise

    def _give(self, connection: sqlite3.Connection | None) -> None:
        with self._reading:
            self._busy -= 1
            if connection is not None and len(self._free) < _KEPT:
                self._free.append(connection)
                connection = None
            self._reading.notify_all()
        if connection is not None:
            connection.close()

    def _open_writer(self) -> sqlite3.Connection:
        self._writer = writer = self._open()
        return writer

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise Unavailable(f"The store {self.path} was closed.")
        return connect(self.path, self._busy_s)

    def _close_all(self) -> None:
        for connection in (self._writer, self._watcher, *self._free):
            if connection is not None:
                connection.close()
        self._writer = self._watcher = None
        self._free.clear()

    def __del__(self) -> None:
        if hasattr(self, "_free"):
            self._close_all()


def connections_to(file: Path | str | Connections, busy_s: float) -> Connections:
    """Those that are given, or new ones to the file at a path."""
    return file if isinstance(file, Connections) else Connections(file, busy_s=busy_s)
