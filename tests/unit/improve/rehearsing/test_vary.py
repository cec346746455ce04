"""Variants of a loop, by name and settings, and what can't be varied."""

from datetime import timedelta
from typing import Any

import pytest

import upturn as up
from upturn.core.errors import Invalid
from upturn.improve.loop import Loop
from upturn.improve.rehearsing.vary import parse_changes
from upturn.improve.triggers import Drift, Drop, Either, Stale


class Trains:
    name = entry = "churn.py:churn"

    def run(self, **params: Any) -> Any:
        raise AssertionError("nothing is trained to vary a loop")


def make() -> Loop:
    return up.Loop(
        up.Endpoint("churn"),
        train=Trains(),
        when=up.stale("30d") | up.drift(psi=0.2) | up.drop("auc", 0.03),
        gate=up.beats("auc"),
        rollout=[up.shadow("1d"), up.canary(0.1, "2d"), up.full()],
        guard=[up.no_worse("log_loss", 0.02)],
    )


def test_every_combination_beside_the_loop_itself() -> None:
    found = up.vary(make(), {"when.psi": [0.1, 0.2, 0.4]}, window=["30d", "90d"])
    assert list(found) == [
        "loop",
        "psi=0.1 window=30d",
        "psi=0.1 window=90d",
        "psi=0.2 window=30d",  # with 90d it is the loop itself
        "psi=0.4 window=30d",
        "psi=0.4 window=90d",
    ]
    assert found.settings["psi=0.1 window=30d"] == {"when.psi": "0.1", "window": "30d"}
    one = found["psi=0.1 window=30d"]
    assert one.window == timedelta(days=30)
    assert one.when == up.stale("30d") | up.drift(psi=0.1) | up.drop("auc", 0.03)
    assert one.gate == make().gate
    assert found["loop"].when == make().when


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("when.psi", "0.5", lambda loop: loop.when.first.second.psi == 0.5),
        ("when.drift.psi", 0.5, lambda loop: loop.when.first.second.psi == 0.5),
        ("when.after", "9d", lambda loop: loop.when.first.first.after == timedelta(days=9)),
        ("when.drop.by", "0.1", lambda loop: loop.when.second.by == 0.1),
        ("gate.alpha", "0.01", lambda loop: loop.gate.alpha == 0.01),
        ("gate.by", -0.01, lambda loop: loop.gate.by == -0.01),
        ("rollout.share", "0.3", lambda loop: loop.rollout[1].share == 0.3),
        ("rollout.shadow.lasts", "5d", lambda loop: loop.rollout[0].lasts == timedelta(days=5)),
        ("min_rows", "900", lambda loop: loop.min_rows == 900),
        ("cooldown", "2d", lambda loop: loop.cooldown == timedelta(days=2)),
    ],
)
def test_what_a_path_reaches(path: str, value: Any, part: Any) -> None:
    loop = list(up.vary(make(), {path: [value]}).values())[-1]
    assert part(loop)
    assert part(loop) != part(make())


def test_whole_triggers_are_named_as_they_are_written() -> None:
    found = up.vary(make(), when=[up.drift(psi=0.1), up.stale("9d") | up.drop("auc", 0.1)])
    assert list(found)[1:] == [
        "when=drift(psi=0.1)",
        "when=stale(after=9d) | drop(metric=auc, by=0.1)",
    ]
    assert isinstance(found["when=drift(psi=0.1)"].when, Drift)
    last = list(found.values())[-1].when
    assert isinstance(last, Either)
    assert isinstance(last.first, Stale)
    assert isinstance(last.second, Drop)


@pytest.mark.parametrize(
    ("changes", "says", "hint"),
    [
        ({"when.psj": ["0.1"]}, "no 'when.psj' to vary", "when.drift.psi"),
        ({"gate.alfa": ["0.1"]}, "no 'gate.alfa' to vary", "gate.beats.alpha"),
        ({"windw": ["9d"]}, "no 'windw' to vary", "'window'"),
        ({"train": ["x"]}, "no 'train' to vary", ""),
        ({"window.days": ["9"]}, "window has no parts", "window=9"),
        ({"when.psi": ["much"]}, "'much' is no number", "It is 0.2 now."),
        ({"when.psi": ["nan"]}, "out of bounds", "It is 0.2 now."),
        ({"when.psi": ["-1"]}, "out of bounds", ""),
        ({"gate.alpha": ["1.5"]}, "out of bounds", ""),
        ({"min_rows": ["1.5"]}, "not whole", ""),
        ({"window": ["often"]}, "'often' is not a duration", ""),
        ({"when": ["drift"]}, "can't be given as text", "In Python"),
        ({"when.psi": []}, "give a list", ""),
        ({"when.psi": "0.1"}, "give a list", ""),
        ({"when.psi": ["0.1", "0.10"]}, "", ""),
        ({"when.psi": ["0.1", "0.1"]}, "both called 'psi=0.1'", ""),
        ({"when.psi": [n / 100 for n in range(1, 66)]}, "65 variants, more than 64", "fewer"),
    ],
)
def test_what_cannot_be_varied_says_why(changes: dict[str, Any], says: str, hint: str) -> None:
    if not says:
        assert len(up.vary(make(), changes)) == 3  # other texts, though one number
        return
    with pytest.raises(Invalid) as raised:
        up.vary(make(), changes)
    assert says in raised.value.message
    assert hint in raised.value.hint


def test_changes_as_they_are_written_on_a_command_line() -> None:
    found = parse_changes(["when.psi=0.1, 0.2", "window=90d", "when.psi=0.4"])
    assert found == {"when.psi": ["0.1", "0.2", "0.4"], "window": ["90d"]}
    for text in ("when.psi", "=3", "when.psi=", "when.psi=,"):
        with pytest.raises(Invalid, match="does not say what to try"):
            parse_changes([text])
