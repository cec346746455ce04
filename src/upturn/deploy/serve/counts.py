"""Counts: what workers have counted, as records that add up over workers and over time.

Everything in them is a whole number, so that the sum is the same in whichever order it is made.
"""

from collections.abc import Callable, Hashable, Mapping
from operator import add, sub
from typing import TypeVar

import msgspec

from upturn.deploy.serve.metrics import SECONDS, ArmCounts, BatchCounts, EndpointMetrics, Metrics

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
ArmKey = tuple[str, int, bool]  # the arm's name, its version's number, whether it was a shadow
ModelKey = tuple[str, int]


class Histogram(msgspec.Struct, frozen=True, array_like=True):
    """How often something happened, by bucket; how long it took in all, and for how many rows."""

    counts: tuple[int, ...]
    micros: int = 0
    rows: int = 0

    @property
    def times(self) -> int:
        """How often it happened."""
        return sum(self.counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        """Both together."""
        return _each(add, self, other)

    def __sub__(self, earlier: "Histogram") -> "Histogram":
        """What has come since."""
        return _each(sub, self, earlier)


class EndpointCounts(msgspec.Struct, frozen=True):
    """What was counted of one endpoint."""

    requests: int = 0
    statuses: dict[int, int] = {}
    shed: dict[str, int] = {}  # rows, or connections, by kind
    arms: dict[ArmKey, Histogram] = {}
    log_lost: int = 0  # rows

    def __add__(self, other: "EndpointCounts") -> "EndpointCounts":
        """Both together."""
        return EndpointCounts(
            requests=self.requests + other.requests,
            statuses=_sums(self.statuses, other.statuses),
            shed=_sums(self.shed, other.shed),
            arms=_sums(self.arms, other.arms),
            log_lost=self.log_lost + other.log_lost,
        )

    def __sub__(self, earlier: "EndpointCounts") -> "EndpointCounts":
        """What has come since; arms that have answered nothing are left out."""
        arms = _since(self.arms, earlier.arms)
        return EndpointCounts(
            requests=self.requests - earlier.requests,
            statuses=_since(self.statuses, earlier.statuses),
            shed=_since(self.shed, earlier.shed),
            arms={key: each for key, each in arms.items() if each.times},
            log_lost=self.log_lost - earlier.log_lost,
        )

    @property
    def rejected(self) -> int:
        """Requests that were answered with a client's error, or 503."""
        return sum(n for status, n in self.statuses.items() if 400 <= status < 500 or status == 503)

    @property
    def failed(self) -> int:
        """Requests that the model or the server failed."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status != 503)

    @property
    def ended(self) -> int:
        """Requests that have their answer, whatever it was."""
        return sum(self.statuses.values())

    def rows(self, *, shadow: bool) -> int:
        """Rows that were answered, or shadowed."""
        return sum(each.rows for (_, _, was), each in self.arms.items() if was == shadow)


class Counts(msgspec.Struct, frozen=True):
    """Everything that one worker, or several, have counted."""

    endpoints: dict[str, EndpointCounts] = {}
    batches: dict[ModelKey, Histogram] = {}
    unlogged: int = 0  # lines of the access log that were dropped

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            endpoints=_sums(self.endpoints, other.endpoints),
            batches=_sums(self.batches, other.batches),
            unlogged=self.unlogged + other.unlogged,
        )

    def endpoint(self, name: str) -> EndpointCounts:
        """What was counted of that endpoint, which may be nothing yet."""
        return self.endpoints.get(name, EndpointCounts())


def counts_of(metrics: Metrics, log_lost: Mapping[str, int], *, unlogged: int = 0) -> Counts:
    """What this process has counted until now. `log_lost` are rows by endpoint."""
    return Counts(
        endpoints={
            name: _endpoint_counts(each, log_lost.get(name, 0))
            for name, each in list(metrics.endpoints.items())  # another thread may open one
        },
        batches={key: histogram_of(each) for key, each in list(metrics.models.items())},
        unlogged=unlogged,
    )


def histogram_of(counts: ArmCounts | BatchCounts) -> Histogram:
    """The histogram as it is now."""
    return Histogram(tuple(counts.counts), round(counts.seconds * 1e6), counts.rows)


def quantile_s(histogram: Histogram, q: float) -> float | None:
    """The latency below which that part of requests lies, in seconds; None when there were none.

    It is read off the buckets, between whose ends it is interpolated on a logarithmic scale.

    >>> from upturn.deploy.serve.metrics import EndpointMetrics
    >>> metrics = EndpointMetrics()
    >>> for ms in range(1, 101):
    ...     metrics.answered("champion", 1, rows=1, seconds=ms / 1000)
    >>> histogram = histogram_of(metrics.arms["champion", 1, False])
    >>> [round(quantile_s(histogram, q), 3) for q in (0.5, 0.99)]
    [0.05, 0.099]
    """
    total = histogram.times
    if not total:
        return None
    rank = q * total
    below = 0
    for place, count in enumerate(histogram.counts):
        if count and below + count >= rank:
            return _between(place, (rank - below) / count)
        below += count
    return SECONDS[-1]


def _between(place: int, part: float) -> float:
    if place == 0 or place == len(SECONDS):
        return SECONDS[min(place, len(SECONDS) - 1)]
    low, high = SECONDS[place - 1], SECONDS[place]
    return low * (high / low) ** part


def _endpoint_counts(metrics: EndpointMetrics, log_lost: int) -> EndpointCounts:
    return EndpointCounts(
        requests=metrics.begun_requests,
        statuses=dict(metrics.statuses),
        shed=dict(metrics.shed_rows),
        arms={key: histogram_of(each) for key, each in metrics.arms.items()},
        log_lost=log_lost,
    )


def _each(do: Callable[[int, int], int], one: Histogram, other: Histogram) -> Histogram:
    return Histogram(
        tuple(map(do, one.counts, other.counts)),
        do(one.micros, other.micros),
        do(one.rows, other.rows),
    )


def _sums(one: Mapping[K, V], other: Mapping[K, V]) -> dict[K, V]:
    found = dict(one)
    for key, value in other.items():
        found[key] = found[key] + value if key in found else value  # pyright: ignore[reportOperatorIssue]
    return found


def _since(now: Mapping[K, V], earlier: Mapping[K, V]) -> dict[K, V]:
    return {key: value - earlier[key] if key in earlier else value for key, value in now.items()}  # pyright: ignore[reportOperatorIssue]
