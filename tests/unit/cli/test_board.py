"""Board: rows that fit the terminal, however many steps and tasks there are."""

import pytest

from upturn.cli.board import Board, live_rows, summary_rows, with_newest


def filled(steps: int, tasks: int, running: int) -> Board:
    board = Board()
    for step in range(steps):
        for index in range(tasks):
            path = f"run/k3f9/step_{step}/{index}"
            board.submitted(path)
            board.started(path, 1.0)
            if index >= running:
                board.ended(path, 2.0, "done")
    return board


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 5), (200, 60), (5, 2), (1, 1)])
@pytest.mark.parametrize(("steps", "tasks"), [(1, 1), (40, 3), (2, 2000)])
def test_rows_fit(width: int, height: int, steps: int, tasks: int) -> None:
    board = filled(steps, tasks, running=1)
    progress = {("run/k3f9/step_0/0", 0): (7, 9, "a title \x1b[2J" * 20)}
    metrics = {"step_0": {"loss\n": 0.5}}
    text = live_rows(board, progress, metrics, now=3.0, width=width, height=height).plain
    rows = text.split("\n")
    assert len(rows) < max(4, height)
    assert all(len(row) <= width for row in rows)
    assert "\x1b" not in text


def test_steps_that_go_on_come_before_those_that_are_over() -> None:
    board = filled(30, 1, running=0)
    board.submitted("run/k3f9/last/0")
    board.started("run/k3f9/last/0", 4.0)
    board.submitted("run/k3f9/first_waiting/0")
    text = live_rows(board, {}, {}, now=5.0, width=80, height=8).plain
    assert "last " in text
    assert "first_waiting" in text
    assert "more steps" in text


def test_an_attempt_that_is_repeated_is_counted_once() -> None:
    board = Board()
    path = "run/k3f9/train/0"
    board.submitted(path)
    for status in ("ready", "failed"):
        board.started(path, 1.0)
        board.ended(path, 2.5, status)
    board.submitted("run/k3f9/train/1")
    (row,) = summary_rows(board, {"train": {"auc": 0.5}}, now=9.0)
    assert row.plain.split() == [
        "train",
        "1",
        "failed,",
        "1",
        "not",
        "run",
        "1.5",
        "s",
        "auc",
        "0.5",
    ]
    assert board.totals() == "1 failed"


def test_the_metrics_logged_last_are_shown() -> None:
    assert with_newest({"a": 1, "b": 2, "c": 3}, {"a": 4, "d": 5}) == {"c": 3, "a": 4, "d": 5}
