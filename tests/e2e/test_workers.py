"""Workers: connections spread evenly over them, and their end, gentle or not, seen by clients."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.serving import GOOD, Project, Server, one, wait_for
from upturn.deploy.running import running_server
from waiting import lives

WORKERS = """
import sys
from upturn.core.settings import load_settings
from upturn.server.process import serve
from upturn.server.supervisor import Care
from upturn.stores.workspace import open_workspace
serve(open_workspace(load_settings()), port=0, care=Care({care}),
      on_listening=lambda url: print(url + "/", flush=True))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    project.register("delays", project.model("Constant", 1.0))
    project.endpoint("delays")
    project.route("delays", one(1))
    yield project
    project.workspace.close()


class Crowd:
    """Clients that ask over kept connections and count what is not answered."""

    def __init__(
        self, server: Server, count: int, path: str = "/v1/endpoints/delays/predict"
    ) -> None:
        self._parts = urlsplit(server.url)
        self._path = path
        self.ended = threading.Event()
        self.answered = 0
        self.unanswered = 0  # requests that were sent over an open connection, and nothing came
        self.closed = 0  # connections that ended with their answer
        self.statuses: set[int] = set()
        self.said: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:

        body = json.dumps({"row": GOOD}).encode()
        connection = http.client.HTTPConnection(
            self._parts.hostname or "", self._parts.port, timeout=30
        )
        while not self.ended.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionError:
                break  # nobody listens any more
            try:
                connection.request("POST", self._path, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.unanswered += 1
                continue
            with self._lock:
                self.answered += 1
                self.statuses.add(answer.status)
                self.said[answer.status] = said
                self.closed += connection.sock is None
        connection.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def wait_more(self, count: int) -> None:
        """Wait until so many more are answered."""
        begun = self.answered
        wait_for(lambda: self.answered >= begun + count, f"{count} more answers")


@contextmanager
def crowd(server: Server, count: int = 8) -> Iterator[Crowd]:
    clients = Crowd(server, count)
    try:
        clients.wait_more(50)
        yield clients
    finally:
        clients.ended.set()
        clients.join()


def workers(project: Project) -> tuple[int, ...]:
    running = running_server(project.workspace)
    assert running is not None
    return running.workers


@contextmanager
def started(project: Project, *options: str) -> Iterator[Server]:
    server = Server(project, *options)
    try:
        wait_for(lambda: ready(server), "all workers")
        yield server
    finally:
        server.end()


def ready(server: Server) -> bool:
    return server.get("/health/ready").status == 200


def test_kept_connections_are_spread_evenly(project: Project) -> None:
    with started(project, "--workers", "2") as server:
        first, second = workers(project)
        wait_for(lambda: b"\nupturn_workers_ready 2" in server.get("/metrics").raw, "both workers")
        parts = urlsplit(server.url)
        clients = [
            socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(16)
        ]
        for client in clients:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: second in workers(project) and first not in workers(project), "its end")
        for client in clients:
            client.setblocking(False)
        lost = sum(is_closed(client) for client in clients)
        for client in clients:
            client.close()
        assert 7 <= lost <= 9


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_killed_worker_costs_what_it_was_answering_and_is_replaced(project: Project) -> None:
    with started(project, "--workers", "2") as server:
        with crowd(server) as clients:
            first, second = workers(project)
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: len(set(workers(project)) - {first, second}) == 1, "another worker")
            clients.wait_more(200)
        assert clients.unanswered <= 8
        assert clients.statuses == {200}, clients.said
        said = server.end()
        assert f"Worker {first} is gone: it was ended by SIGKILL" in said


def test_the_only_worker_killed_is_waited_for(project: Project) -> None:
    with started(project) as server:
        with crowd(server) as clients:
            (first,) = workers(project)
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: workers(project) not in ((), (first,)), "another worker")
            clients.wait_more(200)
        assert clients.unanswered <= 8
        assert clients.statuses == {200}, clients.said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_ends_under_load_leaves_no_request_unanswered(
    project: Project, how: signal.Signals
) -> None:
    with started(project, "--workers", "2") as server, crowd(server) as clients:
        said = server.end(how)
        clients.join()
    assert clients.unanswered == 0
    assert clients.statuses == {200}
    assert said.strip() == "The server has ended; what was answered is in the Log."


