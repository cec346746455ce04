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

from upturn.core.errors import NotFound, UpturnError
from upturn.deploy.serve.app import ServingApp
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import (
    NoSuchMethod,
    internal_problem,
    problem_body,
    problem_headers,
)
from upturn.deploy.serve.request import Limits
from upturn.deploy.serve.seen import SEEN, observed
from upturn.server.access import mlflow
from upturn.server.access.access import Access
from upturn.server.access.guard import Guard
from upturn.server.access.origin import LOCAL
from upturn.server.api import Api
from upturn.server.events import PATH as EVENTS
from upturn.server.events import Events, described
from upturn.server.feedback import feedback_route
from upturn.server.gate import Gate
from upturn.server.inference import Inference, oip_paths
from upturn.server.later import Later
from upturn.server.pool import Pool
from upturn.server.store_api import StoreApi
from upturn.stores.workspace import Workspace

_PREFIX, _SUFFIX = "/v1/endpoints/", "/predict"
_ROUTE = "/v1/endpoints/{name}/predict"
_TELLING = {  # headers by which somebody says who they are, or for whom they ask
    b"authorization",
    b"cookie",
    b"origin",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-real-ip",
    b"via",
}
_log = logging.getLogger("upturn.serve")


class Application:
    """The whole HTTP API of a workspace."""

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits | None = None,
        *,
        any_host: bool = False,
        public: bool = False,
    ) -> None:
        """`any_host`: who may ask is the network's business. `public`: others can reach it."""
        limits = limits or Limits(deadline_s=workspace.settings.deadline_s)
        self._any_host = any_host
        self._open_to_local = not public and not workspace.settings.demand_tokens
        self.pool = Pool()
        self.serving = ServingApp(workspace, limits)
        self.serving.more_paths.append(oip_paths)
        self._inference = Inference(self.serving, limits, _HANDLERS)
        self._api = Api(workspace, self.pool)
        self.events = Events(workspace, self.pool)
        self.serving.more_described += [self._api.described, described]
        self._store = StoreApi(workspace, self.pool)
        self._mlflow = Later(
            "upturn.adapters.mlflow.app",
            lambda module: module.MlflowApi(workspace, self.pool),
            self.pool,
        )
        access = Access(
            workspace,
            not public,
            anyone="editor" if any_host else None,
            in_thread=self.pool,
        )
        self._guard = Guard(self._admitted, access, in_thread=self.pool)
        self._gate = Gate(self.serving.served)
        self._rest = Starlette(
            routes=[
                feedback_route(self.serving, limits),
                *self.serving.routes(),
            ],
            exception_handlers=_HANDLERS,
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if scope["path"].startswith(mlflow.OF_TASK):
            scope = mlflow.without_task(scope)
        observers = self.serving.observers
        if observers and SEEN not in scope:
            await observed(self, observers, scope, receive, send)
            return
        path: str = scope["path"]
        if (is_predict(path) or self._inference.takes(path)) and (
            self._any_host or (self._open_to_local and _is_plain(scope["headers"]))
        ):  # there is nothing to look up of who asks, and predictions are in a hurry
            await self._admitted(scope, receive, send)
        else:
            await self._guard(scope, receive, send)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if is_predict(path):
            name = unquote(path[len(_PREFIX) : -len(_SUFFIX)])
            if SEEN in scope:
                scope[SEEN].route = _ROUTE
            await self.serving.predict(name, scope, receive, send)
        elif self._inference.takes(path):
            await self._inference(scope, receive, send)
        elif path == EVENTS:
            await self.events(scope, receive, send)
        elif self._store.takes(path):
            await self._store(scope, receive, send)
        elif self._api.takes(path):
            await self._api(scope, receive, send)
        elif mlflow.takes(path):
            await self._mlflow(scope, receive, send)
        else:
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
                self.events.end()
                await asyncio.to_thread(self.pool.close)

    def _lifespan(self, _: Starlette) -> AbstractAsyncContextManager[None]:
        return self.running()


def is_predict(path: str) -> bool:
    """Whether the path is one of predictions, which are on the shortest way."""
    return path.endswith(_SUFFIX) and path.startswith(_PREFIX)


def _is_plain(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request comes by this machine's own names, and says nothing of who sends it.

    A page in a browser can have its own name point here, and could then read every answer.
    """
    for name, value in headers:
        if name == b"host":
            host, colon, port = value.rpartition(b":")
            if (host if colon and port.isdigit() else value) not in LOCAL:
                return False
        elif name in _TELLING:
            return False
    return True


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
    if Inference.takes(path):
        from upturn.adapters.oip.path import error_response

        return error_response(error)
    headers: dict[str, Any] = problem_headers(error)
    return Response(problem_body(error), status_code=error.http_status, headers=headers)


_HANDLERS: dict[Any, Any] = {
    UpturnError: _problem,
    HTTPException: _http_problem,
    Exception: _internal_problem,
}
