"""Duty: something that a running server does for its store now and then, once for all servers."""

from datetime import datetime
from typing import Protocol, TypeVar

W_contra = TypeVar("W_contra", contravariant=True)


class Duty(Protocol[W_contra]):
    """What is to be looked at every so often; `W` is the Workspace.

    A steward calls `look` in a thread of its own, under the lease `duty/NAME`: of several servers
    on one store a single one does it at a time. What `look` raises is reported, and it is called
    again at its next time. It should return within some seconds, and start a process for what takes
    longer: a server that ends waits for it.
    """

    @property
    def name(self) -> str:
        """What it is called: 'schedules'."""
        ...

    @property
    def every_s(self) -> float:
        """How long after it began to look it is to look again."""
        ...

    def look(self, workspace: W_contra, now: datetime) -> None:
        """Do what is due."""
        ...
