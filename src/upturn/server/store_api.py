"""StoreApi: the store's calls and blobs as HTTP, for clients whose store is this server.

Nothing that comes in is unpickled or run: records are checked to their last field, and blobs are
bytes that have to be those of their digest.
"""

import asyncio
import re
import shutil
from collections import deque
from importlib.metadata import version
from typing import Any

from blake3 import blake3

from upturn.api import store
from upturn.api.operation import Ask, Asker
from upturn.api.store_access import refuse_below, refuse_narrow
from upturn.api.store_blobs import may_read, note_brought
from upturn.core.blobstore import BlobWriter
from upturn.core.errors import Invalid, NotFound, Unavailable, UpturnError
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import (
    BadRequest,
    NoSuchMethod,
    internal_problem,
    problem_headers,
)
from upturn.deploy.serve.request import read_body
from upturn.server.pool import InThread
from upturn.stores.disk import digest_of
from upturn.stores.migrate import SCHEMA
from upturn.stores.remote import wire
from upturn.stores.remote.failures import other_schema
from upturn.stores.workspace import Workspace

_CALL_BYTES = 64 * 2**20  # of records in one call
_IN_MEMORY = 2**20  # a blob up to this size is not put into a file first
_PART = 256 * 1024
_ROOM_BYTES = 256 * 2**20  # left free on the disk, whatever is uploaded
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOBS = wire.PREFIX + "/blobs/"
_SWEEP = wire.PREFIX + "/blobs.sweep"


