"""The contract of MetaStore, run by every backend."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.processes import finish, kill_after, start
from contract.processes import run as run_code
from contract.remote import remote_meta
from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.metastore import MetaStore
from upturn.core.records import (
    Alias,
    Artifact,
    Decision,
    Edge,
    Run,
    RunState,
    Task,
)
from upturn.stores.remote.meta import RemoteMetaStore
from upturn.stores.sqlite import SqliteMetaStore

NOW = datetime(2013, 4, 1, tzinfo=UTC)
Opener = Callable[[], MetaStore]


@pytest.fixture(params=["sqlite", "remote"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return a function that opens the same store again, as another process would."""
    opened: list[MetaStore] = []
    server = None
    if request.param == "remote":
        server = request.getfixturevalue("store_server")
        server.empty()

    def open_store() -> MetaStore:
        store = SqliteMetaStore(tmp_path / "meta.db") if server is None else remote_meta(server)
        opened.append(store)
        return store

    yield open_store
    for each in opened:
        each.close()


def place_of(store: MetaStore) -> str:
    """What another process opens the store by."""
    if isinstance(store, SqliteMetaStore):
        return str(store.path)
    assert isinstance(store, RemoteMetaStore)
    return store._server.url


@pytest.fixture
def store(opener: Opener) -> MetaStore:
    """Return an empty store."""
    return opener()


def run(name: str = "r1", **fields: object) -> Run:
    given = {"flow": "delays", "entry": "flights.py:delays", "params": {}, "project": "p"}
    return Run(**{"id": name, "started_at": NOW, **given, **fields})  # type: ignore[arg-type]


def state(name: str = "r1", status: str = "running") -> RunState:
    return RunState(run=name, status=status, at=NOW)  # type: ignore[arg-type]


def task(index: int, memo: str = "m") -> Task:
    return Task(run="r1", step="train", index=index, memo=memo, code="c", inputs=(), created_at=NOW)


def test_a_record_comes_back_as_it_was(store: MetaStore) -> None:
    put = run(params={"depths": [3, 6], "start": "2013-01-01", "name": "é"}, parent="r0")
    assert store.add(put) == put
    assert store.get(Run, "r1") == put
    assert store.find(Run, "r2") is None


def test_an_existing_key_is_a_conflict_and_nothing_of_that_put_is_written(
    store: MetaStore,
) -> None:
    store.put(run("r1"))
    with pytest.raises(Conflict, match="run 'r1' already"):
        store.put(run("r2"), run("r1"))
    assert store.find(Run, "r2") is None


def test_edges_and_artifacts_may_be_put_again(store: MetaStore) -> None:
    edge = Edge(source="a", target="b", role="input")
    artifact = Artifact(digest="d" * 64, codec="json", type="int", size_bytes=1)
    store.put(edge, artifact)
    store.put(edge, artifact)
    assert store.select(Edge) == [edge]
    assert store.select(Artifact) == [artifact]


def test_sequences_count_from_one_within_their_scope(store: MetaStore) -> None:
    put = store.put(state("r1"), state("r2"), state("r1", "done"))
    assert [(each.run, each.seq) for each in put if isinstance(each, RunState)] == [
        ("r1", 1),
        ("r2", 1),
        ("r1", 2),
    ]
    assert store.add(state("r2", "failed")).seq == 2
    assert store.get(RunState, "r1").status == "done"
    assert store.get(RunState, "r1", 1).status == "running"


def test_a_given_sequence_number_is_kept_or_a_conflict(store: MetaStore) -> None:
    alias = Alias(model="m", name="champion", seq=1, number=7, why="", at=NOW)
    assert store.add(alias) == alias
    with pytest.raises(Conflict):
        store.add(alias)


def test_not_found_names_the_nearest_key(store: MetaStore) -> None:
    store.put(run("churn"), run("delays"), task(0), task(1))
    with pytest.raises(NotFound, match=r"No run 'chrun'\. Did you mean 'churn'\?"):
        store.get(Run, "chrun")
    with pytest.raises(NotFound, match=r"No task 'r1/trian/0'\. Did you mean 'train'\?"):
        store.get(Task, "r1", "trian", 0)
    with pytest.raises(NotFound, match="'0', '1'"):
        store.get(Task, "r1", "train", 9)
    with pytest.raises(NotFound):
        store.get(Artifact, "0" * 64)


