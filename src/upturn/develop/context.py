"""Where the present code runs: in a flow, in a task, or in neither."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upturn.core.executor import Call
from upturn.stores.workspace import Workspace

if TYPE_CHECKING:
    from upturn.develop.run import Session


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a running task knows of itself."""

    workspace: Workspace
    call: Call
    send: Callable[[Any], None]


class _RunningTask:
    """The task that this process runs: one at a time, and the same for all threads of the step."""

    def __init__(self) -> None:
        self._value: TaskContext | None = None

    def get(self) -> TaskContext | None:
        """The task; None in a process that is no worker."""
        return self._value

    def set(self, value: TaskContext | None) -> None:
        """From now on it is this one."""
        self._value = value


session: ContextVar["Session | None"] = ContextVar("session", default=None)
task = _RunningTask()
