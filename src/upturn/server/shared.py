"""Shared: what the connections of a worker have in common."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from upturn.deploy.serve.asgi import App
from upturn.server.patience import Patience

Gate = Callable[[bytes], bytes | None]  # a request's target to what refuses it
# A refusal is held back for so long. Who asks again at once then asks a hundred times a second, not
# thousands: refusing must not take the interpreter from those that are answered.
HOLD_S = 0.008


class Held(Protocol):
    """A connection whose refusal is not sent yet."""

    def send_held(self) -> None:
        """Send it now."""
        ...


class Shared:
    """What the connections of a worker share."""

    def __init__(self, app: App, patience: Patience, gate: Gate | None) -> None:
        self.app = app
        self.patience = patience
        self.gate = gate
        self.loop = asyncio.get_running_loop()
        self.connections: set[Any] = set()  # each a Connection
        self.tasks: set[asyncio.Task[Any]] = set()
        self.now = 0.0  # as of the last sweep
        self.date = b""  # the header with the time
        self.draining_at: float | None = None
        self.hands_back = False  # of one that drains: idle connections will be asked for
        self._held: list[Held] = []  # with a refusal that is not sent yet

    @property
    def closes(self) -> bool:
        """Whether each connection is to end with its answer."""
        return self.draining_at is not None and not self.hands_back

    def let_go(self) -> None:
        """A connection is closed or handed back."""
        raise NotImplementedError

    def hold(self, connection: Held) -> None:
        """Have the connection send its refusal in a moment."""
        if not self._held:
            self.loop.call_later(HOLD_S, self._release)
        self._held.append(connection)

    def _release(self) -> None:
        held, self._held = self._held, []
        for connection in held:
            connection.send_held()
