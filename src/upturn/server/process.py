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
from collections.abc import Callable, Generator
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
    stop_server,
)
from upturn.deploy.serve.access import check_access_log
from upturn.server.supervisor import Care, Supervisor
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
    care: Care | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the workspace's endpoints until SIGINT or SIGTERM, then drain.

    This process holds the lease and supervises workers; `care` says how many, by default as many as
    the settings do. `port` is the settings' own by default; 0 takes a free one. `on_listening` is
    told the URL. Raises Conflict when a server runs on this store already, Unavailable when the
    port is taken or no worker can start, Invalid for a host that others
    can reach: unless `allow_anyone` is set, which answers whoever asks, by whatever name.
    """
    if not allow_anyone:
        _refuse_public(host)
    check_access_log(workspace.settings.access_log)
    clear_dead_lease(workspace)
    settings = workspace.settings
    listener = _listen(host, settings.port if port is None else port)
    with listener:
        url = f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        lease = _Lease(workspace, url)
        supervisor = Supervisor(
            settings,
            listener,
            replace(care or Care(workers=settings.workers), any_host=allow_anyone),
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


def start_background(
    workspace: Workspace, *, port: int | None = None, workers: int | None = None
) -> Running:
    """Start a server of this store that outlives this process, and wait until it is ready.

    Its output goes to `server.log` in the store's directory. Raises Unavailable when it ends at
    once, with the last lines that it wrote, and Conflict when one runs already.
    """
    _refuse_second(workspace)
    log_path = workspace.settings.home / "server.log"
    command = [sys.executable, "-m", "upturn", "serve"]
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
        running = running_server(workspace)
        if running is not None and fetch(running.url, "/health/ready")[0] == 200:
            return running
        time.sleep(0.05)
    process.terminate()
    raise Unavailable(f"The server was not ready within {_START_S:g} s.", hint=f"See {log_path}.")


def stop(workspace: Workspace) -> Running | None:
    """Stop the server of this store, whoever started it; None when there was none."""
    try:
        return stop_server(workspace)
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
        raise NotFound("No server runs on this store.", hint="upturn serve, or upturn deploy NAME")
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

    def __init__(self, workspace: Workspace, url: str) -> None:
        self._workspace = workspace
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
            "reloads": supervisor.reloads,
            "reload_failed": supervisor.reload_failed,
        }
        self._wake.set()

    @contextmanager
    def held(self, on_lost: Callable[[], None]) -> Generator[None]:
        """Hold it while the body runs. Raises Conflict when it is somebody else's."""
        if not self._claim():
            _refuse_second(self._workspace)
            raise Conflict("Another server of this store has just started.", hint="upturn stop")
        # A thread, so that a busy store does not hold up connections.
        thread = threading.Thread(target=self._renew, args=(on_lost,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended = True
            self._wake.set()
            thread.join()
            self._workspace.meta.release(LEASE, self._owner)

    def _claim(self) -> bool:
        return self._workspace.meta.claim(LEASE, self._owner, ttl_s=TTL_S, payload=self._said)

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
            hint="It follows every change by itself. To end it: upturn stop",
            url=running.url,
        )


def _refuse_public(host: str) -> None:
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise Invalid(
            f"{host!r} can be reached by others, and there is no authentication yet.",
            hint="Serve on 127.0.0.1, with a proxy that knows your users in front; or, where the "
            "network keeps others out, with --allow-anyone.",
        )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tail(path: Path, begin: int) -> str:
    with path.open("rb") as log:
        log.seek(begin)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-3:]) or "it said nothing."
