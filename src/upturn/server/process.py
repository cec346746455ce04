"""The server's process: its socket and its lease; in the foreground or behind."""

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from upturn.core.errors import Conflict, Invalid, NotFound, Unavailable
from upturn.deploy.running import (
    LEASE,
    RENEW_S,
    TTL_S,
    Running,
    began,
    clear_dead_lease,
    fetch,
    running_server,
    running_servers,
    stop_servers,
)
from upturn.deploy.serve.access import check_access_log
from upturn.server.supervisor import Care, Supervisor
from upturn.stores.tokens import has_tokens
from upturn.stores.workspace import Workspace

_START_S = 60.0
_RELOAD_S = 180.0  # for all workers, one after the other
_log = logging.getLogger("upturn.serve")


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_anyone: bool = False,
    join: bool = False,
    care: Care | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the workspace's endpoints until SIGINT or SIGTERM, then drain.

    This process holds the lease and supervises workers; `care` says how many, by default as many as
    the settings do. `port` is the settings' own by default; 0 takes a free one. `on_listening` is
    told the URL. With `join` it runs beside other servers of this store, at another address: they
    all answer everything, and one of them at a time does each duty.

    Raises Conflict when a server runs on this store already and it is not to join it, Unavailable
    when the port is taken or no worker can start, Invalid for a host that others can reach while
    there are no tokens: unless `allow_anyone` is set, which answers whoever asks, by whatever name.
    """
    refuse_remote(workspace, "served from here")
    public = not is_loopback(host)
    if public and not allow_anyone:
        _refuse_without_tokens(workspace, host)
    check_access_log(workspace.settings.access_log)
    clear_dead_lease(workspace)
    settings = workspace.settings
    listener = _listen(host, settings.port if port is None else port)
    with listener:
        url = f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        name = f"{LEASE}/{socket.gethostname()}:{listener.getsockname()[1]}" if join else LEASE
        lease = _Lease(workspace, url, name)
        supervisor = Supervisor(
            settings,
            listener,
            replace(care or Care(workers=settings.workers), any_host=allow_anyone, public=public),
            on_listening=lambda: on_listening and on_listening(url),
            on_change=lambda: lease.tell(supervisor),
        )
        with lease.held(on_lost=supervisor.stop):
            supervisor.run()
        if lease.lost:
            raise Conflict(
                "This server's place was taken: its lease on the store ran out.",
                hint="Was the machine asleep, or its disk full? Start it again.",
            )


def refuse_remote(workspace: Workspace, what: str) -> None:
    """Raise Invalid for a workspace that a server elsewhere keeps."""
    if workspace.is_remote:
        raise Invalid(
            f"The store that is used is that of {workspace.settings.server}: it can't be {what}.",
            hint="Unset UPTURN_SERVER to use a store of this machine.",
        )


def start_background(
    workspace: Workspace,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    options: Sequence[str] = (),
) -> Running:
    """Start a server of this store that outlives this process, and wait until it is ready.

    Its output goes to `server.log` in the store's directory. Raises Unavailable when it ends at
    once, with the last lines that it wrote, and Conflict when one runs already. `options` are more
    of the command line's.
    """
    before = {one.owner for one in running_servers(workspace)}
    if "--join" not in options:
        _refuse_second(workspace)
    log_path = workspace.settings.home / "server.log"
    command = [sys.executable, "-m", "upturn", "up", *options]
    command += [] if host is None else ["--host", host]
    command += [] if port is None else ["--port", str(port)]
    command += [] if workers is None else ["--workers", str(workers)]
    environ = {**os.environ, "UPTURN_HOME": str(workspace.settings.home)}
    with log_path.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=workspace.settings.root,
            env=environ,
        )
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unavailable(
                f"The server ended at once: {_tail(log_path, begin)}", hint=f"See {log_path}."
            )
        for running in running_servers(workspace):
            fresh = running.owner not in before
            if fresh and fetch(running.url, "/health/ready")[0] == 200:
                return running
        time.sleep(0.02)
    process.terminate()
    raise Unavailable(f"The server was not ready within {_START_S:g} s.", hint=f"See {log_path}.")


def stop(workspace: Workspace) -> list[Running]:
    """Stop the servers of this store that run on this machine, whoever started them.

    Raises Unavailable when they run elsewhere, or one has not ended yet.
    """
    elsewhere = [one for one in running_servers(workspace) if not one.is_here]
    try:
        stopped = stop_servers(workspace)
        if elsewhere and not stopped:
            raise Unavailable(f"The server runs on {elsewhere[0].host}.", hint="Ask there.")
        return stopped
    except TimeoutError:
        raise Unavailable(
            "The server has not ended yet.", hint="It finishes what it answers; ask again."
        ) from None


def reload(workspace: Workspace, *, timeout_s: float = _RELOAD_S) -> Running:
    """Have the server of this store replace its workers one by one, and wait until it has.

    Raises NotFound when there is no server, Unavailable when it could not replace them: those that
    there were serve on.
    """
    before = running_server(workspace)
    if before is None:
        raise NotFound("No server runs on this store.", hint="upturn up")
    if before.host != socket.gethostname():
        raise Unavailable(f"The server runs on {before.host}.", hint="Ask there.")
    os.kill(before.pid, signal.SIGHUP)
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        now = running_server(workspace)
        if now is None or now.owner != before.owner:
            raise Unavailable("The server has ended meanwhile.", hint="upturn status")
        if now.reloads > before.reloads:
            if now.reload_failed:
                raise Unavailable(
                    f"The workers are not replaced: {now.reload_failed}.",
                    hint="Those that there were serve on. What the server printed says more.",
                )
            return now
        time.sleep(0.05)
    raise Unavailable(
        f"The workers were not all replaced within {timeout_s:g} s.", hint="It still tries."
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OverflowError):
            raise Invalid(f"{port} is no port.", hint="Ports go from 0 to 65535.") from None
        raise Unavailable(
            f"Port {port} of {host} can't be had: {(error.strerror or str(error)).lower()}.",
            hint="Choose another one with --port; 0 takes any that is free.",
        ) from None
    return listener


class _Lease:
    """The lease on the store: who serves it, where, and with which workers."""

    def __init__(self, workspace: Workspace, url: str, name: str) -> None:
        self._workspace = workspace
        self._name = name
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        pid = os.getpid()
        self._said: dict[str, Any] = {
            "url": url,
            "pid": pid,
            "began": began(pid),
            "host": socket.gethostname(),
        }
        self._ended = False
        self._wake = threading.Event()
        self.lost = False  # somebody else has it

    def tell(self, supervisor: Supervisor) -> None:
        """Let others see how the supervisor is."""
        self._said = {
            **self._said,
            "workers": supervisor.pids,
            "steward": supervisor.steward,
            "reloads": supervisor.reloads,
            "reload_failed": supervisor.reload_failed,
        }
        self._wake.set()

    @contextmanager
    def held(self, on_lost: Callable[[], None]) -> Generator[None]:
        """Hold it while the body runs. Raises Conflict when it is somebody else's."""
        if self._name == LEASE:
            _refuse_second(self._workspace)
        if not self._claim():
            raise Conflict("Another server of this store has just started.", hint="upturn status")
        # A thread, so that a busy store does not hold up connections.
        thread = threading.Thread(target=self._renew, args=(on_lost,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended = True
            self._wake.set()
            thread.join()
            self._workspace.meta.release(self._name, self._owner)

    def _claim(self) -> bool:
        return self._workspace.meta.claim(self._name, self._owner, ttl_s=TTL_S, payload=self._said)

    def _renew(self, on_lost: Callable[[], None]) -> None:
        while True:
            self._wake.wait(RENEW_S)
            self._wake.clear()
            if self._ended:
                return
            try:
                if not self._claim():
                    self.lost = True
                    on_lost()
                    return
            except Unavailable as error:  # a busy store: the lease holds for some time yet
                _log.warning("The server's lease could not be renewed: %s", error)


def _refuse_second(workspace: Workspace) -> None:
    clear_dead_lease(workspace)
    running = running_server(workspace)
    if running is not None:
        raise Conflict(
            f"A server runs on this store already: {running.url} (process {running.pid}).",
            hint="It follows every change by itself. To end it: upturn down. To have another one "
            "beside it: upturn up --join --port 0",
            url=running.url,
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches that address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_without_tokens(workspace: Workspace, host: str) -> None:
    if not has_tokens(workspace.meta):
        raise Invalid(
            f"{host!r} can be reached by others, and there is no token that they could show.",
            hint="Make one: upturn tokens create NAME. Or, where the network keeps others out: "
            "--allow-anyone.",
        )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tail(path: Path, begin: int) -> str:
    with path.open("rb") as log:
        log.seek(begin)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-3:]) or "it said nothing."
