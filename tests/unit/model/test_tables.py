"""Tables of every kind that users bring become Arrow, and come back."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from upturn.core.errors import Invalid
from upturn.model.tables import frame_kind, from_arrow, to_arrow

COLUMNS: dict[str, Any] = {"n": [1.5, None], "i": [1, 2], "s": ["a", None], "b": [True, False]}
EXPECTED = pa.table(COLUMNS)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (pd.DataFrame(COLUMNS), "pandas"),
        (pl.DataFrame(COLUMNS), "polars"),
        (EXPECTED, "pyarrow"),
        (EXPECTED.to_batches()[0], "pyarrow"),
        (COLUMNS, "numpy"),
        ({name: pl.Series(name, values) for name, values in COLUMNS.items()}, "numpy"),
        ({name: pd.Series(values) for name, values in COLUMNS.items()}, "numpy"),
    ],
)
def test_every_kind_of_table_is_the_same_in_arrow(table: Any, kind: str) -> None:
    assert frame_kind(table) == kind
    assert to_arrow(table).equals(EXPECTED)


def test_a_numpy_array_has_columns_by_number() -> None:
    found = to_arrow(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert found.to_pydict() == {"x0": [1.0, 3.0], "x1": [2.0, 4.0]}


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"c": pd.Categorical(["b", "a", None], categories=["b", "a"])}),
        pl.DataFrame({"c": pl.Series(["b", "a", None], dtype=pl.Categorical)}),
        pl.DataFrame({"c": pl.Series(["b", "a", None], dtype=pl.Enum(["b", "a"]))}),
        pa.table({"c": pa.array(["b", "a", None]).dictionary_encode()}),
    ],
)
def test_categories_become_text(table: Any) -> None:
    found = to_arrow(table)
    assert found.schema.field("c").type == pa.string()
    assert found["c"].to_pylist() == ["b", "a", None]
    kept = to_arrow(table, dictionaries=True)["c"].combine_chunks()
    assert kept.dictionary.to_pylist() == ["b", "a"]


def test_a_pandas_index_with_a_name_is_a_column() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="id"))
    assert to_arrow(frame).column_names == ["id", "a"]
    assert to_arrow(frame, index=False).column_names == ["a"]
    assert to_arrow(frame.rename_axis(None)).column_names == ["a"]
    two = frame.set_index(pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["k", None]))
    assert to_arrow(two).column_names == ["k", "a"]


@pytest.mark.parametrize(
    ("table", "said", "hint"),
    [
        (pl.LazyFrame({"a": [1]}), "plan, not a table", ".collect()"),
        (pl.Series("a", [1]), "one column, not a table", ".to_frame()"),
        ([1, 2], "A list is not a table", "dict of columns"),
        (None, "A NoneType is not a table", "dict of columns"),
        (np.zeros(3), "numpy.ndarray is not a table", "2-d"),
        ({"a": [1], "b": [1, 2]}, "can't be read", "one kind each"),
        ({"a": [1, "x"]}, "can't be read", "one kind each"),
        ({"a": 5}, "can't be read", "one kind each"),
        (pd.DataFrame({"a": [1, "x"]}), "can't be read.*column a", "one kind each"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'", "of its own"),
    ],
)
def test_what_is_no_table_is_refused(table: Any, said: str, hint: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        to_arrow(table)
    assert hint in caught.value.hint


def test_tables_come_back_as_their_kind() -> None:
    assert isinstance(from_arrow(EXPECTED, "pandas"), pd.DataFrame)
    assert from_arrow(EXPECTED, "polars").equals(pl.DataFrame(COLUMNS))
    assert from_arrow(EXPECTED, "pyarrow") is EXPECTED
    matrix = from_arrow(EXPECTED.select(["n", "i", "b"]), "numpy")
    np.testing.assert_array_equal(matrix, [[1.5, 1.0, 1.0], [np.nan, 2.0, 0.0]])
    assert from_arrow(EXPECTED, "numpy").tolist() == [[1.5, 1, "a", True], [None, 2, None, False]]


def test_dates_and_times_are_kept() -> None:
    columns = {"d": [date(2013, 1, 2)], "t": [datetime(2013, 1, 2, 3, tzinfo=UTC)]}
    assert to_arrow(pl.DataFrame(columns)).to_pydict() == columns
