"""Models on their worst days: what raises, hangs, lies, exits or dies fails its own requests."""

import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.serving import GOOD, Project, Server, one, rows_table, wait_for

GONE = (ConnectionError, http.client.HTTPException)
HOW = {
    "raises": 1.0,
    "too_few": 2.0,
    "nan": 3.0,
    "exits": 4.0,
    "text": 6.0,
    "wide": 7.0,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("models") / "project")
    for name in ("moody", "mortal"):
        project.register(name, project.model("Moody"), rows_table(20))
        project.endpoint(name)
        project.route(name, one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        for name in ("moody", "mortal"):
            server.wait_route(name, 1)
        yield server


def is_answered(server: Server) -> bool:
    try:
        return ask(server, "moody", 80.0).status == 200
    except GONE:
        return False


def ask(server: Server, name: str, delay: float, **headers: str) -> Any:
    return server.predict(name, {"row": {**GOOD, "delay": delay}}, **headers)


@pytest.mark.parametrize("how", ["raises", "too_few", "exits", "text", "wide"])
def test_what_is_no_answer_is_the_models_failure_and_nobody_elses(server: Server, how: str) -> None:
    statuses: dict[float, set[int]] = {HOW[how]: set(), 50.0: set(), 60.0: set()}

    def repeat(delay: float) -> None:
        for _ in range(15):
            reply = ask(server, "moody", delay)
            statuses[delay].add(reply.status)
            if reply.status == 200:
                assert reply.body["predictions"][0]["prediction"] == delay
        server.hang_up()

    threads = [threading.Thread(target=repeat, args=(delay,)) for delay in statuses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {HOW[how]: {500}, 50.0: {200}, 60.0: {200}}
    failed = ask(server, "moody", HOW[how]).body
    assert failed["code"] == "model_failed"
    assert "secret" not in str(failed)


def test_what_a_model_failed_is_in_the_log_with_its_reason(
    project: Project, server: Server
) -> None:
    reply = server.predict("moody", {"row": {**GOOD, "delay": HOW["raises"]}, "id": "failed-1"})
    assert reply.status == 500

    def rows() -> list[dict[str, Any]]:
        return [row for row in project.log("moody").to_pylist() if row["id"] == "failed-1"]

    wait_for(lambda: bool(rows()), "the row to be in the Log")
    (row,) = rows()
    assert (row["score"], row["features.delay"]) == (None, HOW["raises"])
    assert "secret" in row["error"]


def test_an_answer_that_is_no_number_is_null(server: Server) -> None:
    reply = ask(server, "moody", HOW["nan"])
    assert (reply.status, reply.body["predictions"][0]["prediction"]) == (200, None)


def test_a_model_that_hangs_holds_up_nobody_beyond_its_deadline(server: Server) -> None:
    reply = ask(server, "mortal", 8.0, x_deadline_ms="300")
    assert reply.status == 503
    assert "within the deadline" in reply.body["detail"]
    assert ask(server, "moody", 50.0).status == 200


def test_a_model_that_dies_costs_the_requests_in_its_process_and_no_more(
    project: Project, server: Server
) -> None:
    before = {worker["pid"] for worker in server.page("moody")["workers"]}
    lost: list[float] = []
    wrong: list[Any] = []
    enough = threading.Event()

    def repeat(delay: float) -> None:
        while not enough.is_set():
            try:
                reply = ask(server, "moody", delay)
            except GONE:
                lost.append(delay)
                continue
            if reply.status != 200 or reply.body["predictions"][0]["prediction"] != delay:
                wrong.append(reply.body)
        server.hang_up()

    threads = [threading.Thread(target=repeat, args=(delay,)) for delay in (50.0, 60.0, 70.0)]
    for thread in threads:
        thread.start()
    with pytest.raises(GONE):
        ask(server, "moody", 9.0)
    server.hang_up()
    wait_for(lambda: is_answered(server), "another worker")
    enough.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(lost) <= len(threads)  # each had at most one request under way
    assert {worker["pid"] for worker in server.page("moody")["workers"]} != before
