"""A stored Log can be read while it is written, and reading a window does not read the rest."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from upturn.core.log import FeedbackBatch, PredictionBatch
from upturn.core.settings import load_settings
from upturn.core.time import from_micros, instant, micros
from upturn.improve.log import StoredLog
from upturn.stores.logfile import LogWriter
from upturn.stores.workspace import Workspace, open_workspace

START = micros(instant("2013-04-01"))
DAY = 86_400_000_000


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = open_workspace(load_settings(tmp_path, {"UPTURN_HOME": str(tmp_path / "home")}))
    yield workspace
    workspace.close()


def batch(first: int, rows: int, *, step: int = 1_000_000, columns: int = 1) -> PredictionBatch:
    numbers = range(first, first + rows)
    values = np.random.default_rng(first).random(rows).tolist()
    return PredictionBatch(
        ids=[f"{number:028x}" for number in numbers],
        at=[START + number * step for number in numbers],
        received_at=START,
        route=1,
        arm="champion",
        version=1,
        shadow=False,
        units=["N1"] * rows,
        propensity=1.0,
        features={f"f{column}": values for column in range(columns)},
        scores=values,
        answers=values,
        latency_s=0.001,
    )


def labels(predictions: PredictionBatch) -> FeedbackBatch:
    return FeedbackBatch(predictions.ids, [True] * len(predictions.ids), predictions.at, START)


def test_rows_are_neither_lost_nor_doubled_while_journals_are_sealed(workspace: Workspace) -> None:
    writer = LogWriter(workspace.log_dir / "delays", roll_rows=40)
    acknowledged, stop = [0], threading.Event()

    def write() -> None:
        while not stop.is_set() and acknowledged[0] < 20_000:
            predictions = batch(acknowledged[0], 10)
            futures = [
                writer.write(predictions, durable=True),
                writer.write(labels(predictions), durable=True),
            ]
            for future in futures:
                assert future is not None
                future.result(10)
            acknowledged[0] += 10

    log = StoredLog(workspace, "delays")
    thread = threading.Thread(target=write)
    thread.start()
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and acknowledged[0] < 2_000:
            before = acknowledged[0]
            joined = log.joined(known_by=from_micros(START + 400 * DAY))
            ids = joined["id"].to_pylist()
            assert len(ids) == len(set(ids))
            assert ids[:before] == [f"{number:028x}" for number in range(before)]
            assert joined["label"].slice(0, before).null_count == 0
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert acknowledged[0] > 100
    assert log.predictions().num_rows == acknowledged[0]


def test_a_window_reads_only_the_files_that_it_needs(workspace: Workspace) -> None:
    for day in range(10):
        writer = LogWriter(workspace.log_dir / "delays")
        writer.write(batch(day * 100, 100, step=DAY // 100))
        writer.close()
    log = StoredLog(workspace, "delays")
    since, until = from_micros(START + 3 * DAY), from_micros(START + 5 * DAY)
    assert log.predictions(since=since, until=until).num_rows == 200
    for path in sorted((workspace.log_dir / "delays").glob("predictions-*.parquet"))[5:]:
        path.write_bytes(b"no Parquet at all")
    assert log.predictions(since=since, until=until).num_rows == 200


def test_which_ids_there_are_and_which_feedback_is_of_none(workspace: Workspace) -> None:
    writer = LogWriter(workspace.log_dir / "delays")
    writer.write(batch(0, 3))
    writer.write(FeedbackBatch(["x", "x", f"{1:028x}"], [1, 2, 3], [START] * 3, START))
    writer.close()
    log = StoredLog(workspace, "delays")
    assert log.has([f"{2:028x}", "x", f"{0:028x}", f"{2:028x}"]).tolist() == [
        True,
        False,
        True,
        True,
    ]
    assert log.has([]).tolist() == []
    day = timedelta(days=1)
    start = from_micros(START)
    assert log.unmatched(since=start, until=start + day) == 1
    assert log.unmatched(since=start + day, until=start + 2 * day) == 0
    assert StoredLog(workspace, "nothing").unmatched(since=start, until=start + day) == 0


def test_threads_may_share_a_log(workspace: Workspace) -> None:
    writer = LogWriter(workspace.log_dir / "delays")
    writer.write(batch(0, 50))
    writer.flush()
    log = StoredLog(workspace, "delays")
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(log.predictions().num_rows)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert found == [50] * 8
