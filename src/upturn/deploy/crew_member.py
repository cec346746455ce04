"""Crew member: the process that scores the parts that come over a socket, until it closes."""

import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
from typing import Any

REQUEST = struct.Struct("<q")  # the number of the part's first row; its rows follow as a stream
REPLY = struct.Struct("<?QQ")  # whether it went well, and the bytes of the part and of its note
_PR_SET_PDEATHSIG = 1
# Each library computes with as many threads as there are cores, unless it is told before.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Score parts until the socket closes."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it ended before we could ask to die with it
    sock = socket.socket(fileno=int(sys.argv[1]))
    reader: Any = sock.makefile("rb", buffering=1 << 16)
    writer: Any = sock.makefile("wb", buffering=1 << 16)
    try:
        size = int.from_bytes(exactly(reader, 8), "little")
        _serve(pickle.loads(exactly(reader, size)), reader, writer)
    except (EOFError, ConnectionError):
        return


def _serve(setup: tuple[Any, ...], reader: Any, writer: Any) -> None:
    settings, version, target, threads = setup
    for name in _THREADS:
        os.environ[name] = str(threads)
    work = _work(settings, version, target, threads)
    while True:
        first_row = REQUEST.unpack(exactly(reader, REQUEST.size))[0]
        good, body, note = work(first_row, reader)
        writer.write(REPLY.pack(good, len(body), len(note)))
        writer.write(body)
        writer.write(note)
        writer.flush()


def _work(settings: Any, version: Any, target: str, threads: int) -> Any:
    """The function that scores a part; whatever goes wrong is its answer."""
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.ipc as ipc

    from upturn.core.errors import UpturnError
    from upturn.deploy.outputs import output_for
    from upturn.deploy.scorer import Scorer
    from upturn.stores.workspace import open_workspace

    pa.set_cpu_count(threads)
    output = output_for(Path(target))
    loaded: list[Scorer] = []

    def scorer() -> Scorer:
        if not loaded:
            loaded.append(Scorer(open_workspace(settings), version))
        return loaded[0]

    def work(first_row: int, reader: Any) -> tuple[bool, Any, bytes]:
        with ipc.open_stream(reader) as stream:
            table = stream.read_all()
        try:
            part = output.encode(scorer().scored(table, first_row))
            return True, part.body, part.note
        except UpturnError as error:
            return False, pickle.dumps(error), b""
        except Exception as error:  # noqa: BLE001  # told to whoever asked
            found = UpturnError(f"A part could not be scored: {type(error).__name__}: {error}.")
            return False, pickle.dumps(found), b""

    try:
        scorer()  # while the first part is on its way
    except Exception:  # noqa: BLE001  # the first part will raise it again
        loaded.clear()
    return work


def exactly(file: Any, size: int) -> bytes:
    """So many bytes of a file. Raises EOFError at its end."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
