"""StepOptions: how a step's tasks are run."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step's tasks are run; none of it changes what they return."""

    cpus: int = 1
    retries: int = 0
    timeout: timedelta | None = None
    cache: bool | timedelta = True
