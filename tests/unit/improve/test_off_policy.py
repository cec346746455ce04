"""Off-policy evaluation: unbiased by enumeration, intervals against references, honest refusals."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

import upturn as up
from upturn.core.errors import Invalid, NotFound
from upturn.improve.log import MemoryLog
from upturn.improve.offpolicy.anytime import EmpiricalBernstein
from upturn.improve.offpolicy.moments import ClusterMoments, RowMoments
from upturn.improve.offpolicy.result import OffPolicy
from upturn.improve.offpolicy.rounds import CHUNK
from upturn.improve.statistics.sequences import asymptotic_interval

NEW = {"a": 0.1, "b": 0.2, "c": 0.7}


def logged(rows: int, *, seed: int = 1, shift: float = 0.0) -> dict[str, Any]:
    """A log of three actions whose probabilities and rewards depend on x."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    propensities = np.where(x[:, None] > 0, [0.6, 0.3, 0.1], [0.2, 0.3, 0.5])
    action = (random.random((rows, 1)) > propensities.cumsum(axis=1)).sum(axis=1)
    reward = shift + 0.5 * action + 0.3 * x * action + random.normal(size=rows)
    return {
        "action": np.array(["a", "b", "c"])[action],
        "reward": reward,
        "propensity": propensities[np.arange(rows), action],
        "x": x,
        "new": np.array([0.1, 0.2, 0.7])[action],
        "day": random.integers(0, 30, rows),
        "position": np.arange(rows) % 3,
    }


def by_x(table: pa.Table) -> dict[str, Any]:
    right = table["x"].to_numpy() > 0
    return {"a": np.where(right, 0.1, 0.8), "b": 0.1, "c": np.where(right, 0.8, 0.1)}


# ---- what the estimates are of: every outcome of a small bandit -----------------------------


@settings(max_examples=12, deadline=None)
@given(
    weights=st.lists(st.integers(1, 9), min_size=6, max_size=6),
    means=st.lists(st.integers(0, 4), min_size=4, max_size=4),
)
def test_ips_and_dr_are_unbiased_over_every_outcome(weights: list[int], means: list[int]) -> None:
    """Two rounds, two contexts, two actions, rewards 0 and 1: every log and its probability."""
    policy = np.array(weights[:4], float).reshape(2, 2)
    policy /= policy.sum(axis=1, keepdims=True)
    new = np.array([weights[4], weights[5]], float) / (weights[4] + weights[5])
    chance = np.array(means).reshape(2, 2) / 4  # of a reward, by context and action
    truth = 0.5 * (chance @ new).sum()

    rounds = list(itertools.product(range(2), range(2), range(2)))  # context, action, reward
    total: dict[str, float] = dict.fromkeys(["IPS", "DR"], 0.0)
    wrong = {"a": 0.9, "b": 0.3}  # a reward model that knows nothing: DR is unbiased all the same
    for log in itertools.product(rounds, repeat=2):
        probability = math.prod(
            0.5 * policy[x, a] * (chance[x, a] if r else 1 - chance[x, a]) for x, a, r in log
        )
        if probability == 0:
            continue
        found = up.evaluate_policy(
            {
                "action": ["ab"[a] for _, a, _ in log],
                "reward": [r for _, _, r in log],
                "propensity": [policy[x, a] for x, a, _ in log],
                "new": [new[a] for _, a, _ in log],
            },
            lambda table: {"a": np.full(len(table), new[0]), "b": np.full(len(table), new[1])},
            model=lambda _: wrong,
        )
        for name in total:
            estimate = found.policies["policy"].estimates[name]
            total[name] += probability * estimate.interval.estimate
    assert total == pytest.approx({"IPS": truth, "DR": truth})


def test_the_cross_fitted_doubly_robust_estimate_is_unbiased_over_every_outcome() -> None:
    propensity, chance, new = 0.25, (0.75, 0.5), (0.9, 0.1)
    total = sum_ = 0.0
    for log in itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=4):
        probability = math.prod(
            (propensity, 1 - propensity)[a] * (chance[a] if r else 1 - chance[a]) for a, r in log
        )
        found = up.evaluate_policy(
            {
                "action": [a for a, _ in log],
                "reward": [r for _, r in log],
                "propensity": [(propensity, 1 - propensity)[a] for a, _ in log],
            },
            lambda table: {0: np.full(len(table), new[0]), 1: np.full(len(table), new[1])},
            folds=2,
        )
        total += probability * found.policies["policy"].estimates["DR"].interval.estimate
        sum_ += probability
    assert sum_ == pytest.approx(1)
    assert total == pytest.approx(chance[0] * new[0] + chance[1] * new[1])


