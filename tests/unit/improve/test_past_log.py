"""A Log of past rows says the same, whatever it is asked, as one in which all was written down."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from upturn.core.records import Endpoint, Version
from upturn.core.time import from_micros, instant, micros, utcnow
from upturn.improve.log import LogView, MemoryLog
from upturn.improve.past.log import Answered, Columns, PastLog, ids_of
from upturn.improve.past.rows import Past, past_of
from upturn.improve.past.scores import Scores
from upturn.model.registry import register_version
from upturn.stores.workspace import Workspace, open_workspace

START, END = instant("2013-04-01"), instant("2013-04-11")
HOUR = 3_600_000_000
TIME = pa.timestamp("us", "UTC")
TEXTS = ("late", "in time")


class World(NamedTuple):
    """Two versions of a model, kept for all examples."""

    workspace: Workspace
    versions: dict[int, Version]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from upturn.core.settings import load_settings

    home = tmp_path_factory.mktemp("past")
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home)}))
    random = np.random.default_rng(0)
    found: dict[int, Version] = {}
    for _ in range(2):
        a, b = random.normal(size=(2, 60))
        late = random.random(60) < 1 / (1 + np.exp(-a))
        model = LogisticRegression().fit(np.column_stack([a, b]), late)
        data = pa.table({"a": a, "b": b, "late": late})
        one = register_version(
            workspace, "delays", model, data=data, target="late", params={}, now=utcnow()
        )
        found[one.number] = one
    yield World(workspace, found)
    workspace.close()


def past_rows(rows: int, seed: int, *, text: bool) -> Past:
    random = np.random.default_rng(seed)
    # Few different times, so that rows share one.
    at = micros(START) + random.integers(0, 40, rows) * 6 * HOUR
    known = pa.array(at + random.integers(0, 60, rows) * HOUR, mask=random.random(rows) < 0.2)
    late = random.random(rows) < 0.4
    labels: Any = np.where(late, *TEXTS) if text else late
    table = pa.table(
        {
            "at": pa.array(at).cast(TIME),
            "known_at": known.cast(TIME),
            "label": pa.array(labels, mask=random.random(rows) < 0.1),
            "unit": [None if one == 0 else f"u{one}" for one in random.integers(0, 4, rows)],
            "a": random.normal(size=rows),
            "b": pa.array(random.normal(size=rows), mask=np.zeros(rows, np.bool_)),
        }
    )
    return past_of(table, Endpoint("delays", unit="unit"), START, END)


def written(past: Past, scores: Scores, answered: list[Answered], told: datetime) -> MemoryLog:
    """The same Log with every row in it, put there one by one."""
    log = MemoryLog("delays")
    inputs = past.inputs.to_pylist()
    for one in answered:
        said = scores.of(one.version, 0, past.rows)
        rows = [
            {
                "id": f"{place:028d}",
                "at": from_micros(int(past.at[place])),
                "route": one.route,
                "arm": one.arm,
                "version": one.version,
                "shadow": one.shadow,
                "unit": past.units[place],
                "propensity": one.propensity,
                "score": float(said[place]),
            }
            | {f"features.{name}": value for name, value in inputs[place].items()}
            for place in (range(one.low, one.high) if one.places is None else one.places)
        ]
        if rows:
            log.append(pa.Table.from_pylist(rows))
    for place, label in enumerate(past.labels.to_pylist()):
        if past.known_at[place] <= micros(told):
            known = from_micros(int(past.known_at[place]))
            row = {"id": f"{place:028d}", "label": label, "known_at": known}
            log.append(feedback=pa.Table.from_pylist([row]))
    return log


@st.composite
def answers(draw: st.DrawFn, rows: int) -> list[Answered]:
    """Spans after each other, each answered by one arm or two, some shadowed, some by nobody."""
    edges = sorted(draw(st.sets(st.integers(0, rows), max_size=5)) | {0, rows})
    found: list[Answered] = []
    for route, (low, high) in enumerate(pairwise(edges), 1):
        kind = draw(st.sampled_from(["one", "shadow", "canary", "nobody"]))
        if kind == "nobody" or low == high:
            continue
        shares: list[tuple[str, int, bool, np.ndarray | None, float]] = []
        if kind == "canary":
            hit = np.array(draw(st.lists(st.booleans(), min_size=high - low, max_size=high - low)))
            places = np.arange(low, high)
            shares = [("champion", 1, False, places[~hit], 0.7)]
            shares += [("candidate", 2, False, places[hit], 0.3)]
        else:
            shares = [("champion", draw(st.sampled_from([1, 2])), False, None, 1.0)]
        if kind == "shadow":
            shares.append(("candidate", 2, True, None, 1.0))
        found += [
            Answered(low, high, places, route, arm, version, shadow, propensity)
            for arm, version, shadow, places, propensity in shares
            if places is None or len(places)
        ]
    return found


times = st.none() | st.integers(-10, 300).map(
    lambda hours: from_micros(micros(START) + hours * HOUR)
)


@given(st.data())
@settings(max_examples=60)
def test_it_says_what_a_written_log_says(world: World, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 40), "rows")
    past = past_rows(rows, data.draw(st.integers(0, 99), "seed"), text=data.draw(st.booleans()))
    answered = data.draw(answers(past.rows), "answered")
    told = data.draw(times.filter(lambda at: at is not None), "told")
    scores = Scores(world.workspace, past, world.versions.__getitem__)
    log = PastLog("delays", past, scores, Columns(past))
    log.answer(*answered)
    log.tell(told)
    asked: dict[str, Any] = {
        "since": data.draw(times),
        "until": data.draw(times),
        "arm": data.draw(st.sampled_from([None, "champion", "candidate"])),
        "version": data.draw(st.sampled_from([None, 1, 2])),
        "shadow": data.draw(st.sampled_from([None, True, False])),
        "features": data.draw(st.booleans()),
        "errors": data.draw(st.booleans()),
        "received_by": data.draw(times),
    }
    other: LogView = written(past, scores, answered, told)
    same(log.predictions(**asked), other.predictions(**asked), asked["features"])
    known_by = data.draw(times.filter(lambda at: at is not None), "known_by")
    same(
        log.joined(known_by=known_by, **asked),
        other.joined(known_by=known_by, **asked),
        asked["features"],
    )


def same(found: pa.Table, wanted: pa.Table, features: bool) -> None:
    """Equal rows in the same order; of an empty Log nobody knows the features."""
    if not wanted.num_rows:
        assert not found.num_rows
        return
    assert found.column_names == wanted.column_names
    assert found.to_pylist() == wanted.to_pylist()
    own = [name for name in wanted.column_names if not name.startswith("features.")]
    assert found.select(own).schema.types == wanted.select(own).schema.types
    assert features == (len(own) < found.num_columns)


def test_ids_are_in_the_order_of_places() -> None:
    ids = ids_of(np.array([0, 9, 10, 123])).to_pylist()
    assert ids == sorted(ids)
    assert ids[3] == "0" * 25 + "123"
