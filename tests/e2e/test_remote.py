"""A server as the store: the tour from another directory, and a server that dies in the middle."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.remote import StoreServer, remote_blobs, serving
from e2e.serving import SRC, wait_for
from upturn.core.errors import Corrupt, Invalid, Unavailable, UpturnError
from upturn.core.records import Run, RunState
from upturn.core.settings import load_settings
from upturn.core.tracking import Point
from upturn.stores.disk import DiskBlobStore
from upturn.stores.migrate import SCHEMA
from upturn.stores.remote.cache import Cache
from upturn.stores.remote.connection import Server
from upturn.stores.remote.meta import RemoteMetaStore
from upturn.stores.remote.tracking import RemoteTrackingStore
from upturn.stores.workspace import open_workspace

NOW = datetime(2013, 4, 1, tzinfo=UTC)
FLOW = """
import time
from pathlib import Path

import pandas as pd
import upturn as up
from sklearn.linear_model import LinearRegression


@up.step
def load(rows: int) -> pd.DataFrame:
    print("loading", rows)
    return pd.DataFrame({"x": [float(i) for i in range(rows)], "y": [2.0 * i for i in range(rows)]})


@up.step
def wait(data: pd.DataFrame, go: str) -> int:
    up.log(rows=len(data))
    Path(go + ".begun").touch()
    while not Path(go).exists():
        time.sleep(0.02)
    return len(data)


@up.step
def train(data: pd.DataFrame) -> LinearRegression:
    up.log(step=0, loss=1.0)
    up.log(step=1, loss=0.5)
    return LinearRegression().fit(data[["x"]], data["y"])


@up.flow
def double(rows: int = 50):
    data = load(rows)
    return up.register("double", train(data), data=data, target="y")


@up.flow
def slow(go: str, rows: int = 50):
    return wait(load(rows), go)
"""


class Client:
    """A directory of somebody who works against a server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "upturn.toml").touch()
        (folder / "flows.py").write_text(FLOW)
        environ = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
        self.environ = environ | {
            "UPTURN_HOME": str(folder / "home"),
            "UPTURN_SERVER": url,
            "UPTURN_CORES": "2",
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")]),
        }

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "upturn", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def upturn(self, *arguments: str, status: int = 0) -> str:
        with self.begin(*arguments) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    with serving(tmp_path / "server") as server:
        yield server


def test_the_tour_against_a_server(server: StoreServer, tmp_path: Path) -> None:
    ana, bo = Client(tmp_path / "ana", server.url), Client(tmp_path / "bo", server.url)
    said = ana.upturn("run", "flows.py:double")
    assert "Registered double:1" in said
    # The server has it all, and everybody sees it.
    here = open_workspace(load_settings(server.home, {"UPTURN_HOME": str(server.home)}))
    run = here.meta.select(Run)[0]
    assert here.meta.get(RunState, run.id).status == "done"
    assert run.id in bo.upturn("runs")
    assert "loading 50" in bo.upturn("logs", f"{run.id}/load")
    shown = bo.upturn("show", run.id)
    assert "50 rows" in shown
    assert "loss" in shown
    assert f"run/{run.id}/train/0" in bo.upturn("lineage", "double:1")
    assert "double" in bo.upturn("models")
    assert "no earlier task" in bo.upturn("why", f"{run.id}/load/0")
    # What somebody has computed is not computed again, from another directory either.
    assert "reused" in bo.upturn("run", "flows.py:double")
    # A deployment there answers there.
    assert f"{server.url}/v1/endpoints/double/predict" in ana.upturn("deploy", "double:1")
    answer = predict(server.url)
    (made,) = answer["predictions"]
    assert made["prediction"] == pytest.approx(6.0)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"prediction_id,label\n{made['id']},6.5\n")
    assert "1 label joined" in bo.upturn("feedback", "double", str(labels))
    assert "lies at the server" in bo.upturn("log", "double", status=2)
    assert "double:1" in bo.upturn("deploy", "double:1")
    assert "can't be served from here" in bo.upturn("up", status=2)
    bo.upturn("down", status=1)
    here.close()
    assert not (tmp_path / "bo" / "home" / "upturn.db").exists()


