"""MLflow's own client, unmodified, against our server: nothing but the tracking URI is set."""

import gc
import http.client
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from e2e.serving import Project, Server, wait_for

with warnings.catch_warnings():  # its own imports are its own business
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelOutput,
        Metric,
        Param,
        RunTag,
        ViewType,
    )
    from mlflow.exceptions import MlflowException, RestException

pytestmark = pytest.mark.filterwarnings("default")
MB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("mlflow") / "project")
    with project.server() as running:
        yield running
    project.workspace.close()


@pytest.fixture(autouse=True)
def tracking(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A client that meets a 500 is to say so at once, not in minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(server.url)
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()
    gc.collect()  # the client's own sockets, whose warnings are no other test's business


@pytest.fixture
def client(server: Server) -> MlflowClient:
    return MlflowClient(server.url)


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """Return the id of an experiment of this test's own."""
    number = client.create_experiment(f"{request.node.name} {time.monotonic_ns()}")
    mlflow.set_experiment(experiment_id=number)
    return number


def test_a_run_as_people_write_it(client: MlflowClient, experiment: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with mlflow.start_run(run_name="first", description="what it is") as run:
        mlflow.log_params({"depth": 3, "rate": 0.1, "text": "ü/é"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "a/b c": 1.0})
        mlflow.set_tags({"team": "blue", "empty": ""})
        mlflow.log_artifact(str(tmp_path / "note.txt"))
        mlflow.log_text("text", "sub/ü b.txt")
        mlflow.log_dict({"a": [1, 2]}, "sub/config.json")
        with mlflow.start_run(nested=True) as child:
            mlflow.log_metric("x", 1)
    found = client.get_run(run.info.run_id)
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert found.info.end_time >= found.info.start_time
    assert found.data.params == {"depth": "3", "rate": "0.1", "text": "ü/é"}
    assert found.data.metrics["loss"] == 0.2
    assert math.isnan(found.data.metrics["nan"])
    assert found.data.metrics["inf"] == math.inf
    assert found.data.tags["mlflow.note.content"] == "what it is"
    assert found.data.tags["empty"] == ""
    assert client.get_parent_run(child.info.run_id).info.run_id == run.info.run_id
    assert {file.path: file.is_dir for file in client.list_artifacts(run.info.run_id)} == {
        "note.txt": False,
        "sub": True,
    }
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "hello"
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/sub/ü b.txt") == "text"
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/sub/config.json") == {"a": [1, 2]}
    steps = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == [(step, 1 / (step + 1)) for step in range(5)]


def test_what_upturn_says_of_it(server: Server, experiment: str) -> None:
    with mlflow.start_run(run_name="seen from both sides") as run:
        mlflow.log_param("p", 1)
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace(server.project.workspace.settings)
    row = workspace.tracking.rows([run.info.run_id])[run.info.run_id]
    assert (row.name, row.status, row.source, row.group) == (
        "seen from both sides",
        "done",
        "mlflow",
        experiment,
    )
    workspace.close()


def test_experiments(client: MlflowClient) -> None:
    name = f"a/b é {time.monotonic_ns()}"
    number = client.create_experiment(name, tags={"k": "v"})
    assert client.get_experiment_by_name(name).experiment_id == number
    assert client.get_experiment_by_name("nothing of the sort") is None
    with pytest.raises(MlflowException, match="already exists") as caught:
        client.create_experiment(name)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.set_experiment_tag(number, "k", "w")
    client.rename_experiment(number, name + "2")
    assert client.get_experiment(number).name == name + "2"
    assert client.get_experiment(number).tags["k"] == "w"
    client.delete_experiment(number)
    assert client.get_experiment(number).lifecycle_stage == "deleted"
    deleted = client.search_experiments(view_type=ViewType.DELETED_ONLY)
    assert number in {one.experiment_id for one in deleted}
    client.restore_experiment(number)
    assert client.search_experiments(filter_string=f"name = '{name}2'")[0].experiment_id == number
    with pytest.raises(MlflowException, match="No Experiment with id=99999 exists"):
        client.get_experiment("99999")


def test_a_custom_place_for_artifacts(client: MlflowClient, tmp_path: Path) -> None:
    own = f"mlflow-artifacts:/some/place {time.monotonic_ns()}".replace(" ", "-")
    number = client.create_experiment(f"own place {time.monotonic_ns()}", artifact_location=own)
    run = client.create_run(number)
    assert run.info.artifact_uri == f"{own}/{run.info.run_id}/artifacts"
    client.log_text(run.info.run_id, "x", "a/b.txt")
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["a"]
    elsewhere = client.create_experiment(
        f"disk {time.monotonic_ns()}", artifact_location=tmp_path.as_uri()
    )
    run = client.create_run(elsewhere)
    client.log_text(run.info.run_id, "x", "c.txt")  # by the client itself, not through the server
    assert (tmp_path / run.info.run_id / "artifacts" / "c.txt").read_text() == "x"


def test_errors_that_clients_rely_on(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "p", 1)
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as caught:
        client.log_param(run, "p", 2)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_batch(run, params=[Param("p", "3"), Param("q", "1")])
    assert client.get_run(run).data.params == {"p": "1"}
    with pytest.raises(RestException, match="Run with id=nope not found") as missing:
        client.get_run("nope")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException, match="No tag with name: fake"):
        client.delete_tag(run, "fake")
    with pytest.raises(MlflowException, match="Invalid clause"):
        client.search_runs([experiment], "metrics.a >")
    with pytest.raises(MlflowException, match="Invalid value 123456789 for parameter"):
        client.search_runs([experiment], max_results=123456789)
    client.delete_run(run)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        client.set_tag(run, "a", "b")


def test_searching_as_people_do(client: MlflowClient, experiment: str) -> None:
    for index in range(12):
        with mlflow.start_run(run_name=f"r{index}", tags={"even": str(index % 2 == 0)}):
            mlflow.log_param("index", index)
            mlflow.log_metric("score", index / 10)
    frame = mlflow.search_runs(
        filter_string="metrics.score >= 0.5 AND tags.even = 'True'", order_by=["metrics.score DESC"]
    )
    assert list(frame["params.index"]) == ["10", "8", "6"]
    found: list[str] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment], order_by=["metrics.score ASC"], max_results=5, page_token=token
        )
        found += [run.data.params["index"] for run in page]
        token = page.token
        if not token:
            break
    assert found == [str(index) for index in range(12)]


