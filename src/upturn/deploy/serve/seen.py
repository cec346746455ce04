"""Seen: what is known of one request while it is answered, for the access log and for traces.

Who observes requests puts a Seen into the scope; who answers them notes there what it knows. Where
nobody observes, there is none, and nothing is spent but a look for it.
"""

from collections.abc import MutableMapping, Sequence
from time import perf_counter, time
from typing import Any, Protocol

from upturn.deploy.serve.asgi import App, Receive, Scope, Send

SEEN = "upturn.seen"  # its place in a request's scope
CLIENT_LEFT = 499  # what others say of a request whose client did not wait for the answer


class Seen:
    """One request, from its first byte to its answer's last. Times are of perf_counter."""

    __slots__ = (
        "arms",
        "at",
        "bytes",
        "code",
        "ended",
        "endpoint",
        "marks",
        "method",
        "model_s",
        "path",
        "request",
        "route",
        "rows",
        "span",
        "started",
        "status",
        "trace",
        "versions",
    )

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path
        self.at = time()  # seconds since 1970
        self.started = perf_counter()
        self.ended = self.started
        self.status = CLIENT_LEFT  # until the answer begins
        self.bytes = 0  # of the answer's body
        self.code = ""  # of the error, if it was one
        self.route = ""  # the path without what differs from request to request
        self.request = ""  # the client's own id of it, or what stands for that in the Log
        self.endpoint = ""
        self.arms: Sequence[str] = ()
        self.versions: Sequence[str] = ()
        self.rows = 0
        self.model_s = 0.0  # of the time until the mark "predict", what the model took
        self.marks: list[tuple[str, float]] = []  # what has been done, and when that was
        self.trace = ""  # the id of the trace that it is part of, if that is kept
        self.span: Any = None  # the tracer's own

    def mark(self, what: str) -> None:
        """That has been done by now."""
        self.marks.append((what, perf_counter()))

    def answered(
        self, arms: Sequence[str], versions: Sequence[str], *, rows: int, model_s: float
    ) -> None:
        """These arms have predicted the rows."""
        self.arms = arms
        self.versions = versions
        self.rows = rows
        self.model_s = model_s
        self.mark("predict")


class Observer(Protocol):
    """Is told of every request, on the event loop: it must be quick, and raise nothing."""

    def begin(self, seen: Seen, scope: Scope) -> None:
        """A request has come."""
        ...

    def end(self, seen: Seen) -> None:
        """Its answer was sent, or nobody waits for it any more."""
        ...

    def close(self) -> None:
        """Finish, in another thread than the event loop's; nothing comes after."""
        ...


async def observed(
    app: App, observers: Sequence[Observer], scope: Scope, receive: Receive, send: Send
) -> None:
    """Have `app` answer the request, and tell the observers."""
    seen = Seen(scope["method"], scope["path"])
    scope[SEEN] = seen
    for observer in observers:
        observer.begin(seen, scope)

    async def noting(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
        else:
            seen.bytes += len(message.get("body", b""))
        await send(message)

    try:
        await app(scope, receive, noting)
    finally:
        seen.ended = perf_counter()
        for observer in observers:
            observer.end(seen)
