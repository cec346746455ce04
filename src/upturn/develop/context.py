"""Where the present code runs: in a flow, in a task, or in neither."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from upturn.core.executor import Call
from upturn.core.records import Artifact
from upturn.stores.workspace import Workspace


class FlowContext(Protocol):
    """What a step call or a flow call in a running flow is handed to."""

    def at_once(self, step: Any) -> int:
        """How many tasks of a step its cores and GPUs are enough for; at least one."""
        ...

    def submit(
        self,
        step: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        judge: Any = None,
    ) -> Any:
        """Make a task of a step call; a Ref to its output."""
        ...

    def run_child(self, flow: Any, params: Mapping[str, Any]) -> Any:
        """Run another flow as a child run; what it returned."""
        ...


class Sink(Protocol):
    """Where goes what the present code says of itself: a tracked run, or a task."""

    @property
    def over(self) -> bool:
        """Whether it has ended, so that nothing can be said of it any more."""
        ...

    @property
    def run(self) -> str:
        """The id of the run."""
        ...

    @property
    def workspace(self) -> Workspace:
        """Where it is kept."""
        ...

    @property
    def take(self) -> Callable[[Mapping[str, Any], int | None], None]:
        """What takes metrics, within microseconds."""
        ...

    def note(self, note: Mapping[str, Any]) -> None:
        """Take something else: tags, a file."""
        ...

    def exhibit(self, title: str, media: str, artifact: Artifact) -> None:
        """Take something for the run's page."""
        ...


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a running task knows of itself."""

    workspace: Workspace
    call: Call
    send: Callable[[Any], None]
    sink: Sink


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


session: ContextVar[FlowContext | None] = ContextVar("session", default=None)
# Outside a flow: who hears what a step that is just called logs.
listener: ContextVar[Callable[[dict[str, float], int | None], None] | None] = ContextVar(
    "listener", default=None
)
task = _RunningTask()
# The innermost tracked run of the present code; and all of this process, for its threads.
tracked: ContextVar[Sink | None] = ContextVar("tracked", default=None)
going_on: list[Sink] = []


def sink() -> Sink | None:
    """Where goes what the present code says of itself; None when nobody listens."""
    found = tracked.get()
    if found is not None and not found.over:
        return found
    if going_on:
        return going_on[-1]
    running = task.get()
    return None if running is None else running.sink
