"""A token of one project against a server: its flows run, and nothing of others is reached."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.remote import StoreServer, serving
from e2e.serving import SRC
from upturn.core.errors import NotFound
from upturn.core.records import Memo, Run, TaskState
from upturn.core.settings import load_settings
from upturn.stores.remote.blobs import RemoteBlobStore
from upturn.stores.remote.connection import Server
from upturn.stores.tokens import make_token
from upturn.stores.workspace import Workspace, open_workspace

FLOW = """
import upturn as up


@up.step
def secret(of: str) -> list[str]:
    print("made by", of)
    up.show(f"shown by {of}")
    return [of] * 3


@up.step
def count(data: list[str]) -> int:
    up.log(rows=len(data))
    return len(data)


@up.flow
def both(of: str) -> int:
    return count(secret(of))
"""


class Person:
    """Somebody who works in a project of their own, with a token that is good there alone."""

    def __init__(self, folder: Path, server: StoreServer, token: str) -> None:
        self.folder, self.server, self.token = folder, server, token
        folder.mkdir()
        (folder / "upturn.toml").touch()
        (folder / "flows.py").write_text(FLOW)

    def upturn(self, *arguments: str, status: int = 0) -> str:
        environ = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
        environ |= {
            "UPTURN_HOME": str(self.folder / "home"),
            "UPTURN_SERVER": self.server.url,
            "UPTURN_TOKEN": self.token,
            "UPTURN_CORES": "1",
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")]),
        }
        made = subprocess.run(  # noqa: PLW1510
            [sys.executable, "-m", "upturn", *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == status, made.stdout + made.stderr
        assert "Traceback" not in made.stderr
        return made.stdout + made.stderr

    def blobs(self) -> RemoteBlobStore:
        return RemoteBlobStore(Server(self.server.url, self.token))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def here(server: StoreServer) -> Iterator[Workspace]:
    workspace = open_workspace(load_settings(server.home, {"UPTURN_HOME": str(server.home)}))
    yield workspace
    workspace.close()


def person(folder: Path, server: StoreServer, here: Workspace, name: str) -> Person:
    """Return an editor of the project of their own name."""
    _, secret = make_token(
        here.meta, name, role="editor", who="ana", projects=(name,), expires_at=None
    )
    return Person(folder / name, server, secret)


def test_flows_run_with_a_token_of_one_project_and_stay_in_it(
    server: StoreServer, here: Workspace, tmp_path: Path
) -> None:
    ana, bo = (person(tmp_path, server, here, name) for name in ("ana", "bo"))
    assert "(2 done)" in ana.upturn("run", "flows.py:both", "--of", "ana")
    assert "(2 reused)" in ana.upturn("run", "flows.py:both", "--of", "ana")
    run = here.meta.select(Run, newest_first=False)[0].id
    assert "made by ana" in ana.upturn("logs", f"{run}/secret")
    # The same flow with the same inputs in another project takes nothing up that was made there.
    assert "(2 done)" in bo.upturn("run", "flows.py:both", "--of", "ana")
    assert {memo.only for memo in here.meta.select(Memo)} == {"ana", "bo"}
    assert "No run" in bo.upturn("show", run, status=1)
    # What was only made in one of them is not read from the other, though its digest is known.
    ana.upturn("run", "flows.py:both", "--of", "ana alone")
    states = here.meta.select(TaskState, step="secret", newest_first=True)
    digest = next(state.output for state in states if state.output is not None)
    assert b"ana alone" in bytes(ana.blobs().get(digest))
    assert not bo.blobs().has(digest)
    with pytest.raises(NotFound):
        bo.blobs().get(digest)
    # Who has the bytes is told nothing by being let have them.
    bo.blobs().put([ana.blobs().get(digest)])
    assert bo.blobs().has(digest)
