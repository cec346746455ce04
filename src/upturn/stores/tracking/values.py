"""Values: writing what a run logs in one transaction: points and their sums, parameters, tags."""

import math
import sqlite3
import struct
from collections.abc import Mapping, Sequence

from upturn.core.errors import Conflict, Invalid
from upturn.core.tracking import Point
from upturn.stores.projection import number_of
from upturn.stores.tracking.points import ROW, UNCOUNTED, add_batch

_Rank = tuple[int, int, bool, float]  # by which a series' last point is the greatest


class Sum:
    """What is known of points of one metric without keeping them.

    `once` says that they came in order, so that none is there twice: else they are not counted
    until somebody asks (points.count_of).
    """

    __slots__ = ("count", "first", "high", "low", "once", "rank")

    def __init__(self, count: int, low: float, high: float, rank: _Rank) -> None:
        self.count = count
        self.low = low  # inf and -inf when there was only NaN
        self.high = high
        self.first = rank
        self.rank = rank
        self.once = True

    def after(self, count: int, low: float, high: float, rank: _Rank) -> None:
        """Add those that came before."""
        if count < 0 or self.first <= rank:
            self.once = False
        self.count += count
        self.rank = max(self.rank, rank)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def row(self) -> tuple[float | None, int, int, float | None, float | None, int]:
        """As the columns last, step, at, low, high, count."""
        step, at, nan, last = self.rank
        low, high = (self.low, self.high) if self.low <= self.high else (None, None)
        count = self.count if self.once else UNCOUNTED
        return None if nan else last, step, at, low, high, count


def sums_of(points: Sequence[Point]) -> dict[str, Sum]:
    """The sums of points by name."""
    sums: dict[str, Sum] = {}
    for point in points:
        value, known = point.value, sums.get(point.name)
        nan = value != value
        rank = (point.step, point.at, nan, 0.0 if nan else value)
        if known is None:
            low, high = (math.inf, -math.inf) if nan else (value, value)
            sums[point.name] = Sum(1, low, high, rank)
            continue
        known.count += 1
        if rank > known.rank:
            known.rank = rank
        else:
            known.once = False
        # NaN is neither; and min() and max() take twice as long as this does.
        if value < known.low:  # noqa: PLR1730
            known.low = value
        if value > known.high:  # noqa: PLR1730
            known.high = value
    return sums


def put_points(
    connection: sqlite3.Connection, run: str, scope: str, points: Sequence[Point]
) -> None:
    """Add points of a run, and what they come to to its series."""
    sums = sums_of(points)
    ids: dict[str, int] = {}
    changed: list[tuple[object, ...]] = []
    find = (
        "SELECT id, last, step, at, low, high, count FROM series "
        "WHERE run = ? AND name = ? AND scope = ?"
    )
    for name, own in sums.items():
        found = connection.execute(find, (run, name, scope)).fetchone()
        if found is None:
            ids[name] = _new_series(connection, (run, name, scope, *own.row()))
            continue
        ids[name], last, step, at, low, high, count = found
        rank = (step, at, last is None, last or 0.0)
        least = math.inf if low is None else low
        greatest = -math.inf if high is None else high
        own.after(count, least, greatest, rank)
        changed.append((*own.row(), ids[name]))
    connection.executemany(
        "UPDATE series SET last = ?, step = ?, at = ?, low = ?, high = ?, count = ? WHERE id = ?",
        changed,
    )
    pack = ROW.pack
    try:
        rows = [pack(ids[one.name], one.step, one.at, one.value) for one in points]
    except (struct.error, OverflowError):
        raise Invalid("A point's step and instant are whole numbers of 64 bits.") from None
    add_batch(connection, run, len(rows), b"".join(rows))


def _new_series(connection: sqlite3.Connection, row: tuple[object, ...]) -> int:
    added = connection.execute(
        "INSERT INTO series (run, name, scope, last, step, at, low, high, count) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,  # pyright: ignore[reportArgumentType]
    )
    assert added.lastrowid is not None
    return added.lastrowid


def put_params(connection: sqlite3.Connection, run: str, params: Mapping[str, str]) -> None:
    """Add parameters of a run. Raises Conflict when one has another value already."""
    new: list[tuple[object, ...]] = []
    for name, value in params.items():
        found = connection.execute(
            "SELECT value FROM param WHERE run = ? AND name = ?", (run, name)
        ).fetchone()
        if found is None:
            new.append((run, name, value, number_of(value)))
        elif found[0] != value:
            raise Conflict(
                f"The parameter {name!r} of run {run} is {found[0]!r}, and can't become {value!r}.",
                hint="Parameters never change: log it under another name, or set a tag.",
                run=run,
                name=name,
                old=found[0],
                new=value,
            )
    connection.executemany("INSERT INTO param (run, name, value, number) VALUES (?, ?, ?, ?)", new)


def put_tags(connection: sqlite3.Connection, path: str, tags: Mapping[str, str | None]) -> None:
    """Set tags of a thing; None removes one."""
    gone = [(path, name) for name, value in tags.items() if value is None]
    rows = [
        (path, name, value, number_of(value)) for name, value in tags.items() if value is not None
    ]
    connection.executemany("DELETE FROM tag WHERE path = ? AND name = ?", gone)
    connection.executemany(
        "INSERT INTO tag (path, name, value, number) VALUES (?1, ?2, ?3, ?4) "
        "ON CONFLICT (path, name) DO UPDATE SET value = ?3, number = ?4",
        rows,
    )
