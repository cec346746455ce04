"""Codec: how values of some types become bytes, and come back."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from upturn.core.blobstore import Buffer


class Encoded(msgspec.Struct, frozen=True):
    """A value as buffers, with what is needed to read them and a line on what it is.

    `carried` are the classes and functions that the buffers only name.
    """

    buffers: Sequence[Buffer]
    meta: dict[str, Any] = {}
    summary: str = ""
    carried: Sequence[Any] = ()


class Codec(Protocol):
    """Turns values of some types into buffers; equal values give equal bytes where they can."""

    @property
    def name(self) -> str:
        """What the stored header calls this codec; never changed once released."""
        ...

    def accepts(self, value: object) -> bool:
        """Whether this codec is the one for `value`; must not import anything to find out."""
        ...

    def encode(self, value: Any) -> Encoded:
        """The value as buffers. Raises Invalid when it can't be stored."""
        ...

    def decode(self, meta: dict[str, Any], buffers: Sequence[memoryview]) -> Any:
        """The value again; large ones are views of the buffers, which stay mapped."""
        ...
