"""A server as machines and people look at it: pages, metrics, health, its description, commands."""

import contextlib
import http.client
import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from e2e.collector import Collector
from e2e.folder import Folder
from e2e.serving import GOOD, Project, Server, fitted, one, wait_for
from e2e.terminal import Terminal
from upturn.core.records import Arm

ARMS = (
    Arm(name="champion", version=1, share=0.6),
    Arm(name="candidate", version=2, share=0.4),
    Arm(name="dark", version=2, share=0.0, shadow=True),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("outside") / "project")
    project.register("delays", fitted())
    project.register("delays", project.model("Constant", 0.5))
    project.endpoint("delays", unit="tail")
    project.route("delays", *ARMS)
    project.register("steady", project.model("Constant", 3.0))
    project.register("steady", project.model("Broken", "nan"))
    project.endpoint("steady")
    project.route("steady", one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


def rows(count: int) -> dict[str, Any]:
    return {"rows": [{**GOOD, "tail": f"N{number}"} for number in range(count)]}


# Prometheus


def samples(text: str, parse: Any = plain) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def total(found: dict[Any, float], name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(v for (given, pairs), v in found.items() if given == name and wanted <= pairs)


def test_metrics_say_what_was_asked_and_answered(server: Server) -> None:
    before = after = samples(server.get("/metrics").raw.decode())

    def more(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    def all_is_counted() -> bool:
        nonlocal after
        after = samples(server.get("/metrics").raw.decode())
        asked = more("upturn_requests_total", endpoint="", status="404")
        return asked == 1 and more("upturn_predictions_total", arm="dark") == 150

    for _ in range(3):
        assert server.predict("delays", rows(50)).status == 200
    server.predict("delays", {"row": {}})
    server.predict("dealys", {"row": GOOD})
    wait_for(all_is_counted, "the shadow, and for the worker to have told what it counted")
    kind = server.get("/metrics").headers["content-type"]
    assert kind.startswith("text/plain; version=0.0.4")
    assert more("upturn_requests_total", endpoint="delays", status="200") == 3
    assert more("upturn_requests_total", endpoint="delays", status="422") == 1
    assert more("upturn_requests_total", endpoint="", status="404") == 1
    assert more("upturn_predictions_total", endpoint="delays", shadow="false") == 150
    assert more("upturn_predictions_total", endpoint="delays", arm="dark", shadow="true") == 150
    for arm, version in (("champion", "1"), ("candidate", "2")):
        labels = {"endpoint": "delays", "arm": arm, "version": version}
        assert more("upturn_predictions_total", **labels) > 0
        assert more("upturn_request_seconds_count", **labels) == 3
        assert more("upturn_request_seconds_bucket", le="+Inf", **labels) == 3
        assert more("upturn_request_seconds_sum", **labels) > 0
    assert more("upturn_batch_rows_sum", model="delays") == 300
    assert more("upturn_model_seconds_total", model="delays") > 0
    assert total(after, "upturn_route_revision", endpoint="delays") == 1
    assert total(after, "upturn_workers") == total(after, "upturn_workers_ready") == 1
    assert total(after, "upturn_worker_resident_bytes") > 10_000_000
    assert total(after, "upturn_requests_running", endpoint="delays") == 0


def test_histograms_only_rise_from_bucket_to_bucket(server: Server) -> None:
    assert server.predict("delays", rows(7)).status == 200
    text = server.get("/metrics").raw.decode()
    series: dict[Any, list[tuple[float, float]]] = {}
    for (name, labels), value in samples(text).items():
        if name.endswith("_bucket"):
            pairs = dict(labels)
            end = float(pairs.pop("le"))
            series.setdefault((name, frozenset(pairs.items())), []).append((end, value))
    assert len(series) >= 4
    for buckets in series.values():
        counts = [value for _, value in sorted(buckets)]
        assert counts == sorted(counts)


def test_metrics_come_as_openmetrics_to_who_asks_for_it(server: Server) -> None:
    reply = server.ask("GET", "/metrics", headers={"accept": "application/openmetrics-text"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found = samples(reply.raw.decode(), openmetrics)
    assert total(found, "upturn_workers") == 1


def test_counters_never_fall(server: Server) -> None:
    seen: list[dict[Any, float]] = []
    for _ in range(3):
        server.predict("delays", rows(5))
        text = server.get("/metrics").raw.decode()
        kinds = {family.name for family in plain(text) if family.type in ("counter", "histogram")}
        found = samples(text)
        seen.append({key: v for key, v in found.items() if key[0].startswith(tuple(kinds))})
    for earlier, later in itertools.pairwise(seen):
        assert earlier.keys() <= later.keys()
        assert all(later[key] >= value for key, value in earlier.items())


def test_every_worker_answers_for_all_and_no_counter_falls_when_one_is_killed(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    project.environ["UPTURN_WORKERS"] = "2"
    project.register("arms", project.model("Constant", 1.0))
    project.endpoint("arms")
    project.route("arms", one(1))
    with project.server() as server:

        def anew(path: str) -> bytes:
            """Over another connection, maybe to another worker, which may die meanwhile."""
            while True:
                server.hang_up()
                with contextlib.suppress(OSError, http.client.HTTPException):
                    return server.get(path).raw

        def asked() -> float:
            found = samples(anew("/metrics").decode())
            return total(found, "upturn_requests_total", endpoint="arms")

        def ask(times: int) -> None:
            for _ in range(times):
                server.hang_up()
                assert server.predict("arms", {"row": GOOD}).status == 200

        def pids() -> list[int]:
            page = json.loads(anew("/v1/endpoints/arms"))
            return [worker["pid"] for worker in page["workers"]]

        wait_for(lambda: len(pids()) == 2, "both workers")
        server.wait_route("arms", 1)
        ask(40)
        wait_for(lambda: all(asked() == 40 for _ in range(6)), "all workers to know of all")
        workers = server.page("arms")["workers"]
        assert sum(worker["requests"] for worker in workers) == 40
        killed = max(workers, key=lambda worker: worker["requests"])["pid"]
        os.kill(killed, signal.SIGKILL)
        told = [asked() for _ in range(10)]
        wait_for(lambda: len(pids()) == 2 and killed not in pids(), "another worker")
        told += [asked() for _ in range(10)]
        assert told == [40.0] * 20
        server.wait_route("arms", 1)
        ask(5)
        wait_for(lambda: all(asked() == 45 for _ in range(6)), "all workers to know of these, too")
    project.workspace.close()


# Health and pages


def test_probes_have_the_names_that_clusters_use(server: Server) -> None:
    for path in ("/healthz", "/health/live"):
        assert (server.get(path).status, server.get(path).body) == (200, {"status": "live"})
    for path in ("/readyz", "/health/ready"):
        assert server.get(path).status == 200
        assert server.get(path).body["endpoints"]["delays"] == "live"
        assert server.ask("POST", path, b"").status == 405


def test_the_page_shows_traffic_and_latency_by_arm(server: Server) -> None:
    before = {arm["arm"]: arm for arm in server.page("delays")["arms"]}
    for _ in range(5):
        assert server.predict("delays", rows(40)).status == 200
    page = server.page("delays")
    assert page["route"] == 1
    assert page["requests_per_s"] > 0
    assert page["statuses"]["200"] >= 5
    assert (page["queue_rows"], page["running"]) == (0, 0)
    (worker,) = page["workers"]
    assert worker["ready"]
    os.kill(worker["pid"], 0)  # a process that there is
    arms = {arm["arm"]: arm for arm in page["arms"]}
    grown = sum(arms[name]["rows"] - before[name]["rows"] for name in ("champion", "candidate"))
    assert grown == 200
    for name in ("champion", "candidate"):
        arm = arms[name]
        assert arm["requests"] == before[name]["requests"] + 5
        assert arm["recent"]["requests_per_s"] > 0
        assert 0 < arm["p50_s"] <= arm["p90_s"] <= arm["p99_s"] < 10


# The description


def test_the_description_has_each_models_own_fields_and_answers(server: Server) -> None:
    description = server.get("/openapi.json").body
    schemas = description["components"]["schemas"]
    properties = schemas["delays.row"]["properties"]
    assert list(properties) == [*GOOD, "tail"]
    assert properties["carrier"]["examples"] == ["AA", "B6", "UA"]
    row = {name: schema["examples"][0] for name, schema in properties.items() if name != "tail"}
    assert check(row, schemas["delays.row"], schemas) == []
    assert server.predict("delays", {"row": row}).status == 200
    for name in ("delays", "steady"):
        operation = description["paths"][f"/v1/endpoints/{name}/predict"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        assert check(content["example"], content["schema"], schemas) == []
        reply = server.predict(name, content["example"])
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert (reply.status, check(reply.body, answer, schemas)) == (200, [])
        table = operation["requestBody"]["content"]["text/csv"]["example"].encode()
        path = f"/v1/endpoints/{name}/predict"
        assert server.ask("POST", path, table, {"content-type": "text/csv"}).status == 200
        problem = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]
        refused = server.predict(name, {"row": {}})
        assert (refused.status, check(refused.body, problem, schemas)) == (422, [])


def test_whatever_the_description_says_can_be_read(server: Server) -> None:
    description = server.get("/openapi.json").body
    paths = [path for path, operations in description["paths"].items() if "get" in operations]
    assert {"/metrics", "/healthz", "/readyz", "/v1/endpoints"} <= set(paths)
    for path in paths:
        if path.startswith("/api/"):  # tests/e2e/test_api_fuzz.py asks those
            continue
        content = description["paths"][path]["get"]["responses"]["200"]["content"]
        reply = server.get(path.replace("{name}", "delays"))
        assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, *content)
        if "application/json" in content:
            schema = content["application/json"]["schema"]
            assert check(reply.body, schema, description["components"]["schemas"]) == []


KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def check(value: Any, schema: dict[str, Any], known: dict[str, Any], at: str = "") -> list[str]:
    """What does not fit, by as much of JSON Schema as the description uses."""
    if "$ref" in schema:
        return check(value, known[schema["$ref"].rpartition("/")[2]], known, at)
    if "anyOf" in schema:
        found = [check(value, each, known, at) for each in schema["anyOf"]]
        return [] if any(not each for each in found) else found[0]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(
        isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    ):
        return [f"{at}: {value!r} is no {kinds}"]
    wrong = [f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name, each in value.items():
            if name in properties:
                wrong += check(each, properties[name], known, f"{at}/{name}")
            elif schema.get("additionalProperties") is False:
                wrong.append(f"{at}: {name} is not described")
    if isinstance(value, list):
        for each in value:
            wrong += check(each, schema.get("items", {}), known, f"{at}[]")
    return wrong


# The command


def test_the_command_shows_live_traffic_by_arm(project: Project, server: Server) -> None:
    for _ in range(3):
        server.predict("delays", rows(30))
    said = project.command("endpoints")
    assert said.returncode == 0, said.stderr
    heading, *lines = said.stdout.splitlines()
    assert heading.split() == (
        [
            "endpoint",
            "route",
            "arm",
            "version",
            "share",
            "req/s",
            "p50",
            "p99",
            "errors",
            "shed",
            "log",
        ]
    )
    champion = next(line for line in lines if "delays:1" in line)
    assert champion.startswith("delays")
    assert "60 %" in champion
    assert " ms" in champion
    assert any("shadow" in line and "dark" in line for line in lines)
    assert server.url in said.stdout


def test_the_command_shows_one_endpoint_in_detail(project: Project, server: Server) -> None:
    refused = project.route("steady", one(2))
    wait_for(lambda: server.page("steady")["refused"] is not None, "the refusal")
    said = project.command("endpoints", "steady")
    assert said.returncode == 0, said.stderr
    assert f"route {refused} was refused" in said.stdout
    assert "NaN" in said.stdout
    assert "carrier" in said.stdout
    (curl,) = [line for line in said.stdout.splitlines() if line.startswith("curl")]
    assert json.loads(curl.partition("-d '")[2].rstrip("'"))["rows"]
    page = json.loads(project.command("endpoints", "steady", "--json").stdout)
    assert page["endpoint"] == "steady"
    assert page["server"] == server.url
    wrong = project.command("endpoints", "dealys")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "No endpoint 'dealys'.\nDid you mean 'delays'?\n",
    )


def test_without_a_server_the_command_says_what_is_known_and_how_to_start_one(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    assert "upturn deploy NAME" in project.command("endpoints").stdout
    project.register("arms", project.model("Constant", 1.0))
    project.endpoint("arms", unit="tail")
    project.route("arms", one(1))
    said = project.command("endpoints").stdout
    assert "arms:1" in said
    assert "upturn up" in said
    page = json.loads(project.command("endpoints", "--json").stdout)
    assert (page["server"], page["endpoints"][0]["arms"][0]["version"]) == (None, "arms:1")
    assert project.command("endpoints", "--json", "--watch").returncode == 2
    project.workspace.close()


def test_the_command_goes_on_looking_until_ctrl_c(project: Project, server: Server) -> None:
    terminal = Terminal(Folder(project.root, {}), "endpoints", "delays", "--watch")
    requests = server.page("delays")["counters"]["requests"]
    terminal.wait_for(lambda seen: f"{requests:,} requests" in seen.text)
    server.predict("delays", {"row": GOOD})
    terminal.wait_for(lambda seen: f"{requests + 1:,} requests" in seen.text)
    terminal.press_ctrl_c()
    status, screen = terminal.end()
    assert (status, screen.cursor_visible) == (130, True)
    assert not any("Traceback" in row for row in screen.rows)


# What is written of each request


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[list[dict[str, Any]], list[Any], list[dict[str, Any]]]]:
    """Lines of the access log, spans, and rows of the Log, of some requests to one server."""
    project = Project(tmp_path_factory.mktemp("observed") / "project")
    project.register("arms", project.model("Constant", 1.0))
    project.register("arms", project.model("Constant", 2.0))
    project.endpoint("arms", unit="tail")
    project.route("arms", *ARMS)
    collector = Collector()
    path = project.root / "access.log"
    project.environ["UPTURN_ACCESS_LOG"] = str(path)
    project.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    with project.server() as server:
        traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert server.predict("arms", rows(40), **traced).status == 200
        assert server.predict("arms", {"row": GOOD}, x_request_id="mine").status == 200
        assert server.predict("arms", {"row": {}}).status == 422
        assert server.predict("nobody", {"row": GOOD}).status == 404
        os.replace(path, project.root / "access.log.1")  # as logrotate does
        wait_for(
            lambda: server.get("/v1/endpoints").status == 200 and path.exists(), "another file"
        )
        assert server.get("/metrics").status == 200
    files = [project.root / "access.log.1", path]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    yield lines, collector.spans(), project.log("arms").to_pylist()
    collector.close()
    project.workspace.close()


def test_the_access_log_has_a_line_for_each_request(observed: Any) -> None:
    lines, _, _ = observed
    asked = [line for line in lines if line["method"] == "POST"]
    first, second, third, fourth = asked
    assert (first["status"], first["endpoint"], first["rows"]) == (200, "arms", 40)
    assert set(first["arms"]) == {"champion", "candidate"}
    assert set(first["versions"]) == {"arms:1", "arms:2"}
    assert first["path"] == "/v1/endpoints/arms/predict"
    assert first["bytes"] > 1000
    assert 0 < first["seconds"] < 10
    assert second["request"] == "mine"
    assert (third["status"], third["code"], third.get("rows")) == (422, "invalid", None)
    assert (fourth["status"], fourth["code"]) == (404, "not_found")
    assert {line["path"] for line in lines} >= {"/v1/endpoints", "/metrics", "/health/ready"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind)
    return found


def test_a_request_is_a_span_of_its_callers_trace(observed: Any) -> None:
    _, spans, _ = observed
    (span,) = [s for s in spans if s.parent_span_id.hex() == PARENT]
    assert span.trace_id.hex() == TRACE
    assert span.name == "POST /v1/endpoints/{name}/predict"
    assert span.kind == span.SPAN_KIND_SERVER
    found = attributes(span)
    assert found["http.request.method"] == "POST"
    assert found["http.route"] == "/v1/endpoints/{name}/predict"
    assert found["http.response.status_code"] == 200
    assert found["url.path"] == "/v1/endpoints/arms/predict"
    assert found["upturn.endpoint"] == "arms"
    assert set(found["upturn.arm"].split(",")) == {"champion", "candidate"}
    assert found["upturn.rows"] == 40
    phases = [s for s in spans if s.parent_span_id == span.span_id]
    assert {phase.name for phase in phases} == {"read", "decode", "queue", "model", "log"}
    for phase in phases:
        assert span.start_time_unix_nano <= phase.start_time_unix_nano
        assert phase.start_time_unix_nano <= phase.end_time_unix_nano <= span.end_time_unix_nano


def test_clients_errors_are_no_errors_of_the_server_and_probes_have_no_spans(observed: Any) -> None:
    _, spans, _ = observed
    by_status = {attributes(s).get("http.response.status_code"): s for s in spans}
    assert by_status[422].status.code == by_status[404].status.code == 0
    paths = {attributes(s).get("url.path") for s in spans}
    assert "/v1/endpoints" in paths
    assert not paths & {"/metrics", "/health/ready"}


def test_the_log_names_the_trace_unless_the_client_named_the_request(observed: Any) -> None:
    lines, _, logged = observed
    assert {row["request"] for row in logged} == {TRACE, "mine"}
    assert [row["request"] for row in logged].count(TRACE) == 80  # with the shadow's
    assert all(line["trace"] for line in lines if line["method"] == "POST")