def predict(url: str) -> dict[str, Any]:
    body = json.dumps({"rows": [{"x": 3.0}]}).encode()
    request = urllib.request.Request(
        f"{url}/v1/endpoints/double/predict", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_run_goes_on_when_its_server_was_killed_and_started_again(
    server: StoreServer, tmp_path: Path
) -> None:
    ana = Client(tmp_path / "ana", server.url)
    go = tmp_path / "go"
    process = ana.begin("run", "flows.py:slow", "--go", str(go))
    wait_for((tmp_path / "go.begun").exists, "the task to begin", timeout_s=60)
    server.end(signal.SIGKILL)
    go.touch()  # it ends while there is no server
    server.start()
    with process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    here = open_workspace(load_settings(server.home, {"UPTURN_HOME": str(server.home)}))
    run = here.meta.select(Run)[0]
    states = [state.status for state in here.meta.select(RunState, run=run.id)]
    assert states == ["running", "done"]
    assert [one.count for one in here.tracking.series([run.id])[run.id]] == [1]
    here.close()


def test_a_server_that_is_killed_under_writers_loses_nothing_and_has_nothing_twice(
    server: StoreServer,
) -> None:
    stop = threading.Event()
    acknowledged: dict[str, list[int]] = {name: [] for name in ("a", "b", "c")}
    points = dict.fromkeys(acknowledged, 0)

    def write(name: str) -> None:
        client = server.client()
        meta, tracking = RemoteMetaStore(client), RemoteTrackingStore(client)
        while not stop.is_set():
            state = meta.add(RunState(run=name, status="running", at=NOW))
            acknowledged[name].append(state.seq)
            tracking.log(name, points=[Point("loss", 1.0, step=points[name])])
            points[name] += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in acknowledged]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = sum(map(len, acknowledged.values()))
        wait_for(lambda: sum(map(len, acknowledged.values())) > before + 30, "writes", 60)  # noqa: B023
        server.end(signal.SIGKILL)
        server.start()
    stop.set()
    for thread in threads:
        thread.join()
    meta = RemoteMetaStore(server.client())
    tracking = RemoteTrackingStore(server.client())
    for name, numbers in acknowledged.items():
        assert numbers == list(range(1, len(numbers) + 1))
        assert [one.seq for one in meta.select(RunState, run=name)] == numbers
        assert tracking.series([name])[name][0].count == points[name]


def test_a_put_whose_answer_is_lost_counts_once(server: StoreServer) -> None:
    meta = RemoteMetaStore(server.client())
    state = RunState(run="r", status="running", at=NOW)
    assert meta.put(state, state, once="x")[1].seq == 2  # type: ignore[attr-defined]
    server.end(signal.SIGKILL)
    server.start()
    assert meta.put(state, state, once="x")[1].seq == 2  # type: ignore[attr-defined]
    assert len(meta.select(RunState)) == 2


