"""Later: an application of this server whose module is imported when somebody asks for it."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from upturn.deploy.serve.asgi import App, Receive, Scope, Send
from upturn.server.pool import Pool


class Later:
    """An ASGI application that `make` makes of a module, the first time it is asked."""

    def __init__(self, module: str, make: Callable[[Any], App], in_thread: Pool) -> None:
        self._module = module
        self._make = make
        self._in_thread = in_thread
        self._app: App | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            module = await self._in_thread(import_module, self._module)
            if self._app is None:
                self._app = self._make(module)
        await self._app(scope, receive, send)
