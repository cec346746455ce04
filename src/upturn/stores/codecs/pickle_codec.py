"""PickleCodec: everything else, by pickle protocol 5 with large buffers beside the stream."""

import contextlib
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from upturn.core.blobstore import Buffer
from upturn.core.codec import Encoded
from upturn.core.errors import Invalid
from upturn.stores.codecs.by_value import dumps_by_value
from upturn.stores.codecs.sorted_pickle import dumps, dumps_sorted, may_hold_sets

# Smaller arrays stay in the stream and come back writable, which some models need of their state.
_OUTSIDE_FROM = 64 * 1024
_Dumps = Callable[[Callable[[pickle.PickleBuffer], bool]], bytes]


class PickleCodec:
    """What can be pickled; when it is defined in `__main__` or in a function, by cloudpickle.

    Arrays of 64 KiB or more inside of it come back as read-only views of the mapping. Equal values
    mostly give equal bytes, sets included up to 16 MiB, but not where two share parts differently
    (one text twice, or two equal texts) or hold what is another in each process (an `id()`).
    """

    name = "pickle"

    def accepts(self, value: object) -> bool:
        """Always: whether it really can be is seen when it is tried."""
        return True

    def encode(self, value: Any) -> Encoded:
        """The stream, then the large buffers."""
        if isinstance(value, io.IOBase):  # cloudpickle would read it to its end instead
            raise _refusal(value, "an open file is not a value")
        carried: set[Any] = set()
        try:
            stream, buffers = _dump(lambda keep: dumps(value, keep, carried))
            if may_hold_sets(stream):
                with contextlib.suppress(Exception):  # as it may nest too deep for Python
                    stream, buffers = _dump(lambda keep: dumps_sorted(value, keep))
        except Exception:  # noqa: BLE001  (reducers of any class run here)
            stream, buffers = _dump_by_value(value)
        if b"__main__" in stream:
            # Another process has another __main__: a reference into it would be lost there.
            stream, buffers = _dump_by_value(value)
        return Encoded(buffers=[stream, *buffers], carried=tuple(carried))

    def decode(self, meta: dict[str, Any], buffers: Sequence[memoryview]) -> Any:
        """The value again. Raises Invalid when what it needs is not installed here."""
        try:
            return pickle.loads(buffers[0], buffers=buffers[1:])
        except (ImportError, AttributeError) as error:
            raise Invalid(
                f"The value can't be loaded here: {error}.",
                hint="Install what it was made with, or make it again with what is here now.",
            ) from error


def _dump(dumps: _Dumps) -> tuple[bytes, list[Buffer]]:
    buffers: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Tells pickle whether the buffer goes into the stream."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < _OUTSIDE_FROM:
            return True
        buffers.append(raw)
        return False

    return dumps(keep), buffers


def _dump_by_value(value: Any) -> tuple[bytes, list[Buffer]]:
    try:
        return _dump(lambda keep: dumps_by_value(value, keep))
    except Exception as error:
        raise _refusal(value, str(error)) from error


def _refusal(value: object, why: str) -> Invalid:
    return Invalid(
        f"A {type(value).__name__} can't be stored: {why}.",
        hint="Return plain values, arrays, tables or models, not open files, connections, "
        "locks or generators.",
        type=f"{type(value).__module__}.{type(value).__qualname__}",
    )
