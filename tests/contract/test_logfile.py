"""The Log on disk: what is written is read once, whoever dies, seals or reads at the same time."""

import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.processes import finish, kill_after, run, start
from upturn.core.errors import Invalid, Unavailable
from upturn.core.log import PREDICTION_COLUMNS, FeedbackBatch, Layout, Matrix, PredictionBatch
from upturn.stores.logfile import LogWriter, seal, segments

HOUR = 3_600_000_000
MAKE_BATCH = """
from upturn.core.log import PredictionBatch
from upturn.stores.logfile import LogWriter, seal, segments

def batch(*ids, **features):
    n = len(ids)
    return PredictionBatch(
        ids=list(ids), at=[7] * n, received_at=8, route=1, arm="champion", version=2, shadow=False,
        units=[None] * n, propensity=1.0, features=features, scores=[0.5] * n,
        answers=[True] * n, latency_s=0.001,
    )
"""


def batch(*ids: str, at: list[int] | None = None, **features: list[Any]) -> PredictionBatch:
    """Return predictions with those ids and features."""
    n = len(ids)
    return PredictionBatch(
        ids=list(ids),
        at=at or [HOUR] * n,
        received_at=HOUR + 1,
        route=3,
        arm="champion",
        version=7,
        shadow=False,
        units=["N1", None][:n] if n < 3 else [None] * n,
        propensity=1.0,
        features=features,
        scores=[0.25] * n,
        answers=[{"late": True}] * n,
        latency_s=0.002,
        request="q",
    )


def rows(directory: Path, kind: Any = "predictions") -> list[dict[str, Any]]:
    """Return all rows, of files and tail."""
    found = segments(directory, kind)
    tables = [*map(pq.read_table, found.parquet), found.tail]
    return pa.concat_tables(tables, promote_options="permissive").to_pylist()


def ids(directory: Path) -> list[str]:
    """Return the ids of all predictions."""
    return sorted(row["id"] for row in rows(directory))


