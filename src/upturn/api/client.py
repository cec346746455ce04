"""Client: operations on this store, or over HTTP on the server that UPTURN_SERVER names."""

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from upturn.api.here import do_here
from upturn.api.operation import Operation, Page, Request
from upturn.core.errors import Conflict, Invalid, NotFound, Unavailable, UpturnError
from upturn.stores.tables import plain
from upturn.stores.workspace import Workspace, open_workspace

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")
_TIMEOUT_S = 60.0
_PACKED = "application/msgpack"  # unlike JSON it has NaN, and bytes
_SAFE = ("GET", "PUT", "DELETE")  # may be asked twice
_BY_STATUS: dict[int, type[UpturnError]] = {
    404: NotFound,
    409: Conflict,
    422: Invalid,
    503: Unavailable,
}


class Client(Protocol):
    """Who does operations: here or elsewhere. Safe to use from several threads."""

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """Do it, and return the answer. Raises UpturnError as the operation does."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...


def open_client(
    workspace: Workspace | None = None, environ: Mapping[str, str] | None = None
) -> Client:
    """The client of the server that UPTURN_SERVER names, with UPTURN_TOKEN; else of this store.

    A workspace that is given is used where no server is named, and stays open.
    """
    environ = os.environ if environ is None else environ
    if url := environ.get("UPTURN_SERVER"):
        return HttpClient(url, environ.get("UPTURN_TOKEN", ""))
    return LocalClient(workspace or open_workspace(), owns=workspace is None)


def everything(client: Client, operation: Operation[Q, Page[A]], request: Q) -> Iterator[A]:
    """The items of all pages of a list, one page at a time."""
    while True:
        page = client.call(operation, request)
        yield from page.items
        if not page.cursor:
            return
        request = msgspec.structs.replace(request, cursor=page.cursor)


class _Closing:
    def close(self) -> None:
        """Let go of what it holds."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


class LocalClient(_Closing):
    """Does operations in this process."""

    def __init__(self, workspace: Workspace, *, owns: bool = False) -> None:
        self.workspace = workspace
        self._owns = owns

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """See Client."""
        return do_here(self.workspace, operation, request)

    def close(self) -> None:
        """See Client."""
        if self._owns:
            self.workspace.close()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on, what it comes over, and its end for other threads."""

    connection: http.client.HTTPConnection
    answer: http.client.HTTPResponse
    sock: socket.socket

    def hang_up(self) -> None:
        """Let whoever reads from it come to the end."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self.answer.close()
        self.connection.close()


class HttpClient(_Closing):
    """Asks a server. Each thread keeps a connection of its own."""

    def __init__(self, url: str, token: str = "", *, timeout_s: float = _TIMEOUT_S) -> None:
        """Raises Invalid for what is no URL of a server."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise Invalid(
                f"{url!r} is no address of a server.", hint="Write it as http://HOST:8600."
            )
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._base = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, port
        self._secure = parts.scheme == "https"
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._headers = {"accept": _PACKED, "user-agent": "upturn"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """See Client. Raises Unavailable when the server can't be reached."""
        fields: dict[str, Any] = {
            name: getattr(request, name) for name in request.__struct_fields__
        }
        path = "/".join(_filled(part, fields) for part in operation.path.split("/"))
        body: bytes | None = None
        headers = self._headers
        if operation.method in ("GET", "DELETE"):
            query = urlencode(list(_query(request, fields)))
            path = f"{path}?{query}" if query else path
        else:
            body = msgspec.msgpack.encode(fields, enc_hook=plain)
            headers = {**headers, "content-type": _PACKED}
        status, kind, data = self.ask(operation.method, path, body, headers)
        if status >= 400:
            raise error_of(status, data)
        if status == 204 or not data:
            return msgspec.convert(None, operation.answers)
        decode = msgspec.msgpack.decode if kind == _PACKED else msgspec.json.decode
        return decode(data, type=operation.answers)

    def ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Status, media type and body of an answer."""
        for attempt in (1, 2):
            connection, fresh = self._connection()
            try:
                connection.request(method, self._base + path, body, dict(headers))
                response = connection.getresponse()
                data = response.read()
                if response.will_close:
                    self._drop()
                return response.status, response.headers.get_content_type(), data
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if attempt == 1 and not fresh and method in _SAFE:
                    continue
                raise self._away(error) from None
        raise AssertionError

    def stream(self, path: str, headers: Mapping[str, str], *, timeout_s: float) -> Stream:
        """An answer that comes as it is made, over a connection of its own."""
        connection = self._connect(timeout_s)
        try:
            connection.request("GET", self._base + path, None, {**self._headers, **headers})
            sock = connection.sock  # the connection forgets it when it is to be closed
            return Stream(connection, connection.getresponse(), sock)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._away(error) from None

    def close(self) -> None:
        """See Client."""
        for connection in list(self._open):
            connection.close()
        self._open.clear()

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None and not _ended(connection.sock):
            return connection, False
        self._drop()
        connection = self._connect(self._timeout_s)
        self._local.connection = connection
        self._open.add(connection)
        return connection, True

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout_s, context=context
        )

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"The server at {self.url} can't be reached: {_reason(error)}.",
            hint="Does it run? UPTURN_SERVER says where it is asked.",
        )

    def _drop(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._open.discard(connection)
            self._local.connection = None


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str = ""
    hint: str = ""
    errors: list[dict[str, Any]] = []


def error_of(status: int, body: bytes) -> UpturnError:
    """The error that the server raised, as the same class where this process knows it."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, ValueError):
        problem = _Problem()
    kind = _known().get(problem.code) or _BY_STATUS.get(status, UpturnError)
    error = kind.__new__(kind)
    fields = {"errors": problem.errors} if problem.errors else {}
    message = problem.detail or f"The server answers with status {status}."
    UpturnError.__init__(error, message, hint=problem.hint, **fields)
    return error


def _known() -> dict[str, type[UpturnError]]:
    """The classes by code; those that have more to be told than others are left out."""
    found: dict[str, type[UpturnError]] = {}
    stack: list[type[UpturnError]] = [UpturnError]
    while stack:
        kind = stack.pop()
        if "code" in vars(kind) and kind.__init__ is UpturnError.__init__:
            found[kind.code] = kind
        stack += kind.__subclasses__()
    return found


def _filled(part: str, fields: dict[str, Any]) -> str:
    if not part.startswith("{"):
        return part
    return quote(str(fields.pop(part[1:-1])), safe="")


def _query(request: Request, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(type(request))}
    for name, value in fields.items():
        if value is None or value == defaults.get(name):
            continue
        if isinstance(value, list | tuple | set | frozenset):
            for each in value:  # pyright: ignore[reportUnknownVariableType]
                yield name, _text(each)
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    built: Any = msgspec.to_builtins(value)
    if isinstance(built, bool):
        return "true" if built else "false"
    if isinstance(built, dict | list):
        return msgspec.json.encode(built).decode()
    return str(built)


def _ended(sock: socket.socket) -> bool:
    """Whether the server has closed a kept connection, or said what nobody asked for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
