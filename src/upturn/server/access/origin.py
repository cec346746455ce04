"""Origin: from where a request comes, as far as its headers and its connection say.

A page in a browser can send requests here from any site, and can have its own name point to this
machine. What is trusted without a token is therefore only what comes by this machine's own names,
over no proxy, and from no other site.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from upturn.deploy.serve.asgi import Scope

LOCAL = frozenset({b"localhost", b"127.0.0.1", b"[::1]", b"::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDED = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"}
)
_IPV6_SITE = 64  # an address of IPv6 is one of many that its owner has

Headers = Iterable[tuple[bytes, bytes]]


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first header of that name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def is_local(headers: Headers) -> bool:
    """Whether a request names this machine by a name of its own, and came over no proxy."""
    for name, value in headers:
        if name in _FORWARDED:
            return False
        if name == b"host":
            bare, colon, port = value.rpartition(b":")
            if (bare if colon and port.isdigit() else value) not in LOCAL:
                return False
    return True  # without any: HTTP/1.0, and no browser


def is_from_elsewhere(method: str, headers: Headers) -> bool:
    """Whether a browser says that another site's page sends a request that may change something."""
    if method in _SAFE:
        return False
    host = b""
    origin: bytes | None = None
    for name, value in headers:
        if name == b"sec-fetch-site" and value == b"cross-site":
            return True
        if name == b"host":
            host = value
        elif name == b"origin":
            origin = value
    if origin is None:
        return False  # no browser, or none that has another site send what changes something
    return not host or origin.partition(b"://")[2].lower() != host.lower()


def is_secure(scope: Scope) -> bool:
    """Whether the client's side of the connection is HTTPS, here or at a proxy in front."""
    forwarded = header(scope["headers"], b"x-forwarded-proto")
    return scope.get("scheme") == "https" or forwarded == b"https"


def address(scope: Scope) -> str:
    """Whom failed attempts are counted against: the address, of IPv6 the network it is in."""
    client = scope.get("client")
    return _network(str(client[0])) if client else "?"


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    try:
        found = ip_address(host)
    except ValueError:
        return host
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return f"{IPv6Address(int(found) >> _IPV6_SITE << _IPV6_SITE)}/{_IPV6_SITE}"
    return str(found)