def journals(directory: Path) -> list[Path]:
    """Return the journals there."""
    return sorted(directory.glob("*.journal"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a Log's directory, not made yet."""
    return tmp_path / "log" / "delays"


@pytest.fixture
def writer(directory: Path) -> Iterator[LogWriter]:
    """Return a writer that is closed at the end."""
    opened = LogWriter(directory)
    yield opened
    opened.close()


def abandon(directory: Path, *batches: str) -> None:
    """Have a process write those one-row batches and die without closing anything."""
    code = """
        writer = LogWriter(Path(sys.argv[1]))
        for name in sys.argv[2:]:
            writer.write(batch(name), durable=True).result()
        os._exit(1)
    """
    finish(start(MAKE_BATCH + dedent(code), directory, *batches), status=1)


def test_nothing_there_is_an_empty_table_with_the_columns(directory: Path) -> None:
    found = segments(directory, "predictions")
    assert found.parquet == []
    assert found.tail.num_rows == 0
    assert tuple(found.tail.column_names) == PREDICTION_COLUMNS
    assert segments(directory, "feedback").tail.column_names == [
        "id",
        "label",
        "label_text",
        "known_at",
        "received_at",
    ]
    assert seal(directory) == 0


@pytest.mark.parametrize("sealed", [False, True])
def test_predictions_come_back(directory: Path, writer: LogWriter, sealed: bool) -> None:
    writer.write(batch("a", "b", carrier=["UA", None], delay=[1.5, 2]))
    writer.flush()
    if sealed:
        writer.close()
    first, second = rows(directory)
    assert first == {
        "id": "a",
        "at": pa.scalar(HOUR, pa.timestamp("us", "UTC")).as_py(),
        "received_at": pa.scalar(HOUR + 1, pa.timestamp("us", "UTC")).as_py(),
        "route": 3,
        "arm": "champion",
        "version": 7,
        "shadow": False,
        "unit": "N1",
        "propensity": 1.0,
        "score": 0.25,
        "answer": '{"late":true}',
        "latency_s": 0.002,
        "request": "q",
        "rate": 1.0,
        "error": None,
        "features.carrier": "UA",
        "features.delay": 1.5,
    }
    assert (second["id"], second["unit"], second["features.carrier"]) == ("b", None, None)
    assert bool(journals(directory)) != sealed


@pytest.mark.parametrize("sealed", [False, True])
def test_feedback_comes_back(directory: Path, writer: LogWriter, sealed: bool) -> None:
    labels = [True, 2, 0.5, "late", None, float("nan")]
    writer.write(FeedbackBatch(list("abcdef"), labels, [6, 5, 4, 3, 2, 1], 9))
    writer.flush()
    if sealed:
        writer.close()
    found = {row["id"]: (row["label"], row["label_text"]) for row in rows(directory, "feedback")}
    assert found == {
        "a": (1.0, None),
        "b": (2.0, None),
        "c": (0.5, None),
        "d": (None, "late"),
        "e": (None, None),
        "f": (None, None),
    }


FEATURES: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "bools": ([True, None], pa.bool_(), [True, None]),
    "ints": ([1, None], pa.int64(), [1, None]),
    "ints and floats": ([1, 2.5], pa.float64(), [1.0, 2.5]),
    "floats": ([float("inf"), None], pa.float64(), [float("inf"), None]),
    "texts": (["é", None], pa.string(), ["é", None]),
    "nothing": ([None, None], pa.null(), [None, None]),
    "bools and ints": ([True, 1], pa.string(), ["true", "1"]),
    "texts and ints": (["a", 1], pa.string(), ["a", "1"]),
    "large ints": ([2**63, 1], pa.float64(), [float(2**63), 1.0]),
    "lists": ([[1, 2], None], pa.string(), ["[1,2]", None]),
    "objects": ([{"a": 1}, None], pa.string(), ['{"a":1}', None]),
}


@pytest.mark.parametrize("name", FEATURES)
def test_a_features_type_follows_from_its_values(
    directory: Path, writer: LogWriter, name: str
) -> None:
    values, expected, back = FEATURES[name]
    writer.write(batch("a", x=values[:1]))
    writer.write(batch("b", x=values[1:]))
    writer.flush()
    column = segments(directory, "predictions").tail.column("features.x")
    assert column.type == expected
    assert column.to_pylist() == back
    writer.close()
    (path,) = segments(directory, "predictions").parquet
    assert pq.read_table(path).column("features.x").to_pylist() == back


def test_numbers_of_numpy_and_unknown_types_are_logged(directory: Path, writer: LogWriter) -> None:
    import numpy as np

    writer.write(batch("a", x=[np.float32(0.5)], y=[np.int64(3)], z=[object()]))
    writer.flush()
    (row,) = rows(directory)
    assert (row["features.x"], row["features.y"]) == (0.5, 3)
    assert row["features.z"].startswith("<object")


LAYOUT = Layout(["hour", "night", "delay"], "ibf")


def matrix(*rows: tuple[float, float, float]) -> Matrix:
    return Matrix(
        LAYOUT, struct.pack(f"<{3 * len(rows)}d", *(cell for row in rows for cell in row))
    )


@pytest.mark.parametrize("sealed", [False, True])
def test_a_matrix_comes_back_as_its_layout_says(
    directory: Path, writer: LogWriter, sealed: bool
) -> None:
    nan, inf = float("nan"), float("inf")
    rows = matrix((7.0, 1.0, 0.5), (nan, nan, nan), (-(2.0**53), 0.0, inf))
    writer.write(with_features(batch("a", "b", "c"), rows))
    writer.flush()
    if sealed:
        writer.close()
    found = whole(directory)
    assert found.schema.field("features.hour").type == pa.int64()
    assert found.schema.field("features.night").type == pa.bool_()
    assert found["features.hour"].to_pylist() == [7, None, -(2**53)]
    assert found["features.night"].to_pylist() == [True, None, False]
    assert found["features.delay"].to_pylist() == [0.5, None, inf]


def with_features(of: PredictionBatch, features: Any, **changes: Any) -> PredictionBatch:
    return msgspec.structs.replace(of, features=features, **changes)


def whole(directory: Path) -> pa.Table:
    """All predictions, of files and tail."""
    found = segments(directory, "predictions")
    tables = [*map(pq.read_table, found.parquet), found.tail]
    return pa.concat_tables(tables, promote_options="permissive")


cell = st.none() | st.floats(allow_nan=False, width=64)


@given(
    st.lists(
        st.tuples(st.sampled_from(["matrix", "other matrix", "lists", "nothing"]), cell, cell),
        max_size=12,
    ),
    st.integers(1, 5),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_rows_come_back_whichever_way_their_features_were_kept(
    directory: Path, given_rows: list[tuple[str, Any, Any]], roll_rows: int, sealed: bool
) -> None:
    """Arms of other layouts come and go row by row, and each journal can be read by itself."""
    shutil.rmtree(directory, ignore_errors=True)
    layouts = {"matrix": Layout(["x", "y"], "ff"), "other matrix": Layout(["y"], "f")}
    writer = LogWriter(directory, roll_rows=roll_rows)
    expected: dict[str, tuple[Any, Any]] = {}
    for number, (kind, x, y) in enumerate(given_rows):
        name = f"{number:02d}"
        x = x if kind in ("matrix", "lists") else None
        y = None if kind == "nothing" else y
        expected[name] = (x, y)
        features: Any = {"x": [x], "y": [y]} if kind == "lists" else None
        if kind in layouts:
            cells = [float("nan") if v is None else v for v in (x, y)][-len(layouts[kind].names) :]
            features = Matrix(layouts[kind], struct.pack(f"<{len(cells)}d", *cells))
        writer.write(with_features(batch(name), features))
        writer.flush() if number % 2 else None
    writer.close() if sealed else writer.stop()
    found = {row["id"]: row for row in rows(directory)}
    assert {
        name: (row.get("features.x"), row.get("features.y")) for name, row in found.items()
    } == expected


def test_a_layout_is_written_once_a_journal(directory: Path) -> None:
    sizes: list[int] = []
    for count in (1, 2, 3):
        home = directory / str(count)
        writer = LogWriter(home)
        for number in range(count):
            # Another object, as a reload makes it.
            again = Layout([*LAYOUT.names], LAYOUT.kinds)
            one = with_features(batch(f"{number}"), Matrix(again, bytes(24)))
            writer.write(one)
            writer.flush()
        writer.stop()
        (path,) = journals(home)
        sizes.append(path.stat().st_size)
    assert b"delay" in path.read_bytes()
    assert path.read_bytes().count(b"delay") == 1
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]


def test_rows_without_an_answer_say_why_and_scores_stand_for_answers(
    directory: Path, writer: LogWriter
) -> None:
    failed = with_features(
        batch("a"),
        None,
        scores=None,
        answers=None,
        units=None,
        at=5,
        error="ValueError: no",
        rate=0.5,
    )
    writer.write(failed)
    writer.write(with_features(batch("b"), None, answers=None))
    writer.close()
    bad, good = rows(directory)
    assert (bad["score"], bad["answer"], bad["error"], bad["rate"]) == (
        None,
        None,
        "ValueError: no",
        0.5,
    )
    assert (good["score"], good["answer"], good["error"], good["rate"]) == (0.25, None, None, 1.0)


feature_rows = st.lists(
    st.dictionaries(
        st.sampled_from(["x", "y", "z"]),
        st.none() | st.integers(-5, 5) | st.floats(allow_nan=False),
    ),
    max_size=12,
)


@given(given_rows=feature_rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_features_that_differ_between_batches_are_null_where_absent(
    directory: Path, given_rows: list[dict[str, Any]]
) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    writer = LogWriter(directory)
    for i, row in enumerate(given_rows):
        writer.write(batch(f"{i:03d}", **{name: [value] for name, value in row.items()}))
    writer.flush()
    tails = rows(directory)
    writer.close()
    for found in (tails, rows(directory)):
        assert len(found) == len(given_rows)
        for row, back in zip(given_rows, found, strict=True):
            for name in ("x", "y", "z"):
                assert back.get(f"features.{name}") == row.get(name)


def test_sealed_rows_are_sorted_by_time(directory: Path, writer: LogWriter) -> None:
    writer.write(batch("c", "a", "b", at=[3, 1, 2], x=[30, 10, 20]))
    writer.close()
    (path,) = segments(directory, "predictions").parquet
    table = pq.read_table(path)
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert table["features.x"].to_pylist() == [10, 20, 30]


def test_a_journal_rolls_when_it_is_full(directory: Path) -> None:
    writer = LogWriter(directory, roll_rows=10)
    for i in range(25):
        writer.write(batch(f"{i:02d}"))
        writer.flush()
    assert len(journals(directory)) == 3
    assert seal(directory) == 2
    assert ids(directory) == [f"{i:02d}" for i in range(25)]
    writer.close()
    assert len(segments(directory, "predictions").parquet) == 3
    assert ids(directory) == [f"{i:02d}" for i in range(25)]


def test_a_journal_rolls_when_it_is_old(directory: Path) -> None:
    writer = LogWriter(directory, roll_s=0.05)
    writer.write(batch("a"))
    wait_until(lambda: seal(directory) == 1)
    assert ids(directory) == ["a"]
    writer.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_durable_rows_of_many_threads_share_syncs(directory: Path, writer: LogWriter) -> None:
    def write(i: int) -> str:
        future = writer.write(batch(f"{i:03d}"), durable=True)
        assert future is not None
        future.result(timeout=20)
        return f"{i:03d}"

    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(write, range(200)))
    assert ids(directory) == sorted(done)
    assert writer.queued_rows == 0


def test_a_cancelled_future_does_no_harm(directory: Path, writer: LogWriter) -> None:
    futures = [writer.write(batch(f"{i}"), durable=True) for i in range(9)]
    for future in futures[::2]:
        assert future is not None
        future.cancel()
    writer.flush()
    assert len(ids(directory)) == 9


def test_what_a_killed_process_had_acknowledged_is_there(directory: Path) -> None:
    code = """
        writer = LogWriter(Path(sys.argv[1]), roll_rows=50)
        number = 0
        while True:
            number += 1
            name = f"{number:06d}"
            writer.write(batch("quick" + name))
            writer.write(batch(name), durable=True).result()
            print(name, flush=True)
    """
    said = kill_after(start(MAKE_BATCH + dedent(code), directory), 130)
    before = ids(directory)
    assert set(said) <= set(before)
    seal(directory)
    assert ids(directory) == before
    assert len(set(before)) == len(before)
    assert seal(directory) == 0
    assert journals(directory) == []


def test_what_was_flushed_survives_a_kill(directory: Path) -> None:
    code = """
        writer = LogWriter(Path(sys.argv[1]))
        for i in range(1000):
            writer.write(batch(f"{i:04d}"))
        writer.flush()
        print("flushed", flush=True)
        while True:
            pass
    """
    kill_after(start(MAKE_BATCH + dedent(code), directory), 1)
    assert len(ids(directory)) == 1000


def test_the_end_of_the_interpreter_writes_what_is_queued(directory: Path) -> None:
    code = """
        writer = LogWriter(Path(sys.argv[1]), window_s=5)
        writer.write(batch("a"))
    """
    run(MAKE_BATCH + dedent(code), directory)
    assert ids(directory) == ["a"]
    assert seal(directory) == 1


@pytest.fixture(scope="module")
def abandoned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a journal of three frames, whose writer died."""
    directory = tmp_path_factory.mktemp("abandoned")
    abandon(directory, "a", "b", "c")
    (path,) = journals(directory)
    return path.read_bytes()


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_journal_gives_its_whole_frames(
    tmp_path: Path, abandoned: bytes, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(abandoned)))
    path = tmp_path / "predictions-1-1-1.journal"
    path.write_bytes(abandoned[:end])
    found = ids(tmp_path)
    assert found == ["a", "b", "c"][: len(found)]
    assert (len(found) == 3) == (end == len(abandoned))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_journal_gives_no_wrong_row(
    tmp_path: Path, abandoned: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(abandoned) - 1))
    damaged = bytearray(abandoned)
    damaged[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "predictions-1-1-1.journal").write_bytes(damaged)
    assert set(ids(tmp_path)) <= {"a", "b", "c"}


def test_a_live_writers_journal_is_left_alone(directory: Path, writer: LogWriter) -> None:
    writer.write(batch("a"))
    writer.flush()
    abandon(directory, "b")
    assert len(journals(directory)) == 2
    assert seal(directory) == 1
    assert len(journals(directory)) == 1
    assert ids(directory) == ["a", "b"]
    run(MAKE_BATCH + "assert seal(Path(sys.argv[1])) == 0", directory)


@pytest.mark.parametrize("left", ["journal and file", "journal and half a file"])
def test_a_seal_that_was_killed_is_finished(directory: Path, left: str) -> None:
    abandon(directory, "a", "b")
    (path,) = journals(directory)
    data = path.read_bytes()
    if left == "journal and file":
        seal(directory)
        path.write_bytes(data)
    else:
        path.with_name(f".{path.stem}.tmp").write_bytes(b"PAR1 half")
    assert ids(directory) == ["a", "b"]
    seal(directory)
    assert ids(directory) == ["a", "b"]
    assert [each.suffix for each in directory.iterdir()] == [".parquet"]


def test_an_empty_journal_is_tidied_away(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "predictions-1-1-1.journal").write_bytes(b"")
    (directory / "feedback-1-1-1.journal").write_bytes(b"UPJ")
    assert seal(directory) == 0
    assert list(directory.iterdir()) == []


def test_readers_see_each_row_once_while_others_write_and_seal(directory: Path) -> None:
    code = """
        writer = LogWriter(Path(sys.argv[1]), roll_rows=3, window_s=0)
        for i in range(150):
            writer.write(batch(f"{sys.argv[2]}-{i:03d}"))
            if i % 4 == 0:
                writer.flush()
        writer.close()
    """
    processes = [start(MAKE_BATCH + dedent(code), directory, i) for i in range(2)]
    stop = threading.Event()

    def keep_sealing() -> None:
        while not stop.is_set():
            seal(directory)

    sealer = threading.Thread(target=keep_sealing)
    sealer.start()
    seen = 0
    while any(process.poll() is None for process in processes):
        found = ids(directory)
        assert len(set(found)) == len(found)
        assert len(found) >= seen
        seen = len(found)
    stop.set()
    sealer.join()
    for process in processes:
        finish(process)
    assert ids(directory) == [f"{i}-{j:03d}" for i in range(2) for j in range(150)]


def test_a_forked_child_writes_nothing_of_its_parent(directory: Path) -> None:
    code = """
        import signal
        writer = LogWriter(Path(sys.argv[1]), window_s=0.2)
        writer.write(batch("before"))
        writer.flush()
        writer.write(batch("queued"))
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            writer.write(batch("child"))
            writer.flush()
            os.write(tell, b"x")
            signal.pause()
        try:
            os.close(tell)
            assert os.read(ready, 1) == b"x"
            writer.close()
            assert seal(Path(sys.argv[1])) == 0  # the child's journal is in use
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        assert seal(Path(sys.argv[1])) == 1
    """
    run(MAKE_BATCH + dedent(code), directory)
    assert ids(directory) == ["before", "child", "queued"]


# Bad days


def block(directory: Path) -> None:
    """Put a file where the directory must be: nothing can be written there, not even by root."""
    directory.parent.mkdir(parents=True)
    directory.write_text("")


def test_rows_wait_while_the_disk_fails(
    directory: Path, writer: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    block(directory)
    writer.write(batch("a"))
    with pytest.raises(Unavailable) as caught:
        writer.flush()
    assert caught.value.hint
    assert writer.queued_rows == 1
    future = writer.write(batch("refused"), durable=True)
    assert future is not None
    with pytest.raises(Unavailable):
        future.result(timeout=20)
    assert writer.queued_rows == 1
    directory.unlink()
    wait_until(lambda: writer.queued_rows == 0)
    assert ids(directory) == ["a"]
    assert writer.lost_rows == 0
    assert len(caplog.records) == 1


def test_rows_beyond_the_queue_are_counted_as_lost(directory: Path) -> None:
    block(directory)
    writer = LogWriter(directory, max_queued_rows=10)
    for i in range(30):
        writer.write(batch(f"{i}"))
    assert writer.lost_rows == 20
    future = writer.write(batch("x"), durable=True)
    assert future is not None
    with pytest.raises(Unavailable, match="full"):
        future.result(timeout=20)
    directory.unlink()
    writer.close()
    assert writer.lost_rows == 20
    assert len(ids(directory)) == 10


def test_a_writer_that_is_closed_on_a_failing_disk_counts_what_it_lost(directory: Path) -> None:
    block(directory)
    writer = LogWriter(directory)
    writer.write(batch("a", "b"))
    writer.close()
    assert (writer.lost_rows, writer.queued_rows) == (2, 0)
    with pytest.raises(Unavailable, match="closed"):
        writer.write(batch("c"))


def test_a_full_disk_tears_nothing_and_keeps_what_waits(directory: Path) -> None:
    """A limit on the size of files stands for the full disk: writes go half through, then fail."""
    code = """
        import resource
        directory = Path(sys.argv[1])
        writer = LogWriter(directory)
        writer.write(batch("first"), durable=True).result()
        (path,) = directory.glob("*.journal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, -1))
        try:
            writer.write(batch("refused"), durable=True).result()
        except Exception as error:
            print(type(error).__name__)
        writer.write(batch("waits", note=["x" * 1000]))
        try:
            writer.flush()
        except Exception as error:
            print(type(error).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        writer.write(batch("last"), durable=True).result()
        assert (writer.lost_rows, writer.queued_rows) == (0, 0)
        writer.close()
    """
    assert run(MAKE_BATCH + dedent(code), directory).split() == ["Unavailable", "Unavailable"]
    assert ids(directory) == ["first", "last", "waits"]


def test_what_was_lost_is_said_once_the_disk_takes_it(directory: Path) -> None:
    block(directory)
    writer = LogWriter(directory, max_queued_rows=10)
    began = time.time()
    for i in range(25):
        writer.write(batch(f"{i}"))
    directory.unlink()
    wait_until(lambda: len(rows(directory, "gaps")) == 1)
    (gap,) = rows(directory, "gaps")
    assert gap["rows"] == writer.lost_rows == 15
    assert began <= gap["began_at"].timestamp() <= gap["ended_at"].timestamp() <= time.time()
    assert gap["why"]
    writer.write(batch("after"))
    writer.close()
    assert rows(directory, "gaps") == [gap]
    assert len(ids(directory)) == 11


def test_rows_that_wait_are_bounded_in_bytes_too(directory: Path) -> None:
    block(directory)
    writer = LogWriter(directory, max_queued_bytes=10_000)
    for i in range(3_000):
        writer.write(batch(f"{i:04d}", note=["x" * 100]))
        if i % 100 == 0:
            time.sleep(0.001)  # lets the thread see how much there is
        if writer.lost_rows:
            break
    assert writer.lost_rows > 0
    directory.unlink()
    writer.close()
    assert len(ids(directory)) + writer.lost_rows == i + 1


def test_a_gap_is_not_forgotten_when_the_writer_is_closed(directory: Path) -> None:
    writer = LogWriter(directory, max_queued_rows=5)
    writer.write(batch(*"abcdefghi"))
    assert writer.lost_rows == 9
    writer.close()
    assert [gap["rows"] for gap in rows(directory, "gaps")] == [9]


def test_a_loop_that_is_never_idle_keeps_no_row_waiting(directory: Path) -> None:
    """Short system calls give the interpreter away and take it back before a thread wakes up."""
    writer = LogWriter(directory)
    near, far = os.pipe()
    turns, waited = 100, 0
    for i in range(turns):
        os.write(far, b"x")
        os.read(near, 1)
        sum(range(200_000))  # some milliseconds in which no other thread gets it
        writer.write(batch(f"{i}"))
        waited = max(waited, writer.queued_rows)
    os.close(near), os.close(far)
    writer.close()
    assert waited < turns


def test_a_durable_row_is_synced_before_it_is_acknowledged(directory: Path) -> None:
    """What the kernel is asked for, in order: the names of directories and file, then the rows."""
    code = """
        import threading
        said = []
        real = {name: getattr(os, name) for name in ("open", "write", "fsync", "mkdir")}
        opened = {}

        def spied_open(path, flags, *rest, **options):
            file = real["open"](path, flags, *rest, **options)
            opened[file] = (Path(path).name.split("-")[0], flags)
            return file

        def spied_write(file, data):
            done = real["write"](file, data)
            name, flags = opened.get(file, ("", 0))
            if name:
                said.append(f"write {name} {'synced' if flags & os.O_DSYNC else ''}".strip())
            return done

        def spied_fsync(file):
            real["fsync"](file)
            said.append(f"sync {opened[file][0]}")

        os.open, os.write, os.fsync = spied_open, spied_write, spied_fsync
        writer = LogWriter(Path(sys.argv[1]))
        future = writer.write(batch("a"), durable=True)
        future.add_done_callback(lambda _: said.append("acknowledged"))
        future.result()
        print("; ".join(said))
    """
    assert run(MAKE_BATCH + dedent(code), directory).strip() == (
        f"sync {directory.parent.parent.name.split('-')[0]}; sync log; write predictions synced; "
        "sync delays; write predictions synced; acknowledged"
    )


def test_a_row_that_cannot_be_encoded_costs_only_itself(directory: Path) -> None:
    writer = LogWriter(directory)
    writer.write(batch("a"))
    writer.write(batch("bad", x=[2**70]))
    refused = writer.write(batch("worse", x=["\ud800"]), durable=True)
    writer.write(batch("b"))
    assert refused is not None
    with pytest.raises(Invalid):
        refused.result(timeout=20)
    writer.close()
    assert writer.lost_rows == 1
    assert ids(directory) == ["a", "b"]


def test_writing_costs_the_caller_microseconds(directory: Path) -> None:
    writer = LogWriter(directory, max_queued_rows=10**6)
    batches = [batch(str(i)) for i in range(5000)]
    begin = time.thread_time()
    for each in batches:
        writer.write(each)
    each_s = (time.thread_time() - begin) / len(batches)
    writer.close()
    assert each_s < 20e-6
    assert os.listdir(directory)
