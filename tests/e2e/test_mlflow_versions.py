"""Two versions of MLflow's client, each in an environment of its own, on one server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.serving import Project, Server

ROOT = Path(__file__).parents[2]
TOUR = Path(__file__).with_name("mlflow_tour.py")
# Made by `make test` from requirements/mlflow2.txt.
OLDER = ROOT / ".venv-mlflow2" / "bin" / "python"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("versions") / "project")
    with project.server() as running:
        yield running
    project.workspace.close()


@pytest.mark.parametrize("version", ["3.", "2.22."])
def test_a_day_of_a_client(server: Server, version: str) -> None:
    python = sys.executable if version == "3." else str(OLDER)
    if not Path(python).exists():
        pytest.skip("make .venv-mlflow2/.locked makes the older client's environment")
    # Only what a user's machine has: nothing of this process's environment or path.
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [python, "-W", "ignore", str(TOUR), server.url],
        env={**environ, "GIT_PYTHON_REFRESH": "quiet"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"mlflow {version}" in done.stdout
