"""Tracking through the real MLflow client: our server, and beside it MLflow's own, in one run.

    python benchmarks/tracking.py [section ...] [--quick] [--client PYTHON]

It needs `mlflow-skinny` where the client runs (--client names another Python that has it). When
that Python has all of `mlflow`, `mlflow server` is measured, too, and every line has a ratio. The
client takes most of the time of many sections, so its figure with a server that takes no time at
all stands beside ours: the floor, of the same run, which no server can do better than.

Sections (all by default):
  start      from nothing to the first answer, and memory when idle (PSS of the process tree)
  metric     log_metric a second, with one client and with four
  batch      metrics a second in batches of 1,000: one key, and 1,000 keys
  runs       runs created a second, then searched: 100 and 1,000 of 2,000, raw
  many       the first 100 of 50,000 runs, raw
  history    100,000 points: the whole history by the client, and 320 of them for a chart, raw
  files      200 MB up and down, and the server's memory with 2 GB
  models     log_model and load_model of a small scikit-learn model
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLOORED = ("metric", "batch", "runs", "history", "files")  # where the client's part is large
SECTIONS = ("start", "metric", "batch", "runs", "many", "history", "files", "models")
MB = 1_000_000
# What a client is told by its environment: quiet, and without a look at git or at other services.
QUIET = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
AIMS = {
    "start_s": (1.0, "at most"),
    "idle_mb": (120, "at most"),
    "metric_1": (400, "at least"),
    "metric_4": (550, "at least"),
    "batch_one_key": (35_000, "at least"),
    "batch_1000_keys": (20_000, "at least"),
    "create_runs": (90, "at least"),
    "search_100_ms": (25, "at most"),
    "search_1000_ms": (150, "at most"),
    "first_100_of_50000_ms": (100, "at most"),
    "history_s": (2.0, "at most"),
    "chart_ms": (20, "at most"),
    "upload_mb_s": (600, "at least"),
    "download_mb_s": (800, "at least"),
    "memory_2gb_mb": (32, "at most"),
    "log_model_s": (0.15, "at most"),
    "load_model_s": (0.08, "at most"),
}


# The client's side: this file again, run by the client's Python with a section and an address


def client_metric(uri: str, seconds: float, clients: int) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = _experiment(client, "metric")
    counts, errors = [0] * clients, [0] * clients
    runs = [client.create_run(experiment).info.run_id for _ in range(clients)]
    client.log_metric(runs[0], "warm", 1.0)
    until = time.perf_counter() + seconds

    def work(which: int) -> None:
        while time.perf_counter() < until:
            try:
                client.log_metric(runs[which], "loss", 0.5, step=counts[which])
                counts[which] += 1
            except Exception:  # noqa: BLE001  # a benchmark counts them
                errors[which] += 1

    threads = [threading.Thread(target=work, args=(which,)) for which in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    return {f"metric_{clients}": sum(counts) / took, "errors": sum(errors)}


def client_batch(uri: str, seconds: float) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    experiment = _experiment(client, "batch")
    found: dict[str, float] = {}
    for title, keys in (("batch_one_key", 1), ("batch_1000_keys", 1000)):
        run = client.create_run(experiment).info.run_id
        sent, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            now = int(time.time() * 1000)
            client.log_batch(
                run,
                metrics=[
                    Metric(f"k{place % keys}", place * 0.5, now, (sent + place) // keys)
                    for place in range(1000)
                ],
            )
            sent += 1000
        found[title] = sent / (time.perf_counter() - begun)
    return found


def client_runs(uri: str, count: int) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(uri)
    experiment = _experiment(client, "runs")
    begun = time.perf_counter()
    made = [client.create_run(experiment, tags={"team": "a"}).info.run_id for _ in range(count)]
    created = count / (time.perf_counter() - begun)
    for place, run in enumerate(made):
        client.log_batch(
            run,
            metrics=[Metric("auc", place / count, 1, 0), Metric("loss", 1.0, 1, 0)],
            params=[Param("depth", str(place % 9)), Param("rate", "0.1")],
            tags=[RunTag("stage", "x")],
        )
    found = {"create_runs": created}
    for most in (100, 1000):
        body = {"experiment_ids": [experiment], "max_results": most}
        body |= {"filter": "metrics.auc >= 0 and params.rate = '0.1'"}
        body |= {"order_by": ["metrics.auc DESC"]}
        found[f"search_{most}_ms"] = 1000 * _median(
            lambda body=body: _post(uri, "runs/search", body)
        )
    return found


def client_many(uri: str, experiment: str) -> dict[str, float]:
    body = {"experiment_ids": [experiment], "max_results": 100}
    return {"first_100_of_50000_ms": 1000 * _median(lambda: _post(uri, "runs/search", body))}


def client_history(uri: str, points: int) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    run = client.create_run(_experiment(client, "history")).info.run_id
    for first in range(0, points, 1000):
        batch = [Metric("loss", 1 / (n + 1), n, n) for n in range(first, first + 1000)]
        client.log_batch(run, metrics=batch)
    begun = time.perf_counter()
    found = client.get_metric_history(run, "loss")
    took = time.perf_counter() - begun
    assert len(found) == points
    query = f"metrics/get-history-bulk-interval?run_ids={run}&metric_key=loss&max_results=320"
    ajax = uri + "/ajax-api/2.0/mlflow/" + query
    return {"history_s": took, "chart_ms": 1000 * _median(lambda: _get(ajax))}


def client_files(uri: str, size_mb: int, rounds: int) -> dict[str, float]:
    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    run = client.create_run(_experiment(client, "files")).info.run_id
    ups, downs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.bin"
        for place in range(rounds):
            path.write_bytes(os.urandom(1 << 20) * (size_mb * MB >> 20))
            begun = time.perf_counter()
            client.log_artifact(run, str(path), f"up{place}")
            ups.append(path.stat().st_size / MB / (time.perf_counter() - begun))
            begun = time.perf_counter()
            local = mlflow.artifacts.download_artifacts(
                run_id=run, artifact_path=f"up{place}/big.bin", dst_path=folder + "/down"
            )
            downs.append(path.stat().st_size / MB / (time.perf_counter() - begun))
            assert Path(local).stat().st_size == path.stat().st_size
    return {"upload_mb_s": max(ups), "download_mb_s": max(downs)}


def client_models(uri: str, rounds: int) -> dict[str, float]:
    import mlflow
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 4))
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    logs, loads = [], []
    for _ in range(rounds):
        with mlflow.start_run():
            begun = time.perf_counter()
            # Inferring requirements takes the client three seconds, whoever the server is.
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                pip_requirements=["scikit-learn"],
                serialization_format="cloudpickle",  # the default wants a library more
            )
            logs.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        mlflow.sklearn.load_model(info.model_uri)
        loads.append(time.perf_counter() - begun)
    return {"log_model_s": min(logs[1:]), "load_model_s": min(loads[1:])}


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def _post(uri: str, path: str, body: dict[str, Any]) -> bytes:
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def _median(call: Callable[[], object], rounds: int = 7) -> float:
    call()
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


CLIENTS: dict[str, Callable[..., dict[str, float]]] = {
    "metric": client_metric,
    "batch": client_batch,
    "runs": client_runs,
    "many": client_many,
    "history": client_history,
    "files": client_files,
    "models": client_models,
}


# The servers


class Server:
    """A server that runs, and its process tree."""

    def __init__(self, uri: str, pid: int, start_s: float) -> None:
        self.uri, self.pid, self.start_s = uri, pid, start_s

    def pss_mb(self) -> float:
        """What the process tree holds, memory that is shared counted once."""
        return sum(_pss_kb(pid) for pid in _tree(self.pid)) / 1000


@contextmanager
def upturn_server(folder: Path) -> Iterator[Server]:
    """`upturn up` on a store of its own."""
    environ = {**os.environ, "UPTURN_HOME": str(folder)}
    command = [sys.executable, "-m", "upturn", "up", "--port", str(port := _free_port())]
    with _running(command, environ, f"http://127.0.0.1:{port}", "/health/ready") as server:
        yield server


@contextmanager
def mlflow_server(folder: Path, python: str) -> Iterator[Server]:
    """`mlflow server` as it comes, on SQLite."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = [python, "-m", "mlflow", "server", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environ = {**os.environ, **QUIET}
    with _running(command, environ, f"http://127.0.0.1:{port}", "/health") as server:
        yield server


