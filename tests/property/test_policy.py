"""What holds of a loop whatever the evidence: one candidate, no way round the gate, a way back."""

from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Problem
from upturn.core.records import Arm, Endpoint
from upturn.core.routing import check_arms
from upturn.core.time import instant
from upturn.improve.compare import Comparison
from upturn.improve.evidence import (
    ApprovalSeen,
    ColumnDrift,
    DriftSeen,
    Evidence,
    ExposureSeen,
    GateSeen,
    GuardSeen,
    LabelsSeen,
    PerformanceSeen,
    RouteSeen,
    Trained,
    TrainingFailed,
    UndoSeen,
    to_json,
)
from upturn.improve.limits import budget, quiet
from upturn.improve.loop import Loop
from upturn.improve.policy import decide, needs
from upturn.improve.rollout import Approving, Canary, approval, beats, canary, no_worse, shadow
from upturn.improve.state import (
    Gating,
    Idle,
    Rollout,
    State,
    Steady,
    arms,
    state_from_json,
    state_to_json,
)
from upturn.improve.triggers import drift, drop, stale
from upturn.improve.triggers import rows as rows_of
from upturn.improve.undo import can_be_undone

START = instant("2013-04-01")
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
    when=stale("30d") | drift(psi=0.2) | drop("auc", 0.03),
    gate=beats("auc"),
    rollout=[shadow("1d"), canary(0.05, "2d"), canary(0.5, "1d")],
    guard=[no_worse("log_loss", 0.02)],
    cooldown="3d",
)
STAGES = ["shadow", "canary", "canary"]
CAREFUL = Loop(
    Endpoint("delays"),
    train=Flow(),
    when=stale("30d") | drift(psi=0.2) | drop("auc", 0.03) | rows_of(1000),
    gate=beats("auc"),
    rollout=[shadow("1d"), approval(lasts="3d"), canary(0.05, "2d"), canary(0.5, "1d")],
    guard=[no_worse("log_loss", 0.02)],
    cooldown="1d",
    quiet=quiet("18:00-06:00", days="sun"),
    budget=budget(retrains="2/week", exposed="1000/week"),
)

ends = st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)).map(sorted)
rows = st.sampled_from([0, 50, 5000])


def comparison(metric: str, low: float, high: float) -> Comparison:
    return Comparison(
        metric=metric,
        champion=0.5,
        candidate=0.5 + (low + high) / 2,
        difference=(low + high) / 2,
        low=low,
        high=high,
        level=0.95,
        rows=900,
        blocks=14,
        method="test",
    )


