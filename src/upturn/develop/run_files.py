"""Run files: the contents of files that a run left, opened, loaded, or brought to a folder."""

import io
import json
import secrets
from pathlib import Path
from typing import Any

from upturn.core.errors import Corrupt, Invalid, NotFound, Unavailable, did_you_mean
from upturn.core.tracking import StoredFile
from upturn.develop.tracking.saving import VALUE
from upturn.stores import values
from upturn.stores.workspace import Workspace

_PART = 2**20
_TEXTS = (".txt", ".md", ".tsv", ".html", ".svg", ".yaml", ".yml", ".toml", ".log", ".py")


def find_file(workspace: Workspace, run: str, path: str) -> StoredFile:
    """The file of a run at a path. Raises NotFound, and Invalid for a folder."""
    path = path.strip("/")
    below = workspace.tracking.files(run, under=path)
    for file in below:
        if file.path == path:
            return file
    if below:
        raise Invalid(
            f"{path!r} of run {run} is a folder.", hint=f"Take a file of it: {below[0].path!r}"
        )
    known = [file.path for file in workspace.tracking.files(run)]
    hint = did_you_mean(path, known) or "It left no files."
    raise NotFound(f"Run {run} has no file {path!r}.", hint=hint)


def open_file(workspace: Workspace, file: StoredFile) -> io.BufferedReader:
    """A file of a run, to read and to seek in; its bytes are mapped, not read into memory."""
    return io.BufferedReader(_Mapped(workspace.blobs.get(file.digest)), _PART)


def load_file(workspace: Workspace, file: StoredFile) -> Any:
    """What was saved, as it comes back: a table as Arrow's, an array, JSON, text, a value, bytes.

    Values of other types are unpickled, as outputs of tasks are. Raises Corrupt.
    """
    suffix = Path(file.path).suffix.lower()
    if file.media == VALUE:
        return values.load(workspace.blobs, file.digest)
    view = workspace.blobs.get(file.digest)
    try:
        match suffix:
            case ".parquet":
                import pyarrow as pa
                import pyarrow.parquet

                return pyarrow.parquet.read_table(pa.BufferReader(pa.py_buffer(view)))
            case ".csv":
                import pyarrow.csv

                return pyarrow.csv.read_csv(io.BytesIO(view))
            case ".npy":
                import numpy as np

                return np.load(io.BytesIO(view), allow_pickle=False)
            case ".json":
                return json.loads(bytes(view))
            case _ if suffix in _TEXTS or file.media.startswith("text/"):
                return bytes(view).decode()
            case _:
                return bytes(view)
    except (ValueError, OSError) as error:
        raise Corrupt(
            f"The file {file.path!r} of run {file.run} is not what its name says: {error}.",
            hint="Its bytes are in .open(path).",
        ) from None


def download_files(workspace: Workspace, run: str, path: str, to: Path) -> Path:
    """Bring the file, or all files of the folder, at a path to a folder; where it is then.

    Each file appears when it is whole. Raises NotFound, Invalid for a name that leads out of the
    folder, and Unavailable.
    """
    under = path.strip("/")
    files = workspace.tracking.files(run, under=under)
    if not files:
        if not under:
            raise NotFound(f"Run {run} left no files.")
        find_file(workspace, run, under)
    for file in files:
        parts = file.path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in file.path:
            raise Invalid(f"Run {run} has a file {file.path!r}, which leads out of the folder.")
        try:
            _bring(workspace, file, to.joinpath(*parts))
        except OSError as error:
            raise Unavailable(
                f"{to / file.path} can't be written: {error.strerror}.",
                hint="Name a folder that may be written, with room for it.",
            ) from None
    return to / under


def _bring(workspace: Workspace, file: StoredFile, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = to.with_name(f".{to.name[:200]}.{secrets.token_hex(4)}")
    reader = workspace.blobs.reading(file.digest)
    try:
        with fresh.open("wb") as out:
            while part := reader.read(_PART):
                out.write(part)
        fresh.replace(to)
    finally:
        reader.close()
        fresh.unlink(missing_ok=True)


class _Mapped(io.RawIOBase):
    """Bytes that are mapped, as a file."""

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view = view
        self._at = 0

    def readable(self) -> bool:
        """See IO.readable."""
        return True

    def seekable(self) -> bool:
        """See IO.seekable."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See IO.seek."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._view.nbytes}[whence]
        if begin + offset < 0:
            raise ValueError(f"There is nothing before the file's begin: {begin + offset}.")
        self._at = begin + offset
        return self._at

    def tell(self) -> int:
        """See IO.tell."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """See RawIOBase.readinto."""
        part = self._view[self._at : self._at + len(buffer)]
        buffer[: part.nbytes] = part
        self._at += part.nbytes
        return part.nbytes
