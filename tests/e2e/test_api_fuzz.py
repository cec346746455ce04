"""The API under requests that its description allows, and others: a client's error at worst."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.serving import Project, Reply, Server, fitted, one
from e2e.test_fuzz import ANYTHING, ODD, TEXT, Description, allowed
from upturn.api.resources import all_operations

NAMES = st.sampled_from(["delays", "delays:1", "champion", "1", "0", "-1", "*", "..", "a/b"])
ANY_NAME = NAMES | TEXT.filter(bool)
many = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("fuzz") / "project")
    project.register("delays", fitted())
    project.endpoint("delays")
    project.route("delays", one(1))
    with project.server() as server:
        yield server
    project.workspace.close()


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    return Description(server.get("/openapi.json").body)


OPERATIONS = st.sampled_from(all_operations())


def check(reply: Reply) -> None:
    assert reply.status < 500, reply
    if reply.status >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.body["status"] == reply.status
        assert reply.body["detail"]


def values(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What the schema allows, a name that there is, or anything."""
    try:
        fits = allowed(schema, whole)
    except KeyError:
        fits = ANYTHING
    return fits | NAMES | ANYTHING


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@given(data=st.data())
@many
def test_whatever_is_asked(
    server: Server, description: dict[str, Any], data: st.DataObject
) -> None:
    operation = data.draw(OPERATIONS)
    said = description["paths"][operation.path][operation.method.lower()]
    path: str = operation.path
    query: list[tuple[str, str]] = []
    for parameter in said["parameters"]:
        if parameter["in"] == "path":
            name = data.draw(ANY_NAME)
            path = path.replace(f"{{{parameter['name']}}}", quote(name, safe=""))
            path = path.replace(f"{{{parameter['name']}:path}}", quote(name, safe="/"))
        elif data.draw(st.booleans()):
            schema = parameter.get("schema") or {}
            query.append((parameter["name"], text_of(data.draw(values(schema, description)))))
    body: bytes | None = None
    headers: dict[str, str] = {}
    if "requestBody" in said:
        schema = said["requestBody"]["content"]["application/json"]["schema"]
        fields = {
            name: data.draw(values(each, description))
            for name, each in schema["properties"].items()
            if name in schema["required"] or data.draw(st.booleans())
        }
        body = json.dumps(fields).encode("utf-8", "surrogatepass")
        if data.draw(st.integers(0, 9)) == 0:
            body = data.draw(ODD).encode("utf-8", "surrogatepass")
        headers["Content-Type"] = "application/json"
    if query:
        path += "?" + urlencode(query, errors="surrogatepass")
    check(server.ask(operation.method, path, body, headers))


@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
    st.lists(st.sampled_from(["endpoints", "runs", "delays", "..", "%00", "%2e%2e", "%ff", ""])),
    st.binary(max_size=30),
)
@many
def test_whatever_the_address(server: Server, method: str, parts: list[str], query: bytes) -> None:
    path = "/".join(["/api/v1", *parts]) + (f"?{quote(query)}" if query else "")
    if "/api/v1/events" in path:
        return
    reply = server.ask(method, path, b"{}", {"Content-Type": "application/json"})
    assert reply.status < 500
    if reply.status >= 400 and method != "HEAD":
        check(reply)
