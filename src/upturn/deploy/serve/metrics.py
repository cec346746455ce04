"""Metrics: what is counted while endpoints answer, in well under a microsecond a call.

Everything is counted on the event loop's thread, so that nothing needs a lock. Counters only ever
grow; what is of the moment (queues, the Log's lag) is asked of its owner when somebody looks.
"""

from bisect import bisect_left
from typing import Literal

# Upper ends of the buckets of latencies, in seconds: ten a decade, so that a quantile read off them
# is at most an eighth off. Each decade has 1, 2 and 5, which are what Prometheus is shown.
_STEPS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
SECONDS = (
    *(round(step * 10.0**power, 8) for power in range(-5, 1) for step in _STEPS),
    10.0,
)
BATCH_ROWS = tuple(2**power for power in range(11))  # 1, 2, 4 … 1024

Shed = Literal["queue", "deadline", "shadow"]


class ArmCounts:
    """What one arm with one version has answered, or shadowed: requests by latency, and rows."""

    __slots__ = ("counts", "rows", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)  # the last one has what took longer than 10 s
        self.seconds = 0.0
        self.rows = 0


class EndpointMetrics:
    """What is counted of an endpoint. A request is begun once, and then finished or rejected."""

    __slots__ = ("arms", "begun_requests", "shed_rows", "statuses")

    def __init__(self) -> None:
        self.begun_requests = 0
        self.statuses: dict[int, int] = {}
        self.shed_rows: dict[str, int] = {}
        self.arms: dict[tuple[str, int, bool], ArmCounts] = {}

    def begun(self) -> None:
        """A request has come."""
        self.begun_requests += 1

    def finished(self) -> None:
        """A request was answered, status 200."""
        self.statuses[200] = self.statuses.get(200, 0) + 1

    def rejected(self, status: int) -> None:
        """A request was answered with an error."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def answered(
        self, arm: str, version: int, rows: int, seconds: float, shadow: bool = False
    ) -> None:
        """An arm has answered, or shadowed, so many rows of one request."""
        key = (arm, version, shadow)
        counts = self.arms.get(key)
        if counts is None:
            counts = self.arms[key] = ArmCounts()
        counts.counts[bisect_left(SECONDS, seconds)] += 1
        counts.seconds += seconds
        counts.rows += rows

    def shed(self, kind: Shed, rows: int = 1) -> None:
        """Rows that were not predicted: it was too much."""
        self.shed_rows[kind] = self.shed_rows.get(kind, 0) + rows


class BatchCounts:
    """What one loaded version was called with, for whichever endpoints: batches by rows."""

    __slots__ = ("counts", "rows", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BATCH_ROWS) + 1)  # the last one has larger ones
        self.rows = 0
        self.seconds = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """A batch of so many rows was predicted in so many seconds."""
        self.counts[min((rows - 1).bit_length(), len(BATCH_ROWS))] += 1
        self.rows += rows
        self.seconds += seconds


class Metrics:
    """Everything that this process counts. What was counted stays, also of what is unloaded."""

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointMetrics] = {}
        self.models: dict[tuple[str, int], BatchCounts] = {}

    def endpoint(self, name: str) -> EndpointMetrics:
        """What is counted of that endpoint; '' is for what is none's."""
        return self.endpoints.setdefault(name, EndpointMetrics())

    def model(self, name: str, version: int) -> BatchCounts:
        """What is counted of that version."""
        return self.models.setdefault((name, version), BatchCounts())
