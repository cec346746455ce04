"""Executor: where tasks run, one at a time in a process of their own."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from upturn.core.errors import Problem
from upturn.core.records import Artifact, Input, Read


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of what tasks share: of an executor, or for one call."""

    cpus: int = 1
    memory_bytes: int = 0
    gpus: int = 0


class FunctionRef(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker finds a step's function: in a file, in a module, or by value."""

    name: str  # 'train', or 'Trainer.fit'
    file: str | None = None
    module: str | None = None
    pickle: bytes | None = None


class Stored(msgspec.Struct, frozen=True):
    """An argument, or a part of one, that the worker reads from the blob store."""

    digest: str


class File(msgspec.Struct, frozen=True):
    """An argument that is a path; the file's content is the input."""

    path: str
    digest: str


class InEnv(msgspec.Struct, frozen=True, kw_only=True):
    """The environment that a call runs in, in place of the driver's own."""

    digest: str  # of its lock
    label: str  # 'scikit-learn==1.7 (python 3.12)'
    python: str


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A variable that a task finds set, so that code of another tool in it joins the task's run.

    It changes no result, and so it is no input. When the step sets it to something else than is
    in `same`, it goes its own way, and the variables in `ends` are unset.
    """

    value: str
    same: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a task."""

    id: str
    run: str
    step: str
    index: int
    attempt: int
    flow_params: dict[str, Any]
    function: FunctionRef
    args: tuple[Any, ...]  # Stored and File, alone or nested in lists and dicts
    kwargs: dict[str, Any]
    inputs: tuple[Input, ...]
    code: str
    output_file: str  # what the task prints goes there; the whole traceback of a failure beside it
    journal: str = ""  # the file that what it logs goes to
    judged: bool = False  # what it logs is also told at once
    checkpoints: str = ""  # the folder of what its attempts save for the next one
    memory_bytes: int | None = None  # that it may use, with all that it starts
    gpus: tuple[str, ...] = ()  # that it may use
    environ: dict[str, str | None] = {}  # variables that it runs with; None: without it
    joining: dict[str, Setting] = {}  # more variables; may hold a secret, and is stored nowhere
    env: InEnv | None = None


class Started(msgspec.Struct, frozen=True):
    """The call has a process."""

    call: str
    pid: int


class Logged(msgspec.Struct, frozen=True):
    """The task logged values, or showed something."""

    call: str
    metrics: dict[str, float]
    at_step: int | None
    title: str | None = None
    media: str | None = None
    artifact: Artifact | None = None


class Progressed(msgspec.Struct, frozen=True):
    """The task said how far it is."""

    call: str
    done: int
    total: int | None
    title: str
    level: int = 0  # 1: of a loop within the loop

    @property
    def how_far(self) -> tuple[int, int | None, str, int]:
        """What is done, of how much, of what, and in which level of loops."""
        return self.done, self.total, self.title, self.level


class Finished(msgspec.Struct, frozen=True):
    """The task returned; its output is stored."""

    call: str
    artifact: Artifact
    seconds: float
    reads: tuple[Read, ...] = ()
    changed: tuple[str, ...] = ()  # what changed while it was read
    lasting: tuple[Read, ...] = ()  # of the reads, those that the process remembers
    spent: bool = False  # the process remembers more than another task may find


class Failed(msgspec.Struct, frozen=True):
    """The task raised, or its process ended."""

    call: str
    problem: Problem
    seconds: float
    kinds: tuple[str, ...] = ()  # names of the exception's class and of those that it derives from
    lasting: tuple[Read, ...] = ()  # as of Finished
    spent: bool = False  # as of Finished


Event = Started | Logged | Progressed | Finished | Failed


class Executor(Protocol):
    """Runs calls, each in a process of its own meanwhile. `wake` alone is thread-safe."""

    @property
    def capacity(self) -> Resources:
        """What the calls that run at once may use in all."""
        ...

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of its GPUs."""
        ...

    def start(self, call: Call) -> None:
        """Run the call. The caller keeps to `capacity`."""
        ...

    def kill(self, call: str) -> None:
        """End the call's process and what it started, now. No event follows."""
        ...

    def poll(self, timeout_s: float | None) -> Sequence[Event]:
        """What happened, after at most so long; returns early when `wake` is called.

        A process that ends, however it ends, fails its own call alone; so does one that is ended
        because it uses more memory than its call may, or the most when there is too little.
        """
        ...

    def wake(self) -> None:
        """Let a `poll` that waits return."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...
