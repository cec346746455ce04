"""The README's tour as a newcomer walks it: each command for real, on its own example."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

README = Path(__file__).parents[2] / "README.md"
ROW = {"plan": "pro", "months": 3, "calls": 2, "customer": "c7"}
TRAIN = ("run", "churn.py:churn", "--start", "2025-01-01", "--end", "2025-03-31")
REHEARSE = ("rehearse", "churn.py:loop", "--start", "2025-04-01", "--end", "2025-06-30")


class Tour:
    """A folder with the README's example, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "upturn.toml").write_text("")
        example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        assert example is not None
        (folder / "churn.py").write_text(example[1])
        self.environment = {k: v for k, v in os.environ.items() if k != "UPTURN_HOME"}
        self.environment |= {"UPTURN_CORES": "2", "COLUMNS": "200"}

    def upturn(self, *arguments: str, status: int = 0) -> str:
        """What a command prints, on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "upturn", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == status, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "upturn", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    tour = Tour(tmp_path_factory.mktemp("tour"))
    assert "Registered churn:1" in tour.upturn(*TRAIN)
    return tour


@pytest.fixture(scope="module")
def url(tour: Tour) -> Iterator[str]:
    said = tour.upturn(
        "deploy", "churn", "--unit", "customer", "--durable", "--port", "0", "--background"
    )
    found = re.search(r"http://\S+?(?=/v1)", said)
    assert found is not None
    yield found[0]
    tour.upturn("down")


def post(url: str, path: str, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_same_run_again_reuses_everything(tour: Tour) -> None:
    assert "(6 reused)" in tour.upturn(*TRAIN)
    assert "Registered churn:1" in tour.upturn(*TRAIN)
    assert "done" in tour.upturn("runs")


def test_an_edit_reruns_what_it_concerns_and_no_more(tour: Tour) -> None:
    file = tour.folder / "churn.py"
    text = file.read_text()
    try:
        file.write_text(
            text.replace("timedelta(days=7)\n    return data", "timedelta(days=6)\n    return data")
        )
        assert file.read_text() != text
        said = tour.upturn(*TRAIN)
        assert re.search(r"load/0 +reused", said)  # split() is not load's
        assert re.search(r"train/0 +done", said)
        file.write_text(
            text.replace('"""All but the last week, and the last week."""', '"""Split."""')
        )
        assert "(6 reused)" in tour.upturn(*TRAIN)
    finally:
        file.write_text(text)


def test_from_an_answer_back_to_its_sources(tour: Tour, url: str) -> None:
    status, answer = post(url, "/v1/endpoints/churn/predict", {"rows": [ROW]})
    assert status == 200
    [prediction] = answer["predictions"]
    assert 0 < prediction["prediction"] < 1
    traced = tour.upturn("lineage", prediction["id"])
    for thing in ("route/churn/1", "version/churn:", "/best/0", "/train/", "/load/0", "code/"):
        assert thing in traced
    feedback = {"feedback": [{"id": prediction["id"], "label": True}]}
    assert post(url, "/v1/endpoints/churn/feedback", feedback) == (202, {"accepted": 1})
    assert "1 of 1 predictions have a label" in tour.upturn("monitor", "churn")


def test_a_bad_request_says_field_value_and_expectation(url: str) -> None:
    row = {**ROW, "months": "three"}
    status, problem = post(url, "/v1/endpoints/churn/predict", {"rows": [row]})
    assert status == 422
    assert problem["errors"] == [
        {"row": 0, "field": "months", "value": "three", "expected": "a whole number"}
    ]


def test_the_loop_adopts_what_is_deployed_and_leaves_a_trace(tour: Tour, url: str) -> None:
    assert "adopt" in tour.upturn("loop", "churn.py:loop", "--once")
    assert "adopt" in tour.upturn("decisions", "churn")
    assert "Did you mean 'loop'?" in tour.upturn("loop", "churn.py:lop", "--once", status=1)


def test_a_rehearsal_survives_ctrl_c_and_says_who_won(tour: Tour) -> None:
    calls = tour.folder / "calls.csv"
    calls.write_text("plan,months,calls\npro,3,2\n")
    before = tour.upturn("score", "churn", "calls.csv")
    rehearsal = tour.begin(*REHEARSE)
    deadline = time.monotonic() + 60
    while "start=2025-03" not in tour.upturn("runs"):  # until its first training
        assert time.monotonic() < deadline
    if rehearsal.poll() is None:  # else it was too fast to be interrupted; the rest holds as well
        os.kill(rehearsal.pid, signal.SIGINT)
    output, _ = rehearsal.communicate(timeout=60)
    assert "Traceback" not in output
    assert rehearsal.returncode in (0, 130)
    report = tour.upturn(*REHEARSE)
    for line in ("never", "calendar", "Retrains: loop", "2025-06"):
        assert line in report
    # What a rehearsal trained is not what a plain name means.
    after = tour.upturn("score", "churn", "calls.csv", "-o", "again.parquet")
    assert re.findall(r"churn:\d+", after) == re.findall(r"churn:\d+", before)