@contextmanager
def floor_server() -> Iterator[Server]:
    """A server that keeps nothing."""
    port = _free_port()
    command = [sys.executable, str(Path(__file__).with_name("tracking_floor.py")), str(port)]
    with _running(command, {**os.environ}, f"http://127.0.0.1:{port}", "/health") as server:
        yield server


@contextmanager
def _running(command: list[str], environ: dict[str, str], uri: str, path: str) -> Iterator[Server]:
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
            with contextlib.suppress(OSError), urllib.request.urlopen(uri + path, timeout=1):
                break
            time.sleep(0.005)
        yield Server(uri, process.pid, time.perf_counter() - begun)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _pss_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


# Measuring


def ask(python: str, section: str, uri: str, *arguments: Any) -> dict[str, float]:
    """What the client's process found."""
    environ = {**os.environ, **QUIET, "MLFLOW_TRACKING_URI": uri}
    environ.pop("PYTHONPATH", None)
    command = [python, __file__, "--as-client", section, uri, json.dumps(arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{section}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(
    section: str, server: Server, python: str, quick: bool, *, ours: bool
) -> dict[str, float]:
    """The figures of a section."""
    seconds = 1.0 if quick else 4.0
    if section == "start":
        time.sleep(1.0)
        return {"start_s": server.start_s, "idle_mb": server.pss_mb()}
    if section == "metric":
        one = ask(python, "metric", server.uri, seconds, 1)
        four = ask(python, "metric", server.uri, seconds, 4)
        return {**one, **four, "errors": one["errors"] + four["errors"]}
    if section == "files":
        return measure_files(server, python, quick)
    if section == "many":
        # At 20 a second MLflow's own server would take an hour to fill.
        filled = fill(server.uri, 5_000 if quick else 50_000) if ours else None
        return ask(python, "many", server.uri, filled) if filled else {}
    how_much: dict[str, tuple[Any, ...]] = {
        "batch": (seconds,),
        "runs": (1000 if quick else 2000,),
        "history": (100_000,),
        "models": (3 if quick else 6,),
    }
    return ask(python, section, server.uri, *how_much[section])


def measure_files(server: Server, python: str, quick: bool) -> dict[str, float]:
    """How fast files go up and down, and what a large one takes of the server's memory."""
    found = ask(python, "files", server.uri, 200, 2 if quick else 4)
    peaks = [before := server.pss_mb()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peaks.append(server.pss_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ask(python, "files", server.uri, 500 if quick else 2000, 1)
    over.set()
    watcher.join()
    return {**found, "memory_2gb_mb": max(peaks) - before}


def fill(uri: str, count: int) -> str:
    """An experiment with that many runs, made over the wire by four connections."""
    made = json.loads(_post(uri, "experiments/create", {"name": "many"}))["experiment_id"]

    def work(share: int) -> None:
        for place in range(share):
            _post(uri, "runs/create", {"experiment_id": made, "start_time": place})

    threads = [threading.Thread(target=work, args=(count // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made


def has_mlflow_server(python: str) -> bool:
    """Whether that Python can run `mlflow server`."""
    code = "import flask, sqlalchemy, alembic, mlflow.server"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def report(name: str, ours: float, floor: float | None, theirs: float | None) -> None:
    """One line: ours, the aim, what the client reaches at best, and MLflow's own server."""
    aim, side = AIMS.get(name, (None, ""))
    met = beside = peer = ""
    if aim is not None:
        good = ours <= aim if side == "at most" else ours >= aim
        met = f"{side} {aim:,g}: {'met' if good else 'NOT met'}"
    if floor and ours:
        share = floor / ours if side == "at most" else ours / floor
        beside = f"floor {floor:,.4g} ({share:.0%})"
    if theirs:
        better = theirs / ours if side == "at most" else ours / theirs
        peer = f"mlflow server {theirs:,.4g} ({better:,.1f} ×)"
    print(f"  {name:24} {ours:>12,.4g}   {met:26} {beside:24} {peer}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", choices=[*SECTIONS, []])
    parser.add_argument("--quick", action="store_true", help="shorter and smaller")
    parser.add_argument("--client", default=sys.executable, help="a Python with mlflow-skinny")
    options = parser.parse_args()
    peer = has_mlflow_server(options.client)
    for section in options.sections or SECTIONS:
        print(section, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            with upturn_server(Path(folder) / "upturn") as server:
                ours = measure(section, server, options.client, options.quick, ours=True)
            floor: dict[str, float] = {}
            if section in FLOORED:
                with floor_server() as server:
                    floor = measure(section, server, options.client, options.quick, ours=False)
            theirs: dict[str, float] = {}
            if peer:
                with mlflow_server(Path(folder) / "mlflow", options.client) as server:
                    theirs = measure(section, server, options.client, options.quick, ours=False)
            shutil.rmtree(folder, ignore_errors=True)
            Path(folder).mkdir()
        for name, value in ours.items():
            report(name, value, floor.get(name), theirs.get(name))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-client"]:
        _, _, section, uri, arguments = sys.argv
        print(json.dumps(CLIENTS[section](uri, *json.loads(arguments))))
    else:
        main()
