"""`upturn up`: what runs, beside whom, and what is left when it is killed."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.serving import Project, Server, fitted, one, wait_for
from upturn.deploy.running import alive, fetch, running_servers


@pytest.fixture
def project(tmp_path: Path) -> Any:
    project = Project(tmp_path / "project")
    yield project
    project.workspace.close()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed]


def test_a_second_server_joins_and_both_take_a_route(project: Project) -> None:
    project.register("delays", fitted())
    with project.server() as first:
        second = Server(project, "--join")
        try:
            assert len(running_servers(project.workspace)) == 2
            deployed = project.command("deploy", "delays")
            assert deployed.returncode == 0, deployed.stderr
            for server in (first, second):
                assert server.page("delays")["route"] == 1
            said = json.loads(project.command("status", "--json").stdout)
            assert {one["url"] for one in said["servers"]} == {first.url, second.url}
            assert said["endpoints"][0]["route"] == 1
            third = project.command("up", "--port", "0")
            assert (third.returncode, "--join" in third.stderr) == (1, True)
            down = project.command("down")
            assert first.url in down.stdout
            assert second.url in down.stdout
        finally:
            second.end()
    assert running_servers(project.workspace) == []


def test_in_the_background_until_down(project: Project) -> None:
    up = project.command("up", "--background", "--port", "0")
    assert up.returncode == 0, up.stderr
    (running,) = running_servers(project.workspace)
    assert running.url in up.stdout
    workers = running.workers
    assert "process" in project.command("status").stdout
    assert project.command("down").returncode == 0
    assert running_servers(project.workspace) == []
    assert fetch(running.url, "/healthz") == (0, None)
    assert not any(alive(pid) for pid in workers)


def test_others_are_asked_who_they_are(project: Project) -> None:
    made = project.command("tokens", "create", "ada", "--role", "viewer")
    assert made.returncode == 0, made.stderr
    token = next(word for word in made.stdout.split() if word.startswith("upt_"))
    server = Server(project, "--host", "0.0.0.0")
    try:
        assert server.get("/api/v1/projects").status == 401
        assert server.get("/readyz").status == 200
        headers = {"Authorization": f"Bearer {token}"}
        assert server.ask("GET", "/api/v1/projects", headers=headers).status == 200
        json_ = {**headers, "Content-Type": "application/json"}
        refused = server.ask("POST", "/api/v1/endpoints/x/rollback", b"{}", json_)
        assert refused.status == 403
    finally:
        server.end()


def test_a_route_is_waited_for_at_a_server_that_asks_who_one_is(project: Project) -> None:
    project.register("delays", fitted())
    assert project.command("tokens", "create", "ada").returncode == 0
    server = Server(project, "--host", "0.0.0.0")
    try:
        deployed = project.command("deploy", "delays")
        assert deployed.returncode == 0, deployed.stderr
        project.register("delays", project.model("Broken", "nan"))
        refused = project.command("deploy", "delays")
        assert (refused.returncode, "refused it" in refused.stderr) == (1, True)
    finally:
        server.end()


class Writer(threading.Thread):
    """A client that logs values to a run, one a request, and notes which were acknowledged."""

    def __init__(self, server: Server, run: str, key: str) -> None:
        super().__init__()
        parts = urlsplit(server.url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        self.run_id, self.key = run, key
        self.acknowledged = 0

    def run(self) -> None:
        while True:
            step = self.acknowledged
            metric = {"key": self.key, "value": step, "step": step, "timestamp": 1000 + step}
            body = json.dumps({"run_id": self.run_id, **metric})
            try:
                headers = {"Content-Type": "application/json"}
                self.connection.request(
                    "POST", "/api/2.0/mlflow/runs/log-metric", body, headers=headers
                )
                answer = self.connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            assert answer.status == 200
            self.acknowledged += 1


def test_nothing_that_was_acknowledged_is_lost_when_everything_is_killed(project: Project) -> None:
    server = Server(project)
    made = server.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})
    run = made.body["run"]["info"]["run_id"]
    writers = [Writer(server, run, f"m{number}") for number in range(4)]
    for writer in writers:
        writer.start()
    wait_for(lambda: all(writer.acknowledged > 30 for writer in writers), "the clients to write")
    killed = [*children(server.process.pid), server.process.pid]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    for writer in writers:
        writer.join(30)
        writer.connection.close()
    server.end()
    again = Server(project)
    try:
        for writer in writers:
            path = f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key={writer.key}"
            points = again.get(path).body["metrics"]
            steps = sorted(int(point["step"]) for point in points)
            # The last one may be there without having been acknowledged; none is there in part.
            assert steps in (
                list(range(writer.acknowledged)),
                list(range(writer.acknowledged + 1)),
            )
            assert all(point["value"] == point["step"] for point in points)
    finally:
        again.end()


def test_a_large_body_is_refused_while_it_comes(project: Project) -> None:
    project.register("delays", fitted())
    project.endpoint("delays")
    project.route("delays", one(1))
    with project.server() as server:
        parts = urlsplit(server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        connection.putrequest("POST", "/api/v1/endpoints/delays/rollback")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        part = b"%x\r\n%b\r\n" % (2**20, bytes(2**20))
        sent = 0
        try:
            while sent < 1000:
                connection.send(part)
                sent += 1
        except OSError:
            pass
        assert sent < 200
        assert connection.getresponse().status == 413
        connection.close()
        assert server.get("/readyz").status == 200
        page = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "VmRSS" in page


def test_the_unit_file_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    unit = page.partition("```ini\n")[2].partition("```")[0]
    program = tmp_path / "upturn"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "upturn.service"
    file.write_text(unit.replace("/srv/venv/bin/upturn", str(program)))
    try:
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no systemd here")
    ours = [line for line in checked.stderr.splitlines() if "upturn.service" in line]
    assert not any("Unknown" in line or "rror" in line for line in ours), checked.stderr


def test_it_is_ready_soon_and_light(project: Project) -> None:
    began = time.monotonic()
    with project.server() as server:
        ready_s = time.monotonic() - began
        pids = [server.process.pid, *children(server.process.pid)]
        resident = sum(
            int(line.split()[1])
            for pid in pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        assert resident < 120 * 1024
        assert ready_s < 20  # on a machine that does nothing else, it is below one
