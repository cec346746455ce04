"""A bandit on a real server: labels move shares, and the Log has the share of each prediction."""

from pathlib import Path

import numpy as np
import pytest

import upturn as up
from e2e.serving import GOOD, Project
from upturn.core.records import Route

BANDIT = """
import upturn as up
bandit = up.Bandit("shop", arms={"old": 1, "new": 2}, least=0.1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    for value in (0.0, 1.0):
        project.register("shop", project.model("Constant", value))
    project.endpoint("shop", unit="customer")
    (project.root / "shop.py").write_text(BANDIT)
    return project


def test_shares_move_after_feedback_and_the_log_says_which(project: Project) -> None:
    begun = project.command("bandit", "shop.py:bandit", "--once")
    assert begun.returncode == 0, begun.stderr
    assert "It begins with old 50 %, new 50 %." in " ".join(begun.stdout.split())
    draw = np.random.default_rng(0)
    with project.server() as server:
        for hour in range(2):
            server.wait_route("shop", hour + 1)
            rows = [GOOD | {"customer": f"c{hour}-{n}"} for n in range(400)]
            answered = server.predict("shop", {"rows": rows})
            assert answered.status == 200
            labels = [
                {
                    "id": one["id"],
                    "label": bool(draw.random() < (0.6 if one["arm"] == "new" else 0.2)),
                }
                for one in answered.body["predictions"]
            ]
            told = server.post("/v1/endpoints/shop/feedback", {"feedback": labels})
            assert told.status < 300, told.body
            ticked = project.command("bandit", "shop.py:bandit", "--once")
            assert ticked.returncode == 0, ticked.stderr
        assert "reshare" in ticked.stdout or "No share" in " ".join(ticked.stdout.split())
    routes = project.workspace.meta.select(Route, endpoint="shop")
    assert {arm.name: arm.share for arm in routes[-1].arms} == {"old": 0.1, "new": 0.9}
    shares = {(one.revision, arm.name): arm.share for one in routes for arm in one.arms}
    log = up.read_log("shop", project.workspace)
    for row in log.predictions().to_pylist():
        assert row["propensity"] == shares[row["route"], row["arm"]]
    found = up.evaluate_policy(log, {"old": {"old": 1.0}, "new": {"new": 1.0}}, model=None)
    assert found.policies["new"].value.low < 0.6 < found.policies["new"].value.high
    shown = project.command("bandit", "shop.py:bandit", "--show")
    assert "It would" in shown.stdout
    assert shown.returncode == 0
    listed = project.command("decisions", "shop-bandit")
    assert "begin" in listed.stdout
    checked = project.command("bandit", "shop.py:bandit", "--check")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (
        0,
        "3 of 3 decisions come out as they were stored.",
    )
