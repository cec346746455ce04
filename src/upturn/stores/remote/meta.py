"""RemoteMetaStore: records and leases that a server keeps."""

import time
from typing import Any, TypeVar

from upturn.core.errors import Invalid, NotFound, Unavailable
from upturn.core.metastore import Lease
from upturn.core.records import Record
from upturn.stores.remote import wire
from upturn.stores.remote.connection import Server, new_id
from upturn.stores.tables import bound, numbered, table_of

R = TypeVar("R", bound=Record)
_STAMP_S = 0.1  # how old what is said of the stamp may be
_CANT_BE = (OverflowError, UnicodeEncodeError)  # a key that no store can hold


class RemoteMetaStore:
    """Records and leases over HTTP; leases run by the server's clock. See MetaStore."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._closed = False

    # Records

    def put(self, *records: Record, once: str | None = None) -> tuple[Record, ...]:
        """Write the records in one transaction; see MetaStore.put."""
        bodies = [wire.to_body(record) for record in records]
        numbers = self._write("put", wire.Put(records=bodies, once=once or new_id()), _Numbers)
        if len(numbers) != len(records):
            raise Unavailable("The server's answer is not understood: records are missing.")
        return tuple(map(numbered, records, numbers))

    def add(self, record: R) -> R:
        """`put` for one record, returned with its own type."""
        put = self.put(record)[0]
        assert isinstance(put, type(record))
        return put

    def find(self, kind: type[R], *key: object) -> R | None:
        """The record with that key, or the last of its sequence; None when there is none."""
        try:
            body = self._read("find", wire.Find(kind=kind.table, key=_key(key)), _MaybeBody)
        except _CANT_BE:
            return None
        return None if body is None else table_of(kind).decode(wire.column_of(body))

    def get(self, kind: type[R], *key: object) -> R:
        """As `find`, but raises NotFound, with the nearest existing key as a hint."""
        asked = wire.Find(kind=kind.table, key=_key(key), must=True)
        try:
            body = self._read("find", asked, _MaybeBody)
        except _CANT_BE:
            body = None
        if body is None:
            raise NotFound(f"No {kind.table.replace('_', ' ')} {key!r}.", kind=kind.table)
        return table_of(kind).decode(wire.column_of(body))

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
        asked = wire.Select(
            kind=kind.table,
            where=wire.scalars(where),
            newest_first=newest_first,
            limit=limit,
            after=after,
        )
        return self._records(kind, "select", asked)

    def last_each(self, kind: type[R], **where: object) -> list[R]:
        """The last record of every sequence that matches, in the order of their keys."""
        asked = wire.LastEach(kind=kind.table, where=wire.scalars(where))
        return self._records(kind, "last_each", asked)

    def read_on(self, kind: type[R], position: int, *, limit: int = 1000) -> list[tuple[int, R]]:
        """Records that were put after that position; see MetaStore.read_on."""
        asked = wire.ReadOn(kind=kind.table, position=position, limit=limit)
        found = self._read("read_on", asked, _Placed)
        decode = table_of(kind).decode
        return [(at, decode(wire.column_of(body))) for at, body in found]

    def position(self, kind: type[Record]) -> int:
        """The position of the last record of the kind; see MetaStore.position."""
        return self._read("position", wire.ReadOn(kind=kind.table), int)

    # Leases

    def claim(
        self, name: str, owner: str, *, ttl_s: float, payload: dict[str, Any] | None = None
    ) -> bool:
        """Take or renew a lease: True when `owner` holds it now. One claimant wins."""
        asked = wire.Claim(name=name, owner=owner, ttl_s=ttl_s, payload=payload or {})
        return self._write("claim", asked, bool)

    def release(self, name: str, owner: str) -> None:
        """Give a lease back, if `owner` holds it."""
        self._write("release", wire.Release(name=name, owner=owner), type(None))

    def lease(self, name: str) -> Lease | None:
        """Who holds that name now; None when nobody does."""
        return self._read("lease", wire.Name(name=name), _MaybeLease)

    def leases(self, prefix: str) -> list[Lease]:
        """Who holds the names that begin so, by name."""
        return self._read("leases", wire.Name(name=prefix), list[Lease])

    # The store itself

    def stamp(self) -> int:
        """A number that differs after somebody has written; at most a tenth of a second old.

        All stores of this server in the process share what they hear, and what any of them writes
        shows at once.
        """
        server = self._server
        known = server.stamped
        if known is not None and time.monotonic() - known[0] < _STAMP_S and not self._closed:
            return known[1]
        asked_at = time.monotonic()
        stamp = self._read("stamp", wire.Nothing(), int)
        server.stamped = (asked_at, stamp)
        return stamp

    def counts(self) -> dict[str, int]:
        """How many records each table holds."""
        return self._read("counts", wire.Nothing(), dict[str, int])

    def close(self) -> None:
        """Release this thread's connection."""
        self._closed = True
        self._server.hang_up()

    def _records(self, kind: type[R], name: str, asked: wire.Asked) -> list[R]:
        try:
            bodies = self._read(name, asked, _Bodies)
        except _CANT_BE:
            return []
        decode = table_of(kind).decode
        return [decode(wire.column_of(body)) for body in bodies]

    def _read(self, name: str, asked: wire.Asked, answer: Any) -> Any:
        if self._closed:
            raise Unavailable(f"The store {self._server.url} was closed.")
        return self._server.call(name, asked, answer)

    def _write(self, name: str, asked: wire.Asked, answer: Any) -> Any:
        try:
            return self._read(name, asked, answer)
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            raise Invalid(f"This can't be stored: {error}.") from None
        finally:
            self._server.stamped = None


def _key(key: tuple[object, ...]) -> list[wire.Scalar]:
    return [bound(part) for part in key]  # pyright: ignore[reportReturnType]


_Numbers = list[int | None]
_MaybeBody = bytes | None
_Bodies = list[bytes]
_Placed = list[tuple[int, bytes]]
_MaybeLease = Lease | None
