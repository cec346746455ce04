"""MLflow's registry over HTTP: sources, prompts, names that come back, approval, searches."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.adapters.mlflow_api import PREFIX, Api
from unit.adapters.test_mlflow_rest import api_of
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.model.aliases import protect
from upturn.stores.registry_projection import carry_registry
from upturn.stores.workspace import Workspace, open_workspace

RM, MV = "registered-models", "model-versions"
PROMPT = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("registry")
    workspace = open_workspace(load_settings(home, environ={"UPTURN_HOME": str(home)}))
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def api(workspace: Workspace) -> Api:
    return Api(workspace)


def model(api: Api, name: str, **more: Any) -> str:
    api.post(f"{RM}/create", name=name, **more)
    return name


def version(api: Api, name: str, source: str = "s3://b/p", **more: Any) -> dict[str, Any]:
    return api.post(f"{MV}/create", name=name, source=source, **more)["model_version"]


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("runs:/r1/model", {}, "The run_id request parameter must identify"),
        ("runs:/r1/model", {"run_id": "r2"}, "The run_id request parameter must identify"),
        ("runs://host/r1/model", {"run_id": "r1"}, "The run_id request parameter must identify"),
        ("mlflow-artifacts:/0/r1/artifacts/m", {}, "The run_id request parameter must identify"),
        ("http://h/api/2.0/mlflow-artifacts/artifacts/x", {}, "The run_id request parameter"),
        ("models:/m-none", {}, "The model_id request parameter must identify"),
        ("models:/a/b/1", {}, "The model_id request parameter must identify"),
        ("models://host/sources/1", {}, "must use the active model registry"),
        ("models:/sources/1", {"run_id": "other"}, "must match the referenced model version"),
        ("models:/sources@none", {}, "Registered model alias none not found."),
        ("models:/sources/Production", {}, "No versions of model with name 'sources' and stage"),
        ("s3://b/./p", {}, "an absolute path must be provided"),
        ("s3://b/%2e%2e/p", {}, "an absolute path must be provided"),
        ("C:\\x", {}, "an absolute path must be provided"),
        ("/etc/passwd", {}, "To use a local path as a model version source, the run_id"),
        (
            "file:///etc",
            {"model_id": "m-1"},
            "a local path as a model version source, the model_id",
        ),
        ("s3://b/p", {"tags": PROMPT}, "Prompt sources must use an MLflow placeholder."),
    ],
)
def test_a_source_that_is_not_the_clients_to_name(
    api: Api, source: str, more: dict[str, Any], says: str
) -> None:
    if not api.get(f"{RM}/search", filter="name = 'sources'"):
        version(api, model(api, "sources"), "runs:/r1/model", run_id="r1")
    status, code, message = api.refused(f"{MV}/create", name="sources", source=source, **more)
    assert says in message
    assert (status, code) in ((400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST"))


def test_a_copy_says_what_it_is_of_and_is_fetched_from_there(api: Api) -> None:
    name = model(api, "copied")
    version(api, name, "runs:/r1/model", run_id="r1", tags=[{"key": "a", "value": "b"}])
    api.post(f"{RM}/alias", name=name, alias="best", version="1")
    for source in ("models:/copied@best", "models:/copied/latest", "models:/copied/2"):
        copy = version(api, name, source)
        assert copy["source"].startswith("models:/copied/")
        assert copy["run_id"] == "r1"
        fetched = api.get(f"{MV}/get-download-uri", name=name, version=copy["version"])
        assert fetched == {"artifact_uri": "runs:/r1/model"}


def test_a_version_of_a_logged_model_is_noted_on_it(api: Api) -> None:
    name = model(api, "of-logged")
    run = api.run()
    said = {"experiment_id": "0", "name": "m", "source_run_id": run}
    made = api.post("logged-models", **said)["model"]["info"]["model_id"]
    for number in ("1", "2"):
        new = version(api, name, f"models:/{made}", model_id=made)
        assert (new["version"], new["run_id"], new["model_id"]) == (number, run, made)
    tags = api.get(f"logged-models/{made}")["model"]["info"]["tags"]
    noted = {tag["key"]: tag["value"] for tag in tags}["mlflow.modelVersions"]
    assert json.loads(noted) == [{"name": name, "version": 1}, {"name": name, "version": 2}]


def test_prompts_are_made_and_are_no_models(api: Api) -> None:
    name = model(api, "greeting", tags=PROMPT)
    text = [*PROMPT, {"key": "mlflow.prompt.text", "value": "Hi {{name}}"}]
    assert version(api, name, "dummy-source", tags=text)["version"] == "1"
    only = f"name = '{name}'"
    asked = f"{only} AND tags.`mlflow.prompt.is_prompt` = 'true'"
    for what, field in ((RM, "registered_models"), (MV, "model_versions")):
        assert api.get(f"{what}/search", filter=only) == {}
        assert len(api.get(f"{what}/search", filter=asked)[field]) == 1
    refused = api.refused(f"{MV}/create", name=model(api, "user"), source=f"models:/{name}/1")
    assert "Prompt versions cannot be used" in refused[2]


def test_a_name_that_is_taken_again_is_new_and_counts_on(api: Api) -> None:
    name = model(api, "again", description="old", tags=[{"key": "a", "value": "b"}])
    first = api.get(f"{RM}/get", name=name)["registered_model"]
    version(api, name)
    api.http.request("DELETE", f"{PREFIX}{RM}/delete", json={"name": name})
    model(api, name)
    second = api.get(f"{RM}/get", name=name)["registered_model"]
    assert second["creation_timestamp"] >= first["last_updated_timestamp"]
    assert "tags" not in second
    assert version(api, name)["version"] == "2"


def test_a_renamed_model_keeps_its_versions_stages(api: Api) -> None:
    name = model(api, "staged")
    version(api, name)
    api.post(f"{MV}/transition-stage", name=name, version="1", stage="Production")
    api.post(f"{RM}/rename", name=name, new_name="staged-on")
    found = api.post(f"{RM}/get-latest-versions", name="staged-on", stages=["production"])
    assert [one["version"] for one in found["model_versions"]] == ["1"]


def test_whose_a_name_was_they_keep_it(workspace: Workspace, api: Api) -> None:
    name = model(api, "theirs")
    api.http.request("DELETE", f"{PREFIX}{RM}/delete", json={"name": name})
    other = api_of(workspace, "admin", "elsewhere")
    assert other.refused(f"{RM}/create", name=name)[1] == "RESOURCE_ALREADY_EXISTS"
    assert api.refused_get(f"{RM}/get", name=name)[0] == 404


def test_what_nobody_approved_is_forbidden_with_the_way_out(workspace: Workspace, api: Api) -> None:
    name = model(api, "guarded")
    version(api, name)
    protect(workspace, name, "champion", on=True, why="", who="ada", now=utcnow())
    status, code, says = api.refused(f"{RM}/alias", name=name, alias="champion", version="1")
    assert (status, code) == (403, "PERMISSION_DENIED")
    assert "upturn models request guarded:1 --alias champion" in says


@pytest.mark.parametrize(
    ("filter", "says"),
    [
        ("nam = 'x'", "Invalid attribute key 'nam' specified. Valid keys are '{'name'}'"),
        ("name > 'x'", "Invalid comparator for attribute: >"),
        ("tags.p > 'x'", "Invalid comparator for tag: >"),
        ("name = 'a' OR name = 'b'", "Invalid clause(s) in filter string: OR"),
        ("foo.bar = 'x'", "Valid entity types are ('attribute', 'tag', 'tags')"),
        ("name = 5", "Expected a quoted string value or a list of quoted string values"),
    ],
)
def test_filters_are_refused_in_the_registrys_words(api: Api, filter: str, says: str) -> None:
    status, code, message = api.refused_get(f"{RM}/search", filter=filter)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert says in message


def test_numbers_of_versions_are_compared_as_whole_ones(api: Api) -> None:
    name = model(api, "numbered")
    for _ in range(3):
        version(api, name)

    def found(text: str) -> list[str]:
        said = api.get(f"{MV}/search", filter=f"name = '{name}' AND version_number {text}")
        return [one["version"] for one in said.get("model_versions", [])]

    assert found("> 1") == ["3", "2"]
    assert found("= '2'") == ["2"]
    assert found("< 99999999999999999999999") == ["3", "2", "1"]
    for wrong, says in (("= 1.0", "Invalid value for numeric"), ("IN ('1')", "Only ['name', 'run")):
        refused = api.refused_get(f"{MV}/search", filter=f"version_number {wrong}")
        assert says in refused[2]
    for order, says in (("creation_timestamp", "Invalid order by key"), ("tags.a", "order by key")):
        assert says in api.refused_get(f"{RM}/search", order_by=[order])[2]


def test_pages_stand_still_while_new_ones_come(api: Api) -> None:
    for number in range(6):
        version(api, model(api, f"paged-{number}"))

    def names(what: str, field: str, **asked: Any) -> list[str]:
        found: list[str] = []
        token = ""
        for round in range(10):
            page = api.get(f"{what}/search", max_results=2, page_token=token, **asked)
            found += [one["name"] for one in page.get(field, [])]
            token = page.get("next_page_token", "")
            version(api, model(api, f"paged-{asked['order_by'][0][:4]}-{what[:5]}-{round}"))
            if not token:
                return found
        raise AssertionError("It does not end.")

    old = [f"paged-{number}" for number in range(6)]
    like = "name LIKE 'paged-_'"
    assert names(RM, "registered_models", filter=like, order_by=["name ASC"]) == old
    newest = names(MV, "model_versions", filter=like, order_by=["last_updated_timestamp DESC"])
    assert newest == old[::-1]
    every = "name LIKE 'paged-%'"
    seen = names(MV, "model_versions", filter=every, order_by=["creation_timestamp DESC"])
    assert len(seen) == len(set(seen))
    assert set(old) <= set(seen)
    page = api.get(f"{RM}/search", max_results=1, filter=like)["next_page_token"]
    other = api.refused_get(f"{RM}/search", filter="name = 'x'", page_token=page)
    assert "it is of another search" in other[2]


OPS = ("version", "stage", "describe", "unversion", "delete", "create", "rename")


@settings(max_examples=15, deadline=None)
@given(ops=st.lists(st.tuples(st.sampled_from(OPS), st.integers(1, 3)), max_size=12))
def test_what_searches_see_is_what_the_records_add_up_to(
    workspace: Workspace, api: Api, ops: list[tuple[str, int]]
) -> None:
    """Tables that are kept in step are those that an older store's records would make."""
    name = f"h{utcnow().timestamp()}".replace(".", "-")
    model(api, name)
    for op, number in ops:
        said = {"name": name, "version": str(number)}
        path, method, body = {
            "version": (f"{MV}/create", "POST", {"name": name, "source": "s3://b/p"}),
            "stage": (f"{MV}/transition-stage", "POST", {**said, "stage": "Production"}),
            "describe": (f"{MV}/update", "PATCH", {**said, "description": "text"}),
            "unversion": (f"{MV}/delete", "DELETE", said),
            "delete": (f"{RM}/delete", "DELETE", {"name": name}),
            "create": (f"{RM}/create", "POST", {"name": name}),
            "rename": (f"{RM}/rename", "POST", {"name": name, "new_name": f"{name}r"}),
        }[op]
        answer = api.http.request(method, PREFIX + path, json=body)
        assert answer.status_code < 500
        if op == "rename" and answer.status_code == 200:
            name = f"{name}r"

    def rows(connection: Any) -> list[Any]:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("model_now", "version_now")
        ]

    with closing(sqlite3.connect(workspace.settings.home / "upturn.db")) as connection:
        kept = rows(connection)
        connection.execute("DELETE FROM model_now")
        connection.execute("DELETE FROM version_now")
        carry_registry(connection)
        assert rows(connection) == kept
