"""The audit log of what is done on the store itself: from Python, and what a search of it finds."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from upturn.api.client import open_client
from upturn.api.tokens import (
    CREATE_TOKEN,
    LIST_TOKENS,
    REVOKE_TOKEN,
    CreateToken,
    ListTokens,
    RevokeToken,
)
from upturn.core.access import Audit
from upturn.core.errors import NotFound
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.stores.audit import note, read_audit
from upturn.stores.workspace import Workspace, open_workspace


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def test_what_python_changes_is_noted_and_what_it_reads_is_not(workspace: Workspace) -> None:
    client = open_client(workspace)
    client.call(CREATE_TOKEN, CreateToken(name="ci"))
    client.call(LIST_TOKENS, ListTokens())
    with pytest.raises(NotFound):
        client.call(REVOKE_TOKEN, RevokeToken(token="none"))
    client.call(REVOKE_TOKEN, RevokeToken(token="ci"))
    noted = workspace.meta.select(Audit)
    assert [(one.action, one.path, one.status, one.detail) for one in noted] == [
        ("tokens.create", "token/ci", 201, ""),
        ("tokens.revoke", "token/none", 404, "not_found"),
        ("tokens.revoke", "token/ci", 200, ""),
    ]
    assert {(one.who, one.via) for one in noted} == {(who(), "python")}


def test_a_search_finds_the_newest_of_many(workspace: Workspace) -> None:
    for number in range(2_500):
        note(
            workspace.meta,
            who="ada" if number % 500 == 0 else "ben",
            via="python",
            action="test",
            path=f"run/r{number % 7}",
            status=0,
        )
    meta = workspace.meta
    assert [one.seq for one in read_audit(meta, who="ada")] == [2001, 1501, 1001, 501, 1]
    assert [one.seq for one in read_audit(meta, who="ada", limit=2, before=2001)] == [1501, 1001]
    of = read_audit(meta, path="run/r3", limit=10_000)
    assert len(of) == len([number for number in range(2_500) if number % 7 == 3])
    assert len(read_audit(meta, path="run", limit=10_000)) == 2_500
    assert read_audit(meta, path="ru") == []
    assert read_audit(meta, since=utcnow() + timedelta(days=1)) == []


def test_what_is_noted_is_one_line_of_bounded_length(workspace: Workspace) -> None:
    noted = note(
        workspace.meta,
        who="a\nb\x1b[31m",
        via="python",
        action="x" * 5_000,
        status=0,
    )
    assert noted.who == "a?b?[31m"
    assert len(noted.action) == 300
