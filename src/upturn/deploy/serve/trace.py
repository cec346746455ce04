"""Tracing: a span for each request by OpenTelemetry, for whoever has set up a collector.

Only imported when the OTEL_ variables name a collector. A request that brings a trace in its
`traceparent` becomes a part of it; what is kept is up to OTEL_TRACES_SAMPLER.
"""

import threading
import time
from typing import TYPE_CHECKING, Any

from upturn.deploy.serve.asgi import Scope
from upturn.deploy.serve.seen import Seen

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Span

# Asked by machines every few seconds: nobody wants their traces.
_PROBES = {"/health/live", "/health/ready", "/healthz", "/readyz", "/metrics"}
_END_S = 2.0  # what the end waits for a collector that is slow


class Tracing:
    """An Observer that sends spans. Raises ImportError where the extra `otel` is not installed."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.propagate import get_global_textmap
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("upturn.serve")
        self._propagator = get_global_textmap()
        self._carried = {name.encode() for name in self._propagator.fields}
        self._server, self._inside = SpanKind.SERVER, SpanKind.INTERNAL
        self._failed = Status(StatusCode.ERROR)
        self._within = set_span_in_context
        # Spans want the time since 1970; phases are measured on a clock that is never set.
        self._clock_ns = time.time_ns() - time.perf_counter_ns()

    def begin(self, seen: Seen, scope: Scope) -> None:
        """See Observer."""
        if seen.path in _PROBES:
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in self._carried
        }
        span = self._tracer.start_span(
            seen.method,
            context=self._propagator.extract(carrier) if carrier else None,
            kind=self._server,
            attributes=_asked(seen, scope),
            start_time=self._ns(seen.started),
        )
        seen.span = span
        if span.is_recording():
            seen.trace = format(span.get_span_context().trace_id, "032x")

    def end(self, seen: Seen) -> None:
        """See Observer."""
        span: Span | None = seen.span
        if span is None:
            return
        if span.is_recording():
            if seen.route:
                span.update_name(f"{seen.method} {seen.route}")
            span.set_attributes(_answered(seen))
            if seen.status >= 500:
                span.set_status(self._failed)
            self._phases(seen)
        span.end(self._ns(seen.ended))

    def close(self) -> None:
        """Send what is left, if the collector takes it soon."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_END_S)
        if ending.is_alive():
            self._exporter.shutdown()  # ends its waiting for another try

    def _phases(self, seen: Seen) -> None:
        """A span for each part of the work: reading, decoding, waiting, the model, the Log."""
        within = self._within(seen.span)
        begin = seen.started
        for what, end in seen.marks:
            if what == "predict":
                model = max(begin, end - seen.model_s)
                self._phase("queue", begin, model, within)
                self._phase("model", model, end, within)
            else:
                self._phase(what, begin, end, within)
            begin = end

    def _phase(self, what: str, begin: float, end: float, within: Any) -> None:
        span = self._tracer.start_span(
            what, context=within, kind=self._inside, start_time=self._ns(begin)
        )
        span.end(self._ns(end))

    def _ns(self, clock_s: float) -> int:
        return self._clock_ns + int(clock_s * 1e9)


def _resource() -> "Resource":
    import os
    from importlib.metadata import version

    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    process = {SERVICE_VERSION: version("upturn"), "process.pid": os.getpid()}
    found = Resource.create(process)
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: "upturn"}))
    return found


def _asked(seen: Seen, scope: Scope) -> dict[str, str | int]:
    """The request, by OpenTelemetry's conventions for HTTP servers."""
    found: dict[str, str | int] = {
        "http.request.method": seen.method,
        "url.path": seen.path,
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    for name, value in scope["headers"]:
        if name == b"user-agent":
            found["user_agent.original"] = value.decode("latin-1")
    if scope.get("server"):
        found["server.address"], found["server.port"] = scope["server"]
    if scope.get("client"):
        found["client.address"], found["client.port"] = scope["client"]
    return found


def _answered(seen: Seen) -> dict[str, Any]:
    """What became of it, by the same conventions, and what is Upturn's own."""
    found: dict[str, Any] = {
        "http.response.status_code": seen.status,
        "http.response.body.size": seen.bytes,
    }
    if seen.route:
        found["http.route"] = seen.route
    if seen.status >= 500:
        found["error.type"] = seen.code or str(seen.status)
    if seen.endpoint:
        found["upturn.endpoint"] = seen.endpoint
    if seen.rows:
        found["upturn.arm"] = ",".join(seen.arms)
        found["upturn.version"] = ",".join(seen.versions)
        found["upturn.rows"] = seen.rows
    if seen.request:
        found["upturn.request"] = seen.request
    return found
