"""Output: what tasks printed, in a file where they ran, and at the server that keeps the run."""

import contextlib
import time
from pathlib import Path

from upturn.core.errors import UpturnError
from upturn.core.tracking import StoredFile
from upturn.develop.worker import traceback_file
from upturn.stores.workspace import Workspace

_MOST_BYTES = 8 * 2**20  # of what a task printed, the end of it, that goes to a server
_MEDIA = "text/plain"


def output_file(workspace: Workspace, run: str, step: str, index: int) -> Path:
    """Where what a task prints is written on the machine that it runs on."""
    return workspace.output_dir / run / step / f"{index}.log"


def send_output(workspace: Workspace, run: str, step: str, index: int) -> None:
    """Give the server what a task has printed, if a server keeps the run.

    A run does not fail because what it printed can't be kept: it is still here.
    """
    if not workspace.is_remote:
        return
    file = output_file(workspace, run, step, index)
    for each in (file, traceback_file(file)):
        with contextlib.suppress(UpturnError, OSError):
            data = _end_of(each)
            if data:
                stored = StoredFile(
                    run=run,
                    path=f"output/{step}/{each.name}",
                    digest=workspace.blobs.put([data]),
                    size_bytes=len(data),
                    media=_MEDIA,
                    at=time.time_ns() // 1000,
                )
                workspace.tracking.put_file(stored)


def output_text(workspace: Workspace, run: str, step: str, index: int) -> str:
    """What a task printed, wherever it ran; empty when that is nowhere."""
    return _text(workspace, run, step, output_file(workspace, run, step, index))


def traceback_text(workspace: Workspace, run: str, step: str, index: int) -> str:
    """The whole traceback of a task's failure, wherever it ran."""
    file = traceback_file(output_file(workspace, run, step, index))
    return _text(workspace, run, step, file)


def _text(workspace: Workspace, run: str, step: str, file: Path) -> str:
    if file.is_file():
        return file.read_text(errors="replace")
    path = f"output/{step}/{file.name}"
    for stored in workspace.tracking.files(run, under=path):
        if stored.path == path:
            return bytes(workspace.blobs.get(stored.digest)).decode(errors="replace")
    return ""


def _end_of(file: Path) -> bytes:
    if not file.is_file():
        return b""
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - _MOST_BYTES))
        return source.read()
