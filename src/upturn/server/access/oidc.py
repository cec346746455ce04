"""OpenID Connect: the authorization code flow, with PKCE, state and nonce, as far as who it was.

What the flow has to remember while the browser is at the provider is in a cookie: any process of
the server can finish what another one began.
"""

import base64
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast
from urllib.parse import urlencode

import msgspec

from upturn.core.access import Role
from upturn.core.errors import Unauthorized, Unavailable, UpturnError
from upturn.core.oidc import Oidc, projects_of, role_of
from upturn.deploy.serve.problems import Forbidden
from upturn.server.access.sessions import new_secret

FLOW_COOKIE = "upturn_oidc"
FLOW_S = 600
CALLBACK = "/login/oidc/callback"
# Signatures by the provider's private key alone: none of a shared secret, and not 'none'.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_TIMEOUT_S = 10.0
_FRESH_S = 3600.0  # what the provider says of itself
_NEW_KEYS_S = 60.0  # between two looks for a key that we don't know
_LEEWAY_S = 60
_log = logging.getLogger("upturn.serve")


class Flow(msgspec.Struct, frozen=True):
    """What a login has to remember while the browser is at the provider."""

    state: str
    nonce: str
    verifier: str
    back: str
    began_at: int  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the provider says that it was, and what they may do here."""

    name: str
    role: Role
    projects: frozenset[str] | None


class Provider:
    """An OpenID provider. For one event loop."""

    def __init__(self, settings: Oidc, secret: str = "") -> None:
        self.settings = settings
        self._secret = secret
        self._about: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, Any] | None = None
        self._anew_at = -_NEW_KEYS_S  # when a key that we don't know was last looked for

    async def begin(self, url: str, back: str) -> tuple[str, str]:
        """Where to send the browser, and the value of the cookie to give it. `url`: this server's.

        Raises Unavailable when the provider does not answer.
        """
        about = await self._discover()
        flow = Flow(new_secret(), new_secret(), secrets.token_urlsafe(48), back, int(time.time()))
        challenge = hashlib.sha256(flow.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._callback(url),
            "scope": " ".join(dict.fromkeys(("openid", *self.settings.scopes))),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": _text64(challenge),
            "code_challenge_method": "S256",
        }
        target = _text(about, "authorization_endpoint")
        mark = "&" if "?" in target else "?"
        return f"{target}{mark}{urlencode(query)}", _text64(msgspec.json.encode(flow))

    async def finish(self, url: str, cookie: str, query: dict[str, str]) -> tuple[Person, str]:
        """Who came back from the provider, and where they wanted to go.

        Raises Unauthorized for what does not fit together, Forbidden for people who may do nothing
        here, Unavailable when the provider does not answer.
        """
        flow = _read_flow(cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), flow.state.encode()):
            raise Unauthorized("This login was not begun by this browser.", hint="Begin it again.")
        if query.get("iss", self.settings.issuer) != self.settings.issuer:
            raise Unauthorized("Another provider has answered.", hint="Begin the login again.")
        if "error" in query or "code" not in query:
            said = query.get("error", "nothing")[:100]
            raise Unauthorized(f"The provider did not log you in: {said}.", hint="Begin it again.")
        token = await self._exchange(query["code"], flow, self._callback(url))
        claims = await self._verified(token, flow.nonce)
        return self._person(claims), flow.back

    def _person(self, claims: dict[str, Any]) -> Person:
        name = claims.get(self.settings.who)
        if not isinstance(name, str) or not name:
            raise Forbidden(
                f"The provider does not say your {self.settings.who!r}.",
                hint="An admin says in [oidc] which claim names people: who = …",
            )
        if self.settings.who == "email" and claims.get("email_verified") is False:
            raise Forbidden("The provider has not verified your address.", hint="Verify it there.")
        role = role_of(self.settings, claims)
        projects = projects_of(self.settings, claims)
        if role is None or projects == frozenset():
            raise Forbidden(
                f"{name} may do nothing here yet.",
                hint="An admin gives roles and projects in [oidc], by the claim "
                f"{self.settings.claim!r}.",
            )
        return Person(name[:200], role, projects)

    async def _exchange(self, code: str, flow: Flow, callback: str) -> str:
        about = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": callback,
            "client_id": self.settings.client_id,
            "code_verifier": flow.verifier,
        }
        methods: Any = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        auth: tuple[str, str] | None = None
        if self._secret and "client_secret_basic" in methods:
            auth = (self.settings.client_id, self._secret)
        elif self._secret:
            form["client_secret"] = self._secret
        status, answer = await _fetch(_text(about, "token_endpoint"), form=form, auth=auth)
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            _log.warning("The OpenID provider gave no token: %s %s", status, answer.get("error"))
            raise Unauthorized("The provider did not confirm this login.", hint="Begin it again.")
        return token

    async def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of a token that the provider signed for us, for this login, just now."""
        _library()
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            try:
                decoded = jwt.decode(token, await self._key_set(), algorithms=_ALGORITHMS)
            except InvalidKeyIdError:  # the provider may have new keys
                keys = await self._key_set(anew=True)
                decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            claims: dict[str, Any] = decoded.claims
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": self.settings.issuer},
                aud={"essential": True, "value": self.settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            _log.warning("An id token was refused: %s", error)
            raise Unauthorized("The provider's word does not hold.", hint="Begin again.") from None
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise Unauthorized("The provider's word is for another client.", hint="Begin again.")
        return claims

    async def _discover(self) -> dict[str, Any]:
        now = time.monotonic()
        if self._about is not None and now - self._about[0] < _FRESH_S:
            return self._about[1]
        url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, about = await _fetch(url)
        if status != 200 or about.get("issuer") != self.settings.issuer:
            raise _unavailable(f"what it says of itself is not of {self.settings.issuer}")
        self._about = now, about
        return about

    async def _key_set(self, *, anew: bool = False) -> Any:
        from joserfc.jwk import KeySet

        now = time.monotonic()
        if self._keys is not None:
            at, found = self._keys
            if anew and now - self._anew_at >= _NEW_KEYS_S:
                self._anew_at = now
            elif now - at < _FRESH_S:
                return found
        status, keys = await _fetch(_text(await self._discover(), "jwks_uri"))
        if status != 200:
            raise _unavailable("its keys can't be had")
        found = KeySet.import_key_set(cast("Any", keys))
        self._keys = now, found
        return found

    def _callback(self, url: str) -> str:
        return (self.settings.url or url).rstrip("/") + CALLBACK


async def _fetch(
    url: str, *, form: dict[str, str] | None = None, auth: tuple[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object at an address. Redirects are not followed."""
    httpx = _library()
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            headers = {"accept": "application/json"}
            if form is None:
                reply = await client.get(url, headers=headers)
            else:
                reply = await client.post(url, data=form, auth=auth, headers=headers)
        answer: Any = msgspec.json.decode(reply.content)
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
        raise _unavailable(type(error).__name__) from None
    return reply.status_code, answer if isinstance(answer, dict) else {}


def _library() -> ModuleType:
    """httpx, when all that is needed is installed. Raises Unavailable otherwise."""
    try:
        import httpx
        import joserfc  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise Unavailable(
            f"OpenID Connect needs the package {error.name!r}.", hint="pip install 'upturn[oidc]'"
        ) from None
    return httpx


def _read_flow(cookie: str) -> Flow:
    try:
        flow = msgspec.json.decode(base64.urlsafe_b64decode(cookie + "=="), type=Flow)
    except (ValueError, msgspec.DecodeError):
        raise Unauthorized("This login was not begun here.", hint="Begin it again.") from None
    if not 0 <= time.time() - flow.began_at <= FLOW_S:
        raise Unauthorized("This login took too long.", hint="Begin it again.")
    return flow


def _text(about: dict[str, Any], name: str) -> str:
    value = about.get(name)
    if not isinstance(value, str):
        raise _unavailable(f"it has no {name}")
    return value


def _unavailable(why: str) -> UpturnError:
    return Unavailable(
        f"The OpenID provider can't be used: {why}.", hint="Log in with a token, or try later."
    )


def _text64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
