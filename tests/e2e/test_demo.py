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
