"""Bad days of serving: smuggled paths and pickles, models that raise anything, full disks."""

import contextlib
import json
import os
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pytest

import upturn as up
from e2e.serving import GOOD, Project, Server, fitted, one, rows_table, wait_for
from upturn.core.records import Arm

WILD = '''
"""Models that raise what is no Exception, talk without end, or refer to themselves."""
import asyncio
import os
import sys
import time
import numpy as np


class Wild:
    HOW = {1: KeyboardInterrupt, 2: asyncio.CancelledError, 3: GeneratorExit, 4: BaseException}

    def __init__(self, seconds):
        self.seconds = seconds

    def predict(self, frame):
        time.sleep(self.seconds)
        delay = np.asarray(frame["delay"], dtype=float)
        for value in delay:
            if value in self.HOW:
                raise self.HOW[value]
            if value == 5:
                for _ in range(1000):
                    sys.stdout.write("x" * 100_000 + "\\\\n")
        return delay


class Stillborn:
    """Raises once the file `dead` is there."""

    def predict(self, frame):
        if os.path.exists("dead"):
            raise KeyboardInterrupt
        return np.ones(len(frame))


class Knot:
    """Refers to itself, so only the garbage collector frees it."""

    def __init__(self, value):
        self.value = value
        self.weights = np.random.default_rng(0).random(2**20)
        self.me = self

    def predict(self, frame):
        return np.full(len(frame), self.value)
'''
PREDICT = "/v1/endpoints/late/predict"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    (made.root / "wild.py").write_text(WILD)
    made.register("late", fitted())
    made.endpoint("late", unit="tail")
    made.route("late", one(1))
    yield made
    made.workspace.close()


# Models


@pytest.mark.parametrize("seconds", [0.0, 0.003], ids=["on the loop", "in its thread"])
def test_a_model_that_raises_what_is_no_exception_fails_that_request_alone(
    project: Project, seconds: float
) -> None:
    wild = project.module("wild")
    project.register("wild", wild.Wild(seconds), rows_table(20))
    project.endpoint("wild")
    project.route("wild", one(1))
    with project.server() as server:
        server.wait_route("wild", 1)
        for delay in (1.0, 2.0, 3.0, 4.0):
            failed = server.predict("wild", {"row": {**GOOD, "delay": delay}})
            assert (failed.status, failed.body["code"]) == (500, "model_failed")
            good = server.predict("wild", {"row": {**GOOD, "delay": 8.0}})
            assert good.body["predictions"][0]["prediction"] == 8.0
        project.register("wild", wild.Stillborn(), rows_table(20))
        (project.root / "dead").touch()
        project.route("wild", one(2))
        wait_for(lambda: server.page("wild")["refused"] is not None, "the refusal")
        assert "KeyboardInterrupt" in server.page("wild")["refused"]["reason"]
        assert server.predict("wild", {"row": {**GOOD, "delay": 8.0}}).status == 200


def test_a_model_that_prints_100_mb_is_a_model_like_any_other(project: Project) -> None:
    project.register("wild", project.module("wild").Wild(0.003), rows_table(20))
    project.endpoint("wild")
    project.route("wild", one(1))
    with project.server() as server:
        server.wait_route("wild", 1)
        assert server.predict("wild", {"row": {**GOOD, "delay": 5.0}}).status == 200
        assert server.predict("late", {"row": GOOD}).status == 200
        assert server.end().count("x" * 100_000) == 1000


def test_models_that_refer_to_themselves_are_freed_when_they_are_swapped(project: Project) -> None:
    wild = project.module("wild")
    for value in (1.0, 2.0):
        project.register("knot", wild.Knot(value), rows_table(20))
    project.endpoint("knot")
    project.route("knot", one(1))
    with project.server() as server:
        server.wait_route("knot", 1)
        sizes: list[int] = []
        for number in range(2, 42):
            revision = project.route("knot", one(2 - number % 2))
            server.wait_route("knot", revision)
            if number in (10, 41):
                (worker,) = server.page("knot")["workers"]
                sizes.append(rss_bytes(worker["pid"]))
    # A model has 8 MB: thirty that stay would be 240.
    assert sizes[1] - sizes[0] < 80 * 2**20


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# What clients smuggle

PATHS = [
    "..",
    "../late",
    "../../../../etc/passwd",
    "late/..",
    "./late",
    "late\0",
    "late\0.txt",
    "/etc/passwd",
    "late%2f..",
    "x" * 5000,
    "late'; DROP TABLE route; --",
    "late\r\nX-Evil: 1",
    "*",
    "{name}",
    "_none",
    "\ud800",
    "\u202elate",
]


def files_of(project: Project) -> set[str]:
    """Every file of the project, the store's included, and what lies beside it."""
    return {str(path) for path in project.root.parent.rglob("*") if "__pycache__" not in str(path)}