def test_who_can_t_be_asked_says_so(server: StoreServer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can't be reached") as caught:
        Server("http://127.0.0.1:1").greet()
    assert "UPTURN_SERVER" in caught.value.hint
    with pytest.raises(UpturnError, match=r"(?i)token"):
        Server(server.url, "up_not-one").greet()
    with pytest.raises(Invalid, match="no address"):
        load_settings(tmp_path, {"UPTURN_SERVER": "host:8600"})
    said = Client(tmp_path / "ana", "http://127.0.0.1:1").upturn("runs", status=1)
    assert "can't be reached" in said


def test_another_schema_is_refused_on_both_sides(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.client()
    client._headers["x-upturn-schema"] = str(SCHEMA + 1)
    with pytest.raises(Invalid, match=f"keeps schema {SCHEMA}"):
        RemoteMetaStore(client).counts()
    monkeypatch.setattr("upturn.stores.remote.connection.SCHEMA", SCHEMA - 1)
    with pytest.raises(Invalid, match="Upturn"):
        Server(server.url).greet()


def test_large_blobs_stream_and_are_read_from_the_cache(
    server: StoreServer, tmp_path: Path
) -> None:
    data = os.urandom(24 * 2**20)
    maker = remote_blobs(server, tmp_path / "maker")
    digest = maker.put([data])
    reader = remote_blobs(server, tmp_path / "reader")
    assert reader.get(digest) == data
    server.end()
    assert reader.get(digest) == data  # without the server
    copy = Path(DiskBlobStore(tmp_path / "reader")._path(digest))
    copy.chmod(0o644)
    copy.write_bytes(b"x" + data[1:])
    server.start()
    assert reader.get(digest) == data  # a damaged copy is no copy
    file = server.home / "blobs" / digest[:2] / digest[2:]
    file.chmod(0o644)
    file.write_bytes(b"x" + data[1:])
    with pytest.raises(Corrupt, match=digest):
        remote_blobs(server, tmp_path / "third").get(digest)


def test_an_upload_that_is_not_its_digest_or_breaks_off_leaves_nothing(
    server: StoreServer,
) -> None:
    client = server.client()
    for size in (100, 3 * 2**20):
        with pytest.raises(Invalid, match="is not the blob"):
            client.ask(
                "PUT",
                f"/blobs/{'0' * 64}",
                lambda got: got.read(),
                body=(b"x" * size,),
                headers={"content-type": "application/octet-stream"},
            )
    line = client.open_line()
    line.putrequest("PUT", f"{client.base}/blobs/{'0' * 64}")
    line.putheader("content-type", "application/octet-stream")
    line.putheader("content-length", str(50 * 2**20))
    line.endheaders(b"x" * (5 * 2**20))
    waiting = server.home / "blobs" / "tmp"
    wait_for(lambda: waiting.is_dir() and any(waiting.iterdir()), "the upload to begin")
    line.close()
    wait_for(lambda: not any(waiting.iterdir()), "the upload to be forgotten")
    assert list(remote_blobs(server).entries()) == []


@pytest.mark.parametrize(
    "path", ["/blobs/../../etc/passwd", "/blobs/%2e%2e%2fupturn.db", "/blobs/" + "A" * 64]
)
def test_no_path_leads_out_of_the_store(server: StoreServer, path: str) -> None:
    with pytest.raises(UpturnError, match=r"no digest|no call|is no|nothing at"):
        server.client().ask("GET", path, lambda got: got.read())


def test_the_cache_stays_within_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=3000)
    digests = [cache.put([bytes([i]) * 1000]) for i in range(5)]
    then = time.time() - 7200
    for number, digest in enumerate(digests):
        os.utime(tmp_path / "cache" / digest[:2] / digest[2:], (then + number, then + number))
    cache.trim()
    left = [cache.find(digest) is not None for digest in digests]
    assert left == [False, False, True, True, True]


def test_connect_is_for_this_process_and_its_children(server: StoreServer, tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
import upturn as up
workspace = up.connect(sys.argv[1] + "/")
assert workspace.settings.server == sys.argv[1]
assert up.runs() == []
print(subprocess.check_output([sys.executable, "-m", "upturn", "status"], text=True))
"""
    environ = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
    environ["UPTURN_HOME"] = str(tmp_path / "home")
    environ["PYTHONPATH"] = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    said = subprocess.check_output(
        [sys.executable, "-c", code, server.url], env=environ, text=True, cwd=tmp_path, timeout=60
    )
    assert re.search(rf"{server.url}  \(UPTURN_SERVER says so\)", said)
    with contextlib.suppress(FileNotFoundError):
        assert not (tmp_path / "home" / "upturn.db").exists()
