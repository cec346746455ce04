"""What tests of access share: an application behind its guard, asked as clients ask it."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from upturn.core.access import Role
from upturn.server.access.access import Access
from upturn.server.access.guard import Guard
from upturn.server.app import Application
from upturn.stores.tokens import make_token
from upturn.stores.workspace import Workspace

ADDRESSES = itertools.count(1)


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Guarded:
    """An application behind its guard. Each request comes from another address, unless it says."""

    def __init__(
        self, workspace: Workspace, *, open_to_local: bool = False, **options: Any
    ) -> None:
        self.workspace = workspace
        self.clock = Clock()
        self._application = Application(workspace, public=not open_to_local)
        pool = self._application.pool
        access = Access(workspace, open_to_local, clock=self.clock, in_thread=pool, **options)
        # As the application makes it, but for the clock and the options.
        inside = self._application._admitted  # pyright: ignore[reportPrivateUsage]
        self.app: Any = Guard(inside, access, in_thread=pool)
        self._runner = asyncio.Runner()
        self._names = itertools.count()

    def __enter__(self) -> Self:
        self._running = self._application.running()
        self._runner.run(self._running.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._running.__aexit__(None, None, None))
        self._runner.close()

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        *,
        host: str = "upturn.example",
        address: str | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        number = next(ADDRESSES)
        address = address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        shown = {"authorization": f"Bearer {token}"} if token is not None else {}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(
                    method, path, headers={**shown, **(headers or {})}, **options
                )

        return self._runner.run(ask())

    def token(self, role: Role = "viewer", *projects: str, **options: Any) -> str:
        """The secret of a new token."""
        return make_token(
            self.workspace.meta,
            f"{role}-{next(self._names)}",
            role=role,
            who="test",
            projects=projects,
            **options,
        )[1]


@contextmanager
def guarded(open_workspace: Callable[[], Workspace], **options: Any) -> Iterator[Guarded]:
    """An application behind its guard, on a workspace of its own."""
    workspace = open_workspace()
    try:
        with Guarded(workspace, **options) as served:
            yield served
    finally:
        workspace.close()
