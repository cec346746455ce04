"""Access: says of each request who asks, or why they may not."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from upturn.api.operation import Asker
from upturn.api.resources import first_segment
from upturn.core.access import Role, Session, Token, reaches
from upturn.core.errors import NotFound, Unauthorized
from upturn.core.naming import Model
from upturn.core.records import Endpoint
from upturn.core.time import utcnow
from upturn.core.tokentext import is_token_text, token_hash
from upturn.core.who import who
from upturn.deploy.serve.asgi import Scope
from upturn.deploy.serve.problems import Forbidden
from upturn.server.access.attempts import Attempts, TooManyAttempts
from upturn.server.access.credentials import Credentials, credentials
from upturn.server.access.need import API, Need, Operations, known_operations, needs
from upturn.server.access.origin import Headers, address, header, is_from_elsewhere, is_local
from upturn.server.access.sessions import CSRF_HEADER, is_csrf_of, session_id
from upturn.stores.tokens import token_by_hash
from upturn.stores.workspace import Workspace

_TRUST_S = 0.5  # what was looked up is believed for so long: a revocation takes effect within
_MOST = 10_000  # tokens and endpoints that are remembered
_ASK_FOR_ONE = "Ask an admin of this server for a token: upturn tokens create NAME --role {role}"
NOBODY = Asker("", role="viewer", projects=frozenset())
InThread = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store said of a token or a session, and until when that is believed."""

    until: float  # of the clock
    asker: Asker | None
    why_not: str = ""
    expires_at: datetime | None = None


