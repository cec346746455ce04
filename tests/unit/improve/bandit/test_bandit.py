"""A bandit on an endpoint: shares move after labels, people come first, decisions can be remade."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import upturn as up
from unit.improve.bandit.shop import HOUR, START, Shop, bandit
from upturn.cli import cli
from upturn.core.errors import Conflict, Invalid, UpturnError
from upturn.core.records import Arm, Decision, Route
from upturn.improve.bandit.runner import differing, run_forever, tick
from upturn.improve.offpolicy.evaluate import evaluate_policy
from upturn.improve.runner import sole_runner
from upturn.stores.workspace import Workspace, open_workspace
from upturn.wiring import route_actions

BUYS = {"old": 0.10, "new": 0.20}


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    found = open_workspace()
    yield found
    found.close()


def ticked(shop: Shop, one: up.Bandit, hour: float, **options: Any) -> Decision:
    actions, store = route_actions(shop.workspace, "shop"), shop.workspace.meta
    return tick(one, shop.log, actions, store, START + hour * HOUR, **options)


def lived(shop: Shop, one: up.Bandit, hours: int, **world: Any) -> list[Decision]:
    made = [ticked(shop, one, 0)]
    for hour in range(hours):
        shop.answer(START + hour * HOUR, **({"buys": BUYS} | world))
        made.append(ticked(shop, one, hour + 1))
    return made


def test_shares_follow_what_arms_earn(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit(least=0.1)
    made = lived(shop, one, 6)
    assert made[0].action == "begin"
    assert made[0].why == "It begins with old 50 %, new 50 %."
    assert shop.shares == {"old": 0.1, "new": 0.9}
    reshared = [decision for decision in made if decision.action == "reshare"]
    assert 1 <= len(reshared) < len(made)  # at the minimum nothing is left to move
    last = made[-1].evidence
    assert last["best"]["new"] > 0.99
    assert sum(arm["reward"]["rows"] for arm in last["seen"]) == pytest.approx(3000, abs=40)
    # The route in front is the decision's own, and each prediction has the share of its time.
    rows = shop.log.predictions()
    routes = {route.revision: route for route in workspace.meta.select(Route, endpoint="shop")}
    for row in rows.select(["route", "arm", "propensity"]).to_pylist():
        share = {arm.name: arm.share for arm in routes[row["route"]].arms}[row["arm"]]
        assert row["propensity"] == share


def test_decisions_come_out_again(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit(step=0.005)
    made = lived(shop, one, 5)
    assert {decision.action for decision in made} >= {"begin", "reshare"}
    for before, decision in zip([None, *made], made, strict=False):
        assert differing(one, shop.log, workspace.meta, decision, before) == []
    odd = bandit(step=0.005, least=0.2)
    found = differing(odd, shop.log, workspace.meta, made[-1], made[-2])
    assert any("share" in text for text in found)


def test_the_log_of_a_bandit_says_what_each_arm_earns_alone(workspace: Workspace) -> None:
    shop = Shop(workspace)
    lived(shop, bandit(), 6)
    found = evaluate_policy(
        shop.log,
        {"old": {"old": 1.0}, "new": {"new": 1.0}},
        model=None,
        known_by=START + 99 * HOUR,
        cluster="id",
    )
    for name, chance in BUYS.items():
        interval = found.policies[name].estimates["IPS"].interval
        assert interval.low < chance < interval.high
    assert not found.warnings


def test_arms_that_are_alike_keep_their_shares_within_chance(workspace: Workspace) -> None:
    shop = Shop(workspace)
    made = lived(shop, bandit(), 4, buys={"old": 0.1, "new": 0.1})
    assert 0.05 <= shop.shares["new"] <= 0.95
    assert all(0.005 < decision.evidence["best"]["new"] < 0.995 for decision in made[1:])


def test_while_the_world_and_the_shares_change_arms_stay_comparable(workspace: Workspace) -> None:
    """Nights are bad for both arms, and one arm had most of its rows at night (Simpson)."""
    shop, one = Shop(workspace), bandit()
    shop.route(Arm(name="old", version=1, share=0.9), Arm(name="new", version=2, share=0.1))
    shop.answer(START, {"old": 0.5, "new": 0.52}, rows=8000)
    shop.route(Arm(name="old", version=1, share=0.1), Arm(name="new", version=2, share=0.9))
    shop.answer(START + HOUR, {"old": 0.1, "new": 0.12}, rows=8000)
    ticked(shop, one, 2)
    fair = ticked(shop, one, 2).evidence
    [old, new] = [arm["reward"]["mean"] for arm in fair["seen"]]
    # 0.9 and 0.1 one hour, 0.1 and 0.9 the next: both hours weigh the same for both arms.
    assert new == pytest.approx(0.32, abs=0.03)
    assert old == pytest.approx(0.30, abs=0.03)
    fooled = bandit(balance=False, name="fooled")
    ticked(shop, fooled, 2)
    naive = ticked(shop, fooled, 2).evidence
    assert naive["best"]["old"] > 0.999
    assert fair["best"]["old"] < 0.6


def test_a_row_without_a_label_is_no_failure(workspace: Workspace) -> None:
    shop = Shop(workspace)
    world = {"buys": {"old": 0.3, "new": 0.3}, "labelled": {"old": 0.9, "new": 0.3}}
    made = lived(shop, bandit(), 3, **world)
    seen = {arm["name"]: arm for arm in made[-1].evidence["seen"]}
    assert seen["new"]["reward"]["mean"] == pytest.approx(0.3, abs=0.08)
    assert seen["new"]["waiting"] > 200
    assert "their rewards may not be of alike rows" in made[-1].why
    # Where only purchases are told, silence means no.
    silent = bandit(matures="1h", otherwise=0.0, name="silent")
    ticked(shop, silent, 3)
    found = ticked(shop, silent, 3)
    rewards = {arm["name"]: arm["reward"]["mean"] for arm in found.evidence["seen"]}
    assert rewards["new"] == pytest.approx(0.09, abs=0.04)
    assert not any("have a label" in text for text in found.evidence["warnings"])


def test_labels_that_take_longer_for_one_arm_are_said(workspace: Workspace) -> None:
    shop = Shop(workspace)
    made = lived(shop, bandit(), 2, delays={"old": 60.0, "new": 900.0})
    assert "s for new and 60 s for old: the slower arm's newest rewards are missing" in made[-1].why
    aged = bandit(matures="30m", name="aged")
    ticked(shop, aged, 2)
    seen = ticked(shop, aged, 2).evidence["seen"]
    assert [arm["waiting"] for arm in seen] == [0, 0]


def test_rows_that_no_chance_decided_do_not_count(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit()
    shop.route(Arm(name="old", version=1, share=1.0))
    shop.answer(START, {"old": 1.0})  # before there was a choice
    ticked(shop, one, 1)
    shop.answer(START + HOUR, BUYS, rows=400, forced=["new"] * 100)
    evidence = ticked(shop, one, 2).evidence
    assert evidence["forced"] == 100
    assert sum(arm["reward"]["rows"] + arm["waiting"] for arm in evidence["seen"]) == 300
    assert evidence["seen"][0]["reward"]["mean"] < 0.3


def test_sampled_arms_are_weighed_by_their_rate(workspace: Workspace) -> None:
    shop = Shop(workspace)
    made = lived(shop, bandit(), 2, buys={"old": 0.5, "new": 0.5}, rate={"old": 0.25})
    seen = {arm["name"]: arm["reward"] for arm in made[-1].evidence["seen"]}
    assert seen["old"]["mean"] == pytest.approx(0.5, abs=0.12)
    assert seen["old"]["effective"] <= seen["old"]["rows"]  # nobody is surer than what was logged


def test_units_are_what_evidence_is_counted_in(workspace: Workspace) -> None:
    shop = Shop(workspace, unit="customer")
    made = lived(shop, bandit(), 2, buys={"old": 0.0, "new": 0.0}, units=60)
    for arm in made[-1].evidence["seen"]:
        assert arm["reward"]["units"] <= 60
        assert arm["reward"]["effective"] <= 60


def test_too_few_rewards_move_nothing(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit(min_rows=300)
    made = lived(shop, one, 1)
    assert (made[-1].action, shop.present.revision) == ("keep", 1)
    assert "rows with a reward, fewer than 300" in made[-1].why
    assert lived(shop, bandit(name="empty", window="1s"), 0)[-1].action == "begin"
    assert "has 0 rows" in ticked(shop, bandit(name="empty", window="1s"), 50).why


def test_whoever_changes_the_route_has_the_last_word(workspace: Workspace) -> None:
    shop, one = Shop(workspace, versions=3), bandit()
    lived(shop, one, 2)
    shop.route(Arm(name="other", version=3, share=1.0))
    assert ticked(shop, one, 3).action == "yield"
    assert ticked(shop, one, 4).action == "keep"
    assert shop.shares == {"other": 1.0}
    assert ticked(shop, one, 5, anew=True).action == "begin"
    assert shop.shares == {"old": 0.5, "new": 0.5}
    # Other shares of the same arms are taken as they are, and shadows stay.
    shop.route(
        Arm(name="new", version=2, share=0.2),
        Arm(name="old", version=1, share=0.8),
        Arm(name="dark", version=3, shadow=True),
    )
    made = ticked(shop, one, 6)
    assert made.action == "reshare"
    assert [arm.name for arm in shop.present.arms] == ["old", "new", "dark"]
    # Other arms of one's own are a new beginning.
    assert ticked(shop, bandit(arms={"old": 1, "new": 3}), 7).action == "begin"
    assert {arm.version for arm in shop.present.arms if not arm.shadow} == {1, 3}


def test_it_begins_with_the_shares_that_there_are(workspace: Workspace) -> None:
    shop = Shop(workspace)
    shop.route(Arm(name="old", version=1, share=0.98), Arm(name="new", version=2, share=0.02))
    ticked(shop, bandit(), 0)
    assert shop.shares == {"old": 0.95, "new": 0.05}


def test_a_tick_that_was_killed_is_completed(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit()
    ticked(shop, one, 0)
    shop.answer(START, BUYS, rows=2000)
    made = ticked(shop, one, 1)
    assert made.action == "reshare"
    wanted = shop.shares
    # As if it had been killed before it set the route: the decision is there, the route is not.
    last = workspace.meta.get(Decision, one.name, made.seq)
    half = {**last.state, "arms": [dict(a, share=0.5) for a in last.state["arms"]]}
    half["seen"] = shop.present.revision
    workspace.meta.add(
        Decision(
            loop=one.name,
            seq=made.seq + 1,
            action="reshare",
            why="",
            evidence={},
            state=half,
            at=last.at,
            recorded_at=last.at,
        )
    )
    revision = shop.present.revision
    ticked(shop, one, 1)
    routes = workspace.meta.select(Route, endpoint="shop")
    assert [arm.share for arm in routes[revision].arms] == [0.5, 0.5]
    assert shop.shares == wanted


def test_rewards_can_be_a_function_of_the_rows(workspace: Workspace) -> None:
    def margin(rows: pa.Table) -> Any:
        label = rows["label"].to_numpy()
        return np.where(rows["features.x"].to_numpy() < 0.5, label * 30.0, label * 10.0)

    shop, one = Shop(workspace), bandit(reward=margin, policy=up.Thompson("gaussian"))
    made = lived(shop, one, 4)
    seen = {arm["name"]: arm["reward"]["mean"] for arm in made[-1].evidence["seen"]}
    assert seen["new"] == pytest.approx(0.2 * 20, abs=1.5)
    assert shop.shares["new"] > 0.9


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (lambda rows: [1.0], "one number for each row|The reward function gave"),
        ("labl", "no column 'labl'"),
        ("arm", "are texts"),
        (lambda rows: np.full(len(rows), np.inf), "infinite"),
        (lambda rows: np.full(len(rows), 3.0), "beyond 0 and 1"),
        (lambda rows: rows["no such"], "The reward function failed: KeyError"),
    ],
)
def test_rewards_that_can_not_be(workspace: Workspace, reward: Any, says: str) -> None:
    shop, one = Shop(workspace), bandit(reward=reward)
    shop.route(Arm(name="old", version=1, share=0.5), Arm(name="new", version=2, share=0.5))
    shop.answer(START, BUYS)
    with pytest.raises(Invalid, match=says):
        [ticked(shop, one, 1), ticked(shop, one, 1)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": {"old": 1}}, "two arms"),
        ({"arms": {"old": 1, "new": "shop"}}, "no version"),
        ({"every": "0s"}, "has a length"),
        ({"otherwise": 0.0}, "matures"),
        ({"min_rows": 0}, "min_rows"),
        ({"step": 1.0}, "step"),
    ],
)
def test_what_is_no_bandit(options: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        bandit(**options)


def test_arms_by_any_name_of_a_version(workspace: Workspace) -> None:
    assert bandit(arms={"old": "shop:1", "new": 2}).arms == {"old": 1, "new": 2}


def test_a_policy_that_looks_at_rows_goes_into_the_route(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit(policy=up.LinTS(["x"]), step=0.02)
    made = lived(shop, one, 2)
    assert [decision.action for decision in made[:2]] == ["begin", "reshare"]
    assert "By x a row is expected to earn" in made[1].why
    policy = shop.present.policy
    assert policy is not None
    assert (policy.kind, policy.least, [arm.name for arm in policy.arms]) == (
        "LinTS",
        0.05,
        ["old", "new"],
    )
    assert shop.shares["new"] > 0.8
    # Nothing new has come, so nothing changes; and it comes out again.
    assert ticked(shop, one, 2).action == "keep"
    for before, decision in zip([None, *made], made, strict=False):
        assert differing(one, shop.log, workspace.meta, decision, before) == []
    # Shares by hand end the policy until the next tick; another kind of bandit removes it.
    shop.route(Arm(name="old", version=1, share=0.5), Arm(name="new", version=2, share=0.5))
    assert ticked(shop, one, 3).action == "reshare"
    assert shop.present.policy is not None
    assert ticked(shop, bandit(), 3).action == "reshare"
    assert shop.present.policy is None


@pytest.mark.parametrize(
    ("inputs", "says"), [(["y"], "takes no 'y'"), (["bought"], "takes no 'bought'")]
)
def test_a_policy_looks_at_what_all_arms_take(
    workspace: Workspace, inputs: list[str], says: str
) -> None:
    shop = Shop(workspace)
    with pytest.raises(Invalid, match=says):
        ticked(shop, bandit(policy=up.LinUCB(inputs)), 0)
    assert workspace.meta.find(Decision, "shop-bandit") is None


@pytest.mark.parametrize("verb", ["show", "undo", "approve", "check"])
def test_what_is_said_of_loops_is_not_asked_of_bandits(workspace: Workspace, verb: str) -> None:
    ticked(Shop(workspace), bandit(), 0)
    found = CliRunner().invoke(cli, ["decisions", verb, "shop-bandit"])
    assert isinstance(found.exception, Invalid)
    assert "is a bandit, not a loop" in str(found.exception)


def test_running_for_good(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit()
    heard: list[str] = []
    waits: list[float] = []

    class Ended(Exception):
        pass

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Ended

    times = iter(START + timedelta(minutes=30 * n) for n in range(99))
    run = route_actions(workspace, "shop"), workspace.meta
    with pytest.raises(Ended):
        run_forever(
            one,
            shop.log,
            *run,
            heard=lambda made: heard.append(made.action),
            clock=lambda: next(times),
            wait=wait,
        )
    assert heard == ["begin", "keep", "keep"]
    assert waits == [1800.0] * 3
    with sole_runner(workspace.meta, one.name, kind="bandit"), pytest.raises(Conflict):
        run_forever(one, shop.log, *run, troubled=lambda error: None)


def test_a_tick_that_fails_is_left_to_the_next(workspace: Workspace) -> None:
    shop, one = Shop(workspace), bandit(arms={"old": 1, "new": 9})
    told: list[UpturnError] = []

    class Ended(Exception):
        pass

    def wait(seconds: float) -> None:
        raise Ended

    with pytest.raises(Ended):
        run_forever(
            one,
            shop.log,
            route_actions(workspace, "shop"),
            workspace.meta,
            troubled=told.append,
            wait=wait,
        )
    assert "9" in str(told[0])
