"""`upturn models`: lists, cards, differences and aliases as people read them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from upturn.cli import cli
from upturn.model.card import by_slice

FLOW = """
import numpy as np
import upturn as up

LATE = 15

class Above:
    def __init__(self, border):
        self.border = border

    def predict(self, rows):
        return (np.asarray(rows["x"]) > self.border).astype(float)

@up.step
def load(path: "Path"):
    import pandas as pd
    return pd.read_csv(path)

@up.step
def train(depth: int, *, data):
    up.log(auc=0.5 + depth / 100, **{"auc/carrier=AA": 0.4})
    return Above(LATE)

@up.flow
def delays(depth: int = 3):
    from pathlib import Path
    data = load(Path("flights.csv"))
    return up.register("delays", train(depth, data=data), data=data, target="late")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "upturn.toml").write_text('project = "flights"\n')
    (folder / "flow.py").write_text(FLOW)
    rows = "\n".join(f"{x},{int(x > 15)}.5" for x in range(30))
    (folder / "flights.csv").write_text(f"x,late\n{rows}\n")
    monkeypatch.chdir(folder)
    return folder


def run_elsewhere(*args: str) -> None:
    """Run the flow in a process of its own, as one does after an edit."""
    command = [sys.executable, "-m", "upturn", "run", "flow.py:delays", *args]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def upturn(*args: str) -> int | None:
    """Run the command line, and return its exit status."""
    return cli.main(list(args), prog_name="upturn", standalone_mode=False)


def test_a_card_a_difference_and_aliases(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_elsewhere()
    (project / "flow.py").write_text(FLOW.replace("LATE = 15", "LATE = 20"))
    run_elsewhere("--depth", "6")
    upturn("models", "alias", "delays:1", "champion", "--why", "the first")
    upturn("models", "alias", "delays:2", "champion", "--why", "better")
    upturn("models", "describe", "delays", "Which flights are *late*.")
    upturn("models", "tag", "delays:2", "team=blue")
    capfd.readouterr()

    upturn("models")
    listed = capfd.readouterr().out
    assert "delays" in listed
    assert "champion :2" in listed
    assert "flights" in listed

    upturn("models", "show", "delays")
    card = capfd.readouterr().out
    assert card.startswith("# delays:2\n\nWhich flights are *late*.\n")
    for text in (
        "- **aliases**: champion",
        "- **tags**: team=blue",
        "flights.csv",
        "flow.py:delays",
        "| depth | 6 |",
        "| auc | 0.56 |",
        "| carrier=AA | 0.4 |",
        "## Since delays:1",
        "constant flow.LATE: 15 → 20",
        "| x | ",
    ):
        assert text in card, f"{text}\n{card}"

    upturn("models", "diff", "delays:1", "delays@champion", "--json")
    difference = json.loads(capfd.readouterr().out)
    assert difference["params"] == [{"name": "depth", "before": 3, "after": 6}]
    assert {"name": "auc", "before": 0.53, "after": 0.56} in difference["metrics"]
    assert difference["environment"] == []

    upturn("models", "history", "delays")
    history = capfd.readouterr().out
    assert "none → :1" in history
    assert ":1 → :2" in history
    assert "better" in history


def test_rules_names_and_removal(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_elsewhere()
    upturn("models", "protect", "delays")
    assert main_status("models", "alias", "delays:1", "champion") == 1
    assert "has not been approved" in capfd.readouterr().err
    upturn("models", "request", "delays:1", "--why", "it is good")
    assert main_status("models", "approve", "delays:1") == 1
    assert "can't approve it, too" in capfd.readouterr().err
    upturn("models", "rename", "delays", "late")
    upturn("models", "versions", "delays")
    assert "late:1" in capfd.readouterr().out
    upturn("models", "remove", "late:1", "--yes", "--why", "wrong")
    upturn("models", "versions", "late", "--removed")
    assert "late:1" in capfd.readouterr().out
    upturn("models", "restore", "late:1")
    upturn("models", "show", "late", "--json")
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["number"] == 1


def main_status(*args: str) -> int:
    """Run the command line as a program does, and return its exit status."""
    from upturn.cli import _status  # pyright: ignore[reportPrivateUsage]

    return _status(list(args))


def test_metrics_by_slice() -> None:
    assert by_slice({"auc": 0.9, "auc/a=b/c": 0.8})[1] == {"a=b/c": {"auc": 0.8}}
