"""Tracing: only when asked for, sampled as asked for, and no hindrance at the end."""

import subprocess
import sys
from typing import Any

import pytest

from e2e.collector import Collector
from upturn.core.settings import load_settings
from upturn.deploy.serve.seen import Seen
from upturn.deploy.serve.trace import Tracing

ASKED: dict[str, Any] = {"headers": [(b"user-agent", b"tests")], "scheme": "http"}


def request(tracing: Tracing, *headers: tuple[bytes, bytes]) -> Seen:
    seen = Seen("POST", "/v1/endpoints/churn/predict")
    tracing.begin(seen, {**ASKED, "headers": [*ASKED["headers"], *headers]})
    seen.status = 200
    seen.mark("read")
    tracing.end(seen)
    return seen


@pytest.mark.parametrize(
    ("sampler", "kept"), [("always_on", 1), ("always_off", 0), ("parentbased_always_off", 0)]
)
def test_the_sampler_decides_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, sampler: str, kept: int
) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    tracing = Tracing()
    seen = request(tracing)
    tracing.close()
    collector.close()
    names = [span.name for span in collector.spans()]
    assert names.count("POST") == kept
    assert bool(seen.trace) == bool(kept)


def test_a_caller_that_keeps_its_trace_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "scores")
    tracing = Tracing()
    trace = b"0af7651916cd43dd8448eb211c80319c"
    seen = request(tracing, (b"traceparent", b"00-" + trace + b"-b7ad6b7169203331-01"))
    request(tracing, (b"traceparent", b"00-nonsense"))
    tracing.close()
    collector.close()
    assert seen.trace.encode() == trace
    assert {span.name for span in collector.spans()} == {"POST", "read"}
    ((_, sent),) = collector.received
    resource = {pair.key: pair.value for pair in sent.resource_spans[0].resource.attributes}
    assert resource["service.name"].string_value == "scores"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_for_whoever_names_a_collector(environ: dict[str, str], wanted: bool) -> None:
    assert load_settings(environ=environ).traces == wanted


def test_a_server_that_is_not_asked_for_them_imports_no_libraries_for_them() -> None:
    heavy = "any(name.startswith(('opentelemetry', 'prometheus_client')) for name in sys.modules)"
    code = f"import sys, upturn.server.app; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
