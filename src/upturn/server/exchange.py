"""Exchange: one request and its answer, as the application sees them."""

import asyncio
import logging
import re
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from upturn.core.errors import UpturnError
from upturn.deploy.serve.asgi import App
from upturn.deploy.serve.problems import internal_problem, problem_body, problem_headers

Message = MutableMapping[str, Any]
_HIGH_BYTES = 65536  # of a body that nobody has read yet: then the client has to wait
_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_GONE: Message = {"type": "http.disconnect"}
_log = logging.getLogger("upturn.serve")


class Line(Protocol):
    """What an exchange asks of the connection that it came over."""

    loop: asyncio.AbstractEventLoop
    blocked: asyncio.Future[None] | None  # while the client does not take what was written

    @property
    def date(self) -> bytes:
        """The header with the time."""
        ...

    def write(self, data: bytes) -> None:
        """Send the bytes."""
        ...

    async def writable(self) -> None:
        """Wait until the client has taken most of what was written."""
        ...

    def read_on(self) -> None:
        """Read more of the request."""
        ...

    def wait_for_reader(self) -> None:
        """Read no more until `read_on`."""
        ...

    def may_keep(self, exchange: "Exchange") -> bool:
        """Whether the connection is kept once this exchange's answer is sent."""
        ...

    def answered(self, exchange: "Exchange") -> None:
        """The answer has been written."""
        ...

    def abort(self) -> None:
        """Close at once: the answer can't be finished."""
        ...


class Exchange:
    """A request, whose body may still be coming, and what has been answered to it."""

    __slots__ = (
        "_body",
        "_chunked",
        "_expects",
        "_given",
        "_head",
        "_left",
        "_line",
        "_mute",
        "_waiter",
        "answered",
        "complete",
        "gone",
        "keep",
        "scope",
        "started",
    )

    def __init__(self, line: Line, scope: Message, *, keep: bool, expects: bool) -> None:
        self.scope = scope
        self.keep = keep  # the client is ready to use the connection again
        self.complete = False  # the whole request has come
        self.gone = False  # nobody is there to answer any more
        self.started = False  # the answer's head has been written
        self.answered = False
        self._line = line
        self._expects = expects
        self._body = b""
        self._given = False  # the application has the end of the body
        self._waiter: asyncio.Future[None] | None = None
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._left: int | None = None  # bytes of the answer that are to come, when its head says so
        self._chunked = False
        self._mute = False  # an answer without a body

    # The connection's side

    def take(self, body: bytes) -> None:
        """A part of the body has come."""
        self._body = self._body + body if self._body else body
        if len(self._body) > _HIGH_BYTES:
            self._line.wait_for_reader()
        self._wake()

    def end(self) -> None:
        """The whole request has come."""
        self.complete = True
        self._wake()

    def hang_up(self) -> None:
        """The client is gone, or is to be told nothing more."""
        self.gone = True
        self._wake()

    async def run(self, app: App) -> None:
        """Have the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:  # the time that the end was given is over
            self._line.abort()
            raise
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("A request could not be answered.")
        if self.answered or self.gone:
            return
        if self.started:
            self._line.abort()
            return
        self._head = None
        problem = internal_problem()
        headers = [
            (name.encode(), value.encode()) for name, value in problem_headers(problem).items()
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": problem_body(problem)})

    # The application's side

    async def receive(self) -> Message:
        """The next part of the request, or that the client is gone."""
        if self._expects:
            self._expects = False
            if not self.complete and not self.gone:
                self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.gone and not self.answered:
            if not self._given and (self._body or self.complete):
                body, self._body = self._body, b""
                self._given = self.complete
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            self._line.read_on()
            self._waiter = self._line.loop.create_future()
            await self._waiter
        return _GONE

    async def send(self, message: Message) -> None:
        """Take the answer's head, or a part of its body."""
        if message["type"] == "http.response.start":
            self._head = (message["status"], list(message.get("headers", ())))
            return
        if self.answered:
            raise RuntimeError("There was an answer already.")
        if self._line.blocked is not None:
            await self._line.writable()
        if self.gone:
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        data = self._first(body, more) if not self.started else self._next(body, more)
        self._line.write(data)
        if not more:
            self.answered = True
            self._wake()
            self._line.answered(self)

    def _first(self, body: bytes, more: bool) -> bytes:
        if self._head is None:
            raise RuntimeError("An answer begins with its status and headers.")
        status, headers = self._head
        parts = [_LINES[status], self._line.date]
        for name, value in headers:
            if _UNSAFE.search(value) or _UNSAFE.search(name):
                raise ValueError(f"no header: {name!r}: {value!r}")
            lower = name.lower()
            if lower == b"content-length":
                self._left = int(value)
            elif lower == b"connection":
                self.keep = self.keep and value.lower() != b"close"
                continue
            parts += (name, b": ", value, b"\r\n")
        empty = status in _NO_BODY
        self._mute = empty or self.scope["method"] == "HEAD"
        if self._left is None and not empty:
            parts.append(self._length(len(body), more))
        # Who waits for "100 Continue" will not send the body now: what comes would be taken for it.
        told = self.complete or not self._expects
        self.keep = told and self._line.may_keep(self)
        if not self.keep:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self.started = True
        parts.append(self._next(body, more))
        return b"".join(parts)

    def _length(self, length: int, more: bool) -> bytes:
        """The header that says where the answer ends."""
        if not more:
            self._left = length
            return b"content-length: %d\r\n" % length
        if self.scope["http_version"] == "1.0":
            self.keep = False  # it ends where the connection does
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"

    def _next(self, body: bytes, more: bool) -> bytes:
        if self._mute:
            return b""
        if self._chunked:
            part = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return part if more else part + b"0\r\n\r\n"
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise ValueError("The answer is not as long as its head says.")
        return body

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


def raw_problem(error: UpturnError) -> bytes:
    """The error as a whole answer, after which the connection ends."""
    body = problem_body(error)
    parts = [_LINES[error.http_status]]
    parts += [f"{name}: {value}\r\n".encode() for name, value in problem_headers(error).items()]
    parts += [b"content-length: %d\r\n" % len(body), b"connection: close\r\n\r\n", body]
    return b"".join(parts)
