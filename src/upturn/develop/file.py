"""File: a path whose content is an input, also when it is not Python that opens it."""

from pathlib import Path, PosixPath
from typing import Any

from upturn.develop.reads import note_read


class File(PosixPath):
    """The path of a file or a folder that a step reads with a native reader.

    Python's own `open` is seen; that polars, pyarrow or duckdb open a file is not, so it is named:
    `pl.read_parquet(up.File("prices.parquet"))`. It is a `pathlib.Path` and goes wherever one goes;
    for readers that want text, `str(up.File(…))`. Made while a task runs, it notes the file, or the
    folder with all files in it, as read: when its content is another one, the task runs again. As
    an argument of a step it is an input by content, as any Path. Elsewhere it is just a path.

    >>> import upturn as up
    >>> up.File("data") / "prices.parquet"
    PosixPath('data/prices.parquet')
    """

    def __new__(cls, *parts: Any) -> "File":
        """Make the path, and note it."""
        made = super().__new__(cls, *parts)
        note_read(str(Path(*parts)))
        return made

    # What is derived from it was not named: a plain path.

    def with_segments(self, *parts: Any) -> Any:
        """Make a path of parts, from Python 3.12 on."""
        return Path(*parts)

    @classmethod
    def _from_parsed_parts(cls, drv: str, root: str, parts: list[str]) -> Any:
        return Path(drv + root, *parts[bool(root) :])
