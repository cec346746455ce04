"""ServingApp: the endpoints of a workspace as an ASGI application's parts."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upturn.deploy.serve.describe import describe, openapi
from upturn.deploy.serve.live import Served
from upturn.deploy.serve.predict import Limits, PredictionPath, no_endpoint
from upturn.deploy.serve.reload import Reloader
from upturn.stores.workspace import Workspace

_DRAIN_S = 5.0


class ServingApp:
    """Live endpoints: `predict` answers, `routes` describes, `running` keeps them live."""

    def __init__(self, workspace: Workspace, limits: Limits | None = None) -> None:
        self._workspace = workspace
        self._limits = limits or Limits()
        self._reloader: Reloader | None = None
        self.served: dict[str, Served] = {}
        self.predict = PredictionPath(self.served, self._limits)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Follow the store's routes; on leaving, finish what was begun and seal the Log."""
        self._reloader = reloader = Reloader(self._workspace, self.served, self._limits)
        following = asyncio.create_task(reloader.run())
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await self.predict.drain(_DRAIN_S)
            reloader.close()
            for served in self.served.values():
                await asyncio.to_thread(served.writer.stop)

    @property
    def ready(self) -> bool:
        """Whether every route that there was at the start has been looked at."""
        return self._reloader is not None and self._reloader.ready.is_set()

    def find(self, name: str) -> Served:
        """The endpoint of that name. Raises NotFound."""
        served = self.served.get(name)
        if served is None:
            raise no_endpoint(name, self.served)
        return served

    def routes(self) -> list[Route]:
        """What there is to read: the endpoints, each one's page, their description, and health."""
        return [
            Route("/v1/endpoints", self._list),
            Route("/v1/endpoints/{name}", self._page),
            Route("/openapi.json", self._openapi),
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
        ]

    async def _list(self, _: Request) -> Response:
        return json_response({"endpoints": [describe(one) for one in self._sorted()]})

    async def _page(self, request: Request) -> Response:
        return json_response(describe(self.find(request.path_params["name"])))

    async def _openapi(self, _: Request) -> Response:
        return json_response(openapi(self._sorted()))

    async def _live(self, _: Request) -> Response:
        return json_response({"status": "live"})

    async def _ready(self, _: Request) -> Response:
        if not self.ready:
            return json_response({"status": "loading"}, status=503)
        states = {one.name: "live" if one.live else "not served" for one in self._sorted()}
        return json_response({"status": "ready", "endpoints": states})

    def _sorted(self) -> list[Served]:
        return [self.served[name] for name in sorted(self.served)]


def json_response(value: Any, *, status: int = 200) -> Response:
    """The value as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