class World:
    """Hypothesis plays the Log, the trainings and the people; the route does as the state says."""

    def __init__(self, data: st.DataObject, *, kind: bool = False) -> None:
        self.data = data
        self.kind = kind  # most things go well, so that a rollout gets far
        self.now = START
        self.newest = 1
        self.route = RouteSeen(revision=1, arms=(Arm(name="champion", version=1, share=1.0),))

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self.data.draw(strategy)

    def most(self, likely: Any, strategy: st.SearchStrategy[Any]) -> Any:
        """Nearly always the likely thing, in a world that is kind."""
        if self.kind and self.draw(st.integers(0, 5)) > 0:
            return likely
        return self.draw(strategy)

    def put(self, route: tuple[Arm, ...]) -> None:
        self.route = RouteSeen(revision=self.route.revision + 1, arms=route)

    def evidence(self, kinds: frozenset[str]) -> Evidence:
        found: dict[str, Any] = {"route": self.route}
        if self.draw(st.integers(0, 40 if self.kind else 9)) == 0:
            return Evidence(route=self.route, refused="no warm-up")
        if "version" in kinds and len(self.route.arms) == 1:
            found["training"] = Trained(
                version=self.route.arms[0].version,
                trained_until=self.draw(st.sampled_from([None, START])),
            )
        if "training" in kinds:
            found["training"] = self.most(
                "new", st.sampled_from(["fails", "same", "again", "new", "new"])
            )
            found["training"] = self.training(found["training"])
        if "drift" in kinds:
            column = ColumnDrift(
                column="hour", psi=self.draw(st.sampled_from([0.0, 0.5])), noise=0.1
            )
            found["drift"] = DriftSeen(
                since=self.now, until=self.now, rows=self.draw(rows), columns=(column,)
            )
        if "performance" in kinds:
            found["performance"] = PerformanceSeen(
                since=self.now,
                until=self.now,
                rows=5000,
                labelled=self.draw(rows),
                values={"auc": self.draw(st.sampled_from([0.6, 0.8]))},
            )
        if "gate" in kinds:
            found["gate"] = GateSeen(
                since=self.now,
                until=self.now,
                rows=5000,
                labelled=self.most(5000, rows),
                comparison=comparison("auc", *self.most((0.01, 0.05), ends)),
                values={"auc": 0.7},
            )
            found["gate"] = msgspec.structs.replace(
                found["gate"], newest=self.most(self.now, self.moments())
            )
        if "labels" in kinds:
            found["labels"] = LabelsSeen(
                since=START,
                until=self.now,
                labelled=self.draw(rows),
                newest=self.most(self.now, self.moments()),
            )
        if "exposure" in kinds:
            found["exposure"] = ExposureSeen(
                since=START,
                until=self.now,
                exposed=self.most(10, st.integers(0, 1100)),
                answered=500,
            )
        if "approval" in kinds:
            said = self.most(True, st.sampled_from([None, None, True, False]))
            found["approval"] = (
                None if said is None else ApprovalSeen(decision=1, approved=said, who="ada")
            )
        if "guards" in kinds:
            harm = self.most((-0.01, 0.01), ends)
            loss = comparison("log_loss", *harm) if self.most(True, st.booleans()) else None
            seen = GuardSeen(metric="log_loss", rows=self.most(5000, rows), comparison=loss)
            found["guards"] = (seen,)
        return Evidence(**found)

    def moments(self) -> st.SearchStrategy[Any]:
        """When the newest label became known: some time ago, or just now."""
        return st.sampled_from([START, self.now - DAY, self.now])

    def training(self, what: str) -> Trained | TrainingFailed:
        if what == "fails":
            return TrainingFailed(problem=Problem(code="step_failed", message="It broke."))
        if what == "again" and self.newest > 1:  # the same model, as a new version
            self.newest += 1
            return Trained(
                version=self.newest, trained_until=self.now, artifact=f"model {self.newest - 1}"
            )
        if what == "new":
            self.newest += 1
        return Trained(version=self.newest, trained_until=self.now, artifact=f"model {self.newest}")


def champion_of(state: State) -> int | None:
    return None if isinstance(state, Idle) else state.champion.version


def candidates(state: State) -> set[int]:
    return {arm.version for arm in arms(state)} - {champion_of(state)}


@given(st.data())
def test_a_loop_under_any_evidence(data: st.DataObject) -> None:
    world, state = World(data), Idle()
    passed: list[str] = []  # since the last time that there was no candidate
    for _ in range(data.draw(st.integers(1, 60))):
        if data.draw(st.integers(0, 14)) == 0:  # a person deploys something
            world.put((Arm(name="champion", version=world.newest, share=1.0),))
        evidence = world.evidence(needs(LOOP, state, world.now))
        ruling = decide(LOOP, state, evidence, world.now)

        # Stored and read again, the same three things give the same decision.
        stored = msgspec.json.decode(msgspec.json.encode([state_to_json(state), to_json(evidence)]))
        again = decide(
            LOOP, state_from_json(stored[0]), msgspec.convert(stored[1], Evidence), world.now
        )
        assert again == ruling

        before, after = champion_of(state), champion_of(ruling.state)
        assert len(candidates(ruling.state)) <= 1
        if ruling.action in ("shadow", "canary"):
            passed.append(ruling.action)
        if ruling.action == "promote":
            assert passed == STAGES
            assert isinstance(state, Rollout)
            assert after == state.candidate.version
        if ruling.action == "rollback":
            assert candidates(ruling.state) == set()
            assert isinstance(state, Rollout | Steady)
            back_to = state.champion if isinstance(state, Rollout) else state.previous
            assert ruling.state.champion == back_to
        if ruling.action not in ("promote", "rollback", "yield", "adopt"):
            assert after == before
        if not isinstance(ruling.state, Rollout):
            passed = []
        elif isinstance(state, Gating):
            assert evidence.gate is not None
            assert evidence.gate.comparison is not None
            assert evidence.gate.comparison.low > 0

        state = ruling.state
        wanted = arms(state)
        if wanted:
            check_arms(wanted)
            if wanted != world.route.arms and world.route.revision == state.seen:
                world.put(wanted)
        if ruling.rests:
            world.now += DAY * data.draw(st.sampled_from([0.5, 1, 4]))


def undo_of(action: str, before: State, now: Any) -> UndoSeen:
    return UndoSeen(
        decision=1,
        action=action,
        before=state_to_json(before),
        model="delays",
        who="ada",
        quiet_until=now + DAY,
    )


