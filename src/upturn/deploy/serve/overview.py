"""Overview: how this worker is, and with what the others say, how the whole server is."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from upturn.core.machine import resident_bytes
from upturn.deploy.running import alive, began
from upturn.deploy.serve.counts import Counts, EndpointCounts, ModelKey, counts_of
from upturn.deploy.serve.metrics import Metrics
from upturn.deploy.serve.state import (
    EndpointNow,
    Now,
    Recent,
    Refused,
    ServerState,
    WorkerState,
    encode,
    states_of,
    together,
)

if TYPE_CHECKING:
    from upturn.deploy.serve.live import Served

_TICK_S = 1.0
_SENT_S = 3.0  # a state that somebody asks for is never older


class Overview:
    """What this worker tells the others, and what all of them come to."""

    def __init__(
        self,
        served: Mapping[str, Served],
        metrics: Metrics,
        *,
        is_ready: Callable[[], bool],
        unlogged: Callable[[], int],
    ) -> None:
        self._served = served
        self._metrics = metrics
        self._others: tuple[WorkerState, ...] = ()
        self._recent = Recent()
        self._pid = os.getpid()
        self._began = began(self._pid)
        self._id = f"{self._pid}-{secrets.token_hex(4)}"
        self._seq = 0
        self._figures = (resident_bytes(), round(time.process_time(), 2))
        self._is_ready = is_ready
        self._unlogged = unlogged
        self._sent: WorkerState | None = None
        self._bytes = b""

    async def run(self) -> None:
        """Remember once a second what was counted, until cancelled."""
        while True:
            self._recent.tick(time.monotonic(), self._counts())
            self._figures = (resident_bytes(), round(time.process_time(), 2))
            await asyncio.sleep(_TICK_S)

    def state(self) -> WorkerState:
        """This worker's own state."""
        now_s = time.monotonic()
        counts = self._counts()
        self._seq += 1
        rss_bytes, cpu_s = self._figures
        now = Now(
            ready=self._is_ready(),
            endpoints={
                name: self._endpoint(served, now_s, counts.endpoint(name))
                for name, served in self._served.items()
            },
            queues=self._queues(),
            rss_bytes=rss_bytes,
            cpu_s=cpu_s,
        )
        return WorkerState(self._id, self._pid, self._began, self._seq, now_s, counts, now)

    def encoded(self) -> bytes:
        """The state as others take it: the same bytes for a second, if nothing happens."""
        state = self.state()
        sent = self._sent
        if sent is not None and state.at_s - sent.at_s < _TICK_S and _alike(state, sent):
            return self._bytes
        self._sent = state
        self._bytes = encode(state)
        return self._bytes

    def take(self, others: Sequence[bytes]) -> None:
        """Keep the last states of the other workers, and of those that are gone."""
        self._others = tuple(one for one in states_of(others) if one.id != self._id)

    def whole(self) -> ServerState:
        """All workers together, as they are now."""
        return together((self.state(), *self._others), now_s=time.monotonic(), alive=alive)

    def lasting(self) -> ServerState:
        """All workers together, with nothing of this one that would be lost if it died now.

        For counters that must not fall, whatever happens to the worker that told them.
        """
        now_s = time.monotonic()
        own = self._sent
        if own is None or now_s - own.at_s > _SENT_S:  # nobody asks for it: there are no others
            own = self.state()
        return together((own, *self._others), now_s=now_s, alive=alive)

    def _counts(self) -> Counts:
        lost = {name: served.writer.lost_rows for name, served in self._served.items()}
        return counts_of(self._metrics, lost, unlogged=self._unlogged())

    def _endpoint(self, served: Served, now_s: float, counts: EndpointCounts) -> EndpointNow:
        recent_s, recent = self._recent.since(now_s, served.name, counts)
        refused = served.refused
        return EndpointNow(
            route=served.live.route.revision if served.live else None,
            refused=refused and Refused(refused.revision, refused.reason, refused.at),
            log_waiting=served.writer.queued_rows,
            recent_s=recent_s,
            recent=recent,
        )

    def _queues(self) -> dict[ModelKey, int]:
        return {
            (served.live.route.model, arm.version.number): arm.worker.waiting_rows
            for served in self._served.values()
            if served.live is not None
            for arm in served.live.arms.values()
        }


def _alike(one: WorkerState, other: WorkerState) -> bool:
    """Whether they differ only in what differs from moment to moment."""
    return one.counts == other.counts and _lasting(one.now) == _lasting(other.now)


def _lasting(now: Now | None) -> object:
    if now is None:
        return None
    endpoints = {
        name: (each.route, each.refused, each.log_waiting) for name, each in now.endpoints.items()
    }
    return now.ready, endpoints, now.queues