# ---- against references --------------------------------------------------------------------


def one(log: Any, policy: Any = NEW, **options: Any) -> Any:
    return up.evaluate_policy(log, policy, **options).policies["policy"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(30, 400), shift=st.sampled_from([0.0, 1e6]))
def test_estimates_and_their_errors_are_those_of_statsmodels(
    seed: int, rows: int, shift: float
) -> None:
    log = logged(rows, seed=seed, shift=shift)
    w = log["new"] / log["propensity"]
    found = one(log, "new").estimates
    ips = sm.OLS(w * log["reward"], np.ones(rows)).fit(cov_type="HC1")
    assert found["IPS"].interval.estimate == pytest.approx(ips.params[0])
    assert found["IPS"].se == pytest.approx(ips.bse[0], rel=1e-6)
    # A weighted mean's robust error is the influence function's.
    snips = sm.WLS(log["reward"], np.ones(rows), weights=w).fit(cov_type="HC1")
    assert found["SNIPS"].interval.estimate == pytest.approx(snips.params[0])
    assert found["SNIPS"].se == pytest.approx(snips.bse[0], rel=1e-6)
    assert found["SNIPS"].interval.low == pytest.approx(snips.conf_int()[0, 0], rel=1e-9)


def test_errors_by_cluster_are_those_of_statsmodels() -> None:
    log = logged(600)
    w = log["new"] / log["propensity"]
    reference = sm.WLS(log["reward"], np.ones(600), weights=w).fit(
        cov_type="cluster", cov_kwds={"groups": log["day"], "use_correction": False}, use_t=True
    )
    found = one(log, "new", cluster="day").estimates["SNIPS"]
    assert found.se == pytest.approx(reference.bse[0] * math.sqrt(30 / 29))
    half = found.interval.high - found.interval.estimate
    assert half / found.se == pytest.approx(2.0452296, abs=1e-6)  # t, 29 degrees of freedom


def test_doubly_robust_by_hand() -> None:
    log = logged(500)
    q = {"a": 0.1, "b": 0.4, "c": 1.1}
    found = one(log, by_x, model=lambda _: q).estimates
    pi = by_x(pa.table({"x": log["x"]}))
    every = np.column_stack([np.broadcast_to(pi[one], 500) for one in "abc"])
    place = np.array(["abc".index(action) for action in log["action"]])
    w = every[np.arange(500), place] / log["propensity"]
    model = np.array([0.1, 0.4, 1.1])
    direct = every @ model
    residual = w * (log["reward"] - model[place])
    assert found["DM"].interval.estimate == pytest.approx(direct.mean())
    assert found["DR"].interval.estimate == pytest.approx((direct + residual).mean())
    assert found["DR"].se == pytest.approx((direct + residual).std(ddof=1) / math.sqrt(500))
    assert found["SNDR"].interval.estimate == pytest.approx(
        direct.mean() + residual.sum() / w.sum()
    )
    switch = found["switch-DR"]
    assert switch.interval.estimate == pytest.approx(
        (direct + residual * (w <= switch.threshold)).mean()
    )
    clipped = found["clipped"]
    most = np.abs(log["reward"]).max()
    costs = {
        t: (np.minimum(w, t) * log["reward"]).var(ddof=1) / 500
        + (np.maximum(w - t, 0).mean() * most) ** 2
        for t in [1, 2, 4, 8, 16, math.inf]
    }
    assert costs[clipped.threshold] == pytest.approx(min(costs.values()))
    assert clipped.interval.estimate == pytest.approx(
        (np.minimum(w, clipped.threshold) * log["reward"]).mean()
    )
    value = one(log, by_x)
    assert value.effective_rounds == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert value.max_weight == pytest.approx(w.max())


def test_the_ridge_model_is_learned_from_the_other_folds() -> None:
    from sklearn.linear_model import LinearRegression

    from upturn.improve.offpolicy.reward_model import Ridge, folds
    from upturn.improve.offpolicy.rounds import Actions, Columns, Source

    log = logged(4000)
    source, actions = Source(log, Columns()), Actions()
    ridge = Ridge(["x"], 4)
    for rounds in source.rounds(actions, ["x"]):
        ridge.learn(rounds)
    ridge.fit()
    (rounds,) = source.rounds(actions, ["x"])
    fold = folds(rounds, 4)
    assert np.bincount(fold).min() > 900
    found = ridge.predict(rounds, actions)
    for action in ["a", "c"]:
        others = (fold != 1) & (log["action"] == action)
        fitted = LinearRegression().fit(log["x"][others, None], log["reward"][others])
        expected = fitted.predict(log["x"][fold == 1, None])
        assert found[fold == 1, actions.place(action)] == pytest.approx(expected, abs=0.02)


