"""Traces of MLflow's clients: whole ones, what is thought of them, and what they are linked to."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from unit.adapters.mlflow_api import Api
from upturn.adapters.mlflow.app import MlflowApi
from upturn.server.access.mlflow import role_of
from upturn.stores.workspace import open_workspace

BAD = "INVALID_PARAMETER_VALUE"
NONE = "RESOURCE_DOES_NOT_EXIST"
V3 = "/api/3.0/mlflow/traces"
ID = "AAAAAAAAAAE="
SPAN = {
    "trace_id": "AAAAAAAAAAAAAAAAAAAAAQ==",
    "span_id": ID,
    "parent_span_id": None,
    "name": "answer",
    "start_time_unix_nano": 10,
    "end_time_unix_nano": 30,
    "status": {"code": "STATUS_CODE_OK", "message": ""},
    "events": [{"name": "seen", "time_unix_nano": 20, "attributes": {"n": 1}}],
    "attributes": {"fruit": '"apple"', "many": "[1, 2.5, true, null]", "deep": '{"a": {}}'},
}


class Traces(Api):
    """An API with traces."""

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and body."""
        answer = self.http.request(method, f"{V3}{path}", **options)
        return answer.status_code, answer.json()

    def trace(self, name: str = "tr-1", spans: Any = None, **more: Any) -> str:
        """Return the id of a new trace, in experiment 0, with spans if there are any."""
        info = {
            "trace_id": name,
            "trace_location": {"mlflow_experiment": {"experiment_id": "0"}},
            "request_time": "2026-01-02T03:04:05.006Z",
            "state": "OK",
            **more,
        }
        assert self.ask("POST", "", json={"trace": {"trace_info": info}})[0] == 200
        if spans is not None:
            path = f"/api/2.0/mlflow-artifacts/artifacts/0/traces/{name}/artifacts/traces.json"
            text = spans if isinstance(spans, str) else json.dumps({"spans": spans})
            assert self.http.put(path, content=text).status_code == 200
        return name

    def found(self, text: str) -> list[str]:
        """Return the ids of the traces that fit a filter, newest first."""
        where = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
        status, body = self.ask("POST", "/search", json={"locations": where, "filter": text})
        assert status == 200, body
        return [one["trace_id"] for one in body.get("traces", [])]

    def assess(self, trace: str = "tr-1", **fields: Any) -> Any:
        """Return a new assessment."""
        status, body = self.ask("POST", f"/{trace}/assessments", json={"assessment": fields})
        assert status == 200, body
        return body["assessment"]


@pytest.fixture
def api() -> Iterator[Traces]:
    workspace = open_workspace()
    yield Traces(workspace)
    workspace.close()


def test_a_whole_trace_has_its_spans_as_opentelemetry_says_them(api: Traces) -> None:
    api.trace(spans=[SPAN])
    status, body = api.ask("GET", "/get", params={"trace_id": "tr-1", "allow_partial": "False"})
    assert status == 200
    assert body["trace"]["trace_info"]["trace_id"] == "tr-1"
    (span,) = body["trace"]["spans"]
    assert {name: span[name] for name in ("name", "span_id", "status")} == {
        "name": "answer",
        "span_id": ID,
        "status": {"code": "STATUS_CODE_OK", "message": ""},
    }
    assert "parent_span_id" not in span
    assert {one["key"]: one["value"] for one in span["attributes"]} == {
        "fruit": {"string_value": "apple"},
        "many": {
            "array_value": {
                "values": [{"int_value": 1}, {"double_value": 2.5}, {"bool_value": True}, {}]
            }
        },
        "deep": {
            "kvlist_value": {"values": [{"key": "a", "value": {"kvlist_value": {"values": []}}}]}
        },
    }
    assert span["events"] == [
        {
            "name": "seen",
            "time_unix_nano": 20,
            "attributes": [{"key": "n", "value": {"int_value": 1}}],
        }
    ]
    answer = api.http.get("/ajax-api/2.0/mlflow/get-trace-artifact?request_id=tr-1")
    assert answer.headers["content-disposition"] == "attachment; filename=traces.json"
    assert answer.json() == {"spans": [SPAN]}


