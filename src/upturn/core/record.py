"""Record: what every stored row is."""

from typing import ClassVar

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A stored row. `key` identifies it; `sequence`, if any, is the last field of the key.

    A record whose sequence field is 0 is given the next number within the rest of its key when it
    is put. `indexed` names further fields that a store can search by, and `digests` those that hold
    digests of blobs: what a run or a task that is kept keeps with it.
    """

    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    sequence: ClassVar[str | None] = None
    indexed: ClassVar[tuple[str, ...]] = ()
    digests: ClassVar[tuple[str, ...]] = ()
