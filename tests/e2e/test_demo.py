"""The demo on its first days: the whole loop on real flights, with a real server, to its report."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "flights" / "demo.py"


@pytest.mark.timeout(300)
def test_the_demo_reaches_its_report(tmp_path: Path) -> None:
    environment = {**os.environ, "UPTURN_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, str(DEMO), "--until", "2013-04-07"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout
    assert "Registered delays:1" in done.stdout
    assert re.search(r"2013-04 +6,\d\d\d +\d\d\.\d% +9\d\.\d%", done.stdout)
    foreseen = re.search(r"foresaw (\d+) of the (\d+) decisions", done.stdout)
    assert foreseen is not None
    assert foreseen[1] == foreseen[2]
    _check_evidence(done.stdout)
    _check_page(tmp_path / "home" / "report.html", done.stdout)
    # From the answer back to the files that its model was made from.
    for thing in ("prediction/", "route/delays/1", "version/delays:1", "/train/0", "flights.csv"):
        assert thing in done.stdout
    checked = subprocess.run(
        [sys.executable, "-m", "upturn", "decisions", "check", f"{DEMO.parent}/flights.py:loop"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    same = re.match(r"(\d+) of (\d+) decisions come out as they were stored", checked.stdout)
    assert same is not None, checked.stdout + checked.stderr
    assert same[1] == same[2]
    left = subprocess.run(
        [sys.executable, "-m", "upturn", "status"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "none runs" in left.stdout


def _check_evidence(report: str) -> None:
    """A week shows how far each feature is, that nothing can be said yet, and other policies."""
    drift = re.findall(r"^([a-z_0-9]+) +(\d\.\d\d)$", report, re.MULTILINE)
    assert len(drift) == 8
    assert [value for _, value in drift] == sorted((value for _, value in drift), reverse=True)
    assert re.search(r"^2013-04 +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] +– ", report, re.MULTILINE)
    assert "No candidate came so far." in report
    for policy in ("never retrain", "every 30d", "after=70d", "alpha=0.3"):
        assert re.search(rf"^{policy} +0 +0 +0\.\d{{4}}", report, re.MULTILINE)


def _check_page(path: Path, report: str) -> None:
    """One document that loads nothing, whose path is the report's last word."""
    assert report.rstrip().endswith(str(path))
    page = path.read_text()
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", page) == []
    assert page.count("<svg") >= 4
    for title in ("Drift by feature and month", "The guards", "One prediction, back to its"):
        assert title in page
