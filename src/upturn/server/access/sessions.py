"""Sessions: browsers that somebody logged in with, as records behind a cookie."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from upturn.core.access import Role, Session, Token
from upturn.core.metastore import MetaStore
from upturn.core.time import utcnow

COOKIE = "upturn_session"
CSRF_HEADER = b"x-csrf-token"
LASTS = timedelta(hours=12)
_BYTES = 32


def begin_session(meta: MetaStore, token: Token) -> tuple[Session, str]:
    """A session that rests on a token, with its cookie's secret."""
    return begin_session_of(
        meta,
        token.name,
        role=token.role,
        projects=token.projects,
        token=token.id,
        until=token.expires_at,
    )


def begin_session_of(
    meta: MetaStore,
    name: str,
    *,
    role: Role,
    projects: Iterable[str] = (),
    token: str = "",
    until: datetime | None = None,
) -> tuple[Session, str]:
    """A session of somebody, with its cookie's secret; it ends at `until` at the latest."""
    secret = new_secret()
    now = utcnow()
    session = Session(
        id=session_id(secret),
        token=token,
        name=name,
        role=role,
        projects=tuple(sorted(projects)),
        made_at=now,
        expires_at=now + LASTS if until is None else min(now + LASTS, until),
        at=now,
    )
    return meta.add(session), secret


def end_session(meta: MetaStore, secret: str) -> Session | None:
    """End the session of that cookie; None when there is none that goes on."""
    session = meta.find(Session, session_id(secret))
    if session is None or session.ended:
        return None
    return meta.add(replace(session, seq=0, ended=True, at=utcnow()))


def new_secret() -> str:
    """What a cookie holds."""
    return secrets.token_urlsafe(_BYTES)


def session_id(secret: str) -> str:
    """What a session is found by: who reads the store can't make the cookie of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(secret: str) -> str:
    """What a page has to send with each change, and other sites can't know."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()


def is_csrf_of(secret: str, given: str) -> bool:
    """Whether what was sent with a change is the session's."""
    return hmac.compare_digest(csrf_of(secret), given.encode("ascii", "replace").decode())


def set_cookie(name: str, value: str, *, seconds: int, secure: bool, path: str = "/") -> str:
    """A header's value that gives the browser a cookie which scripts can't read; 0 s takes it."""
    text = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax"
    return f"{text}; Secure" if secure else text


def read_cookie(value: bytes | None, name: str) -> str | None:
    """The cookie of that name in a header. The first one: browsers send the most specific first."""
    for part in (value or b"").decode("latin-1").split(";"):
        key, found, text = part.strip().partition("=")
        if found and key == name:
            return text
    return None
