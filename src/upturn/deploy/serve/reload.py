"""Reload: follows the store's routes, loads what they name, and swaps it in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING

from upturn.core.errors import Unavailable, UpturnError
from upturn.core.records import Endpoint, Route, Version
from upturn.core.time import utcnow
from upturn.deploy.serve.metrics import Metrics
from upturn.deploy.serve.problems import reason
from upturn.deploy.serve.request import Limits
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:
    from upturn.deploy.serve.live import Live, Served
    from upturn.deploy.serve.worker import ModelWorker

POLL_S = 0.1
_EARLIER = 10  # how many revisions back a start looks for one that can be served
_log = logging.getLogger("upturn.serve")


class Reloader:
    """Keeps `served` as the store says. Runs on the event loop; models load in another thread."""

    def __init__(
        self, workspace: Workspace, served: dict[str, Served], limits: Limits, metrics: Metrics
    ) -> None:
        self._workspace = workspace
        self._served = served
        self._metrics = metrics
        self._limits = limits
        self._workers: dict[tuple[str, int], ModelWorker] = {}
        self._complained_at = -1e9
        self._loaded = False  # something, since memory was last put in order
        self._modules = 0  # how many there were when objects were last left out
        self.ready = asyncio.Event()  # set once every route that there was has been looked at

    async def run(self) -> None:
        """Follow the store until cancelled."""
        stamp: int | None = None
        while True:
            try:
                latest = self._workspace.meta.stamp()
                if latest != stamp:
                    await self.refresh()
                    stamp = latest  # of before the look: what came meanwhile is looked at next time
                    self.ready.set()
            except Exception as error:  # noqa: BLE001
                # What is served stays served; a store that is back is followed again.
                if monotonic() - self._complained_at > 60:
                    self._complained_at = monotonic()
                    _log.exception("The store could not be read: %s", reason(error))
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Look at every endpoint once, and take what is new."""
        endpoints, routes = await asyncio.to_thread(self._read)
        for endpoint in endpoints:
            route = routes.get(endpoint.name)
            served = self._served.get(endpoint.name)
            if served is None:
                served = await asyncio.to_thread(self._open, endpoint.name)
                self._served[endpoint.name] = served
            seen = (endpoint.seq, route.revision if route else 0)
            if route is not None and seen != served.seen:
                await self._take(served, endpoint, route)
            served.seen = seen
        dropped = self._drop_unused()
        if self._loaded or dropped:
            self._loaded = False
            self._tidy()

    def close(self) -> None:
        """Let the workers' threads end."""
        for worker in self._workers.values():
            worker.close()

    async def _take(self, served: Served, endpoint: Endpoint, route: Route) -> None:
        from upturn.deploy.serve.live import RefusedRoute

        try:
            served.live = await self._load(endpoint, route)
            served.refused = None
        except UpturnError as error:
            if type(error) is Unavailable:
                raise  # the store is busy: look again at the next poll
            served.refused = RefusedRoute(route.revision, str(error), utcnow())
            cause = error.__cause__
            _log.error(
                "Route %s/%d was refused: %s",
                endpoint.name,
                route.revision,
                error,
                # The frames of a user's model help its author; of our own errors, the words do.
                exc_info=None if isinstance(cause, UpturnError) else cause,
            )
            if served.live is None:
                served.live = await self._load_earlier(endpoint, route)

    async def _load_earlier(self, endpoint: Endpoint, refused: Route) -> Live | None:
        """What a server that ran all the time would still serve, now that it was started again."""
        history = await asyncio.to_thread(
            self._workspace.meta.select, Route, newest_first=True, endpoint=endpoint.name
        )
        for route in [one for one in history if one.revision < refused.revision][:_EARLIER]:
            with contextlib.suppress(UpturnError):
                return await self._load(endpoint, route)
        return None

    async def _load(self, endpoint: Endpoint, route: Route) -> Live:
        from upturn.deploy.serve.live import assemble
        from upturn.deploy.serve.loading import check_arm, load
        from upturn.deploy.serve.worker import ModelWorker

        meta = self._workspace.meta
        numbers = {arm.version for arm in route.arms}
        versions = {number: meta.get(Version, route.model, number) for number in numbers}
        first = next(arm for arm in route.arms if not arm.shadow)
        workers: dict[int, ModelWorker] = {}
        for arm in route.arms:
            version = versions[arm.version]
            check_arm(arm.name, version, versions[first.version].signature)
            worker = self._workers.get((route.model, arm.version))
            if worker is None:
                loaded = await asyncio.to_thread(load, self._workspace, version)
                worker = ModelWorker(
                    loaded.predict,
                    name=version.name,
                    inline_rows=loaded.inline_rows,
                    pace=loaded.pace,
                    form=loaded.form,
                    on_batch=self._metrics.model(version.model, version.number).add,
                )
                self._workers[route.model, arm.version] = worker
                self._loaded = True
            workers[arm.version] = worker
        return assemble(endpoint, route, versions, workers, max_rows=self._limits.rows)

    def _tidy(self) -> None:
        """Put memory in order after a change of models.

        A full collection walks all objects of the libraries that a model brought with it: 50 to 250
        ms, which each waiting request would see. They stay, so they are left out from then on. With
        them the models are that came at the same time; the others are still found when they are
        dropped, however they refer to themselves.
        """
        modules = len(sys.modules)
        if modules != self._modules:
            self._modules = modules
            gc.collect(1)
            gc.freeze()
        else:
            gc.collect()

    def _drop_unused(self) -> bool:
        used = {
            (served.live.route.model, arm.version.number)
            for served in self._served.values()
            if served.live is not None
            for arm in served.live.arms.values()
        }
        unused = self._workers.keys() - used
        for key in unused:
            self._workers.pop(key).close()
        return bool(unused)

    # In another thread

    def _read(self) -> tuple[Sequence[Endpoint], dict[str, Route]]:
        endpoints = self._workspace.meta.last_each(Endpoint)
        routes = self._workspace.meta.last_each(Route)
        return endpoints, {route.endpoint: route for route in routes}

    def _open(self, name: str) -> Served:
        # Here, where it keeps nobody waiting: a server without endpoints has none of it in memory.
        for module in ("loading", "predict", "worker"):
            import_module(f"upturn.deploy.serve.{module}")
        from upturn.deploy.serve.live import Served
        from upturn.stores.logfile import LogWriter

        directory = self._workspace.log_dir / name
        return Served(name=name, writer=LogWriter(directory), metrics=self._metrics.endpoint(name))
