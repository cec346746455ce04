"""Describe: a live endpoint's page as JSON: who answers, what it takes, and how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upturn.deploy.example import example_request, predict_path
from upturn.deploy.serve.counts import ArmKey, EndpointCounts, Histogram, quantile_s
from upturn.deploy.serve.state import Now, ServerState, WorkerState

if TYPE_CHECKING:
    from upturn.deploy.serve.live import Live, LiveArm, Served


def describe(served: Served, server: ServerState) -> dict[str, Any]:
    """An endpoint's page, of all workers together; fields and example are this worker's."""
    name, live = served.name, served.live
    counts = server.counts.endpoint(name)
    page: dict[str, Any] = {
        "endpoint": name,
        "route": server.route(name),
        "refused": server.refused(name),
        "counters": _counters(counts),
        "statuses": {str(status): number for status, number in sorted(counts.statuses.items())},
        "shed": counts.shed,
        "running": server.running(name),
        "requests_per_s": round(server.per_s(name, _ended), 3),
        "errors_per_s": round(server.per_s(name, _errors), 3),
        "log_waiting": server.log_waiting(name),
        "workers": [_worker(name, worker, now) for worker, now in server.workers],
    }
    return page | (_live(live, server) if live else {})


def _counters(counts: EndpointCounts) -> dict[str, int]:
    return {
        "requests": counts.requests,
        "rows": counts.rows(shadow=False),
        "rejected": counts.rejected,
        "failed": counts.failed,
        "shadow_rows": counts.rows(shadow=True),
        "shadow_dropped": counts.shed.get("shadow", 0),
        "log_lost": counts.log_lost,
    }


def _live(live: Live, server: ServerState) -> dict[str, Any]:
    model = live.route.model
    versions = {arm.version.number for arm in live.arms.values()}
    return {
        "model": model,
        "why": live.route.why,
        "at": live.route.at,
        "unit": live.endpoint.unit,
        "durable": live.endpoint.durable,
        "queue_rows": sum(server.queues.get((model, version), 0) for version in versions),
        "arms": [_arm(live, arm, server) for arm in live.arms.values()],
        "output": live.signature.output,
        "fields": live.signature.inputs,
        "predict": predict_path(live.endpoint.name),
        "example": example_request(live.signature, live.endpoint.unit),
    }


def _arm(live: Live, arm: LiveArm, server: ServerState) -> dict[str, Any]:
    name = live.endpoint.name
    key = (arm.arm.name, arm.version.number, arm.arm.shadow)
    return {
        "arm": arm.arm.name,
        "version": arm.version.name,
        "share": arm.arm.share,
        "shadow": arm.arm.shadow,
        "form": arm.worker.form,
        **_figures(server.counts.endpoint(name).arms.get(key)),
        "recent": {
            **_figures(server.recent(name).arms.get(key)),
            "requests_per_s": round(server.per_s(name, lambda counts: _requests(counts, key)), 3),
            "rows_per_s": round(server.per_s(name, lambda counts: _rows(counts, key)), 3),
        },
    }


def _figures(histogram: Histogram | None) -> dict[str, float | None]:
    """How often an arm answered, and how fast: half of the requests, nine in ten, all but one."""
    histogram = histogram or Histogram(())
    quantiles = {f"p{q}_s": quantile_s(histogram, q / 100) for q in (50, 90, 99)}
    rounded = {name: value and float(f"{value:.3g}") for name, value in quantiles.items()}
    return {"requests": histogram.times, "rows": histogram.rows, **rounded}


def _worker(name: str, worker: WorkerState, now: Now) -> dict[str, Any]:
    endpoint = now.endpoints.get(name)
    return {
        "pid": worker.pid,
        "ready": now.ready,
        "route": endpoint and endpoint.route,
        "requests": worker.counts.endpoint(name).requests,
        "memory_bytes": now.rss_bytes,
        "cpu_s": now.cpu_s,
    }


def _ended(counts: EndpointCounts) -> int:
    return counts.ended


def _errors(counts: EndpointCounts) -> int:
    return counts.rejected + counts.failed


def _requests(counts: EndpointCounts, key: ArmKey) -> int:
    return counts.arms[key].times if key in counts.arms else 0


def _rows(counts: EndpointCounts, key: ArmKey) -> int:
    return counts.arms[key].rows if key in counts.arms else 0