class Access:
    """Admits requests. For one event loop; the store is read in threads, and seldom.

    `open_to_local`: who asks by this machine's own name needs no token (the server listens on
    loopback alone, and no setting says otherwise). `anyone`: the role of whoever shows nothing.
    """

    def __init__(
        self,
        workspace: Workspace,
        open_to_local: bool,
        *,
        anyone: Role | None = None,
        operations: Operations | None = None,
        in_thread: InThread = asyncio.to_thread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace = workspace
        self._open_to_local = open_to_local and not workspace.settings.demand_tokens
        self._operations = operations or known_operations
        self._imported: set[str] = set()
        self._in_thread = in_thread
        self._clock = clock
        self._local = Asker(who())
        self._anyone = Asker("anyone", role=anyone) if anyone is not None else None
        self._attempts = Attempts(clock)
        self._known: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[_Known]] = {}
        self._projects: dict[str, tuple[float, str | None]] = {}  # of endpoints

    async def need(self, scope: Scope) -> Need:
        """What the request has to bring."""
        path: str = scope["path"]
        if path.startswith(API):
            raw: bytes = scope.get("raw_path") or b""
            written = raw.partition(b"?")[0].decode("latin-1")
            path = written if written.startswith(API) else path
            if first_segment(path) not in self._imported:  # modules are not imported on the loop
                await self._in_thread(self._operations, first_segment(path))
                if self._operations(first_segment(path)):
                    self._imported.add(first_segment(path))
        return needs(scope["method"], path, self._operations)

    async def admit(self, scope: Scope, need: Need | None = None) -> Asker:
        """Who asks; NOBODY where that does not matter.

        Raises Unauthorized, Forbidden, TooManyAttempts, or NotFound for what is hidden.
        """
        need = need or await self.need(scope)
        if need.role is None:
            return NOBODY
        asker = await self.who_asks(scope, need.role)
        scope["upturn.asker"] = asker
        if not reaches(asker.role, need.role):
            raise Forbidden(
                f"This needs the role {need.role!r}, and {asker.name!r} is {asker.role!r}.",
                hint=_ASK_FOR_ONE.format(role=need.role),
                role=need.role,
            )
        if asker.projects is not None:
            await self._check_project(asker.projects, need)
        return asker

    async def who_asks(self, scope: Scope, role: Role = "viewer") -> Asker:
        """Who asks, whatever they may do. `role` is what is advised to those who show nothing."""
        headers: Headers = scope["headers"]
        shown = credentials(headers)
        if shown is not None and shown.kind != "cookie":
            asker = await self._by_token(shown, address(scope))
            if shown.kind == "basic":  # browsers send it by themselves
                _refuse_elsewhere(scope)
            return asker
        if shown is not None:
            known = await self._look(shown, _key(shown))
            if known.asker is not None:
                _check_change(scope, shown.secret)
                return known.asker
        asker = self._local if self._open_to_local and is_local(headers) else self._anyone
        if asker is not None:
            _refuse_elsewhere(scope)
            return asker
        if shown is not None:
            raise Unauthorized("Your session has ended.", hint="Log in again: /login")
        if self._open_to_local:
            raise Unauthorized(
                "This server answers without a token to this machine's own names alone.",
                hint="Ask it as http://127.0.0.1 or http://localhost, or send a token: "
                "upturn tokens create NAME",
            )
        raise Unauthorized(
            "This server has to know who asks.",
            hint="Send the header: Authorization: Bearer TOKEN. " + _ASK_FOR_ONE.format(role=role),
        )

    async def sees_all(self, scope: Scope) -> bool:
        """Whether who asks may see every project; False where they don't say who they are."""
        try:
            return (await self.who_asks(scope)).projects is None
        except (Unauthorized, Forbidden, TooManyAttempts):
            return False

    async def token_of(self, text: str, address: str) -> Token:
        """The token of that secret. Raises as `admit` does."""
        await self._by_token(Credentials("bearer", text), address)
        found = await self._in_thread(token_by_hash, self.workspace.meta, token_hash(text))
        assert found is not None
        return found

    def forget(self, secret: str) -> None:
        """Look a session up anew when it is shown next."""
        self._known.pop(f"cookie {session_id(secret)}", None)

    # Tokens and sessions

    async def _by_token(self, shown: Credentials, address: str) -> Asker:
        key = _key(shown)
        known = self._known.get(key)
        if known is None or known.asker is None:  # who is known to be right is not held up
            self._attempts.check(address)
            if not is_token_text(shown.secret):
                self._attempts.failed(address)
                raise Unauthorized(
                    "What came as a token is none: it was cut, or mistyped.",
                    hint="Copy it again, whole. It begins with upt_ and has 62 characters.",
                )
        known = await self._look(shown, key)
        if known.asker is None:
            self._attempts.failed(address)
            raise Unauthorized(
                known.why_not,
                hint=_ASK_FOR_ONE.format(role="ROLE"),
            )
        return known.asker

    async def _look(self, shown: Credentials, key: str) -> _Known:
        """What is known of what was shown, no older than `_TRUST_S`."""
        known = self._known.get(key)
        if known is None or known.until <= self._clock():
            task = self._looking.get(key)
            if task is None:  # many requests may wait for one look
                task = asyncio.get_running_loop().create_task(self._look_up(shown))
                self._looking[key] = task
                task.add_done_callback(lambda _: self._looking.pop(key, None))
            known = await asyncio.shield(task)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = known
        if known.asker is not None and known.expires_at is not None:
            if utcnow() >= known.expires_at:
                return _Known(known.until, None, "The token or session has expired.")
        return known

    async def _look_up(self, shown: Credentials) -> _Known:
        until = self._clock() + _TRUST_S  # from before the look
        read = self._session if shown.kind == "cookie" else self._token
        asker, why_not, expires_at = await self._in_thread(read, shown.secret)
        return _Known(until, asker, why_not, expires_at)

    def _token(self, text: str) -> tuple[Asker | None, str, datetime | None]:
        digest = token_hash(text)
        token = token_by_hash(self.workspace.meta, digest)
        if token is None or not hmac.compare_digest(token.hash, digest):
            return None, "This server knows no such token.", None
        why_not = _why_not(token)
        return (None, why_not, None) if why_not else (_asker(token), "", token.expires_at)

    def _session(self, secret: str) -> tuple[Asker | None, str, datetime | None]:
        digest = session_id(secret)
        session = self.workspace.meta.find(Session, digest)
        if session is None or not hmac.compare_digest(session.id, digest) or session.ended:
            return None, "There is no such session.", None
        if utcnow() >= session.expires_at:
            return None, "The session has expired.", None
        if session.token:
            token = self.workspace.meta.find(Token, session.token)
            if token is None or _why_not(token):
                return None, "The token that the session rests on has ended.", None
        return _asker(session), "", session.expires_at

    # Projects

    async def _check_project(self, projects: frozenset[str], need: Need) -> None:
        if need.whole:
            raise Forbidden(
                "This tells of every project, and your token is for some.",
                hint=f"Yours may ask for what is in: {', '.join(sorted(projects))}.",
            )
        if need.endpoint is None:
            return
        now = self._clock()
        until, project = self._projects.get(need.endpoint, (0.0, None))
        if until <= now:
            project = await self._in_thread(self._project_of, need.endpoint)
            if len(self._projects) >= _MOST:
                self._projects.clear()
            self._projects[need.endpoint] = (now + _TRUST_S, project)
        if project not in projects:
            raise NotFound(f"There is no endpoint {need.endpoint[:100]!r}.")

    def _project_of(self, name: str) -> str | None:
        endpoint = self.workspace.meta.find(Endpoint, name)
        if endpoint is None:
            return None
        model = self.workspace.meta.find(Model, endpoint.model_name)
        return model.project if model is not None else self.workspace.settings.project


def _key(shown: Credentials) -> str:
    if shown.kind == "cookie":
        return f"cookie {session_id(shown.secret)}"
    return f"token {token_hash(shown.secret)}"


def _asker(found: Token | Session) -> Asker:
    token = found.id if isinstance(found, Token) else found.token
    projects = frozenset(found.projects) if found.projects else None
    return Asker(found.name, role=found.role, projects=projects, token=token)


def _why_not(token: Token) -> str:
    if token.revoked:
        return f"The token {token.name!r} was revoked."
    if not token.holds(utcnow()):
        return f"The token {token.name!r} has expired."
    return ""


def _refuse_elsewhere(scope: Scope) -> None:
    if is_from_elsewhere(scope["method"], scope["headers"]):
        raise Forbidden(
            "Another site's page sent this.", hint="Changes come from this server's own pages."
        )


def _check_change(scope: Scope, secret: str) -> None:
    """Raise Forbidden unless a browser's change comes from one of this server's own pages."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    _refuse_elsewhere(scope)
    given = header(scope["headers"], CSRF_HEADER)
    if given is None or not is_csrf_of(secret, given.decode("latin-1")):
        raise Forbidden(
            "A change by a browser's session needs the session's own CSRF token.",
            hint="Send it in the header X-CSRF-Token; GET /session says it.",
        )
