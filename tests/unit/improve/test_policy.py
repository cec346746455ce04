"""The policy, transition by transition: what a loop does next, and the state that it leaves."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from upturn.core.errors import Invalid, Problem
from upturn.core.records import Arm, Endpoint
from upturn.core.time import instant
from upturn.improve.compare import Comparison
from upturn.improve.evidence import (
    ColumnDrift,
    DriftSeen,
    Evidence,
    GateSeen,
    GuardSeen,
    PerformanceSeen,
    RouteSeen,
    Trained,
    TrainingFailed,
    to_json,
)
from upturn.improve.loop import Loop
from upturn.improve.policy import Ruling, decide, needs
from upturn.improve.rollout import beats, canary, full, no_worse, shadow
from upturn.improve.state import (
    Candidate,
    Champion,
    Gating,
    Idle,
    Rollout,
    State,
    Steady,
    Training,
    arms,
    state_from_json,
    state_to_json,
)
from upturn.improve.triggers import drift, drop, stale

NOW = instant("2013-05-01")
DAY = timedelta(days=1)


class Flow:
    """Stands for a flow; the policy never runs it."""

    name = "delays"
    entry = "flights.py:delays"

    def run(self, **params: Any) -> Any:
        raise AssertionError("the policy is pure")


LOOP = Loop(
    Endpoint("delays"),
    train=Flow(),
    window="90d",
    when=stale("30d") | drift(psi=0.2) | drop("auc", 0.03),
    gate=beats("auc", by=0.0),
    rollout=[shadow("1d"), canary(0.05, "1d"), full()],
    guard=[no_worse("log_loss", 0.02), no_worse("latency_p99", 0.2)],
)
CHAMPION = Champion(
    version=1, since=NOW - 9 * DAY, trained_until=NOW - 10 * DAY, reference={"auc": 0.80}
)
CANDIDATE = Candidate(version=2, trained_until=NOW - 14 * DAY)
STEADY = Steady(champion=CHAMPION, seen=1)
COOLING = Steady(champion=CHAMPION, seen=1, quiet_until=NOW + DAY)
OLD = Steady(
    champion=msgspec.structs.replace(CHAMPION, trained_until=NOW - 30 * DAY, reference={}), seen=1
)
PROMOTED = Steady(champion=Champion(version=2, since=NOW), previous=CHAMPION, seen=1)
TRAINING = Training(
    champion=CHAMPION, since=NOW, start=NOW - 104 * DAY, until=NOW - 14 * DAY, seen=1
)
GATING = Gating(champion=CHAMPION, candidate=CANDIDATE, since=NOW, seen=1)


def in_shadow(*, days: float, extended: int = 0) -> Rollout:
    return Rollout(
        champion=CHAMPION,
        candidate=CANDIDATE,
        index=0,
        stage=shadow("1d"),
        since=NOW - days * DAY,
        extended=extended,
        seen=1,
    )


def in_canary(*, days: float, extended: int = 0) -> Rollout:
    return msgspec.structs.replace(
        in_shadow(days=days, extended=extended), index=1, stage=canary(0.05, "1d")
    )


def compared(metric: str, low: float, high: float, *, champion: float = 0.5) -> Comparison:
    difference = (low + high) / 2
    return Comparison(
        metric=metric,
        champion=champion,
        candidate=champion + difference,
        difference=difference,
        low=low,
        high=high,
        level=0.95,
        rows=1000,
        blocks=14,
        method="test",
    )


def gate(low: float, high: float, *, labelled: int = 9000) -> GateSeen:
    return GateSeen(
        since=NOW - 14 * DAY,
        until=NOW,
        rows=9500,
        labelled=labelled,
        comparison=compared("auc", low, high, champion=0.75),
        values={"auc": 0.76},
    )


def guards(
    loss: tuple[float, float] = (-0.01, 0.01),
    latency: tuple[float, float] = (-0.05, 0.05),
    *,
    rows: int = 500,
) -> tuple[GuardSeen, ...]:
    return (
        GuardSeen(metric="log_loss", rows=rows, comparison=compared("log_loss", *loss)),
        GuardSeen(metric="latency_p99", rows=rows, comparison=compared("latency_p99", *latency)),
    )


def champion_seen(auc: float, *, labelled: int = 2000) -> PerformanceSeen:
    return PerformanceSeen(
        since=NOW - 28 * DAY, until=NOW, rows=2500, labelled=labelled, values={"auc": auc}
    )


def drifted(psi: float, noise: float = 0.01, rows: int = 2500) -> DriftSeen:
    columns = (
        ColumnDrift(column="hour", psi=psi, noise=noise),
        ColumnDrift(column="wind", psi=0.02, noise=0.01),
    )
    return DriftSeen(since=NOW - 28 * DAY, until=NOW, rows=rows, columns=columns)


ONE = RouteSeen(revision=1, arms=(Arm(name="champion", version=1, share=1.0),))
BY_HAND = RouteSeen(revision=2, arms=(Arm(name="champion", version=9, share=1.0),))
TWO_ARMS = RouteSeen(
    revision=2,
    arms=(Arm(name="a", version=1, share=0.5), Arm(name="b", version=2, share=0.5)),
)
CANARY_ROUTE = RouteSeen(revision=2, arms=canary(0.05, "1d").arms(1, 2))
FAILED = TrainingFailed(problem=Problem(code="step_failed", message="It broke."), run="k3f9x2")
TRAINED = Trained(version=2, trained_until=NOW - 14 * DAY, metrics={"auc": 0.77})


@dataclass(frozen=True)
class Case:
    """From a state, with that evidence: the action, the next phase, and some of the words."""

    state: State
    evidence: dict[str, Any]
    action: str
    phase: type
    says: str = ""
    loop: Loop = field(default=LOOP)


NO_GATE = Loop(Endpoint("delays"), train=Flow(), when=stale("30d"))
CASES = {
    "nobody answers yet": Case(Idle(), {"route": RouteSeen()}, "wait", Idle, "Nobody answers"),
    "a version was deployed": Case(
        Idle(),
        {"training": Trained(version=1, trained_until=NOW - 3 * DAY, metrics={"auc": 0.8})},
        "adopt",
        Steady,
        "delays:1 answers for 'delays', trained on data until 2013-04-28",
    ),
    "an experiment by hand is left alone": Case(
        Idle(), {"route": TWO_ARMS}, "wait", Idle, "2 arms that the loop did not make"
    ),
    "a person changed the route": Case(STEADY, {"route": BY_HAND}, "yield", Idle, "not the loop's"),
    "a person changed it in a rollout": Case(
        in_canary(days=0.5), {"route": BY_HAND, "guards": guards()}, "yield", Idle, "delays:9"
    ),
    "a later revision that is our own": Case(
        in_canary(days=0.5), {"route": CANARY_ROUTE, "guards": guards()}, "watch", Rollout
    ),
    "nothing happens": Case(
        STEADY,
        {"drift": drifted(0.05), "performance": champion_seen(0.79)},
        "keep",
        Steady,
        "no column has drifted",
    ),
    "noise is no drift": Case(STEADY, {"drift": drifted(0.25, noise=0.1)}, "keep", Steady),
    "drift": Case(STEADY, {"drift": drifted(0.25)}, "retrain", Training, "'hour' drifted"),
    "drift of too few rows": Case(STEADY, {"drift": drifted(2.0, rows=100)}, "keep", Steady),
    "drop": Case(
        STEADY, {"performance": champion_seen(0.765)}, "retrain", Training, "auc is 0.7650 on 2,000"
    ),
    "drop on too few labels": Case(
        STEADY, {"performance": champion_seen(0.5, labelled=10)}, "keep", Steady, "too few"
    ),
    "stale": Case(OLD, {}, "retrain", Training, "training data ends 30d ago"),
    "cooling down": Case(
        COOLING, {"drift": drifted(2.0)}, "keep", Steady, "Cooling down until 2013-05-02"
    ),
    "the server is out of reach": Case(
        STEADY, {"refused": "It does not answer"}, "wait", Steady, "does not take the route"
    ),
    "training goes on": Case(TRAINING, {}, "wait", Training),
    "training failed": Case(
        TRAINING,
        {"training": FAILED},
        "failed",
        Steady,
        "It broke. Resume it with: upturn resume k3f9x2",
    ),
    "trained": Case(TRAINING, {"training": TRAINED}, "judge", Gating, "until 2013-04-17"),
    "trained the same again": Case(
        TRAINING, {"training": Trained(version=1, trained_until=None)}, "refuse", Steady, "again"
    ),
    "gate passed": Case(
        GATING, {"gate": gate(0.001, 0.02)}, "shadow", Rollout, "better by +0.0105 [+0.0010"
    ),
    "not shown to be better": Case(
        GATING, {"gate": gate(-0.001, 0.02)}, "refuse", Steady, "does not show it to be better"
    ),
    "exactly as good": Case(GATING, {"gate": gate(0.0, 0.02)}, "refuse", Steady),
    "too few rows for the gate": Case(
        GATING, {"gate": gate(0.1, 0.2, labelled=50)}, "wait", Gating, "50 labelled rows"
    ),
    "too few rows for long": Case(
        msgspec.structs.replace(GATING, since=NOW - 14 * DAY),
        {"gate": gate(0.1, 0.2, labelled=50)},
        "refuse",
        Steady,
    ),
    "a gate that can't judge": Case(
        GATING,
        {
            "gate": GateSeen(
                since=NOW - DAY,
                until=NOW,
                rows=900,
                labelled=900,
                note="no 'wind'",
                impossible=True,
            )
        },
        "refuse",
        Steady,
        "can't judge delays:2: no 'wind'",
    ),
    "no gate and no stages": Case(GATING, {}, "promote", Steady, "no gate", NO_GATE),
    "the shadow goes on": Case(
        in_shadow(days=0.5), {"guards": guards()}, "watch", Rollout, "until 2013-05-01 12:00"
    ),
    "the shadow came through": Case(
        in_shadow(days=1), {"guards": guards()}, "canary", Rollout, "shown to be no worse"
    ),
    "not shown either way": Case(
        in_shadow(days=1),
        {"guards": guards(loss=(-0.01, 0.03))},
        "canary",
        Rollout,
        "not shown to be worse, nor shown to be no worse",
    ),
    "harm": Case(
        in_shadow(days=0.5),
        {"guards": guards(loss=(0.021, 0.05))},
        "rollback",
        Steady,
        "does harm to log_loss",
    ),
    "harm within the margin": Case(
        in_shadow(days=1), {"guards": guards(loss=(0.005, 0.019))}, "canary", Rollout
    ),
    "slower": Case(
        in_canary(days=0.5),
        {"guards": guards(latency=(0.21, 0.5))},
        "rollback",
        Steady,
        "latency_p99",
    ),
    "too few rows at the end": Case(
        in_canary(days=1), {"guards": guards(rows=60)}, "extend", Rollout, "too few rows"
    ),
    "the extension goes on": Case(
        in_canary(days=1.5, extended=1), {"guards": guards(rows=60)}, "watch", Rollout
    ),
    "extended often enough": Case(
        in_canary(days=4, extended=3),
        {"guards": guards(rows=60)},
        "rollback",
        Steady,
        "for 4d: still too few",
    ),
    "nothing to guard by": Case(in_canary(days=1), {}, "extend", Rollout, "can't be compared yet"),
    "no latency bound from a small canary": Case(
        in_canary(days=1),
        {"guards": (guards()[0], GuardSeen(metric="latency_p99", rows=120))},
        "promote",
        Steady,
    ),
    "no latencies at all": Case(
        in_canary(days=1),
        {"guards": (guards()[0], GuardSeen(metric="latency_p99", rows=0, exempt="none here"))},
        "promote",
        Steady,
        "not guarded: none here",
    ),
    "the canary came through": Case(
        in_canary(days=1), {"guards": guards()}, "promote", Steady, "becomes the champion"
    ),
    "a server that refuses the candidate": Case(
        in_canary(days=0), {"refused": "no warm-up"}, "rollback", Steady, "no warm-up"
    ),
    "a server that refuses the promotion": Case(
        PROMOTED, {"refused": "no warm-up"}, "rollback", Steady, "delays:2"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_transition(case: Case) -> None:
    evidence = Evidence(**{"route": ONE, **case.evidence})
    ruling = decide(case.loop, case.state, evidence, NOW)
    assert (ruling.action, type(ruling.state)) == (case.action, case.phase), ruling.why
    assert case.says in ruling.why
    assert ruling.state.seen == evidence.route.revision
    again = msgspec.convert(to_json(evidence), Evidence)
    assert again == evidence
    assert state_from_json(state_to_json(ruling.state)) == ruling.state
    assert decide(case.loop, state_from_json(state_to_json(case.state)), again, NOW) == ruling


def next_state(state: State, **evidence: Any) -> Any:
    return decide(LOOP, state, Evidence(**{"route": ONE, **evidence}), NOW).state


def test_a_training_leaves_the_gate_its_rows() -> None:
    training = next_state(OLD)
    assert (training.start, training.until) == (NOW - 104 * DAY, NOW - 14 * DAY)


def test_a_candidate_that_came_to_nothing_gives_some_days_of_quiet() -> None:
    failed = next_state(TRAINING, training=FAILED)
    refused = next_state(GATING, gate=gate(-1, 1))
    for state, takes in ((failed, set[str]()), (refused, {"labels"})):
        assert state.quiet_until == NOW + 7 * DAY
        assert needs(LOOP, state, NOW) == frozenset()
        assert needs(LOOP, state, NOW + 7 * DAY) == {"drift", "performance"} | takes


def test_a_champion_without_a_reference_gets_one_from_what_it_shows_first() -> None:
    unknown = msgspec.structs.replace(STEADY, champion=Champion(version=1, since=NOW - 14 * DAY))
    early = msgspec.structs.replace(STEADY, champion=Champion(version=1, since=NOW - 13 * DAY))
    assert next_state(early, performance=champion_seen(0.7)).champion.reference == {}
    few = next_state(unknown, performance=champion_seen(0.7, labelled=10))
    assert few.champion.reference == {}
    assert next_state(unknown, performance=champion_seen(0.7)).champion.reference == {"auc": 0.7}
    kept = next_state(STEADY, performance=champion_seen(0.79))
    assert kept.champion.reference == {"auc": 0.80}


def test_a_promoted_candidate_is_held_to_what_it_showed_at_the_gate() -> None:
    rollout = next_state(GATING, gate=gate(0.001, 0.02))
    assert rollout.candidate.reference == {"auc": 0.76}
    last = msgspec.structs.replace(
        in_canary(days=1), candidate=rollout.candidate, champion=rollout.champion
    )
    promoted = next_state(last, guards=guards())
    assert promoted.champion.reference == {"auc": 0.76}
    assert (promoted.champion.version, promoted.previous) == (2, CHAMPION)


def test_the_route_of_a_state() -> None:
    assert arms(Idle()) == ()
    assert arms(GATING) == (Arm(name="champion", version=1, share=1.0),)
    assert [(arm.version, arm.share, arm.shadow) for arm in arms(in_shadow(days=0))] == [
        (1, 1.0, False),
        (2, 0.0, True),
    ]
    assert [(arm.version, arm.share) for arm in arms(in_canary(days=0))] == [(1, 0.95), (2, 0.05)]


def test_a_steady_loop_asks_for_what_its_triggers_take() -> None:
    assert needs(LOOP, STEADY, NOW) == {"drift", "performance"}
    assert needs(NO_GATE, STEADY, NOW) == frozenset()
    assert needs(LOOP, GATING, NOW) == {"gate"}


def test_triggers_compose() -> None:
    both = Loop(Endpoint("delays"), train=Flow(), when=stale("5d") & drop("auc", 0.03))
    evidence = Evidence(route=ONE, performance=champion_seen(0.79))
    ruling: Ruling = decide(both, STEADY, evidence, NOW)
    assert (ruling.action, "not worse by 0.03" in ruling.why) == ("keep", True)
    evidence = Evidence(route=ONE, performance=champion_seen(0.70))
    assert decide(both, STEADY, evidence, NOW).action == "retrain"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: drop("acu", 0.1), "Did you mean 'auc'?"),
        (lambda: drop("auc", -0.1), "a drop is positive"),
        (lambda: drift(psi=0), "is positive"),
        (lambda: beats("auc", alpha=2), "not a level"),
        (lambda: no_worse("latency_p98", 0.1), "no metric 'latency_p98'"),
        (lambda: canary(5, "1d"), "Write 0.05 for 5 %"),
        (lambda: shadow("0d"), "no length"),
        (
            lambda: Loop(Endpoint("d"), train=Flow(), when=stale("30d"), rollout=[full(), full()]),
            "last",
        ),
        (lambda: Loop(Endpoint("d"), train=Flow(), when="30d"), "not a trigger"),
        (lambda: Loop("delays", train=Flow(), when=stale("30d")), "up.Endpoint('delays')"),
        (lambda: Loop(Endpoint("d"), train=print, when=stale("30d")), "not a flow"),
    ],
)
def test_what_cannot_be_a_loop_says_so(make: Any, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    assert says in str(caught.value)
