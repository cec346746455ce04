"""Login: the pages by which a browser says who sits before it."""

import asyncio
from urllib.parse import parse_qs

import msgspec

from upturn.core.access import Session
from upturn.core.errors import Unauthorized, UpturnError
from upturn.deploy.serve.asgi import Receive, Scope, Send
from upturn.deploy.serve.problems import Forbidden, NoSuchMethod, TooLarge
from upturn.server.access.access import Access, InThread
from upturn.server.access.attempts import TooManyAttempts
from upturn.server.access.credentials import credentials
from upturn.server.access.login_page import PAGE_HEADERS, login_page
from upturn.server.access.oidc import CALLBACK, FLOW_COOKIE, FLOW_S, Provider
from upturn.server.access.origin import address, header, is_from_elsewhere, is_secure
from upturn.server.access.refusal import redirect, reply
from upturn.server.access.sessions import (
    COOKIE,
    CSRF_HEADER,
    begin_session,
    begin_session_of,
    csrf_of,
    end_session,
    is_csrf_of,
    read_cookie,
    set_cookie,
)
from upturn.stores.audit import note

_MOST_BYTES = 16 * 1024
_HOME = "/"
_PROVIDER = "/login/oidc"


class Login:
    """An ASGI application for `/login`, `/logout` and `/session`."""

    def __init__(self, access: Access, *, in_thread: InThread = asyncio.to_thread) -> None:
        self._access = access
        self._in_thread = in_thread
        settings = access.workspace.settings
        self._provider: Provider | None = None
        if settings.oidc is not None:
            self._provider = Provider(settings.oidc, settings.oidc_secret)

    def takes(self, path: str) -> bool:
        """Whether the path is one of these pages."""
        if path in (_PROVIDER, CALLBACK):
            return self._provider is not None
        return path in ("/login", "/logout", "/session")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises UpturnError for what is refused."""
        match scope["path"], scope["method"]:
            case "/login", "GET" | "HEAD":
                await self._show(scope, send)
            case "/login", "POST":
                await self._begin(scope, receive, send)
            case "/logout", "POST":
                await self._end(scope, receive, send)
            case "/session", "GET" | "HEAD":
                await self._tell(scope, send)
            case "/login/oidc", "GET":
                await self._ask_provider(scope, send)
            case "/login/oidc/callback", "GET":
                await self._hear_provider(scope, send)
            case path, method:
                allow = {"/login": "GET, POST", "/logout": "POST"}.get(path, "GET")
                raise NoSuchMethod(
                    f"{method} is no method of {path}.", hint=f"Use {allow}.", allow=allow
                )

    async def _show(self, scope: Scope, send: Send) -> None:
        name, csrf = "", ""
        try:
            shown = credentials(scope["headers"])
            if shown is not None and shown.kind == "cookie":
                name = (await self._access.who_asks({**scope, "method": "GET"})).name
                csrf = csrf_of(shown.secret)
        except (Unauthorized, Forbidden):
            name = ""
        page = self._page(local_path(_query(scope).get("next", _HOME)), name=name, csrf=csrf)
        await reply(send, 200, PAGE_HEADERS, page)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_from_elsewhere("POST", scope["headers"]):
            raise Forbidden("Another site's page sent this.", hint="Log in on this server's own.")
        form = await _form(receive)
        back = local_path(form.get("next", _HOME))
        try:
            token = await self._access.token_of(form.get("token", "").strip(), address(scope))
        except (Unauthorized, TooManyAttempts) as error:
            await reply(send, error.http_status, PAGE_HEADERS, self._page(back, problem=str(error)))
            return
        await self._leave(scope)
        session, secret = await self._in_thread(begin_session, self._access.workspace.meta, token)
        await self.welcome(scope, send, session, secret, back)

    async def _ask_provider(self, scope: Scope, send: Send) -> None:
        assert self._provider is not None
        back = local_path(_query(scope).get("next", _HOME))
        try:
            target, flow = await self._provider.begin(_url(scope), back)
        except UpturnError as error:
            await reply(send, error.http_status, PAGE_HEADERS, self._page(back, problem=str(error)))
            return
        secure = is_secure(scope)
        cookie = set_cookie(FLOW_COOKIE, flow, seconds=FLOW_S, secure=secure, path=_PROVIDER)
        await redirect(send, target, cookie)

    async def _hear_provider(self, scope: Scope, send: Send) -> None:
        assert self._provider is not None
        flow = read_cookie(header(scope["headers"], b"cookie"), FLOW_COOKIE) or ""
        secure = is_secure(scope)
        over = set_cookie(FLOW_COOKIE, "", seconds=0, secure=secure, path=_PROVIDER)
        try:
            person, back = await self._provider.finish(_url(scope), flow, _query(scope))
        except UpturnError as error:
            page = self._page(_HOME, problem=str(error))
            await reply(send, error.http_status, PAGE_HEADERS, page, over)
            return
        await self._leave(scope)
        session, secret = await self._in_thread(
            begin_session_of,
            self._access.workspace.meta,
            person.name,
            role=person.role,
            projects=person.projects or (),
        )
        await self.welcome(scope, send, session, secret, local_path(back), over)

    def _page(self, back: str, *, problem: str = "", name: str = "", csrf: str = "") -> bytes:
        provider = self._provider.settings.name if self._provider is not None else ""
        return login_page(back=back, problem=problem, name=name, csrf=csrf, provider=provider)

    async def welcome(
        self, scope: Scope, send: Send, session: Session, secret: str, back: str, *cookies: str
    ) -> None:
        """Give the browser its session, and send it to where it wanted to go."""
        await self._note(session, "session.begin")
        seconds = int((session.expires_at - session.made_at).total_seconds())
        cookie = set_cookie(COOKIE, secret, seconds=seconds, secure=is_secure(scope))
        await redirect(send, back, cookie, *cookies)

    async def _end(self, scope: Scope, receive: Receive, send: Send) -> None:
        secret = read_cookie(header(scope["headers"], b"cookie"), COOKIE)
        if secret is not None:
            given = header(scope["headers"], CSRF_HEADER)
            text = given.decode("latin-1") if given else (await _form(receive)).get("csrf", "")
            if is_from_elsewhere("POST", scope["headers"]) or not is_csrf_of(secret, text):
                raise Forbidden(
                    "Only this server's own page can log you out.", hint="Use the button of /login."
                )
        await self._leave(scope)
        cookie = set_cookie(COOKIE, "", seconds=0, secure=is_secure(scope))
        await redirect(send, "/login", cookie)

    async def _leave(self, scope: Scope) -> None:
        """End the session that the browser has, if it has one: the next one is another."""
        secret = read_cookie(header(scope["headers"], b"cookie"), COOKIE)
        if secret is None:
            return
        ended = await self._in_thread(end_session, self._access.workspace.meta, secret)
        self._access.forget(secret)
        if ended is not None:
            await self._note(ended, "session.end")

    async def _tell(self, scope: Scope, send: Send) -> None:
        asker = await self._access.who_asks(scope)
        shown = credentials(scope["headers"])
        by_cookie = shown is not None and shown.kind == "cookie"
        body = msgspec.json.encode(
            {
                "name": asker.name,
                "role": asker.role,
                "projects": None if asker.projects is None else sorted(asker.projects),
                "csrf": csrf_of(shown.secret) if shown is not None and by_cookie else None,
            }
        )
        kind = {"content-type": "application/json", "cache-control": "no-store"}
        await reply(send, 200, kind, body)

    async def _note(self, session: Session, action: str) -> None:
        await self._in_thread(
            note,
            self._access.workspace.meta,
            who=session.name,
            token=session.token,
            role=session.role,
            via="http",
            action=action,
            path=f"token/{session.token}" if session.token else "",
            status=200,
        )


def local_path(text: str) -> str:
    """The path to go to after a login: one of this server, whatever was asked for.

    >>> local_path("/runs?x=1"), local_path("//evil.example"), local_path("https://evil.example")
    ('/runs?x=1', '/', '/')
    """
    plain = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if plain and text.isascii() and text.isprintable() else _HOME


def _url(scope: Scope) -> str:
    """This server as the browser asks it."""
    host = (header(scope["headers"], b"host") or b"localhost").decode("latin-1")
    return f"{'https' if is_secure(scope) else 'http'}://{host}"


def _query(scope: Scope) -> dict[str, str]:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return {name: values[0] for name, values in found.items()}


async def _form(receive: Receive) -> dict[str, str]:
    """The fields of a small form. Raises TooLarge for a large one."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise TooLarge("This form is larger than a login.", hint="Send a token.")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[0] for name, values in fields.items()}
