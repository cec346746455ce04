"""A question that can't be answered is told so: no traceback, no warning, no confident lie."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import upturn as up
from upturn.core.errors import Invalid


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: up.stale(-1), "before its time"),
        (lambda: up.rows("many"), "a number of rows"),  # type: ignore[arg-type]
        (lambda: up.drift(psi="0.2"), "a PSI to fire at"),  # type: ignore[arg-type]
        (lambda: up.drop("auc", float("inf")), "a drop is positive"),
        (lambda: up.alarm(5), "the name of an alarm"),  # type: ignore[arg-type]
        (lambda: up.stale("30d") | "auc", "no trigger"),  # type: ignore[operator]
        (lambda: up.stale("30d") & up.beats("auc"), "compose with|no trigger"),  # type: ignore[operator]
        (lambda: up.beats("auc") & up.stale("30d"), "no gate"),  # type: ignore[operator]
        (lambda: up.beats("auc", by=float("nan")), "a finite number"),
        (lambda: up.no_worse("auc", float("inf")), "from 0 on"),
        (lambda: up.quiet(days=5), "names no days"),  # type: ignore[arg-type]
        (lambda: up.Command((1, 2)), "not a program"),  # type: ignore[arg-type]
        (lambda: up.Webhook("https://ops.example.org", secret=5), "a text"),  # type: ignore[arg-type]
    ],
)
def test_parts_of_loops_and_monitors_say_what_is_wrong_with_them(
    asked: Callable[[], Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said) as error:
        asked()
    assert error.value.problem.hint


def test_one_channel_needs_no_list() -> None:
    channel = up.Slack("https://hooks.example.org/x")
    assert up.Monitor("churn", alerts=channel).alerts == (channel,)  # type: ignore[arg-type]


def test_a_constant_that_becomes_another_has_drifted() -> None:
    found = up.compare_tables({"x": np.ones(500)}, {"x": np.zeros(500)})
    assert [one.severity for one in found.symptoms if one.name == "drift/x"] == ["critical"]
    same = up.compare_tables(up.profile({"x": np.ones(500)}), {"x": np.ones(500)})
    assert same.drift[0].psi == 0
    assert {one.severity for one in same.symptoms} == {"fine"}
