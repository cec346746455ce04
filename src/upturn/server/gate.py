"""Gate: refuses predictions of endpoints that have too much to do, before anything is made of it.

Hundreds of clients that ask again at once would otherwise have the interpreter refuse all day: each
costs as much as an answer. Here it is a look, and an answer made before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from upturn.deploy.serve.problems import Overloaded, problem_body

if TYPE_CHECKING:
    from upturn.deploy.serve.live import Served

_PREDICT = (b"/v1/endpoints/", b"/predict")
_INFER = (b"/v2/models/", b"/infer")
_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"
    b"content-type: %s\r\ncontent-length: %d\r\n\r\n"
)


class Gate:
    """Tells by a request's target whether it is refused. For the event loop's thread."""

    def __init__(self, served: dict[str, Served]) -> None:
        self._served = served
        self._known: dict[bytes, tuple[str, bytes]] = {}  # by target: its endpoint, and the refusal

    def __call__(self, target: bytes) -> bytes | None:
        """The whole answer that refuses the request, or None to let it in."""
        known = self._known.get(target)
        if known is None:
            known = self._look(target)
            if known is None:
                return None
        served = self._served.get(known[0])
        if served is None or served.live is None or not served.live.is_full():
            return None
        metrics = served.metrics
        metrics.begun()
        metrics.shed("queue")
        metrics.rejected(503)
        return known[1]

    def _look(self, target: bytes) -> tuple[str, bytes] | None:
        for prefix, suffix in (_PREDICT, _INFER):
            if target.startswith(prefix) and target.endswith(suffix):
                name = unquote(target[len(prefix) : -len(suffix)].decode("latin-1"))
                name = name.partition("/versions/")[0]
                if name not in self._served:  # clients may make up as many names as they like
                    return None
                found = name, _refusal(name, v2=prefix == _INFER[0])
                self._known[target] = found
                return found
        return None


def _refusal(name: str, *, v2: bool) -> bytes:
    error = Overloaded(
        f"Endpoint {name!r} has too many requests waiting.",
        hint="Try again in a moment.",
        retry_after_s=1,
    )
    if v2:
        kind, body = b"application/json", msgspec.json.encode({"error": str(error)})
    else:
        kind, body = b"application/problem+json", problem_body(error)
    return _HEAD % (kind, len(body)) + body
