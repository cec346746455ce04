"""The audit log of MLflow's clients: who did what to what, for every route that is noted."""

from collections.abc import Iterator
from typing import Any

import pytest

from unit.server.access.guarded import Guarded, guarded
from upturn.adapters.mlflow.routes import routes
from upturn.core.access import Audit
from upturn.core.settings import load_settings
from upturn.server.access.mlflow import role_of
from upturn.stores.workspace import open_workspace

PREFIX = "/api/2.0/mlflow/"
OF_MODEL = {"name": "delays", "version": "1", "key": "k", "value": "v"}
RUN = {"run_id": "RUN"}
# In this order, each about a thing that those before it made.
ASKED: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "experiments/create", {"name": "e"}, "group/GROUP"),
    ("POST", "experiments/update", {"experiment_id": "GROUP", "new_name": "f"}, "group/GROUP"),
    (
        "POST",
        "experiments/set-experiment-tag",
        {"experiment_id": "GROUP", "key": "a", "value": "b"},
        "group/GROUP",
    ),
    (
        "POST",
        "experiments/delete-experiment-tag",
        {"experiment_id": "GROUP", "key": "a"},
        "group/GROUP",
    ),
    ("POST", "experiments/delete", {"experiment_id": "GROUP"}, "group/GROUP"),
    ("POST", "experiments/restore", {"experiment_id": "GROUP"}, "group/GROUP"),
    ("POST", "runs/create", {"experiment_id": "GROUP"}, "run/RUN"),
    ("POST", "runs/update", {**RUN, "status": "FINISHED"}, "run/RUN"),
    ("POST", "artifacts/presigned-upload-url", {**RUN, "path": "x"}, "run/RUN"),
    ("POST", "runs/delete", RUN, "run/RUN"),
    ("POST", "runs/restore", RUN, "run/RUN"),
    ("POST", "registered-models/create", {"name": "delays"}, "model/delays"),
    ("PATCH", "registered-models/update", {"name": "delays", "description": "d"}, "model/delays"),
    ("POST", "registered-models/set-tag", OF_MODEL, "model/delays"),
    ("DELETE", "registered-models/delete-tag", OF_MODEL, "model/delays"),
    ("POST", "model-versions/create", {"name": "delays", "source": "s3://b/p"}, "version/delays:1"),
    ("PATCH", "model-versions/update", OF_MODEL, "version/delays:1"),
    ("POST", "model-versions/transition-stage", {**OF_MODEL, "stage": "None"}, "version/delays:1"),
    ("POST", "model-versions/set-tag", OF_MODEL, "version/delays:1"),
    ("DELETE", "model-versions/delete-tag", OF_MODEL, "version/delays:1"),
    ("POST", "registered-models/alias", {**OF_MODEL, "alias": "best"}, "model/delays"),
    ("DELETE", "registered-models/alias", {**OF_MODEL, "alias": "best"}, "model/delays"),
    ("DELETE", "model-versions/delete", OF_MODEL, "version/delays:1"),
    ("POST", "registered-models/rename", {"name": "delays", "new_name": "late"}, "model/delays"),
    ("DELETE", "registered-models/delete", {"name": "late"}, "model/late"),
    ("POST", "logged-models", {"experiment_id": "GROUP"}, "logged/LOGGED"),
    ("PATCH", "logged-models/LOGGED", {"status": 2}, "logged/LOGGED"),
    ("DELETE", "logged-models/LOGGED", {}, "logged/LOGGED"),
    (
        "POST",
        "traces/delete-traces",
        {"experiment_id": "GROUP", "request_ids": ["tr-1"]},
        "group/GROUP",
    ),
    (
        "POST",
        "webhooks",
        {
            "name": "ci",
            "url": "http://127.0.0.1:9/x",
            "events": [{"entity": "PROMPT", "action": "CREATED"}],
        },
        "hook/HOOK",
    ),
    ("PATCH", "webhooks/HOOK", {"name": "cd"}, "hook/HOOK"),
    ("POST", "webhooks/HOOK/test", {}, "hook/HOOK"),
    ("DELETE", "webhooks/HOOK", {}, "hook/HOOK"),
]
PLACES = {"{model_id}": "LOGGED", "{webhook_id}": "HOOK"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("audited")
    here = load_settings(home, environ={"UPTURN_HOME": str(home)})
    with guarded(lambda: open_workspace(here)) as served:
        yield served


def test_every_route_that_changes_something_is_noted_here() -> None:
    known = {(method, path) for method, path, _, _ in ASKED}
    for route in routes():
        path = route.path
        for field, value in PLACES.items():
            path = path.replace(field, value)
        if role_of(route.method, PREFIX + path)[1]:
            assert (route.method, path) in known, f"Say what {route.method} {path} is of."


def test_a_change_by_a_client_says_who_did_what_to_what(served: Guarded) -> None:
    admin = served.token("admin")
    found: dict[str, str] = {}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(part) for key, part in value.items()}
        if isinstance(value, str):
            for name, real in found.items():
                value = value.replace(name, real)
        return value

    for method, path, body, of in ASKED:
        reply = served.ask(method, PREFIX + named(path), admin, json=named(body))
        assert reply.status_code < 500 or reply.status_code == 501, (path, reply.text)
        said = reply.json()
        if path == "experiments/create":
            found["GROUP"] = said["experiment_id"]
        elif path == "runs/create":
            found["RUN"] = said["run"]["info"]["run_id"]
        elif path == "logged-models":
            found["LOGGED"] = said["model"]["info"]["model_id"]
        elif path == "webhooks":
            found["HOOK"] = said["webhook"]["webhook_id"]
        noted = served.workspace.meta.find(Audit)
        assert noted is not None
        about = (noted.who, noted.via, noted.path, noted.status)
        assert about == ("admin-0", "mlflow", named(of), reply.status_code)
        assert noted.action.startswith(f"{method} {path.split('/')[0]}")


def test_what_is_refused_is_noted_with_what_it_was_of(served: Guarded) -> None:
    viewer, editor = served.token("viewer"), served.token("editor")
    served.ask("DELETE", f"{PREFIX}webhooks/3f9", viewer)
    served.ask("POST", f"{PREFIX}registered-models/rename", editor, json={"name": "none"})
    refused, wrong = served.workspace.meta.select(Audit, newest_first=True, limit=2)[::-1]
    assert (refused.action, refused.path, refused.status) == ("DELETE webhooks", "hook/3f9", 403)
    assert (wrong.path, wrong.status) == ("", 400)


@pytest.mark.parametrize(
    ("method", "path", "body", "of"),
    [
        ("POST", "tokens", {"name": "ci", "role": "viewer"}, "token/ci"),
        ("POST", "models", {"name": "churn"}, "model/churn"),
        ("POST", "runs/remove", {"runs": ["a1", "b2"]}, "run/a1,b2"),
        ("POST", "hooks/ci/pause", {}, "hook/ci"),
    ],
)
def test_operations_are_noted_with_what_they_are_of(
    served: Guarded, method: str, path: str, body: dict[str, Any], of: str
) -> None:
    served.ask(method, f"/api/v1/{path}", served.token("admin"), json=body)
    noted = served.workspace.meta.find(Audit)
    assert noted is not None
    assert (noted.via, noted.path) == ("http", of)