def test_datasets_and_models_of_a_run(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    dataset = Dataset(name="d", digest="12", source_type="local", source="x", profile="p")
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    client.log_outputs(run, [LoggedModelOutput("m-" + "0" * 32, 3)])
    found = client.get_run(run)
    assert found.inputs.dataset_inputs[0].dataset.profile == "p"
    assert found.inputs.dataset_inputs[0].tags[0].value == "train"
    assert found.outputs.model_outputs[0].step == 3
    assert len(client.search_runs([experiment], "dataset.context = 'train'")) == 1


def test_a_hundred_thousand_points(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for at in range(0, 100_000, 1000):
        client.log_batch(run, [Metric("m", at + i, at + i, at + i) for i in range(1000)])
    history = client.get_metric_history(run, "m")
    assert len(history) == 100_000
    assert [one.step for one in history[:3]] == [0, 1, 2]
    assert client.get_run(run).data.metrics == {"m": 99_999.0}


def test_logging_in_the_background_loses_nothing(client: MlflowClient, experiment: str) -> None:
    with mlflow.start_run() as run:
        for step in range(300):
            mlflow.log_metric("m", step, step=step, synchronous=False)
            mlflow.log_param(f"p{step % 50}", step % 50, synchronous=False)
        mlflow.set_tag("t", "v", synchronous=False)
        mlflow.flush_async_logging()
    found = client.get_run(run.info.run_id)
    assert len(client.get_metric_history(run.info.run_id, "m")) == 300
    assert len(found.data.params) == 50
    assert found.data.tags["t"] == "v"


def test_many_clients_at_once(server: Server, experiment: str) -> None:
    shared = MlflowClient(server.url).create_run(experiment).info.run_id

    def work(worker: int) -> None:
        client = MlflowClient(server.url)
        own = client.create_run(experiment).info.run_id
        for step in range(40):
            client.log_metric(shared, f"w{worker}", step, step=step)
            client.log_batch(
                own,
                [Metric("m", step, 0, step)],
                [Param(f"p{step}", "x")],
                [RunTag("last", str(step))],
            )
        client.log_text(own, f"of {worker}", "who.txt")
        client.set_terminated(own)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    client = MlflowClient(server.url)
    assert client.get_run(shared).data.metrics == {f"w{worker}": 39.0 for worker in range(8)}
    for worker in range(8):
        assert len(client.get_metric_history(shared, f"w{worker}")) == 40
    own = client.search_runs([experiment], "status = 'FINISHED'")
    assert len(own) == 8
    assert all(len(run.data.params) == 40 for run in own)


def test_experiments_that_are_made_at_once_have_numbers_of_their_own(server: Server) -> None:
    stamp = time.monotonic_ns()

    def make(index: int) -> str:
        return MlflowClient(server.url).create_experiment(f"{stamp} {index}")

    def same(_: int) -> str:
        try:
            return MlflowClient(server.url).create_experiment(f"{stamp} same")
        except MlflowException as error:
            return error.error_code

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(16)))) == 16
        said = list(pool.map(same, range(8)))
    assert said.count("RESOURCE_ALREADY_EXISTS") == 7