def replayed(loop: Loop, state: State, evidence: Evidence, world: World) -> Any:
    stored = msgspec.json.decode(msgspec.json.encode([state_to_json(state), to_json(evidence)]))
    return decide(loop, state_from_json(stored[0]), msgspec.convert(stored[1], Evidence), world.now)


class Promises:
    """What a careful loop never does, checked decision by decision."""

    def __init__(self) -> None:
        self.retrains: list[Any] = []
        self.refused: dict[str, Any] = {}  # the model, and when it came to nothing
        self.approved = False

    def taken_back(self, was: str, state: State, ruling: Any, now: Any) -> None:
        """One that was ended is tried again from its stage's start; any other is rolled back."""
        after = ruling.state
        if was in ("rollback", "refuse"):
            assert isinstance(after, Rollout)
            assert after.since == now
            self.refused.pop(after.candidate.artifact, None)
            self.approved = not isinstance(after.stage, Approving)  # that question is asked anew
            return
        assert candidates(after) == set()
        if isinstance(state, Gating | Rollout):
            self.refused[state.candidate.artifact] = now
        elif isinstance(state, Steady) and state.previous is not None:
            self.refused[state.champion.artifact] = now

    def kept(self, state: State, evidence: Evidence, ruling: Any, now: Any) -> None:
        """In a quiet time the only change is away from a candidate; and so on."""
        action, after = ruling.action, ruling.state
        if CAREFUL.quiet_until(now) and candidates(after) != candidates(state):
            assert candidates(after) == set()
            assert action in ("rollback", "refuse", "yield")
        if action == "retrain":
            self.trained(evidence, now)
        if action == "ask":
            self.approved = False
        answer = evidence.approval
        self.approved = self.approved or (answer is not None and answer.approved)
        if action in ("canary", "promote"):  # none without a yes
            assert self.approved
        if action in ("refuse", "rollback") and isinstance(state, Gating | Rollout):
            self.refused[state.candidate.artifact] = now
            assert after.memory.refused[-1].version == state.candidate.version

    def trained(self, evidence: Evidence, now: Any) -> None:
        """Never more than the budget allows, or on evidence on which another came to nothing."""
        self.retrains.append(now)
        assert sum(at > now - 7 * DAY for at in self.retrains) <= 2
        newest = evidence.labels.newest if evidence.labels else None
        assert not self.refused or (newest and newest > max(self.refused.values()))

    def holds(self, state: State, evidence: Evidence) -> None:
        """What came to nothing never sees a request again; nor does one beyond the budget."""
        if isinstance(state, Gating | Rollout):
            assert state.candidate.artifact not in self.refused
        if isinstance(state, Rollout) and evidence.exposure and evidence.exposure.exposed >= 1000:
            assert not isinstance(state.trial, Canary)


@given(st.data())
def test_a_careful_loop_under_any_evidence(data: st.DataObject) -> None:
    world, state, promises = World(data, kind=True), Idle(), Promises()
    action, before = "", state
    for _ in range(data.draw(st.integers(1, 80))):
        takes_back = data.draw(st.integers(0, 12)) == 0 and can_be_undone(action, before)
        if takes_back:  # a person takes the last decision back
            evidence = Evidence(route=world.route, undo=undo_of(action, before, world.now))
        else:
            evidence = world.evidence(needs(CAREFUL, state, world.now))
        ruling = decide(CAREFUL, state, evidence, world.now)
        assert replayed(CAREFUL, state, evidence, world) == ruling
        if takes_back:
            promises.taken_back(action, state, ruling, world.now)
        else:
            promises.kept(state, evidence, ruling, world.now)
        promises.holds(ruling.state, evidence)

        action, before, state = ruling.action, state, ruling.state
        wanted = arms(state)
        if wanted and wanted != world.route.arms and world.route.revision == state.seen:
            world.put(wanted)
        if ruling.rests:
            world.now += DAY * data.draw(st.sampled_from([0.25, 0.5, 1, 4]))


@given(st.data())
def test_a_loop_always_comes_to_rest(data: st.DataObject) -> None:
    world, state = World(data), Idle()
    for _ in range(8):
        ruling = decide(LOOP, state, world.evidence(needs(LOOP, state, world.now)), world.now)
        state = ruling.state
        if arms(state) and arms(state) != world.route.arms:
            world.put(arms(state))
        if ruling.rests:
            return
    raise AssertionError(f"it never rests: {state}")
