"""Loops in full: approvals, budgets, quiet times, parts of the rows, undoing and recomputing."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from unit.improve.loop_world import CHANGE, DAY, past
from unit.improve.test_runner import Served
from upturn.core.errors import Conflict, Invalid
from upturn.core.records import Alert, Approval, Decision, Version
from upturn.core.time import instant
from upturn.improve.evidence import Evidence
from upturn.improve.explain import explain
from upturn.improve.limits import budget, quiet
from upturn.improve.log import MemoryLog
from upturn.improve.outlook import outlook
from upturn.improve.recompute import Recomputed, recompute
from upturn.improve.rollout import approval, beats, canary, no_worse, shadow
from upturn.improve.runner import (
    asked,
    next_tick,
    present_state,
    replay,
    run_forever,
    tick,
    undo,
)
from upturn.improve.state import Rollout, Steady, state_to_json
from upturn.improve.triggers import alarm, stale
from upturn.stores.workspace import Workspace, open_workspace

NOW = CHANGE + 12 * DAY
HOUR = timedelta(hours=1)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def step(served: Served, now: datetime) -> list[str]:
    served.answer(now)
    return served.tick(now)


def last(served: Served) -> Decision:
    return served.workspace.meta.get(Decision, "delays")


def say(served: Served, *, approved: bool, who: str = "ada") -> None:
    store = served.workspace.meta
    number = asked(store, "delays", present_state(store, "delays"))
    store.add(
        Approval(loop="delays", decision=number, approved=approved, who=who, why="seen it", at=NOW)
    )


def take_back(served: Served, seq: int | None = None) -> Decision:
    return undo(
        served.workspace.meta,
        served.actions,
        "delays",
        seq,
        who="ada",
        why="a complaint",
        now=NOW + 3 * DAY,
        cooldown=7 * DAY,
    )


ASKING = [shadow("1d"), approval(lasts="5d"), canary(0.5, "1d", min_rows=30)]


def test_a_rollout_waits_for_a_person_in_the_stage_before(workspace: Workspace) -> None:
    served = Served(workspace, rollout=ASKING)
    assert step(served, NOW)[-1] == "shadow"
    assert step(served, NOW + DAY) == ["ask"]
    assert served.arms() == [(1, 1.0, False), (2, 0.0, True)]
    assert step(served, NOW + 2 * DAY) == ["watch"]
    assert "upturn decisions approve delays" in last(served).why
    guards = Evidence(guards=msgspec.convert(last(served).evidence, Evidence).guards).guards
    assert guards[0].rows > 200  # of both days: the guard goes on looking at the shadow

    say(served, approved=True)
    assert step(served, NOW + 3 * DAY) == ["canary"]
    assert last(served).why.startswith("ada approved delays:2: seen it.")
    assert step(served, NOW + 4 * DAY) == ["promote"]
    assert served.arms() == [(2, 1.0, False)]


@pytest.mark.parametrize(
    ("approved", "says"), [(False, "ada rejected delays:2"), (None, "Nobody approved delays:2")]
)
def test_without_a_yes_the_candidate_is_refused(
    workspace: Workspace, approved: bool | None, says: str
) -> None:
    served = Served(workspace, rollout=ASKING)
    step(served, NOW)
    step(served, NOW + DAY)
    if approved is not None:
        say(served, approved=approved)
    assert step(served, NOW + 6 * DAY) == ["refuse"]
    assert says in last(served).why
    assert served.arms() == [(1, 1.0, False)]
    assert present_state(workspace.meta, "delays").memory.refused[0].version == 2


def test_an_approval_may_come_first_and_the_champion_answers_alone(workspace: Workspace) -> None:
    served = Served(workspace, rollout=[approval(), canary(0.5, "1d", min_rows=30)])
    assert step(served, NOW)[-1] == "ask"
    assert served.arms() == [(1, 1.0, False)]
    say(served, approved=True)
    assert step(served, NOW + DAY) == ["canary"]


def test_no_candidate_comes_up_in_a_quiet_time(workspace: Workspace) -> None:
    served = Served(workspace, quiet=quiet("00:00-06:00"))
    assert step(served, NOW) == ["adopt", "retrain", "judge", "hold"]
    assert served.arms() == [(1, 1.0, False)]
    assert "gate" not in last(served).evidence
    assert step(served, NOW + 7 * HOUR) == ["shadow"]
    assert step(served, NOW + DAY + HOUR) == ["watch"]
    assert step(served, NOW + 2 * DAY) == ["hold"]  # over, at midnight
    assert "Quiet until 2013-02-19 06:00" in last(served).why
    assert served.arms() == [(1, 1.0, False), (2, 0.0, True)]
    assert step(served, NOW + 2 * DAY + 6 * HOUR) == ["canary"]


def test_trainings_are_as_many_as_the_budget_allows(workspace: Workspace) -> None:
    served = Served(
        workspace,
        gate=beats("auc", by=0.9),
        when=stale("1d"),
        cooldown="0d",
        budget=budget(retrains="2/week"),
    )
    served.answer(NOW + 5 * DAY)
    made = [served.tick(NOW + day * DAY) for day in range(5)]
    assert [actions.count("retrain") for actions in made] == [1, 1, 0, 0, 0]
    assert "of trainings 2 in 7d are allowed, and spent until 2013-02-24" in last(served).why


def test_a_canary_that_the_budget_has_no_room_for(workspace: Workspace) -> None:
    served = Served(workspace, budget=budget(exposed="20/week"))
    assert step(served, NOW)[-1] == "refuse"
    assert "its canaries would answer about 74 requests" in last(served).why

    served.loop = Served(workspace, deploy=False, budget=budget(exposed="100/week")).loop
    for day in range(4, 8):
        actions = step(served, NOW + day * DAY)
        if "canary" in actions:
            break
    state = present_state(workspace.meta, "delays")
    assert isinstance(state, Rollout)
    served.loop = Served(workspace, deploy=False, budget=budget(exposed="40/week")).loop
    assert step(served, NOW + (day + 1) * DAY) == ["rollback"]
    assert "as many requests as are allowed" in last(served).why


def test_nothing_is_tried_twice_on_the_same_evidence(workspace: Workspace) -> None:
    served = Served(workspace, gate=beats("auc", by=0.9), when=stale("1d"))
    assert step(served, NOW) == ["adopt", "retrain", "judge", "refuse"]
    # Labels were still on their way. After them there is no request and no label any more: what is
    # trained again could only be judged on the same rows.
    assert served.tick(NOW + 3 * DAY) == ["retrain", "judge", "refuse"]
    for days in (6, 9, 30):
        assert served.tick(NOW + days * DAY) == ["keep"]
        assert "on the same evidence nothing is tried again" in last(served).why
    served.answer(NOW + 10 * DAY)
    assert "retrain" in served.tick(NOW + 10 * DAY)


class Same(Served):
    """Whose flow registers the same model again and again, as a new version."""

    def __init__(self, workspace: Workspace, **changes: Any) -> None:
        super().__init__(workspace, **changes)
        trains, first = self.flow.run, workspace.meta.get(Version, "delays", 1)

        def again(start: datetime, end: datetime) -> Any:
            handle = trains(start, end)
            if len(self.flow.ran) > 2:
                refused = workspace.meta.get(Version, "delays", 2)
                made = msgspec.structs.replace(handle.result(), artifact=refused.artifact)
                handle._result = made
            return handle

        assert first.number == 1
        self.flow.run = again  # type: ignore[method-assign]


def test_the_same_model_under_another_number_is_refused_at_once(workspace: Workspace) -> None:
    served = Same(workspace, gate=beats("auc", by=0.9), when=stale("1d"))
    assert step(served, NOW) == ["adopt", "retrain", "judge", "refuse"]
    assert step(served, NOW + 4 * DAY) == ["retrain", "refuse"]
    assert "delays:2 again, which came to nothing" in last(served).why
    assert "gate" not in last(served).evidence


def test_a_gate_names_the_part_that_got_worse(workspace: Workspace) -> None:
    """The champion knows `a`, the candidate `b`; where a decides, the candidate is worse."""
    served = Served(workspace, gate=beats("auc", slices="a", min_slice_rows=100))
    assert step(served, NOW)[-1] == "shadow"
    found = msgspec.convert(last(served).evidence, Evidence).gate
    assert found is not None
    names = [one.name for one in found.slices[0]]
    assert len(names) == 4
    assert all(name.startswith("a=") for name in names)
    assert all(one.p_harm is not None and one.p_harm > 0.5 for one in found.slices[0])
    assert "Its parts by a: 4 could be judged" in last(served).why


def test_a_loop_whose_ticks_fall_into_quiet_times_wakes_at_their_end(workspace: Workspace) -> None:
    served = Served(workspace, quiet=quiet("22:00-06:00"))
    served.answer(NOW)
    made = tick(served.loop, served.log, served.actions, workspace.meta, NOW)
    assert made[-1].action == "hold"
    assert next_tick(served.loop, NOW, made) == NOW + 6 * HOUR
    made = tick(served.loop, served.log, served.actions, workspace.meta, NOW + 6 * HOUR)
    assert made[-1].action == "shadow"
    assert next_tick(served.loop, NOW + 6 * HOUR, made) == NOW + 30 * HOUR


def test_an_answer_brings_the_next_tick_forward(workspace: Workspace) -> None:
    served = Served(workspace, gate=None, rollout=[approval(), canary(0.5, "1d", min_rows=30)])
    served.answer(NOW)
    now, heard = NOW, list[str]()

    def wait(seconds: float) -> None:
        nonlocal now
        now += timedelta(seconds=seconds)
        if heard[-1] == "canary":
            raise KeyboardInterrupt
        if now == NOW + timedelta(seconds=30):
            say(served, approved=True)

    with pytest.raises(KeyboardInterrupt):
        run_forever(
            served.loop,
            served.log,
            served.actions,
            workspace.meta,
            heard=lambda decision: heard.append(decision.action),
            clock=lambda: now,
            wait=wait,
        )
    assert heard == ["adopt", "retrain", "judge", "ask", "canary"]
    assert last(served).at == NOW + timedelta(seconds=30)


def grouped() -> pa.Table:
    """The world's rows, of which those of the group `old` go on to follow `a`."""
    table, random = past(), np.random.default_rng(5)
    old = random.random(table.num_rows) < 0.3
    a = np.asarray(table["a"])
    late = random.random(table.num_rows) < 1 / (1 + np.exp(1 - 2 * a))
    label = np.where(old, late, np.asarray(table["label"]))
    table = table.set_column(2, "label", pa.array(label))
    return table.append_column("group", pa.array(np.where(old, "old", "new")))


