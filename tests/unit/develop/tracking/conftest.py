"""A workspace of its own for every test: what one leaves in its journals is not another's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from upturn.develop.warm import close_pools
from upturn.stores.workspace import Workspace, open_workspace


@pytest.fixture(autouse=True)
def workspace_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return this test's UPTURN_HOME, not made yet."""
    home = tmp_path / "upturn-home"
    monkeypatch.setenv("UPTURN_HOME", str(home))
    monkeypatch.setenv("UPTURN_CORES", "2")
    yield home
    close_pools()


@pytest.fixture
def workspace(workspace_home: Path) -> Iterator[Workspace]:
    """Return this test's workspace, opened."""
    opened = open_workspace()
    yield opened
    opened.close()
