"""ModelWorker: one loaded version and its queue, whose requests are predicted together.

Batching is work-conserving: a batch is whatever has come while the model was busy, and nobody waits
for one to fill. Batches that take less than a millisecond run on the event loop, which saves two
thread switches; others run on the worker's own thread, as large as is predicted in a few tens of
milliseconds, so that what is accepted is answered at an even pace.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Literal

from upturn.core.errors import ModelFailed, Unfit
from upturn.deploy.serve.pace import Pace
from upturn.deploy.serve.problems import Overloaded, reason
from upturn.deploy.serve.rows import Block, together

MAX_BATCH_ROWS = 1024  # larger batches are no faster a row; one request's rows are never split
MAX_WAITING_ROWS = 20_000
MAX_SHADOW_ROWS = 20_000
BATCH_S = 0.025  # how long a batch of several requests should take at most
WAIT_S = 0.05  # how long an accepted request may wait for its batch, or one batch and a half
LATE_S = 1.0  # how late a batch may be before others are refused for it: machines have hiccups
LOOK_S = 0.02  # how often deadlines are looked at while the model's thread is busy


_OVERLOADED = {
    "queue": "has too many requests waiting",
    "deadline": "can't answer within the deadline",
}


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a model says of some rows, one entry a row, and how long it took.

    `scores` are None for models that give none, and for those whose answers they are.
    """

    scores: list[float | None] | None
    answers: list[Any]
    seconds: float


Predict = Callable[[Block], tuple[list[float | None] | None, list[Any]]]
# Told of every batch: rows and seconds.
OnBatch = Callable[[int, float], None]


