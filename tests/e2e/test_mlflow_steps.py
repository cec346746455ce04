"""MLflow's own client in steps of flows: it joins the run, with nothing set by hand."""

import os
import subprocess
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from e2e.serving import Project, Server
from upturn.core.access import Token
from upturn.core.lineage import upstream
from upturn.core.records import Edge, Version
from upturn.core.tracking import RunRow, Series
from upturn.develop.warm import close_pools
from upturn.stores.tokens import make_token
from upturn.stores.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("default")
OLDER = Path(__file__).parents[2] / ".venv-mlflow2" / "bin" / "python"
FLOWS = """
import hashlib
import os
import subprocess

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import upturn as up
from sklearn.tree import DecisionTreeClassifier


@up.step
def fit(depth: int) -> int:
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    with mlflow.start_run(run_name=f"depth {depth}"):
        DecisionTreeClassifier(max_depth=depth).fit([[0.0], [1.0]] * 10, [0, 1] * 10)
        mlflow.log_metric("auc", 0.9 + depth / 100)
        mlflow.log_param("kind", "tree")
        mlflow.log_text("hello", f"notes/{depth}.txt")
    return depth


@up.flow
def joined(depths: list[int] = [2, 3]) -> list[int]:
    return fit.map(depths)


@up.step(cache=False)
def ends(how: str, home: str | None = None) -> str:
    run = mlflow.start_run()
    mlflow.end_run(how)
    return mlflow.MlflowClient().get_run(run.info.run_id).info.status


@up.flow
def ended(how: str) -> str:
    return ends(how)


@up.step(cache=False)
def leaves(name: str) -> int:
    mlflow.log_metric(name, 1.0)  # which leaves the run open
    for step in range(300):
        mlflow.log_metric(f"{name}_later", step, step=step, synchronous=False)
    return os.getpid()


@up.step(cache=False)
def finds(before: int) -> dict[str, object]:
    open_run = mlflow.active_run()
    return {
        "open": None if open_run is None else open_run.info.run_id,
        "run": os.environ.get("MLFLOW_RUN_ID"),
        "pid": os.getpid(),
    }


@up.flow
def one_after_the_other(name: str) -> list[object]:
    pid = leaves(name)
    return [pid, finds(pid), finds(pid)]


@up.step(cache=False)
def nests(fails: bool) -> str:
    with mlflow.start_run():
        with mlflow.start_run(run_name="inner", nested=True):
            mlflow.log_metric("inner", 1.0)
    mlflow.start_run(run_name="second")
    mlflow.log_metric("second", 2.0)
    if fails:
        raise ValueError("on purpose")
    return "done"


@up.flow
def nested(fails: bool = False) -> str:
    return nests(fails)


@up.step(cache=False)
def strays(where: str) -> dict[str, str | None]:
    mlflow.set_experiment("elsewhere")
    with mlflow.start_run() as run:
        mlflow.log_metric("x", 1.0)
    mlflow.set_tracking_uri(where)
    found = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    return {"began": run.info.run_id, **found}


@up.flow
def strayed(where: str) -> dict[str, str | None]:
    return strays(where)


@up.step(cache=False)
def older(python: str) -> int:
    code = "import mlflow as m; m.log_metric('old', 2.0); m.log_param('by', m.__version__)"
    return subprocess.run([python, "-W", "ignore", "-c", code], check=True).returncode


@up.flow
def by_an_older_one(python: str) -> int:
    return older(python)


class Doubled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"] * 2.0


@up.step(cache=False)
def logs_model(name: str) -> str:
    import pandas as pd

    rows = pd.DataFrame({"a": [1.0, 2.0]})
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=Doubled(),
        signature=mlflow.models.infer_signature(rows, pd.Series([2.0])),
        registered_model_name=name,
        pip_requirements=["mlflow-skinny"],
    )
    return info.model_id


@up.flow
def with_a_model(name: str) -> str:
    return logs_model(name)


@up.step(cache=False)
def token() -> str:
    mlflow.log_metric("seen", 1.0)
    return hashlib.sha256(os.environ["MLFLOW_TRACKING_TOKEN"].encode()).hexdigest()


@up.flow
def with_a_token() -> str:
    return token()


@up.step
def plain(x: int) -> list[str]:
    return sorted(name for name in os.environ if name.startswith("MLFLOW_"))


@up.flow
def seen(x: int) -> list[str]:
    return plain(x)
"""
APART = """
import hashlib
import os

import upturn as up


@up.step(env=up.env(), cache=False)
def apart() -> str | None:
    return os.environ.get("MLFLOW_RUN_ID")


@up.flow
def in_an_environment() -> str | None:
    return apart()


@up.step(cache=False)
def token() -> str:
    return hashlib.sha256(os.environ["MLFLOW_TRACKING_TOKEN"].encode()).hexdigest()


@up.flow
def against_the_server() -> str:
    return token()
"""


