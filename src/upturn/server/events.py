"""Events: GET /api/v1/events, what happens in the store as server-sent events.

A client that comes back says how far it had come, and hears what it missed. Each reads the store
itself, at its own pace: who is slow keeps nobody waiting, and nothing is kept for who is gone.
"""

import asyncio
import contextlib
import logging
from typing import Any

from upturn.api.operation import Ask, Asker
from upturn.core.errors import Invalid, Unavailable, UpturnError
from upturn.core.record import Record
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import NoSuchMethod, Overloaded, send_problem
from upturn.server.api import ASKER
from upturn.server.pool import Pool
from upturn.server.requests import read_query
from upturn.server.topics import Wanted, begin, log_file, read, wanted_of
from upturn.stores.workspace import Workspace

PATH = "/api/v1/events"
_POLL_S = 0.1
_METRICS_S = 0.5  # how often at most a run's metrics are told
_HEARTBEAT_S = 15.0
_MOST = 1000  # clients of a worker
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_log = logging.getLogger("upturn.serve")


class _Client:
    """One that listens: what it wants, and whether something of that may have happened."""

    def __init__(self, ask: Ask, wanted: Wanted) -> None:
        self.ask = ask
        self.wanted = wanted
        self.news = asyncio.Event()
        self.kinds = {source.kind for source in wanted.sources}
        self.sizes: dict[str, int] = {}  # of logs, as they were last seen


class Events:
    """An ASGI application. One look at the store every 0.1 s is for all who listen."""

    def __init__(self, workspace: Workspace, in_thread: Pool) -> None:
        self._workspace = workspace
        self._in_thread = in_thread
        self._clients: set[_Client] = set()
        self._ending = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Let every stream come to its end: who listens asks another worker, or later."""
        self._ending.set()
        for client in self._clients:
            client.news.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as it is listened to."""
        try:
            client = await self._open(scope)
        except UpturnError as error:
            await send_problem(send, error)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        opened = f"retry: 1000\nid: {client.wanted.cursor}\nevent: open\ndata: {{}}\n\n"
        await send({"type": "http.response.body", "body": opened.encode(), "more_body": True})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.create_task(_until_gone(receive, client))
        self._clients.add(client)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            while not (gone.done() or self._ending.is_set()):
                await self._tell(client, send, gone)
        except UpturnError as error:  # a store that can't be read now: the client comes back
            _log.warning("A stream of events ends: %s", error)
        finally:
            self._clients.discard(client)
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _open(self, scope: Scope) -> _Client:
        if scope["method"] not in ("GET", "HEAD"):
            raise NoSuchMethod(f"{scope['method']} hears nothing.", hint="Use GET.", allow="GET")
        if self._ending.is_set():
            raise Unavailable("The server is ending.", hint="Ask again.", retry_after_s=1)
        if len(self._clients) >= _MOST:
            raise Overloaded("Too many listen here.", hint="Ask again later.", retry_after_s=5)
        query = read_query(scope["query_string"])
        unknown = query.keys() - {"topics", "after"}
        if unknown:
            raise Invalid(
                f"There is no {min(unknown)[:100]!r} to ask for.", hint="Use topics, after."
            )
        topics = [one for text in query.get("topics", []) for one in text.split(",") if one]
        wanted = wanted_of(topics)
        cursor = (query.get("after") or [""])[-1]
        for name, value in scope["headers"]:
            if name == b"last-event-id":
                cursor = value.decode("latin-1")
        asker: Asker = scope.get(ASKER) or Asker(who())
        ask = Ask(self._workspace, asker, utcnow())
        await self._in_thread(begin, ask, wanted, cursor)
        return _Client(ask, wanted)

    async def _tell(self, client: _Client, send: Send, gone: asyncio.Task[None]) -> None:
        """Send what there is, then wait until there may be more."""
        client.news.clear()
        events, more = await self._in_thread(read, client.ask, client.wanted)
        if events:
            body = b"".join(event.encode() for event in events)
            # It waits here while the client does not take what was sent.
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if more:
            return
        if client.wanted.metrics:
            await asyncio.sleep(_METRICS_S)
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                await client.news.wait()
        except TimeoutError:
            await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})

    async def _poll(self) -> None:
        """Wake those up for whom there may be something, as long as anybody listens."""
        stamp: int | None = None
        positions: dict[type[Record], int] = {}
        while self._clients and not self._ending.is_set():
            with contextlib.suppress(UpturnError):  # a busy store: at the next look
                latest = self._workspace.meta.stamp()
                if latest != stamp:
                    kinds = {kind for client in self._clients for kind in client.kinds}
                    now = await self._in_thread(self._positions, kinds)
                    moved = {kind for kind in kinds if now[kind] != positions.get(kind)}
                    for client in self._clients:
                        if client.wanted.metrics or not moved.isdisjoint(client.kinds):
                            client.news.set()
                    stamp, positions = latest, positions | now
                await self._look_at_logs()
            await asyncio.sleep(_POLL_S)

    def _positions(self, kinds: set[type[Record]]) -> dict[type[Record], int]:
        return {kind: self._workspace.meta.position(kind) for kind in kinds}

    async def _look_at_logs(self) -> None:
        tasks = {task for client in self._clients for task in client.wanted.logs}
        if not tasks:
            return
        sizes = await self._in_thread(self._sizes, tasks)
        for client in self._clients:
            for task in client.wanted.logs:
                if client.sizes.get(task) != sizes[task]:
                    client.sizes[task] = sizes[task]
                    client.news.set()

    def _sizes(self, tasks: set[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for task in tasks:
            try:
                found[task] = log_file(self._workspace.output_dir, task).stat().st_size
            except OSError:
                found[task] = 0
        return found


async def _until_gone(receive: Receive, client: _Client) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.news.set()


def described() -> tuple[dict[str, Any], dict[str, Any]]:
    """The stream as OpenAPI describes it."""
    text = {"type": "string"}
    parameters = [
        {
            "name": "topics",
            "in": "query",
            "required": True,
            "schema": text,
            "description": "run:ID, endpoint:NAME, decision:LOOP, model:NAME, metric:RUN, "
            "log:RUN/STEP/INDEX; several with commas, and NOUN:* for all.",
        },
        {"name": "after", "in": "query", "schema": text, "description": "The last event's id."},
        {"name": "Last-Event-ID", "in": "header", "schema": text},
    ]
    answer = {"200": {"description": "Events.", "content": {"text/event-stream": {"schema": text}}}}
    summary = "What happens, as server-sent events"
    said = {"operationId": "events.stream", "summary": summary, "tags": ["events"]}
    return {PATH: {"get": {**said, "parameters": parameters, "responses": answer}}}, {}
