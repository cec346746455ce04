"""Profiles are exact: the same rows have the same one, bit for bit, however they come."""

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upturn as up
from upturn.core.errors import Invalid, NotFound
from upturn.core.schema import Profile
from upturn.model.profile import merge, profile_source, profile_table, recount
from upturn.model.profile_categories import rank
from upturn.model.profile_counts import count_by, count_into
from upturn.model.profile_edges import order_statistics
from upturn.model.profile_source import open_source
from upturn.model.profile_sums import opened, sums_of

ANY = st.floats(allow_nan=False)
# Numbers that are neighbours in size, and such as are farther apart than a sum of floats could say.
NUMBERS = st.one_of(
    st.lists(ANY, max_size=60),
    st.lists(st.floats(-1e3, 1e3), max_size=60),
    st.lists(st.sampled_from([0.1, -0.0, 0.0, 5e-324, 1e-300, 1e16, 1e300, math.inf]), max_size=60),
)
TEXTS = st.lists(st.one_of(st.sampled_from("abcdefg"), st.none()), max_size=60)


@given(NUMBERS)
def test_sums_are_those_of_fractions(values: list[float]) -> None:
    finite = [Fraction(x) for x in values if math.isfinite(x)]
    found = sums_of(np.array(values, np.float64))
    assert found.count == len(finite)
    assert found.total == sum(finite) * 2**1074
    assert found.squares == sum(x * x for x in finite) * 2**2148
    assert opened(found.stored) == found


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40))
def test_moments_are_correctly_rounded(values: list[float]) -> None:
    found = sums_of(np.array(values, np.float64))
    exact = [Fraction(x) for x in values]
    mean = sum(exact) / len(exact)
    assert found.mean == float(mean)
    variance = sum((x - mean) ** 2 for x in exact) / len(exact)
    assert found.std is not None
    # √ of the exact variance, by comparing squares: one unit in the last place away at most.
    assert Fraction(math.nextafter(found.std, 0)) ** 2 <= variance
    assert variance <= Fraction(math.nextafter(found.std, math.inf)) ** 2


@given(NUMBERS, TEXTS, st.randoms(use_true_random=False), st.integers(1, 9))
def test_parts_in_any_order_are_the_whole(
    numbers: list[float], texts: list[str | None], random: Any, bins: int
) -> None:
    count = min(len(numbers), len(texts))
    rows = list(zip(numbers[:count], texts[:count], strict=True))
    whole = profile_table(table(rows), bins=bins)
    random.shuffle(rows)
    assert profile_table(table(rows), bins=bins) == whole
    cuts = sorted(random.randint(0, count) for _ in range(3))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    merged = recounted(whole, parts[0])
    for part in parts[1:]:
        merged = merge(merged, recounted(whole, part))
    assert merged == whole
    stored = msgspec.json.decode(msgspec.json.encode(merged), type=Profile)
    assert stored == merged


def table(rows: list[tuple[float, str | None]]) -> pa.Table:
    return pa.table(
        {
            "x": pa.array([x for x, _ in rows], pa.float64()),
            "t": pa.array([text for _, text in rows], pa.string()),
        }
    )


def recounted(whole: Profile, rows: list[tuple[float, str | None]]) -> Profile:
    part = table(rows)
    columns = tuple(recount(one, part[one.name]) for one in whole.columns)
    return Profile(rows=len(rows), columns=columns)


def mixed(rows: int = 3000) -> pa.Table:
    random = np.random.default_rng(7)
    some = random.random(rows) < 0.1
    return pa.table(
        {
            "float": pa.array(np.exp(3 * random.normal(size=rows)), mask=some),
            "single": pa.array(random.normal(size=rows).astype(np.float32)),
            "int": pa.array(random.integers(-5, 400, rows), mask=some),
            "flag": pa.array(random.random(rows) < 0.3, mask=some),
            "text": pa.array(random.choice(["a", "b", "c"], rows), mask=some),
            "many": pa.array([f"id {i}" for i in random.integers(0, 900, rows)]),
            "day": pa.array(random.integers(0, 300, rows), pa.int32()).cast(pa.date32()),
            "at": pa.array(random.integers(0, 10**15, rows), pa.timestamp("us")),
            "none": pa.nulls(rows),
            "list": pa.array([[1]] * rows),
        }
    )


