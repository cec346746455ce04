"""BlobStore: where the bytes of artifacts are kept, by their digest."""

from collections.abc import Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class BlobStore(Protocol):
    """Immutable bytes by blake3 digest (64 hex digits). Safe from several threads and processes."""

    def put(self, parts: Sequence[Buffer], *, sync: bool = False) -> str:
        """Store the concatenation of the parts and return its digest.

        The blob appears whole or not at all. With `sync` it survives power loss when this returns.
        """
        ...

    def get(self, digest: str) -> memoryview:
        """The bytes, mapped rather than copied where the store can, verified against the digest.

        Raises NotFound, or Corrupt when they are not what was written.
        """
        ...

    def has(self, digest: str) -> bool:
        """Whether there is a blob with that digest (not whether it is intact)."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        ...

    def size_bytes(self) -> int:
        """How much is stored, in all."""
        ...