@pytest.mark.parametrize("key", ["\ud800", 2**80, "", "a\0b", "'; DROP TABLE run; --"])
def test_a_key_that_cannot_exist_is_not_found(store: MetaStore, key: object) -> None:
    store.put(run())
    assert store.find(Run, key) is None
    with pytest.raises(NotFound):
        store.get(Run, key)
    assert store.counts()["run"] == 1


def test_select_filters_by_key_and_index_fields_in_the_order_of_putting(store: MetaStore) -> None:
    store.put(run("b", flow="x"), run("a", flow="y"), run("c", flow="x", parent="b"))

    def ids(**where: object) -> list[str]:
        return [each.id for each in store.select(Run, **where)]  # type: ignore[arg-type]

    assert ids() == ["b", "a", "c"]
    assert ids(newest_first=True, limit=2) == ["c", "a"]
    assert ids(flow="x") == ["b", "c"]
    assert ids(flow="x", parent=None) == ["b"]
    assert ids(parent=["b", None]) == ["b", "a", "c"]
    assert ids(id=("a", "c")) == ["a", "c"]
    assert ids(id=[]) == []
    assert ids(id=[f"n{i}" for i in range(100_000)] + ["a"]) == ["a"]
    assert ids(started_at=NOW) == ["b", "a", "c"]
    assert ids(started_at=NOW + timedelta(microseconds=1)) == []


def test_select_after_a_sequence_number(store: MetaStore) -> None:
    store.put(*[state() for _ in range(5)])
    assert [each.seq for each in store.select(RunState, after=3, run="r1")] == [4, 5]


def test_an_unknown_field_is_refused_with_a_hint(store: MetaStore) -> None:
    with pytest.raises(Invalid, match=r"Did you mean 'flow'\?"):
        store.select(Run, flw="x")
    with pytest.raises(Invalid, match="no sequence"):
        store.select(Run, after=1)
    with pytest.raises(Invalid, match="key of a run"):
        store.find(Run, "a", "b")
    with pytest.raises(Invalid):
        store.select(Run, flow={"a": 1})


def test_last_each_gives_the_last_of_every_sequence(store: MetaStore) -> None:
    store.put(state("b"), state("a"), state("b", "done"), state("c", "failed"))
    assert [(each.run, each.status) for each in store.last_each(RunState)] == [
        ("a", "running"),
        ("b", "done"),
        ("c", "failed"),
    ]
    assert [each.run for each in store.last_each(RunState, run=["b", "x"])] == ["b"]
    with pytest.raises(Invalid):
        store.last_each(Run)
    with pytest.raises(Invalid):
        store.last_each(Decision, action="retrain")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0, 1e300])
def test_numbers_that_json_lacks_come_back(store: MetaStore, value: float) -> None:
    evidence = {"low": value, "none": None, "nested": [{"x": value}]}
    times = {"at": NOW, "recorded_at": NOW}
    store.put(Decision(loop="l", action="a", why="", evidence=evidence, state={}, **times))
    assert repr(store.get(Decision, "l").evidence) == repr(evidence)


def test_numbers_of_numpy_become_python_numbers(store: MetaStore) -> None:
    import numpy as np

    store.put(run(params={"n": np.int64(3), "x": np.float64(0.5)}))
    assert store.get(Run, "r1").params == {"n": 3, "x": 0.5}


def test_what_is_no_json_value_is_refused(store: MetaStore) -> None:
    with pytest.raises(Invalid, match="object"):
        store.put(run(params={"x": object()}))
    with pytest.raises(Invalid):
        store.put(run("\ud800"))
    assert store.select(Run) == []


def test_the_stamp_differs_after_a_write_of_anybody(opener: Opener) -> None:
    store, other = opener(), opener()
    stamps = [store.stamp(), store.stamp()]
    assert stamps[0] == stamps[1]
    store.put(run("a"))
    stamps.append(store.stamp())
    other.put(run("b"))
    stamps.append(store.stamp())
    code = """
        from upturn.core.records import Edge
        meta_store(sys.argv[1]).put(Edge(source="a", target="b", role="c"))
    """
    finish(start(code, place_of(store)))
    stamps.append(store.stamp())
    assert len(set(stamps)) == 4
    assert store.stamp() == stamps[-1]


def test_counts(store: MetaStore) -> None:
    store.put(run("a"), run("b"), state("a"))
    counts = store.counts()
    assert (counts["run"], counts["run_state"], counts["task"]) == (2, 1, 0)


