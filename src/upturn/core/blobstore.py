"""BlobStore: where the bytes of artifacts are kept, by their digest."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

Buffer = bytes | bytearray | memoryview
USE_MARGIN_S = 900.0  # how far a blob's `used_at` may lie before its last use: it need not be exact


class Entry(msgspec.Struct, frozen=True):
    """A blob that is stored."""

    digest: str
    size_bytes: int
    used_at: float  # when it was last put or asked for, seconds since 1970, to USE_MARGIN_S


class BlobWriter(Protocol):
    """A blob that is being written, part by part. Nobody sees it before it is finished.

    Use it from one thread at a time. One that is neither finished nor abandoned leaves nothing,
    at the latest when the store is opened again.
    """

    def write(self, part: Buffer) -> None:
        """Add a part."""
        ...

    def finish(self, *, sync: bool = False) -> str:
        """Store what was written, as `put` does, and return its digest."""
        ...

    def abandon(self) -> None:
        """Forget what was written; nothing happens after `finish`."""
        ...


class BlobReader(Protocol):
    """A blob that is being read, part by part. Use it from one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """How long the blob is."""
        ...

    def read(self, size: int) -> bytes:
        """The next part, of that many bytes unless the blob ends before; empty at the end.

        Raises Corrupt instead of returning the last part when the parts aren't what was written.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class BlobStore(Protocol):
    """Immutable bytes by blake3 digest (64 hex digits). Safe from several threads and processes."""

    def put(self, parts: Sequence[Buffer], *, sync: bool = False) -> str:
        """Store the concatenation of the parts and return its digest.

        The blob appears whole or not at all. With `sync` it survives power loss when this returns.
        Putting what is there already is a use of it: see `sweep`.
        """
        ...

    def get(self, digest: str) -> memoryview:
        """The bytes, mapped rather than copied where the store can, verified against the digest.

        Raises NotFound, or Corrupt when they are not what was written.
        """
        ...

    def writing(self) -> BlobWriter:
        """Begin to write a blob that need not fit in memory."""
        ...

    def reading(self, digest: str) -> BlobReader:
        """Begin to read a blob that need not fit in memory. Raises NotFound."""
        ...

    def has(self, digest: str, *, use: bool = True) -> bool:
        """Whether there is a blob with that digest (not whether it is intact).

        Asking is a use of it: a `sweep` that goes on leaves a blob that this found. Who only wants
        to say what is there asks without `use`.
        """
        ...

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        ...

    def size_bytes(self) -> int:
        """How much is stored, in all."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Every blob, in no order. What others put or remove meanwhile may be among them or not."""
        ...

    def sweep(self, digests: Iterable[str], *, unused_since: float) -> Iterator[tuple[str, bool]]:
        """Remove those of the blobs that were not used since then; each one, and whether it went.

        Each is removed when the iteration comes to it. A blob that `put` or `has` found, in any
        process, while this goes on is not removed, and can be read at every moment. Raises
        Unavailable when another sweep goes on.
        """
        ...
