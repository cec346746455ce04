"""SqliteTrackingStore: what was acknowledged outlives its writers; forks; how much it takes."""

import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from contract.processes import finish, kill_after, run, start
from contract.test_tracking import NOW, SLOW, Logged, calls_of, check_history, open_sqlite
from contract.test_tracking import run as a_run
from upturn.core.errors import Unavailable
from upturn.core.naming import Removal
from upturn.core.tracking import NO_STEP, Point
from upturn.deploy.serve.problems import problem_headers
from upturn.stores import migrate
from upturn.stores.sqlite_tracking import SqliteTrackingStore
from upturn.stores.tracking import forget, points

WRITER = """
    from upturn.core.tracking import Point
    from upturn.stores.sqlite_tracking import SqliteTrackingStore
    store = SqliteTrackingStore(sys.argv[1])
    name = sys.argv[2]
    for call in range(1_000_000):
        points = [Point(f"k{i % 3}", float(call), call * 600 + i, call) for i in range(600)]
        store.log(name, points=points, params={f"p{call}": "x"}, tags={"last": str(call)})
        print(call, flush=True)
"""


def test_what_a_killed_writer_was_told_is_there_whole_and_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "upturn.db"
    SqliteTrackingStore(path).close()
    writers = [start(WRITER, path, f"r{number}") for number in range(3)]
    told = [kill_after(writer, 25) for writer in writers]
    store = SqliteTrackingStore(path)
    for number, lines in enumerate(told):
        acknowledged = len(lines)
        name = f"r{number}"
        tags, params = store.tags([f"run/{name}"]), store.params([name])
        written = int(tags[f"run/{name}"]["last"]) + 1
        assert acknowledged <= written <= acknowledged + 1
        assert len(params[name]) == written
        for one in store.series([name])[name]:
            history = store.history(name, one.name)
            assert one.count == len(history) == written * 200
            assert one.step == history[-1].step
    store.close()


def test_a_forked_child_reads_and_writes_with_connections_of_its_own(tmp_path: Path) -> None:
    code = """
        from upturn.core.tracking import Point
        from upturn.stores.sqlite_tracking import SqliteTrackingStore
        store = SqliteTrackingStore(sys.argv[1])
        store.log("r", points=[Point("k", 1.0, 0)])
        store.history("r", "k")
        child = os.fork()
        store.log("r", points=[Point("k", 1.0, 1 if child else 2)])
        found = len(store.history("r", "k"))
        if not child:
            os._exit(0 if found >= 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        print(len(store.history("r", "k")))
    """
    assert run(code, tmp_path / "upturn.db") == "3\n"


def test_a_million_points_take_few_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "upturn.db"
    store = SqliteTrackingStore(path)
    for begin in range(0, 300_000, 20_000):
        logged = [
            Point("k", (i % 97) / 7, i, 10**15 + i * 1_000) for i in range(begin, begin + 20_000)
        ]
        store.log("r", points=logged)
    store.close()
    assert os.path.getsize(path) < 300_000 * 8 + 2_000_000


@SLOW
@given(calls=calls_of)
def test_points_that_are_packed_a_few_at_a_time_are_what_was_logged(
    few_a_pack: SqliteTrackingStore, calls: Logged
) -> None:
    check_history(few_a_pack, calls)


@pytest.fixture
def few_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteTrackingStore]:
    """Return a store that packs points as if there were very many."""
    sizes = {"_PER_PACK": 4, "_LOOSE": 6, "_LOOSE_EACH": 2, "_BATCHES": 3, "_SMALL": 2}
    for name, size in sizes.items():
        monkeypatch.setattr(points, name, size)
    store = SqliteTrackingStore(tmp_path / "upturn.db")
    yield store
    store.close()


def test_runs_and_metrics_of_an_older_store_are_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "upturn.db"
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(migrate, "SCHEMA", 4)
        migrate.migrate(connection, path)
    at = "2013-04-01T00:00:00.5Z"
    run = {"id": "r1", "flow": "f", "entry": "", "params": {"depth": 3, "kinds": ["a"]}}
    run |= {"project": "p", "started_at": at}
    state = {"run": "r1", "seq": 1, "status": "done", "at": at}
    connection.execute(
        "INSERT INTO run (id, flow, started_at, body) VALUES ('r1', 'f', 1, ?)", [json.dumps(run)]
    )
    connection.execute(
        "INSERT INTO run_state (run, seq, body) VALUES ('r1', 1, ?)", [json.dumps(state)]
    )
    task = {"run": "r1", "step": "train", "index": 0, "at": at}
    bodies = [
        json.dumps({**task, "seq": 1, "name": "auc", "value": 0.5, "at_step": 7}),
        msgspec.msgpack.encode({**task, "seq": 2, "name": "loss", "value": math.nan}),
    ]
    for seq, body in enumerate(bodies, 1):
        connection.execute(
            'INSERT INTO metric (run, step, "index", seq, body) VALUES (?, ?, ?, ?, ?)',
            ("r1", "train", 0, seq, body),
        )
    connection.close()
    store = SqliteTrackingStore(path)
    row = store.rows(["r1"])["r1"]
    assert (row.status, row.project, row.ended_at) == ("done", "p", 1364774400500000)
    assert store.params(["r1"]) == {"r1": {"depth": "3", "kinds": '["a"]'}}
    at_us = 1364774400500000
    assert store.history("r1", "auc", scope="train/0") == [Point("auc", 0.5, 7, at_us)]
    (loss,) = store.history("r1", "loss")
    assert math.isnan(loss.value)
    assert loss.step == NO_STEP
    store.close()


