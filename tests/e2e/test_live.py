"""A run on a terminal: what is drawn while it goes on, and what stays."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.folder import Folder
from e2e.terminal import Terminal
from upturn.core.records import TaskState

FLOWS = '''
import sys
import time
from pathlib import Path

import upturn as up

HERE = Path(__file__).parent


def wait_for(name: str) -> None:
    deadline = time.monotonic() + 60
    while not (HERE / name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@up.step
def loaded(i: int) -> int:
    if i == 3:
        raise ValueError("no [bold]3[/bold]\\x1b[2J")
    return i


@up.step
def trained(parts: list[int]) -> int:
    for epoch in up.progress(range(4), title="epochs"):
        up.log(step=epoch, loss=1 / (epoch + 1))
        with up.progress(total=10, title="batches") as bar:
            bar.advance(5)
            if epoch == 2:
                time.sleep(0.3)
                bar.advance()
                wait_for("gate")
    return sum(parts)


@up.flow
def training(n: int = 3):
    """Loads and trains."""
    print("said by the flow")
    extra = loaded(3) if n > 3 else None
    return trained(loaded.map(range(3)))


@up.step(cache=False)
def wild(lines: int) -> int:
    print("\\x1b[2J\\x1b[H\\x1b[31mred\\x1b[0m and \\x07\\x9b2Jbell")
    print("10 %\\r50 %\\r100 %")
    print("\\x1b]0;a title\\x07titled")
    print("z" * 5_000_000)
    for number in range(lines):
        print("line", number)
    print("the last", end="")
    return lines


@up.flow
def printing(lines: int = 200_000):
    return wild(lines)


@up.step(cache=False)
def tiny(i: int) -> int:
    return i


@up.step
def counted(parts: list[int]) -> int:
    return len(parts)


@up.flow
def many(n: int):
    return counted(tiny.map(range(n)))
'''

Typed = Callable[..., Terminal]


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {"flows.py": FLOWS})


@pytest.fixture
def typed(own: Folder) -> Iterator[Typed]:
    opened: list[Terminal] = []

    def typed(*words: str, **more: object) -> Terminal:
        opened.append(Terminal(own, *words, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield typed
    for terminal in opened:
        terminal.close()


def words(rows: list[str]) -> list[list[str]]:
    return [row.split() for row in rows if row]


def test_a_run_is_drawn_while_it_goes_on_and_its_summary_stays(own: Folder, typed: Typed) -> None:
    terminal = typed("run", "flows.py:training", "--n", "4")
    terminal.wait_for(lambda t: "batches 60 % (6/10)" in t.text)
    assert "epochs 50 % (2/4)" in terminal.text
    assert "\x1b[?25l" in terminal.text, "no cursor in the way"
    (own.folder / "gate").touch()
    status, screen = terminal.end()
    assert status == 1, "one task failed"
    assert screen.cursor_visible
    rows = words(screen.rows)
    assert rows[0][0] == "run"
    assert ["said", "by", "the", "flow"] in rows
    (failed,) = [row for row in screen.rows if row.startswith("  loaded/0 ")]
    assert failed.split(maxsplit=2)[1:] == ["failed", "ValueError: no [bold]3[/bold]"]
    at = next(i for i, row in enumerate(rows) if row[:3] == ["loaded", "3", "done,"])
    assert rows[at][3:5] == ["1", "failed"]
    assert rows[at + 1][:3] == ["trained", "1", "done"]
    assert rows[at + 1][-2:] == ["loss", "0.25"]
    assert rows[at + 2][:4] == ["run", rows[0][1], "failed", "in"]
    assert rows[at + 3][-1] == "failed:", "and why, with the user's lines"
    assert not any("━" in row or "─" in row for row in screen.rows), "nothing drawn stays"


def test_a_second_run_says_what_was_reused(own: Folder, typed: Typed) -> None:
    (own.folder / "gate").touch()
    assert own.type("run", "flows.py:training").returncode == 0
    status, screen = typed("run", "flows.py:training").end()
    assert status == 0
    rows = words(screen.rows)
    assert ["loaded", "3", "reused"] in rows
    assert ["trained", "1", "reused"] in rows
    assert rows[-2][-2:] == ["(4", "reused)"]
    assert rows[-1] == ["3"], "what the flow returned"


def test_ctrl_c_restores_the_terminal_and_says_how_to_go_on(own: Folder, typed: Typed) -> None:
    terminal = typed("run", "flows.py:training")
    terminal.wait_for(lambda t: "epochs 50 %" in t.text)
    terminal.press_ctrl_c()
    status, screen = terminal.end()
    assert status == 130
    assert screen.cursor_visible
    workspace = own.open()
    run = own.last_run(workspace, "training").id
    workspace.close()
    assert f"Resume with: upturn resume {run}" in screen.rows
    assert ["trained", "1", "not", "run"] in [row[:4] for row in words(screen.rows)]
    assert not any("━" in row for row in screen.rows)
    assert "Traceback" not in terminal.text

    (own.folder / "gate").touch()
    status, screen = typed("resume", run).end()
    assert (status, [row for row in screen.rows if row][-1]) == (0, "3")
    assert ["loaded", "3", "reused"] in words(screen.rows)


@pytest.mark.parametrize(("width", "height"), [(100, 30), (24, 6)], ids=["wide", "narrow"])
def test_whatever_a_step_prints_the_view_holds(
    own: Folder, typed: Typed, width: int, height: int
) -> None:
    terminal = typed("run", "flows.py:printing", width=width, height=height)
    status, screen = terminal.end()
    assert status == 0
    assert len(terminal.text) < 1_000_000, "the rest is in the logs"
    text = "\n".join(screen.rows)
    assert "lines left out; upturn" in text.replace("\n", "")
    assert "wild/0 │ the last" in text
    workspace = own.open()
    output = workspace.output_dir / own.last_run(workspace, "printing").id / "wild" / "0.log"
    assert output.stat().st_size > 5_000_000
    workspace.close()


def test_a_few_lines_are_shown_as_a_terminal_would(typed: Typed) -> None:
    status, screen = typed("run", "flows.py:printing", "--lines", "3").end()
    assert status == 0
    said = [row.partition(" │ ")[2] for row in screen.rows if row.startswith("  wild/0 │ ")]
    shown = [line for line in said if not line.startswith("z")]
    assert shown[-4:] == ["line 0", "line 1", "line 2", "the last"]


def test_thousands_of_tasks_are_a_few_rows(own: Folder, typed: Typed) -> None:
    terminal = typed("run", "flows.py:many", "--n", "3000")
    status, screen = terminal.end()
    assert status == 0
    assert ["tiny", "3000", "done"] in [row[:3] for row in words(screen.rows)]
    assert len(screen.rows) < 12
    workspace = own.open()
    run = own.last_run(workspace, "many").id
    assert len(workspace.meta.last_each(TaskState, run=run)) == 3001
    workspace.close()


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["no-colour", "dumb"])
def test_who_wants_plain_lines_gets_them(own: Folder, typed: Typed, plain: dict[str, str]) -> None:
    (own.folder / "gate").touch()
    terminal = typed("run", "flows.py:training", **plain)
    status, screen = terminal.end()
    assert status == 0
    assert "\x1b" not in terminal.text
    assert "trained/0" in "\n".join(screen.rows)
