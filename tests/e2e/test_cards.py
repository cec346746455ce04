"""A model's card as a page, and models whose names have slashes, spaces and other letters."""

import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from e2e.serving import Project, Server, fitted, one
from upturn.api.client import HttpClient
from upturn.api.models import (
    CHANGE_MODEL,
    GET_MODEL,
    REMOVE_MODEL,
    RESTORE_MODEL,
    ChangeModel,
    OneModel,
    RemoveModel,
)
from upturn.core.naming import Model
from upturn.core.time import utcnow

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("cards") / "project")
    project.register("delays", fitted())
    project.endpoint("delays")
    project.route("delays", one(1))
    yield project
    project.workspace.close()


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with project.server() as server:
        yield server


def get(url: str, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_a_card_is_a_page_for_browsers_and_data_for_programs(server: Server) -> None:
    client = HttpClient(server.url)
    client.call(CHANGE_MODEL, ChangeModel(model="delays", description=EVIL, tags={"a": EVIL}))
    card = f"{server.url}/api/v1/models/delays/versions/1/card"
    kind, page = get(card, "text/html,application/xhtml+xml,*/*;q=0.8")
    assert kind.startswith("text/html")
    assert page.startswith("<!doctype html>")
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    for said in ("delays:1", "Signature", "Serves", "Environment"):
        assert said in page
    assert get(card, "*/*")[0] == "application/json"
    client.close()


@pytest.mark.parametrize("name", ["team/a b/ü", "100% sure?", "a//b", "../up", "%2F"])
def test_any_name_goes_through_the_api(project: Project, server: Server, name: str) -> None:
    """MLflow's clients give such names."""
    client = HttpClient(server.url)
    now = utcnow()
    project.workspace.meta.put(
        Model(
            name=name, project=project.workspace.settings.project, who="a", created_at=now, at=now
        )
    )
    client.call(CHANGE_MODEL, ChangeModel(model=name, description="said"))
    asked = OneModel(model=name)
    assert client.call(GET_MODEL, asked).name == name
    url = f"{server.url}/api/v1/models/{quote(name, safe='')}"
    assert '"said"' in get(url, "application/json")[1]
    client.call(REMOVE_MODEL, RemoveModel(model=name))
    client.call(RESTORE_MODEL, asked)
    assert client.call(GET_MODEL, asked).description == "said"
    client.close()
