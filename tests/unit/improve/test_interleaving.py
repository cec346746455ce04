"""Interleaving: lists made of two rankings, whose clicks they are, and what may be concluded."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from upturn.core.errors import Invalid
from upturn.improve.experiment.interleaving import (
    balanced,
    balanced_winner,
    preference,
    team_draft,
    winner,
)

RANKINGS = st.permutations(range(7)).map(tuple)


@given(a=RANKINGS, b=RANKINGS, length=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_a_list_holds_each_item_once_and_both_teams_are_as_large(
    a: tuple[int, ...], b: tuple[int, ...], length: int, seed: int
) -> None:
    shown = team_draft(a, b, length=length, seed=seed)
    assert len(set(shown.items)) == len(shown.items) == min(length, 7)
    assert shown == team_draft(a, b, length=length, seed=seed)
    teams = Counter(shown.teams)
    assert abs(teams["a"] - teams["b"]) <= 1
    # Each pick is the best of its ranking that was not there yet.
    for place, (item, team) in enumerate(zip(shown.items, shown.teams, strict=True)):
        if team:
            rank = a if team == "a" else b
            assert item == next(one for one in rank if one not in shown.items[:place])


@given(a=RANKINGS, b=RANKINGS, length=st.integers(1, 7), seed=st.integers(0, 2**32))
def test_a_balanced_list_has_the_top_of_both(
    a: tuple[int, ...], b: tuple[int, ...], length: int, seed: int
) -> None:
    shown = balanced(a, b, length=length, seed=seed)
    for depth in range(1, len(shown.items) + 1):
        top = set(shown.items[:depth])
        # For some k, exactly the top k of one and the top k or k - 1 of the other.
        assert any(
            top
            in (set(a[:k]) | set(b[:k]), set(a[:k]) | set(b[: k - 1]), set(a[: k - 1]) | set(b[:k]))
            for k in range(1, depth + 1)
        )


def test_random_clicks_prefer_nobody_by_team_draft_and_somebody_by_balanced_lists() -> None:
    a, b = (1, 2, 3), (2, 3, 1)
    drafted: Counter[str | None] = Counter()
    merged: Counter[str | None] = Counter()
    for seed, clicked in itertools.product(range(4000), a):
        drafted[winner(team_draft(a, b, length=3, seed=seed), [clicked])] += 1
        merged[balanced_winner(a, b, balanced(a, b, length=3, seed=seed), [clicked])] += 1
    assert merged["b"] == 2 * merged["a"] == 8000
    won = drafted["a"] + drafted["b"]
    assert abs(drafted["b"] - won / 2) < 4 * math.sqrt(won * 3 / 4)  # three clicks share a list


def test_a_ranking_that_ends_early_does_not_lose_by_it() -> None:
    votes: Counter[str] = Counter()
    for seed in range(2000):
        votes.update(team_draft([1], [2, 3, 4, 5], length=5, seed=seed).teams)
    assert votes["a"] == votes["b"] == 2000
    assert votes[""] == 6000


def test_clicks_on_what_was_not_shown_count_for_nobody() -> None:
    shown = team_draft(["x", "y"], ["z", "w"], length=2, seed=1)
    assert winner(shown, ["q"]) is None
    assert winner(shown, []) is None
    assert winner(shown, shown.items) is None
    assert balanced_winner(["x"], ["z"], balanced(["x"], ["z"], length=2, seed=1), []) is None


@given(k=st.integers(0, 400), m=st.integers(0, 400), alpha=st.sampled_from([0.01, 0.05, 0.2]))
def test_the_fixed_interval_is_clopper_and_pearsons(k: int, m: int, alpha: float) -> None:
    found = preference(["b"] * k + ["a"] * m, alpha=alpha)
    if k + m == 0:
        assert math.isnan(found.fixed.estimate)
        assert (found.fixed.low, found.fixed.high) == (0, 1)
        assert "nothing can be said" in found.says
        return
    low, high = proportion_confint(k, k + m, alpha=alpha, method="beta")
    assert (found.fixed.low, found.fixed.high) == pytest.approx((low, high), abs=1e-9)
    assert found.fixed.p_value == pytest.approx(stats.binomtest(k, k + m).pvalue, rel=1e-8)
    assert found.anytime.low <= found.fixed.low + 1e-9
    assert found.anytime.high >= found.fixed.high - 1e-9
    # The interval and the p-value are one statement.
    assert found.anytime.excludes(0.5) == (found.anytime.p_value < alpha)


def test_p_values_are_right_far_out() -> None:
    assert preference(["b"] * 1000).fixed.p_value == pytest.approx(2 * 0.5**1000, rel=1e-9)


def test_whoever_looks_all_the_time_is_wrong_as_seldom_as_said() -> None:
    random = np.random.default_rng(5)
    n = np.arange(1, 1001)
    k = np.cumsum(random.random((2000, 1000)) < 0.5, axis=1)
    from scipy.special import gammaln

    log_e = gammaln(k + 1) + gammaln(n - k + 1) - gammaln(n + 2) + n * math.log(2)
    wrong = (log_e.max(axis=1) >= math.log(20)).mean()
    one = preference(["b"] * int(k[0, 99]) + ["a"] * int(100 - k[0, 99]))
    assert one.anytime.p_value == pytest.approx(min(1.0, math.exp(-log_e[0, 99])))
    assert wrong < 0.05
    # A test for one look, looked at all the time, is not.
    z = np.abs(2 * k - n) / np.sqrt(n)
    assert (z[:, 99:].max(axis=1) > 1.96).mean() > 0.2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: team_draft([1, 1], [2], length=2, seed=1), "1 more than once"),
        (lambda: team_draft([1], [2], length=0, seed=1), "0 items"),
        (lambda: preference(["c"]), "not 'c'"),
        (lambda: preference(["a"], alpha=2), "alpha is 2"),
    ],
)
def test_what_makes_no_sense_is_refused(call, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        call()
