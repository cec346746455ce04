"""Compression: bodies that come compressed, and answers that are worth it."""

import zlib

from upturn.deploy.serve.problems import BadRequest, shown
from upturn.deploy.serve.request import Limits, too_large

_WORTH_BYTES = 8192  # shorter answers are sent as they are: compressing costs more than it saves
_GZIP = 16 + zlib.MAX_WBITS


def inflated(body: bytes, encoding: bytes, limits: Limits) -> bytes:
    """The body without its Content-Encoding. Raises BadRequest, and TooLarge for a bomb."""
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise BadRequest(
            f"The body's Content-Encoding is {shown(encoding.decode('latin-1'))!r}.",
            hint="It may be gzip or deflate.",
        )
    inflate = zlib.decompressobj(zlib.MAX_WBITS if encoding == b"deflate" else _GZIP)
    try:
        found = inflate.decompress(body, limits.body_bytes + 1)
    except zlib.error:
        raise BadRequest(f"The body is not {encoding.decode()}.") from None
    if len(found) > limits.body_bytes:
        raise too_large(limits.body_bytes)
    if not inflate.eof or inflate.unused_data:
        raise BadRequest(f"The body is not one whole {encoding.decode()} stream.")
    return found


def deflated(body: bytes, accepted: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body as the client takes it, and the header that says so."""
    if len(body) < _WORTH_BYTES or b"gzip" not in accepted:
        return body, []
    deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return deflate.compress(body) + deflate.flush(), [(b"content-encoding", b"gzip")]