class _Job:
    __slots__ = ("block", "deadline", "future", "rows")

    def __init__(
        self, block: Block, future: "asyncio.Future[Predicted]", deadline: float | None
    ) -> None:
        self.block = block
        self.rows = len(block)
        self.future = future
        self.deadline = deadline


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
        pace: Pace | None = None,
        form: str = "",
        on_batch: OnBatch | None = None,
    ) -> None:
        self.name = name
        self.inline_rows = inline_rows
        self.form = form  # which form of the model answers how many rows, for those who ask
        self._predict = predict
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._shadows: deque[_Job] = deque()
        self._waiting_rows = 0
        self._shadow_rows = 0
        self._pace = pace or Pace()
        self._busy = False  # a batch is predicted, or a dispatch is on its way
        self._flying: list[_Job] = []  # what the thread predicts
        self._free_at = 0.0  # when that should be done
        self._looking = False  # a look at deadlines is due
        self._closing = False
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._threaded = False  # whether a thread takes what is put into `_batches`

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be predicted."""
        return self._waiting_rows

    def wait_s(self) -> float:
        """How long a request that came now would wait for its batch to begin."""
        if not self._jobs:
            return 0.0
        rest = self._free_at - perf_counter() if self._flying else 0.0
        if rest < 0:  # it should be done by now: after a while it is expected to take as long again
            rest = -rest if rest < -LATE_S else 0.0
        most = self._most_rows()
        return rest + self._waiting_rows // most * self._pace.seconds(most)

    def is_full(self) -> bool:
        """Whether a request that came now would wait for longer than any should."""
        if not self._jobs:
            return False
        if self._waiting_rows >= MAX_WAITING_ROWS:
            return True
        limit = max(WAIT_S, 1.5 * self._pace.seconds(min(self._waiting_rows, self._most_rows())))
        return self.wait_s() > limit

    def submit(self, block: Block, deadline: float | None = None) -> "asyncio.Future[Predicted]":
        """Predict the rows, until `deadline` on the clock of perf_counter, if there is one.

        The future raises ModelFailed when the model did, Overloaded when the deadline has passed.
        Raises Overloaded at once when too much waits, or when it won't be done by the deadline.
        """
        if self._jobs and (self.is_full() or self._waiting_rows + len(block) > MAX_WAITING_ROWS):
            raise self.overloaded()
        if deadline is not None:
            ready_at = perf_counter() + self.wait_s() + self._pace.seconds(len(block))
            if ready_at > deadline:
                raise self.overloaded("deadline")
        job = _Job(block, self._loop.create_future(), deadline)
        self._jobs.append(job)
        self._waiting_rows += job.rows
        self._wake()
        return job.future

    def shadow(self, block: Block) -> "asyncio.Future[Predicted] | None":
        """As `submit`, but only while nobody waits for an answer; None when it was dropped."""
        if self._closing or self._shadow_rows + len(block) > MAX_SHADOW_ROWS:
            return None
        job = _Job(block, self._loop.create_future(), None)
        self._shadows.append(job)
        self._shadow_rows += job.rows
        self._wake()
        return job.future

    def close(self) -> None:
        """Let the thread end once what was submitted is predicted.

        Requests that were admitted before may still come: whose body was on its way is answered.
        """
        self._closing = True
        self._wake()

    def overloaded(self, why: Literal["queue", "deadline"] = "queue") -> Overloaded:
        """The error for a request that is not answered."""
        return Overloaded(
            f"{self.name} {_OVERLOADED[why]}.",
            hint="Try again in a moment.",
            retry_after_s=1,
            shed=why,
        )

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            # Not at once: what else came in this turn of the loop gets into the same batch.
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        jobs = self._take(self._jobs)
        if jobs:
            rows = sum(job.rows for job in jobs)
            self._waiting_rows -= rows
            jobs = self._in_time(jobs)
            if rows <= self.inline_rows:
                self._finish(jobs, self._outcomes(jobs))
                return
        else:
            jobs = self._take(self._shadows)
            rows = sum(job.rows for job in jobs)
            self._shadow_rows -= rows
        if jobs:
            self._flying = jobs
            self._free_at = perf_counter() + self._pace.seconds(rows)
            self._start()
            self._batches.put(jobs)
            self._look_later()
            return
        self._busy = False
        if self._jobs or self._shadows:
            self._wake()
        elif self._closing and self._threaded:
            self._threaded = False
            self._batches.put(None)

    def _start(self) -> None:
        if not self._threaded:
            self._threaded = True
            threading.Thread(target=self._work, name=f"model {self.name}", daemon=True).start()

    def _take(self, queue: deque[_Job]) -> list[_Job]:
        """The next batch: jobs of one kind of block, as many as are predicted in BATCH_S."""
        if not queue:
            return []
        most = self._most_rows()
        kind = type(queue[0].block)
        jobs: list[_Job] = []
        rows = 0
        while queue:
            job = queue[0]
            if jobs and (rows + job.rows > most or type(job.block) is not kind):
                break
            jobs.append(queue.popleft())
            rows += job.rows
        return jobs

    def _look_later(self) -> None:
        """See that deadlines are looked at while the thread is busy: it may never come back."""
        if not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        if not self._flying:
            return
        self._in_time(self._flying)
        late = len(self._jobs)
        self._jobs = deque(self._in_time(list(self._jobs)))
        if late != len(self._jobs):
            self._waiting_rows = sum(job.rows for job in self._jobs)
        self._look_later()

    def _most_rows(self) -> int:
        return min(MAX_BATCH_ROWS, self._pace.rows_in(BATCH_S))

    def _in_time(self, jobs: list[_Job]) -> list[_Job]:
        """The jobs that somebody still waits for; the others are told."""
        now = perf_counter()
        kept: list[_Job] = []
        for job in jobs:
            if job.future.done():  # cancelled: the client has gone
                continue
            if job.deadline is not None and now > job.deadline:
                job.future.set_exception(self.overloaded("deadline"))
            else:
                kept.append(job)
        return kept

    def _finish(self, jobs: list[_Job], outcomes: list[Predicted | ModelFailed]) -> None:
        self._flying = []
        rows = sum(job.rows for job in jobs)
        if outcomes and isinstance(first := outcomes[0], Predicted):
            self._pace.observe(rows, first.seconds)
            if self._on_batch is not None:
                self._on_batch(rows, first.seconds)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():  # cancelled: nobody waits any more
                continue
            if isinstance(outcome, ModelFailed):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
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
        if not jobs:
            return []
        outcome = self._outcome(together([job.block for job in jobs]))
        if len(jobs) == 1:
            return [outcome]
        if isinstance(outcome, ModelFailed):  # for one of them: the others are not to suffer
            return [self._outcome(job.block) for job in jobs]
        outcomes: list[Predicted | ModelFailed] = []
        start = 0
        scores, answers = outcome.scores, outcome.answers
        for job in jobs:
            stop = start + job.rows
            part = None if scores is None else scores[start:stop]
            outcomes.append(Predicted(part, answers[start:stop], outcome.seconds))
            start = stop
        return outcomes

    def _outcome(self, block: Block) -> Predicted | ModelFailed:
        started = perf_counter()
        try:
            scores, answers = self._predict(block)
        except BaseException as error:  # noqa: BLE001
            # A model may raise anything: what got past here would end its thread, or leave it
            # marked as busy, and nobody would be answered any more. Signals come elsewhere.
            if isinstance(error, Unfit):
                return error
            failed = ModelFailed(
                f"{self.name} failed to predict.",
                hint="The server's log says why.",
                reason=reason(error),
            )
            failed.__cause__ = error
            return failed
        rows = len(block)
        if len(answers) != rows or (scores is not None and len(scores) != rows):
            return ModelFailed(
                f"{self.name} gave {len(answers)} predictions for {rows} rows.",
                reason="not one prediction a row",
            )
        return Predicted(scores, answers, perf_counter() - started)