def test_a_reload_under_load_ends_not_even_a_connection(project: Project) -> None:
    with started(project, "--workers", "2") as server:
        with crowd(server) as clients:
            before = workers(project)
            done = project.command("reload")
            assert done.returncode == 0, done.stderr
            assert "2 new workers" in done.stdout
            assert not set(before) & set(workers(project))
            clients.wait_more(200)
            os.kill(workers(project)[0], signal.SIGTERM)  # one of them: it is replaced as gently
            old = set(workers(project))
            wait_for(lambda: len(set(workers(project)) - old) == 1, "another worker")
            wait_for(lambda: len(workers(project)) == 2, "the end of the old one")
            clients.wait_more(200)
        assert (clients.unanswered, clients.closed) == (0, 0)
        assert clients.statuses == {200}, clients.said


def test_reload_without_a_server_says_so(project: Project) -> None:
    done = project.command("reload")
    assert done.returncode == 1
    assert "No server runs" in done.stderr


def test_nothing_survives_a_killed_supervisor(project: Project) -> None:
    project.register("stuck", project.model("Stuck"))
    project.endpoint("stuck")
    project.route("stuck", one(1))
    server = Server(project, "--workers", "2")
    server.wait_route("stuck", 1)
    wait_for((project.root / "started").exists, "the model's own process")
    own = [int(text) for text in (project.root / "started").read_text().split()]
    pids = [*workers(project), *own]
    parts = urlsplit(server.url)
    asking = socket.create_connection((parts.hostname, parts.port), timeout=30)

    body = json.dumps({"row": {**GOOD, "distance": 0}}).encode()
    asking.sendall(
        b"POST /v1/endpoints/stuck/predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    wait_for((project.root / "stuck").exists, "a model that is stuck")
    server.end(signal.SIGKILL)
    wait_for(lambda: not any(map(lives, pids)), "all to be gone")
    asking.close()


def test_a_worker_whose_loop_stands_still_is_replaced_and_an_orphan_ends_itself(
    project: Project,
) -> None:
    project.register("selfish", project.model("Selfish"))
    project.endpoint("selfish")
    project.route("selfish", one(1))
    process = subprocess.Popen(
        [sys.executable, "-c", WORKERS.format(care="hang_s=1.5")],
        cwd=project.root,
        env=project.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    url = process.stdout.readline().strip().rstrip("/")
    wait_for(lambda: served(url), "the endpoint")
    (first,) = workers(project)
    askers = [hang(url)]
    assert f"Worker {first} is gone: its event loop stood still" in process.stderr.readline()
    wait_for(lambda: served(url), "the endpoint, again")
    (second,) = workers(project)
    assert first != second
    (project.root / "held").unlink()
    askers.append(hang(url))
    wait_for((project.root / "held").exists, "a model that lets nobody else run")
    process.kill()
    process.communicate()
    wait_for(lambda: not lives(second), "the orphan's end")
    for asker in askers:
        asker.close()


def served(url: str) -> bool:
    from upturn.deploy.running import fetch

    status, page = fetch(url, "/v1/endpoints/selfish")
    return status == 200 and page["route"] == 1


def hang(url: str) -> socket.socket:

    parts = urlsplit(url)
    body = json.dumps({"row": {**GOOD, "distance": 0}}).encode()
    asking = socket.create_connection((parts.hostname, parts.port), timeout=30)
    asking.sendall(
        b"POST /v1/endpoints/selfish/predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    return asking


def test_clients_that_send_next_to_nothing_hold_nobody_up(project: Project) -> None:
    with started(project) as server:
        parts = urlsplit(server.url)
        address = (parts.hostname, parts.port)
        slow = [socket.create_connection(address, timeout=10) for _ in range(300)]
        for number, client in enumerate(slow):
            client.sendall(
                b"POST /v1/endpoints/delays/predict HTTP/1.1\r\nHost: loc"[: number % 60]
            )
        with crowd(server) as clients:
            clients.wait_more(100)
        assert (clients.unanswered, clients.statuses) == (0, {200})
        for client in slow:
            client.close()


def test_headers_without_end_are_refused(project: Project) -> None:
    with started(project) as server:
        assert server.ask("GET", "/health/live", None, {"X-A": "a" * 40_000}).status == 431
