"""The API over HTTP, as clients find it: a real server, and what it says of itself."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from e2e.serving import Project, Server, fitted, one
from upturn.api.client import HttpClient, LocalClient, everything, open_client
from upturn.api.endpoints import GET_ENDPOINT, LIST_ROUTES, ROLLBACK, GetEndpoint, ListRoutes
from upturn.api.endpoints import Rollback as RollbackRequest
from upturn.api.projects import LIST_PROJECTS, ListProjects
from upturn.api.resources import all_operations
from upturn.core.errors import Invalid, NotFound, Unavailable
from upturn.core.records import Arm, Decision


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("api") / "project")
    for seed in range(3):
        project.register("delays", fitted(seed))
    project.endpoint("delays", unit="tail")
    for number in (1, 2, 3):
        project.route("delays", one(number))
    at = datetime(2013, 4, 1, tzinfo=UTC)
    for action in ("hold", "train", "promote"):
        project.workspace.meta.put(
            Decision(
                loop="rehearsal/a b",
                action=action,
                why="because",
                evidence={"auc": float("nan")},
                state={},
                at=at,
                recorded_at=at,
                endpoint="delays",
            )
        )
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


def test_a_list_comes_in_parts(server: Server) -> None:
    first = server.get("/api/v1/endpoints/delays/routes?limit=2").body
    highest = server.get("/api/v1/endpoints/delays").body["route"]
    found = [route["revision"] for route in first["items"]]
    assert len(found) == 2
    cursor = first["cursor"]
    while cursor:
        page = server.get(f"/api/v1/endpoints/delays/routes?limit=2&cursor={cursor}").body
        found += [route["revision"] for route in page["items"]]
        cursor = page["cursor"]
    assert found == list(range(highest, 0, -1))


def test_what_there_is_of_each_resource(server: Server) -> None:
    row = server.get("/api/v1/endpoints/delays").body
    assert row["route"] >= 3
    assert (row["arms"][0]["name"], row["unit"]) == ("champion", "tail")
    assert row["since"].endswith("Z")
    (project,) = server.get("/api/v1/projects").body["items"]
    assert (project["own"], project["models"], project["endpoints"]) == (True, 1, 1)
    (loop,) = server.get("/api/v1/decisions").body["items"]
    assert (loop["loop"], loop["decisions"], loop["action"]) == ("rehearsal/a b", 3, "promote")
    decisions = server.get("/api/v1/decisions/rehearsal%2Fa%20b?action=train").body["items"]
    assert [each["seq"] for each in decisions] == [2]
    one_ = server.get("/api/v1/decisions/rehearsal%2Fa%20b/3").body
    assert one_["evidence"] == {"auc": None}  # JSON has no NaN
    lineage = server.get("/api/v1/lineage?path=route/delays/3").body
    assert [node["path"] for node in lineage["nodes"][:2]] == ["route/delays/3", "version/delays:3"]
    forward = server.get("/api/v1/lineage?path=version/delays:3&direction=downstream").body
    assert forward["nodes"][1] == {
        "path": "route/delays/3",
        "depth": 1,
        "role": "arm",
        "next_to": "version/delays:3",
    }


def test_fields_are_chosen(server: Server) -> None:
    page = server.get("/api/v1/endpoints/delays/routes?fields=revision,model").body
    assert page["items"][-1] == {"revision": 1, "model": "delays"}
    assert server.get("/api/v1/endpoints/delays?fields=name").body == {"name": "delays"}
    wrong = server.get("/api/v1/endpoints/delays?fields=nam")
    assert (wrong.status, wrong.body["hint"]) == (422, "Did you mean 'name'?")


def test_what_is_known_already_is_not_sent_again(server: Server) -> None:
    path = "/api/v1/endpoints/delays/routes/1"
    first = server.get(path)
    tag = first.headers["etag"]
    again = server.ask("GET", path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status, again.raw, again.headers["etag"]) == (304, b"", tag)
    assert server.ask("GET", path, headers={"If-None-Match": '"other"'}).status == 200
    head = server.ask("HEAD", path)
    assert (head.status, head.raw, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-length"] == first.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/api/v1/endpoints/delay", 404, "Did you mean 'delays'?"),
        ("GET", "/api/v1/endpoint", 404, "Did you mean 'endpoints'?"),
        ("GET", "/api/v1", 404, "openapi.json"),
        ("GET", "/api/v1/", 404, "openapi.json"),
        ("GET", "/api/v1/endpoints/", 404, "openapi.json"),
        ("GET", "/api/v1/client", 404, "There is nothing at"),
        ("GET", "/api/v1/endpoints/delays/routes/1/2", 404, "openapi.json"),
        ("GET", "/api%2Fv1/endpoints", 404, "There is nothing at"),
        ("GET", "/api/v1/endpoints/%ff", 400, "UTF-8"),
        ("GET", "/api/v1/endpoints/delays/routes/x", 422, "'revision'"),
        ("GET", "/api/v1/endpoints/delays/routes/99999999999999999999", 404, "99999"),
        ("GET", "/api/v1/endpoints?limit=0", 422, "'limit'"),
        ("GET", "/api/v1/endpoints?limit=1&limit=2", 422, "one value"),
        ("GET", "/api/v1/endpoints?limt=1", 422, "Did you mean 'limit'?"),
        ("GET", "/api/v1/endpoints?cursor=?", 422, "cursor"),
        ("GET", "/api/v1/endpoints/delays/routes?cursor=kaRhYmNk", 422, "cursor"),
        ("GET", "/api/v1/lineage", 422, "'path'"),
        ("GET", "/api/v1/lineage?path=x&direction=up", 422, "'direction'"),
        ("PUT", "/api/v1/endpoints", 405, "Use GET, HEAD."),
        ("POST", "/api/v1/endpoints/delays/rollback", 400, "Content-Type"),
        ("GET", "/api/v1/endpoints/delays/rollback", 405, "Use POST."),
    ],
)
def test_what_is_wrong_is_said(
    server: Server, method: str, path: str, status: int, says: str
) -> None:
    reply = server.ask(method, path)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert says in reply.body["detail"] + reply.body["hint"], reply.body
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"why": 3}', "why"),
        (b'{"wy": "x", "endpont": 3}', "wy"),
        (b'{"endpoint": "other"}', "endpoint"),
        (b"[]", ""),
        (b'{"why": ', ""),
        (b'{"why": "\\ud800"}', ""),
        (b"[" * 5000, ""),
    ],
)
def test_a_body_that_does_not_fit_changes_nothing(server: Server, body: bytes, field: str) -> None:
    before = server.get("/api/v1/endpoints/delays").body["route"]
    reply = server.post("/api/v1/endpoints/delays/rollback", body)
    assert reply.status == (422 if field else 400), reply
    if field:
        assert reply.body["errors"][0]["field"] == field
    assert server.get("/api/v1/endpoints/delays").body["route"] == before


def test_a_body_that_is_too_large_is_refused_before_it_comes(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(10**9)}
    reply = server.ask("POST", "/api/v1/endpoints/delays/rollback", b"", headers)
    server.hang_up()
    assert (reply.status, reply.body["code"]) == (413, "too_large")


def test_every_operation_is_described(server: Server) -> None:
    description = server.get("/openapi.json").body
    operations = all_operations()
    assert len(operations) >= 11
    for operation in operations:
        said = description["paths"][operation.path][operation.method.lower()]
        assert said["operationId"] == operation.name
        assert said["summary"]
        assert str(operation.status) in said["responses"]
    text = server.get("/openapi.json").raw.decode()
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in description["components"]["schemas"]
    assert len({each.name for each in operations}) == len(operations)


def test_a_client_does_the_same_here_and_over_http(project: Project, server: Server) -> None:
    here: LocalClient | HttpClient
    with LocalClient(project.workspace) as here, HttpClient(server.url) as there:
        for client in (here, there):
            routes = list(everything(client, LIST_ROUTES, ListRoutes(endpoint="delays", limit=1)))
            assert [route.revision for route in routes] == list(range(len(routes), 0, -1))
            assert routes[-1].arms == (Arm(name="champion", version=1, share=1.0),)
            assert routes[-1].at.tzinfo is not None
            with pytest.raises(NotFound, match="delay") as missing:
                client.call(GET_ENDPOINT, GetEndpoint(endpoint="delay"))
            assert missing.value.hint == "Did you mean 'delays'?"
            with pytest.raises(Invalid):
                client.call(LIST_ROUTES, ListRoutes(endpoint="delays", cursor="!"))
        before = here.call(GET_ENDPOINT, GetEndpoint(endpoint="delays"))
        back = there.call(ROLLBACK, RollbackRequest(endpoint="delays", why="I say so"))
        assert before.route is not None
        assert (back.revision, back.why) == (before.route + 1, "I say so")
        assert here.call(GET_ENDPOINT, GetEndpoint(endpoint="delays")).route == back.revision


def test_which_client_is_opened(project: Project, server: Server) -> None:
    with open_client(project.workspace, {}) as client:
        assert isinstance(client, LocalClient)
    with open_client(environ={"UPTURN_SERVER": server.url}) as client:
        assert client.call(LIST_PROJECTS, ListProjects()).items
    for text in ("ftp://a", "http://", "http://a:b"):
        with pytest.raises(Invalid, match="no address"):
            HttpClient(text)
    with pytest.raises(Unavailable, match="can't be reached"), HttpClient("127.0.0.1:9") as client:
        client.call(LIST_PROJECTS, ListProjects())


def test_a_kept_connection_that_the_server_closed_is_replaced(tmp_path: Path) -> None:
    project = Project(tmp_path / "other")
    first = Server(project)
    port = first.url.rpartition(":")[2]
    with HttpClient(first.url) as client:
        assert client.call(LIST_PROJECTS, ListProjects()).items
        first.end()
        with pytest.raises(Unavailable):
            client.call(LIST_PROJECTS, ListProjects())
        second = Server(project, "--port", port)
        assert client.call(LIST_PROJECTS, ListProjects()).items
        second.end()
    project.workspace.close()
