"""Profiles: every row is counted once, and parts on the same bins add up to the whole."""

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid, NotFound
from upturn.core.schema import ColumnProfile, Profile
from upturn.model.profile import count_into, merge, profile_column, profile_table, recount

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)
FEW = st.integers(-3, 3).map(float)
NUMBERS = st.lists(st.one_of(FINITE, FEW, st.none(), st.just(math.nan)), max_size=200)
TEXTS = st.lists(st.one_of(st.sampled_from("abcdefg"), st.text(max_size=3), st.none()), max_size=80)


def column(values: list[Any], kind: pa.DataType) -> ColumnProfile:
    found = profile_column("x", pa.array(values, kind))
    assert found is not None
    return found


def total(profile: ColumnProfile) -> int:
    return sum(profile.counts) + profile.missing + profile.other


@given(NUMBERS, st.integers(1, 30))
def test_numbers_fall_in_one_bin_each(values: list[float | None], bins: int) -> None:
    found = profile_column("x", pa.array(values, pa.float64()), bins=bins)
    assert found is not None
    present = [x for x in values if x is not None and not math.isnan(x)]
    assert total(found) == found.count == len(values)
    assert found.missing == len(values) - len(present)
    same = len(set(present)) == 1 and math.isfinite(present[0])  # below, that value, above
    assert len(found.counts) == len(found.edges) + 1 <= (3 if same else bins)
    assert all(a < b for a, b in itertools.pairwise(found.edges))
    assert all(found.counts) or same or not present  # no bin is empty
    bounds = [-math.inf, *found.edges, math.inf]
    counted = [sum(low < x <= high for x in present) for low, high in itertools.pairwise(bounds)]
    assert list(found.counts) == counted
    if present:
        assert found.low == min(present)
        assert found.high == max(present)
        size = scale(present) or 1.0  # squares of very great and very small numbers are no numbers
        scaled = np.array(present) / size
        assert found.mean == pytest.approx(np.mean(scaled) * size, rel=1e-9, abs=1e-9 * size)
        assert found.std == pytest.approx(np.std(scaled) * size, rel=1e-6, abs=1e-9 * size)


def scale(values: list[float]) -> float:
    return max(abs(x) for x in values)


@given(st.integers(20, 400), st.integers(0, 99))
def test_without_ties_bins_hold_equal_shares(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(rows) / 7
    found = profile_column("x", pa.array(values))
    assert found is not None
    assert len(found.counts) == 20
    assert set(found.counts) <= {rows // 20, -(-rows // 20)}


@given(TEXTS)
def test_categories_are_counted_once_each(values: list[str | None]) -> None:
    found = column(values, pa.string())
    assert total(found) == found.count == len(values)
    assert {value: values.count(value) for value in found.values} == dict(
        zip(found.values, found.counts, strict=True)
    )
    assert list(found.counts) == sorted(found.counts, reverse=True)


@given(NUMBERS, TEXTS)
def test_a_sample_counted_on_its_own_bins_is_its_profile(
    numbers: list[float | None], texts: list[str | None]
) -> None:
    for values, kind in ((numbers, pa.float64()), (texts, pa.string())):
        found = column(values, kind)
        again = count_into(found, pa.array(values, kind))
        assert (again.counts, again.missing) == (found.counts, found.missing)
        assert again.unseen == found.other == 0


@given(NUMBERS, NUMBERS)
def test_any_sample_can_be_counted_on_the_bins_of_another(
    before: list[float | None], after: list[float | None]
) -> None:
    found = count_into(column(before, pa.float64()), pa.array(after, pa.float64()))
    assert sum(found.counts) + found.missing == len(after)


@given(NUMBERS, TEXTS, st.integers(0, 200))
def test_parts_add_up_to_the_whole(
    numbers: list[float | None], texts: list[str | None], cut: int
) -> None:
    for values, kind in ((numbers, pa.float64()), (texts, pa.string())):
        whole = column(values, kind)
        parts = [recount(whole, pa.array(part, kind)) for part in (values[:cut], values[cut:])]
        first, second = (Profile(rows=part.count, columns=(part,)) for part in parts)
        merged = merge(first, second)
        assert merged.rows == len(values)
        (joined,) = merged.columns
        assert (joined.count, joined.missing) == (whole.count, whole.missing)
        assert (joined.counts, joined.other) == (whole.counts, whole.other)
        assert (joined.low, joined.high) == (whole.low, whole.high)
        assert joined == whole


def test_constants_and_few_valued_numbers_have_as_many_bins_as_values() -> None:
    assert column([5, 5, 5, None], pa.int64()).counts == (0, 3, 0)
    few = column([0] * 97 + [1] * 2 + [2], pa.int8())
    assert (few.edges, few.counts) == ((0.0,), (97, 3))
    dice = column([1, 2, 3, 4, 5, 6] * 50, pa.int64())
    assert (dice.edges, dice.counts) == ((1.0, 2.0, 3.0, 4.0, 5.0), (50,) * 6)
    assert column([None, None], pa.float64()).counts == (0,)
    assert column([], pa.float64()).mean is None


def test_infinities_are_counted_but_have_no_mean() -> None:
    found = column([-math.inf, 1.0, 3.0, math.inf, math.nan], pa.float64())
    assert (sum(found.counts), found.missing) == (4, 1)
    assert (found.mean, found.low, found.high) == (2.0, 1.0, 3.0)


def test_booleans_and_categories_are_categories() -> None:
    found = column([True, False, True, None], pa.bool_())
    assert (found.kind, found.values, found.counts) == ("category", ("true", "false"), (2, 1))
    coded = profile_column("x", pa.array(["b", "a", "b"]).dictionary_encode())
    assert coded is not None
    assert coded.values == ("b", "a")
    assert count_into(coded, pa.array(["c", "a"])).unseen == 1


def test_the_rarest_of_many_categories_are_others() -> None:
    values = [f"N{i:03}" for i in range(150) for _ in range(200 - i)]
    found = column(values, pa.string())
    assert found.values == tuple(f"N{i:03}" for i in range(100))
    assert found.other == sum(200 - i for i in range(100, 150))


def test_a_table_is_profiled_by_column() -> None:
    table = pa.table({"a": [1.0], "l": [[1]], "t": pa.array([0], pa.timestamp("ns"))})
    found = profile_table(table)
    assert [one.name for one in found.columns] == ["a", "t"]
    assert [one.name for one in profile_table(table, ["a"]).columns] == ["a"]
    with pytest.raises(NotFound, match="no column 'z'"):
        profile_table(table, ["z"])


def test_profiles_on_different_bins_are_not_merged() -> None:
    one, other = (profile_table(pa.table({"a": values})) for values in ([1, 2, 3], [4, 5, 6]))
    with pytest.raises(Invalid, match="different bins"):
        merge(one, other)
    with pytest.raises(Invalid, match="different columns"):
        merge(one, profile_table(pa.table({"b": [1]})))
