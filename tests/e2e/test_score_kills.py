"""`upturn score` with several processes: what kills them loses nothing and leaves nobody behind."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.serving import Project, wait_for
from upturn.core.errors import Conflict, Unavailable
from upturn.core.machine import process_tree
from upturn.core.records import Version
from upturn.deploy.batch import score_file

ROWS = 40_000
PART_ROWS = 1000
MODELS = '''
import os, time
import numpy as np


def doubled(frame):
    """Twice the number; -1 kills whoever computes it."""
    time.sleep(float(os.environ.get("SECONDS_A_PART", 0)))
    numbers = np.asarray(frame["x"], float)
    if (numbers == -1).any():
        os.kill(os.getpid(), 9)
    return numbers * 2
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("kills") / "project")
    (project.root / "numbers_model.py").write_text(MODELS)
    project.environ["UPTURN_CORES"] = "2"
    register = (
        "import upturn as up, numbers_model as m\n"
        "up.register('doubled', m.doubled, data={'x': [1.5, 2.0], 'y': [3.0, 4.0]}, target='y')\n"
    )
    subprocess.run(
        [sys.executable, "-c", register], cwd=project.root, env=project.environ, check=True
    )
    sys.path.insert(0, str(project.root))  # scoring from here loads the model, too
    yield project
    sys.path.remove(str(project.root))
    project.workspace.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(ROWS, dtype=float)}), path)
    return path


def version(project: Project) -> Version:
    return project.workspace.meta.get(Version, "doubled", 1)


def started(project: Project, source: Path) -> subprocess.Popen[str]:
    """A scoring by two processes that has come to some parts, and is far from done."""
    code = (
        "import sys; from pathlib import Path; from upturn.cli import main\n"
        "from upturn.deploy import batch\n"
        f"batch._LEAST_PART_ROWS = batch.PART_ROWS = {PART_ROWS}; batch._SMALL_ROWS = 0\n"
        f"sys.argv = ['upturn', 'score', 'doubled', {str(source)!r}]; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.root,
        env={**project.environ, "SECONDS_A_PART": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks = source.with_name("rows.scored.parquet.partial") / "marks"
    wait_for(lambda: marks.exists() and marks.read_bytes().count(b"\n") >= 3, "three parts")
    return process


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def goes_on(project: Project, source: Path) -> None:
    """Scored to the end, what is there already is taken, and all is right."""
    output = source.with_name("rows.scored.parquet")
    assert not output.exists()
    scored = score_file(
        project.workspace, version(project), source, output, part_rows=PART_ROWS, cores=1
    )
    assert scored.resumed_rows >= 3 * PART_ROWS
    found = pq.read_table(output)
    assert found["x"].to_numpy().tolist() == list(range(ROWS))
    assert (found["prediction"].to_numpy() == np.arange(ROWS) * 2.0).all()
    assert sorted(path.name for path in source.parent.iterdir()) == [source.name, output.name]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_one_that_was_started_is_killed(
    project: Project, source: Path, how: signal.Signals
) -> None:
    process = started(project, source)
    members = [pid for pid in process_tree(process.pid) if pid != process.pid]
    assert len(members) == 2
    process.send_signal(how)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(is_alive, members)), "the processes to end")
    goes_on(project, source)


def test_a_process_that_scores_is_killed(project: Project, source: Path) -> None:
    process = started(project, source)
    first, second = (pid for pid in process_tree(process.pid) if pid != process.pid)
    os.kill(first, signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "was killed by signal 9" in errors
    assert "The same command goes on" in errors
    assert not is_alive(second)
    goes_on(project, source)


def test_a_row_that_kills_the_model_is_named_by_its_part(project: Project, tmp_path: Path) -> None:
    numbers = np.arange(5000, dtype=float)
    numbers[3210] = -1
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": numbers}), source)
    with pytest.raises(Unavailable, match="rows 3000 to 3999 was killed by signal 9"):
        slow_start(project, source, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def slow_start(project: Project, source: Path, output: Path) -> None:
    """As score_file does with a large file: with several processes from the first part on."""
    from upturn.deploy import batch

    small, batch._SMALL_ROWS = batch._SMALL_ROWS, 0  # pyright: ignore[reportPrivateUsage]
    try:
        score_file(
            project.workspace, version(project), source, output, part_rows=PART_ROWS, cores=2
        )
    finally:
        batch._SMALL_ROWS = small  # pyright: ignore[reportPrivateUsage]


def test_two_processes_and_one_output(project: Project, source: Path) -> None:
    process = started(project, source)
    try:
        with pytest.raises(Conflict, match="Another process scores into"):
            score_file(
                project.workspace,
                version(project),
                source,
                source.with_name("rows.scored.parquet"),
            )
    finally:
        process.kill()
        process.communicate()
    goes_on(project, source)


def test_a_full_disk_says_so_and_scoring_goes_on_when_there_is_room(
    project: Project, source: Path
) -> None:
    output = source.with_name("rows.scored.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # what a full disk is to a writer
    try:
        with pytest.raises(Unavailable, match="takes no more: file too large"):
            score_file(
                project.workspace, version(project), source, output, part_rows=PART_ROWS, cores=1
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, was)
    goes_on(project, source)
