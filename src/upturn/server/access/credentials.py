"""Credentials: what a request shows to say who asks."""

import base64
import binascii
from dataclasses import dataclass
from typing import Literal

from upturn.core.errors import Unauthorized
from upturn.server.access.origin import Headers
from upturn.server.access.sessions import COOKIE, read_cookie


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token's text or a session cookie's secret, and how it came."""

    kind: Literal["bearer", "basic", "cookie"]
    secret: str


def credentials(headers: Headers) -> Credentials | None:
    """What the headers show; None when there is nothing. Raises Unauthorized for another scheme."""
    cookie: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            return _authorization(value.decode("latin-1"))
        if name == b"cookie":
            cookie = value if cookie is None else cookie + b";" + value
    secret = read_cookie(cookie, COOKIE)
    return Credentials("cookie", secret) if secret else None


def _authorization(text: str) -> Credentials:
    scheme, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer":
            return Credentials("bearer", rest)
        case "basic":
            try:
                pair = base64.b64decode(rest, validate=True).decode()
            except (binascii.Error, ValueError):
                raise Unauthorized(
                    "The Authorization header can't be read.",
                    hint="Basic takes any user, with the token as the password.",
                ) from None
            user, _, password = pair.partition(":")
            return Credentials("basic", password or user)
        case _:
            raise Unauthorized(
                f"This server takes no {scheme[:20]!r} authorization.",
                hint="Send the header: Authorization: Bearer TOKEN",
            )
