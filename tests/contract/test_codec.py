"""The contract of Codec: values come back as they were, and equal ones are the same bytes."""

import math
import re
import threading
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from polars.testing import assert_frame_equal, assert_series_equal
from polars.testing.parametric import dataframes

from contract.processes import run
from upturn.core.blobstore import BlobStore
from upturn.core.codec import Codec
from upturn.core.errors import Corrupt, Invalid
from upturn.stores.disk import DiskBlobStore
from upturn.stores.values import CODECS, load, pack, save, unpack


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """Return an empty store."""
    return DiskBlobStore(tmp_path / "blobs")


def there_and_back(value: object) -> tuple[str, Any]:
    """Return the codec's name and the value as it comes back."""
    header, parts = pack(value)
    return header.codec, unpack(memoryview(b"".join(parts)))


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal all the way down, in type too; NaN equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) for x, y in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return repr(a) == repr(b)
    return a == b


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes().map(lambda moment: moment.replace(fold=0))
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Path("a/b"), Path("/")])
    | st.frozensets(st.integers() | st.text(max_size=3) | st.binary(max_size=3), max_size=4)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.text(max_size=2)), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=values)
def test_plain_values_come_back(value: object) -> None:
    codec, back = there_and_back(value)
    assert codec == "json"
    assert same(back, value)


@given(value=values)
def test_equal_plain_values_are_the_same_bytes(value: object) -> None:
    _, parts = pack(value)
    again = pack(unpack(memoryview(b"".join(parts))))[1]
    assert b"".join(again) == b"".join(parts)


def test_a_set_is_the_same_bytes_in_every_process() -> None:
    code = """
        from upturn.stores.values import pack
        items = {"b", "a", b"x", b"yy", 3, None, (1, "z"), 2.5}
        print(b"".join(pack([items, frozenset("hello")])[1]).hex())
    """
    assert len({run(code) for _ in range(3)}) == 1


Point = namedtuple("Point", "x y")


class Colour(Enum):
    """A class that pickle can find."""

    RED = 1


def cycle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    "value",
    [
        Point(1, [2]),
        Colour.RED,
        OrderedDict(a=1),
        "\ud800",
        [1, Colour.RED],
        datetime(2013, 4, 1, tzinfo=pd.Timestamp.now(tz="America/New_York").tzinfo),
        range(3),
        1j,
    ],
)
def test_what_is_almost_plain_comes_back_by_pickle(value: object) -> None:
    codec, back = there_and_back(value)
    assert codec == "pickle"
    assert back == value
    assert type(back) is type(value)


def test_cycles_and_depth() -> None:
    back = there_and_back(cycle())[1]
    assert back[0] is back
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    assert there_and_back(deep)[1] == deep
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(Invalid, match="list"):
        pack(deep)
    while deep:  # freeing it all at once would recurse as deep
        deep = deep[0]


dtypes = (
    hnp.scalar_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.unicode_string_dtypes(max_len=4)
    | hnp.byte_string_dtypes(max_len=4)
    | hnp.array_dtypes(max_size=3)
)


