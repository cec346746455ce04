"""The ASGI application: predictions on the shortest way, everything else through Starlette."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from upturn.adapters.oip import openapi
from upturn.adapters.oip.path import INFER_ROUTE, OpenInference, error_response
from upturn.core.errors import NotFound, UpturnError
from upturn.deploy.serve.app import ServingApp
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import (
    Forbidden,
    NoSuchMethod,
    internal_problem,
    problem_body,
    problem_headers,
)
from upturn.deploy.serve.request import Limits
from upturn.deploy.serve.seen import SEEN, observed
from upturn.server.api import Api
from upturn.server.feedback import feedback_route
from upturn.server.gate import Gate
from upturn.server.pool import Pool
from upturn.stores.workspace import Workspace

_PREFIX, _SUFFIX = "/v1/endpoints/", "/predict"
_ROUTE = "/v1/endpoints/{name}/predict"
_LOCAL = {b"localhost", b"127.0.0.1", b"[::1]", b"::1"}
_HEALTH = {
    "/healthz",
    "/readyz",
    "/health/live",
    "/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
}
_log = logging.getLogger("upturn.serve")


class Application:
    """The whole HTTP API of a workspace."""

    def __init__(
        self, workspace: Workspace, limits: Limits | None = None, *, any_host: bool = False
    ) -> None:
        limits = limits or Limits(deadline_s=workspace.settings.deadline_s)
        self._any_host = any_host  # who may reach this server is the network's business
        self.serving = ServingApp(workspace, limits)
        self.serving.more_paths.append(openapi.paths)
        self.pool = Pool()
        self._api = Api(workspace, self.pool)
        self.serving.more_described.append(self._api.described)
        self._oip = OpenInference(self.serving, limits)
        self._gate = Gate(self.serving.served)
        self._rest = Starlette(
            routes=[
                feedback_route(self.serving, limits),
                *self.serving.routes(),
                *self._oip.routes(),
            ],
            exception_handlers={
                UpturnError: _problem,
                HTTPException: _http_problem,
                Exception: _internal_problem,
            },
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            observers = self.serving.observers
            if observers and SEEN not in scope:
                await observed(self, observers, scope, receive, send)
                return
            path: str = scope["path"]
            # Probes ask by a pod's own address, and learn no more than how the server is.
            if not (self._any_host or path in _HEALTH or _is_local(scope["headers"])):
                await _response(path, _NOT_LOCAL)(scope, receive, send)
                return
            if path.endswith(_SUFFIX) and path.startswith(_PREFIX):
                name = unquote(path[len(_PREFIX) : -len(_SUFFIX)])
                if observers:
                    scope[SEEN].route = _ROUTE
                await self.serving.predict(name, scope, receive, send)
                return
            if self._oip.takes(path):
                if observers:
                    scope[SEEN].route = INFER_ROUTE
                await self._oip.infer(scope, receive, send)
                return
            if self._api.takes(path):
                await self._api(scope, receive, send)
                return
        await self._rest(scope, receive, send)

    def gate(self, target: bytes) -> bytes | None:
        """What refuses a request for the target at once, if anything does: see Gate."""
        # Who observes requests is told of refused ones, too, and so they take the longer way.
        return None if self.serving.observers else self._gate(target)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Follow the store, and finish on leaving what was begun."""
        running: AbstractAsyncContextManager[None] = self.serving.running()
        async with running:
            try:
                yield
            finally:
                await asyncio.to_thread(self.pool.close)

    def _lifespan(self, _: Starlette) -> AbstractAsyncContextManager[None]:
        return self.running()


_NOT_LOCAL = Forbidden(
    "This server answers to this machine's own names alone.",
    hint="There is no authentication yet. Ask it as http://127.0.0.1 or http://localhost.",
)


def _is_local(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the Host is this machine by name.

    A page in a browser can have its own name point here, and could then read every answer.
    """
    for name, value in headers:
        if name == b"host":
            host, colon, port = value.rpartition(b":")
            return (host if colon and port.isdigit() else value) in _LOCAL
    return True  # HTTP/1.0: no browser


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, UpturnError)
    if (seen := request.scope.get(SEEN)) is not None:
        seen.code = error.code
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s", error, exc_info=error)
    return _response(request.url.path, error)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "")
        return _response(
            request.url.path,
            NoSuchMethod(
                f"{request.method} is no method of {request.url.path[:100]}.",
                hint=f"Use {allow}.",
                allow=allow,
            ),
        )
    return _response(
        request.url.path,
        NotFound(f"There is nothing at {request.url.path[:100]}.", hint="See /openapi.json."),
    )


async def _internal_problem(request: Request, error: Exception) -> Response:
    return _response(request.url.path, internal_problem())


def _response(path: str, error: UpturnError) -> Response:
    if path == "/v2" or path.startswith("/v2/"):
        return error_response(error)
    headers: dict[str, Any] = problem_headers(error)
    return Response(problem_body(error), status_code=error.http_status, headers=headers)
