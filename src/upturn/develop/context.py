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


session: ContextVar["Session | None"] = ContextVar("session", default=None)
task: ContextVar[TaskContext | None] = ContextVar("task", default=None)
