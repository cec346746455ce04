"""Prometheus: what all workers counted, in the text that Prometheus scrapes."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from upturn.deploy.serve.counts import Histogram
from upturn.deploy.serve.metrics import BATCH_ROWS, SECONDS
from upturn.deploy.serve.state import ServerState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_OPENMETRICS = "application/openmetrics-text"
# One bucket in three is shown, from 0.1 ms on: 1, 2 and 5 of each decade.
_SHOWN_SECONDS = [
    (place, end)
    for place, end in enumerate(SECONDS)
    if end >= 0.0001 and f"{end:e}"[:5] in ("1.000", "2.000", "5.000")
]
_ARM = ("endpoint", "arm", "version", "shadow")
_MODEL = ("model", "version")


def metrics_text(server: ServerState, accept: str) -> tuple[bytes, str]:
    """The metrics and their media type: OpenMetrics if `accept` names it, else the older text."""
    from prometheus_client.exposition import choose_encoder

    encode, kind = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(_Collected(server)), kind


class _Collected:
    """The families as prometheus_client wants to be given them."""

    def __init__(self, server: ServerState) -> None:
        self._server = server

    def collect(self) -> "Iterator[Metric]":
        yield from _traffic(self._server)
        yield from _latencies(self._server)
        yield from _models(self._server)
        yield from _logs(self._server)
        yield from _workers(self._server)


def _traffic(server: ServerState) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily as Counter
    from prometheus_client.metrics_core import GaugeMetricFamily as Gauge

    requests = Counter(
        "upturn_requests_total", "Requests that were answered.", labels=["endpoint", "status"]
    )
    running = Gauge(
        "upturn_requests_running", "Requests that have no answer yet.", labels=["endpoint"]
    )
    shed = Counter(
        "upturn_shed_total",
        "Requests and connections that were refused, and rows of shadows that were dropped.",
        labels=["endpoint", "kind"],
    )
    for name, counts in server.counts.endpoints.items():
        for status, number in sorted(counts.statuses.items()):
            requests.add_metric([name, str(status)], number)
        for kind, number in sorted(counts.shed.items()):
            shed.add_metric([name, kind], number)
        running.add_metric([name], server.running(name))
    yield from (requests, running, shed)


def _latencies(server: ServerState) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily as Counter
    from prometheus_client.metrics_core import HistogramMetricFamily

    rows = Counter("upturn_predictions_total", "Rows that were predicted.", labels=_ARM)
    seconds = HistogramMetricFamily(
        "upturn_request_seconds",
        "How long answers took; of a shadow, how long its answer would have taken.",
        labels=_ARM,
    )
    for name, counts in server.counts.endpoints.items():
        for (arm, version, shadow), each in sorted(counts.arms.items()):
            labels = [name, arm, str(version), str(shadow).lower()]
            rows.add_metric(labels, each.rows)
            seconds.add_metric(labels, _buckets(each, _SHOWN_SECONDS), each.micros / 1e6)
    yield from (rows, seconds)


def _models(server: ServerState) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily as Counter
    from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
    from prometheus_client.metrics_core import HistogramMetricFamily

    sizes = HistogramMetricFamily(
        "upturn_batch_rows", "Rows that a model was called with at once.", labels=_MODEL
    )
    seconds = Counter("upturn_model_seconds_total", "Time spent in the model.", labels=_MODEL)
    for (model, version), each in sorted(server.counts.batches.items()):
        labels = [model, str(version)]
        sizes.add_metric(labels, _buckets(each, list(enumerate(BATCH_ROWS))), each.rows)
        seconds.add_metric(labels, each.micros / 1e6)
    queue = Gauge("upturn_queue_rows", "Rows that wait for a model.", labels=_MODEL)
    for (model, version), rows in sorted(server.queues.items()):
        queue.add_metric([model, str(version)], rows)
    yield from (sizes, seconds, queue)


def _logs(server: ServerState) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily as Counter
    from prometheus_client.metrics_core import GaugeMetricFamily as Gauge

    waiting = Gauge(
        "upturn_log_waiting_rows", "Rows that are not on disk yet.", labels=["endpoint"]
    )
    lost = Counter(
        "upturn_log_lost_rows_total", "Rows that the Log does not have.", labels=["endpoint"]
    )
    revision = Gauge(
        "upturn_route_revision", "The route that every worker serves.", labels=["endpoint"]
    )
    refused = Gauge(
        "upturn_route_refused", "The newest route that was not taken, or 0.", labels=["endpoint"]
    )
    for name in server.names:
        waiting.add_metric([name], server.log_waiting(name))
        lost.add_metric([name], server.counts.endpoint(name).log_lost)
        revision.add_metric([name], server.route(name) or 0)
        refusal = server.refused(name)
        refused.add_metric([name], refusal.route if refusal else 0)
    unlogged = Counter(
        "upturn_access_log_dropped_total",
        "Lines that the access log does not have.",
        value=server.counts.unlogged,
    )
    yield from (waiting, lost, revision, refused, unlogged)


def _workers(server: ServerState) -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily as Counter
    from prometheus_client.metrics_core import GaugeMetricFamily as Gauge

    memory = Gauge("upturn_worker_resident_bytes", "Memory of a worker.", labels=["pid"])
    cpu = Counter("upturn_worker_cpu_seconds_total", "Processor time of a worker.", labels=["pid"])
    for worker, now in server.workers:
        memory.add_metric([str(worker.pid)], now.rss_bytes)
        cpu.add_metric([str(worker.pid)], now.cpu_s)
    yield Gauge("upturn_workers", "Workers that live.", value=len(server.workers))
    yield Gauge(
        "upturn_workers_ready",
        "Workers that have looked at every route.",
        value=sum(now.ready for _, now in server.workers),
    )
    yield from (memory, cpu)


def _buckets(each: Histogram, shown: Sequence[tuple[int, float]]) -> list[tuple[str, float]]:
    until = list(accumulate(each.counts))
    return [*((f"{end:g}", float(until[place])) for place, end in shown), ("+Inf", until[-1])]