def test_a_lease_has_one_holder(store: MetaStore) -> None:
    assert store.claim("loop/a", "me", ttl_s=60, payload={"pid": 1})
    assert not store.claim("loop/a", "you", ttl_s=60)
    assert store.claim("loop/a", "me", ttl_s=60, payload={"pid": 2})
    lease = store.lease("loop/a")
    assert lease is not None
    assert (lease.owner, lease.payload) == ("me", {"pid": 2})
    assert 50 < lease.left_s <= 60
    store.release("loop/a", "you")
    assert store.lease("loop/a") is not None
    store.release("loop/a", "me")
    assert store.lease("loop/a") is None
    assert store.claim("loop/a", "you", ttl_s=60)


def test_an_expired_lease_can_be_taken(store: MetaStore) -> None:
    assert store.claim("loop", "me", ttl_s=-1)
    assert store.lease("loop") is None
    assert store.claim("loop", "you", ttl_s=60)
    assert not store.claim("loop", "me", ttl_s=60)


def test_leases_by_the_beginning_of_their_names(store: MetaStore) -> None:
    for name, ttl_s in (("run/b", 60), ("run/a", 60), ("run/c", -1), ("runner", 60), ("loop", 60)):
        store.claim(name, "me", ttl_s=ttl_s)
    assert [lease.name for lease in store.leases("run/")] == ["run/a", "run/b"]
    assert store.leases("x") == []


def test_threads_share_a_store(store: MetaStore) -> None:
    def work(name: str) -> None:
        for _ in range(50):
            store.add(state("shared"))
            store.add(state(name))
            assert store.find(RunState, "shared") is not None

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [each.seq for each in store.select(RunState, run="shared")]
    assert numbers == list(range(1, 301))


def test_processes_that_open_and_write_a_new_store_at_once_leave_no_gap(opener: Opener) -> None:
    store = opener()
    place = place_of(store)
    store.close()
    if not place.startswith("http"):
        Path(place).unlink()
    code = """
        from upturn.core.records import RunState
        store = meta_store(sys.argv[1])
        won = store.claim("one", sys.argv[2], ttl_s=600)
        for _ in range(100):
            store.add(RunState(run="shared", status="running", at=NOW))
        store.close()
        print(int(won))
    """
    processes = [start(code, place, i) for i in range(4)]
    assert sum(int(finish(process)) for process in processes) == 1
    numbers = [each.seq for each in opener().select(RunState, run="shared")]
    assert numbers == list(range(1, 401))


def test_a_forked_child_uses_connections_of_its_own(opener: Opener) -> None:
    store = opener()
    code = """
        import threading
        from upturn.core.records import RunState
        store = meta_store(sys.argv[1])

        def state(name):
            return RunState(run=name, status="running", at=NOW)

        def keep_writing():
            while not stop.is_set():
                store.add(state("busy"))

        store.add(state("r1"))
        stop = threading.Event()
        writer = threading.Thread(target=keep_writing)
        writer.start()
        children = []
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                before = store.stamp()
                store.add(state("r1"))
                os._exit(0 if store.stamp() != before else 1)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        stop.set()
        writer.join()
        assert statuses == [0] * 5, statuses
        assert store.add(state("r1")).seq == 7
    """
    run_code(code, place_of(store))
    assert [each.seq for each in store.select(RunState, run="r1")] == list(range(1, 8))
    busy = [each.seq for each in store.select(RunState, run="busy")]
    assert busy == list(range(1, len(busy) + 1))


def test_what_a_killed_process_had_put_is_there(opener: Opener) -> None:
    store = opener()
    code = """
        from upturn.core.records import RunState
        store = meta_store(sys.argv[1])
        while True:
            print(store.add(RunState(run="r", status="running", at=NOW)).seq, flush=True)
    """
    said = kill_after(start(code, place_of(store)), 200)
    kept = [each.seq for each in store.select(RunState, run="r")]
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) >= int(said[-1])


def test_who_reads_on_misses_nothing_and_sees_nothing_twice(opener: Opener) -> None:
    store, other = opener(), opener()
    assert store.position(RunState) == 0
    assert store.read_on(RunState, 0) == []
    store.put(run("r1"), state("r1"), state("r1", "done"))
    first = store.read_on(RunState, 0, limit=1)
    other.put(state("r2"), state("r1", "failed"))
    rest = store.read_on(RunState, first[-1][0])
    seen = [(one.run, one.status) for _, one in first + rest]
    assert seen == [("r1", "running"), ("r1", "done"), ("r2", "running"), ("r1", "failed")]
    assert rest[-1][0] == store.position(RunState)
    assert store.read_on(RunState, store.position(RunState)) == []
