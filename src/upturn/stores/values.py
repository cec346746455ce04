"""Values: any value as one blob that says how to read it; large ones are mapped, not copied.

The blob is a magic number, the length of a JSON header, the header, and buffers that each begin at
a multiple of 64 bytes. Equal values give equal bytes wherever their codec can see to it.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from upturn.core.blobstore import BlobStore, Buffer
from upturn.core.codec import Codec
from upturn.core.errors import Corrupt, Invalid
from upturn.core.records import Artifact
from upturn.stores.codecs.arrow_codec import ArrowCodec
from upturn.stores.codecs.json_codec import JsonCodec
from upturn.stores.codecs.numpy_codec import NumpyCodec
from upturn.stores.codecs.pickle_codec import PickleCodec

CODECS: tuple[Codec, ...] = (JsonCodec(), NumpyCodec(), ArrowCodec(), PickleCodec())
_BY_NAME = {codec.name: codec for codec in CODECS}
CodeOf = Callable[[Sequence[Any]], str]
_MAGIC = b"UPTURN\x00\x01"
_ALIGNMENT = 64  # of a cache line: what vectorised code likes its arrays to begin at
_PREFIX = len(_MAGIC) + 8


class Header(msgspec.Struct, frozen=True):
    """What a stored value is and how to read it."""

    codec: str
    type: str  # 'polars.DataFrame'
    summary: str  # '80789 rows × 22 columns'
    meta: dict[str, Any]
    buffers: tuple[tuple[int, int], ...]  # where each begins, from the first on, and its bytes


def save(
    blobs: BlobStore, value: object, *, sync: bool = False, code: CodeOf | None = None
) -> Artifact:
    """Store the value and return what is known of it (which is not put into a MetaStore here).

    `code` gives a digest of the classes and functions that the stored value only names; it is
    stored with the value, so that other code makes another value.

    Raises Invalid, naming the type, when the value can't be stored.
    """
    header, parts = pack(value, code=code)
    return Artifact(
        digest=blobs.put(parts, sync=sync),
        codec=header.codec,
        type=header.type,
        size_bytes=sum(memoryview(part).nbytes for part in parts),
        summary=header.summary,
    )


def load(blobs: BlobStore, digest: str) -> Any:
    """The value again; large arrays and tables are read-only views of the mapped blob.

    Raises NotFound, Corrupt, or Invalid when a library that the value needs is not here.
    """
    return unpack(blobs.get(digest))


def pack(value: object, *, code: CodeOf | None = None) -> tuple[Header, list[Buffer]]:
    """The value as a header and the buffers of its blob. Raises Invalid when it can't be stored."""
    codec = next(codec for codec in CODECS if codec.accepts(value))
    encoded = codec.encode(value)
    places: list[tuple[int, int]] = []
    body: list[Buffer] = []
    end = 0
    for buffer in encoded.buffers:
        size = memoryview(buffer).nbytes
        places.append((end, size))
        gap = -size % _ALIGNMENT
        body += (buffer, bytes(gap))
        end += size + gap
    meta = encoded.meta
    if code is not None and encoded.carried and (digest := code(encoded.carried)):
        meta = {**meta, "code": digest}
    header = Header(codec.name, type_name(value), encoded.summary, meta, tuple(places))
    text = msgspec.json.encode(header)
    padding = -(_PREFIX + len(text)) % _ALIGNMENT
    return header, [_MAGIC, len(text).to_bytes(8, "little"), text, bytes(padding), *body]


def unpack(blob: memoryview) -> Any:
    """The value in a blob; see `load`."""
    header, buffers = _parts(blob)
    codec = _BY_NAME.get(header.codec)
    if codec is None:
        raise Invalid(
            f"The value was stored by a codec {header.codec!r} that this Upturn does not have.",
            hint="Upgrade upturn.",
        )
    try:
        return codec.decode(header.meta, buffers)
    except ImportError as error:
        raise Invalid(
            f"The {header.type} can't be loaded here: {error}.",
            hint=f"Install {error.name or 'it'} in this environment.",
        ) from error


def header_of(blob: memoryview) -> Header:
    """What the value in a blob is, without decoding it. Raises Corrupt when it is no value."""
    return _parts(blob)[0]


def _parts(blob: memoryview) -> tuple[Header, Sequence[memoryview]]:
    if bytes(blob[: len(_MAGIC)]) != _MAGIC:
        raise Corrupt("The blob does not hold a value.", hint="It may hold a file's own bytes.")
    length = int.from_bytes(blob[len(_MAGIC) : _PREFIX], "little")
    try:
        header = msgspec.json.decode(blob[_PREFIX : _PREFIX + length], type=Header)
    except msgspec.DecodeError as error:
        raise Corrupt(f"The blob's header can't be read: {error}.") from None
    begin = _PREFIX + length + -(_PREFIX + length) % _ALIGNMENT
    return header, [blob[begin + at : begin + at + size] for at, size in header.buffers]


def type_name(value: object) -> str:
    """The name of the value's type as its users know it.

    >>> type_name([1]), type_name(JsonCodec())
    ('list', 'upturn.stores.codecs.json_codec.JsonCodec')
    """
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    parts = kind.__module__.split(".")
    for end in range(1, len(parts)):
        module = sys.modules.get(".".join(parts[:end]))
        if vars(module).get(kind.__qualname__) is kind:  # libraries hide where a class is defined
            return ".".join((*parts[:end], kind.__qualname__))
    return f"{kind.__module__}.{kind.__qualname__}"
