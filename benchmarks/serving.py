"""Serving under load, beside a hand-written FastAPI app and a bare ASGI answer, in the same run.

    python benchmarks/serving.py [--seconds 4] [--only lr,forest] [--what rows,log]

It needs `wrk` (apt install wrk) and, for the peer, `pip install fastapi`. Each figure is of one
model on one kind of server, asked by wrk over kept connections from the same machine; rounds of
peers are taken next to each other, and every table has a ratio. On a machine of two cores wrk takes
one of them: figures of another day, or beside other work, are no comparison.

What is measured (--what, all by default):
  rows      one row of 30 floats a request, Upturn beside FastAPI and the floor
  plain     the same without the ONNX form: only scikit-learn serves
  crowd     256 connections: goodput, what is accepted and what is refused
  wide      1,000 rows a request, in JSON and as a binary tensor of the Open Inference Protocol
  log       with the Log and without it
  workers   two workers against one
  start     from nothing to the first answer, and memory
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 3
INPUTS = 30
NAMES = [f"f{place}" for place in range(INPUTS)]
PREDICT = "/v1/endpoints/bench/predict"
MODELS = ("lr", "forest", "boosted", "gradient")
TITLES = {
    "lr": "logistic regression",
    "forest": "random forest of 100",
    "boosted": "200 boosted trees (LightGBM)",
    "gradient": "200 boosted trees (scikit-learn)",
}
WHAT = ("rows", "plain", "crowd", "wide", "log", "workers", "start")

FASTAPI = """
import pickle, sys
import pandas as pd, uvicorn
from fastapi import FastAPI
from pydantic import create_model

model = pickle.load(open(sys.argv[1], "rb"))
Row = create_model("Row", **{f"f{i}": (float, ...) for i in range(30)})
Body = create_model("Body", rows=(list[Row], ...))
app = FastAPI()

@app.post("/v1/endpoints/bench/predict")
def predict(body: Body):
    frame = pd.DataFrame([row.model_dump() for row in body.rows])
    return {"predictions": model.predict_proba(frame)[:, 1].tolist()}

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""
FLOOR = """
import sys, uvicorn
answer = b"x" * 150
headers = [(b"content-type", b"application/json"), (b"content-length", b"150")]

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

uvicorn.run(app, port=int(sys.argv[2]), lifespan="off", log_level="warning", access_log=False)
"""
# wrk counts what is not a 2xx; the script also keeps the latencies of answers and refusals apart.
LUA = """
wrk.method = "POST"
wrk.body = io.open(%(body)s, "rb"):read("*a")
%(headers)s
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: answers a second, latencies in seconds, and how many were no answer."""

    per_s: float
    p50_s: float
    p99_s: float
    refused: int
    requests: int
    errors: int
    cpu_s: float = 0.0

    @property
    def good_per_s(self) -> float:
        return self.per_s * (1 - self.refused / max(1, self.requests))


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, and what it is asked."""

    url: str
    script: Path
    pid: int


# Servers


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def fit(kind: str) -> tuple[Any, Any]:
    """The model, and the table that it was fitted on."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(5000, INPUTS)), columns=NAMES)
    data["y"] = data.f0 + data.f1 * data.f2 + random.normal(size=5000) > 0
    if kind == "lr":
        from sklearn.linear_model import LogisticRegression

        model: Any = LogisticRegression()
    elif kind == "forest":
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(100, n_jobs=1, random_state=0)
    elif kind == "gradient":
        from sklearn.ensemble import GradientBoostingClassifier

        model = GradientBoostingClassifier(n_estimators=200, random_state=0)
    else:
        from lightgbm import LGBMClassifier

        model = LGBMClassifier(n_estimators=200, n_jobs=1, verbose=-1)
    return model.fit(data[NAMES], data.y), data


def prepare(home: Path, kind: str) -> None:
    """A store with the model deployed as version 1, and as version 2 without its faster form."""
    import pickle

    import msgspec

    from upturn.core.records import Arm, Endpoint, Version
    from upturn.core.settings import load_settings
    from upturn.core.time import utcnow
    from upturn.deploy.endpoint import create_endpoint
    from upturn.deploy.route import set_route
    from upturn.model.registry import register_version
    from upturn.stores.workspace import open_workspace

    model, data = fit(kind)
    home.mkdir(parents=True)
    (home / "model.pickle").write_bytes(pickle.dumps(model))
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    version = register_version(workspace, "bench", model, data=data, target="y", now=utcnow())
    plain = msgspec.structs.replace(version, number=2, form=None, form_artifact=None)
    workspace.meta.put(plain)
    assert isinstance(plain, Version)
    create_endpoint(workspace, Endpoint("bench"), now=utcnow())
    arms = (Arm(name="champion", version=1, share=1.0),)
    set_route(workspace, "bench", arms, why="benchmark", now=utcnow())
    workspace.close()


