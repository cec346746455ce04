"""Points: how a metric's points lie in a store: in batches as they come, then in packs by series.

A batch has the points of one call, of any of a run's series, a row of 32 bytes each: appending it
touches one page, however many metrics there are. When a run has many of them they are packed: in
order, without repetitions, by columns, a few bytes each.
"""

import sqlite3
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from upturn.core.tracking import Point

UNCOUNTED = -1  # in the place of a count, while points that came out of order are not packed
ROW = struct.Struct("<qqqd")  # series, step, at, value
_PER_PACK = 65_536
_LOOSE = 8_192  # points of a run that are left in batches at least
_LOOSE_EACH = 256  # for each of its series
_BATCHES = 2_048  # of a run, before they are made one
_SMALL = 4_096  # points of a pack that is still added to


class Columns(NamedTuple):
    """Points as columns: int64 steps and instants, float64 values, in order, each point once."""

    steps: Any
    at: Any
    values: Any


def add_batch(connection: sqlite3.Connection, run: str, count: int, body: bytes) -> None:
    """Add the points of one call; packs what the run has when that is much."""
    number, until = connection.execute(
        "SELECT number, until FROM point_batch WHERE run = ? ORDER BY number DESC LIMIT 1", (run,)
    ).fetchone() or (0, 0)
    number, until = number + 1, until + count
    connection.execute("INSERT INTO point_batch VALUES (?, ?, ?, ?)", (run, number, until, body))
    if until >= _LOOSE and _has_at_most(connection, run, until // _LOOSE_EACH):
        _pack(connection, run)
    elif number >= _BATCHES:
        body = _bodies(connection, run)
        connection.execute("DELETE FROM point_batch WHERE run = ?", (run,))
        connection.execute("INSERT INTO point_batch VALUES (?, 1, ?, ?)", (run, until, body))


def read_all(connection: sqlite3.Connection, run: str, series: Iterable[int]) -> Columns:
    """The points of series together, in order."""
    loose = _loose(connection, run)
    parts = [_read(connection, one, loose) for one in series]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _no_points()
    return _sorted(_joined(parts))  # several tasks may have logged the same


def read_some(
    connection: sqlite3.Connection, run: str, series: list[int], *, after: int, limit: int | None
) -> Columns:
    """As read_all, `limit` points from the `after`-th on; without reading packs that have none."""
    loose = _loose(connection, run)
    if len(series) == 1:
        skipped, beyond = _packs_before(connection, series[0], after, loose)
        most = None
        if limit is not None:
            reach, most = _packs_before(connection, series[0], after + limit, loose, whole=False)
            most = most - beyond if reach >= after + limit else None
        columns = _read(connection, series[0], loose, beyond=beyond, most=most)
        return _slice(columns, after - skipped, limit)
    return _slice(read_all(connection, run, series), after, limit)


def count_of(connection: sqlite3.Connection, run: str, series: int) -> int:
    """How many points a series has, each counted once, by reading those that may be there twice."""
    loose = _loose(connection, run)
    points, packs = _packs_before(connection, series, None, loose)
    return points + len(_read(connection, series, loose, beyond=packs).steps)


def as_points(name: str, columns: Columns) -> list[Point]:
    """Columns as points of a metric."""
    steps, at, values = (column.tolist() for column in columns)
    return [
        Point(name, value, step, when) for value, step, when in zip(values, steps, at, strict=True)
    ]


def _slice(columns: Columns, after: int, limit: int | None) -> Columns:
    end = None if limit is None else after + limit
    return Columns(*(column[after:end] for column in columns))


def _has_at_most(connection: sqlite3.Connection, run: str, most: int) -> bool:
    """Whether a run has no more series, without counting all that it has."""
    sql = "SELECT 1 FROM series WHERE run = ? LIMIT 1 OFFSET ?"
    return connection.execute(sql, (run, most)).fetchone() is None


def _bodies(connection: sqlite3.Connection, run: str) -> bytes:
    sql = "SELECT body FROM point_batch WHERE run = ? ORDER BY number"
    return b"".join([body for (body,) in connection.execute(sql, (run,))])


def _loose(connection: sqlite3.Connection, run: str) -> Any:
    import numpy as np

    row = np.dtype([("series", "<i8"), ("step", "<i8"), ("at", "<i8"), ("value", "<f8")])
    return np.frombuffer(_bodies(connection, run), row)


def _own(loose: Any, series: int) -> Columns:
    """The loose points of one series."""
    rows = loose[loose["series"] == series]
    return _in_order(Columns(rows["step"].copy(), rows["at"].copy(), rows["value"].copy()))


def _read(
    connection: sqlite3.Connection,
    series: int,
    loose: Any,
    *,
    beyond: int = 0,
    most: int | None = None,
) -> Columns:
    """The points of a series, of the packs from the `beyond`-th on.

    With `most`, of that many packs only; all loose points come after these.
    """
    sql = "SELECT count, body FROM point_pack WHERE series = ? ORDER BY first_step, first_at, id"
    sql += f" LIMIT {-1 if most is None else most} OFFSET {beyond}"
    packs = [_unpacked(count, body) for count, body in connection.execute(sql, (series,))]
    if most is not None:
        return _joined(packs) if packs else _no_points()
    own = _own(loose, series)
    if not packs:
        return own
    joined = _joined([*packs, own])
    if len(own.steps) and (own.steps[0], own.at[0]) <= (packs[-1].steps[-1], packs[-1].at[-1]):
        return _in_order(joined)
    return joined


def _packs_before(
    connection: sqlite3.Connection,
    series: int,
    after: int | None,
    loose: Any,
    *,
    whole: bool = True,
) -> tuple[int, int]:
    """How many points come in packs before the `after`-th, and in how many packs.

    They come before all loose ones, too. Not `whole`: with the pack that has the `after`-th.
    """
    sql = "SELECT count, last_step, last_at FROM point_pack WHERE series = ? "
    packs = connection.execute(sql + "ORDER BY first_step, first_at, id", (series,)).fetchall()
    own = _own(loose, series)
    first = (int(own.steps[0]), int(own.at[0])) if len(own.steps) else None
    points = number = 0
    for count, step, at in packs:
        beyond = after is not None and (points + count > after if whole else points >= after)
        if beyond or (first is not None and first <= (step, at)):
            break
        points, number = points + count, number + 1
    return points, number


def _no_points() -> Columns:
    import numpy as np

    return Columns(np.empty(0, "i8"), np.empty(0, "i8"), np.empty(0, "f8"))


def _joined(parts: list[Columns]) -> Columns:
    import numpy as np

    return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _in_order(columns: Columns) -> Columns:
    """The columns by (step, at, value), NaN last, without what is the same in all of them."""
    import numpy as np

    steps, at, values = columns
    if len(steps) < 2:
        return columns
    ahead = (steps[1:] > steps[:-1]) | ((steps[1:] == steps[:-1]) & (at[1:] > at[:-1]))
    if ahead.all():
        return columns
    steps, at, values = _sorted(columns)
    nan = np.isnan(values)
    same = (steps[1:] == steps[:-1]) & (at[1:] == at[:-1])
    same &= (values[1:] == values[:-1]) | (nan[1:] & nan[:-1])
    if not same.any():
        return Columns(steps, at, values)
    kept = np.concatenate(([True], ~same))
    return Columns(steps[kept], at[kept], values[kept])


def _sorted(columns: Columns) -> Columns:
    import numpy as np

    order = np.lexsort((columns.values, columns.at, columns.steps))
    return Columns(*(column[order] for column in columns))


# Packs


def _pack(connection: sqlite3.Connection, run: str) -> None:
    """Move all loose points of a run into packs of their series."""
    import numpy as np

    rows = _loose(connection, run)
    rows = rows[np.argsort(rows["series"], kind="stable")]
    starts = np.flatnonzero(np.diff(rows["series"], prepend=-1))
    for part in np.split(rows, starts[1:]):
        columns = Columns(part["step"].copy(), part["at"].copy(), part["value"].copy())
        _add_packed(connection, int(part["series"][0]), _in_order(columns))
    connection.execute("DELETE FROM point_batch WHERE run = ?", (run,))


def _add_packed(connection: sqlite3.Connection, series: int, columns: Columns) -> None:
    """Add points to the packs of a series; those packs that they fall into are made anew."""
    first = (int(columns.steps[0]), int(columns.at[0]))
    sql = (
        "SELECT id, count, body FROM point_pack WHERE series = ?1 "
        "AND ((last_step, last_at) >= (?2, ?3) OR (count < ?4 AND id = "
        "(SELECT id FROM point_pack WHERE series = ?1 "
        "ORDER BY first_step DESC, first_at DESC, id DESC LIMIT 1))) "
        "ORDER BY first_step, first_at, id"
    )
    within = connection.execute(sql, (series, *first, _SMALL)).fetchall()
    if within:
        packs = [_unpacked(count, body) for _, count, body in within]
        columns = _in_order(_joined([*packs, columns]))
        connection.executemany("DELETE FROM point_pack WHERE id = ?", [(one[0],) for one in within])
    for start in range(0, len(columns.steps), _PER_PACK):
        part = _slice(columns, start, _PER_PACK)
        ends = [int(column[end]) for end in (0, -1) for column in part[:2]]
        connection.execute(
            "INSERT INTO point_pack (series, count, first_step, first_at, last_step, last_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (series, len(part.steps), *ends, _packed(part)),
        )
    connection.execute(
        "UPDATE series SET count = (SELECT sum(count) FROM point_pack WHERE series = ?1) "
        "WHERE id = ?1",
        (series,),
    )


def _packed(columns: Columns) -> bytes:
    import numpy as np

    # Differences are small, and bytes of the same rank are alike: that is what zlib is good at.
    steps = np.diff(columns.steps, prepend=columns.steps.dtype.type(0))
    at = np.diff(columns.at, prepend=columns.at.dtype.type(0))
    values = columns.values.astype("<f8")
    parts = [steps.astype("<i8"), at.astype("<i8"), values]
    ranked = [part.view("u1").reshape(-1, 8).T.tobytes() for part in parts]
    return zlib.compress(b"".join(ranked), 1)


def _unpacked(count: int, body: bytes) -> Columns:
    import numpy as np

    ranks = np.frombuffer(zlib.decompress(body), "u1").reshape(3, 8, count)
    steps, at, values = (np.ascontiguousarray(part.T).view("<i8").reshape(-1) for part in ranks)
    return Columns(np.cumsum(steps), np.cumsum(at), values.view("<f8"))