@given(array=hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_arrays_come_back_as_views(array: np.ndarray[Any, Any]) -> None:
    for given_ in (array, np.asfortranarray(array), array[..., ::-1] if array.ndim else array):
        codec, back = there_and_back(given_)
        assert codec == "numpy"
        assert back.dtype == given_.dtype
        assert back.shape == given_.shape
        assert back.tobytes() == given_.tobytes()
        assert back.flags.f_contiguous or not given_.flags.f_contiguous
        assert not back.flags.writeable


@pytest.mark.parametrize("value", [np.float64("nan"), np.int8(3), np.str_("é"), np.bool_(True)])
def test_scalars_of_numpy_come_back(value: np.generic) -> None:
    codec, back = there_and_back(value)
    assert codec == "numpy"
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_arrays_that_are_no_raw_bytes_come_back_by_pickle() -> None:
    mixed = np.array([1, "a", None], dtype=object)
    masked = np.ma.MaskedArray([1, 2], mask=[True, False])
    assert there_and_back(mixed)[0] == "pickle"
    assert there_and_back(mixed)[1].tolist() == [1, "a", None]
    assert there_and_back(masked)[1].mask.tolist() == [True, False]


@given(frame=dataframes(max_cols=4, max_size=6, allow_chunks=True))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_polars_frames_come_back(frame: pl.DataFrame) -> None:
    codec, back = there_and_back(frame)
    assert_frame_equal(back, frame, categorical_as_str=True)
    assert back.schema == frame.schema
    assert codec == "arrow" or "128" in str(frame.dtypes)  # such integers Arrow has not


FRAME = pd.DataFrame(
    {
        "int": np.arange(4, dtype="int32"),
        "float": [1.5, np.nan, np.inf, -0.0],
        "text": ["a", None, "é", ""],
        "bool": [True, False, True, True],
        "when": pd.to_datetime(["2013-01-01", None, "2013-01-03", "2013-01-04"]),
        "zone": pd.date_range("2013-01-01", periods=4, tz="America/New_York").to_list(),
        "delta": pd.to_timedelta([1, 2, None, 4], unit="s"),
        "category": pd.Categorical(["x", "y", "x", None], categories=["y", "x"], ordered=True),
        "nullable": pd.array([1, None, 3, 4], dtype="Int64"),
    }
)


BY_ARROW = {
    "all types": FRAME,
    "text index": FRAME.set_index("text"),
    "time index": FRAME.set_index("when"),
    "some rows": FRAME[FRAME["bool"]],
    "no rows": FRAME.iloc[:0],
    "no columns": FRAME[[]],
    "series": FRAME["category"],
    "series without a name": FRAME["float"].rename(None),
    "named index": FRAME.rename_axis("row"),
    "small floats": FRAME.astype({"int": "float32"}),
}
BY_PICKLE = {
    "objects": FRAME.assign(mixed=pd.Series([1, "a", None, [2]], dtype=object)),
    "two indexes": FRAME.set_index(["int", "text"]),
    "numbers as names": FRAME.set_axis(range(9), axis=1),
    "twice a name": FRAME[["int", "int"]],
    "frequency": pd.date_range("2013-01-01", periods=3).to_series(),
    "sparse": pd.DataFrame({"sparse": pd.arrays.SparseArray([0, 0, 1])}),
    "complex": pd.DataFrame({"c": [1j, 2j]}),
    "attributes": pd.DataFrame({"a": [1]}).pipe(lambda frame: frame.attrs.update(x=1) or frame),
}


@pytest.mark.parametrize("name", BY_ARROW)
def test_pandas_tables_come_back_by_arrow(name: str) -> None:
    check_pandas(BY_ARROW[name], "arrow")


@pytest.mark.parametrize("name", BY_PICKLE)
def test_pandas_tables_that_arrow_would_change_come_back_by_pickle(name: str) -> None:
    check_pandas(BY_PICKLE[name], "pickle")


def check_pandas(table: Any, expected: str) -> None:
    codec, back = there_and_back(table)
    assert codec == expected
    check = pd.testing.assert_series_equal
    if isinstance(table, pd.DataFrame):
        check = pd.testing.assert_frame_equal
    check(back, table)
    assert type(back.index) is type(table.index)


def test_a_pandas_frame_can_be_changed_after_it_was_read() -> None:
    _, back = there_and_back(FRAME)
    back.loc[0, "float"] = 9.0
    back["int"] += 1
    assert back["float"][0] == 9.0


def test_tables_of_pyarrow_come_back() -> None:
    table = pa.table({"a": pa.chunked_array([[1, 2], [], [None]]), "b": [["x"], [], None]})
    codec, back = there_and_back(table)
    assert codec == "arrow"
    assert back.equals(table)
    assert back.schema.equals(table.schema)


def test_equal_tables_are_the_same_bytes() -> None:
    whole = pl.DataFrame({"a": [1, 2, 3], "s": ["x", "yy", None]})
    pieces = pl.concat([whole[:1], whole[1:]], rechunk=False)
    part = pl.concat([whole, whole]).slice(3)
    assert len({b"".join(pack(frame)[1]) for frame in (whole, pieces, part)}) == 1


def test_a_series_of_polars_comes_back() -> None:
    series = pl.Series("late", [True, None, False])
    assert_series_equal(there_and_back(series)[1], series)


def test_large_values_are_views_of_the_mapping(blobs: BlobStore) -> None:
    array = np.random.default_rng(7).random((1000, 50))
    frame = pl.DataFrame({"x": array[:, 0]})

    class Model:
        weights = None

    model = Model()
    model.weights = array
    for value, look in [
        (array, lambda back: back),
        (frame, lambda back: back["x"].to_numpy(allow_copy=False)),
        (model, lambda back: back.weights),
        ({"big": array}, lambda back: back["big"]),
    ]:
        back = look(load(blobs, save(blobs, value).digest))
        assert not back.flags.writeable
        assert not back.flags.owndata
        assert np.array_equal(back, array if back.ndim == 2 else array[:, 0])


def test_small_arrays_in_objects_come_back_writable() -> None:
    back = there_and_back({"state": np.zeros(3)})[1]["state"]
    back[0] = 1.0


def test_the_record_says_what_it_is(blobs: BlobStore) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    artifact = save(blobs, frame)
    assert (artifact.codec, artifact.type) == ("arrow", "polars.DataFrame")
    assert artifact.summary == "2 rows × 2 columns"
    assert artifact.size_bytes == blobs.size_bytes() == blobs.get(artifact.digest).nbytes
    assert save(blobs, frame) == artifact


REFUSED = {
    "collect()": lambda: pl.DataFrame({"a": [1]}).lazy(),
    "generator": lambda: (i for i in range(3)),
    "lock": threading.Lock,
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_stored_is_refused_with_a_hint(says: str) -> None:
    with pytest.raises(Invalid, match=re.escape(says)) as caught:
        pack(REFUSED[says]())
    assert caught.value.hint


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(Invalid, match="open file"):
        pack(file)


def test_what_a_script_defines_can_be_read_by_another_process(tmp_path: Path) -> None:
    code = """
        from upturn.stores.disk import DiskBlobStore
        from upturn.stores.values import save
        class Model:
            factor = 3
            def predict(self, x):
                return helper(x) * self.factor
        def helper(x):
            return x + 1
        blobs = DiskBlobStore(sys.argv[1])
        print(save(blobs, Model()).digest)
        print(save(blobs, [Model.predict, lambda x: helper(x)]).digest)
    """
    model, functions = run(code, tmp_path / "blobs").split()
    blobs = DiskBlobStore(tmp_path / "blobs")
    assert load(blobs, model).predict(1) == 6
    assert load(blobs, functions)[1](1) == 2


def test_a_value_that_needs_what_is_not_here_says_so(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("class Thing: pass\n")
    code = """
        sys.path.insert(0, sys.argv[1])
        from elsewhere import Thing
        from upturn.stores.disk import DiskBlobStore
        from upturn.stores.values import save
        print(save(DiskBlobStore(sys.argv[1] + "/blobs"), Thing()).digest)
    """
    digest = run(code, tmp_path).strip()
    with pytest.raises(Invalid, match="elsewhere") as caught:
        load(DiskBlobStore(tmp_path / "blobs"), digest)
    assert caught.value.hint


def test_a_blob_that_holds_no_value_is_corrupt(blobs: BlobStore) -> None:
    for data in (b"", b"hello", b"UPTURN\x00\x01" + b"\xff" * 100):
        with pytest.raises(Corrupt):
            load(blobs, blobs.put([data]))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_asking_a_codec_imports_nothing(codec: Codec) -> None:
    code = """
        from upturn.stores.values import CODECS
        before = set(sys.modules)
        codec = next(codec for codec in CODECS if codec.name == sys.argv[1])
        for value in (1, [1.5], {"a": (1,)}, object(), Path("x"), NOW):
            codec.accepts(value)
        heavy = {"numpy", "pandas", "polars", "pyarrow", "cloudpickle"}
        print(sorted(heavy & set(sys.modules)), len(set(sys.modules) - before))
    """
    assert run(code, codec.name).split("]")[0] == "["


@pytest.mark.parametrize(
    "value",
    [math.nan, Decimal("1.10"), UUID(int=7), date(2013, 1, 1), timedelta(-1, 5), {1: "a"}, ()],
)
def test_special_values(value: object) -> None:
    assert same(there_and_back(value)[1], value)
