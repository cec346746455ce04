"""The runner on real stores: what is written before what is done, and what a killed one leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unit.improve.loop_world import CHANGE, DAY, Flow, make_loop, past
from upturn.core.errors import Conflict
from upturn.core.records import Alias, Arm, Decision, Route
from upturn.core.routing import choose
from upturn.core.time import instant, micros, utcnow
from upturn.deploy.endpoint import create_endpoint
from upturn.deploy.route import current_route, set_route
from upturn.improve.log import MemoryLog
from upturn.improve.loop import Loop
from upturn.improve.runner import present_state, run_forever, sole_runner, tick
from upturn.improve.state import Steady
from upturn.stores.workspace import Workspace, open_workspace
from upturn.wiring import RealActions

DEPLOYED = instant("2013-01-22")
NOW = CHANGE + 12 * DAY


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


class Served:
    """An endpoint whose route is real and whose requests are the past rows."""

    def __init__(self, workspace: Workspace, *, deploy: bool = True, **changes: Any) -> None:
        self.workspace = workspace
        self.flow = Flow(workspace, changes.pop("table", None) or past())
        self.loop: Loop = make_loop(self.flow, **changes)
        self.actions = RealActions(workspace, self.loop.endpoint, self.flow)
        self.log = MemoryLog("delays")
        self.answered_until = DEPLOYED
        if deploy:
            create_endpoint(workspace, self.loop.endpoint, now=DEPLOYED)
            self.flow.run(start=DEPLOYED - 21 * DAY, end=DEPLOYED)
            self.deploy(1)

    def deploy(self, version: int) -> None:
        arm = Arm(name="champion", version=version, share=1.0)
        set_route(self.workspace, "delays", [arm], why="by hand", now=utcnow())

    def answer(self, until: datetime) -> None:
        """Answer the rows up to then by the present route."""
        table, route = self.flow.table, current_route(self.workspace, "delays")
        assert route is not None
        at = np.asarray(table["at"].cast(pa.int64()))
        rows = table.filter(pa.array((at >= micros(self.answered_until)) & (at < micros(until))))
        self.answered_until = until
        ids = pa.array([f"{moment:028d}" for moment in rows["at"].cast(pa.int64()).to_pylist()])
        chosen = np.array(
            [choose(route.slices, unit, route.salt) for unit in rows["aircraft"].to_pylist()]
        )
        for arm in route.arms:
            mine = pa.array(np.full(len(chosen), True) if arm.shadow else chosen == arm.name)
            some = rows.filter(mine)
            names = [name for name in ("a", "b", "group") if name in some.column_names]
            features = {f"features.{name}": some[name] for name in names}
            columns = {
                "id": ids.filter(mine),
                "at": some["at"],
                "arm": pa.array([arm.name] * some.num_rows),
                "version": pa.array([arm.version] * some.num_rows, pa.int32()),
                "shadow": pa.array([arm.shadow] * some.num_rows),
                "score": pa.array(self.actions.score(arm.version, some)),
                "latency_s": pa.array(np.full(some.num_rows, 0.002)),
            }
            self.log.append(pa.table(columns | features))
        known = rows.filter(rows["known_at"].is_valid())
        self.log.append(
            feedback=pa.table(
                {
                    "id": ids.filter(pa.array(rows["known_at"].is_valid().to_pylist())),
                    "label": known["label"],
                    "known_at": known["known_at"],
                }
            )
        )

    def tick(self, now: datetime) -> list[str]:
        """The actions decided on."""
        made = tick(self.loop, self.log, self.actions, self.workspace.meta, now)
        return [decision.action for decision in made]

    def arms(self) -> list[tuple[int, float, bool]]:
        route = self.workspace.meta.get(Route, "delays")
        return [(arm.version, arm.share, arm.shadow) for arm in route.arms]


def test_from_a_deployed_version_to_the_next_champion(workspace: Workspace) -> None:
    served = Served(workspace)
    served.answer(CHANGE)
    assert served.tick(CHANGE) == ["adopt", "keep"]
    served.answer(NOW)
    assert served.tick(NOW) == ["retrain", "judge", "shadow"]
    assert served.flow.ran[-1] == (NOW - 28 * DAY, NOW - 7 * DAY)
    assert served.arms() == [(1, 1.0, False), (2, 0.0, True)]

    served.answer(NOW + DAY)
    assert served.tick(NOW + DAY) == ["canary"]
    assert served.arms() == [(1, 0.5, False), (2, 0.5, False)]
    served.answer(NOW + 2 * DAY)
    assert served.tick(NOW + 2 * DAY) == ["promote"]
    assert served.arms() == [(2, 1.0, False)]
    assert workspace.meta.get(Alias, "delays", "champion").number == 2
    route = workspace.meta.get(Route, "delays")
    assert route.why == "loop delays, decision 7"

    decisions = workspace.meta.select(Decision, loop="delays")
    guards = decisions[-1].evidence["guards"]
    assert [guard["metric"] for guard in guards] == ["log_loss", "latency_p99"]
    assert served.tick(NOW + 2 * DAY) == ["keep"]


def test_nobody_answers_yet(workspace: Workspace) -> None:
    served = Served(workspace, deploy=False)
    assert served.tick(NOW) == ["wait"]


def test_what_a_person_routes_by_hand_stays(workspace: Workspace) -> None:
    served = Served(workspace)
    served.answer(NOW)
    assert served.tick(NOW) == ["adopt", "retrain", "judge", "shadow"]
    served.deploy(2)
    assert served.tick(NOW + DAY)[:2] == ["yield", "adopt"]
    assert served.arms() == [(2, 1.0, False)]
    state = present_state(workspace.meta, "delays")
    assert isinstance(state, Steady)
    assert state.champion.version == 2

    shares = [Arm(name="x", version=1, share=0.5), Arm(name="y", version=2, share=0.5)]
    set_route(workspace, "delays", shares, why="an experiment", now=utcnow())
    assert served.tick(NOW + 2 * DAY) == ["yield", "wait"]
    assert served.tick(NOW + 3 * DAY) == ["wait"]
    assert served.arms() == [(1, 0.5, False), (2, 0.5, False)]


class Refusing(RealActions):
    """A server that can't load any candidate."""

    def set_route(self, arms: tuple[Arm, ...], *, after: int, why: str, now: datetime) -> str:
        refused = super().set_route(arms, after=after, why=why, now=now)
        return "delays:2 fails its warm-up" if len(arms) > 1 else refused


