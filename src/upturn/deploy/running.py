"""The servers that run on a store, as other processes see them: their leases and what they say."""

import contextlib
import hashlib
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from upturn.core.metastore import Lease
from upturn.core.records import Route
from upturn.stores.workspace import Workspace

LEASE = "server"  # of the first one; those that join it have "server/HOST:PORT"
TTL_S = 6.0
RENEW_S = 2.0
_POLL_S = 0.05
_CLOSED = (401, 403)  # it wants to know who asks


class Running(msgspec.Struct, frozen=True):
    """A server that holds the lease: where it listens, and its process."""

    url: str
    pid: int
    host: str
    owner: str
    began: str = ""  # when the process did: another one may have its id by now
    workers: tuple[int, ...] = ()  # the processes that answer
    reloads: int = 0  # how often they were replaced on request, or could not be
    reload_failed: str = ""  # why the last time nobody was
    steward: int = 0  # the process that does what servers do for their store, if there is one

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()


def running_servers(workspace: Workspace) -> list[Running]:
    """The servers of this store, the first one first.

    The lease of a process that is gone counts for nothing.
    """
    if workspace.is_remote:
        return [_asked(workspace)]
    found: list[Running] = []
    for lease in _leases(workspace):
        if "url" in lease.payload:
            running = msgspec.convert({**lease.payload, "owner": lease.owner}, Running)
            if not running.is_here or alive(running.pid, running.began):
                found.append(running)
    return found


def _asked(workspace: Workspace) -> Running:
    """The server that keeps the workspace, by the address that it is known by here.

    Others of the same store follow it; they may not be reached from here.
    """
    said = [lease for lease in _leases(workspace) if "url" in lease.payload]
    known = [msgspec.convert({**lease.payload, "owner": lease.owner}, Running) for lease in said]
    found = known[0] if known else Running(url="", pid=0, host="", owner="")
    elsewhere = f"{found.host} (asked as {workspace.settings.server})"  # it is never ours to end
    return msgspec.structs.replace(found, url=workspace.settings.server, host=elsewhere)


def running_server(workspace: Workspace) -> Running | None:
    """A server of this store, one of this machine where there is one; or None."""
    found = running_servers(workspace)
    return next((one for one in found if one.is_here), found[0] if found else None)


def clear_dead_lease(workspace: Workspace) -> None:
    """Give back the leases of servers on this machine that died, so that nobody waits for them."""
    for lease in _leases(workspace):
        if lease.payload.get("host") == socket.gethostname() and not alive(
            int(lease.payload["pid"]), lease.payload.get("began", "")
        ):
            workspace.meta.release(lease.name, lease.owner)


def _leases(workspace: Workspace) -> list[Lease]:
    named = workspace.meta.leases(LEASE)
    return [one for one in named if one.name == LEASE or one.name.startswith(f"{LEASE}/")]


def began(pid: int) -> str:
    """When the process of that id began, in ticks of the machine; '' where that can't be told."""
    try:
        # Its second field is the program's name in brackets, with any characters.
        return (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError):
        return ""


def alive(pid: int, since: str = "") -> bool:
    """Whether a process of this machine has that id, and began then, if that is said.

    In a container that is started again the server has the id that the one before it had.
    """
    if since and began(pid) not in ("", since):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop_servers(workspace: Workspace, *, timeout_s: float = 30.0) -> list[Running]:
    """Ask the servers on this machine to drain and end, and wait until they have; returns them.

    Raises TimeoutError when one is still there after that time.
    """
    found = [one for one in running_servers(workspace) if one.is_here]
    for one in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    until = time.monotonic() + timeout_s
    for one in found:
        while alive(one.pid, one.began) and one.owner in _owners(workspace):
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(_POLL_S)
    return found


def _owners(workspace: Workspace) -> set[str]:
    return {one.owner for one in running_servers(workspace)}


def fetch(url: str, path: str, *, timeout_s: float = 5.0) -> tuple[int, Any]:
    """Status and JSON body of a GET; (0, None) when nobody answers."""
    try:
        with urllib.request.urlopen(url + path, timeout=timeout_s) as response:
            return response.status, msgspec.json.decode(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None
    except (OSError, msgspec.DecodeError):
        return 0, None


def reached_at(url: str) -> str:
    """The address at which this machine reaches a server that listens at the URL.

    >>> reached_at("http://0.0.0.0:8600"), reached_at("http://[::]:8600")
    ('http://127.0.0.1:8600', 'http://[::1]:8600')
    """
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def asks_for_tokens(url: str) -> bool:
    """Whether the server wants to be shown a token by who asks from this machine."""
    return fetch(url, "/version", timeout_s=1.0)[0] in _CLOSED


def wait_until_served(
    workspace: Workspace,
    route: Route,
    *,
    timeout_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Wait until all running servers serve the revision, or a later one: '' then, else why not.

    Without a server there is nothing to wait for, and the answer is ''.
    """
    until = clock() + timeout_s
    while running := running_servers(workspace):
        waits: Running | None = None
        for one in running:
            taken, why_not = _has_taken(one, route)
            if why_not:
                return why_not
            if not taken:
                waits = one
        if waits is None:
            return ""
        if clock() > until:
            return f"the server at {waits.url} did not take the route within {timeout_s:g} s"
        time.sleep(_POLL_S)
    return ""


def _has_taken(running: Running, route: Route) -> tuple[bool, str]:
    """Whether the server serves the route or a later one, and why it never will."""
    name = route.endpoint
    status, page = fetch(running.url, f"/v1/endpoints/{name}")
    served: int | None
    refused: dict[str, Any] | None
    if status == 200:
        served, refused = page["route"], page["refused"]
    elif status in _CLOSED:  # what it tells everybody is enough
        _, said = fetch(running.url, "/readyz")
        marks: list[str] = (said or {}).get("taken", [])
        if taken_mark(name, route.revision, refused=True) in marks:
            return False, f"the server at {running.url} refused it; what it printed says why"
        return taken_mark(name, route.revision) in marks, ""
    else:
        return False, ""
    if served is not None and served >= route.revision:
        return True, ""
    if refused is not None and refused["route"] >= route.revision:
        return False, refused["reason"]
    return False, ""


def taken_mark(endpoint: str, revision: int, *, refused: bool = False) -> str:
    """What a server says of a revision that it has taken, or refused, to whoever asks.

    It names nothing to those who do not know the name.
    """
    text = f"{endpoint}/{revision}/{'refused' if refused else 'taken'}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
