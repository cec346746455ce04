"""The server's process: its socket, its lease, its signals; in the foreground or behind."""

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
from ipaddress import ip_address
from pathlib import Path

from upturn.core.errors import Conflict, Invalid, Unavailable
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
from upturn.stores.workspace import Workspace

_START_S = 60.0
_GRACE_S = 10  # what requests that are being answered are given at the end
_log = logging.getLogger("upturn.serve")


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_anyone: bool = False,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the workspace's endpoints in this process until SIGINT or SIGTERM, then drain.

    `port` is the settings' own by default; 0 takes a free one. `on_listening` is told the URL.
    Raises Conflict when a server runs on this store already, Unavailable when the port is taken,
    Invalid for a host that others can reach: unless `allow_anyone` is set, which answers whoever
    asks, by whatever name.
    """
    if not allow_anyone:
        _refuse_public(host)
    check_access_log(workspace.settings.access_log)
    clear_dead_lease(workspace)
    listener = _listen(host, workspace.settings.port if port is None else port)
    with listener:
        url = f"http://{_bracketed(host)}:{listener.getsockname()[1]}"
        with _leased(workspace, url) as lost:
            _run(
                workspace, listener, lost, lambda: on_listening and on_listening(url), allow_anyone
            )


def start_background(workspace: Workspace, *, port: int | None = None) -> Running:
    """Start a server of this store that outlives this process, and wait until it is ready.

    Its output goes to `server.log` in the store's directory. Raises Unavailable when it ends at
    once, with the last lines that it wrote, and Conflict when one runs already.
    """
    _refuse_second(workspace)
    log_path = workspace.settings.home / "server.log"
    command = [sys.executable, "-m", "upturn", "serve"]
    command += [] if port is None else ["--port", str(port)]
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


def _run(
    workspace: Workspace,
    listener: socket.socket,
    lost: threading.Event,
    on_listening: Callable[[], None],
    any_host: bool,
) -> None:
    import uvicorn

    from upturn.server.app import Application

    class Server(uvicorn.Server):
        """Ends by returning: uvicorn's own raises the signal again, which ends the process."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            before = {
                number: signal.signal(number, self.handle_exit)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_listening()

        async def on_tick(self, counter: int) -> bool:
            return lost.is_set() or await super().on_tick(counter)

    # Models that users' own modules define are found from the project's root.
    sys.path.insert(0, str(workspace.settings.root))
    config = uvicorn.Config(
        Application(workspace, any_host=any_host),
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=75,
    )
    # The loop and a model's thread share the interpreter: at the default of 5 ms each hand-over
    # would be seen in every answer.
    sys.setswitchinterval(0.0005)
    Server(config).run(sockets=[listener])
    if lost.is_set():
        raise Conflict(
            "This server's place was taken: its lease on the store ran out.",
            hint="Was the machine asleep, or its disk full? Start it again.",
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol said: asyncio sets TCP_NODELAY on no other, and a kept connection then waits
    # up to 40 ms for each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


@contextmanager
def _leased(workspace: Workspace, url: str) -> Generator[threading.Event]:
    """Hold the lease while the body runs. The event is set when somebody else has taken it."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    pid = os.getpid()
    payload = {"url": url, "pid": pid, "began": began(pid), "host": socket.gethostname()}

    def claim() -> bool:
        return workspace.meta.claim(LEASE, owner, ttl_s=TTL_S, payload=payload)

    if not claim():
        _refuse_second(workspace)
        raise Conflict("Another server of this store has just started.", hint="upturn stop")
    ended, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_S):
            try:
                if not claim():
                    lost.set()
                    return
            except Unavailable as error:  # a busy store: the lease holds for some time yet
                _log.warning("The server's lease could not be renewed: %s", error)

    # A thread, so that a busy event loop does not cost the lease.
    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()
        workspace.meta.release(LEASE, owner)


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
