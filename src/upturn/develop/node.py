"""Node: one task of a run while the run goes on."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from upturn.core.errors import Problem
from upturn.core.executor import FunctionRef, InEnv, Logged, Setting
from upturn.core.ids import task_path
from upturn.core.records import Artifact, Input
from upturn.develop.judge import Judge, Ruling
from upturn.develop.options import StepOptions

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


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
    judge: Judge | None = None  # hears what it logs, and may end it
    literals: list[Artifact] = field(default_factory=list[Artifact])
    environ: dict[str, str | None] = field(default_factory=dict[str, str | None])  # declared
    joining: dict[str, Setting] = field(default_factory=dict[str, Setting])
    instead: str | None = None  # digest of the value that takes the place of a failed output
    status: str = "waiting"
    waiting_for: int = 0
    dependents: list["Node"] = field(default_factory=list["Node"])
    followers: list["Node"] = field(default_factory=list["Node"])  # with the same memo
    gpus: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    memo: str = ""
    why: str = ""  # it runs though a task with its memo was done
    attempt: int = 0
    deadline: float | None = None
    output: str | None = None
    problem: Problem | None = None
    cause: "Node | None" = None  # the task that failed: this one, or one that it needs
    seen: bool = False  # the flow was told of the failure
    ended: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """An attempt has begun: from now on its timeout counts, and its judge listens."""
        if self.judge is not None:
            self.judge.begin()
        if self.options.timeout is not None:
            self.deadline = time.monotonic() + self.options.timeout.total_seconds()

    @property
    def path(self) -> str:
        """The task's path."""
        return task_path(self.run, self.step, self.index)

    def pause_s(self) -> float:
        """Exponential backoff with full jitter, so that retries of many don't come at once."""
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (self.attempt - 1))
        return random.uniform(longest / 2, longest)

    def ruling(self, event: Logged) -> Ruling | None:
        """What its judge, if any, says to what it logged."""
        if self.judge is None or not event.metrics:
            return None
        why = self.judge.hear(event.metrics, event.at_step)
        return None if why is None else Ruling(why)

    def prune(self, ruling: Ruling) -> None:
        """It has ended, by its judge."""
        self.status = "pruned"
        self.problem = ruling.why
        self.cause = self

    def fail(self, problem: Problem, instead: str | None) -> None:
        """Its last attempt failed; `instead` takes the place of its output."""
        self.status = "failed" if instead is None else "done"
        self.output = instead
        self.problem = problem
        self.cause = self

    def skip(self, maker: "Node") -> None:
        """It is not run, for it needs the output of a task that has none."""
        self.status = "cancelled"
        self.cause = maker.cause or maker

    def cancel(self) -> None:
        """It has ended, and nobody is to wait for it any more."""
        self.status = "cancelled"
        self.output = None
        self.ended.set()

    def is_worth_another_try(self, kinds: Sequence[str]) -> bool:
        """Whether a failed attempt, by the names of its exception's classes, is repeated."""
        wanted = self.options.retry_on
        return self.attempt <= self.options.retries and (
            wanted is None or any(kind in wanted for kind in kinds)
        )