# ---- what intervals cover --------------------------------------------------------------------


def covered(rounds: int, logs: int, *, scale: float = 1.0) -> dict[str, float]:
    """How often the intervals of many logs hold the truth; rewards are 0 and 1."""
    random = np.random.default_rng(11)
    propensity, new = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    chance = scale * np.array([[0.1, 0.3, 0.5], [0.3, 0.2, 0.3]])
    truth = float((chance @ new).mean())
    more = truth - float((chance @ propensity).mean())
    hits: dict[str, int] = {}
    for _ in range(logs):
        x = random.integers(0, 2, rounds)
        action = random.choice(3, rounds, p=propensity)
        table = pa.table(
            {
                "action": action,
                "reward": (random.random(rounds) < chance[x, action]).astype(float),
                "propensity": propensity[action],
                "x": x,
            }
        )
        found = up.evaluate_policy(table, {0: 0.1, 1: 0.2, 2: 0.7}, context=["x"])
        ends = found.difference("policy").interval
        hits["difference"] = hits.get("difference", 0) + (ends.low <= more <= ends.high)
        for name, estimate in found.policies["policy"].estimates.items():
            ends = estimate.interval
            hits[name] = hits.get(name, 0) + (ends.low <= truth <= ends.high)
    return {name: count / logs for name, count in hits.items()}


def test_intervals_cover_what_they_say() -> None:
    found = covered(400, 800)
    for name in ["IPS", "SNIPS", "DR", "SNDR", "difference"]:
        assert 0.93 <= found[name] <= 0.97, found
    for name in ["clipped", "switch-DR"]:  # the bound on what was cut comes on top
        assert found[name] >= 0.93, found


def test_intervals_of_seven_rewards_cover_what_they_say() -> None:
    found = covered(200, 500, scale=0.1)
    for name in ["IPS", "SNIPS", "DR", "SNDR", "clipped", "switch-DR"]:
        assert 0.92 <= found[name] <= 0.98, found


def test_a_self_normalised_interval_knows_that_its_normaliser_varies_too() -> None:
    """Where it is taken for a constant, as by a bootstrap of w·r / mean(w), it is far too wide."""
    random = np.random.default_rng(8)
    values, ours, constant = [], [], []
    for _ in range(400):
        action = (random.random(500) < 0.3).astype(int)
        reward = (random.random(500) < np.array([0.6, 0.8])[action]).astype(float)
        propensity = np.array([0.7, 0.3])[action]
        found = one(
            {"action": action, "reward": reward, "propensity": propensity},
            {0: 0.2, 1: 0.8},
            model=None,
        ).estimates["SNIPS"]
        w = np.array([0.2, 0.8])[action] / propensity
        values.append(found.interval.estimate)
        ours.append(found.se)
        constant.append((w * reward / w.mean()).std() / math.sqrt(500))
    sd = np.std(values)
    assert np.mean(ours) / sd == pytest.approx(1, abs=0.08)
    assert np.mean(constant) / sd > 1.7


def test_an_anytime_valid_interval_holds_at_every_look_and_a_fixed_one_does_not() -> None:
    random = np.random.default_rng(3)
    truth, wrong, fixed = 0.3, 0, 0
    looks = np.arange(200, 4001, 100)
    for _ in range(400):
        right = random.random(4000) < 0.25
        weights = np.where(right, 4.0, 0.0)
        rewards = (random.random(4000) < 0.3).astype(float)
        values = np.cumsum(weights * rewards)[looks - 1], np.cumsum((weights * rewards) ** 2)
        mean = values[0] / looks
        se = np.sqrt((values[1][looks - 1] / looks - mean**2) / looks)
        ends = [
            asymptotic_interval(m, s * s * n, n, alpha=0.1, tuned_n=2000)
            for m, s, n in zip(mean, se, looks, strict=True)
        ]
        wrong += any(end.excludes(truth) for end in ends)
        fixed += bool((np.abs(mean - truth) > 1.645 * se).any())
    assert wrong / 400 <= 0.1
    assert fixed / 400 > 0.3


