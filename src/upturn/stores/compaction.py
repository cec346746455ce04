"""Compaction: many small Parquet files of the Log become a few large ones a day; old ones go.

A larger file names in its footer what it has taken in, and is in force in its place from the rename
that makes it: see segments. What it replaced stays for a while, for those who read it just then.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from upturn.core.time import micros
from upturn.stores.journal import KINDS, SUFFIX, Kind
from upturn.stores.log_tables import TIMES
from upturn.stores.segments import (
    REPLACES,
    kind_of,
    merged_files,
    replaces,
    seal,
    sealed_files,
    write_parquet,
)

_TOGETHER = 8  # files of a size that are made one while their day goes on
_TIERS = (100_000, 1_000_000)  # rows; a file beyond the last is never touched again
_ROWS_A_GROUP = 131_072
_ROWS_AT_ONCE = 32_768
# A row that a reader found in a journal may meanwhile be in a file that replaced the journal's own:
# a larger file says for so long what the files that it replaced had replaced.
_REMEMBERED = timedelta(hours=1)
_LOCK = ".housekeeping"


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was done to the files of one endpoint's Log."""

    sealed: int = 0  # journals
    merged: int = 0  # files, into
    into: int = 0
    removed: int = 0  # files that were too old
    removed_rows: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    """A sealed file, as its footer describes it."""

    path: Path
    rows: int
    first: int  # least time of what it is in order of, in microseconds
    newest: int  # greatest time at which a row came in
    schema: pa.Schema

    @property
    def day(self) -> str:
        return f"{datetime.fromtimestamp(self.newest / 1e6, UTC):%Y-%m-%d}"

    @property
    def tier(self) -> int:
        return sum(self.rows >= least for least in _TIERS)


