"""`upturn rehearse`, as people use it: loops, variants, versions, a file of past rows, a page."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from unit.improve.loop_world import past
from upturn.cli import _status

FILE = """
from unit.improve.loop_world import Flow, make_loop, past
from upturn.improve.triggers import stale
from upturn.stores.workspace import open_workspace


class Opening(Flow):
    made = {}

    def run(self, start, end):
        if (start, end) not in self.made:
            self.workspace = open_workspace()
            try:
                self.made[start, end] = super().run(start, end)
            finally:
                self.workspace.close()
        return self.made[start, end]


flow = Opening(None, past(40))
loop = make_loop(flow, gate=None, rollout=[], when=stale("10d"))
monthly = make_loop(flow, gate=None, rollout=[], when=stale("28d"))
"""
SPAN = ("--start", "2013-01-29", "--end", "2013-02-22")


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
    (tmp_path / "delays.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return Terminal(capsys)


def test_several_loops_a_version_and_a_page(upturn: Terminal, tmp_path: Path) -> None:
    upturn("rehearse", "delays.py:loop", *SPAN)
    said = upturn(
        *("rehearse", "delays.py:loop", "delays.py:monthly", "delays:1", *SPAN),
        *("--calendar", "7d,14d", "--oracle", "--html", "page.html", "--json", "found.json"),
    )
    found = json.loads((tmp_path / "found.json").read_text())
    names = [one["name"] for one in found["policies"]]
    assert names == ["loop", "monthly", "delays:1", "never", "every 7d", "every 14d", "oracle"]
    for name in names:
        assert name in said
    assert "the best in hindsight" in said
    assert "In hindsight" in said
    assert "The page: page.html" in said
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    listed = upturn("decisions", f"rehearsal/{found['id']}/monthly")
    assert "adopt" in listed


def test_variants_of_a_loop(upturn: Terminal) -> None:
    said = upturn("rehearse", "delays.py:loop", "--vary", "when.after=7d,20d", *SPAN)
    for name in ("after=7d", "after=20d"):
        assert name in said
    assert "no 'when.psi' to vary" in upturn(
        "rehearse", "delays.py:loop", "--vary", "when.psi=0.1", *SPAN, status=2
    )
    two = ("rehearse", "delays.py:loop", "delays.py:monthly", "--vary", "window=9d", *SPAN)
    assert "--vary is of one loop" in upturn(*two, status=2)


def test_a_file_of_past_rows(upturn: Terminal, tmp_path: Path) -> None:
    table = past(40)
    renamed = table.rename_columns(["departed", "landed", "late", "aircraft", "a", "b"])
    pq.write_table(renamed, tmp_path / "flights.parquet")
    names = ("--at-column", "departed", "--label", "late", "--known-at", "landed")
    plain = upturn("rehearse", "delays.py:loop", *SPAN)
    said = upturn("rehearse", "delays.py:loop", *SPAN, "--history", "flights.parquet", *names)
    tail = "Retrains:"
    assert (
        said.partition(tail)[0].partition("rows")[0]
        == plain.partition(tail)[0].partition("rows")[0]
    )
    wrong = ("rehearse", "delays.py:loop", *SPAN, "--history", "flights.parquet")
    assert "no column 'at'" in upturn(*wrong, status=2)
    said = upturn(*wrong, "--at-column", "departd", *names[2:], status=2)
    assert "Did you mean 'departed'?" in said
    assert "Give the file: --history FILE" in upturn(
        "rehearse", "delays.py:loop", *SPAN, "--known-at", "landed", status=2
    )


def test_what_is_mistyped_gives_no_traceback(upturn: Terminal) -> None:
    for arguments, says in (
        (("rehearse", "delays.py:lop", *SPAN), "Did you mean 'loop'?"),
        (("rehearse", "delays.py:loop", "delays.py:loop", *SPAN), "twice"),
        (("rehearse", "delays:9", *SPAN), "delays"),
        (("rehearse", "delays.py:loop", *SPAN, "--calendar", "often"), "not a duration"),
        (("rehearse", "delays.py:loop", "--start", "soon", "--end", "2013-02-22"), "'soon'"),
    ):
        found = _status(list(arguments))
        out, err = upturn.capsys.readouterr()
        assert found != 0
        assert says in out + err
        assert "Traceback" not in out + err
