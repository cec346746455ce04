"""Node: one task of a run while the run goes on."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from upturn.core.errors import Problem
from upturn.core.executor import FunctionRef, InEnv
from upturn.core.ids import task_path
from upturn.core.records import Artifact, Input
from upturn.develop.options import StepOptions


@dataclass(slots=True, eq=False)
class Node:
    """One task of a run, from its call in the flow to its end."""

    run: str
    step: str
    index: int
    options: StepOptions
    function: FunctionRef
    code: str
    env: InEnv | None
    flow_params: dict[str, Any]
    arguments: dict[str, Any]  # by parameter
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    literals: list[Artifact] = field(default_factory=list[Artifact])
    instead: str | None = None  # digest of the value that takes the place of a failed output
    status: str = "waiting"
    waiting_for: int = 0
    dependents: list["Node"] = field(default_factory=list["Node"])
    followers: list["Node"] = field(default_factory=list["Node"])  # with the same memo
    gpus: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    memo: str = ""
    attempt: int = 0
    deadline: float | None = None
    output: str | None = None
    problem: Problem | None = None
    cause: "Node | None" = None  # the task that failed: this one, or one that it needs
    seen: bool = False  # the flow was told of the failure
    ended: threading.Event = field(default_factory=threading.Event)

    def start_clock(self) -> None:
        """From now on its timeout counts."""
        if self.options.timeout is not None:
            self.deadline = time.monotonic() + self.options.timeout.total_seconds()

    @property
    def path(self) -> str:
        """The task's path."""
        return task_path(self.run, self.step, self.index)

    def is_worth_another_try(self, kinds: Sequence[str]) -> bool:
        """Whether a failed attempt, by the names of its exception's classes, is repeated."""
        wanted = self.options.retry_on
        return self.attempt <= self.options.retries and (
            wanted is None or any(kind in wanted for kind in kinds)
        )
