"""Lines: what a run says where nothing can be drawn."""

from pathlib import Path

import pytest

from upturn.cli.progress import Lines, far


def test_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(progress_every_s=0)
    lines.task_progress("run/k3f9/train/3", 400, 1000, "", 0)
    lines.task_progress("run/k3f9/train/3", 1, 2, "inner", 1)
    lines.task_progress("run/k3f9/train/3", 7, None, "rows", 0)
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "  train/3 │ 40 % (400/1000)",
        "  train/3 │ rows 7",
    ]


def test_a_quick_loop_says_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = Lines(progress_every_s=3600)
    lines.task_started("run/k3f9/train/3", 1, str(tmp_path / "3.log"))
    for done in range(1000):
        lines.task_progress("run/k3f9/train/3", done, 1000, "", 0)
    lines.close()
    assert capsys.readouterr().err == ""


def test_output_beyond_measure_is_named_and_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = Lines()
    file = tmp_path / "0.log"
    lines.task_started("run/k3f9/train/0", 1, str(file))
    file.write_text("".join(f"line {number}\n" for number in range(300_000)))
    lines.close()
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "  train/0 │ line 299999"
    (left_out,) = [line for line in said if "left out" in line][-1:]
    assert left_out.endswith("lines left out; upturn logs k3f9/train/0")
    assert len(said) < 10_000


def test_nothing_of_nothing_is_no_division() -> None:
    assert far(0, 0, "files") == "files 0"