def test_the_bounded_interval_holds_at_every_look_and_comes_to_the_point() -> None:
    random = np.random.default_rng(4)
    missed = 0
    for _ in range(200):
        weights = np.where(random.random(3000) < 0.2, 5.0, 0.0)
        rewards = (random.random(3000) < 0.3).astype(float)
        found = EmpiricalBernstein.start(0, 1, alpha=0.1, tuned=3000)
        outside = False
        for start in range(0, 3000, 50):
            found = found.add(weights[start : start + 50], rewards[start : start + 50])
            low, high = found.ends()
            outside |= not low <= 0.3 <= high
        missed += outside
        assert 0.1 < low < high < 0.5
    assert missed / 200 <= 0.1


def test_the_bounded_interval_does_not_depend_on_how_the_log_was_cut() -> None:
    log = logged(1000)
    log["reward"] = (log["reward"] > 0).astype(float)
    w, r = log["new"] / log["propensity"], log["reward"]
    whole = EmpiricalBernstein.start(0, 1, alpha=0.05, tuned=10_000).add(w, r)
    parts = EmpiricalBernstein.start(0, 1, alpha=0.05, tuned=10_000).add(w[:0], r[:0])
    for start in range(0, 1000, 77):
        parts = parts.add(w[start : start + 77], r[start : start + 77])
    assert parts.ends() == pytest.approx(whole.ends())
    found = one(log, "new", reward_range=(0, 1)).bounded
    assert (found.low, found.high) == pytest.approx(whole.ends())


def test_bootstrap_and_delta_method_agree() -> None:
    for options in [{}, {"cluster": "day"}]:
        for estimate in one(logged(3000), bootstrap=1000, **options).estimates.values():
            if estimate.bootstrap is not None:
                width = estimate.interval.high - estimate.interval.low
                assert estimate.bootstrap.low == pytest.approx(
                    estimate.interval.low, abs=0.12 * width
                )
                assert estimate.bootstrap.high == pytest.approx(
                    estimate.interval.high, abs=0.12 * width
                )


# ---- sums ------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60),
    cut=st.integers(0, 60),
    far=st.sampled_from([0.0, 1e7]),
)
def test_moments_of_parts_are_those_of_the_whole(values: list[float], cut: int, far: float) -> None:
    rows = np.column_stack([values, np.square(values)]) + far
    first, second = RowMoments(2), RowMoments(2)
    first.add(rows[:cut], None)
    second.add(rows[cut:], None)
    first.merge(second)
    assert first.mean == pytest.approx(rows.mean(axis=0))
    gradient = np.array([2.0, -1.0])
    expected = gradient @ np.cov(rows.T) @ gradient / len(rows)
    assert first.variance(gradient) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_clusters_of_one_row_are_rows() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 2))
    apart, plain = ClusterMoments(2), RowMoments(2)
    for start in range(0, 50, 7):
        apart.add(rows[start : start + 7], range(start, min(start + 7, 50)))
    plain.add(rows, None)
    gradient = np.array([1.0, 3.0])
    assert apart.variance(gradient) == pytest.approx(plain.variance(gradient))


# ---- tables, files, an endpoint's Log -----------------------------------------------------------


def test_any_table_and_any_cut_of_a_file_says_the_same(tmp_path: Path) -> None:
    log = logged(CHUNK + 1000)
    table = pa.table(log)
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=10_000)
    (tmp_path / "parts").mkdir()
    pq.write_table(table.slice(0, 100), tmp_path / "parts" / "0.parquet")
    pq.write_table(table.slice(100), tmp_path / "parts" / "1.parquet")
    expected = up.evaluate_policy(table, {"x": by_x, "new": NEW}, context=["x"])
    sources = [pd.DataFrame(log), pl.DataFrame(log), tmp_path / "log.parquet"]
    for source in [*sources, str(tmp_path / "parts")]:
        found = up.evaluate_policy(source, {"x": by_x, "new": NEW}, context=["x"])
        for name in ("x", "new"):
            ours, theirs = found.policies[name].value, expected.policies[name].value
            assert ours.estimate == pytest.approx(theirs.estimate)
            assert ours.low == pytest.approx(theirs.low)
        assert found.difference("x", "new").interval.low == pytest.approx(
            expected.difference("x", "new").interval.low
        )


