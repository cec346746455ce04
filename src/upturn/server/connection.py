"""Connection: HTTP/1.1 over one socket, within a host's patience.

The parser is httptools'. A client that is slow, silent or endless costs its buffer of at most a few
hundred kilobytes, and a look every second: one sweep over all connections, no timer of their own.
"""

import asyncio
import logging
import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import cast
from urllib.parse import unquote

import httptools

from upturn.core.errors import UpturnError
from upturn.deploy.serve.problems import BadRequest
from upturn.server.exchange import Exchange, Message, raw_problem
from upturn.server.patience import MAX_HEADERS, too_many, too_slow
from upturn.server.shared import Shared

_SMALL_BYTES = 2**20  # so much of a body that nobody wants is read, to keep the connection
_UNREAD_BYTES = 16 * 2**20  # and so much at most before the connection is closed in any case
_log = logging.getLogger("upturn.serve")

# Where a connection is
_FRESH = 0  # nothing has come yet
_IDLE = 1  # everything was answered
_HEAD = 2  # a request has begun
_BODY = 3  # its headers are there
_ANSWER = 4  # all of it is there, and its answer is made
_LAST = 5  # its last answer is written; what comes is dropped until the client closes too


class Connection(asyncio.Protocol):
    """One client's connection: parses, answers in order, and has the host's patience."""

    __slots__ = (
        "_begun",
        "_body_bytes",
        "_chunk",
        "_client",
        "_current",
        "_deaf",
        "_declared",
        "_dropped",
        "_fed",
        "_first",
        "_headers",
        "_held",
        "_host",
        "_incoming",
        "_parser",
        "_paused",
        "_phase",
        "_pipeline",
        "_progress",
        "_refusing",
        "_sock",
        "_stalled_at",
        "_transport",
        "_url",
        "blocked",
        "loop",
        "since",
    )

    def __init__(self, host: Shared, sock: socket.socket) -> None:
        self.loop = host.loop
        self.since = host.now  # when its phase began
        self._host = host
        self._sock = sock
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast("asyncio.Transport", None)
        self._phase = _FRESH
        self._client: tuple[str, int] | None = None
        self._first = False  # what is parsed next begins a request
        self._begun = False  # a request has begun whose headers are not all there
        self._chunk = 0  # bytes that are being parsed
        self._fed = 0  # bytes of this request before them
        self._body_bytes = 0
        self._progress = 0.0  # when some of its body came last
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._declared: int | None = None  # the length of its body, as it says
        self._incoming: Exchange | None = None  # the request that is coming in
        self._current: Exchange | None = None  # the one that is being answered
        self._pipeline: deque[Exchange] = deque()  # those that came meanwhile
        self._refusing = False  # it was answered by the gate, and its body is dropped
        self._held = b""  # a refusal that is not sent yet
        self._dropped = 0
        self._deaf = False  # what comes is not even parsed
        self._paused = False
        self._stalled_at = 0.0
        self.blocked: asyncio.Future[None] | None = None  # until the client takes what was written

    @property
    def date(self) -> bytes:
        """The header with the time."""
        return self._host.date

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, as far as anybody knows."""
        return self._phase <= _IDLE and not self._held and not self._transport.is_closing()

    def has_bytes(self) -> bool:
        """Whether something has come that has not been read yet."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._client = self._transport.get_extra_info("peername")
        self._host.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or has been let go."""
        if self in self._host.connections:
            self._host.connections.discard(self)
            self._host.let_go()
        self._deaf = True
        for exchange in (self._current, self._incoming, *self._pipeline):
            if exchange is not None:
                exchange.hang_up()
        self._pipeline.clear()
        self.resume_writing()

    def eof_received(self) -> bool:
        """The client sends no more; what it asked is answered all the same."""
        if self._phase != _ANSWER:
            return False
        for exchange in (self._current, *self._pipeline):
            if exchange is not None:
                exchange.keep = False
        self._deaf = True
        return True

    def pause_writing(self) -> None:
        """The client does not take what was written."""
        self._stalled_at = self._host.now
        self.blocked = self.loop.create_future()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        if self.blocked is not None:
            if not self.blocked.done():
                self.blocked.set_result(None)
            self.blocked = None

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._deaf:
            self._drop(len(data))
            return
        if self._phase <= _IDLE:
            self._enter(_HEAD)
            self._first = True
        self._chunk = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # another protocol, which we do not speak; the request is answered
            return
        except httptools.HttpParserError as error:
            self._unreadable(error)
            return
        self._fed += self._chunk
        self._chunk = 0
        if self._begun:
            if self._fed > self._host.patience.head_bytes:
                self._refuse(too_many(self._host.patience.head_bytes))
        elif self._fed > _SMALL_BYTES and self._fed > _SMALL_BYTES + 8 * self._body_bytes:
            self._refuse(BadRequest("The body has more of chunks' headers or trailers than data."))

    # The parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._declared = None
        self._begun = True
        self._body_bytes = 0
        if self._phase <= _IDLE:  # the next one of the same bytes
            self._enter(_HEAD)
        # What was before it in the same bytes is not counted, nor is what there is of it.
        self._fed = 0 if self._first else -self._chunk
        self._first = False

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if len(self._headers) >= MAX_HEADERS:
            raise too_many(self._host.patience.head_bytes)
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All headers are there: the application can begin."""
        self._begun = False
        headers, self._headers = self._headers, []  # trailers, if any, are dropped
        limit = self._host.patience.head_bytes
        if self._fed + self._chunk > limit:
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limit:
                raise too_many(limit)
        parser = self._parser
        method = parser.get_method().decode("ascii")
        self.send_held()  # an answer before the next one
        waits = self._current is not None and not self._current.answered
        if method == "POST" and self._host.gate is not None and not waits:
            refusal = self._host.gate(self._url)
            if refusal is not None:
                self._turn_away(refusal, headers)
                return
        version = parser.get_http_version()
        expects = False
        for name, value in headers:
            if name == b"content-length":
                self._declared = int(value)
            elif name == b"expect":
                expects = value.lower() == b"100-continue"
        exchange = Exchange(
            self,
            self._scope(method, version, headers),
            keep=version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade(),
            expects=expects,
        )
        self._incoming = exchange
        if waits:
            self._pipeline.append(exchange)
            self._pause()
        else:
            self._start(exchange)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        exchange = self._incoming
        if exchange is None or exchange.answered:
            self._drop(len(body))
            return
        self._progress = self._host.now
        exchange.take(body)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        exchange = self._incoming
        self._incoming = None
        if self._refusing:
            self._refusing = False
            if self._parser.should_keep_alive() and not self._host.closes:
                self._enter(_IDLE)
            else:
                self.send_held()
                self.close()
        elif exchange is not None:
            exchange.end()
            if not exchange.answered:
                if exchange is self._current:
                    self._enter(_ANSWER)
            elif exchange.keep:
                self._enter(_IDLE)
            else:
                self.close()

    # An exchange's side

    def write(self, data: bytes) -> None:
        """Send the bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the client has taken most of what was written."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    def read_on(self) -> None:
        """Read more of the request."""
        if self._paused and not self._pipeline:
            self._resume()

    def wait_for_reader(self) -> None:
        """Read no more until `read_on`."""
        self._pause()

    def may_keep(self, exchange: Exchange) -> bool:
        """Whether the connection is kept once this exchange's answer is sent."""
        if self._pipeline:  # what came already is answered, too
            return exchange.keep
        if not exchange.complete and not 0 <= self._unread() <= _SMALL_BYTES:
            return False
        return exchange.keep and not self._host.closes

    def answered(self, exchange: Exchange) -> None:
        """The answer has been written."""
        if self._transport.is_closing():
            return
        if not exchange.keep:
            self._finish(exchange)
        elif self._pipeline:
            self._start(self._pipeline.popleft())
            if not self._pipeline:
                self.read_on()
        else:
            if exchange.complete:
                self._enter(_HEAD if self._begun else _IDLE)
            self.read_on()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def close(self) -> None:
        """Close once what was written is sent."""
        self._enter(_LAST)
        self._deaf = True
        self._transport.close()

    def detach(self) -> socket.socket:
        """Give the connection up without closing it; what its client sends stays in its socket."""
        self._transport.pause_reading()
        sock = self._sock.dup()
        self._host.connections.discard(self)
        self._host.let_go()
        self._transport.abort()
        return sock

    # Its own

    def check(self, now: float) -> None:
        """Close it if its client has taken too long."""
        patience, age = self._host.patience, now - self.since
        phase = self._phase
        if phase == _HEAD and age > patience.head_s:
            self._refuse(too_slow("headers"))
        elif phase == _BODY and not self._paused:
            slow = age > patience.body_s + self._body_bytes / patience.body_rate
            if slow or now - max(self.since, self._progress) > patience.body_s:
                self._refuse(too_slow("body"))
        elif (phase == _LAST and age > patience.last_s) or (
            self.blocked is not None and now - self._stalled_at > patience.body_s
        ):
            self._transport.abort()
        elif (phase == _FRESH and age > patience.head_s) or (
            phase == _IDLE and age > patience.idle_s
        ):
            self.close()

    def _enter(self, phase: int) -> None:
        self._phase = phase
        self.since = self._host.now

    def _scope(self, method: str, version: str, headers: Sequence[tuple[bytes, bytes]]) -> Message:
        url = httptools.parse_url(self._url)
        path = (url.path or b"").decode("ascii", "replace")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": None,
            "state": {},
        }

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self._enter(_BODY if exchange is self._incoming else _ANSWER)
        task = self.loop.create_task(exchange.run(self._host.app))
        self._host.tasks.add(task)
        task.add_done_callback(self._host.tasks.discard)

    def _turn_away(self, refusal: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Answer with what the gate gave; the request's body is read and dropped."""
        self._enter(_BODY)
        self._refusing = True
        self._incoming = self._current = None
        self._dropped = 0
        # Who waits for "100 Continue" will not send the body now: what comes would be taken for it.
        waits = any(name == b"expect" for name, _ in headers)
        if self._host.closes or waits:
            refusal = refusal.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        if waits:
            self._transport.write(refusal)
            self._linger()
            return
        self._held = refusal
        self._host.hold(self)

    def send_held(self) -> None:
        """Send the refusal that was held back, if it has not been."""
        held, self._held = self._held, b""
        if held:
            self.write(held)

    def _finish(self, exchange: Exchange) -> None:
        """Close after the last answer: gently, if the client is still sending."""
        if exchange.complete:
            self.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Let the client read its answer: closing now would take it away with what it sends."""
        self._enter(_LAST)
        self._deaf = True
        self._dropped = 0
        if self._transport.is_closing():
            return
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _refuse(self, error: UpturnError) -> None:
        """Answer with the error, unless an answer has begun, and end the connection."""
        self._deaf = True
        current, incoming = self._current, self._incoming
        if incoming is not None:
            incoming.hang_up()
        if current is not None and not current.answered and current is not incoming:
            # It is about a later request: those before it are answered, and that is all.
            if incoming in self._pipeline:
                self._pipeline.remove(incoming)
            (self._pipeline[-1] if self._pipeline else current).keep = False
            return
        if incoming is not None and incoming.started:
            self._transport.abort()
            return
        self.write(raw_problem(error))
        self._linger()

    def _unreadable(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, UpturnError):
            self._refuse(cause)
            return
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
            cause, httptools.HttpParserError
        ):
            _log.error("A request could not be read.", exc_info=cause)
        self._refuse(BadRequest("This is no HTTP request."))

    def _unread(self) -> int:
        """How much of the body is to come; -1 when nobody knows."""
        if self._declared is None:
            return -1
        return max(0, self._declared - self._body_bytes)

    def _drop(self, length: int) -> None:
        self._dropped += length
        if self._dropped > _UNREAD_BYTES:
            self._transport.abort()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
