"""Access from outside: a server that others can reach, its tokens, and the end of them."""

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.serving import Project, Server, wait_for
from upturn.stores.tokens import list_tokens

PROJECTS = "/api/v1/projects"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    yield project
    project.workspace.close()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def made(project: Project, name: str, *options: str) -> str:
    done = project.command("tokens", "create", name, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() not in done.stderr
    return done.stdout.strip()


def test_a_server_that_others_reach_has_to_have_a_token(project: Project) -> None:
    refused = project.command("up", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "upturn tokens create" in refused.stderr


def test_a_token_is_asked_for_and_ends_within_a_second(project: Project) -> None:
    token = made(project, "ci", "--role", "editor")
    server = Server(project, "--host", "0.0.0.0")
    try:
        assert server.get("/health/ready").status == 200
        assert server.ask("GET", PROJECTS).status == 401
        assert server.ask("GET", PROJECTS, headers={"host": "localhost"}).status == 401
        assert server.ask("GET", PROJECTS, headers=bearer(token)).status == 200
        assert server.ask("GET", "/api/v1/tokens", headers=bearer(token)).status == 403
        assert project.command("tokens", "revoke", "ci").returncode == 0
        revoked_at = list_tokens(project.workspace.meta)[0].at.timestamp()
        wait_for(
            lambda: server.ask("GET", PROJECTS, headers=bearer(token)).status == 401,
            "the token to be refused",
        )
        refused_at = time.time()
        assert project.command("audit").stdout.count("tokens.revoke") == 1
        # The command itself took some of it; what is measured is an upper bound.
        assert refused_at - revoked_at < 5
    finally:
        server.end()


def test_who_listens_hears_no_more_once_the_token_has_ended(project: Project) -> None:
    token = made(project, "ear")
    server = Server(project, "--host", "0.0.0.0")
    try:
        parts = urlsplit(server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.request("GET", "/api/v1/events?topics=endpoint:*", headers=bearer(token))
        stream = connection.getresponse()
        assert stream.status == 200
        project.endpoint("first")
        heard = b""
        while b"first" not in heard:
            heard += stream.read1(4096)
        assert project.command("tokens", "revoke", "ear").returncode == 0
        wait_for(
            lambda: server.ask("GET", PROJECTS, headers=bearer(token)).status == 401,
            "the token to be refused",
        )
        project.endpoint("second")
        assert b"second" not in stream.read(), "and the stream ends"
        connection.close()
    finally:
        server.end()
