"""Checkpoint: what a step saves on its way, so that its next attempt goes on from there."""

import contextlib
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from blake3 import blake3

from upturn.core.errors import Corrupt, Invalid
from upturn.develop import context
from upturn.stores import values

_NAME = re.compile(r"[A-Za-z0-9_-]*")
_DIGEST_BYTES = 32


class Checkpoint:
    """One value, and a folder, that outlive an attempt; made by `checkpoint`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._temporary: Path | None = None

    def load(self, default: Any = None) -> Any:
        """What was saved last, or `default`."""
        if self._folder is None:
            return default
        try:
            data = (self._folder / "value").read_bytes()
        except FileNotFoundError:
            return default
        digest, blob = data[:_DIGEST_BYTES], memoryview(data)[_DIGEST_BYTES:]
        if blake3(blob).digest() != digest:
            return default  # cut short by a loss of power: as if it had not been saved
        try:
            return values.unpack(blob)
        except Corrupt:
            return default

    def save(self, value: Any) -> None:
        """Keep the value in place of what was saved before: when killed, one of the two is there.

        Raises Invalid when it can't be stored.
        """
        if self._folder is None:
            return
        _, parts = values.pack(value)
        blob = b"".join(parts)
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"value.{os.getpid()}"
        fresh.write_bytes(blake3(blob).digest() + blob)
        os.replace(fresh, self._folder / "value")

    @property
    def dir(self) -> Path:
        """A folder for what libraries write themselves; outside a task a temporary one."""
        if self._folder is None:
            if self._temporary is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="upturn-checkpoint-"))
                weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
            return self._temporary
        found = self._folder / "files"
        found.mkdir(parents=True, exist_ok=True)
        return found


def checkpoint(name: str = "") -> Checkpoint:
    """The running task's checkpoint: what an attempt saved, the next one loads.

    That is a retry, the task in a run that is resumed, or in a new run with the same code and the
    same inputs; a step that was changed begins anew, as does one with `cache=False` in another run.
    It is removed when the task is done. A step may have several, by name. Outside a task nothing is
    kept.

    >>> import upturn as up
    >>> @up.step(retries=3)
    ... def train(epochs: int) -> float:
    ...     saved = up.checkpoint()
    ...     epoch, loss = saved.load((0, 1.0))
    ...     while epoch < epochs:
    ...         epoch, loss = epoch + 1, loss / 2
    ...         saved.save((epoch, loss))
    ...     return loss
    >>> train(3)
    0.125
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} can't name a checkpoint.", hint="Use letters, digits, '-' and '_'."
        )
    task = context.task.get()
    if task is None:
        return Checkpoint(None)
    return Checkpoint(Path(task.call.checkpoints) / (name or "_"))


def drop(folder: str) -> None:
    """Remove the checkpoints of a task that is done."""
    if os.path.isdir(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