class Place:
    """A project whose flows run in this process, by one pool of warm workers."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        (root / "steps.py").write_text(FLOWS)
        (root / "apart.py").write_text(APART)
        with warnings.catch_warnings():  # MLflow's own imports are its own business
            warnings.simplefilter("ignore")
            self.flows: ModuleType = self.project.module("steps")
            self.apart: ModuleType = self.project.module("apart")
        self.workspace = self.project.workspace

    def run(self, flow: str, **params: Any) -> Any:
        return getattr(self.flows, flow).run(**params)

    def row(self, run: str) -> RunRow:
        return self.workspace.tracking.rows([run])[run]

    def series(self, run: str) -> dict[tuple[str, str], Series]:
        return {(one.name, one.scope): one for one in self.workspace.tracking.series([run])[run]}

    def children(self, run: str) -> list[RunRow]:
        found = self.workspace.tracking.search(limit=1000).rows
        return [row for row in found if row.parent == run]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("steps") / "project")
    yield place
    close_pools()
    place.workspace.close()


@pytest.fixture(autouse=True)
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the project, as a user whose environment says nothing of MLflow."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("UPTURN_HOME", str(place.project.home))
    monkeypatch.setenv("UPTURN_CORES", "2")
    monkeypatch.chdir(place.project.root)


class Servers:
    """The one server that runs at a time, as the test at hand needs it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._asks: bool | None = None  # for a token; None: none runs
        self._running: Server | None = None

    def begin(self, *, asks: bool) -> Server:
        """The server that asks everybody for a token, or the one that does not."""
        if self._running is None or self._asks is not asks:
            self.end()
            environ = self._place.project.environ
            environ.pop("UPTURN_DEMAND_TOKENS", None)
            if asks:
                environ["UPTURN_DEMAND_TOKENS"] = "1"
            self._asks, self._running = asks, Server(self._place.project)
        return self._running

    def end(self) -> None:
        if self._running is not None:
            self._running.end()
        self._running = None


@pytest.fixture(scope="module")
def servers(place: Place) -> Iterator[Servers]:
    found = Servers(place)
    yield found
    found.end()


@pytest.fixture
def server(servers: Servers) -> Server:
    return servers.begin(asks=False)


@pytest.fixture
def guarded(servers: Servers) -> Server:
    return servers.begin(asks=True)


def test_without_a_server_nothing_is_set(place: Place, servers: Servers) -> None:
    servers.end()
    assert "MLFLOW_RUN_ID" not in place.run("seen", x=0).result()


def test_tasks_side_by_side_join_the_run(place: Place, server: Server) -> None:
    run = place.run("joined", depths=[2, 3])
    assert run.result() == [2, 3]
    row = place.row(run.id)
    assert (row.flow, row.status) == ("joined", "done")
    assert not row.name.startswith("depth")  # a run of two tasks is called as neither says
    assert place.children(run.id) == []
    series = place.series(run.id)
    assert series["auc", "fit/0"].last == 0.92
    assert series["auc", "fit/1"].last == 0.93
    assert series["training_accuracy_score", "fit/0"].last == 1.0
    params = place.workspace.tracking.params([run.id])[run.id]
    assert params["kind"] == "tree"
    depths = {params["max_depth"], *(params.get(f"fit/{index}/max_depth") for index in (0, 1))}
    assert depths == {"2", "3", None}  # the first that came, and the other under its task's name
    files = {file.path for file in place.workspace.tracking.files(run.id)}
    assert {"notes/2.txt", "notes/3.txt"} <= files
    # Nothing of it is an input.
    again = place.run("joined", depths=[2, 3])
    assert {task.status for task in again.tasks} == {"reused"}


@pytest.mark.parametrize("how", ["FINISHED", "FAILED"])
def test_its_driver_ends_a_run_and_no_client(place: Place, server: Server, how: str) -> None:
    run = place.run("ended", how=how)
    assert run.result() == "RUNNING"
    assert place.row(run.id).status == "done"


def test_nothing_is_carried_over_from_one_task_to_another(place: Place, server: Server) -> None:
    first, second = (place.run("one_after_the_other", name=name) for name in ("a", "b"))
    for run, name, other in ((first, "a", "b"), (second, "b", "a")):
        pid, *found = run.result()
        for one in found:
            assert one == {"open": None, "run": run.id, "pid": one["pid"]}
            assert one["pid"] != pid  # what the client remembers ended with its process
        assert found[0]["pid"] == found[1]["pid"] or len({one["pid"] for one in found}) == 2
        names = {name for name, _ in place.series(run.id)}
        assert names == {name, f"{name}_later"}
        assert not any(one.startswith(other) for one in names)
        # What waited in the client was written at the task's end.
        assert place.series(run.id)[f"{name}_later", "leaves/0"].count == 300


