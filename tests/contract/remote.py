"""Servers for tests: a store that a real server process keeps, as its clients see it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from upturn.stores.remote.blobs import RemoteBlobStore
from upturn.stores.remote.cache import Cache
from upturn.stores.remote.connection import Server, server_of
from upturn.stores.remote.meta import RemoteMetaStore
from upturn.stores.remote.tracking import RemoteTrackingStore

HOMES: dict[str, Path] = {}  # of servers that run here, by their URLs
SRC = Path(__file__).parents[2] / "src"


class StoreServer:
    """A server process on the store in a directory; it can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "upturn.toml").touch()
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, at the port that it had before."""
        environ = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "upturn", "up", "--port", str(self.port)],
            cwd=self.home,
            env={
                **environ,
                "UPTURN_HOME": str(self.home),
                "PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://" in line, line + self.process.stdout.read()
        self.url = "http://" + line.split("http://")[1].split("/")[0]
        self.port = int(self.url.rpartition(":")[2])
        HOMES[self.url] = self.home
        self.client().greet()

    def empty(self) -> None:
        """Leave nothing in the store but that the server serves it."""
        connection = sqlite3.connect(self.home / "upturn.db", timeout=30, isolation_level=None)
        with contextlib.closing(connection):
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in found.fetchall():
                where = "name <> 'server'" if name == "lease" else "1"
                connection.execute(f'DELETE FROM "{name}" WHERE {where}')
        for shard in (self.home / "blobs").iterdir():
            for file in shard.iterdir():
                file.unlink()

    def client(self) -> Server:
        """A client of its own for this server, which waits for one that is being started."""
        server = Server(self.url)
        server.presume_met()
        return server

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, with all of its workers."""
        assert self.process is not None
        with self.process:
            self.process.send_signal(how)
            self.process.wait(timeout=30)


@contextlib.contextmanager
def serving(home: Path) -> Iterator[StoreServer]:
    """A server on a new store, ended at the end."""
    server = StoreServer(home)
    try:
        yield server
    finally:
        server.end()


def remote_meta(server: StoreServer) -> RemoteMetaStore:
    """The records that the server keeps, as a workspace has them."""
    return RemoteMetaStore(server_of(server.url, ""))


def remote_stores(server: StoreServer) -> tuple[RemoteMetaStore, RemoteTrackingStore]:
    """The records that the server keeps, and what runs say, as a workspace has them."""
    return remote_meta(server), RemoteTrackingStore(server_of(server.url, ""))


def remote_blobs(server: StoreServer, cache: Path | None = None) -> RemoteBlobStore:
    """The blobs that the server keeps."""
    return RemoteBlobStore(server.client(), None if cache is None else Cache(cache))