def test_a_candidate_that_harms_one_part_is_refused_by_name(workspace: Workspace) -> None:
    gate = beats("auc", slices="group", no_worse_by=0.02, min_slice_rows=100)
    served = Served(workspace, table=grouped(), gate=gate)
    assert step(served, CHANGE + 30 * DAY)[-1] == "refuse", last(served).why
    why = last(served).why
    assert "better by +" in why
    assert "For group=old (" in why
    assert "shown to be worse by more than 0.02." in why
    assert "group=new (" not in why
    assert last(served).otherwise == "No harm shown for group=old."

    plain = Served(workspace, table=grouped(), deploy=False).loop
    other = msgspec.structs.replace(gate, slices=None)
    assert plain.gate == beats("auc")
    assert other == plain.gate  # without its parts that gate would have let it pass
    found = msgspec.convert(last(served).evidence, Evidence).gate
    assert found is not None
    assert found.comparison is not None
    assert other.passed(found.comparison)


def test_a_part_that_the_log_does_not_have(workspace: Workspace) -> None:
    served = Served(workspace, gate=beats("auc", slices="origin"))
    assert step(served, NOW)[-1] == "refuse"
    assert "the Log has no 'origin' to judge parts by" in last(served).why


def test_an_alarm_of_a_monitor_is_a_reason_to_train(workspace: Workspace) -> None:
    served = Served(workspace, when=alarm("drift/*") & ~alarm("quality/*"), cooldown="0d")
    served.answer(CHANGE)
    assert served.tick(CHANGE) == ["adopt", "keep"]
    assert "nobody watches for 'drift/*'" in last(served).why.lower()

    def raises(name: str, status: Any) -> None:
        workspace.meta.add(
            Alert(
                endpoint="delays",
                name=name,
                status=status,
                says=f"{name} is {status}.",
                began_at=CHANGE,
                at=CHANGE,
            )
        )

    raises("quality/a/missing", "raised")
    raises("drift/a", "raised")
    assert served.tick(CHANGE + HOUR) == ["keep"]
    assert "the alarm 'quality/a/missing': quality/a/missing is raised" in last(served).why.lower()
    raises("quality/a/missing", "over")
    assert served.tick(CHANGE + 2 * HOUR)[0] == "retrain"
    evidence = workspace.meta.select(Decision, loop="delays", action="retrain")[0].evidence
    assert evidence["alarms"]["going_on"] == {"drift/a": "drift/a is raised."}


