"""MlflowApi: the ASGI application that answers MLflow's clients."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from upturn.adapters.mlflow import proxy
from upturn.adapters.mlflow.about import about, about_new
from upturn.adapters.mlflow.call import ROLES, Call, Role, Route, call_of
from upturn.adapters.mlflow.errors import (
    FORBIDDEN,
    INTERNAL,
    NO_ENDPOINT,
    NOT_IMPLEMENTED,
    MlflowError,
    translated,
)
from upturn.adapters.mlflow.places import Download
from upturn.adapters.mlflow.proxy import InThread
from upturn.adapters.mlflow.reading import check_content_type, from_body, from_query
from upturn.adapters.mlflow.routes import routes
from upturn.core.errors import UpturnError
from upturn.core.time import utcnow
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.stores.workspace import Workspace

R = TypeVar("R")
_PREFIXES = {
    f"/{api}/{version}.0/mlflow/": version for api in ("api", "ajax-api") for version in (2, 3)
}
_STARTS = tuple({prefix.split("mlflow/")[0] + "mlflow" for prefix in _PREFIXES})
_ROOT = {"/get-artifact": "get-artifact"}  # what MLflow has outside its API
_OTLP = "/v1/traces"  # where clients first try to leave spans
_NO_OTLP = "REST OTLP span logging is not supported: spans are kept as files of their traces."
_OUTSIDE = (*_ROOT, _OTLP, "/graphql")
_ABOUT = "upturn.path"  # where the audit log looks for what a request was about
_BODY_MOST = 64 * 1024 * 1024
_DROPPED_MOST = 2 * 1024 * 1024 * 1024
_log = logging.getLogger("upturn.mlflow")


class MlflowApi:
    """MLflow's REST API of a workspace. `in_thread` runs what touches the store."""

    def __init__(self, workspace: Workspace, in_thread: InThread | None = None) -> None:
        self._workspace = workspace
        self._in_thread: InThread = in_thread or _in_thread
        self._table = _Table(routes())

    def takes(self, path: str) -> bool:
        """Whether the path is MLflow's to answer, be it with an error."""
        return path.startswith(_STARTS) or path in _PLAIN or path in _OUTSIDE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = call_of(
            self._workspace, scope.get("upturn.asker"), utcnow(), scope.get("upturn.task")
        )
        started, receive = _Started(send), _Heard(receive)
        try:
            answer = await self._answer(call, scope, receive)
            if isinstance(answer, Download):
                await proxy.send_file(call, answer, started, self._in_thread)
                return
            status, body = 200, answer
        except MlflowError as error:
            status, body = error.status, error.body
        except UpturnError as error:
            if error.http_status >= 500:
                _log.error("%s", error, exc_info=error)
            refused = translated(error)
            status, body = refused.status, refused.body
        except Exception:  # noqa: BLE001 (the one place that reports what nobody foresaw)
            _log.exception("A request of an MLflow client could not be answered.")
            refused = MlflowError("The server could not answer; its log says why.", INTERNAL)
            status, body = refused.status, refused.body
        await receive.drop()
        if started.begun:  # the file turned out to be damaged: the client sees that it is cut
            raise RuntimeError("A file could not be sent to its end.")
        await _send(send, status, body)

    async def _answer(self, call: Call, scope: Scope, receive: Receive) -> bytes | Download:
        path: str = scope["path"]
        if path in _PLAIN:
            return _PLAIN[path]
        method: str = scope["method"]
        if path == _OTLP and method == "POST":  # in the words that have a client keep files
            raise MlflowError(_NO_OTLP, NOT_IMPLEMENTED)
        if proxy.takes(path):
            refuse_role(call, "viewer" if method == "GET" else "editor")
            return await proxy.answer(call, scope, receive, self._in_thread)
        route, fields = self._table.find(method, path, scope.get("raw_path"))
        refuse_role(call, route.role)
        query: bytes = scope["query_string"]
        body = b""
        if method != "GET" or not query:
            body = await whole_body(receive)
            if method in ("POST", "PUT"):
                check_content_type(scope["headers"])
        return await self._in_thread(_do, call, scope, route, query, body, fields)


