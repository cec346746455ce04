"""LinTS and LinUCB: what is learned, what is chosen, against plain numpy; and what it earns."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import upturn as up
from upturn.core.errors import Invalid
from upturn.core.linear_policy import Encoded, LinearArm, LinearPolicy
from upturn.core.log import Layout, Matrix, PredictionBatch
from upturn.core.log_policy import LogPolicy
from upturn.core.routing import SPACE, position
from upturn.core.schema import Field, Signature
from upturn.deploy.serve.chooser import Chooser
from upturn.deploy.serve.rows import Rows
from upturn.improve.bandit.linear import LinTS, LinUCB, learn
from upturn.improve.bandit.rows import Counted
from upturn.model.contextual import best_of_normals, encoded, floored, probabilities
from upturn.stores.log_tables import table

ARMS = ["a", "b", "c"]
AGE = Encoded(name="age", mean=40.0, scale=10.0)
PLAN = Encoded(name="plan", values=("free", "pro"))


def policy(kind: Any, seed: int, *, arms: int = 3, least: float = 0.02) -> LinearPolicy:
    draw = np.random.default_rng(seed)
    made = []
    for name in ARMS[:arms]:
        root = draw.normal(0, 0.4, (4, 4))
        made.append(
            LinearArm(
                name=name,
                mean=tuple(draw.normal(0, 1, 4).tolist()),
                covariance=tuple(map(tuple, (root @ root.T).tolist())),
            )
        )
    return LinearPolicy(kind=kind, least=least, inputs=(AGE, PLAN), arms=tuple(made))


def rows(count: int, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    plan = [["free", "pro", "old", None][at] for at in draw.integers(0, 4, count)]
    return {
        "age": np.where(draw.random(count) < 0.1, np.nan, draw.normal(40, 12, count)),
        "plan": plan,
    }


def seen(values: Any) -> np.ndarray:
    return encoded([AGE, PLAN], lambda one: values[one.name], len(values["plan"]))


@pytest.mark.parametrize("arms", [2, 3])
def test_lin_ts_chooses_with_the_probability_of_being_the_best(arms: int) -> None:
    made, x = policy("LinTS", 5, arms=arms, least=1e-9), seen(rows(6))
    draw = np.random.default_rng(1)
    thetas = [draw.multivariate_normal(a.mean, np.array(a.covariance), 200_000) for a in made.arms]
    scores = np.stack([x @ theta.T for theta in thetas])  # (arms, rows, draws)
    won = np.stack([(scores.argmax(0) == place).mean(1) for place in range(arms)], 1)
    np.testing.assert_allclose(probabilities(made, x), won, atol=0.005)


def test_lin_ucb_takes_the_greatest_bound_and_leaves_the_others_their_minimum() -> None:
    made, x = policy("LinUCB", 3), seen(rows(50))
    bounds = np.array(
        [
            [
                sum(a * b for a, b in zip(row, arm.mean, strict=True))
                + math.sqrt(row @ np.array(arm.covariance) @ row)
                for arm in made.arms
            ]
            for row in x
        ]
    )
    found = probabilities(made, x)
    assert (found.argmax(1) == bounds.argmax(1)).all()
    assert np.sort(found, 1) == pytest.approx(np.tile([0.02, 0.02, 0.96], (50, 1)))


def test_normals_of_any_width() -> None:
    means = np.array([[0.0, 1.0], [3.0, 3.0], [0.0, 50.0], [1.0, 1.0]])
    spread = np.array([[1.0, 2.0], [0.1, 5.0], [1.0, 1.0], [0.0, 0.0]])
    gap = (means[:, 0] - means[:, 1]) / np.maximum(np.hypot(*spread.T), 1e-9)
    np.testing.assert_allclose(best_of_normals(means, spread)[:, 0], stats.norm.cdf(gap), atol=1e-6)
    three = np.array([[0.0, 0.5, 1.0]])
    wide = np.array([[1.0, 0.5, 2.0]])
    draw = np.random.default_rng(2).normal(three, wide, (400_000, 3)).argmax(1)
    won = np.bincount(draw, minlength=3) / 400_000
    np.testing.assert_allclose(best_of_normals(three, wide)[0], won, atol=0.004)


@given(
    weights=st.lists(
        st.lists(st.integers(0, 1000), min_size=4, max_size=4), min_size=1, max_size=5
    ),
    part=st.floats(0.001, 1.0),
)
def test_no_probability_is_below_the_minimum(weights: list[list[int]], part: float) -> None:
    best = np.array(weights, float) + 1e-12
    best /= best.sum(1, keepdims=True)
    found = floored(best, part / 4)
    assert found.min() >= part / 4 - 1e-12
    np.testing.assert_allclose(found.sum(1), 1.0)
    # The order stays.
    order = np.argsort(best, 1, kind="stable")
    assert (np.diff(np.take_along_axis(found, order, 1), axis=1) >= -1e-12).all()


def counted(
    x: Any, arm: np.ndarray, reward: np.ndarray, *, unit: np.ndarray | None = None
) -> Counted:
    columns = {f"features.{name}": pa.array(x[name], from_pandas=True) for name in x}
    n = len(arm)
    return Counted(
        table=pa.table(columns),
        arm=arm,
        reward=reward,
        weight=np.ones(n),
        propensity=np.full(n, 1 / 3),
        overlap=np.full(n, 1 / 9),
        unit=np.arange(n) if unit is None else unit,
        delay_s=np.zeros(n),
        forced=0,
    )


@pytest.mark.parametrize("how", [LinTS(["age", "plan"], ridge=2.0), LinUCB(["age"], alpha=1.5)])
def test_what_is_learned_is_ridge_regression_row_by_row(how: Any) -> None:
    draw = np.random.default_rng(9)
    values, arm = rows(120, 4), draw.integers(0, 3, 120)
    reward = np.where(draw.random(120) < 0.2, np.nan, draw.normal(arm, 1.0))
    inputs = [AGE, PLAN] if len(how.inputs) == 2 else [AGE]
    found = learn(how, inputs, counted(values, arm, reward), ARMS, least=0.05, before=None)
    d = 4 if len(inputs) == 2 else 2
    grams, moments = [how.ridge * np.eye(d) for _ in ARMS], [np.zeros(d) for _ in ARMS]
    x = seen(values)[:, :d]
    for row in range(120):
        if not np.isnan(reward[row]):
            grams[arm[row]] += np.outer(x[row], x[row])
            moments[arm[row]] += reward[row] * x[row]
    squares, count = 0.0, 0
    for place in range(3):
        theta = np.linalg.solve(grams[place], moments[place])
        assert found.policy.arms[place].mean == pytest.approx(theta)
        mine = (arm == place) & ~np.isnan(reward)
        squares += ((reward[mine] - x[mine] @ theta) ** 2).sum()
        count += int(mine.sum()) - d
    noise = math.sqrt(squares / count)
    assert found.noise == pytest.approx(noise)
    wide = how.scale if isinstance(how, LinTS) else how.alpha
    for place in range(3):
        wanted = (wide * noise) ** 2 * np.linalg.inv(grams[place])
        np.testing.assert_allclose(found.policy.arms[place].covariance, wanted, rtol=1e-9)
    assert sum(found.shares.values()) == pytest.approx(1.0)


def test_rows_of_a_unit_are_no_more_certain_than_the_unit() -> None:
    draw = np.random.default_rng(3)
    values, arm, reward = rows(200, 1), draw.integers(0, 3, 200), draw.normal(size=200)
    often = {name: np.repeat(np.array(values[name], object), 5) for name in values}
    often["age"] = often["age"].astype(float)
    often["plan"] = often["plan"].tolist()
    units = np.repeat(np.arange(200), 5)
    how = LinTS(["age", "plan"], ridge=1e-6)
    once = learn(how, [AGE, PLAN], counted(values, arm, reward), ARMS, least=0.05, before=None)
    repeated = counted(often, np.repeat(arm, 5), np.repeat(reward, 5), unit=units)
    more = learn(how, [AGE, PLAN], repeated, ARMS, least=0.05, before=None)
    for one, other in zip(once.policy.arms, more.policy.arms, strict=True):
        assert np.diag(other.covariance) == pytest.approx(np.diag(one.covariance), rel=0.1)


# ---- a server's choice -----------------------------------------------------------------------

SIGNATURE = Signature(
    inputs=(Field(name="plan", type="str"), Field(name="age", type="float", nullable=True)),
    output="number",
)


def test_the_logged_probability_is_that_of_the_choice() -> None:
    """Over all units a row like this gets each arm as often as its propensity says."""
    made = policy("LinTS", 5)
    chooser = Chooser(made, SIGNATURE, "salt")
    n = 6000
    units: list[str | None] = [f"u{number}" for number in range(n)]
    block: Any = [("pro", 52.0)] * n
    found = chooser.choose(Rows(block, units), ["same"] * n)
    [wanted] = probabilities(made, seen({"age": np.array([52.0]), "plan": ["pro"]}))
    places: list[int] = []
    for name, (taken, chances) in found.items():
        chance = wanted[ARMS.index(name)]
        assert chances == pytest.approx([chance] * len(taken), abs=1e-12)
        assert len(taken) / n == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / n))
        places += taken
    assert sorted(places) == list(range(n))
    # The same unit in the same context stays, in a request of its own as well.
    of = {place: name for name, (taken, _) in found.items() for place in taken}
    for place in range(20):
        [(name, _)] = chooser.choose(Rows(block[:1], [units[place]]), ["x"]).items()
        assert name == of[place]
        at = (position(f"u{place}", "salt") + 0.5) / SPACE
        assert ARMS.index(name) == int((at >= wanted.cumsum()).sum())


def test_a_matrix_and_tuples_are_seen_alike() -> None:
    made = LinearPolicy(
        kind="LinTS",
        least=0.1,
        inputs=(AGE, Encoded(name="vip")),
        arms=tuple(
            LinearArm(name=name, mean=(0.0, slope, 0.5), covariance=((0.1,) * 3,) * 3)
            for name, slope in (("a", 1.0), ("b", -1.0))
        ),
    )
    inputs = (Field(name="vip", type="bool"), Field(name="age", type="float", nullable=True))
    chooser = Chooser(made, Signature(inputs=inputs, output="number"), "s")
    ids = [f"p{n}" for n in range(40)]
    ages = np.random.default_rng(0).normal(40, 20, 40)
    ages[3] = np.nan
    matrix = np.column_stack([np.arange(40) % 2, ages])
    tuples: Any = [
        (bool(n % 2), None if np.isnan(age) else float(age)) for n, age in enumerate(ages)
    ]
    assert chooser.choose(Rows(matrix), ids) == chooser.choose(Rows(tuples), ids)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((Encoded(name="agee"),), "clients do not send"),
        ((Encoded(name="plan"),), "another type than str"),
        ((Encoded(name="age", values=("1",)),), "another type than float"),
    ],
)
def test_a_policy_that_a_server_can_not_follow(inputs: Any, says: str) -> None:
    made = LinearPolicy(kind="LinTS", least=0.1, inputs=inputs, arms=())
    with pytest.raises(Invalid, match=says):
        Chooser(made, SIGNATURE, "s")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: up.LinTS([]), "Thompson"),
        (lambda: up.LinTS("age"), "by their names"),
        (lambda: up.LinUCB(["a", "a"]), "named twice"),
        (lambda: up.LinUCB(["a"], alpha=0.0), "alpha=0.0: a number above 0"),
        (lambda: policy("LinTS", 1).check(["a", "b"]), "other arms"),
        (
            lambda: LinearPolicy(
                kind="LinTS",
                least=0.1,
                inputs=(AGE,),
                arms=(LinearArm(name="a", mean=(1.0,), covariance=((1.0,),)),),
            ).check(["a"]),
            "not one of 2 columns",
        ),
        (lambda: up.Bandit("s", arms={"a": 1, "b": 2}, policy=0.1), "is no policy"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_is_no_policy(make: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        make()


def batch(propensity: float | list[float], ids: list[str]) -> PredictionBatch:
    n = len(ids)
    return PredictionBatch(
        ids=ids,
        at=1,
        received_at=1,
        route=1,
        arm="a",
        version=1,
        shadow=False,
        units=None,
        propensity=propensity,
        features=Matrix(Layout(("x",), "f"), np.arange(n, dtype="<f8").tobytes()),
        scores=[0.0] * n,
        answers=None,
        latency_s=0.0,
    )


def test_the_log_has_each_rows_own_propensity() -> None:
    some = [batch(0.25, ["p", "q"]), batch([0.1, 0.7, 0.2], ["r", "s", "t"])]
    found = table([some], "predictions")
    assert found["propensity"].to_pylist() == [0.25, 0.25, 0.1, 0.7, 0.2]
    ids = [f"p{number}" for number in range(200)]
    sampled = LogPolicy(rates={"a": 0.5}).apply(batch([n / 200 for n in range(200)], ids))
    assert sampled is not None
    assert sampled.propensity == [int(one[1:]) / 200 for one in sampled.ids]
    assert 60 < len(sampled.ids) < 140


# ---- what it earns ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", [LinTS(["age"]), LinUCB(["age"])])
def test_rows_get_the_arm_that_suits_them(how: Any) -> None:
    """Young and old want different arms: alone each arm is as good as the other."""
    draw, regrets = np.random.default_rng(8), []
    values: Any = {"age": np.empty(0)}
    arm, reward = np.empty(0, int), np.empty(0)
    current: LinearPolicy | None = None
    for _ in range(12):
        age = draw.normal(40, 10, 150)
        x = encoded([AGE], lambda one, age=age: age, 150)
        chances = np.full((150, 3), 1 / 3) if current is None else probabilities(current, x)
        assert chances.min() >= 0.02 - 1e-12
        chosen = (draw.random((150, 1)) > chances.cumsum(1)).sum(1).clip(0, 2)
        slopes = np.array([0.5, -0.5, 0.0])
        means = slopes * x[:, 1:]
        regrets.append(float((means.max(1) - means[np.arange(150), chosen]).mean()))
        values = {"age": np.concatenate([values["age"], age])}
        arm = np.concatenate([arm, chosen])
        reward = np.concatenate([reward, means[np.arange(150), chosen] + draw.normal(0, 0.5, 150)])
        data = counted(values, arm, reward)
        current = learn(how, [AGE], data, ARMS, least=0.02, before=current).policy
    assert np.mean(regrets[-4:]) < 0.2 * regrets[0]