def test_a_candidate_that_fails_requests_is_rolled_back(workspace: Workspace) -> None:
    served = Served(workspace, guard=[no_worse("error_rate", 0.01)])
    assert step(served, NOW)[-1] == "shadow"
    served.answer(NOW + 6 * HOUR)
    assert served.tick(NOW + 6 * HOUR) == ["watch"]
    assert "error_rate better by +0.00%" in last(served).why
    failed = pa.table(
        {
            "id": [f"failed {number}" for number in range(40)],
            "at": pa.array([NOW + HOUR] * 40, pa.timestamp("us", "UTC")),
            "arm": ["candidate"] * 40,
            "version": pa.array([2] * 40, pa.int32()),
            "shadow": [True] * 40,
            "error": ["No such column."] * 40,
        }
    )
    served.log.append(failed)
    assert served.tick(NOW + 7 * HOUR) == ["rollback"]
    assert "delays:2 does harm to error_rate" in last(served).why
    assert "margin 1%: shown to be worse." in last(served).why


def test_a_gate_of_several_metrics(workspace: Workspace) -> None:
    both = beats("auc") & no_worse("log_loss", 0.0)
    served = Served(workspace, gate=both)
    assert step(served, NOW)[-1] == "shadow"
    assert "log_loss" in last(served).why
    found = msgspec.convert(last(served).evidence, Evidence).gate
    assert found is not None
    assert [one.metric for one in found.comparisons] == ["auc", "log_loss"]