def _do(
    call: Call, scope: Scope, route: Route, query: bytes, body: bytes, fields: dict[str, str]
) -> bytes | Download:
    if query and route.method in ("GET", "DELETE") and not body:
        asked = from_query(route.asks, query, fields)
    else:
        asked = from_body(route.asks, body, fields)
    if route.method != "GET" and (thing := about(route.path, asked)):
        scope[_ABOUT] = thing  # be it refused or done
    answer = route.do(call, asked)
    if route.method == "POST" and isinstance(answer, dict):
        made: dict[str, Any] = answer
        if thing := about_new(route.path, made):
            scope[_ABOUT] = thing
    if isinstance(answer, Download):
        return answer
    return b"{}" if answer is None else msgspec.json.encode(answer)


def refuse_role(call: Call, needed: Role) -> None:
    """Raises MlflowError when who asks may not do what takes that role."""
    if ROLES.index(call.asker.role) < ROLES.index(needed):
        raise MlflowError(
            f"Permission denied: this takes the role {needed}, and {call.asker.name} has "
            f"{call.asker.role}.",
            FORBIDDEN,
        )


async def whole_body(receive: Receive, most: int = _BODY_MOST) -> bytes:
    """The body of a request. Raises MlflowError for one that is too large."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MlflowError("The client left before the request was complete.")
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > most:
            raise MlflowError(f"A request's body can have at most {most} bytes.")
        parts.append(part)
    return b"".join(parts)


def _in_thread(function: Callable[..., R], /, *args: Any) -> Awaitable[R]:
    return asyncio.to_thread(function, *args)


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Started:
    """Sends, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.begun = True
        await self._send(message)


class _Heard:
    """Receives, and knows whether the whole request has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message

    async def drop(self) -> None:
        """Let what comes yet come: who is cut off while they send hear no reason."""
        dropped = 0
        while not self._complete and dropped < _DROPPED_MOST:
            dropped += len((await self()).get("body", b""))


class _Table:
    """The routes, found by method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str, int], Route] = {}
        self._patterns: dict[tuple[str, int, int], list[tuple[list[str], Route]]] = {}
        for route in routes:
            parts = route.path.strip("/").split("/")
            for version in (route.version,) if route.version else (2, 3):
                if "{" in route.path:
                    key = (route.method, len(parts), version)
                    self._patterns.setdefault(key, []).append((parts, route))
                else:
                    self._exact[route.method, "/".join(parts), version] = route

    def find(self, method: str, path: str, raw: bytes | None) -> tuple[Route, dict[str, str]]:
        """The route of a path, and what its fields are. Raises MlflowError when there is none."""
        if path in _ROOT and method == "GET":
            return self._exact[method, _ROOT[path], 2], {}
        prefix = next((start for start in _PREFIXES if path.startswith(start)), None)
        if prefix is None:
            raise _no_endpoint(method, path)
        version, rest = _PREFIXES[prefix], path[len(prefix) :].rstrip("/")
        route = self._exact.get((method, rest, version))
        if route is not None:
            return route, {}
        # A name may have a slash in it: parts are told apart before they are decoded.
        encoded = raw.decode("latin-1").split("?")[0] if raw else path
        parts = encoded[encoded.find("mlflow/") + len("mlflow/") :].rstrip("/").split("/")
        for pattern, route in self._patterns.get((method, len(parts), version), ()):
            fields = _matched(pattern, parts)
            if fields is not None:
                return route, fields
        raise _no_endpoint(method, path)


def _matched(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    for expected, part in zip(pattern, parts, strict=True):
        if expected.startswith("{"):
            fields[expected[1:-1]] = unquote(part)
        elif expected != part:
            return None
    return fields


def _no_endpoint(method: str, path: str) -> MlflowError:
    return MlflowError(f"There is no endpoint {method} {path[:200]}.", NO_ENDPOINT)


_INFO = msgspec.json.encode(
    {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }
)
_PLAIN = {
    "/health": b"OK",
    "/version": b"3.17.2",  # whose protocol this is
    "/api/3.0/mlflow/server-info": _INFO,
    "/ajax-api/3.0/mlflow/server-info": _INFO,
}