def test_a_candidate_that_the_server_refuses_is_rolled_back_at_once(workspace: Workspace) -> None:
    served = Served(workspace)
    served.actions = Refusing(workspace, served.loop.endpoint, served.flow)
    served.answer(NOW)
    assert served.tick(NOW) == ["adopt", "retrain", "judge", "shadow", "rollback"]
    assert served.arms() == [(1, 1.0, False)]
    last = workspace.meta.get(Decision, "delays")
    assert "delays:2 fails its warm-up" in last.why
    assert served.tick(NOW + DAY) == ["keep"]


class Dying(RealActions):
    """Kills its own process where a stage would be routed."""

    def set_route(self, arms: tuple[Arm, ...], *, after: int, why: str, now: datetime) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_kill_9_between_deciding_and_acting_is_repaired_by_the_next_tick(
    workspace: Workspace,
) -> None:
    served = Served(workspace)
    script = "import unit.improve.test_runner as test; test.run_until_killed()"
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    decisions = workspace.meta.select(Decision, loop="delays")
    assert [one.action for one in decisions] == ["adopt", "retrain", "judge", "shadow"]
    assert served.arms() == [(1, 1.0, False)]  # decided, not done

    served.answer(NOW)
    with sole_runner(workspace.meta, "delays"):  # the lease of the dead runner is no obstacle
        assert served.tick(NOW) == ["watch"]
    assert served.arms() == [(1, 1.0, False), (2, 0.0, True)]


def run_until_killed() -> None:
    """What the killed process does: the same rows as in `Served`, on the same store."""
    workspace = open_workspace()
    served = Served(workspace, deploy=False)
    served.actions = Dying(workspace, served.loop.endpoint, served.flow)
    served.answer(NOW)
    with sole_runner(workspace.meta, "delays"):
        served.tick(NOW)


def test_one_runner_at_a_time(workspace: Workspace) -> None:
    with sole_runner(workspace.meta, "delays"):
        second = sole_runner(workspace.meta, "delays")
        with pytest.raises(Conflict, match="is being run by process"):
            second.__enter__()
        with sole_runner(workspace.meta, "others"):
            pass
    with sole_runner(workspace.meta, "delays"):
        pass


def test_running_for_good_ticks_every_so_often(workspace: Workspace) -> None:
    served, heard, waits = Served(workspace), list[str](), list[float]()
    served.answer(CHANGE)
    moments = iter([CHANGE, CHANGE, CHANGE + DAY, CHANGE + DAY])

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_forever(
            served.loop,
            served.log,
            served.actions,
            workspace.meta,
            heard=lambda decision: heard.append(decision.action),
            clock=lambda: next(moments),
            wait=wait,
        )
    assert heard == ["adopt", "keep", "keep"]
    assert waits == [86400.0, 86400.0]
    with sole_runner(workspace.meta, "delays"):
        pass
