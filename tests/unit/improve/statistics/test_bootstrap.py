"""Bootstrap: draws by their definition, the variance of a dependent series, and coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.improve.statistics.bootstrap import (
    block_draws,
    block_length,
    bootstrap_interval,
    cluster_counts,
    cluster_draws,
    stationary_counts,
    stationary_draws,
)


def alike(n: int, by: float, times: int, seed: int) -> np.ndarray:
    """Series in which neighbours are alike: autoregressions of variance 1, (times, n)."""
    noise = np.random.default_rng(seed).normal(size=(times, n))
    found = noise.copy()
    for at in range(1, n):
        found[:, at] = by * found[:, at - 1] + math.sqrt(1 - by * by) * noise[:, at]
    return found


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32), st.booleans())
def test_as_many_periods_are_drawn_as_there_are(
    n: int, length: int, seed: int, circular: bool
) -> None:
    sums = np.column_stack([np.ones(n), np.arange(n)])
    length = min(length, n)
    for found in (
        cluster_draws(sums, draws=20, seed=seed),
        block_draws(sums, length, draws=20, seed=seed, circular=circular),
        stationary_draws(sums, length, draws=20, seed=seed),
    ):
        assert found.shape == (20, 2)
        assert (found[:, 0] == n).all()
        assert (found[:, 1] <= n * (n - 1)).all()
    if length == n and not circular:  # there is one block alone
        found = block_draws(sums, n, draws=20, seed=seed, circular=False)
        assert (found[:, 1] == n * (n - 1) / 2).all()


def test_blocks_are_of_neighbours() -> None:
    """Of powers of four a total tells which periods were drawn: twice three in a row, and two."""
    sums = np.array([[float(4**k)] for k in range(8)])
    for total in block_draws(sums, 3, draws=60, seed=3)[:, 0].tolist():
        counts = [int(total) // 4**k % 4 for k in range(8)]
        runs = [
            np.bincount([(s + i) % 8 for i in range(3)], minlength=8)
            + np.bincount([(t + i) % 8 for i in range(3)], minlength=8)
            + np.bincount([(u + i) % 8 for i in range(2)], minlength=8)
            for s in range(8)
            for t in range(8)
            for u in range(8)
        ]
        assert any((run == counts).all() for run in runs)


def test_draws_are_the_same_for_a_seed_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = np.random.default_rng(0).normal(size=(50, 2))
    assert (block_draws(sums, 5, seed=7) == block_draws(sums, 5, seed=7)).all()
    assert (block_draws(sums, 5, seed=7) != block_draws(sums, 5, seed=8)).any()
    monkeypatch.setattr("upturn.improve.statistics.bootstrap._CELLS", 10_000)
    found = stationary_draws(sums, 5, draws=500, seed=7)
    assert found.std(axis=0) == pytest.approx(
        stationary_draws(sums, 5, draws=500, seed=8).std(axis=0), rel=0.15
    )


def test_the_variance_of_a_dependent_series() -> None:
    """What the draws of one series vary by is known exactly, from its circular autocovariances."""
    n, length = 300, 20
    row = alike(n, 0.6, 1, seed=1)[0]
    around = np.array([np.roll(row, -lag) @ row / n - row.mean() ** 2 for lag in range(n)])
    lags = np.arange(1, n)
    # Of fixed blocks (Künsch 1989), and of geometric ones (Politis & Romano 1994, lemma 1).
    tapered = around[0] + 2 * (1 - lags[: length - 1] / length) @ around[1:length]
    weights = (1 - lags / n) * (1 - 1 / length) ** lags + lags / n * (1 - 1 / length) ** (n - lags)
    geometric = around[0] + weights @ around[1:]
    sums = row[:, None]
    found = [
        draws.var() / n
        for draws in (
            cluster_draws(sums, draws=20_000, seed=0),
            block_draws(sums, length, draws=20_000, seed=0),
            stationary_draws(sums, length, draws=20_000, seed=0),
        )
    ]
    assert found == pytest.approx([around[0], tapered, geometric], rel=0.04)
    assert found[1] > 1.5 * found[0]


def test_intervals_cover_where_days_are_alike() -> None:
    """Of 120 days that are alike by 0.5, drawn a day at a time, too few hold the truth."""
    held = {"days": 0, "blocks": 0}
    for seed, row in enumerate(alike(120, 0.5, 400, seed=2)):
        sums = row[:, None]
        days = cluster_draws(sums, draws=300, seed=seed)[:, 0] / 120
        blocks = block_draws(sums, 10, draws=300, seed=seed)[:, 0] / 120
        held["days"] += not bootstrap_interval(row.mean(), days, clusters=120).excludes(0.0)
        held["blocks"] += not bootstrap_interval(row.mean(), blocks, clusters=12).excludes(0.0)
    assert held["days"] / 400 < 0.85
    assert held["blocks"] / 400 > 0.92


def test_lengths_of_blocks() -> None:
    calm = np.mean([block_length(row) for row in alike(500, 0.0, 20, seed=4)])
    like = np.mean([block_length(row) for row in alike(500, 0.7, 20, seed=4)])
    assert calm < 4 < 10 < like < 40
    # arch 8's optimal_block_length.
    for by, n, theirs in [
        (0.0, 100, 2.8782075799),
        (0.0, 500, 1.8491325347),
        (0.3, 30, 1.7404849419),
        (0.3, 100, 1.8959281419),
        (0.7, 30, 1.4066242403),
    ]:
        assert block_length(alike(n, by, 1, seed=4)[0]) == pytest.approx(theirs)
    assert block_length([1.0] * 50) == block_length([1.0, 2.0]) == block_length([]) == 1.0


def test_block_lengths_are_those_of_arch() -> None:
    """arch 8.0.0 (Sheppard), optimal_block_length, of series that are alike from day to day."""
    rows = []
    for k in range(5):
        own, shocks = np.zeros(200), _noise(k + 1)
        for day in range(1, 200):
            own[day] = 0.7 * own[day - 1] + shocks[day]
        rows.append(own)
    series = np.array(rows) + _noise(9) + np.array([0, 0.1, 0.25, 0.35, 0.5])[:, None]
    found = [block_length(one) for one in series]
    assert found == pytest.approx([9.3186058, 8.1690005, 8.0563584, 6.4454611, 6.0959460])
    apart = [block_length(series[place] - series[0]) for place in (1, 3, 4)]
    assert apart == pytest.approx([8.1584011, 8.6239092, 6.1726259])


def _noise(k: int) -> np.ndarray:
    """The same numbers in [-0.5, 0.5) on every machine, much as random ones."""
    return np.sin(12.9898 * (np.arange(200) + 1.0) * k + 78.233) * 43758.5453 % 1 - 0.5


@given(st.integers(1, 40), st.floats(1, 60), st.integers(0, 9))
def test_counts_are_those_of_the_draws(n: int, length: float, seed: int) -> None:
    sums = np.random.default_rng(seed).normal(size=(n, 2))
    for counts, draws in [
        (
            stationary_counts(n, length, draws=20, seed=seed),
            stationary_draws(sums, length, draws=20, seed=seed),
        ),
        (cluster_counts(n, draws=20, seed=seed), cluster_draws(sums, draws=20, seed=seed)),
    ]:
        assert counts.shape == (20, n)
        assert (counts.sum(axis=1) == n).all()
        assert counts @ sums == pytest.approx(draws)


def test_long_blocks_draw_neighbours_together() -> None:
    drawn = stationary_counts(200, 40.0, draws=300, seed=1)
    together = np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]
    assert together > 0.9
    single = stationary_counts(200, 1.0, draws=300, seed=1)
    assert abs(np.corrcoef(single[:, :-1].ravel(), single[:, 1:].ravel())[0, 1]) < 0.02


def test_an_interval_for_independent_clusters_is_students() -> None:
    draw = np.random.default_rng(5)
    values = draw.normal(size=(12, 1))
    drawn = cluster_draws(values, draws=20_000, seed=1)[:, 0] / 12
    found = bootstrap_interval(float(values.mean()), drawn, clusters=12)
    half = 2.200985 * values.std(ddof=1) / math.sqrt(12)  # t of 11 degrees of freedom
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)


def test_what_can_not_be_said_and_refusals() -> None:
    assert not bootstrap_interval(1.0, [1.0] * 100, clusters=10).said
    assert not bootstrap_interval(1.0, [0.9, math.nan, 1.1], clusters=10).said
    assert not bootstrap_interval(math.nan, [0.9, 1.1], clusters=10).said
    assert not bootstrap_interval(1.0, [0.9, 1.1], clusters=1).said
    for wrong in (
        lambda: block_draws([[1.0]], 2, seed=0),
        lambda: cluster_draws([1.0, 2.0], seed=0),
        lambda: cluster_draws(np.empty((0, 1)), seed=0),
        lambda: stationary_draws([[1.0]], 0.5, seed=0),
    ):
        with pytest.raises(Invalid):
            wrong()
