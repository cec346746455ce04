"""Inference: the Open Inference Protocol below /v2, imported when somebody speaks it."""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route

from upturn.deploy.serve.app import ServingApp
from upturn.deploy.serve.asgi import App, Receive, Scope, Send
from upturn.deploy.serve.request import Limits
from upturn.deploy.serve.seen import SEEN

if TYPE_CHECKING:
    from upturn.adapters.oip.path import OpenInference

_PREFIX = "/v2/"


class Inference:
    """An ASGI application for what is below /v2. `handlers` make answers of exceptions."""

    def __init__(self, serving: ServingApp, limits: Limits, handlers: dict[Any, Any]) -> None:
        self._serving = serving
        self._limits = limits
        self._handlers = handlers
        self._oip: OpenInference | None = None
        self._rest: App | None = None

    @staticmethod
    def takes(path: str) -> bool:
        """Whether the path is one of the protocol's."""
        return path.startswith(_PREFIX) or path == _PREFIX[:-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        oip = self._oip or await self._open()
        if not oip.takes(scope["path"]):
            assert self._rest is not None
            await self._rest(scope, receive, send)
            return
        if SEEN in scope:
            from upturn.adapters.oip.path import INFER_ROUTE

            scope[SEEN].route = INFER_ROUTE
        await oip.infer(scope, receive, send)

    async def _open(self) -> "OpenInference":
        await self._serving.path()
        await asyncio.to_thread(import_module, "upturn.adapters.oip.path")
        from upturn.adapters.oip.path import OpenInference

        if self._oip is None:
            self._oip = OpenInference(self._serving, self._limits)
            routes: list[Route] = self._oip.routes()
            self._rest = Starlette(routes=routes, exception_handlers=self._handlers)
        return self._oip


def oip_paths(served: Any) -> Any:
    """The protocol's addresses of these endpoints, for the OpenAPI description."""
    from upturn.adapters.oip.openapi import paths

    return paths(served) if served else {}
