"""An environment while it is built: one process builds, others wait, and none leaves half of it.

What is built is a package whose build waits for a file: so a test knows that it is within.
"""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from waiting import PROC, lives, until

pytestmark = pytest.mark.timeout(300)

BACKEND = '''
"""A build backend that waits, and says that it does."""

import os
import time
import zipfile
from pathlib import Path

HERE = Path({folder!r})
INFO = "slowly-1.0.dist-info/"
META = "Metadata-Version: 2.1\\nName: slowly\\nVersion: 1.0\\n"


def prepare_metadata_for_build_wheel(directory, settings=None):
    folder = Path(directory, INFO)
    folder.mkdir()
    (folder / "METADATA").write_text(META)
    return INFO.rstrip("/")


def build_wheel(directory, settings=None, metadata=None):
    with (HERE / "builds").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    deadline = time.monotonic() + 120
    while not (HERE / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    name = "slowly-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory, name), "w") as wheel:
        wheel.writestr("slowly.py", "WORD = 'at last'\\n")
        wheel.writestr(INFO + "METADATA", META)
        wheel.writestr(INFO + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(INFO + "RECORD", "")
    return name
'''

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "slowly"
dynamic = ["version"]
"""

FLOW = """
import upturn as up


@up.step(env=up.env("slowly @ file://{archive}"), timeout="3s", cache=False)
def patient() -> str:
    import slowly

    return slowly.WORD


@up.flow
def f():
    return patient()
"""

Start = Callable[[], "subprocess.Popen[str]"]


def archive_of(folder: Path) -> Path:
    path = folder / "slowly-1.0.tar.gz"
    files = {
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.format(folder=str(folder)),
        "PKG-INFO": "Metadata-Version: 2.1\nName: slowly\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"slowly-1.0/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a driver of the flow; the drivers are ended after the test."""
    (tmp_path / "slow.py").write_text(FLOW.format(archive=archive_of(tmp_path)))
    drivers: list[subprocess.Popen[str]] = []

    def begin() -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "upturn", "run", "slow.py:f"]
        driver = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "UPTURN_CORES": "2"},
        )
        drivers.append(driver)
        return driver

    yield begin
    (tmp_path / "go").touch()
    for driver in drivers:
        driver.kill()
        driver.wait()
        assert driver.stdout is not None
        driver.stdout.close()


def builds(folder: Path) -> list[int]:
    """The processes that have begun to build the package."""
    file = folder / "builds"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def environments(home: Path) -> list[str]:
    """The folders that are, or look like, environments."""
    return [path.parent.name for path in home.glob("envs/*/pyvenv.cfg")]


def test_one_process_builds_and_the_time_of_the_step_begins_after(
    start: Start, tmp_path: Path, workspace_home: Path
) -> None:
    first, second = start(), start()
    until(lambda: builds(tmp_path), "nobody builds", within_s=120)
    until(lambda: _waits(workspace_home), "the other does not wait for it", within_s=120)
    time.sleep(3.2)  # longer than the step may take
    (tmp_path / "go").touch()
    said = [driver.communicate(timeout=120)[0] for driver in (first, second)]
    assert [driver.returncode for driver in (first, second)] == [0, 0], said
    assert all(text.endswith("at last\n") for text in said), said
    assert len(builds(tmp_path)) == 1
    assert len(environments(workspace_home)) == 1


def _waits(home: Path) -> bool:
    texts = [path.read_text() for path in home.glob("output/*/patient/0.log")]
    return any("which another process builds" in text for text in texts)


def test_ctrl_c_while_it_is_built_leaves_nothing_half_made(
    start: Start, tmp_path: Path, workspace_home: Path
) -> None:
    driver = start()
    until(lambda: builds(tmp_path), "nobody builds", within_s=120)
    assert environments(workspace_home)
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "Resume with: upturn resume" in said
    assert environments(workspace_home) == []
    until(lambda: not lives(builds(tmp_path)[0]), "it is still being built")


@pytest.mark.skipif(not PROC, reason="sees by /proc who lives")
def test_what_a_killed_driver_left_half_made_is_built_again(
    start: Start, tmp_path: Path, workspace_home: Path
) -> None:
    killed = start()
    until(lambda: builds(tmp_path), "nobody builds", within_s=120)
    killed.kill()
    killed.wait()
    assert environments(workspace_home)  # half-made
    (tmp_path / "go").touch()
    again = start()
    said, _ = again.communicate(timeout=120)
    assert said.endswith("at last\n"), said
    assert len(environments(workspace_home)) == 1