# Files


def test_a_file_of_200_mb_goes_up_and_down(
    client: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    run = client.create_run(experiment).info.run_id
    source = tmp_path / "big.bin"
    with source.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MB))
    client.log_artifact(run, str(source))
    (tmp_path / "down").mkdir()
    target = mlflow.artifacts.download_artifacts(
        artifact_uri=f"mlflow-artifacts:/{experiment}/{run}/artifacts/big.bin",
        dst_path=str(tmp_path / "down"),
    )
    assert os.path.getsize(target) == 200 * MB
    with source.open("rb") as ours, open(target, "rb") as theirs:
        while part := ours.read(MB):
            assert part == theirs.read(MB)


def peak_mb(server: Server) -> float:
    """Return the most memory that any worker of the server ever had."""
    workers = [
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and _parent(int(pid)) == server.process.pid
    ]
    peaks = [
        int(line.split()[1]) / 1024
        for pid in workers
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return max(peaks)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    size = 400 * MB
    project = Project(tmp_path / "project")
    with project.server() as server:
        client = MlflowClient(server.url)
        run = client.create_run("0").info.run_id
        client.log_text(run, "x", "small.txt")
        before = peak_mb(server)
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/large.bin"
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        part = os.urandom(MB)
        connection.request(
            "PUT",
            path,
            body=(part for _ in range(size // MB)),
            headers={"Content-Length": str(size)},
        )
        assert connection.getresponse().read() == b"{}"
        connection.request("GET", path)
        answer = connection.getresponse()
        got = 0
        while chunk := answer.read(MB):
            got += len(chunk)
        connection.close()
        assert got == size
        assert peak_mb(server) - before < 32
    project.workspace.close()


def test_a_client_that_dies_in_an_upload_leaves_nothing(
    server: Server, client: MlflowClient, experiment: str
) -> None:
    run = client.create_run(experiment).info.run_id
    blobs = server.project.home / "blobs"

    def files() -> int:
        return sum(path.is_file() for path in blobs.rglob("*"))

    before = files()
    host, port = server.url.removeprefix("http://").split(":")
    path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/half.bin"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {50 * MB}\r\n\r\n".encode()
        )
        for _ in range(20):
            connection.sendall(os.urandom(MB))
        wait_for(lambda: files() > before, "the upload to have begun")
    wait_for(lambda: files() == before, "what had come to be gone")
    assert client.list_artifacts(run) == []


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "%252e%252e%252fetc%252fpasswd",
        "a/..%5c..%5cb",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "C:%5cWindows",
        "file:///etc/passwd",
        "x%00y",
        "x%0ay",
        "x%23y",
    ],
)
def test_no_path_leads_out(
    server: Server, client: MlflowClient, experiment: str, path: str
) -> None:
    run = client.create_run(experiment).info.run_id
    root = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts"
    asked = [
        ("GET", f"{root}/{path}"),
        ("PUT", f"{root}/{path}"),
        ("DELETE", f"{root}/{path}"),
        ("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}"),
        ("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={path}"),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}"),
        ("GET", f"/get-artifact?run_id={run}&path={path}"),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={path}"),
    ]
    for method, target in asked:
        if path.startswith(("/", "%2f", "file:")) and target.startswith(root):
            continue  # in the middle of a path these are names like others
        reply = server.ask(method, target, b"x" if method in ("PUT", "POST") else None)
        assert reply.status == 400, (method, target, reply.body)
        assert reply.body == {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid path"}
    assert client.list_artifacts(run) == []


def test_files_by_hand(server: Server, client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    url = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts"
    assert server.ask("PUT", f"{url}/d/page.html", b"<b>").status == 200
    reply = server.get(f"/get-artifact?run_uuid={run}&path=d/page.html")
    assert reply.raw == b"<b>"
    assert reply.headers["content-disposition"] == "attachment; filename=page.html"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert server.get(f"{url}/d").status == 400
    assert server.get(f"{url}/none").status == 404
    listing = server.get(f"/api/2.0/mlflow-artifacts/artifacts?path={experiment}/{run}/artifacts")
    assert listing.body == {"files": [{"path": "d", "is_dir": True}]}
    browser = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=note.txt"
    assert server.ask("POST", browser, b"hi").status == 200
    assert "must specify data" in server.ask("POST", browser, b"").body["message"]
    assert server.get(f"{url}/note.txt").raw == b"hi"
    for step in ("create", "complete", "abort"):
        reply = server.post(f"/api/2.0/mlflow-artifacts/mpu/{step}/x", {"path": "x"})
        assert reply.status == 501
        assert reply.body["message"].startswith("Multipart upload is not supported")
    assert server.ask("DELETE", f"{url}/d").status == 200
    assert [file.path for file in client.list_artifacts(run)] == ["note.txt"]
    assert server.ask("DELETE", "/api/2.0/mlflow-artifacts/artifacts/").status == 400


def test_a_multipart_upload_falls_back_to_a_plain_one(
    client: MlflowClient, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(5 * MB))
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(6 * MB))
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, str(source))
    assert client.list_artifacts(run)[0].file_size == 6 * MB