@pytest.mark.parametrize("fails", [False, True])
def test_runs_that_a_step_begins_are_children(place: Place, server: Server, fails: bool) -> None:
    run = place.run("nested", fails=fails)
    assert place.row(run.id).status == ("failed" if fails else "done")
    children = {row.name: row for row in place.children(run.id)}
    assert {name: row.status for name, row in children.items()} == {
        "inner": "done",
        "second": "failed" if fails else "done",  # it was open at the end
    }
    assert {row.group for row in children.values()} == {place.row(run.id).group}
    task = f"run/{run.id}/nests/0"
    for row in children.values():
        path = f"run/{row.id}"
        tags = place.workspace.tracking.tags([path])[path]
        assert tags["upturn.task"] == task
        assert tags["mlflow.source.name"] == "steps.py:nested"
        assert task in _origins(place.workspace, path)


def test_who_says_where_to_log_is_not_held_back(
    place: Place, server: Server, tmp_path: Path
) -> None:
    run = place.run("strayed", where=(tmp_path / "mlruns").as_uri())
    found = run.result()
    row = place.row(found["began"])  # in the experiment that the step named, and still a child
    assert row.parent == run.id
    assert row.group != place.row(run.id).group
    assert place.series(run.id) == {}
    # The other server hears nothing of this one.
    assert found["MLFLOW_TRACKING_URI"] == (tmp_path / "mlruns").as_uri()
    assert {"MLFLOW_RUN_ID", "MLFLOW_RUN_CONTEXT", "MLFLOW_TRACKING_TOKEN"}.isdisjoint(found)


def test_an_older_client_in_a_process_that_a_step_starts(place: Place, server: Server) -> None:
    if not OLDER.exists():
        pytest.skip("make .venv-mlflow2/.locked makes the older client's environment")
    run = place.run("by_an_older_one", python=str(OLDER))
    assert place.row(run.id).status == "done"
    assert place.series(run.id)["old", "older/0"].last == 2.0
    assert place.workspace.tracking.params([run.id])[run.id]["by"].startswith("2.22.")


def test_a_model_that_a_step_logs_leads_back_to_the_task(place: Place, server: Server) -> None:
    run = place.run("with_a_model", name="doubled")
    version = place.workspace.meta.get(Version, "doubled", 1)
    assert (version.run, version.task) == (run.id, f"run/{run.id}/logs_model/0")
    assert version.task in _origins(place.workspace, "version/doubled:1")
    said = place.project.command("lineage", "doubled:1")
    assert f"run/{run.id}/logs_model/0" in said.stdout, said.stderr
    from mlflow import MlflowClient

    # The registry's address, too: by itself that is the one that this process asked last.
    later = MlflowClient(server.url, server.url).create_model_version(
        "doubled", f"models:/{run.result()}", model_id=run.result()
    )
    assert place.workspace.meta.get(Version, "doubled", int(later.version)).task == version.task


def test_results_do_not_depend_on_it(place: Place, servers: Servers) -> None:
    servers.end()
    place.run("seen", x=0)
    servers.begin(asks=False)
    assert place.run("seen", x=0).tasks[0].status == "reused"
    assert "MLFLOW_RUN_ID" in place.run("seen", x=1).result()


def test_a_run_on_the_store_has_a_token_until_its_end(place: Place, guarded: Server) -> None:
    before = {token.id for token in place.workspace.meta.last_each(Token)}
    run = place.run("with_a_token")
    (token,) = (token for token in place.workspace.meta.last_each(Token) if token.id not in before)
    assert run.result() == token.hash
    assert token.name.startswith(f"run {run.id}")
    assert (token.role, token.projects, token.revoked) == ("editor", ("project",), True)
    assert place.series(run.id)["seen", "token/0"].last == 1.0
    assert place.row(run.id).status == "done"
    assert _files_with_a_token(place.project.home) == ""


def test_a_step_with_an_environment_of_its_own(place: Place, server: Server) -> None:
    run = place.apart.in_an_environment.run()
    assert run.result() == run.id


def test_against_the_server_it_is_the_users(
    place: Place, guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = make_token(place.workspace.meta, "ada", role="editor", who="test")
    monkeypatch.setenv("UPTURN_SERVER", guarded.url)
    monkeypatch.setenv("UPTURN_TOKEN", secret)
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "elsewhere"))
    run = place.apart.against_the_server.run()
    assert run.result() == sha256(secret.encode()).hexdigest()
    assert place.row(run.id).status == "done"
    assert _files_with_a_token(tmp_path / "elsewhere") == ""
    assert _files_with_a_token(place.project.home) == ""


def _origins(workspace: Workspace, path: str) -> set[str]:
    found = upstream(path, lambda target: workspace.meta.select(Edge, target=target))
    return {node.path for node in found}


def _files_with_a_token(folder: Path) -> str:
    """Which files have one, by another process: who closes a file of SQLite's by itself ends the
    locks that its own process has on the store."""
    assert any(folder.rglob("*"))
    found = subprocess.run(
        ["grep", "-rlaE", "upt_[0-9a-z]{58}", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    return found.stdout
