"""More requests than a slow model can answer: refused at once, and what is accepted is right."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.serving import GOOD, Project, Server, one, rows_table, wait_for
from upturn.core.records import Arm


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("overload") / "project")
    project.register("slow", project.model("Rowwise", 0.02), rows_table(10))
    project.register("slow", project.model("Constant", 2.0), rows_table(10))
    project.register("stuck", project.model("Constant", 1.0, 0.4))
    project.endpoint("slow")
    project.endpoint("stuck")
    project.route("slow", one(1), Arm(name="shadow", version=2, shadow=True))
    project.route("stuck", one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


def test_who_would_wait_too_long_is_refused_and_the_others_are_answered(
    project: Project, server: Server
) -> None:
    server.wait_route("slow", 1)
    statuses: Counter[int] = Counter()
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for turn in range(6):
            delay = float(100 * number + turn)
            reply = server.predict("slow", {"row": {**GOOD, "delay": delay}})
            statuses[reply.status] += 1
            if reply.status == 200:
                if reply.body["predictions"][0]["prediction"] != 2 * delay:
                    wrong.append(reply.body)
            elif reply.headers.get("retry-after") != "1" or reply.body["code"] != "overloaded":
                wrong.append(reply)
            time.sleep(0.01)
        server.hang_up()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert statuses.keys() == {200, 503}
    assert sum(server.page("slow")["shed"].values()) >= statuses[503]
    wait_for(lambda: logged(project) == statuses[200], "what was answered, and that alone")
    assert server.predict("slow", {"row": GOOD}).status == 200


def logged(project: Project) -> int:
    return project.log("slow")["shadow"].to_pylist().count(False)


def test_a_deadline_that_has_no_chance_is_refused_before_any_work(server: Server) -> None:
    server.wait_route("stuck", 1)
    reply = server.predict("stuck", {"row": GOOD}, x_deadline_ms="50")
    assert (reply.status, reply.body["code"]) == (503, "overloaded")
    assert "within the deadline" in reply.body["detail"]


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", ""])
def test_a_deadline_is_a_number_of_milliseconds(server: Server, text: str) -> None:
    reply = server.predict("slow", {"row": GOOD}, x_deadline_ms=text)
    assert (reply.status, "X-Deadline-Ms: 100" in reply.body["hint"]) == (400, True)


def test_an_arm_that_is_busy_does_not_hold_up_the_others(project: Project, server: Server) -> None:
    """A request waits for its own arm's model alone."""
    project.endpoint("mixed", model="mixed")
    project.register("mixed", project.model("Constant", 1.0, 0.4))
    project.register("mixed", project.model("Constant", 2.0))
    arms = (Arm(name="a", version=1, share=0.5), Arm(name="b", version=2, share=0.5))
    server.wait_route("mixed", project.route("mixed", *arms))
    order: list[str] = []

    def slow() -> None:
        server.predict("mixed", {"row": GOOD}, x_upturn_arm="a")
        order.append("a")
        server.hang_up()

    thread = threading.Thread(target=slow)
    thread.start()
    for _ in range(5):
        assert server.predict("mixed", {"row": GOOD}, x_upturn_arm="b").status == 200
    order.append("b")
    thread.join()
    assert order == ["b", "a"]
