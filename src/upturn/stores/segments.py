"""Segments: the Log on disk, as Parquet files and as journals that are to become such files."""

import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upturn.stores import journal
from upturn.stores.journal import SUFFIX, Kind

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Segments:
    """One kind of the Log's rows: sealed files, oldest first, and a table of all others.

    A feature that no row of the tail has is no column of it; the same goes for each file.
    """

    parquet: list[Path]
    tail: "pa.Table"


def segments(directory: Path, kind: Kind) -> Segments:
    """What there is of "predictions" or "feedback" in an endpoint's directory, each row once.

    Safe while others write and seal. A last frame that is torn is left out.
    """
    from upturn.stores.log_tables import table

    # Journals first: one that is sealed after it was read is then seen to have its Parquet file.
    found: dict[str, bytes] = {}
    for path in _files(directory, kind, SUFFIX):
        with contextlib.suppress(FileNotFoundError):  # sealed meanwhile
            found[path.stem] = path.read_bytes()
    parquet = _files(directory, kind, ".parquet")
    sealed = {path.stem for path in parquet}
    frames = (journal.read(data, kind) for stem, data in found.items() if stem not in sealed)
    return Segments(parquet=parquet, tail=table(itertools.chain.from_iterable(frames), kind))


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
        made = not path.with_suffix(".parquet").exists() and _write_parquet(path)
        path.unlink()
        return made
    finally:
        os.close(file)


def _write_parquet(path: Path) -> bool:
    import pyarrow.parquet as pq

    from upturn.stores.log_tables import table

    kind: Kind = "predictions" if path.name.startswith("predictions") else "feedback"
    rows = _sorted(table(journal.read(path.read_bytes(), kind), kind), kind)
    if not rows.num_rows:
        return False
    fresh = path.with_name(f".{path.stem}.tmp")  # ours alone: we hold the journal's lock
    pq.write_table(rows, fresh, compression="zstd")
    _sync(fresh)
    fresh.rename(path.with_suffix(".parquet"))
    _sync(path.parent)
    return True


def _sorted(table: "pa.Table", kind: Kind) -> "pa.Table":
    """By the time that rows are asked for, so that a reader can skip what it does not need."""
    import numpy as np

    from upturn.stores.log_tables import TIMES

    times = table[TIMES[kind][0]].to_numpy()
    if len(times) < 2 or bool(np.all(times[1:] >= times[:-1])):
        return table
    return table.take(np.argsort(times, kind="stable"))


def _files(directory: Path, kind: Kind, suffix: str) -> list[Path]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [
        directory / name for name in names if name.startswith(f"{kind}-") and name.endswith(suffix)
    ]


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
