"""Rehearsal: the same policy on past rows, against never retraining and a calendar."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from unit.improve.loop_world import CHANGE, Flow, make_loop, past
from upturn.core.errors import Invalid, RunFailed
from upturn.core.records import Decision
from upturn.core.time import instant
from upturn.improve.rehearse import Progress, rehearse
from upturn.improve.rollout import approval, beats, canary, shadow
from upturn.improve.runner import replay
from upturn.improve.state import state_to_json
from upturn.stores.workspace import Workspace, open_workspace

SPAN = {"start": "2013-01-22", "end": "2013-03-11"}


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def test_a_rehearsal_tells_what_the_loop_would_have_done(workspace: Workspace) -> None:
    flow, heard = Flow(workspace, past()), list[Progress]()
    loop = make_loop(flow)
    found = rehearse(workspace, loop, **SPAN, calendar="14d", progress=heard.append)

    actions = [decision.action for decision in found.decisions]
    assert actions[0] == "adopt"
    assert {"retrain", "judge", "shadow", "canary", "promote"} <= set(actions)
    first = next(one for one in found.decisions if one.action == "retrain")
    assert first.at > CHANGE

    rows = flow.table.num_rows - len(np.flatnonzero(before(flow.table, SPAN["start"])))
    assert found.rows == rows == sum(month.rows for month in found.months)
    assert [month.month for month in found.months] == ["2013-01", "2013-02", "2013-03"]
    assert 0.9 < found.labelled / found.rows < 1
    by_name = {policy.name: policy for policy in found.policies}
    assert by_name["loop"].retrains == Counter(actions)["retrain"]
    assert by_name["calendar"].retrains == 3
    assert by_name["never"].retrains == 0
    against_never = next(one for one in found.differences if one.against == "never")
    assert against_never.verdict == "better"
    assert found.conclusion.startswith("The loop's auc was better than that of never retraining")
    assert heard[-1].done == heard[-1].total == 49

    # The first month came before the change: nobody had a reason to do anything.
    january = found.months[0].values
    assert january["loop"] == january["never"]


def before(table: pa.Table, day: str) -> np.ndarray:
    at = np.asarray(table["at"].cast(pa.int64()))
    return at < instant(day).timestamp() * 1_000_000


def test_simulated_decisions_are_kept_apart_and_can_be_replayed(workspace: Workspace) -> None:
    loop = make_loop(Flow(workspace, past()))
    found = rehearse(workspace, loop, **SPAN, baselines=["never"])
    assert workspace.meta.select(Decision, loop=loop.name) == []
    stored = workspace.meta.select(Decision, loop=found.decisions_name)
    assert [one.seq for one in stored] == [one.seq for one in found.decisions]
    last: Decision | None = None
    for decision in stored:
        ruling = replay(loop, last, decision)
        assert (ruling.action, ruling.why) == (decision.action, decision.why)
        assert state_to_json(ruling.state) == decision.state
        last = decision


def test_a_rehearsal_gives_the_approval_that_nobody_can_be_asked_for(workspace: Workspace) -> None:
    rollout = [shadow("1d"), approval(), canary(0.5, "1d", min_rows=30)]
    loop = make_loop(Flow(workspace, past()), rollout=rollout)
    found = rehearse(workspace, loop, **SPAN, baselines=[])
    actions = [decision.action for decision in found.decisions]
    asked = actions.index("ask")
    assert actions[asked + 1] == "canary"
    assert found.decisions[asked + 1].why.startswith("the rehearsal approved delays:")
    assert "promote" in actions


def test_a_gate_that_nobody_passes_makes_the_loop_the_same_as_never(workspace: Workspace) -> None:
    loop = make_loop(Flow(workspace, past()), gate=beats("auc", by=0.9))
    found = rehearse(workspace, loop, **SPAN, baselines=["never"])
    actions = Counter(decision.action for decision in found.decisions)
    assert actions["refuse"] == actions["retrain"] > 1
    assert actions["promote"] == 0
    assert all(one.comparison.difference == 0 for one in found.differences)
    assert "gave the same answers" in found.conclusion


def test_a_label_is_not_seen_before_it_is_known(workspace: Workspace) -> None:
    table = past()
    late = pa.array([instant("2014-01-01")] * table.num_rows, table.schema.field("known_at").type)
    never_known = table.set_column(1, "known_at", late)
    flow = Flow(workspace, table)
    loop = make_loop(flow, history=lambda start, end: never_known)
    found = rehearse(workspace, loop, **SPAN, baselines=["never"])
    actions = Counter(decision.action for decision in found.decisions)
    assert found.labelled == 0
    assert actions["promote"] == 0
    assert all(one.comparison.rows == 0 for one in found.differences)


def test_a_training_that_fails_is_a_decision(workspace: Workspace) -> None:
    loop = make_loop(Flow(workspace, past(), fails=1))
    found = rehearse(workspace, loop, **SPAN, baselines=["never"])
    failed = [one for one in found.decisions if one.action == "failed"]
    assert len(failed) > 1
    assert failed[0].why == "The training made no version: It broke."
    gaps = [later.at - one.at for one, later in pairwise(failed)]
    assert min(gaps) >= timedelta(days=3)


def test_rehearsing_again_from_a_version_that_there_is(workspace: Workspace) -> None:
    flow = Flow(workspace, past())
    one = rehearse(workspace, make_loop(flow), **SPAN, baselines=["never"])
    ran = len(flow.ran)
    loop = make_loop(flow, gate=None, rollout=[])
    two = rehearse(workspace, loop, **SPAN, baselines=["never"], initial=1)
    assert one.policy("never").values == two.policy("never").values
    assert instant("2013-01-22") not in [end for _, end in flow.ran[ran:]]


def test_what_cannot_be_rehearsed_says_so(workspace: Workspace) -> None:
    table = past(10)
    flow = Flow(workspace, table, fails=0)
    with pytest.raises(Invalid, match="has no days"):
        rehearse(workspace, make_loop(flow), start="2013-02-02", end="2013-02-01")
    with pytest.raises(Invalid, match="no baseline 'nver'"):
        rehearse(workspace, make_loop(flow), **SPAN, baselines=["nver"])
    with pytest.raises(RunFailed, match="The first training failed: It broke"):
        rehearse(workspace, make_loop(flow), **SPAN)
    flow.fails, flow.ran = 99, []
    naive = table.set_column(0, "at", table["at"].cast(pa.timestamp("us")))
    with pytest.raises(Invalid, match="not a time with a zone"):
        rehearse(workspace, make_loop(flow), **SPAN, history=naive)
    with pytest.raises(Invalid, match="no column 'known_at'"):
        rehearse(workspace, make_loop(flow), **SPAN, history=table.drop_columns(["known_at"]))
    assert flow.ran == []  # a history is looked at before hours are spent on training
    flow.run(CHANGE - timedelta(days=20), CHANGE)
    with pytest.raises(Invalid, match="which delays:1 takes"):
        rehearse(workspace, make_loop(flow), **SPAN, history=table.drop_columns(["a"]), initial=1)
    with pytest.raises(Invalid, match="Log of 'delays' has no rows"):
        rehearse(workspace, make_loop(flow, history=None), **SPAN)
