"""The fork server: a fresh process that imports what a flow imports, and forks workers from there.

It is started by exec, not forked from the driver: a process that has used polars' or OpenMP's
threads can't be forked safely, and a notebook or a server has. It imports distributions, never the
user's own modules, whose top level may compute; each worker imports those itself.
"""

import contextlib
import importlib
import os
import selectors
import signal
import socket
import sys
from typing import Any

from upturn.develop import wire, worker


def main(control_fd: int) -> None:
    """Serve the driver at the other end of `control_fd` until it closes that, or dies."""
    control = socket.socket(fileno=control_fd)
    setup, _ = wire.receive(control)
    os.chdir(setup["cwd"])
    for name in setup["preload"]:
        # What can't be imported here fails with its own message in the step that needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    _serve(control, setup)


def _serve(control: socket.socket, setup: dict[str, Any]) -> None:
    wakeup_read, wakeup_write = socket.socketpair()
    wakeup_read.setblocking(False)
    wakeup_write.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_write.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wakeup_read, selectors.EVENT_READ)
    workers: dict[int, str] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is wakeup_read:
                with contextlib.suppress(BlockingIOError):
                    wakeup_read.recv(4096)
                _reap(control, workers)
                continue
            try:
                name, fds = wire.receive(control)
            except (EOFError, ConnectionError):
                signal.set_wakeup_fd(-1)
                _end(workers)
                return
            server = os.getpid()
            pid = os.fork()
            if pid == 0:
                inherited = [control, wakeup_read, wakeup_write]
                _become_worker(fds[0], inherited, selector, setup, server)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)  # before anybody can want to kill the group
            os.close(fds[0])
            workers[pid] = name
            with contextlib.suppress(OSError):  # the driver left; the next receive says so
                wire.send(control, ("forked", name, pid))


def _become_worker(
    fd: int,
    inherited: list[socket.socket],
    selector: selectors.BaseSelector,
    setup: dict[str, Any],
    server: int,
) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    selector.close()
    for sock in inherited:
        sock.close()
    status = 1
    try:
        worker.main(fd, setup, server)
        status = 0
    finally:
        # Not sys.exit: the fork server's own cleanup is not the worker's to run.
        os._exit(status)


def _reap(control: socket.socket, workers: dict[int, str]) -> None:
    while workers:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what it started and left behind
        name = workers.pop(pid, None)
        if name is not None:
            with contextlib.suppress(OSError):
                wire.send(control, ("exited", name, os.waitstatus_to_exitcode(status)))


def _end(workers: dict[int, str]) -> None:
    for pid in workers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def run() -> None:
    """Serve the driver whose socket the command line names."""
    fd = int(sys.argv[1])
    del sys.argv[1:]
    main(fd)
