"""`after=up.new_version(model)`: one run for each version, with two real servers on the store."""

from pathlib import Path

from e2e.folder import Folder
from upturn.core.records import Edge, Run, RunState, Version
from upturn.develop.schedule.shelf import ticks_of
from waiting import until

FLOWS = """
from pathlib import Path

import pandas as pd
import upturn as up

ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 4.0, 6.0]})


class Times:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, rows):
        return rows["x"] * self.factor


@up.flow
def train(factor: int):
    return up.register("churn", Times(factor), data=ROWS, target="y")


@up.step(cache=False)
def note() -> int:
    with open(Path(__file__).parent / "ran", "a") as file:
        file.write("told\\n")
    return 1


@up.flow(after=up.new_version("churn"))
def tell():
    return note()
"""


def test_each_version_starts_one_run_whichever_of_two_servers_sees_it(tmp_path: Path) -> None:
    project = Folder(tmp_path, {"flows.py": FLOWS})
    project.type("run", "flows.py:train", "--factor", "1")  # from before there was a schedule
    project.type("schedule", "flows.py:tell")
    project.type("up", "--port", "0", "--background")
    workspace = project.open()
    try:
        project.type("up", "--port", "0", "--background", "--join")
        for factor in ("2", "3"):
            project.type("run", "flows.py:train", "--factor", factor)
        until(lambda: len(project.ran()) >= 2, "they are not told", within_s=60)

        def ended() -> bool:
            runs = workspace.meta.select(Run, flow="tell")
            states = [workspace.meta.find(RunState, run.id) for run in runs]
            return all(state is not None and state.status == "done" for state in states)

        until(ended, "they do not end", within_s=60)
        assert len(workspace.meta.select(Version)) == 3
        ticks = ticks_of(workspace, "tell", limit=9)
        assert [tick.cause for tick in ticks] == ["version/churn:3", "version/churn:2"]
        runs = workspace.meta.select(Run, flow="tell")
        assert {run.id for run in runs} == {tick.run for tick in ticks}
        assert len(runs) == len(project.ran()) == 2
        for tick in ticks:
            assert workspace.meta.select(Edge, source=tick.cause, target=f"run/{tick.run}")
    finally:
        project.type("down")
        workspace.close()
