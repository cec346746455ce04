"""Host: the connections of a worker, from taking one over to letting it go."""

import asyncio
import socket
from collections.abc import Callable
from email.utils import formatdate

from upturn.deploy.serve.asgi import App
from upturn.server.connection import Connection
from upturn.server.patience import Patience
from upturn.server.shared import Gate, Shared


class Host(Shared):
    """The connections of a worker. Use it from the event loop alone.

    `gate` is asked when a POST's headers are there: what it returns is sent as the answer at once,
    and the application hears nothing of the request.
    """

    def __init__(
        self,
        app: App,
        *,
        patience: Patience | None = None,
        gate: Gate | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(app, patience or Patience(), gate)
        self.taken = 0  # connections, ever
        self.rid = 0  # of them, those that are closed or handed back
        self.on_change = on_change
        self.sweep()

    def adopt(self, sock: socket.socket) -> None:
        """Answer what comes over the connection, which is the host's from now on."""
        self.taken += 1
        try:
            # Or a client that acknowledges late gets each answer 40 ms late.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it is closed already
            sock.close()
            self.let_go()
            return
        task = self.loop.create_task(self._connect(sock))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, sock: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self, sock), sock)
        except OSError:
            sock.close()
            self.let_go()

    def let_go(self) -> None:
        """A connection is closed or handed back."""
        self.rid += 1
        self.on_change()

    def sweep(self) -> None:
        """Close what is too slow; to be called every second."""
        self.now = self.loop.time()
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in list(self.connections):
            connection.check(self.now)

    def drain(self, *, hand_back: bool) -> None:
        """From now on each connection ends with its answer, and is told so.

        Or it goes on elsewhere: `hand_back` says that idle connections will be asked for.
        """
        if self.draining_at is None or self.hands_back != hand_back:
            self.draining_at = self.now = self.loop.time()
            self.hands_back = hand_back

    def close_quiet(self, quiet_s: float) -> None:
        """Of a host that drains, close the connections on which nothing has come for so long."""
        assert self.draining_at is not None
        now = self.loop.time()
        for connection in list(self.connections):
            began = max(connection.since, self.draining_at)
            if connection.is_idle and now - began >= quiet_s and not connection.has_bytes():
                connection.close()

    def hand_back(self, most: int) -> list[socket.socket]:
        """Give up to that many connections up that wait for a request; who gets them answers it."""
        idle = [one for one in self.connections if one.is_idle][:most]
        return [one.detach() for one in idle]

    def take_back(self, sock: socket.socket) -> None:
        """Go on with a connection that was given up, because nobody could have it."""
        self.taken -= 1
        self.rid -= 1
        self.adopt(sock)

    async def end(self) -> None:
        """Cancel what is still being answered, and close everything."""
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=1.0)
        for connection in list(self.connections):
            connection.abort()
