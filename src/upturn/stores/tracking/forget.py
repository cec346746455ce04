"""Forget: deletes for good what removed runs said, a little in each transaction.

The first transaction takes a run out of what is found, and notes that it is to go: it can't be
restored from then on, and whoever comes next deletes what a killed process left.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable

import msgspec

_AT_ONCE = 1_000  # rows
_PACKS = 8  # of some 100 kB each
_SERIES = 200
LONGEST_S = 0.05  # of a transaction, so that no other writer waits


def begin(connection: sqlite3.Connection, runs: Iterable[str], removed_before: int) -> None:
    """Note those of the runs that were removed before the instant, and find them no more."""
    among = msgspec.json.encode(list(runs)).decode()
    which = "run IN (SELECT value FROM json_each(?)) AND removed_at < ?"
    connection.execute(
        f"INSERT OR IGNORE INTO forgetting SELECT run FROM run_now WHERE {which}",
        (among, removed_before),
    )
    connection.execute(f"DELETE FROM run_now WHERE {which}", (among, removed_before))


def begun(connection: sqlite3.Connection) -> list[str]:
    """The runs that are to go, and that something may be left of."""
    return [run for (run,) in connection.execute("SELECT run FROM forgetting ORDER BY run")]


def go_on(connection: sqlite3.Connection) -> bool:
    """Delete something of what is left; whether there may be more."""
    until = time.monotonic() + LONGEST_S
    while found := connection.execute("SELECT run FROM forgetting LIMIT 1").fetchone():
        for delete in _DELETES:
            while delete(connection, found[0]):
                if time.monotonic() > until:
                    return True
        connection.execute("DELETE FROM forgetting WHERE run = ?", found)
        if time.monotonic() > until:
            return True
    return False


def _points(connection: sqlite3.Connection, run: str) -> bool:
    sql = "SELECT rowid FROM point_batch WHERE run = ? LIMIT ?"
    sql = f"DELETE FROM point_batch WHERE rowid IN ({sql})"
    return connection.execute(sql, (run, _AT_ONCE)).rowcount > 0


def _series(connection: sqlite3.Connection, run: str) -> bool:
    """Some series, once their packs are gone."""
    some = connection.execute("SELECT id FROM series WHERE run = ? LIMIT ?", (run, _SERIES))
    ids = msgspec.json.encode([row[0] for row in some]).decode()
    among = "IN (SELECT value FROM json_each(?))"
    packs = f"SELECT id FROM point_pack WHERE series {among} LIMIT ?"
    sql = f"DELETE FROM point_pack WHERE id IN ({packs})"
    if connection.execute(sql, (ids, _PACKS)).rowcount:
        return True
    return connection.execute(f"DELETE FROM series WHERE id {among}", (ids,)).rowcount > 0


def _named(table: str, owner: str, name: str, prefix: str = "") -> Callable[..., bool]:
    some = f"SELECT {name} FROM {table} WHERE {owner} = ?1 LIMIT {_AT_ONCE}"
    sql = f"DELETE FROM {table} WHERE {owner} = ?1 AND {name} IN ({some})"

    def delete(connection: sqlite3.Connection, run: str) -> bool:
        return connection.execute(sql, (prefix + run,)).rowcount > 0

    return delete


_DELETES: tuple[Callable[[sqlite3.Connection, str], bool], ...] = (
    _points,
    _series,
    _named("param", "run", "name"),
    _named("tag", "path", "name", "run/"),
    _named("run_file", "run", "path"),
    _named("description", "path", "seq", "run/"),
)
