"""A question that can't be answered is told so: no traceback, no warning, no confident lie."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import upturn as up
from upturn.core.errors import Invalid
from upturn.improve.experiment.interleaving import team_draft


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: up.stale(-1), "before its time"),
        (lambda: up.rows("many"), "a number of rows"),  # type: ignore[arg-type]
        (lambda: up.drift(psi="0.2"), "a PSI to fire at"),  # type: ignore[arg-type]
        (lambda: up.drop("auc", float("inf")), "a drop is positive"),
        (lambda: up.alarm(5), "the name of an alarm"),  # type: ignore[arg-type]
        (lambda: up.stale("30d") | "auc", "no trigger"),  # type: ignore[operator]
        (lambda: up.stale("30d") & up.beats("auc"), "compose with|no trigger"),  # type: ignore[operator]
        (lambda: up.beats("auc") & up.stale("30d"), "no gate"),  # type: ignore[operator]
        (lambda: up.beats("auc", by=float("nan")), "a finite number"),
        (lambda: up.no_worse("auc", float("inf")), "not negative, and finite"),
        (lambda: up.quiet(days=5), "names no days"),  # type: ignore[arg-type]
        (lambda: up.Command((1, 2)), "not a program"),  # type: ignore[arg-type]
        (lambda: up.Webhook("https://ops.example.org", secret=5), "a text"),  # type: ignore[arg-type]
    ],
)
def test_parts_of_loops_and_monitors_say_what_is_wrong_with_them(
    asked: Callable[[], Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said) as error:
        asked()
    assert error.value.problem.hint


def test_one_channel_needs_no_list() -> None:
    channel = up.Slack("https://hooks.example.org/x")
    assert up.Monitor("churn", alerts=channel).alerts == (channel,)  # type: ignore[arg-type]


def test_a_constant_that_becomes_another_has_drifted() -> None:
    found = up.compare_tables({"x": np.ones(500)}, {"x": np.zeros(500)})
    assert [one.severity for one in found.symptoms if one.name == "drift/x"] == ["critical"]
    same = up.compare_tables(up.profile({"x": np.ones(500)}), {"x": np.ones(500)})
    assert same.drift[0].psi == 0
    assert {one.severity for one in same.symptoms} == {"fine"}


def arms(values: Any, *, n: int = 400) -> dict[str, Any]:
    return {"unit": np.arange(n), "arm": np.repeat(["old", "new"], n // 2), "y": values}


Y = up.Experiment("y", arms=["old", "new"], unit="unit", metrics=[up.Mean("y")])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.repeat([1.0, 2.0], 200), "y: within each arm all units have the same value"),
        (np.repeat([0.1, 0.7], 200), "y: within each arm all units have the same value"),
        (np.ones(400), "y: all units have the same value"),
        (np.full(400, np.nan), "y: old has 0 of the 50 units"),
        (np.random.default_rng(1).normal(1e300, 1e299, 400), "y: its"),
    ],
    ids=["constant by arm", "rounded by arm", "constant", "nothing", "too great"],
)
@pytest.mark.filterwarnings("error")
def test_an_experiment_says_what_it_cannot_say(values: Any, said: str) -> None:
    found = Y.analyze(arms(values))
    assert found.verdict.startswith(f"Nothing can be said yet: {said}")
    assert found.effects[0].status == "unsaid"
    assert np.isinf(found.effects[0].difference.high)


def test_rounding_is_no_variance() -> None:
    arm = np.where(np.random.default_rng(0).random(4000) < 0.5, "old", "new")
    found = Y.analyze({"unit": np.arange(4000), "arm": arm, "y": np.where(arm == "new", 2.0, 1.0)})
    assert "within each arm all units have the same value" in found.verdict


@pytest.mark.filterwarnings("error")
def test_an_experiment_refuses_what_it_cannot_read(tmp_path: Any) -> None:
    for table, said in [
        ({}, "no columns"),
        (tmp_path, "is a folder"),
        (arms([[1.0]] * 400), "holds no numbers"),
    ]:
        with pytest.raises(Invalid, match=said) as error:
            Y.analyze(table)
        assert error.value.problem.hint
    for values in (np.ones(400), np.full(400, np.nan)):
        with pytest.raises(Invalid, match="say nothing"):
            Y.self_check(arms(values), splits=20)


def test_tiny_effects_are_planned_for() -> None:
    found = Y.plan(arms(np.random.default_rng(1).normal(10, 3, 400)), effect=1e-9)
    assert found.metrics[0].anytime_units is not None
    assert found.metrics[0].anytime_units > 1e15


def test_p_values_that_no_number_holds_are_not_said_to_be_zero() -> None:
    rows = arms(
        np.repeat([0.0, 100.0], 20_000) + np.random.default_rng(1).normal(size=40_000), n=40_000
    )
    assert "p = 1e-300 or less" in Y.analyze(rows).verdict


def bandit(**changes: Any) -> dict[str, Any]:
    draw = np.random.default_rng(1)
    action = draw.choice(["a", "b"], 600)
    reward, context = draw.random(600) < 0.3, draw.normal(size=600)
    known = {"action": action, "reward": reward, "propensity": np.full(600, 0.5), "x": context}
    return known | changes


@pytest.mark.parametrize(
    ("log", "policy", "options", "said"),
    [
        (bandit(propensity=np.full(600, 1e-300)), {"a": 1.0}, {}, "the propensity 1e-300"),
        (bandit(reward=np.full(600, 1e200)), {"a": 1.0}, {}, "too great to square"),
        (bandit(x=np.full(600, 1e200)), {"a": 1.0}, {"context": ["x"]}, "numbers beyond"),
        (bandit(), "action", {}, "has no numbers"),
        (bandit(), {"a": 1.5, "b": -0.5}, {}, "0 or more"),
        (bandit(), {"a": 1.0}, {"model": 5}, "no reward model"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_off_policy_refuses_what_it_cannot_weigh(
    log: dict[str, Any], policy: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said) as error:
        up.evaluate_policy(log, policy, **options)
    assert error.value.problem.hint


def test_a_log_that_is_not_what_it_claims_is_not_to_be_read() -> None:
    log = bandit(propensity=np.full(600, 0.9))
    found = up.evaluate_policy(log, {"a": 1.0, "b": 0.0})
    assert found.says.startswith("Don't read it. The propensities are not how often")
    sound = up.evaluate_policy(bandit(), {"a": 1.0, "b": 0.0})
    assert sound.says.startswith("The log earned")


def test_lists_are_interleaved_of_items_and_seeds_that_fit() -> None:
    for a, seed, said in (
        (["x"], -1, "no seed"),
        (["x"], "u1", "no seed"),
        ([["x"]], 1, "told apart"),
    ):
        with pytest.raises(Invalid, match=said):
            team_draft(a, ["y"], length=2, seed=seed)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_a_classifier_learns_nothing_of_columns_without_values() -> None:
    nothing = {"x": np.full(300, np.nan), "y": np.random.default_rng(1).normal(size=300)}
    found = up.compare_tables(nothing, nothing, classifier=True)
    assert found.drift[0].psi == 0
