"""Metrics: points of runs as Parquet parts of a bounded size, and into a store that lacks them."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from upturn.core.tracking import Point, TrackingStore
from upturn.develop.transfer.archive import damaged

ROWS = 250_000  # in a part
_AT_ONCE = 50_000  # points that are read together
_LOGGED = 20_000  # points in a transaction
_COLUMNS = ("run", "name", "scope", "step", "at", "value")
_MOST_ROWS = 1_000_000  # of a part that is read
_TYPES = {"step": "int64", "at": "int64", "value": "double"}

Key = tuple[str, str, str]  # whose, which metric, and which task's: run, name, scope


def parts_of(tracking: TrackingStore, owners: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The points of runs (and logged models) as Parquet buffers, each with its number of rows."""
    held = _Held()
    for owner in owners:
        for series in tracking.series([owner])[owner]:
            after = 0
            while points := tracking.history(
                owner, series.name, scope=series.scope, limit=_AT_ONCE, after=after
            ):
                after += len(points)
                held.add((owner, series.name, series.scope), points)
                if held.rows >= ROWS:
                    yield held.taken()
                if len(points) < _AT_ONCE:
                    break
    if held.rows:
        yield held.taken()


class _Held:
    """Points that wait to be a part."""

    def __init__(self) -> None:
        self.rows = 0
        self._tables: list[Any] = []

    def add(self, key: Key, points: Sequence[Point]) -> None:
        import pyarrow as pa

        count = len(points)
        same = [
            pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
            for text in key
        ]
        steps = pa.array([point.step for point in points], pa.int64())
        at = pa.array([point.at for point in points], pa.int64())
        numbers = pa.array([point.value for point in points], pa.float64(), from_pandas=False)
        self._tables.append(pa.table([*same, steps, at, numbers], names=list(_COLUMNS)))
        self.rows += count

    def taken(self) -> tuple[int, Any]:
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.concat_tables(self._tables).unify_dictionaries()
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd", store_schema=False)
        rows, self.rows, self._tables = self.rows, 0, []
        return rows, sink.getvalue()


class Part:
    """A part that was read: whose points it has, and the points of each metric in turn.

    Raises Corrupt when it is none.
    """

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(
                pa.BufferReader(data), read_dictionary=["run", "name", "scope"]
            )
            self.rows: int = file.metadata.num_rows
            if not 0 < self.rows <= _MOST_ROWS:
                raise damaged(f"a part has {self.rows:,} points")
            if tuple(file.schema_arrow.names) != _COLUMNS:
                raise damaged("a part has other columns than points have")
            table = file.read().unify_dictionaries().combine_chunks()
            self._texts = [_texts(table, name) for name in _COLUMNS[:3]]
            self._numbers = [_numbers(table, name) for name in _COLUMNS[3:]]
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise damaged(f"points can't be read ({str(error)[:200]})") from None

    @property
    def owners(self) -> set[str]:
        """Whose points there are."""
        codes, texts = self._texts[0]
        return {texts[code] for code in set(codes.tolist())}

    def metrics(self) -> Iterator[tuple[Key, list[Point]]]:
        """The points, those of one metric together, in the part's order."""
        import numpy as np

        changes = np.zeros(self.rows, bool)
        for codes, _ in self._texts:
            changes[1:] |= codes[1:] != codes[:-1]
        starts = [0, *np.flatnonzero(changes).tolist(), self.rows]
        for begin, end in pairwise(starts):
            run, name, scope = (texts[codes[begin]] for codes, texts in self._texts)
            columns = [numbers[begin:end].tolist() for numbers in self._numbers]
            points = [
                Point(name, value, step, at) for step, at, value in zip(*columns, strict=True)
            ]
            yield (run, name, scope), points


def _numbers(table: Any, name: str) -> Any:
    """A column of numbers. Raises Corrupt when it is of another type."""
    column = table.column(name)
    if column.null_count or str(column.type) != _TYPES[name]:
        raise damaged(f"the {name} of a point is missing, or no {_TYPES[name]}")
    return column.to_numpy()


def _texts(table: Any, name: str) -> tuple[Any, list[str]]:
    """A column of texts as codes, and the texts that they stand for."""
    import pyarrow as pa

    column = table.column(name)
    if column.null_count or not pa.types.is_dictionary(column.type):
        raise damaged(f"the {name} of a point is missing, or no text")
    chunk = pa.concat_arrays(column.chunks)
    texts = chunk.dictionary.to_pylist()
    if not all(isinstance(text, str) for text in texts):
        raise damaged(f"the {name} of a point is no text")
    return chunk.indices.to_numpy(zero_copy_only=False), texts


class Merger:
    """Logs the points that a store lacks, whatever it has of them: give it a metric's in order."""

    def __init__(self, tracking: TrackingStore) -> None:
        self._tracking = tracking
        self._key: Key | None = None
        self._there: Iterator[Point] = iter(())
        self._next: Point | None = None
        self.logged = 0

    def add(self, key: Key, points: Sequence[Point]) -> None:
        """Log those of the points that are not there."""
        if key != self._key:
            self._key = key
            self._there = self._stored(key)
            self._next = next(self._there, None)
        missing = [point for point in points if not self._has(point)]
        for begin in range(0, len(missing), _LOGGED):
            part = missing[begin : begin + _LOGGED]
            self._tracking.log(key[0], points=part, scope=key[2])
            self.logged += len(part)

    def _has(self, point: Point) -> bool:
        wanted = _rank(point)
        while self._next is not None and _rank(self._next) < wanted:
            self._next = next(self._there, None)
        return self._next is not None and _rank(self._next) == wanted

    def _stored(self, key: Key) -> Iterator[Point]:
        """What is there now: what is logged meanwhile is behind what was read, or the same."""
        count = sum(
            one.count
            for one in self._tracking.series([key[0]])[key[0]]
            if (one.name, one.scope) == key[1:]
        )
        after = 0
        while after < count:
            points = self._tracking.history(
                key[0], key[1], scope=key[2], limit=min(_AT_ONCE, count - after), after=after
            )
            if not points:
                return
            yield from points
            after += len(points)


def _rank(point: Point) -> tuple[int, int, bool, float]:
    """By what a metric's points are in order: NaN is the last of its step and instant."""
    nan = math.isnan(point.value)
    return point.step, point.at, nan, 0.0 if nan else point.value
