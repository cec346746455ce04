"""What tests of serving share: a project with models of its own, and servers as real processes."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa

from upturn.core.records import Arm, Endpoint, Version
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import set_route
from upturn.stores.logfile import segments
from upturn.stores.workspace import open_workspace

SRC = Path(__file__).parents[2] / "src"
MODELS = '''
"""Models as a user's project would have them."""
import time
import numpy as np


class Constant:
    def __init__(self, value, seconds=0.0):
        self.value, self.seconds = value, seconds

    def predict(self, frame):
        time.sleep(self.seconds)
        return np.full(len(frame), self.value)


class Rowwise:
    """Takes as long for each row, however many come together."""

    def __init__(self, seconds):
        self.seconds = seconds

    def predict(self, frame):
        time.sleep(self.seconds * len(frame))
        return np.asarray(frame["delay"], dtype=float) * 2.0


class Touchy:
    def predict(self, frame):
        delay = np.asarray(frame["delay"], dtype=float)
        if (delay == 666).any():
            raise ValueError("I do not like this row")
        return delay * 2.0


class Stuck:
    """Starts a process of its own where it is served, and never comes back from distance 0."""

    def predict(self, frame):
        import os, subprocess
        if os.path.exists("mymodels.py") and not hasattr(self, "own"):
            self.own = subprocess.Popen(["sleep", "600"])
            with open("started", "a") as file:
                file.write(f"{self.own.pid} ")
        time.sleep(0.003)  # too slow for the event loop: it has a thread
        if (frame["distance"] == 0).any():
            open("stuck", "w").close()
            time.sleep(600)
        return np.full(len(frame), 1.0)


class Selfish:
    """Keeps the interpreter to itself at distance 0."""

    def predict(self, frame):
        import ctypes
        if (frame["distance"] == 0).any():
            open("held", "w").close()
            ctypes.PyDLL(None).sleep(600)
        return np.full(len(frame), 1.0)


class Heavy:
    """Has weights that would be noticed if they stayed."""

    def __init__(self, value):
        self.value, self.weights = value, np.random.default_rng(0).random(2**20)

    def predict(self, frame):
        return np.full(len(frame), self.value)


class Moody:
    """Answers the delay, unless that is one of its bad days."""

    def predict(self, frame):
        import os, signal
        time.sleep(0.003)  # too slow for the event loop: it has a thread
        delay = np.asarray(frame["delay"], dtype=float)
        if (delay == 1).any():
            raise ValueError("a secret of the weights")
        if (delay == 2).any():
            return delay[:-1]
        if (delay == 3).any():
            return np.where(delay == 3, np.nan, delay)
        if (delay == 4).any():
            raise SystemExit(3)
        if (delay == 6).any():
            return np.array(["secret"] * len(delay))
        if (delay == 7).any():
            return np.zeros((len(delay), 3))
        if (delay == 8).any():
            time.sleep(2)
        if (delay == 9).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        return delay


class Broken:
    def __init__(self, how):
        self.how = how

    def predict(self, frame):
        if self.how == "nan":
            return np.full(len(frame), np.nan)
        raise RuntimeError("no such weights")
'''
GOOD = {"delay": 12.5, "distance": 3, "night": True, "carrier": "AA"}


class Project:
    """A directory with `mymodels.py`, a store beside it, and its models registered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        (root / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\n')
        (root / "mymodels.py").write_text(MODELS)
        self.home = root / ".upturn"
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("UPTURN_HOME", "COLUMNS")
            },
            "UPTURN_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")]),
        }
        self.workspace = open_workspace(load_settings(root, {"UPTURN_HOME": str(self.home)}))

    def register(self, name: str, model: Any, data: pd.DataFrame | None = None) -> Version:
        from upturn.model.registry import register_version

        data = rows_table() if data is None else data
        return register_version(self.workspace, name, model, data=data, target="late", now=utcnow())

    def model(self, kind: str, *args: Any) -> Any:
        """A model of `mymodels`, whose module only the project has."""
        return getattr(self.module("mymodels"), kind)(*args)

    def module(self, name: str) -> Any:
        """A module that only the project has."""
        sys.path.insert(0, str(self.root))
        try:
            sys.modules.pop(name, None)
            return import_module(name)
        finally:
            sys.path.remove(str(self.root))

    def endpoint(self, name: str, **options: Any) -> None:
        create_endpoint(self.workspace, Endpoint(name, **options), now=utcnow())

    def route(self, name: str, *arms: Arm) -> int:
        return set_route(self.workspace, name, arms, why="test", now=utcnow()).revision

    def log(self, name: str) -> pa.Table:
        """Every prediction of the endpoint in the Log, sealed or not."""
        import pyarrow.parquet as pq

        found = segments(self.workspace.log_dir / name, "predictions")
        tables = [pq.read_table(path) for path in found.parquet]
        return pa.concat_tables([*tables, found.tail], promote_options="permissive")

    @contextlib.contextmanager
    def server(self) -> Iterator["Server"]:
        """A server of this project, ended gently."""
        server = Server(self)
        try:
            yield server
        finally:
            server.end()

    def command(self, name: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line as a user would."""
        return subprocess.run(
            [*upturn(name), *args],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )


def upturn(name: str) -> list[str]:
    return [sys.executable, "-m", "upturn", name]


def one(version: int, name: str = "champion") -> Arm:
    """An arm that answers everybody."""
    return Arm(name=name, version=version, share=1.0)


def rows_table(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Rows with one input of each kind, and a target."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "delay": random.normal(10, 5, count).round(2),
            "distance": random.integers(1, 100, count),
            "night": random.random(count) < 0.5,
            "carrier": random.choice(["AA", "B6", "UA"], count),
        }
    )
    frame["late"] = frame["delay"] + random.normal(0, 3, count) > 10
    return frame


def fitted(seed: int = 0) -> Any:
    """A small classifier of `rows_table`, as people make them."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = rows_table(seed=seed)
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["carrier"]), remainder="passthrough"
    )
    return make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(
        frame.drop(columns="late"), frame["late"]
    )


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Server:
    """A server process, and a client of it; each thread has a connection of its own."""

    def __init__(self, project: Project, *options: str) -> None:
        self.project = project
        self.process = subprocess.Popen(
            [*upturn("up"), "--port", "0", *options],
            cwd=project.root,
            env=project.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        assert "http://" in self.first_line, self.first_line + self.process.stdout.read()
        self.url = "http://" + self.first_line.split("http://")[1].split("/")[0]
        self._local = threading.local()
        # A pipe that nobody reads would have whoever prints wait for ever.
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: self.get("/health/ready").status == 200, "the server to be ready")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            parts = urlsplit(self.url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            self._local.connection = connection
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        except BaseException:
            self.hang_up()
            raise

    def hang_up(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def page(self, name: str) -> dict[str, Any]:
        return self.get(f"/v1/endpoints/{name}").body

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, raw, {"content-type": "application/json", **named})

    def predict(self, name: str, body: Any, **headers: str) -> Reply:
        return self.post(f"/v1/endpoints/{name}/predict", body, **headers)

    def wait_route(self, name: str, revision: int) -> None:
        wait_for(
            lambda: (
                self.get(f"/v1/endpoints/{name}").status == 200
                and self.page(name)["route"] == revision
            ),
            f"route {name}/{revision}",
        )

    def end(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Send the signal, wait for the end, and return what was printed after the first line."""
        self.hang_up()
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=30)
        self._reader.join(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return "".join(self._printed)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._printed.extend(self.process.stdout)


def wait_for(is_so: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Poll until it is so."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, f"waited too long for {what}"
        time.sleep(0.02)
