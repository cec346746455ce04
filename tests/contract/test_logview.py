"""Every Log, stored or in memory, gives the same rows and joins the same labels."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upturn.core.log import PREDICTION_COLUMNS, FeedbackBatch, PredictionBatch
from upturn.core.settings import load_settings
from upturn.core.time import from_micros, instant, micros
from upturn.improve.log import LogView, MemoryLog, StoredLog
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

Make = Callable[[list[PredictionBatch], list[FeedbackBatch]], LogView]

START = micros(instant("2013-04-01"))
HOUR = 3_600_000_000
AT = pa.timestamp("us", "UTC")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    # DuckDB takes a path for a pattern: this one would match nothing, or break the query.
    workspace = open_workspace(
        load_settings(tmp_path, {"UPTURN_HOME": f"{tmp_path}/it's [a] h*me"})
    )
    yield workspace
    workspace.close()


@pytest.fixture(params=["open journals", "sealed", "some of both", "memory"])
def make(request: pytest.FixtureRequest, workspace: Workspace) -> Iterator[Make]:
    """Return a function that makes the Log under test from batches."""
    still_open: list[LogWriter] = []
    numbers = itertools.count()

    def stored(predictions: list[PredictionBatch], feedback: list[FeedbackBatch]) -> LogView:
        name = f"endpoint{next(numbers)}"
        batches = [*predictions, *feedback]
        sealed = {"open journals": 0, "sealed": len(batches)}.get(request.param, len(batches) // 2)
        for group, seal in ((batches[:sealed], True), (batches[sealed:], False)):
            writer = LogWriter(workspace.log_dir / name)
            for future in [writer.write(batch, durable=True) for batch in group]:
                assert future is not None
                future.result(10)
            writer.close() if seal else still_open.append(writer)
        return StoredLog(workspace, name)

    def memory(predictions: list[PredictionBatch], feedback: list[FeedbackBatch]) -> LogView:
        log = MemoryLog("endpoint")
        for batch in predictions:
            log.append(as_table(rows_of(batch)))
        for batch in feedback:
            log.append(feedback=as_table(labels_of(batch)))
        return log

    yield memory if request.param == "memory" else stored
    for writer in still_open:
        writer.close()


# The Log as plain rows, and what joining them means, said once more and slowly.


def rows_of(batch: PredictionBatch) -> list[dict[str, Any]]:
    shared = {
        "received_at": batch.received_at,
        "route": batch.route,
        "arm": batch.arm,
        "version": batch.version,
        "shadow": batch.shadow,
        "latency_s": batch.latency_s,
        "request": batch.request,
        "rate": batch.rate,
        "error": batch.error or None,
    }
    columns = {
        "id": batch.ids,
        "at": batch.at,
        "unit": batch.units,
        "propensity": [batch.propensity] * len(batch.ids),
        "score": batch.scores,
        "answer": [msgspec.json.encode(answer).decode() for answer in batch.answers],
    } | {f"features.{name}": values for name, values in batch.features.items()}
    return [
        {name: values[row] for name, values in columns.items()} | shared
        for row in range(len(batch.ids))
    ]


def labels_of(batch: FeedbackBatch) -> list[dict[str, Any]]:
    return [
        {"id": name, "label": label, "known_at": at, "received_at": batch.received_at}
        for name, label, at in zip(batch.ids, batch.labels, batch.known_at, strict=True)
    ]


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    for name in {"at", "received_at", "known_at"} & set(table.column_names):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(AT))
    return table


def expected(
    predictions: list[PredictionBatch], feedback: list[FeedbackBatch], known_by: int
) -> list[tuple[Any, ...]]:
    newest: dict[str, tuple[int, int, Any]] = {}
    for said in itertools.chain.from_iterable(map(labels_of, feedback)):
        candidate = (said["known_at"], said["received_at"], said["label"])
        if said["known_at"] <= known_by and candidate[:2] > newest.get(said["id"], (-1, -1))[:2]:
            newest[said["id"]] = candidate
    rows = itertools.chain.from_iterable(map(rows_of, predictions))
    found = []
    for row in sorted(rows, key=lambda row: (row["at"], row["id"], row["arm"], row["version"])):
        known_at, _, label = newest.get(row["id"], (None, None, None))
        found.append((row["id"], row["at"], row["arm"], row["score"], label, known_at))
    return found


def shown(joined: pa.Table) -> list[tuple[Any, ...]]:
    names = ("id", "at", "arm", "score", "label", "known_at")
    columns = [joined[name] for name in names]
    columns = [c.cast(pa.int64()) if c.type == AT else c for c in columns]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


IDS = [f"{number:028x}" for number in range(6)]


@st.composite
def prediction_batches(draw: st.DrawFn) -> list[PredictionBatch]:
    """Each id answered once by the champion or the canary, and perhaps shadowed."""
    ids = draw(st.lists(st.sampled_from(IDS), unique=True, min_size=0, max_size=6))
    batches = []
    for name in ids:
        at = START + draw(st.integers(0, 4)) * HOUR
        for arm in [
            draw(st.sampled_from(["champion", "canary"])),
            *draw(st.sampled_from([[], ["shadow"]])),
        ]:
            features: dict[str, list[Any]] = {
                "hour": [draw(st.sampled_from([6, 6.5, None]))],
                "carrier": [draw(st.sampled_from(["AA", "UA", None]))],
                "rain": [draw(st.sampled_from([True, None]))],
            }
            batches.append(
                PredictionBatch(
                    ids=[name],
                    at=[at],
                    received_at=at + 5,
                    route=1,
                    arm=arm,
                    version={"champion": 1}.get(arm, 2),
                    shadow=arm == "shadow",
                    units=[None],
                    propensity=1.0,
                    features=dict(list(features.items())[: draw(st.integers(1, 3))]),
                    scores=[draw(st.sampled_from([0.25, 0.5, None]))],
                    answers=[{"p": 0.25}],
                    latency_s=0.001,
                )
            )
    return batches


@st.composite
def feedback_batches(draw: st.DrawFn, labels: st.SearchStrategy[Any]) -> list[FeedbackBatch]:
    """Labels of some ids, told several times; no two with both times the same."""
    count = draw(st.integers(0, 8))
    received = draw(st.permutations(range(count)))
    return [
        FeedbackBatch(
            ids=[draw(st.sampled_from(IDS))],
            labels=[draw(labels)],
            known_at=[START + draw(st.integers(0, 4)) * HOUR],
            received_at=START + received[number],
        )
        for number in range(count)
    ]


NUMBERS = st.one_of(st.none(), st.booleans(), st.sampled_from([0, 1, 0.5]))
TEXTS = st.one_of(st.none(), st.sampled_from(["late", "in time"]))
FEW = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(prediction_batches(), feedback_batches(NUMBERS), st.integers(-1, 5))
def test_the_newest_label_that_was_known_counts(
    make: Make, predictions: list[PredictionBatch], feedback: list[FeedbackBatch], hours: int
) -> None:
    log = make(predictions, feedback)
    known_by = START + hours * HOUR
    joined = log.joined(known_by=from_micros(known_by), features=True)
    assert shown(joined) == expected(predictions, feedback, known_by)
    assert joined.schema.field("label").type == pa.float64()


@FEW
@given(prediction_batches(), feedback_batches(TEXTS))
def test_labels_may_be_text(
    make: Make, predictions: list[PredictionBatch], feedback: list[FeedbackBatch]
) -> None:
    joined = make(predictions, feedback).joined(known_by=from_micros(START + 9 * HOUR))
    assert shown(joined) == expected(predictions, feedback, START + 9 * HOUR)


@FEW
@given(prediction_batches(), st.integers(-1, 5), st.integers(-1, 5), st.data())
def test_only_the_rows_that_are_asked_for(
    make: Make, predictions: list[PredictionBatch], low: int, high: int, data: st.DataObject
) -> None:
    since, until = START + low * HOUR, START + high * HOUR
    arm = data.draw(st.sampled_from([None, "champion", "shadow"]))
    version = data.draw(st.sampled_from([None, 1, 2]))
    shadow = data.draw(st.sampled_from([None, True, False]))
    asked = {"arm": arm, "version": version, "shadow": shadow}
    wanted = [
        row
        for row in itertools.chain.from_iterable(map(rows_of, predictions))
        if since <= row["at"] < until
        and all(value is None or row[name] == value for name, value in asked.items())
    ]
    wanted.sort(key=lambda row: (row["at"], row["id"], row["arm"], row["version"]))
    log = make(predictions, [])
    found = log.predictions(since=from_micros(since), until=from_micros(until), **asked)
    names = sorted({name for row in wanted for name in row if name.startswith("features.")})
    for name in [*PREDICTION_COLUMNS, *names]:
        column = found[name].cast(pa.int64()) if found[name].type == AT else found[name]
        assert column.to_pylist() == [row.get(name) for row in wanted], name
    plain = log.predictions(
        since=from_micros(since), until=from_micros(until), **asked, features=False
    )
    assert plain.column_names == list(PREDICTION_COLUMNS)
    assert plain.equals(found.select(list(PREDICTION_COLUMNS)))


def one(name: str, *, at: int = START, **changes: Any) -> PredictionBatch:
    values: dict[str, Any] = {
        "ids": [name],
        "at": [at],
        "received_at": at,
        "route": 1,
        "arm": "champion",
        "version": 1,
        "shadow": False,
        "units": ["N1"],
        "propensity": 1.0,
        "features": {"hour": [6]},
        "scores": [0.5],
        "answers": [0.5],
        "latency_s": 0.001,
    }
    return PredictionBatch(**values | changes)


def told(
    name: str, label: Any, *, known_at: int = START, received_at: int = START
) -> FeedbackBatch:
    return FeedbackBatch([name], [label], [known_at], received_at)


def test_an_empty_log_has_the_columns_and_no_rows(make: Make) -> None:
    log = make([], [])
    joined = log.joined(known_by=datetime.now(UTC))
    assert joined.column_names == [*PREDICTION_COLUMNS, "label", "known_at"]
    assert log.predictions().num_rows == joined.num_rows == 0
    assert joined.schema.field("at").type == joined.schema.field("known_at").type == AT
    assert joined.schema.field("label").type == pa.float64()


def test_a_tie_is_broken_the_same_way_in_any_order(make: Make) -> None:
    feedback = [told(IDS[0], 1.0), told(IDS[0], 0.0)]
    for order in (feedback, feedback[::-1]):
        joined = make([one(IDS[0])], order).joined(known_by=from_micros(START))
        assert joined["label"].to_pylist() == [1.0]


def test_null_withdraws_a_label(make: Make) -> None:
    feedback = [told(IDS[0], 1.0), told(IDS[0], None, known_at=START + HOUR)]
    log = make([one(IDS[0])], feedback)
    assert log.joined(known_by=from_micros(START))["label"].to_pylist() == [1.0]
    later = log.joined(known_by=from_micros(START + HOUR))
    assert later["label"].to_pylist() == [None]
    assert later["known_at"].null_count == 0


def test_numbers_among_texts_become_text(make: Make) -> None:
    feedback = [told(IDS[0], 1.0), told(IDS[1], "late")]
    joined = make([one(IDS[0]), one(IDS[1])], feedback).joined(known_by=from_micros(START))
    assert joined["label"].to_pylist() == ["1", "late"]


def test_a_feature_may_change_its_type(make: Make) -> None:
    batches = [
        one(IDS[0], features={"hour": [6], "rain": [True]}),
        one(IDS[1], features={"hour": [6.5], "rain": [None]}),
        one(IDS[2], features={"wind": ["N"]}),
    ]
    found = make(batches, []).predictions()
    assert found["features.hour"].to_pylist() == [6.0, 6.5, None]
    assert found["features.rain"].to_pylist() == [True, None, None]
    assert found["features.wind"].to_pylist() == [None, None, "N"]


def test_a_question_is_no_trouble_to_the_next_one(make: Make) -> None:
    log = make([one(IDS[0]), one(IDS[1])], [told(IDS[1], True)])
    assert [log.predictions().num_rows for _ in range(3)] == [2, 2, 2]
    assert log.joined(known_by=from_micros(START))["label"].to_pylist() == [None, 1.0]
