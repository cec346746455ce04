"""ModelWorker: one loaded version and its queue, whose requests are predicted together.

Batching is work-conserving: a batch is whatever has come while the model was busy, and nobody waits
for one to fill. Batches that were measured at warm-up to take less than a millisecond run on the
event loop, which saves two thread switches; others run on the worker's own thread.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from upturn.core.errors import ModelFailed
from upturn.deploy.serve.decoding import Row
from upturn.deploy.serve.problems import Overloaded, reason

MAX_BATCH_ROWS = 1024  # larger batches are no faster a row; one request's rows are never split
MAX_WAITING_ROWS = 20_000
MAX_WAITING_JOBS = 2_000
MAX_SHADOW_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a model says of some rows: one score and one answer a row, and how long it took."""

    scores: Sequence[float | None]
    answers: Sequence[Any]
    seconds: float


Predict = Callable[[Sequence[Row]], tuple[Sequence[float | None], Sequence[Any]]]

# Told of every batch: rows and seconds.
OnBatch = Callable[[int, float], None]


class _Job:
    __slots__ = ("future", "rows")

    def __init__(self, rows: Sequence[Row], future: "asyncio.Future[Predicted]") -> None:
        self.rows = rows
        self.future = future


class ModelWorker:
    """A version that predicts. Use it from the event loop alone; the thread is its own affair.

    `inline_rows` is how many rows the model predicts in less than a millisecond.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        name: str,
        inline_rows: int,
        on_batch: OnBatch | None = None,
    ) -> None:
        self._on_batch = on_batch
        self.name = name
        self.inline_rows = inline_rows
        self._predict = predict
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._shadows: deque[_Job] = deque()
        self._waiting_rows = 0
        self._shadow_rows = 0
        self._busy = False  # a batch is predicted, or a dispatch is on its way
        self._closing = False
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        thread = threading.Thread(target=self._work, name=f"model {name}", daemon=True)
        thread.start()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be predicted."""
        return self._waiting_rows

    def submit(self, rows: Sequence[Row]) -> "asyncio.Future[Predicted]":
        """Predict the rows; the future raises ModelFailed when the model did. Raises Overloaded."""
        waiting = len(self._jobs)
        if waiting >= MAX_WAITING_JOBS or (
            waiting and self._waiting_rows + len(rows) > MAX_WAITING_ROWS
        ):
            raise Overloaded(
                f"Too many requests wait for {self.name}.",
                hint="Try again in a moment.",
                retry_after_s=1,
            )
        job = _Job(rows, self._loop.create_future())
        self._jobs.append(job)
        self._waiting_rows += len(rows)
        self._wake()
        return job.future

    def shadow(self, rows: Sequence[Row]) -> "asyncio.Future[Predicted] | None":
        """As `submit`, but only while nobody waits for an answer; None when it was dropped."""
        if self._closing or self._shadow_rows + len(rows) > MAX_SHADOW_ROWS:
            return None
        job = _Job(rows, self._loop.create_future())
        self._shadows.append(job)
        self._shadow_rows += len(rows)
        self._wake()
        return job.future

    def close(self) -> None:
        """Let the thread end once what was submitted is predicted."""
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            # Not at once: what else came in this turn of the loop gets into the same batch.
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        jobs = self._take(self._jobs)
        if jobs:
            rows = sum(len(job.rows) for job in jobs)
            self._waiting_rows -= rows
            if rows <= self.inline_rows:
                self._finish(jobs, self._outcomes(jobs))
                return
        else:
            jobs = self._take(self._shadows)
            self._shadow_rows -= sum(len(job.rows) for job in jobs)
        if jobs:
            self._batches.put(jobs)
            return
        self._busy = False
        if self._closing:
            self._batches.put(None)

    @staticmethod
    def _take(queue: deque[_Job]) -> list[_Job]:
        jobs: list[_Job] = []
        rows = 0
        while queue and (not jobs or rows + len(queue[0].rows) <= MAX_BATCH_ROWS):
            job = queue.popleft()
            rows += len(job.rows)
            jobs.append(job)
        return jobs

    def _finish(self, jobs: list[_Job], outcomes: list[Predicted | ModelFailed]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():  # cancelled: nobody waits any more
                continue
            if isinstance(outcome, ModelFailed):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        if outcomes and self._on_batch is not None and isinstance(first := outcomes[0], Predicted):
            self._on_batch(sum(len(job.rows) for job in jobs), first.seconds)
        self._busy = False
        if self._jobs or self._shadows or self._closing:
            self._wake()

    # Any thread

    def _work(self) -> None:
        while (jobs := self._batches.get()) is not None:
            outcomes = self._outcomes(jobs)
            try:
                self._loop.call_soon_threadsafe(self._finish, jobs, outcomes)
            except RuntimeError:
                return  # the loop is closed, and nobody waits any more

    def _outcomes(self, jobs: list[_Job]) -> list[Predicted | ModelFailed]:
        together = [row for job in jobs for row in job.rows] if len(jobs) > 1 else jobs[0].rows
        outcome = self._outcome(together)
        if len(jobs) == 1:
            return [outcome]
        if isinstance(outcome, ModelFailed):  # for one of them: the others are not to suffer
            return [self._outcome(job.rows) for job in jobs]
        outcomes: list[Predicted | ModelFailed] = []
        start = 0
        for job in jobs:
            stop = start + len(job.rows)
            part = slice(start, stop)
            outcomes.append(Predicted(outcome.scores[part], outcome.answers[part], outcome.seconds))
            start = stop
        return outcomes

    def _outcome(self, rows: Sequence[Row]) -> Predicted | ModelFailed:
        started = perf_counter()
        try:
            scores, answers = self._predict(rows)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may raise anything
            failed = ModelFailed(
                f"{self.name} failed to predict.",
                hint="The server's log says why.",
                reason=reason(error),
            )
            failed.__cause__ = error
            return failed
        if len(answers) != len(rows) or len(scores) != len(rows):
            return ModelFailed(
                f"{self.name} gave {len(answers)} predictions for {len(rows)} rows.",
                reason="not one prediction a row",
            )
        return Predicted(scores, answers, perf_counter() - started)
