"""MetaStore: where records are kept."""

from typing import Any, Protocol, TypeVar

import msgspec

from upturn.core.records import Record

R = TypeVar("R", bound=Record)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a name, for how long yet if it isn't renewed, and what they say of themselves."""

    name: str
    owner: str
    left_s: float
    payload: dict[str, Any] = {}


class MetaStore(Protocol):
    """Append-only tables of records, and leases. Safe to use from several threads and processes."""

    def put(self, *records: Record, once: str | None = None) -> tuple[Record, ...]:
        """Write the records in one transaction and return them, numbered in their sequences.

        An Edge or an Artifact that exists already is left as it is; for any other record whose key
        exists this raises Conflict, and nothing is written. A put that is repeated with the same id
        `once` within some minutes writes nothing, and returns what the first one did.
        """
        ...

    def add(self, record: R) -> R:
        """`put` for one record, returned with its own type."""
        ...

    def find(self, kind: type[R], *key: object) -> R | None:
        """The record with that key. With the sequence left out: the last of the sequence."""
        ...

    def get(self, kind: type[R], *key: object) -> R:
        """As `find`, but raises NotFound, with the nearest existing key as a hint."""
        ...

    def select(
        self,
        kind: type[R],
        *,
        newest_first: bool = False,
        limit: int | None = None,
        after: int | None = None,
        **where: object,
    ) -> list[R]:
        """Records whose key or index fields equal `where`, in the order in which they were put.

        A list or tuple as a value means any of them; None means null. `after` leaves out what has a
        sequence number up to it.
        """
        ...

    def last_each(self, kind: type[R], **where: object) -> list[R]:
        """The last record of every sequence that matches, in the order of their keys."""
        ...

    def read_on(self, kind: type[R], position: int, *, limit: int = 1000) -> list[tuple[int, R]]:
        """Records that were put after that position, in their order, each with its own position.

        Positions grow over all records of the kind. Whoever reads on from the last one that it saw
        misses none, whatever is put meanwhile: nothing is ever put before what was seen.
        """
        ...

    def position(self, kind: type[Record]) -> int:
        """The position of the last record of the kind; 0 before the first."""
        ...

    def claim(
        self, name: str, owner: str, *, ttl_s: float, payload: dict[str, Any] | None = None
    ) -> bool:
        """Take or renew a lease: True when `owner` holds it now. One claimant wins.

        A machine whose clock is set neither loses a lease by it nor keeps one.
        """
        ...

    def release(self, name: str, owner: str) -> None:
        """Give a lease back, if `owner` holds it."""
        ...

    def lease(self, name: str) -> Lease | None:
        """Who holds that name now; None when nobody does."""
        ...

    def leases(self, prefix: str) -> list[Lease]:
        """Who holds the names that begin so, by name."""
        ...

    def stamp(self) -> int:
        """A number that differs after somebody, in any process, has written. Cheap to poll."""
        ...

    def counts(self) -> dict[str, int]:
        """How many records each table holds."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
