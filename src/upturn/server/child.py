"""Child: a worker process, which answers the connections that its supervisor gives it."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from upturn.core.parent import end_with_parent
from upturn.core.settings import load_settings
from upturn.deploy.serve.app import ServingApp
from upturn.server import control
from upturn.server.app import Application
from upturn.server.control import Drain, Frames, Setup
from upturn.server.host import Host
from upturn.stores.workspace import open_workspace

_SWEEP_S = 1.0
_BEAT_S = 0.25  # how often its state is looked at
_BEAT_AT_LEAST_S = 1.0  # how often it is sent, changed or not
_COUNT_S = 0.005  # closed connections are reported together
_QUIET_S = 0.5  # how long nothing has come over a connection that is closed at the end
_STEP_S = 0.02
_ALONE_S = 3.0  # what requests that are being answered are given when the supervisor died
_MARGIN_S = 2.0  # the supervisor comes before the kernel
_ENDING_S = 15.0  # for the Log, after the last answer
_log = logging.getLogger("upturn.serve")


class Child(asyncio.Protocol):
    """The worker's side of its control sockets, and its life from the first beat to the drain."""

    def __init__(
        self, host: Host, serving: ServingApp, connections: socket.socket, setup: Setup
    ) -> None:
        self._host = host
        self._serving = serving
        self._connections = connections
        self._setup = setup
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._counting = False
        self._sent = b""
        self._sent_at = -_BEAT_AT_LEAST_S
        self._ready = False
        self.how = Drain(passed=0, grace_s=_ALONE_S, hand_back=False)  # it is to end, once it is
        self.drain = asyncio.Event()
        self.alone = False
        self.over = False

    # The supervisor's frames

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and take connections from now on."""
        self._transport = cast("asyncio.Transport", transport)
        self._send(control.frame(control.HELLO))
        self._loop.add_reader(self._connections, self._take)
        self.beat()
        self._sweep()

    def data_received(self, data: bytes) -> None:
        """Do what the supervisor says."""
        for kind, payload in self._frames.feed(data):
            if kind == control.OTHERS:
                self._serving.take_states(msgspec.msgpack.decode(payload, type=list[bytes]))
            elif kind == control.DRAIN:  # a second one: there is nobody to hand back to any more
                self.how = msgspec.msgpack.decode(payload, type=Drain)
                self.drain.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The supervisor has died."""
        self._transport = None
        self._be_alone()

    def _be_alone(self) -> None:
        """Nobody will replace this worker, or give it connections: end soon."""
        self.alone = True
        self.how = Drain(passed=0, grace_s=_ALONE_S, hand_back=False)
        self.drain.set()

    # What it tells

    def beat(self) -> None:
        """Tell now, and from now on."""
        if not self.over:
            self.tell()
            self._loop.call_later(_BEAT_S, self.beat)

    async def tell_when_loaded(self) -> None:
        """Tell at once that every route has been looked at: connections wait for that."""
        await self._serving.loaded()
        self.tell()

    def tell(self) -> None:
        """Show that the event loop runs, and what has been counted."""
        ready = bool(self._serving.ready)
        data = control.frame(control.STATE, bytes([ready]) + self._serving.state())
        now = self._loop.time()
        turned = ready != self._ready
        if turned or (ready and data != self._sent) or now - self._sent_at >= _BEAT_AT_LEAST_S:
            self._ready = ready
            self._sent, self._sent_at = data, now
            self._send(data)
            # If the loop does not come back here, the kernel ends the process: a model that keeps
            # the interpreter for itself would outlive a supervisor that died.
            limit = self._setup.hang_s if ready else self._setup.start_s
            signal.setitimer(signal.ITIMER_REAL, limit + _MARGIN_S)

    def leave(self) -> None:
        """Somebody asks this process to end: let the supervisor find another one first.

        Or it was the kernel, because there is no supervisor any more.
        """
        if os.getppid() != self._setup.parent:
            self._be_alone()
        self._send(control.frame(control.LEAVE))

    def count(self) -> None:
        """Connections were taken or closed: say so soon."""
        if not self._counting:
            self._counting = True
            self._loop.call_later(_COUNT_S, self._count)

    def _count(self) -> None:
        self._counting = False
        self._send(control.counts_frame(self._host.taken, self._host.rid))

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # Connections

    def _take(self) -> None:
        try:
            while sockets := control.take_sockets(self._connections):
                for sock in sockets:
                    self._host.adopt(sock)
                # At once, and so before a byte of them is read: what a worker has not said that it
                # took goes to another one when it dies.
                self._count()
        except EOFError:
            self._loop.remove_reader(self._connections)

    def _sweep(self) -> None:
        self._host.sweep()
        self._loop.call_later(_SWEEP_S, self._sweep)

    async def finish(self) -> None:
        """Answer what is there and what is on its way; end what takes longer than its grace."""
        begun = self._loop.time()
        host = self._host
        while True:
            how = self.how
            if how.hand_back:
                host.drain(hand_back=True)
                self._hand_back()
            else:
                self._serving.draining = True
                host.drain(hand_back=False)
                host.close_quiet(_QUIET_S)
            if host.taken >= how.passed and not host.connections and not host.tasks:
                break
            if self._loop.time() - begun > how.grace_s:
                _log.warning("%d connections were closed unanswered.", len(host.connections))
                break
            await asyncio.sleep(_STEP_S)
        await host.end()

    def _hand_back(self) -> None:
        while sockets := self._host.hand_back(most=16):
            passed = control.pass_sockets(self._connections, sockets)
            for sock in sockets:
                if passed:
                    sock.close()
                else:  # there is no room: it stays for now
                    self._host.take_back(sock)
            if not passed:
                return


async def serve(control_sock: socket.socket, connections: socket.socket, setup: Setup) -> bool:
    """Answer until the supervisor says that it is enough; True when it died instead."""
    loop = asyncio.get_running_loop()
    workspace = open_workspace(load_settings(Path(setup.root)))
    app = Application(workspace, any_host=setup.any_host, public=setup.public)
    host = Host(app, gate=app.gate)
    try:
        async with app.running():
            child = Child(host, app.serving, connections, setup)
            host.on_change = child.count
            loop.add_signal_handler(signal.SIGTERM, child.leave)
            await loop.create_unix_connection(lambda: child, sock=control_sock)
            telling = loop.create_task(child.tell_when_loaded())
            await child.drain.wait()
            telling.cancel()
            app.events.end()
            await child.finish()
            child.tell()  # the last word on what was counted
            child.over = True
            signal.setitimer(signal.ITIMER_REAL, _ENDING_S)
        return child.alone
    finally:
        workspace.close()


def main() -> None:
    """Run a worker for the supervisor that started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    descriptors = [int(text) for text in sys.argv[1:3]]
    setup = msgspec.json.decode(sys.argv[3], type=Setup)
    del sys.argv[1:]
    control_sock, connections = (socket.socket(fileno=one) for one in descriptors)
    for sock in (control_sock, connections):
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until there is somebody to ask
    end_with_parent(setup.parent, signal.SIGTERM)
    # Models that users' own modules define are found from the project's root.
    sys.path.insert(0, setup.root)
    # The loop and a model's thread share the interpreter: at the default of 5 ms each hand-over
    # would be seen in every answer.
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        alone = runner.run(serve(control_sock, connections, setup))
    if alone and os.getpgrp() == os.getpid():
        # What the models started ends, too; otherwise the supervisor sees to that.
        os.killpg(0, signal.SIGKILL)


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
