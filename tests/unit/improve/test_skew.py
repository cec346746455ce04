"""Served features are held against training's, and row by row against what offline says."""

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.core.time import instant
from upturn.improve.monitor.skew import release_skew, row_skew, row_symptoms
from upturn.model.profile import profile_table

AT = instant("2013-04-01")
STAMP = pa.timestamp("us", "UTC")


def served(random: np.random.Generator, rows: int, shift: float = 0.0) -> pa.Table:
    at = [AT + timedelta(minutes=5 * row) for row in range(rows)]
    return pa.table(
        {
            "id": [f"p{row}" for row in range(rows)],
            "at": pa.array(at, STAMP),
            "score": random.random(rows),
            "answer": pa.nulls(rows, pa.string()),
            "features.x": random.normal(shift, 1, rows),
            "features.kind": random.choice(["a", "b"], rows),
        }
    )


def test_a_release_that_computes_a_feature_otherwise() -> None:
    random = np.random.default_rng(1)
    training = pa.table({"x": random.normal(size=4000), "kind": random.choice(["a", "b"], 4000)})
    profile = profile_table(training)
    same = {one.name: one.severity for one in release_skew(profile, served(random, 600), AT)}
    assert same == {"skew/x": "fine", "skew/kind": "fine"}
    other = {one.name: one for one in release_skew(profile, served(random, 600, 1.0), AT)}
    assert other["skew/x"].severity == "critical"
    assert "in the first 3d of the release" in other["skew/x"].says
    later = release_skew(profile, served(random, 600, 1.0), AT + timedelta(days=30))
    assert later == []


def test_rows_that_are_in_both() -> None:
    random = np.random.default_rng(2)
    log = served(random, 1000)
    x = log["features.x"].to_numpy().copy()
    wrong = random.random(1000) < 0.1
    x[wrong] += 1
    shuffled = random.permutation(1000)
    offline = pa.table(
        {"id": log["id"], "x": x * (1 + 1e-9), "kind": log["features.kind"], "more": x}
    ).take(pa.array(shuffled))
    found = {one.column: one for one in row_skew(log, offline, on="id")}
    assert set(found) == {"x", "kind"}
    assert found["x"].differ == pytest.approx(wrong.mean())
    assert found["x"].low < wrong.mean() < found["x"].high
    assert found["kind"].differ == 0
    first = found["x"].examples[0]
    assert first["offline"] - first["served"] == pytest.approx(1, abs=1e-6)
    assert first["id"] == f"p{np.flatnonzero(wrong)[0]}"
    said = {one.name: one.severity for one in row_symptoms(tuple(found.values()))}
    assert said == {"skew/x": "critical", "skew/kind": "fine"}


def test_the_last_one_at_or_before() -> None:
    log = pa.table(
        {
            "unit": ["u", "u", "v"],
            "at": pa.array([AT, AT + timedelta(hours=2), AT], STAMP),
            "features.n": [1, 2, 3],
        }
    )
    times = [AT - timedelta(hours=1), AT + timedelta(hours=1), AT + timedelta(hours=3)]
    offline = pa.table(
        {"user": ["u", "u", "u"], "computed": pa.array(times, STAMP), "n": [1.0, 5.0, 2.0]}
    )
    (found,) = row_skew(log, offline, on={"unit": "user"}, at="computed")
    assert (found.rows, found.differ) == (2, 0.5)
    assert found.examples == ({"unit": "u", "served": 2, "offline": 5.0},)
    with pytest.raises(Invalid, match="several rows"):
        row_skew(log, offline, on={"unit": "user"})


@given(st.lists(st.tuples(*[st.none() | st.sampled_from([0, 1, math.inf])] * 2), max_size=12))
def test_missing_is_equal_to_missing(pairs: list[tuple[float | None, float | None]]) -> None:
    ids = [str(place) for place in range(len(pairs))]
    one = pa.array([pair[0] for pair in pairs], pa.float64())
    other = pa.array([pair[1] for pair in pairs], pa.float64())
    log = pa.table({"id": pa.array(ids, pa.string()), "features.x": one})
    (found,) = row_skew(log, pa.table({"id": pa.array(ids, pa.string()), "x": other}), on=["id"])
    assert found.rows == len(pairs)
    if pairs:
        assert found.differ == pytest.approx(np.mean([a != b for a, b in pairs]))
        assert found.missing == pytest.approx(
            np.mean([(a is None) != (b is None) for a, b in pairs])
        )


def test_types_may_differ_and_columns_be_absent() -> None:
    log = pa.table({"id": ["a"], "features.x": ["1"], "features.flag": [True]})
    offline = pa.table({"id": ["a"], "x": [1], "flag": [1]})
    found = {one.column: one.differ for one in row_skew(log, offline, on="id")}
    assert found == {"x": 0.0, "flag": 0.0}
    with pytest.raises(Invalid, match="no column 'ident'"):
        row_skew(log, offline, on="ident")
    with pytest.raises(Invalid, match="offline table has no column 'key'"):
        row_skew(log, offline, on={"id": "key"})
    assert row_skew(log, pa.table({"id": ["z"], "x": [1]}), on="id")[0].rows == 0
    with pytest.raises(Invalid, match="can't be joined"):
        row_skew(log, pa.table({"id": [[1]], "x": [1]}), on="id")
