"""MLflow's artifact proxy: files that clients send and fetch, streamed to and from the store."""

import asyncio
import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import (
    FORBIDDEN,
    NO_ENDPOINT,
    NOT_IMPLEMENTED,
    MlflowError,
    missing_value,
)
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import (
    OF_VERSION,
    Download,
    Place,
    download,
    listed,
    media_of,
    place_of,
)
from upturn.adapters.mlflow.reading import query_items
from upturn.core.blobstore import BlobWriter
from upturn.core.time import micros
from upturn.core.tracking import StoredFile
from upturn.deploy.serve.asgi import Receive, Scope, Send

R = TypeVar("R")
PART_BYTES = 1024 * 1024  # what is written or read in one go
_NO_MULTIPART = "Multipart upload is not supported for the current artifact repository"
_NO_PRESIGNED = "Multipart download is not supported for the current artifact repository"
_UPLOAD_MOST = 10 * 1024 * 1024  # of what a browser sends
_FILE = re.compile(
    r"/(?:ajax-)?api/2\.0/mlflow-artifacts/(artifacts|mpu|presigned)(?:/(.*))?", re.DOTALL
)
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # what needs no quotes in a header
_UPLOADS = ("/ajax-api/2.0/mlflow/upload-artifact", "/api/2.0/mlflow/upload-artifact")


class InThread(Protocol):
    """Runs what would hold up the event loop somewhere else."""

    def __call__(self, function: Callable[..., R], /, *args: Any) -> Awaitable[R]:
        """Run it, and give what it returns."""
        ...


def takes(path: str) -> bool:
    """Whether the path is the proxy's."""
    return _FILE.fullmatch(path) is not None or path in _UPLOADS


async def answer(
    call: Call, scope: Scope, receive: Receive, in_thread: InThread
) -> bytes | Download:
    """What the proxy answers. Raises MlflowError."""
    method, path = scope["method"], scope["path"]
    query = dict(query_items(scope["query_string"]))
    if path in _UPLOADS and method == "POST":
        return await _from_browser(call, query, receive, in_thread)
    found = _FILE.fullmatch(path)
    kind, rest = (found[1], found[2] or "") if found else ("", "")
    if kind == "mpu" and method == "POST":
        raise MlflowError(_NO_MULTIPART, NOT_IMPLEMENTED)
    if kind == "presigned" and method == "GET":
        raise MlflowError(_NO_PRESIGNED, NOT_IMPLEMENTED)
    if kind != "artifacts" or method not in ("GET", "PUT", "DELETE"):
        raise MlflowError(f"There is no endpoint {method} {path[:200]}.", NO_ENDPOINT)
    if method == "GET" and not rest:
        return await in_thread(_list, call, query.get("path", ""))
    inside = plain_path(rest)
    place = await in_thread(place_of, call, inside)
    if method == "GET":
        return await in_thread(download, call, place)
    if place.owner.startswith(OF_VERSION):
        raise MlflowError("The files of a registered version never change.", FORBIDDEN)
    if method == "DELETE":
        if not inside:
            raise missing_value("path")
        await in_thread(_remove, call, place)
        return b"{}"
    if not place.path:
        raise MlflowError("Invalid path")
    await _take(call, place, receive, in_thread)
    return b"{}"


async def send_file(call: Call, file: Download, send: Send, in_thread: InThread) -> None:
    """Send a file, a part at a time: the next one is read while one is sent."""
    reader = await in_thread(call.workspace.blobs.reading, file.digest)
    try:
        size = reader.size_bytes
        part = await in_thread(reader.read, PART_BYTES)
        headers = [
            (b"content-type", media_of(file.name).encode()),
            (b"content-length", str(size).encode()),
            (b"content-disposition", disposition(file.name)),
            (b"x-content-type-options", b"nosniff"),  # nor shown as a page of this server's
            (b"content-security-policy", b"sandbox; default-src 'none'"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent = len(part)
        while sent < size:
            coming = asyncio.ensure_future(in_thread(reader.read, PART_BYTES))
            try:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            finally:
                part = await coming
            sent += len(part)
        await send({"type": "http.response.body", "body": part, "more_body": False})
    finally:
        reader.close()


def disposition(name: str) -> bytes:
    """The header that makes a browser keep a file rather than show it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^ !#-\[\]-~]", "", plain) or "download"
    quoted = plain if _TOKEN.fullmatch(plain) else f'"{plain}"'
    text = f"attachment; filename={quoted}"
    if plain != name:
        text += f"; filename*=UTF-8''{quote(name, safe='')}"
    return text.encode("ascii")


def _list(call: Call, given: str) -> bytes:
    files = listed(call, place_of(call, plain_path(given)))
    named = [{**file, "path": file["path"].rpartition("/")[2]} for file in files]
    return msgspec.json.encode({"files": named} if named else {})


def _remove(call: Call, place: Place) -> None:
    call.workspace.tracking.remove_files(place.owner, under=place.path)


async def _from_browser(
    call: Call, query: dict[str, str], receive: Receive, in_thread: InThread
) -> bytes:
    from upturn.adapters.mlflow.nouns import get_run
    from upturn.adapters.mlflow.places import place_in_run

    run, path = query.get("run_uuid", ""), query.get("path", "")
    if not run:
        raise MlflowError("Request must specify run_uuid.")
    if not path:
        raise MlflowError("Request must specify path.")
    inside = plain_path(path)
    row = await in_thread(get_run, call, run)
    place = await in_thread(place_in_run, call, row, inside)
    if place is None or not inside:
        raise MlflowError("Invalid path")
    await _take(call, place, receive, in_thread, most=_UPLOAD_MOST)
    return b""


async def _take(
    call: Call, place: Place, receive: Receive, in_thread: InThread, most: int | None = None
) -> None:
    """Store a request's body at a place. When the client leaves before its end, nothing is there.

    While one part is written, the next one comes.
    """
    writer = await in_thread(call.workspace.blobs.writing)
    writing: Awaitable[None] | None = None
    size = 0
    try:
        buffer = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MlflowError("The client left before the file was complete.")
            buffer += message.get("body", b"")
            more = message.get("more_body", False)
            if len(buffer) >= PART_BYTES or not more:
                size += len(buffer)
                if most is not None and size > most:
                    raise MlflowError("Artifact size is too large. Max size is 10MB.")
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(in_thread(writer.write, buffer))
                buffer = bytearray()
        if writing is not None:
            await writing
        if most is not None and not size:
            raise MlflowError("Request must specify data.")
        await in_thread(_keep, call, place, writer, size)
    except BaseException:
        if writing is not None:
            await asyncio.wait([writing])  # pyright: ignore[reportArgumentType]
        writer.abandon()
        raise


def _keep(call: Call, place: Place, writer: BlobWriter, size: int) -> None:
    digest = writer.finish()
    call.workspace.tracking.put_file(
        StoredFile(
            run=place.owner,
            path=place.path,
            digest=digest,
            size_bytes=size,
            media=media_of(place.path),
            at=micros(call.now),
        )
    )
