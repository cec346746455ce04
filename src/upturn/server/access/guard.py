"""Guard: the application behind it is asked only what who asks may ask, and changes are noted."""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from upturn.api.operation import Asker
from upturn.core.errors import Unauthorized, UpturnError
from upturn.deploy.serve.asgi import App, Receive, Scope, Send
from upturn.server.access.access import Access, InThread
from upturn.server.access.login import Login
from upturn.server.access.need import Need
from upturn.server.access.origin import header
from upturn.server.access.refusal import redirect, refuse
from upturn.stores.audit import note

ASKER = "upturn.asker"  # its place in a request's scope
# Where an application says what thing a request was about, 'run/k3f9x2', and, of one that is not
# noted otherwise, that it is to be noted and under which name.
PATH, ACTION = "upturn.path", "upturn.action"
TERSE = "upturn.terse"  # whether an answer leaves the names of things out
_NAMING = {"/health/ready", "/readyz"}  # open, and they name endpoints to those who may see all
_EVENTS = b"text/event-stream"
_PAGES = (b"text/html", b"application/xhtml", b"image/svg", b"text/xml", b"application/xml")
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
# What somebody uploaded is shown as itself alone: it is no page of ours, and asks for nothing.
_SANDBOX = b"sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_log = logging.getLogger("upturn.serve")


class Guard:
    """An ASGI application around another one. Who asks is in the scope, as `upturn.asker`."""

    def __init__(
        self,
        app: App,
        access: Access,
        *,
        login: Login | None = None,
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        self._app = app
        self._access = access
        self._login = login or Login(access)
        self._in_thread = in_thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        need = await self._access.need(scope)
        try:
            if self._login.takes(path):
                await self._login(scope, receive, _Answer(send).headers)
                return
            asker = await self._access.admit(scope, need)
            if path in _NAMING:
                scope[TERSE] = not await self._access.sees_all(scope)
        except UpturnError as error:
            if need.action and (refused := scope.get(ASKER)) is not None:
                await self._note(scope, refused, need, error.http_status, error.code)
            if isinstance(error, Unauthorized) and _is_page(scope):
                query = scope.get("query_string", b"").decode("latin-1")
                back = f"{path}?{query}" if query else path
                await redirect(send, f"/login?next={quote(back, safe='')}")
                return
            await refuse(_Answer(send).headers, path, error)
            return
        scope[ASKER] = asker
        if need.endpoint is not None and not need.action:  # predictions: nothing to add
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        endless = False

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                kind = header(message.get("headers", ()), b"content-type") or b""
                endless = kind.startswith(_EVENTS)
                if need.action or ACTION in scope:
                    await self._note(scope, asker, need, message["status"])
            elif endless and message.get("more_body"):  # who listens may have lost the right to
                await self._access.admit(scope, need)
            await answer.headers(message)

        await self._app(scope, receive, noted)

    async def _note(
        self, scope: Scope, asker: Asker, need: Need, status: int, detail: str = ""
    ) -> None:
        """Note a change before its client is told of it."""
        try:
            await self._in_thread(
                note,
                self._access.workspace.meta,
                who=asker.name,
                token=asker.token,
                role=asker.role,
                via=need.via,
                action=need.action or scope[ACTION],
                path=scope.get(PATH) or need.path,
                status=status,
                detail=detail,
            )
        except UpturnError as error:  # the change is made, and its client has to know
            _log.error("%s by %s is not in the audit log: %s", need.action, asker.name, error)


class _Answer:
    """Adds what every answer tells a browser."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def headers(self, message: MutableMapping[str, Any]) -> None:
        """`send`, with more headers."""
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            given += [pair for pair in _ALWAYS if pair[0] not in names]
            kind = header(given, b"content-type") or b""
            if b"content-security-policy" not in names and kind.lower().startswith(_PAGES):
                given.append((b"content-security-policy", _SANDBOX))
            message = {**message, "headers": given}
        await self._send(message)


def _is_page(scope: Scope) -> bool:
    """Whether a person waits for the answer, in a browser."""
    accept = header(scope["headers"], b"accept") or b""
    return scope["method"] == "GET" and accept.startswith(b"text/html")
