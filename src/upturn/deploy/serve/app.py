"""ServingApp: the endpoints of a workspace as an ASGI application's parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upturn.deploy.running import taken_mark
from upturn.deploy.serve.access import AccessLog
from upturn.deploy.serve.metrics import Metrics
from upturn.deploy.serve.overview import Overview
from upturn.deploy.serve.problems import no_endpoint
from upturn.deploy.serve.reload import Reloader
from upturn.deploy.serve.request import Limits
from upturn.deploy.serve.seen import Observer
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:
    from upturn.deploy.serve.asgi import Receive, Scope, Send
    from upturn.deploy.serve.live import Served
    from upturn.deploy.serve.openapi import Described, Paths
    from upturn.deploy.serve.predict import PredictionPath

    Predict = Callable[[str, Scope, Receive, Send], Awaitable[None]]

_DRAIN_S = 5.0
_log = logging.getLogger("upturn.serve")


class ServingApp:
    """Live endpoints: `predict` answers, `routes` describes, `running` keeps them live.

    With several workers each has one of these; they tell each other their `state`.
    """

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self._workspace = workspace
        self._limits = limits
        self._reloader: Reloader | None = None
        self.metrics = Metrics()
        self.served: dict[str, Served] = {}
        self._path: PredictionPath | None = None
        self.predict: Predict = self._predict_first
        self.draining = False  # set by whoever ends this process: nothing new is to be sent here
        self.more_paths: list[Paths] = []  # of other protocols, for /openapi.json
        self.more_described: list[Described] = []  # and of what else this server does
        self.observers: tuple[Observer, ...] = ()  # of every request; usually there is none
        self._access: AccessLog | None = None
        self._overview = Overview(
            self.served,
            self.metrics,
            is_ready=lambda: self.ready,
            unlogged=lambda: self._access.dropped if self._access else 0,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Follow the store's routes; on leaving, finish what was begun and seal the Log."""
        self._reloader = reloader = Reloader(
            self._workspace, self.served, self._limits, self.metrics
        )
        await asyncio.to_thread(self._observe)
        tasks = [asyncio.create_task(reloader.run()), asyncio.create_task(self._overview.run())]
        try:
            yield
        finally:
            self.draining = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._path is not None:
                await self._path.drain(_DRAIN_S)
            reloader.close()
            for served in self.served.values():
                await asyncio.to_thread(served.writer.stop)
            for observer in self.observers:
                await asyncio.to_thread(observer.close)

    def _observe(self) -> None:
        settings = self._workspace.settings
        found: list[Observer] = []
        if settings.access_log:
            try:
                found.append(access := AccessLog(settings.access_log))
                self._access = access
            except OSError as error:  # answers are worth more than lines about them
                _log.warning("There is no access log: %s.", error)
        if settings.traces:
            from upturn.deploy.serve.trace import Tracing

            try:
                found.insert(0, Tracing())  # first, so that lines have the trace's id
            except ImportError as error:
                _log.warning("There are no traces: %s. Install upturn[otel].", error)
        self.observers = tuple(found)

    @property
    def ready(self) -> bool:
        """Whether every route of the start has been looked at, and the end is not near."""
        loaded = self._reloader is not None and self._reloader.ready.is_set()
        return loaded and not self.draining

    async def loaded(self) -> None:
        """Wait until every route of the start has been looked at."""
        assert self._reloader is not None
        await self._reloader.ready.wait()

    async def path(self) -> PredictionPath:
        """What answers predictions; with all that it needs, it is imported when it is used."""
        if self._path is None:
            # While there is no endpoint nothing of it is in memory: a server may do other things.
            await asyncio.to_thread(import_module, "upturn.deploy.serve.predict")
            from upturn.deploy.serve.predict import PredictionPath

            if self._path is None:
                self._path = PredictionPath(self.served, self._limits, self.metrics)
                self.predict = self._path
        return self._path

    async def _predict_first(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self.path())(name, scope, receive, send)

    def state(self) -> bytes:
        """What this worker has counted and how it is, for the other workers' `take_states`."""
        return self._overview.encoded()

    def take_states(self, others: Sequence[bytes]) -> None:
        """The last states of the other workers, and of those that are gone: each list is whole."""
        self._overview.take(others)

    def find(self, name: str) -> Served:
        """The endpoint of that name. Raises NotFound."""
        served = self.served.get(name)
        if served is None:
            raise no_endpoint(name, self.served)
        return served

    def routes(self) -> list[Route]:
        """What there is to read: the endpoints, their description, what was counted, and health."""
        return [
            Route("/v1/endpoints", self._list),
            Route("/v1/endpoints/{name}", self._page),
            Route("/openapi.json", self._openapi),
            Route("/metrics", self._metrics),
            *(Route(path, self._is_live) for path in ("/health/live", "/healthz")),
            *(Route(path, self._is_ready) for path in ("/health/ready", "/readyz")),
        ]

    async def _list(self, _: Request) -> Response:
        from upturn.deploy.serve.describe import describe

        whole = self._overview.whole()
        return json_response({"endpoints": [describe(one, whole) for one in self._sorted()]})

    async def _page(self, request: Request) -> Response:
        from upturn.deploy.serve.describe import describe

        served = self.find(request.path_params["name"])
        return json_response(describe(served, self._overview.whole()))

    async def _openapi(self, _: Request) -> Response:
        more = [await asyncio.to_thread(each) for each in self.more_described]
        make = await asyncio.to_thread(_load_openapi)
        return json_response(make(self._sorted(), self.more_paths, more))

    async def _metrics(self, request: Request) -> Response:
        from upturn.deploy.serve.prometheus import metrics_text

        # In a thread: the first scrape imports a library, which takes longer than answers do.
        whole = self._overview.lasting()
        accept = request.headers.get("accept", "")
        text, kind = await asyncio.to_thread(metrics_text, whole, accept)
        return Response(text, media_type=kind)

    async def _is_live(self, _: Request) -> Response:
        return json_response({"status": "live"})

    async def _is_ready(self, request: Request) -> Response:
        if not self.ready:
            status = "draining" if self.draining else "loading"
            return json_response({"status": status}, status=503)
        states = {one.name: "live" if one.live else "not served" for one in self._sorted()}
        # Names are for those who have said who they are.
        told = {} if request.scope.get("upturn.terse") else {"endpoints": states}
        # A built folder serves one thing: without it there is nothing that traffic could want here.
        if self._workspace.settings.bundle is not None and "not served" in states.values():
            return json_response({"status": "not served", **told}, status=503)
        return json_response({"status": "ready", "taken": self._taken(), **told})

    def _taken(self) -> list[str]:
        """Marks of what is served or refused: who knows a route's name can tell whether it is."""
        taken: list[str] = []
        for one in self._sorted():
            if one.live is not None:
                taken.append(taken_mark(one.name, one.live.route.revision))
            if one.refused is not None:
                taken.append(taken_mark(one.name, one.refused.revision, refused=True))
        return taken

    def _sorted(self) -> list[Served]:
        return [self.served[name] for name in sorted(self.served)]


def _load_openapi() -> Callable[..., dict[str, Any]]:
    from upturn.deploy.serve.openapi import openapi

    return openapi


def json_response(value: Any, *, status: int = 200) -> Response:
    """The value as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