def test_spans_of_older_clients_are_read_too(api: Traces) -> None:
    old = {
        "name": "old",
        "context": {"trace_id": "0x01", "span_id": "0x00000000000000ff"},
        "parent_id": "0x0000000000000001",
        "start_time": 1,
        "end_time": 2,
        "status_code": "ERROR",
        "status_message": "no",
        "attributes": {"plain": "no JSON"},
    }
    api.trace(spans=[old])
    (span,) = api.ask("GET", "/get", params={"trace_id": "tr-1"})[1]["trace"]["spans"]
    assert (span["span_id"], span["parent_span_id"]) == ("AAAAAAAAAP8=", ID)
    assert span["status"] == {"code": "STATUS_CODE_ERROR", "message": "no"}
    assert span["attributes"] == [{"key": "plain", "value": {"string_value": "no JSON"}}]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"spans": 3}', '{"spans": [{}]}', '{"spans": [1]}']
)
def test_files_that_hold_no_spans_are_no_mistake_of_the_server(api: Traces, text: str) -> None:
    api.trace(spans=text)
    status, body = api.ask("GET", "/get", params={"trace_id": "tr-1"})
    assert (status, body["error_code"]) == (404, NONE)
    status, body = api.ask("GET", "/get", params={"trace_id": "tr-1", "allow_partial": "true"})
    assert (status, body["trace"]["spans"]) == (200, [])


def test_traces_come_in_batches(api: Traces) -> None:
    api.trace("tr-1", spans=[SPAN])
    api.trace("tr-2")
    asked = ["tr-2", "tr-1", "tr-1", "tr-none"]
    body = api.ask("GET", "/batchGet", params={"trace_ids": asked})[1]
    assert [one["trace_info"]["trace_id"] for one in body["traces"]] == ["tr-1"]
    body = api.ask("POST", "/batchGetInfos", json={"trace_ids": asked})[1]
    assert [one["trace_id"] for one in body["trace_infos"]] == ["tr-2", "tr-1"]
    elsewhere = {"trace_ids": asked, "experiment_ids": ["7"]}
    assert api.ask("POST", "/batchGetInfos", json=elsewhere) == (200, {})
    assert api.ask("POST", "/batchGetInfos", json={})[1]["error_code"] == BAD


def test_traces_are_found_by_their_text_their_time_and_their_runs(api: Traces) -> None:
    run = api.run()
    api.trace("tr-1", spans=[SPAN], execution_duration="2.5s")
    api.trace("tr-2", trace_metadata={"mlflow.sourceRun": run})
    assert api.found("trace.text LIKE '%apple%'") == ["tr-1"]
    assert api.found("execution_time_ms >= 2500") == ["tr-1"]
    assert api.found("metadata.nothing IS NULL") == ["tr-2", "tr-1"]
    assert api.found(f"attribute.run_id = '{run}'") == ["tr-2"]
    api.post("traces/link-to-run", trace_ids=["tr-1", "tr-none"], run_id=run)
    assert api.found(f"run_id = '{run}'") == ["tr-2", "tr-1"]
    said = api.ask("GET", "/tr-1")[1]["trace"]["trace_info"]
    assert not any(name.startswith("upturn") for name in said)
    many = [f"tr-{number}" for number in range(101)]
    assert "more than 100" in api.refused("traces/link-to-run", trace_ids=many, run_id=run)[2]
    assert api.refused("traces/link-to-run", trace_ids=["tr-1"], run_id="x")[1] == NONE


def test_prompts_that_a_trace_used_are_in_its_tag(api: Traces) -> None:
    api.trace()
    for _ in range(2):
        used = [{"name": "greet", "version": "2"}]
        api.post("traces/link-prompts", trace_id="tr-1", prompt_versions=used)
    tags = api.ask("GET", "/tr-1")[1]["trace"]["trace_info"]["tags"]
    assert json.loads(tags["mlflow.linkedPrompts"]) == [{"name": "greet", "version": "2"}]


def test_an_assessment_is_made_changed_overridden_and_taken_away(api: Traces) -> None:
    api.trace()
    first = api.assess(
        assessment_name="good",
        feedback={"value": {"stars": 4}},
        source={"source_type": "HUMAN", "source_id": "ada"},
        metadata={"a": "1"},
    )
    path = f"/tr-1/assessments/{first['assessment_id']}"
    assert first["valid"] is True
    assert first["trace_id"] == "tr-1"
    change = {"assessmentName": "better", "feedback": {"value": 5}, "metadata": {"b": "2"}}
    mask = "assessmentName,feedback,metadata"
    asked = {"assessment": {**change, "rationale": "not named"}, "update_mask": mask}
    changed = api.ask("PATCH", path, json=asked)[1]["assessment"]
    assert (changed["assessment_name"], changed["feedback"]) == ("better", {"value": 5})
    assert changed["metadata"] == {"a": "1", "b": "2"}
    assert "rationale" not in changed
    assert changed["source"] == first["source"]
    second = api.assess(
        assessment_name="better", feedback={"value": 1}, overrides=first["assessment_id"]
    )
    assert second["source"] == {"source_type": "CODE", "source_id": "default"}
    assert api.ask("GET", path)[1]["assessment"]["valid"] is False
    assert len(api.ask("GET", "/tr-1")[1]["trace"]["trace_info"]["assessments"]) == 2
    for _ in range(2):
        assert api.ask("DELETE", f"/tr-1/assessments/{second['assessment_id']}") == (200, {})
    assert api.ask("GET", path)[1]["assessment"]["valid"] is True
    status, body = api.ask("GET", f"/tr-1/assessments/{second['assessment_id']}")
    assert (status, body["error_code"]) == (404, NONE)


