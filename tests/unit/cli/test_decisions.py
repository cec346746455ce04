"""`upturn loop` and `upturn decisions`, as people use them: look, approve, undo, check."""

import re
from pathlib import Path

import pytest

from unit.improve.loop_world import DAY, Flow, past
from upturn.cli import _status
from upturn.core.records import Arm, Endpoint
from upturn.core.time import instant
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import set_route
from upturn.stores.workspace import open_workspace

START = instant("2013-01-22")
FILE = """
from unit.improve.loop_world import Flow, make_loop, past
from upturn.improve.rollout import approval, canary
from upturn.improve.triggers import drift, rows, stale
from upturn.stores.workspace import open_workspace


class Opening(Flow):
    def run(self, **params):
        self.workspace = open_workspace()
        try:
            return super().run(**params)
        finally:
            self.workspace.close()


loop = make_loop(
    Opening(None, past()),
    gate=None,
    guard=[],
    when=stale("21d") | (drift(psi=0.2) & rows(10_000)),
    rollout=[approval(who="risk", lasts="5d"), canary(0.5, "1d")],
)
"""


class Terminal:
    """The command line in this process, and what it printed last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        found = _status(list(arguments))
        out, err = self.capsys.readouterr()
        assert found == status, out + err
        return re.sub(r"\s+", " ", out + err)


@pytest.fixture
def upturn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    """A loop in a file of its own, and a first version that answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "loops.py").write_text(FILE)
    workspace = open_workspace()
    try:
        create_endpoint(workspace, Endpoint("delays", unit="aircraft"), now=START)
        Flow(workspace, past()).run(start=START - 21 * DAY, end=START)
        arm = Arm(name="champion", version=1, share=1.0)
        set_route(workspace, "delays", [arm], why="by hand", now=START)
    finally:
        workspace.close()
    return Terminal(capsys)


def test_from_a_question_to_an_answer_and_back(upturn: Terminal) -> None:
    said = upturn("loop", "loops.py:loop", "--at", "2013-02-20")
    assert (
        "training delays on 2013-01-23 00:00 until 2013-02-13 00:00 trained by run k3f9x2" in said
    )
    assert "ask The loop has no gate. Next: an approval by risk within 5d." in said

    said = upturn("loop", "delays", "--at", "2013-02-21")  # the name alone: it knows its file
    assert "delays:2 is in an approval by risk" in said
    assert "it waits for an approval until 2013-02-25" in said
    assert "At 2013-02-21 it would watch" in said
    assert "4 2013-02-20 00:00 ask :1 ← :2" in said

    said = upturn("decisions", "approve", "delays", "--who", "ada", "--why", "it looks right")
    assert said.startswith("Approved what decision 4 of delays asked")
    said = upturn("decisions", "approve", "delays", "--reject", status=1)
    assert "ada has approved it already" in said
    upturn("loop", "loops.py:loop", "--at", "2013-02-21")

    said = upturn("decisions", "show", "delays", "5")
    assert "decision 5 of delays, 2013-02-21 00:00 UTC: canary :1 ← :2" in said
    assert "asked Has a person said yes or no to version 2?" in said
    assert "approval: ada approved: it looks right" in said
    assert "did canary: the route became version 1 50%, version 2 50%." in said
    assert "otherwise" in said

    assert "Say --yes." in upturn("decisions", "undo", "delays", status=2)
    said = upturn("decisions", "undo", "delays", "--yes", "--who", "bob", "--why", "a complaint")
    assert "bob took decision 5 (canary) back: a complaint. delays:2 counts as rolled back." in said
    assert "can't be undone" in upturn("decisions", "undo", "delays", "--yes", status=2)
    assert "6 of 6 decisions come out as they were stored." in upturn(
        "decisions", "check", "delays"
    )
    said = upturn("decisions", "approve", "delays", status=1)
    assert "does not wait for an approval" in said
    listed = upturn("decisions", "delays")
    for action in ("adopt", "retrain", "judge", "ask", "canary", "undo"):
        assert f" {action} " in listed
    assert '"decision":5' in upturn("decisions", "delays", "6", "--json")


def test_a_steady_loop_says_how_near_its_triggers_are(upturn: Terminal) -> None:
    said = upturn("loop", "loops.py:loop", "--show", "--at", "2013-01-25")
    assert "It has no champion of its own" in said
    assert "it would adopt" in said
    upturn("loop", "loops.py:loop", "--once", "--at", "2013-01-25")
    said = upturn("loop", "delays", "--at", "2013-01-30")
    assert "stale: 8 of 21" in said
    assert "drift: 0 rows are too few of 300 to judge drift" in said
    assert "rows: 0 of 10,000" in said
    assert "At 2013-01-30 it would keep" in said


def test_where_the_code_is_gone_the_store_still_knows(upturn: Terminal, tmp_path: Path) -> None:
    upturn("loop", "loops.py:loop", "--once", "--at", "2013-01-25")
    (tmp_path / "loops.py").unlink()
    said = upturn("loop", "delays")
    assert "version:1 is the champion since 2013-01-25" in said
    assert "What comes next can't be said" in said


def test_what_cannot_be_asked_says_so(upturn: Terminal) -> None:
    assert "No decisions of a loop 'delay'" in upturn("decisions", "delay", status=1)
    assert "No decisions of a loop 'delay'" in upturn("loop", "delay", status=1)
    upturn("loop", "loops.py:loop", "--once", "--at", "2013-01-25")
    assert "Did you mean 'delays'?" in upturn("loop", "delay", status=1)
    assert "is only shown" in upturn("loop", "delays", "--once", status=2)
    for verb in ("undo", "approve"):
        assert "was only rehearsed" in upturn("decisions", verb, "rehearsal/x", status=2)
    assert "was simulated" in upturn("decisions", "check", "rehearsal/x", status=2)
    assert "nothing changed by it" in upturn("decisions", "undo", "delays", "--yes", status=2)
    assert "is not a duration" in upturn(
        "decisions", "undo", "delays", "--yes", "--cooldown", "soon", status=2
    )
