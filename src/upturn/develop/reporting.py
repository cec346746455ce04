"""Reporter: who is told what happens in a run, while it happens."""

from collections.abc import Sequence
from typing import Protocol

from upturn.core.errors import Problem
from upturn.core.records import Run


class Reporter(Protocol):
    """Is called from the scheduler's thread, so it must not take long."""

    def run_started(self, run: Run) -> None:
        """A run began, or was resumed."""
        ...

    def run_queued(self, run: Run, behind: Sequence[str]) -> None:
        """The run waits for these runs of its flow to end; the flow's own thread says so."""
        ...

    def task_submitted(self, path: str) -> None:
        """The flow called a step."""
        ...

    def task_started(self, path: str, attempt: int, output_file: str) -> None:
        """A task's attempt has a process; what it prints goes to the file."""
        ...

    def task_logged(self, path: str, metrics: dict[str, float], at_step: int | None) -> None:
        """A task logged metrics."""
        ...

    def task_progress(
        self, path: str, done: int, total: int | None, title: str, level: int
    ) -> None:
        """A task said how far it is; `level` 1 is a loop within the loop of `level` 0."""
        ...

    def task_done(self, path: str, seconds: float, summary: str) -> None:
        """A task returned."""
        ...

    def task_reused(self, path: str, source: str) -> None:
        """A task did not run: its output was there already, from the task `source`."""
        ...

    def task_failed(self, path: str, problem: Problem, retry_in_s: float | None) -> None:
        """An attempt failed; the next one follows, unless `retry_in_s` is None."""
        ...

    def task_pruned(self, path: str, problem: Problem) -> None:
        """A trial of a tuning was ended early, or not run at all: it did not look promising."""
        ...

    def noted(self, text: str) -> None:
        """Something goes on in the flow's own thread that takes a while."""
        ...

    def run_ended(self, run: Run, status: str, seconds: float) -> None:
        """A run ended."""
        ...


class Silent:
    """A Reporter that says nothing."""

    def run_started(self, run: Run) -> None:
        """Nothing."""

    def run_queued(self, run: Run, behind: Sequence[str]) -> None:
        """Nothing."""

    def task_submitted(self, path: str) -> None:
        """Nothing."""

    def task_started(self, path: str, attempt: int, output_file: str) -> None:
        """Nothing."""

    def task_logged(self, path: str, metrics: dict[str, float], at_step: int | None) -> None:
        """Nothing."""

    def task_progress(
        self, path: str, done: int, total: int | None, title: str, level: int
    ) -> None:
        """Nothing."""

    def task_done(self, path: str, seconds: float, summary: str) -> None:
        """Nothing."""

    def task_reused(self, path: str, source: str) -> None:
        """Nothing."""

    def task_failed(self, path: str, problem: Problem, retry_in_s: float | None) -> None:
        """Nothing."""

    def task_pruned(self, path: str, problem: Problem) -> None:
        """Nothing."""

    def noted(self, text: str) -> None:
        """Nothing."""

    def run_ended(self, run: Run, status: str, seconds: float) -> None:
        """Nothing."""
