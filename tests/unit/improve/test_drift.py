"""Drift is nothing on the same data, near its noise on data of the same kind, large on other."""

import math
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.schema import ColumnProfile, Profile
from upturn.improve.monitor.distances import ks, psi
from upturn.improve.monitor.drift import drift, observed


def number_profile(name: str, values: np.ndarray, bins: int = 10) -> ColumnProfile:
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return ColumnProfile(
        name=name,
        kind="number",
        count=len(values),
        missing=int(np.isnan(values).sum()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


CARRIER = ColumnProfile(
    name="carrier",
    kind="category",
    count=100,
    missing=10,
    values=("AA", "UA"),
    counts=(40, 40),
    other=10,
)


def test_without_drift_psi_is_its_noise_on_average() -> None:
    random = np.random.default_rng(1)
    found = []
    for _ in range(300):
        profile = Profile(rows=2000, columns=(number_profile("x", random.normal(size=2000)),))
        found += drift(profile, pa.table({"x": random.normal(size=500)}))
    noise = found[0].psi_noise
    assert noise == pytest.approx(9 * (1 / 2000 + 1 / 500))
    assert np.mean([one.psi for one in found]) == pytest.approx(noise, rel=0.15)
    assert np.quantile([one.excess for one in found], 0.99) < 0.05


def test_a_shift_is_seen() -> None:
    random = np.random.default_rng(2)
    before, after = random.normal(size=5000), random.normal(1, 1, size=5000)
    profile = Profile(rows=5000, columns=(number_profile("x", before),))
    (one,) = drift(profile, pa.table({"x": after}))
    # Two normals one standard deviation apart have a divergence of exactly 1, less what bins hide.
    assert 0.8 < one.excess < 1.0
    assert one.ks is not None
    assert one.ks_error is not None
    points = [*before, *after]
    below = (
        np.searchsorted(np.sort(sample), points, "right") / len(sample)
        for sample in (before, after)
    )
    exact = np.abs(np.subtract(*below)).max()
    assert one.ks <= exact <= one.ks + one.ks_error


values = st.lists(st.integers(-5, 5), min_size=1, max_size=60)


@given(values, values)
def test_the_true_ks_distance_is_within_its_bound(before: list[int], after: list[int]) -> None:
    column = number_profile("x", np.array(before, float), bins=4)
    (one,) = drift(Profile(rows=len(before), columns=(column,)), pa.table({"x": after}))
    points = [*before, *after]
    below = (
        np.searchsorted(np.sort(sample), points, "right") / len(sample)
        for sample in (before, after)
    )
    exact = np.abs(np.subtract(*below)).max()
    assert one.ks is not None
    assert one.ks_error is not None
    assert one.ks - 1e-12 <= exact <= one.ks + one.ks_error + 1e-12
    assert one.ks_error <= max(column.counts) / sum(column.counts) + 1e-12


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_psi_is_symmetric_and_not_negative(bins: list[tuple[int, int]]) -> None:
    before, after = (np.array(column) for column in zip(*bins, strict=True))
    there, back = psi(before, after), psi(after, before)
    assert there == pytest.approx(back, nan_ok=True)
    assert math.isnan(there[0]) or there[0] >= 0
    assert psi(before, before)[0] == pytest.approx(0, abs=1e-12) or not before.sum()
    assert ks(before, before)[0] == 0 or not before.sum()


def test_missing_and_unseen_values_are_bins_of_their_own() -> None:
    table = pa.table({"carrier": ["AA"] * 40 + ["UA"] * 40 + ["ZZ"] * 10 + [None] * 10})
    (one,) = drift(Profile(rows=100, columns=(CARRIER,)), table)
    assert one.psi == pytest.approx(0)
    assert (one.missing, one.missing_before, one.unseen, one.unseen_before) == (0.1, 0.1, 0.1, 0.1)
    assert one.ks is None
    (one,) = drift(Profile(rows=100, columns=(CARRIER,)), pa.table({"carrier": ["ZZ"] * 100}))
    assert one.unseen == 1
    assert one.psi > 2
    numbers = number_profile("x", np.arange(100.0))
    (one,) = drift(Profile(rows=100, columns=(numbers,)), pa.table({"x": [math.nan, None] * 50}))
    assert one.missing == 1
    assert one.psi > 2


def test_no_rows_give_nan_and_no_error() -> None:
    (one,) = drift(
        Profile(rows=100, columns=(CARRIER,)), pa.table({"carrier": pa.array([], "string")})
    )
    assert math.isnan(one.psi)
    assert math.isnan(one.excess) or one.excess == 0


def test_columns_that_either_side_lacks_are_left_out() -> None:
    profile = Profile(rows=100, columns=(CARRIER, number_profile("x", np.arange(100.0))))
    table = pa.table({"x": [1, 2], "y": [1, 2], "carrier": ["AA", "UA"]})
    assert [one.column for one in drift(profile, table)] == ["carrier", "x"]
    assert [one.column for one in drift(profile, table, ["x", "z"])] == ["x"]
    assert drift(profile, table.select(["y"])) == []


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array([1, 5, 9]), id="int"),
        pytest.param(pa.array([True, False, None]), id="bool"),
        pytest.param(pa.array(["1", "5.5", "-2e3"]), id="numbers as text"),
        pytest.param(pa.array([None, None], pa.null()), id="only null"),
        pytest.param(pa.array(["N", "S"]), id="no numbers"),
    ],
)
def test_a_number_may_come_in_any_form(column: "pa.Array[Any]") -> None:
    profile = Profile(rows=100, columns=(number_profile("x", np.arange(100.0)),))
    (one,) = drift(profile, pa.table({"x": column}))
    assert one.rows == len(column)
    assert one.missing == (1 if "N" in column.to_pylist() else column.null_count / len(column))


def test_rows_of_the_log_are_seen_under_the_models_names() -> None:
    rows = pa.table(
        {"id": ["a", "b"], "score": [0.5, None], "answer": ["1", "2"], "features.x": [1, 2]}
    )
    assert observed(rows).column_names == ["x", "prediction"]
    assert observed(rows)["prediction"].to_pylist() == [0.5, None]
    named = rows.set_column(1, "score", pa.nulls(2, pa.float64()))
    named = named.set_column(2, "answer", pa.array(['"late"', "null"]))
    assert observed(named)["prediction"].to_pylist() == ["late", None]


def test_a_wide_table_takes_a_tenth_of_a_second() -> None:
    random = np.random.default_rng(1)
    rows = 26_000
    numbers = {f"n{i}": random.normal(size=rows) for i in range(18)}
    texts = {f"c{i}": random.choice(["AA", "UA", "ZZ"], rows) for i in range(4)}
    profile = Profile(
        rows=rows,
        columns=(
            *(number_profile(name, column) for name, column in numbers.items()),
            *(
                ColumnProfile(
                    name=f"c{i}",
                    kind="category",
                    count=9,
                    missing=0,
                    values=("AA", "UA"),
                    counts=(5, 4),
                )
                for i in range(4)
            ),
        ),
    )
    table = pa.table(numbers | texts)
    began = time.process_time()
    assert len(drift(profile, table)) == 22
    assert time.process_time() - began < 0.5  # a busy machine has some slack