def route_to(home: Path, version: int) -> None:
    from upturn.core.records import Arm
    from upturn.core.settings import load_settings
    from upturn.core.time import utcnow
    from upturn.deploy.route import set_route
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    arms = (Arm(name="champion", version=version, share=1.0),)
    set_route(workspace, "bench", arms, why="benchmark", now=utcnow())
    workspace.close()


@contextmanager
def upturn(home: Path, *options: str) -> Iterator[Target]:
    environ = {**os.environ, "UPTURN_HOME": str(home)}
    command = [sys.executable, "-m", "upturn", "up", "--port", "0", *options]
    process = subprocess.Popen(command, env=environ, cwd=home, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[1].removesuffix("/v1/endpoints.")
        wait_for(url + PREDICT, rows_body(1))
        yield Target(url + PREDICT, home / "one.lua", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def script_server(home: Path, source: str) -> Iterator[Target]:
    port = free_port()
    path = home / "server.py"
    path.write_text(source)
    command = [sys.executable, str(path), str(home / "model.pickle"), str(port)]
    process = subprocess.Popen(command, cwd=home)
    try:
        wait_for(f"http://127.0.0.1:{port}{PREDICT}", rows_body(1))
        yield Target(f"http://127.0.0.1:{port}{PREDICT}", home / "one.lua", process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, body: bytes, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while True:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            if urllib.request.urlopen(request, timeout=5).status == 200:
                return
        except OSError:
            if time.monotonic() > until:
                sys.exit(f"nothing answers at {url}")
            time.sleep(0.02)


# Bodies


def rows_body(count: int) -> bytes:
    import random

    draw = random.Random(1)
    rows = [{name: draw.gauss(0, 1) for name in NAMES} for _ in range(count)]
    return json.dumps({"rows": rows}).encode()


def tensor_body(count: int) -> tuple[bytes, int]:
    """A request of the Open Inference Protocol with one binary tensor, and its JSON's length."""
    import numpy as np

    values = np.random.default_rng(1).normal(size=(count, INPUTS)).tobytes()
    tensor = {
        "name": "rows",
        "shape": [count, INPUTS],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(values)},
    }
    output = {"name": "prediction", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    return head + values, len(head)


def script(home: Path, name: str, body: bytes, headers: dict[str, str]) -> Path:
    raw = home / f"{name}.body"
    raw.write_bytes(body)
    lines = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
    path = home / f"{name}.lua"
    path.write_text(LUA % {"body": json.dumps(str(raw)), "headers": lines})
    return path


def scripts(home: Path) -> None:
    as_json = {"Content-Type": "application/json"}
    script(home, "one", rows_body(1), as_json)
    script(home, "wide", rows_body(1000), as_json)
    body, length = tensor_body(1000)
    binary = {"Content-Type": "application/octet-stream"}
    script(home, "tensor", body, {**binary, "Inference-Header-Content-Length": str(length)})


# Measuring


def tree(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    children = [int(text) for text in found.stdout.split()]
    return [pid, *(each for child in children for each in tree(child))]


def cpu_s(pid: int) -> float:
    total = 0
    for each in tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    pages = (int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid))
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def wrk(target: Target, connections: int, seconds: float, path: Path | None = None) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    before = cpu_s(target.pid)
    said = subprocess.run(
        [*command, "-s", str(path or target.script), target.url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = cpu_s(target.pid) - before
    counted = re.search(r"(\d+) requests in", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    assert counted is not None
    return Load(
        per_s=float(found(said, r"Requests/sec:\s+([\d.]+)")),
        p50_s=seconds_of(found(said, r"(?m)^\s+50%\s+(\S+)")),
        p99_s=seconds_of(found(said, r"(?m)^\s+99%\s+(\S+)")),
        refused=int(refused[1]) if refused else 0,
        requests=int(counted[1]),
        errors=sum(map(int, errors.groups())) if errors else 0,
        cpu_s=spent / max(1, int(counted[1])),
    )


def found(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def seconds_of(text: str) -> float:
    for unit, scale in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * scale
    raise ValueError(text)


def rounds(targets: dict[str, Callable[[], Load]], count: int = ROUNDS) -> dict[str, Load]:
    """The median round of each, taken in turns."""
    loads: dict[str, list[Load]] = {name: [] for name in targets}
    for _ in range(count):
        for name, measure in targets.items():
            loads[name].append(measure())
    return {
        name: sorted(each, key=lambda load: load.good_per_s)[len(each) // 2]
        for name, each in loads.items()
    }


def line(name: str, load: Load, ratio: str = "") -> None:
    print(
        f"  {name:26} {load.good_per_s:9,.0f}/s   p50 {load.p50_s * 1e3:7.2f} ms   "
        f"p99 {load.p99_s * 1e3:7.2f} ms   {load.cpu_s * 1e6:7.0f} µs   "
        f"refused {load.refused:6,}   errors {load.errors}   {ratio}",
        flush=True,
    )


# What is measured


def measure_rows(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: one row a request, 16 connections, the Log on")
    with upturn(home) as ours, script_server(home, FLOOR) as floor:
        targets = {
            "upturn": lambda: wrk(ours, 16, seconds),
            "bare ASGI": lambda: wrk(floor, 16, seconds),
        }
        if has_fastapi():
            with script_server(home, FASTAPI) as peer:
                loads = rounds({**targets, "FastAPI": lambda: wrk(peer, 16, seconds)})
        else:
            loads = rounds(targets)
    mine = loads["upturn"]
    for name, load in loads.items():
        line(name, load, f"upturn is {mine.good_per_s / load.good_per_s:.2f} times")


def measure_plain(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: the same, scikit-learn alone serves")
    route_to(home, 2)
    with upturn(home) as ours:
        line("upturn", rounds({"upturn": lambda: wrk(ours, 16, seconds)})["upturn"])
    route_to(home, 1)


def measure_crowd(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: 256 connections against 16 and 64")
    for title, version in (("", 1), (", plain", 2)):
        route_to(home, version)
        with upturn(home) as ours:
            loads = rounds(
                {
                    f"{count} connections{title}": lambda count=count: wrk(ours, count, seconds)
                    for count in (16, 64, 256)
                }
            )
        peak = max(load.good_per_s for load in loads.values())
        for name, load in loads.items():
            line(name, load, f"{load.good_per_s / peak:.2f} of the peak")
    route_to(home, 1)


def measure_wide(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: 1,000 rows a request, 4 connections")
    with upturn(home) as ours:
        infer = Target(
            ours.url.replace(PREDICT, "/v2/models/bench/infer"), home / "tensor.lua", ours.pid
        )
        loads = rounds(
            {
                "JSON": lambda: wrk(ours, 4, seconds, home / "wide.lua"),
                "binary tensor": lambda: wrk(infer, 4, seconds),
            }
        )
    for name, load in loads.items():
        line(name, load)


def measure_log(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: the Log on, and off")
    # Off: a sampling rate so small that no row is kept.
    quiet = home.with_name(home.name + "-quiet")
    shutil.copytree(home, quiet)
    environ = {**os.environ, "UPTURN_HOME": str(quiet)}
    deploy = ["deploy", "bench:1", "--background", "--port", "0", "--log-rate", "0.000000001"]
    for command in (deploy, ["down"]):
        subprocess.run(
            [sys.executable, "-m", "upturn", *command],
            env=environ,
            cwd=quiet,
            check=True,
            capture_output=True,
        )
    with upturn(home) as logged, upturn(quiet) as unlogged:
        loads = rounds(
            {
                "with the Log": lambda: wrk(logged, 16, seconds),
                "without": lambda: wrk(unlogged, 16, seconds),
            },
            count=5,
        )
    ratio = loads["with the Log"].good_per_s / loads["without"].good_per_s
    for name, load in loads.items():
        line(name, load, f"{ratio:.3f} of the throughput" if name.startswith("with ") else "")


def measure_workers(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: two workers against one, plain model, 64 connections")
    route_to(home, 2)
    with upturn(home) as one:
        first = rounds({"one": lambda: wrk(one, 64, seconds)})["one"]
    with upturn(home, "--workers", "2") as two:
        second = rounds({"two": lambda: wrk(two, 64, seconds)})["two"]
    route_to(home, 1)
    line("one worker", first)
    line("two workers", second, f"{second.good_per_s / first.good_per_s:.2f} times")


def measure_start(home: Path, kind: str, seconds: float) -> None:
    print(f"\n{TITLES[kind]}: from nothing to the first answer, and memory after some load")
    for title, version in (("ONNX form", 1), ("plain", 2)):
        route_to(home, version)
        took: list[float] = []
        memory = 0.0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            with upturn(home) as ours:
                took.append(time.perf_counter() - began)
                wrk(ours, 16, min(seconds, 2.0))
                memory = max(memory, rss_mb(ours.pid))
        print(f"  {title:26} {statistics.median(took):6.2f} s   {memory:6.0f} MB, both processes")
    route_to(home, 1)


MEASURES: dict[str, Callable[[Path, str, float], None]] = {
    "rows": measure_rows,
    "plain": measure_plain,
    "crowd": measure_crowd,
    "wide": measure_wide,
    "log": measure_log,
    "workers": measure_workers,
    "start": measure_start,
}


def has_fastapi() -> bool:
    from importlib.util import find_spec

    return find_spec("fastapi") is not None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round")
    parser.add_argument("--only", default="lr,forest,boosted", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--what", default=",".join(WHAT))
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt install wrk")
    chosen: Sequence[str] = options.what.split(",")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.only.split(","):
            home = Path(folder) / kind
            prepare(home, kind)
            scripts(home)
            for what in chosen:
                MEASURES[what](home, kind, options.seconds)


if __name__ == "__main__":
    main()