def test_a_path_for_a_name_leads_nowhere(project: Project) -> None:
    with project.server() as server:
        server.predict("late", {"row": GOOD})
        wait_for(lambda: project.log("late").num_rows == 1, "the row")
        before = files_of(project)
        for name in PATHS:
            text = quote(name.encode("utf-8", "surrogatepass"), safe="")
            for said in {text, text.replace("%2F", "/"), text.replace(".", "%2e"), quote(text)}:
                asked = [
                    server.get(f"/v1/endpoints/{said}"),
                    server.post(f"/v1/endpoints/{said}/predict", {"row": GOOD}),
                    server.post(f"/v1/endpoints/{said}/feedback", {"feedback": [FEEDBACK]}),
                    server.get(f"/v2/models/{said}"),
                    server.post(f"/v2/models/{said}/infer", {"inputs": []}),
                    server.post(f"/v2/models/late/versions/{said}/infer", {"inputs": []}),
                ]
                for reply in asked:
                    assert 400 <= reply.status < 500, (said, reply)
                    assert "x-evil" not in reply.headers
                    assert b"root:" not in reply.raw
        assert files_of(project) == before
        assert server.predict("late", {"row": GOOD}).status == 200


FEEDBACK = {"id": "order-1", "label": True}


def test_an_id_is_data_and_never_a_path_or_a_line(project: Project) -> None:
    with project.server() as server:
        for wrong in ("a\nb", 'a"b', "a'b", "a\0b", "a b", "é", "\ud800", "", "x" * 129, 5, ["a"]):
            body = json.dumps({"row": GOOD, "id": wrong}).encode()
            assert 400 <= server.predict("late", body).status < 500
        server.predict("late", {"row": GOOD})
        wait_for(lambda: project.log("late").num_rows == 1, "the row")
        before = files_of(project)
        reply = server.predict("late", {"row": GOOD, "id": "../../../evil"})
        assert reply.body["predictions"][0]["id"] == "../../../evil"
        wait_for(lambda: project.log("late").num_rows == 2, "the row")
        assert files_of(project) == before