def promoted(workspace: Workspace) -> Served:
    served = Served(workspace)
    for day in range(3):
        step(served, NOW + day * DAY)
    assert last(served).action == "promote"
    return served


def test_a_promotion_is_taken_back(workspace: Workspace) -> None:
    served = promoted(workspace)
    made = take_back(served)
    assert made.action == "undo"
    assert made.why == (
        "ada took decision 6 (promote) back: a complaint. delays:2 counts as rolled back."
        " delays:1 answers alone."
    )
    assert served.arms() == [(1, 1.0, False)]
    state = present_state(workspace.meta, "delays")
    assert isinstance(state, Steady)
    assert [one.version for one in state.memory.refused] == [2]
    assert step(served, NOW + 4 * DAY) == ["keep"]
    with pytest.raises(Invalid, match="is itself one that took another back"):
        take_back(served)


def test_a_rollback_is_taken_back(workspace: Workspace) -> None:
    served = Served(workspace, rollout=ASKING)
    step(served, NOW)
    step(served, NOW + DAY)
    say(served, approved=False)
    assert step(served, NOW + 2 * DAY) == ["refuse"]
    assert take_back(served).why.endswith("delays:2 begins an approval within 5d anew.")
    assert served.arms() == [(1, 1.0, False), (2, 0.0, True)]
    assert step(served, NOW + 4 * DAY) == ["watch"]  # the answer to the first question is used up
    say(served, approved=True)
    assert step(served, NOW + 5 * DAY) == ["canary"]


def test_what_cannot_be_taken_back_says_so(workspace: Workspace) -> None:
    served = promoted(workspace)
    with pytest.raises(Conflict, match=r"Decision 6 \(promote\) came after decision 4"):
        take_back(served, 4)
    served.deploy(1)
    with pytest.raises(Conflict, match="is not the loop's any more"):
        take_back(served)


def test_an_adoption_is_nothing_to_take_back(workspace: Workspace) -> None:
    served = Served(workspace)
    assert step(served, CHANGE) == ["adopt", "keep"]
    with pytest.raises(Invalid, match="nothing changed by it"):
        take_back(served)


def test_a_decision_taken_back_while_it_trains_stays_so(workspace: Workspace) -> None:
    served = Served(workspace)
    served.answer(NOW)
    trains = served.flow.run

    def interrupted(start: datetime, end: datetime) -> Any:
        handle = trains(start, end)
        take_back(served)
        return handle

    served.flow.run = interrupted  # type: ignore[method-assign]
    assert served.tick(NOW) == ["adopt", "retrain", "keep"]
    actions = [one.action for one in workspace.meta.select(Decision, loop="delays")]
    assert actions == ["adopt", "retrain", "undo", "keep"]
    assert served.arms() == [(1, 1.0, False)]


def again(served: Served, log: MemoryLog) -> list[Recomputed]:
    decisions = served.workspace.meta.select(Decision, loop="delays")
    store = served.workspace.meta
    return [recompute(served.loop, log, served.actions, store, one) for one in decisions]


