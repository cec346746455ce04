"""WorkerState: what a worker has counted and how it is now, and what all of them come to.

Workers tell each other their states, as bytes that whoever carries them need not understand. What
was counted adds up over all that ever were; how things are now is asked of those that live.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import add

import msgspec

from upturn.deploy.serve.counts import Counts, EndpointCounts, ModelKey

RECENT_S = 10  # what "lately" means where rates and latencies are shown
_SILENT_S = 30.0  # a worker that has said nothing for so long serves nobody


class Refused(msgspec.Struct, frozen=True):
    """A revision that a worker did not take, and why."""

    route: int
    reason: str
    at: datetime


class EndpointNow(msgspec.Struct, frozen=True):
    """An endpoint as one worker serves it at the moment."""

    route: int | None = None  # the revision that answers
    refused: Refused | None = None
    log_waiting: int = 0  # rows that are not on disk yet
    recent_s: float = 1.0
    recent: EndpointCounts = EndpointCounts()  # what has come in the last `recent_s`


class Now(msgspec.Struct, frozen=True):
    """A worker at the moment."""

    ready: bool
    endpoints: dict[str, EndpointNow]
    queues: dict[ModelKey, int]  # rows that wait for each version
    rss_bytes: int
    cpu_s: float


class WorkerState(msgspec.Struct, frozen=True):
    """What a worker has counted, and how it is; `now` is None once it has ended."""

    id: str  # of this process alone, however often its number is used again
    pid: int
    began: str  # when the process did, as the machine counts that: its number may be used again
    seq: int  # of two states of one worker the later one has the greater number
    at_s: float  # on the machine's monotonic clock
    counts: Counts
    now: Now | None


_decoder = msgspec.msgpack.Decoder(WorkerState)
encode = msgspec.msgpack.Encoder().encode


def decode(data: bytes) -> WorkerState:
    """The state that was encoded."""
    return _decoder.decode(data)


def merge_gone(*states: bytes) -> bytes:
    """The last states of workers that have ended as one: what they counted still counts.

    For whoever keeps them, so that a worker that is replaced again and again costs no memory.
    """
    counts = Counts()
    for state in states_of(states):
        counts += state.counts
    return encode(WorkerState(id="gone", pid=0, began="", seq=0, at_s=0.0, counts=counts, now=None))


@dataclass(frozen=True, slots=True)
class ServerState:
    """All workers together: the sum of what they and those before them counted, and who lives."""

    counts: Counts
    workers: tuple[tuple[WorkerState, Now], ...]  # by process number

    def now(self, name: str) -> list[EndpointNow]:
        """The endpoint as each worker serves it."""
        return [now.endpoints.get(name, EndpointNow()) for _, now in self.workers]

    def route(self, name: str) -> int | None:
        """The revision that every worker serves, or a later one; None while one serves none."""
        routes = [now.route for now in self.now(name)]
        served = [route for route in routes if route is not None]
        return min(served) if served and len(served) == len(routes) else None

    def refused(self, name: str) -> Refused | None:
        """The newest revision that some worker has refused."""
        refusals = [now.refused for now in self.now(name) if now.refused is not None]
        return max(refusals, key=lambda one: (one.route, one.at, one.reason), default=None)

    def log_waiting(self, name: str) -> int:
        """Rows of the endpoint that are not on disk yet."""
        return sum(now.log_waiting for now in self.now(name))

    def recent(self, name: str) -> EndpointCounts:
        """What has come to the endpoint lately."""
        return reduce(add, (now.recent for now in self.now(name)), EndpointCounts())

    def per_s(self, name: str, what: Callable[[EndpointCounts], int]) -> float:
        """How many of that there are in a second, as things are now."""
        return sum(what(now.recent) / now.recent_s for now in self.now(name))

    def running(self, name: str) -> int:
        """Requests that have no answer yet; those of workers that ended never will."""
        return sum(
            counts.requests - counts.ended
            for counts in (worker.counts.endpoint(name) for worker, _ in self.workers)
        )

    @property
    def names(self) -> list[str]:
        """The endpoints that some worker knows."""
        return sorted({name for _, now in self.workers for name in now.endpoints})

    @property
    def queues(self) -> dict[ModelKey, int]:
        """Rows that wait for each version that is loaded."""
        found: dict[ModelKey, int] = {}
        for _, now in self.workers:
            for key, rows in now.queues.items():
                found[key] = found.get(key, 0) + rows
        return found


def together(
    states: Iterable[WorkerState], *, now_s: float, alive: Callable[[int, str], bool]
) -> ServerState:
    """The server that these workers are. Of two states of one worker the later one is right.

    `alive` says whether there is a process of that number that began then.
    """
    last: dict[str, WorkerState] = {}
    counts = Counts()
    for state in states:
        if state.now is None:
            counts += state.counts
        elif state.id not in last or state.seq > last[state.id].seq:
            last[state.id] = state
    workers: list[tuple[WorkerState, Now]] = []
    for state in last.values():
        counts += state.counts
        if (
            state.now is not None
            and now_s - state.at_s < _SILENT_S
            and alive(state.pid, state.began)
        ):
            workers.append((state, state.now))
    return ServerState(counts, tuple(sorted(workers, key=lambda one: (one[0].pid, one[0].id))))


def states_of(data: Iterable[bytes]) -> tuple[WorkerState, ...]:
    """The states that other workers sent. One that can't be read is left out."""
    found: list[WorkerState] = []
    for each in data:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(decode(each))
    return tuple(found)


class Recent:
    """What was counted some seconds ago, so that what has come since can be said."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, Counts]] = deque(maxlen=RECENT_S + 1)

    def tick(self, now_s: float, counts: Counts) -> None:
        """Remember the counts of now. To be called once a second."""
        self._past.append((now_s, counts))

    def since(
        self, now_s: float, name: str, counts: EndpointCounts
    ) -> tuple[float, EndpointCounts]:
        """How many seconds back is remembered, and what has come to the endpoint in them."""
        if not self._past:
            return 1.0, EndpointCounts()
        then_s, then = self._past[0]
        return max(1.0, now_s - then_s), counts - then.endpoint(name)