@pytest.mark.parametrize("group", [100, 1024, 5000])
def test_a_file_has_the_profile_of_its_table(tmp_path: Path, group: int) -> None:
    whole = mixed()
    pq.write_table(whole, tmp_path / "whole.parquet", row_group_size=group)
    for place in range(3):
        part = whole.slice(1000 * place, 1000)
        pq.write_table(part, tmp_path / f"part-{place}.parquet", row_group_size=group)
    expected = up.profile(whole)
    assert [one.name for one in expected.columns] == whole.column_names[:-1]
    assert up.profile(tmp_path / "whole.parquet", threads=2) == expected
    assert up.profile(str(tmp_path / "part-*.parquet")) == expected
    source = open_source(tmp_path / "whole.parquet")
    assert profile_source(source, in_memory=10) == expected


@settings(max_examples=40)
@given(st.lists(st.one_of(ANY, st.integers(0, 5).map(float)), min_size=1, max_size=60), st.data())
def test_selection_finds_what_sorting_finds(values: list[float], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=6))
    cut = data.draw(st.integers(0, len(values)))
    blocks = [np.array(values[:cut]), np.array([math.nan]), np.array(values[cut:])]
    found, upto = order_statistics(lambda: blocks, places)
    ordered = np.sort(values)
    assert found.tolist() == ordered[places].tolist()
    assert upto.tolist() == np.searchsorted(ordered, found, side="right").tolist()


def test_of_very_many_values_the_frequent_ones_are_found_in_bounded_memory() -> None:
    random = np.random.default_rng(3)
    texts = [f"id {i}" for i in range(150_000)] + ["often"] * 40 + ["seldom"] * 2
    texts = [texts[i] for i in random.permutation(len(texts))]
    arrays = [pa.array(texts[begin : begin + 20_000]) for begin in range(0, len(texts), 20_000)]
    found = rank(lambda: arrays, 100, distinct=70_000)
    assert (found.values, found.counts) == (("often",), (40,))
    assert found.other == len(texts) - 40
    again = rank(lambda: [pa.array(texts[::-1])], 100, distinct=70_000)
    assert again == found
    ranked = rank(lambda: arrays, 3)  # few enough: all are counted
    assert ranked.values == ("often", "seldom", "id 0")


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats()), st.integers(-1, 2)), max_size=50),
    st.integers(1, 12),
)
def test_groups_add_up(rows: list[tuple[float | None, int]], bins: int) -> None:
    values = pa.array([x for x, _ in rows], pa.float64())
    column = profile_table(pa.table({"x": values}), bins=bins).columns[0]
    groups = np.array([group for _, group in rows], np.int64)
    found = count_by(column, values, groups, 3)
    for group in range(3):
        own = values.filter(pa.array(groups == group))
        assert found[group].tolist() == count_by(column, own)[0].tolist()
    assert found.sum() == np.count_nonzero(groups >= 0)


def test_dictionaries_are_counted_as_their_values() -> None:
    codes = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 2, None], pa.int32()), pa.array(["a", None, "b"])
    )
    column = profile_table(pa.table({"t": ["a", "a", "c"]})).columns[0]
    found = count_into(column, codes)
    assert (found.counts, found.missing, found.unseen) == ((1, 0), 2, 2)
    of_codes = profile_table(pa.table({"t": codes})).columns[0]
    assert dict(zip(of_codes.values, of_codes.counts, strict=True)) == Counter({"b": 2, "a": 1})
    assert of_codes.missing == 2


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No file"):
        up.profile(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(Invalid, match="can't be read"):
        up.profile(tmp_path / "text.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="has no files"):
        up.profile(tmp_path / "empty")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": [1]}), tmp_path / "2.parquet")
    with pytest.raises(Invalid, match="different columns"):
        up.profile(str(tmp_path / "?.parquet"))
    with pytest.raises(NotFound, match="no column 'c'"):
        up.profile({"a": [1]}, columns=["c"])
    with pytest.raises(Invalid, match="not a table"):
        up.profile(3)
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n2,y\n")
    assert up.profile(tmp_path / "rows.csv").rows == 2


def test_a_profile_from_before_there_were_sums_is_still_merged() -> None:
    whole = profile_table(pa.table({"x": [1.0, 2.0, 4.0, 8.0]}))
    old = msgspec.structs.replace(whole.columns[0], sums=None)
    (found,) = merge(Profile(rows=4, columns=(old,)), whole).columns
    assert found.mean == pytest.approx(3.75)
    assert found.std == pytest.approx(np.std([1, 2, 4, 8]))
    assert found.sums is None
