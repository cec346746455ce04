"""What happens in the store as server-sent events: heard at once, resumed where they stopped."""

import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from e2e.serving import Project, Server, fitted, one, wait_for
from upturn.core.records import Decision, Run, RunState
from upturn.core.time import utcnow
from upturn.core.tracking import Point


class Stream:
    """A client that listens."""

    def __init__(self, server: Server, topics: str, last: str = "") -> None:
        parts = urlsplit(server.url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        headers = {"Last-Event-ID": last} if last else {}
        path = f"/api/v1/events?topics={quote(topics, safe=',:*/')}"
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["content-type"].startswith("text/event-stream")
        self.last = ""
        assert self.next()[0] == "open"

    def next(self) -> tuple[str, Any]:
        """The kind and the data of the next event."""
        said: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line == "\n":
                if "event" in said:
                    self.last = said["id"]
                    return said["event"], json.loads(said["data"])
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            said[name] = value

    def ends(self) -> bool:
        """Whether nothing but comments comes until the end."""
        return all(line.strip() in (b"", b":") for line in iter(self.answer.readline, b""))

    def close(self) -> None:
        self.connection.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("events") / "project")
    project.register("delays", fitted())
    project.endpoint("delays")
    project.endpoint("other", model="delays")
    project.route("delays", one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


def begin_run(project: Project, name: str) -> None:
    run = Run(id=name, flow="f", entry="f.py:f", params={}, project="p", started_at=utcnow())
    project.workspace.meta.put(run, RunState(run=name, status="running", at=utcnow()))


def test_a_change_is_heard_by_who_wants_it(project: Project, server: Server) -> None:
    stream = Stream(server, "endpoint:delays,decision:l")
    project.route("other", one(1))
    began = time.monotonic()
    revision = project.route("delays", one(1))
    kind, said = stream.next()
    assert time.monotonic() - began < 5
    assert (kind, said["topic"], said["data"]["revision"]) == ("route", "endpoint:delays", revision)
    decision = Decision(
        loop="l",
        action="hold",
        why="so",
        evidence={"auc": float("inf")},
        state={},
        at=utcnow(),
        recorded_at=utcnow(),
    )
    project.workspace.meta.put(decision)
    kind, said = stream.next()
    assert (kind, said["topic"], said["data"]["evidence"]) == (
        "decision",
        "decision:l",
        {"auc": None},
    )
    stream.close()


def test_who_comes_back_hears_what_was_missed(project: Project, server: Server) -> None:
    stream = Stream(server, "endpoint:*")
    first = project.route("delays", one(1))
    assert stream.next()[1]["data"]["revision"] == first
    last = stream.last
    stream.close()
    missed = [project.route("delays", one(1)) for _ in range(700)]
    again = Stream(server, "endpoint:*", last)
    assert [again.next()[1]["data"]["revision"] for _ in missed] == missed
    again.close()


def test_a_run_with_its_log_and_its_metrics(project: Project, server: Server) -> None:
    stream = Stream(server, "run:r1,metric:r1,log:r1/train/0")
    begin_run(project, "r2")
    begin_run(project, "r1")
    kinds = [stream.next() for _ in range(2)]
    assert [(kind, said["topic"]) for kind, said in kinds] == [
        ("run", "run:r1"),
        ("run_state", "run:r1"),
    ]
    file = project.workspace.output_dir / "r1" / "train" / "0.log"
    file.parent.mkdir(parents=True)
    file.write_text("größer\n" * 20_000)
    heard = ""
    while len(heard) < 140_000:
        kind, said = stream.next()
        assert (kind, said["topic"]) == ("log", "log:r1/train/0")
        heard += said["data"]
    assert heard == "größer\n" * 20_000
    points = [Point("loss", float(step), step, step) for step in range(5)]
    project.workspace.tracking.log("r1", points=points)
    kind, said = stream.next()
    assert (kind, said["topic"]) == ("metric", "metric:r1")
    assert (said["data"][0]["name"], said["data"][0]["last"]) == ("loss", 4.0)
    stream.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "no topic"),
        ("topics=rn:x", "Did you mean 'run'?"),
        ("topics=run", "says not which"),
        ("topics=metric:*", "too much"),
        ("topics=log:../../etc/passwd", "no task"),
        ("topics=log:a/../b", "no task"),
        ("topic=run:x", "'topic'"),
        ("topics=" + ",".join(f"run:{n}" for n in range(200)), "more than 100"),
    ],
)
def test_what_can_not_be_heard_is_said(server: Server, query: str, says: str) -> None:
    reply = server.get(f"/api/v1/events?{query}")
    assert reply.status == 422
    assert says in reply.body["detail"] + reply.body["hint"]


def test_a_cursor_that_is_none_is_now(project: Project, server: Server) -> None:
    for last in ("x", "route=99999999999", "=,=,1", "route=1=2"):
        stream = Stream(server, "endpoint:delays", last)
        revision = project.route("delays", one(1))
        assert stream.next()[1]["data"]["revision"] == revision
        stream.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_while_somebody_listens(tmp_path: Path, how: signal.Signals) -> None:
    project = Project(tmp_path / "project")
    server = Server(project)
    streams = [Stream(server, "run:*,endpoint:*") for _ in range(5)]
    began = time.monotonic()
    server.end(how)
    assert time.monotonic() - began < 8
    for stream in streams:
        assert stream.ends()
        stream.close()
    assert server.process.returncode == 0
    project.workspace.close()


def test_who_does_not_read_keeps_nobody_waiting(project: Project, server: Server) -> None:
    deaf = [Stream(server, "endpoint:*", "route=0") for _ in range(20)]
    stream = Stream(server, "endpoint:delays")
    for _ in range(20):
        revision = project.route("delays", one(1))
        wait_for(lambda: stream.next()[1]["data"]["revision"] == revision, "the route")  # noqa: B023
    for each in [*deaf, stream]:
        each.close()
    assert server.get("/readyz").status == 200