def test_what_was_expected_is_text_unless_it_is_plain(api: Traces) -> None:
    api.trace()
    assert api.assess(assessment_name="e", expectation={"value": 3})["expectation"] == {"value": 3}
    said = api.assess(assessment_name="e", expectation={"value": {"at most": 3}})["expectation"]
    assert said["serialized_value"]["serialization_format"] == "JSON_FORMAT"
    assert json.loads(said["serialized_value"]["value"]) == {"at most": 3}


def test_assessments_that_come_with_a_trace_get_their_ids(api: Traces) -> None:
    api.trace(assessments=[{"assessment_name": "in", "feedback": {"value": 1}}])
    (held,) = api.ask("GET", "/tr-1")[1]["trace"]["trace_info"]["assessments"]
    assert api.ask("GET", f"/tr-1/assessments/{held['assessment_id']}")[0] == 200


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Missing value for required parameter 'assessment.assessment_name'"),
        ({"feedback": {"value": 1}}, "'assessment.assessment_name'"),
        ({"assessment_name": "n"}, "Exactly one of"),
        ({"assessment_name": "n", "feedback": 3}, "Invalid value 3"),
        ({"assessment_name": 3, "feedback": {}}, "Invalid value 3"),
        ({"assessment_name": "n", "feedback": {}, "source": {"source_type": "X"}}, '"X"'),
    ],
)
def test_assessments_that_cannot_be(api: Traces, fields: dict[str, Any], says: str) -> None:
    api.trace()
    status, body = api.ask("POST", "/tr-1/assessments", json={"assessment": fields})
    assert (status, body["error_code"]) == (400, BAD)
    assert says in body["message"]


def test_feedback_does_not_become_an_expectation(api: Traces) -> None:
    api.trace()
    made = api.assess(assessment_name="n", feedback={"value": 1})
    asked = {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"}
    path = f"/tr-1/assessments/{made['assessment_id']}"
    assert api.ask("PATCH", path, json=asked)[1]["error_code"] == BAD
    override = {"assessment_name": "n", "feedback": {"value": 1}, "overrides": "a-none"}
    assert api.ask("POST", "/tr-1/assessments", json={"assessment": override})[0] == 404
    assert api.ask("POST", "/tr-none/assessments", json={"assessment": override})[0] == 404


def test_changes_at_once_lose_nothing(api: Traces) -> None:
    api.trace()

    def change(number: int) -> None:
        tag = {"key": f"k{number}", "value": "v"}
        assert api.ask("PATCH", "/tr-1/tags", json=tag)[0] == 200
        api.assess(assessment_name=f"n{number}", feedback={"value": number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(12)))
    said = api.ask("GET", "/tr-1")[1]["trace"]["trace_info"]
    assert {f"k{number}" for number in range(12)} <= set(said["tags"])
    assert {one["assessment_name"] for one in said["assessments"]} == {f"n{n}" for n in range(12)}


def test_clients_are_told_at_once_to_keep_spans_as_files(api: Traces) -> None:
    assert MlflowApi(api.workspace).takes("/v1/traces")
    status, code, message = api.said(api.http.post("/v1/traces", content=b"\x00"))
    assert (status, code) == (501, "NOT_IMPLEMENTED")  # which no client asks again after
    assert "REST OTLP span logging is not supported" in message  # what its exporter looks for
    assert role_of("POST", "/v1/traces") == ("editor", False)


@pytest.mark.parametrize("path", ["/graphql", "/v1/traces"])
def test_what_mlflows_pages_ask_is_not_there(api: Traces, path: str) -> None:
    assert api.said(api.http.get(path))[:2] == (404, "ENDPOINT_NOT_FOUND")
