"""A bandit on a real server: labels move shares, and the Log has the share of each prediction."""

from pathlib import Path

import numpy as np
import pytest

import upturn as up
from e2e.serving import GOOD, Project
from upturn.core.records import Route
from upturn.improve.bandit.linear import encode_log
from upturn.model.contextual import probabilities

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


CONTEXTUAL = """
import upturn as up
policy = up.LinTS(["delay", "carrier"])
bandit = up.Bandit("shop", arms={"old": 1, "new": 2}, least=0.1, policy=policy)
"""


def test_rows_choose_their_arm_and_the_log_has_each_ones_probability(project: Project) -> None:
    """AA is better with the old one, UA with the new one; both are equally frequent."""
    (project.root / "shop.py").write_text(CONTEXTUAL)
    assert project.command("bandit", "shop.py:bandit", "--once").returncode == 0
    draw = np.random.default_rng(1)
    chances = {("AA", "old"): 0.8, ("AA", "new"): 0.2, ("UA", "old"): 0.2, ("UA", "new"): 0.8}
    with project.server() as server:
        for hour in range(2):
            server.wait_route("shop", hour + 1)
            carriers = ["AA" if n % 2 else "UA" for n in range(600)]
            rows = [
                GOOD | {"carrier": carrier, "customer": f"c{hour}-{n}"}
                for n, carrier in enumerate(carriers)
            ]
            answered = server.predict("shop", {"rows": rows}).body["predictions"]
            labels = [
                {"id": one["id"], "label": bool(draw.random() < chances[carrier, one["arm"]])}
                for carrier, one in zip(carriers, answered, strict=True)
            ]
            told = server.post("/v1/endpoints/shop/feedback", {"feedback": labels})
            assert told.status < 300, told.body
            ticked = project.command("bandit", "shop.py:bandit", "--once")
            assert ticked.returncode == 0, ticked.stderr
        # A caller may still choose; that row was not left to chance.
        forced = server.predict("shop", {"row": GOOD | {"customer": "z"}}, X_Upturn_Arm="old")
        assert forced.body["predictions"][0]["arm"] == "old"
    routes = project.workspace.meta.select(Route, endpoint="shop")
    assert routes[0].policy is None
    assert routes[1].policy is not None
    log = up.read_log("shop", project.workspace).predictions()
    later = [row for row in log.to_pylist() if row["route"] == 2 and row["unit"][:2] == "c1"]
    assert len(later) == 600
    good = [row for row in later if (row["features.carrier"] == "UA") == (row["arm"] == "new")]
    assert 0.85 < len(good) / 600 < 0.95
    # Each has the probability of its own row: the policy's, for what the Log says of the row.
    policy = routes[1].policy
    found = probabilities(policy, encode_log(policy.inputs, log))
    names = [arm.name for arm in policy.arms]
    for row, chance in zip(log.to_pylist(), found, strict=True):
        if row["route"] == 2 and row["unit"][:2] == "c1":
            assert row["propensity"] == pytest.approx(chance[names.index(row["arm"])], abs=1e-12)
    value = up.evaluate_policy(
        up.read_log("shop", project.workspace), {"old": {"old": 1.0}}, model=None
    )
    interval = value.policies["old"].estimates["IPS"].interval
    assert interval.low < 0.5 < interval.high
    checked = project.command("bandit", "shop.py:bandit", "--check")
    assert checked.returncode == 0, checked.stdout
    shown = project.command("bandit", "shop.py:bandit", "--show")
    assert "a row is expected to earn" in " ".join(shown.stdout.split())
