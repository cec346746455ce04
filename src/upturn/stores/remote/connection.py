"""Server: HTTP to who keeps a store, over a connection a thread, asked again when one broke."""

import contextlib
import http.client
import random
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from upturn.core.blobstore import Buffer
from upturn.core.errors import Unavailable, UpturnError
from upturn.stores.forks import watch
from upturn.stores.migrate import SCHEMA
from upturn.stores.remote.failures import away, failure, other_schema
from upturn.stores.remote.wire import PACKED, PREFIX, SCHEMA_HEADER, Asked, Greeting, pack

PATIENCE_S = 60.0  # for a server that was there before: it is being started again
_CONNECT_S = 10.0
_ANSWER_S = 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_ERROR_BYTES = 2**20  # so much of an answer that tells an error is read

T = TypeVar("T")


class Answer(Protocol):
    """An answer that is being read."""

    status: int
    length: int | None

    def read(self, amount: int | None = None, /) -> bytes:
        """The next bytes of its body, or all."""
        ...

    def readinto(self, buffer: Any, /) -> int:
        """The next bytes into the buffer; how many."""
        ...


Take = Callable[[Answer], T]


class Server:
    """A server by its URL. Safe to share between threads; a forked child opens connections anew.

    Whatever is sent may be sent again after a connection broke: reading is harmless, a put has an
    id under which it counts once, and the rest sets what it says. So a server that was there before
    is waited for, for up to `patience_s`. Raises Unavailable when it can't be reached, and what it
    refuses as it raised that.
    """

    def __init__(self, url: str, token: str = "", *, patience_s: float = PATIENCE_S) -> None:
        parts = urlsplit(url)
        self.url = url
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._base = parts.path + PREFIX
        self._patience_s = patience_s
        self._headers = {SCHEMA_HEADER: str(SCHEMA)}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._met = False  # it has answered this process, or the one that started it
        self.stamped: tuple[float, int] | None = None  # when it was last asked, and what it said
        self._reset()
        watch(self)

    def call(self, name: str, asked: Asked, answer: type[T]) -> T:
        """Call by name, and return its answer in its type."""
        body = pack(asked)
        headers = {"content-type": PACKED}
        data = self.ask("POST", f"/{name}", lambda got: got.read(), body=(body,), headers=headers)
        return decoded(data, answer)

    def ask(
        self,
        method: str,
        path: str,
        take: Take[T],
        *,
        body: Sequence[Buffer] = (),
        headers: dict[str, str] | None = None,
    ) -> T:
        """Send a request, and return what `take` makes of the answer; both may happen again."""
        if not self._met:
            self.greet()
        return self._ask(method, path, take, body=body, headers=headers)

    def greet(self) -> Greeting:
        """Hear what the server is. Raises Invalid when it keeps another schema than is known here.

        A wrong token, or no server, is an error here and not in the middle of something.
        """
        data = self._ask("GET", "", lambda got: got.read())
        greeting = decoded(data, Greeting)
        if greeting.schema != SCHEMA:
            raise other_schema(greeting.schema, greeting.version)
        self._met = True
        return greeting

    def presume_met(self) -> None:
        """Take it that the server is there, and wait for it when it is not just now."""
        self._met = True

    def open_line(self) -> http.client.HTTPConnection:
        """A connection of one's own, for an exchange that takes long."""
        return self._connect()

    @property
    def head(self) -> dict[str, str]:
        """The headers of every request."""
        return dict(self._headers)

    @property
    def base(self) -> str:
        """What every request's path begins with."""
        return self._base

    def fail(self, answer: Any) -> UpturnError:
        """The error that an answer tells."""
        kind = answer.headers.get("content-type", "")
        body = answer.read(_ERROR_BYTES)
        answer.close()
        return failure(self.url, answer.status, kind, body)

    def hang_up(self) -> None:
        """Close this thread's connection; the next request opens one."""
        line: _Line | None = getattr(self._lines, "line", None)
        if line is not None:
            self._lines.line = None
            line.close()

    # Forks: a connection in use by another thread is simply not the child's.

    def before_fork(self) -> None:
        """Nothing is half done that a child would see."""

    def after_fork(self, *, child: bool) -> None:
        """The child has connections of its own."""
        if child:
            self._reset()

    def _reset(self) -> None:
        self._lines = threading.local()

    def _ask(
        self,
        method: str,
        path: str,
        take: Take[T],
        *,
        body: Sequence[Buffer] = (),
        headers: dict[str, str] | None = None,
    ) -> T:
        until = time.monotonic() + (self._patience_s if self._met else 0.0)
        pause_s = _FIRST_PAUSE_S
        while True:
            kept = getattr(self._lines, "line", None) is not None
            try:
                return self._once(method, path, take, body, headers or {})
            except TimeoutError as error:
                self.hang_up()
                raise Unavailable(
                    f"The server {self.url} did not answer in time.",
                    hint="It may have too much to do; try again.",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self.hang_up()
                if kept:  # it was closed for being idle, most likely: a new one tells
                    continue
                if time.monotonic() >= until:
                    raise away(self.url, error) from error
            except Unavailable as error:
                # Only what says when to come back is worth waiting for.
                if error.code != "overloaded" or time.monotonic() >= until:
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _once(
        self, method: str, path: str, take: Take[T], body: Sequence[Buffer], headers: dict[str, str]
    ) -> T:
        connection = self._line().connection
        size = sum(memoryview(part).nbytes for part in body)
        connection.putrequest(method, self._base + path, skip_accept_encoding=True)
        for name, value in {**self._headers, **headers}.items():
            connection.putheader(name, value)
        if body or method in ("POST", "PUT"):
            connection.putheader("content-length", str(size))
        try:
            if len(body) == 1 and isinstance(body[0], bytes):
                connection.endheaders(body[0])
            else:
                connection.endheaders()
                for part in body:
                    connection.send(memoryview(part).cast("B"))
        except (BrokenPipeError, ConnectionResetError):
            # It may have refused already, and not have waited for the rest.
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self._take(connection, take)
            raise
        return self._take(connection, take)

    def _take(self, connection: http.client.HTTPConnection, take: Take[T]) -> T:
        answer = connection.getresponse()
        try:
            if answer.status >= http.client.MULTIPLE_CHOICES:
                error = self.fail(answer)
                self.hang_up()
                raise error
            taken = take(answer)
        except BaseException:
            answer.close()
            self.hang_up()  # what is left of the answer would be taken for the next one
            raise
        if not answer.isclosed():
            answer.close()
            self.hang_up()
        return taken

    def _line(self) -> "_Line":
        line: _Line | None = getattr(self._lines, "line", None)
        if line is None:
            line = self._lines.line = _Line(self._connect())
        return line

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            import ssl

            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_CONNECT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT_S)
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectionError("it does not answer") from error
        # The next request is not to wait for the other side to say that it has the last one.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(_ANSWER_S)
        return connection


class _Line:
    """A connection that is closed when its thread is gone."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.close = weakref.finalize(self, connection.close)


def decoded(data: bytes, answer: type[T]) -> T:
    """An answer's body in its type. Raises Unavailable for what is none."""
    try:
        return msgspec.msgpack.decode(data, type=answer)
    except msgspec.MsgspecError as error:
        raise Unavailable(
            f"The server's answer is not understood: {error}.",
            hint="Is it a server of this version of Upturn?",
        ) from None


def server_of(url: str, token: str) -> Server:
    """This process's one Server of that address."""
    with _lock:
        known = _servers.get((url, token))
        if known is None:
            known = _servers[url, token] = Server(url, token)
        return known


def new_id() -> str:
    """An id under which something counts once."""
    return secrets.token_hex(16)


_lock = threading.Lock()
_servers: dict[tuple[str, str], Server] = {}