def tidy(
    directory: Path,
    *,
    now: datetime,
    keep: timedelta | None = None,
    grace: timedelta = timedelta(minutes=1),
) -> Tidied:
    """Seal an endpoint's closed journals, make larger files of small ones, remove too old ones.

    A file is too old when the last of its rows came in longer than `keep` ago. What was replaced is
    removed once it has been so for `grace`. Does nothing while another process does it, and little
    the second time. Killed at any moment it leaves every row in force once.
    """
    with _alone(directory) as alone:
        if not alone:
            return Tidied()
        sealed = seal(directory)
        merged = into = removed = removed_rows = 0
        for kind in KINDS:
            _remove_replaced(directory, kind, before=now - grace)
            for some in _plan(_unsettled(directory, kind, now), now):
                _merge(directory / kind, some, now)
                merged, into = merged + len(some), into + 1
            _remove_replaced(directory, kind, before=now - grace)
            if keep is not None:
                old = _too_old(directory, kind, now - keep)
                _remove(directory, kind, old)
                removed, removed_rows = removed + len(old), removed_rows + sum(f.rows for f in old)
        return Tidied(sealed, merged, into, removed, removed_rows)


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[bool]:
    """Whether nobody else tidies this directory; nobody does while this lasts."""
    file = os.open(directory / _LOCK, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def _in_force(directory: Path, kind: Kind) -> list[Path]:
    """The sealed files, without those whose journal is still there: it would come back to life."""
    paths, _ = sealed_files(directory, kind)
    return [path for path in paths if not path.with_suffix(SUFFIX).exists()]


def _unsettled(directory: Path, kind: Kind, now: datetime) -> list[_File]:
    """Those of which something may be made: not what is alone in the folder of a day before."""
    paths = _in_force(directory, kind)
    single = [_described(path) for path in paths if path.parent == directory]
    merged = [path for path in paths if path.parent != directory]
    crowded = Counter(path.parent.name for path in merged)
    crowded.update(f"day={file.day}" for file in single)
    today = f"day={now:%Y-%m-%d}"
    some = [p for p in merged if p.parent.name >= today or crowded[p.parent.name] > 1]
    return [*single, *map(_described, some)]


def _too_old(directory: Path, kind: Kind, since: datetime) -> list[_File]:
    paths = _in_force(directory, kind)
    last = f"day={since:%Y-%m-%d}"
    some = [path for path in paths if path.parent == directory or path.parent.name <= last]
    return [file for file in map(_described, some) if file.newest < micros(since)]


def _described(path: Path) -> _File:
    ordered, came = TIMES[kind_of(path)]
    with pq.ParquetFile(path) as file:
        return _File(
            path=path,
            rows=file.metadata.num_rows,
            first=_span(file, ordered)[0],
            newest=_span(file, came)[1],
            schema=file.schema_arrow.remove_metadata(),
        )


def _span(file: pq.ParquetFile, name: str) -> tuple[int, int]:
    """The least and the greatest time in a column, in microseconds."""
    place = file.schema_arrow.get_field_index(name)
    low, high = [], []
    for group in range(file.metadata.num_row_groups):
        found: Any = file.metadata.row_group(group).column(place).statistics
        low.append(micros(found.min))
        high.append(micros(found.max))
    return min(low), max(high)


def _plan(files: Sequence[_File], now: datetime) -> list[list[_File]]:
    """Which files to make one of: of a day that is over all, else several of about a size."""
    groups: dict[tuple[str, int], list[_File]] = {}
    today = f"{now:%Y-%m-%d}"
    for file in files:
        if file.tier < len(_TIERS):
            groups.setdefault((file.day, file.tier if file.day >= today else 0), []).append(file)
    return [
        some
        for (day, _), found in sorted(groups.items())
        for some in _alike(found)
        if len(some) >= (_TOGETHER if day >= today else 2)
    ]


def _alike(files: Sequence[_File]) -> list[list[_File]]:
    """Files whose columns have the same types, up to the most rows of a file, in order of time."""
    groups: list[tuple[dict[str, pa.DataType], list[_File]]] = []
    for file in sorted(files, key=lambda one: (one.first, one.path.stem)):
        types = {f.name: f.type for f in file.schema if not pa.types.is_null(f.type)}
        for known, some in groups:
            fits = all(known.get(name, of_type) == of_type for name, of_type in types.items())
            if fits and sum(one.rows for one in some) < _TIERS[-1]:
                known |= types
                some.append(file)
                break
        else:
            groups.append((types, [file]))
    return [some for _, some in groups]


def _merge(root: Path, files: Sequence[_File], now: datetime) -> None:
    """Write the files' rows as one file, which is in force in their place from then on."""
    kind = kind_of(files[0].path)
    names = {file.path.stem for file in files}
    for file in files:
        names |= {name for name in replaces(file.path) if _is_recent(name, now)}
    schema = _common(files).with_metadata({REPLACES: "\n".join(sorted(names)).encode()})
    day = root / f"day={max(file.day for file in files)}"
    day.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}-{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{secrets.token_hex(4)}"
    write_parquet(day / f"{stem}.parquet", _groups(files, schema), schema)


def _is_recent(name: str, now: datetime) -> bool:
    return int(name.split("-")[1]) >= micros(now - _REMEMBERED) // 1000


def _common(files: Sequence[_File]) -> pa.Schema:
    """All columns of the files, in the order in which they are met."""
    found: dict[str, pa.DataType] = {}
    for file in files:
        for field in file.schema:
            if pa.types.is_null(found.get(field.name, pa.null())):
                found[field.name] = field.type
    return pa.schema(found)


def _groups(files: Sequence[_File], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in tables of a row group each; never more of them in memory than that."""
    waiting: list[pa.Table] = []
    rows = 0
    for file in files:
        with pq.ParquetFile(file.path) as source:
            for batch in source.iter_batches(_ROWS_AT_ONCE):
                waiting.append(_with_columns(pa.Table.from_batches([batch]), schema))
                rows += batch.num_rows
                if rows >= _ROWS_A_GROUP:
                    yield pa.concat_tables(waiting)
                    waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _remove_replaced(directory: Path, kind: Kind, *, before: datetime) -> None:
    """Remove what larger files have replaced, if these were there before that instant."""
    merged = {path.stem: path for path in merged_files(directory, kind)}
    for path in merged.values():
        if path.exists() and path.stat().st_mtime <= before.timestamp():
            _remove_what_is_in(path, directory, merged)
    for path in (directory / kind).glob("day=*/.*.tmp"):
        path.unlink()  # of somebody who was killed: we are alone here


def _remove(directory: Path, kind: Kind, files: Sequence[_File]) -> None:
    merged = {path.stem: path for path in merged_files(directory, kind)}
    for file in files:
        _remove_what_is_in(file.path, directory, merged)
        _unlink(file.path)


def _remove_what_is_in(path: Path, directory: Path, merged: Mapping[str, Path]) -> None:
    """Remove what a file has replaced: before the file itself, or it would be in force again."""
    for name in replaces(path) if path.stem in merged else ():
        replaced = merged.get(name, directory / f"{name}.parquet")
        if replaced.exists():
            _remove_what_is_in(replaced, directory, merged)
            _unlink(replaced)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.name.startswith("day="):
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # unless there is more in it
