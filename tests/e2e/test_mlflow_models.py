"""MLflow's own client against our registry: logged, registered, loaded, served, and back."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from e2e.serving import Project, Server
from e2e.test_hooks import receiver
from unit.model.models import NUMBERS, flights, lightgbm_classifier
from upturn.core.records import Version
from upturn.core.time import utcnow
from upturn.model.adapters import load_predictor
from upturn.model.registry import get_version, register_version, set_alias
from upturn.model.tables import to_arrow
from waiting import until

with warnings.catch_warnings():  # its own imports are its own business
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.entities.webhook import WebhookEvent
    from mlflow.exceptions import MlflowException

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("mlflow") / "project")
    yield made
    made.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as running:
        yield running


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment("Default")  # the client remembers that of another server
    yield MlflowClient(server.url)
    while mlflow.active_run() is not None:
        mlflow.end_run()


ROWS = pd.DataFrame({"a": [1.0, 2.0, 3.5], "b": ["x", "y", "z"]})


def log_doubled(name: str | None = None) -> Any:
    """Log a model that answers twice what it is given, as one in a notebook: by value."""

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["a"] * 2.0

    signature = mlflow.models.infer_signature(ROWS, pd.Series([2.0]))
    return mlflow.pyfunc.log_model(
        name="doubled",
        python_model=Doubled(),
        signature=signature,
        registered_model_name=name,
        pip_requirements=["mlflow-skinny"],
    )


def test_a_logged_model_is_loaded_by_alias_and_by_number_and_served(
    client: MlflowClient, project: Project, server: Server
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("auc", 0.9)
        info = log_doubled("Doubled Ü")
    assert str(info.registered_model_version) == "1"
    client.set_registered_model_alias("Doubled Ü", "champion", "1")
    for uri in ("models:/Doubled Ü@champion", "models:/Doubled Ü/1", info.model_uri):
        loaded = mlflow.pyfunc.load_model(uri)
        assert list(loaded.predict(ROWS)) == [2.0, 4.0, 7.0]

    version = get_version(project.workspace, "Doubled Ü@champion")
    assert (version.format, version.run) == ("mlflow", run.info.run_id)
    assert [(one.name, one.type) for one in version.signature.inputs] == [
        ("a", "float"),
        ("b", "str"),
    ]
    assert version.signature.output == "number"
    predictor = load_predictor(project.workspace, version)
    assert predictor.predict(to_arrow(ROWS, index=False)).answers == [2.0, 4.0, 7.0]

    said = project.command("deploy", "Doubled Ü", "--endpoint", "doubled", "--background")
    assert said.returncode == 0, said.stderr
    answered = server.predict("doubled", {"rows": [{"a": 4.0, "b": "x"}]})
    assert answered.body["predictions"][0]["prediction"] == 8.0

    logged = client.get_logged_model(info.model_id)
    assert (logged.name, logged.status) == ("doubled", "READY")
    assert logged.source_run_id == run.info.run_id
    found = client.search_logged_models(["0"], filter_string="name = 'doubled'")
    assert info.model_id in {one.model_id for one in found}


def test_a_version_of_our_own_loads_by_pyfunc(
    client: MlflowClient, project: Project, server: Server
) -> None:
    frame = flights()
    model = lightgbm_classifier().fit(frame[NUMBERS], frame["late"])
    made = register_version(
        project.workspace, "delays", model, data=frame, target="late", now=utcnow()
    )
    set_alias(project.workspace, "delays", "champion", made.number, why="", now=utcnow())
    found = client.get_model_version_by_alias("delays", "champion")
    assert (found.version, found.status) == (str(made.number), "READY")
    rows = frame[NUMBERS].head(20)
    for uri in ("models:/delays@champion", f"models:/delays/{made.number}"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert np.array_equal(loaded.predict(rows), model.predict_proba(rows)[:, 1])
    schema = loaded.metadata.get_input_schema()
    assert schema.input_names() == NUMBERS
    path = f"/api/2.0/mlflow-artifacts/artifacts/upturn/delays/{made.number}/artifacts/MLmodel"
    assert httpx.put(server.url + path, content=b"flavors: {}").status_code == 403
    assert httpx.delete(server.url + path).status_code == 403


def test_models_are_made_described_tagged_renamed_and_deleted(
    client: MlflowClient, project: Project
) -> None:
    made = client.create_registered_model("Case a", tags={"t": "1"}, description="d")
    assert (made.name, made.tags, made.description) == ("Case a", {"t": "1"}, "d")
    with pytest.raises(MlflowException, match=r"\(name=Case a\) already exists") as caught:
        client.create_registered_model("Case a")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    for name in ("", "a/b", "a:b", "."):
        with pytest.raises(MlflowException) as caught:
            client.create_registered_model(name)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    client.update_registered_model("Case a", "other")
    client.set_registered_model_tag("Case a", "u", "2")
    client.delete_registered_model_tag("Case a", "t")
    source = "s3://bucket/model"
    first = client.create_model_version("Case a", source, tags={"v": "1"}, description="one")
    assert (first.version, first.source, first.current_stage) == ("1", source, "None")
    client.set_registered_model_alias("Case a", "blue", 1)
    client.transition_model_version_stage("Case a", "1", "production")
    client.rename_registered_model("Case a", "Case b")
    renamed = client.get_registered_model("Case b")
    assert renamed.name == "Case b"
    assert renamed.tags == {"u": "2"}
    assert renamed.description == "other"
    with pytest.raises(MlflowException, match="name=Case a not found"):
        client.get_registered_model("Case a")
    moved = client.get_model_version_by_alias("Case b", "blue")
    assert (moved.version, moved.tags, moved.description) == ("1", {"v": "1"}, "one")
    assert moved.aliases == ["blue"]
    client.delete_registered_model("Case b")
    with pytest.raises(MlflowException, match="not found") as caught:
        client.get_model_version("Case b", "1")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    again = client.create_registered_model("Case b")
    assert (again.tags, again.description, again.latest_versions) == ({}, "", [])
    # What was number 1 may be named by a prediction: it is never another model's.
    assert client.create_model_version("Case b", source).version == "2"
    assert project.workspace.meta.get(Version, "Case b", 1).source == source


def test_stages_latest_versions_and_deleted_versions(client: MlflowClient) -> None:
    client.create_registered_model("staged")
    for _ in range(3):
        client.create_model_version("staged", "s3://bucket/model")
    client.transition_model_version_stage("staged", "1", "Staging")
    moved = client.transition_model_version_stage(
        "staged", "2", "staging", archive_existing_versions=True
    )
    assert moved.current_stage == "Staging"
    stages = {one.version: one.current_stage for one in client.get_latest_versions("staged")}
    assert stages == {"1": "Archived", "2": "Staging", "3": "None"}
    assert [one.version for one in client.get_latest_versions("staged", ["Staging"])] == ["2"]
    with pytest.raises(MlflowException, match="Invalid Model Version stage: x"):
        client.transition_model_version_stage("staged", "1", "x")
    client.set_registered_model_alias("staged", "a", 3)
    client.delete_model_version("staged", "3")
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version("staged", "3")
    with pytest.raises(MlflowException, match="alias a not found"):
        client.get_model_version_by_alias("staged", "a")
    assert client.create_model_version("staged", "s3://bucket/model").version == "4"
    for alias in ("latest", "v1", "a b", ""):
        with pytest.raises(MlflowException) as caught:
            client.set_registered_model_alias("staged", alias, 1)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_models_and_versions_are_searched_for(client: MlflowClient) -> None:
    for name in ("find one", "find two", "find THREE"):
        client.create_registered_model(name, tags={"of": name.split()[1]})
        client.create_model_version(name, f"s3://bucket/{name}", tags={"n": name})

    def names(text: str, **more: Any) -> list[str]:
        return [one.name for one in client.search_registered_models(text, **more)]

    assert names("name LIKE 'find %'") == ["find THREE", "find one", "find two"]
    assert names("name ILIKE 'find th%'") == ["find THREE"]
    assert names("name = 'find one'") == ["find one"]
    assert names("name LIKE 'find %' AND tags.of != 'one'") == ["find THREE", "find two"]
    assert names("name LIKE 'find %'", order_by=["name DESC"])[0] == "find two"
    page = client.search_registered_models("name LIKE 'find %'", max_results=2)
    assert len(page) == 2
    rest = client.search_registered_models(
        "name LIKE 'find %'", max_results=2, page_token=page.token
    )
    assert [one.name for one in rest] == ["find two"]
    assert not rest.token

    def found(text: str) -> list[tuple[str, int]]:
        return [(one.name, int(one.version)) for one in client.search_model_versions(text)]

    assert found("name = 'find one'") == [("find one", 1)]
    assert found("source_path LIKE '%/find two'") == [("find two", 1)]
    assert found("tags.n = 'find THREE' and version_number >= 1") == [("find THREE", 1)]
    for text in ("nobody = 1", "name > 'a'", "name"):
        with pytest.raises(MlflowException) as caught:
            client.search_model_versions(text)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "file:///etc", "mlflow-artifacts:/0/%2e%2e/%252e%252e/x", "s3://b/../c", "x"],
)
def test_a_source_leads_nowhere_on_the_server(client: MlflowClient, source: str) -> None:
    client.create_registered_model(f"outside {hash(source)}")
    with pytest.raises(MlflowException) as caught:
        client.create_model_version(f"outside {hash(source)}", source)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_autologging_registers_what_it_logs(client: MlflowClient, project: Project) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    experiment = mlflow.set_experiment("autologged").experiment_id
    mlflow.sklearn.autolog(registered_model_name="Auto", log_datasets=False, silent=True)
    try:
        frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0.5, 1.5, 2.5, 3.5]})
        fitted = sklearn.LinearRegression().fit(frame[["x"]], frame["y"])
    finally:
        mlflow.sklearn.autolog(disable=True)
    loaded = mlflow.pyfunc.load_model("models:/Auto/1")
    assert np.allclose(loaded.predict(frame[["x"]]), fitted.predict(frame[["x"]]))
    models = client.search_logged_models([experiment])
    assert models[0].metrics, "what autologging measured belongs to the model"
    assert get_version(project.workspace, "Auto:1").signature.names == ("x",)


def test_traces_are_kept(client: MlflowClient) -> None:
    experiment = mlflow.set_experiment("traced").experiment_id

    @mlflow.trace(name="answer")
    def answer(question: str) -> str:
        return question.upper()

    assert answer("why") == "WHY"
    mlflow.flush_trace_async_logging()
    (trace,) = client.search_traces([experiment])
    assert trace.info.state == "OK"
    assert [span.name for span in trace.data.spans] == ["answer"]
    client.set_trace_tag(trace.info.trace_id, "k", "v")
    assert client.get_trace(trace.info.trace_id).info.tags["k"] == "v"
    assert client.delete_traces(experiment, trace_ids=[trace.info.trace_id]) == 1
    assert not client.search_traces([experiment])


def test_webhooks_and_prompts_by_the_client(client: MlflowClient) -> None:
    types = ("model_version_alias.created", "prompt_version.created")
    events = [WebhookEvent.from_str(type) for type in types]
    with receiver() as got:
        hook = client.create_webhook("ci", got.url, events, secret="geheim", description="d")
        assert client.get_webhook(hook.webhook_id).events == events
        assert client.test_webhook(hook.webhook_id).success
        client.create_registered_model("told")
        client.create_model_version("told", "s3://b/p")
        client.set_registered_model_alias("told", "best", "1")
        mlflow.genai.register_prompt("greeting", "Hi {{name}}", tags={"tone": "kind"})
        until(lambda: len(got.got) >= 3)
        told = [json.loads(body) for _, body in got.got[1:]]
        said = {f"{one['entity']}.{one['action']}": one["data"] for one in told}
        assert said[types[0]] == {"name": "told", "alias": "best", "version": "1"}
        assert said[types[1]]["template"] == "Hi {{name}}"
        client.update_webhook(hook.webhook_id, status="DISABLED", name="cd")
        assert [(one.name, str(one.status)) for one in client.list_webhooks()] == [
            ("cd", "DISABLED")
        ]
        client.delete_webhook(hook.webhook_id)
    assert mlflow.genai.load_prompt("greeting", version=1).template == "Hi {{name}}"
    with pytest.raises(MlflowException, match="not found"):
        client.get_webhook(hook.webhook_id)


def test_what_is_not_there_is_said_in_the_clients_form(server: Server) -> None:
    for path in ("/api/2.0/mlflow/gateway/endpoints/list", "/api/3.0/mlflow/scorers/list"):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"


def test_files_of_a_version_are_downloaded(client: MlflowClient, tmp_path: Path) -> None:
    with mlflow.start_run():
        log_doubled("downloaded")
    folder = mlflow.artifacts.download_artifacts("models:/downloaded/1", dst_path=str(tmp_path))
    assert (Path(folder) / "MLmodel").is_file()
