"""Every route there is, asked with no token, a wrong, expired, revoked, narrow and foreign one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from starlette.routing import Route

from e2e.serving import Project, fitted, one
from unit.server.access.guarded import Guarded
from upturn.api.resources import all_operations
from upturn.core.access import ROLES, Role, reaches
from upturn.core.naming import Description, Group, Model
from upturn.core.records import Run, RunState
from upturn.core.time import utcnow
from upturn.core.tokentext import new_token_text
from upturn.server.access.need import known_operations, needs
from upturn.stores.tokens import get_token, revoke_token
from waiting import until

NAME = "zanzibar"  # of everything in the project that foreigners do not see
HIDDEN = "cinnamon"  # what is said in it
VALUES = {"run": "zzrun1", "group": "7", "number": "1", "version": "1", "alias": "champion"}
SERVING = [
    ("GET", "/v1/endpoints", "viewer"),
    ("GET", f"/v1/endpoints/{NAME}", "viewer"),
    ("POST", f"/v1/endpoints/{NAME}/predict", "viewer"),
    ("POST", f"/v1/endpoints/{NAME}/feedback", "editor"),
    ("GET", "/openapi.json", "viewer"),
    ("GET", "/metrics", "viewer"),
    ("GET", "/v2", "viewer"),
    ("POST", "/v2/repository/index", "viewer"),
    ("GET", f"/v2/models/{NAME}", "viewer"),
    ("GET", f"/v2/models/{NAME}/ready", "viewer"),
    ("GET", f"/v2/models/{NAME}/versions/1", "viewer"),
    ("GET", f"/v2/models/{NAME}/versions/1/ready", "viewer"),
    ("POST", f"/v2/models/{NAME}/infer", "viewer"),
    ("POST", f"/v2/models/{NAME}/versions/1/infer", "viewer"),
    ("GET", "/session", "viewer"),
    ("GET", "/nowhere", "viewer"),
    ("POST", "/nowhere", "admin"),
    ("GET", "/api/v1/nowhere", "viewer"),
    ("DELETE", "/api/v1/nowhere", "admin"),
    ("PATCH", "/api/v1/projects", "admin"),
]
MLFLOW = [
    ("GET", "experiments/get", "viewer"),
    ("GET", "experiments/get-by-name", "viewer"),
    ("POST", "experiments/search", "viewer"),
    ("POST", "experiments/create", "editor"),
    ("POST", "experiments/update", "editor"),
    ("POST", "experiments/delete", "editor"),
    ("POST", "experiments/restore", "editor"),
    ("POST", "experiments/set-experiment-tag", "editor"),
    ("POST", "experiments/search-datasets", "viewer"),
    ("GET", "runs/get", "viewer"),
    ("POST", "runs/search", "viewer"),
    ("POST", "runs/create", "editor"),
    ("POST", "runs/update", "editor"),
    ("POST", "runs/delete", "editor"),
    ("POST", "runs/log-metric", "editor"),
    ("POST", "runs/log-batch", "editor"),
    ("POST", "runs/log-inputs", "editor"),
    ("POST", "runs/set-tag", "editor"),
    ("GET", "metrics/get-history", "viewer"),
    ("GET", "metrics/get-history-bulk-interval", "viewer"),
    ("GET", "artifacts/list", "viewer"),
    ("POST", "registered-models/create", "editor"),
    ("PATCH", "registered-models/update", "editor"),
    ("POST", "registered-models/rename", "editor"),
    ("DELETE", "registered-models/delete", "editor"),
    ("POST", "registered-models/get-latest-versions", "viewer"),
    ("GET", "registered-models/search", "viewer"),
    ("POST", "registered-models/set-tag", "editor"),
    ("GET", "registered-models/alias", "viewer"),
    ("POST", "registered-models/alias", "deployer"),
    ("DELETE", "registered-models/alias", "deployer"),
    ("POST", "model-versions/create", "editor"),
    ("POST", "model-versions/transition-stage", "deployer"),
    ("DELETE", "model-versions/delete", "editor"),
    ("GET", "model-versions/get-download-uri", "viewer"),
    ("POST", "logged-models/search", "viewer"),
    ("POST", "logged-models", "editor"),
    ("POST", "traces", "editor"),
    ("POST", "traces/search", "viewer"),
    ("POST", "traces/delete-traces", "editor"),
    ("GET", "webhooks", "admin"),
    ("POST", "webhooks", "admin"),
    ("POST", "gateway/secrets/create", "admin"),
]
OPEN = [
    ("GET", "/login"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
]


@dataclass(frozen=True)
class Asked:
    """A route as it is asked here, and the least role that it takes."""

    method: str
    path: str
    role: Role
    named: bool  # the path names something of the project

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def table() -> list[Asked]:
    """Every operation, and every other route."""
    found = [
        Asked(method, path, role, NAME in path)  # pyright: ignore[reportArgumentType]
        for method, path, role in SERVING
    ]
    for prefix in ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/3.0/mlflow"):
        found += [Asked(method, f"{prefix}/{path}", role, False) for method, path, role in MLFLOW]  # pyright: ignore[reportArgumentType]
    files = "/api/2.0/mlflow-artifacts"
    found += [
        Asked("GET", f"{files}/artifacts/7/zzrun1/artifacts/x", "viewer", True),
        Asked("PUT", f"{files}/artifacts/7/zzrun1/artifacts/x", "editor", True),
        Asked("DELETE", f"{files}/artifacts/7/zzrun1/artifacts/x", "editor", True),
        Asked("POST", f"{files}/mpu/create/7/zzrun1/artifacts/x", "editor", True),
    ]
    for operation in all_operations():
        parts = [
            VALUES.get(part[1:-1].partition(":")[0], NAME) if part.startswith("{") else part
            for part in operation.path.split("/")
        ]
        found.append(
            Asked(operation.method, "/".join(parts), operation.role, "{" in operation.path)
        )
    return found


ROUTES = table()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    project = Project(tmp_path_factory.mktemp("routes") / "project")
    meta, now = project.workspace.meta, utcnow()
    project.register(NAME, fitted())
    project.endpoint(NAME)
    meta.put(
        Model(name=NAME, project="ours", who="ada", created_at=now, at=now),
        Description(path=f"model/{NAME}", text=HIDDEN, who="ada", at=now),
        Group(id="7", name=NAME, project="ours", who="ada", created_at=now, at=now),
        Run(
            id="zzrun1",
            flow=NAME,
            entry="x.py:x",
            params={"spice": HIDDEN},
            project="ours",
            started_at=now,
            group="7",
            who="ada",
        ),
        RunState(run="zzrun1", status="done", at=now),
    )
    project.route(NAME, one(1))
    with Guarded(project.workspace) as served:
        yield served
    project.workspace.close()


@pytest.fixture(scope="module")
def tokens(served: Guarded) -> dict[str, str]:
    meta = served.workspace.meta
    made = {role: served.token(role) for role in ROLES}
    made["foreign"] = served.token("admin", "elsewhere")
    made["expired"] = served.token("admin", expires_at=utcnow() + timedelta(milliseconds=20))
    made["revoked"] = served.token("admin")
    newest = max(meta.select(type(get_token(meta, "viewer-0"))), key=lambda token: token.made_at)
    revoke_token(meta, newest, who="test")
    for name in ("expired", "revoked"):  # the one is not over yet, the other may be believed yet
        until(lambda name=name: served.ask("GET", "/v1/endpoints", made[name]).status_code == 401)
    return made


def ask(served: Guarded, asked: Asked, token: str | None) -> tuple[int, str]:
    body = {} if asked.method in ("GET", "DELETE") else {"json": {}}
    reply = served.ask(asked.method, asked.path, token, **body)
    assert reply.status_code < 500 or reply.status_code in (501, 503), (str(asked), reply.text)
    return reply.status_code, reply.text


@pytest.mark.parametrize("asked", ROUTES, ids=str)
def test_a_route_answers_whom_it_should(
    served: Guarded, tokens: dict[str, str], asked: Asked
) -> None:
    for wrong in (None, "upt_wrong", new_token_text(), tokens["expired"], tokens["revoked"]):
        assert ask(served, asked, wrong)[0] == 401
    for role in ROLES:
        status, _ = ask(served, asked, tokens[role])
        if ROLES.index(role) < ROLES.index(asked.role):
            assert status == 403, f"{role} is too narrow"
        elif role == asked.role:
            assert status not in (401, 403), f"{role} is enough"
    status, text = ask(served, asked, tokens["foreign"])
    assert status != 401
    assert HIDDEN not in text
    if asked.named:
        assert status in (400, 403, 404, 422, 501), "another project's things are not there"
    else:
        assert NAME not in text


def test_events_are_told_to_nobody_unknown(served: Guarded, tokens: dict[str, str]) -> None:
    for wrong in (None, "upt_wrong", tokens["expired"], tokens["revoked"]):
        assert served.ask("GET", "/api/v1/events", wrong).status_code == 401


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_what_is_open_is_open(served: Guarded, method: str, path: str) -> None:
    reply = served.ask(method, path)
    assert reply.status_code in (200, 503)
    assert NAME not in reply.text


def test_what_is_open_is_listed_here() -> None:
    """A route that asks for nothing is on purpose."""
    served = [
        route.path for route in _routes() if needs("GET", route.path, known_operations).role is None
    ]
    assert set(served) <= {path for _, path in OPEN}


def test_mlflows_own_table_is_never_stricter() -> None:
    from upturn.adapters.mlflow.routes import routes

    for route in routes():
        version = route.version or 2
        needed = needs(route.method, f"/api/{version}.0/mlflow/{route.path}", known_operations)
        assert needed.role is not None
        assert reaches(needed.role, route.role), f"{route.method} {route.path}"
        if "alias" not in route.path and "stage" not in route.path:  # releases: the guard's to say
            assert needed.role == route.role, f"{route.method} {route.path}"


def test_the_serving_routes_are_all_in_the_table() -> None:
    asked = {path.replace(NAME, "{name}").replace("/1", "/{version}") for _, path, _ in SERVING}
    known = asked | {path for _, path in OPEN}
    for route in _routes():
        assert route.path in known, f"{route.path} is asked by no test"


def _routes() -> list[Route]:
    from upturn.deploy.serve.request import Limits
    from upturn.server.app import Application
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        app = Application(workspace, Limits())
        return [route for route in app._rest.routes if isinstance(route, Route)]  # pyright: ignore[reportPrivateUsage]
    finally:
        workspace.close()


@pytest.mark.parametrize("name", [NAME, "%7Aanzibar", "%257Aanzibar", f"{NAME}/x", f"./{NAME}"])
def test_no_spelling_of_a_name_gets_around_its_project(
    served: Guarded, tokens: dict[str, str], name: str
) -> None:
    for path in (
        f"/v1/endpoints/{name}/predict",
        f"/v2/models/{name}/infer",
        f"/v2/models/{name}/versions/1/infer",
    ):
        reply = served.ask("POST", path, tokens["foreign"], json={"rows": [{"delay": 1.0}]})
        assert reply.status_code in (403, 404, 405), reply.text
    assert served.ask(
        "POST", f"/v1/endpoints/{NAME}/predict", tokens["viewer"], json={}
    ).status_code
