"""Real processes for tests: Python code run by an interpreter of its own, with this one's path."""

import os
import subprocess
import sys
import textwrap

COMMON = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
NOW = datetime(2013, 4, 1, tzinfo=UTC)

def meta_store(place):
    if place.startswith("http"):
        from upturn.stores.remote.connection import Server
        from upturn.stores.remote.meta import RemoteMetaStore
        return RemoteMetaStore(Server(place))
    from upturn.stores.sqlite import SqliteMetaStore
    return SqliteMetaStore(place)

def blob_store(place):
    if place.startswith("http"):
        from upturn.stores.remote.blobs import RemoteBlobStore
        from upturn.stores.remote.connection import Server
        return RemoteBlobStore(Server(place))
    from upturn.stores.disk import DiskBlobStore
    return DiskBlobStore(place)
"""


def start(code: str, *arguments: object, talk: bool = False) -> subprocess.Popen[str]:
    """Return a process that runs the code; `sys.argv[1:]` are the arguments.

    With `talk`, lines can be sent to it: see `say`.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + textwrap.dedent(code), *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE if talk else None,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, status: int | None = 0) -> str:
    """Wait for the process and return what it printed; its exit status must be `status`."""
    with process:
        output, _ = process.communicate(timeout=60)
    assert status is None or process.returncode == status, output
    return output


def say(process: subprocess.Popen[str], line: str) -> None:
    """Send the process a line."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(code: str, *arguments: object) -> str:
    """Run the code to its end and return what it printed."""
    return finish(start(code, *arguments))


def kill_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """Read that many lines of the process, then kill -9 it; return all lines that it printed."""
    with process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return [line.strip() for line in said if line.endswith("\n")]
