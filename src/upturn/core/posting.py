"""Posting: one HTTP request with a body to an address that somebody gave, and its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from upturn.core.errors import Invalid, Unavailable

if TYPE_CHECKING:
    import socket
    import threading

    Allowed = Callable[[str], bool]  # of an IP address

_SAID = 200  # characters of an answer that are repeated


class Unreached(Unavailable):
    """Nobody answered at the address."""

    code = "unreached"


class Answer(msgspec.Struct, frozen=True):
    """The status of an answer, and how its body begins."""

    status: int
    said: str

    @property
    def taken(self) -> bool:
        """Whether it says that all is well."""
        return 200 <= self.status < 300


def check_url(url: str, *, what: str, example: str) -> None:
    """Raise Invalid unless the text is an address that can be posted to."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and not any(ord(letter) <= 32 for letter in url)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise Invalid(
            f"{url!r} is not an address that {what} can be sent to.",
            hint=f"Write the whole of it: {example}",
        )


def host_of(url: str) -> str:
    """The host of an address, for people: addresses may hold secrets."""
    return urlsplit(url).hostname or url


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    allowed: Allowed | None = None,
) -> Answer:
    """Post JSON, once. Redirects are not followed. Raises Unreached when there is no answer.

    After `timeout_s` in all it is given up, however slowly the other side goes on. `allowed` is
    asked about the very IP address that is connected to.
    """
    import http.client
    import threading

    parts = urlsplit(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    if parts.scheme == "https":
        connection.default_port = 443  # so that the header Host leaves it out
    timer: threading.Timer | None = None
    over = threading.Event()
    try:
        sock = _connected(
            host, parts.port or (443 if parts.scheme == "https" else 80), timeout_s, allowed
        )
        timer = threading.Timer(timeout_s, _cut, [sock, over])
        timer.daemon = True
        timer.start()
        connection.sock = _secured(sock, host) if parts.scheme == "https" else sock
        sent = {"Content-Type": "application/json", "User-Agent": "upturn", **headers}
        connection.request("POST", path, body, sent)
        answer = connection.getresponse()
        said = answer.read(_SAID).decode(errors="replace").strip()
        answer.close()
        if over.is_set():  # what was read until then looks like an answer that is complete
            raise TimeoutError("timed out")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise Unreached(f"{host} can't be reached: {reason}.") from None
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()
    return Answer(answer.status, said)


def _connected(host: str, port: int, timeout_s: float, allowed: Allowed | None) -> socket.socket:
    """A socket to the first of the host's addresses that is allowed and answers."""
    import socket

    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        if allowed is not None and not allowed(str(address[0])):
            failed = OSError(f"{address[0]} is an address that hooks may not post to")
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            failed = error
            sock.close()
    raise failed or OSError("it has no address")


def _secured(sock: socket.socket, host: str) -> socket.socket:
    import ssl

    try:
        return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def _cut(sock: socket.socket, over: threading.Event) -> None:
    import socket

    over.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
