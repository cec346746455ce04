"""The server that runs on a store, as other processes see it: its lease and what it says."""

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

from upturn.core.records import Route
from upturn.stores.workspace import Workspace

LEASE = "server"
TTL_S = 6.0
RENEW_S = 2.0
_POLL_S = 0.05


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


def running_server(workspace: Workspace) -> Running | None:
    """The server of this store, or None. The lease of a process that is gone counts for nothing."""
    lease = workspace.meta.lease(LEASE)
    if lease is None or "url" not in lease.payload:
        return None
    running = msgspec.convert({**lease.payload, "owner": lease.owner}, Running)
    here = running.host == socket.gethostname()
    return None if here and not alive(running.pid, running.began) else running


def clear_dead_lease(workspace: Workspace) -> None:
    """Give back the lease of a server on this machine that died, so that nobody waits for it."""
    lease = workspace.meta.lease(LEASE)
    if lease is None or lease.payload.get("host") != socket.gethostname():
        return
    if not alive(int(lease.payload["pid"]), lease.payload.get("began", "")):
        workspace.meta.release(LEASE, lease.owner)


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


def stop_server(workspace: Workspace, *, timeout_s: float = 30.0) -> Running | None:
    """Ask the server to drain and end, and wait until it has; returns it, or None if none ran.

    Raises TimeoutError when it is still there after that time.
    """
    running = running_server(workspace)
    if running is None:
        return None
    os.kill(running.pid, signal.SIGTERM)
    until = time.monotonic() + timeout_s
    while alive(running.pid, running.began) and running_server(workspace) is not None:
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(_POLL_S)
    return running


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


def wait_until_served(
    workspace: Workspace,
    route: Route,
    *,
    timeout_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Wait until the running server serves the revision, or a later one: '' then, else why not.

    Without a server there is nothing to wait for, and the answer is ''.
    """
    until = clock() + timeout_s
    while (running := running_server(workspace)) is not None:
        status, page = fetch(running.url, f"/v1/endpoints/{route.endpoint}")
        if status == 200 and page["route"] is not None and page["route"] >= route.revision:
            return ""
        refused = page["refused"] if status == 200 else None
        if refused is not None and refused["route"] >= route.revision:
            return refused["reason"]
        if clock() > until:
            return f"the server at {running.url} did not take the route within {timeout_s:g} s"
        time.sleep(_POLL_S)
    return ""
