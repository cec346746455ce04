"""Change under load: a hundred swaps without a failed request, and many who deploy at once."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.serving import GOOD, Project, Server, one, rows_table, wait_for
from upturn.core.errors import Conflict
from upturn.core.records import Arm, Route
from upturn.core.time import utcnow
from upturn.deploy.route import set_route
from upturn.deploy.running import running_server

SWAPS = 100


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    for value in (1.0, 2.0):
        project.register("swapped", project.model("Heavy", value), rows_table(20))
    project.endpoint("swapped")
    project.route("swapped", one(1))
    yield project
    project.workspace.close()


class Askers:
    """Clients on kept connections, until they are told to stop."""

    def __init__(self, server: Server, count: int) -> None:
        self.done = threading.Event()
        self.wrong: list[Any] = []
        self.answers = 0
        self._server = server
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self.done.is_set():
            reply = self._server.predict("swapped", {"row": GOOD})
            body = reply.body
            if reply.status != 200:
                self.wrong.append(body)
                continue
            (row,) = body["predictions"]
            expected = ("swapped:1", 1.0) if body["route"] % 2 else ("swapped:2", 2.0)
            if (row["version"], row["prediction"]) != expected:
                self.wrong.append(body)
            self.answers += 1
        self._server.hang_up()

    def stop(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()


def test_a_hundred_swaps_fail_no_request_and_leave_no_model_behind(project: Project) -> None:
    with project.server() as server:
        server.wait_route("swapped", 1)
        running = running_server(project.workspace)
        assert running is not None
        (worker,) = running.workers
        askers = Askers(server, 4)
        sizes: list[int] = []
        for number in range(2, SWAPS + 2):
            version = 2 - number % 2
            shadow = Arm(name="shadow", version=3 - version, shadow=True)
            arms = (one(version), shadow) if number % 3 == 0 else (one(version),)
            revision = project.route("swapped", *arms)
            assert revision == number
            server.wait_route("swapped", revision)
            if number in (20, SWAPS):
                sizes.append(rss_bytes(worker))
        askers.stop()
        after = running_server(project.workspace)
        assert after is not None
        assert after.workers == (worker,)
    assert not askers.wrong
    assert askers.answers > SWAPS
    # A model has 8 MB: eighty of them that stay would be 640.
    assert sizes[1] - sizes[0] < 100 * 2**20


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_of_two_who_deploy_at_once_each_gets_a_revision_of_its_own(project: Project) -> None:
    with project.server() as server:
        server.wait_route("swapped", 1)
        conflicts: list[Conflict] = []
        written: list[int] = []

        def deploy(number: int) -> None:
            for turn in range(15):
                try:
                    route = set_route(
                        project.workspace,
                        "swapped",
                        (one(1 + (number + turn) % 2),),
                        why=f"{number}.{turn}",
                        now=utcnow(),
                    )
                    written.append(route.revision)
                except Conflict as error:
                    conflicts.append(error)

        threads = [threading.Thread(target=deploy, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(written) + len(conflicts) == 60
        assert sorted(written) == list(range(2, len(written) + 2))
        history = project.workspace.meta.select(Route, endpoint="swapped")
        assert [route.revision for route in history] == list(range(1, len(written) + 2))
        server.wait_route("swapped", len(written) + 1)
        expected = f"swapped:{history[-1].arms[0].version}"
        answer = server.predict("swapped", {"row": GOOD}).body["predictions"][0]
        assert answer["version"] == expected
    gc.collect()


def test_two_commands_that_deploy_at_once_both_end_well_or_say_why(project: Project) -> None:
    with project.server() as server:
        server.wait_route("swapped", 1)
        done: dict[int, Any] = {}

        def run(version: int) -> None:
            done[version] = project.command("deploy", f"swapped:{version}", "--background")

        threads = [threading.Thread(target=run, args=(version,)) for version in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for said in done.values():
            assert said.returncode == 0 or "Somebody" in said.stderr or "Another" in said.stderr
            assert "Traceback" not in said.stderr
        wait_for(lambda: server.page("swapped")["refused"] is None, "a served route")
        assert server.predict("swapped", {"row": GOOD}).status == 200