def test_every_decision_can_be_made_again_from_the_log(workspace: Workspace) -> None:
    served = Served(
        workspace,
        rollout=ASKING,
        gate=beats("auc", slices=["b"], no_worse_by=0.5, min_slice_rows=100),
        budget=budget(exposed="1000/week"),
    )
    step(served, CHANGE)
    step(served, NOW)
    step(served, NOW + DAY)
    say(served, approved=True)
    step(served, NOW + 2 * DAY)
    step(served, NOW + 3 * DAY)
    take_back(served)
    served.answer(NOW + 20 * DAY)  # what comes later changes nothing
    made = again(served, served.log)
    assert all(one.same for one in made), [one for one in made if not one.same]
    kinds = {kind for one in made for kind in one.gathered}
    assert kinds == {"performance", "gate", "guards", "exposure"}

    before: Decision | None = None
    for decision in workspace.meta.select(Decision, loop="delays"):
        ruling = replay(served.loop, before, decision)
        assert (ruling.action, ruling.why) == (decision.action, decision.why)
        assert ruling.otherwise == decision.otherwise
        assert state_to_json(ruling.state) == decision.state
        before = decision


def test_what_was_told_later_changes_no_decision_whatever_time_it_names(
    workspace: Workspace,
) -> None:
    served = promoted(workspace)
    ids = served.log.predictions(since=NOW - 7 * DAY)["id"]
    early = pa.array([NOW - DAY] * len(ids), pa.timestamp("us", "UTC"))
    late = pa.array([instant("2126-01-01")] * len(ids), pa.timestamp("us", "UTC"))
    told = {"id": ids, "label": [True] * len(ids), "known_at": early, "received_at": late}
    served.log.append(feedback=pa.table(told))
    assert served.log.joined(known_by=NOW, since=NOW - 2 * DAY)["label"].null_count == 0
    assert all(one.same for one in again(served, served.log))


def test_a_log_that_lost_rows_is_said_to_have(workspace: Workspace) -> None:
    served = promoted(workspace)
    rest = MemoryLog("delays")
    kept = served.log.predictions(since=NOW - 4 * DAY)
    rest.append(kept)
    gates = [one for one in again(served, rest) if "gate" in one.gathered]
    assert not gates[0].same
    first = gates[0].differing[0]
    assert first.field.startswith("evidence.gate.")
    assert "earlier ones were removed" in first.why


def test_a_loop_says_what_it_would_do_next_and_does_nothing(workspace: Workspace) -> None:
    served = Served(workspace)
    step(served, CHANGE)
    served.answer(NOW)
    count = len(workspace.meta.select(Decision, loop="delays"))
    found = outlook(served.loop, served.log, served.actions, workspace.meta, NOW)
    assert found.ruling is not None
    assert found.ruling.action == "retrain"
    assert [name for name, _ in found.near] == ["stale", "drop"]
    assert found.near[0][1] == "26 of 21"
    assert len(workspace.meta.select(Decision, loop="delays")) == count
    assert len(served.flow.ran) == 1

    served.tick(NOW)
    found = outlook(served.loop, served.log, served.actions, workspace.meta, NOW + 6 * HOUR)
    assert found.ruling is not None
    assert found.ruling.action == "watch"
    assert found.until[0] == ("the stage lasts", NOW + DAY)


def test_a_decision_is_explained(workspace: Workspace) -> None:
    served = promoted(workspace)
    decisions = workspace.meta.select(Decision, loop="delays")
    found = explain(decisions[3], decisions[2])
    assert decisions[3].action == "shadow"
    assert found.asked.startswith("Is version 2 shown to be better than version 1")
    seen = dict(found.seen)
    assert seen["gate"].endswith("since 2013-02-10")
    assert seen[""].startswith("auc 0.")
    assert found.did == "shadow: the route became version 1 100%, version 2 as a shadow."
    assert "began" not in found.otherwise
    texts = [
        explain(one, None if place == 0 else decisions[place - 1])
        for place, one in enumerate(decisions)
    ]
    assert all(one.asked and one.seen and one.otherwise for one in texts)
    assert served.loop.name == "delays"


def test_parts_of_too_few_rows_are_judged_together() -> None:
    from upturn.improve.gate import parted

    number = pa.chunked_array([np.arange(100.0)])
    assert [int(rows.sum()) for _, rows in parted(number)] == [25, 25, 25, 25]
    flags = pa.chunked_array([[True, False, None]])
    assert [name for name, _ in parted(flags)] == ["false", "true", "missing"]