def talk(server: Server, raw: bytes) -> bytes:
    """Send bytes as they are, and return what is said until the server hangs up."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        sock.sendall(raw)
        found = b""
        while data := sock.recv(65536):
            found += data
    return found


@pytest.mark.parametrize("name", [b"X-Request-Id", b"X-Upturn-Arm", b"traceparent", b"Accept"])
@pytest.mark.parametrize(
    "value",
    [
        b'a"b\\',
        b"a\x01b",
        b"a\x00b",
        b"a\rb",
        b"a\nb: c",
        b"\xff\xfe",
        b"a\x7f\x1b[31m",
        b"a" * 9000,
    ],
    ids=["quotes", "control", "NUL", "CR", "LF", "no UTF-8", "terminal", "long"],
)
def test_no_header_gets_into_an_answer_a_line_or_the_log_as_more_than_text(
    talker: tuple[Project, Server], name: bytes, value: bytes
) -> None:
    project, server = talker
    body = json.dumps({"row": GOOD}).encode()
    said = talk(
        server,
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\n"
        b"%b: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (PREDICT.encode(), name, value, len(body), body),
    )
    head, _, answer = said.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status < 500
    assert b"\r" not in head.replace(b"\r\n", b"")
    assert value not in head
    json.loads(answer)
    assert server.predict("late", {"row": GOOD}).status == 200
    assert all(isinstance(row["request"], str) for row in project.log("late").to_pylist())


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Server]]:
    """A server with an access log, each line of which is whole at the end."""
    project = Project(tmp_path_factory.mktemp("talker") / "project")
    project.register("late", fitted())
    project.endpoint("late")
    project.route("late", one(1))
    lines = project.root / "access.jsonl"
    server = Server(project, "--access-log", str(lines))
    server.wait_route("late", 1)
    yield project, server
    server.end()
    text = lines.read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert found
    assert all(line["path"] for line in found)
    assert all(line["status"] < 500 for line in found if line["path"] == PREDICT)
    assert not set(text) & {"\x01", "\x00", "\x1b", "\r"}
    project.workspace.close()


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(project: Project, tmp_path: Path) -> None:
    trace = tmp_path / "opened"
    evil = pickle.dumps(Evil(trace))
    kinds = ["application/json", "text/csv", "application/octet-stream", "application/x-pickle"]
    kinds += [f"application/vnd.apache.arrow.{kind}" for kind in ("stream", "file")]
    with project.server() as server:
        for kind in kinds:
            for path in (PREDICT, "/v1/endpoints/late/feedback", "/v2/models/late/infer"):
                reply = server.ask("POST", path, evil, {"content-type": kind})
                assert 400 <= reply.status < 500
        tensor = {
            "name": "carrier",
            "datatype": "BYTES",
            "shape": [1],
            "data": [evil.decode("latin-1")],
        }
        assert 400 <= server.post("/v2/models/late/infer", {"inputs": [tensor]}).status < 500
        text = server.predict("late", {"row": {**GOOD, "carrier": evil.decode("latin-1")}})
        assert text.status == 200  # a text like any other
        for schema in hidden_pickles(evil):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_table(pa.Table.from_pylist([{"delay": 1.5}], schema=schema))
            kind = {"content-type": "application/vnd.apache.arrow.stream"}
            reply = server.ask("POST", PREDICT, sink.getvalue().to_pybytes(), kind)
            assert 400 <= reply.status < 500
    assert not trace.exists()


def hidden_pickles(evil: bytes) -> Iterator[pa.Schema]:
    """Schemas whose metadata has a pickle where pyarrow or pandas once looked for one."""
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    extension[b"ARROW:extension:metadata"] = evil
    yield pa.schema([pa.field("delay", pa.float64(), metadata=extension)])
    yield pa.schema([pa.field("delay", pa.float64())], metadata={b"pandas": evil})


def test_arrow_of_kinds_that_no_input_has_is_refused(project: Project) -> None:
    nested = pa.array([[1.5]], pa.list_(pa.float64()))
    kinds = {
        "nested": nested,
        "struct": pa.array([{"a": 1.5}]),
        "null": pa.nulls(1),
        "map": pa.array([[("a", 1.5)]], pa.map_(pa.string(), pa.float64())),
        "decimal": pa.array([1], pa.decimal256(70, 2)),
        "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1.5])]),
        "binary": pa.array([b"\xff"], pa.large_binary()),
        "duration": pa.array([1], pa.duration("ns")),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([1.5])),
        "dictionary": pa.array(["x"]).dictionary_encode(),
        "uuid": pa.array([b"0" * 16], pa.uuid()),
    }
    good: dict[str, Any] = {"delay": [1.5], "distance": [3], "night": [True], "carrier": ["AA"]}
    with project.server() as server:
        for kind, column in kinds.items():
            for name in good:
                if (kind, name) in {("dictionary", "carrier"), ("decimal", "delay")}:
                    continue  # it fits
                table = pa.table({**good, name: column})
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                head = {"content-type": "application/vnd.apache.arrow.stream"}
                reply = server.ask("POST", PREDICT, sink.getvalue().to_pybytes(), head)
                assert 400 <= reply.status < 500, (kind, name, reply)
                assert reply.headers["content-type"] == "application/problem+json"
        assert server.predict("late", {"row": GOOD}).status == 200


# The disk


@pytest.fixture
def small_disk(project: Project) -> Iterator[Callable[[str], None]]:
    """Put the Log on a disk of its own, and return what gives that another size."""
    directory = project.workspace.log_dir
    directory.mkdir(exist_ok=True)

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(directory)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    if mount("size=512k"):
        pytest.skip("this user may not mount a disk")

    def resize(size: str) -> None:
        mount("remount", f"size={size}")

    yield resize
    subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)


def test_on_a_full_disk_the_durable_endpoint_says_no_and_the_other_counts(
    project: Project, small_disk: Callable[[str], None]
) -> None:
    project.endpoint("sure", model="late", durable=True)
    project.route("sure", one(1), Arm(name="shadow", version=1, shadow=True))
    with project.server() as server:
        server.wait_route("sure", 1)
        assert server.predict("sure", {"row": GOOD}).status == 200
        filler = project.workspace.log_dir / "filler"
        fill(filler)
        lost = 0
        while not lost:
            assert server.predict("late", {"rows": [GOOD] * 10_000}).status == 200
            lost = server.page("late")["counters"]["log_lost"]
        refused = server.predict(
            "sure", {"rows": [GOOD] * 1000, "ids": [f"no-{i}" for i in range(1000)]}
        )
        assert (refused.status, "durable" in refused.body["detail"]) == (503, True)
        assert "retry-after" in refused.headers
        assert server.predict("late", {"row": GOOD}).status == 200
        lost = server.page("late")["counters"]["log_lost"]
        metric = f'upturn_log_lost_rows_total{{endpoint="late"}} {lost}'
        wait_for(lambda: metric in server.get("/metrics").raw.decode(), "the metric")
        small_disk("200m")
        sure = lambda: server.predict("sure", {"row": GOOD, "id": "yes"}).status == 200  # noqa: E731
        wait_for(sure, "room for the durable endpoint")
        log = up.read_log("late", project.workspace)
        wait_for(lambda: log.gaps().num_rows == 1, "the gap")
        assert log.gaps()["rows"].to_pylist() == [server.page("late")["counters"]["log_lost"]]
        said = project.command("log", "late", "--limit", "1")
        assert "rows lost" in said.stderr
        ids = set(project.log("sure")["id"].to_pylist())
        assert "yes" in ids