# Autologging


def autologged(client: MlflowClient, experiment: str) -> Any:
    runs = client.search_runs([experiment])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    return runs[0].data


@pytest.fixture
def data() -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3))
    return features, (features[:, 0] + rng.normal(size=200) > 0).astype(int)


def test_autologging_of_scikit_learn(
    client: MlflowClient, experiment: str, data: tuple[Any, Any]
) -> None:
    from sklearn.linear_model import LogisticRegression

    mlflow.sklearn.autolog(log_models=False, silent=True)
    try:
        LogisticRegression(C=0.5).fit(*data)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = autologged(client, experiment)
    assert found.params["C"] == "0.5"
    assert 0.5 < found.metrics["training_accuracy_score"] <= 1
    assert found.tags["estimator_name"] == "LogisticRegression"


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_autologging_of_boosted_trees(
    client: MlflowClient, experiment: str, data: tuple[Any, Any], library: str
) -> None:
    module: ModuleType = getattr(mlflow, library)
    module.autolog(log_models=False, silent=True)
    try:
        if library == "lightgbm":
            import lightgbm

            train = lightgbm.Dataset(data[0], data[1])
            lightgbm.train({"objective": "binary", "verbose": -1}, train, 7, valid_sets=[train])
        else:
            import xgboost

            matrix = xgboost.DMatrix(data[0], data[1])
            xgboost.train(
                {"objective": "binary:logistic"},
                matrix,
                7,
                evals=[(matrix, "train")],
                verbose_eval=False,
            )
    finally:
        module.autolog(disable=True)
    found = autologged(client, experiment)
    name = next(name for name in found.metrics if name.endswith("logloss"))
    run = client.search_runs([experiment])[0].info.run_id
    assert len({one.step for one in client.get_metric_history(run, name)}) == 7


# Bad days


def test_what_was_acknowledged_is_there_after_the_server_is_killed(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    server = Server(project)
    client = MlflowClient(server.url)
    runs = [client.create_run("0").info.run_id for _ in range(4)]
    acknowledged = [0, 0, 0, 0]

    def write(worker: int) -> None:
        own = MlflowClient(server.url)
        while True:
            try:
                step = acknowledged[worker]
                own.log_batch(
                    runs[worker],
                    [Metric("m", step, 0, step), Metric("n", step, 0, step)],
                    [Param(f"p{step}", str(step))],
                )
            except MlflowException:
                return
            acknowledged[worker] += 1

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: min(acknowledged) > 20, "all to have written")
    for pid in [int(one) for one in os.listdir("/proc") if one.isdigit()]:
        if _parent(pid) == server.process.pid:
            os.kill(pid, 9)
    server.process.kill()
    server.process.wait()
    for thread in threads:
        thread.join()
    with project.server() as again:
        client = MlflowClient(again.url)
        for worker, run in enumerate(runs):
            found = client.get_run(run)
            written = len(client.get_metric_history(run, "m"))
            assert acknowledged[worker] <= written <= acknowledged[worker] + 1
            assert len(client.get_metric_history(run, "n")) == written  # all of a batch or nothing
            assert len(found.data.params) == written
    project.workspace.close()


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    reply = server.ask(
        "POST",
        "/api/2.0/mlflow/runs/log-batch",
        b'{"run_id": "' + b"x" * (65 * MB) + b'"}',
        {"content-type": "application/json"},
    )
    assert (reply.status, reply.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
