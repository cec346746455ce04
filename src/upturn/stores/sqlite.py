"""SqliteMetaStore: records and leases in one SQLite file, shared by threads and processes."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.metastore import Lease
from upturn.core.records import KINDS, Artifact, Edge, Record
from upturn.stores.clock import boot, elapsed_s
from upturn.stores.connections import Connections, connections_to
from upturn.stores.once import keep_receipt, receipt
from upturn.stores.projection import projected
from upturn.stores.tables import ORDER, Table, bound, condition, numbered, sequence_number, table_of

R = TypeVar("R", bound=Record)
_SAME_IS_FINE = (Edge, Artifact)  # putting one again says nothing new
_KNOWN_KEYS = 2000  # how many keys are looked through for a hint


class SqliteMetaStore:
    """Records and leases in a SQLite file in WAL mode, made when it is missing.

    A write survives the death of the process when `put` returns (of the machine: after a
    checkpoint). Raises Unavailable when the disk is full or another process holds the store for
    over `busy_s` seconds, and Corrupt when the file is not a store.
    """

    def __init__(
        self,
        file: Path | str | Connections,
        *,
        busy_s: float = 10.0,
        clock: Callable[[], float] = elapsed_s,  # of the leases
    ) -> None:
        self._connections = connections_to(file, busy_s)
        self._clock = clock
        self._connections.stamp()  # whatever is wrong with the file is said now

    @property
    def path(self) -> Path:
        """The file."""
        return self._connections.path

    # Records

    def put(self, *records: Record, once: str | None = None) -> tuple[Record, ...]:
        """Write the records in one transaction; see MetaStore.put."""
        for record in records:
            table_of(type(record))

        def write(connection: sqlite3.Connection) -> tuple[Record, ...]:
            known = None if once is None else receipt(connection, once)
            if known is not None:
                return tuple(map(numbered, records, known))
            put = tuple([_insert(connection, record) for record in records])
            if once is not None:
                keep_receipt(connection, once, [sequence_number(record) for record in put])
            return put

        return self._connections.write(write)

    def add(self, record: R) -> R:
        """`put` for one record, returned with its own type."""
        return self._connections.write(lambda connection: _insert(connection, record))

    def find(self, kind: type[R], *key: object) -> R | None:
        """The record with that key, or the last of its sequence; None when there is none."""
        table = table_of(kind)
        names = kind.key if len(key) == len(kind.key) else table.scope
        if len(key) != len(names):
            raise Invalid(f"The key of a {kind.table} is {', '.join(kind.key)}, not {key!r}.")
        where = " AND ".join(f'"{name}" = ?' for name in names) or "1"
        order = f'ORDER BY "{kind.sequence}" DESC LIMIT 1' if kind.sequence else ""
        rows = self._read(
            f'SELECT body FROM "{kind.table}" WHERE {where} {order}', [bound(part) for part in key]
        )
        return table.decode(rows[0][0]) if rows else None

    def get(self, kind: type[R], *key: object) -> R:
        """As `find`, but raises NotFound, with the nearest existing key as a hint."""
        found = self.find(kind, *key)
        if found is None:
            noun = kind.table.replace("_", " ")
            raise NotFound(
                f"No {noun} {_label(kind, key)!r}.", hint=self._nearest(kind, key), kind=kind.table
            )
        return found

    def select(
        self,
        kind: type[R],
        *,
        newest_first: bool = False,
        limit: int | None = None,
        after: int | None = None,
        **where: object,
    ) -> list[R]:
        """Records that match, in the order in which they were put; see MetaStore.select."""
        table = table_of(kind)
        clause, parameters = condition(table, where)
        if after is not None:
            if kind.sequence is None:
                raise Invalid(f"A {kind.table} has no sequence number to come after.")
            clause += f' AND "{kind.sequence}" > ?'
            parameters.append(after)
        sql = f'SELECT body FROM "{kind.table}" WHERE {clause} ORDER BY {ORDER}'
        sql += " DESC" if newest_first else ""
        if limit is not None:
            sql += " LIMIT ?"
            parameters.append(limit)
        return [table.decode(row[0]) for row in self._read(sql, parameters)]

    def last_each(self, kind: type[R], **where: object) -> list[R]:
        """The last record of every sequence that matches, in the order of their keys.

        Sequences are chosen by the fields of their key; raises Invalid for any other field.
        """
        table = table_of(kind)
        if kind.sequence is None:
            raise Invalid(f"A {kind.table} has no sequence.")
        for name in where:
            if name not in table.scope:
                raise Invalid(
                    f"The last of each {kind.table} can't be chosen by {name!r}.",
                    hint=did_you_mean(name, table.scope),
                )
        clause, parameters = condition(table, where)
        scope = ", ".join(f'"{name}"' for name in table.scope) or "1"
        # With max(), SQLite takes the other columns from the row that has the maximum.
        sql = f'SELECT body, max("{kind.sequence}") FROM "{kind.table}" WHERE {clause} '
        sql += f"GROUP BY {scope} ORDER BY {scope}"
        return [table.decode(row[0]) for row in self._read(sql, parameters) if row[0] is not None]

    def read_on(self, kind: type[R], position: int, *, limit: int = 1000) -> list[tuple[int, R]]:
        """Records that were put after that position; see MetaStore.read_on."""
        table = table_of(kind)
        sql = f'SELECT {ORDER}, body FROM "{kind.table}" WHERE {ORDER} > ? ORDER BY {ORDER} LIMIT ?'
        return [(row[0], table.decode(row[1])) for row in self._read(sql, (position, limit))]

    def position(self, kind: type[Record]) -> int:
        """The position of the last record of the kind; see MetaStore.position."""
        table_of(kind)
        return self._read(f'SELECT coalesce(max({ORDER}), 0) FROM "{kind.table}"', ())[0][0]

    # Leases

    def claim(
        self, name: str, owner: str, *, ttl_s: float, payload: dict[str, Any] | None = None
    ) -> bool:
        """Take or renew a lease: True when `owner` holds it now. One claimant wins."""
        now = self._clock()
        sql = (
            "INSERT INTO lease (name, owner, boot, until, payload) VALUES (?1, ?2, ?3, ?4, ?5) "
            "ON CONFLICT (name) DO UPDATE SET owner = ?2, boot = ?3, until = ?4, payload = ?5 "
            "WHERE owner = ?2 OR boot <> ?3 OR until < ?6"
        )
        body = msgspec.json.encode(payload or {}).decode()
        values = (name, owner, boot(), now + ttl_s, body, now)
        return self._connections.write(
            lambda connection: connection.execute(sql, values).rowcount == 1
        )

    def release(self, name: str, owner: str) -> None:
        """Give a lease back, if `owner` holds it."""
        sql = "DELETE FROM lease WHERE name = ? AND owner = ?"
        self._connections.write(lambda connection: connection.execute(sql, (name, owner)))

    def lease(self, name: str) -> Lease | None:
        """Who holds that name now; None when nobody does."""
        return next(iter(self._leases(name, name)), None)

    def leases(self, prefix: str) -> list[Lease]:
        """Who holds the names that begin so, by name."""
        return self._leases(prefix, f"{prefix}\U0010ffff")

    def _leases(self, first: str, last: str) -> list[Lease]:
        now = self._clock()
        sql = "SELECT name, owner, until, payload FROM lease WHERE name BETWEEN ? AND ? "
        sql += "AND boot = ? AND until >= ? ORDER BY name"
        return [
            Lease(name=name, owner=owner, left_s=until - now, payload=msgspec.json.decode(payload))
            for name, owner, until, payload in self._read(sql, (first, last, boot(), now))
        ]

    # The store itself

    def stamp(self) -> int:
        """A number that differs after somebody, in any process, has written; takes microseconds."""
        return self._connections.stamp()

    def counts(self) -> dict[str, int]:
        """How many records each table holds."""
        parts = [f"SELECT '{kind.table}', count(*) FROM \"{kind.table}\"" for kind in KINDS]
        return dict(self._read(" UNION ALL ".join(parts), ()))

    def close(self) -> None:
        """Release files and connections."""
        self._connections.close()

    def _read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        try:
            return self._connections.rows(sql, parameters)
        except (OverflowError, UnicodeEncodeError):
            return []  # a key that no store can hold is a key that this one does not

    def _nearest(self, kind: type[Record], key: Sequence[object]) -> str:
        """A hint at the first part of the key that nothing stored has."""
        where: dict[str, object] = {}
        for name, part in zip(kind.key, key, strict=False):
            clause, parameters = condition(table_of(kind), where)
            sql = f'SELECT DISTINCT "{name}" FROM (SELECT "{name}" FROM "{kind.table}" '
            sql += f"WHERE {clause} ORDER BY {ORDER} DESC LIMIT {_KNOWN_KEYS})"
            known = [row[0] for row in self._read(sql, parameters)]
            if part not in known:
                readable = [str(value) for value in known if len(str(value)) < 64]  # no digests
                return did_you_mean(str(part), readable)
            where[name] = part
        return ""


def _insert(connection: sqlite3.Connection, record: R) -> R:
    kind = type(record)
    table = table_of(kind)
    if kind.sequence and not getattr(record, kind.sequence):
        record = _numbered(connection, table, kind.sequence, record)
    sql = table.insert
    if kind in _SAME_IS_FINE:
        sql += " ON CONFLICT DO NOTHING"
    try:
        connection.execute(sql, table.row(record))
        for statement, parameters in projected(record):
            connection.execute(statement, parameters)
    except sqlite3.IntegrityError as error:
        key = [getattr(record, name) for name in kind.key]
        raise Conflict(
            f"There is a {kind.table.replace('_', ' ')} {_label(kind, key)!r} already.",
            hint="Records never change: put a new one under another key.",
            kind=kind.table,
        ) from error
    except (OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"This {kind.table} can't be stored: {error}.") from None
    return record


def _numbered(connection: sqlite3.Connection, table: Table, sequence: str, record: R) -> R:
    scope = [bound(getattr(record, name)) for name in table.scope]
    try:
        last: int | None = connection.execute(table.last_number, scope).fetchone()[0]  # pyright: ignore[reportArgumentType]
    except (OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"This {table.kind.table} can't be stored: {error}.") from None
    return msgspec.structs.replace(record, **{sequence: (last or 0) + 1})


def _label(kind: type[Record], key: Sequence[object]) -> str:
    return (":" if kind.table == "version" else "/").join(map(str, key))
