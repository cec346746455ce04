"""Segments: the Log on disk, as Parquet files and as journals that are to become such files.

Of one kind of rows there are, in an endpoint's directory: journals; `KIND-….parquet`, each the rows
of the journal whose name it has; and `KIND/day=…/KIND-….parquet`, which hold the rows of several
such files and name these in their footers. A row is in force once: a file whose name is in the
footer of another counts no more, nor does a journal when there is a file of its name. Each change
is one rename, so whoever is killed at whatever moment leaves every row in force once.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from upturn.stores import journal
from upturn.stores.journal import SUFFIX, Kind

if TYPE_CHECKING:
    import pyarrow as pa

REPLACES = b"upturn.replaces"  # in a footer: the names of what the file holds the rows of
_LOOKS = 10  # at a directory in which files are replaced faster than they are looked at


@dataclass(frozen=True, slots=True)
class Segments:
    """One kind of the Log's rows: sealed files, oldest first, and a table of all others.

    A feature that no row of the tail has is no column of it; the same goes for each file. A file
    may be replaced by a larger one at any time: who finds it gone asks for the segments again.
    """

    parquet: list[Path]
    tail: "pa.Table"


def segments(directory: Path, kind: Kind) -> Segments:
    """What there is of "predictions", "feedback" or "gaps" in a directory, each row once.

    Safe while others write, seal and compact. A last frame that is torn is left out.
    """
    from upturn.stores.log_tables import table

    # Journals first: one that is sealed after it was read is then seen to have its Parquet file.
    found: dict[str, bytes] = {}
    for path in _files(directory, kind, SUFFIX):
        with contextlib.suppress(FileNotFoundError):  # sealed meanwhile
            found[path.stem] = path.read_bytes()
    parquet, replaced = sealed_files(directory, kind)
    gone = {path.stem for path in parquet} | replaced
    frames = (
        journal.read(data, kind)
        for stem, data in found.items()
        if stem not in gone and journal.is_readable(data)
    )
    return Segments(parquet=parquet, tail=table(itertools.chain.from_iterable(frames), kind))


def sealed_files(directory: Path, kind: Kind) -> tuple[list[Path], set[str]]:
    """The Parquet files in force, oldest first, and the names of what they have replaced."""
    for _ in range(_LOOKS):
        # Single files first: one that is gone by then is seen to be in a larger one.
        single = _files(directory, kind, ".parquet")
        merged = merged_files(directory, kind)
        try:
            replaced = set(itertools.chain.from_iterable(map(replaces, merged)))
        except FileNotFoundError:
            continue
        return [path for path in (*merged, *single) if path.stem not in replaced], replaced
    raise FileNotFoundError(f"The files in {directory} change faster than they can be read.")


def merged_files(directory: Path, kind: Kind) -> list[Path]:
    """The files that hold the rows of several others, by day, those no longer in force too."""
    root = directory / kind
    days = sorted(name for name in _names(root) if name.startswith("day="))
    return [path for day in days for path in _files(root / day, kind, ".parquet")]


@lru_cache(maxsize=4096)
def replaces(path: Path) -> frozenset[str]:
    """The names of what this file holds the rows of. Raises FileNotFoundError."""
    import pyarrow.parquet as pq

    metadata: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
    return frozenset(metadata.get(REPLACES, b"").decode().split())


def seal(directory: Path) -> int:
    """Turn the journals whose writers are gone into Parquet files; returns how many it turned.

    Does nothing the second time. Killed at any moment it leaves each row readable once.
    """
    return sum(
        seal_journal(path) for kind in journal.KINDS for path in _files(directory, kind, SUFFIX)
    )


def seal_journal(path: Path) -> bool:
    """Seal one journal, unless its writer lives or it holds nothing; returns whether it did."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not journal.lock(file) or not journal.is_at(file, path):
            return False
        data = path.read_bytes()
        if not journal.is_readable(data):
            return False  # another version's: it is not for this one to remove
        made = not path.with_suffix(".parquet").exists() and _seal(path, data)
        path.unlink()
        return made
    finally:
        os.close(file)


def is_waiting(directory: Path) -> bool:
    """Whether there is a journal to seal."""
    for kind in journal.KINDS:
        for path in _files(directory, kind, SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY)
                try:
                    if journal.lock(file):
                        return True
                finally:
                    os.close(file)
    return False


def kind_of(path: Path) -> Kind:
    """Which rows a file of the Log holds."""
    return next(kind for kind in journal.KINDS if path.name.startswith(f"{kind}-"))


def _seal(path: Path, data: bytes) -> bool:
    from upturn.stores.log_tables import table

    kind = kind_of(path)
    rows = _sorted(table(journal.read(data, kind), kind), kind)
    if rows.num_rows:
        write_parquet(path.with_suffix(".parquet"), [rows], rows.schema)
    return bool(rows.num_rows)


def write_parquet(path: Path, tables: "Iterable[pa.Table]", schema: "pa.Schema") -> None:
    """Write the tables as one file, whole or not at all; each is a row group of it."""
    import pyarrow.parquet as pq

    fresh = path.with_name(f".{path.stem}.tmp")  # ours alone: we hold a lock
    with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    _sync(fresh)
    fresh.rename(path)
    _sync(path.parent)


def _sorted(table: "pa.Table", kind: Kind) -> "pa.Table":
    """By the time that rows are asked for, so that a reader can skip what it does not need."""
    import numpy as np

    from upturn.stores.log_tables import TIMES

    times = table[TIMES[kind][0]].to_numpy()
    if len(times) < 2 or bool(np.all(times[1:] >= times[:-1])):
        return table
    return table.take(np.argsort(times, kind="stable"))


def _files(directory: Path, kind: Kind, suffix: str) -> list[Path]:
    return [
        directory / name
        for name in sorted(_names(directory))
        if name.startswith(f"{kind}-") and name.endswith(suffix)
    ]


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
