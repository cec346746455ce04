"""StepOptions: how a step's tasks are run."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from upturn.core.executor import Resources
from upturn.develop.env import Env

RAISE: Final = object()  # the `on_error` of a step whose failure is a failure


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step's tasks are run; none of it but `env` changes what they return."""

    cpus: int = 1
    memory_bytes: int | None = None
    gpus: int = 0
    retries: int = 0
    retry_on: tuple[str, ...] | None = None  # names of exception classes; None for any failure
    timeout: timedelta | None = None
    cache: bool | timedelta = True
    on_error: Any = RAISE
    env: Env | None = None  # None: the flow's own

    @property
    def needs(self) -> Resources:
        """What one task keeps from the others while it runs."""
        return Resources(cpus=self.cpus, memory_bytes=self.memory_bytes or 0, gpus=self.gpus)