def test_policies_are_compared_on_the_same_rounds() -> None:
    log = logged(2000)
    near = {"a": 0.1, "b": 0.21, "c": 0.69}
    found = up.evaluate_policy(log, {"new": NEW, "near": near})
    apart = found.difference("new", "near").interval
    values = [found.policies[name].value for name in ("new", "near")]
    assert apart.estimate == pytest.approx(values[0].estimate - values[1].estimate)
    assert apart.high - apart.low < (values[0].high - values[0].low) / 10
    assert "new would earn more than near" in found.difference("new", "near").says
    same = found.difference("near", "new").interval
    assert (same.low, same.high) == pytest.approx((-apart.high, -apart.low))
    with pytest.raises(NotFound, match="No difference"):
        found.difference("new", "nobody")


def test_by_position() -> None:
    log = logged(3000)
    whole = up.evaluate_policy(log, NEW, by="position", model=None)
    assert list(whole.by) == ["0", "1", "2"]
    first = {name: np.asarray(column)[0::3] for name, column in log.items()}
    alone = up.evaluate_policy(first, NEW, model=None)
    assert whole.by["0"].policies["policy"].value.estimate == pytest.approx(
        alone.policies["policy"].value.estimate
    )
    assert sum(part.rounds for part in whole.by.values()) == whole.rounds


def arms(units: list[str | None]) -> tuple[MemoryLog, Any, Any, list[datetime]]:
    random = np.random.default_rng(2)
    at = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=i) for i in range(400)]
    arm = random.choice(["champion", "canary"], 400, p=[0.8, 0.2])
    label = np.where(arm == "canary", 0.6, 0.4) > random.random(400)
    ids = [str(i) for i in range(400)]
    log = MemoryLog(
        "shop",
        pa.table(
            {
                "id": ids,
                "at": at,
                "arm": arm,
                "propensity": np.where(arm == "canary", 0.2, 0.8),
                "score": np.full(400, 0.5),
                "unit": units,
            }
        ),
        pa.table({"id": ids[:390], "label": label[:390].astype(float), "known_at": at[:390]}),
    )
    return log, arm[:390], label[:390], at


CANARY = {"champion": 0.0, "canary": 1.0}


def test_the_arms_of_an_endpoint() -> None:
    log, arm, label, at = arms([None] * 400)
    found = up.evaluate_policy(log, CANARY, known_by=at[-1])
    assert (found.rounds, found.waiting) == (390, 10)
    assert found.policies["policy"].estimates["SNIPS"].interval.estimate == pytest.approx(
        label[arm == "canary"].mean()
    )
    early = up.evaluate_policy(log, CANARY, known_by=at[99])
    assert early.rounds == 100