class StoreApi:
    """What answers below `/api/v1/store`: an ASGI application."""

    def __init__(self, workspace: Workspace, in_thread: InThread = asyncio.to_thread) -> None:
        self._workspace = workspace
        self._in_thread = in_thread

    def takes(self, path: str) -> bool:
        """Whether the path is one of the store's."""
        return path == wire.PREFIX or path.startswith(wire.PREFIX + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ask = Ask(self._workspace, scope.get("upturn.asker") or Asker(who()), utcnow())
        try:
            await self._answer(ask, scope, receive, send)
        except UpturnError as error:
            await _send(send, wire.pack_problem(error), error.http_status, problem_headers(error))
        except ConnectionError:
            return  # the client is gone
        except Exception:
            error = internal_problem()
            await _send(send, wire.pack_problem(error), error.http_status)
            raise

    async def _answer(self, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        method: str = scope["method"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path == wire.PREFIX:
            _refuse_other(method, "GET")
            greeting = wire.Greeting(schema=SCHEMA, version=version("upturn"), role=ask.asker.role)
            await _send(send, wire.pack(greeting))
            return
        _refuse_schema(headers)
        if path == _SWEEP:
            _refuse_other(method, "POST")
            _check_kind(headers, wire.BYTES)
            await self._sweep(ask, headers, receive, send)
        elif path.startswith(_BLOBS):
            digest = path.removeprefix(_BLOBS)
            if not _DIGEST.fullmatch(digest):
                raise NotFound(f"{digest[:100]!r} is no digest.")
            if method == "PUT":
                _check_kind(headers, wire.BYTES)
                await self._put_blob(ask, digest, headers, receive, send)
            else:
                _refuse_other(method, "GET")
                await self._get_blob(ask, digest, send)
        else:
            _refuse_other(method, "POST")
            _check_kind(headers, wire.PACKED)
            body = await read_body(receive, _CALL_BYTES)
            name = path.removeprefix(wire.PREFIX + "/")
            await _send(send, await self._in_thread(store.call, ask, name, body))

    # Blobs

    async def _get_blob(self, ask: Ask, digest: str, send: Send) -> None:
        view: memoryview = await self._in_thread(_get, ask, digest)
        headers = {"content-type": wire.BYTES, "content-length": str(view.nbytes)}
        await send(_start(200, headers))
        for begin in range(0, view.nbytes, _PART):
            part = bytes(view[begin : begin + _PART])
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _put_blob(
        self, ask: Ask, digest: str, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        refuse_below(ask.asker, "editor", "store artifacts")
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            raise BadRequest("The request does not say how long it is.")
        sync = headers.get(wire.SYNC_HEADER.encode()) == b"1"
        if int(length) > _IN_MEMORY:
            await self._put_large(digest, int(length), receive, sync=sync)
        else:
            data = await read_body(receive, _IN_MEMORY)
            await self._in_thread(self._store, digest, data, sync)
        await self._in_thread(note_brought, ask, digest)
        await _send(send, b"", 204)

    def _store(self, digest: str, data: bytes, sync: bool) -> None:
        _verify(digest, digest_of([memoryview(data)]))
        self._workspace.blobs.put([data], sync=sync)

    async def _put_large(self, digest: str, size: int, receive: Receive, *, sync: bool) -> None:
        """As it comes: memory stays small, and a client that dies leaves nothing."""
        upload = await self._in_thread(self._upload, digest, size)
        try:
            waiting: deque[bytes] = deque()
            held = 0
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                waiting.append(message.get("body", b""))
                held += len(waiting[-1])
                more = message.get("more_body", False)
                if held >= _IN_MEMORY or not more:
                    await self._in_thread(upload.write, b"".join(waiting))
                    waiting.clear()
                    held = 0
            await self._in_thread(upload.finish, sync)
        except BaseException:
            upload.abandon()
            raise

    def _upload(self, digest: str, size: int) -> "_Upload":
        home = self._workspace.settings.home
        if shutil.disk_usage(home).free < size + _ROOM_BYTES:
            raise Unavailable(
                f"The server's disk has no room for {size:,} bytes.",
                hint="Make room there (upturn gc), then try again.",
            )
        return _Upload(digest, self._workspace.blobs.writing())

    async def _sweep(
        self, ask: Ask, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Remove blobs as their digests come, one by one; '1' for each that went, '0' otherwise."""
        refuse_below(ask.asker, "admin", "remove artifacts")
        refuse_narrow(ask.asker, "artifacts")
        try:
            unused_since = float(headers.get(b"x-upturn-unused-since", b""))
        except ValueError:
            raise BadRequest("It is not said since when what is removed is unused.") from None
        await self._in_thread(store.note_sweep, ask)
        waiting: deque[str] = deque()
        swept = self._workspace.blobs.sweep(_taken(waiting), unused_since=unused_since)
        started = False
        read = b""
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                read += message.get("body", b"")
                while len(read) >= 64:
                    waiting.append(_digest(read[:64]))
                    read = read[64:]
                    _, gone = await self._in_thread(next, swept)
                    if not started:
                        await send(_start(200, {"content-type": wire.BYTES}))
                        started = True
                    part = b"1" if gone else b"0"
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if not message.get("more_body", False):
                    break
        except UpturnError:
            if not started:
                raise
        finally:
            await self._in_thread(_close, swept)
        if not started:
            await send(_start(200, {"content-type": wire.BYTES}))
        await send({"type": "http.response.body", "body": b""})


def _get(ask: Ask, digest: str) -> memoryview:
    if not may_read(ask, digest):
        raise NotFound(f"No blob {digest!r}.")  # or none that is theirs: both look the same
    return ask.workspace.blobs.get(digest)


def _taken(waiting: "deque[str]") -> Any:
    while True:
        yield waiting.popleft()


def _close(swept: Any) -> None:
    swept.close()


def _digest(text: bytes) -> str:
    digest = text.decode("ascii", "replace")
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"{digest!r} is no digest.")
    return digest


class _Upload:
    """A blob that is coming, which has to be that of its digest."""

    def __init__(self, digest: str, writer: BlobWriter) -> None:
        self._digest = digest
        self._hasher = blake3()
        self._writer = writer

    def write(self, part: bytes) -> None:
        """Add a part."""
        self._hasher.update(part)
        self._writer.write(part)

    def finish(self, sync: bool) -> None:
        """Store it. Raises Invalid when it is another blob."""
        _verify(self._digest, self._hasher.hexdigest())
        self._writer.finish(sync=sync)

    def abandon(self) -> None:
        """Forget it."""
        self._writer.abandon()


def _verify(digest: str, found: str) -> None:
    if found != digest:
        raise Invalid(
            f"What came is not the blob {digest}.",
            hint="Something in between changed it, or cut it short. Send it again.",
        )


def _refuse_schema(headers: dict[bytes, bytes]) -> None:
    said = headers.get(wire.SCHEMA_HEADER.encode(), b"").decode("latin-1")
    if said and said != str(SCHEMA):
        raise other_schema(SCHEMA, version("upturn"))


def _refuse_other(method: str, only: str) -> None:
    if method != only:
        raise NoSuchMethod(f"{method} is no method of this.", hint=f"Use {only}.", allow=only)


def _check_kind(headers: dict[bytes, bytes], kind: str) -> None:
    """Raise BadRequest for another type of body: a page in a browser can't send this one."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip() != kind.encode():
        raise BadRequest("The body is of another type.", hint=f"Send Content-Type: {kind}")


def _start(status: int, headers: dict[str, str]) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _send(
    send: Send, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    headers = {**(headers or {}), "content-type": wire.PACKED}
    if body:
        headers["content-length"] = str(len(body))
    await send(_start(status, headers))
    await send({"type": "http.response.body", "body": body})
