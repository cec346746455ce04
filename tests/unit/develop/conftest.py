"""A workspace that the tests of a module share, so that they share its workers too."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from upturn.develop.warm import close_pools
from upturn.stores.workspace import Workspace, open_workspace


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a directory for the module's workspace."""
    yield tmp_path_factory.mktemp("home")
    close_pools()


@pytest.fixture(autouse=True)
def workspace_home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the module's UPTURN_HOME."""
    monkeypatch.setenv("UPTURN_HOME", str(shared_home))
    monkeypatch.setenv("UPTURN_CORES", "2")
    return shared_home


@pytest.fixture
def workspace(workspace_home: Path) -> Iterator[Workspace]:
    """Return the module's workspace, opened."""
    opened = open_workspace()
    yield opened
    opened.close()


@pytest.fixture
def note(tmp_path: Path) -> str:
    """Return the name of a file of this test alone: as an input, it keeps others' memory away."""
    return str(tmp_path / "note")


@pytest.fixture
def said(note: str) -> Callable[[], list[str]]:
    """Return a function that gives the lines of the note, sorted."""
    return lambda: sorted(Path(note).read_text().splitlines()) if Path(note).exists() else []
