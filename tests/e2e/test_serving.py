"""Predictions over HTTP from a real server: what fits, what does not, arms, shadows, swaps."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.serving import GOOD, Project, Server, fitted, one, wait_for
from upturn.core.records import Arm
from upturn.core.routing import choose, reshare

PREDICT = "/v1/endpoints/delays/predict"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("serving") / "project")
    for seed in (0, 1):
        project.register("delays", fitted(seed))
    project.endpoint("delays", unit="tail")
    project.route("delays", one(1))
    for value in (1.0, 2.0):
        project.register("arms", project.model("Constant", value))
    project.register("touchy", project.model("Touchy"))
    project.register("touchy", project.model("Constant", 5.0, 0.02))
    for broken in ("nan", "raise"):
        project.register("arms", project.model("Broken", broken))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


# What fits


def test_one_row_is_answered_with_its_id_version_and_arm(server: Server) -> None:
    reply = server.predict("delays", {"row": GOOD})
    assert reply.status == 200
    assert reply.body["endpoint"] == "delays"
    assert reply.body["route"] == 1
    (answer,) = reply.body["predictions"]
    assert 0 < answer["prediction"] < 1
    assert (answer["version"], answer["arm"], len(answer["id"])) == ("delays:1", "champion", 28)


def test_many_rows_are_answered_in_their_order(server: Server) -> None:
    delays = [30.0, -30.0, 30.0, -30.0] * 300
    reply = server.predict("delays", {"rows": [{**GOOD, "delay": delay} for delay in delays]})
    said = [one["prediction"] > 0.5 for one in reply.body["predictions"]]
    assert said == [delay > 0 for delay in delays]
    assert len({one["id"] for one in reply.body["predictions"]}) == len(delays)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"distance": 3.0}, id="an integral float is a whole number"),
        pytest.param({"delay": 12}, id="a whole number is a number"),
        pytest.param({"carrier": "ZZ"}, id="a category that training did not see"),
        pytest.param({"tail": "N1"}, id="the unit, which is no input"),
        pytest.param({"tail": None}, id="no unit"),
        pytest.param({"tail": 17}, id="a numeric unit"),
    ],
)
def test_what_fits_is_answered(server: Server, change: dict[str, Any]) -> None:
    assert server.predict("delays", {"row": {**GOOD, **change}}).status == 200


@pytest.mark.parametrize("at", ["2013-04-01T06:00:00Z", ["2013-04-01T08:00:00+02:00"]])
def test_the_client_may_say_when_it_happened(project: Project, server: Server, at: Any) -> None:
    reply = server.predict("delays", {"rows": [GOOD], "at": at})
    row = logged(project, "delays", reply.body["predictions"][0]["id"])
    assert row["at"].isoformat() == "2013-04-01T06:00:00+00:00"


# What does not


def bodies() -> Iterator[Any]:
    """Bad bodies: the bytes, the status, and the field that the answer names."""
    row = json.dumps(GOOD)

    def changed(**values: Any) -> bytes:
        return json.dumps({"rows": [GOOD, {**GOOD, **values}]}).encode()

    lacking = {name: value for name, value in GOOD.items() if name != "distance"}
    yield pytest.param(b"{", 400, None, id="cut off")
    yield pytest.param(b"", 400, None, id="empty")
    yield pytest.param(b"\xff\xfe", 400, None, id="not UTF-8")
    yield pytest.param(b"[" * 50_000, 400, None, id="nested too deeply")
    yield pytest.param(f'{{"row": {row}}} x'.encode(), 400, None, id="something after it")
    yield pytest.param(f'{{"row": {row}}}'.replace("12.5", "NaN").encode(), 400, None, id="NaN")
    yield pytest.param(f'{{"row": {row}}}'.replace("12.5", "1e999").encode(), 400, None, id="1e999")
    yield pytest.param(b"[]", 422, None, id="a list")
    yield pytest.param(b"{}", 422, None, id="no rows")
    yield pytest.param(b'{"rows": []}', 422, None, id="an empty batch")
    yield pytest.param(b'{"rows": null}', 422, "rows", id="null for rows")
    yield pytest.param(b'{"rows": [3]}', 422, "", id="a row that is a number")
    yield pytest.param(b'{"rowz": []}', 422, None, id="an unknown member")
    yield pytest.param(f'{{"row": {row}, "rows": [{row}]}}'.encode(), 422, None, id="both")
    yield pytest.param(
        json.dumps({"rows": [GOOD, lacking]}).encode(), 422, "distance", id="missing"
    )
    yield pytest.param(changed(distance="3"), 422, "distance", id="text for a whole number")
    yield pytest.param(changed(distance=3.5), 422, "distance", id="half of a whole number")
    yield pytest.param(changed(distance=2**70), 422, "distance", id="beyond 64 bits")
    yield pytest.param(changed(distance=True), 422, "distance", id="true for a number")
    yield pytest.param(changed(delay=None), 422, "delay", id="null")
    yield pytest.param(changed(delay="1"), 422, "delay", id="text for a number")
    yield pytest.param(changed(night=1), 422, "night", id="a number for a bool")
    yield pytest.param(changed(carrier=["AA"]), 422, "carrier", id="a list for a text")
    yield pytest.param(changed(tail={}), 422, "tail", id="an object for the unit")
    yield pytest.param(changed(dely=3), 422, "dely", id="an unknown field")
    yield pytest.param(f'{{"row": {row}, "at": "soon"}}'.encode(), 422, "at", id="no instant")
    yield pytest.param(
        f'{{"row": {row}, "at": "2013-04-01T06:00:00"}}'.encode(), 422, "at", id="a naive instant"
    )
    yield pytest.param(
        f'{{"row": {row}, "at": ["2013-04-01T06:00:00Z", "2013-04-01T06:00:00Z"]}}'.encode(),
        422,
        "at",
        id="more instants than rows",
    )


@pytest.mark.parametrize(("body", "status", "field"), list(bodies()))
def test_a_bad_body_is_the_clients_problem(
    server: Server, body: bytes, status: int, field: str | None
) -> None:
    reply = server.predict("delays", body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    problem = reply.body
    assert problem.keys() >= {"type", "title", "status", "detail", "code", "hint", "errors"}
    assert problem["status"] == status
    assert problem["detail"]
    if field is None:
        assert problem["errors"] == []
    else:
        assert field in [error["field"] for error in problem["errors"]]
        assert all(error["expected"] for error in problem["errors"])
    assert server.predict("delays", {"row": GOOD}).status == 200


def test_an_error_names_row_field_value_and_expectation(server: Server) -> None:
    bad = {**GOOD, "distance": "three", "dely": 1}
    errors = server.predict("delays", {"rows": [GOOD, bad]}).body["errors"]
    assert errors == [
        {"row": 1, "field": "distance", "value": "three", "expected": "a whole number"},
        {
            "row": 1,
            "field": "dely",
            "value": 1,
            "expected": "no such field",
            "hint": "Did you mean 'delay'?",
        },
    ]


def test_at_most_twenty_errors_are_named(server: Server) -> None:
    reply = server.predict("delays", {"rows": [{**GOOD, "delay": "x"}] * 1000})
    assert len(reply.body["errors"]) == 20


def test_what_else_can_be_wrong_with_a_request(server: Server) -> None:
    plain = server.ask("POST", PREDICT, b"{}", {"content-type": "text/plain"})
    assert (plain.status, plain.body["hint"]) == (
        400,
        "Send the header: Content-Type: application/json",
    )
    unknown = server.predict("dealys", {"row": GOOD})
    assert (unknown.status, unknown.body["hint"]) == (404, "Did you mean 'delays'?")
    wrong = server.get(PREDICT)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert server.ask("DELETE", "/v1/endpoints").status == 405
    assert server.get("/nothing").body["code"] == "not_found"
    assert server.get("/v1/endpoints/%2e%2e").status == 404
    assert server.predict("delays", {"row": GOOD}, x_upturn_arm="nobody").status == 400
    foreign = server.ask("GET", "/v1/endpoints", headers={"host": "evil.example"})
    assert (foreign.status, foreign.body["code"]) == (401, "unauthorized")


def test_too_much_is_refused(server: Server) -> None:
    assert server.predict("delays", {"rows": [GOOD] * 10_001}).status == 422
    assert server.predict("delays", b" " * (8 * 2**20 + 1)).status == 413
    server.hang_up()
    assert server.predict("delays", {"row": GOOD}).status == 200


def test_a_row_that_fails_the_model_fails_alone(project: Project, server: Server) -> None:
    project.endpoint("touchy")
    server.wait_route("touchy", project.route("touchy", one(1)))
    replies: dict[int, list[tuple[int, Any]]] = {}

    def ask(number: int) -> None:
        delay = 666.0 if number == 0 else float(number)
        found = [server.predict("touchy", {"row": {**GOOD, "delay": delay}}) for _ in range(30)]
        replies[number] = [(reply.status, reply.body) for reply in found]
        server.hang_up()

    run_together(ask, range(6))
    assert {status for status, _ in replies[0]} == {500}
    assert replies[0][0][1]["code"] == "model_failed"
    assert "I do not like" not in json.dumps(replies[0])
    for number in range(1, 6):
        assert {status for status, _ in replies[number]} == {200}
        assert {body["predictions"][0]["prediction"] for _, body in replies[number]} == {
            2.0 * number
        }


# What is described


def test_the_endpoints_page_and_openapi_say_how_to_ask(server: Server) -> None:
    page = server.page("delays")
    assert [field["name"] for field in page["fields"]] == list(GOOD)
    assert page["arms"][0]["form"].startswith("onnx")
    assert server.predict("delays", page["example"]).status == 200
    assert "delays" in [one["endpoint"] for one in server.get("/v1/endpoints").body["endpoints"]]
    description = server.get("/openapi.json").body
    assert description["openapi"].startswith("3.1")
    operation = description["paths"][PREDICT]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert server.predict("delays", example).status == 200
    row = description["components"]["schemas"]["delays.row"]
    assert row["required"] == list(GOOD)
    assert server.get("/health/live").body == {"status": "live"}


# Who answers, and what is logged


def test_a_unit_stays_on_its_arm_and_the_log_says_which(project: Project, server: Server) -> None:
    project.endpoint("sticky", model="arms", unit="tail")
    arms = (Arm(name="a", version=1, share=0.7), Arm(name="b", version=2, share=0.3))
    server.wait_route("sticky", project.route("sticky", *arms))
    slices = reshare((), arms)
    units = [f"N{number}" for number in range(200)]
    rows = [{**GOOD, "tail": unit} for unit in units]
    first = server.predict("sticky", {"rows": rows}).body["predictions"]
    again = server.predict("sticky", {"rows": rows[::-1]}).body["predictions"][::-1]
    assert [one["arm"] for one in first] == [one["arm"] for one in again]
    assert [one["arm"] for one in first] == [choose(slices, unit, "sticky") for unit in units]
    assert {(one["arm"], one["prediction"]) for one in first} == {("a", 1.0), ("b", 2.0)}
    for answer, unit in zip(first, units, strict=True):
        row = logged(project, "sticky", answer["id"])
        assert (row["unit"], row["arm"], row["shadow"]) == (unit, answer["arm"], False)
        assert row["propensity"] == {"a": 0.7, "b": 0.3}[answer["arm"]]
    forced = server.predict("sticky", {"rows": rows}, x_upturn_arm="b").body["predictions"]
    assert {one["arm"] for one in forced} == {"b"}


def test_rows_without_a_unit_are_spread_over_the_arms(project: Project, server: Server) -> None:
    project.endpoint("spread", model="arms")
    arms = (Arm(name="a", version=1, share=0.5), Arm(name="b", version=2, share=0.5))
    server.wait_route("spread", project.route("spread", *arms))
    answers = server.predict("spread", {"rows": [GOOD] * 1000}).body["predictions"]
    assert 380 < sum(one["arm"] == "a" for one in answers) < 620


def test_a_shadow_sees_what_is_answered_and_answers_nobody(
    project: Project, server: Server
) -> None:
    project.endpoint("shadowed", model="arms")
    arms = (one(1), Arm(name="candidate", version=2, shadow=True))
    server.wait_route("shadowed", project.route("shadowed", *arms))
    answers = server.predict("shadowed", {"rows": [GOOD] * 10}).body["predictions"]
    assert {one["prediction"] for one in answers} == {1.0}
    wait_for(lambda: project.log("shadowed").num_rows == 20, "the shadow's rows to be in the Log")
    rows = project.log("shadowed").to_pylist()
    shadow = {row["id"]: row for row in rows if row["shadow"]}
    assert shadow.keys() == {answer["id"] for answer in answers}
    assert {(row["arm"], row["version"], row["score"]) for row in shadow.values()} == {
        ("candidate", 2, 2.0)
    }
    assert server.page("shadowed")["counters"]["shadow_rows"] == 10


def test_the_log_holds_what_was_sent_and_said(project: Project, server: Server) -> None:
    answer = server.predict("delays", {"row": {**GOOD, "tail": "N9"}}).body["predictions"][0]
    row = logged(project, "delays", answer["id"])
    assert {name: row[f"features.{name}"] for name in GOOD} == GOOD
    assert (row["score"], row["answer"]) == (answer["prediction"], None)  # the answer is the score
    assert (row["route"], row["version"], row["unit"]) == (1, 1, "N9")
    assert 0 < row["latency_s"] < 5


# Change while serving


def test_versions_swap_under_load_without_a_failed_request(
    project: Project, server: Server
) -> None:
    project.endpoint("swapped", model="arms")
    server.wait_route("swapped", project.route("swapped", one(1)))
    done = threading.Event()
    seen: list[tuple[int, int, float]] = []

    def ask(_: int) -> None:
        while not done.is_set():
            reply = server.predict("swapped", {"row": GOOD})
            body = reply.body
            seen.append((reply.status, body["route"], body["predictions"][0]["prediction"]))
        server.hang_up()

    def swap(_: int) -> None:
        for version in (2, 1, 2, 1):
            server.wait_route("swapped", project.route("swapped", one(version)))
        server.hang_up()
        done.set()

    run_together(lambda number: swap(number) if number == 0 else ask(number), range(5))
    assert {status for status, _, _ in seen} == {200}
    assert {route for _, route, _ in seen} >= {2, 3, 4}
    assert {(route % 2, answer) for _, route, answer in seen} == {(1, 1.0), (0, 2.0)}


@pytest.mark.parametrize(("version", "reason"), [(3, "NaN"), (4, "no such weights")])
def test_a_version_that_fails_its_warm_up_is_never_routed_to(
    project: Project, server: Server, version: int, reason: str
) -> None:
    name = f"refusing{version}"
    project.endpoint(name, model="arms")
    server.wait_route(name, project.route(name, one(1)))
    refused = project.route(name, one(version))
    wait_for(lambda: server.page(name)["refused"] is not None, "the refusal")
    page = server.page(name)
    assert page["refused"]["route"] == refused
    assert reason in page["refused"]["reason"]
    assert page["route"] == 1
    assert server.predict(name, {"row": GOOD}).body["predictions"][0]["prediction"] == 1.0
    server.wait_route(name, project.route(name, one(2)))
    assert server.page(name)["refused"] is None


def test_an_endpoint_that_nobody_answers_for_says_so(project: Project, server: Server) -> None:
    project.endpoint("new", model="arms")
    wait_for(lambda: server.get("/v1/endpoints/new").status == 200, "the endpoint")
    reply = server.predict("new", {"row": GOOD})
    assert (reply.status, reply.body["hint"]) == (503, "upturn deploy new")


# Feedback


def test_feedback_is_taken_for_known_and_unknown_ids(server: Server) -> None:
    row_id = server.predict("delays", {"row": GOOD}).body["predictions"][0]["id"]
    unknown = "0" * 28
    items = [
        {"id": row_id, "label": True},
        {"id": unknown, "label": 0.5, "known_at": "2013-04-01T06:00:00Z"},
    ]
    reply = server.post("/v1/endpoints/delays/feedback", {"feedback": items})
    assert (reply.status, reply.body) == (202, {"accepted": 2})


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"id": "two words", "label": True}, "id"),
        ({"label": True}, "id"),
        ({"id": "0" * 28, "label": None}, "label"),
        ({"id": "0" * 28, "label": [1]}, "label"),
        ({"id": "0" * 28, "label": 2**80}, "label"),
        ({"id": "0" * 28, "label": 1, "known_at": "2013-04-01T06:00:00"}, "known_at"),
        ({"id": "0" * 28, "label": 1, "lable": 1}, "lable"),
    ],
)
def test_bad_feedback_is_refused_whole(server: Server, item: Any, field: str) -> None:
    items = [{"id": "0" * 28, "label": True}, item]
    reply = server.post("/v1/endpoints/delays/feedback", {"feedback": items})
    assert (reply.status, reply.body["errors"][0]["row"]) == (422, 1)
    assert reply.body["errors"][0]["field"] == field


def test_feedback_that_is_none_is_refused(server: Server) -> None:
    path = "/v1/endpoints/delays/feedback"
    assert server.post(path, b"{").status == 400
    assert server.post(path, {"feedback": []}).status == 422
    assert server.post(path, []).status == 422
    assert server.post("/v1/endpoints/nobody/feedback", {"feedback": []}).status == 404
    assert server.get(path).status == 405


def logged(project: Project, name: str, row_id: str) -> dict[str, Any]:
    """The row of the Log with that id, once it is there."""

    def found() -> list[dict[str, Any]]:
        return [row for row in project.log(name).to_pylist() if row["id"] == row_id]

    wait_for(lambda: bool(found()), "the row to be in the Log")
    return found()[0]


def run_together(work: Any, numbers: range) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
