"""What experiments estimate is what scipy, statsmodels and tea-tasting estimate."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tea_tasting as tt
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep

import upturn as up
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.contrast import fieller
from upturn.improve.experiment.mismatch import sample_ratio
from upturn.improve.experiment.plan import units_needed

ARMS = {"control": 0.5, "new": 0.5}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    draw = np.random.default_rng(11)
    n = 20_000
    new = draw.random(n) < 0.5
    before = draw.gamma(2, 10, n)
    age = draw.normal(40, 12, n)
    revenue = 0.5 * before + 0.2 * age + draw.gamma(2, 5, n) + 0.6 * new + 0.02 * before * new
    views = draw.poisson(8, n) + 1
    return pd.DataFrame(
        {
            "arm": np.where(new, "new", "control"),
            "revenue": revenue,
            "before": before,
            "age": age,
            "views": views,
            "clicks": draw.binomial(views, np.where(new, 0.31, 0.3)),
            "bought": draw.random(n) < np.where(new, 0.12, 0.11),
            "variant": new.astype(int),
        }
    )


def effect(table: Any, metric: Any, **options: Any) -> Any:
    options = {"method": "fixed", "arms": ARMS} | options
    return up.Experiment("x", metrics=[metric], **options).analyze(table).effects[0]


def halves(table: pd.DataFrame, name: str) -> tuple[Any, Any]:
    new = table["arm"] == "new"
    return table.loc[~new, name].astype(float), table.loc[new, name].astype(float)


def test_a_mean_is_welchs(table: pd.DataFrame) -> None:
    found = effect(table, up.Mean("revenue"))
    control, new = halves(table, "revenue")
    welch = stats.ttest_ind(new, control, equal_var=False)
    interval = welch.confidence_interval()
    assert found.difference.estimate == pytest.approx(new.mean() - control.mean(), rel=1e-12)
    assert found.difference.p_value == pytest.approx(welch.pvalue, rel=1e-6)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (interval.low, interval.high), rel=1e-9
    )
    few = effect(table.head(9), up.Mean("revenue"))
    control, new = halves(table.head(9), "revenue")
    welch = stats.ttest_ind(new, control, equal_var=False)
    assert few.difference.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert few.difference.low == pytest.approx(welch.confidence_interval().low, rel=1e-9)


def test_a_proportion_is_walds(table: pd.DataFrame) -> None:
    found = effect(table, up.Proportion("bought"))
    control, new = halves(table, "bought")
    low, high = confint_proportions_2indep(
        int(new.sum()), len(new), int(control.sum()), len(control), method="wald"
    )
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), rel=1e-3)


def test_a_ratio_and_cuped_are_tea_tastings(table: pd.DataFrame) -> None:
    reference = tt.Experiment(
        ratio=tt.RatioOfMeans("clicks", "views", use_t=False),
        cuped=tt.Mean("revenue", "before", use_t=False),
        mean=tt.Mean("revenue", use_t=False),
    ).analyze(table, control=0)
    metrics = {
        "ratio": up.Ratio("clicks", "views"),
        "cuped": up.Mean("revenue", covariate="before"),
        "mean": up.Mean("revenue"),
    }
    for name, metric in metrics.items():
        found, wanted = effect(table, metric), reference[name]
        assert found.difference.estimate == pytest.approx(wanted.effect_size, rel=2e-3)
        assert found.difference.low == pytest.approx(wanted.effect_size_ci_lower, rel=5e-3)
        assert found.difference.high == pytest.approx(wanted.effect_size_ci_upper, rel=5e-3)
        # Theirs is the delta method on the logarithm, ours is Fieller's.
        assert found.lift.estimate == pytest.approx(wanted.rel_effect_size, rel=3e-3)
        assert found.lift.low == pytest.approx(wanted.rel_effect_size_ci_lower, rel=0.01)
        assert found.lift.high == pytest.approx(wanted.rel_effect_size_ci_upper, rel=0.01)


def test_interacted_adjustment_is_lins_regression(table: pd.DataFrame) -> None:
    found = effect(table, up.Mean("revenue", covariate=["before", "age"]), adjustment="interacted")
    new = table["variant"].to_numpy(float)
    x = table[["before", "age"]].to_numpy()
    x = x - x.mean(axis=0)
    design = np.column_stack([np.ones(len(x)), new, x, x * new[:, None]])
    fit = sm.OLS(table["revenue"].to_numpy(), design).fit(cov_type="HC1")
    assert found.difference.estimate == pytest.approx(fit.params[1], rel=1e-9)
    # HC1 takes the covariates' mean for known; what they vary with adds the effects' own spread.
    theta = fit.params[4:]
    known = (found.difference.high - found.difference.low) / 2 / stats.norm.isf(0.025)
    rest = theta @ np.cov(x.T) @ theta / len(x)
    assert known == pytest.approx(math.sqrt(fit.bse[1] ** 2 + rest), rel=1e-3)
    assert found.adjustment == "Lin's interacted regression"


def test_pooled_adjustment_by_several_covariates_is_the_regressions(table: pd.DataFrame) -> None:
    found = effect(table, up.Mean("revenue", covariate=["before", "age"]))
    design = np.column_stack([np.ones(len(table)), table["variant"], table["before"], table["age"]])
    fit = sm.OLS(table["revenue"].to_numpy(), design.astype(float)).fit(cov_type="HC1")
    assert found.difference.estimate == pytest.approx(fit.params[1], rel=1e-3)
    width = (found.difference.high - found.difference.low) / 2 / stats.norm.isf(0.025)
    assert width == pytest.approx(fit.bse[1], rel=2e-3)
    assert found.reduction is not None
    assert found.reduction > 0.5


def test_a_covariate_twice_or_constant_or_missing_changes_nothing(table: pd.DataFrame) -> None:
    once = effect(table, up.Mean("revenue", covariate="before"))
    more = table.assign(again=table["before"] * 1e-9, one=1.0, none=np.nan)
    twice = effect(more, up.Mean("revenue", covariate=["before", "again", "one", "none"]))
    assert twice.difference.low == pytest.approx(once.difference.low, rel=1e-6)
    assert twice.without == 0
    half = table.assign(half=table["before"].where(table.index % 2 == 0))
    some = effect(half, up.Mean("revenue", covariate="half"))
    assert some.without == 0
    assert 0 < some.reduction < once.reduction


def test_clustered_rows_are_as_uncertain_as_their_units(table: pd.DataFrame) -> None:
    rows = table.assign(user=[f"u{i}" for i in range(len(table))])
    rows = rows.loc[rows.index.repeat(3)]
    plain, cluster = (
        effect(data, metric, unit=unit)
        for data, metric, unit in [
            (table, up.Mean("revenue"), None),
            (rows, up.Ratio("revenue"), "user"),
        ]
    )
    assert cluster.difference.low == pytest.approx(plain.difference.low, rel=1e-9)
    assert cluster.units == plain.units
    one = effect(table, up.Quantile("revenue", 0.9))
    three = effect(rows, up.Quantile("revenue", 0.9), unit="user")
    assert three.difference.high - three.difference.low == pytest.approx(
        one.difference.high - one.difference.low, rel=0.02
    )


def test_a_quantile_has_the_error_of_its_density() -> None:
    draw = np.random.default_rng(5)
    n = 40_000
    arm = np.where(draw.random(n) < 0.5, "new", "control")
    x = draw.lognormal(0, 1, n)
    found = effect({"arm": arm, "x": x}, up.Quantile("x", 0.9))
    assert found.value == pytest.approx(np.quantile(x[arm == "new"], 0.9), rel=1e-12)
    density = stats.lognorm(1).pdf(stats.lognorm(1).ppf(0.9))
    error = math.sqrt(0.09 / (n / 2)) / density * math.sqrt(2)
    width = (found.difference.high - found.difference.low) / 2 / stats.norm.isf(0.025)
    assert width == pytest.approx(error, rel=0.1)


def test_winsorising_clips_at_quantiles_of_both_arms(table: pd.DataFrame) -> None:
    found = effect(table, up.Mean("revenue", winsorize=0.99))
    ends = np.quantile(table["revenue"], [0.01, 0.99])
    assert found.clipped == pytest.approx(tuple(ends))
    clipped = table.assign(revenue=table["revenue"].clip(*ends))
    same = effect(clipped, up.Mean("revenue"))
    assert found.difference.low == pytest.approx(same.difference.low, rel=1e-9)


@given(
    st.floats(0.5, 100),
    st.floats(-100, 100),
    st.floats(1e-4, 0.1),
    st.floats(1e-4, 0.1),
    st.floats(0.5, 5),
)
def test_lift_and_difference_exclude_zero_together(
    control: float, arm: float, v_control: float, v_arm: float, reach: float
) -> None:
    low, high = fieller(control, arm, v_control, v_arm, 0.0, reach)
    if math.isinf(low):
        assert abs(control) <= reach * math.sqrt(v_control)
        return
    gap = abs(arm - control) / math.sqrt(v_control + v_arm)
    if abs(gap - reach) > 1e-6:
        assert (low > 0 or high < 0) == (gap > reach)
    assert low - 1e-9 <= (arm - control) / control <= high + 1e-9


def test_planned_units_are_statsmodels() -> None:
    for size in (0.02, 0.1, 0.5):
        wanted = NormalIndPower().solve_power(size, alpha=0.05, power=0.8) * 2
        assert units_needed(Rule("fixed"), size, 4.0, 0.8) == pytest.approx(wanted, abs=2)


@given(st.floats(-12, 12), st.integers(10, 10**7))
def test_p_values_say_what_intervals_say(z: float, n: int) -> None:
    for method in ("anytime", "fixed"):
        rule = Rule(method)
        found = rule.interval(z, 1.0, n)
        if abs(abs(z) - rule.multiplier(n)) > 1e-9:
            assert found.excludes(0.0) == (found.p_value < 0.05)
        assert rule.multiplier(n, 0.01) > rule.multiplier(n) >= 1.95


def test_small_p_values_are_right() -> None:
    assert Rule("fixed").p_value(37.0, 10) == pytest.approx(2 * stats.norm.sf(37.0), rel=1e-10)
    assert Rule("fixed").p_value(300.0, 200, df=200) == pytest.approx(2 * stats.t.sf(300, 200))
    planned = Rule("group-sequential", units=100, looks=(0.5, 1.0)).at(100)
    assert 1e-100 < planned.p_value(20.0, 100) < 1e-80


def test_planned_looks_are_those_of_the_units_that_are_there() -> None:
    rule = Rule("group-sequential", units=1000, looks=(0.5, 1.0))
    assert rule.at(400).multiplier(400) == math.inf
    assert rule.at(400).p_value(9.0, 400) == 1.0
    assert rule.at(700).multiplier(700) == pytest.approx(2.963, abs=1e-3)
    assert rule.at(1000).multiplier(1000) == pytest.approx(1.969, abs=1e-3)
    assert rule.at(1000).p_value(-1.9686, 1000) == pytest.approx(0.05, abs=1e-4)


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=4))
def test_the_sample_ratio_is_tested_by_scipys_bayes_factor(counts: list[int]) -> None:
    shares = np.arange(1, len(counts) + 1) / sum(range(1, len(counts) + 1))
    n = sum(counts)
    mixed = stats.dirichlet_multinomial.logpmf(counts, 10_000 * shares, n)
    factor = mixed - stats.multinomial.logpmf(counts, n, shares)
    names = [f"a{place}" for place in range(len(counts))]
    found = sample_ratio(
        dict(zip(names, counts, strict=True)), dict(zip(names, shares.tolist(), strict=True))
    )
    assert found.p_value == pytest.approx(math.exp(min(0.0, -factor)), rel=1e-4)
    assert found.found == (found.p_value < 0.001)


def test_units_are_pandas_groups(table: pd.DataFrame) -> None:
    draw = np.random.default_rng(3)
    rows = table.assign(user=draw.integers(0, 3000, len(table)))
    rows["arm"] = np.where(rows["user"] % 2 == 0, "control", "new")
    rows["at"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.permutation(len(rows)), "min")
    units = (
        rows.sort_values("at")
        .groupby("user")
        .agg(
            arm=("arm", "first"),
            revenue=("revenue", "sum"),
            most=("revenue", "max"),
            before=("before", "first"),
            bought=("bought", "max"),
        )
    )
    for metric, column, covariate in [
        (up.Mean("revenue", covariate="before"), "revenue", "before"),
        (up.Mean("revenue", within="max"), "most", ()),
        (up.Proportion("bought"), "bought", ()),
    ]:
        made = up.Experiment("x", arms=ARMS, metrics=[metric], unit="user", method="fixed")
        found = made.analyze(rows, at="at").effects[0]
        wanted = effect(units, up.Mean(column, covariate=covariate))
        assert found.difference.low == pytest.approx(wanted.difference.low, rel=1e-9)
