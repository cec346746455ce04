"""Crew: processes that score parts of a file beside each other, each with the model loaded.

Each takes one part at a time over a socket and sends it back scored and encoded. Processes rather
than threads, because many a model holds the interpreter; each computes with one thread, or with
its share of the cores. They die with the process that started them.
"""

import contextlib
import pickle
import queue
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc as ipc

from upturn.core.errors import Unavailable
from upturn.core.records import Version
from upturn.deploy.crew_member import REPLY, REQUEST, exactly
from upturn.deploy.outputs import Encoded, output_for
from upturn.deploy.scorer import Scorer
from upturn.stores.workspace import Workspace

# Not by PYTHONPATH: what a model starts would inherit it.
_HERE = "import sys; sys.path[:] = sys.argv[2:]; import upturn.deploy.crew_member as m; m.main()"


class Staff(Protocol):
    """Who scores parts."""

    ahead: int  # so many parts may wait for it

    def submit(self, table: pa.Table, first_row: int) -> "Future[Encoded]":
        """Score and encode a part, whose first row has that number."""
        ...

    def close(self) -> None:
        """End at once, whatever is being done."""
        ...


class Alone:
    """This process, one part after the other."""

    ahead = 0

    def __init__(self, workspace: Workspace, version: Version, target: Path) -> None:
        self._workspace = workspace
        self._version = version
        self._output = output_for(target)
        self._scorer: Scorer | None = None

    def submit(self, table: pa.Table, first_row: int) -> "Future[Encoded]":
        """See Staff."""
        if self._scorer is None:
            self._scorer = Scorer(self._workspace, self._version)
        done: Future[Encoded] = Future()
        done.set_result(self._output.encode(self._scorer.scored(table, first_row)))
        return done

    def close(self) -> None:
        """See Staff."""
        self._scorer = None


class Crew:
    """Several processes, one part each at a time."""

    def __init__(self, workspace: Workspace, version: Version, target: Path, *, count: int) -> None:
        self.ahead = count  # so that one is there for whoever is done
        threads = max(1, workspace.settings.cores // count)
        setup = pickle.dumps((workspace.settings, version, str(target), threads))
        self._members = [_Member(setup) for _ in range(count)]
        self._free: queue.SimpleQueue[_Member] = queue.SimpleQueue()
        for member in self._members:
            self._free.put(member)
        self._askers = ThreadPoolExecutor(count)

    def submit(self, table: pa.Table, first_row: int) -> "Future[Encoded]":
        """See Staff."""
        return self._askers.submit(self._ask, table, first_row)

    def _ask(self, table: pa.Table, first_row: int) -> Encoded:
        member = self._free.get()
        try:
            return member.ask(table, first_row)
        finally:
            self._free.put(member)

    def close(self) -> None:
        """See Staff."""
        for member in self._members:
            member.kill()
        self._askers.shutdown(cancel_futures=True)
        for member in self._members:
            member.close()


class _Member:
    def __init__(self, setup: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _HERE, str(theirs.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._socket = ours
        self._writer: Any = ours.makefile("wb", buffering=1 << 16)
        self._reader: Any = ours.makefile("rb", buffering=1 << 16)
        with contextlib.suppress(OSError):  # it has ended: the first who asks is told
            self._writer.write(len(setup).to_bytes(8, "little") + setup)
            self._writer.flush()

    def ask(self, table: pa.Table, first_row: int) -> Encoded:
        """Have a part scored. Raises what the other process raised, Unavailable when it ended."""
        try:
            self._writer.write(REQUEST.pack(first_row))
            with ipc.new_stream(self._writer, table.schema) as stream:
                stream.write_table(table)
            self._writer.flush()
            good, body, note = REPLY.unpack(exactly(self._reader, REPLY.size))
            found = exactly(self._reader, body), exactly(self._reader, note)
        except (OSError, EOFError, ValueError):
            raise self._ended(first_row, table.num_rows) from None
        if not good:
            raise pickle.loads(found[0])
        return Encoded(*found)

    def _ended(self, first_row: int, rows: int) -> Unavailable:
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            status = 0
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return Unavailable(
            f"A process that scored rows {first_row} to {first_row + rows - 1} {how}.",
            hint="The same command goes on behind the rows that are done. If memory was short,"
            " UPTURN_CORES=1 takes less.",
        )

    def kill(self) -> None:
        """End it now; who waits for its answer gets an error."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the connection of one that was killed."""
        for file in (self._writer, self._reader, self._socket):
            with contextlib.suppress(OSError):  # what was not sent yet
                file.close()