@pytest.fixture
def removed(tmp_path: Path) -> Path:
    """Return the file of a store with two large runs that were removed."""
    path = tmp_path / "upturn.db"
    meta, store = open_sqlite(tmp_path)
    for name in ("a", "b"):
        meta.put(a_run(name))
        for begin in range(0, 70_000, 10_000):
            store.log(name, points=[Point("k", 1.0 * i, i) for i in range(begin, begin + 10_000)])
        store.log(name, points=[Point(f"k{i}", 1.0) for i in range(500)], tags={"a": "b"})
        store.log(name, params={f"p{i}": "x" for i in range(2_500)})
        meta.put(Removal(path=f"run/{name}", removed=True, who="ada", at=NOW))
    store.close()
    meta.close()
    return path


def test_a_killed_forgetting_is_ended_by_the_next_and_nothing_is_found_meanwhile(
    removed: Path,
) -> None:
    code = """
        from upturn.stores import sqlite_tracking
        from upturn.stores.tracking import forget
        forget.LONGEST_S = 0.0
        calls = iter(range(12))
        def pause(_):
            if next(calls, None) is None:
                os.kill(os.getpid(), 9)
        sqlite_tracking.time.sleep = pause
        store = sqlite_tracking.SqliteTrackingStore(sys.argv[1])
        store.forget(["a", "b"], removed_before=2**62)
    """
    finish(start(code, removed), status=-9)
    meta, store = open_sqlite(removed.parent)
    assert set(store.forgetting()) <= {"a", "b"}
    assert store.forgetting() != []
    meta.put(Removal(path="run/b", removed=False, who="ada", at=NOW))  # too late
    assert store.rows(["a", "b"]) == {}
    store.forget([], removed_before=0)
    assert store.forgetting() == []
    with sqlite3.connect(removed) as connection:
        for table in ("point_batch", "point_pack", "series", "param", "tag", "forgetting"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()
    store.close()
    meta.close()


def test_others_write_while_runs_are_forgotten(
    removed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteTrackingStore(removed)
    other = SqliteTrackingStore(removed, busy_s=0.0)  # fails at once when it would have to wait
    written: list[Point] = []

    def write(_: float) -> None:
        written.append(Point("k", 1.0, len(written)))
        other.log("c", points=written[-1:])

    monkeypatch.setattr(forget, "LONGEST_S", 0.0)
    monkeypatch.setattr(time, "sleep", write)
    store.forget(["a", "b"], removed_before=2**62)
    assert len(written) > 10
    assert store.history("c", "k") == written
    assert store.series(["a", "b"]) == {"a": [], "b": []}
    other.close()
    store.close()


def test_a_store_that_another_process_holds_is_unavailable_and_says_for_how_long(
    tmp_path: Path,
) -> None:
    store = SqliteTrackingStore(tmp_path / "upturn.db", busy_s=0.05)
    store.log("r", points=[Point("k", 1.0)])
    other = sqlite3.connect(tmp_path / "upturn.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked") as caught:
        store.log("r", points=[Point("k", 2.0, 1)], tags={"a": "b"})
    assert problem_headers(caught.value)["retry-after"] == "1"
    assert store.history("r", "k") == [Point("k", 1.0)]
    other.execute("ROLLBACK")
    other.close()
    store.log("r", points=[Point("k", 2.0, 1)])
    assert len(store.history("r", "k")) == 2
    store.close()


def test_on_a_full_disk_what_was_acknowledged_is_there_and_nothing_half(tmp_path: Path) -> None:
    code = """
        import resource
        from upturn.core.errors import Unavailable
        from upturn.core.tracking import Point
        from upturn.stores.sqlite_tracking import SqliteTrackingStore
        store = SqliteTrackingStore(sys.argv[1])
        store.log("r", tags={"begun": "yes"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, -1))
        call = 0
        try:
            for call in range(1_000):
                points = [Point("k", 0.1 * i, call * 500 + i) for i in range(500)]
                store.log("r", points=points, params={f"p{call}": "x"})
        except Unavailable as error:
            assert error.hint
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        store.log("r", points=[Point("k", 1.0, -1)])  # there is room again
        print(call)
    """
    written = int(run(code, tmp_path / "upturn.db"))
    assert 0 < written < 999
    store = SqliteTrackingStore(tmp_path / "upturn.db")
    assert len(store.params(["r"])["r"]) == written
    assert [point.step for point in store.history("r", "k")] == list(range(-1, written * 500))
    store.close()