def test_a_unit_of_an_endpoint_is_one_draw_of_its_route() -> None:
    log, *_, at = arms([str(i // 8) for i in range(400)])
    by_unit = up.evaluate_policy(log, CANARY, known_by=at[-1])
    same = up.evaluate_policy(log, CANARY, known_by=at[-1], cluster="unit")
    rows = up.evaluate_policy(log, CANARY, known_by=at[-1], cluster="id")
    assert by_unit.policies["policy"].value == same.policies["policy"].value
    assert by_unit.policies["policy"].value != rows.policies["policy"].value


# ---- what can't be said --------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -0.1, None, math.nan, math.inf])
def test_no_propensities_no_estimate(bad: float | None) -> None:
    log = logged(50)
    log["propensity"] = [*log["propensity"][:-1], bad]
    with pytest.raises(Invalid, match="Round 49"):
        up.evaluate_policy(log, NEW)
    del log["propensity"]
    with pytest.raises(Invalid, match="no propensities"):
        up.evaluate_policy(log, NEW)


@pytest.mark.parametrize(
    ("change", "policy", "options", "says"),
    [
        ({}, {"a": 0.5}, {}, "sum to 0.5"),
        ({}, {"a": 2.0, "b": -1.0}, {}, "shares"),
        ({}, {"x": 1.0}, {}, "No action of 'policy' is in the log"),
        ({}, "nwe", {}, "Did you mean 'new'"),
        ({}, [1.0], {}, "is no policy"),
        ({}, {"p": 3, "q": "new"}, {}, "'p' is no policy"),
        ({}, {}, {}, "is no policy"),
        ({}, lambda table: np.ones(3), {}, "answered an array"),
        ({}, lambda table: {"a": 0.5}, {}, "sum to 0.5 in a round"),
        ({}, lambda table: np.full(len(table), 2.0), {}, "between 0 and 1"),
        ({}, NEW, {"reward": "rewrad"}, "Did you mean 'reward'"),
        ({}, NEW, {"context": ["z"]}, "no column 'z'"),
        ({}, NEW, {"model": lambda table: 3}, "answered a int"),
        ({}, NEW, {"alpha": 0}, "alpha"),
        ({}, NEW, {"folds": 1}, "folds"),
        ({}, NEW, {"bootstrap": -1}, "bootstrap"),
        ({}, NEW, {"tuned_rounds": 0}, "tightest"),
        ({}, NEW, {"reward_range": (0, 1)}, "outside"),
        ({}, NEW, {"reward_range": (1, 0)}, "no range"),
        ({}, NEW, {"by": "x"}, "more than 50"),
        ({"reward": ["no"] * 300}, NEW, {}, "no numbers"),
        ({"reward": [math.inf] * 300}, NEW, {}, "finite"),
        ({"reward": [None] * 300}, NEW, {}, "no round"),
        ({"action": [None] * 300}, NEW, {}, "no action"),
        ({"action": [["a"]] * 300}, NEW, {}, "'action' has lists"),
        ({"day": [[1]] * 300}, NEW, {"cluster": "day"}, "'day' has lists"),
    ],
)
def test_what_makes_no_sense_is_refused(
    change: dict[str, Any], policy: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        up.evaluate_policy(logged(300) | change, policy, **options)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        up.evaluate_policy(tmp_path / "log.parquet", NEW)
    pq.write_table(pa.table(logged(10)), tmp_path / "0.parquet")
    pq.write_table(pa.table(logged(10)).drop_columns(["reward"]), tmp_path / "1.parquet")
    with pytest.raises(Invalid, match=r"1\.parquet has no column 'reward'"):
        up.evaluate_policy(tmp_path, NEW)
    (tmp_path / "log.parquet").write_text("no")
    with pytest.raises(Invalid, match="not a Parquet file"):
        up.evaluate_policy(tmp_path / "log.parquet", NEW)


def test_actions_without_support_are_named() -> None:
    found = one(logged(2000), {"a": 0.2, "b": 0.2, "c": 0.3, "d": 0.3})
    assert found.unsupported == {"d": pytest.approx(0.3)}
    assert "'d' (30.0%)" in found.warnings[0]
    assert one(logged(2000)).warnings == ()


def test_wrong_propensities_are_noticed_and_true_ones_are_not() -> None:
    log = logged(5000)
    assert up.evaluate_policy(log, NEW).warnings == ()
    wrong = np.where(log["action"] == "a", 0.5, 0.25)
    found = up.evaluate_policy(log | {"propensity": wrong}, NEW)
    assert "not how often" in found.warnings[0]
    assert (
        "greater than 1"
        in (up.evaluate_policy(log | {"propensity": log["propensity"] * 2}, NEW).warnings[0])
    )


def test_few_rounds_are_said_to_be_few() -> None:
    log = logged(300)
    rare = np.where(log["action"] == "c", 0.001, 0.9)
    found = one(log | {"propensity": rare})
    assert found.effective_rounds < 100 or found.warnings
    assert any("mean" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "log",
    [
        {"action": ["c"], "reward": [1.0], "propensity": [0.5]},
        {"action": ["c", "a"], "reward": [1.0, 1.0], "propensity": [0.5, 0.5]},
        {"action": ["c"] * 9, "reward": [True] * 9, "propensity": [1.0] * 9},
        {"action": ["z"] * 9 + ["c"], "reward": [0] * 10, "propensity": [0.9] * 10},
    ],
)
def test_a_log_that_says_little_gives_no_traceback_and_no_certainty(log: dict[str, Any]) -> None:
    for options in [{}, {"model": None}, {"bootstrap": 20}]:
        found: OffPolicy = up.evaluate_policy(log, NEW, **options)
        assert "nan" not in found.says
        for estimate in found.policies["policy"].estimates.values():
            ends = estimate.interval
            assert estimate.why or ends.low < ends.high


def test_text_and_gaps_in_the_context() -> None:
    log = logged(2000)
    plan = np.where(np.arange(2000) % 2, "gold", "none")
    log |= {"plan": [None if i < 5 else one for i, one in enumerate(plan)]}
    log["x"] = [None, math.inf, *log["x"][2:]]
    log["reward"] = log["reward"] + 5.0 * (plan == "gold")
    plain, told = one(log), one(log, context=["plan", "x"])
    assert told.value.high - told.value.low < 0.7 * (plain.value.high - plain.value.low)
    with pytest.raises(Invalid, match="context 'day'"):
        one(log | {"day": [datetime(2025, 1, 1, tzinfo=UTC)] * 2000}, context=["day"])
