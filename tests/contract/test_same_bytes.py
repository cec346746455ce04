"""The same value is the same bytes: in every process, and in whatever way it was made."""

import os
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from upturn.stores.values import pack, unpack

WORDS = ["b", "a", "cc", "d", "eee"]
SCRIPT = """
from contract.test_same_bytes import EVERYWHERE, blob
import hashlib
for name, make in EVERYWHERE.items():
    print(name, hashlib.sha256(blob(make())).hexdigest())
"""


class Thing:
    """An object with what it is given as attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def blob(value: object) -> bytes:
    return b"".join(map(bytes, pack(value)[1]))


def fitted(model: Any) -> Any:
    rows = np.random.default_rng(0).random((200, 4))
    return model.fit(rows, rows[:, 0] > 0.5)


def pipeline() -> Any:
    frame = pd.DataFrame({"word": WORDS * 4, "n": range(20)})
    columns = make_column_transformer((OneHotEncoder(), ["word"]), (StandardScaler(), ["n"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame, frame["n"] > 7)


EVERYWHERE: dict[str, Callable[[], object]] = {
    "a set": lambda: set(WORDS),
    "sets in sets": lambda: {frozenset(WORDS), frozenset({(word, 1) for word in WORDS})},
    "sets in an object": lambda: Thing(a=set(WORDS), b=[frozenset({(word, 1) for word in WORDS})]),
    "a set of mixed kinds in an object": lambda: Thing(a={1, "a", None, (2, "b"), 2.5, b"x"}),
    "a large set in an object": lambda: Thing(a={str(n) for n in range(2500)}),
    "one set twice": lambda: Thing(a=(one := set(WORDS)), b=one),
    "objects in a table": lambda: pd.DataFrame({"a": [set(WORDS), 1, None]}),
    "a counter": lambda: Counter(WORDS),
    "a pipeline": pipeline,
    "a forest": lambda: fitted(RandomForestClassifier(5, random_state=0)),
    "boosted trees": lambda: fitted(HistGradientBoostingClassifier(max_iter=5, random_state=0)),
    "LightGBM": lambda: fitted(LGBMClassifier(n_estimators=5, random_state=0, verbose=-1)),
    "XGBoost": lambda: fitted(XGBClassifier(n_estimators=5, random_state=0, n_jobs=1)),
}


def test_the_hash_seed_does_not_matter() -> None:
    said: set[str] = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["PYTHONHASHSEED"] = seed
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout)
    assert len(next(iter(said)).splitlines()) == len(EVERYWHERE)
    assert len(said) == 1


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_was_read_once_stays_the_same_bytes(name: str) -> None:
    # Reading makes one text of equal names of attributes, so the first time may differ.
    read = blob(unpack(memoryview(blob(EVERYWHERE[name]()))))
    assert blob(unpack(memoryview(read))) == read


def test_a_set_that_holds_itself_comes_back() -> None:
    thing: Any = Thing()
    thing.all = {thing, Thing()}
    back = unpack(memoryview(blob(thing)))
    assert back in back.all
    assert len(back.all) == 2


# --- the same table, made in another way ---

COLUMNS: dict[str, list[Any]] = {
    "text": WORDS,
    "number": [1, None, 3, 4, 5],
    "real": [1.5, None, -0.0, float("inf"), 2.0],
    "flag": [True, None, False, True, True],
    "list": [[1], None, [2, None], [], [4]],
    "texts": [["a"], None, [None, "b"], [], ["c"]],
    "struct": [{"x": 1}, None, {"x": None}, {"x": 2}, {"x": 3}],
    "structs": [[{"x": 1}], None, [], [{"x": None}], []],
}
FRAME = pl.DataFrame(COLUMNS)
TABLE = pa.table(COLUMNS)


def by_parquet(frame: pl.DataFrame) -> pl.DataFrame:
    file = BytesIO()
    frame.write_parquet(file)
    file.seek(0)
    return pl.read_parquet(file)


def filtered(table: pa.Table) -> pa.Table:
    other = pa.concat_tables([table, table.slice(2), table])
    mask = [False] * (len(other) - len(table)) + [True] * len(table)
    return other.filter(pa.array(mask))


WAYS: dict[str, Callable[[], object]] = {
    "polars in chunks": lambda: pl.concat([FRAME[:2], FRAME[2:]], rechunk=False),
    "polars sliced": lambda: pl.concat([FRAME, FRAME]).slice(5),
    "polars filtered": lambda: pl.concat([FRAME, FRAME[1:]]).filter(pl.int_range(pl.len()) < 5),
    "polars from parquet": lambda: by_parquet(FRAME),
    "pyarrow in chunks": lambda: pa.concat_tables([TABLE.slice(0, 3), TABLE.slice(3)]),
    "pyarrow sliced": lambda: pa.concat_tables([TABLE, TABLE]).slice(5),
    "pyarrow filtered": lambda: filtered(TABLE),
    "pyarrow taken": lambda: TABLE.take(list(range(5))),
}


@pytest.mark.parametrize("way", WAYS)
def test_how_a_table_was_made_does_not_matter(way: str) -> None:
    expected = FRAME if way.startswith("polars") else TABLE
    assert blob(WAYS[way]()) == blob(expected)


@given(st.lists(st.none() | st.integers(-5, 5), max_size=20), st.integers(0, 19))
def test_what_lies_under_a_null_does_not_matter(values: list[int | None], at: int) -> None:
    table = pa.table({"a": pa.array(values, pa.int64())})
    garbage = pa.array([7 if value is None else value for value in values], pa.int64())
    mask = pa.array([value is None for value in values], pa.bool_())
    other = pa.table({"a": pc.if_else(mask, pa.scalar(None, pa.int64()), garbage)})
    pieces = pa.concat_tables([other.slice(0, at), other.slice(at)])
    assert blob(pieces) == blob(table)


def test_how_a_table_of_pandas_was_made_does_not_matter() -> None:
    frame = pd.DataFrame({"text": WORDS, "number": [1, None, 3, 4, 5]})
    twice = pd.concat([frame, frame]).iloc[5:].reset_index(drop=True)
    assert blob(twice) == blob(frame) == blob(frame.copy())
    assert blob(frame[["number"]]) == blob(pd.DataFrame({"number": [1, None, 3, 4, 5]}))


def test_how_an_array_was_made_does_not_matter() -> None:
    array = np.arange(12).reshape(3, 4)
    for same in (np.hstack([array, array])[:, :4], array[::-1][::-1], array[:, ::1].copy()):
        assert blob(same) == blob(array)
        assert blob(Thing(a=same)) == blob(Thing(a=array))


# --- what makes another value ---

DIFFERENT: dict[str, tuple[object, object]] = {
    "the order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "an OrderedDict": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    "a set and a frozenset": ({1}, frozenset({1})),
    "the sign of a zero": (np.zeros(1), -np.zeros(1)),
    "memory order": (np.zeros((2, 3)), np.asfortranarray(np.zeros((2, 3)))),
    "an index that is written out": (
        pd.DataFrame({"a": [1, 2]}),
        pd.DataFrame({"a": [1, 2]}, index=[0, 1]),
    ),
    "the unit of a time": (
        pd.DataFrame({"a": pd.to_datetime(["2013-01-01"]).as_unit("s")}),
        pd.DataFrame({"a": pd.to_datetime(["2013-01-01"]).as_unit("ns")}),
    ),
    "null and NaN": (pl.DataFrame({"a": [None, 1.0]}), pl.DataFrame({"a": [float("nan"), 1.0]})),
    "one text twice, two equal texts": (
        Thing(a=(word := "x y"), b=word),
        Thing(a="x y", b=" ".join("xy")),
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_these_count_as_different(what: str) -> None:
    one, other = DIFFERENT[what]
    assert blob(one) != blob(other)


BY_VALUE = """
from dataclasses import dataclass
import hashlib, sys
from contract.test_same_bytes import blob
@dataclass
class Point:
    x: int
    def moved(self):
        return made(self.x + 1)
class Other(Point):
    pass
def made(x):
    return Other(x)
values = {"a": Point(1), "b": [Other(2), Point(3)], "c": lambda x: made(x)}
blobs = {name: blob(values[name]) for name in sys.argv[1]}
print(sorted((name, hashlib.sha1(found).hexdigest()) for name, found in blobs.items()))
"""


def test_what_a_script_defines_is_the_same_bytes_in_every_process() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    said = [
        subprocess.run(
            [sys.executable, "-c", BY_VALUE, order],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order in ("abc", "cba")
    ]
    assert said[0] == said[1] != "[]"
